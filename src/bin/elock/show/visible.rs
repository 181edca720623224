//! Text of clients and servers, so that a terminal shows it and obeys none of it.

use std::fmt::Write;

/// The text with the bytes of all that a terminal would obey or hide as `\xNN`, as the server has them:
/// control characters, marks that turn the direction of text, and characters that cannot be seen.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() || is_unseen(character) {
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

fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
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
