//! What is told at the end, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use elock_client::listing::Info;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::crew::Plan;
use super::measure::Measured;
use super::server_counters::Counters;
use super::workload::Workload;
use crate::figures::{grouped, milliseconds};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Where the server is.
    pub server: String,
    /// What it says of itself, if it is an elockd.
    pub server_version: Option<String>,
    /// Where it keeps locks, likewise.
    pub server_store: Option<String>,
    /// What the clients did.
    pub workload: Workload,
    /// How many clients there were.
    pub clients: u32,
    /// How many requests each sent at once.
    pub pipeline: usize,
    /// How many keys there were: of all in `contended`, otherwise of each client.
    pub keys: u32,
    /// On how many threads they ran.
    pub threads: usize,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// Answers of any code.
    pub requests: u64,
    /// Answers that were what their request should get.
    pub done: u64,
    /// Of those that were.
    pub requests_per_second: f64,
    /// Answers by which a client got a lock.
    pub grants: u64,
    /// Connections that were made while the clock ran.
    pub connections: u64,
    /// Answers of each code.
    pub answers: BTreeMap<u16, u64>,
    /// Answers of each code that were not what their request should get.
    pub unexpected: BTreeMap<u16, UnexpectedAnswers>,
    /// Of what was done, from the write of its batch to its answer.
    pub latency_us: Percentiles,
    /// The same of grants alone, with the wait.
    pub grant_latency_us: Percentiles,
    /// What the server counted meanwhile, for all of its clients.
    pub server_counted: Option<Counters>,
    /// Processor time of the clients.
    pub client_processor_us_per_request: f64,
    /// What ended it too early.
    pub failure: Option<String>,
}

/// Answers of one code.
#[derive(Debug, Serialize)]
pub struct UnexpectedAnswers {
    /// How many.
    pub count: u64,
    /// One of them.
    pub first: String,
    /// What it means here.
    pub meaning: &'static str,
}

/// Times of which so many in a hundred are no longer.
#[derive(Debug, Serialize)]
pub struct Percentiles {
    /// Half of them.
    pub p50: f64,
    /// Nine in ten.
    pub p90: f64,
    /// 99 in a hundred.
    pub p99: f64,
    /// 999 in a thousand.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: us(histogram.max()),
        }
    }
}

impl Summary {
    /// Puts it together.
    pub fn new(
        plan: &Plan,
        measured: &Measured,
        before: Option<&Info>,
        after: Option<&Info>,
    ) -> Self {
        let tally = &measured.tally;
        let answers = tally.answers();
        let told = |name| before.and_then(|info| info.get(name)).map(str::to_owned);
        let unexpected = tally.unexpected.iter().map(|(&code, answers)| {
            let answers = UnexpectedAnswers {
                count: answers.count,
                first: answers.first.clone(),
                meaning: meaning(code),
            };
            (code, answers)
        });
        Self {
            server: plan.target.to_string(),
            server_version: told("version"),
            server_store: told("store"),
            workload: plan.workload,
            clients: plan.clients,
            pipeline: plan.pipeline,
            keys: plan.keys,
            threads: plan.threads(),
            seconds: measured.elapsed.as_secs_f64(),
            interrupted: measured.is_interrupted,
            requests: answers.values().sum(),
            done: tally.done,
            requests_per_second: a_second(tally.done, measured.elapsed),
            grants: tally.grants,
            connections: tally.connections,
            unexpected: unexpected.collect(),
            latency_us: Percentiles::of(&tally.latency_ns),
            grant_latency_us: Percentiles::of(&tally.grant_latency_ns),
            server_counted: before
                .zip(after)
                .map(|(before, after)| Counters::between(before, after)),
            client_processor_us_per_request: measured.processor.as_secs_f64() * 1e6
                / answers.values().sum::<u64>().max(1) as f64,
            answers,
            failure: measured.failure.as_ref().map(ToString::to_string),
        }
    }

    fn rate(&self, f: &mut fmt::Formatter<'_>, what: &str, count: u64) -> fmt::Result {
        let elapsed = Duration::try_from_secs_f64(self.seconds).unwrap_or_default();
        let a_second = grouped(a_second(count, elapsed) as u64);
        writeln!(f, "{what:<12}{:>16}{a_second:>16} a second", grouped(count))
    }

    fn times(&self, f: &mut fmt::Formatter<'_>, what: &str, times: &Percentiles) -> fmt::Result {
        write!(f, "{what:<12}")?;
        for us in [times.p50, times.p90, times.p99, times.p99_9, times.max] {
            write!(f, "{:>12}", milliseconds(us))?;
        }
        writeln!(f)
    }

    fn heading(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_whom = match self.workload {
            Workload::Contended => "in all",
            _ => "each",
        };
        let version = self.server_version.as_deref().unwrap_or("unknown");
        let store = self.server_store.as_deref().unwrap_or("unknown");
        writeln!(
            f,
            "{}: {} clients, pipeline {}, {} keys {of_whom}, {:.1} seconds",
            self.workload.name(),
            grouped(self.clients.into()),
            grouped(self.pipeline as u64),
            grouped(self.keys.into()),
            self.seconds,
        )?;
        writeln!(
            f,
            "server {}, version {}, store {}\n",
            self.server,
            version.escape_debug(),
            store.escape_debug(),
        )
    }

    fn rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rate(f, "requests", self.done)?;
        self.rate(f, "grants", self.grants)?;
        if let Some(counted) = &self.server_counted {
            self.rate(f, "hand-overs", counted.hand_overs)?;
            if self.workload == Workload::Durable {
                self.rate(f, "commits", counted.commits)?;
            }
        }
        if self.workload == Workload::Churn {
            self.rate(f, "connections", self.connections)?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.heading(f)?;
        self.rates(f)?;
        write!(f, "\n{:<12}", "ms")?;
        for name in ["p50", "p90", "p99", "p99.9", "max"] {
            write!(f, "{name:>12}")?;
        }
        writeln!(f)?;
        self.times(f, "all", &self.latency_us)?;
        self.times(f, "grants", &self.grant_latency_us)?;
        writeln!(f)?;
        for (code, count) in &self.answers {
            writeln!(
                f,
                "{:<12}{:>16}",
                format!("answers {code}"),
                grouped(*count)
            )?;
        }
        for (code, answers) in &self.unexpected {
            writeln!(
                f,
                "{} of the answers {code} are errors, the first {}",
                grouped(answers.count),
                answers.first
            )?;
        }
        writeln!(
            f,
            "processor time of the clients: {:.2} microseconds a request",
            self.client_processor_us_per_request
        )
    }
}

fn a_second(count: u64, elapsed: Duration) -> f64 {
    match elapsed.as_secs_f64() {
        0.0 => 0.0,
        seconds => count as f64 / seconds,
    }
}

/// What an answer of this code means to a client that should never get it.
pub fn meaning(code: u16) -> &'static str {
    match code {
        200 => "a lock that another held was granted: the server is wrong",
        400 => "the server does not know this request, or takes it for another",
        403 => {
            "a lock was lost while its client held it: by a server's --max-hold-ms, or the server is wrong"
        }
        409 => {
            "a lock was not to be had that should be free: the server is wrong, or others use the keys of this run"
        }
        413 => "the server's --max-line-bytes is too small for this",
        423 => "there is no circle in this workload: the server is wrong",
        500 => "the server cannot store: its log tells why",
        503 => {
            "the server stops, or has too many connections: its --max-connections, or fewer --clients"
        }
        507 => {
            "a bound of the server is reached: see elockd --help, or take fewer --clients or less --pipeline"
        }
        _ => "no such answer is known",
    }
}
