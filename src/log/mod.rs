//! The log of the program, on standard error.
//!
//! If nothing reads standard error, the server must not stop. So its threads write to a buffer, and
//! a separate thread carries that to standard error.

mod buffer;
mod fields;
mod filter;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::process;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use tracing::error;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

pub use filter::{BadFilter, LogFilter};

use buffer::Buffer;
use fields::Fields;

/// How long the end of the process waits for its last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The stack of the thread that carries the log. It formats one kind of line and needs no more.
const STACK: usize = 256 * 1024;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The buffer of the log that was started, of which a process has one.
static STARTED: OnceLock<Arc<Buffer>> = OnceLock::new();

/// How many lines of the log were dropped since the start, by cause.
#[cfg(feature = "admin")]
pub(crate) fn dropped_lines() -> [(&'static str, u64); 2] {
    let dropped = STARTED.get().map(|buffer| buffer.dropped());
    let dropped = dropped.unwrap_or_default();
    [
        ("not_read", dropped.not_read),
        ("not_written", dropped.not_written),
    ]
}

/// The running log. Its drop waits up to a second for lines that are not written yet.
#[derive(Debug)]
pub struct Log {
    buffer: Arc<Buffer>,
    format: LogFormat,
}

impl Log {
    /// Sends this process's events that `filter` lets through, and its panics, to standard error.
    /// To be called once.
    ///
    /// # Errors
    ///
    /// When the system gives no descriptor or no thread.
    pub fn start(filter: &LogFilter, format: LogFormat) -> io::Result<Self> {
        let buffer = Arc::new(Buffer::default());
        let lines = fmt::layer()
            .with_writer(Arc::clone(&buffer))
            .with_ansi(io::stderr().is_terminal())
            .log_internal_errors(false);
        let log = registry().with(filter.targets().clone());
        match format {
            LogFormat::Text => log.with(lines.fmt_fields(Fields)).init(),
            LogFormat::Json => log.with(lines.json()).init(),
        }
        // A separate descriptor: `io::stderr` has a mutex, which a write that blocks would keep
        // locked.
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let carried = Arc::clone(&buffer);
        thread::Builder::new()
            .name("elockd-log".to_owned())
            .stack_size(STACK)
            .spawn(move || carried.carry_to(stderr))?;
        STARTED.get_or_init(|| Arc::clone(&buffer));
        let log = Self { buffer, format };
        let flush = log.flusher();
        std::panic::set_hook(Box::new(move |panic| log_panic(panic, &flush)));
        Ok(log)
    }

    /// Says why the process ends, whatever the filter: to people in a line by itself, as before there was a
    /// log, and to programs in an event like all others.
    pub fn say_last(&self, why: &impl Display) {
        match self.format {
            // A write to the buffer never fails: a line without room is counted as dropped.
            LogFormat::Text => {
                drop((&*self.buffer).write_all(format!("elockd: {why}\n").as_bytes()))
            }
            LogFormat::Json => error!("{why}"),
        }
    }

    /// A function that waits as the drop does, for a thread that ends the process by itself.
    pub fn flusher(&self) -> impl Fn() + Send + Sync + use<> {
        let buffer = Arc::clone(&self.buffer);
        move || buffer.wait_until_written(LAST_LINES)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.buffer.wait_until_written(LAST_LINES);
    }
}

/// Logs a panic. Replaces the usual hook, which writes to standard error and waits for its reader.
fn log_panic(panic: &PanicHookInfo<'_>, flush: impl Fn()) {
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => error!("{panic}\n{backtrace}"),
        _ => error!("{panic}"),
    }
    // After a panic of the main thread the process is over. It is ended here, since unwinding could
    // wait for ever for the threads of a runtime that is half built.
    if thread::current().name() == Some("main") {
        flush();
        process::exit(1);
    }
}
