//! What goes wrong with a cluster: each fault begins, lasts for a while, and ends.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::clocks::Clock;
use super::network::{Cut, MACHINES};
use super::nodes::{CLUSTER_PORT, Machines, PORT};
use super::world::{Dice, World};
use crate::common::PATIENCE;

/// The ports of etcd, for clients and for its other nodes.
const ETCD: u16 = 2379;
const PEERS: u16 = 2380;

/// How long a leader lives on after etcd works again: for what comes late, but no longer than that stays in the
/// log.
const UNTIL_KILLED: Duration = Duration::from_millis(300);

/// The leader is that of elockd, if nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    LeaderKilled,
    LeaderStopped1s,
    LeaderStopped6s,
    LeaderCutOffFromEtcd,
    /// What it asks of etcd is done, and it does not hear of that.
    LeaderDoesNotHearEtcd,
    EtcdDoesNotHearLeader,
    LeaderCutOffFromClients,
    /// What clients and followers ask is done, and they do not hear of that.
    ClientsDoNotHearLeader,
    LeaderDoesNotHearClients,
    FollowerKilled,
    EtcdLeaderKilled,
    EtcdLeaderStopped,
    EtcdLeaderCutOff,
    EtcdLeaderDoesNotHear,
    EtcdLeaderIsNotHeard,
    /// The others do not reach it for a moment: what they passed on to it may come late.
    EtcdLeaderCutOffBriefly,
    /// The same, and what is in etcd then is read by a new leader.
    EtcdLeaderCutOffBrieflyAndLeaderKilled,
    BothLeadersKilled,
    MemberReplaced,
    AllEtcdDown,
    Compaction,
    QuotaReached,
    FailedOver,
    LeaderTerminated,
    SlowLossyNetwork,
    /// All clocks step ahead, and another leads by one of them; then all step back, and another leads.
    ClocksAhead,
    /// The same the other way.
    ClocksBehind,
}

impl Fault {
    pub const ALL: [Self; 27] = [
        Self::LeaderKilled,
        Self::LeaderStopped1s,
        Self::LeaderStopped6s,
        Self::LeaderCutOffFromEtcd,
        Self::LeaderDoesNotHearEtcd,
        Self::EtcdDoesNotHearLeader,
        Self::LeaderCutOffFromClients,
        Self::ClientsDoNotHearLeader,
        Self::LeaderDoesNotHearClients,
        Self::FollowerKilled,
        Self::EtcdLeaderKilled,
        Self::EtcdLeaderStopped,
        Self::EtcdLeaderCutOff,
        Self::EtcdLeaderDoesNotHear,
        Self::EtcdLeaderIsNotHeard,
        Self::EtcdLeaderCutOffBriefly,
        Self::EtcdLeaderCutOffBrieflyAndLeaderKilled,
        Self::BothLeadersKilled,
        Self::MemberReplaced,
        Self::AllEtcdDown,
        Self::Compaction,
        Self::QuotaReached,
        Self::FailedOver,
        Self::LeaderTerminated,
        Self::SlowLossyNetwork,
        Self::ClocksAhead,
        Self::ClocksBehind,
    ];

    /// Those that are later take more of etcd to end, and begin before the others, of which they may need the
    /// end.
    pub fn needs_etcd(self) -> u8 {
        match self {
            Self::QuotaReached => 2,
            Self::MemberReplaced | Self::Compaction => 1,
            _ => 0,
        }
    }

    /// How long it lasts.
    fn lasts(self) -> Duration {
        Duration::from_millis(match self {
            Self::Compaction | Self::FailedOver => 0,
            Self::LeaderTerminated | Self::MemberReplaced => 500,
            Self::EtcdLeaderCutOffBriefly | Self::EtcdLeaderCutOffBrieflyAndLeaderKilled => 850,
            Self::LeaderStopped1s | Self::QuotaReached | Self::ClocksAhead | Self::ClocksBehind => {
                1000
            }
            Self::LeaderKilled | Self::FollowerKilled => 1500,
            Self::AllEtcdDown | Self::EtcdLeaderKilled | Self::BothLeadersKilled => 3000,
            Self::LeaderStopped6s | Self::LeaderCutOffFromEtcd => 6000,
            Self::LeaderDoesNotHearEtcd
            | Self::EtcdDoesNotHearLeader
            | Self::LeaderCutOffFromClients
            | Self::ClientsDoNotHearLeader
            | Self::LeaderDoesNotHearClients
            | Self::EtcdLeaderStopped
            | Self::EtcdLeaderCutOff
            | Self::EtcdLeaderDoesNotHear
            | Self::EtcdLeaderIsNotHeard
            | Self::SlowLossyNetwork => 4000,
        })
    }

    /// Begins it.
    pub fn begin(self, machines: &mut Machines, world: &World, dice: &mut Dice) -> Ongoing {
        let mut any = || usize::try_from(dice.below(MACHINES as u64)).expect("few");
        // Drawn always, so that a seed is the same order each time.
        let (node, etcd) = (any(), any());
        let mut ongoing = Ongoing {
            fault: self,
            node: machines.leader().unwrap_or(node),
            etcd: machines.etcd.leader().unwrap_or(etcd),
            cut: None,
            ends: Instant::now(),
        };
        ongoing.begin(machines, world);
        ongoing.ends = Instant::now() + self.lasts();
        ongoing
    }
}

/// A fault that has begun.
#[derive(Debug)]
pub struct Ongoing {
    pub fault: Fault,
    node: usize,
    etcd: usize,
    cut: Option<Cut>,
    pub ends: Instant,
}

impl Ongoing {
    fn begin(&mut self, machines: &mut Machines, world: &World) {
        let (node, etcd) = (self.node, self.etcd);
        match self.fault {
            Fault::LeaderKilled => machines.kill_node(node),
            Fault::LeaderStopped1s | Fault::LeaderStopped6s => machines.signal_node(node, "STOP"),
            Fault::FollowerKilled => {
                self.node = (node + 1) % MACHINES;
                machines.kill_node(self.node);
            }
            Fault::EtcdLeaderKilled | Fault::MemberReplaced => machines.etcd.kill(etcd),
            Fault::EtcdLeaderStopped => machines.etcd.signal(etcd, "STOP"),
            Fault::BothLeadersKilled => {
                machines.etcd.kill(etcd);
                machines.kill_node(node);
            }
            Fault::AllEtcdDown => (0..MACHINES).for_each(|each| machines.etcd.kill(each)),
            Fault::Compaction => machines.etcd.compact(),
            Fault::QuotaReached => {
                world.may_not_store.store(true, Ordering::SeqCst);
                if !machines.etcd.fill() {
                    // It begins before what would keep etcd from answering.
                    world.is_wrong("etcd's quota was not reached".to_owned());
                }
            }
            Fault::FailedOver => machines.fail_over(node),
            Fault::LeaderTerminated => machines.stop_node(node),
            Fault::SlowLossyNetwork => self.cut = Some(machines.network.slow_down(node)),
            Fault::ClocksAhead => steps(machines, Clock::Ahead),
            Fault::ClocksBehind => steps(machines, Clock::Behind),
            Fault::LeaderCutOffFromEtcd
            | Fault::LeaderDoesNotHearEtcd
            | Fault::EtcdDoesNotHearLeader
            | Fault::LeaderCutOffFromClients
            | Fault::ClientsDoNotHearLeader
            | Fault::LeaderDoesNotHearClients => {
                self.cut = Some(machines.network.cut(node, &self.rules()));
            }
            Fault::EtcdLeaderCutOff
            | Fault::EtcdLeaderDoesNotHear
            | Fault::EtcdLeaderIsNotHeard
            | Fault::EtcdLeaderCutOffBriefly
            | Fault::EtcdLeaderCutOffBrieflyAndLeaderKilled => {
                self.cut = Some(machines.network.cut(etcd, &self.rules()));
            }
        }
    }

    /// What is dropped at the machine that is cut off.
    fn rules(&self) -> Vec<String> {
        let rule = |chain: &str, side: &str, port: u16| format!("{chain} -p tcp --{side} {port}");
        // Its own requests and their answers; and those of others, and its answers.
        let asks = |port| rule("OUTPUT", "dport", port);
        let is_answered = |port| rule("INPUT", "sport", port);
        let is_asked = |port| rule("INPUT", "dport", port);
        let answers = |port| rule("OUTPUT", "sport", port);
        match self.fault {
            Fault::LeaderCutOffFromEtcd => vec![asks(ETCD), is_answered(ETCD)],
            Fault::LeaderDoesNotHearEtcd => vec![is_answered(ETCD)],
            Fault::EtcdDoesNotHearLeader => vec![asks(ETCD)],
            Fault::LeaderCutOffFromClients => [PORT, CLUSTER_PORT]
                .into_iter()
                .flat_map(|port| [is_asked(port), answers(port)])
                .collect(),
            Fault::ClientsDoNotHearLeader => [PORT, CLUSTER_PORT].map(answers).to_vec(),
            Fault::LeaderDoesNotHearClients => [PORT, CLUSTER_PORT].map(is_asked).to_vec(),
            Fault::EtcdLeaderCutOff
            | Fault::EtcdLeaderCutOffBriefly
            | Fault::EtcdLeaderCutOffBrieflyAndLeaderKilled => {
                vec![
                    asks(PEERS),
                    is_answered(PEERS),
                    is_asked(PEERS),
                    answers(PEERS),
                ]
            }
            Fault::EtcdLeaderDoesNotHear => vec![is_answered(PEERS), is_asked(PEERS)],
            Fault::EtcdLeaderIsNotHeard => vec![asks(PEERS), answers(PEERS)],
            _ => Vec::new(),
        }
    }

    /// Whatever it has taken away is there again.
    pub fn end(self, machines: &mut Machines, world: &World) {
        let (node, etcd) = (self.node, self.etcd);
        if let Some(cut) = self.cut {
            cut.heal();
        }
        match self.fault {
            Fault::LeaderKilled | Fault::FollowerKilled => machines.start_node(node),
            Fault::LeaderStopped1s | Fault::LeaderStopped6s => machines.signal_node(node, "CONT"),
            Fault::EtcdLeaderStopped => machines.etcd.signal(etcd, "CONT"),
            Fault::EtcdLeaderKilled => machines.etcd.start_again(&machines.network, etcd),
            Fault::BothLeadersKilled => {
                machines.etcd.start_again(&machines.network, etcd);
                machines.start_node(node);
            }
            Fault::AllEtcdDown => {
                for machine in 0..MACHINES {
                    machines.etcd.start_again(&machines.network, machine);
                }
            }
            Fault::EtcdLeaderCutOffBrieflyAndLeaderKilled => {
                std::thread::sleep(UNTIL_KILLED);
                machines.kill_node(node);
                machines.start_node(node);
            }
            // It does once more what the others have done, and comes to its quota if they did.
            Fault::MemberReplaced => without_storing(world, || {
                machines.etcd.replace(&machines.network, etcd);
                machines.etcd.make_room();
            }),
            Fault::QuotaReached => without_storing(world, || machines.etcd.make_room()),
            Fault::LeaderTerminated => {
                machines.until_stopped(node);
                machines.start_node(node);
            }
            Fault::SlowLossyNetwork => machines.network.speed_up(node),
            Fault::ClocksAhead | Fault::ClocksBehind => steps(machines, Clock::Right),
            Fault::LeaderCutOffFromEtcd
            | Fault::LeaderDoesNotHearEtcd
            | Fault::EtcdDoesNotHearLeader
            | Fault::LeaderCutOffFromClients
            | Fault::ClientsDoNotHearLeader
            | Fault::LeaderDoesNotHearClients
            | Fault::EtcdLeaderCutOff
            | Fault::EtcdLeaderDoesNotHear
            | Fault::EtcdLeaderIsNotHeard
            | Fault::EtcdLeaderCutOffBriefly
            | Fault::Compaction
            | Fault::FailedOver => {}
        }
    }
}

/// All clocks step at once, and the one that leads goes on by its own before another does.
fn steps(machines: &Machines, clock: Clock) {
    (0..MACHINES).for_each(|machine| machines.clocks.step(machine, clock));
    if let Some(leader) = machines.leader() {
        machines.fail_over(leader);
    }
}

/// Does this while nothing may be stored.
fn without_storing(world: &World, work: impl FnOnce()) {
    world.may_not_store.store(true, Ordering::SeqCst);
    work();
    // An answer may be under way still.
    world.reaches(&world.goal(1), PATIENCE);
    world.may_not_store.store(false, Ordering::SeqCst);
}
