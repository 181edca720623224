//! What a person asks a server: `status`, `locks`, `sessions`, `who`, `graph`, `watch`; and what an
//! operator tells it: `break`, `unlock`.

use std::process::ExitCode;

use clap::Subcommand;

use crate::server::ServerArgs;

/// Each of them.
#[derive(Debug, Subcommand)]
pub enum ShowCommand {
    /// The server in numbers, and its busiest keys
    Status,
}

/// Runs one.
pub fn run(_command: ShowCommand, _server: &ServerArgs) -> ExitCode {
    ExitCode::SUCCESS
}
