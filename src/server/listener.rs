//! Ports: opening them, and closing them without a trace.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};
use tracing::debug;

use crate::config::{Address, PORT};

/// How many connections the kernel may have ready for us, where it allows that many. A client that
/// finds no room tries again only after a second, so a crowd that comes at once should fit.
const BACKLOG: u32 = 4096;

/// An open port.
#[derive(Debug)]
pub struct Listener {
    /// First, so that it is dropped first: once the socket is closed, another server may take the
    /// path, and its file must stay.
    _file: Option<RemovedAtEnd>,
    pub(super) socket: Socket,
    address: Address,
}

#[derive(Debug)]
pub(super) enum Socket {
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
}
