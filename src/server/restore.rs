//! How a server goes on where the one before it ended.

use std::path::Path;

use tokio::time::Instant;
use tracing::info;

use super::{RunError, Start, lease};
use crate::config::Config;
use crate::store::{Changes, directory};
use crate::table::LockTable;

/// Opens the store and makes a table of what is in it.
///
/// Tokens begin above those of the store, and above those of a server without one: so they go on
/// even where the directory is lost, or an old copy of it was put back.
pub(super) fn from_store(path: &Path, config: &Config) -> Result<Start, RunError> {
    let (storage, restored) = directory::open(path)?;
    let (changes, writer) = Changes::to(storage)?;
    let (locks, sessions) = (restored.holds.len(), restored.sessions.len());
    let (table, graces) = LockTable::restore(
        config.limits(),
        lease::tokens_above(),
        changes,
        restored,
        config.grace(),
        Instant::now().into_std(),
    )
    .map_err(|contradiction| directory::contradictory(path, &contradiction))?;
    info!(locks, sessions, "restored from {}", path.display());
    Ok((table, graces, Some(writer)))
}
