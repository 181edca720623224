//! Framing: lines out of a byte stream.

use bytes::{Buf, BytesMut};

use super::find;
use super::request::{TLS_HELLO, foreign_line};

/// One line of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line without its end and without spaces at either side; possibly empty.
    Text(&'a [u8]),
    /// A line longer than the limit.
    TooLong {
        /// The foreign protocol that it begins, if it does.
        foreign: Option<&'static str>,
    },
}

/// Whole lines that came together. They stay where they were read, and are taken one by one.
#[derive(Debug)]
pub struct Lines {
    bytes: BytesMut,
    /// How many bytes belong to lines that were taken.
    start: usize,
    max_line: usize,
    /// The beginning of the first line was too long to be kept.
    first_is_cut: Option<Cut>,
}

/// What is known of a line that was too long to be kept.
#[derive(Debug, Clone, Copy)]
struct Cut {
    foreign: Option<&'static str>,
}

impl Lines {
    /// The next line, if there is one more.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        let rest = self.bytes.get(self.start..)?;
        if rest.is_empty() {
            return None;
        }
        // Only the hello of a TLS client has no end.
        let length = find::first(b'\n', rest).unwrap_or(rest.len() - 1);
        let line = &rest[..length];
        self.start += length + 1;
        let too_long = line.strip_suffix(b"\r").unwrap_or(line).len() > self.max_line;
        match self.first_is_cut.take() {
            Some(Cut { foreign }) => Some(Line::TooLong { foreign }),
            None if too_long => {
                let foreign = foreign_line(line);
                Some(Line::TooLong { foreign })
            }
            None => Some(Line::Text(trim(line))),
        }
    }

    /// True if all lines were taken.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }
}

/// Splits input at LF; a CR before it is part of the line's end.
///
/// Holds at most `max_line` + 1 bytes of an unfinished line: a longer line is dropped as it arrives
/// and reported as one [`Line::TooLong`] when its end is seen, so that every line gets exactly one
/// answer.
#[derive(Debug)]
pub struct Framing {
    max_line: usize,
    /// How many bytes of the buffer are known to be whole lines, or to hold no LF.
    scanned: usize,
    /// The known bytes are whole lines, which were put back.
    are_lines: bool,
    /// The unfinished line is too long, and dropped as it arrives.
    discarding: Option<Cut>,
}

impl Framing {
    /// For lines of at most `max_line` bytes, line end not counted.
    pub fn new(max_line: usize) -> Self {
        Self {
            max_line,
            scanned: 0,
            are_lines: false,
            discarding: None,
        }
    }

    /// Takes all whole lines of `src` at once, since to split a buffer costs more than to look at a
    /// line. `None` if there is none; the beginning of a line stays in `src`, unless it is too long
    /// already.
    pub fn take_lines(&mut self, src: &mut BytesMut) -> Option<Lines> {
        let Some(end) = self.end_of_lines(src) else {
            self.drop_unfinished_overlong_line(src);
            return None;
        };
        (self.scanned, self.are_lines) = (0, false);
        let bytes = match end == src.len() {
            true => std::mem::take(src),
            false => src.split_to(end),
        };
        Some(Lines {
            bytes,
            start: 0,
            max_line: self.max_line,
            first_is_cut: self.discarding.take(),
        })
    }

    /// Gives the lines that were not taken, and the buffer's room, back to the buffer that they
    /// came from. Nothing may have been read into it since.
    pub fn put_back(&mut self, lines: Lines, src: &mut BytesMut) {
        self.discarding = lines.first_is_cut;
        let (is_empty, mut bytes) = (lines.is_empty(), lines.bytes);
        if !is_empty {
            bytes.advance(lines.start);
            (self.scanned, self.are_lines) = (bytes.len(), true);
            let behind = std::mem::replace(src, bytes);
            src.unsplit(behind);
        } else if src.is_empty() {
            bytes.clear();
            *src = bytes;
        }
    }

    fn end_of_lines(&self, src: &[u8]) -> Option<usize> {
        if self.are_lines {
            return Some(self.scanned);
        }
        let unseen = src.get(self.scanned..)?;
        match find::last(b'\n', unseen) {
            Some(last) => Some(self.scanned + last + 1),
            // A TLS client sends no line's end and waits, so its hello is taken for a whole line;
            // its last byte, in place of the end, does not matter.
            None => self.is_tls_hello(src).then_some(src.len()),
        }
    }

    /// Only where a line begins: the rest of an overlong line is any bytes.
    fn is_tls_hello(&self, src: &[u8]) -> bool {
        self.discarding.is_none() && src.len() > TLS_HELLO.len() && src.starts_with(TLS_HELLO)
    }

    fn drop_unfinished_overlong_line(&mut self, src: &mut BytesMut) {
        // One byte more for the CR of a CRLF whose LF is still on its way.
        if self.discarding.is_none() && src.len() > self.max_line + 1 {
            let foreign = foreign_line(src);
            self.discarding = Some(Cut { foreign });
        }
        if self.discarding.is_some() {
            src.clear();
        }
        self.scanned = src.len();
    }
}

/// Drops spaces at either end and CRs at the end; no other byte is special.
fn trim(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|&byte| byte != b' ' && byte != b'\r');
    let line = &line[..end.map_or(0, |last| last + 1)];
    let start = line.iter().position(|&byte| byte != b' ').unwrap_or(0);
    &line[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line's text, or nothing where it was too long.
    type Seen = Option<Vec<u8>>;

    /// Feeds `chunks` one after the other and collects the lines that come out.
    fn lines(max_line: usize, chunks: &[&[u8]]) -> Vec<Seen> {
        let mut framing = Framing::new(max_line);
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            while let Some(mut lines) = framing.take_lines(&mut buffer) {
                while let Some(line) = lines.next_line() {
                    seen.push(match line {
                        Line::Text(text) => Some(text.to_vec()),
                        Line::TooLong { .. } => None,
                    });
                }
            }
            assert!(buffer.len() <= max_line + 1, "holds more than a line");
        }
        seen
    }

    fn text(line: &[u8]) -> Seen {
        Some(line.to_vec())
    }

    #[test]
    fn lf_and_crlf_end_a_line_and_spaces_around_it_are_nothing() {
        let input: &[u8] = b"lock a\nlock b\r\n  lock c  \r\n\n\r\n \n";
        let expected = [&b"lock a"[..], b"lock b", b"lock c", b"", b"", b""];
        assert_eq!(lines(64, &[input]), expected.map(text));
    }

    #[test]
    fn every_split_of_the_input_gives_the_same_lines() {
        let input: &[u8] = b"lock a\r\nlock \xff\0\r\x01 5\nabcdefghijklmnopq\r\nquit\n";
        let whole = lines(16, &[input]);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[2], None);
        for cut in 0..=input.len() {
            assert_eq!(
                lines(16, &[&input[..cut], &input[cut..]]),
                whole,
                "cut at {cut}"
            );
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(lines(16, &bytes), whole);
    }

    #[test]
    fn lines_that_were_put_back_come_again_as_if_they_had_not_come() {
        let (mut framing, mut buffer) = (Framing::new(4), BytesMut::from("12345678"));
        assert!(framing.take_lines(&mut buffer).is_none());
        buffer.extend_from_slice(b"9\nab\nc");
        let lines = framing.take_lines(&mut buffer).expect("two lines");
        framing.put_back(lines, &mut buffer);
        let mut lines = framing.take_lines(&mut buffer).expect("the same");
        let cut = Line::TooLong { foreign: None };
        assert_eq!(lines.next_line(), Some(cut));
        framing.put_back(lines, &mut buffer);
        buffer.extend_from_slice(b"d\n");
        for expected in [b"ab", b"cd"] {
            let mut lines = framing.take_lines(&mut buffer).expect("a line");
            assert_eq!(lines.next_line(), Some(Line::Text(expected)));
            framing.put_back(lines, &mut buffer);
        }
        assert!(framing.take_lines(&mut buffer).is_none());
    }

    #[test]
    fn the_limit_counts_the_line_without_its_end() {
        assert_eq!(lines(4, &[b"1234\n"]), [text(b"1234")]);
        assert_eq!(lines(4, &[b"1234\r", b"\n"]), [text(b"1234")]);
        assert_eq!(lines(4, &[b"12345\n"]), [None]);
        assert_eq!(lines(4, &[b"12345\r\n"]), [None]);
    }

    /// In the middle of a line it is neither a hello nor the end of the line.
    #[test]
    fn no_command_is_smuggled_out_of_an_overlong_line() {
        let chunks: [&[u8]; 3] = [&[b'x'; 1000], b"\x16\x03zzzz", b"unlock_all\nnext\n"];
        assert_eq!(lines(16, &chunks), [None, text(b"next")]);
        let chunks: [&[u8]; 2] = [b"lock ", b"\x16\x03zzzz\n"];
        assert_eq!(lines(16, &chunks), [text(b"lock \x16\x03zzzz")]);
    }

    #[test]
    fn an_overlong_line_tells_whether_it_begins_another_protocol() {
        let request = [b"GET /".to_vec(), vec![b'x'; 100], b"\n".to_vec()].concat();
        for cut in [3, 50, 105] {
            let mut framing = Framing::new(16);
            let mut buffer = BytesMut::from(&request[..cut]);
            assert!(framing.take_lines(&mut buffer).is_none());
            buffer.extend_from_slice(&request[cut..]);
            let mut lines = framing.take_lines(&mut buffer).expect("a line");
            let foreign = Some("HTTP");
            assert_eq!(
                lines.next_line(),
                Some(Line::TooLong { foreign }),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn an_overlong_line_is_dropped_as_it_arrives_and_reported_once() {
        let chunk = [b'x'; 1000];
        let mut chunks: Vec<&[u8]> = vec![&chunk; 100];
        chunks.push(b"tail\nnext\n");
        // The helper asserts after each chunk that no more than one line is held.
        assert_eq!(lines(16, &chunks), [None, text(b"next")]);
    }
}
