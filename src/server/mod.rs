//! Sockets, tasks and time around the [`LockTable`].
//!
//! One task serves one connection: it alone reads from, writes to and waits for its client. When
//! the connection ends, a small task sits out the session's grace period.

mod command;
mod connection;
mod debug;
mod entropy;
mod grace;
mod lease;
mod listener;
mod transport;
mod wait;

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use listener::{BindError, Listener, bind};

use crate::config::Config;
use crate::table::LockTable;
use entropy::Entropy;

/// How many `debug`s run at one time.
const DEBUGS_AT_ONCE: usize = 8;

/// What all connections share.
#[derive(Debug)]
struct Shared {
    table: LockTable,
    config: Config,
    entropy: Entropy,
    connections: Arc<Semaphore>,
    debugs: Semaphore,
}

impl Shared {
    fn new(config: Config) -> io::Result<Self> {
        Ok(Self {
            table: LockTable::new(config.limits(), lease::tokens_above()),
            entropy: Entropy::open()?,
            connections: Arc::new(Semaphore::new(config.max_connections as usize)),
            debugs: Semaphore::new(DEBUGS_AT_ONCE),
            config,
        })
    }
}

/// Serves on `listeners` until `shutdown` is ready, and then stops: no connection is accepted any
/// more, requests that wait are answered `503`, whole lines that were read are still answered,
/// and connections are closed. Returns when all that is done, or after
/// [`Config::shutdown_time`] at the latest.
///
/// The caller owns the ports and decides about the end, so a test can bind port 0.
///
/// # Errors
///
/// When the system's source of randomness cannot be opened. Nothing later ends the server.
pub async fn run(
    listeners: Vec<Listener>,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let shutdown_time = config.shutdown_time();
    let shared = Arc::new(Shared::new(config)?);
    let stop = CancellationToken::new();
    // Also where this future is dropped instead of being told to stop.
    let _stop = stop.clone().drop_guard();
    let tasks = TaskTracker::new();
    tasks.spawn(lease::end_leases(Arc::clone(&shared), stop.clone()));
    for listener in listeners {
        tasks.spawn(listener.serve(Arc::clone(&shared), stop.clone(), tasks.clone()));
    }
    shutdown.await;
    info!("stopping");
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(shutdown_time, tasks.wait())
        .await
        .is_err()
    {
        let (busy, ms) = (tasks.len(), shutdown_time.as_millis());
        warn!("stopped after {ms} ms with {busy} connections still busy");
    }
    Ok(())
}
