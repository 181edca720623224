//! `GET /metrics`: the server in the text format of Prometheus.
//!
//! No label has more values than this source names: neither a client nor the number of clients, keys or
//! sessions makes a series.

#[cfg(feature = "cluster")]
mod cluster;
mod families;
mod process;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;
use tracing::error;

use super::Admin;
#[cfg(feature = "cluster")]
use super::stage::Stage;
use crate::protocol::Refusal;
use crate::server::ServerHandle;
use crate::table::Contention;
use families::Families;

/// How long an answer about contention serves all who ask: it is the one that costs more where more
/// requests wait.
const CONTENTION_FRESH: Duration = Duration::from_secs(1);

/// What this build can do beside the plain server.
const FEATURES: &[(&str, bool)] = &[
    ("admin", cfg!(feature = "admin")),
    ("auth", cfg!(feature = "auth")),
    ("cluster", cfg!(feature = "cluster")),
    ("dual-stack", cfg!(feature = "dual-stack")),
    ("fd-limit", cfg!(feature = "fd-limit")),
    ("keepalive", cfg!(feature = "keepalive")),
    ("store", cfg!(feature = "store")),
    ("systemd", cfg!(feature = "systemd")),
    ("tls", cfg!(feature = "tls")),
    ("tuned", cfg!(feature = "tuned")),
];

/// The last answer about contention, and when it was given.
#[derive(Debug, Default)]
pub(super) struct LastContention(Mutex<Option<(Instant, Contention)>>);

impl LastContention {
    fn of(&self, server: &ServerHandle) -> Contention {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some((then, contention)) if then.elapsed() < CONTENTION_FRESH => contention,
            _ => {
                let contention = server.contention();
                *last = Some((Instant::now(), contention));
                contention
            }
        }
    }
}

/// Answers a scrape.
pub(super) async fn metrics(State(admin): State<Admin>) -> Response {
    let started = admin.started;
    let mut registry = Registry::default();
    match admin.stage.get() {
        #[cfg(feature = "cluster")]
        Stage::Following(node) => {
            registry.register_collector(Box::new(cluster::Follower { node, started }));
        }
        stage => match stage.server() {
            Ok(server) => {
                let contention = admin.contention.of(&server);
                registry.register_collector(Box::new(Scrape {
                    server,
                    contention,
                    started,
                }));
            }
            Err(why) => {
                return (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
            }
        },
    }
    written(&registry)
}

fn written(registry: &Registry) -> Response {
    let mut text = String::new();
    match prometheus_text::encode(&mut text, registry) {
        Ok(()) => (
            StatusCode::OK,
            [(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)],
            text,
        )
            .into_response(),
        Err(failure) => {
            error!("the metrics cannot be written: {failure}");
            let text = "the metrics cannot be written\n".to_owned();
            let content_type = [(CONTENT_TYPE, "text/plain")];
            (StatusCode::INTERNAL_SERVER_ERROR, content_type, text).into_response()
        }
    }
}

/// The server, to be read now.
#[derive(Debug)]
struct Scrape {
    server: ServerHandle,
    contention: Contention,
    /// Since the beginning of 1970.
    started: Duration,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        self.state(&mut families)?;
        self.events(&mut families)?;
        self.times(&mut families)?;
        self.limits(&mut families)?;
        #[cfg(feature = "cluster")]
        if let Some(standing) = self.server.standing() {
            cluster::standing(&mut families, &standing)?;
            cluster::log_entries(&mut families, self.server.log_entries())?;
        }
        program(&mut families, self.started)
    }
}

impl Scrape {
    fn state(&self, families: &mut Families<'_>) -> fmt::Result {
        let figures = self.server.figures();
        let in_grace = figures.sessions.saturating_sub(figures.connected_sessions);
        families.gauges(
            "elock_sessions",
            "Sessions, with a connection or in their grace period.",
            "state",
            [
                ("connected", figures.connected_sessions),
                ("grace", in_grace),
            ],
        )?;
        families.gauge("elock_locks", "Keys that are held.", figures.locks)?;
        families.gauge(
            "elock_waiters",
            "Requests that wait for a lock.",
            figures.waiters,
        )?;
        families.gauge(
            "elock_watchers",
            "Requests that watch a key.",
            figures.watchers,
        )?;
        families.gauge(
            "elock_longest_wait_seconds",
            "For how long the request has waited that has waited the longest.",
            self.contention.longest_wait.as_secs_f64(),
        )?;
        families.gauge(
            "elock_oldest_contended_hold_seconds",
            "For how long the lock is held that is held the longest, of those that requests wait for.",
            self.contention.oldest_hold.as_secs_f64(),
        )?;
        ready(families, self.server.not_ready().is_empty())?;
        families.gauge(
            "elock_draining",
            "Whether the server is drained: it gives no new locks.",
            u32::from(figures.drained.is_some()),
        )?;
        families.gauges(
            "elock_store_info",
            "Where locks and sessions are kept: on disk, in etcd, or in memory only.",
            "store",
            [(figures.store, 1_u32)],
        )?;
        families.gauge(
            "elock_store_writable",
            "Whether all changes can be stored at this time; 1 also where nothing is to be stored.",
            u32::from(self.server.can_store()),
        )?;
        families.gauge(
            "elock_store_bytes",
            "What the store takes on disk, without holes in its file; or in etcd, without its history.",
            figures.store_bytes,
        )
    }

    fn events(&self, families: &mut Families<'_>) -> fmt::Result {
        let (figures, refusals) = (self.server.figures(), self.server.refusals());
        let counters = [
            (
                "elock_connections",
                "Connections that were served.",
                figures.connections,
            ),
            (
                "elock_grants",
                "Grants of a lock, with the hand-overs.",
                figures.grants,
            ),
            (
                "elock_hand_overs",
                "Grants of a lock to requests that waited.",
                figures.hand_overs,
            ),
            (
                "elock_rests",
                "How often a connection had to rest, as its address or its user sent more commands than it may.",
                self.server.rests(),
            ),
            (
                "elock_deadlocks",
                "Requests that were refused because their wait would never end.",
                refusals.get(Refusal::Deadlock),
            ),
            (
                "elock_lease_ends",
                "Leases that ended with their locks.",
                figures.lease_ends,
            ),
            (
                "elock_grace_ends",
                "Grace periods that ended with locks.",
                figures.grace_ends,
            ),
            (
                "elock_kicks",
                "Sessions that operators ended.",
                figures.kicks,
            ),
            (
                "elock_revocations",
                "Locks that operators took from whoever held them.",
                figures.revocations,
            ),
            (
                "elock_resumes",
                "Sessions that were resumed after a disconnect.",
                figures.resumes,
            ),
            (
                "elock_take_overs",
                "Sessions that were taken over from a connection.",
                figures.take_overs,
            ),
            (
                "elock_tls_failures",
                "TLS handshakes that failed.",
                figures.tls_failures,
            ),
            ("elock_commits", "Commits of the store.", figures.commits),
        ];
        for (name, help, count) in counters {
            families.counter(name, help, count)?;
        }
        families.counters(
            "elock_log_lines_dropped",
            "Lines of the log, and events of the audit, that were dropped, by cause: its reader is too slow, the system refused them, or there were more than one thread writes.",
            "cause",
            self.server.dropped_lines(),
        )?;
        families.counters(
            "elock_refusals",
            "Requests and connections that were refused, by reason.",
            "reason",
            Refusal::ALL
                .iter()
                .map(|refusal| (refusal.reason(), refusals.get(*refusal))),
        )
    }

    fn times(&self, families: &mut Families<'_>) -> fmt::Result {
        let times = self.server.times();
        families.histograms(
            "elock_wait_seconds",
            "How long requests waited that had to wait, by whether they were granted their lock.",
            "outcome",
            [
                ("granted", &times.granted_waits),
                ("not_granted", &times.other_waits),
            ],
        )?;
        families.histogram(
            "elock_hold_seconds",
            "How long grants lasted that are over.",
            &times.holds,
        )?;
        families.histogram(
            "elock_commit_seconds",
            "How long commits of the store took that changed something, also those that failed.",
            &times.commits,
        )?;
        families.counter(
            "elock_commit_failures",
            "Commits of the store that failed.",
            times.failed_commits,
        )
    }

    fn limits(&self, families: &mut Families<'_>) -> fmt::Result {
        let limits = self.server.limits();
        families.gauges(
            "elock_limit",
            "A bound of the settings, such as --max-locks; of addresses and users, where one is set.",
            "limit",
            limits.iter().map(|limited| (limited.what, limited.limit)),
        )?;
        families.gauges(
            "elock_limit_used",
            "How much of the bound is taken: of one for each address or user, by that which is nearest to it.",
            "limit",
            limits.iter().map(|limited| (limited.what, limited.used)),
        )?;
        families.gauges(
            "elock_tls_certificate_not_after_timestamp_seconds",
            "When the server's certificate ends, and the first of those that sign clients', in seconds since the beginning of 1970.",
            "certificate",
            self.server.certificate_ends(),
        )
    }
}

fn ready(families: &mut Families<'_>, is_ready: bool) -> fmt::Result {
    families.gauge(
        "elock_ready",
        "Whether /readyz says so.",
        u32::from(is_ready),
    )
}

/// What is told of the program, whatever it is doing.
fn program(families: &mut Families<'_>, started: Duration) -> fmt::Result {
    build(families)?;
    families.gauge(
        "process_start_time_seconds",
        "When the server started, in seconds since the beginning of 1970.",
        started.as_secs_f64(),
    )?;
    process::process(families)
}

fn build(families: &mut Families<'_>) -> fmt::Result {
    let features = FEATURES.iter().filter(|(_, is_in)| *is_in);
    let features: Vec<&str> = features.map(|(name, _)| *name).collect();
    families.info(
        "elock_build_info",
        "The version of this elockd, and the features that it was built with.",
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("features", &features.join(",")),
        ],
    )
}
