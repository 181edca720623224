//! What may be asked.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Extension;

use super::parameters::Parameters;
use super::{Answer, Problem};
use crate::access::User;
use crate::admin::loaded::Loaded;
use crate::model::{Key, SessionEntry, SessionNumber};
use crate::protocol::{Fact, Object, lock_object, session_object, word_of};
use crate::server::{Contended, Noted, Part};

/// `info`; the wall clock's time, by which other times are to be understood; why the server is not ready
/// for more clients; and its bounds, with what of them is taken.
pub(super) async fn info(
    Loaded(server): Loaded,
    parameters: Parameters,
) -> Result<Answer, Problem> {
    parameters.end()?;
    let object = Object::new().raw("now_ms", server.unix_now().as_millis());
    let facts = server.info().0.into_iter();
    let object = facts.fold(object, |object, (name, fact)| match fact {
        Fact::Number(number) => object.raw(name, number),
        Fact::Text(text) => object.text(name, &text),
    });
    let reasons = server.not_ready();
    let reasons = reasons
        .iter()
        .map(|why| Object::new().text("text", &why.to_string()));
    let limits = server.limits();
    let limits = limits.iter().map(|limited| {
        Object::new()
            .text("what", limited.what)
            .raw("used", limited.used)
            .raw("limit", limited.limit)
    });
    Ok(Answer(
        object.list("not_ready", reasons).list("limits", limits),
    ))
}

/// `locks`: with `prefix`, `after` and `limit`, or just the `key`.
pub(super) async fn locks(
    Loaded(server): Loaded,
    Extension(user): Extension<Arc<User>>,
    mut parameters: Parameters,
) -> Result<Answer, Problem> {
    let limit = parameters.limit()?;
    let prefix = parameters.word("prefix");
    let after = parameters.word("after");
    let key = parameters.word("key");
    parameters.end()?;
    let part = match key {
        Some(_) if prefix.is_some() || after.is_some() => {
            return Err(Problem::bad(
                "a \"key\" goes with no \"prefix\" and no \"after\"".to_owned(),
            ));
        }
        Some(key) => Part::one(server.lock(&key, &user)),
        None => {
            let prefix = prefix.unwrap_or_default();
            server.locks(prefix, after, limit, user).await?
        }
    };
    let locks = part.entries.iter().map(lock_object);
    let object = Object::new().list("locks", locks);
    Ok(Answer(match part.next {
        Some(last) => object.text("next", &word_of(last.as_bytes())),
        None => object,
    }))
}

/// `sessions`: with `after` and `limit`, or just the `session`.
pub(super) async fn sessions(
    Loaded(server): Loaded,
    Extension(user): Extension<Arc<User>>,
    mut parameters: Parameters,
) -> Result<Answer, Problem> {
    let limit = parameters.limit()?;
    let after = parameters.session("after")?;
    let session = parameters.session("session")?;
    parameters.end()?;
    let part = match session {
        Some(_) if after.is_some() => {
            let text = "a \"session\" goes with no \"after\"";
            return Err(Problem::bad(text.to_owned()));
        }
        Some(number) => Part::one(server.session(number, &user)),
        None => {
            let after = after.unwrap_or(SessionNumber(0));
            server.sessions(after, limit, user).await?
        }
    };
    let now = server.now();
    let object = Object::new().list("sessions", session_objects(&part.entries, now));
    let next = part.next.map(|last| last.0);
    Ok(Answer(object.optional("next", next)))
}

/// The keys for which most requests wait, with `prefix` and `limit`; `beyond` these, what their holders wait
/// for, so that whoever is told sees all chains to their ends; and of all keys, the `longest` wait.
pub(super) async fn waits(
    Loaded(server): Loaded,
    Extension(user): Extension<Arc<User>>,
    mut parameters: Parameters,
) -> Result<Answer, Problem> {
    let limit = parameters.limit()?;
    let prefix = parameters.word("prefix").unwrap_or_default();
    parameters.end()?;
    let waits = server.waits(prefix, limit, user).await?;
    let holders = session_objects(&waits.requests_of_holders, server.now());
    let object = Object::new()
        .raw("requests_in_all", waits.requests)
        .raw("keys_in_all", waits.keys)
        .list("longest", waits.longest.iter().map(contended_object))
        .list("locks", waits.locks.iter().map(contended_object))
        .list("beyond", waits.beyond.iter().map(contended_object))
        .list("waiting_holders", holders);
    Ok(Answer(object))
}

/// Deadlocks and lost locks: the last ones of each kind, with numbers above `after`.
pub(super) async fn events(
    Loaded(server): Loaded,
    Extension(user): Extension<Arc<User>>,
    mut parameters: Parameters,
) -> Result<Answer, Problem> {
    let after = parameters.number("after")?;
    parameters.end()?;
    let (events, last) = server.events(after.unwrap_or(0), &user);
    let object = Object::new()
        .list("events", events.iter().map(event_object))
        .raw("last", last);
    Ok(Answer(object))
}

/// What the numbers of `info` were in the last hour.
pub(super) async fn history(
    Loaded(server): Loaded,
    parameters: Parameters,
) -> Result<Answer, Problem> {
    parameters.end()?;
    let (names, samples) = server.history();
    let samples = samples.iter().map(|sample| {
        let object = Object::new().raw("at_ms", sample.at.as_millis());
        let numbers = names.iter().zip(sample.numbers);
        numbers.fold(object, |object, (name, number)| object.raw(name, number))
    });
    Ok(Answer(Object::new().list("samples", samples)))
}

/// Who asks, and what that user may do.
pub(super) async fn rights(
    Extension(user): Extension<Arc<User>>,
    parameters: Parameters,
) -> Result<Answer, Problem> {
    parameters.end()?;
    let object = Object::new();
    let object = match user.name() {
        Some(name) => object.bytes("user", name.as_bytes()),
        None => object,
    };
    let object = object.raw("read", user.may_read());
    Ok(Answer(object.raw("admin", user.may_admin())))
}

fn session_objects(entries: &[SessionEntry], now: Instant) -> impl Iterator<Item = Object> {
    entries.iter().map(move |entry| session_object(entry, now))
}

fn contended_object(contended: &Contended) -> Object {
    lock_object(&contended.lock).raw("longest_ms", contended.longest.as_millis())
}

fn event_object(noted: &Noted) -> Object {
    let event = &noted.event;
    let bytes = |object: Object, name, bytes: Option<&Key>| match bytes {
        Some(bytes) => object.bytes(name, bytes.as_bytes()),
        None => object,
    };
    let object = Object::new()
        .raw("number", noted.number)
        .raw("at_ms", noted.at.as_millis())
        .text("kind", event.kind.name())
        .optional("session", event.session.map(|session| session.0));
    let object = bytes(object, "name", event.name.as_ref());
    let object = bytes(object, "owner", event.owner.as_ref());
    bytes(object, "key", event.key.as_ref())
        .optional("token", event.token)
        .optional("held_ms", event.held.map(|held| held.as_millis()))
        .text("text", &event.text)
}
