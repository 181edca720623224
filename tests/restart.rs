//! The server is killed at any moment and started again on the same directory, again and again,
//! while clients lock and unlock. What they were told is written down, and must be so afterwards.
//!
//! In one test a disk fails as well. What may follow an answer that says so is section 8 of
//! `protocol.md`, and all else is a fault.
//!
//! `ELOCK_KILL_ROUNDS=5000` kills it more often, best with `--release`; and `ELOCK_KILL_SEED` makes the
//! disk fail in other ways.
#![cfg(feature = "store")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use common::failing_disk::{FailingDisk, Fault};
use common::history::{History, violations};
use common::process::Process;

const PATIENCE: Duration = Duration::from_secs(60);
const CLIENTS: u64 = 8;
const KEYS: usize = 6;

/// Where the server is to be found, for those who lost it.
#[derive(Default)]
struct World {
    place: Mutex<Place>,
    moved: Condvar,
    histories: [History; KEYS],
    /// How many requests were answered.
    answered: AtomicU64,
    /// The number of the last start after which a disk failed.
    failed_in: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

#[derive(Default, Clone, Copy)]
struct Place {
    /// `None` while it is down.
    address: Option<SocketAddr>,
    start: u64,
    is_last: bool,
    is_over: bool,
}

/// Sends the clients home when the test fails.
struct GuardOver<'a>(&'a World);

impl Drop for GuardOver<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut place = self.0.place.lock().expect("no panic");
            place.is_over = true;
            self.0.moved.notify_all();
        }
    }
}

impl World {
    fn publish(&self, address: Option<SocketAddr>, is_last: bool) {
        let mut place = self.place.lock().expect("no panic");
        place.address = address;
        place.is_last = is_last;
        place.start += u64::from(address.is_some());
        self.moved.notify_all();
    }

    /// The address of a server that was started after start number `seen`. `None`: there will be none.
    fn next_start(&self, seen: u64) -> Option<(SocketAddr, Place)> {
        let mut place = self.place.lock().expect("no panic");
        loop {
            match place.address {
                _ if place.is_over => return None,
                Some(address) if place.start > seen => return Some((address, *place)),
                _ => place = self.moved.wait(place).expect("no panic"),
            }
        }
    }

    fn starts(&self) -> u64 {
        self.place.lock().expect("no panic").start
    }

    /// Waits for so many more answers.
    fn until_answered(&self, more: u64) {
        let until = self.answered.load(Ordering::Relaxed) + more;
        let begun = Instant::now();
        while self.answered.load(Ordering::Relaxed) < until {
            assert!(begun.elapsed() < PATIENCE, "the server answers nobody");
            std::thread::yield_now();
        }
    }

    fn is_wrong(&self, what: String) {
        self.wrong.lock().expect("no panic").push(what);
    }

    fn wrongs(&self) -> Vec<String> {
        let mut wrong = self.wrong.lock().expect("no panic").clone();
        for (key, history) in self.histories.iter().enumerate() {
            let found = violations(&history.take());
            wrong.extend(found.into_iter().map(|what| format!("k{key}: {what}")));
        }
        wrong
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// The server is gone.
struct Lost;

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> Result<Self, Lost> {
        let stream = TcpStream::connect(address).map_err(|_| Lost)?;
        stream.set_nodelay(true).map_err(|_| Lost)?;
        Ok(Self(BufReader::new(stream)))
    }

    fn send(&mut self, lines: &str) -> Result<(), Lost> {
        let sent = self.0.get_mut().write_all(lines.as_bytes());
        sent.map_err(|_| Lost)
    }

    fn read(&mut self) -> Result<String, Lost> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(_) if line.ends_with("\r\n") => Ok(line.trim_end().to_owned()),
            _ => Err(Lost),
        }
    }

    fn ask(&mut self, line: &str) -> Result<String, Lost> {
        self.send(&format!("{line}\n"))?;
        self.read()
    }
}

/// What a client knows of one key: what it was answered, and what may follow that.
///
/// Where it does not know whether it holds the lock, the server tells: by a token, or by `403`. What
/// the session itself has done is on disk then, and is so after a restart, too.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Knows {
    /// It does not hold it.
    Free(Back),
    /// It asked for it, and got no answer before the server was killed.
    Asked(Option<u64>, Back),
    /// It was told that it has it.
    Has(Grant),
    /// It gave it back and got no answer, or was told that it could not be stored. It may hold it
    /// still. Or a restart has brought back what it was refused or had lost.
    Perhaps { ends: bool },
}

/// What a restart may bring back.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Back {
    Nothing,
    /// A lock that could not be stored, and that was taken back in memory.
    Refused,
    /// A lock whose lease has ended, for the length of that.
    Lapsed,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Grant {
    value: Option<u64>,
    /// If it was told that, too.
    token: Option<u64>,
    /// A lease may be running that ends soon.
    ends: bool,
}

impl Grant {
    /// It is known by its number, and does not end by itself: from here on it must not be lost.
    fn is_firm(&self) -> bool {
        self.token.is_some() && !self.ends
    }
}

impl Knows {
    /// After `403`, if that may be; `None` if it must hold the lock.
    fn told_none(self) -> Option<Self> {
        match self {
            Self::Free(Back::Lapsed)
            | Self::Asked(_, Back::Lapsed)
            | Self::Perhaps { ends: true }
            | Self::Has(Grant { ends: true, .. }) => Some(Self::Free(Back::Lapsed)),
            Self::Free(_) | Self::Asked(..) | Self::Perhaps { ends: false } => {
                Some(Self::Free(Back::Nothing))
            }
            Self::Has(_) => None,
        }
    }

    fn back(self) -> Back {
        match self {
            Self::Free(back) | Self::Asked(_, back) => back,
            Self::Has(Grant { ends: true, .. }) | Self::Perhaps { ends: true } => Back::Lapsed,
            Self::Has(_) | Self::Perhaps { .. } => Back::Nothing,
        }
    }
}

/// What `token` was answered.
enum Told {
    Token(u64),
    None,
    NotStored,
}

/// Of leases that end soon, how long they are, at most.
const SHORT_MS: u64 = 30;

struct Client<'a> {
    number: u64,
    world: &'a World,
    dice: Dice,
    id: Option<String>,
    keys: [Knows; KEYS],
    /// The number of the server's start.
    seen: u64,
}

impl Client<'_> {
    fn run(&mut self) {
        while let Some((address, place)) = self.world.next_start(self.seen) {
            self.seen = place.start;
            if self.serve(address, place.is_last).is_ok() {
                return;
            }
        }
    }

    fn serve(&mut self, address: SocketAddr, is_last: bool) -> Result<(), Lost> {
        let mut server = Connection::open(address)?;
        self.come_back(&mut server, true)?;
        if is_last {
            return self.release_all(&mut server);
        }
        loop {
            if self.dice.below(100) == 0 {
                server = Connection::open(address)?;
                self.come_back(&mut server, false)?;
            }
            self.step(&mut server)?;
            self.world.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Resumes the session, and after a restart looks whether everything is as it was told; it is in
    /// any case.
    fn come_back(&mut self, server: &mut Connection, is_restart: bool) -> Result<(), Lost> {
        let Some(id) = self.id.clone() else {
            let answer = self.ask_until_stored(server, "conn_id")?;
            self.id = answer.strip_prefix("200 ").map(str::to_owned);
            return Ok(());
        };
        let line = format!("conn_id {id}");
        loop {
            let answer = self.ask_until_stored(server, &line)?;
            if answer == "200 conn id set" {
                break;
            }
            // The server may not have noticed yet that the connection before is gone.
            if is_restart || answer != "403 cannot set conn id: still connected" {
                self.wrong(format!("cannot resume: {answer}"));
                self.forget();
                return Ok(());
            }
            std::thread::yield_now();
        }
        for key in 0..KEYS {
            if is_restart {
                self.restarted(key);
            }
            self.look(server, key)?;
        }
        Ok(())
    }

    /// What a restart may have brought back.
    fn restarted(&mut self, key: usize) {
        self.keys[key] = match self.keys[key] {
            Knows::Free(Back::Refused) => Knows::Perhaps { ends: false },
            Knows::Free(Back::Lapsed) => Knows::Perhaps { ends: true },
            // By an old grant or by the one it asked for, with that one's value or not.
            Knows::Asked(_, Back::Refused) => Knows::Perhaps { ends: false },
            Knows::Asked(_, Back::Lapsed) => Knows::Perhaps { ends: true },
            knows => knows,
        };
    }

    /// Asks for the token of a key, and compares.
    fn look(&mut self, server: &mut Connection, key: usize) -> Result<(), Lost> {
        let line = format!("token k{key}");
        let answer = server.ask(&line)?;
        let told = self.told(&answer, &line);
        self.compare(key, told, &answer);
        Ok(())
    }

    fn told(&self, answer: &str, line: &str) -> Told {
        match answer.strip_prefix("200 ").map(str::parse) {
            Some(Ok(token)) => Told::Token(token),
            None if answer.starts_with("403 ") => Told::None,
            _ => {
                self.expect_not_stored(answer, line);
                Told::NotStored
            }
        }
    }

    fn compare(&mut self, key: usize, told: Told, answer: &str) {
        let knows = self.keys[key];
        let fits = match (knows, told) {
            (_, Told::NotStored) | (Knows::Perhaps { .. }, Told::Token(_)) => Some(knows),
            (_, Told::None) => knows.told_none(),
            (Knows::Asked(value, _), Told::Token(token)) => Some(self.got(key, value, token)),
            (Knows::Has(grant), Told::Token(token)) => match grant.token {
                None => Some(self.got(key, grant.value, token)),
                Some(had) => (had == token).then_some(knows),
            },
            (Knows::Free(_), Told::Token(_)) => None,
        };
        if fits.is_none() {
            self.wrong(format!("k{key} was {knows:?} and then {answer}"));
            self.gives(key);
        }
        self.keys[key] = fits.unwrap_or(Knows::Perhaps { ends: false });
    }

    /// After something went wrong: goes on with a session of its own.
    fn forget(&mut self) {
        for key in 0..KEYS {
            self.gives(key);
        }
        self.keys = [Knows::Free(Back::Nothing); KEYS];
        self.id = None;
    }

    fn step(&mut self, server: &mut Connection) -> Result<(), Lost> {
        let key = self.dice.below(KEYS as u64) as usize;
        let dice = self.dice.below(6);
        match self.keys[key] {
            Knows::Has(grant) => match dice {
                0 | 1 if grant.token.is_some() => self.expire(server, key, grant),
                0 | 1 => self.look(server, key),
                2 if !grant.ends => self.lock_again(server, key, grant.value),
                3 if self.dice.below(4) == 0 => self.release_all(server),
                _ => self.unlock(server, key),
            },
            Knows::Perhaps { .. } if dice > 0 => self.unlock(server, key),
            Knows::Perhaps { .. } => self.look(server, key),
            Knows::Free(Back::Refused) if dice < 2 => self.look(server, key),
            _ => self.lock(server, key),
        }
    }

    fn lock(&mut self, server: &mut Connection, key: usize) -> Result<(), Lost> {
        let before = self.keys[key];
        let value = (self.dice.below(3) == 0).then(|| self.dice.below(2));
        let wait = ["", " 0.005", " 0.05"][self.dice.below(3) as usize];
        self.keys[key] = Knows::Asked(value, before.back());
        let lock = match value {
            None => format!("lock k{key}{wait}"),
            Some(value) => format!("lock_value k{key} v{value}{wait}"),
        };
        server.send(&format!("{lock}\ntoken k{key}\n"))?;
        let answer = server.read()?;
        if answer == "200 Acquired" {
            // From here on it must not be lost.
            self.keys[key] = Knows::Has(Grant {
                value,
                token: None,
                ends: false,
            });
            let token = server.read()?;
            match self.told(&token, &lock) {
                Told::Token(token) => self.keys[key] = self.got(key, value, token),
                Told::None => self.wrong(format!("k{key} was acquired and has no token: {token}")),
                Told::NotStored => {}
            }
            return Ok(());
        }
        let is_refused = answer.starts_with("409 ") || answer.starts_with("423 ");
        self.keys[key] = match before.back() {
            // It does not have it. But that says nothing of what is on disk.
            back if is_refused => Knows::Free(back),
            back => {
                self.expect_not_stored(&answer, &lock);
                Knows::Free(match back {
                    Back::Lapsed => back,
                    _ => Back::Refused,
                })
            }
        };
        let answer = server.read()?;
        let told = self.told(&answer, &lock);
        self.compare(key, told, &answer);
        Ok(())
    }

    fn lock_again(
        &mut self,
        server: &mut Connection,
        key: usize,
        value: Option<u64>,
    ) -> Result<(), Lost> {
        let again = match value {
            None => format!("lock k{key}"),
            Some(value) => format!("lock_value k{key} v{value}"),
        };
        self.expect(server, &again, "200 Acquired").map(drop)
    }

    /// Gives the lock a lease: a long one, or none, or one that ends soon.
    fn expire(&mut self, server: &mut Connection, key: usize, grant: Grant) -> Result<(), Lost> {
        let lease_ms = match self.dice.below(4) {
            0 => 0,
            1 => 3_600_000,
            _ => 1 + self.dice.below(SHORT_MS),
        };
        let is_short = (1..=SHORT_MS).contains(&lease_ms);
        if is_short {
            // It may end from here on, whatever is answered.
            self.gives(key);
            self.keys[key] = Knows::Has(Grant {
                ends: true,
                ..grant
            });
        }
        let line = format!("expire k{key} {lease_ms}");
        let answer = server.ask(&line)?;
        match answer.as_str() {
            "200 OK" if grant.ends && !is_short => self.keeps(key, grant),
            "200 OK" => {}
            _ if answer.starts_with("403 ") => self.compare(key, Told::None, &answer),
            // The lease may be any that was asked for since the last 200.
            _ => self.expect_not_stored(&answer, &line),
        }
        Ok(())
    }

    fn unlock(&mut self, server: &mut Connection, key: usize) -> Result<(), Lost> {
        let before = self.keys[key];
        self.gives(key);
        let line = format!("unlock k{key}");
        let answer = server.ask(&line)?;
        match before.told_none() {
            _ if answer == "200 Unlocked" => self.keys[key] = Knows::Free(Back::Nothing),
            Some(free) if answer.starts_with("403 ") => self.keys[key] = free,
            _ => self.expect_not_stored(&answer, &line),
        }
        Ok(())
    }

    fn release_all(&mut self, server: &mut Connection) -> Result<(), Lost> {
        let back = self.keys.map(Knows::back);
        for key in 0..KEYS {
            self.gives(key);
        }
        if self.expect(server, "unlock_all", "200 OK")? {
            self.keys = back.map(|back| match back {
                Back::Lapsed => Knows::Free(back),
                _ => Knows::Free(Back::Nothing),
            });
        }
        Ok(())
    }

    /// It is about to give it back, or cannot rely on it from here on. What it may hold it may have
    /// given back.
    fn gives(&mut self, key: usize) {
        let Knows::Has(grant) = self.keys[key] else {
            return;
        };
        if grant.is_firm() {
            self.world.histories[key].gives(self.number);
        }
        self.keys[key] = Knows::Perhaps { ends: grant.ends };
    }

    fn got(&self, key: usize, value: Option<u64>, token: u64) -> Knows {
        self.world.histories[key].got_with_token(self.number, value, token);
        Knows::Has(Grant {
            value,
            token: Some(token),
            ends: false,
        })
    }

    fn keeps(&mut self, key: usize, grant: Grant) {
        let token = grant.token.expect("only then it got a lease");
        self.world.histories[key].keeps(self.number, grant.value, token);
        self.keys[key] = Knows::Has(Grant {
            ends: false,
            ..grant
        });
    }

    /// Asks, and says whether the answer was this one. Otherwise it was that nothing can be stored.
    fn expect(&self, server: &mut Connection, line: &str, expected: &str) -> Result<bool, Lost> {
        let answer = server.ask(line)?;
        if answer != expected {
            self.expect_not_stored(&answer, line);
        }
        Ok(answer == expected)
    }

    fn ask_until_stored(&self, server: &mut Connection, line: &str) -> Result<String, Lost> {
        loop {
            let answer = server.ask(line)?;
            if !answer.starts_with("500 ") {
                return Ok(answer);
            }
            self.expect_not_stored(&answer, line);
            self.world.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Any other answer is a fault here; and so is this one, where no disk has failed.
    fn expect_not_stored(&self, answer: &str, line: &str) {
        let has_failed = self.world.failed_in.load(Ordering::SeqCst) >= self.seen;
        if !has_failed || !answer.starts_with("500 Not stored: ") {
            self.wrong(format!("{line}: {answer}"));
        }
    }

    fn wrong(&self, what: String) {
        self.world
            .is_wrong(format!("client {}: {what}", self.number));
    }
}

const GRACE: [&str; 2] = ["--grace-ms", "3600000"];

/// How a server is started, what happens to it while it serves and when it was killed.
trait Trial {
    fn start(&self) -> Process;

    fn serve(&mut self, _world: &World, _dice: &mut Dice) {}

    fn killed(&mut self, _round: u64) {}
}

/// Kills the server `rounds` times, each time after a few more answers, and starts it again. Returns
/// how many answers there were, and what was wrong.
fn kill_and_restart(rounds: u64, seed: u64, trial: &mut impl Trial) -> (u64, Vec<String>) {
    let (world, mut dice) = (World::default(), Dice(seed));
    let last = std::thread::scope(|scope| {
        let _over = GuardOver(&world);
        for number in 0..CLIENTS {
            let mut client = Client {
                number,
                world: &world,
                dice: Dice(seed ^ number),
                id: None,
                keys: [Knows::Free(Back::Nothing); KEYS],
                seen: 0,
            };
            scope.spawn(move || client.run());
        }
        for round in 0..rounds {
            let process = trial.start();
            world.publish(Some(process.address), false);
            world.until_answered(1 + dice.below(200));
            trial.serve(&world, &mut dice);
            for _ in 0..dice.below(10_000) {
                std::hint::spin_loop();
            }
            process.kill();
            world.publish(None, false);
            trial.killed(round);
        }
        let process = trial.start();
        world.publish(Some(process.address), true);
        process
    });
    let left = last.connect().ask_list("stats");
    if left[2] != "STAT locks 0" {
        world.is_wrong(format!("all was released, and then {left:?}"));
    }
    last.kill();
    (world.answered.load(Ordering::Relaxed), world.wrongs())
}

fn rounds(usual: u64) -> u64 {
    std::env::var("ELOCK_KILL_ROUNDS").map_or(usual, |rounds| {
        rounds.parse().expect("ELOCK_KILL_ROUNDS is a number")
    })
}

struct Kills(tempfile::TempDir);

impl Kills {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }
}

impl Trial for Kills {
    fn start(&self) -> Process {
        let directory = self.0.path().to_str().expect("text");
        Process::start(&[GRACE[0], GRACE[1], "--data-dir", directory])
    }
}

#[test]
fn what_was_answered_survives_every_kill() {
    let rounds = rounds(200);
    let (answered, wrong) = kill_and_restart(rounds, rounds, &mut Kills::new());
    eprintln!("killed {rounds} times, {answered} requests answered");
    assert_eq!(wrong, [""; 0]);
}

/// With a disk that forgets: every third start finds the store as it was one kill ago, and none of the
/// server's own notes of how far it was.
struct Forgets {
    kills: Kills,
    older: Vec<u8>,
}

impl Trial for Forgets {
    fn start(&self) -> Process {
        self.kills.start()
    }

    fn killed(&mut self, round: u64) {
        let directory = self.kills.0.path();
        let file = directory.join("elockd.redb");
        if round % 3 == 2 {
            std::fs::write(&file, &self.older).expect("it is written");
            std::fs::remove_file(directory.join("elockd.lock")).expect("it is there");
        }
        self.older = std::fs::read(&file).expect("it is there");
    }
}

#[test]
fn a_store_that_forgets_is_caught() {
    let (kills, older) = (Kills::new(), Vec::new());
    let (_, wrong) = kill_and_restart(10, 10, &mut Forgets { kills, older });
    assert_ne!(wrong, [""; 0]);
}

/// With a disk that fails a few times before each kill, and may not work again until then.
struct Fails(FailingDisk);

impl Trial for Fails {
    fn start(&self) -> Process {
        Process::spawn(self.0.command().args(GRACE))
    }

    fn serve(&mut self, world: &World, dice: &mut Dice) {
        world.failed_in.store(world.starts(), Ordering::SeqCst);
        for _ in 0..=dice.below(4) {
            let one_in = [1, 1, 2, 5][dice.below(4) as usize];
            let fault = match dice.below(4) {
                0 => Fault::Write("EIO", one_in),
                1 => Fault::Write("ENOSPC", one_in),
                2 => Fault::Torn(one_in),
                _ => Fault::Sync(one_in),
            };
            self.0.fails(fault, dice.below(1 << 31));
            world.until_answered(1 + dice.below(100));
            if dice.below(3) > 0 {
                self.0.works();
                world.until_answered(1 + dice.below(100));
            }
        }
    }

    fn killed(&mut self, _: u64) {
        self.0.works();
    }
}

#[test]
fn what_was_answered_survives_a_failing_disk_and_every_kill() {
    let rounds = rounds(60);
    let seed = std::env::var("ELOCK_KILL_SEED").map_or(rounds, |seed| {
        seed.parse().expect("ELOCK_KILL_SEED is a number")
    });
    let mut trial = Fails(FailingDisk::new());
    let (answered, wrong) = kill_and_restart(rounds, seed, &mut trial);
    eprintln!("killed {rounds} times on a failing disk, {answered} requests answered");
    assert_eq!(wrong, [""; 0]);
}

// ---------------------------------------------------------------------------- every kind of lock

/// What is taken by one request, and what the client has then.
struct Thing {
    take: String,
    /// Keys, and the owner words that hold them, if it is not the session.
    parts: Vec<(String, &'static str)>,
    state: State,
}

/// What a client knows of a thing.
#[derive(Debug, Clone, PartialEq)]
enum State {
    Free,
    /// It asked for it and was not answered: it has all of it or nothing.
    Asked,
    /// It was told that it has it; by these tokens, if it was told them, too.
    Has(Option<Vec<u64>>),
    /// It was giving it back, one part after the other.
    Giving,
}

impl Thing {
    fn all_of(client: u64) -> Vec<Self> {
        let thing = |take: &str, keys: &[&str], owner: &'static str| {
            let own = |word: &str| format!("{word}.{client}");
            let words = take.split(' ').map(|word| match keys.contains(&word) {
                true => own(word),
                false => word.to_owned(),
            });
            Self {
                take: words.collect::<Vec<_>>().join(" "),
                parts: keys.iter().map(|key| (own(key), owner)).collect(),
                state: State::Free,
            }
        };
        vec![
            thing("lock_all 0 a b c", &["a", "b", "c"], ""),
            thing("lock_slot slot 2", &["slot"], ""),
            thing("lock owned 0 w 0", &["owned"], "w"),
            thing("lock leased 0 w 3600000", &["leased"], "w"),
            thing("lock_slot slots 2 0 w 0", &["slots"], "w"),
            thing("lock_slot slots 2 0 x 0", &["slots"], "x"),
            thing("lock_value shared red 0 w 0", &["shared"], "w"),
            thing("lock_value shared red 0 x 3600000", &["shared"], "x"),
        ]
    }

    fn tokens(&self, server: &mut Connection) -> Result<Vec<Option<u64>>, Lost> {
        let token = |(key, owner): &(String, &str)| {
            let answer = server.ask(&format!("token {key} {owner}"))?;
            Ok(answer
                .strip_prefix("200 ")
                .map(|token| token.parse().expect("a number")))
        };
        self.parts.iter().map(token).collect()
    }

    /// Compares what the server says with what it said before, and notes it.
    fn look(&mut self, server: &mut Connection) -> Result<(), Lost> {
        let tokens = self.tokens(server)?;
        let all: Option<Vec<u64>> = tokens.iter().copied().collect();
        let has_none = tokens.iter().all(Option::is_none);
        let fits = match &self.state {
            State::Free => has_none,
            State::Asked => has_none || all.is_some(),
            State::Has(None) => all.is_some(),
            State::Has(before) => all == *before,
            State::Giving => true,
        };
        assert!(fits, "{}: {:?} and then {tokens:?}", self.take, self.state);
        self.state = match all {
            Some(all) => State::Has(Some(all)),
            None if has_none => State::Free,
            None => State::Giving,
        };
        Ok(())
    }

    fn step(&mut self, server: &mut Connection) -> Result<(), Lost> {
        match self.state {
            State::Free => {
                self.state = State::Asked;
                assert_eq!(server.ask(&self.take)?, "200 Acquired", "{}", self.take);
                self.state = State::Has(None);
            }
            State::Has(None) | State::Asked => self.look(server)?,
            State::Has(Some(_)) | State::Giving => {
                self.state = State::Giving;
                for (key, owner) in &self.parts {
                    server.ask(&format!("unlock {key} {owner}"))?;
                }
                self.state = State::Free;
            }
        }
        Ok(())
    }
}

/// Whether an owner's lock was made exclusive, as far as the client knows.
#[derive(Clone, Copy)]
struct Promoted {
    is_so: bool,
    is_sure: bool,
}

/// One client and what it has, over all restarts.
struct Owner {
    number: u64,
    dice: Dice,
    id: String,
    things: Vec<Thing>,
    promoted: Promoted,
    /// Whether its last look at that lock was cut off, which may have left a share behind.
    probes: bool,
}

impl Owner {
    /// A client with an id and an owner's shared lock.
    fn enter(number: u64, address: SocketAddr) -> Self {
        let enter = || {
            let mut server = Connection::open(address)?;
            let lock = format!("lock_value mode.{number} red 0 w 0");
            assert_eq!(server.ask(&lock)?, "200 Acquired");
            server.ask("conn_id")
        };
        let id = enter().ok().expect("the server is there");
        Self {
            number,
            dice: Dice(number),
            id: id.replacen("200 ", "", 1),
            things: Thing::all_of(number),
            promoted: Promoted {
                is_so: false,
                is_sure: true,
            },
            probes: false,
        }
    }

    /// Takes and gives until the server is killed.
    fn run(&mut self, address: SocketAddr, answered: &AtomicU64) -> Result<(), Lost> {
        let mut server = self.come_back(address)?;
        loop {
            let at = self.dice.below(self.things.len() as u64 + 1) as usize;
            match self.things.get_mut(at) {
                Some(thing) => thing.step(&mut server)?,
                None => self.change_mode(&mut server)?,
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes its session over, and looks whether all is as it was told.
    fn come_back(&mut self, address: SocketAddr) -> Result<Connection, Lost> {
        let mut server = Connection::open(address)?;
        let resumed = server.ask(&format!("resume {}", self.id))?;
        assert_eq!(resumed, "200 Resumed");
        for thing in &mut self.things {
            thing.look(&mut server)?;
        }
        let key = format!("mode.{}", self.number);
        // A kill may have come between the two words of the last look; else there is nothing to give back.
        let left = server.ask(&format!("unlock {key} probe"))?;
        assert!(
            self.probes || left != "200 Unlocked",
            "{key}: a share came back"
        );
        self.probes = true;
        let joined = server.ask(&format!("lock_value {key} red 0 probe 0"))?;
        let is_exclusive = joined == "409 Unavailable";
        if !is_exclusive {
            assert_eq!(joined, "200 Acquired");
            assert_eq!(server.ask(&format!("unlock {key} probe"))?, "200 Unlocked");
        }
        self.probes = false;
        let Promoted { is_so, is_sure } = self.promoted;
        assert!(!is_sure || is_so == is_exclusive, "{key}: {is_exclusive}");
        self.promoted = Promoted {
            is_so: is_exclusive,
            is_sure: true,
        };
        Ok(server)
    }

    fn change_mode(&mut self, server: &mut Connection) -> Result<(), Lost> {
        let key = format!("mode.{}", self.number);
        let is_so = !self.promoted.is_so;
        self.promoted.is_sure = false;
        let answer = server.ask(&match is_so {
            true => format!("promote {key} w"),
            false => format!("demote {key} red w"),
        })?;
        assert_eq!(answer, "200 OK");
        let is_sure = true;
        self.promoted = Promoted { is_so, is_sure };
        Ok(())
    }

    fn release_all(&mut self, address: SocketAddr) -> Result<(), Lost> {
        let mut server = self.come_back(address)?;
        for thing in &mut self.things {
            while thing.state != State::Free {
                thing.step(&mut server)?;
            }
        }
        let unlocked = server.ask(&format!("unlock mode.{} w", self.number))?;
        assert_eq!(unlocked, "200 Unlocked");
        Ok(())
    }
}

#[test]
fn locks_of_every_kind_survive_every_kill_whole_or_not_at_all() {
    const OWNERS: u64 = 4;
    let (rounds, trial) = (rounds(60), Kills::new());
    let (answered, mut dice) = (AtomicU64::new(0), Dice(7));
    let mut process = trial.start();
    let enter = |number| Owner::enter(number, process.address);
    let mut owners: Vec<Owner> = (0..OWNERS).map(enter).collect();
    for _ in 0..rounds {
        let (address, until) = (process.address, 1 + dice.below(200));
        let before = answered.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let answered = &answered;
            let clients = owners.iter_mut();
            let threads: Vec<_> = clients
                .map(|owner| scope.spawn(move || owner.run(address, answered).is_err()))
                .collect();
            while answered.load(Ordering::Relaxed) < before + until
                && !threads.iter().any(|thread| thread.is_finished())
            {
                std::thread::yield_now();
            }
            process.kill();
            for thread in threads {
                assert!(
                    thread.join().expect("all is as it was told"),
                    "it was killed"
                );
            }
        });
        process = trial.start();
    }
    for owner in &mut owners {
        let released = owner.release_all(process.address);
        assert!(released.is_ok(), "the server is there");
    }
    let left = process.connect().ask_list("stats");
    assert_eq!(left[2], "STAT locks 0");
    let answered = answered.into_inner();
    eprintln!("killed {rounds} times, {answered} requests answered");
    process.kill();
}

/// What no client takes over after the restart.
#[test]
fn an_owners_lock_is_held_after_a_kill_although_its_session_is_gone() {
    let trial = Kills::new();
    let process = trial.start();
    let mut gone = process.connect();
    gone.ask("set_timeout 0", "200 timeout set");
    gone.ask("lock exclusive 0 w 0", "200 Acquired");
    gone.ask("lock leased 0 w 600000", "200 Acquired");
    gone.ask("lock brief 0 w 20", "200 Acquired");
    gone.ask("lock_slot slots 3 0 v 0", "200 Acquired");
    gone.ask("lock_slot slots 3 0 w 0", "200 Acquired");
    gone.ask("lock_value shared red 0 w 0", "200 Acquired");
    gone.ask("lock_value shared red 0 x 0", "200 Acquired");
    gone.ask("lock_value promoted red 0 w 0", "200 Acquired");
    gone.ask("promote promoted w", "200 OK");
    gone.ask("lock demoted 0 w 0", "200 Acquired");
    gone.ask("demote demoted red w", "200 OK");
    gone.ask("lock own", "200 Acquired");
    let tokens = |client: &mut common::Client| {
        let keys = [
            "exclusive",
            "leased",
            "slots",
            "shared",
            "promoted",
            "demoted",
        ];
        keys.map(|key| {
            client.send(format!("token {key} w"));
            client.read()
        })
    };
    let before = tokens(&mut gone);
    assert!(before.iter().all(|answer| answer.starts_with("200 ")));
    drop(gone);
    let mut observer = process.connect();
    observer.until("its end", |lines| {
        lines
            .iter()
            .filter(|line| line.starts_with("SESSION "))
            .count()
            == 1
    });
    drop(observer);
    process.kill();
    let process = trial.start();
    let mut client = process.connect();
    assert_eq!(tokens(&mut client), before);
    let locks = client.ask_list("debug");
    let slots = locks.iter().find(|line| line.starts_with("LOCK slots "));
    let slots = slots.expect("it is held");
    assert!(slots.ends_with(" slots=3"), "{slots}");
    for (request, answer) in [
        ("lock exclusive", "409 Unavailable"),
        ("lock leased", "409 Unavailable"),
        ("lock_slot slots 2", "409 Unavailable"),
        ("lock_slot slots 3 0 y 0", "200 Acquired"),
        ("lock_slot slots 3", "409 Unavailable"),
        ("lock_value shared blue", "409 Unavailable"),
        ("lock_value shared red", "200 Acquired"),
        ("lock_value promoted red", "409 Unavailable"),
        ("lock_value demoted red", "200 Acquired"),
        ("lock own", "200 Acquired"),
        // The lease began anew, or had ended before the kill.
        ("lock brief 60", "200 Acquired"),
        ("unlock leased w", "200 Unlocked"),
        ("break exclusive", "200 Unlocked"),
        ("watch exclusive", "200 free"),
    ] {
        client.ask(request, answer);
    }
    process.kill();
}
