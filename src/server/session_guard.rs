//! Ends a session in every case: when its connection ends, and when its task is torn down.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{error, warn};

use super::Shared;
use super::arrival::Arrival;
use super::connection::Gone;
use super::log_lines;
use crate::model::Seq;
use crate::table::{Basis, Detached, Grace, LockTable, Session};

/// How many locks are released before other tasks get their turn: a tenth of a millisecond's work,
/// as one worker may run all tasks.
pub(super) const SLICE: usize = 250;

/// How long the next slice waits for the store at most.
const PATIENCE: Duration = Duration::from_millis(100);

/// A session in use. If its task is torn down, wherever it is, the session ends with it: no lock
/// stays held without a session that can release it.
pub(super) struct SessionGuard {
    shared: Arc<Shared>,
    /// `None` only once detached.
    session: Option<Session>,
}

/// A session that is over and not yet released. If its task is torn down, the rest of its locks are
/// released at once. Then whoever has ended the session is told.
struct OverGuard<'a> {
    shared: &'a Shared,
    session: Session,
}

/// Releases all locks of a session in slices, so that a million locks stall no other client:
/// neither in memory nor in the store, where each slice is a commit shared with other clients'
/// changes. Returns what an answer about the last release rests on.
pub(super) async fn unlock_all(shared: &Shared, session: &mut Session) -> Basis {
    let table = &shared.table;
    loop {
        let left = table.unlock_some(session, SLICE, shared.clock.now());
        let seq = left.basis.seq();
        if left.value == 0 {
            table.changes().write(seq);
            return left.basis;
        }
        give_way(table, seq).await;
    }
}

/// Frees the entries of locks that the session has lost, in slices, for the same reason.
pub(super) async fn tidy(shared: &Shared, session: &mut Session) {
    while shared.table.tidy_some(session, SLICE) {
        tokio::task::yield_now().await;
    }
}

/// Lets other tasks have their turn, and the store write its changes up to `seq`, but does not wait
/// for a disk that hangs. So a caller that answers a client looks again whether the change is
/// durable.
pub(super) async fn give_way(table: &LockTable, seq: Seq) {
    if seq > table.changes().durable_up_to() {
        let _ = timeout(PATIENCE, table.changes().durable(seq)).await;
    }
    tokio::task::yield_now().await;
}

/// Releases all locks of a session that is over.
pub(super) async fn release_over(shared: &Shared, session: Session) {
    let mut over = OverGuard { shared, session };
    unlock_all(shared, &mut over.session).await;
}

/// As [`release_over`], in a task of its own.
pub(super) async fn release_kicked(shared: Arc<Shared>, session: Session) {
    release_over(&shared, session).await;
}

impl SessionGuard {
    pub(super) fn open(shared: &Arc<Shared>, arrival: &Arrival) -> Self {
        let Arrival {
            peer, user, places, ..
        } = arrival;
        let mut session = shared.table.open(*peer, shared.config.grace());
        if let Some(name) = user.as_ref().and_then(|user| user.name()) {
            shared.table.set_user(&mut session, name.clone());
        }
        shared.table.count_on(&mut session, places.accounts());
        let (shared, session) = (Arc::clone(shared), Some(session));
        Self { shared, session }
    }

    /// Ends the session's connection. Without a grace period all locks are released on return.
    /// While the server stops no session ends.
    pub(super) async fn detach(&mut self, gone: &Gone) -> Option<Grace> {
        let shared = &self.shared;
        let session = self.session.take()?;
        let identity = shared.table.identity(session.number());
        let over = match shared.table.detach(session, shared.clock.now()) {
            Detached::InGrace(grace) => return Some(grace),
            Detached::Stopping => return None,
            Detached::Kicked(session) => {
                if let Some(identity) = identity {
                    let why = "an operator has ended the session";
                    log_lines::session_ended(shared, &session, &identity, why);
                }
                session
            }
            Detached::Over(session) => {
                if let (Some(identity), true) = (identity, gone.is_not_the_clients_will()) {
                    log_lines::session_ended(shared, &session, &identity, &gone.to_string());
                }
                session
            }
            Detached::NoRoom { session, nth } => {
                // Where one finds no room, thousands may, and the log must not drown in them.
                if nth.is_power_of_two() {
                    warn!(
                        turned_away = nth,
                        "no room for a grace period (--max-grace-sessions, or a bound of the address \
                         or the user)"
                    );
                }
                if let Some(identity) = identity {
                    let why = "there was no room for a grace period";
                    log_lines::session_ended(shared, &session, &identity, why);
                }
                session
            }
        };
        release_over(shared, over).await;
        None
    }

    /// Ends a session that has done what it was there for, and holds nothing.
    #[cfg(feature = "admin")]
    pub(super) fn close(&mut self) {
        if let Some(session) = self.session.take() {
            self.shared.table.close(session);
        }
    }
}

impl Deref for SessionGuard {
    type Target = Session;

    #[expect(
        clippy::expect_used,
        reason = "detach is the last thing done with a connection"
    )]
    fn deref(&self) -> &Session {
        self.session.as_ref().expect("attached")
    }
}

impl DerefMut for SessionGuard {
    #[expect(
        clippy::expect_used,
        reason = "detach is the last thing done with a connection"
    )]
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("attached")
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let Shared { table, clock, .. } = &*self.shared;
            unless_broken(|| table.end(session, clock.now()));
        }
    }
}

impl Drop for OverGuard<'_> {
    fn drop(&mut self) {
        if self.session.held() > 0 {
            let Shared { table, clock, .. } = self.shared;
            let session = &mut self.session;
            unless_broken(|| {
                let released = table.unlock_some(session, usize::MAX, clock.now());
                table.changes().write(released.basis.seq());
            });
        }
        self.shared.table.end_kicked(self.session.number());
    }
}

/// Ends a session after its task was torn down, perhaps by the panic of a broken invariant. `end`
/// may meet the same invariant, and a second panic would end the whole server. A lock that is not
/// released then stays refused.
fn unless_broken(end: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(end)).is_err() {
        error!("a session could not be ended: what it holds stays locked until a restart");
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::model::{Mode, Peer};
    use crate::server::harness::Server;
    use crate::table::Locked;

    #[tokio::test]
    async fn a_session_with_very_many_locks_gives_way_to_others_while_it_ends() {
        let server = Server::start();
        let (shared, table) = (&server.shared, &server.shared.table);
        let mut session = table.open(Peer::Unix(None), Duration::ZERO);
        for index in 0..50_000_u32 {
            let key = index.to_ne_bytes();
            let answer = table.try_acquire(
                &mut session,
                &key,
                &Mode::Exclusive.into(),
                shared.clock.now(),
            );
            assert_eq!(answer.expect("no store").value, Locked::Acquired);
        }
        let mut ending = pin!(unlock_all(shared, &mut session));
        // Polled by hand: each time it yields is another task's turn.
        let mut context = Context::from_waker(Waker::noop());
        for turn in 1..50_000 / SLICE {
            assert!(ending.as_mut().poll(&mut context).is_pending());
            assert_eq!(table.held(), 50_000 - turn * SLICE);
        }
        assert!(ending.as_mut().poll(&mut context).is_ready());
        assert_eq!(table.held(), 0);
    }
}
