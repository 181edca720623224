//! Runs requests: one arm for each command.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, trace};

use super::{Connection, Gone};
use crate::config::{Compat, TEN_YEARS_MS};
use crate::model::{Key, Limit, Mode, NotStored, SessionId};
use crate::protocol::{BadRequest, Reply, Request, Stats};
use crate::server::session_guard::{tidy, unlock_all};
use crate::server::transport::Transport;
use crate::table::{Basis, Locked, NotHeld, Outcome, Unlocked};

/// What must be done before the connection's next line is looked at.
pub(super) enum Pause {
    /// Other tasks get their turn.
    Turn,
    /// The answers so far are sent, as there are enough of them.
    Flush,
    /// The request waits for a lock, no longer than this.
    Wait {
        deadline: Instant,
    },
    UnlockAll,
    Resume(SessionId),
    Debug,
    Quit,
    /// The client speaks another protocol.
    Foreign,
}

impl<S: Transport> Connection<S> {
    /// Runs one request and appends its answer to the output, unless that needs a pause.
    pub(super) fn run(&mut self, request: Request<'_>) -> ControlFlow<Pause> {
        trace!(session = %self.session.number(), ?request);
        let answer = match request {
            Request::Lock { key, wait } => return self.lock(key, &Mode::Exclusive, wait),
            Request::LockValue { key, value, wait } => {
                return self.lock(key, &Mode::Shared(Key::new(value)), wait);
            }
            Request::Unlock { key } => return self.unlock(key),
            Request::UnlockAll => return ControlFlow::Break(Pause::UnlockAll),
            Request::Token { key } => Ok(self.token(key)),
            Request::Expire { key, lease_ms } => self.expire(key, lease_ms),
            Request::SetTimeout { grace_ms } => self.set_timeout(grace_ms),
            Request::ConnId => self.conn_id(),
            Request::Resume { id } => match SessionId::parse(id) {
                Some(id) => return ControlFlow::Break(Pause::Resume(id)),
                None => Ok(free(Reply::CannotSetConnId)),
            },
            Request::Stats => Ok(free(Reply::Stats(self.stats()))),
            Request::Debug => return ControlFlow::Break(Pause::Debug),
            Request::Echo { words } => Ok(free(Reply::Echo(words))),
            Request::Help => Ok(free(Reply::Help)),
            Request::Quit => return ControlFlow::Break(Pause::Quit),
        };
        self.tell(answer);
        ControlFlow::Continue(())
    }

    /// Answers a line that is no request.
    pub(super) fn refuse(&mut self, bad: BadRequest<'_>) -> ControlFlow<Pause> {
        self.reply(&Reply::Bad(bad));
        match bad {
            BadRequest::Foreign(_) => ControlFlow::Break(Pause::Foreign),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Does what the pause asks for.
    ///
    /// # Errors
    ///
    /// When the connection is over: by `quit`, because the client speaks another protocol, or
    /// because the connection failed.
    pub(super) async fn pause(&mut self, pause: Pause) -> Result<(), Gone> {
        match pause {
            Pause::Turn => tokio::task::yield_now().await,
            // The caller flushes after every pause.
            Pause::Flush => {}
            Pause::Wait { deadline } => self.wait_for_lock(deadline).await?,
            Pause::UnlockAll => self.unlock_all().await?,
            Pause::Resume(id) => self.resume(id).await,
            Pause::Debug => self.debug().await?,
            Pause::Quit => return Err(self.quit().await?),
            Pause::Foreign => {
                self.flush().await?;
                return Err(Gone::Foreign);
            }
        }
        Ok(())
    }

    fn tell(&mut self, answer: Result<(Reply<'_>, Basis), NotStored>) {
        match answer {
            Ok((reply, basis)) => self.answer(&reply, basis),
            Err(why) => self.reply(&Reply::NotStored(why)),
        }
    }

    fn lock(&mut self, key: &[u8], mode: &Mode, wait: Duration) -> ControlFlow<Pause> {
        let waits = !wait.is_zero() && !self.input_ended;
        let (table, session) = (&self.shared.table, &mut *self.session);
        let has_locks = session.held() > 0;
        let outcome = match waits {
            true => table.acquire(session, key, mode, self.now),
            false => table.try_acquire(session, key, mode, self.now),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(why) => {
                self.reply(&Reply::NotStored(why));
                return ControlFlow::Continue(());
            }
        };
        let is_refused = match outcome.value {
            Locked::Waiting => {
                let deadline = Instant::now() + wait;
                return ControlFlow::Break(Pause::Wait { deadline });
            }
            Locked::Busy | Locked::Deadlock(_) => true,
            _ => false,
        };
        self.answer_lock(outcome);
        // A walk of the wait-for graph may be long, and a client may cause many.
        match is_refused && has_locks {
            true => ControlFlow::Break(Pause::Turn),
            false => ControlFlow::Continue(()),
        }
    }

    pub(super) fn answer_lock(&mut self, outcome: Outcome<Locked>) {
        let reply = match outcome.value {
            Locked::Acquired | Locked::Again => Reply::Acquired,
            Locked::Busy | Locked::Conflict | Locked::Waiting => Reply::Unavailable,
            Locked::Deadlock(circle) => Reply::Deadlock(circle),
            Locked::Full(limit) => {
                self.log_limit(limit);
                Reply::Full(limit)
            }
            Locked::Stopping => Reply::ShuttingDown,
        };
        self.answer(&reply, outcome.basis);
    }

    fn log_limit(&self, limit: Limit) {
        if let Some(left_out) = self.shared.throttles.limits.pass(self.now) {
            info!(session = %self.session.number(), ?limit, left_out, "a limit is reached");
        }
    }

    fn unlock(&mut self, key: &[u8]) -> ControlFlow<Pause> {
        let nodejs = self.shared.config.compat == Compat::Nodejs;
        let table = &self.shared.table;
        let released = table.unlock(&mut self.session, key, self.now);
        let mut passed_on = false;
        let answer = released.map(|Outcome { value, basis }| match value {
            Unlocked::Released { passed_on: to_next } => {
                passed_on = to_next;
                (Reply::Unlocked, basis)
            }
            Unlocked::NotHeld(NotHeld::NotLocked) if nodejs => (Reply::Unlocked, basis),
            Unlocked::NotHeld(why) => (not_held(why), basis),
        });
        self.tell(answer);
        match passed_on {
            true => {
                self.shared.handover_spin.handed_over();
                // The new holder is answered first, as all other waiters wait for it.
                ControlFlow::Break(Pause::Turn)
            }
            false => ControlFlow::Continue(()),
        }
    }

    async fn unlock_all(&mut self) -> Result<(), Gone> {
        if let Err(why) = self.shared.table.accepts_changes() {
            self.reply(&Reply::NotStored(why));
            return Ok(());
        }
        // Earlier grants in this batch are checked while they are still held: afterwards they would
        // look lost.
        if self.pending.are_unsettled(self.session.may_lose()) {
            self.settle_pending().await?;
        }
        let seq = unlock_all(&self.shared, &mut self.session).await;
        self.answer(&Reply::Ok, Basis { seq, claim: None });
        Ok(())
    }

    fn token(&self, key: &[u8]) -> (Reply<'static>, Basis) {
        let Outcome { value, basis } = self.shared.table.token(&self.session, key);
        (value.map_or_else(not_held, Reply::Token), basis)
    }

    fn expire(&mut self, key: &[u8], lease_ms: u64) -> Result<(Reply<'static>, Basis), NotStored> {
        let lease = match lease_ms.min(TEN_YEARS_MS) {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        };
        let (table, now) = (&self.shared.table, self.shared.clock.now());
        let set = table.set_lease(&mut self.session, key, lease, now)?;
        let Outcome { value, basis } = set.map(|set| set.map_or_else(not_held, |()| Reply::Ok));
        Ok((value, basis))
    }

    fn set_timeout(&mut self, grace_ms: u64) -> Result<(Reply<'static>, Basis), NotStored> {
        let max_ms = self.shared.config.max_grace_ms;
        if grace_ms > max_ms {
            return Ok(free(Reply::Bad(BadRequest::GraceTooLong { max_ms })));
        }
        let grace = Duration::from_millis(grace_ms);
        let set = self.shared.table.set_grace(&mut self.session, grace)?;
        Ok((Reply::TimeoutSet, set.basis))
    }

    fn conn_id(&mut self) -> Result<(Reply<'static>, Basis), NotStored> {
        let Self {
            shared, session, ..
        } = self;
        let id = shared
            .table
            .session_id(session, || shared.entropy.secret())?;
        Ok(match id.value {
            Ok(known) => (Reply::ConnId(known), id.basis),
            Err(error) => {
                error!("no randomness for a session id: {error}");
                free(Reply::Failed("No randomness for a session id"))
            }
        })
    }

    async fn resume(&mut self, id: SessionId) {
        // What is left of the connection's own session goes, and may be much that it lost.
        tidy(&self.shared, &mut self.session).await;
        let (table, now, own) = (
            &self.shared.table,
            self.shared.clock.now(),
            self.session.number(),
        );
        let Outcome { value, basis } = table.resume(&mut self.session, id, now);
        if value
            && id.number != own
            && let Some(left_out) = self.shared.throttles.resumes.pass(now)
        {
            let (locks, peer) = (self.session.held(), table.peer(id.number));
            let peer = peer.map_or_else(String::new, |peer| peer.to_string());
            info!(session = %id.number, peer, locks, left_out, "a session was resumed");
        }
        match value {
            true => self.answer(&Reply::ConnIdSet, basis),
            false => self.answer(&Reply::CannotSetConnId, basis),
        }
    }

    fn stats(&self) -> Stats {
        let (monitoring, clients) = self.shared.table.session_counts();
        let locks = self.shared.table.held();
        Stats {
            clients,
            locks,
            monitoring,
        }
    }

    /// Ends the connection by `quit`, once all earlier requests are answered.
    async fn quit(&mut self) -> Result<Gone, Gone> {
        self.flush().await?;
        let mut last_answer = Reply::Bye;
        if self.shared.config.compat == Compat::Nodejs {
            let seq = unlock_all(&self.shared, &mut self.session).await;
            if let Err(why) = self.shared.table.changes().durable(seq).await {
                last_answer = Reply::NotStored(why);
            }
        }
        Ok(Gone::Quit(last_answer))
    }
}

/// A reply that may be sent at any time.
fn free(reply: Reply<'_>) -> (Reply<'_>, Basis) {
    (reply, Basis::default())
}

fn not_held(why: NotHeld) -> Reply<'static> {
    match why {
        NotHeld::Expired => Reply::Expired,
        NotHeld::NotYours => Reply::NotYours,
        NotHeld::NotLocked => Reply::NotLocked,
    }
}
