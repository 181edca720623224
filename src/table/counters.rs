//! What has happened since the start, counted.

use crate::count::{Counter, Histogram};

/// What the table and those who use it count, from the start of the server on.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were served.
    pub connections: Counter,
    /// Connections that ended before they were served, as their TLS handshakes failed.
    pub tls_failures: Counter,
    /// How often a client had to rest, as more commands came than its address or its user may send.
    pub rests: Counter,
    /// Grants of a lock to requests that did not wait.
    pub grants: Counter,
    /// Grants to requests that waited.
    pub handovers: Counter,
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
    /// How long requests waited that were granted their lock.
    pub granted_waits: Histogram,
    /// How long requests waited that were not, whether their time was over or they left.
    pub other_waits: Histogram,
    /// How long grants lasted, from the moment when their token was given; if that is known.
    pub holds: Histogram,
}
