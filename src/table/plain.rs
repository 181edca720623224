//! For tests: the table without a store, where every change is accepted and every answer may be
//! sent, so that only the values of the answers matter.

use std::ops::Deref;
use std::time::{Duration, Instant};

use super::{Ending, LockTable, Locked, NotHeld, Resumed, Session, TokenClock, Unlocked};
use crate::model::{Ask, Circle, Limits, Mode, Secret, SessionId, Token};
use crate::store::Changes;

#[derive(Debug)]
pub(crate) struct PlainTable(pub(crate) LockTable);

impl Deref for PlainTable {
    type Target = LockTable;

    fn deref(&self) -> &LockTable {
        &self.0
    }
}

const HOUR: Duration = Duration::from_secs(3600);

const STORED: &str = "nothing is refused without a store";

impl PlainTable {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(LockTable::new(
            limits,
            TokenClock::above(Token(0)),
            Changes::default(),
        ))
    }

    pub(crate) fn lock(
        &self,
        session: &mut Session,
        key: &[u8],
        mode: &Mode,
        now: Instant,
    ) -> Locked {
        self.0
            .try_acquire(session, key, &mode.clone().into(), now)
            .expect(STORED)
            .value
    }

    pub(crate) fn lock_or_wait(
        &self,
        session: &mut Session,
        key: &[u8],
        mode: &Mode,
        now: Instant,
    ) -> Locked {
        self.ask_or_wait(session, key, &mode.clone().into(), now)
    }

    /// Asks to wait for an hour.
    pub(crate) fn ask_or_wait(
        &self,
        session: &mut Session,
        key: &[u8],
        ask: &Ask,
        now: Instant,
    ) -> Locked {
        let outcome = self.0.acquire(session, key, ask, HOUR, now);
        outcome.expect(STORED).value
    }

    pub(crate) fn circle(&self, session: &Session, key: &[u8]) -> Option<Circle> {
        let until = Instant::now() + HOUR;
        self.0.circle(session, key, &Mode::Exclusive.into(), until)
    }

    pub(crate) async fn granted(&self, session: &Session) {
        let waiter = session.waiting.clone().expect("it waits");
        waiter.decided().await;
    }

    pub(crate) fn end_wait(&self, session: &mut Session, ending: Ending, now: Instant) -> Locked {
        self.0
            .wait(session)
            .expect("it waits")
            .end(ending, now)
            .value
    }

    pub(crate) fn settle(&self, session: &mut Session, ending: Ending, now: Instant) -> bool {
        self.end_wait(session, ending, now) == Locked::Acquired
    }

    pub(crate) fn unlock(&self, session: &mut Session, key: &[u8], now: Instant) -> Unlocked {
        self.0.unlock(session, key, None, now).expect(STORED).value
    }

    pub(crate) fn token(&self, session: &Session, key: &[u8]) -> Result<Token, NotHeld> {
        self.0.token(session, key, None).value
    }

    pub(crate) fn set_lease(
        &self,
        session: &mut Session,
        key: &[u8],
        lease: Option<Duration>,
        now: Instant,
    ) -> Result<(), NotHeld> {
        self.0
            .set_lease(session, key, None, lease, now)
            .expect(STORED)
            .value
    }

    pub(crate) fn end_leases(&self, now: Instant, most: usize) -> usize {
        self.0.end_leases(now, most).0
    }

    pub(crate) fn set_secret(&self, session: &mut Session, secret: Secret) -> SessionId {
        let id = self.0.session_id(session, || Ok::<_, ()>(secret));
        id.expect(STORED).expect("it was drawn").value
    }

    pub(crate) fn resume(&self, session: &mut Session, id: SessionId, now: Instant) -> bool {
        matches!(self.0.resume(session, id, now), Resumed::Yes(_))
    }
}

impl Session {
    pub(crate) fn is_granted(&self) -> bool {
        self.waiting
            .as_ref()
            .is_some_and(|waiter| waiter.is_granted())
    }
}

/// A table with bounds that no test reaches by accident.
pub(crate) fn test_table() -> PlainTable {
    PlainTable::new(test_limits())
}

pub(crate) fn test_limits() -> Limits {
    Limits {
        locks: 10_000_000,
        locks_per_session: 10_000_000,
        waiters_per_key: 10_000_000,
        sessions_in_grace: 10_000_000,
        max_hold: None,
        equal_values_pass: false,
    }
}
