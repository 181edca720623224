//! The server program: flags to [`Config`], signals to a shutdown, errors to exit codes.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::io;
use std::process::ExitCode;

use elock::check::check;
use elock::config::Config;
use elock::log::Log;
use elock::server::Control;
use elock::{server, signals};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The system's keeps most of what was ever in use: a server that once held a million locks would look as if
/// it held them still.
#[cfg(feature = "give-back")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = Config::from_args();
    if let Some(addresses) = config.to_check() {
        return match check(&addresses) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => fail(&failed.to_string()),
        };
    }
    let log = match Log::start(&config.log, config.log_format) {
        Ok(log) => log,
        Err(error) => return fail(&ServeError::Start(error).to_string()),
    };
    for name in Config::unknown_variables() {
        warn!("{name} is no setting of this elockd, and changes nothing; see --help");
    }
    match serve(config, &log) {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            log.say(&format!("elockd: {error}"));
            error.exit_code()
        }
    }
}

/// Reports an error from before there is a log.
fn fail(message: &str) -> ExitCode {
    // Standard error may be closed; then the exit code has to do.
    let _ = io::Write::write_all(&mut io::stderr(), format!("elockd: {message}\n").as_bytes());
    ExitCode::FAILURE
}

#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    #[error(transparent)]
    Bind(#[from] server::BindError),
    #[error(transparent)]
    Run(#[from] server::RunError),
}

impl ServeError {
    /// 3 for a store, and 2 for a setting, for which another try would not help.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Bind(error) if error.is_bad_setting() => ExitCode::from(2),
            #[cfg(feature = "store")]
            Self::Run(server::RunError::Store(error)) if error.is_final() => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}

fn serve(config: Config, log: &Log) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_threads())
        .enable_all()
        .build()?;
    let flush_log = log.flusher();
    let served = runtime.block_on(async {
        let control = Control::default();
        let stop = signals::handle(&control, move || {
            flush_log();
            std::process::exit(1);
        })?;
        // A name server that does not answer must not hold up a stop.
        let listeners = tokio::select! {
            bound = server::bind(&config.listen) => bound?,
            () = stop.cancelled() => return Ok(()),
        };
        Ok(server::run(listeners, config, control, until_stopped(stop)).await?)
    });
    // Tasks that are still busy have had the time of the stop.
    runtime.shutdown_background();
    served
}

/// Ready when `stop` is cancelled. It is polled for the first time when the server serves, so it
/// tells systemd so.
async fn until_stopped(stop: CancellationToken) {
    #[cfg(feature = "systemd")]
    elock::systemd::accompany(stop).await;
    #[cfg(not(feature = "systemd"))]
    stop.cancelled().await;
}
