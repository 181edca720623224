//! A connection's bytes, by TCP or by a unix socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::nearby::Target;

/// Either of them.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or the system lacks something.
    pub async fn connect(target: &Target) -> io::Result<Self> {
        match target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Target::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }

    /// Reads what is there.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, to),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, to),
        }
    }

    /// Writes all of it: at once, unless the server does not read. It always reads on in the end, as
    /// the answers to one batch are fewer bytes than it lets wait.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        async fn write(mut stream: impl AsyncWrite + Unpin, bytes: &[u8]) -> io::Result<()> {
            stream.write_all(bytes).await
        }
        match self {
            Self::Tcp(stream) => write(stream, bytes).await,
            Self::Unix(stream) => write(stream, bytes).await,
        }
    }
}
