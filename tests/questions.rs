//! What the server says about itself: `watch`, `name`, `info`, `locks`, `sessions`.

mod common;

use common::{Client, Server};

fn info(client: &mut Client, name: &str) -> u64 {
    let lines = client.ask_list("info");
    let value = lines.iter().find_map(|line| line.strip_prefix(name));
    let value = value.expect("a line").trim_start();
    value.parse().expect("a number")
}

#[test]
fn one_release_lets_all_watchers_go() {
    let server = Server::start();
    let mut a = server.connect();
    a.ask("lock k", "200 Acquired");
    a.send("token k");
    let token = a.read().strip_prefix("200 ").expect("held").to_owned();
    let mut watchers: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    for watcher in &mut watchers {
        watcher.send(format!("watch k {token} 3600"));
    }
    let mut other = server.connect();
    other.send(format!("watch k {token} 0.01"));
    other.expect(&format!("200 {token} held by #1"));
    a.ask("unlock k", "200 Unlocked");
    for watcher in &mut watchers {
        watcher.expect("200 free");
        watcher.send("watch k free 3600");
    }
    other.ask("lock_value k r 0 o/1 0", "200 Acquired");
    for watcher in &mut watchers {
        let answer = watcher.read();
        assert!(answer.ends_with(" held by @o/1"), "{answer}");
    }
}

#[test]
fn the_state_of_a_shared_lock_is_its_lowest_token() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock_value k r", "200 Acquired");
    b.ask("lock_value k r", "200 Acquired");
    c.send("watch k");
    let first = c.read();
    assert!(first.ends_with(" held by #1"), "{first}");
    let token = first.split(' ').nth(1).expect("a token");
    c.send(format!("watch k {token} 3600"));
    a.ask("unlock k", "200 Unlocked");
    let next = c.read();
    assert!(next.ends_with(" held by #2"), "{next}");
    c.send("watch k free");
    c.expect(&next);
    for state in ["", "FREE", "-1", "1.0"] {
        let line = format!("watch k {state} 1");
        let answer = format!("400 Bad state: \"{state}\" is neither free nor a token");
        match state {
            "" => c.ask("watch k  1", &next),
            _ => c.ask(line, &answer),
        }
    }
}

#[test]
fn a_watch_ends_with_its_connection_a_stop_and_too_much_sent_ahead() {
    let server = Server::start_with(|config| config.max_ahead = 64);
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.send("watch k free 3600\necho");
    a.send("x".repeat(100));
    a.expect("507 Too much sent ahead: at most 64 bytes");
    a.expect("200 []");
    b.send("watch k free 3600");
    b.half_close();
    b.expect("200 free");
    b.expect_closed();
    c.send("watch k free 3600");
    let mut observer = server.connect();
    while info(&mut observer, "watchers") == 0 {
        std::thread::yield_now();
    }
    drop(server);
    c.expect("503 Shutting down");
}

#[test]
fn a_name_is_shown_wherever_the_number_is() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("name web-3:cron", "200 OK");
    b.ask(r#"name "q"\"#, "200 OK");
    b.ask(
        format!("name {}", "x".repeat(129)),
        "400 Name too long: at most 128 bytes",
    );
    a.ask("lock k", "200 Acquired");
    b.send("lock k 3600");
    server.until_waiting(1);
    let debug = a.ask_list("debug");
    assert!(debug[1].contains(r#","name":"web-3:cron"}"#), "{debug:?}");
    assert!(debug[2].contains(r#","name":"\"q\"\\"}"#), "{debug:?}");
    let locks = a.ask_list("locks");
    assert!(
        locks[1].contains(r#""session":1,"name":"web-3:cron","token""#),
        "{locks:?}"
    );
    assert!(
        locks[1].contains(r#""waiting":[{"session":2,"name":"\"q\"\\","#),
        "{locks:?}"
    );
    let sessions = a.ask_list("sessions 1");
    assert!(
        sessions[1].contains(r#""session":2,"name":"\"q\"\\","#),
        "{sessions:?}"
    );
    assert!(
        sessions[1].contains(r#","waits_for":"k","waited_ms":"#),
        "{sessions:?}"
    );
}

#[test]
fn a_listing_is_in_order_and_goes_on_behind_its_last_word() {
    let server = Server::start();
    let mut a = server.connect();
    let keys: Vec<String> = (0..2_500).map(|number| format!("k{number:04}")).collect();
    for some in keys.chunks(500) {
        let lines: String = some.iter().map(|key| format!("lock {key}\n")).collect();
        a.send_raw(lines);
        some.iter().for_each(|_| a.expect("200 Acquired"));
    }
    a.ask("lock other", "200 Acquired");
    let (mut seen, mut request) = (Vec::new(), "locks k".to_owned());
    loop {
        let lines = a.ask_list(&request);
        assert_eq!(lines[0], "200 LOCKS");
        assert!(lines.len() <= 1 + 1000 + 1);
        let next = lines.last().and_then(|line| line.strip_prefix("NEXT "));
        request = format!("locks k {}", next.unwrap_or_default());
        let key = |line: &String| Some(line.split('"').nth(3)?.to_owned());
        let locks = lines.iter().filter(|line| line.starts_with("LOCK "));
        seen.extend(locks.filter_map(key));
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen, keys);
    assert_eq!(a.ask_list("locks nothing"), ["200 LOCKS"]);
    assert_eq!(a.ask_list("locks * k2499").len(), 2);
}

#[test]
fn keys_of_any_bytes_are_listed_and_found_again() {
    let server = Server::start();
    let mut a = server.connect();
    let mut odd: Vec<Vec<u8>> = [
        &b"\\"[..],
        b"\\x41",
        b"\r\x07",
        b"\xff\xfe",
        b"*",
        b"\"\\\"",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    for key in &odd {
        a.ask([b"lock ", &key[..]].concat(), "200 Acquired");
    }
    odd.sort_unstable();
    // Each is found behind the one before it, by a word as NEXT would give it.
    let word = |key: &[u8]| -> String {
        let escaped = key.iter().map(|byte| format!("\\x{byte:02x}"));
        escaped.collect()
    };
    for (index, key) in odd.iter().enumerate() {
        let found = a.ask_list(&format!("locks {}", word(key)));
        let begin_so = odd.iter().filter(|other| other.starts_with(key));
        assert_eq!(found.len(), 1 + begin_so.count(), "{found:?}");
        let behind = a.ask_list(&format!("locks * {}", word(key)));
        assert_eq!(behind.len(), odd.len() - index, "{behind:?}");
    }
    let all = a.ask_list("locks");
    let with_base64 = all.iter().filter(|line| line.contains("key_base64"));
    assert_eq!(with_base64.count(), 3, "{all:?}");
    assert!(
        all.iter()
            .any(|line| line.contains(r#""key":"\\xFF\\xFE","key_base64":"//4=""#))
    );
}

#[test]
fn what_happened_is_counted() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock x", "200 Acquired");
    b.ask("lock y", "200 Acquired");
    b.ask("lock x", "409 Unavailable");
    b.ask("lock x 0.01", "409 Unavailable");
    a.send("lock y 3600");
    server.until_waiting(1);
    b.ask("lock x 5", "423 Deadlock: #2 => x = #1 => y = #2");
    assert_eq!(info(&mut c, "waiters"), 1);
    b.ask("unlock y", "200 Unlocked");
    a.expect("200 Acquired");
    let id = a.id();
    c.ask(format!("resume {id}"), "200 Resumed");
    a.expect_closed();
    for (name, count) in [
        ("grants", 3),
        ("hand_overs", 1),
        ("refusals", 2),
        ("timeouts", 1),
        ("deadlocks", 1),
        ("take_overs", 1),
        ("resumes", 0),
        ("locks", 2),
        ("lease_ends", 0),
    ] {
        assert_eq!(info(&mut c, name), count, "{name}");
    }
}

#[test]
fn no_answer_shows_a_secret() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    let id = a.id();
    let secret = id.split('-').nth(1).expect("a secret");
    a.ask("lock k", "200 Acquired");
    for request in ["locks", "sessions", "debug", "info"] {
        let lines = b.ask_list(request);
        assert!(lines.iter().all(|line| !line.contains(secret)), "{lines:?}");
    }
}

/// However many clients do not read what they asked for, an operator is answered.
#[test]
fn whoever_does_not_read_a_listing_keeps_no_other_from_one() {
    let server = Server::start_with(|config| config.max_unsent = 1);
    let mut a = server.connect();
    let long = "k".repeat(600);
    let lines: String = (0..900)
        .map(|number| format!("lock {long}{number}\n"))
        .collect();
    a.send_raw(lines);
    (0..900).for_each(|_| a.expect("200 Acquired"));
    let mut idle: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut idle {
        socket2::SockRef::from(client.socket())
            .set_recv_buffer_size(4096)
            .expect("a socket");
        client.send("locks\nlocks\nlocks\nlocks\nlocks\nlocks\nlocks\nlocks\nlocks\nlocks");
        client.send("debug");
    }
    assert_eq!(a.ask_list("locks").len(), 901);
    assert!(a.ask_list("sessions").len() > 20);
}
