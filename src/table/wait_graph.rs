//! The wait-for graph, in which deadlocks are found.
//!
//! Only a request that waits can close a circle, so the graph has no other requests. A request queues up
//! under the guard of its key, and then takes the graph's mutex, enters the graph and takes a first
//! [look](super::look) round, under the mutex. If it has closed a circle, it leaves queue and graph again.
//! The mutex is taken before the guard of any key, never under one.
//!
//! What a request waits for: the holders that must let go before it is its turn. All of them, if they
//! exclude it or one that stands before it: then one that cannot go on is enough. Any of them, if it
//! waits for a slot: then one that can go on is enough to wait for. Its own owner alone, if that holds
//! the key already: such a request stands in nobody's way. Those who stand before it in the queue
//! wait for the same holders, so that these edges are the same as edges to them. For a lock that is
//! held by an owner word stands the session that took it, unless its lease ends before the requester's
//! wait does.
//!
//! A first look is short, whatever waits and whoever asks: it has so many [steps](super::FIRST_LOOK_STEPS),
//! and if they do not suffice, the request is kept among the unseen, and waits. The server takes a
//! [second look](super::second_look) for these, which sees all, holds nothing for long, and refuses who
//! closed a circle.
//!
//! Invariants:
//!
//! 1. A request that waits has been looked round for to the end, or is among the unseen.
//! 2. A look for a request follows only those that entered the graph before it, whenever it is taken.
//! 3. While there are unseen requests, the server takes second looks.
//!
//! So every circle is found, and by one look: of its sessions one entered the graph last, all the others
//! were in place when it did, and none of them moves any more. Its look sees all of them (1, 2), at the
//! latest the second (3), and that of none of the others does (2). It is the one that is refused. Two kinds
//! are not found: if the lease of an owner's lock is made longer after the look, and if requests for one
//! key name different numbers of slots, so that one waits for more than one holder to let go.
//!
//! Why no circle is false: a session that is in the graph and waits does nothing else, because it runs
//! one request at a time, and the requester stands still, too. So the holds of sessions that wait from
//! the beginning of a look to its end were there at its beginning, whenever the look came to read them; and
//! all that it follows wait from its beginning on (2). Of those in a circle, a first look knows that no new
//! request entered the graph meanwhile, since it has the mutex, and a second look finds in the end that
//! they still wait. Deadlines, disconnects, leases and releases of owners' locks only take edges away, but
//! for requests that are left behind, and their new edges are true. A grant takes the new holder's edge
//! away and turns the edges of other waiters to it; but the new holder does not wait any more, so that no
//! path goes on from there. All of this happens without the mutex, so an edge does not count if its waiter
//! no longer waits. If the requester itself is granted the lock meanwhile, it cannot leave the queue any
//! more, and has the lock whatever its look found.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::lock_key::Seed;
use super::shrunk;
use super::waiters::Waiter;
use crate::model::SessionNumber;

/// The requests that wait, by session: each waits for one key at most. Kept under the table's mutex.
#[derive(Debug, Default)]
pub(super) struct WaitGraph {
    entries: HashMap<SessionNumber, Entry, Seed>,
    /// The unseen requests, in the order of their entries.
    unseen: BTreeMap<u64, Arc<Waiter>>,
    last_entry: u64,
}

/// A request in the graph.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) waiter: Arc<Waiter>,
    /// Entries are counted up.
    pub(super) number: u64,
}

impl Entry {
    /// A request that is not in the graph, as if it entered now.
    pub(super) fn outside(waiter: Arc<Waiter>) -> Self {
        let number = u64::MAX;
        Self { waiter, number }
    }
}

impl WaitGraph {
    pub(super) fn insert(&mut self, waiter: Arc<Waiter>) -> Entry {
        self.last_entry += 1;
        let number = self.last_entry;
        let entry = Entry { waiter, number };
        let before = self.entries.insert(entry.waiter.session(), entry.clone());
        debug_assert!(before.is_none(), "a session waits for one key at most");
        entry
    }

    pub(super) fn remove(&mut self, session: SessionNumber) {
        if let Some(entry) = self.entries.remove(&session) {
            self.unseen.remove(&entry.number);
        }
        if let Some(capacity) = shrunk(self.entries.len(), self.entries.capacity()) {
            self.entries.shrink_to(capacity);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The requests that wait at this moment, in no order.
    pub(super) fn waiting(&self) -> Vec<Arc<Waiter>> {
        let waiters = self.entries.values().map(|entry| &entry.waiter);
        waiters.filter(|one| one.is_waiting()).cloned().collect()
    }

    /// The request that a session waits with.
    pub(super) fn of(&self, session: SessionNumber) -> Option<&Arc<Waiter>> {
        self.entered_by(session, u64::MAX)
    }

    /// The request that a session waits with, if it was in the graph by this entry.
    pub(super) fn entered_by(&self, session: SessionNumber, number: u64) -> Option<&Arc<Waiter>> {
        let entry = self.entries.get(&session);
        let entry = entry.filter(|entry| entry.number <= number && entry.waiter.is_waiting());
        entry.map(|entry| &entry.waiter)
    }

    /// Keeps a request for a second look.
    pub(super) fn keep_unseen(&mut self, entry: Entry) {
        self.unseen.insert(entry.number, entry.waiter);
    }

    /// The unseen requests behind this entry, in their order, `most` at the most.
    pub(super) fn unseen_after(&self, number: u64, most: usize) -> Vec<Entry> {
        let entry = |(&number, waiter): (&u64, &Arc<Waiter>)| Entry {
            waiter: Arc::clone(waiter),
            number,
        };
        let unseen = self.unseen.range(number + 1..);
        unseen.map(entry).take(most).collect()
    }

    /// Notes that a second look for this entry has come to its end.
    pub(super) fn seen(&mut self, number: u64) {
        self.unseen.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use shuttle::Runner;
    use shuttle::future::block_on;
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    use shuttle::thread::{self, JoinHandle};
    use tokio::sync::Notify;

    use crate::model::{Mode, Peer, Value};
    use crate::table::plain::{PlainTable, test_table};
    use crate::table::{Ending, Locked, Session, interleave};

    fn table() -> Arc<PlainTable> {
        Arc::new(test_table())
    }

    /// Checks a race in orders by chance, and in those in which few threads are overtaken.
    fn check(race: impl Fn() + Send + Sync + Copy + 'static) {
        let mut config = shuttle::Config::new();
        // A look takes more than the usual 32 KiB in a build for tests.
        config.stack_size = 256 << 10;
        let begun = move || {
            interleave::yield_with(thread::yield_now);
            race();
        };
        Runner::new(RandomScheduler::new(3_000), config.clone()).run(begun);
        Runner::new(PctScheduler::new(3, 3_000), config).run(begun);
    }

    /// A table in which every request that waits needs a second look.
    fn unseeing() -> Arc<PlainTable> {
        Arc::new(PlainTable(test_table().0.with_first_looks_of(0)))
    }

    fn take_second_look(table: &PlainTable) {
        table.take_second_look(Instant::now, interleave::between_guards);
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
        table.end_wait(session, Ending::Decided, Instant::now())
    }

    /// Looks again whenever there is a request for it, until the server stops.
    fn look_again(table: &Arc<PlainTable>, stops: &Arc<Notify>) -> JoinHandle<()> {
        let (table, stops) = (Arc::clone(table), Arc::clone(stops));
        thread::spawn(move || {
            let again = async || {
                tokio::select! {
                    () = table.unseen() => true,
                    () = stops.notified() => false,
                }
            };
            while block_on(again()) {
                take_second_look(&table);
            }
        })
    }

    /// Runs on a thread for each, while another looks again.
    fn run_all(table: &Arc<PlainTable>, runs: Vec<impl FnOnce() + Send + 'static>) {
        let stops = Arc::default();
        let looker = look_again(table, &stops);
        let threads: Vec<_> = runs.into_iter().map(|run| thread::spawn(run)).collect();
        let join = |thread: JoinHandle<()>| thread.join().expect("no assertion failed");
        threads.into_iter().for_each(join);
        stops.notify_one();
        join(looker);
        assert_eq!(table.held(), 0);
    }

    /// Each of three sessions holds a key and asks for the next session's. The request that comes
    /// last is refused; the others get their locks once its session ends.
    fn ring(table: &Arc<PlainTable>) {
        let deadlocks = Arc::new(AtomicUsize::new(0));
        let mut sessions: Vec<Session> = (0..3).map(|_| open(table)).collect();
        for (index, session) in sessions.iter_mut().enumerate() {
            take(table, session, &key(index), &Mode::Exclusive);
        }
        let run = |(index, mut session): (usize, Session)| {
            let (table, deadlocks) = (Arc::clone(table), Arc::clone(&deadlocks));
            move || {
                match acquire(&table, &mut session, &key((index + 1) % 3)) {
                    Locked::Acquired => {}
                    Locked::Deadlock(circle) => {
                        assert_eq!(circle.len(), 3);
                        assert_eq!(circle.requester(), session.number());
                        deadlocks.fetch_add(1, Ordering::Relaxed);
                    }
                    other => panic!("unexpected {other:?}"),
                }
                table.end(session, Instant::now());
            }
        };
        run_all(table, sessions.into_iter().enumerate().map(run).collect());
        assert_eq!(
            deadlocks.load(Ordering::Relaxed),
            1,
            "found, and found once"
        );
    }

    #[test]
    fn the_request_that_closes_a_circle_is_refused_whatever_the_interleaving() {
        check(|| ring(&table()));
    }

    #[test]
    fn so_it_is_by_a_second_look() {
        check(|| ring(&unseeing()));
    }

    /// Sessions that take their keys in one order can never wait for each other.
    fn ordered(table: &Arc<PlainTable>) {
        let run = |first: usize| {
            let table = Arc::clone(table);
            move || {
                let mut session = open(&table);
                for index in first..3 {
                    assert_eq!(acquire(&table, &mut session, &key(index)), Locked::Acquired);
                }
                table.end(session, Instant::now());
            }
        };
        run_all(table, [0, 0, 1, 1].into_iter().map(run).collect());
    }

    #[test]
    fn there_is_no_false_alarm_whatever_the_interleaving() {
        check(|| ordered(&table()));
    }

    #[test]
    fn nor_is_there_by_a_second_look() {
        check(|| ordered(&unseeing()));
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
    fn a_circle_of_ten_thousand_is_found_by_a_second_look() {
        let table = table();
        let mut sessions: Vec<Session> = (0..10_000).map(|_| open(&table)).collect();
        for (index, session) in sessions.iter_mut().enumerate() {
            take(&table, session, &key(index), &Mode::Exclusive);
        }
        let (last, others) = sessions.split_last_mut().expect("sessions");
        for (index, session) in others.iter_mut().enumerate() {
            assert_eq!(wait(&table, session, &key(index + 1)), Locked::Waiting);
        }
        assert_eq!(table.circle(last, &key(0)), None, "it is too much to see");
        assert_eq!(wait(&table, last, &key(0)), Locked::Waiting);
        take_second_look(&table);
        let answer = table.end_wait(last, Ending::Decided, Instant::now());
        let Locked::Deadlock(circle) = answer else {
            panic!("a circle of everyone: {answer:?}");
        };
        assert_eq!((circle.len(), circle.left_out()), (10_000, 9_968));
        assert_eq!(circle.requester(), last.number());
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
        assert!(table.settle(&mut quick, Ending::Decided, Instant::now()));
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
