//! Keys, values, owners and names, as they are shown and as they are given: what one reads can be given back.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParser, ValueParserFactory};
use elock::model::{Visible, unescape};

/// What `--help` says where there is a [`Word`].
pub const NOTATION: &str = "\
Keys, values, owners and names may be given as they are shown: \\xNN stands for a byte, and \\x5C for a backslash \
where one would be taken for that.";

/// A key, value, owner or name of the command line, as the bytes that it stands for. Each argument that is
/// one has this type, so that none is read in another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(pub Vec<u8>);

impl ValueParserFactory for Word {
    type Parser = ValueParser;

    fn value_parser() -> ValueParser {
        let parser = OsStringValueParser::new().map(|word: OsString| Self(given(&word)));
        ValueParser::new(parser)
    }
}

/// The bytes: `\xNN` stands for one, as in the protocol's `locks`.
fn given(word: &OsStr) -> Vec<u8> {
    unescape(word.as_bytes())
}

/// The key as a text that [`given`] reads.
pub fn shown(key: &[u8]) -> String {
    Visible(key).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_given() {
        let keys: [&[u8]; 8] = [
            b"plain",
            b"\xff\xfe\x00",
            b"\\x41",
            b"\\\\x41\\",
            b"\\x4",
            b"a\xc2\x9b31m\x1b[2J",
            "é 鍵 \u{202e}\u{200b}".as_bytes(),
            b"\\x5C\\x5c\\xZZ",
        ];
        for key in keys {
            let text = shown(key);
            assert_eq!(given(OsStr::new(&text)), key, "{text}");
        }
        assert_eq!(shown(b"a\xc2\x9b\\n"), "a\\xC2\\x9B\\n");
        assert_eq!(shown(b"\\x41"), "\\x5Cx41");
    }
}
