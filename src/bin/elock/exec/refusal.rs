//! Why no command was run, in words and as an exit code.

use std::io;

use elock_client::{ConnectionError, Error};
use rustix::process::Signal;

use super::args::LockArgs;
use super::exit;
use super::stage::NOT_RUN;
use crate::duration;

/// A server that turns clients away is mostly full, or stops. One that says this would have taken a
/// client that asks for a shorter grace period.
const GRACE_TOO_LONG: &str = "Timeout too long: ";

/// Why no command was run.
pub enum NotRun {
    /// The server, or the client before it, said no.
    Refused(Error),
    /// This came first.
    Signal(Signal),
    /// There is no room for a process.
    System(io::Error),
}

impl NotRun {
    /// Says it on standard error, and is the exit code.
    pub fn told(self, args: &LockArgs) -> u8 {
        match self {
            Self::Signal(signal) => u8::try_from(128 + signal.as_raw()).unwrap_or(u8::MAX),
            Self::System(error) => {
                exit::say(&format!("the command could not be started: {error}"));
                NOT_RUN
            }
            // Who holds the lock was told while there was a connection.
            Self::Refused(Error::Unavailable) => args.conflict_exit_code,
            Self::Refused(Error::Connection(ConnectionError::TurnedAway {
                address, text, ..
            })) if text.starts_with(GRACE_TOO_LONG) => {
                let most = longest_grace(&text);
                exit::say(&format!("{address}: --grace is too long: {most}"));
                exit::REFUSED
            }
            Self::Refused(error) => {
                exit::say_why(&error);
                exit::code(&error)
            }
        }
    }
}

/// What the server allows, in its words, but with a time that people can read.
fn longest_grace(text: &str) -> String {
    let most = text.strip_prefix(GRACE_TOO_LONG).unwrap_or(text);
    let ms = most.strip_prefix("at most ");
    let ms = ms.and_then(|ms| ms.strip_suffix(" milliseconds")?.parse().ok());
    ms.map_or_else(
        || most.to_owned(),
        |ms| format!("at most {}", duration::show(ms)),
    )
}
