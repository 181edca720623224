//! Replies that must not be sent before what they say is durable.

use std::ops::Range;

use bytes::BytesMut;

use crate::protocol::Reply;
use crate::store::{NotStored, Seq};
use crate::table::Key;

/// The promises in a connection's output, in the order of their places in it.
#[derive(Debug, Default)]
pub(super) struct Promises(Vec<Promise>);

#[derive(Debug)]
struct Promise {
    /// What must be durable.
    seq: Seq,
    /// Where the reply is.
    reply: Range<usize>,
    /// The lock that the request was granted.
    granted: Option<Key>,
}

impl Promises {
    pub(super) fn add(&mut self, seq: Seq, reply: Range<usize>, granted: Option<&[u8]>) {
        let granted = granted.map(Key::new);
        self.0.push(Promise {
            seq,
            reply,
            granted,
        });
    }

    /// What the last of them rests on, and so all.
    pub(super) fn last(&self) -> Option<Seq> {
        self.0.last().map(|promise| promise.seq)
    }

    /// Puts an error in the place of each reply that rests on more than is `durable`, and returns
    /// the locks that must be given back.
    pub(super) fn withdraw(self, output: &mut BytesMut, durable: Seq, why: &NotStored) -> Vec<Key> {
        let promised = output.split();
        let mut copied = 0;
        let mut give_back = Vec::new();
        for Promise {
            seq,
            reply,
            granted,
        } in self.0
        {
            if seq <= durable {
                continue;
            }
            output.extend_from_slice(&promised[copied..reply.start]);
            copied = reply.end;
            Reply::NotStored(why.clone()).put(output);
            give_back.extend(granted);
        }
        output.extend_from_slice(&promised[copied..]);
        give_back
    }
}
