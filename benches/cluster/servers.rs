//! Three nodes of etcd, and three elockd on them. They end with their values.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::load::{Processes, Protocol, Target, on_disk};

pub const NODES: usize = 3;

/// How long what must come may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A process that can be killed and started again, and begins with the same each time.
struct Process {
    child: Option<Child>,
    program: &'static str,
    flags: Vec<String>,
    log: PathBuf,
}

impl Process {
    fn start(program: &'static str, flags: &[&[&str]], log: PathBuf) -> Self {
        let flags = flags.concat();
        let mut process = Self {
            child: None,
            program,
            flags: flags.into_iter().map(str::to_owned).collect(),
            log,
        };
        process.start_again();
        process
    }

    fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log);
        let child = Command::new(self.program)
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn();
        let child = child.unwrap_or_else(|why| panic!("{} does not start: {why}", self.program));
        self.child = Some(child);
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
        }
    }

    /// Waits until it has ended.
    fn bury(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        self.bury();
    }
}

/// A free port that no outgoing connection is given, as a server that was killed is to have it again.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(21_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Returns what `look` finds, once it does.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Of the etcd that is installed.
pub fn etcd_version() -> Option<String> {
    let output = Command::new("etcd").arg("--version").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    said.lines()
        .find_map(|line| line.strip_prefix("etcd Version: "))
        .map(str::to_owned)
}

/// Its data is on a disk.
pub struct Etcd {
    members: Vec<Process>,
    clients: Vec<SocketAddr>,
    directory: tempfile::TempDir,
}

/// What one of its nodes says of itself.
pub struct Status {
    leads: bool,
    /// Of its database, in bytes.
    pub size: u64,
    pub size_in_use: u64,
}

impl Etcd {
    pub fn start() -> Self {
        let directory = on_disk();
        let clients: Vec<SocketAddr> = (0..NODES).map(|_| free_address()).collect();
        let peers: Vec<String> = (0..NODES)
            .map(|_| format!("http://{}", free_address()))
            .collect();
        let named: Vec<String> = (0..NODES)
            .map(|node| format!("e{node}={}", peers[node]))
            .collect();
        let named = named.join(",");
        let start = |node: usize| {
            let name = format!("e{node}");
            let data = directory.path().join(&name);
            let client = format!("http://{}", clients[node]);
            let flags: [&[&str]; 5] = [
                &["--name", &name, "--data-dir", path(&data)],
                &["--listen-client-urls", &client, "--advertise-client-urls"],
                &[&client, "--listen-peer-urls", &peers[node]],
                &["--initial-advertise-peer-urls", &peers[node]],
                &["--initial-cluster", &named],
            ];
            let times: &[&str] = &["--heartbeat-interval", "100", "--election-timeout", "500"];
            let quiet: &[&str] = &["--logger", "zap", "--log-level", "error"];
            let log = directory.path().join(format!("{name}.log"));
            Process::start("etcd", &[&flags.concat(), times, quiet], log)
        };
        let etcd = Self {
            members: (0..NODES).map(start).collect(),
            clients,
            directory,
        };
        etcd.leader();
        etcd
    }

    /// Runs `etcdctl` on all nodes.
    pub fn control(&self, arguments: &[&str]) -> Output {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.urls(None)])
            .args(arguments)
            .output();
        output.expect("etcdctl is installed")
    }

    /// The nodes' URLs, from this one on.
    pub fn urls(&self, first: Option<usize>) -> String {
        let mut urls: Vec<String> = self
            .clients
            .iter()
            .map(|client| format!("http://{client}"))
            .collect();
        urls.rotate_left(first.unwrap_or(0));
        urls.join(",")
    }

    pub fn client(&self, node: usize) -> SocketAddr {
        self.clients[node]
    }

    /// `None` if not all answer.
    pub fn status(&self) -> Option<Vec<Status>> {
        let output = self.control(&["endpoint", "status", "--write-out", "json"]);
        let nodes: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).ok()?;
        let status = |node: &serde_json::Value| {
            let status = &node["Status"];
            let leader = status["leader"].as_u64()?;
            Some(Status {
                leads: leader != 0 && status["header"]["member_id"] == leader,
                size: status["dbSize"].as_u64()?,
                size_in_use: status["dbSizeInUse"].as_u64()?,
            })
        };
        let all: Option<Vec<Status>> = nodes.iter().map(status).collect();
        all.filter(|all| all.len() == NODES)
    }

    /// The node that leads, once all answer.
    pub fn leader(&self) -> usize {
        until("etcd has no leader", || {
            self.status()?.iter().position(|status| status.leads)
        })
    }

    pub fn kill(&mut self, node: usize) {
        self.members[node].kill();
    }

    pub fn start_again(&mut self, node: usize) {
        self.members[node].bury();
        self.members[node].start_again();
        self.leader();
    }

    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Process::pid).collect()
    }
}

/// Three elockd.
pub struct Nodes {
    nodes: Vec<Process>,
    clients: Vec<SocketAddr>,
    /// Where the others reach it.
    advertised: Vec<SocketAddr>,
    namespace: String,
}

impl Nodes {
    /// In this namespace of etcd, whose leader they ask first.
    pub fn start(etcd: &Etcd, namespace: &str, lead_ttl_secs: u32) -> Self {
        let namespace = format!("/{namespace}");
        let addresses = || -> Vec<SocketAddr> { (0..NODES).map(|_| free_address()).collect() };
        let (clients, advertised) = (addresses(), addresses());
        let (urls, ttl) = (etcd.urls(Some(etcd.leader())), lead_ttl_secs.to_string());
        let start = |node: usize| {
            let (client, advertised) = (clients[node].to_string(), advertised[node].to_string());
            let flags: [&[&str]; 3] = [
                &["--listen", &client, "--advertise", &advertised],
                &["--etcd", &urls, "--etcd-namespace", &namespace],
                &["--lead-ttl-secs", &ttl, "--log", "info"],
            ];
            let name = format!("{}-{node}.log", &namespace[1..]);
            let log = etcd.directory.path().join(name);
            Process::start(env!("CARGO_BIN_EXE_elockd"), &flags, log)
        };
        let nodes = Self {
            nodes: (0..NODES).map(start).collect(),
            clients,
            advertised,
            namespace,
        };
        for node in 0..NODES {
            nodes.until_served(node);
        }
        nodes
    }

    /// Waits until clients of this one are served, by it or by the leader.
    fn until_served(&self, node: usize) {
        use std::io::{Read, Write};
        until("clients are not served", || {
            let mut stream = TcpStream::connect(self.clients[node]).ok()?;
            stream.write_all(b"stats\nquit\n").ok()?;
            let mut answers = String::new();
            stream.read_to_string(&mut answers).ok()?;
            answers.starts_with("200").then_some(())
        });
    }

    /// The one whose name stands in etcd.
    pub fn leader(&self, etcd: &Etcd) -> usize {
        let key = format!("{}/leader", self.namespace);
        until("no elockd leads", || {
            let output = etcd.control(&["get", "--print-value-only", &key]);
            let leader: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            let address: SocketAddr = leader["address"].as_str()?.parse().ok()?;
            self.advertised.iter().position(|one| *one == address)
        })
    }

    pub fn client(&self, node: usize) -> SocketAddr {
        self.clients[node]
    }

    /// Clients at this node, and the processor time of all nodes.
    pub fn target(&self, node: usize, etcd: &Etcd) -> Target {
        Target {
            protocol: Protocol::ELock,
            address: self.clients[node],
            processes: Processes {
                servers: self.nodes.iter().map(Process::pid).collect(),
                stores: etcd.pids(),
            },
        }
    }

    pub fn pid(&self, node: usize) -> u32 {
        self.nodes[node].pid()
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Has it end by itself.
    pub fn stop(&self, node: usize) {
        let kill = Command::new("kill")
            .arg(self.pid(node).to_string())
            .status();
        assert!(kill.is_ok_and(|status| status.success()), "it runs");
    }

    /// Starts one that has ended or ends.
    pub fn start_again(&mut self, node: usize) {
        self.nodes[node].bury();
        self.nodes[node].start_again();
        self.until_served(node);
    }

    /// What a node has logged.
    pub fn log(&self, node: usize) -> String {
        std::fs::read_to_string(&self.nodes[node].log).expect("a log")
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}
