//! What a look for circles sees: whom a request waits for.

use std::sync::{Arc, Mutex};

use super::holders::{Hold, Obstacle};
use super::lock::Lock;
use super::lock_key::LockKey;
use super::look::{GivenUp, Pace};
use super::wait_graph::{Entry, WaitGraph};
use super::waiters::Waiter;
use super::{LockTable, interleave};
use crate::model::Holder;

/// How many holders of a key are read under one guard, and one hold of the graph's mutex: some
/// microseconds.
const AT_ONCE: usize = 256;

/// What one look sees.
pub(super) struct Sight<'a> {
    table: &'a LockTable,
    graph: Graph<'a>,
    scope: Scope<'a>,
}

/// How the graph is reached.
enum Graph<'a> {
    /// Its mutex is held all the time.
    Held(&'a WaitGraph),
    /// It is taken for each piece that is read.
    Shared(&'a Mutex<WaitGraph>),
}

/// Which edges count.
enum Scope<'a> {
    /// Those to requests that entered the graph before this one, and that do not end by a lease before its
    /// wait does.
    Of(&'a Entry),
    /// All.
    All,
}

/// Whom a request waits for.
#[derive(Debug, Default)]
pub(super) struct Edges {
    /// Whether any of the holders is enough; otherwise it needs each.
    pub(super) is_any: bool,
    /// Whether these are all holders of the key.
    pub(super) are_all_holders: bool,
    /// The holders that wait themselves, by session, each once.
    pub(super) waiting: Vec<Arc<Waiter>>,
    /// Whether another holder does not wait.
    pub(super) has_free: bool,
}

/// Edges of which a part was read.
#[derive(Default)]
struct Reading {
    needs: Option<Obstacle>,
    /// The last holder that was read.
    last: Option<Holder>,
    edges: Edges,
}

/// How much was read under one guard.
struct Piece {
    holders: usize,
    is_last: bool,
}

impl<'a> Sight<'a> {
    /// As `entry` sees the graph, whose mutex is held.
    pub(super) fn under_mutex(
        table: &'a LockTable,
        graph: &'a WaitGraph,
        entry: &'a Entry,
    ) -> Self {
        Self {
            table,
            graph: Graph::Held(graph),
            scope: Scope::Of(entry),
        }
    }

    /// As `entry` sees the graph.
    pub(super) fn of(table: &'a LockTable, entry: &'a Entry) -> Self {
        Self {
            table,
            graph: Graph::Shared(&table.waits),
            scope: Scope::Of(entry),
        }
    }

    /// All edges that any request may see.
    pub(super) fn of_all(table: &'a LockTable) -> Self {
        Self {
            table,
            graph: Graph::Shared(&table.waits),
            scope: Scope::All,
        }
    }

    /// Whom the request of `waiter` waits for. The holders are left out if the request waits for all of
    /// them, or for any, and `are_known` says so of these.
    pub(super) fn edges(
        &self,
        waiter: &Waiter,
        are_known: impl Fn(bool) -> bool,
        pace: &mut impl Pace,
    ) -> Result<Edges, GivenUp> {
        let mut reading = Reading::default();
        loop {
            interleave::between_guards();
            let piece = self.read(waiter, &mut reading, &are_known);
            pace.spend(steps_for(waiter.key()) + piece.holders)?;
            if piece.is_last {
                return Ok(reading.edges());
            }
        }
    }

    fn read(
        &self,
        waiter: &Waiter,
        reading: &mut Reading,
        are_known: &impl Fn(bool) -> bool,
    ) -> Piece {
        let shared;
        let graph = match self.graph {
            Graph::Held(graph) => graph,
            Graph::Shared(mutex) => {
                shared = interleave::lock(mutex);
                &*shared
            }
        };
        let go_on = |_: &LockKey, lock: &mut Lock| {
            let who_waits = |holder: &Holder, hold: &Hold| self.who_waits(graph, holder, hold);
            reading.go_on(lock, waiter, who_waits, are_known)
        };
        let piece = self.table.locks.with(waiter.key().as_bytes(), go_on);
        piece.unwrap_or_else(|| {
            // Nobody has the key, and nobody waits for it.
            *reading = Reading::default();
            Piece::last(0)
        })
    }

    /// The request that keeps a holder from letting go.
    fn who_waits(&self, graph: &WaitGraph, holder: &Holder, hold: &Hold) -> Option<Arc<Waiter>> {
        let Scope::Of(entry) = self.scope else {
            return graph.of(hold.taker).cloned();
        };
        // The requester may be outside of the graph.
        let waiter = match entry.waiter.session() == hold.taker {
            true => &entry.waiter,
            false => graph.entered_by(hold.taker, entry.number)?,
        };
        let until = entry.waiter.until();
        let end = || self.table.leases.end(hold.word.token());
        // Most takers do not wait, and the leases of their owners' locks need not be looked for.
        let ends_before = !holder.is_session() && end().is_some_and(|end| end < until);
        (!ends_before).then(|| Arc::clone(waiter))
    }
}

/// What it takes to find a key.
fn steps_for(key: &LockKey) -> usize {
    4 + key.as_bytes().len() / 256
}

impl Reading {
    /// Reads the next holders of a key. Called under its guard.
    fn go_on(
        &mut self,
        lock: &Lock,
        waiter: &Waiter,
        who_waits: impl Fn(&Holder, &Hold) -> Option<Arc<Waiter>>,
        are_known: &impl Fn(bool) -> bool,
    ) -> Piece {
        let needs = lock.needs(waiter);
        if self.needs != needs {
            // From the beginning, if something was read before.
            *self = Self {
                needs,
                ..Self::default()
            };
        }
        let (is_any, is_all) = match needs {
            None => return Piece::last(0),
            Some(Obstacle::OwnOwner) => {
                let own = lock.hold_of(waiter.holder());
                let own = own.and_then(|hold| who_waits(waiter.holder(), &hold));
                self.edges.has_free = own.is_none();
                self.edges.waiting = own.into_iter().collect();
                return Piece::last(1);
            }
            Some(Obstacle::Any) => (true, true),
            Some(Obstacle::All) => (false, true),
        };
        (self.edges.is_any, self.edges.are_all_holders) = (is_any, is_all);
        if are_known(is_any) {
            return Piece::last(0);
        }
        let (last, mut holders) = (self.last.take(), 0);
        for (holder, hold) in lock.holders_after(last.as_ref()).take(AT_ONCE) {
            match who_waits(&holder, &hold) {
                Some(waiter) => self.edges.waiting.push(waiter),
                None => self.edges.has_free = true,
            }
            holders += 1;
            if holders == AT_ONCE {
                self.last = Some(holder);
            }
        }
        let is_last = holders < AT_ONCE;
        Piece { holders, is_last }
    }

    /// Sorted, so that of several circles of one length the client is always told the same one.
    fn edges(mut self) -> Edges {
        let waiting = &mut self.edges.waiting;
        waiting.sort_unstable_by_key(|waiter| waiter.session());
        waiting.dedup_by_key(|waiter| waiter.session());
        self.edges
    }
}

impl Piece {
    fn last(holders: usize) -> Self {
        let is_last = true;
        Self { holders, is_last }
    }
}
