//! Replies that are written but not sent, each with its basis. Everything that may forbid a reply
//! is checked here, just before it is sent:
//!
//! - Is every change that it rests on durable? If the store fails, the reply becomes a `500`, and a
//!   new grant is given back.
//! - Does the holder still have the grant that the reply speaks of? Its lease may have ended
//!   meanwhile, an operator may have taken it, or another connection may have ended an owner's, and
//!   somebody else may have been told that the lock is theirs.
//!
//! And if the connection breaks before the reply is sent, a new grant is given back as well, as its
//! client was not told of it.
//!
//! A grant is named by its holder and its token, never by "the session's lock of that key": later
//! requests in the same packet may have released the key, taken it again, or resumed another
//! session.

use std::collections::HashSet;
use std::ops::Range;

use bytes::BytesMut;

use super::commands::not_held;
use super::{Connection, Gone};
use crate::model::{Holder, Key, NotStored, Seq, Token};
use crate::protocol::{Refusal, Reply, StateReply};
use crate::server::transport::Transport;
use crate::table::{Basis, Claim, Grant, LockTable, Session};

/// How many unsent grants are given back before others get their turn.
const UNSENT_A_TURN: usize = 16;

/// The replies in a connection's output that must be checked before they are sent, in the order of
/// their places in the output.
#[derive(Debug, Default)]
pub(super) struct PendingReplies {
    replies: Vec<PendingReply>,
    /// How many of the replies were checked.
    settled: usize,
    /// Whether a change that they rest on may not be durable yet.
    are_undurable: bool,
    /// Whether the session could lose locks without its doing when any of the replies was added. It
    /// may be another session by now.
    may_lose: bool,
    /// How many bytes of the output have been sent since it was last empty.
    sent: u32,
}

#[derive(Debug)]
struct PendingReply {
    basis: Basis,
    /// Where the reply begins and ends in the output, counted from where the output was last empty.
    /// It has less than 4 GiB, by the limit of unsent answers.
    start: u32,
    end: u32,
}

/// The grants that a session released itself. One of its own that it lost before it released all was
/// replaced when the replies were checked, before that.
#[derive(Debug, Default)]
struct Released {
    single: HashSet<Token>,
    /// The session's own, up to this token.
    all_up_to: Token,
}

impl Released {
    fn has(&self, grant: &Grant) -> bool {
        match grant.holder().is_session() {
            true => self.has_own(grant.token()),
            false => self.single.contains(&grant.token()),
        }
    }

    fn has_own(&self, token: Token) -> bool {
        token <= self.all_up_to || self.single.contains(&token)
    }
}

impl PendingReplies {
    /// Adds the reply at `place` of the unsent output, unless nothing can make it untrue.
    #[inline]
    pub(super) fn add(
        &mut self,
        place: Range<usize>,
        basis: Basis,
        session: &Session,
        durable: Seq,
    ) {
        let is_durable = basis.seq() <= durable;
        // Also from a reply that is not kept: a lease makes what was said before it uncertain.
        self.may_lose |= session.may_lose();
        match basis.claim() {
            // A new grant may have to be given back until its reply is sent.
            Some(Claim::Listed(_) | Claim::Several(_)) => {}
            // A later request of the batch may give the lock a lease, and then it may get lost; and any
            // connection may end the lock of an owner.
            Some(Claim::New(grant) | Claim::Again(grant) | Claim::Held(grant)) => {
                self.may_lose |= matches!(grant.holder(), Holder::Owner(_));
            }
            // Most often the released lock was granted just before. Nothing can make the two replies
            // untrue, or be given back.
            Some(Claim::Released(token)) if is_durable && self.is_last_new(*token, durable) => {
                self.replies.pop();
                return;
            }
            // Else it explains why the session no longer has a grant that an earlier reply speaks of.
            Some(Claim::Released(_) | Claim::ReleasedAll(_)) if !self.replies.is_empty() => {}
            _ if !is_durable => {}
            _ => return,
        }
        self.are_undurable |= !is_durable;
        let at = |offset: usize| self.sent + offset as u32;
        let (start, end) = (at(place.start), at(place.end));
        if self.replies.capacity() == 0 {
            // Most often there is only one, and its room is kept with the connection.
            self.replies.reserve_exact(1);
        }
        self.replies.push(PendingReply { basis, start, end });
    }

    /// Whether the last reply tells of this new grant, was not checked, and is durable.
    fn is_last_new(&self, token: Token, durable: Seq) -> bool {
        let unchecked = &self.replies[self.settled..];
        unchecked.last().is_some_and(|last| {
            let new = last.basis.claim().and_then(Claim::new_token);
            new == Some(token) && last.basis.seq() <= durable
        })
    }

    /// Whether any reply has to be checked before it is sent. `session` is the one for which the
    /// connection speaks: a lock may have been taken from it since a reply was added.
    pub(super) fn are_unsettled(&self, session: &Session) -> bool {
        (self.are_undurable || self.may_lose || session.may_lose()) && self.has_unchecked()
    }

    /// Whether any reply was not checked, though it may need no check so far.
    pub(super) fn has_unchecked(&self) -> bool {
        self.settled < self.replies.len()
    }

    /// Notes that so many more bytes were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u32;
    }

    /// Has the replies checked once more of which nothing was sent, because that took time.
    pub(super) fn look_again(&mut self) {
        let sent = self.sent;
        self.settled = self.replies.partition_point(|reply| reply.start < sent);
    }

    /// Notes that all of the output was sent.
    pub(super) fn all_sent(&mut self) {
        let replies = match self.replies.capacity() {
            0..=1 => {
                self.replies.clear();
                std::mem::take(&mut self.replies)
            }
            _ => Vec::new(),
        };
        *self = Self {
            replies,
            ..Self::default()
        };
    }

    /// What the replies rest on.
    pub(super) fn bases(&mut self) -> impl Iterator<Item = &mut Basis> {
        self.replies.iter_mut().map(|reply| &mut reply.basis)
    }

    /// What the replies rest on that were not sent whole.
    fn take_unsent(&mut self) -> Vec<Basis> {
        let sent = self.sent;
        let unsent = self.replies.drain(..).filter(|reply| reply.end > sent);
        unsent.map(|reply| reply.basis).collect()
    }

    /// The last change that any of the unchecked replies rests on.
    fn last_seq(&self) -> Seq {
        let unchecked = self.replies[self.settled..].iter();
        let seqs = unchecked.map(|reply| reply.basis.seq());
        seqs.max().unwrap_or_default()
    }

    /// The grants that the session itself released by later requests of this batch.
    fn released(&self) -> Released {
        let mut released = Released::default();
        for reply in &self.replies {
            match reply.basis.claim() {
                Some(Claim::Released(token)) => drop(released.single.insert(*token)),
                Some(Claim::ReleasedAll(last)) => released.all_up_to = *last,
                _ => {}
            }
        }
        released
    }

    /// Whether an unchecked reply speaks of an owner's grant that another connection has ended.
    fn has_lost_owner(&self, table: &LockTable, released: &Released) -> bool {
        let unchecked = self.replies[self.settled..].iter();
        let mut grants = unchecked.filter_map(|reply| match reply.basis.claim() {
            Some(Claim::New(grant) | Claim::Again(grant) | Claim::Held(grant)) => Some(grant),
            _ => None,
        });
        grants.any(|grant| {
            let is_owned = !grant.holder().is_session();
            is_owned && !released.has(grant) && !table.is_granted(grant)
        })
    }

    /// Replaces each unchecked reply for which `instead` puts another one. All replies are checked
    /// then.
    fn settle(
        &mut self,
        output: &mut BytesMut,
        mut instead: impl FnMut(&mut Basis, &mut BytesMut) -> bool,
    ) {
        let (sent, written) = (self.sent, output.split());
        let mut copied = 0;
        for reply in &mut self.replies[self.settled..] {
            let place = (reply.start - sent) as usize..(reply.end - sent) as usize;
            output.extend_from_slice(&written[copied..place.start]);
            reply.start = sent + output.len() as u32;
            if !instead(&mut reply.basis, output) {
                output.extend_from_slice(&written[place.clone()]);
            }
            reply.end = sent + output.len() as u32;
            copied = place.end;
        }
        output.extend_from_slice(&written[copied..]);
        (self.settled, self.are_undurable) = (self.replies.len(), false);
    }
}

impl<S: Transport> Connection<S> {
    /// Waits until the pending replies are durable, and replaces the ones that are not, or that are
    /// no longer true, by errors.
    ///
    /// # Errors
    ///
    /// When nothing more may be written.
    pub(super) async fn settle_pending(&mut self) -> Result<(), Gone> {
        let shared = &self.shared;
        let (table, last) = (&shared.table, self.pending.last_seq());
        let stored = tokio::select! {
            biased;
            stored = table.changes().durable(last) => stored,
            order = self.session.signal().cut_off() => return Err(order.into()),
        };
        let released = self.pending.released();
        if self.pending.has_lost_owner(table, &released) {
            // That an owner has lost the lock is told when it is on disk. If it cannot be stored, the
            // grant was there up to now all the same, and so was what the reply rests on.
            tokio::select! {
                biased;
                _ = table.changes().durable(table.last_owner_change()) => {}
                order = self.session.signal().cut_off() => return Err(order.into()),
            }
        }
        let (session, now) = (&mut *self.session, shared.clock.now());
        let may_lose = session.may_lose();
        let durable = table.changes().durable_up_to();
        self.pending.settle(&mut self.output, |basis, output| {
            let instead = match &stored {
                Err(why) if basis.seq() > durable => Some(undo(table, session, basis, why, now)),
                _ => lost(table, session, basis, &released, may_lose, now),
            };
            if let Some(instead) = &instead {
                shared.refusals.count(instead.refusal());
                instead.put(output);
            }
            instead.is_some()
        });
        session.settled();
        Ok(())
    }

    /// Gives back the grants that the client was not told of.
    pub(super) async fn give_back_unsent(&mut self) {
        let Self {
            shared,
            session,
            pending,
            ..
        } = self;
        let (table, session) = (&shared.table, &mut **session);
        for (index, mut basis) in pending.take_unsent().into_iter().enumerate() {
            if let Some(claim) = basis.take_claim() {
                give_back(table, session, claim, shared.clock.now());
            }
            // The list may be long.
            if index % UNSENT_A_TURN == UNSENT_A_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// What is sent instead of a reply.
enum Instead {
    Free(Reply<'static>),
    State(StateReply),
}

impl Instead {
    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Free(reply) => reply.refusal(),
            Self::State(reply) => reply.refusal(),
        }
    }

    fn put(&self, output: &mut BytesMut) {
        match self {
            Self::Free(reply) => reply.put(output),
            Self::State(reply) => reply.put(output),
        }
    }
}

/// The reply instead of one that could not be stored. A new grant is given back, before a client is
/// told of it.
fn undo(
    table: &LockTable,
    session: &mut Session,
    basis: &mut Basis,
    why: &NotStored,
    now: std::time::Instant,
) -> Instead {
    match basis.take_claim() {
        Some(Claim::New(grant)) => table.take_back(session, &grant, now),
        Some(claim) => give_back(table, session, claim, now),
        None => {}
    }
    Instead::Free(Reply::NotStored(why.clone()))
}

/// Gives back what is new of a claim that the client is not told of.
pub(super) fn give_back(
    table: &LockTable,
    session: &mut Session,
    claim: Claim,
    now: std::time::Instant,
) {
    match claim {
        Claim::New(grant) => table.give_back(session, &grant, now),
        Claim::Listed(token) => {
            if let Some(grant) = table.listed_grant(session, token) {
                table.give_back(session, &grant, now);
            }
        }
        Claim::Several(all) => {
            let new = all.iter().filter(|one| one.is_new);
            table.take_back_all(session, new.map(|one| &one.grant), now);
        }
        Claim::Again(_) | Claim::Held(_) | Claim::Released(_) | Claim::ReleasedAll(_) => {}
    }
}

/// The reply instead of one that speaks of a grant which its holder has lost. A grant that the session
/// released itself was its own until then.
fn lost(
    table: &LockTable,
    session: &mut Session,
    basis: &mut Basis,
    released: &Released,
    may_lose: bool,
    now: std::time::Instant,
) -> Option<Instead> {
    let is_lost = |grant: &Grant| !table.is_granted(grant) && !released.has(grant);
    let instead = match basis.claim() {
        Some(Claim::New(grant) | Claim::Again(grant)) if is_lost(grant) => {
            Instead::Free(Reply::Unavailable)
        }
        Some(Claim::Held(grant)) if is_lost(grant) => {
            Instead::State(not_held(table.why_lost(grant)))
        }
        Some(Claim::Listed(token)) if may_lose => {
            let is_there =
                released.has_own(*token) || table.listed_grant(session, *token).is_some();
            return (!is_there).then_some(Instead::Free(Reply::Unavailable));
        }
        Some(Claim::Several(all)) => {
            let lost = all.iter().find(|one| is_lost(&one.grant))?;
            let key = Key::new(lost.grant.key().as_bytes());
            Instead::Free(Reply::NotAll { key, waited: false })
        }
        _ => return None,
    };
    if let Some(claim @ Claim::Several(_)) = basis.take_claim() {
        give_back(table, session, claim, now);
    }
    Some(instead)
}

/// The store's writer is a thread, so these tests run on the real clock; they wait for answers
/// alone.
#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use crate::model::{Mode, Peer, SessionNumber, Token};
    use crate::server::harness::Server;
    use crate::table::Locked;

    /// Waits until a commit begins; the commit then waits for the gate.
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
        assert!(fake.state().stored.grants.contains_key(&Token(1)));
        assert!(fake.state().stored.sessions.contains_key(&SessionNumber(1)));
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    #[tokio::test]
    async fn a_lock_that_cannot_be_stored_is_taken_back_and_the_next_ones_turn_comes() {
        let (server, fake, writer) = Server::start_stored();
        let (mut a, mut b) = (server.connect(), server.connect());
        // The store knows of b from here on, so that later b's grant alone is to be stored.
        b.ask("lock other", "200 Acquired").await;
        b.ask("unlock other", "200 Unlocked").await;
        a.ask("lock k", "200 Acquired").await;
        b.send("lock k 3600").await;
        server.until_waiting(1).await;
        fake.state().is_broken = true;
        // The server does not know yet that the store is broken, so it tries the release; and then
        // the waiter's grant.
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
        // The release is not stored, so it may not be true after a restart.
        a.ask("token k", REFUSED).await;
        a.ask("echo", "200 []").await;
        fake.state().is_broken = false;
        while server.shared.table.changes().refusal().is_some() {
            tokio::task::yield_now().await;
        }
        a.ask("token k", "403 not_locked").await;
        b.ask("lock k", "200 Acquired").await;
        b.ask("token k", "200 4").await;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
        let grants = &fake.state().stored.grants;
        let held = grants.iter().filter(|(_, grant)| grant.is_some());
        assert!(held.map(|(token, _)| token.0).eq([4]));
    }

    /// Where others may come to store in its place, a server says that a client has a lock only when that
    /// was confirmed after the client has asked. What refuses may be old.
    #[tokio::test]
    async fn that_a_lock_is_still_held_is_told_when_it_is_confirmed() {
        let (server, fake, writer) = Server::start_confirmed();
        let (mut a, mut b) = (server.connect(), server.connect());
        a.ask("lock k", "200 Acquired").await;
        let before = fake.state().confirmations;
        for (asked, answer) in [("token k", "200 1"), ("lock k", "200 Acquired")] {
            let (go, has_begun) = fake.gate();
            a.send(asked).await;
            let has_begun = begun(has_begun).await;
            b.ask("lock k", "409 Unavailable").await;
            drop((go, has_begun));
            a.expect(answer).await;
        }
        assert_eq!(fake.state().confirmations, before + 2);
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// The lease ended while the disk was slow, and another session may have the lock.
    #[tokio::test]
    async fn a_lock_that_was_lost_before_it_was_stored_is_not_acquired() {
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

    /// More locks than a session remembers losses.
    #[tokio::test]
    async fn very_many_locks_that_were_lost_before_they_were_stored_are_not_acquired() {
        let (server, fake, writer) = Server::start_stored_with(|config| config.max_hold_ms = 1);
        let mut a = server.connect_by(1 << 14);
        let (go, has_begun) = fake.gate();
        // No more locks than are granted in one turn, so that they are part of one commit.
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

    /// The waiter's disconnect came between the grant and the waiter's notice of it. No answer
    /// waits for the release that this makes; it is written nevertheless.
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
        let taken = table.try_acquire(&mut a, b"k", &mode.clone().into(), now);
        assert_eq!(taken.expect("it works").value, Locked::Acquired);
        let queued = table.acquire(
            &mut b,
            b"k",
            &mode.clone().into(),
            std::time::Duration::from_secs(3600),
            now,
        );
        assert_eq!(queued.expect("it works").value, Locked::Waiting);
        let unlocked = table.unlock(&mut a, b"k", None, now).expect("it works");
        assert_eq!(table.changes().durable(unlocked.basis.seq()).await, Ok(()));
        drop(table.wait(&mut b));
        while fake.state().stored.grants.values().any(Option::is_some) {
            tokio::task::yield_now().await;
        }
        table.end(a, now);
        table.end(b, now);
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// Ends of leases, of grace periods and of sessions that were torn down: no answer waits for
    /// these.
    #[tokio::test]
    async fn what_ends_by_itself_is_written_too() {
        let (server, fake, writer) = Server::start_stored();
        let until_released = async |token| {
            while fake.state().stored.grants.get(&Token(token)) != Some(&None) {
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
        let taken = table.try_acquire(&mut b, b"y", &Mode::Exclusive.into(), now);
        let basis = taken.expect("it works").basis;
        assert_eq!(table.changes().durable(basis.seq()).await, Ok(()));
        table.end(b, now);
        until_released(3).await;
        assert_eq!(fake.state().stored.sessions[&SessionNumber(2)], None);
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

    /// A failing disk is not tried for each client, however many come.
    #[tokio::test]
    async fn a_client_that_comes_while_nothing_can_be_stored_does_not_wait_for_the_disk() {
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
        // From here on the store is in the middle of a commit that does not end.
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
            // The lock is held and stored; but the reply waits for the session's changes before it.
            REFUSED,
            REFUSED,
            // The session may have released the lock just now.
            REFUSED,
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

    /// A refused lock, and requests that only look, touch no disk.
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

    /// The session of the grant is not the connection's any more, and holds nothing; the one that
    /// the connection speaks for now has held the same key for long.
    #[tokio::test]
    async fn what_is_undone_is_the_grant_and_not_the_key() {
        let (server, fake, writer) = Server::start_stored();
        let mut a = server.connect();
        a.ask("lock_value k v", "200 Acquired").await;
        let id = a.id().await;
        drop(a);
        let mut b = server.connect_by(1024);
        b.ask("lock_value k v", "200 Acquired").await;
        b.ask("unlock k", "200 Unlocked").await;
        fake.state().is_broken = true;
        b.send(&format!("lock_value k v\nunlock k\nconn_id {id}\ntoken k"))
            .await;
        for _ in 0..3 {
            b.expect(REFUSED).await;
        }
        b.expect(REFUSED).await;
        b.ask("token k", "200 1").await;
        fake.state().is_broken = false;
        while server.shared.table.changes().refusal().is_some() {
            tokio::task::yield_now().await;
        }
        b.ask("unlock k", "200 Unlocked").await;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// The grant was stored long ago, and nothing changes it.
    #[tokio::test]
    async fn a_stored_token_is_told_while_nothing_can_be_stored() {
        let (server, fake, writer) = Server::start_stored();
        let mut a = server.connect();
        a.ask("lock k", "200 Acquired").await;
        fake.state().is_broken = true;
        a.ask("lock x", REFUSED).await;
        a.ask("token k", "200 1").await;
        a.ask("token x", REFUSED).await;
        // It is known to fail, so nothing is done in memory either.
        for command in ["unlock k", "unlock_all", "expire k 1", "set_timeout 5"] {
            a.ask(command, REFUSED).await;
        }
        a.ask("token k", "200 1").await;
        assert_eq!(server.shared.table.next_lease_end(), None);
        fake.state().is_broken = false;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    #[tokio::test]
    async fn the_end_of_a_session_is_one_commit() {
        let (server, fake, writer) = Server::start_stored();
        let mut a = server.connect();
        a.ask("set_timeout 0", "200 timeout set").await;
        a.ask("lock k", "200 Acquired").await;
        let commits = fake.state().commits;
        let (go, has_begun) = fake.gate();
        drop(a);
        // Whatever came behind the first commit would be another.
        let has_begun = begun(has_begun).await;
        while server.shared.table.session_counts().0 > 0 || server.shared.table.held() > 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        drop((go, has_begun));
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
        assert_eq!(fake.state().commits, commits + 1);
        assert_eq!(fake.state().stored.sessions[&SessionNumber(1)], None);
        assert_eq!(fake.state().stored.grants[&Token(1)], None);
    }

    /// Whatever was written when the server ended: either the session is there with all its locks,
    /// or it is over and all are released.
    #[cfg(feature = "store")]
    #[tokio::test]
    async fn a_restart_within_the_end_of_a_session_brings_nothing_back() {
        let (server, fake, writer) = Server::start_stored();
        let mut a = server.connect_by(1 << 16);
        a.ask("set_timeout 0", "200 timeout set").await;
        let locks: Vec<String> = (0..600).map(|key| format!("lock {key}")).collect();
        a.send(&locks.join("\n")).await;
        for _ in 0..600 {
            a.expect("200 Acquired").await;
        }
        let (go, has_begun) = fake.gate();
        drop(a);
        let mut cuts = 0;
        let mut has_begun = begun(has_begun).await;
        loop {
            let restored = fake.restored();
            let held = restored.grants.len();
            let now = std::time::Instant::now();
            let limits = server.shared.config.limits();
            let changes = crate::store::Changes::default();
            let restarted = crate::table::LockTable::restore(
                limits,
                crate::table::TokenClock::default(),
                changes,
                restored,
                (now, std::time::Duration::ZERO),
            );
            let (table, graces) = restarted.expect("no contradiction");
            assert!(
                [0, 600].contains(&table.held()),
                "{} of {held}",
                table.held()
            );
            assert!(graces.iter().all(|grace| grace.ends == now));
            if held == 0 {
                break;
            }
            cuts += 1;
            go.send(()).expect("the writer waits");
            if table.held() == 0 && server.shared.table.held() == 0 {
                break;
            }
            has_begun = begun(has_begun).await;
        }
        assert!(cuts > 1, "{cuts} cuts");
        drop((go, has_begun));
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// A change that the client was told is not stored is not forgotten with the connection.
    #[tokio::test]
    async fn that_a_resumed_session_does_not_hold_a_lock_is_told_when_it_is_stored() {
        let (server, fake, writer) = Server::start_stored();
        let mut a = server.connect();
        a.ask("lock k", "200 Acquired").await;
        let id = a.id().await;
        fake.state().is_broken = true;
        a.ask("unlock k", REFUSED).await;
        drop(a);
        while server.shared.table.session_counts() != (1, 0) {
            tokio::task::yield_now().await;
        }
        let mut b = server.connect();
        b.ask(&format!("conn_id {id}"), "200 conn id set").await;
        b.ask("token k", REFUSED).await;
        fake.state().is_broken = false;
        while server.shared.table.changes().refusal().is_some() {
            tokio::task::yield_now().await;
        }
        b.ask("token k", "403 not_locked").await;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// Who waits gets a lock that is released: no more is stored than before.
    #[tokio::test]
    async fn on_a_full_disk_locks_are_renewed_and_released_and_no_more_are_taken() {
        const FULL: &str =
            "500 Not stored: the disk is full: releases are stored, and nothing new is";
        let (server, fake, writer) = Server::start_stored();
        let (mut a, mut b) = (server.connect(), server.connect());
        for key in ["k", "l", "m", "n"] {
            a.ask(&format!("lock {key}"), "200 Acquired").await;
        }
        b.send("lock k 3600").await;
        server.until_waiting(1).await;
        fake.state().is_full = true;
        a.ask("expire l 3600000", "200 OK").await;
        for request in [
            "lock o",
            "lock l",
            "lock_value o v 5",
            "lock_all 0 o p",
            "promote l",
            "conn_id",
        ] {
            a.ask(request, FULL).await;
        }
        a.ask("set_timeout 5", "200 timeout set").await;
        a.ask("unlock k", "200 Unlocked").await;
        b.expect("200 Acquired").await;
        b.ask("force_unlock m", "200 Unlocked").await;
        a.ask("unlock_all", "200 OK").await;
        b.ask("unlock k", "200 Unlocked").await;
        assert_eq!(server.shared.table.held(), 0);
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
        assert!(fake.state().stored.grants.values().all(Option::is_none));
    }

    /// The id is drawn in memory, and its commit fails; then the store works again, but what was
    /// answered so is part of a later commit.
    #[tokio::test]
    async fn an_id_is_told_when_it_is_stored() {
        let (server, fake, writer) = Server::start_stored();
        let mut a = server.connect();
        a.ask("lock k", "200 Acquired").await;
        fake.state().is_broken = true;
        a.ask("conn_id", REFUSED).await;
        assert!(server.shared.table.changes().refusal().is_some());
        let number = fake.state().stored.sessions[&SessionNumber(1)].clone();
        assert_eq!(number.expect("it lives").secret, None);
        fake.state().is_broken = false;
        while server.shared.table.changes().refusal().is_some() {
            tokio::task::yield_now().await;
        }
        let id = a.id().await;
        let stored = fake.state().stored.sessions[&SessionNumber(1)].clone();
        assert!(stored.expect("it lives").secret.is_some());
        a.ask(&format!("conn_id {id}"), "200 conn id set").await;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// Its own release is behind it in the packet, and not on disk either.
    #[tokio::test]
    async fn a_lock_that_is_released_in_the_same_packet_was_held() {
        let (server, _fake, writer) = Server::start_stored();
        let mut a = server.connect_by(1024);
        a.ask("lock kept", "200 Acquired").await;
        for (lines, answers) in [
            ("lock k\nunlock k", &["200 Acquired", "200 Unlocked"][..]),
            (
                "lock k\nlock k\nunlock k\nlock k\nunlock_all",
                &[
                    "200 Acquired",
                    "200 Acquired",
                    "200 Unlocked",
                    "200 Acquired",
                    "200 OK",
                ],
            ),
            (
                "lock_value k v\nset_timeout 5000\nlock_value k v\nunlock k",
                &[
                    "200 Acquired",
                    "200 timeout set",
                    "200 Acquired",
                    "200 Unlocked",
                ],
            ),
        ] {
            a.send(lines).await;
            for answer in answers {
                a.expect(answer).await;
            }
        }
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// The answers leave in pieces, so they are looked at again and again, also after the release of all.
    #[tokio::test]
    async fn what_a_session_releases_with_all_else_was_its_own_until_then() {
        let server = Server::start();
        let mut a = server.connect_by(64);
        a.send("help\nlock k\nexpire k 100000\nunlock_all").await;
        loop {
            let line = a.answers.next_line().await.expect("an answer");
            match line.expect("an answer").as_str() {
                "200 Acquired" => break,
                other => assert_ne!(other, "409 Unavailable"),
            }
        }
        a.expect("200 OK").await;
        a.expect("200 OK").await;
        server.stop().await;
    }

    /// Its connection broke before it was told of the lock, and the next one resumes the session.
    #[cfg(feature = "store")]
    #[tokio::test]
    async fn that_a_grant_was_given_back_is_told_when_it_is_stored() {
        let (server, fake, writer) = Server::start_stored();
        let mut a = server.connect();
        let id = a.id().await;
        let changes = server.shared.table.changes();
        let before = changes.durable_up_to();
        // The answer is longer than the pipe, and the client does not read it.
        a.send("lock k").await;
        while changes.durable_up_to() == before {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let (go, has_begun) = fake.gate();
        drop(a);
        let has_begun = begun(has_begun).await;
        let mut b = server.connect();
        b.ask(&format!("conn_id {id}"), "200 conn id set").await;
        b.send("token k").await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fake.restored().grants.len(), 1);
        let mut byte = [0];
        tokio::select! {
            biased;
            _ = tokio::io::AsyncReadExt::read(b.answers.get_mut(), &mut byte) => panic!("too soon"),
            () = tokio::task::yield_now() => {}
        }
        drop((go, has_begun));
        b.expect("403 not_locked").await;
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// The store works again, by a commit that the last release is no part of.
    #[tokio::test]
    async fn what_was_released_is_told_when_it_is_stored_also_when_it_is_asked_again() {
        let (server, fake, writer) = Server::start_stored();
        let (table, now) = (&server.shared.table, std::time::Instant::now());
        let mut a = table.open(Peer::Unix(None), std::time::Duration::from_secs(3600));
        for key in [b"x", b"y"] {
            let taken = table.try_acquire(&mut a, key, &Mode::Exclusive.into(), now);
            let basis = taken.expect("it works").basis;
            assert_eq!(table.changes().durable(basis.seq()).await, Ok(()));
        }
        a.settled();
        fake.state()
            .failures
            .push(crate::model::NotStored::new("once"));
        let (go, has_begun) = fake.gate();
        let first = table.unlock_some(&mut a, 1, now);
        table.changes().write(first.basis.seq());
        let has_begun = begun(has_begun).await;
        go.send(()).expect("the writer waits");
        // The retry is under way, and the release that comes now is answered as not stored.
        let has_begun = begun(has_begun).await;
        let last = table.unlock_some(&mut a, 1, now);
        assert!(table.changes().durable(last.basis.seq()).await.is_err());
        a.settled();
        go.send(()).expect("the writer waits");
        let has_begun = begun(has_begun).await;
        assert_eq!(table.accepts_releases(), Ok(()));
        let again = table.unlock_some(&mut a, usize::MAX, now);
        assert!(again.basis.seq() > table.changes().durable_up_to());
        drop((go, has_begun));
        table.end(a, now);
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }
}
