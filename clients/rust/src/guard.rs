//! A lock that is held, as far as one can know.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::client::Client;
use crate::command::{Command, Demote, Promote};
use crate::error::{ConnectionError, Error, Loss, NotHeld};
use crate::hold::Hold;
use crate::pool::Lane;
use crate::session::{Outcome, Reservation, Session};

/// A lock, or several that were taken together. When it is dropped, they are released in the
/// background; [`Guard::release`] does that and tells whether they were still held.
///
/// It can be lost meanwhile: whoever does something that must not be done by two looks at
/// [`Guard::lost`], or asks [`Guard::is_held`] before each step, and sends the [token](Guard::token)
/// along where that can be compared. A lost lock is not renewed any more; what the server still has of it is
/// released when the guard is dropped, so drop it when the work has ended.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard {
    keys: Vec<Vec<u8>>,
    /// Empty when they were given up.
    holds: Vec<Arc<Hold>>,
    session: Arc<Session>,
    /// In this order: what releases is posted, then others may use the keys, then the session.
    _kept: Reservation,
    _lane: Option<Arc<Lane>>,
    _client: Client,
}

impl Guard {
    pub(crate) fn new(
        holds: Vec<Arc<Hold>>,
        session: Arc<Session>,
        kept: Reservation,
        lane: Option<Arc<Lane>>,
        client: Client,
    ) -> Self {
        client.ring();
        Self {
            keys: holds.iter().map(|hold| hold.key.clone()).collect(),
            holds,
            session,
            _kept: kept,
            _lane: lane,
            _client: client,
        }
    }

    /// What is locked; of several, the first.
    pub fn key(&self) -> &[u8] {
        &self.keys[0]
    }

    /// What is locked, in the order in which it was named.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// The fencing token: larger than that of every earlier grant of the lock. Of several locks, that of
    /// the first.
    pub fn token(&self) -> u64 {
        self.holds[0].token
    }

    /// The fencing token of each lock.
    pub fn tokens(&self) -> Vec<u64> {
        self.holds.iter().map(|hold| hold.token).collect()
    }

    /// Whether the lock is held, as far as anyone can know here and now: nothing was heard of its end,
    /// and neither its lease nor the grace period of a connection that is not heard of can be over.
    /// Once this is false, it stays so.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/server.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), elock_client::Error> {
    /// # let client = elock_client::Client::connect(&server().await).await?;
    /// let guard = client.lock("report").await?;
    /// for part in 0..100 {
    ///     if !guard.is_held() {
    ///         break;
    ///     }
    ///     // … make this part
    /// # let _ = part;
    /// }
    /// guard.release().await
    /// # }
    /// ```
    pub fn is_held(&self) -> bool {
        self.holds.iter().all(|hold| {
            // Whoever was told so once acts on it, so the keeper may not think better of it.
            hold.is_held() || {
                hold.lose(hold.lapse());
                false
            }
        })
    }

    /// For how long the lock is surely held by what is known now; it grows with each sign of life, and
    /// with each renewal. Zero when it is lost, [`Duration::MAX`] if nothing but its release ends it.
    pub fn remaining(&self) -> Duration {
        let remaining = self.holds.iter().map(|hold| hold.remaining());
        remaining.min().unwrap_or(Duration::ZERO)
    }

    /// Ready when the lock is lost, and never if it is released before. It does not borrow the guard, so
    /// that it can be awaited beside the work:
    ///
    /// ```
    /// # async fn work() {}
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/server.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), elock_client::Error> {
    /// # let client = elock_client::Client::connect(&server().await).await?;
    /// let guard = client.lock("leader").await?;
    /// tokio::select! {
    ///     () = work() => guard.release().await?,
    ///     why = guard.lost() => eprintln!("not the leader any more: {why}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn lost(&self) -> impl Future<Output = Loss> + Send + 'static {
        // The locks of one guard are lost together.
        Arc::clone(&self.holds[0]).lost()
    }

    /// Releases the lock. If the connection breaks or falls silent, that is asked for again on the next one.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`]: it was lost before. [`Error::Connection`]: it cannot be told whether it was
    /// released; it will be, as soon as there is a connection, or when the session ends.
    pub async fn release(mut self) -> Result<(), Error> {
        let holds = std::mem::take(&mut self.holds);
        let was_held = holds.iter().all(|hold| hold.is_held());
        self.session.vital.remove(&holds);
        let (told, outcome) = oneshot::channel();
        self.session.must_unlock(&holds, Some(told));
        if !was_held {
            let loss = holds.iter().find_map(|hold| hold.loss());
            let why = loss.unwrap_or_else(|| holds[0].lapse());
            return Err(Error::Lost { why });
        }
        let patience = self.session.vital.options.patience();
        match tokio::time::timeout(patience, outcome).await {
            Ok(Ok(outcome)) => released(outcome),
            _ => {
                let servers = self.session.vital.options.servers.addresses();
                Err(Error::Connection(ConnectionError::TimedOut {
                    address: servers[0].clone(),
                    after: patience,
                }))
            }
        }
    }

    /// Lets the lock of an owner be as it is: it stays until its lease ends or someone releases it, and is
    /// not renewed any more.
    ///
    /// # Errors
    ///
    /// The guard itself, if the lock is one of a session, which cannot be without its guard.
    pub fn leave(mut self) -> Result<(), Self> {
        if self.holds.iter().any(|hold| hold.owner.is_none()) {
            return Err(self);
        }
        let holds = std::mem::take(&mut self.holds);
        self.session.vital.remove(&holds);
        Ok(())
    }

    /// Makes a shared lock exclusive, if no other shares it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]: others share it, and the share stays.
    pub async fn promote(&self) -> Result<(), Error> {
        let hold = &self.holds[0];
        let promote = Promote {
            key: hold.key.clone(),
            owner: hold.owner.clone(),
        };
        self.change(&promote).await
    }

    /// Makes an exclusive lock a shared one.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]: it is shared by another value, or is a slot.
    pub async fn demote(&self, value: impl Into<Vec<u8>>) -> Result<(), Error> {
        let hold = &self.holds[0];
        let demote = Demote {
            key: hold.key.clone(),
            value: value.into(),
            owner: hold.owner.clone(),
        };
        self.change(&demote).await
    }

    /// The answer is the same if it is asked for again.
    async fn change<C: Command>(&self, command: &C) -> Result<C::Output, Error> {
        if self.holds.len() > 1 {
            return Err(Error::BadOption(
                "locks that were taken together stay exclusive",
            ));
        }
        let changed = self.session.question(command).await;
        changed.map_err(|error| match error {
            Error::NotHeld(why) => {
                let why = why.into();
                self.holds[0].lose(why);
                Error::Lost { why }
            }
            other => other,
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.holds.is_empty() {
            self.session.vital.remove(&self.holds);
            self.session.must_unlock(&self.holds, None);
        }
    }
}

fn released(outcome: Outcome) -> Result<(), Error> {
    let answers = outcome?;
    let is_again = answers.is_again;
    for answer in answers.list {
        match answer.done() {
            Ok(_) => {}
            // The answer to the first attempt was lost with its connection. The session goes on, so that
            // nothing but this attempt can have released it.
            Err(Error::NotHeld(NotHeld::NotYours | NotHeld::NotLocked)) if is_again => {}
            Err(Error::NotHeld(why)) => return Err(Error::Lost { why: why.into() }),
            Err(other) => return Err(other),
        }
    }
    Ok(())
}
