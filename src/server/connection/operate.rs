//! `kick`, `force_unlock` and `break`: what an [operator does](crate::server::acts) by a connection.

use std::sync::Arc;

use super::auth::sees_sessions_of;
use super::commands::not_held;
use super::{Connection, Gone};
use crate::model::{Key, SessionNumber};
use crate::protocol::{NotKicked, Reply, StateReply};
use crate::server::Shared;
use crate::server::acts::{self, NotDone};
use crate::server::transport::Transport;
use crate::table::{Order, Outcome};

/// How many of the sessions with one name an answer names.
const NAMED: usize = 10;

impl<S: Transport> Connection<S> {
    /// Ends the session with this name, if there is one and no more. That the connection's own session
    /// is called so, too, does not count.
    pub(super) async fn kick_named(&mut self, name: Key) -> Result<(), Gone> {
        let user = self.user.clone();
        let find = move |shared: &Shared| {
            let is_seen = |other: Option<&Key>| sees_sessions_of(user.as_deref(), other);
            // One more, for the connection's own.
            let table = &shared.table;
            table.sessions_named(name.as_bytes(), is_seen, NAMED + 1)
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
        // The answers before this one should not wait for it.
        self.flush().await?;
        let (shared, user) = (Arc::clone(&self.shared), self.user.clone());
        let seen = |other: Option<&Key>| sees_sessions_of(user.as_deref(), other);
        let kicked = acts::kick(&shared, &self.session, number, seen).await;
        self.tell_of(kicked, StateReply::Kicked(number))
    }

    /// Takes a lock from its holders.
    pub(super) async fn force_unlock(&mut self, key: &Key) -> Result<(), Gone> {
        self.settle_earlier().await?;
        let taken = acts::force_unlock(&self.shared, &mut self.session, key, None).await;
        self.tell_of(taken, StateReply::Unlocked)
    }

    /// Frees an owner's lock.
    pub(super) async fn break_lock(&mut self, key: &Key) -> Result<(), Gone> {
        self.settle_earlier().await?;
        let broken = acts::break_lock(&self.shared, &mut self.session, key, None).await;
        self.tell_of(broken, StateReply::Unlocked)
    }

    /// Answers with `done`, or why it is not.
    fn tell_of(&mut self, act: Result<Outcome<()>, NotDone>, done: StateReply) -> Result<(), Gone> {
        match act {
            Ok(outcome) => self.tell(Ok(outcome.map(|()| done))),
            Err(NotDone::NotHeld(why)) => self.tell(Ok(why.map(not_held))),
            Err(NotDone::NoSession) => self.reply(&Reply::CannotKick(NotKicked::Unknown)),
            Err(NotDone::OwnSession) => self.reply(&Reply::CannotKick(NotKicked::Own)),
            Err(NotDone::NotStored(why)) => self.reply(&Reply::NotStored(why)),
            Err(NotDone::MustEnd(Order::Stop)) => self.reply(&Reply::ShuttingDown),
            Err(NotDone::MustEnd(order)) => return Err(order.into()),
        }
        Ok(())
    }

    /// Checks what was granted before while it is held: the request that comes now may end it.
    pub(super) async fn settle_earlier(&mut self) -> Result<(), Gone> {
        match self.pending.has_unchecked() {
            true => self.settle_pending().await,
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Peer, SessionNumber, Token};
    use crate::server::connection::LINES_A_TURN;
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

    /// As `force_unlock` does, while no other task has its turn.
    fn revoke(server: &Server, key: &[u8]) {
        let (table, now) = (&server.shared.table, server.shared.clock.now());
        let mut session = table.open(Peer::Unix(None), std::time::Duration::ZERO);
        let taken = table.revoke_some(&mut session, key, None, 9, now);
        assert!(taken.expect("no store").value.is_ok(), "it is held");
        table.end(session, now);
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

    /// It was granted, and the answer has not left: nobody is told of a lock that another has by then. The
    /// connection may speak for another session when the answer leaves.
    #[tokio::test]
    async fn a_lock_that_is_taken_before_its_answer_leaves_is_not_told_of() {
        let turn = "\necho".repeat(LINES_A_TURN as usize);
        for (lines, answer) in [
            (format!("lock k{turn}"), "409 Unavailable"),
            (format!("lock k 0 o 0{turn}"), "409 Unavailable"),
            (format!("lock other\nlock k{turn}"), "200 Acquired"),
            (format!("lock k{turn}\nconn_id ID"), "409 Unavailable"),
        ] {
            let server = Server::start();
            let table = &server.shared.table;
            let mut left = server.connect();
            let id = left.id().await;
            drop(left);
            let (mut a, mut op) = (server.connect_by(1 << 16), server.connect());
            a.send(&lines.replace("ID", &id)).await;
            while !table.keys().iter().any(|key| key.as_bytes() == b"k") {
                tokio::task::yield_now().await;
            }
            revoke(&server, b"k");
            op.ask("lock k", "200 Acquired").await;
            a.expect(answer).await;
            if lines.contains("other") {
                a.expect("409 Unavailable").await;
            }
            server.stop().await;
        }
    }

    /// `token` had been answered, but for its leaving; and the session holds several keys but for one.
    #[tokio::test]
    async fn what_is_told_of_a_lock_that_is_taken_meanwhile_is_so_when_it_leaves() {
        let turn = "\necho".repeat(LINES_A_TURN as usize);
        let server = Server::start();
        let table = &server.shared.table;
        let [mut a, mut b] = [(); 2].map(|()| server.connect_by(1 << 16));
        let mut op = server.connect();
        a.ask("lock k", "200 Acquired").await;
        a.send(&format!("name told\ntoken k{turn}")).await;
        while table.name(SessionNumber(1)).is_none() {
            tokio::task::yield_now().await;
        }
        revoke(&server, b"k");
        a.expect("200 OK").await;
        a.expect("403 revoked").await;
        op.ask("lock z", "200 Acquired").await;
        b.send("lock_all 60 y z").await;
        server.until_waiting(1).await;
        op.ask("force_unlock y", "200 Unlocked").await;
        op.ask("unlock z", "200 Unlocked").await;
        b.expect("409 Unavailable: y").await;
        assert_eq!(table.held(), 0);
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
