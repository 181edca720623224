//! Sockets, tasks and time around the [`LockTable`].
//!
//! One task serves one connection: it alone reads from, writes to and waits for its client. When
//! the connection ends, a small task waits for the end of the session's grace period.

mod acceptor;
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
#[cfg(all(feature = "admin", feature = "cluster"))]
mod lobby;
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
mod porter;
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
#[cfg(feature = "cluster")]
pub use listener::bind_for_servers;
pub use listener::{AddressUnavailable, BindError, Listener, bind, bind_beside};
#[cfg(feature = "admin")]
pub(crate) use listener::{Socket, addresses};
#[cfg(all(feature = "admin", feature = "cluster"))]
pub(crate) use lobby::Lobby;
#[cfg(feature = "admin")]
pub(crate) use operator::Operator;
#[cfg(feature = "admin")]
pub(crate) use overview::{Contended, ListingFailed, Part};
#[cfg(feature = "admin")]
pub(crate) use porter::Porter;
#[cfg(feature = "admin")]
pub(crate) use readiness::NotReady;
#[cfg(feature = "cluster")]
pub(crate) use start::start_leading;
#[cfg(feature = "cluster")]
pub(crate) use transport::{Transport, configure};
#[cfg(feature = "cluster")]
pub(crate) use {acceptor::Acceptor, connection::close_gently, listener::Arrived};

#[cfg(feature = "auth")]
use crate::access::FileError;
use crate::access::{OpenDoor, Port, Way, refuse_open_doors};
#[cfg(feature = "tls")]
pub use crate::certificate_files::TlsError;
#[cfg(feature = "cluster")]
use crate::cluster::{ClusterError, Leadership, Leading};
#[cfg(feature = "admin")]
use crate::config::Address;
use crate::config::Config;
#[cfg(feature = "cluster")]
use crate::model::Secret;
use crate::model::{NotStored, SessionNumber};
use crate::protocol::Reply;
use crate::store::Writer;
use crate::table::LockTable;
pub use admission::TooFewFiles;
use admission::{Places, Room};
use audit::Audit;
pub(crate) use clock::Clock;
use desk::Desk;
use drain::Drain;
pub(crate) use entropy::Entropy;
use handover_spin::HandoverSpin;
use refusal_counts::RefusalCounts;
pub(crate) use start::Start;
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
    /// `None` if the server is alone.
    #[cfg(feature = "cluster")]
    leading: Option<Arc<Leading>>,
    /// The connections on which something may still be said.
    #[cfg(feature = "cluster")]
    speaking: TaskTracker,
    debugs: Arc<Semaphore>,
    searches: Arc<Semaphore>,
    /// Where there is a certificate.
    #[cfg(feature = "tls")]
    tls: Option<tls::Tls>,
    #[cfg(feature = "admin")]
    events: events::Events,
    start: Instant,
    /// Tells this run of a server from all others.
    instance: String,
    /// All tasks of the server, so that a stop can wait for them.
    tasks: TaskTracker,
    /// Where they run, for tasks that are begun from elsewhere and go on without whoever began them.
    runtime: Handle,
    /// Tells the tasks that are no connections to stop; a connection has a
    /// [`Signal`](crate::table::Signal) of its own.
    stop: CancellationToken,
}

impl Shared {
    /// `room`: as it was reckoned earlier; `None` if by the files that are open now.
    fn new(
        config: Config,
        table: LockTable,
        clock: Clock,
        room: Option<&Room>,
    ) -> Result<Self, RunError> {
        let entropy = Entropy::open()?;
        Ok(Self {
            table,
            clock,
            instance: entropy.secret()?.to_hex(),
            entropy,
            desk: Desk::of(&config)?,
            places: match room {
                Some(room) => Places::of(room),
                None => Places::of(&Room::reckon(&config)?),
            },
            handover_spin: HandoverSpin::default(),
            throttles: Throttles::default(),
            refusals: RefusalCounts::default(),
            turns: Turns::new(config.worker_threads()),
            drain: Drain::default(),
            #[cfg(feature = "cluster")]
            leading: None,
            #[cfg(feature = "cluster")]
            speaking: TaskTracker::new(),
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

    /// By which answers are guarded; `None` if the server is alone.
    #[cfg(feature = "cluster")]
    fn leadership(&self) -> Option<Arc<Leadership>> {
        let leading = self.leading.as_ref();
        leading.map(|leading| Arc::clone(&leading.leadership))
    }

    /// Has another server lead, and says whether there can be one.
    fn hand_over(&self, by: SessionNumber) -> Reply<'static> {
        #[cfg(feature = "cluster")]
        if let Some(leading) = &self.leading {
            // Nobody could be elected either, and nobody would serve.
            if let Some(why) = self.table.changes().refusal() {
                return Reply::NotStored(why);
            }
            let by = log_lines::named_at_peer(self, by);
            info!(by, "the leadership is handed over");
            leading.hand_over.cancel();
            return Reply::Done;
        }
        let _ = by;
        Reply::Alone
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
    /// It cannot be one of several servers on etcd.
    #[cfg(feature = "cluster")]
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The last changes are not on disk. No client was told that they are.
    #[error("the last changes could not be stored: {0}")]
    NotStored(#[from] NotStored),
}

impl RunError {
    /// True if what was kept cannot be gone on from, so that trying again does not help.
    pub fn is_final(&self) -> bool {
        match self {
            #[cfg(feature = "store")]
            Self::Store(error) => error.is_final(),
            #[cfg(feature = "cluster")]
            Self::Cluster(ClusterError::Broken(_)) => true,
            _ => false,
        }
    }

    /// True if a setting, or what it names, has to be changed, so that trying again does not help.
    pub fn is_bad_setting(&self) -> bool {
        match self {
            #[cfg(feature = "auth")]
            Self::Users(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
            #[cfg(feature = "cluster")]
            Self::Cluster(ClusterError::Access(_)) => true,
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
/// [`Config::shutdown_time`], and a second for the store, and on etcd one more for the lease, at the latest.
///
/// The caller owns the ports and decides about the end, so a test can bind port 0. The caller can
/// also learn of the beginning: `shutdown` is polled for the first time when the ports are open and
/// the store is restored; one of several servers on one etcd has then begun to ask who leads. This process's
/// limit of open files is raised for [`Config::max_connections`]; where that is not allowed, fewer connections
/// are admitted.
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
    let mut house = House::open(listeners, config, control)?;
    #[cfg(feature = "cluster")]
    if let Some(settings) = house.config.cluster().cloned() {
        return crate::cluster::run(house, settings, shutdown).await;
    }
    let clock = Clock::default();
    let start = start::start(&house.config, &clock)?;
    let (served, last_changes) = Served::begin(&house, clock, start)?;
    house.say_listening();
    // Who serves has them, so that they are closed when it stops.
    house.listeners = Arc::default();
    shutdown.await;
    let deadline = Instant::now() + house.config.shutdown_time();
    served.stop(deadline).await;
    house.close(deadline).await;
    last_changes.finish(deadline).await
}

/// What there is before the first lock and after the last: the ports, and HTTP for operators.
pub(crate) struct House {
    pub(crate) listeners: Arc<[Listener]>,
    /// For clients that other servers pass on.
    #[cfg(feature = "cluster")]
    pub(crate) servers: Arc<[Listener]>,
    /// Of one of several servers: reckoned before there is any client, as it leads while those that it has
    /// passed on still end. One that is alone reckons once it has its store.
    #[cfg(feature = "cluster")]
    pub(crate) room: Option<Room>,
    pub(crate) config: Config,
    pub(crate) control: Control,
    #[cfg(feature = "admin")]
    pub(crate) admin: Option<crate::admin::Running>,
}

impl House {
    /// # Errors
    ///
    /// If whoever can reach a port would get in, or the system gives no thread, or hardly any files to one of
    /// several servers.
    fn open(listeners: Vec<Listener>, config: Config, control: Control) -> Result<Self, RunError> {
        #[cfg(feature = "admin")]
        let (for_admin, listeners): (Vec<_>, Vec<_>) =
            listeners.into_iter().partition(Listener::is_for_admin);
        // Clients of the other servers come in by the port for servers, and this one's users are all that
        // they are asked for.
        refuse_open_doors(
            ways(&listeners, &config),
            config.has_users(),
            config.allow_anonymous,
        )?;
        #[cfg(feature = "cluster")]
        let (servers, listeners): (Vec<_>, Vec<_>) =
            listeners.into_iter().partition(Listener::is_for_servers);
        #[cfg(feature = "admin")]
        refuse_open_doors(
            ways(&for_admin, &config),
            config.has_operators(),
            config.allow_anonymous,
        )
        .map_err(|open: OpenDoor| RunError::OpenAdmin(open.address))?;
        #[cfg(feature = "admin")]
        let admin = crate::admin::start(for_admin, &config)?;
        #[cfg(feature = "cluster")]
        let room = config.cluster().map(|_| Room::reckon(&config));
        Ok(Self {
            #[cfg(feature = "cluster")]
            servers: servers.into(),
            listeners: listeners.into(),
            #[cfg(feature = "admin")]
            admin,
            #[cfg(feature = "cluster")]
            room: room.transpose()?,
            config,
            control,
        })
    }

    /// Says in the log, once, where clients are served.
    pub(crate) fn say_listening(&self) {
        info!(
            "elockd {} listening on {}",
            env!("CARGO_PKG_VERSION"),
            listener::addresses(&self.listeners)
        );
        #[cfg(feature = "cluster")]
        if !self.servers.is_empty() {
            info!(
                "for other servers at {}",
                listener::addresses(&self.servers)
            );
        }
    }

    /// Closes the ports: of this process nobody is served any more. Whoever serves by them closes them last.
    #[cfg(feature = "cluster")]
    pub(crate) fn close_ports(&mut self) {
        self.listeners = Arc::default();
        self.servers = Arc::default();
    }

    /// Lets operators ask nothing more.
    #[cfg_attr(not(feature = "admin"), expect(unused_variables, clippy::unused_async))]
    pub(crate) async fn close(self, deadline: Instant) {
        #[cfg(feature = "admin")]
        if let Some(admin) = self.admin {
            admin.end(deadline).await;
        }
    }
}

/// A table that is served: from its beginning, or from when it was restored, to its stop.
pub(crate) struct Served {
    pub(crate) shared: Arc<Shared>,
    audit: Audit,
    stop_at_end: StopAtEnd,
    _time: AbortOnDropHandle<()>,
}

impl Served {
    /// Begins to serve. What is stored last is apart, as it is stored when nothing is served any more.
    ///
    /// # Errors
    ///
    /// When the system does not give what a server needs, or files of the settings cannot be used.
    pub(crate) fn begin(
        house: &House,
        clock: Clock,
        start: Start,
    ) -> Result<(Self, LastChanges), RunError> {
        let Start {
            table,
            graces,
            writer,
            #[cfg(feature = "cluster")]
            leading,
        } = start;
        let table = table.followed_by(audit::trail());
        #[cfg(feature = "cluster")]
        let room = house.room.as_ref();
        #[cfg(not(feature = "cluster"))]
        let room = None;
        let shared = Shared::new(house.config.clone(), table, clock, room)?;
        #[cfg(feature = "cluster")]
        let shared = Shared { leading, ..shared };
        let shared = Arc::new(shared);
        let audit = Audit::start(&shared)?;
        let served = Self {
            audit,
            stop_at_end: StopAtEnd(Arc::clone(&shared)),
            _time: AbortOnDropHandle::new(tokio::spawn(keep_time(Arc::clone(&shared)))),
            shared,
        };
        served.begin_upkeep(house.control.clone());
        let Shared { tasks, stop, .. } = &*served.shared;
        for grace in graces {
            let shared = Arc::clone(&served.shared);
            tasks.spawn(expiry::end_grace_period(shared, grace, stop.clone()));
        }
        #[cfg(feature = "admin")]
        // Before it is said that the server listens: whoever has read that may ask.
        if let Some(admin) = &house.admin {
            admin.serves(ServerHandle::new(&served.shared));
        }
        for place in 0..house.listeners.len() {
            let (listeners, shared) = (Arc::clone(&house.listeners), Arc::clone(&served.shared));
            tasks.spawn(async move { admission::serve(&listeners[place], shared).await });
        }
        Ok((served, LastChanges { writer }))
    }

    /// Serves clients that others pass on, who know the secret.
    #[cfg(feature = "cluster")]
    pub(crate) fn serve_passed(&self, servers: &Arc<[Listener]>, secret: Secret) {
        for place in 0..servers.len() {
            let (servers, shared) = (Arc::clone(servers), Arc::clone(&self.shared));
            let serve = async move {
                admission::serve_passed(&servers[place], shared, secret).await;
            };
            self.shared.tasks.spawn(serve);
        }
    }

    /// The tasks that no client and no operator has begun.
    fn begin_upkeep(&self, control: Control) {
        let Shared { tasks, stop, .. } = &*self.shared;
        let shared = || Arc::clone(&self.shared);
        tasks.spawn(expiry::end_leases(shared(), stop.clone()));
        tasks.spawn(upkeep::give_memory_back(shared(), stop.clone()));
        tasks.spawn(looker::look_again(shared(), stop.clone()));
        tasks.spawn(reload::whenever_asked(control.clone(), shared()));
        #[cfg(feature = "tls")]
        tasks.spawn(tls::watch_certificates(shared()));
        tasks.spawn(drain::see_to(shared(), control, stop.clone()));
        tasks.spawn(handover_spin::keep_awake(shared(), stop.clone()));
        tasks.spawn(turns::keep_pace(shared(), stop.clone()));
    }

    /// Begins the stop, and returns when nothing will be said to any client any more, or at `deadline`. What is
    /// left of the stop is to wait for the clients.
    #[cfg(feature = "cluster")]
    pub(crate) async fn fall_silent(&self, deadline: Instant) {
        let shared = &self.shared;
        shared.begin_stop();
        // Also those that were accepted and have not said anything yet.
        shared.speaking.close();
        // Who has not read what was said to it is closed with the rest.
        let _ = tokio::time::timeout_at(deadline, shared.speaking.wait()).await;
    }

    /// Stops, as [`run`] says. Until `deadline` at the latest connections have time for their ends.
    pub(crate) async fn stop(self, deadline: Instant) {
        self.say_stopping();
        let begun = Instant::now();
        let busy = self.end(deadline).await;
        say_stopped(begun, busy);
    }

    /// Says in the log what there is when the server stops.
    pub(crate) fn say_stopping(&self) {
        let (locks, sessions, connections) = self.counts();
        info!(locks, sessions, connections, "stopping");
    }

    /// Says the same where the server goes on without having what there is.
    #[cfg(feature = "cluster")]
    pub(crate) fn say_not_leading(&self, term: i64) {
        let (locks, sessions, connections) = self.counts();
        info!(
            term,
            locks, sessions, connections, "no more clients are served as the leader"
        );
    }

    fn counts(&self) -> (usize, usize, usize) {
        let table = &self.shared.table;
        let (sessions, connections) = table.session_counts();
        (table.held(), sessions, connections)
    }

    /// Begins the stop if it has not begun, and returns how many connections are still busy at its end: none, or
    /// it is `deadline`.
    pub(crate) async fn end(self, deadline: Instant) -> usize {
        let Shared { tasks, .. } = &*self.shared;
        drop(self.stop_at_end);
        tasks.close();
        let in_time = tokio::time::timeout_at(deadline, tasks.wait()).await;
        let busy = in_time.map_or_else(|_| tasks.len(), |()| 0);
        self.shared.throttles.report_rest();
        self.audit.finish().await;
        busy
    }
}

/// Says in the log if connections are cut off by the end of a stop.
pub(crate) fn say_stopped(begun: Instant, busy: usize) {
    if busy > 0 {
        let ms = begun.elapsed().as_millis();
        warn!("stopped after {ms} ms with {busy} connections still busy");
    }
}

/// Also during a stop: time in which the server stops is no gap.
async fn keep_time(shared: Arc<Shared>) {
    let report = || shared.throttles.report(shared.clock.now());
    clock::keep_time(&shared.clock, report).await;
}

/// The changes that nobody has waited for when the server stops.
#[must_use = "they are to be stored"]
pub(crate) struct LastChanges {
    writer: Option<Writer>,
}

impl LastChanges {
    /// Stores them, and nothing behind them. Until `deadline`, and for [`LAST_COMMIT`], they have time.
    ///
    /// # Errors
    ///
    /// If they could not be stored.
    pub(crate) async fn finish(self, deadline: Instant) -> Result<(), RunError> {
        match self.writer {
            Some(writer) => Ok(finish(writer, deadline.max(Instant::now() + LAST_COMMIT)).await?),
            None => Ok(()),
        }
    }
}

/// The ways into the server by these listeners.
#[cfg_attr(not(feature = "tls"), expect(unused_variables))]
fn ways<'a>(listeners: &'a [Listener], config: &Config) -> impl Iterator<Item = Way<'a>> {
    #[cfg(feature = "tls")]
    let asks = config.tls_client_ca.is_some();
    listeners.iter().map(move |listener| Way {
        port: port(listener),
        address: listener.address(),
        #[cfg(feature = "tls")]
        asks_for_certificate: asks && listener.is_tls(),
        #[cfg(not(feature = "tls"))]
        asks_for_certificate: false,
    })
}

#[cfg_attr(
    not(any(feature = "cluster", feature = "tls")),
    expect(unused_variables)
)]
fn port(listener: &Listener) -> Port {
    #[cfg(feature = "cluster")]
    if listener.is_for_servers() {
        return Port::Servers;
    }
    #[cfg(feature = "tls")]
    if listener.is_tls() {
        return Port::Tls;
    }
    Port::Clients
}

async fn finish(writer: Writer, deadline: Instant) -> Result<(), NotStored> {
    let finished = tokio::task::spawn_blocking(move || writer.finish());
    match tokio::time::timeout_at(deadline, finished).await {
        Ok(Ok(finished)) => finished,
        Ok(Err(failed)) => Err(NotStored::new(failed)),
        Err(_) => Err(NotStored::new("the store takes too long")),
    }
}
