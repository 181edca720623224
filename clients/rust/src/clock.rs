//! The client's own clock, by which it believes that it holds a lock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Linux has a clock that goes on while the machine sleeps, as the server's does.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// A moment of a clock that nobody sets, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// Later than all others.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) fn now() -> Self {
        let time = clock_gettime(CLOCK);
        let whole = u64::try_from(time.tv_sec).unwrap_or(0);
        let part = u64::try_from(time.tv_nsec).unwrap_or(0);
        Self(whole.saturating_mul(1_000_000_000).saturating_add(part))
    }

    pub(crate) fn plus(self, time: Duration) -> Self {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// [`Moment::NEVER`] stays what it is.
    pub(crate) fn minus(self, time: Duration) -> Self {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match self {
            Self::NEVER => self,
            Self(at) => Self(at.saturating_sub(nanos)),
        }
    }

    /// How long from `now` to here.
    pub(crate) fn after(self, now: Self) -> Duration {
        match self {
            Self::NEVER => Duration::MAX,
            Self(at) => Duration::from_nanos(at.saturating_sub(now.0)),
        }
    }
}
