//! The lines of `debug`, which are written one by one because there may be millions.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};

use super::reply::{put_fmt, put_visible};
use crate::model::{LockView, Mode, SessionNumber, SessionView};

/// The first line.
pub fn put_debug_start(out: &mut BytesMut) {
    out.put_slice(b"200 DEBUG\r\n");
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
    match view.grace_ends {
        None => put_fmt(
            out,
            format_args!(",\"connected\":true,\"peer\":\"{peer}\"}}\r\n"),
        ),
        Some(end) => {
            let left_ms = end.saturating_duration_since(now).as_millis();
            put_fmt(
                out,
                format_args!(
                    ",\"connected\":false,\"peer\":\"{peer}\",\"disposeInMs\":{left_ms}}}\r\n"
                ),
            );
        }
    }
}

/// `LOCK key #24, #25 (value) waiters=N token=T,T`. Holders beyond the view's are only counted.
pub fn put_lock(out: &mut BytesMut, key: &[u8], view: &LockView) {
    out.put_slice(b"LOCK ");
    put_visible(out, key);
    for (index, (holder, _)) in view.holders.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        put_fmt(out, format_args!("{comma} {holder}"));
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
    out.put_slice(b"\r\n");
}

/// `REQUEST #26 key (value) waited_ms=N`.
pub fn put_request(
    out: &mut BytesMut,
    session: SessionNumber,
    key: &[u8],
    mode: &Mode,
    waited: Duration,
) {
    put_fmt(out, format_args!("REQUEST {session} "));
    put_visible(out, key);
    put_value(out, mode);
    put_fmt(out, format_args!(" waited_ms={}\r\n", waited.as_millis()));
}

/// The last line.
pub fn put_debug_end(out: &mut BytesMut) {
    out.put_slice(b"END\r\n");
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
    use crate::model::{Key, Token};

    #[test]
    fn holders_that_are_not_shown_are_counted() {
        let view = LockView {
            holders: vec![(SessionNumber(1), Token(7)), (SessionNumber(2), Token(8))],
            holders_in_all: 1234,
            mode: Mode::Shared(Key::new(b"v\x07")),
            waiters: 3,
        };
        let mut out = BytesMut::new();
        put_lock(&mut out, b"k\r", &view);
        let expected = b"LOCK k\\x0D #1, #2, ... 1232 more (v\\x07) waiters=3 token=7,8\r\n";
        assert_eq!(out, expected[..]);
    }
}
