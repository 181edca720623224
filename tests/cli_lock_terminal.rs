//! `elock lock` at a terminal, of which `script` makes one: the keyboard is the command's, and Ctrl-Z
//! gives it back to the shell.
#![cfg(feature = "cli")]

mod common;
#[allow(dead_code, reason = "each test program uses its own part")]
#[path = "cli_lock/elock.rs"]
mod elock;

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use common::{PATIENCE, Server};

/// A shell at a terminal.
struct Shell {
    child: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

const BASH: &str = "bash --norc --noprofile -i";

impl Shell {
    fn start(server: &Server) -> Self {
        Self::start_by(server, &format!("exec {BASH}"))
    }

    fn start_by(server: &Server, entry: &str) -> Self {
        let mut script = Command::new("script");
        let shell = format!("PS1='>' PS2= {entry}");
        let mut child = script
            .args(["-qefc", &shell, "/dev/null"])
            .env("ELOCK", elock::ELOCK)
            .env("ELOCK_SERVER", server.address.to_string())
            .env("TERM", "dumb")
            .env("INPUTRC", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs");
        let mut shell = Self {
            keyboard: child.stdin.take().expect("piped"),
            screen: watched(child.stdout.take().expect("piped")),
            child,
            seen: String::new(),
        };
        shell.until(">");
        shell
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a shell");
        self.keyboard.flush().expect("a shell");
    }

    /// Reads the screen up to this text. What is typed is there, too, so it is no part of that.
    #[track_caller]
    fn until(&mut self, text: &str) {
        self.before(text);
    }

    /// The same, and what stands before it.
    #[track_caller]
    fn before(&mut self, text: &str) -> String {
        while !self.seen.contains(text) {
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no {text:?} on the screen: {:?}", self.seen),
            }
        }
        let begin = self.seen.find(text).expect("it is there");
        let before = self.seen[..begin].to_owned();
        self.seen.drain(..begin + text.len());
        before
    }
}

/// What comes, as it comes.
fn watched(mut screen: ChildStdout) -> Receiver<Vec<u8>> {
    let (shown, seen) = channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(read @ 1..) = screen.read(&mut bytes) {
            if shown.send(bytes[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    seen
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CAT: &str = "$ELOCK lock k -- sh -c 'echo rea''dy; exec cat'";

#[test]
fn what_is_typed_goes_to_the_command() {
    let server = Server::start();
    let mut shell = Shell::start(&server);
    shell.types(&format!("{CAT} | tr a-z A-Z\n"));
    shell.until("READY");
    shell.types("typed\n");
    shell.until("TYPED");
    shell.types("\x04");
    shell.until(">");
    shell.types("echo co''de $?\n");
    shell.until("code 0");
}

#[test]
fn control_c_ends_the_command() {
    let server = Server::start();
    let mut shell = Shell::start(&server);
    // A command that is just being forked would not hear of it, so that is none.
    let script = "trap \"echo go\"\"t; exit 9\" INT; echo rea''dy; while :; do sleep 0.01; done";
    shell.types(&format!("$ELOCK lock k -- sh -c '{script}'\n"));
    shell.until("ready");
    shell.types("\x03");
    shell.until("got");
    shell.until(">");
    shell.types("echo co''de $?\n");
    shell.until("code 9");
}

#[test]
fn control_z_gives_the_terminal_back_to_the_shell() {
    let server = Server::start();
    let mut shell = Shell::start(&server);
    shell.types(&format!("{CAT}\n"));
    shell.until("ready");
    for round in ["one", "two"] {
        shell.types("\x1a");
        shell.until("Stopped");
        shell.until(">");
        shell.types("echo she''ll\n");
        shell.until("shell");
        shell.types("fg\n");
        shell.until("cat'");
        shell.types(&format!("{round}\n"));
        // Once as it is typed, and once by the command.
        shell.until(round);
        shell.until(round);
    }
    shell.types("\x03");
    shell.until(">");
    shell.types("echo co''de $?\n");
    shell.until("code 130");
}

#[test]
fn a_command_in_the_background_gets_the_terminal_by_fg() {
    let server = Server::start();
    let mut shell = Shell::start(&server);
    shell.types(&format!("{CAT} &\n"));
    shell.until("ready");
    server.until("a lock", |lines| {
        lines.iter().any(|line| line.starts_with("LOCK "))
    });
    // Nothing is typed before this: the shell would tell of the stop, in the very words that follow.
    shell.types("fg\n");
    shell.until("cat'");
    shell.types("typed\n");
    shell.until("typed");
    shell.until("typed");
    shell.types("\x04");
    shell.until(">");
}

#[test]
fn the_command_hears_all_signals() {
    let server = Server::start();
    let mut shell = Shell::start(&server);
    shell.types("$ELOCK lock k -- grep Sig''Blk /proc/self/status\n");
    shell.until("SigBlk:\t");
    shell.until("0000000000000000");
}

/// Where nobody would continue it, nothing is stopped.
#[test]
fn without_a_shell_control_z_is_nothing() {
    let server = Server::start();
    control_z_is_nothing(Shell::start(&server), "exec ");
}

/// As after `nsenter`: the session began outside, and its processes there have no numbers in here.
const INSIDE: &str = "unshare --user --map-root-user --pid --fork --kill-child --mount-proc";

/// Whether this machine lets a test do that; if not, this is said.
fn can_go_inside() -> bool {
    let mut words = INSIDE.split(' ');
    let mut inside = Command::new(words.next().expect("a program"));
    let tried = inside
        .args(words)
        .arg("true")
        .stderr(Stdio::null())
        .status();
    let can = tried.is_ok_and(|status| status.success());
    if !can {
        // Written past the test harness, which would show it only if the test failed.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED in a namespace of processes: unshare cannot make one here"
        );
    }
    can
}

#[test]
fn in_a_namespace_of_processes_control_z_stops_for_a_shell() {
    let server = Server::start();
    if !can_go_inside() {
        return;
    }
    let mut shell = Shell::start_by(&server, &format!("exec {INSIDE} {BASH}"));
    shell.types(&format!("{CAT}\n"));
    shell.until("ready");
    shell.types("\x1a");
    shell.until("Stopped");
    shell.until(">");
    shell.types("fg\n");
    shell.until("cat'");
    shell.types("\x04");
    shell.until(">");
}

#[test]
fn in_a_namespace_of_processes_without_a_shell_it_is_nothing() {
    let server = Server::start();
    if !can_go_inside() {
        return;
    }
    control_z_is_nothing(Shell::start(&server), &format!("exec {INSIDE} "));
}

fn control_z_is_nothing(mut shell: Shell, entry: &str) {
    shell.types(&format!("{entry}{CAT}\n"));
    shell.until("ready");
    shell.types("\x1a");
    shell.types("typed\n");
    shell.until("typed");
    shell.until("typed");
    shell.types("\x04");
    assert!(shell.child.wait().expect("it ends").success());
}

#[test]
fn whoever_waits_at_a_terminal_is_told_for_what() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("name web-3:cron", "200 OK");
    holder.ask("lock k", "200 Acquired");
    let mut shell = Shell::start(&server);
    shell.types("$ELOCK lock k -- echo rea''dy\n");
    shell.until("elock: waiting for k, held by #");
    shell.until(" web-3:cron\r\n");
    holder.ask("unlock k", "200 Unlocked");
    shell.until("ready");
}

#[test]
fn of_several_keys_the_one_that_is_waited_for_is_told() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock b", "200 Acquired");
    holder.ask("lock c", "200 Acquired");
    let mut shell = Shell::start(&server);
    // It has `a` while it waits for `b`, and asks for `c` only then.
    shell.types("$ELOCK lock c a b --name 'n\\x5Cx41' -- echo rea''dy\n");
    server.until_waiting(1);
    // Nor is it for itself that it waits, of which it knows its name alone.
    let mut other = server.connect();
    other.send("lock a 60");
    shell.until("elock: waiting for ");
    assert_eq!(shell.before("#"), "b, held by ");
    holder.ask("unlock b", "200 Unlocked");
    holder.ask("unlock c", "200 Unlocked");
    shell.until("ready");
}
