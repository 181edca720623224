//! The state as it is shown: nothing here changes anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lock::Lock;
use super::lock_key::LockKey;
use super::session::Session;
use super::waiters::Waiter;
use super::{LockTable, interleave};
use crate::model::{
    Holder, HolderEntry, Key, LockEntry, LockView, SessionNumber, SessionView, WaiterEntry,
};

impl LockTable {
    /// How many keys are held.
    pub fn held(&self) -> usize {
        self.claims.keys()
    }

    /// How many grants and waiting requests there are together, which is what
    /// [`Limits::locks`](crate::model::Limits::locks) bounds.
    pub fn claims(&self) -> usize {
        self.claims.in_all()
    }

    /// How many sessions there are in all, and how many of them have a connection.
    pub fn session_counts(&self) -> (usize, usize) {
        self.sessions.counts()
    }

    /// All sessions, by number.
    pub fn session_views(&self) -> Vec<SessionView> {
        let numbers = self.sessions.numbers(SessionNumber(0), usize::MAX);
        let views = numbers.into_iter().map(|number| self.sessions.view(number));
        views.flatten().collect()
    }

    /// One lock, with at most `most` of its holders and of the requests that wait for it, as it is
    /// shown at `now`, when so much time has passed since the beginning of 1970.
    pub fn lock_entry(
        &self,
        key: &[u8],
        most: usize,
        (now, unix): (Instant, Duration),
    ) -> Option<LockEntry> {
        let view = |_: &LockKey, lock: &mut Lock| {
            let waiters: Vec<_> = lock.queue().take(most).cloned().collect();
            (view_of(lock, most), waiters)
        };
        let (view, waiters) = self.locks.with(key, view)?;
        // Names are looked up after the guard is gone.
        let holders = view.holders.into_iter().map(|(holder, token)| {
            let held = self.tokens.age(token, now);
            let lease_end = self.leases.end(token);
            HolderEntry {
                name: match &holder {
                    Holder::Session(number) => self.name(*number),
                    Holder::Owner(_) => None,
                },
                holder,
                token,
                since: held.map(|held| unix.saturating_sub(held)),
                held,
                lease_left: lease_end.map(|end| end.saturating_duration_since(now)),
            }
        });
        let first_waiters = waiters.into_iter().map(|waiter| WaiterEntry {
            session: waiter.session(),
            name: self.name(waiter.session()),
            ask: waiter.ask().clone(),
            waited: self.waited(&waiter, now),
            left: self.wait_left(&waiter, now),
        });
        Some(LockEntry {
            key: Key::new(key),
            mode: view.mode,
            holders: holders.collect(),
            holders_in_all: view.holders_in_all,
            first_waiters: first_waiters.collect(),
            waiters: view.waiters,
        })
    }

    /// The numbers of sessions above this one, in their order, the first `most` of them.
    pub fn sessions_after(&self, above: SessionNumber, most: usize) -> Vec<SessionNumber> {
        self.sessions.numbers(above, most)
    }

    /// One session; `None` if it is over.
    pub fn session_view(&self, number: SessionNumber) -> Option<SessionView> {
        self.sessions.view(number)
    }

    /// The request that a session waits with.
    pub fn waiter_of(&self, number: SessionNumber) -> Option<Arc<Waiter>> {
        interleave::lock(&self.waits).of(number).cloned()
    }

    /// The lease with which every grant begins, and the longest that `expire` gives.
    pub fn max_hold(&self) -> Option<Duration> {
        self.limits.max_hold
    }

    /// How many requests watch a key.
    pub fn watching(&self) -> usize {
        self.watches.in_all()
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        interleave::lock(&self.waits).len()
    }

    /// One lock, if it is held at this moment, with at most `most` of its holders.
    pub fn lock_view(&self, key: &[u8], most: usize) -> Option<LockView> {
        self.locks.with(key, |_, lock| view_of(lock, most))
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

fn view_of(lock: &Lock, most: usize) -> LockView {
    let holders = lock.holders().take(most);
    LockView {
        holders: holders
            .map(|(holder, hold)| (holder, hold.word.token()))
            .collect(),
        holders_in_all: lock.holders_in_all(),
        mode: lock.mode(),
        waiters: lock.waiters(),
    }
}
