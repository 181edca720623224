//! The handshake of a connection, in its own task and within its time.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, error::Elapsed, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

use super::Tls;
use super::certificate;
use super::stream::{Encrypted, MOST_HELD_BACK};
use crate::access::User;
use crate::certificate_files::{TOO_OLD, is_too_old};
use crate::model::Peer;
use crate::protocol::Reply;
use crate::server::Shared;
use crate::server::arrival::Arrival;
use crate::server::connection::{self, close_gently};

/// How long a client may take. It has two messages to send.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// What every record of a handshake begins with, and no line of eLock.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Why there is no connection by TLS.
#[derive(Debug, thiserror::Error)]
enum NoTls {
    /// As a balancer's health check does.
    #[error("the client has closed before it said anything")]
    Unsaid,
    #[error("the client speaks no TLS")]
    Plain(TcpStream),
    #[error("the handshake took longer than {} s", HANDSHAKE_TIME.as_secs())]
    TooSlow,
    /// The client is told by an alert, if the stream is still there.
    #[error("{}", match is_too_old(.0) {
        true => format!("the client's certificate cannot be used: {}", TOO_OLD),
        false => .0.to_string(),
    })]
    Failed(io::Error, Option<TcpStream>),
    #[error("the server stops")]
    Stopping,
}

impl From<Elapsed> for NoTls {
    fn from(_: Elapsed) -> Self {
        Self::TooSlow
    }
}

/// Serves one client, as [`connection::serve`] does, once it has made its handshake.
pub(in crate::server) async fn serve<P>(
    stream: TcpStream,
    arrival: Arrival,
    shared: Arc<Shared>,
    place: P,
) {
    // Boxed, as a connection's task keeps the room of its largest future.
    let Some(mut stream) = Box::pin(encrypted(stream, arrival.peer, &shared)).await else {
        return;
    };
    let user = user_of(&stream, arrival.peer, &shared);
    match arrival.known_as(user) {
        Ok(arrival) => connection::serve(stream, arrival, shared, place).await,
        Err(exhausted) => {
            let reply = Reply::TooManyOfOne(exhausted);
            shared.refusals.count(reply.refusal());
            let mut answer = BytesMut::new();
            reply.put(&mut answer);
            Box::pin(tell(&mut stream, &answer, &shared)).await;
        }
    }
}

/// Tells a client for which there is no place so, by TLS, and closes.
pub(in crate::server) async fn refuse<P>(
    stream: TcpStream,
    answer: BytesMut,
    shared: Arc<Shared>,
    place: P,
) {
    if let Ok(mut stream) = Box::pin(shake_hands_until_stop(stream, &shared)).await {
        tell(&mut stream, &answer, &shared).await;
    }
    drop(place);
}

/// Tells a client why it is not served, and closes.
async fn tell(stream: &mut Encrypted<TcpStream>, answer: &[u8], shared: &Shared) {
    if let Ok(Ok(())) = timeout(HANDSHAKE_TIME, stream.write_all(answer)).await {
        close_gently(stream, shared.stop.cancelled()).await;
    }
}

/// As whom the client comes in: as the user whom its certificate names, and otherwise as by any port.
fn user_of(stream: &Encrypted<TcpStream>, peer: Peer, shared: &Shared) -> Option<Arc<User>> {
    let desk = &shared.desk;
    let name = client_name(stream);
    debug!(%peer, name, "the handshake is made");
    let user = name.and_then(|name| desk.user_by_name(name.as_bytes()));
    user.or_else(|| desk.at_the_door(peer))
}

/// The name in the client's certificate, which has been verified, if clients are asked for one.
fn client_name(stream: &Encrypted<TcpStream>) -> Option<String> {
    let (_, session) = stream.get_ref();
    certificate::name(session.peer_certificates()?.first()?)
}

/// The client's stream; or nothing, and then the client, the log and the counter were told.
async fn encrypted(stream: TcpStream, peer: Peer, shared: &Shared) -> Option<Encrypted<TcpStream>> {
    let failed = match shake_hands_until_stop(stream, shared).await {
        Ok(stream) => return Some(stream),
        Err(failed @ (NoTls::Unsaid | NoTls::Stopping)) => {
            debug!(%peer, "no TLS: {failed}");
            return None;
        }
        Err(failed) => failed,
    };
    shared.table.counters().tls_failures.add(1);
    if shared.throttles.handshakes.passes(shared.clock.now()) {
        info!(%peer, "no TLS: {failed}");
    }
    match failed {
        NoTls::Plain(mut stream) => {
            let mut answer = BytesMut::new();
            Reply::NotTls.put(&mut answer);
            // A new connection has room for these few bytes.
            if stream.try_write(&answer).is_ok() {
                close_gently(&mut stream, shared.stop.cancelled()).await;
            }
        }
        // With unread input, closing at once would make the kernel throw the alert away.
        NoTls::Failed(_, Some(mut stream)) => {
            close_gently(&mut stream, shared.stop.cancelled()).await;
        }
        _ => {}
    }
    None
}

async fn shake_hands_until_stop(
    stream: TcpStream,
    shared: &Shared,
) -> Result<Encrypted<TcpStream>, NoTls> {
    let Some(tls) = &shared.tls else {
        let missing = io::Error::other("the server has no certificate");
        return Err(NoTls::Failed(missing, None));
    };
    tokio::select! {
        biased;
        () = shared.stop.cancelled() => Err(NoTls::Stopping),
        stream = shake_hands(stream, tls) => stream,
    }
}

/// Only what the client takes counts against its time, and not what it waits for its turn.
///
/// A handshake is computed in turns: only some at a time, and whenever it is one's turn, all other
/// tasks of the worker have theirs first. So whoever sends hellos without end delays others by the
/// time of one handshake, and not by that of all.
async fn shake_hands(stream: TcpStream, tls: &Tls) -> Result<Encrypted<TcpStream>, NoTls> {
    let mut deadline = Instant::now() + HANDSHAKE_TIME;
    let mut first = [0];
    match timeout_at(deadline, stream.peek(&mut first)).await? {
        Ok(0) => return Err(NoTls::Unsaid),
        Ok(_) if first[0] != HANDSHAKE_RECORD => return Err(NoTls::Plain(stream)),
        Ok(_) => {}
        Err(error) => return Err(NoTls::Failed(error, None)),
    }
    let acceptor = TlsAcceptor::from(tls.config());
    let accept = acceptor.accept_with(stream, |session| {
        session.set_buffer_limit(Some(MOST_HELD_BACK));
    });
    let mut accept = accept.into_fallible();
    loop {
        let asked = Instant::now();
        let turn = tls.turns.acquire().await;
        tokio::task::yield_now().await;
        deadline += asked.elapsed();
        let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut accept).poll(context))).await;
        drop(turn);
        match polled {
            Poll::Ready(Ok(stream)) => return Ok(Box::new(stream)),
            Poll::Ready(Err((error, stream))) => return Err(NoTls::Failed(error, Some(stream))),
            // Nothing is awaited in between, so that no wake-up is missed.
            Poll::Pending => timeout_at(deadline, woken()).await?,
        }
    }
}

/// Ready when the task is woken, by what was polled just before.
fn woken() -> impl Future<Output = ()> {
    let mut has_waited = false;
    poll_fn(move |_| match std::mem::replace(&mut has_waited, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
}

/// Over real sockets, on a clock that stands still until nothing else is to be done.
#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::server::arrival::AccountPlaces;
    use crate::server::harness::Server;

    fn certificate(file: &std::path::Path) {
        let names = vec!["localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let pem = made.cert.pem() + &made.signing_key.serialize_pem();
        std::fs::write(file, pem).expect("written");
    }

    /// Whether the client says nothing, falls silent, or sends a byte a second.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_dawdles_over_its_hello_is_ended_after_its_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("both.pem");
        certificate(&file);
        let server = Server::start_with(|config| {
            (config.tls_cert, config.tls_key) = (Some(file.clone()), Some(file.clone()));
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let stranger = || Arrival::stranger(Peer::Unix(None), AccountPlaces::default());
        for (bytes, pause_s) in [(0, 0), (3, 0), (100, 1)] {
            let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (mut client, (stream, _)) = (client.expect("room"), accepted.expect("a client"));
            let begin = Instant::now();
            let dawdle = async {
                let mut hello = [0; 100];
                hello[..5].copy_from_slice(&[HANDSHAKE_RECORD, 3, 1, 0, 95]);
                for byte in &hello[..bytes] {
                    tokio::time::sleep(Duration::from_secs(pause_s)).await;
                    client
                        .write_all(&[*byte])
                        .await
                        .expect("the connection stands");
                }
                std::future::pending().await
            };
            tokio::select! {
                () = serve(stream, stranger(), Arc::clone(&server.shared), ()) => {}
                () = dawdle => {}
            }
            let took = begin.elapsed();
            let most = HANDSHAKE_TIME + Duration::from_millis(2);
            assert!(took >= HANDSHAKE_TIME && took <= most, "{took:?}");
        }
        assert_eq!(server.shared.table.counters().tls_failures.get(), 3);
        assert_eq!(server.shared.table.session_counts(), (0, 0));
        server.stop().await;
    }
}
