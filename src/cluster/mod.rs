//! Several servers on one etcd: one leads, and the others pass their clients on to it.
//!
//! `docs/cluster.md` says step by step why no two clients are told of the same lock.

mod candidacy;
mod election;
mod guarded;
#[cfg(feature = "admin")]
mod handle;
#[cfg(all(test, feature = "admin"))]
mod herald;
mod introduction;
mod leadership;
mod node;
#[cfg(test)]
#[path = "../../tests/common/one_etcd.rs"]
mod one_etcd;
mod passing;
pub(crate) mod plant;
#[cfg(test)]
pub(crate) mod real_etcd;
mod settings;

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use election::Seen;
pub(crate) use guarded::Guarded;
#[cfg(feature = "admin")]
pub(crate) use handle::{NodeHandle, Standing};
#[cfg(all(test, feature = "admin"))]
pub(crate) use herald::Herald;
pub(crate) use introduction::Introduction;
#[cfg(feature = "admin")]
pub(crate) use leadership::Answering;
#[cfg(all(test, feature = "admin"))]
pub(crate) use leadership::since_boot;
pub(crate) use leadership::{LONGEST_TTL, Leadership, Lost};
pub(crate) use node::run;
pub use settings::{BadCompact, ClusterSettings, Compact};

use crate::store::etcd::BadAccess;
use candidacy::ElectionEnded;

/// A leader's turn, as its tasks know it.
#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) leadership: Arc<Leadership>,
    /// Rises with each leader.
    pub(crate) term: i64,
    /// Where the other servers reach it.
    pub(crate) address: String,
    pub(crate) since: Instant,
    /// Has it end by the leader's own will.
    pub(crate) hand_over: CancellationToken,
    #[cfg(feature = "admin")]
    node: Arc<NodeHandle>,
}

/// Why a server cannot be one of several on etcd.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// etcd cannot be asked with these settings.
    #[error(transparent)]
    Access(BadAccess),
    /// It cannot lead nor follow any more.
    #[error(transparent)]
    Election(ElectionEnded),
    /// What is in etcd was written by a newer server, to which this one can pass clients on.
    #[error("{0}")]
    TooOld(String),
    /// It would be dangerous to go on from what is in etcd.
    #[error("what is in etcd cannot be gone on from: {0}")]
    Broken(String),
}
