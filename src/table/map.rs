//! The map from key to lock.
//!
//! A lock takes one word of the map, its [`LockKey`]. A thin lock stands in the two words of the
//! key; for a [`FatLock`] they hold a number, by which it is found beside the map.
//!
//! Invariants:
//!
//! 1. A key's words are read and written only under the exclusive guard of its shard.
//! 2. The words are the number and the grant of the one session that holds the key; or the number
//!    of a fat lock, and 0, which is no grant.
//! 3. While no thread has the guard, a fat lock is kept exactly if the words of a key in the map
//!    hold its number.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::{Entry, VacantEntry};

use super::grant::GrantWord;
use super::lock::{FatLock, Lock};
use super::lock_key::{LockKey, Seed};
use super::shrunk;
use crate::model::{SessionNumber, Token};

/// How many shards the map has: enough that a walk over one shard, which stalls all requests for
/// its keys, is a good part of a turn at the most with a million locks.
const SHARDS: usize = 1024;

/// How many mutexes the fat locks are spread over.
const FAT_SHARDS: usize = 64;

type FatLocks = HashMap<u64, Box<FatLock>, Seed>;

/// All locks that are held.
#[derive(Debug)]
pub(super) struct Locks {
    /// Keys come from clients, so the hasher is seeded afresh in each process.
    keys: DashMap<LockKey, (), Seed>,
    /// Taken under a key's guard, for one look-up at a time.
    fat: [Mutex<FatLocks>; FAT_SHARDS],
    last_fat: AtomicU64,
}

/// What the map has for a key, under its guard.
pub(super) enum Place<'a> {
    Free(Free<'a>),
    /// With the map's own copy of the key.
    Held(&'a LockKey, &'a mut Lock),
}

/// A key that no session holds.
pub(super) struct Free<'a> {
    locks: &'a Locks,
    entry: VacantEntry<'a, LockKey, ()>,
}

/// A lock that was read from its words, and is written back when this is dropped, also by a panic.
struct Loaded<'a> {
    locks: &'a Locks,
    key: &'a LockKey,
    lock: Lock,
}

impl Locks {
    /// With room for about so many keys.
    pub(super) fn with_room_for(keys: usize) -> Self {
        // By chance a shard gets more than its part.
        let room = keys + keys / 8;
        Self {
            keys: DashMap::with_capacity_and_hasher_and_shard_amount(room, Seed::default(), SHARDS),
            fat: std::array::from_fn(|_| Mutex::default()),
            last_fat: AtomicU64::new(0),
        }
    }

    /// Calls `act` with the place of a key, under the key's guard. `key` becomes the map's own if
    /// the place is free and is filled.
    pub(super) fn at<T>(&self, key: LockKey, act: impl FnOnce(Place<'_>) -> T) -> T {
        match self.keys.entry(key) {
            Entry::Vacant(entry) => act(Place::Free(Free { locks: self, entry })),
            Entry::Occupied(entry) => {
                let mut loaded = self.load(entry.key());
                act(Place::Held(loaded.key, &mut loaded.lock))
            }
        }
    }

    /// Reads or changes a lock; `None` if no session holds the key.
    pub(super) fn with<T>(
        &self,
        key: &[u8],
        act: impl FnOnce(&LockKey, &mut Lock) -> T,
    ) -> Option<T> {
        let entry = self.keys.get_mut(key)?;
        let mut loaded = self.load(entry.key());
        Some(act(loaded.key, &mut loaded.lock))
    }

    /// Calls `is_over` with a lock, which it may change, if the key is held; removes the lock if it
    /// returns true.
    pub(super) fn remove_if(&self, key: &[u8], is_over: impl FnOnce(&LockKey, &mut Lock) -> bool) {
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

    /// How many keys there are, by a walk over the shards.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Gives back what the map keeps, if there was much more in it.
    pub(super) fn shrink(&self) {
        if shrunk(self.keys.len(), self.keys.capacity()).is_some() {
            self.keys.shrink_to_fit();
        }
    }

    /// The numbers of the shards.
    pub(super) fn slices(&self) -> Range<usize> {
        0..self.keys.shards().len()
    }

    /// The keys of one shard, in no order. The shard is locked while references to its keys are copied and
    /// counted, and not while the keys are looked at.
    pub(super) fn keys_of(&self, shard: usize) -> impl Iterator<Item = LockKey> + use<> {
        let keys = self.keys.shards()[shard].read().clone();
        keys.into_iter().map(|(key, _)| key)
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        BuildHasher::hash_one(self.keys.hasher(), key)
    }

    fn load<'a>(&'a self, key: &'a LockKey) -> Loaded<'a> {
        let words = key.words();
        let number = words.holder_or_fat.load(Ordering::Relaxed);
        let lock = match GrantWord::from_bits(words.grant.load(Ordering::Relaxed)) {
            Some(grant) => Lock::Thin(SessionNumber(number), grant),
            None => {
                let fat = self.fat_locks(number).remove(&number);
                // Without the fat lock the holders of the key are not known. The key stays in the
                // map, so that until a restart no session is granted it: each request ends here,
                // and its connection's task with it.
                assert!(
                    fat.is_some(),
                    "invariant 3: a fat lock that is named is kept"
                );
                fat.map_or_else(vacated, Lock::Fat)
            }
        };
        let locks = self;
        Loaded { locks, key, lock }
    }

    fn save(&self, key: &LockKey, lock: Lock) {
        let (number, grant) = match lock {
            Lock::Thin(holder, grant) => (holder.0, grant.to_bits()),
            Lock::Fat(fat) => {
                // A new number each time: to remember the old one would take as long.
                let number = self.last_fat.fetch_add(1, Ordering::Relaxed) + 1;
                self.fat_locks(number).insert(number, fat);
                (number, 0)
            }
        };
        let words = key.words();
        words.holder_or_fat.store(number, Ordering::Relaxed);
        words.grant.store(grant, Ordering::Relaxed);
    }

    /// The fat locks of the shard that this number belongs to. Poisoning is ignored: a panic cannot
    /// leave them half changed.
    fn fat_locks(&self, number: u64) -> MutexGuard<'_, FatLocks> {
        let shard = number as usize % FAT_SHARDS;
        let mut fat = self.fat[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(capacity) = shrunk(fat.len(), fat.capacity()) {
            fat.shrink_to(capacity);
        }
        fat
    }
}

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        let lock = std::mem::replace(&mut self.lock, vacated());
        self.locks.save(self.key, lock);
    }
}

/// A placeholder for a lock that was moved away or removed.
fn vacated() -> Lock {
    Lock::Thin(SessionNumber(0), GrantWord::new(Token(0), false))
}

impl Free<'_> {
    /// The key, which is the map's own from [`Free::fill`] on.
    pub(super) fn key(&self) -> &LockKey {
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
    use crate::model::{Key, Mode};
    use crate::table::holders::{Hold, HolderRef};

    fn fat_locks(locks: &Locks) -> usize {
        let each = locks.fat.iter().map(|fat| fat.lock().expect("whole").len());
        each.sum()
    }

    fn shared(value: &[u8]) -> Mode {
        Mode::Shared(Key::new(value))
    }

    fn fill(locks: &Locks, key: &[u8], mode: Mode) {
        let (word, taker) = (GrantWord::new(Token(1), false), SessionNumber(1));
        let lock = Lock::new(HolderRef::Session(taker), &mode, Hold::new(word, taker));
        locks.at(LockKey::new(key), |place| match place {
            Place::Free(free) => free.fill(lock),
            Place::Held(..) => panic!("nobody holds it"),
        });
    }

    #[test]
    fn a_fat_lock_is_kept_as_long_as_it_is_one() {
        let locks = Locks::with_room_for(0);
        fill(&locks, b"thin", Mode::Exclusive);
        assert_eq!(fat_locks(&locks), 0);
        fill(&locks, b"fat", shared(b"v"));
        assert_eq!(fat_locks(&locks), 1);
        for _ in 0..3 {
            let mode = locks.with(b"fat", |_, lock| lock.mode());
            assert_eq!((mode, fat_locks(&locks)), (Some(shared(b"v")), 1));
        }
        assert_eq!((locks.len(), locks.is_held(b"fat")), (2, true));
        locks.remove_if(b"fat", |_, _| false);
        assert_eq!((locks.len(), fat_locks(&locks)), (2, 1));
        locks.remove_if(b"fat", |_, _| true);
        assert_eq!((locks.len(), fat_locks(&locks)), (1, 0));
    }

    #[test]
    fn a_panic_under_the_guard_leaves_the_lock_as_it_is() {
        let locks = Locks::with_room_for(0);
        fill(&locks, b"k", shared(b"v"));
        let panics = std::panic::AssertUnwindSafe(|| locks.with(b"k", |_, _| panic!("planted")));
        let panicked: Result<Option<()>, _> = std::panic::catch_unwind(panics);
        assert!(panicked.is_err());
        assert_eq!(locks.with(b"k", |_, lock| lock.mode()), Some(shared(b"v")));
    }

    /// A key is granted to no session once its holders are not known any more.
    #[test]
    fn a_lock_whose_holders_are_not_known_stays_refused() {
        let locks = Locks::with_room_for(0);
        fill(&locks, b"k", shared(b"v"));
        locks
            .fat
            .iter()
            .for_each(|fat| fat.lock().expect("whole").clear());
        for _ in 0..2 {
            let asks = std::panic::AssertUnwindSafe(|| {
                locks.at(LockKey::new(b"k"), |place| matches!(place, Place::Free(_)))
            });
            assert!(std::panic::catch_unwind(asks).is_err());
            assert!(locks.is_held(b"k"));
        }
    }
}
