//! A buffer for log lines whose reader may stand still.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::error;

/// How many bytes wait to be written before lines are dropped; the last line may exceed it. Bytes
/// and not lines, because a line may be as long as a key.
const LIMIT: usize = 1 << 20;

/// How long to wait before trying a full non-blocking pipe again.
const FULL_PIPE_PAUSE: Duration = Duration::from_millis(10);

/// Takes lines without waiting for their reader; drops and counts lines that it has no room for.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    dropped: Dropped,
    /// Whether lines were taken out that may not be written yet.
    writing: bool,
}

/// How many lines were dropped since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Since there was no room: the reader is too slow.
    pub(super) not_read: u64,
    /// Since the system refused them.
    pub(super) not_written: u64,
    /// Why it refused the last of these.
    error: String,
}

/// A count and its cause.
impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (not_read, not_written, error) = (self.not_read, self.not_written, &self.error);
        let in_all = not_read + not_written;
        write!(f, "{in_all} log lines were dropped since the start: ")?;
        match (not_read, not_written) {
            (_, 0) => f.write_str("they were not read in time"),
            (0, _) => write!(f, "they could not be written ({error})"),
            _ => write!(
                f,
                "{not_read} were not read in time, and {not_written} could not be written ({error})"
            ),
        }
    }
}

impl Buffer {
    fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.lines.len() >= LIMIT {
            state.dropped.not_read += 1;
            return;
        }
        let was_empty = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Writes the lines that come into the buffer to `sink`, for as long as the process lives.
    /// Dropped lines are reported after the next lines that could be written.
    pub(super) fn carry_to(&self, mut sink: impl Write) -> ! {
        let mut reported = Dropped::default();
        loop {
            let (lines, dropped) = self.take();
            let mut left = lines.as_slice();
            match write_all(&mut sink, &mut left) {
                // The total, so that nothing is forgotten if this line is dropped, too.
                Ok(()) if dropped != reported => {
                    error!("{dropped}");
                    reported = dropped;
                }
                Ok(()) => {}
                Err(error) => self.drop_all(left, &error),
            }
        }
    }

    /// Waits for lines and takes them all out, with what was dropped before.
    fn take(&self) -> (Vec<u8>, Dropped) {
        let mut state = self.state();
        state.writing = false;
        self.written.notify_all();
        let waited = self
            .filled
            .wait_while(state, |state| state.lines.is_empty());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.writing = true;
        (std::mem::take(&mut state.lines), state.dropped.clone())
    }

    fn drop_all(&self, lines: &[u8], error: &io::Error) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        let dropped = &mut self.state().dropped;
        dropped.not_written += count as u64;
        dropped.error = error.to_string();
    }

    #[cfg(any(feature = "admin", test))]
    pub(super) fn dropped(&self) -> Dropped {
        self.state().dropped.clone()
    }

    /// Waits until every line is written, or for `patience`.
    pub(super) fn wait_until_written(&self, patience: Duration) {
        let is_busy = |state: &mut State| state.writing || !state.lines.is_empty();
        // Written or not, the caller goes on.
        let _ = self
            .written
            .wait_timeout_while(self.state(), patience, is_busy);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Poisoning is ignored: nothing is half done where a thread could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call is one line.
impl Write for &Buffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Like [`Write::write_all`], and patient with a pipe that another process made non-blocking. `bytes` is
/// what is left to be written.
fn write_all(sink: &mut impl Write, bytes: &mut &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => *bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PIPE_PAUSE),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk becomes full in the midst of a line.
    #[test]
    fn what_was_written_is_not_dropped() {
        let (mut room, mut left) = ([0; 5], &b"a\nb\nc\nd\n"[..]);
        write_all(&mut &mut room[..], &mut left).expect_err("there is no room");
        assert_eq!((&room, left), (b"a\nb\nc", &b"\nd\n"[..]));
        let buffer = Buffer::default();
        buffer.drop_all(left, &ErrorKind::WriteZero.into());
        assert_eq!(buffer.dropped().not_written, 2);
    }

    /// Otherwise somebody looks for a slow reader where the disk is full.
    #[test]
    fn what_is_dropped_is_told_with_its_own_cause() {
        let buffer = Buffer::default();
        buffer.drop_all(b"a\nb\n", &io::Error::from_raw_os_error(28));
        let full = "could not be written (No space left on device (os error 28))";
        let expected = format!("2 log lines were dropped since the start: they {full}");
        assert_eq!(buffer.dropped().to_string(), expected);
        buffer.push(&[b' '; LIMIT]);
        buffer.push(b"c\n");
        let expected = format!(
            "3 log lines were dropped since the start: 1 were not read in time, and 2 {full}"
        );
        assert_eq!(buffer.dropped().to_string(), expected);
    }
}
