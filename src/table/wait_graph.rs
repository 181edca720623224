//! The wait-for graph, in which deadlocks are found.
//!
//! Only a request that waits can close a circle, so the graph has no other requests. A request
//! queues up under the guard of its key, and then takes the graph's mutex, enters the graph and
//! walks it; it holds the mutex from its entry to the end of its walk, and leaves queue and graph
//! again if it found a circle. The mutex is taken before the guard of any key, never under one.
//!
//! What a request waits for: the holders that must let go before it is its turn. All of them, if they
//! exclude it or one that stands before it: then one that cannot go on is enough. Any of them, if it
//! waits for a slot: then one that can go on is enough to wait for. Its own owner alone, if that holds
//! the key already: such a request stands in nobody's way. Those who stand before it in the queue
//! wait for the same holders, so that these edges are the same as edges to them. For a lock that is
//! held by an owner word stands the session that took it, unless its lease ends while the requester
//! would wait.
//!
//! Why the walks find every circle: of the sessions in a circle one enters the graph last, and its
//! walk sees all the others in place. Two kinds are seen too late: if the lease of an owner's lock is
//! made longer after the walk, and if requests for one key name different numbers of slots, so that
//! one waits for more than one holder to let go.
//!
//! Why the walks find no false circle: while the mutex is held no request enters the graph, and a
//! session that is in the graph and waits does nothing else, because it runs one request at a time;
//! the requester stands still, too. So every edge that the walk reads was there from its first step
//! on. Deadlines, disconnects, leases and releases of owners' locks only take edges away, but for
//! requests that are left behind, and their new edges are true. A grant
//! takes the new holder's edge away and turns the edges of other waiters to it; but the new holder
//! does not wait any more, and cannot enter the graph while the mutex is held, so no path goes on
//! from there. All of this happens without the mutex, so an edge does not count if its waiter no
//! longer waits. If the requester itself is granted the lock while it walks, it cannot leave the
//! queue any more, and has the lock whatever its walk found.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::holders::{Hold, HolderRef, Obstacle};
use super::knot::Knot;
use super::lock::Lock;
use super::lock_key::Seed;
use super::shrunk;
use super::waiters::Waiter;
use crate::model::{Circle, Holder, Key, SessionNumber, Step, Token};

/// The edges from each waiting session to the key it waits for. Kept under the table's mutex.
/// A session waits for one key at most.
#[derive(Debug, Default)]
pub(super) struct WaitGraph {
    waiters: HashMap<SessionNumber, Arc<Waiter>, Seed>,
}

/// Whom a request waits for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edges {
    /// Whether any of the holders is enough; otherwise it needs each.
    pub(super) is_any: bool,
    /// Whether these are all holders of the key.
    pub(super) are_all_holders: bool,
    /// Whether the requester is among the holders.
    pub(super) requester: bool,
    /// The holders that wait themselves, or did a moment ago.
    pub(super) waiting: Vec<SessionNumber>,
    /// Whether another holder does not wait.
    pub(super) has_free: bool,
}

/// A waiting session that a walk has met, and the visit that led to it.
struct Visit {
    waiter: Arc<Waiter>,
    from: Option<usize>,
}

impl WaitGraph {
    pub(super) fn insert(&mut self, waiter: Arc<Waiter>) {
        let before = self.waiters.insert(waiter.session(), waiter);
        debug_assert!(before.is_none(), "a session waits for one key at most");
    }

    pub(super) fn remove(&mut self, session: SessionNumber) {
        self.waiters.remove(&session);
        if let Some(capacity) = shrunk(self.waiters.len(), self.waiters.capacity()) {
            self.waiters.shrink_to(capacity);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// The requests that wait at this moment, in no order.
    pub(super) fn waiting(&self) -> Vec<Arc<Waiter>> {
        self.waiters
            .values()
            .filter(|waiter| waiter.is_waiting())
            .cloned()
            .collect()
    }

    /// The request that a session waits with.
    pub(super) fn of(&self, session: SessionNumber) -> Option<&Arc<Waiter>> {
        let waiter = self.waiters.get(&session);
        waiter.filter(|waiter| waiter.is_waiting())
    }

    /// The shortest circle that `requester` would close by its wait.
    ///
    /// `edges` reads whom a request waits for, under one short guard; its second argument says whether
    /// the holders of the key are known, as those of whom any are needed, or all. The walk is breadth
    /// first, without recursion, and looks at each key once, so that its cost grows with what waits and
    /// not with what is held. If it meets a request that does not need each of the holders,
    /// [a walk for these](WaitGraph::knot) takes its place.
    #[allow(
        clippy::mutable_key_type,
        reason = "the words beside a key are no part of what keys are compared by"
    )]
    pub(super) fn circle(
        &self,
        requester: &Arc<Waiter>,
        edges: impl Fn(&Waiter, &dyn Fn(bool) -> bool) -> Edges,
    ) -> Option<Circle> {
        let mut visits = vec![Visit {
            waiter: Arc::clone(requester),
            from: None,
        }];
        let mut seen = HashSet::with_hasher(Seed::default());
        seen.insert(requester.key().clone());
        let mut next = VecDeque::from([0]);
        while let Some(index) = next.pop_front() {
            let beyond = edges(&visits[index].waiter, &|_| false);
            if beyond.is_any || !beyond.are_all_holders {
                return self.knot(requester, edges);
            }
            if beyond.requester {
                return Some(path_to(&visits, index));
            }
            for waiter in beyond.waiting.iter().filter_map(|holder| self.of(*holder)) {
                if seen.insert(waiter.key().clone()) {
                    next.push_back(visits.len());
                    visits.push(Visit {
                        waiter: Arc::clone(waiter),
                        from: Some(index),
                    });
                }
            }
        }
        None
    }

    /// The shortest circle through `requester` of sessions that wait for each other for ever, where
    /// some need any of several holders: each of these must wait for the requester, too, directly or
    /// through others.
    fn knot(
        &self,
        requester: &Arc<Waiter>,
        edges: impl Fn(&Waiter, &dyn Fn(bool) -> bool) -> Edges,
    ) -> Option<Circle> {
        let mut knot = Knot::new(requester);
        while let Some((place, waiter)) = knot.next_unread() {
            let beyond = edges(&waiter, &|is_any| knot.knows(waiter.key(), is_any));
            knot.read(place, beyond, |session| self.of(session));
        }
        knot.shortest_circle()
    }

    /// Whom the request of `waiter` waits for at this lock of its key. Looks at the holders or at the
    /// waiting sessions, whichever are fewer, and at the owners; and at none of them, if it waits for
    /// all or any of the holders and these are known. `ends_before` says of an owner's grant that its
    /// lease ends before the requester's wait does.
    pub(super) fn edges(
        &self,
        requester: SessionNumber,
        waiter: &Waiter,
        lock: &Lock,
        are_known: &dyn Fn(bool) -> bool,
        ends_before: impl Fn(Token) -> bool,
    ) -> Edges {
        let needs = lock.needs(waiter);
        let is_any = needs == Some(Obstacle::Any);
        let are_all_holders = is_any || needs == Some(Obstacle::All);
        if are_all_holders && are_known(is_any) {
            return Edges {
                is_any,
                are_all_holders,
                ..Edges::default()
            };
        }
        // Most takers do not wait, and the leases of their owners' locks need not be looked for.
        let stuck_taker = |holder: &Holder, hold: &Hold| {
            let may_be_stuck = hold.taker == requester || self.waiters.contains_key(&hold.taker);
            let is_stuck = may_be_stuck && (holder.is_session() || !ends_before(hold.word.token()));
            is_stuck.then_some(hold.taker)
        };
        let (all, mut stuck) = match are_all_holders {
            true => (
                lock.holders_in_all(),
                self.stuck_holders(requester, lock, stuck_taker),
            ),
            false => {
                let own = needs.and_then(|_| lock.hold_of(waiter.holder()));
                let stuck = own.and_then(|hold| stuck_taker(waiter.holder(), &hold));
                (usize::from(own.is_some()), stuck.into_iter().collect())
            }
        };
        let has_free = stuck.len() < all;
        let has_requester = stuck.contains(&requester);
        stuck.retain(|one| *one != requester);
        // Sorted, so that of several circles of one length the client is always told the same one.
        stuck.sort_unstable();
        stuck.dedup();
        Edges {
            is_any,
            are_all_holders,
            requester: has_requester,
            waiting: stuck,
            has_free,
        }
    }

    fn stuck_holders(
        &self,
        requester: SessionNumber,
        lock: &Lock,
        stuck_taker: impl Fn(&Holder, &Hold) -> Option<SessionNumber>,
    ) -> Vec<SessionNumber> {
        if lock.holders_in_all() <= self.waiters.len() + 1 {
            let holders = lock.holders();
            let stuck = holders.filter_map(|(holder, hold)| stuck_taker(&holder, &hold));
            return stuck.collect();
        }
        let is_holder =
            |session: &SessionNumber| lock.grant_of(HolderRef::Session(*session)).is_some();
        let others = self.waiters.keys().filter(|one| **one != requester);
        let sessions = others.chain([&requester]).copied().filter(is_holder);
        let owners = lock.owners();
        sessions
            .chain(owners.filter_map(|(holder, hold)| stuck_taker(holder, hold)))
            .collect()
    }
}

/// The circle that the visits from the first one to this make.
fn path_to(visits: &[Visit], last: usize) -> Circle {
    let backwards = std::iter::successors(Some(last), |&index| visits[index].from);
    let mut path: Vec<usize> = backwards.collect();
    path.reverse();
    circle_of(path.iter().map(|index| &visits[*index].waiter))
}

pub(super) fn circle_of<'a>(waiters: impl Iterator<Item = &'a Arc<Waiter>>) -> Circle {
    let steps = waiters.map(|waiter| Step {
        waiter: waiter.session(),
        key: Key::new(waiter.key().as_bytes()),
    });
    Circle::new(steps.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use shuttle::future::block_on;
    use shuttle::thread;

    use crate::model::{Mode, Peer, Value};
    use crate::table::plain::{PlainTable, test_table};
    use crate::table::{Ending, Locked, Session, interleave};

    fn table() -> Arc<PlainTable> {
        Arc::new(test_table())
    }

    fn open(table: &PlainTable) -> Session {
        table.open(Peer::Unix(None), Duration::ZERO)
    }

    fn key(index: usize) -> Vec<u8> {
        format!("x{index}").into_bytes()
    }

    fn take(table: &PlainTable, session: &mut Session, key: &[u8], mode: &Mode) {
        assert_eq!(
            table.lock(session, key, mode, Instant::now()),
            Locked::Acquired
        );
    }

    fn wait(table: &PlainTable, session: &mut Session, key: &[u8]) -> Locked {
        table.lock_or_wait(session, key, &Mode::Exclusive, Instant::now())
    }

    /// Waits for the lock as a connection would, and says whether the session has it.
    fn acquire(table: &PlainTable, session: &mut Session, key: &[u8]) -> Locked {
        let answer = wait(table, session, key);
        if answer != Locked::Waiting {
            return answer;
        }
        block_on(table.granted(session));
        assert!(table.settle(session, Ending::Granted, Instant::now()));
        Locked::Acquired
    }

    /// Each of three sessions holds a key and asks for the next session's. The request that comes
    /// last is refused; the others get their locks once its session ends.
    fn ring() {
        interleave::yield_with(thread::yield_now);
        let (table, deadlocks) = (table(), Arc::new(AtomicUsize::new(0)));
        let mut sessions: Vec<Session> = (0..3).map(|_| open(&table)).collect();
        for (index, session) in sessions.iter_mut().enumerate() {
            take(&table, session, &key(index), &Mode::Exclusive);
        }
        let run = |(index, mut session): (usize, Session)| {
            let (table, deadlocks) = (Arc::clone(&table), Arc::clone(&deadlocks));
            thread::spawn(move || {
                match acquire(&table, &mut session, &key((index + 1) % 3)) {
                    Locked::Acquired => {}
                    Locked::Deadlock(circle) => {
                        assert_eq!(circle.steps().len(), 3);
                        assert_eq!(circle.requester(), session.number());
                        deadlocks.fetch_add(1, Ordering::Relaxed);
                    }
                    other => panic!("unexpected {other:?}"),
                }
                table.end(session, Instant::now());
            })
        };
        let threads: Vec<_> = sessions.into_iter().enumerate().map(run).collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("no assertion failed"));
        assert_eq!(
            deadlocks.load(Ordering::Relaxed),
            1,
            "found, and found once"
        );
        assert_eq!(table.held(), 0);
    }

    #[test]
    fn the_request_that_closes_a_circle_is_refused_whatever_the_interleaving() {
        shuttle::check_random(ring, 3_000);
        shuttle::check_pct(ring, 3_000, 3);
    }

    /// Sessions that take their keys in one order can never wait for each other.
    fn ordered() {
        interleave::yield_with(thread::yield_now);
        let table = table();
        let run = |first: usize| {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let mut session = open(&table);
                for index in first..3 {
                    assert_eq!(acquire(&table, &mut session, &key(index)), Locked::Acquired);
                }
                table.end(session, Instant::now());
            })
        };
        let threads: Vec<_> = [0, 0, 1, 1].into_iter().map(run).collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("no assertion failed"));
        assert_eq!(table.held(), 0);
    }

    #[test]
    fn there_is_no_false_alarm_whatever_the_interleaving() {
        shuttle::check_random(ordered, 3_000);
        shuttle::check_pct(ordered, 3_000, 3);
    }

    #[test]
    fn a_circle_may_go_through_any_holder_of_a_shared_key() {
        let table = table();
        let shared = Mode::Shared(Value::new(b"v"));
        let mut sessions: Vec<Session> = (0..4).map(|_| open(&table)).collect();
        for session in &mut sessions[..3] {
            take(&table, session, b"shared", &shared);
        }
        let [_, _, third, fourth] = &mut sessions[..] else {
            panic!("four sessions")
        };
        take(&table, fourth, b"own", &Mode::Exclusive);
        assert_eq!(wait(&table, third, b"own"), Locked::Waiting);
        let Locked::Deadlock(circle) = wait(&table, fourth, b"shared") else {
            panic!("a circle")
        };
        let [first, second] = circle.steps() else {
            panic!("two steps: {circle:?}")
        };
        assert_eq!((first.waiter.0, first.key.as_bytes()), (4, &b"shared"[..]));
        assert_eq!((second.waiter.0, second.key.as_bytes()), (3, &b"own"[..]));
        assert_eq!(
            table.circle(fourth, b"shared"),
            Some(circle),
            "also for one who would not wait"
        );
    }

    #[test]
    fn a_chain_of_ten_thousand_is_walked_without_recursion() {
        let table = table();
        let mut sessions: Vec<Session> = (0..10_000).map(|_| open(&table)).collect();
        for (index, session) in sessions.iter_mut().enumerate() {
            take(&table, session, &key(index), &Mode::Exclusive);
        }
        let (last, others) = sessions.split_last_mut().expect("sessions");
        for (index, session) in others.iter_mut().enumerate() {
            assert_eq!(wait(&table, session, &key(index + 1)), Locked::Waiting);
        }
        let Locked::Deadlock(circle) = wait(&table, last, &key(0)) else {
            panic!("a circle of everyone");
        };
        assert_eq!(circle.steps().len(), 10_000);
    }

    /// Two waiters are granted a shared lock together, and one of them asks for a key of the other
    /// before the other's task knows of the grant. The other does not wait any more, although it is
    /// still in the graph.
    #[test]
    fn a_grant_that_its_session_has_not_noticed_yet_is_no_edge() {
        let table = table();
        let [mut holder, mut slow, mut quick] = [open(&table), open(&table), open(&table)];
        let shared = Mode::Shared(Value::new(b"v"));
        take(&table, &mut holder, b"k", &Mode::Exclusive);
        take(&table, &mut slow, b"own", &Mode::Exclusive);
        for session in [&mut slow, &mut quick] {
            let answer = table.lock_or_wait(session, b"k", &shared, Instant::now());
            assert_eq!(answer, Locked::Waiting);
        }
        table.end(holder, Instant::now());
        assert!(table.settle(&mut quick, Ending::Granted, Instant::now()));
        assert_eq!(table.circle(&quick, b"own"), None);
        assert_eq!(wait(&table, &mut quick, b"own"), Locked::Waiting);
    }

    #[test]
    fn a_wait_that_is_over_is_no_edge() {
        let table = table();
        let [mut first, mut second] = [open(&table), open(&table)];
        take(&table, &mut first, b"a", &Mode::Exclusive);
        take(&table, &mut second, b"b", &Mode::Exclusive);
        assert_eq!(wait(&table, &mut first, b"b"), Locked::Waiting);
        assert!(matches!(
            wait(&table, &mut second, b"a"),
            Locked::Deadlock(_)
        ));
        assert!(!table.settle(&mut first, Ending::Deadline, Instant::now()));
        assert_eq!(wait(&table, &mut second, b"a"), Locked::Waiting);
    }
}
