//! Three elockd on three etcd, each pair on a machine of its own, while processes are killed and stopped,
//! machines cut off, and etcd fails in every way that an operator knows. Clients lock and unlock all the while,
//! on all nodes; and what they were told is judged by what must never be told, and by nothing else.
//!
//! The machines are network namespaces, for which root's rights, `ip`, `iptables`, `tc`, `etcd`, `etcdctl` and
//! libfaketime are needed. Where something is missing, the tests say that they are skipped; and with `EVERY_CLUSTER_TEST` set
//! they fail.
//!
//! `ELOCK_CLUSTER_ROUNDS=500` tries more, and `ELOCK_CLUSTER_SEED` in another order.
#![cfg(feature = "cluster")]

mod common;

#[path = "cluster/client.rs"]
mod client;
#[path = "cluster/clocks.rs"]
mod clocks;
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
        rounds: number("ELOCK_CLUSTER_ROUNDS", 18),
        seed: number("ELOCK_CLUSTER_SEED", 1),
        faults: Fault::ALL.to_vec(),
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

/// The judge must convict servers with faults that are planted in them, by what their clients are told.
#[cfg(feature = "plant")]
mod plants {
    use super::*;

    /// By an event, not as the servers have ended: they may see themselves that something is wrong, and that is
    /// not what is tried here. Then it is tried once more.
    #[track_caller]
    fn is_convicted(plant: &'static str, faults: &[Fault]) {
        for seed in 1..=12 {
            let trial = Trial {
                rounds: 16,
                seed,
                faults: faults.to_vec(),
                has_pairs: false,
                plant: Some(plant),
            };
            let Some(wrong) = trial.run() else {
                return;
            };
            for wrong in wrong.iter().take(12) {
                println!("{wrong}");
            }
            if wrong.iter().any(|wrong| wrong.starts_with("event ")) {
                return;
            }
        }
        panic!("{plant} was not found");
    }

    #[test]
    fn two_leaders_are_convicted() {
        is_convicted(
            "split-brain",
            &[Fault::LeaderStopped6s, Fault::LeaderCutOffFromEtcd],
        );
    }

    /// What was asked while the leader stood still is answered by it before it looks around.
    #[test]
    fn answers_from_memory_are_convicted() {
        is_convicted("memory", &[Fault::LeaderStopped6s]);
    }

    #[test]
    fn a_change_in_doubt_that_is_taken_as_failed_is_convicted() {
        let faults = [Fault::EtcdLeaderCutOffBrieflyAndLeaderKilled];
        is_convicted("taken-as-failed", &faults);
    }
}
