//! The terminal while the screen is up, and that it is left as it was, however that ends.

use std::io::{self, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{Command, execute};
use ratatui::{Frame, Terminal};
use rustix::process::{Signal, kill_current_process_group};

/// Whether the terminal is this program's. Whoever takes it back is the one to restore it, and nothing is
/// drawn from then on.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The screen; when it is dropped, the terminal is as before.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Output>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// It is none, or is gone.
    pub fn enter() -> io::Result<Self> {
        restore_on_panic();
        let terminal = Terminal::new(CrosstermBackend::new(Output::default()))?;
        let mut screen = Self { terminal };
        screen.take()?;
        Ok(screen)
    }

    fn take(&mut self) -> io::Result<()> {
        IS_TAKEN.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        execute!(self.terminal.backend_mut(), EnterAlternateScreen, Hide)?;
        // Clears, and unlike `clear` asks the terminal for nothing, which it need not answer.
        let size = self.terminal.size()?;
        self.terminal.resize(size.into())
    }

    /// Draws a frame.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    /// Stops this job as Ctrl-Z does, and takes the terminal again when it goes on.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn suspend(&mut self) -> io::Result<()> {
        restore();
        kill_current_process_group(Signal::TSTP)?;
        self.take()
    }

    /// Takes the terminal anew, after a stop in which others may have changed it.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn retake(&mut self) -> io::Result<()> {
        let _ = disable_raw_mode();
        self.take()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back, once.
fn restore() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        // The modes first, since writing may take for ever.
        let _ = disable_raw_mode();
        let mut leave = String::new();
        let _ = LeaveAlternateScreen.write_ansi(&mut leave);
        let _ = Show.write_ansi(&mut leave);
        let _ = write_all(leave.as_bytes());
    }
}

/// Gives the terminal back though it takes nothing, as far as that goes.
pub fn abandon() {
    let restoring = std::thread::spawn(restore);
    for _ in 0..50 {
        if restoring.is_finished() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// So that the message can be read, and typing is seen again.
fn restore_on_panic() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            usual(panic);
        }));
    });
}

/// Writes whole frames, and only as long as the terminal is taken: nothing that is left over when a frame
/// fails gets into what the user sees afterwards.
#[derive(Debug, Default)]
struct Output {
    frame: Vec<u8>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let frame = std::mem::take(&mut self.frame);
        match IS_TAKEN.load(Ordering::SeqCst) {
            true => write_all(&frame),
            false => Ok(()),
        }
    }
}

/// Past the lock and the buffer of standard output, which a thread that hangs may have.
fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What the next test runs in a terminal.
    #[test]
    #[ignore = "it panics, in a terminal that another test makes"]
    fn panics_on_the_screen() {
        let _screen = Screen::enter().expect("a terminal");
        panic!("a planted panic");
    }

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        let this = std::env::current_exe().expect("a path");
        let shell = "stty -g; \"$0\" --exact top::terminal::tests::panics_on_the_screen \
                     --ignored --nocapture --test-threads=1; stty -g";
        let out = Command::new("script")
            .args(["-qefc", &shell.replace("$0", &this.to_string_lossy())])
            .arg("/dev/null")
            .output()
            .expect("script runs");
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        let at = |text: &str| {
            out.find(text)
                .unwrap_or_else(|| panic!("no {text:?}: {out}"))
        };
        let (enter, leave) = (at("\x1b[?1049h"), at("\x1b[?1049l"));
        assert!(enter < leave && leave < at("a planted panic"), "{out}");
        assert!(at("\x1b[?25h") < at("a planted panic"), "{out}");
        let lines: Vec<_> = out.lines().map(str::trim).collect();
        assert_eq!(lines.first(), lines.last(), "{out}");
    }
}
