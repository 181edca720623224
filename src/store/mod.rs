//! The state that survives a restart.
//!
//! The table hands each change of state to [`Changes`] under the guard that orders it, without
//! waiting, and gets a [`Seq`](crate::model::Seq) back. A connection that answers a client with the
//! change waits until its number is durable. Meanwhile [`Changes`] collects the changes of all
//! connections and gives them to the [`Storage`] in one commit.
//!
//! The state is kept and not its history: the grants, and the sessions that have them or can be
//! resumed.

mod commits;
#[cfg(feature = "store")]
pub mod disk;
#[cfg(feature = "cluster")]
pub(crate) mod etcd;
#[cfg(any(test, fuzzing))]
pub(crate) mod fake;
mod overdue;

use std::collections::BTreeMap;

use crate::model::{Change, NotStored, SessionNumber, StoredGrant, StoredSession, Token};

pub use commits::{Changes, Writer};

/// The changes of one commit, by token and by session: of several changes to the same, the last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Grants; `None`: over.
    pub grants: BTreeMap<Token, Option<StoredGrant>>,
    /// Sessions; `None`: over.
    pub sessions: BTreeMap<SessionNumber, Option<StoredSession>>,
}

impl Batch {
    /// Adds a change that came after all that are here.
    pub fn add(&mut self, change: Change) {
        match change {
            Change::Granted(token, grant) => self.grants.insert(token, Some(grant)).map(drop),
            Change::Released(token) => self.grants.insert(token, None).map(drop),
            Change::Session(number, session) => {
                self.sessions.insert(number, Some(session)).map(drop)
            }
            Change::SessionOver(number) => self.sessions.insert(number, None).map(drop),
        };
    }

    /// How many changes it has.
    pub fn len(&self) -> usize {
        self.grants.len() + self.sessions.len()
    }

    /// True if nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A storage that keeps the state.
pub trait Storage: Send + 'static {
    /// Makes all changes of `batch` durable, or none of them; returns when they are. After an error
    /// it is open which. The same batch, perhaps grown, is then tried again; its changes that are
    /// stored already change nothing.
    ///
    /// # Errors
    ///
    /// The reason, for clients and the log.
    fn commit(&mut self, batch: &Batch) -> Result<(), NotStored>;

    /// Makes sure that nobody else can have stored anything by now; called in place of a commit that would
    /// change nothing.
    ///
    /// # Errors
    ///
    /// As for a commit.
    fn confirm(&mut self) -> Result<(), NotStored> {
        Ok(())
    }

    /// Whether others may come to store in its place, so that even what is stored already has to be
    /// confirmed before it is told.
    fn must_confirm(&self) -> bool {
        false
    }

    /// How many bytes the stored state takes, where that can be told.
    fn bytes(&self) -> u64 {
        0
    }
}
