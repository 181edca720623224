//! elockd on sockets that systemd opened, which stay open over its restarts.
#![cfg(feature = "systemd")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Output;

use common::Client;
use common::process::{Process, activated};

/// A socket that the test keeps open, as systemd does.
fn port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

fn fd_of(port: &TcpListener) -> OwnedFd {
    port.try_clone().expect("a descriptor").into()
}

fn start(port: &TcpListener) -> Process {
    let process = Process::spawn(&mut activated([fd_of(port)], "elockd.socket"));
    assert_eq!(process.address, port.local_addr().expect("an address"));
    process
}

#[test]
fn nobody_is_refused_while_no_server_runs() {
    let port = port();
    let address = port.local_addr().expect("an address");
    let mut early = Client::connect(address);
    early.send("lock k");
    let mut process = start(&port);
    early.expect("200 Acquired");
    process.signal("TERM");
    early.expect_closed();
    assert_eq!(process.exit_code(), Some(0));
    let mut between = Client::connect(address);
    between.send("lock k");
    let process = start(&port);
    between.expect("200 Acquired");
    process.kill();
    let mut after_a_crash = Client::connect(address);
    after_a_crash.send("lock k");
    let _process = start(&port);
    after_a_crash.expect("200 Acquired");
}

#[test]
fn a_unix_socket_and_its_file_stay_systemds() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    let (socket, port) = (UnixListener::bind(&path).expect("a socket"), port());
    let unix = socket.try_clone().expect("a descriptor").into();
    // Named by a setting, too, it is still the same socket.
    let flag = format!("unix:{}", path.display());
    let mut command = activated([unix, fd_of(&port)], "");
    let mut process = Process::spawn(command.args(["--listen", &flag]));
    let mut stream = UnixStream::connect(&path).expect("it is there");
    stream.write_all(b"lock k\n").expect("it listens");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("text");
    assert_eq!(answer, "200 Acquired\r\n");
    process.connect().ask("lock k", "409 Unavailable");
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));
    let left = std::fs::read_dir(directory.path()).expect("a directory");
    assert_eq!(left.count(), 1, "the socket, and no lock file");
    assert!(path.exists());
}

#[test]
fn addresses_of_the_settings_are_opened_beside_them() {
    let port = port();
    let address = port.local_addr().expect("an address");
    // One of them is the same, so it is no other port.
    let mut command = activated([fd_of(&port)], "elockd.socket");
    command.args(["--listen", "127.0.0.1:0", "--listen", &address.to_string()]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn();
    let child = child.as_mut().expect("it starts");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let line = common::next_line_with(&mut log, "listening on ");
    let (_, addresses) = line.split_once("listening on ").expect("addresses");
    let addresses: Vec<&str> = addresses.trim().split(", ").collect();
    assert_eq!(addresses.len(), 2, "{line}");
    assert_eq!(addresses[0], address.to_string());
    Client::connect(address).ask("lock k", "200 Acquired");
    let other = addresses[1].parse().expect("an address");
    Client::connect(other).ask("lock k", "409 Unavailable");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn sockets_that_were_passed_to_another_process_are_not_used() {
    let port = port();
    let mut command = std::process::Command::new(common::process::ELOCKD);
    command
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1")
        .args(["--listen", "127.0.0.1:0"]);
    let process = Process::spawn(&mut command);
    assert_ne!(process.address, port.local_addr().expect("an address"));
    process.connect().ask("lock k", "200 Acquired");
}

fn refusal(socket: impl Into<OwnedFd>, name: &str) -> String {
    let mut command = activated([socket.into()], name);
    let Output { status, stderr, .. } = command.output().expect("it runs");
    assert_eq!(status.code(), Some(2));
    String::from_utf8_lossy(&stderr).into_owned()
}

#[test]
fn what_is_no_listening_socket_is_said_and_exit_code_two() {
    let port = port();
    let address = port.local_addr().expect("an address");
    let connection = TcpStream::connect(address).expect("it listens");
    let refused = refusal(connection, "elockd.socket");
    let expected = "elockd: cannot use socket 1 of those from systemd: nothing listens on it\n";
    assert_eq!(refused, expected);
    let file = tempfile::tempfile().expect("a file");
    assert!(refusal(file, "").contains("fd 3 is not a socket"));
}

#[test]
fn a_socket_for_a_port_that_this_server_lacks_is_said_and_exit_code_two() {
    let refused = refusal(port(), "tls");
    assert!(
        refused.contains("cannot use the socket named tls from systemd"),
        "{refused}"
    );
}

#[cfg(feature = "admin")]
#[test]
fn a_socket_named_admin_is_for_operators() {
    let (clients, admin) = (port(), port());
    let sockets = [fd_of(&clients), fd_of(&admin)];
    let process = Process::spawn(&mut activated(sockets, "elockd.socket:admin"));
    let mut client = process.connect();
    client.ask("lock k", "200 Acquired");
    let mut operator =
        TcpStream::connect(admin.local_addr().expect("an address")).expect("it listens");
    operator
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    BufReader::new(operator)
        .read_line(&mut answer)
        .expect("an answer");
    assert_eq!(answer, "HTTP/1.1 200 OK\r\n");
}
