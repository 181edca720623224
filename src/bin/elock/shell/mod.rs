//! `elock shell` and `elock send`.

use std::process::ExitCode;

use clap::Args;

use crate::server::ServerArgs;

/// The prompt's flags.
#[derive(Debug, Args)]
pub struct ShellArgs {}

/// What is sent.
#[derive(Debug, Args)]
pub struct SendArgs {}

/// Runs the prompt.
pub fn run_shell(_args: ShellArgs, _server: &ServerArgs) -> ExitCode {
    ExitCode::SUCCESS
}

/// Sends.
pub fn run_send(_args: SendArgs, _server: &ServerArgs) -> ExitCode {
    ExitCode::SUCCESS
}
