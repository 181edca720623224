//! Why no command was run, in words and as an exit code.

use std::io;

use elock_client::{ConnectionError, Error};
use rustix::process::Signal;

use super::args::LockArgs;
use super::exit;
use super::stage::NOT_RUN;

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
            Self::Refused(error) if is_about_grace(&error) => {
                exit::say(&format!("--grace is not to be had: {error}"));
                exit::REFUSED
            }
            Self::Refused(error) => {
                exit::say(&error.to_string());
                exit::code(&error)
            }
        }
    }
}

/// A server that turns clients away is mostly full, or stops. With these words it would have taken
/// a client that asks for a shorter grace period.
fn is_about_grace(error: &Error) -> bool {
    matches!(
        error,
        Error::Connection(ConnectionError::TurnedAway { text, .. })
            if text.starts_with("Timeout too long")
    )
}
