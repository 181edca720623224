//! What is known of a session: its connection, what it holds, and until when that can be believed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::address::Address;
use crate::clock::Moment;
use crate::error::{ConnectionError, Loss};
use crate::hold::Hold;
use crate::options::Options;

/// What the client knows of a server that it is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) address: Address,
    /// Whether it keeps locks over a restart.
    pub(crate) is_durable: bool,
    /// Whether it is one of several that have the same sessions.
    pub(crate) has_others: bool,
    /// Tells this run of the server from others.
    pub(crate) instance: Option<String>,
}

/// Whether the session has a connection.
#[derive(Debug, Clone)]
pub(crate) enum State {
    Up(Server),
    /// `failures`: rounds over all servers in which none answered, since the client began.
    Down {
        error: Option<ConnectionError>,
        failures: u64,
    },
    Ended,
}

/// What is known of a session to all who ask: its guards, the keeper, and the task that serves it.
#[derive(Debug)]
pub(crate) struct Vital {
    pub(crate) options: Arc<Options>,
    pub(super) state: watch::Sender<State>,
    /// Right before the last answered request was sent, the server had this session.
    pub(super) confirmed: AtomicU64,
    /// Which session of the server this is, counted from the first.
    pub(super) epoch: AtomicU64,
    /// The longest lease that the server gives, and the one with which each grant begins, in nanoseconds;
    /// 0: none.
    pub(super) max_hold: AtomicU64,
    /// How often a connection was made.
    pub(super) joins: AtomicU64,
    /// The number by which the server's listings name it; 0: not known.
    pub(super) number: AtomicU64,
    pub(super) holds: Mutex<Vec<Arc<Hold>>>,
    /// Keys that a guard or a request of this session uses: the server would take a second request
    /// for one that has the lock already.
    pub(super) reserved: Mutex<HashSet<Vec<u8>>>,
    /// Callers that wait for a connection, for whom one is made.
    pub(super) wanted_by: AtomicUsize,
    pub(super) wanted: Notify,
    /// A request of this session waits at the server, since then (0: none), and nothing else is
    /// answered.
    pub(super) waiting_since: AtomicU64,
    /// That request is for a lock, so that the server lists it; a watch is not listed.
    pub(super) is_in_queue: AtomicBool,
    /// The server was seen to have answered what this session still waits for.
    pub(super) missed: AtomicBool,
    /// The keeper's, to be rung when there is a connection.
    pub(super) bell: Arc<Notify>,
}

/// Counts one who needs the session connected.
pub(crate) struct Wanted(Arc<Vital>);

impl Wanted {
    pub(crate) fn new(vital: &Arc<Vital>) -> Self {
        vital.wanted_by.fetch_add(1, Ordering::SeqCst);
        vital.wanted.notify_one();
        Self(Arc::clone(vital))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.wanted_by.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Vital {
    pub(super) fn new(options: &Arc<Options>, bell: &Arc<Notify>) -> Self {
        Self {
            options: Arc::clone(options),
            state: watch::Sender::new(State::Down {
                error: None,
                failures: 0,
            }),
            confirmed: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            max_hold: AtomicU64::new(0),
            joins: AtomicU64::new(0),
            number: AtomicU64::new(0),
            holds: Mutex::default(),
            reserved: Mutex::default(),
            wanted_by: AtomicUsize::new(0),
            wanted: Notify::new(),
            waiting_since: AtomicU64::new(0),
            is_in_queue: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            bell: Arc::clone(bell),
        }
    }

    pub(crate) fn confirmed(&self) -> Moment {
        Moment(self.confirmed.load(Ordering::SeqCst))
    }

    /// The server had this session after that moment.
    pub(crate) fn confirm(&self, sent: Moment) {
        self.confirmed.fetch_max(sent.0, Ordering::SeqCst);
    }

    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    /// The longest lease that the server gives, and the one with which each grant begins.
    pub(crate) fn max_hold(&self) -> Option<Duration> {
        match self.max_hold.load(Ordering::SeqCst) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// The lease of a lock for which this one was asked: no longer than the server's longest hold, which
    /// is also the lease of a lock for which none was asked.
    pub(crate) fn lease_of(&self, asked: Option<Duration>) -> Option<Duration> {
        match (asked, self.max_hold()) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        }
    }

    pub(super) fn set_max_hold(&self, most: Option<Duration>) {
        let nanos = most.map_or(0, |most| u64::try_from(most.as_nanos()).unwrap_or(u64::MAX));
        self.max_hold.store(nanos, Ordering::SeqCst);
    }

    /// How often a connection was made.
    pub(crate) fn joins(&self) -> u64 {
        self.joins.load(Ordering::SeqCst)
    }

    pub(super) fn has_holds(&self) -> bool {
        !lock(&self.holds).is_empty()
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted_by.load(Ordering::SeqCst) > 0 || self.has_holds()
    }

    /// Since when a request waits at the server.
    pub(crate) fn waiting_since(&self) -> Option<Moment> {
        match self.waiting_since.load(Ordering::SeqCst) {
            0 => None,
            since => Some(Moment(since)),
        }
    }

    pub(super) fn set_waiting_since(&self, since: Option<Moment>, is_in_queue: bool) {
        let nanos = since.map_or(0, |moment| moment.0);
        self.is_in_queue.store(is_in_queue, Ordering::SeqCst);
        self.waiting_since.store(nanos, Ordering::SeqCst);
        self.missed.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_in_queue(&self) -> bool {
        self.is_in_queue.load(Ordering::SeqCst)
    }

    /// Whether the server was seen without the wait before, too.
    pub(crate) fn missed_before(&self) -> bool {
        self.missed.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn is_not_missed(&self) {
        self.missed.store(false, Ordering::SeqCst);
    }

    pub(crate) fn holds(&self) -> Vec<Arc<Hold>> {
        lock(&self.holds).clone()
    }

    /// Adds them, if the session that granted them is still the one that there is.
    pub(crate) fn add(&self, holds: &[Arc<Hold>], epoch: u64) -> Result<(), Loss> {
        let mut all = lock(&self.holds);
        if self.epoch.load(Ordering::SeqCst) != epoch {
            return Err(Loss::SessionEnded);
        }
        all.extend(holds.iter().cloned());
        self.wanted.notify_one();
        Ok(())
    }

    /// Adds locks of owners, which another session took.
    pub(crate) fn adopt(&self, holds: &[Arc<Hold>]) {
        lock(&self.holds).extend(holds.iter().cloned());
        self.wanted.notify_one();
    }

    /// Calls the lock lost, and with it all of its guard. What the server may still have of them is
    /// released when the guard is: whoever has it may need time to end what it does, and nobody else
    /// gets the lock meanwhile, if that can be helped.
    pub(crate) fn lose(&self, hold: &Hold, why: Loss) {
        hold.lose(why);
        lock(&self.holds).retain(|one| !one.is_with(hold));
    }

    /// Ready when nobody serves this session any more.
    pub(crate) async fn ended(&self) {
        let mut states = self.state.subscribe();
        let _ = states.wait_for(|state| matches!(state, State::Ended)).await;
    }

    pub(crate) fn remove(&self, holds: &[Arc<Hold>]) {
        lock(&self.holds).retain(|one| !holds.iter().any(|other| Arc::ptr_eq(one, other)));
    }

    /// The server has ended the session: what it held is lost. Locks of owners are looked after by
    /// whoever asks for them.
    pub(super) fn session_ended(&self) {
        let mut all = lock(&self.holds);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        all.retain(|hold| {
            hold.owner.is_some() || {
                hold.lose(Loss::SessionEnded);
                false
            }
        });
    }

    /// The server keeps nothing over a restart, and is gone.
    pub(super) fn server_gone(&self) {
        let mut all = lock(&self.holds);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        all.drain(..).for_each(|hold| {
            hold.lose(Loss::ServerGone);
        });
    }
}

/// A poisoned list is as good as before: each change of it is one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Loss;

    /// A grant that was told of by a session which has ended since is not taken for one of the next.
    #[tokio::test]
    async fn a_grant_of_an_earlier_session_is_none() {
        let servers = "127.0.0.1:1".parse().expect("an address");
        let session =
            crate::session::Session::start(&Arc::new(Options::new(servers)), &Arc::default());
        let vital = &session.vital;
        let hold = |owner: Option<&str>| {
            let owner = owner.map(|word| word.as_bytes().to_vec());
            let (vital, loss) = (Arc::clone(vital), Arc::default());
            Arc::new(Hold::new(
                b"k".to_vec(),
                owner,
                7,
                None,
                Moment::now(),
                vital,
                loss,
            ))
        };
        let (one, owned, late) = (hold(None), hold(Some("me")), hold(None));
        assert_eq!(
            vital.add(&[Arc::clone(&one), Arc::clone(&owned)], 0),
            Ok(())
        );
        vital.session_ended();
        assert_eq!(one.loss(), Some(Loss::SessionEnded));
        assert_eq!(owned.loss(), None, "that is asked for by its word");
        assert_eq!(vital.add(&[late], 0), Err(Loss::SessionEnded));
        assert_eq!(vital.holds().len(), 1);
    }
}
