//! A server among others on one etcd: it follows, until it is elected; it leads, until it stops or another
//! does; and begins anew.
//!
//! Invariants:
//!
//! 1. There is one table at the most, and only while this server leads: it is made of what etcd has, by a
//!    leadership of its own, and what comes in the meantime waits with the kernel.
//! 2. A leadership that is given up by its own will is given up after the last change is stored and the last
//!    answer has left.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

use super::candidacy::{Candidacy, Candidature, ElectionEnded};
use super::election::{Elected, Leader, Seen};
#[cfg(feature = "admin")]
use super::handle::NodeHandle;
use super::leadership::{Leadership, Lost, millis, since_boot};
use super::passing::Passing;
use super::settings::ClusterSettings;
use super::{ClusterError, Leading};
#[cfg(feature = "admin")]
use crate::admin;
use crate::model::Secret;
#[cfg(feature = "admin")]
use crate::server::Lobby;
use crate::server::{
    Clock, Entropy, House, LastChanges, Listener, RunError, Served, Start, say_stopped,
    start_leading,
};
use crate::store::etcd::{Access, Blocking, LoadError, Log, Names, ReadAhead};

/// For how long a server that has handed the leadership over lets others stand first.
const OTHERS_FIRST: Duration = Duration::from_millis(300);

/// The same of one that could not serve.
const CANNOT_LEAD: Duration = Duration::from_secs(5);

/// For how long the key of a server that was killed may stay beyond its lease, as etcd looks at leases now and then.
const FORMER_RUN: Duration = Duration::from_secs(2);

/// How long the connections of a leader have for their ends when it hands over: so long is nobody served.
const HAND_OVER: Duration = Duration::from_millis(500);

/// A server and what it knows of the others.
struct Node {
    house: House,
    settings: ClusterSettings,
    access: Access,
    secret: Secret,
    /// What the others read of it when it leads.
    own: Leader,
    candidacy: Candidacy,
    passing: Passing,
    /// What was served last, and when its stop began, while clients have time for their ends.
    stopping: Option<(Served, Instant)>,
    #[cfg(feature = "admin")]
    handle: Arc<NodeHandle>,
}

/// Why a leadership has ended.
enum Ended {
    /// The server stops, and has until then for it; and whether its last changes are stored.
    Stopping(Instant, Result<(), RunError>),
    /// An operator has asked for it.
    HandedOver,
    /// It was not this server's will.
    Lost(Lost),
}

/// Runs a server among others until `shutdown` is ready.
///
/// # Errors
///
/// When the server cannot start, or what is in etcd cannot be gone on from.
pub(crate) async fn run(
    house: House,
    settings: ClusterSettings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let time = house.config.shutdown_time();
    let mut node = Node::start(house, settings)?;
    let mut shutdown = pin!(async {
        shutdown.await;
        Instant::now() + time
    });
    let mut stand_from = Instant::now();
    let (outcome, deadline) = loop {
        let mut ahead = None;
        let elected = tokio::select! {
            elected = node.follow(stand_from, &mut ahead) => match elected {
                Ok(elected) => elected,
                Err(ended) => break (Err(ClusterError::Election(ended).into()), Instant::now() + time),
            },
            deadline = &mut shutdown => break (Ok(()), deadline),
        };
        let ended = node.lead(&elected, ahead, shutdown.as_mut()).await;
        let leadership = &elected.leadership;
        leadership.lose(Lost::Resigned);
        stand_from = Instant::now();
        match ended {
            Ok(Ended::HandedOver) => stand_from += OTHERS_FIRST,
            Ok(Ended::Lost(why)) => warn!("not leading any more: {why}"),
            Ok(Ended::Stopping(deadline, stored)) => break (stored, deadline),
            Err(error) if error.is_final() => break (Err(error), Instant::now() + time),
            // Another server may have better files, and so may this one later.
            Err(error) => {
                error!("this server cannot lead: {error}");
                stand_from += CANNOT_LEAD;
            }
        }
    };
    node.end(deadline).await;
    outcome
}

impl Node {
    fn start(house: House, settings: ClusterSettings) -> Result<Self, RunError> {
        let config = &house.config;
        let access = settings.access().map_err(ClusterError::Access)?;
        let entropy = Entropy::open()?;
        let secret = entropy.secret()?;
        let own = Leader {
            id: entropy.secret()?.to_hex(),
            address: settings.advertise.clone().unwrap_or_default(),
            secret: secret.to_hex(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            lead_ttl_ms: millis(settings.lead_ttl()),
        };
        let candidature = Candidature {
            access: access.clone(),
            names: Names::below(&settings.etcd_namespace),
            own: own.clone(),
            ttl: settings.lead_ttl(),
            clock: since_boot,
        };
        let candidacy = Candidacy::start(candidature).map_err(ClusterError::Access)?;
        let stop = CancellationToken::new();
        let passing = Passing::new(
            candidacy.seen.clone(),
            Arc::clone(&candidacy.heard),
            config,
            settings.hold(),
            stop,
        );
        let passing = match &house.room {
            Some(room) => passing.at_most(room.to_pass_on),
            None => passing,
        };
        #[cfg(feature = "admin")]
        let handle = NodeHandle::new(passing.clone(), settings.lead_ttl(), Lobby::open(config)?);
        house.say_listening();
        Ok(Self {
            #[cfg(feature = "admin")]
            handle: Arc::new(handle),
            house,
            settings,
            access,
            secret,
            own,
            candidacy,
            passing,
            stopping: None,
        })
    }

    /// Passes clients on until this server is elected, and reads `ahead` when that may be soon. Cancel safe.
    async fn follow(
        &self,
        stand_from: Instant,
        ahead: &mut Option<ReadAhead>,
    ) -> Result<Elected, ElectionEnded> {
        let etcd = self.access.urls.join(", ");
        info!("not leading; on etcd at {etcd}");
        #[cfg(feature = "admin")]
        let _letting_in = self.let_operators_in();
        let House {
            listeners, servers, ..
        } = &self.house;
        let _accepting = on_each(listeners, &self.passing, Passing::accept_all);
        let _refusing = on_each(servers, &self.passing, Passing::refuse_all);
        let from = (!self.settings.no_lead).then_some(stand_from);
        let telling = tell_who_leads(self.candidacy.seen.clone(), self.own.clone());
        let _telling = AbortOnDropHandle::new(tokio::spawn(telling));
        tokio::select! {
            elected = self.candidacy.until_elected(from) => elected,
            never = self.read_ahead(ahead) => match never {},
            // There is nothing here that a drain could wait for.
            () = self.house.control.drain_at_once() => std::future::pending().await,
        }
    }

    /// Reads the log whenever it is in doubt that the leader renews its lease.
    async fn read_ahead(&self, ahead: &mut Option<ReadAhead>) -> Infallible {
        let mut doubts = self.candidacy.doubts.clone();
        let names = Names::below(&self.settings.etcd_namespace);
        while let Ok(doubt) = doubts.wait_for(Option::is_some).await.map(|doubt| *doubt) {
            let node = doubt.unwrap_or_default();
            let access = self.access.clone();
            *ahead = ReadAhead::start(&names, move || Blocking::new(&access, node));
            let _ = doubts.wait_for(Option::is_none).await;
            *ahead = None;
        }
        // The thread that stands for election has ended, which that tells by itself.
        std::future::pending().await
    }

    /// Loads what is held, and serves it until the leadership ends.
    async fn lead(
        &mut self,
        elected: &Elected,
        ahead: Option<ReadAhead>,
        mut shutdown: Pin<&mut impl Future<Output = Instant>>,
    ) -> Result<Ended, RunError> {
        let leading = Arc::new(self.begin_to_lead(elected));
        let clock = Clock::default();
        let loaded = tokio::select! {
            loaded = self.load(elected, ahead, &leading, &clock) => loaded?,
            deadline = shutdown.as_mut() => return Ok(Ended::Stopping(deadline, Ok(()))),
        };
        let Some(start) = loaded else {
            return Ok(Ended::Lost(elected.leadership.until_lost().await));
        };
        let (served, last_changes) = Served::begin(&self.house, clock, start)?;
        served.serve_passed(&self.house.servers, self.secret);
        let ended = tokio::select! {
            deadline = shutdown => Ended::Stopping(deadline, Ok(())),
            () = leading.hand_over.cancelled() => Ended::HandedOver,
            why = elected.leadership.until_lost() => Ended::Lost(why),
        };
        let stored = self.stop(served, last_changes, elected, &ended).await;
        Ok(match ended {
            Ended::Stopping(deadline, _) => Ended::Stopping(deadline, stored),
            Ended::HandedOver | Ended::Lost(_) => {
                // The server goes on with others, also if etcd cannot be reached while it hands over.
                if let Err(why) = stored {
                    info!("what was not stored is lost, and was told to nobody: {why}");
                }
                ended
            }
        })
    }

    fn begin_to_lead(&self, elected: &Elected) -> Leading {
        #[cfg(feature = "admin")]
        {
            self.handle.note_election();
            self.house.admin.iter().for_each(admin::Running::loads);
        }
        Leading {
            leadership: Arc::clone(&elected.leadership),
            term: elected.term.revision,
            address: self.settings.advertise.clone().unwrap_or_default(),
            since: Instant::now(),
            hand_over: CancellationToken::new(),
            #[cfg(feature = "admin")]
            node: Arc::clone(&self.handle),
        }
    }

    /// Has operators let in, and told that this server follows, until the result is dropped.
    #[cfg(feature = "admin")]
    fn let_operators_in(&self) -> Option<AbortOnDropHandle<()>> {
        let admin = self.house.admin.as_ref()?;
        admin.follows(Arc::clone(&self.handle));
        let lobby = Arc::clone(&self.handle.lobby);
        let keeping = lobby.keep_up(self.house.control.clone());
        Some(AbortOnDropHandle::new(tokio::spawn(keeping)))
    }

    /// Reads what is held from etcd; `None` if the leadership was lost meanwhile.
    async fn load(
        &self,
        elected: &Elected,
        ahead: Option<ReadAhead>,
        leading: &Arc<Leading>,
        clock: &Clock,
    ) -> Result<Option<Start>, RunError> {
        let begun = Instant::now();
        let names = Names::below(&self.settings.etcd_namespace);
        let (access, term, node) = (self.access.clone(), elected.term.clone(), elected.node);
        let leadership = Arc::clone(&elected.leadership);
        let compact = self.settings.etcd_compact.0;
        let ahead = match ahead {
            Some(ahead) => ahead.take().await,
            None => None,
        };
        let loading = tokio::task::spawn_blocking(move || {
            let calls = Blocking::new(&access, node).map_err(ClusterError::Access)?;
            match Log::load(calls, names, term, leadership, compact, ahead) {
                Ok(loaded) => Ok(Some(loaded)),
                Err(LoadError::Lost) => Ok(None),
                Err(newer @ LoadError::Newer(_)) => Err(ClusterError::TooOld(newer.to_string())),
                Err(broken) => Err(ClusterError::Broken(broken.to_string())),
            }
        });
        let loaded = loading.await.map_err(std::io::Error::other)??;
        let Some((log, restored)) = loaded else {
            return Ok(None);
        };
        let (locks, sessions) = (restored.grants.len(), restored.sessions.len());
        let least_grace = Leadership::least_grace(log.longest_ttl());
        let config = &self.house.config;
        let leading = Arc::clone(leading);
        let start = start_leading(log, restored, config, clock, least_grace, leading)?;
        let start = start.map_err(|why| ClusterError::Broken(why.to_string()))?;
        let (term, took_ms) = (elected.term.revision, begun.elapsed().as_millis() as u64);
        info!(term, locks, sessions, took_ms, "leading");
        Ok(Some(start))
    }

    /// Ends a leadership: what was begun is stored, and answered, unless another leads already.
    ///
    /// # Errors
    ///
    /// If the last changes could not be stored.
    async fn stop(
        &mut self,
        served: Served,
        last_changes: LastChanges,
        elected: &Elected,
        ended: &Ended,
    ) -> Result<(), RunError> {
        let begun = Instant::now();
        // Until the key is given up, nobody is served.
        let silent_by = begun + self.house.config.shutdown_time().min(HAND_OVER);
        match ended {
            Ended::Stopping(..) => {
                served.say_stopping();
                self.house.close_ports();
            }
            Ended::HandedOver | Ended::Lost(_) => served.say_not_leading(elected.term.revision),
        }
        served.fall_silent(silent_by).await;
        let stored = last_changes.finish(silent_by).await;
        // From here on nothing leaves that has not left: each write of an answer looks at that.
        elected.leadership.lose(Lost::Resigned);
        match ended {
            Ended::Stopping(..) => self.stopping = Some((served, begun)),
            // Clients that have not closed yet hold up nobody.
            Ended::HandedOver | Ended::Lost(_) => drop(self.passing.tasks.spawn(async move {
                let busy = served.end(silent_by).await;
                debug!("{busy} connections of the leadership before are still busy");
            })),
        }
        stored
    }

    /// Until `deadline` clients have time for their ends.
    async fn end(mut self, deadline: Instant) {
        self.house.close_ports();
        self.passing.stop.cancel();
        self.passing.tasks.close();
        let passing = self.passing.tasks.wait();
        let parting = async {
            if let Some((served, begun)) = self.stopping {
                say_stopped(begun, served.end(deadline).await);
            }
        };
        let (_, (), ()) = tokio::join!(
            tokio::time::timeout_at(deadline, passing),
            self.candidacy.end(deadline),
            parting,
        );
        self.house.close(deadline).await;
    }
}

/// Says in the log who leads, at each change.
async fn tell_who_leads(mut seen: watch::Receiver<Seen>, own: Leader) {
    let mut before = Seen::default();
    loop {
        let now = seen.borrow_and_update().clone();
        if now != before {
            say_who_leads(&now, &own.id);
        }
        let leader = now.leader.clone();
        let namesake = leader.filter(|leader| leader.address == own.address);
        before = now;
        let changed = tokio::select! {
            changed = seen.changed() => changed,
            () = until_no_former_run(namesake.as_ref(), &own) => {
                let address = &own.address;
                warn!("the leader has this server's --advertise, {address}: each server needs its own");
                seen.changed().await
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Waits until the leader with this server's address, if there is one, cannot be a former run of it that was killed.
async fn until_no_former_run(namesake: Option<&Leader>, own: &Leader) {
    match namesake {
        // Once more than its lease's time, as etcd lets it begin anew when another of its nodes leads.
        Some(other) if other.id != own.id => {
            tokio::time::sleep(2 * other.lead_ttl() + FORMER_RUN).await;
        }
        _ => std::future::pending().await,
    }
}

fn say_who_leads(seen: &Seen, own_id: &str) {
    let term = seen.revision;
    match &seen.leader {
        // Its own turn is told with what it loads.
        Some(leader) if leader.id == own_id => {}
        Some(leader) => info!(leader = leader.address, term, "following"),
        None if seen.is_import => warn!(
            term,
            "an import into etcd is under way: nobody leads until it has ended"
        ),
        None if term > 0 => warn!(
            term,
            "the leader's key in etcd is not that of a server: nobody leads until it is removed"
        ),
        None => info!("nobody leads"),
    }
}

/// Has each of the ports served by a task of its own, until the result is dropped.
fn on_each<F>(
    listeners: &Arc<[Listener]>,
    passing: &Passing,
    serve: fn(Passing, Arc<[Listener]>, usize) -> F,
) -> Vec<AbortOnDropHandle<()>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let begin = |place| {
        let serving = serve(passing.clone(), Arc::clone(listeners), place);
        AbortOnDropHandle::new(tokio::spawn(serving))
    };
    (0..listeners.len()).map(begin).collect()
}
