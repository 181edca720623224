//! Ports: from the addresses of the settings to open sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tracing::info;

use super::socket_file::SocketFile;
use crate::config::{Address, PORT};

/// How many connections the kernel may keep ready for the server, where it allows that many. A
/// client that finds no room tries again only after a second, so very many that come at once should
/// fit.
const BACKLOG: u32 = 4096;

/// The addresses that a server listens on by default.
const LOOPBACK: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), PORT),
];

/// The error of a system without IPv6, for one. [`io::ErrorKind`] has no name for it; its number is
/// the same on all of Linux's common architectures.
const EAFNOSUPPORT: i32 = 97;

/// An open port.
#[derive(Debug)]
pub struct Listener {
    /// First, so that it is dropped before the socket.
    _file: Option<SocketFile>,
    pub(crate) socket: Socket,
    address: Address,
    #[cfg_attr(not(feature = "admin"), expect(dead_code))]
    serves: Serves,
}

/// What whoever connects to a port finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    /// The protocol.
    Locks,
    /// HTTP for operators.
    #[cfg(feature = "admin")]
    Admin,
}

/// The socket behind an open port.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct BindError {
    /// The address as it was asked for.
    pub address: Address,
    /// Why it cannot be listened on.
    #[source]
    pub reason: AddressUnavailable,
}

/// Why an address is not available.
#[derive(Debug, thiserror::Error)]
pub enum AddressUnavailable {
    /// The name stands for no address.
    #[error("{0}")]
    Unknown(io::Error),
    /// The address belongs to no interface of this machine.
    #[error("this machine has no such address: {0}")]
    NotLocal(io::Error),
    /// Another server has locked the file beside the unix socket.
    #[error("Address already in use: another elockd listens there, and has locked {}", lock.display())]
    Locked {
        /// The file.
        lock: PathBuf,
    },
    /// A server listens on the unix socket, though the file beside it is not locked.
    #[error("Address already in use: another elockd listens there, or another program")]
    Served,
    /// Something else has the place of the unix socket. It is left as it is.
    #[error("what is there is no socket")]
    NoSocket,
    /// The system has no room for a unix socket's path of that length.
    #[error("the path is {length} bytes long, and the system allows at most {max} bytes")]
    PathTooLong {
        /// The path's length in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The file beside the unix socket cannot be opened or locked.
    #[error("cannot lock {}: {error}", lock.display())]
    LockFile {
        /// The file.
        lock: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Any other error of the system, for one that the address is in use.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl BindError {
    /// True if the name stands for no address or the path is good for no socket, so that trying
    /// again does not help. An address that this machine does not have may come later: a floating
    /// one, or a tunnel's.
    pub fn is_bad_setting(&self) -> bool {
        use AddressUnavailable::{NoSocket, PathTooLong, Unknown};
        matches!(self.reason, Unknown(_) | NoSocket | PathTooLong { .. })
    }
}

/// Opens all addresses, or the default ones if none are given: both loopback addresses, or the one
/// that exists. An address that is named twice is opened once. Must be called within a tokio runtime.
///
/// # Errors
///
/// If an address is not available; the addresses opened before it are closed again.
pub async fn bind(addresses: &[Address]) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    if addresses.is_empty() {
        let opened = open_tcp(&LOOPBACK, &listeners).map_err(|(address, reason)| BindError {
            address: Address::Tcp(address.to_string()),
            reason,
        })?;
        listeners.extend(opened);
    }
    for address in addresses {
        let opened = open(address, &listeners)
            .await
            .map_err(|reason| BindError {
                address: address.clone(),
                reason,
            })?;
        listeners.extend(opened);
    }
    Ok(listeners)
}

/// Opens all addresses, and none if none are given, for operators: [`run`](super::run) serves HTTP
/// there. Must be called within a tokio runtime.
///
/// # Errors
///
/// If an address is not available; the addresses opened before it are closed again.
#[cfg(feature = "admin")]
pub async fn bind_admin(addresses: &[Address]) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    if !addresses.is_empty() {
        listeners = bind(addresses).await?;
    }
    for listener in &mut listeners {
        listener.serves = Serves::Admin;
    }
    Ok(listeners)
}

/// The addresses as people read them.
pub(crate) fn addresses(listeners: &[Listener]) -> String {
    let addresses = listeners
        .iter()
        .map(|listener| listener.address.to_string());
    addresses.collect::<Vec<_>>().join(", ")
}

async fn open(address: &Address, others: &[Listener]) -> Result<Vec<Listener>, AddressUnavailable> {
    match address {
        Address::Tcp(name) => {
            let addresses = look_up(name).await.map_err(AddressUnavailable::Unknown)?;
            open_tcp(&addresses, others).map_err(|(_, reason)| reason)
        }
        Address::Unix(_) if others.iter().any(|other| other.address == *address) => Ok(Vec::new()),
        Address::Unix(path) => Ok(vec![open_unix(path).await?]),
    }
}

async fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(name).await?.collect();
    match addresses.is_empty() {
        true => Err(io::Error::other("the name has no address")),
        false => Ok(addresses),
    }
}

/// Opens the `addresses` that one name stands for, each once: some hosts files give localhost the
/// same address twice. An address that is open already, as one of the `others`, is not opened again
/// either: where two settings overlap, as localhost:11400 and 127.0.0.1:11400 do, each gets the
/// address it asks for. Port 0 in two settings is two ports.
///
/// An address that this machine does not have is left out as long as the name has another one:
/// localhost has an IPv6 address in many hosts files of machines without IPv6.
fn open_tcp(
    addresses: &[SocketAddr],
    others: &[Listener],
) -> Result<Vec<Listener>, (SocketAddr, AddressUnavailable)> {
    let (mut opened, mut missing, mut open_before) = (Vec::new(), Vec::new(), false);
    for (index, &address) in addresses.iter().enumerate() {
        if addresses[..index].contains(&address) {
            continue;
        }
        if others.iter().any(|other| other.is_at(address)) {
            open_before = true;
            continue;
        }
        match listen(address) {
            Ok(listener) => opened.push(listener),
            Err(error) if is_not_local(&error) => missing.push((address, error)),
            Err(error) => return Err((address, error.into())),
        }
    }
    if opened.is_empty()
        && !open_before
        && let Some((address, error)) = missing.pop()
    {
        return Err((address, AddressUnavailable::NotLocal(error)));
    }
    for (address, error) in missing {
        info!("not listening on {address}, which this machine does not have: {error}");
    }
    Ok(opened)
}

/// The machine lacks the address, or has no IPv6 at all.
fn is_not_local(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn listen(address: SocketAddr) -> io::Result<Listener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Otherwise `[::]` would take IPv4 connections as well, and `0.0.0.0` beside it would be in
    // use.
    #[cfg(feature = "dual-stack")]
    if address.is_ipv6() {
        socket2::SockRef::from(&socket).set_only_v6(true)?;
    }
    // A restart must not wait until the kernel has forgotten the last run's connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let socket = socket.listen(BACKLOG)?;
    Ok(Listener {
        address: Address::Tcp(socket.local_addr()?.to_string()),
        socket: Socket::Tcp(socket),
        _file: None,
        serves: Serves::Locks,
    })
}

async fn open_unix(path: &Path) -> Result<Listener, AddressUnavailable> {
    let (socket, file) = SocketFile::bind(path).await?;
    Ok(Listener {
        _file: Some(file),
        socket: Socket::Unix(socket.listen(BACKLOG)?),
        address: Address::Unix(path.to_owned()),
        serves: Serves::Locks,
    })
}

impl Listener {
    /// The address that connections come in on; for TCP with the true port, also where port 0
    /// was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The address as a socket address, if it is one of TCP.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    #[cfg(feature = "admin")]
    pub(super) fn is_for_admin(&self) -> bool {
        self.serves == Serves::Admin
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        self.tcp_address() == Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    /// Reserved for documentation, so that no machine has it.
    const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0);

    fn open(addresses: &[SocketAddr], others: &[Listener]) -> Vec<Listener> {
        open_tcp(addresses, others).expect("an address of this machine")
    }

    #[tokio::test]
    async fn a_name_with_one_address_twice_opens_it_once() {
        assert_eq!(open(&[LOCAL, LOCAL], &[]).len(), 1);
    }

    #[tokio::test]
    async fn an_address_that_is_open_already_is_not_opened_again() {
        let first = open(&[LOCAL], &[]);
        let address = first[0].tcp_address().expect("TCP");
        assert!(open(&[address], &first).is_empty());
        assert!(open(&[ELSEWHERE, address], &first).is_empty());
        assert_eq!(open(&[address, LOCAL], &first).len(), 1);
        let (_, in_use) = open_tcp(&[address], &[]).expect_err("it is not among those");
        assert!(matches!(in_use, AddressUnavailable::System(_)), "{in_use}");
    }

    #[tokio::test]
    async fn an_address_that_is_not_here_is_left_out_if_the_name_has_another() {
        for addresses in [[ELSEWHERE, LOCAL], [LOCAL, ELSEWHERE]] {
            let opened = open(&addresses, &[]);
            assert_eq!(opened.len(), 1);
            let address = opened[0].tcp_address().expect("TCP");
            assert_eq!(address.ip(), LOCAL.ip());
        }
        let (address, reason) = open_tcp(&[ELSEWHERE], &[]).expect_err("it is not here");
        assert_eq!(address, ELSEWHERE);
        assert!(
            matches!(reason, AddressUnavailable::NotLocal(_)),
            "{reason}"
        );
    }

    #[test]
    fn a_machine_without_ipv6_does_not_have_its_addresses() {
        assert!(is_not_local(&io::Error::from_raw_os_error(EAFNOSUPPORT)));
        assert!(!is_not_local(&io::ErrorKind::AddrInUse.into()));
    }

    #[cfg(feature = "dual-stack")]
    #[tokio::test]
    async fn an_ipv6_socket_takes_no_ipv4() {
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
        match open_tcp(&[any], &[]).as_deref() {
            Ok([listener]) => match &listener.socket {
                Socket::Tcp(socket) => {
                    let socket = socket2::SockRef::from(socket);
                    assert!(socket.only_v6().expect("an option"));
                }
                Socket::Unix(_) => unreachable!("TCP was asked for"),
            },
            other => println!("skipped, since there is no IPv6 here: {other:?}"),
        }
    }
}
