//! `elock graph`: who waits for whom.

use std::collections::HashMap;
use std::process::ExitCode;

use clap::Args;
use elock_client::listing::LockEntry;
use elock_client::{Address, Connection, Servers};

use super::ask::{self, Listed};
use super::failure::Failure;
use super::output::Output;
use super::queue::{Contended, Queue, Request};
use super::repeat::{RepeatArgs, Shown};
use super::{dot, tree};
use crate::figures::grouped;

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Each key is shown once with what is below it. Of a key's holders, the first ten are shown. A lock of an \
owner word is where a line ends: who works under it, the server does not know.")]
pub struct GraphArgs {
    /// A graph for Graphviz: elock graph --dot | dot -Tsvg
    #[arg(long, conflicts_with = "json")]
    dot: bool,
    /// The server's JSON objects, one a line: first the sessions that wait, then the locks
    #[arg(long)]
    json: bool,
    /// Only so many keys, those for which most wait
    #[arg(long, value_name = "N", default_value = "500")]
    limit: usize,
    #[command(flatten)]
    repeat: RepeatArgs,
}

/// Pages of a thousand sessions: as many as a server has by default.
const MOST_PAGES: usize = 110;

/// Shows it.
pub async fn run(args: GraphArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let form = match (args.dot, args.json) {
        (true, _) => Form::Dot,
        (_, true) => Form::Json,
        _ => Form::Tree,
    };
    let mut view = View {
        form,
        limit: args.limit,
    };
    args.repeat.run(servers, &mut view).await?;
    Ok(ExitCode::SUCCESS)
}

enum Form {
    Tree,
    Dot,
    Json,
}

struct View {
    form: Form,
    limit: usize,
}

impl Shown for View {
    async fn show(
        &mut self,
        connection: &mut Connection,
        _: &Address,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let graph = Graph::read(connection, self.limit).await?;
        if let Some(what) = &graph.left_out {
            output.note(what)?;
        }
        match self.form {
            Form::Tree => tree::put(&graph, output),
            Form::Dot => dot::put(&graph, output),
            Form::Json => {
                let requests = graph.requests.iter().map(|request| &request.json);
                let locks = graph
                    .keys
                    .iter()
                    .filter_map(|key| Some(&key.lock.as_ref()?.json));
                requests.chain(locks).try_for_each(|json| output.line(json))
            }
        }
    }

    fn is_json(&self) -> bool {
        matches!(self.form, Form::Json)
    }
}

/// A key for which somebody waits.
pub struct Node {
    /// The key.
    pub key: Vec<u8>,
    /// Who has it; nobody any more, if it was freed since.
    pub lock: Option<Listed<LockEntry>>,
    /// Those that wait for it, by their places in [`Graph::requests`].
    pub waiters: Vec<usize>,
}

impl Node {
    /// Who has it.
    pub fn lock(&self) -> Option<&LockEntry> {
        self.lock.as_ref().map(|lock| &lock.entry)
    }
}

/// Requests wait for keys, and keys are held by sessions, which may wait themselves.
pub struct Graph {
    /// The requests that wait.
    pub requests: Vec<Request>,
    /// The keys for which they do.
    pub keys: Vec<Node>,
    /// What each session waits for: its request's place.
    of_session: HashMap<u64, usize>,
    /// By their bytes.
    of_key: HashMap<Vec<u8>, usize>,
    left_out: Option<String>,
}

impl Graph {
    async fn read(connection: &mut Connection, limit: usize) -> Result<Self, Failure> {
        let queue = Queue::read(connection, MOST_PAGES).await?;
        let contended = queue.contended();
        let left_out = left_out(&queue, &contended, limit);
        let mut keys = Vec::new();
        for Contended { key, .. } in contended.into_iter().take(limit) {
            let lock = ask::lock(connection, &key).await?;
            keys.push(Node {
                key,
                lock,
                waiters: Vec::new(),
            });
        }
        Ok(Self::of(queue.requests, keys, left_out))
    }

    fn of(requests: Vec<Request>, mut keys: Vec<Node>, left_out: Option<String>) -> Self {
        let places = keys
            .iter()
            .enumerate()
            .map(|(place, node)| (node.key.clone(), place));
        let of_key: HashMap<Vec<u8>, usize> = places.collect();
        let mut of_session = HashMap::new();
        for (place, request) in requests.iter().enumerate() {
            if let Some(&key) = of_key.get(&request.key) {
                keys[key].waiters.push(place);
                of_session.insert(request.session, place);
            }
        }
        // Those come first that have waited longest.
        for node in &mut keys {
            node.waiters
                .sort_by_key(|&place| u64::MAX - requests[place].waited_ms);
        }
        Self {
            requests,
            keys,
            of_session,
            of_key,
            left_out,
        }
    }

    /// The request with which a session waits, and the place of the key for which it does.
    pub fn waits_for(&self, session: u64) -> Option<(&Request, usize)> {
        let request = &self.requests[*self.of_session.get(&session)?];
        Some((request, *self.of_key.get(&request.key)?))
    }

    /// The keys for which somebody waits on whom nobody waits, and so the ends of all chains; then
    /// all others, for what is a mere circle has no end.
    pub fn ends_first(&self) -> Vec<usize> {
        let mut holds = std::collections::HashSet::new();
        for lock in self.keys.iter().filter_map(Node::lock) {
            holds.extend(lock.holders.iter().filter_map(|holder| holder.session));
        }
        let is_end = |&place: &usize| {
            let mut waiters = self.keys[place].waiters.iter();
            waiters.all(|&waiter| !holds.contains(&self.requests[waiter].session))
        };
        let (mut ends, others): (Vec<_>, Vec<_>) = (0..self.keys.len()).partition(is_end);
        ends.extend(others);
        ends
    }
}

fn left_out(queue: &Queue, contended: &[Contended], limit: usize) -> Option<String> {
    let read = grouped(queue.sessions_read as u64);
    let more = contended.len().saturating_sub(limit);
    match (queue.is_cut, more) {
        (false, 0) => None,
        (true, 0) => Some(format!("of the first {read} sessions")),
        (false, more) => Some(format!("{more} more keys are left out: --limit")),
        (true, more) => Some(format!(
            "of the first {read} sessions; {more} more keys are left out: --limit"
        )),
    }
}

/// A graph as a test draws it: who waits for which key, and which key is held by whom.
#[cfg(test)]
pub fn drawn(waits: &[(u64, &str)], holds: &[(&str, u64)]) -> Graph {
    let requests = waits.iter().map(|&(session, key)| Request {
        session,
        name: None,
        key: key.as_bytes().to_owned(),
        waited_ms: 0,
        json: String::new(),
    });
    let holder = |session: u64| format!(r#"{{"session":{session},"token":1,"held_ms":0}}"#);
    let keys = holds.chunk_by(|one, other| one.0 == other.0).map(|held| {
        let holders: Vec<String> = held.iter().map(|&(_, session)| holder(session)).collect();
        let json = format!(
            r#"{{"key":"","mode":"exclusive","holders":[{}],"holders_in_all":{},"waiting":[],"waiting_in_all":0}}"#,
            holders.join(","),
            holders.len()
        );
        let entry = serde_json::from_str(&json).expect("a lock");
        let key = held[0].0.as_bytes().to_owned();
        Node { key, lock: Some(Listed { entry, json }), waiters: Vec::new() }
    });
    Graph::of(requests.collect(), keys.collect(), None)
}
