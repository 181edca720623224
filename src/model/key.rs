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

/// Shows bytes to people in one line, by a text that stands for no other bytes: as `\xNN` are shown
///
/// - what is no UTF-8,
/// - what a terminal or a page would obey or hide ([`is_unseen`]),
/// - a backslash that would be read as the beginning of a `\xNN`.
pub struct Visible<'a>(pub &'a [u8]);

impl Visible<'_> {
    /// Writes it without a formatter: a line may have thousands of bytes to show.
    pub(crate) fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            let (text, mut written) = (chunk.valid(), 0);
            for (at, character) in text.char_indices() {
                let end = at + character.len_utf8();
                if is_unseen(character) || escaped_byte(&text.as_bytes()[at..]).is_some() {
                    out.write_str(&text[written..at])?;
                    write_escaped(out, &text.as_bytes()[at..end])?;
                    written = end;
                }
            }
            out.write_str(&text[written..])?;
            write_escaped(out, chunk.invalid())?;
        }
        Ok(())
    }
}

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

/// Each byte as `\xNN`.
///
/// # Errors
///
/// Those of `out`.
pub fn write_escaped(out: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        out.write_str("\\x")?;
        for digit in [byte >> 4, byte & 15] {
            out.write_char(DIGITS[usize::from(digit)].into())?;
        }
    }
    Ok(())
}

/// The bytes that a text of [`Visible`] stands for.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = escaped_byte(rest);
        bytes.push(escaped.unwrap_or(first));
        rest = escaped.map_or(behind, |_| &rest[ESCAPE_LENGTH..]);
    }
    bytes
}

/// `\xNN`
const ESCAPE_LENGTH: usize = 4;

/// The byte for which the beginning of the text stands.
fn escaped_byte(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"\\x")?.get(..2)?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

/// Whether a character shows nothing, or not what it is, or changes how others are shown: controls,
/// spaces but the plain one, separators of lines, marks of direction, and what has no width.
pub fn is_unseen(character: char) -> bool {
    match character {
        ' '..='~' => false,
        '\u{ad}'
        | '\u{34f}'
        | '\u{600}'..='\u{605}'
        | '\u{61c}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{890}'
        | '\u{891}'
        | '\u{8e2}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}'
        | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        _ => character.is_control() || character.is_whitespace(),
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
    use proptest::prelude::*;

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
        for unseen in "\u{2028}\u{202e}\u{200b}\u{feff}\u{a0}\u{9b}\u{7f}\u{3000}".chars() {
            let shown = Visible(unseen.to_string().as_bytes()).to_string();
            assert!(shown.is_ascii() && shown.starts_with("\\x"), "{shown}");
        }
    }

    #[test]
    fn plain_text_is_shown_as_it_is() {
        for plain in ["report/7", "C:\\temp\\x", "a\\n\\xyz\\\\", "é 鍵 a\u{301}"] {
            assert_eq!(Visible(plain.as_bytes()).to_string(), plain);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// So no two show the same.
        #[test]
        fn what_is_shown_stands_for_what_it_was(
            parts in prop::collection::vec(
                prop_oneof![
                    any::<Vec<u8>>(),
                    any::<String>().prop_map(String::into_bytes),
                    r"[\\xX5cC0-9a-f]{0,8}".prop_map(String::into_bytes),
                ],
                0..6,
            ),
        ) {
            let bytes = parts.concat();
            let shown = Visible(&bytes).to_string();
            prop_assert!(!shown.chars().any(is_unseen), "{}", shown);
            prop_assert_eq!(unescape(shown.as_bytes()), bytes);
        }
    }
}
