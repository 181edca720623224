//! A client's stream under TLS.

use std::pin::Pin;
use std::task::Context;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use crate::server::transport::Transport;

/// Boxed, as it is a kilobyte that is moved into the connection.
pub(super) type Encrypted<S> = Box<TlsStream<S>>;

/// How many bytes of answers a stream takes beyond what the system takes: one record of TLS. They are
/// encrypted, and what they say cannot be looked at again.
pub(super) const MOST_HELD_BACK: usize = 16 << 10;

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for Encrypted<S> {
    fn holds_back(&self) -> bool {
        let (_, session) = self.get_ref();
        session.wants_write()
    }

    /// Says `close_notify`, without which a client takes the end for a cut by an attacker. If it does
    /// not go at once, the client does not read.
    fn part(&mut self, context: &mut Context<'_>) {
        let _ = Pin::new(&mut **self).poll_shutdown(context);
    }
}

/// Over an in-memory pipe that takes a handshake, and not all of a `help` at once.
#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
    use tokio::time::{Instant, sleep};
    use tokio_rustls::{TlsAcceptor, TlsConnector, client};

    use super::*;
    use crate::model::Peer;
    use crate::server::connection::serve;
    use crate::server::harness::Server;

    type Client = BufReader<client::TlsStream<DuplexStream>>;

    async fn connect(server: &Server) -> Client {
        let names = vec!["localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a certificate");
        let ours = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a pair");
        let theirs = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (stream, other_end) = tokio::io::duplex(2048);
        let name = ServerName::try_from("localhost").expect("a name");
        let accept = TlsAcceptor::from(Arc::new(ours)).accept_with(stream, |session| {
            session.set_buffer_limit(Some(MOST_HELD_BACK));
        });
        let connect = TlsConnector::from(Arc::new(theirs)).connect(name, other_end);
        let (accepted, connected) = tokio::join!(accept, connect);
        let shared = Arc::clone(&server.shared);
        let arrival = shared
            .desk
            .arrival(Peer::Unix(None), shared.clock.now())
            .expect("a place");
        let stream = Box::new(accepted.expect("a handshake"));
        tokio::spawn(serve(stream, arrival, shared, ()));
        BufReader::new(connected.expect("a handshake"))
    }

    async fn say(client: &mut Client, lines: &str) {
        client
            .write_all(lines.as_bytes())
            .await
            .expect("the connection stands");
        client.flush().await.expect("the connection stands");
    }

    async fn line(client: &mut Client) -> String {
        let mut line = String::new();
        client.read_line(&mut line).await.expect("an answer");
        line
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_is_sent_when_it_is_read() {
        let server = Server::start();
        let mut client = connect(&server).await;
        for _ in 0..3 {
            say(&mut client, "help\n").await;
            sleep(Duration::from_secs(29)).await;
            while line(&mut client).await != "END\r\n" {}
        }
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_what_is_held_back_is_given_up_after_its_time() {
        let server = Server::start();
        let (mut client, mut other) = (connect(&server).await, server.connect());
        say(&mut client, "set_timeout 0\nlock k\n").await;
        assert_eq!(line(&mut client).await, "200 timeout set\r\n");
        assert_eq!(line(&mut client).await, "200 Acquired\r\n");
        say(&mut client, "help\n").await;
        let begin = Instant::now();
        other.ask("lock k 3600", "200 Acquired").await;
        let passed = begin.elapsed();
        let time = server.shared.config.unsent_timeout();
        assert!(
            passed >= time && passed <= time + Duration::from_millis(2),
            "{passed:?}"
        );
        server.stop().await;
    }
}
