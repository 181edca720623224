//! What is done now and then: memory that a burst has left behind goes back to the system.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Shared;

/// How often. Short, so that an operator who looks after a burst finds what is held, and not what was.
const PAUSE: Duration = Duration::from_secs(1);

/// A block so large that the allocator, when it is freed, looks for pages that nobody has used for a second,
/// and gives them back; a smaller one is kept at hand. No byte of it is touched.
const LARGE_BLOCK: usize = 4 << 20;

/// Gives memory back until `stop`. The allocator would do so by itself while it is used, but not where a burst
/// is followed by silence.
pub(super) async fn give_memory_back(shared: Arc<Shared>, stop: CancellationToken) {
    let mut pauses = interval(PAUSE);
    pauses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = pauses.tick() => {}
        }
        let shared = Arc::clone(&shared);
        let give_back = move || {
            shared.table.shrink();
            drop(black_box(Vec::<u8>::with_capacity(LARGE_BLOCK)));
        };
        // After a large burst this takes tens of milliseconds, in which a worker would serve nobody.
        drop(tokio::task::spawn_blocking(give_back).await);
    }
}
