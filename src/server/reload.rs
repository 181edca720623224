//! Reads again what the settings name, when the operator says so.

use std::sync::Arc;

#[cfg(feature = "auth")]
use tracing::error;
use tracing::info;

use super::Shared;
use super::control::Control;
#[cfg(feature = "auth")]
use crate::access::{FileError, Users};

/// Reloads whenever `control` asks for it, until the server stops.
pub(super) async fn whenever_asked(control: Control, shared: Arc<Shared>) {
    let reload = async {
        loop {
            control.reload_asked().await;
            reload(&shared).await;
        }
    };
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = reload => {}
    }
}

/// Each says itself what came of it. What cannot be read stays as it was.
async fn reload(shared: &Arc<Shared>) {
    #[cfg_attr(not(feature = "tls"), expect(unused_mut))]
    let mut has_files = shared.config.has_operators();
    #[cfg(feature = "auth")]
    if has_files {
        reload_users(shared).await;
    }
    #[cfg(feature = "tls")]
    if let Some(tls) = &shared.tls {
        tls.reload().await;
        has_files = true;
    }
    if !has_files {
        info!("reloaded nothing, as no setting names a file");
    }
}

#[cfg(feature = "auth")]
async fn reload_users(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    read_users(move || shared.desk.reload()).await;
}

/// Has a desk read its files of users.
#[cfg(feature = "auth")]
pub(super) async fn read_users(
    reload: impl FnOnce() -> Result<Arc<Users>, FileError> + Send + 'static,
) {
    match tokio::task::spawn_blocking(reload).await {
        Ok(Ok(users)) => info!(users = users.count(), "reloaded the users"),
        Ok(Err(wrong)) => error!("the users stay as they are: {wrong}"),
        Err(failure) => error!("the users stay as they are: {failure}"),
    }
}
