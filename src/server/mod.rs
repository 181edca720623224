//! Sockets, tasks and time around the [`LockTable`].
//!
//! One task serves one connection: it alone reads from, writes to and waits for its client. When
//! the connection ends, a small task sits out the session's grace period.

mod command;
mod connection;
mod debug;
mod entropy;
mod grace;
#[cfg(test)]
mod harness;
mod lease;
mod listener;
mod promise;
#[cfg(feature = "store")]
mod restore;
mod transport;
mod vigil;
mod wait;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use listener::{BindError, Listener, bind};

use crate::config::Config;
use crate::store::{Changes, NotStored, Writer};
use crate::table::{Grace, LockTable};
use entropy::Entropy;
use vigil::Vigil;

/// What the store gets for its last commit if all the time of a stop is over.
const LAST_COMMIT: Duration = Duration::from_secs(1);

/// How many `debug`s run at one time.
const DEBUGS_AT_ONCE: usize = 8;

/// What all connections share.
#[derive(Debug)]
struct Shared {
    table: LockTable,
    config: Config,
    entropy: Entropy,
    vigil: Vigil,
    connections: Arc<Semaphore>,
    debugs: Semaphore,
}

impl Shared {
    fn new(config: Config, table: LockTable) -> io::Result<Self> {
        Ok(Self {
            table,
            entropy: Entropy::open()?,
            vigil: Vigil::default(),
            connections: Arc::new(Semaphore::new(config.max_connections as usize)),
            debugs: Semaphore::new(DEBUGS_AT_ONCE),
            config,
        })
    }
}

/// Why a server cannot start, or what went wrong when it ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system gives no random numbers, threads or the like.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The store cannot be used.
    #[cfg(feature = "store")]
    #[error(transparent)]
    Store(#[from] crate::store::directory::OpenError),
    /// The last changes are not on disk. Nobody was told that they are.
    #[error("the last changes could not be stored: {0}")]
    NotStored(#[from] NotStored),
}

/// A table, who is in their grace period in it, and who writes what changes.
type Start = (LockTable, Vec<Grace>, Option<Writer>);

fn start_empty(config: &Config) -> Start {
    let table = LockTable::new(config.limits(), lease::tokens_above(), Changes::default());
    (table, Vec::new(), None)
}

#[cfg(feature = "store")]
fn start(config: &Config) -> Result<Start, RunError> {
    match config.data_dir() {
        Some(directory) => restore::from_store(directory, config),
        None => Ok(start_empty(config)),
    }
}

#[cfg(not(feature = "store"))]
fn start(config: &Config) -> Result<Start, RunError> {
    Ok(start_empty(config))
}

/// Serves on `listeners` until `shutdown` is ready, and then stops: no connection is accepted any
/// more, requests that wait are answered `503`, whole lines that were read are still answered,
/// and connections are closed. Returns when all that is done, or after
/// [`Config::shutdown_time`], and a second for the store, at the latest.
///
/// The caller owns the ports and decides about the end, so a test can bind port 0. It can also learn
/// of the beginning: `shutdown` is polled for the first time when the ports are open and the store is
/// restored.
///
/// # Errors
///
/// When it cannot start, or could not store everything. Nothing in between ends the server.
pub async fn run(
    listeners: Vec<Listener>,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let shutdown_time = config.shutdown_time();
    let (table, graces, writer) = start(&config)?;
    let shared = Arc::new(Shared::new(config, table)?);
    let stop = CancellationToken::new();
    // Also where this future is dropped instead of being told to stop.
    let _stop = stop.clone().drop_guard();
    let tasks = TaskTracker::new();
    tasks.spawn(lease::end_leases(Arc::clone(&shared), stop.clone()));
    tasks.spawn(vigil::keep_vigil(Arc::clone(&shared), stop.clone()));
    for grace in graces {
        tasks.spawn(grace::sit_out(Arc::clone(&shared), grace, stop.clone()));
    }
    let addresses = listeners
        .iter()
        .map(|listener| listener.address().to_string());
    let addresses = addresses.collect::<Vec<_>>().join(", ");
    info!(
        "elockd {} listening on {addresses}",
        env!("CARGO_PKG_VERSION")
    );
    for listener in listeners {
        tasks.spawn(listener.serve(Arc::clone(&shared), stop.clone(), tasks.clone()));
    }
    shutdown.await;
    info!("stopping");
    stop.cancel();
    tasks.close();
    let deadline = Instant::now() + shutdown_time;
    if tokio::time::timeout_at(deadline, tasks.wait())
        .await
        .is_err()
    {
        let (busy, ms) = (tasks.len(), shutdown_time.as_millis());
        warn!("stopped after {ms} ms with {busy} connections still busy");
    }
    match writer {
        Some(writer) => Ok(finish(writer, deadline.max(Instant::now() + LAST_COMMIT)).await?),
        None => Ok(()),
    }
}

async fn finish(writer: Writer, deadline: Instant) -> Result<(), NotStored> {
    let finished = tokio::task::spawn_blocking(move || writer.finish());
    match tokio::time::timeout_at(deadline, finished).await {
        Ok(Ok(finished)) => finished,
        Ok(Err(failed)) => Err(NotStored::new(failed)),
        Err(_) => Err(NotStored::new("the disk takes too long")),
    }
}
