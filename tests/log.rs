//! What took a lock away can be read in the log, at the level that is logged without being asked.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::process::{ELOCKD, Process};

/// The words that a line about this must hold.
fn until_logged(process: &mut Process, words: &[&str]) {
    let log = process.log.as_mut().expect("a log");
    let line = common::next_line_with(log, words[0]);
    for word in words {
        assert!(line.contains(word), "{word} in {line}");
    }
    assert!(line.contains("INFO"), "{line}");
}

#[test]
fn a_lease_that_ended_is_logged() {
    let mut process = Process::start(&[]);
    let mut a = process.connect();
    a.ask("lock nightly", "200 Acquired");
    a.send("token nightly");
    let token = a.read().replace("200 ", "token=");
    a.ask("expire nightly 1", "200 OK");
    let words = ["a lease ended", "#1", "key=nightly", &token, "held_ms="];
    until_logged(&mut process, &words);
}

#[test]
fn a_grace_period_that_ended_with_locks_is_logged_and_so_is_a_resume() {
    let mut process = Process::start(&[]);
    let (mut a, mut b) = (process.connect(), process.connect());
    a.ask("lock first", "200 Acquired");
    a.ask("lock second", "200 Acquired");
    let id = a.id();
    a.ask("quit", "200 Hey, it was nice seeing you.");
    b.ask(format!("conn_id {id}"), "200 conn id set");
    let resumed = ["a session was resumed", "#1", "locks=2", "peer="];
    until_logged(&mut process, &resumed);
    b.ask("set_timeout 1", "200 timeout set");
    drop(b);
    let ended = [
        "a grace period ended",
        "#1",
        "locks=2",
        "first second",
        "peer=127.0.0.1:",
    ];
    until_logged(&mut process, &ended);
}

#[test]
fn a_limit_that_is_reached_is_logged() {
    let mut process = Process::start(&["--max-session-locks", "1"]);
    let mut a = process.connect();
    a.ask("lock x", "200 Acquired");
    a.ask("lock y", "507 Too many locks in this session: at most 1");
    until_logged(&mut process, &["a limit is reached", "#1", "max: 1"]);
}

#[test]
fn a_server_that_forgets_says_so_at_its_start() {
    let mut child = Command::new(ELOCKD)
        .args(["--listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let log = BufReader::new(child.stderr.take().expect("piped"));
    let lines: Vec<String> = log
        .lines()
        .map(|line| line.expect("a line"))
        .take_while(|line| !line.contains("listening on"))
        .collect();
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let says = |line: &String| line.contains("in memory: a restart forgets all locks");
    assert!(lines.iter().any(says), "{lines:?}");
}
