//! What may be asked of a running server from its other listener, the one for operators.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::Shared;
use super::figures::Figures;
use super::history::History;
use super::readiness::{self, NotReady};
use super::refusal_counts::RefusalCounts;
use crate::count::Durations;
use crate::table::Contention;

/// A running server, as far as operators may see it and act on it. Clones reach the same one. All
/// questions may be asked from any thread.
#[derive(Debug, Clone)]
pub(crate) struct ServerHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) history: Arc<History>,
    /// That of the server itself, for tasks that go on without whoever began them.
    pub(super) runtime: Handle,
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
    /// What is bounded: the flag's name without its `--max-`.
    pub(crate) what: &'static str,
    pub(crate) used: usize,
    pub(crate) limit: usize,
}

impl ServerHandle {
    /// Reads the server's numbers from here on.
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let history = Arc::new(History::of(shared));
        let keeping = Arc::clone(&history).keep(Arc::clone(shared), shared.stop.clone());
        shared.tasks.spawn(keeping);
        let shared = Arc::clone(shared);
        let runtime = Handle::current();
        Self {
            shared,
            history,
            runtime,
        }
    }

    /// All reasons why the server is not ready for more clients; none if it is.
    pub(crate) fn not_ready(&self) -> Vec<NotReady> {
        readiness::reasons(&self.shared)
    }

    /// Whether changes can be made durable at this time, or need not be.
    pub(crate) fn can_store(&self) -> bool {
        let changes = self.shared.table.changes();
        changes.refusal().is_none() && changes.overdue().is_none()
    }

    /// The server in numbers.
    pub(crate) fn figures(&self) -> Figures {
        Figures::of(&self.shared)
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

    /// The bounds of the whole server. Those of one key, session or request have no place here, since
    /// there are as many uses of them as keys, sessions and requests.
    pub(crate) fn limits(&self) -> [Limited; 3] {
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

    /// What those suffer who wait. Costs more than the other questions where very many wait.
    pub(crate) fn contention(&self) -> Contention {
        self.shared.table.contention(self.shared.clock.now())
    }
}
