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
use common::history::{Event, Held, History, violations};
use common::process::Process;
use elock::model::{Ask, AskedFor, Limits, Mode, Owner, Peer, Secret, SessionId, Value};
use elock::store::Changes;
use elock::table::{Claim, Detached, Ending, LockTable, Locked, Session, TakenOver, TokenClock};
use elock::table::{Unlocked, Watch};

const KEYS: usize = 20;

/// How many slots a key has that has slots.
const SLOTS: u32 = 3;

/// How many owner words there are.
const WORDS: u64 = 8;

/// An owner word's number as a client: above those of all sessions.
const OWNERS: u64 = 1000;

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
    did: Did,
}

/// What happened, to show that everything did.
#[derive(Debug, Default)]
struct Did {
    slots: AtomicUsize,
    owners: AtomicUsize,
    several: AtomicUsize,
    none_of_several: AtomicUsize,
    promoted: AtomicUsize,
    demoted: AtomicUsize,
    taken_over: AtomicUsize,
    taken_over_waiting: AtomicUsize,
    watched: AtomicUsize,
}

/// How an actor holds a key.
#[derive(Debug, Clone, Copy)]
struct Hold {
    held: Held,
    /// The owner word that it acts for.
    word: Option<u64>,
}

impl Hold {
    fn owner(self) -> Option<Owner> {
        self.word.map(|word| Owner::new(&word.to_ne_bytes()))
    }

    fn mode(self) -> Mode {
        match self.held {
            Held::Alone => Mode::Exclusive,
            Held::Shared(value) => Mode::Shared(Value::new(&value.to_ne_bytes())),
            Held::Slot(slots) => Mode::Slot(slots.try_into().expect("not zero")),
        }
    }

    fn ask(self) -> Ask {
        // Long, as a wait that outlives the lease would not be a deadlock.
        let lease = Duration::from_secs(100 * 3600);
        Ask {
            mode: self.mode(),
            holder: match self.owner() {
                None => AskedFor::Session,
                Some(owner) => AskedFor::Owner(owner, Some(lease)),
            },
        }
    }
}

/// One session on its own thread, which asks, waits, gives up and releases as it pleases.
struct Actor<'a> {
    arena: &'a Arena,
    number: u64,
    dice: Dice,
    session: Session,
    id: SessionId,
    held: BTreeMap<usize, Hold>,
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
            did: Did::default(),
        })
    }

    fn open(&self, dice: &mut Dice) -> (Session, SessionId) {
        let mut session = self.table.open(Peer::Unix(None), Duration::ZERO);
        let secret = || Ok::<_, ()>(Secret(dice.roll(1 << 40).into()));
        let id = self.table.session_id(&mut session, secret);
        let id = id.expect("no store").expect("it was drawn").value;
        (session, id)
    }

    /// Waits again and again until a lock has passed on, until the run is over and all is free.
    fn watch(&self, number: u64) {
        let mut dice = Dice::new(number);
        while Instant::now() < self.ends {
            let key = 2 * dice.roll(KEYS as u64 / 2) as usize;
            let Watch::Held(_, token) = self.table.state(&key.to_ne_bytes()) else {
                continue;
            };
            let (watcher, history) = (number, &self.histories[key]);
            let known = token.0;
            history.push(Event::Watches {
                watcher,
                token: known,
            });
            let key = key.to_ne_bytes();
            let watching = self.table.watch(&key);
            let other =
                watching.until(|state| !matches!(state, Watch::Held(_, one) if *one == token));
            let patience = run_time() + Duration::from_secs(60);
            let woken = runtime().block_on(async { tokio::time::timeout(patience, other).await });
            // If it was not woken, the history says whether it should have been.
            let Ok(state) = woken else { return };
            let token = match state {
                Watch::Free => None,
                Watch::Held(_, token) => Some(token.0),
            };
            history.push(Event::Woken { watcher, token });
            count(&self.did.watched);
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

/// How a key is held, if it is held in one way only: the even ones alone, so that their order of
/// service can be judged.
fn kind(key: usize, dice: &mut Dice) -> Held {
    match key % 4 {
        3 => Held::Slot(SLOTS),
        1 if dice.roll(3) > 0 => Held::Shared(dice.roll(2)),
        _ => Held::Alone,
    }
}

impl<'a> Actor<'a> {
    fn enter(arena: &'a Arena, number: u64) -> Self {
        let mut dice = Dice::new(number);
        let (session, id) = arena.open(&mut dice);
        Self {
            arena,
            number,
            dice,
            session,
            id,
            held: BTreeMap::new(),
            leased: BTreeSet::new(),
        }
    }

    fn play(mut self) {
        while Instant::now() < self.arena.ends {
            match self.dice.roll(40) {
                0..=3 => self.release_all(),
                4..=12 => self.release_one(),
                13..=15 => self.lease_one(),
                16 => self.is_taken_over(),
                17..=18 => self.change_mode(),
                19..=21 => self.ask_for_several(),
                _ => self.ask(),
            }
        }
        self.release_all();
        self.arena.table.end(self.session, Instant::now());
    }

    /// As whom the history knows who holds a key so.
    fn client(&self, hold: Hold) -> u64 {
        hold.word.map_or(self.number, |word| OWNERS + word)
    }

    /// Whether it may ask for the key: not if it holds it, or lets it end by its lease.
    fn is_free_for_me(&mut self, key: usize) -> bool {
        let (table, name) = (&self.arena.table, key.to_ne_bytes());
        if self.leased.contains(&key) && table.token(&self.session, &name, None).value.is_err() {
            self.leased.remove(&key);
        }
        !self.held.contains_key(&key) && !self.leased.contains(&key)
    }

    fn ask(&mut self) {
        let key = self.dice.roll(KEYS as u64) as usize;
        if !self.is_free_for_me(key) {
            return;
        }
        let word = (self.dice.roll(4) == 0).then(|| self.dice.roll(WORDS));
        let held = kind(key, &mut self.dice);
        let hold = Hold { held, word };
        let (client, history) = (self.client(hold), &self.arena.histories[key]);
        // Several may ask for one word at one time.
        if word.is_none() {
            history.push(Event::Asks { client });
        }
        let answer = self.arena.table.acquire(
            &mut self.session,
            &key.to_ne_bytes(),
            &hold.ask(),
            Duration::from_secs(3600),
            Instant::now(),
        );
        match answer.expect("no store").value {
            Locked::Acquired => self.got(key, hold, None),
            Locked::Deadlock(_) => self.release_all(),
            Locked::Waiting => self.wait(key, hold),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn wait(&mut self, key: usize, hold: Hold) {
        let (client, held) = (self.client(hold), hold.held);
        let history = &self.arena.histories[key];
        if hold.word.is_none() {
            history.push(Event::Waits { client, held });
        }
        if self.dice.roll(20) == 0 {
            return self.is_taken_over_while_it_waits(key, hold);
        }
        let wait = self.arena.table.wait(&mut self.session).expect("it waits");
        let arrival = wait.arrival();
        let patience = match self.dice.roll(4) {
            0 => Duration::from_micros(self.dice.roll(300)),
            _ => Duration::from_secs(3600),
        };
        let granted =
            runtime().block_on(async { tokio::time::timeout(patience, wait.granted()).await });
        let ending = match granted {
            Ok(()) => Ending::Granted,
            Err(_) if self.dice.roll(2) == 0 => Ending::Deadline,
            Err(_) => Ending::Disconnect,
        };
        if ending != Ending::Granted && hold.word.is_none() {
            history.push(Event::Leaves { client });
        }
        if wait.end(ending, Instant::now()).value == Locked::Acquired {
            self.got(key, hold, Some(arrival));
        }
    }

    /// Another connection takes the session over, which goes on there with all that it has.
    fn is_taken_over(&mut self) {
        let (new, _) = self.arena.open(&mut self.dice);
        let old = std::mem::replace(&mut self.session, new);
        let (table, id) = (&self.arena.table, self.id);
        let signal = old.signal().clone();
        let lets_go = async {
            signal.cut_off().await;
            let detached = table.detach(old, Instant::now());
            assert!(matches!(detached, Detached::InGrace(_)));
        };
        let session = &mut self.session;
        let takes = async { table.take_over(session, id, Instant::now).await };
        let ((), taken) = runtime().block_on(async { tokio::join!(lets_go, takes) });
        assert!(matches!(taken, TakenOver::FromConnection(_)));
        count(&self.arena.did.taken_over);
        self.looks_at_what_it_has();
    }

    /// The same while the old connection waits: the lock is granted there and told, or never granted.
    fn is_taken_over_while_it_waits(&mut self, key: usize, hold: Hold) {
        let (new, _) = self.arena.open(&mut self.dice);
        let mut old = std::mem::replace(&mut self.session, new);
        let (table, id, client) = (&self.arena.table, self.id, self.client(hold));
        let history = &self.arena.histories[key];
        let signal = old.signal().clone();
        let waits = async {
            let wait = table.wait(&mut old).expect("it waits");
            let arrival = wait.arrival();
            let is_granted = tokio::select! {
                () = wait.granted() => signal.is_cut_off().is_none(),
                _ = signal.cut_off() => false,
            };
            if !is_granted && hold.word.is_none() {
                history.push(Event::Leaves { client });
            }
            let ending = match is_granted {
                true => Ending::Granted,
                false => Ending::Disconnect,
            };
            let has_it = wait.end(ending, Instant::now()).value == Locked::Acquired;
            assert_eq!(has_it, is_granted);
            let _ = signal.cut_off().await;
            let detached = table.detach(old, Instant::now());
            assert!(matches!(detached, Detached::InGrace(_)));
            has_it.then_some(arrival)
        };
        let delay = Duration::from_micros(self.dice.roll(300));
        let session = &mut self.session;
        let takes = async {
            tokio::time::sleep(delay).await;
            table.take_over(session, id, Instant::now).await
        };
        let (arrival, taken) = runtime().block_on(async { tokio::join!(waits, takes) });
        assert!(matches!(taken, TakenOver::FromConnection(_)));
        count(&self.arena.did.taken_over_waiting);
        match arrival {
            Some(arrival) => self.got(key, hold, Some(arrival)),
            None if hold.word.is_none() => self.is_told(key),
            None => {}
        }
        self.looks_at_what_it_has();
    }

    /// Compares what the session has with what it was told.
    fn looks_at_what_it_has(&self) {
        let own = self.held.iter().filter(|(_, hold)| hold.word.is_none());
        own.for_each(|(key, _)| self.is_told(*key));
    }

    fn is_told(&self, key: usize) {
        let (table, name) = (&self.arena.table, key.to_ne_bytes());
        let has_it = table.token(&self.session, &name, None).value.is_ok();
        let client = self.number;
        self.arena.histories[key].push(Event::Told { client, has_it });
    }

    /// Several keys, all or none.
    fn ask_for_several(&mut self) {
        let keys = [(); 3].map(|()| 2 * self.dice.roll(KEYS as u64 / 2) as usize);
        let keys = BTreeSet::from(keys).into_iter();
        let keys: Vec<usize> = keys.filter(|key| self.is_free_for_me(*key)).collect();
        let mut claims = Vec::new();
        for key in &keys {
            match self.claim(*key) {
                Some(claim) => claims.push(claim),
                None => break,
            }
        }
        let (table, now) = (&self.arena.table, Instant::now());
        if claims.len() == keys.len() {
            let kept = table.keep_all(&mut self.session, &claims, now);
            let kept = kept.expect("nobody takes one");
            assert_eq!(kept.value, Locked::Acquired);
            let (held, word) = (Held::Alone, None);
            keys.iter()
                .for_each(|key| self.got(*key, Hold { held, word }, None));
            return count(&self.arena.did.several);
        }
        for claim in claims {
            let grant = match claim {
                Claim::New(grant) => grant,
                Claim::Listed(token) => {
                    let listed = table.listed_grant(&self.session, token);
                    listed.expect("it is listed")
                }
                other => panic!("unexpected {other:?}"),
            };
            table.give_back(&mut self.session, &grant, now);
        }
        keys.iter().for_each(|key| self.is_told(*key));
        count(&self.arena.did.none_of_several);
    }

    fn claim(&mut self, key: usize) -> Option<Claim> {
        let ask = Ask {
            mode: Mode::Exclusive,
            holder: AskedFor::SessionWithOthers,
        };
        let (table, name) = (&self.arena.table, key.to_ne_bytes());
        let wait = Duration::from_micros(self.dice.roll(600));
        let asked = table.acquire(&mut self.session, &name, &ask, wait, Instant::now());
        let mut outcome = asked.expect("no store");
        if outcome.value == Locked::Waiting {
            let waiting = table.wait(&mut self.session).expect("it waits");
            let granted =
                runtime().block_on(async { tokio::time::timeout(wait, waiting.granted()).await });
            let ending = granted.map_or(Ending::Deadline, |()| Ending::Granted);
            outcome = waiting.end(ending, Instant::now());
        }
        outcome.basis.take_claim()
    }

    /// Makes a lock exclusive that can be shared, or the reverse.
    fn change_mode(&mut self) {
        let (table, histories) = (&self.arena.table, &self.arena.histories);
        let can = self.held.iter().find(|(key, _)| *key % 4 == 1);
        let Some((key, hold)) = can.map(|(key, hold)| (*key, *hold)) else {
            return;
        };
        let held = match hold.held {
            Held::Alone => Held::Shared(self.dice.roll(2)),
            _ => Held::Alone,
        };
        let changed = Hold { held, ..hold };
        let client = self.client(hold);
        if held != Held::Alone {
            histories[key].push(Event::Changes { client, held });
        }
        let set = table.set_mode(
            &mut self.session,
            &key.to_ne_bytes(),
            hold.owner().as_ref(),
            &changed.mode(),
            Instant::now(),
        );
        let is_done = set.expect("no store").value.expect("it holds it");
        match (is_done, held) {
            (true, Held::Alone) => {
                histories[key].push(Event::Changes { client, held });
                count(&self.arena.did.promoted);
            }
            (true, _) => count(&self.arena.did.demoted),
            (false, held) => assert_eq!(held, Held::Alone, "others share it"),
        }
        if is_done {
            self.held.insert(key, changed);
        }
    }

    fn got(&mut self, key: usize, hold: Hold, arrival: Option<u64>) {
        self.held.insert(key, hold);
        self.arena.histories[key].got(self.client(hold), hold.held, arrival);
        match hold {
            Hold { word: Some(_), .. } => count(&self.arena.did.owners),
            Hold {
                held: Held::Slot(_),
                ..
            } => count(&self.arena.did.slots),
            _ => {}
        }
    }

    fn release_one(&mut self) {
        if let Some((key, hold)) = self.held.pop_first() {
            self.release(key, hold);
        }
    }

    fn release(&mut self, key: usize, hold: Hold) {
        self.arena.histories[key].gives(self.client(hold));
        let answer = self.arena.table.unlock(
            &mut self.session,
            &key.to_ne_bytes(),
            hold.owner().as_ref(),
            Instant::now(),
        );
        let answer = answer.expect("no store").value;
        assert!(matches!(answer, Unlocked::Released { .. }));
    }

    /// Lets a lock end by itself, and forgets that it ever had it.
    fn lease_one(&mut self) {
        let Some((key, hold)) = self.held.pop_first() else {
            return;
        };
        if hold.word.is_some() {
            return self.release(key, hold);
        }
        self.arena.histories[key].gives(self.number);
        let lease = Some(Duration::from_micros(self.dice.roll(300)));
        let (table, now) = (&self.arena.table, Instant::now());
        let answer = table.set_lease(&mut self.session, &key.to_ne_bytes(), None, lease, now);
        assert_eq!(answer.expect("no store").value, Ok(()));
        self.leased.insert(key);
    }

    fn release_all(&mut self) {
        self.leased.clear();
        for (key, hold) in std::mem::take(&mut self.held) {
            match hold.word {
                Some(_) => self.release(key, hold),
                None => self.arena.histories[key].gives(self.number),
            }
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
    on_threads(53, move |number| match number {
        51 => {
            while Instant::now() < shared.ends || shared.table.next_lease_end().is_some() {
                shared.table.end_leases(Instant::now(), 10);
                std::thread::yield_now();
            }
        }
        52.. => shared.watch(number),
        _ => Actor::enter(&shared, number).play(),
    });
    let events = assert_no_violation(&arena.histories);
    println!("{events} events, {:?}", arena.did);
    assert!(events > 10_000, "only {events} events: that was no stress");
    assert_eq!(arena.table.held(), 0);
    assert!(arena.table.waiters().is_empty());
    assert_eq!(arena.table.session_counts(), (0, 0));
    let Did {
        slots,
        owners,
        several,
        none_of_several,
        promoted,
        demoted,
        taken_over,
        taken_over_waiting,
        watched,
    } = &arena.did;
    let of_keys = [slots, owners, several, none_of_several, promoted, demoted];
    for counter in of_keys
        .iter()
        .chain(&[taken_over, taken_over_waiting, watched])
    {
        assert!(counter.load(Ordering::Relaxed) > 0, "{:?}", arena.did);
    }
}

// ---------------------------------------------------------------------------- over sockets

/// What happened, to show that everything did.
#[derive(Debug, Default)]
struct Tally {
    acquired: AtomicUsize,
    slots: AtomicUsize,
    by_owners: AtomicUsize,
    several: AtomicUsize,
    none_of_several: AtomicUsize,
    promoted: AtomicUsize,
    demoted: AtomicUsize,
    unavailable: AtomicUsize,
    deadlocks: AtomicUsize,
    ends: AtomicUsize,
    resumed: AtomicUsize,
    taken_over: AtomicUsize,
    told_before_that: AtomicUsize,
    watched: AtomicUsize,
}

/// One client over a socket.
struct Visitor<'a> {
    address: std::net::SocketAddr,
    histories: &'a [History],
    tally: &'a Tally,
    number: u64,
    dice: Dice,
    client: Client,
    held: Vec<(usize, Hold)>,
}

impl Hold {
    /// What stands behind a command on its lock.
    fn suffix(self) -> String {
        self.word.map_or(String::new(), |word| format!(" w{word}"))
    }

    fn lock(self, key: usize, wait_ms: u64) -> String {
        let lock = match self.held {
            Held::Alone => format!("lock k{key}"),
            Held::Shared(value) => format!("lock_value k{key} v{value}"),
            Held::Slot(slots) => format!("lock_slot k{key} {slots}"),
        };
        let owner = self
            .word
            .map_or(String::new(), |word| format!(" w{word} 0"));
        format!("{lock} 0.{wait_ms:03}{owner}")
    }
}

impl Visitor<'_> {
    fn play(mut self, ends: Instant) {
        self.client.ask("set_timeout 0", "200 timeout set");
        while Instant::now() < ends {
            match self.dice.roll(200) {
                0..=1 => self.leave_for_good(),
                2..=3 => self.leave_and_resume(),
                4..=5 => {
                    let id = self.client.id();
                    self.take_over(&id, None);
                }
                6..=12 => self.release_all(),
                13..=90 => self.release_one(),
                91..=96 => self.ask_for_several(),
                97..=106 => self.change_mode(),
                _ => self.ask(),
            }
        }
        self.release_all();
    }

    fn client_of(&self, hold: Hold) -> u64 {
        hold.word.map_or(self.number, |word| OWNERS + word)
    }

    fn holds(&self, key: usize) -> bool {
        self.held.iter().any(|(held, _)| *held == key)
    }

    fn ask(&mut self) {
        let key = self.dice.roll(KEYS as u64) as usize;
        if self.holds(key) {
            return;
        }
        let wait_ms = if self.dice.roll(2) == 0 {
            0
        } else {
            self.dice.roll(500)
        };
        let word = (self.dice.roll(5) == 0).then(|| self.dice.roll(WORDS));
        let hold = Hold {
            held: kind(key, &mut self.dice),
            word,
        };
        let leaves = self.dice.roll(200);
        if (1..=3).contains(&leaves) && word.is_none() {
            let id = self.client.id();
            self.client.send(hold.lock(key, wait_ms));
            return self.take_over(&id, Some((key, hold)));
        }
        self.client.send(hold.lock(key, wait_ms));
        if leaves == 0 && word.is_none() {
            // Whether it was granted or not: who leaves while it waits is no holder.
            return self.leave_for_good();
        }
        let answer = self.client.read();
        match answer.split(' ').next() {
            Some("200") => self.got(key, hold),
            Some("409") => count(&self.tally.unavailable),
            Some("423") => {
                count(&self.tally.deadlocks);
                self.release_all();
            }
            _ => panic!("unexpected {answer}"),
        }
    }

    fn got(&mut self, key: usize, hold: Hold) {
        self.histories[key].got(self.client_of(hold), hold.held, None);
        self.held.push((key, hold));
        count(&self.tally.acquired);
        if hold.word.is_some() {
            count(&self.tally.by_owners);
        }
        if let Held::Slot(_) = hold.held {
            count(&self.tally.slots);
        }
    }

    fn ask_for_several(&mut self) {
        let keys = [(); 3].map(|()| 2 * self.dice.roll(KEYS as u64 / 2) as usize);
        let keys = BTreeSet::from(keys).into_iter();
        let keys: Vec<usize> = keys.filter(|key| !self.holds(*key)).collect();
        if keys.is_empty() {
            return;
        }
        let names: Vec<String> = keys.iter().map(|key| format!("k{key}")).collect();
        let wait_ms = self.dice.roll(500);
        self.client
            .send(format!("lock_all 0.{wait_ms:03} {}", names.join(" ")));
        let answer = self.client.read();
        let (held, word) = (Held::Alone, None);
        match answer.split(' ').next() {
            Some("200") => {
                keys.iter()
                    .for_each(|key| self.got(*key, Hold { held, word }));
                count(&self.tally.several);
            }
            Some("409" | "423") => {
                keys.iter().for_each(|key| self.is_told(*key));
                count(&self.tally.none_of_several);
                if answer.starts_with("423") {
                    self.release_all();
                }
            }
            _ => panic!("unexpected {answer}"),
        }
    }

    /// Compares what the session has with what it was told.
    fn is_told(&mut self, key: usize) {
        self.client.send(format!("token k{key}"));
        let has_it = self.client.read().starts_with("200 ");
        let client = self.number;
        self.histories[key].push(Event::Told { client, has_it });
    }

    fn change_mode(&mut self) {
        let can = self.held.iter().position(|(key, _)| key % 4 == 1);
        let Some((at, (key, hold))) = can.map(|at| (at, self.held[at])) else {
            return;
        };
        let (client, suffix) = (self.client_of(hold), hold.suffix());
        let held = match hold.held {
            Held::Alone => {
                let value = self.dice.roll(2);
                let held = Held::Shared(value);
                self.histories[key].push(Event::Changes { client, held });
                self.client
                    .ask(format!("demote k{key} v{value}{suffix}"), "200 OK");
                count(&self.tally.demoted);
                held
            }
            _ => {
                self.client.send(format!("promote k{key}{suffix}"));
                match self.client.read().as_str() {
                    "200 OK" => {}
                    "409 Unavailable" => return,
                    other => panic!("unexpected {other}"),
                }
                let held = Held::Alone;
                self.histories[key].push(Event::Changes { client, held });
                count(&self.tally.promoted);
                held
            }
        };
        self.held[at].1.held = held;
    }

    fn release_one(&mut self) {
        if let Some((key, hold)) = self.held.pop() {
            self.release(key, hold);
        }
    }

    fn release(&mut self, key: usize, hold: Hold) {
        self.histories[key].gives(self.client_of(hold));
        let line = format!("unlock k{key}{}", hold.suffix());
        self.client.ask(line, "200 Unlocked");
    }

    /// What an owner word holds is not the session's.
    fn release_owners(&mut self) {
        let held = std::mem::take(&mut self.held).into_iter();
        let (of_owners, own): (Vec<_>, _) = held.partition(|(_, hold)| hold.word.is_some());
        self.held = own;
        for (key, hold) in of_owners {
            self.release(key, hold);
        }
    }

    fn release_all(&mut self) {
        self.release_owners();
        self.forget();
        self.client.ask("unlock_all", "200 OK");
    }

    /// Is about to let go of what the session holds.
    fn forget(&mut self) {
        let (number, histories) = (self.number, self.histories);
        self.held.retain(|(key, hold)| {
            if hold.word.is_none() {
                histories[*key].gives(number);
            }
            hold.word.is_some()
        });
    }

    /// Without a grace period, so that the locks are free as soon as the server has noticed.
    fn leave_for_good(&mut self) {
        self.forget();
        self.reconnect();
        self.client.ask("set_timeout 0", "200 timeout set");
        // Before it waits for anything, as the session that stood for them is gone.
        self.release_owners();
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

    /// From a connection that stands, which may have asked for a lock.
    fn take_over(&mut self, id: &str, asked: Option<(usize, Hold)>) {
        let mut new = Client::connect(self.address);
        new.ask(format!("resume {id}"), "200 Resumed");
        let mut old = std::mem::replace(&mut self.client, new);
        let answers = old.read_at_most(usize::MAX);
        count(&self.tally.taken_over);
        if let Some((key, hold)) = asked {
            if answers.iter().any(|answer| answer == "200 Acquired") {
                count(&self.tally.told_before_that);
                self.got(key, hold);
            }
            self.is_told(key);
        }
        let held = self.held.clone();
        let own = held.iter().filter(|(_, hold)| hold.word.is_none());
        own.for_each(|(key, _)| self.is_told(*key));
    }

    fn reconnect(&mut self) {
        let old = std::mem::replace(&mut self.client, Client::connect(self.address));
        match self.dice.roll(2) {
            0 => old.reset(),
            _ => drop(old),
        }
    }
}

/// Waits again and again until a lock has passed on.
fn watch_over_a_socket(
    client: &mut Client,
    watcher: u64,
    world: (&[History], &Tally),
    ends: Instant,
) {
    let ((histories, tally), mut dice) = (world, Dice::new(watcher));
    while Instant::now() < ends {
        let key = 2 * dice.roll(KEYS as u64 / 2) as usize;
        let token_in = |answer: &str| answer.split(' ').nth(1).and_then(|word| word.parse().ok());
        client.send(format!("watch k{key}"));
        let Some(token) = token_in(&client.read()) else {
            continue;
        };
        histories[key].push(Event::Watches { watcher, token });
        // One that is not woken is not answered in time.
        client.send(format!("watch k{key} {token} 3600"));
        let token = token_in(&client.read());
        histories[key].push(Event::Woken { watcher, token });
        count(&tally.watched);
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
        on_threads(204, move |number| {
            let (mut client, dice) = (Client::connect(address), Dice::new(number));
            let (histories, tally, held) = (&histories, &tally, Vec::new());
            if number > 200 {
                return watch_over_a_socket(&mut client, number, (histories, tally), ends);
            }
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
        slots,
        by_owners,
        several,
        none_of_several,
        promoted,
        demoted,
        unavailable,
        deadlocks,
        ends,
        resumed,
        taken_over,
        told_before_that,
        watched,
    } = &*tally;
    let of_keys = [acquired, slots, by_owners, several, none_of_several];
    let of_modes = [promoted, demoted, unavailable, deadlocks, watched];
    let of_sessions = [ends, resumed, taken_over, told_before_that];
    for counter in of_keys.iter().chain(&of_modes).chain(&of_sessions) {
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
        held: value.into(),
        arrival,
        token: None,
    }
}

fn got_with_token(client: u64, value: Option<u64>, token: u64) -> Event {
    Event::Got {
        client,
        held: value.into(),
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

fn joins(client: u64, held: Held) -> Event {
    Event::Got {
        client,
        held,
        arrival: None,
        token: None,
    }
}

#[test]
fn the_checker_knows_slots_modes_watchers_and_what_was_told() {
    use Event::{Asks, Changes, Gives, Leaves, Told, Waits, Watches, Woken};
    let (slot, reader, writer) = (Held::Slot(2), Held::Shared(5), Held::Alone);
    let told = |client, has_it| Told { client, has_it };
    let right = [
        vec![
            joins(1, slot),
            joins(2, slot),
            Gives { client: 1 },
            joins(3, slot),
        ],
        vec![
            joins(1, writer),
            Changes {
                client: 1,
                held: reader,
            },
            joins(2, reader),
            Gives { client: 1 },
            Changes {
                client: 2,
                held: writer,
            },
        ],
        // The one who waits has left; or came after that; or does not exclude it.
        vec![
            joins(1, reader),
            Waits {
                client: 2,
                held: writer,
            },
            Asks { client: 3 },
            Leaves { client: 2 },
            joins(3, reader),
        ],
        vec![
            joins(1, reader),
            Asks { client: 3 },
            Waits {
                client: 2,
                held: writer,
            },
            joins(3, reader),
        ],
        vec![
            joins(1, slot),
            Waits {
                client: 2,
                held: slot,
            },
            Asks { client: 3 },
            joins(3, slot),
        ],
        vec![joins(1, writer), told(1, true), told(2, false)],
        vec![
            joins(1, writer),
            Watches {
                watcher: 9,
                token: 4,
            },
            Gives { client: 1 },
            Woken {
                watcher: 9,
                token: None,
            },
            joins(2, writer),
            // Nothing has changed since.
            Watches {
                watcher: 9,
                token: 5,
            },
        ],
    ];
    for events in right {
        assert_eq!(violations(&events), [""; 0], "{events:?}");
    }
    let wrong = [
        // A slot too many, and one beside a lock that has none.
        vec![joins(1, slot), joins(2, slot), joins(3, slot)],
        vec![joins(1, slot), joins(2, reader)],
        // An owner holds a key once.
        vec![joins(OWNERS, reader), joins(OWNERS, reader)],
        // Made exclusive while another shares it; shared with one who has it alone.
        vec![
            joins(1, reader),
            joins(2, reader),
            Changes {
                client: 1,
                held: writer,
            },
        ],
        vec![joins(1, writer), joins(2, reader)],
        vec![Changes {
            client: 1,
            held: reader,
        }],
        // A reader past a waiting writer.
        vec![
            joins(1, reader),
            Waits {
                client: 2,
                held: writer,
            },
            Asks { client: 3 },
            joins(3, reader),
        ],
        // One key of several was kept, after the others were refused.
        vec![Asks { client: 1 }, told(1, true)],
        // A take-over: the new connection has a lock that the old one was never told of, or has lost
        // one that it was told of.
        vec![
            joins(1, writer),
            Waits {
                client: 2,
                held: writer,
            },
            Gives { client: 1 },
            Leaves { client: 2 },
            told(2, true),
        ],
        vec![joins(1, writer), told(1, false)],
        // A watcher that was not woken, and one that was woken by what it knew.
        vec![
            joins(1, writer),
            Watches {
                watcher: 9,
                token: 4,
            },
            Gives { client: 1 },
            joins(2, writer),
        ],
        vec![
            Watches {
                watcher: 9,
                token: 4,
            },
            Woken {
                watcher: 9,
                token: Some(4),
            },
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
