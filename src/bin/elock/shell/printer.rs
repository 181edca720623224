//! Where answers are printed, also while a line is being typed.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::ExternalPrinter;

/// Prints whole lines; every connection has one.
#[derive(Clone)]
pub struct Printer(Arc<Shared>);

struct Shared {
    target: Mutex<Target>,
    is_closed: AtomicBool,
}

enum Target {
    Stdout,
    AbovePrompt(Box<dyn ExternalPrinter + Send>),
}

impl Printer {
    /// Prints to standard output.
    pub fn stdout() -> Self {
        Self::to(Target::Stdout)
    }

    /// Prints above the line that is being typed.
    pub fn above_prompt(prompt: impl ExternalPrinter + Send + 'static) -> Self {
        Self::to(Target::AbovePrompt(Box::new(prompt)))
    }

    fn to(target: Target) -> Self {
        Self(Arc::new(Shared {
            target: Mutex::new(target),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// Prints lines, whose text must be visible already and end in a line feed.
    pub fn print(&self, lines: String) {
        let mut target = self.0.target.lock().unwrap_or_else(PoisonError::into_inner);
        let is_printed = match &mut *target {
            Target::Stdout => {
                let mut stdout = io::stdout().lock();
                let written = stdout.write_all(lines.as_bytes());
                written.and_then(|()| stdout.flush()).is_ok()
            }
            Target::AbovePrompt(prompt) => prompt.print(lines).is_ok(),
        };
        if !is_printed {
            self.0.is_closed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether nobody reads any more what is printed.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Relaxed)
    }
}
