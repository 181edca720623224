//! Learning of a change of a key without taking its lock.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::lock::Lock;
use super::lock_key::LockKey;
use super::{LockTable, interleave};
use crate::model::{Holder, Token};

/// How many counts the watched keys are spread over.
const SLOTS: usize = 1024;

/// The keys that are watched, by their hash: two keys with one hash wake each other's watchers, who
/// look and go on watching.
///
/// A change of a key that nobody watches costs one load while nobody watches any key, and otherwise a
/// hash and one more load. A watcher [begins](LockTable::watch) before it reads the key's state
/// under the key's guard; a change is told after the guard is gone. So a change that the watcher's
/// look does not show yet finds the watcher.
#[derive(Debug)]
pub(super) struct Watches {
    in_all: AtomicUsize,
    /// How many watch keys with a hash that falls into each slot.
    slots: Box<[AtomicUsize]>,
    by_hash: Mutex<HashMap<u64, Watched>>,
}

#[derive(Debug, Default)]
struct Watched {
    watchers: usize,
    changed: Arc<Notify>,
}

/// The state of a key, as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watch {
    /// Nobody holds it.
    Free,
    /// It is held; of several holders, this is the one with the lowest token.
    Held(Holder, Token),
}

/// A watcher of one key, until it is dropped.
#[derive(Debug)]
pub struct Watcher<'t> {
    table: &'t LockTable,
    key: &'t [u8],
    hash: u64,
    changed: Arc<Notify>,
}

impl Default for Watches {
    fn default() -> Self {
        Self {
            in_all: AtomicUsize::new(0),
            slots: (0..SLOTS).map(|_| AtomicUsize::new(0)).collect(),
            by_hash: Mutex::default(),
        }
    }
}

impl Watches {
    /// Whether anyone may watch the key with this hash. If not, whoever begins to watch it from here on
    /// sees what is done under the guard under which this is asked.
    pub(super) fn may_watch(&self, hash: impl FnOnce() -> u64) -> bool {
        self.in_all.load(Ordering::Relaxed) > 0 && self.slot(hash()).load(Ordering::Relaxed) > 0
    }

    /// Tells the watchers of the key with this hash that it has changed. Not under a guard.
    pub(super) fn changed(&self, hash: u64) {
        interleave::between_guards();
        let changed = self.lock().get(&hash).map(|one| Arc::clone(&one.changed));
        if let Some(changed) = changed {
            changed.notify_waiters();
        }
    }

    pub(super) fn in_all(&self) -> usize {
        self.in_all.load(Ordering::Relaxed)
    }

    fn slot(&self, hash: u64) -> &AtomicUsize {
        &self.slots[hash as usize % SLOTS]
    }

    fn begin(&self, hash: u64) -> Arc<Notify> {
        let mut by_hash = self.lock();
        let watched = by_hash.entry(hash).or_default();
        watched.watchers += 1;
        self.slot(hash).fetch_add(1, Ordering::Relaxed);
        self.in_all.fetch_add(1, Ordering::Relaxed);
        Arc::clone(&watched.changed)
    }

    fn end(&self, hash: u64) {
        let mut by_hash = self.lock();
        if let Some(watched) = by_hash.get_mut(&hash) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                by_hash.remove(&hash);
            }
        }
        self.slot(hash).fetch_sub(1, Ordering::Relaxed);
        self.in_all.fetch_sub(1, Ordering::Relaxed);
        if let Some(capacity) = super::shrunk(by_hash.len(), by_hash.capacity()) {
            by_hash.shrink_to(capacity);
        }
    }

    /// Poisoning is ignored: a panic leaves a watcher counted at worst.
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Watched>> {
        self.by_hash.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LockTable {
    /// The state of a key at this moment. It need not be durable.
    pub fn state(&self, key: &[u8]) -> Watch {
        let held = |_: &LockKey, lock: &mut Lock| {
            let (holder, token) = lock.first_granted();
            Watch::Held(holder, token)
        };
        self.locks.with(key, held).unwrap_or(Watch::Free)
    }

    /// Begins to watch a key.
    pub fn watch<'t>(&'t self, key: &'t [u8]) -> Watcher<'t> {
        let hash = self.locks.hash(key);
        Watcher {
            table: self,
            key,
            hash,
            changed: self.watches.begin(hash),
        }
    }
}

impl Watcher<'_> {
    /// Returns the state of the key once `is_other` is true of it. Cancel safe.
    pub async fn until(&self, is_other: impl Fn(&Watch) -> bool) -> Watch {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on a change is not missed.
            changed.as_mut().enable();
            interleave::between_guards();
            let state = self.table.state(self.key);
            if is_other(&state) {
                return state;
            }
            interleave::between_guards();
            changed.await;
        }
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        self.table.watches.end(self.hash);
    }
}
