//! Who speaks on a connection, and whether that is enough for what is asked.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use super::waiting::Interrupted;
use super::{Connection, Gone};
use crate::access::{Needs, User};
use crate::model::{Key, Visible};
use crate::protocol::{Reply, Request};
use crate::server::desk::{NotLetIn, ip_of};
use crate::server::log_lines;
use crate::server::transport::Transport;
use crate::table::Order;

/// How long a stranger may stay one.
const STRANGERS_TIME: Duration = Duration::from_secs(30);

/// After so many wrong passwords the connection ends.
const WRONG_PASSWORDS: u8 = 3;

impl<S: Transport> Connection<S> {
    /// The answer to a request that the user may not make; `None` if it may.
    #[inline]
    pub(super) fn refusal_of(&self, request: &Request<'_>) -> Option<Reply<'static>> {
        let needs = Needs::of(request);
        match &self.user {
            Some(user) if user.may(&needs) => None,
            Some(_) => Some(Reply::NotAllowed),
            None if needs == Needs::Nothing => None,
            None => Some(Reply::AuthRequired),
        }
    }

    /// Whether this key is there for the user.
    pub(super) fn may_see(&self, key: &[u8]) -> bool {
        self.user.as_ref().is_some_and(|user| user.allows(key))
    }

    /// Whether this other user's sessions are there for the user.
    pub(super) fn may_see_session_of(&self, other: Option<&Key>) -> bool {
        let user = self.user.as_ref();
        user.is_some_and(|user| user.sees_sessions_of(other))
    }

    /// Looks whether the user is as it was, after a reload. One that is there no more is a stranger from
    /// here on; what its session has stays the session's.
    pub(super) fn renew_user(&mut self) {
        let desk = &self.shared.desk;
        if let Some(user) = &self.user
            && user.revision() != desk.revision()
        {
            self.user = desk.renewed(user);
            self.stranger_since = self.shared.clock.stamp(self.now);
        }
    }

    /// Reads more, for as long as a stranger may stay: else those who know no password could take the
    /// places of all who do.
    ///
    /// # Errors
    ///
    /// When the connection is over, also as the time is.
    pub(super) async fn read_from_stranger(&mut self) -> Result<(), Gone> {
        let stayed = self.shared.clock.since(self.stranger_since);
        let left = STRANGERS_TIME.saturating_sub(stayed);
        if let Ok(read) = timeout(left, self.read()).await {
            return read;
        }
        self.reply(&Reply::AuthRequired);
        self.flush().await?;
        Err(Gone::NotLetIn)
    }

    /// Lets the client in as the user that it says it is, if it knows the password.
    ///
    /// # Errors
    ///
    /// When the connection is over, also by a wrong password too many.
    pub(super) async fn auth(
        &mut self,
        name: Option<Vec<u8>>,
        password: Vec<u8>,
    ) -> Result<(), Gone> {
        self.flush().await?;
        let shared = Arc::clone(&self.shared);
        let from = shared.table.peer(self.session.number()).and_then(ip_of);
        let mut verifying = pin!(shared.desk.verify(name.as_deref(), &password, from));
        let verified = match self.wait_for(&mut verifying).await? {
            // A script that sends all its lines at once is answered all of them.
            Err(Interrupted::ClientLeft) => tokio::select! {
                verified = verifying => Ok(verified),
                order = self.session.signal().any() => match order {
                    Order::Stop => Err(Interrupted::Stopping),
                    order => return Err(order.into()),
                },
            },
            verified => verified,
        };
        match verified {
            Ok(Ok(user)) => self.let_in(user),
            Ok(Err(NotLetIn::Wrong)) => self.refuse_password(name.as_deref()).await?,
            Ok(Err(NotLetIn::Busy)) => self.reply(&Reply::TooManyPasswords),
            Err(Interrupted::Overrun) => self.refuse_overrun(),
            Err(Interrupted::Stopping | Interrupted::ClientLeft) => {
                self.reply(&Reply::ShuttingDown);
            }
        }
        Ok(())
    }

    /// The session is the user's from now on, unless it holds another's locks.
    fn let_in(&mut self, user: Arc<User>) {
        let (table, session) = (&self.shared.table, &mut *self.session);
        let before = table.user(session.number());
        if let Some(name) = user.name().filter(|name| Some(*name) != before.as_ref()) {
            if before.is_some() && session.held() > 0 {
                return self.reply(&Reply::HoldsLocks);
            }
            table.set_user(session, name.clone());
        }
        let shown = user.name().map(Key::as_bytes).map(Visible);
        debug!(session = %session.number(), user = shown.map(tracing::field::display), "let in");
        self.user = Some(user);
        self.reply(&Reply::Done);
    }

    async fn refuse_password(&mut self, name: Option<&[u8]>) -> Result<(), Gone> {
        log_lines::wrong_password(&self.shared, self.session.number(), name);
        self.wrong_passwords = self.wrong_passwords.saturating_add(1);
        self.reply(&Reply::WrongPassword);
        if self.wrong_passwords < WRONG_PASSWORDS {
            return Ok(());
        }
        self.flush().await?;
        Err(Gone::NotLetIn)
    }
}

#[cfg(all(test, feature = "auth"))]
mod tests {
    use std::path::PathBuf;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::server::harness::Server;

    #[tokio::test(start_paused = true)]
    async fn a_stranger_has_half_a_minute_in_all_and_a_user_has_for_ever() {
        let users = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/access/users.toml");
        let server = Server::start_with(|config| config.auth_file = Some(users));
        let begin = Instant::now();
        let (mut stranger, mut user) = (server.connect(), server.connect());
        user.ask("auth web web-secret", "200 OK").await;
        for _ in 0..2 {
            sleep(STRANGERS_TIME / 3).await;
            stranger.ask("lock k", "401 auth required").await;
        }
        stranger.expect("401 auth required").await;
        let closed = stranger.answers.next_line().await;
        assert!(matches!(closed, Ok(None)), "{closed:?}");
        let stayed = begin.elapsed();
        assert!(
            stayed >= STRANGERS_TIME && stayed < STRANGERS_TIME * 2,
            "{stayed:?}"
        );
        sleep(Duration::from_secs(3600)).await;
        user.ask("lock web:k", "200 Acquired").await;
        server.stop().await;
    }
}
