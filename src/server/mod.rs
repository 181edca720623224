//! Sockets, tasks and time around the [`LockTable`].
//!
//! One task serves one connection: it alone reads from, writes to and waits for its client. When
//! the connection ends, a small task waits for the end of the session's grace period.

mod admission;
mod clock;
mod connection;
mod control;
mod entropy;
mod expiry;
mod handover_spin;
#[cfg(test)]
mod harness;
mod listener;
mod log_lines;
#[cfg(feature = "fd-limit")]
mod open_files;
mod reload;
mod session_guard;
mod socket_file;
mod start;
mod throttle;
mod transport;
mod turns;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{info, warn};

pub use control::Control;
pub use listener::{AddressUnavailable, BindError, Listener, bind};

use crate::config::Config;
use crate::model::NotStored;
use crate::store::Writer;
use crate::table::LockTable;
use admission::Places;
use clock::Clock;
use entropy::Entropy;
use handover_spin::HandoverSpin;
use throttle::Throttles;
use turns::Turns;

/// The time that the store has for its last commit when the time of a stop is over.
const LAST_COMMIT: Duration = Duration::from_secs(1);

/// How many `debug`s run at one time.
const DEBUGS_AT_ONCE: usize = 8;

/// How many searches for what `locks`, `sessions` and `debug` show run at one time: they share the
/// processor with the workers, on threads of their own.
const SEARCHES_AT_ONCE: usize = 1;

/// The state that all tasks of a server share.
#[derive(Debug)]
struct Shared {
    table: LockTable,
    clock: Clock,
    config: Config,
    entropy: Entropy,
    handover_spin: HandoverSpin,
    throttles: Throttles,
    turns: Turns,
    places: Places,
    debugs: Arc<Semaphore>,
    searches: Arc<Semaphore>,
    start: Instant,
    /// Tells this run of a server from all others.
    instance: u128,
    /// All tasks of the server, so that a stop can wait for them.
    tasks: TaskTracker,
    /// Tells the tasks that are no connections to stop; a connection has a
    /// [`Signal`](crate::table::Signal) of its own.
    stop: CancellationToken,
}

impl Shared {
    fn new(config: Config, table: LockTable, clock: Clock) -> io::Result<Self> {
        let entropy = Entropy::open()?;
        Ok(Self {
            table,
            clock,
            instance: entropy.secret()?.0,
            entropy,
            handover_spin: HandoverSpin::default(),
            throttles: Throttles::default(),
            turns: Turns::default(),
            places: Places::new(config.max_connections as usize),
            debugs: Arc::new(Semaphore::new(DEBUGS_AT_ONCE)),
            searches: Arc::new(Semaphore::new(SEARCHES_AT_ONCE)),
            start: Instant::now(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            config,
        })
    }

    /// Begins the stop: from here on nothing is granted, and all tasks are told.
    fn begin_stop(&self) {
        self.table.stop();
        self.stop.cancel();
    }
}

/// Begins the stop, also if [`run`] is dropped before `shutdown` is ready.
struct StopAtEnd(Arc<Shared>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.begin_stop();
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
    Store(#[from] crate::store::disk::OpenError),
    /// The last changes are not on disk. No client was told that they are.
    #[error("the last changes could not be stored: {0}")]
    NotStored(#[from] NotStored),
}

/// Serves on `listeners` until `shutdown` is ready, does meanwhile what `control` says, and then stops: no connection is accepted any
/// more, requests that wait are answered `503`, whole lines that were read are still answered,
/// and connections are closed. Returns when all that is done, or after
/// [`Config::shutdown_time`], and a second for the store, at the latest.
///
/// The caller owns the ports and decides about the end, so a test can bind port 0. The caller can
/// also learn of the beginning: `shutdown` is polled for the first time when the ports are open and
/// the store is restored. This process's limit of open files is raised for
/// [`Config::max_connections`]; where that is not allowed, fewer connections are admitted.
///
/// # Errors
///
/// When the server cannot start, or could not store everything. Nothing in between ends it.
pub async fn run(
    listeners: Vec<Listener>,
    config: Config,
    control: Control,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let shutdown_time = config.shutdown_time();
    let clock = Clock::default();
    let (table, graces, writer) = start::start(&config, &clock)?;
    let shared = Arc::new(Shared::new(config, table, clock)?);
    let stop_at_end = StopAtEnd(Arc::clone(&shared));
    let (tasks, stop) = (&shared.tasks, &shared.stop);
    tasks.spawn(expiry::end_leases(Arc::clone(&shared), stop.clone()));
    // Also during a stop: time in which the server stops is no gap.
    let timed = Arc::clone(&shared);
    let _time = AbortOnDropHandle::new(tokio::spawn(async move {
        let report = || timed.throttles.report(timed.clock.now());
        clock::keep_time(&timed.clock, report).await;
    }));
    tasks.spawn(reload::whenever_asked(control, stop.clone()));
    tasks.spawn(handover_spin::keep_awake(Arc::clone(&shared), stop.clone()));
    tasks.spawn(turns::keep_pace(Arc::clone(&shared), stop.clone()));
    for grace in graces {
        tasks.spawn(expiry::end_grace_period(
            Arc::clone(&shared),
            grace,
            stop.clone(),
        ));
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
        tasks.spawn(admission::serve(listener, Arc::clone(&shared)));
    }
    shutdown.await;
    let (sessions, connections) = shared.table.session_counts();
    let locks = shared.table.held();
    info!(locks, sessions, connections, "stopping");
    drop(stop_at_end);
    tasks.close();
    let deadline = Instant::now() + shutdown_time;
    if tokio::time::timeout_at(deadline, tasks.wait())
        .await
        .is_err()
    {
        let (busy, ms) = (tasks.len(), shutdown_time.as_millis());
        warn!("stopped after {ms} ms with {busy} connections still busy");
    }
    shared.throttles.report_rest();
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
