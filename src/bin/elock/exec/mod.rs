//! `elock lock`: a command that runs while a lock is held.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::server::ServerArgs;

/// Its flags.
#[derive(Debug, Args)]
pub struct LockArgs {}

/// Stages of `elock lock`, which it starts itself.
#[derive(Debug, Subcommand)]
pub enum HiddenCommand {
    /// Ends with its parent, and becomes the command
    #[command(name = "__stage", hide = true)]
    Stage,
}

/// Runs the command.
pub fn run(_args: LockArgs, _server: &ServerArgs) -> ExitCode {
    ExitCode::SUCCESS
}

/// Runs a stage.
pub fn run_hidden(_command: HiddenCommand) -> ExitCode {
    ExitCode::SUCCESS
}
