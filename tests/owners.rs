//! Locks that are held by an owner word and by no session.

mod common;

use common::{Client, Server};

/// The number in the answer to `token`.
fn token(client: &mut Client, line: &str) -> u64 {
    client.send(line);
    let answer = client.read();
    let token = answer.strip_prefix("200 ").map(str::parse);
    token.expect("held").expect("a number")
}

#[test]
fn nothing_that_becomes_of_a_session_touches_an_owners_lock() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("set_timeout 0", "200 timeout set");
    a.ask("lock k 0 o 0", "200 Acquired");
    a.ask("lock_value v r 0 o 3600000", "200 Acquired");
    a.ask("lock_slot s 1 0 o 0", "200 Acquired");
    a.ask("unlock_all", "200 OK");
    let before = token(&mut a, "token k o");
    a.ask("quit", "200 Hey, it was nice seeing you.");
    a.expect_closed();
    for request in ["lock k", "lock v", "lock_slot s 1", "lock k 0 o 0"] {
        b.ask(request, "409 Unavailable");
    }
    assert_eq!(token(&mut b, "token k o"), before);
    for key in ["k", "v", "s"] {
        b.ask(format!("unlock {key} p"), "403 not_yours");
        b.ask(format!("unlock {key}"), "403 not_yours");
        b.ask(format!("unlock {key} o"), "200 Unlocked");
        b.ask(format!("unlock {key} o"), "403 not_locked");
        b.ask(format!("expire {key} 5 o"), "403 not_locked");
        b.ask(format!("token {key} o"), "403 not_locked");
    }
}

#[test]
fn a_session_with_owners_locks_may_become_another_and_they_stay() {
    let server = Server::start_with(|config| config.max_session_locks = 1);
    let (mut a, mut b) = (server.connect(), server.connect());
    let id = a.id();
    a.ask("lock own", "200 Acquired");
    b.ask("lock x 0 o 0", "200 Acquired");
    b.ask("lock y 0 o 0", "200 Acquired");
    b.ask("lock z", "200 Acquired");
    b.ask("lock w", "507 Too many locks in this session: at most 1");
    b.ask(format!("resume {id}"), "403 holds_locks");
    b.ask("unlock z", "200 Unlocked");
    b.ask(format!("resume {id}"), "200 Resumed");
    b.ask("unlock own", "200 Unlocked");
    b.ask("unlock x o", "200 Unlocked");
    b.ask("unlock y o", "200 Unlocked");
}

#[test]
fn a_lease_begins_with_the_grant_and_is_renewed_from_anywhere() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock k", "200 Acquired");
    b.send("lock k 3600 o 1");
    server.until_waiting(1);
    c.send("lock k 3600 p 3600000");
    server.until_waiting(2);
    a.ask("unlock k", "200 Unlocked");
    b.expect("200 Acquired");
    c.expect("200 Acquired");
    // An owner is not told that it had it once.
    b.ask("unlock k o", "403 not_yours");
    a.ask("expire k 1 p", "200 OK");
    b.ask("lock k 3600", "200 Acquired");
    a.ask("expire k 1 p", "403 not_yours");
}

#[test]
fn the_longest_hold_bounds_owners_too() {
    let server = Server::start_with(|config| config.max_hold_ms = 1);
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock k 0 o 0", "200 Acquired");
    b.ask("lock k 3600", "200 Acquired");
}

#[test]
fn whoever_waits_for_an_owner_and_leaves_leaves_nothing_behind() {
    let server = Server::start();
    let [mut a, b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock k 0 o 0", "200 Acquired");
    let mut b = b;
    b.send("lock k 3600 p 0");
    server.until_waiting(1);
    drop(b);
    server.until_waiting(0);
    a.ask("unlock k o", "200 Unlocked");
    c.ask("lock k", "200 Acquired");
}

#[test]
fn two_processes_in_opposite_order_are_a_deadlock_told_at_once() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock x 0 a 60000", "200 Acquired");
    b.ask("lock y 0 b 60000", "200 Acquired");
    a.send("lock y 30 a 60000");
    server.until_waiting(1);
    let circle = "423 Deadlock: #2 => x = #1 => y = #2";
    b.ask("lock x 30 b 60000", circle);
    b.ask("lock x 0 b 60000", circle);
    // It would wait for longer than the lease of x.
    b.ask("expire y 3600000 b", "200 OK");
    b.send("lock x 120 b 60000");
    server.until_waiting(2);
    let mut c = server.connect();
    c.ask("unlock x a", "200 Unlocked");
    b.expect("200 Acquired");
    c.ask("unlock y b", "200 Unlocked");
    a.expect("200 Acquired");
}

#[test]
fn a_process_that_is_gone_stands_for_nobody() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock x 0 a 0", "200 Acquired");
    a.send("lock x 3600");
    a.expect("423 Deadlock: #1 => x = #1");
    a.ask("set_timeout 0", "200 timeout set");
    drop(a);
    b.ask("lock y", "200 Acquired");
    b.send("lock x 3600");
    server.until_waiting(1);
    let mut c = server.connect();
    c.ask("break x", "200 Unlocked");
    b.expect("200 Acquired");
}

#[test]
fn break_frees_all_owners_and_no_session() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("break k", "403 not_locked");
    for owner in ["one", "two", "three"] {
        a.ask(format!("lock_value k r 0 {owner} 0"), "200 Acquired");
    }
    a.ask("lock_value k r", "200 Acquired");
    b.ask("break k", "403 not_yours");
    a.ask("unlock k", "200 Unlocked");
    c.send("lock k 3600 next 0");
    server.until_waiting(1);
    b.ask("break k", "200 Unlocked");
    c.expect("200 Acquired");
    // Whoever got it then keeps it.
    b.ask("token k one", "403 not_yours");
    assert!(token(&mut b, "token k next") > 0);
}

#[test]
fn promotion_and_demotion_are_for_owners_too() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("promote k o", "403 not_locked");
    a.ask("lock_value k r 0 o 0", "200 Acquired");
    let before = token(&mut a, "token k o");
    b.ask("promote k", "403 not_yours");
    b.ask("promote k o", "200 OK");
    b.ask("promote k o", "200 OK");
    b.ask("lock_value k r", "409 Unavailable");
    b.send("lock_value k r 3600");
    server.until_waiting(1);
    c.ask("demote k w o", "200 OK");
    c.ask("demote k r o", "409 Unavailable");
    c.ask("promote k o", "200 OK");
    c.ask("demote k r o", "200 OK");
    b.expect("200 Acquired");
    c.ask("promote k o", "409 Unavailable");
    assert_eq!(token(&mut a, "token k o"), before);
    a.ask("lock_slot s 3 0 o 0", "200 Acquired");
    a.ask("promote s o", "409 Unavailable");
    a.ask("demote s r o", "409 Unavailable");
}

#[test]
fn an_answer_that_was_overtaken_by_another_connection_is_not_given() {
    let server = Server::start();
    let mut a = server.connect();
    // In one packet: by its end the lock is not the owner's any more, by the client's own doing.
    a.send_raw("lock k 0 o 0\nunlock k o\nlock k 0 p 0\nbreak k\nlock k\n");
    for answer in [
        "200 Acquired",
        "200 Unlocked",
        "200 Acquired",
        "200 Unlocked",
        "200 Acquired",
    ] {
        a.expect(answer);
    }
}
