//! What `info`, `locks`, `sessions` and `stats` show.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::command::unexpected;
use crate::error::Error;

/// The server in numbers, by name: protocol.md, `info`, lists them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Info(pub BTreeMap<String, String>);

impl Info {
    pub(crate) fn read(answer: &Answer) -> Self {
        let pairs = answer.lines.iter().filter_map(|line| {
            let line = String::from_utf8_lossy(line);
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Self(pairs.collect())
    }

    /// A value as it was told.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A number, or 0 if the server does not tell it.
    pub fn number(&self, name: &str) -> u64 {
        self.get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    /// The longest lease that the server gives, and the one with which each grant begins.
    pub fn max_hold(&self) -> Option<Duration> {
        let ms = self.number("max_hold_ms");
        (ms > 0).then(|| Duration::from_millis(ms))
    }

    /// Whether a restart of this server keeps locks.
    pub fn is_durable(&self) -> bool {
        self.get("store").is_some_and(|store| store != "memory")
    }
}

/// Three counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// Sessions with a connection.
    pub clients: u64,
    /// Keys that are held.
    pub locks: u64,
    /// All sessions, those in their grace period included.
    pub monitoring: u64,
}

impl Stats {
    pub(crate) fn read(answer: &Answer) -> Option<Self> {
        let number = |name: &str| {
            answer.lines.iter().find_map(|line| {
                let line = std::str::from_utf8(line).ok()?;
                let (found, value) = line.strip_prefix("STAT ")?.split_once(' ')?;
                (found == name).then(|| value.parse().ok())?
            })
        };
        Some(Self {
            clients: number("clients")?,
            locks: number("locks")?,
            monitoring: number("monitoring")?,
        })
    }
}

/// A part of a long list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page<T> {
    /// At most a thousand.
    pub entries: Vec<T>,
    /// What to ask with for those behind, if there are any.
    pub next: Option<Vec<u8>>,
}

impl<T: for<'a> Deserialize<'a>> Page<T> {
    pub(crate) fn read(answer: &Answer, kind: &str) -> Result<Self, Error> {
        let mut page = Self {
            entries: Vec::with_capacity(answer.lines.len()),
            next: None,
        };
        for line in &answer.lines {
            if let Some(object) = line.strip_prefix(kind.as_bytes()) {
                let entry = serde_json::from_slice(object).map_err(|_| unexpected(answer))?;
                page.entries.push(entry);
            } else if let Some(next) = line.strip_prefix(b"NEXT ") {
                page.next = Some(next.to_owned());
            }
        }
        Ok(page)
    }
}

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockEntry {
    /// The key as people read it, with `\xNN` for the bytes of what they could not see.
    pub key: String,
    /// The key's bytes in base64, where `key` is not them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// How it is held.
    #[serde(flatten)]
    pub mode: ModeShown,
    /// The first ten.
    pub holders: Vec<HolderEntry>,
    /// How many there are.
    pub holders_in_all: u64,
    /// The first ten requests that wait.
    pub waiting: Vec<WaitingEntry>,
    /// How many wait.
    pub waiting_in_all: u64,
}

/// How a lock is held or asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeShown {
    /// `exclusive`, `shared` or `slots`.
    pub mode: String,
    /// By which it is shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// How many slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u64>,
}

/// Who holds a lock: a session or an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderEntry {
    /// The session's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// The owner word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What the session is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The fencing token.
    pub token: u64,
    /// Since when, in milliseconds since the beginning of 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// For how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
    /// What is left of its lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_left_ms: Option<u64>,
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingEntry {
    /// The session that waits.
    pub session: u64,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For which owner it asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// How it asks.
    #[serde(flatten)]
    pub mode: ModeShown,
    /// For how long it has waited.
    pub waited_ms: u64,
    /// For how long it still will.
    pub left_ms: u64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// Its number.
    pub session: u64,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is, or was last, connected from.
    pub peer: String,
    /// Whether it has a connection.
    pub connected: bool,
    /// Since when its connection did nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// Its grace period.
    pub grace_ms: u64,
    /// What is left of one that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_left_ms: Option<u64>,
    /// How many locks it holds.
    pub locks: u64,
    /// The key that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// That key's bytes in base64, where `waits_for` is not them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for_base64: Option<String>,
    /// For how long it has waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<u64>,
    /// For how long it still will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

impl LockEntry {
    /// The key itself.
    pub fn key_bytes(&self) -> Vec<u8> {
        bytes_of(&self.key, self.key_base64.as_deref())
    }
}

impl SessionEntry {
    /// The key that it waits for, itself.
    pub fn waits_for_bytes(&self) -> Option<Vec<u8>> {
        let shown = self.waits_for.as_deref()?;
        Some(bytes_of(shown, self.waits_for_base64.as_deref()))
    }
}

fn bytes_of(shown: &str, base64: Option<&str>) -> Vec<u8> {
    base64
        .and_then(|text| STANDARD.decode(text).ok())
        .unwrap_or_else(|| shown.as_bytes().to_owned())
}
