//! A store that several servers share: a log of changes in etcd, which the one that leads appends to.

mod api;
mod endpoints;
mod entry;
mod index;
mod log;
mod names;
#[cfg(test)]
mod unreliable;
