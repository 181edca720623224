//! What happened lately that operators ask for afterwards: deadlocks, and locks that somebody lost.

#[cfg(feature = "admin")]
use std::collections::VecDeque;
#[cfg(feature = "admin")]
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Shared;
#[cfg(feature = "admin")]
use crate::model::shortened;
use crate::model::{Key, Owner, SessionNumber, Token};

/// How many events of one kind are kept. Each kind has its own room, so that a crowd of one does not push
/// out the others.
#[cfg(feature = "admin")]
const KEPT: usize = 200;

/// How many bytes of an event's text are kept.
#[cfg(feature = "admin")]
const LONGEST_TEXT: usize = 512;

/// How many bytes of an event's key are kept, of its owner, and of a circle's keys in all.
#[cfg(feature = "admin")]
const LONGEST_KEYS: usize = 4096;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A request was refused, since its wait would never have ended.
    Deadlock,
    /// A lease ended, and its lock with it.
    LeaseEnd,
    /// A session ended that held locks, and not because its client wanted it to.
    SessionEnd,
    /// An owner's lock was broken.
    Break,
    /// An operator ended a session.
    Kick,
    /// An operator took a lock from one of its holders.
    Revocation,
}

/// An event, as far as there is something to say of it.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(feature = "admin"),
    expect(dead_code, reason = "only operators read it")
)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// Whose request or lock it was.
    pub(crate) session: Option<SessionNumber>,
    /// What that session is called.
    pub(crate) name: Option<Key>,
    /// Its beginning, if it is very long; likewise the key.
    pub(crate) owner: Option<Owner>,
    pub(crate) key: Option<Key>,
    /// Of a deadlock, all keys of its circle; none, if its text leaves out some, or if they are very long.
    pub(crate) keys: Vec<Key>,
    pub(crate) token: Option<Token>,
    /// For how long the lock was held.
    pub(crate) held: Option<Duration>,
    /// The rest, for people.
    pub(crate) text: String,
}

impl Event {
    /// An event of which nothing is known yet but its kind.
    pub(super) fn of(kind: EventKind) -> Self {
        Self {
            kind,
            session: None,
            name: None,
            owner: None,
            key: None,
            keys: Vec::new(),
            token: None,
            held: None,
            text: String::new(),
        }
    }
}

impl Shared {
    /// Keeps an event, if anybody can ask for it. A caller lets a crowd of one kind through by its
    /// [throttle](super::throttle) only, as it does with lines of the log. Not under a guard.
    pub(super) fn note(&self, event: impl FnOnce() -> Event) {
        #[cfg(feature = "admin")]
        if !self.config.admin.is_empty() {
            self.events.note(super::shown::unix_now(), event());
        }
        #[cfg(not(feature = "admin"))]
        drop(event);
    }
}

/// An event and when it happened.
#[cfg(feature = "admin")]
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    /// Counts all events of this run of the server.
    pub(crate) number: u64,
    /// Since the beginning of 1970.
    pub(crate) at: Duration,
    pub(crate) event: Event,
}

/// The last events of each kind.
#[cfg(feature = "admin")]
#[derive(Debug, Default)]
pub(super) struct Events(Mutex<Kept>);

#[cfg(feature = "admin")]
#[derive(Debug, Default)]
struct Kept {
    last: u64,
    of_kinds: [VecDeque<Noted>; EventKind::ALL.len()],
}

#[cfg(feature = "admin")]
impl EventKind {
    /// In the order of their values.
    const ALL: [Self; 6] = [
        Self::Deadlock,
        Self::LeaseEnd,
        Self::SessionEnd,
        Self::Break,
        Self::Kick,
        Self::Revocation,
    ];

    /// What programs call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deadlock => "deadlock",
            Self::LeaseEnd => "lease_end",
            Self::SessionEnd => "session_end",
            Self::Break => "break",
            Self::Kick => "kick",
            Self::Revocation => "revocation",
        }
    }
}

#[cfg(feature = "admin")]
impl Events {
    fn note(&self, at: Duration, mut event: Event) {
        if event.text.len() > LONGEST_TEXT {
            let mut ends = (0..=LONGEST_TEXT).rev();
            let end = ends.find(|end| event.text.is_char_boundary(*end));
            event.text.truncate(end.unwrap_or_default());
            event.text.push_str("...");
        }
        for word in [&mut event.key, &mut event.owner].into_iter().flatten() {
            *word = Key::new(shortened(word.as_bytes(), LONGEST_KEYS).0);
        }
        let lengths = event.keys.iter().map(|key| key.as_bytes().len());
        if lengths.sum::<usize>() > LONGEST_KEYS {
            event.keys.clear();
        }
        let mut kept = self.kept();
        kept.last += 1;
        let number = kept.last;
        let same_kind = &mut kept.of_kinds[event.kind as usize];
        if same_kind.len() == KEPT {
            same_kind.pop_front();
        }
        same_kind.push_back(Noted { number, at, event });
    }

    /// The kept events with numbers above `after`, in their order, and the number of the last one that
    /// there was.
    pub(super) fn after(&self, after: u64) -> (Vec<Noted>, u64) {
        let kept = self.kept();
        let all = kept.of_kinds.iter().flatten();
        let mut later: Vec<_> = all.filter(|noted| noted.number > after).cloned().collect();
        let last = kept.last;
        drop(kept);
        later.sort_unstable_by_key(|noted| noted.number);
        (later, last)
    }

    /// Nothing is half done where a holder could panic.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, feature = "admin"))]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_one_kind_leaves_the_others_their_room() {
        let events = Events::default();
        let note = |kind| events.note(Duration::ZERO, Event::of(kind));
        EventKind::ALL.into_iter().for_each(note);
        for _ in 0..3 * KEPT {
            note(EventKind::LeaseEnd);
        }
        let (all, last) = events.after(0);
        assert_eq!(last, (3 * KEPT + EventKind::ALL.len()) as u64);
        assert_eq!(all.len(), KEPT + EventKind::ALL.len() - 1);
        assert!(all.is_sorted_by_key(|noted| noted.number));
        let (later, _) = events.after(last - 5);
        assert_eq!(later.len(), 5);
        assert!(events.after(last).0.is_empty());
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let events = Events::default();
        let text = "é".repeat(LONGEST_TEXT);
        let long = Event {
            text,
            ..Event::of(EventKind::Deadlock)
        };
        events.note(Duration::ZERO, long);
        let kept = events.after(0).0[0].event.text.len();
        assert_eq!(kept, LONGEST_TEXT + "...".len());
    }

    /// A line of a client may be a megabyte, and hundreds of events are kept.
    #[test]
    fn long_keys_are_not_kept() {
        let events = Events::default();
        let of_length = |bytes| Key::new(&vec![b'k'; bytes]);
        for (bytes, keys) in [
            (LONGEST_KEYS / 2, 2),
            (LONGEST_KEYS / 2 + 1, 0),
            (1 << 20, 0),
        ] {
            let long = Event {
                owner: Some(of_length(bytes)),
                key: Some(of_length(bytes)),
                keys: vec![of_length(bytes); 2],
                ..Event::of(EventKind::Deadlock)
            };
            events.note(Duration::ZERO, long);
            let kept = events.after(0).0.pop().expect("it is noted").event;
            assert_eq!(kept.keys.len(), keys, "{bytes}");
            for word in [kept.key, kept.owner] {
                assert_eq!(word, Some(of_length(bytes.min(LONGEST_KEYS))));
            }
        }
    }
}
