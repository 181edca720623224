//! For handlers that ask the server itself.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::Admin;
use crate::server::{NotReady, ServerHandle};

/// The server, once it has loaded; before that, the request is answered `503`.
pub(super) struct Loaded(pub(super) ServerHandle);

impl FromRequestParts<Admin> for Loaded {
    type Rejection = (StatusCode, String);

    async fn from_request_parts(_: &mut Parts, admin: &Admin) -> Result<Self, Self::Rejection> {
        let server = admin.server.get().cloned().map(Self);
        let loading = || format!("{}\n", NotReady::Loading);
        server.ok_or_else(|| (StatusCode::SERVICE_UNAVAILABLE, loading()))
    }
}
