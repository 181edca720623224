//! What may be ordered.

use axum::Json;
use axum::extract::Extension;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::Deserialize;

use super::{Answer, Problem};
use crate::access::User;
use crate::admin::loaded::Loaded;
use crate::model::{Key, Peer, SessionNumber, Token};
use crate::protocol::{Object, unescape};
use crate::server::NotDone;

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
    fn key(&self) -> Key {
        Key::new(&unescape(self.key.as_bytes()))
    }
}

type Order<T> = Result<Json<T>, JsonRejection>;

/// Ends a session.
pub(super) async fn kick(
    Loaded(server): Loaded,
    Extension(peer): Extension<Peer>,
    Extension(user): Extension<Arc<User>>,
    order: Order<Session>,
) -> Result<Answer, Problem> {
    let Json(Session { session, instance }) = order?;
    let act = server.act(peer, user);
    act.kick(SessionNumber(session), instance.as_deref())
        .await?;
    Ok(done())
}

/// Takes a lock from whoever holds it.
pub(super) async fn force_unlock(
    Loaded(server): Loaded,
    Extension(peer): Extension<Peer>,
    Extension(user): Extension<Arc<User>>,
    order: Order<Lock>,
) -> Result<Answer, Problem> {
    let Json(lock) = order?;
    let act = server.act(peer, user);
    act.force_unlock(&lock.key(), lock.token.map(Token)).await?;
    Ok(done())
}

/// Frees a lock that only owners hold.
pub(super) async fn break_lock(
    Loaded(server): Loaded,
    Extension(peer): Extension<Peer>,
    Extension(user): Extension<Arc<User>>,
    order: Order<Lock>,
) -> Result<Answer, Problem> {
    let Json(lock) = order?;
    let act = server.act(peer, user);
    act.break_lock(&lock.key(), lock.token.map(Token)).await?;
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
        let status = match why {
            NotDone::NoSession | NotDone::NotLocked => StatusCode::NOT_FOUND,
            NotDone::NotOwners | NotDone::OtherRun => StatusCode::CONFLICT,
            NotDone::NotStored(_) => StatusCode::INTERNAL_SERVER_ERROR,
            NotDone::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, why.to_string())
    }
}
