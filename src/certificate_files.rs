//! Certificates and keys from the files of the settings.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

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
    /// Nobody is trusted.
    #[error("this system has no certificates of authorities; name some by --etcd-ca")]
    NoRoots,
    /// The provider of cryptography refuses what this server needs of it.
    #[error("TLS cannot be used: {0}")]
    Unavailable(rustls::Error),
}

/// What to say of a certificate that [is too old](is_too_old).
pub(crate) const TOO_OLD: &str = "it is of X.509 version 1, which TLS here does not take; `openssl x509 -req` \
     makes one of version 3 by `-copy_extensions copy` or `-extfile`";

/// Whether the library refuses a certificate for its version, for which it has but a name.
pub(crate) fn is_too_old(error: &impl fmt::Display) -> bool {
    error.to_string().contains("UnsupportedCertVersion")
}

/// A certificate, those by which it was signed, and its key.
pub(crate) fn certified_key(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    let certified = CertifiedKey::new(chain, signing_key(key, provider)?);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::OtherKey {
            cert: cert.to_owned(),
            key: key.to_owned(),
        }),
        Err(error) if is_too_old(&error) => Err(unusable(cert, TOO_OLD.to_owned())),
        _ => Ok(certified),
    }
}

/// The certificates of a file, as those by which others are signed.
pub(crate) fn trusted(
    file: &Path,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let added = roots.add(certificate);
        added.map_err(|reason| unusable(file, reason.to_string()))?;
    }
    Ok(roots)
}

/// The certificates in a file, at least one.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| no_pem(file, &error))?;
    match found.is_empty() {
        true => Err(TlsError::NoCertificate { file: file.into() }),
        false => Ok(found),
    }
}

fn signing_key(file: &Path, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, TlsError> {
    let text = read(file)?;
    let key = match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => key,
        Err(_) if is_encrypted(&text) => return Err(TlsError::EncryptedKey { file: file.into() }),
        Err(pem::Error::NoItemsFound) => return Err(TlsError::NoKey { file: file.into() }),
        Err(error) => return Err(no_pem(file, &error)),
    };
    let loaded = provider.key_provider.load_private_key(key);
    loaded.map_err(|reason| TlsError::UnusableKey {
        file: file.into(),
        reason,
    })
}

/// The error for a certificate in this file.
pub(crate) fn unusable(file: &Path, reason: String) -> TlsError {
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
