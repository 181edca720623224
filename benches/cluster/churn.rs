//! What becomes of etcd's database while locks come and go as fast as they can.

use std::time::Duration;

use crate::load::{Load, Shown, pairs_at, resident};
use crate::megabytes;
use crate::servers::{Etcd, Nodes, Status};

const CONNECTIONS: usize = 50;
const PARTS: u32 = 10;

pub fn measure(time: Duration) {
    println!(
        "{CONNECTIONS} connections lock and unlock for {time:?}; of etcd the largest of the three:"
    );
    println!(
        "| after | grants/s | database | of it in use | memory of etcd | of the leading elockd |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let etcd = Etcd::start();
    // So long that nobody else leads meanwhile, however busy the machine is: connections would end with that.
    let nodes = Nodes::start(&etcd, "churn", 10);
    let load = Load {
        connections: CONNECTIONS,
        in_flight: 1,
        time: time / PARTS,
        pace: None,
    };
    print(Duration::ZERO, None, &nodes, &etcd);
    for part in 1..=PARTS {
        let shown = pairs_at(&nodes.target(nodes.leader(&etcd), &etcd), load);
        print(load.time * part, Some(&shown), &nodes, &etcd);
    }
}

fn print(after: Duration, shown: Option<&Shown>, nodes: &Nodes, etcd: &Etcd) {
    let status = etcd.status().expect("all answer");
    let largest = |size: fn(&Status) -> u64| status.iter().map(size).max().map_or(0, megabytes);
    let memory = etcd.pids().into_iter().map(resident).max();
    let rate = shown.map_or("–".to_owned(), |shown| {
        format!("{:.0}", shown.per_second / 2.0)
    });
    println!(
        "| {} s | {rate} | {} MB | {} MB | {} MB | {} MB |",
        after.as_secs_f64(),
        largest(|status| status.size),
        largest(|status| status.size_in_use),
        memory.map_or(0, megabytes),
        megabytes(resident(nodes.pid(nodes.leader(etcd)))),
    );
}
