//! `elock locks`: the locks that are held, page by page.

use std::process::ExitCode;

use clap::Args;
use elock_client::listing::LockEntry;
use elock_client::{Address, Connection, Servers};

use super::ask;
use super::failure::Failure;
use super::key;
use super::output::Output;
use super::parties::{holders, mode, time};
use super::repeat::{RepeatArgs, Shown};
use super::table::Table;

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = key::NOTATION)]
pub struct LocksArgs {
    /// Only keys that begin so
    #[arg(default_value = "")]
    prefix: key::Word,
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
pub async fn run(args: LocksArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let mut listing = Locks {
        prefix: args.prefix.0,
        limit: args.limit.unwrap_or(u64::MAX),
        is_json: args.json,
    };
    args.repeat.run(servers, &mut listing).await?;
    Ok(ExitCode::SUCCESS)
}

struct Locks {
    prefix: Vec<u8>,
    limit: u64,
    is_json: bool,
}

impl Shown for Locks {
    async fn show(
        &mut self,
        connection: &mut Connection,
        _: &Address,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let mut table = table();
        let (mut after, mut left) = (None, self.limit);
        loop {
            let page = ask::locks(connection, &self.prefix, after).await?;
            let mut entries = page.entries.into_iter();
            while left > 0
                && let Some(listed) = entries.next()
            {
                left -= 1;
                match self.is_json {
                    true => output.line(&listed.json)?,
                    false => put(&mut table, &listed.entry),
                }
            }
            if !self.is_json && !table.is_empty(output) {
                table.write(output)?;
            }
            if left == 0 && (entries.len() > 0 || page.next.is_some()) {
                return output.note(&format!("there are more than {} locks", self.limit));
            }
            if page.next.is_none() {
                return match !self.is_json && left == self.limit {
                    true => self.say_none(output),
                    false => Ok(()),
                };
            }
            output.flush_stream()?;
            after = page.next;
        }
    }

    fn is_json(&self) -> bool {
        self.is_json
    }
}

impl Locks {
    /// On standard error, as it is no lock.
    fn say_none(&self, output: &mut Output) -> Result<(), Failure> {
        match self.prefix.as_slice() {
            [] => output.note("no lock is held"),
            prefix => output.note(&format!(
                "no lock is held whose key begins with {}",
                key::shown(prefix)
            )),
        }
    }
}

fn table() -> Table {
    Table::new(&[
        "KEY", "MODE", "HOLDER", ">HELD", ">LEASE", ">WAITING", ">LONGEST",
    ])
}

fn put(table: &mut Table, lock: &LockEntry) {
    let first = lock.holders.first();
    let lease = lock
        .holders
        .iter()
        .filter_map(|holder| holder.lease_left_ms)
        .min();
    // The first in line is the one that came first.
    let longest = lock.waiting.first().map(|waiting| waiting.waited_ms);
    table.row([
        key::shown(&lock.key_bytes()),
        mode(lock),
        holders(lock),
        time(first.and_then(|holder| holder.held_ms)),
        time(lease),
        lock.waiting_in_all.to_string(),
        time(longest),
    ]);
}
