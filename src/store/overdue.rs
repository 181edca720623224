//! Reports a commit that takes very long, while it does.
//!
//! A disk that hangs makes no error: the thread that writes waits in the kernel, and every answer
//! that needs it waits as well. So another thread looks at the clock.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a commit may take before it is reported.
pub(super) const OVERDUE: Duration = Duration::from_secs(5);

/// The longest time between two reports of one commit.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// The commit that is under way, shared by the thread that writes and the one that watches.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    state: Mutex<State>,
    /// Notified when a commit begins while the watcher has none to watch, and by
    /// [`UnderWay::finish`].
    begun: Condvar,
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    is_reported: bool,
    watcher_rests: bool,
    is_over: bool,
}

impl UnderWay {
    /// Notes that a commit begins.
    pub(super) fn begin(&self, now: Instant) {
        let mut state = self.state();
        state.since = Some(now);
        state.is_reported = false;
        if state.watcher_rests {
            drop(state);
            self.begun.notify_one();
        }
    }

    /// Notes that the commit has ended. True if it was reported.
    pub(super) fn end(&self) -> bool {
        let mut state = self.state();
        state.since = None;
        state.is_reported
    }

    /// How long the commit that is under way has taken, if that is `overdue` or more.
    pub(super) fn overdue(&self, overdue: Duration) -> Option<Duration> {
        let took = self.state().since?.elapsed();
        (took >= overdue).then_some(took)
    }

    /// Notes that no commit will follow, and ends the watcher.
    pub(super) fn finish(&self) {
        self.state().is_over = true;
        self.begun.notify_one();
    }

    /// Calls `report` with the time that a commit has taken, for each commit that takes longer than
    /// `overdue`: once then, and again in growing steps while it goes on. Returns after
    /// [`UnderWay::finish`].
    pub(super) fn watch(&self, overdue: Duration, report: impl Fn(Duration)) {
        let mut state = self.state();
        let mut patience = overdue;
        let mut watched = None;
        loop {
            state.watcher_rests = true;
            let nothing_to_do = |state: &mut State| state.since.is_none() && !state.is_over;
            let waited = self.begun.wait_while(state, nothing_to_do);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.watcher_rests = false;
            let Some(since) = state.since.filter(|_| !state.is_over) else {
                return;
            };
            if watched.replace(since) != Some(since) {
                patience = overdue;
            }
            // The beginning of a commit does not wake a watcher that waits here: most commits end
            // long before their time, and then the watcher looks at the current one.
            let left = patience.saturating_sub(since.elapsed());
            let ends = |state: &mut State| !state.is_over;
            let waited = self.begun.wait_timeout_while(state, left, ends);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.since == Some(since) && !state.is_over {
                state.is_reported = true;
                drop(state);
                report(since.elapsed());
                patience += patience.min(LONGEST_SILENCE);
                state = self.state();
            }
        }
    }

    /// Poisoning is ignored: every statement leaves the state whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::JoinHandle;

    use super::*;

    fn watched(overdue: Duration) -> (Arc<UnderWay>, Receiver<Duration>, JoinHandle<()>) {
        let (under_way, (tell, told)) = (Arc::new(UnderWay::default()), channel());
        let watching = Arc::clone(&under_way);
        let report = move |took| tell.send(took).expect("the test listens");
        let watcher = std::thread::spawn(move || watching.watch(overdue, report));
        (under_way, told, watcher)
    }

    #[test]
    fn a_commit_that_does_not_end_is_reported_again_and_again_and_so_is_the_next() {
        let overdue = Duration::from_millis(1);
        let (under_way, told, watcher) = watched(overdue);
        for _ in 0..3 {
            under_way.begin(Instant::now());
            for reports in 0..3 {
                // One of the commit before may come late, and then those of this one are further behind.
                while told.recv().expect("it is told") < overdue * (1 << reports) {}
            }
            assert!(under_way.end());
        }
        under_way.finish();
        watcher.join().expect("no assertion failed");
    }

    #[test]
    fn commits_that_end_are_not_reported() {
        let (under_way, told, watcher) = watched(Duration::from_secs(3600));
        for _ in 0..1000 {
            under_way.begin(Instant::now());
            assert!(!under_way.end());
        }
        // Also if it ends in the middle of a commit.
        under_way.begin(Instant::now());
        under_way.finish();
        watcher.join().expect("no assertion failed");
        assert!(told.recv().is_err());
    }
}
