//! The state as it is shown: nothing here changes anything.

use std::sync::Arc;

use super::lock_key::LockKey;
use super::session::Session;
use super::waiters::Waiter;
use super::{LockTable, interleave};
use crate::model::{LockView, SessionView};

impl LockTable {
    /// How many keys are held.
    pub fn held(&self) -> usize {
        self.locks.len()
    }

    /// How many sessions there are in all, and how many of them have a connection.
    pub fn session_counts(&self) -> (usize, usize) {
        self.sessions.counts()
    }

    /// All sessions, by number.
    pub fn session_views(&self) -> Vec<SessionView> {
        self.sessions.views()
    }

    /// The keys held, in order. Locks one shard at a time; costs a word per key.
    pub fn keys(&self) -> Vec<LockKey> {
        let mut keys = self.locks.keys();
        keys.sort_unstable_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        keys
    }

    /// One lock, if it is held at this moment, with at most `most` of its holders.
    pub fn lock_view(&self, key: &[u8], most: usize) -> Option<LockView> {
        self.locks.with(key, |_, lock| LockView {
            holders: lock.holders().take(most).collect(),
            holders_in_all: lock.holders_in_all(),
            mode: lock.mode(),
            waiters: lock.waiters(),
        })
    }

    /// Some of the keys that a session holds, `most` at the most.
    pub fn some_keys(&self, session: &Session, most: usize) -> Vec<LockKey> {
        let is_held = self.is_held_by(session.number);
        session.held.some(most, is_held)
    }

    /// The requests that wait, in the order in which they came.
    pub fn waiters(&self) -> Vec<Arc<Waiter>> {
        let mut waiting = interleave::lock(&self.waits).waiting();
        waiting.sort_unstable_by_key(|waiter| waiter.arrival());
        waiting
    }
}
