//! Text for JSON: a client's bytes as a string that people can read and tools can take.

use std::fmt::Write;

use crate::model::Visible;

/// A JSON object that is being written.
#[derive(Debug)]
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Self {
        Self("{".to_owned())
    }

    /// A member whose value is JSON already, such as a number.
    pub(crate) fn raw(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.begin(name);
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    /// As [`Object::raw`], if there is a value.
    pub(crate) fn optional(self, name: &str, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.raw(name, value),
            None => self,
        }
    }

    pub(crate) fn text(mut self, name: &str, text: &str) -> Self {
        self.begin(name);
        put_string(&mut self.0, text);
        self
    }

    /// A client's bytes: as [visible](Visible) text, and, where that is not the bytes themselves, also
    /// in base64 as `NAME_base64`.
    pub(crate) fn bytes(self, name: &str, bytes: &[u8]) -> Self {
        let visible = Visible(bytes).to_string();
        let is_exact = visible.as_bytes() == bytes;
        let object = self.text(name, &visible);
        match is_exact {
            true => object,
            false => object.text(&format!("{name}_base64"), &base64(bytes)),
        }
    }

    pub(crate) fn list(mut self, name: &str, objects: impl Iterator<Item = Self>) -> Self {
        self.begin(name);
        self.0.push('[');
        for (index, object) in objects.enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            self.0.push_str(&object.end());
        }
        self.0.push(']');
        self
    }

    pub(crate) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn begin(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        put_string(&mut self.0, name);
        self.0.push(':');
    }
}

/// Writes text between quotes.
fn put_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            // Writing to a string cannot fail.
            '\0'..' ' => drop(write!(out, "\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out.push('"');
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, section 4.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) as usize % 64;
            text.push(match digit <= group.len() {
                true => char::from(BASE64[index]),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in pairs {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(b"\xff\xfe\xfd"), "//79");
    }

    #[test]
    fn what_is_shown_otherwise_than_it_is_comes_in_base64_too() {
        let shown = |bytes: &[u8]| Object::new().bytes("key", bytes).end();
        assert_eq!(shown(b"a\"\\"), r#"{"key":"a\"\\"}"#);
        let text = Object::new().text("t", "a\n\u{1b}").end();
        assert_eq!(text, r#"{"t":"a\u000a\u001b"}"#);
        assert_eq!(
            shown(b"a\r\xff"),
            r#"{"key":"a\\x0D\\xFF","key_base64":"YQ3/"}"#
        );
        assert_eq!(
            shown(b"a\\x0D"),
            r#"{"key":"a\\x5Cx0D","key_base64":"YVx4MEQ="}"#
        );
        let list = [Object::new().raw("a", 1), Object::new()];
        let object = Object::new().text("t", "x").list("l", list.into_iter());
        assert_eq!(object.end(), r#"{"t":"x","l":[{"a":1},{}]}"#);
    }
}
