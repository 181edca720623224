//! Reads again what the settings name, when the operator says so.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
#[cfg(feature = "auth")]
use tracing::error;
use tracing::info;

use super::Shared;
use super::control::Control;

/// Reloads whenever `control` asks for it, until `stop`.
pub(super) async fn whenever_asked(shared: Arc<Shared>, control: Control, stop: CancellationToken) {
    let reload = async {
        loop {
            control.reload_asked().await;
            if !reload_users(&shared).await {
                info!("reloaded nothing, as no setting names a file");
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = reload => {}
    }
}

/// False if there are no files of users.
#[cfg(not(feature = "auth"))]
async fn reload_users(_: &Arc<Shared>) -> bool {
    false
}

/// False if there are no files of users. Those that are no good leave all as it is, and the log says
/// so.
#[cfg(feature = "auth")]
async fn reload_users(shared: &Arc<Shared>) -> bool {
    if !shared.desk.has_files() {
        return false;
    }
    let at = Arc::clone(shared);
    match tokio::task::spawn_blocking(move || at.desk.reload()).await {
        Ok(Ok(users)) => info!(users = users.count(), "reloaded the users"),
        Ok(Err(wrong)) => error!("the users stay as they are: {wrong}"),
        Err(failure) => error!("the users stay as they are: {failure}"),
    }
    true
}
