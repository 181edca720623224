//! Whether a server is of this machine.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;

use elock_client::{Address, Connection, DEFAULT_DEADLINE, Error, Servers};

use super::failure::Failure;

/// Where the server is, and how it lets clients in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub place: Place,
    servers: Servers,
}

/// Where the server is: an address, and no name that could mean another one later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// TLS: a name, as the server's certificate is for it.
    Tls(String),
    /// A unix socket.
    Unix(PathBuf),
}

/// An address is not of this machine.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} is not of this machine ({address}), and a benchmark is a heavy load: say --yes if it \
     may be put on that server and the network to it"
)]
pub struct FarAway {
    name: String,
    address: IpAddr,
}

/// The addresses at which the one server may be, at least one. Each is of this machine, or `may_be_far`.
///
/// # Errors
///
/// The name means nothing, or an address of it is elsewhere.
pub fn find(servers: &Servers, may_be_far: bool) -> Result<Vec<Target>, Failure> {
    let [address] = servers.addresses() else {
        let many = "several servers are named, and one is measured: choose it with --server";
        return Err(Failure::Usage(many.to_owned()));
    };
    let at = |place| Target {
        place,
        servers: servers.clone(),
    };
    let name = match address {
        Address::Unix(path) => return Ok(vec![at(Place::Unix(path.clone()))]),
        Address::Tcp(name) | Address::Tls(name) => name,
    };
    let found: Vec<SocketAddr> = name
        .to_socket_addrs()
        .map_err(Failure::Connecting)?
        .collect();
    let far = found
        .iter()
        .find(|address| !is_of_this_machine(address.ip()));
    match far {
        Some(far) if !may_be_far => Err(Failure::FarAway(FarAway {
            name: name.clone(),
            address: far.ip(),
        })),
        _ if found.is_empty() => Err(Failure::Connecting(io::ErrorKind::NotFound.into())),
        _ if matches!(address, Address::Tls(_)) => Ok(vec![at(Place::Tls(name.clone()))]),
        _ => Ok(found.into_iter().map(|one| at(Place::Tcp(one))).collect()),
    }
}

/// The system takes a destination's own address as the source for it only if it has that address.
/// Nothing is sent for it.
fn is_of_this_machine(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if address.is_loopback() || address.is_unspecified() {
        return true;
    }
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip().to_canonical() == address)
}

impl Target {
    /// A connection that is let in.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let address = match &self.place {
            Place::Tcp(address) => Address::Tcp(address.to_string()),
            Place::Tls(name) => Address::Tls(name.clone()),
            Place::Unix(path) => Address::Unix(path.clone()),
        };
        Connection::to(&self.servers, &address, DEFAULT_DEADLINE).await
    }

    /// Whether there is more to do on a connection than to make it.
    pub fn is_guarded(&self) -> bool {
        matches!(self.place, Place::Tls(_)) || self.servers.has_password()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(address) => write!(f, "{address}"),
            Place::Tls(name) => write!(f, "elocks://{name}"),
            Place::Unix(path) => {
                let path = path.display().to_string();
                write!(f, "unix:{}", path.escape_debug())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_of_this_machine_and_documentation_is_not() {
        for near in [
            "127.0.0.1",
            "127.8.9.10",
            "::1",
            "0.0.0.0",
            "::ffff:127.0.0.1",
        ] {
            assert!(
                is_of_this_machine(near.parse().expect("as it must be")),
                "{near}"
            );
        }
        for far in [
            "192.0.2.1",
            "2001:db8::1",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(
                !is_of_this_machine(far.parse().expect("as it must be")),
                "{far}"
            );
        }
    }

    #[test]
    fn the_address_by_which_this_machine_speaks_to_others_is_its_own() {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("as it must be");
        // A machine without a network has no such address.
        if socket.connect("192.0.2.1:9").is_ok() {
            assert!(is_of_this_machine(
                socket.local_addr().expect("as it must be").ip()
            ));
        }
    }

    #[test]
    fn one_server_is_measured() {
        let several: Servers = "127.0.0.1:1,127.0.0.1:2".parse().expect("as it must be");
        assert!(matches!(find(&several, true), Err(Failure::Usage(_))));
        let one: Servers = "192.0.2.1:1".parse().expect("as it must be");
        assert!(matches!(find(&one, false), Err(Failure::FarAway(_))));
        assert!(find(&one, true).is_ok());
    }
}
