//! Each bound, reached: a clear answer, and the session goes on.

mod common;

use std::io::Write;
use std::net::Shutdown;
use std::time::Instant;

use common::{Client, Server};

#[test]
fn locks_of_one_session() {
    let server = Server::start_with(|config| config.max_session_locks = 2);
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock x", "200 Acquired");
    a.ask("lock_value y v", "200 Acquired");
    b.ask("lock_value z v", "200 Acquired");
    const FULL: &str = "507 Too many locks in this session: at most 2";
    for request in ["lock w", "lock_value z v", "lock z 3600"] {
        a.ask(request, FULL);
    }
    a.ask("lock z", "409 Unavailable");
    a.ask("lock x", "200 Acquired");
    a.ask("unlock x", "200 Unlocked");
    a.ask("lock_value z v", "200 Acquired");
}

#[test]
fn locks_in_all() {
    let server = Server::start_with(|config| config.max_locks = 2);
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock x", "200 Acquired");
    b.ask("lock_value y v", "200 Acquired");
    a.ask(
        "lock z 3600",
        "507 Too many locks in this server: at most 2",
    );
    a.ask("unlock x", "200 Unlocked");
    b.ask("lock z", "200 Acquired");
}

#[test]
fn every_holder_of_a_shared_lock_and_every_waiter_counts_among_the_locks_in_all() {
    const FULL: &str = "507 Too many locks in this server: at most 3";
    let server = Server::start_with(|config| config.max_locks = 3);
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock_value x v", "200 Acquired");
    b.ask("lock_value x v", "200 Acquired");
    c.send("lock x 3600");
    server.until_waiting(1);
    a.ask("lock y", FULL);
    a.ask("lock x", "409 Unavailable");
    a.ask("unlock x", "200 Unlocked");
    a.ask("lock y", "200 Acquired");
    a.ask("lock_value x v 3600", FULL);
    b.ask("unlock x", "200 Unlocked");
    c.expect("200 Acquired");
    b.ask("lock z", "200 Acquired");
    b.ask("lock x 3600", FULL);
}

#[test]
fn waiters_of_one_key() {
    let server = Server::start_with(|config| config.max_key_waiters = 1);
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock x", "200 Acquired");
    b.send("lock x 3600");
    server.until_waiting(1);
    c.ask(
        "lock x 3600",
        "507 Too many waiters for this key: at most 1",
    );
    c.ask("lock x", "409 Unavailable");
    a.ask("unlock x", "200 Unlocked");
    b.expect("200 Acquired");
    c.send("lock x 3600");
    server.until_waiting(1);
    b.ask("unlock x", "200 Unlocked");
    c.expect("200 Acquired");
}

#[test]
fn sessions_in_their_grace_period() {
    let server = Server::start_with(|config| config.max_grace_sessions = 1);
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock a", "200 Acquired");
    b.ask("lock b", "200 Acquired");
    for client in [a, b] {
        let mut client = client;
        client.send("quit");
        assert!(client.drains_to_the_end());
    }
    c.ask("lock a", "409 Unavailable");
    c.ask("lock b", "200 Acquired");
}

/// Connects again and again: a place is free only once the server has noticed that someone left.
fn connect_when_free(server: &Server) -> Client {
    loop {
        let mut client = Client::connect(server.address);
        client.send("echo");
        if client.read() == "200 []" {
            return client;
        }
    }
}

#[test]
fn connections() {
    let server = Server::start_with(|config| config.max_connections = 2);
    let mut a = server.connect();
    let b = server.connect();
    let mut refused: Vec<Client> = (0..200).map(|_| Client::connect(server.address)).collect();
    for client in &mut refused {
        client.expect("503 Too many connections: at most 2");
        client.expect_closed();
    }
    a.ask("lock k", "200 Acquired");
    drop(b);
    let mut next = connect_when_free(&server);
    next.ask("lock k", "409 Unavailable");
}

#[test]
fn a_session_in_its_grace_period_takes_no_connection() {
    let server = Server::start_with(|config| config.max_connections = 1);
    for index in 0..5 {
        let mut client = connect_when_free(&server);
        client.ask(format!("lock k{index}"), "200 Acquired");
    }
    let mut last = connect_when_free(&server);
    assert_eq!(
        last.ask_list("stats")[1..],
        ["STAT clients 1", "STAT locks 5", "STAT monitoring 6"]
    );
}

#[test]
fn the_line() {
    let server = Server::start_with(|config| config.max_line = 64);
    let mut a = server.connect();
    a.ask("x".repeat(65), "413 Line too long: at most 64 bytes");
    a.ask(format!("lock {}", "x".repeat(59)), "200 Acquired");
}

#[test]
fn answers_that_a_client_does_not_read() {
    let server = Server::start_with(|config| {
        config.max_unsent = 4096;
        config.unsent_timeout_ms = 200;
    });
    let mut a = server.connect();
    let mut b = server.connect();
    a.ask("set_timeout 0", "200 timeout set");
    a.ask("lock k", "200 Acquired");
    b.send("lock k 3600");
    server.until_waiting(1);
    // The server stops reading once its answers do not get through, so writing fails or blocks in
    // the end; a helper does that, while the lock is freed by the end of the connection.
    let mut writer = a.socket().try_clone().expect("a socket");
    let flood =
        std::thread::spawn(move || while writer.write_all(&b"help\n".repeat(10_000)).is_ok() {});
    b.expect("200 Acquired");
    b.ask("echo still here", r#"200 ["still","here"]"#);
    drop(a);
    flood.join().expect("no panic");
}

#[test]
fn a_slow_reader_gets_everything() {
    let server = Server::start_with(|config| config.max_unsent = 1);
    let mut a = server.connect();
    let mut keys = String::new();
    for index in 0..5_000 {
        keys.push_str(&format!("lock {index:040}\n"));
    }
    let mut writer = a.socket().try_clone().expect("a socket");
    let sender = std::thread::spawn(move || writer.write_all((keys + "debug\n").as_bytes()));
    for _ in 0..5_000 {
        a.expect("200 Acquired");
    }
    let mut lines = 0;
    while a.read() != "END" {
        lines += 1;
    }
    assert_eq!(lines, 1 + 1 + 5_000);
    sender
        .join()
        .expect("no panic")
        .expect("everything is sent");
}

/// As many as come in one go: what one connection may not have, the next one may not have either.
#[test]
fn commands_of_an_address_in_a_second() {
    const TOO_MANY: &str = "507 Too many commands of this address: at most 2 a second";
    let server = Server::start_with(|config| config.max_address_commands = 2);
    let begin = Instant::now();
    let (mut done, mut refused) = (0, 0);
    for _ in 0..20 {
        let mut client = Client::connect(server.address);
        client.send("echo\n".repeat(9) + "echo");
        let ended = client.socket().shutdown(Shutdown::Write);
        ended.expect("the connection stands");
        for _ in 0..10 {
            match client.read().as_str() {
                TOO_MANY => refused += 1,
                answer => {
                    assert_eq!(answer, "200 []");
                    done += 1;
                }
            }
        }
        client.expect_closed();
    }
    assert_eq!(done + refused, 200);
    assert!(done <= 2 + 2 * (begin.elapsed().as_secs() + 1), "{done}");
}
