//! Clients of a server that does not lead: their bytes are passed on to the one that does, and its bytes
//! back, as they come.
//!
//! Invariants:
//!
//! 1. A connection is passed on to one leader, and ends with that leader's turn, or when etcd has not told for
//!    [`Leadership::longest_hope`] that it leads. Nothing is passed back after that: so nobody is told what a
//!    leader said that was replaced, also if this server stood still meanwhile.
//! 2. What comes in for the leader alone is never passed on again.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_buf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::election::{Heard, Leader, Seen};
use super::introduction::{Introduction, NotIntroduced};
use super::leadership::Leadership;
use crate::config::Config;
use crate::model::{Peer, Secret};
use crate::protocol::Reply;
use crate::server::{Acceptor, Arrived, Listener, Transport, close_gently, configure};

/// How long a leader may take to accept a client.
const ACCEPT: Duration = Duration::from_secs(2);

/// How long nobody is asked after a leader has not accepted.
const BACK_OFF: Duration = Duration::from_millis(20);

/// How long at the most: very many may wait for a leader that is gone.
const LONGEST_BACK_OFF: Duration = Duration::from_millis(250);

/// How many clients are told at one time that they are not passed on; more are closed at once.
const REFUSALS_AT_ONCE: usize = 64;

/// How often it is looked whether etcd still tells who leads.
const LOOK: Duration = Duration::from_millis(500);

/// How often the log says that a client is not passed on.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How many bytes are on their way in each direction.
const BUFFER: usize = 2 * 1024;

/// Clients that were or are to be passed on. Clones speak of the same.
#[derive(Clone)]
pub(super) struct Passing {
    pub(super) seen: watch::Receiver<Seen>,
    pub(super) heard: Arc<Heard>,
    hold: Duration,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    max_connections: usize,
    passed: Arc<AtomicU64>,
    /// When the log last said that a client was not passed on.
    told: Arc<Mutex<Option<Instant>>>,
    config: Arc<Config>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// Why a client is not passed on.
#[derive(Debug, thiserror::Error)]
enum NotPassed {
    #[error("{0}")]
    NoLeader(String),
    #[error("the server stops")]
    Stopping,
}

/// A leader's turn, and a connection to it.
struct Reached {
    revision: i64,
    /// For how long it may be believed in that has not been heard of.
    hope: Duration,
    stream: TcpStream,
}

impl Passing {
    pub(super) fn new(
        seen: watch::Receiver<Seen>,
        heard: Arc<Heard>,
        config: &Config,
        hold: Duration,
        stop: CancellationToken,
    ) -> Self {
        let max_connections = config.max_connections as usize;
        Self {
            seen,
            heard,
            hold,
            places: Arc::new(Semaphore::new(max_connections)),
            refusals: Arc::new(Semaphore::new(REFUSALS_AT_ONCE)),
            max_connections,
            passed: Arc::default(),
            told: Arc::default(),
            config: Arc::new(config.clone()),
            tasks: TaskTracker::new(),
            stop,
        }
    }

    /// The same for so many connections at the most.
    pub(super) fn at_most(self, max_connections: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            ..self
        }
    }

    /// Accepts the clients of one port, for as long as this is polled.
    pub(super) async fn accept_all(self, listeners: Arc<[Listener]>, place: usize) {
        let mut acceptor = Acceptor::default();
        loop {
            self.take_in(acceptor.next(&listeners[place]).await);
            tokio::task::yield_now().await;
        }
    }

    /// Closes what comes to the port for servers, for as long as this is polled: whoever believes that this one
    /// leads will look again.
    pub(super) async fn refuse_all(self, listeners: Arc<[Listener]>, place: usize) {
        let mut acceptor = Acceptor::default();
        loop {
            drop(acceptor.next(&listeners[place]).await);
        }
    }

    #[cfg(feature = "admin")]
    /// How many connections are passed on, or wait for that, at this time; and how many were since the start.
    pub(super) fn counts(&self) -> (usize, u64) {
        let taken = self.max_connections - self.places.available_permits();
        (taken, self.passed.load(Ordering::Relaxed))
    }

    fn take_in(&self, arrived: Arrived) {
        match arrived {
            Arrived::Tcp(stream, address) => {
                configure(&stream, &self.config);
                self.pass_on(stream, Peer::Tcp(address), false);
            }
            #[cfg(feature = "tls")]
            Arrived::Tls(stream, address) => {
                configure(&stream, &self.config);
                self.pass_on(stream, Peer::Tcp(address), true);
            }
            Arrived::Unix(stream, pid) => self.pass_on(stream, Peer::Unix(pid), false),
        }
    }

    fn pass_on(&self, stream: impl Transport, peer: Peer, by_tls: bool) {
        let passing = self.clone();
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        self.tasks.spawn(async move {
            passing.serve(stream, peer, by_tls, place).await;
        });
    }

    async fn serve(
        mut self,
        mut client: impl Transport,
        peer: Peer,
        by_tls: bool,
        place: Option<OwnedSemaphorePermit>,
    ) {
        if place.is_none() {
            let max = self.max_connections;
            return self
                .refuse(&mut client, by_tls, &Reply::TooManyConnections { max })
                .await;
        }
        let reached = self.reach(peer, by_tls).await;
        match reached {
            Ok(reached) => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                self.pass(&mut client, reached).await;
            }
            Err(why) => {
                self.tell(peer, &why);
                let reply = match why {
                    NotPassed::NoLeader(_) => Reply::NoLeader,
                    NotPassed::Stopping => Reply::ShuttingDown,
                };
                self.refuse(&mut client, by_tls, &reply).await;
            }
        }
        drop(client);
        drop(place);
    }

    /// Says why a client is not passed on, for one of many that come at the same time.
    fn tell(&self, peer: Peer, why: &NotPassed) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return debug!(%peer, "not passed on: {why}");
        }
        *told = Some(Instant::now());
        match why {
            NotPassed::NoLeader(_) => warn!(%peer, "not passed on: {why}"),
            NotPassed::Stopping => info!(%peer, "not passed on: {why}"),
        }
    }

    /// A client that expects TLS would not understand an answer.
    async fn refuse(&self, client: &mut impl Transport, by_tls: bool, reply: &Reply<'_>) {
        let mut answer = BytesMut::new();
        reply.put(&mut answer);
        let Ok(_place) = self.refusals.try_acquire() else {
            return;
        };
        if !by_tls && timeout(ACCEPT, client.write_all(&answer)).await.is_ok() {
            close_gently(client, self.stop.cancelled()).await;
        }
    }

    /// Connects to the leader, whoever that is by then.
    async fn reach(&mut self, peer: Peer, by_tls: bool) -> Result<Reached, NotPassed> {
        let stop = self.stop.clone();
        // To reach a leader takes its time, however short new connections are held while there is none.
        let hold = match self.seen.borrow().leader {
            Some(_) => self.hold.max(ACCEPT),
            None => self.hold,
        };
        let deadline = Instant::now() + hold;
        let mut last = "nobody leads".to_owned();
        let mut back_off = BACK_OFF;
        let config = Arc::clone(&self.config);
        let reach = async {
            loop {
                let has_leader = |seen: &Seen| seen.leader.is_some();
                let seen = self.seen.wait_for(has_leader).await;
                let Some(Seen {
                    leader, revision, ..
                }) = seen.ok().map(|seen| seen.clone())
                else {
                    return pending().await;
                };
                // One that stops accepts nobody, and its port is open all the same.
                let mut others = self.seen.clone();
                let connected = tokio::select! {
                    () = until_over(&mut others, revision) => continue,
                    connected = connect(leader.as_ref(), peer, by_tls, &config) => connected,
                };
                match connected {
                    Ok(stream) => {
                        let ttl = leader.as_ref().map(Leader::lead_ttl).unwrap_or_default();
                        let hope = Leadership::longest_hope(ttl);
                        return Reached {
                            revision,
                            hope,
                            stream,
                        };
                    }
                    Err(why) => {
                        let address = leader.map(|leader| leader.address).unwrap_or_default();
                        last = format!("the leader at {address} does not accept: {why}");
                        debug!("{last}");
                    }
                }
                // Until then, or until another leads.
                let changed = timeout(back_off, self.seen.changed()).await.is_ok();
                back_off = match changed {
                    true => BACK_OFF,
                    false => LONGEST_BACK_OFF.min(2 * back_off),
                };
            }
        };
        let reached = tokio::select! {
            () = stop.cancelled() => return Err(NotPassed::Stopping),
            reached = timeout_at(deadline, reach) => reached,
        };
        reached.map_err(|_| NotPassed::NoLeader(last))
    }

    /// Passes bytes until one of the two ends, or the leader's turn is over.
    async fn pass(&mut self, client: &mut impl Transport, reached: Reached) {
        let Reached {
            revision,
            hope,
            stream: mut leader,
        } = reached;
        let stop = self.stop.clone();
        let turn = Turn {
            passing: self.clone(),
            revision,
            hope,
        };
        let copied = {
            let (from_leader, to_leader) = leader.split();
            let (from_client, to_client) = tokio::io::split(&mut *client);
            let to_client = WhileItLeads {
                client: to_client,
                turn: &turn,
                patience: self.config.unsent_timeout(),
                timer: None,
            };
            let back = copy(from_leader, to_client);
            let forth = copy(from_client, to_leader);
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                () = turn.until_over() => Ok(()),
                ended = back => ended,
                Err(failed) = forth => Err(failed),
            }
        };
        match copied {
            // What the leader has said last is on its way.
            Ok(()) => close_gently(client, self.stop.cancelled()).await,
            Err(failed) => debug!("a connection was cut: {failed}"),
        }
    }
}

/// Returns when this leader's turn is over.
async fn until_over(seen: &mut watch::Receiver<Seen>, revision: i64) {
    // If nobody tells any more, the server stops.
    let _ = seen.wait_for(|seen| seen.revision != revision).await;
}

/// A leader's turn, as far as this server knows it.
struct Turn {
    passing: Passing,
    revision: i64,
    hope: Duration,
}

impl Turn {
    /// Whether the leader can be believed to lead.
    fn goes_on(&self) -> bool {
        let Passing { seen, heard, .. } = &self.passing;
        seen.borrow().revision == self.revision && heard.age() < self.hope
    }

    /// Waits until it cannot.
    async fn until_over(&self) {
        let mut seen = self.passing.seen.clone();
        while self.goes_on() {
            // Whatever it is, it is looked at anew.
            let _ = timeout(LOOK, seen.changed()).await;
        }
    }
}

/// A client to whom nothing is passed back once a leader's turn is over, and that is waited for only so long while
/// it reads nothing.
struct WhileItLeads<'a, S> {
    client: S,
    turn: &'a Turn,
    patience: Duration,
    /// While nothing goes.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> WhileItLeads<'_, S> {
    /// Fails instead of waiting if nothing has gone for too long.
    fn impatient<T>(
        &mut self,
        done: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.timer = None;
            return done;
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read",
        )))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WhileItLeads<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.turn.goes_on() {
            return Poll::Ready(Err(io::Error::other("the leader's turn is over")));
        }
        let written = Pin::new(&mut this.client).poll_write(context, bytes);
        this.impatient(written, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.client).poll_flush(context);
        this.impatient(flushed, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.client).poll_shutdown(context);
        this.impatient(shut, context)
    }
}

/// Passes bytes on in one direction until they end, and then says so to the other side.
async fn copy(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    copy_buf(&mut from, &mut to).await?;
    to.shutdown().await
}

async fn connect(
    leader: Option<&Leader>,
    peer: Peer,
    by_tls: bool,
    config: &Config,
) -> Result<TcpStream, NotIntroduced> {
    let leader = leader.ok_or(NotIntroduced::Malformed)?;
    let secret = Secret::from_hex(&leader.secret).ok_or(NotIntroduced::Malformed)?;
    let introduction = Introduction {
        secret,
        peer,
        by_tls,
    };
    let accepted = timeout(ACCEPT, async {
        let mut stream = TcpStream::connect(&leader.address).await?;
        // A leader that cannot be reached any more must be noticed as any peer.
        configure(&stream, config);
        introduction.say(&mut stream).await?;
        Ok(stream)
    });
    accepted.await.unwrap_or(Err(NotIntroduced::Closed))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::net::TcpListener;

    use super::super::leadership::test_clock::{go_on, now};
    use super::*;

    const SECRET: Secret = Secret(7);

    /// Of the leader's lease: it counts, whatever the follower's setting is.
    const TTL: Duration = Duration::from_secs(5);

    /// Somebody who leads at a port, and those who pass clients on to it.
    struct Trial {
        port: TcpListener,
        tells: watch::Sender<Seen>,
        passing: Passing,
    }

    impl Trial {
        async fn start(hold: Duration) -> Self {
            let port = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let (tells, seen) = watch::channel(Seen::default());
            let stop = CancellationToken::new();
            let heard = Arc::new(Heard::new(now));
            let passing = Passing::new(seen, heard, &Config::default(), hold, stop);
            Self {
                port,
                tells,
                passing,
            }
        }

        /// From here on, this one leads.
        fn lead(&self, revision: i64) {
            let address = self.port.local_addr().expect("bound").to_string();
            let leader = Leader {
                id: revision.to_string(),
                address,
                secret: SECRET.to_hex(),
                version: String::new(),
                lead_ttl_ms: TTL.as_millis() as u64,
            };
            let leader = Some(leader);
            self.tells.send_replace(Seen {
                leader,
                revision,
                ..Seen::default()
            });
        }

        /// A client comes.
        fn connect(&self) -> DuplexStream {
            let (ours, theirs) = tokio::io::duplex(1024);
            self.passing.pass_on(ours, Peer::Unix(Some(7)), false);
            theirs
        }

        /// A client to whom the first leader has begun to answer, and the leader's end of it.
        async fn passed_on(&self) -> (DuplexStream, TcpStream) {
            self.lead(1);
            let mut client = self.connect();
            let mut leader = self.accept().await;
            leader.write_all(b"200 ").await.expect("room");
            let mut said = [0; 4];
            client.read_exact(&mut said).await.expect("it is open");
            (client, leader)
        }

        /// The leader's end of it.
        async fn accept(&self) -> TcpStream {
            let (mut stream, _) = self.port.accept().await.expect("a server");
            let heard = Introduction::hear(&mut stream, SECRET).await;
            assert_eq!(heard.expect("it is one").peer, Peer::Unix(Some(7)));
            stream
        }
    }

    async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it is open");
        text
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_each_end_is_told_of_the_others() {
        let trial = Trial::start(Duration::from_secs(60)).await;
        trial.lead(1);
        let mut client = trial.connect();
        let mut leader = trial.accept().await;
        client.write_all(b"lock k\n").await.expect("room");
        client.shutdown().await.expect("it is open");
        assert_eq!(rest(&mut leader).await, "lock k\n");
        leader.write_all(b"200 Acquired\r\n").await.expect("room");
        drop(leader);
        assert_eq!(rest(&mut client).await, "200 Acquired\r\n");
    }

    #[tokio::test]
    async fn a_client_waits_for_a_leader_that_accepts_it() {
        let trial = Trial::start(Duration::from_secs(60)).await;
        let mut client = trial.connect();
        client.write_all(b"stats\n").await.expect("room");
        trial.lead(1);
        // It stops, and another leads.
        drop(trial.port.accept().await.expect("a server"));
        trial.lead(2);
        let mut leader = trial.accept().await;
        let mut asked = [0; 6];
        leader.read_exact(&mut asked).await.expect("it is open");
        assert_eq!(&asked, b"stats\n");
    }

    #[tokio::test]
    async fn what_a_leader_had_to_say_ends_with_its_turn() {
        let trial = Trial::start(Duration::from_secs(60)).await;
        let (mut client, mut leader) = trial.passed_on().await;
        trial.lead(2);
        assert_eq!(rest(&mut client).await, "");
        assert_eq!(rest(&mut leader).await, "");
    }

    /// As the process stands still, or is cut off from etcd.
    #[tokio::test]
    async fn nothing_is_passed_back_when_etcd_has_told_nothing_for_too_long() {
        let trial = Trial::start(Duration::from_secs(60)).await;
        let (mut client, mut leader) = trial.passed_on().await;
        go_on(Leadership::longest_hope(TTL));
        leader.write_all(b"Acquired\r\n").await.expect("room");
        assert_eq!(rest(&mut client).await, "");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_loses_its_place_in_the_end() {
        let mut trial = Trial::start(Duration::from_secs(60)).await;
        trial.passing.config = Arc::new(Config {
            unsent_timeout_ms: 50,
            ..Config::default()
        });
        trial.lead(1);
        let client = trial.connect();
        let mut leader = trial.accept().await;
        // More than there is room for on the way.
        let flood = vec![b'x'; 16 * 1024 * 1024];
        assert!(leader.write_all(&flood).await.is_err(), "it is closed");
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_for_whom_nobody_leads_is_told_so_in_the_end() {
        let hold = Duration::from_secs(10);
        let trial = Trial::start(hold).await;
        let begun = Instant::now();
        let mut client = trial.connect();
        assert_eq!(rest(&mut client).await, "503 No leader\r\n");
        assert!(begun.elapsed() >= hold);
        trial.passing.stop.cancel();
        let mut client = trial.connect();
        assert_eq!(rest(&mut client).await, "503 Shutting down\r\n");
    }
}
