//! `elock watch`: each change of a key, as it comes.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use elock_client::command::{State, Watch};
use elock_client::{Connection, Error, Servers};
use serde_json::json;

use super::ask::{self, connect};
use super::clock::{now_ms, utc};
use super::failure::Failure;
use super::key;
use super::output::Output;
use super::visible::visible;
use crate::exit;

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = format!("\
The first line is what is so now; each further one is a change. Changes in quick succession may be \
shown as one. When the server is gone, it goes on when the server is back, and says both on standard \
error.\n\n{}", key::NOTATION))]
pub struct WatchArgs {
    /// The lock's key
    key: key::Word,
    /// End after so many changes
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// How long the server waits for a change before it says that there was none.
const POLL: Duration = Duration::from_secs(30);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Shows it.
pub async fn run(args: WatchArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let (mut connection, _) = connect(servers).await?;
    let mut watch = Watch {
        key: args.key.0,
        change: None,
    };
    let mut output = Output::stream();
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut known: Option<State> = None;
    loop {
        let state = match connection.call(&watch).await {
            Ok(state) => state,
            Err(error @ (Error::Connection(_) | Error::ShuttingDown | Error::NoLeader)) => {
                connection = connect_again(servers, &error).await;
                // What was so before may be so no more, and then that is said at once.
                watch.change = None;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if known.as_ref() != Some(&state) {
            let name = name(&mut connection, &watch.key, &state).await;
            output.line(&shown(&state, name, args.json))?;
            output.flush()?;
            left -= u64::from(known.is_some());
        }
        if left == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        watch.change = Some((state.clone(), POLL));
        known = Some(state);
    }
}

async fn connect_again(servers: &Servers, error: &Error) -> Connection {
    exit::say(&format!("{error}; trying again"));
    let mut pause = SHORTEST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        if let Ok((connection, address)) = connect(servers).await {
            exit::say(&format!("connected again, to {address}"));
            return connection;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What the session is called that holds it. Nobody, if it holds it no more; and if the connection
/// breaks, the next question finds that, too.
async fn name(connection: &mut Connection, key: &[u8], state: &State) -> Option<String> {
    let State::Held { token, .. } = state else {
        return None;
    };
    let lock = ask::lock(connection, key).await.ok()??;
    let mut holders = lock.entry.holders.into_iter();
    let own = holders.find(|entry| entry.token == *token);
    own.filter(|own| own.owner.is_none())?.name
}

fn shown(state: &State, name: Option<String>, is_json: bool) -> String {
    let now = now_ms();
    match (state, is_json) {
        (State::Free, true) => json!({"unix_ms": now, "state": "free"}).to_string(),
        (State::Held { token, holder }, true) => {
            let mut held =
                json!({"unix_ms": now, "state": "held", "token": token, "holder": holder});
            if let Some(name) = name {
                held["name"] = name.into();
            }
            held.to_string()
        }
        (State::Free, false) => format!("{}  free", utc(now)),
        (State::Held { token, holder }, false) => {
            let name = name.map_or_else(String::new, |name| format!(" {name}"));
            visible(&format!("{}  {token} held by {holder}{name}", utc(now)))
        }
    }
}
