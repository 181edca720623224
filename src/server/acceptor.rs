//! Accepting connections, whatever becomes of them then.

use std::io;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::listener::{Arrived, Listener};

/// How long accepting pauses when no file descriptor is left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The log says at most this often that accepting pauses.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Accepts the connections of one port.
#[derive(Debug, Default)]
pub(crate) struct Acceptor {
    /// When the log last said that accepting pauses, which may come and go many times a second.
    warned: Option<Instant>,
    /// The log has not said since then that accepting goes on.
    paused: bool,
}

impl Acceptor {
    /// Waits until a connection can be accepted. Cancel safe.
    pub(crate) async fn next(&mut self, listener: &Listener) -> Arrived {
        loop {
            match listener.accept().await {
                Ok(arrived) => {
                    if std::mem::take(&mut self.paused) {
                        info!("accepting connections again");
                    }
                    return arrived;
                }
                Err(error) if is_about_one_connection(&error) => debug!("cannot accept: {error}"),
                Err(error) => self.pause(&error).await,
            }
        }
    }

    async fn pause(&mut self, error: &io::Error) {
        let warned = self.warned;
        if warned.is_none_or(|before| before.elapsed() >= WARN_EVERY) {
            warn!("cannot accept connections for now: {error}");
            self.warned = Some(Instant::now());
            self.paused = true;
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Whether the error is about one connection that ended before it was accepted; the next may be
/// fine.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}
