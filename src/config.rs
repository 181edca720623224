//! Every setting: its flag, its environment variable, its default and its bounds.

use std::ffi::OsString;
use std::fmt;
#[cfg(feature = "store")]
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

#[cfg(feature = "store")]
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{Error, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};

#[cfg(feature = "auth")]
use crate::access::{Files, Trust};
#[cfg(feature = "cluster")]
pub use crate::cluster::{BadCompact, ClusterSettings, Compact};
use crate::environment;
use crate::log::{LogFilter, LogFormat};
use crate::model::{Limits, Quota};

/// The port of the eLock protocol.
pub const PORT: u16 = 11400;

const AFTER_HELP: &str = "\
By default only this machine can connect, and whoever can connect can take and watch every lock. To
serve others, name the address to listen on, and who may come in, for example
  elockd --listen 0.0.0.0:11400 --auth-file /etc/elockd/users.toml
  elockd --listen 10.0.0.5:11400 --listen unix:/run/elockd/elockd.sock --password-file /etc/elockd/password
`elockd hash-password` reads a password and prints its hash, for the file of users.
`elockd export` and `elockd import` carry locks from one store to another; their --help says how.
Every flag can also be given as the environment variable shown with it; an empty one is not set.

Try it: start elockd, then `telnet 127.0.0.1 11400` and type `help`.";

/// The settings of one server. [`Config::from_args`] checks each against its bounds.
#[derive(Debug, Clone, Parser)]
#[command(name = "elockd", version, about = "A lock server for the eLock text protocol", after_help = AFTER_HELP)]
pub struct Config {
    /// Where to listen: HOST:PORT or unix:PATH; repeat it for more than one
    /// (default: `127.0.0.1:11400`, and `[::1]:11400` where IPv6 exists)
    #[arg(
        long,
        env = "ELOCK_LISTEN",
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = plain_address
    )]
    pub listen: Vec<Address>,

    /// Where to listen for TLS: HOST:PORT; repeat it for more than one. Without --listen, nothing is
    /// listened on beside it
    #[cfg(feature = "tls")]
    #[arg(long, env = "ELOCK_TLS_LISTEN", value_name = "HOST:PORT", value_delimiter = ',', value_parser = tls_address)]
    pub tls_listen: Vec<Address>,

    /// The server's certificate for TLS, in PEM form, and behind it those by which it was signed. This
    /// and the other files of TLS are read again at SIGHUP
    #[cfg(feature = "tls")]
    #[arg(long, env = "ELOCK_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of that certificate, in PEM form, not encrypted
    #[cfg(feature = "tls")]
    #[arg(long, env = "ELOCK_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Let in only those TLS clients that have a certificate signed by one of these, in PEM form
    #[cfg(feature = "tls")]
    #[arg(long, env = "ELOCK_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,

    /// Where HTTP tells operators how the server is: HOST:PORT or unix:PATH, such as 127.0.0.1:11480;
    /// repeat it for more than one (default: nowhere)
    #[cfg(feature = "admin")]
    #[arg(
        long,
        env = "ELOCK_ADMIN",
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = plain_address
    )]
    pub admin: Vec<Address>,

    /// The password of the user `admin`, who may see and do everything over HTTP: what stands in
    /// this file. The users of --auth-file may what their rights say
    #[cfg(all(feature = "admin", feature = "auth"))]
    #[arg(long, env = "ELOCK_ADMIN_PASSWORD_FILE", value_name = "FILE")]
    pub admin_password_file: Option<PathBuf>,

    /// The users who may connect, each with a password, rights and prefixes of keys; read again at
    /// SIGHUP (default: whoever connects may do everything)
    #[cfg(feature = "auth")]
    #[arg(long, env = "ELOCK_AUTH_FILE", value_name = "FILE")]
    pub auth_file: Option<PathBuf>,

    /// One password, with which one may do everything: what stands in this file
    #[cfg(feature = "auth")]
    #[arg(long, env = "ELOCK_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Connections from NETWORK, or those of unix sockets (`unix=USER`), are USER's without a
    /// password: for clients that cannot send one; repeat it for more
    #[cfg(feature = "auth")]
    #[arg(
        long,
        env = "ELOCK_TRUST",
        value_name = "NETWORK=USER",
        value_delimiter = ','
    )]
    pub trust: Vec<Trust>,

    /// Listen on addresses that other machines reach although nobody is asked for a password
    #[arg(long, env = "ELOCK_ALLOW_ANONYMOUS", value_parser = yes_or_no)]
    pub allow_anonymous: bool,

    /// Answer as another server where the two differ and code may rely on it
    #[arg(
        long,
        env = "ELOCK_COMPAT",
        value_name = "SERVER",
        default_value = "original"
    )]
    pub compat: Compat,

    /// Keep locks and sessions in this directory, so that they survive a restart, and answer only
    /// when they are on disk (default: in memory only)
    #[cfg(feature = "store")]
    #[arg(long, env = "ELOCK_DATA_DIR", value_name = "DIR", value_parser = OsStringValueParser::new().try_map(directory))]
    pub data_dir: Option<PathBuf>,

    /// The settings of a server on etcd, which has others beside it.
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub cluster: ClusterSettings,

    /// How long a session's locks outlive its connection, unless it says `set_timeout`
    #[arg(long, env = "ELOCK_GRACE_MS", value_name = "MS", default_value = "30000", allow_negative_numbers = true, value_parser = number::<u64>(0, TEN_YEARS_MS))]
    pub grace_ms: u64,

    /// The longest `set_timeout`
    #[arg(long, env = "ELOCK_MAX_GRACE_MS", value_name = "MS", default_value = "86400000", allow_negative_numbers = true, value_parser = number::<u64>(0, TEN_YEARS_MS))]
    pub max_grace_ms: u64,

    /// The longest time that a lock is held without a sign of life: every grant begins with such a
    /// lease, and `expire` renews it; 0: no limit
    #[arg(long, alias = "max-hold", env = "ELOCK_MAX_HOLD_MS", value_name = "MS", default_value = "0", allow_negative_numbers = true, value_parser = number::<u64>(0, TEN_YEARS_MS))]
    pub max_hold_ms: u64,

    /// The longest line, and so the longest key, in bytes
    #[arg(long, env = "ELOCK_MAX_LINE", value_name = "BYTES", default_value = "4096", allow_negative_numbers = true, value_parser = number::<u32>(64, 1 << 20))]
    pub max_line: u32,

    /// Connections at one time; eight more may come by unix sockets
    #[arg(long, env = "ELOCK_MAX_CONNECTIONS", value_name = "N", default_value = "10000", allow_negative_numbers = true, value_parser = number::<u32>(1, 10_000_000))]
    pub max_connections: u32,

    /// Locks in all, held or waited for; a shared one counts once for each holder
    #[arg(long, env = "ELOCK_MAX_LOCKS", value_name = "N", default_value = "2000000", allow_negative_numbers = true, value_parser = number::<u32>(1, u32::MAX.into()))]
    pub max_locks: u32,

    /// Locks held at one time by one session
    #[arg(long, env = "ELOCK_MAX_SESSION_LOCKS", value_name = "N", default_value = "1000000", allow_negative_numbers = true, value_parser = number::<u32>(1, u32::MAX.into()))]
    pub max_session_locks: u32,

    /// Keys in one `lock_all`
    #[arg(long, env = "ELOCK_MAX_REQUEST_KEYS", value_name = "N", default_value = "64", allow_negative_numbers = true, value_parser = number::<u32>(1, 10_000))]
    pub max_request_keys: u32,

    /// Requests that wait for one key
    #[arg(long, env = "ELOCK_MAX_KEY_WAITERS", value_name = "N", default_value = "10000", allow_negative_numbers = true, value_parser = number::<u32>(1, u32::MAX.into()))]
    pub max_key_waiters: u32,

    /// Disconnected sessions that are kept for their grace period
    #[arg(
        long,
        env = "ELOCK_MAX_GRACE_SESSIONS",
        value_name = "N",
        default_value = "100000",
        allow_negative_numbers = true,
        value_parser = number::<u32>(0, u32::MAX.into())
    )]
    pub max_grace_sessions: u32,

    /// Connections of one address at one time; 0: no bound, as for the next four. An IPv6 address is its
    /// network of 64 bits
    #[arg(
        long,
        env = "ELOCK_MAX_ADDRESS_CONNECTIONS",
        value_name = "N",
        default_value = "0",
        allow_negative_numbers = true,
        value_parser = number::<u32>(0, u32::MAX.into())
    )]
    pub max_address_connections: u32,

    /// Disconnected sessions of one address that are kept for their grace period
    #[arg(
        long,
        env = "ELOCK_MAX_ADDRESS_GRACE_SESSIONS",
        value_name = "N",
        default_value = "0",
        allow_negative_numbers = true,
        value_parser = number::<u32>(0, u32::MAX.into())
    )]
    pub max_address_grace_sessions: u32,

    /// Locks held by the sessions of one address, or by owners for which these took them
    #[arg(
        long,
        env = "ELOCK_MAX_ADDRESS_LOCKS",
        value_name = "N",
        default_value = "0",
        allow_negative_numbers = true,
        value_parser = number::<u32>(0, u32::MAX.into())
    )]
    pub max_address_locks: u32,

    /// Requests of one address that wait
    #[arg(
        long,
        env = "ELOCK_MAX_ADDRESS_WAITERS",
        value_name = "N",
        default_value = "0",
        allow_negative_numbers = true,
        value_parser = number::<u32>(0, u32::MAX.into())
    )]
    pub max_address_waiters: u32,

    /// Commands of one address in a second; more have to wait
    #[arg(
        long,
        env = "ELOCK_MAX_ADDRESS_COMMANDS",
        value_name = "N",
        default_value = "0",
        allow_negative_numbers = true,
        value_parser = number::<u32>(0, u32::MAX.into())
    )]
    pub max_address_commands: u32,

    /// Answers kept for a client that does not read them, before its commands have to wait
    #[arg(long, env = "ELOCK_MAX_UNSENT", value_name = "BYTES", default_value = "65536", allow_negative_numbers = true, value_parser = number::<u32>(1, 1 << 30))]
    pub max_unsent: u32,

    /// How long a client may leave its answers unread before its connection is ended
    #[arg(long, env = "ELOCK_UNSENT_TIMEOUT_MS", value_name = "MS", default_value = "30000", allow_negative_numbers = true, value_parser = number::<u32>(1, u32::MAX.into()))]
    pub unsent_timeout_ms: u32,

    /// What a client may send ahead of the answer to a request that waits, before that request is
    /// refused
    #[arg(long, env = "ELOCK_MAX_AHEAD", value_name = "BYTES", default_value = "65536", allow_negative_numbers = true, value_parser = number::<u32>(1, 1 << 30))]
    pub max_ahead: u32,

    /// How soon a peer that vanished without a word counts as disconnected; 0: never
    #[cfg(feature = "keepalive")]
    #[arg(long, env = "ELOCK_KEEPALIVE_SECS", value_name = "SECONDS", default_value = "60", allow_negative_numbers = true, value_parser = number::<u32>(0, 86_400))]
    pub keepalive_secs: u32,

    /// How long a drain (the command `drain`, or SIGUSR1) waits until no lock is held, before the stop
    #[arg(long, env = "ELOCK_DRAIN_MS", value_name = "MS", default_value = "60000", allow_negative_numbers = true, value_parser = number::<u64>(0, TEN_YEARS_MS))]
    pub drain_ms: u64,

    /// How long a stop may take
    #[arg(
        long,
        env = "ELOCK_SHUTDOWN_MS",
        value_name = "MS",
        default_value = "5000",
        allow_negative_numbers = true,
        value_parser = number::<u32>(0, u32::MAX.into())
    )]
    pub shutdown_ms: u32,

    /// Worker threads; 0: half of the processor cores, rounded up
    #[arg(long, env = "ELOCK_THREADS", value_name = "N", default_value = "0", allow_negative_numbers = true, value_parser = number::<u16>(0, 1024))]
    pub threads: u16,

    /// What to log: off, error, warn, info, debug or trace; by module: elock::store=debug,info.
    /// Errors are logged always, also with off
    #[arg(long, env = "ELOCK_LOG", value_name = "FILTER", default_value = "info")]
    pub log: LogFilter,

    /// How to log, to standard error
    #[arg(
        long,
        env = "ELOCK_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,

    /// Do not serve, but ask the server at ADDRESS for its `stats`: exit code 0 if it answers within
    /// 2 s. Without ADDRESS: asks at all that are listened on, or else at 127.0.0.1:11400; tls://HOST:PORT
    /// asks by TLS, whatever the certificate
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1)]
    pub check: Option<Option<Address>>,
}

/// Why a text is no number of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a whole number from {least} to {most}")]
pub(crate) struct BadNumber {
    least: u64,
    most: u64,
}

/// The parser of every setting that is a number.
pub(crate) fn number<T: TryFrom<u64>>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<T, BadNumber> + Clone + Send + Sync + 'static {
    move |text| {
        let number: Option<u64> = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or(BadNumber { least, most })
    }
}

/// Why a text is neither yes nor no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected true or false")]
pub(crate) struct NeitherOfBoth;

pub(crate) fn yes_or_no(text: &str) -> Result<bool, NeitherOfBoth> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err(NeitherOfBoth),
    }
}

/// Ten years: a bound that keeps every point in time representable.
pub(crate) const TEN_YEARS_MS: u64 = 10 * 365 * 24 * 3600 * 1000;

/// The server to answer like, where two servers differ and code may rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compat {
    /// The original server, in Erlang.
    Original,
    /// The NodeJS server: `unlock` of a free key is `200`, `quit` frees the locks at once, and equal
    /// values of `lock_value` are let in past those who wait.
    Nodejs,
}

/// An address to listen at or to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`; a host name means all its addresses.
    Tcp(String),
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `tls://HOST:PORT`, the same as TCP, with TLS.
    #[cfg(feature = "tls")]
    Tls(String),
}

/// Why a text is no [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is neither of both.
    #[error("expected HOST:PORT, such as 0.0.0.0:11400 or [::1]:11400, or unix:PATH")]
    Form,
    /// There is no such port.
    #[error("expected a port from 0 to 65535 behind the last colon")]
    Port,
    /// TLS is for other machines.
    #[error("TLS is spoken by TCP only: expected HOST:PORT, such as 0.0.0.0:11400 or [::1]:11400")]
    TlsByUnix,
    /// It is one for TLS, where there is none.
    #[error("there is no TLS here: expected HOST:PORT or unix:PATH; --tls-listen is for TLS")]
    Tls,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        // In a list, spaces may stand beside the commas.
        let text = text.trim();
        match text.strip_prefix("unix:") {
            Some("") => return Err(BadAddress::Form),
            Some(path) => return Ok(Self::Unix(path.into())),
            None => {}
        }
        #[cfg(feature = "tls")]
        if let Some(text) = text.strip_prefix("tls://") {
            return host_and_port(text).map(Self::Tls);
        }
        host_and_port(text).map(Self::Tcp)
    }
}

pub(crate) fn host_and_port(text: &str) -> Result<String, BadAddress> {
    let (host, port) = text.rsplit_once(':').ok_or(BadAddress::Form)?;
    let bare_ipv6 = host.contains(':') && !host.starts_with('[');
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match host.is_empty() || bare_ipv6 || !is_number {
        true => Err(BadAddress::Form),
        false if port.parse::<u16>().is_err() => Err(BadAddress::Port),
        false => Ok(text.to_owned()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            #[cfg(feature = "tls")]
            Self::Tls(address) => write!(f, "tls://{address}"),
        }
    }
}

/// An address of `--listen` or `--admin`.
fn plain_address(text: &str) -> Result<Address, BadAddress> {
    match text.parse()? {
        #[cfg(feature = "tls")]
        Address::Tls(_) => Err(BadAddress::Tls),
        address => Ok(address),
    }
}

/// An address of `--tls-listen`.
#[cfg(feature = "tls")]
fn tls_address(text: &str) -> Result<Address, BadAddress> {
    match text.parse()? {
        Address::Tcp(address) | Address::Tls(address) => Ok(Address::Tls(address)),
        Address::Unix(_) => Err(BadAddress::TlsByUnix),
    }
}

/// Why a text is no path of a directory.
#[cfg(feature = "store")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a directory, such as /var/lib/elockd")]
struct NoPath;

#[cfg(feature = "store")]
fn directory(path: OsString) -> Result<PathBuf, NoPath> {
    match path.is_empty() {
        true => Err(NoPath),
        false => Ok(path.into()),
    }
}

/// Where locks and sessions are kept.
#[cfg(feature = "store")]
#[derive(Debug, Clone)]
pub(crate) enum Kept {
    /// In this directory.
    Directory(PathBuf),
    /// In etcd.
    #[cfg(feature = "cluster")]
    Etcd(Box<ClusterSettings>),
}

impl Config {
    /// Reads the flags and the environment of this process. An error in them, `--help` and
    /// `--version` end the process with a message.
    pub fn from_args() -> Self {
        let args: Vec<_> = std::env::args_os().collect();
        match Self::try_from_args(&args) {
            Ok(config) => config,
            Err(error) => error.exit(),
        }
    }

    fn try_from_args(args: &[OsString]) -> Result<Self, Error> {
        let mut command = Self::command();
        let matches = environment::parse(&command, args)?;
        let config = Self::from_arg_matches(&matches)?;
        if config.grace_ms > config.max_grace_ms {
            let given = |id, value| environment::as_given(&command, &matches, id, value);
            let grace = given("grace_ms", config.grace_ms);
            let max_grace = given("max_grace_ms", config.max_grace_ms);
            let message = format!("{grace} is above {max_grace}");
            return Err(command.error(ErrorKind::ValueValidation, message));
        }
        #[cfg(feature = "tls")]
        if let Some(message) = config.incomplete_tls(|id, file| {
            environment::as_given(&command, &matches, id, file.display())
        }) {
            return Err(command.error(ErrorKind::ValueValidation, message));
        }
        // Or a socket from systemd may be that of the admin listener.
        #[cfg(all(feature = "admin", feature = "auth"))]
        if let Some(file) = &config.admin_password_file
            && config.admin.is_empty()
            && std::env::var_os("LISTEN_FDS").is_none()
        {
            let given =
                environment::as_given(&command, &matches, "admin_password_file", file.display());
            let message = format!("{given} means nothing without --admin");
            return Err(command.error(ErrorKind::ValueValidation, message));
        }
        #[cfg(feature = "auth")]
        if !config.trust.is_empty() && !config.has_users() {
            let message =
                "--trust names users, and there is neither --auth-file nor --password-file";
            return Err(command.error(ErrorKind::ValueValidation, message));
        }
        #[cfg(feature = "cluster")]
        {
            let given = |id: &str| environment::given(&command, &matches, id);
            let cluster = &config.cluster;
            let message = cluster
                .contradiction(given)
                .or_else(|| cluster.lacks_address(given));
            if let Some(message) = message {
                return Err(command.error(ErrorKind::ValueValidation, message));
            }
        }
        // Whoever wants locks to survive a restart, or nobody but users, must not get less.
        for (variable, lacks) in [
            #[cfg(not(feature = "store"))]
            ("ELOCK_DATA_DIR", "a store"),
            #[cfg(not(feature = "cluster"))]
            ("ELOCK_ETCD", "etcd"),
            #[cfg(not(feature = "auth"))]
            ("ELOCK_AUTH_FILE", "users"),
            #[cfg(not(feature = "auth"))]
            ("ELOCK_PASSWORD_FILE", "users"),
        ] as [(&str, &str); _]
        {
            if std::env::var_os(variable).is_some_and(|value| !value.is_empty()) {
                let message =
                    format!("{variable} is set, and this elockd was built without {lacks}");
                return Err(command.error(ErrorKind::ValueValidation, message));
            }
        }
        Ok(config)
    }

    /// Where the flags and the environment say that locks are kept, by a command that has all settings of a
    /// server among others, and what it has found.
    #[cfg(feature = "store")]
    pub(crate) fn where_kept(
        mut command: clap::Command,
        args: &[OsString],
    ) -> Result<(Kept, clap::ArgMatches), Error> {
        let matches = environment::parse(&command, args)?;
        let config = Self::from_arg_matches(&matches)?;
        #[cfg(feature = "cluster")]
        {
            let given = |id: &str| environment::given(&command, &matches, id);
            if let Some(message) = config.cluster.contradiction(given) {
                return Err(command.error(ErrorKind::ValueValidation, message));
            }
            if let Some(settings) = config.cluster() {
                return Ok((Kept::Etcd(Box::new(settings.clone())), matches));
            }
        }
        match config.data_dir {
            Some(path) => Ok((Kept::Directory(path), matches)),
            None => {
                let message = "which locks? --data-dir or --etcd says where they are kept";
                Err(command.error(ErrorKind::MissingRequiredArgument, message))
            }
        }
    }

    /// What is wrong with the settings of TLS, taken together. `as_given` shows one with its value.
    #[cfg(feature = "tls")]
    fn incomplete_tls(&self, as_given: impl Fn(&str, &PathBuf) -> String) -> Option<String> {
        let files = [
            ("tls_cert", &self.tls_cert),
            ("tls_key", &self.tls_key),
            ("tls_client_ca", &self.tls_client_ca),
        ];
        if self.tls_listen.is_empty() {
            let pointless = files
                .iter()
                .find_map(|(id, file)| Some((*id, file.as_ref()?)));
            let (id, file) = pointless?;
            let given = as_given(id, file);
            return Some(format!("{given} means nothing without --tls-listen"));
        }
        let is_complete = self.tls_cert.is_some() && self.tls_key.is_some();
        (!is_complete).then(|| "--tls-listen needs --tls-cert and --tls-key".to_owned())
    }

    /// All addresses to listen on, with TLS and without. If there are none, it is the default: whoever
    /// asks for TLS alone gets no port without it.
    pub fn addresses(&self) -> Vec<Address> {
        #[cfg(feature = "tls")]
        return [&self.listen[..], &self.tls_listen[..]].concat();
        #[cfg(not(feature = "tls"))]
        self.listen.clone()
    }

    /// The bounds of one address.
    pub(crate) fn address_quota(&self) -> Quota {
        let bound = |setting: u32| (setting > 0).then_some(setting);
        Quota {
            connections: bound(self.max_address_connections),
            grace_sessions: bound(self.max_address_grace_sessions),
            locks: bound(self.max_address_locks),
            waiters: bound(self.max_address_waiters),
            commands: bound(self.max_address_commands),
        }
    }

    /// Whether anybody is asked who it is.
    pub(crate) fn has_users(&self) -> bool {
        #[cfg(feature = "auth")]
        let has_users = self.users().are_given();
        #[cfg(not(feature = "auth"))]
        let has_users = false;
        has_users
    }

    /// Whether operators are asked who they are: by the users, or by a password of their own.
    pub(crate) fn has_operators(&self) -> bool {
        #[cfg(all(feature = "admin", feature = "auth"))]
        if self.admin_password_file.is_some() {
            return true;
        }
        self.has_users()
    }

    /// Where the users stand.
    #[cfg(feature = "auth")]
    pub(crate) fn users(&self) -> Files {
        Files {
            users: self.auth_file.clone(),
            password: self.password_file.clone(),
            trust: self.trust.clone(),
            #[cfg(feature = "admin")]
            admin: self.admin_password_file.clone(),
            #[cfg(not(feature = "admin"))]
            admin: None,
        }
    }

    /// The addresses that `--check` asks; `None` if the program shall serve.
    pub fn to_check(&self) -> Option<Vec<Address>> {
        let listened = self.addresses();
        Some(match self.check.as_ref()? {
            Some(address) => vec![address.clone()],
            None if listened.is_empty() => vec![Address::Tcp(format!("127.0.0.1:{PORT}"))],
            None => listened,
        })
    }

    /// The bounds of the lock table.
    pub fn limits(&self) -> Limits {
        Limits {
            locks: self.max_locks as usize,
            locks_per_session: self.max_session_locks as usize,
            waiters_per_key: self.max_key_waiters as usize,
            sessions_in_grace: self.max_grace_sessions as usize,
            max_hold: match self.max_hold_ms {
                0 => None,
                ms => Some(Duration::from_millis(ms)),
            },
            equal_values_pass: self.compat == Compat::Nodejs,
        }
    }

    /// The directory of the store, if there is one.
    #[cfg(feature = "store")]
    pub fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// The settings of a server on etcd, if this is one.
    #[cfg(feature = "cluster")]
    pub fn cluster(&self) -> Option<&ClusterSettings> {
        (!self.cluster.etcd.is_empty()).then_some(&self.cluster)
    }

    /// The variables of this process whose names begin with `ELOCK_` and that are neither settings
    /// nor a client's: typing errors, most likely. In the order of their names, and without those
    /// that are empty, and so not set.
    pub fn unknown_variables() -> Vec<String> {
        environment::unknown(&Self::command())
    }

    /// How many threads run connections. Not one for each core: most of the cost of a command is
    /// spent in the kernel, for either end of the connection, and workers that leave no core to the
    /// kernel wake and displace each other. On two cores, shared with the clients, one worker
    /// answered 144,000 commands a second, and two answered 114,000.
    pub fn worker_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
            threads => threads.into(),
        }
    }

    /// How many connections of HTTP there may be at one time.
    #[cfg(feature = "fd-limit")]
    pub(crate) fn admin_connections(&self) -> usize {
        #[cfg(feature = "admin")]
        if !self.admin.is_empty() {
            return crate::admin::SEATS;
        }
        0
    }

    /// The grace period of a new session.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }

    /// How long a client may leave its answers unread.
    pub fn unsent_timeout(&self) -> Duration {
        Duration::from_millis(self.unsent_timeout_ms.into())
    }

    /// How long a drain waits until no lock is held.
    pub fn drain_time(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    /// How long a stop may take.
    pub fn shutdown_time(&self) -> Duration {
        Duration::from_millis(self.shutdown_ms.into())
    }
}

impl Default for Config {
    /// The settings of a server without flags; the environment is not read.
    fn default() -> Self {
        let command = Self::command().mut_args(|argument| argument.env(None::<&str>));
        let matches = command.get_matches_from(["elockd"]);
        match Self::from_arg_matches(&matches) {
            Ok(config) => config,
            Err(error) => error.exit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_environment_names_and_defaults_are_consistent() {
        Config::command().debug_assert();
        for argument in Config::command().get_arguments() {
            let name = argument.get_id().as_str();
            let expected = match name {
                "check" | "help" | "version" => None,
                _ => Some(format!("ELOCK_{}", name.to_uppercase())),
            };
            let actual = argument
                .get_env()
                .map(|env| env.to_string_lossy().into_owned());
            assert_eq!(actual, expected, "--{name}");
        }
    }

    #[test]
    fn addresses_are_hosts_with_ports_or_unix_paths() {
        for text in ["127.0.0.1:0", "[::1]:11400", "localhost:65535"] {
            assert_eq!(text.parse(), Ok(Address::Tcp(text.to_owned())));
        }
        assert_eq!("unix:/a b".parse(), Ok(Address::Unix("/a b".into())));
        for bad in ["", ":1", "11400", "host", "host:", "::1:1", "unix:"] {
            assert_eq!(bad.parse::<Address>(), Err(BadAddress::Form), "{bad}");
        }
        assert_eq!("host:65536".parse::<Address>(), Err(BadAddress::Port));
    }

    /// README promises it, so no number may have a parser of its own.
    #[test]
    fn the_error_for_a_bad_number_tells_the_range() {
        let command = Config::command();
        let is_number = |value: &str| value.bytes().all(|byte| byte.is_ascii_digit());
        let numbers = command.get_arguments().filter(|argument| {
            let default = argument.get_default_values().first();
            default.is_some_and(|value| is_number(&value.to_string_lossy()))
        });
        let flags: Vec<_> = numbers.filter_map(|one| one.get_long()).collect();
        assert!(flags.len() > 20, "{flags:?}");
        for flag in flags {
            for bad in ["-1", "1.5", "abc", "", " 1", "99999999999999999999"] {
                let flag = format!("--{flag}");
                let error = Config::try_parse_from(["elockd", &flag, bad]).expect_err(bad);
                let told = error.to_string();
                assert!(
                    told.contains("expected a whole number from ") && told.contains(&flag),
                    "{flag} {bad}: {told}"
                );
            }
        }
    }

    #[test]
    fn values_outside_their_bounds_are_refused() {
        let parse = |flags: &[&str]| Config::try_parse_from([&["elockd"], flags].concat());
        assert!(parse(&["--max-line", "64"]).is_ok());
        for bad in [
            ["--max-line", "63"],
            ["--max-connections", "0"],
            ["--max-locks", "-1"],
            ["--grace-ms", "1s"],
            ["--listen", "nowhere"],
            ["--compat", "redis"],
            ["--log", "elock=loudly"],
            ["--log-format", "xml"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}
