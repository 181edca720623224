//! One connection: it reads a batch of lines, runs them, and writes their answers in one go.
//!
//! A request that can be answered at once is answered without a future. Any other makes a
//! [`Pause`].
//!
//! Wherever the task waits, it listens to the connection's [`Signal`](crate::table::Signal).
//!
//! Generic over the stream, so that TCP, unix sockets and in-memory pipes share the code.

mod auth;
mod commands;
mod debug;
mod lists;
mod lock_all;
mod operate;
mod pending_replies;
mod resume;
mod waiting;
mod watch;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};
#[cfg(feature = "cluster")]
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::debug;

use super::Shared;
use super::arrival::{AccountPlaces, Arrival};
use super::expiry;
use super::log_lines;
use super::session_guard::{SLICE, SessionGuard, tidy};
use super::transport::Transport;
use super::turns::Account;
use crate::access::User;
#[cfg(feature = "cluster")]
use crate::cluster::Guarded;
use crate::model::Limit;
use crate::protocol::{BadRequest, Framing, Line, Lines, Reply, Request, StateReply};
use crate::table::{Basis, Order};
use commands::Pause;
use pending_replies::PendingReplies;

/// How much is read at once.
const READ_SIZE: usize = 8 * 1024;

/// How many lines of one client are answered in one turn at the most, however they come. Most often its
/// time is over first.
const LINES_A_TURN: u32 = 512;

/// After how many lines a turn's time is looked at: often enough for lines of which each costs a few
/// microseconds, and so seldom that the look costs nothing.
const LINES_A_LOOK: u32 = 32;

/// An empty buffer of this size or above is freed: a smaller one is enough for a client that sends
/// one command at a time.
const KEEP_BUFFER: usize = 256;

/// How long a closed connection waits for its client to close, too.
const LINGER: Duration = Duration::from_secs(1);

/// How long a closed connection waits for its client when the server stops, where time is short.
const LINGER_AT_STOP: Duration = Duration::from_millis(100);

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Gone {
    /// With the answer to `quit`.
    #[error("the client said quit")]
    Quit(Reply<'static>),
    #[error("the client speaks another protocol")]
    Foreign,
    #[error("the client knows no password")]
    NotLetIn,
    #[error("the client sends nothing more")]
    InputEnded,
    #[error("the connection failed: {0}")]
    Broken(#[from] io::Error),
    #[error("the client does not read its answers")]
    Stalled,
    #[error("the client reads a listing too slowly")]
    TooSlow,
    #[error("the server stops")]
    Stopping,
    #[error("another connection has taken over the session")]
    TakenOver,
    #[error("an operator has ended the session")]
    Killed,
}

impl Gone {
    /// Whether the connection ended although the client may still be at work.
    pub(super) fn is_not_the_clients_will(&self) -> bool {
        !matches!(self, Self::Quit(_) | Self::InputEnded)
    }
}

impl From<Order> for Gone {
    fn from(order: Order) -> Self {
        match order {
            Order::Stop => Self::Stopping,
            Order::TakenOver => Self::TakenOver,
            Order::Kill => Self::Killed,
        }
    }
}

/// One client's connection and its state.
pub(super) struct Connection<S> {
    shared: Arc<Shared>,
    session: SessionGuard,
    /// Who speaks here; `None`: a stranger, who has to say so first.
    user: Option<Arc<User>>,
    output: BytesMut,
    /// The replies in `output` that may have to be replaced before they are sent.
    pending: PendingReplies,
    stream: S,
    /// For as long as something may be said to the client. Behind the stream, which is closed first.
    #[cfg(feature = "cluster")]
    speaks: Option<TaskTrackerToken>,
    input: BytesMut,
    framing: Framing,
    /// How many more lines are answered in this turn.
    lines_left: u32,
    /// What the connection has used of the time that there is for all.
    account: Account,
    /// The time when the connection's turn began, or went on after a pause.
    now: std::time::Instant,
    /// What the connection counts for, if its address or its user has bounds.
    places: Option<Box<AccountPlaces>>,
    /// Whether the next command may run.
    next_command: NextCommand,
    /// Another server of the same cluster passes the client on.
    is_passed_on: bool,
    /// How many wrong passwords the client has sent.
    wrong_passwords: u8,
    /// Since when a stranger has been one, as a stamp of the server's clock.
    stranger_since: u32,
    /// The client has ended its input. Lines that were read are answered, but no request waits any
    /// more, since the client may not learn of a grant.
    input_ended: bool,
}

/// Whether a connection's next command may run.
#[derive(Debug, Default, PartialEq, Eq)]
enum NextCommand {
    /// If the accounts have it.
    #[default]
    Due,
    /// The accounts have given it.
    Taken,
    /// It has to wait, and too much was sent behind it.
    SentAhead,
}

/// Why a command is not run.
enum NotRun {
    /// This bound is reached.
    Beyond(Limit),
    /// Too much was sent behind it, while it had to wait.
    SentAhead,
}

/// Serves one client until its connection ends, gives `slot` back, and leaves the session to its
/// grace period. The session begins with the call, everything else with the first poll.
pub(super) fn serve<S: Transport, P>(
    stream: S,
    arrival: Arrival,
    shared: Arc<Shared>,
    slot: P,
) -> impl Future<Output = ()> {
    shared.table.counters().connections.add(1);
    #[cfg(feature = "cluster")]
    let stream = Guarded::new(stream, shared.leadership());
    let peer = arrival.peer;
    let mut connection = Connection::new(stream, arrival, shared);
    debug!(%peer, session = %connection.session.number(), "connected");
    // Not an `async fn`, as its future would keep room for the arguments beside the connection.
    async move {
        let Err(gone) = connection.converse().await;
        // Boxed, as are all rare and large futures here: the task of a connection takes the room of
        // its largest future for as long as it lives.
        Box::pin(connection.end(gone)).await;
        // The connection's file is closed before its slot is free.
        drop(connection);
        drop(slot);
    }
}

impl<S: Transport> Connection<S> {
    fn new(stream: S, arrival: Arrival, shared: Arc<Shared>) -> Self {
        Self {
            session: SessionGuard::open(&shared, &arrival),
            user: arrival.user,
            places: arrival.places.boxed(),
            is_passed_on: arrival.is_passed_on,
            next_command: NextCommand::default(),
            output: BytesMut::new(),
            pending: PendingReplies::default(),
            stream,
            #[cfg(feature = "cluster")]
            speaks: Some(shared.speaking.token()),
            input: BytesMut::new(),
            framing: Framing::new(shared.config.max_line as usize),
            lines_left: LINES_A_TURN,
            account: Account::default(),
            now: shared.clock.now(),
            wrong_passwords: 0,
            stranger_since: shared.clock.stamp(shared.clock.now()),
            input_ended: false,
            shared,
        }
    }

    /// Answers lines and reads more, until the connection is over.
    async fn converse(&mut self) -> Result<Infallible, Gone> {
        loop {
            if let Some(order) = self.session.signal().is_cut_off() {
                return Err(order.into());
            }
            // Moved out whole: else it would have its room in the task of every connection.
            let ControlFlow::Break(pause) = self.take_turn() else {
                self.flush().await?;
                if let Some(order) = self.session.signal().order() {
                    return Err(order.into());
                }
                if self.input_ended {
                    return Err(Gone::InputEnded);
                }
                if self.session.may_lose() && self.shared.table.tidy_some(&mut self.session, SLICE)
                {
                    Box::pin(tidy(&self.shared, &mut self.session)).await;
                }
                self.end_turn();
                match self.user {
                    Some(_) => self.read().await?,
                    None => Box::pin(self.while_a_stranger(Self::read)).await?,
                }
                self.until_turn().await?;
                continue;
            };
            Box::pin(self.pause(pause)).await?;
            // Not timed, as it may have waited.
            self.account.call(0);
            self.flush_if_full().await?;
        }
    }

    /// Charges the connection for its turn.
    fn end_turn(&mut self) {
        self.shared.turns.charge(&mut self.account);
        self.lines_left = LINES_A_TURN;
    }

    /// Returns when it is the connection's turn; whether it had to wait for that.
    ///
    /// # Errors
    ///
    /// When nothing more may be written.
    async fn until_turn(&mut self) -> Result<bool, Gone> {
        let (turns, bytes) = (&self.shared.turns, self.input.len());
        if turns.may_go(&self.account, bytes) {
            return Ok(false);
        }
        let wait = Box::pin(turns.wait(&mut self.account, bytes));
        tokio::select! {
            biased;
            order = self.session.signal().cut_off() => Err(order.into()),
            has_waited = wait => Ok(has_waited),
        }
    }

    /// Lets others have their turn before this connection goes on.
    ///
    /// # Errors
    ///
    /// When nothing more may be written.
    async fn give_turn(&mut self) -> Result<(), Gone> {
        self.end_turn();
        if !self.until_turn().await? {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Answers lines, and notes what `sessions` and `info` show of this connection.
    fn take_turn(&mut self) -> ControlFlow<Pause> {
        self.now = self.shared.clock.now();
        self.shared.table.begin_turn(self.now);
        self.renew_user();
        let lines_before = self.lines_left;
        let answered = self.answer_lines();
        let active = self.shared.clock.stamp(self.now);
        self.shared.table.note(&mut self.session, active);
        if self.lines_left != lines_before {
            self.account.use_up(self.since_now());
        }
        answered
    }

    /// Counts the time since `now` as used, and goes on from here.
    fn use_up_time(&mut self) {
        let now = self.shared.clock.now();
        let used = now.saturating_duration_since(self.now);
        self.account.use_up(used);
        self.now = now;
    }

    fn since_now(&self) -> Duration {
        self.shared.clock.now().saturating_duration_since(self.now)
    }

    fn is_turn_over(&self) -> bool {
        let is_looked_at =
            self.lines_left.is_multiple_of(LINES_A_LOOK) && self.lines_left < LINES_A_TURN;
        self.lines_left == 0 || is_looked_at && self.account.is_over_with(self.since_now())
    }

    /// Answers all lines that were read, or up to one that makes a pause.
    fn answer_lines(&mut self) -> ControlFlow<Pause> {
        while let Some(mut lines) = self.framing.take_lines(&mut self.input) {
            let answered = self.answer_these(&mut lines);
            self.framing.put_back(lines, &mut self.input);
            answered?;
        }
        ControlFlow::Continue(())
    }

    fn answer_these(&mut self, lines: &mut Lines) -> ControlFlow<Pause> {
        loop {
            if lines.is_empty() {
                return ControlFlow::Continue(());
            }
            if self.is_turn_over() {
                return ControlFlow::Break(Pause::TurnOver);
            }
            let refusal = match self.take_command() {
                Ok(()) => None,
                // Nobody waits whose input has ended, as the end of the input is a disconnect.
                Err(NotRun::Beyond(limit)) if !self.input_ended => {
                    return ControlFlow::Break(Pause::Rest(limit));
                }
                Err(NotRun::Beyond(limit)) => Some(Reply::Full(limit)),
                Err(NotRun::SentAhead) => Some(self.too_much_ahead()),
            };
            let Some(line) = lines.next_line() else {
                return ControlFlow::Continue(());
            };
            self.lines_left -= 1;
            match (line, refusal) {
                (_, Some(refusal)) => self.reply(&refusal),
                (Line::Text(text), None) => match Request::parse(text) {
                    Ok(request) => match self.refusal_of(&request) {
                        None => self.run(request)?,
                        Some(refusal) => self.reply(&refusal),
                    },
                    Err(bad) => self.refuse(bad)?,
                },
                (
                    Line::TooLong {
                        foreign: Some(protocol),
                    },
                    None,
                ) => self.refuse(BadRequest::Foreign(protocol))?,
                (Line::TooLong { foreign: None }, None) => {
                    let max_bytes = self.shared.config.max_line as usize;
                    self.reply(&Reply::LineTooLong { max_bytes });
                }
            }
            if self.is_output_full() {
                return ControlFlow::Break(Pause::Flush);
            }
        }
    }

    /// Appends a reply that stays true until it is sent.
    fn reply(&mut self, reply: &Reply<'_>) {
        self.shared.refusals.count(reply.refusal());
        reply.put(&mut self.output);
    }

    /// Appends a reply that is sent only if its basis is true then.
    fn answer(&mut self, reply: &StateReply, basis: Basis) {
        self.shared.refusals.count(reply.refusal());
        let start = self.output.len();
        reply.put(&mut self.output);
        let changes = self.shared.table.changes();
        let durable = changes.durable_up_to();
        // A change that is still to be committed is proof enough that nobody else came.
        let basis = match basis.seq() <= durable {
            true => basis.and(changes.confirmation()),
            false => basis,
        };
        self.pending
            .add(start..self.output.len(), basis, &self.session, durable);
    }

    async fn read(&mut self) -> Result<(), Gone> {
        give_back(&mut self.input);
        tokio::select! {
            biased;
            read = read_some(&mut self.stream, &mut self.input, READ_SIZE) => {
                let read = read?;
                self.input_ended = read == 0;
                self.account.read(read);
            }
            // An order is looked at in `converse`, once all lines are answered.
            _ = self.session.signal().any() => {}
        }
        Ok(())
    }

    fn is_output_full(&self) -> bool {
        self.output.len() >= self.shared.config.max_unsent as usize
    }

    async fn flush_if_full(&mut self) -> Result<(), Gone> {
        match self.is_output_full() {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Writes all answers: the one place where answers leave. While the client does not read them
    /// nothing else is done for it, so that its answers stay bounded; after a time without progress
    /// the connection ends.
    ///
    /// An answer counts as sent when the stream has taken it. What a stream [holds
    /// back](Transport::holds_back) is a few kilobytes that, like those in the system's own buffers,
    /// cannot be taken back; nothing more is given to it before it is rid of them.
    async fn flush(&mut self) -> Result<(), Gone> {
        let unsent_timeout = self.shared.config.unsent_timeout();
        // A timer that exists only while nothing goes.
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        loop {
            if self.pending.are_unsettled(&self.session) {
                Box::pin(self.settle_pending()).await?;
            }
            if self.output.is_empty() && !self.stream.holds_back() {
                break;
            }
            if let Some(order) = self.session.signal().is_cut_off() {
                return Err(order.into());
            }
            tokio::select! {
                biased;
                written = write_some(&mut self.stream, &self.output) => {
                    let written = written?;
                    self.output.advance(written);
                    self.pending.sent(written);
                    self.account.call(written);
                    if written > 0 {
                        timer = None;
                    }
                }
                order = self.session.signal().cut_off() => return Err(order.into()),
                () = poll_fn(|context| {
                    let timer = timer.get_or_insert_with(|| Box::pin(sleep(unsent_timeout)));
                    timer.as_mut().poll(context)
                }) => return Err(Gone::Stalled),
            }
            if !self.output.is_empty() {
                self.pending.look_again();
            }
        }
        self.pending.all_sent();
        give_back(&mut self.output);
        Ok(())
    }

    /// Ends the session's connection and says goodbye, once nothing more is read.
    async fn end(&mut self, gone: Gone) {
        let session = self.session.number();
        let name = log_lines::name(&self.shared, session);
        debug!(%session, name, "disconnected: {gone}");
        // The client does not have a lock that it was not told of. Answers are unsent only if the
        // connection broke.
        self.give_back_unsent().await;
        tidy(&self.shared, &mut self.session).await;
        // The session is detached first: a client that has read the goodbye can resume it, or finds
        // its locks free. And the grace period runs from here on, however long the goodbye takes.
        if let Some(grace) = self.session.detach(&gone).await {
            // In a small task of its own: there may be very many, and this task's memory is freed
            // meanwhile.
            let (shared, stop) = (Arc::clone(&self.shared), self.shared.stop.clone());
            let tasks = &self.shared.tasks;
            tasks.spawn(expiry::end_grace_period(shared, grace, stop));
        }
        self.say_goodbye(gone).await;
    }

    /// Sends the last answer and closes.
    async fn say_goodbye(&mut self, gone: Gone) {
        match gone {
            Gone::Quit(last_answer) => last_answer.put(&mut self.output),
            Gone::Foreign | Gone::NotLetIn | Gone::Stopping => {}
            _ => {
                return poll_fn(|context| {
                    self.stream.part(context);
                    Poll::Ready(())
                })
                .await;
            }
        }
        let unsent_timeout = self.shared.config.unsent_timeout();
        let written = timeout(unsent_timeout, self.stream.write_all(&self.output)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
        let (stream, stop) = (&mut self.stream, self.shared.stop.cancelled());
        let said = || {
            #[cfg(feature = "cluster")]
            drop(self.speaks.take());
        };
        close_gently_and(stream, stop, said).await;
    }
}

/// Says that nothing more will be written and waits a little until the client has closed, too; less
/// long after `stop`. What still comes in is dropped: with unread input, closing at once would make
/// the kernel throw the last answer away.
pub(crate) async fn close_gently(stream: &mut impl Transport, stop: impl Future<Output = ()>) {
    close_gently_and(stream, stop, || {}).await;
}

/// The same, and `said` is called once it is said. A client that does not read may keep even that from leaving.
async fn close_gently_and(
    stream: &mut impl Transport,
    stop: impl Future<Output = ()>,
    said: impl FnOnce(),
) {
    let close = async {
        stream.shutdown().await?;
        said();
        let mut dropped = [0; 1024];
        while stream.read(&mut dropped).await? > 0 {}
        io::Result::Ok(())
    };
    let patience = async {
        sleep(LINGER_AT_STOP).await;
        // The wait is over either way: by the time or by the stop.
        let _ = timeout(LINGER, stop).await;
    };
    tokio::select! {
        // The client has closed or its connection failed: either way it is over.
        _ = close => {}
        () = patience => {}
    }
}

/// Reads what is there, at most `most` bytes and [`READ_SIZE`]; 0 is the end. The buffer gets its
/// memory only when bytes have come, so that an idle connection has none.
fn read_some(
    stream: &mut impl Transport,
    input: &mut BytesMut,
    most: usize,
) -> impl Future<Output = io::Result<usize>> {
    poll_fn(move |context| {
        let mut space = [const { MaybeUninit::uninit() }; READ_SIZE];
        let mut read = ReadBuf::uninit(&mut space[..most.min(READ_SIZE)]);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut read))?;
        input.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
}

/// Writes as much as goes. If nothing goes at once, returns 0 as soon as something may: so the caller
/// looks again at what the bytes say, which may have become untrue while they could not be sent. What
/// the stream holds back goes first.
fn write_some(
    stream: &mut impl Transport,
    bytes: &[u8],
) -> impl Future<Output = io::Result<usize>> {
    let mut has_waited = false;
    poll_fn(move |context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(Ok(0));
        }
        if stream.holds_back() {
            ready!(Pin::new(&mut *stream).poll_flush(context))?;
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match ready!(Pin::new(&mut *stream).poll_write(context, bytes)) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(written),
        }
    })
}

/// Frees an empty buffer that has grown large.
fn give_back(buffer: &mut BytesMut) {
    // `try_reclaim`, as the capacity alone leaves out the room of bytes that were consumed.
    if buffer.is_empty() && buffer.try_reclaim(KEEP_BUFFER) {
        *buffer = BytesMut::new();
    }
}

/// Over in-memory pipes of eight bytes, on a clock that stands still until every task waits for it:
/// so every time below is exact.
#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Context;

    use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, split};
    use tokio::time::Instant;

    use super::*;
    use crate::model::{Mode, Peer, SessionNumber};
    use crate::server::clock::keep_time;
    use crate::server::harness::{Client, Server};
    use crate::table::{Locked, Unlocked};

    async fn passes<T>(expected: Duration, action: impl Future<Output = T>) -> T {
        let begin = Instant::now();
        let result = action.await;
        // The timer counts in whole milliseconds and rounds up.
        let passed = begin.elapsed();
        assert!(
            passed >= expected && passed <= expected + Duration::from_millis(2),
            "{passed:?}"
        );
        result
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_its_time_is_over() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        passes(Duration::ZERO, b.ask("lock k", "409 Unavailable")).await;
        passes(
            Duration::from_millis(500),
            b.ask("lock k 0.5", "409 Unavailable"),
        )
        .await;
        passes(
            Duration::from_secs(5),
            b.ask("lock_value k v 5", "409 Unavailable"),
        )
        .await;
        let longest = Duration::from_millis(u32::MAX.into());
        passes(
            longest,
            b.ask("lock k 99999999999999999999", "409 Unavailable"),
        )
        .await;
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_period_keeps_the_locks_and_its_end_passes_them_on() {
        for (timeout, expected) in [
            (None, 30_000),
            (Some("set_timeout 1234"), 1_234),
            (Some("set_timeout 0"), 0),
        ] {
            let server = Server::start();
            let (mut a, mut b) = (server.connect(), server.connect());
            if let Some(timeout) = timeout {
                a.ask(timeout, "200 timeout set").await;
            }
            a.ask("lock k", "200 Acquired").await;
            drop(a);
            passes(
                Duration::from_millis(expected),
                b.ask("lock k 3600", "200 Acquired"),
            )
            .await;
            server.stop().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_period_does_not_wait_for_a_client_that_dawdles_over_the_goodbye() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("set_timeout 100", "200 timeout set").await;
        a.ask("lock k", "200 Acquired").await;
        a.send("quit").await;
        passes(
            Duration::from_millis(100),
            b.ask("lock k 3600", "200 Acquired"),
        )
        .await;
        a.expect("200 Hey, it was nice seeing you.").await;
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_for_its_turn_to_debug_may_leave() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        let all = super::super::DEBUGS_AT_ONCE as u32;
        let shared = Arc::clone(&server.shared);
        let _turns = shared.debugs.acquire_many(all).await.expect("open");
        a.ask("set_timeout 0", "200 timeout set").await;
        a.ask("lock k", "200 Acquired").await;
        a.send("debug").await;
        drop(a);
        passes(Duration::ZERO, b.ask("lock k 3600", "200 Acquired")).await;
        b.send("debug").await;
        server.shared.begin_stop();
        b.expect("503 Shutting down").await;
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_debug_that_is_read_too_slowly_gives_its_turn_away() {
        let server = Server::start_with(|config| config.max_unsent = 1);
        let mut a = server.connect();
        a.send("debug").await;
        let mut answers = a.answers.into_inner().into_inner();
        let mut byte = [0];
        let read_slowly = async {
            while answers.read(&mut byte).await.expect("an end") > 0 {
                sleep(Duration::from_secs(20)).await;
            }
        };
        let begin = Instant::now();
        read_slowly.await;
        // The debug ends between two reads of this slow client, with eight bytes still in the pipe.
        let took = begin.elapsed();
        let due = lists::LISTING_TIME;
        assert!(
            took >= due && took < due + Duration::from_secs(20 * 10),
            "{took:?}"
        );
        server.stop().await;
    }

    /// A client that has always sent something, and reads its answers at once.
    struct Endless {
        lines: &'static [u8],
        reads_left: Arc<AtomicUsize>,
    }

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.reads_left.load(Ordering::Relaxed) > 0 {
                self.reads_left.fetch_sub(1, Ordering::Relaxed);
                while buffer.remaining() >= self.lines.len() {
                    buffer.put_slice(self.lines);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Transport for Endless {}

    /// The stream of a client that does not read, so that not even its end can be said to it.
    struct Clogged;

    impl AsyncRead for Clogged {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Clogged {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl Transport for Clogged {}

    #[tokio::test(start_paused = true)]
    async fn an_end_that_cannot_be_said_is_not_waited_for_longer_than_one_that_is() {
        let never = std::future::pending();
        passes(LINGER_AT_STOP + LINGER, close_gently(&mut Clogged, never)).await;
        let stopping = std::future::ready(());
        passes(LINGER_AT_STOP, close_gently(&mut Clogged, stopping)).await;
    }

    /// As many turns as there are busy connections would pass if it came after each of them, and all
    /// if these had no turns.
    #[tokio::test(start_paused = true)]
    async fn a_client_does_not_wait_for_all_who_are_busy() {
        const BUSY: usize = 100;
        const READS: usize = 30 * BUSY;
        for lines in [
            &b"x"[..],
            b"\n",
            b"garbage\n",
            b"lock k\nunlock k\n",
            b"resume 1-0\n",
        ] {
            let server = Server::start();
            let mut client = server.connect_by(64);
            client.ask("lock mine", "200 Acquired").await;
            let reads_left = Arc::new(AtomicUsize::new(READS));
            let busy = (0..BUSY).map(|_| {
                let reads_left = Arc::clone(&reads_left);
                let stream = Endless { lines, reads_left };
                let shared = Arc::clone(&server.shared);
                let arrival = shared
                    .desk
                    .arrival(Peer::Unix(None), shared.clock.now())
                    .expect("a place");
                tokio::spawn(serve(stream, arrival, shared, ()))
            });
            let busy: Vec<_> = busy.collect();
            let read = || READS - reads_left.load(Ordering::Relaxed);
            for _ in 0..5 {
                // Until each has had a turn or two.
                let before = read();
                while read() < before + 2 * BUSY {
                    assert!(read() < READS, "they were served to their end");
                    tokio::task::yield_now().await;
                }
                let before = read();
                client.ask("token mine", "200 1").await;
                let turns = read() - before;
                assert!(
                    turns < BUSY / 3,
                    "{turns} turns for {}",
                    lines.escape_ascii()
                );
            }
            reads_left.store(0, Ordering::Relaxed);
            server.stop().await;
            for task in busy {
                task.await.expect("no panic");
            }
        }
    }

    #[test]
    fn a_buffer_that_has_grown_large_is_given_back() {
        let mut buffer = BytesMut::new();
        for size in [KEEP_BUFFER / 2, 2 * KEEP_BUFFER] {
            buffer.extend_from_slice(&vec![0; size]);
            buffer.advance(size - 1);
            buffer.advance(1);
            give_back(&mut buffer);
            assert_eq!(buffer.try_reclaim(1), size < KEEP_BUFFER);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_resumed_session_outlives_its_grace_period() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        let id = a.id().await;
        drop(a);
        sleep(Duration::from_millis(29_990)).await;
        b.ask(&format!("conn_id {id}"), "200 conn id set").await;
        sleep(Duration::from_secs(3600)).await;
        b.ask("unlock k", "200 Unlocked").await;
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_period_that_is_over_cannot_be_resumed() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        let id = a.id().await;
        drop(a);
        sleep(Duration::from_millis(30_001)).await;
        b.ask(&format!("conn_id {id}"), "403 cannot set conn id")
            .await;
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_the_lock_unless_it_is_renewed() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        a.ask("expire k 1000", "200 OK").await;
        sleep(Duration::from_millis(900)).await;
        a.ask("expire k 1000", "200 OK").await;
        passes(Duration::from_secs(1), b.ask("lock k 3600", "200 Acquired")).await;
        for command in ["unlock k", "token k", "expire k 1000", "unlock k"] {
            a.ask(command, "403 expired").await;
        }
        a.ask("lock k", "409 Unavailable").await;
        b.ask("expire k 1000", "200 OK").await;
        b.ask("expire k 0", "200 OK").await;
        sleep(Duration::from_secs(3600)).await;
        b.ask("unlock k", "200 Unlocked").await;
        a.ask("lock k", "200 Acquired").await;
        a.ask("unlock k", "200 Unlocked").await;
        a.ask("unlock k", "403 not_locked").await;
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_ends_sooner_than_all_others_is_noticed_in_time() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        for (key, lease_ms) in [("x", 5_000), ("y", 3_000), ("z", 1_000)] {
            a.ask(&format!("lock_value {key} v"), "200 Acquired").await;
            a.ask(&format!("expire {key} {lease_ms}"), "200 OK").await;
        }
        passes(Duration::from_secs(1), b.ask("lock z 3600", "200 Acquired")).await;
        passes(Duration::from_secs(2), b.ask("lock y 3600", "200 Acquired")).await;
        passes(Duration::from_secs(2), b.ask("lock x 3600", "200 Acquired")).await;
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_longest_hold_every_lock_has_a_lease() {
        let server = Server::start_with(|config| config.max_hold_ms = 1_000);
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        passes(Duration::from_secs(1), b.ask("lock k 3600", "200 Acquired")).await;
        b.ask("expire k 3600000", "200 OK").await;
        passes(
            Duration::from_secs(1),
            a.ask("lock_value k v 3600", "200 Acquired"),
        )
        .await;
        a.ask("expire k 0", "200 OK").await;
        passes(Duration::from_secs(1), b.ask("lock k 3600", "200 Acquired")).await;
        a.ask("unlock k", "403 expired").await;
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up_after_its_time() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("set_timeout 0", "200 timeout set").await;
        a.ask("lock k", "200 Acquired").await;
        a.send("help").await;
        passes(
            Duration::from_secs(30),
            b.ask("lock k 3600", "200 Acquired"),
        )
        .await;
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_not_given_up() {
        let server = Server::start();
        let mut a = server.connect();
        a.ask("lock k", "200 Acquired").await;
        a.send("help").await;
        let mut byte = [0];
        let mut answers = a.answers.into_inner().into_inner();
        for _ in 0..50 {
            sleep(Duration::from_secs(29)).await;
            answers
                .read_exact(&mut byte)
                .await
                .expect("the connection stands");
        }
        assert_eq!(server.shared.table.session_counts(), (1, 1));
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_connection_is_noticed_while_its_request_waits() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        b.send("lock k 3600").await;
        server.until_waiting(1).await;
        // Input sent ahead is read and kept, within bounds, and not run.
        b.send(&"x".repeat(server.shared.config.max_ahead as usize / 2))
            .await;
        drop(b);
        server.until_waiting(0).await;
        a.ask("unlock k", "200 Unlocked").await;
        assert_eq!(server.shared.table.held(), 0);
        server.stop().await;
    }

    /// Otherwise the end of the connection behind it would not be noticed at once.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_is_refused_when_too_much_is_sent_ahead() {
        let server = Server::start_with(|config| config.max_ahead = 100);
        let (mut a, mut b) = (server.connect(), server.connect_by(1 << 16));
        a.ask("lock k", "200 Acquired").await;
        let ahead = "echo\n".repeat(20);
        b.send(&format!("lock k 3600\n{}", ahead.trim_end())).await;
        server.until_waiting(1).await;
        b.send("echo 101").await;
        b.expect("507 Too much sent ahead: at most 100 bytes").await;
        for _ in 0..20 {
            b.expect("200 []").await;
        }
        b.expect("200 [\"101\"]").await;
        server.until_waiting(0).await;
        b.send(&format!("lock k 3600\n{ahead}{ahead}")).await;
        drop(b);
        server.until_waiting(0).await;
        a.ask("unlock k", "200 Unlocked").await;
        server.stop().await;
    }

    /// The tokens of b's two grants say how many grants a had between them.
    #[tokio::test]
    async fn however_much_a_client_sends_ahead_others_get_their_turn() {
        let lines = |line: &str| -> String { (0..1_000).map(|_| line).collect() };
        // The last line has more bytes than the runtime counts for one read.
        for ahead in [
            lines("lock k\nunlock k\n"),
            lines("lock k\nunlock_all\n"),
            lines(&format!("{}lock k\nunlock k\n", " ".repeat(60))),
        ] {
            let server = Server::start();
            let (mut a, mut b) = (server.connect_by(1 << 20), server.connect_by(64));
            b.ask("lock first", "200 Acquired").await;
            b.send("token first").await;
            let first = b.number().await;
            a.send(&ahead).await;
            b.send("lock last\ntoken last").await;
            b.expect("200 Acquired").await;
            let between = b.number().await - first;
            assert!(between <= u64::from(LINES_A_TURN), "{between}");
            server.stop().await;
        }
    }

    /// Answers before a turn for other tasks count, too.
    #[tokio::test]
    async fn no_more_is_done_for_a_client_that_does_not_read() {
        let server = Server::start_with(|config| config.max_unsent = 1);
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        b.send("lock k 3600").await;
        server.until_waiting(1).await;
        let (mut answers, mut requests) = (a.answers, a.requests);
        let send = tokio::spawn(async move { requests.write_all(b"unlock k\nlock x\n").await });
        b.expect("200 Acquired").await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            server.shared.table.held(),
            1,
            "the answer before does not fit"
        );
        for answer in ["200 Unlocked", "200 Acquired"] {
            assert_eq!(
                answers.next_line().await.expect("a line").as_deref(),
                Some(answer)
            );
        }
        send.await
            .expect("no panic")
            .expect("the connection stands");
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_torn_down_leaves_no_lock_behind() {
        let server = Server::start();
        let (ours, theirs) = tokio::io::duplex(64);
        let shared = Arc::clone(&server.shared);
        let arrival = shared
            .desk
            .arrival(Peer::Unix(None), shared.clock.now())
            .expect("a place");
        let task = tokio::spawn(serve(ours, arrival, shared, ()));
        let (answers, requests) = split(theirs);
        let mut a = Client {
            answers: BufReader::new(answers).lines(),
            requests,
        };
        let mut b = server.connect();
        b.ask("lock other", "200 Acquired").await;
        a.ask("lock k", "200 Acquired").await;
        a.send("lock other 3600").await;
        server.until_waiting(1).await;
        task.abort();
        assert!(task.await.expect_err("aborted").is_cancelled());
        assert!(server.shared.table.waiters().is_empty());
        b.ask("lock k", "200 Acquired").await;
        assert_eq!(server.shared.table.session_counts(), (1, 1));
        server.stop().await;
    }

    /// Whichever learns of the stop first: the holder's end, a release that was read before, or a
    /// waiter.
    #[tokio::test(start_paused = true)]
    async fn a_stop_is_nobodys_disconnect_and_grants_nothing() {
        let server = Server::start();
        let [mut a, mut b, mut c, mut e] = [(); 4].map(|()| server.connect());
        let mut d = server.connect_by(1024);
        a.ask("set_timeout 0", "200 timeout set").await;
        a.ask("lock k", "200 Acquired").await;
        c.ask("lock l", "200 Acquired").await;
        d.ask("lock own", "200 Acquired").await;
        b.send("lock k 3600").await;
        server.until_waiting(1).await;
        e.ask("lock_value shared v", "200 Acquired").await;
        d.send("lock l 3600\nunlock own\nlock own\nlock free\nlock free 5\nlock_value shared v")
            .await;
        server.until_waiting(2).await;
        // The stop begins before the connections' tasks have their turn.
        server.shared.begin_stop();
        drop((a, c));
        let mut late = server.connect();
        assert_eq!(late.answers.next_line().await.expect("an end"), None);
        b.expect("503 Shutting down").await;
        for answer in [
            "503 Shutting down",
            "200 Unlocked",
            "503 Shutting down",
            "503 Shutting down",
            "503 Shutting down",
            "503 Shutting down",
        ] {
            d.expect(answer).await;
        }
        let table = &server.shared.table;
        let held = table.keys();
        assert!(
            held.iter()
                .map(|key| key.as_bytes())
                .eq([&b"k"[..], b"l", b"shared"])
        );
        let shared = Arc::clone(&server.shared);
        server.stop().await;
        assert_eq!(shared.table.held(), 3, "nothing ends after a stop either");
    }

    /// A release that comes after the stop, when the lock's waiters have not heard of the stop yet.
    #[tokio::test]
    async fn what_is_released_during_a_stop_passes_to_nobody() {
        let server = Server::start();
        let (table, now) = (&server.shared.table, server.shared.clock.now());
        let mut a = table.open(Peer::Unix(None), Duration::ZERO);
        let taken = table.try_acquire(&mut a, b"k", &Mode::Exclusive.into(), now);
        assert_eq!(taken.expect("no store").value, Locked::Acquired);
        let (mut b, mut c) = (server.connect(), server.connect());
        b.send("lock k 3600").await;
        c.send("lock k 3600").await;
        server.until_waiting(2).await;
        server.shared.begin_stop();
        let unlocked = table
            .unlock(&mut a, b"k", None, now)
            .expect("no store")
            .value;
        assert_eq!(unlocked, Unlocked::Released { passed_on: false });
        b.expect("503 Shutting down").await;
        c.expect("503 Shutting down").await;
        assert_eq!((table.held(), table.waiters().len()), (0, 0));
        server.stop().await;
    }

    /// The lease is over before the waiter's task has its turn, and the lock is the next waiter's
    /// then.
    #[tokio::test]
    async fn a_waiter_is_not_told_of_a_lock_that_it_has_lost_since() {
        let hour = Duration::from_secs(3600);
        let server = Server::start_with(|config| config.max_hold_ms = 3_600_000);
        let (table, now) = (&server.shared.table, server.shared.clock.now());
        let mut a = table.open(Peer::Unix(None), Duration::ZERO);
        let taken = table.try_acquire(&mut a, b"k", &Mode::Exclusive.into(), now);
        assert_eq!(taken.expect("no store").value, Locked::Acquired);
        let (mut b, mut c) = (server.connect(), server.connect());
        for (waiters, client) in [(1, &mut b), (2, &mut c)] {
            client.send("lock k 86400").await;
            server.until_waiting(waiters).await;
        }
        let unlocked = table
            .unlock(&mut a, b"k", None, now)
            .expect("no store")
            .value;
        assert_eq!(unlocked, Unlocked::Released { passed_on: true });
        let (_, ended) = table.end_leases(now + hour, 10);
        assert_eq!(ended.len(), 1);
        b.expect("409 Unavailable").await;
        c.expect("200 Acquired").await;
        b.ask("token k", "403 expired").await;
        server.stop().await;
    }

    /// Also for a lock held by an earlier request; a lock that the session released itself was its
    /// own.
    #[tokio::test]
    async fn what_a_packet_says_of_a_lock_is_true_when_it_is_sent() {
        let server = Server::start();
        let table = &server.shared.table;
        let mut a = server.connect_by(1 << 16);
        a.ask("lock k", "200 Acquired").await;
        a.ask("expire k 3600000", "200 OK").await;
        // So many lines that other tasks have a turn before they are answered.
        let echoes = "\necho".repeat(LINES_A_TURN as usize);
        a.send(&format!(
            "lock x\nlock k\ntoken k\nunlock x\nlock y{echoes}"
        ))
        .await;
        while table.held() < 2 {
            tokio::task::yield_now().await;
        }
        let end = server.shared.clock.now() + Duration::from_secs(7200);
        assert_eq!(table.end_leases(end, 10).1.len(), 1);
        for answer in [
            "200 Acquired",
            "409 Unavailable",
            "403 expired",
            "200 Unlocked",
            "200 Acquired",
        ] {
            a.expect(answer).await;
        }
        for _ in 0..LINES_A_TURN {
            a.expect("200 []").await;
        }
        a.send("lock z\nunlock_all").await;
        a.expect("200 Acquired").await;
        a.expect("200 OK").await;
        server.stop().await;
    }

    /// The lock is granted at once, but the client is gone before it can be told.
    #[tokio::test(start_paused = true)]
    async fn a_grant_whose_answer_cannot_be_sent_is_given_back() {
        let server = Server::start();
        let mut a = server.connect();
        for lines in [
            "lock k",
            "lock_value k v\nunlock k\nlock k 5",
            "lock l\nlock k",
        ] {
            let mut b = server.connect_by(64);
            b.send(lines).await;
            drop(b);
            passes(Duration::ZERO, a.ask("lock k 3600", "200 Acquired")).await;
            a.ask("unlock k", "200 Unlocked").await;
        }
        assert_eq!(server.shared.table.held(), 0);
        server.stop().await;
    }

    /// The connection ends when the first answer and a part of the second are sent.
    #[tokio::test(start_paused = true)]
    async fn of_several_grants_only_the_unsent_ones_are_given_back() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect_by(24), server.connect());
        a.send("lock x\nlock y\nlock z").await;
        while server.shared.table.held() < 3 {
            tokio::task::yield_now().await;
        }
        drop(a);
        for key in ["y", "z"] {
            let lock = format!("lock {key} 3600");
            passes(Duration::ZERO, b.ask(&lock, "200 Acquired")).await;
        }
        passes(
            Duration::from_secs(30),
            b.ask("lock x 3600", "200 Acquired"),
        )
        .await;
        server.stop().await;
    }

    /// The session keeps a grant that its client was told of.
    #[tokio::test(start_paused = true)]
    async fn a_grant_whose_answer_was_sent_is_not_given_back() {
        let server = Server::start();
        let mut a = server.connect();
        a.ask("lock k", "200 Acquired").await;
        a.send("lock x\nlock k").await;
        drop(a);
        let mut b = server.connect();
        b.ask("lock x 1", "200 Acquired").await;
        passes(
            Duration::from_secs(30),
            b.ask("lock k 3600", "200 Acquired"),
        )
        .await;
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_server_did_not_run_ends_neither_session_nor_lease() {
        let server = Server::start();
        let shared = Arc::clone(&server.shared);
        let beats = tokio::spawn(async move { keep_time(&shared.clock, || {}).await });
        let (mut a, mut c) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        let id = a.id().await;
        drop(a);
        c.ask("lock l", "200 Acquired").await;
        c.ask("expire l 30000", "200 OK").await;
        sleep(Duration::from_secs(10)).await;
        tokio::time::advance(Duration::from_secs(40)).await;
        let mut b = server.connect();
        b.ask(&format!("conn_id {id}"), "200 conn id set").await;
        b.ask("unlock k", "200 Unlocked").await;
        c.ask("expire l 30000", "200 OK").await;
        passes(
            Duration::from_secs(30),
            b.ask("lock l 3600", "200 Acquired"),
        )
        .await;
        server.stop().await;
        beats.abort();
    }

    /// Wherever the connection's task waits.
    #[tokio::test(start_paused = true)]
    async fn an_order_ends_a_connection_at_once() {
        // A session that is taken over waits for whoever does so.
        let orders = [
            (Order::TakenOver, Duration::from_secs(5)),
            (Order::Kill, Duration::ZERO),
        ];
        for (order, until_free) in orders {
            let server = Server::start();
            let [mut a, b, mut c, mut d, mut e] = [(); 5].map(|()| server.connect());
            a.ask("lock k", "200 Acquired").await;
            c.ask("set_timeout 0", "200 timeout set").await;
            c.ask("lock l", "200 Acquired").await;
            c.send("lock k 3600").await;
            server.until_waiting(1).await;
            d.ask("set_timeout 0", "200 timeout set").await;
            d.ask("lock m", "200 Acquired").await;
            // The answer is longer than the pipe, and the client does not read the rest.
            d.send("help").await;
            d.expect("200 HELP").await;
            // The server's task fills the pipe again, and rests.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            // Its answer is not written yet.
            e.send("echo").await;
            for number in [2, 3, 4, 5] {
                assert!(server.shared.table.order(SessionNumber(number), order));
            }
            passes(until_free, a.ask("lock l 3600", "200 Acquired")).await;
            passes(Duration::ZERO, a.ask("lock m 3600", "200 Acquired")).await;
            server.until_waiting(0).await;
            assert!(!server.shared.table.order(SessionNumber(3), order));
            for mut client in [b, c, e] {
                assert_eq!(client.answers.next_line().await.expect("an end"), None);
            }
            server.stop().await;
        }
    }

    /// The connection speaks for another session when the answer is about to leave, which never had a
    /// lease.
    #[tokio::test]
    async fn a_lost_lock_is_not_told_of_by_a_connection_that_resumed_another_session() {
        let server = Server::start();
        let table = &server.shared.table;
        let mut r = server.connect();
        let id = r.id().await;
        drop(r);
        let (mut a, mut c) = (server.connect_by(1 << 16), server.connect());
        let echoes = "\necho".repeat(LINES_A_TURN as usize);
        a.send(&format!("lock k\nexpire k 3600000{echoes}\nconn_id {id}"))
            .await;
        while table.held() < 1 {
            tokio::task::yield_now().await;
        }
        let end = server.shared.clock.now() + Duration::from_secs(7200);
        assert_eq!(table.end_leases(end, 10).1.len(), 1);
        c.ask("lock k", "200 Acquired").await;
        a.expect("409 Unavailable").await;
        server.stop().await;
    }

    /// The lock has its first lease behind the requests that tell of it, in the same packet.
    #[tokio::test]
    async fn a_lease_makes_what_was_said_before_it_uncertain() {
        let server = Server::start();
        let table = &server.shared.table;
        let (mut a, mut c) = (server.connect_by(1 << 16), server.connect());
        a.ask("lock k", "200 Acquired").await;
        let echoes = "\necho".repeat(LINES_A_TURN as usize);
        a.send(&format!("lock k\ntoken k\nexpire k 3600000{echoes}"))
            .await;
        while table.next_lease_end().is_none() {
            tokio::task::yield_now().await;
        }
        let end = server.shared.clock.now() + Duration::from_secs(7200);
        assert_eq!(table.end_leases(end, 10).1.len(), 1);
        c.ask("lock k", "200 Acquired").await;
        a.expect("409 Unavailable").await;
        a.expect("403 expired").await;
        server.stop().await;
    }

    #[tokio::test]
    async fn a_lock_that_was_released_before_another_got_a_lease_was_held() {
        let server = Server::start();
        let mut a = server.connect_by(1 << 16);
        for release in ["unlock a", "unlock_all"] {
            a.send(&format!(
                "lock a\n{release}\nlock b\nexpire b 60000\nunlock b"
            ))
            .await;
            let released = ["200 Unlocked", "200 OK"][usize::from(release == "unlock_all")];
            for answer in [
                "200 Acquired",
                released,
                "200 Acquired",
                "200 OK",
                "200 Unlocked",
            ] {
                a.expect(answer).await;
            }
        }
        server.stop().await;
    }

    /// The pipe takes one answer and a part of the next, and nothing more until the client reads.
    #[tokio::test]
    async fn an_answer_that_could_not_be_sent_for_a_while_is_true_when_it_is() {
        let server = Server::start_with(|config| config.max_hold_ms = 3_600_000);
        let table = &server.shared.table;
        let (mut a, mut c) = (server.connect_by(22), server.connect());
        a.send("lock k\nlock l\nlock m").await;
        while table.held() < 3 {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let end = server.shared.clock.now() + Duration::from_secs(7200);
        assert_eq!(table.end_leases(end, 10).1.len(), 3);
        c.ask("lock m", "200 Acquired").await;
        // Of the second answer a part is with the client already.
        for answer in ["200 Acquired", "200 Acquired", "409 Unavailable"] {
            a.expect(answer).await;
        }
        server.stop().await;
    }

    /// A lease that is due when the stop begins: the task that ends leases must not wait for it for
    /// ever without a pause.
    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_due_does_not_hold_up_a_stop() {
        let server = Server::start();
        let mut a = server.connect();
        a.ask("lock k", "200 Acquired").await;
        a.ask("expire k 1000", "200 OK").await;
        // The table stops, and the task that ends leases has not heard of it.
        server.shared.table.stop();
        sleep(Duration::from_secs(2)).await;
        assert_eq!(server.shared.table.held(), 1);
        server.stop().await;
    }

    /// The clock steps back between the end of the wait and the look at the grace period.
    #[tokio::test(start_paused = true)]
    async fn a_grace_period_ends_for_good_though_the_clock_steps_back() {
        let server = Server::start();
        let shared = Arc::clone(&server.shared);
        let beats = tokio::spawn(async move { keep_time(&shared.clock, || {}).await });
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("set_timeout 10000", "200 timeout set").await;
        a.ask("lock k", "200 Acquired").await;
        drop(a);
        for _ in 0..20 {
            sleep(Duration::from_millis(300)).await;
            tokio::time::advance(Duration::from_millis(990)).await;
        }
        b.ask("lock k 3600", "200 Acquired").await;
        beats.abort();
        server.stop().await;
    }
}
