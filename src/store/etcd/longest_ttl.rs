//! By which lease's time a leader reckons when those before it have given up.

use std::time::Duration;

use crate::cluster::{LONGEST_TTL, Leadership};

/// For how long a server may believe that it leads: this one, or one before it whose lease had another time.
#[derive(Debug)]
pub(super) struct LongestTtl {
    /// What the log says of those before.
    former: Duration,
    /// Until then, by the clock of the leadership.
    former_until: Duration,
}

impl LongestTtl {
    pub(super) fn new(leadership: &Leadership, former_ms: u64) -> Self {
        let former = Duration::from_millis(former_ms).min(LONGEST_TTL);
        Self {
            former,
            former_until: leadership.now() + Leadership::least_grace(former),
        }
    }

    pub(super) fn now(&self, leadership: &Leadership) -> Duration {
        match leadership.now() < self.former_until {
            true => self.former.max(leadership.ttl()),
            false => leadership.ttl(),
        }
    }
}
