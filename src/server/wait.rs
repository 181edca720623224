//! The four things that a waiting request listens to.

use std::future::Future;

use crate::table::Ending;

/// Waits for the first of the four and says which it was.
///
/// Where several are ready, the end of the connection is looked at first, so that a lock is not
/// granted to a client that is known to be gone; then the grant, so that neither the deadline
/// nor the shutdown takes away what was given. Whatever this returns, the waiter's state under
/// the key's guard decides: [`LockTable::settle`](crate::table::LockTable::settle).
pub(super) async fn first_of(
    disconnect: impl Future<Output = ()>,
    granted: impl Future<Output = ()>,
    shutdown: impl Future<Output = ()>,
    deadline: impl Future<Output = ()>,
) -> Ending {
    tokio::select! {
        biased;
        () = disconnect => Ending::Disconnect,
        () = granted => Ending::Granted,
        () = shutdown => Ending::Shutdown,
        () = deadline => Ending::Deadline,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use shuttle::future::block_on;
    use shuttle::thread;
    use tokio::sync::Notify;

    use super::*;
    use crate::table::{
        LockTable, Locked, Mode, Peer, Session, SessionNumber, Unlocked, interleave, test_table,
    };

    const KEY: &[u8] = b"k";

    #[derive(Clone)]
    struct Race {
        table: Arc<LockTable>,
        disconnect: Arc<Notify>,
        shutdown: Arc<Notify>,
        deadline: Arc<Notify>,
    }

    impl Race {
        fn open(&self) -> Session {
            self.table.open(Peer::Unix(None), Duration::ZERO)
        }

        fn queue(&self) -> Session {
            let mut session = self.open();
            let mode = Mode::Exclusive;
            let answer = self
                .table
                .lock_or_wait(&mut session, KEY, &mode, Instant::now());
            assert_eq!(answer, Locked::Waiting);
            session
        }

        async fn ending(&self, session: &Session) -> Ending {
            let waiter = session.waiter().expect("it waits");
            let (disconnect, shutdown) = (self.disconnect.notified(), self.shutdown.notified());
            first_of(
                disconnect,
                waiter.granted(),
                shutdown,
                self.deadline.notified(),
            )
            .await
        }

        fn assert_alone(&self, number: SessionNumber) {
            let keys = self.table.keys();
            let view = self.table.lock_view(&keys[0], 2).expect("held");
            assert_eq!(
                view.holders
                    .iter()
                    .map(|(holder, _)| *holder)
                    .collect::<Vec<_>>(),
                [number],
                "the one who was told so holds the lock"
            );
        }

        fn unlock(&self, mut session: Session) {
            self.assert_alone(session.number());
            let answer = self.table.unlock(&mut session, KEY, Instant::now());
            assert!(matches!(answer, Unlocked::Released { .. }));
        }
    }

    /// A holder releases while the first waiter's deadline, disconnect and shutdown all come, and
    /// a second waiter stands behind it. Whatever the order, the lock is with who was told so,
    /// and the second waiter gets it in the end; if it did not, this would hang, which the
    /// scheduler reports.
    ///
    /// `has_lock` is how the first waiter concludes from the ending and from what `settle` said.
    fn race(has_lock: fn(Ending, bool) -> bool) {
        interleave::yield_with(thread::yield_now);
        let race = Race {
            table: Arc::new(test_table()),
            disconnect: Arc::default(),
            shutdown: Arc::default(),
            deadline: Arc::default(),
        };
        let mut holder = race.open();
        let answer = race
            .table
            .lock(&mut holder, KEY, &Mode::Exclusive, Instant::now());
        assert_eq!(answer, Locked::Acquired);
        let (mut first, mut second) = (race.queue(), race.queue());

        let mut threads = Vec::new();
        for signal in [&race.disconnect, &race.shutdown, &race.deadline] {
            let signal = Arc::clone(signal);
            threads.push(thread::spawn(move || signal.notify_one()));
        }
        let racing = race.clone();
        threads.push(thread::spawn(move || racing.unlock(holder)));
        let racing = race.clone();
        threads.push(thread::spawn(move || {
            let ending = block_on(racing.ending(&first));
            let settled = racing.table.settle(&mut first, ending, Instant::now());
            assert!(
                !(settled && ending == Ending::Disconnect),
                "nobody would know of it"
            );
            if has_lock(ending, settled) {
                racing.unlock(first);
            }
        }));
        let racing = race.clone();
        threads.push(thread::spawn(move || {
            block_on(second.waiter().expect("it waits").granted());
            assert!(
                racing
                    .table
                    .settle(&mut second, Ending::Granted, Instant::now())
            );
            racing.unlock(second);
        }));
        for thread in threads {
            thread.join().expect("no assertion failed");
        }
        assert_eq!(race.table.held(), 0, "everyone is done");
    }

    #[test]
    fn grant_deadline_disconnect_and_shutdown_have_one_winner() {
        shuttle::check_random(|| race(|_, settled| settled), 5_000);
        shuttle::check_pct(|| race(|_, settled| settled), 5_000, 3);
    }

    /// The check above would notice a waiter that believes its deadline instead of the table.
    #[test]
    #[should_panic = "deadlock"]
    fn a_waiter_that_overlooks_its_grant_is_caught() {
        shuttle::check_random(|| race(|ending, _| ending == Ending::Granted), 5_000);
    }
}
