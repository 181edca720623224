//! Taking a lock, or a place in its queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::grant::{Grant, GrantRef, GrantWord};
use super::lock::{Admission, Lock};
use super::lock_key::LockKey;
use super::lost_locks::LostLocks;
use super::map::{Free, Place};
use super::outcome::{Basis, Claim, Locked, Outcome};
use super::session::Session;
use super::{LockTable, interleave};
use crate::model::{
    Change, Circle, Key, Limit, Mode, NotStored, Seq, SessionNumber, StoredGrant, Token,
};

/// The outcome of a request, as decided under the guard of its key.
enum Placed {
    Acquired(Claim),
    Again(Grant),
    Queued,
    Busy,
    Conflict,
    Full(Limit),
    /// Other sessions hold the lock, and there is no room in its queue.
    QueueFull(Limit),
    Stopping,
}

impl LockTable {
    /// Takes the lock if that needs no wait. Every answer but [`Locked::Waiting`] is possible:
    /// [`Locked::Deadlock`] says that a wait would never have ended.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn try_acquire(
        &self,
        session: &mut Session,
        key: &[u8],
        mode: &Mode,
        now: Instant,
    ) -> Result<Outcome<Locked>, NotStored> {
        let placed = self.place(session, key, mode, now, |_, _, _| Placed::Busy)?;
        let answer = match placed {
            Placed::Busy => self
                .circle(session, key)
                .map_or(Locked::Busy, Locked::Deadlock),
            placed => return Ok(self.told(session, placed)),
        };
        Ok(Outcome::free(answer))
    }

    /// Takes the lock or queues up for it; every answer but [`Locked::Busy`] is possible.
    ///
    /// After [`Locked::Waiting`] the session's next step is [`LockTable::wait`].
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn acquire(
        &self,
        session: &mut Session,
        key: &[u8],
        mode: &Mode,
        now: Instant,
    ) -> Result<Outcome<Locked>, NotStored> {
        let queue_up = |session: &mut Session, key: &LockKey, lock: &mut Lock| {
            if self.is_stopping() {
                return Placed::Stopping;
            }
            match self.claim_for_waiter(session, lock) {
                Some(full) => Placed::QueueFull(full),
                None => {
                    self.queue_up(session, mode, now, key, lock);
                    Placed::Queued
                }
            }
        };
        let placed = self.place(session, key, mode, now, queue_up)?;
        let circle = match placed {
            Placed::Queued => self.enter_wait_graph(session),
            Placed::QueueFull(_) => self.circle(session, key),
            _ => None,
        };
        match circle {
            Some(circle) => Ok(Outcome::free(Locked::Deadlock(circle))),
            None => Ok(self.told(session, placed)),
        }
    }

    /// For a request that does not wait and found the lock busy: the circle that it would close if
    /// it waited.
    pub(super) fn circle(&self, session: &Session, key: &[u8]) -> Option<Circle> {
        if session.held() == 0 {
            // A session that holds nothing closes no circle, and need not take the graph's mutex.
            return None;
        }
        let waits = interleave::lock(&self.waits);
        self.find_circle(&waits, session, &LockKey::new(key))
    }

    /// Looks up the key, once for each request, and decides under its guard. `busy` decides if
    /// other sessions hold the lock.
    fn place(
        &self,
        session: &mut Session,
        key: &[u8],
        mode: &Mode,
        now: Instant,
        busy: impl FnOnce(&mut Session, &LockKey, &mut Lock) -> Placed,
    ) -> Result<Placed, NotStored> {
        session.assert_idle();
        self.changes.accept()?;
        session.held.notice_losses();
        session.held.make_room(self.is_held_by(session.number));
        let placed = self.locks.at(LockKey::new(key), |place| match place {
            Place::Free(free) => self.take(session, mode, now, free),
            Place::Held(key, lock) => match lock.admission(session.number, mode) {
                Admission::Mine(token) => Placed::Again(Grant {
                    session: session.number,
                    key: key.clone(),
                    token,
                }),
                Admission::Conflict => Placed::Conflict,
                Admission::Joinable => self.join(session, mode, now, key, lock),
                Admission::Busy => busy(session, key, lock),
            },
        });
        self.store_new(session);
        Ok(placed)
    }

    fn told(&self, session: &Session, placed: Placed) -> Outcome<Locked> {
        let (value, claim) = match placed {
            Placed::Acquired(claim) => (Locked::Acquired, claim),
            Placed::Again(grant) => (Locked::Again, Claim::Again(grant)),
            Placed::Queued => return Outcome::free(Locked::Waiting),
            Placed::Busy => return Outcome::free(Locked::Busy),
            Placed::Conflict => return Outcome::free(Locked::Conflict),
            Placed::Full(full) | Placed::QueueFull(full) => {
                return Outcome::free(Locked::Full(full));
            }
            Placed::Stopping => return Outcome::free(Locked::Stopping),
        };
        let basis = Basis::new(session.seq, Some(claim));
        Outcome { value, basis }
    }

    fn take(&self, session: &mut Session, mode: &Mode, now: Instant, free: Free<'_>) -> Placed {
        if self.is_stopping() {
            return Placed::Stopping;
        }
        if let Some(full) = self.claim_for_holder(session) {
            return Placed::Full(full);
        }
        let (number, key) = (session.number, free.key().clone());
        let lost = session.held.lost.as_ref();
        let (word, seq) = self.new_grant(number, lost, &key, mode, now);
        free.fill(Lock::new(number, mode.clone(), word));
        Placed::Acquired(self.keep(session, key, word.token(), seq))
    }

    fn join(
        &self,
        session: &mut Session,
        mode: &Mode,
        now: Instant,
        key: &LockKey,
        lock: &mut Lock,
    ) -> Placed {
        if self.is_stopping() {
            return Placed::Stopping;
        }
        if let Some(full) = self.claim_for_holder(session) {
            return Placed::Full(full);
        }
        let (number, lost) = (session.number, session.held.lost.as_ref());
        let (word, seq) = self.new_grant(number, lost, key, mode, now);
        lock.join(number, word);
        Placed::Acquired(self.keep(session, key.clone(), word.token(), seq))
    }

    /// Makes a new grant. Called under the key's guard, so that the tokens of one key only grow,
    /// and are stored in the order of their numbers.
    pub(super) fn new_grant(
        &self,
        session: SessionNumber,
        lost: Option<&Arc<LostLocks>>,
        key: &LockKey,
        mode: &Mode,
        now: Instant,
    ) -> (GrantWord, Seq) {
        if let Some(lost) = lost {
            lost.forget(self.locks.hash(key.as_bytes()));
        }
        let token = Token(self.last_token.fetch_add(1, Ordering::Relaxed) + 1);
        let grant = GrantRef {
            session,
            key,
            token,
        };
        let lease = self.limits.max_hold;
        let seq = self.store_grant(grant, mode, lease);
        (self.leased(grant, lost, lease, now), seq)
    }

    /// The word of a grant. Its lease, if it has one, begins `now`.
    pub(super) fn leased(
        &self,
        grant: GrantRef<'_>,
        lost: Option<&Arc<LostLocks>>,
        lease: Option<Duration>,
        now: Instant,
    ) -> GrantWord {
        debug_assert!(
            lease.is_none() || lost.is_some(),
            "the session is told of the end of a lease"
        );
        let (token, lease) = (grant.token, lease.zip(lost));
        let is_leased = lease.is_some();
        if let Some((lease, lost)) = lease {
            self.leases
                .set(grant.to_grant(), Arc::clone(lost), lease, now);
        }
        GrantWord::new(token, is_leased)
    }

    pub(super) fn store_grant(
        &self,
        grant: GrantRef<'_>,
        mode: &Mode,
        lease: Option<Duration>,
    ) -> Seq {
        self.changes.push(|| {
            let stored = StoredGrant {
                session: grant.session,
                key: Key::new(grant.key.as_bytes()),
                mode: mode.clone(),
                lease,
            };
            Change::Granted(grant.token, stored)
        })
    }

    /// Adds a grant to the session's list.
    pub(super) fn keep(
        &self,
        session: &mut Session,
        key: LockKey,
        token: Token,
        granted: Seq,
    ) -> Claim {
        session.seq = granted.max(session.seq);
        let claim = match session.may_lose() || self.changes.are_kept() {
            true => Claim::New(Grant {
                session: session.number,
                key: key.clone(),
                token,
            }),
            false => Claim::Listed(token),
        };
        session.held.add(key, token);
        claim
    }

    /// Makes grants that are told apart by their keys of those that are [listed](Claim::Listed) so
    /// far. To be called when the session has its first lease, before it releases anything.
    pub fn name_grants<'a>(&self, session: &Session, bases: impl Iterator<Item = &'a mut Basis>) {
        for basis in bases {
            if let Some(Claim::Listed(token)) = basis.claim()
                && let Some(grant) = self.listed_grant(session, *token)
            {
                basis.set_claim(Claim::New(grant));
            }
        }
    }

    /// The grant with this token that is in the session's list.
    pub fn listed_grant(&self, session: &Session, token: Token) -> Option<Grant> {
        let key = session.held.key_of(token)?;
        Some(Grant {
            session: session.number,
            key,
            token,
        })
    }

    /// Claims a place for one more lock of the session, or returns the limit that forbids it.
    fn claim_for_holder(&self, session: &Session) -> Option<Limit> {
        let max = self.limits.locks_per_session;
        if session.held() >= max {
            return Some(Limit::LocksPerSession { max });
        }
        let max = self.limits.locks;
        let one_more = |count: usize| (count < max).then_some(count + 1);
        match self
            .claims
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
        {
            Ok(_) => None,
            Err(_) => Some(Limit::Locks { max }),
        }
    }

    /// `None` if one more request of the session may wait for this lock, and is counted then.
    fn claim_for_waiter(&self, session: &Session, lock: &Lock) -> Option<Limit> {
        let max = self.limits.waiters_per_key;
        if lock.waiters() >= max {
            return Some(Limit::WaitersPerKey { max });
        }
        self.claim_for_holder(session)
    }
}
