//! How a grant ends: it is released by its holder, given back, broken, ended by its lease, or
//! released with its session.

use std::time::{Duration, Instant};

use super::claims::ClaimFor;
use super::grant::{Grant, GrantRef, GrantWord};
use super::holders::{Hold, HolderRef};
use super::lease::EndedLease;
use super::lock::{Lock, Passed};
use super::lock_key::LockKey;
use super::lost_locks::Loss;
use super::outcome::{Basis, Claim, NotHeld, Outcome, Unlocked};
use super::session::Session;
use super::trail::{End, Event, Why};
use super::waiters::Waiter;
use super::{LockTable, interleave};
use crate::count::Batch;
use crate::model::{Change, Holder, NotStored, Owner, Seq, Token};
use crate::store::Room;
use std::sync::atomic::Ordering;

/// The end of a grant.
pub(super) struct Release {
    token: Token,
    pub(super) seq: Seq,
    passed_on: bool,
}

/// A part of an owners' lock that was broken.
#[derive(Debug)]
pub struct Broken {
    /// How many grants were looked at.
    pub looked_at: usize,
    /// Those that were ended.
    pub grants: Vec<Grant>,
}

impl LockTable {
    /// Releases a lock of the session, or of `owner`; it passes to the next waiter, if there is one,
    /// in the same step.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn unlock(
        &self,
        session: &mut Session,
        key: &[u8],
        owner: Option<&Owner>,
        now: Instant,
    ) -> Result<Outcome<Unlocked>, NotStored> {
        session.assert_idle();
        self.changes.accept(Room::NotNeeded)?;
        let holder = session.or_owner(owner);
        let by = owner.map(|_| session.number);
        let end = End {
            why: Why::Unlocked,
            by,
        };
        let Some(release) = self.release(holder, key, end, now, &mut session.holds) else {
            let why = self.why_not_held(session, holder, key);
            return Ok(why.map(Unlocked::NotHeld));
        };
        if owner.is_none() {
            session.held.remove(key, self.is_held_by(session.number));
        }
        session.seq = session.seq.max(release.seq);
        let claim = Some(Claim::Released(release.token));
        Ok(Outcome {
            value: Unlocked::Released {
                passed_on: release.passed_on,
            },
            basis: Basis::new(session.seq, claim),
        })
    }

    /// Frees a lock that is held by owner words, whoever they are: looks at no more than `most` of their
    /// grants with tokens up to `last`, and ends those that are not over meanwhile. Refused if a session
    /// holds the key by such a token, or if no owner does and a session has it. A caller goes on until
    /// it looked at fewer; to whom the lock passes meanwhile has a later token, and keeps it.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn break_some(
        &self,
        session: &mut Session,
        key: &[u8],
        last: Token,
        most: usize,
        now: Instant,
    ) -> Result<Outcome<Result<Broken, NotHeld>>, NotStored> {
        self.tokens.advance(now);
        session.assert_idle();
        self.changes.accept(Room::NotNeeded)?;
        let is_meant = |hold: &Hold| hold.word.token() <= last;
        let owners = self.locks.with(key, |key, lock| {
            let owners = lock.owners().filter(|(_, hold)| is_meant(hold));
            let grants = owners.take(most).map(|(holder, hold)| Grant {
                holder: holder.clone(),
                key: key.clone(),
                token: hold.word.token(),
            });
            let grants: Vec<_> = grants.collect();
            let mut sessions = lock.holders().take_while(|(one, _)| one.is_session());
            // Any at all, if no owner is meant.
            let is_refused = sessions.any(|(_, hold)| is_meant(&hold) || grants.is_empty());
            (!is_refused).then_some(grants)
        });
        let Some(Some(mut grants)) = owners else {
            let why = match owners {
                None => NotHeld::NotLocked,
                Some(_) => NotHeld::NotYours,
            };
            return Ok(Outcome::durable(Err(why), self.last_change(session)));
        };
        let looked_at = grants.len();
        grants.retain(|grant| {
            interleave::between_guards();
            let end = End::by(session.number, Why::Broken);
            let holds = &mut session.holds;
            let Some(release) = self.release_grant(grant, end, now, holds, |_| true) else {
                return false;
            };
            session.seq = session.seq.max(release.seq);
            true
        });
        let broken = Broken { looked_at, grants };
        Ok(Outcome::durable(Ok(broken), self.last_change(session)))
    }

    /// Releases at most `most` of the session's locks. Returns how many entries its list still has:
    /// locks that are left, and locks that it has lost. A caller with many locks to release yields to
    /// other tasks between two calls. A session's own request asks [`LockTable::accepts_releases`]
    /// first; at the end of a session, locks are released also while nothing can be stored.
    pub fn unlock_some(&self, session: &mut Session, most: usize, now: Instant) -> Outcome<usize> {
        self.tokens.advance(now);
        session.assert_idle();
        let end = End::by_itself(session.over.unwrap_or(Why::Unlocked));
        for key in session.held.take_some(most) {
            let holder = HolderRef::Session(session.number);
            let holds = &mut session.holds;
            if let Some(release) = self.release(holder, key.as_bytes(), end, now, holds) {
                session.held.uncount(1);
                session.seq = release.seq;
            }
        }
        // Its session may be over, and have no more turns.
        self.counters.holds.add_rest(&mut session.holds);
        self.notice_losses(session);
        let left = session.held.listed();
        let claim = (left == 0).then(|| Claim::ReleasedAll(self.tokens.last()));
        Outcome {
            value: left,
            basis: Basis::new(session.last_change(), claim),
        }
    }

    /// If the session's list is much longer than what it holds, since it has lost many locks, looks at
    /// `most` entries and frees those of lost locks. Returns whether the list is still too long. A
    /// caller yields to other tasks between two calls, since freeing takes time, too.
    pub fn tidy_some(&self, session: &mut Session, most: usize) -> bool {
        self.notice_losses(session);
        if session.held.is_overlong() {
            let is_held = self.is_held_by(session.number);
            session.held.tidy_some(most, is_held);
        }
        session.held.is_overlong()
    }

    /// Takes back a grant that the client was not told of, unless another client was told that its owner
    /// has it. Nothing happens if the holder has released it since, even if it holds the key by another
    /// grant. `session` is the one that the connection speaks for now, which may be another than the
    /// grant's. The release is written although no answer waits for it.
    pub fn give_back(&self, session: &mut Session, grant: &Grant, now: Instant) {
        let is_unknown = |lock: &Lock| {
            let hold = lock.hold_of(&grant.holder);
            hold.is_none_or(|hold| !hold.is_known)
        };
        self.take_back_if(session, grant, Why::NotTold, now, is_unknown);
    }

    /// Takes back a grant of which no client was told, as it could not be stored.
    pub fn take_back(&self, session: &mut Session, grant: &Grant, now: Instant) {
        self.take_back_if(session, grant, Why::NotStored, now, |_| true);
    }

    /// `may_end` is called under the guard.
    fn take_back_if(
        &self,
        session: &mut Session,
        grant: &Grant,
        why: Why,
        now: Instant,
        may_end: impl FnOnce(&Lock) -> bool,
    ) {
        let end = End::by_itself(why);
        let released = self.release_grant(grant, end, now, &mut session.holds, may_end);
        // The connection may be over, and have no more turns.
        self.counters.holds.add_rest(&mut session.holds);
        let Some(release) = released else {
            return;
        };
        if grant.holder == Holder::Session(session.number) {
            let key = grant.key.as_bytes();
            session.held.remove(key, self.is_held_by(session.number));
            session.seq = session.seq.max(release.seq);
        }
        self.changes.write(release.seq);
    }

    /// Takes back grants that were made together, so that the store has all of them or none.
    pub fn take_back_all<'a>(
        &self,
        session: &mut Session,
        grants: impl Iterator<Item = &'a Grant> + Clone,
        now: Instant,
    ) {
        let over = grants.clone().map(|grant| Change::Released(grant.token));
        self.changes.push_all(over);
        for grant in grants {
            self.take_back(session, grant, now);
        }
    }

    /// Whether the holder of the grant still has it.
    pub fn is_granted(&self, grant: &Grant) -> bool {
        let word = |_: &LockKey, lock: &mut Lock| lock.grant_of((&grant.holder).into());
        let word = self.locks.with(grant.key.as_bytes(), word).flatten();
        word.is_some_and(|word| word.token() == grant.token)
    }

    /// The fencing token of a lock that the session holds, or `owner`.
    pub fn token(
        &self,
        session: &Session,
        key: &[u8],
        owner: Option<&Owner>,
    ) -> Outcome<Result<Token, NotHeld>> {
        let holder = session.or_owner(owner);
        let grant = |key: &LockKey, lock: &mut Lock| {
            Some(Grant {
                key: key.clone(),
                token: lock.make_known(holder)?.token(),
                holder: holder.to_holder(),
            })
        };
        match self.locks.with(key, grant).flatten() {
            Some(grant) => {
                let seq = match owner {
                    None => session.seq,
                    Some(_) => self.last_change(session),
                };
                Outcome::claiming(Ok(grant.token), seq, Claim::Held(grant))
            }
            None => self.why_not_held(session, holder, key).map(Err),
        }
    }

    /// Makes a lock that the session holds, or `owner`, end by itself, `lease` from `now`, unless this
    /// is called again before; `None` takes the lease off. Either way
    /// [`Limits::max_hold`](crate::model::Limits::max_hold) is the longest lease. Refused as not
    /// held if the lock is not held: a lease that has ended cannot be renewed.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn set_lease(
        &self,
        session: &mut Session,
        key: &[u8],
        owner: Option<&Owner>,
        lease: Option<Duration>,
        now: Instant,
    ) -> Result<Outcome<Result<(), NotHeld>>, NotStored> {
        session.assert_idle();
        self.changes.accept(Room::NotNeeded)?;
        let lease = self.bounded(lease);
        let holder = session.or_owner(owner);
        if owner.is_none() && lease.is_some() && session.held.lost.is_none() {
            session.held.lost = self.sessions.losses_to_come(session.number);
        }
        let losses = session.held.lost.as_ref();
        let set = |key: &LockKey, lock: &mut Lock| {
            let token = lock.make_known(holder)?.token();
            let grant = GrantRef { holder, key, token };
            if lease.is_none() {
                self.leases.remove(token);
            }
            let seq = self.store_grant(grant, &lock.mode(), lease);
            *lock.grant_mut(holder)? = self.leased(grant, losses, lease, now);
            Some((seq, grant.to_grant()))
        };
        Ok(match self.locks.with(key, set).flatten() {
            Some((seq, grant)) => {
                session.seq = session.seq.max(seq);
                Outcome {
                    value: Ok(()),
                    // A session's own lock that is lost meanwhile was held when this was done.
                    basis: Basis::new(seq, owner.map(|_| Claim::Held(grant))),
                }
            }
            None => self.why_not_held(session, holder, key).map(Err),
        })
    }

    /// Looks at no more than `most` of the leases that are over at `now`, and ends the grants of
    /// all leases among them that are neither renewed nor released meanwhile; the locks pass to the
    /// next waiters. Returns how many leases it looked at, and the ended ones. From a stop on no lease
    /// ends.
    pub fn end_leases(&self, now: Instant, most: usize) -> (usize, Vec<EndedLease>) {
        self.tokens.advance(now);
        if self.is_stopping() {
            return (0, Vec::new());
        }
        let (due, mut holds) = (self.leases.due(now, most), Batch::default());
        let ended = due.iter().filter_map(|over| {
            if self.is_stopping() {
                return None;
            }
            interleave::between_guards();
            let hash = self.locks.hash(over.key.as_bytes());
            let mut since = None;
            let is_over = |_: &Lock, word: &GrantWord| {
                if word.token() == over.token {
                    since = self.leases.remove_due(over.token, now, hash);
                }
                since.is_some()
            };
            let (holder, end) = ((&over.holder).into(), End::by_itself(Why::LeaseEnded));
            self.release_if(holder, over.key.as_bytes(), end, now, &mut holds, is_over)?;
            Some(EndedLease {
                holder: over.holder.clone(),
                key: over.key.clone(),
                token: over.token,
                held: now.saturating_duration_since(since?),
            })
        });
        let ended = ended.collect();
        self.counters.holds.add_rest(&mut holds);
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

    /// The longest lease, if every lock has one.
    pub fn longest_hold(&self) -> Option<Duration> {
        self.limits.max_hold
    }

    pub(super) fn bounded(&self, lease: Option<Duration>) -> Option<Duration> {
        lease.into_iter().chain(self.limits.max_hold).min()
    }

    /// Takes the holder off the lock's holders; `None` if it is not among them, perhaps because its
    /// lease has ended.
    fn release(
        &self,
        holder: HolderRef<'_>,
        key: &[u8],
        end: End,
        now: Instant,
        holds: &mut Batch,
    ) -> Option<Release> {
        self.release_if(holder, key, end, now, holds, |_, word| self.unlease(*word))
    }

    /// Ends this very grant, if `may_end` returns true under the guard; `None` if it has ended, or does
    /// not end.
    pub(super) fn release_grant(
        &self,
        grant: &Grant,
        end: End,
        now: Instant,
        holds: &mut Batch,
        may_end: impl FnOnce(&Lock) -> bool,
    ) -> Option<Release> {
        let is_it = |lock: &Lock, word: &GrantWord| {
            word.token() == grant.token && may_end(lock) && self.unlease(*word)
        };
        let holder = (&grant.holder).into();
        self.release_if(holder, grant.key.as_bytes(), end, now, holds, is_it)
    }

    /// Removes the lease of a released grant, if it has one. Always true, as an answer to
    /// [`LockTable::release_if`].
    fn unlease(&self, word: GrantWord) -> bool {
        if word.is_leased() {
            self.leases.remove(word.token());
        }
        true
    }

    /// The one place where a grant ends: if the holder has the key and `ends` returns true.
    /// `ends` is called under the guard, and has removed the grant's lease when it returns true.
    /// The next waiters have the lock in the same step; while the server stops they are refused
    /// instead. How long the grant lasted is added to `holds`.
    fn release_if(
        &self,
        holder: HolderRef<'_>,
        key: &[u8],
        end: End,
        now: Instant,
        holds: &mut Batch,
        ends: impl FnOnce(&Lock, &GrantWord) -> bool,
    ) -> Option<Release> {
        let mut granted = Vec::new();
        let (mut released, mut is_shown) = (None, false);
        let mut claim = ClaimFor::HeldKey;
        self.locks.remove_if(key, |key, lock| {
            let Some(word) = lock.grant_of(holder).filter(|word| ends(lock, word)) else {
                return false;
            };
            let token = word.token();
            let seq = self.changes.push(|| Change::Released(token));
            self.note_change(holder, seq);
            if let HolderRef::Owner(_) = holder {
                self.owned.remove(token);
            }
            self.trail.tell(|| Event::Ended {
                grant: GrantRef { holder, key, token }.to_grant(),
                held: self.tokens.age(token, now),
                end,
            });
            is_shown = self.watches.may_watch(|| self.locks.hash(key.as_bytes()))
                && lock.first_granted().1 == token;
            released = Some((token, seq));
            if self.is_stopping() {
                self.claims.leave(lock.refuse_waiters());
            }
            let grant = |next: &Waiter| self.grant_to_waiter(next, key, now);
            match lock.release(holder, grant) {
                Passed::Free => {
                    claim = ClaimFor::NewKey;
                    true
                }
                Passed::Held(waiters) => {
                    granted = waiters;
                    false
                }
            }
        });
        let (token, seq) = released?;
        self.claims.release(claim);
        if let Some(ticks) = self.tokens.ticks_since(token) {
            self.counters.holds.add_later(holds, ticks);
        }
        self.wake_all(&granted);
        if is_shown {
            self.watches.changed(self.locks.hash(key));
        }
        let passed_on = !granted.is_empty();
        Some(Release {
            token,
            seq,
            passed_on,
        })
    }

    /// Why the holder of a grant that is over, without its doing, does not hold the key any more.
    pub fn why_lost(&self, grant: &Grant) -> NotHeld {
        let key = grant.key.as_bytes();
        match &grant.holder {
            Holder::Session(number) => {
                let lost = self.sessions.losses(*number);
                let why = lost.and_then(|lost| lost.why(self.locks.hash(key)));
                why.unwrap_or(Loss::Expired).into()
            }
            Holder::Owner(_) => self.why_not_mine(key),
        }
    }

    fn why_not_mine(&self, key: &[u8]) -> NotHeld {
        match self.locks.is_held(key) {
            true => NotHeld::NotYours,
            false => NotHeld::NotLocked,
        }
    }

    pub(super) fn why_not_held(
        &self,
        session: &Session,
        holder: HolderRef<'_>,
        key: &[u8],
    ) -> Outcome<NotHeld> {
        let lost = match holder {
            HolderRef::Session(number) if session.may_lose() => self.sessions.losses(number),
            HolderRef::Session(_) | HolderRef::Owner(_) => None,
        };
        match lost.and_then(|lost| lost.why(self.locks.hash(key))) {
            // It was not the session that released it.
            Some(Loss::Revoked) => Outcome::durable(NotHeld::Revoked, self.changes.last()),
            Some(Loss::Expired) => Outcome::durable(NotHeld::Expired, session.last_change()),
            None => {
                let last = self.last_change_of(session, holder);
                Outcome::durable(self.why_not_mine(key), last)
            }
        }
    }

    /// The last change that an answer about what the holder has or has not rests on. An owner's lock
    /// may have been released by any session.
    pub(super) fn last_change_of(&self, session: &Session, holder: HolderRef<'_>) -> Seq {
        match holder {
            HolderRef::Session(_) => session.last_change(),
            HolderRef::Owner(_) => self.last_change(session),
        }
    }

    /// Notes a change of a grant to this holder. Called under the key's guard.
    pub(super) fn note_change(&self, holder: HolderRef<'_>, seq: Seq) {
        if let HolderRef::Owner(_) = holder {
            self.last_owner_change.fetch_max(seq.0, Ordering::Relaxed);
        }
    }

    /// The last change of any owner's lock.
    pub fn last_owner_change(&self) -> Seq {
        Seq(self.last_owner_change.load(Ordering::Relaxed))
    }

    /// The last change that the session or any owner made.
    pub(super) fn last_change(&self, session: &Session) -> Seq {
        session.last_change().max(self.last_owner_change())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ask, AskedFor, Mode, Peer};
    use crate::table::plain::{PlainTable, test_table};
    use crate::table::{Ending, Locked};

    const KEY: &[u8] = b"k";

    /// A session that waits for the key for the owner `o`, and was granted it a moment ago.
    fn granted_unnoticed(table: &PlainTable, now: Instant) -> Session {
        let mut holder = table.open(Peer::Unix(None), Duration::ZERO);
        let mut waiter = table.open(Peer::Unix(None), Duration::ZERO);
        let answer = table.lock(&mut holder, KEY, &Mode::Exclusive, now);
        assert_eq!(answer, Locked::Acquired);
        let ask = Ask {
            mode: Mode::Exclusive,
            holder: AskedFor::Owner(Owner::new(b"o"), None),
        };
        assert_eq!(
            table.ask_or_wait(&mut waiter, KEY, &ask, now),
            Locked::Waiting
        );
        table.end(holder, now);
        waiter
    }

    #[test]
    fn a_grant_to_an_owner_that_nobody_was_told_of_is_taken_back() {
        let (table, now) = (test_table(), Instant::now());
        let mut waiter = granted_unnoticed(&table, now);
        assert!(!table.settle(&mut waiter, Ending::Disconnect, now));
        assert_eq!(table.held(), 0);
    }

    /// By another connection the application knows that its owner has the lock.
    #[test]
    fn a_grant_to_an_owner_of_which_another_connection_was_told_stays() {
        let (table, now) = (test_table(), Instant::now());
        let mut waiter = granted_unnoticed(&table, now);
        let other = table.open(Peer::Unix(None), Duration::ZERO);
        let owner = Owner::new(b"o");
        let token = LockTable::token(&table, &other, KEY, Some(&owner)).value;
        assert!(token.is_ok());
        table.settle(&mut waiter, Ending::Disconnect, now);
        let still = LockTable::token(&table, &other, KEY, Some(&owner)).value;
        assert_eq!(still, token);
    }
}
