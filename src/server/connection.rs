//! One connection: read a batch of lines, run them, write their answers in one go.
//!
//! What can be answered at once is, without a future in between. What cannot makes a [`Pause`].
//!
//! Generic over the stream, so that TCP, unix sockets and in-memory pipes are all the same.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::codec::{Decoder, Encoder};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Shared;
use super::command::Pause;
use super::grace::{self, Attached};
use super::promise::{About, Promises};
use super::transport::Transport;
use super::wait::first_of;
use crate::protocol::{Line, LineCodec, Lines, Reply, Request};
use crate::table::{Ending, NotHeld, Peer};

/// How much is read at once.
const READ_SIZE: usize = 8 * 1024;

/// How much of what a client sends ahead is read while its request waits: so the end of its input
/// is noticed at once, and, behind more than this, within a second.
const READ_AHEAD: usize = 64 * 1024;

/// How many lines of one client are answered before others get their turn, however they come.
const LINES_A_TURN: u32 = 128;

/// Buffers of this size or above are given back once they are empty: those that stay are enough for
/// a client that sends one command at a time.
const KEEP_BUFFER: usize = 256;

/// How long a closed connection waits for its client to close, too.
const LINGER: Duration = Duration::from_secs(1);

/// The same when the server stops, where nobody wants to wait.
const LINGER_AT_SHUTDOWN: Duration = Duration::from_millis(100);

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Gone {
    #[error("the client said quit")]
    Quit,
    #[error("the client sends nothing more")]
    InputEnded,
    #[error("the connection failed: {0}")]
    Broken(#[from] io::Error),
    #[error("the client does not read its answers")]
    Stalled,
    #[error("the client reads a debug too slowly")]
    TooSlow,
    #[error("the server stops")]
    Shutdown,
}

/// One client's connection and what it is in the middle of.
pub(super) struct Connection<S> {
    pub(super) shared: Arc<Shared>,
    pub(super) session: Attached,
    pub(super) output: BytesMut,
    /// Replies in `output` that rest on what is not durable yet.
    promises: Promises,
    stream: S,
    input: BytesMut,
    codec: LineCodec,
    /// Before others get their turn.
    lines_left: u32,
    /// When its turn began.
    pub(super) now: std::time::Instant,
    stop: CancellationToken,
    /// There is nothing more to read.
    input_ended: bool,
    /// The client has left, though some of what it sent may still be unread. That is answered, but
    /// nothing waits any more.
    client_left: bool,
    /// The server stops: nothing more is read and nothing waits.
    pub(super) stopping: bool,
}

/// Serves one client until its connection ends, gives `slot` back, and leaves the session to its
/// grace period. The session begins now, and all else with the first poll.
///
/// `stop` should be a token that few connections share: they contend for it at each read.
pub(super) fn serve<S: Transport, P>(
    stream: S,
    peer: Peer,
    shared: Arc<Shared>,
    stop: CancellationToken,
    slot: P,
) -> impl Future<Output = ()> {
    let mut connection = Connection::new(stream, peer, shared, stop);
    debug!(%peer, session = %connection.session.number(), "connected");
    // Not an `async fn`, which would keep the room of its arguments beside that of the connection.
    async move {
        let Err(gone) = connection.converse().await;
        // Boxed, as are all rare and large futures here: a connection takes the room of its largest
        // one for as long as it lives.
        Box::pin(connection.end(gone)).await;
        drop(slot);
    }
}

impl<S: Transport> Connection<S> {
    fn new(stream: S, peer: Peer, shared: Arc<Shared>, stop: CancellationToken) -> Self {
        Self {
            session: Attached::open(&shared, peer),
            output: BytesMut::new(),
            promises: Promises::default(),
            stream,
            input: BytesMut::new(),
            codec: LineCodec::new(shared.config.max_line as usize),
            lines_left: LINES_A_TURN,
            now: Instant::now().into_std(),
            stop,
            input_ended: false,
            client_left: false,
            stopping: false,
            shared,
        }
    }

    /// Answers lines and reads more, until the connection is over.
    async fn converse(&mut self) -> Result<Infallible, Gone> {
        loop {
            self.now = Instant::now().into_std();
            if let Err(pause) = self.answer() {
                Box::pin(self.pause(pause)).await?;
                self.flush_if_full().await?;
                continue;
            }
            self.flush().await?;
            self.shared.table.forget_old_losses(&self.session);
            self.stopping |= self.stop.is_cancelled();
            if self.stopping {
                return Err(Gone::Shutdown);
            }
            if self.input_ended {
                return Err(Gone::InputEnded);
            }
            self.read().await?;
        }
    }

    /// Answers all lines that are here, or those up to one that makes a pause.
    fn answer(&mut self) -> Result<(), Pause> {
        while let Some(mut lines) = self.codec.decode(&mut self.input).map_err(Gone::from)? {
            let answered = self.answer_lines(&mut lines);
            self.codec.put_back(lines, &mut self.input);
            answered?;
        }
        Ok(())
    }

    fn answer_lines(&mut self, lines: &mut Lines) -> Result<(), Pause> {
        loop {
            if self.lines_left == 0 && !lines.is_empty() {
                self.lines_left = LINES_A_TURN;
                return Err(Pause::Turn);
            }
            let Some(line) = lines.next_line() else {
                return Ok(());
            };
            self.lines_left = self.lines_left.saturating_sub(1);
            match line {
                Line::Text(text) => match Request::parse(text) {
                    Ok(request) => self.run(request)?,
                    Err(bad) => self.reply(&Reply::Bad(bad))?,
                },
                Line::TooLong => {
                    let max_bytes = self.shared.config.max_line as usize;
                    self.reply(&Reply::LineTooLong { max_bytes })?;
                }
            }
            if self.is_output_full() {
                return Err(Pause::Flush);
            }
        }
    }

    pub(super) fn reply(&mut self, reply: &Reply<'_>) -> Result<(), Gone> {
        Ok(self.codec.encode(reply, &mut self.output)?)
    }

    /// A reply that rests on what the session changed last. It is sent once that is durable.
    pub(super) fn promise(&mut self, reply: &Reply<'_>, about: About<&[u8]>) -> Result<(), Gone> {
        let (seq, start) = (self.session.seq(), self.output.len());
        self.reply(reply)?;
        if seq > self.shared.table.changes().durable_up_to() {
            self.promises.add(seq, start..self.output.len(), about);
        }
        Ok(())
    }

    /// Waits until all promises are durable. Those that cannot be made so become errors, and the
    /// locks that they were about are given back before anyone is told of them. And nobody is told
    /// of a lock whose lease ended during the wait.
    async fn keep_promises(&mut self) {
        let Some(last) = self.promises.last() else {
            return;
        };
        let table = &self.shared.table;
        let promises = std::mem::take(&mut self.promises);
        let stored = table.changes().durable(last).await;
        let (session, now) = (&mut *self.session, Instant::now().into_std());
        let durable = table.changes().durable_up_to();
        promises.replace(&mut self.output, |seq, about| {
            if let (Err(why), true) = (&stored, seq > durable) {
                if let About::Grant(key) = about {
                    table.unlock(session, key.as_bytes(), now);
                }
                return Some(Reply::NotStored(why.clone()));
            }
            let (key, instead) = match about {
                About::Grant(key) => (key, Reply::Unavailable),
                About::Hold(key) => (key, Reply::Expired),
                About::Change => return None,
            };
            let lost = table.token(session, key.as_bytes()) == Err(NotHeld::Expired);
            lost.then_some(instead)
        });
        table.changes().write(session.seq());
    }

    async fn read(&mut self) -> Result<(), Gone> {
        give_back(&mut self.input);
        tokio::select! {
            biased;
            read = read_some(&mut self.stream, &mut self.input, READ_SIZE) => {
                self.input_ended = read? == 0;
            }
            () = self.stop.cancelled() => self.stopping = true,
        }
        Ok(())
    }

    pub(super) fn is_output_full(&self) -> bool {
        self.output.len() >= self.shared.config.max_unsent as usize
    }

    pub(super) async fn flush_if_full(&mut self) -> Result<(), Gone> {
        match self.is_output_full() {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Writes all answers that are due. While a client does not take them nothing else happens
    /// for it, so what is kept for it stays bounded; but not for longer than it may.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.promises.last().is_some() {
            Box::pin(self.keep_promises()).await;
        }
        let unsent_timeout = self.shared.config.unsent_timeout();
        while !self.output.is_empty() {
            tokio::select! {
                biased;
                // Not `write_buf`, whose system call for several buffers costs more for this one.
                written = self.stream.write(&self.output) => {
                    match written? {
                        0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                        written => self.output.advance(written),
                    }
                }
                () = lazy_sleep(unsent_timeout) => return Err(Gone::Stalled),
            }
        }
        give_back(&mut self.output);
        Ok(self.stream.flush().await?)
    }

    /// True if a request that cannot be answered at once may wait.
    pub(super) fn may_wait(&self) -> bool {
        !self.input_ended && !self.client_left && !self.stopping
    }

    /// Sits out the session's wait; true if it ends with the lock.
    pub(super) async fn wait_for_grant(&mut self, wait: Duration) -> Result<bool, Gone> {
        let Some(waiter) = self.session.waiter().cloned() else {
            debug_assert!(false, "only a session that waits gets here");
            return Ok(false);
        };
        let deadline = Instant::now() + wait;
        let mut left = Ok(());
        let disconnect = async {
            left = until_left(&mut self.stream, &mut self.input, &mut self.input_ended).await;
        };
        let (stop, deadline) = (self.stop.cancelled(), sleep_until(deadline));
        let ending = first_of(disconnect, waiter.granted(), stop, deadline).await;
        let now = Instant::now().into_std();
        let has_lock = self.shared.table.settle(&mut self.session, ending, now);
        self.client_left |= ending == Ending::Disconnect;
        self.stopping |= ending == Ending::Shutdown;
        left?;
        Ok(has_lock)
    }

    /// Waits for something that is neither input nor output; `None` if the client leaves or the
    /// server stops before that.
    pub(super) async fn wait_for<T>(
        &mut self,
        event: impl Future<Output = T>,
    ) -> Result<Option<T>, Gone> {
        tokio::select! {
            biased;
            left = until_left(&mut self.stream, &mut self.input, &mut self.input_ended) => {
                self.client_left = true;
                left?;
            }
            () = self.stop.cancelled() => self.stopping = true,
            happened = event => return Ok(Some(happened)),
        }
        Ok(None)
    }

    /// What is left to do once nothing more is read.
    async fn end(&mut self, gone: Gone) {
        debug!(session = %self.session.number(), "disconnected: {gone}");
        self.keep_promises().await;
        // The session leaves first: a client that has read the goodbye finds it resumable, or its
        // locks free. And its time runs from here on, however long the goodbye takes.
        if let Some(grace) = self.session.detach().await {
            // In a small task of its own: there may be very many, and this one's memory is free then.
            let shared = Arc::clone(&self.shared);
            tokio::spawn(grace::sit_out(shared, grace, self.stop.clone()));
        }
        self.say_goodbye(gone).await;
    }

    /// Sends the last answers and closes.
    async fn say_goodbye(&mut self, gone: Gone) {
        let has_last_words = matches!(gone, Gone::Quit | Gone::Shutdown);
        if has_last_words && self.flush().await.is_ok() {
            close_gently(&mut self.stream, &self.stop).await;
        }
    }
}

/// Says that nothing more will be written and waits a little until the client has closed, too.
/// What still comes in is dropped. Closing at once would make the kernel throw the last answer
/// away if something unread is still coming in.
pub(super) async fn close_gently(stream: &mut impl Transport, stop: &CancellationToken) {
    let drain = async {
        stream.shutdown().await?;
        let mut dropped = [0; 1024];
        while stream.read(&mut dropped).await? > 0 {}
        io::Result::Ok(())
    };
    let patience = async {
        sleep(LINGER_AT_SHUTDOWN).await;
        // Stopped or not, the time is over then.
        let _ = timeout(LINGER, stop.cancelled()).await;
    };
    tokio::select! {
        // Whether the client closed or failed: the connection is over.
        _ = drain => {}
        () = patience => {}
    }
}

/// Sleeps, by a timer that exists only once this is waited for.
async fn lazy_sleep(time: Duration) {
    Box::pin(sleep(time)).await;
}

/// Reads ahead until the client has left. `input_ended` says then whether everything is read;
/// once the buffer is full, the rest stays where it is.
async fn until_left(
    stream: &mut impl Transport,
    input: &mut BytesMut,
    input_ended: &mut bool,
) -> io::Result<()> {
    while let room @ 1.. = READ_AHEAD.saturating_sub(input.len()) {
        if read_some(stream, input, room).await? == 0 {
            *input_ended = true;
            return Ok(());
        }
    }
    stream.peer_gone().await;
    Ok(())
}

/// Reads what is there, but at most `most` bytes and [`READ_SIZE`]; 0 is the end. There is no buffer
/// before something has come, so that an idle connection has none.
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

/// Frees an empty buffer that has grown large.
fn give_back(buffer: &mut BytesMut) {
    // Its capacity says how much is left of it behind what was consumed, which may be little.
    if buffer.is_empty() && buffer.try_reclaim(KEEP_BUFFER) {
        *buffer = BytesMut::new();
    }
}

/// Over in-memory pipes of eight bytes, on a clock that stands still until everyone waits for it:
/// so every time below is exact.
#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, BufReader, split};

    use super::*;
    use crate::server::harness::{Client, Server};

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
    async fn who_waits_for_its_turn_to_debug_may_leave() {
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
        server.stop.cancel();
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
        // It ends somewhere between two looks of this slow reader, after eight bytes on the way.
        let took = begin.elapsed();
        let due = super::super::debug::DEBUG_TIME;
        assert!(
            took >= due && took < due + Duration::from_secs(20 * 10),
            "{took:?}"
        );
        server.stop().await;
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
    async fn a_client_that_reads_slowly_is_not() {
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
        while server.shared.table.waiters().is_empty() {
            tokio::task::yield_now().await;
        }
        // Sending ahead is read and kept, within bounds, and not run.
        b.send(&"x".repeat(READ_AHEAD / 2)).await;
        drop(b);
        while !server.shared.table.waiters().is_empty() {
            tokio::task::yield_now().await;
        }
        a.ask("unlock k", "200 Unlocked").await;
        assert_eq!(server.shared.table.held(), 0);
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_ahead_of_a_wait_is_bounded() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        b.send("lock k 3600").await;
        let ahead = "echo\n".repeat(READ_AHEAD);
        let sent = tokio::time::timeout(
            Duration::from_secs(1),
            b.requests.write_all(ahead.as_bytes()),
        );
        assert!(sent.await.is_err(), "the server does not read all of this");
        a.ask("unlock k", "200 Unlocked").await;
        b.expect("200 Acquired").await;
        b.expect("200 []").await;
        server.stop().await;
    }

    /// What another is granted says how many were granted to this one before.
    #[tokio::test]
    async fn however_much_a_client_sends_ahead_others_get_their_turn() {
        let lines = |line: &str| -> String { (0..1_000).map(|_| line).collect() };
        // The last with more in one line than the runtime counts for a read of it.
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

    /// Answers that come with a turn for others count, too.
    #[tokio::test]
    async fn no_more_is_done_for_a_client_that_does_not_read() {
        let server = Server::start_with(|config| config.max_unsent = 1);
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        b.send("lock k 3600").await;
        while server.shared.table.waiters().is_empty() {
            tokio::task::yield_now().await;
        }
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
        let task = tokio::spawn(serve(
            ours,
            Peer::Unix(None),
            shared,
            CancellationToken::new(),
            (),
        ));
        let (answers, requests) = split(theirs);
        let mut a = Client {
            answers: BufReader::new(answers).lines(),
            requests,
        };
        let mut b = server.connect();
        b.ask("lock other", "200 Acquired").await;
        a.ask("lock k", "200 Acquired").await;
        a.send("lock other 3600").await;
        while server.shared.table.waiters().is_empty() {
            tokio::task::yield_now().await;
        }
        task.abort();
        assert!(task.await.expect_err("aborted").is_cancelled());
        assert!(server.shared.table.waiters().is_empty());
        b.ask("lock k", "200 Acquired").await;
        assert_eq!(server.shared.table.session_counts(), (1, 1));
        server.stop().await;
    }
}
