//! How a key is held.

use std::num::NonZeroU32;

use super::key::Value;

/// How a key is held, or is to be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Alone.
    Exclusive,
    /// Together with all who name the same value.
    Shared(Value),
    /// In one of so many slots, together with all others that are in a slot. Each request brings its
    /// own number.
    Slot(NonZeroU32),
}

impl Mode {
    /// The value, if the key is shared by one.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Shared(value) => Some(value),
            Self::Exclusive | Self::Slot(_) => None,
        }
    }
}
