//! Sockets, tasks and time around the [`LockTable`].
//!
//! One task serves one connection: it alone reads from, writes to and waits for its client. When
//! the connection ends, a small task waits for the end of the session's grace period.

mod acts;
mod admission;
mod arrival;
mod audit;
mod clock;
mod connection;
mod control;
mod desk;
mod drain;
mod entropy;
mod events;
mod expiry;
mod figures;
#[cfg(feature = "admin")]
mod handle;
mod handover_spin;
#[cfg(any(test, fuzzing))]
pub(crate) mod harness;
#[cfg(feature = "admin")]
mod history;
mod inherited;
mod listener;
mod log_lines;
mod looker;
#[cfg(feature = "fd-limit")]
mod open_files;
#[cfg(feature = "admin")]
mod operator;
#[cfg(feature = "admin")]
mod overview;
#[cfg(feature = "auth")]
mod passwords;
#[cfg(feature = "admin")]
mod readiness;
mod refusal_counts;
mod reload;
mod session_guard;
mod shown;
mod socket_file;
mod start;
mod throttle;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod turns;
mod upkeep;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{info, warn};

#[cfg(feature = "admin")]
pub(crate) use acts::NotDone;
pub use control::Control;
#[cfg(feature = "admin")]
pub(crate) use desk::NotLetIn;
#[cfg(feature = "admin")]
pub(crate) use events::Noted;
#[cfg(feature = "admin")]
pub(crate) use handle::ServerHandle;
pub use inherited::{InheritError, Inherited, InheritedSockets};
#[cfg(feature = "admin")]
pub use listener::bind_admin;
pub use listener::{AddressUnavailable, BindError, Listener, bind, bind_beside};
#[cfg(feature = "admin")]
pub(crate) use listener::{Socket, addresses};
#[cfg(feature = "admin")]
pub(crate) use operator::Operator;
#[cfg(feature = "admin")]
pub(crate) use overview::{Contended, ListingFailed, Part};
#[cfg(feature = "admin")]
pub(crate) use readiness::NotReady;
#[cfg(feature = "cluster")]
pub(crate) use transport::Transport;

#[cfg(feature = "auth")]
use crate::access::FileError;
use crate::access::{OpenDoor, Way, refuse_open_doors};
#[cfg(feature = "tls")]
pub use crate::certificate_files::TlsError;
#[cfg(feature = "admin")]
use crate::config::Address;
use crate::config::Config;
use crate::model::NotStored;
use crate::store::Writer;
use crate::table::LockTable;
use admission::Places;
pub use admission::TooFewFiles;
use audit::Audit;
use clock::Clock;
use desk::Desk;
use drain::Drain;
use entropy::Entropy;
use handover_spin::HandoverSpin;
use refusal_counts::RefusalCounts;
use throttle::Throttles;
use turns::Turns;

/// The time that the store has for its last commit when the time of a stop is over.
const LAST_COMMIT: Duration = Duration::from_secs(1);

/// How many `debug`s run at one time.
const DEBUGS_AT_ONCE: usize = 8;

/// How many searches among all sessions run at one time: they share the processor with the workers, on
/// threads of their own.
const SEARCHES_AT_ONCE: usize = 1;

/// The state that all tasks of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    table: LockTable,
    clock: Clock,
    config: Config,
    entropy: Entropy,
    desk: Desk,
    handover_spin: HandoverSpin,
    throttles: Throttles,
    refusals: RefusalCounts,
    turns: Turns,
    places: Places,
    drain: Drain,
    debugs: Arc<Semaphore>,
    searches: Arc<Semaphore>,
    /// Where there is a certificate.
    #[cfg(feature = "tls")]
    tls: Option<tls::Tls>,
    #[cfg(feature = "admin")]
    events: events::Events,
    start: Instant,
    /// Tells this run of a server from all others.
    instance: u128,
    /// All tasks of the server, so that a stop can wait for them.
    tasks: TaskTracker,
    /// Where they run, for tasks that are begun from elsewhere and go on without whoever began them.
    runtime: Handle,
    /// Tells the tasks that are no connections to stop; a connection has a
    /// [`Signal`](crate::table::Signal) of its own.
    stop: CancellationToken,
}

impl Shared {
    fn new(config: Config, table: LockTable, clock: Clock) -> Result<Self, RunError> {
        let entropy = Entropy::open()?;
        Ok(Self {
            table,
            clock,
            instance: entropy.secret()?.0,
            entropy,
            desk: Desk::of(&config)?,
            handover_spin: HandoverSpin::default(),
            throttles: Throttles::default(),
            refusals: RefusalCounts::default(),
            turns: Turns::new(config.worker_threads()),
            places: Places::new(&config)?,
            drain: Drain::default(),
            debugs: Arc::new(Semaphore::new(DEBUGS_AT_ONCE)),
            searches: Arc::new(Semaphore::new(SEARCHES_AT_ONCE)),
            #[cfg(feature = "tls")]
            tls: tls::Tls::start(&config)?,
            #[cfg(feature = "admin")]
            events: events::Events::default(),
            start: Instant::now(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            stop: CancellationToken::new(),
            config,
        })
    }

    /// The word that tells this run of the server from all others.
    fn instance(&self) -> String {
        format!("{:032x}", self.instance)
    }

    /// Begins the stop: from here on nothing is granted, and all tasks are told.
    pub(crate) fn begin_stop(&self) {
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
    /// There is no room for clients.
    #[error("cannot start: {0}")]
    TooFewFiles(#[from] TooFewFiles),
    /// The files of users are no good.
    #[cfg(feature = "auth")]
    #[error(transparent)]
    Users(#[from] FileError),
    /// Whoever can reach an address would get in.
    #[error(transparent)]
    OpenDoor(#[from] OpenDoor),
    /// Whoever can reach an address of the admin listener would see everything.
    #[cfg(feature = "admin")]
    #[error(
        "--admin {0} can be reached from other machines, and whoever reaches it would see every lock. \
         Either give a password (--admin-password-file FILE, or users by --auth-file FILE), or show \
         all to this machine alone (--admin 127.0.0.1:11480 or unix:PATH), or say that everybody may \
         come in (--allow-anonymous)"
    )]
    OpenAdmin(Address),
    /// The store cannot be used.
    #[cfg(feature = "store")]
    #[error(transparent)]
    Store(#[from] crate::store::disk::OpenError),
    /// A certificate or a key cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The last changes are not on disk. No client was told that they are.
    #[error("the last changes could not be stored: {0}")]
    NotStored(#[from] NotStored),
}

impl RunError {
    /// True if a setting, or what it names, has to be changed, so that trying again does not help.
    pub fn is_bad_setting(&self) -> bool {
        match self {
            #[cfg(feature = "auth")]
            Self::Users(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
            Self::OpenDoor(_) | Self::TooFewFiles(_) => true,
            #[cfg(feature = "admin")]
            Self::OpenAdmin(_) => true,
            #[cfg(feature = "store")]
            Self::Store(error) => error.is_bad_setting(),
            _ => false,
        }
    }
}

/// Serves on `listeners` until `shutdown` is ready, does meanwhile what `control` says, and then stops:
/// no connection is accepted any more, requests that wait are answered `503`, whole lines that were
/// read are still answered, and connections are closed. A drain is over when [`Control::drained`] says
/// so, and the caller then makes `shutdown` ready. Returns when all that is done, or after
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
    #[cfg(feature = "admin")]
    let (for_admin, listeners): (Vec<_>, Vec<_>) =
        listeners.into_iter().partition(Listener::is_for_admin);
    let clock = Clock::default();
    refuse_open_doors(
        ways(&listeners, &config),
        config.has_users(),
        config.allow_anonymous,
    )?;
    #[cfg(feature = "admin")]
    refuse_open_doors(
        ways(&for_admin, &config),
        config.has_operators(),
        config.allow_anonymous,
    )
    .map_err(|OpenDoor(address)| RunError::OpenAdmin(address))?;
    #[cfg(feature = "admin")]
    let admin = crate::admin::start(for_admin, &config)?;
    let (table, graces, writer) = start::start(&config, &clock)?;
    let table = table.followed_by(audit::trail());
    let shared = Arc::new(Shared::new(config, table, clock)?);
    let audit = Audit::start(&shared)?;
    let stop_at_end = StopAtEnd(Arc::clone(&shared));
    let (tasks, stop) = (&shared.tasks, &shared.stop);
    tasks.spawn(expiry::end_leases(Arc::clone(&shared), stop.clone()));
    // Also during a stop: time in which the server stops is no gap.
    let timed = Arc::clone(&shared);
    let _time = AbortOnDropHandle::new(tokio::spawn(async move {
        let report = || timed.throttles.report(timed.clock.now());
        clock::keep_time(&timed.clock, report).await;
    }));
    tasks.spawn(upkeep::give_memory_back(Arc::clone(&shared), stop.clone()));
    tasks.spawn(looker::look_again(Arc::clone(&shared), stop.clone()));
    tasks.spawn(reload::whenever_asked(control.clone(), Arc::clone(&shared)));
    #[cfg(feature = "tls")]
    tasks.spawn(tls::watch_certificates(Arc::clone(&shared)));
    tasks.spawn(drain::see_to(Arc::clone(&shared), control, stop.clone()));
    tasks.spawn(handover_spin::keep_awake(Arc::clone(&shared), stop.clone()));
    tasks.spawn(turns::keep_pace(Arc::clone(&shared), stop.clone()));
    for grace in graces {
        tasks.spawn(expiry::end_grace_period(
            Arc::clone(&shared),
            grace,
            stop.clone(),
        ));
    }
    #[cfg(feature = "admin")]
    // Before it is said that the server listens: who has read that may ask.
    if let Some(admin) = &admin {
        admin.serves(ServerHandle::new(&shared));
    }
    info!(
        "elockd {} listening on {}",
        env!("CARGO_PKG_VERSION"),
        listener::addresses(&listeners)
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
    audit.finish().await;
    #[cfg(feature = "admin")]
    if let Some(admin) = admin {
        admin.end(deadline).await;
    }
    match writer {
        Some(writer) => Ok(finish(writer, deadline.max(Instant::now() + LAST_COMMIT)).await?),
        None => Ok(()),
    }
}

/// The ways into the server by these listeners.
#[cfg_attr(not(feature = "tls"), expect(unused_variables))]
fn ways<'a>(listeners: &'a [Listener], config: &Config) -> impl Iterator<Item = Way<'a>> {
    #[cfg(feature = "tls")]
    let asks = config.tls_client_ca.is_some();
    listeners.iter().map(move |listener| Way {
        address: listener.address(),
        #[cfg(feature = "tls")]
        asks_for_certificate: asks && listener.is_tls(),
        #[cfg(not(feature = "tls"))]
        asks_for_certificate: false,
    })
}

async fn finish(writer: Writer, deadline: Instant) -> Result<(), NotStored> {
    let finished = tokio::task::spawn_blocking(move || writer.finish());
    match tokio::time::timeout_at(deadline, finished).await {
        Ok(Ok(finished)) => finished,
        Ok(Err(failed)) => Err(NotStored::new(failed)),
        Err(_) => Err(NotStored::new("the disk takes too long")),
    }
}
