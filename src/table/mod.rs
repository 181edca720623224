//! Who holds what and who waits. No sockets, no tasks, no clock: the time comes in.
//!
//! [`LockTable`] is a sharded map from key to lock. The uncontended [`LockTable::lock`] and
//! [`LockTable::unlock`] take one shard guard; under it, and for a moment, the leases' mutex if there
//! is a lease and the store's if there is a store. Two guards are never held at
//! once (but by the map's own iterator, for reading); the mutex of the wait-for graph is taken
//! before a guard, never under one; and wake-ups are sent after the guard is gone.

mod deadlock;
pub(crate) mod interleave;
mod key;
mod lease;
mod lock;
mod queue;
#[cfg(feature = "store")]
mod restore;
mod secret;
mod session;

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::{Entry, OccupiedEntry, VacantEntry};

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
use key::Seed;
use lease::{Hold, Leases};
use lock::{Admission, Lock, Released};
use session::Registry;

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

/// How many shards the map of locks has: enough that a walk over one shard, which stalls those
/// who need it, stays well under a millisecond with a million locks.
const SHARDS: usize = 256;

/// The shared state of the server: all locks and all sessions.
///
/// All methods may be called from any number of threads at once; what belongs to one session is
/// serialised by its `&mut Session`.
#[derive(Debug)]
pub struct LockTable {
    /// Keys come from clients, so the hasher is seeded afresh in each process.
    locks: DashMap<Key, Lock, Seed>,
    /// How many locks are held or waited for; never above the limit. A grant changes nothing: the
    /// waiter's place becomes its lock's.
    claims: AtomicUsize,
    sessions: Registry,
    waits: Mutex<WaitGraph>,
    leases: Leases,
    /// How many locks have ended by their lease.
    losses: AtomicU64,
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
            locks: DashMap::with_hasher_and_shard_amount(Seed::default(), SHARDS),
            claims: AtomicUsize::new(0),
            sessions: Registry::new(limits.sessions_in_grace),
            waits: Mutex::default(),
            leases: Leases::default(),
            losses: AtomicU64::new(0),
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
        self.sessions.open(peer, grace)
    }

    /// Takes the lock if that needs no wait: [`Locked::Acquired`], [`Locked::Again`],
    /// [`Locked::Busy`], [`Locked::Conflict`] or [`Locked::Full`].
    pub fn lock(&self, session: &mut Session, key: &[u8], mode: &Mode, now: Instant) -> Locked {
        debug_assert!(session.waiting.is_none(), "one request at a time");
        self.make_room(session);
        let key = Key::new(key);
        let answer = match self.locks.entry(key.clone()) {
            Entry::Vacant(free) => self.take(session, key, mode, now, free),
            Entry::Occupied(mut held) => self.join(session, key, mode, now, &mut held),
        };
        self.store_new(session);
        answer
    }

    /// For a request that does not wait and found the lock [`Locked::Busy`]: the circle that it
    /// would close if it waited.
    pub fn circle(&self, session: &Session, key: &[u8]) -> Option<Circle> {
        if session.held.keys.is_empty() {
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
        let mut held = match self.locks.entry(key.clone()) {
            Entry::Vacant(free) => {
                let answer = self.take(session, key, mode, now, free);
                self.store_new(session);
                return answer;
            }
            Entry::Occupied(held) => held,
        };
        let answer = self.join(session, key.clone(), mode, now, &mut held);
        if answer != Locked::Busy {
            drop(held);
            self.store_new(session);
            return answer;
        }
        if let Some(full) = self.full_for_waiter(session, held.get()) {
            return Locked::Full(full);
        }
        let arrival = self.last_arrival.fetch_add(1, Ordering::Relaxed) + 1;
        let waiter = Arc::new(Waiter::new(session.number, key, mode.clone(), now, arrival));
        held.get_mut().enqueue(Arc::clone(&waiter));
        drop(held);
        waits.insert(Arc::clone(&waiter));
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
        self.keep(session, waiter.key().clone(), waiter.seq());
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
        if session.held.forget(key) {
            if let Some(Release { seq, passed_on }) = self.release(session.number, key, now) {
                session.seq = seq;
                return Unlocked::Released { passed_on };
            }
            session.held.lose(self.hash(key));
        }
        Unlocked::NotHeld(self.why_not_held(session, key))
    }

    /// Releases at most `most` of the session's locks and returns how many are left. A caller
    /// with many to release gives way to others in between.
    pub fn unlock_some(&self, session: &mut Session, most: usize, now: Instant) -> usize {
        let keys = &mut session.held.keys;
        let some: Vec<Key> = keys.extract_if(|_| true).take(most).collect();
        if keys.is_empty() {
            *keys = Default::default();
        }
        for key in some {
            match self.release(session.number, key.as_bytes(), now) {
                Some(release) => session.seq = release.seq,
                None => session.held.lose(self.hash(key.as_bytes())),
            }
        }
        session.held()
    }

    /// The fencing token of a lock that the session holds.
    ///
    /// # Errors
    ///
    /// If it does not hold it.
    pub fn token(&self, session: &mut Session, key: &[u8]) -> Result<Token, NotHeld> {
        let number = session.number;
        self.with_lock(session, key, |lock, _| Some(lock.hold_mut(number)?.token()))
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
        session.held.leased |= lease.is_some();
        session.seq = self.with_lock(session, key, |lock, key| {
            let hold = lock.hold_mut(number)?;
            let token = hold.token();
            *hold = Hold::new(token, lease.is_some());
            match lease {
                Some(lease) => self.leases.set(token, now + lease, key, number),
                None => self.leases.remove(token),
            }
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
            let is_over =
                |hold: &Hold| hold.token() == over.token && self.leases.remove_due(over.token, now);
            let released = self.release_if(over.session, over.key.as_bytes(), now, is_over);
            if released.is_some() {
                // Afterwards: who sees this count change finds the loss, too.
                self.losses.fetch_add(1, Ordering::Release);
            }
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
        self.notice_losses(session);
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
        self.notice_losses(&mut session);
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

    /// The keys held, in order. Locks one shard at a time; costs 16 bytes per key.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.locks.iter().map(|entry| entry.key().clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// One lock, if it is held at this moment, with at most `most` of its holders.
    pub fn lock_view(&self, key: &Key, most: usize) -> Option<LockView> {
        self.locks.get(key).map(|lock| LockView {
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

    fn take(
        &self,
        session: &mut Session,
        key: Key,
        mode: &Mode,
        now: Instant,
        free: VacantEntry<'_, Key, Lock>,
    ) -> Locked {
        if let Some(full) = self.full_for_holder(session) {
            return Locked::Full(full);
        }
        let (hold, seq) = self.new_hold(session.number, &key, mode, now);
        free.insert(Lock::new(session.number, mode.clone(), hold));
        self.keep(session, key, seq);
        Locked::Acquired
    }

    fn join(
        &self,
        session: &mut Session,
        key: Key,
        mode: &Mode,
        now: Instant,
        held: &mut OccupiedEntry<'_, Key, Lock>,
    ) -> Locked {
        match held.get().admission(session.number, mode) {
            Admission::Mine => return Locked::Again,
            Admission::Conflict => return Locked::Conflict,
            Admission::Busy => return Locked::Busy,
            Admission::Joinable => {}
        }
        if let Some(full) = self.full_for_holder(session) {
            return Locked::Full(full);
        }
        let (hold, seq) = self.new_hold(session.number, &key, mode, now);
        held.get_mut().join(session.number, hold);
        self.keep(session, key, seq);
        Locked::Acquired
    }

    /// A grant. Called under the key's guard, so that the tokens of one key only grow, and that
    /// their order is the order in which they are stored.
    fn new_hold(
        &self,
        session: SessionNumber,
        key: &Key,
        mode: &Mode,
        now: Instant,
    ) -> (Hold, Seq) {
        let token = Token(self.last_token.fetch_add(1, Ordering::Relaxed) + 1);
        let lease = self.limits.max_hold;
        let hold = self.leased_hold(token, session, key, lease, now);
        (hold, self.held_change(token, session, key, mode, lease))
    }

    fn leased_hold(
        &self,
        token: Token,
        session: SessionNumber,
        key: &Key,
        lease: Option<Duration>,
        now: Instant,
    ) -> Hold {
        if let Some(lease) = lease {
            self.leases.set(token, now + lease, key, session);
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
    fn keep(&self, session: &mut Session, key: Key, granted: Seq) {
        session.held.insert(key, |key| self.hash(key));
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

    /// What must not be done under a guard: growing by one may have to move a million keys.
    fn make_room(&self, session: &mut Session) {
        let max = self.limits.locks_per_session;
        let losses = || self.losses.load(Ordering::Acquire);
        if self.may_lose(session) && session.held.is_sweep_due(max, losses) {
            self.sweep(session);
        }
        session.held.keys.reserve(1);
    }

    /// Before it counts whether the session holds anything. One with very many keys is taken to.
    fn notice_losses(&self, session: &mut Session) {
        if self.may_lose(session) && !session.held.has_grown() {
            self.sweep(session);
        }
    }

    fn may_lose(&self, session: &Session) -> bool {
        session.held.leased || self.limits.max_hold.is_some()
    }

    /// Takes what the session has lost off what it holds.
    fn sweep(&self, session: &mut Session) {
        let number = session.number;
        let truly = |key: &Key| {
            self.locks
                .get(key)
                .is_some_and(|lock| lock.is_held_by(number))
        };
        let losses = self.losses.load(Ordering::Acquire);
        session.held.sweep(losses, truly, |key| self.hash(key));
    }

    fn hash(&self, key: &[u8]) -> u64 {
        BuildHasher::hash_one(self.locks.hasher(), key)
    }

    /// Reads or changes a lock under its guard. `act` says `None` if the session does not hold it.
    fn with_lock<T>(
        &self,
        session: &mut Session,
        key: &[u8],
        act: impl FnOnce(&mut Lock, &Key) -> Option<T>,
    ) -> Result<T, NotHeld> {
        let acted = self.locks.get_mut(key).and_then(|mut entry| {
            let (key, lock) = entry.pair_mut();
            act(lock, key)
        });
        if let Some(acted) = acted {
            return Ok(acted);
        }
        if session.held.forget(key) {
            session.held.lose(self.hash(key));
        }
        Err(self.why_not_held(session, key))
    }

    fn why_not_held(&self, session: &Session, key: &[u8]) -> NotHeld {
        if session.held.has_lost(|| self.hash(key)) {
            return NotHeld::Expired;
        }
        match self.locks.contains_key(key) {
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
        if session.held.keys.is_empty() {
            return None;
        }
        waits.circle(session.number, key, |key| {
            interleave::between_guards();
            match self.locks.get(key) {
                Some(lock) => waits.beyond(session.number, &lock),
                None => Beyond::Waiting(Vec::new()),
            }
        })
    }

    /// True if the waiter left the queue, false if it was granted the lock before it could.
    fn leave(&self, waiter: &Waiter) -> bool {
        let mut lock = self.locks.get_mut(waiter.key());
        debug_assert!(
            lock.is_some() || waiter.is_granted(),
            "who waits, waits for a held lock"
        );
        let left = lock.as_mut().is_some_and(|lock| lock.leave(waiter));
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
        self.locks.remove_if_mut(key, |key, lock| {
            let Some(hold) = lock.hold_mut(session).filter(|hold| ends(hold)) else {
                return false;
            };
            let token = hold.token();
            released = Some(self.changes.push(|| Change::Released(token)));
            let grant = |next: &Waiter| {
                let (hold, seq) = self.new_hold(next.session(), key, next.mode(), now);
                next.granted_by(seq);
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
