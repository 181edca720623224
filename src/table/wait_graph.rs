//! The wait-for graph, in which deadlocks are found.
//!
//! Only a request that waits can close a circle, so the graph has no other requests. A request
//! queues up under the guard of its key, and then takes the graph's mutex, enters the graph and
//! walks it; it holds the mutex from its entry to the end of its walk, and leaves queue and graph
//! again if it found a circle. The mutex is taken before the guard of any key, never under one.
//!
//! Why the walks find every circle: of the sessions in a circle one enters the graph last, and its
//! walk sees all the others in place.
//!
//! Why the walks find no false circle: while the mutex is held no request enters the graph, and a
//! session that is in the graph and waits does nothing else, because it runs one request at a time;
//! the requester stands still, too. So every edge that the walk reads was there from its first step
//! on. Deadlines, disconnects and leases only take edges away. A grant takes the new holder's edge
//! away and turns the edges of other waiters to it; but the new holder does not wait any more, and
//! cannot enter the graph while the mutex is held, so no path goes on from there. All of this
//! happens without the mutex, so an edge does not count if its waiter no longer waits. If the
//! requester itself is granted the lock while it walks, it cannot leave the queue any more, and has
//! the lock whatever its walk found.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::lock::Lock;
use super::lock_key::LockKey;
use super::shrunk;
use super::waiters::Waiter;
use crate::model::{Circle, Key, SessionNumber, Step};

/// The edges from each waiting session to the key it waits for. Kept under the table's mutex.
/// A session waits for one key at most.
#[derive(Debug, Default)]
pub(super) struct WaitGraph {
    waiters: HashMap<SessionNumber, Arc<Waiter>>,
}

/// Where the walk goes on from a key.
#[derive(Debug)]
pub(super) enum Beyond {
    /// The requester itself is among the holders.
    Requester,
    /// The holders that wait themselves, or did a moment ago.
    Waiting(Vec<SessionNumber>),
}

/// A waiting session that the walk has met, its key, and the visit that led to it.
struct Visit {
    waiter: SessionNumber,
    key: LockKey,
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

    /// The requests that wait at this moment, in no order.
    pub(super) fn waiting(&self) -> Vec<Arc<Waiter>> {
        self.waiters
            .values()
            .filter(|waiter| waiter.is_waiting())
            .cloned()
            .collect()
    }

    /// The shortest circle that `requester` would close by waiting for `key`.
    ///
    /// `beyond` reads a key's holders under one short guard, and says which of them wait
    /// themselves. The walk is breadth first, without recursion, and looks at each key once, so
    /// that its cost grows with what waits and not with what is held.
    #[allow(
        clippy::mutable_key_type,
        reason = "the words beside a key are no part of what keys are compared by"
    )]
    pub(super) fn circle(
        &self,
        requester: SessionNumber,
        key: &LockKey,
        beyond: impl Fn(&LockKey) -> Beyond,
    ) -> Option<Circle> {
        let mut visits = vec![Visit {
            waiter: requester,
            key: key.clone(),
            from: None,
        }];
        let mut seen = HashSet::from([key.clone()]);
        let mut next = VecDeque::from([0]);
        while let Some(index) = next.pop_front() {
            let Beyond::Waiting(holders) = beyond(&visits[index].key) else {
                return Some(path_to(&visits, index));
            };
            let waiters = holders.iter().filter_map(|holder| self.waiters.get(holder));
            for waiter in waiters.filter(|waiter| waiter.is_waiting()) {
                if seen.insert(waiter.key().clone()) {
                    next.push_back(visits.len());
                    visits.push(Visit {
                        waiter: waiter.session(),
                        key: waiter.key().clone(),
                        from: Some(index),
                    });
                }
            }
        }
        None
    }

    /// Where a walk that looks for `requester` goes on from the key of this lock. Looks at the
    /// holders or at the waiting sessions, whichever are fewer.
    pub(super) fn beyond(&self, requester: SessionNumber, lock: &Lock) -> Beyond {
        if lock.is_held_by(requester) {
            return Beyond::Requester;
        }
        let mut waiting: Vec<SessionNumber> = match lock.holders_in_all() <= self.waiters.len() {
            true => lock
                .holders()
                .map(|(holder, _)| holder)
                .filter(|holder| self.waiters.contains_key(holder))
                .collect(),
            false => self
                .waiters
                .keys()
                .copied()
                .filter(|waiter| lock.is_held_by(*waiter))
                .collect(),
        };
        // Sorted, so that of several circles of one length the client is always told the same one.
        waiting.sort_unstable();
        Beyond::Waiting(waiting)
    }
}

fn path_to(visits: &[Visit], last: usize) -> Circle {
    let backwards = std::iter::successors(Some(last), |&index| visits[index].from);
    let step = |index: usize| Step {
        waiter: visits[index].waiter,
        key: Key::new(visits[index].key.as_bytes()),
    };
    let mut steps: Vec<Step> = backwards.map(step).collect();
    steps.reverse();
    Circle::new(steps)
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
