//! `elock bench`: what a server does in a second, and how long each request takes.
//!
//! Each client sends a batch of requests by one write, reads all of their answers, and sends the
//! next: so a slow answer delays what comes behind it, and the load is never more than the server
//! takes. What a client sends is put together before the clock runs, and an answer is a few bytes
//! that are looked at where they were read to, so that little of what is measured is the client.

mod client;
mod course;
mod crew;
mod descriptors;
mod failure;
mod measure;
mod nearby;
mod progress;
mod replies;
mod script;
mod server_counters;
mod stream;
mod summary;
mod tally;
mod workload;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use elock_client::listing::Info;

use crate::duration;
use crate::exit;
use crate::figures;
use crate::server::ServerArgs;

use crew::Plan;
use failure::Failure;
use measure::Measured;
use server_counters::Holder;
use summary::Summary;
use workload::{KeyNames, Workload};

/// The most that `--clients` can be.
const MOST_CLIENTS: u32 = 10_000;
/// The most that `--pipeline` can be: so deep, it is within what servers let wait.
const MOST_PIPELINED: u32 = 1_000;
/// The most that `--keys` can be.
const MOST_KEYS: u32 = 100_000;
/// How many requests are made before the clock runs, which take about 50 bytes each.
const MOST_PREPARED: u64 = 4_000_000;
/// The shortest measurement.
const SHORTEST: Duration = Duration::from_millis(1);
/// The longest measurement.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// As shells have it for a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  elock bench                                      what one server does with 50 clients
  elock bench --workload contended --clients 200   how fast locks are handed on
  elock bench --pipeline 16 --json | jq .requests_per_second

Each client sends its next requests when the last ones are answered: a slow server is asked for less. \
Only locks of its own are touched, and none is left behind. Ctrl-C ends it early and tells what was \
measured until then (exit code 130). An answer that a request should not get makes the exit code 65, \
and a server that cannot serve 69.")]
pub struct BenchArgs {
    /// Connections at a time, up to 10,000
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_CLIENTS)))]
    clients: u32,
    /// Requests that each client sends at once, up to 1,000
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_PIPELINED)))]
    pipeline: u32,
    /// Keys: of each client, 16 if not said; in contended of all together, 4 if not said
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_KEYS)))]
    keys: Option<u32>,
    /// How long to measure: 500ms, 10s, 5m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time_to_measure)]
    duration: Duration,
    /// What the clients do
    #[arg(long, value_enum, default_value_t = Workload::Own)]
    workload: Workload,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Also a server that is not of this machine
    #[arg(long)]
    yes: bool,
}

fn time_to_measure(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).map_err(|error| error.to_string())?;
    match time < SHORTEST || time > LONGEST {
        true => Err("it is between 1ms and 1d".to_owned()),
        false => Ok(time),
    }
}

/// Runs it.
pub fn run(args: BenchArgs, server: &ServerArgs) -> ExitCode {
    match measure_and_tell(&args, server) {
        Ok(code) => code,
        Err(failure) => {
            exit::say(&failure.to_string());
            ExitCode::from(code(&failure))
        }
    }
}

fn measure_and_tell(args: &BenchArgs, server: &ServerArgs) -> Result<ExitCode, Failure> {
    let keys = args.keys.unwrap_or(args.workload.default_keys());
    fits(args, keys)?;
    let targets = nearby::find(&server.server, args.yes)?;
    descriptors::make_room(args.clients)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::System)?;
    runtime.block_on(async {
        let (target, info) = server_counters::first_to_answer(targets).await?;
        let is_durable = info.as_ref().is_some_and(Info::is_durable);
        if args.workload == Workload::Durable && !is_durable {
            return Err(Failure::Usage(NOT_DURABLE.to_owned()));
        }
        let plan = Arc::new(Plan {
            target,
            workload: args.workload,
            clients: args.clients,
            pipeline: args.pipeline as usize,
            keys,
            names: KeyNames::new(),
        });
        let (summary, measured) = measure_beside_counters(&plan, args.duration).await?;
        print(&summary, args.json);
        Ok(verdict(&summary, &measured))
    })
}

const NOT_DURABLE: &str = "this server keeps its locks in memory (info: store memory), so that nothing \
                           durable can be measured: start it with --data-dir, or choose another --workload";

fn fits(args: &BenchArgs, keys: u32) -> Result<(), Failure> {
    let of_each =
        args.workload.requests_per_key() as u64 * u64::from(keys) + u64::from(args.pipeline);
    let prepared = of_each * u64::from(args.clients);
    if prepared <= MOST_PREPARED {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "so many --clients, --keys and requests in a --pipeline are {} requests to prepare, and {} \
         is the most",
        figures::grouped(prepared),
        figures::grouped(MOST_PREPARED),
    )))
}

/// The server's counters are read when no client is there any more, which has all of theirs counted.
async fn measure_beside_counters(
    plan: &Arc<Plan>,
    time: Duration,
) -> Result<(Summary, Measured), Failure> {
    let holder = Holder::take(plan).await?;
    let before = server_counters::ask(&plan.target).await?;
    let mut measured = measure::measure(plan, time).await?;
    let after = match read_again(plan, holder, &measured).await {
        Ok(after) => after,
        Err(failure) => {
            measured.failure.get_or_insert(failure);
            None
        }
    };
    let summary = Summary::new(plan, &measured, before.as_ref(), after.as_ref());
    Ok((summary, measured))
}

/// The counters, and the last lock is given back. Of a server that does not answer nothing is asked: the
/// end of the connection gives the lock back, too.
async fn read_again(
    plan: &Plan,
    holder: Option<Holder>,
    measured: &Measured,
) -> Result<Option<Info>, Failure> {
    if measured.is_abandoned || measured.failure.is_some() {
        return Ok(None);
    }
    let after = server_counters::ask(&plan.target).await?;
    if let Some(holder) = holder {
        holder.give_back(plan).await?;
    }
    Ok(after)
}

/// Standard output may be closed; then nobody wants to read it.
fn print(summary: &Summary, as_json: bool) {
    let text = match as_json {
        true => serde_json::to_string(summary).map(|json| json + "\n"),
        false => Ok(summary.to_string()),
    };
    if let Ok(text) = text {
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// Says what is wrong with what was measured.
fn verdict(summary: &Summary, measured: &Measured) -> ExitCode {
    for (code, answers) in &summary.unexpected {
        exit::say(&format!(
            "{} requests were answered {code}, the first {}: {}",
            figures::grouped(answers.count),
            answers.first,
            answers.meaning,
        ));
    }
    if let Some(failure) = &measured.failure {
        exit::say(&failure.to_string());
        return ExitCode::from(code(failure));
    }
    match summary.unexpected.last_key_value() {
        Some((500.., _)) => ExitCode::from(exit::UNAVAILABLE),
        Some(_) => ExitCode::from(exit::REFUSED),
        None if measured.is_interrupted => ExitCode::from(INTERRUPTED),
        None => ExitCode::SUCCESS,
    }
}

fn code(failure: &Failure) -> u8 {
    match failure {
        Failure::Usage(_) | Failure::FarAway(_) => exit::USAGE,
        Failure::Asked(error) => exit::code(error),
        _ => exit::UNAVAILABLE,
    }
}
