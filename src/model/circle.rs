//! A deadlock, as a client is told of it.

use super::key::Key;
use super::session_id::SessionNumber;

/// Sessions that would wait for each other for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle(Vec<Step>);

/// One edge: `waiter` waits for `key`, which the next step's waiter holds, or took for an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The session that waits.
    pub waiter: SessionNumber,
    /// The key that it waits for.
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

    /// The same circle for eyes that may see only some keys: `...` in place of the others.
    pub fn showing(mut self, may_see: impl Fn(&[u8]) -> bool) -> Self {
        for step in &mut self.0 {
            if !may_see(step.key.as_bytes()) {
                step.key = Key::new(b"...");
            }
        }
        self
    }

    /// The session that would close the circle by its request.
    pub fn requester(&self) -> SessionNumber {
        self.0.first().map_or(SessionNumber(0), |step| step.waiter)
    }
}
