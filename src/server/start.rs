//! Makes the table of a new server: empty, or from what a store has kept.

#[cfg(feature = "store")]
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::info;

use super::RunError;
use super::clock::Clock;
use crate::config::Config;
use crate::model::Token;
#[cfg(feature = "store")]
use crate::store::disk;
use crate::store::{Changes, Writer};
use crate::table::{Grace, LockTable, TokenClock};

/// A table, the grace periods that run in it, and the thread that writes changes to the store.
pub(super) type Start = (LockTable, Vec<Grace>, Option<Writer>);

pub(super) fn start(config: &Config, clock: &Clock) -> Result<Start, RunError> {
    #[cfg(feature = "store")]
    if let Some(directory) = config.data_dir() {
        return from_store(directory, config, clock);
    }
    info!("in memory: a restart forgets all locks");
    let tokens = TokenClock::from(clock.now(), tokens_above(), clock.pauses());
    let table = LockTable::new(config.limits(), tokens, Changes::default());
    Ok((table, Vec::new(), None))
}

/// Opens the store and makes a table of what is in it.
///
/// Tokens begin above all tokens of the store, and above the tokens that a server without a store
/// would give: so they go on growing even if the directory is lost, or an old copy of it was put
/// back.
#[cfg(feature = "store")]
fn from_store(path: &Path, config: &Config, clock: &Clock) -> Result<Start, RunError> {
    let (storage, restored) = disk::open(path)?;
    let (changes, writer) = Changes::to(storage)?;
    let (locks, sessions) = (restored.grants.len(), restored.sessions.len());
    let (limits, now) = (config.limits(), clock.now());
    let tokens = TokenClock::from(now, tokens_above(), clock.pauses());
    let (table, graces) = LockTable::restore(limits, tokens, changes, restored, now)
        .map_err(|contradiction| disk::contradictory(path, &contradiction))?;
    info!(locks, sessions, "restored from {}", path.display());
    Ok((table, graces, Some(writer)))
}

/// 2025-01-01, in seconds since the beginning of 1970.
const TOKEN_EPOCH: Duration = Duration::from_secs(1_735_689_600);

/// A token that no earlier run of a server on this machine has reached: the tenths of microseconds
/// since the beginning of 2025. That rests on two things: that the clock was not set back by more
/// than the server was down, and that no run granted ten million locks a second all its life. It
/// stays below 2^53, which is exact in every language, until 2053.
fn tokens_above() -> Token {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let ticks = now.saturating_sub(TOKEN_EPOCH).as_nanos() / 100;
    Token(u64::try_from(ticks).unwrap_or(u64::MAX >> 3))
}
