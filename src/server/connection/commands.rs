//! Runs requests: one arm for each command.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, trace};

use super::{Connection, Gone};
use crate::config::{Compat, TEN_YEARS_MS};
use crate::model::{Key, Mode, NotStored, SessionId};
use crate::protocol::{BadRequest, Reply, Request, StateReply, Stats};
use crate::server::log_lines;
use crate::server::session_guard::{tidy, unlock_all};
use crate::server::transport::Transport;
use crate::table::{Locked, NotHeld, Outcome, Unlocked};

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
            Request::SetTimeout { grace_ms } => return self.set_timeout(grace_ms),
            Request::ConnId => return self.conn_id(),
            Request::Resume { id } => match SessionId::parse(id) {
                Some(id) => return ControlFlow::Break(Pause::Resume(id)),
                None => return self.free(&Reply::CannotSetConnId),
            },
            Request::Stats => return self.free(&Reply::Stats(self.stats())),
            Request::Debug => return ControlFlow::Break(Pause::Debug),
            Request::Echo { words } => return self.free(&Reply::Echo(words)),
            Request::Help => return self.free(&Reply::Help),
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

    fn tell(&mut self, answer: Result<Outcome<StateReply>, NotStored>) {
        match answer {
            Ok(Outcome { value, basis }) => self.answer(&value, basis),
            Err(why) => self.reply(&Reply::NotStored(why)),
        }
    }

    fn free(&mut self, reply: &Reply<'_>) -> ControlFlow<Pause> {
        self.reply(reply);
        ControlFlow::Continue(())
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
            Locked::Acquired | Locked::Again => {
                return self.answer(&StateReply::Acquired, outcome.basis);
            }
            Locked::Busy | Locked::Conflict | Locked::Waiting => Reply::Unavailable,
            Locked::Deadlock(circle) => Reply::Deadlock(circle),
            Locked::Full(limit) => {
                log_lines::limit_reached(&self.shared, self.session.number(), limit);
                Reply::Full(limit)
            }
            Locked::Stopping => Reply::ShuttingDown,
        };
        self.reply(&reply);
    }

    fn unlock(&mut self, key: &[u8]) -> ControlFlow<Pause> {
        let nodejs = self.shared.config.compat == Compat::Nodejs;
        let table = &self.shared.table;
        let released = table.unlock(&mut self.session, key, self.now);
        let passes_on = released
            .as_ref()
            .is_ok_and(|outcome| outcome.value == Unlocked::Released { passed_on: true });
        let reply = |unlocked| match unlocked {
            Unlocked::Released { .. } => StateReply::Unlocked,
            Unlocked::NotHeld(NotHeld::NotLocked) if nodejs => StateReply::Unlocked,
            Unlocked::NotHeld(why) => not_held(why),
        };
        self.tell(released.map(|outcome| outcome.map(reply)));
        match passes_on {
            true => {
                self.shared.handover_spin.handed_over();
                // The new holder should be told first: all others wait for it.
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
        // What was granted before is checked while it is held.
        if self.pending.has_unchecked() {
            self.settle_pending().await?;
        }
        let basis = unlock_all(&self.shared, &mut self.session).await;
        self.answer(&StateReply::Ok, basis);
        Ok(())
    }

    fn token(&self, key: &[u8]) -> Outcome<StateReply> {
        let token = self.shared.table.token(&self.session, key);
        token.map(|token| token.map_or_else(not_held, StateReply::Token))
    }

    fn expire(&mut self, key: &[u8], lease_ms: u64) -> Result<Outcome<StateReply>, NotStored> {
        let lease = match lease_ms.min(TEN_YEARS_MS) {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        };
        let (table, now) = (&self.shared.table, self.shared.clock.now());
        let could_lose = self.session.may_lose();
        let set = table.set_lease(&mut self.session, key, lease, now)?;
        if !could_lose && self.session.may_lose() {
            // From now on the session may lose what earlier replies tell of.
            table.name_grants(&self.session, self.pending.unchecked());
        }
        Ok(set.map(|set| set.map_or_else(not_held, |()| StateReply::Ok)))
    }

    fn set_timeout(&mut self, grace_ms: u64) -> ControlFlow<Pause> {
        let max_ms = self.shared.config.max_grace_ms;
        if grace_ms > max_ms {
            return self.free(&Reply::Bad(BadRequest::GraceTooLong { max_ms }));
        }
        let grace = Duration::from_millis(grace_ms);
        let set = self.shared.table.set_grace(&mut self.session, grace);
        self.tell(set.map(|set| set.map(|()| StateReply::TimeoutSet)));
        ControlFlow::Continue(())
    }

    fn conn_id(&mut self) -> ControlFlow<Pause> {
        let Self {
            shared, session, ..
        } = self;
        match shared.table.session_id(session, || shared.entropy.secret()) {
            Ok(Ok(id)) => self.tell(Ok(id.map(StateReply::ConnId))),
            Ok(Err(error)) => {
                error!("no randomness for a session id: {error}");
                self.reply(&Reply::Failed("No randomness for a session id"));
            }
            Err(why) => self.reply(&Reply::NotStored(why)),
        }
        ControlFlow::Continue(())
    }

    async fn resume(&mut self, id: SessionId) {
        // The connection's own session ends, and may still list many locks that it has lost.
        tidy(&self.shared, &mut self.session).await;
        let (table, own) = (&self.shared.table, self.session.number());
        let from = log_lines::peer(&self.shared, id.number);
        let Some(resumed) = table.resume(&mut self.session, id, self.shared.clock.now()) else {
            return self.reply(&Reply::CannotSetConnId);
        };
        if id.number != own {
            log_lines::resumed(&self.shared, &self.session, &from);
        }
        self.tell(Ok(resumed.map(|()| StateReply::ConnIdSet)));
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

    /// The end that `quit` makes of the connection, once all that came before is answered.
    async fn quit(&mut self) -> Result<Gone, Gone> {
        self.flush().await?;
        let mut last_answer = Reply::Bye;
        if self.shared.config.compat == Compat::Nodejs {
            let released = unlock_all(&self.shared, &mut self.session).await;
            let durable = tokio::select! {
                biased;
                durable = self.shared.table.changes().durable(released.seq()) => durable,
                order = self.session.signal().cut_off() => return Err(order.into()),
            };
            if let Err(why) = durable {
                last_answer = Reply::NotStored(why);
            }
        }
        Ok(Gone::Quit(last_answer))
    }
}

fn not_held(why: NotHeld) -> StateReply {
    match why {
        NotHeld::Expired => StateReply::Expired,
        NotHeld::NotYours => StateReply::NotYours,
        NotHeld::NotLocked => StateReply::NotLocked,
    }
}
