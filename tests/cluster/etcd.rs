//! Three nodes of etcd, one on each machine.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::network::{MACHINES, Network, shell, signal};
use crate::common::PATIENCE;

/// How large etcd's database may become. A trial uses a small part of it.
const QUOTA: usize = 32 << 20;

/// By how many changes a node may be behind another that is said to have done the same: clients go on
/// meanwhile.
const LAG: u64 = 100;

/// All nodes end when this is dropped.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    directory: PathBuf,
}

#[derive(Debug)]
struct Member {
    name: String,
    address: String,
    child: Option<Child>,
    /// Its data: another directory each time that it begins with none.
    data: PathBuf,
}

impl Member {
    fn peer(&self) -> String {
        format!("{}=http://{}:2380", self.name, self.address)
    }

    fn client(&self) -> String {
        format!("http://{}:2379", self.address)
    }
}

impl Etcd {
    /// A new cluster, in this directory.
    pub fn start(network: &Network, directory: &Path) -> Self {
        let members = (0..MACHINES).map(|machine| Member {
            name: format!("m{machine}"),
            address: network.address(machine),
            child: None,
            data: directory.join(format!("etcd-{machine}")),
        });
        let mut etcd = Self {
            members: members.collect(),
            directory: directory.to_owned(),
        };
        for machine in 0..MACHINES {
            etcd.run(network, machine, "new");
        }
        etcd.until_leader();
        etcd
    }

    fn run(&mut self, network: &Network, machine: usize, state: &str) {
        let all: Vec<String> = self.members.iter().map(Member::peer).collect();
        let member = &self.members[machine];
        let log = self.directory.join(format!("{}.log", member.name));
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log");
        let (client, peer) = (member.client(), format!("http://{}:2380", member.address));
        let mut command = network.command(machine, "etcd");
        command
            .args(["--name", &member.name, "--data-dir"])
            .arg(&member.data)
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &all.join(","),
                "--initial-cluster-state",
                state,
            ])
            .args(["--heartbeat-interval", "100", "--election-timeout", "500"])
            .args(["--snapshot-count", "10000", "--unsafe-no-fsync"])
            .args(["--quota-backend-bytes", &QUOTA.to_string()])
            .args(["--log-level", "warn", "--logger", "zap"])
            .stdout(Stdio::null())
            .stderr(log);
        self.members[machine].child = Some(command.spawn().expect("etcd is installed"));
    }

    /// The URLs that clients ask.
    pub fn urls(&self) -> String {
        let urls: Vec<String> = self.members.iter().map(Member::client).collect();
        urls.join(",")
    }

    /// What `etcdctl` answers, by any node that it reaches.
    ///
    /// # Errors
    ///
    /// What it writes when it fails.
    pub fn ask(&self, arguments: &str) -> Result<String, String> {
        let urls = self.urls();
        shell(&format!(
            "ETCDCTL_API=3 etcdctl --dial-timeout 500ms --command-timeout 3s --endpoints {urls} {arguments}"
        ))
    }

    fn ask_one(&self, machine: usize, arguments: &str) -> Result<String, String> {
        let url = self.members[machine].client();
        shell(&format!(
            "ETCDCTL_API=3 etcdctl --dial-timeout 500ms --command-timeout 10s --endpoints {url} {arguments}"
        ))
    }

    /// Asks until it is answered.
    fn ask_patiently(&self, arguments: &str) -> String {
        let begun = Instant::now();
        loop {
            match self.ask(arguments) {
                Ok(answer) => return answer,
                Err(why) => assert!(begun.elapsed() < PATIENCE, "{arguments}: {why}"),
            }
        }
    }

    /// What those nodes say of themselves that answer.
    fn statuses(&self) -> Vec<serde_json::Value> {
        let answered = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--dial-timeout", "300ms", "--command-timeout", "1s"])
            .args(["--endpoints", &self.urls(), "endpoint", "status"])
            .args(["--write-out", "json"])
            .output();
        // It fails also where one of them has not answered.
        let answered = answered.map(|answered| answered.stdout).unwrap_or_default();
        serde_json::from_slice(&answered).unwrap_or_default()
    }

    /// The machine of the node that leads, if all agree who can be asked.
    pub fn leader(&self) -> Option<usize> {
        let nodes = self.statuses();
        let leads = |node: &&serde_json::Value| {
            let status = &node["Status"];
            status["leader"] != 0 && status["leader"] == status["header"]["member_id"]
        };
        let mut leading = nodes.iter().filter(leads);
        let url = leading.next()?["Endpoint"].as_str()?;
        if leading.next().is_some() {
            return None;
        }
        self.members
            .iter()
            .position(|member| member.client() == url)
    }

    fn until_leader(&self) -> usize {
        let begun = Instant::now();
        loop {
            match self.leader() {
                Some(leader) => return leader,
                None => assert!(begun.elapsed() < PATIENCE, "etcd has no leader"),
            }
        }
    }

    pub fn signal(&self, machine: usize, name: &str) {
        if let Some(child) = &self.members[machine].child {
            signal(child, name);
        }
    }

    pub fn kill(&mut self, machine: usize) {
        if let Some(mut child) = self.members[machine].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts a node again on what it has, if it was killed.
    pub fn start_again(&mut self, network: &Network, machine: usize) {
        if self.members[machine].child.is_none() {
            self.run(network, machine, "existing");
        }
    }

    /// A node that was killed begins with nothing, in the place of the one that it was.
    pub fn replace(&mut self, network: &Network, machine: usize) {
        self.kill(machine);
        let name = self.members[machine].name.clone();
        let number = self.ask_patiently(&format!(
            "member list | sed -n 's/^\\([0-9a-f]*\\), [a-z]*, {name}, .*/\\1/p'"
        ));
        if !number.is_empty() {
            self.ask_patiently(&format!("member remove {number}"));
        }
        let peer = format!("http://{}:2380", self.members[machine].address);
        self.ask_patiently(&format!("member add {name} --peer-urls {peer}"));
        let data = &mut self.members[machine].data;
        let _ = std::fs::remove_dir_all(&*data);
        data.set_extension("replaced");
        let _ = std::fs::remove_dir_all(&*data);
        self.run(network, machine, "existing");
    }

    /// Forgets all that was before now.
    pub fn compact(&self) {
        let revision = |node: &serde_json::Value| node["Status"]["header"]["revision"].as_u64();
        let revision = self.statuses().iter().filter_map(revision).max();
        // Another may have been here.
        let _ = self.ask(&format!("compact {}", revision.unwrap_or(1)));
    }

    /// Writes until there is no room any more; returns whether it came to that.
    pub fn fill(&self) -> bool {
        let junk = self.directory.join("junk");
        std::fs::write(&junk, vec![b'x'; 1_000_000]).expect("a file");
        let puts = 2 * QUOTA / 1_000_000;
        (0..puts).any(|number| {
            let put = format!("put /junk/{number} < {}", junk.display());
            self.ask(&put)
                .is_err_and(|why| why.contains("database space exceeded"))
        })
    }

    /// Makes room again, as an operator does: what was written is deleted and forgotten, its place in the files
    /// given up, and the alarm switched off. A node that was cut off meanwhile raises it again, so this goes on
    /// until all have room.
    pub fn make_room(&self) {
        let begun = Instant::now();
        while !(self.all_have_room() && self.ask("alarm list").is_ok_and(|all| all.is_empty())) {
            assert!(begun.elapsed() < PATIENCE, "there is no room");
            let _ = self.ask("del --prefix /junk/");
            self.compact();
            for machine in 0..MACHINES {
                let _ = self.ask_one(machine, "defrag");
            }
            let _ = self.ask("alarm disarm");
        }
    }

    /// Whether each node has done what the others have, and has a small database.
    fn all_have_room(&self) -> bool {
        let nodes = self.statuses();
        let number = |node: &serde_json::Value, name: &str| node["Status"][name].as_u64();
        let sizes = nodes.iter().filter_map(|node| number(node, "dbSize"));
        let is_small = |size| usize::try_from(size).is_ok_and(|size| size < QUOTA / 4);
        let small = sizes.filter(|size| is_small(*size)).count();
        let applied = || {
            nodes
                .iter()
                .filter_map(|node| number(node, "raftAppliedIndex"))
        };
        let lag = applied().max().unwrap_or(0) - applied().min().unwrap_or(0);
        small == MACHINES && lag < LAG
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for machine in 0..self.members.len() {
            self.kill(machine);
        }
    }
}
