//! The answer to `debug`, which may be far larger than any buffer.

use std::sync::Arc;

use super::{Connection, Gone};
use crate::model::SessionNumber;
use crate::protocol::{put_end, put_lock, put_request, put_session, put_start};
use crate::server::Shared;
use crate::server::transport::Transport;
use crate::table::{RUN, SortedKeys};

/// How many holders of one key are shown; more are only counted.
const SHOWN_HOLDERS: usize = 1000;

impl<S: Transport> Connection<S> {
    /// Writes sessions, locks and waiting requests, each as it is when its line is written: other
    /// clients go on meanwhile, so the lines do not show one moment.
    ///
    /// The lists take memory until the client has read them, so only
    /// [`DEBUGS_AT_ONCE`](crate::server::DEBUGS_AT_ONCE) run at one time, and each for a limited time; the
    /// others wait for their turn.
    pub(super) async fn debug(&mut self) -> Result<(), Gone> {
        let turns = Arc::clone(&self.shared.debugs);
        let Some(_turn) = self.turn(turns).await? else {
            return Ok(());
        };
        let mut keys = SortedKeys::default();
        let written = self
            .within_its_time(async |connection| connection.write_debug(&mut keys).await)
            .await;
        if keys.next().is_some() {
            // The client has left before the end. To free a million keys takes a while, too.
            drop(tokio::task::spawn_blocking(move || drop(keys)));
        }
        written
    }

    async fn write_debug(&mut self, keys: &mut SortedKeys) -> Result<(), Gone> {
        let find = |shared: &Shared| {
            let table = &shared.table;
            let sessions = table.sessions_after(SessionNumber(0), usize::MAX);
            (sessions, table.waiters())
        };
        let Some((sessions, waiters)) = self.searched(find).await? else {
            return Ok(());
        };
        self.sort_keys(keys).await?;
        let now = self.shared.clock.now();
        put_start(&mut self.output, "DEBUG");
        for number in sessions {
            if let Some(view) = self.shared.table.session_view(number)
                && self.may_see_session_of(view.user.as_ref())
            {
                put_session(&mut self.output, &view, now);
            }
            self.give_way().await?;
        }
        for key in keys {
            let key = key.as_bytes();
            if self.may_see(key)
                && let Some(view) = self.shared.table.lock_view(key, SHOWN_HOLDERS)
            {
                put_lock(&mut self.output, key, &view);
            }
            self.give_way().await?;
        }
        for waiter in waiters.iter().filter(|waiter| waiter.is_waiting()) {
            let waited = self.shared.table.waited(waiter, now);
            let (session, key) = (waiter.session(), waiter.key().as_bytes());
            if self.may_see(key) {
                put_request(&mut self.output, session, key, waiter.ask(), waited);
            }
            self.give_way().await?;
        }
        put_end(&mut self.output);
        Ok(())
    }

    async fn sort_keys(&mut self, sorted: &mut SortedKeys) -> Result<(), Gone> {
        self.now = self.shared.clock.now();
        for slice in self.shared.table.slices() {
            let mut keys: Vec<_> = self.shared.table.keys_of(slice).collect();
            while !keys.is_empty() {
                sorted.add_run(keys.split_off(keys.len().saturating_sub(RUN)));
                self.give_way_after_work().await?;
            }
        }
        Ok(())
    }
}
