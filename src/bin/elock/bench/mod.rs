//! `elock bench`.

use std::process::ExitCode;

use clap::Args;

use crate::server::ServerArgs;

/// Its flags.
#[derive(Debug, Args)]
pub struct BenchArgs {}

/// Runs it.
pub fn run(_args: BenchArgs, _server: &ServerArgs) -> ExitCode {
    ExitCode::SUCCESS
}
