//! Which server is meant.

use clap::Args;
use elock_client::{BadAddress, Servers};

const DEFAULT: &str = "127.0.0.1:11400";

/// The flag that each subcommand has.
#[derive(Debug, Args)]
pub struct ServerFlag {
    /// HOST:PORT, unix:PATH or a URL; several, separated by commas, in the order in which they are tried
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        env = "ELOCK_SERVER",
        value_name = "ADDRESS",
        default_value = DEFAULT
    )]
    server: String,
}

/// What the flag says.
#[derive(Debug)]
pub struct ServerArgs {
    /// One server or several.
    pub server: Servers,
}

impl ServerFlag {
    /// Read only now, since a bad variable does not matter where there is a flag. An empty one is not
    /// set.
    pub fn read(&self) -> Result<ServerArgs, BadAddress> {
        let text = match self.server.as_str() {
            "" => DEFAULT,
            text => text,
        };
        text.parse().map(|server| ServerArgs { server })
    }
}
