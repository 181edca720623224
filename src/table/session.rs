//! The running half of a session.
//!
//! The state that changes with every command (the keys held, the request that waits) is owned by
//! the one connection that runs the session's commands, as a [`Session`]. So `&mut Session` is the
//! proof that a session runs one request at a time, and no lock is needed for it. The state that
//! other tasks must see is in the [`Registry`](super::registry::Registry).

use std::sync::Arc;

use super::held_keys::HeldKeys;
use super::holders::HolderRef;
use super::signal::SharedSignal;
use super::tally::Accounts;
use super::trail::Why;
use super::waiters::Waiter;
use crate::count::Batch;
use crate::model::{Owner, Seq, SessionNumber};

/// The running half of a session. Must end in [`LockTable::detach`](super::LockTable::detach) or
/// [`LockTable::end`](super::LockTable::end); dropped otherwise, its locks stay held.
#[derive(Debug)]
pub struct Session {
    pub(super) number: SessionNumber,
    pub(super) held: HeldKeys,
    /// The request that waits.
    pub(super) waiting: Option<Arc<Waiter>>,
    /// The last change that the session made, or was granted a lock by, since [`Session::settled`]
    /// was last called.
    pub(super) seq: Seq,
    /// How the session's connection is reached.
    pub(super) signal: SharedSignal,
    /// Why the session is over, if it is, and what it holds is to be released.
    pub(super) over: Option<Why>,
    /// How long grants lasted that it released in this turn.
    pub(super) holds: Batch,
}

impl Session {
    pub(super) fn new(number: SessionNumber, held: HeldKeys, signal: SharedSignal) -> Self {
        Self {
            number,
            held,
            waiting: None,
            seq: Seq::default(),
            signal,
            over: None,
            holds: Batch::default(),
        }
    }

    /// The session's public number. Another one after a resume.
    pub fn number(&self) -> SessionNumber {
        self.number
    }

    /// How many locks the session holds, with the lost ones until it notices their loss.
    pub fn held(&self) -> usize {
        self.held.count()
    }

    /// The owner, if one is named, or else the session.
    pub(super) fn or_owner<'a>(&self, owner: Option<&'a Owner>) -> HolderRef<'a> {
        match owner {
            Some(owner) => HolderRef::Owner(owner),
            None => HolderRef::Session(self.number),
        }
    }

    /// Whether others may wait for this session, because it holds a lock or stands for an owner that
    /// may hold one: only then can its own wait close a circle.
    pub fn may_close_circles(&self) -> bool {
        self.held() > 0 || self.held.has_taken_for_owners
    }

    /// How the session's connection is reached. The signal stays with the connection when it
    /// resumes another session.
    pub fn signal(&self) -> &SharedSignal {
        &self.signal
    }

    /// Says that the session's grants so far need not be waited for any more: each is durable or
    /// was given back. Its other changes are durable, or the store fails and refuses all changes
    /// until they are.
    pub fn settled(&mut self) {
        let seq = std::mem::take(&mut self.seq);
        self.held.settled = self.held.settled.max(seq);
    }

    /// The last change that the session ever made. An answer that the session does not hold a lock
    /// rests on it: the session may have released the lock, and the release may not be stored yet.
    pub(super) fn last_change(&self) -> Seq {
        self.seq.max(self.held.settled)
    }

    /// On whose accounts what it takes for owners is; `None`: on nobody's.
    pub(super) fn accounts(&self) -> Option<&Accounts> {
        self.held.tally.as_ref().map(|tally| tally.accounts())
    }

    /// The session's request waits no more.
    pub(super) fn end_wait(&mut self) -> Option<Arc<Waiter>> {
        if let Some(tally) = &mut self.held.tally {
            tally.end_wait();
        }
        self.waiting.take()
    }

    /// Whether the session may lose, or have lost, a lock without its doing: it has held a lock with a
    /// lease, or all its locks have one, or an operator has taken one.
    pub fn may_lose(&self) -> bool {
        self.held.lost.is_some() || self.signal.has_revocations()
    }

    /// A request that waits is the session's only one. Asserted, since a session that takes or
    /// releases locks while it waits would make the wait-for graph wrong; nothing has changed when
    /// this is hit.
    pub(super) fn assert_idle(&self) {
        assert!(
            self.waiting.is_none(),
            "a session that waits does nothing else"
        );
    }
}
