//! `elock send` and `elock shell`.
#![cfg(feature = "cli")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use common::Server;
use common::process::Process;

const ELOCK: &str = env!("CARGO_BIN_EXE_elock");

fn command(address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(ELOCK);
    command
        .env("ELOCK_SERVER", address.to_string())
        .args(arguments);
    command
}

fn send(address: SocketAddr, requests: &[&str]) -> Output {
    let mut command = command(address, &["send"]);
    command
        .args(requests)
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

/// Runs it with these lines as its input.
fn with_input(address: SocketAddr, subcommand: &str, input: &str) -> Output {
    let mut child = command(address, &[subcommand])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    // It may have ended before it has read all.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).expect("UTF-8")
}

#[test]
fn requests_are_sent_on_one_connection() {
    let server = Server::start();
    let output = send(server.address, &["lock k", "unlock k", "unlock k", "stats"]);
    let shown = text(&output.stdout);
    assert!(
        shown
            .starts_with("200 Acquired\n200 Unlocked\n403 not_locked\n200 STATS\nSTAT clients 1\n"),
        "{shown}"
    );
    assert!(shown.ends_with("\nEND\n"), "{shown}");
    assert_eq!(output.status.code(), Some(65));
    let output = with_input(server.address, "send", "echo a\r\necho b\nstats x\necho c");
    let shown = text(&output.stdout);
    assert_eq!(
        shown,
        "200 [\"a\"]\n200 [\"b\"]\n400 Usage: stats\n200 [\"c\"]\n"
    );
}

#[test]
fn the_first_answer_that_is_no_success_is_the_exit_code() {
    let server = Server::start_with(|config| config.max_session_locks = 2);
    let (mut first, mut second) = (server.connect(), server.connect());
    first.ask("lock held", "200 Acquired");
    let code = |requests: &[&str]| send(server.address, requests).status.code();
    assert_eq!(code(&["echo", "lock a", "unlock a"]), Some(0));
    assert_eq!(code(&["lock held", "foo"]), Some(1));
    assert_eq!(code(&["foo", "lock held"]), Some(65));
    assert_eq!(
        code(&["set_timeout 0", "lock b", "lock c", "lock d"]),
        Some(69)
    );
    assert_eq!(code(&["lock own 0 job 0", "lock own 60"]), Some(75));
    assert_eq!(code(&["quit", "echo"]), Some(69));
    assert_eq!(code(&["two\nlines"]), Some(2));
    second.ask("lock held", "409 Unavailable");
}

#[test]
fn a_request_that_waits_is_waited_for() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock k", "200 Acquired");
    let waiting = command(server.address, &["send", "lock k 3600"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    server.until_waiting(1);
    holder.ask("unlock k", "200 Unlocked");
    let output = waiting.wait_with_output().expect("it ends");
    assert_eq!(text(&output.stdout), "200 Acquired\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn answers_have_nothing_that_a_terminal_obeys() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask(b"lock k\x1b[2J\xc2\x9b\xff\xe2\x80\xae", "200 Acquired");
    for subcommand in ["send", "shell"] {
        let output = with_input(server.address, subcommand, "debug\nlocks\n\u{1b}[2J\n");
        let shown = text(&output.stdout);
        assert!(shown.contains("k\\x1B[2J"), "{shown}");
        let obeyed = |character: char| {
            character.is_control() && character != '\n' || character == '\u{202e}'
        };
        assert_eq!(shown.find(obeyed), None, "{shown:?}");
    }
}

#[test]
fn without_a_server_both_end_with_69() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = free.expect("a port that nobody listens at");
    for subcommand in ["send", "shell"] {
        let output = with_input(address, subcommand, "echo\n");
        assert_eq!(output.status.code(), Some(69));
        assert_eq!(text(&output.stderr).lines().count(), 1);
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_script_tries_a_deadlock_on_two_connections() {
    let server = Server::start();
    let script = "\
lock x
:b lock y
lock y 60
:b lock x 60
:b unlock y
unlock x
unlock y
";
    let output = with_input(server.address, "shell", script);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    // Session 1 is the one that asks what there is.
    let of = |letter: &str| -> Vec<&str> {
        let lines = shown.lines().filter_map(|line| line.strip_prefix(letter));
        lines.collect()
    };
    assert!(
        shown.starts_with("200 Acquired\nb: 200 Acquired\nb: 423 "),
        "{shown}"
    );
    assert_eq!(
        of("b: "),
        [
            "200 Acquired",
            "423 Deadlock: #3 => x = #2 => y = #3",
            "200 Unlocked"
        ]
    );
    assert_eq!(of("a: "), ["200 Acquired", "200 Unlocked", "200 Unlocked"]);
}

#[test]
fn a_script_waits_for_what_is_outstanding() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock k", "200 Acquired");
    let mut child = command(server.address, &["shell"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin
        .write_all(b"lock k 3600\nunlock k\n:b echo\n")
        .expect("it reads");
    drop(stdin);
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut shown = String::new();
    stdout.read_line(&mut shown).expect("a line");
    assert_eq!(shown, "b: 200 []\n");
    // One that does not wait would be gone by then.
    for _ in 0..200 {
        let info = holder.ask_list("info");
        assert!(info.contains(&"waiters 1".to_owned()), "{info:?}");
    }
    holder.ask("unlock k", "200 Unlocked");
    stdout.read_to_string(&mut shown).expect("text");
    assert_eq!(shown, "b: 200 []\na: 200 Acquired\na: 200 Unlocked\n");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_connection_that_was_closed_is_not_counted() {
    let server = Server::start();
    let script = ":b echo 1\n:close b\necho 2\n".repeat(20);
    let output = with_input(server.address, "shell", &script);
    let shown = text(&output.stdout);
    let own = shown.lines().filter(|line| *line == "200 [\"2\"]");
    // Only the first connection of b was alone.
    assert_eq!(own.count(), 20, "{shown}");
}

#[test]
fn a_connection_that_ended_is_opened_again() {
    let server = Server::start();
    let script = "quit\necho again\n:close a\n:close b\necho third\n:nonsense\n:quit\necho never\n";
    let output = with_input(server.address, "shell", script);
    let shown = text(&output.stdout);
    for line in [
        "200 [\"again\"]",
        "(a: closed)",
        "(b: not open)",
        "200 [\"third\"]",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert!(
        shown.contains("(a: the connection is over; the next line opens"),
        "{shown}"
    );
    assert!(shown.contains("(not known: see :help)"), "{shown}");
    assert!(!shown.contains("never"), "{shown}");
}

#[test]
fn a_server_that_goes_away_is_said() {
    let server = Process::start(&[]);
    let mut child = command(server.address, &["shell"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = || {
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        line
    };
    stdin.write_all(b"lock k\n").expect("it reads");
    assert_eq!(line(), "200 Acquired\n");
    server.kill();
    assert!(line().starts_with("(a: "));
    stdin.write_all(b"lock k\n").expect("it reads");
    assert!(line().contains("onnection refused"));
    drop(stdin);
    assert_eq!(child.wait().expect("it ends").code(), Some(69));
}

/// What a terminal is told when the prompt begins to read a line: that pasted text be marked.
const BEGINS: &str = "\u{1b}[?2004h";

/// The shell at a pseudo-terminal, which `script` of util-linux makes.
struct AtTerminal {
    child: Child,
    keys: ChildStdin,
    screen: BufReader<ChildStdout>,
}

impl AtTerminal {
    /// Whether this machine has a `script`.
    fn is_there() -> bool {
        let asked = Command::new("script").arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    }

    fn start(address: SocketAddr, state_home: &Path) -> Self {
        // A test that fails does not hang.
        let mut child = Command::new("timeout")
            .args([
                "60",
                "script",
                "-qec",
                &format!("{ELOCK} shell"),
                "/dev/null",
            ])
            .env("ELOCK_SERVER", address.to_string())
            .env("XDG_STATE_HOME", state_home)
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let keys = child.stdin.take().expect("piped");
        let screen = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            keys,
            screen,
        }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it reads");
    }

    /// Reads what is drawn up to this text.
    #[track_caller]
    fn until(&mut self, text: &str) {
        let mut seen = Vec::new();
        while !seen.ends_with(text.as_bytes()) {
            let byte = self.screen.fill_buf().expect("a terminal").first().copied();
            let Some(byte) = byte else {
                panic!("it ended without {text:?}: {}", seen.escape_ascii());
            };
            self.screen.consume(1);
            seen.push(byte);
        }
    }

    fn ends(mut self) -> Option<i32> {
        drop(self.keys);
        std::io::copy(&mut self.screen, &mut std::io::sink()).expect("a terminal");
        self.child.wait().expect("it ends").code()
    }
}

#[test]
fn the_prompt_keeps_a_history_without_secrets() {
    let server = Server::start();
    let home = tempfile::tempdir().expect("a directory");
    if !AtTerminal::is_there() {
        return;
    }
    let path = home.path().join("elock").join("history");
    std::fs::create_dir(home.path().join("elock")).expect("a directory");
    std::fs::write(&path, "").expect("a file");
    let everyone = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&path, everyone).expect("a file");
    let is_private = || {
        let mode = path.metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    };
    let mut shell = AtTerminal::start(server.address, home.path());
    shell.until("elock> ");
    is_private();
    shell.types("lock k\r");
    shell.until("200 Acquired");
    shell.types("resume 7-secret\r");
    shell.until("403 unknown");
    shell.types(":b conn_id 7-secret\r");
    shell.until("b: 403 ");
    shell.types("un\t");
    shell.until("unlock");
    shell.types(" k\r");
    shell.until("a: 200 Unlocked");
    shell.types(":quit\r");
    assert_eq!(shell.ends(), Some(0));
    let kept = std::fs::read_to_string(&path).expect("a history");
    assert_eq!(
        kept.lines().skip(1).collect::<Vec<_>>(),
        ["lock k", "unlock k", ":quit"]
    );
    is_private();
}

#[test]
fn answers_come_while_one_types_and_no_history_is_no_failure() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock k", "200 Acquired");
    if !AtTerminal::is_there() {
        return;
    }
    let mut shell = AtTerminal::start(server.address, Path::new("/dev/null"));
    shell.until(BEGINS);
    shell.until("elock> ");
    shell.types("lock k 3600\r");
    server.until_waiting(1);
    shell.until(BEGINS);
    shell.until("elock> ");
    shell.types("echo ty");
    shell.until("y");
    holder.ask("unlock k", "200 Unlocked");
    shell.until("200 Acquired");
    // What was typed stands below it again.
    shell.until("elock> echo ty");
    shell.types("ped\r");
    shell.until("200 [\"typed\"]");
    // The prompt comes when the terminal is the shell's again.
    shell.until("elock> ");
    shell.types("\u{3}");
    shell.until("elock> ");
    shell.types("\u{4}");
    assert_eq!(shell.ends(), Some(0));
}

#[test]
fn a_line_behind_one_that_waits_is_said_to_be() {
    let server = Server::start();
    let mut holder = server.connect();
    holder.ask("lock k", "200 Acquired");
    if !AtTerminal::is_there() {
        return;
    }
    let mut shell = AtTerminal::start(server.address, Path::new("/dev/null"));
    shell.until("elock> ");
    shell.types("lock k 3600\r");
    server.until_waiting(1);
    shell.until(BEGINS);
    shell.until("elock> ");
    shell.types("echo later\r");
    shell.until("(a waits; this is run after it)");
    shell.until("elock> ");
    holder.ask("unlock k", "200 Unlocked");
    shell.until("200 [\"later\"]");
    shell.types("\u{4}");
    assert_eq!(shell.ends(), Some(0));
}
