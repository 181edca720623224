//! What operators do by HTTP: the same as clients do by `kick`, `force_unlock` and `break`.
//!
//! Each act has a session of its own, from its beginning to its end, by which the log tells who it was.

use std::sync::Arc;

use super::arrival::{Arrival, Places};
use super::handle::ServerHandle;
use super::log_lines;
use super::session_guard::{SLICE, SessionGuard, give_way, release_kicked};
use crate::access::User;
use crate::model::{Key, NotStored, Peer, SessionNumber, Token};
use crate::table::{Kick, NotHeld, Outcome, Session};

/// What the session of an act is called.
const NAME: &[u8] = b"http";

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDone {
    /// There is no such session, or it is over.
    #[error("there is no such session")]
    NoSession,
    /// The number is that of another run of the server, whose sessions are others.
    #[error("the server was started anew meanwhile, and its sessions are others")]
    OtherRun,
    /// Nobody holds the lock by a token that was meant.
    #[error("nobody holds this lock, or only somebody who got it later")]
    NotLocked,
    /// Only what owners hold can be broken.
    #[error("a session holds this lock, and not only owners")]
    NotOwners,
    /// Nothing can be stored at this time; it may be done in memory, and be undone by a restart.
    #[error("not stored: {0}")]
    NotStored(#[from] NotStored),
    /// It was ordered, and the server stops before it can say that it is done.
    #[error("the server is stopping")]
    Stopping,
}

/// An act under way, and whose it is.
pub(crate) struct Act {
    server: ServerHandle,
    session: SessionGuard,
    user: Arc<User>,
}

/// How many grants were looked at in a slice, or why there is nothing to end.
type Slice = Result<Outcome<Result<usize, NotHeld>>, NotStored>;

impl ServerHandle {
    /// Begins an act of this user, who asks from there.
    pub(crate) fn act(&self, peer: Peer, user: Arc<User>) -> Act {
        let arrival = Arrival {
            peer,
            user: Some(Arc::clone(&user)),
            places: Places::default(),
        };
        let session = SessionGuard::open(&self.shared, &arrival);
        self.shared.table.set_name(&session, Key::new(NAME));
        let server = self.clone();
        Act {
            server,
            session,
            user,
        }
    }
}

impl Act {
    /// Ends a session, and returns when all that it held is free. `run` is the instance of the server of
    /// which the number is, if that is known.
    pub(crate) async fn kick(
        self,
        number: SessionNumber,
        run: Option<&str>,
    ) -> Result<(), NotDone> {
        let shared = &self.server.shared;
        if run.is_some_and(|run| run != format!("{:032x}", shared.instance)) {
            return Err(NotDone::OtherRun);
        }
        if shared.session_entry(number, &self.user).is_none() {
            return Err(NotDone::NoSession);
        }
        let identity = shared.table.identity(number);
        match shared.table.kick(number, self.session.number())? {
            Kick::Unknown => return Err(NotDone::NoSession),
            Kick::Ordered => {}
            // In a task of its own, which goes on if the one who asks does not wait.
            Kick::Over(session) => {
                let released = release_kicked(Arc::clone(shared), session);
                drop(shared.tasks.spawn_on(released, &self.server.runtime));
            }
        }
        log_lines::kicked(shared, &self.session, number, identity.as_ref());
        let over = shared
            .stop
            .run_until_cancelled(shared.table.until_over(number));
        let over = over.await.ok_or(NotDone::Stopping)?;
        Ok(shared.table.changes().durable(over.basis.seq()).await?)
    }

    /// Takes a lock from all who hold it by tokens up to `last`, or by any.
    pub(crate) async fn force_unlock(
        self,
        key: &Key,
        mut last: Option<Token>,
    ) -> Result<(), NotDone> {
        self.check(key)?;
        let shared = Arc::clone(&self.server.shared);
        self.in_slices(|session| {
            let (table, now) = (&shared.table, shared.clock.now());
            let revoked = table.revoke_some(session, key.as_bytes(), last, SLICE, now)?;
            Ok(revoked.map(|revoked| {
                let revoked = revoked?;
                for grant in &revoked.grants {
                    log_lines::revoked(&shared, session, grant);
                }
                last = Some(revoked.last);
                Ok(revoked.looked_at)
            }))
        })
        .await
    }

    /// Frees a lock that only owners hold by tokens up to `last`, or by any.
    pub(crate) async fn break_lock(self, key: &Key, last: Option<Token>) -> Result<(), NotDone> {
        self.check(key)?;
        let shared = Arc::clone(&self.server.shared);
        let last = last.unwrap_or_else(|| shared.table.last_token());
        self.in_slices(|session| {
            let (table, now) = (&shared.table, shared.clock.now());
            let broken = table.break_some(session, key.as_bytes(), last, SLICE, now)?;
            Ok(broken.map(|broken| {
                let broken = broken?;
                for grant in &broken.grants {
                    log_lines::broken(&shared, session, grant);
                }
                Ok(broken.looked_at)
            }))
        })
        .await
    }

    /// A lock that the user must not see is not there.
    fn check(&self, key: &Key) -> Result<(), NotDone> {
        let is_there = self.user.allows(key.as_bytes());
        is_there.then_some(()).ok_or(NotDone::NotLocked)
    }

    /// Goes on as long as a slice was full, as very many may hold one key, and returns when what was done
    /// is on disk.
    async fn in_slices(
        mut self,
        mut slice: impl FnMut(&mut Session) -> Slice,
    ) -> Result<(), NotDone> {
        let table = &self.server.shared.table;
        let mut has_ended_any = false;
        loop {
            let Outcome { value, basis } = slice(&mut self.session)?;
            let is_last = match value {
                Ok(looked_at) => {
                    // Those that were seen have gone by themselves, and others hold it.
                    if looked_at == 0 && !has_ended_any {
                        return Err(NotDone::NotLocked);
                    }
                    looked_at < SLICE
                }
                Err(_) if has_ended_any => true,
                Err(NotHeld::NotYours) => return Err(NotDone::NotOwners),
                Err(_) => return Err(NotDone::NotLocked),
            };
            has_ended_any = true;
            if is_last {
                return Ok(table.changes().durable(basis.seq()).await?);
            }
            give_way(table, basis.seq()).await;
        }
    }
}
