//! How a client connects, and how long it waits for what.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Refusals;
use crate::address::Servers;
use crate::client::Client;
use crate::connection::DEFAULT_DEADLINE;
use crate::error::Error;
use crate::word::Line;

/// The shortest grace period: half of it must be enough to notice that a connection is gone, and to
/// make another.
const SHORTEST_GRACE: Duration = Duration::from_secs(1);

/// The longest name that a server takes, in bytes.
const LONGEST_NAME: usize = 128;

/// How a [`Client`] connects.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/server.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), elock_client::Error> {
/// # let servers = server().await;
/// use std::time::Duration;
/// use elock_client::Options;
///
/// // Such as "elock://db1:11400,elock://db2:11400".
/// let client = Options::new(servers.parse()?)
///     .name("web-3:cron")
///     .grace(Duration::from_secs(60))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) servers: Servers,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) grace: Duration,
    pub(crate) margin: Duration,
    pub(crate) connect_deadline: Duration,
    pub(crate) request_deadline: Duration,
    pub(crate) keep_trying: Duration,
    pub(crate) reconnect: Reconnect,
    pub(crate) max_connections: usize,
    pub(crate) refusals: Arc<Refusals>,
}

/// When a client whose connection broke tries to make another: at once, and then again and again,
/// with a pause that doubles and varies by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// The pause behind the first attempt.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(1),
        }
    }
}

impl Options {
    /// With a grace period of 30 s, deadlines of 5 s, and no name.
    pub fn new(servers: Servers) -> Self {
        Self {
            servers,
            name: None,
            grace: Duration::from_secs(30),
            margin: Duration::from_millis(250),
            connect_deadline: DEFAULT_DEADLINE,
            request_deadline: DEFAULT_DEADLINE,
            keep_trying: Duration::ZERO,
            reconnect: Reconnect::default(),
            max_connections: 256,
            refusals: Arc::default(),
        }
    }

    /// As [`Servers::user`] and [`Servers::password`].
    pub fn user(mut self, name: impl Into<Vec<u8>>, password: impl Into<Vec<u8>>) -> Self {
        self.servers = self.servers.user(name).password(password);
        self.refusals = Arc::default();
        self
    }

    /// As [`Servers::password`], where there is one for all.
    pub fn password(mut self, password: impl Into<Vec<u8>>) -> Self {
        self.servers = self.servers.password(password);
        self.refusals = Arc::default();
        self
    }

    /// As [`Servers::ca`].
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.servers = self.servers.ca(file);
        self
    }

    /// As [`Servers::client_certificate`].
    pub fn client_certificate(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.servers = self.servers.client_certificate(cert, key);
        self
    }

    /// What the client's sessions are called, for people who look at the server; at most 128 bytes.
    pub fn name(mut self, name: impl Into<Vec<u8>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long locks outlive a connection that broke, at least a second: within that the client has to
    /// be connected again, and so long does a lock stay behind when the client's process dies.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long before another could have a lock it is called lost: the time that its holder needs to
    /// let go of what it does, and for clocks that run apart. At most half of the grace period, or of a
    /// lease, is taken for it. A quarter of a second, unless set.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// How long one server may take to accept a connection.
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline;
        self
    }

    /// How long a server may take to answer, beyond the time that a request waits. A connection on which
    /// it takes longer is given up, and made anew.
    pub fn request_deadline(mut self, deadline: Duration) -> Self {
        self.request_deadline = deadline;
        self
    }

    /// For how long [`Options::connect`] tries again while no server can be reached, or none has room, or for one
    /// try of each address, if that is longer. Unless set, it tries each once, so that a wrong address is told
    /// at once.
    pub fn keep_trying(mut self, patience: Duration) -> Self {
        self.keep_trying = patience;
        self
    }

    /// When to try again, after a connection broke.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// How many connections the client makes at most: one for all, and one more for each request that
    /// waits, for each lock that was waited for, and for each further lock of a key that the client has
    /// already. Beyond that it is [`Error::Full`]. 256 unless set.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = most;
        self
    }

    /// Connects to the first of the servers that answers.
    ///
    /// # Errors
    ///
    /// None answers, to the end of [`Options::keep_trying`], or an option is none that a server takes.
    pub async fn connect(self) -> Result<Client, Error> {
        if let Some(name) = &self.name {
            Line::new("name").word(name)?;
            if name.len() > LONGEST_NAME {
                return Err(Error::BadOption("a name has at most 128 bytes"));
            }
        }
        self.servers.access.check(self.servers.addresses())?;
        if self.grace < SHORTEST_GRACE {
            return Err(Error::BadOption("a grace period is at least one second"));
        }
        if self.max_connections == 0 || self.request_deadline.is_zero() {
            return Err(Error::BadOption("a client needs a connection and time"));
        }
        Client::start(Arc::new(self)).await
    }

    /// For how long a request is asked again, when its connection breaks: so that one which was silent
    /// is noticed, and another is made.
    pub(crate) fn patience(&self) -> Duration {
        let twice = self.request_deadline.saturating_mul(2);
        twice.saturating_add(self.connect_deadline)
    }

    /// How often a connection on which a lock rests is heard of: so that a silent one is noticed, and
    /// made anew, well within the grace period.
    pub(crate) fn beat(&self) -> Duration {
        (self.grace / 4).min(Duration::from_secs(15))
    }
}
