//! The stage between the wrapper and the command: it arranges that the system ends the command
//! together with the wrapper, and becomes the command.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use super::exit;
use super::order::Order;
use super::terminal::Terminal;

/// The command is not there.
pub const NOT_FOUND: u8 = 127;
/// The command is there, and cannot be run.
pub const NOT_RUN: u8 = 126;

/// What happens before the command begins.
#[derive(Debug, Clone, Copy, Args)]
pub struct Entry {
    /// Takes the terminal for the command
    #[arg(long)]
    pub foreground: bool,
    /// The wrapper's file that leads to the guardian
    #[arg(long)]
    pub guardian: RawFd,
    /// When the guardian asks the command to end, unless it is told otherwise
    #[arg(long)]
    pub term_at_ns: u64,
    /// When it ends it
    #[arg(long)]
    pub kill_at_ns: u64,
}

/// What the wrapper tells its stage.
#[derive(Debug, Args)]
pub struct StageArgs {
    /// The wrapper's process
    #[arg(long)]
    parent: i32,
    #[command(flatten)]
    entry: Entry,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl StageArgs {
    /// The same as words.
    pub fn words(parent: Pid, entry: Entry, command: &[OsString]) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["__stage".into()];
        words.push(format!("--parent={}", parent.as_raw_nonzero()).into());
        words.push(format!("--guardian={}", entry.guardian).into());
        words.push(format!("--term-at-ns={}", entry.term_at_ns).into());
        words.push(format!("--kill-at-ns={}", entry.kill_at_ns).into());
        words.extend(entry.foreground.then(|| "--foreground".into()));
        words.push("--".into());
        words.extend_from_slice(command);
        words
    }
}

/// This program again, also where its file was replaced meanwhile.
pub fn own_program() -> Command {
    let mut program = Command::new("/proc/self/exe");
    program.arg0("elock");
    program
}

/// Gives the guardian this process, which becomes the command: the wrapper may be killed before it does,
/// and the system would end this process alone, and none that the command has started by then.
fn be_guarded(args: &StageArgs) -> io::Result<()> {
    let order = Order {
        group: getpid(),
        term_at_ns: args.entry.term_at_ns,
        kill_at_ns: args.entry.kill_at_ns,
    };
    // A pipe that nobody reads any more is an error, and not waited for.
    let mut guardian = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(format!("/proc/{}/fd/{}", args.parent, args.entry.guardian))?;
    guardian.write_all(format!("{order}\n").as_bytes())
}

/// Becomes the command. Comes back only if that failed.
pub fn run(args: StageArgs) -> ExitCode {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        exit::say(&format!("the command could not be tied to elock: {error}"));
        return ExitCode::from(NOT_RUN);
    }
    // A wrapper that had ended before the line above would never end the command.
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(args.parent) {
        return ExitCode::from(NOT_RUN);
    }
    if let Err(error) = be_guarded(&args) {
        exit::say(&format!("the command could not be guarded: {error}"));
        return ExitCode::from(NOT_RUN);
    }
    if args.entry.foreground
        && let Some(terminal) = Terminal::open()
    {
        terminal.take_for_stage();
    }
    let (program, words) = match args.command.split_first() {
        Some((program, words)) => (program, words),
        None => return ExitCode::from(exit::USAGE),
    };
    let error = Command::new(program).args(words).exec();
    exit::say(&format!("{}: {error}", program.display()));
    ExitCode::from(match error.kind() {
        ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_RUN,
    })
}
