//! The way to a lock: asked for by the connection that all share, and, if that would have to wait, by
//! one of its own.
//!
//! It runs in a task, so that a caller who goes away takes nothing with it: the task sees that, leaves
//! the queue, and what it was granted nevertheless is released.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::answer::Answer;
use crate::client::Client;
use crate::clock::Moment;
use crate::command::{Command, Expire, Lock, LockAll, Mode, Owner, Token};
use crate::error::{ConnectionError, Error, PAUSE};
use crate::guard::Guard;
use crate::hold::{Hold, Losing, unlock_line};
use crate::pool::Lane;
use crate::session::handshake::expire_of;
use crate::session::{Answers, Batch, Reservation, Session, Wanted};
use crate::word::Line;

/// The shortest lease: it has to be renewed at a third of it.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// The longest wait that the protocol knows.
const LONGEST_WAIT: Duration = Duration::from_millis(4_294_967_295);

/// By which session a lock is asked for.
#[derive(Debug, Clone)]
pub(crate) enum By {
    /// By whichever: the one that all share, or one of its own.
    Any,
    /// By this one, which others use, too.
    This(Arc<Lane>),
}

/// A lock that is about to be asked for. It is asked for when this is awaited, and the result is a
/// [`Guard`].
///
/// If the future is dropped before it is ready, the request leaves its queue, and no lock stays behind.
#[derive(Debug, Clone)]
#[must_use = "a lock is asked for when this is awaited"]
pub struct Acquire {
    client: Client,
    by: By,
    want: Want,
}

#[derive(Debug, Clone)]
struct Want {
    keys: Vec<Vec<u8>>,
    /// By `lock_all`, also if it is one.
    is_several: bool,
    mode: Mode,
    owner: Option<Vec<u8>>,
    /// Nobody else uses the owner's word.
    is_unique: bool,
    wait: Duration,
    lease: Option<Duration>,
}

impl Acquire {
    pub(crate) fn one(client: Client, by: By, key: Vec<u8>) -> Self {
        Self::new(client, by, vec![key], false)
    }

    pub(crate) fn several(client: Client, by: By, keys: Vec<Vec<u8>>) -> Self {
        Self::new(client, by, keys, true)
    }

    fn new(client: Client, by: By, keys: Vec<Vec<u8>>, is_several: bool) -> Self {
        let want = Want {
            keys,
            is_several,
            mode: Mode::Exclusive,
            owner: None,
            is_unique: false,
            wait: Duration::ZERO,
            lease: None,
        };
        Self { client, by, want }
    }

    /// Waits that long if others hold the lock; without this, not at all.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.want.wait = wait.min(LONGEST_WAIT);
        self
    }

    /// Gives the lock a lease of at least a second, which is renewed at each third of it: so the lock
    /// ends, at the latest, that long after this process hangs, although its connection stands.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.want.lease = Some(lease);
        self
    }

    /// Shares the lock with all who name this value.
    pub fn shared(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.want.mode = Mode::Shared(value.into());
        self
    }

    /// Takes one of so many slots.
    pub fn slots(mut self, slots: u32) -> Self {
        self.want.mode = Mode::Slots(slots);
        self
    }

    /// Takes the lock for an owner: a word of the application's, to which it belongs beyond any connection,
    /// until it is released by that word, or its lease ends. Choose a word that no other has by chance: whoever
    /// uses the same is the same owner. That somebody else released the lock, by the word or by `break`, is
    /// noticed with the next sign of life, within 15 seconds.
    ///
    /// When the connection breaks while it is asked for, and the word has the lock afterwards, nobody can
    /// know whether it was granted to this request ([`Error::Connection`]): ask [`Client::owner_token`], or
    /// release it. Or name a word that is only this request's: [`Acquire::unique_owner`].
    pub fn owner(mut self, word: impl Into<Vec<u8>>) -> Self {
        self.want.owner = Some(word.into());
        self
    }

    /// As [`Acquire::owner`], by a word that was made for this request, and that no other has used or will
    /// use for this key: so a grant whose answer was lost with its connection is known for its own.
    pub fn unique_owner(self, word: impl Into<Vec<u8>>) -> Self {
        let mut unique = self.owner(word);
        unique.want.is_unique = true;
        unique
    }

    async fn run(self) -> Result<Guard, Error> {
        self.want.check()?;
        let (mut told, result) = oneshot::channel();
        tokio::spawn(async move {
            let outcome = self.acquire(&mut told).await;
            // A caller who has gone leaves a guard that is dropped here, and releases.
            drop(told.send(outcome));
        });
        result
            .await
            .unwrap_or(Err(ConnectionError::ClientClosed.into()))
    }

    async fn acquire(self, caller: &mut Caller) -> Result<Guard, Error> {
        let until = Moment::now().plus(self.want.wait);
        match &self.by {
            By::This(lane) => {
                let session = &lane.session;
                let kept = session.reserve(self.want.reserved_keys());
                // The session holds it, or asks for it: waiting for that would be for itself.
                let kept = kept.ok_or(Error::Unavailable)?;
                let main = self.client.main();
                let granted = self.want.ask(main, session, until, caller).await?;
                Ok(self.guard(granted, Arc::clone(session), kept, Some(Arc::clone(lane))))
            }
            By::Any => {
                let main = self.client.main();
                if let Some(kept) = main.reserve(self.want.reserved_keys()) {
                    let at_once = Moment(0);
                    match self.want.ask(main, main, at_once, caller).await {
                        Ok(granted) => {
                            return Ok(self.guard(granted, Arc::clone(main), kept, None));
                        }
                        // The session that all share may stand in a circle, and this request need not.
                        Err(Error::Unavailable | Error::Deadlock { .. }) => {}
                        Err(Error::ShuttingDown) if !self.want.wait.is_zero() => {}
                        Err(Error::Connection(_)) if self.want.may_ask_again(caller) => {}
                        Err(error) => return Err(error),
                    }
                    if self.want.wait.is_zero() {
                        return Err(Error::Unavailable);
                    }
                }
                self.acquire_by_lane(until, caller).await
            }
        }
    }

    async fn acquire_by_lane(&self, until: Moment, caller: &mut Caller) -> Result<Guard, Error> {
        let lane = self.client.pool().take()?;
        let session = Arc::clone(&lane.session);
        let kept = session.reserve(self.want.reserved_keys());
        let kept = kept.ok_or(Error::Unavailable)?;
        let main = self.client.main();
        let granted = self.want.ask(main, &session, until, caller).await?;
        if self.want.owner.is_none() {
            return Ok(self.guard(granted, session, kept, Some(Arc::new(lane))));
        }
        // It is bound to no session, so this one need not be kept for it.
        let holds = granted.renewed_by(main);
        Ok(Guard::new(
            holds,
            Arc::clone(main),
            kept,
            None,
            self.client.clone(),
        ))
    }

    fn guard(
        &self,
        granted: Granted,
        session: Arc<Session>,
        kept: Reservation,
        lane: Option<Arc<Lane>>,
    ) -> Guard {
        Guard::new(granted.holds, session, kept, lane, self.client.clone())
    }
}

impl IntoFuture for Acquire {
    type Output = Result<Guard, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

type Caller = oneshot::Sender<Result<Guard, Error>>;

/// Locks that a session's list of holds knows.
struct Granted {
    holds: Vec<Arc<Hold>>,
    session: Arc<Session>,
}

/// What became of a request for an owner whose answer did not come.
enum Found {
    /// It was granted.
    Ours(Granted),
    /// The owner has the lock, perhaps by another request.
    Perhaps,
    /// The owner has it not.
    Nothing,
}

impl Granted {
    /// Moves them into the list of another session.
    fn renewed_by(self, other: &Arc<Session>) -> Vec<Arc<Hold>> {
        self.session.vital.remove(&self.holds);
        other.vital.adopt(&self.holds);
        self.holds
    }
}

impl Want {
    fn check(&self) -> Result<(), Error> {
        if self.lease.is_some_and(|lease| lease < SHORTEST_LEASE) {
            return Err(Error::BadOption("a lease is at least one second"));
        }
        if self.mode == Mode::Slots(0) {
            return Err(Error::BadOption("a lock has at least one slot"));
        }
        if self.is_several && (self.mode != Mode::Exclusive || self.owner.is_some()) {
            let text = "several keys are locked exclusively, for the session";
            return Err(Error::BadOption(text));
        }
        self.request(Duration::ZERO, None)?;
        for key in &self.keys {
            unlock_line(key, self.owner.as_deref())?;
        }
        Ok(())
    }

    fn may_ask_again(&self, caller: &Caller) -> bool {
        !self.wait.is_zero() && self.owner.is_none() && !caller.is_closed()
    }

    /// Locks of owners are never taken twice, so their keys need not be kept from others.
    fn reserved_keys(&self) -> &[Vec<u8>] {
        match self.owner {
            Some(_) => &[],
            None => &self.keys,
        }
    }

    fn request(&self, wait: Duration, lease: Option<Duration>) -> Result<Line, Error> {
        let line = match self.is_several {
            true => LockAll {
                keys: self.keys.clone(),
                wait,
            }
            .line(),
            false => Lock {
                key: self.keys[0].clone(),
                mode: self.mode.clone(),
                wait,
                owner: self.owner.clone().map(|word| Owner {
                    word,
                    lease: lease.unwrap_or_default(),
                }),
            }
            .line(),
        };
        Ok(line?)
    }

    /// Asks until there is an answer that counts: a connection that breaks is made anew, and as the
    /// session goes on, asking again is asking for the same.
    async fn ask(
        &self,
        main: &Arc<Session>,
        session: &Arc<Session>,
        until: Moment,
        caller: &mut Caller,
    ) -> Result<Granted, Error> {
        // While a request waits, what is known of its session is known by the first one.
        let _wanted = Wanted::new(&main.vital);
        let mut is_open = false;
        let asked = self.ask_until(session, until, caller, &mut is_open).await;
        if asked.is_err() && is_open && self.is_only_ours() {
            self.release(session);
        }
        asked
    }

    /// What is granted to an owner belongs to it, and perhaps by another's request.
    fn is_only_ours(&self) -> bool {
        self.owner.is_none() || self.is_unique
    }

    /// `is_open`: whether an answer was lost, so that the lock may be held.
    async fn ask_until(
        &self,
        session: &Arc<Session>,
        until: Moment,
        caller: &mut Caller,
        is_open: &mut bool,
    ) -> Result<Granted, Error> {
        let patience = session.vital.options.patience();
        let give_up = until.max(Moment::now().plus(patience));
        // Why the answer to the request for an owner did not come.
        let mut lost = None;
        loop {
            let left = give_up.after(Moment::now());
            tokio::select! {
                ready = session.ready(left, ConnectionError::is_stranger) => ready?,
                () = caller.closed() => return Err(ConnectionError::ClientClosed.into()),
            }
            let found = match &lost {
                Some(_) => self.look_for_it(session).await,
                None => Ok(Found::Nothing),
            };
            let asked = match (found, lost.take()) {
                (Ok(Found::Ours(granted)), _) => return Ok(granted),
                (Ok(Found::Perhaps), Some(why)) => return Err(why),
                (Ok(Found::Nothing | Found::Perhaps), was_lost) => {
                    *is_open &= was_lost.is_none();
                    let wait = until.after(Moment::now());
                    self.ask_once(session, wait, caller, is_open).await
                }
                (Err(failed), _) => Err(failed),
            };
            let failed = match asked {
                Ok(granted) => return Ok(granted),
                Err(failed) => failed,
            };
            match failed {
                Error::Connection(_) => {
                    lost = Some(failed.clone()).filter(|_| *is_open && self.owner.is_some());
                }
                Error::Lost { .. } => {
                    *is_open = true;
                    lost = self.is_unique.then(|| failed.clone());
                }
                Error::ShuttingDown if Moment::now() < until => tokio::time::sleep(PAUSE).await,
                Error::NotStored { .. } => {
                    *is_open = true;
                    return Err(failed);
                }
                _ => return Err(failed),
            }
            if Moment::now() >= give_up || caller.is_closed() {
                return Err(failed);
            }
        }
    }

    /// One request, and what its grant tells. A connection that breaks in between is an error.
    async fn ask_once(
        &self,
        session: &Arc<Session>,
        wait: Duration,
        caller: &mut Caller,
        is_open: &mut bool,
    ) -> Result<Granted, Error> {
        let lease = session.vital.lease_of(self.lease);
        let request = self.request(wait, lease)?;
        if !wait.is_zero() {
            prepare_to_wait(session, wait);
        }
        let batch = Batch::default().for_lock(&request, wait);
        // What follows a request that waits is asked behind it, to know a moment of the server after
        // the grant.
        let expire = match wait.is_zero() && self.owner.is_some() {
            // An owner's lease is a part of the request; asked for by itself, it would be given to
            // whoever has the lock by that word, also if the request is refused.
            true => None,
            false => lease,
        };
        let batch = match wait.is_zero() {
            true => self.and_what_it_is(batch, expire)?,
            false => batch,
        };
        let asked = session.ask(batch);
        tokio::pin!(asked);
        let asked = tokio::select! {
            outcome = &mut asked => outcome,
            () = caller.closed(), if !wait.is_zero() => {
                *is_open = true;
                self.leave(session, asked).await;
                return Err(ConnectionError::ClientClosed.into());
            }
        };
        let mut answers = asked.inspect_err(|broken| *is_open |= broken.was_sent)?;
        answers.list.remove(0).done()?;
        if !wait.is_zero() {
            let batch = self.and_what_it_is(Batch::default(), expire)?;
            answers = session.ask(batch).await.inspect_err(|_| {
                *is_open = true;
                // It was granted, and whether it still is nobody will know.
                if !self.is_only_ours() {
                    self.release(session);
                }
            })?;
        }
        self.granted(session, answers, expire.is_some())
    }

    /// Whether the owner has the lock, after the answer to its request was lost. The old connection runs
    /// nothing any more: its session was resumed, or is over.
    async fn look_for_it(&self, session: &Arc<Session>) -> Result<Found, Error> {
        // Another's lock of the same word would get the lease, too.
        let lease = session
            .vital
            .lease_of(self.lease)
            .filter(|_| self.is_unique);
        let batch = self.and_what_it_is(Batch::default(), lease)?;
        let answers = session.ask(batch).await?;
        let token = answers.list.last().cloned().map(Answer::done);
        match token {
            Some(Err(Error::NotHeld(_))) => Ok(Found::Nothing),
            Some(Err(error)) => Err(error),
            _ if self.is_unique => {
                let granted = self.granted(session, answers, lease.is_some())?;
                Ok(Found::Ours(granted))
            }
            _ => Ok(Found::Perhaps),
        }
    }

    /// The lease, and the token, of each lock.
    fn and_what_it_is(&self, mut batch: Batch, lease: Option<Duration>) -> Result<Batch, Error> {
        for key in &self.keys {
            if let Some(lease) = lease {
                batch = batch.and(&Expire {
                    key: key.clone(),
                    lease,
                    owner: self.owner.clone(),
                })?;
            }
            batch = batch.and(&Token {
                key: key.clone(),
                owner: self.owner.clone(),
            })?;
        }
        Ok(batch)
    }

    /// The guard's part of what was answered: for each lock perhaps its lease, and its token. If a lock is
    /// gone already, none is kept.
    fn granted(
        &self,
        session: &Arc<Session>,
        answers: Answers,
        has_expire: bool,
    ) -> Result<Granted, Error> {
        let Answers {
            list, sent, epoch, ..
        } = answers;
        let mut list = list.into_iter();
        let mut holds = Vec::with_capacity(self.keys.len());
        let loss: Losing = Arc::default();
        for key in &self.keys {
            let token = told(&mut list, has_expire);
            let token = token.inspect_err(|_| self.release(session))?;
            let hold = Hold::new(
                key.clone(),
                self.owner.clone(),
                token,
                self.lease,
                sent,
                Arc::clone(&session.vital),
                Arc::clone(&loss),
            );
            holds.push(Arc::new(hold.by_unique_word(self.is_unique)));
        }
        session
            .vital
            .add(&holds, epoch)
            .map_err(|why| Error::Lost { why })?;
        Ok(Granted {
            holds,
            session: Arc::clone(session),
        })
    }

    /// The caller has gone: the request leaves its queue, and what was granted nevertheless is released.
    async fn leave(
        &self,
        session: &Arc<Session>,
        asked: Pin<&mut impl Future<Output = crate::session::Outcome>>,
    ) {
        session.sever();
        if asked.await.is_ok_and(|answers| answers.list[0].code == 200) {
            self.release(session);
        }
    }

    /// Whatever of it is held, it is not needed any more.
    fn release(&self, session: &Arc<Session>) {
        let lines = self.keys.iter().filter_map(|key| {
            let owner = self.owner.as_deref();
            unlock_line(key, owner).ok()
        });
        session.must(lines.fold(Batch::default(), |batch, line| batch.line(&line)));
    }
}

/// Nothing is renewed while the session waits: so its leases are made longer by the wait.
fn prepare_to_wait(session: &Arc<Session>, wait: Duration) {
    let deadline = session.vital.options.request_deadline;
    let most = session.vital.max_hold().unwrap_or(Duration::MAX);
    for hold in session.vital.holds() {
        let Some(lease) = hold.lease() else { continue };
        let lease = lease.saturating_add(wait).min(most);
        let Ok(batch) = Batch::one(&expire_of(&hold, lease)) else {
            continue;
        };
        let renewal = hold.renewing(lease);
        session.call(batch, deadline, move |outcome| {
            let answers = outcome.ok().filter(|answers| answers.list[0].code == 200);
            if let Some(answers) = answers {
                hold.renewed(renewal, answers.sent);
            }
        });
    }
}

/// The token, if the lock is held and has its lease.
fn told(list: &mut impl Iterator<Item = Answer>, has_expire: bool) -> Result<u64, Error> {
    let lost = |error| match error {
        Error::NotHeld(why) => Error::Lost { why: why.into() },
        other => other,
    };
    let mut next = || {
        let answer = list.next().ok_or(ConnectionError::ClientClosed)?;
        answer.done().map_err(lost)
    };
    if has_expire {
        next()?;
    }
    Token::read(next()?)
}
