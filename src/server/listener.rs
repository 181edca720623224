//! Ports: opening them, accepting connections, turning some away.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Shared;
use super::connection::{self, close_gently};
use super::transport::Transport;
use crate::config::{Address, PORT};
use crate::model::Peer;
use crate::protocol::Reply;

/// How long accepting rests when there is no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The log says no more often than this that accepting rests.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// How many connections the kernel may have ready for us, where it allows that many. A client that
/// finds no room tries again only after a second, so a crowd that comes at once should fit.
const BACKLOG: u32 = 4096;

/// Connections that are refused and then closed with care, at one time; more are just closed.
const REFUSALS_AT_ONCE: usize = 64;

/// An open port.
#[derive(Debug)]
pub struct Listener {
    /// First, so that it is dropped first: once the socket is closed, another server may take the
    /// path, and its file must stay.
    _file: Option<RemovedAtEnd>,
    socket: Socket,
    address: Address,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The file of a unix socket, which nobody else removes.
#[derive(Debug)]
struct RemovedAtEnd(PathBuf);

impl Drop for RemovedAtEnd {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            debug!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// As it was asked for.
    pub address: Address,
    /// What the system says.
    pub source: io::Error,
}

/// Opens all addresses, or the default ones if none are given: both loopback addresses, the IPv6
/// one only where it exists. Must be called within a tokio runtime.
///
/// # Errors
///
/// The first address that cannot be had; the others are closed again.
pub async fn bind(addresses: &[Address]) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    if addresses.is_empty() {
        listeners.extend(bind_one(&Address::Tcp(format!("127.0.0.1:{PORT}"))).await?);
        match bind_one(&Address::Tcp(format!("[::1]:{PORT}"))).await {
            Ok(more) => listeners.extend(more),
            Err(error) if error.source.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => debug!("no IPv6: {error}"),
        }
    }
    for address in addresses {
        listeners.extend(bind_one(address).await?);
    }
    Ok(listeners)
}

async fn bind_one(address: &Address) -> Result<Vec<Listener>, BindError> {
    let bound = match address {
        Address::Tcp(host) => bind_tcp(host).await,
        Address::Unix(path) => bind_unix(path).map(|listener| vec![listener]),
    };
    bound.map_err(|source| BindError {
        address: address.clone(),
        source,
    })
}

async fn bind_tcp(host: &str) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in tokio::net::lookup_host(host).await? {
        let socket = listen(address)?;
        listeners.push(Listener {
            address: Address::Tcp(socket.local_addr()?.to_string()),
            socket: Socket::Tcp(socket),
            _file: None,
        });
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait until the kernel has forgotten the last run's connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    remove_stale(path)?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    Ok(Listener {
        socket: Socket::Unix(socket.listen(BACKLOG)?),
        address: Address::Unix(path.to_owned()),
        _file: Some(RemovedAtEnd(path.to_owned())),
    })
}

/// A server that was killed leaves its socket's file behind. Removes it if it is a socket on
/// which nobody answers, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = || match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
    };
    match is_socket && refused() {
        true => std::fs::remove_file(path),
        false => Ok(()),
    }
}

impl Listener {
    /// The address that connections come in on; for TCP with the true port, also where port 0
    /// was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The same as a socket address, if it is one of TCP.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// Accepts connections until `stop`.
    pub(super) async fn serve(self, shared: Arc<Shared>) {
        let stop = shared.stop.clone();
        let mut door = Door {
            shared,
            refusals: Arc::new(Semaphore::new(REFUSALS_AT_ONCE)),
            warned: None,
            paused: false,
        };
        let accept_all = async {
            loop {
                door.admit_next(&self.socket).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = accept_all => {}
        }
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
                self.configure(&stream);
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
        debug!(%peer, "refused: too many connections");
        let max = self.shared.config.max_connections as usize;
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

    fn configure(&self, stream: &TcpStream) {
        let configured = stream.set_nodelay(true);
        #[cfg(feature = "keepalive")]
        let configured =
            configured.and_then(|()| keep_alive(stream, self.shared.config.keepalive_secs));
        if let Err(error) = configured {
            debug!("cannot configure a connection: {error}");
        }
    }
}

/// Makes the kernel end a connection whose peer has not been heard of for `seconds`: after half
/// of that it asks, three times, and gives up. Answers that nobody acknowledges count, too, for
/// which there would be no such limit otherwise.
#[cfg(feature = "keepalive")]
fn keep_alive(stream: &TcpStream, seconds: u32) -> io::Result<()> {
    if seconds == 0 {
        return Ok(());
    }
    let second = Duration::from_secs(1);
    let whole = Duration::from_secs(seconds.into());
    let probes = socket2::TcpKeepalive::new()
        .with_time((whole / 2).max(second))
        .with_interval((whole / 6).max(second))
        .with_retries(3);
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(whole))?;
    Ok(())
}

/// Errors of a connection that ended before it was accepted; the next one may be fine.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

#[cfg(all(test, feature = "keepalive"))]
mod tests {
    use super::*;
    use socket2::SockRef;

    async fn accepted_with(seconds: u32) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        drop(client);
        let (stream, _) = accepted.expect("a connection");
        keep_alive(&stream, seconds).expect("a socket takes these options");
        stream
    }

    #[tokio::test]
    async fn a_peer_that_died_without_a_word_is_noticed_within_the_time_set() {
        let stream = accepted_with(60).await;
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("an option"));
        let idle = socket.tcp_keepalive_time().expect("an option");
        let interval = socket.tcp_keepalive_interval().expect("an option");
        let probes = socket.tcp_keepalive_retries().expect("an option");
        assert_eq!(idle + interval * probes, Duration::from_secs(60));
        #[cfg(target_os = "linux")]
        {
            let unacknowledged = socket.tcp_user_timeout().expect("an option");
            assert_eq!(unacknowledged, Some(Duration::from_secs(60)));
        }
    }

    #[tokio::test]
    async fn the_shortest_time_is_still_valid_and_zero_turns_it_off() {
        assert!(
            SockRef::from(&accepted_with(1).await)
                .keepalive()
                .expect("an option")
        );
        assert!(
            !SockRef::from(&accepted_with(0).await)
                .keepalive()
                .expect("an option")
        );
    }
}
