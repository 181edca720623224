//! The table as a store has kept it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::lock::{Admission, Lock};
use super::map::Place;
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
            table.restore_hold(held, token, hold, now)?;
        }
        table.sessions.count_from(restored.session_numbers_above);
        let mut graces = Vec::with_capacity(sessions.len());
        for session in restored.sessions {
            let mut held = sessions.remove(&session.number).unwrap_or_default();
            held.stored = true;
            if limits.max_hold.is_some() {
                held.losses.get_or_insert_default();
            }
            if held.count() == 0 && session.secret.is_none() {
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
        of_session: &mut Held,
        token: Token,
        stored: StoredHold,
        now: Instant,
    ) -> Result<(), Contradiction> {
        let StoredHold { session, mode, .. } = stored;
        let lease = self.bounded(stored.lease);
        let losses = lease.map(|_| &*of_session.losses.get_or_insert_default());
        let hold = self.leased_hold(token, session, losses, &stored.key, lease, now);
        self.claims
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let key = self.locks.at(stored.key, |place| match place {
            Place::Free(free) => {
                let key = free.key().clone();
                free.fill(Lock::new(session, mode, hold));
                Ok(key)
            }
            Place::Held(key, lock) => match lock.admission(session, &mode) {
                Admission::Joinable => {
                    lock.join(session, hold);
                    Ok(key.clone())
                }
                _ => {
                    let first = lock.holders().map(|(first, _)| first).next();
                    Err(Contradiction {
                        key: key.clone(),
                        first: first.unwrap_or(session),
                        second: session,
                    })
                }
            },
        })?;
        // It is new, so there is nothing to tidy.
        of_session.make_room(|_, _| true);
        of_session.add(key, token);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RestoredSession;
    use crate::table::{Locked, Mode, Peer, Secret, SessionId, digest, test_limits};

    #[test]
    fn a_restored_session_that_held_nothing_gets_the_longest_hold_for_what_it_takes_then() {
        let (second, now) = (Duration::from_secs(1), Instant::now());
        let limits = Limits {
            max_hold: Some(second),
            ..test_limits()
        };
        let restored = Restored {
            sessions: vec![RestoredSession {
                number: SessionNumber(7),
                grace: second,
                secret: Some(digest(Secret(5))),
            }],
            ..Restored::default()
        };
        let changes = Changes::default();
        let restored = LockTable::restore(limits, Token(0), changes, restored, second, now);
        let (table, graces) = restored.expect("nothing contradicts itself");
        assert_eq!(graces.len(), 1);
        let mut session = table.open(Peer::Unix(None), second);
        let id = SessionId::parse(format!("7-{:032x}", 5).as_bytes()).expect("an id");
        assert!(table.resume(&mut session, id, now));
        let answer = table.lock(&mut session, b"k", &Mode::Exclusive, now);
        assert_eq!(answer, Locked::Acquired);
        assert_eq!(table.next_lease_end(), Some(now + second));
    }
}
