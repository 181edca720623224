//! Accepts connections of HTTP and serves one request on each.
//!
//! One request, because then a connection that has nothing to ask has no reason to be there, and each has
//! an end that is known when it begins. Whoever asks every few seconds loses nothing by it.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_util::either::Either;
use tokio_util::io::InspectWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::LAST_ANSWERS;
use super::seats::{Seat, Seats};
use crate::model::Peer;
use crate::server::{Listener, Socket};

/// How long a client may take to send its request's head, and then as long again for the body.
pub(super) const PART_TIME: Duration = Duration::from_secs(5);

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
        let (router, connections) = (router.clone(), connections.clone());
        let door = accept_all(listener, Arc::clone(&seats), router, connections);
        doors.spawn(stop.clone().run_until_cancelled_owned(door));
    }
    doors.close();
    doors.wait().await;
    connections.close();
    // What is not answered by now is not answered.
    let _ = timeout(LAST_ANSWERS, connections.wait()).await;
}

/// Serves the connections of one listener.
async fn accept_all(
    listener: Listener,
    seats: Arc<Seats>,
    router: Router,
    connections: TaskTracker,
) -> Infallible {
    loop {
        let (stream, peer) = accept(&listener.socket).await;
        let seat = seats.take().await;
        connections.spawn(serve(stream, peer, seat, router.clone()));
    }
}

async fn accept(socket: &Socket) -> (impl AsyncRead + AsyncWrite + Unpin + use<>, Peer) {
    loop {
        let accepted = match socket {
            Socket::Tcp(listener) => {
                let accepted = listener.accept().await;
                accepted.map(|(stream, from)| (Either::Left(stream), Peer::Tcp(from)))
            }
            // No setting asks for one.
            #[cfg(feature = "tls")]
            Socket::Tls(_) => std::future::pending().await,
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

pub(super) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    seat: Seat,
    router: Router,
) {
    let seat = Arc::new(seat);
    let served = async {
        if let Err(error) = answer(&mut stream, peer, &seat, router).await {
            debug!(%peer, "a bad request of HTTP: {error}");
        }
        close(&mut stream).await
    };
    tokio::select! {
        served = timeout(CONNECTION_TIME, served) => match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%peer, "a connection of HTTP failed: {error}"),
            Err(_) => debug!(%peer, "a connection of HTTP took too long"),
        },
        () = seat.must_leave() => debug!(%peer, "an idle connection of HTTP gave way to another"),
    }
}

/// Answers one request, whose handler finds its peer among the request's extensions. Shuts the stream down
/// for writing, as hyper waits then only until all of an answer is sent.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    seat: &Arc<Seat>,
    router: Router,
) -> hyper::Result<()> {
    let router = TowerToHyperService::new(router);
    let is_answered = AtomicBool::new(false);
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(Arc::clone(seat));
        let answering = router.call(request);
        async {
            let answer = answering.await;
            is_answered.store(true, Ordering::Relaxed);
            answer
        }
    });
    // Before there is an answer, hyper writes only to ask for the rest of a request.
    let stream = InspectWriter::new(stream, |_| {
        if is_answered.load(Ordering::Relaxed) {
            seat.reads();
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PART_TIME)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
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

/// Over in-memory pipes, on a clock that stands still until every task waits for it: so every time below
/// is exact.
#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use axum::extract::{DefaultBodyLimit, Extension};
    use axum::routing::{get, post};
    use tokio::io::DuplexStream;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::super::seats::SEATS;
    use super::*;

    const HEAD: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// Answers more than a pipe of eight bytes holds.
    fn router() -> Router {
        Router::new().route("/", get(async || "x".repeat(1000)))
    }

    async fn connect(seats: &Arc<Seats>, router: Router) -> (DuplexStream, JoinHandle<()>) {
        connect_by(8, seats, router).await
    }

    /// By a pipe of so many bytes.
    async fn connect_by(
        pipe_bytes: usize,
        seats: &Arc<Seats>,
        router: Router,
    ) -> (DuplexStream, JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(pipe_bytes);
        let seat = seats.take().await;
        let task = tokio::spawn(serve(ours, Peer::Unix(None), seat, router));
        (theirs, task)
    }

    async fn ends_after(expected: Duration, task: JoinHandle<()>) {
        let begin = Instant::now();
        task.await.expect("no panic");
        let took = begin.elapsed();
        assert!(
            took >= expected && took <= expected + Duration::from_millis(50),
            "{took:?}"
        );
    }

    async fn read_all(stream: &mut DuplexStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("text");
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_too_slowly_ends_its_connection() {
        let seats = Arc::default();
        let (client, task) = connect(&seats, router()).await;
        let (mut reader, mut writer) = tokio::io::split(client);
        let slowly = tokio::spawn(async move {
            for byte in HEAD.as_bytes() {
                sleep(Duration::from_secs(1)).await;
                if writer.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
        });
        let mut nothing = Vec::new();
        let read = tokio::spawn(async move { reader.read_to_end(&mut nothing).await });
        ends_after(PART_TIME + LINGER, task).await;
        slowly.await.expect("no panic");
        read.await.expect("no panic").expect("an end");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_too_slowly_ends_its_connection() {
        let seats = Arc::default();
        let (mut client, task) = connect(&seats, router()).await;
        client.write_all(HEAD.as_bytes()).await.expect("it reads");
        ends_after(CONNECTION_TIME, task).await;
        assert!(read_all(&mut client).await.len() < 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_answers_once() {
        let seats = Arc::default();
        let (mut client, _task) = connect(&seats, router()).await;
        let twice = HEAD.repeat(2);
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let sent = async { writer.write_all(twice.as_bytes()).await };
        let mut text = String::new();
        let (_, read) = tokio::join!(sent, reader.read_to_string(&mut text));
        read.expect("text");
        assert_eq!(text.matches("HTTP/1.1 200").count(), 1, "{text}");
        assert!(text.contains("connection: close"));
    }

    /// Also to a request with a body that nobody reads, and to what is no request.
    #[tokio::test(start_paused = true)]
    async fn an_answer_is_sent_whole_however_slowly_it_is_read() {
        let with_body = "GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody and more";
        for (request, body_bytes) in [(HEAD, 1000), (with_body, 1000), ("nonsense\r\n\r\n", 0)] {
            let seats = Arc::default();
            let (client, _task) = connect(&seats, router()).await;
            let (mut reader, mut writer) = tokio::io::split(client);
            let (mut answer, mut bytes) = (Vec::new(), [0; 3]);
            let reading = async {
                while let read @ 1.. = reader.read(&mut bytes).await.expect("an answer") {
                    answer.extend_from_slice(&bytes[..read]);
                    sleep(Duration::from_millis(1)).await;
                }
            };
            let sent = async { writer.write_all(request.as_bytes()).await };
            let ((), _) = tokio::join!(reading, sent);
            let text = String::from_utf8(answer).expect("text");
            let (_, body) = text.split_once("\r\n\r\n").expect("a whole head");
            assert_eq!(body.len(), body_bytes, "{request}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_silent_gives_way_and_whoever_asks_does_not() {
        silent_ones_give_way("").await;
    }

    /// It is told to go on, and has no answer to read all the same.
    #[tokio::test(start_paused = true)]
    async fn half_a_request_that_waits_to_be_continued_is_silent() {
        let headers = "Host: a\r\nExpect: 100-continue\r\nContent-Length: 9";
        silent_ones_give_way(&format!("POST /body HTTP/1.1\r\n{headers}\r\n\r\n")).await;
    }

    /// After they have sent that, they are silent.
    async fn silent_ones_give_way(sent: &str) {
        let router = router().route("/body", post(async |_: Bytes| ()));
        let seats = Arc::default();
        let (mut asks, asking) = connect(&seats, router.clone()).await;
        asks.write_all(HEAD.as_bytes()).await.expect("it reads");
        let mut byte = [0];
        asks.read_exact(&mut byte).await.expect("it is answered");
        let mut silent = Vec::new();
        for _ in 0..2 * SEATS {
            let (mut client, task) = connect(&seats, router.clone()).await;
            client.write_all(sent.as_bytes()).await.expect("it reads");
            silent.push((client, task));
        }
        let (mut probe, probing) = connect(&seats, router.clone()).await;
        let (mut reader, mut writer) = tokio::io::split(&mut probe);
        let mut text = String::new();
        let sent = async { writer.write_all(HEAD.as_bytes()).await };
        let (_, read) = tokio::join!(sent, reader.read_to_string(&mut text));
        read.expect("text");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        drop(probe);
        probing.await.expect("no panic");
        // Those who came first left first.
        let left = silent.iter().take_while(|(_, task)| task.is_finished());
        assert!((SEATS..=SEATS + 3).contains(&left.count()));
        assert!(!asking.is_finished());
        assert!(read_all(&mut asks).await.ends_with('x'));
    }

    /// What waits for its client, for a check of a password, or for its turn to be worked on.
    #[tokio::test(start_paused = true)]
    async fn nobody_keeps_a_probe_from_its_answer() {
        let slow = get(async || std::future::pending::<()>().await);
        let work = get(async |Extension(seat): Extension<Arc<Seat>>| {
            let _work = seat.work().await;
            std::future::pending::<()>().await
        });
        let router = router()
            .route("/slow", slow)
            .route("/work", work)
            .route("/body", post(async |_: Bytes| ()));
        for (pipe_bytes, crowd) in [
            (
                4096,
                "GET /slow HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi\r\n\r\n",
            ),
            (
                4096,
                "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
            ),
            (4096, "GET /work HTTP/1.1\r\nHost: a\r\n\r\n"),
            (8, HEAD),
        ] {
            let (seats, begin) = (Arc::default(), Instant::now());
            let mut guests = Vec::new();
            for _ in 0..2 * SEATS {
                let (mut client, task) = connect_by(pipe_bytes, &seats, router.clone()).await;
                client.write_all(crowd.as_bytes()).await.expect("it reads");
                guests.push((client, task));
            }
            let (mut probe, _task) = connect_by(4096, &seats, router.clone()).await;
            probe.write_all(HEAD.as_bytes()).await.expect("room");
            let answer = read_all(&mut probe).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{crowd}");
            let took = begin.elapsed();
            assert!(took < Duration::from_millis(500), "{crowd}: {took:?}");
        }
    }

    /// Otherwise seats would run out.
    #[tokio::test(start_paused = true)]
    async fn seats_of_connections_that_are_over_are_free() {
        let seats = Arc::default();
        for _ in 0..3 * SEATS {
            let (client, task) = connect(&seats, router()).await;
            drop(client);
            task.await.expect("no panic");
        }
        let begin = Instant::now();
        let all: Vec<_> = (0..SEATS).map(|_| connect(&seats, router())).collect();
        for one in all {
            one.await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_above_the_limit_is_refused() {
        let seats = Arc::default();
        let echo = post(async |body: Bytes| body.len().to_string());
        let router = Router::new()
            .route("/", echo)
            .layer(DefaultBodyLimit::max(100));
        for (length, status) in [(100, "200"), (101, "413")] {
            for framing in ["length", "chunks"] {
                let body = "x".repeat(length);
                let (header, body) = match framing {
                    "length" => (format!("Content-Length: {length}"), body),
                    _ => {
                        let chunk = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
                        ("Transfer-Encoding: chunked".to_owned(), chunk)
                    }
                };
                let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n{body}");
                let (mut client, _task) = connect_by(4096, &seats, router.clone()).await;
                let (mut reader, mut writer) = tokio::io::split(&mut client);
                let sent = async { writer.write_all(request.as_bytes()).await };
                let mut text = String::new();
                let (_, read) = tokio::join!(sent, reader.read_to_string(&mut text));
                read.expect("text");
                assert!(
                    text.starts_with(&format!("HTTP/1.1 {status}")),
                    "{framing}: {text}"
                );
            }
        }
    }
}
