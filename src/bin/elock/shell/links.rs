//! All connections of a shell, by their letters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use elock_client::Servers;
use tokio::runtime::Handle;

use super::input::Input;
use super::link::{Common, Link};
use super::printer::Printer;

/// The connections.
pub struct Links {
    common: Common,
    runtime: Handle,
    links: BTreeMap<char, Link>,
}

/// What became of a line.
pub enum Done {
    /// It is on its way, by this connection, as the request of this number.
    Sent(char, u64),
    /// It was for the shell itself.
    Here,
    /// It was the last one.
    Quit,
}

/// No line is wider than 80 columns, so that none is broken within a word.
const HELP: &str = "\
lock k 60         a request, by connection a; `help` lists all, Tab completes
:b lock k 60      the same by connection b (any letter), opened when first used
:close b          ends b; its locks are kept for its grace period (set_timeout)
:help             this
:quit             ends all, as Ctrl-D does
";

impl Links {
    /// None is opened yet.
    pub fn new(servers: &Servers, printer: Printer, wants_numbers: bool, runtime: &Handle) -> Self {
        let common = Common {
            servers: servers.clone(),
            printer,
            wants_numbers,
            open: Arc::new(AtomicUsize::new(0)),
            has_failed: Arc::new(AtomicBool::new(false)),
        };
        Self {
            common,
            runtime: runtime.clone(),
            links: BTreeMap::new(),
        }
    }

    /// Does what a line says.
    pub async fn take(&mut self, input: Input<'_>) -> Done {
        match input {
            Input::Nothing => {}
            Input::Quit => return Done::Quit,
            Input::Help => self.common.printer.print(HELP.to_owned()),
            Input::Unknown => self.say("not known: see :help"),
            Input::Close(letter) => match self.links.remove(&letter) {
                Some(link) => {
                    link.close().await;
                    self.say(&format!("{letter}: closed"));
                }
                None => self.say(&format!("{letter}: not open")),
            },
            Input::Request(letter, line) => {
                let new = || Link::new(letter, &self.common, &self.runtime);
                let link = self.links.entry(letter).or_insert_with(new);
                return Done::Sent(letter, link.send(line.to_owned()).await);
            }
        }
        Done::Here
    }

    /// The connection of this letter, if it was used.
    pub fn get(&mut self, letter: char) -> Option<&mut Link> {
        self.links.get_mut(&letter)
    }

    /// Says that a line has its turn only when the one before it is answered, if that is so.
    pub fn say_if_behind(&self, letter: char, number: u64) {
        if self
            .links
            .get(&letter)
            .is_some_and(|link| link.is_behind(number))
        {
            self.say(&format!("{letter} waits; this is run after it"));
        }
    }

    /// Waits for all answers.
    pub async fn all_answered(&mut self) {
        for link in self.links.values_mut() {
            link.all_answered().await;
        }
    }

    /// Whether nobody reads the answers any more.
    pub fn is_unread(&self) -> bool {
        self.common.printer.is_closed()
    }

    /// Whether a connection could not be opened, or broke.
    pub fn has_failed(&self) -> bool {
        self.common.has_failed.load(Ordering::Relaxed)
    }

    fn say(&self, text: &str) {
        self.common.printer.print(format!("({text})\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_fits_a_narrow_terminal() {
        assert!(HELP.lines().all(|line| line.len() <= 80));
    }
}
