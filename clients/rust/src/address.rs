//! Where servers listen.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::access::{Access, Password};

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
    /// The same, by TLS: `elocks://HOST:PORT`. Connections to it need the feature `tls`.
    Tls(String),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// A text names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address of a server: {reason}")]
pub struct BadAddress {
    /// Without what may be a password.
    text: String,
    reason: &'static str,
}

const FORMS: &str =
    "HOST:PORT, unix:PATH, elock://HOST:PORT, elocks://HOST:PORT or elock+unix:PATH";

impl BadAddress {
    /// One in a `list` of several.
    pub(crate) fn new(text: &str, list: &str, reason: &'static str) -> Self {
        let shown = match (text.rsplit_once('@'), list.contains('@')) {
            (Some((_, behind)), _) => format!("...@{behind}"),
            // It may be the beginning of a password that has a comma in it.
            (None, true) => "...".to_owned(),
            (None, false) => text.to_owned(),
        };
        Self {
            text: shown,
            reason,
        }
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        Self::parse(text).ok_or_else(|| BadAddress::new(text, text, FORMS))
    }
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text
            .strip_prefix("elock+unix:")
            .or_else(|| text.strip_prefix("unix:"))
        {
            return (!path.is_empty()).then(|| Self::Unix(PathBuf::from(path)));
        }
        let by_tls = text.strip_prefix("elocks://");
        let rest = by_tls
            .or_else(|| text.strip_prefix("elock://"))
            .unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() || rest.contains(['/', '@', ' ', '?', '#', ',']) {
            return None;
        }
        let (host, port) = split_port(rest)?;
        let host_and_port = format!("{host}:{port}");
        Some(match by_tls {
            Some(_) => Self::Tls(host_and_port),
            None => Self::Tcp(host_and_port),
        })
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
            Self::Tls(host_and_port) => write!(f, "elocks://{host_and_port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One server or several, in the order in which they are tried, separated by commas, and how they let the
/// client in: `elocks://web:secret@db1:11400,elocks://db2:11400?ca=/etc/elock/ca.pem`.
///
/// What one of them names is for all: a user and a password before the `@` (`:secret@` is a password without
/// a user), with `%XX` for other characters than letters, digits and `-._~`; and behind a `?` the files
/// of [`Servers::ca`] and [`Servers::client_certificate`] as `ca`, `cert` and `key`.
///
/// ```
/// use elock_client::Servers;
///
/// let servers: Servers = "elock://web:p%40ss@db1,elock://db2".parse()?;
/// assert_eq!(servers.to_string(), "db1:11400,db2:11400");
/// # Ok::<(), elock_client::BadAddress>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    addresses: Vec<Address>,
    pub(crate) access: Access,
}

impl Servers {
    /// Each of them, at least one.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Who comes: told to a server on each connection, before anything else, with the password.
    pub fn user(mut self, name: impl Into<Vec<u8>>) -> Self {
        self.access.user = Some(name.into());
        self
    }

    /// The password of the user, or the one that is for all. It goes to the server as it is: over a
    /// network, use `elocks://`.
    pub fn password(mut self, password: impl Into<Vec<u8>>) -> Self {
        self.access.password = Some(Password(password.into()));
        self
    }

    /// Whether a password is set.
    pub fn has_password(&self) -> bool {
        self.access.password.is_some()
    }

    /// Trusts servers whose certificates were signed by one of those in this file, in PEM form, and no
    /// others. Otherwise it is what the system trusts.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.access.ca = Some(file.into());
        self
    }

    /// Shows the certificate in this file to servers that ask for one, with the private key in the other;
    /// both in PEM form, and the same file if both are in it. Files are read again for each connection, so
    /// that they can be renewed.
    pub fn client_certificate(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        (self.access.cert, self.access.key) = (Some(cert.into()), Some(key.into()));
        self
    }
}

impl FromStr for Servers {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let (mut addresses, mut access) = (Vec::new(), Access::default());
        for one in text.split(',').map(str::trim) {
            let bad = |reason| BadAddress::new(one, text, reason);
            let (address, named) = split_access(one).map_err(bad)?;
            addresses.push(Address::parse(&address).ok_or_else(|| bad(FORMS))?);
            access.add(named).map_err(bad)?;
        }
        Ok(Self { addresses, access })
    }
}

/// The address alone, and what stands before and behind it. Only a URL has that; the path of a unix
/// socket may have any character.
fn split_access(text: &str) -> Result<(String, Access), &'static str> {
    let mut access = Access::default();
    let Some((scheme, rest)) = ["elocks://", "elock://"]
        .iter()
        .find_map(|scheme| Some((scheme, text.strip_prefix(scheme)?)))
    else {
        return Ok((text.to_owned(), access));
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user_info, host) = match rest.rsplit_once('@') {
        Some((user_info, host)) => (Some(user_info), host),
        None => (None, rest),
    };
    if let Some(user_info) = user_info {
        let (user, password) = match user_info.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (user_info, None),
        };
        access.user = (!user.is_empty()).then(|| decoded(user)).transpose()?;
        access.password = password.map(decoded).transpose()?.map(Password);
    }
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let file = Some(PathBuf::from(OsString::from_vec(decoded(value)?)));
        match name {
            "ca" => access.ca = file,
            "cert" => access.cert = file,
            "key" => access.key = file,
            _ => return Err("behind the ? there may be ca=FILE, cert=FILE and key=FILE"),
        }
    }
    Ok((format!("{scheme}{host}"), access))
}

/// With each `%XX` as the byte that it stands for.
fn decoded(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
                let value = value.and_then(|value| u8::try_from(value).ok());
                value.ok_or("a % stands before two hexadecimal digits; % itself is %25")?
            }
            byte => byte,
        });
    }
    Ok(bytes)
}

impl From<Address> for Servers {
    fn from(address: Address) -> Self {
        Self {
            addresses: vec![address],
            access: Access::default(),
        }
    }
}

/// The addresses, and nothing that is a secret.
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.addresses.iter().enumerate() {
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
            ("elocks://h", "elocks://h:11400"),
            ("elocks://[::1]:5/", "elocks://[::1]:5"),
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
            "elocks://",
            "u@h",
            "elock://u:p@",
            "elock://u:%4@h",
            "elock://u:p@h?wait=1",
            "elock://u:p@h,elock://v:p@h",
            "elock://u:p@h,elock://u:q@h",
            "h:1,",
            "elock://",
        ] {
            assert!(text.parse::<Servers>().is_err(), "{text}");
        }
        let servers: Servers = "elock://a:1,b, unix:c".parse().expect("three");
        assert_eq!(servers.to_string(), "a:1,b:11400,unix:c");
    }

    #[test]
    fn a_url_may_say_who_comes_and_whom_it_trusts() {
        let text = "elocks://w%65b:p%40:%2Cs@h:1?ca=/a%20b&cert=c&key=k,g";
        let servers: Servers = text.parse().expect("two");
        let said: Servers = "elocks://h:1,g".parse().expect("two");
        let said = said.user("web").password("p@:,s").ca("/a b");
        assert_eq!(servers, said.client_certificate("c", "k"));
        let said: Servers = "elock://h".parse().expect("one");
        assert_eq!("elock://:p@h".parse(), Ok(said.clone().password("p")));
        assert_eq!("elock://u@h".parse(), Ok(said.user("u")));
    }

    #[test]
    fn no_text_shows_a_password() {
        for text in [
            "elock://u:hush@h:x",
            "elock://u:hu,sh@h:x",
            "elock://u:hush@h?hush=@",
            "elock://u:%hush@h",
            "u:hush@h",
            "elock://u:hush@h,elock://v@h:x",
        ] {
            let bad = text.parse::<Servers>().expect_err(text);
            for shown in [format!("{bad}"), format!("{bad:?}")] {
                assert!(!shown.contains("hu"), "{shown}");
            }
        }
        let servers: Servers = "elock://u:hush@h".parse().expect("one");
        let options = crate::Options::new(servers.clone());
        for shown in [format!("{servers} {servers:?}"), format!("{options:?}")] {
            assert!(!shown.contains("hush"), "{shown}");
        }
    }
}
