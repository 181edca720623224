//! What the audit is told: who was granted which lock, and how each grant ended, in this order for each
//! key.
//!
//! It is told under the key's guard, as the store is: at the one place where a grant is made, and the one
//! where it ends, so that nothing is forgotten. What is told is put into a queue and no more; another
//! thread makes lines of it. Whoever is told of a session by number finds what that was known by in what
//! was told before.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::grant::Grant;
use super::registry::Identity;
use crate::model::{Holder, Key, Mode, Peer, SessionNumber};

/// How many bytes wait to be taken out before events are dropped; the last one may exceed it.
const LIMIT: usize = 8 << 20;

/// How long the reader lets events come together when it was woken: so that those who bring them wake it
/// no more often than this, however they come.
const GATHERED: Duration = Duration::from_millis(2);

/// One event.
#[derive(Debug)]
pub enum Event {
    /// What people know a session by, from now on.
    Known(SessionNumber, Identity),
    /// A lock was granted.
    Granted {
        /// The grant.
        grant: Grant,
        /// The session that asked for it.
        taker: SessionNumber,
        /// How the key is held.
        mode: Mode,
    },
    /// A grant is over.
    Ended {
        /// The grant.
        grant: Grant,
        /// For how long it was held, if that is known.
        held: Option<Duration>,
        /// Why, and by whose doing.
        end: End,
    },
    /// A session is over; its grants end after this.
    SessionOver(SessionNumber, Why),
    /// A request was refused, as it would have closed a circle.
    Deadlock {
        /// The session that asked.
        session: SessionNumber,
        /// The circle, as it was told.
        circle: String,
    },
    /// Nobody was let in by a name and a password.
    AuthFailed {
        /// From where it was tried.
        peer: Peer,
        /// As whom.
        user: Option<Key>,
        /// What was wrong.
        why: &'static str,
    },
    /// Somebody asked for what only operators may do, and may not.
    NotAllowed {
        /// By which session, if not over HTTP.
        session: Option<SessionNumber>,
        /// From where.
        peer: Peer,
        /// As whom.
        user: Option<Key>,
        /// What was asked for.
        request: String,
    },
    /// An operator ends a session.
    Kicked {
        /// The session.
        session: SessionNumber,
        /// The session of the operator.
        by: SessionNumber,
    },
}

/// The end of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub why: Why,
    /// The session that did it, if that is not the holder.
    pub by: Option<SessionNumber>,
}

impl End {
    pub(super) fn by_itself(why: Why) -> Self {
        Self { why, by: None }
    }

    pub(super) fn by(session: SessionNumber, why: Why) -> Self {
        let by = Some(session);
        Self { why, by }
    }
}

/// Why a grant, or a session with its grants, is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was released.
    Unlocked,
    /// Its lease ended.
    LeaseEnded,
    /// The grace period ended.
    GraceEnded,
    /// The connection ended, and the session has no grace period, or nothing to keep.
    Disconnected,
    /// The connection ended, and there was no room for a grace period.
    NoRoom,
    /// An operator ended the session.
    Kicked,
    /// An owner's lock was broken.
    Broken,
    /// An operator took it.
    Revoked,
    /// Its client was never told of it.
    NotTold,
    /// It could not be stored, so that its client was not told of it.
    NotStored,
    /// The task of its connection failed.
    Failed,
}

/// Where events go. A clone goes to the same place.
#[derive(Debug, Clone, Default)]
pub struct Trail(Option<Arc<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    bytes: usize,
    /// How many events were dropped since the start.
    dropped: u64,
    is_closed: bool,
}

impl Trail {
    /// One that is followed; the default is told nothing.
    pub fn followed() -> Self {
        Self(Some(Arc::default()))
    }

    /// Whether events go anywhere.
    pub fn is_followed(&self) -> bool {
        self.0.is_some()
    }

    /// Tells of an event, for which there may be no room. Waits for nobody. It may be called under a
    /// guard, and takes no other.
    #[inline]
    pub fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(queue) = &self.0 {
            queue.push(event());
        }
    }

    /// Waits for events and takes them all out, with the number of those that were dropped so far;
    /// `None` when there are none and none will come.
    pub fn follow(&self) -> Option<(Vec<Event>, u64)> {
        self.0.as_ref()?.take()
    }

    /// How many events were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |queue| queue.state().dropped)
    }

    /// No more events come: who follows is told so, after the last ones.
    pub fn close(&self) {
        if let Some(queue) = &self.0 {
            queue.state().is_closed = true;
            queue.filled.notify_all();
        }
    }
}

impl Queue {
    #[inline(never)]
    fn push(&self, event: Event) {
        let bytes = event.bytes();
        let mut state = self.state();
        if state.bytes >= LIMIT || state.is_closed {
            state.dropped += 1;
            return;
        }
        let was_empty = state.events.is_empty();
        state.bytes += bytes;
        state.events.push(event);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn take(&self) -> Option<(Vec<Event>, u64)> {
        let is_idle = |state: &mut State| state.events.is_empty() && !state.is_closed;
        let woken = self.filled.wait_while(self.state(), is_idle);
        drop(woken.unwrap_or_else(PoisonError::into_inner));
        let gathered = self
            .filled
            .wait_timeout_while(self.state(), GATHERED, |state| !state.is_closed);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        state.bytes = 0;
        let events = std::mem::take(&mut state.events);
        (!events.is_empty()).then_some((events, state.dropped))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Poisoning is ignored: nothing is half done where a thread could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    /// About what it keeps in memory: a key may be as long as a line.
    fn bytes(&self) -> usize {
        let len = |text: Option<&Key>| text.map_or(0, |text| text.as_bytes().len());
        let of_grant = |grant: &Grant| {
            let owner = match &grant.holder {
                Holder::Session(_) => None,
                Holder::Owner(owner) => Some(owner),
            };
            grant.key.as_bytes().len() + len(owner)
        };
        let more = match self {
            Self::Known(_, Identity { name, user, .. }) => len(name.as_ref()) + len(user.as_ref()),
            Self::Granted { grant, mode, .. } => of_grant(grant) + len(mode.value()),
            Self::Ended { grant, .. } => of_grant(grant),
            Self::Deadlock { circle, .. } => circle.len(),
            Self::AuthFailed { user, .. } => len(user.as_ref()),
            Self::NotAllowed { user, request, .. } => len(user.as_ref()) + request.len(),
            Self::SessionOver(..) | Self::Kicked { .. } => 0,
        };
        size_of::<Self>() + more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(number: u64) -> Event {
        Event::SessionOver(SessionNumber(number), Why::Disconnected)
    }

    #[test]
    fn what_has_no_room_is_counted_and_the_rest_comes_in_its_order() {
        let trail = Trail::followed();
        let most = LIMIT.div_ceil(size_of::<Event>());
        (0..most as u64 + 10).for_each(|number| trail.tell(|| over(number)));
        let (events, dropped) = trail.follow().expect("there are some");
        assert_eq!((events.len(), dropped), (most, 10));
        let is_in_order = |(at, event): (usize, &Event)| matches!(event, Event::SessionOver(number, _) if number.0 == at as u64);
        assert!(events.iter().enumerate().all(is_in_order));
        trail.tell(|| over(7));
        trail.close();
        let (events, dropped) = trail.follow().expect("the last one");
        assert_eq!((events.len(), dropped), (1, 10));
        assert!(trail.follow().is_none());
    }

    #[test]
    fn nothing_is_made_for_a_trail_that_nobody_follows() {
        Trail::default().tell(|| panic!("nobody asked"));
        assert!(Trail::default().follow().is_none());
    }
}
