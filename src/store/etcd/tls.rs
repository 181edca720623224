//! TLS to the nodes of etcd.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate_files::{TlsError, certificates, certified_key, trusted};

/// The files that say whom to trust, and who this server is.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsFiles {
    /// By what etcd's certificates are signed; `None`: by what the system trusts.
    pub(crate) ca: Option<PathBuf>,
    /// The server's own certificate, and its key.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

/// What gRPC's peers agree on within TLS.
const HTTP_2: &[u8] = b"h2";

impl TlsFiles {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    ///
    /// When one of them cannot be used.
    pub(crate) fn load(&self) -> Result<ClientConfig, TlsError> {
        let roots = match &self.ca {
            Some(file) => Arc::new(trusted(file, certificates(file)?)?),
            None => system_roots()?,
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unavailable)?
            .with_root_certificates(roots);
        let mut config = match &self.own {
            Some((cert, key)) => {
                let own = certified_key(cert, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![HTTP_2.to_owned()];
        // Each connection has its own.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// Read once in a process: they are many, and change by an upgrade of the system.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static READ: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = READ.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    match roots.is_empty() {
        true => Err(TlsError::NoRoots),
        false => Ok(Arc::clone(roots)),
    }
}

/// Connects to a node. The files are read each time, so that a renewed certificate is used from the next
/// connection on: the old one may be over by then.
pub(super) async fn connect(
    uri: Uri,
    files: Arc<TlsFiles>,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let config = tokio::task::spawn_blocking(move || files.load()).await?;
    let config = config.map_err(io::Error::other)?;
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16());
    // As the name is in the certificate.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, port.unwrap_or_default())).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(TokioIo::new(connector.connect(name, stream).await?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    };
    use tempfile::TempDir;

    use super::*;
    use crate::cluster::real_etcd::{RealEtcd, ask};
    use crate::store::etcd::{Access, Endpoints};

    /// An authority, and where it has its files.
    struct Authority {
        directory: TempDir,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Authority {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let mut params = CertificateParams::new([]).expect("no names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name = DistinguishedName::new();
            let name = directory.path().display().to_string();
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().expect("a key");
            let certificate = params.self_signed(&key).expect("a certificate");
            std::fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("written");
            let issuer = Issuer::new(params, key);
            Self { directory, issuer }
        }

        fn ca(&self) -> PathBuf {
            self.directory.path().join("ca.pem")
        }

        /// A certificate for this machine, and its key.
        fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
            let names = ["localhost", "127.0.0.1"].map(str::to_owned);
            let params = CertificateParams::new(names).expect("names");
            let key = KeyPair::generate().expect("a key");
            let signed = params.signed_by(&key, &self.issuer).expect("signed");
            let at = |end: &str| self.directory.path().join(format!("{name}.{end}"));
            std::fs::write(at("pem"), signed.pem()).expect("written");
            std::fs::write(at("key"), key.serialize_pem()).expect("written");
            (at("pem"), at("key"))
        }
    }

    /// `None` where there is no etcd.
    fn etcd_with_tls(authority: &Authority) -> Option<RealEtcd> {
        let ((cert, key), ca) = (authority.sign("etcd"), authority.ca());
        let flag = |name: &str, file: &Path| format!("--{name}={}", file.display());
        RealEtcd::start_with(
            "https",
            &[
                flag("cert-file", &cert),
                flag("key-file", &key),
                flag("trusted-ca-file", &ca),
                "--client-cert-auth".to_owned(),
            ],
        )
    }

    #[tokio::test]
    async fn etcd_and_server_show_each_other_certificates() {
        let authority = Authority::new();
        let Some(etcd) = etcd_with_tls(&authority) else {
            return;
        };
        let nodes = |ca: PathBuf, own: Option<(PathBuf, PathBuf)>| {
            let access = Access {
                tls: TlsFiles { ca: Some(ca), own },
                ..etcd.access.clone()
            };
            Endpoints::new(&access, 0).expect("a URL")
        };
        let own = authority.sign("elock");
        let mut right = nodes(authority.ca(), Some(own.clone()));
        ask(&mut right).await.expect("it answers");
        let mut without = nodes(authority.ca(), None);
        assert!(ask(&mut without).await.is_err());
        let other = Authority::new();
        let mut mistrusting = nodes(other.ca(), Some(own.clone()));
        let why = ask(&mut mistrusting).await.expect_err("it is not trusted");
        assert!(why.to_string().contains("UnknownIssuer"), "{why}");
        // As a renewal puts a new one in its place, which the next connection has.
        let mut renewed = nodes(authority.ca(), Some(other.sign("elock")));
        assert!(ask(&mut renewed).await.is_err());
        let at = |name: &str| other.directory.path().join(name);
        std::fs::copy(&own.0, at("elock.pem")).expect("copied");
        std::fs::copy(&own.1, at("elock.key")).expect("copied");
        let renewed = ask(&mut renewed).await;
        assert!(renewed.is_ok(), "{renewed:?}");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        let authority = Authority::new();
        let own = authority.sign("own");
        let with = |ca: PathBuf, cert: PathBuf| TlsFiles {
            ca: Some(ca),
            own: Some((cert, own.1.clone())),
        };
        assert!(with(authority.ca(), own.0.clone()).load().is_ok());
        let none = with(own.1.clone(), own.0.clone()).load();
        assert!(matches!(none, Err(TlsError::NoCertificate { .. })));
        let other = with(authority.ca(), authority.sign("other").0).load();
        assert!(matches!(other, Err(TlsError::OtherKey { .. })));
    }
}
