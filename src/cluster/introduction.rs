//! The first line of a connection that one server passes on to the one that leads, and the answer to it.
//!
//! The line says by a secret, which stands in etcd, that a server of this cluster has written it. So what it
//! says of its client counts as if the client had come by itself: its address for bounds and `--trust`, and
//! TLS, which the client speaks with the leader.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::model::{Peer, Secret};

/// What it begins with: a protocol of its own, in its first version.
const WORD: &str = "elock-pass-1";

/// The longest line.
const LONGEST: usize = 256;

/// What says that the client may speak.
const ACCEPTED: &[u8] = b"ok\n";

/// A client that is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Introduction {
    pub(crate) secret: Secret,
    pub(crate) peer: Peer,
    pub(crate) by_tls: bool,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotIntroduced {
    #[error("the first line is no introduction")]
    Malformed,
    #[error("the first line is from a server of another cluster, or of another leader's time")]
    WrongSecret,
    #[error("the connection has ended")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Introduction {
    /// Introduces a client, and waits until it is accepted.
    ///
    /// # Errors
    ///
    /// If the other end does not lead, or does not accept.
    pub(crate) async fn say(&self, stream: &mut TcpStream) -> Result<(), NotIntroduced> {
        stream.write_all(format!("{self}\n").as_bytes()).await?;
        let mut answer = [0; ACCEPTED.len()];
        match stream.read_exact(&mut answer).await {
            Ok(_) if answer == ACCEPTED => Ok(()),
            Ok(_) => Err(NotIntroduced::Malformed),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(NotIntroduced::Closed)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the first line, and accepts what it says if it knows `secret`.
    ///
    /// # Errors
    ///
    /// If it is no such line.
    pub(crate) async fn hear(
        stream: &mut TcpStream,
        secret: Secret,
    ) -> Result<Self, NotIntroduced> {
        let mut line = Vec::new();
        // Nothing may follow before it is accepted, so that nothing is read that is the client's.
        while !line.ends_with(b"\n") {
            let mut bytes = [0; LONGEST];
            match stream.read(&mut bytes[..LONGEST - line.len()]).await? {
                0 if line.len() == LONGEST => return Err(NotIntroduced::Malformed),
                0 => return Err(NotIntroduced::Closed),
                read => line.extend_from_slice(&bytes[..read]),
            }
        }
        let introduction = Self::parse(&line).ok_or(NotIntroduced::Malformed)?;
        if introduction.secret != secret {
            return Err(NotIntroduced::WrongSecret);
        }
        stream.write_all(ACCEPTED).await?;
        Ok(introduction)
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
        let mut words = line.split(' ');
        if words.next()? != WORD {
            return None;
        }
        let secret = Secret::from_hex(words.next()?)?;
        let by_tls = match words.next()? {
            "plain" => false,
            "tls" => true,
            _ => return None,
        };
        let peer = match (words.next()?, words.next()) {
            ("unix", pid) => Peer::Unix(pid.map(str::parse).transpose().ok()?),
            (address, None) => Peer::Tcp(address.parse::<SocketAddr>().ok()?),
            _ => return None,
        };
        let introduction = Self {
            secret,
            peer,
            by_tls,
        };
        words.next().is_none().then_some(introduction)
    }
}

impl fmt::Display for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by_tls {
            true => "tls",
            false => "plain",
        };
        write!(f, "{WORD} {} {by} ", self.secret.to_hex())?;
        match self.peer {
            Peer::Tcp(address) => write!(f, "{address}"),
            Peer::Unix(Some(pid)) => write!(f, "unix {pid}"),
            Peer::Unix(None) | Peer::BeforeRestart => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const SECRET: Secret = Secret(0xabc);

    fn introduction(peer: Peer, by_tls: bool) -> Introduction {
        Introduction {
            secret: SECRET,
            peer,
            by_tls,
        }
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.expect("room"), other.expect("a client").0)
    }

    #[tokio::test]
    async fn a_client_is_introduced_as_it_came() {
        let address = |text: &str| Peer::Tcp(text.parse().expect("an address"));
        for (peer, by_tls) in [
            (address("10.0.0.7:4711"), false),
            (address("[fe80::1%3]:4711"), true),
            (Peer::Unix(Some(7)), false),
            (Peer::Unix(None), false),
        ] {
            let (mut ours, mut theirs) = pair().await;
            let said = introduction(peer, by_tls);
            let (accepted, heard) =
                tokio::join!(said.say(&mut ours), Introduction::hear(&mut theirs, SECRET));
            assert_eq!(heard.expect("it is one"), said);
            assert!(accepted.is_ok());
        }
    }

    #[tokio::test]
    async fn who_knows_no_secret_is_not_heard() {
        let known = introduction(Peer::Unix(None), false).to_string();
        for line in [
            "lock k\r\n".to_owned(),
            known.clone(),
            format!("{known}\nlock k\n"),
            format!("{known} \n"),
            format!("{known} 7 8\n"),
            format!("{known}\r\n"),
            known.replace("abc", "abd") + "\n",
            known.replace("0abc", "abc") + "\n",
            known.replace("0abc", "+abc") + "\n",
            known.replace("plain", "Plain") + "\n",
            known.replace("unix", "10.0.0.7") + "\n",
            "x".repeat(LONGEST + 1),
            String::new(),
        ] {
            let (mut ours, mut theirs) = pair().await;
            ours.write_all(line.as_bytes()).await.expect("room");
            ours.shutdown().await.expect("it is open");
            let heard = Introduction::hear(&mut theirs, SECRET).await;
            assert!(heard.is_err(), "{line:?}: {heard:?}");
        }
    }
}
