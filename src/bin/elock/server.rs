//! Which server is meant.

use clap::Args;
use elock_client::Servers;

/// The flag that each subcommand has.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// HOST:PORT, unix:PATH or a URL; several, separated by commas, in the order in which they are tried
    #[arg(
        long,
        global = true,
        env = "ELOCK_SERVER",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:11400"
    )]
    pub server: Servers,
}
