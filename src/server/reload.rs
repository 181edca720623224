//! Reads again what the settings name, when the operator says so.

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::control::Control;

/// Reloads whenever `control` asks for it, until `stop`.
pub(super) async fn whenever_asked(control: Control, stop: CancellationToken) {
    let reload = async {
        loop {
            control.reload_asked().await;
            info!("reloaded nothing, as no setting names a file");
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = reload => {}
    }
}
