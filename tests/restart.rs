//! The server is killed at any moment and started again on the same directory, again and again,
//! while clients lock and unlock. What they were told is written down, and must be so afterwards.
//!
//! `ELOCK_KILL_ROUNDS=5000` kills it more often, best with `--release`.
#![cfg(feature = "store")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

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

/// What a client knows of one key.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Knows {
    /// It does not hold it: it never did, or was told that it let go.
    Free,
    /// It asked for it and got no answer.
    Asked(Option<u64>),
    /// It was told that it has it, with this token if it was told that, too.
    Has(Option<u64>, Option<u64>),
    /// It gave it back and got no answer.
    Gave,
}

struct Client<'a> {
    number: u64,
    world: &'a World,
    dice: Dice,
    id: Option<String>,
    keys: [Knows; KEYS],
}

impl Client<'_> {
    fn run(&mut self) {
        let mut seen = 0;
        while let Some((address, place)) = self.world.next_start(seen) {
            seen = place.start;
            if self.serve(address, place.is_last).is_ok() {
                return;
            }
        }
    }

    fn serve(&mut self, address: SocketAddr, is_last: bool) -> Result<(), Lost> {
        let mut server = Connection::open(address)?;
        self.come_back(&mut server)?;
        if is_last {
            self.release_all(&mut server)?;
            return Ok(());
        }
        loop {
            self.step(&mut server)?;
            self.world.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Resumes the session and looks whether everything is as it was told.
    fn come_back(&mut self, server: &mut Connection) -> Result<(), Lost> {
        let Some(id) = &self.id else {
            let answer = server.ask("conn_id")?;
            self.id = answer.strip_prefix("200 ").map(str::to_owned);
            return Ok(());
        };
        let answer = server.ask(&format!("conn_id {id}"))?;
        if answer != "200 conn id set" {
            self.wrong(format!("cannot resume: {answer}"));
            self.forget();
            return Ok(());
        }
        for key in 0..KEYS {
            let answer = server.ask(&format!("token k{key}"))?;
            let token: Option<u64> = answer
                .strip_prefix("200 ")
                .and_then(|token| token.parse().ok());
            self.compare(key, token, &answer);
        }
        Ok(())
    }

    fn compare(&mut self, key: usize, token: Option<u64>, answer: &str) {
        let knows = self.keys[key];
        self.keys[key] = match (knows, token) {
            (Knows::Free | Knows::Gave, None) => Knows::Free,
            // An unlock that nobody answered; it is sent again when this key's turn comes.
            (Knows::Gave, Some(_)) => Knows::Gave,
            (Knows::Asked(_), None) => Knows::Free,
            (Knows::Asked(value), Some(token)) | (Knows::Has(value, None), Some(token)) => {
                self.got(key, value, token);
                Knows::Has(value, Some(token))
            }
            (Knows::Has(_, Some(had)), Some(token)) if had == token => knows,
            (Knows::Has(..), _) | (Knows::Free, Some(_)) => {
                self.wrong(format!("k{key} was {knows:?} and then {answer}"));
                if matches!(knows, Knows::Has(_, Some(_))) {
                    self.world.histories[key].gives(self.number);
                }
                Knows::Gave
            }
        };
    }

    /// After something went wrong: goes on with a session of its own.
    fn forget(&mut self) {
        for key in 0..KEYS {
            if let Knows::Has(_, Some(_)) = self.keys[key] {
                self.world.histories[key].gives(self.number);
            }
        }
        self.keys = [Knows::Free; KEYS];
        self.id = None;
    }

    fn step(&mut self, server: &mut Connection) -> Result<(), Lost> {
        let key = self.dice.below(KEYS as u64) as usize;
        match self.keys[key] {
            Knows::Gave => self.unlock(server, key),
            Knows::Has(value, _) => match self.dice.below(6) {
                0 => {
                    self.expect(server, &format!("expire k{key} 3600000"), "200 OK")?;
                    Ok(())
                }
                1 => {
                    let again = match value {
                        None => format!("lock k{key}"),
                        Some(value) => format!("lock_value k{key} v{value}"),
                    };
                    self.expect(server, &again, "200 Acquired")
                }
                2 if self.dice.below(4) == 0 => self.release_all(server),
                _ => self.unlock(server, key),
            },
            Knows::Free | Knows::Asked(_) => self.lock(server, key),
        }
    }

    fn lock(&mut self, server: &mut Connection, key: usize) -> Result<(), Lost> {
        let value = (self.dice.below(3) == 0).then(|| self.dice.below(2));
        let wait = ["", " 0.005", " 0.05"][self.dice.below(3) as usize];
        self.keys[key] = Knows::Asked(value);
        let lock = match value {
            None => format!("lock k{key}{wait}"),
            Some(value) => format!("lock_value k{key} v{value}{wait}"),
        };
        server.send(&format!("{lock}\ntoken k{key}\n"))?;
        let answer = server.read()?;
        if answer == "200 Acquired" {
            // From here on it must not be lost.
            self.keys[key] = Knows::Has(value, None);
            let token = server.read();
            let token = token?.strip_prefix("200 ").and_then(|t| t.parse().ok());
            match token {
                Some(token) => {
                    self.keys[key] = Knows::Has(value, Some(token));
                    self.got(key, value, token);
                }
                None => self.wrong(format!("k{key} was acquired and has no token")),
            }
            return Ok(());
        }
        self.keys[key] = Knows::Free;
        if !answer.starts_with("409 ") && !answer.starts_with("423 ") {
            self.wrong(format!("{lock}: {answer}"));
        }
        let answer = server.read()?;
        if !answer.starts_with("403 ") {
            self.wrong(format!("k{key} was refused, and then {answer}"));
        }
        Ok(())
    }

    fn unlock(&mut self, server: &mut Connection, key: usize) -> Result<(), Lost> {
        let had = self.gives(key);
        let answer = server.ask(&format!("unlock k{key}"))?;
        // One that is sent again may have had its effect the first time.
        if answer != "200 Unlocked" && (had || !answer.starts_with("403 ")) {
            self.wrong(format!("unlock k{key}: {answer}"));
        }
        self.keys[key] = Knows::Free;
        Ok(())
    }

    fn release_all(&mut self, server: &mut Connection) -> Result<(), Lost> {
        for key in 0..KEYS {
            if self.keys[key] != Knows::Free {
                self.gives(key);
            }
        }
        self.expect(server, "unlock_all", "200 OK")?;
        self.keys = [Knows::Free; KEYS];
        Ok(())
    }

    fn gives(&mut self, key: usize) -> bool {
        let had = match self.keys[key] {
            Knows::Has(_, token) => {
                if token.is_some() {
                    self.world.histories[key].gives(self.number);
                }
                true
            }
            _ => false,
        };
        self.keys[key] = Knows::Gave;
        had
    }

    fn got(&self, key: usize, value: Option<u64>, token: u64) {
        self.world.histories[key].got_with_token(self.number, value, token);
    }

    fn expect(&self, server: &mut Connection, line: &str, expected: &str) -> Result<(), Lost> {
        let answer = server.ask(line)?;
        if answer != expected {
            self.wrong(format!("{line}: {answer}"));
        }
        Ok(())
    }

    fn wrong(&self, what: String) {
        self.world
            .is_wrong(format!("client {}: {what}", self.number));
    }
}

fn start(directory: &Path) -> Process {
    let directory = directory.to_str().expect("text");
    Process::start(&["--grace-ms", "3600000", "--data-dir", directory])
}

/// Kills the server `rounds` times, each time after a few more answers, and runs `tamper` on its
/// directory before it is started again. Returns how many answers there were, and what was wrong.
fn kill_and_restart(rounds: u64, mut tamper: impl FnMut(&Path, u64)) -> (u64, Vec<String>) {
    let directory = tempfile::tempdir().expect("a directory");
    let (world, mut dice) = (World::default(), Dice(rounds));
    let last = std::thread::scope(|scope| {
        let _over = GuardOver(&world);
        for number in 0..CLIENTS {
            let mut client = Client {
                number,
                world: &world,
                dice: Dice(number),
                id: None,
                keys: [Knows::Free; KEYS],
            };
            scope.spawn(move || client.run());
        }
        for round in 0..rounds {
            let process = start(directory.path());
            let until = world.answered.load(Ordering::Relaxed) + 1 + dice.below(200);
            world.publish(Some(process.address), false);
            let begun = Instant::now();
            while world.answered.load(Ordering::Relaxed) < until {
                assert!(begun.elapsed() < PATIENCE, "the server answers nobody");
                std::thread::yield_now();
            }
            for _ in 0..dice.below(10_000) {
                std::hint::spin_loop();
            }
            process.kill();
            world.publish(None, false);
            tamper(directory.path(), round);
        }
        let process = start(directory.path());
        world.publish(Some(process.address), true);
        process
    });
    last.kill();
    (world.answered.load(Ordering::Relaxed), world.wrongs())
}

#[test]
fn what_was_answered_survives_every_kill() {
    let rounds = std::env::var("ELOCK_KILL_ROUNDS").map_or(200, |rounds| {
        rounds.parse().expect("ELOCK_KILL_ROUNDS is a number")
    });
    let (answered, wrong) = kill_and_restart(rounds, |_, _| {});
    eprintln!("killed {rounds} times, {answered} requests answered");
    assert_eq!(wrong, [""; 0]);
}

/// The same with a disk that forgets: every third start finds the store as it was one kill ago.
#[test]
fn a_store_that_forgets_is_caught() {
    let mut older = Vec::new();
    let (_, wrong) = kill_and_restart(10, |directory, round| {
        let file = directory.join("elockd.redb");
        if round % 3 == 2 {
            std::fs::write(&file, &older).expect("it is written");
        }
        older = std::fs::read(&file).expect("it is there");
    });
    assert_ne!(wrong, [""; 0]);
}
