//! The store's thread asks etcd, and waits for the answers by a runtime of its own: so a commit never waits
//! for the workers, nor they for it.

use tokio::runtime::{Builder, Runtime};

use super::api::{CompactionRequest, Done, RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use super::endpoints::{Access, BadAccess, Endpoints};
use super::log::{Calls, Failure};

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
}

impl Calls for Blocking {
    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Failure> {
        let call = self.nodes.unary("/etcdserverpb.KV/Txn", request.clone());
        self.runtime.block_on(call)
    }

    fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse, Failure> {
        let call = self.nodes.unary("/etcdserverpb.KV/Range", request.clone());
        self.runtime.block_on(call)
    }

    fn compact(&mut self, revision: i64) -> Result<(), Failure> {
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        let call = self
            .nodes
            .unary::<_, Done>("/etcdserverpb.KV/Compact", request);
        self.runtime.block_on(call).map(drop)
    }
}
