//! What operators may ask of a server among others, whether it leads or not.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Leading;
use super::leadership::Leadership;
use super::passing::Passing;
use crate::server::{Lobby, NotReady};

/// A server of a cluster, as it can be asked at any time.
pub(crate) struct NodeHandle {
    passing: Passing,
    ttl: Duration,
    elections_won: AtomicU64,
    /// Who lets operators in while another leads.
    pub(crate) lobby: Arc<Lobby>,
}

/// A server's place in its cluster, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) leads: bool,
    /// Rises with each leader; 0 while nobody leads.
    pub(crate) term: u64,
    /// How long ago etcd has last told this server who leads, or renewed its lease.
    pub(crate) lag: Duration,
    /// Connections that are passed on, or wait for that.
    pub(crate) passed_on: usize,
    /// Connections that were passed on since the start.
    pub(crate) passed_on_in_all: u64,
    /// How often this server has become the leader.
    pub(crate) elections_won: u64,
}

impl NodeHandle {
    pub(super) fn new(passing: Passing, ttl: Duration, lobby: Lobby) -> Self {
        Self {
            passing,
            ttl,
            elections_won: AtomicU64::new(0),
            lobby: Arc::new(lobby),
        }
    }

    /// Notes that this server is the leader.
    pub(super) fn note_election(&self) {
        self.elections_won.fetch_add(1, Ordering::Relaxed);
    }

    /// For how long etcd has not told who leads, if that is so long that nobody can be believed to.
    fn silent_for(&self) -> Option<Duration> {
        let age = self.passing.heard.age();
        (age > Leadership::longest_hope(self.ttl)).then_some(age)
    }

    /// Where the other servers reach the one that leads; `None` if nobody does, or etcd does not tell.
    pub(crate) fn leader(&self) -> Option<String> {
        if self.silent_for().is_some() {
            return None;
        }
        let seen = self.passing.seen.borrow();
        seen.leader.as_ref().map(|leader| leader.address.clone())
    }

    /// Why clients should not be sent to this server while it follows; `None` if they should.
    pub(crate) fn not_ready(&self) -> Option<NotReady> {
        if self.passing.stop.is_cancelled() {
            Some(NotReady::Stopping)
        } else if self.passing.seen.borrow().leader.is_none() {
            Some(NotReady::NoLeader)
        } else {
            self.silent_for().map(NotReady::EtcdSilent)
        }
    }

    /// The numbers of a follower.
    pub(crate) fn following(&self) -> Standing {
        let (passed_on, passed_on_in_all) = self.passing.counts();
        Standing {
            leads: false,
            term: match self.silent_for() {
                Some(_) => 0,
                None => self.passing.seen.borrow().revision.unsigned_abs(),
            },
            lag: self.passing.heard.age(),
            passed_on,
            passed_on_in_all,
            elections_won: self.elections_won.load(Ordering::Relaxed),
        }
    }
}

impl Leading {
    /// The numbers of the leader.
    pub(crate) fn standing(&self) -> Standing {
        Standing {
            leads: true,
            term: self.term.unsigned_abs(),
            lag: self.leadership.lag(),
            ..self.node.following()
        }
    }
}

/// Without what it knows of the leader, whose secret nobody needs to read.
impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::herald::Herald;
    use super::super::leadership::test_clock::{go_on, now};
    use super::*;

    const TTL: Duration = Duration::from_secs(2);

    #[test]
    fn a_follower_is_ready_while_it_surely_knows_who_leads() {
        let (node, herald) = Herald::start(now, TTL);
        assert_eq!(node.not_ready(), Some(NotReady::NoLeader));
        herald.leads("10.0.0.7:11401", 7);
        assert_eq!(node.not_ready(), None);
        assert_eq!(node.leader().as_deref(), Some("10.0.0.7:11401"));
        go_on(Leadership::longest_hope(TTL));
        assert_eq!(node.not_ready(), None);
        let more = Duration::from_millis(1);
        go_on(more);
        let silent = NotReady::EtcdSilent(Leadership::longest_hope(TTL) + more);
        assert_eq!(node.not_ready(), Some(silent));
        assert_eq!((node.leader(), node.following().term), (None, 0));
        herald.leads("10.0.0.8:11401", 8);
        assert_eq!(node.not_ready(), None);
        herald.nobody_leads();
        assert_eq!(node.not_ready(), Some(NotReady::NoLeader));
        herald.stop.cancel();
        assert_eq!(node.not_ready(), Some(NotReady::Stopping));
    }

    #[test]
    fn the_numbers_of_a_follower_are_those_of_what_it_heard_last() {
        let (node, herald) = Herald::start(now, TTL);
        herald.leads("10.0.0.7:11401", 7);
        node.note_election();
        go_on(Duration::from_millis(250));
        let expected = Standing {
            leads: false,
            term: 7,
            lag: Duration::from_millis(250),
            passed_on: 0,
            passed_on_in_all: 0,
            elections_won: 1,
        };
        assert_eq!(node.following(), expected);
        assert!(!format!("{node:?}").contains("secret"));
    }
}
