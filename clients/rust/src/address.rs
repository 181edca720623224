//! Where servers listen.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of a server for which none is named.
pub const DEFAULT_PORT: u16 = 11400;

/// Where one server listens.
///
/// ```
/// use elock_client::Address;
///
/// let same = ["elock://db1:11400", "db1:11400", "db1"].map(|text| text.parse::<Address>().unwrap());
/// assert_eq!(same[0], same[1]);
/// assert_eq!(same[0], same[2]);
/// let socket: Address = "elock+unix:/run/elockd.sock".parse().unwrap();
/// assert_eq!(socket, "unix:/run/elockd.sock".parse().unwrap());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `HOST:PORT`, where the host is a name or an address, an IPv6 one in brackets.
    Tcp(String),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// A text names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no address of a server: HOST:PORT, unix:PATH, elock://HOST:PORT or elock+unix:PATH"
)]
pub struct BadAddress {
    text: String,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress {
            text: text.to_owned(),
        };
        if let Some(path) = text
            .strip_prefix("elock+unix:")
            .or_else(|| text.strip_prefix("unix:"))
        {
            return match path {
                "" => Err(bad()),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let rest = text.strip_prefix("elock://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() || rest.contains(['/', '@', ' ', '?', '#', ',']) {
            return Err(bad());
        }
        let (host, port) = split_port(rest).ok_or_else(bad)?;
        Ok(Self::Tcp(format!("{host}:{port}")))
    }
}

/// Splits off the port, if there is one. An IPv6 address stands in brackets.
fn split_port(text: &str) -> Option<(&str, u16)> {
    let after_host = match text.starts_with('[') {
        true => text.find(']')? + 1,
        false => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(after_host);
    match rest.strip_prefix(':') {
        _ if host.is_empty() => None,
        None if rest.is_empty() => Some((host, DEFAULT_PORT)),
        None => None,
        Some(port) => Some((host, port.parse().ok().filter(|&port| port > 0)?)),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host_and_port) => f.write_str(host_and_port),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One server or several, in the order in which they are tried, separated by commas:
/// `elock://db1:11400,db2:11400`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers(Vec<Address>);

impl Servers {
    /// Each of them, at least one.
    pub fn addresses(&self) -> &[Address] {
        &self.0
    }
}

impl FromStr for Servers {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        text.split(',')
            .map(|one| one.trim().parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl From<Address> for Servers {
    fn from(address: Address) -> Self {
        Self(vec![address])
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_server_and_what_does_not() {
        for (text, shown) in [
            ("elock://h:1", "h:1"),
            ("elock://h/", "h:11400"),
            ("127.0.0.1:7", "127.0.0.1:7"),
            ("[::1]", "[::1]:11400"),
            ("elock://[::1]:5", "[::1]:5"),
            ("unix:s", "unix:s"),
            ("elock+unix:/a b", "unix:/a b"),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), shown);
        }
        for text in [
            "",
            ":1",
            "h:",
            "h:0",
            "h:65536",
            "h:x",
            "::1",
            "[::1",
            "[::1]x",
            "unix:",
            "http://h",
            "elocks://h",
            "u@h",
            "h:1,",
            "elock://",
        ] {
            assert!(text.parse::<Servers>().is_err(), "{text}");
        }
        let servers: Servers = "elock://a:1,b, unix:c".parse().expect("three");
        assert_eq!(servers.to_string(), "a:1,b:11400,unix:c");
    }
}
