//! Why nothing could be measured, or not to the end.

use std::io;

use elock::model::Visible;

use super::nearby::FarAway;

/// What ended the measurement, or did not let it begin.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The flags ask for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// The server is not of this machine.
    #[error(transparent)]
    FarAway(#[from] FarAway),
    /// A connection to the server cannot be made.
    #[error("no connection to the server: {0}")]
    Connecting(io::Error),
    /// The connection broke.
    #[error("the connection to the server broke: {0}")]
    Broken(io::Error),
    /// The server closed the connection.
    #[error("the server closed a connection before it had answered all of its requests")]
    Closed,
    /// What listens there does not speak eLock.
    #[error("this is no answer of an eLock server: {0}")]
    NotAnAnswer(String),
    /// More answers came than requests were sent.
    #[error("the server sends answers for which nobody asked: {0}")]
    NotAskedFor(String),
    /// The server refuses the first request of a connection.
    #[error("the server refuses a new connection's {request:?}: {answer}")]
    TurnedAway {
        /// What was sent.
        request: &'static str,
        /// Its words.
        answer: String,
    },
    /// Nothing came for a long time.
    #[error("no answer for {seconds} seconds, and {clients} clients wait for one")]
    Silent {
        /// How long.
        seconds: u64,
        /// How many connections wait.
        clients: u64,
    },
    /// Answers were still to come long after the end.
    #[error("{seconds} seconds after the end {clients} clients still wait for an answer")]
    Slow {
        /// How long.
        seconds: u64,
        /// How many connections wait.
        clients: u64,
    },
    /// What was asked of the server beside the measurement.
    #[error(transparent)]
    Asked(#[from] elock_client::Error),
    /// The system lacks something.
    #[error("cannot start: {0}")]
    System(io::Error),
}

/// The beginning of a line, safe to show.
pub fn shown(line: &[u8]) -> String {
    const MOST: usize = 100;
    let line = line.trim_ascii_end();
    let more = if line.len() > MOST { "..." } else { "" };
    let beginning = &line[..line.len().min(MOST)];
    format!("\"{}{more}\"", Visible(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_sends_is_shown_without_its_control_characters() {
        assert_eq!(shown(b"403 \x1b[2Jx\r\n"), r#""403 \x1B[2Jx""#);
        let long = shown(&[b'x'; 5000]);
        assert!(long.len() < 120 && long.ends_with("...\""), "{long}");
    }
}
