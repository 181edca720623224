//! Tells systemd that the server is ready, that it lives, and that it stops.
//!
//! A notification blocks while systemd does not read it, so each is sent from a thread of its own.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long the start and a stop wait for a notification to be sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells systemd that the server is ready, and, when `stop` is cancelled, that it stops; returns
/// then. Meanwhile it answers the watchdog, if the unit has one. Does nothing but wait for `stop`
/// where systemd has not started this process. Must be called within a tokio runtime.
pub async fn accompany(stop: CancellationToken) {
    // A notification that takes longer is still sent.
    let _ = timeout(PATIENCE, tell(NotifyState::Ready)).await;
    if let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
        tokio::spawn(answer_watchdog(limit));
    }
    stop.cancelled().await;
    let _ = timeout(PATIENCE, tell(NotifyState::Stopping)).await;
}

/// Tells systemd twice in each `limit` that the runtime still runs tasks, also during a stop.
async fn answer_watchdog(limit: Duration) {
    let mut ticks = interval(limit / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell(NotifyState::Watchdog).await;
    }
}

async fn tell(state: NotifyState<'static>) {
    let sent = tokio::task::spawn_blocking(move || sd_notify::notify(&[state])).await;
    match sent {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!("cannot notify systemd: {error}"),
        Err(panicked) => warn!("cannot notify systemd: {panicked}"),
    }
}
