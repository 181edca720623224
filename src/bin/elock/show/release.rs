//! `elock break`, `unlock`, `force-unlock` and `kick`: what an operator frees.

use std::process::ExitCode;

use clap::Args;
use elock_client::command::{Break, ForceUnlock, Kick, Unlock};
use elock_client::{Error, NotHeld, Servers};

use super::ask::connect;
use super::failure::Failure;
use super::key;
use crate::exit;

/// The flags of `break`.
#[derive(Debug, Args)]
#[command(after_help = format!(
    "{}\n\nExit codes: 0 it is free, 65 a session holds it, or nobody, {}.",
    key::NOTATION,
    exit::ANY_COMMAND
))]
pub struct BreakArgs {
    /// The lock's key
    key: key::Word,
}

/// The flags of `unlock`.
#[derive(Debug, Args)]
#[command(
    override_usage = "elock unlock [OPTIONS] --owner <WORD> <KEY>",
    after_help = format!(
        "{}\n\nExit codes: 0 it is released, 65 the owner does not hold it, {}.",
        key::NOTATION,
        exit::ANY_COMMAND
    )
)]
pub struct UnlockArgs {
    /// The lock's key
    key: key::Word,
    /// The word for which the lock was taken
    #[arg(long, value_name = "WORD")]
    owner: key::Word,
}

/// The flags of `force-unlock`.
#[derive(Debug, Args)]
#[command(after_help = format!(
    "Whoever held the lock is told so when it asks for it: 403 revoked.\n\n{}\n\n\
     Exit codes: 0 it was taken, 65 nobody holds it, {}.",
    key::NOTATION,
    exit::ANY_COMMAND
))]
pub struct ForceUnlockArgs {
    /// The lock's key
    key: key::Word,
}

/// The flags of `kick`.
#[derive(Debug, Args)]
#[command(after_help = format!(
    "The session's connection is ended, its locks pass on, and nobody can resume it.\n\n{}\n\n\
     Exit codes: 0 it is over, 65 there is none, or several are called so, {}.",
    key::NOTATION,
    exit::ANY_COMMAND
))]
pub struct KickArgs {
    /// Its number, or its name
    session: key::Word,
}

/// Frees a lock that only owners hold.
pub async fn run_break(args: BreakArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let (mut connection, _) = connect(servers).await?;
    let key = args.key.0;
    let command = Break { key: key.clone() };
    done(connection.call(&command).await, &key, |key| {
        format!("{key}: a session holds the lock: see elock who, and elock force-unlock")
    })
}

/// Releases an owner's lock.
pub async fn run_unlock(args: UnlockArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let (mut connection, _) = connect(servers).await?;
    let key = args.key.0;
    let command = Unlock {
        key: key.clone(),
        owner: Some(args.owner.0),
    };
    done(connection.call(&command).await, &key, |key| {
        format!("{key}: {}", NotHeld::NotYours)
    })
}

/// Takes a lock from whoever has it.
pub async fn run_force_unlock(
    args: ForceUnlockArgs,
    servers: &Servers,
) -> Result<ExitCode, Failure> {
    let (mut connection, _) = connect(servers).await?;
    let key = args.key.0;
    let command = ForceUnlock { key: key.clone() };
    done(connection.call(&command).await, &key, |key| {
        format!("{key}: {}", NotHeld::NotYours)
    })
}

/// Ends a session.
pub async fn run_kick(args: KickArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let (mut connection, _) = connect(servers).await?;
    let mut who = args.session.0;
    if !who.is_empty() && who.iter().all(u8::is_ascii_digit) {
        // To a shell, what begins with a `#` is a comment.
        who.insert(0, b'#');
    }
    let shown = key::shown(&who);
    let why = match connection.call(&Kick { who }).await {
        Ok(_) => return Ok(ExitCode::SUCCESS),
        Err(Error::Refused { code: 403, text }) => text,
        Err(error) => return Err(error.into()),
    };
    exit::say(&match why.strip_prefix("ambiguous: ") {
        Some(sessions) => format!("{shown}: {sessions}; name one by its number"),
        None => format!("{shown}: there is no such session, or it is over"),
    });
    Ok(ExitCode::from(exit::REFUSED))
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
