//! The command `elock`: runs a program under a lock, and shows and tries what a server does.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bench;
mod duration;
mod exec;
mod exit;
mod pages;
mod server;
mod shell;
mod show;
mod top;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use server::ServerFlag;

/// Takes locks of an elockd server for commands, and shows what it does.
#[derive(Debug, Parser)]
#[command(
    name = "elock",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    max_term_width = 100,
    after_help = "\
Examples:
  elock lock nightly-report --wait 60s -- ./make-report   one at a time, on however many machines
  elock lock mailer --slots 5 --wait 1h -- ./send-mails   at most five at a time
  elock who nightly-report                                who has it, and who waits"
)]
struct Cli {
    #[command(flatten)]
    server: ServerFlag,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command while holding a lock
    Lock(exec::LockArgs),
    #[command(flatten)]
    Show(show::ShowCommand),
    /// Show it live: rates, contended keys, long waits
    Top(top::TopArgs),
    /// Measure a server of this machine
    Bench(bench::BenchArgs),
    /// Type requests at a prompt
    Shell(shell::ShellArgs),
    /// Send requests and print the answers
    Send(shell::SendArgs),
    /// Write manual pages and completions
    #[command(name = "__pages", hide = true)]
    Pages(pages::PagesArgs),
    #[command(flatten)]
    Hidden(exec::HiddenCommand),
}

fn main() -> ExitCode {
    let Cli { server, command } = Cli::parse();
    let bad = |bad| Cli::command().error(ErrorKind::ValueValidation, bad).exit();
    let server = || server.read().unwrap_or_else(bad);
    match command {
        Command::Lock(args) => exec::run(args, &server()),
        Command::Show(command) => show::run(command, &server()),
        Command::Top(args) => top::run(args, &server()),
        Command::Bench(args) => bench::run(args, &server()),
        Command::Shell(args) => shell::run_shell(args, &server()),
        Command::Send(args) => shell::run_send(args, &server()),
        Command::Pages(args) => pages::run(&args, Cli::command()),
        Command::Hidden(command) => exec::run_hidden(command),
    }
}
