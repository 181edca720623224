//! `elock bench`: what it counts is what the server counts, and what is wrong is told.
#![cfg(feature = "cli")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use common::process::Process;
use common::{Client, PATIENCE, Server};
use serde_json::Value;

fn bench(server: impl ToString, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_elock"));
    command
        .env_remove("ELOCK_SERVER")
        .args(["bench", "--server", &server.to_string()])
        .args(flags);
    command
}

/// Its exit code, its summary and what it says.
fn ended(output: &Output) -> (Option<i32>, Value, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let summary = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), summary, said)
}

fn run(server: impl ToString, flags: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = bench(server, flags);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    end_of(child.expect("it runs"))
}

/// Waits for its end, but not for ever: what hangs is killed, which is no exit code.
fn end_of(child: Child) -> (Option<i32>, Value, String) {
    let pid = child.id().to_string();
    let (has_ended, end) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
    });
    let output = child.wait_with_output().expect("it ends");
    drop(has_ended);
    watchdog.join().expect("it ends, too");
    ended(&output)
}

#[track_caller]
fn number(summary: &Value, path: &str) -> u64 {
    let number = summary.pointer(path).and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("{path} in {summary}"))
}

/// All that must be so after any run in which nothing went wrong, and which nobody disturbed.
#[track_caller]
fn adds_up(summary: &Value) {
    let answers = summary["answers"].as_object().expect("answers");
    let in_all: u64 = answers.values().filter_map(Value::as_u64).sum();
    assert_eq!(number(summary, "/requests"), in_all, "{summary}");
    assert_eq!(number(summary, "/done"), in_all, "{summary}");
    assert!(in_all > 0, "{summary}");
    let refused = answers.get("409").and_then(Value::as_u64).unwrap_or(0);
    assert_eq!(
        number(summary, "/server_counted/refusals"),
        refused,
        "{summary}"
    );
    assert_eq!(
        number(summary, "/server_counted/grants"),
        number(summary, "/grants"),
        "{summary}"
    );
    assert_eq!(summary["unexpected"], serde_json::json!({}));
    assert_eq!(summary["failure"], Value::Null);
    let times =
        ["p50", "p90", "p99", "p99.9", "max"].map(|name| summary["latency_us"][name].as_f64());
    assert!(times.is_sorted() && times[0] > Some(0.0), "{summary}");
}

/// Nothing is left, as soon as it has ended.
#[track_caller]
fn nothing_is_left(address: SocketAddr) {
    let stats = Client::connect(address).ask_list("stats");
    assert_eq!(stats[2], "STAT locks 0");
    nothing_is_left_in_the_end(address);
}

/// The server learns of the end of a connection by and by.
fn nothing_is_left_in_the_end(address: SocketAddr) {
    Client::connect(address).until("no locks and only this session", |lines| {
        !lines.iter().any(|line| line.starts_with("LOCK "))
            && lines
                .iter()
                .filter(|line| line.starts_with("SESSION "))
                .count()
                == 1
    });
}

#[test]
fn what_each_workload_counts_is_what_the_server_counts() {
    let server = Server::start();
    for workload in ["own", "contended", "mixed", "churn"] {
        for pipeline in ["1", "7", "100"] {
            let flags = [
                "--workload",
                workload,
                "--pipeline",
                pipeline,
                "--clients",
                "9",
            ];
            let flags = [&flags[..], &["--duration", "200ms", "--json"]].concat();
            let (code, summary, said) = run(server.address, &flags);
            assert_eq!(code, Some(0), "{workload}: {said}");
            assert_eq!(said, "");
            assert_eq!(summary["workload"], workload);
            adds_up(&summary);
            let counted = |what: &str| number(&summary, what);
            assert_eq!(counted("/server_counted/refusals") > 0, workload == "mixed");
            // A deep pipeline may be through before anybody else comes.
            match (workload, pipeline) {
                ("contended", "1") => assert!(counted("/server_counted/hand_overs") > 0),
                ("contended", _) => {}
                _ => assert_eq!(counted("/server_counted/hand_overs"), 0),
            }
            assert_eq!(counted("/connections") > 0, workload == "churn");
            if workload == "churn" {
                assert_eq!(counted("/connections"), counted("/grants"));
            }
            nothing_is_left(server.address);
        }
    }
}

#[test]
fn what_is_durable_was_committed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("a path");
    let server = Process::start(&["--data-dir", path]);
    let flags = [
        "--workload",
        "durable",
        "--clients",
        "4",
        "--duration",
        "200ms",
        "--json",
    ];
    let (code, summary, said) = run(server.address, &flags);
    assert_eq!(code, Some(0), "{said}");
    adds_up(&summary);
    assert!(number(&summary, "/server_counted/commits") > 0);
    assert_eq!(summary["server_store"], "disk");
    nothing_is_left(server.address);
}

#[test]
fn nothing_durable_is_measured_where_nothing_is() {
    let server = Server::start();
    let (code, summary, said) = run(server.address, &["--workload", "durable", "--json"]);
    assert_eq!((code, summary), (Some(2), Value::Null));
    assert!(said.contains("memory"), "{said}");
}

#[test]
fn a_server_elsewhere_is_left_alone_unless_told_otherwise() {
    for far in [
        "192.0.2.1:11400",
        "[2001:db8::1]:11400",
        "elock://198.51.100.7",
    ] {
        let (code, summary, said) = run(far, &["--duration", "1ms", "--json"]);
        assert_eq!((code, summary), (Some(2), Value::Null), "{said}");
        assert!(
            said.contains("is not of this machine") && said.contains("--yes"),
            "{said}"
        );
    }
    // By whatever name, one of this machine needs no leave; and with it, none is asked for.
    let server = Server::start();
    for flags in [&["--duration", "1ms"][..], &["--duration", "1ms", "--yes"]] {
        let name = format!("localhost:{}", server.address.port());
        let (code, _, said) = run(name, flags);
        assert_eq!((code, said.as_str()), (Some(0), ""));
    }
}

#[test]
fn flags_that_cannot_be_are_refused() {
    let impossible: [&[&str]; 9] = [
        &["--clients", "0"],
        &["--clients", "10001"],
        &["--pipeline", "0"],
        &["--pipeline", "1001"],
        &["--keys", "0"],
        &["--duration", "0"],
        &["--duration", "2d"],
        &["--duration", "999us"],
        &["--clients", "10000", "--pipeline", "1000"],
    ];
    for flags in impossible {
        let (code, _, said) = run("127.0.0.1:1", flags);
        assert_eq!(code, Some(2), "{flags:?}: {said}");
    }
    let (code, _, said) = run("127.0.0.1:1,127.0.0.1:2", &[]);
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn a_limit_of_open_files_is_raised_or_explained() {
    let server = Server::start();
    let limited = |limit: &str, clients: &str| {
        let command = bench(server.address, &["--duration", "1ms", "--clients", clients]);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]);
        shell.arg(command.get_program()).args(command.get_args());
        ended(&shell.output().expect("it runs"))
    };
    let (code, _, said) = limited("-Sn 30", "40");
    assert_eq!(code, Some(0), "{said}");
    let (code, _, said) = limited("-n 90", "40");
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("ulimit") && said.contains("--clients"),
        "{said}"
    );
}

#[test]
fn a_unix_socket_is_of_this_machine() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let address = format!("unix:{}", path.display());
    let server = Process::start(&["--listen", &address]);
    let flags = [
        "--duration",
        "100ms",
        "--clients",
        "3",
        "--workload",
        "churn",
        "--json",
    ];
    let (code, summary, said) = run(&address, &flags);
    assert_eq!(code, Some(0), "{said}");
    adds_up(&summary);
    nothing_is_left(server.address);
}

/// What listens on a port and is no server, or one that is wrong: answers each line as it is told,
/// and closes the connection where there is no answer.
fn wrong_server(
    answer: impl Fn(&str) -> Option<&'static str> + Send + Sync + Clone + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || answer_each(&stream, answer));
        }
    });
    address
}

fn answer_each(mut stream: &TcpStream, answer: impl Fn(&str) -> Option<&'static str>) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let Some(answer) = answer(&line) else { return };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// As a server answers the requests of `own`; none to `info`, as of one that does not know it.
fn right(line: &str) -> Option<&'static str> {
    match line.split(' ').next()? {
        "info" => Some("400 Unknown command: \"info\"\r\n"),
        "set_timeout" => Some("200 timeout set\r\n"),
        "lock" => Some("200 Acquired\r\n"),
        "unlock" => Some("200 Unlocked\r\n"),
        _ => None,
    }
}

const SHORT: [&str; 5] = ["--clients", "3", "--duration", "100ms", "--json"];

#[test]
fn another_server_of_the_protocol_is_measured_by_what_it_answers() {
    let (code, summary, said) = run(wrong_server(right), &SHORT);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(number(&summary, "/done") > 0);
    assert_eq!(summary["server_counted"], Value::Null);
}

#[test]
fn refused_requests_are_no_work() {
    let server = wrong_server(|line| match line.starts_with("unlock") {
        true => Some("403 not_yours\r\n"),
        false => right(line),
    });
    let (code, summary, said) = run(server, &SHORT);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("403") && said.contains("not_yours"), "{said}");
    let refused = number(&summary, "/unexpected/403/count");
    assert!(refused > 0);
    assert_eq!(number(&summary, "/answers/403"), refused);
    assert_eq!(
        number(&summary, "/done") + refused,
        number(&summary, "/requests")
    );
    let a_second = summary["requests_per_second"].as_f64().expect("a number");
    let done = number(&summary, "/done") as f64 / summary["seconds"].as_f64().expect("a number");
    assert!((a_second - done).abs() < 1.0, "{summary}");
}

#[test]
fn a_server_that_is_full_is_not_taken_for_a_wrong_client() {
    let server = wrong_server(|line| match line.starts_with("lock") {
        true => Some("507 Too many locks in this server: at most 1\r\n"),
        false => right(line),
    });
    let (code, _, said) = run(server, &SHORT);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("Too many locks"), "{said}");
    let server = Server::start_with(|config| config.max_connections = 5);
    let (code, summary, said) = run(server.address, &["--clients", "9", "--json"]);
    assert_eq!(
        (code, number(&summary, "/requests")),
        (Some(69), 0),
        "{said}"
    );
    assert!(said.contains("Too many connections"), "{said}");
}

#[test]
fn what_is_no_answer_ends_it_and_does_not_reach_the_terminal() {
    for rubbish in [
        "-ERR unknown\r\n",
        "\x1b[2Jhello\x07\r\n",
        "HTTP/1.1 400 Bad\r\n",
        "\r\n",
    ] {
        for first in ["info", "set_timeout", "lock", "unlock"] {
            let server = wrong_server(move |line| match line.starts_with(first) {
                true => Some(rubbish),
                false => right(line),
            });
            let (code, _, said) = run(server, &["--duration", "1h", "--clients", "2"]);
            assert_eq!(code, Some(69), "{first} {rubbish:?}: {said}");
            assert!(
                said.contains("no answer of an eLock server"),
                "{first} {rubbish:?}: {said}"
            );
            assert!(!said.contains(['\x1b', '\x07']), "{said:?}");
        }
    }
}

#[test]
fn answers_for_which_nobody_asked_end_it() {
    let server = wrong_server(|line| match line.starts_with("lock") {
        true => Some("200 Acquired\r\n200 Acquired\r\n"),
        false => right(line),
    });
    let (code, _, said) = run(server, &["--duration", "1h", "--clients", "1"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("nobody asked"), "{said}");
}

#[test]
fn a_server_that_closes_ends_it() {
    for last in ["info", "set_timeout", "lock", "unlock"] {
        let server = wrong_server(move |line| right(line).filter(|_| !line.starts_with(last)));
        for workload in ["own", "churn"] {
            let flags = ["--duration", "1h", "--workload", workload];
            let (code, _, said) = run(server, &flags);
            assert_eq!(code, Some(69), "{last} {workload}: {said}");
            assert!(said.starts_with("elock: "), "{last} {workload}: {said}");
        }
    }
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let (code, _, said) = run(nobody.expect("a port"), &[]);
    assert_eq!(code, Some(69), "{said}");
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let silent = |first: &'static str, flags: &[&str]| {
        let server = wrong_server(move |line| match line.starts_with(first) {
            true => Some(""),
            false => right(line),
        });
        let flags = [&["--duration", "1h", "--clients", "3", "--json"], flags].concat();
        let mut command = bench(server, &flags);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        child.expect("it runs")
    };
    let at = [
        (silent("unlock", &[]), 3, 3),
        (silent("set_timeout", &[]), 1, 0),
        (silent("quit", &["--workload", "churn"]), 3, 9),
    ];
    for (child, clients, done) in at {
        let (code, summary, said) = end_of(child);
        assert_eq!(code, Some(69), "{said}");
        let told = format!("no answer for 10 seconds, and {clients} clients wait");
        assert!(said.contains(&told), "{said}");
        assert_eq!(number(&summary, "/done"), done);
    }
}

#[test]
fn who_does_not_want_to_wait_for_answers_interrupts_twice() {
    let server = Process::start(&[]);
    let mut child = endless(server.address, &["--workload", "mixed"]);
    server.signal("STOP");
    // Two that come at once are one.
    while child.try_wait().expect("it is there").is_none() {
        signal(&child, "INT");
    }
    let (code, summary, said) = end_of(child);
    assert_eq!((code, said.as_str()), (Some(130), ""));
    assert_eq!(summary["interrupted"], true);
}

/// A measurement without end, of which some grants were seen.
fn endless(address: SocketAddr, flags: &[&str]) -> Child {
    let mut observer = Client::connect(address);
    let mut grants = || {
        let lines = observer.ask_list("info");
        let counted = lines.iter().find_map(|line| line.strip_prefix("grants "));
        let counted: u64 = counted
            .and_then(|number| number.parse().ok())
            .expect("a counter");
        counted
    };
    let before = grants();
    let flags = [&["--duration", "1h", "--json"], flags].concat();
    let mut command = bench(address, &flags);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let begin = Instant::now();
    while grants() < before + 100 {
        assert!(begin.elapsed() < PATIENCE, "no grants were seen");
        std::thread::yield_now();
    }
    child.expect("it runs")
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn an_interrupt_tells_what_was_measured_until_then() {
    for (name, workload) in [
        ("INT", "own"),
        ("TERM", "contended"),
        ("INT", "mixed"),
        ("INT", "churn"),
    ] {
        let server = Server::start();
        let child = endless(server.address, &["--workload", workload]);
        signal(&child, name);
        let (code, summary, said) = end_of(child);
        assert_eq!((code, said.as_str()), (Some(130), ""), "{workload}");
        assert_eq!(summary["interrupted"], true);
        adds_up(&summary);
        nothing_is_left(server.address);
    }
}

#[test]
fn a_server_that_dies_is_told_beside_what_was_measured() {
    let server = Process::start(&[]);
    let child = endless(server.address, &["--workload", "contended"]);
    server.kill();
    let (code, summary, said) = end_of(child);
    assert_eq!(code, Some(69), "{said}");
    assert!(number(&summary, "/done") > 0);
    assert!(summary["failure"].is_string());
}

#[test]
fn a_killed_one_leaves_nothing_behind() {
    // Longer than this waits, unless a connection says otherwise.
    let server = Server::start_with(|config| config.grace_ms = 3_600_000);
    for workload in ["own", "contended", "mixed"] {
        let child = endless(server.address, &["--workload", workload]);
        signal(&child, "KILL");
        end_of(child);
        nothing_is_left_in_the_end(server.address);
    }
}

#[test]
fn the_locks_of_others_are_not_touched() {
    let server = Server::start();
    let mut other = server.connect();
    other.ask("lock k", "200 Acquired");
    let child = endless(server.address, &["--workload", "mixed"]);
    let own = format!("LOCK {{\"key\":\"elock-bench-{}-", child.id());
    let locks = other.ask_list("locks *");
    let (mine, others): (Vec<_>, Vec<_>) =
        locks[1..].iter().partition(|lock| lock.starts_with(&own));
    assert!(!mine.is_empty(), "{locks:?}");
    assert_eq!(others.len(), 1, "{others:?}");
    signal(&child, "INT");
    assert_eq!(end_of(child).0, Some(130));
    other.ask("unlock k", "200 Unlocked");
}

#[test]
fn people_read_a_summary_and_nobody_has_to() {
    let server = Server::start();
    let output = bench(
        server.address,
        &["--duration", "100ms", "--workload", "contended"],
    )
    .output();
    let output = output.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in [
        "contended",
        "requests",
        "hand-overs",
        "p99.9",
        "answers 200",
        "store memory",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "",
        "no progress where nobody looks"
    );

    let mut child = bench(server.address, &["--duration", "50ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let (code, _, said) = end_of(child);
    assert_eq!((code, said.as_str()), (Some(0), ""));
}
