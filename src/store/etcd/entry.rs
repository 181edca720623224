//! An entry of the log in etcd: the changes of one commit, and before them what is still true of the
//! entries that were cut off.
//!
//! Invariants:
//!
//! 1. Of several records of one grant or one session, in one entry or several, the last is true.
//! 2. A record that a grant or session is over needs to be kept only as long as the record of its
//!    beginning is: the log is cut from its oldest end alone, so that one is never the older of the two.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::config::TEN_YEARS_MS;
use crate::model::{
    Holder, Key, Mode, Restored, RestoredSession, SessionNumber, StoredGrant, StoredSession, Token,
    digest,
};
use crate::store::Batch;

/// The newest format of an entry. A node that finds a newer one does not lead; so what this one does not know, as
/// another kind of lock, needs a new number.
pub(super) const FORMAT: u32 = 1;

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Entry {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    /// The number of the oldest entry of the log from here on: those before it are cut off with this one.
    #[prost(uint64, tag = "2")]
    pub(super) first: u64,
    /// No grant has ever had a token above this, up to here.
    #[prost(uint64, tag = "3")]
    pub(super) tokens_above: u64,
    /// The same of sessions' numbers.
    #[prost(uint64, tag = "4")]
    pub(super) session_numbers_above: u64,
    #[prost(message, repeated, tag = "5")]
    pub(super) records: Vec<Record>,
    /// For how long its writer, or one before it whose words may still be on their way, may believe that it
    /// leads, by the time of its lease; 0 of an import.
    #[prost(uint64, tag = "6")]
    pub(super) lead_ttl_ms: u64,
}

/// What has become of one grant or one session.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Record {
    #[prost(oneof = "State", tags = "1, 2, 3, 4")]
    pub(super) state: Option<State>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub(super) enum State {
    #[prost(message, tag = "1")]
    Granted(GrantRecord),
    #[prost(uint64, tag = "2")]
    Released(u64),
    #[prost(message, tag = "3")]
    Session(SessionRecord),
    #[prost(uint64, tag = "4")]
    SessionOver(u64),
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct GrantRecord {
    #[prost(uint64, tag = "1")]
    token: u64,
    /// The session that holds the key, if no owner does.
    #[prost(uint64, tag = "2")]
    session: u64,
    #[prost(bytes = "bytes", optional, tag = "3")]
    owner: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "4")]
    key: Bytes,
    /// The value, if the key is shared.
    #[prost(bytes = "bytes", optional, tag = "5")]
    value: Option<Bytes>,
    /// How many slots the key has, if it is in one of them.
    #[prost(uint32, optional, tag = "6")]
    slots: Option<u32>,
    #[prost(uint64, optional, tag = "7")]
    lease_ms: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SessionRecord {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint64, tag = "2")]
    grace_ms: u64,
    /// The SHA-256 of its secret, if it has one.
    #[prost(bytes = "bytes", optional, tag = "3")]
    digest: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    user: Option<Bytes>,
}

/// What a record speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    Grant(u64),
    Session(u64),
}

/// Why an entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it has format {0}, and this elockd knows those up to {FORMAT}")]
    Newer(u32),
    #[error("it is damaged: {0}")]
    Damaged(String),
}

impl Entry {
    /// Reads an entry, and makes sure that all of it can be understood.
    pub(super) fn read(bytes: Bytes) -> Result<Self, Unreadable> {
        let entry = Self::decode(bytes).map_err(|error| Unreadable::Damaged(error.to_string()))?;
        match entry.format {
            0 => Err(Unreadable::Damaged("it has no format".to_owned())),
            1..=FORMAT => Ok(entry),
            newer => Err(Unreadable::Newer(newer)),
        }
    }

    /// An entry without records, with these marks.
    pub(super) fn above(tokens_above: u64, session_numbers_above: u64) -> Self {
        Self {
            format: FORMAT,
            first: 1,
            tokens_above,
            session_numbers_above,
            ..Self::default()
        }
    }

    /// Raises the marks to what the records have.
    pub(super) fn raise_marks(&mut self) {
        for record in &self.records {
            match record.subject() {
                Some((Subject::Grant(token), _)) => {
                    self.tokens_above = self.tokens_above.max(token)
                }
                Some((Subject::Session(number), _)) => {
                    self.session_numbers_above = self.session_numbers_above.max(number);
                }
                None => {}
            }
        }
    }
}

impl Record {
    /// The records of a batch: sessions before the grants that rest on them, what is released before what that
    /// may have made room for, and sessions that are over behind all. So what is there of a batch of several
    /// entries, if their writer ends in between, contradicts nothing.
    pub(super) fn all_of(batch: &Batch) -> Vec<Self> {
        let living = |(number, session): (&SessionNumber, &Option<StoredSession>)| {
            session
                .as_ref()
                .map(|session| State::Session(SessionRecord::new(*number, session)))
        };
        let over = |(number, session): (&SessionNumber, &Option<StoredSession>)| {
            session.is_none().then_some(State::SessionOver(number.0))
        };
        let grants = batch.grants.iter();
        let released = |(token, grant): (&Token, &Option<StoredGrant>)| {
            grant.is_none().then_some(State::Released(token.0))
        };
        let granted = |(token, grant): (&Token, &Option<StoredGrant>)| {
            let grant = GrantRecord::new(*token, grant.as_ref()?);
            Some(State::Granted(grant))
        };
        let sessions = batch.sessions.iter();
        let states = sessions
            .clone()
            .filter_map(living)
            .chain(grants.clone().filter_map(released))
            .chain(grants.filter_map(granted))
            .chain(sessions.filter_map(over));
        states.map(|state| Self { state: Some(state) }).collect()
    }

    /// The records of a state, in the same order.
    pub(super) fn all_in(state: &Restored) -> Vec<Self> {
        let sessions = state.sessions.iter().map(SessionRecord::of);
        let grants = state.grants.iter();
        let grants = grants.map(|(token, grant)| GrantRecord::new(*token, grant));
        let states = sessions
            .map(State::Session)
            .chain(grants.map(State::Granted));
        states.map(|state| Self { state: Some(state) }).collect()
    }

    /// What the record speaks of, and whether that lives; `None` if it is of no kind that is known.
    pub(super) fn subject(&self) -> Option<(Subject, bool)> {
        Some(match self.state.as_ref()? {
            State::Granted(grant) => (Subject::Grant(grant.token), true),
            State::Released(token) => (Subject::Grant(*token), false),
            State::Session(session) => (Subject::Session(session.number), true),
            State::SessionOver(number) => (Subject::Session(*number), false),
        })
    }

    /// How many bytes the record takes in an entry.
    pub(super) fn len_in_entry(&self) -> usize {
        prost::encoding::message::encoded_len(5, self)
    }
}

impl GrantRecord {
    fn new(token: Token, grant: &StoredGrant) -> Self {
        let (session, owner) = match &grant.holder {
            Holder::Session(session) => (session.0, None),
            Holder::Owner(owner) => (0, Some(copied(owner))),
        };
        let slots = match &grant.mode {
            Mode::Slot(slots) => Some(slots.get()),
            Mode::Exclusive | Mode::Shared(_) => None,
        };
        Self {
            token: token.0,
            session,
            owner,
            key: copied(&grant.key),
            value: grant.mode.value().map(copied),
            slots,
            lease_ms: grant.lease.map(millis),
        }
    }

    fn stored(&self) -> Result<StoredGrant, Unreadable> {
        let mode = match (&self.value, self.slots.map(NonZeroU32::new)) {
            (Some(value), None) => Mode::Shared(Key::new(value)),
            (None, Some(Some(slots))) => Mode::Slot(slots),
            (None, None) => Mode::Exclusive,
            _ => return Err(damaged("a lock is held in no known mode")),
        };
        Ok(StoredGrant {
            holder: match &self.owner {
                Some(owner) => Holder::Owner(Key::new(owner)),
                None => Holder::Session(SessionNumber(self.session)),
            },
            key: Key::new(&self.key),
            mode,
            lease: self.lease_ms.map(time).transpose()?,
        })
    }
}

impl SessionRecord {
    fn new(number: SessionNumber, session: &StoredSession) -> Self {
        Self::of(&RestoredSession {
            number,
            grace: session.grace,
            secret: session.secret.map(digest),
            user: session.user.clone(),
        })
    }

    fn of(session: &RestoredSession) -> Self {
        let digest = session.secret.as_ref();
        Self {
            number: session.number.0,
            grace_ms: millis(session.grace),
            digest: digest.map(|digest| Bytes::copy_from_slice(digest)),
            user: session.user.as_ref().map(copied),
        }
    }

    fn restored(&self) -> Result<RestoredSession, Unreadable> {
        let digest = |bytes: &Bytes| {
            let digest = bytes[..].try_into();
            digest.map_err(|_| damaged("a secret has another length"))
        };
        Ok(RestoredSession {
            number: SessionNumber(self.number),
            grace: time(self.grace_ms)?,
            secret: self.digest.as_ref().map(digest).transpose()?,
            user: self.user.as_deref().map(Key::new),
        })
    }
}

/// What a log says, as it is read from its beginning to its end.
#[derive(Debug, Default)]
pub(super) struct Told {
    grants: std::collections::BTreeMap<Token, StoredGrant>,
    sessions: std::collections::BTreeMap<u64, SessionRecord>,
    tokens_above: u64,
    session_numbers_above: u64,
    /// The number of the log's oldest entry, as the last entry says.
    pub(super) first: Option<u64>,
}

impl Told {
    pub(super) fn add(&mut self, entry: Entry) -> Result<(), Unreadable> {
        if entry.tokens_above.max(entry.session_numbers_above) > Restored::HIGHEST {
            return Err(damaged("a number is too high"));
        }
        self.tokens_above = self.tokens_above.max(entry.tokens_above);
        self.session_numbers_above = self.session_numbers_above.max(entry.session_numbers_above);
        self.first = Some(entry.first);
        for record in entry.records {
            let unknown = || damaged("a record is of no known kind");
            if record
                .subject()
                .is_some_and(|(subject, _)| !self.is_marked(subject))
            {
                return Err(damaged("a number is above the mark"));
            }
            match record.state.ok_or_else(unknown)? {
                State::Granted(grant) => {
                    let stored = grant.stored()?;
                    self.grants.insert(Token(grant.token), stored);
                }
                State::Released(token) => drop(self.grants.remove(&Token(token))),
                State::Session(session) => drop(self.sessions.insert(session.number, session)),
                State::SessionOver(number) => drop(self.sessions.remove(&number)),
            }
        }
        Ok(())
    }

    /// Whether the marks are at least as high as this.
    fn is_marked(&self, subject: Subject) -> bool {
        match subject {
            Subject::Grant(token) => token <= self.tokens_above,
            Subject::Session(number) => number <= self.session_numbers_above,
        }
    }

    /// The state at the end of the log.
    pub(super) fn restored(self) -> Result<Restored, Unreadable> {
        let sessions = self.sessions.values().map(SessionRecord::restored);
        Ok(Restored {
            tokens_above: Token(self.tokens_above),
            session_numbers_above: SessionNumber(self.session_numbers_above),
            sessions: sessions.collect::<Result<_, _>>()?,
            grants: self.grants.into_iter().collect(),
        })
    }
}

/// A time that can be waited for.
fn time(ms: u64) -> Result<Duration, Unreadable> {
    match ms {
        0..=TEN_YEARS_MS => Ok(Duration::from_millis(ms)),
        _ => Err(damaged("a time is longer than ten years")),
    }
}

pub(super) fn damaged(why: &str) -> Unreadable {
    Unreadable::Damaged(why.to_owned())
}

fn copied(key: &Key) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

/// Saturates, which no setting reaches.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Secret;

    fn key() -> impl Strategy<Value = Key> {
        prop::collection::vec(any::<u8>(), 1..20).prop_map(|bytes| Key::new(&bytes))
    }

    fn mode() -> impl Strategy<Value = Mode> {
        prop_oneof![
            Just(Mode::Exclusive),
            key().prop_map(Mode::Shared),
            (1..u32::MAX).prop_map(|slots| Mode::Slot(NonZeroU32::new(slots).expect("not zero"))),
        ]
    }

    fn grants() -> impl Strategy<Value = Option<StoredGrant>> {
        let holder = prop_oneof![
            (0..Restored::HIGHEST).prop_map(|number| Holder::Session(SessionNumber(number))),
            key().prop_map(Holder::Owner),
        ];
        let lease = prop::option::of((0..=TEN_YEARS_MS).prop_map(Duration::from_millis));
        let grant =
            (holder, key(), mode(), lease).prop_map(|(holder, key, mode, lease)| StoredGrant {
                holder,
                key,
                mode,
                lease,
            });
        prop::option::of(grant)
    }

    fn sessions() -> impl Strategy<Value = Option<StoredSession>> {
        let secret = prop::option::of(any::<u128>().prop_map(Secret));
        let session = (0..=TEN_YEARS_MS, secret, prop::option::of(key()));
        prop::option::of(session.prop_map(|(grace_ms, secret, user)| StoredSession {
            grace: Duration::from_millis(grace_ms),
            secret,
            user,
        }))
    }

    fn batches() -> impl Strategy<Value = Batch> {
        let grants =
            prop::collection::btree_map((0..Restored::HIGHEST).prop_map(Token), grants(), 0..8);
        let number = (0..Restored::HIGHEST).prop_map(SessionNumber);
        let sessions = prop::collection::btree_map(number, sessions(), 0..8);
        (grants, sessions).prop_map(|(grants, sessions)| Batch { grants, sessions })
    }

    fn written(batch: &Batch) -> Vec<u8> {
        let mut entry = Entry {
            format: FORMAT,
            first: 1,
            records: Record::all_of(batch),
            ..Entry::default()
        };
        entry.raise_marks();
        entry.encode_to_vec()
    }

    fn read(bytes: Vec<u8>) -> Result<Restored, Unreadable> {
        let mut told = Told::default();
        told.add(Entry::read(bytes.into())?)?;
        told.restored()
    }

    /// Or a part of it would have two holders who exclude each other.
    #[test]
    fn what_is_released_comes_before_what_that_has_made_room_for() {
        let exclusive = StoredGrant {
            holder: Holder::Owner(Key::new(b"a")),
            key: Key::new(b"k"),
            mode: Mode::Exclusive,
            lease: None,
        };
        let batch = Batch {
            // The one that shared it before was granted later.
            grants: [(Token(5), Some(exclusive)), (Token(9), None)].into(),
            ..Batch::default()
        };
        let subjects = Record::all_of(&batch);
        let subjects: Vec<_> = subjects.iter().filter_map(Record::subject).collect();
        let expected = [(Subject::Grant(9), false), (Subject::Grant(5), true)];
        assert_eq!(subjects, expected);
    }

    #[test]
    fn an_entry_of_a_newer_server_is_told_from_a_damaged_one() {
        let entry = Entry {
            format: FORMAT + 1,
            ..Entry::default()
        };
        let read = Entry::read(entry.encode_to_vec().into());
        assert!(matches!(read, Err(Unreadable::Newer(_))), "{read:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_entry_reads_back_as_it_was_written(batch in batches()) {
            let restored = read(written(&batch)).expect("it is sound");
            let grants = batch.grants.iter();
            let grants = grants.filter_map(|(token, grant)| Some((*token, grant.clone()?)));
            prop_assert_eq!(restored.grants, grants.collect::<Vec<_>>());
            let sessions = batch.sessions.iter().filter_map(|(number, session)| {
                let session = session.clone()?;
                Some(RestoredSession {
                    number: *number,
                    grace: session.grace,
                    secret: session.secret.map(digest),
                    user: session.user,
                })
            });
            prop_assert_eq!(restored.sessions, sessions.collect::<Vec<_>>());
            let highest = batch.grants.keys().max().copied().unwrap_or_default();
            prop_assert_eq!(restored.tokens_above, highest);
        }

        /// Nothing that is in etcd ends the server, and what is read has times that can be waited for, and
        /// numbers that can be gone on from.
        #[test]
        fn whatever_an_entry_has_become_is_read_or_refused(
            batch in batches(),
            changes in prop::collection::vec((any::<usize>(), any::<u8>()), 0..6),
            length in any::<usize>(),
        ) {
            let mut bytes = written(&batch);
            bytes.truncate(length % (bytes.len() + 1));
            for (place, byte) in changes {
                let length = bytes.len().max(1);
                if let Some(found) = bytes.get_mut(place % length) {
                    *found = byte;
                }
            }
            if let Ok(restored) = read(bytes) {
                let longest = Duration::from_millis(TEN_YEARS_MS);
                prop_assert!(restored.sessions.iter().all(|session| session.grace <= longest));
                for (token, grant) in &restored.grants {
                    prop_assert!(*token <= restored.tokens_above);
                    prop_assert!(grant.lease.is_none_or(|lease| lease <= longest));
                }
                prop_assert!(restored.tokens_above.0 <= Restored::HIGHEST);
                prop_assert!(restored.session_numbers_above.0 <= Restored::HIGHEST);
            }
        }
    }
}
