//! `elock lock`: what it runs, what the command finds, and what comes out.
#![cfg(feature = "cli")]

mod common;
#[path = "cli_lock/elock.rs"]
#[allow(dead_code, reason = "each test program uses its own part")]
mod elock;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use common::{Client, Server};
use elock::{ELOCK, Elock, elock};

/// What a run said and how it ended.
fn run(server: &Server, words: &[&str]) -> (Option<i32>, String, String) {
    let output = elock(server.address, words).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Stands before the server, and lets all pass but the question who holds what.
fn deaf_to_locks(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let server = TcpStream::connect(server).expect("a server");
            let [mut from, mut to] = [&server, &client].map(|one| one.try_clone().expect("a copy"));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || {
                for line in BufReader::new(client).lines().map_while(Result::ok) {
                    if !line.starts_with("locks ") {
                        let _ = writeln!(&server, "{line}\r");
                    }
                }
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

/// The text without its digits, which are numbers of sessions and times.
fn without_numbers(said: &str) -> String {
    said.chars().filter(|one| !one.is_ascii_digit()).collect()
}

#[test]
fn the_exit_code_is_the_commands() {
    let server = Server::start();
    for (script, code) in [
        ("true", 0),
        ("exit 7", 7),
        ("exit 79", 79),
        ("exit 127", 127),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let ran = run(&server, &["k", "--", "sh", "-c", script]);
        assert_eq!(ran, (Some(code), String::new(), String::new()), "{script}");
    }
}

#[test]
fn a_command_that_cannot_be_run_is_told_from_one_that_failed() {
    let server = Server::start();
    let (code, _, said) = run(&server, &["k", "--", "./no\x1b[31m such"]);
    let line = "elock: ./no\\x1B[31m such: No such file or directory (os error 2)\n";
    assert_eq!((code, said.as_str()), (Some(127), line));
    let (code, _, said) = run(&server, &["k", "--", "/"]);
    let line = "elock: /: Permission denied (os error 13)\n";
    assert_eq!((code, said.as_str()), (Some(126), line));
    server.connect().ask("lock k", "200 Acquired");
}

#[test]
fn a_lock_that_is_not_to_be_had_has_a_code_of_its_own() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("name web-3\u{202e}:cron", "200 OK");
    holder.ask("lock k", "200 Acquired");
    for (words, code) in [
        (&["--no-wait"][..], 1),
        (&["--wait", "20ms"], 1),
        // For as long as whoever sits at a terminal is told what is waited for.
        (&["--wait", "1.2s"], 1),
        (&["--no-wait", "-E", "42"], 42),
        (&["--wait", "0.02", "--conflict-exit-code", "0"], 0),
    ] {
        let words = [&["k"], words, &["--", "echo", "ran"]].concat();
        let (ended, out, said) = run(&server, &words);
        assert_eq!((ended, out.as_str()), (Some(code), ""), "{words:?}");
        let said = without_numbers(&said);
        let held = "elock: k: held by # web-\\xE\\x\\xAE:cron, for ";
        assert!(said.starts_with(held), "{words:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn of_several_keys_those_that_are_held_are_told() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock b\u{9b}c", "200 Acquired");
    holder.ask("lock_slot d 2", "200 Acquired");
    server.connect().ask("lock_slot d 2", "200 Acquired");
    let words = &["a", "b\u{9b}c", "d", "d", "--no-wait", "--", "echo", "ran"];
    let (code, out, said) = run(&server, words);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let said = without_numbers(&said);
    let lines: Vec<&str> = said.lines().collect();
    let [b, d] = lines.as_slice() else {
        panic!("{said}");
    };
    assert!(
        b.starts_with("elock: b\\xC\\xBc: held by #, for "),
        "{said}"
    );
    assert!(
        d.starts_with("elock: d: held by # and another, for "),
        "{said}"
    );
}

#[test]
fn who_holds_the_lock_is_not_waited_for() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock k", "200 Acquired");
    let words = &["k", "--no-wait", "-E", "9", "--", "echo", "ran"];
    let address = deaf_to_locks(server.address);
    let output = elock(address, words).output().expect("it runs");
    assert_eq!(output.status.code(), Some(9), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(said, "elock: k: the lock is not to be had\n");
}

#[test]
fn a_grace_period_that_the_server_does_not_give_is_told_from_no_server() {
    let server = Server::start();
    let (code, out, said) = run(&server, &["k", "--grace", "100h", "--", "echo", "ran"]);
    assert_eq!((code, out.as_str()), (Some(65), ""));
    let told = "--grace is too long: at most 1d 0h";
    assert_eq!(said, format!("elock: {}: {told}\n", server.address));
}

#[test]
fn what_a_flag_cannot_be_is_told_with_its_name() {
    let server = Server::start();
    for (words, told) in [
        (
            &["--lease", "0"][..],
            "'0' for '--lease <TIME>': has to be 1s or more",
        ),
        (
            &["--lease", "1ms"],
            "'1ms' for '--lease <TIME>': has to be 1s or more",
        ),
        (
            &["--grace", "0.5"],
            "'0.5' for '--grace <TIME>': has to be 1s or more",
        ),
        (
            &["--lease", "10s", "--kill-after", "20s"],
            "--kill-after 20s is more than --lease 10s leaves room for",
        ),
    ] {
        let words = [&["k"], words, &["--", "echo", "ran"]].concat();
        let (code, out, said) = run(&server, &words);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{words:?}");
        assert!(said.contains(told), "{said}");
    }
}

#[test]
fn a_deadlock_is_told() {
    let server = Server::start();
    let (mut between, mut last) = (server.connect(), server.connect());
    between.ask("lock b", "200 Acquired");
    last.ask("lock c", "200 Acquired");
    let mut waiting = Elock::start(server.address, &["a", "b", "c", "--", "echo", "ran"]);
    server.until_waiting(1);
    last.send("lock a 60");
    server.until_waiting(2);
    between.ask("unlock b", "200 Unlocked");
    assert_eq!(waiting.code(), Some(75));
    let (out, said) = waiting.rest();
    assert_eq!(out, "");
    assert!(said.contains("=> c ="), "{said}");
    last.expect("200 Acquired");
}

#[test]
fn without_a_server_nothing_is_run() {
    let server = Server::start();
    let address = server.address;
    drop(server);
    for wait in [&["--no-wait"][..], &["--wait", "0"], &["--wait", "50ms"]] {
        let words = [&["k"], wait, &["--", "echo", "ran"]].concat();
        let output = elock(address, &words).output().expect("it runs");
        assert_eq!(output.status.code(), Some(69));
        assert_eq!(output.stdout, b"");
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(said.starts_with(&format!("elock: {address}: ")), "{said}");
        assert!(said.contains("refused"), "{said}");
    }
}

#[test]
fn a_server_that_is_just_started_again_is_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    for (number, wait) in [&["--wait", "30s"][..], &[]].into_iter().enumerate() {
        let socket = directory.path().join(number.to_string());
        let socket = format!("unix:{}", socket.display());
        let words = [
            &["lock", "--server", &socket, "k"],
            wait,
            &["--", "echo", "ran"],
        ];
        let mut running = Elock::spawn(Command::new(ELOCK).args(words.concat()));
        let said = running.said();
        assert!(said.starts_with("elock: no answer yet from "), "{said}");
        let address = socket.parse().expect("an address");
        let _server = Server::start_with(|config| config.listen.push(address));
        running.expect("ran");
        assert_eq!(running.code(), Some(0));
    }
}

/// A process that is stopped, for one. It is tried for longer than the wait.
#[test]
fn a_server_that_says_nothing_is_named() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound");
    for wait in [&["--wait", "200ms"][..], &["--no-wait"]] {
        let words = [&["k"], wait, &["--", "echo", "ran"]].concat();
        let said = Elock::start(address, &words).said();
        let told = format!("elock: no answer yet from {address}; trying for ");
        assert!(said.starts_with(&told), "{said}");
        assert!(said.ends_with(", and each once at least"), "{said}");
    }
}

#[test]
fn a_key_a_value_and_a_name_are_given_as_they_are_shown() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock z\u{1}z", "200 Acquired");
    holder.ask("lock a\\x41", "200 Acquired");
    holder.ask("lock_value doc r\u{1}", "200 Acquired");
    for key in ["z\\x01z", "a\\x5Cx41"] {
        let (code, out, said) = run(&server, &[key, "--no-wait", "--", "echo", "ran"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{key}: {said}");
        let told = format!("elock: {key}: held by #");
        assert!(said.starts_with(&told), "{said}");
    }
    let words = [
        "doc",
        "--shared",
        "r\\x01",
        "--no-wait",
        "--name",
        "n\\x2D1",
    ];
    let mut reader = Elock::script(server.address, &words, "echo on; sleep 60");
    reader.expect("on");
    let sessions = server.connect().ask_list("sessions");
    let named = |line: &String| line.contains("\"n-1\"");
    assert!(sessions.iter().any(named), "{sessions:?}");
}

#[test]
fn bad_usage_is_told() {
    let server = Server::start();
    for words in [
        &["k"][..],
        &["--", "true"],
        &["k", "--"],
        &["k", "j", "--shared", "v", "--", "true"],
        &["k", "j", "--slots", "2", "--", "true"],
        &["k", "--slots", "2", "--shared", "v", "--", "true"],
        &["k", "--slots", "0", "--", "true"],
        &["k", "--wait", "1s", "--no-wait", "--", "true"],
        &["k", "--wait", "soon", "--", "true"],
        &["k", "--lease", "0", "--", "true"],
        &["k", "--grace", "0s", "--", "true"],
        &["k", "--on-lost", "pray", "--", "true"],
        &["a b", "--", "true"],
        &["", "--", "true"],
        &["k", "--name", "a\nb", "--", "true"],
    ] {
        let (code, _, said) = run(&server, words);
        assert_eq!(code, Some(2), "{words:?}: {said}");
        assert!(!said.contains('\x1b'), "{said}");
    }
}

#[test]
fn the_command_finds_its_keys_tokens_and_server() {
    let server = Server::start();
    let show = "echo $ELOCK_KEY/$ELOCK_TOKEN/$ELOCK_SERVER";
    let mut before = 0;
    for keys in [&["k"][..], &["k"], &["z", "a", "k"]] {
        let (code, out, _) = run(&server, &[keys, &["--", "sh", "-c", show]].concat());
        let found: Vec<&str> = out.trim_end().split('/').collect();
        assert_eq!(code, Some(0));
        assert_eq!(found[0], keys.join(" "));
        assert_eq!(found[2], server.address.to_string());
        let tokens: Vec<u64> = found[1].split(' ').filter_map(|t| t.parse().ok()).collect();
        assert_eq!(tokens.len(), keys.len());
        assert!(tokens.iter().all(|&token| token > before), "{out}");
        before = tokens.into_iter().max().expect("a token");
    }
}

#[test]
fn each_key_has_its_own_token() {
    let server = Server::start();
    let mut held = Elock::script(server.address, &["z", "a"], "echo $ELOCK_TOKEN; sleep 60");
    let tokens = held.line();
    let mut client = server.connect();
    let of = |client: &mut Client, key: &str| {
        client.send(format!("watch {key}"));
        let answer = client.read();
        answer.split(' ').nth(1).expect("a token").to_owned()
    };
    let expected = format!("{} {}", of(&mut client, "z"), of(&mut client, "a"));
    assert_eq!(tokens, expected);
}

#[test]
fn a_key_is_bytes() {
    let server = Server::start();
    let key = std::ffi::OsStr::from_bytes(b"\xff\x01k");
    let mut command = elock(server.address, &[]);
    let command = command.arg(key).args(["--", "printenv", "ELOCK_KEY"]);
    let output = command.output().expect("it runs");
    assert_eq!(output.stdout, b"\xff\x01k\n");
}

#[test]
fn readers_share_and_slots_are_counted() {
    let server = Server::start();
    let held = "echo held; sleep 60";
    let at = server.address;
    let mut readers = [0, 1].map(|_| Elock::script(at, &["doc", "--shared", "r"], held));
    let mut senders = [0, 1].map(|_| Elock::script(at, &["mail", "--slots", "2"], held));
    readers.iter_mut().for_each(|reader| reader.expect("held"));
    senders.iter_mut().for_each(|sender| sender.expect("held"));
    for words in [
        &["doc"][..],
        &["doc", "--shared", "w"],
        &["mail", "--slots", "2"],
    ] {
        let words = [words, &["--no-wait", "--", "true"]].concat();
        assert_eq!(run(&server, &words).0, Some(1), "{words:?}");
    }
    let third = ["mail", "--slots", "3", "--no-wait", "--", "true"];
    assert_eq!(run(&server, &third).0, Some(0));
}

#[test]
fn a_second_waiter_starts_when_the_first_command_is_dead() {
    let server = Server::start();
    let slowly = "trap 'sleep 0.1; exit 3' TERM; echo $$; while :; do sleep 0.01; done";
    let mut first = Elock::script(server.address, &["k"], slowly);
    let command: u32 = first.line().parse().expect("a process");
    let check = format!("test -e /proc/{command} && echo alive || echo dead");
    let mut second = Elock::script(server.address, &["k"], &check);
    server.until_waiting(1);
    first.signal("TERM");
    assert_eq!(first.code(), Some(3));
    second.expect("dead");
    assert_eq!(second.code(), Some(0));
}

#[test]
fn the_lock_is_free_when_elock_has_ended() {
    let server = Server::start();
    let mut client = server.connect();
    for _ in 0..20 {
        assert_eq!(run(&server, &["k", "--", "true"]).0, Some(0));
        client.ask("lock k", "200 Acquired");
        client.ask("unlock k", "200 Unlocked");
    }
}

#[test]
fn term_is_not_swallowed_while_waiting() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock k", "200 Acquired");
    for (name, number) in [
        ("TERM", 15),
        ("INT", 2),
        ("HUP", 1),
        ("QUIT", 3),
        ("USR1", 10),
    ] {
        let mut waiting = Elock::start(server.address, &["k", "--", "echo", "ran"]);
        server.until_waiting(1);
        waiting.signal(name);
        assert_eq!(waiting.code(), Some(128 + number), "{name}");
        assert_eq!(waiting.rest(), (String::new(), String::new()));
        server.until_waiting(0);
    }
    let mut next = server.connect();
    next.send("lock k 60");
    server.until_waiting(1);
    holder.ask("unlock k", "200 Unlocked");
    next.expect("200 Acquired");
}

/// The grant and the signal cross on the way: whichever comes first, no lock stays behind.
#[test]
fn a_signal_at_the_moment_of_the_grant_leaves_no_lock_behind() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock k", "200 Acquired");
    for round in 0..20 {
        let mut waiting = Elock::start(server.address, &["k", "--", "sleep", "60"]);
        server.until_waiting(1);
        if round % 2 == 0 {
            holder.ask("unlock k", "200 Unlocked");
            waiting.signal("TERM");
        } else {
            waiting.signal("TERM");
            holder.ask("unlock k", "200 Unlocked");
        }
        assert_eq!(waiting.code(), Some(143));
        holder.ask("lock k", "200 Acquired");
    }
}

#[test]
fn signals_go_to_the_command() {
    let server = Server::start();
    for name in [
        "TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "ALRM",
    ] {
        let script = format!(
            "trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.01; done"
        );
        let mut running = Elock::script(server.address, &["k"], &script);
        running.expect("ready");
        running.signal(name);
        running.expect(&format!("got {name}"));
        assert_eq!(running.code(), Some(5), "{name}");
    }
}

#[test]
fn what_was_ignored_stays_ignored() {
    let server = Server::start();
    let mut nohup = std::process::Command::new("sh");
    let script = "trap '' HUP; exec \"$0\" lock --server \"$1\" k -- sh -c \"$2\"";
    let inner = "kill -HUP $PPID; kill -HUP $$; echo on";
    let at = server.address.to_string();
    let mut running = Elock::spawn(nohup.args(["-c", script, elock::ELOCK, &at, inner]));
    running.expect("on");
    assert_eq!(running.code(), Some(0));
}

#[test]
fn a_stopped_command_can_be_continued_and_ended() {
    let server = Server::start();
    let script = "trap 'echo on' CONT; echo $$; while :; do sleep 0.01; done";
    let mut running = Elock::script(server.address, &["k"], script);
    let command: u32 = running.line().parse().expect("a process");
    elock::signal(command, "STOP");
    elock::until("a stop", || elock::state(command) == Some('T'));
    running.signal("CONT");
    running.expect("on");
    running.signal("TERM");
    assert_eq!(running.code(), Some(143));
}

#[test]
fn the_end_of_output_comes_when_the_command_ends() {
    let server = Server::start();
    let mut command = elock(server.address, &["k", "--", "echo", "all"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut out = String::new();
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_to_string(&mut out).expect("text");
    assert_eq!(out, "all\n");
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn what_a_command_leaves_running_is_left_alone() {
    let server = Server::start();
    let script = "sleep 60 >/dev/null 2>&1 & echo $!";
    let mut running = Elock::script(server.address, &["k"], script);
    let left: u32 = running.line().parse().expect("a process");
    assert_eq!(running.code(), Some(0));
    assert!(elock::state(left).is_some());
    elock::signal(left, "KILL");
}

#[test]
fn a_session_is_called_by_its_machine_process_and_program() {
    let server = Server::start();
    for (words, ending) in [(&[][..], ":sh"), (&["--name", "deploy"], "deploy")] {
        let words = [&[ending], words].concat();
        let mut running = Elock::script(server.address, &words, "echo on; sleep 60");
        running.expect("on");
        let sessions = server.connect().ask_list("sessions");
        let named = |line: &String| line.contains(&format!("{ending}\""));
        assert!(sessions.iter().any(named), "{sessions:?}");
    }
}

#[test]
fn what_was_blocked_at_the_start_is_heard() {
    let server = Server::start();
    let script = "trap 'echo got; exit 4' TERM; echo ready; while :; do sleep 0.01; done";
    let mut command = std::process::Command::new("env");
    command.args(["--block-signal=CHLD", "--block-signal=TERM", elock::ELOCK]);
    command.args(["lock", "--server", &server.address.to_string()]);
    command.args(["k", "--", "sh", "-c", script]);
    let mut running = Elock::spawn(&mut command);
    running.expect("ready");
    running.signal("TERM");
    running.expect("got");
    assert_eq!(running.code(), Some(4));
}

#[test]
fn no_room_for_files_is_told() {
    let server = Server::start();
    for room in 5..20 {
        let limited = format!("ulimit -n {room}; exec \"$@\"");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &limited, "sh", elock::ELOCK, "lock"]);
        command.args(["--server", &server.address.to_string()]);
        let output = command.args(["k", "--", "true"]).output().expect("it runs");
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 69 | 126)), "{room}: {output:?}");
        assert_eq!(code == Some(0), output.stderr.is_empty(), "{output:?}");
    }
}
