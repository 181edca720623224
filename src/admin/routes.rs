//! Which path is answered by what, and who may ask for it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::get;

use super::{Admin, api, guard, health, metrics, page};

/// The longest body of a request, in bytes.
pub(super) const MAX_BODY: usize = 16 * 1024;

/// What every answer says to a browser, a refusal too: that it is what it says it is, that nobody keeps it
/// (a server that was replaced must not be shown as the old one), and that nobody puts it into a page of
/// theirs, nor runs what is in it. The page for operators has a policy of its own.
const ON_ALL: [(HeaderName, HeaderValue); 5] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
];

pub(super) fn router(admin: Admin) -> Router {
    let may_read = from_fn_with_state(admin.clone(), guard::may_read);
    let may_act = from_fn_with_state(admin.clone(), guard::may_act);
    Router::new()
        .merge(open())
        .merge(reading().layer(may_read))
        .merge(acting().layer(may_act))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(map_response(with_headers_of_all))
        .with_state(admin)
}

async fn with_headers_of_all(mut answer: Response) -> Response {
    for (name, value) in ON_ALL {
        answer.headers_mut().entry(name).or_insert(value);
    }
    answer
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
