//! The program itself, as a process.

use std::io::BufReader;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use super::{Client, address_in_log, next_line_with};

pub const ELOCKD: &str = env!("CARGO_BIN_EXE_elockd");

/// A running `elockd`; killed if the test ends before it does.
pub struct Process {
    pub child: Child,
    pub log: Option<BufReader<ChildStderr>>,
    pub address: SocketAddr,
}

impl Process {
    pub fn start(flags: &[&str]) -> Self {
        Self::spawn(
            Command::new(ELOCKD)
                .args(["--listen", "127.0.0.1:0"])
                .args(flags),
        )
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let address = address_in_log(&mut log);
        Self {
            child,
            log: Some(log),
            address,
        }
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    pub fn until_logged(&mut self, text: &str) {
        next_line_with(self.log.as_mut().expect("a log"), text);
    }

    /// Kills it, as nothing can be caught or finished.
    pub fn kill(mut self) {
        self.signal("KILL");
        assert_eq!(self.exit_code(), None);
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server to which these sockets are passed as systemd does it, named by `names`: at most two, as they
/// come by its standard input and output.
pub fn activated(sockets: impl IntoIterator<Item = OwnedFd>, names: &str) -> Command {
    let sockets: Vec<Stdio> = sockets.into_iter().map(Stdio::from).collect();
    let count = sockets.len();
    let mut sockets = sockets.into_iter();
    let script = "LISTEN_PID=$$; export LISTEN_PID
        exec \"$0\" \"$@\" 3<&0 4<&1 </dev/null >/dev/null";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, ELOCKD])
        .env("LISTEN_FDS", count.to_string())
        .env("LISTEN_FDNAMES", names)
        .stdin(sockets.next().unwrap_or(Stdio::null()))
        .stdout(sockets.next().unwrap_or(Stdio::null()));
    assert!(sockets.next().is_none(), "two at most");
    command
}

pub fn run(flags: &[&str]) -> Output {
    Command::new(ELOCKD).args(flags).output().expect("it runs")
}
