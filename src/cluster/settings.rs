//! The settings of a server that keeps its locks in etcd, beside others that do.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Command};
use http::Uri;

use super::leadership::LONGEST_TTL_SECS;
use crate::config::{Address, TEN_YEARS_MS, host_and_port, number, yes_or_no};
use crate::secret_file;
#[cfg(feature = "tls")]
use crate::store::etcd::TlsFiles;
use crate::store::etcd::{Access, BadAccess, User};

/// What only servers on an etcd cluster have.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Several servers on etcd")]
pub struct ClusterSettings {
    /// Keep locks and sessions in the etcd cluster at these URLs, with other servers that stand in for this
    /// one; repeat it for more than one. Needs --advertise, or --no-lead
    #[arg(long, env = "ELOCK_ETCD", value_name = "URL", value_delimiter = ',', value_parser = url)]
    pub etcd: Vec<String>,

    /// Where the other servers reach this one: HOST:PORT
    #[arg(long, env = "ELOCK_ADVERTISE", value_name = "HOST:PORT", value_parser = advertised)]
    pub advertise: Option<String>,

    /// Where to listen for the other servers: HOST:PORT (default: at the address of --advertise)
    #[arg(long, env = "ELOCK_CLUSTER_LISTEN", value_name = "HOST:PORT", value_parser = tcp)]
    pub cluster_listen: Option<Address>,

    /// What this cluster's keys in etcd begin with, the same on all its servers
    #[arg(long, env = "ELOCK_ETCD_NAMESPACE", value_name = "PATH", default_value = "/elock", value_parser = namespace)]
    pub etcd_namespace: String,

    /// How long the leader may be silent before another leads, in seconds; best the same on all servers
    #[arg(long, env = "ELOCK_LEAD_TTL_SECS", value_name = "SECONDS", default_value = "2", allow_negative_numbers = true, value_parser = number::<u32>(1, LONGEST_TTL_SECS))]
    pub lead_ttl_secs: u32,

    /// Never lead: pass clients on to the server that does
    #[arg(long, env = "ELOCK_NO_LEAD", value_parser = yes_or_no)]
    pub no_lead: bool,

    /// How long a new connection waits for a leader while there is none, and is then told `503 No leader`
    #[arg(long, env = "ELOCK_HOLD_MS", value_name = "MS", default_value = "10000", allow_negative_numbers = true, value_parser = number::<u64>(0, TEN_YEARS_MS))]
    pub hold_ms: u64,

    /// How often the leader has etcd forget its history, such as 30s or 5m; off where others use this etcd,
    /// too, and need it
    #[arg(
        long,
        env = "ELOCK_ETCD_COMPACT",
        value_name = "TIME",
        default_value = "30s"
    )]
    pub etcd_compact: Compact,

    /// The certificates by which etcd's are signed, in PEM form (default: those that the system trusts)
    #[cfg(feature = "tls")]
    #[arg(long, env = "ELOCK_ETCD_CA", value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,

    /// The certificate that etcd lets in, in PEM form
    #[cfg(feature = "tls")]
    #[arg(long, env = "ELOCK_ETCD_CERT", value_name = "FILE")]
    pub etcd_cert: Option<PathBuf>,

    /// The private key of that certificate, in PEM form, not encrypted
    #[cfg(feature = "tls")]
    #[arg(long, env = "ELOCK_ETCD_KEY", value_name = "FILE")]
    pub etcd_key: Option<PathBuf>,

    /// The user of etcd, where it has users
    #[arg(long, env = "ELOCK_ETCD_USER", value_name = "NAME")]
    pub etcd_user: Option<String>,

    /// That user's password: what stands in this file
    #[arg(long, env = "ELOCK_ETCD_PASSWORD_FILE", value_name = "FILE")]
    pub etcd_password_file: Option<PathBuf>,
}

/// Settings for nothing but TLS.
const OF_TLS: [&str; 3] = ["etcd_ca", "etcd_cert", "etcd_key"];

/// Settings that belong together: the first means nothing without the second.
const PAIRS: [(&str, &str); 4] = [
    ("etcd_cert", "etcd_key"),
    ("etcd_key", "etcd_cert"),
    ("etcd_user", "etcd_password_file"),
    ("etcd_password_file", "etcd_user"),
];

impl ClusterSettings {
    /// What is wrong with the settings, taken together. `given` shows the one of this field as it was given,
    /// if it was, and is not its default.
    pub(crate) fn contradiction(&self, given: impl Fn(&str) -> Option<String>) -> Option<String> {
        let Some(etcd) = given("etcd") else {
            let all = Self::augment_args(Command::new(""));
            let mut fields = all.get_arguments().map(|one| one.get_id().as_str());
            let given = fields.find_map(given)?;
            return Some(format!("{given} means nothing without --etcd"));
        };
        if let Some(data_dir) = given("data_dir") {
            return Some(format!(
                "{etcd} and {data_dir} exclude each other, as locks are kept in one place; an empty \
                 ELOCK_DATA_DIR is not set"
            ));
        }
        self.contradiction_of_access(&etcd, given)
    }

    /// That a server on etcd could lead, and nobody knows where it is.
    pub(crate) fn lacks_address(&self, given: impl Fn(&str) -> Option<String>) -> Option<String> {
        let etcd = given("etcd").filter(|_| self.advertise.is_none() && !self.no_lead)?;
        Some(format!(
            "{etcd} needs --advertise HOST:PORT, where the other servers reach this one, or --no-lead"
        ))
    }

    /// Of those by which etcd is reached.
    fn contradiction_of_access(
        &self,
        etcd: &str,
        given: impl Fn(&str) -> Option<String>,
    ) -> Option<String> {
        for (one, other) in PAIRS {
            if let (Some(one), None) = (given(one), given(other)) {
                let other = other.replace('_', "-");
                return Some(format!("{one} means nothing without --{other}"));
            }
        }
        let of_tls = OF_TLS.iter().find_map(|field| given(field))?;
        // Or part of the calls would go in the clear, unnoticed.
        let all_encrypted = self.etcd.iter().all(|url| is_encrypted(url));
        (!all_encrypted)
            .then(|| format!("{of_tls} is for https:// URLs alone, and there is {etcd}"))
    }

    /// How etcd is reached. Reads the files of the settings. Blocks.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or has something else in it.
    pub(crate) fn access(&self) -> Result<Access, BadAccess> {
        let user = match (&self.etcd_user, &self.etcd_password_file) {
            (Some(name), Some(file)) => Some(User::new(name.clone(), password(file)?)),
            _ => None,
        };
        #[cfg(feature = "tls")]
        let tls = TlsFiles {
            ca: self.etcd_ca.clone(),
            own: self.etcd_cert.clone().zip(self.etcd_key.clone()),
        };
        #[cfg(feature = "tls")]
        {
            self.etcd_key
                .iter()
                .for_each(|key| secret_file::warn_of_readers(key));
            // Later they are read for each connection: what is wrong with them is told here.
            tls.load()?;
        }
        Ok(Access {
            urls: self.etcd.clone(),
            #[cfg(feature = "tls")]
            tls,
            user,
        })
    }

    /// Where to listen for the other servers; `None` for a server that never leads.
    pub fn listens_at(&self) -> Option<Address> {
        let advertised = || self.advertise.clone().map(Address::Tcp);
        self.cluster_listen.clone().or_else(advertised)
    }

    /// How long a leader's lease is.
    pub(crate) fn lead_ttl(&self) -> Duration {
        Duration::from_secs(self.lead_ttl_secs.into())
    }

    /// How long a new connection waits for a leader.
    pub(crate) fn hold(&self) -> Duration {
        Duration::from_millis(self.hold_ms)
    }
}

fn is_encrypted(url: &str) -> bool {
    url.starts_with("https://")
}

fn password(file: &Path) -> Result<String, BadAccess> {
    let bad = |why: String| BadAccess::Password {
        file: file.to_owned(),
        why,
    };
    let bytes = secret_file::read(file).map_err(|error| bad(error.to_string()))?;
    let password = secret_file::only_line(&bytes)
        .ok_or_else(|| bad("there is more than one line".to_owned()))?;
    match std::str::from_utf8(password) {
        Ok("") => Err(bad("the password is empty".to_owned())),
        Ok(password) => Ok(password.to_owned()),
        Err(_) => Err(bad("the password is not UTF-8".to_owned())),
    }
}

/// How often etcd's history is compacted; `None`: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compact(pub Option<Duration>);

/// Why a text is no such time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a time from 1s to 24h, such as 30s or 5m, or off")]
pub struct BadCompact;

impl FromStr for Compact {
    type Err = BadCompact;

    fn from_str(text: &str) -> Result<Self, BadCompact> {
        if text == "off" {
            return Ok(Self(None));
        }
        let unit = |&(unit, secs): &(&str, u32)| Some((text.strip_suffix(unit)?, secs));
        let (number, secs) = [("s", 1), ("m", 60), ("h", 3600)]
            .iter()
            .find_map(unit)
            .ok_or(BadCompact)?;
        // `parse` would take a sign.
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        let number: Option<u32> = number.parse().ok().filter(|_| is_number);
        let secs = number.and_then(|number| number.checked_mul(secs));
        match secs {
            Some(secs @ 1..=86_400) => Ok(Self(Some(Duration::from_secs(secs.into())))),
            _ => Err(BadCompact),
        }
    }
}

/// Why a text is no address or name of the cluster's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Bad {
    #[error("expected http://HOST:PORT, https://HOST:PORT or HOST:PORT, such as 10.0.0.5:2379")]
    Url,
    #[cfg(not(feature = "tls"))]
    #[error("this elockd was built without TLS: expected http://HOST:PORT or HOST:PORT")]
    Tls,
    #[error("expected HOST:PORT by which other machines reach this one, such as 10.0.0.5:11401")]
    Advertised,
    #[error("every address of this machine is none that others can reach: name one of them")]
    Wildcard,
    #[error("expected HOST:PORT, such as 0.0.0.0:11401 or [::]:11401")]
    Tcp,
    #[error("expected a path such as /elock, with a slash at its beginning and none at its end")]
    Namespace,
}

/// A node of etcd, as `http://HOST:PORT` or `https://HOST:PORT`.
fn url(text: &str) -> Result<String, Bad> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    match scheme {
        "http" => {}
        #[cfg(feature = "tls")]
        "https" => {}
        #[cfg(not(feature = "tls"))]
        "https" => return Err(Bad::Tls),
        _ => return Err(Bad::Url),
    }
    let authority = host_and_port(rest.strip_suffix('/').unwrap_or(rest));
    // A name and a password in it would be seen by every user of the machine.
    let authority = authority.ok().filter(|authority| !authority.contains('@'));
    let url = format!("{scheme}://{}", authority.ok_or(Bad::Url)?);
    url.parse::<Uri>().map(|_| url).map_err(|_| Bad::Url)
}

/// Where others reach this server.
fn advertised(text: &str) -> Result<String, Bad> {
    let text = text.trim();
    let address = host_and_port(text).map_err(|_| Bad::Advertised)?;
    let (host, port) = text.rsplit_once(':').ok_or(Bad::Advertised)?;
    let ip = host.trim_start_matches('[').trim_end_matches(']');
    let ip: Option<IpAddr> = ip.parse().ok();
    match ip.is_some_and(|ip| ip.to_canonical().is_unspecified()) || host == "*" {
        true => Err(Bad::Wildcard),
        false if port.parse() == Ok(0_u16) => Err(Bad::Advertised),
        false => Ok(address),
    }
}

/// Where this server listens for others: they are other machines.
fn tcp(text: &str) -> Result<Address, Bad> {
    match text.parse() {
        Ok(Address::Tcp(address)) => Ok(Address::Tcp(address)),
        _ => Err(Bad::Tcp),
    }
}

fn namespace(text: &str) -> Result<String, Bad> {
    match text.starts_with('/') && !text.ends_with('/') {
        true => Ok(text.to_owned()),
        false => Err(Bad::Namespace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_etcd_has_a_scheme_or_is_http() {
        for (text, expected) in [
            (" 10.0.0.5:2379", "http://10.0.0.5:2379"),
            ("[::1]:2379", "http://[::1]:2379"),
            ("http://etcd-0:2379/", "http://etcd-0:2379"),
        ] {
            assert_eq!(url(text).as_deref(), Ok(expected), "{text}");
        }
        #[cfg(feature = "tls")]
        assert_eq!(
            url("https://etcd-0:2379").as_deref(),
            Ok("https://etcd-0:2379")
        );
        #[cfg(not(feature = "tls"))]
        assert_eq!(url("https://etcd-0:2379"), Err(Bad::Tls));
        for bad in [
            "",
            "etcd",
            "http://etcd",
            "http://etcd:2379/v3",
            "http://etcd:2379/?a",
            "http://root:secret@etcd:2379",
            "http://root@etcd:2379",
            "ftp://etcd:2379",
            "unix:/run/etcd",
            "http://etcd:65536",
            "etcd:2379 etcd:2380",
        ] {
            assert_eq!(url(bad), Err(Bad::Url), "{bad}");
        }
    }

    #[test]
    fn others_can_reach_what_is_advertised() {
        for good in ["10.0.0.5:11401", "lock-1.example:1", "[2001:db8::1]:11401"] {
            assert_eq!(advertised(good).as_deref(), Ok(good));
        }
        for wildcard in ["0.0.0.0:1", "[::]:1", "[::ffff:0.0.0.0]:1", "*:1"] {
            assert_eq!(advertised(wildcard), Err(Bad::Wildcard), "{wildcard}");
        }
        for bad in ["", "host", "host:0", ":11401", "http://host:1", "unix:/run"] {
            assert_eq!(advertised(bad), Err(Bad::Advertised), "{bad}");
        }
    }

    #[test]
    fn history_is_forgotten_at_times_with_units_or_never() {
        for (text, secs) in [("30s", 30), ("5m", 300), ("24h", 86_400), ("1s", 1)] {
            assert_eq!(text.parse(), Ok(Compact(Some(Duration::from_secs(secs)))));
        }
        assert_eq!("off".parse(), Ok(Compact(None)));
        for bad in ["", "30", "0s", "25h", "+5s", "1.5m", "s", "100000000h"] {
            assert_eq!(bad.parse::<Compact>(), Err(BadCompact), "{bad}");
        }
    }

    #[test]
    fn a_password_is_the_only_line_of_its_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let settings = |path: PathBuf| {
            let config = crate::config::Config::default();
            ClusterSettings {
                etcd_user: Some("elock".to_owned()),
                etcd_password_file: Some(path),
                ..config.cluster
            }
        };
        let read = |content: &[u8]| {
            std::fs::write(file.path(), content).expect("it is there");
            let access = settings(file.path().to_owned()).access();
            access
                .map(|access| access.user.expect("a user").login().password)
                .ok()
        };
        assert_eq!(read(b"a secret\r\n").as_deref(), Some("a secret"));
        assert_eq!(read(b"secret").as_deref(), Some("secret"));
        for bad in [&b""[..], b"\n", b"two\nlines\n", b"\xff"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert!(settings("/nowhere/password".into()).access().is_err());
    }
}
