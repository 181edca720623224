//! The lines of `debug`, `locks` and `sessions`, which are written one by one because there may be
//! millions.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};

use super::json::Object;
use super::reply::{put_fmt, put_holder_text, put_visible};
use crate::model::{
    Ask, AskedFor, Holder, Key, LockEntry, LockView, Mode, SessionEntry, SessionNumber,
    SessionView, Visible,
};

/// The first line of `DEBUG`, `LOCKS` or `SESSIONS`.
pub fn put_start(out: &mut BytesMut, what: &str) {
    put_fmt(out, format_args!("200 {what}\r\n"));
}

/// `SESSION {json}`, with `disposeTimeout` in milliseconds as the NodeJS server names it.
/// Never shows the session's secret.
pub fn put_session(out: &mut BytesMut, view: &SessionView, now: Instant) {
    let (number, peer) = (view.number.0, view.peer);
    let grace_ms = view.grace.as_millis();
    put_fmt(
        out,
        format_args!("SESSION {{\"id\":{number},\"disposeTimeout\":{grace_ms}"),
    );
    let is_connected = view.grace_ends.is_none();
    put_fmt(
        out,
        format_args!(",\"connected\":{is_connected},\"peer\":\"{peer}\""),
    );
    if let Some(end) = view.grace_ends {
        let left_ms = end.saturating_duration_since(now).as_millis();
        put_fmt(out, format_args!(",\"disposeInMs\":{left_ms}"));
    }
    for (member, text) in [("name", &view.name), ("user", &view.user)] {
        if let Some(text) = text {
            let object = Object::new().bytes(member, text.as_bytes()).end();
            put_fmt(out, format_args!(",{}", &object[1..object.len() - 1]));
        }
    }
    out.put_slice(b"}\r\n");
}

/// `LOCK key #24, @owner (value) waiters=N token=T,T slots=N`. Holders beyond the view's are only counted.
pub fn put_lock(out: &mut BytesMut, key: &[u8], view: &LockView) {
    out.put_slice(b"LOCK ");
    put_visible(out, key);
    for (index, (holder, _)) in view.holders.iter().enumerate() {
        out.put_slice(if index > 0 { b", " } else { b" " });
        put_holder_text(out, holder);
    }
    let more = view.holders_in_all.saturating_sub(view.holders.len());
    if more > 0 {
        put_fmt(out, format_args!(", ... {more} more"));
    }
    put_value(out, &view.mode);
    put_fmt(out, format_args!(" waiters={} token=", view.waiters));
    for (index, (_, token)) in view.holders.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        put_fmt(out, format_args!("{comma}{token}"));
    }
    put_slots(out, &view.mode);
    out.put_slice(b"\r\n");
}

/// `REQUEST #26 key (value) waited_ms=N slots=N owner=WORD`.
pub fn put_request(
    out: &mut BytesMut,
    session: SessionNumber,
    key: &[u8],
    ask: &Ask,
    waited: Duration,
) {
    put_fmt(out, format_args!("REQUEST {session} "));
    put_visible(out, key);
    put_value(out, &ask.mode);
    put_fmt(out, format_args!(" waited_ms={}", waited.as_millis()));
    put_slots(out, &ask.mode);
    if let AskedFor::Owner(owner, _) = &ask.holder {
        out.put_slice(b" owner=");
        put_visible(out, owner.as_bytes());
    }
    out.put_slice(b"\r\n");
}

/// `LOCK` and a JSON object, for `locks`.
pub fn put_lock_entry(out: &mut BytesMut, entry: &LockEntry) {
    put_fmt(out, format_args!("LOCK {}\r\n", lock_object(entry).end()));
}

/// A lock as a JSON object.
pub(crate) fn lock_object(entry: &LockEntry) -> Object {
    let object = put_mode(
        Object::new().bytes("key", entry.key.as_bytes()),
        &entry.mode,
    );
    let holders = entry.holders.iter().map(|one| {
        let held_ms = one.held.map(|held| held.as_millis());
        let since_ms = one.since.map(|since| since.as_millis());
        let lease_ms = one.lease_left.map(|left| left.as_millis());
        put_holder(Object::new(), &one.holder, one.name.as_ref())
            .raw("token", one.token)
            .optional("since_ms", since_ms)
            .optional("held_ms", held_ms)
            .optional("lease_left_ms", lease_ms)
    });
    let waiting = entry.first_waiters.iter().map(|one| {
        let object = put_holder(
            Object::new(),
            &Holder::Session(one.session),
            one.name.as_ref(),
        );
        let object = put_mode(object, &one.ask.mode);
        let object = match &one.ask.holder {
            AskedFor::Owner(owner, _) => object.bytes("owner", owner.as_bytes()),
            AskedFor::Session | AskedFor::SessionWithOthers { .. } => object,
        };
        object
            .raw("waited_ms", one.waited.as_millis())
            .raw("left_ms", one.left.as_millis())
    });
    object
        .list("holders", holders)
        .raw("holders_in_all", entry.holders_in_all)
        .list("waiting", waiting)
        .raw("waiting_in_all", entry.waiters)
}

/// `SESSION` and a JSON object, for `sessions`. Never shows the session's secret.
pub fn put_session_entry(out: &mut BytesMut, entry: &SessionEntry, now: Instant) {
    let object = session_object(entry, now);
    put_fmt(out, format_args!("SESSION {}\r\n", object.end()));
}

/// A session as a JSON object.
pub(crate) fn session_object(entry: &SessionEntry, now: Instant) -> Object {
    let view = &entry.view;
    let object = put_holder(
        Object::new(),
        &Holder::Session(view.number),
        view.name.as_ref(),
    );
    let left = view
        .grace_ends
        .map(|end| end.saturating_duration_since(now));
    let object = match &view.user {
        Some(user) => object.bytes("user", user.as_bytes()),
        None => object,
    };
    let mut object = object
        .text("peer", &view.peer.to_string())
        .raw("connected", view.grace_ends.is_none())
        .optional("idle_ms", entry.idle.map(|idle| idle.as_millis()))
        .raw("grace_ms", view.grace.as_millis())
        .optional("grace_left_ms", left.map(|left| left.as_millis()))
        .raw("locks", view.held);
    if let Some(waits_for) = &entry.waits_for {
        object = object
            .bytes("waits_for", waits_for.key.as_bytes())
            .raw("waited_ms", waits_for.waited.as_millis())
            .raw("left_ms", waits_for.left.as_millis());
    }
    object
}

/// `NEXT WORD`: more would follow behind this key. In the word stands `\xNN` for what is not shown,
/// and for a backslash, so that it can be sent again as it is.
pub fn put_next_key(out: &mut BytesMut, key: &[u8]) {
    put_fmt(out, format_args!("NEXT {}\r\n", word_of(key)));
}

/// A key as a word that names it when it is sent.
pub(crate) fn word_of(key: &[u8]) -> String {
    let visible =
        key.split_inclusive(|&byte| byte == b'\\')
            .map(|part| match part.strip_suffix(b"\\") {
                Some(part) => format!("{}\\x5C", Visible(part)),
                None => Visible(part).to_string(),
            });
    visible.collect()
}

/// `NEXT NUMBER`: more sessions would follow behind this one.
pub fn put_next_session(out: &mut BytesMut, number: SessionNumber) {
    put_fmt(out, format_args!("NEXT {}\r\n", number.0));
}

fn put_holder(object: Object, holder: &Holder, name: Option<&Key>) -> Object {
    let object = match holder {
        Holder::Session(number) => object.raw("session", number.0),
        Holder::Owner(owner) => object.bytes("owner", owner.as_bytes()),
    };
    match name {
        Some(name) => object.bytes("name", name.as_bytes()),
        None => object,
    }
}

fn put_mode(object: Object, mode: &Mode) -> Object {
    match mode {
        Mode::Exclusive => object.text("mode", "exclusive"),
        Mode::Shared(value) => object
            .text("mode", "shared")
            .bytes("value", value.as_bytes()),
        Mode::Slot(slots) => object.text("mode", "slots").raw("slots", slots),
    }
}

/// The last line of each.
pub fn put_end(out: &mut BytesMut) {
    out.put_slice(b"END\r\n");
}

fn put_slots(out: &mut BytesMut, mode: &Mode) {
    if let Mode::Slot(slots) = mode {
        put_fmt(out, format_args!(" slots={slots}"));
    }
}

fn put_value(out: &mut BytesMut, mode: &Mode) {
    if let Mode::Shared(value) = mode {
        out.put_slice(b" (");
        put_visible(out, value.as_bytes());
        out.put_u8(b')');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Token;

    #[test]
    fn holders_that_are_not_shown_are_counted() {
        let view = LockView {
            holders: vec![
                (Holder::Session(SessionNumber(1)), Token(7)),
                (Holder::Owner(Key::new(b"o\t")), Token(8)),
            ],
            holders_in_all: 1234,
            mode: Mode::Shared(Key::new(b"v\x07")),
            waiters: 3,
        };
        let mut out = BytesMut::new();
        put_lock(&mut out, b"k\r", &view);
        let expected = b"LOCK k\\x0D #1, @o\\x09, ... 1232 more (v\\x07) waiters=3 token=7,8\r\n";
        assert_eq!(out, expected[..]);
    }
}
