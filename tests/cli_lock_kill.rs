//! `elock lock`: the command never outlives its lock, whatever is killed, paused or cut off. Each test
//! that is named for it is a failure that other tools of this kind are known for.
#![cfg(feature = "cli")]

mod common;
#[path = "cli_lock/elock.rs"]
#[allow(dead_code, reason = "each test program uses its own part")]
mod elock;

use std::io::{PipeWriter, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use common::Server;
use common::process::{ELOCKD, Process};
use common::proxy::{Network, Proxy};
use elock::{Elock, signal, state, until, until_gone};

/// Tells its own process and that of a child of its own, and runs on.
const TWO: &str = "sleep 600 & echo $$; echo $!; wait";

/// The same, and hears nothing of SIGTERM.
const TWO_DEAF: &str = "trap '' TERM; sleep 600 & echo $$; echo $!; wait; wait";

fn two(running: &mut Elock) -> [u32; 2] {
    [(); 2].map(|()| running.line().parse().expect("a process"))
}

/// A server in place of one that was killed.
fn restart(address: SocketAddr) -> Process {
    let address = address.to_string();
    Process::spawn(Command::new(ELOCKD).args(["--listen", &address]))
}

/// The lock is lost for sure: the server that knew of it is gone, and another one is there.
fn lose_lock(server: Process) -> Process {
    let address = server.address;
    server.kill();
    restart(address)
}

#[test]
fn the_command_does_not_go_on_after_the_lock_is_lost() {
    let server = Process::start(&[]);
    let mut running = Elock::script(server.address, &["k"], TWO);
    let processes = two(&mut running);
    let server = lose_lock(server);
    assert_eq!(running.code(), Some(79));
    processes.into_iter().for_each(until_gone);
    // Whether it was refused, or was there again already.
    let why = [
        "the server refuses connections, and as it keeps nothing on disk, it may have been started anew and have \
         given the lock to another",
        "the server does not know the session that held it any more",
    ];
    let told =
        why.map(|why| format!("elock: the lock is lost: {why}; the command is asked to end\n"));
    let (_, said) = running.rest();
    assert!(told.contains(&said), "{said}");
    server.connect().ask("lock k", "200 Acquired");
}

/// The lock is lost, and the network is there again, while the command is still ending: nobody else has
/// the lock until it has.
#[test]
fn a_lost_lock_is_free_only_when_its_command_has_ended() {
    let server = Process::start(&[]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let proxy = runtime.block_on(Proxy::start(server.address));
    let words = &["k", "--grace", "6s", "--kill-after", "2s"];
    let mut running = Elock::script(proxy.address, words, TWO_DEAF);
    let [command, child] = two(&mut running);
    // Nothing passes for so long that it is lost; the server does not notice.
    proxy.set(Network::Silent);
    let said = running.said();
    assert!(said.starts_with("elock: the lock is lost: "), "{said}");
    proxy.set(Network::Works);
    let mut next = Elock::script(server.address, &["k"], "echo begun");
    next.expect("begun");
    for process in [command, child] {
        assert!(
            matches!(state(process), None | Some('Z')),
            "it runs beside the next one"
        );
    }
    assert_eq!(next.code(), Some(0));
    assert_eq!(running.code(), Some(79));
}

#[test]
fn a_command_that_does_not_listen_is_killed() {
    let server = Process::start(&[]);
    let words = &["k", "--kill-after", "100ms"];
    let mut running = Elock::script(server.address, words, TWO_DEAF);
    let processes = two(&mut running);
    let _server = lose_lock(server);
    assert_eq!(running.code(), Some(79));
    processes.into_iter().for_each(until_gone);
}

#[test]
fn those_that_a_command_leaves_behind_in_its_group_are_ended_with_the_lock() {
    let server = Process::start(&[]);
    let words = &["k", "--kill-after", "100ms"];
    let script = "(trap '' TERM; echo $$; exec sh -c 'echo $$; sleep 600; sleep 600') & wait";
    let mut running = Elock::script(server.address, words, script);
    let [_, deaf] = two(&mut running);
    let _server = lose_lock(server);
    assert_eq!(running.code(), Some(79));
    until_gone(deaf);
}

#[test]
fn a_stopped_command_is_ended_too() {
    let server = Process::start(&[]);
    let script = "trap 'exit 3' TERM; echo $$; echo $$; while :; do sleep 0.01; done";
    let mut running = Elock::script(server.address, &["k"], script);
    let [command, _] = two(&mut running);
    signal(command, "STOP");
    until("a stop", || state(command) == Some('T'));
    let _server = lose_lock(server);
    assert_eq!(running.code(), Some(79));
    assert_eq!(state(command), None);
}

#[test]
fn it_can_be_killed_at_once() {
    let server = Process::start(&[]);
    let mut running = Elock::script(server.address, &["k", "--on-lost", "kill"], TWO_DEAF);
    let processes = two(&mut running);
    let _server = lose_lock(server);
    assert_eq!(running.code(), Some(79));
    processes.into_iter().for_each(until_gone);
}

#[test]
fn it_can_be_left_alone() {
    let server = Process::start(&[]);
    let script = "trap 'echo on; exit 5' USR1; echo $$; while :; do sleep 0.01; done";
    let mut running = Elock::script(server.address, &["k", "--on-lost", "ignore"], script);
    running.line();
    let _server = lose_lock(server);
    let said = running.said();
    assert!(said.ends_with("; the command goes on"), "{said}");
    running.signal("USR1");
    running.expect("on");
    assert_eq!(running.code(), Some(5));
}

#[test]
fn elock_does_not_hang_when_the_session_is_gone() {
    let server = Process::start(&[]);
    let mut running = Elock::script(server.address, &["k"], "trap 'exit 0' TERM; echo $$; wait");
    running.line();
    let _server = lose_lock(server);
    let code = running.code();
    assert!([Some(79), Some(0)].contains(&code), "{code:?}");
}

#[test]
fn without_a_server_the_command_ends_in_the_grace_period() {
    let server = Process::start(&[]);
    let mut running = Elock::script(server.address, &["k", "--grace", "1s"], TWO);
    let processes = two(&mut running);
    server.kill();
    assert_eq!(running.code(), Some(79));
    processes.into_iter().for_each(until_gone);
    let (_, said) = running.rest();
    let seen = "elock: the lock is lost: the server refuses connections, and as it keeps nothing on disk, ";
    assert!(said.starts_with(seen), "{said}");
}

#[test]
fn the_command_goes_on_over_a_restart_of_a_server_with_a_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let flags = ["--data-dir", directory.path().to_str().expect("text")];
    let server = Process::start(&flags);
    let script = "trap 'exit 5' USR1; echo $$; while :; do sleep 0.01; done";
    let mut running = Elock::script(server.address, &["k"], script);
    running.line();
    let address = server.address.to_string();
    server.kill();
    let mut command = Command::new(ELOCKD);
    let server = Process::spawn(command.args(["--listen", &address]).args(flags));
    let mut observer = server.connect();
    until("a resumed session", || {
        let sessions = observer.ask_list("sessions");
        let is_back =
            |line: &String| line.contains("\"locks\":1}") && line.contains("\"connected\":true");
        sessions.iter().any(is_back)
    });
    observer.ask("lock k", "409 Unavailable");
    running.signal("USR1");
    assert_eq!(running.code(), Some(5));
    observer.ask("lock k", "200 Acquired");
}

#[test]
fn the_command_ends_when_elock_is_killed() {
    let server = Server::start();
    for (key, script) in [("j", TWO), ("k", TWO_DEAF)] {
        let mut running = Elock::script(server.address, &[key], script);
        let processes = two(&mut running);
        let guardian = running.guardian();
        running.signal("KILL");
        assert_eq!(running.code(), None);
        processes.into_iter().for_each(until_gone);
        until_gone(guardian);
    }
}

#[test]
fn a_command_without_a_guardian_ends_when_elock_is_killed() {
    let server = Server::start();
    let mut running = Elock::script(server.address, &["k"], "echo $$; exec sleep 600");
    let command: u32 = running.line().parse().expect("a process");
    // It is paused, so that it cannot start another guardian meanwhile.
    running.signal("STOP");
    let guardian = running.guardian();
    signal(guardian, "KILL");
    until_gone(guardian);
    running.signal("KILL");
    until_gone(command);
}

#[test]
fn an_elock_that_is_paused_for_longer_than_its_lease_is_no_holder() {
    let server = Server::start();
    let mut running = Elock::script(server.address, &["k", "--lease", "1s"], TWO_DEAF);
    let processes = two(&mut running);
    let dead = format!(
        "test -e /proc/{}/fd/0 && echo alive || echo dead",
        processes[0]
    );
    running.signal("STOP");
    let mut next = Elock::script(server.address, &["k"], &dead);
    next.expect("dead");
    processes.into_iter().for_each(until_gone);
    running.signal("CONT");
    assert_eq!(running.code(), Some(79));
    assert_eq!(next.code(), Some(0));
}

/// What an elock says that was stopped until its command was ended in its place.
fn said_after_a_pause(grace: &str) -> String {
    let server = Server::start();
    let mut running = Elock::script(server.address, &["k", "--grace", grace], TWO);
    let processes = two(&mut running);
    running.signal("STOP");
    processes.into_iter().for_each(until_gone);
    running.signal("CONT");
    assert_eq!(running.code(), Some(79));
    let (_, said) = running.rest();
    said
}

#[test]
fn an_elock_that_is_paused_for_longer_than_its_grace_period_is_no_holder() {
    let said = said_after_a_pause("1s");
    assert!(said.starts_with("elock: the lock is lost: "), "{said}");
}

#[test]
fn an_elock_that_stood_still_says_so() {
    // Long enough that the pause is surely longer than any between two looks.
    let said = said_after_a_pause("8s");
    let told = "elock: the lock is lost: this program stood still for so long that another may have the lock";
    assert!(said.starts_with(told), "{said}");
}

#[test]
fn a_guardian_that_was_killed_is_replaced() {
    let server = Server::start();
    let mut running = Elock::script(server.address, &["k", "--grace", "1s"], TWO);
    let processes = two(&mut running);
    let first = running.guardian();
    signal(first, "KILL");
    until_gone(first);
    let second = running.guardian();
    assert_ne!(first, second);
    until("a guardian of its own session", || {
        session_of(second) == Some(second)
    });
    until("a guardian that hears no signal", || blocks_all(second));
    for name in ["TERM", "INT", "HUP", "QUIT"] {
        signal(second, name);
    }
    running.signal("STOP");
    processes.into_iter().for_each(until_gone);
    assert!(state(second).is_some());
    running.signal("CONT");
    assert_eq!(running.code(), Some(79));
    until_gone(second);
}

/// The session of a process, as the system has it.
fn session_of(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(") ")?;
    behind_name.split(' ').nth(3)?.parse().ok()
}

/// Whether a process blocks the signals that end others.
fn blocks_all(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let bits = blocked.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits & (1 << 14) != 0)
}

/// The stage of a command, as the wrapper starts it, which is this process.
fn stage(guardian: &PipeWriter) -> Command {
    let mut stage = Command::new(elock::ELOCK);
    stage.arg("__stage");
    stage.arg(format!("--parent={}", std::process::id()));
    stage.arg(format!("--guardian={}", guardian.as_raw_fd()));
    stage.args(["--term-at-ns=5", "--kill-at-ns=6", "--", "echo", "began"]);
    stage
}

#[test]
fn the_guardian_knows_a_command_before_it_begins() {
    let (mut heard, said) = std::io::pipe().expect("a pipe");
    let running = stage(&said).stdout(Stdio::piped()).spawn();
    let running = running.expect("it starts");
    let order = format!("{} 5 6\n", running.id());
    let output = running.wait_with_output().expect("it ends");
    assert_eq!(output.stdout, b"began\n");
    drop(said);
    let mut told = String::new();
    heard.read_to_string(&mut told).expect("text");
    assert_eq!(told, order);
}

#[test]
fn a_command_that_nobody_guards_does_not_begin() {
    let (heard, said) = std::io::pipe().expect("a pipe");
    drop(heard);
    let output = stage(&said).output().expect("it runs");
    assert_eq!(output.status.code(), Some(126));
    assert_eq!(output.stdout, b"");
    assert!(
        output
            .stderr
            .starts_with(b"elock: the command could not be guarded: ")
    );
}
