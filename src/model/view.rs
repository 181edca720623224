//! Sessions and locks as they are shown.

use std::time::{Duration, Instant};

use super::holder::{Ask, Holder};
use super::key::Key;
use super::mode::Mode;
use super::session_id::{Peer, SessionNumber};
use super::token::Token;

/// What is shown of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its public number.
    pub number: SessionNumber,
    /// Its grace period.
    pub grace: Duration,
    /// Where it is, or was last, connected from.
    pub peer: Peer,
    /// When its grace period ends; `None` while it is connected.
    pub grace_ends: Option<Instant>,
    /// What its client calls it.
    pub name: Option<Key>,
    /// The user whom it belongs to.
    pub user: Option<Key>,
    /// How many locks it holds, as of its connection's last turn.
    pub held: usize,
    /// When its connection last had a turn, as a stamp of the server's clock; `None` if it has no
    /// connection.
    pub active: Option<u32>,
}

/// What is shown of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockView {
    /// The holders, sessions in the order of their numbers and then owners, each with its fencing
    /// token; perhaps not all.
    pub holders: Vec<(Holder, Token)>,
    /// How many holders there are.
    pub holders_in_all: usize,
    /// The mode in which they hold it.
    pub mode: Mode,
    /// How many requests wait for it.
    pub waiters: usize,
}

/// What `locks` shows of a lock.
#[derive(Debug, Clone)]
pub struct LockEntry {
    /// The key.
    pub key: Key,
    /// The mode in which it is held.
    pub mode: Mode,
    /// The holders, sessions in the order of their numbers and then owners; perhaps not all.
    pub holders: Vec<HolderEntry>,
    /// How many holders there are.
    pub holders_in_all: usize,
    /// The requests that came first of those that wait.
    pub first_waiters: Vec<WaiterEntry>,
    /// How many requests wait.
    pub waiters: usize,
}

/// What `locks` shows of a holder.
#[derive(Debug, Clone)]
pub struct HolderEntry {
    /// Who holds the lock.
    pub holder: Holder,
    /// What the session is called.
    pub name: Option<Key>,
    /// The fencing token.
    pub token: Token,
    /// Since when it holds the lock, as the time since the beginning of 1970, if that is known.
    pub since: Option<Duration>,
    /// For how long it has held the lock, if that is known.
    pub held: Option<Duration>,
    /// What is left of its lease, if it has one.
    pub lease_left: Option<Duration>,
}

/// What `locks` shows of a request that waits.
#[derive(Debug, Clone)]
pub struct WaiterEntry {
    /// The session that waits.
    pub session: SessionNumber,
    /// What the session is called.
    pub name: Option<Key>,
    /// What it asks for.
    pub ask: Ask,
    /// For how long it has waited.
    pub waited: Duration,
    /// For how long it still will.
    pub left: Duration,
}

/// What `sessions` shows of a session.
#[derive(Debug, Clone)]
pub struct SessionEntry {
    /// The session.
    pub view: SessionView,
    /// How long ago its connection had its last turn.
    pub idle: Option<Duration>,
    /// The request that it waits with.
    pub waits_for: Option<WaitsFor>,
}

/// What `sessions` shows of the request that a session waits with.
#[derive(Debug, Clone)]
pub struct WaitsFor {
    /// The key.
    pub key: Key,
    /// For how long it has waited.
    pub waited: Duration,
    /// For how long it still will.
    pub left: Duration,
}
