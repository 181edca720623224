//! A client's stream under TLS.

use std::pin::Pin;
use std::task::Context;

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::server::transport::Transport;

/// Boxed, as it is a kilobyte that is moved into the connection.
pub(super) type Encrypted = Box<TlsStream<TcpStream>>;

/// How many bytes of answers a stream takes beyond what the system takes: one record of TLS. They are
/// encrypted, and what they say cannot be looked at again.
pub(super) const MOST_HELD_BACK: usize = 16 << 10;

impl Transport for Encrypted {
    fn holds_back(&self) -> bool {
        let (_, session) = self.get_ref();
        session.wants_write()
    }

    /// Says `close_notify`, without which a client takes the end for a cut by an attacker. If it does
    /// not go at once, the client does not read.
    fn part(&mut self, context: &mut Context<'_>) {
        let _ = Pin::new(&mut **self).poll_shutdown(context);
    }
}
