//! Text of clients and servers, so that a terminal shows it and obeys none of it.

use std::fmt::Write;

use elock::model::is_unseen;

/// The text with the bytes of all that a terminal would obey or hide as `\xNN`, as the server has them:
/// control characters, marks that turn the direction of text, and characters that cannot be seen. A
/// backslash stays, as the server may have written it.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match is_unseen(character) {
            true => put_escaped(&mut shown, character.encode_utf8(&mut [0; 4]).as_bytes()),
            false => shown.push(character),
        }
    }
    shown
}

/// Each byte as `\xNN`.
pub fn put_escaped(shown: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(shown, "\\x{byte:02X}");
    }
}

/// The same of bytes; what is no UTF-8 is `\xNN`, too.
pub fn visible_bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&visible(chunk.valid()));
        put_escaped(&mut shown, chunk.invalid());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        assert_eq!(visible("a\x1b[2J\r\u{9b}"), "a\\x1B[2J\\x0D\\xC2\\x9B");
        assert_eq!(
            visible("\u{202e}live\u{200b}"),
            "\\xE2\\x80\\xAElive\\xE2\\x80\\x8B"
        );
        assert_eq!(visible("é 鍵 \"q\" \\"), "é 鍵 \"q\" \\");
        assert_eq!(visible_bytes(b"k\xff\x00"), "k\\xFF\\x00");
    }
}
