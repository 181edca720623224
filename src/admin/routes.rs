//! Which path is answered by what, and who may ask for it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;

use super::{Admin, api, health, page};

/// The longest body of a request, in bytes: a key of the longest line that can be set is not sent here.
const MAX_BODY: usize = 16 * 1024;

pub(super) fn router(admin: Admin) -> Router {
    Router::new()
        .merge(open())
        .merge(reading())
        .merge(acting())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(admin)
}

/// What everyone may ask who reaches the port.
fn open() -> Router<Admin> {
    Router::new().route("/healthz", get(health::live))
}

/// What whoever may read may ask.
fn reading() -> Router<Admin> {
    Router::new()
        .route("/", get(page::show))
        .merge(api::reading())
}

/// What acts, for whoever is an admin.
fn acting() -> Router<Admin> {
    Router::new()
}
