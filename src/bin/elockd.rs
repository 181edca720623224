//! The server program: flags to [`Config`], signals to a shutdown, errors to exit codes.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::future::Future;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use elock::check::check;
use elock::config::{Config, LogFormat};
use elock::server;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let config = Config::from_args();
    let done = match &config.check {
        Some(address) => {
            check(address).map_err(|error| (format!("{address}: {error}"), ExitCode::FAILURE))
        }
        None => serve(config).map_err(|error| (error.to_string(), error.exit_code())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((message, code)) => {
            // Nobody may be listening; then the exit code has to do.
            let _ =
                io::Write::write_all(&mut io::stderr(), format!("elockd: {message}\n").as_bytes());
            code
        }
    }
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
    /// 3 for a store, and 2 for a setting, that does not get better by another try.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Bind(error) if error.is_bad_setting() => ExitCode::from(2),
            #[cfg(feature = "store")]
            Self::Run(server::RunError::Store(error)) if error.is_final() => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}

fn serve(config: Config) -> Result<(), ServeError> {
    init_log(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_threads())
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let listeners = server::bind(&config.listen).await?;
        let shutdown = shutdown_signal()?;
        Ok(server::run(listeners, config, shutdown).await?)
    });
    // What is still busy had its time.
    runtime.shutdown_background();
    served
}

fn init_log(config: &Config) {
    let filter = EnvFilter::new(&config.log);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // A log that cannot be written must not take the server down.
        .log_internal_errors(false);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Ready at the first SIGTERM or SIGINT. A second one ends the process on the spot.
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            std::process::exit(1);
        });
    })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
