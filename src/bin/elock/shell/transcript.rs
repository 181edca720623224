//! An answer as it is printed.

use elock_client::Answer;

use crate::show::visible::{put_escaped, visible};

/// All of its lines, each with what it begins with, and with nothing that a terminal obeys.
pub fn lines(answer: &Answer, is_listing: bool, begin: &str) -> String {
    let mut text = format!("{begin}{} {}\n", answer.code, visible_bytes(&answer.text));
    if is_listing && answer.code == 200 {
        for line in &answer.lines {
            text.extend([begin, &visible_bytes(line), "\n"]);
        }
        text.extend([begin, "END\n"]);
    }
    text
}

/// An answer of the server's is [`visible`] text; what is no UTF-8 in it is `\xNN`, too.
fn visible_bytes(bytes: &[u8]) -> String {
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
    fn a_backslash_stays_as_the_server_has_it() {
        assert_eq!(visible_bytes(b"k\xff\x00\\x41"), "k\\xFF\\x00\\x41");
    }
}
