//! Who holds what and who waits. No sockets, no tasks, no clock: the time comes in.
//!
//! [`LockTable`] keeps a sharded map from key to lock. The uncontended [`LockTable::lock`] and
//! [`LockTable::unlock`] take one shard guard, and where a session does not let go of what it took
//! last, a few more, one after the other, to tidy its list. Two guards are never held at once (but
//! by the map's own iterator, for reading).
//!
//! Under a guard, and for a moment, these mutexes are taken, in this order: that of some crowds, for
//! a lock that is shared or waited for; that of the leases, if there is one; that of a session's
//! losses; the store's, if there is a store. The mutex of the wait-for graph is taken before a
//! guard, never under one; and wake-ups are sent after the guard is gone.

mod deadlock;
pub(crate) mod interleave;
mod key;
mod lease;
mod lock;
mod map;
mod queue;
#[cfg(feature = "store")]
mod restore;
mod secret;
mod session;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use deadlock::{Circle, Step};
pub use key::{Key, Value};
pub use lease::Token;
pub use lock::Mode;
pub use queue::Waiter;
#[cfg(feature = "store")]
pub use restore::Contradiction;
#[cfg(feature = "store")]
pub(crate) use secret::digest;
pub use secret::{Secret, SecretDigest};
pub use session::{Detached, Grace, Peer, Session, SessionId, SessionNumber, SessionView};

use deadlock::{Beyond, WaitGraph};
use lease::{Hold, Leases, Losses};
use lock::{Admission, Lock, Released};
use map::{Free, Locks, Place};
use session::{Registry, Tag};

use crate::store::{Change, Changes, Seq, StoredHold};

/// How much the table takes. Each bound is an answer when it is reached.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Locks in all: a shared one counts once for each holder, and a request that waits counts
    /// as the lock that it may get.
    pub locks: usize,
    /// Keys held by one session.
    pub locks_per_session: usize,
    /// Requests that wait for one key.
    pub waiters_per_key: usize,
    /// Sessions in their grace period.
    pub sessions_in_grace: usize,
    /// The longest lease, which every grant begins with; `None`: a lock has no lease unless its
    /// holder asks for one.
    pub max_hold: Option<Duration>,
}

/// A bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::locks`].
    Locks {
        /// The bound.
        max: usize,
    },
    /// [`Limits::locks_per_session`].
    LocksPerSession {
        /// The bound.
        max: usize,
    },
    /// [`Limits::waiters_per_key`].
    WaitersPerKey {
        /// The bound.
        max: usize,
    },
}

/// The answer to a request for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locked {
    /// The session has been granted the lock.
    Acquired,
    /// It holds the lock already, in this mode.
    Again,
    /// Others hold it.
    Busy,
    /// The session itself holds it in another mode or with another value.
    Conflict,
    /// Waiting for it would close this circle.
    Deadlock(Circle),
    /// A bound was reached.
    Full(Limit),
    /// The request waits: see [`Session::waiter`], and end it by [`LockTable::settle`].
    Waiting,
}

/// The answer to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlocked {
    /// The session held the lock and holds it no more.
    Released {
        /// It passed on to those who waited, and is not free.
        passed_on: bool,
    },
    /// It did not.
    NotHeld(NotHeld),
}

/// Why a session cannot do something with a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotHeld {
    /// The session held it until its lease ended.
    Expired,
    /// Others hold it.
    NotYours,
    /// Nobody holds it.
    NotLocked,
}

/// Why a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The lock was granted.
    Granted,
    /// The time is over.
    Deadline,
    /// The session's connection ended, so that nobody would learn of a grant.
    Disconnect,
    /// The server stops.
    Shutdown,
}

/// What `debug` shows of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockView {
    /// Who holds it, in the order of their numbers, each with its fencing token; perhaps not all.
    pub holders: Vec<(SessionNumber, Token)>,
    /// How many do.
    pub holders_in_all: usize,
    /// In which mode.
    pub mode: Mode,
    /// How many requests wait for it.
    pub waiters: usize,
}

/// A hold that is over.
struct Release {
    seq: Seq,
    passed_on: bool,
}

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
        }
    }

    /// What became of the changes that were made here.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Begins a session for a new connection, with `grace` as its grace period.
    pub fn open(&self, peer: Peer, grace: Duration) -> Session {
        let mut session = self.sessions.open(peer, grace);
        if self.limits.max_hold.is_some() {
            session.held.losses = Some(Arc::default());
        }
        session
    }

    /// Takes the lock if that needs no wait: [`Locked::Acquired`], [`Locked::Again`],
    /// [`Locked::Busy`], [`Locked::Conflict`] or [`Locked::Full`].
    pub fn lock(&self, session: &mut Session, key: &[u8], mode: &Mode, now: Instant) -> Locked {
        debug_assert!(session.waiting.is_none(), "one request at a time");
        session.held.notice_losses();
        session.held.make_room(self.is_held_by(session.number));
        let answer = self.locks.at(Key::new(key), |place| match place {
            Place::Free(free) => self.take(session, mode, now, free),
            Place::Held(key, lock) => self.join(session, mode, now, key, lock),
        });
        self.store_new(session);
        answer
    }

    /// For a request that does not wait and found the lock [`Locked::Busy`]: the circle that it
    /// would close if it waited.
    pub fn circle(&self, session: &Session, key: &[u8]) -> Option<Circle> {
        if session.held() == 0 {
            // Without the graph's mutex, which every refusal would take otherwise.
            return None;
        }
        let waits = interleave::lock(&self.waits);
        self.find_circle(&waits, session, &Key::new(key))
    }

    /// Takes the lock or queues up for it; every answer but [`Locked::Busy`] is possible.
    ///
    /// After [`Locked::Waiting`] the session can do nothing else until [`LockTable::settle`].
    pub fn lock_or_wait(
        &self,
        session: &mut Session,
        key: &[u8],
        mode: &Mode,
        now: Instant,
    ) -> Locked {
        match self.lock(session, key, mode, now) {
            Locked::Busy => {}
            answer => return answer,
        }
        let key = Key::new(key);
        let mut waits = interleave::lock(&self.waits);
        if let Some(circle) = self.find_circle(&waits, session, &key) {
            return Locked::Deadlock(circle);
        }
        // The lock may have passed to others since the walk. That makes no circle: a holder that
        // came since then does not wait, and cannot begin to while the graph is ours.
        let answer = self.locks.at(key, |place| match place {
            Place::Free(free) => self.take(session, mode, now, free),
            Place::Held(key, lock) => match self.join(session, mode, now, key, lock) {
                Locked::Busy => self.queue_up(session, mode, now, key, lock),
                answer => answer,
            },
        });
        if let Some(waiter) = &session.waiting {
            waits.insert(Arc::clone(waiter));
        }
        drop(waits);
        self.store_new(session);
        answer
    }

    fn queue_up(
        &self,
        session: &mut Session,
        mode: &Mode,
        now: Instant,
        key: &Key,
        lock: &mut Lock,
    ) -> Locked {
        if let Some(full) = self.full_for_waiter(session, lock) {
            return Locked::Full(full);
        }
        let arrival = self.last_arrival.fetch_add(1, Ordering::Relaxed) + 1;
        let (number, losses) = (session.number, session.held.losses.clone());
        let waiter = Waiter::new(number, losses, key.clone(), mode.clone(), now, arrival);
        let waiter = Arc::new(waiter);
        lock.enqueue(Arc::clone(&waiter));
        session.waiting = Some(waiter);
        Locked::Waiting
    }

    /// Ends the session's wait, whatever ended it, and says whether the session holds the lock.
    ///
    /// If a grant came first, it wins over a deadline and a shutdown: the session has the lock.
    /// Over a grant that nobody was told of, a disconnect wins: the lock passes on. Whoever
    /// calls this for any other reason than [`Ending::Granted`] takes the waiter out of the queue.
    pub fn settle(&self, session: &mut Session, ending: Ending, now: Instant) -> bool {
        let Some(waiter) = session.waiting.take() else {
            debug_assert!(false, "only a wait is settled");
            return false;
        };
        let left = !waiter.is_granted() && self.leave(&waiter);
        debug_assert!(
            !(left && ending == Ending::Granted),
            "a granted waiter cannot leave"
        );
        interleave::lock(&self.waits).remove(session.number);
        if left {
            return false;
        }
        self.keep(session, waiter.key().clone(), waiter.token(), waiter.seq());
        self.store_new(session);
        if ending == Ending::Disconnect {
            self.unlock(session, waiter.key().as_bytes(), now);
            self.changes.write(session.seq);
            return false;
        }
        true
    }

    /// Releases a lock; with waiters, it passes to the next in the same step.
    pub fn unlock(&self, session: &mut Session, key: &[u8], now: Instant) -> Unlocked {
        match self.release(session.number, key, now) {
            Some(Release { seq, passed_on }) => {
                session.held.remove(key, self.is_held_by(session.number));
                session.seq = seq;
                Unlocked::Released { passed_on }
            }
            None => Unlocked::NotHeld(self.why_not_held(session, key)),
        }
    }

    /// Releases at most `most` of the session's locks and returns how many are left. A caller
    /// with many to release gives way to others in between.
    pub fn unlock_some(&self, session: &mut Session, most: usize, now: Instant) -> usize {
        for key in session.held.take_some(most) {
            if let Some(release) = self.release(session.number, key.as_bytes(), now) {
                session.held.uncount(1);
                session.seq = release.seq;
            }
        }
        session.held.notice_losses();
        session.held()
    }

    /// The fencing token of a lock that the session holds.
    ///
    /// # Errors
    ///
    /// If it does not hold it.
    pub fn token(&self, session: &Session, key: &[u8]) -> Result<Token, NotHeld> {
        let number = session.number;
        self.with_lock(session, key, |_, lock| Some(lock.hold_mut(number)?.token()))
    }

    /// Makes a lock that the session holds end by itself, `lease` from `now`, unless this is called
    /// again before; `None` takes the limit off. [`Limits::max_hold`] goes first.
    ///
    /// # Errors
    ///
    /// If the session does not hold the lock: a lease that has ended cannot be renewed.
    pub fn set_lease(
        &self,
        session: &mut Session,
        key: &[u8],
        lease: Option<Duration>,
        now: Instant,
    ) -> Result<(), NotHeld> {
        let lease = self.bounded(lease);
        let number = session.number;
        let losses = lease.map(|_| Arc::clone(session.held.losses.get_or_insert_default()));
        session.seq = self.with_lock(session, key, |key, lock| {
            let token = lock.hold_mut(number)?.token();
            if lease.is_none() {
                self.leases.remove(token);
            }
            *lock.hold_mut(number)? =
                self.leased_hold(token, number, losses.as_ref(), key, lease, now);
            Some(self.held_change(token, number, key, &lock.mode(), lease))
        })?;
        Ok(())
    }

    /// Ends at most `most` of the leases that are over at `now`, and returns how many those were.
    /// Their locks pass to the next waiters.
    pub fn end_leases(&self, now: Instant, most: usize) -> usize {
        let due = self.leases.due(now, most);
        for over in &due {
            interleave::between_guards();
            let hash = self.locks.hash(over.key.as_bytes());
            let is_over = |hold: &Hold| {
                hold.token() == over.token && self.leases.remove_due(over.token, now, hash)
            };
            self.release_if(over.session, over.key.as_bytes(), now, is_over);
        }
        due.len()
    }

    /// When the next lease ends.
    pub fn next_lease_end(&self) -> Option<Instant> {
        self.leases.next_end()
    }

    /// Returns when there may be a lease that ends sooner than all others did. Cancel safe, for one
    /// caller at a time.
    pub async fn sooner_lease(&self) {
        self.leases.sooner().await;
    }

    /// Sets how long the session outlives its connection.
    pub fn set_grace(&self, session: &mut Session, grace: Duration) {
        self.sessions.set_grace(session.number, grace);
        if session.held.stored {
            self.store(session);
        }
    }

    /// The session's id, if it has one.
    pub fn session_id(&self, session: &Session) -> Option<SessionId> {
        self.sessions.id(session.number)
    }

    /// Has the session remember its latest losses alone. Until then it remembers all, so that what
    /// it was granted and what it lost before it was told can be told apart.
    pub fn forget_old_losses(&self, session: &Session) {
        if let Some(losses) = &session.held.losses {
            losses.forget_old();
        }
    }

    /// Gives the session a secret, and so an id, which does not change from then on. From then on
    /// the session can be resumed.
    pub fn set_secret(&self, session: &mut Session, secret: Secret) -> SessionId {
        let id = self.sessions.set_secret(session.number, secret);
        self.store(session);
        id
    }

    /// Makes the session in its grace period that has this id the one that `session` stands for,
    /// with its number, its locks and its grace period. Also true for the session's own id.
    ///
    /// False, with nothing changed, if there is no such session, if it is connected, if its grace
    /// period is over at `now`, or if `session` itself holds locks. Of several who resume one
    /// session at once, one succeeds.
    pub fn resume(&self, session: &mut Session, id: SessionId, now: Instant) -> bool {
        session.held.notice_losses();
        let (own, stored) = (session.number, session.held.stored);
        if !self.sessions.resume(session, id, now) {
            return false;
        }
        // What the resumed session did before is durable, or was taken back: its connection saw to
        // that before it ended.
        if stored && session.number != own {
            session.seq = self.changes.push(|| Change::SessionOver(own));
        }
        true
    }

    /// Ends the session's connection; a wait is settled before. Whoever gets a [`Session`] back
    /// releases what it holds by [`LockTable::unlock_some`]; whoever gets a [`Grace`] calls
    /// [`LockTable::end_grace`] when that is over.
    pub fn detach(&self, mut session: Session, now: Instant) -> Detached {
        debug_assert!(session.waiting.is_none(), "a wait is settled first");
        session.held.notice_losses();
        let mut detached = self.sessions.detach(session, now);
        match &mut detached {
            Detached::InGrace(_) => {}
            Detached::Over(session) | Detached::NoRoom { session, .. } => self.store_over(session),
        }
        detached
    }

    /// Ends a session whose grace period is over at `now` and hands out what it held, to be
    /// released by [`LockTable::unlock_some`]. `None` if it was resumed, or ended before.
    pub fn end_grace(&self, number: SessionNumber, now: Instant) -> Option<Session> {
        let mut session = self.sessions.end_grace(number, now)?;
        self.store_over(&mut session);
        Some(session)
    }

    /// Ends a session at once, whatever it is doing: for one whose task did not come to its end.
    pub fn end(&self, mut session: Session, now: Instant) {
        if session.waiting.is_some() {
            self.settle(&mut session, Ending::Disconnect, now);
        }
        self.unlock_some(&mut session, usize::MAX, now);
        self.sessions.remove(session.number);
        self.store_over(&mut session);
        self.changes.write(session.seq);
    }

    /// How many keys are held.
    pub fn held(&self) -> usize {
        self.locks.len()
    }

    /// How many sessions there are in all, and how many of them have a connection.
    pub fn session_counts(&self) -> (usize, usize) {
        self.sessions.counts()
    }

    /// All sessions, by number.
    pub fn session_views(&self) -> Vec<SessionView> {
        self.sessions.views()
    }

    /// The keys held, in order. Locks one shard at a time; costs a word per key.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = self.locks.keys();
        keys.sort_unstable();
        keys
    }

    /// One lock, if it is held at this moment, with at most `most` of its holders.
    pub fn lock_view(&self, key: &Key, most: usize) -> Option<LockView> {
        self.locks.with(key.as_bytes(), |_, lock| LockView {
            holders: lock.holders().take(most).collect(),
            holders_in_all: lock.holders_in_all(),
            mode: lock.mode(),
            waiters: lock.waiters(),
        })
    }

    /// The requests that wait, in the order in which they came.
    pub fn waiters(&self) -> Vec<Arc<Waiter>> {
        let mut waiting = interleave::lock(&self.waits).waiting();
        waiting.sort_unstable_by_key(|waiter| waiter.arrival());
        waiting
    }

    fn take(&self, session: &mut Session, mode: &Mode, now: Instant, free: Free<'_>) -> Locked {
        if let Some(full) = self.full_for_holder(session) {
            return Locked::Full(full);
        }
        let (number, key) = (session.number, free.key().clone());
        let (hold, seq) = self.new_hold(number, session.held.losses.as_ref(), &key, mode, now);
        free.fill(Lock::new(number, mode.clone(), hold));
        self.keep(session, key, hold.token(), seq);
        Locked::Acquired
    }

    fn join(
        &self,
        session: &mut Session,
        mode: &Mode,
        now: Instant,
        key: &Key,
        lock: &mut Lock,
    ) -> Locked {
        match lock.admission(session.number, mode) {
            Admission::Mine => return Locked::Again,
            Admission::Conflict => return Locked::Conflict,
            Admission::Busy => return Locked::Busy,
            Admission::Joinable => {}
        }
        if let Some(full) = self.full_for_holder(session) {
            return Locked::Full(full);
        }
        let (number, losses) = (session.number, session.held.losses.as_ref());
        let (hold, seq) = self.new_hold(number, losses, key, mode, now);
        lock.join(number, hold);
        self.keep(session, key.clone(), hold.token(), seq);
        Locked::Acquired
    }

    /// A grant. Called under the key's guard, so that the tokens of one key only grow, and that
    /// their order is the order in which they are stored.
    fn new_hold(
        &self,
        session: SessionNumber,
        losses: Option<&Arc<Losses>>,
        key: &Key,
        mode: &Mode,
        now: Instant,
    ) -> (Hold, Seq) {
        if let Some(losses) = losses {
            losses.forget(self.locks.hash(key.as_bytes()));
        }
        let token = Token(self.last_token.fetch_add(1, Ordering::Relaxed) + 1);
        let lease = self.limits.max_hold;
        let hold = self.leased_hold(token, session, losses, key, lease, now);
        (hold, self.held_change(token, session, key, mode, lease))
    }

    fn leased_hold(
        &self,
        token: Token,
        session: SessionNumber,
        losses: Option<&Arc<Losses>>,
        key: &Key,
        lease: Option<Duration>,
        now: Instant,
    ) -> Hold {
        debug_assert!(
            lease.is_none() || losses.is_some(),
            "somebody is told of its end"
        );
        let lease = lease.zip(losses);
        if let Some((lease, losses)) = lease {
            self.leases.set(token, now + lease, key, session, losses);
        }
        Hold::new(token, lease.is_some())
    }

    fn bounded(&self, lease: Option<Duration>) -> Option<Duration> {
        lease.into_iter().chain(self.limits.max_hold).min()
    }

    fn held_change(
        &self,
        token: Token,
        session: SessionNumber,
        key: &Key,
        mode: &Mode,
        lease: Option<Duration>,
    ) -> Seq {
        self.changes.push(|| {
            let hold = StoredHold {
                session,
                key: key.clone(),
                mode: mode.clone(),
                lease,
            };
            Change::Held(token, hold)
        })
    }

    /// The session knows of its grant.
    fn keep(&self, session: &mut Session, key: Key, token: Token, granted: Seq) {
        session.held.add(key, token);
        session.seq = granted.max(session.seq);
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

    fn store_over(&self, session: &mut Session) {
        if session.held.stored {
            let number = session.number;
            session.seq = self.changes.push(|| Change::SessionOver(number));
        }
    }

    /// Whether a grant of the session's is not over.
    fn is_held_by(&self, session: SessionNumber) -> impl Fn(&Key, Tag) -> bool {
        move |key, tag| {
            let token = |_: &Key, lock: &mut Lock| Some(lock.hold_mut(session)?.token());
            let token = self.locks.with(key.as_bytes(), token).flatten();
            token.is_some_and(|token| tag == token.into())
        }
    }

    /// Reads or changes a lock under its guard. `act` says `None` if the session does not hold it.
    fn with_lock<T>(
        &self,
        session: &Session,
        key: &[u8],
        act: impl FnOnce(&Key, &mut Lock) -> Option<T>,
    ) -> Result<T, NotHeld> {
        let acted = self.locks.with(key, act).flatten();
        acted.ok_or_else(|| self.why_not_held(session, key))
    }

    fn why_not_held(&self, session: &Session, key: &[u8]) -> NotHeld {
        let losses = session.held.losses.as_ref();
        if losses.is_some_and(|losses| losses.contains(self.locks.hash(key))) {
            return NotHeld::Expired;
        }
        match self.locks.is_held(key) {
            true => NotHeld::NotYours,
            false => NotHeld::NotLocked,
        }
    }

    /// `None` if the session may hold one lock more, which is counted then.
    fn full_for_holder(&self, session: &Session) -> Option<Limit> {
        let max = self.limits.locks_per_session;
        if session.held() >= max {
            return Some(Limit::LocksPerSession { max });
        }
        let max = self.limits.locks;
        let one_more = |count: usize| (count < max).then_some(count + 1);
        match self
            .claims
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
        {
            Ok(_) => None,
            Err(_) => Some(Limit::Locks { max }),
        }
    }

    /// The same for one more request that waits for this lock.
    fn full_for_waiter(&self, session: &Session, lock: &Lock) -> Option<Limit> {
        let max = self.limits.waiters_per_key;
        if lock.waiters() >= max {
            return Some(Limit::WaitersPerKey { max });
        }
        self.full_for_holder(session)
    }

    fn find_circle(&self, waits: &WaitGraph, session: &Session, key: &Key) -> Option<Circle> {
        // A circle would lead back to a key that the requester holds.
        if session.held() == 0 {
            return None;
        }
        waits.circle(session.number, key, |key| {
            interleave::between_guards();
            let beyond = |_: &Key, lock: &mut Lock| waits.beyond(session.number, lock);
            let nobodys = Beyond::Waiting(Vec::new());
            self.locks.with(key.as_bytes(), beyond).unwrap_or(nobodys)
        })
    }

    /// True if the waiter left the queue, false if it was granted the lock before it could.
    fn leave(&self, waiter: &Waiter) -> bool {
        let key = waiter.key().as_bytes();
        let left = self.locks.with(key, |_, lock| lock.leave(waiter));
        debug_assert!(
            left.is_some() || waiter.is_granted(),
            "who waits, waits for a held lock"
        );
        let left = left.unwrap_or(false);
        if left {
            self.claims.fetch_sub(1, Ordering::Relaxed);
        }
        left
    }

    /// Takes the session off the lock's holders; `None` if its lease had ended before.
    fn release(&self, session: SessionNumber, key: &[u8], now: Instant) -> Option<Release> {
        self.release_if(session, key, now, |hold| {
            if hold.is_leased() {
                self.leases.remove(hold.token());
            }
            true
        })
    }

    /// The one place where a lock is let go of: the session's hold ends if there is one and `ends`
    /// says so, which is asked under the guard and must have taken its lease away then. Those who
    /// come next have the lock in the same step.
    fn release_if(
        &self,
        session: SessionNumber,
        key: &[u8],
        now: Instant,
        ends: impl FnOnce(&Hold) -> bool,
    ) -> Option<Release> {
        let mut granted = Vec::new();
        let mut released = None;
        self.locks.remove_if(key, |key, lock| {
            let Some(hold) = lock.hold_mut(session).filter(|hold| ends(hold)) else {
                return false;
            };
            let token = hold.token();
            released = Some(self.changes.push(|| Change::Released(token)));
            let grant = |next: &Waiter| {
                let (number, losses) = (next.session(), next.losses());
                let (hold, seq) = self.new_hold(number, losses, key, next.mode(), now);
                next.granted_by(hold.token(), seq);
                hold
            };
            match lock.release(session, grant) {
                Released::Free => true,
                Released::Held(waiters) => {
                    granted = waiters;
                    false
                }
            }
        });
        let seq = released?;
        self.claims.fetch_sub(1, Ordering::Relaxed);
        for waiter in &granted {
            interleave::between_guards();
            waiter.wake();
        }
        let passed_on = !granted.is_empty();
        Some(Release { seq, passed_on })
    }
}

/// The capacity to which a map should shrink, if it should, to give back what it no longer needs: at
/// a quarter full and by half, which spreads the cost over what was removed.
fn shrunk(len: usize, capacity: usize) -> Option<usize> {
    (capacity > 1024 && len < capacity / 4).then_some(2 * len)
}

/// A table with bounds that no test reaches by accident.
#[cfg(test)]
pub(crate) fn test_table() -> LockTable {
    LockTable::new(test_limits(), Token(0), Changes::default())
}

#[cfg(test)]
fn test_limits() -> Limits {
    Limits {
        locks: 10_000_000,
        locks_per_session: 10_000_000,
        waiters_per_key: 10_000_000,
        sessions_in_grace: 10_000_000,
        max_hold: None,
    }
}
