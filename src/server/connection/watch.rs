//! `watch`: who holds a key, once that is another than the client knows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::waiting::Interrupted;
use super::{Connection, Gone};
use crate::model::Key;
use crate::protocol::{KnownState, Reply};
use crate::server::transport::Transport;
use crate::table::Watch;

impl<S: Transport> Connection<S> {
    /// Answers with the state of the key: at once, or when it is not the one that is known, or when
    /// the time is over.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub(super) async fn watch(
        &mut self,
        key: Key,
        known: Option<KnownState>,
        wait: Duration,
    ) -> Result<(), Gone> {
        let shared = Arc::clone(&self.shared);
        let state = shared.table.state(key.as_bytes());
        if wait.is_zero() || self.input_ended || !is_known(&state, known) {
            self.tell_state(state);
            return Ok(());
        }
        self.flush().await?;
        let watcher = shared.table.watch(key.as_bytes());
        let other = watcher.until(|state| !is_known(state, known));
        match self.wait_for(timeout(wait, other)).await? {
            Ok(Ok(state)) => self.tell_state(state),
            // The time is over, or the client has ended its input: it is told what is so now.
            Ok(Err(_)) | Err(Interrupted::ClientLeft) => {
                self.tell_state(shared.table.state(key.as_bytes()));
            }
            Err(Interrupted::Stopping) => self.reply(&Reply::ShuttingDown),
            Err(Interrupted::Overrun) => self.refuse_overrun(),
        }
        Ok(())
    }

    fn tell_state(&mut self, state: Watch) {
        self.reply(&Reply::State(match state {
            Watch::Free => None,
            Watch::Held(holder, token) => Some((holder, token)),
        }));
    }
}

fn is_known(state: &Watch, known: Option<KnownState>) -> bool {
    match (state, known) {
        (Watch::Free, Some(KnownState::Free)) => true,
        (Watch::Held(_, token), Some(KnownState::Held(known))) => *token == known,
        _ => false,
    }
}
