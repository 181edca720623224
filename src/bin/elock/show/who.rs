//! `elock who`: who holds a key, and who waits for it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use clap::Args;
use elock_client::command::{Command, Token};
use elock_client::listing::{HolderEntry, LockEntry, SessionEntry, WaitingEntry};
use elock_client::{Connection, Error, Servers};
use serde_json::{Value, json};

use super::ask::{self, Listed, connect_to_search};
use super::clock::utc;
use super::failure::Failure;
use super::output::Output;
use super::parties::{asked_mode, holder, mode, time, waiter};
use super::table::Table;
use super::visible::visible;
use crate::duration;

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 it is held, 1 it is free, 69 no server.
Of many holders or waiters the first ten are shown.")]
pub struct WhoArgs {
    /// The lock's key
    key: OsString,
    /// One JSON object: the server's, and each one's peer
    #[arg(long)]
    json: bool,
}

/// The exit code that says that the key is free.
const FREE: u8 = 1;

/// Shows it.
pub async fn run(args: WhoArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let key = args.key.into_vec();
    // What can be no key is free for ever, and surely not what was meant.
    let could_ask = Token {
        key: key.clone(),
        owner: None,
    };
    could_ask.line().map_err(Error::from)?;
    let (mut connection, _) = connect_to_search(servers).await?;
    let lock = ask::lock(&mut connection, &key).await?;
    let mut output = Output::stream();
    let code = match lock {
        None if args.json => {
            let free =
                json!({"holders": [], "holders_in_all": 0, "waiting": [], "waiting_in_all": 0});
            output.line(&free.to_string())?;
            ExitCode::from(FREE)
        }
        None => {
            output.line("free")?;
            ExitCode::from(FREE)
        }
        Some(lock) => {
            let peers = peers(&mut connection, &lock.entry).await?;
            match args.json {
                true => output.line(&with_peers(&lock, &peers).to_string())?,
                false => show(&lock.entry, &peers, &mut output)?,
            }
            ExitCode::SUCCESS
        }
    };
    // Whether somebody reads it to its end does not change who has the lock.
    match output.flush() {
        Ok(()) | Err(Failure::OutputClosed) => Ok(code),
        Err(failure) => Err(failure),
    }
}

type Peers = BTreeMap<u64, SessionEntry>;

/// The sessions that hold it or wait for it, as far as they are shown and still there.
async fn peers(connection: &mut Connection, lock: &LockEntry) -> Result<Peers, Error> {
    let holders = lock.holders.iter().filter_map(|holder| holder.session);
    let waiting = lock.waiting.iter().map(|waiting| waiting.session);
    let mut wanted: Vec<u64> = holders.chain(waiting).collect();
    wanted.sort_unstable();
    let mut found = Peers::new();
    let mut read_to = 0;
    for number in wanted {
        // A page begins behind a number, and mostly has the others, too.
        if number <= read_to {
            continue;
        }
        let after = number.saturating_sub(1).to_string().into_bytes();
        let page = ask::sessions::<SessionEntry>(connection, Some(after)).await?;
        let numbered = page
            .entries
            .into_iter()
            .map(|listed| (listed.entry.session, listed.entry));
        read_to = number;
        for (number, session) in numbered {
            read_to = number;
            found.insert(number, session);
        }
    }
    Ok(found)
}

fn peer(peers: &Peers, session: Option<u64>) -> String {
    let session = session.and_then(|number| peers.get(&number));
    match session {
        None => "-".to_owned(),
        Some(session) => match session.grace_left_ms {
            Some(left) if !session.connected => {
                format!("{}, gone, {} left", session.peer, duration::show(left))
            }
            _ => session.peer.clone(),
        },
    }
}

fn with_peers(lock: &Listed<LockEntry>, peers: &Peers) -> Value {
    let mut object: Value = serde_json::from_str(&lock.json).unwrap_or_default();
    for list in ["holders", "waiting"] {
        let parties = object.get_mut(list).and_then(Value::as_array_mut);
        for party in parties.into_iter().flatten() {
            let number = party.get("session").and_then(Value::as_u64);
            let session = number.and_then(|number| peers.get(&number));
            if let (Some(session), Some(members)) = (session, party.as_object_mut()) {
                members.insert("peer".to_owned(), json!(session.peer));
                members.insert("connected".to_owned(), json!(session.connected));
            }
        }
    }
    object
}

fn show(lock: &LockEntry, peers: &Peers, output: &mut Output) -> Result<(), Failure> {
    let rest = |all: u64, shown: usize| all.saturating_sub(shown as u64);
    output.line(&visible(&format!("held: {}", mode(lock))))?;
    let mut holders = Table::new(&["HOLDER", "PEER", "SINCE", ">HELD", ">LEASE LEFT", ">TOKEN"]);
    for holder in &lock.holders {
        put_holder(&mut holders, holder, peers);
    }
    holders.write(output)?;
    match rest(lock.holders_in_all, lock.holders.len()) {
        0 => {}
        more => output.line(&format!("and {more} more"))?,
    }
    if lock.waiting.is_empty() {
        return output.line("nobody waits");
    }
    output.line("")?;
    let mut waiting = Table::new(&["WAITER", "PEER", "ASKS FOR", ">WAITED", ">LEFT"]);
    for one in &lock.waiting {
        put_waiter(&mut waiting, one, peers);
    }
    waiting.write(output)?;
    match rest(lock.waiting_in_all, lock.waiting.len()) {
        0 => Ok(()),
        more => output.line(&format!("and {more} more")),
    }
}

fn put_holder(table: &mut Table, entry: &HolderEntry, peers: &Peers) {
    table.row([
        holder(entry),
        peer(peers, entry.session),
        entry.since_ms.map_or_else(|| "-".to_owned(), utc),
        time(entry.held_ms),
        time(entry.lease_left_ms),
        entry.token.to_string(),
    ]);
}

fn put_waiter(table: &mut Table, entry: &WaitingEntry, peers: &Peers) {
    table.row([
        waiter(entry),
        peer(peers, Some(entry.session)),
        asked_mode(&entry.mode),
        duration::show(entry.waited_ms),
        duration::show(entry.left_ms),
    ]);
}
