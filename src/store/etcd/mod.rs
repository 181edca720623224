//! A store that several servers share: a log of changes in etcd, which the one that leads appends to.

mod ahead;
mod api;
mod blocking;
mod compaction;
mod copy;
mod endpoints;
mod entry;
mod index;
mod log;
mod longest_ttl;
mod names;
mod reading;
mod status;
#[cfg(feature = "tls")]
mod tls;
mod txn;
#[cfg(test)]
mod unreliable;
mod user;

pub(crate) use ahead::ReadAhead;
#[cfg(test)]
pub(crate) use api::RangeResponse;
pub(crate) use api::{
    KeyValue, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    RangeRequest, TxnResponse, WatchCreateRequest, WatchRequest,
};
pub(crate) use blocking::Blocking;
pub(crate) use copy::CopyError;
pub(crate) use copy::{fill, is_import, read_state};
pub(crate) use endpoints::{Access, BadAccess, Endpoints};
pub(crate) use log::Log;
pub(crate) use names::Names;
pub(crate) use reading::LoadError;
pub(crate) use status::look_at_etcd;
#[cfg(feature = "tls")]
pub(crate) use tls::TlsFiles;
pub(crate) use txn::{Failure, Term, create_if_absent};
pub(crate) use user::User;
