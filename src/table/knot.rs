//! Sessions that wait for each other where some need any of several holders, and not each: then one
//! path back to the requester does not make a deadlock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::wait_graph::circle_of;
use super::waiters::Waiter;
use crate::model::{Circle, SessionNumber};

/// The requests that a requester can reach. It is the first of them.
#[derive(Debug)]
pub(super) struct Knot {
    pub(super) waiters: Vec<Arc<Waiter>>,
    places: HashMap<SessionNumber, usize>,
    /// What each of them needs, at the same place.
    pub(super) needs: Vec<Need>,
    /// Whether each of them is still believed to wait for ever.
    is_stuck: Vec<bool>,
}

/// Whom one request waits for.
#[derive(Debug)]
pub(super) struct Need {
    /// Whether any of them is enough; otherwise it needs each.
    pub(super) is_any: bool,
    /// Whether there is one that does not wait.
    pub(super) has_free: bool,
    /// The places of those that wait.
    pub(super) waits_for: Vec<usize>,
}

impl Knot {
    pub(super) fn new(requester: &Arc<Waiter>) -> Self {
        Self {
            waiters: vec![Arc::clone(requester)],
            places: HashMap::from([(requester.session(), 0)]),
            needs: Vec::new(),
            is_stuck: Vec::new(),
        }
    }

    /// The place of a request, which is added if it is new.
    pub(super) fn place(&mut self, waiter: &Arc<Waiter>) -> usize {
        let next = self.waiters.len();
        let place = *self.places.entry(waiter.session()).or_insert(next);
        if place == next {
            self.waiters.push(Arc::clone(waiter));
        }
        place
    }

    /// Takes out all that can go on without the requester, and all that do not wait for it, until
    /// neither is left.
    pub(super) fn tighten(&mut self) {
        self.is_stuck = vec![true; self.needs.len()];
        loop {
            let has_changed = self.take_out_those_that_can_go_on();
            if !self.take_out_those_that_do_not_wait_for_the_first() && !has_changed {
                return;
            }
        }
    }

    fn can_go_on(&self, place: usize) -> bool {
        let need = &self.needs[place];
        let mut waits_for = need.waits_for.iter().map(|other| self.is_stuck[*other]);
        match need.is_any {
            true => need.has_free || !waits_for.all(|is_stuck| is_stuck),
            false => !waits_for.any(|is_stuck| is_stuck),
        }
    }

    /// In time that grows with the edges: whoever waits for one that was taken out is looked at again.
    fn take_out_those_that_can_go_on(&mut self) -> bool {
        let waited_for_by = self.waited_for_by();
        let mut to_look_at: Vec<usize> = (0..self.needs.len()).collect();
        let mut has_changed = false;
        while let Some(place) = to_look_at.pop() {
            if self.is_stuck[place] && self.can_go_on(place) {
                self.is_stuck[place] = false;
                has_changed = true;
                to_look_at.extend(&waited_for_by[place]);
            }
        }
        has_changed
    }

    fn take_out_those_that_do_not_wait_for_the_first(&mut self) -> bool {
        let waited_for_by = self.waited_for_by();
        let mut waits = vec![false; self.needs.len()];
        let mut next = vec![0];
        while let Some(place) = next.pop() {
            for &waiter in &waited_for_by[place] {
                if self.is_stuck[waiter] && !std::mem::replace(&mut waits[waiter], true) {
                    next.push(waiter);
                }
            }
        }
        let mut has_changed = false;
        for (is_stuck, waits) in self.is_stuck.iter_mut().zip(waits) {
            has_changed |= *is_stuck && !waits;
            *is_stuck &= waits;
        }
        has_changed
    }

    fn waited_for_by(&self) -> Vec<Vec<usize>> {
        let mut waited_for_by = vec![Vec::new(); self.needs.len()];
        for (place, need) in self.needs.iter().enumerate() {
            for &other in &need.waits_for {
                waited_for_by[other].push(place);
            }
        }
        waited_for_by
    }

    /// The shortest way from the requester back to it, through those that wait for ever; `None` if it
    /// can go on itself.
    pub(super) fn shortest_circle(&self) -> Option<Circle> {
        if !self.is_stuck[0] {
            return None;
        }
        let mut from = vec![None; self.needs.len()];
        let mut next = VecDeque::from([0]);
        while let Some(place) = next.pop_front() {
            for &other in &self.needs[place].waits_for {
                if other == 0 {
                    let way = std::iter::successors(Some(place), |&place| from[place]);
                    let mut way: Vec<usize> = way.collect();
                    way.reverse();
                    return Some(circle_of(way.iter().map(|place| &self.waiters[*place])));
                }
                if self.is_stuck[other] && from[other].is_none() {
                    from[other] = Some(place);
                    next.push_back(other);
                }
            }
        }
        None
    }
}
