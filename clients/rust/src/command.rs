//! Every command of the protocol, with the type of its answer.
//!
//! A command is a value; [`Connection::call`](crate::Connection::call) sends it, and so does
//! [`Client::call`](crate::Client::call) those that ask for something and change nothing of a session.
//! Keys, values, owners and names are bytes.

use std::time::Duration;

use crate::answer::Answer;
use crate::error::Error;
use crate::listing::{Info, LockEntry, Page, SessionEntry, Stats};
use crate::word::{BadWord, Line, milliseconds};

/// A request whose answer has a type.
pub trait Command {
    /// What a `200` tells.
    type Output;

    /// Whether a `200` goes on with more lines, up to `END`.
    const IS_LISTING: bool = false;

    /// The request as it is sent.
    ///
    /// # Errors
    ///
    /// A word in it cannot be sent.
    fn line(&self) -> Result<Line, BadWord>;

    /// How long the server may wait before it answers.
    fn wait(&self) -> Duration {
        Duration::ZERO
    }

    /// What the answer says, which is a `200`.
    ///
    /// # Errors
    ///
    /// It is not what a server of this protocol answers.
    fn read(answer: Answer) -> Result<Self::Output, Error>;
}

/// A command that asks for something, and neither waits nor changes anything of the session by which
/// it is sent: so it may be sent by one that others use, too.
pub trait Question: Command {}

/// `auth`: says who comes. [`Servers`](crate::Servers) have it said on each connection, before anything
/// else.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// The user, where there are several.
    pub user: Option<Vec<u8>>,
    /// What nobody else knows.
    pub password: Vec<u8>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Command for Auth {
    type Output = ();

    fn line(&self) -> Result<Line, BadWord> {
        let line = Line::new("auth").optional(self.user.as_ref())?;
        line.word(&self.password)?.end()
    }

    fn read(_: Answer) -> Result<(), Error> {
        Ok(())
    }
}

/// How a lock is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// By one.
    #[default]
    Exclusive,
    /// By all who name this value.
    Shared(Vec<u8>),
    /// By at most so many.
    Slots(u32),
}

/// An owner word, and the lease with which its lock begins; zero: none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The word that the application chose.
    pub word: Vec<u8>,
    /// The lock ends by itself that long after its grant, unless it is renewed; zero: never.
    pub lease: Duration,
}

/// `lock`, `lock_value` and `lock_slot`: takes a lock, for the session or for an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// What is locked.
    pub key: Vec<u8>,
    /// How it is held.
    pub mode: Mode,
    /// How long to wait if others hold it; zero: not at all.
    pub wait: Duration,
    /// For whom, if not for the session.
    pub owner: Option<Owner>,
}

impl Command for Lock {
    type Output = ();

    fn line(&self) -> Result<Line, BadWord> {
        let line = match &self.mode {
            Mode::Exclusive => Line::new("lock").word(&self.key)?,
            Mode::Shared(value) => Line::new("lock_value").word(&self.key)?.word(value)?,
            Mode::Slots(slots) => Line::new("lock_slot")
                .word(&self.key)?
                .number(u128::from(*slots)),
        };
        let line = line.seconds(self.wait);
        match &self.owner {
            None => line.end(),
            Some(owner) => line
                .word(&owner.word)?
                .number(milliseconds(owner.lease))
                .end(),
        }
    }

    fn wait(&self) -> Duration {
        self.wait
    }

    fn read(_: Answer) -> Result<(), Error> {
        Ok(())
    }
}

/// `lock_all`: takes all of these, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockAll {
    /// What is locked.
    pub keys: Vec<Vec<u8>>,
    /// How long to wait for all of them together.
    pub wait: Duration,
}

impl Command for LockAll {
    type Output = ();

    fn line(&self) -> Result<Line, BadWord> {
        let mut line = Line::new("lock_all").seconds(self.wait);
        if self.keys.is_empty() {
            return Err(BadWord::Empty);
        }
        for key in &self.keys {
            line = line.word(key)?;
        }
        // One key is named twice, which is the same to the server, so that no key looks like HTTP.
        match self.keys.as_slice() {
            [only] => line.word(only)?.end(),
            _ => line.end(),
        }
    }

    fn wait(&self) -> Duration {
        self.wait
    }

    fn read(_: Answer) -> Result<(), Error> {
        Ok(())
    }
}

/// Declares a command of a name, a key, perhaps further words, and perhaps an owner.
macro_rules! commands_of_a_key {
    ($($(#[$doc:meta])* $name:ident $text:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty => $put:expr),* } -> $output:ty = $read:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name {
                /// The lock's key.
                pub key: Vec<u8>,
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl Command for $name {
                type Output = $output;

                fn line(&self) -> Result<Line, BadWord> {
                    let line = Line::new($text).word(&self.key)?;
                    $(let put: fn(Line, &$type) -> Result<Line, BadWord> = $put;
                    let line = put(line, &self.$field)?;)*
                    line.end()
                }

                fn read(answer: Answer) -> Result<$output, Error> {
                    let read: fn(Answer) -> Result<$output, Error> = $read;
                    read(answer)
                }
            }
        )*
    };
}

fn put_owner(line: Line, owner: &Option<Vec<u8>>) -> Result<Line, BadWord> {
    line.optional(owner.as_ref())
}

commands_of_a_key! {
    /// `unlock`: releases the lock of the session, or of the owner.
    Unlock "unlock" {
        /// Whose lock, if not the session's.
        owner: Option<Vec<u8>> => put_owner
    } -> () = |_| Ok(());

    /// `token`: the fencing token of the lock of the session, or of the owner.
    Token "token" {
        /// Whose lock, if not the session's.
        owner: Option<Vec<u8>> => put_owner
    } -> u64 = |answer| number(&answer);

    /// `expire`: the lock ends by itself that long from now, unless this is sent again.
    Expire "expire" {
        /// How long; zero: for ever.
        lease: Duration => |line, lease| Ok(line.number(milliseconds(*lease))),
        /// Whose lock, if not the session's.
        owner: Option<Vec<u8>> => put_owner
    } -> () = |_| Ok(());

    /// `promote`: makes a shared lock exclusive, if no other shares it.
    Promote "promote" {
        /// Whose lock, if not the session's.
        owner: Option<Vec<u8>> => put_owner
    } -> () = |_| Ok(());

    /// `demote`: makes an exclusive lock a shared one.
    Demote "demote" {
        /// By which it is shared from now on.
        value: Vec<u8> => |line, value| line.word(value),
        /// Whose lock, if not the session's.
        owner: Option<Vec<u8>> => put_owner
    } -> () = |_| Ok(());

    /// `break`: frees a lock that only owners hold, whoever they are.
    Break "break" {} -> () = |_| Ok(());

    /// `force_unlock`: takes a lock from whoever has it.
    ForceUnlock "force_unlock" {} -> () = |_| Ok(());
}

/// What is known of a key to whoever does not hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nobody holds it.
    Free,
    /// The grant with this token; of several the one with the lowest.
    Held {
        /// The fencing token.
        token: u64,
        /// Who, as the server shows it: `#24` a session, `@job-7` an owner.
        holder: String,
    },
}

/// `watch`: who holds the key, at once, or when that is another than is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// What is watched.
    pub key: Vec<u8>,
    /// What is known already, and how long to wait for a change of it.
    pub change: Option<(State, Duration)>,
}

impl Command for Watch {
    type Output = State;

    fn line(&self) -> Result<Line, BadWord> {
        let line = Line::new("watch").word(&self.key)?;
        match &self.change {
            None => line.end(),
            Some((State::Free, wait)) => line.word("free")?.seconds(*wait).end(),
            Some((State::Held { token, .. }, wait)) => {
                line.number(u128::from(*token)).seconds(*wait).end()
            }
        }
    }

    fn wait(&self) -> Duration {
        self.change
            .as_ref()
            .map_or(Duration::ZERO, |(_, wait)| *wait)
    }

    fn read(answer: Answer) -> Result<State, Error> {
        let text = answer.text();
        if text == "free" {
            return Ok(State::Free);
        }
        text.split_once(" held by ")
            .and_then(|(token, holder)| {
                Some(State::Held {
                    token: token.parse().ok()?,
                    holder: holder.to_owned(),
                })
            })
            .ok_or_else(|| unexpected(&answer))
    }
}

/// Declares a command of a name and words of its own.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident $text:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty => $put:expr),* } $(listing $listing:literal)? -> $output:ty = $read:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Default)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl Command for $name {
                type Output = $output;

                $(const IS_LISTING: bool = $listing;)?

                fn line(&self) -> Result<Line, BadWord> {
                    let line = Line::new($text);
                    $(let put: fn(Line, &$type) -> Result<Line, BadWord> = $put;
                    let line = put(line, &self.$field)?;)*
                    line.end()
                }

                fn read(answer: Answer) -> Result<$output, Error> {
                    let read: fn(Answer) -> Result<$output, Error> = $read;
                    read(answer)
                }
            }
        )*
    };
}

commands! {
    /// `unlock_all`: releases all locks of the session.
    UnlockAll "unlock_all" {} -> () = |_| Ok(());

    /// `set_timeout`: how long the session's locks outlive its connection.
    SetTimeout "set_timeout" {
        /// The grace period.
        grace: Duration => |line, grace| Ok(line.number(milliseconds(*grace)))
    } -> () = |_| Ok(());

    /// `conn_id`: the session's secret id.
    ConnId "conn_id" {} -> SessionId = |answer| Ok(SessionId(answer.text));

    /// `conn_id ID`: resumes a session in its grace period.
    SetConnId "conn_id" {
        /// Which.
        id: SessionId => |line, id| line.word(&id.0)
    } -> () = |_| Ok(());

    /// `resume`: takes a session over, also from another connection.
    Resume "resume" {
        /// Which.
        id: SessionId => |line, id| line.word(&id.0)
    } -> () = |_| Ok(());

    /// `kick`: ends a session, and frees what it holds. The answer is its number.
    Kick "kick" {
        /// Which: `#` and its number, or what it is called.
        who: Vec<u8> => |line, who| line.word(who)
    } -> u64 = |answer| {
        let number = answer.text().strip_prefix("Kicked #").and_then(|number| number.parse().ok());
        number.ok_or_else(|| unexpected(&answer))
    };

    /// `name`: what the session is called, for people.
    Name "name" {
        /// At most 128 bytes.
        name: Vec<u8> => |line, name| line.word(name)
    } -> () = |_| Ok(());

    /// `info`: the server, and what has happened, in numbers.
    GetInfo "info" {} listing true -> Info = |answer| Ok(Info::read(&answer));

    /// `locks`: the first thousand locks whose keys begin so.
    GetLocks "locks" {
        /// As [`GetLocks::prefix_of`] or [`GetLocks::key`] makes it; `*` for all.
        prefix: Vec<u8> => |line, prefix| line.word(prefix),
        /// What the page before ended with.
        after: Option<Vec<u8>> => |line, after| line.optional(after.as_ref())
    } listing true -> Page<LockEntry> = |answer| Page::read(&answer, "LOCK ");

    /// `sessions`: the first thousand sessions with numbers above one.
    GetSessions "sessions" {
        /// What the page before ended with.
        after: Option<Vec<u8>> => |line, after| line.optional(after.as_ref())
    } listing true -> Page<SessionEntry> = |answer| Page::read(&answer, "SESSION ");

    /// `stats`: three counters.
    GetStats "stats" {} listing true -> Stats = |answer| {
        Stats::read(&answer).ok_or_else(|| unexpected(&answer))
    };

    /// `debug`: all sessions, locks and waiting requests, as lines for people.
    Debug "debug" {} listing true -> Vec<Vec<u8>> = |answer| Ok(answer.lines);

    /// `drain`: the server gives no new locks, and stops when none is held.
    Drain "drain" {} -> () = |_| Ok(());

    /// `failover`: another of several servers on etcd leads. The answer comes before that, and then the
    /// connection ends.
    Failover "failover" {} -> () = |_| Ok(());

    /// `echo`: the words again, in the notation of the original server.
    Echo "echo" {
        /// Any words.
        words: Vec<Vec<u8>> => |line, words| words.iter().try_fold(line, Line::word)
    } -> String = |answer| Ok(answer.text());

    /// `help`: a line for each command.
    Help "help" {} listing true -> Vec<String> = |answer| {
        Ok(answer.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect())
    };

    /// `quit`: the server closes the connection.
    Quit "quit" {} -> () = |_| Ok(());
}

impl Question for Token {}
impl Question for GetInfo {}
impl Question for GetLocks {}
impl Question for GetSessions {}
impl Question for GetStats {}
impl Question for Debug {}
impl Question for Echo {}
impl Question for Help {}

impl GetLocks {
    /// The word for all keys that begin with these bytes, whichever they are.
    pub fn prefix_of(bytes: &[u8]) -> Vec<u8> {
        if bytes.is_empty() {
            return b"*".to_vec();
        }
        let mut word = Vec::new();
        for (index, &byte) in bytes.iter().enumerate() {
            match byte {
                b'*' if index == 0 => word.extend_from_slice(br"\x2A"),
                b'=' if index == 0 => word.extend_from_slice(br"\x3D"),
                byte => put_escaped(&mut word, byte),
            }
        }
        word
    }

    /// The word for this very key, for which the server need not search.
    pub fn key(bytes: &[u8]) -> Vec<u8> {
        let mut word = b"=".to_vec();
        for &byte in bytes {
            put_escaped(&mut word, byte);
        }
        word
    }
}

/// What is no part of a word, or would be taken for something else, as `\xNN`.
fn put_escaped(word: &mut Vec<u8>, byte: u8) {
    match byte {
        b'\\' | b' ' | 0x7F.. | ..b' ' => {
            word.extend_from_slice(format!(r"\x{byte:02X}").as_bytes());
        }
        byte => word.push(byte),
    }
}

/// A session's id: whoever has it can take the session over. It is not shown by `{:?}`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SessionId(Vec<u8>);

impl SessionId {
    /// An id that `conn_id` told.
    pub fn new(word: impl Into<Vec<u8>>) -> Self {
        Self(word.into())
    }

    /// The session's number, by which listings name it.
    pub fn number(&self) -> Option<u64> {
        let digits = self.0.split(|&byte| byte == b'-').next()?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The word itself, which is a secret.
    pub fn secret(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionId(#{})", self.number().unwrap_or(0))
    }
}

fn number(answer: &Answer) -> Result<u64, Error> {
    answer.text().parse().map_err(|_| unexpected(answer))
}

/// A `200` that is none of this protocol.
pub(crate) fn unexpected(answer: &Answer) -> Error {
    Error::Refused {
        code: answer.code,
        text: answer.text(),
    }
}
