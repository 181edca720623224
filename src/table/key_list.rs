//! A list of keys, each with the tag of its grant, that grows without moving what is in it: to move a
//! million entries takes milliseconds, in which nobody else would have a turn.
//!
//! Invariants:
//!
//! 1. Each full piece has [`PIECE`] entries, and the last one no more.
//! 2. The last piece is empty only if the list is, or if room was made for an entry that has not come.

use super::held_keys::Tag;
use super::lock_key::LockKey;
use super::shrunk;

/// How many entries a piece has: 48 KB.
const PIECE: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct KeyList {
    last: Piece,
    /// One word, as every connection has a list and few have so many keys.
    #[expect(clippy::box_collection)]
    full: Option<Box<Vec<Piece>>>,
}

#[derive(Debug, Default)]
struct Piece {
    keys: Vec<LockKey>,
    /// In a list of its own, because padding would make half a word a whole one beside its key.
    tags: Vec<Tag>,
}

impl Piece {
    fn entries(&self) -> impl DoubleEndedIterator<Item = (&LockKey, Tag)> + ExactSizeIterator {
        self.keys.iter().zip(self.tags.iter().copied())
    }

    fn reserve_exact(&mut self, more: usize) {
        self.keys.reserve_exact(more);
        self.tags.reserve_exact(more);
    }

    fn shrink_to(&mut self, capacity: usize) {
        self.keys.shrink_to(capacity);
        self.tags.shrink_to(capacity);
    }
}

impl KeyList {
    fn full(&self) -> &[Piece] {
        self.full.as_ref().map_or(&[], |full| full)
    }

    pub(super) fn len(&self) -> usize {
        self.full().len() * PIECE + self.last.keys.len()
    }

    /// Makes room for one more entry.
    pub(super) fn make_room(&mut self) {
        let len = self.last.keys.len();
        if len == PIECE {
            let full = std::mem::take(&mut self.last);
            self.full.get_or_insert_default().push(full);
        }
        if self.last.keys.len() == self.last.keys.capacity() {
            // In small steps, as room for millions of keys would be wasted otherwise; but not too
            // small.
            let more = (len / 8).max(4).min(PIECE - self.last.keys.len());
            self.last.reserve_exact(more);
        }
    }

    pub(super) fn push(&mut self, key: LockKey, tag: Tag) {
        self.make_room();
        self.last.keys.push(key);
        self.last.tags.push(tag);
    }

    pub(super) fn pop(&mut self) -> Option<LockKey> {
        let (key, _) = self.pop_entry()?;
        Some(key)
    }

    fn pop_entry(&mut self) -> Option<(LockKey, Tag)> {
        self.take_back_a_piece();
        let entry = self.last.keys.pop().zip(self.last.tags.pop());
        self.take_back_a_piece();
        entry
    }

    /// If the last piece is empty, the one before becomes the last.
    fn take_back_a_piece(&mut self) {
        let Some(full) = self.full.as_mut().filter(|_| self.last.keys.is_empty()) else {
            return;
        };
        match full.pop() {
            Some(last) => self.last = last,
            None => self.full = None,
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<(&LockKey, Tag)> {
        let of_full = at / PIECE;
        let piece = match self.full().get(of_full) {
            Some(piece) => piece,
            None => &self.last,
        };
        let in_piece = at - of_full.min(self.full().len()) * PIECE;
        Some((piece.keys.get(in_piece)?, *piece.tags.get(in_piece)?))
    }

    /// Takes out the entry at this place, to which the last one moves.
    pub(super) fn swap_remove(&mut self, at: usize) {
        debug_assert!(at < self.len(), "it is in the list");
        let (of_full, in_piece) = (at / PIECE, at % PIECE);
        if of_full >= self.full().len() && in_piece + 1 < self.last.keys.len() {
            self.last.keys.swap_remove(in_piece);
            self.last.tags.swap_remove(in_piece);
            return;
        }
        let Some((key, tag)) = self.pop_entry() else {
            return;
        };
        if at == self.len() {
            return;
        }
        let piece = match &mut self.full {
            Some(full) if of_full < full.len() => &mut full[of_full],
            _ => &mut self.last,
        };
        (piece.keys[in_piece], piece.tags[in_piece]) = (key, tag);
    }

    /// The place of a key among so many of the last entries, or fewer at the beginning of a piece.
    pub(super) fn find_among_last(
        &self,
        most: usize,
        is_it: impl Fn(&LockKey) -> bool,
    ) -> Option<usize> {
        let (piece, before) = match self.full().split_last() {
            Some((piece, before)) if self.last.keys.is_empty() => (piece, before),
            _ => (&self.last, self.full()),
        };
        let from = piece.keys.len().saturating_sub(most);
        let found = piece.keys[from..].iter().rposition(is_it)?;
        Some(before.len() * PIECE + from + found)
    }

    /// From the first entry on.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&LockKey, Tag)> {
        let pieces = self.full().iter().chain([&self.last]);
        pieces.flat_map(Piece::entries)
    }

    /// From the last entry on.
    pub(super) fn rev(&self) -> impl Iterator<Item = (&LockKey, Tag)> {
        let pieces = [&self.last].into_iter().chain(self.full().iter().rev());
        pieces.flat_map(|piece| piece.entries().rev())
    }

    /// Gives back what was needed for many more entries.
    pub(super) fn give_back(&mut self) {
        let last = &mut self.last;
        if let Some(capacity) = shrunk(last.keys.len(), last.keys.capacity()) {
            last.shrink_to(capacity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Token;

    fn entry(number: u64) -> (LockKey, Tag) {
        (LockKey::new(&number.to_ne_bytes()), Token(number).into())
    }

    fn numbers<'a>(entries: impl Iterator<Item = (&'a LockKey, Tag)>) -> Vec<u64> {
        let of = |key: &LockKey| u64::from_ne_bytes(key.as_bytes().try_into().expect("ours"));
        entries
            .inspect(|(key, tag)| assert_eq!(*tag, Token(of(key)).into()))
            .map(|(key, _)| of(key))
            .collect()
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(32))]
        /// As a plain vector, at the ends of pieces, too.
        #[test]
        fn it_is_a_list(
            begin in 0..3_u64,
            steps in proptest::collection::vec((0..6_u8, proptest::prelude::any::<proptest::sample::Index>()), 0..200),
        ) {
            let (mut list, mut plain) = (KeyList::default(), Vec::new());
            let add = |list: &mut KeyList, plain: &mut Vec<u64>, number| {
                let (key, tag) = entry(number);
                list.push(key, tag);
                plain.push(number);
            };
            let first = (begin * PIECE as u64).saturating_sub(50);
            (0..first).for_each(|number| add(&mut list, &mut plain, number));
            for ((step, at), number) in steps.into_iter().zip(first..) {
                match step {
                    0 if !plain.is_empty() => {
                        let at = at.index(plain.len());
                        list.swap_remove(at);
                        plain.swap_remove(at);
                    }
                    1 => assert_eq!(list.pop().is_some(), plain.pop().is_some()),
                    // For an entry that does not come.
                    2 => list.make_room(),
                    3 => {
                        let last = plain.last().map(|number: &u64| number.to_ne_bytes());
                        let is_it = |key: &LockKey| last.is_some_and(|last| key.as_bytes() == last);
                        let found = list.find_among_last(1, is_it);
                        assert_eq!(found, plain.len().checked_sub(1));
                    }
                    _ => add(&mut list, &mut plain, number),
                }
                list.give_back();
                assert_eq!(list.len(), plain.len());
                let last = plain.len().wrapping_sub(1);
                assert_eq!(list.get(last).map(|(key, _)| key.as_bytes().to_vec()), plain.last().map(|number| number.to_ne_bytes().to_vec()));
                assert!(list.get(plain.len()).is_none());
            }
            assert_eq!(numbers(list.iter()), plain);
            plain.reverse();
            assert_eq!(numbers(list.rev()), plain);
        }
    }

    #[test]
    fn memory_for_many_more_entries_is_given_back() {
        let mut list = KeyList::default();
        for number in 0..25 * PIECE as u64 {
            let (key, tag) = entry(number);
            list.push(key, tag);
        }
        while list.len() > 1 {
            list.pop();
            list.give_back();
        }
        assert!(
            list.full().is_empty()
                && list.last.keys.capacity() <= 1024
                && list.last.tags.capacity() <= 1024
        );
    }

    #[test]
    fn what_is_in_it_is_not_moved_when_it_grows() {
        let mut list = KeyList::default();
        let mut places = Vec::new();
        for number in 0..10 * PIECE as u64 {
            let (key, tag) = entry(number);
            list.push(key, tag);
            if list.len() % PIECE == 0 {
                places.push(list.last.keys.as_ptr());
            }
            assert!(list.last.keys.capacity() <= PIECE);
        }
        let pieces = list.full().iter().map(|piece| piece.keys.as_ptr());
        assert!(pieces.eq(places[..9].iter().copied()));
    }
}
