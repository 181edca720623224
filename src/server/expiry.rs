//! The tasks that end leases and grace periods when their time is over.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Shared;
use super::log_lines;
use super::session_guard::{give_way, release_over};
use crate::table::Grace;

/// How many leases are ended before other tasks get their turn.
const SLICE: usize = 1000;

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
            let mut has_ended = false;
            loop {
                let (looked_at, ended) = table.end_leases(shared.clock.now(), SLICE);
                ended
                    .iter()
                    .for_each(|lease| log_lines::lease_ended(&shared, lease));
                table.counters().lease_ends.add(ended.len() as u64);
                has_ended |= !ended.is_empty();
                if looked_at < SLICE {
                    break;
                }
                give_way(table, table.changes().last()).await;
            }
            if has_ended {
                table.changes().write(table.changes().last());
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = end_all => {}
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
    // The clock may have stepped back by a gap since it showed the end.
    let now = shared.clock.now().max(grace.ends);
    if let Some((session, identity)) = shared.table.end_grace(grace.number, now) {
        let counters = shared.table.counters();
        counters.grace_ends.add(u64::from(session.held() > 0));
        log_lines::session_ended(&shared, &session, &identity, "a grace period ended");
        // Boxed, to keep this task small: it waits most of the time, and there may be very many.
        Box::pin(release_over(&shared, session)).await;
    }
}
