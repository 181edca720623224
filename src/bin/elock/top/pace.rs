//! When the server is asked next: as often as was wished, and no more than it bears.

use std::time::{Duration, Instant};

/// A round may take one part in so many of the time, and so may its search for keys, so that whoever
/// looks is a small load.
const PARTS: u32 = 4;

/// Between two rounds passes at least so long, also if somebody holds a key down.
const LEAST: Duration = Duration::from_millis(250);

/// No pause is made longer than this because a round took long: by then another server may be there.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How often rounds are begun.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    interval: Duration,
}

impl Pace {
    /// By the wished interval.
    pub fn new(interval: Duration) -> Self {
        Self { interval }
    }

    /// How long after its beginning a round that took so long is followed by the next.
    pub fn interval(self, took: Duration) -> Duration {
        self.interval.max(with_rest(took))
    }

    /// The same, if somebody wants to see something else now.
    pub fn interval_at_once(self, took: Duration) -> Duration {
        LEAST.max(with_rest(took)).min(self.interval(took))
    }

    /// How long a round should take at most, so that the wished interval can be kept.
    pub fn time_of_round(self) -> Duration {
        (self.interval / (PARTS + 1)).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }

    /// How long to wait before a connection is tried again.
    pub fn retry(self) -> Duration {
        self.interval
            .clamp(Duration::from_millis(500), Duration::from_secs(5))
    }
}

/// What took so long is done again this long after its beginning at the earliest.
pub fn with_rest(took: Duration) -> Duration {
    let rest = took.saturating_mul(PARTS - 1).min(LONGEST_REST);
    took.saturating_add(rest)
}

/// This much later, or as late as can be told.
pub fn later(begin: Instant, interval: Duration) -> tokio::time::Instant {
    let latest = begin + Duration::from_secs(86_400);
    begin.checked_add(interval).unwrap_or(latest).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_rounds_are_fewer() {
        let pace = Pace::new(Duration::from_secs(1));
        let interval = |ms| pace.interval(Duration::from_millis(ms)).as_millis();
        assert_eq!(
            [0, 100, 250, 600].map(interval),
            [1_000, 1_000, 1_000, 2_400]
        );
        let at_once = |ms| pace.interval_at_once(Duration::from_millis(ms)).as_millis();
        assert_eq!([0, 100, 600].map(at_once), [250, 400, 2_400]);
        assert_eq!([2_000, 20_000].map(interval), [7_000, 25_000]);
        let quick = Pace::new(Duration::from_millis(100));
        assert_eq!(quick.interval_at_once(Duration::ZERO).as_millis(), 100);
    }
}
