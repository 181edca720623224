//! The leases: how long a lock is held before it ends by itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::grant::Grant;
use super::lock_key::LockKey;
use super::lost_locks::{Loss, LostLocks};
use super::shrunk;
use crate::model::{Holder, Token};

/// A lock that ended by its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedLease {
    /// Who held it.
    pub holder: Holder,
    /// The key that was held.
    pub key: LockKey,
    /// The fencing token of the grant.
    pub token: Token,
    /// For how long the grant had a lease: if every grant has one by
    /// [`Limits::max_hold`](crate::model::Limits::max_hold), since the lock was granted.
    pub held: Duration,
}

/// All running leases, by the grant that they limit.
///
/// The mutex may be taken under a key's guard, and that of a session's losses under it, never the
/// other way round. A lease is in here exactly as long as its grant's word says so; both change
/// under the key's guard. So where a renewal, a release and the end of a lease meet, one wins, and
/// a lease that was renewed in time does not end.
#[derive(Debug, Default)]
pub(super) struct Leases {
    running: Mutex<Running>,
    /// Notified when a lease is set that ends before all others.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Running {
    by_end: BTreeMap<(Instant, Token), Lease>,
    ends: HashMap<Token, Instant>,
}

#[derive(Debug)]
struct Lease {
    key: LockKey,
    holder: Holder,
    /// Where the loss is noted, if a session holds the lock.
    lost: Option<Arc<LostLocks>>,
    length: Duration,
    /// Since when the grant has a lease, however often that was renewed.
    since: Instant,
}

impl Leases {
    /// Starts a lease at `now`, or moves its end.
    pub(super) fn set(
        &self,
        grant: Grant,
        lost: Option<Arc<LostLocks>>,
        length: Duration,
        now: Instant,
    ) {
        let Grant { holder, key, token } = grant;
        let end = now + length;
        let mut running = self.lock();
        let before = running.remove(token);
        let lease = Lease {
            key,
            holder,
            lost,
            length,
            since: before.map_or(now, |before| before.since),
        };
        running.ends.insert(token, end);
        running.by_end.insert((end, token), lease);
        let is_first = running
            .by_end
            .first_key_value()
            .is_some_and(|(first, _)| *first == (end, token));
        drop(running);
        if is_first {
            self.sooner.notify_one();
        }
    }

    pub(super) fn remove(&self, token: Token) {
        self.lock().remove(token);
    }

    /// The whole length of a running lease.
    pub(super) fn length(&self, token: Token) -> Option<Duration> {
        let running = self.lock();
        let end = *running.ends.get(&token)?;
        Some(running.by_end.get(&(end, token))?.length)
    }

    /// When a running lease ends.
    pub(super) fn end(&self, token: Token) -> Option<Instant> {
        self.lock().ends.get(&token).copied()
    }

    /// Removes the lease if its end has come, and tells its session of the loss, under the `hash` of
    /// the key. Returns since when it ran; `None` if its end has not come, or it was removed before.
    pub(super) fn remove_due(&self, token: Token, now: Instant, hash: u64) -> Option<Instant> {
        let mut running = self.lock();
        let due = running.ends.get(&token).is_some_and(|end| *end <= now);
        let lease = due.then(|| running.remove(token)).flatten()?;
        if let Some(lost) = lease.lost {
            lost.add(hash, token, Loss::Expired);
        }
        Some(lease.since)
    }

    /// At most `most` grants with leases that are over at `now`, the first to end first.
    pub(super) fn due(&self, now: Instant, most: usize) -> Vec<Grant> {
        let running = self.lock();
        let due = running
            .by_end
            .iter()
            .take_while(|((end, _), _)| *end <= now);
        let due = due.map(|((_, token), lease)| Grant {
            holder: lease.holder.clone(),
            key: lease.key.clone(),
            token: *token,
        });
        due.take(most).collect()
    }

    pub(super) fn next_end(&self) -> Option<Instant> {
        self.lock()
            .by_end
            .first_key_value()
            .map(|((end, _), _)| *end)
    }

    pub(super) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    /// Poisoning is ignored: a panic leaves one lease half removed at worst, which is then not
    /// found.
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn remove(&mut self, token: Token) -> Option<Lease> {
        let end = self.ends.remove(&token)?;
        let lease = self.by_end.remove(&(end, token));
        debug_assert_eq!(self.ends.len(), self.by_end.len());
        if let Some(capacity) = shrunk(self.ends.len(), self.ends.capacity()) {
            self.ends.shrink_to(capacity);
        }
        lease
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shuttle::thread;

    use super::*;
    use crate::model::{Limit, Limits, Mode, Peer, Secret};
    use crate::table::plain::{PlainTable, test_limits, test_table};
    use crate::table::{Detached, Ending, Locked, NotHeld, Session, Unlocked, interleave};

    const KEY: &[u8] = b"k";
    const SECOND: Duration = Duration::from_secs(1);

    /// The holder of a lock with a lease of a second, and a waiter for it.
    fn leased(table: &PlainTable, now: Instant) -> (Session, Session) {
        let mut holder = table.open(Peer::Unix(None), Duration::ZERO);
        let mut waiter = table.open(Peer::Unix(None), Duration::ZERO);
        assert_eq!(
            table.lock(&mut holder, KEY, &Mode::Exclusive, now),
            Locked::Acquired
        );
        assert_eq!(table.set_lease(&mut holder, KEY, Some(SECOND), now), Ok(()));
        let answer = table.lock_or_wait(&mut waiter, KEY, &Mode::Exclusive, now);
        assert_eq!(answer, Locked::Waiting);
        (holder, waiter)
    }

    /// A lease ends while its holder renews it: either the renewal is refused and the waiter has
    /// the lock, or it is accepted and the holder has it.
    fn renewal() {
        interleave::yield_with(thread::yield_now);
        let (table, now) = (Arc::new(test_table()), Instant::now());
        let (mut holder, waiter) = leased(&table, now);
        let shared = Arc::clone(&table);
        let end = thread::spawn(move || shared.end_leases(now + SECOND, 10));
        let shared = Arc::clone(&table);
        let renew = thread::spawn(move || {
            thread::yield_now();
            let renewed = shared.set_lease(&mut holder, KEY, Some(SECOND), now + SECOND);
            (renewed, holder)
        });
        end.join().expect("no assertion failed");
        let (renewed, holder) = renew.join().expect("no assertion failed");
        let granted = waiter.is_granted();
        match renewed {
            Ok(()) => assert!(!granted && table.token(&holder, KEY).is_ok()),
            Err(why) => assert!(granted && why == NotHeld::Expired),
        }
    }

    /// A lease ends while its holder unlocks: the waiter has the lock, once.
    fn release() {
        interleave::yield_with(thread::yield_now);
        let (table, now) = (Arc::new(test_table()), Instant::now());
        let (mut holder, mut waiter) = leased(&table, now);
        let shared = Arc::clone(&table);
        let end = thread::spawn(move || shared.end_leases(now + SECOND, 10));
        let shared = Arc::clone(&table);
        let unlock = thread::spawn(move || {
            thread::yield_now();
            shared.unlock(&mut holder, KEY, now + SECOND)
        });
        end.join().expect("no assertion failed");
        let answer = unlock.join().expect("no assertion failed");
        assert!(matches!(
            answer,
            Unlocked::Released { .. } | Unlocked::NotHeld(NotHeld::Expired)
        ));
        assert!(table.settle(&mut waiter, Ending::Granted, now));
        assert_eq!(table.next_lease_end(), None);
        let free = Unlocked::Released { passed_on: false };
        assert_eq!(table.unlock(&mut waiter, KEY, now), free);
        assert_eq!(table.held(), 0);
    }

    #[test]
    fn the_end_of_a_lease_and_its_renewal_or_release_have_one_winner() {
        shuttle::check_random(renewal, 3_000);
        shuttle::check_random(release, 3_000);
    }

    #[test]
    fn a_session_that_loses_very_many_leases_does_not_keep_them() {
        let (table, mut now) = (test_table(), Instant::now());
        let mut session = table.open(Peer::Unix(None), Duration::ZERO);
        for index in 0..20_000_u32 {
            let key = index.to_ne_bytes();
            assert_eq!(
                table.lock(&mut session, &key, &Mode::Exclusive, now),
                Locked::Acquired
            );
            assert_eq!(
                table.set_lease(&mut session, &key, Some(SECOND), now),
                Ok(())
            );
            now += SECOND;
            assert_eq!(table.end_leases(now, 10), 1);
            assert_eq!(session.held(), 1, "it has not noticed its loss yet");
        }
        let last = 19_999_u32.to_ne_bytes();
        assert_eq!(table.token(&session, &last), Err(NotHeld::Expired));
        assert_eq!(
            table.token(&session, &0_u32.to_ne_bytes()),
            Err(NotHeld::NotLocked)
        );
    }

    /// The waiter's task is late: the lease of the grant is over when the task hears of the grant.
    #[test]
    fn a_waiter_that_lost_the_lock_before_it_knew_of_it_is_told_so() {
        let limits = Limits {
            max_hold: Some(SECOND),
            ..test_limits()
        };
        let table = PlainTable::new(limits);
        let now = Instant::now();
        let mut holder = table.open(Peer::Unix(None), Duration::ZERO);
        let mut waiter = table.open(Peer::Unix(None), Duration::ZERO);
        let exclusive = &Mode::Exclusive;
        assert_eq!(
            table.lock(&mut holder, KEY, exclusive, now),
            Locked::Acquired
        );
        assert_eq!(
            table.lock_or_wait(&mut waiter, KEY, exclusive, now),
            Locked::Waiting
        );
        assert_eq!(table.end_leases(now + SECOND, 10), 1);
        assert_eq!(table.end_leases(now + SECOND * 2, 10), 1);
        assert!(table.settle(&mut waiter, Ending::Granted, now + SECOND * 2));
        assert_eq!(table.token(&waiter, KEY), Err(NotHeld::Expired));
        // Until it has the lock again.
        assert_eq!(
            table.lock(&mut waiter, KEY, exclusive, now),
            Locked::Acquired
        );
        table.unlock(&mut waiter, KEY, now);
        assert_eq!(table.token(&waiter, KEY), Err(NotHeld::NotLocked));
    }

    #[test]
    fn a_session_that_has_lost_all_that_it_held_may_become_another() {
        let (table, now) = (test_table(), Instant::now());
        let mut left = table.open(Peer::Unix(None), SECOND * 10);
        let id = table.set_secret(&mut left, Secret(7));
        assert!(matches!(table.detach(left, now), Detached::InGrace(_)));
        let (mut holder, _waiter) = leased(&table, now);
        assert!(!table.resume(&mut holder, id, now), "it holds something");
        assert_eq!(table.end_leases(now + SECOND, 10), 1);
        assert!(table.resume(&mut holder, id, now + SECOND));
    }

    /// At its limit a session finds room as soon as it has lost a lock.
    #[test]
    fn a_full_session_finds_room_when_it_has_lost_a_lock() {
        let limits = Limits {
            locks_per_session: 3,
            ..test_limits()
        };
        let (table, now) = (PlainTable::new(limits), Instant::now());
        let mut session = table.open(Peer::Unix(None), Duration::ZERO);
        let full = Locked::Full(Limit::LocksPerSession { max: 3 });
        for key in [b"a", b"b", b"c"] {
            assert_eq!(
                table.lock(&mut session, key, &Mode::Exclusive, now),
                Locked::Acquired
            );
        }
        assert_eq!(
            table.set_lease(&mut session, b"b", Some(SECOND), now),
            Ok(())
        );
        assert_eq!(table.lock(&mut session, b"d", &Mode::Exclusive, now), full);
        assert_eq!(table.end_leases(now + SECOND, 10), 1);
        assert_eq!(
            table.lock(&mut session, b"d", &Mode::Exclusive, now),
            Locked::Acquired
        );
        assert_eq!(table.lock(&mut session, b"e", &Mode::Exclusive, now), full);
    }
}
