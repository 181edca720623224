//! What happens to a session when its connection ends.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::table::{Detached, Grace, LockTable, Peer, Session};

/// How many locks are released before others get their turn: a fraction of a millisecond's work.
const SLICE: usize = 1000;

/// A session in use. Should its task be torn down without [`Attached::detach`], the session ends
/// with it, so that no lock is held by nobody.
pub(super) struct Attached<'a> {
    table: &'a LockTable,
    /// `None` only once detached.
    session: Option<Session>,
}

/// Releases all locks of a session, in slices, so that a million of them stall nobody.
pub(super) async fn unlock_all(table: &LockTable, session: &mut Session) {
    while table.unlock_some(session, SLICE) > 0 {
        tokio::task::yield_now().await;
    }
}

/// Waits until the grace period ends and releases what the session held, unless it is resumed or
/// the server stops before that.
pub(super) async fn sit_out(table: &LockTable, grace: Grace, shutdown: impl Future<Output = ()>) {
    tokio::select! {
        () = tokio::time::sleep_until(grace.ends.into()) => {}
        () = grace.resumed.notified() => return,
        () = shutdown => return,
    }
    if let Some(mut session) = table.expire(grace.number, Instant::now().into_std()) {
        debug!(session = %grace.number, locks = session.held(), "grace period over");
        unlock_all(table, &mut session).await;
    }
}

impl<'a> Attached<'a> {
    pub(super) fn open(table: &'a LockTable, peer: Peer, grace: Duration) -> Self {
        let session = Some(table.open(peer, grace));
        Self { table, session }
    }

    /// Ends the session's connection. Without a grace period everything is released on return.
    pub(super) async fn detach(&mut self) -> Option<Grace> {
        let session = self.session.take()?;
        let mut over = match self.table.detach(session, Instant::now().into_std()) {
            Detached::InGrace(grace) => return Some(grace),
            Detached::Over(session) => session,
            Detached::NoRoom(session) => {
                let (number, locks) = (session.number(), session.held());
                warn!("no room for a grace period: {number} loses its {locks} locks at once");
                session
            }
        };
        unlock_all(self.table, &mut over).await;
        None
    }
}

impl Deref for Attached<'_> {
    type Target = Session;

    #[expect(
        clippy::expect_used,
        reason = "detach is the last thing done with a connection"
    )]
    fn deref(&self) -> &Session {
        self.session.as_ref().expect("attached")
    }
}

impl DerefMut for Attached<'_> {
    #[expect(
        clippy::expect_used,
        reason = "detach is the last thing done with a connection"
    )]
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("attached")
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.table.end(session);
        }
    }
}
