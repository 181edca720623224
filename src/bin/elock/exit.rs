//! Exit codes, and the line on standard error that goes with them.

use std::io::Write;
use std::process::ExitCode;

use elock_client::{ConnectionError, Error};

use crate::show::visible::visible;

/// Others hold the lock, to the end of the wait; `elock lock` has `--conflict-exit-code` for it.
pub const CONFLICT: u8 = 1;
/// Bad usage, as clap has it.
pub const USAGE: u8 = 2;
/// A line that is no request, or a lock that one does not hold.
pub const REFUSED: u8 = 65;
/// No server, or one that is stopping, full, or can store nothing.
pub const UNAVAILABLE: u8 = 69;
/// Waiting would be a deadlock.
pub const DEADLOCK: u8 = 75;
/// The server does not know who comes, or does not let that user do it.
pub const NOT_ALLOWED: u8 = 77;
/// The lock was lost while the command ran.
pub const LOST: u8 = 79;

/// What every command may end with, for the lists of codes in `--help`.
pub const ANY_COMMAND: &str = "69 no server, 77 it asks who comes, or this user may not do that";

/// How to say who comes.
const WHO_COMES: &str = "give --password-file FILE (and --user NAME), or set ELOCK_PASSWORD";

/// Where it stands.
const WHY_NOBODY_LEADS: &str = "the log of each of them says why";

/// The code for what went wrong.
pub fn code(error: &Error) -> u8 {
    match error {
        Error::Unavailable => CONFLICT,
        Error::Deadlock { .. } => DEADLOCK,
        Error::Lost { .. } => LOST,
        Error::BadWord(_) | Error::BadOption(_) => USAGE,
        Error::Unauthorized { .. }
        | Error::NotAllowed
        | Error::Connection(ConnectionError::Unauthorized { .. }) => NOT_ALLOWED,
        Error::NotHeld(_) | Error::Refused { .. } => REFUSED,
        _ => UNAVAILABLE,
    }
}

/// Says what went wrong on standard error, and is the exit code.
pub fn fail(error: &Error) -> ExitCode {
    say_why(error);
    ExitCode::from(code(error))
}

/// Says what went wrong on standard error, and what can be done about it.
pub fn say_why(error: &Error) {
    match error {
        Error::Unauthorized { .. } | Error::Connection(ConnectionError::Unauthorized { .. }) => {
            say(&format!("{error}: {WHO_COMES}"));
        }
        Error::NoLeader => say(&format!("{error}: {WHY_NOBODY_LEADS}")),
        _ => say(&error.to_string()),
    }
}

/// A line on standard error, in which a server's words may stand. It may be closed; then the exit code
/// has to do.
pub fn say(text: &str) {
    let line = format!("elock: {}\n", visible(text));
    let _ = std::io::stderr().write_all(line.as_bytes());
}
