//! On whose accounts the locks of owners are. They belong to no session, and end by any connection, by a
//! lease, or by an operator; so who took one is noted here until it is over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::shrunk;
use super::tally::Accounts;
use crate::model::{Resource, Token};

/// How many mutexes the grants are spread over: a map that grows is filled anew under its mutex.
const SHARDS: usize = 64;

/// The owners' locks that count on accounts, by their grants.
///
/// A grant is in here from its beginning to its end, and both come under its key's guard: so it is counted
/// once, and given back once. A mutex may be taken under a key's guard, and nothing is taken under it.
#[derive(Debug)]
pub(super) struct OwnedLocks {
    /// Whether there ever was one. Without accounts, owners' locks cost no more than to look at this.
    has_any: AtomicBool,
    by_token: Box<[Mutex<HashMap<Token, Accounts>>]>,
}

impl Default for OwnedLocks {
    fn default() -> Self {
        Self {
            has_any: AtomicBool::new(false),
            by_token: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl OwnedLocks {
    /// Counts a new grant. Called under its key's guard.
    pub(super) fn add(&self, token: Token, accounts: &Accounts) {
        // Also above the bound: a request that waited was looked at when it came, and is let in now.
        accounts
            .iter()
            .for_each(|account| account.add(Resource::Locks, 1));
        self.has_any.store(true, Ordering::Relaxed);
        let before = self.lock(token).insert(token, accounts.clone());
        debug_assert!(before.is_none(), "a grant begins once");
    }

    /// Gives back a grant that is over, if it was counted. Called under its key's guard, by which this
    /// comes behind [`OwnedLocks::add`].
    pub(super) fn remove(&self, token: Token) {
        if !self.has_any.load(Ordering::Relaxed) {
            return;
        }
        let mut by_token = self.lock(token);
        let accounts = by_token.remove(&token);
        if let Some(capacity) = shrunk(by_token.len(), by_token.capacity()) {
            by_token.shrink_to(capacity);
        }
        drop(by_token);
        for account in accounts.iter().flat_map(|accounts| accounts.iter()) {
            account.give_back(Resource::Locks, 1);
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        let shards = self.by_token.iter();
        let mut shards = shards.map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        shards.all(|by_token| by_token.is_empty())
    }

    /// Poisoning is ignored: nothing is half done where a holder could panic.
    fn lock(&self, token: Token) -> MutexGuard<'_, HashMap<Token, Accounts>> {
        let shard = &self.by_token[token.0 as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use shuttle::thread;

    use crate::model::{Account, Ask, AskedFor, Mode, Owner, Peer, Resource, Whose};
    use crate::table::plain::{PlainTable, test_table};
    use crate::table::{Ending, LockTable, Locked, Session, interleave};

    const KEY: &[u8] = b"k";
    const STORED: &str = "nothing is refused without a store";
    const SECOND: Duration = Duration::from_secs(1);

    fn for_owner(word: &[u8], lease: Option<Duration>) -> Ask {
        Ask {
            mode: Mode::Exclusive,
            holder: AskedFor::Owner(Owner::new(word), lease),
        }
    }

    fn on(table: &PlainTable, account: &Arc<Account>) -> Session {
        let mut session = table.open(Peer::Unix(None), Duration::ZERO);
        table.count_on(&mut session, vec![Arc::clone(account)]);
        session
    }

    /// An owner's lock ends by its lease while its owner releases it by another connection and an operator
    /// breaks it: one of them gives it back, and the one that waited for it is counted in its place.
    fn ends() {
        interleave::yield_with(thread::yield_now);
        let (table, now) = (Arc::new(test_table()), Instant::now());
        let [first, second] = [(); 2].map(|()| Arc::new(Account::new(Whose::User)));
        let (mut taker, mut waiter) = (on(&table, &first), on(&table, &second));
        let mut operator = table.open(Peer::Unix(None), Duration::ZERO);
        let ask = for_owner(b"o", Some(SECOND));
        let answer = table.ask_or_wait(&mut taker, KEY, &ask, now);
        assert_eq!(answer, Locked::Acquired);
        let ask = for_owner(b"p", None);
        let answer = table.ask_or_wait(&mut waiter, KEY, &ask, now);
        assert_eq!(answer, Locked::Waiting);
        let used = || [&first, &second].map(|account| account.used(Resource::Locks));
        assert_eq!(used(), [1, 0]);
        let last = table.last_token();
        table.end(taker, now);
        let shared = Arc::clone(&table);
        let lease = thread::spawn(move || {
            let _ = shared.end_leases(now + SECOND, 10);
        });
        let shared = Arc::clone(&table);
        let unlock = thread::spawn(move || {
            let mut other = shared.open(Peer::Unix(None), Duration::ZERO);
            let owner = Owner::new(b"o");
            let unlocked = LockTable::unlock(&shared, &mut other, KEY, Some(&owner), now);
            unlocked.expect(STORED).value
        });
        let broken = table.break_some(&mut operator, KEY, last, 10, now);
        let _ = broken.expect(STORED).value;
        lease.join().expect("no assertion failed");
        unlock.join().expect("no assertion failed");
        assert_eq!(used(), [0, 1]);
        // Nobody was told of it.
        assert!(!table.settle(&mut waiter, Ending::Disconnect, now));
        assert_eq!(used(), [0, 0]);
        assert!(table.owned.is_empty());
    }

    #[test]
    fn an_owners_lock_is_given_back_once_however_many_end_it() {
        shuttle::check_random(ends, 1_000);
    }
}
