//! What clients saw of one key, and what must never be seen. Knows nothing of any server.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// One thing that happened to a key, in the order in which clients wrote it down.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The client was told that it has the lock. `arrival`: when it queued up, if it did. `token`: of
    /// its grant, if it asked.
    Got {
        client: u64,
        value: Option<u64>,
        arrival: Option<u64>,
        token: Option<u64>,
    },
    /// The client is about to give the lock back, or will never again act as its holder, or cannot
    /// be sure of it from here on.
    Gives { client: u64 },
    /// The client was told that it has it still, by the grant with this token, after it was not sure.
    Keeps {
        client: u64,
        value: Option<u64>,
        token: u64,
    },
}

/// The history of one key. Clients write `Got` after they were told so and `Gives` before they
/// let go: so two entries can only overlap here if the locks did.
#[derive(Debug, Default)]
pub struct History(Mutex<Vec<Event>>);

impl History {
    pub fn got(&self, client: u64, value: Option<u64>, arrival: Option<u64>) {
        self.push(Event::Got {
            client,
            value,
            arrival,
            token: None,
        });
    }

    pub fn got_with_token(&self, client: u64, value: Option<u64>, token: u64) {
        self.push(Event::Got {
            client,
            value,
            arrival: None,
            token: Some(token),
        });
    }

    pub fn keeps(&self, client: u64, value: Option<u64>, token: u64) {
        self.push(Event::Keeps {
            client,
            value,
            token,
        });
    }

    pub fn gives(&self, client: u64) {
        self.push(Event::Gives { client });
    }

    fn push(&self, event: Event) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event);
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is wrong with a history: two who exclude each other held the key at once, exclusive waiters
/// got it in another order than they came, or a token was not above those before it. Empty if all is
/// well.
pub fn violations(events: &[Event]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut holders: BTreeMap<u64, Option<u64>> = BTreeMap::new();
    let mut last_arrival = 0;
    // Of all, and of exclusive ones. Those who hold the key together may write in any order.
    let (mut last_token, mut last_exclusive_token) = (0, 0);
    for (index, event) in events.iter().enumerate() {
        match event {
            Event::Gives { client } => {
                if holders.remove(client).is_none() {
                    wrong.push(format!("event {index}: {client} gives what it has not"));
                }
            }
            Event::Keeps {
                client,
                value,
                token,
            } => {
                let latest = value.map_or(last_token, |_| last_exclusive_token);
                if *token < latest {
                    wrong.push(format!(
                        "event {index}: {client} kept it by {token}, and {latest} came after that"
                    ));
                }
                let excludes = |held: &Option<u64>| held.is_none() || held != value;
                if holders.values().any(excludes) {
                    wrong.push(format!(
                        "event {index}: {client} kept it while {holders:?} had it"
                    ));
                }
                holders.insert(*client, *value);
            }
            Event::Got {
                client,
                value,
                arrival,
                token,
            } => {
                if let Some(token) = token {
                    let before = value.map_or(last_token, |_| last_exclusive_token);
                    if *token <= before {
                        wrong.push(format!("event {index}: token {token} after {before}"));
                    }
                    last_token = last_token.max(*token);
                    if value.is_none() {
                        last_exclusive_token = *token;
                    }
                }
                let excludes = |held: &Option<u64>| held.is_none() || held != value;
                if holders.values().any(excludes) {
                    wrong.push(format!(
                        "event {index}: {client} got it while {holders:?} had it"
                    ));
                }
                holders.insert(*client, *value);
                if let (Some(arrival), None) = (arrival, value) {
                    if *arrival < last_arrival {
                        wrong.push(format!("event {index}: {client} was overtaken"));
                    }
                    last_arrival = *arrival;
                }
            }
        }
    }
    wrong
}
