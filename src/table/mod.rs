//! Which session holds which lock, and which requests wait. The table opens no socket, starts no
//! task and reads no clock (but where a [`Wait`] is dropped): its callers bring the time.
//!
//! [`LockTable`] keeps a sharded map from key to lock. The uncontended [`LockTable::try_acquire`]
//! and [`LockTable::unlock`] take one shard guard. A session that releases older locks before
//! younger ones takes a few more guards, one after the other, to tidy its list of keys. Two guards
//! are never held at once, except by the map's own iterator, for reading.
//!
//! Under a guard these mutexes are taken, each for a moment: that of some fat locks, if the lock is
//! more than one session's alone (`FatLock`); that of the leases, if a grant has a lease, or a walk
//! asks when an owner's ends; that of a session's losses; and the store's, if there is a store. Where
//! two of them are held at once, they were taken in this order. The mutex of the wait-for graph is
//! taken before a guard, never under one; that of the watches with no guard held. Waiters, watchers
//! and connections are woken after the guard is gone; the task that ends leases may be woken under it.
//!
//! From [`LockTable::stop`] on nothing is granted and no lock passes to a waiter. The end of a
//! connection releases nothing then, neither in [`LockTable::detach`] nor in [`LockTable::end`], so
//! its locks stay held on disk, as after a crash.

mod acquire;
mod change_mode;
mod claims;
mod counters;
mod grant;
mod held_keys;
mod holders;
pub(crate) mod interleave;
mod knot;
mod lease;
mod lock;
mod lock_key;
mod lost_locks;
mod map;
mod outcome;
#[cfg(test)]
pub(crate) mod plain;
#[cfg(test)]
mod races;
mod registry;
mod release;
#[cfg(feature = "store")]
mod restore;
mod session;
mod several;
mod signal;
mod snapshot;
mod tokens;
mod wait;
mod wait_graph;
mod waiters;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use counters::{Counter, Counters};
pub use grant::Grant;
pub use lease::EndedLease;
pub use lock_key::LockKey;
pub use outcome::{Basis, Claim, Locked, NotHeld, OneOfSeveral, Outcome, Unlocked};
pub use registry::{Detached, Grace, Identity, Resumed, TakenOver};
pub use release::Broken;
#[cfg(feature = "store")]
pub use restore::Contradiction;
pub use session::Session;
pub use signal::{Order, SharedSignal, Signal};
pub use tokens::TokenClock;
pub use wait::{Ending, Wait};
pub use waiters::Waiter;
pub use watch::{Watch, Watcher};

use claims::Claims;
use held_keys::Tag;
use holders::HolderRef;
use lease::Leases;
use lock::Lock;
use map::Locks;
use registry::Registry;
use wait_graph::WaitGraph;
use watch::Watches;

use crate::model::Change;
use crate::model::{
    Key, Limits, NotResumed, NotStored, Peer, Secret, SessionId, SessionNumber, Token,
};
use crate::store::Changes;

/// The shared state of the server: all locks and all sessions.
///
/// All methods may be called from any number of threads at once; what belongs to one session is
/// serialised by its `&mut Session`.
#[derive(Debug)]
pub struct LockTable {
    locks: Locks,
    /// A grant to a waiter leaves it as it is: the request's claim becomes the grant's.
    claims: Claims,
    sessions: Registry,
    waits: Mutex<WaitGraph>,
    leases: Leases,
    watches: Watches,
    tokens: TokenClock,
    last_arrival: AtomicU64,
    limits: Limits,
    changes: Changes,
    /// The last change of a grant to an owner word, as a [`Seq`](crate::model::Seq).
    last_owner_change: AtomicU64,
    counters: Counters,
    stopping: AtomicBool,
}

impl LockTable {
    /// An empty table, which hands every change that is to survive a restart to `changes`.
    pub fn new(limits: Limits, tokens: TokenClock, changes: Changes) -> Self {
        Self {
            locks: Locks::default(),
            claims: Claims::default(),
            sessions: Registry::new(limits.sessions_in_grace),
            waits: Mutex::default(),
            leases: Leases::default(),
            watches: Watches::default(),
            tokens,
            last_arrival: AtomicU64::new(0),
            limits,
            changes,
            last_owner_change: AtomicU64::new(0),
            counters: Counters::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Says that it is `now`, when a connection begins its turn: tokens that are given from here on tell
    /// so.
    pub fn begin_turn(&self, now: Instant) {
        self.tokens.advance(now);
    }

    /// Notes, for others to see, what the session has done and how many locks it holds at this time,
    /// which is `active` as a stamp of the server's clock. Called by its connection once a turn, as to
    /// count each grant by itself would cost more than the grant may.
    pub fn note(&self, session: &mut Session, active: u32) {
        let grants = std::mem::take(&mut session.held.grants);
        self.counters.grants.add(grants.into());
        session.signal.note(session.held(), active);
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The fencing token of the last grant.
    pub fn last_token(&self) -> Token {
        self.tokens.last()
    }

    /// The changes that this table hands in: whether they can be stored, and which are durable.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// From here on nothing is granted and no lock passes to a waiter. Every connection is told to
    /// stop, also one that begins later. Sessions and leases do not end any more.
    pub fn stop(&self) {
        // Set before the orders are given, so that a connection which ends by the stop sees it.
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
            // The stop may have given its orders before this session was registered.
            session.signal.give(Order::Stop);
        }
        session
    }

    /// Where a session is, or was last, connected from; `None` if it is over.
    pub fn peer(&self, number: SessionNumber) -> Option<Peer> {
        self.sessions.peer(number)
    }

    /// Whether changes can be stored at this time. Asked by a request before it changes something.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time.
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
    ) -> Result<Result<Outcome<SessionId>, E>, NotStored> {
        self.changes.accept()?;
        let id = match self.sessions.id(session.number) {
            Some(id) => id,
            None => match draw() {
                Ok(secret) => {
                    let id = self.sessions.set_secret(session.number, secret);
                    self.store(session);
                    id
                }
                Err(error) => return Ok(Err(error)),
            },
        };
        // An id that was answered as not stored is not told before it is.
        Ok(Ok(Outcome::durable(id, session.last_change())))
    }

    /// Resumes the session in its grace period that has this id: from then on `session` stands for
    /// it, with its number, its locks and its grace period. Nothing changes for the session's own id.
    ///
    /// Refused, with nothing changed, if no session has this id, if it is connected, if its grace
    /// period is over at `now`, or if `session` itself holds locks. Of several connections that
    /// resume one session at once, one succeeds. Possible also while nothing can be stored, because
    /// the resumed session needs no storing.
    pub fn resume(&self, session: &mut Session, id: SessionId, now: Instant) -> Resumed {
        session.assert_idle();
        session.held.notice_losses();
        let (own, stored) = (session.number, session.held.stored);
        if let Err(why) = self.sessions.resume(session, id, now) {
            return Resumed::No(why);
        }
        if self.is_stopping() {
            // While the session's number changed, the stop may have found the connection by neither.
            session.signal.give(Order::Stop);
        }
        // The earlier changes of the resumed session need not be waited for: before its last
        // connection ended, they were durable or taken back.
        if session.number == own {
            // That the id will do after a restart, too.
            return Resumed::Yes(Outcome::durable((), session.last_change()));
        }
        if stored {
            session.seq = self.changes.push(|| Change::SessionOver(own));
        }
        Resumed::Yes(Outcome::durable((), session.seq))
    }

    /// As [`LockTable::resume`], and also while the session is connected: its connection is ordered to
    /// let it go, and this waits until it has. Of several connections that take one session over at
    /// once, each succeeds in turn, and the last one has it. Cancel safe.
    pub async fn take_over(
        &self,
        session: &mut Session,
        id: SessionId,
        now: impl Fn() -> Instant,
    ) -> TakenOver {
        let mut was_connected = false;
        loop {
            match self.resume(session, id, now()) {
                Resumed::No(NotResumed::StillConnected) if session.held() > 0 => {
                    return TakenOver::No(NotResumed::HoldsLocks);
                }
                Resumed::No(NotResumed::StillConnected) => {}
                Resumed::No(why) => return TakenOver::No(why),
                Resumed::Yes(outcome) if was_connected => {
                    return TakenOver::FromConnection(outcome);
                }
                Resumed::Yes(outcome) => return TakenOver::AfterDisconnect(outcome),
            }
            interleave::between_guards();
            if let Some(old) = self.sessions.order_to_let_go(id) {
                was_connected = true;
                interleave::between_guards();
                self.sessions.until_let_go(id.number, &old).await;
            }
        }
    }

    /// What people know the session by; `None` if it is over.
    pub fn identity(&self, number: SessionNumber) -> Option<Identity> {
        self.sessions.identity(number)
    }

    /// What the session is called.
    pub fn name(&self, number: SessionNumber) -> Option<Key> {
        self.sessions.name(number)
    }

    /// Sets what the session is called, for people to see.
    pub fn set_name(&self, session: &Session, name: Key) {
        self.sessions.set_name(session.number, name);
    }

    /// Ends the session's connection. If the session waits, the wait ends by a disconnect. A caller
    /// that gets a [`Session`] back releases its locks by [`LockTable::unlock_some`]; a caller that
    /// gets a [`Grace`] calls [`LockTable::end_grace`] when the grace period is over.
    pub fn detach(&self, mut session: Session, now: Instant) -> Detached {
        self.stop_waiting(&mut session, now);
        interleave::between_guards();
        if self.is_stopping() {
            return Detached::Stopping;
        }
        session.held.notice_losses();
        // Its next connection must know of a release that is not durable yet.
        session.settled();
        let mut detached = self.sessions.detach(session, now);
        match &mut detached {
            Detached::InGrace(_) | Detached::Stopping => {}
            Detached::Over(session) | Detached::NoRoom { session, .. } => self.store_over(session),
        }
        detached
    }

    /// Ends a session if its grace period is over at `now`, and returns it with what people
    /// know it by. The caller releases its locks by [`LockTable::unlock_some`]. `None` if
    /// the session was resumed, or ended before, or the server stops.
    pub fn end_grace(&self, number: SessionNumber, now: Instant) -> Option<(Session, Identity)> {
        if self.is_stopping() {
            return None;
        }
        let (mut session, identity) = self.sessions.end_grace(number, now)?;
        session.held.notice_losses();
        self.store_over(&mut session);
        Some((session, identity))
    }

    /// Ends a session at once and releases its locks, because its task did not come to its end.
    pub fn end(&self, mut session: Session, now: Instant) {
        self.stop_waiting(&mut session, now);
        if self.is_stopping() {
            return;
        }
        self.sessions.remove(session.number);
        self.store_over(&mut session);
        let released = self.unlock_some(&mut session, usize::MAX, now);
        self.changes.write(released.basis.seq());
    }

    /// Stores a session that holds a lock and is not stored yet. Not under a guard.
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

    /// Stores that the session is over, before its locks are released: if the server ends in
    /// between, no client resumes a session that has only a part of its locks left, and the next
    /// start releases the rest.
    fn store_over(&self, session: &mut Session) {
        if session.held.stored {
            let number = session.number;
            session.seq = self.changes.push(|| Change::SessionOver(number));
        }
    }

    /// Returns a test for entries of [`HeldKeys`](held_keys::HeldKeys): whether the session still
    /// has the grant with this key and tag.
    fn is_held_by(&self, session: SessionNumber) -> impl Fn(&LockKey, Tag) -> bool {
        let session = HolderRef::Session(session);
        move |key, tag| {
            let token = |_: &LockKey, lock: &mut Lock| Some(lock.grant_of(session)?.token());
            let token = self.locks.with(key.as_bytes(), token).flatten();
            token.is_some_and(|token| tag == token.into())
        }
    }
}

/// The capacity to which a collection shrinks that is less than a quarter full; `None` if it keeps
/// what it has. It keeps room for twice its entries, so that the cost of shrinking is spread over
/// the removals.
fn shrunk(len: usize, capacity: usize) -> Option<usize> {
    (capacity > 1024 && len < capacity / 4).then_some(2 * len)
}
