//! How much the lock table takes.

use std::time::Duration;

/// The bounds of a lock table. Each is an answer when it is reached.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Locks in all: a shared one counts once for each holder, and a request that waits counts
    /// as the lock that it may get.
    pub locks: usize,
    /// Keys held by one session.
    pub locks_per_session: usize,
    /// Requests that wait for one key.
    pub waiters_per_key: usize,
    /// Sessions in their grace period.
    pub sessions_in_grace: usize,
    /// The longest lease, which every grant begins with; `None`: a lock has no lease unless its
    /// holder asks for one.
    pub max_hold: Option<Duration>,
}

/// A bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::locks`].
    Locks {
        /// The bound.
        max: usize,
    },
    /// [`Limits::locks_per_session`].
    LocksPerSession {
        /// The bound.
        max: usize,
    },
    /// [`Limits::waiters_per_key`].
    WaitersPerKey {
        /// The bound.
        max: usize,
    },
}
