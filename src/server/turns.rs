//! Whose turn it is when connections ask for more than the workers can do.
//!
//! The runtime serves tasks in the order in which they become ready. So a client that always has more
//! to ask gets as much as a client that asks once in a while, whose answer then takes as long as the
//! turns of all busy clients together. Here the one who had the least goes first.
//!
//! Each connection has an [`Account`] of the time that it has used, in virtual time: that goes on as
//! fast as a connection which always has something to do is served. One that was idle never saves up time.
//! As long as nobody has to wait, all take their turns at once, until they have kept the workers busy for
//! [`FREE_NS`]. From there on they queue up, but for those whose turns are [short](SHORT_TURN_NS), who go on
//! for as long again. A task, the pace, lets those in the queue go, whose turn would end first by their
//! accounts, for [`SLICE_NS`] at a time; in between the runtime serves whatever else is ready, and looks for
//! input. Once nobody is left in the queue the workers keep up, and all accounts are even again.
//!
//! So who asks for little waits for a few turns, however many are busy, unless very many ask for little;
//! who asks for much has its share of the rest, and a fifth of the time is always the rest; and to be busy
//! costs nobody anything while others are not.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Shared;

/// For how many nanoseconds one connection is served before others get their turn.
const TURN_NS: u32 = 100_000;

/// For how long each worker serves connections in the order in which they come before they queue up.
const FREE_NS: u64 = 200_000;

/// The same for those whose turns are short.
const SHORT_FREE_NS: u64 = 2 * FREE_NS;

/// For how long each worker serves those in the queue before the runtime looks for input: long enough that
/// the look costs little beside it.
const SLICE_NS: u64 = 100_000;

/// What a call of the system costs, and each kilobyte that it writes. Calls are not timed, as those that
/// have to wait cannot be.
const CALL_NS: u32 = 3_000;
const KILOBYTE_NS: u32 = 300;

/// What a turn costs for each byte that was read for it, at the least.
const BYTE_NS: u32 = 3;

/// Of so many bytes a turn may be made as long as turns get; of fewer bytes it is short, most often.
const LARGE: usize = 1024;

/// A turn that usually takes no longer is short: a request or a few.
const SHORT_TURN_NS: u32 = 20_000;

/// A connection whose turns are short is never further ahead of the virtual time. It need not queue up as
/// long as there are few like it, and when there are many it should not pay for that.
const MOST_AHEAD_NS: u64 = 50_000;

/// What one connection has used. Small, as there are as many as connections.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// The virtual time up to which it was served.
    up_to_ns: u64,
    /// The time that it has used in this turn.
    used_ns: u32,
    /// What the turn costs at the least.
    least_ns: u32,
    /// The cost of its last turn.
    last_ns: u32,
    /// The lesser cost of the last two turns: most often the next one costs as much. One turn alone may
    /// have taken long as the system had taken the processor away.
    usual_ns: u32,
    /// How its task is woken; only if it ever had to wait, and is not in the queue.
    ticket: Option<Arc<Notify>>,
}

impl Account {
    /// Notes that it has read so many bytes.
    pub(super) fn read(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.least_ns = CALL_NS.saturating_add(bytes.saturating_mul(BYTE_NS));
    }

    /// Notes that the connection has used this time.
    pub(super) fn use_up(&mut self, time: Duration) {
        self.used_ns = self.used_with(time);
    }

    /// Notes a call of the system that has written so many bytes, or as much work that was not timed.
    pub(super) fn call(&mut self, bytes: usize) {
        let kilobytes = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        let cost_ns = CALL_NS.saturating_add(kilobytes.saturating_mul(KILOBYTE_NS));
        self.used_ns = self.used_ns.saturating_add(cost_ns);
    }

    /// Whether the turn is over when the connection has used this time beside what is noted.
    pub(super) fn is_over_with(&self, time: Duration) -> bool {
        self.used_with(time) >= TURN_NS
    }

    fn used_with(&self, time: Duration) -> u32 {
        let more_ns = u32::try_from(time.as_nanos()).unwrap_or(u32::MAX);
        self.used_ns.saturating_add(more_ns)
    }
}

/// One that waits for its turn: whose turn ends first, and then who came first, goes first.
#[derive(Debug)]
struct Waiting {
    /// The virtual time of the turn, if it costs as much as usual.
    start_ns: u64,
    end_ns: u64,
    place: u64,
    cost_ns: u32,
    ticket: Arc<Notify>,
}

impl Waiting {
    fn rank(&self) -> (u64, u64) {
        (self.end_ns, self.place)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Waiting {}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BinaryHeap<Reverse<Waiting>>,
    places: u64,
    /// Nobody waits any more.
    is_open: bool,
}

/// The turns of one server's connections.
#[derive(Debug)]
pub(super) struct Turns {
    workers: u64,
    /// The virtual time; it only grows.
    now_ns: AtomicU64,
    /// The time up to which any connection was served.
    last_ns: AtomicU64,
    /// For how long connections were served, by all workers together, since the pace last ran.
    busy_ns: AtomicU64,
    queue: Mutex<Queue>,
    /// How long the queue is.
    queued: AtomicUsize,
    pace: Notify,
}

impl Turns {
    /// Of a server with so many threads that run connections.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers: workers as u64,
            now_ns: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            queue: Mutex::default(),
            queued: AtomicUsize::new(0),
            pace: Notify::new(),
        }
    }

    /// Charges a connection for its turn, when it is over.
    pub(super) fn charge(&self, account: &mut Account) {
        let used_ns = std::mem::take(&mut account.used_ns).saturating_add(CALL_NS);
        let cost_ns = used_ns.max(std::mem::take(&mut account.least_ns));
        account.usual_ns = cost_ns.min(std::mem::replace(&mut account.last_ns, cost_ns));
        let now_ns = self.now_ns.load(Ordering::Relaxed);
        let begin_ns = account.up_to_ns.max(now_ns);
        // A turn that took longer than a turn may was most often not alone on its processor.
        let end_ns = begin_ns + u64::from(cost_ns.min(TURN_NS));
        account.up_to_ns = match cost_ns < SHORT_TURN_NS {
            true => end_ns.min(now_ns + MOST_AHEAD_NS).max(begin_ns),
            false => end_ns,
        };
        self.last_ns.fetch_max(account.up_to_ns, Ordering::Relaxed);
        let (cost_ns, free_ns) = (u64::from(cost_ns), self.workers * FREE_NS);
        let before_ns = self.busy_ns.fetch_add(cost_ns, Ordering::Relaxed);
        if before_ns < free_ns && before_ns + cost_ns >= free_ns {
            self.pace.notify_one();
        }
    }

    /// Whether a connection that has read so many bytes may take its turn at once.
    pub(super) fn may_go(&self, account: &Account, bytes: usize) -> bool {
        let busy_ns = self.busy_ns.load(Ordering::Relaxed);
        let is_short = || bytes < LARGE && account.usual_ns < SHORT_TURN_NS;
        match busy_ns / self.workers {
            0..FREE_NS if self.queued.load(Ordering::Relaxed) == 0 => true,
            0..SHORT_FREE_NS => is_short(),
            _ => false,
        }
    }

    /// Returns when it is the connection's turn: false if it need not wait any more, as the server stops.
    /// Cancel safe: one that does not wait any more costs the others a place.
    pub(super) async fn wait(&self, account: &mut Account, bytes: usize) -> bool {
        let Some(ticket) = self.queue_up(account, bytes) else {
            return false;
        };
        self.pace.notify_one();
        ticket.notified().await;
        // Not before: the place in the queue of one that was given up would be the next wait's end.
        account.ticket = Some(ticket);
        true
    }

    /// `None` if nobody waits any more.
    fn queue_up(&self, account: &mut Account, bytes: usize) -> Option<Arc<Notify>> {
        let least_ns = if bytes < LARGE { CALL_NS } else { TURN_NS / 2 };
        let cost_ns = account.usual_ns.max(least_ns);
        let start_ns = account.up_to_ns.max(self.now_ns.load(Ordering::Relaxed));
        let mut queue = self.queue();
        if queue.is_open {
            return None;
        }
        let ticket = account.ticket.take().unwrap_or_default();
        queue.places += 1;
        let waiting = Waiting {
            start_ns,
            end_ns: start_ns + u64::from(cost_ns),
            place: queue.places,
            cost_ns,
            ticket: Arc::clone(&ticket),
        };
        queue.waiting.push(Reverse(waiting));
        self.queued.store(queue.waiting.len(), Ordering::Relaxed);
        Some(ticket)
    }

    /// Lets the next ones go, after the runtime has looked for input. False if there are none: then all
    /// accounts are even.
    fn let_go(&self) -> bool {
        self.busy_ns.store(0, Ordering::Relaxed);
        let (mut next, mut cost_ns) = (Vec::new(), 0);
        let mut queue = self.queue();
        while cost_ns < self.workers * SLICE_NS
            && let Some(Reverse(one)) = queue.waiting.pop()
        {
            self.now_ns.fetch_max(one.start_ns, Ordering::Relaxed);
            cost_ns += u64::from(one.cost_ns);
            next.push(one.ticket);
        }
        self.queued.store(queue.waiting.len(), Ordering::Relaxed);
        drop(queue);
        next.iter().for_each(|ticket| ticket.notify_one());
        if next.is_empty() {
            let last_ns = self.last_ns.load(Ordering::Relaxed);
            self.now_ns.fetch_max(last_ns, Ordering::Relaxed);
        }
        !next.is_empty()
    }

    /// From here on nobody waits.
    fn open(&self) {
        let mut queue = self.queue();
        queue.is_open = true;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        waiting.iter().for_each(|one| one.0.ticket.notify_one());
    }

    /// Nothing is half done where a holder could panic.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets those who wait for their turn go, until `stop`; from there on nobody waits.
pub(super) async fn keep_pace(shared: Arc<Shared>, stop: CancellationToken) {
    let turns = &shared.turns;
    let pace = async {
        loop {
            turns.pace.notified().await;
            loop {
                // The runtime goes on here once all other tasks that are ready had their turn, and
                // it has looked for input.
                tokio::task::yield_now().await;
                if !turns.let_go() {
                    break;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = pace => {}
    }
    turns.open();
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::server::harness::Server;

    const SHORT: Duration = Duration::from_micros(5);
    const LONG: Duration = Duration::from_micros(100);
    const FREE: Duration = Duration::from_nanos(FREE_NS);

    fn charge(turns: &Turns, account: &mut Account, time: Duration) {
        account.use_up(time);
        turns.charge(account);
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn nobody_waits_while_the_workers_keep_up() {
        let (turns, mut account) = (Turns::new(1), Account::default());
        for _ in 0..1_000 {
            assert!(turns.may_go(&account, usize::MAX));
            charge(&turns, &mut account, LONG);
            assert!(!turns.let_go(), "the runtime has looked for input");
        }
    }

    #[test]
    fn once_they_do_not_the_busy_wait_and_others_do_not() {
        let (turns, mut idle) = (Turns::new(1), Account::default());
        let mut busy = Account::default();
        charge(&turns, &mut busy, FREE / 2);
        charge(&turns, &mut busy, FREE / 2);
        assert!(!turns.may_go(&busy, 1));
        assert!(turns.may_go(&idle, 1));
        assert!(!turns.may_go(&idle, LARGE), "its turn may be a long one");
        charge(&turns, &mut idle, SHORT);
        {
            let mut wait = pin!(turns.wait(&mut busy, 1));
            assert!(poll(wait.as_mut()).is_pending());
            assert!(turns.let_go());
            assert!(poll(wait).is_ready());
        }
        assert!(!turns.let_go());
        assert!(
            turns.may_go(&busy, 1) && turns.may_go(&idle, 1),
            "all are even"
        );
    }

    /// They would be in the way of those who wait.
    #[test]
    fn even_short_turns_are_queued_for_when_there_are_very_many() {
        let (turns, mut account) = (Turns::new(1), Account::default());
        let mut turns_taken = 0;
        while turns.may_go(&account, 1) {
            charge(&turns, &mut account, SHORT);
            turns_taken += 1;
        }
        assert!(turns_taken > 10);
        turns.queue_up(&mut account, 1);
        assert!(turns.let_go() && turns.may_go(&account, 1));
    }

    /// The system took the processor away while it was its turn, and the clock went on.
    #[test]
    fn one_turn_that_took_very_long_makes_a_connection_wait_no_more_than_before() {
        let (turns, mut account) = (Turns::new(1), Account::default());
        for time in [SHORT, 10 * LONG, SHORT] {
            charge(&turns, &mut account, time);
        }
        assert!(account.up_to_ns <= 2 * u64::from(TURN_NS));
        turns.let_go();
        charge(&turns, &mut Account::default(), FREE);
        assert!(turns.may_go(&account, 1));
        // But two are no accident.
        charge(&turns, &mut account, 10 * LONG);
        charge(&turns, &mut account, 10 * LONG);
        turns.let_go();
        charge(&turns, &mut Account::default(), FREE);
        assert!(!turns.may_go(&account, 1));
    }

    /// Each of the workers has a connection's turn, or they would rest.
    #[test]
    fn as_many_workers_serve_as_many_connections_at_a_time() {
        let turns = Turns::new(4);
        let mut accounts: Vec<_> = (0..8).map(|_| Account::default()).collect();
        let tickets: Vec<_> = accounts
            .iter_mut()
            .map(|account| {
                charge(&turns, account, LONG);
                charge(&turns, account, LONG);
                turns.queue_up(account, LARGE).expect("it waits")
            })
            .collect();
        let served = || {
            assert!(turns.let_go());
            let served = |ticket: &&Arc<Notify>| poll(pin!(ticket.notified())).is_ready();
            tickets.iter().filter(served).count()
        };
        assert_eq!([served(), served()], [4, 4]);
    }

    /// Its place in the queue stays, and must not be taken for that of its next wait.
    #[test]
    fn a_wait_that_was_given_up_ends_no_other() {
        let (turns, mut account) = (Turns::new(1), Account::default());
        assert!(poll(pin!(turns.wait(&mut account, LARGE))).is_pending());
        assert!(turns.let_go());
        let mut again = pin!(turns.wait(&mut account, LARGE));
        assert!(poll(again.as_mut()).is_pending());
        assert!(turns.let_go());
        assert_eq!(poll(again), Poll::Ready(true));
    }

    /// All of them come at once, and have never been served.
    #[test]
    fn many_new_ones_that_ask_for_much_are_behind_one_that_asks_for_little() {
        let (turns, mut asks) = (Turns::new(1), Account::default());
        charge(&turns, &mut asks, SHORT);
        charge(&turns, &mut asks, SHORT);
        let mut others: Vec<_> = (0..100).map(|_| Account::default()).collect();
        for other in &mut others {
            turns.queue_up(other, LARGE);
        }
        let ticket = turns.queue_up(&mut asks, 1).expect("it waits");
        assert!(turns.let_go());
        assert!(poll(pin!(ticket.notified())).is_ready());
    }

    /// Each always has something to do; one asks a question at a time, and three send as much as goes.
    #[test]
    fn who_had_least_goes_first_and_all_have_as_much_in_the_end() {
        let turns = Turns::new(1);
        let costs = [SHORT, LONG, LONG, LONG / 2];
        let mut accounts = [(); 4].map(|()| Account::default());
        let mut had = [Duration::ZERO; 4];
        let mut tickets: Vec<_> = accounts
            .iter_mut()
            .map(|account| turns.queue_up(account, LARGE).expect("it waits"))
            .collect();
        let bytes = [1, LARGE, LARGE, LARGE];
        for _ in 0..10_000 {
            assert!(turns.let_go());
            for (index, account) in accounts.iter_mut().enumerate() {
                if poll(pin!(tickets[index].notified())).is_ready() {
                    charge(&turns, account, costs[index]);
                    had[index] += costs[index];
                    tickets[index] = turns.queue_up(account, bytes[index]).expect("it waits");
                }
            }
        }
        let [short, others @ ..] = had;
        let is_about = |one: Duration, other: Duration| one < other * 5 / 4 && other < one * 5 / 4;
        assert!(
            others.iter().all(|one| is_about(*one, others[0])),
            "{had:?}"
        );
        assert_eq!(short, SHORT * 10_000, "it is next whenever it asks");
    }

    #[test]
    fn an_idle_connection_saves_nothing_up() {
        let (turns, mut busy, mut idle) = (Turns::new(1), Account::default(), Account::default());
        for _ in 0..1_000 {
            charge(&turns, &mut busy, LONG);
            turns.queue_up(&mut busy, 1);
            assert!(turns.let_go());
        }
        charge(&turns, &mut idle, LONG);
        assert!(idle.up_to_ns >= turns.now_ns.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn from_a_stop_on_nobody_waits() {
        let server = Server::start();
        let shared = Arc::clone(&server.shared);
        server.stop().await;
        let mut account = Account::default();
        charge(&shared.turns, &mut account, FREE);
        // Or it would be taken for a turn of the others.
        assert!(!shared.turns.wait(&mut account, LARGE).await);
    }
}
