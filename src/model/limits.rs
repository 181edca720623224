//! The limits and rules of the lock table.

use std::fmt;
use std::time::Duration;

use super::account::{Exhausted, Whose};

/// The bounds of a lock table. A request that reaches one is refused with an answer that names it;
/// a session that finds no room for its grace period ends at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Locks in all: a shared lock counts once for each holder, and a request that waits counts as
    /// the lock that it may get.
    pub locks: usize,
    /// Keys held by one session.
    pub locks_per_session: usize,
    /// Requests that wait for one key.
    pub waiters_per_key: usize,
    /// Sessions in their grace period.
    pub sessions_in_grace: usize,
    /// The longest lease, with which every grant begins; `None`: a lock has no lease unless its
    /// holder asks for one.
    pub max_hold: Option<Duration>,
    /// Whether a request with the value that holds a key passes all who wait for it. Otherwise it
    /// waits its turn.
    pub equal_values_pass: bool,
}

impl Limit {
    /// The flag that sets the bound.
    pub fn flag(&self) -> &'static str {
        match self {
            Self::Locks { .. } => "--max-locks",
            Self::LocksPerSession { .. } => "--max-session-locks",
            Self::WaitersPerKey { .. } => "--max-key-waiters",
            Self::KeysPerRequest { .. } => "--max-request-keys",
            Self::Account(exhausted) => exhausted.setting(),
            Self::CommandsPerSecond { whose, .. } => match whose {
                Whose::Address => "--max-address-commands",
                Whose::User => "max_commands of a user",
            },
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, max) = match self {
            Self::Locks { max } => ("locks in this server", max),
            Self::LocksPerSession { max } => ("locks in this session", max),
            Self::WaitersPerKey { max } => ("waiters for this key", max),
            Self::KeysPerRequest { max } => ("keys in one request", max),
            Self::Account(exhausted) => return exhausted.fmt(f),
            Self::CommandsPerSecond { whose, max } => {
                return write!(f, "Too many commands of {whose}: at most {max} a second");
            }
        };
        write!(f, "Too many {what}: at most {max}")
    }
}

/// A bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::locks`].
    Locks {
        /// The bound.
        max: usize,
    },
    /// [`Limits::locks_per_session`].
    LocksPerSession {
        /// The bound.
        max: usize,
    },
    /// [`Limits::waiters_per_key`].
    WaitersPerKey {
        /// The bound.
        max: usize,
    },
    /// A bound of one address, or of one user.
    Account(Exhausted),
    /// Commands in a second of one address, or of one user.
    CommandsPerSecond {
        /// Whose.
        whose: Whose,
        /// The bound.
        max: u32,
    },
    /// Different keys in one request for all of them.
    KeysPerRequest {
        /// The bound.
        max: usize,
    },
}
