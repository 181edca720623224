//! Many sessions on few keys, on real threads: nothing that must never happen, happens.
//!
//! A few seconds each by default; `ELOCK_STRESS_SECS=60 cargo test --release --test stress` runs
//! longer.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::Client;
use common::history::{Event, History, violations};
use common::process::Process;
use elock::model::{Limits, Mode, Peer, Value};
use elock::store::Changes;
use elock::table::{Ending, LockTable, Locked, Session, TokenClock, Unlocked};

const KEYS: usize = 20;

fn run_time() -> Duration {
    let secs = std::env::var("ELOCK_STRESS_SECS")
        .ok()
        .and_then(|secs| secs.parse().ok());
    Duration::from_secs(secs.unwrap_or(3))
}

/// Random enough, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % sides
    }
}

/// Runs `act` on that many threads and fails, instead of hanging, if one of them never ends.
fn on_threads(count: u64, act: impl Fn(u64) + Send + Sync + 'static) {
    let act = Arc::new(act);
    let (ends, ended): (_, Receiver<u64>) = channel();
    let threads: Vec<_> = (1..=count)
        .map(|number| {
            let (act, ends) = (Arc::clone(&act), ends.clone());
            std::thread::spawn(move || {
                act(number);
                ends.send(number).expect("the test waits");
            })
        })
        .collect();
    drop(ends);
    let deadline = Instant::now() + run_time() + Duration::from_secs(120);
    for left in (1..=count).rev() {
        let patience = deadline.saturating_duration_since(Instant::now());
        if ended.recv_timeout(patience).is_err() {
            // A thread that panicked says so when it is joined; one that is lost cannot be.
            let failed = threads.into_iter().filter(|thread| thread.is_finished());
            failed.for_each(|thread| thread.join().expect("no thread fails"));
            panic!("{left} of {count} never came to their end");
        }
    }
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("no thread fails"));
}

fn assert_no_violation(histories: &[History]) -> usize {
    let histories = histories.iter().map(History::take).enumerate();
    let checked = histories.map(|(key, events)| {
        let wrong = violations(&events);
        assert!(
            wrong.is_empty(),
            "key {key}: {} violations, first {}",
            wrong.len(),
            wrong[0]
        );
        events.len()
    });
    checked.sum()
}

// ---------------------------------------------------------------------------- the table alone

struct Arena {
    table: LockTable,
    histories: Vec<History>,
    ends: Instant,
}

/// One session on its own thread, which asks, waits, gives up and releases as it pleases.
struct Actor<'a> {
    arena: &'a Arena,
    number: u64,
    dice: Dice,
    session: Session,
    held: BTreeMap<usize, Option<u64>>,
    /// What it gave a lease and will not use again before it has ended.
    leased: BTreeSet<usize>,
}

impl Arena {
    fn open_for(time: Duration) -> Arc<Self> {
        let limits = Limits {
            locks: 1000,
            locks_per_session: 1000,
            waiters_per_key: 1000,
            sessions_in_grace: 0,
            max_hold: None,
            equal_values_pass: false,
        };
        Arc::new(Self {
            table: LockTable::new(limits, TokenClock::default(), Changes::default()),
            histories: (0..KEYS).map(|_| History::default()).collect(),
            ends: Instant::now() + time,
        })
    }
}

impl<'a> Actor<'a> {
    fn enter(arena: &'a Arena, number: u64) -> Self {
        Self {
            arena,
            number,
            dice: Dice::new(number),
            session: arena.table.open(Peer::Unix(None), Duration::ZERO),
            held: BTreeMap::new(),
            leased: BTreeSet::new(),
        }
    }

    fn play(mut self) {
        while Instant::now() < self.arena.ends {
            match self.dice.roll(8) {
                0 => self.release_all(),
                1..=2 => self.release_one(),
                3 => self.lease_one(),
                _ => self.ask(),
            }
        }
        self.release_all();
        self.arena.table.end(self.session, Instant::now());
    }

    fn ask(&mut self) {
        let key = self.dice.roll(KEYS as u64) as usize;
        let table = &self.arena.table;
        if self.leased.contains(&key)
            && table
                .token(&self.session, &key.to_ne_bytes(), None)
                .value
                .is_err()
        {
            self.leased.remove(&key);
        }
        if self.held.contains_key(&key) || self.leased.contains(&key) {
            return;
        }
        // Even keys are exclusive only, so that their order of service can be judged.
        let value = (key % 2 == 1 && self.dice.roll(3) > 0).then(|| self.dice.roll(2));
        let mode = value.map_or(Mode::Exclusive, |value| {
            Mode::Shared(Value::new(&value.to_ne_bytes()))
        });
        let answer = table.acquire(
            &mut self.session,
            &key.to_ne_bytes(),
            &mode.into(),
            Duration::from_secs(3600),
            Instant::now(),
        );
        match answer.expect("no store").value {
            Locked::Acquired => self.got(key, value, None),
            Locked::Deadlock(_) => self.release_all(),
            Locked::Waiting => self.wait(key, value),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn wait(&mut self, key: usize, value: Option<u64>) {
        let wait = self.arena.table.wait(&mut self.session).expect("it waits");
        let arrival = wait.arrival();
        let patience = match self.dice.roll(4) {
            0 => Duration::from_micros(self.dice.roll(300)),
            _ => Duration::from_secs(3600),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let granted =
            runtime.block_on(async { tokio::time::timeout(patience, wait.granted()).await });
        let ending = match granted {
            Ok(()) => Ending::Granted,
            Err(_) if self.dice.roll(2) == 0 => Ending::Deadline,
            Err(_) => Ending::Disconnect,
        };
        if wait.end(ending, Instant::now()).value == Locked::Acquired {
            self.got(key, value, Some(arrival));
        }
    }

    fn got(&mut self, key: usize, value: Option<u64>, arrival: Option<u64>) {
        self.held.insert(key, value);
        self.arena.histories[key].got(self.number, value, arrival);
    }

    fn release_one(&mut self) {
        if let Some((key, _)) = self.held.pop_first() {
            self.arena.histories[key].gives(self.number);
            let answer = self.arena.table.unlock(
                &mut self.session,
                &key.to_ne_bytes(),
                None,
                Instant::now(),
            );
            let answer = answer.expect("no store").value;
            assert!(matches!(answer, Unlocked::Released { .. }));
        }
    }

    /// Lets a lock end by itself, and forgets that it ever had it.
    fn lease_one(&mut self) {
        if let Some((key, _)) = self.held.pop_first() {
            self.arena.histories[key].gives(self.number);
            let lease = Some(Duration::from_micros(self.dice.roll(300)));
            let (table, now) = (&self.arena.table, Instant::now());
            let answer = table.set_lease(&mut self.session, &key.to_ne_bytes(), None, lease, now);
            assert_eq!(answer.expect("no store").value, Ok(()));
            self.leased.insert(key);
        }
    }

    fn release_all(&mut self) {
        self.leased.clear();
        for key in std::mem::take(&mut self.held).into_keys() {
            self.arena.histories[key].gives(self.number);
        }
        let (table, now) = (&self.arena.table, Instant::now());
        let left = table.unlock_some(&mut self.session, usize::MAX, now);
        assert_eq!(left.value, 0);
    }
}

#[test]
fn sessions_on_threads_exclude_each_other_are_served_in_order_and_all_finish() {
    let arena = Arena::open_for(run_time());
    let shared = Arc::clone(&arena);
    on_threads(51, move |number| {
        if number == 51 {
            while Instant::now() < shared.ends || shared.table.next_lease_end().is_some() {
                shared.table.end_leases(Instant::now(), 10);
                std::thread::yield_now();
            }
            return;
        }
        Actor::enter(&shared, number).play();
    });
    let events = assert_no_violation(&arena.histories);
    assert!(events > 10_000, "only {events} events: that was no stress");
    assert_eq!(arena.table.held(), 0);
    assert!(arena.table.waiters().is_empty());
    assert_eq!(arena.table.session_counts(), (0, 0));
}

// ---------------------------------------------------------------------------- over sockets

/// What happened, to show that everything did.
#[derive(Debug, Default)]
struct Tally {
    acquired: AtomicUsize,
    unavailable: AtomicUsize,
    deadlocks: AtomicUsize,
    ends: AtomicUsize,
    resumed: AtomicUsize,
}

/// One client over a socket.
struct Visitor<'a> {
    address: std::net::SocketAddr,
    histories: &'a [History],
    tally: &'a Tally,
    number: u64,
    dice: Dice,
    client: Client,
    held: Vec<usize>,
}

impl Visitor<'_> {
    fn play(mut self, ends: Instant) {
        self.client.ask("set_timeout 0", "200 timeout set");
        while Instant::now() < ends {
            match self.dice.roll(100) {
                0 => self.leave_for_good(),
                1 => self.leave_and_resume(),
                2..=5 => self.release_all(),
                6..=45 => self.release_one(),
                _ => self.ask(),
            }
        }
        self.release_all();
    }

    fn ask(&mut self) {
        let key = self.dice.roll(KEYS as u64) as usize;
        if self.held.contains(&key) {
            return;
        }
        let wait_ms = if self.dice.roll(2) == 0 {
            0
        } else {
            self.dice.roll(500)
        };
        let value = (key % 2 == 1).then(|| self.dice.roll(2));
        let command = value.map_or(format!("lock k{key}"), |value| {
            format!("lock_value k{key} v{value}")
        });
        self.client.send(format!("{command} 0.{wait_ms:03}"));
        if self.dice.roll(200) == 0 {
            // Whether it was granted or not: who leaves while it waits is no holder.
            return self.leave_for_good();
        }
        let answer = self.client.read();
        match answer.split(' ').next() {
            Some("200") => {
                self.histories[key].got(self.number, value, None);
                self.held.push(key);
                count(&self.tally.acquired);
            }
            Some("409") => count(&self.tally.unavailable),
            Some("423") => {
                count(&self.tally.deadlocks);
                self.release_all();
            }
            _ => panic!("unexpected {answer}"),
        }
    }

    fn release_one(&mut self) {
        if let Some(key) = self.held.pop() {
            self.histories[key].gives(self.number);
            self.client.ask(format!("unlock k{key}"), "200 Unlocked");
        }
    }

    fn release_all(&mut self) {
        for key in std::mem::take(&mut self.held) {
            self.histories[key].gives(self.number);
        }
        self.client.ask("unlock_all", "200 OK");
    }

    /// Without a grace period, so that the locks are free as soon as the server has noticed.
    fn leave_for_good(&mut self) {
        for key in std::mem::take(&mut self.held) {
            self.histories[key].gives(self.number);
        }
        self.reconnect();
        self.client.ask("set_timeout 0", "200 timeout set");
        count(&self.tally.ends);
    }

    /// With a grace period: nobody else may get what is held meanwhile.
    fn leave_and_resume(&mut self) {
        self.client.ask("set_timeout 600000", "200 timeout set");
        let id = self.client.id();
        self.reconnect();
        loop {
            self.client.send(format!("conn_id {id}"));
            match self.client.read().as_str() {
                "200 conn id set" => break,
                // The server has not noticed yet that the old connection is gone.
                "403 cannot set conn id: still connected" => std::thread::yield_now(),
                other => panic!("unexpected {other}"),
            }
        }
        self.client.ask("set_timeout 0", "200 timeout set");
        count(&self.tally.resumed);
    }

    fn reconnect(&mut self) {
        let old = std::mem::replace(&mut self.client, Client::connect(self.address));
        match self.dice.roll(2) {
            0 => old.reset(),
            _ => drop(old),
        }
    }
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Resident memory of a process in bytes.
fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib * 1024
}

#[test]
fn two_hundred_clients_over_sockets_exclude_each_other_and_leave_nothing_behind() {
    let process = Process::start(&[]);
    let address = process.address;
    let histories: Arc<Vec<History>> = Arc::new((0..KEYS).map(|_| History::default()).collect());
    let tally = Arc::new(Tally::default());
    let play = |secs: Duration| {
        let (histories, tally, ends) = (
            Arc::clone(&histories),
            Arc::clone(&tally),
            Instant::now() + secs,
        );
        on_threads(200, move |number| {
            let (client, dice) = (Client::connect(address), Dice::new(number));
            let (histories, tally, held) = (&histories, &tally, Vec::new());
            Visitor {
                address,
                histories,
                tally,
                number,
                dice,
                client,
                held,
            }
            .play(ends);
        });
    };
    // A first round lets the server's buffers and pools grow to their working size.
    play(Duration::from_secs(1));
    let before = memory_of(process.child.id());
    play(run_time());
    let after = memory_of(process.child.id());
    let events = assert_no_violation(&histories);
    let mut observer = Client::connect(address);
    observer.until("the end of all sessions", |lines| lines.len() == 2);
    let stats = observer.ask_list("stats");
    assert_eq!(
        stats[1..],
        ["STAT clients 1", "STAT locks 0", "STAT monitoring 1"]
    );
    println!("{events} events, {tally:?}, memory {before} -> {after} bytes");
    assert!(
        after < before + 16 * 1024 * 1024,
        "memory grew from {before} to {after} bytes"
    );
    let Tally {
        acquired,
        unavailable,
        deadlocks,
        ends,
        resumed,
    } = &*tally;
    for counter in [acquired, unavailable, deadlocks, ends, resumed] {
        assert!(
            counter.load(Ordering::Relaxed) > 0,
            "something never happened: {tally:?}"
        );
    }
    process.kill();
}

// ---------------------------------------------------------------------------- the checker itself

fn got(client: u64, value: Option<u64>, arrival: Option<u64>) -> Event {
    Event::Got {
        client,
        value,
        arrival,
        token: None,
    }
}

fn got_with_token(client: u64, value: Option<u64>, token: u64) -> Event {
    Event::Got {
        client,
        value,
        arrival: None,
        token: Some(token),
    }
}

#[test]
fn the_checker_accepts_what_is_right() {
    let gives = |client| Event::Gives { client };
    let right = [
        vec![
            got(1, None, None),
            gives(1),
            got(2, None, Some(7)),
            gives(2),
            got(3, None, Some(9)),
        ],
        vec![
            got(1, Some(5), Some(9)),
            got(2, Some(5), Some(8)),
            gives(1),
            gives(2),
            got(3, Some(6), None),
        ],
        vec![
            got_with_token(1, None, 1),
            gives(1),
            got_with_token(2, Some(5), 4),
            got_with_token(3, Some(5), 3),
            gives(2),
            gives(3),
            got_with_token(1, None, 5),
        ],
    ];
    for events in right {
        assert_eq!(violations(&events), [""; 0], "{events:?}");
    }
}

#[test]
fn the_checker_catches_what_is_wrong() {
    let gives = |client| Event::Gives { client };
    let wrong = [
        vec![got(1, None, None), got(2, None, None)],
        vec![got(1, None, None), got(2, Some(5), None)],
        vec![got(1, Some(5), None), got(2, Some(6), None)],
        vec![
            got(1, Some(5), None),
            got(2, Some(5), None),
            gives(1),
            got(3, None, None),
        ],
        vec![got(1, None, Some(8)), gives(1), got(2, None, Some(7))],
        vec![got(1, None, None), gives(2)],
        vec![
            got_with_token(1, None, 5),
            gives(1),
            got_with_token(2, None, 5),
        ],
        vec![
            got_with_token(1, None, 5),
            gives(1),
            got_with_token(2, Some(5), 4),
        ],
        vec![
            got_with_token(1, Some(5), 5),
            gives(1),
            got_with_token(2, None, 4),
        ],
    ];
    for events in wrong {
        assert_eq!(violations(&events).len(), 1, "{events:?}");
    }
}

/// The stress above with a thief among the threads, who acts as a holder without asking.
#[test]
#[should_panic = "got it while"]
fn a_violation_under_stress_is_caught() {
    let arena = Arena::open_for(Duration::from_secs(1));
    let shared = Arc::clone(&arena);
    on_threads(8, move |number| {
        let mut actor = Actor::enter(&shared, number);
        if number == 8 {
            while Instant::now() < shared.ends {
                let key = actor.dice.roll(KEYS as u64) as usize;
                shared.histories[key].got(number, None, None);
                shared.histories[key].gives(number);
            }
        }
        actor.play();
    });
    assert_no_violation(&arena.histories);
}
