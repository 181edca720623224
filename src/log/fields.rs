//! The fields of a line of text.

use std::borrow::Cow;
use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::model::{Visible, is_unseen};

/// Writes each value in one way, whatever type a line has it from: `NAME=VALUE`, and between quotes only
/// what would else be taken for more than one, so that one search finds a session in all lines.
#[derive(Debug)]
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line {
            writer,
            space: "",
            written: Ok(()),
        };
        fields.record(&mut line);
        line.written
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    space: &'static str,
    written: fmt::Result,
}

impl Line<'_> {
    fn put(&mut self, field: &Field, value: &str) {
        let space = std::mem::replace(&mut self.space, " ");
        let needs_quotes = value.is_empty() || value.contains([' ', '=', '"']);
        let written = match (field.name(), needs_quotes) {
            // It may be of several lines, as a backtrace is.
            ("message", _) => {
                let lines: Vec<_> = value.split('\n').map(visible).collect();
                write!(self.writer, "{space}{}", lines.join("\n"))
            }
            (name, false) => write!(self.writer, "{space}{name}={}", visible(value)),
            (name, true) => {
                let value = visible(value).replace('"', "\\x22");
                write!(self.writer, "{space}{name}=\"{value}\"")
            }
        };
        self.written = self.written.and(written);
    }
}

/// So that no value forges a line, or is obeyed by a terminal. What is visible already stays as it is.
fn visible(text: &str) -> Cow<'_, str> {
    match text.chars().any(is_unseen) {
        true => Visible(text.as_bytes()).to_string().into(),
        false => text.into(),
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::info;
    use tracing::subscriber::with_default;
    use tracing_subscriber::fmt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("whole").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_value_is_written_in_one_way() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = fmt()
            .fmt_fields(Fields)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        with_default(subscriber, || {
            let (text, none) = ("#10", None::<u64>);
            info!(text, shown = %text, none, number = 7, "said");
            let keys = ["a b", "a=b", "say\"", "", "a\\x0D"];
            info!(space = keys[0], equals = %keys[1], quote = keys[2], empty = keys[3], plain = keys[4], "said");
            let forged = "a\r\nb\u{1b}[2J";
            info!(text = forged, shown = %forged, "said {forged}");
        });
        let lines = lines.0.lock().expect("whole").clone();
        let lines = String::from_utf8(lines).expect("text");
        let said: Vec<_> = lines
            .lines()
            .filter_map(|line| line.split_once("said"))
            .collect();
        assert_eq!(said[0].1, " text=#10 shown=#10 number=7");
        assert_eq!(
            said[1].1,
            r#" space="a b" equals="a=b" quote="say\x22" empty="" plain=a\x0D"#
        );
        assert_eq!(said[2].1, r" a\x0D");
        let rest = r"b\x1B[2J text=a\x0D\x0Ab\x1B[2J shown=a\x0D\x0Ab\x1B[2J";
        assert_eq!(lines.lines().last(), Some(rest));
    }
}
