//! The task that asks the server, again and again, over a connection of its own, and connects again
//! when that breaks.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use elock_client::command::Name;
use elock_client::{Connection, ConnectionError, Error, Servers};
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::events::Event;
use super::pace::{Pace, later};
use super::round::{Interest, Reader, Sample};

/// How long a server may take to accept, and for each answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the server is like, or that it is not there.
#[derive(Debug, Clone)]
pub enum Report {
    /// A question is open since then.
    Asking(Instant),
    /// It was asked, and is asked again so long after that.
    Told(Arc<Sample>, Duration),
    /// There is no connection.
    Unreachable {
        /// Since when.
        since: Instant,
        /// Why.
        reason: String,
    },
}

/// Asks servers and reports.
#[derive(Debug)]
pub struct Poller {
    servers: Servers,
    pace: Pace,
    interest: watch::Receiver<Interest>,
    reports: SyncSender<Event>,
}

impl Poller {
    /// For these servers.
    pub fn new(
        servers: Servers,
        pace: Pace,
        interest: watch::Receiver<Interest>,
        reports: SyncSender<Event>,
    ) -> Self {
        Self {
            servers,
            pace,
            interest,
            reports,
        }
    }

    /// Goes on until nobody listens any more.
    pub async fn run(mut self) {
        let mut lost_at = None;
        for number in 1.. {
            self.report(Report::Asking(Instant::now()));
            let error = match self.connect().await {
                Ok((connection, address)) => {
                    let reader = Reader::new(address, number);
                    self.ask(connection, reader, &mut lost_at).await
                }
                Err(error) => error,
            };
            let since = *lost_at.get_or_insert_with(Instant::now);
            // A server that does not answer is there, and the question stays open.
            if !matches!(error, Error::Connection(ConnectionError::TimedOut { .. })) {
                let reason = reason_of(&error);
                self.report(Report::Unreachable { since, reason });
            }
            if self.interest.has_changed().is_err() {
                return;
            }
            tokio::time::sleep(self.pace.retry()).await;
        }
    }

    /// To the first server that accepts. If none does, the error is that of the last.
    async fn connect(&self) -> Result<(Connection, String), Error> {
        let mut outcome = Err(ConnectionError::ClientClosed.into());
        for address in self.servers.addresses() {
            outcome = Connection::to(&self.servers, address, DEADLINE)
                .await
                .map(|connection| (connection, address.to_string()));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Round after round, until one fails.
    async fn ask(
        &mut self,
        mut connection: Connection,
        mut reader: Reader,
        lost_at: &mut Option<Instant>,
    ) -> Error {
        let name = Name {
            name: b"elock-top".to_vec(),
        };
        // A server without names can be looked at, too.
        if let Err(error @ Error::Connection(_)) = connection.call(&name).await {
            return error;
        }
        loop {
            let begin = Instant::now();
            self.report(Report::Asking(begin));
            let interest = self.interest.borrow_and_update().clone();
            let round = reader.read(&mut connection, &interest, self.pace.time_of_round());
            let sample = match round.await {
                Ok(sample) => sample,
                Err(error) => return error,
            };
            *lost_at = None;
            let took = sample.took;
            let interval = self.pace.interval(took);
            self.report(Report::Told(Arc::new(sample), interval));
            tokio::select! {
                () = self.pause(begin, took, interest.wishes) => {}
                error = end_of(&mut connection) => return error.into(),
            }
        }
    }

    /// Until the round after this one is due.
    async fn pause(&mut self, begin: Instant, took: Duration, wishes: u64) {
        let pace = self.pace;
        tokio::select! {
            () = sleep_until(later(begin, pace.interval(took))) => {}
            () = self.wished(wishes) => {
                sleep_until(later(begin, pace.interval_at_once(took))).await;
            }
        }
    }

    /// Waits until a person wants to see something else.
    async fn wished(&mut self, wishes: u64) {
        let is_other = |now: &Interest| now.wishes != wishes;
        let is_over = self.interest.wait_for(is_other).await.is_err();
        if is_over {
            // Nobody looks any more, and the process is about to end.
            std::future::pending::<()>().await;
        }
    }

    /// Every report is whole. So one for which there is no room, as the terminal does not take what is
    /// written, can be left out.
    fn report(&self, report: Report) {
        let _ = self.reports.try_send(Event::Report(report));
    }
}

/// Why a connection ends on which nothing is asked. What comes unasked is of no interest.
async fn end_of(connection: &mut Connection) -> ConnectionError {
    loop {
        if let Err(error) = connection.receive(false).await {
            return error;
        }
    }
}

/// In a few words, as the address stands on the screen already.
fn reason_of(error: &Error) -> String {
    match error {
        Error::Connection(ConnectionError::Closed { .. }) => "the server closed it".to_owned(),
        Error::Connection(ConnectionError::Io { error, .. }) if error.raw_os_error().is_some() => {
            error.kind().to_string()
        }
        other => other.to_string(),
    }
}
