//! What clients saw of one key, and what must never be seen. Knows nothing of any server.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How a key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Alone,
    /// With all who named this value.
    Shared(u64),
    /// In one of so many slots.
    Slot(u32),
}

/// Alone, or by a value.
impl From<Option<u64>> for Held {
    fn from(value: Option<u64>) -> Self {
        value.map_or(Self::Alone, Self::Shared)
    }
}

impl Held {
    /// Whether nobody may hold the key so while another holds it so.
    fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Shared(one), Self::Shared(other)) => one != other,
            (Self::Slot(_), Self::Slot(_)) => false,
            _ => true,
        }
    }
}

/// One thing that happened to a key, in the order in which clients wrote it down. A client is whoever
/// holds the key: a session, or an owner word.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The client is about to ask for it.
    Asks { client: u64 },
    /// The client stands in the queue.
    Waits { client: u64, held: Held },
    /// The client is about to leave the queue.
    Leaves { client: u64 },
    /// The client was told that it has the lock. `arrival`: when it queued up, if it did. `token`: of
    /// its grant, if it asked.
    Got {
        client: u64,
        held: Held,
        arrival: Option<u64>,
        token: Option<u64>,
    },
    /// The client is about to give the lock back, or will never again act as its holder, or cannot
    /// be sure of it from here on.
    Gives { client: u64 },
    /// The client was told that it has it still, by the grant with this token, after it was not sure.
    Keeps { client: u64, held: Held, token: u64 },
    /// The client is about to let others in beside it, or was told that it has the lock alone now.
    Changes { client: u64, held: Held },
    /// The client asked whether it has the lock, and was told.
    Told { client: u64, has_it: bool },
    /// A watcher is about to wait until the lock is not held by the grant with this token.
    Watches { watcher: u64, token: u64 },
    /// It was told the token of another, or that the lock is free.
    Woken { watcher: u64, token: Option<u64> },
}

/// The history of one key. Clients write `Got` after they were told so and `Gives` before they
/// let go: so two entries can only overlap here if the locks did.
#[derive(Debug, Default)]
pub struct History(Mutex<Vec<Event>>);

impl History {
    pub fn got(&self, client: u64, held: impl Into<Held>, arrival: Option<u64>) {
        self.push(Event::Got {
            client,
            held: held.into(),
            arrival,
            token: None,
        });
    }

    pub fn got_with_token(&self, client: u64, held: impl Into<Held>, token: u64) {
        self.push(Event::Got {
            client,
            held: held.into(),
            arrival: None,
            token: Some(token),
        });
    }

    pub fn keeps(&self, client: u64, held: impl Into<Held>, token: u64) {
        self.push(Event::Keeps {
            client,
            held: held.into(),
            token,
        });
    }

    pub fn gives(&self, client: u64) {
        self.push(Event::Gives { client });
    }

    pub fn push(&self, event: Event) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event);
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is wrong with a history: two who exclude each other held the key at once, or more than there
/// are slots; exclusive waiters got it in another order than they came, or somebody was let in at once
/// past one who waited all the while and excludes it; a token was not above those before it; the server
/// told a client of a lock that it never got, or not of one that it has; or a watcher was woken by
/// nothing, or not woken. Empty if all is well.
pub fn violations(events: &[Event]) -> Vec<String> {
    let mut judge = Judge::default();
    for (index, event) in events.iter().enumerate() {
        judge.index = index;
        judge.see(event);
    }
    for (watcher, watch) in &judge.watches {
        if watch.has_passed_on {
            let wrong = format!("watcher {watcher} was not woken since {}", watch.since);
            judge.wrong.push(wrong);
        }
    }
    judge.wrong
}

/// What is so after the events that were seen.
#[derive(Default)]
struct Judge {
    index: usize,
    wrong: Vec<String>,
    holders: BTreeMap<u64, Held>,
    /// Those who asked and were not answered, and since when.
    asking: BTreeMap<u64, usize>,
    /// Those who wait, and since when.
    waiting: BTreeMap<u64, (Held, usize)>,
    watches: BTreeMap<u64, Watch>,
    last_arrival: u64,
    /// Of all, and of exclusive ones. Those who hold the key together may write in any order.
    last_token: u64,
    last_exclusive_token: u64,
}

struct Watch {
    since: usize,
    token: u64,
    /// Whether one who had the lock alone has given it back since, and whether another got it then.
    is_given: bool,
    has_passed_on: bool,
}

impl Judge {
    fn is_wrong(&mut self, what: String) {
        self.wrong.push(format!("event {}: {what}", self.index));
    }

    fn see(&mut self, event: &Event) {
        match *event {
            Event::Asks { client } => {
                self.asking.insert(client, self.index);
            }
            Event::Waits { client, held } => {
                self.asking.remove(&client);
                self.waiting.insert(client, (held, self.index));
            }
            Event::Leaves { client } => {
                self.waiting.remove(&client);
            }
            Event::Got {
                client,
                held,
                arrival,
                token,
            } => self.got(client, held, arrival, token),
            Event::Gives { client } => self.gives(client),
            Event::Keeps {
                client,
                held,
                token,
            } => self.keeps(client, held, token),
            Event::Changes { client, held } => match self.holders.remove(&client) {
                None => self.is_wrong(format!("{client} changes what it has not")),
                Some(_) => self.enters(client, held, "changed it"),
            },
            Event::Told { client, has_it } => self.told(client, has_it),
            Event::Watches { watcher, token } => {
                let watch = Watch {
                    since: self.index,
                    token,
                    is_given: false,
                    has_passed_on: false,
                };
                self.watches.insert(watcher, watch);
            }
            Event::Woken { watcher, token } => {
                let known = self.watches.remove(&watcher).map(|watch| watch.token);
                if known.is_none() || token == known {
                    self.is_wrong(format!("watcher {watcher} was woken by nothing"));
                }
            }
        }
    }

    fn got(&mut self, client: u64, held: Held, arrival: Option<u64>, token: Option<u64>) {
        if let Some(token) = token {
            self.is_above_those_before(held, token);
        }
        if self.holders.contains_key(&client) {
            self.is_wrong(format!("{client} got it twice"));
        }
        self.enters(client, held, "got it");
        self.waiting.remove(&client);
        let asked = self.asking.remove(&client);
        match (arrival, asked) {
            (Some(arrival), _) if held == Held::Alone => {
                if arrival < self.last_arrival {
                    self.is_wrong(format!("{client} was overtaken"));
                }
                self.last_arrival = arrival;
            }
            (None, Some(asked)) => {
                let is_passed =
                    |(other, since): &&(Held, usize)| *since < asked && held.excludes(*other);
                if self.waiting.values().any(|one| is_passed(&one)) {
                    self.is_wrong(format!("{client} passed {:?}", self.waiting));
                }
            }
            _ => {}
        }
        for watch in self.watches.values_mut() {
            watch.has_passed_on |= watch.is_given;
        }
    }

    fn is_above_those_before(&mut self, held: Held, token: u64) {
        let before = self.latest_against(held);
        if token <= before {
            self.is_wrong(format!("token {token} after {before}"));
        }
        self.last_token = self.last_token.max(token);
        if held == Held::Alone {
            self.last_exclusive_token = token;
        }
    }

    fn latest_against(&self, held: Held) -> u64 {
        match held {
            Held::Alone => self.last_token,
            Held::Shared(_) | Held::Slot(_) => self.last_exclusive_token,
        }
    }

    /// Beside those who are there.
    fn enters(&mut self, client: u64, held: Held, how: &str) {
        let others = self.holders.iter().filter(|(other, _)| **other != client);
        let others: Vec<Held> = others.map(|(_, held)| *held).collect();
        let is_full = match held {
            Held::Slot(slots) => others.len() >= slots as usize,
            Held::Alone | Held::Shared(_) => false,
        };
        if is_full || others.iter().any(|other| other.excludes(held)) {
            let there = format!("{:?}", self.holders);
            self.is_wrong(format!("{client} {how} while {there} had it"));
        }
        self.holders.insert(client, held);
    }

    fn gives(&mut self, client: u64) {
        match self.holders.remove(&client) {
            None => self.is_wrong(format!("{client} gives what it has not")),
            Some(Held::Alone) => {
                for watch in self.watches.values_mut() {
                    watch.is_given = true;
                }
            }
            Some(Held::Shared(_) | Held::Slot(_)) => {}
        }
    }

    fn keeps(&mut self, client: u64, held: Held, token: u64) {
        let latest = self.latest_against(held);
        if token < latest {
            self.is_wrong(format!(
                "{client} kept it by {token}, and {latest} came after that"
            ));
        }
        self.enters(client, held, "kept it");
    }

    fn told(&mut self, client: u64, has_it: bool) {
        match (has_it, self.holders.contains_key(&client)) {
            (true, false) => self.is_wrong(format!("{client} has what it was never told of")),
            (false, true) => self.is_wrong(format!("{client} has lost it")),
            _ => {}
        }
    }
}
