//! Random histories of random sessions, run against the table and against a model that knows
//! nothing of how the table works: plain maps, and a queue that is a list. Now and then the table is
//! dropped, and another one made of what its store has kept.
//!
//! After each step every answer and the whole visible state must agree. A failing history is
//! shrunk and printed by proptest, and replays. `PROPTEST_CASES=10000` runs more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use elock::model::{
    Circle, Holder, Limit, Limits, Mode, Peer, Secret, SessionId, SessionNumber, Token, Value,
};
use elock::store::Changes;
use elock::table::{
    Detached, Ending, LockTable, Locked, NotHeld, Outcome, Resumed, Session, TokenClock, Unlocked,
};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    locks: 9,
    locks_per_session: 3,
    waiters_per_key: 3,
    sessions_in_grace: 3,
    max_hold: None,
    equal_values_pass: false,
};

/// What one session does next. Sessions are places in a small list, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Open {
        at: usize,
    },
    Lock {
        at: usize,
        key: u8,
        value: Option<u8>,
        wait: bool,
    },
    EndWait {
        at: usize,
        ending: Ending,
    },
    Unlock {
        at: usize,
        key: u8,
    },
    Token {
        at: usize,
        key: u8,
    },
    Lease {
        at: usize,
        key: u8,
        lease_ms: u64,
    },
    UnlockAll {
        at: usize,
    },
    SetGrace {
        at: usize,
        grace_ms: u64,
    },
    AskId {
        at: usize,
    },
    Disconnect {
        at: usize,
    },
    Resume {
        at: usize,
        nth_id: usize,
    },
    Advance {
        by_ms: u64,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..6_usize;
    let key = 0..6_u8;
    let value = prop_oneof![2 => Just(None), 1 => (0..2_u8).prop_map(Some)];
    let ending = prop_oneof![
        Just(Ending::Deadline),
        Just(Ending::Disconnect),
        Just(Ending::Shutdown)
    ];
    prop_oneof![
        3 => at.clone().prop_map(|at| Step::Open { at }),
        12 => (at.clone(), key.clone(), value, any::<bool>())
            .prop_map(|(at, key, value, wait)| Step::Lock { at, key, value, wait }),
        3 => (at.clone(), ending).prop_map(|(at, ending)| Step::EndWait { at, ending }),
        6 => (at.clone(), key.clone()).prop_map(|(at, key)| Step::Unlock { at, key }),
        2 => (at.clone(), key.clone()).prop_map(|(at, key)| Step::Token { at, key }),
        4 => (at.clone(), key, prop_oneof![Just(0), Just(5), Just(10), Just(1000)])
            .prop_map(|(at, key, lease_ms)| Step::Lease { at, key, lease_ms }),
        1 => at.clone().prop_map(|at| Step::UnlockAll { at }),
        1 => (at.clone(), prop_oneof![Just(0), Just(10), Just(1000)])
            .prop_map(|(at, grace_ms)| Step::SetGrace { at, grace_ms }),
        2 => at.clone().prop_map(|at| Step::AskId { at }),
        2 => at.clone().prop_map(|at| Step::Disconnect { at }),
        3 => (at, 0..8_usize).prop_map(|(at, nth_id)| Step::Resume { at, nth_id }),
        2 => prop_oneof![Just(5), Just(10), Just(1000)].prop_map(|by_ms| Step::Advance { by_ms }),
        1 => Just(Step::Restart),
    ]
}

/// The disk of these tests works.
const STORED: &str = "it is stored";

const HOUR: Duration = Duration::from_secs(3600);

fn number_of(holder: &Holder) -> u64 {
    match holder {
        Holder::Session(number) => number.0,
        Holder::Owner(_) => panic!("no owners here"),
    }
}

fn key_bytes(key: u8) -> Vec<u8> {
    vec![b'k', key]
}

fn mode_of(value: Option<u8>) -> Mode {
    value.map_or(Mode::Exclusive, |value| Mode::Shared(Value::new(&[value])))
}

// ---------------------------------------------------------------------------- the model

#[derive(Debug, Default)]
struct Model {
    now_ms: u64,
    last_number: u64,
    sessions: BTreeMap<u64, ModelSession>,
    locks: BTreeMap<u8, ModelLock>,
    /// Everyone who waits, in the order in which they came.
    waiting: Vec<ModelWaiter>,
    leases: Vec<ModelLease>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ModelLease {
    end_ms: u64,
    session: u64,
    key: u8,
    length_ms: u64,
}

#[derive(Debug)]
struct ModelSession {
    grace_ms: u64,
    asked_id: bool,
    grace_ends_ms: Option<u64>,
    /// Keys whose lease ended, until they are locked again.
    lost: BTreeSet<u8>,
}

#[derive(Debug)]
struct ModelLock {
    value: Option<u8>,
    holders: BTreeSet<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct ModelWaiter {
    session: u64,
    key: u8,
    value: Option<u8>,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Acquired,
    Again,
    Busy,
    Conflict,
    Deadlock,
    Full(Limit),
    Waiting,
}

impl Model {
    fn open(&mut self, number: u64) {
        assert!(number > self.last_number, "numbers grow");
        self.last_number = number;
        let session = ModelSession {
            grace_ms: 1000,
            asked_id: false,
            grace_ends_ms: None,
            lost: BTreeSet::new(),
        };
        self.sessions.insert(number, session);
    }

    fn held_by(&self, session: u64) -> Vec<u8> {
        let held = self
            .locks
            .iter()
            .filter(|(_, lock)| lock.holders.contains(&session));
        held.map(|(key, _)| *key).collect()
    }

    fn holds(&self, session: u64, key: u8) -> bool {
        self.held_by(session).contains(&key)
    }

    fn is_waiting(&self, session: u64) -> bool {
        self.waiting.iter().any(|waiter| waiter.session == session)
    }

    /// Whether `goal` is among those who would have to let go before `key` is free.
    fn waits_for(&self, key: u8, goal: u64, seen: &mut BTreeSet<u64>) -> bool {
        let holders = self
            .locks
            .get(&key)
            .map(|lock| lock.holders.clone())
            .unwrap_or_default();
        holders.into_iter().any(|holder| {
            let mut next = self
                .waiting
                .iter()
                .filter(|waiter| waiter.session == holder);
            holder == goal
                || seen.insert(holder) && next.any(|waiter| self.waits_for(waiter.key, goal, seen))
        })
    }

    /// What stands against one more lock of this session, held or waited for.
    fn full(&self, session: u64) -> Option<Answer> {
        let holders: usize = self.locks.values().map(|lock| lock.holders.len()).sum();
        let (of_session, in_all) = (LIMITS.locks_per_session, LIMITS.locks);
        if self.held_by(session).len() >= of_session {
            return Some(Answer::Full(Limit::LocksPerSession { max: of_session }));
        }
        let full = holders + self.waiting.len() >= in_all;
        full.then_some(Answer::Full(Limit::Locks { max: in_all }))
    }

    fn lock(&mut self, session: u64, key: u8, value: Option<u8>, wait: bool) -> Answer {
        let answer = self.ask(session, key, value, wait);
        if answer == Answer::Acquired {
            self.got(&[session], key);
        }
        answer
    }

    fn ask(&mut self, session: u64, key: u8, value: Option<u8>, wait: bool) -> Answer {
        let full = self.full(session);
        let circle = self.waits_for(key, session, &mut BTreeSet::new());
        let waiters = self
            .waiting
            .iter()
            .filter(|waiter| waiter.key == key)
            .count();
        let max = LIMITS.waiters_per_key;
        match self.locks.get_mut(&key) {
            Some(lock) if lock.holders.contains(&session) && lock.value == value => Answer::Again,
            Some(lock) if lock.holders.contains(&session) => Answer::Conflict,
            Some(lock) if value.is_some() && lock.value == value => full.unwrap_or_else(|| {
                lock.holders.insert(session);
                Answer::Acquired
            }),
            None => full.unwrap_or_else(|| {
                self.locks.insert(
                    key,
                    ModelLock {
                        value,
                        holders: [session].into(),
                    },
                );
                Answer::Acquired
            }),
            Some(_) if circle => Answer::Deadlock,
            Some(_) if !wait => Answer::Busy,
            Some(_) if waiters >= max => Answer::Full(Limit::WaitersPerKey { max }),
            Some(_) => full.unwrap_or_else(|| {
                self.waiting.push(ModelWaiter {
                    session,
                    key,
                    value,
                });
                Answer::Waiting
            }),
        }
    }

    fn stop_waiting(&mut self, session: u64) {
        self.waiting.retain(|waiter| waiter.session != session);
    }

    fn set_lease(&mut self, session: u64, key: u8, lease_ms: u64) {
        self.leases
            .retain(|lease| (lease.session, lease.key) != (session, key));
        if lease_ms > 0 {
            self.leases.push(ModelLease {
                end_ms: self.now_ms + lease_ms,
                session,
                key,
                length_ms: lease_ms,
            });
        }
    }

    fn next_lease_over(&self) -> Option<(u64, u8)> {
        let over = |lease: &&ModelLease| lease.end_ms <= self.now_ms;
        let first = self.leases.iter().filter(over).min();
        first.map(|lease| (lease.session, lease.key))
    }

    /// Nobody is connected any more, and all times begin anew.
    #[cfg(feature = "store")]
    fn restart(&mut self) {
        self.waiting.clear();
        for lease in &mut self.leases {
            lease.end_ms = self.now_ms + lease.length_ms;
        }
        let holders: BTreeSet<u64> = self
            .locks
            .values()
            .flat_map(|lock| lock.holders.iter().copied())
            .collect();
        self.sessions
            .retain(|number, session| session.asked_id || holders.contains(number));
        // The numbers of those that left no trace may come again.
        self.last_number = self.sessions.keys().copied().max().unwrap_or(0);
        for session in self.sessions.values_mut() {
            session.lost.clear();
            session.grace_ends_ms = Some(self.now_ms + session.grace_ms);
        }
    }

    fn why_not_held(&self, session: u64, key: u8) -> NotHeld {
        if self.sessions[&session].lost.contains(&key) {
            return NotHeld::Expired;
        }
        match self.locks.contains_key(&key) {
            true => NotHeld::NotYours,
            false => NotHeld::NotLocked,
        }
    }

    /// Notes who got a key, so that it does not count as lost any more.
    fn got(&mut self, sessions: &[u64], key: u8) {
        for session in sessions {
            if let Some(session) = self.sessions.get_mut(session) {
                session.lost.remove(&key);
            }
        }
    }

    /// Returns who got the lock.
    fn unlock(&mut self, session: u64, key: u8) -> Vec<u64> {
        self.set_lease(session, key, 0);
        let granted = self.hand_over(session, key);
        self.got(&granted, key);
        granted
    }

    fn hand_over(&mut self, session: u64, key: u8) -> Vec<u64> {
        let lock = self.locks.get_mut(&key).expect("it is held");
        lock.holders.remove(&session);
        if !lock.holders.is_empty() {
            return Vec::new();
        }
        let Some(first) = self
            .waiting
            .iter()
            .find(|waiter| waiter.key == key)
            .copied()
        else {
            self.locks.remove(&key);
            return Vec::new();
        };
        let is_let_in = |waiter: &ModelWaiter| {
            waiter.key == key
                && match first.value {
                    None => waiter.session == first.session,
                    value => waiter.value == value,
                }
        };
        let (granted, still): (Vec<_>, Vec<_>) =
            self.waiting.iter().partition(|waiter| is_let_in(waiter));
        self.waiting = still;
        let granted: Vec<u64> = granted.iter().map(|waiter| waiter.session).collect();
        *lock = ModelLock {
            value: first.value,
            holders: granted.iter().copied().collect(),
        };
        granted
    }

    fn unlock_all(&mut self, session: u64) -> Vec<u64> {
        self.held_by(session)
            .into_iter()
            .flat_map(|key| self.unlock(session, key))
            .collect()
    }

    fn in_grace(&self) -> usize {
        self.sessions
            .values()
            .filter(|session| session.grace_ends_ms.is_some())
            .count()
    }

    /// Whether one more session fits; those that hold nothing get half of the room.
    fn has_room(&self, number: u64) -> bool {
        let max = LIMITS.sessions_in_grace;
        let max = if self.held_by(number).is_empty() {
            max / 2
        } else {
            max
        };
        self.in_grace() < max
    }

    /// True if the session goes on in its grace period.
    fn detach(&mut self, number: u64) -> bool {
        let holds_something = !self.held_by(number).is_empty();
        let room = self.has_room(number);
        let session = self.sessions.get_mut(&number).expect("it is there");
        let survives = session.grace_ms > 0 && (holds_something || session.asked_id) && room;
        match survives {
            true => session.grace_ends_ms = Some(self.now_ms + session.grace_ms),
            false => drop(self.sessions.remove(&number)),
        }
        survives
    }

    fn resume(&mut self, own: u64, wanted: u64) -> bool {
        if own == wanted {
            return true;
        }
        if !self.held_by(own).is_empty() {
            return false;
        }
        let now_ms = self.now_ms;
        match self.sessions.get_mut(&wanted) {
            Some(session) if session.grace_ends_ms.is_some_and(|end| end > now_ms) => {
                session.grace_ends_ms = None;
                self.sessions.remove(&own);
                true
            }
            _ => false,
        }
    }

    fn next_expired(&self) -> Option<u64> {
        let over =
            |session: &ModelSession| session.grace_ends_ms.is_some_and(|end| end <= self.now_ms);
        self.sessions
            .iter()
            .find(|(_, session)| over(session))
            .map(|(number, _)| *number)
    }
}

// ---------------------------------------------------------------------------- both side by side

struct Both {
    model: Model,
    table: LockTable,
    start: Instant,
    sessions: [Option<Session>; 6],
    ids: Vec<(u64, SessionId)>,
    /// What the table showed last, by session and key, and the largest of all.
    tokens: BTreeMap<(u64, u8), Token>,
    last_token: Token,
    #[cfg(feature = "store")]
    store: Option<Store>,
}

#[cfg(feature = "store")]
struct Store {
    directory: tempfile::TempDir,
    writer: elock::store::Writer,
}

impl Both {
    fn new() -> Self {
        Self {
            model: Model::default(),
            table: LockTable::new(LIMITS, TokenClock::default(), Changes::default()),
            start: Instant::now(),
            sessions: Default::default(),
            ids: Vec::new(),
            tokens: BTreeMap::new(),
            last_token: Token(0),
            #[cfg(feature = "store")]
            store: None,
        }
    }

    /// With a store in a directory of its own.
    #[cfg(feature = "store")]
    fn stored() -> Self {
        let mut both = Self::new();
        both.start_on(tempfile::tempdir().expect("a directory"));
        both
    }

    #[cfg(feature = "store")]
    fn start_on(&mut self, directory: tempfile::TempDir) {
        let opened = elock::store::disk::open(directory.path());
        let (storage, restored) = opened.expect("it was free");
        let (changes, writer) = Changes::to(storage).expect("a thread");
        let table =
            LockTable::restore(LIMITS, TokenClock::default(), changes, restored, self.now());
        self.table = table.expect("no contradiction").0;
        self.store = Some(Store { directory, writer });
    }

    /// Everything but the store is gone at once; it is asked to write before that.
    #[cfg(feature = "store")]
    fn restart(&mut self) {
        let Some(Store { directory, writer }) = self.store.take() else {
            return;
        };
        self.sessions = Default::default();
        writer.finish().expect("the disk works");
        self.model.restart();
        self.start_on(directory);
        // Some grace periods are over at once.
        self.advance(0);
    }

    #[cfg(not(feature = "store"))]
    fn restart(&mut self) {}

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.model.now_ms)
    }

    /// Runs the step if the session that it is for can take one.
    fn run(&mut self, step: &Step) {
        match *step {
            Step::Open { at } => self.open(at),
            Step::Advance { by_ms } => self.advance(by_ms),
            Step::Restart => self.restart(),
            Step::Lock { at, .. }
            | Step::EndWait { at, .. }
            | Step::Unlock { at, .. }
            | Step::Token { at, .. }
            | Step::Lease { at, .. }
            | Step::UnlockAll { at }
            | Step::SetGrace { at, .. }
            | Step::AskId { at }
            | Step::Disconnect { at }
            | Step::Resume { at, .. } => {
                if let Some(session) = self.sessions[at].take() {
                    self.sessions[at] = self.run_session(session, step);
                }
            }
        }
    }

    fn run_session(&mut self, mut session: Session, step: &Step) -> Option<Session> {
        let number = session.number().0;
        let waits = self.table.is_waiting(&session);
        assert_eq!(waits, self.model.is_waiting(number));
        match *step {
            Step::EndWait { ending, .. } if waits => self.end_wait(&mut session, ending),
            Step::Disconnect { .. } => {
                if waits {
                    self.end_wait(&mut session, Ending::Disconnect);
                }
                self.disconnect(session);
                return None;
            }
            _ if waits => {}
            Step::Lock {
                key, value, wait, ..
            } => self.lock(&mut session, key, value, wait),
            Step::Unlock { key, .. } => self.unlock(&mut session, key),
            Step::Token { key, .. } => self.token(&mut session, key),
            Step::Lease { key, lease_ms, .. } => self.lease(&mut session, key, lease_ms),
            Step::UnlockAll { .. } => {
                let granted = self.model.unlock_all(number);
                let left = self.table.unlock_some(&mut session, usize::MAX, self.now());
                assert_eq!(left.value, 0);
                self.settle_granted(&granted);
            }
            Step::SetGrace { grace_ms, .. } => {
                let grace = Duration::from_millis(grace_ms);
                let set = self.table.set_grace(&mut session, grace);
                let Outcome { value: (), .. } = set.expect(STORED);
                self.model
                    .sessions
                    .get_mut(&number)
                    .expect("it is there")
                    .grace_ms = grace_ms;
            }
            Step::AskId { .. } => {
                let secret = Secret(self.ids.len() as u128);
                let id = self.table.session_id(&mut session, || Ok::<_, ()>(secret));
                let id = id.expect(STORED).expect("it was drawn").value;
                self.model
                    .sessions
                    .get_mut(&number)
                    .expect("it is there")
                    .asked_id = true;
                match self.ids.iter().find(|(known, _)| *known == number) {
                    Some((_, known)) => assert_eq!(*known, id, "an id does not change"),
                    None => self.ids.push((number, id)),
                }
            }
            Step::Resume { nth_id, .. } => self.resume(&mut session, nth_id),
            Step::Open { .. } | Step::EndWait { .. } | Step::Advance { .. } | Step::Restart => {}
        }
        Some(session)
    }

    fn open(&mut self, at: usize) {
        if self.sessions[at].is_none() {
            let session = self
                .table
                .open(Peer::Unix(None), Duration::from_millis(1000));
            self.model.open(session.number().0);
            self.sessions[at] = Some(session);
        }
    }

    fn lock(&mut self, session: &mut Session, key: u8, value: Option<u8>, wait: bool) {
        let number = session.number().0;
        let (bytes, ask) = (key_bytes(key), mode_of(value).into());
        let answer = match wait {
            true => self.table.acquire(session, &bytes, &ask, HOUR, self.now()),
            false => self.table.try_acquire(session, &bytes, &ask, self.now()),
        };
        let answer = answer.expect(STORED).value;
        if let Locked::Deadlock(circle) = &answer {
            self.assert_true_circle(number, key, circle);
        }
        let answer = match answer {
            Locked::Acquired => Answer::Acquired,
            Locked::Again => Answer::Again,
            Locked::Busy => Answer::Busy,
            Locked::Conflict => Answer::Conflict,
            Locked::Deadlock(_) => Answer::Deadlock,
            Locked::Full(limit) => Answer::Full(limit),
            Locked::Waiting => Answer::Waiting,
            Locked::Stopping => unreachable!("nothing stops"),
        };
        assert_eq!(answer, self.model.lock(number, key, value, wait));
    }

    fn assert_true_circle(&self, requester: u64, key: u8, circle: &Circle) {
        let steps = circle.steps();
        assert_eq!(steps[0].key.as_bytes(), key_bytes(key));
        for (index, step) in steps.iter().enumerate() {
            let (waiter, key) = (step.waiter.0, step.key.as_bytes()[1]);
            if index == 0 {
                assert_eq!(waiter, requester);
            } else {
                let edge = |edge: &ModelWaiter| edge.session == waiter && edge.key == key;
                assert!(
                    self.model.waiting.iter().any(edge),
                    "#{waiter} waits for {key}"
                );
            }
            let next = steps.get(index + 1).map_or(requester, |next| next.waiter.0);
            assert!(self.model.holds(next, key), "#{next} holds {key}");
        }
    }

    fn end_wait(&mut self, session: &mut Session, ending: Ending) {
        let wait = self.table.wait(session).expect("it waits");
        let answer = wait.end(
            ending,
            self.start + Duration::from_millis(self.model.now_ms),
        );
        let left = Locked::Busy;
        assert_eq!(
            answer.value, left,
            "granted waits are ended at once by this test"
        );
        self.model.stop_waiting(session.number().0);
    }

    fn unlock(&mut self, session: &mut Session, key: u8) {
        let number = session.number().0;
        let answer = self
            .table
            .unlock(session, &key_bytes(key), None, self.now());
        let answer = answer.expect(STORED).value;
        if self.model.holds(number, key) {
            let granted = self.model.unlock(number, key);
            let passed_on = !granted.is_empty();
            assert_eq!(answer, Unlocked::Released { passed_on });
            self.settle_granted(&granted);
        } else {
            let why = self.model.why_not_held(number, key);
            assert_eq!(answer, Unlocked::NotHeld(why));
        }
    }

    /// Who asks for the token learns whether it lost the lock, and a token never falls.
    fn token(&mut self, session: &mut Session, key: u8) {
        let number = session.number().0;
        let answer = self.table.token(session, &key_bytes(key), None);
        let answer = answer.value;
        match self.model.holds(number, key) {
            true => assert_eq!(answer.ok(), self.tokens.get(&(number, key)).copied()),
            false => assert_eq!(answer, Err(self.model.why_not_held(number, key))),
        }
    }

    fn lease(&mut self, session: &mut Session, key: u8, lease_ms: u64) {
        let number = session.number().0;
        let lease = (lease_ms > 0).then(|| Duration::from_millis(lease_ms));
        let answer = self
            .table
            .set_lease(session, &key_bytes(key), None, lease, self.now());
        let answer = answer.expect(STORED).value;
        if self.model.holds(number, key) {
            assert_eq!(answer, Ok(()));
            self.model.set_lease(number, key, lease_ms);
        } else {
            assert_eq!(answer, Err(self.model.why_not_held(number, key)));
        }
    }

    fn end_leases(&mut self) {
        let (mut over, mut granted) = (0, Vec::new());
        while let Some((session, key)) = self.model.next_lease_over() {
            granted.extend(self.model.unlock(session, key));
            if let Some(session) = self.model.sessions.get_mut(&session) {
                session.lost.insert(key);
            }
            over += 1;
        }
        let (_, ended) = self.table.end_leases(self.now(), usize::MAX);
        assert_eq!(ended.len(), over);
        self.settle_granted(&granted);
        let next = self.model.leases.iter().map(|lease| lease.end_ms).min();
        let next = next.map(|end| self.start + Duration::from_millis(end));
        assert_eq!(self.table.next_lease_end(), next);
    }

    /// Those who the model says got the lock find that they have it.
    fn settle_granted(&mut self, granted: &[u64]) {
        let now = self.now();
        for session in self.sessions.iter_mut().flatten() {
            if granted.contains(&session.number().0) {
                let wait = self.table.wait(session).expect("it waits");
                assert_eq!(wait.end(Ending::Granted, now).value, Locked::Acquired);
            }
        }
    }

    fn disconnect(&mut self, session: Session) {
        let number = session.number().0;
        let (room, grace_ms) = (
            self.model.has_room(number),
            self.model.sessions[&number].grace_ms,
        );
        let granted = if self.model.detach(number) {
            Vec::new()
        } else {
            self.model.unlock_all(number)
        };
        match self.table.detach(session, self.now()) {
            Detached::InGrace(grace) => {
                assert!(self.model.sessions.contains_key(&number));
                assert_eq!(grace.ends, self.now() + Duration::from_millis(grace_ms));
            }
            Detached::Over(mut session) => {
                assert!(!self.model.sessions.contains_key(&number));
                let left = self.table.unlock_some(&mut session, usize::MAX, self.now());
                assert_eq!(left.value, 0);
            }
            Detached::NoRoom { mut session, .. } => {
                assert!(!self.model.sessions.contains_key(&number) && !room);
                let left = self.table.unlock_some(&mut session, usize::MAX, self.now());
                assert_eq!(left.value, 0);
            }
            Detached::Stopping => unreachable!("nothing stops"),
        }
        self.settle_granted(&granted);
    }

    fn resume(&mut self, session: &mut Session, nth_id: usize) {
        let Some(&(wanted, id)) = self.ids.get(nth_id) else {
            return;
        };
        let own = session.number().0;
        let guessed = id.to_string().replace('-', "-f").into_bytes();
        let guessed = SessionId::parse(&guessed[..guessed.len() - 1]).expect("an id by its form");
        assert!(
            matches!(
                self.table.resume(session, guessed, self.now()),
                Resumed::No(_)
            ),
            "a guess is refused"
        );
        let resumed = matches!(self.table.resume(session, id, self.now()), Resumed::Yes(_));
        assert_eq!(
            resumed,
            self.model.resume(own, wanted),
            "#{own} resumes #{wanted}"
        );
        assert_eq!(session.number().0, if resumed { wanted } else { own });
        let held = self.model.held_by(session.number().0);
        assert!(session.held() >= held.len());
    }

    fn advance(&mut self, by_ms: u64) {
        self.model.now_ms += by_ms;
        self.end_leases();
        while let Some(number) = self.model.next_expired() {
            let granted = self.model.unlock_all(number);
            self.model.sessions.remove(&number);
            let number = SessionNumber(number);
            let ended = self.table.end_grace(number, self.now());
            let (mut session, _) = ended.expect("its time is over");
            let left = self.table.unlock_some(&mut session, usize::MAX, self.now());
            assert_eq!(left.value, 0);
            self.settle_granted(&granted);
        }
        for view in self.table.session_views() {
            assert!(
                self.table.end_grace(view.number, self.now()).is_none(),
                "{view:?} lives on"
            );
        }
    }

    /// A hold keeps its token, and every new hold has one above all that there were before.
    fn assert_tokens_grow(&mut self) {
        let mut seen = BTreeMap::new();
        let before = self.last_token;
        for key in self.table.keys() {
            let view = self
                .table
                .lock_view(key.as_bytes(), usize::MAX)
                .expect("it is held");
            for (holder, token) in view.holders {
                let place = (number_of(&holder), key.as_bytes()[1]);
                let kept = self.tokens.get(&place) == Some(&token);
                assert!(
                    kept || token > before,
                    "{place:?} has {token} after {before}"
                );
                self.last_token = self.last_token.max(token);
                seen.insert(place, token);
            }
        }
        self.tokens = seen;
    }

    fn assert_same_state(&self) {
        let keys = self.table.keys();
        let expected: Vec<Vec<u8>> = self.model.locks.keys().map(|key| key_bytes(*key)).collect();
        let actual: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        assert_eq!(actual, expected);
        assert_eq!(self.table.held(), expected.len());
        for (key, (number, lock)) in keys.iter().zip(&self.model.locks) {
            let view = self
                .table
                .lock_view(key.as_bytes(), usize::MAX)
                .expect("it is held");
            let holders: Vec<u64> = view
                .holders
                .iter()
                .map(|(holder, _)| number_of(holder))
                .collect();
            assert_eq!(holders, lock.holders.iter().copied().collect::<Vec<_>>());
            assert_eq!(view.mode, mode_of(lock.value));
            let waiters = self
                .model
                .waiting
                .iter()
                .filter(|waiter| waiter.key == *number);
            assert_eq!(view.waiters, waiters.count());
        }
        let waiting: Vec<u64> = self
            .table
            .waiters()
            .iter()
            .map(|waiter| waiter.session().0)
            .collect();
        let expected: Vec<u64> = self
            .model
            .waiting
            .iter()
            .map(|waiter| waiter.session)
            .collect();
        assert_eq!(waiting, expected);
        for (view, (number, session)) in self.table.session_views().iter().zip(&self.model.sessions)
        {
            let ends = session
                .grace_ends_ms
                .map(|end| self.start + Duration::from_millis(end));
            assert_eq!((view.number.0, view.grace_ends), (*number, ends));
            assert_eq!(view.grace, Duration::from_millis(session.grace_ms));
        }
        let all = self.model.sessions.len();
        assert_eq!(
            self.table.session_counts(),
            (all, all - self.model.in_grace())
        );
        for session in self.sessions.iter().flatten() {
            // It may not have noticed a loss yet, but it never misses what it has.
            assert!(session.held() >= self.model.held_by(session.number().0).len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_table_does_what_the_model_does(history in prop::collection::vec(step(), 1..300)) {
        run(Both::new(), &history);
    }

    #[cfg(feature = "store")]
    #[test]
    fn so_it_does_when_it_is_restarted(history in prop::collection::vec(step(), 1..300)) {
        run(Both::stored(), &history);
    }
}

fn run(mut both: Both, history: &[Step]) {
    for step in history {
        both.run(step);
        both.assert_tokens_grow();
        both.assert_same_state();
    }
}
