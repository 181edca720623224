//! Whether the server can do its work for whoever comes next. Every state in which it cannot is named here
//! and nowhere else.

use std::time::Duration;

use super::Shared;
#[cfg(feature = "cluster")]
use crate::cluster::Answering;
use crate::model::NotStored;

/// Why a client that comes now would not be served as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReady {
    /// There is no table yet.
    #[error("loading: locks and sessions are being read from the store")]
    Loading,
    /// Nothing is granted to newcomers.
    #[error("draining: no new locks are given, and the server stops when none is held")]
    Draining,
    /// Nothing is granted any more.
    #[error("stopping: nothing is granted any more")]
    Stopping,
    /// Nobody would answer.
    #[cfg(feature = "cluster")]
    #[error("no leader: none of the servers on etcd leads")]
    NoLeader,
    /// Perhaps nobody would answer.
    #[cfg(feature = "cluster")]
    #[error("no leader: etcd has not told for {} s who leads", .0.as_secs())]
    EtcdSilent(Duration),
    /// Answers wait.
    #[cfg(feature = "cluster")]
    #[error("suspended: etcd was last heard of {} ms ago, and nothing is answered until it renews the lease", .0.as_millis())]
    Suspended(Duration),
    /// Changes are refused.
    #[error("changes are refused: {0}")]
    NotStored(NotStored),
    /// Changes wait.
    #[error("nothing is stored: a commit has been under way for {} s", .0.as_secs())]
    CommitOverdue(Duration),
}

/// All reasons why a server that has loaded is not ready; none if it is.
pub(super) fn reasons(shared: &Shared) -> Vec<NotReady> {
    let changes = shared.table.changes();
    let is_stopping = shared.stop.is_cancelled();
    let is_draining = shared.is_draining() && !is_stopping;
    let reasons = [
        not_current(shared),
        is_draining.then_some(NotReady::Draining),
        is_stopping.then_some(NotReady::Stopping),
        changes.refusal().map(NotReady::NotStored),
        changes.overdue().map(NotReady::CommitOverdue),
    ];
    reasons.into_iter().flatten().collect()
}

/// Why others may have locks by now that are not in this server's table; `None` if surely none do.
#[cfg_attr(not(feature = "cluster"), expect(unused_variables))]
pub(super) fn not_current(shared: &Shared) -> Option<NotReady> {
    #[cfg(feature = "cluster")]
    if let Some(leadership) = shared.leadership() {
        return match leadership.answering() {
            Answering::Yes => None,
            Answering::Suspended => Some(NotReady::Suspended(leadership.lag())),
            Answering::Over => Some(NotReady::Stopping),
        };
    }
    None
}
