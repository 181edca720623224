//! The server's counters over time: rates, sums since this program began to look, and the past minutes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use elock_client::listing::Info;

/// The counters of `info` that are shown.
const COUNTED: [&str; 8] = [
    "connections",
    "grants",
    "hand_overs",
    "refusals",
    "timeouts",
    "deadlocks",
    "lease_ends",
    "grace_ends",
];

/// How much time one column of the past stands for, at least.
pub const COLUMN: Duration = Duration::from_secs(5);

/// By so much more than the server ran must the time have gone on for a restart to be seen: uptimes are
/// whole seconds.
const AWAY: Duration = Duration::from_secs(2);

/// How many columns are kept: more than the widest terminal shows.
const COLUMNS: usize = 300;

/// What the counters were, and what that means.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    last: Option<Reading>,
    first_at: Option<Instant>,
    rates: BTreeMap<&'static str, f64>,
    sums: BTreeMap<&'static str, u64>,
    past: VecDeque<Column>,
    restart_at: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Reading {
    at: Instant,
    connection: u64,
    uptime_secs: u64,
    values: BTreeMap<&'static str, u64>,
}

impl Reading {
    /// Counters never go back while a server runs. One that was away for a while may have counted further
    /// than it had before; but then it has not run all the time.
    fn is_of_another_run_than(&self, before: &Self) -> bool {
        let went_back = |name: &str| self.values.get(name) < before.values.get(name);
        let passed = self.at.saturating_duration_since(before.at);
        let ran = Duration::from_secs(self.uptime_secs.saturating_sub(before.uptime_secs));
        let was_away = self.connection != before.connection && ran + AWAY < passed;
        was_away || self.uptime_secs < before.uptime_secs || COUNTED.into_iter().any(went_back)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Column {
    grants: u64,
    seconds: f64,
}

impl Counters {
    /// Takes what the server told at that time, over the connection with that number.
    pub fn take(&mut self, at: Instant, connection: u64, info: &Info) {
        let now = Reading {
            at,
            connection,
            uptime_secs: info.number("uptime_seconds"),
            values: COUNTED.map(|name| (name, info.number(name))).into(),
        };
        self.first_at.get_or_insert(at);
        if let Some(before) = self.last.take() {
            self.compare(&before, &now);
        }
        self.last = Some(now);
    }

    fn compare(&mut self, before: &Reading, now: &Reading) {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let is_restarted = now.is_of_another_run_than(before);
        if is_restarted {
            self.restart_at = Some(now.at);
        }
        for name in COUNTED {
            let value = now.values.get(name).copied().unwrap_or(0);
            let value_before = match is_restarted {
                true => 0,
                false => before.values.get(name).copied().unwrap_or(0),
            };
            let more = value.saturating_sub(value_before);
            let sum = self.sums.entry(name).or_default();
            *sum = sum.saturating_add(more);
            // The time between the end of one run and the first look at the next is unknown.
            let is_known = seconds > 0.0 && !is_restarted;
            let rate = if is_known { more as f64 / seconds } else { 0.0 };
            self.rates.insert(name, rate);
            if name == "grants" && is_known {
                self.remember(more, seconds);
            }
        }
    }

    fn remember(&mut self, grants: u64, seconds: f64) {
        let is_full = |column: &Column| column.seconds >= COLUMN.as_secs_f64();
        if self.past.back().is_none_or(is_full) {
            self.past.push_back(Column::default());
        }
        if let Some(column) = self.past.back_mut() {
            column.grants = column.grants.saturating_add(grants);
            column.seconds += seconds;
        }
        while self.past.len() > COLUMNS {
            self.past.pop_front();
        }
    }

    /// How often a second, between the last two looks.
    pub fn rate(&self, name: &str) -> f64 {
        self.rates.get(name).copied().unwrap_or(0.0)
    }

    /// How often since the first look, also over restarts.
    pub fn sum(&self, name: &str) -> u64 {
        self.sums.get(name).copied().unwrap_or(0)
    }

    /// From the first look to the last.
    pub fn watched(&self) -> Duration {
        match (self.first_at, &self.last) {
            (Some(first), Some(last)) => last.at.saturating_duration_since(first),
            _ => Duration::ZERO,
        }
    }

    /// When it was noticed last that the counters began anew.
    pub fn restart_at(&self) -> Option<Instant> {
        self.restart_at
    }

    /// Grants a second in the last `most` columns, the latest last.
    pub fn past(&self, most: usize) -> Vec<u64> {
        let skipped = self.past.len().saturating_sub(most);
        let rate = |column: &Column| (column.grants as f64 / column.seconds).round() as u64;
        self.past.iter().skip(skipped).map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(uptime: u64, grants: u64, deadlocks: u64) -> Info {
        let pairs = [
            ("uptime_seconds", uptime),
            ("grants", grants),
            ("deadlocks", deadlocks),
        ];
        Info(
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_string()))
                .into(),
        )
    }

    #[test]
    fn a_rate_is_by_the_time_that_passed() {
        let begin = Instant::now();
        let mut counters = Counters::default();
        counters.take(begin, 1, &info(10, 100, 3));
        assert_eq!((counters.rate("grants"), counters.sum("grants")), (0.0, 0));
        counters.take(begin + Duration::from_secs(4), 1, &info(14, 300, 4));
        assert_eq!(counters.rate("grants"), 50.0);
        assert_eq!(
            (counters.sum("grants"), counters.sum("deadlocks")),
            (200, 1)
        );
        assert_eq!(counters.watched(), Duration::from_secs(4));
    }

    #[test]
    fn a_restart_is_noticed_and_makes_no_huge_rate() {
        let begin = Instant::now();
        let at = |secs| begin + Duration::from_secs(secs);
        let mut counters = Counters::default();
        counters.take(at(0), 1, &info(1_000, 500, 7));
        counters.take(at(1), 1, &info(1_001, 501, 7));
        assert_eq!(counters.restart_at(), None);
        counters.take(at(2), 1, &info(0, 20, 1));
        assert_eq!(counters.restart_at(), Some(at(2)));
        assert_eq!(counters.rate("grants"), 0.0);
        assert_eq!((counters.sum("grants"), counters.sum("deadlocks")), (21, 1));
        counters.take(at(3), 1, &info(1, 30, 1));
        assert_eq!(
            (counters.rate("grants"), counters.sum("grants")),
            (10.0, 31)
        );
        // One that ran in a pause of looking has counted further than before.
        counters.take(at(60), 2, &info(50, 3_000, 9));
        assert_eq!(counters.restart_at(), Some(at(60)));
        // A pause of looking alone is none.
        counters.take(at(100), 3, &info(89, 3_000, 9));
        assert_eq!(counters.restart_at(), Some(at(60)));
    }

    #[test]
    fn the_past_is_bounded_and_by_columns() {
        let begin = Instant::now();
        let mut counters = Counters::default();
        for second in 0..=10_u64 {
            let at = begin + Duration::from_secs(second);
            counters.take(at, 1, &info(second, second * 7, 0));
        }
        assert_eq!(counters.past(10), [7, 7]);
        assert_eq!(counters.past(1), [7]);
        for second in 11..=10_000_u64 {
            let at = begin + Duration::from_secs(second);
            counters.take(at, 1, &info(second, second * 7, 0));
        }
        assert_eq!(counters.past(usize::MAX).len(), COLUMNS);
    }
}
