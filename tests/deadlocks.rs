//! Deadlocks, judged by an oracle that knows nothing of the wait-for graph. It is told what the test
//! did and what was answered, and plays on from there, to see whether a wait could ever end.
//!
//! Random histories meet the table. Each request that finds its lock busy is judged before the table
//! is asked, and the table must answer what the oracle says. A failing history is shrunk and printed
//! by proptest, and replays. `PROPTEST_CASES=20000` runs more of them.
//!
//! # The play
//!
//! Nobody outside helps. A session that does not wait may release what it holds, and with it what it
//! took for owner words; a lock of an owner whose taker is over may be released by anyone; a lock of
//! an owner whose lease ends before the requester's wait does may be, too. Queues advance by the
//! rules. Other waits have no deadlines. The requester stands still at the end of its queue. If it
//! still waits when nothing can move any more, it is stuck.
//!
//! Who waits for nothing but the hold of its own owner word stands beside the line: it is passed, and
//! when that hold goes while others stay, it comes in alone.
//!
//! It is enough to play once, and to release each hold as soon as that is possible, in any order, where
//! all requests for a key name the same number of slots. Say that one play lets in the requests a, b,
//! c, ... one after the other, and take another play that was played to its end, and let x be the first
//! that is let in there and not here. Everyone who is let in releases at once. So all holds that were
//! gone there when x was let in are gone at the end here, and the holders left here were holders there,
//! too. There are two ways in which x was let in there:
//!
//! - The lock was empty. Then it is empty here, too, and nobody waits for an empty lock.
//! - Some holders were left, and x was the first in line: those before it had been let in, or waited for
//!   their own owners' holds. Company does not come in that way, as a request by value that comes first
//!   has waited for such a hold, and comes alone. Here, those before x that still wait wait for their
//!   own owners' holds, or these are gone. So the first in line here is x, or one of these, and goes
//!   with the holders, who are no more than there: it is let in, which contradicts the end of the play.
//!
//! # The verdict
//!
//! A requester that is stuck is in a deadlock of its own making if it is still stuck when everyone who
//! does not wait for it is helped out of the queue. Otherwise the circle was there before.
//!
//! # What the table does not see
//!
//! Each of these is counted, and everything else fails. For the first kind the oracle plays by a second
//! [rule](Game::known_end), too, by which the table must answer.
//!
//! 1. Requests for one key that name different numbers of slots: one of them may have to wait for more
//!    than one holder, while the table takes any holder for enough: [as if](Lock::slots_at_least) each
//!    request named at least as many slots as there are holders.
//! 2. A deadlock that is there already and was not seen when it came about: by the first kind, or
//!    because a lease of an owner's lock was made longer after the walk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use elock::model::{
    Ask, AskedFor, Circle, Holder, Key, Limits, Mode, Peer, SessionNumber, Token, Value,
};
use elock::store::Changes;
use elock::table::{
    Claim, Ending, Grant, LockTable, Locked, Outcome, Session, TokenClock, Unlocked,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

// ---------------------------------------------------------------------------- what the test knows

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Session(u64),
    Owner(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Alone,
    ByValue(u8),
    Slot(u32),
}

/// What a session asks for, or waits for.
#[derive(Debug, Clone, Copy)]
struct Request {
    session: u64,
    who: Who,
    how: How,
    lease_ms: Option<u64>,
    with_others: bool,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    who: Who,
    taker: u64,
    ends_ms: Option<u64>,
    /// Whether it is held while a request for several keys still waits for the next.
    with_others: bool,
    /// Grants count up.
    serial: u64,
}

#[derive(Debug, Clone)]
struct Lock {
    /// How it is held, if it is.
    how: How,
    holds: Vec<Hold>,
    queue: Vec<Request>,
    /// Each request counts as if it named at least so many slots.
    slots_at_least: usize,
}

/// What keeps a request from being let in.
#[derive(Debug, Clone, Copy)]
enum Obstacle {
    Nothing,
    /// The hold of its own owner word alone: an owner holds a key once.
    OwnOwner(Hold),
    /// All slots are taken.
    NoSlot,
    /// Each hold is of another kind or value, or exclusive.
    EachHold,
}

impl Lock {
    fn free() -> Self {
        Self {
            how: How::Alone,
            holds: Vec::new(),
            queue: Vec::new(),
            slots_at_least: 0,
        }
    }

    fn hold_of(&self, who: Who) -> Option<&Hold> {
        self.holds.iter().find(|hold| hold.who == who)
    }

    /// The holds that keep a request from being let in, apart from the queue.
    fn in_the_way_of(&self, request: &Request) -> Vec<Hold> {
        match self.obstacle(request) {
            Obstacle::Nothing => Vec::new(),
            Obstacle::OwnOwner(hold) => vec![hold],
            Obstacle::NoSlot | Obstacle::EachHold => self.holds.clone(),
        }
    }

    fn obstacle(&self, request: &Request) -> Obstacle {
        let is_alike = match (self.how, request.how) {
            (How::ByValue(held), How::ByValue(asked)) => held == asked,
            (How::Slot(_), How::Slot(_)) => true,
            _ => false,
        };
        let slots = match request.how {
            How::Slot(slots) => self.slots_at_least.max(slots as usize),
            _ => usize::MAX,
        };
        match self.hold_of(request.who) {
            _ if self.holds.is_empty() => Obstacle::Nothing,
            _ if !is_alike => Obstacle::EachHold,
            Some(own) => Obstacle::OwnOwner(*own),
            None if self.holds.len() >= slots => Obstacle::NoSlot,
            None => Obstacle::Nothing,
        }
    }

    /// The holds that must go before a waiting session is let in, each with the request that it is in
    /// the way of: the session's own, which come first, or one of those that stand in line before it.
    /// Where the own hold of an owner must go, a slot is free once it has gone, so that nobody waits for
    /// a slot beside that.
    fn obstacles_up_to(&self, session: u64) -> Vec<(Request, Hold)> {
        let is_it = |one: &Request| one.session == session;
        let place = self.queue.iter().position(is_it).expect("it waits");
        let request = self.queue[place];
        let needs_no_slot = matches!(self.obstacle(&request), Obstacle::OwnOwner(_));
        let stands_before = |one: &&Request| match self.obstacle(one) {
            Obstacle::OwnOwner(_) => false,
            Obstacle::NoSlot => !needs_no_slot,
            Obstacle::Nothing | Obstacle::EachHold => true,
        };
        let before = self.queue[..place].iter().filter(stands_before).rev();
        let obstacles_of = |one: &Request| {
            let one = *one;
            let holds = self.in_the_way_of(&one).into_iter();
            holds.map(move |hold| (one, hold))
        };
        let all = [&request].into_iter().chain(before);
        all.flat_map(obstacles_of).collect()
    }

    fn admits(&self, request: &Request) -> bool {
        self.in_the_way_of(request).is_empty()
    }

    fn add(&mut self, request: &Request, hold: Hold) {
        self.how = request.how;
        self.holds.push(hold);
    }

    /// The first who waits, but for those who wait for nothing but their own owners' holds.
    fn first_in_line(&self) -> Option<Request> {
        let stands_in_line = |one: &&Request| !matches!(self.obstacle(one), Obstacle::OwnOwner(_));
        self.queue.iter().find(stands_in_line).copied()
    }

    /// Takes a holder off, and lets in those whose turn it is then.
    fn release(&mut self, who: Who, grant: impl FnMut(&Request) -> Hold) -> Vec<Request> {
        self.holds.retain(|hold| hold.who != who);
        let comes_alone = (!self.holds.is_empty()).then_some(who);
        self.let_in(comes_alone, grant)
    }

    /// Lets in the first in line while it is admitted, and all with its value along with it, if it is
    /// not for this holder that `comes_alone`.
    fn let_in(
        &mut self,
        comes_alone: Option<Who>,
        mut grant: impl FnMut(&Request) -> Hold,
    ) -> Vec<Request> {
        let mut let_in = Vec::new();
        while let Some(first) = self.first_in_line()
            && self.admits(&first)
        {
            let has_company =
                matches!(first.how, How::ByValue(_)) && comes_alone != Some(first.who);
            let (mut stay, mut come) = (Vec::new(), Vec::new());
            for next in std::mem::take(&mut self.queue) {
                let is_meant =
                    next.session == first.session || (has_company && next.how == first.how);
                if is_meant && self.admits(&next) {
                    self.add(&next, grant(&next));
                    come.push(next);
                } else {
                    stay.push(next);
                }
            }
            assert!(!come.is_empty(), "each round lets someone in: {first:?}");
            self.queue = stay;
            let_in.extend(come);
        }
        let_in
    }
}

// ---------------------------------------------------------------------------- the oracle

/// A copy of the locks, to play with.
#[derive(Debug, Clone)]
struct Game {
    locks: Vec<Lock>,
    requester: u64,
    until_ms: u64,
    /// Sessions that somebody helped, so that they go on although they stand in a queue.
    helped: BTreeSet<u64>,
}

/// How a wait ends if nobody outside helps.
#[derive(Debug, Clone, PartialEq)]
enum End {
    /// With the lock.
    Granted,
    /// Never, because of a circle that the requester is no part of.
    StuckBehindOthers,
    /// Never, because of this circle.
    Deadlock(Vec<Edge>),
}

/// That a session waits for another, which holds the key or took it for an owner.
#[derive(Debug, Clone, PartialEq)]
struct Edge {
    waiter: u64,
    key: usize,
    stands_for_hold: u64,
    kinds: BTreeSet<Kind>,
}

/// What makes a deadlock hard to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Exclusive,
    Shared,
    Slot,
    /// A request for a slot, where all of several holders are stuck.
    AllOfSeveralSlots,
    Owner,
    SeveralKeys,
    ThroughTheQueue,
    /// A circle of one session.
    OfOne,
}

impl Game {
    /// With the requester at the end of its queue.
    fn new(locks: &[Lock], key: usize, request: Request, until_ms: u64) -> Self {
        let mut locks = locks.to_vec();
        locks[key].queue.push(request);
        Self {
            locks,
            requester: request.session,
            until_ms,
            helped: BTreeSet::new(),
        }
    }

    /// By the rule that any holder of a slot is enough to wait for.
    fn any_slot_is_enough(mut self) -> Self {
        for lock in &mut self.locks {
            lock.slots_at_least = lock.holds.len();
        }
        self
    }

    /// What the table knows of the end.
    fn known_end(&self) -> End {
        self.clone().any_slot_is_enough().end()
    }

    fn end(mut self) -> End {
        self.play();
        if !self.waits(self.requester) {
            return End::Granted;
        }
        loop {
            let stuck = self.those_that_wait_for_the_requester();
            if !stuck.contains(&self.requester) {
                return End::StuckBehindOthers;
            }
            let waiting = self.locks.iter().flat_map(|lock| &lock.queue);
            let others = waiting
                .map(|one| one.session)
                .filter(|one| !stuck.contains(one));
            let helped_before = self.helped.len();
            self.helped.extend(others.collect::<Vec<_>>());
            if self.helped.len() == helped_before {
                return End::Deadlock(self.shortest_circle());
            }
            self.play();
            if !self.waits(self.requester) {
                return End::StuckBehindOthers;
            }
        }
    }

    /// Goes on until nothing moves. Each round ends a hold, and each request becomes one at most, so that
    /// there are no more rounds than holds and requests.
    fn play(&mut self) {
        while let Some((key, who)) = self.next_to_be_released() {
            let grant = |request: &Request| hold_of(request, None, 0);
            self.locks[key].release(who, grant);
        }
    }

    fn waits(&self, session: u64) -> bool {
        let is_it = |one: &Request| one.session == session;
        !self.helped.contains(&session)
            && self.locks.iter().any(|lock| lock.queue.iter().any(is_it))
    }

    fn may_be_released(&self, hold: &Hold) -> bool {
        match hold.who {
            Who::Session(session) => !self.waits(session),
            Who::Owner(_) => {
                let ends_in_time = hold.ends_ms.is_some_and(|end| end < self.until_ms);
                ends_in_time || !self.waits(hold.taker)
            }
        }
    }

    fn next_to_be_released(&self) -> Option<(usize, Who)> {
        let of_lock = |(key, lock): (usize, &Lock)| {
            let next = lock.holds.iter().find(|hold| self.may_be_released(hold));
            next.map(|hold| (key, hold.who))
        };
        self.locks.iter().enumerate().find_map(of_lock)
    }

    /// Whom a waiting session waits for, in a game in which nothing moves. What is in its own way comes
    /// first.
    fn edges_of(&self, session: u64) -> Vec<Edge> {
        let is_it = |one: &Request| one.session == session;
        let waits_here = |lock: &&Lock| lock.queue.iter().any(is_it);
        let places = self.locks.iter().enumerate();
        let mut edges = Vec::new();
        for (key, lock) in places.filter(|(_, lock)| waits_here(lock)) {
            for (one, hold) in lock.obstacles_up_to(session) {
                edges.push(edge(session, key, lock, &one, &hold));
            }
        }
        edges
    }

    fn those_that_wait_for_the_requester(&self) -> BTreeSet<u64> {
        let waiting = self.locks.iter().flat_map(|lock| &lock.queue);
        let edges: Vec<Edge> = waiting.flat_map(|one| self.edges_of(one.session)).collect();
        let mut found = BTreeSet::new();
        loop {
            let leads_there = |edge: &&Edge| {
                edge.stands_for_hold == self.requester || found.contains(&edge.stands_for_hold)
            };
            let more = edges.iter().filter(leads_there).map(|edge| edge.waiter);
            let all: BTreeSet<u64> = more.collect();
            if all.len() == found.len() {
                return found;
            }
            found = all;
        }
    }

    fn shortest_circle(&self) -> Vec<Edge> {
        let mut ways = VecDeque::from([Vec::new()]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            let end = way
                .last()
                .map_or(self.requester, |edge: &Edge| edge.stands_for_hold);
            for edge in self.edges_of(end) {
                let next = edge.stands_for_hold;
                let longer = || way.iter().cloned().chain([edge.clone()]).collect();
                if next == self.requester {
                    return longer();
                }
                if seen.insert(next) {
                    ways.push_back(longer());
                }
            }
        }
        panic!("everyone left waits for the requester")
    }
}

fn hold_of(request: &Request, ends_ms: Option<u64>, serial: u64) -> Hold {
    Hold {
        who: request.who,
        taker: request.session,
        ends_ms,
        with_others: request.with_others,
        serial,
    }
}

/// That `waiter` cannot be let in before `hold` is gone, which is in the way of `request`: its own, or
/// one before it.
fn edge(waiter: u64, key: usize, lock: &Lock, request: &Request, hold: &Hold) -> Edge {
    let mut kinds = BTreeSet::from([match lock.how {
        How::Alone => Kind::Exclusive,
        How::ByValue(_) => Kind::Shared,
        How::Slot(_) => Kind::Slot,
    }]);
    let waits_for_slot = matches!((lock.how, request.how), (How::Slot(_), How::Slot(_)));
    let is_owned = matches!(hold.who, Who::Owner(_));
    let further = [
        (
            Kind::AllOfSeveralSlots,
            waits_for_slot && lock.holds.len() > 1,
        ),
        (Kind::Owner, is_owned),
        (Kind::SeveralKeys, hold.with_others),
        (Kind::ThroughTheQueue, request.session != waiter),
        (Kind::OfOne, hold.taker == waiter),
    ];
    kinds.extend(
        further
            .iter()
            .filter(|(_, is_so)| *is_so)
            .map(|(kind, _)| kind),
    );
    Edge {
        waiter,
        key,
        stands_for_hold: hold.taker,
        kinds,
    }
}

// ---------------------------------------------------------------------------- histories

/// Sessions and keys are places in lists, taken modulo their lengths, so that they meet.
#[derive(Debug, Clone)]
struct History {
    sessions: usize,
    keys: usize,
    /// Which key is mostly used in which way.
    turn: usize,
    /// Whether requests name different numbers of slots.
    mixes_slots: bool,
    /// Whether the keys are few, and most requests are by one value and for owners.
    shares_most: bool,
    equal_values_pass: bool,
    /// Whether sessions learn late that they were let in.
    learns_late: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Ask {
        at: usize,
        key: usize,
        how: Option<How>,
        slots: u32,
        owner: Option<(u8, Option<u64>)>,
        wait_ms: Option<u64>,
    },
    AskForSeveral {
        at: usize,
        keys: BTreeSet<usize>,
        wait_ms: Option<u64>,
    },
    EndWait {
        at: usize,
    },
    Unlock {
        at: usize,
        nth: usize,
    },
    /// By any session.
    UnlockOwner {
        at: usize,
        nth: usize,
    },
    Lease {
        at: usize,
        nth: usize,
        of_owner: bool,
        lease_ms: Option<u64>,
    },
    SetMode {
        at: usize,
        nth: usize,
        of_owner: bool,
        value: Option<u8>,
    },
    Disconnect {
        at: usize,
    },
    Advance {
        by_ms: u64,
        leases_end: bool,
    },
}

const LONG_MS: u64 = 100_000;

fn time_ms() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(5)),
        1 => Just(Some(50)),
        2 => Just(Some(LONG_MS)),
    ]
}

fn how() -> impl Strategy<Value = Option<How>> {
    prop_oneof![
        12 => Just(None),
        2 => Just(Some(How::Alone)),
        3 => (0..2_u8).prop_map(|value| Some(How::ByValue(value))),
        2 => Just(Some(How::Slot(2))),
    ]
}

fn step(shares_most: bool) -> impl Strategy<Value = Step> {
    let (at, nth, of_owner) = (0..8_usize, 0..8_usize, any::<bool>());
    let (keys, owners, of_owners, unlocks) = match shares_most {
        true => (2_usize, 2_u8, 3, 6),
        false => (5, 3, 1, 1),
    };
    let owner = (0..owners, time_ms()).prop_map(Some);
    let owner = prop_oneof![3 => Just(None), of_owners => owner];
    prop_oneof![
        24 => (at.clone(), 0..keys, how(), 1..4_u32, owner, time_ms())
            .prop_map(|(at, key, how, slots, owner, wait_ms)| Step::Ask { at, key, how, slots, owner, wait_ms }),
        4 => (at.clone(), prop::collection::btree_set(0..5_usize, 2..4), time_ms())
            .prop_map(|(at, keys, wait_ms)| Step::AskForSeveral { at, keys, wait_ms }),
        5 => at.clone().prop_map(|at| Step::EndWait { at }),
        3 => (at.clone(), nth.clone()).prop_map(|(at, nth)| Step::Unlock { at, nth }),
        unlocks => (at.clone(), nth.clone()).prop_map(|(at, nth)| Step::UnlockOwner { at, nth }),
        2 => (at.clone(), nth.clone(), of_owner, time_ms())
            .prop_map(|(at, nth, of_owner, lease_ms)| Step::Lease { at, nth, of_owner, lease_ms }),
        1 => (at.clone(), nth, of_owner, prop::option::of(0..2_u8))
            .prop_map(|(at, nth, of_owner, value)| Step::SetMode { at, nth, of_owner, value }),
        1 => at.prop_map(|at| Step::Disconnect { at }),
        2 => (prop_oneof![Just(1), Just(5), Just(50)], any::<bool>())
            .prop_map(|(by_ms, leases_end)| Step::Advance { by_ms, leases_end }),
    ]
}

fn history() -> impl Strategy<Value = History> {
    prop_oneof![3 => history_that(false), 1 => history_that(true)]
}

fn history_that(shares_most: bool) -> impl Strategy<Value = History> {
    let steps = prop::collection::vec(step(shares_most), 1..80);
    let seldom = prop::bool::weighted(0.2);
    let rules = (0..5_usize, seldom, seldom, any::<bool>());
    let fewest = if shares_most { 7 } else { 4 };
    (fewest..=8_usize, 3..=5_usize, rules, steps).prop_map(move |(sessions, keys, rules, steps)| {
        let (turn, mixes_slots, equal_values_pass, learns_late) = rules;
        History {
            sessions,
            keys,
            turn,
            mixes_slots,
            shares_most,
            equal_values_pass,
            learns_late,
            steps,
        }
    })
}

impl History {
    /// Most keys are used in one way each.
    fn how(&self, key: usize, how: Option<How>, slots: u32) -> How {
        let how = how.unwrap_or(match (key + self.turn) % 5 {
            _ if self.shares_most => How::ByValue(0),
            1 => How::ByValue(0),
            2 | 4 => How::Slot(2),
            _ => How::Alone,
        });
        match how {
            How::Slot(_) if self.mixes_slots => How::Slot(slots),
            how => how,
        }
    }
}

// ---------------------------------------------------------------------------- the table and the record

struct World {
    table: LockTable,
    start: Instant,
    equal_values_pass: bool,
    now_ms: u64,
    clients: Vec<Client>,
    locks: Vec<Lock>,
    last_serial: u64,
    /// Sessions that were let in and do not know of it yet, each with its key and grant.
    let_in: VecDeque<(u64, usize, u64)>,
    counts: Counts,
}

struct Client {
    session: Session,
    several: Option<Several>,
}

/// A request for several keys.
struct Several {
    left: VecDeque<usize>,
    until_ms: Option<u64>,
    claims: Vec<Claim>,
}

/// What the oracle judged.
#[derive(Debug, Default)]
struct Counts {
    busy: usize,
    deadlocks: usize,
    of_kind: BTreeMap<Kind, usize>,
    /// Circles of one, for requests that did not wait.
    own_lock_without_wait: usize,
    /// Deadlocks by the numbers of slots that were named, which the table does not see.
    hidden_by_slots: usize,
    /// Requests behind a circle that was there before.
    behind_others: usize,
    leases_made_longer: usize,
    /// Requests that were let in at once, past those who waited for their own owners.
    passed_beside_the_line: usize,
    /// Requests that had waited for their own owners and came alone, while others with their value
    /// stayed behind.
    came_alone: usize,
    /// Requests that had waited for their own owners and brought company, past others.
    brought_company: usize,
}

const STORED: &str = "nothing is refused without a store";

const LIMITS: Limits = Limits {
    locks: 1000,
    locks_per_session: 1000,
    waiters_per_key: 1000,
    sessions_in_grace: 1000,
    max_hold: None,
    equal_values_pass: false,
};

fn key_bytes(key: usize) -> Vec<u8> {
    vec![b'k', b'0' + key as u8]
}

fn owner_word(owner: u8) -> Key {
    Key::new(&[b'o', owner])
}

fn mode_of(how: How) -> Mode {
    match how {
        How::Alone => Mode::Exclusive,
        How::ByValue(value) => Mode::Shared(Value::new(&[value])),
        How::Slot(slots) => Mode::Slot(NonZeroU32::new(slots).expect("at least one")),
    }
}

fn holder_of(who: Who) -> Holder {
    match who {
        Who::Session(number) => Holder::Session(SessionNumber(number)),
        Who::Owner(owner) => Holder::Owner(owner_word(owner)),
    }
}

fn ask_of(request: &Request) -> Ask {
    let holder = match request.who {
        Who::Session(_) if request.with_others => AskedFor::SessionWithOthers,
        Who::Session(_) => AskedFor::Session,
        Who::Owner(owner) => {
            let lease = request.lease_ms.map(Duration::from_millis);
            AskedFor::Owner(owner_word(owner), lease)
        }
    };
    Ask {
        mode: mode_of(request.how),
        holder,
    }
}

impl World {
    fn new(sessions: usize, keys: usize, equal_values_pass: bool) -> Self {
        let limits = Limits {
            equal_values_pass,
            ..LIMITS
        };
        let table = LockTable::new(limits, TokenClock::above(Token(0)), Changes::default());
        let client = |_| Client::new(&table);
        Self {
            clients: (0..sessions).map(client).collect(),
            table,
            start: Instant::now(),
            equal_values_pass,
            now_ms: 0,
            locks: vec![Lock::free(); keys],
            last_serial: 0,
            let_in: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    fn number(&self, at: usize) -> u64 {
        self.clients[at].session.number().0
    }

    /// Whether it was let in and does not know of it yet.
    fn learns_of_a_grant(&self, at: usize) -> bool {
        let number = self.number(at);
        self.let_in.iter().any(|(session, ..)| *session == number)
    }

    fn waits(&self, at: usize) -> bool {
        let number = self.number(at);
        let is_it = |one: &Request| one.session == number;
        self.locks.iter().any(|lock| lock.queue.iter().any(is_it))
    }

    /// What holders of a sort hold, as keys and holders.
    fn held(&self, is_it: impl Fn(Who) -> bool) -> Vec<(usize, Who)> {
        let locks = self.locks.iter().enumerate();
        let of_key = |(key, lock): (usize, &Lock)| {
            let holders = lock.holds.iter().map(|hold| hold.who).collect::<Vec<_>>();
            holders.into_iter().map(move |who| (key, who))
        };
        locks
            .flat_map(of_key)
            .filter(|(_, who)| is_it(*who))
            .collect()
    }

    fn take_off(&mut self, key: usize, who: Who) -> Option<Hold> {
        let before = self.last_serial;
        let hold = self.locks[key].hold_of(who).copied()?;
        self.change(key, |lock, grant| lock.release(who, grant));
        let lock = &self.locks[key];
        let is_new = |hold: &&Hold| hold.serial > before;
        if lock.hold_of(who).is_some() && matches!(lock.how, How::ByValue(_)) {
            let new = lock.holds.iter().filter(is_new).count();
            let is_left_behind = lock.queue.iter().any(|one| lock.admits(one));
            let has_left_others = new < lock.holds.len();
            self.counts.came_alone += usize::from(has_left_others && is_left_behind);
            let has_passed = !lock.queue.is_empty();
            self.counts.brought_company += usize::from(!has_left_others && new > 1 && has_passed);
        }
        Some(hold)
    }

    fn stop_waiting(&mut self, session: u64) {
        let is_it = |one: &Request| one.session == session;
        for key in 0..self.locks.len() {
            if self.locks[key].queue.iter().any(is_it) {
                self.locks[key].queue.retain(|one| !is_it(one));
                self.change(key, |lock, grant| lock.let_in(None, grant));
            }
        }
    }

    /// Those who are let in by a change of a lock will learn of it.
    fn change(
        &mut self,
        key: usize,
        change: impl FnOnce(&mut Lock, &mut dyn FnMut(&Request) -> Hold) -> Vec<Request>,
    ) {
        let (now_ms, serial) = (self.now_ms, &mut self.last_serial);
        let mut grant = |request: &Request| {
            *serial += 1;
            let ends_ms = request.lease_ms.map(|lease| now_ms + lease);
            hold_of(request, ends_ms, *serial)
        };
        for one in change(&mut self.locks[key], &mut grant) {
            let hold = self.locks[key].hold_of(one.who).expect("it was let in");
            self.let_in.push_back((one.session, key, hold.serial));
        }
    }

    fn acquired(&mut self, key: usize, request: &Request) {
        self.last_serial += 1;
        let ends_ms = request.lease_ms.map(|lease| self.now_ms + lease);
        self.locks[key].add(request, hold_of(request, ends_ms, self.last_serial));
    }
}

impl Client {
    fn new(table: &LockTable) -> Self {
        Self {
            session: table.open(Peer::Unix(None), Duration::ZERO),
            several: None,
        }
    }
}

/// What a request finds.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Own,
    OwnInAnotherMode,
    Free,
    Busy,
}

impl World {
    fn find(&self, key: usize, request: &Request) -> Found {
        let lock = &self.locks[key];
        if matches!(request.who, Who::Session(_)) && lock.hold_of(request.who).is_some() {
            return match (lock.how, request.how) {
                (How::Slot(_), How::Slot(_)) => Found::Own,
                (held, asked) if held == asked => Found::Own,
                _ => Found::OwnInAnotherMode,
            };
        }
        let passes = self.equal_values_pass && matches!(request.how, How::ByValue(_));
        match lock.admits(request) && (lock.first_in_line().is_none() || passes) {
            true => Found::Free,
            false => Found::Busy,
        }
    }

    /// Asks the table, which must answer what the oracle says.
    fn ask(&mut self, at: usize, key: usize, request: Request, wait_ms: Option<u64>) -> Locked {
        let found = self.find(key, &request);
        let circle = match found {
            Found::Busy => self.judge(key, request, wait_ms),
            _ => None,
        };
        let (bytes, ask, now) = (key_bytes(key), ask_of(&request), self.now());
        let Client { session, several } = &mut self.clients[at];
        let outcome = match wait_ms.map(Duration::from_millis) {
            Some(wait) => self.table.acquire(session, &bytes, &ask, wait, now),
            None => self.table.try_acquire(session, &bytes, &ask, now),
        };
        let Outcome { value, mut basis } = outcome.expect(STORED);
        if let Some(several) = several {
            several.claims.extend(basis.take_claim());
        }
        match (&value, found) {
            (Locked::Again, Found::Own) | (Locked::Conflict, Found::OwnInAnotherMode) => {}
            (Locked::Acquired, Found::Free) => {
                let passes = !self.equal_values_pass && !self.locks[key].queue.is_empty();
                self.counts.passed_beside_the_line += usize::from(passes);
                self.acquired(key, &request);
            }
            (Locked::Busy, Found::Busy) if circle.is_none() && wait_ms.is_none() => {}
            (Locked::Waiting, Found::Busy) if circle.is_none() && wait_ms.is_some() => {
                self.locks[key].queue.push(request);
            }
            (Locked::Deadlock(told), Found::Busy) if circle.is_some() => {
                let until_ms = self.now_ms + wait_ms.unwrap_or(0);
                self.assert_true_circle(key, &request, told, until_ms);
                let shortest = circle.map(|circle| circle.len());
                assert_eq!(Some(told.steps().len()), shortest, "the shortest: {told:?}");
            }
            (_, found) => panic!(
                "{value:?} to {request:?} for {key} with wait {wait_ms:?}; found {found:?}, {circle:#?}"
            ),
        }
        value
    }

    /// The circle for which the table must refuse a request that finds its lock busy.
    fn judge(&mut self, key: usize, request: Request, wait_ms: Option<u64>) -> Option<Vec<Edge>> {
        let until_ms = self.now_ms + wait_ms.unwrap_or(0);
        let game = Game::new(&self.locks, key, request, until_ms);
        let end = game.known_end();
        self.counts.busy += 1;
        self.compare_with_the_truth(&game, &end);
        match end {
            End::Granted => None,
            End::StuckBehindOthers => {
                self.assert_known_to_be_hidden(game);
                None
            }
            End::Deadlock(circle) if wait_ms.is_none() && circle.len() == 1 => {
                self.counts.own_lock_without_wait += 1;
                None
            }
            End::Deadlock(circle) => {
                self.counts.deadlocks += 1;
                let kinds: BTreeSet<Kind> = circle
                    .iter()
                    .flat_map(|edge| &edge.kinds)
                    .copied()
                    .collect();
                for kind in kinds {
                    *self.counts.of_kind.entry(kind).or_default() += 1;
                }
                Some(circle)
            }
        }
    }

    /// What the table knows is true, but for circles that are hidden in the way that is documented. In
    /// which order the play releases matters there, but any will do: the table never takes more for
    /// stuck than what is so in all of them.
    fn compare_with_the_truth(&mut self, game: &Game, known: &End) {
        if !game.names_too_few_slots() {
            return;
        }
        let is_deadlock = |end: &End| matches!(end, End::Deadlock(_));
        let truth = game.clone().end();
        let (is_known, is_true) = (is_deadlock(known), is_deadlock(&truth));
        assert!(is_true || !is_known, "a circle that is none: {known:?}");
        self.counts.hidden_by_slots += usize::from(is_true && !is_known);
    }

    /// A circle that the table did not refuse came about in one of the ways that are documented, or
    /// is none to those who wait for longer than the leases in it.
    fn assert_known_to_be_hidden(&mut self, game: Game) {
        self.counts.behind_others += 1;
        let with_patience = Game {
            until_ms: u64::MAX,
            ..game
        };
        let end = with_patience.known_end();
        let reasons = self.counts.hidden_by_slots + self.counts.leases_made_longer;
        assert!(
            end == End::Granted || reasons > 0,
            "a circle was missed: {:#?}",
            self.locks
        );
    }

    /// Each step's session waits for the step's key, and for the next step's session, whose hold of
    /// the key does not end by itself in time.
    fn assert_true_circle(&self, key: usize, request: &Request, circle: &Circle, until_ms: u64) {
        let mut locks = self.locks.clone();
        locks[key].queue.push(*request);
        let steps = circle.steps();
        assert_eq!(circle.requester().0, request.session);
        assert_eq!(steps[0].key.as_bytes(), key_bytes(key));
        let sessions: BTreeSet<_> = steps.iter().map(|step| step.waiter).collect();
        assert_eq!(
            sessions.len(),
            steps.len(),
            "nobody is met twice: {circle:?}"
        );
        for (index, step) in steps.iter().enumerate() {
            let next = steps[(index + 1) % steps.len()].waiter.0;
            let is_it = |key: &usize| key_bytes(*key) == step.key.as_bytes();
            let key = (0..locks.len()).find(is_it).expect("it is known");
            let waits = |one: &Request| one.session == step.waiter.0;
            assert!(locks[key].queue.iter().any(waits), "{step:?} waits");
            let mut in_the_way = locks[key].obstacles_up_to(step.waiter.0).into_iter();
            let stands_for = |(_, hold): (Request, Hold)| {
                let is_over_in_time = hold.ends_ms.is_some_and(|end| end < until_ms);
                let is_owned = matches!(hold.who, Who::Owner(_));
                hold.taker == next && !(is_owned && is_over_in_time)
            };
            assert!(in_the_way.any(stands_for), "{step:?} waits for #{next}");
        }
    }
}

impl Game {
    /// Whether a request names fewer slots than its key has holders, so that more than one must go.
    fn names_too_few_slots(&self) -> bool {
        self.locks.iter().any(|lock| {
            let too_few = |one: &Request| match (lock.how, one.how) {
                (How::Slot(_), How::Slot(slots)) => (slots as usize) < lock.holds.len(),
                _ => false,
            };
            lock.queue.iter().any(too_few)
        })
    }
}

// ---------------------------------------------------------------------------- steps

impl World {
    fn run(history: &History) -> Counts {
        let mut world = Self::new(history.sessions, history.keys, history.equal_values_pass);
        let mut by_turns = 0..3;
        for step in &history.steps {
            world.step(history, step);
            if !history.learns_late || by_turns.next().is_none() {
                by_turns = 0..3;
                world.settle();
            }
            world.assert_same_state();
        }
        world.settle();
        world.assert_that_who_waits_is_not_stuck();
        world.counts
    }

    /// Of those who wait, or of those who do not and know that, the one at this place.
    fn one_who(&self, waits: bool, at: usize) -> Option<usize> {
        let is_one = |at: &usize| match waits {
            true => self.waits(*at),
            false => !self.waits(*at) && !self.learns_of_a_grant(*at),
        };
        let those: Vec<usize> = (0..self.clients.len()).filter(is_one).collect();
        (!those.is_empty()).then(|| those[at % those.len()])
    }

    fn step(&mut self, history: &History, step: &Step) {
        let (is_for_one_who_waits, at) = match *step {
            Step::Advance { by_ms, leases_end } => return self.advance(by_ms, leases_end),
            Step::Disconnect { at } => return self.disconnect(at % self.clients.len()),
            Step::EndWait { at } => (true, at),
            Step::Ask { at, .. }
            | Step::AskForSeveral { at, .. }
            | Step::Unlock { at, .. }
            | Step::UnlockOwner { at, .. }
            | Step::Lease { at, .. }
            | Step::SetMode { at, .. } => (false, at),
        };
        let Some(at) = self.one_who(is_for_one_who_waits, at) else {
            return;
        };
        let keys = self.locks.len();
        match step {
            Step::Ask {
                key,
                how,
                slots,
                owner,
                wait_ms,
                ..
            } => {
                let how = history.how(key % keys, *how, *slots);
                self.ask_for_one(at, key % keys, how, *owner, *wait_ms);
            }
            Step::AskForSeveral {
                keys: of, wait_ms, ..
            } => {
                let of: BTreeSet<usize> = of.iter().map(|key| key % keys).collect();
                self.ask_for_several(at, of, *wait_ms);
            }
            Step::EndWait { .. } => self.end_wait(at),
            Step::Unlock { nth, .. } => self.unlock(at, false, *nth),
            Step::UnlockOwner { nth, .. } => self.unlock(at, true, *nth),
            Step::Lease {
                nth,
                of_owner,
                lease_ms,
                ..
            } => self.set_lease(at, *of_owner, *nth, *lease_ms),
            Step::SetMode {
                nth,
                of_owner,
                value,
                ..
            } => self.set_mode(at, *of_owner, *nth, value.map_or(How::Alone, How::ByValue)),
            Step::Advance { .. } | Step::Disconnect { .. } => {}
        }
    }

    fn ask_for_one(
        &mut self,
        at: usize,
        key: usize,
        how: How,
        owner: Option<(u8, Option<u64>)>,
        wait_ms: Option<u64>,
    ) -> Locked {
        let session = self.number(at);
        let request = Request {
            session,
            who: owner.map_or(Who::Session(session), |(owner, _)| Who::Owner(owner)),
            how,
            lease_ms: owner.and_then(|(_, lease_ms)| lease_ms),
            with_others: false,
        };
        self.ask(at, key, request, wait_ms)
    }

    fn ask_for_several(&mut self, at: usize, keys: BTreeSet<usize>, wait_ms: Option<u64>) {
        self.clients[at].several = Some(Several {
            left: keys.into_iter().collect(),
            until_ms: wait_ms.map(|wait| self.now_ms + wait),
            claims: Vec::new(),
        });
        self.go_on_with_several(at);
    }

    /// Takes one key after the other, until it has to wait or is refused one, or has all.
    fn go_on_with_several(&mut self, at: usize) {
        let session = self.number(at);
        while let Some(several) = &mut self.clients[at].several {
            let Some(key) = several.left.pop_front() else {
                return self.keep_all(at);
            };
            let until_ms = several.until_ms.filter(|until| *until > self.now_ms);
            let request = Request {
                session,
                who: Who::Session(session),
                how: How::Alone,
                lease_ms: None,
                with_others: true,
            };
            match self.ask(at, key, request, until_ms.map(|until| until - self.now_ms)) {
                Locked::Acquired | Locked::Again => {}
                Locked::Waiting => return,
                _ => self.give_back_all(at),
            }
        }
    }

    fn keep_all(&mut self, at: usize) {
        let (now, session) = (self.now(), self.number(at));
        let client = &mut self.clients[at];
        let claims = client
            .several
            .take()
            .map_or(Vec::new(), |several| several.claims);
        let kept = self.table.keep_all(&mut client.session, &claims, now);
        let kept = kept.expect("nobody takes one");
        assert_eq!(kept.value, Locked::Acquired);
        for lock in &mut self.locks {
            let of_it = lock.holds.iter_mut().filter(|hold| hold.taker == session);
            of_it.for_each(|hold| hold.with_others = false);
        }
    }

    fn give_back_all(&mut self, at: usize) {
        let (now, session) = (self.now(), self.number(at));
        let Client {
            session: own,
            several,
        } = &mut self.clients[at];
        let claims = several.take().map_or(Vec::new(), |several| several.claims);
        let new = |claim| match claim {
            Claim::New(grant) => Some(grant),
            Claim::Listed(token) => self.table.listed_grant(own, token),
            _ => None,
        };
        let grants: Vec<Grant> = claims.into_iter().filter_map(new).collect();
        for grant in &grants {
            self.table.give_back(own, grant, now);
        }
        for grant in &grants {
            let key = usize::from(grant.key().as_bytes()[1] - b'0');
            let hold = self.take_off(key, Who::Session(session));
            assert!(hold.is_some_and(|hold| hold.with_others));
        }
    }

    fn end_wait(&mut self, at: usize) {
        let (now, session) = (self.now(), self.number(at));
        let wait = self.table.wait(&mut self.clients[at].session);
        let ended = wait.expect("it waits").end(Ending::Deadline, now);
        assert_eq!(ended.value, Locked::Busy, "who was let in knows of it");
        self.stop_waiting(session);
        self.give_back_all(at);
    }

    /// A lock of the session, or of any owner.
    fn nth_held(&self, at: usize, of_owner: bool, nth: usize) -> Option<(usize, Who, Option<Key>)> {
        let own = Who::Session(self.number(at));
        let held = self.held(|who| match who {
            Who::Owner(_) => of_owner,
            Who::Session(_) => !of_owner && who == own,
        });
        let (key, who) = *held.get(nth % held.len().max(1))?;
        let word = match who {
            Who::Owner(owner) => Some(owner_word(owner)),
            Who::Session(_) => None,
        };
        Some((key, who, word))
    }

    fn unlock(&mut self, at: usize, of_owner: bool, nth: usize) {
        let (now, held) = (self.now(), self.nth_held(at, of_owner, nth));
        if let Some((key, who, word)) = held {
            let before = self.let_in.len();
            let session = &mut self.clients[at].session;
            let answer = self
                .table
                .unlock(session, &key_bytes(key), word.as_ref(), now);
            self.take_off(key, who);
            let passed_on = self.let_in.len() > before;
            let released = Unlocked::Released { passed_on };
            assert_eq!(answer.expect(STORED).value, released);
        }
    }

    fn set_lease(&mut self, at: usize, of_owner: bool, nth: usize, lease_ms: Option<u64>) {
        let (now, held) = (self.now(), self.nth_held(at, of_owner, nth));
        let Some((key, who, word)) = held else {
            return;
        };
        let (session, lease) = (
            &mut self.clients[at].session,
            lease_ms.map(Duration::from_millis),
        );
        let answer = self
            .table
            .set_lease(session, &key_bytes(key), word.as_ref(), lease, now);
        assert_eq!(answer.expect(STORED).value, Ok(()));
        let ends_ms = lease_ms.map(|lease| self.now_ms + lease);
        let holds = &mut self.locks[key].holds;
        let hold = holds.iter_mut().find(|hold| hold.who == who);
        let before = std::mem::replace(&mut hold.expect("it is held").ends_ms, ends_ms);
        let is_longer = match (before, ends_ms) {
            (Some(before), Some(end)) => before < end,
            (before, end) => before.is_some() && end.is_none(),
        };
        self.counts.leases_made_longer += usize::from(is_longer && of_owner);
    }

    fn set_mode(&mut self, at: usize, of_owner: bool, nth: usize, how: How) {
        let (now, held) = (self.now(), self.nth_held(at, of_owner, nth));
        let Some((key, _, word)) = held else {
            return;
        };
        let session = &mut self.clients[at].session;
        let (bytes, mode) = (key_bytes(key), mode_of(how));
        let answer = self
            .table
            .set_mode(session, &bytes, word.as_ref(), &mode, now);
        let lock = &mut self.locks[key];
        let is_possible = match (lock.how, how) {
            (before, after) if before == after => true,
            (How::Alone, How::ByValue(_)) => true,
            (How::ByValue(_), How::Alone) => lock.holds.len() == 1,
            _ => false,
        };
        assert_eq!(answer.expect(STORED).value, Ok(is_possible));
        if is_possible {
            lock.how = how;
            self.change(key, |lock, grant| lock.let_in(None, grant));
        }
    }

    /// A new session takes the place of one that is over.
    fn disconnect(&mut self, at: usize) {
        let (now, session) = (self.now(), self.number(at));
        let new = Client::new(&self.table);
        let old = std::mem::replace(&mut self.clients[at], new);
        self.table.end(old.session, now);
        self.give_up_what_it_did_not_know_of(session);
        self.stop_waiting(session);
        for key in 0..self.locks.len() {
            self.take_off(key, Who::Session(session));
        }
    }

    fn give_up_what_it_did_not_know_of(&mut self, session: u64) {
        let place = self.let_in.iter().position(|(one, ..)| *one == session);
        if let Some((_, key, serial)) = place.and_then(|place| self.let_in.remove(place)) {
            let holds = &self.locks[key].holds;
            let hold = holds.iter().find(|hold| hold.serial == serial).copied();
            if let Some(hold) = hold {
                self.take_off(key, hold.who);
            }
        }
    }

    fn advance(&mut self, by_ms: u64, leases_end: bool) {
        self.now_ms += by_ms;
        if leases_end {
            let ended = self.table.end_leases(self.now(), usize::MAX).0;
            let mut due = Vec::new();
            for (key, lock) in self.locks.iter().enumerate() {
                let of_key = lock.holds.iter().filter_map(|hold| {
                    let end = hold.ends_ms.filter(|end| *end <= self.now_ms)?;
                    Some((end, hold.serial, key, hold.who))
                });
                due.extend(of_key);
            }
            assert_eq!(ended, due.len());
            due.sort_unstable();
            for (_, _, key, who) in due {
                self.take_off(key, who);
            }
        }
    }

    /// Those who were let in find that they have the lock, and go on.
    fn settle(&mut self) {
        while let Some((session, ..)) = self.let_in.pop_front() {
            let now = self.now();
            let place = (0..self.clients.len()).find(|at| self.number(*at) == session);
            let at = place.expect("who waits is there");
            let Client { session, several } = &mut self.clients[at];
            let wait = self.table.wait(session).expect("it waits");
            let Outcome { value, mut basis } = wait.end(Ending::Granted, now);
            assert_eq!(value, Locked::Acquired);
            if let Some(several) = several {
                several.claims.extend(basis.take_claim());
                self.go_on_with_several(at);
            }
        }
    }

    fn assert_same_state(&self) {
        for (key, lock) in self.locks.iter().enumerate() {
            let Some(view) = self.table.lock_view(&key_bytes(key), usize::MAX) else {
                assert!(lock.holds.is_empty() && lock.queue.is_empty(), "{lock:?}");
                continue;
            };
            let holders: Vec<Holder> = view.holders.into_iter().map(|(holder, _)| holder).collect();
            let mut expected: Vec<Who> = lock.holds.iter().map(|hold| hold.who).collect();
            expected.sort_unstable();
            let expected: Vec<Holder> = expected.into_iter().map(holder_of).collect();
            assert_eq!(holders, expected);
            assert_eq!(
                (view.mode, view.waiters),
                (mode_of(lock.how), lock.queue.len())
            );
        }
        for (at, client) in self.clients.iter().enumerate() {
            let waits = self.waits(at) || self.learns_of_a_grant(at);
            assert_eq!(self.table.is_waiting(&client.session), waits);
        }
    }

    /// No circle was missed, but for those that are documented.
    fn assert_that_who_waits_is_not_stuck(&mut self) {
        for key in 0..self.locks.len() {
            for request in self.locks[key].queue.clone() {
                let game = Game {
                    locks: self.locks.clone(),
                    requester: request.session,
                    until_ms: u64::MAX,
                    helped: BTreeSet::new(),
                };
                if game.known_end() != End::Granted {
                    self.assert_known_to_be_hidden(game);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_table_refuses_what_the_oracle_says_can_never_end(history in history()) {
        World::run(&history);
    }
}

const HISTORIES: usize = 2000;

/// The same histories each time. Were one of these numbers small, the other test would prove nothing
/// of that kind.
#[test]
fn histories_meet_deadlocks_of_every_kind() {
    let seed = TestRng::from_seed(RngAlgorithm::XorShift, &[7; 16]);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), seed);
    let mut counts = Counts::default();
    for _ in 0..HISTORIES {
        let history = history().new_tree(&mut runner);
        counts.add(World::run(&history.expect("a history").current()));
    }
    let floors = [
        (Kind::Exclusive, 2500),
        (Kind::Shared, 1500),
        (Kind::Slot, 1300),
        (Kind::AllOfSeveralSlots, 250),
        (Kind::Owner, 1000),
        (Kind::SeveralKeys, 250),
        (Kind::ThroughTheQueue, 400),
        (Kind::OfOne, 1000),
    ];
    for (kind, floor) in floors {
        let count = counts.of_kind.get(&kind).copied().unwrap_or(0);
        assert!(count > floor, "{kind:?}: {count}; {counts:?}");
    }
    let of_several = counts.deadlocks - counts.of_kind[&Kind::OfOne];
    assert!(of_several > 2000, "{counts:?}");
    assert!(counts.busy > 3 * counts.deadlocks, "{counts:?}");
    assert!(counts.own_lock_without_wait > 300, "{counts:?}");
    assert!(counts.hidden_by_slots > 5, "{counts:?}");
    assert!(counts.behind_others > 250, "{counts:?}");
    assert!(counts.passed_beside_the_line > 80, "{counts:?}");
    assert!(counts.came_alone > 2, "{counts:?}");
    assert!(counts.brought_company > 5, "{counts:?}");
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.busy += other.busy;
        self.deadlocks += other.deadlocks;
        for (kind, count) in other.of_kind {
            *self.of_kind.entry(kind).or_default() += count;
        }
        self.own_lock_without_wait += other.own_lock_without_wait;
        self.hidden_by_slots += other.hidden_by_slots;
        self.behind_others += other.behind_others;
        self.leases_made_longer += other.leases_made_longer;
        self.passed_beside_the_line += other.passed_beside_the_line;
        self.came_alone += other.came_alone;
        self.brought_company += other.brought_company;
    }
}

// ---------------------------------------------------------------------------- scenarios

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;
const E: usize = 4;
const K: usize = 0;
const X: usize = 1;
const Y: usize = 2;

const SECOND_MS: u64 = 1000;
const VALUE: How = How::ByValue(7);

/// Each answer is judged by the oracle, too.
impl World {
    fn of_five() -> Self {
        Self::new(5, 3, false)
    }

    fn checked(&mut self, answer: Locked) -> Locked {
        self.settle();
        self.assert_same_state();
        answer
    }

    fn lock(&mut self, at: usize, key: usize, how: How) -> Locked {
        let answer = self.ask_for_one(at, key, how, None, Some(LONG_MS));
        self.checked(answer)
    }

    /// For an owner, with a lease.
    fn lock_for(
        &mut self,
        at: usize,
        key: usize,
        owner: (u8, Option<u64>),
        wait_ms: Option<u64>,
    ) -> Locked {
        let answer = self.ask_for_one(at, key, How::Alone, Some(owner), wait_ms);
        self.checked(answer)
    }

    /// As `lock`, by value and for an owner without a lease.
    fn share_for(&mut self, at: usize, key: usize, owner: u8) -> Locked {
        let owner = Some((owner, None));
        let answer = self.ask_for_one(at, key, VALUE, owner, Some(LONG_MS));
        self.checked(answer)
    }

    /// The answer that names these sessions, and the keys that they wait for.
    fn circle(&self, steps: &[(usize, usize)]) -> Locked {
        let step = |&(at, key): &(usize, usize)| elock::model::Step {
            waiter: SessionNumber(self.number(at)),
            key: Key::new(&key_bytes(key)),
        };
        Locked::Deadlock(Circle::new(steps.iter().map(step).collect()))
    }

    fn holds(&self, key: usize, who: Who) -> bool {
        self.locks[key].hold_of(who).is_some()
    }
}

#[test]
fn a_request_that_would_join_waits_for_the_holders_through_the_writer_before_it() {
    let mut world = World::of_five();
    assert_eq!(world.lock(A, K, VALUE), Locked::Acquired);
    assert_eq!(world.lock(B, X, How::Alone), Locked::Acquired);
    assert_eq!(world.lock(A, X, How::Alone), Locked::Waiting);
    assert_eq!(world.lock(C, K, How::Alone), Locked::Waiting);
    let deadlock = world.circle(&[(B, K), (A, X)]);
    assert_eq!(world.lock(B, K, VALUE), deadlock);
    assert_eq!(world.counts.of_kind[&Kind::ThroughTheQueue], 1);
}

#[test]
fn owners_that_take_two_keys_in_opposite_orders_are_told_at_once() {
    let mut world = World::of_five();
    let (first, second) = ((1, None), (2, None));
    let wait_ms = Some(LONG_MS);
    assert_eq!(world.lock_for(A, X, first, wait_ms), Locked::Acquired);
    assert_eq!(world.lock_for(B, Y, second, wait_ms), Locked::Acquired);
    assert_eq!(world.lock_for(A, Y, first, wait_ms), Locked::Waiting);
    let deadlock = world.circle(&[(B, X), (A, Y)]);
    assert_eq!(world.lock_for(B, X, second, wait_ms), deadlock);
    assert_eq!(world.lock_for(B, X, second, None), deadlock);
}

#[test]
fn a_session_may_wait_for_its_own_owner_if_the_lease_ends_before() {
    let mut world = World::of_five();
    let (short, long) = ((1, Some(SECOND_MS)), (1, Some(10 * SECOND_MS)));
    let wait_ms = Some(5 * SECOND_MS);
    assert_eq!(world.lock_for(A, K, short, wait_ms), Locked::Acquired);
    assert_eq!(world.lock_for(A, K, short, wait_ms), Locked::Waiting);
    world.advance(SECOND_MS, true);
    assert_eq!(world.checked(Locked::Acquired), Locked::Acquired);
    assert!(world.holds(K, Who::Owner(1)) && !world.waits(A));

    assert_eq!(world.lock_for(A, X, long, wait_ms), Locked::Acquired);
    assert_eq!(world.lock_for(A, X, long, None), Locked::Busy);
    let deadlock = world.circle(&[(A, X)]);
    assert_eq!(world.lock_for(A, X, long, wait_ms), deadlock);
}

#[test]
fn one_holder_of_a_slot_that_can_go_on_is_enough() {
    let mut world = World::of_five();
    let slot = How::Slot(2);
    assert_eq!(world.lock(A, K, slot), Locked::Acquired);
    assert_eq!(world.lock(B, K, slot), Locked::Acquired);
    assert_eq!(world.lock(C, X, How::Alone), Locked::Acquired);
    assert_eq!(world.lock(A, X, How::Alone), Locked::Waiting);
    assert_eq!(world.lock(C, K, slot), Locked::Waiting);
    let deadlock = world.circle(&[(B, X), (C, K)]);
    assert_eq!(world.lock(B, X, How::Alone), deadlock);
}

/// Each of the two holders waits for the requester or the other, which is not one after another.
#[test]
fn holders_of_slots_are_stuck_through_each_other() {
    let mut world = World::of_five();
    let slot = How::Slot(2);
    for (at, key) in [(A, K), (B, K), (B, X), (D, X), (A, Y), (D, Y)] {
        assert_eq!(world.lock(at, key, slot), Locked::Acquired);
    }
    assert_eq!(world.lock(A, X, slot), Locked::Waiting);
    assert_eq!(world.lock(B, Y, slot), Locked::Waiting);
    let deadlock = world.circle(&[(D, K), (A, X)]);
    assert_eq!(world.lock(D, K, slot), deadlock);
    assert_eq!(world.counts.of_kind[&Kind::AllOfSeveralSlots], 1);
}

#[test]
fn what_a_request_for_several_keys_has_so_far_counts() {
    let mut world = World::of_five();
    assert_eq!(world.lock(B, Y, How::Alone), Locked::Acquired);
    world.ask_for_several(A, BTreeSet::from([K, X, Y]), Some(LONG_MS));
    assert!(world.waits(A));
    let deadlock = world.circle(&[(B, X), (A, Y)]);
    assert_eq!(world.lock(B, X, How::Alone), deadlock);
    assert_eq!(world.counts.of_kind[&Kind::SeveralKeys], 1);
    world.end_wait(A);
    assert_eq!(world.lock(B, X, How::Alone), Locked::Acquired);
}

/// The first exception: C waits for both holders, as it names one slot.
#[test]
fn different_numbers_of_slots_hide_a_circle() {
    let mut world = World::of_five();
    assert_eq!(world.lock(A, K, How::Slot(2)), Locked::Acquired);
    assert_eq!(world.lock(B, K, How::Slot(2)), Locked::Acquired);
    assert_eq!(world.lock(C, X, How::Alone), Locked::Acquired);
    assert_eq!(world.lock(C, K, How::Slot(1)), Locked::Waiting);
    assert_eq!(world.lock(B, X, How::Alone), Locked::Waiting);
    assert_eq!(world.counts.hidden_by_slots, 1);
}

/// The second exception: when B asked, the lease was to end before B's wait.
#[test]
fn a_lease_that_is_made_longer_hides_a_circle() {
    let mut world = World::of_five();
    let short = (1, Some(SECOND_MS));
    assert_eq!(world.lock_for(B, X, short, None), Locked::Acquired);
    assert_eq!(world.lock(A, Y, How::Alone), Locked::Acquired);
    assert_eq!(world.lock(A, X, How::Alone), Locked::Waiting);
    assert_eq!(world.lock(B, Y, How::Alone), Locked::Waiting);
    world.set_lease(C, true, 0, None);
    assert_eq!(world.lock(C, Y, How::Alone), Locked::Waiting);
    assert_eq!(world.counts.behind_others, 1);
}

/// C waits for its own owner's hold and keeps nobody company: D stands behind B, who waits for A.
#[test]
fn who_has_the_value_of_one_before_the_writer_waits_behind_the_writer() {
    let mut world = World::of_five();
    assert_eq!(world.share_for(D, K, 1), Locked::Acquired);
    world.disconnect(D);
    assert_eq!(world.lock(A, K, VALUE), Locked::Acquired);
    assert_eq!(world.lock(D, X, How::Alone), Locked::Acquired);
    assert_eq!(world.share_for(C, K, 1), Locked::Waiting);
    assert_eq!(world.lock(B, K, How::Alone), Locked::Waiting);
    assert_eq!(world.lock(D, K, VALUE), Locked::Waiting);
    let deadlock = world.circle(&[(A, X), (D, K)]);
    assert_eq!(world.lock(A, X, How::Alone), deadlock);
    assert_eq!(world.counts.of_kind[&Kind::ThroughTheQueue], 1);
}

/// So it is if D asks for an owner who holds K, or who waits for it already.
#[test]
fn so_does_who_asks_for_an_owner_with_that_value() {
    for owner in [1, 2, 3] {
        let mut world = World::of_five();
        for owner in [1, 2] {
            assert_eq!(world.share_for(E, K, owner), Locked::Acquired);
        }
        world.disconnect(E);
        assert_eq!(world.lock(A, K, VALUE), Locked::Acquired);
        assert_eq!(world.lock(D, X, How::Alone), Locked::Acquired);
        assert_eq!(world.share_for(C, K, 1), Locked::Waiting);
        assert_eq!(world.share_for(E, K, 2), Locked::Waiting);
        assert_eq!(world.lock(B, K, How::Alone), Locked::Waiting);
        assert_eq!(world.lock(A, X, How::Alone), Locked::Waiting);
        let deadlock = world.circle(&[(D, K), (A, X)]);
        assert_eq!(world.share_for(D, K, owner), deadlock);
    }
}

/// A waits for D, but D does not wait for A, who holds K by the same value.
#[test]
fn who_waits_for_its_own_owner_waits_for_no_other_holder() {
    let mut world = World::of_five();
    assert_eq!(world.share_for(E, K, 1), Locked::Acquired);
    assert_eq!(world.lock(A, K, VALUE), Locked::Acquired);
    assert_eq!(world.lock(D, X, How::Alone), Locked::Acquired);
    assert_eq!(world.lock(A, X, How::Alone), Locked::Waiting);
    assert_eq!(world.share_for(D, K, 1), Locked::Waiting);
    let deadlock = world.circle(&[(E, X), (D, K)]);
    assert_eq!(world.lock(E, X, How::Alone), deadlock);
    world.unlock(E, true, 0);
    assert_eq!(world.checked(Locked::Acquired), Locked::Acquired);
    assert!(world.holds(K, Who::Owner(1)) && !world.waits(D));
}

/// D joins A at once, past C; so B waits for it, and it cannot wait for B.
#[test]
fn who_waits_for_its_own_owner_stands_in_nobodys_way() {
    let mut world = World::of_five();
    assert_eq!(world.share_for(E, K, 1), Locked::Acquired);
    assert_eq!(world.lock(A, K, VALUE), Locked::Acquired);
    assert_eq!(world.lock(B, X, How::Alone), Locked::Acquired);
    assert_eq!(world.share_for(C, K, 1), Locked::Waiting);
    assert_eq!(world.lock(D, K, VALUE), Locked::Acquired);
    assert_eq!(world.lock(B, K, How::Alone), Locked::Waiting);
    let deadlock = world.circle(&[(D, X), (B, K)]);
    assert_eq!(world.lock(D, X, How::Alone), deadlock);
}

/// When owner 1 releases, A still holds K: C comes in alone, and D stays behind B. When nobody holds K,
/// D comes along with C, past B.
#[test]
fn who_waited_for_its_own_owner_brings_company_only_to_an_empty_lock() {
    for stays in [true, false] {
        let mut world = World::of_five();
        assert_eq!(world.share_for(E, K, 1), Locked::Acquired);
        assert_eq!(world.lock(A, K, VALUE), Locked::Acquired);
        assert_eq!(world.share_for(C, K, 1), Locked::Waiting);
        assert_eq!(world.lock(B, K, How::Alone), Locked::Waiting);
        assert_eq!(world.lock(D, K, VALUE), Locked::Waiting);
        if !stays {
            world.unlock(A, false, 0);
        }
        world.unlock(E, true, 0);
        world.checked(Locked::Acquired);
        assert!(world.waits(B) && !world.waits(C));
        assert_eq!(world.waits(D), stays);
    }
}

/// B was let in for its owner, and has lost the lock again, before it learns of that.
#[test]
fn a_wait_that_is_over_is_no_part_of_a_circle() {
    let mut world = World::of_five();
    assert_eq!(world.lock(C, K, How::Alone), Locked::Acquired);
    assert_eq!(world.lock(B, X, How::Alone), Locked::Acquired);
    let owner = (1, None);
    assert_eq!(world.lock_for(B, K, owner, Some(LONG_MS)), Locked::Waiting);
    world.unlock(C, false, 0);
    world.unlock(D, true, 0);
    let mut ask = |key| world.ask_for_one(A, key, How::Alone, None, Some(LONG_MS));
    assert_eq!(ask(K), Locked::Acquired);
    assert_eq!(ask(X), Locked::Waiting);
    assert_eq!(world.checked(Locked::Waiting), Locked::Waiting);
}
