//! Who waits for what: all of it that there is room to read, from the sessions.

use std::collections::HashMap;

use elock_client::{Connection, Error};
use serde::Deserialize;

use super::ask::{self, Listed, key_bytes};

/// A session that waits, as far as that is of interest.
#[derive(Debug, Deserialize)]
struct Sleeper {
    session: u64,
    name: Option<String>,
    waits_for: Option<String>,
    waits_for_base64: Option<String>,
    waited_ms: Option<u64>,
}

/// A request that waits.
#[derive(Debug)]
pub struct Request {
    /// Whose it is.
    pub session: u64,
    /// What that session is called.
    pub name: Option<String>,
    /// What it waits for.
    pub key: Vec<u8>,
    /// For how long it has waited.
    pub waited_ms: u64,
    /// The session's JSON object.
    pub json: String,
}

/// The requests that wait.
#[derive(Debug, Default)]
pub struct Queue {
    /// By the numbers of their sessions, each of which has one.
    pub requests: Vec<Request>,
    /// How many sessions were read.
    pub sessions_read: usize,
    /// Whether there are more sessions than that.
    pub is_cut: bool,
}

/// A key and how many wait for it.
#[derive(Debug)]
pub struct Contended {
    /// The key.
    pub key: Vec<u8>,
    /// How many requests wait for it.
    pub waiting: usize,
    /// For how long the first of them has.
    pub longest_ms: u64,
}

impl Queue {
    /// Reads no more than so many pages of a thousand sessions.
    pub async fn read(connection: &mut Connection, most_pages: usize) -> Result<Self, Error> {
        let mut queue = Self::default();
        let mut after = None;
        for _ in 0..most_pages {
            let page = ask::sessions::<Sleeper>(connection, after).await?;
            queue.sessions_read += page.entries.len();
            queue
                .requests
                .extend(page.entries.into_iter().filter_map(request));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        queue.is_cut = after.is_some();
        Ok(queue)
    }

    /// The keys, those first for which most wait.
    pub fn contended(&self) -> Vec<Contended> {
        let mut keys: HashMap<&[u8], (usize, u64)> = HashMap::new();
        for request in &self.requests {
            let (waiting, longest_ms) = keys.entry(&request.key).or_default();
            *waiting += 1;
            *longest_ms = (*longest_ms).max(request.waited_ms);
        }
        let contended = keys
            .into_iter()
            .map(|(key, (waiting, longest_ms))| Contended {
                key: key.to_owned(),
                waiting,
                longest_ms,
            });
        let mut contended: Vec<Contended> = contended.collect();
        contended.sort_unstable_by(|one, other| {
            other
                .waiting
                .cmp(&one.waiting)
                .then_with(|| one.key.cmp(&other.key))
        });
        contended
    }
}

fn request(listed: Listed<Sleeper>) -> Option<Request> {
    let entry = listed.entry;
    Some(Request {
        session: entry.session,
        key: key_bytes(&entry.waits_for?, entry.waits_for_base64.as_deref()),
        name: entry.name,
        waited_ms: entry.waited_ms.unwrap_or(0),
        json: listed.json,
    })
}
