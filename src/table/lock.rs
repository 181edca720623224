//! One key: who holds it, in which mode, and who waits. Pure transitions.
//!
//! A `Lock` exists only while somebody holds it; the table drops it with its last holder.
//! Everything here runs under the guard of the key's shard.
//!
//! Invariants, asserted by [`Crowd::check`] where a transition could break them:
//!
//! 1. There is at least one holder. Exclusive: exactly one. Shared: any number, one value.
//! 2. A session that holds the key does not wait for it.
//! 3. While anyone waits, the lock is held (follows from 1: a lock without holders is not there),
//!    so a release with waiters hands over in the same step and nobody can slip in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::key::Value;
use super::lease::{Hold, Token};
use super::queue::{Queue, Waiter};
use super::session::SessionNumber;

/// How a session wants to hold a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Alone.
    Exclusive,
    /// Together with everyone who names the same value.
    Shared(Value),
}

/// A held key.
///
/// Most are held by one session and waited for by none; there may be millions, so such a lock is
/// two words. All others are a [`Crowd`].
#[derive(Debug)]
pub(super) enum Lock {
    Alone(SessionNumber, Hold),
    Crowd(Box<Crowd>),
}

/// A key that is shared or waited for.
#[derive(Debug)]
pub(super) struct Crowd {
    holders: Holders,
    queue: Queue,
}

/// Who holds a key.
#[derive(Debug)]
enum Holders {
    Exclusive(SessionNumber, Hold),
    Shared(SharedHolders),
}

#[derive(Debug)]
struct SharedHolders {
    value: Value,
    holds: BTreeMap<SessionNumber, Hold>,
}

/// What a held lock says to a session that wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It holds the lock already, in this very mode.
    Mine,
    /// It may join the holders.
    Joinable,
    /// It holds the lock in another mode or with another value: waiting would be for itself.
    Conflict,
    /// Others hold the lock.
    Busy,
}

/// What became of a lock when a session let go of it.
#[derive(Debug)]
pub(super) enum Released {
    /// It lives on, with the holders that remain or with these new ones, who must be woken.
    Held(Vec<Arc<Waiter>>),
    /// Nobody holds it now and nobody waits.
    Free,
}

impl Lock {
    /// A lock held by `session` alone so far.
    pub(super) fn new(session: SessionNumber, mode: Mode, hold: Hold) -> Self {
        match mode {
            Mode::Exclusive => Self::Alone(session, hold),
            mode => Self::Crowd(Box::new(Crowd {
                holders: Holders::first(session, mode, hold),
                queue: Queue::default(),
            })),
        }
    }

    pub(super) fn admission(&self, session: SessionNumber, mode: &Mode) -> Admission {
        match (self, mode) {
            (Self::Alone(holder, _), Mode::Exclusive) if *holder == session => Admission::Mine,
            (Self::Alone(holder, _), _) if *holder == session => Admission::Conflict,
            (Self::Alone(..), _) => Admission::Busy,
            (Self::Crowd(crowd), mode) => crowd.holders.admission(session, mode),
        }
    }

    /// Adds a holder to a shared lock whose value it named ([`Admission::Joinable`]).
    pub(super) fn join(&mut self, session: SessionNumber, hold: Hold) {
        let crowd = self.crowd();
        crowd.holders.join(session, hold);
        crowd.check();
    }

    /// Takes `session`, which must be a holder, off the holders. If it was the last, the lock
    /// passes to the next waiter, and, where that one names a value, to every waiter who names the
    /// same. `grant` makes the hold of each new holder, in the order of the queue.
    pub(super) fn release(
        &mut self,
        session: SessionNumber,
        grant: impl FnMut(&Waiter) -> Hold,
    ) -> Released {
        debug_assert!(self.is_held_by(session), "only a holder lets go");
        let released = match self {
            Self::Alone(..) => Released::Free,
            Self::Crowd(crowd) => crowd.release(session, grant),
        };
        self.disperse();
        released
    }

    /// What the session has of the lock, to be read or changed.
    pub(super) fn hold_mut(&mut self, session: SessionNumber) -> Option<&mut Hold> {
        match self {
            Self::Alone(holder, hold) => (*holder == session).then_some(hold),
            Self::Crowd(crowd) => crowd.holders.hold_mut(session),
        }
    }

    pub(super) fn is_held_by(&self, session: SessionNumber) -> bool {
        match self {
            Self::Alone(holder, _) => *holder == session,
            Self::Crowd(crowd) => crowd.holders.contains(session),
        }
    }

    /// Puts a waiter at the end of the queue.
    pub(super) fn enqueue(&mut self, waiter: Arc<Waiter>) {
        let crowd = self.crowd();
        crowd.queue.push(waiter);
        crowd.check();
    }

    /// Takes a waiter out of the queue; false if it had been granted the lock before.
    pub(super) fn leave(&mut self, waiter: &Waiter) -> bool {
        let left = match self {
            Self::Alone(..) => false,
            Self::Crowd(crowd) => crowd.queue.leave(waiter),
        };
        self.disperse();
        left
    }

    pub(super) fn waiters(&self) -> usize {
        match self {
            Self::Alone(..) => 0,
            Self::Crowd(crowd) => crowd.queue.waiting(),
        }
    }

    /// Who holds it, in the order of their numbers, with the token of each.
    pub(super) fn holders(&self) -> impl Iterator<Item = (SessionNumber, Token)> {
        let (alone, crowd) = match self {
            Self::Alone(holder, hold) => (Some((*holder, hold.token())), None),
            Self::Crowd(crowd) => (None, Some(crowd.holders.iter())),
        };
        alone.into_iter().chain(crowd.into_iter().flatten())
    }

    pub(super) fn holders_in_all(&self) -> usize {
        match self {
            Self::Alone(..) => 1,
            Self::Crowd(crowd) => crowd.holders.len(),
        }
    }

    pub(super) fn mode(&self) -> Mode {
        match self {
            Self::Alone(..) => Mode::Exclusive,
            Self::Crowd(crowd) => crowd.holders.mode(),
        }
    }

    /// The lock in the form in which it can be joined and waited for.
    fn crowd(&mut self) -> &mut Crowd {
        if let Self::Alone(holder, hold) = self {
            *self = Self::Crowd(Box::new(Crowd {
                holders: Holders::Exclusive(*holder, *hold),
                queue: Queue::default(),
            }));
        }
        match self {
            Self::Crowd(crowd) => crowd,
            Self::Alone(..) => unreachable!("it was made a crowd"),
        }
    }

    /// Back to the small form if one holds it alone and nobody waits any more.
    fn disperse(&mut self) {
        if let Self::Crowd(crowd) = self
            && let Holders::Exclusive(holder, hold) = crowd.holders
            && crowd.queue.waiting() == 0
        {
            *self = Self::Alone(holder, hold);
        }
    }
}

impl Crowd {
    fn release(
        &mut self,
        session: SessionNumber,
        mut grant: impl FnMut(&Waiter) -> Hold,
    ) -> Released {
        if let Holders::Shared(shared) = &mut self.holders {
            shared.holds.remove(&session);
            if !shared.holds.is_empty() {
                return Released::Held(Vec::new());
            }
        }
        let mut holders = None;
        let granted = self.queue.grant_next(|waiter| {
            let hold = grant(waiter);
            match &mut holders {
                None => {
                    let mode = waiter.mode().clone();
                    holders = Some(Holders::first(waiter.session(), mode, hold));
                }
                Some(holders) => holders.join(waiter.session(), hold),
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
            debug_assert!(!shared.holds.is_empty(), "invariant 1: held by someone");
        }
        let holds = |waiter: &Waiter| self.holders.contains(waiter.session());
        debug_assert!(
            !self.queue.last().is_some_and(holds),
            "invariant 2: holders do not wait"
        );
    }
}

impl Holders {
    fn first(session: SessionNumber, mode: Mode, hold: Hold) -> Self {
        match mode {
            Mode::Exclusive => Self::Exclusive(session, hold),
            Mode::Shared(value) => Self::Shared(SharedHolders {
                value,
                holds: BTreeMap::from([(session, hold)]),
            }),
        }
    }

    fn join(&mut self, session: SessionNumber, hold: Hold) {
        match self {
            Self::Shared(shared) => {
                shared.holds.insert(session, hold);
            }
            Self::Exclusive(..) => debug_assert!(false, "an exclusive lock cannot be joined"),
        }
    }

    fn admission(&self, session: SessionNumber, mode: &Mode) -> Admission {
        match (self, mode) {
            (Self::Exclusive(holder, _), Mode::Exclusive) if *holder == session => Admission::Mine,
            (Self::Shared(shared), Mode::Shared(value)) if shared.value == *value => {
                match shared.holds.contains_key(&session) {
                    true => Admission::Mine,
                    false => Admission::Joinable,
                }
            }
            (holders, _) if holders.contains(session) => Admission::Conflict,
            _ => Admission::Busy,
        }
    }

    fn hold_mut(&mut self, session: SessionNumber) -> Option<&mut Hold> {
        match self {
            Self::Exclusive(holder, hold) => (*holder == session).then_some(hold),
            Self::Shared(shared) => shared.holds.get_mut(&session),
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
            Self::Shared(shared) => shared.holds.contains_key(&session),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Exclusive(..) => 1,
            Self::Shared(shared) => shared.holds.len(),
        }
    }

    /// In the order of their numbers, with the token of each.
    fn iter(&self) -> impl Iterator<Item = (SessionNumber, Token)> {
        let (one, many) = match self {
            Self::Exclusive(holder, hold) => (Some((*holder, hold.token())), None),
            Self::Shared(shared) => (None, Some(&shared.holds)),
        };
        let many = many.into_iter().flatten();
        one.into_iter()
            .chain(many.map(|(holder, hold)| (*holder, hold.token())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Key;
    use std::time::Instant;

    fn session(number: u64) -> SessionNumber {
        SessionNumber(number)
    }

    fn hold(token: u64) -> Hold {
        Hold::new(Token(token), false)
    }

    /// A token by which a test sees whose it is.
    fn next_hold(next: &Waiter) -> Hold {
        hold(next.session().0 * 100)
    }

    fn shared(value: &str) -> Mode {
        Mode::Shared(Value::new(value.as_bytes()))
    }

    fn wait(lock: &mut Lock, number: u64, mode: Mode) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter::new(
            session(number),
            None,
            Key::new(b"k"),
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
        let mut lock = Lock::new(session(1), Mode::Exclusive, hold(1));
        let waiter = wait(&mut lock, 2, Mode::Exclusive);
        assert!(matches!(lock, Lock::Crowd(_)));
        assert!(lock.leave(&waiter));
        assert!(matches!(lock, Lock::Alone(..)));
        wait(&mut lock, 2, Mode::Exclusive);
        assert_eq!(handed_to(lock.release(session(1), next_hold)), [2]);
        assert!(matches!(lock, Lock::Alone(..)));
    }

    #[test]
    fn admission_follows_mode_value_and_ownership() {
        let exclusive = Lock::new(session(1), Mode::Exclusive, hold(1));
        assert_eq!(
            exclusive.admission(session(1), &Mode::Exclusive),
            Admission::Mine
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
        let valued = Lock::new(session(1), shared("v"), hold(1));
        assert_eq!(valued.admission(session(1), &shared("v")), Admission::Mine);
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
        let mut lock = Lock::new(session(1), Mode::Exclusive, hold(1));
        let second = wait(&mut lock, 2, Mode::Exclusive);
        let third = wait(&mut lock, 3, Mode::Exclusive);
        assert_eq!(handed_to(lock.release(session(1), next_hold)), [2]);
        assert!(second.is_granted() && !third.is_granted());
        assert!(!lock.leave(&second), "granted, so it cannot leave");
        assert!(lock.leave(&third));
        assert!(matches!(
            lock.release(session(2), next_hold),
            Released::Free
        ));
    }

    #[test]
    fn the_first_waiters_value_lets_in_all_who_named_it() {
        let mut lock = Lock::new(session(1), shared("a"), hold(1));
        lock.join(session(2), hold(2));
        for (number, mode) in [
            (3, shared("b")),
            (4, Mode::Exclusive),
            (5, shared("c")),
            (6, shared("b")),
        ] {
            wait(&mut lock, number, mode);
        }
        assert_eq!(handed_to(lock.release(session(1), next_hold)), [0; 0]);
        assert_eq!(handed_to(lock.release(session(2), next_hold)), [3, 6]);
        assert_eq!(lock.mode(), shared("b"));
        assert!(
            lock.holders()
                .map(|(holder, _)| holder)
                .eq([session(3), session(6)])
        );
        assert_eq!(handed_to(lock.release(session(6), next_hold)), [0; 0]);
        assert_eq!(handed_to(lock.release(session(3), next_hold)), [4]);
        assert_eq!(handed_to(lock.release(session(4), next_hold)), [5]);
        assert!(matches!(
            lock.release(session(5), next_hold),
            Released::Free
        ));
    }

    #[test]
    fn waiters_that_left_are_skipped() {
        let mut lock = Lock::new(session(1), Mode::Exclusive, hold(1));
        let waiters: Vec<_> = (2..100)
            .map(|number| wait(&mut lock, number, Mode::Exclusive))
            .collect();
        for waiter in &waiters[..96] {
            assert!(lock.leave(waiter));
        }
        assert_eq!(lock.waiters(), 2);
        assert_eq!(handed_to(lock.release(session(1), next_hold)), [98]);
        assert_eq!(handed_to(lock.release(session(98), next_hold)), [99]);
    }
}
