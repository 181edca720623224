//! `kick` and `force_unlock`: an operator ends a session, or takes a lock from whoever has it.

use std::sync::Arc;

use super::commands::not_held;
use super::{Connection, Gone};
use crate::model::{Key, SessionNumber};
use crate::protocol::{NotKicked, Reply, StateReply};
use crate::server::log_lines;
use crate::server::session_guard::{SLICE, give_way, release_kicked};
use crate::server::transport::Transport;
use crate::table::{Kick, Order, Outcome};

/// How many of the sessions with one name an answer names.
const NAMED: usize = 10;

impl<S: Transport> Connection<S> {
    /// Ends the session with this name, if there is one and no more. That the connection's own session
    /// is called so, too, does not count.
    pub(super) async fn kick_named(&mut self, name: Key) -> Result<(), Gone> {
        let find = move |shared: &crate::server::Shared| {
            // One more, for the connection's own.
            shared.table.sessions_named(name.as_bytes(), NAMED + 1)
        };
        let Some((mut first, mut in_all)) = self.searched(find).await? else {
            return Ok(());
        };
        let own = self.session.number();
        let is_own_alone = first == [own];
        if !is_own_alone && first.contains(&own) {
            first.retain(|number| *number != own);
            in_all -= 1;
        }
        first.truncate(NAMED);
        match first[..] {
            [] => self.reply(&Reply::CannotKick(NotKicked::Unknown)),
            [number] if in_all == 1 => self.kick(number).await?,
            _ => self.reply(&Reply::CannotKick(NotKicked::Several { first, in_all })),
        }
        Ok(())
    }

    /// Ends a session, and answers when all that it held is free. A connection notices that its session
    /// is ended within the time that its task needs for that, so this does not read ahead meanwhile.
    pub(super) async fn kick(&mut self, number: SessionNumber) -> Result<(), Gone> {
        if number == self.session.number() {
            self.reply(&Reply::CannotKick(NotKicked::Own));
            return Ok(());
        }
        // The answers before this one should not wait for it.
        self.flush().await?;
        let shared = Arc::clone(&self.shared);
        let identity = shared.table.identity(number);
        match shared.table.kick(number) {
            Err(why) => {
                self.reply(&Reply::NotStored(why));
                return Ok(());
            }
            Ok(Kick::Unknown) => {
                self.reply(&Reply::CannotKick(NotKicked::Unknown));
                return Ok(());
            }
            Ok(Kick::Ordered) => {}
            // In a task of its own, which goes on if this connection ends.
            Ok(Kick::Over(session)) => {
                let released = release_kicked(Arc::clone(&shared), session);
                drop(shared.tasks.spawn(released));
            }
        }
        shared.table.counters().kicks.add(1);
        log_lines::kicked(&shared, &self.session, number, identity.as_ref());
        let signal = self.session.signal().clone();
        let over = tokio::select! {
            biased;
            over = shared.table.until_over(number) => over,
            order = signal.any() => match order {
                Order::Stop => {
                    self.reply(&Reply::ShuttingDown);
                    return Ok(());
                }
                order => return Err(order.into()),
            },
        };
        self.tell(Ok(over.map(|()| StateReply::Kicked(number))));
        Ok(())
    }

    /// Takes a lock from its holders, in slices, as very many may share it.
    pub(super) async fn force_unlock(&mut self, key: &Key) -> Result<(), Gone> {
        // What was granted before is checked while it is held.
        if self.pending.has_unchecked() {
            self.settle_pending().await?;
        }
        let mut last = None;
        loop {
            let (shared, session) = (&self.shared, &mut *self.session);
            let (table, now) = (&shared.table, shared.clock.now());
            let revoked = table.revoke_some(session, key.as_bytes(), last, SLICE, now);
            let Outcome { value, basis } = match revoked {
                Ok(revoked) => revoked,
                Err(why) => {
                    self.reply(&Reply::NotStored(why));
                    return Ok(());
                }
            };
            let looked_at = match value {
                Ok(revoked) => {
                    for grant in &revoked.grants {
                        log_lines::revoked(shared, session, grant);
                    }
                    last = Some(revoked.last);
                    revoked.looked_at
                }
                Err(why) if last.is_none() => {
                    self.answer(&not_held(why), basis);
                    return Ok(());
                }
                Err(_) => 0,
            };
            if looked_at < SLICE {
                self.answer(&StateReply::Unlocked, basis);
                return Ok(());
            }
            give_way(table, basis.seq()).await;
            if let Some(order) = self.session.signal().is_cut_off() {
                return Err(order.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{SessionNumber, Token};
    use crate::server::harness::{Client, Server};

    impl Client {
        async fn expect_end(&mut self) {
            let line = self.answers.next_line().await;
            assert_eq!(line.expect("an end"), None, "nothing is told behind it");
        }
    }

    async fn until_gone(server: &Server, connections: usize) {
        while server.shared.table.session_counts().1 != connections {
            tokio::task::yield_now().await;
        }
    }

    /// Idle, at work on another lock, waiting, or in its grace period: what it held is free when the
    /// answer is there, and its id is worth nothing.
    #[tokio::test(start_paused = true)]
    async fn a_kicked_session_is_over_wherever_it_is() {
        for state in ["idle", "waits", "in grace"] {
            let server = Server::start();
            let [mut a, mut b, mut c] = [(); 3].map(|()| server.connect());
            a.ask("lock k", "200 Acquired").await;
            let id = a.id().await;
            b.ask("lock other", "200 Acquired").await;
            c.send("lock k 60").await;
            server.until_waiting(1).await;
            match state {
                "waits" => {
                    a.send("lock other 60").await;
                    server.until_waiting(2).await;
                }
                "in grace" => {
                    drop(a);
                    until_gone(&server, 2).await;
                    a = server.connect();
                }
                _ => {}
            }
            b.ask("kick #1", "200 Kicked #1").await;
            c.expect("200 Acquired").await;
            match state {
                "in grace" => a.ask("echo", "200 []").await,
                _ => a.expect_end().await,
            }
            b.ask("kick #1", "403 unknown").await;
            let mut again = server.connect();
            again.ask(&format!("resume {id}"), "403 unknown").await;
            again
                .ask(&format!("conn_id {id}"), "403 cannot set conn id")
                .await;
            let counters = server.shared.table.counters();
            assert_eq!((counters.kicks.get(), counters.grace_ends.get()), (1, 0));
            server.stop().await;
        }
    }

    #[tokio::test]
    async fn a_name_kicks_the_one_that_is_called_so_and_only_that() {
        let server = Server::start();
        let [mut a, mut b, mut c, mut op] = [(); 4].map(|()| server.connect());
        for client in [&mut a, &mut b, &mut op] {
            client.ask("name web", "200 OK").await;
        }
        c.ask("lock k", "200 Acquired").await;
        op.ask("kick web", "403 ambiguous: 2 sessions: #1 #2").await;
        a.ask("name db", "200 OK").await;
        op.ask("kick web", "200 Kicked #2").await;
        op.ask("kick web", "403 own_session").await;
        op.ask("kick #4", "403 own_session").await;
        op.ask("kick w", "403 unknown").await;
        op.ask("kick #99999999999999999999999", "403 unknown").await;
        for name in ["#", "#x", "#1x"] {
            op.ask(&format!("kick {name}"), "403 unknown").await;
        }
        a.ask("echo", "200 []").await;
        b.expect_end().await;
        server.stop().await;
    }

    /// The answers to it were not read, and it sent more.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_kicked_as_any_other() {
        let server = Server::start();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        a.send("help").await;
        a.expect("200 HELP").await;
        b.ask("kick #1", "200 Kicked #1").await;
        b.ask("lock k", "200 Acquired").await;
        server.stop().await;
    }

    #[tokio::test]
    async fn a_session_with_very_many_locks_is_free_of_all_when_it_is_kicked() {
        for in_grace in [false, true] {
            let server = Server::start();
            let (mut a, mut b) = (server.connect_by(1 << 20), server.connect());
            let locks: Vec<String> = (0..3_000).map(|key| format!("lock {key}")).collect();
            a.send(&locks.join("\n")).await;
            for _ in 0..3_000 {
                a.expect("200 Acquired").await;
            }
            let _a = match in_grace {
                true => {
                    drop(a);
                    until_gone(&server, 1).await;
                    None
                }
                false => Some(a),
            };
            assert_eq!(server.shared.table.held(), 3_000);
            b.ask("kick #1", "200 Kicked #1").await;
            assert_eq!(server.shared.table.held(), 0);
            assert_eq!(server.shared.table.session_counts().0, 1);
            server.stop().await;
        }
    }

    /// And so is a lock that is taken.
    #[tokio::test]
    async fn what_an_operator_does_is_answered_when_it_is_on_disk() {
        let (server, fake, writer) = Server::start_stored();
        let [mut a, mut b, mut op] = [(); 3].map(|()| server.connect());
        a.ask("lock k", "200 Acquired").await;
        b.ask("lock l", "200 Acquired").await;
        op.ask("force_unlock k", "200 Unlocked").await;
        assert_eq!(fake.state().stored.grants[&Token(1)], None);
        a.ask("unlock k", "403 revoked").await;
        op.ask("kick #2", "200 Kicked #2").await;
        assert_eq!(fake.state().stored.grants[&Token(2)], None);
        assert_eq!(fake.state().stored.sessions[&SessionNumber(2)], None);
        a.ask("lock k", "200 Acquired").await;
        fake.state().is_broken = true;
        // Now it is known to fail, and nothing is done.
        a.ask("lock x", "500 Not stored: no space").await;
        op.ask("force_unlock k", "500 Not stored: no space").await;
        op.ask("kick #1", "500 Not stored: no space").await;
        a.ask("token k", "200 3").await;
        fake.state().is_broken = false;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    #[tokio::test]
    async fn whoever_has_the_lock_loses_it_and_is_told_so() {
        let server = Server::start();
        let [mut a, mut b, mut op] = [(); 3].map(|()| server.connect());
        a.ask("lock k", "200 Acquired").await;
        b.send("lock k 60").await;
        server.until_waiting(1).await;
        op.ask("force_unlock k", "200 Unlocked").await;
        b.expect("200 Acquired").await;
        for command in [
            "unlock k",
            "token k",
            "expire k 5",
            "promote k",
            "demote k v",
        ] {
            a.ask(command, "403 revoked").await;
        }
        assert_eq!(
            server
                .shared
                .table
                .session_view(SessionNumber(1))
                .expect("there")
                .0
                .held,
            0
        );
        op.ask("force_unlock k", "200 Unlocked").await;
        op.ask("force_unlock k", "403 not_locked").await;
        a.ask("lock k", "200 Acquired").await;
        a.ask("unlock k", "200 Unlocked").await;
        a.ask("unlock k", "403 not_locked").await;
        b.ask("unlock_all", "200 OK").await;
        b.ask("unlock k", "403 revoked").await;
        assert_eq!(server.shared.table.counters().revocations.get(), 2);
        server.stop().await;
    }

    /// Sharers, slots and owners alike; its own, too.
    #[tokio::test]
    async fn all_who_share_a_lock_lose_it() {
        let server = Server::start();
        let [mut a, mut b, mut op] = [(); 3].map(|()| server.connect());
        for lock in ["lock_value k v", "lock_slot k 9"] {
            a.ask(lock, "200 Acquired").await;
            b.ask(lock, "200 Acquired").await;
            op.ask(lock, "200 Acquired").await;
            a.ask(&format!("{lock} 0 one 0"), "200 Acquired").await;
            a.ask(&format!("{lock} 0 two 60000"), "200 Acquired").await;
            op.ask("force_unlock k", "200 Unlocked").await;
            assert_eq!(server.shared.table.held(), 0);
            for client in [&mut a, &mut b, &mut op] {
                client.ask("token k", "403 revoked").await;
            }
            // As by `break`.
            a.ask("token k one", "403 not_locked").await;
            assert_eq!(server.shared.table.next_lease_end(), None);
        }
        server.stop().await;
    }

    /// In its grace period it is told when it is back.
    #[tokio::test]
    async fn a_session_without_a_connection_loses_a_lock() {
        let server = Server::start();
        let (mut a, mut op) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        a.ask("lock l", "200 Acquired").await;
        let id = a.id().await;
        drop(a);
        until_gone(&server, 1).await;
        op.ask("force_unlock k", "200 Unlocked").await;
        let mut a = server.connect();
        a.ask(&format!("conn_id {id}"), "200 conn id set").await;
        a.ask("token k", "403 revoked").await;
        a.ask("unlock l", "200 Unlocked").await;
        // It holds nothing, and may speak for another.
        let mut c = server.connect();
        let id = c.id().await;
        a.ask(&format!("resume {id}"), "200 Resumed").await;
        a.ask("token k", "403 not_locked").await;
        server.stop().await;
    }
}
