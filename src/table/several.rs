//! Several keys for one session, all or none: the grants of a request that takes one after another
//! ([`AskedFor::SessionWithOthers`](crate::model::AskedFor::SessionWithOthers)) count when it has
//! all of them. Until then they are neither stored nor have they leases, so that nobody but the
//! session ends them, or an operator: it gives each back ([`LockTable::give_back`]), or
//! [keeps all](LockTable::keep_all).

use std::time::Instant;

use super::grant::{Grant, GrantRef};
use super::lock::Lock;
use super::lock_key::LockKey;
use super::outcome::{Claim, Locked, OneOfSeveral, Outcome};
use super::session::Session;
use super::{LockTable, interleave};
use crate::model::Mode;

/// The session has lost the grant of the claim at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneIsLost(pub usize);

impl LockTable {
    /// Keeps the grants that a request for several keys was made, with one change of the store. The
    /// `claims` are those of its answers.
    ///
    /// # Errors
    ///
    /// If the session has lost one of them meanwhile: then nothing is kept, and the caller gives back
    /// what is new.
    pub fn keep_all(
        &self,
        session: &mut Session,
        claims: &[Claim],
        now: Instant,
    ) -> Result<Outcome<Locked>, OneIsLost> {
        self.store_new(session);
        // Whoever takes one of them from the session does so before this, or when it is stored: a grant
        // that is stored as over and then as made would come back with the next start.
        let revoking = interleave::lock(&self.revoking);
        let all = self.all_held(session, claims)?;
        interleave::between_guards();
        let new = || all.iter().filter(|one| one.is_new).map(|one| &one.grant);
        let lease = self.limits.max_hold;
        let changes = new().map(|grant| GrantRef::from(grant).to_store(&Mode::Exclusive, lease));
        let seq = self.changes.push_all(changes);
        drop(revoking);
        session.seq = session.seq.max(seq);
        for grant in new() {
            interleave::between_guards();
            self.begin_lease(session, grant, now);
        }
        let all = Claim::Several(all);
        Ok(Outcome::claiming(Locked::Acquired, session.seq, all))
    }

    fn all_held(
        &self,
        session: &Session,
        claims: &[Claim],
    ) -> Result<Box<[OneOfSeveral]>, OneIsLost> {
        let may_lose = session.may_lose();
        let held = claims.iter().enumerate().map(|(at, claim)| {
            let grant = match claim {
                Claim::New(grant) | Claim::Again(grant) => Some(grant.clone()),
                Claim::Listed(token) => self.listed_grant(session, *token),
                Claim::Held(_) | Claim::Released(_) | Claim::ReleasedAll(_) | Claim::Several(_) => {
                    None
                }
            };
            let grant = grant.filter(|grant| !may_lose || self.is_granted(grant));
            Ok(OneOfSeveral {
                grant: grant.ok_or(OneIsLost(at))?,
                is_new: !matches!(claim, Claim::Again(_)),
            })
        });
        held.collect()
    }

    /// Begins the longest lease that there may be, for a grant that was made without one.
    fn begin_lease(&self, session: &mut Session, grant: &Grant, now: Instant) {
        let hash = self.locks.hash(grant.key.as_bytes());
        let Some(lost) = &session.held.lost else {
            return;
        };
        lost.forget(hash);
        let Some(lease) = self.limits.max_hold else {
            return;
        };
        self.locks
            .with(grant.key.as_bytes(), |key: &LockKey, lock: &mut Lock| {
                let leased = GrantRef {
                    holder: (&grant.holder).into(),
                    key,
                    token: grant.token,
                };
                if let Some(word) = lock.grant_mut((&grant.holder).into()) {
                    *word = self.leased(leased, Some(lost), Some(lease), now);
                }
            });
    }
}
