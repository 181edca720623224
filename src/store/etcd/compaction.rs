//! When etcd's history is forgotten: it grows with each change, until somebody says up to where it can go.

use std::time::{Duration, Instant};

/// When the history is compacted, and up to where.
#[derive(Debug)]
pub(super) struct Compaction {
    every: Option<Duration>,
    last: Instant,
    /// The revision at that time.
    revision: i64,
}

impl Compaction {
    pub(super) fn new(every: Option<Duration>) -> Self {
        Self {
            every,
            last: Instant::now(),
            revision: 0,
        }
    }

    /// The revision up to which the history can go, if it is time: what etcd's revision was the last time.
    pub(super) fn due(&mut self, revision: i64) -> Option<i64> {
        if self.last.elapsed() < self.every? {
            return None;
        }
        self.last = Instant::now();
        let up_to = std::mem::replace(&mut self.revision, revision);
        (up_to > 0).then_some(up_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_forgotten_up_to_where_it_was_the_last_time() {
        let mut always = Compaction::new(Some(Duration::ZERO));
        assert_eq!(
            [7, 9, 12].map(|now| always.due(now)),
            [None, Some(7), Some(9)]
        );
        let mut later = Compaction::new(Some(Duration::from_secs(3600)));
        assert_eq!([7, 9].map(|now| later.due(now)), [None, None]);
        assert_eq!(Compaction::new(None).due(7), None);
    }
}
