//! Who waits for whom.
//!
//! Only a request that must wait can close a circle, so only those come here. The graph's mutex
//! is taken *before* the guard of any key and held while a request walks and then queues itself.
//!
//! Why the walk finds every circle and no false one: while the mutex is held nobody else can
//! begin to wait, and a session that waits can neither acquire nor release, because it runs one
//! request at a time; the requester itself stands still too. So every edge that the walk reads
//! was there from its first step on, and the session that would close a circle is the last one
//! to come and sees all the others in place. Grants, deadlines and disconnects can only take
//! edges away, and do so without the mutex: an edge whose waiter no longer waits does not count.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::key::Key;
use super::queue::Waiter;
use super::session::SessionNumber;

/// The edges from each waiting session to the key it waits for. Kept under the table's mutex.
/// A session waits for one key at most.
#[derive(Debug, Default)]
pub(super) struct WaitGraph {
    waiters: HashMap<SessionNumber, Arc<Waiter>>,
}

/// Sessions that would wait for each other for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle(Vec<Step>);

/// One edge: `waiter` waits for `key`, which the next step's waiter holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Who waits.
    pub waiter: SessionNumber,
    /// For what.
    pub key: Key,
}

impl Circle {
    /// A circle that starts at the requester; the holder of the last step's key is the requester
    /// again. `steps` must not be empty.
    pub fn new(steps: Vec<Step>) -> Self {
        debug_assert!(!steps.is_empty(), "a circle has a requester");
        Self(steps)
    }

    /// The edges, the requester's first.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whose request would close the circle.
    pub fn requester(&self) -> SessionNumber {
        self.0.first().map_or(SessionNumber(0), |step| step.waiter)
    }
}

/// A waiting session met on the walk, and whose key led to it.
struct Visit {
    step: Step,
    from: Option<usize>,
}

impl WaitGraph {
    pub(super) fn insert(&mut self, waiter: Arc<Waiter>) {
        let before = self.waiters.insert(waiter.session(), waiter);
        debug_assert!(before.is_none(), "a session waits for one key at most");
    }

    pub(super) fn remove(&mut self, session: SessionNumber) {
        self.waiters.remove(&session);
        // A burst of waiters must not keep its memory for ever; shrinking at a quarter keeps
        // the cost amortised.
        if self.waiters.capacity() > 1024 && self.waiters.len() < self.waiters.capacity() / 4 {
            self.waiters.shrink_to(self.waiters.len() * 2);
        }
    }

    /// Those who wait at this moment, in the order in which they came.
    pub(super) fn waiting(&self) -> Vec<Arc<Waiter>> {
        let waiting = self.waiters.values().filter(|waiter| waiter.is_waiting());
        let mut waiting: Vec<_> = waiting.cloned().collect();
        waiting.sort_unstable_by_key(|waiter| waiter.arrival());
        waiting
    }

    /// The shortest circle that `requester` would close by waiting for `key`.
    ///
    /// `holders_of` reads the holders of a key with one short guard. Breadth first, without
    /// recursion; each session is visited once.
    pub(super) fn circle(
        &self,
        requester: SessionNumber,
        key: &Key,
        holders_of: impl Fn(&Key) -> Vec<SessionNumber>,
    ) -> Option<Circle> {
        let step = Step {
            waiter: requester,
            key: key.clone(),
        };
        let mut visits = vec![Visit { step, from: None }];
        let mut seen = HashSet::new();
        let mut next = VecDeque::from([0]);
        while let Some(index) = next.pop_front() {
            for holder in holders_of(&visits[index].step.key) {
                if holder == requester {
                    return Some(path_to(&visits, index));
                }
                if !seen.insert(holder) {
                    continue;
                }
                if let Some(waiter) = self
                    .waiters
                    .get(&holder)
                    .filter(|waiter| waiter.is_waiting())
                {
                    let step = Step {
                        waiter: holder,
                        key: waiter.key().clone(),
                    };
                    next.push_back(visits.len());
                    visits.push(Visit {
                        step,
                        from: Some(index),
                    });
                }
            }
        }
        None
    }
}

fn path_to(visits: &[Visit], last: usize) -> Circle {
    let backwards = std::iter::successors(Some(last), |&index| visits[index].from);
    let mut steps: Vec<Step> = backwards.map(|index| visits[index].step.clone()).collect();
    steps.reverse();
    Circle::new(steps)
}
