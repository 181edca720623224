//! Durable grants: each connection locks and unlocks a key of its own, one request in flight. A grant is both.

use std::process::Command;
use std::time::Duration;

use crate::etcd_lock::{by_grpc, by_json, etcdctl, runs};
use crate::load::{Load, Server, Shown, of, pairs, pairs_at};
use crate::servers::{Etcd, NODES, Nodes};

const TIME: Duration = Duration::from_secs(2);

/// Something to measure, with its name.
type Run<'a> = (&'static str, &'a dyn Fn() -> Shown);

pub fn measure(rounds: usize) {
    let etcd = Etcd::start();
    let nodes = Nodes::start(&etcd, "grants", 2);
    let disk = Server::elockd_on_disk();
    println!(
        "A lock and an unlock, both stored before they are answered, are one grant; {TIME:?} a round."
    );
    println!("Clients of etcd's own lock, and all elockd, ask etcd's leader.");
    println!(
        "| connections | | grants/s | p50 of an answer | p99 | processor/grant: elockd | etcd, all three |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for connections in [1, 10, 50, 200] {
        let load = Load {
            connections,
            in_flight: 1,
            time: TIME,
            pace: None,
        };
        let at = |place: usize| {
            let node = (nodes.leader(&etcd) + place) % NODES;
            pairs_at(&nodes.target(node, &etcd), load)
        };
        let all: [Run; 5] = [
            ("elockd, at the leader", &|| at(0)),
            ("elockd, through a follower", &|| at(1)),
            ("etcd's lock, by gRPC", &|| by_grpc(&etcd, load)),
            ("etcd's lock, by its JSON gateway", &|| by_json(&etcd, load)),
            ("elockd --data-dir, one machine", &|| pairs(&disk, load)),
        ];
        in_turn(rounds, connections, &all);
        if connections == 1 {
            let programs: [Run; 2] = [
                ("`elock lock k -- true`, a run", &|| {
                    elock(&nodes, &etcd, load)
                }),
                ("`etcdctl lock k true`, a run", &|| etcdctl(&etcd, load)),
            ];
            in_turn(rounds, connections, &programs);
        }
    }
}

fn elock(nodes: &Nodes, etcd: &Etcd, load: Load) -> Shown {
    let Some(program) = option_env!("CARGO_BIN_EXE_elock") else {
        return Shown::default();
    };
    let target = nodes.target(nodes.leader(etcd), etcd);
    let run = || {
        let mut program = Command::new(program);
        program
            .env("ELOCK_SERVER", target.address.to_string())
            .args(["lock", "k", "--", "true"]);
        program
    };
    runs(run, &target.processes, load)
}

/// Each once in every round, so that what the machine does meanwhile meets all alike.
fn in_turn(rounds: usize, connections: usize, all: &[Run]) {
    let mut shown = vec![Vec::new(); all.len()];
    for _ in 0..rounds {
        for ((_, run), shown) in all.iter().zip(&mut shown) {
            shown.push(run());
        }
    }
    for ((name, _), shown) in all.iter().zip(&shown) {
        let latency = |part| {
            of(shown, |shown: &Shown| {
                shown.latency(part).as_secs_f64() * 1e3
            })
        };
        println!(
            "| {connections} | {name} | {:.0} | {:.2} ms | {:.2} ms | {} | {} |",
            of(shown, |shown| shown.per_second / 2.0),
            latency(0.5),
            latency(0.99),
            micros(of(shown, |shown| shown.cpu_micros * 2.0)),
            micros(of(shown, |shown| shown.stores_cpu_micros * 2.0)),
        );
    }
}

fn micros(micros: f64) -> String {
    match micros {
        0.0 => "–".to_owned(),
        _ => format!("{micros:.0} us"),
    }
}
