//! The map from key to lock.
//!
//! There may be millions of locks, and nearly all are held by one session and waited for by none.
//! So a lock takes one word of the map: who holds it stands beside the key's bytes, in the
//! allocation that the map and the session share; and a [`Crowd`] is kept elsewhere, by a number that
//! stands there.
//!
//! Invariants:
//!
//! 1. A key's words are read and written under the exclusive guard of its shard alone. They are
//!    atomics because a key is shared, not because they are raced for.
//! 2. They are the number and the hold of the one session that holds the key; or the number of a
//!    crowd, and 0, which is no hold.
//! 3. While nobody has the guard, a crowd is kept exactly if the words of a key in the map name it.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::{Entry, VacantEntry};

use super::key::{Key, Seed};
use super::lease::{Hold, Token};
use super::lock::{Crowd, Lock};
use super::session::SessionNumber;
use super::shrunk;

/// How many shards the map has: enough that a walk over one shard, which stalls those who need it,
/// stays well under a millisecond with a million locks.
const SHARDS: usize = 256;

/// How many mutexes the crowds are spread over.
const CROWD_SHARDS: usize = 64;

type Crowds = HashMap<u64, Box<Crowd>>;

/// All locks that are held.
#[derive(Debug)]
pub(super) struct Locks {
    /// Keys come from clients, so the hasher is seeded afresh in each process.
    keys: DashMap<Key, (), Seed>,
    /// Taken under a key's guard, for one look-up at a time.
    crowds: [Mutex<Crowds>; CROWD_SHARDS],
    last_crowd: AtomicU64,
}

/// What the map has for a key, under its guard.
pub(super) enum Place<'a> {
    Free(Free<'a>),
    /// With the map's own copy of the key.
    Held(&'a Key, &'a mut Lock),
}

/// A key that nobody holds.
pub(super) struct Free<'a> {
    locks: &'a Locks,
    entry: VacantEntry<'a, Key, ()>,
}

/// A lock that was read from its words and is written back in the end, also in that of a panic.
struct Loaded<'a> {
    locks: &'a Locks,
    key: &'a Key,
    lock: Lock,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            keys: DashMap::with_hasher_and_shard_amount(Seed::default(), SHARDS),
            crowds: std::array::from_fn(|_| Mutex::default()),
            last_crowd: AtomicU64::new(0),
        }
    }
}

impl Locks {
    /// Acts on what there is for a key. `key` becomes the map's own if it is free and is filled.
    pub(super) fn at<T>(&self, key: Key, act: impl FnOnce(Place<'_>) -> T) -> T {
        match self.keys.entry(key) {
            Entry::Vacant(entry) => act(Place::Free(Free { locks: self, entry })),
            Entry::Occupied(entry) => {
                let mut loaded = self.load(entry.key());
                act(Place::Held(loaded.key, &mut loaded.lock))
            }
        }
    }

    /// Reads or changes a lock; `None` if nobody holds the key.
    pub(super) fn with<T>(&self, key: &[u8], act: impl FnOnce(&Key, &mut Lock) -> T) -> Option<T> {
        let entry = self.keys.get_mut(key)?;
        let mut loaded = self.load(entry.key());
        Some(act(loaded.key, &mut loaded.lock))
    }

    /// Changes a lock, if anybody holds the key, and takes it away if `is_over` says so.
    pub(super) fn remove_if(&self, key: &[u8], is_over: impl FnOnce(&Key, &mut Lock) -> bool) {
        self.keys.remove_if_mut(key, |key, ()| {
            let mut loaded = self.load(key);
            let is_over = is_over(key, &mut loaded.lock);
            if is_over {
                loaded.lock = vacated();
            }
            is_over
        });
    }

    pub(super) fn is_held(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// All keys, in no order. Locks one shard at a time.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.keys.iter().map(|entry| entry.key().clone()).collect()
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        BuildHasher::hash_one(self.keys.hasher(), key)
    }

    fn load<'a>(&'a self, key: &'a Key) -> Loaded<'a> {
        let words = key.words();
        let number = words.holder_or_crowd.load(Ordering::Relaxed);
        let lock = match Hold::from_word(words.hold.load(Ordering::Relaxed)) {
            Some(hold) => Lock::Alone(SessionNumber(number), hold),
            None => match self.crowds(number).remove(&number) {
                Some(crowd) => Lock::Crowd(crowd),
                None => {
                    debug_assert!(false, "invariant 3: a crowd that is named is kept");
                    vacated()
                }
            },
        };
        let locks = self;
        Loaded { locks, key, lock }
    }

    fn save(&self, key: &Key, lock: Lock) {
        let (number, hold) = match lock {
            Lock::Alone(holder, hold) => (holder.0, hold.to_word()),
            Lock::Crowd(crowd) => {
                // A new number each time: to remember the old one would take as long.
                let number = self.last_crowd.fetch_add(1, Ordering::Relaxed) + 1;
                self.crowds(number).insert(number, crowd);
                (number, 0)
            }
        };
        let words = key.words();
        words.holder_or_crowd.store(number, Ordering::Relaxed);
        words.hold.store(hold, Ordering::Relaxed);
    }

    /// Those among which this one is. A panic cannot leave them half changed.
    fn crowds(&self, number: u64) -> MutexGuard<'_, Crowds> {
        let shard = number as usize % CROWD_SHARDS;
        let mut crowds = self.crowds[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(capacity) = shrunk(crowds.len(), crowds.capacity()) {
            crowds.shrink_to(capacity);
        }
        crowds
    }
}

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        let lock = std::mem::replace(&mut self.lock, vacated());
        self.locks.save(self.key, lock);
    }
}

/// What stands in for a lock that is not there.
fn vacated() -> Lock {
    Lock::Alone(SessionNumber(0), Hold::new(Token(0), false))
}

impl Free<'_> {
    /// The key, which is the map's own from [`Free::fill`] on.
    pub(super) fn key(&self) -> &Key {
        self.entry.key()
    }

    pub(super) fn fill(self, lock: Lock) {
        self.locks.save(self.entry.key(), lock);
        self.entry.insert(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Mode;

    fn crowds(locks: &Locks) -> usize {
        locks
            .crowds
            .iter()
            .map(|crowds| crowds.lock().expect("whole").len())
            .sum()
    }

    fn shared(value: &[u8]) -> Mode {
        Mode::Shared(Key::new(value))
    }

    fn fill(locks: &Locks, key: &[u8], mode: Mode) {
        let lock = Lock::new(SessionNumber(1), mode, Hold::new(Token(1), false));
        locks.at(Key::new(key), |place| match place {
            Place::Free(free) => free.fill(lock),
            Place::Held(..) => panic!("nobody holds it"),
        });
    }

    #[test]
    fn a_crowd_is_kept_as_long_as_its_lock_is_one() {
        let locks = Locks::default();
        fill(&locks, b"alone", Mode::Exclusive);
        assert_eq!(crowds(&locks), 0);
        fill(&locks, b"crowd", shared(b"v"));
        assert_eq!(crowds(&locks), 1);
        for _ in 0..3 {
            let mode = locks.with(b"crowd", |_, lock| lock.mode());
            assert_eq!((mode, crowds(&locks)), (Some(shared(b"v")), 1));
        }
        assert_eq!((locks.len(), locks.is_held(b"crowd")), (2, true));
        locks.remove_if(b"crowd", |_, _| false);
        assert_eq!((locks.len(), crowds(&locks)), (2, 1));
        locks.remove_if(b"crowd", |_, _| true);
        assert_eq!((locks.len(), crowds(&locks)), (1, 0));
    }

    #[test]
    fn a_panic_under_the_guard_leaves_the_lock_as_it_is() {
        let locks = Locks::default();
        fill(&locks, b"k", shared(b"v"));
        let panics = std::panic::AssertUnwindSafe(|| locks.with(b"k", |_, _| panic!("planted")));
        let panicked: Result<Option<()>, _> = std::panic::catch_unwind(panics);
        assert!(panicked.is_err());
        assert_eq!(locks.with(b"k", |_, lock| lock.mode()), Some(shared(b"v")));
    }
}
