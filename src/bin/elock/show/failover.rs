//! `elock failover`: has another of several servers lead, and waits until it does.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use elock_client::command::{Failover, GetInfo};
use elock_client::listing::Info;
use elock_client::{Error, Servers};
use tokio::time::{sleep, timeout};

use super::ask::connect;
use super::failure::Failure;
use crate::exit;

/// For how long another is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is asked who leads.
const BEAT: Duration = Duration::from_millis(50);

/// It has none.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Locks and sessions stay; clients connect again, within their grace periods, and waits are asked for anew.

Exit codes: 0 another leads, 1 none has begun to within {} s, or the same one leads again, 65 it refused,
as a server does that is alone, {}.", PATIENCE.as_secs(), exit::ANY_COMMAND))]
pub struct FailoverArgs {}

/// Has the one give up that leads the first server that answers.
pub async fn run(_: FailoverArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let (mut connection, _) = connect(servers).await?;
    let before = connection.call(&GetInfo {}).await?;
    match connection.call(&Failover {}).await {
        // Its word may be lost with the connection; whether it gives up shows.
        Ok(()) | Err(Error::Connection(_)) => {}
        Err(error) => return Err(error.into()),
    }
    drop(connection);
    let Ok(now) = timeout(PATIENCE, next_leader(&before, servers)).await else {
        let secs = PATIENCE.as_secs();
        exit::say(&format!("no other server leads after {secs} s"));
        return Ok(ExitCode::from(exit::CONFLICT));
    };
    let leader = now.get("leader").unwrap_or("another server");
    let term = now.number("term");
    match now.get("leader") == before.get("leader") {
        true => {
            exit::say(&format!(
                "{leader} leads again (term {term}): no other server stood for election"
            ));
            Ok(ExitCode::from(exit::CONFLICT))
        }
        false => {
            exit::say(&format!("{leader} leads now (term {term})"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What the next leader tells. Whoever asks for that is held until there is one.
async fn next_leader(before: &Info, servers: &Servers) -> Info {
    loop {
        if let Ok(now) = ask(servers).await
            && now.number("term") > before.number("term")
        {
            return now;
        }
        sleep(BEAT).await;
    }
}

async fn ask(servers: &Servers) -> Result<Info, Failure> {
    let (mut connection, _) = connect(servers).await?;
    Ok(connection.call(&GetInfo {}).await?)
}
