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

use crate::model::{Change, Holder, NotStored, SessionNumber, StoredGrant, StoredSession, Token};

pub use commits::{Changes, Room, Writer};

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

    /// What is over, in batches of no more than `most` changes.
    pub fn ends(&self, most: usize) -> Vec<Self> {
        let grants = self.grants.iter().filter(|(_, grant)| grant.is_none());
        let grants = grants.map(|(token, _)| Change::Released(*token));
        let sessions = self.sessions.iter().filter(|(_, one)| one.is_none());
        let sessions = sessions.map(|(number, _)| Change::SessionOver(*number));
        let ends: Vec<Change> = grants.chain(sessions).collect();
        let pieces = ends.chunks(most).map(|ends| {
            let mut piece = Self::default();
            ends.iter().for_each(|end| piece.add(end.clone()));
            piece
        });
        pieces.collect()
    }

    /// About how many bytes of the disk its grants and sessions take that are not over.
    pub fn bytes(&self) -> u64 {
        const EACH: usize = 150;
        let grants = self.grants.values().flatten().map(|grant| {
            let owner = match &grant.holder {
                Holder::Owner(owner) => owner.as_bytes().len(),
                Holder::Session(_) => 0,
            };
            let value = grant.mode.value().map_or(0, |value| value.as_bytes().len());
            grant.key.as_bytes().len() + value + owner + EACH
        });
        let sessions = self.sessions.values().flatten().map(|_| EACH);
        grants.chain(sessions).sum::<usize>() as u64
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
    /// Makes all changes of `batch` durable, or none of them but ends; returns when they are. After an
    /// error it is open which. The same batch, perhaps grown, is then tried again; its changes that are
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

    /// Whether it will never store anything again, as another stores in its place.
    fn is_over(&self) -> bool {
        false
    }

    /// False if the disk is full: what ends is stored all the same, and more should not be asked for.
    fn has_room(&self) -> bool {
        true
    }

    /// Looks for room again, and returns whether there is some. Asked about each second while there is none.
    fn make_room(&mut self) -> bool {
        self.has_room()
    }

    /// How many bytes of the disk the stored state takes, where that can be told.
    fn bytes(&self) -> u64 {
        0
    }

    /// How many entries the stored state has, where it is a log.
    fn entries(&self) -> usize {
        0
    }
}
