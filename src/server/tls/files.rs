//! From the files of the settings to what a handshake needs.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use tracing::warn;

use super::certificate::{self, Certificate, Malformed};
use crate::config::Config;
use crate::secret_file::warn_of_readers;

/// More than any file of certificates has: the roots of a whole system are a quarter of it.
const LARGEST_FILE: u64 = 1 << 20;

/// Why a file of the settings of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is no text in PEM form, or not all of it.
    #[error("{}: {reason}", file.display())]
    NoPem {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no certificate in it.
    #[error("{} has no certificate: no \"-----BEGIN CERTIFICATE-----\"", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// There is no private key in it.
    #[error("{} has no private key: no \"-----BEGIN PRIVATE KEY-----\"", file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// The private key in it is encrypted, and nobody is there to type the password.
    #[error("the key in {} is encrypted; \"openssl pkey -in FILE -out NEW\" writes it in the clear", file.display())]
    EncryptedKey {
        /// The file.
        file: PathBuf,
    },
    /// The private key in it is of a kind that is not known.
    #[error("the key in {} cannot be used: {reason}", file.display())]
    UnusableKey {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: rustls::Error,
    },
    /// A certificate in it is none, or cannot be used.
    #[error("a certificate in {} cannot be used: {reason}", file.display())]
    UnusableCertificate {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("the key in {} is not the key of the certificate in {}", key.display(), cert.display())]
    OtherKey {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The provider of cryptography refuses what this server needs of it.
    #[error("TLS cannot be used: {0}")]
    Unavailable(rustls::Error),
}

/// The files that the settings name.
#[derive(Debug, Clone)]
pub(super) struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// What they say.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    /// The server's own first, and then those by which clients' are signed.
    certificates: Vec<(PathBuf, Certificate)>,
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cert.display())
    }
}

impl Files {
    pub(super) fn of(config: &Config) -> Option<Self> {
        Some(Self {
            cert: config.tls_cert.clone()?,
            key: config.tls_key.clone()?,
            client_ca: config.tls_client_ca.clone(),
        })
    }

    /// Reads them all.
    ///
    /// Sessions of TLS are neither kept nor given to clients as tickets. So a reload holds for whoever
    /// connects after it, also with a certificate that was good before; and a client that closes at
    /// once, without having read the tickets, does not reset its own connection by that.
    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(&self.cert)?;
        let own = described(&self.cert, &chain[0])?;
        let key = CertifiedKey::new(chain, self.signing_key(&provider)?);
        match key.keys_match() {
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(TlsError::OtherKey {
                    cert: self.cert.clone(),
                    key: self.key.clone(),
                });
            }
            Err(error) if certificate::is_too_old(&error) => {
                return Err(unusable(&self.cert, certificate::TOO_OLD.to_owned()));
            }
            _ => {}
        }
        let mut known = vec![(self.cert.clone(), own)];
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unavailable)?;
        let builder = match &self.client_ca {
            Some(file) => {
                let roots = certificates(file)?;
                for root in &roots {
                    known.push((file.clone(), described(file, root)?));
                }
                builder.with_client_cert_verifier(signed_by(file, roots, provider)?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Loaded {
            config: Arc::new(config),
            certificates: known,
        })
    }

    fn signing_key(&self, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, TlsError> {
        let file = self.key.clone();
        warn_of_readers(&file);
        let text = read(&file)?;
        let key = match PrivateKeyDer::from_pem_slice(&text) {
            Ok(key) => key,
            Err(_) if is_encrypted(&text) => return Err(TlsError::EncryptedKey { file }),
            Err(pem::Error::NoItemsFound) => return Err(TlsError::NoKey { file }),
            Err(error) => return Err(no_pem(&file, &error)),
        };
        let loaded = provider.key_provider.load_private_key(key);
        loaded.map_err(|reason| TlsError::UnusableKey { file, reason })
    }
}

impl Loaded {
    /// The server's own certificate, for people.
    pub(super) fn own(&self) -> String {
        let own = self.certificates.first();
        own.map_or_else(String::new, |(_, own)| own.to_string())
    }

    /// When the server's own certificate ends, and the first of those by which clients' are signed, in
    /// seconds since the beginning of 1970.
    #[cfg(feature = "admin")]
    pub(super) fn ends(&self) -> Vec<(&'static str, i64)> {
        let mut ends = self.certificates.iter().map(|(_, one)| one.end());
        let own = ends.next().map(|end| ("server", end));
        let of_clients = ends.min().map(|end| ("client_ca", end));
        own.into_iter().chain(of_clients).collect()
    }

    /// Says which certificates have ended, end soon, or have not begun. Clients are those who refuse
    /// them; and a server that would not start for that could serve nobody else either.
    pub(super) fn warn_of_dates(&self) {
        for (file, certificate) in &self.certificates {
            if let Some(trouble) = certificate.trouble() {
                warn!("TLS: {}: {certificate} {trouble}", file.display());
            }
        }
    }
}

/// The certificates in a file, at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| no_pem(file, &error))?;
    match found.is_empty() {
        true => Err(TlsError::NoCertificate { file: file.into() }),
        false => Ok(found),
    }
}

fn described(file: &Path, certificate: &CertificateDer<'_>) -> Result<Certificate, TlsError> {
    Certificate::read(certificate).map_err(|Malformed(reason)| unusable(file, reason))
}

/// Lets in clients with a certificate that one of the roots has signed, and nobody else.
fn signed_by(
    file: &Path,
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store
            .add(root)
            .map_err(|reason| unusable(file, reason.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build();
    verifier.map_err(|reason| unusable(file, reason.to_string()))
}

fn unusable(file: &Path, reason: String) -> TlsError {
    TlsError::UnusableCertificate {
        file: file.into(),
        reason,
    }
}

fn no_pem(file: &Path, error: &pem::Error) -> TlsError {
    TlsError::NoPem {
        file: file.into(),
        reason: error.to_string(),
    }
}

fn is_encrypted(pem: &[u8]) -> bool {
    let has = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut text = Vec::new();
        File::open(file)?
            .take(LARGEST_FILE)
            .read_to_end(&mut text)?;
        match text.len() as u64 {
            LARGEST_FILE => Err(io::Error::other(
                "it is too large for a certificate or a key",
            )),
            _ => Ok(text),
        }
    };
    read().map_err(|error| TlsError::Unreadable {
        file: file.into(),
        error,
    })
}
