//! What is asked of a server by a session's task, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::answer::Answer;
use crate::clock::Moment;
use crate::command::Command;
use crate::error::{ConnectionError, Error};
use crate::hold::Hold;
use crate::word::Line;

/// Answers of the server to one [`Asked`].
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) list: Vec<Answer>,
    /// From before it was sent.
    pub(crate) sent: Moment,
    /// Which session of the server answered.
    pub(crate) epoch: u64,
    /// It was sent before, on a connection that broke.
    pub(crate) is_again: bool,
}

impl Answers {
    /// The one answer, to the one request that was sent.
    pub(crate) fn only(mut self) -> Result<Answer, Error> {
        self.list.remove(0).done()
    }
}

/// The connection broke, or there is none.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) error: ConnectionError,
    /// It may have been done; otherwise surely not.
    pub(crate) was_sent: bool,
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        Self::Connection(broken.error)
    }
}

pub(crate) type Outcome = Result<Answers, Broken>;

/// Who learns of the outcome.
pub(crate) enum Reply {
    /// A caller. If it is gone before the request was sent, it is not.
    Caller(oneshot::Sender<Outcome>),
    /// Whoever it is, it is called by the session's task, and must not wait.
    Call(Box<dyn FnOnce(Outcome) + Send>),
    /// It must be done, and is sent again until it is answered; a caller may want to know.
    Must(Option<oneshot::Sender<Outcome>>),
}

/// Requests that are sent together.
pub(crate) struct Asked {
    pub(super) lines: Vec<u8>,
    /// For each, whether its `200` goes on with lines.
    pub(super) listings: Vec<bool>,
    pub(super) wait: Duration,
    pub(super) is_in_queue: bool,
    /// How long the answer may take beyond the wait.
    pub(super) deadline: Duration,
    pub(super) reply: Reply,
    /// It was sent before, on a connection that broke.
    pub(super) is_again: bool,
    /// Locks of owners that it releases.
    pub(super) releases: Vec<Arc<Hold>>,
}

pub(crate) enum Outgoing {
    Ask(Asked),
    /// Ends the connection, so that a request leaves its queue; the session is resumed.
    Sever,
}

impl Asked {
    /// Whether nobody needs it any more, before it is sent.
    pub(super) fn is_pointless(&self) -> bool {
        let has_nobody = matches!(&self.reply, Reply::Caller(caller) if caller.is_closed());
        let hits_another = |hold: &Arc<Hold>| hold.is_anothers_by_now(self.is_again);
        has_nobody || self.releases.iter().any(hits_another)
    }
}

/// Lines for one [`Asked`].
#[derive(Default)]
pub(crate) struct Batch {
    pub(super) lines: Vec<u8>,
    pub(super) listings: Vec<bool>,
    pub(super) wait: Duration,
    pub(super) is_in_queue: bool,
}

impl Batch {
    pub(crate) fn one<C: Command>(command: &C) -> Result<Self, Error> {
        Self::default().and(command)
    }

    pub(crate) fn and<C: Command>(mut self, command: &C) -> Result<Self, Error> {
        self.lines.extend_from_slice(command.line()?.as_bytes());
        self.listings.push(C::IS_LISTING);
        self.wait = self.wait.saturating_add(command.wait());
        Ok(self)
    }

    pub(crate) fn line(mut self, line: &Line) -> Self {
        self.lines.extend_from_slice(line.as_bytes());
        self.listings.push(false);
        self
    }

    /// A request for a lock, which may wait in a queue.
    pub(crate) fn for_lock(mut self, line: &Line, wait: Duration) -> Self {
        self.wait = wait;
        self.is_in_queue = true;
        self.line(line)
    }

    pub(super) fn with(self, deadline: Duration, reply: Reply) -> Asked {
        Asked {
            lines: self.lines,
            listings: self.listings,
            wait: self.wait,
            is_in_queue: self.is_in_queue,
            deadline,
            reply,
            is_again: false,
            releases: Vec::new(),
        }
    }
}
