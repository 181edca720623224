//! The lock that the command runs under, as it is asked for.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use elock_client::command::Mode;
use elock_client::{Address, Client, Error, Guard, Options, Servers};
use tokio::time::sleep;

use super::exit;
use crate::duration;

/// Connecting takes less, unless something is wrong.
const LONG_CONNECT: Duration = Duration::from_secs(1);

/// What is to be held, and how.
pub struct Request {
    /// What is locked; of several, all or none.
    pub keys: Vec<Vec<u8>>,
    /// With whom it is shared. Several keys are held exclusively.
    pub mode: Mode,
    /// How long to wait, for a server and for the lock.
    pub wait: Duration,
    /// How much of it for a server.
    pub server_patience: Duration,
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
    /// Connects, and tells somebody who waits for that what it is that takes so long.
    ///
    /// # Errors
    ///
    /// No server answers in its time, or the request cannot be sent.
    pub async fn connect(&self, servers: &Servers) -> Result<Client, Error> {
        let connecting = Options::new(servers.clone())
            .name(self.name.clone())
            .grace(self.grace)
            .margin(self.margin)
            .keep_trying(self.server_patience)
            .connect();
        tokio::select! {
            client = connecting => client,
            never = self.tell_who_is_tried(servers) => match never {},
        }
    }

    async fn tell_who_is_tried(&self, servers: &Servers) -> Infallible {
        sleep(LONG_CONNECT).await;
        let addresses = servers.addresses().iter().map(Address::to_string);
        let addresses = addresses.collect::<Vec<_>>().join(", ");
        let most = u64::try_from(self.server_patience.as_millis()).unwrap_or(u64::MAX);
        let most = duration::show(most);
        exit::say(&format!(
            "no answer yet from {addresses}; trying for {most}, and each once at least"
        ));
        pending().await
    }

    /// Takes the lock; so much of the wait is left. When this future is dropped before it is ready, the
    /// queue is left.
    ///
    /// # Errors
    ///
    /// The lock is not to be had.
    pub async fn take(&self, client: &Client, wait: Duration) -> Result<Guard, Error> {
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
        acquire.wait(wait).await
    }
}
