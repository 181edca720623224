//! A server that may not open as many files as `--max-connections` asks for.
#![cfg(feature = "fd-limit")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::iter::repeat_with;
use std::process::{Command, Stdio};

use common::process::{ELOCKD, Process, run};
use common::{Client, address_in_log};

const LIMIT: usize = 64;

/// A server under that limit, and what it says at its start.
fn start_limited(flags: &str) -> (Process, String) {
    let limited = format!("ulimit -n {LIMIT} && exec {ELOCKD} --listen 127.0.0.1:0 {flags}");
    let mut child = Command::new("sh")
        .args(["-c", &limited])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.contains("listening on ") {
        assert_ne!(log.read_line(&mut said).expect("text"), 0, "{said}");
    }
    let address = address_in_log(&mut said.as_bytes());
    let process = Process {
        child,
        log: Some(log),
        address,
    };
    (process, said)
}

fn connect(process: &Process) -> Result<Client, String> {
    let mut client = process.connect();
    client.send("echo");
    match client.read() {
        answer if answer == "200 []" => Ok(client),
        answer => Err(answer),
    }
}

/// Connects until the server refuses.
fn fill(process: &Process) -> (Vec<Client>, String) {
    let mut clients = Vec::new();
    loop {
        match connect(process) {
            Ok(client) => clients.push(client),
            Err(refusal) => return (clients, refusal),
        }
    }
}

#[test]
fn it_serves_as_many_as_it_can_and_refuses_the_next() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = format!("--data-dir {}", directory.path().display());
    for flags in ["", &store] {
        let (mut process, said) = start_limited(flags);
        let (mut clients, refusal) = fill(&process);
        let count = clients.len();
        assert!((LIMIT / 4..LIMIT).contains(&count), "{count} were served");
        let told = format!("503 Too many connections: at most {count}");
        assert_eq!(refusal, told);
        let cause = format!("{LIMIT} open files has room for {count} of the 10000 connections");
        assert!(said.contains(&cause), "{said}");

        // More than it has descriptors for, none of which closes.
        let mut crowd: Vec<Client> = (0..2 * LIMIT).map(|_| process.connect()).collect();
        for client in &mut crowd {
            client.expect(&told);
        }
        let check = run(&["--check", &process.address.to_string()]);
        assert_eq!(check.status.code(), Some(0), "full is not sick");

        drop(clients.pop());
        clients[0].ask("lock k", "200 Acquired");
        let next = repeat_with(|| connect(&process)).find_map(Result::ok);
        next.expect("a place").ask("lock k", "409 Unavailable");
        process.signal("TERM");
        assert_eq!(process.exit_code(), Some(0));
        let mut rest = String::new();
        let log = process.log.as_mut().expect("a log");
        log.read_to_string(&mut rest).expect("text");
        assert!(!rest.contains("cannot accept"), "{rest}");
    }
}

/// One line, and no panic, since another try would not help.
#[test]
fn without_room_for_clients_it_does_not_start() {
    for (limit, says) in [
        ("-n 8", "cannot open as many files as a server needs"),
        ("-n 40", "the limit of 40 open files has room for "),
    ] {
        let (code, stderr) = run_limited(limit, "");
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
        let lines = stderr.lines().filter(|line| !line.contains("INFO")).count();
        assert_eq!(lines, 1, "{stderr}");
    }
}

#[test]
fn without_room_for_its_threads_it_does_not_start() {
    // Each has two megabytes of addresses for its stack.
    let (code, stderr) = run_limited("-v 1800000", "--threads 1024");
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.starts_with("elockd: cannot start: "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// The exit code of a server that cannot start under that limit, and what it says.
fn run_limited(limit: &str, flags: &str) -> (Option<i32>, String) {
    let limited = format!("ulimit {limit} && exec {ELOCKD} --listen 127.0.0.1:0 {flags}");
    let output = Command::new("sh").args(["-c", &limited]).output();
    let output = output.expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), stderr)
}
