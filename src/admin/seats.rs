//! The places for connections of HTTP, which nobody keeps by doing nothing.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How many connections there are at one time: enough for some pages, probes and scrapers.
pub(crate) const SEATS: usize = 64;

/// How many of them may be worked on at one time. The others can always give way.
const WORKED_ON: usize = SEATS - 16;

/// How long a connection may be idle while others wait for its place.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long one of the shorter line may be, while nobody of the longer one is idle for so long.
const LONG_PATIENCE: Duration = Duration::from_secs(1);

/// All places. When they are taken and one more connection comes, one that is [idle](Idle) gives way: so
/// half requests, wrong passwords and answers that nobody reads, however many, keep no probe from its
/// answer.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    work: Arc<Semaphore>,
    idle: Mutex<Idle>,
    /// How many guests there were.
    guests: AtomicU64,
}

/// The connections that wait for their clients, in two lines, with who has done nothing for longest
/// first. The longer line gives way: so few who read slowly are safe from a crowd that asks nothing. If
/// nobody there is idle, whoever is for long in the other line gives way.
#[derive(Debug, Default)]
struct Idle {
    /// Those that have sent no whole request yet, or not shown that they may.
    asking: VecDeque<Guest>,
    /// Those that are sent their answer.
    reading: VecDeque<Guest>,
}

/// A connection.
#[derive(Debug, Clone)]
struct Guest {
    number: u64,
    since: Instant,
    leave: CancellationToken,
}

/// A guest's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    guest: Guest,
    _place: OwnedSemaphorePermit,
}

/// As long as it exists, the guest's request is worked on, and the guest does not give way.
pub(super) struct Work<'a> {
    seat: &'a Seat,
    _permit: OwnedSemaphorePermit,
}

impl Default for Seats {
    fn default() -> Self {
        Self {
            free: Arc::new(Semaphore::new(SEATS)),
            work: Arc::new(Semaphore::new(WORKED_ON)),
            idle: Mutex::default(),
            guests: AtomicU64::default(),
        }
    }
}

impl Seats {
    /// A place for a connection that has been accepted.
    pub(super) async fn take(self: &Arc<Self>) -> Seat {
        let place = self.place().await;
        let guest = Guest {
            number: self.guests.fetch_add(1, Ordering::Relaxed),
            since: Instant::now(),
            leave: CancellationToken::new(),
        };
        self.idle().asking.push_back(guest.clone());
        Seat {
            seats: Arc::clone(self),
            guest,
            _place: place,
        }
    }

    async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
                return place;
            }
            let again = self.send_one_away();
            let free = Arc::clone(&self.free).acquire_owned();
            if let Ok(Ok(place)) = timeout_at(again, free).await {
                return place;
            }
        }
    }

    /// Tells one to leave that has been idle for long enough, and returns when to look again.
    fn send_one_away(&self) -> Instant {
        let (mut idle, now) = (self.idle(), Instant::now());
        let mut soonest = now + PATIENCE;
        for (line, patience) in idle
            .longer_first()
            .into_iter()
            .zip([PATIENCE, LONG_PATIENCE])
        {
            let Some(end) = line.front().map(|guest| guest.since + patience) else {
                continue;
            };
            if end > now {
                soonest = soonest.min(end);
            } else if let Some(guest) = line.pop_front() {
                // It leaves at once.
                guest.leave.cancel();
                return now + PATIENCE;
            }
        }
        soonest
    }

    /// Nothing is half done where a holder could panic.
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn longer_first(&mut self) -> [&mut VecDeque<Guest>; 2] {
        match self.reading.len() > self.asking.len() {
            true => [&mut self.reading, &mut self.asking],
            false => [&mut self.asking, &mut self.reading],
        }
    }

    fn remove(&mut self, guest: &Guest) {
        for line in [&mut self.asking, &mut self.reading] {
            line.retain(|other| other.number != guest.number);
        }
    }
}

impl Seat {
    /// Its request is whole and may be sent. Never ready if this guest has to leave.
    pub(super) async fn work(&self) -> Work<'_> {
        let Ok(permit) = Arc::clone(&self.seats.work).acquire_owned().await else {
            return pending().await;
        };
        self.seats.idle().remove(&self.guest);
        // Who was told before is not in a line, and nobody is told afterwards.
        if self.guest.leave.is_cancelled() {
            return pending().await;
        }
        Work {
            seat: self,
            _permit: permit,
        }
    }

    /// It has taken a part of its answer, or can begin to.
    pub(super) fn reads(&self) {
        let mut idle = self.seats.idle();
        idle.remove(&self.guest);
        idle.reading.push_back(Guest {
            since: Instant::now(),
            ..self.guest.clone()
        });
    }

    /// Ready when this connection has to give way to another.
    pub(super) async fn must_leave(&self) {
        self.guest.leave.cancelled().await;
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.seat.reads();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.idle().remove(&self.guest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the longer line may be written to all the time.
    #[tokio::test(start_paused = true)]
    async fn whoever_is_idle_gives_way_also_in_the_shorter_line() {
        let seats = Arc::new(Seats::default());
        let idle = seats.take().await;
        let mut busy = Vec::new();
        for _ in 1..SEATS {
            busy.push(seats.take().await);
        }
        tokio::time::advance(LONG_PATIENCE).await;
        busy.iter().for_each(Seat::reads);
        let begin = Instant::now();
        let leaving = async {
            idle.must_leave().await;
            drop(idle);
        };
        let (_new, ()) = tokio::join!(seats.take(), leaving);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
