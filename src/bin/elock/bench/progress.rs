//! How far it is, for a person at a terminal.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::duration;

use crate::figures::grouped;

/// A line on standard error, if that is a terminal.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    whole: Duration,
}

impl Progress {
    /// Shows nothing yet.
    pub fn new(whole: Duration) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(ms(whole)), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("[{bar:24}] {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, whole }
    }

    /// The clients connect.
    pub fn connects(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message("connecting");
        }
    }

    /// So many requests were done in this time.
    pub fn shows(&self, elapsed: Duration, done: impl FnOnce() -> u64) {
        let Some(bar) = &self.bar else { return };
        let a_second = done() as f64 / elapsed.as_secs_f64().max(0.001);
        let elapsed = elapsed.min(self.whole);
        bar.set_position(ms(elapsed));
        bar.set_message(format!(
            "{} of {}, {} requests a second",
            duration::show(ms(elapsed)),
            duration::show(ms(self.whole)),
            grouped(a_second as u64),
        ));
    }

    /// Takes the line away.
    pub fn ends(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
