//! The task that looks for deadlocks which are too large to be seen by the request that closes them.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::Shared;

/// How long it rests between two parts of its work: about twice as long as a part takes, so that it never
/// has a processor for itself.
const REST: Duration = Duration::from_micros(100);

/// Looks again for those who wait and whose own look came to no end, until `stop`. On a thread of its own,
/// which there is only while there are such.
pub(super) async fn look_again(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.table.unseen() => {}
        }
        let looking = Arc::clone(&shared);
        let look = tokio::task::spawn_blocking(move || {
            let now = || looking.clock.now();
            looking.table.take_second_look(now, || thread::sleep(REST));
        });
        if let Err(failed) = look.await {
            error!("a look for deadlocks failed: {failed}");
        }
    }
}
