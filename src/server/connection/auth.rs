//! Who speaks on a connection, and whether that is enough for what is asked.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use super::waiting::Interrupted;
use super::{Connection, Gone, NextCommand, NotRun};
use crate::access::{Needs, User};
use crate::model::{Key, Limit, OneCommand, Visible};
use crate::protocol::{Reply, Request};
use crate::server::arrival::ip_of;
use crate::server::desk::NotLetIn;
use crate::server::log_lines;
use crate::server::transport::Transport;
use crate::table::Order;

/// How long a stranger may stay one.
const STRANGERS_TIME: Duration = Duration::from_secs(30);

/// Whoever has sent so many bytes while it has to rest has much to ask.
const MUCH: usize = 1024;

/// After so many wrong passwords the connection ends.
const WRONG_PASSWORDS: u8 = 3;

impl<S: Transport> Connection<S> {
    /// The answer to a request that the user may not make; `None` if it may.
    #[inline]
    pub(super) fn refusal_of(&self, request: &Request<'_>) -> Option<Reply<'static>> {
        if let Some(user) = &self.user
            && user.may_everything()
        {
            // Most users of most servers, on the way of each command.
            return None;
        }
        let needs = Needs::of(request);
        match &self.user {
            Some(user) if user.may(&needs) => None,
            Some(_) => {
                if needs.is_an_operators() {
                    log_lines::not_allowed(&self.shared, self.session.number(), request);
                }
                Some(Reply::NotAllowed)
            }
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
        sees_sessions_of(self.user.as_deref(), other)
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

    /// Does something that takes a while, for as long as a stranger may stay: else those who know no
    /// password could take the places of all who do.
    ///
    /// # Errors
    ///
    /// When the connection is over, also as the time is.
    pub(super) async fn while_a_stranger<T>(
        &mut self,
        act: impl AsyncFnOnce(&mut Self) -> Result<T, Gone>,
    ) -> Result<T, Gone> {
        let stayed = self.shared.clock.since(self.stranger_since);
        let left = STRANGERS_TIME.saturating_sub(stayed);
        // Without any left, what is there at once would still be done, and again and again.
        if !left.is_zero()
            && let Ok(done) = timeout(left, act(self)).await
        {
            return done;
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
        let verifying = shared.desk.verify(name.as_deref(), &password, from);
        let verified = match self.user {
            Some(_) => self.wait_out(verifying).await?,
            // Who has tried wrong ones may have to wait for very long.
            None => {
                self.while_a_stranger(async |own| own.wait_out(verifying).await)
                    .await?
            }
        };
        match verified {
            Some(Ok(user)) => self.let_in(user),
            Some(Err(NotLetIn::Wrong)) => self.refuse_password(name.as_deref()).await?,
            Some(Err(NotLetIn::Busy)) => self.reply(&Reply::TooManyPasswords),
            None => self.reply(&Reply::ShuttingDown),
        }
        Ok(())
    }

    /// The session is the user's from now on, unless it holds another's locks.
    fn let_in(&mut self, user: Arc<User>) {
        if let Some(name) = user.name() {
            let before = self.shared.table.user(self.session.number());
            let is_another = before.as_ref() != Some(name);
            if is_another && before.is_some() && self.session.held() > 0 {
                return self.reply(&Reply::HoldsLocks);
            }
            // Also for the same one: if it was gone for a while, it has an account of its own since.
            if let Err(refusal) = self.take_places(&user) {
                return self.reply(&refusal);
            }
            if is_another {
                self.shared.table.set_user(&mut self.session, name.clone());
            }
        }
        let shown = user.name().map(Key::as_bytes).map(Visible);
        debug!(session = %self.session.number(), user = shown.map(tracing::field::display), "let in");
        self.user = Some(user);
        self.reply(&Reply::Done);
    }

    /// Counts the connection, and what its session has, for this user from now on.
    fn take_places(&mut self, user: &User) -> Result<(), Reply<'static>> {
        let mut places = *self.places.take().unwrap_or_default();
        let taken = places.take_for(user);
        if taken.is_ok() {
            let accounts = places.accounts();
            self.shared.table.count_on(&mut self.session, accounts);
        }
        self.places = places.boxed();
        taken.map_err(Reply::TooManyOfOne)
    }

    /// Takes the next command from the accounts of the address and the user. At a stop nobody rests.
    ///
    /// # Errors
    ///
    /// If one of them has none.
    #[inline]
    pub(super) fn take_command(&mut self) -> Result<(), NotRun> {
        let Some(places) = &self.places else {
            return Ok(());
        };
        match std::mem::take(&mut self.next_command) {
            NextCommand::Due => {}
            NextCommand::Taken => return Ok(()),
            NextCommand::SentAhead => return Err(NotRun::SentAhead),
        }
        let taken = places.take_command(self.now);
        taken.or_else(|limit| match self.session.signal().order() {
            Some(Order::Stop) => Ok(()),
            _ => Err(NotRun::Beyond(limit)),
        })
    }

    /// Rests until the next command may be run, or the client's input ends. What comes in is read as far as
    /// may be, so that this is noticed.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub(super) async fn rest(&mut self, limit: Limit) -> Result<(), Gone> {
        log_lines::rests(&self.shared, self.session.number(), limit);
        self.end_turn();
        self.flush().await?;
        match self.user {
            Some(_) => self.until_command().await?,
            None => self.while_a_stranger(Self::until_command).await?,
        }
        self.until_turn().await?;
        Ok(())
    }

    async fn until_command(&mut self) -> Result<(), Gone> {
        let accounts = self.places.as_ref().map(|places| places.accounts());
        let (shared, has_much) = (Arc::clone(&self.shared), self.input.len() >= MUCH);
        let mut taking = pin!(async {
            let now = || shared.clock.now();
            let mut taken = Vec::new();
            for account in accounts.iter().flatten() {
                taken.push(account.commands().wait_and_take(has_much, now).await);
            }
            // All have given one.
            taken.into_iter().for_each(OneCommand::is_used);
        });
        self.next_command = match self.wait_for(&mut taking).await? {
            Ok(()) => NextCommand::Taken,
            Err(Interrupted::ClientLeft | Interrupted::Stopping) => NextCommand::Due,
            Err(Interrupted::Overrun) => NextCommand::SentAhead,
        };
        Ok(())
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

/// Whether this other user's sessions are there for the user; for a stranger there are none.
pub(super) fn sees_sessions_of(user: Option<&User>, other: Option<&Key>) -> bool {
    user.is_some_and(|user| user.sees_sessions_of(other))
}

#[cfg(all(test, feature = "auth"))]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::io::AsyncWriteExt;
    use tokio::task::JoinSet;
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

    #[tokio::test]
    async fn a_user_that_was_gone_meanwhile_counts_for_what_it_is_now() {
        let all = include_str!("../../../tests/access/users.toml");
        let without = all.replace("[users.web]", "[users.other]");
        let bounded = all.replace("[users.web]", "[users.web]\nmax_connections = 1");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("users.toml");
        let write = |text: &str| std::fs::write(&path, text).expect("it can be written");
        write(all);
        let server = Server::start_with(|config| config.auth_file = Some(path.clone()));
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("auth web web-secret", "200 OK").await;
        a.ask("lock web:k", "200 Acquired").await;
        write(&without);
        server.shared.desk.reload().expect("good");
        a.ask("echo", "401 auth required").await;
        write(&bounded);
        server.shared.desk.reload().expect("good");
        a.ask("auth web web-secret", "200 OK").await;
        let full = "503 Too many connections of this user: at most 1";
        b.ask("auth web web-secret", full).await;
        server.stop().await;
    }

    /// What it sends is there whenever its connection looks; or it has tried so many passwords that the
    /// next ones would have to wait for minutes.
    #[tokio::test(start_paused = true)]
    async fn a_stranger_has_no_longer_however_busy_it_is() {
        let users = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/access/users.toml");
        let server = Server::start_with(|config| {
            config.auth_file = Some(users);
            config.unsent_timeout_ms = 3_600_000;
        });
        let mut busy = server.connect_by(64);
        let flood = async {
            for _ in 0..10_000 {
                if busy.requests.write_all(b"echo\n").await.is_err() {
                    break;
                }
            }
        };
        let read_late = async {
            sleep(STRANGERS_TIME * 3 / 2).await;
            let mut answers = 0;
            while let Ok(Some(_)) = busy.answers.next_line().await {
                answers += 1;
            }
            answers
        };
        let ((), answers) = tokio::join!(flood, read_late);
        assert!((1..5_000).contains(&answers), "{answers}");
        let mut guessing: Vec<_> = (0..100).map(|_| server.connect()).collect();
        for client in &mut guessing {
            client.send("auth web wrong").await;
        }
        let begin = Instant::now();
        for client in &mut guessing {
            while let Ok(Some(_)) = client.answers.next_line().await {}
        }
        let took = begin.elapsed();
        assert!(took < STRANGERS_TIME * 3 / 2, "{took:?}");
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn commands_above_the_rate_of_their_user_have_to_wait_and_others_do_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("users.toml");
        let user = |name| format!("[users.{name}]\nrights=['lock']\nprefixes=['*']\n");
        let text = user("slow") + "max_commands = 100\n" + &user("fast");
        std::fs::write(&path, text).expect("it can be written");
        let server = Server::start_with(|config| {
            config.auth_file = Some(path);
            config.trust = vec!["unix=slow".parse().expect("a network")];
        });
        let (mut a, mut b) = (server.connect(), server.connect());
        let begin = Instant::now();
        // Two connections share what their user has: 100 at once, and 100 a second.
        for _ in 0..100 {
            a.ask("echo", "200 []").await;
            b.ask("echo", "200 []").await;
        }
        let took = begin.elapsed().as_millis();
        assert!((900..=1_100).contains(&took), "{took} ms");
        // Its end is noticed while it rests.
        a.ask("set_timeout 0", "200 timeout set").await;
        a.ask("lock k", "200 Acquired").await;
        drop(a);
        b.ask("lock k 60", "200 Acquired").await;
        assert!(begin.elapsed() < Duration::from_secs(2));
        server.stop().await;
    }

    /// One where all connections are of a user with so many commands in a second.
    fn bounded(max_commands: u32) -> (Server, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("users.toml");
        let text =
            format!("[users.all]\nrights=['lock']\nprefixes=['*']\nmax_commands={max_commands}\n");
        std::fs::write(&path, text).expect("it can be written");
        let server = Server::start_with(|config| {
            config.auth_file = Some(path);
            config.trust = vec!["unix=all".parse().expect("a network")];
        });
        (server, directory)
    }

    #[tokio::test(start_paused = true)]
    async fn who_connects_again_and_again_has_no_more_commands_and_keeps_nobody_waiting() {
        const RATE: u32 = 50;
        let (server, _directory) = bounded(RATE);
        let counters = server.shared.table.counters();
        let mut honest = server.connect();
        let mut flood = JoinSet::new();
        let answers = Arc::new(AtomicU32::new(0));
        // Ten connections each tenth of a second. Half of them leave at once.
        for number in 0..300 {
            let (mut client, answers) = (server.connect_by(1 << 16), Arc::clone(&answers));
            let lines = "echo a\n".repeat(500);
            let sent = client.requests.write_all(lines.as_bytes()).await;
            sent.expect("the connection stands");
            flood.spawn(async move {
                while number % 2 == 0 && matches!(client.answers.next_line().await, Ok(Some(_))) {
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
            if number % 10 == 9 {
                let asked = Instant::now();
                honest.ask("echo", "200 []").await;
                let waited = asked.elapsed();
                assert!(waited <= Duration::from_millis(50), "{waited:?}");
                sleep(Duration::from_millis(100) - waited).await;
            }
        }
        // What those had who left is lost.
        let answers = answers.load(Ordering::Relaxed);
        assert!((RATE..=4 * RATE).contains(&answers), "{answers} in 3 s");
        assert!(counters.rests.get() > 0);
        // Those who left are noticed while they rest.
        let until_connected = async |count| {
            let begin = Instant::now();
            while server.shared.table.session_counts().1 != count {
                assert!(begin.elapsed() < Duration::from_secs(1));
                sleep(Duration::from_millis(10)).await;
            }
        };
        until_connected(1 + 150).await;
        flood.shutdown().await;
        for _ in 0..3 {
            let asked = Instant::now();
            honest.ask("echo", "200 []").await;
            assert!(asked.elapsed() <= Duration::from_millis(50));
        }
        until_connected(1).await;
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn commands_that_would_have_to_wait_are_refused_at_the_end_of_the_input() {
        let (server, _directory) = bounded(50);
        let mut client = server.connect_by(1 << 16);
        client.send("echo\n".repeat(60).trim_end()).await;
        client
            .requests
            .shutdown()
            .await
            .expect("the connection stands");
        for _ in 0..50 {
            client.expect("200 []").await;
        }
        for _ in 0..10 {
            client
                .expect("507 Too many commands of this user: at most 50 a second")
                .await;
        }
        server.stop().await;
    }

    /// More than is read ahead: the end would hide behind it.
    #[tokio::test(start_paused = true)]
    async fn whoever_sends_very_much_and_leaves_is_noticed() {
        let (server, _directory) = bounded(10);
        let mut client = server.connect_by(1 << 20);
        client.send("echo\n".repeat(100_000).trim_end()).await;
        for _ in 0..10 {
            client.expect("200 []").await;
        }
        client
            .expect("507 Too much sent ahead: at most 65536 bytes")
            .await;
        drop(client);
        let begin = Instant::now();
        while server.shared.table.session_counts().1 > 0 {
            sleep(Duration::from_millis(10)).await;
            assert!(begin.elapsed() < Duration::from_secs(10));
        }
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_rests_at_a_stop_and_all_that_was_read_is_answered() {
        let (server, _directory) = bounded(10);
        let mut client = server.connect_by(1 << 16);
        client.send("echo\n".repeat(1_000).trim_end()).await;
        for _ in 0..15 {
            client.expect("200 []").await;
        }
        server.shared.begin_stop();
        let mut answers = 0;
        while let Ok(Some(_)) = client.answers.next_line().await {
            answers += 1;
        }
        assert_eq!(answers, 985);
        server.stop().await;
    }
}
