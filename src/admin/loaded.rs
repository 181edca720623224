//! For handlers that ask the server itself.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::Admin;
use super::stage::NoTable;
use crate::server::ServerHandle;

/// The server, while it has a table; otherwise the request is answered `503`.
pub(super) struct Loaded(pub(super) ServerHandle);

impl FromRequestParts<Admin> for Loaded {
    type Rejection = (StatusCode, String);

    async fn from_request_parts(_: &mut Parts, admin: &Admin) -> Result<Self, Self::Rejection> {
        let refused = |why: NoTable| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
        admin.stage.get().server().map(Self).map_err(refused)
    }
}
