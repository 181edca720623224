//! One connection, one request after the other: what is underneath, for those who want just that.

use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::access::Access;
use crate::address::{Address, Servers};
use crate::answer::{Answer, Incoming};
use crate::command::Command;
use crate::error::{ConnectionError, Error};

/// How long a server may take to accept a connection, and to answer what does not wait, unless an
/// option says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// How much is read at once.
const READ_SIZE: usize = 16 << 10;

/// What comes from a server.
pub type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// What goes to a server.
pub type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// Connects to one server, and says nothing yet.
async fn open(
    address: &Address,
    access: &Access,
) -> Result<(ReadHalf, WriteHalf), ConnectionError> {
    let failed = |error| failed(address, error);
    Ok(match address {
        Address::Tcp(host_and_port) => {
            let (read, write) = connect(host_and_port).await.map_err(failed)?.into_split();
            (Box::new(read), Box::new(write))
        }
        Address::Tls(host_and_port) => {
            let stream = connect(host_and_port).await.map_err(failed)?;
            encrypted(stream, address, access).await?
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(failed)?;
            let (read, write) = stream.into_split();
            (Box::new(read), Box::new(write))
        }
    })
}

/// A request that waits hears nothing for as long as it takes, also where the other side has ended the
/// connection while the network was gone: so the system asks, and learns of it within a minute and a half.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

async fn connect(host_and_port: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(host_and_port).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

#[cfg(feature = "tls")]
async fn encrypted(
    stream: TcpStream,
    address: &Address,
    access: &Access,
) -> Result<(ReadHalf, WriteHalf), ConnectionError> {
    let stream = crate::tls::encrypt(stream, address, access).await?;
    let (read, write) = tokio::io::split(stream);
    Ok((Box::new(read), Box::new(write)))
}

#[cfg(not(feature = "tls"))]
async fn encrypted(
    _: TcpStream,
    address: &Address,
    _: &Access,
) -> Result<(ReadHalf, WriteHalf), ConnectionError> {
    Err(ConnectionError::Tls {
        address: address.clone(),
        reason: "elocks:// needs the feature tls of elock-client".to_owned(),
    })
}

pub(crate) fn failed(address: &Address, error: std::io::Error) -> ConnectionError {
    #[cfg(feature = "tls")]
    if let Some(reason) = crate::tls::reason(&error) {
        return ConnectionError::Tls {
            address: address.clone(),
            reason,
        };
    }
    ConnectionError::Io {
        address: address.clone(),
        error: Arc::new(error),
    }
}

/// Whether it is what a port for TLS answers to anything else.
fn speaks_tls_only(answer: &Answer) -> bool {
    answer.code == 400 && answer.text == b"This port speaks TLS only"
}

/// What an answer means that is none to a request of the client's user.
pub(crate) fn turned_away(address: &Address, answer: &Answer) -> ConnectionError {
    let (address, code, text) = (address.clone(), answer.code, answer.text());
    match code {
        _ if speaks_tls_only(answer) => ConnectionError::Tls {
            reason: format!("this port speaks TLS only: name it elocks://{address}"),
            address,
        },
        401 => ConnectionError::Unauthorized { address, text },
        _ => ConnectionError::TurnedAway {
            address,
            code,
            text,
        },
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
    /// Connects, within [`DEFAULT_DEADLINE`], and says nothing of who comes: for that, see
    /// [`Connection::to`].
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
        Self::begin(address, &Access::default(), deadline).await
    }

    /// Connects to this one of the servers, as [`Connection::connect_within`] does, and is let in as the
    /// servers' [user](Servers::user).
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or does not let this user in.
    pub async fn to(
        servers: &Servers,
        address: &Address,
        deadline: Duration,
    ) -> Result<Self, Error> {
        servers.access.check(std::slice::from_ref(address))?;
        Ok(Self::begin(address, &servers.access, deadline).await?)
    }

    /// Of an access that was looked at.
    pub(crate) async fn begin(
        address: &Address,
        access: &Access,
        deadline: Duration,
    ) -> Result<Self, ConnectionError> {
        let connecting = async {
            let (read, write) = open(address, access).await?;
            let mut connection = Self {
                address: address.clone(),
                read,
                write,
                incoming: Incoming::default(),
                deadline,
                is_in_doubt: false,
            };
            if let Some(line) = access.auth().and_then(|auth| auth.line().ok()) {
                connection.send(line.as_bytes()).await?;
                let answer = connection.receive(false).await?;
                if answer.code != 200 {
                    return Err(turned_away(address, &answer));
                }
            }
            Ok(connection)
        };
        timeout(deadline, connecting).await.unwrap_or_else(|_| {
            Err(ConnectionError::TimedOut {
                address: address.clone(),
                after: deadline,
            })
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
        match speaks_tls_only(&answer) {
            true => Err(turned_away(&self.address, &answer).into()),
            false => C::read(answer.done()?),
        }
    }

    /// Sends bytes as they are: whole lines, with their ends.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let writing = async {
            self.write.write_all(bytes).await?;
            self.write.flush().await
        };
        match timeout(self.deadline, writing).await {
            Ok(written) => written.map_err(|error| failed(&self.address, error)),
            Err(_) => Err(ConnectionError::TimedOut {
                address: self.address.clone(),
                after: self.deadline,
            }),
        }
    }

    /// The connection's bytes, for whoever speaks the protocol by itself. What is written is to be flushed.
    /// Nothing may have been asked without reading its answer.
    pub fn into_halves(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_is_gone_is_noticed_by_the_system() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let address = listener.as_ref().map(|one| one.local_addr());
        let address = address.expect("a free port").expect("bound").to_string();
        let stream = connect(&address).await.expect("it listens");
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("a socket"));
        assert_eq!(socket.tcp_keepalive_time().expect("set"), KEEPALIVE_TIME);
    }
}
