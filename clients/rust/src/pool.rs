//! Sessions beside the first, for requests that wait and for the locks that came of them.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Moment;
use crate::error::Error;
use crate::keeper::Keeper;
use crate::session::Session;

/// Sessions that are kept for the next one who needs one.
const MAX_IDLE: usize = 8;

/// How long one is kept.
const LONGEST_IDLE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Pool {
    keeper: Arc<Keeper>,
    most: usize,
    room: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    session: Arc<Session>,
    _room: OwnedSemaphorePermit,
    since: Moment,
}

/// A session that nobody else uses; it goes back to the pool when this is dropped. It holds nothing by
/// then: its guard has released what it held, or posted that.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) session: Arc<Session>,
    room: Option<OwnedSemaphorePermit>,
    pool: Arc<Pool>,
    /// A guard may be dropped by a thread that is none of it.
    runtime: Handle,
}

impl Pool {
    /// `most`: connections of the client in all, the first one included.
    pub(crate) fn new(keeper: &Arc<Keeper>, most: usize) -> Arc<Self> {
        Arc::new(Self {
            keeper: Arc::clone(keeper),
            most,
            room: Arc::new(Semaphore::new((most - 1).min(Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
        })
    }

    /// A session that holds nothing and waits for nothing.
    ///
    /// # Errors
    ///
    /// The client has as many connections as it may.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Lane, Error> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| one.session.is_up());
        let (session, room) = match idle.pop() {
            Some(Idle { session, _room, .. }) => (session, _room),
            None => {
                let room = Arc::clone(&self.room).try_acquire_owned();
                let room = room.map_err(|_| Error::Full {
                    limit: format!("at most {} connections of this client", self.most),
                })?;
                (self.keeper.new_session(), room)
            }
        };
        Ok(Lane {
            session,
            room: Some(room),
            pool: Arc::clone(self),
            runtime: Handle::current(),
        })
    }

    /// Ends those that nobody has needed for long; true if there are others.
    fn tidy(&self) -> bool {
        let now = Moment::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| one.session.is_up() && now < one.since.plus(LONGEST_IDLE));
        !idle.is_empty()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some(room) = self.room.take() else {
            return;
        };
        let mut idle = self
            .pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= MAX_IDLE || !self.session.is_up() {
            return;
        }
        if idle.is_empty() {
            self.runtime.spawn(tidy(Arc::downgrade(&self.pool)));
        }
        idle.push(Idle {
            session: Arc::clone(&self.session),
            _room: room,
            since: Moment::now(),
        });
    }
}

/// Tidies until nothing is idle.
async fn tidy(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(LONGEST_IDLE / 4).await;
        if !pool.upgrade().is_some_and(|pool| pool.tidy()) {
            return;
        }
    }
}
