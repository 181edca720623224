//! `elock drain`: has a server give no new locks, and waits until it has stopped.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use elock_client::command::{Drain, GetInfo};
use elock_client::listing::Info;
use elock_client::{Address, Connection, DEFAULT_DEADLINE, Error, Servers};
use tokio::time::sleep;

use super::ask::{connect, connect_to};
use super::failure::Failure;
use crate::duration;
use crate::exit;
use crate::figures::grouped;

/// How often it is asked what is left.
const BEAT: Duration = Duration::from_millis(200);

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = format!("\
New requests for a lock are refused from now on; whoever holds a lock, or waits for one, is
served. The server stops when nothing is held, or its --drain-ms are over.

Exit codes: 0 it has stopped (--no-wait: it drains), 65 it refused, {}.", exit::ANY_COMMAND))]
pub struct DrainArgs {
    /// Do not wait until it has stopped
    #[arg(long)]
    no_wait: bool,
}

/// Drains the first server that answers.
pub async fn run(args: DrainArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let (mut connection, address) = connect(servers).await?;
    let meant = connection.call(&GetInfo {}).await?;
    connection.call(&Drain {}).await?;
    if args.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let mut said = String::new();
    loop {
        match connection.call(&GetInfo {}).await {
            Ok(info) => say_what_is_left(&info, &mut said),
            Err(Error::Connection(_)) => match the_same(servers, &address, &meant).await {
                Some(again) => connection = again,
                None => break,
            },
            Err(error) => return Err(error.into()),
        }
        sleep(BEAT).await;
    }
    exit::say("the server has stopped");
    Ok(ExitCode::SUCCESS)
}

/// `said` is what was said last, which is not said again.
fn say_what_is_left(info: &Info, said: &mut String) {
    let number = |name| grouped(info.number(name));
    let (locks, waiters) = (number("locks"), number("waiters"));
    let left = format!("draining: {locks} locks held, {waiters} requests wait");
    if *said != left {
        let within = duration::show(info.number("draining"));
        exit::say(&format!("{left}; it stops within {within}"));
        *said = left;
    }
}

/// A connection to that very run of the server, if it still answers.
async fn the_same(servers: &Servers, address: &Address, meant: &Info) -> Option<Connection> {
    let mut connection = connect_to(servers, address, DEFAULT_DEADLINE).await.ok()?;
    let found = connection.call(&GetInfo {}).await.ok()?;
    (found.get("instance") == meant.get("instance")).then_some(connection)
}
