//! `elock break` and `elock unlock`: what an operator frees.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use clap::Args;
use elock_client::command::{Break, Unlock};
use elock_client::{Error, NotHeld, Servers};

use super::ask::connect;
use super::failure::Failure;
use super::key;
use crate::exit;

/// The flags of `break`.
#[derive(Debug, Args)]
#[command(after_help = format!(
    "{}\n\nExit codes: 0 it is free, 65 a session holds it, or nobody, 69 no server.",
    key::NOTATION
))]
pub struct BreakArgs {
    /// The lock's key
    key: OsString,
}

/// The flags of `unlock`.
#[derive(Debug, Args)]
#[command(
    override_usage = "elock unlock [OPTIONS] --owner <WORD> <KEY>",
    after_help = format!(
        "{}\n\nExit codes: 0 it is released, 65 the owner does not hold it, 69 no server.",
        key::NOTATION
    )
)]
pub struct UnlockArgs {
    /// The lock's key
    key: OsString,
    /// The word for which the lock was taken
    #[arg(long, value_name = "WORD")]
    owner: OsString,
}

/// Frees a lock that only owners hold.
pub async fn run_break(args: BreakArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let (mut connection, _) = connect(servers).await?;
    let key = key::given(&args.key);
    let command = Break { key: key.clone() };
    done(connection.call(&command).await, &key, |key| {
        format!(
            "{key}: a session holds the lock, which only its own client or its end frees: see elock who"
        )
    })
}

/// Releases an owner's lock.
pub async fn run_unlock(args: UnlockArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let (mut connection, _) = connect(servers).await?;
    let key = key::given(&args.key);
    let command = Unlock {
        key: key.clone(),
        owner: Some(args.owner.into_vec()),
    };
    done(connection.call(&command).await, &key, |key| {
        format!("{key}: {}", NotHeld::NotYours)
    })
}

/// `not_yours`: what is said if others hold it.
fn done(
    released: Result<(), Error>,
    key: &[u8],
    not_yours: impl FnOnce(&str) -> String,
) -> Result<ExitCode, Failure> {
    let why = match released {
        Ok(()) => return Ok(ExitCode::SUCCESS),
        Err(Error::NotHeld(why)) => why,
        Err(error) => return Err(error.into()),
    };
    let key = key::shown(key);
    exit::say(&match why {
        NotHeld::NotYours => not_yours(&key),
        why => format!("{key}: {why}"),
    });
    Ok(ExitCode::from(exit::REFUSED))
}
