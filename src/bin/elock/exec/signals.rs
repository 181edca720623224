//! The signals that `elock lock` gets, and passes on.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use nix::sys::signal::SigSet;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// These end a process, unless it says otherwise.
const ENDING: [Signal; 7] = [
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
];

/// These do something else, and mean something only when there is a command.
const OTHERS: [Signal; 3] = [Signal::CONT, Signal::WINCH, Signal::TSTP];

/// Signals, as they come.
pub struct Signals {
    ignored: u64,
    caught: Vec<(Signal, tokio::signal::unix::Signal)>,
}

impl Signals {
    /// Catches those that would end this process.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn catch_ending() -> io::Result<Self> {
        let mut signals = Self {
            ignored: ignored(),
            caught: Vec::new(),
        };
        signals.catch(&ENDING)?;
        // Whoever started this program may have blocked them, also the one that tells of the command's
        // end. That one is not among those above.
        SigSet::all().thread_unblock()?;
        Ok(signals)
    }

    /// Catches the others, too.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn catch_others(&mut self) -> io::Result<()> {
        self.catch(&OTHERS)
    }

    /// What was ignored at the start stays ignored, by the command, too: so `nohup` means something.
    fn catch(&mut self, signals: &[Signal]) -> io::Result<()> {
        for &one in signals {
            let number = one.as_raw();
            if self.ignored & (1 << (number - 1)) == 0 {
                let stream = signal(SignalKind::from_raw(number))?;
                self.caught.push((one, stream));
            }
        }
        Ok(())
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (one, stream) in &mut self.caught {
                if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                    return Poll::Ready(*one);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// One bit for each signal that this process ignores since before it began.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    lines
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}
