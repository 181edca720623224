//! A holder changes the mode in which it holds a key.

use std::time::Instant;

use super::LockTable;
use super::grant::GrantRef;
use super::lock::{Lock, ModeChange};
use super::lock_key::LockKey;
use super::outcome::{Claim, NotHeld, Outcome};
use super::session::Session;
use super::waiters::Waiter;
use crate::model::{Mode, NotStored, Owner};
use crate::store::Room;

impl LockTable {
    /// Makes a lock that the session holds, or `owner`, exclusive, or a shared one by a value; false if
    /// that cannot be at this time, because others share it, or ever, because it has slots or another
    /// value. The grant and its lease stay. Nobody waits for it; from exclusive to shared, the
    /// waiters whose turn it is then are let in in the same step.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn set_mode(
        &self,
        session: &mut Session,
        key: &[u8],
        owner: Option<&Owner>,
        mode: &Mode,
        now: Instant,
    ) -> Result<Outcome<Result<bool, NotHeld>>, NotStored> {
        session.assert_idle();
        self.changes.accept(Room::Needed)?;
        let holder = session.or_owner(owner);
        let set = |key: &LockKey, lock: &mut Lock| {
            let token = lock.make_known(holder)?.token();
            let own = GrantRef { holder, key, token };
            let change = lock.can_become(mode);
            let mut granted = Vec::new();
            if change == ModeChange::Possible {
                // Stored before the grants of those who are let in.
                let seq = self.store_grant(own, mode, self.leases.length(token));
                session.seq = session.seq.max(seq);
                let grant = |next: &Waiter| self.grant_to_waiter(next, key, now);
                granted = lock.set_mode(mode, (!self.is_stopping()).then_some(grant));
            }
            Some((change, own.to_grant(), granted))
        };
        let Some((change, grant, granted)) = self.locks.with(key, set).flatten() else {
            return Ok(self.why_not_held(session, holder, key).map(Err));
        };
        self.wake_all(&granted);
        if change == ModeChange::Impossible {
            return Ok(Outcome::free(Ok(false)));
        }
        let seq = self.last_change_of(session, holder);
        Ok(Outcome::claiming(Ok(true), seq, Claim::Held(grant)))
    }
}
