//! Taking a lock, or a place in its queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claims::ClaimFor;
use super::grant::{Grant, GrantRef, GrantWord};
use super::holders::{Admission, Hold, HolderRef, holder_of};
use super::lock::Lock;
use super::lock_key::LockKey;
use super::lost_locks::LostLocks;
use super::map::{Free, Place};
use super::outcome::{Basis, Claim, Locked, Outcome};
use super::session::Session;
use super::tally::Accounts;
use super::trail::Event;
use super::wait_graph::Entry;
use super::waiters::{WaitTime, Waiter};
use super::{LockTable, interleave};
use crate::model::{
    Ask, AskedFor, Circle, Holder, Limit, Mode, NotStored, Seq, SessionNumber, Token,
};
use crate::store::Room;

/// The outcome of a request, as decided under the guard of its key.
pub(super) enum Placed {
    Acquired(Claim),
    Again(Grant),
    Queued,
    Busy,
    Conflict,
    Full(Limit),
    /// Others hold the lock, and there is no room in its queue.
    QueueFull(Limit),
    Draining,
    Stopping,
}

/// Who is granted a lock, and for which request.
pub(super) struct Grantee<'a> {
    pub(super) holder: HolderRef<'a>,
    pub(super) ask: &'a Ask,
    /// The session that asks.
    pub(super) taker: SessionNumber,
    /// Where a loss of the lock by the end of its lease is noted for a session.
    pub(super) lost: Option<&'a Arc<LostLocks>>,
    /// On which accounts an owner's lock is.
    pub(super) accounts: Option<&'a Accounts>,
}

impl LockTable {
    /// Takes the lock if that needs no wait. Every answer but [`Locked::Waiting`] is possible:
    /// [`Locked::Deadlock`] says that a wait would never have ended; but where very much waits,
    /// [`Locked::Busy`] may not say the contrary. That the session itself stands
    /// for the owner that has the lock is no deadlock then.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn try_acquire(
        &self,
        session: &mut Session,
        key: &[u8],
        ask: &Ask,
        now: Instant,
    ) -> Result<Outcome<Locked>, NotStored> {
        let placed = self.place(session, key, ask, now, |_, _, _| Placed::Busy)?;
        let answer = match placed {
            Placed::Busy => {
                let circle = self.circle(session, key, ask, now);
                let circle = circle.filter(|circle| circle.len() > 1);
                circle.map_or(Locked::Busy, Locked::Deadlock)
            }
            placed => return Ok(self.told(session, placed)),
        };
        Ok(Outcome::free(answer))
    }

    /// Takes the lock or queues up for it, to wait no longer than `wait`; every answer but
    /// [`Locked::Busy`] is possible.
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
        ask: &Ask,
        wait: Duration,
        now: Instant,
    ) -> Result<Outcome<Locked>, NotStored> {
        let until = now + wait;
        let queue_up = |session: &mut Session, key: &LockKey, lock: &mut Lock| {
            if let Some(turned_away) = self.turned_away(ask) {
                return turned_away;
            }
            match self.claim_for_waiter(session, ask, lock) {
                Some(full) => Placed::QueueFull(full),
                None => {
                    self.queue_up(session, ask, (now, until), key, lock);
                    Placed::Queued
                }
            }
        };
        let placed = self.place(session, key, ask, now, queue_up)?;
        let circle = match placed {
            Placed::Queued => self.enter_wait_graph(session, now),
            Placed::QueueFull(_) => self.circle(session, key, ask, until),
            _ => None,
        };
        match circle {
            Some(circle) => Ok(Outcome::free(Locked::Deadlock(circle))),
            None => Ok(self.told(session, placed)),
        }
    }

    /// For a request that is not in a queue and found the lock busy: the circle that it would close
    /// if it waited until then, as far as a short look shows one.
    pub(super) fn circle(
        &self,
        session: &Session,
        key: &[u8],
        ask: &Ask,
        until: Instant,
    ) -> Option<Circle> {
        if !session.may_close_circles() {
            // It need not take the graph's mutex.
            return None;
        }
        let time = WaitTime {
            since: until,
            until,
            paused: Duration::ZERO,
            arrival: u64::MAX,
        };
        let waiter = Arc::new(Waiter::new(session, LockKey::new(key), ask.clone(), time));
        let waits = interleave::lock(&self.waits);
        let found = self.first_look(&waits, session, &Entry::outside(waiter));
        // It need not know more.
        found.ok().flatten().map(|found| found.circle())
    }

    /// Looks up the key, once for each request, and decides under its guard. `busy` decides if
    /// others hold the lock.
    fn place(
        &self,
        session: &mut Session,
        key: &[u8],
        ask: &Ask,
        now: Instant,
        busy: impl FnOnce(&mut Session, &LockKey, &mut Lock) -> Placed,
    ) -> Result<Placed, NotStored> {
        session.assert_idle();
        self.changes.accept(Room::Needed)?;
        self.notice_losses(session);
        session.held.make_room(self.is_held_by(session.number));
        let equal_values_pass = self.limits.equal_values_pass;
        let mut was_free = false;
        let placed = self.locks.at(LockKey::new(key), |place| match place {
            Place::Free(free) => {
                was_free = true;
                self.take(session, ask, now, free)
            }
            Place::Held(key, lock) => {
                match lock.admission(session.number, ask, equal_values_pass) {
                    Admission::Mine(token) => Placed::Again(Grant {
                        holder: Holder::Session(session.number),
                        key: key.clone(),
                        token,
                    }),
                    Admission::Conflict => Placed::Conflict,
                    Admission::Joinable => self.join(session, ask, now, key, lock),
                    Admission::Busy => busy(session, key, lock),
                }
            }
        });
        if matches!(placed, Placed::Acquired(_)) {
            session.held.grants = session.held.grants.saturating_add(1);
            // Where others hold the key, its state stays what it was.
            if was_free && self.watches.may_watch(|| self.locks.hash(key)) {
                self.watches.changed(self.locks.hash(key));
            }
        }
        self.store_new(session);
        Ok(placed)
    }

    #[inline]
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
            Placed::Draining => return Outcome::free(Locked::Draining),
            Placed::Stopping => return Outcome::free(Locked::Stopping),
        };
        Outcome::claiming(value, session.seq, claim)
    }

    #[inline]
    fn take(&self, session: &mut Session, ask: &Ask, now: Instant, free: Free<'_>) -> Placed {
        if let Some(turned_away) = self.turned_away(ask) {
            // Also when there would be no room for it.
            return turned_away;
        }
        if let Some(full) = self.claim_for_holder(session, ask, ClaimFor::NewKey) {
            return Placed::Full(full);
        }
        interleave::under_guard();
        // And once more: whoever counts the keys after the phase has changed then sees this claim, or this
        // request sees the phase.
        if let Some(turned_away) = self.turned_away(ask) {
            self.claims.release(ClaimFor::NewKey);
            return turned_away;
        }
        let (holder, key) = (holder_of(ask, session.number), free.key().clone());
        let (word, seq) = self.grant_asked(session, holder, &key, ask, now);
        let taker = session.number;
        free.fill(Lock::new(holder, &ask.mode, Hold::new(word, taker)));
        Placed::Acquired(self.keep(session, holder, key, word.token(), seq))
    }

    /// Not inlined, to keep what every request runs small.
    #[inline(never)]
    fn join(
        &self,
        session: &mut Session,
        ask: &Ask,
        now: Instant,
        key: &LockKey,
        lock: &mut Lock,
    ) -> Placed {
        if let Some(turned_away) = self.turned_away(ask) {
            return turned_away;
        }
        if let Some(full) = self.claim_for_holder(session, ask, ClaimFor::HeldKey) {
            return Placed::Full(full);
        }
        let holder = holder_of(ask, session.number);
        let (word, seq) = self.grant_asked(session, holder, key, ask, now);
        let taker = session.number;
        lock.join(holder.to_holder(), &ask.mode, Hold::new(word, taker));
        Placed::Acquired(self.keep(session, holder, key.clone(), word.token(), seq))
    }

    #[inline]
    fn grant_asked(
        &self,
        session: &Session,
        holder: HolderRef<'_>,
        key: &LockKey,
        ask: &Ask,
        now: Instant,
    ) -> (GrantWord, Seq) {
        let grantee = Grantee {
            holder,
            ask,
            taker: session.number,
            lost: session.held.lost.as_ref(),
            accounts: session.accounts(),
        };
        self.new_grant(&grantee, key, now)
    }

    /// Makes a new grant. Called under the key's guard, so that the tokens of one key only grow,
    /// and are stored in the order of their numbers.
    #[inline]
    pub(super) fn new_grant(
        &self,
        grantee: &Grantee<'_>,
        key: &LockKey,
        now: Instant,
    ) -> (GrantWord, Seq) {
        let token = self.tokens.next();
        let is_for_session = matches!(grantee.ask.holder, AskedFor::Session);
        match grantee.lost.is_none() && is_for_session && !self.notes_grants {
            // Most grants are such: there is nothing to note beside the token. Without losses there is
            // no longest hold.
            true => (GrantWord::new(token, false), Seq::default()),
            false => self.note_grant(grantee, key, token, now),
        }
    }

    /// Begins the lease of a new grant, stores it, and tells the audit of it.
    #[inline(never)]
    fn note_grant(
        &self,
        grantee: &Grantee<'_>,
        key: &LockKey,
        token: Token,
        now: Instant,
    ) -> (GrantWord, Seq) {
        let Grantee {
            holder,
            ask,
            taker,
            lost,
            accounts,
        } = *grantee;
        let grant = GrantRef { holder, key, token };
        self.trail.tell(|| Event::Granted {
            grant: grant.to_grant(),
            taker,
            mode: ask.mode.clone(),
        });
        let lease = match &ask.holder {
            AskedFor::Session => self.limits.max_hold,
            AskedFor::Owner(_, lease) => {
                if let Some(accounts) = accounts {
                    self.owned.add(token, accounts);
                }
                self.bounded(*lease)
            }
            // It is stored, and its lease begins, together with the grants of the other keys.
            AskedFor::SessionWithOthers { .. } => {
                return (GrantWord::new(token, false), Seq::default());
            }
        };
        if let (HolderRef::Session(_), Some(lost)) = (holder, lost) {
            lost.forget(self.locks.hash(key.as_bytes()));
        }
        let seq = self.store_grant(grant, &ask.mode, lease);
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
        let lost = match grant.holder {
            HolderRef::Session(_) => lost,
            HolderRef::Owner(_) => None,
        };
        debug_assert!(
            lease.is_none() || lost.is_some() || matches!(grant.holder, HolderRef::Owner(_)),
            "the session is told of the end of a lease"
        );
        if let Some(lease) = lease {
            self.leases.set(grant.to_grant(), lost.cloned(), lease, now);
        }
        GrantWord::new(grant.token, lease.is_some())
    }

    pub(super) fn store_grant(
        &self,
        grant: GrantRef<'_>,
        mode: &Mode,
        lease: Option<Duration>,
    ) -> Seq {
        let seq = self.changes.push(|| grant.to_store(mode, lease));
        self.note_change(grant.holder, seq);
        seq
    }

    /// Adds a grant to the session's list, if it is the session's own.
    #[inline]
    pub(super) fn keep(
        &self,
        session: &mut Session,
        holder: HolderRef<'_>,
        key: LockKey,
        token: Token,
        granted: Seq,
    ) -> Claim {
        session.seq = granted.max(session.seq);
        if let HolderRef::Owner(_) = holder {
            session.held.has_taken_for_owners = true;
            let holder = holder.to_holder();
            return Claim::New(Grant { holder, key, token });
        }
        let claim = match session.may_lose() || self.changes.are_kept() {
            true => Claim::New(Grant {
                holder: holder.to_holder(),
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

    /// The grant with this token that is in the session's list, if the session has it still.
    pub fn listed_grant(&self, session: &Session, token: Token) -> Option<Grant> {
        let grant = |key: &LockKey| Grant {
            holder: Holder::Session(session.number),
            key: key.clone(),
            token,
        };
        let mut listed = session.held.keys_of(token).map(grant);
        listed.find(|grant| self.is_granted(grant))
    }

    /// Claims a place for one more lock, or returns the limit that forbids it.
    fn claim_for_holder(&self, session: &Session, ask: &Ask, what: ClaimFor) -> Option<Limit> {
        let max = self.limits.locks_per_session;
        if !ask.is_owned() && session.held() >= max {
            return Some(Limit::LocksPerSession { max });
        }
        if let Some(tally) = &session.held.tally
            && let Err(exhausted) = tally.may_lock(session.held())
        {
            return Some(Limit::Account(exhausted));
        }
        let max = self.limits.locks;
        (!self.claims.claim(what, max)).then_some(Limit::Locks { max })
    }

    /// `None` if one more request of the session may wait for this lock, and is counted then.
    fn claim_for_waiter(&self, session: &mut Session, ask: &Ask, lock: &Lock) -> Option<Limit> {
        let max = self.limits.waiters_per_key;
        if lock.waiters() >= max {
            return Some(Limit::WaitersPerKey { max });
        }
        if let Some(tally) = &mut session.held.tally
            && let Err(exhausted) = tally.begin_wait()
        {
            return Some(Limit::Account(exhausted));
        }
        let full = self.claim_for_holder(session, ask, ClaimFor::HeldKey);
        if full.is_some() {
            session.end_wait();
        }
        full
    }
}
