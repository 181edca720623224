//! Replies to bytes. Every line ends in CRLF; clients decide by the code alone.

use std::fmt;
use std::io::Write;

use bytes::{BufMut, BytesMut};

use super::request::{BadRequest, COMMANDS, LONGEST_NAME};
use crate::model::{
    Circle, Exhausted, Holder, Key, Limit, NotResumed, NotStored, SessionId, SessionNumber, Token,
    Visible, shortened,
};

/// The counters of `stats`: three and no more, as the PHP client breaks on a fourth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Sessions with a connection.
    pub clients: usize,
    /// Keys that are held.
    pub locks: usize,
    /// All sessions, also the ones in their grace period.
    pub monitoring: usize,
}

/// The lines of `info`: names and values, in their order. A reader skips a name that it does not know.
#[derive(Debug)]
pub struct Info(pub Vec<(&'static str, Fact)>);

/// A value of `info`.
#[derive(Debug)]
pub enum Fact {
    /// A level, or a counter since the start.
    Number(u64),
    /// What is no number, without control characters.
    Text(String),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// An answer that says what a session has, or has not any more. It is true only together with what
/// it rests on, so it is a type of its own, which cannot be sent without.
#[derive(Debug)]
pub enum StateReply {
    /// The session, or the owner that it asked for, holds the lock.
    Acquired,
    /// The lock is released.
    Unlocked,
    /// Others hold the lock.
    NotYours,
    /// Nobody holds the lock.
    NotLocked,
    /// The session held the lock until its lease ended.
    Expired,
    /// The session held the lock until an operator took it.
    Revoked,
    /// The fencing token of a lock.
    Token(Token),
    /// All locks are released, or the lease or the mode is set.
    Ok,
    /// The grace period is set.
    TimeoutSet,
    /// This session's id.
    ConnId(SessionId),
    /// The connection now speaks for the session asked for: the answer to `conn_id`.
    ConnIdSet,
    /// The same, to `resume`.
    Resumed,
    /// This session is over, and what it held is free.
    Kicked(SessionNumber),
}

/// Why no session is ended by a `kick`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotKicked {
    /// There is no such session, or it is over.
    Unknown,
    /// It is the one that asks.
    Own,
    /// Several are called so.
    Several {
        /// The first of them.
        first: Vec<SessionNumber>,
        /// How many there are.
        in_all: usize,
    },
}

/// An answer that is true whatever happens before it is sent.
#[derive(Debug)]
pub enum Reply<'a> {
    /// The session does not hold the lock, and will not by this request.
    Unavailable,
    /// The same, after a wait.
    TimedOut,
    /// This key of several cannot be had.
    NotAll {
        /// The key.
        key: Key,
        /// Whether the request waited for it.
        waited: bool,
    },
    /// The session asked for cannot be resumed: the answer to `conn_id`.
    CannotSetConnId(NotResumed),
    /// The same, to `resume`.
    CannotResume(NotResumed),
    /// The session asked for cannot be ended.
    CannotKick(NotKicked),
    /// The state of a key; `None`: free.
    State(Option<(Holder, Token)>),
    /// What is asked for is done, and nothing rests on it.
    Done,
    /// The three counters.
    Stats(Stats),
    /// The server, in numbers.
    Info(Info),
    /// The words of an `echo`.
    Echo(Vec<&'a [u8]>),
    /// Every command.
    Help,
    /// The answer to `quit`.
    Bye,
    /// The wait would never end.
    Deadlock(Circle),
    /// The line was no request.
    Bad(BadRequest<'a>),
    /// The line was longer than this many bytes.
    LineTooLong {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// The server has no room for one more lock or waiter.
    Full(Limit),
    /// The server has no room for this connection.
    TooManyConnections {
        /// The limit.
        max: usize,
    },
    /// The client does not begin by TLS, on a port where it should.
    NotTls,
    /// The server is drained, and the request came after that began.
    Draining,
    /// None of several servers leads, and the connection has waited for one that does.
    NoLeader,
    /// There is no other server that could lead.
    Alone,
    /// The server stops before it could grant the lock.
    ShuttingDown,
    /// The client has sent more than this ahead of the answer to a request that waits.
    TooMuchAhead {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// Whoever asks has not said who it is.
    AuthRequired,
    /// An address, or a user, has as many connections as it may have.
    TooManyOfOne(Exhausted),
    /// Nobody has that name and password.
    WrongPassword,
    /// Too many passwords wait for being looked at.
    TooManyPasswords,
    /// The user may not do that, or not with that key.
    NotAllowed,
    /// The session holds a lock, and belongs to another user.
    HoldsLocks,
    /// The server itself failed; the text says at what.
    Failed(&'static str),
    /// The changes of the request could not be made durable.
    NotStored(NotStored),
}

impl StateReply {
    /// Appends the reply's line to `out`.
    pub fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Acquired => out.put_slice(b"200 Acquired\r\n"),
            Self::Unlocked => out.put_slice(b"200 Unlocked\r\n"),
            Self::NotYours => out.put_slice(b"403 not_yours\r\n"),
            Self::NotLocked => out.put_slice(b"403 not_locked\r\n"),
            Self::Expired => out.put_slice(b"403 expired\r\n"),
            Self::Revoked => out.put_slice(b"403 revoked\r\n"),
            Self::Token(token) => put_fmt(out, format_args!("200 {token}\r\n")),
            Self::Ok => out.put_slice(b"200 OK\r\n"),
            Self::TimeoutSet => out.put_slice(b"200 timeout set\r\n"),
            Self::ConnId(id) => put_fmt(out, format_args!("200 {id}\r\n")),
            Self::ConnIdSet => out.put_slice(b"200 conn id set\r\n"),
            Self::Resumed => out.put_slice(b"200 Resumed\r\n"),
            Self::Kicked(number) => put_fmt(out, format_args!("200 Kicked {number}\r\n")),
        }
    }
}

impl Reply<'_> {
    /// Appends the reply's lines to `out`.
    pub fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Unavailable | Self::TimedOut => out.put_slice(b"409 Unavailable\r\n"),
            Self::NotTls => out.put_slice(b"400 This port speaks TLS only\r\n"),
            Self::NotAll { key, .. } => {
                out.put_slice(b"409 Unavailable: ");
                put_shortened(out, key.as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::CannotSetConnId(why) => out.put_slice(match why {
                NotResumed::Unknown => b"403 cannot set conn id\r\n",
                NotResumed::StillConnected => b"403 cannot set conn id: still connected\r\n",
                NotResumed::HoldsLocks => b"403 cannot set conn id: this session holds a lock\r\n",
            }),
            Self::CannotResume(why) => out.put_slice(match why {
                NotResumed::HoldsLocks => b"403 holds_locks\r\n",
                // That a session is connected is no obstacle to a `resume`.
                NotResumed::Unknown | NotResumed::StillConnected => b"403 unknown\r\n",
            }),
            Self::CannotKick(why) => put_not_kicked(out, why),
            Self::State(None) => out.put_slice(b"200 free\r\n"),
            Self::State(Some((holder, token))) => {
                put_fmt(out, format_args!("200 {token} held by "));
                put_holder_text(out, holder);
                out.put_slice(b"\r\n");
            }
            Self::Done => out.put_slice(b"200 OK\r\n"),
            Self::Stats(stats) => put_stats(out, *stats),
            Self::Info(info) => put_info(out, info),
            Self::Echo(words) => put_echo(out, words),
            Self::Help => put_help(out),
            Self::Bye => out.put_slice(b"200 Hey, it was nice seeing you.\r\n"),
            Self::Deadlock(circle) => put_deadlock(out, circle),
            Self::Bad(bad) => put_bad(out, *bad),
            Self::LineTooLong { max_bytes } => {
                put_fmt(
                    out,
                    format_args!("413 Line too long: at most {max_bytes} bytes\r\n"),
                );
            }
            Self::Full(limit) => put_fmt(out, format_args!("507 {limit}\r\n")),
            Self::TooManyConnections { max } => {
                put_fmt(
                    out,
                    format_args!("503 Too many connections: at most {max}\r\n"),
                );
            }
            Self::Draining => out.put_slice(b"503 Draining\r\n"),
            Self::NoLeader => out.put_slice(b"503 No leader\r\n"),
            Self::Alone => out.put_slice(b"409 Alone: there is no other server\r\n"),
            Self::ShuttingDown => out.put_slice(b"503 Shutting down\r\n"),
            Self::TooMuchAhead { max_bytes } => {
                put_fmt(
                    out,
                    format_args!("507 Too much sent ahead: at most {max_bytes} bytes\r\n"),
                );
            }
            Self::TooManyOfOne(exhausted) => put_fmt(out, format_args!("503 {exhausted}\r\n")),
            Self::AuthRequired => out.put_slice(b"401 auth required\r\n"),
            Self::WrongPassword => out.put_slice(b"401 wrong user or password\r\n"),
            Self::TooManyPasswords => out.put_slice(b"503 Too many passwords to check\r\n"),
            Self::NotAllowed => out.put_slice(b"403 not_allowed\r\n"),
            Self::HoldsLocks => out.put_slice(b"403 holds_locks\r\n"),
            Self::Failed(what) => put_fmt(out, format_args!("500 {what}\r\n")),
            Self::NotStored(why) => put_fmt(out, format_args!("500 Not stored: {why}\r\n")),
        }
    }
}

/// Writes formatted text. A `BytesMut` grows, so this cannot fail.
pub(super) fn put_fmt(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    let written = out.writer().write_fmt(text);
    debug_assert!(written.is_ok(), "a growing buffer takes everything");
}

/// Writes a client's bytes into a line that a person may read in a terminal.
pub(super) fn put_visible(out: &mut BytesMut, bytes: &[u8]) {
    let written = Visible(bytes).write_to(out);
    debug_assert!(written.is_ok(), "a growing buffer takes everything");
}

/// Writes `#24` or `@owner`.
pub(super) fn put_holder_text(out: &mut BytesMut, holder: &Holder) {
    match holder {
        Holder::Session(number) => put_fmt(out, format_args!("{number}")),
        Holder::Owner(owner) => {
            out.put_u8(b'@');
            put_visible(out, owner.as_bytes());
        }
    }
}

/// Writes a word in double quotes as Erlang's `~p` does, which the original server used.
fn put_quoted(out: &mut BytesMut, word: &[u8]) {
    out.put_u8(b'"');
    for part in word.split_inclusive(|&byte| byte == b'"' || byte == b'\\') {
        match part.split_last() {
            Some((last @ (b'"' | b'\\'), head)) => {
                put_visible(out, head);
                out.put_slice(&[b'\\', *last]);
            }
            _ => put_visible(out, part),
        }
    }
    out.put_u8(b'"');
}

fn put_not_kicked(out: &mut BytesMut, why: &NotKicked) {
    match why {
        NotKicked::Unknown => out.put_slice(b"403 unknown\r\n"),
        NotKicked::Own => out.put_slice(b"403 own_session\r\n"),
        NotKicked::Several { first, in_all } => {
            put_fmt(out, format_args!("403 ambiguous: {in_all} sessions:"));
            for number in first {
                put_fmt(out, format_args!(" {number}"));
            }
            if *in_all > first.len() {
                out.put_slice(b" ...");
            }
            out.put_slice(b"\r\n");
        }
    }
}

fn put_echo(out: &mut BytesMut, words: &[&[u8]]) {
    out.put_slice(b"200 [");
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        put_quoted(out, word);
    }
    out.put_slice(b"]\r\n");
}

fn put_stats(out: &mut BytesMut, stats: Stats) {
    let Stats {
        clients,
        locks,
        monitoring,
    } = stats;
    put_fmt(
        out,
        format_args!(
            "200 STATS\r\nSTAT clients {clients}\r\nSTAT locks {locks}\r\n\
             STAT monitoring {monitoring}\r\nEND\r\n"
        ),
    );
}

fn put_info(out: &mut BytesMut, info: &Info) {
    out.put_slice(b"200 INFO\r\n");
    for (name, value) in &info.0 {
        put_fmt(out, format_args!("{name} {value}\r\n"));
    }
    out.put_slice(b"END\r\n");
}

fn put_help(out: &mut BytesMut) {
    out.put_slice(b"200 HELP\r\n");
    for usage in COMMANDS {
        let call = format!("{} {}", usage.name, usage.arguments);
        put_fmt(out, format_args!("{call:<53} {}\r\n", usage.purpose));
    }
    out.put_slice(b"END\r\n");
}

fn put_bad(out: &mut BytesMut, bad: BadRequest<'_>) {
    let (before, word, after): (&str, &[u8], &str) = match bad {
        BadRequest::Empty => {
            out.put_slice(b"400 Empty line: \"help\" lists the commands\r\n");
            return;
        }
        BadRequest::Usage(usage) => {
            let gap = if usage.arguments.is_empty() { "" } else { " " };
            let (name, arguments) = (usage.name, usage.arguments);
            put_fmt(out, format_args!("400 Usage: {name}{gap}{arguments}\r\n"));
            return;
        }
        BadRequest::Foreign(protocol) => {
            put_fmt(
                out,
                format_args!("400 This is {protocol}, and not eLock\r\n"),
            );
            return;
        }
        BadRequest::GraceTooLong { max_ms } => {
            put_fmt(
                out,
                format_args!("400 Timeout too long: at most {max_ms} milliseconds\r\n"),
            );
            return;
        }
        BadRequest::Unknown(command) => ("400 Unknown command: ", command, "\r\n"),
        BadRequest::Seconds(word) => (
            "400 Bad timeout: ",
            word,
            " is not a number of seconds, such as 5 or 0.5\r\n",
        ),
        BadRequest::NameTooLong => {
            put_fmt(
                out,
                format_args!("400 Name too long: at most {LONGEST_NAME} bytes\r\n"),
            );
            return;
        }
        BadRequest::Slots(word) => (
            "400 Bad slots: ",
            word,
            " is not a whole number of 1 or more\r\n",
        ),
        BadRequest::Owner(word) => (
            "400 Bad owner: ",
            word,
            " begins like the version of HTTP\r\n",
        ),
        BadRequest::State(word) => ("400 Bad state: ", word, " is neither free nor a token\r\n"),
        BadRequest::Number(word) => (
            "400 Bad session: ",
            word,
            " is not the number of a session\r\n",
        ),
        BadRequest::Milliseconds(word) => (
            "400 Bad timeout: ",
            word,
            " is not a whole number of milliseconds\r\n",
        ),
    };
    out.put_slice(before.as_bytes());
    // So that a client gets no more back than it sent, and a bad line costs no more than a good one.
    let (shown, dots) = shortened(word, SHOWN_WORD);
    put_quoted(out, shown);
    out.put_slice(dots.as_bytes());
    out.put_slice(after.as_bytes());
}

/// A key, or another word of a line, that is longer than this many bytes is shown by its beginning, so that
/// the line stays short.
const SHOWN_WORD: usize = 128;

/// Writes a key, or the beginning of a long one.
fn put_shortened(out: &mut BytesMut, key: &[u8]) {
    let (shown, dots) = shortened(key, SHOWN_WORD);
    put_visible(out, shown);
    out.put_slice(dots.as_bytes());
}

fn put_deadlock(out: &mut BytesMut, circle: &Circle) {
    out.put_slice(b"423 Deadlock: ");
    put_circle(out, circle);
    out.put_slice(b"\r\n");
}

/// A circle as a client is told of it.
pub(crate) fn circle_text(circle: &Circle) -> String {
    let mut out = BytesMut::new();
    put_circle(&mut out, circle);
    String::from_utf8_lossy(&out).into_owned()
}

fn put_circle(out: &mut BytesMut, circle: &Circle) {
    let left_out = circle.left_out();
    for (index, step) in circle.steps().iter().enumerate() {
        if left_out > 0 && index == Circle::END {
            put_fmt(out, format_args!("... {left_out} more ... = "));
        }
        put_fmt(out, format_args!("{} => ", step.waiter));
        put_shortened(out, step.key.as_bytes());
        out.put_slice(b" = ");
    }
    put_fmt(out, format_args!("{}", circle.requester()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SessionNumber, Step};

    /// A line of control characters would otherwise come back four times as long as it was.
    #[test]
    fn what_a_bad_line_says_is_repeated_up_to_a_length() {
        let long = [1; 4096];
        let shown = "\\x01".repeat(SHOWN_WORD);
        for (word, expected) in [
            (&long[..], format!("\"{shown}\"...")),
            (&long[..SHOWN_WORD], format!("\"{shown}\"")),
        ] {
            let answer = text(&Reply::Bad(BadRequest::Unknown(word)));
            assert_eq!(answer, format!("400 Unknown command: {expected}\r\n"));
            let answer = text(&Reply::Bad(BadRequest::Seconds(word)));
            assert!(answer.starts_with(&format!("400 Bad timeout: {expected} is not")));
        }
    }

    fn text(reply: &Reply<'_>) -> String {
        let mut out = BytesMut::new();
        reply.put(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn circle(len: usize) -> Circle {
        let step = |place: usize| Step {
            waiter: SessionNumber(place as u64 + 1),
            key: Key::new(format!("x{}", place + 1).as_bytes()),
        };
        Circle::new(len, step)
    }

    #[test]
    fn a_reply_is_a_code_and_a_text_and_ends_in_crlf() {
        let replies = [
            Reply::Unavailable,
            Reply::Echo(vec![]),
            Reply::Bad(BadRequest::Empty),
            Reply::Bad(BadRequest::Usage(COMMANDS[0])),
            Reply::Bad(BadRequest::GraceTooLong { max_ms: 7 }),
            Reply::LineTooLong { max_bytes: 7 },
            Reply::TooManyConnections { max: 7 },
            Reply::NotTls,
            Reply::TooMuchAhead { max_bytes: 7 },
            Reply::Bad(BadRequest::Foreign("HTTP")),
            Reply::Failed("No"),
            Reply::NotStored(NotStored::new("No\nspace")),
            Reply::Full(Limit::Locks { max: 7 }),
            Reply::Deadlock(circle(2)),
            Reply::CannotKick(NotKicked::Unknown),
            Reply::CannotKick(NotKicked::Own),
            Reply::CannotKick(NotKicked::Several {
                first: vec![SessionNumber(7)],
                in_all: 9,
            }),
        ];
        for reply in replies {
            let text = text(&reply);
            let line = text.strip_suffix("\r\n").expect("ends in CRLF");
            assert!(!line.contains(['\r', '\n']), "{line:?} is one line");
            let (code, rest) = line.split_once(' ').expect("a space behind the code");
            assert!(
                code.len() == 3 && code.parse::<u16>().is_ok(),
                "{line:?} has a code"
            );
            assert!(!rest.is_empty(), "{line:?} has a text");
        }
    }

    #[test]
    fn what_a_client_sent_is_quoted_without_control_characters() {
        let words: [&[u8]; 4] = [b"a", b"", b"q\"b\\c", b"\x1b[2J\xc3\xa9"];
        let expected = "200 [\"a\",\"\",\"q\\\"b\\\\c\",\"\\x1B[2J\u{e9}\"]\r\n";
        assert_eq!(text(&Reply::Echo(words.to_vec())), expected);
        let unknown = Reply::Bad(BadRequest::Unknown(b"foo"));
        assert_eq!(text(&unknown), "400 Unknown command: \"foo\"\r\n");
    }

    #[test]
    fn usage_names_the_arguments() {
        let usage = |index: usize| text(&Reply::Bad(BadRequest::Usage(COMMANDS[index])));
        assert_eq!(usage(0), "400 Usage: lock <key> [seconds]\r\n");
        assert_eq!(usage(7), "400 Usage: unlock_all\r\n");
    }

    #[test]
    fn a_deadlock_names_each_session_and_the_key_it_waits_for() {
        assert_eq!(
            text(&Reply::Deadlock(circle(2))),
            "423 Deadlock: #1 => x1 = #2 => x2 = #1\r\n"
        );
    }

    #[test]
    fn a_huge_circle_is_shown_by_its_ends() {
        let exact = text(&Reply::Deadlock(circle(32)));
        assert!(!exact.contains("more"), "{exact}");
        let long = text(&Reply::Deadlock(circle(10_000)));
        assert!(
            long.contains("=> x16 = ... 9968 more ... = #9985 => x9985"),
            "{long}"
        );
        assert!(long.ends_with("=> x10000 = #1\r\n"), "{long}");
        assert!(long.len() < 1000);
        let key = Key::new(&[0; 4000]);
        let step = Step {
            waiter: SessionNumber(1),
            key,
        };
        let wide = text(&Reply::Deadlock(Circle::new(10_000, |_| step.clone())));
        assert!(wide.len() < 32 * 600, "{} bytes", wide.len());
    }
}
