//! Which path is answered by what, and who may ask for it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::get;

use super::{Admin, api, guard, health, metrics, page};

/// The longest body of a request, in bytes.
const MAX_BODY: usize = 16 * 1024;

pub(super) fn router(admin: Admin) -> Router {
    let may_read = from_fn_with_state(admin.clone(), guard::may_read);
    let may_act = from_fn_with_state(admin.clone(), guard::may_act);
    Router::new()
        .merge(open())
        .merge(reading().layer(may_read))
        .merge(acting().layer(may_act))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(admin)
}

/// What everyone may ask who reaches the port.
fn open() -> Router<Admin> {
    Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
}

/// What shows something. Here is also what is nowhere, so that a stranger does not learn what is.
fn reading() -> Router<Admin> {
    Router::new()
        .route("/", get(page::show))
        .merge(api::reading())
        .route("/metrics", get(metrics::metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "no such page\n"))
}

/// What changes something.
fn acting() -> Router<Admin> {
    api::acting()
}
