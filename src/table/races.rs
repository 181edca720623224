//! What may happen at one time, in every order that a scheduler finds.

mod operators;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shuttle::future::block_on;
use shuttle::thread::{self, JoinHandle};
use tokio::sync::Notify;

use super::plain::{PlainTable, test_limits, test_table};
use super::{
    Claim, Detached, Ending, Grant, Locked, Session, Signal, TakenOver, Unlocked, Watch, interleave,
};
use crate::model::{
    Ask, AskedFor, Holder, Limits, Mode, Owner, Peer, Secret, SessionId, Token, Value,
};

const KEY: &[u8] = b"k";
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Checks a race in orders by chance, and in those in which few threads are overtaken.
fn check(race: impl Fn() + Send + Sync + Copy + 'static) {
    let begun = move || {
        interleave::yield_with(thread::yield_now);
        race();
    };
    shuttle::check_random(begun, 2_000);
    shuttle::check_pct(begun, 2_000, 3);
}

/// A table, and the time, which stands still.
#[derive(Clone)]
struct World {
    table: Arc<PlainTable>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self::of(test_table())
    }

    fn of(table: PlainTable) -> Self {
        let (table, now) = (Arc::new(table), Instant::now());
        Self { table, now }
    }

    fn open(&self) -> Session {
        self.table.open(Peer::Unix(None), Duration::ZERO)
    }

    fn take(&self, session: &mut Session, ask: &Ask) -> Token {
        let answer = self.table.try_acquire(session, KEY, ask, self.now);
        let answer = answer.expect("no store");
        assert_eq!(answer.value, Locked::Acquired);
        self.table.last_token()
    }

    /// A session that waits for the key.
    fn queue(&self, ask: &Ask) -> Session {
        let mut session = self.open();
        let answer = self.table.ask_or_wait(&mut session, KEY, ask, self.now);
        assert_eq!(answer, Locked::Waiting);
        session
    }

    fn until_granted(&self, session: &mut Session) {
        block_on(self.table.granted(session));
        assert!(self.table.settle(session, Ending::Decided, self.now));
    }

    /// Asks for a key, and waits as long as it takes.
    fn acquire(&self, session: &mut Session, key: &[u8], ask: &Ask) {
        match self.table.ask_or_wait(session, key, ask, self.now) {
            Locked::Acquired => {}
            Locked::Waiting => self.until_granted(session),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn unlock(&self, session: &mut Session, owner: Option<&Owner>) -> Unlocked {
        let answer = self.table.0.unlock(session, KEY, owner, self.now);
        answer.expect("no store").value
    }

    fn end(&self, session: Session) {
        self.table.end(session, self.now);
    }

    /// Runs on a thread of its own.
    fn spawn<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let world = self.clone();
        thread::spawn(move || {
            thread::yield_now();
            run(&world)
        })
    }
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("no assertion failed")
}

fn exclusive() -> Ask {
    Mode::Exclusive.into()
}

fn shared() -> Ask {
    Mode::Shared(Value::new(b"v")).into()
}

fn slots(count: u32) -> Ask {
    Mode::Slot(count.try_into().expect("not zero")).into()
}

fn owner(name: &str) -> Owner {
    Owner::new(name.as_bytes())
}

fn owned(name: &str, mode: Mode, lease: Option<Duration>) -> Ask {
    Ask {
        mode,
        holder: AskedFor::Owner(owner(name), lease),
    }
}

// ---------------------------------------------------------------------------- take-over

/// A connection whose session waits, and how it hears of what may end that.
struct OldConnection {
    deadline: Arc<Notify>,
    disconnect: Arc<Notify>,
    /// Whether its client was told that it has the lock.
    has_told: Arc<AtomicBool>,
}

impl OldConnection {
    /// Waits, and answers, unless it may not write any more; then it is there until its client leaves
    /// or its session is taken over.
    fn serve(&self, world: &World, mut session: Session) {
        let signal = session.signal().clone();
        let has_left = block_on(self.wait(world, &mut session, &signal));
        if !has_left {
            block_on(async {
                tokio::select! {
                    biased;
                    () = self.disconnect.notified() => {}
                    _ = signal.cut_off() => {}
                }
            });
        }
        let detached = world.table.detach(session, world.now);
        assert!(matches!(detached, Detached::InGrace(_)));
    }

    /// Returns whether the connection is over.
    async fn wait(&self, world: &World, session: &mut Session, signal: &Signal) -> bool {
        let wait = world.table.wait(session).expect("it waits");
        let mut ending = tokio::select! {
            biased;
            () = self.disconnect.notified() => Ending::Disconnect,
            () = wait.decided() => Ending::Decided,
            _ = signal.any() => Ending::Shutdown,
            () = self.deadline.notified() => Ending::Deadline,
        };
        if signal.is_cut_off().is_some() {
            ending = Ending::Disconnect;
        }
        let mut outcome = wait.end(ending, world.now);
        if ending == Ending::Disconnect {
            assert_eq!(outcome.value, Locked::Busy, "nobody is told of it");
            return true;
        }
        interleave::between_guards();
        let claim = outcome.basis.take_claim();
        let grant = claim.and_then(|claim| world.named(session, claim));
        match (grant, signal.is_cut_off()) {
            (Some(grant), Some(_)) => world.table.give_back(session, &grant, world.now),
            (Some(_), None) => self.has_told.store(true, Ordering::SeqCst),
            (None, _) => {}
        }
        signal.is_cut_off().is_some()
    }
}

impl World {
    fn named(&self, session: &Session, claim: Claim) -> Option<Grant> {
        match claim {
            Claim::New(grant) => Some(grant),
            Claim::Listed(token) => self.table.listed_grant(session, token),
            _ => None,
        }
    }

    /// Takes the session over, and returns it if it is the last of two who do.
    fn take_over(&self, id: SessionId, taken: &AtomicUsize) -> Option<Session> {
        let mut session = self.open();
        let answer = block_on(self.table.take_over(&mut session, id, || self.now));
        assert!(!matches!(answer, TakenOver::No(_)), "{answer:?}");
        assert_eq!(session.number(), id.number);
        if taken.fetch_add(1, Ordering::SeqCst) == 1 {
            return Some(session);
        }
        let signal = session.signal().clone();
        block_on(signal.cut_off());
        let detached = self.table.detach(session, self.now);
        assert!(matches!(detached, Detached::InGrace(_)));
        None
    }
}

/// A session waits, with another behind it. Its lock is released, its deadline and its disconnect
/// come, and two take it over. Whoever has the session at the end has the lock exactly if the old
/// connection's client was told so; and the lock passes on.
fn two_takers() {
    let world = World::new();
    let mut holder = world.open();
    world.take(&mut holder, &exclusive());
    let mut session = world.table.open(Peer::Unix(None), HOUR);
    let id = world.table.set_secret(&mut session, Secret(7));
    let answer = world
        .table
        .ask_or_wait(&mut session, KEY, &exclusive(), world.now);
    assert_eq!(answer, Locked::Waiting);
    let mut next = world.queue(&exclusive());

    let (has_told, taken) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let old = OldConnection {
        deadline: Arc::default(),
        disconnect: Arc::default(),
        has_told: Arc::clone(&has_told),
    };
    for signal in [&old.deadline, &old.disconnect] {
        let signal = Arc::clone(signal);
        world.spawn(move |_| signal.notify_one());
    }
    let released = world.spawn(move |world| {
        let released = Unlocked::Released { passed_on: true };
        assert_eq!(world.unlock(&mut holder, None), released);
        world.end(holder);
    });
    let served = world.spawn(move |world| old.serve(world, session));
    let takers = [0, 1].map(|_| {
        let taken = Arc::clone(&taken);
        world.spawn(move |world| world.take_over(id, &taken))
    });
    let behind = world.spawn(move |world| {
        world.until_granted(&mut next);
        world.end(next);
    });
    let mut last = takers.map(join).into_iter().flatten();
    let (last, none) = (last.next().expect("one has it"), last.next());
    assert!(none.is_none());
    join(served);
    join(released);
    let has_lock = world.table.token(&last, KEY).is_ok();
    assert_eq!(has_lock, has_told.load(Ordering::SeqCst));
    assert_eq!(last.held(), usize::from(has_lock));
    world.end(last);
    join(behind);
    assert_eq!(world.table.held(), 0);
    assert_eq!(world.table.session_counts(), (0, 0));
}

#[test]
fn of_a_grant_a_deadline_a_disconnect_and_two_take_overs_none_is_lost() {
    check(two_takers);
}

/// A session without a grace period disconnects while it is taken over: either it is taken over with
/// its lock, or it is over and the lock is free.
fn take_over_or_end() {
    let world = World::new();
    let mut session = world.open();
    let id = world.table.set_secret(&mut session, Secret(7));
    world.take(&mut session, &exclusive());
    let old = world.spawn(move |world| match world.table.detach(session, world.now) {
        Detached::Over(session) => world.end_over(session),
        Detached::InGrace(_) => {}
        other => panic!("unexpected {other:?}"),
    });
    let mut new = world.open();
    let answer = block_on(world.table.take_over(&mut new, id, || world.now));
    join(old);
    let is_taken = !matches!(answer, TakenOver::No(_));
    assert_eq!(new.number() == id.number, is_taken);
    assert_eq!(world.table.held(), usize::from(is_taken));
    assert_eq!(world.table.token(&new, KEY).is_ok(), is_taken);
    world.end(new);
    assert_eq!(world.table.held(), 0);
    assert_eq!(world.table.session_counts(), (0, 0));
}

impl World {
    fn end_over(&self, mut session: Session) {
        let left = self.table.unlock_some(&mut session, usize::MAX, self.now);
        assert_eq!(left.value, 0);
    }
}

#[test]
fn a_take_over_and_the_end_of_the_session_have_one_winner() {
    check(take_over_or_end);
}

/// The end of a grace period and two take-overs: a session is taken over by both or by none.
fn take_over_or_grace_end() {
    let world = World::new();
    let mut session = world.table.open(Peer::Unix(None), SECOND);
    let id = world.table.set_secret(&mut session, Secret(7));
    world.take(&mut session, &exclusive());
    assert!(matches!(
        world.table.detach(session, world.now),
        Detached::InGrace(_)
    ));
    let end = world.spawn(move |world| {
        let over = world.table.end_grace(id.number, world.now + SECOND);
        let is_over = over.is_some();
        over.into_iter()
            .for_each(|(session, _)| world.end_over(session));
        is_over
    });
    let mut new = world.open();
    // At a time at which the grace period was not over yet.
    let answer = block_on(world.table.take_over(&mut new, id, || world.now));
    let is_over = join(end);
    let is_taken = !matches!(answer, TakenOver::No(_));
    assert_ne!(is_over, is_taken, "one of them");
    assert_eq!(world.table.held(), usize::from(is_taken));
    world.end(new);
    assert_eq!(world.table.session_counts(), (0, 0));
}

#[test]
fn a_take_over_and_the_end_of_the_grace_period_have_one_winner() {
    check(take_over_or_grace_end);
}

// ---------------------------------------------------------------------------- break

/// An owner's lock is broken, unlocked and over by its lease at one time, and the owner `next` waits for
/// it. It ends once; and `next` has it then, whose grant nobody meant.
fn break_unlock_or_lease(next: &'static str) {
    let world = World::new();
    let (mut first, word) = (world.open(), owner("word"));
    let last = world.take(&mut first, &owned("word", Mode::Exclusive, Some(SECOND)));
    let mut waiter = world.queue(&owned(next, Mode::Exclusive, None));
    let broken = world.spawn(move |world| {
        let mut session = world.open();
        let (table, now) = (&world.table, world.now);
        let broken = table.break_some(&mut session, KEY, last, 10, now);
        world.end(session);
        let broken = broken.expect("no store").value.expect("an owner has it");
        broken.grants
    });
    let ended = world.spawn(move |world| world.table.0.end_leases(world.now + SECOND, 10).1);
    let unlocked = world.spawn(move |world| {
        // The same word would be unlocked whichever grant it has.
        let is_other = next != "word";
        let unlocked = is_other.then(|| world.unlock(&mut first, Some(&word)));
        world.end(first);
        matches!(unlocked, Some(Unlocked::Released { .. }))
    });
    let (broken, ended, unlocked) = (join(broken), join(ended), join(unlocked));
    assert_eq!(
        broken.len() + ended.len() + usize::from(unlocked),
        1,
        "it ends once"
    );
    world.until_granted(&mut waiter);
    let next = owner(next);
    let token = world.table.0.token(&waiter, KEY, Some(&next)).value;
    assert!(token.is_ok_and(|token| token > last), "{token:?}");
    assert_eq!(world.table.next_lease_end(), None);
    let released = Unlocked::Released { passed_on: false };
    assert_eq!(world.unlock(&mut waiter, Some(&next)), released);
    assert_eq!(world.table.held(), 0);
    world.end(waiter);
}

#[test]
fn a_break_an_unlock_and_the_end_of_a_lease_end_one_grant_once() {
    check(|| break_unlock_or_lease("other"));
    check(|| break_unlock_or_lease("word"));
}

/// A lock that three owners share is broken in slices, while one of them unlocks and a session joins:
/// none of the three has it then, and the session has.
fn break_unlock_or_join() {
    let world = World::new();
    let mut first = world.open();
    let mut last = Token(0);
    for name in ["a", "b", "c"] {
        last = world.take(&mut first, &owned(name, shared().mode, None));
    }
    let broken = world.spawn(move |world| {
        let mut session = world.open();
        let (table, now) = (&world.table, world.now);
        loop {
            let broken = table.break_some(&mut session, KEY, last, 2, now);
            match broken.expect("no store").value {
                Ok(broken) if broken.looked_at == 2 => {}
                Ok(_) | Err(_) => return world.end(session),
            }
        }
    });
    let unlocked = world.spawn(move |world| {
        world.unlock(&mut first, Some(&owner("c")));
        world.end(first);
    });
    let mut joined = world.open();
    world.acquire(&mut joined, KEY, &shared());
    join(unlocked);
    join(broken);
    assert_eq!(world.holders(), 1, "{:?}", world.table.lock_view(KEY, 10));
    world.end(joined);
}

#[test]
fn a_break_in_slices_leaves_no_owner_out() {
    check(break_unlock_or_join);
}

// ---------------------------------------------------------------------------- queues

/// The first in the queue gives up while another request comes, which the holder would admit: that one
/// has the lock while the holder has it, too. If it was overlooked, this would hang.
fn leave_or_come(holder: &Ask, leaver: &Ask, newcomer: &Ask) {
    let world = World::new();
    let mut first = world.open();
    world.take(&mut first, holder);
    let (mut leaver, newcomer) = (world.queue(leaver), newcomer.clone());
    let left = world.spawn(move |world| {
        let has_it = world.table.settle(&mut leaver, Ending::Deadline, world.now);
        world.end(leaver);
        has_it
    });
    let came = world.spawn(move |world| {
        let mut session = world.open();
        world.acquire(&mut session, KEY, &newcomer);
        session
    });
    assert!(!join(left), "the holder excludes it");
    let came = join(came);
    assert_eq!(world.holders(), 2);
    world.end(came);
    world.end(first);
    assert_eq!(world.table.held(), 0);
}

impl World {
    fn holders(&self) -> usize {
        let view = self.table.lock_view(KEY, 10).expect("it is held");
        view.holders_in_all
    }
}

/// The same, and the holder lets go. Whoever has the lock lets go as well: all come to their end.
fn leave_come_or_release(holder: &Ask, leaver: &Ask, newcomer: &Ask) {
    let world = World::new();
    let mut first = world.open();
    world.take(&mut first, holder);
    let (mut leaver, newcomer) = (world.queue(leaver), newcomer.clone());
    let threads = [
        world.spawn(move |world| {
            world.table.settle(&mut leaver, Ending::Deadline, world.now);
            world.end(leaver);
        }),
        world.spawn(move |world| {
            let mut session = world.open();
            world.acquire(&mut session, KEY, &newcomer);
            world.end(session);
        }),
        world.spawn(move |world| world.end(first)),
    ];
    threads.into_iter().for_each(join);
    assert_eq!(world.table.held(), 0);
    assert_eq!(world.table.waiting(), 0);
}

#[test]
fn nobody_is_overlooked_when_the_one_before_leaves() {
    check(|| leave_or_come(&shared(), &exclusive(), &shared()));
    check(|| leave_or_come(&slots(2), &slots(1), &slots(2)));
    check(|| leave_come_or_release(&shared(), &exclusive(), &shared()));
    check(|| leave_come_or_release(&slots(2), &slots(1), &slots(2)));
    check(|| leave_come_or_release(&exclusive(), &exclusive(), &exclusive()));
}

// ---------------------------------------------------------------------------- promote and demote

/// An owner's lock becomes a shared one while a writer that waits for it gives up. The reader behind
/// the writer is let in while the owner has the lock; and if `unlocks`, the owner lets go meanwhile.
fn demote_or_leave(unlocks: bool) {
    let world = World::new();
    let mut first = world.open();
    let word = owner("word");
    world.take(&mut first, &owned("word", Mode::Exclusive, None));
    let mut writer = world.queue(&exclusive());
    let mut reader = world.queue(&shared());
    let demoted = world.spawn(move |world| {
        let (mut session, mode) = (world.open(), shared().mode);
        let (table, word, now) = (&world.table, owner("word"), world.now);
        let demoted = table.set_mode(&mut session, KEY, Some(&word), &mode, now);
        world.end(session);
        demoted.expect("no store").value
    });
    let left = world.spawn(move |world| {
        let has_it = world.table.settle(&mut writer, Ending::Deadline, world.now);
        world.end(writer);
        has_it
    });
    let unlocked = unlocks.then(|| {
        world.spawn(move |world| {
            let unlocked = world.unlock(&mut first, Some(&owner("word")));
            assert!(matches!(unlocked, Unlocked::Released { .. }));
            first
        })
    });
    world.until_granted(&mut reader);
    let (demoted, has_it) = (join(demoted), join(left));
    match unlocked.map(join) {
        None => {
            assert_eq!((demoted, has_it), (Ok(true), false));
            assert_eq!(world.holders(), 2);
            let released = Unlocked::Released { passed_on: false };
            assert_eq!(world.unlock(&mut reader, Some(&word)), released);
        }
        Some(first) => world.end(first),
    }
    world.end(reader);
    assert_eq!(world.table.held(), 0);
}

/// A reader wants the lock alone while another comes: either it has the lock alone, or they share it.
fn promote_or_join() {
    let world = World::new();
    let mut first = world.open();
    world.take(&mut first, &shared());
    let promoted = world.spawn(move |world| {
        let mode = Mode::Exclusive;
        let (table, now) = (&world.table, world.now);
        let promoted = table.set_mode(&mut first, KEY, None, &mode, now);
        let is_alone = promoted.expect("no store").value.expect("it has it");
        if is_alone {
            assert_eq!(world.holders(), 1);
            thread::yield_now();
            assert_eq!(world.holders(), 1);
        }
        world.end(first);
    });
    let came = world.spawn(move |world| {
        let mut session = world.open();
        world.acquire(&mut session, KEY, &shared());
        world.end(session);
    });
    join(promoted);
    join(came);
    assert_eq!(world.table.held(), 0);
}

#[test]
fn a_mode_that_changes_overlooks_nobody_and_lets_nobody_in_who_is_excluded() {
    check(|| demote_or_leave(false));
    check(|| demote_or_leave(true));
    check(promote_or_join);
}

// ---------------------------------------------------------------------------- watch

/// A watcher that knows a state is woken by the change from it, however the change comes about, and
/// while another watcher of the key stops.
fn watch_or_change(waiter: Option<Ask>) {
    let world = World::new();
    let mut first = world.open();
    let token = world.take(&mut first, &exclusive());
    let known = Watch::Held(Holder::Session(first.number()), token);
    let mut waiter = waiter.map(|ask| world.queue(&ask));
    let watcher = world.spawn({
        let known = known.clone();
        move |world| {
            let watcher = world.table.watch(KEY);
            block_on(watcher.until(|state| *state != known))
        }
    });
    let other = world.spawn(|world| drop(world.table.watch(KEY)));
    let changed = world.spawn(move |world| {
        let unlocked = world.unlock(&mut first, None);
        assert!(matches!(unlocked, Unlocked::Released { .. }));
        world.end(first);
    });
    let state = join(watcher);
    join(other);
    join(changed);
    assert_ne!(state, known);
    assert_eq!(state == Watch::Free, waiter.is_none());
    if let Some(mut waiter) = waiter.take() {
        world.until_granted(&mut waiter);
        world.end(waiter);
    }
}

/// The same of a key that is free.
fn watch_or_take() {
    let world = World::new();
    let watcher = world.spawn(|world| {
        let watcher = world.table.watch(KEY);
        block_on(watcher.until(|state| *state != Watch::Free))
    });
    let taken = world.spawn(|world| {
        let mut session = world.open();
        let token = world.take(&mut session, &shared());
        (session, token)
    });
    let (session, token) = join(taken);
    let holder = Holder::Session(session.number());
    assert_eq!(join(watcher), Watch::Held(holder, token));
    world.end(session);
}

#[test]
fn a_watcher_that_began_before_the_change_is_always_woken() {
    check(|| watch_or_change(None));
    check(|| watch_or_change(Some(exclusive())));
    check(|| watch_or_change(Some(owned("word", Mode::Exclusive, None))));
    check(watch_or_take);
}

// ---------------------------------------------------------------------------- several keys

const KEYS: [&[u8]; 2] = [b"a", b"b"];

/// Who is in, for each key.
type Inside = Arc<[AtomicUsize; 2]>;

impl World {
    /// Takes all keys, in their order, and keeps or gives back. Gives up at the first wait, unless
    /// `waits`.
    fn take_all(&self, waits: bool, inside: &Inside) {
        let mut session = self.open();
        let ask = Ask {
            mode: Mode::Exclusive,
            holder: AskedFor::SessionWithOthers { has_one: false },
        };
        let mut claims = Vec::new();
        for key in KEYS {
            match self.claim(&mut session, key, &ask, waits) {
                Some(claim) => claims.push(claim),
                None => break,
            }
            thread::yield_now();
        }
        if claims.len() < KEYS.len() {
            for claim in claims {
                let grant = self.named(&session, claim).expect("a new grant");
                self.table.give_back(&mut session, &grant, self.now);
            }
            assert_eq!(session.held(), 0, "none");
            return self.end(session);
        }
        let kept = self.table.keep_all(&mut session, &claims, self.now);
        let kept = kept.expect("nobody takes one");
        assert_eq!((kept.value, session.held()), (Locked::Acquired, 2));
        inside.iter().for_each(enter);
        thread::yield_now();
        inside.iter().for_each(leave);
        self.end(session);
    }

    fn claim(&self, session: &mut Session, key: &[u8], ask: &Ask, waits: bool) -> Option<Claim> {
        let outcome = self.table.acquire(session, key, ask, HOUR, self.now);
        let mut outcome = outcome.expect("no store");
        if outcome.value == Locked::Waiting {
            if waits {
                block_on(self.table.granted(session));
            }
            let ending = match waits {
                true => Ending::Decided,
                false => Ending::Deadline,
            };
            let wait = self.table.wait(session).expect("it waits");
            outcome = wait.end(ending, self.now);
        }
        assert!(matches!(outcome.value, Locked::Acquired | Locked::Busy));
        outcome.basis.take_claim()
    }

    fn take_one(&self, at: usize, inside: &Inside) {
        let mut session = self.open();
        self.acquire(&mut session, KEYS[at], &exclusive());
        enter(&inside[at]);
        thread::yield_now();
        leave(&inside[at]);
        self.end(session);
    }
}

fn enter(count: &AtomicUsize) {
    assert_eq!(count.swap(1, Ordering::SeqCst), 0, "one at a time");
}

fn leave(count: &AtomicUsize) {
    assert_eq!(count.swap(0, Ordering::SeqCst), 1, "one at a time");
}

/// Two take several keys, one of whom gives up, and others take one of them: nobody has a part, and
/// everybody's turn comes.
fn several() {
    let (world, inside) = (World::new(), Inside::default());
    let threads = [true, false].map(|waits| {
        let inside = Arc::clone(&inside);
        world.spawn(move |world| world.take_all(waits, &inside))
    });
    let others = [0, 1].map(|at| {
        let inside = Arc::clone(&inside);
        world.spawn(move |world| world.take_one(at, &inside))
    });
    threads.into_iter().for_each(join);
    others.into_iter().for_each(join);
    assert_eq!(world.table.held(), 0);
    assert_eq!(world.table.waiting(), 0);
}

/// Every grant has a lease, and the leases end while the keys are kept: each of them once, and none
/// before all are kept.
fn several_with_leases() {
    let limits = Limits {
        max_hold: Some(SECOND),
        ..test_limits()
    };
    let world = World::of(PlainTable::new(limits));
    let inside = Inside::default();
    let taken = world.spawn(move |world| world.take_all(true, &inside));
    let ended = world.spawn(|world| world.table.0.end_leases(world.now + SECOND, 10).1);
    let mut waiter = world.open();
    world.acquire(&mut waiter, KEYS[1], &exclusive());
    world.end(waiter);
    join(taken);
    assert!(join(ended).len() <= 3);
    world.table.end_leases(world.now + SECOND, 10);
    assert_eq!(world.table.held(), 0);
    assert_eq!(world.table.next_lease_end(), None);
}

#[test]
fn several_keys_are_kept_or_given_back_and_nobody_waits_for_ever() {
    check(several);
    check(several_with_leases);
}

// ---------------------------------------------------------------------------- drain

/// Somebody asks for a free key when a drain begins. Once nothing was held in the drain, nothing is
/// any more: whoever was granted something by then would lose it at the stop that follows.
fn ask_and_drain() {
    interleave::yield_under_guard_with(thread::yield_now);
    let world = World::new();
    let asking = world.spawn(|world| {
        let mut session = world.open();
        let ask = exclusive();
        let answer = world.table.ask_or_wait(&mut session, KEY, &ask, world.now);
        assert!(matches!(answer, Locked::Acquired | Locked::Draining));
        session
    });
    let draining = world.spawn(|world| {
        assert!(world.table.drain());
        interleave::between_guards();
        world.table.held() == 0
    });
    let (was_over, session) = (join(draining), join(asking));
    assert!(!was_over || world.table.held() == 0, "it is over too soon");
    world.end(session);
}

#[test]
fn when_nothing_is_held_in_a_drain_nothing_will_be() {
    check(ask_and_drain);
}
