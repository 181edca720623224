//! Replies that must not be sent before what they say is durable.

use std::ops::Range;

use bytes::BytesMut;

use crate::protocol::Reply;
use crate::store::Seq;
use crate::table::Key;

/// The promises in a connection's output, in the order of their places in it.
#[derive(Debug, Default)]
pub(super) struct Promises(Vec<Promise>);

#[derive(Debug)]
struct Promise {
    /// What must be durable.
    seq: Seq,
    /// Where the reply is.
    reply: Range<usize>,
    about: About<Key>,
}

/// What a promise is about, by which is decided what becomes of it if it cannot be kept.
#[derive(Debug)]
pub(super) enum About<K> {
    /// The session was granted this lock by the very request.
    Grant(K),
    /// It holds this lock.
    Hold(K),
    Change,
}

impl Promises {
    pub(super) fn add(&mut self, seq: Seq, reply: Range<usize>, about: About<&[u8]>) {
        let about = match about {
            About::Grant(key) => About::Grant(Key::new(key)),
            About::Hold(key) => About::Hold(Key::new(key)),
            About::Change => About::Change,
        };
        self.0.push(Promise { seq, reply, about });
    }

    /// What the last of them rests on, and so all.
    pub(super) fn last(&self) -> Option<Seq> {
        self.0.last().map(|promise| promise.seq)
    }

    /// Puts other replies in the places of those for which `instead` has one.
    pub(super) fn replace<'a>(
        self,
        output: &mut BytesMut,
        mut instead: impl FnMut(Seq, &About<Key>) -> Option<Reply<'a>>,
    ) {
        let promised = output.split();
        let mut copied = 0;
        for promise in self.0 {
            if let Some(instead) = instead(promise.seq, &promise.about) {
                output.extend_from_slice(&promised[copied..promise.reply.start]);
                copied = promise.reply.end;
                instead.put(output);
            }
        }
        output.extend_from_slice(&promised[copied..]);
    }
}

/// The store's writer is a thread, so these run on the real clock; what they wait for is answers.
#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use crate::server::harness::Server;
    use crate::table::{Ending, Locked, Mode, Peer, SessionNumber, Token};

    /// Waits until a commit begins, which then waits for the gate.
    async fn begun(has_begun: Receiver<()>) -> Receiver<()> {
        let begun = tokio::task::spawn_blocking(move || has_begun.recv().map(|()| has_begun));
        begun.await.expect("no panic").expect("a commit begins")
    }

    const REFUSED: &str = "500 Not stored: no space";

    #[tokio::test]
    async fn an_answer_comes_when_it_is_stored_and_not_before() {
        let (server, fake, writer) = Server::start_stored();
        let (go, has_begun) = fake.gate();
        let mut a = server.connect();
        a.send("lock k").await;
        let _has_begun = begun(has_begun).await;
        assert_eq!(server.shared.table.held(), 1);
        assert!(fake.state().stored.is_empty());
        let mut byte = [0];
        let unanswered = tokio::io::AsyncReadExt::read(a.answers.get_mut(), &mut byte);
        tokio::select! {
            biased;
            _ = unanswered => panic!("answered too soon"),
            () = tokio::task::yield_now() => {}
        }
        drop(go);
        a.expect("200 Acquired").await;
        assert!(fake.state().stored.holds.contains_key(&Token(1)));
        assert!(fake.state().stored.sessions.contains_key(&SessionNumber(1)));
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    #[tokio::test]
    async fn a_lock_that_cannot_be_stored_is_taken_back_and_the_next_ones_turn_comes() {
        let (server, fake, writer) = Server::start_stored();
        let (mut a, mut b) = (server.connect(), server.connect());
        // So that the store knows of b, and b's grant alone is to be stored.
        b.ask("lock other", "200 Acquired").await;
        b.ask("unlock other", "200 Unlocked").await;
        a.ask("lock k", "200 Acquired").await;
        b.send("lock k 3600").await;
        while server.shared.table.waiters().is_empty() {
            tokio::task::yield_now().await;
        }
        fake.state().is_broken = true;
        // Nobody knows of it yet, so it is tried; and the waiter's grant after it.
        a.ask("unlock k", REFUSED).await;
        b.expect(REFUSED).await;
        assert_eq!(server.shared.table.held(), 0);
        for command in [
            "lock k",
            "lock_value k v 5",
            "unlock k",
            "unlock_all",
            "expire k 5",
            "set_timeout 5",
            "conn_id",
        ] {
            a.ask(command, REFUSED).await;
        }
        a.ask("token k", "403 not_locked").await;
        a.ask("echo", "200 []").await;
        fake.state().is_broken = false;
        while server.shared.table.changes().refusal().is_some() {
            tokio::task::yield_now().await;
        }
        b.ask("lock k", "200 Acquired").await;
        b.ask("token k", "200 4").await;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
        let holds = &fake.state().stored.holds;
        let held = holds.iter().filter(|(_, hold)| hold.is_some());
        assert!(held.map(|(token, _)| token.0).eq([4]));
    }

    /// While the disk took its time the lease ended, and another has the lock.
    #[tokio::test]
    async fn a_lock_that_was_lost_before_it_was_stored_is_not_promised() {
        let (server, fake, writer) = Server::start_stored();
        let (mut a, mut b) = (server.connect_by(1024), server.connect());
        b.ask("lock other", "200 Acquired").await;
        let (go, has_begun) = fake.gate();
        a.send("lock k\nexpire k 1\ntoken k\nlock kept\nlock x\nunlock x")
            .await;
        let _has_begun = begun(has_begun).await;
        while server.shared.table.keys().len() > 2 {
            tokio::task::yield_now().await;
        }
        drop(go);
        for answer in [
            "409 Unavailable",
            "200 OK",
            "403 expired",
            "200 Acquired",
            "200 Acquired",
            "200 Unlocked",
        ] {
            a.expect(answer).await;
        }
        a.ask("token k", "403 expired").await;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// More of them than a session remembers for long.
    #[tokio::test]
    async fn very_many_locks_that_were_lost_before_they_were_stored_are_not_promised() {
        let (server, fake, writer) = Server::start_stored_with(|config| config.max_hold_ms = 1);
        let mut a = server.connect_by(1 << 14);
        let (go, has_begun) = fake.gate();
        // No more than are granted in one turn, so that they are part of one commit.
        let locks: Vec<String> = (0..120).map(|key| format!("lock {key}")).collect();
        a.send(&locks.join("\n")).await;
        let _has_begun = begun(has_begun).await;
        while server.shared.table.held() > 0 {
            tokio::task::yield_now().await;
        }
        drop(go);
        for _ in 0..120 {
            a.expect("409 Unavailable").await;
        }
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// Its disconnect came between the grant and its learning of it. Nobody waits for the release
    /// that this makes, and it is written nevertheless.
    #[tokio::test]
    async fn what_a_waiter_got_when_it_was_gone_is_released_on_disk() {
        let (server, fake, writer) = Server::start_stored();
        let (table, now) = (&server.shared.table, std::time::Instant::now());
        let grace = std::time::Duration::from_secs(3600);
        let (mut a, mut b) = (
            table.open(Peer::Unix(None), grace),
            table.open(Peer::Unix(None), grace),
        );
        let mode = Mode::Exclusive;
        assert_eq!(table.lock(&mut a, b"k", &mode, now), Locked::Acquired);
        assert_eq!(
            table.lock_or_wait(&mut b, b"k", &mode, now),
            Locked::Waiting
        );
        table.unlock(&mut a, b"k", now);
        assert_eq!(table.changes().durable(a.seq()).await, Ok(()));
        assert!(!table.settle(&mut b, Ending::Disconnect, now));
        while fake.state().stored.holds.values().any(Option::is_some) {
            tokio::task::yield_now().await;
        }
        table.end(a, now);
        table.end(b, now);
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// Ends of leases, of grace periods and of sessions that were torn down: nobody waits for these.
    #[tokio::test]
    async fn what_ends_by_itself_is_written_too() {
        let (server, fake, writer) = Server::start_stored();
        let until_released = async |token| {
            while fake.state().stored.holds.get(&Token(token)) != Some(&None) {
                tokio::task::yield_now().await;
            }
        };
        let mut a = server.connect();
        a.ask("lock k", "200 Acquired").await;
        a.ask("expire k 1", "200 OK").await;
        until_released(1).await;
        a.ask("set_timeout 1", "200 timeout set").await;
        a.ask("lock x", "200 Acquired").await;
        drop(a);
        until_released(2).await;
        while fake.state().stored.sessions.get(&SessionNumber(1)) != Some(&None) {
            tokio::task::yield_now().await;
        }
        let (table, now) = (&server.shared.table, std::time::Instant::now());
        let mut b = table.open(Peer::Unix(None), std::time::Duration::ZERO);
        assert_eq!(
            table.lock(&mut b, b"y", &Mode::Exclusive, now),
            Locked::Acquired
        );
        assert_eq!(table.changes().durable(b.seq()).await, Ok(()));
        table.end(b, now);
        until_released(3).await;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    #[tokio::test]
    async fn a_goodbye_that_frees_the_locks_rests_on_the_store() {
        let (server, fake, writer) =
            Server::start_stored_with(|config| config.compat = crate::config::Compat::Nodejs);
        let mut a = server.connect();
        a.ask("lock k", "200 Acquired").await;
        fake.state().is_broken = true;
        a.ask("quit", REFUSED).await;
        fake.state().is_broken = false;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// A failing disk is left alone for a while, however many clients come.
    #[tokio::test]
    async fn who_comes_while_nothing_can_be_stored_does_not_wait_for_the_disk() {
        let (server, fake, writer) = Server::start_stored();
        let mut a = server.connect();
        a.ask("lock k", "200 Acquired").await;
        let id = a.id().await;
        drop(a);
        let mut b = server.connect();
        b.ask("lock x", "200 Acquired").await;
        fake.state().is_broken = true;
        b.ask("unlock x", REFUSED).await;
        let (go, has_begun) = fake.gate();
        // From here on an attempt is under way that does not end.
        let _has_begun = begun(has_begun).await;
        for _ in 0..3 {
            let mut c = server.connect();
            c.ask(&format!("conn_id {id}"), "200 conn id set").await;
        }
        drop(go);
        fake.state().is_broken = false;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    #[tokio::test]
    async fn in_a_batch_only_what_rests_on_the_store_fails() {
        let (server, fake, writer) = Server::start_stored();
        let mut a = server.connect_by(1024);
        a.ask("lock kept", "200 Acquired").await;
        fake.state().is_broken = true;
        a.send("echo\nlock x\ntoken x\nlock kept\nlock x\nunlock y\nbogus\nunlock x\nlock z\nquit")
            .await;
        for answer in [
            "200 []",
            REFUSED,
            REFUSED,
            // It is held; but a promise made behind others waits for them.
            REFUSED,
            REFUSED,
            "403 not_locked",
            "400 Unknown command: \"bogus\"",
            REFUSED,
            REFUSED,
            "200 Hey, it was nice seeing you.",
        ] {
            a.expect(answer).await;
        }
        let held: Vec<_> = server.shared.table.keys();
        assert!(held.iter().map(|key| key.as_bytes()).eq([b"kept"]));
        fake.state().is_broken = false;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    #[tokio::test]
    async fn what_was_refused_may_be_asked_of_the_same_session_again() {
        let (server, fake, writer) = Server::start_stored();
        let (mut a, mut b) = (server.connect(), server.connect());
        fake.state().is_broken = true;
        a.ask("lock k", REFUSED).await;
        b.ask("lock k", REFUSED).await;
        fake.state().is_broken = false;
        while server.shared.table.changes().refusal().is_some() {
            tokio::task::yield_now().await;
        }
        a.ask("lock k", "200 Acquired").await;
        b.ask("lock k", "409 Unavailable").await;
        a.ask("lock k", "200 Acquired").await;
        a.ask("unlock k", "200 Unlocked").await;
        b.ask("lock k", "200 Acquired").await;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// A refused lock, and what only looks, touches no disk.
    #[tokio::test]
    async fn what_changes_nothing_is_not_stored() {
        let (server, fake, writer) = Server::start_stored();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        let commits = fake.state().commits;
        b.ask("lock k", "409 Unavailable").await;
        b.ask("unlock k", "403 not_yours").await;
        b.ask("unlock free", "403 not_locked").await;
        b.ask("set_timeout 5", "200 timeout set").await;
        b.send("stats").await;
        for line in [
            "200 STATS",
            "STAT clients 2",
            "STAT locks 1",
            "STAT monitoring 2",
            "END",
        ] {
            b.expect(line).await;
        }
        a.ask("lock k", "200 Acquired").await;
        a.ask("token k", "200 1").await;
        assert_eq!(fake.state().commits, commits);
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }
}
