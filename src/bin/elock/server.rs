//! Which server is meant, and how it lets this program in.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;
use elock_client::{BadAddress, Servers};

const DEFAULT: &str = "127.0.0.1:11400";

/// The password has no flag: whoever is on the machine can read the flags of all programs.
const PASSWORD: &str = "ELOCK_PASSWORD";

/// The flags that each subcommand has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub struct ServerFlags {
    /// HOST:PORT, unix:PATH or a URL: elocks://HOST:PORT is by TLS; several, separated by commas, in the
    /// order in which they are tried
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        env = "ELOCK_SERVER",
        value_name = "ADDRESS",
        default_value = DEFAULT
    )]
    server: String,
    /// Who comes; the password is in ELOCK_PASSWORD, or in the file
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        env = "ELOCK_USER",
        value_name = "NAME"
    )]
    user: Option<OsString>,
    /// A file whose first line is the password
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        env = "ELOCK_CLIENT_PASSWORD_FILE",
        value_name = "FILE"
    )]
    password_file: Option<OsString>,
    /// Trust servers with certificates that one of these has signed, in PEM form, and no others
    /// (otherwise: what the system trusts)
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        env = "ELOCK_CA",
        value_name = "FILE"
    )]
    ca: Option<OsString>,
    /// A certificate to show to a server that asks for one, in PEM form
    #[arg(
        long = "cert",
        global = true,
        hide_env_values = true,
        env = "ELOCK_CLIENT_CERT",
        value_name = "FILE"
    )]
    client_cert: Option<OsString>,
    /// Its private key (otherwise: in the same file)
    #[arg(
        long = "key",
        global = true,
        hide_env_values = true,
        env = "ELOCK_CLIENT_KEY",
        value_name = "FILE"
    )]
    client_key: Option<OsString>,
}

/// What the flags say.
#[derive(Debug)]
pub struct ServerArgs {
    /// One server or several.
    pub server: Servers,
    /// By these an `elock` that is run by this one finds the same.
    pub variables: Vec<(&'static str, OsString)>,
}

/// The flags name no server, or none that could be asked.
#[derive(Debug, thiserror::Error)]
pub enum BadServer {
    /// It is no address.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// It is seen by everyone.
    #[error(
        "whoever is on this machine sees the password in --server: set ELOCK_SERVER or {PASSWORD}, or name \
         a --password-file"
    )]
    PasswordIsShown,
    /// There is no password to be read.
    #[error("cannot read the password in {file}: {error}")]
    PasswordFile {
        /// Where.
        file: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// What it needs.
    #[error("--key is the key of a --cert")]
    KeyAlone,
    /// What it needs.
    #[error("--user needs a password: set {PASSWORD}, or name a --password-file")]
    UserAlone,
}

impl ServerFlags {
    /// Read only now, since a bad variable does not matter where there is a flag. An empty one is not
    /// set.
    pub fn read(&self) -> Result<ServerArgs, BadServer> {
        let text = match self.server.as_str() {
            "" => DEFAULT,
            text => text,
        };
        let mut servers: Servers = text.parse()?;
        if servers.has_password() && env::var_os("ELOCK_SERVER").is_none_or(|set| set != text) {
            return Err(BadServer::PasswordIsShown);
        }
        if let Some(user) = set(&self.user) {
            servers = servers.user(user.as_bytes());
        }
        let file = set(&self.password_file);
        let password = match (file, env::var_os(PASSWORD)) {
            (Some(file), _) => Some(first_line(file)?),
            (None, password) => set(&password).map(|password| password.as_bytes().to_vec()),
        };
        match password {
            Some(password) => servers = servers.password(password),
            None if self.names_a_user() && !servers.has_password() => {
                return Err(BadServer::UserAlone);
            }
            None => {}
        }
        if let Some(ca) = set(&self.ca) {
            servers = servers.ca(ca);
        }
        match (set(&self.client_cert), set(&self.client_key)) {
            (Some(cert), key) => servers = servers.client_certificate(cert, key.unwrap_or(cert)),
            (None, Some(_)) => return Err(BadServer::KeyAlone),
            (None, None) => {}
        }
        Ok(ServerArgs {
            server: servers,
            variables: self.variables(text),
        })
    }

    fn names_a_user(&self) -> bool {
        set(&self.user).is_some()
    }

    fn variables(&self, server: &str) -> Vec<(&'static str, OsString)> {
        let files = [
            ("ELOCK_USER", &self.user),
            ("ELOCK_CLIENT_PASSWORD_FILE", &self.password_file),
            ("ELOCK_CA", &self.ca),
            ("ELOCK_CLIENT_CERT", &self.client_cert),
            ("ELOCK_CLIENT_KEY", &self.client_key),
        ];
        let files = files.iter();
        let named = files.filter_map(|(name, value)| Some((*name, set(value)?.to_owned())));
        [("ELOCK_SERVER", server.into())]
            .into_iter()
            .chain(named)
            .collect()
    }
}

fn set(value: &Option<OsString>) -> Option<&OsStr> {
    value.as_deref().filter(|value| !value.is_empty())
}

fn first_line(file: &OsStr) -> Result<Vec<u8>, BadServer> {
    let text = std::fs::read(file).map_err(|error| BadServer::PasswordFile {
        file: PathBuf::from(file).display().to_string(),
        error,
    })?;
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
}
