//! The lock of one key: its holders, its mode and its waiters. Pure transitions.
//!
//! A `Lock` exists only while it is held; the table drops it with its last holder. Everything here
//! runs under the guard of the key's shard.
//!
//! Invariants, asserted where a transition could break them. They ensure that an exclusive lock has
//! one holder, so a release build asserts them, too: the panic ends the task of one connection
//! before a second session has the lock, and the lock stays as it was.
//!
//! 1. There is at least one holder. Exclusive: exactly one. Shared: any number, one value. Slots:
//!    when each of them joined, there were fewer than it asked for.
//! 2. A session that holds the key does not wait for it, except for a grant to an owner word.
//! 3. While a request waits, the lock is held (follows from 1, as a lock without holders is
//!    dropped), and the first in its queue that waits for more than its own owner's hold is not
//!    admitted. So every step that takes a holder or a waiter away lets in whoever comes next; and a
//!    request that comes meanwhile passes nobody who stands in its way, unless equal values pass.

use std::sync::Arc;

use super::grant::GrantWord;
use super::holders::{Admission, Hold, HolderRef, Holders, Obstacle};
use super::waiters::{Waiter, Waiters};
use crate::model::{Ask, Holder, Mode, SessionNumber, Token};

/// A held key.
///
/// There may be millions of locks, and most are held by one session and waited for by none. These
/// locks are thin: two words. All others are [fat](FatLock).
#[derive(Debug)]
pub(super) enum Lock {
    Thin(SessionNumber, GrantWord),
    Fat(Box<FatLock>),
}

/// A lock that is shared, slotted, held by an owner or waited for.
#[derive(Debug)]
pub(super) struct FatLock {
    holders: Holders,
    waiters: Waiters,
}

/// What became of a lock in a step that may let waiters in.
#[derive(Debug)]
pub(super) enum Passed {
    /// It is held, perhaps by the sessions of these waiters now, which the caller must wake.
    Held(Vec<Arc<Waiter>>),
    /// Nobody holds it, and no request waits for it.
    Free,
}

/// Whether a lock can be held in another mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModeChange {
    /// It can.
    Possible,
    /// It is the mode in which the lock is held.
    Already,
    /// Others share the lock, or it is of a kind that cannot become this.
    Impossible,
}

impl Lock {
    /// A lock held by `holder` alone so far.
    pub(super) fn new(holder: HolderRef<'_>, mode: &Mode, hold: Hold) -> Self {
        match (holder, mode) {
            (HolderRef::Session(session), Mode::Exclusive) => Self::Thin(session, hold.word),
            (holder, mode) => Self::Fat(Box::new(FatLock {
                holders: Holders::first(holder.to_holder(), mode, hold),
                waiters: Waiters::default(),
            })),
        }
    }

    /// How a request is decided. Nobody who joins passes a request that waits, unless
    /// `equal_values_pass`.
    pub(super) fn admission(
        &self,
        session: SessionNumber,
        ask: &Ask,
        equal_values_pass: bool,
    ) -> Admission {
        match self {
            Self::Thin(holder, word) if *holder == session && !ask.is_owned() => match ask.mode {
                Mode::Exclusive => Admission::Mine(word.token()),
                _ => Admission::Conflict,
            },
            Self::Thin(..) => Admission::Busy,
            Self::Fat(fat) => match fat.holders.admission(session, ask) {
                Admission::Joinable if fat.has_one_in_the_way() => {
                    match equal_values_pass && ask.mode.value().is_some() {
                        true => Admission::Joinable,
                        false => Admission::Busy,
                    }
                }
                admission => admission,
            },
        }
    }

    /// Adds a holder that may join ([`Admission::Joinable`]).
    pub(super) fn join(&mut self, holder: Holder, mode: &Mode, hold: Hold) {
        let fat = self.inflate();
        fat.holders.add(holder, mode, hold);
        fat.check();
    }

    /// Adds a holder that a store has kept; false if a holder excludes it.
    #[cfg(feature = "store")]
    pub(super) fn restore(&mut self, holder: Holder, mode: &Mode, hold: Hold) -> bool {
        let fat = self.inflate();
        let is_restored = fat.holders.restore(holder, mode, hold);
        self.deflate();
        is_restored
    }

    /// Takes `holder`, which must be one, off the holders, and lets in the waiters whose turn it is
    /// then. `grant` makes the grant of each new holder, in the order of the queue.
    pub(super) fn release(
        &mut self,
        holder: HolderRef<'_>,
        grant: impl FnMut(&Waiter) -> GrantWord,
    ) -> Passed {
        // Nothing has changed yet: the holders keep the lock.
        assert!(self.grant_of(holder).is_some(), "only a holder lets go");
        let Self::Fat(fat) = self else {
            return Passed::Free;
        };
        let holder = holder.to_holder();
        fat.holders.remove(&holder);
        let passed = fat.let_in(Some(&holder), grant);
        self.deflate();
        passed
    }

    /// Whether the lock can become exclusive, or a shared one by this value.
    pub(super) fn can_become(&self, mode: &Mode) -> ModeChange {
        match (self.mode(), mode) {
            (now, mode) if now == *mode => ModeChange::Already,
            (Mode::Exclusive, Mode::Shared(_)) => ModeChange::Possible,
            (Mode::Shared(_), Mode::Exclusive) if self.holders_in_all() == 1 => {
                ModeChange::Possible
            }
            _ => ModeChange::Impossible,
        }
    }

    /// Changes the mode ([`ModeChange::Possible`]), and lets in the waiters whose turn it is then, who
    /// are returned. Nobody is let in without `grant`.
    pub(super) fn set_mode(
        &mut self,
        mode: &Mode,
        grant: Option<impl FnMut(&Waiter) -> GrantWord>,
    ) -> Vec<Arc<Waiter>> {
        let fat = self.inflate();
        fat.holders.set_mode(mode);
        let granted = fat.let_in_by(grant);
        self.deflate();
        granted
    }

    /// The grant of a holder.
    #[inline]
    pub(super) fn grant_of(&self, holder: HolderRef<'_>) -> Option<GrantWord> {
        match self {
            Self::Thin(one, word) => (holder == HolderRef::Session(*one)).then_some(*word),
            Self::Fat(fat) => fat.grant_of(holder),
        }
    }

    /// How a holder has the lock.
    pub(super) fn hold_of(&self, holder: &Holder) -> Option<Hold> {
        match self {
            Self::Thin(session, word) => {
                let (thin, hold) = thin_hold(*session, *word);
                (thin == *holder).then_some(hold)
            }
            Self::Fat(fat) => fat.holders.get(holder).copied(),
        }
    }

    /// The grant of a holder, to be changed.
    pub(super) fn grant_mut(&mut self, holder: HolderRef<'_>) -> Option<&mut GrantWord> {
        match self {
            Self::Thin(one, word) => (holder == HolderRef::Session(*one)).then_some(word),
            Self::Fat(fat) => {
                let hold = fat.holders.get_mut(&holder.to_holder());
                hold.map(|hold| &mut hold.word)
            }
        }
    }

    /// Notes that others may know of an owner's hold, and returns its grant.
    pub(super) fn make_known(&mut self, holder: HolderRef<'_>) -> Option<GrantWord> {
        match (holder, self) {
            (HolderRef::Owner(_), Self::Fat(fat)) => {
                let hold = fat.holders.get_mut(&holder.to_holder())?;
                hold.is_known = true;
                Some(hold.word)
            }
            (holder, lock) => lock.grant_of(holder),
        }
    }

    /// Puts a waiter at the end of the queue.
    pub(super) fn enqueue(&mut self, waiter: Arc<Waiter>) {
        let fat = self.inflate();
        fat.waiters.push(waiter);
        fat.check();
    }

    /// Takes a waiter out of the queue, and lets those in whose turn it is then; `None` if it was
    /// granted the lock or refused before. Nobody is let in without `grant`.
    pub(super) fn leave(
        &mut self,
        waiter: &Waiter,
        grant: Option<impl FnMut(&Waiter) -> GrantWord>,
    ) -> Option<Vec<Arc<Waiter>>> {
        let Self::Fat(fat) = self else {
            return None;
        };
        if !fat.waiters.leave(waiter) {
            return None;
        }
        let granted = match fat.holders {
            // The holder stands in the way of all who are left.
            Holders::Exclusive(..) => Vec::new(),
            _ => fat.let_in_by(grant),
        };
        self.deflate();
        Some(granted)
    }

    /// Takes all waiters out of the queue, without the lock, and returns their number. They are not
    /// woken.
    pub(super) fn refuse_waiters(&mut self) -> usize {
        let refused = match self {
            Self::Thin(..) => 0,
            Self::Fat(fat) => fat.waiters.refuse_all(),
        };
        self.deflate();
        refused
    }

    pub(super) fn waiters(&self) -> usize {
        match self {
            Self::Thin(..) => 0,
            Self::Fat(fat) => fat.waiters.waiting(),
        }
    }

    /// The requests that wait, in the order of the queue.
    pub(super) fn queue(&self) -> impl Iterator<Item = &Arc<Waiter>> {
        let fat = match self {
            Self::Thin(..) => None,
            Self::Fat(fat) => Some(fat),
        };
        fat.into_iter().flat_map(|fat| fat.waiters.iter())
    }

    /// What keeps this waiter out, together with those before it; `None`: it is let in at this moment.
    /// It need not stand in the queue: then it counts as the last.
    pub(super) fn needs(&self, waiter: &Waiter) -> Option<Obstacle> {
        match self {
            Self::Thin(..) => Some(Obstacle::All),
            Self::Fat(fat) => fat.needs(waiter),
        }
    }

    /// The holders, sessions in the order of their numbers and then owners.
    pub(super) fn holders(&self) -> impl Iterator<Item = (Holder, Hold)> {
        self.holders_after(None)
    }

    /// Those of the holders that come after this one in their order.
    pub(super) fn holders_after(
        &self,
        last: Option<&Holder>,
    ) -> impl Iterator<Item = (Holder, Hold)> {
        let is_after = |(holder, _): &(Holder, Hold)| last.is_none_or(|last| holder > last);
        let (thin, fat) = match self {
            Self::Thin(session, word) => (Some(thin_hold(*session, *word)).filter(is_after), None),
            Self::Fat(fat) => (None, Some(fat.holders.after(last))),
        };
        let fat = fat.into_iter().flatten();
        thin.into_iter()
            .chain(fat.map(|(holder, hold)| (holder.clone(), *hold)))
    }

    /// The owner words among the holders.
    pub(super) fn owners(&self) -> impl Iterator<Item = (&Holder, &Hold)> {
        let fat = match self {
            Self::Thin(..) => None,
            Self::Fat(fat) => Some(fat.holders.owners()),
        };
        fat.into_iter().flatten()
    }

    pub(super) fn holders_in_all(&self) -> usize {
        match self {
            Self::Thin(..) => 1,
            Self::Fat(fat) => fat.holders.len(),
        }
    }

    pub(super) fn mode(&self) -> Mode {
        match self {
            Self::Thin(..) => Mode::Exclusive,
            Self::Fat(fat) => fat.holders.mode(),
        }
    }

    /// The holder with the lowest token, and the token.
    pub(super) fn first_granted(&self) -> (Holder, Token) {
        let nobody = (Holder::Session(SessionNumber(0)), Token(0));
        match self {
            Self::Thin(session, word) => (Holder::Session(*session), word.token()),
            Self::Fat(fat) => {
                let first = fat.holders.iter().min_by_key(|(_, hold)| hold.word.token());
                first.map_or(nobody, |(holder, hold)| (holder.clone(), hold.word.token()))
            }
        }
    }

    /// The lock in the form in which it can be joined and waited for.
    fn inflate(&mut self) -> &mut FatLock {
        if let Self::Thin(session, word) = self {
            let (holder, hold) = thin_hold(*session, *word);
            *self = Self::Fat(Box::new(FatLock {
                holders: Holders::Exclusive(holder, hold),
                waiters: Waiters::default(),
            }));
        }
        match self {
            Self::Fat(fat) => fat,
            Self::Thin(..) => unreachable!("it was inflated"),
        }
    }

    /// Back to the thin form, if one session holds the lock exclusively and no request waits.
    fn deflate(&mut self) {
        if let Self::Fat(fat) = self
            && let Holders::Exclusive(Holder::Session(session), hold) = fat.holders
            && fat.waiters.waiting() == 0
        {
            *self = Self::Thin(session, hold.word);
        }
    }
}

fn thin_hold(session: SessionNumber, word: GrantWord) -> (Holder, Hold) {
    let taker = session;
    (Holder::Session(session), Hold::new(word, taker))
}

impl FatLock {
    /// Not inlined, to keep what every release runs small.
    #[inline(never)]
    fn grant_of(&self, holder: HolderRef<'_>) -> Option<GrantWord> {
        self.holders.get(&holder.to_holder()).map(|hold| hold.word)
    }

    /// Lets in whoever's turn it is at a lock that is held; nobody without `grant`.
    fn let_in_by(&mut self, grant: Option<impl FnMut(&Waiter) -> GrantWord>) -> Vec<Arc<Waiter>> {
        match grant.map(|grant| self.let_in(None, grant)) {
            Some(Passed::Held(granted)) => granted,
            Some(Passed::Free) => unreachable!("invariant 1: it is held"),
            None => Vec::new(),
        }
    }

    /// Lets in whoever's turn it is, as long as the holders admit the next in line. If `released` is the
    /// holder that has just let go, a request that waited for nothing else comes in alone; with any other
    /// by value come all who wait with the same value.
    fn let_in(
        &mut self,
        released: Option<&Holder>,
        mut grant: impl FnMut(&Waiter) -> GrantWord,
    ) -> Passed {
        let mut granted = Vec::new();
        while let Some(next) = self.next_in_line() {
            let has_company = matches!(self.holders, Holders::Nobody)
                || released.is_none_or(|released| next.holder() != released);
            let company = match has_company {
                true => self.waiters.take_others_like(&next),
                false => Vec::new(),
            };
            for one in std::iter::once(next).chain(company) {
                if !self.holders.admit(one.holder(), one.mode()) {
                    // Its owner holds the key, perhaps since a moment ago.
                    self.waiters.list_by_value(&one);
                    continue;
                }
                let (word, taker) = (grant(&one), one.session());
                self.waiters.grant(&one);
                let hold = Hold::new(word, taker);
                self.holders.add(one.holder().clone(), one.mode(), hold);
                granted.push(one);
            }
        }
        self.waiters.sweep();
        if matches!(self.holders, Holders::Nobody) {
            return Passed::Free;
        }
        self.check();
        Passed::Held(granted)
    }

    /// The first in line, if the holders admit it. One that waits for the hold of its own owner alone
    /// stands in nobody's way.
    fn next_in_line(&mut self) -> Option<Arc<Waiter>> {
        self.waiters.forget_first();
        for waiter in self.waiters.iter() {
            match self.obstacle(waiter) {
                None => return Some(Arc::clone(waiter)),
                Some(Obstacle::OwnOwner) => {}
                Some(Obstacle::All | Obstacle::Any) => return None,
            }
        }
        None
    }

    /// Whether a request that may join the holders would have to pass one who waits.
    fn has_one_in_the_way(&self) -> bool {
        let is_in_the_way = |one: &Arc<Waiter>| self.obstacle(one) != Some(Obstacle::OwnOwner);
        self.waiters.waiting() > 0
            && (!self.waiters.have_owners() || self.waiters.iter().any(is_in_the_way))
    }

    fn obstacle(&self, waiter: &Waiter) -> Option<Obstacle> {
        self.holders.obstacle(waiter.holder(), waiter.mode())
    }

    fn needs(&self, waiter: &Waiter) -> Option<Obstacle> {
        let own = self.obstacle(waiter);
        if own == Some(Obstacle::All) {
            return own;
        }
        let is_slots = matches!(self.holders, Holders::Slots(..));
        if !(is_slots && self.waiters.are_all_for_slots()) {
            let mut before = self.waiters.before(waiter);
            if before.any(|one| self.obstacle(one) == Some(Obstacle::All)) {
                return Some(Obstacle::All);
            }
        }
        match own {
            Some(Obstacle::OwnOwner) => own,
            // By value, nothing else keeps it out.
            _ => is_slots.then_some(Obstacle::Any),
        }
    }

    fn check(&self) {
        assert!(self.holders.len() > 0, "invariant 1: held by someone");
        let holds = |waiter: &Waiter| {
            let session = Holder::Session(waiter.session());
            waiter.holder() == &session && self.holders.get(&session).is_some()
        };
        assert!(
            !self.waiters.last().is_some_and(holds),
            "invariant 2: holders do not wait"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AskedFor, Value};
    use crate::table::waiters::test_waiter;
    use std::num::NonZeroU32;

    fn session(number: u64) -> Holder {
        Holder::Session(SessionNumber(number))
    }

    fn owner(name: &str) -> Holder {
        Holder::Owner(Value::new(name.as_bytes()))
    }

    fn hold(token: u64) -> Hold {
        let (word, taker) = (grant(token), SessionNumber(token));
        Hold::new(word, taker)
    }

    fn slots(count: u32) -> Mode {
        Mode::Slot(NonZeroU32::new(count).expect("not zero"))
    }

    fn new(number: u64, mode: Mode) -> Lock {
        Lock::new((&session(number)).into(), &mode, hold(number))
    }

    fn release(lock: &mut Lock, holder: Holder) -> Passed {
        lock.release((&holder).into(), next_grant)
    }

    fn leave(lock: &mut Lock, waiter: &Waiter) -> Option<Vec<u64>> {
        let let_in = lock.leave(waiter, Some(next_grant))?;
        Some(let_in.iter().map(|waiter| waiter.session().0).collect())
    }

    fn owned(mode: Mode, name: &str) -> Ask {
        let owner = Value::new(name.as_bytes());
        Ask {
            mode,
            holder: AskedFor::Owner(owner, None),
        }
    }

    fn grant(token: u64) -> GrantWord {
        GrantWord::new(Token(token), false)
    }

    /// A token that tells a test which session it was given to.
    fn next_grant(next: &Waiter) -> GrantWord {
        grant(next.session().0 * 100)
    }

    fn shared(value: &str) -> Mode {
        Mode::Shared(Value::new(value.as_bytes()))
    }

    fn wait(lock: &mut Lock, number: u64, mode: Mode) -> Arc<Waiter> {
        let waiter = test_waiter(number, mode.into());
        lock.enqueue(Arc::clone(&waiter));
        waiter
    }

    fn handed_to(released: Passed) -> Vec<u64> {
        match released {
            Passed::Held(granted) => granted.iter().map(|waiter| waiter.session().0).collect(),
            other => panic!("not held: {other:?}"),
        }
    }

    #[test]
    fn a_lock_of_one_holder_is_two_words() {
        assert_eq!(size_of::<Lock>(), 16);
        let mut lock = new(1, Mode::Exclusive);
        let waiter = wait(&mut lock, 2, Mode::Exclusive);
        assert!(matches!(lock, Lock::Fat(_)));
        assert_eq!(leave(&mut lock, &waiter), Some(vec![]));
        assert!(matches!(lock, Lock::Thin(..)));
        wait(&mut lock, 2, Mode::Exclusive);
        assert_eq!(handed_to(release(&mut lock, session(1))), [2]);
        assert!(matches!(lock, Lock::Thin(..)));
    }

    #[test]
    fn waiters_that_were_refused_get_nothing() {
        let mut lock = new(1, Mode::Exclusive);
        let waiters = [2, 3].map(|number| wait(&mut lock, number, Mode::Exclusive));
        assert_eq!((lock.refuse_waiters(), lock.waiters()), (2, 0));
        for waiter in &waiters {
            assert!(!waiter.is_waiting() && !waiter.is_granted());
            assert!(leave(&mut lock, waiter).is_none());
        }
        assert!(matches!(lock, Lock::Thin(..)));
        let released = release(&mut lock, session(1));
        assert!(matches!(released, Passed::Free));
    }

    #[test]
    #[should_panic = "invariant 1"]
    fn an_exclusive_lock_is_never_joined() {
        let mut lock = new(1, Mode::Exclusive);
        lock.join(session(2), &Mode::Exclusive, hold(2));
    }

    #[test]
    #[should_panic = "only a holder"]
    fn a_stranger_never_releases() {
        let mut lock = new(1, Mode::Exclusive);
        release(&mut lock, session(2));
    }

    #[test]
    fn admission_follows_mode_value_and_ownership() {
        let exclusive = new(1, Mode::Exclusive);
        assert_eq!(
            exclusive.admission(SessionNumber(1), &Mode::Exclusive.into(), false),
            Admission::Mine(Token(1))
        );
        assert_eq!(
            exclusive.admission(SessionNumber(1), &shared("v").into(), false),
            Admission::Conflict
        );
        assert_eq!(
            exclusive.admission(SessionNumber(2), &Mode::Exclusive.into(), false),
            Admission::Busy
        );
        assert_eq!(
            exclusive.admission(SessionNumber(2), &shared("v").into(), false),
            Admission::Busy
        );
        let valued = new(1, shared("v"));
        let mine = Admission::Mine(Token(1));
        assert_eq!(
            valued.admission(SessionNumber(1), &shared("v").into(), false),
            mine
        );
        assert_eq!(
            valued.admission(SessionNumber(1), &shared("w").into(), false),
            Admission::Conflict
        );
        assert_eq!(
            valued.admission(SessionNumber(1), &Mode::Exclusive.into(), false),
            Admission::Conflict
        );
        assert_eq!(
            valued.admission(SessionNumber(2), &shared("v").into(), false),
            Admission::Joinable
        );
        assert_eq!(
            valued.admission(SessionNumber(2), &shared("w").into(), false),
            Admission::Busy
        );
    }

    #[test]
    fn a_released_lock_goes_straight_to_the_first_waiter() {
        let mut lock = new(1, Mode::Exclusive);
        let second = wait(&mut lock, 2, Mode::Exclusive);
        let third = wait(&mut lock, 3, Mode::Exclusive);
        assert_eq!(handed_to(release(&mut lock, session(1))), [2]);
        assert!(second.is_granted() && !third.is_granted());
        assert!(
            leave(&mut lock, &second).is_none(),
            "granted, so it cannot leave"
        );
        assert_eq!(leave(&mut lock, &third), Some(vec![]));
        assert!(matches!(release(&mut lock, session(2)), Passed::Free));
    }

    #[test]
    fn the_first_waiters_value_lets_in_all_who_named_it() {
        let mut lock = new(1, shared("a"));
        lock.join(session(2), &shared("a"), hold(2));
        for (number, mode) in [
            (3, shared("b")),
            (4, Mode::Exclusive),
            (5, shared("c")),
            (6, shared("b")),
        ] {
            wait(&mut lock, number, mode);
        }
        assert_eq!(handed_to(release(&mut lock, session(1))), [0; 0]);
        assert_eq!(handed_to(release(&mut lock, session(2))), [3, 6]);
        assert_eq!(lock.mode(), shared("b"));
        assert!(
            lock.holders()
                .map(|(holder, _)| holder)
                .eq([session(3), session(6)])
        );
        assert_eq!(handed_to(release(&mut lock, session(6))), [0; 0]);
        assert_eq!(handed_to(release(&mut lock, session(3))), [4]);
        assert_eq!(handed_to(release(&mut lock, session(4))), [5]);
        assert!(matches!(release(&mut lock, session(5)), Passed::Free));
    }

    #[test]
    fn waiters_that_left_are_skipped() {
        let mut lock = new(1, Mode::Exclusive);
        let waiters: Vec<_> = (2..100)
            .map(|number| wait(&mut lock, number, Mode::Exclusive))
            .collect();
        for waiter in &waiters[..96] {
            assert_eq!(leave(&mut lock, waiter), Some(vec![]));
        }
        assert_eq!(lock.waiters(), 2);
        assert_eq!(handed_to(release(&mut lock, session(1))), [98]);
        assert_eq!(handed_to(release(&mut lock, session(98))), [99]);
    }

    fn wait_for(lock: &mut Lock, number: u64, ask: Ask) -> Arc<Waiter> {
        let waiter = test_waiter(number, ask);
        lock.enqueue(Arc::clone(&waiter));
        waiter
    }

    fn asks(number: u64, mode: Mode) -> (SessionNumber, Ask) {
        (SessionNumber(number), mode.into())
    }

    #[test]
    fn nobody_joins_past_one_who_waits_unless_equal_values_pass() {
        let mut lock = new(1, shared("r"));
        let writer = wait(&mut lock, 2, Mode::Exclusive);
        let (reader, ask) = asks(3, shared("r"));
        assert_eq!(lock.admission(reader, &ask, false), Admission::Busy);
        assert_eq!(lock.admission(reader, &ask, true), Admission::Joinable);
        let waiting = wait(&mut lock, 3, shared("r"));
        // The writer gives up, and nobody stands in the reader's way any more.
        assert_eq!(leave(&mut lock, &writer), Some(vec![3]));
        assert!(waiting.is_granted());
        assert_eq!(
            lock.admission(reader, &ask, false),
            Admission::Mine(Token(300))
        );
    }

    #[test]
    fn while_nobody_may_be_let_in_a_waiter_leaves_alone() {
        let mut lock = new(1, shared("r"));
        let writer = wait(&mut lock, 2, Mode::Exclusive);
        let reader = wait(&mut lock, 3, shared("r"));
        let nobody: Option<fn(&Waiter) -> GrantWord> = None;
        assert!(
            lock.leave(&writer, nobody)
                .is_some_and(|let_in| let_in.is_empty())
        );
        assert!(reader.is_waiting());
    }

    #[test]
    fn slots_are_filled_in_turn_each_request_by_its_own_number() {
        let mut lock = new(1, slots(2));
        let (other, ask) = asks(2, slots(2));
        assert_eq!(lock.admission(other, &ask, false), Admission::Joinable);
        lock.join(session(2), &slots(2), hold(2));
        let (third, ask) = asks(3, slots(2));
        assert_eq!(lock.admission(third, &ask, false), Admission::Busy);
        let (third, ask) = asks(3, slots(3));
        assert_eq!(lock.admission(third, &ask, false), Admission::Joinable);
        let one = wait(&mut lock, 4, slots(1));
        wait(&mut lock, 5, slots(2));
        assert_eq!(
            lock.admission(third, &ask, false),
            Admission::Busy,
            "passes nobody"
        );
        assert_eq!(handed_to(release(&mut lock, session(1))), [0; 0]);
        assert!(one.is_waiting(), "there is one holder still");
        assert_eq!(handed_to(release(&mut lock, session(2))), [4, 5]);
        assert_eq!(lock.mode(), slots(2));
    }

    #[test]
    fn an_owner_holds_a_key_once() {
        let mut lock = Lock::new((&owner("o")).into(), &shared("r"), hold(1));
        let again = owned(shared("r"), "o");
        assert_eq!(
            lock.admission(SessionNumber(1), &again, false),
            Admission::Busy
        );
        let other = owned(shared("r"), "p");
        assert_eq!(
            lock.admission(SessionNumber(1), &other, false),
            Admission::Joinable
        );
        lock.join(owner("p"), &shared("r"), hold(2));
        let twice = [3, 4].map(|number| wait_for(&mut lock, number, again.clone()));
        assert_eq!(lock.needs(&twice[0]), Some(Obstacle::OwnOwner));
        let (plain, ask) = asks(5, shared("r"));
        assert_eq!(
            lock.admission(plain, &ask, false),
            Admission::Joinable,
            "nobody else has to wait for that"
        );
        let writer = wait(&mut lock, 5, Mode::Exclusive);
        let behind = wait(&mut lock, 6, shared("r"));
        assert_eq!(lock.needs(&behind), Some(Obstacle::All));
        // It stands before the writer; whoever stands behind it does not come along.
        assert_eq!(handed_to(release(&mut lock, owner("o"))), [3]);
        assert!(twice[1].is_waiting() && writer.is_waiting() && behind.is_waiting());
        assert_eq!(handed_to(release(&mut lock, owner("o"))), [4]);
        assert_eq!(handed_to(release(&mut lock, owner("p"))), [0; 0]);
        assert_eq!(handed_to(release(&mut lock, owner("o"))), [5]);
        assert_eq!(handed_to(release(&mut lock, session(5))), [6]);
    }

    /// The second request of the owner stays in its place, and among those who come along later.
    #[test]
    fn of_two_requests_of_one_owner_one_comes_along() {
        let mut lock = new(1, Mode::Exclusive);
        let twice = [2, 3].map(|number| wait_for(&mut lock, number, owned(shared("r"), "o")));
        wait(&mut lock, 4, Mode::Exclusive);
        wait(&mut lock, 5, shared("r"));
        assert_eq!(handed_to(release(&mut lock, session(1))), [2, 5]);
        assert!(twice[1].is_waiting());
        assert_eq!(handed_to(release(&mut lock, session(5))), [0; 0]);
        wait(&mut lock, 6, shared("r"));
        assert_eq!(handed_to(release(&mut lock, owner("o"))), [3, 6]);
    }

    #[test]
    fn a_waiter_for_a_slot_needs_any_holder_and_all_others_each() {
        let mut lock = new(1, slots(2));
        lock.join(session(2), &slots(2), hold(2));
        let first = wait(&mut lock, 3, slots(2));
        assert_eq!(lock.needs(&first), Some(Obstacle::Any));
        let writer = wait(&mut lock, 4, Mode::Exclusive);
        let behind = wait(&mut lock, 5, slots(2));
        assert_eq!(lock.needs(&writer), Some(Obstacle::All));
        assert_eq!(
            lock.needs(&behind),
            Some(Obstacle::All),
            "the writer goes first"
        );
        assert_eq!(lock.needs(&first), Some(Obstacle::Any));
        let last = test_waiter(u64::MAX, slots(9).into());
        assert_eq!(
            lock.needs(&last),
            Some(Obstacle::All),
            "it would stand at the end"
        );
    }

    #[test]
    fn a_mode_changes_for_an_only_holder_and_lets_in_who_comes_next() {
        let mut lock = new(1, shared("r"));
        lock.join(session(2), &shared("r"), hold(2));
        assert_eq!(lock.can_become(&Mode::Exclusive), ModeChange::Impossible);
        release(&mut lock, session(2));
        assert_eq!(lock.can_become(&shared("w")), ModeChange::Impossible);
        assert_eq!(lock.can_become(&Mode::Exclusive), ModeChange::Possible);
        assert!(lock.set_mode(&Mode::Exclusive, Some(next_grant)).is_empty());
        assert!(matches!(lock, Lock::Thin(..)));
        assert_eq!(lock.can_become(&Mode::Exclusive), ModeChange::Already);
        for (number, mode) in [(3, shared("r")), (4, Mode::Exclusive), (5, shared("r"))] {
            wait(&mut lock, number, mode);
        }
        assert_eq!(lock.can_become(&shared("r")), ModeChange::Possible);
        let let_in = lock.set_mode(&shared("r"), Some(next_grant));
        let let_in: Vec<u64> = let_in.iter().map(|waiter| waiter.session().0).collect();
        assert_eq!(let_in, [3, 5]);
        assert_eq!(
            new(1, slots(1)).can_become(&Mode::Exclusive),
            ModeChange::Impossible
        );
    }
}
