//! What those suffer who wait, at one moment.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::LockTable;
use super::lock::Lock;

/// How many holders of one key are looked at.
const HOLDERS_SEEN: usize = 64;

/// How long the requests that wait have waited, and for what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contention {
    /// For how long the request has waited that has waited the longest.
    pub longest_wait: Duration,
    /// For how long the lock is held that is held the longest, of those that requests wait for. Of a lock
    /// with very many holders some are looked at.
    pub oldest_hold: Duration,
}

impl LockTable {
    /// What those suffer who wait at `now`. Costs a short guard for each key that is waited for, of which
    /// there are no more than waiting requests; locks that nobody waits for cost nothing, however many
    /// there are.
    pub fn contention(&self, now: Instant) -> Contention {
        let waiters = self.waiters();
        let waits = waiters.iter().map(|waiter| self.waited(waiter, now));
        let longest_wait = waits.max().unwrap_or_default();
        let keys: HashSet<&[u8]> = waiters
            .iter()
            .map(|waiter| waiter.key().as_bytes())
            .collect();
        let holds = keys.into_iter().filter_map(|key| {
            let oldest = |lock: &Lock| {
                let holders = lock.holders().take(HOLDERS_SEEN);
                holders.map(|(_, hold)| hold.word.token()).min()
            };
            let token = self.locks.with(key, |_, lock| oldest(lock)).flatten()?;
            self.tokens.age(token, now)
        });
        Contention {
            longest_wait,
            oldest_hold: holds.max().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mode, Peer, Token};
    use crate::store::Changes;
    use crate::table::plain::test_limits;
    use crate::table::{Pauses, TokenClock};

    #[test]
    fn only_locks_that_are_waited_for_count_and_of_them_the_oldest() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let limits = test_limits();
        let clock = TokenClock::from(start, Token(1), Pauses::default());
        let table = LockTable::new(limits, clock, Changes::default());
        let mut sessions: Vec<_> = (0..4)
            .map(|_| table.open(Peer::Unix(None), Duration::ZERO))
            .collect();
        let (ask, hour) = (Mode::Exclusive.into(), Duration::from_secs(3600));
        let mut take = |session: usize, key: &[u8], now| {
            table.begin_turn(now);
            let session = &mut sessions[session];
            drop(table.acquire(session, key, &ask, hour, now));
        };
        take(0, b"nobody waits", at(1));
        take(0, b"a", at(5));
        take(1, b"b", at(10));
        assert_eq!(table.contention(at(60)), Contention::default());
        take(2, b"b", at(20));
        let seen = table.contention(at(60));
        assert_eq!(seen.longest_wait, Duration::from_secs(40));
        assert_eq!(seen.oldest_hold.as_secs_f64().round(), 50.0);
        take(3, b"a", at(30));
        let seen = table.contention(at(60));
        assert_eq!(seen.longest_wait, Duration::from_secs(40));
        assert_eq!(seen.oldest_hold.as_secs_f64().round(), 55.0);
        sessions
            .into_iter()
            .for_each(|session| table.end(session, at(60)));
    }
}
