//! A trial: clients on a cluster, and faults, round by round.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client::{Client, KEYS};
use super::clocks::Clock;
use super::faults::{Fault, Ongoing};
use super::judge::{Event, LONG, around};
use super::line::Line;
use super::network::MACHINES;
use super::nodes::Machines;
use super::world::{Counts, Dice, World};
use crate::common::PATIENCE;
use crate::common::history::Held;
use crate::common::one_etcd::skip;
use crate::common::process::{ELOCKD, Process};

/// Three at each node.
const CLIENTS: usize = 9;

/// What each client is granted before a round, and after it.
const GRANTS: u64 = 5;

/// When nothing goes on for so long, it is time to look whether something is wrong already.
const LONGER_THAN_USUAL: Duration = Duration::from_secs(8);

pub struct Trial {
    pub rounds: u64,
    pub seed: u64,
    /// Which faults there may be.
    pub faults: Vec<Fault>,
    /// Every second round has two at a time.
    pub has_pairs: bool,
    /// A planted fault of the servers. Then it is over when it is convicted.
    pub plant: Option<&'static str>,
}

impl Trial {
    /// What was wrong; `None` where the trial cannot be made here.
    pub fn run(&self) -> Option<Vec<String>> {
        let logs = Logs::new();
        let mut machines = match Machines::start(logs.path(), self.plant) {
            Ok(machines) => machines,
            Err(why) => {
                skip(&why);
                return None;
            }
        };
        let world = World::new(machines.addresses(), CLIENTS);
        world
            .may_not_store
            .store(self.plant.is_some(), std::sync::atomic::Ordering::SeqCst);
        under_load(&world, self.seed, || self.rounds(&mut machines, &world));
        if world.wrongs().is_empty() {
            nothing_is_left(&world);
        }
        let wrong = world.wrongs();
        if !wrong.is_empty() && self.plant.is_none() {
            show(&world, &wrong, logs.path());
            panic!("{} wrong", wrong.len());
        }
        Some(wrong)
    }

    fn rounds(&self, machines: &mut Machines, world: &World) {
        let mut dice = Dice(self.seed);
        let (mut deck, mut alone) = (Vec::new(), BTreeSet::new());
        let mut stalls: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
        for round in 0..self.rounds {
            let count = if self.has_pairs && round % 2 == 1 {
                2
            } else {
                1
            };
            let mut faults: Vec<Fault> = (0..count)
                .map(|_| self.draw(&mut deck, &mut dice))
                .collect();
            faults.sort_by_key(|fault| std::cmp::Reverse(fault.needs_etcd()));
            // Beside another, nobody may lead who could log something in that time.
            alone.extend(faults.first().filter(|_| count == 1));
            let Some(counts) = one_round(&faults, machines, world, &mut dice) else {
                println!("round {round}: {faults:?}: it does not go on");
                break;
            };
            let stall_ms = counts.stall.as_millis();
            let Counts { grants, cuts, .. } = counts;
            println!(
                "round {round}: {faults:?}: a client was granted nothing for {stall_ms} ms; {grants} grants, {cuts} cuts"
            );
            if let [alone] = faults[..] {
                stalls.entry(alone).or_default().push(counts.stall);
            }
            if self.plant.is_some() && !world.wrongs().is_empty() {
                break;
            }
        }
        clocks_have_stepped(machines, world, &alone);
        println!("{} entries", world.entries().len());
        for (fault, mut stalls) in stalls {
            stalls.sort();
            println!(
                "{fault:?}, alone {} times: {} ms",
                stalls.len(),
                stalls[stalls.len() / 2].as_millis()
            );
        }
    }

    /// Each fault comes once before one comes again.
    fn draw(&self, deck: &mut Vec<Fault>, dice: &mut Dice) -> Fault {
        if deck.is_empty() {
            deck.clone_from(&self.faults);
        }
        let at = dice.below(deck.len() as u64);
        deck.swap_remove(usize::try_from(at).expect("few"))
    }
}

/// Does this while clients lock and unlock.
fn under_load(world: &World, seed: u64, work: impl FnOnce()) {
    std::thread::scope(|scope| {
        let _guard = Over(world);
        for number in 0..CLIENTS {
            let mut client = Client::new(number, world, seed);
            scope.spawn(move || client.run());
        }
        work();
        if world.wrongs().is_empty() {
            world.ends_well();
            world.until_all_are_gone();
        }
    });
}

/// The clients with one server that keeps its locks in memory, and with as many after it; what was wrong.
pub fn with_servers_that_forget(restarts: u64) -> Vec<String> {
    let mut server = Process::start(&[]);
    let world = World::new(vec![server.address], CLIENTS);
    under_load(&world, 1, || {
        world.reaches(&world.goal(20), PATIENCE);
        for _ in 0..restarts {
            let address = server.address.to_string();
            server.signal("KILL");
            server.exit_code();
            server = Process::spawn(Command::new(ELOCKD).args(["--listen", &address]));
            world.reaches(&world.goal(20), PATIENCE);
        }
    });
    if world.wrongs().is_empty() {
        nothing_is_left(&world);
    }
    world.wrongs()
}

/// `None` if the trial is over.
fn one_round(
    faults: &[Fault],
    machines: &mut Machines,
    world: &World,
    dice: &mut Dice,
) -> Option<Counts> {
    if !goes_on(machines, world) {
        return None;
    }
    world.begin_round();
    let mut ongoing: Vec<Ongoing> = Vec::new();
    for fault in faults {
        ongoing.push(fault.begin(machines, world, dice));
        std::thread::sleep(Duration::from_millis(dice.below(1000)));
    }
    ongoing.sort_by_key(|ongoing| (ongoing.fault.needs_etcd(), ongoing.ends));
    for fault in ongoing {
        std::thread::sleep(fault.ends.saturating_duration_since(Instant::now()));
        fault.end(machines, world);
    }
    goes_on(machines, world).then(|| world.counts())
}

/// By what the servers have written into their logs: a step that none of them sees tries nothing.
fn clocks_have_stepped(machines: &Machines, world: &World, alone: &BTreeSet<Fault>) {
    for (fault, clock) in [
        (Fault::ClocksAhead, Clock::Ahead),
        (Fault::ClocksBehind, Clock::Behind),
    ] {
        let has_seen = |machine| machines.clocks.was(clock, &machines.log(machine));
        if alone.contains(&fault) && !(0..MACHINES).any(has_seen) {
            world.is_wrong(format!("no server has seen {fault:?}"));
        }
    }
}

/// Waits until each client was granted something; false if that does not come.
fn goes_on(machines: &mut Machines, world: &World) -> bool {
    let (goal, begun) = (world.goal(GRANTS), Instant::now());
    loop {
        let is_reached = world.reaches(&goal, Duration::from_secs(1));
        let ended = machines.ended();
        if !ended.is_empty() {
            world.is_wrong(format!(
                "nodes on the machines {ended:?} have ended by themselves"
            ));
            return false;
        }
        if is_reached {
            return true;
        }
        if begun.elapsed() > LONGER_THAN_USUAL && !world.wrongs().is_empty() {
            return false;
        }
        if begun.elapsed() > PATIENCE {
            world.is_wrong(format!("not all clients are granted something: {goal:?}"));
            return false;
        }
    }
}

/// When all clients have given back what they had, each key is to be had.
fn nothing_is_left(world: &World) {
    let holder = world.new_holder(LONG);
    let begun = Instant::now();
    // A session that ended may be in its grace period still.
    for key in 0..KEYS {
        world.write(Event::Asks {
            holder,
            keys: vec![key],
            held: Held::Alone,
        });
        let answer = loop {
            let node = world.nodes[key % world.nodes.len()];
            let asked = Line::open(node, PATIENCE).and_then(|mut line| {
                let answer = line.ask(&format!("lock k{key} 30"));
                line.ask("unlock_all").and(answer)
            });
            match asked {
                Ok(answer) if !answer.starts_with("503") => break answer,
                _ if begun.elapsed() > PATIENCE => break "nothing".to_owned(),
                _ => {}
            }
        };
        if answer != "200 Acquired" {
            world.is_wrong(format!("k{key} does not come free: {answer}"));
        }
    }
}

/// Sends the clients home when the trial fails.
struct Over<'a>(&'a World);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.ends_at_once();
    }
}

/// Shows what was wrong first.
fn show(world: &World, wrong: &[String], logs: &Path) {
    let entries = world.entries();
    for first in wrong.iter().take(3) {
        println!("{first}");
        for line in around(&entries, first) {
            println!("    {line}");
        }
    }
    let lines = entries.iter().enumerate();
    let lines = lines.map(|(index, entry)| format!("{index} {entry:?}\n"));
    let _ = std::fs::write(logs.join("history"), lines.collect::<String>());
}

/// The directory of all data and logs, which stays if the trial fails.
struct Logs(Option<TempDir>);

impl Logs {
    fn new() -> Self {
        Self(Some(tempfile::tempdir().expect("a directory")))
    }

    fn path(&self) -> &Path {
        self.0.as_ref().expect("until the end").path()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = self.0.take().map(TempDir::keep);
            println!("the logs are in {}", kept.unwrap_or_default().display());
        }
    }
}
