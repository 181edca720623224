//! For tests and the fuzzer: connections over in-memory pipes of eight bytes, and clients at their other ends. Tokens
//! count grants.
#![cfg_attr(fuzzing, allow(dead_code))]

use std::cell::RefCell;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::io::{BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, split};
use tokio::task::JoinHandle;

use super::Shared;
use super::clock::Clock;
use super::connection::serve;
use super::expiry::end_leases;
use super::start::start;
use super::turns::keep_pace;
#[cfg(all(test, feature = "admin", feature = "cluster"))]
use crate::cluster::Leading;
use crate::config::Config;
use crate::model::Peer;
use crate::store::fake::Fake;
use crate::store::{Changes, Writer};
use crate::table::{LockTable, TokenClock};

pub(crate) struct Server {
    pub(crate) shared: Arc<Shared>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

pub(crate) struct Client {
    pub(crate) answers: Lines<BufReader<ReadHalf<DuplexStream>>>,
    pub(crate) requests: WriteHalf<DuplexStream>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let table = LockTable::new(config.limits(), TokenClock::default(), Changes::default());
        Self::start_on(config, table)
    }

    /// With a store that the test can make fail.
    pub(crate) fn start_stored() -> (Self, Fake, Writer) {
        Self::start_stored_with(|_| {})
    }

    pub(crate) fn start_stored_with(change: impl FnOnce(&mut Config)) -> (Self, Fake, Writer) {
        let mut config = Config::default();
        change(&mut config);
        Self::start_on_fake(config, Fake::default())
    }

    /// On a store of which others may become the writers.
    #[cfg(test)]
    pub(crate) fn start_confirmed() -> (Self, Fake, Writer) {
        let fake = Fake::default();
        fake.state().must_confirm = true;
        Self::start_on_fake(Config::default(), fake)
    }

    fn start_on_fake(config: Config, fake: Fake) -> (Self, Fake, Writer) {
        let (changes, writer) = Changes::to(fake.clone()).expect("a thread");
        let table = LockTable::new(config.limits(), TokenClock::default(), changes);
        (Self::start_on(config, table), fake, writer)
    }

    /// As the program makes it, with tokens and times of its clock; in memory.
    pub(crate) fn start_timed() -> Self {
        let (config, clock) = (Config::default(), Clock::default());
        let table = start(&config, &clock).expect("no store is needed").table;
        Self::start_by(clock, config, table)
    }

    pub(crate) fn start_on(config: Config, table: LockTable) -> Self {
        Self::start_by(Clock::default(), config, table)
    }

    /// As the leader of several, in memory.
    #[cfg(all(test, feature = "admin", feature = "cluster"))]
    pub(crate) fn start_leading(leading: Leading) -> Self {
        let config = Config::default();
        let table = LockTable::new(config.limits(), TokenClock::default(), Changes::default());
        let shared = Shared::new(config, table, Clock::default(), None).expect("randomness");
        let leading = Some(Arc::new(leading));
        Self::start_of(Shared { leading, ..shared })
    }

    fn start_by(clock: Clock, config: Config, table: LockTable) -> Self {
        Self::start_of(Shared::new(config, table, clock, None).expect("randomness"))
    }

    fn start_of(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let leases = tokio::spawn(end_leases(Arc::clone(&shared), shared.stop.clone()));
        let pace = tokio::spawn(keep_pace(Arc::clone(&shared), shared.stop.clone()));
        let tasks = RefCell::new(vec![leases, pace]);
        Self { shared, tasks }
    }

    pub(crate) fn connect(&self) -> Client {
        self.connect_by(8)
    }

    /// Connects by a pipe of so many bytes, which may bring several lines at once.
    pub(crate) fn connect_by(&self, pipe_bytes: usize) -> Client {
        let (ours, theirs) = tokio::io::duplex(pipe_bytes);
        let shared = Arc::clone(&self.shared);
        let arrival = shared
            .desk
            .arrival(Peer::Unix(None), shared.clock.now())
            .expect("a place");
        let task = tokio::spawn(serve(ours, arrival, shared, ()));
        self.tasks.borrow_mut().push(task);
        let (answers, requests) = split(theirs);
        Client {
            answers: BufReader::new(answers).lines(),
            requests,
        }
    }

    pub(crate) async fn until_waiting(&self, requests: usize) {
        while self.shared.table.waiters().len() != requests {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn stop(self) {
        self.shared.begin_stop();
        for task in self.tasks.into_inner() {
            task.await.expect("no task panics");
        }
    }
}

impl Client {
    pub(crate) async fn send(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.requests
            .write_all(line.as_bytes())
            .await
            .expect("the connection stands");
    }

    pub(crate) async fn expect(&mut self, answer: &str) {
        assert_eq!(
            self.answers.next_line().await.expect("a line").as_deref(),
            Some(answer)
        );
    }

    pub(crate) async fn id(&mut self) -> String {
        self.send("conn_id").await;
        self.text().await
    }

    /// The number in the next answer.
    pub(crate) async fn number(&mut self) -> u64 {
        self.text().await.parse().expect("a number")
    }

    async fn text(&mut self) -> String {
        let line = self.answers.next_line().await.expect("a line");
        let answer = line.expect("an answer");
        answer.strip_prefix("200 ").expect("granted").to_owned()
    }

    pub(crate) async fn ask(&mut self, line: &str, answer: &str) {
        self.send(line).await;
        self.expect(answer).await;
    }
}
