//! The search for the one byte that ends a line or a word: most of what it costs to read a request.

/// Where `byte` comes first.
#[cfg(feature = "tuned")]
pub(super) fn first(byte: u8, bytes: &[u8]) -> Option<usize> {
    memchr::memchr(byte, bytes)
}

/// Where `byte` comes first.
#[cfg(not(feature = "tuned"))]
pub(super) fn first(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&other| other == byte)
}

/// Where `byte` comes last.
#[cfg(feature = "tuned")]
pub(super) fn last(byte: u8, bytes: &[u8]) -> Option<usize> {
    memchr::memrchr(byte, bytes)
}

/// Where `byte` comes last.
#[cfg(not(feature = "tuned"))]
pub(super) fn last(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|&other| other == byte)
}
