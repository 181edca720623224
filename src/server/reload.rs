//! Reads again what the settings name, when the operator says so.

use std::sync::Arc;

use tracing::info;

use super::Shared;
use super::control::Control;

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
async fn reload(shared: &Shared) {
    let mut has_files = false;
    #[cfg(feature = "tls")]
    if let Some(tls) = &shared.tls {
        tls.reload().await;
        has_files = true;
    }
    if !has_files {
        info!("reloaded nothing, as no setting names a file");
    }
}
