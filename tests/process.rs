//! The program as an operator meets it: flags, signals, exit codes, what it says.

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};

use common::Client;
use common::process::{ELOCKD, Process, run};
use tempfile::TempDir;

/// Everything that was logged until the end.
fn rest_of_log(process: &mut Process) -> String {
    let mut log = String::new();
    let mut rest = process.log.take().expect("a log");
    rest.read_to_string(&mut log).expect("text");
    log
}

/// A path in a directory of its own, and the flag that names it.
fn socket_path() -> (TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("elockd.sock");
    let flag = format!("unix:{}", path.display());
    (directory, path, flag)
}

#[test]
fn the_signals_of_a_stop_answer_those_who_wait_and_exit_with_zero() {
    for signal in ["TERM", "INT", "QUIT"] {
        let mut process = Process::start(&[]);
        let [mut a, mut b, mut idle] = [process.connect(), process.connect(), process.connect()];
        a.ask("lock k", "200 Acquired");
        b.send_raw("lock k 3600\necho behind it\nlock k 3600\nlock l\n");
        idle.ask("echo", "200 []");
        a.until("a waiter", |lines| {
            lines.iter().any(|line| line.starts_with("REQUEST "))
        });
        process.signal(signal);
        b.expect("503 Shutting down");
        b.expect(r#"200 ["behind","it"]"#);
        b.expect("503 Shutting down");
        b.expect("503 Shutting down");
        b.expect_closed();
        idle.expect_closed();
        assert_eq!(process.exit_code(), Some(0));
        let log = rest_of_log(&mut process);
        let last = log.lines().last().expect("a line");
        assert!(last.contains("INFO") && last.ends_with("stopped"), "{log}");
    }
}

#[test]
fn other_signals_are_logged_and_do_nothing() {
    let mut process = Process::start(&[]);
    let mut client = process.connect();
    client.ask("lock k", "200 Acquired");
    process.signal("HUP");
    process.until_logged("reloaded nothing");
    process.signal("USR2");
    process.until_logged("SIGUSR2 ignored");
    client.ask("unlock k", "200 Unlocked");
}

#[test]
fn a_drain_ends_in_a_stop_when_the_last_lock_is_released() {
    let mut process = Process::start(&[]);
    let [mut a, mut b] = [process.connect(), process.connect()];
    a.ask("lock k", "200 Acquired");
    process.signal("USR1");
    process.until_logged("draining: no new locks by=\"a signal\" locks=1 waiters=0");
    b.ask("lock l 60", "503 Draining");
    a.ask("unlock k", "200 Unlocked");
    a.expect_closed();
    b.expect_closed();
    assert_eq!(process.exit_code(), Some(0));
    let log = rest_of_log(&mut process);
    assert!(log.contains("drained: nothing is held"), "{log}");
}

#[test]
fn a_drain_ends_in_a_stop_when_its_time_is_over() {
    let mut process = Process::start(&["--drain-ms", "50"]);
    let mut holder = process.connect();
    holder.ask("name web-3:cron", "200 OK");
    for number in 0..10 {
        holder.ask(format!("lock_value k{number} v"), "200 Acquired");
    }
    holder.ask("lock_value k0 v 0 job 0", "200 Acquired");
    holder.ask("lock z1 0 job 0", "200 Acquired");
    holder.ask("lock z2", "200 Acquired");
    holder.ask("drain", "200 OK");
    holder.expect_closed();
    assert_eq!(process.exit_code(), Some(0));
    let log = rest_of_log(&mut process);
    assert!(log.contains("locks are held locks=12"), "{log}");
    for named in [
        "\"k0: #1 (web-3:cron), @job; k1: #1 (web-3:cron); k2: ",
        "; k9: #1 (web-3:cron); ... and 2 more\"",
    ] {
        assert!(log.contains(named), "{log}");
    }
}

#[test]
fn a_stop_ends_a_drain_at_once() {
    let mut process = Process::start(&["--drain-ms", "3600000"]);
    let [mut holder, mut waiter] = [process.connect(), process.connect()];
    holder.ask("lock k", "200 Acquired");
    waiter.send("lock k 60");
    holder.until("a waiter", |lines| {
        lines.iter().any(|line| line.starts_with("REQUEST "))
    });
    holder.ask("drain", "200 OK");
    process.signal("TERM");
    waiter.expect("503 Shutting down");
    assert_eq!(process.exit_code(), Some(0));
}

#[cfg(feature = "store")]
#[test]
fn a_file_size_limit_is_an_answer_and_not_the_end() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // More than an empty store takes. The unit is half a kilobyte or a whole one, by shell.
    let limited = format!("ulimit -f 4096 && exec {ELOCKD} --listen 127.0.0.1:0");
    let mut command = Command::new("sh");
    command
        .args(["-c", &limited])
        .env("ELOCK_DATA_DIR", directory.path());
    let mut process = Process::spawn(&mut command);
    let mut client = process.connect();
    let key = "k".repeat(4_000);
    let mut answers = (0..10_000).map(|number| {
        client.send(format!("lock {number}{key}"));
        client.read()
    });
    let refusal = answers.find(|answer| answer != "200 Acquired");
    let refusal = refusal.expect("the limit is reached");
    assert!(refusal.starts_with("500 Not stored"), "{refusal}");
    process.until_logged("NOTHING CAN BE STORED");
    client.ask("echo still here", r#"200 ["still","here"]"#);
    process.connect().ask("echo", "200 []");
}

#[test]
fn a_second_signal_exits_at_once() {
    let mut process =
        Process::start(&["--shutdown-ms", "3600000", "--unsent-timeout-ms", "3600000"]);
    let client = process.connect();
    // Answers that nobody reads keep the server from ending by itself: once the client cannot
    // write any more, the server is stuck in writing to it.
    let patience = std::time::Duration::from_millis(500);
    client
        .socket()
        .set_write_timeout(Some(patience))
        .expect("a socket");
    while client.socket().write(&b"help\n".repeat(10_000)).is_ok() {}
    process.signal("TERM");
    process.until_logged("stopping");
    process.signal("INT");
    assert_eq!(process.exit_code(), Some(1));
    let log = rest_of_log(&mut process);
    assert!(log.contains("SIGINT during the stop"), "{log}");
}

#[test]
fn what_does_not_end_in_time_is_cut_off() {
    let mut process = Process::start(&["--shutdown-ms", "0"]);
    let mut a = process.connect();
    a.ask("lock k", "200 Acquired");
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));
    a.expect_closed();
}

#[test]
fn a_port_in_use_is_one_clear_line_and_exit_code_one() {
    let process = Process::start(&[]);
    let address = process.address.to_string();
    let output = run(&["--listen", &address]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with(&format!("elockd: cannot listen on {address}: Address")),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// Why the server ends is what those want to see most who read the log by a program.
#[test]
fn the_last_error_has_the_format_of_the_log() {
    let process = Process::start(&[]);
    let address = process.address.to_string();
    let output = run(&["--listen", &address, "--log-format", "json", "--log", "off"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let fields = format!(r#"{{"message":"cannot listen on {address}: Address"#);
    assert!(
        stderr.starts_with('{') && stderr.contains("ERROR") && stderr.contains(&fields),
        "{stderr}"
    );
}

#[test]
fn a_bad_flag_is_explained_and_exit_code_two() {
    for flags in [
        ["--listen", "nowhere"],
        ["--max-line", "many"],
        ["--no-such-flag", "1"],
        ["--grace-ms", "86400001"],
    ] {
        let output = run(&flags);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.starts_with("error: ") && !stderr.contains("panicked"),
            "{stderr}"
        );
    }
}

#[test]
fn help_says_how_to_open_it_and_what_each_setting_is() {
    let output = run(&["--help"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("elockd --listen 0.0.0.0:11400"), "{stdout}");
    assert!(stdout.contains("[env: ELOCK_MAX_LOCKS=]"), "{stdout}");
}

#[test]
fn settings_can_come_from_the_environment() {
    let mut command = Command::new(ELOCKD);
    command
        .env("ELOCK_LISTEN", "127.0.0.1:0")
        .env("ELOCK_MAX_LINE", "64");
    let process = Process::spawn(&mut command);
    process
        .connect()
        .ask("x".repeat(65), "413 Line too long: at most 64 bytes");
}

#[test]
fn several_addresses_and_a_unix_socket_are_one_server() {
    let (_directory, path, flag) = socket_path();
    let mut process = Process::start(&["--listen", &flag, "--listen", "127.0.0.1:0"]);
    let mut tcp = process.connect();
    tcp.ask("lock k", "200 Acquired");
    let mut unix = UnixStream::connect(&path).expect("the socket is there");
    unix.write_all(b"lock k\nquit\n").expect("it is open");
    let mut answers = String::new();
    unix.read_to_string(&mut answers).expect("text");
    assert_eq!(
        answers,
        "409 Unavailable\r\n200 Hey, it was nice seeing you.\r\n"
    );
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));
    assert!(!path.exists(), "the socket's file is gone");
}

#[test]
fn a_unix_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let (_directory, path, flag) = socket_path();
    let flags = ["--listen", &flag];
    Process::start(&flags).kill();
    assert!(path.exists(), "nobody removed it");
    let _running = Process::start(&flags);
    let output = run(&flags);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("Address already in use"), "{stderr}");
    assert!(path.exists(), "the running server's socket is still there");

    let (_directory, file, flag) = socket_path();
    std::fs::write(&file, "precious").expect("a file");
    assert_eq!(run(&["--listen", &flag]).status.code(), Some(2));
    assert_eq!(
        std::fs::read_to_string(&file).expect("still there"),
        "precious"
    );
}

#[test]
fn check_tells_whether_a_server_answers() {
    let process = Process::start(&[]);
    let address = process.address.to_string();
    assert_eq!(run(&["--check", &address]).status.code(), Some(0));
    let crowded = Process::start(&["--max-connections", "1"]);
    let mut only = crowded.connect();
    only.ask("echo", "200 []");
    let check = run(&["--check", &crowded.address.to_string()]);
    assert_eq!(check.status.code(), Some(0), "crowded is not sick");
    drop(process);
    let output = run(&["--check", &address]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with(&format!("elockd: {address}: ")),
        "{stderr}"
    );
}

#[test]
fn check_asks_where_the_settings_say_that_a_server_listens() {
    let (_directory, path, unix) = socket_path();
    let process = Process::start(&["--listen", &unix]);
    let tcp = process.address.to_string();
    let everywhere = format!("0.0.0.0:{}", process.address.port());
    for listen in [&tcp, &everywhere, &unix, &format!("{tcp},{unix}")] {
        let output = check_listening_at(listen);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let flags = ["--check", "--listen", &tcp, "--listen", &unix];
        assert_eq!(run(&flags).status.code(), Some(0));
    }
    let gone = "unix:/nobody/at/all";
    let output = check_listening_at(&format!("{unix},{gone},{tcp}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with(&format!("elockd: {gone}: No such")),
        "{stderr}"
    );
    assert!(!stderr.contains(&*path.to_string_lossy()), "{stderr}");
}

fn check_listening_at(addresses: &str) -> Output {
    let mut command = Command::new(ELOCKD);
    command.arg("--check").env("ELOCK_LISTEN", addresses);
    command.output().expect("it runs")
}

#[test]
fn check_says_of_each_address_that_failed_why() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("an address");
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other_address = other.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut client, _) = other.accept().expect("a client");
        let _ = client.read(&mut [0; 100]).expect("a request");
        client
            .write_all(b"220 mail.example.org\r\n")
            .expect("it is open");
    });
    let output = check_listening_at(&format!("{silent},{other_address}"));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "elockd: {silent}: no answer within 2 s; \
             {other_address}: unexpected answer: \"220 mail.example.org\"\n"
        )
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_log_can_be_json_and_says_nothing_about_single_connections() {
    let mut process = Process::start(&["--log-format", "json"]);
    let mut client = process.connect();
    client.ask("lock k", "200 Acquired");
    client.ask("quit", "200 Hey, it was nice seeing you.");
    client.expect_closed();
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));
    let rest = rest_of_log(&mut process);
    let lines: Vec<&str> = rest.lines().collect();
    assert_eq!(lines.len(), 2, "{rest}");
    for (line, text) in lines.into_iter().zip(["stopping", "stopped"]) {
        assert!(line.starts_with('{') && line.contains(text), "{rest}");
    }
}

#[test]
fn a_log_that_nobody_reads_does_not_end_the_server() {
    let mut process = Process::start(&["--log", "trace"]);
    // Closes the reading end of the pipe that the log goes to.
    drop(process.log.take());
    let mut client = process.connect();
    for _ in 0..100 {
        client.ask("lock k", "200 Acquired");
    }
}

#[test]
fn running_out_of_file_descriptors_pauses_accepting_and_nothing_else() {
    let mut process = Process::start(&[]);
    let mut first = process.connect();
    first.ask("lock k", "200 Acquired");
    // The server has reckoned with the limit of its start.
    let pid = process.child.id().try_into().expect("a pid");
    rlimit::prlimit(pid, rlimit::Resource::NOFILE, Some((40, 40)), None).expect("a limit");
    // The kernel accepts these for the server, which has no descriptors for all of them.
    let mut crowd: Vec<Client> = (0..60).map(|_| process.connect()).collect();
    process.until_logged("cannot accept connections for now");
    first.ask("unlock k", "200 Unlocked");
    let mut last = crowd.pop().expect("a client");
    drop(crowd);
    last.ask("lock k", "200 Acquired");
    process.until_logged("accepting connections again");
    process.connect().ask("lock k", "409 Unavailable");
}

#[test]
fn thousands_of_connections_are_served() {
    let own_limit = rlimit::increase_nofile_limit(6_000).expect("a limit");
    let process = Process::start(&[]);
    let count = own_limit.saturating_sub(500).min(5_000);
    assert!(
        count >= 500,
        "a limit of {own_limit} open files is too low to test anything"
    );
    let mut clients: Vec<Client> = (0..count).map(|_| process.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(format!("lock k{}", index / 2));
    }
    for (index, client) in clients.iter_mut().enumerate() {
        // Of the two who want the same key, either may have come first.
        let answer = client.read();
        assert!(
            ["200 Acquired", "409 Unavailable"].contains(&answer.as_str()),
            "{index}: {answer}"
        );
    }
    let stats = clients[0].ask_list("stats");
    assert_eq!(stats[1], format!("STAT clients {count}"));
    assert_eq!(stats[2], format!("STAT locks {}", count / 2));
}
