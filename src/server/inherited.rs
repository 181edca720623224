//! Sockets that systemd has opened and passes on. They stay open while no server runs, so a restart
//! refuses nobody: who connects meanwhile waits in the kernel's queue.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use tracing::info;

use super::listener::{Listener, inherit_tcp, inherit_unix};

/// The sockets of this process, by what they are for, which `FileDescriptorName=` says.
#[derive(Debug, Default)]
pub struct Inherited {
    /// For clients: those with any other name, as most units give them none.
    pub clients: InheritedSockets,
    /// `tls`: for clients that speak TLS.
    pub tls: InheritedSockets,
    /// `admin`: for the HTTP of `--admin`.
    pub admin: InheritedSockets,
}

/// Sockets for one purpose, which nobody accepts from yet.
#[derive(Debug, Default)]
pub struct InheritedSockets(Vec<OpenSocket>);

#[derive(Debug)]
#[cfg_attr(
    not(feature = "systemd"),
    expect(dead_code, reason = "nobody passes any")
)]
enum OpenSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Why a socket from systemd cannot be used. No other try helps.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// It is no socket of a kind that connections come in on.
    #[error("cannot use socket {number} of those from systemd: {reason}")]
    Unusable {
        /// Which, counted from 1, in the order of the units' `ListenStream=`.
        number: usize,
        /// Why.
        reason: io::Error,
    },
    /// Nothing in this server serves such sockets.
    #[error("cannot use the socket named {name} from systemd: this elockd has no such port")]
    NotServed {
        /// What `FileDescriptorName=` calls it.
        name: &'static str,
    },
}

impl Inherited {
    /// Takes them over, once: a later call finds none. To be called before the process has other
    /// threads, as it takes away the variables that tell of them; from then on no program that this
    /// one may run inherits the sockets.
    ///
    /// # Errors
    ///
    /// One is no listening stream socket of TCP or a unix socket, as with `Accept=yes`.
    #[cfg(feature = "systemd")]
    pub fn take() -> Result<Self, InheritError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let (mut all, mut inherited) = (listenfd::ListenFd::from_env(), Self::default());
        for index in 0..all.len() {
            let socket = OpenSocket::take(&mut all, index);
            let socket = socket.map_err(|reason| InheritError::Unusable {
                number: index + 1,
                reason,
            })?;
            let sockets = match names.next() {
                Some("tls") => &mut inherited.tls,
                Some("admin") => &mut inherited.admin,
                _ => &mut inherited.clients,
            };
            sockets.0.push(socket);
        }
        Ok(inherited)
    }

    /// None, as this elockd was built without systemd.
    ///
    /// # Errors
    ///
    /// None.
    #[cfg(not(feature = "systemd"))]
    pub fn take() -> Result<Self, InheritError> {
        Ok(Self::default())
    }
}

impl InheritedSockets {
    /// Ready to accept. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the system refuses them.
    pub fn listen(self) -> io::Result<Vec<Listener>> {
        let listen = |socket| match socket {
            OpenSocket::Tcp(socket) => inherit_tcp(socket),
            OpenSocket::Unix(socket) => inherit_unix(socket),
        };
        let listeners: Vec<Listener> = self.0.into_iter().map(listen).collect::<io::Result<_>>()?;
        for listener in &listeners {
            info!("taken over from systemd: {}", listener.address());
        }
        Ok(listeners)
    }

    /// For sockets that nothing here serves.
    ///
    /// # Errors
    ///
    /// There are some.
    pub fn none_named(&self, name: &'static str) -> Result<(), InheritError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(InheritError::NotServed { name }),
        }
    }
}

#[cfg(feature = "systemd")]
impl OpenSocket {
    fn take(all: &mut listenfd::ListenFd, index: usize) -> io::Result<Self> {
        let found = match all.take_tcp_listener(index) {
            Ok(socket) => socket.map(Self::Tcp),
            Err(_) => all.take_unix_listener(index)?.map(Self::Unix),
        };
        let socket = found.ok_or_else(|| io::Error::other("it was taken before"))?;
        // Of a unit with `Accept=yes` comes one client's connection.
        match socket.is_listening()? {
            true => Ok(socket),
            false => Err(io::Error::other("nothing listens on it")),
        }
    }

    fn is_listening(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(socket) => socket2::SockRef::from(socket).is_listener(),
            Self::Unix(socket) => socket2::SockRef::from(socket).is_listener(),
        }
    }
}
