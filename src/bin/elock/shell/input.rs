//! What a line at the prompt is meant for.

/// The connection that lines go to which name none.
pub const FIRST: char = 'a';

/// A line, taken apart.
#[derive(Debug, PartialEq)]
pub enum Input<'a> {
    /// Nothing was typed.
    Nothing,
    /// For a connection.
    Request(char, &'a [u8]),
    /// Ends a connection.
    Close(char),
    /// What there is.
    Help,
    /// Ends all.
    Quit,
    /// A `:` with something that is none of these.
    Unknown,
}

/// The letter, if it is one of a connection.
fn letter(word: &[u8]) -> Option<char> {
    match word {
        [letter @ b'a'..=b'z'] => Some(char::from(*letter)),
        _ => None,
    }
}

/// Takes a line apart.
pub fn parse(line: &[u8]) -> Input<'_> {
    let line = line.trim_ascii();
    let Some(local) = line.strip_prefix(b":") else {
        return match line.is_empty() {
            true => Input::Nothing,
            false => Input::Request(FIRST, line),
        };
    };
    let end = local
        .iter()
        .position(|&byte| byte == b' ')
        .unwrap_or(local.len());
    let (word, rest) = (&local[..end], local[end..].trim_ascii());
    match (word, rest) {
        (b"quit" | b"q" | b"exit", b"") => Input::Quit,
        (b"help" | b"h" | b"?", b"") => Input::Help,
        (b"close", b"") => Input::Close(FIRST),
        (b"close", rest) => letter(rest).map_or(Input::Unknown, Input::Close),
        (_, b"") => Input::Unknown,
        (word, rest) => letter(word).map_or(Input::Unknown, |letter| Input::Request(letter, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_is_for_the_shell() {
        for (line, input) in [
            ("", Input::Nothing),
            ("  \r", Input::Nothing),
            ("lock k", Input::Request('a', b"lock k")),
            (":b lock k", Input::Request('b', b"lock k")),
            (" :b   lock k ", Input::Request('b', b"lock k")),
            (":close b", Input::Close('b')),
            (":close", Input::Close('a')),
            (":close bb", Input::Unknown),
            (":quit", Input::Quit),
            (":help", Input::Help),
            (":b", Input::Unknown),
            (":B lock k", Input::Unknown),
            (":", Input::Unknown),
            (": lock k", Input::Unknown),
        ] {
            assert_eq!(parse(line.as_bytes()), input, "{line:?}");
        }
    }
}
