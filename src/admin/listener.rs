//! Accepts connections of HTTP and serves one request on each.
//!
//! One request, because then a connection that has nothing to ask has no reason to be there, and each has
//! an end that is known when it begins. Whoever asks every few seconds loses nothing by it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::LAST_ANSWERS;
use super::seats::{Seat, Seats};
use crate::model::Peer;
use crate::server::{Listener, Socket};

/// How long a client may take to send its request's head.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a connection may take from its beginning to its end.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// How long a client may take to read the rest of an answer and close.
const LINGER: Duration = Duration::from_secs(1);

/// The longest head of a request, in bytes, and its most headers: browsers send two dozen.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// How long accepting pauses when the system has no file for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves all `listeners` until `stop`, and then what is being answered.
pub(super) async fn serve_all(listeners: Vec<Listener>, router: Router, stop: CancellationToken) {
    let (connections, seats) = (TaskTracker::new(), Arc::new(Seats::default()));
    let doors = TaskTracker::new();
    for listener in listeners {
        let (router, seats, connections) =
            (router.clone(), Arc::clone(&seats), connections.clone());
        doors.spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                let (stream, peer) = accept(&listener.socket).await;
                let seat = seats.take().await;
                connections.spawn(serve(stream, peer, seat, router.clone()));
            }
        }));
    }
    doors.close();
    doors.wait().await;
    connections.close();
    // What is not answered by now is not answered.
    let _ = timeout(LAST_ANSWERS, connections.wait()).await;
}

async fn accept(socket: &Socket) -> (impl AsyncRead + AsyncWrite + Unpin + use<>, Peer) {
    loop {
        let accepted = match socket {
            Socket::Tcp(listener) => {
                let accepted = listener.accept().await;
                accepted.map(|(stream, from)| (Either::Left(stream), Peer::Tcp(from)))
            }
            Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
                (Either::Right(stream), Peer::Unix(pid))
            }),
        };
        match accepted {
            Ok(accepted) => return accepted,
            Err(error) => {
                debug!("cannot accept a connection of HTTP: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    seat: Seat,
    router: Router,
) {
    let served = async {
        answer(&mut stream, peer, &seat, router).await?;
        close(&mut stream).await?;
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    tokio::select! {
        served = timeout(CONNECTION_TIME, served) => match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%peer, "a connection of HTTP failed: {error}"),
            Err(_) => debug!(%peer, "a connection of HTTP took too long"),
        },
        () = seat.must_leave() => debug!(%peer, "a silent connection of HTTP gave way to another"),
    }
}

/// Answers one request, whose handler finds its peer among the request's extensions.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    seat: &Seat,
    router: Router,
) -> hyper::Result<()> {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        seat.asks();
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown()
        .await?;
    Ok(())
}

/// Waits a little until the client has closed, too. With unread input, as a body that was refused,
/// closing at once would make the kernel throw the answer away.
async fn close(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.shutdown().await?;
    let mut dropped = [0; 1024];
    let drain = async {
        while stream.read(&mut dropped).await? > 0 {}
        Ok(())
    };
    timeout(LINGER, drain).await.unwrap_or(Ok(()))
}
