//! How often something happened.

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
