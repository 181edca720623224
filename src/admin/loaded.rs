//! For handlers that ask the server itself.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::Admin;
use super::stage::NoTable;
use crate::server::ServerHandle;

/// The server, while it has a table that surely is the current one; otherwise the request is answered `503`.
pub(super) struct Loaded(pub(super) ServerHandle);

impl FromRequestParts<Admin> for Loaded {
    type Rejection = (StatusCode, String);

    async fn from_request_parts(_: &mut Parts, admin: &Admin) -> Result<Self, Self::Rejection> {
        let refused = |why: NoTable| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
        let server = admin.stage.get().server().map_err(refused)?;
        match server.not_current() {
            Some(why) => Err((StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))),
            None => Ok(Self(server)),
        }
    }
}
