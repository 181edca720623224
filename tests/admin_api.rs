//! `/api/…` against a real server.
#![cfg(feature = "admin")]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Client, Server, http};
use serde_json::{Value, json};

/// Takes the times and tokens out, which no test can know, and checks that they are numbers.
fn known(mut value: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(strip),
            Value::Object(members) => {
                members.retain(|name, value| {
                    let is_unknown = name.ends_with("_ms") && name != "grace_ms" || name == "token";
                    assert!(!is_unknown || value.is_u64(), "{name}: {value}");
                    !is_unknown
                });
                members.values_mut().for_each(strip);
            }
            _ => {}
        }
    }
    strip(&mut value);
    value
}

#[test]
fn locks_and_sessions_are_told_as_by_the_protocol() {
    let server = Server::start_with_admin();
    let [mut a, mut b, _third] = [(); 3].map(|()| server.connect());
    a.ask("name web-3:cron", "200 OK");
    a.ask("lock_value color red", "200 Acquired");
    a.ask("lock_slot seats 3 0 job-7 60000", "200 Acquired");
    b.send("lock color 60");
    server.until_waiting(1);
    let locks = known(server.asked("/api/locks"));
    let color = json!({
        "key": "color", "mode": "shared", "value": "red",
        "holders": [{"session": 1, "name": "web-3:cron"}], "holders_in_all": 1,
        "waiting": [{"session": 2, "mode": "exclusive"}], "waiting_in_all": 1,
    });
    let seats = json!({
        "key": "seats", "mode": "slots", "slots": 3,
        "holders": [{"owner": "job-7"}], "holders_in_all": 1,
        "waiting": [], "waiting_in_all": 0,
    });
    assert_eq!(locks, json!({"locks": [color, seats]}));
    // The very text of the protocol, but for the times.
    let listed = a.ask_list("locks")[1].clone();
    let listed: Value =
        serde_json::from_str(listed.strip_prefix("LOCK ").expect("a lock")).expect("JSON");
    assert_eq!(known(listed), color);
    assert_eq!(
        known(server.asked("/api/locks?key=seats")),
        json!({"locks": [seats]})
    );
    assert_eq!(server.asked("/api/locks?key=seat"), json!({"locks": []}));
    let sessions = server.asked("/api/sessions?limit=2");
    let peer = a.socket().local_addr().expect("a socket").to_string();
    assert_eq!(sessions["sessions"][0]["peer"], json!(peer));
    assert_eq!(sessions["sessions"][1]["waits_for"], json!("color"));
    assert_eq!(sessions["next"], json!(2));
    let one = known(server.asked("/api/sessions?session=1"));
    let expected = json!({"session": 1, "name": "web-3:cron", "peer": peer, "connected": true, "grace_ms": 30000, "locks": 1});
    assert_eq!(one, json!({"sessions": [expected]}));
    assert_eq!(
        server.asked("/api/sessions?session=99"),
        json!({"sessions": []})
    );
}

#[test]
fn info_has_the_names_and_numbers_of_the_protocol() {
    let server = Server::start_with_admin();
    let mut client = server.connect();
    client.ask("lock k", "200 Acquired");
    let lines = client.ask_list("info");
    let info = server.asked("/api/info");
    for line in &lines[1..] {
        let (name, value) = line.split_once(' ').expect("a name and a value");
        let told = &info[name];
        let told = told
            .as_str()
            .map_or_else(|| told.to_string(), str::to_owned);
        assert!(told == value || name == "uptime_seconds", "{name}: {told}");
    }
    assert!(info["now_ms"].is_u64() && info["locks"] == json!(1));
    assert_eq!(info["not_ready"], json!([]));
    let limits = info["limits"].as_array().expect("a list");
    assert!(limits.contains(&json!({"what": "locks", "used": 1, "limit": 2_000_000})));
    let history = server.asked("/api/history");
    let first = &history["samples"][0];
    assert!(
        first["at_ms"].is_u64() && first["grants"].is_u64(),
        "{first}"
    );
    assert_eq!(
        server.asked("/api/rights"),
        json!({"read": true, "admin": true})
    );
}

/// All keys come once and in their order, however large the parts are.
#[test]
fn a_listing_goes_on_where_it_ended() {
    let server = Server::start_with_admin();
    let mut client = server.connect();
    let mut keys: Vec<String> = (0..2500).map(|n| format!("k{}\\{n}", n % 7)).collect();
    let requests: String = keys.iter().map(|key| format!("lock {key}\n")).collect();
    client.send_raw(requests);
    keys.iter().for_each(|_| client.expect("200 Acquired"));
    keys.sort_unstable();
    for (limit, parts) in [(1000, 3), (2500 / 4, 4), (7, 358)] {
        let (mut listed, mut after, mut count) = (Vec::new(), String::new(), 0);
        loop {
            let part = server.asked(&format!("/api/locks?limit={limit}{after}"));
            let locks = part["locks"].as_array().expect("a list");
            listed.extend(
                locks
                    .iter()
                    .map(|lock| lock["key"].as_str().expect("text").to_owned()),
            );
            count += 1;
            match part["next"].as_str() {
                Some(next) => after = format!("&after={}", encoded(next.as_bytes())),
                None => break,
            }
        }
        assert_eq!((listed, count), (keys.clone(), parts), "by {limit}");
    }
    let some = server.asked("/api/locks?prefix=k3%5Cx5C&limit=1000");
    assert_eq!(some["locks"].as_array().map(Vec::len), Some(357));
    let sessions = server.asked("/api/sessions?after=0&limit=1");
    assert_eq!(sessions.get("next"), None, "there is one");
}

/// Every byte that a key can have comes and goes as it is.
#[test]
fn hostile_keys_are_told_without_loss() {
    let server = Server::start_with_admin();
    let mut client = server.connect();
    let keys: [&[u8]; 7] = [
        b"<img/src=x/onerror=alert(1)>",
        b"\"'&quot;\\",
        b"\\x41",
        b"\x01\x1b[31m\x7f\xff\xfe",
        "a\u{202e}gpj\u{200b}".as_bytes(),
        "\u{9b}c1".as_bytes(),
        b"%2541+&a=b",
    ];
    for key in keys {
        client.ask([b"lock ", key].concat(), "200 Acquired");
    }
    client.ask([b"lock ", &[b'x'; 4000][..]].concat(), "200 Acquired");
    for key in keys {
        // By `%NN` alone, and by `\xNN` in it.
        let by_protocol: String = key.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        let backslashes_shown = key
            .split(|byte| *byte == b'\\')
            .collect::<Vec<_>>()
            .join(&b"\\x5C"[..]);
        for word in [encoded(&backslashes_shown), encoded(by_protocol.as_bytes())] {
            let answer = server.asked(&format!("/api/locks?key={word}"));
            let lock = &answer["locks"][0];
            let told = lock["key"].as_str().expect("a key");
            match lock["key_base64"].as_str() {
                None => assert_eq!(told.as_bytes(), key),
                Some(base64) => assert_eq!(decoded(base64), key, "{told}"),
            }
            assert!(!told.contains(char::is_control), "{told:?}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_json() {
    let server = Server::start_with_admin();
    let bad = [
        ("/api/locks?limit=0", "\"limit\" must be from 1 to 1000"),
        ("/api/locks?limit=1001", "\"limit\" must be from 1 to 1000"),
        ("/api/locks?limit=x", "\"limit\" must be a whole number"),
        ("/api/locks?prefx=a", "there is no parameter \"prefx\" here"),
        ("/api/locks?prefix=a&prefix=b", "\"prefix\" is given twice"),
        (
            "/api/locks?key=a&after=b",
            "a \"key\" goes with no \"prefix\" and no \"after\"",
        ),
        (
            "/api/locks?prefix=%4",
            "what is given as \"prefix\" has a bad %NN",
        ),
        ("/api/sessions?after=-1", "\"after\" must be a whole number"),
        (
            "/api/sessions?session=1&after=1",
            "a \"session\" goes with no \"after\"",
        ),
        ("/api/info?x", "there is no parameter \"x\" here"),
    ];
    for (path, why) in bad {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, answer.json()),
            (400, json!({"error": why})),
            "{path}"
        );
    }
    assert_eq!(server.get("/api/nothing").status, 404);
    assert_eq!(server.order("/api/locks", &json!({})).status, 405);
    assert_eq!(server.get("/api/kick").status, 405);
}

#[test]
fn waits_are_told_along_their_chains() {
    let server = Server::start_with_admin();
    let [mut a, mut b, mut c, mut d] = [(); 4].map(|()| server.connect());
    a.ask("lock x", "200 Acquired");
    b.ask("lock y", "200 Acquired");
    b.send("lock x 60");
    server.until_waiting(1);
    c.send("lock y 60");
    server.until_waiting(2);
    d.send("lock y 60");
    server.until_waiting(3);
    let waits = server.asked("/api/waits");
    assert_eq!(
        (&waits["requests_in_all"], &waits["keys_in_all"]),
        (&json!(3), &json!(2))
    );
    let keys: Vec<_> = waits["locks"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|lock| lock["key"].clone())
        .collect();
    assert_eq!(keys, ["y", "x"]);
    assert!(waits["locks"][0]["longest_ms"].is_u64());
    assert_eq!(waits["beyond"], json!([]));
    assert_eq!(waits["waiting_holders"][0]["session"], json!(2));
    assert_eq!(waits["waiting_holders"][0]["waits_for"], json!("x"));
    // What was asked for is y; what its holder waits for is told beyond it.
    let waits = server.asked("/api/waits?prefix=y&limit=1");
    assert_eq!(
        (&waits["requests_in_all"], &waits["keys_in_all"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(waits["locks"][0]["key"], json!("y"));
    assert_eq!(waits["beyond"][0]["key"], json!("x"));
    assert_eq!(waits["longest"][0]["key"], json!("x"), "of all");
}

#[test]
fn deadlocks_and_lost_locks_are_remembered() {
    let server = Server::start_with_admin();
    let [mut a, mut b] = [(); 2].map(|()| server.connect());
    a.ask("name one", "200 OK");
    a.ask("lock x", "200 Acquired");
    b.ask("lock y", "200 Acquired");
    a.send("lock y 60");
    server.until_waiting(1);
    b.ask("lock x 60", "423 Deadlock: #2 => x = #1 => y = #2");
    b.ask("unlock y", "200 Unlocked");
    a.expect("200 Acquired");
    a.ask("expire y 1", "200 OK");
    b.ask("lock y 60", "200 Acquired");
    b.ask("lock o 0 job-7 0", "200 Acquired");
    b.ask("break o", "200 Unlocked");
    let told = known(server.asked("/api/events"));
    let events = json!([
        {"number": 1, "kind": "deadlock", "session": 2, "key": "x", "text": "#2 => x = #1 => y = #2"},
        {"number": 2, "kind": "lease_end", "session": 1, "name": "one", "key": "y", "text": "its lease ended, and the lock with it"},
        {"number": 3, "kind": "break", "owner": "job-7", "key": "o", "text": told["events"][2]["text"]},
    ]);
    assert_eq!(told, json!({"events": events, "last": 3}));
    assert_eq!(
        known(server.asked("/api/events?after=2"))["events"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    assert_eq!(
        server.asked("/api/events?after=3"),
        json!({"events": [], "last": 3})
    );
}

#[test]
fn a_session_is_ended_by_its_number() {
    let server = Server::start_with_admin();
    let [mut a, mut b] = [(); 2].map(|()| server.connect());
    a.ask("lock k", "200 Acquired");
    b.send("lock k 60");
    server.until_waiting(1);
    let other = server.order(
        "/api/kick",
        &json!({"session": 1, "instance": "that of before"}),
    );
    assert_eq!(other.status, 409, "{}", other.body);
    let instance = &server.asked("/api/info")["instance"];
    let done = server.order("/api/kick", &json!({"session": 1, "instance": instance}));
    assert_eq!((done.status, done.json()), (200, json!({"done": true})));
    b.expect("200 Acquired");
    a.expect_closed();
    let again = server.order("/api/kick", &json!({"session": 1}));
    assert_eq!(
        (again.status, again.json()),
        (404, json!({"error": "there is no such session"}))
    );
    let events = server.asked("/api/events");
    let told = events["events"].as_array().expect("a list").iter();
    let mut kinds: Vec<_> = told.map(|one| one["kind"].as_str()).collect();
    // Its connection says its end when it comes to it, before or after whoever ordered it.
    kinds.sort_unstable();
    assert_eq!(kinds, [Some("kick"), Some("session_end")]);
    assert_eq!(server.asked("/api/info")["kicks"], json!(1));
    let sessions = server.asked("/api/sessions");
    assert_eq!(
        sessions["sessions"].as_array().map(Vec::len),
        Some(1),
        "those of acts are over"
    );
}

/// The holder that the operator saw, and no later one.
#[test]
fn a_lock_is_taken_from_whom_it_was_to_be_taken() {
    let server = Server::start_with_admin();
    let [mut a, mut b] = [(); 2].map(|()| server.connect());
    a.ask("lock k\\x", "200 Acquired");
    let token = |client: &mut Client| {
        client.send("token k\\x");
        let answer = client.read();
        answer
            .strip_prefix("200 ")
            .and_then(|token| token.parse::<u64>().ok())
    };
    let seen = token(&mut a).expect("a token");
    a.ask("unlock k\\x", "200 Unlocked");
    b.ask("lock k\\x", "200 Acquired");
    let late = server.order(
        "/api/force_unlock",
        &json!({"key": "k\\x5Cx", "token": seen}),
    );
    assert_eq!(late.status, 404, "{}", late.body);
    assert!(token(&mut b).is_some());
    let seen = token(&mut b);
    let done = server.order(
        "/api/force_unlock",
        &json!({"key": "k\\x5Cx", "token": seen}),
    );
    assert_eq!((done.status, done.json()), (200, json!({"done": true})));
    b.ask("unlock k\\x", "403 revoked");
    a.ask("lock k\\x", "200 Acquired");
    assert_eq!(
        server
            .order("/api/force_unlock", &json!({"key": "free"}))
            .status,
        404
    );
}

#[test]
fn only_what_owners_hold_is_broken() {
    let server = Server::start_with_admin();
    let mut a = server.connect();
    a.ask("lock k 0 job-7 0", "200 Acquired");
    a.ask("lock l", "200 Acquired");
    assert_eq!(server.order("/api/break", &json!({"key": "l"})).status, 409);
    assert_eq!(server.order("/api/break", &json!({"key": "k"})).status, 200);
    a.ask("token k job-7", "403 not_locked");
    assert_eq!(server.order("/api/break", &json!({"key": "k"})).status, 404);
}

#[test]
fn orders_are_whole_and_come_from_no_other_page() {
    let server = Server::start_with_admin();
    let mut a = server.connect();
    a.ask("lock k", "200 Acquired");
    let to = server.admin.expect("HTTP");
    let order = |lines: &[&str], body: &str| {
        http::request(to, "POST", "/api/force_unlock", lines, body).status
    };
    let json = "Content-Type: application/json";
    let body = r#"{"key":"k"}"#;
    assert_eq!(order(&[json, "Sec-Fetch-Site: cross-site"], body), 403);
    assert_eq!(order(&[json, "Origin: http://evil.example"], body), 403);
    assert_eq!(
        order(&[], body),
        415,
        "what a form of another page could send"
    );
    assert_eq!(order(&[json], "{"), 400);
    assert_eq!(order(&[json], r#"{"kee":"k"}"#), 422);
    let long = format!(r#"{{"key":"{}"}}"#, "x".repeat(20_000));
    let refused = http::request(to, "POST", "/api/force_unlock", &[json], &long);
    assert_eq!(refused.status, 413);
    let told: Value = serde_json::from_str(&refused.body).expect("JSON");
    assert!(told["error"].is_string(), "{told}");
    a.ask("unlock k", "200 Unlocked");
}

/// A user of few keys sees no others, nor whose they are; and only an admin acts.
#[cfg(feature = "auth")]
#[test]
fn each_user_sees_and_does_what_it_may() {
    let server = Server::start_with(|config| {
        config.admin = vec!["127.0.0.1:0".parse().expect("an address")];
        config.auth_file =
            Some(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/access/users.toml").into());
    });
    let to = server.admin.expect("HTTP");
    let send = |user: &str, method: &str, path: &str, body: &str| {
        let who = STANDARD.encode(format!("{user}:{user}-secret"));
        let who = format!("Authorization: Basic {who}");
        http::request(
            to,
            method,
            path,
            &[&who, "Content-Type: application/json"],
            body,
        )
    };
    let connect = |user: &str| {
        let mut client = Client::connect(server.address);
        client.ask(format!("auth {user} {user}-secret"), "200 OK");
        client
    };
    let [mut web, mut shop, mut other] = ["web", "shop", "shop"].map(connect);
    assert_eq!(server.get("/").status, 401);
    assert_eq!(server.get("/api/info").status, 401);
    web.ask("lock web:1", "200 Acquired");
    web.ask("lock common:1", "200 Acquired");
    shop.ask("lock shop:1", "200 Acquired");
    let waits = |user: &str| send(user, "GET", "/api/waits", "").json();
    let until_waiting = |count: u64| while waits("ops")["requests_in_all"] != json!(count) {};
    other.send("lock common:1 60");
    until_waiting(1);
    shop.send("lock common:1 60");
    until_waiting(2);
    let keys = |user: &str| {
        let locks = send(user, "GET", "/api/locks", "").json();
        let locks = locks["locks"].as_array().expect("a list").clone();
        locks
            .iter()
            .map(|lock| lock["key"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys("web"), ["common:1", "web:1"]);
    assert_eq!(keys("ops"), ["common:1", "shop:1", "web:1"]);
    let hidden = send("web", "GET", "/api/locks?key=shop:1", "").json();
    assert_eq!(hidden, json!({"locks": []}));
    let sessions = send("web", "GET", "/api/sessions", "").json();
    let sessions = sessions["sessions"].as_array().expect("a list").clone();
    assert!(
        sessions.iter().all(|one| one["user"] == json!("web")),
        "{sessions:?}"
    );
    assert_eq!(sessions.len(), 1);
    assert_eq!(send("shop", "GET", "/api/locks", "").status, 403);
    let take = r#"{"key":"common:1"}"#;
    assert_eq!(send("web", "POST", "/api/force_unlock", take).status, 403);
    let rights = |user: &str| send(user, "GET", "/api/rights", "").json();
    assert_eq!(
        rights("web"),
        json!({"user": "web", "read": true, "admin": false})
    );
    assert_eq!(
        rights("ops"),
        json!({"user": "ops", "read": true, "admin": true})
    );
    assert_eq!(send("ops", "POST", "/api/force_unlock", take).status, 200);
    other.expect("200 Acquired");
    // A deadlock is there for whoever may name all of its keys.
    for (user, number) in [("web", 2), ("shop", 3)] {
        let [mut a, mut b] = [user, user].map(connect);
        a.ask(format!("lock {user}:a"), "200 Acquired");
        b.ask(format!("lock {user}:b"), "200 Acquired");
        a.send(format!("lock {user}:b 60"));
        until_waiting(2);
        b.send(format!("lock {user}:a 60"));
        assert!(b.read().starts_with("423 Deadlock: "));
        b.ask("unlock_all", "200 OK");
        a.expect("200 Acquired");
        let all = send("ops", "GET", "/api/events", "").json();
        assert_eq!(all["last"], number);
        let told = send("web", "GET", "/api/events?after=1", "").json();
        let [told_of] = &**told["events"].as_array().expect("a list") else {
            panic!("{told}")
        };
        assert_eq!(
            (&told_of["kind"], &told["last"]),
            (&json!("deadlock"), &json!(2))
        );
    }
}

fn encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

fn decoded(base64: &str) -> Vec<u8> {
    STANDARD.decode(base64).expect("base64")
}
