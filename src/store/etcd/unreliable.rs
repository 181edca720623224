//! An etcd for tests: in memory, and between it and who asks requests get lost, come late and twice, and
//! answers get lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use prost::Message;

use super::api::{
    Compare, CompareResult, CompareTarget, Done, KeyValue, Operand, Operation, OperationDone,
    RangeRequest, RangeResponse, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use super::endpoints::LONGEST_ANSWER;
use super::txn::{Calls, Failure};

/// One etcd, of which all clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct UnreliableEtcd(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) kvs: BTreeMap<Vec<u8>, KeyValue>,
    pub(super) revision: i64,
    /// What becomes of the next calls, the last one first; without any, all goes well.
    pub(super) fates: Vec<Fate>,
    /// Transactions that are on their way.
    late: Vec<TxnRequest>,
    /// How many of the next ranges are not answered.
    pub(super) ranges_lost: u32,
    /// How many keys were read by ranges.
    pub(super) entries_read: u64,
    /// How many bytes an answer may have, if not as many as ever.
    pub(super) longest_answer: Option<usize>,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    AnswerLost,
    /// It comes when [`State::deliver_late`] says so.
    Late,
    DoneAndLateAgain,
    Refused,
}

/// What etcd takes by default.
const LARGEST_REQUEST: usize = 1536 * 1024;

impl UnreliableEtcd {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics in here")
    }

    /// As if the leader's key were replaced by another's.
    pub(super) fn elect(&self, key: &[u8], value: &[u8]) -> i64 {
        let mut state = self.state();
        state.kvs.remove(key);
        state.revision += 1;
        let revision = state.revision;
        state.put(key, Bytes::copy_from_slice(value));
        revision
    }
}

impl State {
    /// Has the transactions come that are on their way, the one at `first` before the others.
    pub(super) fn deliver_late(&mut self, first: usize) {
        let mut late = std::mem::take(&mut self.late);
        if !late.is_empty() {
            let turn = first % late.len();
            late.rotate_left(turn);
        }
        for request in late {
            self.run(&request);
        }
    }

    fn put(&mut self, key: &[u8], value: Bytes) {
        let revision = self.revision;
        let kv = self.kvs.entry(key.to_vec()).or_insert_with(|| KeyValue {
            key: key.to_vec(),
            create_revision: revision,
            ..KeyValue::default()
        });
        kv.value = value;
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kv = self.kvs.get(&compare.key);
        match &compare.target_union {
            Some(Operand::CreateRevision(revision)) => {
                assert_eq!(compare.target, i32::from(CompareTarget::Create));
                let found = kv.map_or(0, |kv| kv.create_revision);
                match compare.result == i32::from(CompareResult::Equal) {
                    true => found == *revision,
                    false => found > *revision,
                }
            }
            Some(Operand::Value(value)) => {
                assert_eq!(compare.target, i32::from(CompareTarget::Value));
                kv.is_some_and(|kv| kv.value == value[..])
            }
            None => panic!("a condition without an operand"),
        }
    }

    fn find(&self, request: &RangeRequest) -> RangeResponse {
        let range = match request.range_end.is_empty() {
            true => self
                .kvs
                .range(request.key.clone()..=request.key.clone())
                .collect::<Vec<_>>(),
            false => self
                .kvs
                .range(request.key.clone()..request.range_end.clone())
                .collect(),
        };
        let most = match request.limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        RangeResponse {
            header: Some(self.header()),
            kvs: range
                .into_iter()
                .take(most)
                .map(|(_, kv)| kv.clone())
                .collect(),
        }
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader {
            revision: self.revision,
        }
    }

    fn run(&mut self, request: &TxnRequest) -> TxnResponse {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let operations = match succeeded {
            true => &request.success,
            false => &request.failure,
        };
        let is_change = |operation: &&super::api::RequestOp| {
            !matches!(operation.request, Some(Operation::Range(_)))
        };
        self.revision += i64::from(operations.iter().any(|operation| is_change(&operation)));
        let mut responses = Vec::new();
        for operation in operations {
            let done = match operation.request.as_ref().expect("an operation") {
                Operation::Range(range) => OperationDone::Range(self.find(range)),
                Operation::Put(put) => {
                    self.put(&put.key, put.value.clone());
                    OperationDone::Put(Done {})
                }
                Operation::DeleteRange(delete) => {
                    let inside = |key: &Vec<u8>| delete.key <= *key && *key < delete.range_end;
                    self.kvs.retain(|key, _| !inside(key));
                    OperationDone::DeleteRange(Done {})
                }
            };
            responses.push(ResponseOp {
                response: Some(done),
            });
        }
        TxnResponse {
            header: Some(self.header()),
            succeeded,
            responses,
        }
    }
}

impl Calls for UnreliableEtcd {
    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Failure> {
        let in_doubt = || Err(Failure::InDoubt("planted".to_owned()));
        let mut state = self.state();
        if request.encoded_len() > LARGEST_REQUEST {
            let why = "etcdserver: request is too large";
            return Err(Failure::Refused(why.to_owned()));
        }
        match state.fates.pop() {
            None => Ok(state.run(request)),
            Some(Fate::Lost) => in_doubt(),
            Some(Fate::AnswerLost) => {
                state.run(request);
                in_doubt()
            }
            Some(Fate::Late) => {
                state.late.push(request.clone());
                in_doubt()
            }
            Some(Fate::DoneAndLateAgain) => {
                state.late.push(request.clone());
                Ok(state.run(request))
            }
            Some(Fate::Refused) => Err(Failure::Refused("etcdserver: planted".to_owned())),
        }
    }

    fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse, Failure> {
        let mut state = self.state();
        if state.ranges_lost > 0 {
            state.ranges_lost -= 1;
            return Err(Failure::InDoubt("planted".to_owned()));
        }
        assert!(
            request.revision == 0 || request.revision == state.revision,
            "no test changes anything while a log is read"
        );
        let answer = state.find(request);
        state.entries_read += answer.kvs.len() as u64;
        match answer.encoded_len() > state.longest_answer.unwrap_or(LONGEST_ANSWER) {
            true => Err(Failure::TooLong("planted".to_owned())),
            false => Ok(answer),
        }
    }

    fn compact(&mut self, _: i64) -> Result<(), Failure> {
        Ok(())
    }
}
