//! The table as a store has kept it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dashmap::mapref::entry::Entry;

use super::lock::{Admission, Lock};
use super::session::{Grace, Held};
use super::{Key, Limits, LockTable, SessionNumber, Token};
use crate::store::{Change, Changes, Restored, StoredHold};

/// What was kept cannot be: a lock with two holders that exclude each other.
#[derive(Debug, thiserror::Error)]
#[error(
    "the store contradicts itself: {first} and {second} both hold the lock {}",
    .key.as_bytes().escape_ascii()
)]
pub struct Contradiction {
    key: Key,
    first: SessionNumber,
    second: SessionNumber,
}

impl LockTable {
    /// A table in which everything is held that was, by sessions whose grace periods begin at
    /// `now`: to be ended by [`LockTable::end_grace`], as after [`LockTable::detach`]. Leases begin
    /// anew, too. Bounds hold for what comes, not for what is there.
    ///
    /// Tokens are above `tokens_above` and all that the store knows of. A session that the store
    /// does not know has `default_grace` as its grace period.
    ///
    /// # Errors
    ///
    /// If two hold what one can have.
    pub fn restore(
        limits: Limits,
        tokens_above: Token,
        changes: Changes,
        restored: Restored,
        default_grace: Duration,
        now: Instant,
    ) -> Result<(Self, Vec<Grace>), Contradiction> {
        let table = Self::new(limits, tokens_above.max(restored.tokens_above), changes);
        let mut sessions: HashMap<SessionNumber, Held> = HashMap::new();
        for (token, hold) in restored.holds {
            let held = sessions.entry(hold.session).or_default();
            held.leased |= hold.lease.is_some();
            held.keys.insert(hold.key.clone());
            table.restore_hold(token, hold, now)?;
        }
        table.sessions.count_from(restored.session_numbers_above);
        let mut graces = Vec::with_capacity(sessions.len());
        for session in restored.sessions {
            let mut held = sessions.remove(&session.number).unwrap_or_default();
            held.stored = true;
            if held.keys.is_empty() && session.secret.is_none() {
                // It has nothing, and nobody can come back to it.
                let over = table.changes.push(|| Change::SessionOver(session.number));
                table.changes.write(over);
                continue;
            }
            let (number, grace) = (session.number, session.grace);
            graces.push(
                table
                    .sessions
                    .restore(number, session.secret, grace, held, now),
            );
        }
        for (number, held) in sessions {
            graces.push(
                table
                    .sessions
                    .restore(number, None, default_grace, held, now),
            );
        }
        Ok((table, graces))
    }

    fn restore_hold(
        &self,
        token: Token,
        stored: StoredHold,
        now: Instant,
    ) -> Result<(), Contradiction> {
        let StoredHold {
            session, key, mode, ..
        } = stored;
        let hold = self.leased_hold(token, session, &key, self.bounded(stored.lease), now);
        self.claims
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match self.locks.entry(key) {
            Entry::Vacant(free) => drop(free.insert(Lock::new(session, mode, hold))),
            Entry::Occupied(mut held) => match held.get().admission(session, &mode) {
                Admission::Joinable => held.get_mut().join(session, hold),
                _ => {
                    let first = held.get().holders().map(|(first, _)| first).next();
                    return Err(Contradiction {
                        key: held.key().clone(),
                        first: first.unwrap_or(session),
                        second: session,
                    });
                }
            },
        }
        Ok(())
    }
}
