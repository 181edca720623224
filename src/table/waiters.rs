//! The requests that wait for one key, first come first served.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::grant::Grant;
use super::holders::holder_of;
use super::lock_key::LockKey;
use super::lost_locks::LostLocks;
use super::session::Session;
use super::tally::Accounts;
use crate::model::{Ask, Circle, Holder, Mode, Seq, SessionNumber, Token, Value};

const WAITING: u8 = 0;
const GRANTED: u8 = 1;
const LEFT: u8 = 2;

/// A request that waits, shared by its session, the key's queue and the wait-for graph.
///
/// Its state changes only under the guard of the key's shard, from waiting to granted or to left
/// and never again. So where a grant, a deadline and a disconnect meet, exactly one wins, and the
/// others see that in the state.
#[derive(Debug)]
pub struct Waiter {
    session: SessionNumber,
    lost: Option<Arc<LostLocks>>,
    accounts: Option<Accounts>,
    key: LockKey,
    ask: Ask,
    /// Who will hold the key.
    holder: Holder,
    since: Instant,
    until: Instant,
    paused: Duration,
    arrival: u64,
    state: AtomicU8,
    /// The fencing token of its grant, and in `seq` the change that the grant is; both are set
    /// before the state says granted.
    token: AtomicU64,
    seq: AtomicU64,
    /// The circle that the request has closed, if it is refused for that; set before the state says left.
    circle: OnceLock<Box<Circle>>,
    decided: Notify,
}

/// When a request came, and for how long it waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitTime {
    pub(super) since: Instant,
    pub(super) until: Instant,
    /// How long the server had stood still before.
    pub(super) paused: Duration,
    /// See [`Waiter::arrival`].
    pub(super) arrival: u64,
}

impl Waiter {
    pub(super) fn new(session: &Session, key: LockKey, ask: Ask, time: WaitTime) -> Self {
        let WaitTime {
            since,
            until,
            paused,
            arrival,
        } = time;
        Self {
            session: session.number,
            lost: session.held.lost.clone(),
            accounts: session.accounts().filter(|_| ask.is_owned()).cloned(),
            key,
            holder: holder_of(&ask, session.number).to_holder(),
            ask,
            since,
            until,
            paused,
            arrival,
            state: AtomicU8::new(WAITING),
            token: AtomicU64::new(0),
            seq: AtomicU64::new(0),
            circle: OnceLock::new(),
            decided: Notify::new(),
        }
    }

    /// The session that waits.
    pub fn session(&self) -> SessionNumber {
        self.session
    }

    /// Who will hold the lock.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Where a loss of the lock by the end of its lease is noted for the session.
    pub(super) fn lost(&self) -> Option<&Arc<LostLocks>> {
        self.lost.as_ref()
    }

    /// The accounts that an owner's lock will be on.
    pub(super) fn accounts(&self) -> Option<&Accounts> {
        self.accounts.as_ref()
    }

    /// The key that it waits for.
    pub fn key(&self) -> &LockKey {
        &self.key
    }

    /// What it asks for.
    pub fn ask(&self) -> &Ask {
        &self.ask
    }

    /// The mode in which it asks for the lock.
    pub fn mode(&self) -> &Mode {
        &self.ask.mode
    }

    /// Until when it waits, if the server does not stand still meanwhile.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Since when it waits.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// How long the server had stood still before that, in all.
    pub(super) fn paused_before(&self) -> Duration {
        self.paused
    }

    /// Its place in the order in which the waiters of the whole server queued up. Of two that wait to
    /// hold one key alone, the one with the smaller number is served first.
    pub fn arrival(&self) -> u64 {
        self.arrival
    }

    /// Returns once the lock was granted, or the request refused because it has closed a circle; forever
    /// pending if the waiter leaves before that. Cancel safe, for one caller at a time.
    pub(super) async fn decided(&self) {
        self.decided.notified().await;
        debug_assert!(!self.is_waiting(), "a decision wakes a waiter");
    }

    /// The circle for which the request was refused while it waited.
    pub(super) fn refused_for(&self) -> Option<&Circle> {
        self.circle.get().map(Box::as_ref)
    }

    /// Says why the waiter will leave. Called under the key's guard, while it waits.
    pub(super) fn refuse_for(&self, circle: Circle) {
        let is_first = self.circle.set(Box::new(circle)).is_ok();
        debug_assert!(is_first && self.is_waiting(), "a request is refused once");
    }

    pub(super) fn is_granted(&self) -> bool {
        self.state.load(Ordering::Acquire) == GRANTED
    }

    /// Whether it waits at this moment.
    pub fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Acquire) == WAITING
    }

    /// The grant, and the change that it is, of a waiter that [was granted](Waiter::is_granted) the
    /// lock.
    pub(super) fn grant(&self) -> (Grant, Seq) {
        let grant = Grant {
            holder: self.holder.clone(),
            key: self.key.clone(),
            token: Token(self.token.load(Ordering::Relaxed)),
        };
        (grant, Seq(self.seq.load(Ordering::Relaxed)))
    }

    /// Sets the token and the change of its grant. Called before the state says granted.
    pub(super) fn granted_by(&self, token: Token, seq: Seq) {
        self.token.store(token.0, Ordering::Relaxed);
        self.seq.store(seq.0, Ordering::Relaxed);
    }

    /// Wakes a waiter that was granted the lock, or refused. Not under a guard, as a waker runs code that
    /// is not the table's.
    pub(super) fn wake(&self) {
        self.decided.notify_one();
    }

    fn is_for_slot(&self) -> bool {
        matches!(self.ask.mode, Mode::Slot(_))
    }

    /// Under the key's guard only.
    fn change(&self, state: u8) {
        let before = self.state.swap(state, Ordering::AcqRel);
        // A panic here comes before the lock has new holders, so no second session gets it.
        assert_eq!(before, WAITING, "a wait ends once");
    }
}

/// The waiters of one key.
///
/// A waiter that leaves is only marked, and skipped later; so is one that is granted the lock from the
/// middle of the queue. Once most entries are marked, they are swept out. So every operation but a walk
/// ([`iter`](Waiters::iter), [`before`](Waiters::before)) is O(1) amortised per waiter.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    order: VecDeque<Arc<Waiter>>,
    /// The waiters in `order` that named a value, by value and in the same order: all of one value
    /// are granted the lock together, without a walk over the queue.
    by_value: HashMap<Value, Vec<Arc<Waiter>>>,
    /// How many entries all lists of `by_value` have together.
    by_value_len: usize,
    waiting: usize,
    /// How many of those who wait do not ask for a slot, and how many ask for owners.
    not_for_slots: usize,
    for_owners: usize,
}

/// A shorter queue is not swept: that would save nothing.
const SWEEP_FROM: usize = 32;

impl Waiters {
    pub(super) fn push(&mut self, waiter: Arc<Waiter>) {
        self.list_by_value(&waiter);
        self.not_for_slots += usize::from(!waiter.is_for_slot());
        self.for_owners += usize::from(waiter.ask.is_owned());
        self.order.push_back(waiter);
        self.waiting += 1;
    }

    /// True if the waiter was still waiting.
    pub(super) fn leave(&mut self, waiter: &Waiter) -> bool {
        if !waiter.is_waiting() {
            return false;
        }
        self.end(waiter, LEFT);
        self.sweep();
        true
    }

    /// Forgets the entries before the first who waits.
    pub(super) fn forget_first(&mut self) {
        while self.order.front().is_some_and(|one| !one.is_waiting()) {
            self.order.pop_front();
        }
    }

    /// If this waiter named a value, all others with this value, in the order of the queue. Each is to
    /// be [granted](Waiters::grant) the lock, as this one, or [listed](Waiters::list_by_value) again.
    pub(super) fn take_others_like(&mut self, waiter: &Arc<Waiter>) -> Vec<Arc<Waiter>> {
        let Some(value) = waiter.mode().value() else {
            return Vec::new();
        };
        let mut same_value = self.by_value.remove(value).unwrap_or_default();
        self.by_value_len -= same_value.len();
        same_value.retain(|one| one.is_waiting() && !Arc::ptr_eq(one, waiter));
        same_value
    }

    /// Lists a waiter by its value, if it named one, behind all that are listed. Its place in the queue
    /// is another matter.
    pub(super) fn list_by_value(&mut self, waiter: &Arc<Waiter>) {
        if let Some(value) = waiter.mode().value() {
            let same_value = self.by_value.entry(value.clone()).or_default();
            same_value.push(Arc::clone(waiter));
            self.by_value_len += 1;
        }
    }

    /// Notes that a waiter is granted the lock.
    pub(super) fn grant(&mut self, waiter: &Waiter) {
        self.end(waiter, GRANTED);
    }

    fn end(&mut self, waiter: &Waiter, state: u8) {
        waiter.change(state);
        self.waiting -= 1;
        self.not_for_slots -= usize::from(!waiter.is_for_slot());
        self.for_owners -= usize::from(waiter.ask.is_owned());
    }

    /// Those who wait, in the order of the queue.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Waiter>> {
        self.order.iter().filter(|waiter| waiter.is_waiting())
    }

    /// Those who stand before `waiter`, which need not be in the queue.
    pub(super) fn before(&self, waiter: &Waiter) -> impl Iterator<Item = &Waiter> {
        let arrival = waiter.arrival;
        let before = self.iter().take_while(move |one| one.arrival < arrival);
        before.map(Arc::as_ref)
    }

    /// Whether any who waits asks for an owner.
    pub(super) fn have_owners(&self) -> bool {
        self.for_owners > 0
    }

    /// Whether all who wait ask for a slot.
    pub(super) fn are_all_for_slots(&self) -> bool {
        self.not_for_slots == 0
    }

    /// Ends all waits, without the lock, and returns their number.
    pub(super) fn refuse_all(&mut self) -> usize {
        let refused = std::mem::take(self);
        let waiting = refused.order.iter().filter(|waiter| waiter.is_waiting());
        waiting.for_each(|waiter| waiter.change(LEFT));
        refused.waiting
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The waiter that came last, if it still waits.
    pub(super) fn last(&self) -> Option<&Waiter> {
        self.order
            .back()
            .map(Arc::as_ref)
            .filter(|last| last.is_waiting())
    }

    /// Forgets entries of those who do not wait any more, once they are many.
    pub(super) fn sweep(&mut self) {
        let longest = self.order.len().max(self.by_value_len);
        if longest < SWEEP_FROM || longest < 2 * self.waiting {
            return;
        }
        self.order.retain(|waiter| waiter.is_waiting());
        self.by_value.retain(|_, same_value| {
            same_value.retain(|waiter| waiter.is_waiting());
            !same_value.is_empty()
        });
        self.by_value_len = self.by_value.values().map(Vec::len).sum();
        self.order.shrink_to(2 * self.waiting);
        self.by_value.shrink_to(2 * self.by_value.len());
        debug_assert_eq!(self.order.len(), self.waiting);
    }
}

/// A waiter for the key `k` whose session has this number, which is its arrival, too.
#[cfg(test)]
pub(super) fn test_waiter(number: u64, ask: Ask) -> Arc<Waiter> {
    let session = Session::new(
        SessionNumber(number),
        Default::default(),
        Default::default(),
    );
    let now = Instant::now();
    let time = WaitTime {
        since: now,
        until: now,
        paused: Duration::ZERO,
        arrival: number,
    };
    Arc::new(Waiter::new(&session, LockKey::new(b"k"), ask, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(number: u64, mode: Mode) -> Arc<Waiter> {
        test_waiter(number, mode.into())
    }

    /// Lets in the first, and all with its value.
    fn grant_next(queue: &mut Waiters) -> Vec<u64> {
        queue.forget_first();
        let first = queue.iter().next().cloned();
        let next = first.map_or_else(Vec::new, |first| {
            let mut next = queue.take_others_like(&first);
            next.insert(0, first);
            next
        });
        next.iter().for_each(|waiter| queue.grant(waiter));
        queue.sweep();
        next.iter().map(|waiter| waiter.arrival()).collect()
    }

    fn valued(number: u64) -> Arc<Waiter> {
        waiter(number, Mode::Shared(Value::new(&[number as u8])))
    }

    fn assert_swept(queue: &Waiters) {
        let bound = 2 * queue.waiting() + SWEEP_FROM;
        let in_lists: usize = queue.by_value.values().map(Vec::len).sum();
        assert_eq!(in_lists, queue.by_value_len);
        assert!(queue.order.len() <= bound, "{} in order", queue.order.len());
        let kept = queue.order.capacity();
        assert!(kept <= 4 * bound, "room for {kept} kept");
        assert!(
            in_lists <= bound && queue.by_value.len() <= bound,
            "{in_lists} by value"
        );
    }

    #[test]
    fn waiters_that_left_take_no_room_for_long() {
        let mut queue = Waiters::default();
        for round in 0..100_u64 {
            let waiters: Vec<_> = (0..100)
                .map(|number| valued(round * 100 + number))
                .collect();
            waiters
                .iter()
                .for_each(|waiter| queue.push(Arc::clone(waiter)));
            waiters[1..]
                .iter()
                .for_each(|waiter| assert!(queue.leave(waiter)));
            assert_swept(&queue);
        }
        assert_eq!(queue.waiting(), 100);
    }

    #[test]
    fn waiters_that_left_and_were_passed_over_take_no_room_either() {
        let mut queue = Waiters::default();
        for number in 0..10_000 {
            let gone = valued(number);
            queue.push(Arc::clone(&gone));
            queue.push(waiter(number, Mode::Exclusive));
            assert!(queue.leave(&gone));
            assert_eq!(grant_next(&mut queue).len(), 1);
            assert_swept(&queue);
        }
    }

    #[test]
    fn many_values_are_served_in_the_order_in_which_each_first_came() {
        let mut queue = Waiters::default();
        (0..3000).for_each(|number| queue.push(valued(number)));
        for expected in 0..256 {
            let granted = grant_next(&mut queue);
            let same_value: Vec<u64> = (expected..3000).step_by(256).collect();
            assert_eq!(granted, same_value);
            assert_swept(&queue);
        }
        assert!(grant_next(&mut queue).is_empty());
    }
}
