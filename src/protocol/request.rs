//! Parses a line to a request, or says what is wrong with it.

use std::fmt;
use std::time::Duration;

use super::find;

/// A command's name, arguments and purpose, as `help` and the `400` answers show them.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage {
    /// The command word, lower case; case counts.
    pub name: &'static str,
    /// Its arguments: `<required>`, `[optional]`.
    pub arguments: &'static str,
    /// What it does, in a few words.
    pub purpose: &'static str,
}

macro_rules! commands {
    ($($id:ident: $name:literal $arguments:literal $purpose:literal;)*) => {
        $(const $id: &Usage = &Usage { name: $name, arguments: $arguments, purpose: $purpose };)*
        /// Every command, in the order in which `help` lists them.
        pub const COMMANDS: &[&Usage] = &[$($id),*];
    };
}

commands! {
    LOCK: "lock" "<key> [seconds]" "take the lock, waiting that long if another has it";
    LOCK_VALUE: "lock_value" "<key> <value> [seconds]" "share the lock with all who give the same value";
    UNLOCK: "unlock" "<key>" "release the lock";
    UNLOCK_ALL: "unlock_all" "" "release all locks of this session";
    TOKEN: "token" "<key>" "the fencing token of the lock";
    EXPIRE: "expire" "<key> <milliseconds>" "let the lock end after that time, unless sent again; 0: never";
    SET_TIMEOUT: "set_timeout" "<milliseconds>" "how long the locks outlive a disconnect";
    CONN_ID: "conn_id" "[id]" "this session's secret id; with an id: resume that session";
    STATS: "stats" "" "three counters";
    DEBUG: "debug" "" "all sessions, locks and waiting requests";
    ECHO: "echo" "[word ...]" "the words again";
    HELP: "help" "" "this list";
    QUIT: "quit" "" "say goodbye and close the connection";
}

/// One parsed command. Keys, values and ids are any bytes but space and LF.
#[derive(Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// Take `key` exclusively.
    Lock {
        /// The key of the lock.
        key: &'a [u8],
        /// How long to wait for the lock; zero: not at all.
        wait: Duration,
    },
    /// Take `key` together with all sessions that name the same `value`.
    LockValue {
        /// The key of the lock.
        key: &'a [u8],
        /// The value that all holders agree on.
        value: &'a [u8],
        /// How long to wait for the lock; zero: not at all.
        wait: Duration,
    },
    /// Release `key`.
    Unlock {
        /// The key of the lock.
        key: &'a [u8],
    },
    /// Release all locks of this session.
    UnlockAll,
    /// Ask for the fencing token of `key`.
    Token {
        /// The key of the lock.
        key: &'a [u8],
    },
    /// Let `key` end by itself.
    Expire {
        /// The key of the lock.
        key: &'a [u8],
        /// After how long, in milliseconds; 0: not at all. Saturates at `u64::MAX`.
        lease_ms: u64,
    },
    /// Set this session's grace period.
    SetTimeout {
        /// In milliseconds; saturates at `u64::MAX`.
        grace_ms: u64,
    },
    /// Ask for this session's id.
    ConnId,
    /// Resume the session with this id.
    Resume {
        /// The id as `conn_id` gave it.
        id: &'a [u8],
    },
    /// Ask for the counters.
    Stats,
    /// Ask for the whole state.
    Debug,
    /// Ask for these words again.
    Echo {
        /// The words.
        words: Vec<&'a [u8]>,
    },
    /// Ask for the commands.
    Help,
    /// Say goodbye.
    Quit,
}

/// Why a line is no request. Every one is a `400`, and the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRequest<'a> {
    /// The line is empty or has nothing but spaces.
    Empty,
    /// The first word is no command.
    Unknown(&'a [u8]),
    /// The command exists, but not with that many arguments.
    Usage(&'static Usage),
    /// The line begins another protocol, which this names. Its other lines are no requests either,
    /// but some may look like one: so the connection must be closed.
    Foreign(&'static str),
    /// Not a number of seconds.
    Seconds(&'a [u8]),
    /// Not a number of milliseconds.
    Milliseconds(&'a [u8]),
    /// A grace period above the server's limit, given here in milliseconds.
    GraceTooLong {
        /// The limit.
        max_ms: u64,
    },
}

/// The request's line, for the log, without the id of a resume, which is secret.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock { key, wait } => write!(f, "lock {} {wait:?}", key.escape_ascii()),
            Self::LockValue { key, value, wait } => {
                let (key, value) = (key.escape_ascii(), value.escape_ascii());
                write!(f, "lock_value {key} {value} {wait:?}")
            }
            Self::Unlock { key } => write!(f, "unlock {}", key.escape_ascii()),
            Self::Token { key } => write!(f, "token {}", key.escape_ascii()),
            Self::Expire { key, lease_ms } => write!(f, "expire {} {lease_ms}", key.escape_ascii()),
            Self::UnlockAll => f.write_str("unlock_all"),
            Self::SetTimeout { grace_ms } => write!(f, "set_timeout {grace_ms}"),
            Self::ConnId => f.write_str("conn_id"),
            Self::Resume { .. } => f.write_str("conn_id (an id)"),
            Self::Stats => f.write_str("stats"),
            Self::Debug => f.write_str("debug"),
            Self::Echo { words } => write!(f, "echo ({} words)", words.len()),
            Self::Help => f.write_str("help"),
            Self::Quit => f.write_str("quit"),
        }
    }
}

/// The longest wait: the original server's limit, about 49.7 days. A longer wait is cut to it.
const MAX_WAIT: Duration = Duration::from_millis(u32::MAX as u64);

impl<'a> Request<'a> {
    /// Parses one line without its end. Words are separated by one or more spaces.
    ///
    /// # Errors
    ///
    /// A [`BadRequest`] that says what a client should change; it borrows from `line`.
    pub fn parse(line: &'a [u8]) -> Result<Self, BadRequest<'a>> {
        let mut words = Words(line);
        let Some(command) = words.next() else {
            return Err(BadRequest::Empty);
        };
        // Three arguments are the most that any command but `echo` and `quit` takes, so a fourth
        // is only looked at to see that it is there.
        let arguments = [words.next(), words.next(), words.next(), words.next()];
        match (command, arguments) {
            (b"lock", [Some(key), seconds, None, None]) => {
                let wait = parse_wait(seconds)?;
                Ok(Self::Lock { key, wait })
            }
            (b"lock_value", [Some(key), Some(value), seconds, None]) => {
                let wait = parse_wait(seconds)?;
                Ok(Self::LockValue { key, value, wait })
            }
            (b"unlock", [Some(key), None, None, None]) => Ok(Self::Unlock { key }),
            (b"token", [Some(key), None, None, None]) => Ok(Self::Token { key }),
            (b"expire", [Some(key), Some(word), None, None]) => {
                let lease_ms = parse_digits(word).ok_or(BadRequest::Milliseconds(word))?;
                Ok(Self::Expire { key, lease_ms })
            }
            (b"unlock_all", [None, ..]) => Ok(Self::UnlockAll),
            (b"set_timeout", [Some(word), None, None, None]) => {
                let grace_ms = parse_digits(word).ok_or(BadRequest::Milliseconds(word))?;
                Ok(Self::SetTimeout { grace_ms })
            }
            (b"conn_id", [None, ..]) => Ok(Self::ConnId),
            (b"conn_id", [Some(id), None, None, None]) => Ok(Self::Resume { id }),
            (b"stats", [None, ..]) => Ok(Self::Stats),
            (b"debug", [None, ..]) => Ok(Self::Debug),
            (b"help", [None, ..]) => Ok(Self::Help),
            (b"quit", _) => Ok(Self::Quit),
            (b"echo", first) => {
                let words = first.into_iter().flatten().chain(words).collect();
                Ok(Self::Echo { words })
            }
            (_, [_, Some(version), None, None]) if is_http_version(version) => {
                Err(BadRequest::Foreign("HTTP"))
            }
            _ => Err(usage_of(command)),
        }
    }
}

/// The first bytes of a TLS client. No command begins with them, and the client waits for an answer
/// without sending a line's end.
pub(super) const TLS_HELLO: &[u8] = &[0x16, 0x03];

/// The foreign protocol that a line with this first word begins, if it is one that comes here by
/// mistake or by malice: a web page can have any browser send a request to this machine, with lines
/// of the page's choice in its body.
fn foreign(command: &[u8]) -> Option<&'static str> {
    let begins_with = |name: &[u8]| {
        let begin = command.get(..name.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(name))
    };
    match command {
        b"GET" | b"POST" | b"PUT" | b"HEAD" | b"DELETE" | b"OPTIONS" | b"PATCH" | b"CONNECT"
        | b"TRACE" | b"PRI" => Some("HTTP"),
        // The second version begins with two empty lines and a zero byte.
        b"PROXY" | b"\0" => Some("the PROXY protocol"),
        [b'*', count @ ..] if parse_digits(count).is_some() => Some("the protocol of Redis"),
        _ if begins_with(b"host:") => Some("HTTP"),
        _ if command.starts_with(b"SSH-") => Some("SSH"),
        _ if command.starts_with(TLS_HELLO) => Some("TLS"),
        _ => None,
    }
}

/// The foreign protocol that a line begins, which may be longer than a request.
pub(super) fn foreign_line(line: &[u8]) -> Option<&'static str> {
    foreign(Words(line).next()?)
}

/// Whether the last word of a line says that it is a request of HTTP, whatever its method is.
fn is_http_version(word: &[u8]) -> bool {
    word.starts_with(b"HTTP/")
}

/// The words of a line, which one or more spaces separate.
struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.0.is_empty() {
            let end = find::first(b' ', self.0).unwrap_or(self.0.len());
            let (word, rest) = self.0.split_at(end);
            self.0 = rest.get(1..).unwrap_or_default();
            if !word.is_empty() {
                return Some(word);
            }
        }
        None
    }
}

fn usage_of(command: &[u8]) -> BadRequest<'_> {
    let known = COMMANDS
        .iter()
        .find(|usage| usage.name.as_bytes() == command);
    match known {
        Some(usage) => BadRequest::Usage(usage),
        None => foreign(command).map_or(BadRequest::Unknown(command), BadRequest::Foreign),
    }
}

/// `1*DIGIT [ "." 1*DIGIT ]` in seconds; absent means no wait. A fraction of a nanosecond is
/// dropped, and a wait above [`MAX_WAIT`] is cut to it.
fn parse_wait(word: Option<&[u8]>) -> Result<Duration, BadRequest<'_>> {
    let Some(word) = word else {
        return Ok(Duration::ZERO);
    };
    let bad = match is_http_version(word) {
        true => BadRequest::Foreign("HTTP"),
        false => BadRequest::Seconds(word),
    };
    let mut parts = word.splitn(2, |&byte| byte == b'.');
    let seconds = parse_digits(parts.next().unwrap_or_default()).ok_or(bad)?;
    let nanos = parts.next().map_or(Some(0), parse_fraction).ok_or(bad)?;
    Ok((Duration::from_secs(seconds) + Duration::from_nanos(nanos)).min(MAX_WAIT))
}

/// A run of digits; `None` if it is empty or holds anything else. Saturates.
fn parse_digits(word: &[u8]) -> Option<u64> {
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = word.iter().map(|digit| u64::from(digit - b'0'));
    Some(digits.fold(0, |sum: u64, digit| {
        sum.saturating_mul(10).saturating_add(digit)
    }))
}

/// The digits behind a decimal point, in nanoseconds.
fn parse_fraction(word: &[u8]) -> Option<u64> {
    parse_digits(word)?;
    let digits = word.iter().chain(std::iter::repeat(&b'0')).take(9);
    Some(digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_of(line: &str) -> Result<Duration, BadRequest<'_>> {
        match Request::parse(line.as_bytes())? {
            Request::Lock { wait, .. } | Request::LockValue { wait, .. } => Ok(wait),
            other => panic!("{other:?} is no lock"),
        }
    }

    #[test]
    fn words_are_split_at_spaces_alone() {
        let parsed = Request::parse(b"lock_value  a\tb\r\0\xff   v").expect("a request");
        let (key, value) = (&b"a\tb\r\0\xff"[..], &b"v"[..]);
        assert_eq!(
            parsed,
            Request::LockValue {
                key,
                value,
                wait: Duration::ZERO
            }
        );
    }

    #[test]
    fn every_command_parses_with_the_arguments_of_its_usage_and_with_no_others() {
        for usage in COMMANDS {
            let required = usage.arguments.matches('<').count();
            let optional = usage.arguments.matches('[').count();
            for given in 0..8 {
                let line = format!("{}{}", usage.name, " 1".repeat(given));
                let parsed = Request::parse(line.as_bytes());
                let endless = matches!(usage.name, "echo" | "quit");
                if endless || (required..=required + optional).contains(&given) {
                    assert!(parsed.is_ok(), "{line}: {parsed:?}");
                } else {
                    assert_eq!(parsed, Err(BadRequest::Usage(usage)), "{line}");
                }
            }
        }
    }

    #[test]
    fn what_is_logged_shows_keys_but_no_id() {
        let shown = |line: &[u8]| format!("{:?}", Request::parse(line).expect("a request"));
        assert_eq!(shown(b"lock k\x1b 0.5"), "lock k\\x1b 500ms");
        assert_eq!(shown(b"conn_id 24-0123456789abcdef"), "conn_id (an id)");
    }

    #[test]
    fn what_is_no_command_is_named() {
        assert_eq!(Request::parse(b""), Err(BadRequest::Empty));
        assert_eq!(Request::parse(b"   "), Err(BadRequest::Empty));
        assert_eq!(Request::parse(b"foo bar"), Err(BadRequest::Unknown(b"foo")));
        assert_eq!(Request::parse(b"LOCK k"), Err(BadRequest::Unknown(b"LOCK")));
    }

    #[test]
    fn the_beginnings_of_other_protocols_are_told_apart() {
        for (line, protocol) in [
            (&b"GET / HTTP/1.1"[..], "HTTP"),
            (b"POST", "HTTP"),
            (b"host: 127.0.0.1:11400", "HTTP"),
            (b"PRI * HTTP/2.0", "HTTP"),
            (b"Host:\t127.0.0.1", "HTTP"),
            (b"PROPFIND /lock HTTP/1.1", "HTTP"),
            (b"lock /k HTTP/1.1", "HTTP"),
            (b"unlock /k HTTP/1.1", "HTTP"),
            (b"\0", "the PROXY protocol"),
            (b"\x16\x03\x01\x02\0\x01", "TLS"),
            (b"SSH-2.0-OpenSSH_9.2", "SSH"),
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2", "the PROXY protocol"),
            (b"*1", "the protocol of Redis"),
        ] {
            assert_eq!(Request::parse(line), Err(BadRequest::Foreign(protocol)));
        }
        for line in [&b"*"[..], b"get /", b"hosts", b"\x16", b"*1a"] {
            assert!(matches!(Request::parse(line), Err(BadRequest::Unknown(_))));
        }
    }

    #[test]
    fn waits_are_decimal_seconds() {
        assert_eq!(wait_of("lock k"), Ok(Duration::ZERO));
        assert_eq!(wait_of("lock k 0"), Ok(Duration::ZERO));
        assert_eq!(wait_of("lock k 5"), Ok(Duration::from_secs(5)));
        assert_eq!(wait_of("lock k 0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(
            wait_of("lock_value k v 1.25"),
            Ok(Duration::from_millis(1250))
        );
        assert_eq!(wait_of("lock k 0.0000000019"), Ok(Duration::from_nanos(1)));
        assert_eq!(wait_of("lock k 99999999999999999999999.9"), Ok(MAX_WAIT));
        for bad in [
            "abc", "-1", "+1", "1e3", ".5", "5.", "1.2.3", "0x1", "1,5", "inf", "-0",
        ] {
            let line = format!("lock k {bad}");
            assert_eq!(wait_of(&line), Err(BadRequest::Seconds(bad.as_bytes())));
        }
    }

    #[test]
    fn grace_periods_are_whole_milliseconds() {
        let parse = |line: &'static str| Request::parse(line.as_bytes());
        assert_eq!(
            parse("set_timeout 0"),
            Ok(Request::SetTimeout { grace_ms: 0 })
        );
        let huge = Request::SetTimeout { grace_ms: u64::MAX };
        assert_eq!(parse("set_timeout 99999999999999999999999"), Ok(huge));
        assert_eq!(
            parse("set_timeout 1.5"),
            Err(BadRequest::Milliseconds(b"1.5"))
        );
        assert_eq!(
            parse("set_timeout -5"),
            Err(BadRequest::Milliseconds(b"-5"))
        );
    }
}
