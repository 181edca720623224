//! The tasks that end leases and grace periods when their time is over.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::Shared;
use super::session_guard::{give_way, release_over};
use crate::table::{EndedLease, Grace};

/// How many leases are ended before other tasks get their turn.
const SLICE: usize = 1000;

/// How many keys a log line names.
const NAMED_KEYS: usize = 3;

/// Ends leases when they are over, until `stop`.
pub(super) async fn end_leases(shared: Arc<Shared>, stop: CancellationToken) {
    let table = &shared.table;
    let end_all = async {
        loop {
            let next_end = async {
                match table.next_lease_end() {
                    Some(end) => shared.clock.sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = next_end => {}
                () = table.sooner_lease() => {}
            }
            loop {
                let (looked_at, ended) = table.end_leases(shared.clock.now(), SLICE);
                ended.iter().for_each(|lease| log_lease(&shared, lease));
                if looked_at < SLICE {
                    break;
                }
                give_way(table, table.changes().last()).await;
            }
            table.changes().write(table.changes().last());
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = end_all => {}
    }
}

fn log_lease(shared: &Shared, lease: &EndedLease) {
    if let Some(left_out) = shared.throttles.lease_ends.pass(shared.clock.now()) {
        info!(
            session = %lease.session,
            key = %lease.key.as_bytes().escape_ascii(),
            token = lease.token.0,
            held_ms = lease.held.as_millis() as u64,
            left_out,
            "a lease ended, and its lock with it"
        );
    }
}

/// Waits until the grace period ends and then releases the session's locks, unless the session is
/// resumed or the server stops before that.
pub(super) async fn end_grace_period(shared: Arc<Shared>, grace: Grace, stop: CancellationToken) {
    tokio::select! {
        () = shared.clock.sleep_until(grace.ends) => {}
        () = grace.resumed.notified() => return,
        () = stop.cancelled() => return,
    }
    let now = shared.clock.now();
    if let Some((session, peer)) = shared.table.end_grace(grace.number, now) {
        let locks = session.held();
        if locks > 0
            && let Some(left_out) = shared.throttles.grace_ends.pass(now)
        {
            let keys = shared.table.some_keys(&session, NAMED_KEYS);
            let shown = keys
                .iter()
                .map(|key| key.as_bytes().escape_ascii().to_string());
            let keys: Vec<_> = shown.collect();
            info!(
                session = %grace.number, %peer, locks, keys = keys.join(" "), left_out,
                "a grace period ended, and its session's locks are released"
            );
        }
        // Boxed, to keep this task small: it waits most of the time, and there may be very many.
        Box::pin(release_over(&shared, session)).await;
    }
}
