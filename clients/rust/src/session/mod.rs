//! A session of the client: a connection that is made anew when it breaks, and resumed.
//!
//! Whoever wants something of the server hands a request to the session's task, `link`, which alone
//! reads and writes, and gets the answers or learns that the connection broke; then what was asked may
//! have been done or not, and the asker decides what that means. Only what must be done, a release, is
//! sent again by the task itself.

mod asked;
pub(crate) mod handshake;
mod link;
mod vital;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

pub(crate) use self::asked::{Answers, Asked, Batch, Broken, Outcome, Outgoing, Reply};
use self::vital::lock;
pub(crate) use self::vital::{Server, State, Vital, Wanted};
use crate::clock::Moment;
use crate::command::Command;
use crate::error::{ConnectionError, Error};
use crate::hold::Hold;
use crate::options::Options;

/// Requests of one session that are on their way at one time; whoever comes then waits for room.
const MAX_ASKED: usize = 1024;

/// A session, for those who ask something by it. When the last of these is dropped, the session is
/// ended.
#[derive(Debug)]
pub(crate) struct Session {
    outbox: mpsc::UnboundedSender<Outgoing>,
    room: Semaphore,
    pub(crate) vital: Arc<Vital>,
}

impl Session {
    /// Begins to connect.
    pub(crate) fn start(options: &Arc<Options>, bell: &Arc<Notify>) -> Arc<Self> {
        let vital = Arc::new(Vital::new(options, bell));
        let (outbox, inbox) = mpsc::unbounded_channel();
        tokio::spawn(link::run(Arc::clone(&vital), inbox));
        Arc::new(Self {
            outbox,
            room: Semaphore::new(MAX_ASKED),
            vital,
        })
    }

    /// Ready once there is a connection. It is made, if there is none.
    ///
    /// # Errors
    ///
    /// There is none within this time, or all servers were tried, and what was wrong with the last one is
    /// no reason to try again.
    pub(crate) async fn ready(
        &self,
        within: Duration,
        is_final: impl Fn(&ConnectionError) -> bool,
    ) -> Result<(), ConnectionError> {
        let mut states = self.vital.state.subscribe();
        let known = match &*states.borrow() {
            State::Up(_) => return Ok(()),
            State::Down { failures, .. } => *failures,
            State::Ended => return Err(ConnectionError::ClientClosed),
        };
        let _wanted = Wanted::new(&self.vital);
        let is_over = |state: &State| match state {
            State::Up(_) | State::Ended => true,
            State::Down { failures, error } => {
                *failures > known && error.as_ref().is_some_and(&is_final)
            }
        };
        let found = timeout(within, states.wait_for(is_over)).await;
        let state = match found {
            Ok(Ok(state)) => state.clone(),
            _ => self.vital.state.borrow().clone(),
        };
        match state {
            State::Up(_) => Ok(()),
            State::Ended => Err(ConnectionError::ClientClosed),
            State::Down { error, .. } => Err(error.unwrap_or(ConnectionError::TimedOut {
                address: self.vital.options.servers.addresses()[0].clone(),
                after: within,
            })),
        }
    }

    /// Rounds over all servers in which none answered, since the client began.
    pub(crate) fn failures(&self) -> u64 {
        match &*self.vital.state.borrow() {
            State::Down { failures, .. } => *failures,
            State::Up(_) | State::Ended => 0,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(*self.vital.state.borrow(), State::Up(_))
    }

    /// The server that it is connected to.
    pub(crate) fn server(&self) -> Option<Server> {
        match &*self.vital.state.borrow() {
            State::Up(server) => Some(server.clone()),
            State::Down { .. } | State::Ended => None,
        }
    }

    /// How long an answer may take. Where locks rest on the connection, it is noticed early that none
    /// comes.
    fn deadline(&self) -> Duration {
        let options = &self.vital.options;
        match self.vital.has_holds() {
            true => options.request_deadline.min(options.beat()),
            false => options.request_deadline,
        }
    }

    /// Sends this on the connection that there is, and waits for the answers. If this future is dropped
    /// before, the answers are dropped, too; what was not sent is not.
    pub(crate) async fn ask(&self, batch: Batch) -> Outcome {
        let _room = self.room.acquire().await.map_err(|_| Broken {
            error: ConnectionError::ClientClosed,
            was_sent: false,
        })?;
        let (reply, outcome) = oneshot::channel();
        self.post_asked(batch.with(self.deadline(), Reply::Caller(reply)));
        outcome.await.unwrap_or(Err(Broken {
            error: ConnectionError::ClientClosed,
            was_sent: true,
        }))
    }

    /// A question whose answer is the same on any connection: if that breaks, it is asked again.
    pub(crate) async fn question<C: Command>(&self, command: &C) -> Result<C::Output, Error> {
        let give_up = Moment::now().plus(self.vital.options.patience());
        loop {
            let left = give_up.after(Moment::now());
            self.ready(left, ConnectionError::is_stranger).await?;
            let asked = self.ask(Batch::one(command)?).await;
            match asked.map_err(Error::from).and_then(Answers::only) {
                Ok(answer) => return C::read(answer),
                Err(error) => error.pause_before(give_up).await?,
            }
        }
    }

    /// The outcome goes to this function, called by the session's task.
    pub(crate) fn call(
        &self,
        batch: Batch,
        deadline: Duration,
        then: impl FnOnce(Outcome) + Send + 'static,
    ) {
        self.post_asked(batch.with(deadline, Reply::Call(Box::new(then))));
    }

    /// Sends this now or on the next connection, until it is answered.
    pub(crate) fn must(&self, batch: Batch) {
        if !batch.listings.is_empty() {
            self.post_asked(batch.with(self.deadline(), Reply::Must(None)));
        }
    }

    /// Releases these, now or on the next connection.
    pub(crate) fn must_unlock(&self, holds: &[Arc<Hold>], told: Option<oneshot::Sender<Outcome>>) {
        // A lost lock of an owner may be another's by now, who uses the same word.
        let needed = |hold: &&Arc<Hold>| hold.owner.is_none() || hold.is_held();
        let needed: Vec<_> = holds.iter().filter(needed).cloned().collect();
        // The keys were sent before, so that they are words.
        let lines = needed.iter().filter_map(|hold| hold.unlock_line().ok());
        let batch = lines.fold(Batch::default(), |batch, line| batch.line(&line));
        if batch.listings.is_empty() {
            return;
        }
        let mut asked = batch.with(self.deadline(), Reply::Must(told));
        asked.releases = needed;
        self.post_asked(asked);
    }

    /// Ends the connection, so that a request that waits leaves its queue, and resumes the session.
    pub(crate) fn sever(&self) {
        self.post(Outgoing::Sever);
    }

    fn post_asked(&self, asked: Asked) {
        self.post(Outgoing::Ask(asked));
    }

    /// When the task has ended, the reply is dropped, and the asker learns of it by that.
    fn post(&self, outgoing: Outgoing) {
        let _ = self.outbox.send(outgoing);
    }

    /// Keeps these keys for one request and its guard, if no other of this session uses one of them.
    pub(crate) fn reserve(self: &Arc<Self>, keys: &[Vec<u8>]) -> Option<Reservation> {
        let mut reserved = lock(&self.vital.reserved);
        if keys.iter().any(|key| reserved.contains(key)) {
            return None;
        }
        reserved.extend(keys.iter().cloned());
        Some(Reservation {
            session: Arc::clone(self),
            keys: keys.to_vec(),
        })
    }
}

/// Keys that are used by one request, and then by its guard. Given back only after what releases them
/// was posted, so that the next one who uses them is served behind that.
#[derive(Debug)]
pub(crate) struct Reservation {
    session: Arc<Session>,
    keys: Vec<Vec<u8>>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved = lock(&self.session.vital.reserved);
        for key in &self.keys {
            reserved.remove(key);
        }
    }
}
