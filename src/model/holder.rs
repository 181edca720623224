//! Who holds a lock, and what a request for one says.

use std::fmt;
use std::time::Duration;

use super::key::{Key, Visible};
use super::mode::Mode;
use super::session_id::SessionNumber;

/// The word that an owner's lock belongs to: the same kind of bytes as a key.
pub type Owner = Key;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A session: the lock ends with it.
    Session(SessionNumber),
    /// An owner word that an application chose: the lock belongs to no session.
    Owner(Owner),
}

impl Holder {
    /// The session, if it is one.
    pub fn session(&self) -> Option<SessionNumber> {
        match self {
            Self::Session(number) => Some(*number),
            Self::Owner(_) => None,
        }
    }

    /// The owner, if it is one.
    pub fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Session(_) => None,
            Self::Owner(owner) => Some(owner),
        }
    }

    /// Whether it is a session.
    pub fn is_session(&self) -> bool {
        matches!(self, Self::Session(_))
    }
}

/// `#24` or `@owner`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(number) => number.fmt(f),
            Self::Owner(owner) => write!(f, "@{}", Visible(owner.as_bytes())),
        }
    }
}

/// What a session asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// How the key is to be held.
    pub mode: Mode,
    /// For whom.
    pub holder: AskedFor,
}

/// For whom a session asks for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedFor {
    /// For itself.
    Session,
    /// For itself, as one of several keys that it gets together or not at all.
    SessionWithOthers {
        /// Whether it was granted one of them.
        has_one: bool,
    },
    /// For an owner word, with this lease from the grant on; `None`: without one.
    Owner(Owner, Option<Duration>),
}

impl Ask {
    /// Whether the lock is asked for by an owner word.
    pub fn is_owned(&self) -> bool {
        matches!(self.holder, AskedFor::Owner(..))
    }

    /// Whether it is a part of a request that was granted something before.
    pub fn has_begun(&self) -> bool {
        matches!(self.holder, AskedFor::SessionWithOthers { has_one: true })
    }
}

/// A session's request for itself.
impl From<Mode> for Ask {
    fn from(mode: Mode) -> Self {
        let holder = AskedFor::Session;
        Self { mode, holder }
    }
}
