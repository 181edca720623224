//! What has to be known of a request's line to wait for its answer.

use std::time::Duration;

/// The commands whose `200` goes on with lines.
const LISTINGS: [&[u8]; 6] = [b"stats", b"info", b"locks", b"sessions", b"debug", b"help"];

/// A server answers a request that does not wait within this time.
const DEADLINE: Duration = Duration::from_secs(5);
/// The listings of a full server are long or searched for long, and wait for their turn.
const DEADLINE_OF_LISTINGS: Duration = Duration::from_secs(60);

/// The longest line that is sent; servers take less, unless they are set to more.
pub const LONGEST_LINE: usize = 1 << 20;

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = line.trim_ascii_end();
    line.split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
}

/// Whether a `200` goes on with lines up to `END`. The server does so for listings alone, and answers
/// one with too many words by a `400`.
pub fn is_listing(line: &[u8]) -> bool {
    words(line)
        .next()
        .is_some_and(|command| LISTINGS.contains(&command))
}

/// Whether the server closes the connection behind the answer.
pub fn is_last(line: &[u8]) -> bool {
    words(line).next() == Some(b"quit")
}

/// How long the request says that it will wait.
pub fn wait(line: &[u8]) -> Duration {
    let mut words = words(line);
    let place = match words.next() {
        Some(b"lock") => 1,
        Some(b"lock_value" | b"lock_slot" | b"watch") => 2,
        Some(b"lock_all") => 0,
        _ => return Duration::ZERO,
    };
    let seconds = words
        .nth(place)
        .and_then(|word| std::str::from_utf8(word).ok());
    let seconds = seconds.and_then(|word| word.parse::<f64>().ok());
    // Waits that are longer than the server allows are cut by it.
    let seconds = seconds
        .filter(|seconds| *seconds >= 0.0)
        .map(|seconds| seconds.min(4_294_968.0));
    seconds.map_or(Duration::ZERO, Duration::from_secs_f64)
}

/// How long its answer may take.
pub fn deadline(line: &[u8]) -> Duration {
    match words(line).next() {
        Some(b"debug" | b"locks" | b"sessions") => DEADLINE_OF_LISTINGS,
        _ => wait(line) + DEADLINE,
    }
}

/// Whether it holds a password, or a session's id, by which anyone can take the session over.
pub fn has_secret(line: &[u8]) -> bool {
    let mut words = words(line);
    let first = words.next();
    // What is typed with too many blanks or for another connection is a secret, too.
    let command = match first {
        Some(word) if word.starts_with(b":") => words.next(),
        word => word,
    };
    matches!(command, Some(b"auth" | b"conn_id" | b"resume")) && words.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_found_where_the_protocol_has_them() {
        for (line, ms) in [
            ("lock k", 0),
            ("lock k 5", 5_000),
            ("  lock   k   0.5\r", 500),
            ("lock k 5 job-7 60000", 5_000),
            ("lock_value k v 7", 7_000),
            ("lock_slot k 9 7", 7_000),
            ("lock_all 3 a b", 3_000),
            ("watch k free 2", 2_000),
            ("watch k", 0),
            ("lock k -1", 0),
            ("lock k nan", 0),
            ("lock k inf", 4_294_968_000),
            ("expire k 60000", 0),
            ("", 0),
        ] {
            assert_eq!(wait(line.as_bytes()), Duration::from_millis(ms), "{line}");
        }
    }

    #[test]
    fn an_id_and_a_password_are_secrets_however_they_are_typed() {
        for line in [
            "auth x",
            ":b  auth web x",
            "resume 1-ab",
            " conn_id  1-ab",
            ":b resume 1-ab",
            ":b  conn_id 1-ab ",
        ] {
            assert!(has_secret(line.as_bytes()), "{line}");
        }
        for line in ["conn_id", ":b conn_id", "lock resume x", ""] {
            assert!(!has_secret(line.as_bytes()), "{line}");
        }
    }
}
