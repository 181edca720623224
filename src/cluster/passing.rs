//! Clients of a server that does not lead: their bytes are passed on to the one that does, and its bytes
//! back, as they come.
//!
//! Invariants:
//!
//! 1. A connection is passed on to one leader, and ends with that leader's turn at the latest: so nobody
//!    believes what a leader said that was replaced.
//! 2. What comes in for the leader alone is never passed on again.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_buf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::election::{Leader, Seen};
use super::introduction::{Introduction, NotIntroduced, secret};
use crate::config::Config;
use crate::model::Peer;
use crate::protocol::Reply;
use crate::server::{Arrived, Listener, Transport, close_gently, configure};

/// How long a leader may take to accept a client.
const ACCEPT: Duration = Duration::from_secs(2);

/// How long nobody is asked after a leader has not accepted.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How many bytes are on their way in each direction.
const BUFFER: usize = 2 * 1024;

/// Clients that were or are to be passed on. Clones speak of the same.
#[derive(Clone)]
pub(super) struct Passing {
    seen: watch::Receiver<Seen>,
    hold: Duration,
    places: Arc<Semaphore>,
    max_connections: usize,
    passed: Arc<AtomicU64>,
    config: Arc<Config>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// Why a client is not passed on.
#[derive(Debug, thiserror::Error)]
enum NotPassed {
    #[error("nobody leads, or it cannot be reached")]
    NoLeader,
    #[error("the server stops")]
    Stopping,
}

/// A leader's turn, and a connection to it.
struct Reached {
    revision: i64,
    stream: TcpStream,
}

impl Passing {
    pub(super) fn new(
        seen: watch::Receiver<Seen>,
        config: &Config,
        hold: Duration,
        stop: CancellationToken,
    ) -> Self {
        let max_connections = config.max_connections as usize;
        Self {
            seen,
            hold,
            places: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            passed: Arc::default(),
            config: Arc::new(config.clone()),
            tasks: TaskTracker::new(),
            stop,
        }
    }

    /// Accepts the clients of one port, for as long as this is polled.
    pub(super) async fn accept_all(self, listeners: Arc<[Listener]>, place: usize) {
        loop {
            match listeners[place].accept().await {
                Ok(arrived) => self.take_in(arrived),
                Err(error) => {
                    debug!("cannot accept: {error}");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Closes what comes to the port for servers, for as long as this is polled: whoever believes that this one
    /// leads will look again.
    pub(super) async fn refuse_all(self, listeners: Arc<[Listener]>, place: usize) {
        loop {
            if listeners[place].accept().await.is_err() {
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }

    /// How many connections are passed on, or wait for that, at this time; and how many were since the start.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.tasks.len(), self.passed.load(Ordering::Relaxed))
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
            passing.serve(stream, (peer, by_tls), place).await;
        });
    }

    async fn serve(
        mut self,
        mut client: impl Transport,
        (peer, by_tls): (Peer, bool),
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
                info!(%peer, "not passed on: {why}");
                let reply = match why {
                    NotPassed::NoLeader => Reply::NoLeader,
                    NotPassed::Stopping => Reply::ShuttingDown,
                };
                self.refuse(&mut client, by_tls, &reply).await;
            }
        }
        drop(client);
        drop(place);
    }

    /// A client that expects TLS would not understand an answer.
    async fn refuse(&self, client: &mut impl Transport, by_tls: bool, reply: &Reply<'_>) {
        let mut answer = BytesMut::new();
        reply.put(&mut answer);
        if !by_tls && timeout(ACCEPT, client.write_all(&answer)).await.is_ok() {
            close_gently(client, self.stop.cancelled()).await;
        }
    }

    /// Connects to the leader, whoever that is by then.
    async fn reach(&mut self, peer: Peer, by_tls: bool) -> Result<Reached, NotPassed> {
        let stop = self.stop.clone();
        let deadline = Instant::now() + self.hold;
        let reach = async {
            loop {
                let has_leader = |seen: &Seen| seen.leader.is_some();
                let seen = self.seen.wait_for(has_leader).await;
                let Some(Seen { leader, revision }) = seen.ok().map(|seen| seen.clone()) else {
                    return pending().await;
                };
                match connect(leader.as_ref(), peer, by_tls).await {
                    Ok(stream) => return Reached { revision, stream },
                    Err(why) => debug!("the leader does not accept: {why}"),
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => Err(NotPassed::Stopping),
            reached = timeout_at(deadline, reach) => reached.map_err(|_| NotPassed::NoLeader),
        }
    }

    /// Passes bytes until one of the two ends, or the leader's turn is over.
    async fn pass(&mut self, client: &mut impl Transport, reached: Reached) {
        let Reached {
            revision,
            stream: mut leader,
        } = reached;
        let stop = self.stop.clone();
        let copied = {
            let (from_leader, to_leader) = leader.split();
            let (from_client, to_client) = tokio::io::split(&mut *client);
            let back = copy(from_leader, to_client);
            let forth = copy(from_client, to_leader);
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                () = until_over(&mut self.seen, revision) => Ok(()),
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
) -> Result<TcpStream, NotIntroduced> {
    let Some((leader, secret)) = leader.and_then(|one| Some((one, secret(&one.secret)?))) else {
        return Err(NotIntroduced::Malformed);
    };
    let introduction = Introduction {
        secret,
        peer,
        by_tls,
    };
    let accepted = timeout(ACCEPT, async {
        let mut stream = TcpStream::connect(&leader.address).await?;
        stream.set_nodelay(true)?;
        introduction.say(&mut stream).await?;
        Ok(stream)
    });
    accepted.await.unwrap_or(Err(NotIntroduced::Closed))
}
