//! The server program: flags to [`Config`], signals to a shutdown, errors to exit codes.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use elock::check::check;
use elock::config::Config;
use elock::log::Log;
use elock::server::{Control, Inherited, Listener};
use elock::{server, signals};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The system's keeps most of what was ever in use: a server that once held a million locks would look as if
/// it held them still.
#[cfg(feature = "give-back")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "auth")]
    if let Some(exit_code) = hash_password() {
        return exit_code;
    }
    #[cfg(feature = "store")]
    if let Some(exit_code) = transfer() {
        return exit_code;
    }
    let config = Config::from_args();
    if let Some(addresses) = config.to_check() {
        return match check(&addresses) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => fail(&failed.to_string()),
        };
    }
    // Before there is any other thread.
    let inherited = match Inherited::take() {
        Ok(inherited) => inherited,
        Err(error) => {
            fail(&error.to_string());
            return ExitCode::from(BAD_SETTING);
        }
    };
    let log = match Log::start(&config.log, config.log_format) {
        Ok(log) => log,
        Err(error) => return fail(&ServeError::Start(error).to_string()),
    };
    for name in Config::unknown_variables() {
        warn!("{name} is no setting of this elockd, and changes nothing; see --help");
    }
    for module in config.log.unknown_modules() {
        warn!("--log names {module}, and nothing of this elockd logs by that name");
    }
    match serve(config, inherited, &log) {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            log.say_last(&error);
            error.exit_code()
        }
    }
}

/// `elockd hash-password`: prints the hash of the password on standard input. `None` if something else
/// is asked for. A password is no argument, as every user of a machine sees those.
#[cfg(feature = "auth")]
fn hash_password() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != "hash-password" {
        return None;
    }
    const USAGE: &str = "usage: elockd hash-password, with the password on standard input";
    if let Some(argument) = arguments.next() {
        let asks_for_help = argument == "--help" || argument == "-h";
        return Some(match asks_for_help {
            true => print(&format!(
                "{USAGE}\n\nPrints the password's hash, for a user in the file of --auth-file. At a \
                 terminal it asks for\nthe password; from a pipe it reads one line: \
                 elockd hash-password < FILE"
            )),
            false => {
                fail(USAGE);
                ExitCode::from(BAD_SETTING)
            }
        });
    }
    let hash = elock::password_prompt::read_password()
        .map_err(|error| format!("cannot read a password: {error}"))
        .and_then(|password| {
            elock::access::hash_password(&password).map_err(|error| error.to_string())
        });
    Some(match hash {
        Ok(hash) => print(&hash),
        Err(error) => fail(&error),
    })
}

/// `elockd export` and `elockd import`. `None` if something else is asked for.
#[cfg(feature = "store")]
fn transfer() -> Option<ExitCode> {
    let arguments: Vec<_> = std::env::args_os().collect();
    Some(match elock::transfer::transfer(&arguments)? {
        Ok(transferred) => {
            // Standard output has the export.
            let _ = writeln!(io::stderr(), "elockd: {transferred}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string()),
    })
}

#[cfg(feature = "auth")]
fn print(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Reports an error from before there is a log.
fn fail(message: &str) -> ExitCode {
    // Standard error may be closed; then the exit code has to do.
    let _ = writeln!(io::stderr(), "elockd: {message}");
    ExitCode::FAILURE
}

/// The exit code for what another try would not help.
const BAD_SETTING: u8 = 2;

/// After so many steps a worker looks into the queue that all workers share. When hundreds of connections
/// are ready at once, half of what a worker has to do is moved there; by the runtime's own choice, some ten
/// times as long, a connection that was moved would wait for several turns of all others.
const SHARED_QUEUE_INTERVAL: u32 = 4;

/// As many files as a server without clients has open, and some to spare.
const FILES_AT_START: usize = 32;

/// The threads beside the workers, of which some come later.
const OTHER_THREADS: usize = 4;

#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    #[error(
        "cannot open as many files as a server needs: {0}; raise the limit (ulimit -n, or LimitNOFILE of the unit)"
    )]
    Files(io::Error),
    #[error(transparent)]
    Inherit(#[from] server::InheritError),
    #[error(transparent)]
    Bind(#[from] server::BindError),
    #[error(transparent)]
    Run(#[from] server::RunError),
}

impl ServeError {
    /// 3 for a store, and 2 for a setting, for which another try would not help.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Files(_) | Self::Inherit(_) => ExitCode::from(BAD_SETTING),
            Self::Bind(error) if error.is_bad_setting() => ExitCode::from(BAD_SETTING),
            Self::Run(error) if error.is_bad_setting() => ExitCode::from(BAD_SETTING),
            Self::Run(error) if error.is_final() => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Looks whether there are files and threads to start with: the runtime takes them for granted, and panics
/// without.
fn try_out_system(threads: usize) -> Result<(), ServeError> {
    #[cfg(feature = "fd-limit")]
    // What comes of it shows below.
    let _ = rlimit::increase_nofile_limit(FILES_AT_START as u64);
    let files = (0..FILES_AT_START).map(|_| UnixDatagram::unbound());
    drop(
        files
            .collect::<Result<Vec<_>, _>>()
            .map_err(ServeError::Files)?,
    );
    let gate = Mutex::new(());
    let closed = gate.lock();
    thread::scope(|scope| {
        // Opened at the end of this closure, and the threads end then.
        let _closed = closed;
        for _ in 0..threads + OTHER_THREADS {
            thread::Builder::new().spawn_scoped(scope, || drop(gate.lock()))?;
        }
        Ok(())
    })
}

fn serve(config: Config, inherited: Inherited, log: &Log) -> Result<(), ServeError> {
    try_out_system(config.worker_threads())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_threads())
        .global_queue_interval(SHARED_QUEUE_INTERVAL)
        .enable_all()
        .build()?;
    let flush_log = log.flusher();
    let served = runtime.block_on(async {
        let control = Control::default();
        let stop = signals::handle(&control, move || {
            flush_log();
            std::process::exit(1);
        })?;
        // A drain ends in a stop, as a signal does.
        let (drained, stops) = (control.clone(), stop.clone());
        tokio::spawn(async move {
            drained.drained().await;
            stops.cancel();
        });
        // A name server that does not answer must not hold up a stop.
        let listeners = tokio::select! {
            bound = bind(&config, inherited) => bound?,
            () = stop.cancelled() => return Ok(()),
        };
        let stopped = until_stopped(stop, control.clone());
        Ok(server::run(listeners, config, control, stopped).await?)
    });
    // Tasks that are still busy have had the time of the stop.
    runtime.shutdown_background();
    served
}

/// The sockets that are open already, and those at the addresses of the settings.
async fn bind(config: &Config, inherited: Inherited) -> Result<Vec<Listener>, ServeError> {
    let Inherited {
        clients,
        tls,
        admin,
    } = inherited;
    #[cfg(feature = "tls")]
    let tls = match config.tls_cert {
        Some(_) => tls.listen()?.into_iter().map(Listener::with_tls).collect(),
        None => tls.none_named("tls").map(|()| Vec::new())?,
    };
    #[cfg(not(feature = "tls"))]
    let tls = tls.none_named("tls").map(|()| Vec::new())?;
    let open = [clients.listen()?, tls].into_iter().flatten().collect();
    #[cfg_attr(not(any(feature = "admin", feature = "cluster")), expect(unused_mut))]
    let mut listeners = server::bind_beside(open, &config.addresses()).await?;
    #[cfg(feature = "admin")]
    listeners.extend(server::bind_admin(admin.listen()?, &config.admin, &listeners).await?);
    #[cfg(not(feature = "admin"))]
    admin.none_named("admin")?;
    #[cfg(feature = "cluster")]
    if let Some(address) = config.cluster().and_then(|cluster| cluster.listens_at()) {
        listeners.extend(server::bind_for_servers(&[address], &listeners).await?);
    }
    Ok(listeners)
}

/// Ready when `stop` is cancelled. It is polled for the first time when the server serves, so it
/// tells systemd so.
#[cfg_attr(not(feature = "systemd"), expect(unused_variables))]
async fn until_stopped(stop: CancellationToken, control: Control) {
    #[cfg(feature = "systemd")]
    elock::systemd::accompany(stop, &control).await;
    #[cfg(not(feature = "systemd"))]
    stop.cancelled().await;
}
