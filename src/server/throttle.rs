//! Limits log lines of a kind that may come by the thousand.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many lines of one kind are logged in each [`PERIOD`].
const LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Lets the first lines of each period pass, and counts the others.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    begun: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Throttle {
    /// Whether a line may be logged at `now`: if so, how many lines were left out since the last
    /// one; `None` if this line is to be left out, too.
    pub(super) fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |begun| now.saturating_duration_since(begun) >= PERIOD;
        if state.begun.is_none_or(is_over) {
            (state.begun, state.lines) = (Some(now), 0);
        }
        if state.lines >= LINES {
            state.left_out += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_left_out_are_counted_and_told_with_the_next_line() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let passed = (0..1_000).filter(|_| throttle.pass(now) == Some(0));
        assert_eq!(passed.count(), LINES as usize);
        assert_eq!(throttle.pass(now + PERIOD / 2), None);
        let left_out = 1_001 - u64::from(LINES);
        assert_eq!(throttle.pass(now + PERIOD), Some(left_out));
        assert_eq!(throttle.pass(now + PERIOD), Some(0));
    }
}
