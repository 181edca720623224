//! The file between `elockd export` and `elockd import`: a line of text for each session and each lock.
//!
//! ```text
//! elock-export format=1 tokens_above=9007 session_numbers_above=12
//! session number=7 grace_ms=30000 secret=2f77…
//! lock token=9001 session=7 key=report
//! lock token=9006 owner=nightly key=pool slots=3 lease_ms=60000
//! end lines=3 sha256=91ab…
//! ```
//!
//! Names and keys are shown as everywhere ([`Visible`]), and a space in one as `\x20`. Of a session's secret
//! there is the SHA-256. The last line is that of all before it, so that no line is lost or changed unnoticed:
//! a lock that is lost is given away.

use std::fmt::{self, Write as _};
use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::config::TEN_YEARS_MS;
use crate::model::{
    Holder, Key, Mode, Restored, RestoredSession, SecretDigest, SessionNumber, StoredGrant, Token,
    Visible, unescape,
};

/// The newest format.
const FORMAT: u64 = 1;

/// What a file begins with.
const NAME: &str = "elock-export";

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// It is something else.
    #[error("it is no export of elockd")]
    Other,
    /// A later version has written it.
    #[error("it has format {0}, and this elockd knows those up to {FORMAT}")]
    Newer(u64),
    /// Its last line is not there.
    #[error("its end is missing")]
    Cut,
    /// It is not what was written.
    #[error("it was changed or damaged since it was written")]
    Damaged,
    /// A line is none of an export, though all of them are there.
    #[error("line {line}: {what}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

/// Writes the state.
///
/// # Errors
///
/// Those of `to`.
pub(super) fn write(state: &Restored, to: &mut impl Write) -> io::Result<()> {
    let mut file = Summed {
        to,
        sum: Sha256::new(),
    };
    let (tokens, numbers) = (state.tokens_above.0, state.session_numbers_above.0);
    writeln!(
        file,
        "{NAME} format={FORMAT} tokens_above={tokens} session_numbers_above={numbers}"
    )?;
    for session in &state.sessions {
        writeln!(file, "{}", session_line(session))?;
    }
    for (token, grant) in &state.grants {
        writeln!(file, "{}", lock_line(*token, grant))?;
    }
    let (lines, sum) = (
        state.sessions.len() + state.grants.len(),
        hex(&file.sum.finalize()),
    );
    writeln!(to, "end lines={lines} sha256={sum}")?;
    to.flush()
}

struct Summed<'a, W> {
    to: &'a mut W,
    sum: Sha256,
}

impl<W: Write> Write for Summed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn session_line(session: &RestoredSession) -> String {
    let mut line = format!(
        "session number={} grace_ms={}",
        session.number.0,
        session.grace.as_millis()
    );
    if let Some(digest) = &session.secret {
        put(&mut line, "secret", hex(digest));
    }
    if let Some(user) = &session.user {
        put(&mut line, "user", word(user));
    }
    line
}

fn lock_line(token: Token, grant: &StoredGrant) -> String {
    let mut line = format!("lock token={}", token.0);
    match &grant.holder {
        Holder::Session(number) => put(&mut line, "session", number.0),
        Holder::Owner(owner) => put(&mut line, "owner", word(owner)),
    }
    put(&mut line, "key", word(&grant.key));
    match &grant.mode {
        Mode::Exclusive => {}
        Mode::Shared(value) => put(&mut line, "value", word(value)),
        Mode::Slot(slots) => put(&mut line, "slots", slots),
    }
    if let Some(lease) = grant.lease {
        put(&mut line, "lease_ms", lease.as_millis());
    }
    line
}

fn put(line: &mut String, name: &str, value: impl fmt::Display) {
    // A string takes all.
    let _ = write!(line, " {name}={value}");
}

/// As one word.
fn word(key: &Key) -> String {
    Visible(key.as_bytes()).to_string().replace(' ', "\\x20")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // A string takes all.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Reads a file, all of it or nothing.
///
/// # Errors
///
/// When it is not all there, or not what was written.
pub(super) fn read(mut from: impl Read) -> Result<Restored, BadFile> {
    let mut text = Vec::new();
    from.read_to_end(&mut text)?;
    if !text.starts_with(NAME.as_bytes()) {
        return Err(BadFile::Other);
    }
    let text = String::from_utf8(text).map_err(|_| BadFile::Damaged)?;
    let mut lines = text.split_inclusive('\n');
    let first = lines.next().unwrap_or_default();
    let mut state = head(first)?;
    let last = lines.next_back().filter(|last| last.ends_with('\n'));
    let last = last
        .filter(|last| last.starts_with("end "))
        .ok_or(BadFile::Cut)?;
    let count = lines.clone().count();
    let sum = hex(&Sha256::digest(&text[..text.len() - last.len()]));
    if last != format!("end lines={count} sha256={sum}\n") {
        return Err(BadFile::Damaged);
    }
    for (place, line) in lines.enumerate() {
        let added = add(&mut state, line.trim_end_matches('\n'));
        added.map_err(|what| BadFile::Line {
            line: place + 2,
            what,
        })?;
    }
    Ok(state)
}

/// The state without what the lines behind the first one add.
fn head(line: &str) -> Result<Restored, BadFile> {
    let mut fields = Fields::of(line.trim_end_matches('\n'));
    let wrong = |what| BadFile::Line { line: 1, what };
    match fields.number("format").map_err(wrong)? {
        1..=FORMAT => {}
        newer => return Err(BadFile::Newer(newer)),
    }
    let mut mark = |name| match fields.number(name).map_err(wrong)? {
        mark @ 0..=Restored::HIGHEST => Ok(mark),
        _ => Err(wrong(format!("{name} is too high"))),
    };
    let state = Restored {
        tokens_above: Token(mark("tokens_above")?),
        session_numbers_above: SessionNumber(mark("session_numbers_above")?),
        ..Restored::default()
    };
    fields.end().map(|()| state).map_err(wrong)
}

fn add(state: &mut Restored, line: &str) -> Result<(), String> {
    let mut fields = Fields::of(line);
    match fields.kind {
        "session" => {
            let session = session_in(&mut fields)?;
            let last = state.sessions.last().map(|last| last.number);
            if last >= Some(session.number) || session.number > state.session_numbers_above {
                return Err("the session's number is out of order".to_owned());
            }
            state.sessions.push(session);
        }
        "lock" => {
            let (token, grant) = lock_in(&mut fields)?;
            let last = state.grants.last().map(|(last, _)| *last);
            if last >= Some(token) || token > state.tokens_above {
                return Err("the token is out of order".to_owned());
            }
            state.grants.push((token, grant));
        }
        _ => return Err("it is of no known kind".to_owned()),
    }
    fields.end()
}

fn session_in(fields: &mut Fields<'_>) -> Result<RestoredSession, String> {
    Ok(RestoredSession {
        number: SessionNumber(fields.number("number")?),
        grace: time("grace_ms", fields.required("grace_ms")?)?,
        secret: fields.optional("secret").map(digest).transpose()?,
        user: fields.optional("user").map(key),
    })
}

fn lock_in(fields: &mut Fields<'_>) -> Result<(Token, StoredGrant), String> {
    let token = Token(fields.number("token")?);
    let holder = match fields.optional("owner") {
        Some(owner) => Holder::Owner(key(owner)),
        None => Holder::Session(SessionNumber(fields.number("session")?)),
    };
    let locked = key(fields.required("key")?);
    let mode = match (fields.optional("value"), fields.optional("slots")) {
        (None, None) => Mode::Exclusive,
        (Some(value), None) => Mode::Shared(key(value)),
        (None, Some(slots)) => Mode::Slot(number::<NonZeroU32>("slots", slots)?),
        (Some(_), Some(_)) => return Err("a lock has a value or slots".to_owned()),
    };
    let lease = fields.optional("lease_ms");
    let lease = lease.map(|ms| time("lease_ms", ms)).transpose()?;
    let grant = StoredGrant {
        holder,
        key: locked,
        mode,
        lease,
    };
    Ok((token, grant))
}

fn key(word: &str) -> Key {
    Key::new(&unescape(word.as_bytes()))
}

fn digest(hex: &str) -> Result<SecretDigest, String> {
    let byte = |at: usize| {
        let digits = hex.get(2 * at..2 * at + 2)?;
        u8::from_str_radix(digits, 16).ok()
    };
    let mut digest = SecretDigest::default();
    for (at, to) in digest.iter_mut().enumerate() {
        *to = byte(at).ok_or("the secret's digest is none")?;
    }
    Ok(digest)
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{name}={text} is no number"))
}

/// A time that can be waited for.
fn time(name: &str, text: &str) -> Result<Duration, String> {
    match number(name, text)? {
        ms @ 0..=TEN_YEARS_MS => Ok(Duration::from_millis(ms)),
        _ => Err(format!("{name}={text} is longer than ten years")),
    }
}

/// The words of a line: its kind, and `name=value`s in a fixed order.
struct Fields<'a> {
    kind: &'a str,
    rest: std::iter::Peekable<std::str::Split<'a, char>>,
}

impl<'a> Fields<'a> {
    fn of(line: &'a str) -> Self {
        let mut words = line.split(' ');
        Self {
            kind: words.next().unwrap_or_default(),
            rest: words.peekable(),
        }
    }

    /// The value of the next word, if it has this name.
    fn optional(&mut self, name: &str) -> Option<&'a str> {
        let value = |word: &&'a str| word.strip_prefix(name)?.strip_prefix('=');
        let value = self.rest.peek().and_then(value)?;
        self.rest.next();
        Some(value)
    }

    fn required(&mut self, name: &str) -> Result<&'a str, String> {
        let value = self.optional(name);
        value.ok_or_else(|| format!("{name}=… is missing"))
    }

    fn number(&mut self, name: &str) -> Result<u64, String> {
        number(name, self.required(name)?)
    }

    fn end(mut self) -> Result<(), String> {
        match self.rest.next() {
            None => Ok(()),
            Some(word) => Err(format!("{} is not known here", Visible(word.as_bytes()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(state: &Restored) -> String {
        let mut file = Vec::new();
        write(state, &mut file).expect("memory takes all");
        String::from_utf8(file).expect("text")
    }

    fn state() -> Restored {
        let grant = |holder, key: &[u8], mode, lease| StoredGrant {
            holder,
            key: Key::new(key),
            mode,
            lease,
        };
        let (by_session, slots) = (Holder::Session(SessionNumber(7)), NonZeroU32::MIN);
        let by_owner = Holder::Owner(Key::new(b"nightly \xff"));
        let minute = Some(Duration::from_secs(60));
        Restored {
            tokens_above: Token(9007),
            session_numbers_above: SessionNumber(12),
            sessions: vec![
                RestoredSession {
                    number: SessionNumber(7),
                    grace: Duration::from_secs(30),
                    secret: Some([0xa5; 32]),
                    user: Some(Key::new("zoë".as_bytes())),
                },
                RestoredSession {
                    number: SessionNumber(12),
                    grace: Duration::ZERO,
                    secret: None,
                    user: None,
                },
            ],
            grants: vec![
                (
                    Token(1),
                    grant(by_session.clone(), b"a=b\\x20", Mode::Exclusive, None),
                ),
                (
                    Token(2),
                    grant(by_session, b"", Mode::Shared(Key::new(b"")), None),
                ),
                (
                    Token(9007),
                    grant(by_owner, b"\n", Mode::Slot(slots), minute),
                ),
            ],
        }
    }

    #[test]
    fn a_file_says_what_was_written() {
        assert_eq!(
            read(written(&state()).as_bytes()).expect("it reads"),
            state()
        );
        let nothing = Restored::default();
        assert_eq!(
            read(written(&nothing).as_bytes()).expect("it reads"),
            nothing
        );
        let expected = "\
elock-export format=1 tokens_above=9007 session_numbers_above=12
session number=7 grace_ms=30000 secret=a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5 user=zoë
session number=12 grace_ms=0
lock token=1 session=7 key=a=b\\x5Cx20
lock token=2 session=7 key= value=
lock token=9007 owner=nightly\\x20\\xFF key=\\x0A slots=1 lease_ms=60000
end lines=5 sha256=";
        let file = written(&state());
        assert!(file.starts_with(expected), "{file}");
    }

    #[test]
    fn a_file_that_is_not_what_was_written_is_not_taken() {
        let file = written(&state());
        for end in 0..file.len() {
            if file.is_char_boundary(end) {
                assert!(read(&file.as_bytes()[..end]).is_err(), "cut at {end}");
            }
        }
        let lines: Vec<&str> = file.split_inclusive('\n').collect();
        for gone in 0..lines.len() {
            let mut fewer = lines.clone();
            fewer.remove(gone);
            assert!(read(fewer.concat().as_bytes()).is_err(), "without {gone}");
        }
        for at in 0..file.len() {
            let mut changed = file.clone().into_bytes();
            changed[at] ^= 1;
            assert!(read(&changed[..]).is_err(), "changed at {at}");
        }
        assert!(read([&file[..], "\n"].concat().as_bytes()).is_err());
    }

    /// A file with this line, whose last one is right.
    fn with_line(line: &str) -> String {
        let text = format!("{NAME} format=1 tokens_above=9 session_numbers_above=9\n{line}\n");
        let sum = hex(&Sha256::digest(&text));
        let lines = line.lines().count();
        format!("{text}end lines={lines} sha256={sum}\n")
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told() {
        let digest = "00".repeat(32);
        let sound =
            format!("session number=1 grace_ms=5 secret={digest}\nlock token=9 session=1 key=k");
        assert!(read(with_line(&sound).as_bytes()).is_ok());
        for (line, what) in [
            ("hold token=1", "no known kind"),
            ("lock token=1 key=k", "session=… is missing"),
            ("lock token=10 session=1 key=k", "out of order"),
            (
                "lock token=2 session=1 key=k\nlock token=2 session=1 key=l",
                "out of order",
            ),
            ("lock token=x session=1 key=k", "token=x is no number"),
            (
                "lock token=1 session=1 key=k slots=0",
                "slots=0 is no number",
            ),
            (
                "lock token=1 session=1 key=k value=v slots=1",
                "a value or slots",
            ),
            ("lock token=1 session=1 key=k more=1", "more=1 is not known"),
            ("lock token=1 session=1 owner=o key=k", "is missing"),
            (
                "lock token=1 session=1 key=k lease_ms=400000000000",
                "longer than ten years",
            ),
            ("session number=10 grace_ms=1", "out of order"),
            ("session number=1 grace_ms=1 secret=00", "digest is none"),
        ] {
            let error = read(with_line(line).as_bytes())
                .expect_err(line)
                .to_string();
            assert!(error.contains(what), "{line}: {error}");
        }
        let high = with_line("").replace("=9 ", "=9000000000000000000 ");
        let high = read(high.as_bytes()).expect_err("no server goes on from it");
        assert!(
            high.to_string().contains("tokens_above is too high"),
            "{high}"
        );
        let newer = b"elock-export format=2 something=else\n";
        assert!(matches!(read(&newer[..]), Err(BadFile::Newer(2))));
        assert!(matches!(read(&b"#!/bin/sh\n"[..]), Err(BadFile::Other)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn every_key_comes_back(key: Vec<u8>, value: Vec<u8>, owner: Vec<u8>) {
            let grant = StoredGrant {
                holder: Holder::Owner(Key::new(&owner)),
                key: Key::new(&key),
                mode: Mode::Shared(Key::new(&value)),
                lease: None,
            };
            let state = Restored {
                tokens_above: Token(1),
                grants: vec![(Token(1), grant)],
                ..Restored::default()
            };
            prop_assert_eq!(read(written(&state).as_bytes()).expect("it reads"), state);
        }
    }
}
