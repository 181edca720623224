//! A session of the client: a connection that is made anew when it breaks, and resumed.
//!
//! Whoever wants something of the server hands a request to the session's task, `link`, which alone
//! reads and writes, and gets the answers or learns that the connection broke; then what was asked may
//! have been done or not, and the asker decides what that means. Only what must be done, a release, is
//! sent again by the task itself.

pub(crate) mod handshake;
mod link;
mod wire;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::address::Address;
use crate::answer::Answer;
use crate::clock::Moment;
use crate::command::Command;
use crate::error::{ConnectionError, Error, Loss};
use crate::hold::Hold;
use crate::options::Options;
use crate::word::Line;

/// Requests of one session that are on their way at one time; whoever comes then waits for room.
const MAX_ASKED: usize = 1024;

/// What the client knows of a server that it is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) address: Address,
    /// Whether it keeps locks over a restart.
    pub(crate) is_durable: bool,
    /// Tells this run of the server from others.
    pub(crate) instance: Option<String>,
}

/// Whether the session has a connection.
#[derive(Debug, Clone)]
pub(crate) enum State {
    Up(Server),
    /// `failures`: rounds over all servers in which none answered, since the client began.
    Down {
        error: Option<ConnectionError>,
        failures: u64,
    },
    Ended,
}

/// What is known of a session to all who ask: its guards, the keeper, and the task that serves it.
#[derive(Debug)]
pub(crate) struct Vital {
    pub(crate) options: Arc<Options>,
    state: watch::Sender<State>,
    /// Right before the last answered request was sent, the server had this session.
    confirmed: AtomicU64,
    /// Which session of the server this is, counted from the first.
    epoch: AtomicU64,
    /// The longest lease that the server gives, and the one with which each grant begins, in nanoseconds;
    /// 0: none.
    max_hold: AtomicU64,
    /// How often a connection was made.
    joins: AtomicU64,
    /// The number by which the server's listings name it; 0: not known.
    number: AtomicU64,
    holds: Mutex<Vec<Arc<Hold>>>,
    /// Keys that a guard or a request of this session uses: the server would take a second request
    /// for one that has the lock already.
    reserved: Mutex<HashSet<Vec<u8>>>,
    /// Callers that wait for a connection, for whom one is made.
    wanted_by: AtomicUsize,
    wanted: Notify,
    /// A request of this session waits at the server, since then (0: none), and nothing else is
    /// answered.
    waiting_since: AtomicU64,
    /// That request is for a lock, so that the server lists it; a watch is not listed.
    is_in_queue: AtomicBool,
    /// The server was seen to have answered what this session still waits for.
    missed: AtomicBool,
    /// The keeper's, to be rung when there is a connection.
    bell: Arc<Notify>,
}

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
    lines: Vec<u8>,
    /// For each, whether its `200` goes on with lines.
    listings: Vec<bool>,
    wait: Duration,
    is_in_queue: bool,
    /// How long the answer may take beyond the wait.
    deadline: Duration,
    reply: Reply,
    /// It was sent before, on a connection that broke.
    is_again: bool,
    /// Locks of owners that it releases.
    releases: Vec<Arc<Hold>>,
}

pub(crate) enum Outgoing {
    Ask(Asked),
    /// Ends the connection, so that a request leaves its queue; the session is resumed.
    Sever,
}

impl Asked {
    /// Whether nobody needs it any more, before it is sent.
    fn is_pointless(&self) -> bool {
        let has_nobody = matches!(&self.reply, Reply::Caller(caller) if caller.is_closed());
        let hits_another = |hold: &Arc<Hold>| hold.is_anothers_by_now(self.is_again);
        has_nobody || self.releases.iter().any(hits_another)
    }
}

/// Lines for one [`Asked`].
#[derive(Default)]
pub(crate) struct Batch {
    lines: Vec<u8>,
    listings: Vec<bool>,
    wait: Duration,
    is_in_queue: bool,
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

    fn with(self, deadline: Duration, reply: Reply) -> Outgoing {
        Outgoing::Ask(Asked {
            lines: self.lines,
            listings: self.listings,
            wait: self.wait,
            is_in_queue: self.is_in_queue,
            deadline,
            reply,
            is_again: false,
            releases: Vec::new(),
        })
    }
}

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
        let vital = Arc::new(Vital {
            options: Arc::clone(options),
            state: watch::Sender::new(State::Down {
                error: None,
                failures: 0,
            }),
            confirmed: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            max_hold: AtomicU64::new(0),
            joins: AtomicU64::new(0),
            number: AtomicU64::new(0),
            holds: Mutex::default(),
            reserved: Mutex::default(),
            wanted_by: AtomicUsize::new(0),
            wanted: Notify::new(),
            waiting_since: AtomicU64::new(0),
            is_in_queue: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            bell: Arc::clone(bell),
        });
        let (outbox, inbox) = mpsc::unbounded_channel();
        tokio::spawn(link::run(Arc::clone(&vital), inbox));
        Arc::new(Self {
            outbox,
            room: Semaphore::new(MAX_ASKED),
            vital,
        })
    }

    /// The server, once there is a connection. It is made, if there is none.
    ///
    /// # Errors
    ///
    /// There is none within this time, or, with `first_failure`, all servers were tried once.
    pub(crate) async fn ready(
        &self,
        within: Duration,
        first_failure: bool,
    ) -> Result<Server, ConnectionError> {
        let mut states = self.vital.state.subscribe();
        let known = match &*states.borrow() {
            State::Up(server) => return Ok(server.clone()),
            State::Down { failures, .. } => *failures,
            State::Ended => return Err(ConnectionError::ClientClosed),
        };
        let _wanted = Wanted::new(&self.vital);
        let is_over = |state: &State| match state {
            State::Up(_) | State::Ended => true,
            State::Down { failures, .. } => first_failure && *failures > known,
        };
        let found = timeout(within, states.wait_for(is_over)).await;
        let state = match found {
            Ok(Ok(state)) => state.clone(),
            _ => self.vital.state.borrow().clone(),
        };
        match state {
            State::Up(server) => Ok(server),
            State::Ended => Err(ConnectionError::ClientClosed),
            State::Down { error, .. } => Err(error.unwrap_or(ConnectionError::TimedOut {
                address: self.vital.options.servers.addresses()[0].clone(),
                after: within,
            })),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.server().is_some()
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
        self.post(batch.with(self.deadline(), Reply::Caller(reply)));
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
            self.ready(left, false).await?;
            match self.ask(Batch::one(command)?).await {
                Ok(mut answers) => return C::read(answers.list.remove(0).done()?),
                Err(error) if Moment::now() >= give_up => return Err(error.into()),
                Err(_) => {}
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
        self.post(batch.with(deadline, Reply::Call(Box::new(then))));
    }

    /// Sends this now or on the next connection, until it is answered.
    pub(crate) fn must(&self, batch: Batch) {
        if !batch.listings.is_empty() {
            self.post(batch.with(self.deadline(), Reply::Must(None)));
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
        if let Outgoing::Ask(mut asked) = batch.with(self.deadline(), Reply::Must(told)) {
            asked.releases = needed;
            self.post(Outgoing::Ask(asked));
        }
    }

    /// Ends the connection, so that a request that waits leaves its queue, and resumes the session.
    pub(crate) fn sever(&self) {
        self.post(Outgoing::Sever);
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

/// Counts one who needs the session connected.
pub(crate) struct Wanted(Arc<Vital>);

impl Wanted {
    pub(crate) fn new(vital: &Arc<Vital>) -> Self {
        vital.wanted_by.fetch_add(1, Ordering::SeqCst);
        vital.wanted.notify_one();
        Self(Arc::clone(vital))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.wanted_by.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Vital {
    pub(crate) fn confirmed(&self) -> Moment {
        Moment(self.confirmed.load(Ordering::SeqCst))
    }

    /// The server had this session after that moment.
    pub(crate) fn confirm(&self, sent: Moment) {
        self.confirmed.fetch_max(sent.0, Ordering::SeqCst);
    }

    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    /// The longest lease that the server gives, and the one with which each grant begins.
    pub(crate) fn max_hold(&self) -> Option<Duration> {
        match self.max_hold.load(Ordering::SeqCst) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    fn set_max_hold(&self, most: Option<Duration>) {
        let nanos = most.map_or(0, |most| u64::try_from(most.as_nanos()).unwrap_or(u64::MAX));
        self.max_hold.store(nanos, Ordering::SeqCst);
    }

    /// How often a connection was made.
    pub(crate) fn joins(&self) -> u64 {
        self.joins.load(Ordering::SeqCst)
    }

    fn has_holds(&self) -> bool {
        !lock(&self.holds).is_empty()
    }

    fn is_wanted(&self) -> bool {
        self.wanted_by.load(Ordering::SeqCst) > 0 || self.has_holds()
    }

    /// Since when a request waits at the server.
    pub(crate) fn waiting_since(&self) -> Option<Moment> {
        match self.waiting_since.load(Ordering::SeqCst) {
            0 => None,
            since => Some(Moment(since)),
        }
    }

    fn set_waiting_since(&self, since: Option<Moment>, is_in_queue: bool) {
        let nanos = since.map_or(0, |moment| moment.0);
        self.is_in_queue.store(is_in_queue, Ordering::SeqCst);
        self.waiting_since.store(nanos, Ordering::SeqCst);
        self.missed.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_in_queue(&self) -> bool {
        self.is_in_queue.load(Ordering::SeqCst)
    }

    /// Whether the server was seen without the wait before, too.
    pub(crate) fn missed_before(&self) -> bool {
        self.missed.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn is_not_missed(&self) {
        self.missed.store(false, Ordering::SeqCst);
    }

    pub(crate) fn holds(&self) -> Vec<Arc<Hold>> {
        lock(&self.holds).clone()
    }

    /// Adds them, if the session that granted them is still the one that there is.
    pub(crate) fn add(&self, holds: &[Arc<Hold>], epoch: u64) -> Result<(), Loss> {
        let mut all = lock(&self.holds);
        if self.epoch.load(Ordering::SeqCst) != epoch {
            return Err(Loss::SessionEnded);
        }
        all.extend(holds.iter().cloned());
        self.wanted.notify_one();
        Ok(())
    }

    /// Adds locks of owners, which another session took.
    pub(crate) fn adopt(&self, holds: &[Arc<Hold>]) {
        lock(&self.holds).extend(holds.iter().cloned());
        self.wanted.notify_one();
    }

    /// Calls the lock lost, and with it all of its guard. What the server may still have of them is
    /// released when the guard is: whoever has it may need time to end what it does, and nobody else
    /// gets the lock meanwhile, if that can be helped.
    pub(crate) fn lose(&self, hold: &Hold, why: Loss) {
        hold.lose(why);
        lock(&self.holds).retain(|one| !one.is_with(hold));
    }

    /// Ready when nobody serves this session any more.
    pub(crate) async fn ended(&self) {
        let mut states = self.state.subscribe();
        let _ = states.wait_for(|state| matches!(state, State::Ended)).await;
    }

    pub(crate) fn remove(&self, holds: &[Arc<Hold>]) {
        lock(&self.holds).retain(|one| !holds.iter().any(|other| Arc::ptr_eq(one, other)));
    }

    /// The server has ended the session: what it held is lost. Locks of owners are looked after by
    /// whoever asks for them.
    fn session_ended(&self) {
        let mut all = lock(&self.holds);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        all.retain(|hold| {
            hold.owner.is_some() || {
                hold.lose(Loss::SessionEnded);
                false
            }
        });
    }

    /// The server keeps nothing over a restart, and is gone.
    fn server_gone(&self) {
        self.session_ended();
        lock(&self.holds).drain(..).for_each(|hold| {
            hold.lose(Loss::SessionEnded);
        });
    }
}

/// A poisoned list is as good as before: each change of it is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Loss;

    /// A grant that was told of by a session which has ended since is not taken for one of the next.
    #[tokio::test]
    async fn a_grant_of_an_earlier_session_is_none() {
        let servers = "127.0.0.1:1".parse().expect("an address");
        let session = Session::start(&Arc::new(Options::new(servers)), &Arc::default());
        let vital = &session.vital;
        let hold = |owner: Option<&str>| {
            let owner = owner.map(|word| word.as_bytes().to_vec());
            let (vital, loss) = (Arc::clone(vital), Arc::default());
            Arc::new(Hold::new(
                b"k".to_vec(),
                owner,
                7,
                None,
                Moment::now(),
                vital,
                loss,
            ))
        };
        let (one, owned, late) = (hold(None), hold(Some("me")), hold(None));
        assert_eq!(
            vital.add(&[Arc::clone(&one), Arc::clone(&owned)], 0),
            Ok(())
        );
        vital.session_ended();
        assert_eq!(one.loss(), Some(Loss::SessionEnded));
        assert_eq!(owned.loss(), None, "that is asked for by its word");
        assert_eq!(vital.add(&[late], 0), Err(Loss::SessionEnded));
        assert_eq!(vital.holds().len(), 1);
    }
}
