//! `elock who`: who holds a key, and who waits for it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use elock_client::command::{Command, Token};
use elock_client::listing::{HolderEntry, LockEntry, SessionEntry};
use elock_client::{Address, Connection, Error, Servers};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::ask::{self, Listed};
use super::clock::utc;
use super::failure::Failure;
use super::key;
use super::output::Output;
use super::parties::{asked_mode, holder, mode, time, waiter};
use super::repeat::{RepeatArgs, Shown};
use super::table::{Table, cut};
use super::visible::visible;
use crate::{duration, exit};

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = format!("\
{}

Exit codes: 0 it is held, 1 it is free, {}.
Of many holders or waiters the first ten are shown.", key::NOTATION, exit::ANY_COMMAND))]
pub struct WhoArgs {
    /// The lock's key
    key: key::Word,
    /// One JSON object: the server's, and each one's peer
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repeat: RepeatArgs,
}

/// The exit code that says that the key is free.
const FREE: u8 = 1;

/// Shows it.
pub async fn run(args: WhoArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let key = args.key.0;
    // What can be no key is free for ever, and surely not what was meant.
    let could_ask = Token {
        key: key.clone(),
        owner: None,
    };
    could_ask.line().map_err(Error::from)?;
    let mut who = Who {
        key,
        is_json: args.json,
        is_free: None,
    };
    let shown = args.repeat.run(servers, &mut who).await;
    let is_watched = args.repeat.is_watched();
    match (shown, who.is_free) {
        // Whether somebody reads it to its end does not change who has the lock.
        (Ok(()) | Err(Failure::OutputClosed), Some(true)) if !is_watched => {
            Ok(ExitCode::from(FREE))
        }
        (shown, _) => shown.map(|()| ExitCode::SUCCESS),
    }
}

struct Who {
    key: Vec<u8>,
    is_json: bool,
    /// Whether it was free when it was asked for last.
    is_free: Option<bool>,
}

impl Shown for Who {
    async fn show(
        &mut self,
        connection: &mut Connection,
        _: &Address,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let lock = ask::lock(connection, &self.key).await?;
        self.is_free = Some(lock.is_none());
        let Some(lock) = lock else {
            return match self.is_json {
                true => output.line(&free(&self.key).to_string()),
                false => output.line("free"),
            };
        };
        let peers = peers(connection, &lock.entry).await?;
        match self.is_json {
            true => output.line(&with_peers(&lock, &peers).to_string()),
            false => show(&lock.entry, &peers, output),
        }
    }

    fn is_json(&self) -> bool {
        self.is_json
    }
}

/// What the server would say of it, if it told of such locks.
fn free(key: &[u8]) -> Value {
    json!({
        "key": key::shown(key),
        "holders": [],
        "holders_in_all": 0,
        "waiting": [],
        "waiting_in_all": 0,
    })
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
    let held = visible(&format!("held: {}", mode(lock)));
    output.line(&fitting(&held, output))?;
    show_holders(lock, peers, output)?;
    match rest(lock.holders_in_all, lock.holders.len()) {
        0 => {}
        more => output.line(&format!("and {more} more"))?,
    }
    if lock.waiting.is_empty() {
        return output.line("nobody waits");
    }
    output.line("")?;
    show_waiting(lock, peers, output)?;
    match rest(lock.waiting_in_all, lock.waiting.len()) {
        0 => Ok(()),
        more => output.line(&format!("and {more} more wait")),
    }
}

fn show_holders(lock: &LockEntry, peers: &Peers, output: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&["HOLDER", "PEER", "SINCE", ">HELD", ">LEASE LEFT", ">TOKEN"]);
    for entry in &lock.holders {
        table.row([
            holder(entry),
            peer(peers, entry.session),
            entry.since_ms.map_or_else(|| "-".to_owned(), utc),
            time(entry.held_ms),
            time(entry.lease_left_ms),
            entry.token.to_string(),
        ]);
    }
    if table.fits(output) {
        return table.write(output);
    }
    let blocks = lock.holders.iter();
    blocks
        .map(|entry| (holder(entry), about_holder(entry, peers)))
        .try_for_each(|(name, about)| put_block(&name, &about, output))
}

fn about_holder(entry: &HolderEntry, peers: &Peers) -> Vec<String> {
    let peer = entry
        .session
        .map(|_| format!("peer {}", peer(peers, entry.session)));
    let held = entry
        .held_ms
        .map(|ms| format!("held {}", duration::show(ms)));
    let lease = entry
        .lease_left_ms
        .map(|ms| format!("lease left {}", duration::show(ms)));
    let token = Some(format!("token {}", entry.token));
    let since = entry.since_ms.map(|ms| format!("since {}", utc(ms)));
    [peer, held, lease, token, since]
        .into_iter()
        .flatten()
        .collect()
}

fn show_waiting(lock: &LockEntry, peers: &Peers, output: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&["WAITER", "PEER", "ASKS FOR", ">WAITED", ">LEFT"]);
    for entry in &lock.waiting {
        table.row([
            waiter(entry),
            peer(peers, Some(entry.session)),
            asked_mode(&entry.mode),
            duration::show(entry.waited_ms),
            duration::show(entry.left_ms),
        ]);
    }
    if table.fits(output) {
        return table.write(output);
    }
    for entry in &lock.waiting {
        let about = [
            format!("peer {}", peer(peers, Some(entry.session))),
            format!("waits {}", duration::show(entry.waited_ms)),
            format!("{} left", duration::show(entry.left_ms)),
            format!("asks for {}", asked_mode(&entry.mode)),
        ];
        put_block(&format!("waits: {}", waiter(entry)), &about, output)?;
    }
    Ok(())
}

/// Some lines for one party, where a terminal is too narrow for a table: only names are cut.
fn put_block(name: &str, about: &[String], output: &mut Output) -> Result<(), Failure> {
    output.line(&fitting(&visible(name), output))?;
    let about: Vec<String> = about.iter().map(|part| visible(part)).collect();
    let columns = output.columns().unwrap_or(usize::MAX);
    let lines = packed(&about, columns.saturating_sub(INDENT.len()));
    lines
        .iter()
        .try_for_each(|line| output.line(&format!("{INDENT}{line}")))
}

const INDENT: &str = "    ";

fn fitting(text: &str, output: &Output) -> String {
    match output.columns() {
        Some(columns) => cut(text, columns),
        None => text.to_owned(),
    }
}

/// As many parts in a line as have room there.
fn packed(parts: &[String], columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.width() + ", ".len() + part.width() <= columns => {
                line.extend([", ", part]);
            }
            _ => lines.push(part.clone()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_shows_peers_and_numbers_whole() {
        let name = "a-rather-long-name-of-a-worker-".repeat(4);
        let lock = format!(
            r#"{{"key":"k","mode":"exclusive","holders":[{{"session":1234567,"name":"{name}","token":18446744073709551615,"since_ms":1,"held_ms":1000,"lease_left_ms":3000}}],"holders_in_all":1,"waiting":[{{"session":7654321,"name":"{name}","mode":"exclusive","waited_ms":1,"left_ms":2}}],"waiting_in_all":1}}"#
        );
        let lock: LockEntry = serde_json::from_str(&lock).expect("a lock");
        let peer = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";
        let session = |number| {
            let json = format!(
                r#"{{"session":{number},"peer":"{peer}","connected":true,"grace_ms":1,"locks":1}}"#
            );
            (number, serde_json::from_str(&json).expect("a session"))
        };
        let peers = Peers::from([session(1_234_567), session(7_654_321)]);
        let mut output = Output::kept_in(80);
        show(&lock, &peers, &mut output).expect("a screen without an end");
        let lines = output.lines();
        assert!(lines.iter().all(|line| line.width() <= 80), "{lines:#?}");
        let text = lines.join("\n");
        for whole in [
            "\n#1234567 a-rather",
            "waits: #7654321 a-rather",
            "token 18446744073709551615",
        ] {
            assert!(text.contains(whole), "{text}");
        }
        assert_eq!(text.matches(peer).count(), 2, "{text}");
    }
}
