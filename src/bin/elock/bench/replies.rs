//! Answers in what was read, one line each.

use super::failure::{Failure, shown};
use super::script::Step;
use super::tally::Tally;

/// The longest answer of a server is a deadlock's, which is shorter.
const LONGEST_LINE: usize = 64 << 10;

/// Where a connection's answers stand between two reads.
#[derive(Debug, Default)]
pub struct Replies {
    /// The beginning of a line of which the end has not come.
    partial: Vec<u8>,
}

impl Replies {
    /// Counts the answers in these bytes, which are those to the first of these steps, and tells how
    /// many there are.
    ///
    /// # Errors
    ///
    /// A line is no answer, or nobody asked for it.
    pub fn read(
        &mut self,
        mut bytes: &[u8],
        steps: &[Step],
        tally: &mut Tally,
    ) -> Result<usize, Failure> {
        let mut answers = 0;
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (mut line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if !self.partial.is_empty() {
                self.partial.extend_from_slice(line);
                line = &self.partial;
            }
            let Some(&step) = steps.get(answers) else {
                return Err(Failure::NotAskedFor(shown(line)));
            };
            let code = code(line).ok_or_else(|| Failure::NotAnAnswer(shown(line)))?;
            tally.count(step, code, line);
            self.partial.clear();
            answers += 1;
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() > LONGEST_LINE {
            return Err(Failure::NotAnAnswer(shown(&self.partial)));
        }
        Ok(answers)
    }
}

/// The three digits at a line's beginning, behind which there is a space.
pub fn code(line: &[u8]) -> Option<u16> {
    let &[hundreds @ b'1'..=b'9', tens, ones, b' ', ..] = line else {
        return None;
    };
    let digits = [hundreds, tens, ones];
    let is_code = digits.iter().all(u8::is_ascii_digit);
    let value = |code: u16, digit: u8| code * 10 + u16::from(digit - b'0');
    is_code.then(|| digits.into_iter().fold(0, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Step = Step {
        expected: 200,
        takes_lock: true,
    };

    #[test]
    fn answers_may_come_in_any_pieces() {
        let sent = b"200 Acquired\r\n409 Unavailable\r\n200 Acquired\r\n";
        for size in 1..=sent.len() {
            let (mut replies, mut tally) = (Replies::default(), Tally::new());
            let mut answers = 0;
            for piece in sent.chunks(size) {
                let left = &[STEP; 3][answers..];
                answers += replies
                    .read(piece, left, &mut tally)
                    .expect("a part of an answer");
            }
            assert_eq!((answers, tally.grants), (3, 2), "pieces of {size}");
            assert_eq!(tally.unexpected[&409].first, "\"409 Unavailable\"");
        }
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let read = |bytes: &[u8]| Replies::default().read(bytes, &[STEP], &mut Tally::new());
        for rubbish in [
            "+OK\r\n",
            "\n",
            "2000 x\n",
            "20x y\n",
            "200\n",
            "HTTP/1.1 400 Bad\r\n",
        ] {
            assert!(
                matches!(read(rubbish.as_bytes()), Err(Failure::NotAnAnswer(_))),
                "{rubbish}"
            );
        }
        assert!(matches!(
            read(b"200 a\n200 b\n"),
            Err(Failure::NotAskedFor(_))
        ));
        assert!(matches!(
            read(&[b'2'; 70_000]),
            Err(Failure::NotAnAnswer(_))
        ));
        assert_eq!(read(b"200 Acqu").expect("a part of an answer"), 0);
    }
}
