//! The places for connections of HTTP, which nobody keeps by doing nothing.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How many connections there are at one time: enough for some pages, probes and scrapers.
pub(crate) const SEATS: usize = 64;

/// How long a connection may be silent while others wait for its place.
const PATIENCE: Duration = Duration::from_millis(20);

/// All places. When they are taken and one more connection comes, the one that has been there for longest
/// without a right to [stay](Seat::stays) gives way: so idle connections and wrong passwords, however many,
/// keep no probe from being answered.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    /// Those that have asked nothing yet, or not shown that they may, the oldest first.
    silent: Mutex<VecDeque<Arc<Guest>>>,
}

/// A connection.
#[derive(Debug)]
struct Guest {
    since: Instant,
    stays: AtomicBool,
    leave: CancellationToken,
}

/// A guest's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    guest: Arc<Guest>,
    _place: OwnedSemaphorePermit,
}

impl Default for Seats {
    fn default() -> Self {
        let free = Arc::new(Semaphore::new(SEATS));
        let silent = Mutex::default();
        Self { free, silent }
    }
}

impl Seats {
    /// A place for a connection that has been accepted.
    pub(super) async fn take(self: &Arc<Self>) -> Seat {
        let place = self.place().await;
        let guest = Arc::new(Guest {
            since: Instant::now(),
            stays: AtomicBool::new(false),
            leave: CancellationToken::new(),
        });
        self.silent().push_back(Arc::clone(&guest));
        Seat {
            seats: Arc::clone(self),
            guest,
            _place: place,
        }
    }

    async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            let free = Arc::clone(&self.free).acquire_owned();
            tokio::select! {
                biased;
                Ok(place) = free => return place,
                () = self.send_one_away() => {}
            }
            // It leaves at once, unless it asks at this very moment.
            let free = Arc::clone(&self.free).acquire_owned();
            if let Ok(Ok(place)) = timeout(PATIENCE, free).await {
                return place;
            }
        }
    }

    /// Returns when the oldest of those that are silent was told to leave, or after a while if none is.
    async fn send_one_away(&self) {
        let oldest = self.silent().front().cloned();
        let Some(guest) = oldest else {
            return sleep(PATIENCE).await;
        };
        sleep_until(guest.since + PATIENCE).await;
        guest.leave.cancel();
        self.not_silent(&guest);
    }

    fn not_silent(&self, guest: &Arc<Guest>) {
        self.silent().retain(|other| !Arc::ptr_eq(other, guest));
    }

    /// Nothing is half done where a holder could panic.
    fn silent(&self) -> MutexGuard<'_, VecDeque<Arc<Guest>>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// From here on it does not give way: it has sent a request that everybody may send, or has shown who
    /// it is, and is answered.
    pub(super) fn stays(&self) {
        self.guest.stays.store(true, Ordering::Relaxed);
        self.seats.not_silent(&self.guest);
    }

    /// Ready when this connection has to give way to another.
    pub(super) async fn must_leave(&self) {
        self.guest.leave.cancelled().await;
        if self.guest.stays.load(Ordering::Relaxed) {
            pending().await
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.not_silent(&self.guest);
    }
}
