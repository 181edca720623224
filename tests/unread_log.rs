//! A log whose reader stands still holds up nobody.

mod common;

use std::process::Command;
use std::thread::Builder;

use common::process::Process;
use common::{Client, next_line_with};
use elock::log::{Log, LogFormat};

/// Makes a server at level trace log some 16 MB: more than its log may take of memory, by far.
fn talk(process: &Process) -> Vec<Client> {
    let key = "k".repeat(4_000);
    let mut clients: Vec<Client> = (0..400).map(|_| process.connect()).collect();
    for client in &mut clients {
        client.send_raw(format!("lock {key}\nunlock {key}\n").repeat(5));
        for _ in 0..5 {
            client.expect("200 Acquired");
            client.expect("200 Unlocked");
        }
    }
    clients
}

#[test]
fn everybody_is_answered_and_a_stop_ends_while_nobody_reads_the_log() {
    let mut process = Process::start(&["--log", "trace"]);
    let clients = talk(&process);
    process.signal("TERM");
    for mut client in clients {
        client.expect_closed();
    }
    assert_eq!(process.exit_code(), Some(0));
}

#[test]
fn lines_that_were_dropped_are_counted_in_the_log_once_it_is_read_again() {
    let mut process = Process::start(&["--log", "trace"]);
    let mut clients = talk(&process);
    let line = next_line_with(process.log.as_mut().expect("a log"), "were dropped");
    let mut words = line.split_once(" log lines").expect(&line).0.split(' ');
    let count: u64 = words.next_back().expect("a word").parse().expect(&line);
    assert!(line.contains("ERROR") && count > 1_000, "{line}");
    clients[0].ask("lock it-goes-on", "200 Acquired");
    process.until_logged("lock it-goes-on");
}

#[test]
fn a_panic_is_a_line_of_the_log_and_that_of_the_main_thread_ends_the_process() {
    let output = Command::new(std::env::current_exe().expect("a file"))
        .args(["--ignored", "--exact", "panics", "--nocapture"])
        .output()
        .expect("it runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    for name in ["other", "main"] {
        let told =
            |line: &str| line.contains("ERROR") && line.contains(&format!("{name} on purpose"));
        assert!(log.lines().any(told), "{log}");
    }
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
}

#[test]
#[ignore = "another test runs it, in a process of its own"]
fn panics() {
    let filter = "info".parse().expect("a filter");
    let _log = Log::start(&filter, LogFormat::Json).expect("a thread");
    // No test has the main thread, which is known by its name.
    for name in ["other", "main"] {
        let thread = Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || panic!("{name} on purpose"));
        thread.expect("a thread").join().expect_err("a panic");
    }
}
