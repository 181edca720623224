//! From the files of the settings to what a handshake needs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use tracing::warn;

use super::certificate::{Certificate, Malformed};
use crate::certificate_files::{TlsError, certificates, certified_key, trusted, unusable};
use crate::config::Config;
use crate::secret_file::warn_of_readers;

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
        warn_of_readers(&self.key);
        let key = certified_key(&self.cert, &self.key, &provider)?;
        let own = described(
            &self.cert,
            key.end_entity_cert().map_err(TlsError::Unavailable)?,
        )?;
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

fn described(file: &Path, certificate: &CertificateDer<'_>) -> Result<Certificate, TlsError> {
    Certificate::read(certificate).map_err(|Malformed(reason)| unusable(file, reason))
}

/// Lets in clients with a certificate that one of the roots has signed, and nobody else.
fn signed_by(
    file: &Path,
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(trusted(file, roots)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
    verifier.map_err(|reason| unusable(file, reason.to_string()))
}
