//! The answer to `debug`, which may be far larger than any buffer.

use std::future::Future;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tracing::error;

use super::connection::{Connection, Gone};
use crate::protocol::{Reply, put_debug_end, put_debug_start, put_lock, put_request, put_session};

impl<S, F> Connection<'_, S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    /// Writes sessions, locks and waiting requests as they are when each line is written; while
    /// others go on, that is not one moment for all lines.
    pub(super) async fn debug(&mut self) -> Result<(), Gone> {
        self.flush().await?;
        let Ok(_turn) = self.shared.debugs.acquire().await else {
            return self.reply(&Reply::ShuttingDown);
        };
        // Listing and sorting a million keys takes a while, which no other connection should feel.
        let shared = Arc::clone(self.shared);
        let listed = tokio::task::spawn_blocking(move || {
            (shared.table.session_views(), shared.table.keys())
        });
        let (sessions, keys) = match listed.await {
            Ok(listed) => listed,
            Err(failure) => {
                error!("debug failed: {failure}");
                return self.reply(&Reply::Failed("debug failed"));
            }
        };
        let now = Instant::now().into_std();
        put_debug_start(&mut self.output);
        for view in &sessions {
            put_session(&mut self.output, view, now);
            self.flush_if_full().await?;
        }
        for key in &keys {
            if let Some(view) = self.shared.table.lock_view(key) {
                put_lock(&mut self.output, key, &view);
                self.flush_if_full().await?;
            }
        }
        for waiter in self.shared.table.waiters() {
            put_request(&mut self.output, &waiter, now);
            self.flush_if_full().await?;
        }
        put_debug_end(&mut self.output);
        Ok(())
    }
}
