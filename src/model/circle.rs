//! A deadlock, as a client is told of it.

use super::key::Key;
use super::session_id::SessionNumber;

/// Sessions that would wait for each other for ever. Of a long circle the steps at its two ends are kept:
/// it may have as many as there are sessions, and each names a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    steps: Vec<Step>,
    len: usize,
}

/// One edge: `waiter` waits for `key`, which the next step's waiter holds, or took for an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The session that waits.
    pub waiter: SessionNumber,
    /// The key that it waits for.
    pub key: Key,
}

impl Circle {
    /// How many steps are kept at each end of a circle that has more than twice as many.
    pub const END: usize = 16;

    /// A circle of so many steps that starts at the requester; the holder of the last step's key is the
    /// requester again. `step` makes the one at a place, and is asked for those that are kept.
    pub fn new(len: usize, step: impl FnMut(usize) -> Step) -> Self {
        debug_assert!(len > 0, "a circle has a requester");
        let first = len.min(Self::END);
        let last = len.saturating_sub(Self::END).max(first);
        let steps = (0..first).chain(last..len).map(step).collect();
        Self { steps, len }
    }

    /// How many sessions it has.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The edges, the requester's first. Of a long circle, those at its two ends.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many edges are left out in the middle.
    pub fn left_out(&self) -> usize {
        self.len - self.steps.len()
    }

    /// The same circle for eyes that may see only some keys: `...` in place of the others.
    pub fn showing(mut self, may_see: impl Fn(&[u8]) -> bool) -> Self {
        for step in &mut self.steps {
            if !may_see(step.key.as_bytes()) {
                step.key = Key::new(b"...");
            }
        }
        self
    }

    /// The session that would close the circle by its request.
    pub fn requester(&self) -> SessionNumber {
        self.steps
            .first()
            .map_or(SessionNumber(0), |step| step.waiter)
    }
}
