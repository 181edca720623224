//! An operator takes a lock from whoever has it.
//!
//! A connection runs its session's requests without looking whether the session still has what it was
//! granted: most sessions never lose a lock without their doing. So whoever takes one says so first, to
//! the session's entry in the registry and by the signal of its connection, and only then ends the
//! grant. The connection looks at its signal before each answer leaves, so that nothing is told of a
//! lock which was taken before.

use std::time::Instant;

use super::grant::Grant;
use super::holders::Hold;
use super::lock::Lock;
use super::lock_key::LockKey;
use super::lost_locks::Loss;
use super::outcome::{NotHeld, Outcome};
use super::session::Session;
use super::trail::{End, Why};
use super::{LockTable, interleave};
use crate::count::Batch;
use crate::model::{Holder, NotStored, Seq, SessionNumber, Token};
use crate::store::Room;

/// A part of the grants of a key that was taken from their holders.
#[derive(Debug)]
pub struct Revoked {
    /// How many grants were looked at.
    pub looked_at: usize,
    /// Those that were ended.
    pub grants: Vec<Grant>,
    /// The last grant that is meant: to whom the lock passes meanwhile has a later token, and keeps it.
    pub last: Token,
}

impl LockTable {
    /// Takes a lock from its holders, whoever they are; it passes to the next waiters. Looks at no more
    /// than `most` grants with tokens up to `last`, and ends those that are not over meanwhile; `None`
    /// stands for all that there are. A caller goes on with the [last](Revoked::last) token until it
    /// looked at fewer.
    ///
    /// A session is told `revoked` when it asks for the lock, as it is told `expired`, and its answers
    /// that have not left by then say that it does not have it.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn revoke_some(
        &self,
        session: &mut Session,
        key: &[u8],
        last: Option<Token>,
        most: usize,
        now: Instant,
    ) -> Result<Outcome<Result<Revoked, NotHeld>>, NotStored> {
        self.tokens.advance(now);
        session.assert_idle();
        self.changes.accept(Room::NotNeeded)?;
        let meant = self.locks.with(key, |key: &LockKey, lock: &mut Lock| {
            // Under the guard, so that it is no less than the token of any holder.
            let last = last.unwrap_or_else(|| self.last_token());
            let is_meant = |one: &(Holder, Hold)| one.1.word.token() <= last;
            let grants = lock.holders().filter(is_meant).take(most);
            let grants = grants.map(|(holder, hold)| Grant {
                holder,
                key: key.clone(),
                token: hold.word.token(),
            });
            (grants.collect(), last)
        });
        let Some((mut grants, last)): Option<(Vec<Grant>, Token)> = meant else {
            let last = self.changes.last();
            return Ok(Outcome::durable(Err(NotHeld::NotLocked), last));
        };
        let looked_at = grants.len();
        grants.retain(|grant| {
            interleave::between_guards();
            let by = session.number;
            let revoked = self.revoke(grant, by, now, &mut session.holds);
            session.seq = session.seq.max(revoked.unwrap_or_default());
            revoked.is_some()
        });
        self.counters.revocations.add(grants.len() as u64);
        let revoked = Revoked {
            looked_at,
            grants,
            last,
        };
        Ok(Outcome::durable(Ok(revoked), self.last_change(session)))
    }

    /// Ends this very grant, unless it has ended, and returns the change that this is.
    fn revoke(
        &self,
        grant: &Grant,
        by: SessionNumber,
        now: Instant,
        holds: &mut Batch,
    ) -> Option<Seq> {
        let _revoking = interleave::lock(&self.revoking);
        let lost = match grant.holder {
            Holder::Session(number) => self.sessions.losses_by_revocation(number),
            Holder::Owner(_) => None,
        };
        interleave::between_guards();
        let hash = self.locks.hash(grant.key.as_bytes());
        let end = End::by(by, Why::Revoked);
        let release = self.release_grant(grant, end, now, holds, |_| {
            if let Some(lost) = lost {
                lost.add(hash, grant.token, Loss::Revoked);
            }
            true
        })?;
        Some(release.seq)
    }
}
