//! Waiting for a lock. Every wait goes these four steps:
//!
//! 1. [`LockTable::acquire`] finds the lock busy and, under the same guard, puts a [`Waiter`] at
//!    the end of the lock's queue; the session shares the waiter.
//! 2. The request enters the [wait-for graph](super::wait_graph) and walks it. If it closed a
//!    circle, it leaves queue and graph again and is refused with the circle.
//! 3. The connection asks for the [`Wait`], which borrows the session: until it ends, the session
//!    can do nothing else. The connection listens to [`Wait::granted`], and to all else that may end
//!    the wait.
//! 4. [`Wait::end`] is told why the wait ends and returns whether the session has the lock. A
//!    [`Wait`] that is dropped instead ends by a disconnect.
//!
//! The waiter's state changes only under the key's guard, from waiting to granted or to left. So
//! where a grant, a deadline, a disconnect and a stop meet, exactly one wins, and the others see
//! that in the state.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::LockTable;
use super::interleave;
use super::lock::Lock;
use super::lock_key::LockKey;
use super::outcome::{Basis, Locked, Outcome};
use super::session::Session;
use super::wait_graph::{Beyond, WaitGraph};
use super::waiters::Waiter;
use crate::model::{Circle, Mode};

/// Why a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The lock was granted.
    Granted,
    /// The time for which the request may wait is over.
    Deadline,
    /// The session's connection ended, so that no client would learn of a grant.
    Disconnect,
    /// The server stops.
    Shutdown,
    /// The client has sent too much ahead.
    Overrun,
}

/// A session's wait for a lock. Dropped, it ends by a disconnect.
#[derive(Debug)]
pub struct Wait<'s> {
    table: &'s LockTable,
    /// With the waiter, until the wait has ended.
    session: &'s mut Session,
}

impl Wait<'_> {
    /// Returns once the lock was granted; forever pending if the wait ends before that. Cancel safe,
    /// for one caller at a time.
    pub async fn granted(&self) {
        match &self.session.waiting {
            Some(waiter) => waiter.granted().await,
            None => std::future::pending().await,
        }
    }

    /// The request's place in the order in which the waiters of the whole server queued up. Of two
    /// waiters of one key in one mode, the one with the smaller number is served first.
    pub fn arrival(&self) -> u64 {
        let waiter = self.session.waiting.as_ref();
        waiter.map_or(0, |waiter| waiter.arrival())
    }

    /// Ends the wait, for whatever reason: [`Locked::Acquired`] if the session holds the lock,
    /// [`Locked::Busy`] if not.
    ///
    /// A grant that came first wins over a deadline, a stop and an overrun: the session has the
    /// lock. A disconnect wins over a grant, as no client was told of it: the lock is given back.
    pub fn end(self, ending: Ending, now: Instant) -> Outcome<Locked> {
        self.table.end_wait(self.session, ending, now)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.session.waiting.is_some() {
            // A drop gets no time from its caller. This one is never behind the server's clock, so
            // the lease of the next holder is not too short.
            self.table.stop_waiting(self.session, Instant::now());
        }
    }
}

impl LockTable {
    /// The session's wait, after [`Locked::Waiting`]; `None` if it does not wait.
    pub fn wait<'s>(&'s self, session: &'s mut Session) -> Option<Wait<'s>> {
        let is_waiting = self.is_waiting(session);
        is_waiting.then_some(Wait {
            table: self,
            session,
        })
    }

    /// Whether the session has a request that waits, and so must ask for its [`Wait`].
    pub fn is_waiting(&self, session: &Session) -> bool {
        session.waiting.is_some()
    }

    /// Puts the request at the end of the lock's queue. Called under the key's guard.
    pub(super) fn queue_up(
        &self,
        session: &mut Session,
        mode: &Mode,
        now: Instant,
        key: &LockKey,
        lock: &mut Lock,
    ) {
        let arrival = self.last_arrival.fetch_add(1, Ordering::Relaxed) + 1;
        let (number, lost) = (session.number, session.held.lost.clone());
        let waiter = Waiter::new(number, lost, key.clone(), mode.clone(), now, arrival);
        let waiter = Arc::new(waiter);
        lock.enqueue(Arc::clone(&waiter));
        session.waiting = Some(waiter);
    }

    /// Enters the graph with a request that is in its queue, and leaves both again if that closes a
    /// circle, which is returned.
    pub(super) fn enter_wait_graph(&self, session: &mut Session) -> Option<Circle> {
        let waiter = Arc::clone(session.waiting.as_ref()?);
        interleave::between_guards();
        let mut waits = interleave::lock(&self.waits);
        waits.insert(Arc::clone(&waiter));
        let circle = self.find_circle(&waits, session, waiter.key())?;
        // A request that was granted the lock meanwhile keeps it, whatever the walk found.
        if !self.leave(&waiter) {
            return None;
        }
        waits.remove(session.number);
        session.waiting = None;
        Some(circle)
    }

    pub(super) fn find_circle(
        &self,
        waits: &WaitGraph,
        session: &Session,
        key: &LockKey,
    ) -> Option<Circle> {
        // A circle would lead back to a key that the requester holds.
        if session.held() == 0 {
            return None;
        }
        waits.circle(session.number, key, |key| {
            interleave::between_guards();
            let beyond = |_: &LockKey, lock: &mut Lock| waits.beyond(session.number, lock);
            let nobodys = Beyond::Waiting(Vec::new());
            self.locks.with(key.as_bytes(), beyond).unwrap_or(nobodys)
        })
    }

    /// Ends the wait of a session whose connection has ended, if it waits.
    pub(super) fn stop_waiting(&self, session: &mut Session, now: Instant) {
        if self.is_waiting(session) {
            let ended = self.end_wait(session, Ending::Disconnect, now);
            debug_assert_eq!(ended.value, Locked::Busy);
        }
    }

    fn end_wait(&self, session: &mut Session, ending: Ending, now: Instant) -> Outcome<Locked> {
        let Some(waiter) = session.waiting.take() else {
            debug_assert!(false, "only a wait is ended");
            return Outcome::free(Locked::Busy);
        };
        let has_left = !waiter.is_granted() && self.leave(&waiter);
        interleave::lock(&self.waits).remove(session.number);
        if has_left || !waiter.is_granted() {
            assert!(ending != Ending::Granted, "a granted waiter cannot leave");
            return Outcome::free(Locked::Busy);
        }
        let (grant, seq) = waiter.grant();
        let claim = self.keep(session, grant.key.clone(), grant.token, seq);
        self.store_new(session);
        if ending == Ending::Disconnect {
            self.give_back(session, &grant, now);
            return Outcome::free(Locked::Busy);
        }
        let basis = Basis::new(session.seq, Some(claim));
        Outcome {
            value: Locked::Acquired,
            basis,
        }
    }

    /// True if the waiter left the queue; false if it was granted the lock before it could, or was
    /// refused when its lock was released during a stop.
    fn leave(&self, waiter: &Waiter) -> bool {
        let key = waiter.key().as_bytes();
        let left = self.locks.with(key, |_, lock| lock.leave(waiter));
        let left = left.unwrap_or(false);
        // Otherwise it is not known whether the waiter has the lock. The panic ends its
        // connection's task, and the lock stays with its holders.
        assert!(!waiter.is_waiting(), "a waiter waits for a held lock");
        if left {
            self.claims.fetch_sub(1, Ordering::Relaxed);
        }
        left
    }
}
