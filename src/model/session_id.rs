//! How a session is named, and where it is connected from.

use std::fmt;
use std::net::SocketAddr;

use super::secret::Secret;

/// A session's public name, `#24` in texts. Counts up from 1 and is never used again; after a restart
/// it counts from above the sessions that the store knew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionNumber(pub u64);

impl fmt::Display for SessionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The id that `conn_id` shows and takes: `24-` and the secret in 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId {
    /// The public half.
    pub number: SessionNumber,
    /// The half that proves the right to resume.
    pub secret: Secret,
}

impl SessionId {
    /// Reads an id as [`Display`](fmt::Display) writes it; `None` for anything else.
    pub fn parse(id: &[u8]) -> Option<Self> {
        let (number, secret) = std::str::from_utf8(id).ok()?.split_once('-')?;
        let read = Self {
            number: SessionNumber(number.parse().ok()?),
            secret: Secret::from_hex(secret)?,
        };
        // It is one word, and not whatever reads as the same numbers.
        (read.to_string().as_bytes() == id).then_some(read)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number.0, self.secret.to_hex())
    }
}

/// Why a session is not resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotResumed {
    /// There is no session with this id, or it is over.
    Unknown,
    /// It has a connection.
    StillConnected,
    /// The session of the asking connection holds a lock.
    HoldsLocks,
}

/// Where a session's connection came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The unix socket, and the process behind it where the system tells.
    Unix(Option<i32>),
    /// Not known: the session was connected before the server started.
    BeforeRestart,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(pid)) => write!(f, "unix, pid {pid}"),
            Self::Unix(None) => f.write_str("unix"),
            Self::BeforeRestart => f.write_str("before the restart"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written_and_nothing_else_does() {
        let id = SessionId {
            number: SessionNumber(24),
            secret: Secret(0xabc),
        };
        let text = id.to_string();
        assert_eq!(text, "24-00000000000000000000000000000abc");
        assert_eq!(SessionId::parse(text.as_bytes()), Some(id));
        let wrong: [&[u8]; 10] = [
            b"",
            b"24",
            b"24-",
            b"-00000000000000000000000000000abc",
            b"24-abc",
            b"+24-00000000000000000000000000000abc",
            b"24-+0000000000000000000000000000abc",
            b"24-\xff0000000000000000000000000000abc",
            b"024-00000000000000000000000000000abc",
            b"24-00000000000000000000000000000ABC",
        ];
        for id in wrong {
            assert_eq!(SessionId::parse(id), None, "{}", id.escape_ascii());
        }
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let id = SessionId {
            number: SessionNumber(1),
            secret: Secret(0x1234_5678_9abc),
        };
        assert!(!format!("{id:?}").contains("789"), "{id:?}");
    }
}
