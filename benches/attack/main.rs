//! What honest clients notice of an attack: the time from a command to its answer, for ten of them,
//! quiet and beside the attack in one run, and the server's memory. Prints a table, of which README has a part.
//!
//! `cargo bench --bench attack`; with `-- stats garbage` only these attacks, with `-- stats:300` from
//! so many connections, with `-- --seconds 5` for longer, and with `-- --rounds 1` once: a line is the round
//! whose attacked p99 is the median of three. Where there is the same attack on them, redis
//! and memcached are measured in each round, too, if they are installed; `--only elockd` leaves them out.
//!
//! The attackers are a process of their own with one thread, at a lower priority (`nice`) than the
//! server and the honest clients, whichever server it is: what is measured is what the server does
//! with what it is given, and not whom the kernel prefers. Nothing is left running.

mod attacks;
mod honest;
#[path = "../load/mod.rs"]
mod load;
mod memory;
mod setup;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use attacks::{ATTACKS, Attack};
use honest::{Clients, Seen};
use load::{Protocol, Server};
use memory::Watched;

/// The argument with which the benchmark runs itself as the attackers.
const ATTACKER: &str = "--as-attacker";

/// How long the memory is looked at once the attack is over.
const AFTERWARDS: Duration = Duration::from_secs(2);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = &arguments[..]
        && first == ATTACKER
    {
        return attack(rest);
    }
    let wanted = Wanted::from(arguments);
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    println!("{cores} cores; ten honest clients, microseconds from a command to its answer\n");
    println!(
        "| attack | server | from | quiet p50 | p99 | p99.9 | attacked p50 | p99 | p99.9 | max | MB before | peak | after |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for attack in ATTACKS {
        for &connections in attack.connections {
            if wanted.has(attack, connections) {
                measure_all(attack, connections, &wanted);
            }
        }
    }
}

/// What the command line asks for.
struct Wanted {
    attacks: Vec<String>,
    server: Option<String>,
    time: Duration,
    rounds: u32,
}

impl Wanted {
    fn from(arguments: Vec<String>) -> Self {
        let mut wanted = Self {
            attacks: Vec::new(),
            server: None,
            time: Duration::from_secs(3),
            rounds: 3,
        };
        let number = |argument: Option<String>| -> u32 {
            let number = argument.and_then(|argument| argument.parse().ok());
            number.expect("a number")
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--only" => wanted.server = arguments.next(),
                "--seconds" => wanted.time = Duration::from_secs(number(arguments.next()).into()),
                "--rounds" => wanted.rounds = number(arguments.next()),
                // From cargo.
                "--bench" => {}
                _ => wanted.attacks.push(argument),
            }
        }
        wanted
    }

    fn has(&self, attack: &Attack, connections: usize) -> bool {
        let name = attack.name;
        let is_it = |wanted: &String| wanted == name || *wanted == format!("{name}:{connections}");
        self.attacks.is_empty() || self.attacks.iter().any(is_it)
    }
}

/// One round of one server.
struct Round {
    quiet: Seen,
    attacked: Seen,
    /// Before, at its peak and after.
    megabytes: (u64, u64, u64),
}

fn measure_all(attack: &Attack, connections: usize, wanted: &Wanted) {
    let setup = (attack.setup)();
    let flags: Vec<&str> = setup.flags.iter().map(String::as_str).collect();
    let starts: [(Protocol, &dyn Fn() -> Option<Server>); 3] = [
        (Protocol::ELock, &|| Some(Server::elockd(&flags))),
        (Protocol::Redis, &|| Server::redis(false)),
        (Protocol::Memcached, &Server::memcached),
    ];
    let mut measured: Vec<(&str, Vec<Round>)> = Vec::new();
    for _ in 0..wanted.rounds {
        for (protocol, start) in starts {
            let only = wanted.server.as_deref();
            if attack.is_for(protocol)
                && only.is_none_or(|only| only == protocol.server())
                && let Some(server) = start()
            {
                let target = setup.target.unwrap_or(server.address);
                let round = measure(attack, connections, (&server, target), wanted.time);
                match measured.iter_mut().find(|(name, _)| *name == server.name) {
                    Some((_, rounds)) => rounds.push(round),
                    None => measured.push((server.name, vec![round])),
                }
            }
        }
    }
    for (name, rounds) in measured {
        print(attack.what, connections, name, rounds);
    }
}

fn measure(
    attack: &Attack,
    connections: usize,
    (server, target): (&Server, SocketAddr),
    time: Duration,
) -> Round {
    let mut clients = Clients::connect(server.address);
    let quiet = clients.work(server.protocol, time / 2);
    let memory = Watched::begin(server.pid());
    let mut attackers = Attackers::start(attack, connections, server.protocol, target);
    attackers.wait_for_the_attack();
    let attacked = clients.work(server.protocol, time);
    drop(attackers);
    std::thread::sleep(AFTERWARDS);
    Round {
        quiet,
        attacked,
        megabytes: memory.end(),
    }
}

/// Prints the round in the middle.
fn print(what: &str, connections: usize, server: &str, mut rounds: Vec<Round>) {
    rounds.sort_by_key(|round| round.attacked.part(0.99));
    let round = &rounds[rounds.len() / 2];
    let (before, peak, after) = round.megabytes;
    println!(
        "| {what} | {server} | {connections} | {} | {} | {before} | {peak} | {after} |",
        parts(&round.quiet, &[0.5, 0.99, 0.999]),
        parts(&round.attacked, &[0.5, 0.99, 0.999, 1.0]),
    );
}

fn parts(seen: &Seen, parts: &[f64]) -> String {
    let parts = parts
        .iter()
        .map(|part| seen.part(*part).as_micros().to_string());
    parts.collect::<Vec<_>>().join(" | ")
}

/// The attackers' process.
struct Attackers(Child);

impl Attackers {
    fn start(attack: &Attack, connections: usize, protocol: Protocol, target: SocketAddr) -> Self {
        let this = std::env::current_exe().expect("this program");
        let protocol = match protocol {
            Protocol::ELock => "elock",
            Protocol::Redis => "redis",
            Protocol::Memcached => "memcached",
        };
        let child = Command::new("nice")
            .args(["-n", "10"])
            .arg(this)
            .args([ATTACKER, attack.name, protocol])
            .args([connections.to_string(), target.to_string()])
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("nice and this program start"))
    }

    fn wait_for_the_attack(&mut self) {
        let output = self.0.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert_eq!(line, "begin\n");
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This process as the attackers.
fn attack(arguments: &[String]) {
    let [name, protocol, connections, address] = arguments else {
        panic!("name, protocol, connections and address");
    };
    let attack = ATTACKS.iter().find(|attack| attack.name == name);
    let protocol = match protocol.as_str() {
        "elock" => Protocol::ELock,
        "redis" => Protocol::Redis,
        _ => Protocol::Memcached,
    };
    attacks::run(
        attack.expect("an attack"),
        address.parse().expect("an address"),
        protocol,
        connections.parse().expect("a number"),
    );
}
