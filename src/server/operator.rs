//! Operators who ask by HTTP.

use std::sync::Arc;

use super::Shared;
use super::acts::{self, NotDone};
use super::arrival::{AccountPlaces, Arrival};
use super::handle::ServerHandle;
use super::log_lines;
use super::session_guard::SessionGuard;
use crate::access::User;
use crate::model::{Key, Peer, SessionNumber, Token, Visible};
use crate::table::{NotHeld, Outcome};

/// What the session of an operator is called.
const NAME: &[u8] = b"http";

/// Somebody who asks for one thing by HTTP, with a session for as long as that takes.
pub(crate) struct Operator {
    shared: Arc<Shared>,
    session: SessionGuard,
    user: Arc<User>,
}

impl ServerHandle {
    /// An operator who is this user and asks from there.
    pub(crate) fn operator(&self, peer: Peer, user: Arc<User>) -> Operator {
        let arrival = Arrival {
            user: Some(Arc::clone(&user)),
            ..Arrival::stranger(peer, AccountPlaces::default())
        };
        let shared = Arc::clone(&self.shared);
        let session = SessionGuard::open(&shared, &arrival);
        shared.table.set_name(&session, Key::new(NAME));
        Operator {
            shared,
            session,
            user,
        }
    }
}

impl Operator {
    /// Ends a session, and returns when all that it held is free.
    pub(crate) async fn kick(self, number: SessionNumber) -> Result<(), NotDone> {
        let seen = |user: Option<&Key>| self.user.sees_sessions_of(user);
        let kicked = acts::kick(&self.shared, &self.session, number, seen).await;
        self.durable(kicked).await
    }

    /// Takes a lock from all who hold it by tokens up to `last`, or by any.
    pub(crate) async fn force_unlock(
        mut self,
        key: &Key,
        last: Option<Token>,
    ) -> Result<(), NotDone> {
        self.check("force_unlock", key)?;
        let taken = acts::force_unlock(&self.shared, &mut self.session, key, last).await;
        self.durable(taken).await
    }

    /// Frees a lock that only owners hold by tokens up to `last`, or by any.
    pub(crate) async fn break_lock(
        mut self,
        key: &Key,
        last: Option<Token>,
    ) -> Result<(), NotDone> {
        self.check("break", key)?;
        let broken = acts::break_lock(&self.shared, &mut self.session, key, last).await;
        self.durable(broken).await
    }

    /// A lock that the user must not see is not there; the audit tells who asked for it.
    fn check(&self, act: &str, key: &Key) -> Result<(), NotDone> {
        if self.user.allows(key.as_bytes()) {
            return Ok(());
        }
        let peer = self.shared.table.peer(self.session.number());
        let request = format!("{act} {}", Visible(key.as_bytes()));
        let peer = peer.unwrap_or(Peer::BeforeRestart);
        log_lines::operator_not_allowed(&self.shared, peer, &self.user, request);
        Err(NotDone::NotHeld(Outcome::free(NotHeld::NotLocked)))
    }

    /// Waits until what was done is on disk.
    async fn durable(&self, done: Result<Outcome<()>, NotDone>) -> Result<(), NotDone> {
        let seq = done?.basis.seq();
        Ok(self.shared.table.changes().durable(seq).await?)
    }
}

impl Drop for Operator {
    /// Also where the one who asks has hung up.
    fn drop(&mut self) {
        self.session.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::config::Config;
    use crate::server::harness::Server;
    use crate::server::porter::Porter;
    use crate::store::Changes;
    use crate::table::{Event, LockTable, Order, TokenClock, Trail, Why};

    fn operator(server: &ServerHandle) -> Operator {
        let peer = Peer::Unix(None);
        let user = server.operator_at_the_door(peer).expect("anybody");
        server.operator(peer, user)
    }

    /// Nobody waits for ever for somebody who waits for him.
    #[tokio::test(start_paused = true)]
    async fn operators_who_end_each_other_and_themselves_come_to_an_end() {
        let server = Server::start();
        let handle = ServerHandle::new(&server.shared);
        let own = operator(&handle);
        let number = own.session.number();
        assert!(matches!(own.kick(number).await, Err(NotDone::OwnSession)));
        let (one, other) = (operator(&handle), operator(&handle));
        let (first, second) = (one.session.number(), other.session.number());
        let kicked = async { tokio::join!(one.kick(second), other.kick(first)) };
        let kicked = timeout(Duration::from_secs(60), kicked)
            .await
            .expect("an end");
        assert!(
            matches!(kicked, (Ok(()), Err(NotDone::MustEnd(Order::Kill)))),
            "{kicked:?}"
        );
        assert_eq!(server.shared.table.session_counts(), (0, 0));
        server.stop().await;
    }

    /// It has ended by its own will, and nothing has failed.
    #[tokio::test]
    async fn the_audit_is_told_nothing_of_an_operator_who_has_gone() {
        let (config, tokens) = (Config::default(), TokenClock::default());
        let table = LockTable::new(config.limits(), tokens, Changes::default());
        let trail = Trail::followed();
        let server = Server::start_on(config, table.followed_by(trail.clone()));
        let handle = ServerHandle::new(&server.shared);
        let nobody = operator(&handle).kick(SessionNumber(99)).await;
        assert!(matches!(nobody, Err(NotDone::NoSession)));
        drop(operator(&handle));
        let (events, _) = trail.follow().expect("they came and went");
        let over = events.iter().filter_map(|event| match event {
            Event::SessionOver(_, why) => Some(*why),
            _ => None,
        });
        assert_eq!(over.collect::<Vec<_>>(), [Why::Disconnected; 2]);
        server.stop().await;
    }
}
