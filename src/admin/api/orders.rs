//! What may be ordered.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, FromRequestParts};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::{Json, RequestPartsExt};
use serde::Deserialize;

use super::{Answer, Problem};
use crate::access::User;
use crate::admin::Admin;
use crate::admin::loaded::Loaded;
use crate::model::{Key, Peer, SessionNumber, Token, unescape};
use crate::protocol::Object;
use crate::server::{NotDone, Operator, ServerHandle};
use crate::table::NotHeld;

/// A session by its number, and the run of the server that it is of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    session: u64,
    instance: Option<String>,
}

/// A key, in which `\xNN` stands for a byte; and the last token that was seen: who holds the lock by a
/// later one keeps it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    key: String,
    token: Option<u64>,
}

impl Lock {
    fn read(self) -> (Key, Option<Token>) {
        let key = Key::new(&unescape(self.key.as_bytes()));
        (key, self.token.map(Token))
    }
}

/// Who orders something of which server.
pub(super) struct Asks {
    server: ServerHandle,
    peer: Peer,
    user: Arc<User>,
}

impl Asks {
    fn operator(self) -> Operator {
        self.server.operator(self.peer, self.user)
    }
}

impl FromRequestParts<Admin> for Asks {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Response> {
        fn rejected(why: impl IntoResponse) -> Response {
            why.into_response()
        }
        let Loaded(server) = parts.extract_with_state(admin).await.map_err(rejected)?;
        let Extension(peer) = parts.extract().await.map_err(rejected)?;
        let Extension(user) = parts.extract().await.map_err(rejected)?;
        Ok(Self { server, peer, user })
    }
}

type Order<T> = Result<Json<T>, JsonRejection>;

/// Ends a session.
pub(super) async fn kick(asks: Asks, order: Order<Session>) -> Result<Answer, Problem> {
    let Json(Session { session, instance }) = order?;
    if instance.is_some_and(|instance| instance != asks.server.instance()) {
        let text = "the server was started anew meanwhile, and its sessions are others";
        return Err(Problem::new(StatusCode::CONFLICT, text));
    }
    asks.operator().kick(SessionNumber(session)).await?;
    Ok(done())
}

/// Takes a lock from whoever holds it.
pub(super) async fn force_unlock(asks: Asks, order: Order<Lock>) -> Result<Answer, Problem> {
    let (key, last) = order?.0.read();
    asks.operator().force_unlock(&key, last).await?;
    Ok(done())
}

/// Frees a lock that only owners hold.
pub(super) async fn break_lock(asks: Asks, order: Order<Lock>) -> Result<Answer, Problem> {
    let (key, last) = order?.0.read();
    asks.operator().break_lock(&key, last).await?;
    Ok(done())
}

fn done() -> Answer {
    Answer(Object::new().raw("done", true))
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<NotDone> for Problem {
    fn from(why: NotDone) -> Self {
        let status = match &why {
            NotDone::OwnSession => StatusCode::CONFLICT,
            NotDone::NotHeld(why) if why.value == NotHeld::NotYours => StatusCode::CONFLICT,
            NotDone::NoSession | NotDone::NotHeld(_) => StatusCode::NOT_FOUND,
            NotDone::NotStored(_) => StatusCode::INTERNAL_SERVER_ERROR,
            NotDone::MustEnd(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, why.to_string())
    }
}
