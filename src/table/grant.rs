//! One grant of a lock.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use super::holders::HolderRef;
use super::lock_key::LockKey;
use crate::model::{Change, Holder, Key, Mode, StoredGrant, Token};

/// The name of one grant. A caller that later checks, undoes or ends the grant names it by this,
/// not by its holder and key: the holder may have released the key and taken it again, or the
/// connection may speak for another session by then.
#[derive(Debug, Clone)]
pub struct Grant {
    pub(super) holder: Holder,
    pub(super) key: LockKey,
    pub(super) token: Token,
}

impl Grant {
    /// The fencing token, which no other grant has.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Who was granted the lock.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The key of the lock.
    pub fn key(&self) -> &LockKey {
        &self.key
    }
}

/// A grant whose parts are borrowed: most grants are made and ended without another reference to the key.
#[derive(Debug, Clone, Copy)]
pub(super) struct GrantRef<'a> {
    pub(super) holder: HolderRef<'a>,
    pub(super) key: &'a LockKey,
    pub(super) token: Token,
}

impl<'a> From<&'a Grant> for GrantRef<'a> {
    fn from(grant: &'a Grant) -> Self {
        Self {
            holder: (&grant.holder).into(),
            key: &grant.key,
            token: grant.token,
        }
    }
}

impl GrantRef<'_> {
    /// The change that this grant is, held in this mode and with this lease.
    pub(super) fn to_store(self, mode: &Mode, lease: Option<Duration>) -> Change {
        let stored = StoredGrant {
            holder: self.holder.to_holder(),
            key: Key::new(self.key.as_bytes()),
            mode: mode.clone(),
            lease,
        };
        Change::Granted(self.token, stored)
    }

    pub(super) fn to_grant(self) -> Grant {
        Grant {
            holder: self.holder.to_holder(),
            key: self.key.clone(),
            token: self.token,
        }
    }
}

/// What the lock of a key keeps of a grant: its token, and whether it has an entry among the
/// [`Leases`](super::lease::Leases), so that grants without a lease need not be looked for there.
/// One word, as there are millions: the token, a bit for the lease, and a bit that is always set,
/// so that no grant is the word 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct GrantWord(NonZeroU64);

impl GrantWord {
    pub(super) fn new(token: Token, is_leased: bool) -> Self {
        assert!(
            token.0 < 1 << 62,
            "a token that does not fit would come again"
        );
        Self(NonZeroU64::MIN | token.0 << 2 | u64::from(is_leased) << 1)
    }

    /// Never 0.
    pub(super) fn to_bits(self) -> u64 {
        self.0.get()
    }

    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    pub(super) fn token(self) -> Token {
        Token(self.0.get() >> 2)
    }

    pub(super) fn is_leased(self) -> bool {
        self.0.get() & 2 != 0
    }
}

impl fmt::Debug for GrantWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "GrantWord({}, leased: {})",
            self.token(),
            self.is_leased()
        )
    }
}
