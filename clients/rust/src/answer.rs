//! Answers, as bytes come in.

use crate::error::ConnectionError;

/// The longest answer that is taken: a listing of a full server fits, and a peer that is no server
/// cannot fill the memory.
const LONGEST_ANSWER: usize = 256 << 20;

/// What a line takes beside its bytes, however short it is.
const LINE_OVERHEAD: usize = 64;

/// One answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What decides: `200` and so on, as in protocol.md, section 2.
    pub code: u16,
    /// What stands behind the code, for people.
    pub text: Vec<u8>,
    /// The lines of a listing, without its `END`.
    pub lines: Vec<Vec<u8>>,
}

impl Answer {
    /// The text, for people.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let (code, text) = (line.get(..3)?, line.get(4..)?);
        let is_code = code.iter().all(u8::is_ascii_digit) && line[3] == b' ';
        let digits = std::str::from_utf8(code).ok().filter(|_| is_code)?;
        Some(Self {
            code: digits.parse().ok()?,
            text: text.to_owned(),
            lines: Vec::new(),
        })
    }
}

/// What was received and not yet taken as answers.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    buffer: Vec<u8>,
    /// Up to here it was taken.
    taken: usize,
    /// Up to here there is no further end of a line.
    searched: usize,
    /// A listing whose `END` has not come yet.
    unfinished: Option<(Answer, usize)>,
}

impl Incoming {
    /// Where what is read goes.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        self.buffer.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        &mut self.buffer
    }

    /// The next answer, if it is there as a whole. `is_listing`: it belongs to a request whose
    /// `200` goes on with lines.
    pub(crate) fn next(&mut self, is_listing: bool) -> Result<Option<Answer>, ConnectionError> {
        while let Some(line) = self.next_line()? {
            match self.unfinished.take() {
                None => {
                    let answer = Answer::parse(&line).ok_or_else(|| not_an_answer(&line))?;
                    if !is_listing || answer.code != 200 {
                        return Ok(Some(answer));
                    }
                    self.unfinished = Some((answer, 0));
                }
                Some((answer, _)) if line == b"END" => return Ok(Some(answer)),
                Some((mut answer, length)) => {
                    let length = length + line.len() + LINE_OVERHEAD;
                    if length > LONGEST_ANSWER {
                        return Err(ConnectionError::AnswerTooLong);
                    }
                    answer.lines.push(line);
                    self.unfinished = Some((answer, length));
                }
            }
        }
        Ok(None)
    }

    /// Whether something is there that no request has asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.buffer.len() && self.unfinished.is_none()
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, ConnectionError> {
        let found = self.buffer[self.searched..]
            .iter()
            .position(|&byte| byte == b'\n');
        let Some(length) = found else {
            self.searched = self.buffer.len();
            return match self.buffer.len() - self.taken > LONGEST_ANSWER {
                true => Err(ConnectionError::AnswerTooLong),
                false => Ok(None),
            };
        };
        let end = self.searched + length;
        let line = &self.buffer[self.taken..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_owned();
        (self.taken, self.searched) = (end + 1, end + 1);
        Ok(Some(line))
    }
}

fn not_an_answer(line: &[u8]) -> ConnectionError {
    let shown = &line[..line.len().min(80)];
    ConnectionError::NotAnAnswer {
        line: shown.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_however_the_bytes_come() {
        let bytes = b"200 Acquired\r\n200 INFO\r\na 1\r\nb 2\r\nEND\r\n503 no\n";
        for piece in 1..bytes.len() {
            let mut incoming = Incoming::default();
            let mut listings = [false, true, true].into_iter();
            let (mut found, mut next) = (Vec::new(), listings.next());
            for part in bytes.chunks(piece) {
                incoming.buffer().extend_from_slice(part);
                while let Some(is_listing) = next {
                    let Some(answer) = incoming.next(is_listing).expect("well-formed") else {
                        break;
                    };
                    found.push((answer.code, answer.lines.len()));
                    next = listings.next();
                }
            }
            assert_eq!(found, [(200, 0), (200, 2), (503, 0)]);
            assert!(incoming.is_empty());
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for line in ["hello\n", "20 x\n", "2000 x\n", "+20 OK\n", "\n", "200\n"] {
            let mut incoming = Incoming::default();
            incoming.buffer().extend_from_slice(line.as_bytes());
            assert!(incoming.next(false).is_err(), "{line}");
        }
    }
}
