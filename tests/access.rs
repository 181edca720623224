//! Who gets in, and what each may do there.
#![cfg(feature = "auth")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use common::process::{ELOCKD, Process, run};
use common::{Client, PATIENCE, Server};
use elock::config::Config;
use tempfile::TempDir;

/// Those of the documents' transcripts.
const USERS: &str = "tests/access/users.toml";
const PASSWORD: &str = "tests/access/password";

const NOT_ALLOWED: &str = "403 not_allowed";
const REQUIRED: &str = "401 auth required";
const WRONG: &str = "401 wrong user or password";

fn with_users(change: impl FnOnce(&mut Config)) -> Server {
    Server::start_with(|config| {
        config.auth_file = Some(USERS.into());
        change(config);
    })
}

fn connect_as(server: &Server, user: &str) -> Client {
    let mut client = server.connect();
    client.ask(format!("auth {user} {user}-secret"), "200 OK");
    client
}

#[test]
fn a_stranger_may_say_who_it_is_and_ask_for_help_and_leave() {
    let server = with_users(|_| {});
    for usage in elock::protocol::COMMANDS {
        let mut stranger = server.connect();
        let given = usage.arguments.matches('<').count();
        let line = format!("{}{}", usage.name, " 1".repeat(given));
        stranger.send(&line);
        let answer = stranger.read();
        match usage.name {
            "auth" => assert_eq!(answer, WRONG),
            "help" => assert_eq!(answer, "200 HELP"),
            "quit" => assert!(answer.starts_with("200 "), "{answer}"),
            _ => assert_eq!(answer, REQUIRED, "{line}"),
        }
    }
    let mut stranger = server.connect();
    stranger.ask("lokc k", "400 Unknown command: \"lokc\"");
    stranger.ask("lock k", REQUIRED);
    stranger.ask("auth web web-secret", "200 OK");
    stranger.ask("lock web:k", "200 Acquired");
    let mut browser = server.connect();
    browser.ask("POST / HTTP/1.1", "400 This is HTTP, and not eLock");
    browser.expect_closed();
}

#[test]
fn after_the_third_wrong_password_the_connection_ends() {
    let server = with_users(|_| {});
    let mut client = server.connect();
    client.send("auth web a\nauth web b\nauth web c\nauth web web-secret\n");
    for answer in [WRONG; 3] {
        client.expect(answer);
    }
    client.expect_closed();
}

#[test]
fn a_user_of_no_name_and_the_name_of_another_and_half_a_password_are_as_wrong() {
    let server = with_users(|_| {});
    for line in [
        "auth nobody web-secret",
        "auth web-secret",
        "auth web web-secre",
        "auth web web-secret2",
        "auth Web web-secret",
        "auth web HTTP/1.1",
        "auth \\xff x",
    ] {
        server.connect().ask(line, WRONG);
    }
    server.connect().ask("auth", "400 Usage: auth <password>");
    server
        .connect()
        .ask("auth web web-secret x", "400 Usage: auth <user> <password>");
}

#[test]
fn a_key_outside_of_the_prefixes_is_refused_by_whatever_it_is_named_in() {
    let server = with_users(|_| {});
    let mut web = connect_as(&server, "web");
    for line in [
        "lock shop:k",
        "lock web",
        "lock_value shop:k v",
        "lock_slot shop:k 1",
        "lock shop:k 0 owner 0",
        "lock_all 0 web:a shop:k web:b",
        "unlock shop:k",
        "unlock shop:k owner",
        "token shop:k",
        "expire shop:k 1",
        "promote shop:k",
        "demote shop:k v",
        "break shop:k",
        "watch shop:k",
        "watch shop:k free 60",
    ] {
        web.ask(line, NOT_ALLOWED);
    }
    web.ask("lock_all 0 web:a common:k", "200 Acquired");
    web.ask("lock web:o 0 owner 0", "200 Acquired");
    web.ask("break web:o", "200 Unlocked");
    // Nothing was taken by what was refused.
    let held = connect_as(&server, "ops").ask_list("locks");
    assert_eq!(held.len(), 1 + 2, "{held:?}");
}

#[test]
fn each_right_is_for_its_own_requests() {
    let server = with_users(|_| {});
    let mut shop = connect_as(&server, "shop");
    for line in [
        "locks",
        "locks =shop:k",
        "sessions",
        "debug",
        "watch shop:k",
    ] {
        shop.ask(line, NOT_ALLOWED);
    }
    assert!(shop.ask_list("info").len() > 10);
    assert_eq!(shop.ask_list("stats").len(), 4);
    shop.ask("lock shop:k 0 owner 0", "200 Acquired");
    let mut ops = connect_as(&server, "ops");
    for line in [
        "lock k",
        "unlock shop:k",
        "unlock shop:k owner",
        "expire shop:k 5 owner",
    ] {
        ops.ask(line, NOT_ALLOWED);
    }
    ops.ask("break shop:k", "200 Unlocked");
}

/// A drain reaches everybody: an admin of some keys has no more than these.
#[test]
fn an_admin_of_some_keys_acts_on_these_alone() {
    let rules = Rules::new();
    rules.change("rights = [\"lock\"]", "rights = [\"admin\"]");
    let server = Server::start_with(|config| config.auth_file = Some(rules.path.clone()));
    let (mut web, mut shop) = (connect_as(&server, "web"), connect_as(&server, "shop"));
    web.ask("lock_all 0 web:1 common:1", "200 Acquired");
    for line in ["drain", "force_unlock web:1", "break web:1"] {
        shop.ask(line, NOT_ALLOWED);
    }
    shop.ask("kick #1", "403 unknown");
    shop.ask("force_unlock common:1", "200 Unlocked");
    connect_as(&server, "ops").ask("drain", "200 OK");
}

/// How many requests wait, as `debug` shows it.
fn waiting(lines: &[String]) -> usize {
    naming(lines, &["REQUEST "]).len()
}

/// The lines of a listing that name any of these.
fn naming<'a>(lines: &'a [String], words: &[&str]) -> Vec<&'a String> {
    let names_one = |line: &&String| words.iter().any(|word| line.contains(word));
    lines.iter().filter(names_one).collect()
}

#[test]
fn what_a_user_may_not_name_is_in_no_listing() {
    let server = with_users(|_| {});
    let mut shop = connect_as(&server, "shop");
    shop.ask("name till-7", "200 OK");
    for key in ["shop:1", "common:1", "shop:2"] {
        shop.ask(format!("lock {key}"), "200 Acquired");
    }
    let mut waits = connect_as(&server, "shop");
    waits.send("lock shop:1 60");
    let mut ops = connect_as(&server, "ops");
    ops.until("a waiter", |lines| {
        lines.iter().any(|line| line.starts_with("REQUEST "))
    });
    let mut web = connect_as(&server, "web");
    web.ask("lock web:1", "200 Acquired");
    for listing in ["debug", "sessions", "locks", "locks =shop:1", "locks shop"] {
        let lines = web.ask_list(listing);
        assert_eq!(naming(&lines, &["shop", "REQUEST"]), [""; 0], "{listing}");
    }
    // Of a key in its prefixes it sees all: also who else has it.
    let common = web.ask_list("locks common");
    assert_eq!(naming(&common, &["till-7"]).len(), 1, "{common:?}");
    assert_eq!(web.ask_list("sessions").len(), 1 + 1);
    let all = ops.ask_list("sessions");
    assert_eq!(naming(&all, &["\"user\":\"shop\""]).len(), 2, "{all:?}");
    let all = ops.ask_list("debug");
    assert_eq!(
        naming(&all, &["\"user\":\"web\"", "LOCK shop:", "REQUEST"]).len(),
        4,
        "{all:?}"
    );
}

#[test]
fn a_page_goes_on_behind_the_last_key_that_was_shown() {
    let server = with_users(|_| {});
    let (mut web, mut shop) = (connect_as(&server, "web"), connect_as(&server, "shop"));
    for number in 0..1_005 {
        web.ask(format!("lock web:{number:04}"), "200 Acquired");
        shop.ask(format!("lock shop:{number:04}"), "200 Acquired");
    }
    let page = web.ask_list("locks");
    assert_eq!(page.last().map(String::as_str), Some("NEXT web:0999"));
    assert_eq!(web.ask_list("locks * web:0999").len(), 1 + 5);
    assert_eq!(web.ask_list("locks * shop:0999").len(), 1 + 1_000 + 1);
}

#[test]
fn a_deadlock_is_told_without_the_keys_that_the_asker_may_not_name() {
    let server = with_users(|_| {});
    let (mut web, mut shop) = (connect_as(&server, "web"), connect_as(&server, "shop"));
    let mut third = connect_as(&server, "shop");
    web.ask("lock common:1", "200 Acquired");
    shop.ask("lock common:2", "200 Acquired");
    third.ask("lock shop:3", "200 Acquired");
    let mut ops = connect_as(&server, "ops");
    shop.send("lock shop:3 60");
    ops.until("one waits", |lines| waiting(lines) == 1);
    third.send("lock common:1 60");
    ops.until("two wait", |lines| waiting(lines) == 2);
    web.ask(
        "lock common:2",
        "423 Deadlock: #1 => common:2 = #2 => ... = #3 => common:1 = #1",
    );
}

#[test]
fn a_session_is_resumed_by_its_own_user_alone() {
    let server = with_users(|_| {});
    let mut web = connect_as(&server, "web");
    web.ask("lock web:k", "200 Acquired");
    let id = web.id();
    let mut shop = connect_as(&server, "shop");
    // Nor is it told that there is such a session, nor does that end the other's connection.
    shop.ask(format!("conn_id {id}"), "403 cannot set conn id");
    shop.ask(format!("resume {id}"), "403 unknown");
    web.ask("echo", "200 []");
    drop(web);
    let mut again = connect_as(&server, "web");
    again.ask(format!("resume {id}"), "200 Resumed");
    again.ask("unlock web:k", "200 Unlocked");
}

#[cfg(feature = "store")]
#[test]
fn a_session_belongs_to_its_user_after_a_restart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let start = |users: bool| {
        Server::start_with(|config| {
            config.data_dir = Some(directory.path().to_owned());
            config.auth_file = users.then(|| USERS.into());
        })
    };
    let server = start(true);
    let mut web = connect_as(&server, "web");
    web.ask("lock web:k", "200 Acquired");
    let id = web.id();
    drop(server);
    let server = start(true);
    let mut shop = connect_as(&server, "shop");
    shop.ask(format!("resume {id}"), "403 unknown");
    let mut ops = connect_as(&server, "ops");
    let sessions = ops.ask_list("sessions");
    let restored = naming(&sessions, &["before the restart"]);
    assert_eq!(
        naming(&sessions, &["\"user\":\"web\",\"peer\":\"before"]),
        restored
    );
    connect_as(&server, "web").ask(format!("resume {id}"), "200 Resumed");
    // Where nobody is asked any more, and where somebody is asked again.
    drop((ops, server));
    let server = start(false);
    let mut anybody = server.connect();
    anybody.ask(format!("resume {id}"), "200 Resumed");
    anybody.ask("lock k", "200 Acquired");
    let mut other = server.connect();
    other.ask("lock other", "200 Acquired");
    let others_id = other.id();
    drop((anybody, other, server));
    let server = start(true);
    connect_as(&server, "shop").ask(format!("resume {id}"), "403 unknown");
    // It belonged to nobody so far.
    connect_as(&server, "shop").ask(format!("resume {others_id}"), "200 Resumed");
}

#[test]
fn one_may_become_another_user_while_one_holds_nothing() {
    let server = with_users(|_| {});
    let mut client = connect_as(&server, "web");
    client.ask("lock web:k", "200 Acquired");
    client.ask("auth web web-secret", "200 OK");
    client.ask("auth shop shop-secret", "403 holds_locks");
    client.ask("unlock web:k", "200 Unlocked");
    client.ask("auth shop wrong", WRONG);
    client.ask("lock web:k", "200 Acquired");
    client.ask("unlock web:k", "200 Unlocked");
    client.ask("auth shop shop-secret", "200 OK");
    client.ask("lock web:k", NOT_ALLOWED);
    client.ask("lock shop:k", "200 Acquired");
    let id = client.id();
    drop(client);
    connect_as(&server, "web").ask(format!("resume {id}"), "403 unknown");
    connect_as(&server, "shop").ask(format!("resume {id}"), "200 Resumed");
}

#[test]
fn a_server_without_users_takes_any_password() {
    let server = Server::start();
    let mut client = server.connect();
    client.ask("auth web anything", "200 OK");
    client.ask("lock k", "200 Acquired");
    let sessions = client.ask_list("sessions");
    assert_eq!(naming(&sessions, &["user"]), [""; 0]);
}

#[test]
fn one_password_alone_lets_in_to_everything() {
    let server = Server::start_with(|config| config.password_file = Some(PASSWORD.into()));
    let mut client = server.connect();
    client.ask("lock k", REQUIRED);
    client.ask("auth wrong", WRONG);
    client.ask("auth web correct-horse", WRONG);
    client.ask("auth correct-horse", "200 OK");
    client.ask("auth default correct-horse", "200 OK");
    client.ask("lock k", "200 Acquired");
    assert_eq!(
        naming(&client.ask_list("sessions"), &["\"user\":\"default\""]).len(),
        1
    );
}

#[test]
fn a_script_that_sends_all_at_once_is_answered_all_of_it() {
    let server = Server::start_with(|config| config.password_file = Some(PASSWORD.into()));
    let mut client = Client::connect(server.address);
    client.send_raw("auth correct-horse\nlock k\nquit\n");
    client.half_close();
    for answer in ["200 OK", "200 Acquired", "200 Hey, it was nice seeing you."] {
        client.expect(answer);
    }
    let server = with_users(|_| {});
    let mut client = Client::connect(server.address);
    client.send_raw("auth web web-secret\nlock web:k\n");
    client.half_close();
    client.expect("200 OK");
    client.expect("200 Acquired");
}

#[test]
fn a_trusted_address_needs_no_password_and_the_narrowest_network_counts() {
    let server = with_users(|config| {
        let networks = ["10.0.0.0/8=ops", "127.0.0.0/8=ops", "127.0.0.1=web"];
        config.trust = networks.map(|text| text.parse().expect("a network")).into();
    });
    let mut client = server.connect();
    client.ask("lock web:k", "200 Acquired");
    client.ask("lock shop:k", NOT_ALLOWED);
    client.ask("unlock web:k", "200 Unlocked");
    client.ask("auth shop shop-secret", "200 OK");
    client.ask("lock shop:k", "200 Acquired");
}

struct Rules {
    _directory: TempDir,
    path: PathBuf,
}

impl Rules {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("users.toml");
        std::fs::copy(USERS, &path).expect("a copy");
        Self {
            _directory: directory,
            path,
        }
    }

    fn change(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.path).expect("text");
        assert!(text.contains(from), "{text}");
        std::fs::write(&self.path, text.replace(from, to)).expect("it can be written");
    }

    fn start(&self) -> Process {
        Process::start(&["--auth-file", &self.path.to_string_lossy()])
    }
}

fn reload(process: &mut Process, says: &str) {
    process.signal("HUP");
    process.until_logged(says);
}

fn come_in(process: &Process, user: &str) -> Client {
    let mut client = process.connect();
    client.ask(format!("auth {user} {user}-secret"), "200 OK");
    client
}

#[test]
fn a_reload_changes_what_those_who_are_connected_may_do() {
    let rules = Rules::new();
    let mut process = rules.start();
    let (mut web, mut shop) = (come_in(&process, "web"), come_in(&process, "shop"));
    web.ask("lock web:k", "200 Acquired");
    shop.ask("lock shop:k", "200 Acquired");
    let mut waits = come_in(&process, "web");
    waits.send("lock web:k 60");
    rules.change("\"web:\", ", "\"new:\", ");
    reload(&mut process, "reloaded the users");
    web.ask("lock new:k", "200 Acquired");
    // What it has it keeps; it can let go of all of it.
    web.ask("unlock web:k", NOT_ALLOWED);
    rules.change("[users.shop]", "[users.other]");
    reload(&mut process, "reloaded the users");
    shop.ask("unlock shop:k", REQUIRED);
    shop.ask("auth shop shop-secret", WRONG);
    shop.ask("auth web web-secret", "403 holds_locks");
    let mut ops = come_in(&process, "ops");
    let held = ops.ask_list("locks shop:k");
    assert_eq!(naming(&held, &["\"session\":2"]).len(), 1, "{held:?}");
    web.ask("unlock_all", "200 OK");
    waits.expect("200 Acquired");
}

#[test]
fn a_bad_file_changes_nothing_and_the_log_says_where_it_is_bad() {
    let rules = Rules::new();
    let mut process = rules.start();
    let mut web = come_in(&process, "web");
    rules.change("rights = [\"lock\"]", "rights = [\"lokc\"]");
    reload(
        &mut process,
        "users.toml, line 10: a right is `lock`, `read` or `admin`",
    );
    web.ask("lock web:k", "200 Acquired");
    come_in(&process, "shop");
    std::fs::remove_file(&rules.path).expect("it is there");
    reload(&mut process, "the users stay as they are: cannot read ");
    come_in(&process, "shop");
}

#[test]
fn a_password_that_was_right_is_not_remembered_beyond_a_reload() {
    let rules = Rules::new();
    let mut process = rules.start();
    come_in(&process, "web");
    let shop = std::fs::read_to_string(&rules.path).expect("text");
    let hash_of = |salt: &str| {
        let line = shop
            .lines()
            .find(|line| line.contains(salt))
            .expect("a line");
        line.split('"').nth(1).expect("a hash").to_owned()
    };
    rules.change(&hash_of("rVmMUJFui94"), &hash_of("YtOddH0geP"));
    reload(&mut process, "reloaded the users");
    process.connect().ask("auth web web-secret", WRONG);
    process.connect().ask("auth web shop-secret", "200 OK");
}

/// A server whose user `web` has this bound.
fn with_bound(bound: &str) -> (Rules, Server) {
    let rules = Rules::new();
    let prefixes = "prefixes = [\"web:\", \"common:\"]";
    rules.change(prefixes, &format!("{prefixes}\n{bound}"));
    let path = rules.path.clone();
    let server = Server::start_with(|config| config.auth_file = Some(path));
    (rules, server)
}

/// Asks until this is the answer: something else has to be noticed first.
fn until_answered(client: &mut Client, line: &str, answer: &str) {
    let begin = Instant::now();
    loop {
        client.send(line);
        if client.read() == answer {
            return;
        }
        assert!(begin.elapsed() < common::PATIENCE, "{line}: {answer}");
    }
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    let server = Server::start_with(|config| config.max_address_connections = 2);
    let (first, mut second) = (server.connect(), server.connect());
    let mut third = Client::connect(server.address);
    third.expect("503 Too many connections of this address: at most 2");
    third.expect_closed();
    second.ask("lock k", "200 Acquired");
    drop(first);
    let begin = Instant::now();
    loop {
        let mut next = Client::connect(server.address);
        next.send_if_open("echo");
        match next.read_at_most(1).first().map(String::as_str) {
            Some("200 []") => break,
            _ => assert!(begin.elapsed() < common::PATIENCE, "no place comes back"),
        }
    }
}

#[test]
fn a_user_has_so_many_connections_and_another_its_own() {
    let (_rules, server) = with_bound("max_connections = 2");
    let first = connect_as(&server, "web");
    let mut second = connect_as(&server, "web");
    let mut third = server.connect();
    third.ask(
        "auth web web-secret",
        "503 Too many connections of this user: at most 2",
    );
    third.ask("lock web:k", REQUIRED);
    second.ask("auth web web-secret", "200 OK");
    connect_as(&server, "shop");
    drop(first);
    until_answered(&mut third, "auth web web-secret", "200 OK");
    // One that becomes another user leaves its place.
    second.ask("auth shop shop-secret", "200 OK");
    connect_as(&server, "web");
}

#[test]
fn a_user_has_so_many_locks_over_all_its_sessions() {
    const FULL: &str = "507 Too many locks of this user: at most 3";
    let (_rules, server) = with_bound("max_locks = 3");
    let (mut a, mut b) = (connect_as(&server, "web"), connect_as(&server, "web"));
    a.ask("lock_all 0 web:1 web:2", "200 Acquired");
    b.ask("lock web:3", "200 Acquired");
    b.ask("lock web:4", FULL);
    a.ask("lock_all 0 web:4 web:5", FULL);
    b.ask("lock web:3", "200 Acquired");
    b.ask("lock web:1", "409 Unavailable");
    connect_as(&server, "shop").ask("lock shop:1", "200 Acquired");
    a.ask("unlock web:1", "200 Unlocked");
    b.ask("lock web:1", "200 Acquired");
    // In its grace period a session still has its locks; resumed, it has them once.
    let id = a.id();
    drop(a);
    let mut c = connect_as(&server, "web");
    c.ask("lock web:4", FULL);
    c.ask(format!("resume {id}"), "200 Resumed");
    c.ask("lock web:4", FULL);
    c.ask("unlock web:2", "200 Unlocked");
    c.ask("lock web:4", "200 Acquired");
    c.ask("set_timeout 0", "200 timeout set");
    drop(c);
    until_answered(&mut b, "lock web:5", "200 Acquired");
    b.ask("lock web:6", FULL);
}

/// Whoever releases them, and however they end.
#[test]
fn the_locks_of_owners_are_those_of_the_user_whose_session_took_them() {
    const FULL: &str = "507 Too many locks of this user: at most 2";
    let (_rules, server) = with_bound("max_locks = 2");
    let [mut web, mut other] = [(); 2].map(|()| connect_as(&server, "web"));
    let mut ops = connect_as(&server, "ops");
    for (by_operator, end, answer) in [
        (false, "unlock web:2 job", "200 Unlocked"),
        (true, "break web:2", "200 Unlocked"),
        (true, "force_unlock web:2", "200 Unlocked"),
    ] {
        web.ask("lock web:1 0 job 0", "200 Acquired");
        web.ask("lock web:2 0 job 0", "200 Acquired");
        web.ask("lock web:3 0 job 0", FULL);
        web.ask("lock web:3", FULL);
        // They outlive the session that took them.
        web = connect_as(&server, "web");
        web.ask("lock web:3 0 job 0", FULL);
        let ending = if by_operator { &mut ops } else { &mut other };
        ending.ask(end, answer);
        web.ask("lock web:3", "200 Acquired");
        web.ask("lock web:2 0 job 0", FULL);
        web.ask("unlock_all", "200 OK");
        other.ask("unlock web:1 job", "200 Unlocked");
    }
    // One that is handed over is its taker's from then on, and one that ends by its lease nobody's.
    let mut shop = connect_as(&server, "shop");
    shop.ask("lock common:1", "200 Acquired");
    web.ask("lock web:2", "200 Acquired");
    web.send("lock common:1 60 job 100");
    ops.until("it waits", |lines| waiting(lines) == 1);
    shop.ask("unlock common:1", "200 Unlocked");
    web.expect("200 Acquired");
    until_answered(&mut web, "lock web:3", "200 Acquired");
    web.ask("lock web:4 0 job 0", FULL);
    shop.ask("lock shop:1 0 job 0", "200 Acquired");
}

#[test]
fn a_user_has_so_many_requests_that_wait() {
    let (_rules, server) = with_bound("max_waiters = 1");
    let mut holder = connect_as(&server, "web");
    holder.ask("lock web:k", "200 Acquired");
    let (mut first, mut second) = (connect_as(&server, "web"), connect_as(&server, "web"));
    first.send("lock web:k 60");
    let mut ops = connect_as(&server, "ops");
    ops.until("one waits", |lines| naming(lines, &["REQUEST "]).len() == 1);
    second.ask(
        "lock web:k 60",
        "507 Too many waiters of this user: at most 1",
    );
    second.ask("lock web:k", "409 Unavailable");
    second.ask("lock web:free 60", "200 Acquired");
    holder.ask("unlock web:k", "200 Unlocked");
    first.expect("200 Acquired");
    // One that ends by its time leaves its place, and so does one whose client hangs up.
    second.ask("lock web:k 0.01", "409 Unavailable");
    let mut third = connect_as(&server, "web");
    third.send("lock web:k 60");
    ops.until("one waits", |lines| waiting(lines) == 1);
    second.ask(
        "lock web:k 60",
        "507 Too many waiters of this user: at most 1",
    );
    drop(third);
    ops.until("none waits", |lines| waiting(lines) == 0);
    until_answered(&mut second, "lock web:k 0.01", "409 Unavailable");
}

#[test]
fn a_request_that_would_be_a_deadlock_takes_no_place_among_those_that_wait() {
    let (_rules, server) = with_bound("max_waiters = 2");
    let (mut a, mut b) = (connect_as(&server, "web"), connect_as(&server, "web"));
    a.ask("lock web:a", "200 Acquired");
    b.ask("lock web:b", "200 Acquired");
    a.send("lock web:b 60");
    let mut ops = connect_as(&server, "ops");
    ops.until("one waits", |lines| naming(lines, &["REQUEST "]).len() == 1);
    for _ in 0..3 {
        let circle = "423 Deadlock: #2 => web:a = #1 => web:b = #2";
        b.ask("lock web:a 60", circle);
    }
    connect_as(&server, "web").ask("lock web:a 0.01", "409 Unavailable");
}

#[test]
fn a_user_has_so_many_sessions_that_outlive_their_connections() {
    let (_rules, server) = with_bound("max_grace_sessions = 1");
    let mut watcher = connect_as(&server, "web");
    let mut ops = connect_as(&server, "ops");
    let in_grace = |lines: &[String]| naming(lines, &["\"connected\":false"]).len();
    let leave_behind = |key: &str| {
        let mut client = connect_as(&server, "web");
        client.ask(format!("lock {key}"), "200 Acquired");
        let id = client.id();
        drop(client);
        id
    };
    let id = leave_behind("web:1");
    ops.until("it is in its grace period", |lines| in_grace(lines) == 1);
    leave_behind("web:2");
    until_answered(&mut watcher, "lock web:2", "200 Acquired");
    watcher.ask("lock web:1", "409 Unavailable");
    // Resumed, it leaves its place to another.
    let mut again = connect_as(&server, "web");
    again.ask(format!("resume {id}"), "200 Resumed");
    leave_behind("web:3");
    ops.until("it is in its grace period", |lines| in_grace(lines) == 1);
    watcher.ask("lock web:3", "409 Unavailable");
}

#[test]
fn bounds_change_with_a_reload_and_what_there_is_stays_counted() {
    let rules = Rules::new();
    let prefixes = "prefixes = [\"web:\", \"common:\"]";
    let mut process = rules.start();
    let mut web = come_in(&process, "web");
    web.ask("lock_all 0 web:1 web:2", "200 Acquired");
    rules.change(
        prefixes,
        &format!("{prefixes}\nmax_locks = 2\nmax_connections = 1"),
    );
    reload(&mut process, "reloaded the users");
    web.ask("lock web:3", "507 Too many locks of this user: at most 2");
    let answer = "503 Too many connections of this user: at most 1";
    process.connect().ask("auth web web-secret", answer);
    rules.change("max_locks = 2\nmax_connections = 1", "");
    reload(&mut process, "reloaded the users");
    web.ask("lock web:3", "200 Acquired");
    come_in(&process, "web");
}

fn refusal(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    stderr
}

#[test]
fn a_start_that_would_leave_the_door_open_is_refused_and_tells_the_ways_out() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let refused = refusal(&run(&["--listen", "127.0.0.1:0", "--listen", address]));
        for way in [
            "--auth-file",
            "--password-file",
            "unix:PATH",
            "--allow-anonymous",
        ] {
            assert!(refused.contains(way), "{refused}");
        }
        assert_eq!(
            refused
                .lines()
                .last()
                .map(|line| line.contains(" can be reached")),
            Some(true)
        );
    }
    for flags in [
        &["--allow-anonymous"][..],
        &["--auth-file", USERS],
        &["--password-file", PASSWORD],
    ] {
        let flags = [&["--listen", "0.0.0.0:0"][..], flags].concat();
        Process::start(&flags).connect().ask("help", "200 HELP");
    }
}

#[cfg(feature = "cluster")]
#[test]
fn a_port_for_other_servers_that_is_open_is_named() {
    let refused = refusal(&run(&[
        "--listen",
        "127.0.0.1:0",
        "--etcd",
        "http://127.0.0.1:1",
        "--advertise",
        "10.0.0.5:11401",
        "--cluster-listen",
        "0.0.0.0:0",
    ]));
    assert!(
        refused.contains("(--cluster-listen 127.0.0.1:"),
        "{refused}"
    );
}

#[test]
fn a_bad_setting_or_file_is_exit_code_two_and_shows_no_secret() {
    let rules = Rules::new();
    let path = rules.path.to_string_lossy().into_owned();
    let flags = ["--listen", "127.0.0.1:0", "--auth-file", &path];
    rules.change("$argon2id$v=19$m=8,t=1,p=1$GZnk", "GZnk");
    let refused = refusal(&run(&flags));
    assert!(
        refused.contains("users.toml, line 14: `password` is no hash"),
        "{refused}"
    );
    assert!(!refused.contains("GZnk"), "{refused}");
    let missing = refusal(&run(&["--password-file", "/nobody/at/all"]));
    assert!(
        missing.contains("cannot read /nobody/at/all: No such file"),
        "{missing}"
    );
    let two = rules.path.with_extension("two");
    std::fs::write(&two, "one\ntwo\n").expect("it can be written");
    let two = two.to_string_lossy();
    for flags in [
        &["--password-file", &two][..],
        #[cfg(feature = "admin")]
        &["--admin", "127.0.0.1:0", "--admin-password-file", &two],
    ] {
        let flags = [&["--listen", "127.0.0.1:0"], flags].concat();
        let refused = refusal(&run(&flags));
        assert!(refused.contains("there is more than one line"), "{refused}");
    }
    #[cfg(feature = "admin")]
    {
        let alone = refusal(&run(&["--admin-password-file", PASSWORD]));
        let expected = format!("--admin-password-file {PASSWORD} means nothing without --admin");
        assert!(alone.contains(&expected), "{alone}");
    }
    let trust = ["--trust", "10.0.0.0/8=nobody", "--auth-file", USERS];
    assert!(refusal(&run(&trust)).contains("--trust 10.0.0.0/8=nobody: there is no user"));
    let trust = refusal(&run(&["--trust", "10.0.0.0/8=web"]));
    assert!(
        trust.contains("neither --auth-file nor --password-file"),
        "{trust}"
    );
}

#[test]
fn a_server_with_users_is_a_living_one_for_a_health_check() {
    let process = Process::start(&["--auth-file", USERS]);
    let check = run(&["--check", &process.address.to_string()]);
    assert_eq!(check.status.code(), Some(0), "{check:?}");
}

#[test]
fn no_password_is_in_the_log_however_it_comes() {
    let mut process = Process::start(&["--auth-file", USERS, "--log", "trace"]);
    let mut client = process.connect();
    client
        .send("auth web web-secret\nauth web typo-secret\nauth two-secret\nauth three-secret web");
    for answer in ["200 OK", WRONG, WRONG, WRONG] {
        client.expect(answer);
    }
    client.expect_closed();
    let mut client = process.connect();
    client.ask("atuh web four-secret", "400 Unknown command: \"atuh\"");
    client.ask(
        "auth web five-secret more",
        "400 Usage: auth <user> <password>",
    );
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));
    let mut log = String::new();
    let mut rest = process.log.take().expect("a log");
    std::io::Read::read_to_string(&mut rest, &mut log).expect("text");
    assert!(log.contains("a wrong name or password"), "{log}");
    assert!(
        log.contains("user=web") && log.contains("user=unknown"),
        "{log}"
    );
    assert!(!log.contains("-secret"), "{log}");
}

fn hash_password(input: &str) -> Output {
    let mut child = Command::new(ELOCKD)
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_password_is_hashed_for_the_file_of_users() {
    let output = hash_password("new-secret\n");
    let hash = String::from_utf8(output.stdout).expect("text");
    assert!(
        hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{hash}"
    );
    let rules = Rules::new();
    let text = format!(
        "[users.\"jos\u{e9}\"]\npassword = '{}'\nrights = ['lock']\nprefixes = ['*']\n",
        hash.trim_end()
    );
    std::fs::write(&rules.path, text).expect("it can be written");
    let process = rules.start();
    let mut client = process.connect();
    client.ask("auth jos\u{e9} old-secret", WRONG);
    client.ask("auth jos\u{e9} new-secret", "200 OK");
    for (input, says) in [
        ("", "empty"),
        ("a b\n", "space"),
        ("a\tb", "control"),
        ("\n", "empty"),
        ("a\nb\n", "more than one line"),
    ] {
        let refused = hash_password(input);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
    // A program need not close its end of the pipe to be answered.
    let mut child = Command::new(ELOCKD)
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"new-secret\n").expect("it reads");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let (sent, hashes) = std::sync::mpsc::channel();
    std::thread::spawn(move || stdout.lines().try_for_each(|line| sent.send(line)));
    let hash = hashes.recv_timeout(PATIENCE).expect("a line in time");
    assert!(hash.expect("text").starts_with("$argon2id$"));
    drop(stdin);
    child.wait().expect("it ends");
    let given = run(&["hash-password", "secret"]);
    assert_eq!(given.status.code(), Some(2));
    let help = run(&["hash-password", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    let help = String::from_utf8(help.stdout).expect("text");
    assert!(help.contains("standard input"), "{help}");
}
