//! The terminal is left as it was, whichever signal ends the shell.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The terminal's settings, which come back when this is dropped.
pub struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// From now on Ctrl-C ends no more than a line, also while none is being read; and signals that end the
/// shell restore the terminal first.
pub fn guard(runtime: &Handle) -> io::Result<Restored> {
    let settings = tcgetattr(io::stdin())?;
    let restored = Restored(settings.clone());
    let _entered = runtime.enter();
    let mut interrupts = signal(SignalKind::interrupt())?;
    runtime.spawn(async move { while interrupts.recv().await.is_some() {} });
    for kind in [
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ] {
        runtime.spawn(end_at(signal(kind)?, kind, settings.clone()));
    }
    Ok(restored)
}

async fn end_at(mut signals: Signal, kind: SignalKind, settings: Termios) {
    if signals.recv().await.is_some() {
        drop(Restored(settings));
        std::process::exit(128 + kind.as_raw_value());
    }
}
