//! The table and the model side by side: each step is run by both, and they must agree.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use elock::model::{
    Ask, AskedFor, Circle, Holder, Limits, NotResumed, Owner, Peer, Secret, SessionId,
    SessionNumber, Token, Value,
};
use elock::store::Changes;
use elock::table::{
    Claim, Detached, Ending, Event, Grant, Kick, LockTable, Locked, NotHeld, Order, Outcome,
    Resumed, Session, TakenOver, TokenClock, Trail, Unlocked, Watch,
};

use crate::rules::{Answer, For, Mode, Model, Request, Who};
use crate::steps::{Deed, KEYS, PLACES, Step};

/// The disk of these tests works.
const STORED: &str = "it is stored";

pub struct Both {
    model: Model,
    table: Arc<LockTable>,
    start: Instant,
    clients: [Option<Client>; PLACES],
    ids: Vec<(u64, SessionId)>,
    /// What the table showed last, by holder and key, and the largest of all.
    tokens: BTreeMap<(Who, u8), Token>,
    last_token: Token,
    /// What the audit was told of that is held.
    audited: BTreeMap<(Who, u8), Token>,
    /// The largest of those that a client may have been told of as its own: not of a grant that is one
    /// of several.
    last_told: Token,
    #[cfg(feature = "store")]
    store: Option<Store>,
}

/// A connected session.
struct Client {
    session: Session,
    several: Option<Several>,
}

/// A request for several keys that is under way.
struct Several {
    claims: Vec<Claim>,
    asked: Vec<u8>,
    keys: VecDeque<u8>,
    until_ms: Option<u64>,
    /// Whether the keys are kept, if all are got.
    keep: bool,
}

#[cfg(feature = "store")]
struct Store {
    directory: tempfile::TempDir,
    writer: elock::store::Writer,
}

fn key_bytes(key: u8) -> Vec<u8> {
    vec![b'k', key]
}

fn owner_of(word: u8) -> Owner {
    Owner::new(&[b'o', word])
}

fn who_is(holder: &Holder) -> Who {
    match holder {
        Holder::Session(number) => Who::Session(number.0),
        Holder::Owner(owner) => Who::Owner(owner.as_bytes()[1]),
    }
}

fn holder_of(who: Who) -> Holder {
    match who {
        Who::Session(number) => Holder::Session(SessionNumber(number)),
        Who::Owner(word) => Holder::Owner(owner_of(word)),
    }
}

fn mode_of(mode: Mode) -> elock::model::Mode {
    match mode {
        Mode::Exclusive => elock::model::Mode::Exclusive,
        Mode::Value(value) => elock::model::Mode::Shared(Value::new(&[value])),
        Mode::Slot(slots) => {
            elock::model::Mode::Slot(NonZeroU32::new(slots).expect("at least one slot"))
        }
    }
}

fn ask_of(request: &Request) -> Ask {
    let holder = match request.by {
        For::Itself => AskedFor::Session,
        For::ItselfWithOthers => AskedFor::SessionWithOthers { has_one: false },
        For::Owner { word, lease_ms } => {
            AskedFor::Owner(owner_of(word), lease_ms.map(Duration::from_millis))
        }
    };
    let mode = mode_of(request.mode);
    Ask { mode, holder }
}

fn poll_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl Client {
    fn number(&self) -> u64 {
        self.session.number().0
    }

    fn who(&self, owner: Option<u8>) -> Who {
        owner.map_or(Who::Session(self.number()), Who::Owner)
    }
}

impl Both {
    pub fn new(limits: Limits) -> Self {
        let table = LockTable::new(limits, TokenClock::default(), Changes::default())
            .followed_by(Trail::followed());
        Self {
            model: Model::new(limits),
            table: Arc::new(table),
            start: Instant::now(),
            clients: Default::default(),
            ids: Vec::new(),
            tokens: BTreeMap::new(),
            last_token: Token(0),
            last_told: Token(0),
            audited: BTreeMap::new(),
            #[cfg(feature = "store")]
            store: None,
        }
    }

    /// With a store in a directory of its own.
    #[cfg(feature = "store")]
    pub fn stored(limits: Limits) -> Self {
        let mut both = Self::new(limits);
        both.start_on(tempfile::tempdir().expect("a directory"));
        both
    }

    #[cfg(feature = "store")]
    fn start_on(&mut self, directory: tempfile::TempDir) {
        let opened = elock::store::disk::open(directory.path());
        let (storage, restored) = opened.expect("it was free");
        let (changes, writer) = Changes::to(storage).expect("a thread");
        let (limits, clock) = (self.model.limits, TokenClock::default());
        let table = LockTable::restore(
            limits,
            clock,
            changes,
            restored,
            (self.now(), Duration::ZERO),
        );
        let table = table.expect("no contradiction").0;
        self.table = Arc::new(table.followed_by(Trail::followed()));
        self.store = Some(Store { directory, writer });
    }

    /// Everything but the store is gone at once; it is asked to write before that.
    #[cfg(feature = "store")]
    fn restart(&mut self) {
        let Some(Store { directory, writer }) = self.store.take() else {
            return;
        };
        self.assert_same_audit();
        self.clients = Default::default();
        writer.finish().expect("the disk works");
        self.model.restart();
        self.last_token = self.last_told;
        self.start_on(directory);
        self.audited = self.held_now();
        // Some grace periods are over at once.
        self.advance(0);
    }

    #[cfg(not(feature = "store"))]
    fn restart(&mut self) {}

    fn now(&self) -> Instant {
        self.at(self.model.now_ms)
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// Runs the step if the session that it is for can take one.
    pub fn run(&mut self, step: &Step) {
        match step {
            Step::Open { at } => self.open(*at),
            Step::Advance { by_ms } => self.advance(*by_ms),
            Step::Restart => self.restart(),
            Step::Client { at, deed } => {
                if let Some(client) = self.clients[*at].take() {
                    self.clients[*at] = self.run_client(client, deed);
                }
            }
        }
    }

    fn open(&mut self, at: usize) {
        if self.clients[at].is_none() {
            let grace = Duration::from_millis(1000);
            let session = self.table.open(Peer::Unix(None), grace);
            self.model.open(session.number().0);
            let several = None;
            self.clients[at] = Some(Client { session, several });
        }
    }

    fn run_client(&mut self, mut client: Client, deed: &Deed) -> Option<Client> {
        let waits = self.table.is_waiting(&client.session);
        assert_eq!(waits, self.model.is_waiting(client.number()));
        match deed {
            Deed::Disconnect => {
                self.disconnect(client, false);
                return None;
            }
            Deed::EndWait { ending } if waits => self.end_wait(&mut client, *ending),
            Deed::EndWait { .. } => {}
            _ if waits => {}
            deed => self.run_idle(&mut client, deed),
        }
        Some(client)
    }

    fn run_idle(&mut self, client: &mut Client, deed: &Deed) {
        match *deed {
            Deed::Lock {
                key,
                mode,
                by,
                wait_ms,
            } => {
                let request = Request {
                    session: client.number(),
                    key,
                    mode,
                    by,
                    until_ms: wait_ms.map(|wait_ms| self.model.now_ms + wait_ms),
                };
                self.request(client, request);
            }
            Deed::LockAll {
                ref keys,
                wait_ms,
                keep,
            } => {
                client.several = Some(Several {
                    claims: Vec::new(),
                    asked: keys.clone(),
                    keys: keys.iter().copied().collect(),
                    until_ms: wait_ms.map(|wait_ms| self.model.now_ms + wait_ms),
                    keep,
                });
                self.go_on(client);
            }
            Deed::Unlock { key, owner } => self.unlock(client, key, owner),
            Deed::Token { key, owner } => self.token(client, key, owner),
            Deed::Lease {
                key,
                owner,
                lease_ms,
            } => self.lease(client, key, owner, lease_ms),
            Deed::SetMode { key, owner, mode } => self.set_mode(client, key, owner, mode),
            Deed::Break { key, first, most } => self.break_some(client, key, first, most),
            Deed::Revoke { key, most } => self.revoke_some(client, key, most),
            Deed::Kick { nth } => self.kick(client, nth),
            Deed::UnlockAll => self.unlock_all(client),
            Deed::SetGrace { grace_ms } => self.set_grace(client, grace_ms),
            Deed::AskId => self.ask_id(client),
            Deed::Resume { nth_id } => self.resume(client, nth_id),
            Deed::TakeOver { nth_id } => self.take_over(client, nth_id),
            Deed::EndWait { .. } | Deed::Disconnect => unreachable!("not for the idle"),
        }
    }

    // ------------------------------------------------------------------ locking

    /// Asks both, and returns what the table says of the grant, too.
    fn request(&mut self, client: &mut Client, request: Request) -> (Answer, Option<Claim>) {
        let Request { key, until_ms, .. } = request;
        let (bytes, ask, now) = (key_bytes(key), ask_of(&request), self.now());
        let session = &mut client.session;
        let answer = match until_ms {
            Some(until_ms) => {
                let wait = Duration::from_millis(until_ms - self.model.now_ms);
                self.table.acquire(session, &bytes, &ask, wait, now)
            }
            None => self.table.try_acquire(session, &bytes, &ask, now),
        };
        let Outcome { value, mut basis } = answer.expect(STORED);
        if let Locked::Deadlock(circle) = &value {
            self.assert_true_circle(&request, circle);
        }
        let answer = match value {
            Locked::Acquired => Answer::Acquired,
            Locked::Again => Answer::Again,
            Locked::Busy => Answer::Busy,
            Locked::Conflict => Answer::Conflict,
            Locked::Deadlock(_) => Answer::Deadlock,
            Locked::Full(limit) => Answer::Full(limit),
            Locked::Waiting => Answer::Waiting,
            Locked::Draining | Locked::Stopping => unreachable!("nothing stops"),
        };
        assert_eq!(answer, self.model.request(request), "{request:?}");
        (answer, basis.take_claim())
    }

    fn assert_true_circle(&self, requester: &Request, circle: &Circle) {
        let steps = circle.steps();
        for (index, step) in steps.iter().enumerate() {
            let (waiter, key) = (step.waiter.0, step.key.as_bytes()[1]);
            let mut waiters = self.model.waiting.iter();
            let request = match index {
                0 => Some(requester),
                _ => waiters.find(|request| request.session == waiter),
            };
            let request = request.expect("who is in a circle waits");
            assert_eq!((request.session, request.key), (waiter, key));
            let next = steps
                .get(index + 1)
                .map_or(requester.session, |next| next.waiter.0);
            assert!(
                self.model.waits_for(request, next, requester),
                "#{waiter} waits for {key} and so for #{next}"
            );
        }
    }

    /// Those who the model says got the lock find that they have it, however their waits end.
    fn settle_granted(&mut self, granted: &[u64]) {
        for number in granted {
            let at = self.place_of(*number).expect("it is connected");
            let mut client = self.clients[at].take().expect("it is there");
            let ending = match number % 3 {
                0 => Ending::Decided,
                1 => Ending::Deadline,
                _ => Ending::Shutdown,
            };
            let wait = self.table.wait(&mut client.session).expect("it waits");
            let mut outcome = wait.end(ending, self.now());
            assert_eq!(outcome.value, Locked::Acquired);
            if let Some(several) = &mut client.several {
                several.claims.extend(outcome.basis.take_claim());
                self.go_on(&mut client);
            }
            self.clients[at] = Some(client);
        }
    }

    fn place_of(&self, number: u64) -> Option<usize> {
        let is_it = |client: &Option<Client>| {
            client
                .as_ref()
                .is_some_and(|client| client.number() == number)
        };
        self.clients.iter().position(is_it)
    }

    fn end_wait(&mut self, client: &mut Client, ending: Ending) {
        let wait = self.table.wait(&mut client.session).expect("it waits");
        let answer = wait.end(ending, self.now());
        let left = Locked::Busy;
        assert_eq!(answer.value, left, "who was granted it does not wait here");
        let granted = self.model.stop_waiting(client.number());
        self.settle_granted(&granted);
        self.give_back(client);
    }

    // ------------------------------------------------------------------ several keys

    /// Asks for one after another of several keys, until one is not to be had at once.
    fn go_on(&mut self, client: &mut Client) {
        while let Some(several) = &mut client.several {
            let Some(key) = several.keys.pop_front() else {
                return self.keep_all(client);
            };
            let now_ms = self.model.now_ms;
            let until_ms = several.until_ms.filter(|until_ms| *until_ms > now_ms);
            let request = Request {
                session: client.number(),
                key,
                mode: Mode::Exclusive,
                by: For::ItselfWithOthers,
                until_ms,
            };
            let (answer, claim) = self.request(client, request);
            match (answer, &mut client.several) {
                (Answer::Waiting, _) => return,
                (Answer::Acquired | Answer::Again, Some(several)) => several.claims.extend(claim),
                _ => return self.give_back(client),
            }
        }
    }

    /// The session has all of them.
    fn keep_all(&mut self, client: &mut Client) {
        match client.several.take() {
            Some(several) if several.keep => {
                let who = client.who(None);
                let has_all = several.asked.iter().all(|key| self.model.holds(who, *key));
                let (session, now) = (&mut client.session, self.now());
                let kept = self.table.keep_all(session, &several.claims, now);
                assert_eq!(kept.is_ok(), has_all, "it has lost one");
                match kept {
                    Ok(kept) => {
                        assert_eq!(kept.value, Locked::Acquired);
                        self.model.keep_all(client.number());
                    }
                    Err(_) => {
                        client.several = Some(several);
                        self.give_back(client);
                    }
                }
            }
            several => {
                client.several = several;
                self.give_back(client);
            }
        }
    }

    /// The session does not get all of them.
    fn give_back(&mut self, client: &mut Client) {
        let Some(several) = client.several.take() else {
            return;
        };
        let new = |claim| -> Option<Grant> {
            match claim {
                Claim::New(grant) => Some(grant),
                Claim::Listed(token) => self.table.listed_grant(&client.session, token),
                _ => None,
            }
        };
        let grants: Vec<Grant> = several.claims.into_iter().filter_map(new).collect();
        for grant in grants {
            let now = self.now();
            self.table.give_back(&mut client.session, &grant, now);
        }
        let granted = self.model.give_back(client.number());
        self.settle_granted(&granted);
    }

    // ------------------------------------------------------------------ what is held

    fn unlock(&mut self, client: &mut Client, key: u8, owner: Option<u8>) {
        let (who, word) = (client.who(owner), owner.map(owner_of));
        let (session, now) = (&mut client.session, self.now());
        let answer = self
            .table
            .unlock(session, &key_bytes(key), word.as_ref(), now);
        let answer = answer.expect(STORED).value;
        if self.model.holds(who, key) {
            let granted = self.model.unlock(who, key);
            let passed_on = !granted.is_empty();
            assert_eq!(answer, Unlocked::Released { passed_on });
            self.settle_granted(&granted);
        } else {
            let why = self.model.why_not_held(client.number(), who, key);
            assert_eq!(answer, Unlocked::NotHeld(why));
        }
    }

    /// Who asks for the token learns whether it lost the lock, and a token never falls.
    fn token(&mut self, client: &mut Client, key: u8, owner: Option<u8>) {
        let (who, word) = (client.who(owner), owner.map(owner_of));
        let session = &client.session;
        let answer = self.table.token(session, &key_bytes(key), word.as_ref());
        let expected = match self.model.holds(who, key) {
            true => Ok(self.tokens[&(who, key)]),
            false => Err(self.model.why_not_held(client.number(), who, key)),
        };
        assert_eq!(answer.value, expected);
    }

    fn lease(&mut self, client: &mut Client, key: u8, owner: Option<u8>, lease_ms: Option<u64>) {
        let (who, word) = (client.who(owner), owner.map(owner_of));
        let (session, now) = (&mut client.session, self.now());
        let lease = lease_ms.map(Duration::from_millis);
        let answer = self
            .table
            .set_lease(session, &key_bytes(key), word.as_ref(), lease, now);
        let expected = match self.model.holds(who, key) {
            true => {
                self.model.set_lease(who, key, lease_ms);
                Ok(())
            }
            false => Err(self.model.why_not_held(client.number(), who, key)),
        };
        assert_eq!(answer.expect(STORED).value, expected);
    }

    fn set_mode(&mut self, client: &mut Client, key: u8, owner: Option<u8>, mode: Mode) {
        let (who, word) = (client.who(owner), owner.map(owner_of));
        let (session, now) = (&mut client.session, self.now());
        let (bytes, asked) = (key_bytes(key), mode_of(mode));
        let answer = self
            .table
            .set_mode(session, &bytes, word.as_ref(), &asked, now);
        let answer = answer.expect(STORED).value;
        if self.model.holds(who, key) {
            let (has_mode, granted) = self.model.set_mode(key, mode);
            assert_eq!(answer, Ok(has_mode), "{who:?} makes {key} {mode:?}");
            self.settle_granted(&granted);
        } else {
            let why = self.model.why_not_held(client.number(), who, key);
            assert_eq!(answer, Err(why));
        }
    }

    /// Breaks the first grants of a key, up to the token of the last of them.
    fn break_some(&mut self, client: &mut Client, key: u8, first: usize, most: usize) {
        let of_key = self.tokens.iter().filter(|((_, other), _)| *other == key);
        let mut tokens: Vec<Token> = of_key.map(|(_, token)| *token).collect();
        tokens.sort_unstable();
        let last = match first.checked_sub(1) {
            None => Token(0),
            Some(index) => tokens.get(index).copied().unwrap_or(self.last_token),
        };
        let (session, now) = (&mut client.session, self.now());
        let answer = self
            .table
            .break_some(session, &key_bytes(key), last, most, now);
        let answer = answer.expect(STORED).value;
        let expected = self.model.can_be_broken(key, first);
        let (broken, possible) = match (answer, expected) {
            (Ok(broken), Ok(possible)) => (broken, possible),
            (answer, expected) => {
                assert_eq!(answer.err(), expected.err());
                return;
            }
        };
        assert_eq!(broken.grants.len(), possible.len().min(most));
        let mut granted = Vec::new();
        for grant in broken.grants {
            let who = who_is(grant.holder());
            assert!(possible.contains(&who) && grant.token() <= last);
            assert_eq!(self.tokens[&(who, key)], grant.token());
            granted.extend(self.model.unlock(who, key));
        }
        self.settle_granted(&granted);
    }

    /// Takes the key from so many of its holders, sessions first, in the order of their names.
    fn revoke_some(&mut self, client: &mut Client, key: u8, most: usize) {
        let (session, now) = (&mut client.session, self.now());
        let answer = self
            .table
            .revoke_some(session, &key_bytes(key), None, most, now);
        let Some(lock) = self.model.locks.get(&key) else {
            let answer = answer.expect(STORED).value;
            assert_eq!(answer.err(), Some(NotHeld::NotLocked));
            return;
        };
        let expected: Vec<Who> = lock.holders.keys().copied().take(most).collect();
        let revoked = answer.expect(STORED).value.expect("it is held");
        let grants = revoked.grants.iter();
        let taken: Vec<Who> = grants.map(|grant| who_is(grant.holder())).collect();
        assert_eq!((&taken, revoked.looked_at), (&expected, expected.len()));
        let mut granted = Vec::new();
        for grant in revoked.grants {
            let who = who_is(grant.holder());
            assert_eq!(self.tokens[&(who, key)], grant.token());
            granted.extend(self.model.revoke(who, key));
        }
        self.settle_granted(&granted);
    }

    /// Ends another session: its connection lets it go, or it has none.
    fn kick(&mut self, client: &mut Client, nth: usize) {
        let Some(number) = self.model.sessions.keys().copied().nth(nth) else {
            return;
        };
        if number == client.number() {
            return;
        }
        let (table, number_there) = (Arc::clone(&self.table), SessionNumber(number));
        let session = match table
            .kick(number_there, client.session.number())
            .expect(STORED)
        {
            Kick::Unknown => panic!("#{number} is there"),
            Kick::Over(session) => session,
            Kick::Ordered => {
                let at = self.place_of(number).expect("it is connected");
                let mut kicked = self.clients[at].take().expect("it is there");
                let order = kicked.session.signal().order();
                assert_eq!(order, Some(Order::Kill));
                if self.model.is_waiting(number) {
                    self.end_wait(&mut kicked, Ending::Disconnect);
                }
                match table.detach(kicked.session, self.now()) {
                    Detached::Kicked(session) => session,
                    other => panic!("#{number} is over, and not {other:?}"),
                }
            }
        };
        let again = table
            .kick(number_there, client.session.number())
            .expect(STORED);
        assert!(matches!(again, Kick::Ordered), "it is not gone yet");
        let mut session = session;
        self.release_all(&mut session);
        let mut over = pin!(table.until_over(number_there));
        assert!(poll_once(over.as_mut()).is_none());
        table.end_kicked(number_there);
        assert!(poll_once(over.as_mut()).is_some());
        let granted = self.model.unlock_all(number);
        self.model.sessions.remove(&number);
        self.settle_granted(&granted);
    }

    fn unlock_all(&mut self, client: &mut Client) {
        let granted = self.model.unlock_all(client.number());
        self.release_all(&mut client.session);
        self.settle_granted(&granted);
    }

    fn release_all(&mut self, session: &mut Session) {
        let left = self.table.unlock_some(session, usize::MAX, self.now());
        assert_eq!(left.value, 0);
    }

    // ------------------------------------------------------------------ time

    fn advance(&mut self, by_ms: u64) {
        self.model.now_ms += by_ms;
        self.end_leases();
        while let Some(number) = self.model.next_overdue() {
            let at = self.place_of(number).expect("it is connected");
            let mut client = self.clients[at].take().expect("it is there");
            self.end_wait(&mut client, Ending::Deadline);
            self.clients[at] = Some(client);
        }
        while let Some(number) = self.model.next_expired() {
            let granted = self.model.unlock_all(number);
            self.model.sessions.remove(&number);
            let number = SessionNumber(number);
            let ended = self.table.end_grace(number, self.now());
            let (mut session, _) = ended.expect("its time is over");
            self.release_all(&mut session);
            self.settle_granted(&granted);
        }
        for view in self.table.session_views() {
            let ended = self.table.end_grace(view.number, self.now());
            assert!(ended.is_none(), "{view:?} lives on");
        }
    }

    fn end_leases(&mut self) {
        let (mut over, granted) = self.model.end_leases();
        let (_, ended) = self.table.end_leases(self.now(), usize::MAX);
        let ended = ended.iter();
        let mut ended: Vec<(Who, u8)> = ended
            .map(|ended| (who_is(&ended.holder), ended.key.as_bytes()[1]))
            .collect();
        over.sort_unstable();
        ended.sort_unstable();
        assert_eq!(ended, over);
        self.settle_granted(&granted);
        let next = self.model.next_lease_end().map(|end_ms| self.at(end_ms));
        assert_eq!(self.table.next_lease_end(), next);
    }

    // ------------------------------------------------------------------ sessions

    fn set_grace(&mut self, client: &mut Client, grace_ms: u64) {
        let grace = Duration::from_millis(grace_ms);
        let set = self.table.set_grace(&mut client.session, grace);
        let Outcome { value: (), .. } = set.expect(STORED);
        self.model.session(client.number()).grace_ms = grace_ms;
    }

    fn ask_id(&mut self, client: &mut Client) {
        let number = client.number();
        let secret = Secret(self.ids.len() as u128);
        let draw = || Ok::<_, ()>(secret);
        let id = self.table.session_id(&mut client.session, draw);
        let id = id.expect(STORED).expect("it was drawn").value;
        self.model.session(number).asked_id = true;
        match self.ids.iter().find(|(known, _)| *known == number) {
            Some((_, known)) => assert_eq!(*known, id, "an id does not change"),
            None => self.ids.push((number, id)),
        }
    }

    fn disconnect(&mut self, mut client: Client, is_taken_over: bool) {
        let number = client.number();
        if self.model.is_waiting(number) {
            self.end_wait(&mut client, Ending::Disconnect);
        }
        let had_room = self.model.has_room(number);
        let lives_on = self.model.detach(number, is_taken_over);
        let granted = match lives_on {
            true => Vec::new(),
            false => self.model.unlock_all(number),
        };
        match self.table.detach(client.session, self.now()) {
            Detached::InGrace(grace) => {
                assert!(lives_on);
                let ends_ms = self.model.session(number).grace_ends_ms;
                assert_eq!(Some(grace.ends), ends_ms.map(|ends_ms| self.at(ends_ms)));
            }
            Detached::Over(mut session) => {
                assert!(!lives_on);
                self.release_all(&mut session);
            }
            Detached::NoRoom { mut session, .. } => {
                assert!(!lives_on && !had_room);
                self.release_all(&mut session);
            }
            Detached::Kicked(_) => unreachable!("nobody kicks it"),
            Detached::Stopping => unreachable!("nothing stops"),
        }
        self.settle_granted(&granted);
    }

    fn resume(&mut self, client: &mut Client, nth_id: usize) {
        let Some(&(wanted, id)) = self.ids.get(nth_id) else {
            return;
        };
        let own = client.number();
        let guessed = id.to_string().replace('-', "-f").into_bytes();
        let guessed = SessionId::parse(&guessed[..guessed.len() - 1]).expect("an id by its form");
        let (table, now) = (Arc::clone(&self.table), self.now());
        let refused = table.resume(&mut client.session, guessed, now);
        assert!(
            matches!(refused, Resumed::No(NotResumed::Unknown)),
            "a guess is refused"
        );
        let resumed = match table.resume(&mut client.session, id, now) {
            Resumed::Yes(_) => Ok(()),
            Resumed::No(why) => Err(why),
        };
        let expected = self.model.resume(own, wanted);
        assert_eq!(resumed, expected, "#{own} resumes #{wanted}");
        let number = if resumed.is_ok() { wanted } else { own };
        assert_eq!(client.number(), number);
    }

    /// Takes a session over, wherever it is.
    fn take_over(&mut self, client: &mut Client, nth_id: usize) {
        let Some(&(wanted, id)) = self.ids.get(nth_id) else {
            return;
        };
        let own = client.number();
        let holds_something = !self.model.held_by(own).is_empty();
        let (table, now) = (Arc::clone(&self.table), self.now());
        let mut taking = pin!(table.take_over(&mut client.session, id, || now));
        let at_once = poll_once(taking.as_mut());
        match (self.model.resume(own, wanted), at_once) {
            (Err(NotResumed::StillConnected), None) if !holds_something => {
                self.let_go(wanted);
                let taken = poll_once(taking.as_mut());
                assert!(matches!(taken, Some(TakenOver::FromConnection(_))));
                assert_eq!(self.model.resume(own, wanted), Ok(()));
            }
            (Err(NotResumed::StillConnected), Some(TakenOver::No(NotResumed::HoldsLocks))) => {
                assert!(holds_something);
            }
            (Ok(()), Some(TakenOver::AfterDisconnect(_))) => {}
            (Err(why), Some(TakenOver::No(told))) => assert_eq!(told, why),
            (expected, told) => panic!("#{own} takes over #{wanted}: {told:?}, not {expected:?}"),
        }
    }

    /// The connection of a session that is taken over ends.
    fn let_go(&mut self, number: u64) {
        let at = self.place_of(number).expect("it is connected");
        let client = self.clients[at].take().expect("it is there");
        let order = client.session.signal().order();
        assert_eq!(order, Some(Order::TakenOver));
        self.disconnect(client, true);
        assert!(self.model.sessions.contains_key(&number), "it goes on");
    }

    // ------------------------------------------------------------------ what is seen

    /// Each grant that the audit was told of is held, or it was told of its one end, and the reverse.
    pub fn assert_same_audit(&mut self) {
        self.table.trail().close();
        while let Some((events, dropped)) = self.table.trail().follow() {
            assert_eq!(dropped, 0);
            events.iter().for_each(|event| self.audit(event));
        }
        assert_eq!(self.audited, self.held_now());
    }

    fn audit(&mut self, event: &Event) {
        let place = |grant: &Grant| (who_is(grant.holder()), grant.key().as_bytes()[1]);
        match event {
            Event::Granted { grant, .. } => {
                let before = self.audited.insert(place(grant), grant.token());
                assert_eq!(before, None, "it is granted once");
            }
            Event::Ended { grant, end, .. } => {
                let before = self.audited.remove(&place(grant));
                assert_eq!(before, Some(grant.token()), "it ends once: {end:?}");
            }
            _ => {}
        }
    }

    /// Which grants there are.
    fn held_now(&self) -> BTreeMap<(Who, u8), Token> {
        let keys = self.table.keys();
        let held = keys.iter().flat_map(|key| {
            let view = self.table.lock_view(key.as_bytes(), usize::MAX);
            let holders = view.expect("it is held").holders.into_iter();
            holders.map(|(holder, token)| ((who_is(&holder), key.as_bytes()[1]), token))
        });
        held.collect()
    }

    /// A hold keeps its token, and every new hold has one above all that there were before.
    pub fn assert_tokens_grow(&mut self) {
        let mut seen = BTreeMap::new();
        let before = self.last_token;
        for key in self.table.keys() {
            let view = self.table.lock_view(key.as_bytes(), usize::MAX);
            for (holder, token) in view.expect("it is held").holders {
                let place = (who_is(&holder), key.as_bytes()[1]);
                let kept = self.tokens.get(&place) == Some(&token);
                assert!(
                    kept || token > before,
                    "{place:?} has {token} after {before}"
                );
                self.last_token = self.last_token.max(token);
                if self.model.is_kept(place.0, place.1) {
                    self.last_told = self.last_told.max(token);
                }
                seen.insert(place, token);
            }
        }
        self.tokens = seen;
    }

    pub fn assert_same_state(&self) {
        self.assert_same_locks();
        self.assert_same_waiters();
        self.assert_same_sessions();
        (0..KEYS).for_each(|key| self.assert_same_watch(key));
    }

    fn assert_same_locks(&self) {
        let keys = self.table.keys();
        let expected: Vec<Vec<u8>> = self.model.locks.keys().map(|key| key_bytes(*key)).collect();
        let actual: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        assert_eq!(actual, expected);
        assert_eq!(self.table.held(), expected.len());
        for (key, (number, lock)) in keys.iter().zip(&self.model.locks) {
            let view = self.table.lock_view(key.as_bytes(), usize::MAX);
            let view = view.expect("it is held");
            let holders = view.holders.iter();
            let holders: Vec<Who> = holders.map(|(holder, _)| who_is(holder)).collect();
            let expected = lock.holders.keys().copied();
            assert_eq!(holders, expected.collect::<Vec<_>>(), "holders of {number}");
            assert_eq!(view.holders_in_all, holders.len());
            match (view.mode, lock.mode) {
                // That of the last to come, or of one that is left.
                (elock::model::Mode::Slot(slots), Mode::Slot(_)) => {
                    assert!(
                        (1..=3).contains(&slots.get()),
                        "{slots} slots were asked for"
                    );
                }
                (mode, expected) => assert_eq!(mode, mode_of(expected)),
            }
            assert_eq!(view.waiters, self.model.queue(*number).count());
        }
    }

    fn assert_same_waiters(&self) {
        let waiters = self.table.waiters();
        let waiting = waiters.iter().map(|waiter| waiter.session().0);
        let expected = self.model.waiting.iter().map(|waiter| waiter.session);
        assert_eq!(
            waiting.collect::<Vec<_>>(),
            expected.collect::<Vec<_>>(),
            "those who wait"
        );
    }

    fn assert_same_sessions(&self) {
        for (view, (number, session)) in self.table.session_views().iter().zip(&self.model.sessions)
        {
            let ends = session.grace_ends_ms.map(|end_ms| self.at(end_ms));
            assert_eq!((view.number.0, view.grace_ends), (*number, ends));
            assert_eq!(view.grace, Duration::from_millis(session.grace_ms));
        }
        let all = self.model.sessions.len();
        assert_eq!(
            self.table.session_counts(),
            (all, all - self.model.in_grace())
        );
        for client in self.clients.iter().flatten() {
            // It may not have noticed a loss yet, but it never misses what it has.
            let held = self.model.held_by(client.number()).len();
            assert!(client.session.held() >= held);
        }
    }

    fn assert_same_watch(&self, key: u8) {
        let expected = match self.model.first_holder(key) {
            None => Watch::Free,
            Some(who) => Watch::Held(holder_of(who), self.tokens[&(who, key)]),
        };
        assert_eq!(self.table.state(&key_bytes(key)), expected);
    }
}
