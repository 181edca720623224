//! Bytes as they come in: in pieces, all at once, too many, and of any value.

mod common;

use common::Server;

#[test]
fn a_line_may_come_in_pieces() {
    let server = Server::start();
    let mut a = server.connect();
    for byte in b"lock k\r\nunlock" {
        a.send_raw([*byte]);
    }
    a.expect("200 Acquired");
    a.send_raw(" k\n");
    a.expect("200 Unlocked");
}

#[test]
fn many_lines_may_come_at_once_and_are_answered_in_order() {
    let server = Server::start();
    let mut a = server.connect();
    let commands = "lock k\nunlock k\nunlock k\necho x\n".repeat(5_000);
    let answers = [
        "200 Acquired",
        "200 Unlocked",
        "403 not_locked",
        r#"200 ["x"]"#,
    ];
    let mut writer = a.socket().try_clone().expect("a socket");
    let sender = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, commands.as_bytes()).expect("the connection stands");
    });
    for answer in answers.iter().cycle().take(20_000) {
        a.expect(answer);
    }
    sender.join().expect("everything is sent");
}

#[test]
fn what_was_sent_whole_before_the_end_of_input_is_answered() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("set_timeout 0", "200 timeout set");
    a.send_raw("lock k\nunlock k\nlock l\nlock half");
    a.half_close();
    a.expect("200 Acquired");
    a.expect("200 Unlocked");
    a.expect("200 Acquired");
    a.expect_closed();
    b.ask("lock l 60", "200 Acquired");
    b.ask("lock half", "200 Acquired");
}

/// Some of these may have to wait for others of their kind; of one client none has to.
#[test]
fn a_listing_is_given_at_the_end_of_input() {
    let server = Server::start();
    for _ in 0..30 {
        let mut client = server.connect();
        client.send_raw("kick nobody\nsessions\ndebug\n");
        client.half_close();
        client.expect("403 unknown");
        for _ in 0..2 {
            while client.read() != "END" {}
        }
        client.expect_closed();
    }
}

#[test]
fn a_request_that_waits_when_the_input_ends_is_refused_and_those_behind_it_are_answered() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock k", "200 Acquired");
    b.send_raw("echo 1\nlock k 3600\necho 2\nlock k 3600\necho 3\n");
    b.half_close();
    b.expect(r#"200 ["1"]"#);
    b.expect("409 Unavailable");
    b.expect(r#"200 ["2"]"#);
    b.expect("409 Unavailable");
    b.expect(r#"200 ["3"]"#);
    b.expect_closed();
    server.until_waiting(0);
}

#[test]
fn answers_before_a_request_that_waits_do_not_wait_with_it() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    a.ask("lock k", "200 Acquired");
    b.send_raw("echo first\nlock k 3600\n");
    b.expect(r#"200 ["first"]"#);
    a.ask("unlock k", "200 Unlocked");
    b.expect("200 Acquired");
}

#[test]
fn an_overlong_line_is_dropped_to_its_end_and_answered_once() {
    let server = Server::start();
    let mut a = server.connect();
    let exact = format!("echo {}", "x".repeat(4096 - 5));
    let echoed = format!("200 [\"{}\"]", "x".repeat(4096 - 5));
    a.ask(&exact, &echoed);
    a.ask(format!("{exact}\r"), &echoed);
    a.ask(format!("{exact}y"), "413 Line too long: at most 4096 bytes");
    let endless = "lock k\0".repeat(300_000);
    a.send_raw(&endless);
    a.send_raw("\nlock k\n");
    a.expect("413 Line too long: at most 4096 bytes");
    a.expect("200 Acquired");
}

#[test]
fn keys_are_bytes() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    let every_byte: Vec<u8> = (0..=255).filter(|byte| !b" \n".contains(byte)).collect();
    let lock = |key: &[u8]| [b"lock ", key, b" 0"].concat();
    a.ask(lock(&every_byte), "200 Acquired");
    b.ask(lock(&every_byte), "409 Unavailable");
    b.ask(lock(&every_byte[1..]), "200 Acquired");
    b.ask(lock(b"\xff\xfe"), "200 Acquired");
    b.ask(lock("schl\u{fc}ssel".as_bytes()), "200 Acquired");
    b.ask(lock("\u{9b}31m\u{202e}".as_bytes()), "200 Acquired");
    a.ask(lock(b"schl\xfcssel"), "200 Acquired");
    let lines = {
        b.send("debug");
        std::iter::from_fn(|| Some(b.read_bytes()).filter(|line| line != b"END"))
            .collect::<Vec<_>>()
    };
    let utf8 = "LOCK schl\u{fc}ssel #2 waiters=0 ".as_bytes();
    assert!(
        lines.iter().any(|line| line.starts_with(utf8)),
        "text stays readable"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with(b"LOCK \\xFF\\xFE #2 waiters=0 "))
    );
    let harmless =
        |line: &Vec<u8>| str::from_utf8(line).is_ok_and(|line| !line.chars().any(char::is_control));
    assert!(
        lines.iter().all(harmless),
        "no control character reaches a terminal"
    );
}

#[test]
fn noise_is_answered_line_by_line() {
    let server = Server::start();
    let mut a = server.connect();
    // A fixed linear congruential generator: random enough, and the same each time.
    let mut state = 7_u32;
    let mut noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(100_000)
    .collect();
    noise.push(b'\n');
    let lines = noise.iter().filter(|byte| **byte == b'\n').count();
    let mut writer = a.socket().try_clone().expect("a socket");
    let sender = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, &noise).expect("the connection stands");
    });
    for _ in 0..lines {
        let answer = a.read_bytes();
        assert!(answer.starts_with(b"400 "), "{}", answer.escape_ascii());
    }
    sender.join().expect("everything is sent");
    a.ask("lock k", "200 Acquired");
}
