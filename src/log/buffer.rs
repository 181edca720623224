//! A buffer for log lines whose reader may stand still.

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
    /// How many lines were dropped since the start.
    dropped: u64,
    /// Whether lines were taken out that may not be written yet.
    writing: bool,
}

impl Buffer {
    fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.lines.len() >= LIMIT {
            state.dropped += 1;
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
        let mut reported = 0;
        loop {
            let (lines, dropped) = self.take();
            match write_all(&mut sink, &lines) {
                // The total, so that nothing is forgotten if this line is dropped, too.
                Ok(()) if dropped > reported => {
                    error!(
                        "{dropped} log lines were dropped since the start: they were not read in time"
                    );
                    reported = dropped;
                }
                Ok(()) => {}
                Err(_) => self.drop_all(&lines),
            }
        }
    }

    /// Waits for lines and takes them all out, with the number of lines dropped before.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut state = self.state();
        state.writing = false;
        self.written.notify_all();
        let waited = self
            .filled
            .wait_while(state, |state| state.lines.is_empty());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.writing = true;
        (std::mem::take(&mut state.lines), state.dropped)
    }

    fn drop_all(&self, lines: &[u8]) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        self.state().dropped += count as u64;
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

/// Like [`Write::write_all`], and patient with a pipe that another process made non-blocking.
fn write_all(sink: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PIPE_PAUSE),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
