//! What each client asks, again and again.

use clap::ValueEnum;

use super::script::Script;

/// How long a request of `contended` waits for its turn: longer than any measurement.
const WAIT_SECONDS: u32 = 100_000;
/// The places of the slots that `mixed` takes: more than there can be clients.
const SLOTS: u32 = 1_000_000;
/// How many keys of each shared kind there are in `mixed`, over which the clients spread.
const SHARED_KEYS: u32 = 16;

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Each client locks and unlocks keys of its own, for which nobody else asks
    Own,
    /// All clients wait in line for the same few keys, so that each grant is a hand-over
    Contended,
    /// Of 16 requests 8 lock and unlock own keys, 2 ask for a token and set a lease, 2 are tries of
    /// a lock that another holds, which are refused (409), 2 share a lock and 2 take a slot
    Mixed,
    /// Connects, sets its grace period to 0, locks, unlocks, quits, and connects again
    Churn,
    /// As own, at a server that writes each change to its disk: refused at one that keeps all in memory
    Durable,
}

impl Workload {
    /// The name by which it is chosen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Contended => "contended",
            Self::Mixed => "mixed",
            Self::Churn => "churn",
            Self::Durable => "durable",
        }
    }

    /// How many keys there are if nothing is said.
    pub fn default_keys(self) -> u32 {
        match self {
            Self::Contended => 4,
            _ => 16,
        }
    }

    /// How many requests go by for one key.
    pub fn requests_per_key(self) -> usize {
        match self {
            Self::Own | Self::Contended | Self::Durable => 2,
            Self::Churn => CHURN_REQUESTS,
            Self::Mixed => 16,
        }
    }

    /// The requests of one client, in the order in which it sends them.
    pub fn script(self, names: &KeyNames, client: u32, keys: u32) -> Script {
        let mut script = Script::default();
        for key in 0..keys {
            match self {
                Self::Own | Self::Durable => own(&mut script, &names.own(client, key)),
                Self::Contended => {
                    // Each begins at another key, so that the line is equally long at each.
                    let name = names.contended((client + key) % keys);
                    script.locks(format_args!("lock {name} {WAIT_SECONDS}"));
                    script.asks(format_args!("unlock {name}"), 200);
                }
                Self::Mixed => mixed(&mut script, names, client, key),
                Self::Churn => churn(&mut script, &names.own(client, key)),
            }
        }
        script
    }
}

/// The requests of one connection of `churn`.
pub const CHURN_REQUESTS: usize = 4;

fn own(script: &mut Script, key: &str) {
    script.locks(format_args!("lock {key}"));
    script.asks(format_args!("unlock {key}"), 200);
}

fn churn(script: &mut Script, key: &str) {
    script.asks(format_args!("set_timeout 0"), 200);
    own(script, key);
    script.asks(format_args!("quit"), 200);
}

fn mixed(script: &mut Script, names: &KeyNames, client: u32, key: u32) {
    let own_key = names.own(client, key);
    script.locks(format_args!("lock {own_key}"));
    script.asks(format_args!("token {own_key}"), 200);
    script.asks(format_args!("expire {own_key} 60000"), 200);
    script.asks(format_args!("unlock {own_key}"), 200);
    own(script, &own_key);
    script.asks(format_args!("lock {}", names.held()), 409);
    let shared = names.shared(client % SHARED_KEYS);
    script.locks(format_args!("lock_value {shared} readers"));
    script.asks(format_args!("unlock {shared}"), 200);
    own(script, &own_key);
    script.asks(format_args!("lock {}", names.held()), 409);
    let slots = names.slots(client % SHARED_KEYS);
    script.locks(format_args!("lock_slot {slots} {SLOTS}"));
    script.asks(format_args!("unlock {slots}"), 200);
    own(script, &own_key);
}

/// What the keys of a run are called: like those of no other run, and of nobody else.
#[derive(Debug)]
pub struct KeyNames {
    prefix: String,
}

impl KeyNames {
    /// Names that were never used.
    pub fn new() -> Self {
        use std::hash::{BuildHasher, Hasher, RandomState};
        let random = RandomState::new().build_hasher().finish() & 0xFF_FFFF;
        Self {
            prefix: format!("elock-bench-{}-{random:06x}", std::process::id()),
        }
    }

    /// The key that is held all the time in `mixed`.
    pub fn held(&self) -> String {
        format!("{}-held", self.prefix)
    }

    fn own(&self, client: u32, key: u32) -> String {
        format!("{}-{client}-{key}", self.prefix)
    }

    fn contended(&self, key: u32) -> String {
        format!("{}-c{key}", self.prefix)
    }

    fn shared(&self, key: u32) -> String {
        format!("{}-v{key}", self.prefix)
    }

    fn slots(&self, key: u32) -> String {
        format!("{}-s{key}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_as_many_requests_as_it_was_counted_with() {
        for &workload in Workload::value_variants() {
            let script = workload.script(&KeyNames::new(), 3, 5);
            let expected = 5 * workload.requests_per_key();
            assert_eq!(script.len(), expected, "{workload:?}");
        }
    }

    #[test]
    fn what_is_sent_ahead_of_a_wait_stays_within_the_servers_bound() {
        let longest = KeyNames {
            prefix: "elock-bench-4294967295-abcdef".to_owned(),
        };
        let mut script = Workload::Contended.script(&longest, 9_999, super::super::MOST_KEYS);
        script.repeat_for(super::super::MOST_PIPELINED as usize);
        let most = super::super::MOST_PIPELINED as usize;
        let last = script.len() - 1;
        assert!(script.batch(last, most).bytes.len() < 64 << 10);
    }
}
