//! The lock of one key: its holders, its mode and its waiters. Pure transitions.
//!
//! A `Lock` exists only while a session holds it; the table drops it with its last holder.
//! Everything here runs under the guard of the key's shard.
//!
//! Invariants, asserted where a transition could break them. They ensure that an exclusive lock has
//! one holder, so a release build asserts them, too: the panic ends the task of one connection
//! before a second session has the lock, and the lock stays as it was.
//!
//! 1. There is at least one holder. Exclusive: exactly one. Shared: any number, one value.
//! 2. A session that holds the key does not wait for it.
//! 3. While a request waits, the lock is held (follows from 1, as a lock without holders is
//!    dropped). So a release hands the lock to the next waiter in the same step, and no other
//!    request can slip in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::grant::GrantWord;
use super::waiters::{Waiter, Waiters};
use crate::model::{Mode, SessionNumber, Token, Value};

/// A held key.
///
/// There may be millions of locks, and most are held by one session and waited for by none. These
/// locks are thin: two words. All others are [fat](FatLock).
#[derive(Debug)]
pub(super) enum Lock {
    Thin(SessionNumber, GrantWord),
    Fat(Box<FatLock>),
}

/// A lock that is shared or waited for.
#[derive(Debug)]
pub(super) struct FatLock {
    holders: Holders,
    waiters: Waiters,
}

/// The sessions that hold a key.
#[derive(Debug)]
enum Holders {
    Exclusive(SessionNumber, GrantWord),
    Shared(SharedHolders),
}

#[derive(Debug)]
struct SharedHolders {
    value: Value,
    grants: BTreeMap<SessionNumber, GrantWord>,
}

/// How a request for a held lock is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The session holds the lock already, in this very mode, by the grant with this token.
    Mine(Token),
    /// The session may join the holders.
    Joinable,
    /// The session holds the lock in another mode or with another value, and would wait for itself.
    Conflict,
    /// Other sessions hold the lock, and the request would have to wait.
    Busy,
}

/// What became of a lock when a session released it.
#[derive(Debug)]
pub(super) enum Released {
    /// It is still held, by the remaining holders, or by the sessions of these waiters, which the
    /// caller must wake.
    Held(Vec<Arc<Waiter>>),
    /// No session holds it, and no request waits for it.
    Free,
}

impl Lock {
    /// A lock held by `session` alone so far.
    pub(super) fn new(session: SessionNumber, mode: Mode, grant: GrantWord) -> Self {
        match mode {
            Mode::Exclusive => Self::Thin(session, grant),
            mode => Self::Fat(Box::new(FatLock {
                holders: Holders::first(session, mode, grant),
                waiters: Waiters::default(),
            })),
        }
    }

    pub(super) fn admission(&self, session: SessionNumber, mode: &Mode) -> Admission {
        match (self, mode) {
            (Self::Thin(holder, word), Mode::Exclusive) if *holder == session => {
                Admission::Mine(word.token())
            }
            (Self::Thin(holder, _), _) if *holder == session => Admission::Conflict,
            (Self::Thin(..), _) => Admission::Busy,
            (Self::Fat(fat), mode) => fat.holders.admission(session, mode),
        }
    }

    /// Adds a holder that named the value of this shared lock ([`Admission::Joinable`]).
    pub(super) fn join(&mut self, session: SessionNumber, grant: GrantWord) {
        let fat = self.inflate();
        fat.holders.join(session, grant);
        fat.check();
    }

    /// Takes `session`, which must be a holder, off the holders. If it was the last, the lock
    /// passes to the next waiter, and, if that waiter names a value, to all waiters with the same
    /// value. `grant` makes the grant of each new holder, in the order of the queue.
    pub(super) fn release(
        &mut self,
        session: SessionNumber,
        grant: impl FnMut(&Waiter) -> GrantWord,
    ) -> Released {
        // Nothing has changed yet: the holders keep the lock.
        assert!(self.is_held_by(session), "only a holder lets go");
        let released = match self {
            Self::Thin(..) => Released::Free,
            Self::Fat(fat) => fat.release(session, grant),
        };
        self.deflate();
        released
    }

    /// The session's grant, to be read or changed.
    pub(super) fn grant_mut(&mut self, session: SessionNumber) -> Option<&mut GrantWord> {
        match self {
            Self::Thin(holder, grant) => (*holder == session).then_some(grant),
            Self::Fat(fat) => fat.holders.grant_mut(session),
        }
    }

    pub(super) fn is_held_by(&self, session: SessionNumber) -> bool {
        match self {
            Self::Thin(holder, _) => *holder == session,
            Self::Fat(fat) => fat.holders.contains(session),
        }
    }

    /// Puts a waiter at the end of the queue.
    pub(super) fn enqueue(&mut self, waiter: Arc<Waiter>) {
        let fat = self.inflate();
        fat.waiters.push(waiter);
        fat.check();
    }

    /// Takes a waiter out of the queue; false if it was granted the lock or refused before.
    pub(super) fn leave(&mut self, waiter: &Waiter) -> bool {
        let left = match self {
            Self::Thin(..) => false,
            Self::Fat(fat) => fat.waiters.leave(waiter),
        };
        self.deflate();
        left
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

    /// The holders, in the order of their numbers, each with its token.
    pub(super) fn holders(&self) -> impl Iterator<Item = (SessionNumber, Token)> {
        let (thin, fat) = match self {
            Self::Thin(holder, grant) => (Some((*holder, grant.token())), None),
            Self::Fat(fat) => (None, Some(fat.holders.iter())),
        };
        thin.into_iter().chain(fat.into_iter().flatten())
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

    /// The lock in the form in which it can be joined and waited for.
    fn inflate(&mut self) -> &mut FatLock {
        if let Self::Thin(holder, grant) = self {
            *self = Self::Fat(Box::new(FatLock {
                holders: Holders::Exclusive(*holder, *grant),
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
            && let Holders::Exclusive(holder, grant) = fat.holders
            && fat.waiters.waiting() == 0
        {
            *self = Self::Thin(holder, grant);
        }
    }
}

impl FatLock {
    fn release(
        &mut self,
        session: SessionNumber,
        mut grant: impl FnMut(&Waiter) -> GrantWord,
    ) -> Released {
        if let Holders::Shared(shared) = &mut self.holders {
            shared.grants.remove(&session);
            if !shared.grants.is_empty() {
                return Released::Held(Vec::new());
            }
        }
        let mut holders = None;
        let granted = self.waiters.grant_next(|waiter| {
            let grant = grant(waiter);
            match &mut holders {
                None => {
                    let mode = waiter.mode().clone();
                    holders = Some(Holders::first(waiter.session(), mode, grant));
                }
                Some(holders) => holders.join(waiter.session(), grant),
            }
        });
        let Some(holders) = holders else {
            return Released::Free;
        };
        self.holders = holders;
        self.check();
        Released::Held(granted)
    }

    fn check(&self) {
        if let Holders::Shared(shared) = &self.holders {
            assert!(!shared.grants.is_empty(), "invariant 1: held by someone");
        }
        let holds = |waiter: &Waiter| self.holders.contains(waiter.session());
        assert!(
            !self.waiters.last().is_some_and(holds),
            "invariant 2: holders do not wait"
        );
    }
}

impl Holders {
    fn first(session: SessionNumber, mode: Mode, grant: GrantWord) -> Self {
        match mode {
            Mode::Exclusive => Self::Exclusive(session, grant),
            Mode::Shared(value) => Self::Shared(SharedHolders {
                value,
                grants: BTreeMap::from([(session, grant)]),
            }),
        }
    }

    fn join(&mut self, session: SessionNumber, grant: GrantWord) {
        match self {
            Self::Shared(shared) => {
                shared.grants.insert(session, grant);
            }
            // Nothing has changed: the holder keeps the lock, alone.
            Self::Exclusive(..) => unreachable!("invariant 1: an exclusive lock has one holder"),
        }
    }

    fn admission(&self, session: SessionNumber, mode: &Mode) -> Admission {
        match (self, mode) {
            (Self::Exclusive(holder, word), Mode::Exclusive) if *holder == session => {
                Admission::Mine(word.token())
            }
            (Self::Shared(shared), Mode::Shared(value)) if shared.value == *value => {
                let own = shared.grants.get(&session);
                own.map_or(Admission::Joinable, |word| Admission::Mine(word.token()))
            }
            (holders, _) if holders.contains(session) => Admission::Conflict,
            _ => Admission::Busy,
        }
    }

    fn grant_mut(&mut self, session: SessionNumber) -> Option<&mut GrantWord> {
        match self {
            Self::Exclusive(holder, grant) => (*holder == session).then_some(grant),
            Self::Shared(shared) => shared.grants.get_mut(&session),
        }
    }

    fn mode(&self) -> Mode {
        match self {
            Self::Exclusive(..) => Mode::Exclusive,
            Self::Shared(shared) => Mode::Shared(shared.value.clone()),
        }
    }

    fn contains(&self, session: SessionNumber) -> bool {
        match self {
            Self::Exclusive(holder, _) => *holder == session,
            Self::Shared(shared) => shared.grants.contains_key(&session),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Exclusive(..) => 1,
            Self::Shared(shared) => shared.grants.len(),
        }
    }

    /// The holders, in the order of their numbers, each with its token.
    fn iter(&self) -> impl Iterator<Item = (SessionNumber, Token)> {
        let (one, many) = match self {
            Self::Exclusive(holder, grant) => (Some((*holder, grant.token())), None),
            Self::Shared(shared) => (None, Some(&shared.grants)),
        };
        let many = many.into_iter().flatten();
        one.into_iter()
            .chain(many.map(|(holder, grant)| (*holder, grant.token())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::lock_key::LockKey;
    use std::time::Instant;

    fn session(number: u64) -> SessionNumber {
        SessionNumber(number)
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
        let waiter = Arc::new(Waiter::new(
            session(number),
            None,
            LockKey::new(b"k"),
            mode,
            Instant::now(),
            number,
        ));
        lock.enqueue(Arc::clone(&waiter));
        waiter
    }

    fn handed_to(released: Released) -> Vec<u64> {
        match released {
            Released::Held(granted) => granted.iter().map(|waiter| waiter.session().0).collect(),
            other => panic!("not held: {other:?}"),
        }
    }

    #[test]
    fn a_lock_of_one_holder_is_two_words() {
        assert_eq!(size_of::<Lock>(), 16);
        let mut lock = Lock::new(session(1), Mode::Exclusive, grant(1));
        let waiter = wait(&mut lock, 2, Mode::Exclusive);
        assert!(matches!(lock, Lock::Fat(_)));
        assert!(lock.leave(&waiter));
        assert!(matches!(lock, Lock::Thin(..)));
        wait(&mut lock, 2, Mode::Exclusive);
        assert_eq!(handed_to(lock.release(session(1), next_grant)), [2]);
        assert!(matches!(lock, Lock::Thin(..)));
    }

    #[test]
    fn waiters_that_were_refused_get_nothing() {
        let mut lock = Lock::new(session(1), Mode::Exclusive, grant(1));
        let waiters = [2, 3].map(|number| wait(&mut lock, number, Mode::Exclusive));
        assert_eq!((lock.refuse_waiters(), lock.waiters()), (2, 0));
        for waiter in &waiters {
            assert!(!waiter.is_waiting() && !waiter.is_granted());
            assert!(!lock.leave(waiter));
        }
        assert!(matches!(lock, Lock::Thin(..)));
        let released = lock.release(session(1), next_grant);
        assert!(matches!(released, Released::Free));
    }

    #[test]
    #[should_panic = "invariant 1"]
    fn an_exclusive_lock_is_never_joined() {
        let mut lock = Lock::new(session(1), Mode::Exclusive, grant(1));
        lock.join(session(2), grant(2));
    }

    #[test]
    #[should_panic = "only a holder"]
    fn a_stranger_never_releases() {
        let mut lock = Lock::new(session(1), Mode::Exclusive, grant(1));
        lock.release(session(2), next_grant);
    }

    #[test]
    fn admission_follows_mode_value_and_ownership() {
        let exclusive = Lock::new(session(1), Mode::Exclusive, grant(1));
        assert_eq!(
            exclusive.admission(session(1), &Mode::Exclusive),
            Admission::Mine(Token(1))
        );
        assert_eq!(
            exclusive.admission(session(1), &shared("v")),
            Admission::Conflict
        );
        assert_eq!(
            exclusive.admission(session(2), &Mode::Exclusive),
            Admission::Busy
        );
        assert_eq!(
            exclusive.admission(session(2), &shared("v")),
            Admission::Busy
        );
        let valued = Lock::new(session(1), shared("v"), grant(1));
        let mine = Admission::Mine(Token(1));
        assert_eq!(valued.admission(session(1), &shared("v")), mine);
        assert_eq!(
            valued.admission(session(1), &shared("w")),
            Admission::Conflict
        );
        assert_eq!(
            valued.admission(session(1), &Mode::Exclusive),
            Admission::Conflict
        );
        assert_eq!(
            valued.admission(session(2), &shared("v")),
            Admission::Joinable
        );
        assert_eq!(valued.admission(session(2), &shared("w")), Admission::Busy);
    }

    #[test]
    fn a_released_lock_goes_straight_to_the_first_waiter() {
        let mut lock = Lock::new(session(1), Mode::Exclusive, grant(1));
        let second = wait(&mut lock, 2, Mode::Exclusive);
        let third = wait(&mut lock, 3, Mode::Exclusive);
        assert_eq!(handed_to(lock.release(session(1), next_grant)), [2]);
        assert!(second.is_granted() && !third.is_granted());
        assert!(!lock.leave(&second), "granted, so it cannot leave");
        assert!(lock.leave(&third));
        assert!(matches!(
            lock.release(session(2), next_grant),
            Released::Free
        ));
    }

    #[test]
    fn the_first_waiters_value_lets_in_all_who_named_it() {
        let mut lock = Lock::new(session(1), shared("a"), grant(1));
        lock.join(session(2), grant(2));
        for (number, mode) in [
            (3, shared("b")),
            (4, Mode::Exclusive),
            (5, shared("c")),
            (6, shared("b")),
        ] {
            wait(&mut lock, number, mode);
        }
        assert_eq!(handed_to(lock.release(session(1), next_grant)), [0; 0]);
        assert_eq!(handed_to(lock.release(session(2), next_grant)), [3, 6]);
        assert_eq!(lock.mode(), shared("b"));
        assert!(
            lock.holders()
                .map(|(holder, _)| holder)
                .eq([session(3), session(6)])
        );
        assert_eq!(handed_to(lock.release(session(6), next_grant)), [0; 0]);
        assert_eq!(handed_to(lock.release(session(3), next_grant)), [4]);
        assert_eq!(handed_to(lock.release(session(4), next_grant)), [5]);
        assert!(matches!(
            lock.release(session(5), next_grant),
            Released::Free
        ));
    }

    #[test]
    fn waiters_that_left_are_skipped() {
        let mut lock = Lock::new(session(1), Mode::Exclusive, grant(1));
        let waiters: Vec<_> = (2..100)
            .map(|number| wait(&mut lock, number, Mode::Exclusive))
            .collect();
        for waiter in &waiters[..96] {
            assert!(lock.leave(waiter));
        }
        assert_eq!(lock.waiters(), 2);
        assert_eq!(handed_to(lock.release(session(1), next_grant)), [98]);
        assert_eq!(handed_to(lock.release(session(98), next_grant)), [99]);
    }
}
