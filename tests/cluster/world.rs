//! What the clients of a trial share: where the nodes are, what was written down, and who was granted something
//! when.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::judge::{Entry, Event, Holder, violations};
use crate::common::PATIENCE;

#[derive(Debug)]
pub struct World {
    pub nodes: Vec<SocketAddr>,
    begun: Instant,
    entries: Mutex<Vec<Entry>>,
    /// Answers that the protocol does not know.
    wrong: Mutex<Vec<String>>,
    seats: Mutex<Vec<Seat>>,
    granted: Condvar,
    holders: AtomicU64,
    /// `500` may be answered: etcd has no room.
    pub may_not_store: AtomicBool,
    /// All give back what they have, and go.
    is_last: AtomicBool,
    /// All go at once.
    is_over: AtomicBool,
}

/// One client's luck.
#[derive(Debug, Clone, Copy)]
struct Seat {
    grants: u64,
    cuts: u64,
    is_gone: bool,
    last_grant: Instant,
    /// The longest time between two grants of this round.
    longest: Duration,
}

/// A number of grants of each client.
#[derive(Debug)]
pub struct Goal(Vec<u64>);

/// What has happened in a round.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// How long the client that was granted nothing for the longest time was so.
    pub stall: Duration,
    pub grants: u64,
    pub cuts: u64,
}

impl World {
    pub fn new(nodes: Vec<SocketAddr>, clients: usize) -> Self {
        let begun = Instant::now();
        let seat = Seat {
            grants: 0,
            cuts: 0,
            is_gone: false,
            last_grant: begun,
            longest: Duration::ZERO,
        };
        Self {
            nodes,
            begun,
            entries: Mutex::default(),
            wrong: Mutex::default(),
            seats: Mutex::new(vec![seat; clients]),
            granted: Condvar::new(),
            holders: AtomicU64::new(1),
            may_not_store: AtomicBool::new(false),
            is_last: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }

    pub fn write(&self, event: Event) {
        let mut entries = held(&self.entries);
        let at = self.begun.elapsed();
        entries.push(Entry { at, event });
    }

    pub fn entries(&self) -> Vec<Entry> {
        held(&self.entries).clone()
    }

    pub fn is_wrong(&self, what: String) {
        held(&self.wrong).push(format!(
            "after {} ms: {what}",
            self.begun.elapsed().as_millis()
        ));
    }

    /// All that is wrong until now.
    pub fn wrongs(&self) -> Vec<String> {
        let mut wrong = held(&self.wrong).clone();
        wrong.extend(violations(&self.entries()));
        wrong
    }

    /// A name for a session or an owner.
    pub fn new_holder(&self, grace: Duration) -> Holder {
        let holder = self.holders.fetch_add(1, Ordering::SeqCst);
        self.write(Event::Begins { holder, grace });
        holder
    }

    pub fn is_granted(&self, client: usize) {
        let seat = &mut held(&self.seats)[client];
        seat.grants += 1;
        seat.longest = seat.longest.max(seat.last_grant.elapsed());
        seat.last_grant = Instant::now();
        self.granted.notify_all();
    }

    pub fn is_cut(&self, client: usize) {
        held(&self.seats)[client].cuts += 1;
    }

    /// A round begins.
    pub fn begin_round(&self) {
        for seat in held(&self.seats).iter_mut() {
            (seat.grants, seat.cuts, seat.longest) = (0, 0, Duration::ZERO);
        }
    }

    pub fn counts(&self) -> Counts {
        let seats = held(&self.seats);
        Counts {
            stall: seats
                .iter()
                .map(|seat| seat.longest)
                .max()
                .unwrap_or_default(),
            grants: seats.iter().map(|seat| seat.grants).sum(),
            cuts: seats.iter().map(|seat| seat.cuts).sum(),
        }
    }

    /// How many grants each client has when it was granted so many more.
    pub fn goal(&self, more: u64) -> Goal {
        let seats = held(&self.seats);
        Goal(seats.iter().map(|seat| seat.grants + more).collect())
    }

    /// Waits for that; false if it does not come in this time.
    pub fn reaches(&self, goal: &Goal, within: Duration) -> bool {
        let is_short = |seats: &mut Vec<Seat>| {
            let mut seats = seats.iter().zip(&goal.0);
            seats.any(|(seat, goal)| seat.grants < *goal)
        };
        let waited = self
            .granted
            .wait_timeout_while(held(&self.seats), within, is_short);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub fn is_gone(&self, client: usize) {
        held(&self.seats)[client].is_gone = true;
        self.granted.notify_all();
    }

    /// Waits until all clients have given back what they had.
    pub fn until_all_are_gone(&self) {
        let seats = held(&self.seats);
        let stays = |seats: &mut Vec<Seat>| seats.iter().any(|seat| !seat.is_gone);
        let waited = self.granted.wait_timeout_while(seats, PATIENCE, stays);
        let (seats, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(seats);
        if waited.timed_out() {
            self.is_wrong("a client cannot give back what it has".to_owned());
        }
    }

    pub fn is_last(&self) -> bool {
        self.is_last.load(Ordering::SeqCst)
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    pub fn ends_well(&self) {
        self.is_last.store(true, Ordering::SeqCst);
    }

    pub fn ends_at_once(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Not random in any strict sense: enough to vary what happens.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let at = self.below(all.len() as u64);
        all[usize::try_from(at).expect("few")]
    }
}
