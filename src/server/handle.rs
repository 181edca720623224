//! What may be asked of a running server from its other listener, the one for operators.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::Shared;
use super::history::History;
use super::readiness::{self, NotReady};

/// A running server, as far as operators may see it and act on it. Clones reach the same one. All
/// questions may be asked from any thread.
#[derive(Debug, Clone)]
pub(crate) struct ServerHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) history: Arc<History>,
    /// That of the server itself, for tasks that go on without whoever began them.
    pub(super) runtime: Handle,
}

impl ServerHandle {
    /// Reads the server's numbers from here on.
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let history = Arc::new(History::default());
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
}
