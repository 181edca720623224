//! `elock shell` and `elock send`: requests as one types them.

mod assistant;
mod history;
mod input;
mod lines;
mod link;
mod links;
mod printer;
mod prompt;
mod request;
mod script;
mod send;
mod terminal;
mod transcript;
mod usage;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Args;
use elock_client::Servers;

use crate::server::ServerArgs;
use crate::show::ask;
use crate::show::failure::Failure;
pub use send::SendArgs;

/// The prompt's flags.
#[derive(Debug, Args)]
#[command(after_help = "\
A plain line goes to connection a; `:b lock k 5` goes to connection b, which is opened when it is first \
used; `:close b` ends it. So waiting and deadlocks can be tried in one terminal:

  lock x
  :b lock y
  lock y 60
  :b lock x 60        is answered: b: 423 Deadlock: …

From what is no terminal, lines are run one by one, each when the one before it is answered or waits; at \
the end, all answers are waited for.

Lines are kept in elock/history below $XDG_STATE_HOME or ~/.local/state, but for those with a password or a \
session's secret id.

Exit codes: 0; 69 if there is no server, or (from a script) a connection broke; 77 if the server does not \
let in who comes.")]
pub struct ShellArgs {}

/// Runs the prompt.
pub fn run_shell(_args: ShellArgs, server: &ServerArgs) -> ExitCode {
    run(&server.server).unwrap_or_else(|failure| failure.end())
}

/// Sends.
pub fn run_send(args: SendArgs, server: &ServerArgs) -> ExitCode {
    ask::block_on(send::run(args, &server.server))
}

fn run(servers: &Servers) -> Result<ExitCode, Failure> {
    // One that speaks while the prompt waits for a line, and blocks when it prints.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ended = runtime
        .block_on(ask::connect(servers))
        .and_then(|(connection, address)| {
            match io::stdin().is_terminal() && io::stdout().is_terminal() {
                true => prompt::run(servers, (connection, address), runtime.handle()),
                false => script::run(servers, connection, runtime.handle()),
            }
        });
    runtime.shutdown_background();
    ended
}
