//! What has happened since the start, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count of events, alone in its line of the processor's cache, so that threads which count
/// different events do not slow each other.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts so many more.
    pub fn add(&self, events: u64) {
        if events > 0 {
            self.0.fetch_add(events, Ordering::Relaxed);
        }
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters that `info` shows, from the start of the server on.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were served.
    pub connections: Counter,
    /// Grants of a lock to requests that did not wait.
    pub grants: Counter,
    /// Grants to requests that waited.
    pub handovers: Counter,
    /// Requests for a lock that were refused because others hold it.
    pub refusals: Counter,
    /// Those of them that had waited.
    pub timeouts: Counter,
    /// Requests that were refused because their wait would have been a deadlock.
    pub deadlocks: Counter,
    /// Leases that ended with their locks.
    pub lease_ends: Counter,
    /// Grace periods that ended with locks.
    pub grace_ends: Counter,
    /// Sessions that an operator ended.
    pub kicks: Counter,
    /// Grants that an operator took from their holders.
    pub revocations: Counter,
    /// Sessions that were resumed after a disconnect.
    pub resumes: Counter,
    /// Sessions that were taken over from a connection.
    pub takeovers: Counter,
}
