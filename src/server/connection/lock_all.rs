//! `lock_all`: several keys, all or none.

use std::time::Duration;

use tokio::time::Instant;

use super::pending_replies::give_back;
use super::waiting::Waited;
use super::{Connection, Gone};
use crate::model::{Ask, AskedFor, Key, Limit, Mode, NotStored};
use crate::protocol::{Reply, StateReply};
use crate::server::log_lines;
use crate::server::transport::Transport;
use crate::table::{Claim, Ending, Locked, OneIsLost, Outcome};

/// Why a request for several keys gets none.
enum Failed {
    /// This key was refused.
    Refused(Key, Locked),
    /// The wait for this key ended without it.
    Waited(Key, Ending),
    /// Nothing can be stored.
    NotStored(NotStored),
}

impl<S: Transport> Connection<S> {
    /// Takes the keys one after the other, in the order of their bytes: since that is the same for
    /// everyone, requests for several keys never wait for each other in a circle. What it got is given
    /// back if it does not get all, however that comes about; if this is dropped in the middle, the
    /// session ends, and with it all that it has.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub(super) async fn lock_all(&mut self, keys: Vec<Key>, wait: Duration) -> Result<(), Gone> {
        // What it has has no lease before it has all, and none may be held for longer than this.
        let longest = self.shared.table.longest_hold();
        let deadline = Instant::now() + longest.map_or(wait, |longest| wait.min(longest));
        let mut keys = keys;
        keys.sort_unstable();
        keys.dedup();
        let max = self.shared.config.max_request_keys as usize;
        if keys.len() > max {
            let limit = Limit::KeysPerRequest { max };
            log_lines::limit_reached(&self.shared, self.session.number(), limit);
            self.reply(&Reply::Full(limit));
            return Ok(());
        }
        // Answers to requests before this one are sent while what they tell of is so.
        self.flush().await?;
        let failed = loop {
            let mut claims = Vec::with_capacity(keys.len());
            let failed = self.take_all(&keys, deadline, &mut claims).await;
            if !matches!(failed, Ok(None)) {
                self.give_back_all(claims);
                break failed?;
            }
            let now = self.shared.clock.now();
            let kept = self.shared.table.keep_all(&mut self.session, &claims, now);
            let OneIsLost(at) = match kept {
                Ok(all) => {
                    self.answer(&StateReply::Acquired, all.basis);
                    return Ok(());
                }
                Err(lost) => lost,
            };
            let was_held_before = matches!(claims[at], Claim::Again(_));
            self.give_back_all(claims);
            if !was_held_before {
                // An operator has taken it.
                break Some(Failed::Refused(keys.swap_remove(at), Locked::Busy));
            }
            // A key that the session held before is lost, most often by its lease. It cannot come so
            // far a second time: whatever it takes now has no lease before it has all.
        };
        match failed {
            Some(Failed::Refused(key, why)) => {
                self.refuse_lock(why, Reply::NotAll { key, waited: false });
            }
            Some(Failed::Waited(key, why)) => {
                self.refuse_waited(why, Reply::NotAll { key, waited: true });
            }
            Some(Failed::NotStored(why)) => self.reply(&Reply::NotStored(why)),
            None => {}
        }
        Ok(())
    }

    /// Adds what it gets to `claims`, and returns why it does not get more; `None` if it has all.
    async fn take_all(
        &mut self,
        keys: &[Key],
        deadline: Instant,
        claims: &mut Vec<Claim>,
    ) -> Result<Option<Failed>, Gone> {
        self.now = self.shared.clock.now();
        for key in keys {
            self.give_way_after_work().await?;
            let has_one = claims.iter().any(|claim| claim.new_token().is_some());
            let ask = Ask {
                mode: Mode::Exclusive,
                holder: AskedFor::SessionWithOthers { has_one },
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let waits = !left.is_zero() && !self.input_ended;
            let (table, session) = (&self.shared.table, &mut *self.session);
            let now = self.shared.clock.now();
            let outcome = match waits {
                true => table.acquire(session, key.as_bytes(), &ask, left, now),
                false => table.try_acquire(session, key.as_bytes(), &ask, now),
            };
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(why) => return Ok(Some(Failed::NotStored(why))),
            };
            let Outcome { value, mut basis } = match outcome.value {
                Locked::Waiting => {
                    let waited = self.until_decided(deadline).await?;
                    // The time in which it waited is not the connection's.
                    self.now = self.shared.clock.now();
                    match waited {
                        Waited::Decided(outcome) => outcome,
                        Waited::Not(why) => return Ok(Some(Failed::Waited(key.clone(), why))),
                    }
                }
                _ => outcome,
            };
            match value {
                Locked::Acquired | Locked::Again => claims.extend(basis.take_claim()),
                refused => return Ok(Some(Failed::Refused(key.clone(), refused))),
            }
        }
        Ok(None)
    }

    fn give_back_all(&mut self, claims: Vec<Claim>) {
        for claim in claims {
            let now = self.shared.clock.now();
            give_back(&self.shared.table, &mut self.session, claim, now);
        }
    }
}
