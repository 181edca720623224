//! A stop of the server while clients wait. It is nobody's disconnect, and nothing is granted any
//! more, in whatever order the connections learn of it.

mod common;

use common::process::Process;

/// How many wait, each of which would have the lock for no longer than its connection.
const WAITERS: usize = 3;

/// The holder, too, wants no grace period: the end of its connection would free the lock.
fn stop_while_clients_wait(flags: &[&str]) {
    let mut process = Process::start(flags);
    let mut clients: Vec<_> = (0..=WAITERS).map(|_| process.connect()).collect();
    for client in &mut clients {
        client.ask("set_timeout 0", "200 timeout set");
    }
    clients[0].ask("lock k", "200 Acquired");
    for waiter in &mut clients[1..] {
        waiter.send("lock k 3600");
    }
    clients[0].until("all wait", |lines| {
        let waiting = lines.iter().filter(|line| line.starts_with("REQUEST "));
        waiting.count() == WAITERS
    });
    process.signal("TERM");
    for waiter in &mut clients[1..] {
        waiter.expect("503 Shutting down");
        waiter.expect_closed();
    }
    clients[0].expect_closed();
    assert_eq!(process.exit_code(), Some(0));
}

#[test]
fn nobody_who_waits_gets_the_lock_when_the_server_stops() {
    for _ in 0..15 {
        stop_while_clients_wait(&[]);
    }
}

#[cfg(feature = "store")]
#[test]
fn nor_from_a_server_with_a_store() {
    for _ in 0..15 {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_str().expect("a name");
        stop_while_clients_wait(&["--data-dir", path]);
        // What was held is held on disk, and its session without a grace period ends at the start.
        let process = Process::start(&["--data-dir", path]);
        process.connect().ask("lock k 60", "200 Acquired");
    }
}
