//! How long things took, counted by powers of two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The first bucket is of durations up to 2 to this power, in microseconds: shorter ones are all alike.
const FIRST_POWER: u32 = 4;

/// How many buckets have a bound: the last one's is 2 to the power of 32 microseconds, or 72 minutes.
const BOUNDED: usize = 29;

/// Durations since the start of the server, by how long they were. Any number of threads may add to it at
/// once; a reader may see a sum that is ahead of the counts, or behind them, by what is being added.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last bucket is of durations that are longer than all bounds.
    buckets: [AtomicU64; BOUNDED + 1],
    /// In tenths of microseconds, which last for 58,000 years.
    sum_ticks: AtomicU64,
}

/// Durations of one bucket that are not in their histogram yet. To add each by itself would cost more than
/// what is measured, where that is an uncontended lock.
#[derive(Debug, Default)]
pub struct Batch {
    bucket: u8,
    count: u32,
    sum_ticks: u64,
}

/// What a histogram has counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Durations {
    /// The upper bound of each bucket in seconds, and how many durations are in it and in no bucket before;
    /// the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all durations in seconds.
    pub sum_seconds: f64,
}

impl Histogram {
    /// Counts this duration.
    pub fn add(&self, duration: Duration) {
        let ticks = (duration.as_nanos() / 100) as u64;
        self.add_some(bucket(ticks), 1, ticks);
    }

    /// Counts a duration of so many tenths of microseconds, but perhaps not before
    /// [`Histogram::add_rest`].
    #[inline]
    pub fn add_later(&self, batch: &mut Batch, ticks: u64) {
        if !has(batch.bucket.into(), ticks) {
            self.add_rest(batch);
            batch.bucket = bucket(ticks) as u8;
        }
        batch.count += 1;
        batch.sum_ticks += ticks;
    }

    /// Counts what `batch` has.
    pub fn add_rest(&self, batch: &mut Batch) {
        if batch.count > 0 {
            self.add_some(batch.bucket.into(), batch.count.into(), batch.sum_ticks);
            (batch.count, batch.sum_ticks) = (0, 0);
        }
    }

    fn add_some(&self, bucket: usize, count: u64, sum_ticks: u64) {
        self.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        self.sum_ticks.fetch_add(sum_ticks, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub fn durations(&self) -> Durations {
        let counts = self.buckets.iter().enumerate();
        let buckets = counts.map(|(bucket, count)| (bound(bucket), count.load(Ordering::Relaxed)));
        Durations {
            buckets: buckets.collect(),
            sum_seconds: self.sum_ticks.load(Ordering::Relaxed) as f64 / 1e7,
        }
    }
}

impl Durations {
    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

/// The first bucket whose bound is not below this duration in tenths of microseconds.
fn bucket(ticks: u64) -> usize {
    let micros = ticks.div_ceil(10);
    let power = u64::BITS - micros.saturating_sub(1).leading_zeros();
    (power.saturating_sub(FIRST_POWER) as usize).min(BOUNDED)
}

/// Whether this is the [bucket] of the duration.
#[inline]
fn has(bucket: usize, ticks: u64) -> bool {
    let bound_ticks = 10_u64 << (FIRST_POWER as usize + bucket);
    let is_above = ticks > bound_ticks / 2 || bucket == 0;
    is_above && (ticks <= bound_ticks || bucket == BOUNDED)
}

fn bound(bucket: usize) -> f64 {
    match bucket {
        BOUNDED => f64::INFINITY,
        _ => (1_u64 << (FIRST_POWER + bucket as u32)) as f64 / 1e6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_of(duration: Duration) -> Vec<(f64, u64)> {
        let histogram = Histogram::default();
        histogram.add(duration);
        let mut buckets = histogram.durations().buckets;
        buckets.retain(|(_, count)| *count > 0);
        buckets
    }

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_is_not_below_it() {
        let nanos = Duration::from_nanos;
        for (duration, bound) in [
            (nanos(0), 0.000_016),
            (nanos(16_000), 0.000_016),
            (nanos(16_100), 0.000_032),
            (nanos(32_000), 0.000_032),
            (Duration::from_secs(1), 1.048_576),
            (Duration::from_micros(1 << 32), 4_294.967_296),
            (nanos((1 << 32) * 1000 + 100), f64::INFINITY),
            (Duration::from_secs(500 * 365 * 24 * 3600), f64::INFINITY),
        ] {
            assert_eq!(count_of(duration), [(bound, 1)], "{duration:?}");
            let ticks = (duration.as_nanos() / 100) as u64;
            for bucket in 0..=BOUNDED {
                assert_eq!(
                    has(bucket, ticks),
                    bucket == super::bucket(ticks),
                    "{duration:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_added_later_is_the_same_as_what_is_added_at_once() {
        let (at_once, later) = (Histogram::default(), Histogram::default());
        let mut batch = Batch::default();
        for millis in [1, 1, 1, 5_000, 1, 7, 7] {
            at_once.add(Duration::from_millis(millis));
            later.add_later(&mut batch, millis * 10_000);
        }
        assert_ne!(at_once.durations(), later.durations());
        later.add_rest(&mut batch);
        later.add_rest(&mut batch);
        assert_eq!(at_once.durations(), later.durations());
        assert_eq!(at_once.durations().count(), 7);
        assert_eq!(at_once.durations().sum_seconds, 5.018);
    }
}
