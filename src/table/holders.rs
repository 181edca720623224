//! Who holds a key, and who may join.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Bound;

use super::grant::GrantWord;
use crate::model::{Ask, AskedFor, Holder, Mode, Owner, SessionNumber, Token, Value};

/// A holder by reference: nothing is counted or freed for it, as most holders are looked up and not
/// kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HolderRef<'a> {
    Session(SessionNumber),
    Owner(&'a Owner),
}

impl HolderRef<'_> {
    pub(super) fn to_holder(self) -> Holder {
        match self {
            Self::Session(session) => Holder::Session(session),
            Self::Owner(owner) => Holder::Owner(owner.clone()),
        }
    }
}

impl<'a> From<&'a Holder> for HolderRef<'a> {
    fn from(holder: &'a Holder) -> Self {
        match holder {
            Holder::Session(session) => Self::Session(*session),
            Holder::Owner(owner) => Self::Owner(owner),
        }
    }
}

/// Who will hold the lock that `session` asks for.
pub(super) fn holder_of(ask: &Ask, session: SessionNumber) -> HolderRef<'_> {
    match &ask.holder {
        AskedFor::Session | AskedFor::SessionWithOthers { .. } => HolderRef::Session(session),
        AskedFor::Owner(owner, _) => HolderRef::Owner(owner),
    }
}

/// The holders of one key.
#[derive(Debug)]
pub(super) enum Holders {
    /// Nobody, any more: only while a lock passes on, or ends.
    Nobody,
    /// One, alone.
    Exclusive(Holder, Hold),
    /// All who named this value.
    Shared(Value, Holds),
    /// All who are in a slot, and the number of slots that the last of them asked for.
    Slots(NonZeroU32, Holds),
}

/// Holders by name: sessions in the order of their numbers, then owners.
type Holds = BTreeMap<Holder, Hold>;

/// How one of them holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) word: GrantWord,
    /// The session that asked for the lock: the holder itself, or the one that took an owner's lock,
    /// which stands for the owner in the wait-for graph. Number 0 is no session.
    pub(super) taker: SessionNumber,
    /// Whether another connection than the taker's may have been told that an owner has the lock: then
    /// it stays, also if the taker is never told.
    pub(super) is_known: bool,
}

impl Hold {
    /// A new hold.
    pub(super) fn new(word: GrantWord, taker: SessionNumber) -> Self {
        let is_known = false;
        Self {
            word,
            taker,
            is_known,
        }
    }
}

/// How a request is decided by who holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The session holds the lock already, in this very mode, by the grant with this token.
    Mine(Token),
    /// The request may join the holders.
    Joinable,
    /// The session holds the lock in another mode or with another value, and would wait for itself.
    Conflict,
    /// It would have to wait.
    Busy,
}

/// What keeps a request from joining the holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// All holders: each excludes it.
    All,
    /// Any holder: no slot is free.
    Any,
    /// The hold of its own owner word alone: an owner holds a key once.
    OwnOwner,
}

impl Holders {
    /// Whether nothing keeps this request from joining.
    pub(super) fn admit(&self, holder: &Holder, mode: &Mode) -> bool {
        self.obstacle(holder, mode).is_none()
    }

    /// What keeps a request from joining; `None`: nothing. Of holders who asked for different
    /// numbers of slots, it may take more than any one.
    pub(super) fn obstacle(&self, holder: &Holder, mode: &Mode) -> Option<Obstacle> {
        let (holds, is_full) = match (self, mode) {
            (Self::Nobody, _) => return None,
            (Self::Shared(value, holds), Mode::Shared(asked)) if value == asked => (holds, false),
            (Self::Slots(_, holds), Mode::Slot(slots)) => {
                (holds, holds.len() >= slots.get() as usize)
            }
            _ => return Some(Obstacle::All),
        };
        if holds.contains_key(holder) {
            return Some(Obstacle::OwnOwner);
        }
        is_full.then_some(Obstacle::Any)
    }

    /// How a request of `session` is decided, if nobody waits.
    pub(super) fn admission(&self, session: SessionNumber, ask: &Ask) -> Admission {
        if matches!(self, Self::Nobody) {
            // A step that ended in a panic left it so. Until a restart the key stays refused.
            return Admission::Busy;
        }
        let holder = holder_of(ask, session).to_holder();
        if !ask.is_owned()
            && let Some(own) = self.get(&holder)
        {
            let is_same = match (self, &ask.mode) {
                (Self::Exclusive(..), Mode::Exclusive) | (Self::Slots(..), Mode::Slot(_)) => true,
                (Self::Shared(value, _), Mode::Shared(asked)) => value == asked,
                _ => false,
            };
            return match is_same {
                true => Admission::Mine(own.word.token()),
                false => Admission::Conflict,
            };
        }
        match self.admit(&holder, &ask.mode) {
            true => Admission::Joinable,
            false => Admission::Busy,
        }
    }

    /// Adds a holder that is [admitted](Holders::admit).
    pub(super) fn add(&mut self, holder: Holder, mode: &Mode, hold: Hold) {
        // Nothing has changed yet: who holds the key keeps it.
        assert!(
            self.admit(&holder, mode),
            "invariant 1: holders exclude nobody who joins them"
        );
        match (&mut *self, mode) {
            (Self::Shared(_, holds), _) => drop(holds.insert(holder, hold)),
            (Self::Slots(last, holds), Mode::Slot(slots)) => {
                *last = *slots;
                holds.insert(holder, hold);
            }
            _ => *self = Self::first(holder, mode, hold),
        }
    }

    /// Adds a holder that a store has kept, in a slot also if there were too few for those before it.
    /// Returns false if a holder excludes it.
    #[cfg(feature = "store")]
    pub(super) fn restore(&mut self, holder: Holder, mode: &Mode, hold: Hold) -> bool {
        match (self.obstacle(&holder, mode), &mut *self, mode) {
            (None, ..) => self.add(holder, mode, hold),
            (Some(Obstacle::Any), Self::Slots(last, holds), Mode::Slot(slots)) => {
                *last = *slots;
                holds.insert(holder, hold);
            }
            _ => return false,
        }
        true
    }

    /// The one holder of a key.
    pub(super) fn first(holder: Holder, mode: &Mode, hold: Hold) -> Self {
        match mode {
            Mode::Exclusive => Self::Exclusive(holder, hold),
            Mode::Shared(value) => Self::Shared(value.clone(), Holds::from([(holder, hold)])),
            Mode::Slot(slots) => Self::Slots(*slots, Holds::from([(holder, hold)])),
        }
    }

    pub(super) fn remove(&mut self, holder: &Holder) {
        let is_last = match self {
            Self::Nobody => true,
            Self::Exclusive(last, _) => last == holder,
            Self::Shared(_, holds) | Self::Slots(_, holds) => {
                holds.remove(holder);
                holds.is_empty()
            }
        };
        if is_last {
            *self = Self::Nobody;
        }
    }

    /// Changes the mode of a key with one holder.
    pub(super) fn set_mode(&mut self, mode: &Mode) {
        let mut holders = self.iter();
        let (first, second) = (holders.next(), holders.next());
        let (holder, hold) = match (first, second) {
            (Some((holder, hold)), None) => (holder.clone(), *hold),
            // Nothing has changed yet.
            _ => unreachable!("invariant 1: a mode is that of all holders"),
        };
        drop(holders);
        *self = Self::first(holder, mode, hold);
    }

    pub(super) fn get(&self, holder: &Holder) -> Option<&Hold> {
        match self {
            Self::Nobody => None,
            Self::Exclusive(one, hold) => (one == holder).then_some(hold),
            Self::Shared(_, holds) | Self::Slots(_, holds) => holds.get(holder),
        }
    }

    pub(super) fn get_mut(&mut self, holder: &Holder) -> Option<&mut Hold> {
        match self {
            Self::Nobody => None,
            Self::Exclusive(one, hold) => (one == holder).then_some(hold),
            Self::Shared(_, holds) | Self::Slots(_, holds) => holds.get_mut(holder),
        }
    }

    pub(super) fn mode(&self) -> Mode {
        match self {
            Self::Nobody | Self::Exclusive(..) => Mode::Exclusive,
            Self::Shared(value, _) => Mode::Shared(value.clone()),
            Self::Slots(slots, _) => Mode::Slot(*slots),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Nobody => 0,
            Self::Exclusive(..) => 1,
            Self::Shared(_, holds) | Self::Slots(_, holds) => holds.len(),
        }
    }

    /// The holders, sessions in the order of their numbers and then owners.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Holder, &Hold)> {
        self.after(None)
    }

    /// Those of the holders that come after this one in their order.
    pub(super) fn after(
        &self,
        last: Option<&Holder>,
    ) -> impl DoubleEndedIterator<Item = (&Holder, &Hold)> {
        let is_after = |(holder, _): &(&Holder, &Hold)| last.is_none_or(|last| *holder > last);
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let (one, many) = match self {
            Self::Nobody => (None, None),
            Self::Exclusive(holder, hold) => (Some((holder, hold)).filter(is_after), None),
            Self::Shared(_, holds) | Self::Slots(_, holds) => {
                (None, Some(holds.range((from, Bound::Unbounded))))
            }
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The owners among the holders.
    pub(super) fn owners(&self) -> impl Iterator<Item = (&Holder, &Hold)> {
        let is_owner = |one: &(&Holder, &Hold)| matches!(one.0, Holder::Owner(_));
        self.iter().rev().take_while(is_owner)
    }
}
