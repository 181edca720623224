//! Requests out and answers in, on one connection for as long as it lasts.
//!
//! Answers come in the order of the requests, and belong to the oldest that is not answered: that is
//! the only thing by which they are told apart, so a connection on which an order could be in doubt is
//! given up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::link::tell;
use super::{Answers, Asked, Outgoing, Vital};
use crate::address::Address;
use crate::answer::{Answer, Incoming};
use crate::clock::Moment;
use crate::connection::{Connection, ReadHalf, WriteHalf, failed, read_more};
use crate::error::ConnectionError;

/// Bytes that are gathered for one write, and kept while the server does not take them.
const MAX_UNWRITTEN: usize = 64 << 10;

/// What is said when nobody needs the session any more, so that the server frees it at once.
const GOODBYE: &[u8] = b"set_timeout 0\nquit\n";

/// How long saying it may take.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(1);

/// Longer than any process lives.
const FAR: Duration = Duration::from_secs(1 << 30);

pub(super) struct Wire {
    vital: Arc<Vital>,
    read: ReadHalf,
    write: WriteHalf,
    incoming: Incoming,
    address: Address,
    unwritten: Vec<u8>,
    /// The stream may hold some of what was written.
    is_unflushed: bool,
    /// Not sent yet.
    queued: VecDeque<Asked>,
    /// Sent, and not answered as a whole.
    sent: VecDeque<Sent>,
    /// When the oldest of them must be answered.
    deadline: Instant,
    /// Nothing is sent any more. What the server has answered by now is still read, since nothing else
    /// tells whether a request that waited was granted.
    is_leaving: bool,
}

struct Sent {
    asked: Asked,
    at: Moment,
    answers: Vec<Answer>,
}

impl Wire {
    pub(super) fn new(connection: Connection, vital: Arc<Vital>, undone: VecDeque<Asked>) -> Self {
        let (read, write, incoming, address) = connection.into_parts();
        Self {
            vital,
            read,
            write,
            incoming,
            address,
            unwritten: Vec::new(),
            is_unflushed: false,
            queued: undone,
            sent: VecDeque::new(),
            deadline: Instant::now() + FAR,
            is_leaving: false,
        }
    }

    /// Carries requests and answers until the connection breaks, or (`None`) nobody can ask any more
    /// and everything is answered.
    pub(super) async fn serve(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<Outgoing>,
    ) -> Option<ConnectionError> {
        let alarm = sleep_until(self.deadline);
        tokio::pin!(alarm);
        let mut is_closed = false;
        loop {
            self.gather();
            if is_closed && self.sent.is_empty() && self.queued.is_empty() {
                return None;
            }
            // It is moved only when it is too early or over, and not with every answer.
            if self.deadline < alarm.deadline() {
                alarm.as_mut().reset(self.deadline);
            }
            let is_unwritten = !self.unwritten.is_empty() || self.is_unflushed;
            let is_unwritten = is_unwritten && !self.is_leaving;
            tokio::select! {
                biased;
                read = read_more(&mut self.read, &mut self.incoming, &self.address) => {
                    if let Err(error) = read.and_then(|()| self.take_answers()) {
                        return Some(error);
                    }
                }
                outgoing = inbox.recv(), if !is_closed => {
                    let mut next = outgoing;
                    is_closed = next.is_none();
                    while let Some(outgoing) = next {
                        match outgoing {
                            Outgoing::Ask(asked) => self.queued.push_back(asked),
                            Outgoing::Sever if self.vital.waiting_since().is_none() => {
                                return Some(self.closed());
                            }
                            Outgoing::Sever => self.leave().await,
                        }
                        next = inbox.try_recv().ok();
                    }
                }
                written = write_some(&mut self.write, &self.unwritten), if is_unwritten => match written {
                    Ok(count) => {
                        self.unwritten.drain(..count);
                        self.is_unflushed = count > 0;
                    }
                    Err(error) => return Some(failed(&self.address, error)),
                },
                () = &mut alarm => {
                    if Instant::now() >= self.deadline {
                        return Some(self.timed_out());
                    }
                    alarm.as_mut().reset(self.deadline);
                }
            }
        }
    }

    /// Ends what is sent, at which the server ends the wait.
    async fn leave(&mut self) {
        if !std::mem::replace(&mut self.is_leaving, true) {
            self.deadline = Instant::now() + self.vital.options.request_deadline;
            // A connection that cannot even be ended is given up at the deadline.
            let _ = timeout(GOODBYE_DEADLINE, self.write.shutdown()).await;
        }
    }

    /// Makes what is queued ready to be written. Behind a request that waits nothing is sent, since
    /// the server would neither run nor answer it.
    fn gather(&mut self) {
        while !self.is_leaving
            && self.unwritten.len() < MAX_UNWRITTEN
            && self.vital.waiting_since().is_none()
            && let Some(asked) = self.queued.pop_front()
        {
            if asked.is_pointless() {
                continue;
            }
            let at = Moment::now();
            self.unwritten.extend_from_slice(&asked.lines);
            if !asked.wait.is_zero() {
                self.vital.set_waiting_since(Some(at), asked.is_in_queue);
                self.vital.bell.notify_one();
            }
            self.sent.push_back(Sent {
                asked,
                at,
                answers: Vec::new(),
            });
            if self.sent.len() == 1 {
                self.set_deadline();
            }
        }
    }

    /// For the oldest that is not answered, from now on.
    fn set_deadline(&mut self) {
        if self.is_leaving {
            return;
        }
        let time = match self.sent.front() {
            Some(Sent { asked, .. }) => asked.wait.saturating_add(asked.deadline).min(FAR),
            None => FAR,
        };
        self.deadline = Instant::now() + time;
    }

    fn take_answers(&mut self) -> Result<(), ConnectionError> {
        while let Some(oldest) = self.sent.front_mut() {
            let is_listing = oldest.asked.listings[oldest.answers.len()];
            let Some(answer) = self.incoming.next(is_listing)? else {
                return Ok(());
            };
            self.vital.confirm(oldest.at);
            oldest.answers.push(answer);
            if oldest.answers.len() == oldest.asked.listings.len() {
                self.finish_oldest();
            }
            self.set_deadline();
        }
        match self.incoming.is_empty() {
            true => Ok(()),
            // An answer to no request: which answer belongs to which is in doubt.
            false => Err(ConnectionError::NotAnAnswer {
                line: "an answer to no request".to_owned(),
            }),
        }
    }

    fn finish_oldest(&mut self) {
        let Some(Sent { asked, at, answers }) = self.sent.pop_front() else {
            return;
        };
        if !asked.wait.is_zero() {
            self.vital.set_waiting_since(None, false);
        }
        let answers = Answers {
            list: answers,
            sent: at,
            epoch: self.vital.epoch.load(Ordering::SeqCst),
            is_again: asked.is_again,
        };
        tell(asked.reply, Ok(answers));
    }

    /// What was not answered, in its order.
    pub(super) fn unanswered(self) -> impl Iterator<Item = Asked> {
        let sent = self.sent.into_iter().map(|sent| Asked {
            is_again: true,
            ..sent.asked
        });
        sent.chain(self.queued)
    }

    pub(super) async fn say_goodbye(mut self) {
        let said = async {
            self.write.write_all(GOODBYE).await?;
            self.write.shutdown().await
        };
        // Without it the session ends by its grace period.
        let _ = timeout(GOODBYE_DEADLINE, said).await;
    }

    fn closed(&self) -> ConnectionError {
        ConnectionError::Closed {
            address: self.address.clone(),
        }
    }

    fn timed_out(&self) -> ConnectionError {
        let after = self.sent.front().map_or(FAR, |sent| sent.asked.deadline);
        ConnectionError::TimedOut {
            address: self.address.clone(),
            after,
        }
    }
}

/// Writes as much as goes; if there is nothing to write, has the stream send what it holds, and returns 0.
/// Nothing is lost if this future is dropped.
async fn write_some(write: &mut WriteHalf, bytes: &[u8]) -> std::io::Result<usize> {
    if bytes.is_empty() {
        return write.flush().await.map(|()| 0);
    }
    match write.write(bytes).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}
