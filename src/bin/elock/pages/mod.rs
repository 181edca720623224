//! `elock __pages`: manual pages and completions, for whoever packages or installs the two programs.

mod manual;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use elock::config::Config;

use crate::exit;

/// A file cannot be written, as sysexits has it.
const CANNOT_CREATE: u8 = 73;

/// Where they go.
#[derive(Debug, Args)]
pub struct PagesArgs {
    /// What stands for /usr or /usr/local: the files go into `share` below it
    #[arg(value_name = "DIR")]
    prefix: PathBuf,
}

/// Why they are not all there.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path:?}: {source}")]
struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Writes those of `elock` and of elockd.
pub fn run(args: &PagesArgs, elock: Command) -> ExitCode {
    match write_all(&args.prefix.join("share"), elock) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            exit::say(&error.to_string());
            ExitCode::from(CANNOT_CREATE)
        }
    }
}

fn write_all(share: &Path, elock: Command) -> Result<(), WriteError> {
    let elockd = Config::command();
    for command in [without_hidden(&elock), elockd.clone()] {
        write_completions(share, command)?;
    }
    for (name, page) in manual::of_elock(elock) {
        write(&share.join("man/man1").join(name), page.as_bytes())?;
    }
    let (name, page) = manual::of_elockd(elockd);
    write(&share.join("man/man8").join(name), page.as_bytes())
}

/// The directories are those in which these shells look, below each prefix.
fn write_completions(share: &Path, mut command: Command) -> Result<(), WriteError> {
    let name = command.get_name().to_owned();
    for (shell, file) in [
        (Shell::Bash, format!("bash-completion/completions/{name}")),
        (Shell::Zsh, format!("zsh/site-functions/_{name}")),
        (
            Shell::Fish,
            format!("fish/vendor_completions.d/{name}.fish"),
        ),
    ] {
        // Not straight into the file, as the generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, &name, &mut script);
        write(&share.join(file), &script)?;
    }
    Ok(())
}

/// `elock` as its users see it: completions would offer what help hides, and clap can take no
/// subcommand away.
fn without_hidden(command: &Command) -> Command {
    let visible = command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set());
    Command::new("elock")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(command.get_arguments())
        .subcommands(visible)
}

fn write(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(path, content))
        .map_err(|source| WriteError {
            path: path.to_owned(),
            source,
        })
}
