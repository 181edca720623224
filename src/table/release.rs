//! The one way out of a lock: released by its holder, given back, ended by a lease, or with its
//! session.

use std::time::{Duration, Instant};

use super::grant::{Grant, GrantWord};
use super::lease::EndedLease;
use super::lock::{Lock, Released};
use super::lock_key::LockKey;
use super::outcome::{Basis, Claim, NotHeld, Outcome, Unlocked};
use super::session::Session;
use super::waiters::Waiter;
use super::{LockTable, interleave};
use crate::model::{Change, Seq};
use crate::model::{Key, NotStored, SessionNumber, Token};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A grant that is over.
struct Release {
    token: Token,
    seq: Seq,
    passed_on: bool,
}

impl LockTable {
    /// Releases a lock; with waiters, it passes to the next in the same step.
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
        let claim = session.may_lose().then_some(Claim::Released(release.token));
        Ok(Outcome {
            value: Unlocked::Released {
                passed_on: release.passed_on,
            },
            basis: Basis {
                seq: session.seq,
                claim,
            },
        })
    }

    /// Releases at most `most` of the session's locks. Returns how many may be left: those, and locks
    /// that it has lost and still has in its list. A caller with many to release gives way to others
    /// in between. For a session's own request, [`LockTable::accepts_changes`] is asked first; the end
    /// of a session asks nobody.
    pub fn unlock_some(&self, session: &mut Session, most: usize, now: Instant) -> Outcome<usize> {
        session.assert_idle();
        for key in session.held.take_some(most) {
            if let Some(release) = self.release(session.number, key.as_bytes(), now) {
                session.held.uncount(1);
                session.seq = release.seq;
            }
        }
        session.held.notice_losses();
        Outcome::durable(session.held.listed(), session.seq)
    }

    /// Looks at no more than `most` of what the session lists, if it lists far more than it holds, since
    /// it lost very much; false once that is not so. Freeing takes time, too, so a caller gives way to
    /// others in between.
    pub fn tidy_some(&self, session: &mut Session, most: usize) -> bool {
        session.held.notice_losses();
        if session.held.is_overlong() {
            let is_held = self.is_held_by(session.number);
            session.held.tidy_some(most, is_held);
        }
        session.held.is_overlong()
    }

    /// Takes back a grant that the client was not told of. If the session has let go of it since,
    /// nothing happens, though it may hold the key by another grant; and `session` may be another one
    /// than that of the grant by now. Nobody waits for the release; it is written all the same.
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
                basis: Basis {
                    seq: session.seq,
                    claim: Some(Claim::Held(grant)),
                },
            },
            None => self.why_not_held(session, key).map(Err),
        }
    }

    /// Makes a lock that the session holds end by itself, `lease` from `now`, unless this is called
    /// again before; `None` takes the limit off. [`Limits::max_hold`](crate::model::Limits::max_hold)
    /// goes first. Refused as not held if the session does not hold it: a lease that has ended cannot
    /// be renewed.
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
        let lost = lease.map(|_| Arc::clone(session.held.lost.get_or_insert_default()));
        let set = |key: &LockKey, lock: &mut Lock| {
            let token = lock.grant_mut(number)?.token();
            let grant = Grant {
                session: number,
                key: key.clone(),
                token,
            };
            if lease.is_none() {
                self.leases.remove(token);
            }
            let seq = self.store_grant(&grant, &lock.mode(), lease);
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

    /// Looks at no more than `most` of the leases that are over at `now`, and ends those that are
    /// neither renewed nor released meanwhile. Returns how many it looked at, and what ended; the
    /// locks pass to the next waiters. While the server stops no lease ends.
    pub fn end_leases(&self, now: Instant, most: usize) -> (usize, Vec<EndedLease>) {
        if self.is_stopping() {
            return (0, Vec::new());
        }
        let due = self.leases.due(now, most);
        let ended = due.iter().filter_map(|over| {
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
                key: Key::new(over.key.as_bytes()),
                token: over.token,
                held: now.saturating_duration_since(since?),
            })
        });
        let ended = ended.collect();
        (due.len(), ended)
    }

    /// When the next lease ends.
    pub fn next_lease_end(&self) -> Option<Instant> {
        self.leases.next_end()
    }

    /// Returns when there may be a lease that ends sooner than all others did. Cancel safe, for one
    /// caller at a time.
    pub async fn sooner_lease(&self) {
        self.leases.sooner().await;
    }

    pub(super) fn bounded(&self, lease: Option<Duration>) -> Option<Duration> {
        lease.into_iter().chain(self.limits.max_hold).min()
    }

    /// Takes the session off the lock's holders; `None` if its lease had ended before.
    fn release(&self, session: SessionNumber, key: &[u8], now: Instant) -> Option<Release> {
        self.release_if(session, key, now, |word| self.unlease(*word))
    }

    /// Ends the lease of a grant that is let go of, if it has one.
    fn unlease(&self, word: GrantWord) -> bool {
        if word.is_leased() {
            self.leases.remove(word.token());
        }
        true
    }

    /// The one place where a lock is let go of: the session's grant ends if there is one and `ends`
    /// says so, which is asked under the guard and must have taken the grant's lease away then. The
    /// next waiters have the lock in the same step, except while the server stops: then nobody has.
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
