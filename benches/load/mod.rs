//! Servers to measure, and the clients that keep them busy. All on loopback; everything that is
//! started here ends with its value.
#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use elock::model::{Limits, Peer, Token};
use elock::store::Changes;
use elock::table::{LockTable, Pauses, Session, TokenClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The argument with which a benchmark runs itself as the echo server.
pub const ECHO: &str = "--as-echo-server";

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Protocol {
    ELock,
    Redis,
    Memcached,
}

impl Protocol {
    /// Whose protocol it is.
    pub fn server(self) -> &'static str {
        match self {
            Self::ELock => "elockd",
            Self::Redis => "redis",
            Self::Memcached => "memcached",
        }
    }

    pub fn put_lock(self, key: &str, wait: &str, out: &mut Vec<u8>) {
        let line = match self {
            Self::ELock => format!("lock {key}{wait}\n"),
            Self::Redis => format!(
                "*6\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$5\r\nowner\r\n$2\r\nNX\r\n$2\r\nPX\r\n$5\r\n30000\r\n",
                key.len()
            ),
            Self::Memcached => format!("add {key} 0 30 5\r\nowner\r\n"),
        };
        out.extend_from_slice(line.as_bytes());
    }

    pub fn put_unlock(self, key: &str, out: &mut Vec<u8>) {
        let line = match self {
            Self::ELock => format!("unlock {key}\n"),
            Self::Redis => format!("*2\r\n$3\r\nDEL\r\n${}\r\n{key}\r\n", key.len()),
            Self::Memcached => format!("delete {key}\r\n"),
        };
        out.extend_from_slice(line.as_bytes());
    }

    /// Whether an answer that begins so says that it was done: what is refused is no work.
    fn is_done(self, first: u8) -> bool {
        let done: &[u8] = match self {
            Self::ELock => b"2",
            Self::Redis => b"+:",
            Self::Memcached => b"SD",
        };
        done.contains(&first)
    }
}

/// A server process.
pub struct Server {
    pub name: &'static str,
    pub protocol: Protocol,
    pub address: SocketAddr,
    child: Child,
    _directory: Option<tempfile::TempDir>,
}

impl Server {
    /// The floor: reads lines and answers each by a fixed one, and does nothing else.
    pub fn echo() -> Self {
        let address = free_address();
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([ECHO, &address.to_string()]);
        Self::start("echo (floor)", Protocol::ELock, address, &mut command, None)
            .expect("this program starts")
    }

    pub fn elockd(flags: &[&str]) -> Self {
        let address = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_elockd"));
        command
            .args(["--listen", &address.to_string(), "--log", "error"])
            .args(flags);
        Self::start("elockd", Protocol::ELock, address, &mut command, None).expect("it starts")
    }

    pub fn elockd_on_disk() -> Self {
        let directory = on_disk();
        let path = directory.path().to_str().expect("text").to_owned();
        let mut server = Self::elockd(&["--data-dir", &path]);
        server.name = "elockd --data-dir";
        server._directory = Some(directory);
        server
    }

    /// `None` if there is none on this machine.
    pub fn redis(on_disk: bool) -> Option<Self> {
        let address = free_address();
        let directory = self::on_disk();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &address.port().to_string(), "--save", ""])
            .arg("--dir")
            .arg(directory.path());
        let mut name = "redis";
        if on_disk {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
            name = "redis, appendfsync always";
        }
        Self::start(
            name,
            Protocol::Redis,
            address,
            &mut command,
            Some(directory),
        )
    }

    pub fn memcached() -> Option<Self> {
        let address = free_address();
        let mut command = Command::new("memcached");
        command.args(["-l", "127.0.0.1", "-p", &address.port().to_string()]);
        // Enough for a million keys, and a thread for each core.
        let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        command.args(["-m", "1024", "-c", "16000", "-t", &threads.to_string()]);
        if is_root() {
            command.args(["-u", "root"]);
        }
        Self::start(
            "memcached",
            Protocol::Memcached,
            address,
            &mut command,
            None,
        )
    }

    fn start(
        name: &'static str,
        protocol: Protocol,
        address: SocketAddr,
        command: &mut Command,
        directory: Option<tempfile::TempDir>,
    ) -> Option<Self> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut server = Self {
            name,
            protocol,
            address,
            child: child.ok()?,
            _directory: directory,
        };
        while std::net::TcpStream::connect(address).is_err() {
            if let Ok(Some(status)) = server.child.try_wait() {
                eprintln!("{name} does not start: {status}");
                return None;
            }
            std::thread::yield_now();
        }
        Some(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it has resident.
    pub fn memory(&self) -> u64 {
        resident(self.pid())
    }

    fn target(&self) -> Target {
        Target {
            protocol: self.protocol,
            address: self.address,
            processes: Processes {
                servers: vec![self.pid()],
                stores: Vec::new(),
            },
        }
    }
}

/// Where clients connect.
pub struct Target {
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub processes: Processes,
}

/// Whose processor time is counted.
#[derive(Clone, Default)]
pub struct Processes {
    pub servers: Vec<u32>,
    /// What the servers store by; none if they do it themselves.
    pub stores: Vec<u32>,
}

impl Processes {
    fn cpu(&self) -> [Duration; 2] {
        [&self.servers, &self.stores].map(|pids| pids.iter().map(|pid| cpu(*pid)).sum())
    }
}

/// Processor time that a process has used.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let stat = stat.expect("it runs");
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .expect("fields")
        .split(' ')
        .collect();
    let ticks = |field: usize| fields[field].parse::<u64>().expect("a number");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// A directory that is on a disk, where the one for temporary files may be in memory.
pub fn on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// Memory that a process has resident.
pub fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"));
    let pages = statm.expect("it runs");
    let resident = pages.split(' ').nth(1).expect("a field");
    resident.parse::<u64>().expect("a number") * 4096
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

/// Serves as [`Server::echo`] for ever.
pub fn serve_echo(address: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.expect("free");
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            tokio::spawn(async move {
                let (mut input, mut output) = (vec![0; 8192], Vec::new());
                while let Ok(read @ 1..) = stream.read(&mut input).await {
                    output.clear();
                    for _ in input[..read].iter().filter(|byte| **byte == b'\n') {
                        output.extend_from_slice(b"200 Acquired\r\n");
                    }
                    if stream.write_all(&output).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// One client.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it accepts");
        stream.set_nodelay(true).expect("a socket");
        Self {
            stream,
            input: vec![0; 16 * 1024],
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("it reads");
    }

    /// Sends one request; panics if it is refused.
    async fn do_one(&mut self, protocol: Protocol, request: &[u8]) {
        self.send(request).await;
        self.read_lines(1).await;
        let first = self.input[0];
        assert!(protocol.is_done(first), "refused: {}", char::from(first));
    }

    /// Reads so many lines. Requests are not sent before that, so nothing comes behind them.
    pub async fn read_lines(&mut self, mut lines: usize) {
        while lines > 0 {
            let read = self.stream.read(&mut self.input).await.expect("an answer");
            assert!(read > 0, "the server hung up");
            lines -= self.input[..read]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
        }
    }
}

impl Client {
    /// As [`Client::read_lines`], with what they say.
    pub async fn read_text(&mut self, lines: usize) -> String {
        let mut text = String::new();
        while text.lines().count() < lines || !text.ends_with('\n') {
            let read = self.stream.read(&mut self.input).await.expect("an answer");
            assert!(read > 0, "the server hung up");
            text.push_str(&String::from_utf8_lossy(&self.input[..read]));
        }
        text
    }
}

/// A lock table without bounds, alone.
pub fn table() -> LockTable {
    let limits = Limits {
        locks: usize::MAX,
        locks_per_session: usize::MAX,
        waiters_per_key: usize::MAX,
        sessions_in_grace: usize::MAX,
        max_hold: None,
        equal_values_pass: false,
    };
    // It knows the time, as a server's does: a release tells how long the lock was held.
    let tokens = TokenClock::from(Instant::now(), Token(1), Pauses::default());
    LockTable::new(limits, tokens, Changes::default())
}

pub fn open(table: &LockTable) -> Session {
    table.open(Peer::Unix(None), Duration::ZERO)
}

/// A key of 40 bytes.
pub fn key(number: usize) -> String {
    format!("some/application/resource/{number:014}")
}

/// What a load has shown.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    pub per_second: f64,
    /// Of the servers, for each command.
    pub cpu_micros: f64,
    /// The same of what they store by.
    pub stores_cpu_micros: f64,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Shown {
    pub fn latency(&self, part: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let index = (last as f64 * part) as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub in_flight: usize,
    pub time: Duration,
    /// Commands a second of all connections together; `None`: as many as go.
    pub pace: Option<f64>,
}

/// The median of one of their figures.
pub fn of(shown: &[Shown], value: impl Fn(&Shown) -> f64) -> f64 {
    median(shown.iter().map(value).collect())
}

/// Each connection locks and unlocks a key of its own.
pub fn pairs(server: &Server, load: Load) -> Shown {
    pairs_at(&server.target(), load)
}

pub fn pairs_at(target: &Target, load: Load) -> Shown {
    let protocol = target.protocol;
    measure_at(target, load, move |client, number, until| async move {
        let (mut locks, mut unlocks) = (Vec::new(), Vec::new());
        for index in 0..load.in_flight.div_ceil(2) {
            let key = key(number * 1000 + index);
            protocol.put_lock(&key, "", &mut locks);
            protocol.put_unlock(&key, &mut unlocks);
        }
        // With several in flight, half of each batch locks and half unlocks.
        let batches = match load.in_flight {
            1 => [locks, unlocks],
            _ => {
                let both = [locks, unlocks].concat();
                [both.clone(), both]
            }
        };
        busy((client, protocol), &batches, until, number, load).await
    })
}

/// All connections queue for one key; what is counted is hand-overs.
pub fn hand_overs(server: &Server, connections: usize, time: Duration) -> Shown {
    let load = Load {
        connections,
        in_flight: 1,
        time,
        pace: None,
    };
    measure_at(&server.target(), load, |mut client, _, until| async move {
        let key = key(0);
        let (mut lock, mut unlock) = (Vec::new(), Vec::new());
        Protocol::ELock.put_lock(&key, " 60", &mut lock);
        Protocol::ELock.put_unlock(&key, &mut unlock);
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let begin = Instant::now();
            client.send(&lock).await;
            client.read_lines(1).await;
            latencies.push(begin.elapsed());
            client.send(&unlock).await;
            client.read_lines(1).await;
        }
        (latencies.len(), latencies)
    })
}

async fn busy(
    (mut client, protocol): (Client, Protocol),
    batches: &[Vec<u8>; 2],
    until: Instant,
    number: usize,
    load: Load,
) -> (usize, Vec<Duration>) {
    let mut latencies = Vec::new();
    let interval = load
        .pace
        .map(|pace| Duration::from_secs_f64(load.connections as f64 / pace));
    // Those who keep to a pace do not all begin at once.
    let mut next = Instant::now()
        + interval
            .unwrap_or_default()
            .mul_f64(number as f64 / 97.0 % 1.0);
    for batch in batches.iter().cycle() {
        if Instant::now() >= until && latencies.len() % 2 == 0 {
            break;
        }
        if let Some(interval) = interval {
            tokio::time::sleep_until(next.into()).await;
            next += interval;
        }
        let begin = Instant::now();
        if load.in_flight == 1 {
            client.do_one(protocol, batch).await;
        } else {
            client.send(batch).await;
            client.read_lines(load.in_flight.next_multiple_of(2)).await;
        }
        latencies.push(begin.elapsed());
    }
    (latencies.len() * load.in_flight, latencies)
}

fn measure_at<F, T>(target: &Target, load: Load, work: F) -> Shown
where
    F: Fn(Client, usize, Instant) -> T,
    T: Future<Output = (usize, Vec<Duration>)> + 'static,
{
    let connect = async || Client::connect(target.address).await;
    measure(&target.processes, load, connect, work)
}

/// Has so many clients work at a time, all of which are connected before the first one begins. `work` is given a
/// client, its number and the time at which it is to end, and returns how many commands there were.
pub fn measure<C, F, T>(
    processes: &Processes,
    load: Load,
    connect: impl AsyncFn() -> C,
    work: F,
) -> Shown
where
    F: Fn(C, usize, Instant) -> T,
    T: Future<Output = (usize, Vec<Duration>)> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut shown = Shown::default();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut clients = Vec::new();
        for _ in 0..load.connections {
            clients.push(connect().await);
        }
        let (begin, before) = (Instant::now(), processes.cpu());
        let mut works = tokio::task::JoinSet::new();
        for (number, client) in clients.into_iter().enumerate() {
            works.spawn_local(work(client, number, begin + load.time));
        }
        let mut commands = 0.0;
        while let Some(done) = works.join_next().await {
            let (more, latencies) = done.expect("no panic");
            commands += more as f64;
            shown.latencies.extend(latencies);
        }
        shown.per_second = commands / begin.elapsed().as_secs_f64();
        let after = processes.cpu();
        let micros = |of: usize| (after[of] - before[of]).as_secs_f64() * 1e6 / commands;
        (shown.cpu_micros, shown.stores_cpu_micros) = (micros(0), micros(1));
    });
    shown.latencies.sort_unstable();
    shown
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Takes the locks of these numbers by one session, and keeps them for `grace_ms` without a connection.
pub async fn hold(address: SocketAddr, grace_ms: u64, locks: Range<usize>) -> Client {
    let mut client = Client::connect(address).await;
    client
        .send(format!("set_timeout {grace_ms}\n").as_bytes())
        .await;
    client.read_lines(1).await;
    for first in locks.clone().step_by(1000) {
        let last = locks.end.min(first + 1000);
        let requests: Vec<String> = (first..last)
            .map(|number| format!("lock {}\n", key(number)))
            .collect();
        client.send(requests.concat().as_bytes()).await;
        client.read_lines(last - first).await;
    }
    client
}

/// Takes so many locks over 50 connections, and returns the memory that each takes.
pub fn memory_of_locks(server: &Server, locks: usize) -> f64 {
    const CONNECTIONS: usize = 50;
    const BATCH: usize = 500;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::connect(server.address).await);
        }
        let before = server.memory();
        for batch in 0..locks / BATCH {
            let mut requests = Vec::new();
            for index in 0..BATCH {
                let key = key(batch * BATCH + index);
                server.protocol.put_lock(&key, "", &mut requests);
            }
            let client = &mut clients[batch % CONNECTIONS];
            client.send(&requests).await;
            client.read_lines(BATCH).await;
        }
        (server.memory() - before) as f64 / locks as f64
    })
}

/// The memory of a connection that was never used, and of one that was, for pipelined commands.
pub fn memory_of_connections(server: &Server, connections: usize) -> (f64, f64) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let before = server.memory();
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(Client::connect(server.address).await);
        }
        // The last one is served, so all are.
        let mut requests = Vec::new();
        for index in 0..100 {
            server.protocol.put_lock(&key(index), "", &mut requests);
            server.protocol.put_unlock(&key(index), &mut requests);
        }
        let last = clients.last_mut().expect("some");
        last.send(&requests).await;
        last.read_lines(200).await;
        let idle = server.memory() - before;
        for client in &mut clients {
            client.send(&requests).await;
            client.read_lines(200).await;
        }
        let busy = server.memory() - before;
        (
            idle as f64 / connections as f64,
            busy as f64 / connections as f64,
        )
    })
}
