//! Several servers on one etcd: one leads, and the others pass their clients on to it.

mod guarded;
mod leadership;

pub(crate) use leadership::{Answering, Leadership, Lost, since_boot};
