//! Keys and values: bytes that a client chose.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// One pointer if the feature `tuned` is on, and two otherwise.
#[cfg(feature = "tuned")]
type Shared = triomphe::ThinArc<(), u8>;
#[cfg(not(feature = "tuned"))]
type Shared = std::sync::Arc<[u8]>;

/// A byte string that never changes; a clone shares it.
#[derive(Clone)]
pub struct Key(Shared);

/// The value that all holders of a shared lock agree on; the same kind of bytes as a key.
pub type Value = Key;

impl Key {
    /// Copies `bytes`, so that a key never keeps a whole input buffer alive.
    pub fn new(bytes: &[u8]) -> Self {
        #[cfg(feature = "tuned")]
        let shared = Shared::from_header_and_slice((), bytes);
        #[cfg(not(feature = "tuned"))]
        let shared = bytes.into();
        Self(shared)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        #[cfg(feature = "tuned")]
        let bytes = &self.0.slice;
        #[cfg(not(feature = "tuned"))]
        let bytes = &self.0;
        bytes
    }
}

/// Lets maps be asked with bytes, without making a key first.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Hashed as its bytes, so that [`Borrow`] holds; compared as its bytes, too.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Shows bytes to people, as `debug` does: control characters and what is no UTF-8 as `\xNN`.
pub struct Visible<'a>(pub &'a [u8]);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character.is_control() {
                    true => {
                        let mut bytes = [0; 4];
                        let bytes = character.encode_utf8(&mut bytes).bytes();
                        for byte in bytes {
                            write!(f, "\\x{byte:02X}")?;
                        }
                    }
                    false => write!(f, "{character}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// At most so many bytes of a word, of which the last character is whole, if the word is text; and what
/// stands behind them: `...`, if that is not all of it.
pub fn shortened(word: &[u8], most: usize) -> (&[u8], &'static str) {
    if word.len() <= most {
        return (word, "");
    }
    let is_within_character = |at: &usize| word.get(*at).is_some_and(|byte| byte >> 6 == 0b10);
    let mut ends = (most.saturating_sub(3)..=most).rev();
    let end = ends.find(|at| !is_within_character(at)).unwrap_or(most);
    (&word[..end], "...")
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_word_ends_with_a_whole_character() {
        for (word, most, shown) in [
            (&b"abc"[..], 3, (&b"abc"[..], "")),
            (b"abcd", 3, (b"abc", "...")),
            ("abé".as_bytes(), 3, (b"ab", "...")),
            ("a\u{1f512}b".as_bytes(), 4, (b"a", "...")),
            (
                "a\u{1f512}b".as_bytes(),
                5,
                ("a\u{1f512}".as_bytes(), "..."),
            ),
            (&[0x80; 9], 5, (&[0x80; 5], "...")),
        ] {
            assert_eq!(shortened(word, most), shown);
        }
    }

    #[test]
    fn what_is_shown_is_one_line_of_text() {
        let shown = Visible(b"a\"\\\r\x1b\xc3\xa9\xff\xc2\x9b").to_string();
        assert_eq!(shown, "a\"\\\\x0D\\x1B\u{e9}\\xFF\\xC2\\x9B");
    }
}
