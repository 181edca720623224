//! What a connection needs of the stream under it, beyond reading and writing.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A client's byte stream.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Writes as much as goes without waiting.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

macro_rules! socket_transport {
    ($socket:ty) => {
        impl Transport for $socket {
            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
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
}
