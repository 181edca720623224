//! What is shown of a server, to clients that ask for it and to operators.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Shared;
use crate::model::{Key, LockEntry, SessionEntry, SessionNumber, WaitsFor};
use crate::protocol::{Fact, Info};
use crate::table::Waiter;

/// How many holders and how many waiters of one key are shown; more are only counted.
const SHOWN: usize = 10;

/// How many numbers a server is shown in.
pub(crate) const NUMBERS: usize = 19;

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

    /// A session as it is now, unless it is over.
    pub(super) fn session_entry(&self, number: SessionNumber) -> Option<SessionEntry> {
        let (view, waiter) = self.table.session_view(number)?;
        let now = self.clock.now();
        Some(SessionEntry {
            idle: view.active.map(|active| self.clock.since(active)),
            view,
            waits_for: waiter.map(|waiter| waits_for(&waiter, now)),
        })
    }

    /// The server in facts and numbers.
    pub(super) fn info(&self) -> Info {
        let store = match self.table.changes().are_kept() {
            true => "disk",
            false => "memory",
        };
        let storing = self.table.changes().refusal();
        let storing = storing.map_or_else(|| "yes".to_owned(), |reason| reason.to_string());
        let max_hold = self.table.max_hold();
        let max_hold_ms = max_hold.map_or(0, |hold| hold.as_millis() as u64);
        let facts = [
            ("version", Fact::Text(env!("CARGO_PKG_VERSION").to_owned())),
            ("instance", Fact::Text(format!("{:032x}", self.instance))),
            (
                "uptime_seconds",
                Fact::Number(self.start.elapsed().as_secs()),
            ),
            ("store", Fact::Text(store.to_owned())),
            ("storing", Fact::Text(storing)),
            ("max_hold_ms", Fact::Number(max_hold_ms)),
        ];
        let numbers = self.numbers();
        let numbers = numbers.map(|(name, number)| (name, Fact::Number(number)));
        Info(facts.into_iter().chain(numbers).collect())
    }

    /// Levels at this time, and counters since the start.
    pub(super) fn numbers(&self) -> [(&'static str, u64); NUMBERS] {
        let (table, counters) = (&self.table, self.table.counters());
        let (sessions, connected) = table.session_counts();
        let (commits, store_bytes) = table.changes().commits_and_bytes();
        [
            ("sessions", sessions as u64),
            ("connected_sessions", connected as u64),
            ("locks", table.held() as u64),
            ("waiters", table.waiting() as u64),
            ("watchers", table.watching() as u64),
            ("connections", counters.connections.get()),
            ("grants", counters.grants.get() + counters.handovers.get()),
            ("hand_overs", counters.handovers.get()),
            ("refusals", counters.refusals.get()),
            ("timeouts", counters.timeouts.get()),
            ("deadlocks", counters.deadlocks.get()),
            ("lease_ends", counters.lease_ends.get()),
            ("grace_ends", counters.grace_ends.get()),
            ("kicks", counters.kicks.get()),
            ("revocations", counters.revocations.get()),
            ("resumes", counters.resumes.get()),
            ("take_overs", counters.takeovers.get()),
            ("commits", commits),
            ("store_bytes", store_bytes),
        ]
    }
}

fn waits_for(waiter: &Waiter, now: Instant) -> WaitsFor {
    WaitsFor {
        key: Key::new(waiter.key().as_bytes()),
        waited: now.saturating_duration_since(waiter.since()),
        left: waiter.until().saturating_duration_since(now),
    }
}
