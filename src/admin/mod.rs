//! HTTP for operators: health, metrics and the like, on addresses of its own.
//!
//! It runs on a thread of its own, so that no request here takes time of a thread that serves locks, and
//! it is there from before the store is read until the last connection has ended: whoever asks is told
//! what the server is doing.

mod api;
mod guard;
mod health;
mod listener;
mod loaded;
mod metrics;
mod page;
mod routes;
mod seats;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info};

use guard::Guard;
use metrics::LastContention;

use crate::config::Config;
use crate::server::{self, Listener, ServerHandle};
pub(crate) use seats::SEATS;

/// How long requests that are being answered have at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What every request can reach. Clones reach the same.
#[derive(Debug, Clone)]
struct Admin {
    /// Set when the server serves: before that, its store is being read.
    server: Arc<OnceLock<ServerHandle>>,
    guard: Arc<Guard>,
    contention: Arc<LastContention>,
}

/// The running HTTP side of a server. It begins to end when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    server: Arc<OnceLock<ServerHandle>>,
    stop: DropGuard,
    ended: oneshot::Receiver<()>,
}

/// Serves HTTP on `listeners`, as a server that is loading until [`Running::serves`] is called; `None` if
/// there are no listeners.
///
/// # Errors
///
/// When the system gives no thread, or what a thread needs.
pub(crate) fn start(listeners: Vec<Listener>, config: &Config) -> io::Result<Option<Running>> {
    if listeners.is_empty() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let admin = Admin {
        server: Arc::default(),
        guard: Arc::new(Guard::new(config)),
        contention: Arc::default(),
    };
    let (end, ended) = oneshot::channel();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = Running {
        server: Arc::clone(&admin.server),
        stop: stop.drop_guard(),
        ended,
    };
    info!("HTTP for operators at {}", server::addresses(&listeners));
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || {
            run(runtime, listeners, admin, stopped);
            // Nobody listens if the server has not waited.
            let _ = end.send(());
        })?;
    Ok(Some(running))
}

fn run(runtime: Runtime, listeners: Vec<Listener>, admin: Admin, stop: CancellationToken) {
    let router = routes::router(admin);
    runtime.block_on(listener::serve_all(listeners, router, stop));
    runtime.shutdown_background();
}

impl Running {
    /// From here on the server serves, and can be asked.
    pub(crate) fn serves(&self, handle: ServerHandle) {
        if self.server.set(handle).is_err() {
            error!("the admin listener was given two servers");
        }
    }

    /// Accepts nothing more, and waits for requests that are being answered, until `deadline` or for
    /// [`LAST_ANSWERS`].
    pub(crate) async fn end(self, deadline: Instant) {
        drop(self.stop);
        // Either way it is over: nothing here must be kept.
        let _ = timeout_at(deadline.min(Instant::now() + LAST_ANSWERS), self.ended).await;
    }
}
