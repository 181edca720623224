//! The time from a fault of the leader to the first grant at another node.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::servers::{Etcd, NODES, Nodes, PATIENCE};
use crate::spread;

#[derive(Clone, Copy)]
enum Fault {
    Kill,
    /// With etcd's leader, as if both were on one machine.
    KillBoth,
    HandOver,
    Stop,
}

pub fn measure(rounds: usize) {
    println!(
        "From the leader's end to the first grant, for a client that asks a follower all the time (least–most):"
    );
    println!(
        "| `--lead-ttl-secs` | kill -9 | kill -9, with etcd's leader | `elock failover` | SIGTERM |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let mut etcd = Etcd::start();
    for ttl_secs in [2, 3, 5] {
        let mut nodes = Nodes::start(&etcd, &format!("ttl-{ttl_secs}"), ttl_secs);
        let all = [Fault::Kill, Fault::KillBoth, Fault::HandOver, Fault::Stop];
        let times = all.map(|fault| -> Vec<Duration> {
            let round = |number| take_over(&mut nodes, &mut etcd, fault, number);
            (0..rounds).map(round).collect()
        });
        println!(
            "| {ttl_secs} | {} |",
            times.map(|times| spread(&times)).join(" | ")
        );
    }
}

fn take_over(nodes: &mut Nodes, etcd: &mut Etcd, fault: Fault, round: usize) -> Duration {
    let (leader, etcds_leader) = (nodes.leader(etcd), etcd.leader());
    let follower = follower(nodes, leader, round);
    let took = match fault {
        Fault::Kill => first_grant(follower, || nodes.kill(leader)),
        Fault::KillBoth => first_grant(follower, || {
            nodes.kill(leader);
            etcd.kill(etcds_leader);
        }),
        Fault::HandOver => first_grant(follower, || hand_over(nodes.client(leader))),
        Fault::Stop => first_grant(follower, || nodes.stop(leader)),
    };
    if let Fault::KillBoth = fault {
        etcd.start_again(etcds_leader);
    }
    assert_ne!(leader, nodes.leader(etcd), "another leads");
    if !matches!(fault, Fault::HandOver) {
        nodes.start_again(leader);
    }
    took
}

/// The address of one that follows, of each in turn.
pub fn follower(nodes: &Nodes, leader: usize, round: usize) -> SocketAddr {
    nodes.client((leader + 1 + round % (NODES - 1)) % NODES)
}

fn hand_over(leader: SocketAddr) {
    let answer = Asking::connect(leader).and_then(|mut leader| leader.ask("failover"));
    assert!(answer.is_ok_and(|answer| answer.starts_with("200")));
}

/// The time from before `fault`, which ends the leader, until a connection that was made after it is granted a lock.
pub fn first_grant(follower: SocketAddr, fault: impl FnOnce()) -> Duration {
    let mut before = Asking::connect(follower).expect("it accepts");
    assert!(before.is_granted(), "somebody leads");
    let begin = Instant::now();
    fault();
    while before.is_granted() {}
    loop {
        // It may refuse, or close, as long as nobody leads.
        if Asking::connect(follower).is_ok_and(|mut after| after.is_granted()) {
            return begin.elapsed();
        }
        assert!(begin.elapsed() < PATIENCE, "nobody takes over");
    }
}

/// A client that waits for each answer.
struct Asking(BufReader<TcpStream>);

impl Asking {
    fn connect(server: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Returns what the server says, and nothing if it has hung up.
    fn ask(&mut self, request: &str) -> std::io::Result<String> {
        let mut answer = String::new();
        self.0
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())?;
        self.0.read_line(&mut answer)?;
        Ok(answer)
    }

    /// Asks for a lock that nobody has had.
    fn is_granted(&mut self) -> bool {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.ask(&format!("lock takeover/{number}"))
            .is_ok_and(|answer| answer.starts_with("200"))
    }
}
