//! Sessions: a number, a secret, a grace period, what is held, and whether a connection is there.
//!
//! What changes with every command (the keys held, the request that waits) is owned by whoever
//! runs the session's commands, as a [`Session`]. So `&mut Session` is the proof that a session
//! runs one request at a time, and no lock is needed for it. What a lease takes from it meanwhile it
//! is told of through its [`Losses`]. What others must see lives in the [`Registry`].

use std::collections::hash_map::RandomState;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::Notify;

use super::key::Key;
use super::lease::{Losses, Token};
use super::queue::Waiter;
use super::secret::{Known, Secret};
use super::shrunk;
use crate::store::{Seq, StoredSession};

/// A session's public name, `#24` in texts. Counts up from 1 and is never used again; after a restart
/// it counts from above the sessions that the store knew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionNumber(pub u64);

impl fmt::Display for SessionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What `conn_id` shows and takes: `24-` and the secret in 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId {
    number: SessionNumber,
    secret: Secret,
}

impl SessionId {
    /// Reads what [`Display`](fmt::Display) wrote; `None` for anything else.
    pub fn parse(id: &[u8]) -> Option<Self> {
        let (number, secret) = std::str::from_utf8(id).ok()?.split_once('-')?;
        // The integer parsers allow a sign and missing digits, which an id has not.
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digits(number) || !digits(secret) || secret.len() != 32 {
            return None;
        }
        Some(Self {
            number: SessionNumber(number.parse().ok()?),
            secret: Secret(u128::from_str_radix(secret, 16).ok()?),
        })
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:032x}", self.number.0, self.secret.0)
    }
}

/// Where a session's connection came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The unix socket, and the process behind it where the system tells.
    Unix(Option<i32>),
    /// That was before the server started.
    BeforeRestart,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(pid)) => write!(f, "unix, pid {pid}"),
            Self::Unix(None) => f.write_str("unix"),
            Self::BeforeRestart => f.write_str("before the restart"),
        }
    }
}

/// The running half of a session. Must end in [`LockTable::detach`](super::LockTable::detach) or
/// [`LockTable::end`](super::LockTable::end); dropped otherwise, its locks stay held.
#[derive(Debug)]
pub struct Session {
    pub(super) number: SessionNumber,
    pub(super) held: Held,
    pub(super) waiting: Option<Arc<Waiter>>,
    /// The last change that it made or was granted.
    pub(super) seq: Seq,
}

/// The keys that a session holds, and what else of it outlives its connection.
///
/// The list is there to find them again in the end, and to count them; whether it holds a key, the
/// table knows. So a grant that is over need not be found in here: if it is not among the last, it
/// stays for a while and is tidied away later. That takes less room than a set.
///
/// Invariants:
///
/// 1. Every grant that the session holds and knows of is in the list, once.
/// 2. The list is never more than three times as long as what was held at one time since it was
///    last empty, and a few.
#[derive(Debug, Default)]
pub(super) struct Held {
    keys: Vec<Key>,
    /// Of each key's grant. Beside the keys, as both in one entry would take a word for half of one.
    tags: Vec<Tag>,
    /// How many it holds, with those whose loss it has not noticed.
    count: usize,
    /// Where tidying goes on. Half a word, as every connection has one.
    tidy_at: u32,
    /// Where it is told of what it loses; `None` if none of its locks had a lease so far.
    pub(super) losses: Option<Arc<Losses>>,
    /// The store knows of the session.
    pub(super) stored: bool,
}

/// By this the grant of a key is known from an earlier one of the same key: the lower half of its
/// token. Two that are alike by chance cost an entry that stays longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u32);

impl From<Token> for Tag {
    fn from(token: Token) -> Self {
        Self(token.0 as u32)
    }
}

/// Among how many of the last grants one is looked for.
const LAST: usize = 8;

/// How many grants are looked at for one that comes or goes, while the list is too long. Two would
/// find one that is over, and bring the last one to its place, where it will not be found.
const TIDIED_AT_ONCE: usize = 4;

impl Held {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Makes room for one more. Not under a guard: there may be a million to be moved. `is_held`
    /// says whether a grant is not over.
    pub(super) fn make_room(&mut self, is_held: impl Fn(&Key, Tag) -> bool) {
        self.tidy(is_held);
        if self.keys.len() == self.keys.capacity() {
            // In small steps, as there may be very many; but not too small.
            let more = (self.keys.len() / 8).max(4);
            self.keys.reserve_exact(more);
            self.tags.reserve_exact(more);
        }
    }

    pub(super) fn add(&mut self, key: Key, token: Token) {
        self.keys.push(key);
        self.tags.push(token.into());
        self.count += 1;
    }

    /// A key was let go of.
    pub(super) fn remove(&mut self, key: &[u8], is_held: impl Fn(&Key, Tag) -> bool) {
        let from = self.keys.len().saturating_sub(LAST);
        let is_it = |last: &Key| last.as_bytes() == key;
        if let Some(at) = self.keys[from..].iter().rposition(is_it) {
            self.take_out(from + at);
        }
        self.uncount(1);
        self.tidy(is_held);
    }

    /// Counts what it has lost since it last noticed.
    pub(super) fn notice_losses(&mut self) {
        if let Some(losses) = &self.losses {
            let lost = losses.notice();
            self.uncount(lost);
        }
    }

    /// Takes out at most `most` keys, some of which it may hold no more. Those that it lets go of
    /// are to be [uncounted](Held::uncount).
    pub(super) fn take_some(&mut self, most: usize) -> Vec<Key> {
        let from = self.keys.len().saturating_sub(most);
        self.tags.truncate(from);
        self.keys.split_off(from)
    }

    /// So many are held no more.
    pub(super) fn uncount(&mut self, over: usize) {
        debug_assert!(over <= self.count, "it held them");
        self.count = self.count.saturating_sub(over);
        if self.count == 0 {
            self.keys.clear();
            self.tags.clear();
        }
        if let Some(capacity) = shrunk(self.keys.len(), self.keys.capacity()) {
            self.keys.shrink_to(capacity);
            self.tags.shrink_to(capacity);
        }
    }

    /// Looks at some, if the list is too long.
    fn tidy(&mut self, is_held: impl Fn(&Key, Tag) -> bool) {
        for _ in 0..TIDIED_AT_ONCE {
            if self.keys.len() <= 2 * self.count + LAST {
                return;
            }
            let at = self.tidy_at as usize;
            match self.keys.get(at).zip(self.tags.get(at)) {
                None => self.tidy_at = 0,
                Some((key, tag)) if is_held(key, *tag) => {
                    self.tidy_at = self.tidy_at.wrapping_add(1);
                }
                Some(_) => self.take_out(at),
            }
        }
    }

    fn take_out(&mut self, at: usize) {
        self.keys.swap_remove(at);
        self.tags.swap_remove(at);
    }
}

impl Session {
    /// The session's public number. Another one after a resume.
    pub fn number(&self) -> SessionNumber {
        self.number
    }

    /// How many locks it holds, those included that it has lost since and has not noticed yet.
    pub fn held(&self) -> usize {
        self.held.count()
    }

    /// The last change that it made, or by which it was granted a lock: what it is told rests on
    /// this being durable.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The request that waits, between [`LockTable::lock_or_wait`](super::LockTable::lock_or_wait)
    /// and [`LockTable::settle`](super::LockTable::settle).
    pub fn waiter(&self) -> Option<&Arc<Waiter>> {
        self.waiting.as_ref()
    }

    pub(super) fn new(number: SessionNumber, held: Held) -> Self {
        Self {
            number,
            held,
            waiting: None,
            seq: Seq::default(),
        }
    }
}

/// What became of a session when its connection ended.
#[derive(Debug)]
pub enum Detached {
    /// It lives on until its grace period ends.
    InGrace(Grace),
    /// It is over, and what it holds is to be released.
    Over(Session),
    /// As `Over`, because no more sessions may be in their grace period than there are.
    NoRoom {
        /// Whose grace period does not begin.
        session: Session,
        /// How many times that has come about, this one included.
        nth: usize,
    },
}

/// A running grace period.
#[derive(Debug)]
pub struct Grace {
    /// Whose.
    pub number: SessionNumber,
    /// When it ends.
    pub ends: Instant,
    /// Notified if a connection resumes the session before that.
    pub resumed: Arc<Notify>,
}

/// What `debug` shows of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its public number.
    pub number: SessionNumber,
    /// Its grace period.
    pub grace: Duration,
    /// Where it is, or was last, connected from.
    pub peer: Peer,
    /// When its grace period ends; `None` while it is connected.
    pub grace_ends: Option<Instant>,
}

#[derive(Debug)]
struct Registered {
    /// Drawn when first asked for. A session that nobody asked cannot be resumed.
    secret: Option<Box<Known>>,
    grace: Duration,
    peer: Peer,
    presence: Presence,
}

impl Registered {
    fn knows(&self, secret: Secret) -> bool {
        self.secret.as_ref().is_some_and(|known| known.is(secret))
    }
}

#[derive(Debug)]
enum Presence {
    Connected,
    /// Boxed, because most sessions are connected.
    InGrace(Box<InGrace>),
}

#[derive(Debug)]
struct InGrace {
    ends: Instant,
    held: Held,
    resumed: Arc<Notify>,
}

/// All living sessions, by number.
///
/// Invariant: a number is in here, connected, exactly while a [`Session`] with it is in use; and
/// in its grace period, exactly while nobody has one. What a session in grace holds is in here.
#[derive(Debug)]
pub(super) struct Registry {
    /// Boxed, as the map has room for twice as many entries as there are.
    sessions: DashMap<SessionNumber, Box<Registered>, RandomState>,
    last_number: AtomicU64,
    in_grace: AtomicUsize,
    /// Sessions that found no room for their grace period.
    turned_away: AtomicUsize,
    max_in_grace: usize,
}

impl Registry {
    pub(super) fn new(max_in_grace: usize) -> Self {
        Self {
            sessions: DashMap::default(),
            last_number: AtomicU64::new(0),
            in_grace: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
            max_in_grace,
        }
    }

    pub(super) fn open(&self, peer: Peer, grace: Duration) -> Session {
        let number = SessionNumber(self.last_number.fetch_add(1, Ordering::Relaxed) + 1);
        let presence = Presence::Connected;
        self.sessions.insert(
            number,
            Box::new(Registered {
                secret: None,
                grace,
                peer,
                presence,
            }),
        );
        Session::new(number, Held::default())
    }

    pub(super) fn set_grace(&self, number: SessionNumber, grace: Duration) {
        if let Some(mut registered) = self.sessions.get_mut(&number) {
            registered.grace = grace;
        }
    }

    pub(super) fn id(&self, number: SessionNumber) -> Option<SessionId> {
        let secret = self.sessions.get(&number)?.secret.as_ref()?.secret()?;
        Some(SessionId { number, secret })
    }

    pub(super) fn set_secret(&self, number: SessionNumber, secret: Secret) -> SessionId {
        if let Some(mut registered) = self.sessions.get_mut(&number) {
            debug_assert!(registered.secret.is_none(), "an id does not change");
            registered.secret = Some(Box::new(Known::Secret(secret)));
        }
        SessionId { number, secret }
    }

    /// The session as the store is to keep it.
    pub(super) fn to_store(&self, number: SessionNumber) -> StoredSession {
        let registered = self.sessions.get(&number);
        debug_assert!(registered.is_some(), "a session in use is registered");
        registered.map_or_else(StoredSession::default, |registered| StoredSession {
            grace: registered.grace,
            secret: registered.secret.as_ref().and_then(|known| known.secret()),
        })
    }

    /// From here on sessions get numbers above this.
    #[cfg(feature = "store")]
    pub(super) fn count_from(&self, above: SessionNumber) {
        self.last_number.fetch_max(above.0, Ordering::Relaxed);
    }

    /// Puts in a session that was kept. Its grace period begins.
    #[cfg(feature = "store")]
    pub(super) fn restore(
        &self,
        number: SessionNumber,
        secret: Option<super::SecretDigest>,
        grace: Duration,
        held: Held,
        now: Instant,
    ) -> Grace {
        self.count_from(number);
        self.in_grace.fetch_add(1, Ordering::Relaxed);
        let (presence, running) = begin_grace(number, grace, held, now);
        let registered = Registered {
            secret: secret.map(|digest| Box::new(Known::Digest(digest))),
            grace,
            peer: Peer::BeforeRestart,
            presence,
        };
        self.sessions.insert(number, Box::new(registered));
        running
    }

    /// Starts the grace period. A session with nothing to survive is over at once: one without a
    /// grace period, and one that holds nothing and whose id nobody knows.
    pub(super) fn detach(&self, session: Session, now: Instant) -> Detached {
        let Session { number, held, .. } = session;
        let Some(mut registered) = self.sessions.get_mut(&number) else {
            debug_assert!(false, "a session in use is registered");
            return Detached::Over(Session::new(number, held));
        };
        let grace = registered.grace;
        let holds_nothing = held.count() == 0;
        let pointless = holds_nothing && registered.secret.is_none();
        let room = !grace.is_zero() && !pointless && self.enter_grace(holds_nothing);
        if room {
            let (presence, grace) = begin_grace(number, grace, held, now);
            registered.presence = presence;
            return Detached::InGrace(grace);
        }
        drop(registered);
        self.sessions.remove(&number);
        match grace.is_zero() || pointless {
            true => Detached::Over(Session::new(number, held)),
            false => Detached::NoRoom {
                session: Session::new(number, held),
                nth: self.turned_away.fetch_add(1, Ordering::Relaxed) + 1,
            },
        }
    }

    /// Sessions that hold nothing get no more than half of the room: so nobody can make those
    /// that do lose their locks by leaving very many empty ones.
    fn enter_grace(&self, holds_nothing: bool) -> bool {
        let max = if holds_nothing {
            self.max_in_grace / 2
        } else {
            self.max_in_grace
        };
        let one_more = |count: usize| (count < max).then_some(count + 1);
        self.in_grace
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
    }

    /// Takes over a session in its grace period: its number and its locks become `session`'s,
    /// whose own number ends. False, and nothing changed, if that cannot be.
    pub(super) fn resume(&self, session: &mut Session, id: SessionId, now: Instant) -> bool {
        if id.number == session.number {
            let registered = self.sessions.get(&id.number);
            return registered.is_some_and(|registered| registered.knows(id.secret));
        }
        if session.held() > 0 {
            return false;
        }
        let Some(peer) = self.sessions.get(&session.number).map(|own| own.peer) else {
            debug_assert!(false, "a session in use is registered");
            return false;
        };
        let Some(grace) = self.reattach(id, peer, now) else {
            return false;
        };
        self.in_grace.fetch_sub(1, Ordering::Relaxed);
        grace.resumed.notify_one();
        self.remove(session.number);
        *session = Session::new(id.number, grace.held);
        true
    }

    fn reattach(&self, id: SessionId, peer: Peer, now: Instant) -> Option<Box<InGrace>> {
        let mut registered = self.sessions.get_mut(&id.number)?;
        if !registered.knows(id.secret) || !registered.presence.in_grace_at(now) {
            return None;
        }
        registered.secret = Some(Box::new(Known::Secret(id.secret)));
        registered.peer = peer;
        match std::mem::replace(&mut registered.presence, Presence::Connected) {
            Presence::InGrace(grace) => Some(grace),
            Presence::Connected => None,
        }
    }

    /// Ends a grace period that is over at `now`; `None` if it is not, or there is none.
    pub(super) fn end_grace(&self, number: SessionNumber, now: Instant) -> Option<Session> {
        let (number, registered) = self
            .sessions
            .remove_if(&number, |_, registered| registered.presence.is_over_at(now))?;
        self.in_grace.fetch_sub(1, Ordering::Relaxed);
        match registered.presence {
            Presence::InGrace(grace) => Some(Session::new(number, grace.held)),
            Presence::Connected => None,
        }
    }

    pub(super) fn remove(&self, number: SessionNumber) {
        self.sessions.remove(&number);
    }

    /// All sessions, and how many of them have a connection.
    pub(super) fn counts(&self) -> (usize, usize) {
        // Read in this order, a session that resumes in between cannot push the sum below zero.
        let in_grace = self.in_grace.load(Ordering::Relaxed);
        let all = self.sessions.len();
        (all, all.saturating_sub(in_grace))
    }

    pub(super) fn views(&self) -> Vec<SessionView> {
        let views = self.sessions.iter().map(|registered| SessionView {
            number: *registered.key(),
            grace: registered.grace,
            peer: registered.peer,
            grace_ends: match &registered.presence {
                Presence::Connected => None,
                Presence::InGrace(grace) => Some(grace.ends),
            },
        });
        let mut views: Vec<_> = views.collect();
        views.sort_unstable_by_key(|view| view.number);
        views
    }
}

fn begin_grace(
    number: SessionNumber,
    grace: Duration,
    held: Held,
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

impl Presence {
    fn in_grace_at(&self, now: Instant) -> bool {
        matches!(self, Self::InGrace(grace) if grace.ends > now)
    }

    fn is_over_at(&self, now: Instant) -> bool {
        matches!(self, Self::InGrace(grace) if grace.ends <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::table::{Ending, Locked, Mode, Unlocked, test_table};

    #[test]
    fn an_id_reads_back_as_it_was_written_and_nothing_else_does() {
        let id = SessionId {
            number: SessionNumber(24),
            secret: Secret(0xabc),
        };
        let text = id.to_string();
        assert_eq!(text, "24-00000000000000000000000000000abc");
        assert_eq!(SessionId::parse(text.as_bytes()), Some(id));
        let wrong: [&[u8]; 8] = [
            b"",
            b"24",
            b"24-",
            b"-00000000000000000000000000000abc",
            b"24-abc",
            b"+24-00000000000000000000000000000abc",
            b"24-+0000000000000000000000000000abc",
            b"24-\xff0000000000000000000000000000abc",
        ];
        for id in wrong {
            assert_eq!(SessionId::parse(id), None, "{}", id.escape_ascii());
        }
    }

    fn number(key: &Key) -> u32 {
        u32::from_ne_bytes(key.as_bytes().try_into().expect("ours"))
    }

    fn key(number: u32) -> Key {
        Key::new(&number.to_ne_bytes())
    }

    /// What a session holds, with a table that knows keys by their numbers.
    #[derive(Default)]
    struct Holding {
        held: Held,
        truly: HashMap<u32, Token>,
        last_token: u64,
    }

    impl Holding {
        fn take(&mut self, taken: u32) {
            self.last_token += 1;
            let (truly, token) = (&mut self.truly, Token(self.last_token));
            let is_held = |key: &Key, tag| {
                truly
                    .get(&number(key))
                    .is_some_and(|is| tag == Tag::from(*is))
            };
            self.held.make_room(is_held);
            truly.insert(taken, token);
            self.held.add(key(taken), token);
        }

        fn release(&mut self, released: u32) {
            assert!(self.truly.remove(&released).is_some());
            let truly = &self.truly;
            let is_held = |key: &Key, tag| {
                truly
                    .get(&number(key))
                    .is_some_and(|is| tag == Tag::from(*is))
            };
            self.held.remove(&released.to_ne_bytes(), is_held);
        }

        fn assert_whole(&self) {
            let listed: std::collections::HashSet<u32> =
                self.held.keys.iter().map(number).collect();
            assert_eq!(self.held.keys.len(), self.held.tags.len());
            assert_eq!(self.held.count(), self.truly.len());
            assert!(self.truly.keys().all(|number| listed.contains(number)));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_held_is_listed_and_little_more(
            steps in proptest::collection::vec((proptest::bool::weighted(0.6), 0..20_u32), 0..2_000),
        ) {
            let (mut holding, mut most) = (Holding::default(), 0);
            for (takes, number) in steps {
                match (takes, holding.truly.contains_key(&number)) {
                    (true, false) => holding.take(number),
                    (false, true) => holding.release(number),
                    _ => {}
                }
                holding.assert_whole();
                most = if holding.held.count() == 0 { 0 } else { most.max(holding.held.count()) };
                proptest::prop_assert!(most > 0 || holding.held.keys.is_empty());
                proptest::prop_assert!(holding.held.keys.len() <= 3 * most + LAST + 1);
            }
        }
    }

    /// So that none is among the last: those that it took first it lets go of first, for good or to
    /// take them again at once.
    #[test]
    fn a_session_that_lets_go_in_order_keeps_no_more_than_it_holds() {
        for again in [false, true] {
            let mut holding = Holding::default();
            (0..1_000).for_each(|number| holding.take(number));
            for round in 0..100_000 {
                let first = if again { round % 1_000 } else { round };
                holding.release(first);
                holding.take(if again { first } else { round + 1_000 });
                let listed = holding.held.keys.len();
                assert!(listed <= 3_000, "{listed} listed");
            }
            holding.assert_whole();
        }
    }

    /// Half of all behind the back of the tidying, and then the others, each of which is the last.
    #[test]
    fn a_session_that_lets_go_of_nearly_all_keeps_nearly_nothing() {
        let mut holding = Holding::default();
        (0..10_000).for_each(|number| holding.take(number));
        holding.release(9_980);
        (0..4_990).for_each(|number| holding.release(number));
        let rest = (4_991..10_000).rev().filter(|number| *number != 9_980);
        rest.for_each(|number| holding.release(number));
        let (held, listed) = (holding.held.count(), holding.held.keys.len());
        assert!(held == 1 && listed <= 3 + LAST, "{listed} listed");
        holding.release(4_990);
        assert!(holding.held.keys.is_empty());
    }

    /// It holds a thousand all the time, and whatever else it takes it loses.
    #[test]
    fn a_session_that_loses_very_much_does_not_keep_it() {
        let losses = Arc::new(Losses::default());
        let mut held = Held {
            losses: Some(Arc::clone(&losses)),
            ..Held::default()
        };
        for taken in 0..100_000 {
            held.notice_losses();
            held.make_room(|key, _| number(key) < 1_000);
            held.add(key(taken), Token(taken.into()));
            if taken >= 1_000 {
                losses.add(taken.into());
            }
            assert!(held.keys.len() <= 3_000, "{} listed", held.keys.len());
        }
        held.notice_losses();
        assert_eq!(held.count(), 1_000);
    }

    #[test]
    fn a_session_that_held_very_much_gives_the_memory_back() {
        let mut holding = Holding::default();
        (0..100_000).for_each(|number| holding.take(number));
        assert!(holding.held.keys.capacity() <= 100_000 * 9 / 8 + 8);
        (1..100_000)
            .rev()
            .for_each(|number| holding.release(number));
        assert_eq!((holding.held.count(), holding.held.keys.len()), (1, 1));
        assert!(holding.held.keys.capacity() <= 1024);
        assert!(holding.held.tags.capacity() <= 1024);
    }

    /// The table's own word for what is held: what is taken again, alone or by a hand-over, is not
    /// listed twice for long.
    #[test]
    fn a_session_that_takes_again_what_it_let_go_of_lists_it_once() {
        let (table, mode, now) = (test_table(), Mode::Exclusive, Instant::now());
        let open = || table.open(Peer::Unix(None), Duration::ZERO);
        let (mut session, mut other) = (open(), open());
        let hand_over = |from: &mut Session, to: &mut Session, key: &[u8]| {
            assert_eq!(table.lock_or_wait(to, key, &mode, now), Locked::Waiting);
            let passed_on = Unlocked::Released { passed_on: true };
            assert_eq!(table.unlock(from, key, now), passed_on);
            assert!(table.settle(to, Ending::Granted, now));
        };
        for key in 0..20_u8 {
            assert_eq!(
                table.lock(&mut session, &[key], &mode, now),
                Locked::Acquired
            );
        }
        for round in 0..10_000_u16 {
            let key = &[(round % 20) as u8];
            if round % 2 == 0 {
                table.unlock(&mut session, key, now);
                assert_eq!(table.lock(&mut session, key, &mode, now), Locked::Acquired);
            } else {
                hand_over(&mut session, &mut other, key);
                hand_over(&mut other, &mut session, key);
            }
            let listed = session.held.keys.len();
            assert!(listed <= 3 * 20 + LAST, "{listed} listed");
        }
        assert_eq!((session.held(), other.held()), (20, 0));
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let id = SessionId {
            number: SessionNumber(1),
            secret: Secret(0x1234_5678_9abc),
        };
        assert!(!format!("{id:?}").contains("789"), "{id:?}");
    }
}
