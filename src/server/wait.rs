//! The four things that a waiting request listens to.

use std::future::Future;

use crate::table::Ending;

/// Waits for the first of the four and says which it was.
///
/// Where several are ready, the end of the connection is looked at first, so that a lock is not
/// granted to a client that is known to be gone; then the grant, so that neither the deadline
/// nor the shutdown takes away what was given. Whatever this returns, the waiter's state under
/// the key's guard decides: [`LockTable::settle`](crate::table::LockTable::settle).
pub(super) async fn first_of(
    disconnect: impl Future<Output = ()>,
    granted: impl Future<Output = ()>,
    shutdown: impl Future<Output = ()>,
    deadline: impl Future<Output = ()>,
) -> Ending {
    tokio::select! {
        biased;
        () = disconnect => Ending::Disconnect,
        () = granted => Ending::Granted,
        () = shutdown => Ending::Shutdown,
        () = deadline => Ending::Deadline,
    }
}
