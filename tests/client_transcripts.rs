//! The transcripts of protocol.md through the client library: what it has a type for is sent and read by
//! that type, and everything else as the line that it is.
#![cfg(feature = "cli")]

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use common::transcript::{Speaker, transcripts};
use common::{PATIENCE, Server};
use elock_client::command::{
    self, Command, GetInfo, GetLocks, GetSessions, GetStats, Lock, LockAll, Mode, Owner, SessionId,
    State, Watch,
};
use elock_client::{Address, Answer, Connection, Error, NotHeld};
use tokio::runtime::Runtime;

/// A connection of the library.
struct Library {
    runtime: Runtime,
    connection: Connection,
    /// Sent and not answered.
    asked: VecDeque<Asked>,
    /// Answered and not looked at.
    lines: VecDeque<String>,
}

struct Asked {
    line: Vec<u8>,
    is_listing: bool,
    /// Reads the answer by its type, if the request has one.
    read: Option<fn(Answer) -> Result<(), Error>>,
}

impl Asked {
    fn typed<C: Command>(command: &C) -> Option<Self> {
        Some(Self {
            line: command.line().ok()?.as_bytes().to_vec(),
            is_listing: C::IS_LISTING,
            read: Some(|answer| answer.done().and_then(C::read).map(drop)),
        })
    }

    fn of(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        typed(&words).unwrap_or_else(|| Self {
            line: format!("{line}\n").into_bytes(),
            is_listing: false,
            read: None,
        })
    }
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

fn milliseconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis)
}

fn lock(key: &str, mode: Mode, rest: &[&str]) -> Option<Asked> {
    let (wait, owner) = match rest {
        [] => (Duration::ZERO, None),
        [wait] => (seconds(wait)?, None),
        [wait, word, lease] => {
            let (word, lease) = (word.as_bytes().to_vec(), milliseconds(lease)?);
            (seconds(wait)?, Some(Owner { word, lease }))
        }
        _ => return None,
    };
    Asked::typed(&Lock {
        key: key.into(),
        mode,
        wait,
        owner,
    })
}

fn owner(rest: &[&str]) -> Option<Option<Vec<u8>>> {
    match rest {
        [] => Some(None),
        [owner] => Some(Some((*owner).into())),
        _ => None,
    }
}

/// The request by its type, unless it is one that no type could be.
fn typed(words: &[&str]) -> Option<Asked> {
    let (name, rest) = words.split_first()?;
    let bytes = |text: &str| text.as_bytes().to_vec();
    match (*name, rest) {
        ("lock", [key, rest @ ..]) => lock(key, Mode::Exclusive, rest),
        ("lock_value", [key, value, rest @ ..]) => lock(key, Mode::Shared(bytes(value)), rest),
        ("lock_slot", [key, slots, rest @ ..]) => lock(key, Mode::Slots(slots.parse().ok()?), rest),
        ("lock_all", [wait, keys @ ..]) if !keys.is_empty() => Asked::typed(&LockAll {
            keys: keys.iter().map(|key| bytes(key)).collect(),
            wait: seconds(wait)?,
        }),
        ("unlock", [key, rest @ ..]) => Asked::typed(&command::Unlock {
            key: bytes(key),
            owner: owner(rest)?,
        }),
        ("token", [key, rest @ ..]) => Asked::typed(&command::Token {
            key: bytes(key),
            owner: owner(rest)?,
        }),
        ("expire", [key, lease, rest @ ..]) => Asked::typed(&command::Expire {
            key: bytes(key),
            lease: milliseconds(lease)?,
            owner: owner(rest)?,
        }),
        ("promote", [key, rest @ ..]) => Asked::typed(&command::Promote {
            key: bytes(key),
            owner: owner(rest)?,
        }),
        ("demote", [key, value, rest @ ..]) => Asked::typed(&command::Demote {
            key: bytes(key),
            value: bytes(value),
            owner: owner(rest)?,
        }),
        ("break", [key]) => Asked::typed(&command::Break { key: bytes(key) }),
        ("force_unlock", [key]) => Asked::typed(&command::ForceUnlock { key: bytes(key) }),
        ("kick", [who]) => Asked::typed(&command::Kick { who: bytes(who) }),
        ("watch", [key]) => Asked::typed(&Watch {
            key: bytes(key),
            change: None,
        }),
        ("watch", [key, known, wait]) => {
            let known = match *known {
                "free" => State::Free,
                token => State::Held {
                    token: token.parse().ok()?,
                    holder: String::new(),
                },
            };
            Asked::typed(&Watch {
                key: bytes(key),
                change: Some((known, seconds(wait)?)),
            })
        }
        ("auth", [password]) => Asked::typed(&command::Auth {
            user: None,
            password: bytes(password),
        }),
        ("auth", [user, password]) => Asked::typed(&command::Auth {
            user: Some(bytes(user)),
            password: bytes(password),
        }),
        ("name", [word]) => Asked::typed(&command::Name { name: bytes(word) }),
        ("set_timeout", [ms]) => Asked::typed(&command::SetTimeout {
            grace: milliseconds(ms)?,
        }),
        ("conn_id", []) => Asked::typed(&command::ConnId {}),
        ("conn_id", [id]) => Asked::typed(&command::SetConnId {
            id: SessionId::new(bytes(id)),
        }),
        ("resume", [id]) => Asked::typed(&command::Resume {
            id: SessionId::new(bytes(id)),
        }),
        ("locks", []) => Asked::typed(&GetLocks {
            prefix: GetLocks::prefix_of(b""),
            after: None,
        }),
        ("locks", [prefix]) => Asked::typed(&GetLocks {
            prefix: bytes(prefix),
            after: None,
        }),
        ("locks", [prefix, after]) => Asked::typed(&GetLocks {
            prefix: bytes(prefix),
            after: Some(bytes(after)),
        }),
        ("sessions", []) => Asked::typed(&GetSessions { after: None }),
        ("echo", words) => Asked::typed(&command::Echo {
            words: words.iter().map(|word| bytes(word)).collect(),
        }),
        ("unlock_all", []) => Asked::typed(&command::UnlockAll {}),
        ("info", []) => Asked::typed(&GetInfo {}),
        ("stats", []) => Asked::typed(&GetStats {}),
        ("debug", []) => Asked::typed(&command::Debug {}),
        ("failover", []) => Asked::typed(&command::Failover {}),
        ("drain", []) => Asked::typed(&command::Drain {}),
        ("help", []) => Asked::typed(&command::Help {}),
        ("quit", []) => Asked::typed(&command::Quit {}),
        _ => None,
    }
}

/// That the type says what the code says.
fn check(read: fn(Answer) -> Result<(), Error>, answer: Answer) {
    let code = answer.code;
    let meaning = read(answer);
    let is_right = match (&meaning, code) {
        (Ok(()), code) => code == 200,
        (Err(Error::Refused { code: told, .. }), code) => *told == code && code != 200,
        (Err(Error::Unauthorized { .. }), 401) => true,
        (Err(Error::NotAllowed), 403) => true,
        (Err(Error::NotHeld(why)), 403) => {
            matches!(
                why,
                NotHeld::Expired | NotHeld::Revoked | NotHeld::NotYours | NotHeld::NotLocked
            )
        }
        (Err(Error::Unavailable), 409) => true,
        (Err(Error::Deadlock { circle }), 423) => !circle.steps.is_empty(),
        (Err(Error::Full { .. }), 507 | 503) => true,
        (Err(Error::ShuttingDown), 503) => true,
        _ => false,
    };
    assert!(is_right, "{code} was read as {meaning:?}");
}

impl Speaker for Library {
    fn connect(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let address = Address::Tcp(server.address.to_string());
        let connection = runtime.block_on(Connection::connect_within(&address, PATIENCE));
        let mut library = Self {
            runtime,
            connection: connection.expect("the server accepts"),
            asked: VecDeque::new(),
            lines: VecDeque::new(),
        };
        Speaker::send(&mut library, "echo");
        let answer = Speaker::read(&mut library);
        assert!(["200 []", "401 auth required"].contains(&&*answer));
        library
    }

    fn send(&mut self, line: &str) {
        let asked = Asked::of(line);
        let sent = self.runtime.block_on(self.connection.send(&asked.line));
        sent.expect("the connection stands");
        self.asked.push_back(asked);
    }

    fn read(&mut self) -> String {
        if let Some(line) = self.lines.pop_front() {
            return line;
        }
        let asked = self.asked.pop_front().expect("something was asked");
        let received = self.connection.receive(asked.is_listing);
        let answer = self.runtime.block_on(async {
            let received = tokio::time::timeout(PATIENCE, received).await;
            received.expect("in time").expect("an answer")
        });
        if let Some(read) = asked.read {
            check(read, answer.clone());
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        self.lines
            .extend(answer.lines.iter().map(|line| text(line)));
        if asked.is_listing && answer.code == 200 {
            self.lines.push_back("END".to_owned());
        }
        format!("{} {}", answer.code, text(&answer.text))
    }

    fn expect_closed(&mut self) {
        let ended = self.runtime.block_on(self.connection.receive(false));
        assert!(ended.is_err(), "{ended:?}");
    }
}

#[test]
fn every_transcript_is_true_for_the_client_library() {
    for document in [include_str!("../protocol.md"), include_str!("../README.md")] {
        for transcript in transcripts(document).expect("transcripts") {
            transcript.run::<Library>().expect("true");
        }
    }
}

#[test]
fn every_command_of_the_server_has_a_type() {
    for usage in elock::protocol::COMMANDS {
        let words: Vec<&str> = usage
            .arguments
            .split(' ')
            .filter(|word| !word.is_empty())
            .collect();
        let required = words.iter().filter(|word| word.starts_with('<'));
        let arguments = required.map(|word| match *word {
            "<seconds>" | "<milliseconds>" | "<slots>" => "1",
            _ => "word",
        });
        let request: Vec<&str> = [usage.name].into_iter().chain(arguments).collect();
        assert!(typed(&request).is_some(), "{request:?}");
    }
}
