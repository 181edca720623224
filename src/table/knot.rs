//! Sessions that wait for each other where some need any of several holders, and not each: then one
//! path back to the requester does not make a deadlock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::lock_key::{KeyPlace, Seed};
use super::look::{Found, GivenUp, Pace};
use super::sight::{Edges, Sight};
use super::waiters::Waiter;
use crate::model::SessionNumber;

/// All requests that some first ones can reach, and the keys that they wait for. Those that wait for all
/// or for any of the holders of one key share one node for these holders, so that the graph grows with
/// what waits and what is held, and not with one times the other.
#[derive(Debug, Default)]
pub(super) struct Knot {
    nodes: Vec<Node>,
    requests: HashMap<SessionNumber, usize, Seed>,
    keys: HashMap<(KeyPlace, bool), usize, Seed>,
    /// The requests whose needs were not read yet.
    unread: VecDeque<usize>,
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
    /// What `requesters` can reach.
    ///
    /// # Errors
    ///
    /// If it was [given up](Pace::spend).
    pub(super) fn of<'a>(
        requesters: impl IntoIterator<Item = &'a Arc<Waiter>>,
        sight: &Sight<'_>,
        pace: &mut impl Pace,
    ) -> Result<Self, GivenUp> {
        let mut knot = Self::default();
        for requester in requesters {
            knot.request(Arc::clone(requester));
        }
        while let Some((place, waiter)) = knot.next_unread() {
            let are_known = |is_any| knot.keys.contains_key(&(waiter.key().place(), is_any));
            let edges = sight.edges(&waiter, are_known, pace)?;
            knot.read(place, &waiter, edges);
        }
        Ok(knot)
    }

    fn next_unread(&mut self) -> Option<(usize, Arc<Waiter>)> {
        let place = self.unread.pop_front()?;
        Some((place, Arc::clone(self.nodes[place].waiter.as_ref()?)))
    }

    /// Notes whom a request waits for.
    fn read(&mut self, place: usize, waiter: &Waiter, edges: Edges) {
        if !edges.are_all_holders {
            self.nodes[place].waits_for = self.places(edges.waiting);
            return;
        }
        let key = (waiter.key().place(), edges.is_any);
        let holders = match self.keys.get(&key) {
            Some(holders) => *holders,
            None => {
                let holders = self.nodes.len();
                self.nodes.push(Node::default());
                self.keys.insert(key, holders);
                // One that any of them would do for, and one of them is free, does not wait for ever.
                if !(edges.is_any && edges.has_free) {
                    self.nodes[holders] = Node {
                        waiter: None,
                        is_any: edges.is_any,
                        waits_for: self.places(edges.waiting),
                    };
                }
                holders
            }
        };
        self.nodes[place].waits_for = vec![holders];
    }

    fn places(&mut self, waiters: Vec<Arc<Waiter>>) -> Vec<usize> {
        let waiters = waiters.into_iter();
        waiters.map(|waiter| self.request(waiter)).collect()
    }

    /// The place of a request, which is added if it is new.
    fn request(&mut self, waiter: Arc<Waiter>) -> usize {
        let next = self.nodes.len();
        let place = *self.requests.entry(waiter.session()).or_insert(next);
        if place == next {
            self.unread.push_back(place);
            self.nodes.push(Node {
                waiter: Some(waiter),
                ..Node::default()
            });
        }
        place
    }

    /// Of the first so many requests, those that cannot go on, whatever the others do.
    ///
    /// # Errors
    ///
    /// If it was [given up](Pace::spend).
    pub(super) fn stuck_among_first(
        &self,
        count: usize,
        pace: &mut impl Pace,
    ) -> Result<Vec<bool>, GivenUp> {
        let mut is_stuck = Stuck::of(self, pace)?.is_stuck;
        is_stuck.truncate(count);
        Ok(is_stuck)
    }

    /// The shortest circle through the first request of sessions that wait for each other for ever, where
    /// each that needs any of several holders waits for it, too, through each of these. `None` if it can go
    /// on itself.
    ///
    /// All that can go on without it are taken out, and all that do not wait for it, until neither is left.
    ///
    /// # Errors
    ///
    /// If it was [given up](Pace::spend).
    pub(super) fn circle_of_first(self, pace: &mut impl Pace) -> Result<Option<Found>, GivenUp> {
        let mut stuck = Stuck::of(&self, pace)?;
        loop {
            let others = stuck.those_that_do_not_wait_for_first(pace)?;
            if others.is_empty() {
                break;
            }
            stuck.take_out(others, pace)?;
        }
        let Some(way) = stuck.way_back_to_first(pace)? else {
            return Ok(None);
        };
        let waiters = |places: Vec<usize>| {
            let waiters = places
                .into_iter()
                .filter_map(|at| self.nodes[at].waiter.clone());
            waiters.collect()
        };
        let all = (0..self.nodes.len()).filter(|at| stuck.is_stuck[*at]);
        Ok(Some(Found {
            circle: waiters(way),
            beside: waiters(all.collect()),
        }))
    }
}

/// Those in a knot that are still believed to wait for ever.
struct Stuck<'a> {
    nodes: &'a [Node],
    is_stuck: Vec<bool>,
    /// Of those that each node waits for, how many are stuck.
    waits_for_stuck: Vec<usize>,
    waited_for_by: Vec<Vec<usize>>,
}

impl<'a> Stuck<'a> {
    /// Without those that can go on.
    fn of(knot: &'a Knot, pace: &mut impl Pace) -> Result<Self, GivenUp> {
        let nodes = &knot.nodes[..];
        let mut waited_for_by = vec![Vec::new(); nodes.len()];
        for (place, node) in nodes.iter().enumerate() {
            pace.spend(1 + node.waits_for.len() / LINKS_A_STEP)?;
            for &other in &node.waits_for {
                waited_for_by[other].push(place);
            }
        }
        let waits_for = nodes.iter().map(|node| node.waits_for.len());
        let mut stuck = Self {
            nodes,
            is_stuck: vec![true; nodes.len()],
            waits_for_stuck: waits_for.collect(),
            waited_for_by,
        };
        let free = (0..nodes.len()).filter(|at| nodes[*at].waits_for.is_empty());
        stuck.take_out(free.collect(), pace)?;
        Ok(stuck)
    }

    /// Takes these out, and all that can go on then; in time that grows with what they are waited for by.
    fn take_out(&mut self, places: Vec<usize>, pace: &mut impl Pace) -> Result<(), GivenUp> {
        let mut places = places;
        while let Some(place) = places.pop() {
            if !std::mem::replace(&mut self.is_stuck[place], false) {
                continue;
            }
            let waiting = &self.waited_for_by[place];
            pace.spend(1 + waiting.len() / LINKS_A_STEP)?;
            for &one in waiting {
                self.waits_for_stuck[one] -= 1;
                let can_go_on = self.nodes[one].is_any || self.waits_for_stuck[one] == 0;
                if can_go_on && self.is_stuck[one] {
                    places.push(one);
                }
            }
        }
        Ok(())
    }

    fn those_that_do_not_wait_for_first(
        &self,
        pace: &mut impl Pace,
    ) -> Result<Vec<usize>, GivenUp> {
        let mut waits = vec![false; self.nodes.len()];
        let mut next = vec![0];
        while let Some(place) = next.pop() {
            pace.spend(1 + self.waited_for_by[place].len() / LINKS_A_STEP)?;
            for &waiter in &self.waited_for_by[place] {
                if self.is_stuck[waiter] && !std::mem::replace(&mut waits[waiter], true) {
                    next.push(waiter);
                }
            }
        }
        let others = (0..self.nodes.len()).filter(|at| self.is_stuck[*at] && !waits[*at]);
        Ok(others.collect())
    }

    /// The shortest way from the first request back to it; `None` if it is not stuck.
    fn way_back_to_first(&self, pace: &mut impl Pace) -> Result<Option<Vec<usize>>, GivenUp> {
        if !self.is_stuck[0] {
            return Ok(None);
        }
        let mut from = vec![None; self.nodes.len()];
        let mut next = VecDeque::from([0]);
        while let Some(place) = next.pop_front() {
            pace.spend(1 + self.nodes[place].waits_for.len() / LINKS_A_STEP)?;
            for &other in &self.nodes[place].waits_for {
                if other == 0 {
                    let way = std::iter::successors(Some(place), |&place| from[place]);
                    let mut way: Vec<usize> = way.collect();
                    way.reverse();
                    return Ok(Some(way));
                }
                if self.is_stuck[other] && from[other].is_none() {
                    from[other] = Some(place);
                    next.push_back(other);
                }
            }
        }
        Ok(None)
    }
}

/// How many links between nodes are followed in the time of one [step](Pace).
const LINKS_A_STEP: usize = 8;
