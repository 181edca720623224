//! What survives a restart.
//!
//! The table hands each change of state to [`Changes`] under the guard that orders it, and waits
//! for nothing there; it gets a [`Seq`] back. Whoever tells a client of the change waits until
//! that number is durable. Between the two, [`Changes`] collects what all connections do and
//! gives it to the [`Storage`] in one commit.
//!
//! What is kept is the state and not its history: who holds what, and the sessions that do.

mod commits;
#[cfg(feature = "store")]
pub mod disk;
#[cfg(test)]
pub(crate) mod fake;
mod overdue;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::table::{Key, Mode, Secret, SecretDigest, SessionNumber, Token};

pub use commits::{Changes, Writer};
#[cfg(feature = "store")]
pub use disk as directory;

/// A place in the order of all changes: the number of the commit that a change is part of. Zero is
/// before all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub(crate) u64);

/// A change of what survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A session holds a lock, by a new grant or with another lease than before.
    Held(Token, StoredHold),
    /// The grant with this token is over.
    Released(Token),
    /// A session lives, newly or with another grace period or secret than before.
    Session(SessionNumber, StoredSession),
    /// It is over.
    SessionOver(SessionNumber),
}

/// One holder of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHold {
    /// Who holds it.
    pub session: SessionNumber,
    /// What is held.
    pub key: Key,
    /// How.
    pub mode: Mode,
    /// The whole length of its lease, which begins anew at a restart.
    pub lease: Option<Duration>,
}

/// A session as it is handed to the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredSession {
    /// Its grace period, which begins anew at a restart.
    pub grace: Duration,
    /// Its secret, if it has one; of which the store keeps a digest alone.
    pub secret: Option<Secret>,
}

/// The changes of one commit, by what they are about: of several to the same, the last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Grants; `None`: over.
    pub holds: BTreeMap<Token, Option<StoredHold>>,
    /// Sessions; `None`: over.
    pub sessions: BTreeMap<SessionNumber, Option<StoredSession>>,
}

impl Batch {
    /// Adds a change that came after all that are here.
    pub fn add(&mut self, change: Change) {
        match change {
            Change::Held(token, hold) => self.holds.insert(token, Some(hold)).map(drop),
            Change::Released(token) => self.holds.insert(token, None).map(drop),
            Change::Session(number, session) => {
                self.sessions.insert(number, Some(session)).map(drop)
            }
            Change::SessionOver(number) => self.sessions.insert(number, None).map(drop),
        };
    }

    /// How many changes it has.
    pub fn len(&self) -> usize {
        self.holds.len() + self.sessions.len()
    }

    /// True if nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a store has kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// No token above this was ever given to anyone.
    pub tokens_above: Token,
    /// No session that the store knew of had a number above this.
    pub session_numbers_above: SessionNumber,
    /// Who holds what, in the order of the grants.
    pub holds: Vec<(Token, StoredHold)>,
    /// The sessions. One that held something may be missing, if it was new.
    pub sessions: Vec<RestoredSession>,
}

/// A session as it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredSession {
    /// Its public number.
    pub number: SessionNumber,
    /// Its grace period, which begins now.
    pub grace: Duration,
    /// What is left of its secret.
    pub secret: Option<SecretDigest>,
}

/// Where the state is kept.
pub trait Storage: Send + 'static {
    /// Makes all changes of `batch` durable, or none of them; returns when they are. After an
    /// error it is open which. The same batch, perhaps grown, is then tried again, and what of it
    /// is there already changes nothing.
    ///
    /// # Errors
    ///
    /// The reason, for clients and the log.
    fn commit(&mut self, batch: &Batch) -> Result<(), NotStored>;
}

/// Why a change is not durable, in a few words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotStored(Arc<str>);

impl NotStored {
    /// For this reason, which is made one line.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string().replace(char::is_control, " ").into())
    }
}
