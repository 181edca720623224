//! `elock status`: the server in numbers, and its busiest keys.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use elock_client::command::GetInfo;
use elock_client::listing::{Info, LockEntry};
use elock_client::{Address, Connection, Servers};
use serde_json::{Map, Value, json};

use super::ask;
use super::failure::Failure;
use super::key;
use super::output::Output;
use super::parties::{holders, time};
use super::queue::{Contended, Queue};
use super::repeat::{RepeatArgs, Shown};
use super::table::Table;
use super::visible::visible;
use crate::duration;
use crate::figures::{counted, grouped};

/// Its flags.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How many of the busiest keys
    #[arg(long, value_name = "N", default_value = "10")]
    keys: usize,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repeat: RepeatArgs,
}

/// A server has at most 10,000 connections, unless it is set otherwise, and whoever waits has one; but
/// it has many more sessions that are gone.
const MOST_PAGES: usize = 20;

/// Shows it.
pub async fn run(args: StatusArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let mut status = Status {
        keys: args.keys,
        is_json: args.json,
        before: None,
    };
    args.repeat.run(servers, &mut status).await?;
    Ok(ExitCode::SUCCESS)
}

struct Status {
    keys: usize,
    is_json: bool,
    before: Option<(Instant, Info)>,
}

/// A busy key, and who has it, if it is still held.
type Busy = (Contended, Option<ask::Listed<LockEntry>>);

impl Shown for Status {
    async fn show(
        &mut self,
        connection: &mut Connection,
        address: &Address,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let info = connection.call(&GetInfo {}).await?;
        let now = Instant::now();
        let queue = Queue::read(connection, MOST_PAGES).await?;
        let mut busy: Vec<Busy> = Vec::new();
        for contended in queue.contended().into_iter().take(self.keys) {
            let lock = ask::lock(connection, &contended.key).await?;
            busy.push((contended, lock));
        }
        if self.is_json {
            return output.line(&document(address, &info, &queue, &busy).to_string());
        }
        let rates = Rates::between(self.before.replace((now, info.clone())), now, &info);
        show_numbers(address, &info, &rates, output)?;
        show_busiest(&queue, &busy, output)
    }

    fn is_json(&self) -> bool {
        self.is_json
    }
}

/// The server tells whole seconds, of which a few are too rough to divide by.
const SHORTEST_UPTIME: u64 = 10;

/// How often things happen: since the last time, or since the start.
struct Rates {
    seconds: f64,
    before: Info,
}

impl Rates {
    fn between(before: Option<(Instant, Info)>, now: Instant, info: &Info) -> Self {
        let up = |info: &Info| info.number("uptime_seconds");
        match before {
            // After a restart, the counters are others.
            Some((then, before)) if up(&before) <= up(info) => Self {
                seconds: now.duration_since(then).as_secs_f64(),
                before,
            },
            _ => Self {
                seconds: match up(info) {
                    0..SHORTEST_UPTIME => 0.0,
                    seconds => seconds as f64,
                },
                before: Info::default(),
            },
        }
    }

    /// `12,345 (4.2/s)`; without the rate as long as the time is too short for one.
    fn of(&self, info: &Info, name: &str) -> String {
        let number = info.number(name);
        let more = number.saturating_sub(self.before.number(name));
        match self.seconds >= 0.05 && number > 0 {
            true => format!("{} ({:.1}/s)", grouped(number), more as f64 / self.seconds),
            false => grouped(number),
        }
    }
}

/// What is to be known before anything else.
pub fn alarms(info: &Info) -> impl Iterator<Item = String> {
    let storing = info.get("storing").filter(|&storing| storing != "yes");
    let storing = storing.map(|why| format!("CANNOT STORE: {why}"));
    let draining = info.get("draining").filter(|&draining| draining != "no");
    let draining = draining.map(|_| {
        let within = duration::show(info.number("draining"));
        // An older server does not tell it.
        let since = info.get("draining_for_ms").map_or_else(String::new, |_| {
            let ms = info.number("draining_for_ms");
            format!(" for {}", duration::show(ms))
        });
        format!("DRAINING{since}: no new locks, and it stops within {within}")
    });
    storing.into_iter().chain(draining)
}

fn show_numbers(
    address: &Address,
    info: &Info,
    rates: &Rates,
    output: &mut Output,
) -> Result<(), Failure> {
    for alarm in alarms(info) {
        output.line(&visible(&alarm))?;
    }
    let number = |name: &str| grouped(info.number(name));
    let rate = |name: &str| rates.of(info, name);
    let version = info.get("version").unwrap_or("of an unknown version");
    let up = whole(info.number("uptime_seconds"));
    let kept = |place: &str| {
        let (commits, bytes) = (rate("commits"), number("store_bytes"));
        format!("{place}, {commits} commits, {bytes} bytes")
    };
    let store = match info.get("store") {
        Some("etcd") => kept("in etcd"),
        _ if info.is_durable() => kept("on disk"),
        _ => "in memory: a restart forgets all locks".to_owned(),
    };
    let [sessions, connected] = ["sessions", "connected_sessions"].map(number);
    let [locks, watchers] = ["locks", "watchers"].map(number);
    let waiters = counted(info.number("waiters"), "request waits", "requests wait");
    let lines = [
        ("server", format!("elockd {version} at {address}, up {up}")),
        ("store", store),
        (
            "sessions",
            format!("{sessions}, {connected} of them connected"),
        ),
        (
            "locks",
            format!("{locks} held; {waiters}, {watchers} watch"),
        ),
        (
            "grants",
            format!("{}; handed over: {}", rate("grants"), rate("hand_overs")),
        ),
        (
            "refusals",
            format!(
                "{}, {} of them after a wait; deadlocks: {}",
                rate("refusals"),
                number("timeouts"),
                number("deadlocks")
            ),
        ),
        (
            "lost",
            format!(
                "{} by a lease's end, {} sessions by a grace period's end",
                number("lease_ends"),
                number("grace_ends")
            ),
        ),
        (
            "connections",
            format!(
                "{}; resumed: {}, taken over: {}",
                rate("connections"),
                number("resumes"),
                number("take_overs")
            ),
        ),
    ];
    let cluster = cluster(info).map(|text| ("cluster", text));
    let (server, others) = lines.split_at(1);
    for (name, text) in server.iter().chain(&cluster).chain(others) {
        output.line(&visible(&format!("{name:<12} {text}")))?;
    }
    Ok(())
}

/// A time of which only the whole seconds are told.
fn whole(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        _ => duration::show(seconds.saturating_mul(1_000)),
    }
}

/// Who leads; `None` of a server that is alone.
fn cluster(info: &Info) -> Option<String> {
    let (role, leader) = (info.get("role")?, info.get("leader")?);
    let [term, lag_ms] = ["term", "lag_ms"].map(|name| info.number(name));
    let leading = whole(info.number("leading_for_s"));
    let led = format!("for {leading} (term {term}); etcd was heard {lag_ms}ms ago");
    Some(match role {
        "leader" => format!("{leader} leads, {led}"),
        _ => format!("passed on to {leader}, which leads, {led}"),
    })
}

fn show_busiest(queue: &Queue, busy: &[Busy], output: &mut Output) -> Result<(), Failure> {
    output.line("")?;
    if queue.is_cut {
        let read = grouped(queue.sessions_read as u64);
        output.line(&format!("of the first {read} sessions, these wait for:"))?;
    }
    if busy.is_empty() {
        return output.line("nobody waits for a lock");
    }
    let mut table = Table::new(&["BUSIEST KEY", ">WAITING", ">LONGEST", "HOLDER", ">HELD"]);
    for (contended, lock) in busy {
        let lock = lock.as_ref().map(|lock| &lock.entry);
        let held_ms = lock.and_then(|lock| lock.holders.first()?.held_ms);
        table.row([
            key::shown(&contended.key),
            grouped(contended.waiting as u64),
            duration::show(contended.longest_ms),
            lock.map_or_else(|| "-".to_owned(), holders),
            time(held_ms),
        ]);
    }
    table.write(output)
}

fn document(address: &Address, info: &Info, queue: &Queue, busy: &[Busy]) -> Value {
    let numbers: Map<String, Value> = info
        .0
        .iter()
        .map(|(name, value)| {
            let number = value.parse::<u64>().map(Value::from);
            (
                name.clone(),
                number.unwrap_or_else(|_| Value::from(value.as_str())),
            )
        })
        .collect();
    let busiest: Vec<Value> = busy
        .iter()
        .filter_map(|(_, lock)| serde_json::from_str(&lock.as_ref()?.json).ok())
        .collect();
    json!({
        "server": address.to_string(),
        "info": numbers,
        "busiest": busiest,
        "sessions_read": queue.sessions_read,
        "sessions_read_all": !queue.is_cut,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(info: &[(&str, &str)]) -> Vec<String> {
        let pairs = info
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let info = Info(pairs.collect());
        let address = "localhost".parse().expect("an address");
        let rates = Rates::between(None, Instant::now(), &info);
        let mut output = Output::kept();
        show_numbers(&address, &info, &rates, &mut output).expect("a screen without an end");
        output.lines().to_vec()
    }

    #[test]
    fn a_server_that_cannot_store_says_so_first() {
        let first = |storing| lines(&[("storing", storing)]).swap_remove(0);
        assert_eq!(
            first("the disk is full\x1b"),
            "CANNOT STORE: the disk is full\\x1B"
        );
        assert!(first("yes").starts_with("server "));
        assert!(lines(&[])[0].starts_with("server "));
    }

    #[test]
    fn a_server_that_drains_says_so() {
        let first = |draining| lines(&[("draining", draining)]).swap_remove(0);
        let shown = "DRAINING: no new locks, and it stops within 58.1s";
        assert_eq!(first("58123"), shown);
        let since = lines(&[("draining", "58123"), ("draining_for_ms", "1900")]).swap_remove(0);
        let shown = "DRAINING for 1.9s: no new locks, and it stops within 58.1s";
        assert_eq!(since, shown);
        assert!(first("no").starts_with("server "));
    }

    #[test]
    fn one_of_several_says_who_leads() {
        let told = |role| {
            let facts = [
                ("leader", "a:11401"),
                ("term", "7"),
                ("leading_for_s", "61"),
            ];
            let facts = [
                &facts[..],
                &[("lag_ms", "250"), ("role", role), ("store", "etcd")],
            ];
            lines(&facts.concat())
        };
        let led = "for 1m 1s (term 7); etcd was heard 250ms ago";
        assert_eq!(
            told("leader")[1],
            format!("cluster      a:11401 leads, {led}")
        );
        let passed_on = format!("cluster      passed on to a:11401, which leads, {led}");
        assert_eq!(told("follower")[1], passed_on);
        assert_eq!(
            told("leader")[2],
            "store        in etcd, 0 commits, 0 bytes"
        );
        assert!(lines(&[])[1].starts_with("store "));
    }

    #[test]
    fn nothing_is_shown_that_whole_seconds_do_not_tell() {
        let lines = |up| lines(&[("uptime_seconds", up), ("grants", "30")]).join("\n");
        assert!(lines("3").contains(", up 3s\n"), "{}", lines("3"));
        assert!(lines("3").contains(" 30; handed"), "{}", lines("3"));
        assert!(lines("60").contains(", up 1m 0s\n"), "{}", lines("60"));
        assert!(lines("60").contains(" 30 (0.5/s);"), "{}", lines("60"));
    }
}
