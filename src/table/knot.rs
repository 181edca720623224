//! Sessions that wait for each other where some need any of several holders, and not each: then one
//! path back to the requester does not make a deadlock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::lock_key::LockKey;
use super::wait_graph::{Edges, circle_of};
use super::waiters::Waiter;
use crate::model::{Circle, SessionNumber};

/// All requests that a requester can reach, which is the first of them, and the keys that they wait
/// for. Those that wait for all or for any of the holders of one key share one node for these holders,
/// so that the graph grows with what waits and what is held, and not with one times the other.
#[derive(Debug)]
pub(super) struct Knot {
    nodes: Vec<Node>,
    requests: HashMap<SessionNumber, usize>,
    keys: HashMap<(LockKey, bool), usize>,
    /// The requests whose needs were not read yet.
    unread: VecDeque<usize>,
    /// Whether each node is still believed to wait for ever.
    is_stuck: Vec<bool>,
}

/// A request, or the holders of a key.
#[derive(Debug, Default)]
struct Node {
    waiter: Option<Arc<Waiter>>,
    /// Whether any of those that it waits for is enough; otherwise it needs each.
    is_any: bool,
    waits_for: Vec<usize>,
}

impl Knot {
    pub(super) fn new(requester: &Arc<Waiter>) -> Self {
        let mut knot = Self {
            nodes: Vec::new(),
            requests: HashMap::new(),
            #[allow(
                clippy::mutable_key_type,
                reason = "the words beside a key are no part of what keys are compared by"
            )]
            keys: HashMap::new(),
            unread: VecDeque::new(),
            is_stuck: Vec::new(),
        };
        knot.request(requester);
        knot
    }

    /// The next request whose needs are to be [read](Knot::read).
    pub(super) fn next_unread(&mut self) -> Option<(usize, Arc<Waiter>)> {
        let place = self.unread.pop_front()?;
        Some((place, Arc::clone(self.nodes[place].waiter.as_ref()?)))
    }

    /// Whether the holders of this key are known, as those of whom all, or any, are needed.
    pub(super) fn knows(&self, key: &LockKey, is_any: bool) -> bool {
        self.keys.contains_key(&(key.clone(), is_any))
    }

    /// Notes whom a request waits for; `of` is the request that a session waits with.
    pub(super) fn read<'a>(
        &mut self,
        place: usize,
        edges: Edges,
        of: impl Fn(SessionNumber) -> Option<&'a Arc<Waiter>>,
    ) {
        let Some(waiter) = self.nodes[place].waiter.clone() else {
            return;
        };
        if !edges.are_all_holders {
            self.nodes[place].waits_for = self.holders(edges, of).0;
            return;
        }
        let (key, is_any) = (waiter.key().clone(), edges.is_any);
        let holders = match self.keys.get(&(key.clone(), is_any)) {
            Some(holders) => *holders,
            None => {
                let holders = self.nodes.len();
                self.nodes.push(Node::default());
                self.keys.insert((key, is_any), holders);
                // One that any of them would do for, and one of them is free, does not wait for ever.
                if !(is_any && edges.has_free) {
                    let (waits_for, has_free) = self.holders(edges, of);
                    if !(is_any && has_free) {
                        self.nodes[holders] = Node {
                            waiter: None,
                            is_any,
                            waits_for,
                        };
                    }
                }
                holders
            }
        };
        self.nodes[place].waits_for = vec![holders];
    }

    /// The places of the holders that wait, and whether there is one that does not, or not any more.
    fn holders<'a>(
        &mut self,
        edges: Edges,
        of: impl Fn(SessionNumber) -> Option<&'a Arc<Waiter>>,
    ) -> (Vec<usize>, bool) {
        let mut has_free = edges.has_free;
        let mut places: Vec<usize> = edges.requester.then_some(0).into_iter().collect();
        for holder in edges.waiting {
            match of(holder) {
                Some(waiter) => places.push(self.request(waiter)),
                None => has_free = true,
            }
        }
        (places, has_free)
    }

    /// The place of a request, which is added if it is new.
    fn request(&mut self, waiter: &Arc<Waiter>) -> usize {
        let next = self.nodes.len();
        let place = *self.requests.entry(waiter.session()).or_insert(next);
        if place == next {
            self.unread.push_back(place);
            self.nodes.push(Node {
                waiter: Some(Arc::clone(waiter)),
                ..Node::default()
            });
        }
        place
    }

    /// The shortest way from the requester back to it, through those that wait for ever; `None` if it
    /// can go on itself. All needs must have been read.
    ///
    /// All that can go on without the requester are taken out, and all that do not wait for it, until
    /// neither is left.
    pub(super) fn shortest_circle(&mut self) -> Option<Circle> {
        self.is_stuck = vec![true; self.nodes.len()];
        let waited_for_by = self.waited_for_by();
        loop {
            let has_changed = self.take_out_those_that_can_go_on(&waited_for_by);
            if !self.take_out_those_that_do_not_wait_for_the_first(&waited_for_by) && !has_changed {
                break;
            }
        }
        self.way_back()
    }

    fn can_go_on(&self, place: usize) -> bool {
        let node = &self.nodes[place];
        let mut waits_for = node.waits_for.iter().map(|other| self.is_stuck[*other]);
        match node.is_any {
            true => !waits_for.all(|is_stuck| is_stuck),
            false => !waits_for.any(|is_stuck| is_stuck),
        }
    }

    /// In time that grows with the edges: whoever waits for one that was taken out is looked at again.
    fn take_out_those_that_can_go_on(&mut self, waited_for_by: &[Vec<usize>]) -> bool {
        let mut to_look_at: Vec<usize> = (0..self.nodes.len()).collect();
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

    fn take_out_those_that_do_not_wait_for_the_first(
        &mut self,
        waited_for_by: &[Vec<usize>],
    ) -> bool {
        let mut waits = vec![false; self.nodes.len()];
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
        let mut waited_for_by = vec![Vec::new(); self.nodes.len()];
        for (place, node) in self.nodes.iter().enumerate() {
            for &other in &node.waits_for {
                waited_for_by[other].push(place);
            }
        }
        waited_for_by
    }

    fn way_back(&self) -> Option<Circle> {
        if !self.is_stuck[0] {
            return None;
        }
        let mut from = vec![None; self.nodes.len()];
        let mut next = VecDeque::from([0]);
        while let Some(place) = next.pop_front() {
            for &other in &self.nodes[place].waits_for {
                if other == 0 {
                    let way = std::iter::successors(Some(place), |&place| from[place]);
                    let mut way: Vec<usize> = way.collect();
                    way.reverse();
                    let requests = way.iter().filter_map(|at| self.nodes[*at].waiter.as_ref());
                    return Some(circle_of(requests));
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
