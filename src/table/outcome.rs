//! The answers of the table, each with what must be true when it is sent.

use super::grant::Grant;
use crate::model::{Circle, Limit, Seq, Token};

/// An answer of the table. It may be sent only while its [`Basis`] is true.
#[derive(Debug)]
#[must_use = "an answer is sent only while its basis holds"]
pub struct Outcome<T> {
    /// The answer.
    pub value: T,
    /// What the answer rests on.
    pub basis: Basis,
}

/// What must be true when an answer leaves the server. Only the table makes one.
#[derive(Debug, Default)]
pub struct Basis {
    seq: Seq,
    claim: Option<Claim>,
}

impl Basis {
    pub(super) fn new(seq: Seq, claim: Option<Claim>) -> Self {
        Self { seq, claim }
    }

    /// All changes up to this one are durable.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The same, for an answer that rests on this commit, too.
    #[must_use]
    pub fn and(mut self, seq: Seq) -> Self {
        self.seq = self.seq.max(seq);
        self
    }

    /// What the answer says of a grant.
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    pub(super) fn set_claim(&mut self, claim: Claim) {
        self.claim = Some(claim);
    }

    /// The same, for an answer that does not say it any more.
    pub fn take_claim(&mut self) -> Option<Claim> {
        self.claim.take()
    }
}

/// What an answer says of a grant.
#[derive(Debug)]
pub enum Claim {
    /// The request was granted the lock by this grant, which is given back if the client is never
    /// told of it.
    New(Grant),
    /// As `New`, by the grant with this token, whose key stands in the session's list. The session
    /// cannot lose it without its doing so far, and it is not stored; most grants are such, and
    /// another owner of the key would be a good part of what they cost.
    Listed(Token),
    /// The request asked for the lock that the session has by this grant already.
    Again(Grant),
    /// The session has this grant.
    Held(Grant),
    /// The session released the grant with this token, and had it until then.
    Released(Token),
    /// The session released all that it had, and its grants up to this token were its own until then, or
    /// until an earlier loss.
    ReleasedAll(Token),
    /// The request asked for several keys, and the session has all of them, by these grants.
    Several(Box<[OneOfSeveral]>),
}

/// A grant that is held together with others.
#[derive(Debug)]
pub struct OneOfSeveral {
    /// The grant.
    pub grant: Grant,
    /// Whether the request was granted it; otherwise the session had it already.
    pub is_new: bool,
}

impl Claim {
    /// The token of a new grant.
    pub fn new_token(&self) -> Option<Token> {
        match self {
            Self::New(grant) => Some(grant.token()),
            Self::Listed(token) => Some(*token),
            Self::Again(_)
            | Self::Held(_)
            | Self::Released(_)
            | Self::ReleasedAll(_)
            | Self::Several(_) => None,
        }
    }
}

impl<T> Outcome<T> {
    /// An answer that rests on nothing that could change or get lost.
    pub(crate) fn free(value: T) -> Self {
        let basis = Basis::default();
        Self { value, basis }
    }

    /// An answer that rests on all changes up to `seq`.
    pub(super) fn durable(value: T, seq: Seq) -> Self {
        let basis = Basis::new(seq, None);
        Self { value, basis }
    }

    /// An answer that says `claim` of a grant, and rests on all changes up to `seq`.
    pub(super) fn claiming(value: T, seq: Seq, claim: Claim) -> Self {
        let basis = Basis::new(seq, Some(claim));
        Self { value, basis }
    }

    /// The same answer with its value changed.
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
    /// The session holds the lock already, in this mode.
    Again,
    /// Others hold the lock.
    Busy,
    /// The session itself holds it in another mode or with another value.
    Conflict,
    /// Waiting for it would close this circle.
    Deadlock(Circle),
    /// A bound was reached.
    Full(Limit),
    /// The request waits: see [`LockTable::wait`](super::LockTable::wait).
    Waiting,
    /// The server is drained, and grants a lock only to those who came before that.
    Draining,
    /// The server stops, and grants nothing any more.
    Stopping,
}

/// The answer to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlocked {
    /// The session held the lock and holds it no more.
    Released {
        /// Whether the lock passed to waiters.
        passed_on: bool,
    },
    /// The session did not hold the lock.
    NotHeld(NotHeld),
}

/// Why a session, or an owner, cannot do something with a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotHeld {
    /// The session held the lock until its lease ended.
    Expired,
    /// The session held the lock until an operator took it.
    Revoked,
    /// Others hold the lock.
    NotYours,
    /// Nobody holds the lock.
    NotLocked,
}
