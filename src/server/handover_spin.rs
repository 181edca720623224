//! Keeps a worker awake while locks pass from client to client in quick succession.
//!
//! A hand-over is a round trip: the new holder has to be told, and to unlock. The server may have
//! nothing else to do meanwhile; but a worker that goes to sleep for these few microseconds takes
//! longer to wake up again, and more of the processor's time, than all the rest of the round trip.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Shared;

/// Hand-overs are quick if they are no further apart than this, and then the worker waits as long
/// for the next one: longer than a round trip on one machine or in one rack. Where hand-overs are
/// slower, no processor time is spent on waiting.
const QUICK_NS: u64 = 100_000;

/// When the last hand-over was, and how the task that keeps a worker awake learns of it.
#[derive(Debug)]
pub(super) struct HandoverSpin {
    start: Instant,
    /// When the last hand-over was, in nanoseconds after the start.
    last_ns: AtomicU64,
    quick: Notify,
}

impl Default for HandoverSpin {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            last_ns: AtomicU64::new(0),
            quick: Notify::new(),
        }
    }
}

impl HandoverSpin {
    /// Notes that a lock has passed to a waiter.
    pub(super) fn handed_over(&self) {
        let now_ns = self.now_ns();
        let last_ns = self.last_ns.swap(now_ns, Ordering::Relaxed);
        if is_quick(last_ns, now_ns) {
            self.quick.notify_one();
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn is_next_near(&self) -> bool {
        is_quick(self.last_ns.load(Ordering::Relaxed), self.now_ns())
    }
}

fn is_quick(last_ns: u64, now_ns: u64) -> bool {
    // A thread may store its time after another thread that has read the clock later.
    now_ns.saturating_sub(last_ns) <= QUICK_NS
}

/// Keeps a worker awake while the next hand-over is near, until `stop`. One task of this kind is
/// enough: while it runs, its worker looks for input again and again, and all other tasks have
/// their turn.
pub(super) async fn keep_awake(shared: Arc<Shared>, stop: CancellationToken) {
    let spin = &shared.handover_spin;
    let watch = async {
        loop {
            spin.quick.notified().await;
            while spin.is_next_near() {
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
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Wake, Waker};

    use super::*;
    use crate::server::harness::Server;

    #[tokio::test]
    async fn a_lock_that_passes_on_is_noticed_and_one_that_becomes_free_is_not() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        a.ask("unlock k", "200 Unlocked").await;
        let last = &server.shared.handover_spin.last_ns;
        assert_eq!(last.load(Ordering::Relaxed), 0);
        a.ask("lock k", "200 Acquired").await;
        b.send("lock k 3600").await;
        server.until_waiting(1).await;
        a.ask("unlock k", "200 Unlocked").await;
        assert_ne!(last.load(Ordering::Relaxed), 0);
        b.expect("200 Acquired").await;
        server.stop().await;
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn it_stays_awake_while_hand_overs_are_near_and_sleeps_then() {
        let server = Server::start();
        let (shared, stop) = (Arc::clone(&server.shared), CancellationToken::new());
        let mut spin = pin!(keep_awake(Arc::clone(&shared), stop));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut wants_another_turn = async || {
            let mut context = Context::from_waker(&waker);
            assert!(spin.as_mut().poll(&mut context).is_pending());
            // The runtime polls a task that yielded after all others.
            tokio::task::yield_now().await;
            woken.0.swap(false, Ordering::Relaxed)
        };
        assert!(!wants_another_turn().await);
        // A time so far ahead that the next hand-over stays near.
        shared
            .handover_spin
            .last_ns
            .store(u64::MAX, Ordering::Relaxed);
        shared.handover_spin.quick.notify_one();
        for _ in 0..3 {
            assert!(wants_another_turn().await);
        }
        shared.handover_spin.last_ns.store(0, Ordering::Relaxed);
        while shared.handover_spin.is_next_near() {}
        assert!(!wants_another_turn().await);
        server.stop().await;
    }

    #[test]
    fn only_hand_overs_that_follow_each_other_closely_are_watched_for() {
        assert!(is_quick(7, 7 + QUICK_NS));
        assert!(!is_quick(7, 8 + QUICK_NS));
        assert!(is_quick(8, 7), "another thread's was later");
    }
}
