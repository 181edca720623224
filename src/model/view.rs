//! Sessions and locks as `debug` shows them.

use std::time::{Duration, Instant};

use super::mode::Mode;
use super::session_id::{Peer, SessionNumber};
use super::token::Token;

/// What `debug` shows of a session.
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
}

/// What `debug` shows of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockView {
    /// The holders, in the order of their numbers, each with its fencing token; perhaps not all.
    pub holders: Vec<(SessionNumber, Token)>,
    /// How many holders there are.
    pub holders_in_all: usize,
    /// The mode in which they hold it.
    pub mode: Mode,
    /// How many requests wait for it.
    pub waiters: usize,
}
