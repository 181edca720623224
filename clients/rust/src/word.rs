//! Requests as lines of words.

use std::time::Duration;

/// A word that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadWord {
    /// A word has at least one byte.
    #[error("a key, value, owner, name or password cannot be empty")]
    Empty,
    /// Spaces separate words, and a line feed ends the request.
    #[error("a key, value, owner, name or password cannot contain a space or a line feed")]
    Separator,
    /// It would be taken for a part of the line's end.
    #[error("a key, value, owner, name or password cannot end in a carriage return")]
    CarriageReturn,
    /// The server would take the request for one of HTTP.
    #[error("this request would look like one of HTTP")]
    Http,
}

/// A request: its words, each of which was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(Vec<u8>);

impl Line {
    pub(crate) fn new(command: &str) -> Self {
        Self(command.as_bytes().to_owned())
    }

    /// Appends a word that a user chose.
    pub(crate) fn word(mut self, word: impl AsRef<[u8]>) -> Result<Self, BadWord> {
        let word = word.as_ref();
        match word.last() {
            None => return Err(BadWord::Empty),
            Some(b'\r') => return Err(BadWord::CarriageReturn),
            Some(_) if word.contains(&b' ') || word.contains(&b'\n') => {
                return Err(BadWord::Separator);
            }
            Some(_) => {}
        }
        self.0.push(b' ');
        self.0.extend_from_slice(word);
        Ok(self)
    }

    pub(crate) fn optional(self, word: Option<impl AsRef<[u8]>>) -> Result<Self, BadWord> {
        match word {
            Some(word) => self.word(word),
            None => Ok(self),
        }
    }

    pub(crate) fn number(mut self, number: u128) -> Self {
        self.0.extend_from_slice(format!(" {number}").as_bytes());
        self
    }

    /// In seconds and thousandths, rounded up, so that a short wait is one.
    pub(crate) fn seconds(mut self, wait: Duration) -> Self {
        let ms = milliseconds(wait);
        let text = match ms % 1000 {
            0 => format!(" {}", ms / 1000),
            part => format!(" {}.{part:03}", ms / 1000),
        };
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// The line with its end, unless a server would take it for something else than eLock.
    pub(crate) fn end(mut self) -> Result<Self, BadWord> {
        let mut words = self.0.split(|&byte| byte == b' ');
        let is_http = words
            .nth(2)
            .is_some_and(|third| third.starts_with(b"HTTP/"));
        if is_http && words.next().is_none() {
            return Err(BadWord::Http);
        }
        self.0.push(b'\n');
        Ok(self)
    }

    /// What is sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whole milliseconds, rounded up.
pub(crate) fn milliseconds(time: Duration) -> u128 {
    time.as_nanos().div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_would_be_two_or_none_is_refused() {
        let line = |word: &str| Line::new("token").word(word).and_then(Line::end);
        assert_eq!(line("k").map(|line| line.0), Ok(b"token k\n".to_vec()));
        assert_eq!(line(""), Err(BadWord::Empty));
        assert_eq!(line("a b"), Err(BadWord::Separator));
        assert_eq!(line("a\nb"), Err(BadWord::Separator));
        assert_eq!(line("a\r"), Err(BadWord::CarriageReturn));
        let http = Line::new("demote")
            .word("k")
            .and_then(|line| line.word("HTTP/1"));
        assert_eq!(http.and_then(Line::end), Err(BadWord::Http));
    }

    #[test]
    fn waits_are_rounded_up() {
        let line = |wait| Line::new("w").seconds(wait).0;
        assert_eq!(line(Duration::ZERO), b"w 0");
        assert_eq!(line(Duration::from_nanos(1)), b"w 0.001");
        assert_eq!(line(Duration::from_millis(1_500)), b"w 1.500");
        assert_eq!(line(Duration::from_secs(60)), b"w 60");
    }
}
