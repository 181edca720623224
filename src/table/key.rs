//! Keys and values: bytes that a client chose.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// An immutable byte string, one allocation shared by the table, the session and the waiters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<[u8]>);

/// What all holders of a shared lock agree on; the same kind of bytes as a key.
pub type Value = Key;

impl Key {
    /// Copies `bytes`, so that a key never keeps a whole input buffer alive.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Lets maps be asked with bytes, without making a key first. `[u8]` and `Arc<[u8]>` hash alike.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
