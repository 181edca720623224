//! The signals that an operator or the kernel sends to the server.

use std::ffi::c_int;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::server::Control;

/// "File size limit exceeded", by its number on Linux (but for MIPS), macOS and the BSDs.
const SIGXFSZ: c_int = 25;

/// Signals and their names.
type Named<const N: usize> = [(&'static str, Signal); N];

/// Handles the signals of this process from now on. The token that it returns is cancelled by the
/// first SIGTERM, SIGINT or SIGQUIT; at the second one, `end_at_once` is called, in a task. At SIGHUP
/// the server that `control` reaches reloads, and at SIGUSR1 it is drained. SIGUSR2 does nothing. Must
/// be called within a tokio runtime.
///
/// # Errors
///
/// When the system refuses a handler.
pub fn handle(
    control: &Control,
    end_at_once: impl FnOnce() + Send + 'static,
) -> io::Result<CancellationToken> {
    let mut stops = [
        ("SIGTERM", signal(SignalKind::terminate())?),
        ("SIGINT", signal(SignalKind::interrupt())?),
        ("SIGQUIT", signal(SignalKind::quit())?),
    ];
    let mut reload = [("SIGHUP", signal(SignalKind::hangup())?)];
    let mut drain = [("SIGUSR1", signal(SignalKind::user_defined1())?)];
    let mut others = [("SIGUSR2", signal(SignalKind::user_defined2())?)];
    // With a handler in place, a write beyond the limit is an error like that of a full disk.
    drop(signal(SignalKind::from_raw(SIGXFSZ))?);
    let stop = CancellationToken::new();
    let first = stop.clone();
    tokio::spawn(async move {
        next(&mut stops).await;
        first.cancel();
        let name = next(&mut stops).await;
        warn!("{name} during the stop: ending at once");
        end_at_once();
    });
    let (reloaded, drained) = (control.clone(), control.clone());
    tokio::spawn(async move {
        loop {
            next(&mut reload).await;
            reloaded.reload();
        }
    });
    tokio::spawn(async move {
        next(&mut drain).await;
        drained.drain();
    });
    tokio::spawn(async move {
        loop {
            let name = next(&mut others).await;
            info!("{name} ignored");
        }
    });
    Ok(stop)
}

/// The name of the next signal that comes in.
async fn next<const N: usize>(signals: &mut Named<N>) -> &'static str {
    poll_fn(|context| {
        for (name, signal) in signals.iter_mut() {
            if signal.poll_recv(context).is_ready() {
                return Poll::Ready(*name);
            }
        }
        Poll::Pending
    })
    .await
}
