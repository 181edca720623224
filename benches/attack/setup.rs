//! What elockd is given for an attack, beside what it is always given.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Flags, and the files that they name, which are removed with it.
pub struct Setup {
    pub flags: Vec<String>,
    /// Where the attack goes, if that is not where the honest clients go.
    pub target: Option<SocketAddr>,
    _directory: Option<TempDir>,
}

impl Setup {
    pub fn of_flags(flags: &[&str]) -> Self {
        Self {
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            target: None,
            _directory: None,
        }
    }

    fn with_files(flags: &[&str], files: &[(&str, &str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut setup = Self::of_flags(flags);
        for (flag, name, text) in files {
            let path = directory.path().join(name);
            write_secret(&path, text);
            let path = path.to_str().expect("text").to_owned();
            setup.flags.extend([(*flag).to_owned(), path]);
        }
        setup._directory = Some(directory);
        setup
    }

    /// Any client is let in, but there is a user whose password can be tried.
    pub fn with_a_password() -> Self {
        let hash = Command::new("sh")
            .args(["-c", r#"echo correct-horse | "$0" hash-password"#])
            .arg(env!("CARGO_BIN_EXE_elockd"))
            .stderr(Stdio::inherit())
            .output();
        let hash = String::from_utf8(hash.expect("elockd runs").stdout).expect("text");
        let users = format!(
            "[users.honest]\nrights = [\"lock\", \"read\"]\nprefixes = [\"*\"]\n\
             [users.victim]\nrights = [\"lock\"]\nprefixes = [\"*\"]\npassword = \"{}\"\n",
            hash.trim()
        );
        Self::with_files(
            &["--trust", "127.0.0.0/8=honest"],
            &[("--auth-file", "users.toml", &users)],
        )
    }

    /// There is a port for TLS, where the attack goes.
    pub fn with_tls() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let target = listener.local_addr().expect("an address");
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let signed = signed.expect("a certificate");
        let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
        let mut setup = Self::with_files(
            &["--tls-listen", &target.to_string()],
            &[
                ("--tls-cert", "cert.pem", &certificate),
                ("--tls-key", "key.pem", &key),
            ],
        );
        setup.target = Some(target);
        setup
    }
}

fn write_secret(path: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.expect("it can be written");
}
