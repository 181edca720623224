//! An answer as it is printed.

use elock_client::Answer;

use crate::show::visible::visible_bytes;

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
