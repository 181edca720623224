//! What happens to a session when its connection ends.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Shared;
use crate::store::Seq;
use crate::table::{Detached, Grace, LockTable, Peer, Session};

/// How many locks are released before others get their turn: a tenth of a millisecond's work, as
/// there may be one worker for all.
const SLICE: usize = 250;

/// How long a slice may wait for the store.
const PATIENCE: Duration = Duration::from_millis(100);

/// A session in use. Should its task be torn down, wherever it is, the session ends with it: no
/// lock is ever held by nobody.
pub(super) struct Attached {
    shared: Arc<Shared>,
    /// `None` only once detached.
    session: Option<Session>,
}

/// Releases all locks of a session, in slices, so that a million of them stall nobody: neither in
/// memory nor in the store, where each slice is a commit that others' changes are part of.
pub(super) async fn unlock_all(table: &LockTable, session: &mut Session) {
    loop {
        let left = table.unlock_some(session, SLICE, Instant::now().into_std());
        if left == 0 {
            table.changes().write(session.seq());
            return;
        }
        give_way(table, session.seq()).await;
    }
}

/// Lets others have their turn, in the store as well: but not for longer if the disk hangs. Whoever
/// tells a client of the change looks once more whether it is durable.
pub(super) async fn give_way(table: &LockTable, seq: Seq) {
    if seq > table.changes().durable_up_to() {
        let _ = timeout(PATIENCE, table.changes().durable(seq)).await;
    }
    tokio::task::yield_now().await;
}

/// Waits until the grace period ends and releases what the session held, unless it is resumed or
/// the server stops before that.
pub(super) async fn sit_out(shared: Arc<Shared>, grace: Grace, stop: CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep_until(grace.ends.into()) => {}
        () = grace.resumed.notified() => return,
        () = stop.cancelled() => return,
    }
    let now = Instant::now().into_std();
    if let Some(session) = shared.table.end_grace(grace.number, now) {
        debug!(session = %grace.number, locks = session.held(), "grace period over");
        let mut over = Attached {
            shared: Arc::clone(&shared),
            session: Some(session),
        };
        // Boxed: most of the time this task's future is one that waits.
        Box::pin(unlock_all(&shared.table, &mut over)).await;
    }
}

impl Attached {
    pub(super) fn open(shared: &Arc<Shared>, peer: Peer) -> Self {
        let session = Some(shared.table.open(peer, shared.config.grace()));
        let shared = Arc::clone(shared);
        Self { shared, session }
    }

    /// Ends the session's connection. Without a grace period everything is released on return.
    pub(super) async fn detach(&mut self) -> Option<Grace> {
        let session = self.session.take()?;
        let over = match self.shared.table.detach(session, Instant::now().into_std()) {
            Detached::InGrace(grace) => return Some(grace),
            Detached::Over(session) => session,
            Detached::NoRoom { session, nth } => {
                let (number, locks) = (session.number(), session.held());
                // Where there is one there are thousands, and a log must not drown in them.
                if nth.is_power_of_two() {
                    warn!(
                        session = %number, locks, turned_away = nth,
                        "no room for a grace period: a session's locks are released at once"
                    );
                }
                session
            }
        };
        unlock_all(&self.shared.table, self.session.insert(over)).await;
        None
    }
}

impl Deref for Attached {
    type Target = Session;

    #[expect(
        clippy::expect_used,
        reason = "detach is the last thing done with a connection"
    )]
    fn deref(&self) -> &Session {
        self.session.as_ref().expect("attached")
    }
}

impl DerefMut for Attached {
    #[expect(
        clippy::expect_used,
        reason = "detach is the last thing done with a connection"
    )]
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("attached")
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.shared.table.end(session, Instant::now().into_std());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::table::{Locked, Mode, test_table};

    #[test]
    fn a_session_with_very_many_locks_gives_way_to_others_while_it_ends() {
        let table = test_table();
        let mut session = table.open(Peer::Unix(None), Duration::ZERO);
        for index in 0..50_000_u32 {
            let answer = table.lock(
                &mut session,
                &index.to_ne_bytes(),
                &Mode::Exclusive,
                Instant::now().into_std(),
            );
            assert_eq!(answer, Locked::Acquired);
        }
        let mut ending = pin!(unlock_all(&table, &mut session));
        // Polled by hand: each time it gives way is somebody else's turn.
        let mut context = Context::from_waker(Waker::noop());
        for turn in 1..50_000 / SLICE {
            assert!(ending.as_mut().poll(&mut context).is_pending());
            assert_eq!(table.held(), 50_000 - turn * SLICE);
        }
        assert!(ending.as_mut().poll(&mut context).is_ready());
        assert_eq!(table.held(), 0);
    }
}
