//! The memory that a process has resident, before, at its peak and after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::load::resident;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A process whose memory is being watched.
pub struct Watched {
    pid: u32,
    before: u64,
    peak: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    watcher: JoinHandle<()>,
}

impl Watched {
    pub fn begin(pid: u32) -> Self {
        let (peak, over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (highest, until) = (Arc::clone(&peak), Arc::clone(&over));
        let watcher = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                highest.fetch_max(resident(pid), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        let before = resident(pid);
        Self {
            pid,
            before,
            peak,
            over,
            watcher,
        }
    }

    /// Megabytes before, at the peak and now.
    pub fn end(self) -> (u64, u64, u64) {
        self.over.store(true, Ordering::Relaxed);
        self.watcher.join().expect("it only looks");
        let peak = self.peak.load(Ordering::Relaxed);
        let all = [self.before, peak, resident(self.pid)];
        let [before, peak, after] = all.map(|bytes| bytes / 1_000_000);
        (before, peak, after)
    }
}
