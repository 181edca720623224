//! The time by which grace periods and leases run.
//!
//! It is the monotonic clock less the time in which the server did not run, because the process was
//! stopped or its virtual machine paused. In that time no client could renew a lease or resume its
//! session, so none of it counts. Otherwise all grace periods would be over the moment the server
//! goes on, before it has read the first `conn_id`.
//!
//! A [beat](Clock::beat) says every quarter of a second that the server runs. A thread that asks for the
//! time and finds the last beat more than a second old has found a gap, and takes it out before
//! anything is decided by that time. Waits for locks do not run by this clock: their clients' time
//! went on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

use crate::table::Pauses;

/// How often the server says that it runs.
const BEAT: Duration = Duration::from_millis(250);

/// A beat that is later than this means that the server did not run: it was not just busy.
const GAP: Duration = Duration::from_secs(1);

/// The clock of one server. May be asked from any number of threads at once.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// The last beat, in nanoseconds since the start; [`STILL`] before the first one.
    beat_ns: AtomicU64,
    /// All gaps so far.
    gaps: Pauses,
    /// Locked to take out a gap, so that of several threads that find it, only one does.
    finding: Mutex<()>,
}

/// The value before the first beat: no gap is looked for, as nothing says that the server runs.
const STILL: u64 = u64::MAX;

impl Default for Clock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            beat_ns: AtomicU64::new(STILL),
            gaps: Pauses::default(),
            finding: Mutex::new(()),
        }
    }
}

impl Clock {
    /// The time without the gaps. When a gap is taken out, the time may step back by a beat or two
    /// at most: so leases and grace periods may end later, but never too early.
    pub(super) fn now(&self) -> StdInstant {
        loop {
            let gaps = self.gaps.in_all();
            let real_ns = self.real_ns();
            if self.is_gap(real_ns) {
                self.take_out_gap();
            } else if gaps == self.gaps.in_all() {
                let running = Duration::from_nanos(real_ns).saturating_sub(gaps);
                return self.start.into_std() + running;
            }
        }
    }

    /// The gaps that were taken out, for what is shown of the past: the clocks of those who look went on.
    pub(super) fn pauses(&self) -> Pauses {
        self.gaps.clone()
    }

    /// A time of this clock, in tenths of seconds since its start: enough for people, in half a word.
    pub(super) fn stamp(&self, time: StdInstant) -> u32 {
        let passed = time.saturating_duration_since(self.start.into_std());
        u32::try_from(passed.as_secs() * 10 + u64::from(passed.subsec_millis() / 100))
            .unwrap_or(u32::MAX)
    }

    /// How long ago a stamp was made.
    pub(super) fn since(&self, stamp: u32) -> Duration {
        let tenths = self.stamp(self.now()).saturating_sub(stamp);
        Duration::from_millis(u64::from(tenths) * 100)
    }

    /// Returns when this clock shows `time` or later.
    pub(super) async fn sleep_until(&self, time: StdInstant) {
        loop {
            let left = time.saturating_duration_since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    fn real_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn is_gap(&self, real_ns: u64) -> bool {
        let beat_ns = self.beat_ns.load(Ordering::Acquire);
        beat_ns != STILL && real_ns.saturating_sub(beat_ns) > GAP.as_nanos() as u64
    }

    fn take_out_gap(&self) {
        let finding = self.lock();
        let gap_ns = self.take_out(&finding);
        drop(finding);
        if let Some(gap_ns) = gap_ns {
            let seconds = Duration::from_nanos(gap_ns).as_secs_f32();
            warn!(
                "the server did not run for {seconds:.1} s: grace periods and leases go on from \
                 where they were"
            );
        }
    }

    /// Takes out the time since the last beat, if that is a gap, and returns its length.
    fn take_out(&self, _finding: &MutexGuard<'_, ()>) -> Option<u64> {
        let real_ns = self.real_ns();
        self.is_gap(real_ns).then(|| {
            let gap_ns = real_ns - self.beat_ns.load(Ordering::Acquire);
            self.gaps.add(Duration::from_nanos(gap_ns));
            self.beat_ns.store(real_ns, Ordering::Release);
            gap_ns
        })
    }

    /// A beat hides the gap before it, so the gap is taken out first; and in one step, since the
    /// server may stand still between any two.
    fn beat(&self) {
        self.take_out_gap();
        let finding = self.lock();
        if self.take_out(&finding).is_none() {
            self.beat_ns.store(self.real_ns(), Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.finding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the clock going, for ever, and calls `each` at every beat.
pub(super) async fn keep_time(clock: &Clock, each: impl Fn()) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        clock.beat();
        each();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    async fn after_beats<T>(clock: &Clock, act: impl Future<Output = T>) -> T {
        tokio::select! {
            () = keep_time(clock, || {}) => unreachable!("it beats for ever"),
            done = act => done,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_server_does_not_run_does_not_count() {
        let clock = Clock::default();
        let begin = clock.now();
        after_beats(&clock, tokio::time::sleep(Duration::from_secs(10))).await;
        assert_eq!(clock.now() - begin, Duration::from_secs(10));
        // Nothing runs meanwhile, and the next question for the time finds the gap.
        advance(Duration::from_secs(40)).await;
        let passed = clock.now() - begin;
        assert!(passed <= Duration::from_secs(10) + BEAT, "{passed:?}");
        after_beats(&clock, clock.sleep_until(begin + Duration::from_secs(12))).await;
        let passed = clock.now() - begin;
        let expected = Duration::from_secs(12);
        assert!(passed >= expected && passed < expected + BEAT, "{passed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_beat_itself_finds_the_gap_if_nobody_else_does() {
        let clock = Clock::default();
        let begin = clock.now();
        after_beats(&clock, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            advance(Duration::from_secs(40)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        })
        .await;
        let passed = clock.now() - begin;
        assert!(passed < Duration::from_secs(3), "{passed:?}");
    }

    /// The beat comes before a second has passed, so the server was just busy.
    #[tokio::test(start_paused = true)]
    async fn a_beat_that_is_a_little_late_is_no_gap() {
        let clock = Clock::default();
        let begin = clock.now();
        after_beats(&clock, tokio::time::sleep(Duration::from_secs(1))).await;
        advance(GAP - BEAT).await;
        assert_eq!(clock.now() - begin, Duration::from_secs(1) + GAP - BEAT);
    }
}
