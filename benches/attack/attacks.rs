//! The attacks, and the attackers: a process of their own, which ends with the attack.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::sleep;

use crate::load::{Client, Protocol, key};
use crate::setup::Setup;

/// The attack's work in progress. It says on standard output when the attack proper begins.
type Work = Pin<Box<dyn Future<Output = ()>>>;

/// One way to make a server slow for others.
pub struct Attack {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, as the table says it.
    pub what: &'static str,
    /// How many connections it comes from, one after the other in a run; one only if the attack has
    /// its own number.
    pub connections: &'static [usize],
    /// What elockd is started with.
    pub setup: fn() -> Setup,
    kind: Kind,
}

enum Kind {
    /// Each connection sends these bytes without a pause, and reads its answers.
    Flood(fn(Protocol) -> Option<Vec<u8>>),
    /// Each sends these bytes, reads so many lines of answer, and sends again.
    Asks(fn(Protocol) -> Option<Vec<u8>>, usize),
    /// Of elock alone.
    Own(fn(SocketAddr, usize) -> Work),
}

/// From one client, from ten, and from so many that they fill the processor.
const FLOOD: &[usize] = &[1, 10, 300];

fn no_limits() -> Setup {
    Setup::of_flags(&["--max-session-locks", "2000000", "--max-locks", "4000000"])
}

const fn attack(name: &'static str, what: &'static str, kind: Kind) -> Attack {
    Attack {
        name,
        what,
        connections: match kind {
            Kind::Flood(_) | Kind::Asks(..) => FLOOD,
            Kind::Own(_) => &[1],
        },
        setup: || Setup::of_flags(&[]),
        kind,
    }
}

impl Attack {
    const fn with(mut self, setup: fn() -> Setup) -> Self {
        self.setup = setup;
        self
    }

    const fn from(mut self, connections: &'static [usize]) -> Self {
        self.connections = connections;
        self
    }

    /// Whether there is such an attack on a server of this protocol.
    pub fn is_for(&self, protocol: Protocol) -> bool {
        match self.kind {
            Kind::Flood(bytes) | Kind::Asks(bytes, _) => bytes(protocol).is_some(),
            Kind::Own(_) => protocol == Protocol::ELock,
        }
    }
}

pub const ATTACKS: &[Attack] = &[
    attack(
        "control",
        "lines of 4,095 control bytes",
        Kind::Flood(control_lines),
    ),
    attack("garbage", "lines that are no request", Kind::Flood(garbage)),
    attack("long", "lines of 64 KiB", Kind::Flood(long_lines)),
    attack(
        "endless",
        "a line without an end",
        Kind::Flood(endless_line),
    ),
    attack("empty", "empty lines", Kind::Flood(empty_lines)),
    attack(
        "pairs",
        "lock and unlock one key, pipelined",
        Kind::Flood(one_key),
    ),
    attack(
        "asks",
        "lock and unlock one key, one at a time",
        Kind::Asks(one_key_once, 2),
    ),
    attack(
        "batches",
        "lock and unlock one key, 64 at a time",
        Kind::Asks(one_key_batch, 64),
    ),
    attack("stats", "`stats` without a pause", Kind::Flood(stats)),
    attack("info", "`info` without a pause", Kind::Flood(info)),
    attack("help", "`help` without a pause", Kind::Flood(help)),
    attack(
        "guess",
        "guessed ids for `resume` and `conn_id`",
        Kind::Flood(guesses),
    ),
    attack(
        "loris",
        "2,000 connections send a byte now and then",
        Kind::Own(slow_loris),
    ),
    attack(
        "reset",
        "connect, send, reset, 50 at a time",
        Kind::Own(connect_and_reset),
    ),
    attack(
        "unread",
        "connect, ask, never read, 50 at a time",
        Kind::Own(never_read),
    ),
    attack(
        "keys",
        "take a million keys of 40 bytes, and release them",
        Kind::Own(many_keys),
    )
    .with(no_limits),
    attack(
        "large",
        "take 100,000 keys of 4,000 bytes, and release them",
        Kind::Own(large_keys),
    )
    .with(no_limits),
    attack(
        "debug",
        "`debug` in a loop, a million locks held",
        Kind::Own(debug),
    )
    .with(no_limits)
    .from(&[1, 8]),
    attack(
        "locks",
        "`locks` in a loop, a million locks held",
        Kind::Own(locks),
    )
    .with(no_limits)
    .from(&[1, 8]),
    attack(
        "sharers",
        "9,900 sessions join and leave one key",
        Kind::Own(sharers),
    ),
    attack(
        "owners",
        "20,000 owner words join and leave one key",
        Kind::Own(owners),
    ),
    attack(
        "leases",
        "leases of 200,000 locks end at one moment",
        Kind::Own(leases),
    )
    .with(no_limits),
    attack("waits", "9,900 waits end at one moment", Kind::Own(waits)),
    attack(
        "chain",
        "walks over a chain of 9,900 who wait",
        Kind::Own(chain),
    ),
    attack(
        "mesh",
        "walks over 1,000 who share 1,000 keys of 4,000 bytes",
        Kind::Own(mesh),
    )
    .from(&[1, 10]),
    attack(
        "passwords",
        "wrong passwords, each for another name or a user's",
        Kind::Own(wrong_passwords),
    )
    .with(Setup::with_a_password)
    .from(FLOOD),
    attack(
        "hello",
        "TLS hellos, and nothing behind them",
        Kind::Own(only_hello),
    )
    .with(Setup::with_tls)
    .from(FLOOD),
    attack("broken", "broken TLS hellos", Kind::Own(broken_hello))
        .with(Setup::with_tls)
        .from(FLOOD),
    attack(
        "grace",
        "sessions with locks, left in their grace periods",
        Kind::Own(grace),
    ),
];

/// Attacks by this process until it is ended, once it has said so on standard output.
pub fn run(attack: &Attack, address: SocketAddr, protocol: Protocol, connections: usize) {
    // As many files as one may.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let work: Work = match attack.kind {
        Kind::Flood(bytes) => {
            let bytes: Rc<[u8]> = bytes(protocol).expect("it is for this server").into();
            Box::pin(all(connections, move || flood(address, Rc::clone(&bytes))))
        }
        Kind::Asks(bytes, lines) => {
            let bytes: Rc<[u8]> = bytes(protocol).expect("it is for this server").into();
            Box::pin(all(connections, move || {
                ask(address, Rc::clone(&bytes), lines)
            }))
        }
        Kind::Own(work) => work(address, connections),
    };
    tokio::task::LocalSet::new().block_on(&runtime, work);
}

/// Says that the attack begins.
fn begin() {
    println!("begin");
}

async fn all<F: Future<Output = ()> + 'static>(connections: usize, one: impl Fn() -> F) {
    begin();
    let mut works = JoinSet::new();
    (0..connections).for_each(|_| drop(works.spawn_local(one())));
    while works.join_next().await.is_some() {}
}

/// As often as the server ends the connection, another one begins.
async fn flood(address: SocketAddr, bytes: Rc<[u8]>) {
    loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            let (read, mut write) = stream.into_split();
            let reader = spawn_local(drain(read));
            while write.write_all(&bytes).await.is_ok() {}
            reader.abort();
        }
    }
}

async fn ask(address: SocketAddr, bytes: Rc<[u8]>, lines: usize) {
    let mut client = Client::connect(address).await;
    loop {
        client.send(&bytes).await;
        client.read_lines(lines).await;
    }
}

async fn drain(mut stream: OwnedReadHalf) {
    let mut dropped = vec![0; 64 * 1024];
    while let Ok(1..) = stream.read(&mut dropped).await {}
}

fn control_lines(protocol: Protocol) -> Option<Vec<u8>> {
    let line = [vec![1; 4095], b"\r\n".to_vec()].concat();
    (protocol == Protocol::ELock).then(|| line.repeat(8))
}

fn garbage(_: Protocol) -> Option<Vec<u8>> {
    Some(b"Lorem ipsum dolor sit amet\r\n".repeat(1000))
}

fn long_lines(protocol: Protocol) -> Option<Vec<u8>> {
    // Others hang up.
    (protocol == Protocol::ELock).then(|| [vec![b'x'; 65_534], b"\r\n".to_vec()].concat())
}

fn endless_line(protocol: Protocol) -> Option<Vec<u8>> {
    (protocol == Protocol::ELock).then(|| vec![b'x'; 64 * 1024])
}

fn empty_lines(protocol: Protocol) -> Option<Vec<u8>> {
    (protocol != Protocol::Memcached).then(|| b"\r\n".repeat(10_000))
}

fn one_key(protocol: Protocol) -> Option<Vec<u8>> {
    Some(one_key_once(protocol)?.repeat(500))
}

fn one_key_batch(protocol: Protocol) -> Option<Vec<u8>> {
    Some(one_key_once(protocol)?.repeat(32))
}

fn one_key_once(protocol: Protocol) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    protocol.put_lock("one", "", &mut bytes);
    protocol.put_unlock("one", &mut bytes);
    Some(bytes)
}

fn stats(protocol: Protocol) -> Option<Vec<u8>> {
    (protocol == Protocol::ELock).then(|| b"stats\n".repeat(100))
}

fn info(protocol: Protocol) -> Option<Vec<u8>> {
    (protocol == Protocol::ELock).then(|| b"info\n".repeat(100))
}

fn help(protocol: Protocol) -> Option<Vec<u8>> {
    (protocol == Protocol::ELock).then(|| b"help\n".repeat(100))
}

fn guesses(protocol: Protocol) -> Option<Vec<u8>> {
    let guess = |number: u32| {
        let id = format!("{}-{:032x}", number % 20, u128::from(number) << 64);
        format!("resume {id}\nconn_id {id}\n")
    };
    let guesses: String = (0..500).map(guess).collect();
    (protocol == Protocol::ELock).then(|| guesses.into_bytes())
}

fn slow_loris(address: SocketAddr, _: usize) -> Work {
    Box::pin(async move {
        let mut clients = connect(address, 2000).await;
        begin();
        for client in (0..clients.len()).cycle() {
            clients[client].send(b"x").await;
            sleep(Duration::from_millis(1)).await;
        }
    })
}

fn connect_and_reset(address: SocketAddr, _: usize) -> Work {
    let one = move || async move {
        loop {
            if let Ok(mut stream) = TcpStream::connect(address).await {
                let _ = stream.write_all(b"lock a\nlock b\n").await;
                // Its close is a reset.
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
        }
    };
    Box::pin(all(50, one))
}

fn never_read(address: SocketAddr, _: usize) -> Work {
    let one = move || async move {
        loop {
            if let Ok(mut stream) = TcpStream::connect(address).await {
                let asks = b"help\n".repeat(1000);
                let ask = async { while stream.write_all(&asks).await.is_ok() {} };
                let _ = tokio::time::timeout(Duration::from_millis(200), ask).await;
            }
        }
    };
    Box::pin(all(50, one))
}

fn many_keys(address: SocketAddr, _: usize) -> Work {
    Box::pin(take_and_release(address, 1_000_000, |number| {
        format!("m/{}", key(number))
    }))
}

fn large_keys(address: SocketAddr, _: usize) -> Work {
    Box::pin(take_and_release(address, 100_000, |number| {
        format!("{number:04000}")
    }))
}

async fn take_and_release(address: SocketAddr, keys: usize, key: impl Fn(usize) -> String) {
    let mut client = Client::connect(address).await;
    begin();
    loop {
        take(&mut client, keys, &key).await;
        client.send(b"unlock_all\n").await;
        client.read_lines(1).await;
    }
}

async fn take(client: &mut Client, keys: usize, key: impl Fn(usize) -> String) {
    for first in (0..keys).step_by(500) {
        let last = keys.min(first + 500);
        let requests = (first..last).map(|number| format!("lock {}\n", key(number)));
        let requests: String = requests.collect();
        client.send(requests.as_bytes()).await;
        client.read_lines(last - first).await;
    }
}

fn debug(address: SocketAddr, askers: usize) -> Work {
    Box::pin(list(address, askers, b"debug\n"))
}

fn locks(address: SocketAddr, askers: usize) -> Work {
    Box::pin(list(address, askers, b"locks\n"))
}

/// Each asker reads the whole listing and asks again.
async fn list(address: SocketAddr, askers: usize, question: &'static [u8]) {
    let mut holder = Client::connect(address).await;
    take(&mut holder, 1_000_000, |number| {
        format!("held/{}", key(number))
    })
    .await;
    let ask = move || async move {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            return;
        };
        let (mut input, mut last) = (vec![0; 64 * 1024], [0; 5]);
        while stream.write_all(question).await.is_ok() {
            last.fill(0);
            while last != *b"END\r\n" {
                let Ok(read @ 1..) = stream.read(&mut input).await else {
                    return;
                };
                let ends = [&last[..], &input[..read]].concat();
                last.copy_from_slice(&ends[ends.len() - 5..]);
            }
        }
    };
    all(askers, ask).await;
    drop(holder);
}

/// Returns when so many requests wait.
async fn until_waiting(address: SocketAddr, requests: usize) {
    let mut stream = TcpStream::connect(address).await.expect("it accepts");
    let wanted = format!("\nwaiters {requests}\r\n");
    loop {
        stream.write_all(b"info\n").await.expect("it reads");
        let mut answer = String::new();
        while !answer.ends_with("END\r\n") {
            let mut some = [0; 4096];
            let read = stream.read(&mut some).await.expect("an answer");
            answer += &String::from_utf8_lossy(&some[..read]);
        }
        if answer.contains(&wanted) {
            return;
        }
    }
}

async fn connect(address: SocketAddr, connections: usize) -> Vec<Client> {
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(Client::connect(address).await);
    }
    clients
}

/// Has all send the line, and then reads an answer of each.
async fn all_ask(clients: &mut [Client], line: impl Fn(usize) -> String) {
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(line(number).as_bytes()).await;
    }
    for client in clients {
        client.read_lines(1).await;
    }
}

fn sharers(address: SocketAddr, _: usize) -> Work {
    Box::pin(async move {
        let mut clients = connect(address, 9_900).await;
        begin();
        loop {
            all_ask(&mut clients, |_| "lock_value k v\n".to_owned()).await;
            all_ask(&mut clients, |_| "unlock k\n".to_owned()).await;
        }
    })
}

fn owners(address: SocketAddr, _: usize) -> Work {
    Box::pin(async move {
        let mut client = Client::connect(address).await;
        begin();
        loop {
            for line in ["lock_value k v 0", "unlock k"] {
                for first in (0..20_000).step_by(500) {
                    let lease = if line.starts_with("lock") { " 0" } else { "" };
                    let asks =
                        (first..first + 500).map(|owner| format!("{line} o{owner}{lease}\n"));
                    client.send(asks.collect::<String>().as_bytes()).await;
                    client.read_lines(500).await;
                }
            }
        }
    })
}

fn leases(address: SocketAddr, _: usize) -> Work {
    Box::pin(async move {
        let mut client = Client::connect(address).await;
        begin();
        loop {
            for first in (0..200_000).step_by(500) {
                let asks = (first..first + 500).map(|number| {
                    let key = key(number);
                    format!("lock {key}\nexpire {key} 1500\n")
                });
                client.send(asks.collect::<String>().as_bytes()).await;
                client.read_lines(1000).await;
            }
            sleep(Duration::from_millis(500)).await;
        }
    })
}

fn waits(address: SocketAddr, _: usize) -> Work {
    Box::pin(async move {
        let mut holder = Client::connect(address).await;
        take(&mut holder, 1, |_| "k".to_owned()).await;
        let mut clients = connect(address, 9_900).await;
        begin();
        loop {
            all_ask(&mut clients, |_| "lock k 0.5\n".to_owned()).await;
        }
    })
}

fn chain(address: SocketAddr, _: usize) -> Work {
    Box::pin(async move {
        let mut clients = connect(address, 9_900).await;
        all_ask(&mut clients, |number| format!("lock c{number}\n")).await;
        let (last, others) = clients.split_last_mut().expect("some");
        // From the end, so that each wait has a short walk.
        for (number, client) in others.iter_mut().enumerate().rev() {
            client
                .send(format!("lock c{} 3600\n", number + 1).as_bytes())
                .await;
        }
        until_waiting(address, others.len()).await;
        begin();
        loop {
            last.send(b"lock c0 3600\n").await;
            last.read_lines(1).await;
        }
    })
}

fn mesh(address: SocketAddr, askers: usize) -> Work {
    const SHARERS: usize = 1_000;
    let key = |number: usize| format!("{number:04000}");
    Box::pin(async move {
        let mut clients = connect(address, SHARERS).await;
        for number in 1..SHARERS {
            // Each shares the keys behind its own, and waits for its own then: no circle.
            let sharers = &mut clients[..number];
            all_ask(sharers, |_| format!("lock_value {} v\n", key(number))).await;
        }
        for (number, client) in clients.iter_mut().enumerate().skip(1) {
            let line = format!("lock {} 3600\n", key(number));
            client.send(line.as_bytes()).await;
        }
        until_waiting(address, SHARERS - 1).await;
        let asker = Cell::new(0);
        let ask = move || {
            asker.set(asker.get() + 1);
            ask_again_and_again(address, format!("own{}", asker.get()), key(SHARERS - 1))
        };
        all(askers, ask).await;
        drop(clients);
    })
}

/// Holds one key, as only then a walk is made, and asks for the other.
async fn ask_again_and_again(address: SocketAddr, own: String, other: String) {
    let mut client = Client::connect(address).await;
    take(&mut client, 1, |_| own.clone()).await;
    loop {
        client.send(format!("lock {other}\n").as_bytes()).await;
        client.read_lines(1).await;
    }
}

/// Of each ten tries one is for a user that there is.
fn wrong_passwords(address: SocketAddr, connections: usize) -> Work {
    let one = move || async move {
        for number in 0.. {
            let name = match number % 10 {
                0 => "victim".to_owned(),
                _ => format!("nobody{number}"),
            };
            if let Ok(mut stream) = TcpStream::connect(address).await {
                let line = format!("auth {name} wrong{number}\n");
                let _ = stream.write_all(line.as_bytes()).await;
                let _ = stream.read(&mut [0; 256]).await;
            }
        }
    };
    Box::pin(all(connections, one))
}

fn only_hello(address: SocketAddr, connections: usize) -> Work {
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let client = rustls::ClientConnection::new(config.into(), name);
    let mut hello = Vec::new();
    let written = client.expect("a client").write_tls(&mut hello);
    written.expect("memory has room");
    say_and_leave(address, connections, hello)
}

fn broken_hello(address: SocketAddr, connections: usize) -> Work {
    let hello = [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        &[7; 600],
    ]
    .concat();
    say_and_leave(address, connections, hello)
}

/// Each connection reads the first of the answer.
fn say_and_leave(address: SocketAddr, connections: usize, bytes: Vec<u8>) -> Work {
    let bytes: Rc<[u8]> = bytes.into();
    let one = move || {
        let bytes = Rc::clone(&bytes);
        async move {
            loop {
                if let Ok(mut stream) = TcpStream::connect(address).await {
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.read(&mut [0; 4096]).await;
                }
            }
        }
    };
    Box::pin(all(connections, one))
}

fn grace(address: SocketAddr, _: usize) -> Work {
    let one = move || async move {
        for number in 0.. {
            if let Ok(mut stream) = TcpStream::connect(address).await {
                let asks = format!("set_timeout 1000\nlock g{number}\n");
                let _ = stream.write_all(asks.as_bytes()).await;
                let _ = stream.shutdown().await;
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            }
        }
    };
    Box::pin(all(50, one))
}
