//! Transactions of etcd, and what can become of a call.

use bytes::Bytes;

use super::api::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyValue, Operand, Operation,
    OperationDone, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
};
use super::names::Names;
use crate::cluster::plant::{self, Plant};

/// What a leader asks of etcd. One call is under way at a time. A call that fails is tried at another
/// node the next time.
pub(crate) trait Calls: Send + 'static {
    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Failure>;
    fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse, Failure>;
    /// Forgets the history before this revision.
    fn compact(&mut self, revision: i64) -> Result<(), Failure>;
}

/// What has become of a call that brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// It was not done, or it was, or it will be.
    #[error("{0}")]
    InDoubt(String),
    /// It was not done, and will not be.
    #[error("{0}")]
    Refused(String),
    /// The answer has more bytes than are taken at once.
    #[error("{0}")]
    TooLong(String),
}

/// The key that says who leads, as it was when this server began to.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    /// The revision at which the key came to be. No other leader's key has it.
    pub(crate) revision: i64,
    /// The key's value: the same revision may come again in an etcd that was restored from a copy.
    pub(crate) value: Bytes,
}

impl Term {
    /// The conditions that it is not over.
    pub(super) fn holds(&self, names: &Names) -> Vec<Compare> {
        if plant::is(Plant::SplitBrain) {
            return Vec::new();
        }
        let key = names.leader();
        let same = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Value.into(),
            key: key.clone(),
            target_union: Some(Operand::Value(self.value.to_vec())),
        };
        vec![revision(CompareResult::Equal, key, self.revision), same]
    }

    /// Whether this is its key.
    pub(super) fn is_of(&self, leader: Option<&KeyValue>) -> bool {
        leader.is_some_and(|leader| {
            leader.create_revision == self.revision && leader.value == self.value
        })
    }
}

/// Appends entry `number` to the log, if this leader leads, the entry is not there, and the one before it is.
/// The first entry of all `begins` the log instead: nothing is before it, so that a late attempt of it needs
/// another mark. What keeps two histories apart stands here and nowhere else.
pub(super) fn append(
    term: &Term,
    names: &Names,
    (number, bytes): (u64, Bytes),
    place: Place,
) -> TxnRequest {
    let key = names.entry(number);
    let mut compare = term.holds(names);
    if !plant::is(Plant::TakenAsFailed) {
        compare.push(revision(CompareResult::Equal, key.clone(), 0));
    }
    let mut success = vec![put(key.clone(), bytes)];
    match place {
        Place::Begins => {
            compare.push(revision(CompareResult::Equal, names.begun(), 0));
            success.push(put(names.begun(), Bytes::from_static(b"1")));
        }
        Place::Follows if plant::is(Plant::TakenAsFailed) => {}
        Place::Follows => {
            compare.push(revision(CompareResult::Greater, names.entry(number - 1), 0))
        }
        Place::BeforeAny => {}
    }
    TxnRequest {
        compare,
        success,
        failure: vec![get(names.leader()), get(key)],
    }
}

/// What an entry rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// That there has never been a log.
    Begins,
    /// The entry before it.
    Follows,
    /// Nothing: the log is written from its end on, and of no use until its first entry is there.
    BeforeAny,
}

/// Deletes the entries from `first` up to the one before `end`.
pub(super) fn delete_entries(names: &Names, first: u64, end: u64) -> RequestOp {
    operation(Operation::DeleteRange(DeleteRangeRequest {
        key: names.entry(first),
        range_end: names.entry(end),
    }))
}

/// The first key that this operation of a transaction has found.
pub(super) fn found(done: &TxnResponse, operation: usize) -> Option<&KeyValue> {
    match done.responses.get(operation)?.response.as_ref()? {
        OperationDone::Range(range) => range.kvs.first(),
        OperationDone::Put(_) | OperationDone::DeleteRange(_) => None,
    }
}

fn revision(result: CompareResult, key: Vec<u8>, revision: i64) -> Compare {
    Compare {
        result: result.into(),
        target: CompareTarget::Create.into(),
        key,
        target_union: Some(Operand::CreateRevision(revision)),
    }
}

fn put(key: Vec<u8>, value: Bytes) -> RequestOp {
    put_for(key, value, 0)
}

/// Puts a key that goes with this lease.
fn put_for(key: Vec<u8>, value: Bytes, lease: i64) -> RequestOp {
    operation(Operation::Put(PutRequest { key, value, lease }))
}

/// Creates a key that goes with this lease, if it is not there.
pub(crate) fn create_if_absent(key: Vec<u8>, value: Bytes, lease: i64) -> TxnRequest {
    TxnRequest {
        compare: vec![revision(CompareResult::Equal, key.clone(), 0)],
        success: vec![put_for(key, value, lease)],
        failure: Vec::new(),
    }
}

pub(super) fn get(key: Vec<u8>) -> RequestOp {
    operation(Operation::Range(RangeRequest {
        key,
        ..RangeRequest::default()
    }))
}

fn operation(operation: Operation) -> RequestOp {
    RequestOp {
        request: Some(operation),
    }
}
