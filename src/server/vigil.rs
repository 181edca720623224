//! Keeps a worker awake while locks pass from client to client in quick succession.
//!
//! A hand-over is a round trip: the new holder has to be told, and to unlock. Meanwhile there may be
//! nothing else to do; but a worker that goes to sleep for these few microseconds takes longer to
//! wake up again, and more of the processor's time, than all the rest of the round trip.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Shared;

/// Hand-overs are quick if they are no further apart than this, and so long the next one is waited
/// for: longer than a round trip on one machine or in one rack takes. Those that are slower cost no
/// more processor time for it.
const QUICK: Duration = Duration::from_micros(100);

/// When the last hand-over was, and who watches for the next.
#[derive(Debug)]
pub(super) struct Vigil {
    start: Instant,
    /// In nanoseconds after the start.
    last: AtomicU64,
    quick: Notify,
}

impl Default for Vigil {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
            quick: Notify::new(),
        }
    }
}

impl Vigil {
    /// A lock has passed on to one who waited for it.
    pub(super) fn handed_over(&self) {
        let now = self.now();
        let last = self.last.swap(now, Ordering::Relaxed);
        if is_quick(last, now) {
            self.quick.notify_one();
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn is_next_near(&self) -> bool {
        is_quick(self.last.load(Ordering::Relaxed), self.now())
    }
}

fn is_quick(last: u64, now: u64) -> bool {
    u128::from(now.saturating_sub(last)) <= QUICK.as_nanos()
}

/// Watches until `stop`. One such task is enough: while it runs, its worker looks for input again
/// and again, and all others have their turn.
pub(super) async fn keep_vigil(shared: Arc<Shared>, stop: CancellationToken) {
    let vigil = &shared.vigil;
    let watch = async {
        loop {
            vigil.quick.notified().await;
            while vigil.is_next_near() {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = watch => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::harness::Server;

    #[tokio::test]
    async fn a_lock_that_passes_on_is_noticed_and_one_that_becomes_free_is_not() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        a.ask("unlock k", "200 Unlocked").await;
        let last = &server.shared.vigil.last;
        assert_eq!(last.load(Ordering::Relaxed), 0);
        a.ask("lock k", "200 Acquired").await;
        b.send("lock k 3600").await;
        while server.shared.table.waiters().is_empty() {
            tokio::task::yield_now().await;
        }
        a.ask("unlock k", "200 Unlocked").await;
        assert_ne!(last.load(Ordering::Relaxed), 0);
        b.expect("200 Acquired").await;
        server.stop().await;
    }

    /// While hand-overs are near the task is always ready, and others have their turn; then it
    /// sleeps.
    #[tokio::test]
    async fn the_vigil_gives_way_to_others_and_ends() {
        let server = Server::start();
        let (shared, stop) = (Arc::clone(&server.shared), CancellationToken::new());
        let vigil = tokio::spawn(keep_vigil(Arc::clone(&shared), stop.clone()));
        for _ in 0..1000 {
            shared.vigil.handed_over();
            tokio::task::yield_now().await;
        }
        while shared.vigil.is_next_near() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        vigil.await.expect("it ends");
        server.stop().await;
    }

    #[test]
    fn only_hand_overs_that_follow_each_other_closely_are_watched_for() {
        let near = u64::try_from(QUICK.as_nanos()).expect("short");
        assert!(is_quick(7, 7 + near));
        assert!(!is_quick(7, 8 + near));
        assert!(is_quick(8, 7), "another thread's was later");
    }
}
