//! What operators are shown beside the protocol's own questions, and these in parts: all of it bounded, and
//! searched for in the same few turns as clients' listings, so that nobody waits for whoever looks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use super::events::{EventKind, Noted};
use super::figures;
use super::handle::ServerHandle;
use super::history::Sample;
use super::shown::unix_now;
use crate::access::User;
use crate::model::{Key, LockEntry, SessionEntry, SessionNumber};
use crate::protocol::Info;
use crate::table::Waiter;

/// How many locks [`Waits::beyond`] has at most.
const BEYOND: usize = 100;

/// A listing could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the listing failed")]
pub(crate) struct ListingFailed;

/// A part of a listing.
#[derive(Debug)]
pub(crate) struct Part<T, N> {
    pub(crate) entries: Vec<T>,
    /// What the next part begins behind; `None` if there is no more.
    pub(crate) next: Option<N>,
}

impl<T, N> Part<T, N> {
    /// All of what is this one thing, or nothing.
    pub(crate) fn one(entry: Option<T>) -> Self {
        Self {
            entries: entry.into_iter().collect(),
            next: None,
        }
    }
}

/// Who waits for whom.
#[derive(Debug)]
pub(crate) struct Waits {
    /// How many requests wait for keys that were asked for, and for how many keys.
    pub(crate) requests: usize,
    pub(crate) keys: usize,
    /// The lock for which somebody has waited longest, whatever was asked for.
    pub(crate) longest: Option<Contended>,
    /// The keys for which most wait, those first.
    pub(crate) locks: Vec<Contended>,
    /// The keys for which holders of these wait, and holders of those, and so on.
    pub(crate) beyond: Vec<Contended>,
    /// The requests of all these holders.
    pub(crate) requests_of_holders: Vec<SessionEntry>,
}

/// A lock for which somebody waits.
#[derive(Debug)]
pub(crate) struct Contended {
    pub(crate) lock: LockEntry,
    /// For how long the first of them has waited.
    pub(crate) longest: Duration,
}

impl ServerHandle {
    /// The server in facts and numbers.
    pub(crate) fn info(&self) -> Info {
        figures::info(&self.shared, false)
    }

    /// The time by which what is shown here is meant.
    pub(crate) fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// The wall clock's time, since the beginning of 1970.
    pub(crate) fn unix_now(&self) -> Duration {
        unix_now()
    }

    /// The lock of this very key, if it is held and there for the user who asks.
    pub(crate) fn lock(&self, key: &[u8], asks: &User) -> Option<LockEntry> {
        let seen = asks.allows(key).then_some(key);
        seen.and_then(|key| self.shared.lock_entry(key))
    }

    /// One session, unless it is over or not there for the user who asks.
    pub(crate) fn session(&self, number: SessionNumber, asks: &User) -> Option<SessionEntry> {
        self.shared.session_entry(number, asks)
    }

    /// The first `most` locks whose keys begin with `prefix` and stand behind `after`, in the order of
    /// their keys, of those that are there for the user who asks.
    pub(crate) async fn locks(
        &self,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        most: usize,
        asks: Arc<User>,
    ) -> Result<Part<LockEntry, Key>, ListingFailed> {
        let find = move |shared: &Shared| {
            let table = &shared.table;
            let may_see = |key: &[u8]| asks.allows(key);
            let mut keys = table.keys_after(&prefix, after.as_deref(), most + 1, may_see);
            let has_more = keys.len() > most;
            keys.truncate(most);
            let entries = keys
                .iter()
                .filter_map(|key| shared.lock_entry(key.as_bytes()));
            let entries = entries.collect();
            let last = keys.last().filter(|_| has_more);
            let next = last.map(|last| Key::new(last.as_bytes()));
            Part { entries, next }
        };
        self.searched(find).await
    }

    /// The first `most` sessions with numbers above `after`, in their order.
    pub(crate) async fn sessions(
        &self,
        after: SessionNumber,
        most: usize,
        asks: Arc<User>,
    ) -> Result<Part<SessionEntry, SessionNumber>, ListingFailed> {
        let find = move |shared: &Shared| {
            let mut numbers = shared.table.sessions_after(after, most + 1);
            let has_more = numbers.len() > most;
            numbers.truncate(most);
            let entries = numbers.iter().map(|one| shared.session_entry(*one, &asks));
            let entries = entries.flatten().collect();
            let next = numbers.last().filter(|_| has_more).copied();
            Part { entries, next }
        };
        self.searched(find).await
    }

    /// The `most` keys with `prefix` for which most requests wait, and what it takes to see who waits for
    /// whom. Costs what waits, and not what is held.
    pub(crate) async fn waits(
        &self,
        prefix: Vec<u8>,
        most: usize,
        asks: Arc<User>,
    ) -> Result<Waits, ListingFailed> {
        self.searched(move |shared| waits(shared, &prefix, most, &asks))
            .await
    }

    /// The events with numbers above `after` that are there for the user who asks, and the number of the
    /// last one. Whoever may not see all keys is told of what names none but its own, and of no other
    /// number.
    pub(crate) fn events(&self, after: u64, asks: &User) -> (Vec<Noted>, u64) {
        let (mut events, last) = self.shared.events.after(after);
        if asks.sees_sessions_of(None) {
            return (events, last);
        }
        events.retain(|Noted { event, .. }| {
            let keys = match event.kind {
                EventKind::Deadlock => &event.keys,
                _ => event.key.as_slice(),
            };
            !keys.is_empty() && keys.iter().all(|key| asks.allows(key.as_bytes()))
        });
        let last = events.last().map_or(after, |noted| noted.number);
        (events, last)
    }

    /// The names of the numbers, and what they were in the last hour.
    pub(crate) fn history(&self) -> (Vec<&'static str>, Vec<Sample>) {
        let names = figures::numbers(&self.shared, self.figures()).map(|(name, _)| name);
        (names.to_vec(), self.history.samples())
    }

    /// Runs `find` on a thread of its own when its turn comes. The turn ends with the search, also if the
    /// one who asked has gone meanwhile.
    async fn searched<T: Send + 'static>(
        &self,
        find: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T, ListingFailed> {
        let turns = Arc::clone(&self.shared.searches);
        let turn = turns.acquire_owned().await.map_err(|_| ListingFailed)?;
        let shared = Arc::clone(&self.shared);
        let search = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            find(&shared)
        });
        search.await.map_err(|_| ListingFailed)
    }
}

/// The requests that wait for one key.
struct Queue {
    waiting: usize,
    first: Arc<Waiter>,
}

fn waits(shared: &Shared, prefix: &[u8], most: usize, asks: &User) -> Waits {
    let mut waiters = shared.table.waiters();
    waiters.retain(|waiter| asks.allows(waiter.key().as_bytes()));
    let mut queues: HashMap<&[u8], Queue> = HashMap::new();
    let mut by_session = HashMap::new();
    // In the order in which they came, so that the first of each key is the one that waits longest.
    for waiter in &waiters {
        by_session.insert(waiter.session(), waiter);
        let queue = queues.entry(waiter.key().as_bytes());
        let queue = queue.or_insert_with(|| Queue {
            waiting: 0,
            first: Arc::clone(waiter),
        });
        queue.waiting += 1;
    }
    let asked = queues.iter().filter(|(key, _)| key.starts_with(prefix));
    let mut asked: Vec<(&[u8], &Queue)> = asked.map(|(key, queue)| (*key, queue)).collect();
    let (requests, keys) = (
        asked.iter().map(|(_, queue)| queue.waiting).sum(),
        asked.len(),
    );
    asked.sort_unstable_by_key(|(key, queue)| (std::cmp::Reverse(queue.waiting), *key));
    asked.truncate(most);
    let now = shared.clock.now();
    let contended = |key: &[u8], first: &Waiter| {
        Some(Contended {
            lock: shared.lock_entry(key)?,
            longest: shared.table.waited(first, now),
        })
    };
    let longest = waiters.first();
    let longest = longest.and_then(|first| contended(first.key().as_bytes(), first));
    let mut seen: HashSet<&[u8]> = asked.iter().map(|(key, _)| *key).collect();
    let locks = asked
        .iter()
        .filter_map(|(key, queue)| contended(key, &queue.first));
    let locks: Vec<_> = locks.collect();
    let (mut beyond, mut holders) = (Vec::new(), HashSet::new());
    let mut requests_of_holders = Vec::new();
    let mut place = 0;
    // Follows holders to what they wait for, which may add to what is followed.
    while let Some(one) = locks.get(place).or_else(|| beyond.get(place - locks.len())) {
        let waiting = one
            .lock
            .holders
            .iter()
            .filter_map(|one| one.holder.session());
        let waiting: Vec<_> = waiting.filter_map(|one| by_session.get(&one)).collect();
        for waiter in waiting {
            if !holders.insert(waiter.session()) {
                continue;
            }
            requests_of_holders.extend(shared.session_entry(waiter.session(), asks));
            let key = waiter.key().as_bytes();
            if beyond.len() < BEYOND && seen.insert(key) {
                beyond.extend(
                    queues
                        .get(key)
                        .and_then(|queue| contended(key, &queue.first)),
                );
            }
        }
        place += 1;
    }
    Waits {
        requests,
        keys,
        longest,
        locks,
        beyond,
        requests_of_holders,
    }
}
