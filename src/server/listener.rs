//! Ports: from the addresses of the settings to open sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
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
    /// First, so that it is dropped before the socket. `None` also where the file is not the server's.
    _file: Option<SocketFile>,
    pub(crate) socket: Socket,
    address: Address,
    #[cfg_attr(not(any(feature = "admin", feature = "cluster")), expect(dead_code))]
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
    /// Clients that other servers pass on.
    #[cfg(feature = "cluster")]
    Servers,
}

#[cfg(any(feature = "admin", feature = "cluster"))]
impl Serves {
    /// The flag that names such ports.
    fn flag(self) -> &'static str {
        match self {
            Self::Locks => "--listen",
            #[cfg(feature = "admin")]
            Self::Admin => "--admin",
            #[cfg(feature = "cluster")]
            Self::Servers => "--cluster-listen, or --advertise,",
        }
    }
}

/// The socket behind an open port.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    #[cfg(feature = "tls")]
    Tls(TcpListener),
    Unix(UnixListener),
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) enum Arrived {
    Tcp(TcpStream, SocketAddr),
    /// Whose client expects TLS.
    #[cfg(feature = "tls")]
    Tls(TcpStream, SocketAddr),
    /// With the process behind it, where the system tells.
    Unix(UnixStream, Option<i32>),
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
    /// The same address was asked for with TLS and without.
    #[cfg(feature = "tls")]
    #[error(
        "one port cannot speak both TLS and plain text: give it to --listen or to --tls-listen"
    )]
    TlsAndPlain,
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
    /// The same address was asked for before, for another use.
    #[cfg(any(feature = "admin", feature = "cluster"))]
    #[error("it is listened on for something else: give {flag} an address of its own")]
    InOtherUse {
        /// What named it last.
        flag: &'static str,
    },
    /// The directory of the unix socket is not there, which may be made later.
    #[error("the directory {} is not there", directory.display())]
    NoDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// Any other error of the system, for one that the address is in use.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl BindError {
    /// True if the name stands for no address, the path is good for no socket, or it is not allowed,
    /// so that trying again does not help. An address that this machine does not have may come later: a
    /// floating one, or a tunnel's. So may a directory.
    pub fn is_bad_setting(&self) -> bool {
        use AddressUnavailable as Why;
        match &self.reason {
            #[cfg(feature = "tls")]
            Why::TlsAndPlain => true,
            #[cfg(any(feature = "admin", feature = "cluster"))]
            Why::InOtherUse { .. } => true,
            Why::Unknown(_) | Why::NoSocket | Why::PathTooLong { .. } => true,
            Why::LockFile { error, .. } | Why::System(error) => matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory
            ),
            Why::NotLocal(_) | Why::Locked { .. } | Why::Served | Why::NoDirectory { .. } => false,
        }
    }
}

/// Opens all addresses, or the default ones if none are given: both loopback addresses, or the one
/// that exists. An address that is named twice is opened once. Must be called within a tokio runtime.
///
/// # Errors
///
/// If an address is not available; the addresses opened before it are closed again.
pub async fn bind(addresses: &[Address]) -> Result<Vec<Listener>, BindError> {
    bind_beside(Vec::new(), addresses).await
}

/// The same beside those that are open already and are among the result: an address of theirs is not
/// opened again, and there is no default address.
///
/// # Errors
///
/// As for [`bind`].
pub async fn bind_beside(
    open_before: Vec<Listener>,
    addresses: &[Address],
) -> Result<Vec<Listener>, BindError> {
    let mut listeners = open_before;
    if addresses.is_empty() && listeners.is_empty() {
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

/// Opens all addresses, and none if none are given, for operators, beside those that are open already:
/// [`run`](super::run) serves HTTP there. None of the `clients`' is among them. Must be called within a
/// tokio runtime.
///
/// # Errors
///
/// If an address is not available; the addresses opened before it are closed again.
#[cfg(feature = "admin")]
pub async fn bind_admin(
    open_before: Vec<Listener>,
    addresses: &[Address],
    clients: &[Listener],
) -> Result<Vec<Listener>, BindError> {
    bind_for(Serves::Admin, open_before, addresses, clients).await
}

/// The same for clients that other servers pass on.
///
/// # Errors
///
/// As for [`bind_admin`].
#[cfg(feature = "cluster")]
pub async fn bind_for_servers(
    addresses: &[Address],
    others: &[Listener],
) -> Result<Vec<Listener>, BindError> {
    bind_for(Serves::Servers, Vec::new(), addresses, others).await
}

#[cfg(any(feature = "admin", feature = "cluster"))]
async fn bind_for(
    serves: Serves,
    open_before: Vec<Listener>,
    addresses: &[Address],
    others: &[Listener],
) -> Result<Vec<Listener>, BindError> {
    let mut listeners = open_before;
    for address in addresses {
        if is_open(address, others).await {
            let flag = serves.flag();
            return Err(BindError {
                address: address.clone(),
                reason: AddressUnavailable::InOtherUse { flag },
            });
        }
    }
    if !addresses.is_empty() {
        listeners = bind_beside(listeners, addresses).await?;
    }
    for listener in &mut listeners {
        listener.serves = serves;
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
            #[cfg(feature = "tls")]
            are_none_of(&addresses, others, Listener::is_tls)?;
            open_tcp(&addresses, others).map_err(|(_, reason)| reason)
        }
        #[cfg(feature = "tls")]
        Address::Tls(name) => {
            let addresses = look_up(name).await.map_err(AddressUnavailable::Unknown)?;
            are_none_of(&addresses, others, |other| !other.is_tls())?;
            let opened = open_tcp(&addresses, others).map_err(|(_, reason)| reason)?;
            Ok(opened.into_iter().map(Listener::with_tls).collect())
        }
        Address::Unix(_) if others.iter().any(|other| other.address == *address) => Ok(Vec::new()),
        Address::Unix(path) => Ok(vec![open_unix(path).await?]),
    }
}

/// Whether an address is one of the `open` ones.
#[cfg(any(feature = "admin", feature = "cluster"))]
async fn is_open(address: &Address, open: &[Listener]) -> bool {
    match address {
        Address::Unix(_) => open.iter().any(|open| open.address == *address),
        Address::Tcp(name) => {
            // A name that cannot be looked up is told of when it is to be opened.
            let addresses = look_up(name).await.unwrap_or_default();
            let mut addresses = addresses.into_iter();
            addresses.any(|address| open.iter().any(|open| open.is_at(address)))
        }
        // An admin address has no TLS.
        #[cfg(feature = "tls")]
        Address::Tls(_) => false,
    }
}

/// Otherwise an address that is open already would count as what is asked for, whichever it is.
#[cfg(feature = "tls")]
fn are_none_of(
    addresses: &[SocketAddr],
    others: &[Listener],
    is_of_other_kind: impl Fn(&Listener) -> bool,
) -> Result<(), AddressUnavailable> {
    let of_other_kind = |address| {
        let mut others = others.iter();
        others.any(|other| is_of_other_kind(other) && other.is_at(address))
    };
    match addresses.iter().any(|&address| of_other_kind(address)) {
        true => Err(AddressUnavailable::TlsAndPlain),
        false => Ok(()),
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
    Listener::of_tcp(socket.listen(BACKLOG)?)
}

/// A listening socket that was opened by another.
pub(super) fn inherit_tcp(socket: std::net::TcpListener) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    Listener::of_tcp(TcpListener::from_std(socket)?)
}

/// The same for a unix socket, whose file is left to who opened it.
pub(super) fn inherit_unix(socket: unix::net::UnixListener) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    Ok(Listener {
        address: Address::Unix(path_of(&socket.local_addr()?)),
        socket: Socket::Unix(UnixListener::from_std(socket)?),
        _file: None,
        serves: Serves::Locks,
    })
}

/// Where the socket is; for one that is in no directory, its name behind an `@`.
fn path_of(address: &unix::net::SocketAddr) -> PathBuf {
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_abstract_name() {
        return format!("@{}", name.escape_ascii()).into();
    }
    address.as_pathname().unwrap_or(Path::new("")).to_owned()
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
    fn of_tcp(socket: TcpListener) -> io::Result<Self> {
        Ok(Self {
            address: Address::Tcp(socket.local_addr()?.to_string()),
            socket: Socket::Tcp(socket),
            _file: None,
            serves: Serves::Locks,
        })
    }

    /// Accepts the next connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// What the system says; the next connection may be fine.
    pub(crate) async fn accept(&self) -> io::Result<Arrived> {
        Ok(match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Arrived::Tcp(stream, address)
            }
            #[cfg(feature = "tls")]
            Socket::Tls(listener) => {
                let (stream, address) = listener.accept().await?;
                Arrived::Tls(stream, address)
            }
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
                Arrived::Unix(stream, pid)
            }
        })
    }

    /// The address that connections come in on; for TCP with the true port, also where port 0
    /// was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The address as a socket address, if it is one of TCP, with TLS or without.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(feature = "tls")]
            Socket::Tls(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    #[cfg(feature = "cluster")]
    pub(super) fn is_for_servers(&self) -> bool {
        self.serves == Serves::Servers
    }

    #[cfg(feature = "admin")]
    pub(super) fn is_for_admin(&self) -> bool {
        self.serves == Serves::Admin
    }

    /// The same port, on which clients speak TLS.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self) -> Self {
        if let Address::Tcp(address) = self.address {
            self.address = Address::Tls(address);
        }
        if let Socket::Tcp(listener) = self.socket {
            self.socket = Socket::Tls(listener);
        }
        self
    }

    /// Whether its clients speak TLS.
    #[cfg(feature = "tls")]
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.socket, Socket::Tls(_))
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

    #[cfg(feature = "tls")]
    #[tokio::test]
    async fn one_address_is_not_opened_both_with_tls_and_without() {
        let first = open(&[LOCAL], &[]);
        let address = first[0].tcp_address().expect("TCP");
        let asked = Address::Tls(address.to_string());
        let refused = super::open(&asked, &first)
            .await
            .expect_err("plain is open");
        assert!(matches!(refused, AddressUnavailable::TlsAndPlain));
        let encrypted: Vec<_> = first.into_iter().map(Listener::with_tls).collect();
        assert_eq!(*encrypted[0].address(), asked);
        assert!(
            super::open(&asked, &encrypted)
                .await
                .expect("open")
                .is_empty()
        );
        let asked = Address::Tcp(address.to_string());
        let refused = super::open(&asked, &encrypted).await.expect_err("TLS is");
        assert!(matches!(refused, AddressUnavailable::TlsAndPlain));
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
                _ => unreachable!("TCP was asked for"),
            },
            other => println!("skipped, since there is no IPv6 here: {other:?}"),
        }
    }
}
