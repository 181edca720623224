//! `elock drain`: has a server give no new locks, and waits until it has stopped.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use elock_client::command::{Drain, GetInfo};
use elock_client::listing::Info;
use elock_client::{Address, Connection, DEFAULT_DEADLINE, Error, Servers};
use tokio::time::sleep;

use super::ask::{connect, connect_to};
use super::failure::Failure;
use crate::duration;
use crate::exit;
use crate::figures::counted;

/// How often it is asked what is left.
const BEAT: Duration = Duration::from_millis(200);

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = format!("\
New requests for a lock are refused from now on; whoever holds a lock, or waits for one, is
served. The server stops when nothing is held, or its --drain-ms are over.

Exit codes: 0 it has stopped (--no-wait: it drains), 1 its time was over while locks were held, and
they are lost, as it has no store (a server that is stopped or killed before that is not told from
one at which nothing was held any more), 65 it refused, {}.", exit::ANY_COMMAND))]
pub struct DrainArgs {
    /// Do not wait until it has stopped
    #[arg(long)]
    no_wait: bool,
}

/// Drains the first server that answers.
pub async fn run(args: DrainArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let (mut connection, address) = connect(servers).await?;
    let meant = connection.call(&GetInfo {}).await?;
    connection.call(&Drain {}).await?;
    if args.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let (mut said, mut last) = (String::new(), Left::default());
    loop {
        match connection.call(&GetInfo {}).await {
            Ok(info) => {
                say_what_is_left(&info, &mut said);
                last = Left::of(&info);
            }
            Err(Error::Connection(_)) => match the_same(servers, &address, &meant).await {
                Some(again) => connection = again,
                None => break,
            },
            Err(error) => return Err(error.into()),
        }
        sleep(BEAT).await;
    }
    match last.is_lost() {
        true => {
            let locks = counted(last.locks, "lock was held", "locks were held");
            exit::say(&format!(
                "the server has stopped at the end of its time: {locks} and lost"
            ));
            Ok(ExitCode::from(exit::CONFLICT))
        }
        false => {
            exit::say("the server has stopped");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What the server told last.
#[derive(Default)]
struct Left {
    locks: u64,
    is_kept: bool,
    /// When its time is over.
    end: Option<Instant>,
}

impl Left {
    fn of(info: &Info) -> Self {
        let left = Duration::from_millis(info.number("draining"));
        Self {
            locks: info.number("locks"),
            is_kept: info.is_durable(),
            end: Instant::now().checked_add(left),
        }
    }

    /// Whether it stopped although locks were held, as its time was over: before that, it stops when none
    /// is, and its last answer may be from before the last release. Those that a store keeps are held again
    /// after the next start.
    fn is_lost(&self) -> bool {
        let is_over = self.end.is_some_and(|end| end <= Instant::now());
        self.locks > 0 && !self.is_kept && is_over
    }
}

/// `said` is what was said last, which is not said again.
fn say_what_is_left(info: &Info, said: &mut String) {
    let locks = counted(info.number("locks"), "lock held", "locks held");
    let waiters = counted(info.number("waiters"), "request waits", "requests wait");
    let left = format!("draining: {locks}, {waiters}");
    if *said != left {
        let within = duration::show(info.number("draining"));
        exit::say(&format!("{left}; it stops within {within}"));
        *said = left;
    }
}

/// A connection to that very run of the server, if it still answers.
async fn the_same(servers: &Servers, address: &Address, meant: &Info) -> Option<Connection> {
    let mut connection = connect_to(servers, address, DEFAULT_DEADLINE).await.ok()?;
    let found = connection.call(&GetInfo {}).await.ok()?;
    (found.get("instance") == meant.get("instance")).then_some(connection)
}
