//! What a connection needs of the stream under it, beyond reading and writing.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

/// How often a stream that is not read from is asked whether its peer is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A client's byte stream.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Writes as much as goes without waiting.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Returns once the peer has ended the connection, or the connection has failed, although
    /// input may stand unread before that end. For a stream that cannot tell, never.
    fn peer_gone(&self) -> impl Future<Output = ()> + Send;
}

macro_rules! socket_transport {
    ($socket:ty) => {
        impl Transport for $socket {
            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }

            async fn peer_gone(&self) {
                loop {
                    // With input unread the socket is ready all the time, so this has to look
                    // now and then instead of being woken.
                    tokio::time::sleep(LOOK_EVERY).await;
                    match self.ready(Interest::READABLE | Interest::ERROR).await {
                        Ok(ready) if !ready.is_read_closed() && !ready.is_error() => {}
                        _ => return,
                    }
                }
            }
        }
    };
}

socket_transport!(TcpStream);
socket_transport!(UnixStream);

#[cfg(test)]
impl Transport for tokio::io::DuplexStream {
    fn try_write(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    async fn peer_gone(&self) {
        std::future::pending().await
    }
}
