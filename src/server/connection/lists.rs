//! `locks` and `sessions`: what there is, in answers that are bounded whatever there is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::error;

use super::waiting::Interrupted;
use super::{Connection, Gone};
use crate::model::SessionNumber;
use crate::protocol::{
    KeysAsked, Reply, put_end, put_lock_entry, put_next_key, put_next_session, put_session_entry,
    put_start,
};
use crate::server::Shared;
use crate::server::transport::Transport;
use crate::table::{FirstKeys, LockKey};

/// How long one listing may take until the client has read it.
pub(super) const LISTING_TIME: Duration = Duration::from_secs(300);

/// How many locks or sessions one answer shows.
const PAGE: usize = 1000;

impl<S: Transport> Connection<S> {
    /// One of the `turns`, for which others may have to wait; `None` if the request was answered instead.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub(super) async fn turn(
        &mut self,
        turns: Arc<Semaphore>,
    ) -> Result<Option<OwnedSemaphorePermit>, Gone> {
        self.flush().await?;
        // Who need not wait is answered, also at the end of its input.
        if let Ok(turn) = Arc::clone(&turns).try_acquire_owned() {
            return Ok(Some(turn));
        }
        match self.wait_for(turns.acquire_owned()).await? {
            Ok(turn) => return Ok(turn.ok()),
            Err(Interrupted::Stopping) => self.reply(&Reply::ShuttingDown),
            Err(Interrupted::Overrun) => self.refuse_overrun(),
            Err(Interrupted::ClientLeft) => {
                self.reply(&Reply::Failed("The connection ended before its turn came"));
            }
        }
        Ok(None)
    }

    /// Counts a line of a listing, which may have millions, like one of a client's: others have their
    /// turn in between.
    pub(super) async fn give_way(&mut self) -> Result<(), Gone> {
        self.lines_left = self.lines_left.saturating_sub(1);
        if self.is_turn_over() {
            self.use_up_time();
            self.give_turn().await?;
            self.now = self.shared.clock.now();
        }
        if self.is_output_full() {
            // The time in which the client does not read is not the connection's.
            self.use_up_time();
            self.flush().await?;
            self.now = self.shared.clock.now();
        }
        Ok(())
    }

    /// As [`give_way`](Self::give_way) after a step that may have taken a good part of a turn.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub(super) async fn give_way_after_work(&mut self) -> Result<(), Gone> {
        self.use_up_time();
        if self.account.is_over_with(Duration::ZERO) {
            self.give_turn().await?;
            self.now = self.shared.clock.now();
        }
        match self.session.signal().is_cut_off() {
            Some(order) => Err(order.into()),
            None => Ok(()),
        }
    }

    /// The first locks, in the order of their keys, each as it is when its line is written.
    pub(super) async fn list_locks(
        &mut self,
        which: KeysAsked,
        after: Option<Vec<u8>>,
    ) -> Result<(), Gone> {
        let prefix = match which {
            KeysAsked::BeginWith(prefix) => prefix,
            KeysAsked::Are(key) => {
                self.list_lock(&key);
                return Ok(());
            }
        };
        self.within_its_time(async |connection| {
            let mut keys = connection.first_keys(&prefix, after.as_deref()).await?;
            let has_more = keys.len() > PAGE;
            keys.truncate(PAGE);
            put_start(&mut connection.output, "LOCKS");
            for key in &keys {
                connection.put_lock(key.as_bytes());
                connection.give_way().await?;
            }
            if let (true, Some(last)) = (has_more, keys.last()) {
                put_next_key(&mut connection.output, last.as_bytes());
            }
            put_end(&mut connection.output);
            Ok(())
        })
        .await
    }

    /// The first keys that are there for the user, one more than a page has.
    async fn first_keys(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Result<Vec<LockKey>, Gone> {
        // The answers before this one should not wait for it.
        self.flush().await?;
        self.now = self.shared.clock.now();
        let mut first = FirstKeys::new(prefix, after, PAGE + 1);
        for slice in self.shared.table.slices() {
            first.look_at(self.shared.table.keys_of(slice), |key| self.may_see(key));
            self.give_way_after_work().await?;
        }
        Ok(first.into_sorted())
    }

    /// The lock of this very key, for which nothing has to be searched.
    fn list_lock(&mut self, key: &[u8]) {
        put_start(&mut self.output, "LOCKS");
        self.put_lock(key);
        put_end(&mut self.output);
    }

    /// The key's line, if it is held and there for the user.
    fn put_lock(&mut self, key: &[u8]) {
        if !self.may_see(key) {
            return;
        }
        if let Some(entry) = self.shared.lock_entry(key) {
            put_lock_entry(&mut self.output, &entry);
        }
    }

    /// The first sessions, in the order of their numbers, each as it is when its line is written.
    pub(super) async fn list_sessions(&mut self, after: SessionNumber) -> Result<(), Gone> {
        let find = move |shared: &Shared| shared.table.sessions_after(after, PAGE + 1);
        let Some(mut numbers) = self.searched(find).await? else {
            return Ok(());
        };
        let has_more = numbers.len() > PAGE;
        numbers.truncate(PAGE);
        self.within_its_time(async move |connection| {
            put_start(&mut connection.output, "SESSIONS");
            for number in &numbers {
                let entry = connection
                    .user
                    .as_ref()
                    .and_then(|user| connection.shared.session_entry(*number, user));
                if let Some(entry) = entry {
                    let now = connection.shared.clock.now();
                    put_session_entry(&mut connection.output, &entry, now);
                }
                connection.give_way().await?;
            }
            if let (true, Some(last)) = (has_more, numbers.last()) {
                put_next_session(&mut connection.output, *last);
            }
            put_end(&mut connection.output);
            Ok(())
        })
        .await
    }

    /// What `find` finds among all that there is: a million keys take a while, so only
    /// [`SEARCHES_AT_ONCE`](crate::server::SEARCHES_AT_ONCE) run at one time. What is found is small, so
    /// that a client which reads it slowly keeps nobody waiting. `None` if the request was answered.
    pub(super) async fn searched<T: Send + 'static>(
        &mut self,
        find: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<Option<T>, Gone> {
        let turns = Arc::clone(&self.shared.searches);
        match self.turn(turns).await? {
            Some(_turn) => Ok(self.found(find).await),
            None => Ok(None),
        }
    }

    /// Writes a listing, for which its client has a limited time.
    pub(super) async fn within_its_time(
        &mut self,
        write: impl AsyncFnOnce(&mut Self) -> Result<(), Gone>,
    ) -> Result<(), Gone> {
        self.now = self.shared.clock.now();
        let written = timeout(LISTING_TIME, write(self)).await;
        self.use_up_time();
        written.unwrap_or(Err(Gone::TooSlow))
    }

    /// Runs `find` on a thread of its own; `None` if it fails, and the request is answered.
    async fn found<T: Send + 'static>(
        &mut self,
        find: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Option<T> {
        let shared = Arc::clone(&self.shared);
        let find = move || {
            let begin = Instant::now();
            (find(&shared), begin.elapsed())
        };
        match tokio::task::spawn_blocking(find).await {
            Ok((found, took)) => {
                self.account.use_up(took);
                Some(found)
            }
            Err(failure) => {
                error!("a listing failed: {failure}");
                self.reply(&Reply::Failed("The listing failed"));
                None
            }
        }
    }
}
