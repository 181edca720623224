//! Several keys for one session, all or none: the grants of a request that takes one after another
//! ([`AskedFor::SessionWithOthers`](crate::model::AskedFor::SessionWithOthers)) count when it has
//! all of them. Until then they are neither stored nor have they leases, so that nobody but the
//! session ends them: it gives each back ([`LockTable::give_back`]), or [keeps all](LockTable::keep_all).

use std::time::Instant;

use super::grant::{Grant, GrantRef};
use super::lock::Lock;
use super::lock_key::LockKey;
use super::outcome::{Claim, Locked, OneOfSeveral, Outcome};
use super::session::Session;
use super::{LockTable, interleave};
use crate::model::Mode;

impl LockTable {
    /// Keeps the grants that a request for several keys was made, with one change of the store. The
    /// `claims` are those of its answers.
    pub fn keep_all(
        &self,
        session: &mut Session,
        claims: Vec<Claim>,
        now: Instant,
    ) -> Outcome<Locked> {
        let one = |claim| match claim {
            Claim::New(grant) => Some((grant, true)),
            Claim::Listed(token) => Some((self.listed_grant(session, token)?, true)),
            Claim::Again(grant) => Some((grant, false)),
            Claim::Held(_) | Claim::Released(_) | Claim::Several(_) => None,
        };
        let grants = claims.into_iter().filter_map(one);
        let all: Box<[OneOfSeveral]> = grants
            .map(|(grant, is_new)| OneOfSeveral { grant, is_new })
            .collect();
        let new = || all.iter().filter(|one| one.is_new).map(|one| &one.grant);
        self.store_new(session);
        let lease = self.limits.max_hold;
        let changes = new().map(|grant| GrantRef::from(grant).to_store(&Mode::Exclusive, lease));
        let seq = self.changes.push_all(changes);
        session.seq = session.seq.max(seq);
        for grant in new() {
            interleave::between_guards();
            self.begin_lease(session, grant, now);
        }
        Outcome::claiming(Locked::Acquired, session.seq, Claim::Several(all))
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
