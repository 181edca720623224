//! A server's place among others on one etcd.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::Families;
use super::{program, ready};
use crate::cluster::{NodeHandle, Standing};

/// A server that passes its clients on, to be read now: it knows of no lock.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) node: Arc<NodeHandle>,
    /// Since the beginning of 1970.
    pub(super) started: Duration,
}

impl Collector for Follower {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        ready(&mut families, self.node.not_ready().is_none())?;
        standing(&mut families, &self.node.following())?;
        program(&mut families, self.started)
    }
}

/// What each of the servers tells.
pub(super) fn standing(families: &mut Families<'_>, standing: &Standing) -> fmt::Result {
    let Standing {
        leads,
        term,
        lag,
        passed_on,
        passed_on_in_all,
        elections_won,
    } = standing;
    families.gauges(
        "elock_cluster_role",
        "What this server does among others on etcd: lead them, or pass its clients on.",
        "role",
        [("leader", *leads), ("follower", !leads)].map(|(role, is)| (role, u32::from(is))),
    )?;
    families.gauge(
        "elock_cluster_term",
        "A number that rises with each leader; 0 while nobody leads, or etcd does not tell who does.",
        *term,
    )?;
    families.gauge(
        "elock_cluster_lag_seconds",
        "How long ago etcd has renewed this leader's lease, or told this follower who leads.",
        lag.as_secs_f64(),
    )?;
    families.gauge(
        "elock_cluster_forwarded_connections",
        "Connections that this server passes on to the leader, or that wait for one.",
        *passed_on as u64,
    )?;
    families.counter(
        "elock_cluster_forwards",
        "Connections that this server has passed on to a leader.",
        *passed_on_in_all,
    )?;
    families.counter(
        "elock_cluster_elections_won",
        "Elections by which this server has become the leader.",
        *elections_won,
    )
}

/// What the leader tells of what it keeps.
pub(super) fn log_entries(families: &mut Families<'_>, entries: u64) -> fmt::Result {
    families.gauge(
        "elock_cluster_log_entries",
        "Entries of the log in etcd, of which elock_store_bytes is the size.",
        entries,
    )
}
