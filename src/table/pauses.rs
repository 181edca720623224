//! The time in which the server did not run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long the server stood still since its start, in all. The times that the table is given leave these
/// pauses out, since leases and grace periods do not run in them; what is shown of the past counts them, as
/// people's clocks went on. A clone is the same ones.
#[derive(Debug, Clone, Default)]
pub struct Pauses(Arc<AtomicU64>);

impl Pauses {
    /// Adds one.
    pub fn add(&self, pause: Duration) {
        let ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(ns, Ordering::AcqRel);
    }

    /// How long all of them were together.
    pub fn in_all(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Acquire))
    }
}
