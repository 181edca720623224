//! Which keys a listing shows, and in which order.
//!
//! There may be millions of keys, and other connections must not wait for a walk over all of them. So a
//! walk is made of slices, each of which locks one shard of the map for as long as it takes to copy a
//! counted reference to each key; whoever walks lets others have their turn in between. The keys of one listing are
//! therefore not those of one moment.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;

use super::LockTable;
use super::lock_key::LockKey;

/// So many keys are sorted at once: what that takes is a part of a turn.
pub const RUN: usize = 256;

/// A key in the order of its bytes.
#[derive(Debug, PartialEq, Eq)]
struct ByBytes(LockKey);

impl Ord for ByBytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl PartialOrd for ByBytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The first keys in their order that begin with a prefix and stand behind another key, of many that come
/// in no order.
#[derive(Debug)]
pub struct FirstKeys<'a> {
    prefix: &'a [u8],
    after: Option<&'a [u8]>,
    most: usize,
    first: BinaryHeap<ByBytes>,
}

impl<'a> FirstKeys<'a> {
    /// Of no keys yet; keeps `most` of them at the most.
    pub fn new(prefix: &'a [u8], after: Option<&'a [u8]>, most: usize) -> Self {
        Self {
            prefix,
            after,
            most,
            first: BinaryHeap::new(),
        }
    }

    /// Keeps those that `may_be_seen` and are among the first so far.
    pub fn look_at(
        &mut self,
        keys: impl Iterator<Item = LockKey>,
        may_be_seen: impl Fn(&[u8]) -> bool,
    ) {
        for key in keys {
            let bytes = key.as_bytes();
            let is_one =
                bytes.starts_with(self.prefix) && self.after.is_none_or(|after| bytes > after);
            if is_one && may_be_seen(bytes) {
                self.add(key);
            }
        }
    }

    fn add(&mut self, key: LockKey) {
        let key = ByBytes(key);
        if self.first.len() < self.most {
            self.first.push(key);
        } else if let Some(mut last) = self.first.peek_mut()
            && key < *last
        {
            *last = key;
        }
    }

    /// The first keys, in order.
    pub fn into_sorted(self) -> Vec<LockKey> {
        let first = self.first.into_sorted_vec();
        first.into_iter().map(|key| key.0).collect()
    }
}

/// Sorted keys, the first of which is taken off.
#[derive(Debug)]
struct Run {
    first: ByBytes,
    rest: std::vec::IntoIter<LockKey>,
}

impl Ord for Run {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.first.cmp(&other.first)
    }
}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first
    }
}

impl Eq for Run {}

/// All keys in their order, of many that come in no order: runs of [`RUN`] keys that are merged when they
/// are read, so that no step takes long. Costs a word per key, and a few per run.
#[derive(Debug, Default)]
pub struct SortedKeys(BinaryHeap<Reverse<Run>>);

impl SortedKeys {
    /// Adds a run of keys: not many more than [`RUN`], as they are sorted at once.
    pub fn add_run(&mut self, mut keys: Vec<LockKey>) {
        keys.sort_unstable_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        let mut rest = keys.into_iter();
        if let Some(first) = rest.next().map(ByBytes) {
            self.0.push(Reverse(Run { first, rest }));
        }
    }
}

impl Iterator for SortedKeys {
    type Item = LockKey;

    fn next(&mut self) -> Option<LockKey> {
        let mut run = self.0.peek_mut()?;
        let first = match run.0.rest.next() {
            Some(next) => std::mem::replace(&mut run.0.first, ByBytes(next)),
            None => PeekMut::pop(run).0.first,
        };
        Some(first.0)
    }
}

impl LockTable {
    /// The slices of a walk over all keys.
    pub fn slices(&self) -> Range<usize> {
        self.locks.slices()
    }

    /// The keys of one of the [slices](Self::slices), in no order. Locks one shard, once.
    pub fn keys_of(&self, slice: usize) -> impl Iterator<Item = LockKey> + use<> {
        self.locks.keys_of(slice)
    }

    /// The keys held that begin with `prefix`, stand behind `after` and `may_be_seen`, in order, the
    /// first `most` of them. Takes its time: see [the module](self).
    pub fn keys_after(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        most: usize,
        may_be_seen: impl Fn(&[u8]) -> bool,
    ) -> Vec<LockKey> {
        let mut first = FirstKeys::new(prefix, after, most);
        let keys = self.slices().flat_map(|slice| self.keys_of(slice));
        first.look_at(keys, may_be_seen);
        first.into_sorted()
    }

    /// The keys held, in order. Takes its time: see [the module](self).
    pub fn keys(&self) -> Vec<LockKey> {
        self.keys_after(b"", None, usize::MAX, |_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(numbers: impl Iterator<Item = u32>) -> Vec<LockKey> {
        let key = |number| LockKey::new(format!("{number:05}").as_bytes());
        numbers.map(key).collect()
    }

    fn bytes(keys: impl IntoIterator<Item = LockKey>) -> Vec<Vec<u8>> {
        let bytes = |key: LockKey| key.as_bytes().to_vec();
        keys.into_iter().map(bytes).collect()
    }

    /// Each once, in an order that is not theirs.
    fn mixed() -> impl Iterator<Item = u32> {
        (0..1_000).map(|number| number * 7 % 1_000)
    }

    #[test]
    fn of_keys_in_no_order_the_first_are_found() {
        for most in [0, 1, 17, 1_000, 2_000] {
            let mut first = FirstKeys::new(b"", None, most);
            first.look_at(keys(mixed()).into_iter(), |_| true);
            let expected = keys(0..most.min(1_000) as u32);
            assert_eq!(bytes(first.into_sorted()), bytes(expected));
        }
    }

    #[test]
    fn runs_of_keys_are_read_in_the_order_of_all() {
        for run in [1, 3, RUN, 2_000] {
            let mut sorted = SortedKeys::default();
            sorted.add_run(Vec::new());
            for run in keys(mixed()).chunks(run) {
                sorted.add_run(run.to_vec());
            }
            assert_eq!(bytes(sorted), bytes(keys(0..1_000)));
        }
    }
}
