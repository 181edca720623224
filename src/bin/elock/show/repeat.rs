//! `--watch`: the same again and again.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use clap::Args;
use elock_client::{Address, Connection, DEFAULT_DEADLINE, Servers};
use tokio::time::sleep;

use super::ask::connect_to_search;
use super::failure::Failure;
use super::output::Output;
use crate::{duration, exit};

/// The flag.
#[derive(Debug, Args)]
pub struct RepeatArgs {
    /// Show it again and again until Ctrl-C: every 2 seconds, or every SECS, which is at least 0.1
    #[arg(
        long,
        value_name = "SECS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = duration::parse
    )]
    watch: Option<Duration>,
}

/// Faster than that, a screen cannot be read.
const SHORTEST: Duration = Duration::from_millis(100);

/// A server that searches a million locks, or lets this client's requests rest, needs some time.
async fn tell_of_a_long_answer(address: &Address) -> Infallible {
    sleep(DEFAULT_DEADLINE).await;
    exit::say(&format!(
        "{address}: not all is answered within {DEFAULT_DEADLINE:?}; waiting for the rest"
    ));
    pending().await
}

/// What is shown, once or again and again.
pub trait Shown {
    /// Asks the server, and writes what it tells.
    async fn show(
        &mut self,
        connection: &mut Connection,
        address: &Address,
        output: &mut Output,
    ) -> Result<(), Failure>;

    /// Whether programs read it, so that it is no picture, not even on a terminal.
    fn is_json(&self) -> bool;
}

impl RepeatArgs {
    /// Whether it is shown again and again.
    pub fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Shows it as often as the flag says.
    pub async fn run(&self, servers: &Servers, what: &mut impl Shown) -> Result<(), Failure> {
        let Some(interval) = self.watch else {
            let (mut connection, address) = connect_to_search(servers).await?;
            let mut output = Output::stream();
            let shown = tokio::select! {
                shown = what.show(&mut connection, &address, &mut output) => shown,
                never = tell_of_a_long_answer(&address) => match never {},
            };
            // What was shown before it failed is true, too.
            output.flush()?;
            return shown;
        };
        tokio::select! {
            ended = forever(servers, what, interval.max(SHORTEST)) => ended,
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    }
}

async fn forever(
    servers: &Servers,
    what: &mut impl Shown,
    interval: Duration,
) -> Result<(), Failure> {
    let (connection, address) = connect_to_search(servers).await?;
    let mut connected = Some((connection, address));
    let mut is_first = true;
    loop {
        if connected.is_none() {
            connected = connect_to_search(servers).await.ok();
        }
        if let Some((connection, address)) = &mut connected {
            let mut output = match what.is_json() {
                true => Output::stream(),
                false => Output::frame(),
            };
            if output.columns().is_none() && !is_first && !what.is_json() {
                output.line("")?;
            }
            let shown = what.show(connection, address, &mut output).await;
            if shown.as_ref().err().is_none_or(Failure::is_enough) {
                output.flush()?;
            }
            match shown {
                Ok(()) | Err(Failure::ScreenFull) => {}
                Err(Failure::Asked(error)) => {
                    exit::say(&format!("{error}; trying again"));
                    connected = None;
                }
                Err(failure) => return Err(failure),
            }
        }
        is_first = false;
        tokio::time::sleep(interval).await;
    }
}
