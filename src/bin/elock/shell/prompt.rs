//! The shell at a terminal.

use std::process::ExitCode;
use std::time::Duration;

use elock_client::command::{GetInfo, Help};
use elock_client::{Address, Connection, Error, Servers};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::assistant::Assistant;
use super::links::{Done, Links};
use super::printer::Printer;
use super::usage::Usages;
use super::{history, input, request, terminal};
use crate::show::failure::Failure;
use crate::show::visible::visible;

const PROMPT: &str = "elock> ";

/// An answer that comes within this time is there before the prompt is shown again.
const PROMPTLY: Duration = Duration::from_millis(100);

/// So many lines are kept.
const MOST_LINES: usize = 1_000;

type Prompt = Editor<Assistant, FileHistory>;

/// Reads lines until there are no more. `first`: a connection that tells what there is.
pub fn run(
    servers: &Servers,
    (mut first, address): (Connection, Address),
    runtime: &Handle,
) -> Result<ExitCode, Failure> {
    let (usages, version) = runtime.block_on(known(&mut first))?;
    drop(first);
    let _restored = terminal::guard(runtime)?;
    let mut prompt = prompt(usages).map_err(system)?;
    let history = history::file();
    if let Some(path) = &history {
        // What cannot be read is not there.
        let _ = prompt.load_history(path);
    }
    let printer = match prompt.create_external_printer() {
        Ok(above) => Printer::above_prompt(above),
        Err(_) => Printer::stdout(),
    };
    printer.print(visible(&format!("elockd {version} at {address}; :help tells more")) + "\n");
    let mut links = Links::new(servers, printer, false, runtime);
    loop {
        let line = match prompt.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(system(error)),
        };
        if !request::has_secret(line.as_bytes()) && !line.trim().is_empty() {
            remember(&mut prompt, &line, history.as_deref());
        }
        match runtime.block_on(links.take(input::parse(line.as_bytes()))) {
            Done::Quit => return Ok(ExitCode::SUCCESS),
            Done::Here => {}
            Done::Sent(letter, number) => {
                if let Some(link) = links.get(letter)
                    && !runtime.block_on(is_answered_promptly(link.answered(number)))
                {
                    links.say_if_behind(letter, number);
                }
            }
        }
    }
}

async fn is_answered_promptly(answered: impl Future<Output = ()>) -> bool {
    timeout(PROMPTLY, answered).await.is_ok()
}

async fn known(connection: &mut Connection) -> Result<(Usages, String), Error> {
    let help = connection.call(&Help {}).await?;
    let info = connection.call(&GetInfo {}).await?;
    let version = info.get("version").unwrap_or("of an unknown version");
    Ok((Usages::read(&help), version.to_owned()))
}

fn prompt(usages: Usages) -> rustyline::Result<Prompt> {
    let config = Config::builder()
        .max_history_size(MOST_LINES)?
        .history_ignore_dups(true)?
        .completion_type(rustyline::CompletionType::List)
        .build();
    let mut prompt = Prompt::with_config(config)?;
    prompt.set_helper(Some(Assistant(usages)));
    Ok(prompt)
}

fn remember(prompt: &mut Prompt, line: &str, history: Option<&std::path::Path>) {
    // A history that cannot be written is no reason to end.
    let _ = prompt.add_history_entry(line);
    if let Some(path) = history {
        let _ = prompt.append_history(path);
    }
}

fn system(error: ReadlineError) -> Failure {
    Failure::System(std::io::Error::other(error))
}
