//! Reads the log while another still leads, of whom etcd has not heard for a while: whoever leads after that one has
//! little left to read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

use super::names::Names;
use super::reading::{LoadError, Reading};
use super::txn::Calls;

/// For how long a page that is under way is waited for: it may be asked of a node that is gone.
const PAGE: Duration = Duration::from_millis(100);

/// A log that a thread of its own reads, page by page. That ends when this is dropped.
pub(crate) struct ReadAhead {
    is_enough: Arc<AtomicBool>,
    read: oneshot::Receiver<Reading>,
}

impl ReadAhead {
    /// `None` if the system gives no thread: nothing is read ahead then.
    pub(crate) fn start(calls: impl Calls, names: &Names) -> Option<Self> {
        let is_enough = Arc::new(AtomicBool::new(false));
        let (reads, read) = oneshot::channel();
        let (enough, reading) = (Arc::clone(&is_enough), Reading::of(names));
        let thread = std::thread::Builder::new().name("read-ahead".to_owned());
        let started = thread.spawn(move || match read_until(&enough, calls, reading) {
            // Nobody takes it, if another leads.
            Ok(reading) => drop(reads.send(reading)),
            // It is read once more by whoever leads, who says what is wrong with it.
            Err(why) => debug!("the log could not be read ahead: {why}"),
        });
        started.is_ok().then_some(Self { is_enough, read })
    }

    /// What was read by now; `None` if that does not come.
    pub(crate) async fn take(mut self) -> Option<Reading> {
        self.is_enough.store(true, Ordering::Relaxed);
        let reading = timeout(PAGE, &mut self.read).await.ok()?.ok()?;
        debug!("{} entries were read ahead", reading.entries());
        Some(reading)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.is_enough.store(true, Ordering::Relaxed);
    }
}

fn read_until(
    enough: &AtomicBool,
    mut calls: impl Calls,
    mut reading: Reading,
) -> Result<Reading, LoadError> {
    while !enough.load(Ordering::Relaxed) && reading.go_on(&mut calls)? {}
    Ok(reading)
}
