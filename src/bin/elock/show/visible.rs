//! Text of clients and servers, so that a terminal shows it and obeys none of it.

use elock::model::{is_unseen, write_escaped};

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
    // Writing to a string cannot fail.
    let _ = write_escaped(shown, bytes);
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
    }
}
