//! Connections by TLS.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};

use crate::access::Access;
use crate::address::Address;
use crate::error::ConnectionError;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
enum NoTls {
    #[error("cannot read {}: {error}", file.display())]
    File { file: PathBuf, error: pem::Error },
    #[error("{} has no certificate in PEM form", .0.display())]
    Empty(PathBuf),
    #[error("the key in {} is encrypted; \"openssl pkey -in FILE -out NEW\" writes it in the clear", .0.display())]
    Encrypted(PathBuf),
    #[error("the key in {} is not the key of the certificate in {}", key.display(), cert.display())]
    OtherKey { cert: PathBuf, key: PathBuf },
    #[error(
        "the certificate in {} is of X.509 version 1, which TLS here does not take; `openssl x509 -req` \
         makes one of version 3 by `-copy_extensions copy` or `-extfile`", .0.display()
    )]
    OldCertificate(PathBuf),
    #[error("{} cannot be used: {error}", file.display())]
    Unusable { file: PathBuf, error: Error },
    #[error("this system has no certificates of authorities; name some by `ca`")]
    NoRoots,
    #[error("{0}")]
    Tls(#[from] Error),
}

/// Makes the handshake.
pub(crate) async fn encrypt(
    stream: TcpStream,
    address: &Address,
    access: &Access,
) -> Result<TlsStream<TcpStream>, ConnectionError> {
    let failed = |reason: String| ConnectionError::Tls {
        address: address.clone(),
        reason,
    };
    let asked = access.clone();
    // Files are read, a hundred of them where the system's own certificates are.
    let made = tokio::task::spawn_blocking(move || config(&asked));
    let config = match made.await {
        Ok(made) => made.map_err(|why| failed(why.to_string()))?,
        Err(_) => return Err(ConnectionError::ClientClosed),
    };
    let name = server_name(address).ok_or_else(|| failed("its name is none".to_owned()))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    connecting
        .await
        .map_err(|error| crate::connection::failed(address, error))
}

/// What TLS says, if it is that which failed.
pub(crate) fn reason(error: &io::Error) -> Option<String> {
    let error: &Error = error.get_ref()?.downcast_ref()?;
    Some(match error {
        Error::InvalidCertificate(why) => format!("the server's certificate is not trusted: {why}"),
        Error::InvalidMessage(_) => "the server speaks no TLS there".to_owned(),
        Error::AlertReceived(alert) => format!("the server refuses the connection: {alert:?}"),
        other => other.to_string(),
    })
}

fn config(access: &Access) -> Result<ClientConfig, NoTls> {
    let roots = match &access.ca {
        Some(file) => Arc::new(roots_in(file)?),
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match &access.cert {
        None => builder.with_no_client_auth(),
        Some(cert) => {
            let file = access.key.as_ref().unwrap_or(cert);
            let key = private_key(file)?;
            let chain = certificates(cert)?;
            let unusable = |error: Error| match error {
                Error::InconsistentKeys(_) => NoTls::OtherKey {
                    cert: cert.clone(),
                    key: file.clone(),
                },
                error if error.to_string().contains("UnsupportedCertVersion") => {
                    NoTls::OldCertificate(cert.clone())
                }
                error => NoTls::Unusable {
                    file: file.clone(),
                    error,
                },
            };
            builder
                .with_client_auth_cert(chain, key)
                .map_err(unusable)?
        }
    };
    // Each connection has its own.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn roots_in(file: &Path) -> Result<RootCertStore, NoTls> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| NoTls::Unusable {
            file: file.to_owned(),
            error,
        })?;
    }
    Ok(roots)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, NoTls> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        match text.contains("ENCRYPTED") {
            true => NoTls::Encrypted(file.to_owned()),
            false => NoTls::File {
                file: file.to_owned(),
                error,
            },
        }
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, NoTls> {
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found: Vec<_> = found.map_err(|error| NoTls::File {
        file: file.to_owned(),
        error,
    })?;
    match found.is_empty() {
        true => Err(NoTls::Empty(file.to_owned())),
        false => Ok(found),
    }
}

/// Read once in a process: they are many, and change by an upgrade of the system.
fn system_roots() -> Result<Arc<RootCertStore>, NoTls> {
    static READ: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = READ.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    match roots.is_empty() {
        true => Err(NoTls::NoRoots),
        false => Ok(Arc::clone(roots)),
    }
}

/// What the server's certificate must be for: the host, a name or an address.
fn server_name(address: &Address) -> Option<ServerName<'static>> {
    let Address::Tls(host_and_port) = address else {
        return None;
    };
    let (host, _) = host_and_port.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    ServerName::try_from(host.to_owned()).ok()
}
