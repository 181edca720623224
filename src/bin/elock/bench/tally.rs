//! What was answered, and after how long.

use std::collections::BTreeMap;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::failure::shown;
use super::script::Step;

/// Longer ones are counted as this.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Answers of one code that were not expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexpected {
    /// How many there are.
    pub count: u64,
    /// The first of them, as it can be shown.
    pub first: String,
}

/// The answers of some clients.
#[derive(Debug)]
pub struct Tally {
    /// How many of each code.
    codes: Box<[u64; 1000]>,
    /// Those that were expected.
    pub done: u64,
    /// Those of them by which a client got a lock.
    pub grants: u64,
    /// Connections that were made while the clock ran.
    pub connections: u64,
    /// By their code.
    pub unexpected: BTreeMap<u16, Unexpected>,
    /// In nanoseconds, of what was expected.
    pub latency_ns: Histogram<u64>,
    /// The same of grants alone, which contain the wait.
    pub grant_latency_ns: Histogram<u64>,
    /// When the last answer came.
    pub last: Option<Instant>,
}

impl Tally {
    /// Nothing was answered yet.
    pub fn new() -> Self {
        let histogram = || {
            Histogram::new_with_max(LONGEST_NS, 3)
                .expect("the bounds are those of the documentation")
        };
        Self {
            codes: Box::new([0; 1000]),
            done: 0,
            grants: 0,
            connections: 0,
            unexpected: BTreeMap::new(),
            latency_ns: histogram(),
            grant_latency_ns: histogram(),
            last: None,
        }
    }

    /// Counts an answer.
    #[inline]
    pub fn count(&mut self, step: Step, code: u16, line: &[u8]) {
        if let Some(count) = self.codes.get_mut(usize::from(code)) {
            *count += 1;
        }
        if code == step.expected {
            self.done += 1;
            self.grants += u64::from(step.takes_lock);
        } else {
            self.count_unexpected(code, line);
        }
    }

    #[cold]
    fn count_unexpected(&mut self, code: u16, line: &[u8]) {
        let unexpected = self.unexpected.entry(code).or_insert_with(|| Unexpected {
            count: 0,
            first: shown(line),
        });
        unexpected.count += 1;
    }

    /// What came since `done` and `grants` were so was sent at this time.
    pub fn took(&mut self, sent: Instant, done_before: u64, grants_before: u64) {
        let now = Instant::now();
        self.last = Some(now);
        let ns = u64::try_from((now - sent).as_nanos()).unwrap_or(u64::MAX);
        self.latency_ns
            .saturating_record_n(ns, self.done - done_before);
        let grants = self.grants - grants_before;
        if grants > 0 {
            self.grant_latency_ns.saturating_record_n(ns, grants);
        }
    }

    /// Adds what other clients were answered.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.codes.iter_mut().zip(other.codes.iter()) {
            *count += more;
        }
        self.done += other.done;
        self.grants += other.grants;
        self.connections += other.connections;
        for (&code, more) in &other.unexpected {
            match self.unexpected.get_mut(&code) {
                Some(unexpected) => unexpected.count += more.count,
                None => drop(self.unexpected.insert(code, more.clone())),
            }
        }
        self.last = self.last.max(other.last);
        // Both have the same bounds, so that all of it fits.
        let _ = self.latency_ns.add(&other.latency_ns);
        let _ = self.grant_latency_ns.add(&other.grant_latency_ns);
    }

    /// How many answers there are of each code that came.
    pub fn answers(&self) -> BTreeMap<u16, u64> {
        let counted = (0..).zip(self.codes.iter().copied());
        counted.filter(|&(_, count)| count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_request_is_no_work() {
        let lock = Step {
            expected: 200,
            takes_lock: true,
        };
        let mut one = Tally::new();
        one.count(lock, 200, b"200 Acquired");
        one.count(lock, 403, b"403 not_yours");
        one.took(Instant::now(), 0, 0);
        let mut all = Tally::new();
        all.add(&one);
        all.add(&one);
        assert_eq!((all.done, all.grants), (2, 2));
        assert_eq!(all.latency_ns.len(), 2);
        assert_eq!(all.answers(), BTreeMap::from([(200, 2), (403, 2)]));
        assert_eq!(all.unexpected[&403].count, 2);
        assert_eq!(all.unexpected[&403].first, "\"403 not_yours\"");
    }
}
