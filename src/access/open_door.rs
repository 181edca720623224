//! Whether a server would let in whoever can reach it over a network.

use std::net::SocketAddr;

use crate::config::Address;

/// What is listened for at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Clients.
    Clients,
    /// Clients that speak TLS.
    #[cfg(feature = "tls")]
    Tls,
    /// Other servers, which pass their clients on.
    #[cfg(feature = "cluster")]
    Servers,
}

impl Port {
    /// What it is called, where its address may be that of another setting.
    fn described(self) -> &'static str {
        #[cfg(feature = "cluster")]
        if self == Self::Servers {
            return ", the port for the other servers (--cluster-listen, or else --advertise),";
        }
        ""
    }

    /// Who gets in there: at the port for servers only those do by themselves who can read etcd.
    fn stranger(self) -> &'static str {
        #[cfg(feature = "cluster")]
        if self == Self::Servers {
            return "whoever comes by another server";
        }
        "whoever reaches it"
    }

    /// The setting by which it serves this machine alone.
    fn closed(self) -> &'static str {
        match self {
            Self::Clients => "--listen 127.0.0.1:11400 or unix:PATH",
            #[cfg(feature = "tls")]
            Self::Tls => "--tls-listen 127.0.0.1:11400",
            #[cfg(feature = "cluster")]
            Self::Servers => "--cluster-listen 127.0.0.1:11401",
        }
    }
}

/// A way into a server.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// For whom it is.
    pub port: Port,
    /// Where it listens: for TCP an IP address and a port, as the system says.
    pub address: &'a Address,
    /// Whether only a certificate that the server's operator has signed comes in here.
    pub asks_for_certificate: bool,
}

/// An address that can be reached from elsewhere, where nobody is asked who it is.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address}{} can be reached from other machines, and {} could take every lock. \
     Either give users passwords (--auth-file FILE or --password-file FILE), or serve this machine \
     alone ({}), or say that everybody may come in (--allow-anonymous)",
    .port.described(), .port.stranger(), .port.closed()
)]
pub struct OpenDoor {
    /// Where it is.
    pub address: Address,
    port: Port,
}

/// Refuses ways by which strangers would get in. `asks_for_passwords` is of the server, and
/// `everybody_may` the operator's word that it is meant.
///
/// # Errors
///
/// The first of them.
pub fn refuse_open_doors<'a>(
    ways: impl IntoIterator<Item = Way<'a>>,
    asks_for_passwords: bool,
    everybody_may: bool,
) -> Result<(), OpenDoor> {
    if asks_for_passwords || everybody_may {
        return Ok(());
    }
    let mut open = ways
        .into_iter()
        .filter(|way| !way.asks_for_certificate && !is_of_this_machine(way.address));
    open.next().map_or(Ok(()), |Way { address, port, .. }| {
        let address = address.clone();
        Err(OpenDoor { address, port })
    })
}

/// Whether only this machine can connect there. What is no IP address is not known to be.
fn is_of_this_machine(address: &Address) -> bool {
    match address {
        Address::Unix(_) => true,
        #[cfg(feature = "tls")]
        Address::Tls(text) => is_loopback(text),
        Address::Tcp(text) => is_loopback(text),
    }
}

fn is_loopback(address: &str) -> bool {
    address
        .parse::<SocketAddr>()
        .is_ok_and(|address| address.ip().to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str, change: impl FnOnce(&mut Way<'_>)) -> bool {
        let address = address.parse().expect("an address");
        let mut way = Way {
            port: Port::Clients,
            address: &address,
            asks_for_certificate: false,
        };
        change(&mut way);
        refuse_open_doors([way], false, false).is_err()
    }

    #[test]
    fn only_this_machine_comes_in_unasked() {
        for of_this_machine in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "unix:/a"] {
            assert!(!refused(of_this_machine, |_| {}), "{of_this_machine}");
        }
        assert!(!refused("[::ffff:127.0.0.1]:1", |_| {}));
        #[cfg(feature = "tls")]
        assert!(refused("tls://10.0.0.5:1", |_| {}) && !refused("tls://127.0.0.1:1", |_| {}));
        for open in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.5:1",
            "[fe80::1]:1",
            "[::ffff:10.0.0.5]:1",
        ] {
            assert!(refused(open, |_| {}), "{open}");
            assert!(!refused(open, |way| way.asks_for_certificate = true));
        }
        assert!(
            refused("a-name:1", |_| {}),
            "nobody knows what it stands for"
        );
    }

    #[test]
    fn one_open_way_among_others_is_refused_unless_it_is_asked_or_meant() {
        let addresses = ["127.0.0.1:1", "10.0.0.5:1"].map(|text| text.parse().expect("an address"));
        let ways = || {
            addresses.iter().map(|address| Way {
                port: Port::Clients,
                address,
                asks_for_certificate: false,
            })
        };
        let refused = refuse_open_doors(ways(), false, false).expect_err("one is open");
        assert_eq!(refused.address, addresses[1]);
        assert!(refused.to_string().contains("(--listen 127.0.0.1:11400 "));
        assert!(refuse_open_doors(ways(), true, false).is_ok());
        assert!(refuse_open_doors(ways(), false, true).is_ok());
    }

    #[cfg(all(feature = "cluster", feature = "tls"))]
    #[test]
    fn the_setting_of_the_open_port_is_named() {
        let address = "10.0.0.5:1".parse().expect("an address");
        let told = |port| {
            let way = Way {
                port,
                address: &address,
                asks_for_certificate: false,
            };
            let refused = refuse_open_doors([way], false, false).expect_err("it is open");
            refused.to_string()
        };
        for (port, setting) in [
            (Port::Tls, "--tls-listen"),
            (Port::Servers, "--cluster-listen"),
        ] {
            let told = told(port);
            assert!(told.starts_with("10.0.0.5:1"), "{told}");
            assert!(told.contains(&format!("({setting} 127.0.0.1:")), "{told}");
            assert!(!told.contains("--listen"), "{told}");
        }
    }
}
