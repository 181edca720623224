//! Reads the log while another still leads, of whom etcd has not heard for a while: whoever leads after that one has
//! little left to read.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

use super::endpoints::BadAccess;
use super::names::Names;
use super::reading::{LoadError, Reading};
use super::txn::{Calls, Failure};

/// For how long a page that is under way is waited for: it may be asked of a node that is gone.
const PAGE: Duration = Duration::from_millis(100);

/// How soon a page is asked for again that has not come.
const AGAIN: Duration = Duration::from_millis(50);

/// A log that a thread of its own reads, page by page. That ends, and what was read is freed there, when this is dropped.
pub(crate) struct ReadAhead(Sender<Taker>);

/// Who wants what was read by now.
type Taker = oneshot::Sender<Reading>;

impl ReadAhead {
    /// `calls` are made in the thread. `None` if the system gives none: then nothing is read ahead.
    pub(crate) fn start<C: Calls>(
        names: &Names,
        calls: impl FnOnce() -> Result<C, BadAccess> + Send + 'static,
    ) -> Option<Self> {
        let (takers, taken) = channel();
        let reading = Reading::of(names);
        let thread = std::thread::Builder::new().name("read-ahead".to_owned());
        let started = thread.spawn(move || match calls() {
            Ok(calls) => read_until(&taken, calls, reading),
            Err(why) => debug!("the log cannot be read ahead: {why}"),
        });
        started.is_ok().then_some(Self(takers))
    }

    /// What was read by now; `None` if that does not come.
    pub(crate) async fn take(self) -> Option<Reading> {
        let (taker, taken) = oneshot::channel();
        self.0.send(taker).ok()?;
        let reading = timeout(PAGE, taken).await.ok()?.ok()?;
        debug!("{} entries were read ahead", reading.entries());
        Some(reading)
    }
}

fn read_until(taken: &Receiver<Taker>, mut calls: impl Calls, mut reading: Reading) {
    let mut pause = Duration::ZERO;
    loop {
        match taken.recv_timeout(pause) {
            Ok(taker) => return drop(taker.send(reading)),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        pause = match reading.go_on(&mut calls) {
            Ok(true) => Duration::ZERO,
            Ok(false) => break,
            Err(LoadError::Unread(Failure::InDoubt(_))) => AGAIN,
            // Whoever leads reads it once more, and says what is wrong with it.
            Err(why) => return debug!("the log cannot be read ahead: {why}"),
        };
    }
    if let Ok(taker) = taken.recv() {
        drop(taker.send(reading));
    }
}

#[cfg(test)]
mod tests {
    use std::thread::JoinHandle;

    use prost::Message;

    use super::*;
    use crate::store::etcd::api::KeyValue;
    use crate::store::etcd::entry::Entry;
    use crate::store::etcd::unreliable::UnreliableEtcd;

    const ENTRIES: u64 = 100;

    /// An etcd with a log, of which so many pages do not come.
    fn etcd(lost: u32) -> UnreliableEtcd {
        let (etcd, names) = (UnreliableEtcd::default(), Names::below("/elock"));
        let entry = Entry::above(0, 0).encode_to_vec();
        for number in 1..=ENTRIES {
            let found = KeyValue {
                key: names.entry(number),
                value: entry.clone().into(),
                ..KeyValue::default()
            };
            etcd.state().kvs.insert(names.entry(number), found);
        }
        etcd.state().ranges_lost = lost;
        etcd
    }

    fn start(etcd: &UnreliableEtcd) -> (Sender<Taker>, JoinHandle<()>) {
        let (takers, taken) = channel();
        let (etcd, reading) = (etcd.clone(), Reading::of(&Names::below("/elock")));
        (
            takers,
            std::thread::spawn(move || read_until(&taken, etcd, reading)),
        )
    }

    #[test]
    fn a_page_that_does_not_come_is_asked_for_again() {
        let etcd = etcd(2);
        let (takers, thread) = start(&etcd);
        while etcd.state().entries_read <= ENTRIES && !thread.is_finished() {
            std::thread::yield_now();
        }
        let (taker, taken) = oneshot::channel();
        takers.send(taker).expect("it goes on");
        let reading = taken.blocking_recv().expect("it was read");
        assert_eq!(reading.entries() as u64, ENTRIES);
        thread.join().expect("it ends");
    }

    #[test]
    fn it_ends_when_nobody_wants_it() {
        for lost in [0, u32::MAX] {
            let (takers, thread) = start(&etcd(lost));
            drop(takers);
            thread.join().expect("it ends");
        }
    }
}
