//! A key of the lock map, with room beside its bytes for the lock in its compact form.
//!
//! There may be millions of locks, and nearly all are held by one session and awaited by none. The
//! two words of a lock of this kind stand in the allocation of its key, which the map and the
//! holder's list share. Only [`Locks`](super::map::Locks) reads and writes them.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::AtomicU64;

/// How keys, and numbers of sessions, are hashed: fast, and with a seed of this process, since clients
/// choose the keys.
#[cfg(feature = "tuned")]
pub(super) type Seed = ahash::RandomState;
#[cfg(not(feature = "tuned"))]
pub(super) type Seed = std::collections::hash_map::RandomState;

/// The bytes of a key and its words, in one allocation if the feature `tuned` is on.
#[cfg(feature = "tuned")]
type Shared = triomphe::ThinArc<Words, u8>;
#[cfg(not(feature = "tuned"))]
type Shared = std::sync::Arc<(Words, Box<[u8]>)>;

/// The lock of a key in the map. The words are atomics because threads share a key; but no two
/// access them at once: see the invariants of [`Locks`](super::map::Locks).
#[derive(Debug, Default)]
pub(super) struct Words {
    /// The number of the one session that holds the key, or that of a fat lock.
    pub(super) holder_or_fat: AtomicU64,
    /// The grant of that session; 0 for a fat lock.
    pub(super) grant: AtomicU64,
}

/// A key as the table keeps it. A clone is the same key and has the same words.
#[derive(Clone)]
pub struct LockKey(Shared);

/// Tells keys apart that are kept, without looking at their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyPlace(usize);

impl LockKey {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let words = Words::default();
        #[cfg(feature = "tuned")]
        let shared = Shared::from_header_and_slice(words, bytes);
        #[cfg(not(feature = "tuned"))]
        let shared = Shared::new((words, bytes.into()));
        Self(shared)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        #[cfg(feature = "tuned")]
        let bytes = &self.0.slice;
        #[cfg(not(feature = "tuned"))]
        let bytes = &self.0.1;
        bytes
    }

    /// Where the key is kept. All clones of a key have the same place, and while they are there no other key
    /// has it.
    pub(super) fn place(&self) -> KeyPlace {
        KeyPlace(std::ptr::from_ref(self.words()).addr())
    }

    pub(super) fn words(&self) -> &Words {
        #[cfg(feature = "tuned")]
        let words = &self.0.header.header;
        #[cfg(not(feature = "tuned"))]
        let words = &self.0.0;
        words
    }
}

/// Lets the map be asked with bytes, without making a key first.
impl Borrow<[u8]> for LockKey {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Hash for LockKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialEq for LockKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for LockKey {}

impl fmt::Debug for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}
