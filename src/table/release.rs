//! How a grant ends: it is released by its holder, given back, ended by its lease, or released with
//! its session.

use std::time::{Duration, Instant};

use super::grant::{Grant, GrantRef, GrantWord};
use super::lease::EndedLease;
use super::lock::{Lock, Released};
use super::lock_key::LockKey;
use super::outcome::{Basis, Claim, NotHeld, Outcome, Unlocked};
use super::session::Session;
use super::waiters::Waiter;
use super::{LockTable, interleave};
use crate::model::{Change, Seq};
use crate::model::{NotStored, SessionNumber, Token};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The end of a grant.
struct Release {
    token: Token,
    seq: Seq,
    passed_on: bool,
}

impl LockTable {
    /// Releases a lock, which passes to the next waiter, if there is one, in the same step.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn unlock(
        &self,
        session: &mut Session,
        key: &[u8],
        now: Instant,
    ) -> Result<Outcome<Unlocked>, NotStored> {
        session.assert_idle();
        self.changes.accept()?;
        let Some(release) = self.release(session.number, key, now) else {
            let why = self.why_not_held(session, key);
            return Ok(why.map(Unlocked::NotHeld));
        };
        session.held.remove(key, self.is_held_by(session.number));
        session.seq = release.seq;
        let claim = Some(Claim::Released(release.token));
        Ok(Outcome {
            value: Unlocked::Released {
                passed_on: release.passed_on,
            },
            basis: Basis::new(session.seq, claim),
        })
    }

    /// Releases at most `most` of the session's locks. Returns how many entries its list still has:
    /// locks that are left, and locks that it has lost. A caller with many locks to release yields to
    /// other tasks between two calls. A session's own request asks [`LockTable::accepts_changes`]
    /// first; at the end of a session, locks are released also while nothing can be stored.
    pub fn unlock_some(&self, session: &mut Session, most: usize, now: Instant) -> Outcome<usize> {
        session.assert_idle();
        for key in session.held.take_some(most) {
            if let Some(release) = self.release(session.number, key.as_bytes(), now) {
                session.held.uncount(1);
                session.seq = release.seq;
            }
        }
        session.held.notice_losses();
        Outcome::durable(session.held.listed(), session.last_change())
    }

    /// If the session's list is much longer than what it holds, since it has lost many locks, looks at
    /// `most` entries and frees those of lost locks. Returns whether the list is still too long. A
    /// caller yields to other tasks between two calls, since freeing takes time, too.
    pub fn tidy_some(&self, session: &mut Session, most: usize) -> bool {
        session.held.notice_losses();
        if session.held.is_overlong() {
            let is_held = self.is_held_by(session.number);
            session.held.tidy_some(most, is_held);
        }
        session.held.is_overlong()
    }

    /// Takes back a grant that the client was not told of. Nothing happens if the session has
    /// released it since, even if it holds the key by another grant. `session` is the one that the
    /// connection speaks for now, which may be another than the grant's. The release is written
    /// although no answer waits for it.
    pub fn give_back(&self, session: &mut Session, grant: &Grant, now: Instant) {
        let key = grant.key.as_bytes();
        let is_it = |word: &GrantWord| word.token() == grant.token && self.unlease(*word);
        let Some(release) = self.release_if(grant.session, key, now, is_it) else {
            return;
        };
        if session.number == grant.session {
            session.held.remove(key, self.is_held_by(session.number));
            session.seq = session.seq.max(release.seq);
        }
        self.changes.write(release.seq);
    }

    /// Whether the session of the grant still has it.
    pub fn is_granted(&self, grant: &Grant) -> bool {
        let token = |_: &LockKey, lock: &mut Lock| Some(lock.grant_mut(grant.session)?.token());
        let token = self.locks.with(grant.key.as_bytes(), token).flatten();
        token == Some(grant.token)
    }

    /// The fencing token of a lock that the session holds.
    pub fn token(&self, session: &Session, key: &[u8]) -> Outcome<Result<Token, NotHeld>> {
        let number = session.number;
        let grant = |key: &LockKey, lock: &mut Lock| {
            Some(Grant {
                session: number,
                key: key.clone(),
                token: lock.grant_mut(number)?.token(),
            })
        };
        match self.locks.with(key, grant).flatten() {
            Some(grant) => Outcome {
                value: Ok(grant.token),
                basis: Basis::new(session.seq, Some(Claim::Held(grant))),
            },
            None => self.why_not_held(session, key).map(Err),
        }
    }

    /// Makes a lock that the session holds end by itself, `lease` from `now`, unless this is called
    /// again before; `None` takes the lease off. Either way
    /// [`Limits::max_hold`](crate::model::Limits::max_hold) is the longest lease. Refused as not
    /// held if the session does not hold the lock: a lease that has ended cannot be renewed.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn set_lease(
        &self,
        session: &mut Session,
        key: &[u8],
        lease: Option<Duration>,
        now: Instant,
    ) -> Result<Outcome<Result<(), NotHeld>>, NotStored> {
        session.assert_idle();
        self.changes.accept()?;
        let lease = self.bounded(lease);
        let number = session.number;
        let losses = &mut session.held.lost;
        let set = |key: &LockKey, lock: &mut Lock| {
            let token = lock.grant_mut(number)?.token();
            let lost = lease.map(|_| Arc::clone(losses.get_or_insert_default()));
            let grant = GrantRef {
                session: number,
                key,
                token,
            };
            if lease.is_none() {
                self.leases.remove(token);
            }
            let seq = self.store_grant(grant, &lock.mode(), lease);
            *lock.grant_mut(number)? = self.leased(grant, lost.as_ref(), lease, now);
            Some(seq)
        };
        Ok(match self.locks.with(key, set).flatten() {
            Some(seq) => {
                session.seq = seq;
                Outcome::durable(Ok(()), seq)
            }
            None => self.why_not_held(session, key).map(Err),
        })
    }

    /// Looks at no more than `most` of the leases that are over at `now`, and ends the grants of
    /// all leases among them that are neither renewed nor released meanwhile; the locks pass to the
    /// next waiters. Returns how many leases it looked at, and the ended ones. From a stop on no lease
    /// ends.
    pub fn end_leases(&self, now: Instant, most: usize) -> (usize, Vec<EndedLease>) {
        if self.is_stopping() {
            return (0, Vec::new());
        }
        let due = self.leases.due(now, most);
        let ended = due.iter().filter_map(|over| {
            if self.is_stopping() {
                return None;
            }
            interleave::between_guards();
            let hash = self.locks.hash(over.key.as_bytes());
            let mut since = None;
            let is_over = |word: &GrantWord| {
                if word.token() == over.token {
                    since = self.leases.remove_due(over.token, now, hash);
                }
                since.is_some()
            };
            self.release_if(over.session, over.key.as_bytes(), now, is_over)?;
            Some(EndedLease {
                session: over.session,
                key: over.key.clone(),
                token: over.token,
                held: now.saturating_duration_since(since?),
            })
        });
        let ended = ended.collect();
        (due.len(), ended)
    }

    /// When the next lease ends; `None` if there is none, and while the server stops.
    pub fn next_lease_end(&self) -> Option<Instant> {
        self.leases.next_end().filter(|_| !self.is_stopping())
    }

    /// Returns when there may be a lease that ends sooner than all others did. Cancel safe, for one
    /// caller at a time.
    pub async fn sooner_lease(&self) {
        self.leases.sooner().await;
    }

    pub(super) fn bounded(&self, lease: Option<Duration>) -> Option<Duration> {
        lease.into_iter().chain(self.limits.max_hold).min()
    }

    /// Takes the session off the lock's holders; `None` if it is not among them, perhaps because
    /// its lease has ended.
    fn release(&self, session: SessionNumber, key: &[u8], now: Instant) -> Option<Release> {
        self.release_if(session, key, now, |word| self.unlease(*word))
    }

    /// Removes the lease of a released grant, if it has one. Always true, as an answer to
    /// [`LockTable::release_if`].
    fn unlease(&self, word: GrantWord) -> bool {
        if word.is_leased() {
            self.leases.remove(word.token());
        }
        true
    }

    /// The one place where a grant ends: if the session holds the key and `ends` returns true.
    /// `ends` is called under the guard, and has removed the grant's lease when it returns true.
    /// The next waiters have the lock in the same step; while the server stops they are refused
    /// instead.
    fn release_if(
        &self,
        session: SessionNumber,
        key: &[u8],
        now: Instant,
        ends: impl FnOnce(&GrantWord) -> bool,
    ) -> Option<Release> {
        let mut granted = Vec::new();
        let mut released = None;
        self.locks.remove_if(key, |key, lock| {
            let Some(word) = lock.grant_mut(session).filter(|word| ends(word)) else {
                return false;
            };
            let token = word.token();
            released = Some((token, self.changes.push(|| Change::Released(token))));
            if self.is_stopping() {
                self.claims
                    .fetch_sub(lock.refuse_waiters(), Ordering::Relaxed);
            }
            let grant = |next: &Waiter| {
                let (number, lost) = (next.session(), next.lost());
                let (word, seq) = self.new_grant(number, lost, key, next.mode(), now);
                next.granted_by(word.token(), seq);
                word
            };
            match lock.release(session, grant) {
                Released::Free => true,
                Released::Held(waiters) => {
                    granted = waiters;
                    false
                }
            }
        });
        let (token, seq) = released?;
        self.claims.fetch_sub(1, Ordering::Relaxed);
        for waiter in &granted {
            interleave::between_guards();
            waiter.wake();
        }
        let passed_on = !granted.is_empty();
        Some(Release {
            token,
            seq,
            passed_on,
        })
    }

    fn why_not_held(&self, session: &Session, key: &[u8]) -> Outcome<NotHeld> {
        let lost = session.held.lost.as_ref();
        let why = if lost.is_some_and(|lost| lost.contains(self.locks.hash(key))) {
            NotHeld::Expired
        } else if self.locks.is_held(key) {
            NotHeld::NotYours
        } else {
            NotHeld::NotLocked
        };
        Outcome::durable(why, session.last_change())
    }
}
