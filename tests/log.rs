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
    let words = [
        "a lease ended",
        "session=#1 ",
        "peer=127.0.0.1:",
        "key=nightly",
        &token,
        "held_ms=",
    ];
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
    let resumed = [
        "a session was resumed",
        "session=#1 ",
        "peer=127.0.0.1:",
        "from=127.0.0.1:",
        "locks=2",
        "first second",
    ];
    until_logged(&mut process, &resumed);
    b.ask("set_timeout 1", "200 timeout set");
    drop(b);
    let ended = [
        "a grace period ended",
        "session=#1 ",
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
    let words = [
        "a limit is reached: Too many locks in this session: at most 1",
        "session=#1 ",
        "--max-session-locks",
    ];
    until_logged(&mut process, &words);
}

/// The client may be at work, and does not know that its lock has passed on.
#[test]
fn a_connection_that_the_server_ends_is_logged_with_its_locks() {
    let mut process = Process::start(&["--unsent-timeout-ms", "1"]);
    let mut a = process.connect();
    a.ask("set_timeout 0", "200 timeout set");
    for key in ["a", "b\u{7}", "c", "d", "e"] {
        a.ask(format!("lock {key}"), "200 Acquired");
    }
    let mut writer = a.socket().try_clone().expect("a socket");
    let writes = std::thread::spawn(move || {
        while std::io::Write::write_all(&mut writer, &b"help\n".repeat(1000)).is_ok() {}
    });
    let ended = [
        "the client does not read its answers, and its session's locks are released",
        "session=#1 ",
        "peer=127.0.0.1:",
        "locks=5",
        "... and 2 more",
    ];
    until_logged(&mut process, &ended);
    writes.join().expect("no panic");
}

#[test]
fn lines_that_are_left_out_are_counted() {
    let mut process = Process::start(&["--max-session-locks", "1"]);
    let mut a = process.connect();
    a.ask("lock x", "200 Acquired");
    for _ in 0..100 {
        a.ask("lock y", "507 Too many locks in this session: at most 1");
    }
    process.signal("TERM");
    let words = ["80 more requests reached a limit, each without a line"];
    until_logged(&mut process, &words);
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
