//! `kick` and `force_unlock`, and what may meet them.

use super::*;
use crate::model::{NotStored, SessionNumber};
use crate::store::Changes;
use crate::store::fake::Fake;
use crate::table::{Kick, LockTable, NotHeld, Resumed, TokenClock};

impl World {
    /// Ends a session, and returns when it holds nothing any more; false if it was over before.
    fn kick(&self, number: SessionNumber) -> bool {
        match self.table.kick(number, SessionNumber(0)).expect("no store") {
            Kick::Unknown => return false,
            Kick::Ordered => {}
            Kick::Over(session) => self.end_kicked(session),
        }
        assert_eq!(block_on(self.table.until_over(number)).value, ());
        let view = self.table.lock_view(KEY, 10);
        let holders = view.into_iter().flat_map(|view| view.holders);
        let is_it = |(holder, _)| holder == Holder::Session(number);
        assert!(!holders.into_iter().any(is_it), "its locks are free");
        true
    }

    fn end_kicked(&self, session: Session) {
        let number = session.number();
        self.end_over(session);
        self.table.end_kicked(number);
    }

    /// Takes the key from all who hold it now.
    fn revoke(&self) -> Vec<Grant> {
        let mut session = self.open();
        let revoked = self
            .table
            .revoke_some(&mut session, KEY, None, 10, self.now);
        self.end(session);
        let revoked = revoked.expect("no store").value;
        revoked.map_or(Vec::new(), |revoked| revoked.grants)
    }

    /// A session in its grace period of a second, which has the key.
    fn left_behind(&self) -> SessionId {
        let mut session = self.table.open(Peer::Unix(None), SECOND);
        let id = self.table.set_secret(&mut session, Secret(7));
        self.take(&mut session, &exclusive());
        let detached = self.table.detach(session, self.now);
        assert!(matches!(detached, Detached::InGrace(_)));
        id
    }
}

// ---------------------------------------------------------------------------- kick

/// A session in its grace period is kicked, twice, and resumed, and its time ends: it is over by one of
/// them, and whoever waits gets the lock.
fn kick_resume_or_grace_end() {
    let world = World::new();
    let id = world.left_behind();
    let mut waiter = world.queue(&exclusive());
    let kicks = [0, 1].map(|_| world.spawn(move |world| world.kick(id.number)));
    let resumed = world.spawn(move |world| {
        let mut session = world.open();
        if !matches!(
            world.table.0.resume(&mut session, id, world.now),
            Resumed::Yes(_)
        ) {
            world.end(session);
            return;
        }
        let signal = session.signal().clone();
        block_on(signal.cut_off());
        match world.table.detach(session, world.now) {
            Detached::Kicked(session) => world.end_kicked(session),
            other => panic!("it is over, and not {other:?}"),
        }
    });
    let ended = world.spawn(move |world| {
        let over = world.table.end_grace(id.number, world.now + SECOND);
        let is_over = over.is_some();
        over.into_iter()
            .for_each(|(session, _)| world.end_over(session));
        is_over
    });
    let is_kicked = kicks.map(join).contains(&true);
    assert_ne!(is_kicked, join(ended), "it is over by one of them");
    join(resumed);
    world.until_granted(&mut waiter);
    world.end(waiter);
    assert_eq!(world.table.held(), 0);
    assert_eq!(world.table.session_counts(), (0, 0));
}

/// A session that holds a lock waits for another, which is released; its time is over, too. Then it is
/// kicked: it has neither, and those who wait behind it do.
fn kick_or_grant() {
    let world = World::new();
    let mut holder = world.open();
    world.take(&mut holder, &exclusive());
    let mut session = world.table.open(Peer::Unix(None), HOUR);
    let number = session.number();
    world.acquire(&mut session, b"own", &exclusive());
    let answer = world
        .table
        .ask_or_wait(&mut session, KEY, &exclusive(), world.now);
    assert_eq!(answer, Locked::Waiting);
    let mut next = world.queue(&exclusive());
    let deadline = Arc::<Notify>::default();
    let old = OldConnection {
        deadline: Arc::clone(&deadline),
        disconnect: Arc::default(),
        has_told: Arc::default(),
    };
    let served = world.spawn(move |world| {
        let signal = session.signal().clone();
        block_on(old.wait(world, &mut session, &signal));
        block_on(signal.cut_off());
        match world.table.detach(session, world.now) {
            Detached::Kicked(session) => world.end_kicked(session),
            other => panic!("it is over, and not {other:?}"),
        }
    });
    world.spawn(move |_| deadline.notify_one());
    let released = world.spawn(move |world| {
        let released = Unlocked::Released { passed_on: true };
        assert_eq!(world.unlock(&mut holder, None), released);
        world.end(holder);
    });
    assert!(world.kick(number));
    let mut own = world.open();
    assert_eq!(
        world
            .table
            .lock(&mut own, b"own", &Mode::Exclusive, world.now),
        Locked::Acquired,
        "without a wait"
    );
    world.end(own);
    join(served);
    join(released);
    world.until_granted(&mut next);
    world.end(next);
    assert_eq!(world.table.held(), 0);
    assert_eq!(world.table.session_counts(), (0, 0));
}

/// The connection of a session that is kicked goes on with another one meanwhile, which is not over.
fn kick_one_who_becomes_another() {
    let world = World::new();
    let id = world.left_behind();
    let mut session = world.open();
    let number = session.number();
    let served = world.spawn(move |world| {
        let resumed = world.table.0.resume(&mut session, id, world.now);
        let is_another = matches!(resumed, Resumed::Yes(_));
        match world.table.detach(session, world.now) {
            Detached::Kicked(session) => {
                assert!(!is_another);
                world.end_kicked(session);
            }
            Detached::InGrace(_) => assert!(is_another),
            Detached::Over(session) => {
                assert!(!is_another);
                world.end_over(session);
            }
            other => panic!("unexpected {other:?}"),
        }
    });
    world.kick(number);
    join(served);
    let mut session = world.open();
    assert!(
        world.table.resume(&mut session, id, world.now),
        "it goes on"
    );
    assert!(world.table.token(&session, KEY).is_ok());
    world.end(session);
    assert_eq!(world.table.held(), 0);
    assert_eq!(world.table.session_counts(), (0, 0));
}

/// The task of a session's connection fails while it is kicked.
fn kick_or_failure() {
    let world = World::new();
    let mut session = world.open();
    world.take(&mut session, &exclusive());
    let number = session.number();
    let kicked = world.spawn(move |world| world.kick(number));
    for _ in 0..2 {
        thread::yield_now();
    }
    world.end(session);
    join(kicked);
    assert_eq!(world.table.held(), 0);
    assert_eq!(world.table.session_counts(), (0, 0));
}

#[test]
fn a_kick_has_one_winner_whatever_it_meets() {
    check(kick_resume_or_grace_end);
    check(kick_or_grant);
    check(kick_one_who_becomes_another);
    check(kick_or_failure);
}

// ---------------------------------------------------------------------------- force_unlock

/// A lock is taken from a session that releases it, or takes it again, or loses it by its lease: each
/// grant ends once, and the session counts right.
fn revoke_or_release(has_lease: bool) {
    let world = World::new();
    let mut session = world.open();
    let token = world.take(&mut session, &exclusive());
    if has_lease {
        let set = world
            .table
            .set_lease(&mut session, KEY, Some(SECOND), world.now);
        assert_eq!(set, Ok(()));
    }
    let revoked = world.spawn(|world| world.revoke());
    let ended = world.spawn(move |world| match has_lease {
        true => world.table.0.end_leases(world.now + SECOND, 10).1.len(),
        false => 0,
    });
    let owner = world.spawn(move |world| {
        let is_released = match world.unlock(&mut session, None) {
            Unlocked::Released { .. } => true,
            Unlocked::NotHeld(why) => {
                assert!(
                    matches!(why, NotHeld::Revoked | NotHeld::Expired),
                    "{why:?}"
                );
                false
            }
        };
        world.acquire(&mut session, KEY, &exclusive());
        (session, is_released)
    });
    let (mut session, is_released) = join(owner);
    let revoked = join(revoked);
    let ended = join(ended);
    let first_ends = usize::from(is_released)
        + ended
        + revoked
            .iter()
            .filter(|grant| grant.token() == token)
            .count();
    assert_eq!(first_ends, 1, "it ends once");
    world.table.tidy_some(&mut session, 10);
    let is_held = world.table.token(&session, KEY).is_ok();
    assert_eq!(session.held(), usize::from(is_held));
    assert_eq!(is_held, revoked.iter().all(|grant| grant.token() == token));
    world.end(session);
    assert_eq!(world.table.held(), 0);
    assert_eq!(world.table.next_lease_end(), None);
}

/// A lock is taken from a session whose connection ends, and which another one resumes: the session
/// knows of it, wherever it was.
fn revoke_or_resume() {
    let world = World::new();
    let mut session = world.table.open(Peer::Unix(None), HOUR);
    let id = world.table.set_secret(&mut session, Secret(7));
    world.take(&mut session, &exclusive());
    let revoked = world.spawn(|world| world.revoke());
    let left = world.spawn(move |world| {
        let detached = world.table.detach(session, world.now);
        assert!(matches!(detached, Detached::InGrace(_)));
    });
    let resumed = world.spawn(move |world| {
        let mut session = world.open();
        let taken = block_on(world.table.take_over(&mut session, id, || world.now));
        assert!(!matches!(taken, TakenOver::No(_)));
        session
    });
    join(left);
    let mut session = join(resumed);
    assert_eq!(join(revoked).len(), 1);
    assert_eq!(world.table.token(&session, KEY), Err(NotHeld::Revoked));
    world.table.tidy_some(&mut session, 10);
    assert_eq!(session.held(), 0);
    world.end(session);
    assert_eq!(world.table.session_counts(), (0, 0));
}

/// A session was granted a lock and is about to be told so, when the lock is taken and another one is
/// told that it has it: from then on the first one is not.
fn revoke_or_answer() {
    let world = World::new();
    let mut session = world.open();
    let token = world.take(&mut session, &exclusive());
    let is_anothers = Arc::<AtomicBool>::default();
    let told = Arc::clone(&is_anothers);
    let taken = world.spawn(move |world| {
        assert_eq!(world.revoke().len(), 1);
        let mut other = world.open();
        world.take(&mut other, &exclusive());
        told.store(true, Ordering::SeqCst);
        other
    });
    for _ in 0..3 {
        let is_late = is_anothers.load(Ordering::SeqCst);
        let may_tell = !session.may_lose() || world.table.listed_grant(&session, token).is_some();
        assert!(
            !(is_late && may_tell),
            "nobody is told of a lock that is not his"
        );
        thread::yield_now();
    }
    world.end(join(taken));
    world.end(session);
    assert_eq!(world.table.held(), 0);
}

#[test]
fn a_lock_that_is_taken_ends_once_and_its_session_knows() {
    check(|| revoke_or_release(false));
    check(|| revoke_or_release(true));
    check(revoke_or_resume);
    check(revoke_or_answer);
}

/// One of several keys is taken while they are kept: what is stored at the end is what is held, so that
/// nothing comes back with the next start.
fn revoke_or_keep_all() {
    let fake = Fake::default();
    let (changes, writer) = Changes::to(fake.clone()).expect("a thread");
    let table = LockTable::new(test_limits(), TokenClock::above(Token(0)), changes);
    let world = World::of(PlainTable(table));
    let mut session = world.open();
    let ask = Ask {
        mode: Mode::Exclusive,
        holder: AskedFor::SessionWithOthers { has_one: false },
    };
    let claims: Vec<Claim> = [KEY, b"other"]
        .into_iter()
        .filter_map(|key| world.claim(&mut session, key, &ask, false))
        .collect();
    let revoked = world.spawn(|world| world.revoke());
    let kept = world
        .table
        .keep_all(&mut session, &claims, world.now)
        .is_ok();
    let tokens: Vec<Token> = claims
        .iter()
        .filter_map(|claim| claim.new_token())
        .collect();
    if !kept {
        for claim in claims {
            let grant = world.named(&session, claim).expect("a new grant");
            world.table.give_back(&mut session, &grant, world.now);
        }
    }
    assert_eq!(join(revoked).len(), 1);
    let written: Result<(), NotStored> = writer.finish();
    assert_eq!(written, Ok(()));
    let is_stored = |token: &Token| {
        let grants = &fake.state().stored.grants;
        grants.get(token).is_some_and(|grant| grant.is_some())
    };
    assert!(!is_stored(&tokens[0]), "it was taken");
    assert_eq!(is_stored(&tokens[1]), kept);
    assert_eq!(world.table.held(), usize::from(kept));
    world.end(session);
}

#[test]
fn a_lock_that_is_taken_while_several_are_kept_does_not_come_back() {
    shuttle::check_random(
        || {
            interleave::yield_with(thread::yield_now);
            revoke_or_keep_all();
        },
        500,
    );
}
