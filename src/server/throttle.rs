//! Log lines about things that may come by the thousand.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::info;

/// So many lines of one kind are logged in each [`PERIOD`].
const LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Lets the first lines of each period pass, and counts the others.
#[derive(Debug)]
pub(super) struct Throttle {
    kind: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    begun: Option<Instant>,
    lines: u32,
    left_out: u64,
}

/// The throttles of one server.
#[derive(Debug)]
pub(super) struct Throttles {
    pub(super) lease_ends: Throttle,
    pub(super) session_ends: Throttle,
    pub(super) resumes: Throttle,
    pub(super) breaks: Throttle,
    /// Of these the log has no line, and so none of how many were left out.
    pub(super) deadlocks: Throttle,
    pub(super) kicks: Throttle,
    pub(super) revocations: Throttle,
    pub(super) limits: Throttle,
    pub(super) refusals: Throttle,
    pub(super) handshakes: Throttle,
    pub(super) wrong_passwords: Throttle,
}

impl Default for Throttles {
    fn default() -> Self {
        Self {
            lease_ends: Throttle::new("leases ended"),
            session_ends: Throttle::new("sessions with locks ended"),
            resumes: Throttle::new("sessions were resumed or taken over"),
            breaks: Throttle::new("owners' locks were broken"),
            deadlocks: Throttle::new("deadlocks"),
            kicks: Throttle::new("sessions were ended by an operator"),
            revocations: Throttle::new("locks were taken from their holders"),
            limits: Throttle::new("requests reached a limit"),
            refusals: Throttle::new("connections were refused"),
            handshakes: Throttle::new("TLS handshakes failed"),
            wrong_passwords: Throttle::new("names or passwords were wrong"),
        }
    }
}

impl Throttles {
    /// Logs how many lines were left out, of the kinds whose period is over at `now`.
    pub(super) fn report(&self, now: Instant) {
        self.all().iter().for_each(|throttle| throttle.report(now));
    }

    /// Logs how many lines were left out, of all kinds.
    pub(super) fn report_rest(&self) {
        self.all()
            .iter()
            .for_each(|throttle| throttle.report_rest());
    }

    fn all(&self) -> [&Throttle; 10] {
        let Self {
            lease_ends,
            session_ends,
            resumes,
            breaks,
            deadlocks: _,
            kicks,
            revocations,
            limits,
            refusals,
            handshakes,
            wrong_passwords,
        } = self;
        [
            lease_ends,
            session_ends,
            resumes,
            breaks,
            kicks,
            revocations,
            limits,
            refusals,
            handshakes,
            wrong_passwords,
        ]
    }
}

impl Throttle {
    fn new(kind: &'static str) -> Self {
        let state = Mutex::default();
        Self { kind, state }
    }

    /// Whether a line may be logged at `now`; else it is counted.
    pub(super) fn passes(&self, now: Instant) -> bool {
        let mut state = self.state();
        if state.is_over(now) {
            (state.begun, state.lines) = (Some(now), 0);
        }
        let passes = state.lines < LINES;
        match passes {
            true => state.lines += 1,
            false => state.left_out += 1,
        }
        passes
    }

    fn report(&self, now: Instant) {
        if self.state().is_over(now) {
            self.report_rest();
        }
    }

    fn report_rest(&self) {
        let left_out = std::mem::take(&mut self.state().left_out);
        if left_out > 0 {
            info!("{left_out} more {}, each without a line", self.kind);
        }
    }

    /// Nothing is half done where a holder could panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_over(&self, now: Instant) -> bool {
        let is_over = |begun| now.saturating_duration_since(begun) >= PERIOD;
        self.begun.is_none_or(is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_left_out_are_counted_until_they_are_reported() {
        let (throttle, now) = (Throttle::new("things came"), Instant::now());
        let passed = (0..1_000).filter(|_| throttle.passes(now));
        assert_eq!(passed.count(), LINES as usize);
        throttle.report(now + PERIOD / 2);
        assert_eq!(throttle.state().left_out, 1_000 - u64::from(LINES));
        throttle.report(now + PERIOD);
        assert_eq!(throttle.state().left_out, 0);
        assert!(throttle.passes(now + PERIOD));
    }
}
