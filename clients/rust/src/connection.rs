//! One connection, one request after the other: what is underneath, for those who want just that.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::address::Address;
use crate::answer::{Answer, Incoming};
use crate::command::Command;
use crate::error::{ConnectionError, Error};

/// How long a server may take to accept a connection, and to answer what does not wait, unless an
/// option says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// How much is read at once.
const READ_SIZE: usize = 16 << 10;

pub(crate) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// Connects to one server.
pub(crate) async fn open(
    address: &Address,
    deadline: Duration,
) -> Result<(ReadHalf, WriteHalf), ConnectionError> {
    let connecting = async {
        Ok::<(ReadHalf, WriteHalf), std::io::Error>(match address {
            Address::Tcp(host_and_port) => {
                let stream = TcpStream::connect(host_and_port.as_str()).await?;
                stream.set_nodelay(true)?;
                let (read, write) = stream.into_split();
                (Box::new(read), Box::new(write))
            }
            Address::Unix(path) => {
                let (read, write) = UnixStream::connect(path).await?.into_split();
                (Box::new(read), Box::new(write))
            }
        })
    };
    match timeout(deadline, connecting).await {
        Ok(opened) => opened.map_err(|error| failed(address, error)),
        Err(_) => Err(ConnectionError::TimedOut {
            address: address.clone(),
            after: deadline,
        }),
    }
}

pub(crate) fn failed(address: &Address, error: std::io::Error) -> ConnectionError {
    ConnectionError::Io {
        address: address.clone(),
        error: Arc::new(error),
    }
}

/// A connection to a server, and so a session of its own. It is neither resumed nor kept alive by
/// itself; for that there is [`Client`](crate::Client).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/server.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), elock_client::Error> {
/// # let address = server().await;
/// use elock_client::{Connection, command};
///
/// let mut connection = Connection::connect(&address.parse()?).await?;
/// let info = connection.call(&command::GetInfo {}).await?;
/// println!("{} locks", info.number("locks"));
/// # Ok(())
/// # }
/// ```
pub struct Connection {
    address: Address,
    read: ReadHalf,
    write: WriteHalf,
    incoming: Incoming,
    deadline: Duration,
    /// A call was given up, whose answer would be taken for the next one's.
    is_in_doubt: bool,
}

impl Connection {
    /// Connects, within [`DEFAULT_DEADLINE`].
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub async fn connect(address: &Address) -> Result<Self, ConnectionError> {
        Self::connect_within(address, DEFAULT_DEADLINE).await
    }

    /// Connects, within this time, which is from then on the deadline of each answer, too.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub async fn connect_within(
        address: &Address,
        deadline: Duration,
    ) -> Result<Self, ConnectionError> {
        let (read, write) = open(address, deadline).await?;
        Ok(Self {
            address: address.clone(),
            read,
            write,
            incoming: Incoming::default(),
            deadline,
            is_in_doubt: false,
        })
    }

    /// Sends a command and reads its answer, for which the server has the command's own wait and the
    /// deadline. When this future is dropped before it is ready, or fails by a
    /// [`ConnectionError`], every later call fails: its answer could not be told from that of this one.
    ///
    /// # Errors
    ///
    /// Every answer but a `200`, as what it means.
    pub async fn call<C: Command>(&mut self, command: &C) -> Result<C::Output, Error> {
        let line = command.line()?;
        if std::mem::replace(&mut self.is_in_doubt, true) {
            return Err(Error::Connection(ConnectionError::Closed {
                address: self.address.clone(),
            }));
        }
        self.send(line.as_bytes()).await?;
        let after = command.wait().saturating_add(self.deadline);
        let answer = timeout(after, self.receive(C::IS_LISTING)).await;
        let answer = answer.map_err(|_| ConnectionError::TimedOut {
            address: self.address.clone(),
            after,
        })??;
        self.is_in_doubt = false;
        C::read(answer.done()?)
    }

    /// Sends bytes as they are: whole lines, with their ends.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let written = timeout(self.deadline, self.write.write_all(bytes)).await;
        match written {
            Ok(written) => written.map_err(|error| failed(&self.address, error)),
            Err(_) => Err(ConnectionError::TimedOut {
                address: self.address.clone(),
                after: self.deadline,
            }),
        }
    }

    /// Reads the next answer, however long that takes. `is_listing`: it belongs to a request whose
    /// `200` goes on with lines. Nothing is lost if this future is dropped.
    ///
    /// # Errors
    ///
    /// The connection broke or was closed, or what came is no answer.
    pub async fn receive(&mut self, is_listing: bool) -> Result<Answer, ConnectionError> {
        loop {
            if let Some(answer) = self.incoming.next(is_listing)? {
                return Ok(answer);
            }
            read_more(&mut self.read, &mut self.incoming, &self.address).await?;
        }
    }
}

impl Connection {
    pub(crate) fn into_parts(self) -> (ReadHalf, WriteHalf, Incoming, Address) {
        (self.read, self.write, self.incoming, self.address)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.address)
    }
}

/// Reads what is there, at least one byte. Nothing is lost if this future is dropped.
pub(crate) async fn read_more(
    read: &mut ReadHalf,
    incoming: &mut Incoming,
    address: &Address,
) -> Result<(), ConnectionError> {
    let buffer = incoming.buffer();
    buffer.reserve(READ_SIZE);
    match read.read_buf(buffer).await {
        Ok(0) => Err(ConnectionError::Closed {
            address: address.clone(),
        }),
        Ok(_) => Ok(()),
        Err(error) => Err(failed(address, error)),
    }
}
