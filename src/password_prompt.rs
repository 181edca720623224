//! Reads a password that is to be hashed, from a terminal without showing it, or from a pipe.

use std::io::{self, BufRead, BufReader, IsTerminal, StdinLock, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Reads the one line of standard input, without its end. A terminal is asked twice.
///
/// # Errors
///
/// If there is no line, or more than one, or if the two differ.
pub fn read_password() -> io::Result<Vec<u8>> {
    let mut input = io::stdin().lock();
    if !input.is_terminal() {
        let mut input = BufReader::new(input);
        let line = read_line(&mut input)?;
        // What came with it; whoever keeps the pipe open may send more when there is an answer.
        return match input.buffer().is_empty() {
            true => Ok(line),
            false => Err(io::Error::other("there is more than one line")),
        };
    }
    let first = ask(&mut input, "Password: ")?;
    match ask(&mut input, "The same again: ")? == first {
        true => Ok(first),
        false => Err(io::Error::other("the two passwords differ")),
    }
}

fn ask(input: &mut StdinLock<'_>, prompt: &str) -> io::Result<Vec<u8>> {
    let mut screen = io::stderr().lock();
    screen.write_all(prompt.as_bytes())?;
    let _hidden = Hidden::start()?;
    let line = read_line(input);
    screen.write_all(b"\n")?;
    line
}

fn read_line(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    for end in [b'\n', b'\r'] {
        line.pop_if(|last| *last == end);
    }
    Ok(line)
}

/// While it lives, the terminal does not show what is typed.
struct Hidden(Termios);

impl Hidden {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Whoever took the terminal away has it as it is.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
