//! The client's stream under a connection, and the options of its socket.

use std::io;
use std::task::Context;
#[cfg(feature = "keepalive")]
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tracing::debug;

use crate::config::Config;

/// A client's byte stream.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether bytes were written that are still with the stream, and not with the system. A flush
    /// waits until they are.
    fn holds_back(&self) -> bool {
        false
    }

    /// Tells the client that this end is meant, where a stream can tell that from a cut; as far as that
    /// goes without waiting.
    fn part(&mut self, _context: &mut Context<'_>) {}
}

/// A stream that takes a few bytes before it has a task.
pub(super) trait TryWrite {
    /// Writes as much as goes without waiting.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

macro_rules! socket_transport {
    ($socket:ty) => {
        impl Transport for $socket {}

        impl TryWrite for $socket {
            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }
        }
    };
}

socket_transport!(TcpStream);
socket_transport!(UnixStream);

#[cfg(any(test, fuzzing))]
impl Transport for tokio::io::DuplexStream {}

/// Sets the options of an accepted socket. A connection that refuses them is served all the same.
#[cfg_attr(not(feature = "keepalive"), expect(unused_variables))]
pub(crate) fn configure(stream: &TcpStream, config: &Config) {
    let configured = stream.set_nodelay(true);
    #[cfg(feature = "keepalive")]
    let configured = configured.and_then(|()| keep_alive(stream, config.keepalive_secs));
    if let Err(error) = configured {
        debug!("cannot configure a connection: {error}");
    }
}

/// Makes the kernel end a connection if nothing was heard from its peer for `seconds`: after half
/// of that time the kernel asks, three times, and gives up. Answers that the peer does not
/// acknowledge are limited to the same time, as keepalive does not cover them.
#[cfg(feature = "keepalive")]
fn keep_alive(stream: &TcpStream, seconds: u32) -> io::Result<()> {
    if seconds == 0 {
        return Ok(());
    }
    let second = Duration::from_secs(1);
    let whole = Duration::from_secs(seconds.into());
    let probes = socket2::TcpKeepalive::new()
        .with_time((whole / 2).max(second))
        .with_interval((whole / 6).max(second))
        .with_retries(3);
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(whole))?;
    Ok(())
}

#[cfg(all(test, feature = "keepalive"))]
mod tests {
    use super::*;
    use socket2::SockRef;
    use tokio::net::TcpListener;

    async fn accepted_with(seconds: u32) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        drop(client);
        let (stream, _) = accepted.expect("a connection");
        keep_alive(&stream, seconds).expect("a socket takes these options");
        stream
    }

    #[tokio::test]
    async fn a_peer_that_died_without_a_word_is_noticed_within_the_time_set() {
        let stream = accepted_with(60).await;
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("an option"));
        let idle = socket.tcp_keepalive_time().expect("an option");
        let interval = socket.tcp_keepalive_interval().expect("an option");
        let probes = socket.tcp_keepalive_retries().expect("an option");
        assert_eq!(idle + interval * probes, Duration::from_secs(60));
        #[cfg(target_os = "linux")]
        {
            let unacknowledged = socket.tcp_user_timeout().expect("an option");
            assert_eq!(unacknowledged, Some(Duration::from_secs(60)));
        }
    }

    #[tokio::test]
    async fn the_shortest_time_is_still_valid_and_zero_turns_it_off() {
        assert!(
            SockRef::from(&accepted_with(1).await)
                .keepalive()
                .expect("an option")
        );
        assert!(
            !SockRef::from(&accepted_with(0).await)
                .keepalive()
                .expect("an option")
        );
    }
}
