//! Standard output: a terminal, a pipe that may be closed, or a screen that is drawn again and again.

use std::io::{self, IsTerminal, Write};

use super::failure::Failure;
use crate::exit;

/// Where lines go.
pub struct Output {
    /// How many columns the terminal has, if it is one.
    columns: Option<usize>,
    lines: Lines,
}

enum Lines {
    /// Written as they come; what is written is kept until then.
    Stream(Vec<u8>),
    /// Kept until the screen is drawn.
    Screen { frame: Vec<String>, rows: usize },
}

/// So much is written at once.
const WRITE_SIZE: usize = 32 << 10;

impl Output {
    /// Lines in the order in which they come.
    pub fn stream() -> Self {
        Self {
            columns: terminal_size().map(|(columns, _)| columns),
            lines: Lines::Stream(Vec::new()),
        }
    }

    /// A frame of a screen that is drawn again and again; on what is no terminal, lines.
    pub fn frame() -> Self {
        match terminal_size() {
            None => Self::stream(),
            Some((columns, rows)) => Self {
                columns: Some(columns),
                lines: Lines::Screen {
                    frame: Vec::new(),
                    rows: rows.saturating_sub(1).max(1),
                },
            },
        }
    }

    /// What a test looks at afterwards.
    #[cfg(test)]
    pub fn kept() -> Self {
        Self {
            columns: None,
            lines: Lines::Screen {
                frame: Vec::new(),
                rows: usize::MAX,
            },
        }
    }

    /// The lines of [`Output::kept`].
    #[cfg(test)]
    pub fn lines(&self) -> &[String] {
        match &self.lines {
            Lines::Screen { frame, .. } => frame,
            Lines::Stream(_) => &[],
        }
    }

    /// How many columns there are; none if it is no terminal.
    pub fn columns(&self) -> Option<usize> {
        self.columns
    }

    /// A line, whose text must be visible already.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        match &mut self.lines {
            Lines::Screen { frame, rows } if frame.len() >= *rows => {
                let last = frame.last_mut();
                last.into_iter().for_each(|last| *last = "...".to_owned());
                Err(Failure::ScreenFull)
            }
            Lines::Screen { frame, .. } => {
                frame.push(text.to_owned());
                Ok(())
            }
            Lines::Stream(pending) => {
                pending.extend_from_slice(text.as_bytes());
                pending.push(b'\n');
                match pending.len() < WRITE_SIZE {
                    true => Ok(()),
                    false => self.flush(),
                }
            }
        }
    }

    /// Something that is none of what was asked for: on standard error, where that does not disturb a
    /// screen.
    pub fn note(&mut self, text: &str) -> Result<(), Failure> {
        match self.lines {
            Lines::Screen { .. } => self.line(text),
            Lines::Stream(_) => {
                self.flush()?;
                exit::say(text);
                Ok(())
            }
        }
    }

    /// Lets be seen what has come, unless it is a frame that is not finished.
    pub fn flush_stream(&mut self) -> Result<(), Failure> {
        match self.lines {
            Lines::Stream(_) => self.flush(),
            Lines::Screen { .. } => Ok(()),
        }
    }

    /// Lets all of it be seen.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let bytes = match &mut self.lines {
            Lines::Stream(pending) => std::mem::take(pending),
            Lines::Screen { frame, .. } => drawn(&std::mem::take(frame)),
        };
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&bytes).and_then(|()| stdout.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::System(error),
        })
    }
}

/// Each line over the old one, and nothing below: so the screen does not flicker.
fn drawn(frame: &[String]) -> Vec<u8> {
    let lines = frame.iter().map(|line| format!("{line}\x1b[K\r\n"));
    format!("\x1b[H{}\x1b[J", lines.collect::<String>()).into_bytes()
}

/// Columns and rows of the terminal that standard output is.
fn terminal_size() -> Option<(usize, usize)> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    // Some terminals do not know their size.
    let known = rustix::termios::tcgetwinsize(&stdout)
        .ok()
        .filter(|size| size.ws_col > 0 && size.ws_row > 0);
    Some(known.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into())))
}
