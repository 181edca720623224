//! Admission: accepts the connections of a port and starts a task for each, or refuses it.

use std::sync::Arc;
#[cfg(feature = "cluster")]
use std::time::Duration;

use bytes::BytesMut;
#[cfg(feature = "tls")]
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
#[cfg(feature = "cluster")]
use tokio::time::timeout;
#[cfg(feature = "cluster")]
use tracing::debug;
use tracing::info;
#[cfg(any(feature = "fd-limit", all(feature = "cluster", not(feature = "tls"))))]
use tracing::warn;

use super::Shared;
use super::acceptor::Acceptor;
use super::arrival::Arrival;
use super::connection::{self, close_gently};
use super::listener::{Arrived, Listener};
#[cfg(feature = "fd-limit")]
use super::open_files::{self, Limit};
#[cfg(feature = "tls")]
use super::tls;
use super::transport::{self, Transport, TryWrite};
#[cfg(feature = "cluster")]
use crate::cluster::Introduction;
use crate::config::Config;
#[cfg(feature = "cluster")]
use crate::model::Secret;
use crate::model::{Exhausted, Peer};
use crate::protocol::Reply;

/// A server that can serve fewer, though more are wanted, does not start: it would only look like one.
#[cfg(feature = "fd-limit")]
const LEAST_CONNECTIONS: usize = 16;

/// How many refused connections are closed gently at one time; more are closed at once.
const REFUSALS_AT_ONCE: usize = 64;

/// How many clients that are passed on are introduced at one time, and how long each may take.
#[cfg(feature = "cluster")]
const INTRODUCTIONS_AT_ONCE: usize = 1024;
#[cfg(feature = "cluster")]
const INTRODUCTION: Duration = Duration::from_secs(1);

/// How many connections there may be beyond the bound by unix sockets: an operator on the machine of a server
/// that is full can look what it is full of.
const RESERVED: usize = 8;

/// Each that is passed on has a file for the client and one for the leader.
#[cfg(all(feature = "cluster", feature = "fd-limit"))]
const FILES_TO_PASS_ON: usize = 2;

/// What the election and the log have open: connections to etcd, and what waits for these.
#[cfg(all(feature = "cluster", feature = "fd-limit"))]
const OF_ETCD: usize = 16;

/// The places for connections, shared by all ports.
#[derive(Debug)]
pub(crate) struct Places {
    connections: Arc<Semaphore>,
    max_connections: usize,
    /// Beyond the bound.
    reserved: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

/// For how many connections there is room. Reckoned by the files that are open by then.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    share: Share,
    /// How many may be passed on at one time while another server leads.
    #[cfg(feature = "cluster")]
    pub(crate) to_pass_on: usize,
}

impl Room {
    /// Room for as many connections as the settings say; if this process may not have that many open, for fewer, and
    /// the log says so.
    ///
    /// # Errors
    ///
    /// If it would be for hardly any.
    pub(super) fn reckon(config: &Config) -> Result<Self, TooFewFiles> {
        let wanted = config.max_connections as usize;
        #[cfg(feature = "fd-limit")]
        if let Some(limit) = open_files::raise_for(connection_files(config), other_files(config)) {
            return Self::within(limit, wanted);
        }
        Ok(Self {
            share: Share {
                connections: wanted,
                reserved: RESERVED,
                refusals: REFUSALS_AT_ONCE,
            },
            #[cfg(feature = "cluster")]
            to_pass_on: wanted,
        })
    }

    #[cfg(feature = "fd-limit")]
    fn within(limit: Limit, wanted: usize) -> Result<Self, TooFewFiles> {
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
        Ok(Self {
            share,
            #[cfg(feature = "cluster")]
            to_pass_on: wanted.min(limit.room / FILES_TO_PASS_ON),
        })
    }
}

/// How many files connections may take.
#[cfg(feature = "fd-limit")]
fn connection_files(config: &Config) -> usize {
    let wanted = config.max_connections as usize;
    let served = wanted.saturating_add(RESERVED + REFUSALS_AT_ONCE);
    #[cfg(feature = "cluster")]
    if config.cluster().is_some() {
        // Those that were passed on may still be ending when as many come to the new leader.
        return served.saturating_add(wanted.saturating_mul(FILES_TO_PASS_ON));
    }
    served
}

/// How many files what is begun later takes that is no connection of a client's.
#[cfg(feature = "fd-limit")]
fn other_files(config: &Config) -> usize {
    let others = config.admin_connections();
    #[cfg(feature = "cluster")]
    if config.cluster().is_some() {
        return others.saturating_add(OF_ETCD);
    }
    others
}

impl Places {
    pub(super) fn of(room: &Room) -> Self {
        let Share {
            connections,
            reserved,
            refusals,
        } = room.share;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    let door = Door {
        shared,
        is_for_passed: false,
    };
    let mut acceptor = Acceptor::default();
    let accept_all = async {
        loop {
            door.admit(acceptor.next(listener).await);
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
    let (stop, turns) = (shared.stop.clone(), Semaphore::new(INTRODUCTIONS_AT_ONCE));
    let (mut acceptor, turns) = (Acceptor::default(), Arc::new(turns));
    let accept_all = async {
        loop {
            // Never closed.
            let turn = Arc::clone(&turns).acquire_owned().await.ok();
            let arrived = acceptor.next(listener).await;
            let door = Door {
                shared: Arc::clone(&shared),
                is_for_passed: true,
            };
            shared.tasks.spawn(async move {
                door.admit_passed(arrived, secret).await;
                drop(turn);
            });
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept_all => {}
    }
}

/// Admits connections.
struct Door {
    shared: Arc<Shared>,
    /// Whether other servers pass these connections on.
    is_for_passed: bool,
}

impl Door {
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
            Ok(Err(why)) => return debug!(%from, "nobody is passed on: {why}"),
            Err(_) => return debug!(%from, "nobody is passed on: the first line takes too long"),
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
            Ok((place, self.marked(arrival)?))
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
        let arrival = self.place(peer).and_then(|place| {
            let arrival = shared.desk.stranger(peer, shared.clock.now());
            Ok((place, self.marked(arrival)?))
        });
        match arrival {
            Ok((place, arrival)) => {
                drop(tasks.spawn(tls::serve(stream, arrival, shared, place)));
            }
            Err(why) => {
                let answer = self.refusal(peer, &why);
                if let Some(place) = self.shared.places.take_refusal() {
                    drop(tasks.spawn(tls::refuse(stream, answer, shared, place)));
                }
            }
        }
    }

    fn marked(&self, arrival: Result<Arrival, Exhausted>) -> Result<Arrival, Reply<'static>> {
        let arrival = arrival.map_err(Reply::TooManyOfOne)?;
        Ok(Arrival {
            is_passed_on: self.is_for_passed,
            ..arrival
        })
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
