//! Fencing tokens.

use std::fmt;

/// A fencing token: the number of one grant, larger than that of every earlier one. What a lock
/// protects can refuse a smaller token than one that it has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
