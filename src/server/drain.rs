//! A drain: the way to an end of the server at which nobody loses a lock.
//!
//! New requests get no lock from its beginning on; whoever holds one, or waits for one, is served as
//! before. Connections are still accepted, since by them locks are resumed, released and looked at. It
//! ends when nothing is held, or its time is over, and whoever runs the server is told then.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Shared;
use super::control::Control;
use super::log_lines;

/// How often it is looked whether anything is held: so much later than it could does a drain end.
const BEAT: Duration = Duration::from_millis(50);

/// Whether a server is drained, since when and until when.
#[derive(Debug, Default)]
pub(super) struct Drain {
    time: OnceLock<Time>,
    begun: CancellationToken,
}

#[derive(Debug)]
struct Time {
    begun: Instant,
    until: Instant,
}

/// How far a drain has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drained {
    /// For how long it goes on by now.
    pub(crate) since: Duration,
    /// How long it goes on at most.
    pub(crate) left: Duration,
}

impl Drain {
    /// `None` if there is none.
    pub(super) fn drained(&self) -> Option<Drained> {
        let (time, now) = (self.time.get()?, Instant::now());
        Some(Drained {
            since: now.saturating_duration_since(time.begun),
            left: time.until.saturating_duration_since(now),
        })
    }

    /// How long the drain goes on at most; `None` if there is none.
    pub(super) fn left(&self) -> Option<Duration> {
        Some(self.drained()?.left)
    }
}

impl Shared {
    /// Begins the drain, unless it goes on already or the server stops.
    pub(super) fn begin_drain(&self, by: &str, by_user: Option<impl tracing::Value>) {
        let time = self.config.drain_time();
        self.drain.time.get_or_init(|| {
            let begun = Instant::now();
            let until = begun + time;
            Time { begun, until }
        });
        if self.table.drain() {
            let (locks, waiters) = (self.table.held(), self.table.waiting());
            let most_ms = time.as_millis() as u64;
            info!(
                by,
                by_user, locks, waiters, most_ms, "draining: no new locks"
            );
        }
        self.drain.begun.cancel();
    }

    /// Whether other servers take over what is held when this one stops.
    fn has_others(&self) -> bool {
        #[cfg(feature = "cluster")]
        return self.leading.is_some();
        #[cfg(not(feature = "cluster"))]
        false
    }

    /// Whether the server gives no new locks, since it is about to stop or stops.
    #[cfg(any(feature = "admin", test))]
    pub(super) fn is_draining(&self) -> bool {
        self.drain.begun.is_cancelled() || self.stop.is_cancelled()
    }
}

/// Begins the drain when `control` says so, and tells it when the drain is over, also one that a
/// client began; until `stop`.
pub(super) async fn see_to(shared: Arc<Shared>, control: Control, stop: CancellationToken) {
    let drain = async {
        tokio::select! {
            () = control.drain_asked() => shared.begin_drain("a signal", None::<&str>),
            () = shared.drain.begun.cancelled() => {}
        }
        control.tell_draining(shared.drain.left().unwrap_or_default());
        // Where others take over, nobody loses what is held.
        if !shared.has_others() {
            until_over(&shared).await;
        }
        control.tell_drained();
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = drain => {}
    }
}

/// Waits until nothing is held, or the time is over. Locks are counted once a beat, and not where they
/// are released, which would cost every release something.
async fn until_over(shared: &Arc<Shared>) {
    loop {
        let locks = shared.table.held();
        if locks == 0 {
            info!("drained: nothing is held");
            return;
        }
        match shared.drain.left() {
            Some(left) if !left.is_zero() => sleep(left.min(BEAT)).await,
            _ => {
                let keys = log_lines::left_over(shared).await;
                warn!(
                    locks,
                    keys, "the time of the drain is over, and locks are held"
                );
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::timeout;

    use super::*;
    use crate::server::harness::Server;

    /// A server, and what is told of the end of its drain.
    struct Draining {
        server: Server,
        control: Control,
    }

    impl Draining {
        fn start() -> Self {
            let server = Server::start();
            let (shared, control) = (Arc::clone(&server.shared), Control::default());
            let stop = shared.stop.clone();
            tokio::spawn(see_to(shared, control.clone(), stop));
            Self { server, control }
        }

        /// Whether it is over by now, with as many beats as its task needs to notice.
        async fn is_over(&self) -> bool {
            timeout(4 * BEAT, self.control.drained()).await.is_ok()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn new_requests_are_turned_away_and_those_who_came_before_are_served() {
        let drained = Draining::start();
        let server = &drained.server;
        let [mut a, mut b, mut c] = [(); 3].map(|()| server.connect());
        a.ask("lock k", "200 Acquired").await;
        a.ask("lock_value r v", "200 Acquired").await;
        b.send("lock k 60").await;
        server.until_waiting(1).await;
        assert!(!server.shared.is_draining());
        c.ask("drain", "200 OK").await;
        assert!(server.shared.is_draining());
        for (request, answer) in [
            ("lock free 60", "503 Draining"),
            ("lock k 60", "503 Draining"),
            ("lock k", "409 Unavailable"),
            ("lock_value r v", "503 Draining"),
            ("lock_slot s 2", "503 Draining"),
            ("lock k2 0 owner 60000", "503 Draining"),
            ("lock_all 60 x y", "503 Draining"),
        ] {
            c.ask(request, answer).await;
        }
        a.ask("lock k 60", "200 Acquired").await;
        a.ask("lock more", "503 Draining").await;
        a.ask("unlock_all", "200 OK").await;
        b.expect("200 Acquired").await;
        assert!(!drained.is_over().await, "one who waited has it");
        b.ask("unlock k", "200 Unlocked").await;
        assert!(drained.is_over().await);
    }

    /// Beside a key that its session held before, which is no part of it.
    #[tokio::test(start_paused = true)]
    async fn a_request_for_several_keys_goes_on_once_it_has_one() {
        let drained = Draining::start();
        let server = &drained.server;
        let [mut a, mut b, mut late] = [(); 3].map(|()| server.connect());
        a.ask("lock k2", "200 Acquired").await;
        late.ask("lock k0", "200 Acquired").await;
        b.send("lock_all 60 k1 k2 k3").await;
        server.until_waiting(1).await;
        a.ask("drain", "200 OK").await;
        late.ask("lock_all 60 k0 k5", "503 Draining").await;
        a.ask("unlock k2", "200 Unlocked").await;
        b.expect("200 Acquired").await;
        late.ask("unlock k0", "200 Unlocked").await;
        b.ask("unlock_all", "200 OK").await;
        assert!(drained.is_over().await);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_come_in_to_resume_and_to_release() {
        let drained = Draining::start();
        let mut a = drained.server.connect();
        a.ask("lock k", "200 Acquired").await;
        a.ask("lock o 0 job-7 0", "200 Acquired").await;
        let id = a.id().await;
        drop(a);
        drained.control.drain();
        assert!(!drained.is_over().await, "a session may come back");
        let mut again = drained.server.connect();
        again.ask(&format!("resume {id}"), "200 Resumed").await;
        again.ask("unlock k", "200 Unlocked").await;
        assert!(!drained.is_over().await, "an owner has a lock");
        again.ask("unlock o job-7", "200 Unlocked").await;
        assert!(drained.is_over().await);
    }

    #[tokio::test(start_paused = true)]
    async fn its_time_is_that_from_its_beginning_however_often_it_is_asked_for() {
        let drained = Draining::start();
        let time = drained.server.shared.config.drain_time();
        let mut a = drained.server.connect();
        a.ask("lock k", "200 Acquired").await;
        a.ask("drain", "200 OK").await;
        let mut over = pin!(drained.control.drained());
        let begun = Instant::now();
        assert!(timeout(time - BEAT, &mut over).await.is_err());
        a.ask("drain", "200 OK").await;
        drained.control.drain();
        over.await;
        let taken = begun.elapsed();
        assert!(taken >= time - BEAT && taken < time + BEAT, "{taken:?}");
        a.ask("unlock k", "200 Unlocked").await;
    }
}
