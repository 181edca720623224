//! What `elock` shows of a server, and frees there.
#![cfg(feature = "cli")]

mod common;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, Command, Output, Stdio};

use common::process::{ELOCKD, Process};
use common::{Client, Server, next_line_with};
use serde_json::Value;

fn command(address: SocketAddr, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_elock"));
    command
        .env("ELOCK_SERVER", address.to_string())
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn elock(address: SocketAddr, arguments: &[impl AsRef<OsStr>]) -> Output {
    command(address, arguments).output().expect("it runs")
}

/// What it writes, and nothing to standard error.
#[track_caller]
fn shown(address: SocketAddr, arguments: &[&str]) -> String {
    let output = elock(address, arguments);
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).expect("UTF-8")
}

#[track_caller]
fn documents(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn who_names_the_holder_and_those_who_wait() {
    let server = Server::start();
    let (mut holder, mut waiter) = (server.connect(), server.connect());
    holder.ask("name web-3:cron", "200 OK");
    holder.ask("lock report", "200 Acquired");
    holder.ask("lock report-2", "200 Acquired");
    waiter.send("lock report 60");
    server.until_waiting(1);

    let output = elock(server.address, &["who", "report"]);
    assert_eq!(output.status.code(), Some(0));
    let shown = text(&output.stdout);
    let peer = holder.socket().local_addr().expect("an address");
    assert!(shown.starts_with("held: exclusive\n"), "{shown}");
    assert!(
        shown.contains(&format!("#1 web-3:cron\t{peer}\t20")),
        "{shown}"
    );
    assert!(shown.contains("\n#2\t"), "{shown}");

    let json = elock(server.address, &["who", "report", "--json"]);
    let json = &documents(&text(&json.stdout))[0];
    assert_eq!(json["holders"][0]["session"], 1);
    assert_eq!(json["holders"][0]["peer"], peer.to_string());
    assert_eq!(json["waiting"][0]["session"], 2);
}

#[test]
fn a_free_key_is_free_also_beside_longer_ones() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock report-2", "200 Acquired");
    for key in ["report", "other", "*", "report-22"] {
        let output = elock(server.address, &["who", key]);
        assert_eq!(output.status.code(), Some(1), "{key}");
        assert_eq!(text(&output.stdout), "free\n");
        let json = elock(server.address, &["who", key, "--json"]);
        assert_eq!(json.status.code(), Some(1), "{key}");
        let json = &documents(&text(&json.stdout))[0];
        assert_eq!(json["holders_in_all"], 0);
        assert_eq!(json["key"], key);
    }
}

/// Whatever key a listing shows, each command takes it as it is shown there.
#[test]
fn a_key_is_given_as_it_is_shown() {
    let server = Server::start();
    let mut holder = server.connect();
    let keys: [&[u8]; 4] = [b"\xff\xfe", b"a\0", b"lit\\x41", b"\xc2\x9b31mC1"];
    for key in keys {
        let line = [b"lock ", key, b" 0 job-7 0"].concat();
        holder.ask(line, "200 Acquired");
    }
    let mut waiter = server.connect();
    waiter.send([b"lock ", keys[3], b" 60"].concat());
    // Not by `debug`, which shows such keys as they are.
    while !holder.ask_list("info").contains(&"waiters 1".to_owned()) {
        std::thread::yield_now();
    }
    let listed = shown(server.address, &["locks"]);
    let listed = listed.lines().skip(1);
    let keys: Vec<&str> = listed.filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(
        keys,
        ["a\\x00", "lit\\x5Cx41", "\\xC2\\x9B31mC1", "\\xFF\\xFE"]
    );
    for others in ["graph", "sessions", "status"] {
        let other = shown(server.address, &[others]);
        assert!(other.contains(keys[2]), "{other}");
    }
    for key in keys {
        let code = |arguments: &[&str]| elock(server.address, arguments).status.code();
        assert_eq!(code(&["who", key]), Some(0), "{key}");
        assert_eq!(shown(server.address, &["locks", key]).lines().count(), 2);
        let watched = shown(server.address, &["watch", key, "--count", "0"]);
        assert!(watched.contains("held by @job-7"), "{watched}");
        let freed = match key {
            "a\\x00" => code(&["unlock", key, "--owner", "job-7"]),
            _ => code(&["break", key]),
        };
        assert_eq!(freed, Some(0), "{key}");
    }
}

#[test]
fn none_of_such_a_prefix_is_said() {
    let server = Server::start();
    server.connect().ask("lock k 0 job-7 0", "200 Acquired");
    let output = elock(server.address, &["locks", "other-"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stderr),
        "elock: no lock is held whose key begins with other-\n"
    );
    let json = elock(server.address, &["locks", "other-", "--json"]);
    assert_eq!((text(&json.stdout), text(&json.stderr)), Default::default());
}

/// The seconds of `--watch` are no word of their own, which a prefix would be taken for.
#[test]
fn a_watched_listing_has_a_prefix() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock job-1", "200 Acquired");
    holder.ask("lock other", "200 Acquired");
    for arguments in [
        ["locks", "--watch", "job-", "--json"],
        ["who", "job-1", "--watch=0.1", "--json"],
    ] {
        let mut watched = Running::start(server.address, &arguments);
        for _ in 0..2 {
            let line: Value = serde_json::from_str(&watched.line()).expect("no empty line");
            assert_eq!(line["key"], "job-1");
        }
    }
}

#[test]
fn all_pages_of_locks_are_shown() {
    let server = Server::start();
    let mut holder = server.connect();
    let keys: Vec<String> = (0..2_500)
        .map(|number| format!("key-{number:05}"))
        .collect();
    for key in &keys {
        holder.ask(format!("lock {key}"), "200 Acquired");
    }
    holder.ask("lock other", "200 Acquired");

    let all = shown(server.address, &["locks"]);
    let found = all.lines().skip(1).map(|line| line.split('\t').next());
    let expected = keys.iter().map(String::as_str).chain(["other"]);
    assert!(found.eq(expected.map(Some)));
    let json = documents(&shown(server.address, &["locks", "key-", "--json"]));
    assert!(
        json.iter()
            .map(|lock| lock["key"].as_str())
            .eq(keys.iter().map(|key| Some(key.as_str())))
    );

    let first = elock(server.address, &["locks", "--limit", "1000"]);
    assert_eq!(text(&first.stdout).lines().count(), 1_001);
    assert_eq!(
        text(&first.stderr),
        "elock: there are more than 1000 locks\n"
    );
    let exactly = elock(server.address, &["locks", "o", "--limit", "1"]);
    assert_eq!(text(&exactly.stderr), "");
    assert_eq!(text(&exactly.stdout).lines().count(), 2);
}

#[test]
fn a_reader_that_has_enough_is_a_quiet_end() {
    let server = Server::start();
    let mut holder = server.connect();
    for number in 0..3_000 {
        holder.ask(format!("lock a-rather-long-key-{number}"), "200 Acquired");
    }
    let mut child = command(server.address, &["locks"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut first).expect("a line");
    drop(stdout);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

/// Whatever a client sends, none of these has anything in it that a terminal obeys.
#[test]
fn hostile_text_is_made_visible() {
    let server = Server::start();
    let hostile = b"k\x1b[2J\x07\"];\\&\r\xff\xc2\x9b\xe2\x80\xae\xe2\x80\x8bz";
    let line = |parts: &[&[u8]]| parts.join(&b' ');
    let mut holder = server.connect();
    holder.ask(line(&[b"name", hostile]), "200 OK");
    holder.ask(line(&[b"lock_value", hostile, hostile]), "200 Acquired");
    holder.ask(
        line(&[b"lock_value", hostile, hostile, b"0", hostile, b"0"]),
        "200 Acquired",
    );
    let mut waiter = server.connect();
    waiter.ask(line(&[b"name", hostile]), "200 OK");
    waiter.send(line(&[b"lock", hostile, b"60", hostile, b"0"]));
    // Not by `debug`, which shows such keys as they are.
    while !holder.ask_list("info").contains(&"waiters 1".to_owned()) {
        std::thread::yield_now();
    }

    let key = OsString::from_vec(hostile.to_vec());
    let plain = ["status", "locks", "sessions", "graph", "graph --dot"];
    let mut runs: Vec<Vec<OsString>> = plain
        .iter()
        .map(|words| words.split(' ').map(OsString::from).collect())
        .collect();
    runs.push(vec!["who".into(), key.clone()]);
    runs.push(vec![
        "watch".into(),
        key.clone(),
        "--count".into(),
        "0".into(),
    ]);
    runs.push(vec![
        "locks".into(),
        OsString::from_vec(hostile[..4].to_vec()),
    ]);
    for arguments in &runs {
        let output = elock(server.address, arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        let shown = text(&output.stdout);
        assert!(
            shown.contains("\\x1B[2J") || arguments[0] == "watch",
            "{arguments:?}: {shown}"
        );
        let obeyed = |character: &char| {
            character.is_control() && !"\n\t".contains(*character)
                || "\u{202e}\u{200b}".contains(*character)
        };
        assert_eq!(shown.chars().find(obeyed), None, "{arguments:?}: {shown:?}");
    }
    let json = elock(server.address, &["locks", "--json"]);
    let json = &documents(&text(&json.stdout))[0];
    assert_eq!(json["key_base64"], "axtbMkoHIl07XCYN/8Kb4oCu4oCLeg==");
    let broken = elock(server.address, &["break", "no-such\u{1b}[2J"]);
    assert_eq!(broken.status.code(), Some(65));
}

#[test]
fn the_graph_follows_chains_to_their_ends() {
    let server = Server::start();
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    clients[0].ask("lock x", "200 Acquired");
    clients[1].ask("lock y", "200 Acquired");
    clients[1].send("lock x 60");
    server.until_waiting(1);
    clients[2].send("lock y 60");
    clients[3].send("lock y 60");
    server.until_waiting(3);

    let shown = shown(server.address, &["graph"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].contains("#3") && lines[0].contains("#4"),
        "{shown}"
    );
    assert_eq!(lines[1], "└─ y   (exclusive, 2 waiting)");
    assert!(
        lines[2].starts_with("   └─ #2 holds it ") && lines[2].contains(", waiting "),
        "{shown}"
    );
    assert_eq!(lines[3], "      └─ x   (exclusive, 1 waiting)");
    assert!(lines[4].starts_with("         └─ #1 holds it "), "{shown}");
    assert_eq!(lines.len(), 5, "{shown}");

    let json = documents(&self::shown(server.address, &["graph", "--json"]));
    let numbers: Vec<&Value> = json.iter().filter(|one| one["session"].is_u64()).collect();
    assert_eq!(numbers.len(), 3);
    assert_eq!(json.iter().filter(|one| one["key"].is_string()).count(), 2);
}

#[test]
fn the_graph_for_graphviz_is_well_formed() {
    let server = Server::start();
    let mut holder = server.connect();
    let mut waiters = Vec::new();
    for (waiting, key) in ["\"", "\\", "a\"];b[", "\\\"", "{<x>|y}", "&quot;"]
        .iter()
        .enumerate()
    {
        holder.ask(format!("lock {key}"), "200 Acquired");
        let mut waiter = server.connect();
        waiter.send(format!("lock {key} 60"));
        server.until_waiting(waiting + 1);
        waiters.push(waiter);
    }
    let dot = shown(server.address, &["graph", "--dot"]);
    let (mut quotes, mut depth, mut is_escaped) = (0, 0, false);
    for character in dot.chars() {
        let is_inside = quotes % 2 == 1;
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_inside => is_escaped = true,
            '"' => quotes += 1,
            '[' | '{' if !is_inside => depth += 1,
            ']' | '}' if !is_inside => depth -= 1,
            '\n' => assert!(!is_inside, "a label goes on in the next line"),
            _ => {}
        }
    }
    assert_eq!((quotes % 2, depth), (0, 0), "{dot}");
    assert_eq!(dot.matches(" -> k").count(), 6, "{dot}");
    assert_eq!(dot.matches(" -> s1 ").count(), 6, "{dot}");
}

#[test]
fn status_shows_numbers_and_the_busiest_keys() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock calm", "200 Acquired");
    holder.ask("lock busy", "200 Acquired");
    let mut waiters: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for (waiter, key) in waiters.iter_mut().zip(["calm", "busy", "busy"]) {
        waiter.send(format!("lock {key} 60"));
    }
    server.until_waiting(3);
    let shown = shown(server.address, &["status"]);
    assert!(
        shown.contains("2 held; 3 requests wait, 0 watch\n"),
        "{shown}"
    );
    let busy = shown.find("busy\t2\t").expect("the busiest key");
    let calm = shown.find("calm\t1\t").expect("the other key");
    assert!(busy < calm, "{shown}");
    let json = &documents(&self::shown(server.address, &["status", "--json"]))[0];
    assert_eq!(json["info"]["waiters"], 3);
    assert_eq!(json["busiest"][0]["key"], "busy");
    assert_eq!(json["sessions_read_all"], true);
}

#[test]
fn sessions_shows_who_waits() {
    let server = Server::start();
    let (mut holder, mut waiter) = (server.connect(), server.connect());
    holder.ask("lock k", "200 Acquired");
    waiter.send("lock k 60");
    server.until_waiting(1);
    let all = shown(server.address, &["sessions"]);
    assert!(all.contains("\n#1\t") && all.contains("\n#2\t"), "{all}");
    let waiting = shown(server.address, &["sessions", "--waiting"]);
    assert_eq!(waiting.lines().count(), 2, "{waiting}");
    assert!(waiting.contains("\tk\t"), "{waiting}");
    let json = documents(&shown(server.address, &["sessions", "--waiting", "--json"]));
    assert_eq!(json.len(), 1);
    assert_eq!(json[0]["waits_for"], "k");
}

/// A command that goes on, and the lines that it writes.
struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    said: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(address: SocketAddr, arguments: &[&str]) -> Self {
        let mut child = command(address, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        Self {
            lines: BufReader::new(child.stdout.take().expect("piped")),
            said: BufReader::new(child.stderr.take().expect("piped")),
            child,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line
    }

    fn said(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a line");
        line
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watch_prints_each_change() {
    let server = Server::start();
    let mut watch = Running::start(server.address, &["watch", "k", "--count", "2"]);
    assert!(watch.line().ends_with("  free\n"));
    let mut holder = server.connect();
    holder.ask("lock k 0 job-7 0", "200 Acquired");
    assert!(watch.line().ends_with(" held by @job-7\n"));
    holder.ask("unlock k job-7", "200 Unlocked");
    assert!(watch.line().ends_with("  free\n"));
    assert_eq!(watch.exit_code(), Some(0));
    assert_eq!(watch.line(), "");
}

#[test]
fn watch_names_the_session() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("name web-3:cron", "200 OK");
    holder.ask("lock k", "200 Acquired");
    let line = shown(server.address, &["watch", "k", "--count", "0"]);
    assert!(line.ends_with(" held by #1 web-3:cron\n"), "{line}");
    let json = shown(server.address, &["watch", "k", "--count", "0", "--json"]);
    assert_eq!(documents(&json)[0]["name"], "web-3:cron");
}

#[test]
fn watch_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().to_str().expect("UTF-8");
    let server = Process::start(&["--data-dir", data_dir]);
    let address = server.address;
    server.connect().ask("lock k 0 job-7 0", "200 Acquired");
    let mut watch = Running::start(address, &["watch", "k", "--json"]);
    let first: Value = serde_json::from_str(&watch.line()).expect("JSON");
    assert_eq!(first["holder"], "@job-7");
    server.kill();
    assert!(watch.said().ends_with("; trying again\n"));
    let listen = address.to_string();
    let server =
        Process::spawn(Command::new(ELOCKD).args(["--listen", &listen, "--data-dir", data_dir]));
    assert!(watch.said().contains("connected again"));
    // It is held by the same grant, which is no change: what comes next is told of the next one. And
    // the server has seen that it is asked, before that comes.
    let is_watched = |lines: &[String]| lines.contains(&"watchers 1".to_owned());
    let mut observer = server.connect();
    while !is_watched(&observer.ask_list("info")) {
        std::thread::yield_now();
    }
    server.connect().ask("unlock k job-7", "200 Unlocked");
    let next: Value = serde_json::from_str(&watch.line()).expect("JSON");
    assert_eq!(next["state"], "free");
}

#[test]
fn what_is_watched_by_a_flag_ends_at_an_interrupt() {
    let server = Server::start();
    let mut status = Running::start(server.address, &["status", "--watch=0.1"]);
    let mut rounds = 0;
    while rounds < 2 {
        rounds += usize::from(status.line().starts_with("server "));
    }
    let pid = status.child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status();
    assert!(sent.expect("kill runs").success());
    let mut rest = String::new();
    status.lines.read_to_string(&mut rest).expect("text");
    assert_eq!(status.exit_code(), Some(0));
    assert_eq!(status.said(), "");
}

#[test]
fn the_first_server_that_answers_is_asked() {
    let full = Server::start_with(|config| config.max_connections = 1);
    let _only = full.connect();
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let closed = closed.expect("a port that nobody listens at");
    let server = Server::start();
    server.connect().ask("lock k", "200 Acquired");
    let ask = |servers: &str, arguments: &[&str]| {
        let mut command = command(server.address, arguments);
        command
            .args(["--server", servers])
            .output()
            .expect("it runs")
    };
    let servers = format!("{closed},{},{}", full.address, server.address);
    assert_eq!(ask(&servers, &["who", "k"]).status.code(), Some(0));

    for arguments in [
        ["status"].as_slice(),
        &["who", "k"],
        &["watch", "k"],
        &["break", "k"],
    ] {
        let output = ask(&closed.to_string(), arguments);
        assert_eq!(output.status.code(), Some(69), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with(&format!("elock: {closed}: ")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let none = ask(&format!("{closed},{}", full.address), &["status"]);
    assert_eq!(none.status.code(), Some(69));
    assert!(
        text(&none.stderr).contains("Too many connections"),
        "{}",
        text(&none.stderr)
    );
}

/// It takes as long as the deadline.
#[test]
fn a_server_that_hangs_is_not_waited_for() {
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let hangs = hanging.local_addr().expect("an address");
    let server = Server::start();
    let servers = format!("{hangs},{}", server.address);
    let output = elock(server.address, &["--server", &servers, "who", "k"]);
    assert_eq!(text(&output.stdout), "free\n");
}

#[test]
fn an_operator_frees_the_locks_of_owners() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock sessions", "200 Acquired");
    holder.ask("lock one 0 job-7 0", "200 Acquired");
    holder.ask("lock two 0 job-7 0", "200 Acquired");
    let code = |arguments: &[&str]| elock(server.address, arguments).status.code();
    assert_eq!(code(&["break", "one"]), Some(0));
    assert_eq!(code(&["break", "one"]), Some(65));
    assert_eq!(code(&["break", "sessions"]), Some(65));
    assert_eq!(code(&["unlock", "two", "--owner", "job-8"]), Some(65));
    assert_eq!(code(&["unlock", "two", "--owner", "job-7"]), Some(0));
    assert_eq!(code(&["unlock", "two"]), Some(2));
    let said = |arguments: &[&str]| text(&elock(server.address, arguments).stderr);
    assert_eq!(
        said(&["break", "one"]),
        "elock: one: nobody holds the lock\n"
    );
    assert!(said(&["break", "sessions"]).starts_with("elock: sessions: a session holds"));
    assert_eq!(
        said(&["unlock", "sessions", "--owner", "job-8"]),
        "elock: sessions: others hold the lock\n"
    );
    assert!(!said(&["unlock", "two"]).contains("--server <"));
    assert_eq!(code(&["who", "a key"]), Some(2));
    holder.ask("token sessions nobody", "403 not_yours");
    holder.ask("token one job-7", "403 not_locked");
}

#[test]
fn an_operator_ends_sessions_and_takes_locks() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    for client in [&mut a, &mut b] {
        client.ask("name web-3", "200 OK");
    }
    a.ask("lock k", "200 Acquired");
    b.ask("lock_value v r", "200 Acquired");
    c.ask("lock_value v r 0 job-7 0", "200 Acquired");
    let code = |arguments: &[&str]| elock(server.address, arguments).status.code();
    let said = |arguments: &[&str]| text(&elock(server.address, arguments).stderr);
    assert_eq!(code(&["force-unlock", "v"]), Some(0));
    b.ask("unlock v", "403 revoked");
    assert_eq!(code(&["force-unlock", "v"]), Some(65));
    assert_eq!(
        said(&["force-unlock", "v"]),
        "elock: v: nobody holds the lock\n"
    );
    assert_eq!(
        said(&["kick", "web-3"]),
        "elock: web-3: 2 sessions: #1 #2; name one by its number\n"
    );
    assert_eq!(code(&["kick", "web-3"]), Some(65));
    assert_eq!(code(&["kick", "1"]), Some(0));
    a.expect_closed();
    c.ask("lock k", "200 Acquired");
    assert_eq!(
        said(&["kick", "#1"]),
        "elock: #1: there is no such session, or it is over\n"
    );
    assert_eq!(code(&["kick", "web-3"]), Some(0));
    b.expect_closed();
    assert_eq!(code(&["kick", "web-3"]), Some(65));
    assert_eq!(code(&["kick"]), Some(2));
    assert_eq!(code(&["kick", ""]), Some(2));
}

/// It says what is left, and returns when the server has stopped, which it does after the last release.
#[test]
fn a_drain_is_followed_to_its_end() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock k", "200 Acquired");
    let mut drain = command(server.address, &["drain"]);
    let mut drain = drain.stderr(Stdio::piped()).spawn().expect("it runs");
    let mut said = BufReader::new(drain.stderr.take().expect("piped"));
    next_line_with(
        &mut said,
        "draining: 1 lock held, 0 requests wait; it stops within 59",
    );
    let status = shown(server.address, &["status"]);
    let first = status.lines().next().unwrap_or_default();
    assert!(first.starts_with("DRAINING for "), "{status}");
    assert!(
        first.contains(": no new locks, and it stops within 59"),
        "{status}"
    );
    holder.ask("unlock k", "200 Unlocked");
    next_line_with(&mut said, "the server has stopped");
    assert_eq!(drain.wait().expect("it ends").code(), Some(0));
    let none = elock(server.address, &["drain"]);
    assert_eq!(none.status.code(), Some(69));
}

/// Whoever drains by a script must notice that clients have lost their locks.
#[test]
fn a_drain_whose_time_is_over_tells_that_locks_were_lost() {
    let server = Server::start_with(|config| config.drain_ms = 700);
    let mut holder = server.connect();
    holder.ask("lock_all 0 k l", "200 Acquired");
    let output = elock(server.address, &["drain"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let lost = "the server has stopped at the end of its time: 2 locks were held and lost";
    assert!(said.ends_with(&format!("{lost}\n")), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_drain_need_not_be_waited_for() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock k", "200 Acquired");
    let output = elock(server.address, &["drain", "--no-wait"]);
    assert_eq!(output.status.code(), Some(0));
    holder.ask("lock other", "503 Draining");
}

/// A search may take longer than other requests, and whoever waits for it should know.
#[test]
fn an_answer_that_takes_long_is_said_to_be_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let resting = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"200 []\r\n").expect("it is open");
        // Until it ends.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut status = command(address, &["status"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut said = String::new();
    let mut stderr = BufReader::new(status.stderr.take().expect("piped"));
    stderr.read_line(&mut said).expect("text");
    let expected = format!("elock: {address} has not answered all for 5s");
    assert!(said.starts_with(&expected), "{said}");
    status.kill().expect("it waits");
    status.wait().expect("it has ended");
    resting.join().expect("no panic");
}
