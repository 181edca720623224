//! The data directory as an operator meets it.
#![cfg(feature = "store")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::failing_disk::{FailingDisk, Fault};
use common::process::{ELOCKD, Process, run};
use common::{Client, address_in_log, next_line_with};

/// With grace periods so long that none ends by itself.
fn start(directory: &Path) -> Process {
    Process::start(&["--grace-ms", "3600000", "--data-dir", text(directory)])
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A server, or what it says that does not start.
fn try_start(directory: &Path) -> Result<Process, String> {
    let mut command = Command::new(ELOCKD);
    command.args(["--listen", "127.0.0.1:0", "--grace-ms", "3600000"]);
    command.args(["--data-dir", text(directory)]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let mut last = String::new();
    loop {
        let mut line = String::new();
        match log.read_line(&mut line).expect("text") {
            0 => break,
            _ if line.contains("listening on ") => {
                let address = address_in_log(&mut line.as_bytes());
                let log = Some(log);
                return Ok(Process {
                    child,
                    log,
                    address,
                });
            }
            _ => last = line,
        }
    }
    let code = child.wait().expect("it ends").code();
    assert!(matches!(code, Some(1..=3)), "{last}");
    let said = last.trim_end().strip_prefix("elockd: ");
    Err(said.expect("it says who").to_owned())
}

fn refusal(directory: &Path) -> String {
    let started = try_start(directory).map(|process| process.address);
    started.expect_err("it should not start")
}

#[test]
fn locks_and_sessions_survive_a_stop() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("is/made");
    let mut process = start(&directory);
    let mut a = process.connect();
    let id = a.id();
    // Answered, it is session 1; the next one is 2.
    let mut b = process.connect();
    a.ask("set_timeout 60000", "200 timeout set");
    a.ask("lock x", "200 Acquired");
    a.ask("lock_value y red", "200 Acquired");
    b.ask("lock_value y red", "200 Acquired");
    b.ask("lock gone", "200 Acquired");
    b.ask("unlock gone", "200 Unlocked");
    a.send("token x");
    let token = a.read();
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));

    let process = start(&directory);
    let mut c = process.connect();
    c.ask("lock x", "409 Unavailable");
    c.ask("lock gone", "200 Acquired");
    c.ask("unlock gone", "200 Unlocked");
    c.ask("lock_value y blue", "409 Unavailable");
    let lines = c.ask_list("debug");
    let held: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("LOCK"))
        .collect();
    assert!(
        held[1].starts_with("LOCK y #1, #2 (red) waiters=0"),
        "{held:?}"
    );
    let first = lines.iter().find(|line| line.contains("\"id\":1,"));
    let first = first.expect("the session is there");
    assert!(
        first.contains(r#""disposeTimeout":60000,"connected":false,"peer":"before the restart""#)
    );
    c.ask(format!("conn_id {id}"), "200 conn id set");
    c.ask("token x", &token);
    c.ask("unlock x", "200 Unlocked");
    c.send("conn_id");
    assert_eq!(c.read(), format!("200 {id}"));
}

#[test]
fn a_session_that_wanted_no_grace_loses_its_locks_at_the_restart() {
    ends_after_a_restart("set_timeout 0", "200 timeout set");
}

#[test]
fn a_lease_goes_on_after_the_restart() {
    ends_after_a_restart("expire k 3000", "200 OK");
}

/// Of two locks, the one whose holder said this ends, and the other stays.
fn ends_after_a_restart(line: &str, answer: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let process = start(directory.path());
    let (mut a, mut other) = (process.connect(), process.connect());
    a.ask("lock k", "200 Acquired");
    a.ask(line, answer);
    other.ask("lock kept", "200 Acquired");
    process.kill();
    let process = start(directory.path());
    let mut b = process.connect();
    b.ask("lock k 60", "200 Acquired");
    b.ask("lock kept", "409 Unavailable");
}

/// Asks until the store works again.
fn until_stored(client: &mut Client, line: &str, expected: &str) {
    loop {
        client.send(line);
        match client.read() {
            answer if answer.starts_with("500 ") => std::thread::yield_now(),
            answer => break assert_eq!(answer, expected),
        }
    }
}

fn moved_answer(directory: &Path) -> String {
    let file = directory.join("elockd.redb");
    format!(
        "500 Not stored: I/O error: somebody has moved, removed or replaced the store's file {}",
        file.display()
    )
}

/// What is written to a file that was moved away would not be found again.
#[test]
fn a_store_that_is_moved_or_replaced_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, aside) = (
        directory.path().join("elockd.redb"),
        directory.path().join("aside"),
    );
    let mut process = start(directory.path());
    let mut a = process.connect();
    a.ask("lock before", "200 Acquired");
    fs::rename(&file, &aside).expect("it is moved");
    let refused = |a: &mut Client, line| {
        a.send(line);
        assert_eq!(a.read(), moved_answer(directory.path()));
    };
    let storing = |a: &mut Client| {
        let lines = a.ask_list("info");
        let line = lines.iter().find_map(|line| line.strip_prefix("storing "));
        line.expect("a line").to_owned()
    };
    assert_eq!(storing(&mut a), "yes");
    // The first commit finds it by its own file, and the later tries, which open it anew, by its
    // name.
    refused(&mut a, "lock k");
    let reason = moved_answer(directory.path()).replace("500 Not stored: ", "");
    assert_eq!(storing(&mut a), reason);
    process.until_logged("attempts=2");
    refused(&mut a, "lock k");
    fs::copy(&aside, &file).expect("it is copied");
    refused(&mut a, "lock k");
    fs::rename(&aside, &file).expect("it is moved back");
    until_stored(&mut a, "lock k", "200 Acquired");
    assert_eq!(storing(&mut a), "yes");
    process.kill();
    let process = start(directory.path());
    for key in ["before", "k"] {
        process
            .connect()
            .ask(format!("lock {key}"), "409 Unavailable");
    }
}

#[test]
fn a_store_that_is_cut_off_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("elockd.redb");
    let process = start(directory.path());
    let mut a = process.connect();
    a.ask("lock before", "200 Acquired");
    fs::write(&file, "").expect("it is there");
    a.send("lock k");
    let answer = a.read();
    let says = format!("somebody has changed the store's file {}", file.display());
    assert!(
        answer.starts_with("500 Not stored: ") && answer.ends_with(&says),
        "{answer}"
    );
    process.kill();
    let said = refusal(directory.path());
    assert!(said.starts_with("cannot read the store"), "{said}");
}

#[test]
fn a_directory_belongs_to_one_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let process = start(directory.path());
    let said = refusal(directory.path());
    assert!(
        said.ends_with("give this one a directory of its own"),
        "{said}"
    );
    assert!(said.contains(text(directory.path())), "{said}");
    process.connect().ask("lock k", "200 Acquired");
    process.kill();
    start(directory.path())
        .connect()
        .ask("lock k", "409 Unavailable");
}

/// `elockd.lock` looks as if it could be removed, and somebody does so.
#[test]
fn a_directory_belongs_to_one_server_without_its_lock_file_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock_file = directory.path().join("elockd.lock");
    let mut process = start(directory.path());
    let mut a = process.connect();
    a.ask("lock before", "200 Acquired");
    for key in ["k", "l"] {
        fs::remove_file(&lock_file).expect("it is there");
        let said = refusal(directory.path());
        assert!(
            said.contains("is in use: another elockd runs on it"),
            "{said}"
        );
        // The refused one has made the file; this is noticed all the same.
        a.ask(format!("lock {key}"), "200 Acquired");
        process.until_logged("somebody has removed elockd.lock");
    }
    fs::remove_file(&lock_file).expect("it is there");
    a.ask("lock m", "200 Acquired");
    assert!(lock_file.exists());
    process.kill();
    let process = start(directory.path());
    for key in ["before", "k", "l", "m"] {
        process
            .connect()
            .ask(format!("lock {key}"), "409 Unavailable");
    }
}

/// The file is opened anew after a failure; nobody else gets in meanwhile.
#[test]
fn a_failure_lets_nobody_else_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("elockd.redb");
    let aside = directory.path().join("aside");
    let process = start(directory.path());
    let mut a = process.connect();
    a.ask("lock before", "200 Acquired");
    fs::rename(&file, &aside).expect("it is moved");
    a.send("lock k");
    let answer = a.read();
    assert!(answer.starts_with("500 Not stored: "), "{answer}");
    fs::rename(&aside, &file).expect("it is moved back");
    fs::remove_file(directory.path().join("elockd.lock")).expect("it is there");
    let said = refusal(directory.path());
    assert!(
        said.contains("is in use: another elockd runs on it"),
        "{said}"
    );
    until_stored(&mut a, "lock k", "200 Acquired");
}

/// Then nothing keeps a second server from beginning with an empty store. The first one grants nothing
/// any more.
#[test]
fn who_lost_its_files_to_another_grants_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = start(directory.path());
    let mut a = first.connect();
    a.ask("lock before", "200 Acquired");
    for file in ["elockd.redb", "elockd.lock"] {
        fs::remove_file(directory.path().join(file)).expect("it is there");
    }
    let second = start(directory.path());
    a.send("lock k");
    let answer = a.read();
    assert_eq!(answer, moved_answer(directory.path()));
    let mut b = second.connect();
    b.ask("lock k", "200 Acquired");
    a.send("lock l");
    assert!(a.read().starts_with("500 Not stored: "));
    b.ask("lock l", "200 Acquired");
}

/// A disk that hangs fails nothing, and so nothing else would be said.
#[test]
fn a_commit_that_hangs_is_logged_while_it_does() {
    let disk = FailingDisk::new();
    let mut process = Process::spawn(&mut disk.command());
    let mut a = process.connect();
    a.ask("lock before", "200 Acquired");
    disk.fails(Fault::Hang, 0);
    a.send("lock k");
    process.until_logged("a commit has been under way for 5 s");
    disk.works();
    a.expect("200 Acquired");
    process.until_logged("the commit is over");
}

/// With all that can fail, one after the other: nothing is granted, and all goes on without a restart.
#[test]
fn a_disk_that_fails_is_told_to_clients_until_it_works_again() {
    let disk = FailingDisk::new();
    let process = Process::spawn(&mut disk.command());
    let mut a = process.connect();
    a.ask("lock before", "200 Acquired");
    let faults = [
        (Fault::Write("ENOSPC", 1), "No space left on device"),
        (Fault::Write("EIO", 1), "Input/output error"),
        (Fault::Sync(1), "Input/output error"),
    ];
    for (round, (fault, reason)) in faults.into_iter().enumerate() {
        disk.fails(fault, 0);
        a.send(format!("lock {round}"));
        let answer = a.read();
        let is_told = answer.starts_with("500 Not stored: ") && answer.contains(reason);
        assert!(is_told, "{answer}");
        disk.works();
        until_stored(&mut a, &format!("lock {round}"), "200 Acquired");
    }
    process.kill();
    let process = Process::spawn(&mut disk.command());
    for key in ["before", "0", "1", "2"] {
        process
            .connect()
            .ask(format!("lock {key}"), "409 Unavailable");
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("file");
    fs::write(&file, "").expect("it is written");
    let said = refusal(&file);
    assert!(
        said.contains("cannot use the data directory") && said.contains(text(&file)),
        "{said}"
    );
    assert!(said.ends_with("is no directory"), "{said}");
    let flags = ["--listen", "127.0.0.1:0", "--data-dir", text(&file)];
    assert_eq!(run(&flags).status.code(), Some(2));
    // Nobody, not even root, writes here.
    let said = refusal(Path::new("/proc/elockd"));
    assert!(
        said.starts_with("cannot use the data directory /proc/elockd: "),
        "{said}"
    );
}

#[test]
fn a_damaged_store_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("elockd.redb");
    drop(start(directory.path()));
    let good = fs::read(&file).expect("it is there");
    let damages: [&[u8]; 4] = [
        b"",
        b"this is no store",
        &good[..good.len() / 2],
        &[0; 8192],
    ];
    for damage in damages {
        fs::write(&file, damage).expect("it is written");
        let said = refusal(directory.path());
        assert!(
            said.starts_with(&format!("cannot read the store {}", file.display())),
            "{said}"
        );
        assert!(
            said.contains("move the file away to start with none"),
            "{said}"
        );
    }
    fs::write(&file, &good).expect("it is written");
    start(directory.path())
        .connect()
        .ask("lock k", "200 Acquired");
}

/// A kill leaves a store that is opened like one after a crash in the middle of a commit, where it
/// is right to go back by one. It must not when that commit was answered.
#[test]
fn after_a_kill_a_flipped_bit_loses_no_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let process = start(directory.path());
    let mut a = process.connect();
    for key in 0..20 {
        a.ask(format!("lock {key}"), "200 Acquired");
    }
    process.kill();
    let files = ["elockd.redb", "elockd.lock"].map(|name| directory.path().join(name));
    let good = files
        .each_ref()
        .map(|file| fs::read(file).expect("it is there"));
    let database_bits = (0..320 * 8).step_by(97).chain(187 * 8..188 * 8);
    let note_bits = (0..good[1].len() * 8).step_by(41);
    let all = database_bits
        .map(|bit| (0, bit))
        .chain(note_bits.map(|bit| (1, bit)));
    let mut refused = 0;
    for (file, bit) in all {
        for (file, good) in files.iter().zip(&good) {
            fs::write(file, good).expect("it is written");
        }
        let mut damaged = good[file].clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&files[file], damaged).expect("it is written");
        let process = match try_start(directory.path()) {
            Ok(process) => process,
            Err(said) => {
                assert!(said.starts_with("cannot read the store"), "{said}");
                refused += 1;
                continue;
            }
        };
        let mut b = process.connect();
        for key in 0..20 {
            b.ask(format!("lock {key}"), "409 Unavailable");
        }
    }
    assert!(refused > 5, "{refused} were refused");
}

#[test]
fn nobody_else_can_read_it() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("d");
    let process = start(&directory);
    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&directory), 0o700);
    let mut a = process.connect();
    let id = a.id();
    a.ask("lock a-key", "200 Acquired");
    for entry in fs::read_dir(&directory).expect("a directory") {
        assert_eq!(mode(&entry.expect("an entry").path()), 0o600);
    }
    let stored = fs::read(directory.join("elockd.redb")).expect("it is there");
    let holds = |what: &[u8]| stored.windows(what.len()).any(|window| window == what);
    let (_, secret) = id.split_once('-').expect("an id");
    let secret = u128::from_str_radix(secret, 16).expect("digits");
    assert!(holds(b"a-key"));
    assert!(!holds(&secret.to_be_bytes()) && !holds(&secret.to_le_bytes()));
}

#[test]
fn an_empty_variable_is_none() {
    let mut command = Command::new(ELOCKD);
    command
        .args(["--listen", "127.0.0.1:0"])
        .env("ELOCK_DATA_DIR", "");
    let process = Process::spawn(&mut command);
    process.connect().ask("lock k", "200 Acquired");
}

/// An empty flag comes from a script whose own variable is empty: its user wants a directory.
#[test]
fn an_empty_flag_is_refused() {
    // A check ends soon, whatever the settings.
    let output = run(&["--check", "unix:/nobody", "--data-dir", ""]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("'--data-dir <DIR>'"), "{stderr}");
}

/// The note beside the store tells that there was one, and a new one must not look like the first.
#[test]
fn a_store_that_is_gone_is_told_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let started = || {
        let mut command = Command::new(ELOCKD);
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            text(directory.path()),
        ]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let first = next_line_with(&mut log, "store");
        let address = address_in_log(&mut log);
        let log = Some(log);
        let process = Process {
            child,
            log,
            address,
        };
        (process, first)
    };
    let (process, first) = started();
    assert!(
        first.contains("INFO") && first.contains("new, empty store"),
        "{first}"
    );
    process.connect().ask("lock k", "200 Acquired");
    process.kill();
    let file = directory.path().join("elockd.redb");
    fs::remove_file(&file).expect("it is there");
    let (process, first) = started();
    assert!(first.contains("WARN"), "{first}");
    let told = format!(
        "elockd.lock tells of commit 1, and {} is gone",
        file.display()
    );
    assert!(first.contains(&told), "{first}");
    process.connect().ask("lock k", "200 Acquired");
    process.kill();
    fs::remove_file(directory.path().join("elockd.lock")).expect("it is there");
    let (_process, first) = started();
    let is_told = first.contains("WARN") && first.contains("elockd.lock is gone: ");
    assert!(is_told, "{first}");
}
