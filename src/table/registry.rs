//! All living sessions: what is shown of them, how their connections are reached, and which locks
//! they hold while they have no connection.

use std::collections::hash_map::RandomState;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::Notify;

use super::held_keys::HeldKeys;
use super::interleave;
use super::lost_locks::LostLocks;
use super::outcome::Outcome;
use super::session::Session;
use super::shrunk;
use super::signal::{Order, SharedSignal};
use crate::model::StoredSession;
use crate::model::{Key, NotResumed, Peer, Secret, SessionId, SessionNumber, SessionView};
#[cfg(feature = "store")]
use crate::model::{RestoredSession, SecretDigest, digest};

/// What became of a session when its connection ended.
#[derive(Debug)]
pub enum Detached {
    /// It lives on until its grace period ends.
    InGrace(Grace),
    /// It is over, and what it holds is to be released.
    Over(Session),
    /// As `Over`, because as many sessions are in their grace period as may be.
    NoRoom {
        /// The session whose grace period does not begin.
        session: Session,
        /// How often this has happened, this time included.
        nth: usize,
    },
    /// An operator has ended it, and what it holds is to be released; then
    /// [`LockTable::end_kicked`](super::LockTable::end_kicked) says that nothing is left of it.
    Kicked(Session),
    /// Nothing: the server stops, and the session lives on in the store.
    Stopping,
}

/// How an operator's order to end a session begins.
#[derive(Debug)]
pub enum Kick {
    /// There is no such session, or it is over.
    Unknown,
    /// Its connection has the order to let it go, and releases what it holds.
    Ordered,
    /// It has no connection: the caller releases what it holds, and then says so by
    /// [`LockTable::end_kicked`](super::LockTable::end_kicked).
    Over(Session),
}

/// The answer to a request to resume a session.
#[derive(Debug)]
pub enum Resumed {
    /// The connection speaks for it from now on.
    Yes(Outcome<()>),
    /// Nothing has changed.
    No(NotResumed),
}

/// The answer to a request to take a session over.
#[derive(Debug)]
pub enum TakenOver {
    /// The session had a connection until then, which has ended.
    FromConnection(Outcome<()>),
    /// The session was in its grace period.
    AfterDisconnect(Outcome<()>),
    /// Nothing has changed.
    No(NotResumed),
}

/// What people know a session by, beside its number.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Where it is, or was last, connected from.
    pub peer: Peer,
    /// What its client calls it.
    pub name: Option<Key>,
    /// The user whom it belongs to; `None` where nobody has to say who it is.
    pub user: Option<Key>,
}

/// A running grace period.
#[derive(Debug)]
pub struct Grace {
    /// The session.
    pub number: SessionNumber,
    /// When it ends.
    pub ends: Instant,
    /// Notified if a connection resumes the session before that.
    pub resumed: Arc<Notify>,
}

#[derive(Debug)]
struct Registered {
    /// Boxed, because most sessions have nothing of it.
    rare: Option<Box<Rare>>,
    grace: Duration,
    peer: Peer,
    presence: Presence,
}

/// What a session has only if its client wants it or says who it is, or if it loses a lock.
#[derive(Debug, Default)]
struct Rare {
    /// Drawn when the client first asks for the session's id. Without it the session cannot be
    /// resumed.
    secret: Option<Known>,
    /// What the client calls the session.
    name: Option<Key>,
    /// The user whom it belongs to. None in a server that asks nobody, and in a session from a run
    /// when it did not.
    user: Option<Key>,
    /// Where the losses of the session are noted: its list of keys has the same, or takes it from here.
    lost: Option<Arc<LostLocks>>,
}

/// What is known of a session's secret.
#[derive(Debug)]
enum Known {
    Secret(Secret),
    /// The session was restored, and its secret was not seen since.
    #[cfg(feature = "store")]
    Digest(SecretDigest),
}

#[derive(Debug)]
enum Presence {
    Connected(SharedSignal),
    /// Boxed, because most sessions are connected.
    InGrace(Box<InGrace>),
    /// An operator has ended it, and what it holds is being released.
    Kicked,
}

#[derive(Debug)]
struct InGrace {
    ends: Instant,
    held: HeldKeys,
    resumed: Arc<Notify>,
}

/// Over how many notifications those who take sessions over are spread: a connection needs no room for
/// one of its own then, and if thousands come at once, few are woken for another's sake.
const LET_GO: usize = 256;

/// How long a session that is taken over waits for the connection that does so, at the least: that
/// connection is woken when the old one lets go.
const TAKE_OVER_TIME: Duration = Duration::from_secs(5);

/// All living sessions, by number.
///
/// Invariants:
///
/// 1. A session is in here as connected exactly while a connection owns its [`Session`], and as in its
///    grace period from the end of that connection until it is resumed or ended. During the grace
///    period the list of its keys is in here, too.
/// 2. From the moment that an operator ends it, it is in here as kicked until all that it held is
///    released. Nothing brings it back from there. So of a kick, a resume and the end of a grace
///    period, the first one wins.
#[derive(Debug)]
pub(super) struct Registry {
    /// Boxed, as the map may have room for twice as many entries as there are.
    sessions: DashMap<SessionNumber, Box<Registered>, RandomState>,
    last_number: AtomicU64,
    /// How many there are: to ask the map is a walk over its shards.
    in_all: AtomicUsize,
    in_grace: AtomicUsize,
    /// Sessions that found no room for their grace period.
    turned_away: AtomicUsize,
    max_in_grace: usize,
    /// Notified when a connection has let one of the sessions go whose numbers fall here.
    let_go: Box<[Notify]>,
}

impl Registry {
    pub(super) fn new(max_in_grace: usize) -> Self {
        Self {
            sessions: DashMap::default(),
            last_number: AtomicU64::new(0),
            in_all: AtomicUsize::new(0),
            in_grace: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
            max_in_grace,
            let_go: (0..LET_GO).map(|_| Notify::new()).collect(),
        }
    }

    pub(super) fn open(&self, peer: Peer, grace: Duration) -> Session {
        let number = SessionNumber(self.last_number.fetch_add(1, Ordering::Relaxed) + 1);
        let signal = SharedSignal::default();
        self.in_all.fetch_add(1, Ordering::Relaxed);
        self.sessions.insert(
            number,
            Box::new(Registered {
                rare: None,
                grace,
                peer,
                presence: Presence::Connected(signal.clone()),
            }),
        );
        Session::new(number, HeldKeys::default(), signal)
    }

    /// Gives an order to the session's connection; false if it has none.
    #[cfg(test)]
    pub(super) fn order(&self, number: SessionNumber, order: Order) -> bool {
        let signal = self.sessions.get(&number).and_then(|one| one.signal());
        if let Some(signal) = &signal {
            signal.give(order);
        }
        signal.is_some()
    }

    /// Gives an order to every connection that there is.
    pub(super) fn order_all(&self, order: Order) {
        let signals: Vec<SharedSignal> = self
            .sessions
            .iter()
            .filter_map(|one| one.signal())
            .collect();
        signals.iter().for_each(|signal| signal.give(order));
    }

    pub(super) fn set_grace(&self, number: SessionNumber, grace: Duration) {
        if let Some(mut registered) = self.sessions.get_mut(&number) {
            registered.grace = grace;
        }
    }

    pub(super) fn id(&self, number: SessionNumber) -> Option<SessionId> {
        let secret = self.sessions.get(&number)?.known()?.secret()?;
        Some(SessionId { number, secret })
    }

    pub(super) fn peer(&self, number: SessionNumber) -> Option<Peer> {
        self.sessions.get(&number).map(|registered| registered.peer)
    }

    pub(super) fn identity(&self, number: SessionNumber) -> Option<Identity> {
        let registered = self.sessions.get(&number);
        registered.map(|registered| registered.identity())
    }

    pub(super) fn name(&self, number: SessionNumber) -> Option<Key> {
        self.sessions.get(&number)?.name()
    }

    pub(super) fn set_name(&self, number: SessionNumber, name: Key) {
        if let Some(mut registered) = self.sessions.get_mut(&number) {
            registered.rare_mut().name = Some(name);
        }
    }

    pub(super) fn user(&self, number: SessionNumber) -> Option<Key> {
        self.sessions.get(&number)?.user().cloned()
    }

    pub(super) fn set_user(&self, number: SessionNumber, user: Key) {
        if let Some(mut registered) = self.sessions.get_mut(&number) {
            registered.rare_mut().user = Some(user);
        }
    }

    pub(super) fn set_secret(&self, number: SessionNumber, secret: Secret) -> SessionId {
        if let Some(mut registered) = self.sessions.get_mut(&number) {
            debug_assert!(registered.known().is_none(), "an id does not change");
            registered.rare_mut().secret = Some(Known::Secret(secret));
        }
        SessionId { number, secret }
    }

    /// The session as the store is to keep it.
    pub(super) fn to_store(&self, number: SessionNumber) -> StoredSession {
        let registered = self.sessions.get(&number);
        debug_assert!(registered.is_some(), "a session in use is registered");
        registered.map_or_else(StoredSession::default, |registered| StoredSession {
            grace: registered.grace,
            secret: registered.known().and_then(Known::secret),
            user: registered.user().cloned(),
        })
    }

    /// From here on sessions get numbers above this.
    #[cfg(feature = "store")]
    pub(super) fn count_from(&self, above: SessionNumber) {
        self.last_number.fetch_max(above.0, Ordering::Relaxed);
    }

    /// Adds a session that a store has kept. Its grace period begins, and this first one takes `least` at
    /// the least.
    #[cfg(feature = "store")]
    pub(super) fn restore(
        &self,
        session: RestoredSession,
        held: HeldKeys,
        (now, least): (Instant, Duration),
    ) -> Grace {
        let RestoredSession {
            number,
            grace,
            secret,
            user,
        } = session;
        self.count_from(number);
        self.in_grace.fetch_add(1, Ordering::Relaxed);
        let lost = held.lost.clone();
        let is_rare = secret.is_some() || user.is_some() || lost.is_some();
        let (presence, running) = begin_grace(number, grace.max(least), held, now);
        let registered = Registered {
            rare: is_rare.then(|| {
                Box::new(Rare {
                    secret: secret.map(Known::Digest),
                    name: None,
                    user,
                    lost,
                })
            }),
            grace,
            peer: Peer::BeforeRestart,
            presence,
        };
        self.in_all.fetch_add(1, Ordering::Relaxed);
        self.sessions.insert(number, Box::new(registered));
        running
    }

    /// Starts the grace period. A session is over at once if its grace period is zero, or if it
    /// holds nothing and its client never asked for its id. One that is taken over lives on in any
    /// case, for as long as the connection that takes it over may need to see that.
    pub(super) fn detach(&self, session: Session, now: Instant) -> Detached {
        let Session {
            number,
            mut held,
            signal,
            ..
        } = session;
        let Some(mut registered) = self.sessions.get_mut(&number) else {
            debug_assert!(false, "a session in use is registered");
            return Detached::Over(Session::new(number, held, signal));
        };
        if matches!(registered.presence, Presence::Kicked) {
            return Detached::Kicked(Session::new(number, held, signal));
        }
        // Else a loss that is noted from here on would be noted where the session does not look.
        held.lost = registered.losses();
        let is_taken_over = signal.order() == Some(Order::TakenOver);
        let grace = registered.grace;
        let holds_nothing = held.count() == 0;
        let is_over = grace.is_zero() || holds_nothing && registered.known().is_none();
        let has_room = !is_over && self.enter_grace(&mut held, holds_nothing);
        let grace_or_none = match (has_room, is_taken_over) {
            (true, true) => Some(grace.max(TAKE_OVER_TIME)),
            (true, false) => Some(grace),
            (false, true) => {
                self.in_grace.fetch_add(1, Ordering::Relaxed);
                Some(TAKE_OVER_TIME)
            }
            (false, false) => None,
        };
        if let Some(grace) = grace_or_none {
            let (presence, grace) = begin_grace(number, grace, held, now);
            registered.presence = presence;
            drop(registered);
            interleave::between_guards();
            self.tell_let_go(number);
            return Detached::InGrace(grace);
        }
        drop(registered);
        interleave::between_guards();
        self.remove(number);
        let session = Session::new(number, held, signal);
        match is_over {
            true => Detached::Over(session),
            false => Detached::NoRoom {
                session,
                nth: self.turned_away.fetch_add(1, Ordering::Relaxed) + 1,
            },
        }
    }

    /// Sessions that hold nothing get no more than half of the room, so that a client that leaves
    /// very many of them behind cannot cost other sessions their locks.
    fn enter_grace(&self, held: &mut HeldKeys, holds_nothing: bool) -> bool {
        let max = match holds_nothing {
            true => self.max_in_grace / 2,
            false => self.max_in_grace,
        };
        let one_more = |count: usize| (count < max).then_some(count + 1);
        let in_all = self
            .in_grace
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        let has_room = in_all.is_ok();
        if let (true, Some(tally)) = (has_room, &mut held.tally)
            && tally.enter_grace().is_err()
        {
            self.in_grace.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        has_room
    }

    /// Takes over a session in its grace period: its number and its locks become `session`'s, and
    /// `session`'s own number ends. If the session cannot be resumed, nothing has changed.
    pub(super) fn resume(
        &self,
        session: &mut Session,
        id: SessionId,
        now: Instant,
    ) -> Result<(), NotResumed> {
        if id.number == session.number {
            let registered = self.sessions.get(&id.number);
            let is_own = registered.is_some_and(|registered| registered.knows(id.secret));
            return is_own.then_some(()).ok_or(NotResumed::Unknown);
        }
        let user = self.user(session.number);
        let registered = self.sessions.get(&id.number).ok_or(NotResumed::Unknown)?;
        registered.can_be_resumed(id, user.as_ref(), now)?;
        drop(registered);
        interleave::between_guards();
        if session.held() > 0 {
            return Err(NotResumed::HoldsLocks);
        }
        let Some(peer) = self.peer(session.number) else {
            debug_assert!(false, "a session in use is registered");
            return Err(NotResumed::Unknown);
        };
        let grace = self.reattach(id, (peer, user), &session.signal, now)?;
        self.in_grace.fetch_sub(1, Ordering::Relaxed);
        grace.resumed.notify_one();
        interleave::between_guards();
        self.remove(session.number);
        let (signal, mut held) = (session.signal.clone(), grace.held);
        // It counts for the connection that speaks for it now, from the end of its turn on.
        held.tally = session.held.tally.take();
        *session = Session::new(id.number, held, signal);
        Ok(())
    }

    fn reattach(
        &self,
        id: SessionId,
        (peer, user): (Peer, Option<Key>),
        signal: &SharedSignal,
        now: Instant,
    ) -> Result<Box<InGrace>, NotResumed> {
        let registered = self.sessions.get_mut(&id.number);
        let mut registered = registered.ok_or(NotResumed::Unknown)?;
        registered.can_be_resumed(id, user.as_ref(), now)?;
        let rare = registered.rare_mut();
        rare.secret = Some(Known::Secret(id.secret));
        rare.user = user.or(rare.user.take());
        registered.peer = peer;
        let connected = Presence::Connected(signal.clone());
        match std::mem::replace(&mut registered.presence, connected) {
            Presence::InGrace(grace) => Ok(grace),
            Presence::Connected(_) | Presence::Kicked => Err(NotResumed::Unknown),
        }
    }

    /// Ends a session if its grace period is over at `now`, and returns it with what people
    /// know it by; `None` if the grace period is not over, or has not begun.
    pub(super) fn end_grace(
        &self,
        number: SessionNumber,
        now: Instant,
    ) -> Option<(Session, Identity)> {
        let (number, registered) = self
            .sessions
            .remove_if(&number, |_, registered| registered.presence.is_over_at(now))?;
        self.in_all.fetch_sub(1, Ordering::Relaxed);
        self.in_grace.fetch_sub(1, Ordering::Relaxed);
        let identity = registered.identity();
        match registered.presence {
            Presence::InGrace(grace) => {
                let session = Session::new(number, grace.held, SharedSignal::default());
                Some((session, identity))
            }
            Presence::Connected(_) | Presence::Kicked => None,
        }
    }

    /// Ends a session, wherever it is. From then on it is [kicked](Presence::Kicked), and no connection
    /// can have it any more. `note` is called under the guard, unless it was so before.
    pub(super) fn kick(&self, number: SessionNumber, note: impl FnOnce()) -> Kick {
        let Some(mut registered) = self.sessions.get_mut(&number) else {
            return Kick::Unknown;
        };
        match std::mem::replace(&mut registered.presence, Presence::Kicked) {
            Presence::Connected(signal) => {
                // Under the guard, so that the connection does not speak for another session by then.
                signal.set(Order::Kill);
                note();
                drop(registered);
                signal.wake();
                Kick::Ordered
            }
            Presence::InGrace(grace) => {
                self.in_grace.fetch_sub(1, Ordering::Relaxed);
                note();
                drop(registered);
                // Its grace period need not be waited for any more.
                grace.resumed.notify_one();
                Kick::Over(Session::new(number, grace.held, SharedSignal::default()))
            }
            Presence::Kicked => Kick::Ordered,
        }
    }

    /// Returns once the session is over and all that it held was released. Cancel safe.
    pub(super) async fn until_over(&self, number: SessionNumber) {
        self.until(number, || !self.sessions.contains_key(&number))
            .await;
    }

    /// The first `most` sessions with this name whose user `is_seen`, by number, and how many there are.
    pub(super) fn named(
        &self,
        name: &[u8],
        is_seen: impl Fn(Option<&Key>) -> bool,
        most: usize,
    ) -> (Vec<SessionNumber>, usize) {
        let is_it = |registered: &Registered| {
            let own = registered.rare.as_ref().and_then(|rare| rare.name.as_ref());
            own.is_some_and(|own| own.as_bytes() == name) && is_seen(registered.user())
        };
        let named = self.sessions.iter().filter(|one| is_it(one.value()));
        let mut numbers: Vec<_> = named.map(|one| *one.key()).collect();
        let in_all = numbers.len();
        numbers.sort_unstable();
        numbers.truncate(most);
        (numbers, in_all)
    }

    /// Where the losses of a session are noted; `None` if it is over, or none can be.
    pub(super) fn losses(&self, number: SessionNumber) -> Option<Arc<LostLocks>> {
        self.sessions.get(&number)?.losses()
    }

    /// As [`Registry::losses`], for a session of which some may be noted from now on.
    pub(super) fn losses_to_come(&self, number: SessionNumber) -> Option<Arc<LostLocks>> {
        Some(self.sessions.get_mut(&number)?.losses_to_come())
    }

    /// The same for an operator who takes a lock from the session: it will look for its losses.
    pub(super) fn losses_by_revocation(&self, number: SessionNumber) -> Option<Arc<LostLocks>> {
        let mut registered = self.sessions.get_mut(&number)?;
        let lost = registered.losses_to_come();
        match &mut registered.presence {
            Presence::Connected(signal) => signal.note_revocation(),
            Presence::InGrace(grace) => grace.held.lost = Some(Arc::clone(&lost)),
            Presence::Kicked => {}
        }
        Some(lost)
    }

    pub(super) fn remove(&self, number: SessionNumber) {
        if self.sessions.remove(&number).is_some() {
            self.in_all.fetch_sub(1, Ordering::Relaxed);
        }
        interleave::between_guards();
        self.tell_let_go(number);
    }

    /// Orders the connection of the session with this id to let it go, and returns how it is reached;
    /// `None` if it has none, or if the user of `session` can resume no session with the id.
    pub(super) fn order_to_let_go(&self, id: SessionId, session: &Session) -> Option<SharedSignal> {
        let user = self.user(session.number);
        let registered = self.sessions.get(&id.number)?;
        let signal = registered
            .signal()
            .filter(|_| registered.is_meant(id, user.as_ref()))?;
        // Under the guard, so that the connection does not speak for another session by then.
        signal.set(Order::TakenOver);
        drop(registered);
        signal.wake();
        Some(signal)
    }

    fn tell_let_go(&self, number: SessionNumber) {
        self.let_go(number).notify_waiters();
    }

    fn let_go(&self, number: SessionNumber) -> &Notify {
        &self.let_go[number.0 as usize % LET_GO]
    }

    /// Returns once this is not the signal of the session's connection any more.
    pub(super) async fn until_let_go(&self, number: SessionNumber, signal: &SharedSignal) {
        self.until(number, || !self.is_connected_by(number, signal))
            .await;
    }

    /// Returns once this is so; it becomes so where those are [told](Registry::tell_let_go) who wait for
    /// the session.
    async fn until(&self, number: SessionNumber, is_so: impl Fn() -> bool) {
        loop {
            let mut letting_go = pin!(self.let_go(number).notified());
            // From here on it is not missed.
            letting_go.as_mut().enable();
            interleave::between_guards();
            if is_so() {
                return;
            }
            letting_go.await;
        }
    }

    /// Whether this is the signal of the session's connection.
    fn is_connected_by(&self, number: SessionNumber, signal: &SharedSignal) -> bool {
        let registered = self.sessions.get(&number);
        let own = registered.and_then(|registered| registered.signal());
        own.is_some_and(|own| SharedSignal::ptr_eq(&own, signal))
    }

    /// Gives back what the map keeps, if there was much more in it.
    pub(super) fn shrink(&self) {
        if shrunk(self.sessions.len(), self.sessions.capacity()).is_some() {
            self.sessions.shrink_to_fit();
        }
    }

    /// All sessions, and how many of them have a connection.
    pub(super) fn counts(&self) -> (usize, usize) {
        // The two are not read at one moment, so the difference may fall below zero.
        let in_grace = self.in_grace.load(Ordering::Relaxed);
        let all = self.in_all.load(Ordering::Relaxed);
        (all, all.saturating_sub(in_grace))
    }

    /// The numbers above this, in their order, `most` at the most.
    pub(super) fn numbers(&self, above: SessionNumber, most: usize) -> Vec<SessionNumber> {
        let numbers = self.sessions.iter().map(|registered| *registered.key());
        let mut numbers: Vec<_> = numbers.filter(|number| *number > above).collect();
        numbers.sort_unstable();
        numbers.truncate(most);
        numbers
    }

    pub(super) fn view(&self, number: SessionNumber) -> Option<SessionView> {
        Some(self.sessions.get(&number)?.view(number))
    }
}

fn begin_grace(
    number: SessionNumber,
    grace: Duration,
    held: HeldKeys,
    now: Instant,
) -> (Presence, Grace) {
    let (ends, resumed) = (now + grace, Arc::new(Notify::new()));
    let presence = Presence::InGrace(Box::new(InGrace {
        ends,
        held,
        resumed: Arc::clone(&resumed),
    }));
    let grace = Grace {
        number,
        ends,
        resumed,
    };
    (presence, grace)
}

impl Registered {
    fn can_be_resumed(
        &self,
        id: SessionId,
        user: Option<&Key>,
        now: Instant,
    ) -> Result<(), NotResumed> {
        match &self.presence {
            _ if !self.is_meant(id, user) => Err(NotResumed::Unknown),
            Presence::Connected(_) => Err(NotResumed::StillConnected),
            Presence::InGrace(grace) if grace.ends > now => Ok(()),
            Presence::InGrace(_) | Presence::Kicked => Err(NotResumed::Unknown),
        }
    }

    fn known(&self) -> Option<&Known> {
        self.rare.as_ref()?.secret.as_ref()
    }

    fn user(&self) -> Option<&Key> {
        self.rare.as_ref()?.user.as_ref()
    }

    /// Whether this is its id, and `user` may have it: no other than its own, if that is known.
    fn is_meant(&self, id: SessionId, user: Option<&Key>) -> bool {
        let mut both = self.user().zip(user).into_iter();
        self.knows(id.secret) && both.all(|(own, asks)| own == asks)
    }

    fn name(&self) -> Option<Key> {
        self.rare.as_ref()?.name.clone()
    }

    fn losses(&self) -> Option<Arc<LostLocks>> {
        self.rare.as_ref()?.lost.clone()
    }

    fn losses_to_come(&mut self) -> Arc<LostLocks> {
        Arc::clone(self.rare_mut().lost.get_or_insert_default())
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn knows(&self, secret: Secret) -> bool {
        self.known().is_some_and(|known| known.is(secret))
    }

    fn identity(&self) -> Identity {
        Identity {
            peer: self.peer,
            name: self.name(),
            user: self.user().cloned(),
        }
    }

    fn view(&self, number: SessionNumber) -> SessionView {
        let (held, active, grace_ends) = match &self.presence {
            Presence::Connected(signal) => (signal.held(), Some(signal.active()), None),
            Presence::InGrace(grace) => (grace.held.count(), None, Some(grace.ends)),
            Presence::Kicked => (0, None, None),
        };
        SessionView {
            number,
            name: self.name(),
            user: self.user().cloned(),
            grace: self.grace,
            peer: self.peer,
            grace_ends,
            held,
            active,
        }
    }

    fn signal(&self) -> Option<SharedSignal> {
        match &self.presence {
            Presence::Connected(signal) => Some(signal.clone()),
            Presence::InGrace(_) | Presence::Kicked => None,
        }
    }
}

impl Known {
    fn is(&self, secret: Secret) -> bool {
        match self {
            Self::Secret(known) => *known == secret,
            #[cfg(feature = "store")]
            Self::Digest(known) => *known == digest(secret),
        }
    }

    fn secret(&self) -> Option<Secret> {
        match self {
            Self::Secret(known) => Some(*known),
            #[cfg(feature = "store")]
            Self::Digest(_) => None,
        }
    }
}

impl Presence {
    fn is_over_at(&self, now: Instant) -> bool {
        matches!(self, Self::InGrace(grace) if grace.ends <= now)
    }
}
