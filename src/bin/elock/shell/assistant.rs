//! What helps while a line is typed: completion of commands, and hints of their usage.

use std::borrow::Cow;

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::validate::Validator;
use rustyline::{Context, Helper, Result};

use super::usage::Usages;

/// The shell's own words.
const LOCAL: [&str; 4] = [":b ", ":close ", ":help", ":quit"];

/// Knows the server's commands.
pub struct Assistant(pub Usages);

/// Shown behind the cursor, and never typed by itself.
pub struct UsageHint(String);

impl Hint for UsageHint {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

/// Where the request begins: behind the letter of a connection, if there is one.
fn request_start(line: &str) -> usize {
    let blanks = line.len() - line.trim_start().len();
    let rest = &line[blanks..];
    let is_for_letter = matches!(rest.as_bytes(), [b':', b'a'..=b'z', b' ', ..]);
    match is_for_letter {
        true => line.len() - rest[3..].trim_start().len(),
        false => blanks,
    }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> Result<(usize, Vec<String>)> {
        let typed = &line[..pos];
        let start = request_start(typed);
        let word = &typed[start..];
        let candidates = match word {
            word if word.contains(' ') => Vec::new(),
            word if word.starts_with(':') => {
                let fitting = LOCAL.iter().filter(|local| local.starts_with(word));
                fitting.map(|&local| local.to_owned()).collect()
            }
            word => self.0.commands(word),
        };
        Ok((start, candidates))
    }
}

impl Hinter for Assistant {
    type Hint = UsageHint;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<UsageHint> {
        if pos < line.len() {
            return None;
        }
        self.0.rest(&line[request_start(line)..]).map(UsageHint)
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Validator for Assistant {}
impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_stand_behind_a_letter() {
        for (line, request) in [
            ("lock k", "lock k"),
            ("  lock", "lock"),
            (":b lock", "lock"),
            (":b  lo", "lo"),
            (":b ", ""),
            (":b", ":b"),
            (":close b", ":close b"),
            ("é", "é"),
            (":é x", ":é x"),
            ("", ""),
        ] {
            assert_eq!(&line[request_start(line)..], request, "{line:?}");
        }
    }
}
