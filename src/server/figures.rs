//! The server in numbers, as `info` and the metrics show it.

use std::time::Duration;

use super::Shared;
use super::drain::Drained;
use crate::model::NotStored;
use crate::protocol::{Fact, Info, Refusal};

/// How many numbers `info` has that are levels or counters.
pub(crate) const NUMBERS: usize = 22;

/// What there is at this time, and what has happened since the start. The numbers are read one after the
/// other, while the server goes on.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) sessions: u64,
    pub(crate) connected_sessions: u64,
    pub(crate) locks: u64,
    pub(crate) waiters: u64,
    pub(crate) watchers: u64,
    /// Connections since the start.
    pub(crate) connections: u64,
    /// TLS handshakes that failed.
    pub(crate) tls_failures: u64,
    /// All grants, with the hand-overs.
    pub(crate) grants: u64,
    pub(crate) hand_overs: u64,
    pub(crate) lease_ends: u64,
    pub(crate) grace_ends: u64,
    pub(crate) kicks: u64,
    /// Locks that operators took from their holders.
    pub(crate) revocations: u64,
    pub(crate) resumes: u64,
    pub(crate) take_overs: u64,
    pub(crate) commits: u64,
    pub(crate) store_bytes: u64,
    /// `disk`, `etcd` or `memory`.
    pub(crate) store: &'static str,
    /// Why no change can be made at this time.
    pub(crate) not_storing: Option<NotStored>,
    /// How far a drain has come; `None` if there is none.
    pub(crate) drained: Option<Drained>,
}

impl Figures {
    pub(super) fn of(shared: &Shared) -> Self {
        let (table, counters) = (&shared.table, shared.table.counters());
        let (sessions, connected_sessions) = table.session_counts();
        let (commits, store_bytes) = table.changes().commits_and_bytes();
        let hand_overs = counters.handovers.get();
        Self {
            sessions: sessions as u64,
            connected_sessions: connected_sessions as u64,
            locks: table.held() as u64,
            waiters: table.waiting() as u64,
            watchers: table.watching() as u64,
            connections: counters.connections.get(),
            tls_failures: counters.tls_failures.get(),
            grants: counters.grants.get() + hand_overs,
            hand_overs,
            lease_ends: counters.lease_ends.get(),
            grace_ends: counters.grace_ends.get(),
            kicks: counters.kicks.get(),
            revocations: counters.revocations.get(),
            resumes: counters.resumes.get(),
            take_overs: counters.takeovers.get(),
            commits,
            store_bytes,
            store: store(shared),
            not_storing: table.changes().refusal(),
            drained: shared.drain.drained(),
        }
    }
}

/// Where locks and sessions are kept.
fn store(shared: &Shared) -> &'static str {
    match shared.table.changes().are_kept() {
        #[cfg(feature = "cluster")]
        true if shared.leading.is_some() => "etcd",
        true => "disk",
        false => "memory",
    }
}

/// The answer to `info`, to whoever has come by itself, or was passed on by another server.
pub(super) fn info(shared: &Shared, is_passed_on: bool) -> Info {
    let figures = Figures::of(shared);
    let max_hold = shared.table.max_hold().unwrap_or(Duration::ZERO);
    let not_storing = figures.not_storing.as_ref();
    let storing = not_storing.map_or_else(|| "yes".to_owned(), |reason| reason.to_string());
    let drained = figures.drained;
    let draining = drained.map_or_else(|| "no".to_owned(), |one| one.left.as_millis().to_string());
    let draining_for = drained.map_or(Duration::ZERO, |one| one.since);
    let facts = [
        ("version", Fact::Text(env!("CARGO_PKG_VERSION").to_owned())),
        ("instance", Fact::Text(shared.instance.clone())),
        (
            "uptime_seconds",
            Fact::Number(shared.start.elapsed().as_secs()),
        ),
        ("store", Fact::Text(figures.store.to_owned())),
        ("storing", Fact::Text(storing)),
        ("draining", Fact::Text(draining)),
        (
            "draining_for_ms",
            Fact::Number(draining_for.as_millis() as u64),
        ),
        ("max_hold_ms", Fact::Number(max_hold.as_millis() as u64)),
    ];
    let numbers = numbers(shared, figures);
    let numbers = numbers.map(|(name, number)| (name, Fact::Number(number)));
    let facts = facts.into_iter().chain(cluster(shared, is_passed_on));
    Info(facts.chain(numbers).collect())
}

/// What `info` says of a server that has others beside it. One that does not lead answers nothing itself; so its
/// clients are told of its own role by the one that does.
#[cfg(feature = "cluster")]
fn cluster(shared: &Shared, is_passed_on: bool) -> Vec<(&'static str, Fact)> {
    let Some(leading) = &shared.leading else {
        return Vec::new();
    };
    let role = match is_passed_on {
        true => "follower",
        false => "leader",
    };
    let lag = leading.leadership.lag();
    vec![
        ("role", Fact::Text(role.to_owned())),
        ("leader", Fact::Text(leading.address.clone())),
        ("term", Fact::Number(leading.term.unsigned_abs())),
        (
            "leading_for_s",
            Fact::Number(leading.since.elapsed().as_secs()),
        ),
        ("lag_ms", Fact::Number(lag.as_millis() as u64)),
    ]
}

#[cfg(not(feature = "cluster"))]
fn cluster(_: &Shared, _: bool) -> [(&'static str, Fact); 0] {
    []
}

/// The levels and counters of `info`, by their names there.
pub(super) fn numbers(shared: &Shared, figures: Figures) -> [(&'static str, u64); NUMBERS] {
    let Figures {
        sessions,
        connected_sessions,
        locks,
        waiters,
        watchers,
        connections,
        tls_failures,
        grants,
        hand_overs,
        lease_ends,
        grace_ends,
        kicks,
        revocations,
        resumes,
        take_overs,
        commits,
        store_bytes,
        store: _,
        not_storing: _,
        drained: _,
    } = figures;
    let refusals = |kind| shared.refusals.get(kind);
    let timeouts = refusals(Refusal::Timeout);
    [
        ("sessions", sessions),
        ("connected_sessions", connected_sessions),
        ("locks", locks),
        ("waiters", waiters),
        ("watchers", watchers),
        ("connections", connections),
        ("tls_failures", tls_failures),
        ("grants", grants),
        ("hand_overs", hand_overs),
        ("refusals", refusals(Refusal::Unavailable) + timeouts),
        ("timeouts", timeouts),
        ("deadlocks", refusals(Refusal::Deadlock)),
        ("lease_ends", lease_ends),
        ("grace_ends", grace_ends),
        ("kicks", kicks),
        ("revocations", revocations),
        ("resumes", resumes),
        ("take_overs", take_overs),
        ("wrong_passwords", refusals(Refusal::WrongPassword)),
        ("not_allowed", refusals(Refusal::NotAllowed)),
        ("commits", commits),
        ("store_bytes", store_bytes),
    ]
}
