//! How much of the server's room for locks is taken, and how many keys are held.

use std::sync::atomic::{AtomicU64, Ordering};

/// Grants and waiting requests together, and the keys that are held. Both in one word, as most grants
/// change both, and so this costs one step and a question for the keys no walk over all locks.
///
/// Invariants: there is a claim for every grant and every request that waits, and never more than the
/// limit; and while no request is being decided, as many keys are counted as the map has.
#[derive(Debug, Default)]
pub(super) struct Claims(AtomicU64);

/// What a claim is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimFor {
    /// A grant of a key that nobody held.
    NewKey,
    /// A grant of a key that others hold, too, or a place in its queue.
    HeldKey,
}

/// The keys are counted in the upper half.
const KEY: u64 = 1 << 32;

impl ClaimFor {
    fn word(self) -> u64 {
        match self {
            Self::NewKey => KEY + 1,
            Self::HeldKey => 1,
        }
    }
}

impl Claims {
    /// Makes a claim; false if there are `max` already. What the calling thread loads after it by
    /// `SeqCst` is no older than what a thread has stored that does not see the claim yet.
    pub(super) fn claim(&self, what: ClaimFor, max: usize) -> bool {
        let one_more =
            |word: u64| ((word % KEY) < max as u64).then_some(word.wrapping_add(what.word()));
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_more)
            .is_ok()
    }

    /// Makes a claim whatever the limit is.
    #[cfg(feature = "store")]
    pub(super) fn restore(&self, what: ClaimFor) {
        self.0.fetch_add(what.word(), Ordering::Relaxed);
    }

    /// Gives a grant's claim back; as the last holder's if nobody holds the key any more.
    pub(super) fn release(&self, what: ClaimFor) {
        self.0.fetch_sub(what.word(), Ordering::Relaxed);
    }

    /// Gives the claims of so many waiting requests back.
    pub(super) fn leave(&self, waiters: usize) {
        self.0.fetch_sub(waiters as u64, Ordering::Relaxed);
    }

    /// How many claims there are.
    pub(super) fn in_all(&self) -> usize {
        (self.0.load(Ordering::Relaxed) % KEY) as usize
    }

    /// How many keys are held.
    pub(super) fn keys(&self) -> usize {
        (self.0.load(Ordering::SeqCst) / KEY) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_claims_are_counted_apart() {
        let claims = Claims::default();
        assert!(claims.claim(ClaimFor::NewKey, 2));
        assert!(claims.claim(ClaimFor::HeldKey, 2));
        assert!(!claims.claim(ClaimFor::NewKey, 2));
        assert_eq!(claims.keys(), 1);
        claims.leave(1);
        assert!(claims.claim(ClaimFor::NewKey, 2));
        assert_eq!(claims.keys(), 2);
        claims.release(ClaimFor::HeldKey);
        claims.release(ClaimFor::NewKey);
        assert_eq!(claims.keys(), 1);
    }
}
