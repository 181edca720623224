//! Runs requests: one arm for each command.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, trace};

use super::{Connection, Gone};
use crate::config::{Compat, TEN_YEARS_MS};
use crate::model::{
    Ask, AskedFor, Key, Limit, Mode, NotResumed, NotStored, Owner, SessionId, SessionNumber,
};
use crate::protocol::{
    AskedMode, BadRequest, KeysAsked, KnownState, Owned, Reply, Request, SessionAsked, StateReply,
    Stats,
};
use crate::server::figures;
use crate::server::log_lines;
use crate::server::session_guard::unlock_all;
use crate::server::transport::Transport;
use crate::table::{Locked, NotHeld, Outcome, Unlocked};

/// What must be done before the connection's next line is looked at.
pub(super) enum Pause {
    Auth {
        name: Option<Vec<u8>>,
        password: Vec<u8>,
    },
    /// Tasks that are ready get their turn.
    Turn,
    /// The connection's turn is over.
    TurnOver,
    /// The connection rests, as there are more commands than its address or its user may send.
    Rest(Limit),
    /// The answers so far are sent, as there are enough of them.
    Flush,
    /// The request waits for a lock, no longer than this.
    Wait {
        deadline: Instant,
    },
    LockAll {
        keys: Vec<Key>,
        wait: Duration,
    },
    Watch {
        key: Key,
        known: Option<KnownState>,
        wait: Duration,
    },
    UnlockAll,
    Break(Key),
    ForceUnlock(Key),
    Kick(SessionNumber),
    /// The same, of the session with this name.
    KickNamed(Key),
    SetConnId(SessionId),
    Resume(SessionId),
    Locks {
        which: KeysAsked,
        after: Option<Vec<u8>>,
    },
    Sessions {
        after: SessionNumber,
    },
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
            Request::Auth { user, password } => {
                let (name, password) = (user.map(<[u8]>::to_vec), password.to_vec());
                return ControlFlow::Break(Pause::Auth { name, password });
            }
            Request::Lock {
                key,
                mode: AskedMode::Exclusive,
                wait,
                owned: None,
            } => return self.lock(key, &PLAIN, wait),
            Request::Lock {
                key,
                mode,
                wait,
                owned,
            } => return self.lock(key, &ask(mode, owned), wait),
            Request::LockAll { wait, keys } => {
                let keys = keys.into_iter().map(Key::new).collect();
                return ControlFlow::Break(Pause::LockAll { keys, wait });
            }
            Request::Unlock { key, owner } => return self.unlock(key, owner.map(Owner::new)),
            Request::UnlockAll => return ControlFlow::Break(Pause::UnlockAll),
            Request::Token { key, owner } => Ok(self.token(key, owner.map(Owner::new))),
            Request::Expire {
                key,
                lease_ms,
                owner,
            } => self.expire(key, lease_ms, owner.map(Owner::new)),
            Request::SetMode { key, value, owner } => {
                return self.set_mode(key, value, owner.map(Owner::new));
            }
            Request::Break { key } => return ControlFlow::Break(Pause::Break(Key::new(key))),
            Request::ForceUnlock { key } => {
                return ControlFlow::Break(Pause::ForceUnlock(Key::new(key)));
            }
            Request::Kick { who } => {
                return ControlFlow::Break(match who {
                    SessionAsked::Number(number) => Pause::Kick(number),
                    SessionAsked::Named(name) => Pause::KickNamed(Key::new(name)),
                });
            }
            Request::Watch { key, known, wait } => {
                let key = Key::new(key);
                return ControlFlow::Break(Pause::Watch { key, known, wait });
            }
            Request::SetTimeout { grace_ms } => return self.set_timeout(grace_ms),
            Request::ConnId => return self.conn_id(),
            Request::SetConnId { id } => match SessionId::parse(id) {
                Some(id) => return ControlFlow::Break(Pause::SetConnId(id)),
                None => return self.free(&Reply::CannotSetConnId(NotResumed::Unknown)),
            },
            Request::Resume { id } => match SessionId::parse(id) {
                Some(id) => return ControlFlow::Break(Pause::Resume(id)),
                None => return self.free(&Reply::CannotResume(NotResumed::Unknown)),
            },
            Request::Name { name } => {
                self.shared.table.set_name(&self.session, Key::new(name));
                return self.free(&Reply::Done);
            }
            Request::Info => {
                let info = figures::info(&self.shared, self.is_passed_on);
                return self.free(&Reply::Info(info));
            }
            Request::Locks { which, after } => {
                return ControlFlow::Break(Pause::Locks { which, after });
            }
            Request::Sessions { after } => {
                return ControlFlow::Break(Pause::Sessions { after });
            }
            Request::Stats => return self.free(&Reply::Stats(self.stats())),
            Request::Debug => return ControlFlow::Break(Pause::Debug),
            Request::Drain => {
                let by = log_lines::named_at_peer(&self.shared, self.session.number());
                let by_user = log_lines::by_user(&self.shared, &self.session);
                self.shared.begin_drain(&by, by_user);
                return self.free(&Reply::Done);
            }
            Request::Failover => {
                let reply = self.shared.hand_over(self.session.number());
                return self.free(&reply);
            }
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
            Pause::Turn if !self.account.is_over_with(Duration::ZERO) => {
                tokio::task::yield_now().await;
            }
            Pause::Turn | Pause::TurnOver => self.give_turn().await?,
            Pause::Rest(limit) => Box::pin(self.rest(limit)).await?,
            // The caller flushes after every pause.
            Pause::Flush => {}
            Pause::Auth { name, password } => Box::pin(self.auth(name, password)).await?,
            Pause::Wait { deadline } => self.wait_for_lock(deadline).await?,
            // Boxed, so that what most pauses are, a wait, is small.
            Pause::LockAll { keys, wait } => Box::pin(self.lock_all(keys, wait)).await?,
            Pause::Watch { key, known, wait } => Box::pin(self.watch(key, known, wait)).await?,
            Pause::UnlockAll => Box::pin(self.unlock_all()).await?,
            Pause::Break(key) => Box::pin(self.break_lock(&key)).await?,
            Pause::ForceUnlock(key) => Box::pin(self.force_unlock(&key)).await?,
            Pause::Kick(number) => Box::pin(self.kick(number)).await?,
            Pause::KickNamed(name) => Box::pin(self.kick_named(name)).await?,
            Pause::SetConnId(id) => Box::pin(self.set_conn_id(id)).await,
            Pause::Resume(id) => Box::pin(self.resume(id)).await?,
            Pause::Locks { which, after } => Box::pin(self.list_locks(which, after)).await?,
            Pause::Sessions { after } => Box::pin(self.list_sessions(after)).await?,
            Pause::Debug => Box::pin(self.debug()).await?,
            Pause::Quit => return Err(self.quit().await?),
            Pause::Foreign => {
                self.flush().await?;
                return Err(Gone::Foreign);
            }
        }
        Ok(())
    }

    pub(super) fn tell(&mut self, answer: Result<Outcome<StateReply>, NotStored>) {
        match answer {
            Ok(Outcome { value, basis }) => self.answer(&value, basis),
            Err(why) => self.reply(&Reply::NotStored(why)),
        }
    }

    fn free(&mut self, reply: &Reply<'_>) -> ControlFlow<Pause> {
        self.reply(reply);
        ControlFlow::Continue(())
    }

    fn lock(&mut self, key: &[u8], ask: &Ask, wait: Duration) -> ControlFlow<Pause> {
        let waits = !wait.is_zero() && !self.input_ended;
        let (table, session) = (&self.shared.table, &mut *self.session);
        let may_close_circles = session.may_close_circles();
        let outcome = match waits {
            true => table.acquire(session, key, ask, wait, self.now),
            false => table.try_acquire(session, key, ask, self.now),
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
        match is_refused && may_close_circles {
            true => ControlFlow::Break(Pause::Turn),
            false => ControlFlow::Continue(()),
        }
    }

    pub(super) fn answer_lock(&mut self, outcome: Outcome<Locked>) {
        match outcome.value {
            Locked::Acquired | Locked::Again => {
                self.answer(&StateReply::Acquired, outcome.basis);
            }
            refused => self.refuse_lock(refused, Reply::Unavailable),
        }
    }

    /// Answers a request that got no lock; by `unavailable`, if others hold it.
    pub(super) fn refuse_lock(&mut self, refused: Locked, unavailable: Reply<'_>) {
        let reply = match refused {
            Locked::Deadlock(circle) => {
                log_lines::deadlock(&self.shared, &circle);
                Reply::Deadlock(circle.showing(|key| self.may_see(key)))
            }
            Locked::Full(limit) => {
                log_lines::limit_reached(&self.shared, self.session.number(), limit);
                Reply::Full(limit)
            }
            Locked::Draining => Reply::Draining,
            Locked::Stopping => Reply::ShuttingDown,
            _ => unavailable,
        };
        self.reply(&reply);
    }

    fn unlock(&mut self, key: &[u8], owner: Option<Owner>) -> ControlFlow<Pause> {
        let nodejs = self.shared.config.compat == Compat::Nodejs;
        let table = &self.shared.table;
        let released = table.unlock(&mut self.session, key, owner.as_ref(), self.now);
        let passes_on = released
            .as_ref()
            .is_ok_and(|outcome| outcome.value == Unlocked::Released { passed_on: true });
        let reply = |unlocked| match unlocked {
            Unlocked::Released { .. } => StateReply::Unlocked,
            Unlocked::NotHeld(NotHeld::NotLocked) if nodejs && owner.is_none() => {
                StateReply::Unlocked
            }
            Unlocked::NotHeld(why) => not_held(why),
        };
        self.tell(released.map(|outcome| outcome.map(reply)));
        match passes_on {
            true => self.handed_over(),
            false => ControlFlow::Continue(()),
        }
    }

    fn handed_over(&self) -> ControlFlow<Pause> {
        self.shared.handover_spin.handed_over();
        // The new holder should be told first: all others wait for it.
        ControlFlow::Break(Pause::Turn)
    }

    async fn unlock_all(&mut self) -> Result<(), Gone> {
        if let Err(why) = self.shared.table.accepts_releases() {
            self.reply(&Reply::NotStored(why));
            return Ok(());
        }
        self.settle_earlier().await?;
        let signal = self.session.signal().clone();
        // Whoever takes the session over while this goes on has what is left by then.
        let basis = tokio::select! {
            biased;
            basis = unlock_all(&self.shared, &mut self.session) => basis,
            order = signal.cut_off() => return Err(order.into()),
        };
        self.answer(&StateReply::Ok, basis);
        Ok(())
    }

    fn token(&self, key: &[u8], owner: Option<Owner>) -> Outcome<StateReply> {
        let token = self.shared.table.token(&self.session, key, owner.as_ref());
        token.map(|token| token.map_or_else(not_held, StateReply::Token))
    }

    fn set_mode(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        owner: Option<Owner>,
    ) -> ControlFlow<Pause> {
        let mode = value.map_or(Mode::Exclusive, |value| Mode::Shared(Key::new(value)));
        let (table, session) = (&self.shared.table, &mut *self.session);
        match table.set_mode(session, key, owner.as_ref(), &mode, self.now) {
            Ok(Outcome { value, basis }) => match value {
                Ok(true) => self.answer(&StateReply::Ok, basis),
                Ok(false) => self.reply(&Reply::Unavailable),
                Err(why) => self.answer(&not_held(why), basis),
            },
            Err(why) => self.reply(&Reply::NotStored(why)),
        }
        match mode {
            // Waiters may have been let in.
            Mode::Shared(_) => ControlFlow::Break(Pause::Turn),
            Mode::Exclusive | Mode::Slot(_) => ControlFlow::Continue(()),
        }
    }

    fn expire(
        &mut self,
        key: &[u8],
        lease_ms: u64,
        owner: Option<Owner>,
    ) -> Result<Outcome<StateReply>, NotStored> {
        let lease = lease_of(lease_ms);
        let (table, now) = (&self.shared.table, self.shared.clock.now());
        let could_lose = self.session.may_lose();
        let set = table.set_lease(&mut self.session, key, owner.as_ref(), lease, now)?;
        if !could_lose && self.session.may_lose() {
            // From now on the session may lose what earlier replies tell of.
            table.name_grants(&self.session, self.pending.bases());
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

/// What most requests ask for.
static PLAIN: Ask = Ask {
    mode: Mode::Exclusive,
    holder: AskedFor::Session,
};

fn ask(mode: AskedMode<'_>, owned: Option<Owned<'_>>) -> Ask {
    let mode = match mode {
        AskedMode::Exclusive => Mode::Exclusive,
        AskedMode::Shared(value) => Mode::Shared(Key::new(value)),
        AskedMode::Slot(slots) => Mode::Slot(slots),
    };
    let holder = match owned {
        None => AskedFor::Session,
        Some(Owned { owner, lease_ms }) => AskedFor::Owner(Owner::new(owner), lease_of(lease_ms)),
    };
    Ask { mode, holder }
}

fn lease_of(lease_ms: u64) -> Option<Duration> {
    match lease_ms.min(TEN_YEARS_MS) {
        0 => None,
        ms => Some(Duration::from_millis(ms)),
    }
}

pub(super) fn not_held(why: NotHeld) -> StateReply {
    match why {
        NotHeld::Expired => StateReply::Expired,
        NotHeld::Revoked => StateReply::Revoked,
        NotHeld::NotYours => StateReply::NotYours,
        NotHeld::NotLocked => StateReply::NotLocked,
    }
}
