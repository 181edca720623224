//! For tests: the table without a store, where every change is accepted and every answer may be
//! sent, so that only the values of the answers matter.

use std::ops::Deref;
use std::time::{Duration, Instant};

use super::{Ending, LockTable, Locked, NotHeld, Session, Unlocked};
use crate::model::{Circle, Limits, Mode, Secret, SessionId, Token};
use crate::store::Changes;

#[derive(Debug)]
pub(crate) struct PlainTable(pub(crate) LockTable);

impl Deref for PlainTable {
    type Target = LockTable;

    fn deref(&self) -> &LockTable {
        &self.0
    }
}

const STORED: &str = "nothing is refused without a store";

impl PlainTable {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(LockTable::new(limits, Token(0), Changes::default()))
    }

    pub(crate) fn lock(
        &self,
        session: &mut Session,
        key: &[u8],
        mode: &Mode,
        now: Instant,
    ) -> Locked {
        self.0
            .try_acquire(session, key, mode, now)
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
        self.0.acquire(session, key, mode, now).expect(STORED).value
    }

    pub(crate) fn circle(&self, session: &Session, key: &[u8]) -> Option<Circle> {
        self.0.circle(session, key)
    }

    pub(crate) async fn granted(&self, session: &Session) {
        let waiter = session.waiting.clone().expect("it waits");
        waiter.granted().await;
    }

    pub(crate) fn settle(&self, session: &mut Session, ending: Ending, now: Instant) -> bool {
        let wait = self.0.wait(session).expect("it waits");
        wait.end(ending, now).value == Locked::Acquired
    }

    pub(crate) fn unlock(&self, session: &mut Session, key: &[u8], now: Instant) -> Unlocked {
        self.0.unlock(session, key, now).expect(STORED).value
    }

    pub(crate) fn token(&self, session: &Session, key: &[u8]) -> Result<Token, NotHeld> {
        self.0.token(session, key).value
    }

    pub(crate) fn set_lease(
        &self,
        session: &mut Session,
        key: &[u8],
        lease: Option<Duration>,
        now: Instant,
    ) -> Result<(), NotHeld> {
        self.0
            .set_lease(session, key, lease, now)
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
        self.0.resume(session, id, now).is_some()
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
    }
}
