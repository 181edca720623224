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

macro_rules! throttles {
    ($($name:ident: $kind:literal;)*) => {
        /// The throttles of one server.
        #[derive(Debug)]
        pub(super) struct Throttles {
            $(pub(super) $name: Throttle,)*
            /// Of these the log has no line, and so none of how many were left out.
            pub(super) deadlocks: Throttle,
        }

        impl Default for Throttles {
            fn default() -> Self {
                Self {
                    $($name: Throttle::new($kind),)*
                    deadlocks: Throttle::new("deadlocks"),
                }
            }
        }

        impl Throttles {
            /// Those of which the log has lines.
            fn logged(&self) -> impl Iterator<Item = &Throttle> {
                [$(&self.$name),*].into_iter()
            }
        }
    };
}

throttles! {
    lease_ends: "leases ended";
    session_ends: "sessions with locks ended";
    resumes: "sessions were resumed or taken over";
    breaks: "owners' locks were broken";
    kicks: "sessions were ended by an operator";
    revocations: "locks were taken from their holders";
    limits: "requests reached a limit";
    rests: "times a client had to rest";
    refusals: "connections were refused";
    handshakes: "TLS handshakes failed";
    wrong_passwords: "names or passwords were wrong";
}

impl Throttles {
    /// Logs how many lines were left out, of the kinds whose period is over at `now`.
    pub(super) fn report(&self, now: Instant) {
        self.logged().for_each(|throttle| throttle.report(now));
    }

    /// Logs how many lines were left out, of all kinds.
    pub(super) fn report_rest(&self) {
        self.logged().for_each(Throttle::report_rest);
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
