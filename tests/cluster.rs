//! Three elockd on three etcd, each pair on a machine of its own, while processes are killed and stopped,
//! machines cut off, and etcd fails in every way that an operator knows. Clients lock and unlock all the while,
//! on all nodes; and what they were told is judged by what must never be told, and by nothing else.
//!
//! The machines are network namespaces, for which root's rights, `ip`, `iptables`, `tc`, `etcd` and `etcdctl` are
//! needed. Where something is missing, the tests say that they are skipped; and with `EVERY_CLUSTER_TEST` set
//! they fail.
//!
//! `ELOCK_CLUSTER_ROUNDS=500` tries more, and `ELOCK_CLUSTER_SEED` in another order. What is not tried is a step
//! of the wall clock, which no process here can be given alone: no time of day is stored or compared, but for
//! tokens, whose order rests on the log.
#![cfg(feature = "cluster")]

mod common;

#[path = "cluster/client.rs"]
mod client;
#[path = "cluster/etcd.rs"]
mod etcd;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/judge.rs"]
mod judge;
#[path = "cluster/line.rs"]
mod line;
#[path = "cluster/network.rs"]
mod network;
#[path = "cluster/nodes.rs"]
mod nodes;
#[path = "cluster/planted.rs"]
mod planted;
#[path = "cluster/trial.rs"]
mod trial;
#[path = "cluster/world.rs"]
mod world;

use faults::Fault;
use trial::Trial;

fn number(variable: &str, usual: u64) -> u64 {
    let number = std::env::var(variable).ok();
    number.map_or(usual, |number| number.parse().expect("a number"))
}

#[test]
fn whatever_fails_no_client_is_told_what_is_not_so() {
    let trial = Trial {
        rounds: number("ELOCK_CLUSTER_ROUNDS", 12),
        seed: number("ELOCK_CLUSTER_SEED", 1),
        faults: if std::env::var("DEV").is_ok() {
            vec![Fault::Compaction]
        } else {
            Fault::ALL.to_vec()
        },
        has_pairs: true,
        plant: None,
    };
    if let Some(wrong) = trial.run() {
        assert_eq!(wrong, [""; 0]);
    }
}

#[test]
fn a_server_that_works_is_convicted_of_nothing() {
    assert_eq!(trial::with_servers_that_forget(0), [""; 0]);
}

#[test]
fn a_server_that_forgets_is_convicted() {
    let wrong = trial::with_servers_that_forget(1);
    assert!(
        wrong.iter().any(|wrong| wrong.contains("was lost after")),
        "{wrong:?}"
    );
}

#[test]
fn dev_etcd() {
    let directory = tempfile::tempdir().expect("a directory");
    let network = network::Network::new().expect("rights");
    let begun = std::time::Instant::now();
    let mut etcd = etcd::Etcd::start(&network, directory.path());
    let leader = etcd.leader().expect("leads");
    println!("{:?} started, leader {leader}", begun.elapsed());
    etcd.kill(leader);
    while etcd.leader().is_none() {}
    println!("{:?} another leads", begun.elapsed());
    etcd.replace(&network, leader);
    println!("{:?} replaced", begun.elapsed());
    println!("{}", etcd.ask("member list").unwrap());
    println!("{}", etcd.ask("endpoint status").unwrap_or_else(|e| e));
    etcd.compact();
    println!("{:?} compacted", begun.elapsed());
    println!("filled {}", etcd.fill());
    println!("{:?} filled; {:?}", begun.elapsed(), etcd.ask("put a b"));
    etcd.make_room();
    println!("{:?} room; {:?}", begun.elapsed(), etcd.ask("put a b"));
    let cut = network.slow_down(0);
    println!("{:?}", etcd.ask("put a b"));
    println!("{:?} slow", begun.elapsed());
    cut.heal();
    network.speed_up(0);
    let leader = etcd.leader().expect("leads");
    let rules = [
        "INPUT -p tcp --dport 2380".to_owned(),
        "OUTPUT -p tcp --dport 2380".to_owned(),
        "INPUT -p tcp --sport 2380".to_owned(),
        "OUTPUT -p tcp --sport 2380".to_owned(),
    ];
    let cut = network.cut(leader, &rules);
    let mut now = etcd.leader();
    while now.is_none() || now == Some(leader) {
        now = etcd.leader();
    }
    println!("{:?} leads now {now:?}, not {leader}", begun.elapsed());
    cut.heal();
}

/// The judge must convict servers with faults that are planted in them, by what their clients are told.
#[cfg(feature = "plant")]
mod plants {
    use super::*;

    #[track_caller]
    fn is_convicted(plant: &'static str, faults: &[Fault]) {
        let trial = Trial {
            rounds: number("ELOCK_CLUSTER_ROUNDS", 16),
            seed: number("ELOCK_CLUSTER_SEED", 1),
            faults: faults.to_vec(),
            has_pairs: false,
            plant: Some(plant),
        };
        if let Some(wrong) = trial.run() {
            for wrong in wrong.iter().take(12) {
                println!("{wrong}");
            }
            assert!(!wrong.is_empty(), "{plant} was not found");
        }
    }

    #[test]
    fn two_leaders_are_convicted() {
        is_convicted(
            "split-brain",
            &[Fault::LeaderStopped6s, Fault::LeaderCutOffFromEtcd],
        );
    }

    #[test]
    fn answers_from_memory_are_convicted() {
        is_convicted(
            "memory",
            &[Fault::LeaderStopped6s, Fault::LeaderCutOffFromEtcd],
        );
    }

    #[test]
    fn a_change_in_doubt_that_is_taken_as_failed_is_convicted() {
        let faults = [Fault::EtcdLeaderCutOffBrieflyAndLeaderKilled];
        is_convicted("taken-as-failed", &faults);
    }
}
