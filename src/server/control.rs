//! How a running server is told what to do, beside its stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, SetOnce};
use tokio_util::sync::CancellationToken;

/// Reaches one running server from outside of it. Clones reach the same one. What is said before the
/// server runs is done when it does.
#[derive(Debug, Clone, Default)]
pub struct Control {
    reload: Arc<Notify>,
    drain: CancellationToken,
    draining: Arc<SetOnce<Duration>>,
    drained: CancellationToken,
}

impl Control {
    /// Has the server read the files again that its settings name: users, passwords, certificates.
    /// Several calls before it gets to it are one.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Has the server give no new locks, and tell by [`Control::drained`] when none is held any more, or
    /// [`Config::drain_time`](crate::config::Config::drain_time) is over. Not taken back by anything.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ready when a drain has begun, whoever began it, with the time that it takes at most. Never, if there
    /// is none.
    pub async fn draining(&self) -> Duration {
        *self.draining.wait().await
    }

    /// Ready when the drain is over, whoever began it: time to stop the server. Never, if there is none.
    pub async fn drained(&self) {
        self.drained.cancelled().await;
    }

    /// Ready when [`Control::drain`] was called.
    pub(super) async fn drain_asked(&self) {
        self.drain.cancelled().await;
    }

    /// Has a drain end as soon as it is asked for. Never ready before that.
    #[cfg(feature = "cluster")]
    pub(crate) async fn drain_at_once(&self) {
        self.drain_asked().await;
        self.tell_draining(Duration::ZERO);
        self.tell_drained();
    }

    pub(super) fn tell_draining(&self, most: Duration) {
        // One drain is as good as another.
        let _ = self.draining.set(most);
    }

    pub(super) fn tell_drained(&self) {
        self.drained.cancel();
    }

    /// Ready when [`Control::reload`] was called, once for each call or several. For one listener.
    pub(super) async fn reload_asked(&self) {
        self.reload.notified().await;
    }
}
