//! elockd beside what its users would otherwise take, in one run on one machine: throughput, processor
//! time, tail, hand-overs, durability, memory. Prints the tables that README shows.
//!
//! `cargo bench --bench compare`; with `-- 1` one quick round instead of five. Redis and memcached
//! are measured if they are installed. Nothing is left running.

mod load;

use std::time::Duration;

use load::{Load, Server, Shown, hand_overs, of, pairs};

const TIME: Duration = Duration::from_secs(2);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == load::ECHO) {
        return load::serve_echo(&arguments[at + 1]);
    }
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
    let rounds: usize = rounds.unwrap_or(5);
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    println!("{cores} cores, clients on the same ones; medians of {rounds} rounds of {TIME:?}\n");
    in_memory(rounds);
    waiting(rounds);
    on_disk(rounds);
    memory();
}

fn load(connections: usize, in_flight: usize) -> Load {
    Load {
        connections,
        in_flight,
        time: TIME,
        pace: None,
    }
}

/// Runs each load on each server in turn, so that what the machine does meanwhile meets all alike.
fn rounds(servers: &[Server], rounds: usize, run: impl Fn(&Server) -> Shown) -> Vec<Vec<Shown>> {
    let mut all = vec![Vec::new(); servers.len()];
    for _ in 0..rounds {
        for (server, shown) in servers.iter().zip(&mut all) {
            shown.push(run(server));
        }
    }
    all
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn in_memory(times: usize) {
    let servers: Vec<Server> = [Some(Server::echo()), Some(Server::elockd(&[]))]
        .into_iter()
        .chain([Server::redis(false), Server::memcached()])
        .flatten()
        .collect();
    for in_flight in [1, 16, 128] {
        println!("50 connections, {in_flight} in flight each:");
        println!("| | commands/s | of echo | processor/command |");
        println!("| --- | --- | --- | --- |");
        let all = rounds(&servers, times, |server| pairs(server, load(50, in_flight)));
        let floor = of(&all[0], |shown| shown.per_second);
        for (server, shown) in servers.iter().zip(&all) {
            let (rate, cpu) = (
                of(shown, |shown| shown.per_second),
                of(shown, |shown| shown.cpu_micros),
            );
            let (name, part) = (server.name, rate / floor);
            println!("| {name} | {rate:.0} | {part:.2} | {cpu:.2} us |");
        }
        println!();
    }
    let peak = of(
        &rounds(&servers[..1], times, |server| pairs(server, load(200, 1)))[0],
        |shown| shown.per_second,
    );
    println!(
        "200 connections at half of echo's peak, {:.0} commands/s:",
        peak / 2.0
    );
    println!("| | p50 | p99 | p99.9 |");
    println!("| --- | --- | --- | --- |");
    let paced = Load {
        pace: Some(peak / 2.0),
        ..load(200, 1)
    };
    let all = rounds(&servers, times, |server| pairs(server, paced));
    for (server, shown) in servers.iter().zip(&all) {
        let part = |part| of(shown, |shown| micros(shown.latency(part)));
        println!(
            "| {} | {:.0} us | {:.0} us | {:.0} us |",
            server.name,
            part(0.5),
            part(0.99),
            part(0.999)
        );
    }
    println!();
}

fn waiting(times: usize) {
    let servers = [Server::echo(), Server::elockd(&[])];
    println!(
        "50 clients queue for one key; the floor is one client of the echo server, whose round"
    );
    println!("trips follow each other as hand-overs do:");
    println!("| | per second | p50 | p99.9 |");
    println!("| --- | --- | --- | --- |");
    let all = rounds(&servers, times, |server| match server.name {
        "elockd" => hand_overs(server, 50, TIME),
        _ => pairs(server, load(1, 1)),
    });
    for (server, shown) in servers.iter().zip(&all) {
        println!(
            "| {} | {:.0} | {:.0} us | {:.0} us |",
            server.name,
            of(shown, |shown| shown.per_second),
            of(shown, |shown| micros(shown.latency(0.5))),
            of(shown, |shown| micros(shown.latency(0.999)))
        );
    }
    println!();
}

fn on_disk(times: usize) {
    let servers: Vec<Server> = [Some(Server::elockd_on_disk()), Server::redis(true)]
        .into_iter()
        .flatten()
        .collect();
    for connections in [1, 10, 200] {
        println!("{connections} connections, 1 in flight each, on disk before the answer:");
        println!("| | commands/s | processor/command | p50 | p99.9 |");
        println!("| --- | --- | --- | --- | --- |");
        let all = rounds(&servers, times, |server| {
            pairs(server, load(connections, 1))
        });
        for (server, shown) in servers.iter().zip(&all) {
            println!(
                "| {} | {:.0} | {:.2} us | {:.0} us | {:.0} us |",
                server.name,
                of(shown, |shown| shown.per_second),
                of(shown, |shown| shown.cpu_micros),
                of(shown, |shown| micros(shown.latency(0.5))),
                of(shown, |shown| micros(shown.latency(0.999)))
            );
        }
        println!();
    }
}

fn memory() {
    println!("Memory, resident:");
    println!("| | per held lock | per idle connection | the same after it was busy |");
    println!("| --- | --- | --- | --- |");
    let start: [fn() -> Option<Server>; 3] = [
        || Some(Server::elockd(&[])),
        || Server::redis(false),
        Server::memcached,
    ];
    for start in start {
        let (Some(locks), Some(idle)) = (start(), start()) else {
            continue;
        };
        let per_lock = load::memory_of_locks(&locks, 1_000_000);
        let (idle_bytes, busy_bytes) = load::memory_of_connections(&idle, 5_000);
        println!(
            "| {} | {per_lock:.0} B | {idle_bytes:.0} B | {busy_bytes:.0} B |",
            locks.name
        );
    }
}
