//! How often requests were refused, by kind.

use crate::count::Counter;
use crate::protocol::Refusal;

/// A counter for each kind of refusal.
#[derive(Debug)]
pub(crate) struct RefusalCounts([Counter; Refusal::ALL.len()]);

impl Default for RefusalCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl RefusalCounts {
    /// Counts an answer, if it is a refusal.
    #[inline]
    pub(super) fn count(&self, refusal: Option<Refusal>) {
        if let Some(refusal) = refusal {
            self.0[refusal as usize].add(1);
        }
    }

    /// How many there were of this kind.
    pub(crate) fn get(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize].get()
    }
}
