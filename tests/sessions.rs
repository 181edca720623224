//! The life of a session: disconnects of every kind, the grace period, resuming.

mod common;

use common::{Client, Server};

fn sessions(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| line.strip_prefix("SESSION "))
        .collect()
}

/// Waits until the server has noticed that session `number` has no connection.
fn until_disconnected(server: &Server, number: u64) {
    let id = format!("{{\"id\":{number},");
    server.until(&format!("the end of #{number}'s connection"), |lines| {
        !sessions(lines)
            .iter()
            .any(|session| session.starts_with(&id) && session.contains("\"connected\":true"))
    });
}

#[test]
fn a_session_is_resumed_with_its_locks_and_its_timeout() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    let id = a.id();
    a.ask("set_timeout 86400000", "200 timeout set");
    a.ask("lock k", "200 Acquired");
    a.ask("lock_value s v", "200 Acquired");
    drop(a);
    until_disconnected(&server, 1);
    b.ask("lock k", "409 Unavailable");
    b.ask("set_timeout 0", "200 timeout set");
    b.ask(format!("conn_id {id}"), "200 conn id set");
    assert_eq!(b.id(), id);
    b.ask("lock k", "200 Acquired");
    b.ask("unlock k", "200 Unlocked");
    let lines = b.ask_list("debug");
    assert_eq!(
        lines[1].find("{\"id\":1,\"disposeTimeout\":86400000,\"connected\":true"),
        Some("SESSION ".len())
    );
    // The connection through which the test saw A go may still be there.
    let is_gone = !sessions(&lines)
        .iter()
        .any(|session| session.starts_with("{\"id\":2,"));
    assert!(is_gone, "the old session 2 is gone: {lines:?}");
    let locks: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("LOCK "))
        .collect();
    assert_eq!(locks.len(), 1, "{lines:?}");
    assert!(
        locks[0].starts_with("LOCK s #1 (v) waiters=0 "),
        "{lines:?}"
    );
}

#[test]
fn ones_own_id_can_always_be_set() {
    let server = Server::start();
    let mut a = server.connect();
    a.ask("lock k", "200 Acquired");
    let id = a.id();
    a.ask(format!("conn_id {id}"), "200 conn id set");
    a.ask("unlock k", "200 Unlocked");
}

#[test]
fn an_id_that_cannot_be_resumed_is_refused() {
    const REFUSED: &str = "403 cannot set conn id";
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    let (connected, ended, held) = (a.id(), b.id(), c.id());
    a.ask("lock mine", "200 Acquired");
    b.ask("set_timeout 0", "200 timeout set");
    drop((b, c));
    until_disconnected(&server, 2);
    until_disconnected(&server, 3);
    let mut d = server.connect();
    for id in [
        "1",
        "2",
        "3",
        "x",
        "3-0",
        "99-00000000000000000000000000000000",
        ended.as_str(),
    ] {
        d.ask(format!("conn_id {id}"), REFUSED);
    }
    let is_connected = format!("{REFUSED}: still connected");
    d.ask(format!("conn_id {connected}"), &is_connected);
    a.ask(
        format!("conn_id {held}"),
        &format!("{REFUSED}: this session holds a lock"),
    );
    a.ask("unlock mine", "200 Unlocked");
    a.ask(format!("conn_id {held}"), "200 conn id set");
    d.ask(format!("conn_id {held}"), &is_connected);
}

#[test]
fn of_many_who_resume_one_session_at_once_one_succeeds() {
    let server = Server::start();
    let mut owner = server.connect();
    let id = owner.id();
    drop(owner);
    until_disconnected(&server, 1);
    let mut rivals: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    for rival in &mut rivals {
        rival.send(format!("conn_id {id}"));
    }
    let won = rivals
        .iter_mut()
        .map(Client::read)
        .filter(|answer| answer == "200 conn id set")
        .count();
    assert_eq!(won, 1);
}

#[test]
fn every_kind_of_disconnect_starts_the_grace_period() {
    let server = Server::start();
    let ends: [fn(Client); 4] = [
        drop,
        Client::reset,
        |mut client| {
            client.half_close();
            client.expect_closed();
        },
        |mut client| {
            client.send("quit");
            client.drains_to_the_end();
        },
    ];
    let mut observer = server.connect();
    for (index, end) in ends.into_iter().enumerate() {
        let number = index as u64 + 2;
        let mut client = server.connect();
        client.ask(format!("lock k{index}"), "200 Acquired");
        end(client);
        observer.until("the grace period", |lines| {
            let begin = format!("{{\"id\":{number},\"disposeTimeout\":30000,\"connected\":false,");
            sessions(lines)
                .iter()
                .any(|session| session.starts_with(&begin))
        });
        observer.ask(format!("lock k{index}"), "409 Unavailable");
    }
}

#[test]
fn without_a_timeout_a_disconnect_frees_at_once() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("set_timeout 0", "200 timeout set");
    a.ask("lock k", "200 Acquired");
    b.send("lock k 3600");
    server.until_waiting(1);
    drop(a);
    b.expect("200 Acquired");
}

#[test]
fn a_session_that_nobody_could_resume_and_that_holds_nothing_leaves_at_once() {
    let server = Server::start();
    drop(server.connect());
    server.until("its end", |lines| sessions(lines).len() == 1);
    let mut asked = server.connect();
    let _ = asked.id();
    drop(asked);
    until_disconnected(&server, 3);
    server.until("its grace", |lines| {
        sessions(lines)
            .iter()
            .any(|session| session.starts_with("{\"id\":3,"))
    });
}

#[test]
fn waiters_are_served_in_the_order_in_which_they_came() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock k", "200 Acquired");
    let mut waiters: Vec<Client> = Vec::new();
    for count in 1..=100 {
        let mut client = server.connect();
        client.send("lock k 3600");
        server.until_waiting(count);
        waiters.push(client);
    }
    holder.ask("unlock k", "200 Unlocked");
    for (index, waiter) in waiters.iter_mut().enumerate() {
        waiter.expect("200 Acquired");
        holder.ask("lock k", "409 Unavailable");
        let waiting = holder
            .ask_list("debug")
            .iter()
            .filter(|line| line.starts_with("REQUEST "))
            .count();
        assert_eq!(waiting, 99 - index, "one at a time");
        waiter.ask("unlock k", "200 Unlocked");
    }
}

#[test]
fn when_the_last_shared_holder_leaves_all_with_the_next_value_come_in() {
    let server = Server::start();
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    let mut count = 0;
    let mut wait = |client: &mut Client, line: &str| {
        client.send(line);
        count += 1;
        server.until_waiting(count);
    };
    let [a, b, c, d, e, f] = &mut clients[..] else {
        panic!("six clients")
    };
    a.ask("lock_value k 1", "200 Acquired");
    b.ask("lock_value k 1", "200 Acquired");
    wait(c, "lock_value k 2 3600");
    wait(d, "lock k 3600");
    wait(e, "lock_value k 2 3600");
    f.ask("lock_value k 1", "409 Unavailable");
    for holder in [a, b] {
        holder.ask("unlock k", "200 Unlocked");
    }
    c.expect("200 Acquired");
    e.expect("200 Acquired");
    server.until_waiting(1);
    c.ask("unlock k", "200 Unlocked");
    e.ask("unlock k", "200 Unlocked");
    d.expect("200 Acquired");
}
