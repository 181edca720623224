//! What the table still does, on its way to the end.

use std::sync::atomic::{AtomicU8, Ordering};

use super::LockTable;
use super::acquire::Placed;
use crate::model::Ask;

/// Each phase but the first forbids something, and none is followed by an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// All is done that is asked for.
    Serving,
    /// Requests for a lock are turned away, unless they have begun; waiters are served.
    Draining,
    /// Nothing is granted, and nothing passes on.
    Stopping,
}

/// The phase that a table is in.
#[derive(Debug, Default)]
pub(super) struct CurrentPhase(AtomicU8);

impl CurrentPhase {
    pub(super) fn get(&self) -> Phase {
        match self.0.load(Ordering::SeqCst) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// True if it was an earlier one.
    fn advance(&self, to: Phase) -> bool {
        self.0.fetch_max(to as u8, Ordering::SeqCst) < to as u8
    }
}

impl LockTable {
    /// From here on a lock goes only to those who wait for it by now, and to a request for several keys
    /// that has one of them; every other request that would be granted a lock, or would queue up, is
    /// turned away. So when [`LockTable::held`] shows once after this that nothing is held, nothing will
    /// be. Returns true if this began it.
    pub fn drain(&self) -> bool {
        self.phase.advance(Phase::Draining)
    }

    pub(super) fn set_stopping(&self) {
        self.phase.advance(Phase::Stopping);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.phase.get() == Phase::Stopping
    }

    /// What a request is answered that would be granted the lock, or would queue up, if its time has
    /// passed. To be called under the key's guard, and, if nobody holds the key, once it is counted.
    pub(super) fn turned_away(&self, ask: &Ask) -> Option<Placed> {
        match self.phase.get() {
            Phase::Serving => None,
            Phase::Draining => (!ask.has_begun()).then_some(Placed::Draining),
            Phase::Stopping => Some(Placed::Stopping),
        }
    }
}
