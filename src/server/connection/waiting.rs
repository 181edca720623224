//! Waits of a connection: for a lock, or for another event that is neither input nor output.

use std::future::Future;
use std::io;
use std::pin::pin;

use bytes::BytesMut;
use tokio::time::{Instant, sleep_until};

use super::{Connection, Gone, read_some};
use crate::protocol::Reply;
use crate::server::transport::Transport;
use crate::table::{Ending, Locked, Order, Outcome};

/// How a wait for a lock ended.
pub(super) enum Waited {
    /// The lock was granted, or the request has closed a circle.
    Decided(Outcome<Locked>),
    /// Neither, for this reason.
    Not(Ending),
}

/// Why a wait ended before its event.
pub(super) enum Interrupted {
    /// The client ended its input.
    ClientLeft,
    /// The client has sent too much ahead.
    Overrun,
    /// The server stops.
    Stopping,
}

/// How reading ahead ended while a connection waits.
enum Ahead {
    /// The client ended its input.
    Ended,
    /// The client sent more than it may.
    TooMuch,
}

impl<S: Transport> Connection<S> {
    /// Waits until the session's wait for a lock ends, and answers the request.
    ///
    /// # Errors
    ///
    /// When the connection is over. The session's wait has ended by a disconnect then.
    pub(super) async fn wait_for_lock(&mut self, deadline: Instant) -> Result<(), Gone> {
        match self.until_decided(deadline).await? {
            Waited::Decided(outcome) => self.answer_lock(outcome),
            Waited::Not(why) => self.refuse_waited(why, Reply::TimedOut),
        }
        Ok(())
    }

    /// Answers a request whose wait ended without the lock; by `unavailable`, if its time was over.
    pub(super) fn refuse_waited(&mut self, why: Ending, unavailable: Reply<'_>) {
        match why {
            Ending::Shutdown => self.reply(&Reply::ShuttingDown),
            Ending::Overrun => self.refuse_overrun(),
            Ending::Decided | Ending::Deadline | Ending::Disconnect => {
                self.reply(&unavailable);
            }
        }
    }

    /// Waits until the session's wait for a lock ends.
    ///
    /// # Errors
    ///
    /// When the connection is over. The session's wait has ended by a disconnect then.
    pub(super) async fn until_decided(&mut self, deadline: Instant) -> Result<Waited, Gone> {
        // The answers before this one are ready and should not wait for the lock.
        self.flush().await?;
        let max_ahead = self.shared.config.max_ahead as usize;
        let signal = self.session.signal().clone();
        let Some(wait) = self.shared.table.wait(&mut self.session) else {
            debug_assert!(false, "only a session that waits gets here");
            return Ok(Waited::Not(Ending::Deadline));
        };
        let mut ahead = Ok(Ahead::Ended);
        let disconnect = async {
            ahead = read_ahead(&mut self.stream, &mut self.input, max_ahead).await;
        };
        let (order, deadline) = (signal.any(), sleep_until(deadline));
        let mut ending = first_of(disconnect, wait.decided(), order, deadline).await;
        if ending == Ending::Deadline {
            // Thousands may end at one moment. The lock may be granted until it is its turn.
            let (turns, account) = (&self.shared.turns, &mut self.account);
            if !turns.may_go(account, self.input.len()) {
                let turn = Box::pin(turns.wait(account, self.input.len()));
                tokio::select! {
                    biased;
                    _ = signal.any() => {}
                    _ = turn => {}
                }
            }
        }
        if let Some(order) = signal.is_cut_off() {
            // By a disconnect, since nobody will be told of a grant.
            let ended = wait.end(Ending::Disconnect, self.shared.clock.now());
            debug_assert_eq!(ended.value, Locked::Busy);
            return Err(order.into());
        }
        match (ending, &ahead) {
            (Ending::Disconnect, Ok(Ahead::TooMuch)) => ending = Ending::Overrun,
            (Ending::Disconnect, Ok(Ahead::Ended)) => self.input_ended = true,
            _ => {}
        }
        let outcome = wait.end(ending, self.shared.clock.now());
        ahead?;
        Ok(match outcome.value {
            Locked::Acquired | Locked::Deadlock(_) => Waited::Decided(outcome),
            _ => Waited::Not(ending),
        })
    }

    /// Waits for an event, unless the client's input ends, the client sends too much ahead, or the
    /// server stops before that.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub(super) async fn wait_for<T>(
        &mut self,
        event: impl Future<Output = T>,
    ) -> Result<Result<T, Interrupted>, Gone> {
        let max_ahead = self.shared.config.max_ahead as usize;
        tokio::select! {
            biased;
            ahead = read_ahead(&mut self.stream, &mut self.input, max_ahead) => match ahead? {
                Ahead::TooMuch => Ok(Err(Interrupted::Overrun)),
                Ahead::Ended => {
                    self.input_ended = true;
                    Ok(Err(Interrupted::ClientLeft))
                }
            },
            order = self.session.signal().any() => match order {
                Order::Stop => Ok(Err(Interrupted::Stopping)),
                order => Err(order.into()),
            },
            happened = event => Ok(Ok(happened)),
        }
    }

    /// Waits for an event that comes soon, also when the client's input has ended: a script that sends all
    /// its lines at once is answered all of them. `None` if the server stops before that.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub(super) async fn wait_out<T>(
        &mut self,
        event: impl Future<Output = T>,
    ) -> Result<Option<T>, Gone> {
        let mut event = pin!(event);
        match self.wait_for(&mut event).await? {
            Ok(happened) => Ok(Some(happened)),
            Err(Interrupted::Stopping) => Ok(None),
            Err(Interrupted::ClientLeft | Interrupted::Overrun) => self.wait_unread(event).await,
        }
    }

    /// Waits for an event, and reads nothing meanwhile. `None` if the server stops before that.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub(super) async fn wait_unread<T>(
        &mut self,
        event: impl Future<Output = T>,
    ) -> Result<Option<T>, Gone> {
        tokio::select! {
            biased;
            order = self.session.signal().any() => match order {
                Order::Stop => Ok(None),
                order => Err(order.into()),
            },
            happened = event => Ok(Some(happened)),
        }
    }

    pub(super) fn refuse_overrun(&mut self) {
        self.reply(&self.too_much_ahead());
    }

    pub(super) fn too_much_ahead(&self) -> Reply<'static> {
        let max_bytes = self.shared.config.max_ahead as usize;
        Reply::TooMuchAhead { max_bytes }
    }
}

/// Reads ahead until the client has ended its input, or has sent more than `most` bytes. So the end
/// of the input is noticed at once; unread input before it would hide it in the kernel's buffers.
async fn read_ahead(
    stream: &mut impl Transport,
    input: &mut BytesMut,
    most: usize,
) -> io::Result<Ahead> {
    while let room @ 1.. = (most + 1).saturating_sub(input.len()) {
        if read_some(stream, input, room).await? == 0 {
            return Ok(Ahead::Ended);
        }
    }
    Ok(Ahead::TooMuch)
}

/// Waits for the first of the four and says which it was.
///
/// Where several are ready, the end of the connection comes first, so that a lock is not granted to
/// a client that is known to be gone; then what the table decides, so that neither the deadline nor an order
/// takes the lock away. Whatever this returns, the waiter's state under the key's guard decides:
/// [`Wait::end`](crate::table::Wait::end).
async fn first_of<T>(
    disconnect: impl Future<Output = ()>,
    decided: impl Future<Output = ()>,
    order: impl Future<Output = T>,
    deadline: impl Future<Output = ()>,
) -> Ending {
    tokio::select! {
        biased;
        () = disconnect => Ending::Disconnect,
        () = decided => Ending::Decided,
        _ = order => Ending::Shutdown,
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
    use crate::model::{Holder, Mode, Peer, SessionNumber};
    use crate::table::plain::{PlainTable, test_table};
    use crate::table::{Session, Unlocked, interleave};

    const KEY: &[u8] = b"k";

    #[derive(Clone)]
    struct Race {
        table: Arc<PlainTable>,
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
            let (disconnect, shutdown) = (self.disconnect.notified(), self.shutdown.notified());
            first_of(
                disconnect,
                self.table.granted(session),
                shutdown,
                self.deadline.notified(),
            )
            .await
        }

        fn assert_alone(&self, number: SessionNumber) {
            let keys = self.table.keys();
            let view = self.table.lock_view(keys[0].as_bytes(), 2).expect("held");
            assert_eq!(
                view.holders
                    .iter()
                    .map(|(holder, _)| holder.clone())
                    .collect::<Vec<_>>(),
                [Holder::Session(number)],
                "the one who was told so holds the lock"
            );
        }

        fn unlock(&self, mut session: Session) {
            self.assert_alone(session.number());
            let answer = self.table.unlock(&mut session, KEY, Instant::now());
            assert!(matches!(answer, Unlocked::Released { .. }));
        }
    }

    /// A holder releases while the first waiter's deadline, disconnect and shutdown all come, and a
    /// second waiter stands behind it. Whatever the order, the first waiter has the lock exactly if
    /// its wait's end said so, and the second waiter gets it in the end; if it did not, this would
    /// hang, which the scheduler reports.
    ///
    /// `has_lock` is how the first waiter concludes whether it has the lock, from the ending and
    /// from the answer of `settle`.
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
            block_on(racing.table.granted(&second));
            assert!(
                racing
                    .table
                    .settle(&mut second, Ending::Decided, Instant::now())
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
        shuttle::check_random(|| race(|ending, _| ending == Ending::Decided), 5_000);
    }
}
