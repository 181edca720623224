//! Fencing tokens.

use std::fmt;

/// A fencing token: the number of one grant, larger than that of every earlier one. The resource
/// that a lock protects can refuse a token that is smaller than one it has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
