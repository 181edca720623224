//! Several `elock lock` contend for one key, while whatever can fail does: wrappers, commands, guardians
//! and servers are killed, wrappers are paused for longer than their lease, the network is cut, slow and
//! silent. Their commands write down that they are alive, and a checker reads it: none goes on when its
//! successor has begun, and tokens rise.
//!
//! One thing cannot be had: a server without a store that is killed knows of no lock when it starts
//! again. So a successor may begin before its predecessor has ended, which ends as soon as it hears of
//! that.
//!
//! `ELOCK_ROUNDS=500` runs more rounds of each.
#![cfg(feature = "cli")]

mod common;
#[allow(dead_code, reason = "each test program uses its own part")]
#[path = "cli_lock/elock.rs"]
mod elock;
#[path = "cli_lock/journal.rs"]
mod journal;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::PATIENCE;
use common::process::{ELOCKD, Process};
use common::proxy::{Network, Proxy};
use elock::{signal, state, until};
use journal::{Journal, Mark, violations};

/// As short as they can be.
const WORDS: [&str; 7] = [
    "k",
    "--lease",
    "1s",
    "--grace",
    "1s",
    "--kill-after",
    "200ms",
];

fn rounds(default: usize) -> usize {
    let rounds = std::env::var("ELOCK_ROUNDS").ok();
    rounds.map_or(default, |rounds| rounds.parse().expect("a number"))
}

/// Runs `elock lock` again and again in so many threads, while `fail` does its worst: it is given the
/// round's number, and a command that runs and is held.
fn contend(
    contenders: usize,
    server: SocketAddr,
    default_rounds: usize,
    mut fail: impl FnMut(usize, &Journal, Mark),
) -> Vec<Mark> {
    let journal = Journal::new();
    let over = Over::default();
    std::thread::scope(|scope| {
        let end = EndOver(&over, &journal);
        for _ in 0..contenders {
            scope.spawn(|| {
                while !over.0.load(Ordering::SeqCst) {
                    run_once(server, &journal, &over);
                }
            });
        }
        let mut before = None;
        for round in 0..rounds(default_rounds) {
            journal.hold(true);
            let holder = until_other(&journal, before);
            fail(round, &journal, holder);
            // Before others are held, this one has to have seen that it is not any more.
            journal.hold(false);
            until_ended(holder);
            before = Some(holder);
        }
        drop(end);
    });
    let marks = journal.marks();
    let tokens = marks.iter().map(|mark| mark.token);
    let different: std::collections::HashSet<u64> = tokens.collect();
    assert!(different.len() >= rounds(default_rounds), "{different:?}");
    marks
}

#[derive(Default)]
struct Over(AtomicBool);

/// Sends the contenders home, also when the test fails.
struct EndOver<'a>(&'a Over, &'a Journal);

impl Drop for EndOver<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::SeqCst);
        self.1.hold(false);
        if std::thread::panicking() {
            let wrong = violations(&self.1.marks(), Duration::ZERO);
            eprintln!(
                "{} marks are wrong so far: {:?}",
                wrong.len(),
                wrong.first()
            );
        }
    }
}

fn run_once(server: SocketAddr, journal: &Journal, over: &Over) {
    let script = journal.script();
    let words = [&WORDS[..], &["--", "sh", "-c", &script]].concat();
    let mut command = elock::elock(server, &words);
    let command = command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let begin = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if over.0.load(Ordering::SeqCst) && begin.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("elock hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for a command that is not the one before, and is alive.
fn until_other(journal: &Journal, before: Option<Mark>) -> Mark {
    let mut found = None;
    until("a next holder", || {
        std::thread::sleep(Duration::from_millis(2));
        found = journal.latest().filter(|mark| {
            before.is_none_or(|before| mark.token > before.token) && state(mark.process).is_some()
        });
        found.is_some()
    });
    found.expect("it was waited for")
}

/// Waits until a command writes nothing any more, because it has ended.
fn until_ended(holder: Mark) {
    until("the end of a command", || {
        std::thread::sleep(Duration::from_millis(2));
        state(holder.process).is_none()
    });
}

/// The process of `elock`, if the command still has it.
fn wrapper_of(holder: Mark) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", holder.process)).ok()?;
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let parent = behind_name.split(' ').nth(1)?.parse().ok()?;
    (parent > 1 && parent != std::process::id()).then_some(parent)
}

#[track_caller]
fn assert_exclusive(marks: &[Mark], late: Duration) {
    let wrong = violations(marks, late);
    assert!(wrong.is_empty(), "{} are wrong: {wrong:#?}", wrong.len());
}

#[test]
fn commands_exclude_each_other_whoever_is_killed_or_paused() {
    let server = Process::start(&[]);
    let marks = contend(4, server.address, 12, |round, journal, holder| {
        let Some(wrapper) = wrapper_of(holder) else {
            return;
        };
        match round % 4 {
            0 => signal(wrapper, "KILL"),
            1 => signal(holder.process, "KILL"),
            2 => {
                signal(wrapper, "STOP");
                until_other(journal, Some(holder));
                signal(wrapper, "CONT");
            }
            _ => return,
        }
        until_ended(holder);
    });
    assert_exclusive(&marks, Duration::ZERO);
}

#[test]
fn commands_exclude_each_other_over_restarts_of_a_server_with_a_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let flags = ["--data-dir", directory.path().to_str().expect("text")];
    let mut server = Some(Process::start(&flags));
    let address = server.as_ref().expect("it runs").address;
    let marks = contend(3, address, 6, |round, _, holder| {
        server.take().expect("it runs").kill();
        let wrapper = wrapper_of(holder).filter(|_| round % 2 == 0);
        if let Some(wrapper) = wrapper {
            signal(wrapper, "KILL");
        }
        let mut command = Command::new(ELOCKD);
        let command = command.args(["--listen", &address.to_string()]).args(flags);
        server = Some(Process::spawn(command));
    });
    assert_exclusive(&marks, Duration::ZERO);
}

#[test]
fn a_command_ends_soon_after_its_server_has_forgotten_it() {
    let mut server = Some(Process::start(&[]));
    let address = server.as_ref().expect("it runs").address;
    let marks = contend(3, address, 6, |_, _, holder| {
        server.take().expect("it runs").kill();
        let mut command = Command::new(ELOCKD);
        let command = command.args(["--listen", &address.to_string()]);
        server = Some(Process::spawn(command));
        until_ended(holder);
    });
    // The grace period, in which a command ends whatever else is the matter, and some for a machine that
    // is busy.
    assert_exclusive(&marks, Duration::from_secs(3));
}

#[test]
fn commands_exclude_each_other_over_a_bad_network() {
    let server = Process::start(&[]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let proxy = runtime.block_on(Proxy::start(server.address));
    let marks = contend(3, proxy.address, 9, |round, journal, holder| {
        match round % 3 {
            0 => proxy.cut(),
            1 => {
                proxy.set(Network::Silent);
                until_ended(holder);
                proxy.set(Network::Works);
                // What the server took for connected may be told late that it is not.
                proxy.cut();
            }
            _ => {
                proxy.set(Network::IsSlow);
                journal.hold(false);
                until_ended(holder);
                proxy.set(Network::Works);
            }
        }
    });
    assert_exclusive(&marks, Duration::ZERO);
}

#[test]
fn the_checker_convicts() {
    let journal = Journal::new();
    let mark = |process, token, at_ns| journal::mark(process, token, at_ns);
    let late = [
        mark(1, 5, 0),
        mark(2, 6, 10),
        mark(1, 5, 20),
        mark(2, 6, 30),
    ];
    assert_eq!(violations(&late, Duration::ZERO).len(), 1);
    assert_eq!(violations(&late, Duration::from_nanos(10)).len(), 0);
    assert_eq!(violations(&late, Duration::from_nanos(9)).len(), 1);
    let twice = [mark(1, 5, 0), mark(2, 5, 10)];
    assert_eq!(violations(&twice, Duration::ZERO).len(), 1);
    let fine = [mark(1, 5, 0), mark(1, 5, 1), mark(2, 6, 10), mark(2, 6, 30)];
    assert_eq!(violations(&fine, Duration::ZERO).len(), 0);
    assert!(journal.marks().is_empty());
}
