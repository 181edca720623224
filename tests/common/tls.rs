//! Certificates that are made for a test, and clients that speak TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use elock::config::{Address, Config};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::transcript::Speaker;
use super::{PATIENCE, Server};

/// An authority and what it has signed, in a directory that is removed with it.
pub struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    pub ca: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two authorities of one name would be told apart by their keys alone.
        let name = directory.path().display().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let ca = directory.path().join("ca.pem");
        std::fs::write(&ca, certificate.pem()).expect("written");
        Self {
            directory,
            issuer: Issuer::new(params, key),
            ca,
        }
    }

    /// Of a server on this machine.
    pub fn server(&self, file: &str) -> Pair {
        self.sign(file, |_| {})
    }

    /// Of a client with this name.
    pub fn client(&self, name: &str) -> Pair {
        self.sign(name, |params| {
            params.subject_alt_names.clear();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    pub fn sign(&self, file: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("signed");
        let at = |end: &str| self.directory.path().join(format!("{file}.{end}"));
        let pair = Pair {
            cert: at("pem"),
            key: at("key"),
        };
        std::fs::write(&pair.cert, signed.pem()).expect("written");
        std::fs::write(&pair.key, key.serialize_pem()).expect("written");
        pair
    }

    /// For clients that trust it, with this certificate if any.
    pub fn trusted(&self, own: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(&self.ca).expect("a file") {
            roots.add(root.expect("PEM")).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(pair) => builder
                .with_client_auth_cert(chain(&pair.cert), key(&pair.key))
                .expect("a pair"),
        })
    }
}

impl Pair {
    /// The settings of a server that has it, on a free port beside that of others.
    pub fn serve(&self, config: &mut Config) {
        config.tls_listen = vec![Address::Tls("127.0.0.1:0".to_owned())];
        config.tls_cert = Some(self.cert.clone());
        config.tls_key = Some(self.key.clone());
    }

    /// The certificate as one of X.509 version 1, in a file beside it; its signature is wrong then.
    pub fn of_version_1(&self) -> PathBuf {
        let (v3, v1) = ([0xa0, 3, 2, 1, 2], [0xa0, 3, 2, 1, 0]);
        let mut der = chain(&self.cert).remove(0).to_vec();
        let at = der.windows(v3.len()).position(|part| part == v3);
        let at = at.expect("its version");
        der[at..at + v1.len()].copy_from_slice(&v1);
        let file = self.cert.with_extension("old");
        let base64 = STANDARD.encode(der);
        let text = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        std::fs::write(&file, text).expect("written");
        file
    }

    /// Puts it in the place of another, as a renewal does.
    pub fn replace(&self, other: &Self) {
        std::fs::copy(&self.cert, &other.cert).expect("copied");
        std::fs::copy(&self.key, &other.key).expect("copied");
    }
}

fn chain(file: &Path) -> Vec<CertificateDer<'static>> {
    let found: Result<_, _> = CertificateDer::pem_file_iter(file)
        .expect("a file")
        .collect();
    found.expect("PEM")
}

fn key(file: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(file).expect("a key")
}

/// One connection by TLS.
pub struct TlsClient {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl TlsClient {
    /// The handshake is made with the first request.
    pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
        Self {
            stream: BufReader::new(StreamOwned::new(session, stream)),
        }
    }

    pub fn send(&mut self, line: &str) {
        self.try_send(line).expect("the connection stands");
    }

    pub fn try_send(&mut self, line: &str) -> std::io::Result<()> {
        self.stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
    }

    /// Sends these bytes, in a record of their own.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let stream = self.stream.get_mut();
        stream.write_all(bytes).expect("the connection stands");
    }

    pub fn try_read(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).map(|_| line)
    }

    #[track_caller]
    pub fn read(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("an answer");
        line.strip_suffix("\r\n")
            .unwrap_or_else(|| panic!("a whole line, not {line:?}"))
            .to_owned()
    }

    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.read(), line);
    }

    #[track_caller]
    pub fn ask(&mut self, line: &str, answer: &str) {
        self.send(line);
        self.expect(answer);
    }

    /// Why there is no handshake.
    pub fn refusal(&mut self) -> String {
        let refused = self.try_send("echo").and_then(|()| {
            let mut line = String::new();
            self.stream.read_line(&mut line).map(|_| ())
        });
        refused.expect_err("no answer").to_string()
    }

    /// Says that nothing more is sent, and goes on reading.
    pub fn half_close(&mut self) {
        let stream = self.stream.get_mut();
        stream.conn.send_close_notify();
        stream.flush().expect("the connection stands");
    }

    /// Expects the end, said as TLS says it: an end without that is an error.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let mut rest = String::new();
        self.stream
            .read_to_string(&mut rest)
            .expect("an end that is said");
        assert_eq!(rest, "");
    }

    pub fn certificate(&self) -> Vec<u8> {
        let certificates = self.stream.get_ref().conn.peer_certificates();
        certificates.expect("a handshake")[0].to_vec()
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream.get_ref().sock
    }
}

/// A client of transcripts. One authority for all of a process.
impl Speaker for TlsClient {
    fn connect(server: &Server) -> Self {
        let address = server.tls_address.expect("a TLS port");
        let mut client = Self::connect(address, &of_transcripts().0.trusted(None));
        client.send("echo");
        // The latter to a stranger.
        let answer = client.read();
        let is_there = ["200 []", "401 auth required"].contains(&&*answer);
        assert!(is_there, "{answer}");
        client
    }

    fn adapt(config: &mut Config) {
        of_transcripts().1.serve(config);
    }

    fn send(&mut self, line: &str) {
        Self::send(self, line);
    }

    fn read(&mut self) -> String {
        Self::read(self)
    }

    fn expect_closed(&mut self) {
        Self::expect_closed(self);
    }
}

fn of_transcripts() -> &'static (Authority, Pair) {
    static MADE: std::sync::OnceLock<(Authority, Pair)> = std::sync::OnceLock::new();
    MADE.get_or_init(|| {
        let authority = Authority::new();
        let pair = authority.server("server");
        (authority, pair)
    })
}
