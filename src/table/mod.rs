//! Who holds what and who waits. No sockets, no tasks, no clock: the time comes in.
//!
//! [`LockTable`] keeps a sharded map from key to lock. The uncontended [`LockTable::try_acquire`] and
//! [`LockTable::unlock`] take one shard guard, and where a session does not let go of what it took
//! last, a few more, one after the other, to tidy its list. Two guards are never held at once (but
//! by the map's own iterator, for reading).
//!
//! Under a guard, and for a moment, these mutexes are taken, in this order: that of some fat locks,
//! for a lock that is shared or waited for; that of the leases, if there is one; that of a session's
//! losses; the store's, if there is a store. The mutex of the wait-for graph is taken before a
//! guard, never under one; and wake-ups are sent after the guard is gone.
//!
//! From [`LockTable::stop`] on nothing is granted and nothing passes on. A stop is nobody's
//! disconnect: [`LockTable::detach`] and [`LockTable::end`] change nothing then, so what is held stays
//! held on disk, as after a crash.

mod acquire;
mod grant;
mod held_keys;
pub(crate) mod interleave;
mod lease;
mod lock;
mod lock_key;
mod lost;
mod map;
mod outcome;
#[cfg(test)]
pub(crate) mod plain;
mod registry;
mod release;
#[cfg(feature = "store")]
mod restore;
mod session;
mod signal;
mod view;
mod wait;
mod wait_graph;
mod waiters;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use grant::Grant;
pub use lease::EndedLease;
pub use lock_key::LockKey;
pub use outcome::{Basis, Claim, Locked, NotHeld, Outcome, Unlocked};
pub use registry::{Detached, Grace};
#[cfg(feature = "store")]
pub use restore::Contradiction;
pub use session::Session;
pub use signal::{Order, Signal};
pub use wait::{Ending, Wait};
pub use waiters::Waiter;

use held_keys::Tag;
use lease::Leases;
use lock::Lock;
use map::Locks;
use registry::Registry;
use wait_graph::WaitGraph;

use crate::model::Change;
use crate::model::{Limits, NotStored, Peer, Secret, SessionId, SessionNumber, Token};
use crate::store::Changes;

/// The shared state of the server: all locks and all sessions.
///
/// All methods may be called from any number of threads at once; what belongs to one session is
/// serialised by its `&mut Session`.
#[derive(Debug)]
pub struct LockTable {
    locks: Locks,
    /// How many locks are held or waited for; never above the limit. A grant changes nothing: the
    /// waiter's place becomes its lock's.
    claims: AtomicUsize,
    sessions: Registry,
    waits: Mutex<WaitGraph>,
    leases: Leases,
    /// The fencing token of the last grant.
    last_token: AtomicU64,
    last_arrival: AtomicU64,
    limits: Limits,
    changes: Changes,
    stopping: AtomicBool,
}

impl LockTable {
    /// An empty table, which hands in what survives a restart as `changes`. Its first grant's token is
    /// above `tokens_above`.
    pub fn new(limits: Limits, tokens_above: Token, changes: Changes) -> Self {
        Self {
            locks: Locks::default(),
            claims: AtomicUsize::new(0),
            sessions: Registry::new(limits.sessions_in_grace),
            waits: Mutex::default(),
            leases: Leases::default(),
            last_token: AtomicU64::new(tokens_above.0),
            last_arrival: AtomicU64::new(0),
            limits,
            changes,
            stopping: AtomicBool::new(false),
        }
    }

    /// What became of the changes that were made here.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// From here on nothing is granted and nothing passes on; every connection is told to stop, also
    /// one that begins later. Sessions and leases do not end any more.
    pub fn stop(&self) {
        // Before anyone is told: so whatever ends by the stop finds that it is one.
        self.stopping.store(true, Ordering::SeqCst);
        self.sessions.order_all(Order::Stop);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Gives an order to the connection of a session; false if it has none at this moment.
    pub fn order(&self, number: SessionNumber, order: Order) -> bool {
        self.sessions.order(number, order)
    }

    /// Begins a session for a new connection, with `grace` as its grace period.
    pub fn open(&self, peer: Peer, grace: Duration) -> Session {
        let mut session = self.sessions.open(peer, grace);
        if self.limits.max_hold.is_some() {
            session.held.lost = Some(Arc::default());
        }
        if self.is_stopping() {
            // The stop may have been before the session was registered.
            session.signal.give(Order::Stop);
        }
        session
    }

    /// Where a session is, or was last, connected from; `None` if it is over.
    pub fn peer(&self, number: SessionNumber) -> Option<Peer> {
        self.sessions.peer(number)
    }

    /// Whether anything can be stored at this time, for a request that changes something.
    ///
    /// # Errors
    ///
    /// If not.
    pub fn accepts_changes(&self) -> Result<(), NotStored> {
        self.changes.accept()
    }

    /// Sets how long the session outlives its connection.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn set_grace(
        &self,
        session: &mut Session,
        grace: Duration,
    ) -> Result<Outcome<()>, NotStored> {
        self.changes.accept()?;
        self.sessions.set_grace(session.number, grace);
        if session.held.stored {
            self.store(session);
        }
        Ok(Outcome::durable((), session.seq))
    }

    /// The session's id, which does not change any more. If it had none, `draw` draws its secret, and
    /// from then on the session can be resumed.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn session_id<E>(
        &self,
        session: &mut Session,
        draw: impl FnOnce() -> Result<Secret, E>,
    ) -> Result<Outcome<Result<SessionId, E>>, NotStored> {
        self.changes.accept()?;
        let id = match self.sessions.id(session.number) {
            Some(id) => id,
            None => match draw() {
                Ok(secret) => {
                    let id = self.sessions.set_secret(session.number, secret);
                    self.store(session);
                    id
                }
                Err(error) => return Ok(Outcome::free(Err(error))),
            },
        };
        Ok(Outcome::durable(Ok(id), session.seq))
    }

    /// Makes the session in its grace period that has this id the one that `session` stands for,
    /// with its number, its locks and its grace period. Also true for the session's own id.
    ///
    /// False, with nothing changed, if there is no such session, if it is connected, if its grace
    /// period is over at `now`, or if `session` itself holds locks. Of several that resume one
    /// session at once, one succeeds. Possible also while nothing can be stored: to come back to a
    /// session needs no storing.
    pub fn resume(&self, session: &mut Session, id: SessionId, now: Instant) -> Outcome<bool> {
        session.assert_idle();
        session.held.notice_losses();
        let (own, stored) = (session.number, session.held.stored);
        if !self.sessions.resume(session, id, now) {
            return Outcome::free(false);
        }
        // What the resumed session did before is durable, or was taken back: its connection saw to
        // that before it ended.
        if stored && session.number != own {
            session.seq = self.changes.push(|| Change::SessionOver(own));
        }
        Outcome::durable(true, session.seq)
    }

    /// Ends the session's connection. Whoever gets a [`Session`] back releases what it holds by
    /// [`LockTable::unlock_some`]; whoever gets a [`Grace`] calls [`LockTable::end_grace`] when that
    /// is over. A wait ends by a disconnect.
    pub fn detach(&self, mut session: Session, now: Instant) -> Detached {
        drop(self.wait(&mut session));
        if self.is_stopping() {
            return Detached::Stopping;
        }
        session.held.notice_losses();
        let mut detached = self.sessions.detach(session, now);
        match &mut detached {
            Detached::InGrace(_) | Detached::Stopping => {}
            Detached::Over(session) | Detached::NoRoom { session, .. } => self.store_over(session),
        }
        detached
    }

    /// Ends a session whose grace period is over at `now` and hands out what it held, to be
    /// released by [`LockTable::unlock_some`], and where it was connected from. `None` if it was
    /// resumed, or ended before, or the server stops.
    pub fn end_grace(&self, number: SessionNumber, now: Instant) -> Option<(Session, Peer)> {
        if self.is_stopping() {
            return None;
        }
        let (mut session, peer) = self.sessions.end_grace(number, now)?;
        session.held.notice_losses();
        self.store_over(&mut session);
        Some((session, peer))
    }

    /// Ends a session at once, whatever it is doing: for one whose task did not come to its end.
    pub fn end(&self, mut session: Session, now: Instant) {
        drop(self.wait(&mut session));
        if self.is_stopping() {
            return;
        }
        self.sessions.remove(session.number);
        self.store_over(&mut session);
        let released = self.unlock_some(&mut session, usize::MAX, now);
        self.changes.write(released.basis.seq);
    }

    /// Has the store know a session that holds something. Not under a guard.
    fn store_new(&self, session: &mut Session) {
        if self.changes.are_kept() && !session.held.stored && session.held() > 0 {
            self.store(session);
        }
    }

    fn store(&self, session: &mut Session) {
        session.held.stored = self.changes.are_kept();
        let number = session.number;
        let change = || Change::Session(number, self.sessions.to_store(number));
        session.seq = self.changes.push(change);
    }

    /// Before what the session holds is released: if the server ends in between, nobody can come back
    /// to a session of which only a part is left, and the rest is released at the next start.
    fn store_over(&self, session: &mut Session) {
        if session.held.stored {
            let number = session.number;
            session.seq = self.changes.push(|| Change::SessionOver(number));
        }
    }

    /// Whether a grant of the session's is not over.
    fn is_held_by(&self, session: SessionNumber) -> impl Fn(&LockKey, Tag) -> bool {
        move |key, tag| {
            let token = |_: &LockKey, lock: &mut Lock| Some(lock.grant_mut(session)?.token());
            let token = self.locks.with(key.as_bytes(), token).flatten();
            token.is_some_and(|token| tag == token.into())
        }
    }
}

/// The capacity to which a map should shrink, if it should, to give back what it no longer needs: at
/// a quarter full and by half, which spreads the cost over what was removed.
fn shrunk(len: usize, capacity: usize) -> Option<usize> {
    (capacity > 1024 && len < capacity / 4).then_some(2 * len)
}
