//! The locks that a session has lost without its doing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::outcome::NotHeld;
use crate::model::Token;

/// Why a session has lost a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Its lease ended.
    Expired,
    /// An operator took it.
    Revoked,
}

impl From<Loss> for NotHeld {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Expired => Self::Expired,
            Loss::Revoked => Self::Revoked,
        }
    }
}

/// How many losses a session remembers: the last ones.
const REMEMBERED: usize = 100;

/// The losses of one session: noted where a lease ends or an operator takes a lock, read by the session.
///
/// Bounded at all times, and each operation is O(1), as losses are noted and forgotten under the
/// guard of a key's shard.
#[derive(Debug, Default)]
pub(super) struct LostLocks(Mutex<Lost>);

#[derive(Debug, Default)]
struct Lost {
    /// The token of the lost grant and why it was lost, by the hash of its key. Two keys with one hash
    /// cost a wrong reason for a refusal and no more.
    by_hash: HashMap<u64, (Token, Loss)>,
    /// The losses in their order, with the ones that `by_hash` has forgotten since.
    order: VecDeque<(u64, Token)>,
    /// How many losses came since the session last noticed its losses.
    unnoticed: usize,
}

impl LostLocks {
    pub(super) fn add(&self, hash: u64, token: Token, why: Loss) {
        let mut lost = self.lock();
        lost.unnoticed += 1;
        lost.by_hash.insert(hash, (token, why));
        lost.order.push_back((hash, token));
        if lost.order.len() > REMEMBERED
            && let Some((hash, token)) = lost.order.pop_front()
            && lost
                .by_hash
                .get(&hash)
                .is_some_and(|(last, _)| *last == token)
        {
            lost.by_hash.remove(&hash);
        }
    }

    /// Forgets the loss of a key that the session holds again.
    pub(super) fn forget(&self, hash: u64) {
        self.lock().by_hash.remove(&hash);
    }

    pub(super) fn why(&self, hash: u64) -> Option<Loss> {
        self.lock().by_hash.get(&hash).map(|(_, why)| *why)
    }

    /// How many losses came since the last call.
    pub(super) fn notice(&self) -> usize {
        std::mem::take(&mut self.lock().unnoticed)
    }

    /// Poisoning is ignored: a panic cannot leave the losses half changed.
    fn lock(&self) -> MutexGuard<'_, Lost> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_losses_are_remembered_and_no_more_than_these() {
        let lost = LostLocks::default();
        for number in 0..10_000 {
            lost.add(number, Token(number), Loss::Expired);
            let inner = lost.lock();
            assert!(inner.by_hash.len() <= REMEMBERED && inner.order.len() <= REMEMBERED);
        }
        let remembered = (0..10_000).filter(|number| lost.why(*number).is_some());
        assert!(remembered.eq(9_900..10_000));
        assert_eq!((lost.notice(), lost.notice()), (10_000, 0));
    }

    /// The earlier loss is forgotten, and the later one stays.
    #[test]
    fn a_key_that_was_lost_twice_is_remembered_by_the_later_loss() {
        let lost = LostLocks::default();
        lost.add(7, Token(1), Loss::Expired);
        lost.forget(7);
        assert!(lost.why(7).is_none());
        (100..150).for_each(|number| lost.add(number, Token(number), Loss::Expired));
        lost.add(7, Token(200), Loss::Expired);
        (300..349).for_each(|number| lost.add(number, Token(number), Loss::Expired));
        assert!(lost.why(7).is_some());
        (400..460).for_each(|number| lost.add(number, Token(number), Loss::Expired));
        assert!(lost.why(7).is_none() || lost.lock().order.contains(&(7, Token(200))));
    }
}
