//! The rules of the table, written down a second time: plain maps, and a queue that is a list.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use elock::model::{Limit, Limits, NotResumed};
use elock::table::NotHeld;

/// Who holds a lock. In the order in which the table shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Session(u64),
    Owner(u8),
}

/// How a key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Exclusive,
    Value(u8),
    Slot(u32),
}

/// For whom a session asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    Itself,
    /// For itself, as one of several keys.
    ItselfWithOthers,
    Owner {
        word: u8,
        lease_ms: Option<u64>,
    },
}

/// A request for a lock, and a waiter, if it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub session: u64,
    pub key: u8,
    pub mode: Mode,
    pub by: For,
    /// Until when it may wait; `None`: it does not wait.
    pub until_ms: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Acquired,
    Again,
    Busy,
    Conflict,
    Deadlock,
    Full(Limit),
    Waiting,
}

#[derive(Debug)]
pub struct Model {
    pub limits: Limits,
    pub now_ms: u64,
    last_number: u64,
    pub sessions: BTreeMap<u64, ModelSession>,
    pub locks: BTreeMap<u8, ModelLock>,
    /// Everyone who waits, in the order in which they came.
    pub waiting: Vec<Request>,
    /// Grants so far.
    grants: u64,
}

#[derive(Debug)]
pub struct ModelSession {
    pub grace_ms: u64,
    pub asked_id: bool,
    pub grace_ends_ms: Option<u64>,
    /// Keys whose lease ended, until they are locked again.
    lost: BTreeMap<u8, NotHeld>,
}

#[derive(Debug)]
pub struct ModelLock {
    pub mode: Mode,
    pub holders: BTreeMap<Who, Hold>,
}

#[derive(Debug)]
pub struct Hold {
    /// The place in the order of all grants.
    pub nth: u64,
    /// The session that asked for it; `None` if that was before a restart.
    pub taker: Option<u64>,
    pub lease: Option<Lease>,
    /// False for one of several keys, until the session has all of them.
    is_kept: bool,
}

#[derive(Debug)]
pub struct Lease {
    pub ends_ms: u64,
    #[cfg_attr(not(feature = "store"), expect(dead_code, reason = "for a restart"))]
    length_ms: u64,
}

/// For how long a session that is taken over is kept at the least.
const TAKE_OVER_MS: u64 = 5000;

impl Request {
    /// Who will hold the lock.
    pub fn who(&self) -> Who {
        match self.by {
            For::Itself | For::ItselfWithOthers => Who::Session(self.session),
            For::Owner { word, .. } => Who::Owner(word),
        }
    }

    /// Whether both ask by the same value.
    pub fn has_value_of(&self, other: &Self) -> bool {
        matches!(self.mode, Mode::Value(_)) && self.mode == other.mode
    }
}

impl Mode {
    /// Whether holders of this mode and one who asks for the other do not exclude each other, if there
    /// are slots enough.
    pub fn goes_with(self, asked: Self) -> bool {
        match (self, asked) {
            (Self::Value(value), Self::Value(asked)) => value == asked,
            (Self::Slot(_), Self::Slot(_)) => true,
            _ => false,
        }
    }
}

impl ModelLock {
    /// Whether the holders let one more in.
    fn admits(&self, request: &Request) -> bool {
        let has_slot = match request.mode {
            Mode::Slot(slots) => self.holders.len() < slots as usize,
            _ => true,
        };
        self.mode.goes_with(request.mode) && !self.holders.contains_key(&request.who()) && has_slot
    }

    /// Whether a request must wait until its own owner lets go, and could be one more holder then.
    pub fn makes_wait_for_itself(&self, request: &Request) -> bool {
        self.mode.goes_with(request.mode) && self.holders.contains_key(&request.who())
    }
}

impl Model {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            now_ms: 0,
            last_number: 0,
            sessions: BTreeMap::new(),
            locks: BTreeMap::new(),
            waiting: Vec::new(),
            grants: 0,
        }
    }

    pub fn open(&mut self, number: u64) {
        assert!(number > self.last_number, "numbers grow");
        self.last_number = number;
        let session = ModelSession {
            grace_ms: 1000,
            asked_id: false,
            grace_ends_ms: None,
            lost: BTreeMap::new(),
        };
        self.sessions.insert(number, session);
    }

    pub fn session(&mut self, number: u64) -> &mut ModelSession {
        self.sessions.get_mut(&number).expect("it is there")
    }

    /// The keys that a session holds for itself.
    pub fn held_by(&self, session: u64) -> Vec<u8> {
        let who = Who::Session(session);
        let keys = self.locks.keys().copied();
        keys.filter(|key| self.holds(who, *key)).collect()
    }

    pub fn holds(&self, who: Who, key: u8) -> bool {
        self.hold(who, key).is_some()
    }

    fn hold(&self, who: Who, key: u8) -> Option<&Hold> {
        self.locks.get(&key)?.holders.get(&who)
    }

    fn hold_mut(&mut self, who: Who, key: u8) -> Option<&mut Hold> {
        self.locks.get_mut(&key)?.holders.get_mut(&who)
    }

    pub fn is_waiting(&self, session: u64) -> bool {
        self.waiting.iter().any(|waiter| waiter.session == session)
    }

    /// Those who wait for a key, in their order.
    pub fn queue(&self, key: u8) -> impl Iterator<Item = &Request> {
        self.waiting.iter().filter(move |waiter| waiter.key == key)
    }

    /// Who came first of those that hold a key.
    pub fn first_holder(&self, key: u8) -> Option<Who> {
        let holders = &self.locks.get(&key)?.holders;
        let first = holders.iter().min_by_key(|(_, hold)| hold.nth);
        first.map(|(who, _)| *who)
    }

    // ------------------------------------------------------------------ locking

    pub fn request(&mut self, request: Request) -> Answer {
        if let Some(answer) = self.has_already(&request) {
            return answer;
        }
        if self.may_enter(&request) {
            return self.full(&request).unwrap_or_else(|| {
                self.grant(&request);
                Answer::Acquired
            });
        }
        let waits = request.until_ms.is_some();
        let waits_for_itself = self.waits_for(&request, request.session, &request);
        if self.is_stuck(&request) && (waits || !waits_for_itself) {
            return Answer::Deadlock;
        }
        if !waits {
            return Answer::Busy;
        }
        let max = self.limits.waiters_per_key;
        if self.queue(request.key).count() >= max {
            return Answer::Full(Limit::WaitersPerKey { max });
        }
        self.full(&request).unwrap_or_else(|| {
            self.waiting.push(request);
            Answer::Waiting
        })
    }

    /// The answer to a session that asks for itself and holds the key itself.
    fn has_already(&self, request: &Request) -> Option<Answer> {
        let who = Who::Session(request.session);
        let lock = self.locks.get(&request.key)?;
        if request.who() != who || !lock.holders.contains_key(&who) {
            return None;
        }
        let is_same = lock.mode == request.mode || lock.mode.goes_with(request.mode);
        Some(match is_same {
            true => Answer::Again,
            false => Answer::Conflict,
        })
    }

    /// Whether a request is let in at once: nobody passes those who stand in line, but by the value of
    /// the holders where that is allowed.
    fn may_enter(&self, request: &Request) -> bool {
        let Some(lock) = self.locks.get(&request.key) else {
            return true;
        };
        let passes = self.limits.equal_values_pass && matches!(request.mode, Mode::Value(_));
        let is_next = passes || self.line(request.key).next().is_none();
        is_next && lock.admits(request)
    }

    /// What stands against one more lock, held or waited for.
    fn full(&self, request: &Request) -> Option<Answer> {
        let max = self.limits.locks_per_session;
        let is_owned = matches!(request.by, For::Owner { .. });
        if !is_owned && self.held_by(request.session).len() >= max {
            return Some(Answer::Full(Limit::LocksPerSession { max }));
        }
        let holders: usize = self.locks.values().map(|lock| lock.holders.len()).sum();
        let max = self.limits.locks;
        let full = holders + self.waiting.len() >= max;
        full.then_some(Answer::Full(Limit::Locks { max }))
    }

    fn grant(&mut self, request: &Request) {
        self.grants += 1;
        let Request {
            session, key, mode, ..
        } = *request;
        let lease_ms = match request.by {
            For::Itself => self.bounded(None),
            For::ItselfWithOthers => None,
            For::Owner { lease_ms, .. } => self.bounded(lease_ms),
        };
        let hold = Hold {
            nth: self.grants,
            taker: Some(session),
            lease: lease_ms.map(|length_ms| self.lease(length_ms)),
            is_kept: request.by != For::ItselfWithOthers,
        };
        let holders = BTreeMap::new();
        let lock = self.locks.entry(key).or_insert(ModelLock { mode, holders });
        lock.mode = mode;
        let before = lock.holders.insert(request.who(), hold);
        assert!(before.is_none(), "nobody holds a key twice");
        if request.by == For::Itself {
            self.session(session).lost.remove(&key);
        }
    }

    /// A session that has all of several keys keeps them.
    pub fn keep_all(&mut self, session: u64) {
        let max_hold = self.bounded(None);
        for key in self.not_kept_by(session) {
            let lease = max_hold.map(|length_ms| self.lease(length_ms));
            let hold = self.hold_mut(Who::Session(session), key);
            let hold = hold.expect("it is held");
            (hold.is_kept, hold.lease) = (true, lease);
            self.session(session).lost.remove(&key);
        }
    }

    /// The keys of those that a session has of several, while it does not have all.
    pub fn not_kept_by(&self, session: u64) -> Vec<u8> {
        let mut keys = self.held_by(session);
        keys.retain(|key| !self.is_kept(Who::Session(session), *key));
        keys
    }

    /// Whether this is held, and not by one of several grants of which some are still to come.
    pub fn is_kept(&self, who: Who, key: u8) -> bool {
        self.hold(who, key).is_some_and(|hold| hold.is_kept)
    }

    // ------------------------------------------------------------------ the queue

    /// Those who wait for a key and stand in the way of all behind them: not those who wait for their
    /// own owners.
    fn line(&self, key: u8) -> impl Iterator<Item = &Request> {
        let lock = self.locks.get(&key);
        let waits_for_itself =
            move |one: &Request| lock.is_some_and(|lock| lock.makes_wait_for_itself(one));
        self.queue(key).filter(move |one| !waits_for_itself(one))
    }

    /// Lets in whoever's turn it is, and returns the sessions that asked: the first in line while the
    /// holders admit it, and all with its value together with it. Whoever takes the place of the same
    /// owner, which has just `left` other holders, comes alone.
    fn advance_queue(&mut self, key: u8, left: Option<Who>) -> Vec<u64> {
        let mut let_in = Vec::new();
        while let Some(first) = self.next_in_line(key) {
            let is_alone = left == Some(first.who());
            let comes_in = |one: &Request| *one == first || (!is_alone && one.has_value_of(&first));
            let together: Vec<Request> = self.queue(key).copied().filter(comes_in).collect();
            for next in together {
                if self.is_admitted(&next) {
                    self.waiting.retain(|waiter| *waiter != next);
                    self.grant(&next);
                    let_in.push(next.session);
                }
            }
        }
        let_in
    }

    /// The first in line, if its turn has come.
    fn next_in_line(&self, key: u8) -> Option<Request> {
        let first = self.line(key).next()?;
        self.is_admitted(first).then_some(*first)
    }

    fn is_admitted(&self, request: &Request) -> bool {
        let lock = self.locks.get(&request.key);
        lock.is_none_or(|lock| lock.admits(request))
    }

    /// Ends the wait of a session, and returns who is let in then.
    pub fn stop_waiting(&mut self, session: u64) -> Vec<u64> {
        let is_it = |waiter: &Request| waiter.session == session;
        let at = self.waiting.iter().position(is_it).expect("it waits");
        let waiter = self.waiting.remove(at);
        self.advance_queue(waiter.key, None)
    }

    /// Ends a hold, and returns who is let in then.
    pub fn unlock(&mut self, who: Who, key: u8) -> Vec<u64> {
        let lock = self.locks.get_mut(&key).expect("it is held");
        lock.holders.remove(&who).expect("this one holds it");
        let has_left_others = !lock.holders.is_empty();
        if !has_left_others {
            self.locks.remove(&key);
        }
        self.advance_queue(key, has_left_others.then_some(who))
    }

    pub fn unlock_all(&mut self, session: u64) -> Vec<u64> {
        let keys = self.held_by(session).into_iter();
        keys.flat_map(|key| self.unlock(Who::Session(session), key))
            .collect()
    }

    /// What a session has of several keys is given back.
    pub fn give_back(&mut self, session: u64) -> Vec<u64> {
        let keys = self.not_kept_by(session).into_iter();
        keys.flat_map(|key| self.unlock(Who::Session(session), key))
            .collect()
    }

    /// The first of the holders of a key, so many at the most, whose locks are to be ended by force.
    /// None of them may be a session, and if they are none, no session may hold the key at all.
    pub fn can_be_broken(&self, key: u8, first: usize) -> Result<Vec<Who>, NotHeld> {
        let lock = self.locks.get(&key).ok_or(NotHeld::NotLocked)?;
        let mut holders: Vec<(&Who, &Hold)> = lock.holders.iter().collect();
        holders.sort_by_key(|(_, hold)| hold.nth);
        let holders: Vec<Who> = holders.iter().map(|(who, _)| **who).collect();
        let first = &holders[..first.min(holders.len())];
        let judged = if first.is_empty() { &holders } else { first };
        match judged.iter().all(|who| matches!(who, Who::Owner(_))) {
            true => Ok(first.to_vec()),
            false => Err(NotHeld::NotYours),
        }
    }

    /// An operator ends a hold; who is let in then.
    pub fn revoke(&mut self, who: Who, key: u8) -> Vec<u64> {
        if let Who::Session(number) = who {
            self.session(number).lost.insert(key, NotHeld::Revoked);
        }
        self.unlock(who, key)
    }

    /// Whether the hold has the mode then, and who is let in.
    pub fn set_mode(&mut self, key: u8, mode: Mode) -> (bool, Vec<u64>) {
        let lock = self.locks.get_mut(&key).expect("it is held");
        let is_alone = lock.holders.len() == 1;
        match (lock.mode, mode) {
            (now, mode) if now == mode => return (true, Vec::new()),
            (Mode::Exclusive, Mode::Value(_)) => {}
            (Mode::Value(_), Mode::Exclusive) if is_alone => {}
            _ => return (false, Vec::new()),
        }
        lock.mode = mode;
        (true, self.advance_queue(key, None))
    }

    pub fn why_not_held(&self, session: u64, who: Who, key: u8) -> NotHeld {
        let is_own = who == Who::Session(session);
        if is_own && let Some(why) = self.sessions[&session].lost.get(&key) {
            return *why;
        }
        match self.locks.contains_key(&key) {
            true => NotHeld::NotYours,
            false => NotHeld::NotLocked,
        }
    }

    // ------------------------------------------------------------------ time

    fn bounded(&self, lease_ms: Option<u64>) -> Option<u64> {
        let max_hold = self.limits.max_hold.map(milliseconds);
        lease_ms.into_iter().chain(max_hold).min()
    }

    fn lease(&self, length_ms: u64) -> Lease {
        Lease {
            ends_ms: self.now_ms + length_ms,
            length_ms,
        }
    }

    pub fn set_lease(&mut self, who: Who, key: u8, lease_ms: Option<u64>) {
        let lease_ms = self.bounded(lease_ms);
        let lease = lease_ms.map(|length_ms| self.lease(length_ms));
        self.hold_mut(who, key).expect("it is held").lease = lease;
    }

    /// All leases: when each ends, and whose it is. Of those that end at one time, the one of the
    /// earlier grant comes first.
    fn leases(&self) -> BTreeSet<(u64, u64, Who, u8)> {
        let holds = self.locks.iter().flat_map(|(key, lock)| {
            let holders = lock.holders.iter();
            holders.map(move |(who, hold)| (*key, *who, hold))
        });
        let leases = holds.filter_map(|(key, who, hold)| {
            let lease = hold.lease.as_ref()?;
            Some((lease.ends_ms, hold.nth, who, key))
        });
        leases.collect()
    }

    pub fn next_lease_end(&self) -> Option<u64> {
        self.leases().first().map(|(ends_ms, ..)| *ends_ms)
    }

    /// Ends the locks whose leases are over, and returns them and who is let in.
    pub fn end_leases(&mut self) -> (Vec<(Who, u8)>, Vec<u64>) {
        let (mut over, mut let_in) = (Vec::new(), Vec::new());
        while let Some((ends_ms, _, who, key)) = self.leases().first().copied()
            && ends_ms <= self.now_ms
        {
            let_in.extend(self.unlock(who, key));
            if let Who::Session(number) = who {
                self.session(number).lost.insert(key, NotHeld::Expired);
            }
            over.push((who, key));
        }
        (over, let_in)
    }

    /// The session whose wait should have ended first of those whose time is over.
    pub fn next_overdue(&self) -> Option<u64> {
        let over = self.waiting.iter().filter(|waiter| {
            let until_ms = waiter.until_ms;
            until_ms.is_some_and(|until_ms| until_ms <= self.now_ms)
        });
        let first = over.min_by_key(|waiter| waiter.until_ms);
        first.map(|waiter| waiter.session)
    }

    // ------------------------------------------------------------------ sessions

    pub fn in_grace(&self) -> usize {
        let sessions = self.sessions.values();
        sessions
            .filter(|session| session.grace_ends_ms.is_some())
            .count()
    }

    /// Whether one more session fits; those that hold nothing get half of the room.
    pub fn has_room(&self, number: u64) -> bool {
        let max = self.limits.sessions_in_grace;
        let max = match self.held_by(number).is_empty() {
            true => max / 2,
            false => max,
        };
        self.in_grace() < max
    }

    /// True if the session goes on in its grace period. One with an id that another connection takes
    /// over does so always.
    pub fn detach(&mut self, number: u64, is_taken_over: bool) -> bool {
        let holds_something = !self.held_by(number).is_empty();
        let has_room = self.has_room(number);
        let now_ms = self.now_ms;
        let session = self.session(number);
        let is_worth_it = holds_something || session.asked_id;
        let (grace_ms, survives) = match is_taken_over {
            true => (session.grace_ms.max(TAKE_OVER_MS), is_worth_it),
            false => (
                session.grace_ms,
                session.grace_ms > 0 && is_worth_it && has_room,
            ),
        };
        match survives {
            true => session.grace_ends_ms = Some(now_ms + grace_ms),
            false => drop(self.sessions.remove(&number)),
        }
        survives
    }

    pub fn resume(&mut self, own: u64, wanted: u64) -> Result<(), NotResumed> {
        if own == wanted {
            return Ok(());
        }
        let now_ms = self.now_ms;
        let holds_something = !self.held_by(own).is_empty();
        let session = self.sessions.get_mut(&wanted);
        let session = session.ok_or(NotResumed::Unknown)?;
        match session.grace_ends_ms {
            None => return Err(NotResumed::StillConnected),
            Some(end) if end <= now_ms => return Err(NotResumed::Unknown),
            Some(_) if holds_something => return Err(NotResumed::HoldsLocks),
            Some(_) => session.grace_ends_ms = None,
        }
        self.sessions.remove(&own);
        Ok(())
    }

    pub fn next_expired(&self) -> Option<u64> {
        let is_over =
            |session: &ModelSession| session.grace_ends_ms.is_some_and(|end| end <= self.now_ms);
        let first = self.sessions.iter().find(|(_, session)| is_over(session));
        first.map(|(number, _)| *number)
    }

    /// Nobody is connected any more, and all times begin anew. Nobody stands for owners any more.
    #[cfg(feature = "store")]
    pub fn restart(&mut self) {
        self.waiting.clear();
        for lock in self.locks.values_mut() {
            lock.holders.retain(|_, hold| hold.is_kept);
            for hold in lock.holders.values_mut() {
                hold.taker = None;
                if let Some(lease) = &mut hold.lease {
                    lease.ends_ms = self.now_ms + lease.length_ms;
                }
            }
        }
        self.locks.retain(|_, lock| !lock.holders.is_empty());
        let holders: BTreeSet<Who> = self
            .locks
            .values()
            .flat_map(|lock| lock.holders.keys().copied())
            .collect();
        self.sessions
            .retain(|number, session| session.asked_id || holders.contains(&Who::Session(*number)));
        // The numbers of those that left no trace may come again.
        self.last_number = self.sessions.keys().copied().max().unwrap_or(0);
        for session in self.sessions.values_mut() {
            session.lost.clear();
            session.grace_ends_ms = Some(self.now_ms + session.grace_ms);
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis() as u64
}
