//! Admission: accepts the connections of a port and starts a task for each, or refuses it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
#[cfg(feature = "tls")]
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Shared;
use super::connection::{self, close_gently};
use super::listener::{Listener, Socket};
#[cfg(feature = "fd-limit")]
use super::open_files;
#[cfg(feature = "tls")]
use super::tls;
use super::transport::{self, Transport, TryWrite};
use crate::config::Config;
use crate::model::Peer;
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
pub(super) async fn serve(listener: Listener, shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    let mut door = Door {
        shared,
        warned: None,
        paused: false,
    };
    let accept_all = async {
        loop {
            door.admit_next(&listener.socket).await;
            // A new connection costs more than most requests, and thousands may come at once.
            tokio::task::yield_now().await;
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
    async fn admit_next(&mut self, socket: &Socket) {
        let accepted = match socket {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, address)| {
                transport::configure(&stream, &self.shared.config);
                self.admit(stream, Peer::Tcp(address));
            }),
            #[cfg(feature = "tls")]
            Socket::Tls(listener) => listener.accept().await.map(|(stream, address)| {
                transport::configure(&stream, &self.shared.config);
                self.admit_by_tls(stream, Peer::Tcp(address));
            }),
            Socket::Unix(listener) => {
                listener.accept().await.map(|(stream, _): (UnixStream, _)| {
                    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
                    self.admit(stream, Peer::Unix(pid));
                })
            }
        };
        match accepted {
            Ok(()) if self.paused => {
                self.paused = false;
                info!("accepting connections again");
            }
            Ok(()) => {}
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

    fn admit(&mut self, stream: impl Transport + TryWrite, peer: Peer) {
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
    fn admit_by_tls(&mut self, stream: TcpStream, peer: Peer) {
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
