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
    Screen {
        frame: Vec<String>,
        rows: usize,
        /// How many came behind those for which there is room.
        hidden: usize,
    },
}

/// So much is written at once.
const WRITE_SIZE: usize = 32 << 10;
/// So many lines are counted that do not fit on a screen; it would take long to ask for a million.
const MOST_HIDDEN: usize = 2_000;

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
                    hidden: 0,
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
                hidden: 0,
            },
        }
    }

    /// The same on a terminal of so many columns.
    #[cfg(test)]
    pub fn kept_in(columns: usize) -> Self {
        Self {
            columns: Some(columns),
            ..Self::kept()
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
            Lines::Screen {
                frame,
                rows,
                hidden,
            } if frame.len() >= *rows => {
                *hidden += 1;
                match *hidden < MOST_HIDDEN {
                    true => Ok(()),
                    false => Err(Failure::ScreenFull),
                }
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
            Lines::Screen { frame, hidden, .. } => {
                drawn(&whole(std::mem::take(frame), std::mem::take(hidden)))
            }
        };
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&bytes).and_then(|()| stdout.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::System(error),
        })
    }
}

/// The frame, whose last line says how many are hidden.
fn whole(mut frame: Vec<String>, hidden: usize) -> Vec<String> {
    if let (Some(last), 1..) = (frame.last_mut(), hidden) {
        // That line takes the place of one.
        let hidden_in_all = hidden + 1;
        *last = match hidden < MOST_HIDDEN {
            true => format!("... {hidden_in_all} more lines"),
            false => format!("... more than {MOST_HIDDEN} more lines"),
        };
    }
    frame
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_says_how_much_it_hides() {
        let shown = |count: usize| {
            let (frame, hidden) = (Vec::new(), 0);
            let mut output = Output {
                columns: Some(80),
                lines: Lines::Screen {
                    frame,
                    rows: 3,
                    hidden,
                },
            };
            let all = (0..count).try_for_each(|number| output.line(&number.to_string()));
            let Lines::Screen { frame, hidden, .. } = output.lines else {
                panic!("a screen");
            };
            (whole(frame, hidden), all.is_ok())
        };
        let lines = |last: &str| vec!["0".to_owned(), "1".to_owned(), last.to_owned()];
        assert_eq!(shown(3), (lines("2"), true));
        assert_eq!(shown(4), (lines("... 2 more lines"), true));
        assert_eq!(
            shown(100_000),
            (lines("... more than 2000 more lines"), false)
        );
    }
}
