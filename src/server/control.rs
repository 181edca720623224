//! How a running server is told what to do, beside its stop.

use std::sync::Arc;

use tokio::sync::Notify;

/// Reaches one running server from outside of it. Clones reach the same one. What is said before the
/// server runs is done when it does.
#[derive(Debug, Clone, Default)]
pub struct Control {
    reload: Arc<Notify>,
}

impl Control {
    /// Has the server read the files again that its settings name: users, passwords, certificates.
    /// Several calls before it gets to it are one.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Ready when [`Control::reload`] was called, once for each call or several. For one listener.
    pub(super) async fn reload_asked(&self) {
        self.reload.notified().await;
    }
}
