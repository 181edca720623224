//! What the clients of a measurement share: when it begins and ends, and what has come in.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::tally::Tally;

/// How much is read at once: all answers to the deepest pipeline.
const READ_SIZE: usize = 64 << 10;

/// One measurement.
#[derive(Debug)]
pub struct Course {
    begun: watch::Sender<bool>,
    is_stopping: AtomicBool,
    /// Clients that do not end by themselves are dropped.
    pub abandoned: CancellationToken,
    failure: Mutex<Option<Failure>>,
    /// One for each thread.
    pub lanes: Vec<Lane>,
}

/// What the clients of one thread share. Nobody else holds its lock for long.
#[derive(Debug)]
pub struct Lane {
    desk: Mutex<Desk>,
    /// Grows with whatever comes from the server.
    signs_of_life: AtomicU64,
    /// Its clients that wait for the server.
    waiting: AtomicU64,
}

/// Where a thread works.
#[derive(Debug)]
pub struct Desk {
    /// Where its clients read to, in turn: so an idle one takes no memory.
    pub buffer: Box<[u8]>,
    /// What they were answered.
    pub tally: Tally,
}

impl Course {
    /// With so many threads.
    pub fn new(threads: usize) -> Self {
        let lane = || Lane {
            desk: Mutex::new(Desk {
                buffer: vec![0; READ_SIZE].into_boxed_slice(),
                tally: Tally::new(),
            }),
            signs_of_life: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        };
        Self {
            begun: watch::Sender::new(false),
            is_stopping: AtomicBool::new(false),
            abandoned: CancellationToken::new(),
            failure: Mutex::new(None),
            lanes: (0..threads).map(|_| lane()).collect(),
        }
    }

    /// Lets the clients go.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Ready when the clients go, or when they need not go any more.
    pub async fn until_begun(&self) {
        let mut begun = self.begun.subscribe();
        // The sender is in here, so that it cannot be gone.
        let _ = begun.wait_for(|&begun| begun).await;
    }

    /// Each client ends behind the answers for which it waits.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.begin();
    }

    /// Whether they end.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Ends it by a failure. The first one is what is told: others follow from it.
    pub fn fail(&self, failure: Failure) {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
        drop(first);
        self.stop();
    }

    /// Whether there was a failure.
    pub fn has_failed(&self) -> bool {
        let first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.is_some()
    }

    /// The failure, if there was one.
    pub fn take_failure(&self) -> Option<Failure> {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.take()
    }

    /// What was answered so far.
    pub fn tally(&self) -> Tally {
        let mut all = Tally::new();
        for lane in &self.lanes {
            all.add(&lane.desk().tally);
        }
        all
    }

    /// How many answers were as expected so far.
    pub fn done(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.desk().tally.done).sum()
    }

    /// Another number than before, if anything came since.
    pub fn signs_of_life(&self) -> u64 {
        let signs = |lane: &Lane| lane.signs_of_life.load(Ordering::Relaxed);
        self.lanes.iter().map(signs).sum()
    }

    /// How many clients wait for the server.
    pub fn waiting(&self) -> u64 {
        let waiting = |lane: &Lane| lane.waiting.load(Ordering::Relaxed);
        self.lanes.iter().map(waiting).sum()
    }
}

impl Lane {
    /// Its desk.
    pub fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came.
    pub fn lives(&self) {
        self.signs_of_life.fetch_add(1, Ordering::Relaxed);
    }

    /// So many clients wait from now on.
    pub fn set_waiting(&self, clients: usize) {
        self.waiting.store(clients as u64, Ordering::Relaxed);
    }
}
