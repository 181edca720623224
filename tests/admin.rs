//! HTTP for operators: health, metrics, and who is let in.
#![cfg(feature = "admin")]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

#[cfg(feature = "auth")]
use common::Client;
#[cfg(feature = "store")]
use common::failing_disk::{FailingDisk, Fault};
#[cfg(feature = "auth")]
use common::http::get_as;
use common::http::{self, Answer, get, get_from, head};
use common::process::{ELOCKD, Process, run};
use common::promtool::promtool;
use common::{PATIENCE, Server, listening_or_refusal};
use elock::config::Config;
use elock::protocol::Refusal;

fn start() -> (Server, SocketAddr) {
    start_with(|_| {})
}

fn start_with(change: impl FnOnce(&mut Config)) -> (Server, SocketAddr) {
    let server = Server::start_with(|config| {
        config.admin = vec!["127.0.0.1:0".parse().expect("an address")];
        change(config);
    });
    let admin = server.admin.expect("it serves HTTP");
    // It answers from before it has loaded.
    until_ready(|| get(admin, "/readyz"));
    (server, admin)
}

#[track_caller]
fn until_ready(ask: impl Fn() -> Answer) {
    let begin = Instant::now();
    while ask().status != 200 {
        assert!(begin.elapsed() < PATIENCE, "it does not become ready");
    }
}

/// What a scrape says: the value of each series, by its name and labels.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(admin: SocketAddr) -> Self {
        let answer = get(admin, "/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        Self::parse(&answer.body)
    }

    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let series = samples.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            (series.to_owned(), value.parse().expect("a number"))
        });
        Self(series.collect())
    }

    #[track_caller]
    fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series}"))
    }

    /// How much each series is more than before, of those that changed; without times and sizes.
    fn since(&self, before: &Self) -> BTreeMap<&str, f64> {
        let is_exact = |series: &str| {
            !(series.starts_with("process_")
                || series.contains("_bucket")
                || series.contains("_sum"))
        };
        let changes = self.0.iter().filter_map(|(series, value)| {
            let change = value - before.0.get(series).copied().unwrap_or_default();
            (change != 0.0 && is_exact(series)).then_some((&**series, change))
        });
        changes.collect()
    }
}

/// The names of a scrape's families, each of which must have a help and a type.
fn families(text: &str) -> BTreeSet<String> {
    let comments = |kind: &str| -> BTreeSet<String> {
        let comments = text.lines().filter_map(|line| line.strip_prefix(kind));
        let names = comments.map(|rest| rest.split(' ').next().unwrap_or_default().to_owned());
        names.collect()
    };
    let (helped, typed) = (comments("# HELP "), comments("# TYPE "));
    assert_eq!(helped, typed);
    for series in Scrape::parse(text).0.into_keys() {
        let name = series.split('{').next().unwrap_or_default();
        let parts = ["", "_bucket", "_sum", "_count"];
        let families = parts.iter().filter_map(|part| name.strip_suffix(part));
        let known: Vec<_> = families.filter(|name| typed.contains(*name)).collect();
        assert_eq!(known.len(), 1, "{series} is of {known:?}");
    }
    typed
}

/// The metrics that a text speaks of.
fn named_in(text: &str) -> BTreeSet<String> {
    let is_of_a_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_of_a_name(character));
    let metrics = words.filter(|word| word.starts_with("elock_") || word.starts_with("process_"));
    metrics.map(str::to_owned).collect()
}

#[test]
fn every_family_has_a_help_and_a_type_and_promtool_finds_nothing_to_say() {
    let (server, admin) = start();
    server.connect().ask("lock k", "200 Acquired");
    let answer = get(admin, "/metrics");
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4")
    );
    assert!(families(&answer.body).len() > 30);
    promtool(&["check", "metrics"], &answer.body);
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_there_are() {
    let (_server, admin) = start();
    let families = families(&get(admin, "/metrics").body);
    for file in ["grafana/elock.json", "prometheus/elock.rules.yml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("packaging")
            .join(file);
        let text = std::fs::read_to_string(path).expect("a file");
        let named = named_in(&text);
        assert!(named.len() >= 5, "{named:?}");
        // Those of a cluster are not of one that is alone; tests/cluster_front.rs has them.
        for metric in named
            .iter()
            .filter(|name| !name.starts_with("elock_cluster_"))
        {
            let family = metric.strip_suffix("_bucket").unwrap_or(metric);
            assert!(families.contains(family), "{file}: {metric}");
        }
    }
    promtool(
        &["check", "rules", "packaging/prometheus/elock.rules.yml"],
        "",
    );
    promtool(
        &["test", "rules", "packaging/prometheus/elock.test.yml"],
        "",
    );
}

/// Each answer that is a refusal, and all else that is counted, once or more, and exactly so often.
#[test]
fn the_metrics_say_exactly_what_was_done() {
    let (server, admin) = start_with(|config| {
        config.max_session_locks = 3;
        config.max_key_waiters = 1;
        config.max_request_keys = 2;
        config.max_line = 100;
    });
    let before = Scrape::of(admin);
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    let mut observer = server.connect();
    let mut until_waiting = || {
        observer.until("a wait", |lines| {
            lines.iter().any(|line| line.starts_with("REQUEST "))
        })
    };
    a.ask("lock k", "200 Acquired");
    b.ask("lock k", "409 Unavailable");
    b.ask("lock k 0.01", "409 Unavailable");
    b.ask("lock_all 0 k l", "409 Unavailable: k");
    b.ask("lock_all 0.01 k l", "409 Unavailable: k");
    b.ask("lock l", "200 Acquired");
    b.send("lock k 3600");
    until_waiting();
    c.ask(
        "lock k 3600",
        "507 Too many waiters for this key: at most 1",
    );
    a.send("lock l 3600");
    assert!(a.read().starts_with("423 "));
    a.ask("unlock k", "200 Unlocked");
    b.expect("200 Acquired");
    for (line, answer) in [
        ("unlock k", "403 not_yours"),
        ("unlock nothing", "403 not_locked"),
        ("resume nobody", "403 unknown"),
        ("conn_id nobody", "403 cannot set conn id"),
        (
            "lock_all 0 1 2 3",
            "507 Too many keys in one request: at most 2",
        ),
        ("", "400 Empty line: \"help\" lists the commands"),
        ("nonsense", "400 Unknown command: \"nonsense\""),
    ] {
        a.ask(line, answer);
    }
    for line in ["unlock", "lock k soon", &"x".repeat(200)] {
        a.send(line);
        assert!(a.read().starts_with('4'));
    }
    a.send("GET / HTTP/1.1");
    assert!(a.drains_to_the_end());
    drop(a);
    c.ask("lock leased", "200 Acquired");
    b.send("lock leased 3600");
    until_waiting();
    c.ask("expire leased 1", "200 OK");
    b.expect("200 Acquired");
    for key in 1..=3 {
        c.ask(format!("lock {key}"), "200 Acquired");
    }
    c.ask("lock 4", "507 Too many locks in this session: at most 3");
    c.ask("unlock_all", "200 OK");
    let after = loop {
        let scrape = Scrape::of(admin);
        // The server learns of a closed connection when it gets to it.
        if scrape.value("elock_limit_used{limit=\"connections\"}") == 3.0 {
            break scrape;
        }
    };
    let refused = |reason| format!("elock_refusals_total{{reason=\"{reason}\"}}");
    let waited = |outcome| format!("elock_wait_seconds_count{{outcome=\"{outcome}\"}}");
    let expected = [
        ("elock_sessions{state=\"connected\"}".to_owned(), 3.0),
        ("elock_locks".to_owned(), 3.0),
        ("elock_connections_total".to_owned(), 4.0),
        ("elock_grants_total".to_owned(), 8.0),
        ("elock_hand_overs_total".to_owned(), 2.0),
        ("elock_deadlocks_total".to_owned(), 1.0),
        ("elock_lease_ends_total".to_owned(), 1.0),
        ("elock_hold_seconds_count".to_owned(), 5.0),
        ("elock_limit_used{limit=\"connections\"}".to_owned(), 3.0),
        ("elock_limit_used{limit=\"locks\"}".to_owned(), 3.0),
        (waited("granted"), 2.0),
        (waited("not_granted"), 2.0),
        (refused("unavailable"), 2.0),
        (refused("timeout"), 2.0),
        (refused("deadlock"), 1.0),
        (refused("not_yours"), 1.0),
        (refused("not_locked"), 1.0),
        (refused("not_resumed"), 2.0),
        (refused("max_key_waiters"), 1.0),
        (refused("max_request_keys"), 1.0),
        (refused("max_session_locks"), 1.0),
        (refused("empty_line"), 1.0),
        (refused("unknown_command"), 1.0),
        (refused("bad_usage"), 1.0),
        (refused("bad_argument"), 1.0),
        (refused("line_too_long"), 1.0),
        (refused("foreign_protocol"), 1.0),
    ];
    let expected = expected.iter().map(|(series, change)| (&**series, *change));
    assert_eq!(after.since(&before), expected.collect());
}

/// `info` and the metrics say the same.
#[test]
fn the_numbers_of_info_are_those_of_the_metrics() {
    let (server, admin) = start();
    let mut a = server.connect();
    a.ask("lock k", "200 Acquired");
    server.connect().ask("lock k 0.01", "409 Unavailable");
    let info = a.ask_list("info");
    let scrape = Scrape::of(admin);
    for (name, series) in [
        ("locks", "elock_locks"),
        ("waiters", "elock_waiters"),
        ("connections", "elock_connections_total"),
        ("grants", "elock_grants_total"),
        ("timeouts", "elock_refusals_total{reason=\"timeout\"}"),
    ] {
        let value = scrape.value(series);
        assert!(info.contains(&format!("{name} {value}")), "{name}: {value}");
    }
}

#[test]
fn every_kind_of_refusal_has_a_word_of_its_own() {
    let words: HashSet<_> = Refusal::ALL
        .iter()
        .map(|refusal| refusal.reason())
        .collect();
    assert_eq!(words.len(), Refusal::ALL.len());
}

#[test]
fn what_is_nowhere_and_what_is_asked_wrongly_is_told_so() {
    let (_server, admin) = start();
    assert_eq!(get(admin, "/nowhere").status, 404);
    assert_eq!(get(admin, "/healthz").body, "ok\n");
    assert_eq!(get(admin, "/readyz").body, "ready\n");
    for nonsense in [
        "nonsense\r\n\r\n",
        "\x16\x03\x01\0\0\r\n\r\n",
        "lock k\r\n\r\n",
    ] {
        assert_eq!(http::send(http::connect(admin), nonsense).status, 400);
    }
    let long = head(
        "GET",
        "/healthz",
        &format!("X: {}\r\n", "x".repeat(100_000)),
    );
    assert_eq!(http::send(http::connect(admin), &long).status, 431);
    let many = head("GET", "/healthz", &"X: y\r\n".repeat(1_000));
    assert_eq!(http::send(http::connect(admin), &many).status, 431);
    // A body that nobody asked for does not cost its sender the answer.
    let body = "x".repeat(1 << 20);
    let with_body = head(
        "POST",
        "/healthz",
        &format!("Content-Length: {}\r\n", body.len()),
    );
    let answer = http::send(http::connect(admin), &(with_body + &body));
    assert_eq!(answer.status, 405);
}

/// An orchestrator ends a server whose probe is not answered.
#[test]
fn half_requests_keep_nobody_from_an_answer() {
    let (_server, admin) = start();
    let lines = "Content-Type: application/json\r\nContent-Length: 100\r\n";
    let half = head("POST", "/api/kick", lines) + "{";
    let mut crowd: Vec<_> = (0..200).map(|_| http::connect(admin)).collect();
    for stream in &mut crowd {
        // Who gave way already does not take it.
        let _ = stream.write_all(half.as_bytes());
    }
    let begin = Instant::now();
    for path in ["/healthz", "/readyz", "/metrics", "/"] {
        assert_eq!(get(admin, path).status, 200, "{path}");
    }
    // Nobody's end was waited for, which comes after 30 s at the latest.
    assert!(begin.elapsed() < PATIENCE / 4);
}

/// Of refusals and failures, too: a browser must not take one for something else, nor keep it.
#[test]
fn every_answer_has_the_headers_that_bind_browsers() {
    let (_server, admin) = start();
    let foreign = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    for (status, request) in [
        (200, &*head("GET", "/healthz", "")),
        (200, &head("GET", "/readyz", "")),
        (200, &head("GET", "/metrics", "")),
        (200, &head("GET", "/", "")),
        (200, &head("GET", "/api/info", "")),
        (400, &head("GET", "/api/info?x", "")),
        (403, foreign),
        (404, &head("GET", "/nowhere", "")),
        (405, &head("POST", "/healthz", "")),
        (405, &head("GET", "/api/kick", "")),
        (415, &head("POST", "/api/kick", "")),
    ] {
        let answer = http::send(http::connect(admin), request);
        assert_eq!(answer.status, status, "{request}");
        for header in [
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            "content-security-policy: default-src 'none'",
        ] {
            let lines = answer.head.lines();
            let found = lines.filter(|line| line.starts_with(header)).count();
            assert_eq!(found, 1, "{header}: {request}{}", answer.head);
        }
    }
}

/// They are far more than the server serves at one time, and than it has files for.
#[test]
fn idle_connections_keep_nobody_from_locks_nor_from_health() {
    let idle = 10_000;
    rlimit::increase_nofile_limit(idle + 1_000).expect("a limit");
    let directory = tempfile::tempdir().expect("a directory");
    let process = Process::start(&[
        "--admin",
        "127.0.0.1:0",
        "--admin",
        &format!("unix:{}/admin", directory.path().display()),
    ]);
    let admin = admin_of(&process);
    let flood: Vec<_> = (0..idle)
        .map_while(|_| TcpStream::connect(admin).ok())
        .collect();
    assert!(flood.len() > 1_000, "{}", flood.len());
    let mut client = process.connect();
    client.ask("lock k", "200 Acquired");
    client.ask("unlock k", "200 Unlocked");
    assert_eq!(get(admin, "/healthz").status, 200);
    assert_eq!(
        get_from(&directory.path().join("admin"), "/metrics").status,
        200
    );
    drop(flood);
    assert_eq!(get(admin, "/healthz").status, 200);
}

/// The port that the process serves HTTP at, as the kernel tells.
fn admin_of(process: &Process) -> SocketAddr {
    let log = std::fs::read_to_string(format!("/proc/{}/net/tcp", process.child.id()));
    let inodes = socket_inodes(process.child.id());
    let table = log.expect("Linux");
    let mut listening = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours = inodes.contains(fields[9]) && fields[3] == "0A";
        let port = fields[1].split(':').nth(1)?;
        is_ours.then(|| u16::from_str_radix(port, 16).expect("a port"))
    });
    let port = listening.find(|port| *port != process.address.port());
    format!("127.0.0.1:{}", port.expect("a port"))
        .parse()
        .expect("an address")
}

fn socket_inodes(pid: u32) -> HashSet<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("Linux");
    let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let inodes = targets.filter_map(|target| {
        let inode = target
            .to_str()?
            .strip_prefix("socket:[")?
            .strip_suffix(']')?;
        Some(inode.to_owned())
    });
    inodes.collect()
}

#[cfg(feature = "store")]
#[test]
fn a_server_that_can_store_nothing_is_not_ready_and_says_why() {
    let disk = FailingDisk::new();
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("admin");
    let mut command = disk.command();
    command
        .arg("--admin")
        .arg(format!("unix:{}", socket.display()));
    let mut process = Process::spawn(&mut command);
    let mut a = process.connect();
    a.ask("lock k", "200 Acquired");
    assert_eq!(get_from(&socket, "/readyz").status, 200);
    disk.fails(Fault::Write("ENOSPC", 1), 0);
    a.send("lock l");
    assert!(a.read().starts_with("500 Not stored: "));
    let answer = get_from(&socket, "/readyz");
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.contains("No space left on device"),
        "{}",
        answer.body
    );
    assert_eq!(get_from(&socket, "/healthz").status, 200);
    let scrape = Scrape::parse(&get_from(&socket, "/metrics").body);
    for (series, value) in [
        ("elock_ready", 0.0),
        ("elock_store_writable", 0.0),
        ("elock_store_info{store=\"disk\"}", 1.0),
        ("elock_refusals_total{reason=\"not_stored\"}", 1.0),
    ] {
        assert_eq!(scrape.value(series), value, "{series}");
    }
    assert!(scrape.value("elock_commit_failures_total") >= 1.0);
    assert!(scrape.value("elock_commit_seconds_count") >= 2.0);
    assert!(scrape.value("elock_store_bytes") > 0.0);
    disk.works();
    process.until_logged("the store works again");
    // It says so a moment before it is so.
    until_ready(|| get_from(&socket, "/readyz"));
    // A disk that hangs makes no error.
    disk.fails(Fault::Hang, 0);
    a.send("lock m");
    process.until_logged("a commit has been under way for 5 s");
    let answer = get_from(&socket, "/readyz");
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.contains("a commit has been under way"),
        "{}",
        answer.body
    );
    disk.works();
}

#[test]
fn a_stop_waits_for_no_scraper_that_says_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("admin");
    let mut process = Process::start(&["--admin", &format!("unix:{}", socket.display())]);
    let mut half = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
    half.write_all(b"GET /metrics HTTP/1.1\r\n")
        .expect("it reads");
    // It says that it listens before it has loaded.
    until_ready(|| get_from(&socket, "/metrics"));
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));
    let mut rest = Vec::new();
    assert!(half.read_to_end(&mut rest).is_err() || rest.is_empty());
    assert!(!socket.exists());
}

#[test]
fn an_address_that_others_reach_is_refused_without_a_password() {
    let mut command = Command::new(ELOCKD);
    command.args(["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"]);
    let mut refused = command.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut log = BufReader::new(refused.stderr.take().expect("piped"));
    let said = listening_or_refusal(&mut log);
    if said.contains("listening") {
        refused.kill().expect("it runs");
    }
    assert!(said.contains("--admin-password-file"), "{said}");
    assert_eq!(refused.wait().expect("it ends").code(), Some(2));
    let meant = Process::start(&["--admin", "0.0.0.0:0", "--allow-anonymous"]);
    meant.connect().ask("lock k", "200 Acquired");
    #[cfg(feature = "auth")]
    {
        let directory = tempfile::tempdir().expect("a directory");
        let password = file(directory.path(), "secret\n");
        let asked = Process::start(&["--admin", "0.0.0.0:0", "--admin-password-file", &password]);
        asked.connect().ask("lock k", "200 Acquired");
    }
}

#[test]
fn a_bad_address_is_a_bad_setting() {
    let refused = run(&["--admin", "nowhere"]);
    assert_eq!(refused.status.code(), Some(2));
    let taken = Process::start(&[]);
    let refused = run(&[
        "--listen",
        "127.0.0.1:0",
        "--admin",
        &taken.address.to_string(),
    ]);
    assert_eq!(refused.status.code(), Some(1), "it may be free later");
}

#[cfg(feature = "auth")]
fn file(directory: &Path, text: &str) -> String {
    let path = directory.join("file");
    std::fs::write(&path, text).expect("it is written");
    path.display().to_string()
}

#[cfg(feature = "auth")]
#[test]
fn whoever_asks_for_more_than_health_needs_the_password() {
    let directory = tempfile::tempdir().expect("a directory");
    let password = file(directory.path(), "secret\n");
    let (server, admin) = start_with(|config| config.admin_password_file = Some(password.into()));
    assert_eq!(get(admin, "/healthz").status, 200);
    assert_eq!(get(admin, "/readyz").status, 200);
    for path in ["/metrics", "/nowhere"] {
        let answer = get(admin, path);
        assert_eq!(answer.status, 401);
        assert!(
            answer
                .head
                .contains("www-authenticate: Basic realm=\"elockd\"")
        );
        assert_eq!(get_as(admin, path, "admin:wrong").status, 401);
        assert_eq!(get_as(admin, path, "nobody:secret").status, 401);
        assert_eq!(get_as(admin, path, "default:secret").status, 401);
    }
    let answer = get_as(admin, "/metrics", "admin:secret");
    assert_eq!(answer.status, 200);
    let wrong = "elock_refusals_total{reason=\"wrong_password\"}";
    assert_eq!(Scrape::parse(&answer.body).value(wrong), 6.0);
    // Clients of locks are not asked by it.
    Client::connect(server.address).ask("lock k", "200 Acquired");
}

#[cfg(feature = "auth")]
#[test]
fn users_read_if_they_have_the_right() {
    let directory = tempfile::tempdir().expect("a directory");
    let hash = |password: &[u8]| elock::access::hash_password(password).expect("a hash");
    let users = format!(
        "[users.reader]\npassword = \"{}\"\nrights = [\"read\"]\nprefixes = [\"*\"]\n\
         [users.worker]\npassword = \"{}\"\nrights = [\"lock\"]\nprefixes = [\"*\"]\n",
        hash(b"one"),
        hash(b"two")
    );
    let users = file(directory.path(), &users);
    let (_server, admin) = start_with(|config| config.auth_file = Some(users.into()));
    assert_eq!(get(admin, "/metrics").status, 401);
    assert_eq!(get_as(admin, "/metrics", "reader:one").status, 200);
    assert_eq!(get_as(admin, "/metrics", "worker:two").status, 403);
    assert_eq!(get_as(admin, "/metrics", "worker:one").status, 401);
}

/// Each with what is taken of it by the one that is nearest to it.
#[cfg(feature = "auth")]
#[test]
fn the_bounds_of_addresses_and_users_are_told_without_their_names() {
    let directory = tempfile::tempdir().expect("a directory");
    let user = |name: &str, max_locks: u32| {
        format!(
            "[users.{name}]\nrights = [\"lock\", \"read\"]\nprefixes = [\"*\"]\nmax_locks = {max_locks}\n"
        )
    };
    let users = [user("roomy", 1_000), user("web", 5)].concat();
    let users = file(directory.path(), &users);
    let (server, admin) = start_with(|config| {
        config.auth_file = Some(users.into());
        config.trust = vec!["127.0.0.0/8=web".parse().expect("a network")];
        config.max_address_connections = 50;
        config.max_address_commands = 1_000_000;
    });
    let mut client = server.connect();
    client.ask("lock a", "200 Acquired");
    client.ask("lock b 0 job 0", "200 Acquired");
    let scrape = loop {
        let scrape = Scrape::of(admin);
        // A session's own locks are counted at the end of its turn.
        if scrape.value("elock_limit_used{limit=\"user_locks\"}") == 2.0 {
            break scrape;
        }
    };
    assert_eq!(scrape.value("elock_limit{limit=\"user_locks\"}"), 5.0);
    let connections = "limit=\"address_connections\"";
    assert_eq!(scrape.value(&format!("elock_limit{{{connections}}}")), 50.0);
    let used = scrape.value(&format!("elock_limit_used{{{connections}}}"));
    assert_eq!(used, 1.0);
    let commands = scrape.value("elock_limit{limit=\"address_commands\"}");
    assert_eq!(commands, 1_000_000.0);
    assert_eq!(scrape.value("elock_rests_total"), 0.0);
    let limits = scrape
        .0
        .keys()
        .filter(|series| series.starts_with("elock_limit{"));
    assert_eq!(limits.count(), 6, "what has no bound is not told of");
}

#[cfg(feature = "tls")]
#[test]
fn the_end_of_the_certificate_is_told_and_that_of_its_successor() {
    let authority = common::tls::Authority::new();
    let until = |file: &str, year: i32| {
        authority.sign(file, |params| {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
        })
    };
    let pair = until("first", 2050);
    let (server, admin) = start_with(|config| pair.serve(config));
    let told = || {
        let scrape = Scrape::of(admin);
        let series = "elock_tls_certificate_not_after_timestamp_seconds{certificate=\"server\"}";
        scrape.value(series)
    };
    assert_eq!(told(), 2_524_608_000.0);
    until("second", 2051).replace(&pair);
    server.control.reload();
    let end = Instant::now() + PATIENCE;
    while told() != 2_556_144_000.0 {
        assert!(Instant::now() < end, "{}", told());
    }
}

#[test]
fn a_name_that_a_stranger_can_point_here_is_refused() {
    let (_server, admin) = start();
    let from = |host: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
        http::send(http::connect(admin), &request).status
    };
    assert_eq!(from("127.0.0.1"), 200);
    assert_eq!(from("evil.example"), 403);
    let claims = "Authorization: Basic YWRtaW46eA==\r\n";
    let request = format!("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n{claims}\r\n");
    assert_eq!(http::send(http::connect(admin), &request).status, 403);
}

/// The shape of the program: it is there before the locks are.
#[test]
fn the_log_says_where_http_is() {
    let output = Command::new(ELOCKD)
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--data-dir",
            "/dev/null/x",
        ])
        .output()
        .expect("it runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("HTTP for operators at 127.0.0.1:"), "{log}");
}
