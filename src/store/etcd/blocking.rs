//! The store's thread asks etcd, and waits for the answers by a runtime of its own: so a commit never waits
//! for the workers, nor they for it.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::api::{Call, CompactionRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use super::endpoints::{Access, BadAccess, Endpoints};
use super::txn::{Calls, Failure};

/// How long a range may take, which may be of some megabytes.
const READ: Duration = Duration::from_secs(3);

/// The nodes of etcd, for a thread that waits for them.
#[derive(Debug)]
pub(crate) struct Blocking {
    runtime: Runtime,
    nodes: Endpoints,
}

impl Blocking {
    /// Asks the node first that is at this place of the list.
    pub(crate) fn new(access: &Access, begin_at: usize) -> Result<Self, BadAccess> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let within = runtime.enter();
        let nodes = Endpoints::new(access, begin_at)?;
        drop(within);
        Ok(Self { runtime, nodes })
    }

    /// Makes a call of one request and one answer.
    pub(super) fn unary<Q: Call>(&mut self, request: Q) -> Result<Q::Answer, Failure> {
        self.runtime.block_on(self.nodes.unary(request))
    }
}

impl Calls for Blocking {
    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Failure> {
        self.unary(request.clone())
    }

    fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse, Failure> {
        let call = self.nodes.unary_within(READ, request.clone());
        self.runtime.block_on(call)
    }

    fn compact(&mut self, revision: i64) -> Result<(), Failure> {
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        self.unary(request).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::cluster::Leadership;
    use crate::cluster::real_etcd::RealEtcd;
    use crate::model::{Holder, Key, Mode, Restored, SessionNumber, StoredGrant, Token};
    use crate::store::etcd::log::Log;
    use crate::store::etcd::names::Names;
    use crate::store::etcd::txn::{Term, create_if_absent};
    use crate::store::{Batch, Storage};

    /// A leader whose lease is of no matter, and what it has found.
    fn lead(etcd: &RealEtcd, id: &'static str) -> (Log<Blocking>, Restored) {
        let mut calls = Blocking::new(&etcd.access, 0).expect("a runtime");
        let (names, value) = (Names::below("/elock"), Bytes::from_static(id.as_bytes()));
        let created = calls
            .txn(&create_if_absent(names.leader(), value.clone(), 0))
            .expect("it answers");
        assert!(created.succeeded, "nobody else leads");
        let revision = created.header.expect("a header").revision;
        let leadership = Leadership::new(|| Duration::ZERO, Duration::from_secs(2), Duration::ZERO);
        let term = Term { revision, value };
        Log::load(calls, names, term, Arc::new(leadership), None, None).expect("a sound log")
    }

    fn grant(number: u64) -> (Token, Option<StoredGrant>) {
        let grant = StoredGrant {
            holder: Holder::Session(SessionNumber(1)),
            key: Key::new(format!("key-{number}").as_bytes()),
            mode: Mode::Exclusive,
            lease: None,
        };
        (Token(number), Some(grant))
    }

    /// By etcd itself, as the one for tests may be wrong about it in the same way.
    #[test]
    fn a_new_leader_finds_what_the_last_one_has_written_who_writes_no_more() {
        let Some(etcd) = RealEtcd::start() else {
            return;
        };
        let (mut first, found) = lead(&etcd, "first");
        assert_eq!(found, Restored::default());
        for commit in 0..100 {
            let grants = (0..10).map(|number| grant(10 * commit + number));
            let over = (0..5).map(|number| (Token(10 * commit + number), None));
            let batch = Batch {
                grants: grants.chain(over).collect(),
                ..Batch::default()
            };
            assert_eq!(first.commit(&batch), Ok(()));
            assert_eq!(first.confirm(), Ok(()));
        }
        let mut calls = Blocking::new(&etcd.access, 0).expect("a runtime");
        let gone = create_if_absent(Names::below("/elock").leader(), Bytes::new(), 0);
        // As an operator might: the key is put aside.
        let mut replace = gone.success.clone();
        replace[0].request = Some(crate::store::etcd::api::Operation::DeleteRange(
            crate::store::etcd::api::DeleteRangeRequest {
                key: Names::below("/elock").leader(),
                range_end: Vec::new(),
            },
        ));
        let delete = TxnRequest {
            compare: Vec::new(),
            success: replace,
            failure: Vec::new(),
        };
        assert!(calls.txn(&delete).expect("it answers").succeeded);
        let (mut second, found) = lead(&etcd, "second");
        assert_eq!((found.grants.len(), found.tokens_above), (500, Token(999)));
        assert!(first.confirm().is_err() && first.commit(&Batch::default()).is_err());
        assert_eq!(
            second.commit(&Batch {
                grants: [grant(1000)].into(),
                ..Batch::default()
            }),
            Ok(())
        );
    }
}
