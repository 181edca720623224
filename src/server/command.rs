//! What each request does: one arm a command.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, trace};

use super::connection::{Connection, Gone};
use super::grace::unlock_all;
use super::promise::About;
use super::transport::Transport;
use crate::config::{Compat, TEN_YEARS_MS};
use crate::protocol::{BadRequest, Reply, Request, Stats};
use crate::table::{Key, Locked, Mode, NotHeld, SessionId, Unlocked};

/// What must happen before the connection's next line is looked at.
pub(super) enum Pause {
    /// Others get their turn.
    Turn,
    /// There are enough answers to be sent.
    Flush,
    /// The answer may be a while in coming.
    Lock {
        key: Key,
        mode: Mode,
        wait: Duration,
    },
    UnlockAll,
    Debug,
    Quit,
    /// There is no next line.
    Over(Gone),
}

impl From<Gone> for Pause {
    fn from(gone: Gone) -> Self {
        Self::Over(gone)
    }
}

impl<S: Transport> Connection<S> {
    /// Runs one request and appends its answer to the output, unless that needs a pause.
    ///
    /// # Errors
    ///
    /// The pause that must come now.
    pub(super) fn run(&mut self, request: Request<'_>) -> Result<(), Pause> {
        trace!(session = %self.session.number(), ?request);
        if changes_state(&request)
            && let Some(why) = self.shared.table.changes().refusal()
        {
            return Ok(self.reply(&Reply::NotStored(why))?);
        }
        let reply = match request {
            Request::Lock { key, wait } => return self.lock(key, Mode::Exclusive, wait),
            Request::LockValue { key, value, wait } => {
                return self.lock(key, Mode::Shared(Key::new(value)), wait);
            }
            Request::Unlock { key } => return self.unlock(key),
            Request::UnlockAll => return Err(Pause::UnlockAll),
            Request::Token { key } => match self.shared.table.token(&self.session, key) {
                Ok(token) => return Ok(self.promise(&Reply::Token(token), About::Hold(key))?),
                Err(why) => not_held(why),
            },
            Request::Expire { key, lease_ms } => self.expire(key, lease_ms),
            Request::SetTimeout { grace_ms } => self.set_timeout(grace_ms),
            Request::ConnId => self.conn_id(),
            Request::Resume { id } => self.resume(id),
            Request::Stats => Reply::Stats(self.stats()),
            Request::Debug => return Err(Pause::Debug),
            Request::Echo { words } => Reply::Echo(words),
            Request::Help => Reply::Help,
            Request::Quit => return Err(Pause::Quit),
        };
        Ok(self.tell(&reply)?)
    }

    /// Makes the pause, with all that the request asks for.
    ///
    /// # Errors
    ///
    /// When the connection is over: by `quit`, or because it failed meanwhile.
    pub(super) async fn pause(&mut self, pause: Pause) -> Result<(), Gone> {
        match pause {
            Pause::Turn => tokio::task::yield_now().await,
            // All pauses end so.
            Pause::Flush => {}
            Pause::Lock { key, mode, wait } => self.lock_or_wait(&key, &mode, wait).await?,
            Pause::UnlockAll => {
                unlock_all(&self.shared.table, &mut self.session).await;
                self.tell(&Reply::Ok)?;
            }
            Pause::Debug => self.debug().await?,
            Pause::Quit => return Err(self.quit().await),
            Pause::Over(gone) => return Err(gone),
        }
        Ok(())
    }

    fn tell(&mut self, reply: &Reply<'_>) -> Result<(), Gone> {
        match reply.is_promise() {
            true => self.promise(reply, About::Change),
            false => self.reply(reply),
        }
    }

    fn lock(&mut self, key: &[u8], mode: Mode, wait: Duration) -> Result<(), Pause> {
        let table = &self.shared.table;
        let answer = table.lock(&mut self.session, key, &mode, self.now);
        if answer != Locked::Busy {
            return Ok(self.answer_lock(key, answer)?);
        }
        if !wait.is_zero() && self.may_wait() {
            let key = Key::new(key);
            return Err(Pause::Lock { key, mode, wait });
        }
        let circle = table.circle(&self.session, key);
        let may_have_walked = self.session.held() > 0;
        let reply = match circle {
            Some(circle) => Reply::Deadlock(circle),
            None if self.stopping && !wait.is_zero() => Reply::ShuttingDown,
            None => Reply::Unavailable,
        };
        self.reply(&reply)?;
        // A walk may be long, and a client may ask for many.
        match may_have_walked {
            true => Err(Pause::Turn),
            false => Ok(()),
        }
    }

    async fn lock_or_wait(&mut self, key: &Key, mode: &Mode, wait: Duration) -> Result<(), Gone> {
        // Nobody should wait for answers that are ready.
        self.flush().await?;
        let (table, key, now) = (
            &self.shared.table,
            key.as_bytes(),
            Instant::now().into_std(),
        );
        let mut answer = table.lock_or_wait(&mut self.session, key, mode, now);
        if answer == Locked::Waiting {
            answer = match self.wait_for_grant(wait).await? {
                true => Locked::Acquired,
                false if self.stopping => return self.reply(&Reply::ShuttingDown),
                // It has waited; and there was no circle when it began to.
                false => return self.reply(&Reply::Unavailable),
            };
        }
        self.answer_lock(key, answer)
    }

    fn answer_lock(&mut self, key: &[u8], answer: Locked) -> Result<(), Gone> {
        let reply = match answer {
            Locked::Acquired => return self.promise(&Reply::Acquired, About::Grant(key)),
            Locked::Again => return self.promise(&Reply::Acquired, About::Hold(key)),
            Locked::Busy | Locked::Conflict | Locked::Waiting => Reply::Unavailable,
            Locked::Deadlock(circle) => Reply::Deadlock(circle),
            Locked::Full(limit) => Reply::Full(limit),
        };
        self.reply(&reply)
    }

    fn unlock(&mut self, key: &[u8]) -> Result<(), Pause> {
        let nodejs = self.shared.config.compat == Compat::Nodejs;
        let released = self.shared.table.unlock(&mut self.session, key, self.now);
        self.tell(&match released {
            Unlocked::Released { .. } => Reply::Unlocked,
            Unlocked::NotHeld(NotHeld::NotLocked) if nodejs => Reply::Unlocked,
            Unlocked::NotHeld(why) => not_held(why),
        })?;
        match released {
            Unlocked::Released { passed_on: true } => {
                self.shared.vigil.handed_over();
                // Whoever has the lock now should be told first: all others wait for them.
                Err(Pause::Turn)
            }
            _ => Ok(()),
        }
    }

    fn expire(&mut self, key: &[u8], lease_ms: u64) -> Reply<'static> {
        let lease = match lease_ms.min(TEN_YEARS_MS) {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        };
        let now = Instant::now().into_std();
        match self
            .shared
            .table
            .set_lease(&mut self.session, key, lease, now)
        {
            Ok(()) => Reply::Ok,
            Err(why) => not_held(why),
        }
    }

    fn set_timeout(&mut self, grace_ms: u64) -> Reply<'static> {
        let max_ms = self.shared.config.max_grace_ms;
        if grace_ms > max_ms {
            return Reply::Bad(BadRequest::GraceTooLong { max_ms });
        }
        let grace = Duration::from_millis(grace_ms);
        self.shared.table.set_grace(&mut self.session, grace);
        Reply::TimeoutSet
    }

    fn conn_id(&mut self) -> Reply<'static> {
        let table = &self.shared.table;
        if let Some(id) = table.session_id(&self.session) {
            return Reply::ConnId(id);
        }
        match self.shared.entropy.secret() {
            Ok(secret) => Reply::ConnId(table.set_secret(&mut self.session, secret)),
            Err(error) => {
                error!("no randomness for a session id: {error}");
                Reply::Failed("No randomness for a session id")
            }
        }
    }

    fn resume(&mut self, id: &[u8]) -> Reply<'static> {
        let now = Instant::now().into_std();
        let resumed = SessionId::parse(id)
            .is_some_and(|id| self.shared.table.resume(&mut self.session, id, now));
        match resumed {
            true => Reply::ConnIdSet,
            false => Reply::CannotSetConnId,
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

    async fn quit(&mut self) -> Gone {
        let said = if self.shared.config.compat == Compat::Nodejs {
            unlock_all(&self.shared.table, &mut self.session).await;
            self.promise(&Reply::Bye, About::Change)
        } else {
            self.reply(&Reply::Bye)
        };
        said.err().unwrap_or(Gone::Quit)
    }
}

/// What cannot be done while nothing can be stored. To come back to a session needs no storing.
fn changes_state(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Lock { .. }
            | Request::LockValue { .. }
            | Request::Unlock { .. }
            | Request::UnlockAll
            | Request::Expire { .. }
            | Request::SetTimeout { .. }
            | Request::ConnId
    )
}

fn not_held(why: NotHeld) -> Reply<'static> {
    match why {
        NotHeld::Expired => Reply::Expired,
        NotHeld::NotYours => Reply::NotYours,
        NotHeld::NotLocked => Reply::NotLocked,
    }
}
