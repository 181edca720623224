//! The command `elock`: runs a program under a lock, and shows and tries what a server does.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bench;
mod duration;
mod exec;
mod exit;
mod figures;
mod pages;
mod server;
mod shell;
mod show;
mod top;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use server::ServerFlags;

/// Takes locks of an elockd server for commands, and shows what it does.
#[derive(Debug, Parser)]
#[command(
    name = "elock",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    override_usage = "elock <COMMAND>",
    max_term_width = 100,
    help_template = "\
{about}
{usage-heading} {usage}

Commands:
{subcommands}

--server ADDRESS, or ELOCK_SERVER, names another server than 127.0.0.1:11400; --user, --ca and
--cert are for one that asks who comes, or speaks TLS.{after-help}",
    after_help = format!("\
Examples:
  elock lock report --wait 60s -- ./make-report   one at a time, on all machines
  elock lock mailer --slots 5 -- ./send-mails     at most five at a time
  elock who report                                who has it, and who waits

Exit codes: 0 done, 2 bad usage, 65 the server refused, {}; \
the help of a command has its own.", exit::ANY_COMMAND)
)]
struct Cli {
    #[command(flatten)]
    server: ServerFlags,
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
}

/// What is for other programs, and for elock itself: no help names it, and it needs no server.
#[derive(Debug, Parser)]
#[command(name = "elock")]
enum Inner {
    /// Write manual pages and completions
    #[command(name = "__pages")]
    Pages(pages::PagesArgs),
    #[command(flatten)]
    Exec(exec::HiddenCommand),
}

/// `elock help lock` is `elock lock --help`: the list of commands has no room for one more.
fn help_as_a_flag(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.collect();
    if args.get(1).is_some_and(|first| first == "help") {
        args.remove(1);
        args.push("--help".into());
    }
    args
}

fn main() -> ExitCode {
    let first = std::env::args_os().nth(1).unwrap_or_default();
    if first.as_encoded_bytes().starts_with(b"__") {
        return match Inner::parse() {
            Inner::Pages(args) => pages::run(&args, Cli::command()),
            Inner::Exec(command) => exec::run_hidden(command),
        };
    }
    let Cli { server, command } = Cli::parse_from(help_as_a_flag(std::env::args_os()));
    let bad = |bad: server::BadServer| Cli::command().error(ErrorKind::ValueValidation, bad).exit();
    let server = || server.read().unwrap_or_else(bad);
    match command {
        Command::Lock(args) => exec::run(args, &server()),
        Command::Show(command) => show::run(command, &server()),
        Command::Top(args) => top::run(args, &server()),
        Command::Bench(args) => bench::run(args, &server()),
        Command::Shell(args) => shell::run_shell(args, &server()),
        Command::Send(args) => shell::run_send(args, &server()),
    }
}
