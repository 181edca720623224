//! The file of a unix socket: two servers on one path, and what each removes at its end.

mod common;

use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::listening_or_refusal;
use common::process::{ELOCKD, Process};
use tempfile::TempDir;

/// A path in a directory of its own, and the flag that names it.
fn socket_path() -> (TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("elockd.sock");
    let flag = format!("unix:{}", path.display());
    (directory, path, flag)
}

fn lock_path(path: &Path) -> PathBuf {
    path.with_extension("sock.lock")
}

/// What the server on `path` answers.
fn ask(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).expect("a server listens");
    stream.write_all(b"echo\nquit\n").expect("it is open");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("text");
    answers
}

const ANSWERS: &str = "200 []\r\n200 Hey, it was nice seeing you.\r\n";

/// A server by this command, which may not be able to start.
fn start(command: &mut Command) -> Process {
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
    Process {
        log: child.stderr.take().map(BufReader::new),
        child,
        address: (Ipv4Addr::UNSPECIFIED, 0).into(),
    }
}

/// Whether a server listens, or else has ended with a line that says this, as one whose next try may
/// succeed.
fn listens_or_says(process: &mut Process, reason: &str) -> bool {
    listens_or_ends(process, reason, 1)
}

fn listens_or_ends(process: &mut Process, reason: &str, exit_code: i32) -> bool {
    let line = listening_or_refusal(process.log.as_mut().expect("a log"));
    if line.contains("listening on ") {
        return true;
    }
    assert!(line.contains(reason), "{line}");
    assert_eq!(process.exit_code(), Some(exit_code));
    false
}

#[track_caller]
fn expect_refusal(flag: &str, reason: &str) {
    let mut process = start(Command::new(ELOCKD).args(["--listen", flag]));
    assert!(!listens_or_says(&mut process, reason), "it listens");
}

/// For a reason that does not pass.
#[track_caller]
fn expect_bad_setting(flag: &str, reason: &str) {
    let mut process = start(Command::new(ELOCKD).args(["--listen", flag]));
    assert!(!listens_or_ends(&mut process, reason, 2), "it listens");
}

#[test]
fn a_server_removes_its_own_file_at_the_end_and_no_other() {
    let (_directory, path, flag) = socket_path();
    let mut first = Process::start(&["--listen", &flag]);
    std::fs::remove_file(&path).expect("the socket's file");
    // The first server's lock would keep the second one from starting.
    std::fs::remove_file(lock_path(&path)).expect("the lock file");
    let mut second = Process::start(&["--listen", &flag]);
    first.signal("TERM");
    assert_eq!(first.exit_code(), Some(0));
    assert_eq!(ask(&path), ANSWERS);
    second.signal("TERM");
    assert_eq!(second.exit_code(), Some(0));
    assert!(!path.exists(), "the second server removed its own file");
}

#[test]
fn a_server_without_its_file_still_has_clients_and_keeps_others_from_its_path() {
    let (_directory, path, flag) = socket_path();
    let first = Process::start(&["--listen", &flag]);
    std::fs::remove_file(&path).expect("the socket's file");
    expect_refusal(&flag, "another elockd listens there");
    first.kill();
    let second = Process::start(&["--listen", &flag]);
    assert_eq!(ask(&path), ANSWERS);
    drop(second);
}

#[test]
fn a_server_without_its_lock_file_keeps_others_from_its_path() {
    let (_directory, path, flag) = socket_path();
    let _first = Process::start(&["--listen", &flag]);
    std::fs::remove_file(lock_path(&path)).expect("the lock file");
    expect_refusal(&flag, "another elockd listens there");
    assert_eq!(ask(&path), ANSWERS);
}

#[test]
fn a_directory_that_is_missing_may_come_and_is_named() {
    let (directory, _, _) = socket_path();
    let missing = directory.path().join("missing");
    let says = format!("the directory {} is not there", missing.display());
    expect_refusal(&format!("unix:{}", missing.join("x.sock").display()), &says);
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("it is written");
    expect_bad_setting(
        &format!("unix:{}", file.join("x.sock").display()),
        "cannot lock",
    );
}

#[test]
fn what_is_no_socket_stays_as_it_is() {
    let (directory, path, flag) = socket_path();
    let aside = directory.path().join("aside");
    let makers: [&dyn Fn(); 3] = [
        &|| std::fs::write(&path, "a file").expect("it is written"),
        &|| std::fs::create_dir(&path).expect("it is made"),
        &|| std::os::unix::fs::symlink(&aside, &path).expect("it is made"),
    ];
    for make in makers {
        make();
        expect_bad_setting(&flag, "is no socket");
        assert!(!lock_path(&path).exists(), "a lock file is left behind");
        std::fs::rename(&path, &aside).expect("it is still there");
        let _ = std::fs::remove_file(&aside);
        let _ = std::fs::remove_dir(&aside);
    }
}

#[test]
fn a_path_that_is_too_long_is_told_the_limit() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path_of = |bytes: usize| {
        let name = bytes - directory.path().as_os_str().len() - 1;
        directory.path().join("x".repeat(name))
    };
    let longest = path_of(107);
    let _process = Process::start(&["--listen", &format!("unix:{}", longest.display())]);
    assert_eq!(ask(&longest), ANSWERS);
    let too_long = path_of(108);
    let flag = format!("unix:{}", too_long.display());
    expect_bad_setting(&flag, "at most 107 bytes");
    assert_eq!(
        std::fs::read_dir(&directory).expect("it is there").count(),
        2
    );
}

#[test]
fn the_lock_file_is_private_and_does_not_outlast_its_lock() {
    let (_directory, path, flag) = socket_path();
    for _ in 0..2 {
        let mut process = Process::start(&["--listen", &flag]);
        let found = std::fs::metadata(lock_path(&path)).expect("the lock file");
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        process.signal("TERM");
        assert_eq!(process.exit_code(), Some(0));
    }
}

#[test]
fn a_lock_file_that_cannot_be_had_is_named() {
    let (_directory, path, flag) = socket_path();
    std::fs::create_dir(lock_path(&path)).expect("a directory in its place");
    expect_refusal(
        &flag,
        &format!("cannot lock {}", lock_path(&path).display()),
    );
    assert!(!path.exists(), "nothing was opened");
}

#[test]
fn one_path_given_twice_is_listened_on_once() {
    let (_directory, path, flag) = socket_path();
    let _process = Process::start(&["--listen", &flag, "--listen", &flag]);
    assert_eq!(ask(&path), ANSWERS);
}

/// A server that starts once nobody holds the other end of `gun` any more.
fn ready_to_start(flag: &str, gun: &PipeReader) -> Process {
    let waiting = r#"read -r _; exec "$0" --listen "$1""#;
    let gun = gun.try_clone().expect("a descriptor");
    let mut command = Command::new("sh");
    start(command.args(["-c", waiting, ELOCKD, flag]).stdin(gun))
}

#[test]
fn of_servers_that_start_at_once_on_a_stale_file_exactly_one_runs() {
    let (_directory, path, flag) = socket_path();
    // Nobody listens on it once this is dropped, and its file stays.
    drop(UnixListener::bind(&path).expect("a socket"));
    for round in 0..50 {
        let (gun, fired) = std::io::pipe().expect("a pipe");
        let mut started: Vec<Process> = (0..4).map(|_| ready_to_start(&flag, &gun)).collect();
        drop((gun, fired));
        started.retain_mut(|process| listens_or_says(process, "another elockd listens there"));
        assert_eq!(started.len(), 1, "that many run in round {round}");
        assert_eq!(ask(&path), ANSWERS);
        // The file that this leaves is the next round's stale one.
        started.into_iter().for_each(Process::kill);
        assert!(path.exists(), "nobody removed it");
    }
}

/// Whoever is on the machine can look what a full server is full of.
#[test]
fn a_full_server_has_a_few_places_for_unix_sockets() {
    const FULL: &str = "503 Too many connections: at most 2\r\n";
    let (_directory, path, flag) = socket_path();
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--listen",
        &flag,
        "--max-connections",
        "2",
    ];
    let process = Process::spawn(Command::new(ELOCKD).args(flags));
    let [mut first, mut second, mut third] = [(); 3].map(|()| process.connect());
    first.ask("echo", "200 []");
    second.ask("echo", "200 []");
    third.expect(FULL.trim_end());
    let reserved: Vec<_> = (0..8)
        .map(|_| {
            let stream = UnixStream::connect(&path).expect("a server listens");
            let mut stream = BufReader::new(stream);
            stream.get_mut().write_all(b"echo\n").expect("it is open");
            let mut answer = String::new();
            stream.read_line(&mut answer).expect("text");
            assert_eq!(answer, "200 []\r\n");
            stream
        })
        .collect();
    let mut answer = String::new();
    let mut beyond = UnixStream::connect(&path).expect("a server listens");
    beyond.read_to_string(&mut answer).expect("text");
    assert_eq!(answer, FULL);
    drop(reserved);
}
