//! `elock lock` from its beginning to its end: waits for the lock, starts the command, watches both.

use std::process::ExitCode;
use std::time::Duration;

use elock_client::command::Mode;
use elock_client::{Client, Error, Guard, Servers};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

use super::args::{LockArgs, OnLost};
use super::boottime::now_ns;
use super::briefing::Briefing;
use super::contention;
use super::exit;
use super::held::Request;
use super::job::{Environment, Job};
use super::refusal::NotRun;
use super::signals::Signals;
use super::stage::Entry;
use super::terminal::Terminal;
use super::watch::{Ended, Watch, deadlines};
use crate::server::ServerArgs;

/// How long there is at the end to tell a server that the lock is free: so long that a server that has gone without a
/// word is noticed (5 s), while another of several takes over, and as long again to tell that one. Then it is learned
/// from the end of the connection.
const GOODBYE: Duration = Duration::from_secs(12);

/// Runs the command under the lock, and is the exit code.
pub async fn run(args: &LockArgs, mode: Mode, servers: &ServerArgs) -> ExitCode {
    let code = match take_and_run(args, mode, servers).await {
        Ok(code) => code,
        Err(why) => why.told(args),
    };
    ExitCode::from(code)
}

async fn take_and_run(args: &LockArgs, mode: Mode, servers: &ServerArgs) -> Result<u8, NotRun> {
    let mut signals = Signals::catch_ending().map_err(NotRun::System)?;
    let request = Request {
        keys: args.keys.iter().map(|key| key.0.clone()).collect(),
        mode,
        wait: args.wait(),
        server_patience: args.server_patience(),
        lease: args.lease,
        grace: args.grace,
        margin: args.ending().margin,
        name: args.name(),
    };
    let (client, guard) = take(&request, &servers.server, &mut signals).await?;
    let environment = Environment {
        keys: guard.keys().to_vec(),
        tokens: guard.tokens(),
        server: servers.variables.clone(),
    };
    match watched(args, &environment, &guard, signals).await {
        Ok(ended) => Ok(end(args, ended, client, guard).await),
        Err(error) => {
            let _ = give_back(client, guard).await;
            Err(NotRun::System(error))
        }
    }
}

/// Waits for the lock. A signal ends that at once: the queue is left, and a grant that comes at that
/// moment is given back.
async fn take(
    request: &Request,
    servers: &Servers,
    signals: &mut Signals,
) -> Result<(Client, Guard), NotRun> {
    let begun = Instant::now();
    let client = tokio::select! {
        client = request.connect(servers) => client.map_err(NotRun::Refused)?,
        signal = signals.next() => return Err(NotRun::Signal(signal)),
    };
    let left = request.wait.saturating_sub(begun.elapsed());
    let taken = tokio::select! {
        guard = request.take(&client, left) => guard.map_err(NotRun::Refused),
        signal = signals.next() => Err(NotRun::Signal(signal)),
        never = contention::tell_while_waiting(&client, request) => match never {},
    };
    match taken {
        Ok(guard) => Ok((client, guard)),
        Err(why) => {
            if let NotRun::Refused(Error::Unavailable) = why {
                contention::tell_at_the_end(&client, request).await;
            }
            client.close().await;
            Err(why)
        }
    }
}

/// Starts the command, and watches until it has ended.
async fn watched(
    args: &LockArgs,
    environment: &Environment,
    guard: &Guard,
    mut signals: Signals,
) -> std::io::Result<Ended> {
    signals.catch_others()?;
    let briefing = Briefing::start()?;
    let mut terminal = Terminal::open();
    let foreground = terminal
        .as_ref()
        .is_some_and(|terminal| terminal.is_for_the_command() && terminal.is_ours());
    let (now, ending) = (now_ns(), args.ending());
    let (term_at_ns, kill_at_ns) = deadlines(args.on_lost, ending, now, guard.remaining());
    let entry = Entry {
        foreground,
        guardian: briefing.pipe(),
        term_at_ns,
        kill_at_ns,
    };
    let job = Job::start(&args.command, environment, entry)?;
    if let Some(terminal) = terminal.as_mut().filter(|_| foreground) {
        terminal.stage_takes();
    }
    Watch::new(args, job, guard, briefing, terminal)
        .run(signals)
        .await
}

/// Releases the lock, and says goodbye.
///
/// # Errors
///
/// No server has heard of it in its time.
async fn give_back(client: Client, guard: Guard) -> Result<Result<(), Error>, Elapsed> {
    let released = timeout(GOODBYE, guard.release()).await;
    client.close().await;
    released
}

/// Gives the lock back, and decides on the exit code.
async fn end(args: &LockArgs, ended: Ended, client: Client, guard: Guard) -> u8 {
    let released = give_back(client, guard).await;
    let is_lost = match (ended.loss, released) {
        (Some(_), _) => true,
        (None, Ok(Ok(()))) => false,
        (None, Ok(Err(error @ Error::Lost { .. }))) => {
            exit::say(&error.to_string());
            true
        }
        (None, Ok(Err(error))) => {
            exit::say(&format!(
                "the lock may stay until its grace period ends: {error}"
            ));
            false
        }
        (None, Err(_)) => {
            exit::say("the lock may stay until its grace period ends: the server does not answer");
            false
        }
    };
    match is_lost && args.on_lost != OnLost::Ignore {
        true => exit::LOST,
        false => ended.code,
    }
}
