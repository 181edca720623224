//! Where the sessions are connected from that hold one key or wait for it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use elock_client::command::GetSessions;
use elock_client::listing::LockEntry;
use elock_client::{Connection, Error};

/// Addresses by the numbers of sessions.
pub type Peers = HashMap<u64, Arc<str>>;

/// Adds those of the lock's sessions that are not known yet, and forgets the others. Sessions that are
/// over have none.
///
/// # Errors
///
/// The connection broke, or the server refuses.
pub async fn complete(
    peers: &mut Peers,
    connection: &mut Connection,
    lock: &LockEntry,
) -> Result<(), Error> {
    let sessions = sessions_of(lock);
    peers.retain(|number, _| sessions.contains(number));
    let mut missing: BTreeSet<u64> = sessions;
    missing.retain(|number| !peers.contains_key(number));
    while let Some(&first) = missing.first() {
        let after = Some(first.saturating_sub(1).to_string().into_bytes());
        let page = connection.call(&GetSessions { after }).await?;
        let last = page.entries.last().map_or(u64::MAX, |one| one.session);
        for one in page.entries {
            if missing.contains(&one.session) {
                peers.insert(one.session, one.peer.into());
            }
        }
        let is_whole = page.next.is_none();
        missing.retain(|&number| !is_whole && number > last.max(first));
    }
    Ok(())
}

fn sessions_of(lock: &LockEntry) -> BTreeSet<u64> {
    let holding = lock.holders.iter().filter_map(|one| one.session);
    let waiting = lock.waiting.iter().map(|one| one.session);
    holding.chain(waiting).collect()
}
