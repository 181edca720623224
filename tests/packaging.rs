//! elockd as systemd and Docker start it.
#![cfg(all(feature = "systemd", feature = "store"))]

mod common;

use std::io::ErrorKind;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::time::Duration;

use common::process::{ELOCKD, Process};
use tempfile::TempDir;

/// The socket that systemd would listen on.
struct Systemd {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Systemd {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        let patience = Some(Duration::from_secs(60));
        socket.set_read_timeout(patience).expect("a socket");
        Self { directory, socket }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(ELOCKD);
        command
            .args(["--listen", "127.0.0.1:0"])
            .env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        command
    }

    fn next(&self) -> String {
        let mut message = [0; 200];
        let length = self.socket.recv(&mut message).expect("a message in time");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }
}

#[test]
fn systemd_learns_of_the_start_when_it_listens_and_of_the_stop_when_it_begins() {
    let systemd = Systemd::new();
    let path = systemd.directory.path().join("elockd.sock");
    let mut command = systemd.command();
    command
        .arg("--listen")
        .arg(format!("unix:{}", path.display()));
    let mut process = Process::spawn(&mut command);
    assert_eq!(systemd.next(), "READY=1\n");
    UnixStream::connect(&path).expect("it listens");
    process.signal("TERM");
    assert_eq!(systemd.next(), "STOPPING=1\nSTATUS=stopping\n");
    assert_eq!(process.exit_code(), Some(0));
}

/// Whoever began it.
#[test]
fn systemd_learns_of_a_drain_with_its_times() {
    for by_signal in [true, false] {
        let systemd = Systemd::new();
        let mut process = Process::spawn(systemd.command().args(["--drain-ms", "3600000"]));
        assert_eq!(systemd.next(), "READY=1\n");
        let mut holder = process.connect();
        holder.ask("lock k", "200 Acquired");
        match by_signal {
            true => process.signal("USR1"),
            false => holder.ask("drain", "200 OK"),
        }
        let status = systemd.next();
        let times = status.strip_prefix("STATUS=draining since ");
        let times = times.and_then(|rest| rest.strip_suffix(" UTC\n"));
        let times = times.and_then(|rest| {
            rest.split_once(" UTC: no new locks; stops when none is held, or at ")
        });
        let (since, until) = times.unwrap_or_else(|| panic!("{status:?}"));
        // An hour later, by the clock.
        assert_eq!((since.len(), &since[2..]), (8, &until[2..]), "{status:?}");
        assert_ne!(since[..2], until[..2], "{status:?}");
        holder.ask("unlock k", "200 Unlocked");
        assert_eq!(systemd.next(), "STOPPING=1\nSTATUS=stopping\n");
        assert_eq!(process.exit_code(), Some(0));
    }
}

#[test]
fn the_watchdog_is_answered_again_and_again_while_the_runtime_runs() {
    let systemd = Systemd::new();
    let mut command = systemd.command();
    let _process = Process::spawn(command.env("WATCHDOG_USEC", "20000"));
    assert_eq!(systemd.next(), "READY=1\n");
    for _ in 0..5 {
        assert_eq!(systemd.next(), "WATCHDOG=1\n");
    }
}

#[test]
fn a_server_whose_store_is_not_restored_is_not_ready() {
    let systemd = Systemd::new();
    let store = systemd.directory.path().join("data");
    let _first = Process::start(&["--data-dir", &store.to_string_lossy()]);
    let second = systemd.command().arg("--data-dir").arg(&store).output();
    assert_eq!(second.expect("it runs").status.code(), Some(1));
    systemd.socket.set_nonblocking(true).expect("a socket");
    let nothing = systemd.socket.recv(&mut [0; 100]);
    assert_eq!(
        nothing.expect_err("no message").kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn a_systemd_that_reads_nothing_holds_up_neither_clients_nor_the_stop() {
    let systemd = Systemd::new();
    // As many as the socket's queue takes.
    let queued = UnixDatagram::unbound().expect("a socket");
    queued.set_nonblocking(true).expect("a socket");
    let address = systemd.directory.path().join("notify");
    while queued.send_to(b"x", &address).is_ok() {}
    let mut command = systemd.command();
    let mut process = Process::spawn(command.env("WATCHDOG_USEC", "20000").arg("--threads=1"));
    process.connect().ask("lock k", "200 Acquired");
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));
}

#[test]
fn a_container_has_its_defaults_from_variables_that_its_user_can_change() {
    let dockerfile = include_str!("../Dockerfile");
    let settings = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("ENV ELOCK_"))
        .map(|setting| format!("ELOCK_{setting}"));
    let settings: Vec<_> = settings.collect();
    assert_eq!(
        settings,
        ["ELOCK_LISTEN=0.0.0.0:11400", "ELOCK_DATA_DIR=/data"]
    );
    // A flag would win over the variable.
    assert!(dockerfile.contains("\nENTRYPOINT [\"/elockd\"]\n"));
    assert!(dockerfile.contains("\nVOLUME /data\n"));

    let volume = tempfile::tempdir().expect("a temporary directory");
    let settings = settings
        .iter()
        .filter_map(|setting| setting.split_once('='));
    let mut command = Command::new(ELOCKD);
    command.envs(settings);
    // What `docker run -e ELOCK_LISTEN=… -v …:/data` does.
    command
        .env("ELOCK_LISTEN", "127.0.0.1:0")
        .env("ELOCK_DATA_DIR", volume.path());
    let process = Process::spawn(&mut command);
    process.connect().ask("lock k", "200 Acquired");
    assert!(volume.path().join("elockd.redb").exists());
    let check = Command::new(ELOCKD)
        .arg("--check")
        .env(
            "ELOCK_LISTEN",
            format!("0.0.0.0:{}", process.address.port()),
        )
        .status();
    assert!(
        check.expect("it runs").success(),
        "the container is healthy"
    );
}
