//! What may be asked of a running server from its other listener, the one for operators.

use std::sync::Arc;

use super::Shared;

/// A running server, as far as the admin listener may see it and act on it. Clones reach the same one.
#[derive(Debug, Clone)]
pub(crate) struct ServerHandle {
    _shared: Arc<Shared>,
}

impl ServerHandle {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let _shared = Arc::clone(shared);
        Self { _shared }
    }
}
