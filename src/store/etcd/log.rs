//! The log of changes in etcd, which one leader writes.
//!
//! Each commit appends an entry by one transaction. Its condition is that this server still leads, that the
//! entry is not there, and that the one before it is. So whatever becomes of an attempt (lost, late, done
//! twice), an entry is written once at the most, behind all others, and by nobody who was deposed.
//!
//! Invariants:
//!
//! 1. An attempt whose outcome is open is made again, the same, until etcd has decided, before anything else
//!    is written.
//! 2. The index has all entries of the log and no others, but for an attempt whose outcome is open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use tracing::{debug, warn};

use super::api::{RangeRequest, TxnRequest, TxnResponse};
use super::compaction::Compaction;
use super::entry::{Entry, Record, Told, millis};
use super::index::{Cut, Index};
use super::longest_ttl::LongestTtl;
use super::names::Names;
use super::reading::{LoadError, Reading, state_of, take_in};
use super::txn::{Calls, Failure, Place, Term, append, delete_entries, found, get};
use crate::cluster::plant::{self, Plant};
use crate::cluster::{Leadership, Lost};
use crate::model::{NotStored, Restored};
use crate::store::{Batch, Storage};

/// How long the beginning of a turn may take. Then others may try.
const BEGINNING: Duration = Duration::from_secs(10);

/// How soon the beginning of a turn is tried again that etcd has refused.
const BEGIN_AGAIN: Duration = Duration::from_millis(50);

/// How many bytes of records an entry has at the most, as etcd takes requests of 1.5 MiB by default; a few
/// more if a single record is larger.
pub(super) const LONGEST_ENTRY: usize = 1024 * 1024;

/// The log, as its only writer has it.
pub(crate) struct Log<C> {
    calls: C,
    names: Names,
    term: Term,
    leadership: Arc<Leadership>,
    longest_ttl: LongestTtl,
    index: Index,
    compaction: Compaction,
}

impl<C: Calls> Log<C> {
    /// Reads the log after this server has been elected, and with it all that former leaders have written; from its
    /// beginning on, or from where it was read `ahead`.
    ///
    /// # Errors
    ///
    /// If it cannot be gone on from, or the leadership was lost meanwhile. As long as etcd does not answer, this
    /// waits.
    pub(crate) fn load(
        calls: C,
        names: Names,
        term: Term,
        leadership: Arc<Leadership>,
        compact_every: Option<Duration>,
        ahead: Option<Reading>,
    ) -> Result<(Self, Restored), LoadError> {
        let mut calls = calls;
        let (index, told) = read(&mut calls, &names, &leadership, ahead)?;
        let restored = state_of(told, &index, &names)?;
        let mut log = Self {
            calls,
            names,
            term,
            longest_ttl: LongestTtl::new(&leadership, index.lead_ttl_ms),
            leadership,
            index,
            compaction: Compaction::new(compact_every),
        };
        log.tell_ttl()?;
        Ok((log, restored))
    }

    /// The longest time of a lease by which a server may believe that it leads.
    pub(crate) fn longest_ttl(&self) -> Duration {
        self.longest_ttl.now(&self.leadership)
    }

    /// Writes how long this leader may believe that it leads, before anybody is told anything that rests on that.
    fn tell_ttl(&mut self) -> Result<(), LoadError> {
        let told = Duration::from_millis(self.index.lead_ttl_ms);
        let own = self.leadership.ttl();
        if self.index.is_empty() || told == own {
            return Ok(());
        }
        // An import tells none.
        if !told.is_zero() {
            warn!(
                "--lead-ttl-secs is {} here, and was {} where the last entry was written: give all servers \
                 of a cluster the same",
                own.as_secs(),
                told.as_secs()
            );
        }
        if told < own
            && let Err(why) = self.append(Vec::new())
        {
            self.leadership.lose(Lost::NotBegun(why.to_string()));
            return Err(LoadError::Lost);
        }
        Ok(())
    }

    /// Appends what is in `records`, in as many entries as that takes.
    fn append_all(&mut self, records: Vec<Record>) -> Result<(), NotStored> {
        for records in pieces(records) {
            if self.index.must_cut_alone(bytes_of(&records)) {
                // If it is refused, the log is cut another time.
                let _ = self.append(Vec::new());
            }
            self.append(records)?;
        }
        Ok(())
    }

    /// Appends one entry. After a refusal it may still come to be there: then the next call finds it.
    fn append(&mut self, records: Vec<Record>) -> Result<(), NotStored> {
        loop {
            let number = self.index.next();
            let entry = self.entry(&records);
            let bytes = Bytes::from(entry.encode_to_vec());
            let done = self.decide(&self.append_request(number, entry.first, bytes.clone()))?;
            if done.succeeded {
                if let Err(why) = self.index.add(&entry, bytes.len()) {
                    return Err(self.lose(Lost::Broken(why.to_string())));
                }
                self.compact(&done);
                return Ok(());
            }
            self.must_lead(&done)?;
            // Then it is that entry, by an earlier attempt.
            let Some(found) = found(&done, 1) else {
                return Err(self.lose(Lost::Broken(format!("{number} follows nothing"))));
            };
            if let Err(why) = take_in(found, &self.names, &mut self.index) {
                return Err(self.lose(Lost::Broken(why.to_string())));
            }
            if found.value == bytes {
                return Ok(());
            }
        }
    }

    /// The next entry, with what has to be written once more so that older ones can be cut off.
    fn entry(&mut self, records: &[Record]) -> Entry {
        let cut = self.index.to_cut(bytes_of(records));
        let (cut, moved) = match self.living_in(cut) {
            Some(moved) => (cut, moved),
            // Then another time.
            None => (Cut::default(), Vec::new()),
        };
        let mut entry = Entry {
            first: self.index.first() + cut.entries,
            records: moved,
            lead_ttl_ms: millis(self.longest_ttl()),
            ..Entry::above(self.index.tokens_above, self.index.session_numbers_above)
        };
        entry.records.extend_from_slice(records);
        entry.raise_marks();
        entry
    }

    /// The living records of the entries to cut off; `None` if they cannot be had.
    fn living_in(&mut self, cut: Cut) -> Option<Vec<Record>> {
        if !cut.has_living {
            return Some(Vec::new());
        }
        let first = self.index.first();
        let request = RangeRequest {
            key: self.names.entry(first),
            range_end: self.names.entry(first + cut.entries),
            // An entry never changes, so any node's will do.
            serializable: true,
            ..RangeRequest::default()
        };
        let found = self.calls.range(&request).ok()?.kvs;
        if found.len() as u64 != cut.entries {
            return None;
        }
        let mut living = Vec::new();
        for (number, found) in (first..).zip(found) {
            let records = Entry::read(found.value).ok()?.records;
            let lives = |record: &Record| {
                let subject = record.subject();
                subject
                    .is_some_and(|(subject, lives)| lives && self.index.lives_in(subject, number))
            };
            let from = living.len();
            living.extend(records.into_iter().filter(lives));
            keep_last_of_each(&mut living, from);
        }
        Some(living)
    }

    fn append_request(&self, number: u64, first: u64, bytes: Bytes) -> TxnRequest {
        let place = match self.index.is_empty() {
            true => Place::Begins,
            false => Place::Follows,
        };
        let mut request = append(&self.term, &self.names, (number, bytes), place);
        if first > self.index.first() {
            let cut = delete_entries(&self.names, self.index.first(), first);
            request.success.push(cut);
        }
        request
    }

    /// Sends a transaction until etcd has decided about it, or this server does not lead any more.
    fn decide(&mut self, request: &TxnRequest) -> Result<TxnResponse, NotStored> {
        loop {
            if self.leadership.is_lost() {
                return Err(deposed());
            }
            match self.calls.txn(request) {
                Ok(done) => return Ok(done),
                Err(Failure::Refused(why)) => {
                    return Err(NotStored::new(format_args!("etcd: {why}")));
                }
                Err(Failure::InDoubt(why)) if plant::is(Plant::TakenAsFailed) => {
                    return Err(NotStored::new(format_args!("etcd: {why}")));
                }
                Err(Failure::InDoubt(why) | Failure::TooLong(why)) => {
                    debug!("a transaction is in doubt: {why}");
                }
            }
        }
    }

    /// Whether a transaction whose condition did not hold found this server leading.
    fn must_lead(&self, done: &TxnResponse) -> Result<(), NotStored> {
        if plant::is(Plant::SplitBrain) {
            return Ok(());
        }
        match self.term.is_of(found(done, 0)) {
            true => Ok(()),
            false => Err(self.lose(Lost::Deposed)),
        }
    }

    fn lose(&self, why: Lost) -> NotStored {
        self.leadership.lose(why);
        deposed()
    }

    fn compact(&mut self, done: &TxnResponse) {
        let revision = done.header.map_or(0, |header| header.revision);
        let Some(up_to) = self.compaction.due(revision) else {
            return;
        };
        match self.calls.compact(up_to) {
            // By somebody else, who uses the same etcd.
            Err(Failure::Refused(why)) if why.contains("has been compacted") => {}
            Err(why) => warn!("etcd's history could not be compacted, and is tried again: {why}"),
            Ok(()) => {}
        }
    }
}

impl<C: Calls> Storage for Log<C> {
    fn commit(&mut self, batch: &Batch) -> Result<(), NotStored> {
        self.append_all(Record::all_of(batch))
    }

    fn confirm(&mut self) -> Result<(), NotStored> {
        // With a range in it: etcd answers an empty transaction from one node's own, perhaps old, state.
        let request = TxnRequest {
            compare: self.term.holds(&self.names),
            success: vec![get(self.names.leader())],
            failure: vec![get(self.names.leader())],
        };
        let done = self.decide(&request)?;
        match done.succeeded {
            true => Ok(()),
            false => self.must_lead(&done),
        }
    }

    fn must_confirm(&self) -> bool {
        !plant::is(Plant::Memory)
    }

    fn is_over(&self) -> bool {
        self.leadership.is_lost()
    }

    fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    fn entries(&self) -> usize {
        self.index.entries()
    }
}

/// How many bytes they take in an entry.
fn bytes_of(records: &[Record]) -> u64 {
    records.iter().map(Record::len_in_entry).sum::<usize>() as u64
}

/// The records of as many entries as they take, which is one at the least.
pub(super) fn pieces(records: Vec<Record>) -> Vec<Vec<Record>> {
    let (mut pieces, mut last, mut bytes) = (Vec::new(), Vec::new(), 0);
    for record in records {
        let length = record.len_in_entry();
        if bytes + length > LONGEST_ENTRY && !last.is_empty() {
            pieces.push(std::mem::take(&mut last));
            bytes = 0;
        }
        bytes += length;
        last.push(record);
    }
    pieces.push(last);
    pieces
}

/// Of several records of one subject from `from` on, only the last is true.
fn keep_last_of_each(records: &mut Vec<Record>, from: usize) {
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<Record> = records
        .drain(from..)
        .rev()
        .filter(|record| seen.insert(record.subject()))
        .collect();
    kept.reverse();
    records.append(&mut kept);
}

/// Reads the log. As long as it comes on, however slowly, and the leadership lasts, there is time for it.
fn read(
    calls: &mut impl Calls,
    names: &Names,
    leadership: &Leadership,
    ahead: Option<Reading>,
) -> Result<(Index, Told), LoadError> {
    let mut is_ahead = ahead.is_some();
    let mut reading = ahead.map_or_else(|| Reading::of(names), Reading::later);
    let mut give_up = Instant::now() + BEGINNING;
    loop {
        match reading.go_on(calls) {
            Ok(true) => give_up = Instant::now() + BEGINNING,
            Ok(false) => return Ok(reading.read()),
            Err(LoadError::Unread(why)) => {
                // The pages that were to come have been compacted away.
                if let Failure::Refused(_) = why {
                    reading = Reading::of(names);
                }
                may_begin(leadership, give_up, &why)?;
            }
            // What was read ahead may be the end of a log that was being imported.
            Err(why) if is_ahead => {
                debug!("what was read ahead is no part of the log: {why}");
                (is_ahead, reading) = (false, Reading::of(names));
            }
            Err(broken) => return Err(broken),
        }
        if leadership.is_lost() {
            return Err(LoadError::Lost);
        }
    }
}

/// Waits a little after the beginning of a turn has failed for this reason.
///
/// # Errors
///
/// If the turn is over, or this has lasted for too long, which ends it.
fn may_begin(
    leadership: &Leadership,
    give_up: Instant,
    why: &impl std::fmt::Display,
) -> Result<(), LoadError> {
    debug!("the turn cannot begin yet: {why}");
    if Instant::now() >= give_up {
        leadership.lose(Lost::NotBegun(why.to_string()));
    }
    if leadership.is_lost() {
        return Err(LoadError::Lost);
    }
    std::thread::sleep(BEGIN_AGAIN);
    Ok(())
}

fn deposed() -> NotStored {
    NotStored::new("this server does not lead any more")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Holder, Key, Mode, SessionNumber, StoredGrant, StoredSession, Token};
    use crate::store::etcd::unreliable::{Fate, UnreliableEtcd};

    type State = (
        BTreeMap<Token, StoredGrant>,
        BTreeMap<SessionNumber, Duration>,
    );

    const TTL: Duration = Duration::from_secs(2);

    /// A server that was elected, and what it has found.
    struct Server {
        log: Log<UnreliableEtcd>,
        leadership: Arc<Leadership>,
        found: State,
    }

    fn elect(etcd: &UnreliableEtcd, id: u64) -> Server {
        elect_ahead(etcd, id, None)
    }

    /// With what it has read before its election.
    fn elect_ahead(etcd: &UnreliableEtcd, id: u64, ahead: Option<Reading>) -> Server {
        let names = Names::below("/elock");
        let value = Bytes::from(id.to_string());
        let revision = etcd.elect(&names.leader(), &value);
        let leadership = Arc::new(Leadership::new(|| Duration::ZERO, TTL, Duration::ZERO));
        let term = Term { revision, value };
        let loaded = Log::load(
            etcd.clone(),
            names,
            term,
            Arc::clone(&leadership),
            None,
            ahead,
        );
        let (log, restored) = loaded.expect("a sound log");
        let sessions = restored
            .sessions
            .iter()
            .map(|session| (session.number, session.grace));
        Server {
            log,
            leadership,
            found: (restored.grants.into_iter().collect(), sessions.collect()),
        }
    }

    /// So many pages of the log.
    fn read_ahead(etcd: &UnreliableEtcd, pages: u8) -> Option<Reading> {
        let mut reading = Reading::of(&Names::below("/elock"));
        for _ in 0..pages {
            reading.go_on(&mut etcd.clone()).expect("a sound log");
        }
        Some(reading)
    }

    fn grant(key: u8) -> StoredGrant {
        StoredGrant {
            holder: Holder::Session(SessionNumber(1)),
            // Long ones, so that there is something to cut.
            key: Key::new(&[key; 4000]),
            mode: Mode::Exclusive,
            lease: None,
        }
    }

    fn session(grace_ms: u8) -> StoredSession {
        StoredSession {
            grace: Duration::from_millis(grace_ms.into()),
            ..StoredSession::default()
        }
    }

    fn apply(state: &mut State, batch: &Batch) {
        for (token, grant) in &batch.grants {
            match grant {
                Some(grant) => drop(state.0.insert(*token, grant.clone())),
                None => drop(state.0.remove(token)),
            }
        }
        for (number, session) in &batch.sessions {
            match session {
                Some(session) => drop(state.1.insert(*number, session.grace)),
                None => drop(state.1.remove(number)),
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Changes of grants and sessions, and what becomes of the transactions.
        Commit(Vec<(u8, Option<u8>)>, Vec<(u8, Option<u8>)>, Vec<Fate>),
        Confirm(Vec<Fate>),
        Late(usize),
        /// So many pages, by the next that is elected.
        ReadAhead(u8),
        Elect,
    }

    fn fates() -> impl Strategy<Value = Vec<Fate>> {
        use Fate::{AnswerLost, DoneAndLateAgain, Late, Lost, Refused};
        let fate = prop::sample::select(vec![AnswerLost, DoneAndLateAgain, Late, Lost, Refused]);
        prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(fate, 1..4)]
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let changes = || prop::collection::vec((0..12_u8, any::<Option<u8>>()), 0..6);
        let step = prop_oneof![
            12 => (changes(), changes(), fates()).prop_map(|(grants, sessions, fates)| Step::Commit(grants, sessions, fates)),
            2 => fates().prop_map(Step::Confirm),
            3 => any::<usize>().prop_map(Step::Late),
            1 => (0..4_u8).prop_map(Step::ReadAhead),
            1 => Just(Step::Elect),
        ];
        prop::collection::vec(step, 1..200)
    }

    /// What a new leader may find: all that was answered, and perhaps what was refused since then.
    struct Expected {
        states: Vec<State>,
        /// The changes that were refused, of which the store makes the next commit's a part.
        refused: Batch,
    }

    impl Expected {
        fn stored(&mut self, batch: &Batch) {
            let mut state = self.states[0].clone();
            apply(&mut state, batch);
            *self = Self {
                states: vec![state],
                refused: Batch::default(),
            };
        }

        fn refused(&mut self, batch: Batch) {
            let mut state = self.states[0].clone();
            apply(&mut state, &batch);
            self.states.push(state);
            self.refused = batch;
        }
    }

    fn check(steps: Vec<Step>) -> Result<(), TestCaseError> {
        let etcd = UnreliableEtcd::default();
        let mut server = elect(&etcd, 0);
        let mut expected = Expected {
            states: vec![State::default()],
            refused: Batch::default(),
        };
        let mut former: Vec<Server> = Vec::new();
        let mut ahead = None;
        for (step, number) in steps.into_iter().zip(1..) {
            match step {
                Step::Commit(grants, sessions, fates) => {
                    etcd.state().fates = fates;
                    let mut batch = expected.refused.clone();
                    for (token, key) in grants {
                        batch.grants.insert(Token(token.into()), key.map(grant));
                    }
                    for (number, grace_ms) in sessions {
                        batch
                            .sessions
                            .insert(SessionNumber(number.into()), grace_ms.map(session));
                    }
                    match server.log.commit(&batch) {
                        Ok(()) => expected.stored(&batch),
                        Err(_) => expected.refused(batch),
                    }
                }
                Step::Confirm(fates) => {
                    etcd.state().fates = fates;
                    // Refused by etcd or confirmed; nobody else leads.
                    let _ = server.log.confirm();
                    prop_assert!(!server.leadership.is_lost());
                }
                Step::Late(first) => etcd.state().deliver_late(first),
                Step::ReadAhead(pages) => ahead = read_ahead(&etcd, pages),
                Step::Elect => {
                    let next = elect_ahead(&etcd, number, ahead.take());
                    former.push(std::mem::replace(&mut server, next));
                    prop_assert!(
                        expected.states.contains(&server.found),
                        "at step {}",
                        number
                    );
                    expected = Expected {
                        states: vec![server.found.clone()],
                        refused: Batch::default(),
                    };
                }
            }
            etcd.state().fates.clear();
            if let Some(old) = former.last_mut() {
                let change = Batch {
                    grants: [(Token(99), Some(grant(9)))].into(),
                    ..Batch::default()
                };
                prop_assert!(old.log.commit(&change).is_err(), "it was deposed");
                prop_assert!(old.log.confirm().is_err(), "it was deposed");
                prop_assert!(old.leadership.is_lost());
            }
        }
        let found = elect(&etcd, u64::MAX).found;
        prop_assert!(expected.states.contains(&found), "at the end");
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]
        /// Whatever becomes of transactions, what was answered is there, nothing that was released comes
        /// back, and nobody who was deposed writes.
        #[test]
        fn a_log_says_what_was_answered(steps in steps()) {
            check(steps)?;
        }
    }

    fn cases() -> u32 {
        std::env::var("PROPTEST_CASES")
            .ok()
            .and_then(|cases| cases.parse().ok())
            .unwrap_or(64)
    }

    /// What comes and goes leaves no more behind than twice what is there.
    #[test]
    fn a_log_does_not_grow_with_what_is_over() {
        let etcd = UnreliableEtcd::default();
        let mut server = elect(&etcd, 0);
        let keep = Batch {
            grants: (0..20)
                .map(|token| (Token(token), Some(grant(token as u8))))
                .collect(),
            ..Batch::default()
        };
        server.log.commit(&keep).expect("it works");
        for token in 100..2000 {
            let grants = [
                (Token(token - 1), None),
                (Token(token), Some(grant(token as u8))),
            ]
            .into();
            let batch = Batch {
                grants,
                ..Batch::default()
            };
            server.log.commit(&batch).expect("it works");
            assert!(
                server.log.bytes() < 1_000_000,
                "{} bytes",
                server.log.bytes()
            );
        }
        let bytes: usize = etcd.state().kvs.values().map(|kv| kv.value.len()).sum();
        assert!(bytes < 1_000_000, "{bytes} bytes");
        assert_eq!(elect(&etcd, 1).found.0.len(), 21);
    }

    fn one(token: u64, over: Option<u64>) -> Batch {
        let new = (Token(token), Some(grant(token as u8)));
        let over = over.map(|over| (Token(over), None));
        Batch {
            grants: [new].into_iter().chain(over).collect(),
            ..Batch::default()
        }
    }

    /// Also if all of that is cut off meanwhile.
    #[test]
    fn what_was_read_ahead_is_gone_on_from() {
        for commits_since in [0, 1, 40, 2000] {
            let etcd = UnreliableEtcd::default();
            let mut server = elect(&etcd, 0);
            for token in 0..50 {
                server.log.commit(&one(token, None)).expect("it works");
            }
            let ahead = read_ahead(&etcd, 3);
            assert!(ahead.as_ref().is_some_and(|ahead| ahead.entries() == 50));
            for token in 50..50 + commits_since {
                let over = Some(token - 50);
                server.log.commit(&one(token, over)).expect("it works");
            }
            etcd.state().entries_read = 0;
            let found = elect_ahead(&etcd, 1, ahead).found;
            // Beside them the first one, twice the last that is known, and perhaps all.
            let is_cut_off = commits_since > 1000;
            let read = etcd.state().entries_read;
            assert!(is_cut_off || read <= commits_since + 3, "{read}");
            assert_eq!(found, elect(&etcd, 2).found);
            assert_eq!(found.0.len(), 50);
        }
    }

    /// An import writes the last entry first.
    #[test]
    fn what_was_read_ahead_of_half_a_log_is_read_again() {
        let etcd = UnreliableEtcd::default();
        let mut server = elect(&etcd, 0);
        for token in 0..150 {
            server.log.commit(&one(token, None)).expect("it works");
        }
        let whole = etcd.state().kvs.clone();
        let middle = Names::below("/elock").entry(100);
        etcd.state().kvs.retain(|key, _| *key >= middle);
        let ahead = read_ahead(&etcd, 1);
        etcd.state().kvs = whole;
        assert_eq!(elect_ahead(&etcd, 1, ahead).found.0.len(), 150);
    }

    /// As after all was removed.
    #[test]
    fn what_was_read_ahead_of_another_log_counts_for_nothing() {
        let etcd = UnreliableEtcd::default();
        let mut server = elect(&etcd, 0);
        for token in 0..50 {
            server.log.commit(&one(token, None)).expect("it works");
        }
        let ahead = read_ahead(&etcd, 3);
        etcd.state().kvs.clear();
        let mut server = elect(&etcd, 1);
        for token in 100..180 {
            server.log.commit(&one(token, None)).expect("it works");
        }
        let found = elect_ahead(&etcd, 2, ahead).found;
        assert_eq!(found.0.keys().next(), Some(&Token(100)));
        assert_eq!(found.0.len(), 80);
    }

    /// Whatever is moved beside it.
    #[test]
    fn no_entry_is_too_large_for_etcd() {
        let etcd = UnreliableEtcd::default();
        let mut server = elect(&etcd, 0);
        // As after an import: full entries, in which all lives.
        let grants = |tokens: std::ops::Range<u64>| Batch {
            grants: tokens.map(|token| (Token(token), Some(grant(7)))).collect(),
            ..Batch::default()
        };
        server.log.commit(&grants(0..2600)).expect("it works");
        let mut size = 1;
        let mut first = 10_000;
        for round in 0..400 {
            // From single changes to as many as an entry takes.
            size = if round % 7 == 0 {
                250
            } else {
                (size * 3) % 260 + 1
            };
            let tokens = first..first + size;
            first = tokens.end;
            server.log.commit(&grants(tokens.clone())).expect("it fits");
            let over = Batch {
                grants: tokens.map(|token| (Token(token), None)).collect(),
                ..Batch::default()
            };
            server.log.commit(&over).expect("it fits");
        }
        let bytes = server.log.bytes();
        assert!(bytes < 40_000_000, "{bytes} bytes are not cut");
        assert_eq!(elect(&etcd, 1).found.0.len(), 2600);
    }

    /// Also when its own entry, and the one before, are cut off by then.
    #[test]
    fn an_attempt_that_comes_very_late_changes_nothing() {
        for commits_before in [0, 5] {
            let etcd = UnreliableEtcd::default();
            let mut server = elect(&etcd, 0);
            let mut commit = |token: u64| {
                let grants = [
                    (Token(token - 1), None),
                    (Token(token), Some(grant(token as u8))),
                ]
                .into();
                let batch = Batch {
                    grants,
                    ..Batch::default()
                };
                server.log.commit(&batch).expect("it works");
            };
            (1..=commits_before).for_each(&mut commit);
            etcd.state().fates = vec![Fate::DoneAndLateAgain];
            (100..1000).for_each(&mut commit);
            let entries = |etcd: &UnreliableEtcd| etcd.state().kvs.clone();
            let before = entries(&etcd);
            assert!(before.len() < 200, "the first ones are cut off");
            etcd.state().deliver_late(0);
            assert_eq!(entries(&etcd), before);
        }
    }

    #[test]
    fn a_large_commit_takes_several_entries() {
        let etcd = UnreliableEtcd::default();
        let mut server = elect(&etcd, 0);
        let batch = Batch {
            grants: (0..1000)
                .map(|token| (Token(token), Some(grant(token as u8))))
                .collect(),
            ..Batch::default()
        };
        server.log.commit(&batch).expect("it works");
        let longest = etcd.state().kvs.values().map(|kv| kv.value.len()).max();
        assert!(longest < Some(1_500_000), "{longest:?}");
        assert_eq!(elect(&etcd, 1).found.0.len(), 1000);
    }

    /// Small ones first, by which nobody can tell that a page of the others does not come.
    #[test]
    fn a_log_is_read_however_long_its_entries_are() {
        let etcd = UnreliableEtcd::default();
        let mut server = elect(&etcd, 0);
        for token in 0..400 {
            let grants = [(Token(token), Some(grant(7)))].into();
            let batch = Batch {
                grants,
                ..Batch::default()
            };
            server.log.commit(&batch).expect("it works");
        }
        for first in (400..2400).step_by(25) {
            let batch = Batch {
                grants: (first..first + 25)
                    .map(|token| (Token(token), Some(grant(7))))
                    .collect(),
                ..Batch::default()
            };
            server.log.commit(&batch).expect("it works");
        }
        // So much as two of the long ones.
        etcd.state().longest_answer = Some(220_000);
        assert_eq!(elect(&etcd, 1).found.0.len(), 2400);
    }

    /// By a lower setting of one server, no session ends before the leader before it has given up.
    #[test]
    fn the_longest_lease_counts_until_nobody_can_believe_in_it() {
        thread_local! {
            static NOW: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
        }
        let etcd = UnreliableEtcd::default();
        let lead = |id: u64, ttl: Duration| {
            let names = Names::below("/elock");
            let value = Bytes::from(id.to_string());
            let revision = etcd.elect(&names.leader(), &value);
            let leadership = Arc::new(Leadership::new(|| NOW.get(), ttl, NOW.get()));
            let term = Term { revision, value };
            let loaded = Log::load(etcd.clone(), names, term, leadership, None, None);
            loaded.expect("a sound log").0
        };
        let change = |log: &mut Log<UnreliableEtcd>, token: u64| {
            let grants = [(Token(token), Some(grant(7)))].into();
            let batch = Batch {
                grants,
                ..Batch::default()
            };
            log.commit(&batch).expect("it leads");
        };
        let (short, long) = (Duration::from_secs(2), Duration::from_secs(10));
        let mut first = lead(1, short);
        change(&mut first, 1);
        // It says so before it tells anybody anything.
        assert_eq!(lead(2, long).longest_ttl(), long);
        for id in 3..6 {
            let mut log = lead(id, short);
            assert_eq!(log.longest_ttl(), long, "leader {id}");
            change(&mut log, id);
        }
        let mut last = lead(6, short);
        NOW.set(NOW.get() + Leadership::least_grace(long));
        // By its own lease, which a renewal has kept.
        last.leadership.renewed(NOW.get());
        assert_eq!(last.longest_ttl(), short);
        change(&mut last, 6);
        assert_eq!(lead(7, short).longest_ttl(), short);
    }

    #[test]
    fn a_log_with_a_gap_is_not_gone_on_with() {
        // The last one that is gone; the last gap is longer than the pages that are read.
        for (gone, last) in [(1, 1), (2, 2), (3, 3), (1, 200), (20, 150)] {
            let etcd = UnreliableEtcd::default();
            let mut server = elect(&etcd, 0);
            for token in 0..200 {
                let grants = [(Token(token), Some(grant(token as u8)))].into();
                let batch = Batch {
                    grants,
                    ..Batch::default()
                };
                server.log.commit(&batch).expect("it works");
            }
            assert_eq!(server.log.entries(), 200, "all lives");
            let names = Names::below("/elock");
            for number in gone..=last {
                etcd.state().kvs.remove(&names.entry(number));
            }
            let revision = etcd.elect(&names.leader(), b"new");
            let term = Term {
                revision,
                value: Bytes::from_static(b"new"),
            };
            let leadership = Arc::new(Leadership::new(|| Duration::ZERO, TTL, Duration::ZERO));
            let loaded = Log::load(etcd.clone(), names, term, leadership, None, None);
            assert!(
                matches!(loaded, Err(LoadError::Broken { .. })),
                "without {gone} to {last}"
            );
        }
    }
}
