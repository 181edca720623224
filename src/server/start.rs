//! Makes the table of a new server: empty, or from what a store has kept.

#[cfg(feature = "store")]
use std::collections::HashMap;
#[cfg(feature = "store")]
use std::path::Path;
#[cfg(feature = "cluster")]
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::info;
#[cfg(feature = "store")]
use tracing::warn;

use super::RunError;
use super::clock::Clock;
#[cfg(feature = "cluster")]
use crate::cluster::Leading;
use crate::config::Config;
use crate::model::Token;
#[cfg(feature = "store")]
use crate::model::{Restored, SessionNumber};
use crate::store::{Changes, Writer};
#[cfg(feature = "store")]
use crate::store::{Storage, disk};
#[cfg(feature = "store")]
use crate::table::Contradiction;
use crate::table::{Grace, LockTable, TokenClock};

/// What a server begins with.
pub(crate) struct Start {
    pub(super) table: LockTable,
    /// The grace periods that run in it.
    pub(super) graces: Vec<Grace>,
    /// The thread that writes changes to the store.
    pub(super) writer: Option<Writer>,
    /// `None` if the server is alone.
    #[cfg(feature = "cluster")]
    pub(super) leading: Option<Arc<Leading>>,
}

pub(super) fn start(config: &Config, clock: &Clock) -> Result<Start, RunError> {
    #[cfg(feature = "store")]
    if let Some(directory) = config.data_dir() {
        return from_directory(directory, config, clock);
    }
    info!("in memory: a restart forgets all locks");
    let tokens = TokenClock::from(clock.now(), tokens_above(), clock.pauses());
    Ok(Start {
        table: LockTable::new(config.limits(), tokens, Changes::default()),
        graces: Vec::new(),
        writer: None,
        #[cfg(feature = "cluster")]
        leading: None,
    })
}

/// Opens the store and makes a table of what is in it.
#[cfg(feature = "store")]
fn from_directory(path: &Path, config: &Config, clock: &Clock) -> Result<Start, RunError> {
    let (storage, restored) = disk::open(path)?;
    let (locks, sessions) = (restored.grants.len(), restored.sessions.len());
    let start = from_store(storage, restored, config, clock, Duration::ZERO)?;
    let start = start.map_err(|contradiction| disk::contradictory(path, &contradiction))?;
    info!(locks, sessions, "restored from {}", path.display());
    Ok(start)
}

/// What was elected begins with what those before it have left in etcd. No grace period is shorter than
/// `least_grace`.
///
/// # Errors
///
/// When the system gives no thread; and within, if what was left contradicts itself.
#[cfg(feature = "cluster")]
pub(crate) fn start_leading(
    storage: impl Storage,
    restored: Restored,
    config: &Config,
    clock: &Clock,
    least_grace: Duration,
    leading: Arc<Leading>,
) -> std::io::Result<Result<Start, Contradiction>> {
    let start = from_store(storage, restored, config, clock, least_grace)?;
    let leading = Some(leading);
    Ok(start.map(|start| Start { leading, ..start }))
}

/// Tokens begin above all tokens of the store, and above the tokens that a server without a store
/// would give: so they go on growing even if the store is lost, or an old copy of it was put back.
#[cfg(feature = "store")]
fn from_store(
    storage: impl Storage,
    restored: Restored,
    config: &Config,
    clock: &Clock,
    least_grace: Duration,
) -> std::io::Result<Result<Start, Contradiction>> {
    let (changes, writer) = Changes::to(storage)?;
    let (limits, now) = (config.limits(), clock.now());
    let above = above_bounds(config, &restored);
    if !above.is_empty() {
        warn!(
            "what is restored is above the settings, and stays: {}",
            above.join(", ")
        );
    }
    let tokens = TokenClock::from(now, tokens_above(), clock.pauses());
    let restored = LockTable::restore(limits, tokens, changes, restored, (now, least_grace));
    Ok(restored.map(|(table, graces)| Start {
        table,
        graces,
        writer: Some(writer),
        #[cfg(feature = "cluster")]
        leading: None,
    }))
}

/// What a store has kept above the bounds of the settings: nobody is refused what was granted, but nothing comes
/// on top.
#[cfg(feature = "store")]
fn above_bounds(config: &Config, restored: &Restored) -> Vec<String> {
    let mut of_session: HashMap<SessionNumber, usize> = HashMap::new();
    for session in restored
        .grants
        .iter()
        .filter_map(|(_, grant)| grant.holder.session())
    {
        *of_session.entry(session).or_default() += 1;
    }
    let keys = restored
        .grants
        .iter()
        .map(|(_, grant)| grant.key.as_bytes().len());
    let graces = restored
        .sessions
        .iter()
        .map(|session| session.grace.as_millis() as usize);
    let limits = config.limits();
    let kept = [
        (restored.grants.len(), "locks", "--max-locks", limits.locks),
        (
            of_session.into_values().max().unwrap_or(0),
            "locks of one session",
            "--max-session-locks",
            limits.locks_per_session,
        ),
        (
            restored.sessions.len(),
            "sessions in their grace period",
            "--max-grace-sessions",
            limits.sessions_in_grace,
        ),
        (
            graces.max().unwrap_or(0),
            "ms of a grace period",
            "--max-grace-ms",
            config.max_grace_ms as usize,
        ),
        (
            keys.max().unwrap_or(0),
            "bytes in a key",
            "--max-line",
            config.max_line as usize,
        ),
    ];
    kept.iter()
        .filter(|(kept, _, _, max)| kept > max)
        .map(|(kept, what, flag, max)| format!("{kept} {what} ({flag} {max})"))
        .collect()
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

#[cfg(all(test, feature = "store"))]
mod tests {
    use super::*;
    use crate::model::{Holder, Key, Mode, RestoredSession, StoredGrant};

    #[test]
    fn what_was_kept_above_each_bound_is_named() {
        let grant = |token, key: &str| {
            let stored = StoredGrant {
                holder: Holder::Session(SessionNumber(7)),
                key: Key::new(key.as_bytes()),
                mode: Mode::Exclusive,
                lease: None,
            };
            (Token(token), stored)
        };
        let session = |number| RestoredSession {
            number: SessionNumber(number),
            grace: Duration::from_secs(60),
            secret: None,
            user: None,
        };
        let restored = Restored {
            grants: vec![grant(1, "a"), grant(2, &"b".repeat(70))],
            sessions: vec![session(7), session(8)],
            ..Restored::default()
        };
        let mut config = Config::default();
        assert!(above_bounds(&config, &restored).is_empty());
        config.max_locks = 1;
        config.max_session_locks = 1;
        config.max_grace_sessions = 1;
        config.max_grace_ms = 1_000;
        config.max_line = 64;
        let above = [
            "2 locks (--max-locks 1)",
            "2 locks of one session (--max-session-locks 1)",
            "2 sessions in their grace period (--max-grace-sessions 1)",
            "60000 ms of a grace period (--max-grace-ms 1000)",
            "70 bytes in a key (--max-line 64)",
        ];
        assert_eq!(above_bounds(&config, &restored), above);
    }
}
