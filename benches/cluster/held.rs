//! Take-overs while many locks are held.

use std::net::SocketAddr;
use std::time::Duration;

use crate::load::{hold, median, resident};
use crate::servers::{Etcd, Nodes};
use crate::takeover::{first_grant, follower};
use crate::{megabytes, spread};

const SESSIONS: usize = 50;

/// A day: they are to be held to the end.
const GRACE_MS: u64 = 86_400_000;

pub fn measure(rounds: usize) {
    println!(
        "Locks of 40-byte keys are held by {SESSIONS} sessions when the leader is killed (TTL 2 s):"
    );
    println!(
        "| locks | from election to serving | kill -9 to the first grant | memory of the new leader |"
    );
    println!("| --- | --- | --- | --- |");
    for locks in [100_000, 1_000_000] {
        let etcd = Etcd::start();
        let mut nodes = Nodes::start(&etcd, "load", 2);
        fill(nodes.client(nodes.leader(&etcd)), locks);
        let (mut loads, mut takeovers, mut memory) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let leader = nodes.leader(&etcd);
            let follower = follower(&nodes, leader, round);
            takeovers.push(first_grant(follower, || nodes.kill(leader)));
            let new = nodes.leader(&etcd);
            loads.push(loaded(&nodes.log(new), locks));
            memory.push(megabytes(resident(nodes.pid(new))) as f64);
            nodes.start_again(leader);
        }
        println!(
            "| {locks} | {} | {} | {:.0} MB |",
            spread(&loads),
            spread(&takeovers),
            median(memory)
        );
    }
}

/// Has so many locks held, by sessions without a connection.
fn fill(leader: SocketAddr, locks: usize) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let each = locks / SESSIONS;
        let sessions = (0..SESSIONS).map(|number| {
            let numbers = number * each..(number + 1) * each;
            tokio::spawn(async move { drop(hold(leader, GRACE_MS, numbers).await) })
        });
        for session in sessions.collect::<Vec<_>>() {
            session.await.expect("they are granted");
        }
    });
}

/// How long it took to load what is held, by the log of the server that did it last.
fn loaded(log: &str, locks: usize) -> Duration {
    let mut leading = log.lines().filter(|line| line.contains(" leading term="));
    let line = leading.next_back().expect("it leads");
    let number = |name: &str| -> u64 {
        let (_, rest) = line.split_once(name).expect("its figures");
        let digits = rest.split(' ').next();
        digits
            .and_then(|digits| digits.parse().ok())
            .expect("a number")
    };
    assert!(number(" locks=") >= locks as u64, "all are held: {line}");
    Duration::from_millis(number(" took_ms="))
}
