//! The answer to `debug`, which may be far larger than any buffer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::error;

use super::waiting::Interrupted;
use super::{Connection, Gone, LINES_A_TURN};
use crate::protocol::{Reply, put_debug_end, put_debug_start, put_lock, put_request, put_session};
use crate::server::transport::Transport;

/// How long one `debug` may take until the client has read it.
pub(super) const DEBUG_TIME: Duration = Duration::from_secs(300);

/// How many holders of one key are shown; more are only counted.
const SHOWN_HOLDERS: usize = 1000;

impl<S: Transport> Connection<S> {
    /// Writes sessions, locks and waiting requests, each as it is when its line is written: other
    /// clients go on meanwhile, so the lines do not show one moment.
    ///
    /// The lists take memory, so only [`DEBUGS_AT_ONCE`](crate::server::DEBUGS_AT_ONCE) run at one
    /// time, and each for a limited time; the others wait for their turn.
    pub(super) async fn debug(&mut self) -> Result<(), Gone> {
        self.flush().await?;
        let shared = Arc::clone(&self.shared);
        match self.wait_for(shared.debugs.acquire()).await? {
            Ok(_turn) => timeout(DEBUG_TIME, self.write_debug())
                .await
                .unwrap_or(Err(Gone::TooSlow)),
            Err(Interrupted::Stopping) => {
                self.reply(&Reply::ShuttingDown);
                Ok(())
            }
            Err(Interrupted::Overrun) => {
                self.refuse_overrun();
                Ok(())
            }
            Err(Interrupted::ClientLeft) => {
                self.reply(&Reply::Failed(
                    "The connection ended before debug had its turn",
                ));
                Ok(())
            }
        }
    }

    async fn write_debug(&mut self) -> Result<(), Gone> {
        // Listing and sorting a million keys takes a while, and must not hold up other connections.
        let shared = Arc::clone(&self.shared);
        let listed = tokio::task::spawn_blocking(move || {
            let table = &shared.table;
            (table.session_views(), table.keys(), table.waiters())
        });
        let (sessions, keys, waiters) = match listed.await {
            Ok(listed) => listed,
            Err(failure) => {
                error!("debug failed: {failure}");
                self.reply(&Reply::Failed("debug failed"));
                return Ok(());
            }
        };
        let now = self.shared.clock.now();
        put_debug_start(&mut self.output);
        for view in &sessions {
            put_session(&mut self.output, view, now);
            self.give_way().await?;
        }
        for key in &keys {
            let key = key.as_bytes();
            if let Some(view) = self.shared.table.lock_view(key, SHOWN_HOLDERS) {
                put_lock(&mut self.output, key, &view);
            }
            self.give_way().await?;
        }
        for waiter in waiters.iter().filter(|waiter| waiter.is_waiting()) {
            let waited = now.saturating_duration_since(waiter.since());
            let (session, key) = (waiter.session(), waiter.key().as_bytes());
            put_request(&mut self.output, session, key, waiter.mode(), waited);
            self.give_way().await?;
        }
        put_debug_end(&mut self.output);
        Ok(())
    }

    /// Counts a line of the listing, which may have millions, like one of a client's: others have
    /// their turn in between.
    async fn give_way(&mut self) -> Result<(), Gone> {
        self.lines_left = self.lines_left.saturating_sub(1);
        if self.lines_left == 0 {
            self.lines_left = LINES_A_TURN;
            tokio::task::yield_now().await;
        }
        self.flush_if_full().await
    }
}
