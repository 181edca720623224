//! `elock sessions`: who is connected, or may come back.

use std::process::ExitCode;

use clap::Args;
use elock_client::listing::SessionEntry;
use elock_client::{Address, Connection, Servers};

use super::ask;
use super::failure::Failure;
use super::key;
use super::output::Output;
use super::parties::{session_name, time};
use super::repeat::{RepeatArgs, Shown};
use super::table::Table;
use crate::duration;

/// Its flags.
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// Only those that wait for a lock
    #[arg(long)]
    waiting: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// The server's JSON object for each, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repeat: RepeatArgs,
}

/// Shows them.
pub async fn run(args: SessionsArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let mut listing = Sessions {
        only_waiting: args.waiting,
        limit: args.limit.unwrap_or(u64::MAX),
        is_json: args.json,
    };
    args.repeat.run(servers, &mut listing).await?;
    Ok(ExitCode::SUCCESS)
}

struct Sessions {
    only_waiting: bool,
    limit: u64,
    is_json: bool,
}

impl Shown for Sessions {
    async fn show(
        &mut self,
        connection: &mut Connection,
        _: &Address,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let mut table = table();
        let (mut after, mut left) = (None, self.limit);
        loop {
            let page = ask::sessions::<SessionEntry>(connection, after).await?;
            let is_wanted =
                |session: &SessionEntry| !self.only_waiting || session.waits_for.is_some();
            let mut entries = page
                .entries
                .into_iter()
                .filter(|listed| is_wanted(&listed.entry));
            for listed in entries
                .by_ref()
                .take(usize::try_from(left).unwrap_or(usize::MAX))
            {
                left -= 1;
                match self.is_json {
                    true => output.line(&listed.json)?,
                    false => put(&mut table, &listed.entry),
                }
            }
            if !self.is_json {
                table.write(output)?;
            }
            if left == 0 && (entries.next().is_some() || page.next.is_some()) {
                return output.note(&format!("there are more than {} sessions", self.limit));
            }
            if page.next.is_none() {
                return Ok(());
            }
            output.flush_stream()?;
            after = page.next;
        }
    }

    fn is_json(&self) -> bool {
        self.is_json
    }
}

fn table() -> Table {
    Table::new(&[
        "SESSION",
        "PEER",
        "STATE",
        ">LOCKS",
        "WAITS FOR",
        ">WAITED",
        ">LEFT",
    ])
}

fn put(table: &mut Table, session: &SessionEntry) {
    table.row([
        session_name(session.session, session.name.as_deref()),
        session.peer.clone(),
        state(session),
        session.locks.to_string(),
        session
            .waits_for_bytes()
            .map_or_else(|| "-".to_owned(), |key| key::shown(&key)),
        time(session.waited_ms),
        time(session.left_ms),
    ]);
}

/// `idle 3.4s`, or `gone, 25.0s left` of its grace period.
fn state(session: &SessionEntry) -> String {
    match (session.connected, session.grace_left_ms, session.idle_ms) {
        (false, Some(left), _) => format!("gone, {} left", duration::show(left)),
        (false, None, _) => "gone".to_owned(),
        (true, _, Some(idle)) => format!("idle {}", duration::show(idle)),
        (true, _, None) => "connected".to_owned(),
    }
}
