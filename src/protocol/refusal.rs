//! Why requests are refused, by kinds that can be counted.

use super::reply::{Reply, StateReply};
use super::request::BadRequest;
use crate::model::{Limit, NotResumed, Whose};

macro_rules! refusals {
    ($($name:ident: $reason:literal $what:literal;)*) => {
        /// A kind of refusal. Each answer that is one has a kind, and there are only these: so they can
        /// be counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Refusal {
            $(#[doc = $what] $name),*
        }

        impl Refusal {
            /// All kinds, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The kind as a word.
            pub fn reason(self) -> &'static str {
                match self {
                    $(Self::$name => $reason),*
                }
            }
        }
    };
}

refusals! {
    Unavailable: "unavailable" "Others hold the lock, and the request did not wait.";
    Timeout: "timeout" "Others held the lock for as long as the request waited.";
    Deadlock: "deadlock" "The wait would never end.";
    NotYours: "not_yours" "Others hold the lock that the request speaks of.";
    NotLocked: "not_locked" "Nobody holds the lock that the request speaks of.";
    Expired: "expired" "The lease of the lock is over.";
    Revoked: "revoked" "An operator has taken the lock.";
    NotKicked: "not_kicked" "There is no such session to end.";
    NotResumed: "not_resumed" "The session cannot be resumed.";
    HoldsLocks: "holds_locks" "The session holds locks, and cannot become another.";
    AuthRequired: "auth_required" "Whoever asks has not said who it is.";
    WrongPassword: "wrong_password" "Nobody has that name and password.";
    TooManyPasswords: "too_many_passwords" "Too many passwords wait for being looked at.";
    NotAllowed: "not_allowed" "The user may not do that, or not with that key.";
    MaxLocks: "max_locks" "There are too many locks.";
    MaxSessionLocks: "max_session_locks" "The session has too many locks.";
    MaxKeyWaiters: "max_key_waiters" "Too many requests wait for the key.";
    MaxRequestKeys: "max_request_keys" "The request names too many keys.";
    MaxConnections: "max_connections" "There are too many connections.";
    MaxOfAddress: "max_of_address" "The client's address has too many of something.";
    MaxOfUser: "max_of_user" "The user has too many of something.";
    MaxAhead: "max_ahead" "Too much was sent ahead of an answer.";
    NotStored: "not_stored" "The change could not be made durable.";
    Failed: "failed" "The server itself failed.";
    Draining: "draining" "The server is drained, and gives no new locks.";
    NoLeader: "no_leader" "None of several servers leads.";
    Alone: "alone" "There is no other server.";
    Stopping: "stopping" "The server stops.";
    EmptyLine: "empty_line" "The line is empty.";
    LineTooLong: "line_too_long" "The line is too long.";
    UnknownCommand: "unknown_command" "There is no such command.";
    BadUsage: "bad_usage" "The command has other arguments.";
    BadArgument: "bad_argument" "An argument is none of its kind.";
    NotTls: "not_tls" "The port speaks TLS, and the client does not.";
    ForeignProtocol: "foreign_protocol" "The client speaks another protocol.";
}

impl StateReply {
    /// What kind of refusal this is; `None` if it is none.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Acquired
            | Self::Unlocked
            | Self::Token(_)
            | Self::Ok
            | Self::TimeoutSet
            | Self::ConnId(_)
            | Self::ConnIdSet
            | Self::Resumed
            | Self::Kicked(_) => None,
            Self::NotYours => Some(Refusal::NotYours),
            Self::NotLocked => Some(Refusal::NotLocked),
            Self::Expired => Some(Refusal::Expired),
            Self::Revoked => Some(Refusal::Revoked),
        }
    }
}

impl Reply<'_> {
    /// What kind of refusal this is; `None` if it is none.
    pub fn refusal(&self) -> Option<Refusal> {
        Some(match self {
            Self::State(_)
            | Self::Done
            | Self::Stats(_)
            | Self::Info(_)
            | Self::Echo(_)
            | Self::Help
            | Self::Bye => return None,
            Self::Unavailable | Self::NotAll { waited: false, .. } => Refusal::Unavailable,
            Self::TimedOut | Self::NotAll { waited: true, .. } => Refusal::Timeout,
            Self::CannotSetConnId(why) | Self::CannotResume(why) => match why {
                NotResumed::Unknown | NotResumed::StillConnected => Refusal::NotResumed,
                NotResumed::HoldsLocks => Refusal::HoldsLocks,
            },
            Self::CannotKick(_) => Refusal::NotKicked,
            Self::NotTls => Refusal::NotTls,
            Self::AuthRequired => Refusal::AuthRequired,
            Self::WrongPassword => Refusal::WrongPassword,
            Self::TooManyPasswords => Refusal::TooManyPasswords,
            Self::NotAllowed => Refusal::NotAllowed,
            Self::HoldsLocks => Refusal::HoldsLocks,
            Self::Deadlock(_) => Refusal::Deadlock,
            Self::Bad(bad) => bad.refusal(),
            Self::LineTooLong { .. } => Refusal::LineTooLong,
            Self::Full(limit) => match limit {
                Limit::Locks { .. } => Refusal::MaxLocks,
                Limit::LocksPerSession { .. } => Refusal::MaxSessionLocks,
                Limit::WaitersPerKey { .. } => Refusal::MaxKeyWaiters,
                Limit::KeysPerRequest { .. } => Refusal::MaxRequestKeys,
                Limit::Account(exhausted) => exhausted.whose.refusal(),
                Limit::CommandsPerSecond { whose, .. } => whose.refusal(),
            },
            Self::TooManyOfOne(exhausted) => exhausted.whose.refusal(),
            Self::TooManyConnections { .. } => Refusal::MaxConnections,
            Self::Draining => Refusal::Draining,
            Self::NoLeader => Refusal::NoLeader,
            Self::Alone => Refusal::Alone,
            Self::ShuttingDown => Refusal::Stopping,
            Self::TooMuchAhead { .. } => Refusal::MaxAhead,
            Self::Failed(_) => Refusal::Failed,
            Self::NotStored(_) => Refusal::NotStored,
        })
    }
}

impl Whose {
    fn refusal(self) -> Refusal {
        match self {
            Self::Address => Refusal::MaxOfAddress,
            Self::User => Refusal::MaxOfUser,
        }
    }
}

impl BadRequest<'_> {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Empty => Refusal::EmptyLine,
            Self::Unknown(_) => Refusal::UnknownCommand,
            Self::Usage(_) => Refusal::BadUsage,
            Self::Foreign(_) => Refusal::ForeignProtocol,
            Self::Seconds(_)
            | Self::Milliseconds(_)
            | Self::Slots(_)
            | Self::Owner(_)
            | Self::State(_)
            | Self::Number(_)
            | Self::NameTooLong
            | Self::GraceTooLong { .. } => Refusal::BadArgument,
        }
    }
}
