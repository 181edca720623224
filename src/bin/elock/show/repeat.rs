//! `--watch`: the same again and again.

use std::pin::pin;
use std::time::Duration;

use clap::Args;
use elock_client::{Address, Connection, DEFAULT_DEADLINE, Servers};
use tokio::time::timeout;

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
            let shown = show(what, &mut connection, &address, &mut output).await;
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

/// Shows it, and says so if that takes long: a search may, and so may a server that lets requests rest.
async fn show(
    what: &mut impl Shown,
    connection: &mut Connection,
    address: &Address,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut showing = pin!(what.show(connection, address, output));
    if let Ok(shown) = timeout(DEFAULT_DEADLINE, showing.as_mut()).await {
        return shown;
    }
    exit::say(&format!(
        "{address} has not answered all for {DEFAULT_DEADLINE:?}: it is busy, or lets requests of this address \
         or user rest; waiting for it"
    ));
    showing.await
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
            let shown = show(what, connection, address, &mut output).await;
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
