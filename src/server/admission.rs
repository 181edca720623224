//! Admission: what stands between an open port and the tasks of its connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Shared;
use super::connection::{self, close_gently};
use super::listener::{Listener, Socket};
use super::transport::{self, Transport};
use crate::model::Peer;
use crate::protocol::Reply;

/// How long accepting rests when there is no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The log says no more often than this that accepting rests.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Connections that are refused and then closed with care, at one time; more are just closed.
const REFUSALS_AT_ONCE: usize = 64;

/// Accepts the connections of one port until the server stops.
pub(super) async fn serve(listener: Listener, shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    let mut door = Door {
        shared,
        refusals: Arc::new(Semaphore::new(REFUSALS_AT_ONCE)),
        warned: None,
        paused: false,
    };
    let accept_all = async {
        loop {
            door.admit_next(&listener.socket).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept_all => {}
    }
}

/// What stands between an open port and the tasks of its connections.
struct Door {
    shared: Arc<Shared>,
    refusals: Arc<Semaphore>,
    /// When the log last said that accepting rests, which may come and go many times a second.
    warned: Option<Instant>,
    /// It has not said since that accepting goes on.
    paused: bool,
}

impl Door {
    async fn admit_next(&mut self, socket: &Socket) {
        let accepted = match socket {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, address)| {
                transport::configure(&stream, &self.shared.config);
                self.admit(stream, Peer::Tcp(address));
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

    fn admit(&mut self, stream: impl Transport, peer: Peer) {
        match Arc::clone(&self.shared.connections).try_acquire_owned() {
            Ok(slot) => {
                let shared = Arc::clone(&self.shared);
                let tasks = &self.shared.tasks;
                tasks.spawn(connection::serve(stream, peer, shared, slot));
            }
            Err(_) => self.refuse(stream, peer),
        }
    }

    fn refuse(&self, mut stream: impl Transport, peer: Peer) {
        let max = self.shared.config.max_connections as usize;
        let throttle = &self.shared.throttles.refusals;
        if let Some(left_out) = throttle.pass(self.shared.clock.now()) {
            info!(%peer, max, left_out, "refused: too many connections");
        }
        let mut answer = BytesMut::new();
        Reply::TooManyConnections { max }.put(&mut answer);
        // A new connection takes these few bytes; if it does not, it is being closed anyway.
        let written = stream.try_write(&answer);
        let turn = Arc::clone(&self.refusals).try_acquire_owned();
        if let (Ok(_), Ok(turn)) = (written, turn) {
            let stop = self.shared.stop.clone();
            self.shared.tasks.spawn(async move {
                close_gently(&mut stream, stop.cancelled()).await;
                drop(turn);
            });
        }
    }
}

/// Errors of a connection that ended before it was accepted; the next one may be fine.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}
