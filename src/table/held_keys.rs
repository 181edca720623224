//! The list of the keys that a session holds.

use std::sync::Arc;

use super::key_list::KeyList;
use super::lock_key::LockKey;
use super::lost_locks::LostLocks;
use super::tally::Tally;
use crate::model::{Seq, Token};

/// The keys that a session holds, and the rest of its state that outlives its connection.
///
/// The list serves to count the keys and to release them when the session ends; whether the session
/// holds a key, the table knows. So the key of a released grant may stay in the list: a release
/// looks for it among the last entries only, and otherwise it is tidied away later. A list takes
/// less room than a set.
///
/// Invariants:
///
/// 1. Every grant that the session holds and knows of is in the list, once.
/// 2. The list has at most three times as many entries as the session held keys at one time since
///    the list was last empty, and a few more.
#[derive(Debug, Default)]
pub(super) struct HeldKeys {
    /// The keys, with the tag of each one's grant.
    keys: KeyList,
    /// How many keys the session holds, with the lost ones until it notices their loss.
    count: usize,
    /// The index at which tidying goes on. Half a word, as every connection has one.
    tidy_at: u32,
    /// Where the losses of the session are noted. If it is `None`, none of its locks has had a
    /// lease, and it has not noticed that an operator took one.
    pub(super) lost: Option<Arc<LostLocks>>,
    /// Where the session counts, if it does.
    pub(super) tally: Option<Box<Tally>>,
    /// Grants without a wait that are not in the counters yet, of one turn of the connection.
    pub(super) grants: u16,
    /// Whether the session has ever taken a lock for an owner word.
    pub(super) has_taken_for_owners: bool,
    /// Whether the store knows of the session.
    pub(super) stored: bool,
    /// The session's last change that was answered. If the store failed, the change may not be
    /// durable yet, and the answer said so.
    pub(super) settled: Seq,
}

/// Tells a grant from an earlier one of the same key: the lower half of its token. Two grants with
/// the same tag by chance cost an entry that stays longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u32);

impl From<Token> for Tag {
    fn from(token: Token) -> Self {
        Self(token.0 as u32)
    }
}

/// How many of the last entries a release searches for its key.
const LAST: usize = 8;

/// How many entries are freed at once at most: to free a million takes a tenth of a second.
const FREED_AT_ONCE: usize = 250;

/// How many entries are looked at for each grant and each release while the list is too long. Two
/// would not do: they find about one entry to take out, and the last entry moves to its place,
/// where its release will not find it.
const TIDIED_AT_ONCE: usize = 4;

impl HeldKeys {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Makes room for one more entry. Not under a guard, as it takes memory.
    /// `is_held` says whether a grant is not over.
    pub(super) fn make_room(&mut self, is_held: impl Fn(&LockKey, Tag) -> bool) {
        self.tidy(is_held);
        self.keys.make_room();
    }

    pub(super) fn add(&mut self, key: LockKey, token: Token) {
        self.keys.push(key, token.into());
        self.count += 1;
    }

    /// Counts a release, and takes the key out if it is among the last entries.
    pub(super) fn remove(&mut self, key: &[u8], is_held: impl Fn(&LockKey, Tag) -> bool) {
        let at = self
            .keys
            .find_among_last(LAST, |last| last.as_bytes() == key);
        if let Some(at) = at {
            self.keys.swap_remove(at);
        }
        self.uncount(1);
        self.tidy(is_held);
    }

    /// The keys that the listed grant with this token may have, as two tokens may have one tag by chance:
    /// whoever looks at the locks tells them apart. The last one first, as it is most often that.
    pub(super) fn keys_of(&self, token: Token) -> impl Iterator<Item = &LockKey> {
        let tag = Tag::from(token);
        let entries = self.keys.rev();
        entries.filter_map(move |(key, other)| (other == tag).then_some(key))
    }

    /// Some of the keys that the session holds, `most` at the most, found among the first entries.
    pub(super) fn some(
        &self,
        most: usize,
        is_held: impl Fn(&LockKey, Tag) -> bool,
    ) -> Vec<LockKey> {
        let looked_at = self.keys.iter().take(LAST * most);
        let held = looked_at.filter(|(key, tag)| is_held(key, *tag));
        held.map(|(key, _)| key.clone()).take(most).collect()
    }

    /// Takes the losses since the last call off the count.
    pub(super) fn notice_losses(&mut self) {
        if let Some(losses) = &self.lost {
            let lost = losses.notice();
            self.uncount(lost);
        }
    }

    /// Takes at most `most` keys out of the list, held or not. The caller
    /// [uncounts](HeldKeys::uncount) the keys that it releases.
    pub(super) fn take_some(&mut self, most: usize) -> Vec<LockKey> {
        std::iter::from_fn(|| self.keys.pop()).take(most).collect()
    }

    /// Takes `over` keys off the count.
    pub(super) fn uncount(&mut self, over: usize) {
        debug_assert!(over <= self.count, "it held them");
        self.count = self.count.saturating_sub(over);
        if self.count == 0 {
            self.free_some(FREED_AT_ONCE);
        }
        self.keys.give_back();
    }

    /// How many entries the list has, with those of grants that are over.
    pub(super) fn listed(&self) -> usize {
        self.keys.len()
    }

    /// Whether the list is so long that it needs [`tidy_some`](HeldKeys::tidy_some): a million locks
    /// may have been lost at once.
    pub(super) fn is_overlong(&self) -> bool {
        self.keys.len() > 3 * self.count + 2 * FREED_AT_ONCE
    }

    /// If the list is too long, looks at `most` entries at the most.
    pub(super) fn tidy_some(&mut self, most: usize, is_held: impl Fn(&LockKey, Tag) -> bool) {
        match self.count {
            0 => self.free_some(most),
            _ => self.tidy_up_to(most, is_held),
        }
    }

    /// Takes the last `most` entries off the list of a session that holds nothing.
    fn free_some(&mut self, most: usize) {
        std::iter::from_fn(|| self.keys.pop())
            .take(most)
            .for_each(drop);
    }

    /// If the list is too long, looks at a few entries and takes out the keys that are not held.
    fn tidy(&mut self, is_held: impl Fn(&LockKey, Tag) -> bool) {
        self.tidy_up_to(TIDIED_AT_ONCE, is_held);
    }

    fn tidy_up_to(&mut self, most: usize, is_held: impl Fn(&LockKey, Tag) -> bool) {
        for _ in 0..most {
            if self.keys.len() <= 2 * self.count + LAST {
                return;
            }
            let at = self.tidy_at as usize;
            match self.keys.get(at) {
                None => self.tidy_at = 0,
                Some((key, tag)) if is_held(key, tag) => {
                    self.tidy_at = self.tidy_at.wrapping_add(1);
                }
                Some(_) => self.keys.swap_remove(at),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::model::{Mode, Peer};
    use crate::table::lost_locks::Loss;
    use crate::table::plain::test_table;
    use crate::table::{Ending, Locked, Session, Unlocked};

    fn number(key: &LockKey) -> u32 {
        u32::from_ne_bytes(key.as_bytes().try_into().expect("ours"))
    }

    fn key(number: u32) -> LockKey {
        LockKey::new(&number.to_ne_bytes())
    }

    /// A list under test, and what the session truly holds.
    #[derive(Default)]
    struct Holding {
        held: HeldKeys,
        truly: HashMap<u32, Token>,
        last_token: u64,
    }

    impl Holding {
        fn take(&mut self, taken: u32) {
            self.last_token += 1;
            let (truly, token) = (&mut self.truly, Token(self.last_token));
            let is_held = |key: &LockKey, tag| {
                truly
                    .get(&number(key))
                    .is_some_and(|is| tag == Tag::from(*is))
            };
            self.held.make_room(is_held);
            truly.insert(taken, token);
            self.held.add(key(taken), token);
        }

        fn release(&mut self, released: u32) {
            assert!(self.truly.remove(&released).is_some());
            let truly = &self.truly;
            let is_held = |key: &LockKey, tag| {
                truly
                    .get(&number(key))
                    .is_some_and(|is| tag == Tag::from(*is))
            };
            self.held.remove(&released.to_ne_bytes(), is_held);
        }

        fn assert_whole(&self) {
            let listed: std::collections::HashSet<u32> =
                self.held.keys.iter().map(|(key, _)| number(key)).collect();
            assert_eq!(self.held.count(), self.truly.len());
            assert!(self.truly.keys().all(|number| listed.contains(number)));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_held_is_listed_and_little_more(
            steps in proptest::collection::vec((proptest::bool::weighted(0.6), 0..20_u32), 0..2_000),
        ) {
            let (mut holding, mut most) = (Holding::default(), 0);
            for (takes, number) in steps {
                match (takes, holding.truly.contains_key(&number)) {
                    (true, false) => holding.take(number),
                    (false, true) => holding.release(number),
                    _ => {}
                }
                holding.assert_whole();
                most = if holding.held.count() == 0 { 0 } else { most.max(holding.held.count()) };
                proptest::prop_assert!(most > 0 || holding.held.listed() == 0);
                proptest::prop_assert!(holding.held.keys.len() <= 3 * most + LAST + 1);
            }
        }
    }

    /// The key that was taken first is released first, for good or to be taken again at once, so
    /// that no released key is among the last entries.
    #[test]
    fn a_session_that_lets_go_in_order_keeps_no_more_than_it_holds() {
        for again in [false, true] {
            let mut holding = Holding::default();
            (0..1_000).for_each(|number| holding.take(number));
            for round in 0..100_000 {
                let first = if again { round % 1_000 } else { round };
                holding.release(first);
                holding.take(if again { first } else { round + 1_000 });
                let listed = holding.held.keys.len();
                assert!(listed <= 3_000, "{listed} listed");
            }
            holding.assert_whole();
        }
    }

    /// Half of the keys are released before the list is too long, and then the others, each as the
    /// last entry.
    #[test]
    fn a_session_that_lets_go_of_nearly_all_keeps_nearly_nothing() {
        let mut holding = Holding::default();
        (0..10_000).for_each(|number| holding.take(number));
        holding.release(9_980);
        (0..4_990).for_each(|number| holding.release(number));
        let rest = (4_991..10_000).rev().filter(|number| *number != 9_980);
        rest.for_each(|number| holding.release(number));
        let (held, listed) = (holding.held.count(), holding.held.keys.len());
        assert!(held == 1 && listed <= 3 + LAST, "{listed} listed");
        holding.release(4_990);
        assert_eq!(holding.held.listed(), 0);
    }

    /// The session holds a thousand keys all the time, and loses every other key that it takes.
    #[test]
    fn a_session_that_loses_very_much_does_not_keep_it() {
        let lost = Arc::new(LostLocks::default());
        let mut held = HeldKeys {
            lost: Some(Arc::clone(&lost)),
            ..HeldKeys::default()
        };
        for taken in 0..100_000 {
            held.notice_losses();
            held.make_room(|key, _| number(key) < 1_000);
            held.add(key(taken), Token(taken.into()));
            if taken >= 1_000 {
                lost.add(taken.into(), Token(taken.into()), Loss::Expired);
            }
            assert!(held.keys.len() <= 3_000, "{} listed", held.keys.len());
        }
        held.notice_losses();
        assert_eq!(held.count(), 1_000);
    }

    /// To free a million keys takes a tenth of a second, in which nobody else would have a turn.
    #[test]
    fn very_much_that_was_lost_at_once_is_freed_in_slices() {
        for still_held in [0, 10] {
            let lost = Arc::new(LostLocks::default());
            let mut held = HeldKeys {
                lost: Some(Arc::clone(&lost)),
                ..HeldKeys::default()
            };
            (0..100_000).for_each(|taken| {
                held.make_room(|_, _| true);
                held.add(key(taken), Token(taken.into()));
            });
            (still_held..100_000)
                .for_each(|taken| lost.add(taken.into(), Token(taken.into()), Loss::Expired));
            let is_held = |key: &LockKey, _| number(key) < still_held;
            let before = held.listed();
            held.notice_losses();
            assert_eq!(held.count(), still_held as usize);
            assert!(before - held.listed() <= FREED_AT_ONCE);
            while held.is_overlong() {
                let before = held.listed();
                held.tidy_some(FREED_AT_ONCE, is_held);
                assert!(before - held.listed() <= FREED_AT_ONCE);
            }
            assert!(held.listed() <= 3 * still_held as usize + 2 * FREED_AT_ONCE);
            let listed: Vec<u32> = held.keys.iter().map(|(key, _)| number(key)).collect();
            assert!((0..still_held).all(|number| listed.contains(&number)));
        }
    }

    /// It held a round number of locks, and was refused one more.
    #[test]
    fn a_session_that_fails_leaves_nothing_behind() {
        let (table, mode, now) = (test_table(), Mode::Exclusive, Instant::now());
        let [mut session, mut other] =
            [(); 2].map(|()| table.open(Peer::Unix(None), Duration::ZERO));
        assert_eq!(
            table.lock(&mut other, b"busy", &mode, now),
            Locked::Acquired
        );
        for number in 0..8192_u32 {
            let key = number.to_ne_bytes();
            assert_eq!(table.lock(&mut session, &key, &mode, now), Locked::Acquired);
        }
        assert_eq!(table.lock(&mut session, b"busy", &mode, now), Locked::Busy);
        table.end(session, now);
        assert_eq!(table.held(), 1);
    }

    /// The table says here what is held: a key that is taken again, directly or by a hand-over, is
    /// not listed twice for long.
    #[test]
    fn a_session_that_takes_again_what_it_let_go_of_lists_it_once() {
        let (table, mode, now) = (test_table(), Mode::Exclusive, Instant::now());
        let open = || table.open(Peer::Unix(None), Duration::ZERO);
        let (mut session, mut other) = (open(), open());
        let hand_over = |from: &mut Session, to: &mut Session, key: &[u8]| {
            assert_eq!(table.lock_or_wait(to, key, &mode, now), Locked::Waiting);
            let passed_on = Unlocked::Released { passed_on: true };
            assert_eq!(table.unlock(from, key, now), passed_on);
            assert!(table.settle(to, Ending::Decided, now));
        };
        for key in 0..20_u8 {
            assert_eq!(
                table.lock(&mut session, &[key], &mode, now),
                Locked::Acquired
            );
        }
        for round in 0..10_000_u16 {
            let key = &[(round % 20) as u8];
            if round % 2 == 0 {
                table.unlock(&mut session, key, now);
                assert_eq!(table.lock(&mut session, key, &mode, now), Locked::Acquired);
            } else {
                hand_over(&mut session, &mut other, key);
                hand_over(&mut other, &mut session, key);
            }
            let listed = session.held.keys.len();
            assert!(listed <= 3 * 20 + LAST, "{listed} listed");
        }
        assert_eq!((session.held(), other.held()), (20, 0));
    }
}
