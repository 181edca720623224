//! The stage between the wrapper and the command: it arranges that the system ends the command
//! together with the wrapper, and becomes the command.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::exit;
use super::terminal::Terminal;

/// The command is not there.
pub const NOT_FOUND: u8 = 127;
/// The command is there, and cannot be run.
pub const NOT_RUN: u8 = 126;

/// What the wrapper tells its stage.
#[derive(Debug, Args)]
pub struct StageArgs {
    /// The wrapper's process
    #[arg(long)]
    parent: i32,
    /// Takes the terminal for the command
    #[arg(long)]
    foreground: bool,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl StageArgs {
    /// The same as words.
    pub fn words(parent: Pid, foreground: bool, command: &[OsString]) -> Vec<OsString> {
        let parent = parent.as_raw_nonzero().to_string();
        let mut words: Vec<OsString> = vec!["__stage".into(), "--parent".into(), parent.into()];
        words.extend(foreground.then(|| "--foreground".into()));
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
    if args.foreground
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
