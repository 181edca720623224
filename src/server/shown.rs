//! Locks and sessions as they are shown, to clients that ask for them and to operators.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Shared;
use crate::access::User;
use crate::model::{Key, LockEntry, SessionEntry, SessionNumber, WaitsFor};
use crate::table::Waiter;

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
            waits_for: waiter.map(|waiter| waits_for(&waiter, now)),
        })
    }
}

fn waits_for(waiter: &Waiter, now: Instant) -> WaitsFor {
    WaitsFor {
        key: Key::new(waiter.key().as_bytes()),
        waited: now.saturating_duration_since(waiter.since()),
        left: waiter.until().saturating_duration_since(now),
    }
}
