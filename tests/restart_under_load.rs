//! The server is stopped, killed, or drained, and started again, ten times, while two hundred clients of
//! the library lock, wait and hold. Each tells what it saw, and nobody may notice more than that it took
//! a little longer: nothing is lost, nothing is held twice, and no caller with time left is told an error.
#![cfg(all(feature = "cli", feature = "store", feature = "systemd"))]

mod common;

use std::io::BufReader;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use common::history::{Held, History, violations};
use common::process::{ELOCKD, Process, activated};
use common::{PATIENCE, next_line_with};
use elock_client::command::{Lock, Mode, SetTimeout};
use elock_client::{Client, Connection, Error, Guard, Options};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

const CLIENTS: u64 = 200;
const RESTARTS: u64 = 10;
const KEYS: u64 = 20;
/// Who gets one of the last keys keeps it over the next restart.
const KEPT_KEYS: u64 = 4;
/// Between two restarts.
const GRANTS: u64 = 100;
const SLOTS: u32 = 3;

/// One trial at a time: each alone is load enough for a small machine.
static TURN: Mutex<()> = Mutex::new(());

/// How a server ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
    /// By a drain, so that it needs no store.
    Drain,
}

/// Where it listens.
enum Place {
    /// On a socket that stays open, as systemd's does.
    Passed(TcpListener),
    /// On one of its own, at which nobody is while no server runs.
    Own(PathBuf),
}

struct Host {
    directory: TempDir,
    place: Place,
    has_store: bool,
    /// A planted fault: each start finds an empty store.
    forgets: bool,
}

impl Host {
    fn new(has_store: bool) -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            place: Place::Passed(port()),
            has_store,
            forgets: false,
        }
    }

    fn start(&self, round: u64) -> Process {
        let mut command = match &self.place {
            Place::Passed(port) => {
                let socket = port.try_clone().expect("a descriptor");
                activated([socket.into()], "elockd.socket")
            }
            Place::Own(path) => {
                let mut command = Command::new(ELOCKD);
                command.arg("--listen");
                command.arg(format!("unix:{}", path.display()));
                command
            }
        };
        if self.has_store {
            let name = match self.forgets {
                true => format!("data-{round}"),
                false => "data".to_owned(),
            };
            command
                .arg("--data-dir")
                .arg(self.directory.path().join(name));
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        next_line_with(&mut log, "listening on ");
        Process {
            child,
            log: Some(log),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }

    fn url(&self) -> String {
        match &self.place {
            Place::Passed(port) => port.local_addr().expect("an address").to_string(),
            Place::Own(path) => format!("elock+unix:{}", path.display()),
        }
    }
}

/// With room for all clients that come while no server runs.
fn port() -> TcpListener {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).expect("a free port");
    socket.listen(4096).expect("a port");
    socket.into()
}

/// What the clients share.
struct World {
    histories: Vec<History>,
    wrong: Mutex<Vec<String>>,
    granted: AtomicU64,
    /// Guards that are kept over the next restart, and those that were.
    keeping: AtomicU64,
    kept_over: AtomicU64,
    /// Changes when they were kept for long enough.
    stage: watch::Sender<u64>,
    /// Nobody keeps anything for long.
    is_hurried: AtomicBool,
    is_over: AtomicBool,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            histories: (0..KEYS).map(|_| History::default()).collect(),
            wrong: Mutex::default(),
            granted: AtomicU64::new(0),
            keeping: AtomicU64::new(0),
            kept_over: AtomicU64::new(0),
            stage: watch::Sender::new(0),
            is_hurried: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
        })
    }

    fn is_wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.push(what);
    }

    fn history(&self, key: u64) -> &History {
        &self.histories[usize::try_from(key).expect("few")]
    }

    /// Waits until locks have passed from one to the next, and then until some are kept.
    async fn until_in_full_swing(&self) {
        let until = self.granted.load(Ordering::SeqCst) + GRANTS;
        while self.granted.load(Ordering::SeqCst) < until {
            tokio::task::yield_now().await;
        }
        self.is_hurried.store(false, Ordering::SeqCst);
        while self.keeping.load(Ordering::SeqCst) < KEPT_KEYS {
            tokio::task::yield_now().await;
        }
    }

    /// Nothing is kept any longer, until it is in full swing again.
    fn next_stage(&self) {
        self.is_hurried.store(true, Ordering::SeqCst);
        self.stage.send_modify(|stage| *stage += 1);
    }

    /// Keeps a guard over the next restart.
    async fn keep(&self) {
        let mut stage = self.stage.subscribe();
        if !self.is_hurried.load(Ordering::SeqCst) {
            self.keeping.fetch_add(1, Ordering::SeqCst);
            stage.changed().await.expect("the world goes on");
            self.keeping.fetch_sub(1, Ordering::SeqCst);
            self.kept_over.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn all_wrong(&self) -> Vec<String> {
        let mut wrong = std::mem::take(&mut *self.wrong.lock().expect("no panic"));
        for (key, history) in self.histories.iter().enumerate() {
            let found = violations(&history.take());
            wrong.extend(found.into_iter().map(|what| format!("key {key}: {what}")));
        }
        wrong
    }
}

/// Not random in any strict sense: enough to vary what happens.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

struct Visitor {
    number: u64,
    client: Client,
    world: Arc<World>,
    dice: Dice,
    asked: u64,
}

impl Visitor {
    async fn run(mut self) {
        while !self.world.is_over.load(Ordering::SeqCst) {
            let (keys, held, taken) = self.ask().await;
            match taken {
                Ok(guard) => self.visit(keys, held, guard).await,
                Err(error) => {
                    let what = format!("{} was told {error} for {keys:?}", self.number);
                    self.world.is_wrong(what);
                }
            }
        }
        self.client.close().await;
    }

    /// In one of the ways in which locks are asked for, with more time than all restarts take.
    async fn ask(&mut self) -> (Vec<u64>, Held, Result<Guard, Error>) {
        self.asked += 1;
        let key = self.dice.roll(KEYS);
        let lock = self.client.lock(format!("key-{key}")).wait(PATIENCE);
        let word = format!("visitor-{}-{}", self.number, self.asked);
        let (lock, held) = match self.dice.roll(10) {
            0 | 1 => (lock.shared("value"), Held::Shared(0)),
            2 => (lock.slots(SLOTS), Held::Slot(SLOTS)),
            3 => (lock.unique_owner(word), Held::Alone),
            4 => (lock.unique_owner(word).lease(PATIENCE), Held::Alone),
            5 => (lock.lease(PATIENCE), Held::Alone),
            6 => return self.ask_for_two().await,
            _ => (lock, Held::Alone),
        };
        (vec![key], held, lock.await)
    }

    async fn ask_for_two(&mut self) -> (Vec<u64>, Held, Result<Guard, Error>) {
        let one = self.dice.roll(KEYS - KEPT_KEYS);
        let other = (one + 1 + self.dice.roll(KEYS - KEPT_KEYS - 1)) % (KEYS - KEPT_KEYS);
        let names = [one, other].map(|key| format!("key-{key}"));
        let taken = self.client.lock_all(names).wait(PATIENCE).await;
        (vec![one, other], Held::Alone, taken)
    }

    async fn visit(&mut self, keys: Vec<u64>, held: Held, guard: Guard) {
        let world = Arc::clone(&self.world);
        for (&key, token) in keys.iter().zip(guard.tokens()) {
            let history = world.history(key);
            history.got_with_token(self.number, held, token);
        }
        world.granted.fetch_add(1, Ordering::SeqCst);
        if keys[0] >= KEYS - KEPT_KEYS {
            world.keep().await;
        }
        tokio::task::yield_now().await;
        if !guard.is_held() {
            let number = self.number;
            world.is_wrong(format!("{number} lost {keys:?}: {:?}", guard.lost().await));
        }
        for &key in &keys {
            world.history(key).gives(self.number);
        }
        if let Err(error) = guard.release().await {
            world.is_wrong(format!("{} released {keys:?}: {error}", self.number));
        }
    }
}

/// A planted fault: a client that takes the server's `503` for an answer.
async fn give_up_early(url: String, world: Arc<World>) {
    let address = url.parse().expect("an address");
    let lock = Lock {
        key: format!("key-{}", KEYS - 1).into(),
        mode: Mode::Exclusive,
        wait: PATIENCE,
        owner: None,
    };
    while !world.is_over.load(Ordering::SeqCst) {
        // What it gets ends with its connection.
        let mut connection = Connection::connect(&address).await.expect("connected");
        let grace = SetTimeout::default();
        connection.call(&grace).await.expect("a server");
        if let Err(error) = connection.call(&lock).await {
            world.is_wrong(format!("the impatient one was told {error}"));
            return;
        }
    }
}

struct Trial {
    host: Host,
    clients: u64,
    restarts: u64,
    ends: &'static [End],
    /// A planted fault: one client is impatient.
    gives_up: bool,
}

impl Trial {
    fn of(host: Host, ends: &'static [End]) -> Self {
        Self {
            host,
            clients: CLIENTS,
            restarts: RESTARTS,
            ends,
            gives_up: false,
        }
    }

    /// Returns how many guards were kept over a restart, and what was wrong.
    fn run(self) -> (u64, Vec<String>) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        common::run(async move {
            let world = World::new();
            let mut server = self.host.start(0);
            let mut visitors = self.visitors(&world).await;
            for round in 0..self.restarts {
                world.until_in_full_swing().await;
                let end = self.ends[usize::try_from(round).expect("few") % self.ends.len()];
                server = self.restart(server, end, round + 1, &world);
            }
            world.is_over.store(true, Ordering::SeqCst);
            world.next_stage();
            while let Some(ended) = visitors.join_next().await {
                ended.expect("no panic");
            }
            self.nothing_is_left(server).await;
            (world.kept_over.load(Ordering::SeqCst), world.all_wrong())
        })
    }

    async fn visitors(&self, world: &Arc<World>) -> JoinSet<()> {
        let (url, mut visitors) = (self.host.url(), JoinSet::new());
        for number in 0..self.clients {
            let options = Options::new(url.parse().expect("an address")).grace(PATIENCE);
            let visitor = Visitor {
                number,
                client: options.connect().await.expect("connected"),
                world: Arc::clone(world),
                dice: Dice(number + 1),
                asked: 0,
            };
            visitors.spawn(visitor.run());
        }
        if self.gives_up {
            visitors.spawn(give_up_early(url, Arc::clone(world)));
        }
        visitors
    }

    fn restart(&self, mut server: Process, end: End, round: u64, world: &World) -> Process {
        let (signal, code) = match end {
            End::Stop => ("TERM", Some(0)),
            End::Kill => ("KILL", None),
            End::Drain => ("USR1", Some(0)),
        };
        server.signal(signal);
        if end == End::Drain {
            world.next_stage();
        }
        // It ends while the clients' tasks go on.
        let ended = tokio::task::block_in_place(|| server.exit_code());
        assert_eq!(ended, code);
        let server = tokio::task::block_in_place(|| self.host.start(round));
        if end != End::Drain {
            world.next_stage();
        }
        server
    }

    async fn nothing_is_left(&self, mut server: Process) {
        let client = Client::connect(&self.host.url()).await.expect("connected");
        while client.info().await.expect("connected").number("locks") > 0 {
            tokio::task::yield_now().await;
        }
        drop(client);
        server.signal("TERM");
        server.exit_code();
    }
}

#[track_caller]
fn assert_unnoticed((kept_over, wrong): (u64, Vec<String>)) {
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
    assert!(kept_over >= RESTARTS, "{kept_over} guards");
    println!("{kept_over} guards were kept over a restart");
}

#[test]
fn with_a_store_and_a_socket_that_stays_no_restart_and_no_crash_is_noticed() {
    let ends = &[End::Stop, End::Stop, End::Kill];
    assert_unnoticed(Trial::of(Host::new(true), ends).run());
}

#[test]
fn with_a_store_alone_none_is_noticed_either() {
    let mut host = Host::new(true);
    host.place = Place::Own(host.directory.path().join("sock"));
    assert_unnoticed(Trial::of(host, &[End::Stop, End::Kill]).run());
}

#[test]
fn without_a_store_a_drain_is_not_noticed() {
    assert_unnoticed(Trial::of(Host::new(false), &[End::Drain]).run());
}

/// A part of the load is enough to convict what must be convicted.
fn small(host: Host, ends: &'static [End]) -> Trial {
    Trial {
        clients: CLIENTS / 4,
        restarts: 2,
        ..Trial::of(host, ends)
    }
}

#[test]
fn a_server_that_forgets_is_caught() {
    let mut host = Host::new(true);
    host.forgets = true;
    let (_, wrong) = small(host, &[End::Stop]).run();
    assert!(!wrong.is_empty());
}

#[test]
fn a_stop_instead_of_a_drain_is_caught() {
    let (_, wrong) = small(Host::new(false), &[End::Stop]).run();
    assert!(!wrong.is_empty());
}

#[test]
fn a_client_that_gives_up_at_a_stop_is_caught() {
    let mut trial = small(Host::new(true), &[End::Stop]);
    trial.gives_up = true;
    let (_, wrong) = trial.run();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
}
