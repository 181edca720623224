//! `elock break` and `elock unlock`: what an operator frees.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use clap::Args;
use elock_client::command::{Break, Unlock};
use elock_client::{Error, NotHeld, Servers};

use super::ask::connect;
use super::failure::Failure;
use crate::exit;

/// The flags of `break`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it is free, 65 a session holds it, or nobody, 69 no server.")]
pub struct BreakArgs {
    /// The lock's key
    key: OsString,
}

/// The flags of `unlock`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it is released, 65 the owner does not hold it, 69 no server."
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
    let broken = connection
        .call(&Break {
            key: args.key.into_vec(),
        })
        .await;
    match broken {
        Err(Error::NotHeld(NotHeld::NotYours)) => Ok(refuse(
            "a session holds the lock, which only its own client or its end frees: see elock who",
        )),
        broken => done(broken),
    }
}

/// Releases an owner's lock.
pub async fn run_unlock(args: UnlockArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let (mut connection, _) = connect(servers).await?;
    let command = Unlock {
        key: args.key.into_vec(),
        owner: Some(args.owner.into_vec()),
    };
    done(connection.call(&command).await)
}

fn done(released: Result<(), Error>) -> Result<ExitCode, Failure> {
    released?;
    Ok(ExitCode::SUCCESS)
}

fn refuse(why: &str) -> ExitCode {
    exit::say(why);
    ExitCode::from(exit::REFUSED)
}
