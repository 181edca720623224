//! `elock top`.

use std::process::ExitCode;

use clap::Args;

use crate::server::ServerArgs;

/// Its flags.
#[derive(Debug, Args)]
pub struct TopArgs {}

/// Runs it.
pub fn run(_args: TopArgs, _server: &ServerArgs) -> ExitCode {
    ExitCode::SUCCESS
}
