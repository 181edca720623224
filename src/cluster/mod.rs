//! Several servers on one etcd: one leads, and the others pass their clients on to it.

mod election;
mod guarded;
mod leadership;
#[cfg(test)]
pub(crate) mod real_etcd;
mod settings;

pub(crate) use guarded::Guarded;
pub(crate) use leadership::{Answering, Leadership, Lost, since_boot};
pub use settings::{BadCompact, ClusterSettings, Compact};
