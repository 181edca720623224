//! Waiting for a lock. Every wait goes these four steps:
//!
//! 1. [`LockTable::acquire`] finds the lock busy and, under the same guard, puts a [`Waiter`] at
//!    the end of the lock's queue; the session shares the waiter.
//! 2. The request enters the [wait-for graph](super::wait_graph) and looks round there. If it closed a
//!    circle, it leaves queue and graph again and is refused with the circle.
//! 3. The connection asks for the [`Wait`], which borrows the session: until it ends, the session
//!    can do nothing else. The connection listens to [`Wait::decided`], and to all else that may end
//!    the wait. Where very much waits, the server looks round a [second time](super::second_look), and
//!    may decide that the request has closed a circle.
//! 4. [`Wait::end`] is told why the wait ends and returns whether the session has the lock. A
//!    [`Wait`] that is dropped instead ends by a disconnect.
//!
//! The waiter's state changes only under the key's guard, from waiting to granted or to left. So
//! where a grant, a second look, a deadline, a disconnect and a stop meet, exactly one wins, and the others see
//! that in the state.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::LockTable;
use super::acquire::Grantee;
use super::grant::GrantWord;
use super::interleave;
use super::lock::Lock;
use super::lock_key::LockKey;
use super::look::{FewSteps, Found, GivenUp, look_round};
use super::outcome::{Locked, Outcome};
use super::session::Session;
use super::sight::Sight;
use super::wait_graph::{Entry, WaitGraph};
use super::waiters::{WaitTime, Waiter};
use crate::model::{Ask, Circle};

/// Why a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The table has decided: the lock was granted, or never would be.
    Decided,
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
    /// Returns once the lock was granted, or the request refused because it has closed a circle; forever
    /// pending if the wait ends before that. Cancel safe, for one caller at a time.
    pub async fn decided(&self) {
        match &self.session.waiting {
            Some(waiter) => waiter.decided().await,
            None => std::future::pending().await,
        }
    }

    /// The request's place in the order in which the waiters of the whole server queued up. Of two that
    /// wait to hold one key alone, the one with the smaller number is served first.
    pub fn arrival(&self) -> u64 {
        let waiter = self.session.waiting.as_ref();
        waiter.map_or(0, |waiter| waiter.arrival())
    }

    /// Ends the wait, for whatever reason: [`Locked::Acquired`] if the session holds the lock, or the
    /// owner that it asked for; [`Locked::Deadlock`] if the request has closed a circle;
    /// [`Locked::Busy`] if neither.
    ///
    /// A grant that came first wins over a deadline, a stop and an overrun: the lock is held. So does a
    /// circle. A disconnect wins over a grant, as no client was told of it: the lock is given back, unless
    /// another connection was told that its owner has it.
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

    /// For how long a request has waited.
    pub fn waited(&self, waiter: &Waiter, now: Instant) -> Duration {
        now.saturating_duration_since(waiter.since()) + self.paused_in(waiter)
    }

    /// For how long a request that waits still will.
    pub fn wait_left(&self, waiter: &Waiter, now: Instant) -> Duration {
        let left = waiter.until().saturating_duration_since(now);
        left.saturating_sub(self.paused_in(waiter))
    }

    /// How long the server stood still since a request came: its client's time went on.
    fn paused_in(&self, waiter: &Waiter) -> Duration {
        let pauses = self.tokens.pauses().in_all();
        pauses.saturating_sub(waiter.paused_before())
    }

    /// Puts the request at the end of the lock's queue, with the times since and until when it waits.
    /// Called under the key's guard.
    pub(super) fn queue_up(
        &self,
        session: &mut Session,
        ask: &Ask,
        (since, until): (Instant, Instant),
        key: &LockKey,
        lock: &mut Lock,
    ) {
        let time = WaitTime {
            since,
            until,
            paused: self.tokens.pauses().in_all(),
            arrival: self.last_arrival.fetch_add(1, Ordering::Relaxed) + 1,
        };
        let waiter = Arc::new(Waiter::new(session, key.clone(), ask.clone(), time));
        lock.enqueue(Arc::clone(&waiter));
        session.waiting = Some(waiter);
    }

    /// Enters the graph with a request that is in its queue, and leaves both again if that closes a
    /// circle, which is returned. If there is too much to see, it is kept for a second look.
    pub(super) fn enter_wait_graph(&self, session: &mut Session, now: Instant) -> Option<Circle> {
        let waiter = Arc::clone(session.waiting.as_ref()?);
        interleave::between_guards();
        let mut waits = interleave::lock(&self.waits);
        let entry = waits.insert(Arc::clone(&waiter));
        let circle = match self.first_look(&waits, session, &entry) {
            Ok(found) => found?.circle(),
            Err(GivenUp) => {
                waits.keep_unseen(entry);
                drop(waits);
                self.unseen.notify_one();
                return None;
            }
        };
        // A request that was granted the lock meanwhile keeps it, whatever the look found.
        let let_in = self.leave(&waiter, None, now)?;
        waits.remove(session.number);
        drop(waits);
        self.wake_all(&let_in);
        session.end_wait();
        Some(circle)
    }

    /// A request's own look round, which is short.
    pub(super) fn first_look(
        &self,
        waits: &WaitGraph,
        session: &Session,
        entry: &Entry,
    ) -> Result<Option<Found>, GivenUp> {
        if !session.may_close_circles() {
            return Ok(None);
        }
        let sight = Sight::under_mutex(self, waits, entry);
        look_round(&entry.waiter, &sight, &mut FewSteps(self.first_look_steps))
    }

    /// Ends the wait of a session whose connection has ended, if it waits.
    pub(super) fn stop_waiting(&self, session: &mut Session, now: Instant) {
        if self.is_waiting(session) {
            let ended = self.end_wait(session, Ending::Disconnect, now);
            debug_assert_eq!(ended.value, Locked::Busy);
        }
    }

    fn end_wait(&self, session: &mut Session, ending: Ending, now: Instant) -> Outcome<Locked> {
        let Some(waiter) = session.end_wait() else {
            debug_assert!(false, "only a wait is ended");
            return Outcome::free(Locked::Busy);
        };
        let let_in = match waiter.is_granted() {
            true => None,
            false => self.leave(&waiter, None, now),
        };
        interleave::lock(&self.waits).remove(session.number);
        let has_left = let_in.is_some();
        self.wake_all(&let_in.unwrap_or_default());
        let waited = self.waited(&waiter, now);
        if has_left || !waiter.is_granted() {
            self.counters.other_waits.add(waited);
            let circle = waiter
                .refused_for()
                .filter(|_| ending != Ending::Disconnect);
            if let Some(circle) = circle {
                return Outcome::free(Locked::Deadlock(circle.clone()));
            }
            assert!(ending != Ending::Decided, "who was let in cannot leave");
            return Outcome::free(Locked::Busy);
        }
        self.counters.granted_waits.add(waited);
        let (grant, seq) = waiter.grant();
        let (holder, key) = ((&grant.holder).into(), grant.key.clone());
        let claim = self.keep(session, holder, key, grant.token, seq);
        self.store_new(session);
        if ending == Ending::Disconnect {
            self.give_back(session, &grant, now);
            return Outcome::free(Locked::Busy);
        }
        Outcome::claiming(Locked::Acquired, session.seq, claim)
    }

    /// Takes the waiter out of its queue, because it has closed the circle, if there is one; `None` if it
    /// was granted the lock or refused before that. If it stood in the way of others, they are let in in
    /// the same step, and returned: they must be woken.
    pub(super) fn leave(
        &self,
        waiter: &Waiter,
        circle: Option<Circle>,
        now: Instant,
    ) -> Option<Vec<Arc<Waiter>>> {
        let left = self.locks.with(waiter.key().as_bytes(), |key, lock| {
            if let Some(circle) = circle.filter(|_| waiter.is_waiting()) {
                waiter.refuse_for(circle);
            }
            let grant = |next: &Waiter| self.grant_to_waiter(next, key, now);
            lock.leave(waiter, (!self.is_stopping()).then_some(grant))
        });
        let let_in = left.flatten();
        // Otherwise it is not known whether the waiter has the lock. The panic ends its
        // connection's task, and the lock stays with its holders.
        assert!(!waiter.is_waiting(), "a waiter waits for a held lock");
        let let_in = let_in?;
        self.claims.leave(1);
        Some(let_in)
    }

    /// Makes the grant of a waiter whose turn it is. Called under the key's guard.
    pub(super) fn grant_to_waiter(&self, next: &Waiter, key: &LockKey, now: Instant) -> GrantWord {
        let grantee = Grantee {
            holder: next.holder().into(),
            ask: next.ask(),
            taker: next.session(),
            lost: next.lost(),
            accounts: next.accounts(),
        };
        let (word, seq) = self.new_grant(&grantee, key, now);
        next.granted_by(word.token(), seq);
        word
    }

    /// Wakes waiters that were granted their lock. Not under a guard.
    pub(super) fn wake_all(&self, granted: &[Arc<Waiter>]) {
        for waiter in granted {
            interleave::between_guards();
            waiter.wake();
        }
        self.counters.handovers.add(granted.len() as u64);
    }
}
