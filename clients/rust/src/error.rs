//! What can go wrong, as types.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::address::{Address, BadAddress};
use crate::answer::Answer;
use crate::clock::Moment;
use crate::word::BadWord;

/// Why something was not done. Nothing of it has to be compared by its text.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Others hold the lock, to the end of the wait; or this session does, in another mode.
    #[error("the lock is not to be had")]
    Unavailable,
    /// The wait would never end.
    #[error("{circle}")]
    Deadlock {
        /// Who waits for what.
        circle: Circle,
    },
    /// The lock was held, and is not any more.
    #[error("the lock is lost: {why}")]
    Lost {
        /// What took it.
        why: Loss,
    },
    /// Whoever is asked about does not hold the lock.
    #[error("{0}")]
    NotHeld(NotHeld),
    /// A bound is reached: of the server's, as its text says, or of the client's.
    #[error("no room: {limit}")]
    Full {
        /// Which one.
        limit: String,
    },
    /// The server wants to know who comes, before that is asked; or does not know this user any more.
    #[error("the server asks who comes: {text}")]
    Unauthorized {
        /// The server's words.
        text: String,
    },
    /// This user may not do that, or not with this key.
    #[error("this user may not do that")]
    NotAllowed,
    /// The server could not make it durable: it may have been done or not.
    #[error("the server cannot store this: {reason}")]
    NotStored {
        /// The server's words.
        reason: String,
    },
    /// The server is drained or stops, and grants nothing any more.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// None of several servers leads at this time, and nothing was done.
    #[error("none of the servers leads at this time")]
    NoLeader,
    /// The server refused the request for another reason.
    #[error("the server refused: {code} {text}")]
    Refused {
        /// The code of the answer.
        code: u16,
        /// The server's words.
        text: String,
    },
    /// The request was not sent, since it contains what cannot be sent.
    #[error(transparent)]
    BadWord(#[from] BadWord),
    /// An option is out of its range, so that nothing was begun.
    #[error("{0}")]
    BadOption(&'static str),
    /// There is no connection, or it broke: what was asked may have been done or not.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// How long a request that the server could not take, since it stops, rests before it is asked again.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

impl Error {
    /// Rests before the request that failed so is asked again, which the next connection, or the next
    /// server, may answer; itself, if it is the answer, or there is no time left.
    pub(crate) async fn pause_before(self, give_up: Moment) -> Result<(), Self> {
        match self {
            _ if Moment::now() >= give_up => Err(self),
            // Until there is another connection.
            Self::Connection(_) => Ok(()),
            Self::ShuttingDown => {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            _ => Err(self),
        }
    }
}

impl From<BadAddress> for Error {
    fn from(bad: BadAddress) -> Self {
        Self::Connection(bad.into())
    }
}

/// Why a lock is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// Its lease ended before it was renewed.
    #[error("its lease has ended")]
    LeaseEnded,
    /// The server refuses connections and keeps nothing, so that another may have the lock by now: it may
    /// have started anew. Whether it has cannot be seen, so a proxy before it that refuses connections
    /// counts, too.
    #[error(
        "the server refuses connections, and as it keeps nothing on disk, it may have been started anew and have \
         given the lock to another"
    )]
    ServerGone,
    /// This program, or its machine, stood still for longer than the lock was surely held.
    #[error("this program stood still for so long that another may have the lock")]
    StoodStill,
    /// The session that held it is over: its grace period ended, an operator ended it, or the server
    /// started without it.
    #[error("the server does not know the session that held it any more")]
    SessionEnded,
    /// The connection broke, and was not there again within what was surely left of the grace
    /// period.
    #[error("the connection broke and did not come back in time")]
    NotResumed,
    /// An operator has taken it, by `force_unlock`.
    #[error("an operator has taken it")]
    Revoked,
    /// Another holds it, or nobody: it was released or broken by somebody else.
    #[error("it was released by someone else")]
    Released,
}

/// The answers `403` to a question about a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    /// Others hold it.
    #[error("others hold the lock")]
    NotYours,
    /// Nobody holds it.
    #[error("nobody holds the lock")]
    NotLocked,
    /// The session held it until its lease ended.
    #[error("the lock's lease has ended")]
    Expired,
    /// The session held it until an operator took it.
    #[error("an operator has taken the lock")]
    Revoked,
}

impl From<NotHeld> for Loss {
    /// Why a lock is lost that was held before.
    fn from(why: NotHeld) -> Self {
        match why {
            NotHeld::Expired => Self::LeaseEnded,
            NotHeld::Revoked => Self::Revoked,
            NotHeld::NotYours | NotHeld::NotLocked => Self::Released,
        }
    }
}

/// A circle of sessions that wait for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// Who waits for which key, beginning with the one who asked. A huge circle lacks its middle.
    pub steps: Vec<Step>,
    /// How many steps the server left out in the middle.
    pub omitted: usize,
    text: String,
}

/// A session and the key that it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The session's number.
    pub session: u64,
    /// The key, as the server shows it: a long one by its beginning.
    pub key: String,
}

impl Circle {
    pub(crate) fn parse(text: &str) -> Self {
        let mut circle = Self {
            steps: Vec::new(),
            omitted: 0,
            text: text.to_owned(),
        };
        let mut session = None;
        let mut words = text.split(' ').peekable();
        while let Some(word) = words.next() {
            match (word, session) {
                ("...", None) => {
                    let count = words.next_if(|next| next.parse::<usize>().is_ok());
                    let count = count.and_then(|n| n.parse().ok()).unwrap_or(0);
                    circle.omitted = circle.omitted.saturating_add(count);
                }
                ("=>", Some(number)) => {
                    circle.steps.push(Step {
                        session: number,
                        key: words.next().unwrap_or_default().to_owned(),
                    });
                    session = None;
                }
                _ => {
                    let number = word.strip_prefix('#').and_then(|n| n.parse().ok());
                    session = number.or(session);
                }
            }
        }
        circle
    }
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is wrong with a connection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// It cannot be made, or broke.
    #[error("{address}: {error}")]
    Io {
        /// The server's.
        address: Address,
        /// What the system says.
        error: Arc<io::Error>,
    },
    /// The server closed it.
    #[error("{address}: the server closed the connection")]
    Closed {
        /// The server's.
        address: Address,
    },
    /// Nothing came within the deadline.
    #[error("{address}: no answer within {after:?}")]
    TimedOut {
        /// The server's.
        address: Address,
        /// The deadline.
        after: Duration,
    },
    /// The server refuses connections, with these words.
    #[error("{address}: {text}")]
    TurnedAway {
        /// The server's.
        address: Address,
        /// The code of the answer.
        code: u16,
        /// The server's words.
        text: String,
    },
    /// The server does not know this user, or the password is another; or it wants one, and none is set.
    /// A client asks it again only after some seconds.
    #[error("{address}: the server asks who comes: {text}")]
    Unauthorized {
        /// The server's.
        address: Address,
        /// The server's words.
        text: String,
    },
    /// One of the two is not trusted, what is needed for that cannot be read, or there is no TLS.
    #[error("{address}: {reason}")]
    Tls {
        /// The server's.
        address: Address,
        /// Why.
        reason: String,
    },
    /// What listens there does not speak eLock.
    #[error("this is no answer of an eLock server: {line}")]
    NotAnAnswer {
        /// Its beginning.
        line: String,
    },
    /// An answer was too long to be one.
    #[error("an answer is too long")]
    AnswerTooLong,
    /// The client was closed, or its runtime has ended.
    #[error("the client is closed")]
    ClientClosed,
    /// The text names no server.
    #[error(transparent)]
    BadAddress(#[from] BadAddress),
}

impl ConnectionError {
    /// The server does not let this user in, which another try would not change.
    pub(crate) fn is_stranger(&self) -> bool {
        matches!(self, Self::Unauthorized { .. })
    }

    /// Whether there may be a server soon: it is started again, has no room, or its name is not known yet.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Closed { .. } | Self::TimedOut { .. } => true,
            Self::TurnedAway { code, .. } => *code >= 500,
            Self::Unauthorized { .. }
            | Self::Tls { .. }
            | Self::NotAnAnswer { .. }
            | Self::AnswerTooLong
            | Self::ClientClosed
            | Self::BadAddress(_) => false,
        }
    }
}

impl Answer {
    /// The answer if it is a `200`.
    ///
    /// # Errors
    ///
    /// What it means otherwise.
    pub fn done(self) -> Result<Self, Error> {
        let text = self.text();
        Err(match self.code {
            200 => return Ok(self),
            401 => Error::Unauthorized { text },
            403 => match text.as_str() {
                "expired" => Error::NotHeld(NotHeld::Expired),
                "revoked" => Error::NotHeld(NotHeld::Revoked),
                "not_yours" => Error::NotHeld(NotHeld::NotYours),
                "not_locked" => Error::NotHeld(NotHeld::NotLocked),
                "not_allowed" => Error::NotAllowed,
                _ => Error::Refused { code: 403, text },
            },
            409 if text.starts_with("Alone") => Error::Refused { code: 409, text },
            409 => Error::Unavailable,
            423 => Error::Deadlock {
                circle: Circle::parse(&text),
            },
            500 => match text.strip_prefix("Not stored: ") {
                Some(reason) => Error::NotStored {
                    reason: reason.to_owned(),
                },
                None => Error::Refused { code: 500, text },
            },
            503 if text.starts_with("Too many") => Error::Full { limit: text },
            503 if text == "No leader" => Error::NoLeader,
            503 => Error::ShuttingDown,
            507 => Error::Full { limit: text },
            code => Error::Refused { code, text },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who reads `503` as a stop would wait for the return of a server that has not gone.
    #[test]
    fn answers_of_several_servers_are_no_answers_about_a_lock() {
        let read = |code, text: &str| {
            let answer = Answer {
                code,
                text: text.as_bytes().to_vec(),
                lines: Vec::new(),
            };
            answer.done().expect_err("a refusal")
        };
        assert!(matches!(read(503, "No leader"), Error::NoLeader));
        assert!(matches!(read(503, "Shutting down"), Error::ShuttingDown));
        let alone = read(409, "Alone: there is no other server");
        assert!(matches!(alone, Error::Refused { code: 409, .. }));
        assert!(matches!(read(409, "Unavailable"), Error::Unavailable));
    }

    #[test]
    fn a_circle_is_read_back() {
        let circle = Circle::parse("Deadlock: #2 => x = #1 => y = #2");
        let step = |session, key: &str| Step {
            session,
            key: key.to_owned(),
        };
        assert_eq!(circle.steps, [step(2, "x"), step(1, "y")]);
        let long = Circle::parse("Deadlock: #1 => a= = ... 9968 more ... = #7 => => = #1");
        assert_eq!(long.steps, [step(1, "a="), step(7, "=>")]);
        assert_eq!(long.omitted, 9968);
        assert_eq!(
            Circle::parse("Deadlock: #1 => #5 = #1").steps,
            [step(1, "#5")]
        );
    }
}
