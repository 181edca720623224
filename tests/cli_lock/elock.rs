//! `elock lock` as a process, and what it started.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::Instant;

use crate::common::PATIENCE;

pub const ELOCK: &str = env!("CARGO_BIN_EXE_elock");

/// `elock lock WORDS`, for a server.
pub fn elock(server: SocketAddr, words: &[&str]) -> Command {
    let mut command = Command::new(ELOCK);
    command.env_remove("ELOCK_SERVER").arg("lock");
    command.args(["--server", &server.to_string()]).args(words);
    command
}

/// A running `elock lock`; killed if the test ends before it does.
pub struct Elock {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Elock {
    pub fn start(server: SocketAddr, words: &[&str]) -> Self {
        Self::spawn(&mut elock(server, words))
    }

    /// With a command of the shell.
    pub fn script(server: SocketAddr, words: &[&str], script: &str) -> Self {
        Self::start(server, &[words, &["--", "sh", "-c", script]].concat())
    }

    pub fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null());
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("it starts");
        Self {
            stdout: BufReader::new(child.stdout.take().expect("piped")),
            stderr: BufReader::new(child.stderr.take().expect("piped")),
            child,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of the command.
    #[track_caller]
    pub fn line(&mut self) -> String {
        next_line(&mut self.stdout)
    }

    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }

    /// The next line on standard error.
    #[track_caller]
    pub fn said(&mut self) -> String {
        next_line(&mut self.stderr)
    }

    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn code(&mut self) -> Option<i32> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(begin.elapsed() < PATIENCE, "elock does not end");
            std::thread::yield_now();
        }
    }

    /// What it said to the end, on standard output and on standard error.
    pub fn rest(&mut self) -> (String, String) {
        let (mut out, mut error) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).expect("text");
        self.stderr.read_to_string(&mut error).expect("text");
        (out, error)
    }

    /// The guardian's process.
    pub fn guardian(&self) -> u32 {
        let mut found = None;
        until("a guardian", || {
            found = children_of(self.id()).into_iter().find(|&child| {
                let words = std::fs::read(format!("/proc/{child}/cmdline"));
                words.is_ok_and(|words| words.ends_with(b"__guard\0"))
            });
            found.is_some()
        });
        found.expect("it was waited for")
    }
}

impl Drop for Elock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn next_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("text");
    assert!(line.ends_with('\n'), "a whole line, not {line:?}");
    line.trim_end().to_owned()
}

/// Sends a signal to a process, which may have ended by itself.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .stderr(Stdio::null())
        .status();
    let _ = sent.expect("kill runs");
}

/// The state of a process: `R`, `S`, `T` and so on, or none if it has ended.
pub fn state(process: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(") ")?;
    behind_name.chars().next().filter(|&state| state != 'Z')
}

/// Waits until a process has ended.
#[track_caller]
pub fn until_gone(process: u32) {
    until("the end of a process", || state(process).is_none());
}

#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::yield_now();
    }
}

fn children_of(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}
