//! Admission: accepts the connections of a port and starts a task for each, or refuses it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
#[cfg(feature = "tls")]
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
#[cfg(feature = "cluster")]
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::Shared;
use super::connection::{self, close_gently};
use super::listener::{Arrived, Listener};
#[cfg(feature = "fd-limit")]
use super::open_files;
#[cfg(feature = "tls")]
use super::tls;
use super::transport::{self, Transport, TryWrite};
#[cfg(feature = "cluster")]
use crate::cluster::Introduction;
use crate::config::Config;
use crate::model::Peer;
#[cfg(feature = "cluster")]
use crate::model::Secret;
use crate::protocol::Reply;

/// How long accepting pauses when no file descriptor is left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The log says at most this often that accepting pauses.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// A server that can serve fewer, though more are wanted, does not start: it would only look like one.
#[cfg(feature = "fd-limit")]
const LEAST_CONNECTIONS: usize = 16;

/// How many refused connections are closed gently at one time; more are closed at once.
const REFUSALS_AT_ONCE: usize = 64;

/// How many clients that are passed on are introduced at one time, and how long each may take.
#[cfg(feature = "cluster")]
const INTRODUCTIONS_AT_ONCE: usize = 256;
#[cfg(feature = "cluster")]
const INTRODUCTION: Duration = Duration::from_secs(2);

/// How many connections there may be beyond the bound by unix sockets: an operator on the machine of a server
/// that is full can look what it is full of.
const RESERVED: usize = 8;

/// The places for connections, shared by all ports.
#[derive(Debug)]
pub(super) struct Places {
    connections: Arc<Semaphore>,
    max_connections: usize,
    /// Beyond the bound.
    reserved: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Places {
    /// Places for as many connections as the settings say; if this process may not have that many open, for fewer, and
    /// the log says so.
    ///
    /// # Errors
    ///
    /// If it would be for hardly any.
    pub(super) fn new(config: &Config) -> Result<Self, TooFewFiles> {
        let wanted = config.max_connections as usize;
        #[cfg(feature = "fd-limit")]
        if let Some(limit) = open_files::raise_for(
            wanted.saturating_add(RESERVED + REFUSALS_AT_ONCE),
            config.admin_connections(),
        ) {
            let share = Share::of(limit.room, wanted);
            let (files, connections) = (limit.files, share.connections);
            if connections < LEAST_CONNECTIONS.min(wanted) {
                return Err(TooFewFiles { files, connections });
            }
            if connections < wanted {
                warn!(
                    "the limit of {files} open files has room for {connections} of the {wanted} \
                     connections of --max-connections"
                );
            }
            return Ok(Self::of(share));
        }
        Ok(Self::of(Share {
            connections: wanted,
            reserved: RESERVED,
            refusals: REFUSALS_AT_ONCE,
        }))
    }

    fn of(share: Share) -> Self {
        let Share {
            connections,
            reserved,
            refusals,
        } = share;
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            connections: places(connections),
            max_connections: connections,
            reserved: places(reserved),
            refusals: places(refusals),
        }
    }

    /// How many connections there are, and how many there may be.
    #[cfg(feature = "admin")]
    pub(super) fn taken(&self) -> (usize, usize) {
        let max = self.max_connections;
        (max - self.connections.available_permits(), max)
    }

    fn take(&self, peer: Peer) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.connections).try_acquire_owned();
        let reserved = || match peer {
            Peer::Unix(_) => Arc::clone(&self.reserved).try_acquire_owned().ok(),
            Peer::Tcp(_) | Peer::BeforeRestart => None,
        };
        place.ok().or_else(reserved)
    }

    fn take_refusal(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refusals).try_acquire_owned().ok()
    }
}

/// For how many of each there is room.
#[derive(Debug, PartialEq, Eq)]
struct Share {
    connections: usize,
    reserved: usize,
    /// A refusal keeps its file open, too, until its client has closed.
    refusals: usize,
}

#[cfg(feature = "fd-limit")]
impl Share {
    fn of(room: usize, wanted: usize) -> Self {
        let beyond = room.saturating_sub(wanted);
        let reserved = (beyond / 2).max(room / 8).min(RESERVED);
        let beyond = beyond.saturating_sub(reserved);
        let refusals = beyond.max(room / 8).clamp(1, REFUSALS_AT_ONCE);
        let connections = room.saturating_sub(reserved + refusals).min(wanted);
        Self {
            connections,
            reserved,
            refusals,
        }
    }
}

/// This process may not open as many files as a server needs.
#[derive(Debug, thiserror::Error)]
#[error(
    "the limit of {files} open files has room for {connections} connections: raise it (ulimit -n, or \
     LimitNOFILE of the unit)"
)]
pub struct TooFewFiles {
    files: u64,
    connections: usize,
}

/// Accepts the connections of one port until the server stops.
pub(super) async fn serve(listener: &Listener, shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    let mut door = Door::of(shared);
    let accept_all = async {
        loop {
            door.admit_next(listener, Door::admit).await;
            // A new connection costs more than most requests, and thousands may come at once.
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept_all => {}
    }
}

/// The same of the port for clients that other servers pass on, who know this secret.
#[cfg(feature = "cluster")]
pub(super) async fn serve_passed(listener: &Listener, shared: Arc<Shared>, secret: Secret) {
    let stop = shared.stop.clone();
    let turns = Arc::new(Semaphore::new(INTRODUCTIONS_AT_ONCE));
    let mut door = Door::of(shared);
    let accept_all = async {
        loop {
            // Never closed.
            let turn = Arc::clone(&turns).acquire_owned().await.ok();
            let hear = |door: &Door, arrived| {
                let door = Door::of(Arc::clone(&door.shared));
                let tasks = door.shared.tasks.clone();
                tasks.spawn(async move {
                    door.admit_passed(arrived, secret).await;
                    drop(turn);
                });
            };
            door.admit_next(listener, hear).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept_all => {}
    }
}

/// Admits the connections of one port.
struct Door {
    shared: Arc<Shared>,
    /// When the log last said that accepting pauses, which may come and go many times a second.
    warned: Option<Instant>,
    /// The log has not said since then that accepting goes on.
    paused: bool,
}

impl Door {
    fn of(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            warned: None,
            paused: false,
        }
    }

    /// Accepts a connection, and has `admit` admit it.
    async fn admit_next(&mut self, listener: &Listener, admit: impl FnOnce(&Self, Arrived)) {
        match listener.accept().await {
            Ok(arrived) => {
                if std::mem::take(&mut self.paused) {
                    info!("accepting connections again");
                }
                admit(self, arrived);
            }
            Err(error) if is_about_one_connection(&error) => debug!("cannot accept: {error}"),
            Err(error) => {
                if self
                    .warned
                    .is_none_or(|before| before.elapsed() >= WARN_EVERY)
                {
                    warn!("cannot accept connections for now: {error}");
                    self.warned = Some(Instant::now());
                    self.paused = true;
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn admit(&self, arrived: Arrived) {
        match arrived {
            Arrived::Tcp(stream, address) => {
                transport::configure(&stream, &self.shared.config);
                self.admit_from(stream, Peer::Tcp(address));
            }
            #[cfg(feature = "tls")]
            Arrived::Tls(stream, address) => {
                transport::configure(&stream, &self.shared.config);
                self.admit_by_tls(stream, Peer::Tcp(address));
            }
            Arrived::Unix(stream, pid) => self.admit_from(stream, Peer::Unix(pid)),
        }
    }

    /// Admits a client that another server passes on, as if it had come by itself.
    #[cfg(feature = "cluster")]
    async fn admit_passed(&self, arrived: Arrived, secret: Secret) {
        let Arrived::Tcp(mut stream, from) = arrived else {
            return;
        };
        transport::configure(&stream, &self.shared.config);
        let heard = timeout(INTRODUCTION, Introduction::hear(&mut stream, secret)).await;
        let introduction = match heard {
            Ok(Ok(introduction)) => introduction,
            Ok(Err(why)) => return info!(%from, "nobody is passed on: {why}"),
            Err(_) => return info!(%from, "nobody is passed on: the first line takes too long"),
        };
        let peer = introduction.peer;
        debug!(%peer, %from, "passed on");
        match introduction.by_tls {
            false => self.admit_from(stream, peer),
            #[cfg(feature = "tls")]
            true => self.admit_by_tls(stream, peer),
            #[cfg(not(feature = "tls"))]
            true => warn!(%from, "a client by TLS is passed on, and there is none here"),
        }
    }

    fn admit_from(&self, stream: impl Transport + TryWrite, peer: Peer) {
        let arrival = self.place(peer).and_then(|place| {
            let arrival = self.shared.desk.arrival(peer, self.shared.clock.now());
            Ok((place, arrival.map_err(Reply::TooManyOfOne)?))
        });
        match arrival {
            Ok((place, arrival)) => {
                let shared = Arc::clone(&self.shared);
                let tasks = &self.shared.tasks;
                tasks.spawn(connection::serve(stream, arrival, shared, place));
            }
            Err(why) => self.refuse(stream, peer, &why),
        }
    }

    /// The handshake is a part of the connection, and takes its place.
    #[cfg(feature = "tls")]
    fn admit_by_tls(&self, stream: TcpStream, peer: Peer) {
        let (shared, tasks) = (Arc::clone(&self.shared), &self.shared.tasks);
        let places = self.place(peer).and_then(|place| {
            let places = shared.desk.place_of_address(peer, shared.clock.now());
            Ok((place, places.map_err(Reply::TooManyOfOne)?))
        });
        match places {
            Ok((place, places)) => {
                drop(tasks.spawn(tls::serve(stream, (peer, places), shared, place)));
            }
            Err(why) => {
                let answer = self.refusal(peer, &why);
                if let Some(place) = self.shared.places.take_refusal() {
                    drop(tasks.spawn(tls::refuse(stream, answer, shared, place)));
                }
            }
        }
    }

    /// A place among all connections.
    fn place(&self, peer: Peer) -> Result<OwnedSemaphorePermit, Reply<'static>> {
        let places = &self.shared.places;
        let max = places.max_connections;
        places.take(peer).ok_or(Reply::TooManyConnections { max })
    }

    /// What a client is told for which there is no place.
    fn refusal(&self, peer: Peer, why: &Reply<'_>) -> BytesMut {
        let Shared {
            throttles,
            refusals,
            clock,
            ..
        } = &*self.shared;
        let mut answer = BytesMut::new();
        refusals.count(why.refusal());
        why.put(&mut answer);
        if throttles.refusals.passes(clock.now()) {
            let why = String::from_utf8_lossy(&answer);
            info!(%peer, "refused: too many connections: {}", why.trim_end());
        }
        answer
    }

    fn refuse(&self, mut stream: impl Transport + TryWrite, peer: Peer, why: &Reply<'_>) {
        let answer = self.refusal(peer, why);
        // A new connection has room for these few bytes; if it takes none, it is being closed
        // anyway.
        let written = stream.try_write(&answer);
        if let (Ok(_), Some(place)) = (written, self.shared.places.take_refusal()) {
            let stop = self.shared.stop.clone();
            self.shared.tasks.spawn(async move {
                close_gently(&mut stream, stop.cancelled()).await;
                // The file is closed before its place is free.
                drop(stream);
                drop(place);
            });
        }
    }
}

/// Whether the error is about one connection that ended before it was accepted; the next may be
/// fine.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

#[cfg(all(test, feature = "fd-limit"))]
mod tests {
    use super::*;

    #[test]
    fn connections_and_refusals_share_what_room_there_is() {
        for (room, wanted, shares) in [
            (10_072, 10_000, (10_000, 8, 64)),
            (1_000_000, 10_000, (10_000, 8, 64)),
            (10_071, 10_000, (9_999, 8, 64)),
            (1_000, 10_000, (928, 8, 64)),
            (74, 2, (2, 8, 64)),
            (32, 10_000, (24, 4, 4)),
            (2, 10_000, (1, 0, 1)),
            (0, 10_000, (0, 0, 1)),
        ] {
            let (connections, reserved, refusals) = shares;
            let expected = Share {
                connections,
                reserved,
                refusals,
            };
            assert_eq!(Share::of(room, wanted), expected, "{room} for {wanted}");
        }
    }
}
