//! `lock_all`: several keys, all or none.

mod common;

use common::{Client, Server};

fn assert_free(client: &mut Client, keys: &[&str]) {
    for key in keys {
        client.ask(format!("lock {key}"), "200 Acquired");
        client.ask(format!("unlock {key}"), "200 Unlocked");
    }
}

#[test]
fn what_is_not_to_be_had_whole_is_not_had_at_all() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock m", "200 Acquired");
    b.ask("lock a", "200 Acquired");
    b.ask("lock_all 0 z m a m b", "409 Unavailable: m");
    b.ask("lock_all 0.01 z m a", "409 Unavailable: m");
    assert_free(&mut c, &["b", "z"]);
    c.ask("lock a", "409 Unavailable");
    a.ask("unlock m", "200 Unlocked");
    b.ask("lock_all 0 z m a", "200 Acquired");
    for key in ["a", "m", "z"] {
        b.ask(format!("unlock {key}"), "200 Unlocked");
    }
    b.ask("lock_value b r", "200 Acquired");
    b.ask("lock_all 5 a b c", "409 Unavailable: b");
    assert_free(&mut c, &["a", "c"]);
}

#[test]
fn it_waits_in_each_queue_and_holds_what_comes_before() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock b", "200 Acquired");
    b.send("lock_all 3600 c b a");
    server.until_waiting(1);
    c.ask("lock a", "409 Unavailable");
    c.ask("lock c", "200 Acquired");
    a.ask("unlock b", "200 Unlocked");
    server.until_waiting(1);
    c.ask("unlock c", "200 Unlocked");
    b.expect("200 Acquired");
    for key in ["a", "b", "c"] {
        c.ask(format!("lock {key}"), "409 Unavailable");
    }
}

#[test]
fn whoever_leaves_in_the_middle_gives_everything_back() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock b", "200 Acquired");
    let id = b.id();
    b.ask("lock own", "200 Acquired");
    b.send("lock_all 3600 a b c");
    server.until_waiting(1);
    let mut d = server.connect();
    d.ask(format!("resume {id}"), "200 Resumed");
    b.expect_closed();
    server.until_waiting(0);
    assert_free(&mut c, &["a", "c"]);
    // What it held before is the session's still.
    d.ask("unlock own", "200 Unlocked");
    d.send("lock_all 3600 a b c");
    server.until_waiting(1);
    drop(d);
    server.until_waiting(0);
    assert_free(&mut c, &["a", "c"]);
}

#[test]
fn a_deadlock_with_single_locks_is_told_and_nothing_is_kept() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock b", "200 Acquired");
    b.ask("lock y", "200 Acquired");
    a.send("lock y 3600");
    server.until_waiting(1);
    let circle = "423 Deadlock: #2 => b = #1 => y = #2";
    b.ask("lock_all 3600 a b", circle);
    b.ask("lock_all 0 a b", circle);
    assert_free(&mut c, &["a"]);
    // One that holds a part of its keys is a holder like any.
    b.ask("unlock y", "200 Unlocked");
    a.expect("200 Acquired");
    b.send("lock_all 3600 a b");
    server.until_waiting(1);
    a.ask("lock a 3600", "423 Deadlock: #1 => a = #2 => b = #1");
}

#[test]
fn the_bounds_hold_and_a_full_one_keeps_nothing() {
    let server = Server::start_with(|config| {
        config.max_request_keys = 3;
        config.max_session_locks = 2;
    });
    let (mut a, mut b) = (server.connect(), server.connect());
    let too_many = "507 Too many keys in one request: at most 3";
    a.ask("lock_all 0 a b c d", too_many);
    a.ask(
        "lock_all 0 a b c c",
        "507 Too many locks in this session: at most 2",
    );
    assert_free(&mut b, &["a", "b", "c"]);
    a.ask("lock_all 0 a b a b a", "200 Acquired");
}

#[test]
fn every_lease_begins_when_all_are_held() {
    let server = Server::start_with(|config| config.max_hold_ms = 1);
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock_all 5 a b", "200 Acquired");
    for key in ["a", "b"] {
        b.ask(format!("lock {key} 3600"), "200 Acquired");
        a.ask(format!("unlock {key}"), "403 expired");
    }
}

#[test]
fn what_is_unlocked_in_the_same_packet_was_held_until_then() {
    let server = Server::start_with(|config| config.max_hold_ms = 3_600_000);
    let mut a = server.connect();
    a.send_raw("lock_all 0 a b\nunlock b\nlock_all 0 a b\nunlock_all\n");
    for answer in ["200 Acquired", "200 Unlocked", "200 Acquired", "200 OK"] {
        a.expect(answer);
    }
}

/// Many clients, each with its keys in an order of its own, all of which come to their end.
#[test]
fn requests_for_several_keys_never_wait_for_each_other_in_a_circle() {
    let server = Server::start();
    let clients = (0..12).map(|number| {
        let mut client = server.connect();
        std::thread::spawn(move || {
            let mut keys = ["a", "b", "c", "d"];
            for round in 0..50 {
                keys.rotate_left((number + round) % 4);
                let picked = &keys[..2 + (number + round) % 3];
                client.ask(
                    format!("lock_all 3600 {}", picked.join(" ")),
                    "200 Acquired",
                );
                client.ask("unlock_all", "200 OK");
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for client in clients {
        client.join().expect("no client was refused");
    }
}

#[test]
fn a_key_that_was_its_own_and_is_lost_meanwhile_is_taken_again() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock p2", "200 Acquired");
    a.ask("expire p2 1", "200 OK");
    b.ask("lock p3", "200 Acquired");
    b.send("watch p2");
    let held = b.read();
    a.send("lock_all 3600 p1 p2 p3");
    server.until_waiting(1);
    if let Some(token) = held
        .strip_prefix("200 ")
        .and_then(|rest| rest.split(' ').next())
    {
        b.send(format!("watch p2 {token} 3600"));
        b.read();
    }
    b.ask("unlock p3", "200 Unlocked");
    a.expect("200 Acquired");
    for key in ["p1", "p2", "p3"] {
        b.ask(format!("lock {key}"), "409 Unavailable");
    }
}
