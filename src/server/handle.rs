//! What may be asked of a running server from its other listener, the one for operators.

use std::sync::Arc;

use super::Shared;
use super::desk::{Desk, NotLetIn};
use super::figures::Figures;
use super::history::History;
use super::log_lines;
use super::porter::Porter;
use super::readiness::{self, NotReady};
use super::refusal_counts::RefusalCounts;
use crate::access::User;
#[cfg(feature = "cluster")]
use crate::cluster::Standing;
use crate::count::Durations;
use crate::log::dropped_lines;
use crate::model::{Nearest, Peer, Resource, Usage};
use crate::protocol::Refusal;
use crate::table::Contention;

/// A running server, as far as operators may see it and act on it. Clones reach the same one. All
/// questions may be asked from any thread.
#[derive(Debug, Clone)]
pub(crate) struct ServerHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) history: Arc<History>,
}

impl Porter for ServerHandle {
    fn desk(&self) -> &Desk {
        &self.shared.desk
    }

    fn note_refused(&self, why: NotLetIn, name: &[u8], peer: Peer) {
        let shared = &self.shared;
        let refusal = match why {
            NotLetIn::Wrong => {
                log_lines::wrong_operator(shared, peer, name);
                Refusal::WrongPassword
            }
            NotLetIn::Busy => Refusal::TooManyPasswords,
        };
        shared.refusals.count(Some(refusal));
    }
}

/// How long things took since the start.
#[derive(Debug)]
pub(crate) struct Times {
    pub(crate) granted_waits: Durations,
    pub(crate) other_waits: Durations,
    pub(crate) holds: Durations,
    pub(crate) commits: Durations,
    pub(crate) failed_commits: u64,
}

/// A bound of the settings, and how much of it is taken.
#[derive(Debug)]
pub(crate) struct Limited {
    /// What is bounded: the flag's name without its `--max-`, or `user_` and what of a user.
    pub(crate) what: &'static str,
    pub(crate) used: usize,
    pub(crate) limit: usize,
}

type Names = [&'static str; Resource::ALL.len() + 1];

/// In the order of [`Resource::ALL`], and then the commands in a second.
const OF_ADDRESS: Names = [
    "address_connections",
    "address_grace_sessions",
    "address_locks",
    "address_waiters",
    "address_commands",
];

/// The same of a user.
const OF_USER: Names = [
    "user_connections",
    "user_grace_sessions",
    "user_locks",
    "user_waiters",
    "user_commands",
];

fn limited(nearest: &Nearest, names: Names) -> impl Iterator<Item = Limited> {
    let resources = Resource::ALL.map(|of| nearest.of(of));
    let usages = resources.into_iter().chain([nearest.of_commands()]);
    names.into_iter().zip(usages).filter_map(|(what, usage)| {
        let Usage { used, max } = usage?;
        let [used, limit] = [used, max].map(|number| number as usize);
        Some(Limited { what, used, limit })
    })
}

impl ServerHandle {
    /// Reads the server's numbers from here on.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let history = Arc::new(History::of(shared));
        let keeping = Arc::clone(&history).keep(Arc::clone(shared), shared.stop.clone());
        shared.tasks.spawn(keeping);
        let shared = Arc::clone(shared);
        Self { shared, history }
    }

    /// The word that tells this run of the server from all others.
    pub(crate) fn instance(&self) -> String {
        self.shared.instance.clone()
    }

    /// How many lines of the log, and events of the audit, were dropped since the start, by cause.
    pub(crate) fn dropped_lines(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let events = self.shared.table.trail().dropped();
        dropped_lines()
            .into_iter()
            .chain([("audit_too_fast", events)])
    }

    /// Notes what this user asked for and may not do.
    pub(crate) fn note_not_allowed(&self, peer: Peer, user: &User, request: String) {
        log_lines::operator_not_allowed(&self.shared, peer, user, request);
    }

    /// All reasons why the server is not ready for more clients; none if it is.
    pub(crate) fn not_ready(&self) -> Vec<NotReady> {
        readiness::reasons(&self.shared)
    }

    /// Why what it has in memory may be old; `None` if it surely is not.
    pub(crate) fn not_current(&self) -> Option<NotReady> {
        readiness::not_current(&self.shared)
    }

    /// Whether changes can be made durable at this time, or need not be.
    pub(crate) fn can_store(&self) -> bool {
        let changes = self.shared.table.changes();
        changes.refusal().is_none() && changes.overdue().is_none()
    }

    /// The server's place among others; `None` if it is alone.
    #[cfg(feature = "cluster")]
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.shared.leading.as_ref().map(|one| one.standing())
    }

    /// How many entries its log in etcd has.
    #[cfg(feature = "cluster")]
    pub(crate) fn log_entries(&self) -> u64 {
        self.shared.table.changes().log_entries()
    }

    /// The server in numbers.
    pub(crate) fn figures(&self) -> Figures {
        Figures::of(&self.shared)
    }

    /// How often clients had to rest.
    pub(crate) fn rests(&self) -> u64 {
        self.shared.table.counters().rests.get()
    }

    /// How often requests were refused.
    pub(crate) fn refusals(&self) -> &RefusalCounts {
        &self.shared.refusals
    }

    /// How long things took.
    pub(crate) fn times(&self) -> Times {
        let table = &self.shared.table;
        let (counters, (commits, failed_commits)) =
            (table.counters(), table.changes().commit_times());
        Times {
            granted_waits: counters.granted_waits.durations(),
            other_waits: counters.other_waits.durations(),
            holds: counters.holds.durations(),
            commits,
            failed_commits,
        }
    }

    /// The bounds of the whole server; and of those of addresses and users that are set, each with what is
    /// taken of it by the one that is nearest to it. Those of one key, session or request have no place
    /// here, since there are as many uses of them as keys, sessions and requests.
    pub(crate) fn limits(&self) -> Vec<Limited> {
        let (desk, now) = (&self.shared.desk, self.shared.clock.now());
        let addresses = desk.nearest_address(now);
        let addresses = addresses
            .iter()
            .flat_map(|nearest| limited(nearest, OF_ADDRESS));
        let users = desk.nearest_user(now);
        let users = limited(&users, OF_USER);
        self.limits_of_all()
            .into_iter()
            .chain(addresses)
            .chain(users)
            .collect()
    }

    fn limits_of_all(&self) -> [Limited; 3] {
        let shared = &self.shared;
        let limits = shared.config.limits();
        let (sessions, connected) = shared.table.session_counts();
        let in_grace = sessions.saturating_sub(connected);
        let (connections, max_connections) = shared.places.taken();
        [
            ("connections", connections, max_connections),
            ("locks", shared.table.claims(), limits.locks),
            ("grace_sessions", in_grace, limits.sessions_in_grace),
        ]
        .map(|(what, used, limit)| Limited { what, used, limit })
    }

    /// When certificates end, in seconds since the beginning of 1970: the server's own, and the first of
    /// those by which clients' are signed.
    pub(crate) fn certificate_ends(&self) -> Vec<(&'static str, i64)> {
        #[cfg(feature = "tls")]
        let ends = self
            .shared
            .tls
            .as_ref()
            .map(super::tls::Tls::certificate_ends);
        #[cfg(not(feature = "tls"))]
        let ends = None;
        ends.unwrap_or_default()
    }

    /// What those suffer who wait. Costs more than the other questions where very many wait.
    pub(crate) fn contention(&self) -> Contention {
        self.shared.table.contention(self.shared.clock.now())
    }
}
