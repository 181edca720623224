//! HTTP for operators: health, metrics and the like, on addresses of its own.
//!
//! It runs on a thread of its own, so that no request here takes time of a thread that serves locks, and
//! it is there from before the store is read until the last connection has ended: whoever asks is told
//! what the server is doing.

mod api;
mod guard;
mod health;
#[cfg(fuzzing)]
mod in_memory;
mod listener;
mod loaded;
mod metrics;
mod page;
mod routes;
mod seats;
mod stage;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use guard::Guard;
use metrics::LastContention;
use stage::{CurrentStage, Stage};

#[cfg(feature = "cluster")]
use crate::cluster::NodeHandle;
use crate::config::Config;
use crate::server::{self, Listener, ServerHandle};
#[cfg(fuzzing)]
pub use in_memory::InMemory;
#[cfg(feature = "fd-limit")]
pub(crate) use seats::SEATS;

/// How long requests that are being answered have at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What every request can reach. Clones reach the same.
#[derive(Debug, Clone)]
struct Admin {
    stage: Arc<CurrentStage>,
    guard: Arc<Guard>,
    contention: Arc<LastContention>,
    /// When the server started, since the beginning of 1970.
    started: Duration,
}

/// The running HTTP side of a server. It begins to end when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    stage: Arc<CurrentStage>,
    stop: DropGuard,
    ended: oneshot::Receiver<()>,
}

/// Serves HTTP on `listeners`, as a server that is loading until it is said what else it does; `None` if
/// there are no listeners.
///
/// # Errors
///
/// When the system gives no thread, or what a thread needs.
pub(crate) fn start(listeners: Vec<Listener>, config: &Config) -> io::Result<Option<Running>> {
    if listeners.is_empty() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let admin = Admin::loading(config);
    let (end, ended) = oneshot::channel();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = Running {
        stage: Arc::clone(&admin.stage),
        stop: stop.drop_guard(),
        ended,
    };
    info!("HTTP for operators at {}", server::addresses(&listeners));
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || {
            run(runtime, listeners, admin, stopped);
            // Nobody listens if the server has not waited.
            let _ = end.send(());
        })?;
    Ok(Some(running))
}

fn run(runtime: Runtime, listeners: Vec<Listener>, admin: Admin, stop: CancellationToken) {
    let router = routes::router(admin);
    runtime.block_on(listener::serve_all(listeners, router, stop));
    runtime.shutdown_background();
}

impl Admin {
    /// That of a server that has still to load.
    fn loading(config: &Config) -> Self {
        Self {
            stage: Arc::default(),
            guard: Arc::new(Guard::new(config)),
            contention: Arc::default(),
            started: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }
}

impl Running {
    /// From here on the server reads what is held.
    #[cfg(feature = "cluster")]
    pub(crate) fn loads(&self) {
        self.stage.enter(Stage::Loading);
    }

    /// From here on the server passes its clients on.
    #[cfg(feature = "cluster")]
    pub(crate) fn follows(&self, node: Arc<NodeHandle>) {
        self.stage.enter(Stage::Following(node));
    }

    /// From here on the server serves, and can be asked.
    pub(crate) fn serves(&self, handle: ServerHandle) {
        self.stage.enter(Stage::Serving(handle));
    }

    /// Accepts nothing more, and waits for requests that are being answered, until `deadline` or for
    /// [`LAST_ANSWERS`].
    pub(crate) async fn end(self, deadline: Instant) {
        drop(self.stop);
        // Either way it is over: nothing here must be kept.
        let _ = timeout_at(deadline.min(Instant::now() + LAST_ANSWERS), self.ended).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    #[cfg(feature = "cluster")]
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    #[cfg(feature = "cluster")]
    use crate::cluster::{Herald, Leadership, Leading, Lost, since_boot};
    use crate::server::bind_admin;
    use crate::server::harness::Server;

    async fn get(at: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(at).await.expect("it accepts");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    #[track_caller]
    fn assert_is(answer: &str, status: u16, text: &str) {
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains(text), "{answer}");
    }

    /// From before the store is read until the server has stopped.
    #[tokio::test]
    async fn a_server_says_at_each_stage_whether_it_is_ready_and_why_not() {
        let local = ["127.0.0.1:0".parse().expect("an address")];
        let listeners = bind_admin(Vec::new(), &local, &[]).await.expect("a port");
        let at = listeners[0].tcp_address().expect("TCP");
        let running = start(listeners, &Config::default()).expect("a thread");
        let running = running.expect("there is a listener");
        assert_is(&get(at, "/healthz").await, 200, "ok");
        assert_is(&get(at, "/readyz").await, 503, "loading: ");
        assert_is(&get(at, "/metrics").await, 503, "loading: ");
        let (server, fake, writer) = Server::start_stored();
        running.serves(ServerHandle::new(&server.shared));
        assert_is(&get(at, "/readyz").await, 200, "ready");
        assert_is(&get(at, "/metrics").await, 200, "elock_ready 1\n");
        fake.state().is_broken = true;
        let mut client = server.connect();
        client.ask("lock k", "500 Not stored: no space").await;
        assert_is(
            &get(at, "/readyz").await,
            503,
            "changes are refused: no space",
        );
        assert_is(&get(at, "/metrics").await, 200, "elock_ready 0\n");
        fake.state().is_broken = false;
        server.shared.begin_stop();
        let answer = get(at, "/readyz").await;
        assert_is(&answer, 503, "stopping: ");
        assert_is(&get(at, "/healthz").await, 200, "ok");
        running.end(Instant::now() + 2 * LAST_ANSWERS).await;
        assert!(TcpStream::connect(at).await.is_err(), "it is closed");
        server.stop().await;
        assert_eq!(writer.finish(), Ok(()));
    }

    /// How many seconds have gone by without anybody's waiting for them.
    #[cfg(feature = "cluster")]
    static PAST: AtomicU64 = AtomicU64::new(0);

    #[cfg(feature = "cluster")]
    fn clock() -> Duration {
        since_boot() + Duration::from_secs(PAST.load(Ordering::Relaxed))
    }

    /// It is asked for its own role at each stage.
    #[cfg(feature = "cluster")]
    #[tokio::test]
    async fn one_of_several_follows_and_leads_in_turns() {
        let ttl = Duration::from_secs(3600);
        let (node, herald) = Herald::start(since_boot, ttl);
        let local = ["127.0.0.1:0".parse().expect("an address")];
        let listeners = bind_admin(Vec::new(), &local, &[]).await.expect("a port");
        let at = listeners[0].tcp_address().expect("TCP");
        let running = start(listeners, &Config::default()).expect("a thread");
        let running = running.expect("there is a listener");
        for term in [7, 9] {
            running.follows(Arc::clone(&node));
            herald.nobody_leads();
            assert_is(&get(at, "/readyz").await, 503, "no leader: none of");
            assert_is(
                &get(at, "/api/info").await,
                503,
                "nobody leads at this time",
            );
            herald.leads("10.0.0.7:11401", term);
            assert_is(&get(at, "/readyz").await, 200, "ready");
            for path in ["/", "/api/locks"] {
                let answer = get(at, path).await;
                assert_is(&answer, 503, "the other servers reach at 10.0.0.7:11401\n");
            }
            let metrics = get(at, "/metrics").await;
            assert_is(&metrics, 200, "elock_ready 1\n");
            assert_is(&metrics, 200, "elock_cluster_role{role=\"follower\"} 1\n");
            assert_is(&metrics, 200, &format!("elock_cluster_term {term}\n"));
            assert!(!metrics.contains("elock_locks"), "{metrics}");
            running.loads();
            assert_is(&get(at, "/readyz").await, 503, "loading: ");
            let leadership = Arc::new(Leadership::new(clock, ttl, clock()));
            let leading = Leading::of_test(Arc::clone(&leadership), "10.0.0.8:11401", term + 1);
            let server = Server::start_leading(leading);
            running.serves(ServerHandle::new(&server.shared));
            assert_is(&get(at, "/readyz").await, 200, "ready");
            let metrics = get(at, "/metrics").await;
            assert_is(&metrics, 200, "elock_cluster_role{role=\"leader\"} 1\n");
            assert_is(&metrics, 200, &format!("elock_cluster_term {}\n", term + 1));
            assert_is(&get(at, "/api/info").await, 200, "\"role\":\"leader\"");
            // The lease was not renewed for all of its time.
            PAST.fetch_add(ttl.as_secs(), Ordering::Relaxed);
            for path in ["/readyz", "/", "/api/locks"] {
                assert_is(&get(at, path).await, 503, "suspended: ");
            }
            assert_is(&get(at, "/metrics").await, 200, "elock_ready 0\n");
            leadership.renewed(clock());
            for path in ["/readyz", "/", "/api/locks"] {
                assert_is(&get(at, path).await, 200, "");
            }
            leadership.lose(Lost::Deposed);
            for path in ["/readyz", "/", "/api/locks"] {
                assert_is(&get(at, path).await, 503, "stopping: ");
            }
            server.stop().await;
        }
        running.end(Instant::now() + 2 * LAST_ANSWERS).await;
    }

    #[tokio::test]
    async fn a_request_that_is_being_answered_when_the_server_ends_is_answered() {
        let (begin, begun) = oneshot::channel();
        let (go, may_go) = oneshot::channel();
        let gate = Arc::new(std::sync::Mutex::new(Some((begin, may_go))));
        let slow = axum::routing::get(move || {
            let gate = gate.lock().expect("whole").take();
            async {
                let (begin, may_go) = gate.expect("one request");
                begin.send(()).expect("the test waits");
                may_go.await.expect("the test goes on");
                "done"
            }
        });
        let router = axum::Router::new().route("/", slow);
        let local = ["127.0.0.1:0".parse().expect("an address")];
        let listeners = bind_admin(Vec::new(), &local, &[]).await.expect("a port");
        let at = listeners[0].tcp_address().expect("TCP");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(listener::serve_all(listeners, router, stop.clone()));
        let asking = tokio::spawn(get(at, "/"));
        begun.await.expect("it is asked");
        stop.cancel();
        go.send(()).expect("it waits");
        assert_is(&asking.await.expect("no panic"), 200, "done");
        serving.await.expect("no panic");
    }
}
