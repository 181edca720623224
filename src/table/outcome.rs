//! What the table answers, together with what the answer rests on.

use super::grant::Grant;
use crate::model::Seq;
use crate::model::{Circle, Limit, Token};

/// An answer of the table. Only by its [`Basis`] can it be told whether the answer may be sent.
#[derive(Debug)]
#[must_use = "an answer is sent only while its basis holds"]
pub struct Outcome<T> {
    /// The answer.
    pub value: T,
    /// What it rests on.
    pub basis: Basis,
}

/// What must be true when an answer leaves the server.
#[derive(Debug, Default)]
pub struct Basis {
    /// Everything up to here is durable.
    pub seq: Seq,
    /// What the answer says of a grant.
    pub claim: Option<Claim>,
}

/// What an answer says of a grant.
#[derive(Debug)]
pub enum Claim {
    /// The request was granted this. If the client is never told, the grant is given back.
    New(Grant),
    /// The session holds this.
    Held(Grant),
    /// The session itself let go of the grant with this token, and had it until then.
    Released(Token),
}

impl<T> Outcome<T> {
    /// An answer that rests on nothing that could change or get lost.
    pub(super) fn free(value: T) -> Self {
        let basis = Basis::default();
        Self { value, basis }
    }

    /// An answer about a change.
    pub(super) fn durable(value: T, seq: Seq) -> Self {
        let basis = Basis { seq, claim: None };
        Self { value, basis }
    }

    /// The same with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        Outcome {
            value: change(self.value),
            basis: self.basis,
        }
    }
}

/// The answer to a request for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locked {
    /// The session has been granted the lock.
    Acquired,
    /// It holds the lock already, in this mode.
    Again,
    /// Others hold it.
    Busy,
    /// The session itself holds it in another mode or with another value.
    Conflict,
    /// Waiting for it would close this circle.
    Deadlock(Circle),
    /// A bound was reached.
    Full(Limit),
    /// The request waits: see [`LockTable::wait`](super::LockTable::wait).
    Waiting,
    /// The server stops, and grants nothing any more.
    Stopping,
}

/// The answer to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlocked {
    /// The session held the lock and holds it no more.
    Released {
        /// It passed on to waiters, and is not free.
        passed_on: bool,
    },
    /// It did not.
    NotHeld(NotHeld),
}

/// Why a session cannot do something with a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotHeld {
    /// The session held it until its lease ended.
    Expired,
    /// Others hold it.
    NotYours,
    /// Nobody holds it.
    NotLocked,
}
