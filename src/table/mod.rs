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
//! From [`LockTable::drain`] on new requests get no lock, and those that wait still do. From
//! [`LockTable::stop`] on nothing is granted and no lock passes to a waiter. The end of a
//! connection releases nothing then, neither in [`LockTable::detach`] nor in [`LockTable::end`], so
//! its locks stay held on disk, as after a crash.

mod acquire;
mod change_mode;
mod claims;
mod contention;
mod counters;
mod grant;
mod held_keys;
mod holders;
pub(crate) mod interleave;
mod key_list;
mod knot;
mod lease;
mod listing;
mod lock;
mod lock_key;
mod look;
mod lost_locks;
mod map;
mod outcome;
mod owned_locks;
mod pauses;
mod phase;
#[cfg(test)]
pub(crate) mod plain;
#[cfg(test)]
mod races;
mod registry;
mod release;
#[cfg(feature = "store")]
mod restore;
mod revoke;
mod second_look;
mod session;
mod several;
mod sight;
mod signal;
mod snapshot;
mod tally;
mod tokens;
mod trail;
mod wait;
mod wait_graph;
mod waiters;
mod watch;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub use contention::Contention;
pub use counters::Counters;
pub use grant::Grant;
pub use lease::EndedLease;
pub use listing::{FirstKeys, RUN, SortedKeys};
pub use lock_key::LockKey;
pub use outcome::{Basis, Claim, Locked, NotHeld, OneOfSeveral, Outcome, Unlocked};
pub use pauses::Pauses;
pub use registry::{Detached, Grace, Identity, Kick, Resumed, TakenOver};
pub use release::Broken;
#[cfg(feature = "store")]
pub use restore::Contradiction;
pub use revoke::Revoked;
pub use session::Session;
pub use several::OneIsLost;
pub use signal::{Order, SharedSignal, Signal};
pub use tokens::TokenClock;
pub use trail::{End, Event, Trail, Why};
pub use wait::{Ending, Wait};
pub use waiters::Waiter;
pub use watch::{Watch, Watcher};

use claims::Claims;
use held_keys::Tag;
use holders::HolderRef;
use lease::Leases;
use lock::Lock;
use map::Locks;
use owned_locks::OwnedLocks;
use phase::CurrentPhase;
use registry::Registry;
use tally::Tally;
use wait_graph::WaitGraph;
use watch::Watches;

use crate::model::Change;
use crate::model::{
    Account, Key, Limits, NotResumed, NotStored, Peer, Secret, SessionId, SessionNumber, Token,
};
use crate::store::{Changes, Room};

/// How many steps a request's own look for circles has: some tens of microseconds. That is enough for 250
/// requests that wait for short keys of few holders each; few programs ever wait for more.
const FIRST_LOOK_STEPS: usize = 1_000;

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
    first_look_steps: usize,
    /// Notified when there is a request for a second look.
    unseen: Notify,
    leases: Leases,
    owned: OwnedLocks,
    watches: Watches,
    tokens: TokenClock,
    last_arrival: AtomicU64,
    limits: Limits,
    changes: Changes,
    trail: Trail,
    /// Whether a grant is noted anywhere but in the lock and in its holder's list.
    notes_grants: bool,
    /// The last change of a grant to an owner word, as a [`Seq`](crate::model::Seq).
    last_owner_change: AtomicU64,
    counters: Counters,
    /// Held while a lock is taken from its holder, and while grants that were made one after another are
    /// stored together: so none of these is over before it is stored.
    revoking: Mutex<()>,
    phase: CurrentPhase,
}

impl LockTable {
    /// An empty table, which hands every change that is to survive a restart to `changes`.
    pub fn new(limits: Limits, tokens: TokenClock, changes: Changes) -> Self {
        Self::with_room_for(0, limits, tokens, changes)
    }

    /// With room for so many locks, which it need not make one by one.
    fn with_room_for(locks: usize, limits: Limits, tokens: TokenClock, changes: Changes) -> Self {
        Self {
            locks: Locks::with_room_for(locks),
            claims: Claims::default(),
            sessions: Registry::new(limits.sessions_in_grace),
            waits: Mutex::default(),
            first_look_steps: FIRST_LOOK_STEPS,
            unseen: Notify::new(),
            leases: Leases::default(),
            owned: OwnedLocks::default(),
            watches: Watches::default(),
            tokens,
            last_arrival: AtomicU64::new(0),
            limits,
            notes_grants: changes.are_kept(),
            changes,
            trail: Trail::default(),
            last_owner_change: AtomicU64::new(0),
            counters: Counters::default(),
            revoking: Mutex::default(),
            phase: CurrentPhase::default(),
        }
    }

    /// The same table, with an audit that is told of all that happens from now on.
    pub fn followed_by(mut self, trail: Trail) -> Self {
        self.notes_grants |= trail.is_followed();
        self.trail = trail;
        self
    }

    /// What the audit is told.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// The same, with so many steps for a request's own look for circles: for tests, in which few wait.
    #[must_use]
    pub fn with_first_looks_of(self, steps: usize) -> Self {
        Self {
            first_look_steps: steps,
            ..self
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
        self.counters.holds.add_rest(&mut session.holds);
        let held = session.held();
        if let Some(tally) = &mut session.held.tally {
            tally.count_locks(held);
        }
        session.signal.note(held, active);
    }

    /// Gives back what maps keep after there was much more in them. Called now and then: a map that shrank
    /// by itself would have to look how full it is at each removal.
    pub fn shrink(&self) {
        self.locks.shrink();
        self.sessions.shrink();
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
        self.set_stopping();
        self.sessions.order_all(Order::Stop);
    }

    /// Gives an order to the connection of a session; false if it has none at this moment.
    #[cfg(test)]
    pub(crate) fn order(&self, number: SessionNumber, order: Order) -> bool {
        self.sessions.order(number, order)
    }

    /// Begins a session for a new connection, with `grace` as its grace period.
    pub fn open(&self, peer: Peer, grace: Duration) -> Session {
        let mut session = self.sessions.open(peer, grace);
        self.tell_known(session.number);
        if self.limits.max_hold.is_some() {
            session.held.lost = self.sessions.losses_to_come(session.number);
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

    /// Whether releases can be stored at this time. Asked by a request before it releases something.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time.
    pub fn accepts_releases(&self) -> Result<(), NotStored> {
        self.changes.accept(Room::NotNeeded)
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
        self.changes.accept(Room::NotNeeded)?;
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
        let known = self.sessions.id(session.number);
        self.changes.accept(match known {
            Some(_) => Room::NotNeeded,
            None => Room::Needed,
        })?;
        let id = match known {
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
    /// Refused, with nothing changed, if no session has this id, if it belongs to another user than
    /// `session` does, if it is connected, if its grace period is over at `now`, or if `session` itself
    /// holds locks. Of several connections that
    /// resume one session at once, one succeeds. Possible also while nothing can be stored, because
    /// the resumed session needs no storing.
    pub fn resume(&self, session: &mut Session, id: SessionId, now: Instant) -> Resumed {
        session.assert_idle();
        self.notice_losses(session);
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
        self.tell_known(session.number);
        let over = || Event::SessionOver(own, Why::Disconnected);
        self.trail.tell(over);
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
            if let Some(old) = self.sessions.order_to_let_go(id, session) {
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

    /// The user whom the session belongs to; `None` in a server that asks nobody who it is.
    pub fn user(&self, number: SessionNumber) -> Option<Key> {
        self.sessions.user(number)
    }

    /// Gives the session to a user: only a connection of the same user resumes it. An answer that says
    /// so need not wait until that is stored: what the session has does not change by it.
    pub fn set_user(&self, session: &mut Session, user: Key) {
        self.sessions.set_user(session.number, user);
        self.tell_known(session.number);
        if session.held.stored {
            self.store(session);
        }
    }

    /// Counts what the session has on these accounts from now on, and not on those before.
    pub fn count_on(&self, session: &mut Session, accounts: Vec<Arc<Account>>) {
        session.held.tally = (!accounts.is_empty()).then(|| {
            let mut tally = Tally::new(accounts);
            tally.count_locks(session.held());
            Box::new(tally)
        });
    }

    /// Sets what the session is called, for people to see.
    pub fn set_name(&self, session: &Session, name: Key) {
        self.sessions.set_name(session.number, name);
        self.tell_known(session.number);
    }

    /// Tells the audit what people know the session by.
    fn tell_known(&self, number: SessionNumber) {
        if self.trail.is_followed()
            && let Some(identity) = self.sessions.identity(number)
        {
            self.trail.tell(|| Event::Known(number, identity));
        }
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
        self.notice_losses(&mut session);
        interleave::between_guards();
        // Its next connection must know of a release that is not durable yet.
        session.settled();
        let mut detached = self.sessions.detach(session, now);
        match &mut detached {
            Detached::InGrace(_) | Detached::Stopping => {}
            Detached::Over(session) => self.end_session(session, Why::Disconnected),
            Detached::NoRoom { session, .. } => self.end_session(session, Why::NoRoom),
            Detached::Kicked(session) => self.end_session(session, Why::Kicked),
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
        self.end_session(&mut session, Why::GraceEnded);
        Some((session, identity))
    }

    /// Ends a session, because an operator wants it to, whose own session is `by`. Whoever is told to
    /// release what it holds does so by [`LockTable::unlock_some`]; [`LockTable::until_over`] waits until
    /// that is done.
    ///
    /// Of a kick, a resume, a take-over and the end of a grace period, the first one has the session. A
    /// connection that is told to let it go speaks for no other by then, and if it does so afterwards,
    /// that other session is not over. After a stop a kicked session lives on in the store, unless its
    /// end was stored before.
    ///
    /// # Errors
    ///
    /// If nothing can be stored at this time; then nothing has changed.
    pub fn kick(&self, number: SessionNumber, by: SessionNumber) -> Result<Kick, NotStored> {
        self.changes.accept(Room::NotNeeded)?;
        let note = || {
            self.counters.kicks.add(1);
            // Before the ends of its grants.
            let session = number;
            self.trail.tell(|| Event::Kicked { session, by });
        };
        let mut kick = self.sessions.kick(number, note);
        if let Kick::Over(session) = &mut kick {
            session.held.notice_losses();
            self.end_session(session, Why::Kicked);
        }
        Ok(kick)
    }

    /// Says that all is released that a session held which is over, so that nothing is left of it.
    pub fn end_kicked(&self, number: SessionNumber) {
        self.sessions.remove(number);
    }

    /// Returns once the session is over and its locks are free: an answer that says so rests on all
    /// changes up to then. Cancel safe.
    pub async fn until_over(&self, number: SessionNumber) -> Outcome<()> {
        self.sessions.until_over(number).await;
        Outcome::durable((), self.changes.last())
    }

    /// The sessions with this name whose user `is_seen`: the first `most`, by number, and how many there
    /// are in all.
    pub fn sessions_named(
        &self,
        name: &[u8],
        is_seen: impl Fn(Option<&Key>) -> bool,
        most: usize,
    ) -> (Vec<SessionNumber>, usize) {
        self.sessions.named(name, is_seen, most)
    }

    /// Ends a session at once and releases its locks, because its task did not come to its end.
    pub fn end(&self, mut session: Session, now: Instant) {
        self.stop_waiting(&mut session, now);
        if self.is_stopping() {
            return;
        }
        self.end_session(&mut session, Why::Failed);
        let released = self.unlock_some(&mut session, usize::MAX, now);
        self.changes.write(released.basis.seq());
        // At last, since whoever ends it by a kick is told then that its locks are free.
        self.sessions.remove(session.number);
    }

    /// Ends a session that holds nothing and waits for nothing, as it is not needed any more.
    #[cfg(feature = "admin")]
    pub fn close(&self, mut session: Session) {
        session.assert_idle();
        assert_eq!(session.held(), 0, "what it holds would stay held");
        self.end_session(&mut session, Why::Disconnected);
        self.sessions.remove(session.number);
    }

    /// Takes what the session has lost since the last call off what it holds. Not under a guard.
    fn notice_losses(&self, session: &mut Session) {
        if session.held.lost.is_none() && session.signal.has_revocations() {
            session.held.lost = self.sessions.losses(session.number);
        }
        session.held.notice_losses();
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

    /// Notes that the session is over, before its locks are released: if the server ends in
    /// between, no client resumes a session that has only a part of its locks left, and the next
    /// start releases the rest.
    fn end_session(&self, session: &mut Session, why: Why) {
        session.over = Some(why);
        self.trail.tell(|| Event::SessionOver(session.number, why));
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
