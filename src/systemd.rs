//! Tells systemd that the server is ready, that it lives, that it drains, and that it stops.
//!
//! A notification blocks while systemd does not read it, so each is sent from a thread of its own.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::server::Control;

/// How long the start and a stop wait for a notification to be sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells systemd that the server is ready, as `control` says that it drains, and, when `stop` is cancelled,
/// that it stops; returns then. Meanwhile it answers the watchdog, if the unit has one. Does nothing but wait for `stop`
/// where systemd has not started this process. Must be called within a tokio runtime.
pub async fn accompany(stop: CancellationToken, control: &Control) {
    // A notification that takes longer is still sent.
    let _ = timeout(PATIENCE, tell(News::Ready)).await;
    if let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
        tokio::spawn(answer_watchdog(limit));
    }
    tokio::select! {
        () = stop.cancelled() => {}
        most = control.draining() => {
            // A systemd that reads nothing must not hold up the stop; but what is told last is so.
            let told = tokio::spawn(tell(News::Draining(most)));
            stop.cancelled().await;
            let _ = timeout(PATIENCE, told).await;
        }
    }
    let _ = timeout(PATIENCE, tell(News::Stopping)).await;
}

/// Tells systemd twice in each `limit` that the runtime still runs tasks, also during a stop.
async fn answer_watchdog(limit: Duration) {
    let mut ticks = interval(limit / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell(News::Alive).await;
    }
}

/// What systemd is told.
#[derive(Debug, Clone, Copy)]
enum News {
    Ready,
    Alive,
    /// No new locks are given, for no longer than this.
    Draining(Duration),
    Stopping,
}

impl News {
    fn send(self) -> io::Result<()> {
        match self {
            Self::Ready => sd_notify::notify(&[NotifyState::Ready]),
            Self::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
            Self::Draining(most) => sd_notify::notify(&[NotifyState::Status(&draining(most))]),
            Self::Stopping => {
                sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("stopping")])
            }
        }
    }
}

/// For `systemctl status`, in the time of the day that it is everywhere.
fn draining(most: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let [since, until] = [now, now + most].map(|time| {
        let second = time.as_secs();
        let [h, m, s] = [second / 3600 % 24, second / 60 % 60, second % 60];
        format!("{h:02}:{m:02}:{s:02}")
    });
    format!("draining since {since} UTC: no new locks; stops when none is held, or at {until} UTC")
}

async fn tell(news: News) {
    let sent = tokio::task::spawn_blocking(move || news.send()).await;
    match sent {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!("cannot notify systemd: {error}"),
        Err(panicked) => warn!("cannot notify systemd: {panicked}"),
    }
}
