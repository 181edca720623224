//! The whole state in etcd, for a program beside the servers: read as it is at one moment, or written where
//! there is none yet.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use super::api::{KeyValue, LeaseGrantRequest, LeaseRevokeRequest, RangeRequest};
use super::blocking::Blocking;
use super::endpoints::{Access, BadAccess};
use super::entry::{Entry, Record};
use super::log::pieces;
use super::names::Names;
use super::reading::{LoadError, read_all, state_of};
use super::txn::{Calls, Failure, Place, Term, append, create_if_absent, found};
use crate::cluster::Seen;
use crate::model::Restored;

/// How long etcd may be without an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long no server can lead if this program is ended while it writes. The lease is not renewed: writing
/// a million locks takes a few seconds, and what is written later is refused.
const LEASE_SECS: i64 = 60;

/// Why the state was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// etcd cannot be asked with these settings.
    #[error(transparent)]
    Access(#[from] BadAccess),
    /// No node has answered for a while.
    #[error("etcd does not answer: {0}")]
    Unanswered(String),
    /// It was not done, for this reason.
    #[error("etcd refuses it: {0}")]
    Refused(String),
    /// It would be dangerous to go on from what is left.
    #[error("what is in etcd cannot be gone on from: {0}")]
    Broken(String),
    /// There is nothing to read.
    #[error("no server has ever kept locks there")]
    NoLog,
    /// Nothing is written under the eyes of a leader.
    #[error("{0} leads there, and would not see what is written: stop all servers first")]
    Led(String),
    /// Nothing is written over other locks.
    #[error(
        "there are locks of elock already, or there were: use another namespace; or, if they may all be \
         lost, remove what is below this one by `etcdctl del --prefix` first"
    )]
    NotEmpty,
    /// The leader's key was gone before all was written.
    #[error("it took too long, or somebody has removed the key `leader`")]
    Deposed,
}

impl From<Failure> for CopyError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::InDoubt(why) | Failure::TooLong(why) => Self::Unanswered(why),
            Failure::Refused(why) => Self::Refused(why),
        }
    }
}

impl From<LoadError> for CopyError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unread(failure) => failure.into(),
            broken => Self::Broken(broken.to_string()),
        }
    }
}

/// Reads the state, whether servers use it or not. Blocks.
pub(crate) fn read_state(access: &Access, names: &Names) -> Result<Restored, CopyError> {
    let mut calls = Blocking::new(access, 0)?;
    let (index, told) = patiently(|| Ok(read_all(&mut calls, names)?))?;
    match index.is_empty() {
        true => Err(CopyError::NoLog),
        false => Ok(state_of(told, &index, names)?),
    }
}

/// Writes the state where there is none, while no server leads. Blocks.
pub(crate) fn fill(access: &Access, names: &Names, state: &Restored) -> Result<(), CopyError> {
    let mut calls = Blocking::new(access, 0)?;
    let request = LeaseGrantRequest { ttl: LEASE_SECS };
    let granted = patiently(|| Ok(calls.unary(request)?))?;
    let lease = granted.id;
    let filled =
        lead(&mut calls, names, lease).and_then(|term| write_all(&mut calls, names, &term, state));
    // Else it ends by itself.
    let _ = patiently(|| {
        let request = LeaseRevokeRequest { id: lease };
        Ok(calls.unary(request)?)
    });
    filled
}

/// Takes the leader's key, so that no server leads meanwhile.
fn lead(calls: &mut impl Calls, names: &Names, lease: i64) -> Result<Term, CopyError> {
    // No two have the same lease.
    let value = Bytes::from(format!("{IMPORT}{lease}"));
    let request = create_if_absent(names.leader(), value.clone(), lease);
    patiently(|| Ok(calls.txn(&request)?))?;
    // Whichever attempt it was that has created it.
    let request = RangeRequest {
        key: names.leader(),
        ..RangeRequest::default()
    };
    let found = patiently(|| Ok(calls.range(&request)?))?.kvs;
    match found.into_iter().next() {
        Some(leader) if leader.value == value => Ok(Term {
            revision: leader.create_revision,
            value,
        }),
        Some(leader) => Err(CopyError::Led(name_of(&leader))),
        None => Err(CopyError::Deposed),
    }
}

/// What the leader's key begins with while a state is written.
const IMPORT: &str = "import ";

/// Whether a leader's key with this value stands for a state's being written.
pub(crate) fn is_import(value: &[u8]) -> bool {
    value.starts_with(IMPORT.as_bytes())
}

fn name_of(leader: &KeyValue) -> String {
    let seen = Seen::of(leader);
    match seen.leader {
        Some(leader) => format!("the server {}", leader.address),
        None if seen.is_import => "another import".to_owned(),
        None => "somebody".to_owned(),
    }
}

/// Writes the entries of a log, the first one last: nobody goes on from a log without it. So it is all
/// there or of no use.
fn write_all(
    calls: &mut impl Calls,
    names: &Names,
    term: &Term,
    state: &Restored,
) -> Result<(), CopyError> {
    let entries = pieces(Record::all_in(state)).into_iter().map(|records| {
        let mut entry = Entry {
            records,
            ..Entry::above(state.tokens_above.0, state.session_numbers_above.0)
        };
        entry.raise_marks();
        Bytes::from(entry.encode_to_vec())
    });
    let entries: Vec<Bytes> = entries.collect();
    let last = entries.len() as u64;
    for (place, bytes) in entries.into_iter().enumerate().rev() {
        let number = place as u64 + 1;
        let place = match number == last {
            true => Place::Begins,
            false => Place::BeforeAny,
        };
        let request = append(term, names, (number, bytes.clone()), place);
        let done = patiently(|| Ok(calls.txn(&request)?))?;
        match found(&done, 1) {
            _ if done.succeeded => {}
            _ if !term.is_of(found(&done, 0)) => return Err(CopyError::Deposed),
            // By an earlier attempt, and not by an earlier import of the same.
            Some(written) if written.create_revision > term.revision && written.value == bytes => {}
            _ => return Err(CopyError::NotEmpty),
        }
    }
    Ok(())
}

/// Asks until there is an answer, or for long enough. What is asked may be done twice.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, CopyError>) -> Result<T, CopyError> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(CopyError::Unanswered(_)) if Instant::now() < give_up => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Holder, Key, Mode, RestoredSession, SessionNumber, StoredGrant, Token};
    use crate::store::etcd::unreliable::{Fate, UnreliableEtcd};

    /// Of several entries.
    fn state() -> Restored {
        let grant = |token: u64| StoredGrant {
            holder: Holder::Session(SessionNumber(7)),
            key: Key::new(&[token as u8; 4000]),
            mode: Mode::Exclusive,
            lease: None,
        };
        Restored {
            tokens_above: Token(5000),
            session_numbers_above: SessionNumber(9),
            grants: (1..1000)
                .map(|token| (Token(token), grant(token)))
                .collect(),
            sessions: vec![RestoredSession {
                number: SessionNumber(7),
                grace: Duration::from_secs(30),
                secret: Some([3; 32]),
                user: None,
            }],
        }
    }

    fn term(etcd: &UnreliableEtcd, names: &Names) -> Term {
        let value = Bytes::from_static(b"import 1");
        let revision = etcd.elect(&names.leader(), &value);
        Term { revision, value }
    }

    #[test]
    fn what_was_written_is_read_however_often_it_had_to_be_asked_for() {
        for fates in [
            vec![],
            vec![Fate::AnswerLost, Fate::Lost, Fate::DoneAndLateAgain],
            vec![Fate::Lost, Fate::AnswerLost, Fate::AnswerLost],
        ] {
            let (mut etcd, names) = (UnreliableEtcd::default(), Names::below("/elock"));
            let term = term(&etcd, &names);
            etcd.state().fates = fates;
            write_all(&mut etcd, &names, &term, &state()).expect("it is written");
            etcd.state().deliver_late(0);
            let (index, told) = read_all(&mut etcd, &names).expect("a sound log");
            assert!(index.entries() > 2);
            assert_eq!(state_of(told, &index, &names).expect("it reads"), state());
            // Nothing is written over it, and the same is not taken for what is there.
            for other in [Restored::default(), state()] {
                let term = self::term(&etcd, &names);
                let again = write_all(&mut etcd, &names, &term, &other);
                assert!(matches!(again, Err(CopyError::NotEmpty)), "{again:?}");
            }
        }
    }

    #[test]
    fn nobody_goes_on_from_a_part() {
        let (mut etcd, names) = (UnreliableEtcd::default(), Names::below("/elock"));
        let own = term(&etcd, &names);
        // The last one first: the third is refused.
        etcd.state().fates = vec![Fate::Refused, Fate::AnswerLost, Fate::Lost];
        let cut_off = write_all(&mut etcd, &names, &own, &state());
        assert!(matches!(cut_off, Err(CopyError::Refused(_))), "{cut_off:?}");
        assert!(etcd.state().kvs.len() > 2, "a part is there");
        let found = read_all(&mut etcd, &names);
        assert!(matches!(found, Err(LoadError::Broken { .. })));
    }

    #[test]
    fn nothing_is_written_once_another_leads() {
        let (mut etcd, names) = (UnreliableEtcd::default(), Names::below("/elock"));
        let own = term(&etcd, &names);
        etcd.elect(&names.leader(), b"{}");
        let written = write_all(&mut etcd, &names, &own, &state());
        assert!(matches!(written, Err(CopyError::Deposed)), "{written:?}");
        assert_eq!(etcd.state().kvs.len(), 1);
    }
}
