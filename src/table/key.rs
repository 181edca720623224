//! Keys and values: bytes that a client chose.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// How keys are hashed: with a seed of this process, since clients choose them, and fast.
#[cfg(feature = "tuned")]
pub(super) type Seed = ahash::RandomState;
#[cfg(not(feature = "tuned"))]
pub(super) type Seed = std::collections::hash_map::RandomState;

/// Shared bytes. The thin ones keep their length beside them, which saves half of each pointer.
#[cfg(feature = "tuned")]
type Shared = triomphe::ThinArc<(), u8>;
#[cfg(not(feature = "tuned"))]
type Shared = std::sync::Arc<[u8]>;

/// An immutable byte string, one allocation shared by the table, the session and the waiters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Shared);

/// What all holders of a shared lock agree on; the same kind of bytes as a key.
pub type Value = Key;

impl Key {
    /// Copies `bytes`, so that a key never keeps a whole input buffer alive.
    pub fn new(bytes: &[u8]) -> Self {
        #[cfg(feature = "tuned")]
        let shared = Shared::from_header_and_slice((), bytes);
        #[cfg(not(feature = "tuned"))]
        let shared = bytes.into();
        Self(shared)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        #[cfg(feature = "tuned")]
        let bytes = &self.0.slice;
        #[cfg(not(feature = "tuned"))]
        let bytes = &self.0;
        bytes
    }
}

/// Lets maps be asked with bytes, without making a key first.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// As its bytes do.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}
