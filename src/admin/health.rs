//! Whether the server lives, and whether it is ready.

use axum::extract::State;
use axum::http::StatusCode;

use super::Admin;

/// `GET /healthz`: the server lives if it answers at all. A restart helps against nothing that it could
/// tell: that it has too much to do, that it is loading, or that its disk is full.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether clients should be sent here, and if not, why, a reason a line.
pub(super) async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    let reasons = admin.stage.get().not_ready();
    match reasons.is_empty() {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => {
            let lines = reasons.iter().map(|reason| format!("{reason}\n"));
            (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
        }
    }
}
