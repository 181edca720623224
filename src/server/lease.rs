//! The time after which locks end by themselves, and where fencing tokens begin.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::grace::give_way;
use crate::table::Token;

/// How many leases are ended before others get their turn.
const SLICE: usize = 1000;

/// Ends leases when they are over, until `stop`.
pub(super) async fn end_leases(shared: Arc<Shared>, stop: CancellationToken) {
    let table = &shared.table;
    let end_all = async {
        loop {
            let next_end = async {
                match table.next_lease_end() {
                    Some(end) => sleep_until(end.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = next_end => {}
                () = table.sooner_lease() => {}
            }
            while table.end_leases(Instant::now().into_std(), SLICE) == SLICE {
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

/// 2025-01-01, in seconds since the beginning of 1970.
const TOKEN_EPOCH: Duration = Duration::from_secs(1_735_689_600);

/// A token that no earlier run of a server on this machine has reached: the tenths of microseconds
/// since the beginning of 2025. That rests on two things: that the clock was not set back by more
/// than the server was down, and that no run granted ten million locks a second all its life. It
/// stays below 2^53, which is exact in every language, until 2053.
pub(super) fn tokens_above() -> Token {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let ticks = now.saturating_sub(TOKEN_EPOCH).as_nanos() / 100;
    Token(u64::try_from(ticks).unwrap_or(u64::MAX >> 3))
}
