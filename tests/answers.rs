//! What the server answers, byte for byte: each command and each kind of bad input.

mod common;

use common::{Client, Server};
use elock::config::Compat;

#[test]
fn lock_and_unlock() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock k", "200 Acquired");
    a.ask("lock k", "200 Acquired");
    a.ask("lock k 5", "200 Acquired");
    b.ask("lock k", "409 Unavailable");
    b.ask("lock k 0", "409 Unavailable");
    b.ask("lock k 0.01", "409 Unavailable");
    b.ask("unlock k", "403 not_yours");
    a.ask("unlock k", "200 Unlocked");
    a.ask("unlock k", "403 not_locked");
    b.ask("unlock k", "403 not_locked");
    b.ask("lock k", "200 Acquired");
}

#[test]
fn locking_ones_own_lock_again_is_not_counted() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock k", "200 Acquired");
    a.ask("lock k", "200 Acquired");
    a.ask("unlock k", "200 Unlocked");
    b.ask("lock k", "200 Acquired");
}

#[test]
fn unlock_all_frees_what_the_session_holds_and_nothing_else() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock x", "200 Acquired");
    a.ask("lock_value y v", "200 Acquired");
    b.ask("lock z", "200 Acquired");
    a.ask("unlock_all", "200 OK");
    a.ask("unlock_all", "200 OK");
    b.ask("lock x", "200 Acquired");
    b.ask("lock y", "200 Acquired");
    a.ask("lock z", "409 Unavailable");
}

/// The answer to `token`, as a number.
fn token(client: &mut Client, key: &str) -> u64 {
    client.send(format!("token {key}"));
    let answer = client.read();
    answer
        .strip_prefix("200 ")
        .and_then(|token| token.parse().ok())
        .expect("a token")
}

#[test]
fn every_grant_has_a_token_larger_than_all_before() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("token k", "403 not_locked");
    a.ask("lock k", "200 Acquired");
    b.ask("token k", "403 not_yours");
    let first = token(&mut a, "k");
    a.ask("lock k", "200 Acquired");
    assert_eq!(token(&mut a, "k"), first, "the same lock");
    a.ask("lock_value s v", "200 Acquired");
    b.ask("lock_value s v", "200 Acquired");
    let (second, third) = (token(&mut a, "s"), token(&mut b, "s"));
    assert!(first < second && second < third);
    b.send("lock k 3600");
    server.until_waiting(1);
    a.ask("unlock k", "200 Unlocked");
    b.expect("200 Acquired");
    let fourth = token(&mut b, "k");
    assert!(third < fourth);
    let lines = a.ask_list("debug");
    assert!(
        lines.contains(&format!("LOCK k #2 waiters=0 token={fourth}")),
        "{lines:?}"
    );
    assert!(
        lines.contains(&format!(
            "LOCK s #1, #2 (v) waiters=0 token={second},{third}"
        )),
        "{lines:?}"
    );
    drop((a, b, server));
    let later = Server::start();
    let mut c = later.connect();
    c.ask("lock k", "200 Acquired");
    assert!(token(&mut c, "k") > fourth, "also those of the next server");
}

#[test]
fn only_a_holder_can_set_a_lease() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("expire k 1000", "403 not_locked");
    a.ask("lock k", "200 Acquired");
    b.ask("expire k 1000", "403 not_yours");
    a.ask("expire k 99999999999999999999", "200 OK");
    a.ask("expire k 0", "200 OK");
    b.send("lock k 3600");
    server.until_waiting(1);
    // In one packet: there is no moment in which the lock could stay for ever.
    a.send_raw("lock other\nexpire other 1\nexpire k 1\n");
    for answer in ["200 Acquired", "200 OK", "200 OK"] {
        a.expect(answer);
    }
    b.expect("200 Acquired");
    b.ask("lock other 3600", "200 Acquired");
    a.ask("unlock k", "403 expired");
}

#[test]
fn a_key_can_be_shared_by_value() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock_value k v", "200 Acquired");
    b.ask("lock_value k v", "200 Acquired");
    b.ask("lock_value k v 5", "200 Acquired");
    c.ask("lock_value k w", "409 Unavailable");
    c.ask("lock_value k w 0.01", "409 Unavailable");
    c.ask("lock k", "409 Unavailable");
    c.ask("unlock k", "403 not_yours");
    a.ask("unlock k", "200 Unlocked");
    c.ask("lock_value k w", "409 Unavailable");
    b.ask("unlock k", "200 Unlocked");
    c.ask("lock_value k w", "200 Acquired");
}

#[test]
fn a_key_held_in_another_way_is_refused_at_once_even_with_a_wait() {
    let server = Server::start();
    let mut a = server.connect();
    a.ask("lock_value v 1", "200 Acquired");
    a.ask("lock_value v 2 3600", "409 Unavailable");
    a.ask("lock v 3600", "409 Unavailable");
    a.ask("lock x", "200 Acquired");
    a.ask("lock_value x 1 3600", "409 Unavailable");
}

#[test]
fn stats_has_three_counters_and_no_more() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock_value k v", "200 Acquired");
    b.ask("lock_value k v", "200 Acquired");
    b.ask("lock l", "200 Acquired");
    let counts = |clients, locks, monitoring| {
        vec![
            "200 STATS".to_owned(),
            format!("STAT clients {clients}"),
            format!("STAT locks {locks}"),
            format!("STAT monitoring {monitoring}"),
        ]
    };
    assert_eq!(a.ask_list("stats"), counts(2, 2, 2));
    b.send("quit");
    assert!(b.drains_to_the_end());
    assert_eq!(a.ask_list("stats"), counts(1, 2, 2));
}

#[test]
fn echo_gives_the_words_as_the_original_does() {
    let server = Server::start();
    let mut a = server.connect();
    a.ask("echo a b", r#"200 ["a","b"]"#);
    a.ask("echo", "200 []");
    a.ask("  echo   a    b  ", r#"200 ["a","b"]"#);
    a.ask(
        "echo 1 2 3 4 5 6 7 8 9",
        r#"200 ["1","2","3","4","5","6","7","8","9"]"#,
    );
    a.ask(r#"echo " \"#, r#"200 ["\"","\\"]"#);
}

#[test]
fn quit_says_goodbye_closes_and_runs_nothing_behind_it() {
    for quit in ["quit", "quit now and for ever"] {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired");
        a.send(format!("{quit}\nunlock k\nlock l\n"));
        a.expect("200 Hey, it was nice seeing you.");
        a.expect_closed();
        b.ask("lock k", "409 Unavailable");
        b.ask("lock l", "200 Acquired");
    }
}

#[test]
fn what_is_no_command_is_answered_and_the_session_goes_on() {
    let server = Server::start();
    let mut a = server.connect();
    a.ask("lock mine", "200 Acquired");
    a.ask("foo", r#"400 Unknown command: "foo""#);
    a.ask("LOCK k", r#"400 Unknown command: "LOCK""#);
    a.ask("", r#"400 Empty line: "help" lists the commands"#);
    a.ask("   ", r#"400 Empty line: "help" lists the commands"#);
    a.ask("lock", "400 Usage: lock <key> [seconds]");
    const OWNED: &str = "400 Usage: lock <key> <seconds> <owner> <milliseconds>";
    a.ask("lock k 1 2", OWNED);
    a.ask(
        "lock_value k",
        "400 Usage: lock_value <key> <value> [seconds]",
    );
    a.ask("unlock", "400 Usage: unlock <key> [owner]");
    a.ask("unlock a b c", "400 Usage: unlock <key> [owner]");
    a.ask("unlock_all k", "400 Usage: unlock_all");
    a.ask("token", "400 Usage: token <key> [owner]");
    a.ask("expire k", "400 Usage: expire <key> <milliseconds> [owner]");
    a.ask("set_timeout", "400 Usage: set_timeout <milliseconds>");
    a.ask("conn_id 1 2", "400 Usage: conn_id [id]");
    a.ask("stats now", "400 Usage: stats");
    a.ask("debug now", "400 Usage: debug");
    a.ask("help me", "400 Usage: help");
    let seconds = |word: &str| {
        format!("400 Bad timeout: \"{word}\" is not a number of seconds, such as 5 or 0.5")
    };
    for word in ["abc", "-1", "1e3", "5.", "nan"] {
        a.ask(format!("lock k {word}"), &seconds(word));
        a.ask(format!("lock_value k v {word}"), &seconds(word));
    }
    for word in ["abc", "-5", "0.5"] {
        let answer = format!("400 Bad timeout: \"{word}\" is not a whole number of milliseconds");
        a.ask(format!("set_timeout {word}"), &answer);
        a.ask(format!("expire mine {word}"), &answer);
    }
    let too_long = "400 Timeout too long: at most 86400000 milliseconds";
    a.ask("set_timeout 86400001", too_long);
    a.ask("set_timeout 99999999999999999999999999", too_long);
    a.ask("unlock mine", "200 Unlocked");
}

#[test]
fn help_lists_every_command() {
    let server = Server::start();
    let lines = server.connect().ask_list("help");
    assert_eq!(lines[0], "200 HELP");
    let commands = [
        "lock",
        "lock",
        "lock_value",
        "lock_value",
        "lock_slot",
        "lock_all",
        "unlock",
        "unlock_all",
        "token",
        "expire",
        "promote",
        "demote",
        "break",
        "force_unlock",
        "kick",
        "watch",
        "set_timeout",
        "conn_id",
        "resume",
        "auth",
        "auth",
        "name",
        "info",
        "locks",
        "sessions",
        "stats",
        "debug",
        "drain",
        "failover",
        "echo",
        "help",
        "quit",
    ];
    let listed: Vec<&str> = lines[1..]
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(listed, commands);
}

#[test]
fn a_deadlock_names_the_true_key_of_each_step() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock x2", "200 Acquired");
    b.ask("lock x1", "200 Acquired");
    a.send("lock x1 3600");
    server.until_waiting(1);
    b.ask("lock x2", "423 Deadlock: #2 => x2 = #1 => x1 = #2");
    b.ask("lock x2 3600", "423 Deadlock: #2 => x2 = #1 => x1 = #2");
    b.ask(
        "lock_value x2 v 3600",
        "423 Deadlock: #2 => x2 = #1 => x1 = #2",
    );
    b.ask("unlock x1", "200 Unlocked");
    a.expect("200 Acquired");
}

#[test]
fn debug_shows_sessions_locks_and_requests() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock_value shared v", "200 Acquired");
    b.ask("lock_value shared v", "200 Acquired");
    b.ask("lock own", "200 Acquired");
    let id = b.id();
    c.ask("set_timeout 5", "200 timeout set");
    c.send("lock shared 3600");
    server.until_waiting(1);
    let lines = a.ask_list("debug");
    let secret = id.split_once('-').expect("an id").1;
    assert!(
        lines.iter().all(|line| !line.contains(secret)),
        "no secret: {lines:?}"
    );
    assert_eq!(lines[0], "200 DEBUG");
    let with = |word: &str| -> Vec<&str> {
        lines
            .iter()
            .filter_map(|line| line.strip_prefix(word))
            .collect()
    };
    let sessions = with("SESSION ");
    assert!(
        sessions[0]
            .starts_with(r#"{"id":1,"disposeTimeout":30000,"connected":true,"peer":"127.0.0.1:"#)
    );
    assert!(sessions[2].starts_with(r#"{"id":3,"disposeTimeout":5,"connected":true,"#));
    let locks = with("LOCK ");
    assert_eq!(locks.len(), 2);
    assert!(locks[0].starts_with("own #2 waiters=0 token="), "{locks:?}");
    assert!(
        locks[1].starts_with("shared #1, #2 (v) waiters=1 token="),
        "{locks:?}"
    );
    let requests = with("REQUEST ");
    assert!(
        requests[0].starts_with("#3 shared waited_ms="),
        "{requests:?}"
    );
    assert_eq!(
        lines.len(),
        1 + sessions.len() + 2 + 1,
        "no other line: {lines:?}"
    );
}

fn quit(mut client: Client) {
    client.ask("quit", "200 Hey, it was nice seeing you.");
    client.expect_closed();
}

#[test]
fn compat_nodejs_unlocks_what_is_free_and_quit_frees() {
    let server = Server::start_with(|config| config.compat = Compat::Nodejs);
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("unlock k", "200 Unlocked");
    a.ask("lock k", "200 Acquired");
    b.ask("unlock k", "403 not_yours");
    quit(a);
    b.ask("lock k", "200 Acquired");
}

#[test]
fn otherwise_quit_is_a_disconnect_as_any_other() {
    let server = Server::start();
    let [mut a, mut b, mut c] = [server.connect(), server.connect(), server.connect()];
    a.ask("lock k", "200 Acquired");
    quit(a);
    b.ask("lock k", "409 Unavailable");
    c.ask("lock l", "200 Acquired");
    c.ask("set_timeout 0", "200 timeout set");
    quit(c);
    b.ask("lock l", "200 Acquired");
}
