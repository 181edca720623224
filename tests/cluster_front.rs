//! What people see of two servers on one etcd: `info`, HTTP for operators, `elock status` and `elock failover`.
#![cfg(all(feature = "admin", feature = "cli", feature = "cluster"))]

mod common;

#[cfg(feature = "keepalive")]
use std::io::Write;
use std::net::SocketAddr;
#[cfg(feature = "keepalive")]
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
#[cfg(feature = "keepalive")]
use std::time::Duration;
use std::time::Instant;

use common::http::{Answer, get, get_as, try_request};
use common::one_etcd::{OneEtcd, free_address};
use common::process::ELOCKD;
use common::promtool::promtool;
use common::{Client, PATIENCE, Server};
#[cfg(feature = "tls")]
use serde_json::Value;

/// A process that ends with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One of the servers.
struct Node {
    /// Where the other one reaches it.
    advertised: String,
    address: SocketAddr,
    admin: SocketAddr,
    process: Ending,
}

impl Node {
    fn start(etcd: &OneEtcd, flags: &[&str]) -> Self {
        Self::start_by(Command::new(ELOCKD), etcd, flags)
    }

    /// Which may open so many files.
    fn start_with_files(files: usize, etcd: &OneEtcd, flags: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let limited = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
        command.args(["-c", &limited, ELOCKD]);
        Self::start_by(command, etcd, flags)
    }

    /// Which logs to this file.
    fn start_logged(log: &Path, etcd: &OneEtcd, flags: &[&str]) -> Self {
        Self::start_by(logging(log), etcd, flags)
    }

    fn start_by(command: Command, etcd: &OneEtcd, flags: &[&str]) -> Self {
        Self::start_as(free_address().to_string(), command, etcd, flags)
    }

    fn start_as(advertised: String, mut command: Command, etcd: &OneEtcd, flags: &[&str]) -> Self {
        let [address, admin] = [(); 2].map(|()| free_address());
        command
            .args(["--etcd", &etcd.url])
            .args(["--advertise", &advertised])
            .args(["--listen", &address.to_string()])
            .args(["--admin", &admin.to_string()])
            .args(flags)
            .stderr(Stdio::null());
        Self {
            advertised,
            address,
            admin,
            process: Ending(command.spawn().expect("it starts")),
        }
    }

    fn terminate(&self) {
        self.signal("-TERM");
    }

    fn signal(&self, name: &str) {
        let pid = self.process.0.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// What is answered to this path, once it is what it should be.
    #[track_caller]
    fn until(&self, path: &str, is_right: impl Fn(&Answer) -> bool) -> Answer {
        let begin = Instant::now();
        loop {
            let answer = try_request(self.admin, "GET", path, &[], "");
            match answer {
                Ok(answer) if is_right(&answer) => return answer,
                answer => assert!(begin.elapsed() < PATIENCE, "{path}: {answer:?}"),
            }
        }
    }

    fn until_ready(&self) {
        self.until("/readyz", |answer| answer.status == 200);
    }

    fn metrics(&self) -> String {
        let answer = get(self.admin, "/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        promtool(&["check", "metrics"], &answer.body);
        answer.body
    }

    /// What `info` says to a client of this one.
    fn info(&self, name: &str) -> Option<String> {
        let lines = Client::connect(self.address).ask_list("info");
        let mut pairs = lines.iter().filter_map(|line| line.split_once(' '));
        let found = pairs.find(|(found, _)| *found == name);
        found.map(|(_, value)| value.to_owned())
    }

    fn elock(&self, arguments: &[&str]) -> Output {
        elock(self.address, arguments)
    }
}

/// A server that logs to this file.
fn logging(log: &Path) -> Command {
    let mut command = Command::new("sh");
    let logged = "log=$0; exec \"$@\" 2>\"$log\"";
    command.args(["-c", logged]).arg(log).arg(ELOCKD);
    command
}

fn elock(address: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = elock_at(&[address], arguments);
    command.output().expect("it runs")
}

/// For servers in this order.
fn elock_at(addresses: &[SocketAddr], arguments: &[&str]) -> Command {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_elock"));
    command.env("ELOCK_SERVER", addresses.join(","));
    command.args(arguments);
    command
}

/// What the metrics say of this one, which must be there.
#[track_caller]
fn number(metrics: &str, name: &str) -> f64 {
    let mut pairs = metrics.lines().filter_map(|line| line.split_once(' '));
    let found = pairs.find(|(found, _)| *found == name);
    let (_, value) = found.unwrap_or_else(|| panic!("no {name}: {metrics}"));
    value.parse().expect("a number")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).expect("UTF-8")
}

/// What a log says, once this is in it.
#[track_caller]
fn until_logged(log: &Path, text: &str) -> String {
    let begin = Instant::now();
    loop {
        let said = std::fs::read_to_string(log).unwrap_or_default();
        if said.contains(text) {
            return said;
        }
        assert!(begin.elapsed() < PATIENCE, "{text}: {said}");
    }
}

/// A leader keeps its lease, however busy the machine is.
const STAYS: &[&str] = &["--lead-ttl-secs", "30"];

/// The leader first.
fn two(etcd: &OneEtcd, flags: &[&str]) -> (Node, Node) {
    let [a, b] = [(); 2].map(|()| Node::start(etcd, flags));
    a.until_ready();
    b.until_ready();
    match a.info("role").as_deref() {
        Some("leader") => (a, b),
        _ => (b, a),
    }
}

#[test]
fn both_tell_who_leads() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let (leader, follower) = two(&etcd, STAYS);
    for (node, role) in [(&leader, "leader"), (&follower, "follower")] {
        assert_eq!(node.info("role").as_deref(), Some(role));
        assert_eq!(node.info("store").as_deref(), Some("etcd"));
        let led_by = node.info("leader");
        assert_eq!(led_by.as_deref(), Some(leader.advertised.as_str()));
        assert_eq!(node.info("term"), leader.info("term"));
        for number in ["lag_ms", "leading_for_s"] {
            let told = node.info(number).expect("a line");
            assert!(told.parse::<u64>().is_ok(), "{number} {told}");
        }
        let metrics = node.metrics();
        let term = node.info("term").expect("a line");
        for other in ["leader", "follower"] {
            let is = u32::from(role == other);
            let line = format!("elock_cluster_role{{role=\"{other}\"}} {is}\n");
            assert!(metrics.contains(&line), "{metrics}");
        }
        assert!(metrics.contains(&format!("elock_cluster_term {term}\n")));
        assert!(metrics.contains("elock_ready 1\n"));
        for of_leader in ["elock_locks", "elock_cluster_log_entries"] {
            let is_told = metrics.contains(&format!("\n{of_leader} "));
            assert_eq!(is_told, role == "leader", "{of_leader}");
        }
        let won = format!(
            "elock_cluster_elections_won_total {}\n",
            u32::from(role == "leader")
        );
        assert!(metrics.contains(&won), "{metrics}");
    }
    assert!(number(&follower.metrics(), "elock_cluster_forwards_total") > 0.0);
    assert!(number(&leader.metrics(), "elock_cluster_forwards_total") < 1.0);

    let alerts = include_str!("../packaging/prometheus/elock.rules.yml");
    let words = alerts.split(|character: char| character != '_' && !character.is_alphanumeric());
    let of_clusters = words.filter(|word| word.starts_with("elock_cluster_"));
    let named: Vec<&str> = of_clusters.collect();
    assert!(named.len() >= 2, "{named:?}");
    for name in named {
        for node in [&leader, &follower] {
            number(&node.metrics(), name);
        }
    }

    let where_it_is = format!("the other servers reach at {}\n", leader.advertised);
    for path in ["/", "/api/info", "/api/locks"] {
        let answer = get(follower.admin, path);
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.body.contains(&where_it_is), "{}", answer.body);
        assert_eq!(get(leader.admin, path).status, 200, "{path}");
    }
    let of_leader = text(&leader.elock(&["status"]).stdout);
    let led = format!("cluster      {} leads, for ", leader.advertised);
    assert!(of_leader.contains(&led), "{of_leader}");
    let of_follower = text(&follower.elock(&["status"]).stdout);
    let led = format!("cluster      passed on to {}, which", leader.advertised);
    assert!(of_follower.contains(&led), "{of_follower}");
    assert!(of_follower.contains("store        in etcd, "));
}

#[test]
fn an_operator_has_the_other_one_lead() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let (first, second) = two(&etcd, STAYS);
    let mut holder = Client::connect(second.address);
    let id = holder.id();
    holder.ask("lock k", "200 Acquired");
    holder.send("token k");
    let token = holder.read();
    let term = first.info("term");

    let output = second.elock(&["failover"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let now = format!("elock: {} leads now (term ", second.advertised);
    assert!(said.starts_with(&now), "{said}");
    holder.expect_closed();
    for (node, role) in [(&first, "follower"), (&second, "leader")] {
        node.until_ready();
        assert_eq!(node.info("role").as_deref(), Some(role));
        assert_ne!(node.info("term"), term);
        let path_of_role = format!("elock_cluster_role{{role=\"{role}\"}} 1\n");
        assert!(node.metrics().contains(&path_of_role));
    }
    let mut holder = Client::connect(first.address);
    holder.ask(format!("resume {id}"), "200 Resumed");
    holder.ask("token k", &token);
    let answer = get(first.admin, "/api/locks");
    assert!(answer.body.contains(&second.advertised), "{}", answer.body);

    assert!(number(&second.metrics(), "elock_cluster_log_entries") > 0.0);

    // Nobody else is left.
    drop(first);
    let output = second.elock(&["failover"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(" leads again (term "), "{said}");
    let mut holder = Client::connect(second.address);
    holder.ask(format!("resume {id}"), "200 Resumed");
    holder.ask("token k", &token);
}

/// Whoever may not see the metrics of the leader may not see those of a follower.
#[test]
fn a_follower_asks_operators_who_they_are() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let password = directory.path().join("password");
    std::fs::write(&password, "secret\n").expect("written");
    let password = password.to_str().expect("UTF-8");
    let leader = Node::start(&etcd, STAYS);
    leader.until_ready();
    let flags = ["--no-lead", "--admin-password-file", password];
    let follower = Node::start(&etcd, &flags);
    follower.until_ready();
    for path in ["/metrics", "/", "/api/info"] {
        assert_eq!(get(follower.admin, path).status, 401, "{path}");
        let wrong = get_as(follower.admin, path, "admin:wrong");
        assert_eq!(wrong.status, 401, "{path}");
    }
    let let_in = |path| get_as(follower.admin, path, "admin:secret").status;
    assert_eq!(let_in("/metrics"), 200);
    assert_eq!(let_in("/api/info"), 503);
    // The leader goes, and nobody takes its place.
    drop(leader);
    let why = follower.until("/readyz", |answer| answer.status == 503);
    assert!(why.body.starts_with("no leader: "), "{}", why.body);
    assert_eq!(let_in("/metrics"), 200);
}

/// An older server, where a newer one has led, passes clients on, and leads again once it can.
#[test]
fn a_server_that_cannot_lead_goes_on_following() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    // An entry of format 99, which is all that it has.
    etcd.control(&["put", "/elock/log/0000000000000001", "\u{8}c"]);
    let node = Node::start(&etcd, &["--hold-ms", "100"]);
    node.until("/metrics", |answer| {
        answer
            .body
            .contains("elock_cluster_elections_won_total 1\n")
    });
    let why = node.until("/readyz", |answer| answer.body.starts_with("no leader: "));
    assert_eq!(why.status, 503);
    Client::connect(node.address).expect("503 No leader");
    etcd.control(&["del", "/elock/log/0000000000000001"]);
    node.until_ready();
    Client::connect(node.address).ask("lock k", "200 Acquired");
}

#[test]
fn a_server_that_is_alone_stays_so() {
    let server = Server::start();
    let output = elock(server.address, &["failover"]);
    assert_eq!(output.status.code(), Some(65));
    let said = text(&output.stderr);
    assert!(said.contains("Alone: there is no other server"), "{said}");
    let lines = server.connect().ask_list("info");
    assert!(!lines.iter().any(|line| line.starts_with("role ")));
}

/// Its TLS is with the leader, whose word of its own server it is told.
#[cfg(feature = "tls")]
#[test]
fn a_client_by_tls_learns_that_its_server_follows() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let authority = common::tls::Authority::new();
    let pair = authority.server("server");
    let [cert, key] = [&pair.cert, &pair.key].map(|path| path.to_str().expect("UTF-8"));
    let start = |more: &[&str]| {
        let by_tls = free_address();
        let address = by_tls.to_string();
        let flags = [
            "--tls-listen",
            &address,
            "--tls-cert",
            cert,
            "--tls-key",
            key,
        ];
        let node = Node::start(&etcd, &[&flags[..], more].concat());
        node.until_ready();
        (node, by_tls)
    };
    let (_leader, at_leader) = start(&[]);
    let (_follower, at_follower) = start(&["--no-lead"]);
    for (at, role) in [(at_leader, "leader"), (at_follower, "follower")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_elock"));
        command
            .env("ELOCK_SERVER", format!("elocks://{at}"))
            .env("ELOCK_CA", &authority.ca)
            .args(["status", "--json"]);
        let output = command.output().expect("it runs");
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(told["info"]["role"], role, "{output:?}");
    }
}

/// What it has open for clients of another leader is free again once it leads.
#[test]
fn a_follower_that_is_elected_has_room_for_as_many_as_at_its_start() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let first = Node::start(&etcd, &[]);
    first.until_ready();
    let second = Node::start_with_files(256, &etcd, &[]);
    second.until_ready();
    let passed_on: Vec<Client> = (0..40)
        .map(|_| {
            let mut client = Client::connect(second.address);
            client.ask("echo", "200 []");
            client
        })
        .collect();
    let output = first.elock(&["failover"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let name = "elock_limit{limit=\"connections\"}";
    let metrics = second.until("/metrics", |answer| answer.body.contains(name));
    let room = number(&metrics.body, name);
    assert!(room > 80.0, "{room}");
    drop(passed_on);
}

/// Its key is given up after a moment, however long a client that does not read has for its answers.
#[cfg(feature = "keepalive")]
#[test]
fn a_leader_that_stops_lets_another_lead_whether_clients_read_or_not() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let patient = [
        ["--shutdown-ms", "3600000"],
        ["--unsent-timeout-ms", "3600000"],
        ["--keepalive-secs", "3600"],
    ]
    .concat();
    let mut first = Node::start(&etcd, &patient);
    first.until_ready();
    let second = Node::start(&etcd, &[]);
    second.until_ready();
    let mut unread = TcpStream::connect(first.address).expect("it accepts");
    // So long nothing more is read there, as the answers have no room on their way.
    let stuck = Some(Duration::from_secs(1));
    unread.set_write_timeout(stuck).expect("a socket");
    let asked = "info\n".repeat(10_000);
    while unread.write_all(asked.as_bytes()).is_ok() {}

    first.terminate();
    second.until("/api/info", |answer| answer.status == 200);
    let status = first.process.0.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
    drop(unread);
}

#[test]
fn the_log_says_once_what_begins_and_what_ends() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let mut first = Node::start_logged(&log, &etcd, STAYS);
    first.until_ready();
    let second = Node::start(&etcd, STAYS);
    second.until_ready();
    for by in [&first, &second] {
        let output = by.elock(&["failover"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    first.until("/api/info", |answer| answer.status == 200);
    first.terminate();
    let status = first.process.0.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
    let said = std::fs::read_to_string(&log).expect("text");
    for (text, times) in [
        (" listening on ", 1),
        ("no more clients are served as the leader", 1),
        ("stopping", 1),
        ("following", 1),
        ("stopped after", 0),
    ] {
        let found = said.lines().filter(|line| line.contains(text)).count();
        assert_eq!(found, times, "{text}: {said}");
    }
    let followed = said.lines().find(|line| line.contains("following"));
    let followed = followed.expect("a line");
    assert!(followed.contains(&second.advertised), "{said}");
}

#[test]
fn an_import_is_not_taken_for_somebody_elses_key() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let _node = Node::start_logged(&log, &etcd, &["--no-lead"]);
    etcd.control(&["put", "/elock/leader", "import 7"]);
    let said = until_logged(&log, "an import into etcd is under way");
    assert!(!said.contains("not that of a server"), "{said}");
    etcd.control(&["del", "/elock/leader"]);
    until_logged(&log, "nobody leads\n");
}

/// By the one that follows.
#[test]
fn an_address_that_two_servers_advertise_is_noticed() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let leader = Node::start(&etcd, &[]);
    leader.until_ready();
    let shared = leader.advertised.clone();
    let own_port = free_address().to_string();
    let flags = ["--cluster-listen", &own_port];
    let _namesake = Node::start_as(shared.clone(), logging(&log), &etcd, &flags);
    let said = until_logged(&log, "each server needs its own");
    assert!(said.contains(&format!("--advertise, {shared}")), "{said}");
}

#[test]
fn elock_says_that_nobody_leads() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let nodes = [(); 2].map(|()| Node::start(&etcd, &["--no-lead", "--hold-ms", "6000"]));
    for node in &nodes {
        node.until("/readyz", |answer| answer.body.starts_with("no leader: "));
    }
    let mut status = elock_at(&nodes.each_ref().map(|node| node.address), &["status"]);
    let output = status.output().expect("it runs");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    let last = said.lines().last();
    let why = "elock: none of the servers leads at this time: the log of each of them says why";
    assert_eq!(last, Some(why), "{said}");
}

/// A machine that is gone does not end its connections: nothing comes from it.
#[test]
fn a_lock_is_given_back_at_another_server_than_the_one_that_is_gone() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let (leader, follower) = two(&etcd, &[]);
    for (gone, there) in [(&follower, &leader), (&leader, &follower)] {
        let script = format!("kill -STOP {}", gone.process.0.id());
        let words = ["lock", "k", "--", "sh", "-c", &script];
        let output = elock_at(&[gone.address, there.address], &words).output();
        let output = output.expect("it runs");
        assert_eq!(text(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0));
        let mut next = Client::connect(there.address);
        next.ask("lock k", "200 Acquired");
        next.ask("unlock k", "200 Unlocked");
        gone.signal("-CONT");
        gone.until_ready();
    }
}

#[test]
fn a_lock_is_kept_at_another_server_while_its_command_runs() {
    let Some(etcd) = OneEtcd::start("http", &[]) else {
        return;
    };
    let (there, gone) = two(&etcd, STAYS);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("end");
    let script = format!(
        "kill -STOP {}; until [ -e {} ]; do sleep 0.02; done",
        gone.process.0.id(),
        file.display()
    );
    let words = ["lock", "k", "--grace", "16s", "--", "sh", "-c", &script];
    let mut command = elock_at(&[gone.address, there.address], &words);
    let mut running = Ending(command.stderr(Stdio::piped()).spawn().expect("it starts"));
    let mut asking = Client::connect(there.address);
    let is_resumed = |line: &String| {
        let counted = line.strip_prefix("take_overs ");
        counted.is_some_and(|counted| counted != "0")
    };
    let begin = Instant::now();
    while !asking.ask_list("info").iter().any(is_resumed) {
        assert!(begin.elapsed() < PATIENCE, "nobody resumes");
        let ended = running.0.try_wait().expect("a child");
        assert_eq!(ended, None, "the lock is lost");
    }
    std::fs::write(&file, "").expect("written");
    assert_eq!(running.0.wait().expect("it ends").code(), Some(0));
    asking.ask("lock k", "200 Acquired");
}
