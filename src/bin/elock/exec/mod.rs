//! `elock lock`: a command that runs while a lock is held.

mod args;
mod boottime;
mod briefing;
mod contention;
mod guardian;
mod held;
mod job;
mod order;
mod refusal;
mod signals;
mod stage;
mod terminal;
mod watch;
mod wrapper;

use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use clap::Subcommand;

use crate::exit;
use crate::server::ServerArgs;

pub use args::LockArgs;

/// Processes of `elock lock`, which it starts itself.
#[derive(Debug, Subcommand)]
pub enum HiddenCommand {
    /// Ties the command to elock, and becomes it
    #[command(name = "__stage", hide = true)]
    Stage(stage::StageArgs),
    /// Ends the command when elock does not
    #[command(name = "__guard", hide = true)]
    Guard,
}

/// Runs the command.
pub fn run(args: LockArgs, server: &ServerArgs) -> ExitCode {
    let mode = args.mode().unwrap_or_else(|error| error.exit());
    args.check_kill_after().unwrap_or_else(|error| error.exit());
    // The system ends the command when the thread that started it ends: so that has to be this one,
    // and there is no other.
    let runtime = has_room().and_then(|()| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    });
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            exit::say(&error.to_string());
            return ExitCode::from(exit::UNAVAILABLE);
        }
    };
    let code = runtime.block_on(wrapper::run(&args, mode, server));
    // A name that is still being looked up holds nobody back.
    runtime.shutdown_background();
    code
}

/// Whether there is room for the files that every run needs. The runtime takes it for granted, and
/// panics where it has none for those by which it hears of signals.
fn has_room() -> io::Result<()> {
    let pair = UnixStream::pair;
    let _held = [pair()?, pair()?, pair()?, pair()?];
    Ok(())
}

/// Runs one of the other processes.
pub fn run_hidden(command: HiddenCommand) -> ExitCode {
    match command {
        HiddenCommand::Stage(args) => stage::run(args),
        HiddenCommand::Guard => guardian::run(),
    }
}
