//! Parses a line to a request, or says what is wrong with it.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::find;
use crate::model::{SessionNumber, Token, Visible, unescape};

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
    LOCK_OWNED: "lock" "<key> <seconds> <owner> <milliseconds>" "take it for an owner word, for that long; 0: no limit";
    LOCK_VALUE: "lock_value" "<key> <value> [seconds]" "share the lock with all who give the same value";
    LOCK_VALUE_OWNED: "lock_value" "<key> <value> <seconds> <owner> <milliseconds>" "share it by an owner word";
    LOCK_SLOT: "lock_slot" "<key> <slots> [seconds [owner milliseconds]]" "take one of so many slots";
    LOCK_ALL: "lock_all" "<seconds> <key> [key ...]" "take all of these locks, or none";
    UNLOCK: "unlock" "<key> [owner]" "release the lock";
    UNLOCK_ALL: "unlock_all" "" "release all locks of this session";
    TOKEN: "token" "<key> [owner]" "the fencing token of the lock";
    EXPIRE: "expire" "<key> <milliseconds> [owner]" "let the lock end after that time, unless sent again; 0: never";
    PROMOTE: "promote" "<key> [owner]" "make a shared lock exclusive, if no other shares it";
    DEMOTE: "demote" "<key> <value> [owner]" "make an exclusive lock a shared one";
    BREAK: "break" "<key>" "free a lock that owner words hold, whoever they are";
    FORCE_UNLOCK: "force_unlock" "<key>" "take the lock from whoever holds it";
    KICK: "kick" "<#session|name>" "end a session, and free what it holds";
    WATCH: "watch" "<key> [<state> [seconds]]" "who holds the lock; with a state: once it is another";
    SET_TIMEOUT: "set_timeout" "<milliseconds>" "how long the locks outlive a disconnect";
    CONN_ID: "conn_id" "[id]" "this session's secret id; with an id: resume that session";
    RESUME: "resume" "<id>" "take that session over, also from another connection";
    AUTH: "auth" "<password>" "say who you are, if the server asks for a password";
    AUTH_USER: "auth" "<user> <password>" "say so by the name of a user";
    NAME: "name" "<word>" "what this session is called, for people to see";
    INFO: "info" "" "the server, and what has happened, in numbers";
    LOCKS: "locks" "[prefix [after]]" "the locks whose keys begin so, or all (*), or one (=key)";
    SESSIONS: "sessions" "[after]" "the sessions";
    STATS: "stats" "" "three counters";
    DEBUG: "debug" "" "all sessions, locks and waiting requests";
    DRAIN: "drain" "" "give no new locks, and stop when none is held";
    FAILOVER: "failover" "" "let another server lead, if there are several on etcd";
    ECHO: "echo" "[word ...]" "the words again";
    HELP: "help" "" "this list";
    QUIT: "quit" "" "say goodbye and close the connection";
}

/// The longest name of a session, in bytes.
pub const LONGEST_NAME: usize = 128;

/// One parsed command. Keys, values, owners and ids are any bytes but space and LF.
#[derive(Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// Say who one is.
    Auth {
        /// `None`: the user whom a password alone stands for.
        user: Option<&'a [u8]>,
        /// A secret.
        password: &'a [u8],
    },
    /// Take `key`.
    Lock {
        /// The key of the lock.
        key: &'a [u8],
        /// How to take it.
        mode: AskedMode<'a>,
        /// How long to wait for the lock; zero: not at all.
        wait: Duration,
        /// The owner word to take it for; `None`: for this session.
        owned: Option<Owned<'a>>,
    },
    /// Take all of these keys, or none.
    LockAll {
        /// How long to wait for all of them; zero: not at all.
        wait: Duration,
        /// The keys, in the client's order, perhaps some of them twice.
        keys: Vec<&'a [u8]>,
    },
    /// Release `key`.
    Unlock {
        /// The key of the lock.
        key: &'a [u8],
        /// Whose lock it is; `None`: this session's.
        owner: Option<&'a [u8]>,
    },
    /// Release all locks of this session.
    UnlockAll,
    /// Ask for the fencing token of `key`.
    Token {
        /// The key of the lock.
        key: &'a [u8],
        /// Whose lock it is; `None`: this session's.
        owner: Option<&'a [u8]>,
    },
    /// Let `key` end by itself.
    Expire {
        /// The key of the lock.
        key: &'a [u8],
        /// After how long, in milliseconds; 0: not at all. Saturates at `u64::MAX`.
        lease_ms: u64,
        /// Whose lock it is; `None`: this session's.
        owner: Option<&'a [u8]>,
    },
    /// Make `key` exclusive, or a shared lock.
    SetMode {
        /// The key of the lock.
        key: &'a [u8],
        /// The value to share it by; `None`: exclusive.
        value: Option<&'a [u8]>,
        /// Whose lock it is; `None`: this session's.
        owner: Option<&'a [u8]>,
    },
    /// Free `key` if owner words hold it.
    Break {
        /// The key of the lock.
        key: &'a [u8],
    },
    /// Take `key` from whoever holds it.
    ForceUnlock {
        /// The key of the lock.
        key: &'a [u8],
    },
    /// End a session.
    Kick {
        /// Which.
        who: SessionAsked<'a>,
    },
    /// Ask who holds `key`.
    Watch {
        /// The key of the lock.
        key: &'a [u8],
        /// Answer once the state is another one than this.
        known: Option<KnownState>,
        /// How long to wait for that.
        wait: Duration,
    },
    /// Set this session's grace period.
    SetTimeout {
        /// In milliseconds; saturates at `u64::MAX`.
        grace_ms: u64,
    },
    /// Ask for this session's id.
    ConnId,
    /// Resume the session with this id.
    SetConnId {
        /// The id as `conn_id` gave it.
        id: &'a [u8],
    },
    /// Take over the session with this id.
    Resume {
        /// The id as `conn_id` gave it.
        id: &'a [u8],
    },
    /// Say what this session is called.
    Name {
        /// At most [`LONGEST_NAME`] bytes.
        name: &'a [u8],
    },
    /// Ask for the counters since the start.
    Info,
    /// Ask for locks, in the order of their keys.
    Locks {
        /// Which.
        which: KeysAsked,
        /// The key behind which the list begins.
        after: Option<Vec<u8>>,
    },
    /// Ask for sessions, in the order of their numbers.
    Sessions {
        /// The number behind which the list begins.
        after: SessionNumber,
    },
    /// Ask for the three counters.
    Stats,
    /// Ask for the whole state.
    Debug,
    /// Give no new locks, and stop when none is held.
    Drain,
    /// Let another server lead.
    Failover,
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

/// How a key is to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedMode<'a> {
    /// Alone.
    Exclusive,
    /// Together with all who name the same value.
    Shared(&'a [u8]),
    /// In one of so many slots.
    Slot(NonZeroU32),
}

/// The owner word that a lock is taken for, and its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned<'a> {
    /// The word.
    pub owner: &'a [u8],
    /// The lease in milliseconds; 0: none. Saturates at `u64::MAX`.
    pub lease_ms: u64,
}

/// A session that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAsked<'a> {
    /// The one with this number.
    Number(SessionNumber),
    /// The one that is called so.
    Named(&'a [u8]),
}

impl fmt::Display for SessionAsked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Named(name) => write!(f, "{}", Visible(name)),
        }
    }
}

/// The state of a key that a client knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownState {
    /// Nobody held it.
    Free,
    /// It was held by the grant with this token.
    Held(Token),
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
    /// Not a number of slots.
    Slots(&'a [u8]),
    /// An owner word that looks like the end of a request of HTTP.
    Owner(&'a [u8]),
    /// Neither `free` nor a token.
    State(&'a [u8]),
    /// Not a number of a session.
    Number(&'a [u8]),
    /// A name that is longer than [`LONGEST_NAME`].
    NameTooLong,
    /// A grace period above the server's limit, given here in milliseconds.
    GraceTooLong {
        /// The limit.
        max_ms: u64,
    },
}

/// The request's command and key, for the log; without passwords and the ids of sessions, which are
/// secret, and without the user of a password: many a password was typed in its place.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner_of = |owner: &Option<&[u8]>| match owner {
            Some(owner) => format!(" @{}", Visible(owner)),
            None => String::new(),
        };
        match self {
            Self::Auth { .. } => f.write_str("auth (a password)"),
            Self::Lock {
                key,
                mode,
                wait,
                owned,
            } => {
                match mode {
                    AskedMode::Exclusive => write!(f, "lock {}", Visible(key))?,
                    AskedMode::Shared(value) => {
                        let (key, value) = (Visible(key), Visible(value));
                        write!(f, "lock_value {key} {value}")?;
                    }
                    AskedMode::Slot(slots) => {
                        write!(f, "lock_slot {} {slots}", Visible(key))?;
                    }
                }
                write!(f, " {wait:?}")?;
                match owned {
                    Some(Owned { owner, lease_ms }) => {
                        write!(f, " @{} {lease_ms}", Visible(owner))
                    }
                    None => Ok(()),
                }
            }
            Self::LockAll { wait, keys } => write!(f, "lock_all {wait:?} ({} keys)", keys.len()),
            Self::Unlock { key, owner } => {
                write!(f, "unlock {}{}", Visible(key), owner_of(owner))
            }
            Self::Token { key, owner } => {
                write!(f, "token {}{}", Visible(key), owner_of(owner))
            }
            Self::Expire {
                key,
                lease_ms,
                owner,
            } => {
                let key = Visible(key);
                write!(f, "expire {key} {lease_ms}{}", owner_of(owner))
            }
            Self::SetMode { key, value, owner } => {
                let (key, owner) = (Visible(key), owner_of(owner));
                match value {
                    Some(value) => write!(f, "demote {key} {}{owner}", Visible(value)),
                    None => write!(f, "promote {key}{owner}"),
                }
            }
            Self::Break { key } => write!(f, "break {}", Visible(key)),
            Self::ForceUnlock { key } => write!(f, "force_unlock {}", Visible(key)),
            Self::Kick { who } => write!(f, "kick {who}"),
            Self::Watch { key, wait, .. } => write!(f, "watch {} {wait:?}", Visible(key)),
            Self::UnlockAll => f.write_str("unlock_all"),
            Self::SetTimeout { grace_ms } => write!(f, "set_timeout {grace_ms}"),
            Self::ConnId => f.write_str("conn_id"),
            Self::SetConnId { .. } => f.write_str("conn_id (an id)"),
            Self::Resume { .. } => f.write_str("resume (an id)"),
            Self::Name { name } => write!(f, "name {}", Visible(name)),
            Self::Info => f.write_str("info"),
            Self::Locks { which, .. } => match which {
                KeysAsked::Are(key) => write!(f, "locks ={}", Visible(key)),
                KeysAsked::BeginWith(prefix) => write!(f, "locks {}", Visible(prefix)),
            },
            Self::Sessions { after } => write!(f, "sessions {}", after.0),
            Self::Stats => f.write_str("stats"),
            Self::Debug => f.write_str("debug"),
            Self::Drain => f.write_str("drain"),
            Self::Failover => f.write_str("failover"),
            Self::Echo { words } => write!(f, "echo ({} words)", words.len()),
            Self::Help => f.write_str("help"),
            Self::Quit => f.write_str("quit"),
        }
    }
}

/// The longest wait: the original server's limit, about 49.7 days. A longer wait is cut to it.
const MAX_WAIT: Duration = Duration::from_millis(u32::MAX as u64);

/// The most arguments that any command takes that does not take any number of them.
const MOST_ARGUMENTS: usize = 5;

/// Which locks `locks` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysAsked {
    /// Those whose keys begin with these bytes.
    BeginWith(Vec<u8>),
    /// The one with this key.
    Are(Vec<u8>),
}

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
        // One more than any command takes is only looked at to see that it is there.
        let mut arguments = [&[][..]; MOST_ARGUMENTS + 1];
        let mut count = 0;
        while count < arguments.len()
            && let Some(word) = words.next()
        {
            arguments[count] = word;
            count += 1;
        }
        let arguments = &arguments[..count];
        match (command, arguments) {
            // Most requests are such.
            (b"lock", [key]) => Ok(Self::plain_lock(key, Duration::ZERO)),
            (b"lock", [key, seconds]) => Ok(Self::plain_lock(key, parse_wait(seconds)?)),
            (b"unlock", [key]) => Ok(Self::Unlock { key, owner: None }),
            _ => Self::parse_arguments(command, arguments, words),
        }
    }

    fn plain_lock(key: &'a [u8], wait: Duration) -> Self {
        Self::Lock {
            key,
            mode: AskedMode::Exclusive,
            wait,
            owned: None,
        }
    }

    /// `words` are those behind the `arguments`, if these are as many as are looked at.
    fn parse_arguments(
        command: &'a [u8],
        arguments: &[&'a [u8]],
        words: Words<'a>,
    ) -> Result<Self, BadRequest<'a>> {
        match (command, arguments) {
            (_, [_, version]) if is_http_version(version) && !takes_any_word_second(command) => {
                Err(BadRequest::Foreign("HTTP"))
            }
            (b"auth", [password]) => Ok(Self::Auth {
                user: None,
                password,
            }),
            (b"auth", [user, password]) => Ok(Self::Auth {
                user: Some(user),
                password,
            }),
            (b"lock", [key, how @ ..]) => Self::lock(command, key, Ok(AskedMode::Exclusive), how),
            (b"lock_value", [key, value, how @ ..]) => {
                Self::lock(command, key, Ok(AskedMode::Shared(value)), how)
            }
            (b"lock_slot", [key, slots, how @ ..]) => {
                Self::lock(command, key, parse_slots(slots).map(AskedMode::Slot), how)
            }
            (b"unlock", [key, owner @ ..]) => {
                let owner = optional(command, owner)?;
                Ok(Self::Unlock { key, owner })
            }
            (b"token", [key, owner @ ..]) => {
                let owner = optional(command, owner)?;
                Ok(Self::Token { key, owner })
            }
            (b"expire", [key, word, owner @ ..]) => {
                let owner = optional(command, owner)?;
                Ok(Self::Expire {
                    key,
                    lease_ms: parse_ms(word)?,
                    owner,
                })
            }
            (b"unlock_all", []) => Ok(Self::UnlockAll),
            (b"lock_all", [seconds, _, ..]) => {
                let wait = parse_wait(seconds)?;
                let keys = arguments[1..].iter().copied().chain(words).collect();
                Ok(Self::LockAll { wait, keys })
            }
            (b"promote", [key, owner @ ..]) => {
                let (owner, value) = (optional(command, owner)?, None);
                Ok(Self::SetMode { key, value, owner })
            }
            (b"demote", [key, value, owner @ ..]) => {
                let (owner, value) = (optional(command, owner)?, Some(*value));
                Ok(Self::SetMode { key, value, owner })
            }
            (b"break", [key]) => Ok(Self::Break { key }),
            (b"force_unlock", [key]) => Ok(Self::ForceUnlock { key }),
            (b"kick", [who]) => Ok(Self::Kick {
                who: session_asked(who),
            }),
            (b"watch", [key]) => Ok(Self::Watch {
                key,
                known: None,
                wait: Duration::ZERO,
            }),
            (b"watch", [key, state, seconds @ ..]) => {
                let seconds = optional(command, seconds)?;
                Ok(Self::Watch {
                    key,
                    known: Some(parse_state(state)?),
                    wait: seconds.map_or(Ok(Duration::ZERO), parse_wait)?,
                })
            }
            (b"set_timeout", [word]) => {
                let grace_ms = parse_ms(word)?;
                Ok(Self::SetTimeout { grace_ms })
            }
            (b"conn_id", []) => Ok(Self::ConnId),
            (b"conn_id", [id]) => Ok(Self::SetConnId { id }),
            (b"resume", [id]) => Ok(Self::Resume { id }),
            (b"name", [name]) if name.len() <= LONGEST_NAME => Ok(Self::Name { name }),
            (b"name", [_]) => Err(BadRequest::NameTooLong),
            (b"info", []) => Ok(Self::Info),
            (b"locks", [] | [_] | [_, _]) => Ok(Self::Locks {
                which: match arguments.first().copied() {
                    None | Some(b"*") => KeysAsked::BeginWith(Vec::new()),
                    Some([b'=', key @ ..]) => KeysAsked::Are(unescape(key)),
                    Some(prefix) => KeysAsked::BeginWith(unescape(prefix)),
                },
                after: arguments.get(1).map(|after| unescape(after)),
            }),
            (b"sessions", []) => Ok(Self::Sessions {
                after: SessionNumber(0),
            }),
            (b"sessions", [after]) => {
                let number = parse_digits(after).ok_or(BadRequest::Number(after))?;
                let after = SessionNumber(number);
                Ok(Self::Sessions { after })
            }
            (b"stats", []) => Ok(Self::Stats),
            (b"debug", []) => Ok(Self::Debug),
            (b"drain", []) => Ok(Self::Drain),
            (b"failover", []) => Ok(Self::Failover),
            (b"help", []) => Ok(Self::Help),
            (b"quit", _) => Ok(Self::Quit),
            (b"echo", first) => {
                let words = first.iter().copied().chain(words).collect();
                Ok(Self::Echo { words })
            }
            _ => Err(usage_of(command, arguments.len())),
        }
    }

    /// `how` is what stands behind key and mode: `[seconds]` or `<seconds> <owner> <milliseconds>`.
    fn lock(
        command: &'a [u8],
        key: &'a [u8],
        mode: Result<AskedMode<'a>, BadRequest<'a>>,
        how: &[&'a [u8]],
    ) -> Result<Self, BadRequest<'a>> {
        let (wait, owned) = match *how {
            [] => (Ok(Duration::ZERO), None),
            [seconds] => (parse_wait(seconds), None),
            // It could not be named in `unlock`: see `is_http_version`.
            [_, owner, _] if is_http_version(owner) => return Err(BadRequest::Owner(owner)),
            [seconds, owner, lease] => (parse_wait(seconds), Some((owner, lease))),
            _ => return Err(usage_of(command, MOST_ARGUMENTS)),
        };
        let (mode, wait) = (mode?, wait?);
        let owned = match owned {
            None => None,
            Some((owner, lease)) => {
                let lease_ms = parse_ms(lease)?;
                Some(Owned { owner, lease_ms })
            }
        };
        Ok(Self::Lock {
            key,
            mode,
            wait,
            owned,
        })
    }
}

/// The last argument of a command, which may be missing.
fn optional<'a>(command: &'a [u8], rest: &[&'a [u8]]) -> Result<Option<&'a [u8]>, BadRequest<'a>> {
    match *rest {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(usage_of(command, 0)),
    }
}

/// `#` and digits is a number, any other word a name.
fn session_asked(word: &[u8]) -> SessionAsked<'_> {
    let number = word.strip_prefix(b"#").and_then(parse_digits);
    number.map_or(SessionAsked::Named(word), |number| {
        SessionAsked::Number(SessionNumber(number))
    })
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

/// Whether the second of two arguments of a command may be any word, also one that looks like that.
fn takes_any_word_second(command: &[u8]) -> bool {
    matches!(
        command,
        b"auth"
            | b"lock_value"
            | b"lock_all"
            | b"expire"
            | b"demote"
            | b"locks"
            | b"echo"
            | b"quit"
    )
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

/// What is wrong with a command that has this number of arguments: of several usages, the one with
/// fewer arguments, unless it has more than that.
fn usage_of(command: &[u8], arguments: usize) -> BadRequest<'_> {
    let mut usages = COMMANDS
        .iter()
        .filter(|usage| usage.name.as_bytes() == command);
    let Some(first) = usages.next() else {
        return foreign(command).map_or(BadRequest::Unknown(command), BadRequest::Foreign);
    };
    let most = first.arguments.matches(['<', '[']).count();
    match usages.next() {
        Some(second) if arguments > most => BadRequest::Usage(second),
        _ => BadRequest::Usage(first),
    }
}

/// `1*DIGIT [ "." 1*DIGIT ]` in seconds. A fraction of a nanosecond is dropped, and a wait above
/// [`MAX_WAIT`] is cut to it.
fn parse_wait(word: &[u8]) -> Result<Duration, BadRequest<'_>> {
    let bad = match is_http_version(word) {
        true => BadRequest::Foreign("HTTP"),
        false => BadRequest::Seconds(word),
    };
    let mut parts = word.splitn(2, |&byte| byte == b'.');
    let seconds = parse_digits(parts.next().unwrap_or_default()).ok_or(bad)?;
    let nanos = parts.next().map_or(Some(0), parse_fraction).ok_or(bad)?;
    Ok((Duration::from_secs(seconds) + Duration::from_nanos(nanos)).min(MAX_WAIT))
}

fn parse_ms(word: &[u8]) -> Result<u64, BadRequest<'_>> {
    parse_digits(word).ok_or(BadRequest::Milliseconds(word))
}

/// A number of slots, 1 or more. Saturates.
fn parse_slots(word: &[u8]) -> Result<NonZeroU32, BadRequest<'_>> {
    let slots = parse_digits(word).ok_or(BadRequest::Slots(word))?;
    let slots = u32::try_from(slots).unwrap_or(u32::MAX);
    NonZeroU32::new(slots).ok_or(BadRequest::Slots(word))
}

fn parse_state(word: &[u8]) -> Result<KnownState, BadRequest<'_>> {
    match word {
        b"free" => Ok(KnownState::Free),
        word => match parse_digits(word) {
            Some(token) => Ok(KnownState::Held(Token(token))),
            None => Err(BadRequest::State(word)),
        },
    }
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
            Request::Lock { wait, .. } => Ok(wait),
            other => panic!("{other:?} is no lock"),
        }
    }

    #[test]
    fn words_are_split_at_spaces_alone() {
        let parsed = Request::parse(b"lock_value  a\tb\r\0\xff   v").expect("a request");
        let (key, value) = (&b"a\tb\r\0\xff"[..], &b"v"[..]);
        assert_eq!(
            parsed,
            Request::Lock {
                key,
                mode: AskedMode::Shared(value),
                wait: Duration::ZERO,
                owned: None,
            }
        );
    }

    /// How many arguments a usage allows: `[a [b c]]` is none, one or three.
    fn counts(arguments: &str) -> Vec<usize> {
        let (mut counts, mut count) = (Vec::new(), 0);
        for word in arguments.split_inclusive(['[', ' ', ']']) {
            if word.ends_with('[') {
                counts.push(count);
            } else if word != "]" {
                count += usize::from(!word.trim_end_matches([' ', ']']).is_empty());
            }
        }
        counts.push(count);
        counts
    }

    #[test]
    fn every_command_parses_with_the_arguments_of_its_usage_and_with_no_others() {
        assert_eq!(
            counts("<key> <slots> [seconds [owner milliseconds]]"),
            [2, 3, 5]
        );
        for usage in COMMANDS {
            let same_name = COMMANDS.iter().filter(|other| other.name == usage.name);
            let allowed: Vec<usize> = same_name.flat_map(|one| counts(one.arguments)).collect();
            let least = allowed.iter().copied().min().expect("some");
            for given in 0..9 {
                let line = format!("{}{}", usage.name, " 1".repeat(given));
                let parsed = Request::parse(line.as_bytes());
                let endless = matches!(usage.name, "echo" | "quit")
                    || usage.name == "lock_all" && given >= least;
                if endless || allowed.contains(&given) {
                    assert!(parsed.is_ok(), "{line}: {parsed:?}");
                } else {
                    let Err(BadRequest::Usage(told)) = parsed else {
                        panic!("{line}: {parsed:?}");
                    };
                    assert_eq!(told.name, usage.name);
                }
            }
        }
    }

    #[test]
    fn the_usage_that_is_told_is_the_one_that_comes_closer() {
        assert_eq!(Request::parse(b"lock"), Err(BadRequest::Usage(LOCK)));
        for line in [&b"lock k 5 o"[..], b"lock k 5 o 1 x"] {
            assert_eq!(Request::parse(line), Err(BadRequest::Usage(LOCK_OWNED)));
        }
        let line = b"lock_value k v 5 o";
        assert_eq!(
            Request::parse(line),
            Err(BadRequest::Usage(LOCK_VALUE_OWNED))
        );
    }

    #[test]
    fn an_owner_can_be_named_by_every_command() {
        let owner = BadRequest::Owner(b"HTTP/1.1");
        assert_eq!(Request::parse(b"lock k 0 HTTP/1.1 0"), Err(owner));
        assert_eq!(Request::parse(b"lock_slot k 1 0 HTTP/1.1 0"), Err(owner));
        assert!(Request::parse(b"lock k 0 http/1.1 0").is_ok());
        for line in [
            &b"demote k HTTP/1.1"[..],
            b"lock_all 0 HTTP/1.1",
            b"locks * HTTP/1.1",
        ] {
            assert!(Request::parse(line).is_ok(), "a value or a key");
        }
    }

    #[test]
    fn slots_are_one_or_more() {
        for bad in ["0", "x", "-1", "1.5"] {
            let line = format!("lock_slot k {bad}");
            let slots = BadRequest::Slots(bad.as_bytes());
            assert_eq!(Request::parse(line.as_bytes()), Err(slots));
        }
        let many = Request::parse(b"lock_slot k 99999999999999999999");
        let mode = AskedMode::Slot(NonZeroU32::MAX);
        assert!(matches!(many, Ok(Request::Lock { mode: asked, .. }) if asked == mode));
    }

    #[test]
    fn a_prefix_may_name_any_byte() {
        let asked = |line: &'static [u8]| match Request::parse(line) {
            Ok(Request::Locks { which, after }) => (which, after),
            other => panic!("{other:?}"),
        };
        let begin_with = |prefix: &[u8]| KeysAsked::BeginWith(prefix.to_vec());
        assert_eq!(asked(b"locks"), (begin_with(b""), None));
        assert_eq!(asked(b"locks *"), (begin_with(b""), None));
        assert_eq!(asked(b"locks \\x2A"), (begin_with(b"*"), None));
        assert_eq!(asked(b"locks \\x3D"), (begin_with(b"="), None));
        assert_eq!(
            asked(b"locks =a\\x20"),
            (KeysAsked::Are(b"a ".to_vec()), None)
        );
        let (found, after) = asked(b"locks a\\x4 a\\x5Cx\\xfF\\");
        assert_eq!(found, begin_with(b"a\\x4"));
        assert_eq!(after.as_deref(), Some(&b"a\\x\xff\\"[..]));
    }

    #[test]
    fn what_is_logged_shows_keys_but_no_id() {
        let shown = |line: &[u8]| format!("{:?}", Request::parse(line).expect("a request"));
        assert_eq!(shown(b"lock k\x1b 0.5"), "lock k\\x1B 500ms");
        assert_eq!(shown("break é\\x41".as_bytes()), "break é\\x5Cx41");
        assert_eq!(shown(b"conn_id 24-0123456789abcdef"), "conn_id (an id)");
        assert_eq!(shown(b"resume 24-0123456789abcdef"), "resume (an id)");
        assert_eq!(shown(b"lock k 1 me 7"), "lock k 1s @me 7");
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
            (b"watch /k HTTP/1.1", "HTTP"),
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
