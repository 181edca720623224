//! The state that survives a restart, as values: changes on their way to a store, and what a store
//! gives back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::holder::Holder;
use super::key::Key;
use super::mode::Mode;
use super::secret::{Secret, SecretDigest};
use super::session_id::SessionNumber;
use super::token::Token;

/// A place in the order of all changes: the number of the commit that a change is part of. Zero is
/// before all of them, and durable from the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub(crate) u64);

/// A change of the state that survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A lock is held, by a new grant, or in another mode or with another lease than before.
    Granted(Token, StoredGrant),
    /// The grant with this token is over.
    Released(Token),
    /// A session lives, newly or with another grace period or secret than before.
    Session(SessionNumber, StoredSession),
    /// The session is over, and cannot be resumed. Its remaining grants are about to be released;
    /// if the server restarts before that, they are released at the start.
    SessionOver(SessionNumber),
}

/// One grant of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGrant {
    /// Who holds the key.
    pub holder: Holder,
    /// The key.
    pub key: Key,
    /// How it is held.
    pub mode: Mode,
    /// The whole length of the grant's lease, which begins anew at a restart. `None`: no lease.
    pub lease: Option<Duration>,
}

/// A session as it is handed to the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredSession {
    /// Its grace period, which begins anew at a restart.
    pub grace: Duration,
    /// Its secret, if it has one. The store keeps only its digest.
    pub secret: Option<Secret>,
    /// The user whom it belongs to, if users are told apart.
    pub user: Option<Key>,
}

/// The state that a store has kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// No grant has ever had a token above this.
    pub tokens_above: Token,
    /// No session that the store knew of had a number above this.
    pub session_numbers_above: SessionNumber,
    /// All grants, in their order.
    pub grants: Vec<(Token, StoredGrant)>,
    /// The sessions. One with grants may be missing: its first grant was not answered yet, or the
    /// session was over and not all of its grants were released.
    pub sessions: Vec<RestoredSession>,
}

impl Restored {
    /// No server has given as high a token, or numbered as many sessions: others could not go on above it.
    #[cfg(feature = "store")]
    pub(crate) const HIGHEST: u64 = 1 << 62;
}

/// A session as it comes back from a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredSession {
    /// Its public number.
    pub number: SessionNumber,
    /// Its grace period, which begins now.
    pub grace: Duration,
    /// The digest of its secret, if it had one.
    pub secret: Option<SecretDigest>,
    /// The user whom it belongs to, if it has one.
    pub user: Option<Key>,
}

/// Why a change is not durable, in a few words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotStored(Arc<str>);

impl NotStored {
    /// A refusal for this reason, in which control characters become spaces.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string().replace(char::is_control, " ").into())
    }
}
