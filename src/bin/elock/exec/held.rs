//! The lock that the command runs under, as it is asked for.

use std::time::Duration;

use elock_client::command::Mode;
use elock_client::{Client, Error, Guard, Options, Servers};

/// What is to be held, and how.
pub struct Request {
    /// What is locked; of several, all or none.
    pub keys: Vec<Vec<u8>>,
    /// With whom it is shared. Several keys are held exclusively.
    pub mode: Mode,
    /// How long to wait.
    pub wait: Duration,
    /// After which the lock ends, unless it is renewed.
    pub lease: Option<Duration>,
    /// How long it outlives a connection that broke.
    pub grace: Duration,
    /// How long before others could have it, it counts as lost.
    pub margin: Duration,
    /// What the session is called.
    pub name: Vec<u8>,
}

impl Request {
    /// Connects.
    ///
    /// # Errors
    ///
    /// No server answers, or the request cannot be sent.
    pub async fn connect(&self, servers: &Servers) -> Result<Client, Error> {
        Options::new(servers.clone())
            .name(self.name.clone())
            .grace(self.grace)
            .margin(self.margin)
            .connect()
            .await
    }

    /// Takes the lock. When this future is dropped before it is ready, the queue is left.
    ///
    /// # Errors
    ///
    /// The lock is not to be had.
    pub async fn take(&self, client: &Client) -> Result<Guard, Error> {
        let acquire = match self.keys.as_slice() {
            [key] => client.lock(key.clone()),
            keys => client.lock_all(keys.iter().cloned()),
        };
        let acquire = match &self.mode {
            Mode::Exclusive => acquire,
            Mode::Shared(value) => acquire.shared(value.clone()),
            Mode::Slots(slots) => acquire.slots(*slots),
        };
        let acquire = match self.lease {
            Some(lease) => acquire.lease(lease),
            None => acquire,
        };
        acquire.wait(self.wait).await
    }
}
