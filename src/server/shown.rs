//! Locks and sessions as they are shown, to clients that ask for them and to operators.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Shared;
use crate::access::User;
use crate::model::{Key, LockEntry, SessionEntry, SessionNumber, WaitsFor};

/// How many holders and how many waiters of one key are shown; more are only counted.
const SHOWN: usize = 10;

/// The time since the beginning of 1970, for people.
pub(super) fn unix_now() -> Duration {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    unix.unwrap_or_default()
}

impl Shared {
    /// A lock as it is now, if it is held.
    pub(super) fn lock_entry(&self, key: &[u8]) -> Option<LockEntry> {
        let now = (self.clock.now(), unix_now());
        self.table.lock_entry(key, SHOWN, now)
    }

    /// A session as it is now, unless it is over, or not there for the user who asks.
    pub(super) fn session_entry(&self, number: SessionNumber, asks: &User) -> Option<SessionEntry> {
        let view = self.table.session_view(number)?;
        if !asks.sees_sessions_of(view.user.as_ref()) {
            return None;
        }
        // A reload may have narrowed what the user may see since the wait began.
        let waiter = self.table.waiter_of(number);
        let waiter = waiter.filter(|waiter| asks.allows(waiter.key().as_bytes()));
        let now = self.clock.now();
        Some(SessionEntry {
            idle: view.active.map(|active| self.clock.since(active)),
            view,
            waits_for: waiter.map(|waiter| WaitsFor {
                key: Key::new(waiter.key().as_bytes()),
                waited: self.table.waited(&waiter, now),
                left: self.table.wait_left(&waiter, now),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::server::clock::keep_time;
    use crate::server::harness::Server;

    const SECOND: Duration = Duration::from_secs(1);

    /// The machine was paused: who holds a lock holds it since the same time of day as before, and who waits
    /// has waited longer, and will no longer than before.
    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_server_moves_no_beginning() {
        let server = Server::start_timed();
        let shared = &server.shared;
        let [mut a, mut b] = [(); 2].map(|()| server.connect());
        a.ask("lock k", "200 Acquired").await;
        a.ask("expire k 100000", "200 OK").await;
        b.send("lock k 90").await;
        server.until_waiting(1).await;
        let seen = || async {
            tokio::select! {
                () = keep_time(&shared.clock, || {}) => unreachable!("it beats for ever"),
                () = sleep(SECOND) => {}
            }
            let entry = shared.lock_entry(b"k").expect("held");
            let (holder, waiter) = (&entry.holders[0], &entry.first_waiters[0]);
            let (held, since) = (holder.held.expect("known"), holder.since.expect("known"));
            let now = held + since;
            assert!(unix_now().abs_diff(now) < 10 * SECOND, "{now:?}");
            let lease = holder.lease_left.expect("a lease");
            [held, lease, waiter.waited, waiter.left].map(|time| time.as_secs_f64().round())
        };
        assert_eq!(seen().await, [1.0, 99.0, 1.0, 89.0]);
        advance(8 * SECOND).await;
        assert_eq!(seen().await, [10.0, 98.0, 10.0, 80.0]);
        server.stop().await;
    }
}
