//! The table, made from what a store has kept.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::LockTable;
use super::claims::ClaimFor;
use super::grant::GrantRef;
use super::held_keys::HeldKeys;
use super::holders::Hold;
use super::lock::Lock;
use super::lock_key::LockKey;
use super::map::Place;
use super::registry::Grace;
use super::tokens::TokenClock;
use crate::model::{Change, Restored, RestoredSession, StoredGrant};
use crate::model::{Holder, Limits, SessionNumber, Token, Visible};
use crate::store::Changes;

/// The stored state contradicts itself: a lock has two holders that exclude each other.
#[derive(Debug, thiserror::Error)]
#[error("it contradicts itself: {first} and {second} both hold the lock {}", Visible(.key.as_bytes()))]
pub struct Contradiction {
    key: LockKey,
    first: Holder,
    second: Holder,
}

impl LockTable {
    /// A table with all locks that the store has kept, held by sessions whose grace periods begin
    /// at `now`, and take `least_grace` at the least: the caller ends them by [`LockTable::end_grace`], as
    /// after [`LockTable::detach`]. Leases begin anew, too. The limits apply to new requests, not to what is restored.
    ///
    /// The grants of a session that the store does not know are over. Either no client was told of
    /// them, since an answer rests on the session being stored, too; or the session was over, and
    /// the last server ended before it had released them all.
    ///
    /// The tokens of new grants are those of `tokens`, and above all that the store knows of.
    ///
    /// # Errors
    ///
    /// If two sessions hold a lock that only one can hold.
    pub fn restore(
        limits: Limits,
        tokens: TokenClock,
        changes: Changes,
        restored: Restored,
        (now, least_grace): (Instant, Duration),
    ) -> Result<(Self, Vec<Grace>), Contradiction> {
        let tokens = tokens.and_above(restored.tokens_above);
        let table = Self::with_room_for(restored.grants.len(), limits, tokens, changes);
        table.sessions.count_from(restored.session_numbers_above);
        let numbers = restored.sessions.iter().map(|session| session.number);
        let mut held: HashMap<SessionNumber, HeldKeys> = numbers
            .map(|number| (number, HeldKeys::default()))
            .collect();
        for (token, stored) in restored.grants {
            let held = match &stored.holder {
                Holder::Owner(_) => None,
                Holder::Session(number) => match held.get_mut(number) {
                    Some(held) => Some(held),
                    None => {
                        table.sessions.count_from(*number);
                        let over = table.changes.push(|| Change::Released(token));
                        table.changes.write(over);
                        continue;
                    }
                },
            };
            table.restore_grant(held, token, stored, now)?;
        }
        let sessions = restored.sessions.into_iter();
        let graces = sessions
            .filter_map(|session| {
                let held = held.remove(&session.number).unwrap_or_default();
                table.restore_session(session, held, (now, least_grace))
            })
            .collect();
        Ok((table, graces))
    }

    fn restore_session(
        &self,
        session: RestoredSession,
        mut held: HeldKeys,
        times: (Instant, Duration),
    ) -> Option<Grace> {
        held.stored = true;
        if self.limits.max_hold.is_some() {
            held.lost.get_or_insert_default();
        }
        if held.count() == 0 && session.secret.is_none() {
            // It holds nothing, and without a secret no client can resume it.
            let over = self.changes.push(|| Change::SessionOver(session.number));
            self.changes.write(over);
            return None;
        }
        Some(self.sessions.restore(session, held, times))
    }

    /// Restores a grant; `held` is the list of its session.
    fn restore_grant(
        &self,
        held: Option<&mut HeldKeys>,
        token: Token,
        stored: StoredGrant,
        now: Instant,
    ) -> Result<(), Contradiction> {
        let StoredGrant { holder, mode, .. } = stored;
        let lease = self.bounded(stored.lease);
        let mut held = held;
        let losses = held.as_mut().map(|held| &mut held.lost);
        let lost = losses.filter(|_| lease.is_some());
        let lost = lost.map(|lost| &*lost.get_or_insert_default());
        let key = LockKey::new(stored.key.as_bytes());
        let grant = GrantRef {
            holder: (&holder).into(),
            key: &key,
            token,
        };
        let word = self.leased(grant, lost, lease, now);
        let taker = match &holder {
            Holder::Session(session) => *session,
            // Nobody stands for it.
            Holder::Owner(_) => SessionNumber(0),
        };
        let hold = Hold::new(word, taker);
        let key = self.locks.at(key, |place| match place {
            Place::Free(free) => {
                let key = free.key().clone();
                self.claims.restore(ClaimFor::NewKey);
                free.fill(Lock::new((&holder).into(), &mode, hold));
                Ok(key)
            }
            Place::Held(key, lock) => {
                self.claims.restore(ClaimFor::HeldKey);
                let first = lock.holders().map(|(first, _)| first).next();
                match lock.restore(holder.clone(), &mode, hold) {
                    true => Ok(key.clone()),
                    false => Err(Contradiction {
                        key: key.clone(),
                        first: first.unwrap_or_else(|| holder.clone()),
                        second: holder,
                    }),
                }
            }
        })?;
        if let Some(held) = held {
            // A new list needs no tidying.
            held.make_room(|_, _| true);
            held.add(key, token);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use std::time::Duration;

    use crate::model::{Key, Mode, Peer, Secret, SessionId, digest};
    use crate::table::Locked;
    use crate::table::plain::{PlainTable, test_limits};

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
                user: None,
            }],
            ..Restored::default()
        };
        let changes = Changes::default();
        let restored = LockTable::restore(
            limits,
            TokenClock::default(),
            changes,
            restored,
            (now, Duration::ZERO),
        );
        let (table, graces) = restored.expect("nothing contradicts itself");
        let table = PlainTable(table);
        assert_eq!(graces.len(), 1);
        let mut session = table.open(Peer::Unix(None), second);
        let id = SessionId {
            number: SessionNumber(7),
            secret: Secret(5),
        };
        assert!(table.resume(&mut session, id, now));
        let answer = table.lock(&mut session, b"k", &Mode::Exclusive, now);
        assert_eq!(answer, Locked::Acquired);
        assert_eq!(table.next_lease_end(), Some(now + second));
    }

    #[test]
    fn restored_slots_are_as_many_as_the_last_of_their_holders_asked_for() {
        let (now, slots) = (Instant::now(), |count| {
            Mode::Slot(NonZeroU32::new(count).expect("not zero"))
        });
        let grant = |token, owner: &[u8], count| {
            let stored = StoredGrant {
                holder: Holder::Owner(Key::new(owner)),
                key: Key::new(b"k"),
                mode: slots(count),
                lease: None,
            };
            (Token(token), stored)
        };
        let restored = Restored {
            // One after another of them asked for fewer slots than were taken at the end.
            grants: vec![grant(5, b"a", 3), grant(6, b"b", 3), grant(7, b"c", 2)],
            ..Restored::default()
        };
        let (clock, changes) = (TokenClock::default(), Changes::default());
        let restored = LockTable::restore(
            test_limits(),
            clock,
            changes,
            restored,
            (now, Duration::ZERO),
        );
        let (table, _) = restored.expect("nothing contradicts itself");
        let view = table.lock_view(b"k", 10).expect("it is held");
        assert_eq!((view.holders_in_all, view.mode), (3, slots(2)));
    }

    /// The client was never told of them, or the session was over already when the last server
    /// ended.
    #[test]
    fn the_grants_of_a_session_that_the_store_does_not_know_are_over() {
        let now = Instant::now();
        let stored = StoredGrant {
            holder: Holder::Session(SessionNumber(7)),
            key: Key::new(b"k"),
            mode: Mode::Exclusive,
            lease: None,
        };
        let restored = Restored {
            grants: vec![(Token(5), stored)],
            ..Restored::default()
        };
        let restored = LockTable::restore(
            test_limits(),
            TokenClock::default(),
            Changes::default(),
            restored,
            (now, Duration::ZERO),
        );
        let (table, graces) = restored.expect("nothing contradicts itself");
        assert_eq!((table.held(), graces.len()), (0, 0));
        let second = Duration::from_secs(1);
        assert!(table.open(Peer::Unix(None), second).number() > SessionNumber(7));
    }
}
