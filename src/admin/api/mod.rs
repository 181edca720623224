//! `/api/…`: the protocol's questions, and what the page asks beside them, as JSON.
//!
//! Members have the names that they have in the protocol. Answers are bounded whatever there is; lists go
//! on by the word or number in `next`, sent as `after`.

mod orders;
mod parameters;
mod questions;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::Admin;
use crate::protocol::Object;
use crate::server::ListingFailed;

/// Questions, for whoever may read.
pub(super) fn reading() -> Router<Admin> {
    Router::new()
        .route("/api/info", get(questions::info))
        .route("/api/locks", get(questions::locks))
        .route("/api/sessions", get(questions::sessions))
        .route("/api/waits", get(questions::waits))
        .route("/api/events", get(questions::events))
        .route("/api/history", get(questions::history))
        .route("/api/rights", get(questions::rights))
}

/// Orders, for whoever may act.
pub(super) fn acting() -> Router<Admin> {
    Router::new()
        .route("/api/kick", post(orders::kick))
        .route("/api/force_unlock", post(orders::force_unlock))
        .route("/api/break", post(orders::break_lock))
}

/// A JSON object as an answer.
struct Answer(Object);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (kind, self.0.end() + "\n").into_response()
    }
}

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Problem {
    status: StatusCode,
    text: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    /// The request makes no sense.
    fn bad(text: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl From<ListingFailed> for Problem {
    fn from(failed: ListingFailed) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, failed.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let error = Object::new().text("error", &self.text);
        (self.status, Answer(error)).into_response()
    }
}
