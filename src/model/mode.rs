//! How a key is held.

use super::key::Value;

/// How a session holds a key, or wants to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Alone.
    Exclusive,
    /// Together with all sessions that name the same value.
    Shared(Value),
}
