//! Requests that are made once and sent many times.

use std::fmt::{Arguments, Write as _};
use std::ops::Range;

/// What is known of a request when its answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The code that its answer has if all is well.
    pub expected: u16,
    /// Whether a `200` is a grant.
    pub takes_lock: bool,
}

/// The requests of one client, one behind the other in memory, so that a batch is a part of it and
/// nothing is put together while the clock runs.
#[derive(Debug, Default)]
pub struct Script {
    lines: String,
    /// Where each request ends.
    ends: Vec<usize>,
    steps: Vec<Step>,
    /// After so many requests it begins again; what is behind repeats it.
    period: usize,
}

/// Requests that are sent at once.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Their lines.
    pub bytes: &'a [u8],
    /// What is expected of each.
    pub steps: &'a [Step],
}

impl Script {
    /// Appends a request that takes a lock.
    pub fn locks(&mut self, request: Arguments<'_>) {
        let step = Step {
            expected: 200,
            takes_lock: true,
        };
        self.push(request, step);
    }

    /// Appends any other request, and the code of its answer.
    pub fn asks(&mut self, request: Arguments<'_>, expected: u16) {
        let step = Step {
            expected,
            takes_lock: false,
        };
        self.push(request, step);
    }

    fn push(&mut self, request: Arguments<'_>, step: Step) {
        // To write to a string cannot fail.
        let _ = writeln!(self.lines, "{request}");
        self.ends.push(self.lines.len());
        self.steps.push(step);
        self.period = self.steps.len();
    }

    /// How many requests it has until it begins again.
    pub fn len(&self) -> usize {
        self.period
    }

    /// Repeats its beginning behind its end, so that a batch of this size can begin anywhere.
    pub fn repeat_for(&mut self, batch: usize) {
        let period = self.period;
        for index in 0..batch {
            let line = self.range(index..index + 1);
            self.lines.extend_from_within(line);
            self.ends.push(self.lines.len());
            self.steps.push(self.steps[index]);
        }
        self.period = period;
    }

    /// So many requests from this one on.
    pub fn batch(&self, first: usize, requests: usize) -> Batch<'_> {
        let requests = first..first + requests;
        Batch {
            bytes: &self.lines.as_bytes()[self.range(requests.clone())],
            steps: &self.steps[requests],
        }
    }

    fn range(&self, requests: Range<usize>) -> Range<usize> {
        let begin = match requests.start {
            0 => 0,
            first => self.ends[first - 1],
        };
        begin..self.ends[requests.end - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_can_begin_anywhere_and_goes_on_at_the_beginning() {
        let mut script = Script::default();
        script.locks(format_args!("lock a"));
        script.asks(format_args!("unlock a"), 200);
        script.asks(format_args!("lock b"), 409);
        script.repeat_for(5);
        assert_eq!(script.len(), 3);
        assert_eq!(script.batch(0, 1).bytes, b"lock a\n");
        let batch = script.batch(2, 5);
        assert_eq!(
            batch.bytes,
            b"lock b\nlock a\nunlock a\nlock b\nlock a\n".as_slice()
        );
        let expected: Vec<u16> = batch.steps.iter().map(|step| step.expected).collect();
        assert_eq!(expected, [409, 200, 200, 409, 200]);
        assert!(batch.steps[1].takes_lock && !batch.steps[2].takes_lock);
    }
}
