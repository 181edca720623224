//! Whether this server still leads, as far as it can know by itself.
//!
//! etcd decides who leads, and refuses each change of a leader that was deposed. What memory alone could
//! answer is bounded by time: by a clock that also counts while the machine is suspended, from before the
//! last renewal was sent that etcd has answered.
//!
//! Invariants:
//!
//! 1. While [`Answering::Yes`], etcd has not ended the lease by its time: `valid_until_ms` is earlier than
//!    that by [`MARGIN`].
//! 2. Once it is [`Answering::Over`], it stays so.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::plant::{self, Plant};

/// By how much a leader stops before its lease can end: for clocks that run at different speeds, and for
/// the time between a look at the clock and the bytes' leaving.
const MARGIN: Duration = Duration::from_millis(300);

/// A leader that cannot renew its lease gives up after twice the lease's time and this.
const LAST_HOPE: Duration = Duration::from_secs(2);

/// How often somebody who waits for a renewal looks at the clock.
const LOOK: Duration = Duration::from_millis(100);

/// For how much longer than a leader hopes no session of its may end: until then its connections are closed.
const LEAST_GRACE: Duration = Duration::from_secs(1);

/// The longest time that a leader's lease may have, in seconds: `--lead-ttl-secs` takes no more, and what is in
/// etcd might say anything.
pub(super) const LONGEST_TTL_SECS: u64 = 60;
pub(crate) const LONGEST_TTL: Duration = Duration::from_secs(LONGEST_TTL_SECS);

/// Tells the time since the machine has started, also while it was suspended.
pub(crate) type Clock = fn() -> Duration;

/// One server's turn as the leader.
pub(crate) struct Leadership {
    clock: Clock,
    ttl: Duration,
    valid_until_ms: AtomicU64,
    renewed_at_ms: AtomicU64,
    renewed: Notify,
    lost: CancellationToken,
    why: OnceLock<Lost>,
}

/// Whether answers may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answering {
    /// This server surely leads.
    Yes,
    /// Perhaps it does: nothing leaves until that is known.
    Suspended,
    /// It does not, or has given up.
    Over,
}

/// Why a server does not lead any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    /// The key is gone, or another's.
    #[error("another leads, or will: the key in etcd is not this server's any more")]
    Deposed,
    /// etcd has ended the lease.
    #[error("the lease in etcd has ended")]
    LeaseOver,
    /// No renewal was answered for too long.
    #[error("etcd has renewed the lease for the last time {0:?} ago")]
    NotRenewed(Duration),
    /// What is in etcd is not what this server wrote.
    #[error("the log in etcd is damaged: {0}")]
    Broken(String),
    /// etcd did not let it begin.
    #[error("etcd did not let it begin: {0}")]
    NotBegun(String),
    /// It was this server's own will.
    #[error("it was handed over")]
    Resigned,
}

impl Leadership {
    /// The leadership by a lease of this time, which was asked for at `asked_at` by the same clock.
    pub(crate) fn new(clock: Clock, ttl: Duration, asked_at: Duration) -> Self {
        let leadership = Self {
            clock,
            ttl,
            valid_until_ms: AtomicU64::new(0),
            renewed_at_ms: AtomicU64::new(0),
            renewed: Notify::new(),
            lost: CancellationToken::new(),
            why: OnceLock::new(),
        };
        leadership.renewed(asked_at);
        leadership
    }

    /// Notes that etcd has answered a renewal that was sent at `sent_at`.
    pub(crate) fn renewed(&self, sent_at: Duration) {
        self.renewed_at_ms
            .fetch_max(millis(sent_at), Ordering::AcqRel);
        let valid_until = millis(sent_at + self.ttl.saturating_sub(MARGIN));
        self.valid_until_ms.fetch_max(valid_until, Ordering::AcqRel);
        self.renewed.notify_waiters();
    }

    /// Ends the leadership for this reason, unless it is over.
    pub(crate) fn lose(&self, why: Lost) {
        if plant::is(Plant::SplitBrain) && why != Lost::Resigned {
            return;
        }
        // Who is told that it is over finds the reason.
        let _ = self.why.set(why);
        self.lost.cancel();
    }

    /// Whether answers may leave at this moment. Looked at before each write to a client.
    pub(crate) fn answering(&self) -> Answering {
        if self.lost.is_cancelled() {
            return Answering::Over;
        }
        if plant::is(Plant::SplitBrain) {
            return Answering::Yes;
        }
        let now = (self.clock)();
        if millis(now) < self.valid_until_ms.load(Ordering::Acquire) {
            return Answering::Yes;
        }
        let age = now.saturating_sub(self.last_renewal());
        match age < self.hope() {
            true => Answering::Suspended,
            false => {
                self.lose(Lost::NotRenewed(age));
                Answering::Over
            }
        }
    }

    /// Waits as long as answers are suspended; true if they may leave then. Cancel safe.
    pub(crate) async fn may_answer(&self) -> bool {
        loop {
            let renewed = self.renewed.notified();
            match self.answering() {
                Answering::Yes => return true,
                Answering::Over => return false,
                Answering::Suspended => {}
            }
            tokio::select! {
                () = renewed => {}
                () = self.lost.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Waits until the leadership is over. Cancel safe.
    pub(crate) async fn until_lost(&self) -> Lost {
        while self.answering() != Answering::Over {
            tokio::select! {
                () = self.lost.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        self.why.get().cloned().unwrap_or(Lost::Deposed)
    }

    /// Whether the leadership is over.
    pub(crate) fn is_lost(&self) -> bool {
        self.answering() == Answering::Over
    }

    /// The time of its lease.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The time, by the clock that the leadership goes by.
    pub(crate) fn now(&self) -> Duration {
        (self.clock)()
    }

    /// When the last renewal was sent that etcd has answered.
    pub(crate) fn last_renewal(&self) -> Duration {
        Duration::from_millis(self.renewed_at_ms.load(Ordering::Acquire))
    }

    /// Waits for the next renewal that etcd has answered.
    #[cfg(test)]
    pub(super) async fn until_renewed(&self) {
        self.renewed.notified().await;
    }

    /// How long ago that was.
    pub(crate) fn lag(&self) -> Duration {
        (self.clock)().saturating_sub(self.last_renewal())
    }

    fn hope(&self) -> Duration {
        Self::longest_hope(self.ttl)
    }

    /// For how long who leads may be believed to lead that has not been heard of.
    pub(crate) fn longest_hope(ttl: Duration) -> Duration {
        2 * ttl + LAST_HOPE
    }

    /// The shortest grace period that a session may have after a take-over: by its end the leader before
    /// has given up, and its connections are closed, as are those that others passed on to it; so who holds a
    /// lock there has been told, and what it was told last has come.
    pub(crate) fn least_grace(ttl: Duration) -> Duration {
        Self::longest_hope(ttl) + LEAST_GRACE
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Leadership");
        shown
            .field("answering", &self.answering())
            .finish_non_exhaustive()
    }
}

/// The clock of the machine.
pub(crate) fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(secs, u32::try_from(now.tv_nsec).unwrap_or_default())
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A clock that stands still but for what a test says; each thread has its own.
#[cfg(test)]
pub(super) mod test_clock {
    use std::cell::Cell;
    use std::time::Duration;

    thread_local! {
        static NOW: Cell<Duration> = const { Cell::new(Duration::from_secs(1000)) };
    }

    /// Its time.
    pub(in crate::cluster) fn now() -> Duration {
        NOW.get()
    }

    /// Has it go on.
    pub(in crate::cluster) fn go_on(by: Duration) {
        NOW.set(NOW.get() + by);
    }
}
