//! A connection's bytes, however they come.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use elock_client::{ReadHalf, WriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::failure::Failure;
use super::nearby::{Place, Target};

/// One of them.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// One that was let in, perhaps by TLS.
    LetIn(ReadHalf, WriteHalf),
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or the system lacks something.
    pub async fn connect(target: &Target) -> Result<Self, Failure> {
        let connected = match &target.place {
            Place::Tcp(address) if !target.is_guarded() => by_tcp(address).await.map(Self::Tcp),
            Place::Unix(path) if !target.is_guarded() => {
                UnixStream::connect(path).await.map(Self::Unix)
            }
            _ => {
                let (read, write) = target.connect().await?.into_halves();
                return Ok(Self::LetIn(read, write));
            }
        };
        connected.map_err(Failure::Connecting)
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
            Self::LetIn(stream, _) => Pin::new(stream).poll_read(cx, to),
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
            stream.write_all(bytes).await?;
            stream.flush().await
        }
        match self {
            Self::Tcp(stream) => write(stream, bytes).await,
            Self::Unix(stream) => write(stream, bytes).await,
            Self::LetIn(_, stream) => write(stream, bytes).await,
        }
    }
}

async fn by_tcp(address: &SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
