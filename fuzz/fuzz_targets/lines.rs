//! Bytes to requests, however the bytes come: the lines are the same as if all came at once; and
//! nothing that a client sends makes the parser panic, or the log tell a session's secret.

#![no_main]

use bytes::BytesMut;
use elock::model::{Visible, is_unseen};
use elock::protocol::{BadRequest, Framing, Line, Reply, Request};
use libfuzzer_sys::fuzz_target;

const MAX_LINE: usize = 64;

/// The most bytes of an answer beside the line's own, of which each may be shown with four.
const LONGEST_ANSWER: usize = 256;

fuzz_target!(|data: &[u8]| {
    let Some((&chunk, input)) = data.split_first() else {
        return;
    };
    let chunk = usize::from(chunk).max(1);
    input.split(|byte| *byte == b'\n').for_each(answer);
    let at_once = lines(input, input.len().max(1), usize::MAX);
    let in_pieces = lines(input, chunk, usize::MAX);
    let put_back = lines(input, chunk, 1);
    // Behind a line of another protocol nothing is read, and an overlong line may be known for one as a
    // whole only.
    if let (Some(at_once), Some(in_pieces), Some(put_back)) = (at_once, in_pieces, put_back) {
        assert_eq!(at_once, in_pieces);
        assert_eq!(at_once, put_back);
    }
});

/// The lines of `input`, of which `chunk` bytes come at a time, and at most `most` lines are taken at
/// once; of a line that is too long, nothing. `None` if one begins another protocol.
fn lines(input: &[u8], chunk: usize, most: usize) -> Option<Vec<Option<Vec<u8>>>> {
    let (mut framing, mut buffer) = (Framing::new(MAX_LINE), BytesMut::new());
    let mut found = Vec::new();
    for piece in input.chunks(chunk) {
        buffer.extend_from_slice(piece);
        while let Some(mut lines) = framing.take_lines(&mut buffer) {
            for _ in 0..most {
                match lines.next_line() {
                    // The hello of a TLS client has no end.
                    Some(Line::Text([0x16, 3, ..]) | Line::TooLong { foreign: Some(_) }) => {
                        return None;
                    }
                    Some(Line::Text(text)) => found.push(Some(text.to_vec())),
                    Some(Line::TooLong { foreign: None }) => found.push(None),
                    None => break,
                }
            }
            framing.put_back(lines, &mut buffer);
        }
        assert!(
            buffer.len() <= MAX_LINE + 1,
            "an unfinished line is bounded"
        );
    }
    Some(found)
}

fn answer(line: &[u8]) {
    let mut output = BytesMut::new();
    match Request::parse(line) {
        Ok(request) => {
            let shown = format!("{request:?}");
            assert!(
                !shown.contains(is_unseen),
                "the log shows what a terminal can bear"
            );
            if let Request::Resume { id } | Request::SetConnId { id } = request {
                assert!(id.len() < 8 || !shown.contains(&*Visible(id).to_string()));
            }
            if let Request::Echo { words } = request {
                Reply::Echo(words).put(&mut output);
            }
        }
        Err(bad) => {
            Reply::Bad(bad).put(&mut output);
            let end = output.windows(2).position(|two| two == b"\r\n");
            let is_one_line = end == Some(output.len() - 2);
            assert!(
                is_one_line || matches!(bad, BadRequest::Foreign(_)),
                "one answer"
            );
        }
    }
    assert!(output.len() <= LONGEST_ANSWER + 4 * line.len());
}
