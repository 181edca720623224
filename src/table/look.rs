//! A look round for a circle: the walk from a request along those that it waits for.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::knot::Knot;
use super::lock_key::{KeyPlace, Seed};
use super::sight::Sight;
use super::waiters::Waiter;
use crate::model::{Circle, Key, Step};

/// How much a look may do. A step is what it takes to read one holder of a key, some tens of nanoseconds.
pub(super) trait Pace {
    /// Notes that so many steps were taken. Called under no guard of a key.
    ///
    /// # Errors
    ///
    /// If the look shall end without a result.
    fn spend(&mut self, steps: usize) -> Result<(), GivenUp>;
}

/// A look ended without a result.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GivenUp;

/// The pace of a look that has no more than so many steps.
#[derive(Debug)]
pub(super) struct FewSteps(pub(super) usize);

impl Pace for FewSteps {
    fn spend(&mut self, steps: usize) -> Result<(), GivenUp> {
        self.0 = self.0.checked_sub(steps).ok_or(GivenUp)?;
        Ok(())
    }
}

/// Requests that would wait for each other for ever.
#[derive(Debug)]
pub(super) struct Found {
    /// The shortest way from the requester back to it.
    pub(super) circle: Vec<Arc<Waiter>>,
    /// Where some of these need any of several holders: all that must not go on, so that they do not.
    pub(super) beside: Vec<Arc<Waiter>>,
}

impl Found {
    /// Whether all of them still wait.
    pub(super) fn is_waiting(&self) -> bool {
        let all = self.circle.iter().chain(&self.beside);
        // The requester may be one that only asks whether it would have to wait.
        all.skip(1).all(|waiter| waiter.is_waiting())
    }

    pub(super) fn circle(&self) -> Circle {
        Circle::new(self.circle.len(), |place| Step {
            waiter: self.circle[place].session(),
            key: Key::new(self.circle[place].key().as_bytes()),
        })
    }
}

/// A waiting session that a walk has met, and the visit that led to it.
struct Visit {
    waiter: Arc<Waiter>,
    from: Option<usize>,
}

/// The shortest circle that `requester` closes by its wait.
///
/// The walk is breadth first, without recursion, and looks at each key once, so that its cost grows with
/// what waits and not with what is held. If it meets a request that does not need each of the holders,
/// a walk for [these](Knot) takes its place.
///
/// # Errors
///
/// If it was [given up](Pace::spend).
pub(super) fn look_round(
    requester: &Arc<Waiter>,
    sight: &Sight<'_>,
    pace: &mut impl Pace,
) -> Result<Option<Found>, GivenUp> {
    let mut visits = vec![Visit {
        waiter: Arc::clone(requester),
        from: None,
    }];
    let mut seen: HashSet<KeyPlace, Seed> = HashSet::default();
    seen.insert(requester.key().place());
    let mut next = VecDeque::from([0]);
    while let Some(index) = next.pop_front() {
        let beyond = sight.edges(&visits[index].waiter, |_| false, pace)?;
        if beyond.is_any || !beyond.are_all_holders {
            return Knot::of([requester], sight, pace)?.circle_of_first(pace);
        }
        let is_requester = |one: &Arc<Waiter>| one.session() == requester.session();
        if beyond.waiting.iter().any(is_requester) {
            return Ok(Some(Found {
                circle: path_to(&visits, index),
                beside: Vec::new(),
            }));
        }
        for waiter in beyond.waiting {
            if seen.insert(waiter.key().place()) {
                next.push_back(visits.len());
                visits.push(Visit {
                    waiter,
                    from: Some(index),
                });
            }
        }
    }
    Ok(None)
}

/// Those who were met on the way from the first visit to this.
fn path_to(visits: &[Visit], last: usize) -> Vec<Arc<Waiter>> {
    let backwards = std::iter::successors(Some(last), |&index| visits[index].from);
    let mut path: Vec<_> = backwards
        .map(|index| Arc::clone(&visits[index].waiter))
        .collect();
    path.reverse();
    path
}
