//! Which server is meant.

use clap::Args;
use elock_client::{BadAddress, Servers};

const DEFAULT: &str = "127.0.0.1:11400";

/// The flag that each subcommand has.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// HOST:PORT, unix:PATH or a URL; several, separated by commas, in the order in which they are tried
    #[arg(
        long,
        global = true,
        env = "ELOCK_SERVER",
        value_name = "ADDRESS",
        default_value = DEFAULT,
        value_parser = servers
    )]
    pub server: Servers,
}

/// An empty variable is not set.
fn servers(text: &str) -> Result<Servers, BadAddress> {
    match text {
        "" => DEFAULT.parse(),
        text => text.parse(),
    }
}
