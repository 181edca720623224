//! Three elockd, one on each machine, beside etcd's nodes.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::clocks::Clocks;
use super::etcd::Etcd;
use super::network::{MACHINES, Network, shell, signal};
use crate::common::PATIENCE;
use crate::common::process::ELOCKD;

/// Where clients connect, and where the other nodes do.
pub const PORT: u16 = 11400;
pub const CLUSTER_PORT: u16 = 11401;

/// The machines, with all that runs on them.
#[derive(Debug)]
pub struct Machines {
    // In the order in which they are dropped.
    nodes: Vec<Option<Child>>,
    pub etcd: Etcd,
    pub network: Network,
    /// What time of day it is for each elockd.
    pub clocks: Clocks,
    directory: PathBuf,
    /// A planted fault of the servers.
    plant: Option<&'static str>,
}

impl Machines {
    /// # Errors
    ///
    /// What is missing here.
    pub fn start(directory: &Path, plant: Option<&'static str>) -> Result<Self, String> {
        shell("command -v etcd && command -v etcdctl && command -v iptables && command -v tc")
            .map_err(|_| "there is no etcd, etcdctl, iptables or tc here")?;
        let clocks = Clocks::new(directory)?;
        let network = Network::new()?;
        let mut machines = Self {
            nodes: (0..MACHINES).map(|_| None).collect(),
            etcd: Etcd::start(&network, directory),
            network,
            clocks,
            directory: directory.to_owned(),
            plant,
        };
        for machine in 0..MACHINES {
            machines.start_node(machine);
        }
        machines.until_led();
        Ok(machines)
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |machine| format!("{}:{PORT}", self.network.address(machine));
        let addresses = (0..MACHINES).map(|machine| address(machine).parse());
        addresses.collect::<Result<_, _>>().expect("addresses")
    }

    /// If it is not running.
    pub fn start_node(&mut self, machine: usize) {
        if self.nodes[machine].is_some() {
            return;
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(machine))
            .expect("a log");
        let address = self.network.address(machine);
        let mut command = self.network.command(machine, ELOCKD);
        command
            .args(["--listen", &format!("{address}:{PORT}")])
            .args(["--advertise", &format!("{address}:{CLUSTER_PORT}")])
            .args([
                "--etcd",
                &self.etcd.urls(),
                "--etcd-namespace",
                "/elock/test",
            ])
            .args([
                "--lead-ttl-secs",
                "2",
                "--hold-ms",
                "5000",
                "--allow-anonymous",
            ])
            .envs(self.clocks.environment(machine))
            .stdout(Stdio::null())
            .stderr(log);
        for variable in ["ELOCK_CLUSTER_ROUNDS", "ELOCK_CLUSTER_SEED"] {
            command.env_remove(variable);
        }
        if let Some(plant) = self.plant {
            command.env("ELOCK_PLANT", plant);
        }
        self.nodes[machine] = Some(command.spawn().expect("it starts"));
    }

    /// The log of all that have run on a machine.
    pub fn log(&self, machine: usize) -> PathBuf {
        self.directory.join(format!("elockd-{machine}.log"))
    }

    pub fn kill_node(&mut self, machine: usize) {
        if let Some(mut child) = self.nodes[machine].take() {
            let _ = child.kill();
            let _ = child.wait();
            Clocks::forget(child.id());
        }
    }

    /// Has it end by itself.
    pub fn stop_node(&mut self, machine: usize) {
        if let Some(child) = &self.nodes[machine] {
            signal(child, "TERM");
        }
    }

    /// Waits for a node that was told to end.
    pub fn until_stopped(&mut self, machine: usize) {
        let Some(mut child) = self.nodes[machine].take() else {
            return;
        };
        // One that another fault has stopped cannot end.
        signal(&child, "CONT");
        let begun = Instant::now();
        while child.try_wait().expect("a child").is_none() {
            if begun.elapsed() > PATIENCE {
                self.nodes[machine] = Some(child);
                panic!("node {machine} does not stop");
            }
            std::thread::yield_now();
        }
    }

    pub fn signal_node(&self, machine: usize, name: &str) {
        if let Some(child) = &self.nodes[machine] {
            signal(child, name);
        }
    }

    /// Has the leader hand over, if this one leads.
    pub fn fail_over(&self, machine: usize) {
        use std::io::Write;
        let address = self.addresses()[machine];
        // It may be cut off, or stopped: then nothing comes of it.
        let connected = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
        if let Ok(mut stream) = connected {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = stream.write_all(b"failover\n");
            let _ = std::io::Read::read(&mut stream, &mut [0; 64]);
        }
    }

    /// The nodes that have ended by themselves.
    pub fn ended(&mut self) -> Vec<usize> {
        let has_ended = |child: &mut Option<Child>| {
            child
                .as_mut()
                .is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
        };
        let nodes = self.nodes.iter_mut().enumerate();
        let ended = nodes.filter_map(|(machine, child)| has_ended(child).then_some(machine));
        ended.collect()
    }

    /// The machine of the elockd whose name stands in etcd.
    pub fn leader(&self) -> Option<usize> {
        let value = self
            .etcd
            .ask("get --print-value-only /elock/test/leader")
            .ok()?;
        let leader: serde_json::Value = serde_json::from_str(&value).ok()?;
        let (host, _) = leader["address"].as_str()?.rsplit_once(':')?;
        (0..MACHINES).find(|machine| self.network.address(*machine) == host)
    }

    fn until_led(&mut self) {
        let begun = Instant::now();
        while self.leader().is_none() {
            assert!(self.ended().is_empty(), "they run");
            assert!(begun.elapsed() < PATIENCE, "nobody leads");
        }
        let address = self.addresses()[0];
        while std::net::TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < PATIENCE, "nobody listens");
        }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for machine in 0..self.nodes.len() {
            self.kill_node(machine);
        }
    }
}
