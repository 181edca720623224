//! A server of a test among others, told in place of etcd who leads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::election::{Heard, Leader, Seen};
use super::leadership::{Clock, Leadership, since_boot};
use super::passing::Passing;
use super::{Leading, NodeHandle};
use crate::config::Config;
use crate::server::Lobby;

/// Tells the handle of a test, in place of etcd, who leads.
pub(crate) struct Herald {
    clock: Clock,
    seen: watch::Sender<Seen>,
    heard: Arc<Heard>,
    pub(super) stop: CancellationToken,
}

impl Herald {
    /// A handle, and who tells it.
    pub(crate) fn start(clock: Clock, ttl: Duration) -> (Arc<NodeHandle>, Self) {
        let (seen, sees) = watch::channel(Seen::default());
        let (heard, stop) = (Arc::new(Heard::new(clock)), CancellationToken::new());
        let config = Config::default();
        let passing = Passing::new(
            sees,
            Arc::clone(&heard),
            &config,
            Duration::ZERO,
            stop.clone(),
        );
        let lobby = Lobby::open(&config).expect("no files");
        let handle = NodeHandle::new(passing, ttl, lobby);
        let herald = Self {
            clock,
            seen,
            heard,
            stop,
        };
        (Arc::new(handle), herald)
    }

    /// Somebody leads from here on, by a key with this revision.
    pub(crate) fn leads(&self, address: &str, revision: i64) {
        let leader = Leader {
            id: "a".to_owned(),
            address: address.to_owned(),
            secret: "secret".to_owned(),
            version: "0".to_owned(),
            lead_ttl_ms: 2000,
        };
        let leader = Some(leader);
        self.heard.note((self.clock)());
        self.seen.send_replace(Seen {
            leader,
            revision,
            ..Seen::default()
        });
    }

    /// Nobody leads from here on.
    pub(crate) fn nobody_leads(&self) {
        self.heard.note((self.clock)());
        self.seen.send_replace(Seen::default());
    }
}

impl Leading {
    /// By this leadership, with this address and term.
    pub(crate) fn of_test(leadership: Arc<Leadership>, address: &str, term: i64) -> Self {
        let (node, _) = Herald::start(since_boot, Duration::from_secs(2));
        Self {
            leadership,
            term,
            address: address.to_owned(),
            since: Instant::now(),
            hand_over: CancellationToken::new(),
            node,
        }
    }
}
