//! `elock top` in a terminal of its own, which `script` makes: what it shows, and how it leaves that
//! terminal.
#![cfg(feature = "cli")]

mod common;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use common::process::Process;
use common::{Client, PATIENCE, Server};

const ELOCK: &str = env!("CARGO_BIN_EXE_elock");
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// A shell in a terminal, which runs what it is told and says before and after how the terminal is set.
struct Terminal {
    script: Child,
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    /// All that came.
    raw: Vec<u8>,
    screen: Screen,
}

impl Terminal {
    /// `elock top` for this server, in a terminal of 80x24.
    fn top(address: &str) -> Self {
        Self::run(
            "80",
            &format!("exec {ELOCK} top --interval 100ms --server {address}"),
        )
    }

    fn run(columns: &str, command: &str) -> Self {
        let shell = format!(
            "stty rows 24 cols {columns}; echo before=$(stty -g); echo tty=$(tty); \
             TERM=xterm sh -c 'echo pid=$$; {command}'; \
             echo; echo code=$?; echo after=$(stty -g); echo done."
        );
        // The code is that of the command and not of the empty `echo`.
        let shell = shell.replace("; echo; echo code=$?", "; code=$?; echo; echo code=$code");
        let mut script = Command::new("script")
            .args(["-qefc", &shell, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs");
        let mut stdout = script.stdout.take().expect("piped");
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..read].to_owned()).is_err() {
                    return;
                }
            }
        });
        Self {
            input: script.stdin.take(),
            script,
            output,
            raw: Vec::new(),
            screen: Screen::default(),
        }
    }

    fn types(&mut self, text: &str) {
        let input = self.input.as_mut().expect("the terminal is there");
        input.write_all(text.as_bytes()).expect("it is typed");
        input.flush().expect("it is typed");
    }

    fn sends(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid()]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn script_gets(&self, signal: &str) {
        let script = self.script.id().to_string();
        let sent = Command::new("kill").args([signal, &script]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn pid(&self) -> String {
        self.said("pid=").expect("its number")
    }

    /// What the shell said on a line of its own.
    fn said(&self, begin: &str) -> Option<String> {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix(begin));
        line.map(|line| line.trim().to_owned())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// Reads until it is so.
    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => {
                    self.screen.take(&bytes);
                    self.raw.extend(bytes);
                }
                Err(_) => panic!(
                    "no {what} in\n{}\n{:?}",
                    self.screen.lines().join("\n"),
                    self.text()
                ),
            }
        }
    }

    #[track_caller]
    fn until_shown(&mut self, text: &str) {
        self.until(text, |terminal| terminal.screen.shows(text));
    }

    #[track_caller]
    fn until_gone(&mut self, text: &str) {
        self.until(text, |terminal| !terminal.screen.shows(text));
    }

    /// Reads to the end of the shell, and checks that the terminal was left as it was.
    #[track_caller]
    fn is_left_as_it_was(&mut self, code: &str) {
        self.until("end", |terminal| terminal.text().contains("done."));
        let text = self.text();
        assert_eq!(self.said("code=").as_deref(), Some(code), "{text:?}");
        assert_eq!(self.said("before="), self.said("after="), "{text:?}");
        assert_eq!(text.matches(ENTER).count(), text.matches(LEAVE).count());
        let leave = text.rfind(LEAVE).expect("it was left");
        assert!(text.rfind(ENTER).expect("it was entered") < leave);
        let behind = &text[leave..];
        assert!(behind.contains("\x1b[?25h"), "a cursor: {text:?}");
        let drawn = behind.matches("\x1b[").count();
        assert_eq!(drawn, 2, "nothing is drawn behind it: {text:?}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// What a terminal shows, as far as this program uses one.
#[derive(Default)]
struct Screen {
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    unread: Vec<u8>,
}

impl Screen {
    fn take(&mut self, bytes: &[u8]) {
        self.unread.extend(bytes);
        let whole = match std::str::from_utf8(&self.unread) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8(self.unread[..whole].to_vec()).expect("valid");
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let Some(taken) = self.take_one(first, rest) else {
                break;
            };
            rest = &rest[taken..];
        }
        self.unread.drain(..text.len() - rest.len());
    }

    /// How many bytes it took; none if the rest of a sequence has not come.
    fn take_one(&mut self, first: char, rest: &str) -> Option<usize> {
        match first {
            '\x1b' => {
                let sequence = rest.get(2..)?;
                let end = sequence.find(|c: char| c.is_ascii_alphabetic())?;
                self.obey(&sequence[..end], sequence.as_bytes()[end]);
                return Some(2 + end + 1);
            }
            '\r' => self.column = 0,
            '\n' => self.row += 1,
            shown => self.put(shown),
        }
        Some(first.len_utf8())
    }

    fn obey(&mut self, numbers: &str, command: u8) {
        let mut numbers = numbers.split(';').map(|n| n.parse().unwrap_or(1_usize));
        match command {
            b'H' => {
                self.row = numbers.next().unwrap_or(1) - 1;
                self.column = numbers.next().unwrap_or(1) - 1;
            }
            b'J' => self.cells.clear(),
            _ => {}
        }
    }

    fn put(&mut self, shown: char) {
        if self.cells.len() <= self.row {
            self.cells.resize(self.row + 1, Vec::new());
        }
        let row = &mut self.cells[self.row];
        if row.len() <= self.column {
            row.resize(self.column + 1, ' ');
        }
        row[self.column] = shown;
        self.column += 1;
    }

    fn lines(&self) -> Vec<String> {
        let text = |cells: &Vec<char>| cells.iter().collect();
        self.cells.iter().map(text).collect()
    }

    fn shows(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }
}

fn contended(server: &Server) -> (Client, Client) {
    let mut holder = server.connect();
    holder.ask("name web-3:cron", "200 OK");
    holder.ask("lock report", "200 Acquired");
    let mut waiter = server.connect();
    waiter.send("lock report 3600");
    server.until_waiting(1);
    (holder, waiter)
}

#[test]
fn it_shows_who_holds_and_who_waits() {
    let server = Server::start();
    let (mut holder, mut waiter) = contended(&server);
    let mut terminal = Terminal::top(&server.address.to_string());
    terminal.until_shown(" report ");
    terminal.until_shown("#1 web-3:cron");
    terminal.until_shown("waiters 1");
    terminal.until_shown(" #2");
    terminal.types("\r");
    terminal.until_shown("WAITING 1");
    let has_peer = |line: &String| line.contains("web-3:cron") && line.contains("127.0.0.1:");
    terminal.until("peer", |terminal| {
        terminal.screen.lines().iter().any(has_peer)
    });
    holder.ask("unlock report", "200 Unlocked");
    waiter.expect("200 Acquired");
    terminal.until_shown("WAITING 0");
    terminal.types("\x1b");
    terminal.until_gone("ONE KEY");
    terminal.until_shown("nobody waits");
    terminal.types("q");
    terminal.is_left_as_it_was("0");
}

#[test]
fn a_session_is_ended_and_a_lock_taken_after_a_yes() {
    let server = Server::start();
    let (mut holder, mut waiter) = contended(&server);
    let mut terminal = Terminal::top(&server.address.to_string());
    terminal.until_shown("#1 web-3:cron");
    terminal.types("K");
    terminal.until_shown("End session #1 web-3:cron?");
    terminal.types("n");
    terminal.until_gone("End session");
    holder.send("token report");
    assert!(holder.read().starts_with("200 "));
    terminal.types("K");
    terminal.until_shown("End session #1 web-3:cron?");
    terminal.types("y");
    waiter.expect("200 Acquired");
    holder.expect_closed();
    terminal.until_shown("done: End session #1 web-3:cron");
    terminal.until("the next holder", |terminal| {
        let is_it = |line: &String| line.starts_with(" report ") && line.contains(" #2 ");
        terminal.screen.lines().iter().any(is_it)
    });
    terminal.types("B");
    terminal.until_shown("Take away report?");
    terminal.types("y");
    terminal.until_shown("done: Take away report");
    waiter.ask("token report", "403 revoked");
    waiter.ask("lock report 0 job 0", "200 Acquired");
    terminal.until_shown("@job");
    terminal.types("B");
    terminal.until_shown("Break report?");
    terminal.types("y");
    terminal.until_shown("done: Break report");
    waiter.ask("unlock report job", "403 not_locked");
    terminal.types("q");
    terminal.is_left_as_it_was("0");
}

/// The picture stands still, and the lock has passed on.
#[test]
fn whoever_got_the_lock_after_the_picture_keeps_it() {
    let server = Server::start();
    let (mut holder, mut waiter) = contended(&server);
    let mut terminal = Terminal::top(&server.address.to_string());
    terminal.until_shown("#1 web-3:cron");
    terminal.types(" ");
    terminal.until_shown("FROZEN");
    holder.ask("unlock report", "200 Unlocked");
    waiter.expect("200 Acquired");
    terminal.types("By");
    terminal.until_shown("NOT DONE: Take away report?");
    waiter.ask("unlock report", "200 Unlocked");
    terminal.types("q");
    terminal.is_left_as_it_was("0");
}

/// Numbers of sessions are those of a run of the server: there they are others.
#[test]
fn nobody_is_ended_in_a_run_of_the_server_that_was_not_shown() {
    let server = Server::start();
    let address = server.address.to_string();
    let (holder, waiter) = contended(&server);
    let mut terminal = Terminal::top(&address);
    terminal.until_shown("#1 web-3:cron");
    terminal.types(" ");
    terminal.until_shown("FROZEN");
    drop((holder, waiter));
    drop(server);
    let server = Server::start_at(&address, |_| {});
    let (mut holder, _waiter) = contended(&server);
    terminal.types("Ky");
    terminal.until_shown("NOT DONE: End session #1 web-3:cron? the server was started anew");
    holder.ask("unlock report", "200 Unlocked");
    terminal.types("q");
    terminal.is_left_as_it_was("0");
}

#[cfg(feature = "auth")]
#[test]
fn a_user_without_the_right_is_told_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let users = directory.path().join("users.toml");
    let rules = "[users.web]\nrights = [\"lock\", \"read\"]\nprefixes = [\"*\"]\n";
    std::fs::write(&users, rules).expect("written");
    let server = Server::start_with(|config| {
        config.auth_file = Some(users);
        config.trust = vec!["127.0.0.0/8=web".parse().expect("a network")];
    });
    let (mut holder, _waiter) = contended(&server);
    let mut terminal = Terminal::top(&server.address.to_string());
    terminal.until_shown("#1 web-3:cron");
    for (keys, question) in [
        ("Ky", "End session #1 web-3:cron?"),
        ("By", "Take away report?"),
    ] {
        terminal.types(keys);
        terminal.until_shown(&format!("NOT DONE: {question} this user may not do that"));
    }
    holder.ask("unlock report", "200 Unlocked");
    terminal.types("q");
    terminal.is_left_as_it_was("0");
}

#[test]
fn a_key_behind_the_first_page_is_found_by_who_waits_for_it() {
    let server = Server::start();
    let mut client = server.connect();
    for number in 0..1_100 {
        client.ask(format!("lock idle-{number:04}"), "200 Acquired");
    }
    let (_holder, _waiter) = {
        let mut holder = server.connect();
        holder.ask("name last:one", "200 OK");
        holder.ask(b"lock zebra\x01", "200 Acquired");
        let mut waiter = server.connect();
        waiter.send(b"lock zebra\x01 3600");
        server.until_waiting(1);
        (holder, waiter)
    };
    let mut terminal = Terminal::top(&server.address.to_string());
    terminal.until_shown("first 1,000 of 1,101");
    terminal.until_shown(r" zebra\x01 ");
    terminal.until_shown("#2 last:one");
    terminal.types("/^idle-109\r");
    terminal.until_shown("row 1 of 10");
    terminal.until_shown(" idle-1099 ");
    terminal.types("q");
    terminal.is_left_as_it_was("0");
}

#[test]
fn keys_are_filtered_sorted_and_frozen() {
    let server = Server::start();
    let mut client = server.connect();
    for key in ["apple", "banana", "cherry"] {
        client.ask(format!("lock {key}"), "200 Acquired");
    }
    let mut terminal = Terminal::top(&server.address.to_string());
    terminal.until_shown(" cherry ");
    terminal.types("/an\r");
    terminal.until_gone(" cherry ");
    terminal.until_shown(" banana ");
    terminal.types("\x1b");
    terminal.until_shown(" cherry ");
    terminal.types("k");
    terminal.until_shown("KEYS by key");
    terminal.types(" ");
    terminal.until_shown("FROZEN");
    client.ask("lock aardvark", "200 Acquired");
    terminal.types("?");
    terminal.until_shown("HELP");
    terminal.types("x");
    terminal.until_gone("HELP");
    assert!(!terminal.screen.shows("aardvark"));
    terminal.types(" ");
    terminal.until_shown(" aardvark ");
    terminal.types("\x03");
    terminal.is_left_as_it_was("0");
}

#[test]
fn hostile_keys_do_not_reach_the_terminal() {
    let server = Server::start();
    let mut client = server.connect();
    let name: &[u8] = b"name n\x1b]0;title\x07\xff";
    client.ask(name, "200 OK");
    client.ask(
        b"lock k\x1b[2J\x9b\xc2\x9b\xe2\x80\xae\r\r\x08",
        "200 Acquired",
    );
    client.ask(
        [b"lock ", "x".repeat(4000).as_bytes()].concat(),
        "200 Acquired",
    );
    client.ask("lock l\u{2028}m\u{2029}", "200 Acquired");
    client.ask(b"lock o 0 w\x1bc\x0e 0", "200 Acquired");
    let mut terminal = Terminal::run(
        "200",
        &format!("exec {ELOCK} top --server {}", server.address),
    );
    terminal.until_shown(r" k\x1B[2J\x9B\xC2\x9B\xE2\x8…E\x0D\x0D\x08 ");
    terminal.until_shown(r" l\xE2\x80\xA8m\xE2\x80\xA9 ");
    terminal.until_shown(r"#1 n\x1B]0;title\x07\xFF");
    terminal.until_shown(r"@w\x1Bc\x0E");
    terminal.until_shown("xxx…xxx");
    terminal.types("\r");
    terminal.until_shown("ONE KEY");
    terminal.types("\x1bq");
    terminal.is_left_as_it_was("0");
    let text = terminal.text();
    for raw in [
        "\x1b]", "\x1bc", "\x0e", "\u{202e}", "\u{2028}", "\x07", "\x08", "\u{9b}",
    ] {
        assert!(!text.contains(raw), "{raw:?}");
    }
}

#[test]
fn a_server_that_goes_is_told_and_found_again() {
    let server = Server::start();
    let address = server.address.to_string();
    let mut client = server.connect();
    for _ in 0..20 {
        client.ask("lock x", "200 Acquired");
        client.ask("unlock x", "200 Unlocked");
    }
    client.ask("lock before", "200 Acquired");
    let mut terminal = Terminal::top(&address);
    terminal.until_shown(" before ");
    drop(client);
    drop(server);
    terminal.until_shown("no connection for ");
    terminal.until_shown("NO CONNECTION");
    assert!(terminal.screen.shows(" before "));
    let server = Server::start_at(&address, |_| {});
    let mut client = server.connect();
    client.ask("lock after", "200 Acquired");
    terminal.until_shown(" after ");
    terminal.until_shown("the server was restarted ");
    terminal.until_gone("NO CONNECTION");
    drop(server);
    terminal.until_shown("NO CONNECTION");
    terminal.types("q");
    terminal.is_left_as_it_was("0");
}

/// Looks come once an hour, and so none is needed to notice it.
#[test]
fn a_server_that_goes_between_two_looks_is_missed_at_once() {
    let server = Server::start();
    let mut client = server.connect();
    client.ask("lock before", "200 Acquired");
    let address = server.address;
    let command = format!("exec {ELOCK} top --interval 1h --server {address}");
    let mut terminal = Terminal::run("80", &command);
    terminal.until_shown(" before ");
    drop(client);
    drop(server);
    terminal.until_shown("NO CONNECTION");
    terminal.until_shown(": connection refused; this is ");
    let _server = Server::start_at(&address.to_string(), |_| {});
    terminal.until_shown("locks 0");
    terminal.types("q");
    terminal.is_left_as_it_was("0");
}

#[test]
fn a_server_that_hangs_is_told_while_the_question_is_open() {
    let server = Process::start(&[]);
    let mut terminal = Terminal::top(&server.address.to_string());
    // Its own session: before the first look, nothing is counted.
    terminal.until_shown("connected 1 ");
    server.signal("STOP");
    terminal.until_shown("no answer for ");
    terminal.until_shown("NO ANSWER");
    server.signal("CONT");
    terminal.until_gone("NO ANSWER");
    terminal.types("q");
    terminal.is_left_as_it_was("0");
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let server = Server::start();
    for (signal, code) in [("-TERM", "143"), ("-HUP", "129"), ("-INT", "130")] {
        let mut terminal = Terminal::top(&server.address.to_string());
        terminal.until_shown("locks 0");
        terminal.sends(signal);
        terminal.is_left_as_it_was(code);
    }
}

#[test]
fn a_terminal_that_takes_nothing_does_not_keep_it_from_ending() {
    let server = Server::start();
    let mut terminal = Terminal::top(&server.address.to_string());
    terminal.until_shown("locks 0");
    // `script` stands still and the terminal is filled, so that nothing more can be written to it.
    terminal.script_gets("-STOP");
    let tty = terminal.said("tty=").expect("its name");
    fill(&tty);
    terminal.sends("-TERM");
    until_ended(&terminal.pid());
    terminal.script_gets("-CONT");
    terminal.until("end", |terminal| terminal.text().contains("done."));
    assert_eq!(terminal.said("code=").as_deref(), Some("143"));
    assert_eq!(terminal.said("before="), terminal.said("after="));
}

fn fill(tty: &str) {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK;
    let tty = open(tty, flags, Mode::empty()).expect("it is there");
    loop {
        match rustix::io::write(&tty, b".") {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn it_ends_with_its_terminal() {
    let server = Server::start();
    for trap in ["", "trap : HUP; "] {
        let command = format!("{trap}exec {ELOCK} top --server {}", server.address);
        let mut terminal = Terminal::run("80", &command);
        terminal.until_shown("locks 0");
        let pid = terminal.pid();
        drop(terminal);
        until_ended(&pid);
    }
}

/// Until there is no such process, or only its exit code.
fn until_ended(pid: &str) {
    let end = Instant::now() + PATIENCE;
    let stat = Path::new("/proc").join(pid).join("stat");
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < end, "{pid} does not end");
        std::thread::yield_now();
    }
}

#[test]
fn a_small_terminal_is_told_so_and_may_grow() {
    let server = Server::start();
    let command = format!("exec {ELOCK} top --server {}", server.address);
    let mut terminal = Terminal::run("40", &command);
    terminal.until_shown("too small: 40x24");
    terminal.until_shown("elock top needs 60x15");
    let tty = terminal.said("tty=").expect("its name");
    let set_columns = |columns: &str| {
        let set = Command::new("stty")
            .args(["-F", &tty, "cols", columns])
            .status();
        assert!(set.expect("stty runs").success());
    };
    set_columns("100");
    terminal.until_shown("locks 0");
    set_columns("50");
    terminal.until_shown("too small: 50x24");
    set_columns("80");
    terminal.until_shown("locks 0");
    terminal.types("q");
    terminal.is_left_as_it_was("0");
}

#[test]
fn it_is_refused_without_a_terminal() {
    let out = Command::new(ELOCK)
        .args(["top", "--server", "127.0.0.1:1"])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let mut expected = String::new();
    let _ = writeln!(
        expected,
        "elock: top needs a terminal on standard output; \
         `elock status --watch` prints the numbers anywhere"
    );
    assert_eq!(String::from_utf8_lossy(&out.stderr), expected);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
}

#[test]
fn without_colours_none_are_sent() {
    let server = Server::start();
    let command = format!("NO_COLOR=1 exec {ELOCK} top --server {}", server.address);
    let mut terminal = Terminal::run("80", &command);
    terminal.until_shown("locks 0");
    terminal.types("q");
    terminal.is_left_as_it_was("0");
    let text = terminal.text();
    assert!(!text.contains(";5;"), "{text:?}");
    assert!(text.contains("\x1b[1m"), "bold is no colour: {text:?}");
}
