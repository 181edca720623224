//! What the audit tells, of a real server, against what its clients know.
#![cfg(feature = "cli")]

mod common;

use std::collections::HashMap;
use std::io::BufRead;

use common::process::Process;
use serde_json::Value;

const FLAGS: &[&str] = &["--log", "info,audit=info", "--log-format", "json"];

/// All that is logged until the server has ended.
fn log(mut process: Process) -> Vec<Value> {
    process.signal("TERM");
    let log = process.log.take().expect("a log");
    let lines = log.lines().map(|line| line.expect("a line"));
    lines
        .map(|line| serde_json::from_str(&line).expect("JSON"))
        .collect()
}

fn audit(log: &[Value]) -> Vec<&Value> {
    let lines = log.iter().filter(|line| line["target"] == "audit");
    lines.map(|line| &line["fields"]).collect()
}

/// Ends by their tokens. Every grant is there, and has one end, behind it.
fn ends<'l>(lines: &[&'l Value]) -> HashMap<u64, &'l Value> {
    let (mut granted, mut ends) = (HashMap::new(), HashMap::new());
    for line in lines {
        let Some(token) = line["token"].as_u64() else {
            continue;
        };
        match line["message"].as_str() {
            Some("grant") => assert!(granted.insert(token, *line).is_none(), "{line}"),
            Some("end") => {
                let grant = granted.get(&token).expect("it was granted");
                for same in ["key", "owner", "name", "peer"] {
                    let is_owners = !grant["owner"].is_null() && same != "key" && same != "owner";
                    assert!(is_owners || grant[same] == line[same], "{grant} {line}");
                }
                assert!(line["held_ms"].is_u64(), "{line}");
                assert!(ends.insert(token, *line).is_none(), "{line}");
            }
            _ => panic!("{line}"),
        }
    }
    assert!(granted.keys().all(|token| ends.contains_key(token)));
    ends
}

#[test]
fn each_grant_is_told_with_its_one_end_and_who_and_why() {
    let process = Process::start(FLAGS);
    let connect = |name: &str| {
        let mut client = process.connect();
        client.ask(format!("name {name}"), "200 OK");
        client
    };
    let mut tokens: HashMap<&str, u64> = HashMap::new();
    let token = |client: &mut common::Client, request: &str| -> u64 {
        client.send(request);
        let answer = client.read();
        answer.replace("200 ", "").parse().expect("a token")
    };
    let (mut a, mut b) = (connect("a"), connect("b"));
    // By the holder's own will.
    a.ask("lock one", "200 Acquired");
    tokens.insert("unlock", token(&mut a, "token one"));
    a.ask("unlock one", "200 Unlocked");
    a.ask("lock_value shared v", "200 Acquired");
    b.ask("lock_value shared v", "200 Acquired");
    b.ask("lock_slot seats 3", "200 Acquired");
    a.ask("lock_all 0 two three", "200 Acquired");
    a.ask("lock_all 0 four three", "200 Acquired");
    b.ask("lock_all 0 five four", "409 Unavailable: four");
    // Handed over, and never told of.
    b.send("lock two 60");
    let mut op = connect("op");
    op.until("one waits", |lines| {
        lines.iter().any(|line| line.starts_with("REQUEST "))
    });
    a.ask("unlock two", "200 Unlocked");
    b.expect("200 Acquired");
    // A deadlock.
    b.send("lock four 60");
    op.until("one waits", |lines| {
        lines.iter().any(|line| line.starts_with("REQUEST "))
    });
    a.ask("lock two 60", "423 Deadlock: #1 => two = #2 => four = #1");
    a.ask("unlock_all", "200 OK");
    b.expect("200 Acquired");
    // By what time and others do.
    a.ask("lock leased", "200 Acquired");
    tokens.insert("lease_end", token(&mut a, "token leased"));
    a.ask("expire leased 1", "200 OK");
    op.ask("lock leased 60", "200 Acquired");
    a.ask("lock taken", "200 Acquired");
    tokens.insert("force_unlock", token(&mut a, "token taken"));
    op.ask("force_unlock taken", "200 Unlocked");
    a.ask("lock owned 0 job-7 0", "200 Acquired");
    tokens.insert("break", token(&mut a, "token owned job-7"));
    op.ask("break owned", "200 Unlocked");
    tokens.insert("kick", token(&mut b, "token four"));
    op.ask("kick b", "200 Kicked #2");
    let mut c = connect("c\u{7}");
    c.ask("set_timeout 1", "200 timeout set");
    c.ask("lock left", "200 Acquired");
    tokens.insert("grace_end", token(&mut c, "token left"));
    drop(c);
    op.ask("lock left 60", "200 Acquired");
    let mut d = connect("d");
    d.ask("set_timeout 0", "200 timeout set");
    d.ask("lock now", "200 Acquired");
    tokens.insert("disconnect", token(&mut d, "token now"));
    drop(d);
    op.ask("lock now 60", "200 Acquired");
    op.ask("unlock_all", "200 OK");

    let log = log(process);
    let lines = audit(&log);
    let ends = ends(&lines);
    for (why, token) in tokens {
        assert_eq!(ends[&token]["why"], why);
    }
    let by = |why: &str| ends.values().find(|end| end["why"] == why).expect("one");
    for why in ["force_unlock", "break"] {
        assert_eq!(
            (&by(why)["by"], &by(why)["by_name"]),
            (&"#3".into(), &"op".into())
        );
    }
    let one = |message: &str| {
        let mut lines = lines.iter().filter(|line| line["message"] == message);
        let line = lines.next().expect("one");
        assert!(lines.next().is_none(), "and no more: {message}");
        line
    };
    let kick = one("kick");
    assert_eq!(
        (&kick["name"], &kick["by_name"]),
        (&"b".into(), &"op".into())
    );
    let deadlock = one("deadlock");
    assert_eq!(deadlock["circle"], "Deadlock: #1 => two = #2 => four = #1");
    let grace = one("session_end");
    assert_eq!(
        (&grace["why"], &grace["name"]),
        (&"grace_end".into(), &"c\\x07".into())
    );
    assert_eq!(by("unlock")["by"], Value::Null, "by the holder itself");
    assert!(
        by("kick")["peer"]
            .as_str()
            .expect("an address")
            .starts_with("127.0.0.1:")
    );
}

#[test]
fn without_its_name_in_the_filter_nothing_is_told() {
    let process = Process::start(&["--log", "debug", "--log-format", "json"]);
    let mut a = process.connect();
    a.ask("lock k", "200 Acquired");
    a.ask("unlock k", "200 Unlocked");
    let log = log(process);
    assert!(!log.is_empty() && audit(&log).is_empty());
}

/// Whoever reads the log stands still: nobody waits for it, and what was dropped is said.
#[test]
fn what_is_dropped_is_counted_and_nobody_waits_for_it() {
    let mut process = Process::start(FLAGS);
    let mut a = process.connect();
    let key = "k".repeat(2_000);
    let round = format!("lock {key}\nunlock {key}\n").repeat(50);
    for _ in 0..400 {
        a.send_raw(&round);
        for _ in 0..50 {
            a.expect("200 Acquired");
            a.expect("200 Unlocked");
        }
    }
    let log = process.log.as_mut().expect("a log");
    let dropped = common::next_line_with(log, "were dropped since the start");
    assert!(dropped.contains("ERROR"), "{dropped}");
}

/// What only operators may do, asked for by others: who, and what of whom, by a connection and over HTTP. And
/// where it is done, the log names the user.
#[cfg(all(feature = "admin", feature = "auth"))]
#[test]
fn a_refused_act_is_told_with_who_asked_for_it_and_one_that_is_done_with_its_user() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("admin.sock");
    let admin = format!("unix:{}", socket.display());
    let more = ["--admin", &admin, "--auth-file", "tests/access/users.toml"];
    let process = Process::start(&[FLAGS, &more].concat());
    let [mut web, mut ops, mut victim] = ["web", "ops", "shop"].map(|user| {
        let mut client = process.connect();
        client.ask(format!("auth {user} {user}-secret"), "200 OK");
        client
    });
    web.ask("lock web:k", "200 Acquired");
    victim.ask("lock common:o 0 owner 0", "200 Acquired");
    let refused = ["kick #3", "force_unlock web:k", "break shop:é", "drain"];
    for request in refused {
        web.ask(request, "403 not_allowed");
    }
    // Refused, too, but nothing that an operator does.
    web.ask("lock shop:k", "403 not_allowed");
    let mut http = UnixStream::connect(&socket).expect("it is listened on");
    let (who, order) = (STANDARD.encode("web:web-secret"), r#"{"session":3}"#);
    write!(
        http,
        "POST /api/kick HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Basic {who}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{order}",
        order.len()
    )
    .expect("it is read");
    let mut answer = String::new();
    http.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    ops.ask("force_unlock web:k", "200 Unlocked");
    ops.ask("break common:o", "200 Unlocked");
    ops.ask("kick #3", "200 Kicked #3");
    ops.ask("drain", "200 OK");

    let log = log(process);
    let told = audit(&log).into_iter();
    let told: Vec<_> = told
        .filter(|line| line["message"] == "not_allowed")
        .collect();
    let requests: Vec<_> = told.iter().map(|line| &line["request"]).collect();
    assert_eq!(requests[..4], refused);
    assert_eq!(requests[4..], [r#"/api/kick {"session":3}"#]);
    assert!(told.iter().all(|line| line["user"] == "web"), "{told:?}");
    assert!(
        told[..4].iter().all(|line| line["session"] == "#1"),
        "{told:?}"
    );
    for done in [
        "a lock was taken from its holder",
        "an owner's lock was broken",
        "an operator ends a session",
        "draining: no new locks",
    ] {
        let fields = |line: &Value| line["fields"].clone();
        let mut lines = log.iter().map(fields);
        let line = lines.find(|line| line["message"] == done).expect(done);
        assert_eq!(line["by_user"], "ops", "{line}");
    }
}
