//! The steps of which a history is made.

use elock::table::Ending;
use proptest::prelude::*;

use crate::rules::{For, Mode};

/// How many sessions are connected at one time at the most.
pub const PLACES: usize = 6;

/// How many keys there are.
pub const KEYS: u8 = 5;

/// How many owners there are.
const OWNERS: u8 = 2;

const HOUR_MS: u64 = 3_600_000;

/// One step. Sessions are places in a small list, so that they meet.
#[derive(Debug, Clone)]
pub enum Step {
    Open { at: usize },
    Client { at: usize, deed: Deed },
    Advance { by_ms: u64 },
    Restart,
}

/// What one session does next.
#[derive(Debug, Clone)]
pub enum Deed {
    Lock {
        key: u8,
        mode: Mode,
        by: For,
        wait_ms: Option<u64>,
    },
    LockAll {
        keys: Vec<u8>,
        wait_ms: Option<u64>,
        /// Whether they are kept, if all are got.
        keep: bool,
    },
    EndWait {
        ending: Ending,
    },
    Unlock {
        key: u8,
        owner: Option<u8>,
    },
    Token {
        key: u8,
        owner: Option<u8>,
    },
    Lease {
        key: u8,
        owner: Option<u8>,
        lease_ms: Option<u64>,
    },
    SetMode {
        key: u8,
        owner: Option<u8>,
        mode: Mode,
    },
    Break {
        key: u8,
        /// How many of the key's grants, in their order, are to be ended.
        first: usize,
        /// How many at the most in this step.
        most: usize,
    },
    Revoke {
        key: u8,
        /// How many at the most in this step.
        most: usize,
    },
    /// Ends another session, wherever it is.
    Kick {
        nth: usize,
    },
    UnlockAll,
    SetGrace {
        grace_ms: u64,
    },
    AskId,
    Disconnect,
    Resume {
        nth_id: usize,
    },
    TakeOver {
        nth_id: usize,
    },
}

pub fn step() -> impl Strategy<Value = Step> {
    let at = 0..PLACES;
    let by_ms = prop_oneof![Just(5), Just(10), Just(1000)];
    prop_oneof![
        4 => at.clone().prop_map(|at| Step::Open { at }),
        50 => (at, deed()).prop_map(|(at, deed)| Step::Client { at, deed }),
        2 => by_ms.prop_map(|by_ms| Step::Advance { by_ms }),
        1 => Just(Step::Restart),
    ]
}

/// Steps of those who share one key by a value, most of them for owners.
pub fn sharing_step() -> impl Strategy<Value = Step> {
    const KEY: u8 = 1;
    let mode = prop_oneof![5 => Just(Mode::Value(0)), 1 => Just(Mode::Exclusive)];
    let lease_ms = prop_oneof![4 => Just(None), 1 => lease()];
    let owner = (0..OWNERS, lease_ms).prop_map(|(word, lease_ms)| For::Owner { word, lease_ms });
    let by = prop_oneof![Just(For::Itself), owner];
    let wait_ms = prop_oneof![4 => Just(Some(HOUR_MS)), 1 => wait()];
    let lock = (mode, by, wait_ms).prop_map(|(mode, by, wait_ms)| Deed::Lock {
        key: KEY,
        mode,
        by,
        wait_ms,
    });
    let owner = prop_oneof![Just(None), (0..OWNERS).prop_map(Some)];
    let unlock = owner.prop_map(|owner| Deed::Unlock { key: KEY, owner });
    let deed = prop_oneof![8 => lock, 3 => unlock, 1 => deed()];
    prop_oneof![
        2 => (0..PLACES).prop_map(|at| Step::Open { at }),
        16 => (0..PLACES, deed).prop_map(|(at, deed)| Step::Client { at, deed }),
        1 => step(),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        24 => lock(),
        3 => lock_all(),
        14 => of_held(),
        4 => ending().prop_map(|ending| Deed::EndWait { ending }),
        10 => of_session(),
    ]
}

/// Most requests for one key ask for one kind of lock, so that they share it.
fn lock() -> impl Strategy<Value = Deed> {
    let by = prop_oneof![
        3 => Just(For::Itself),
        1 => (0..OWNERS, lease()).prop_map(|(word, lease_ms)| For::Owner { word, lease_ms }),
    ];
    (0..KEYS, usual_or_any(), 1..4_u32, by, wait()).prop_map(|(key, any, slots, by, wait_ms)| {
        let usual = match key % 3 {
            0 => Mode::Exclusive,
            1 => Mode::Value(0),
            _ => Mode::Slot(slots),
        };
        let mode = any.unwrap_or(usual);
        Deed::Lock {
            key,
            mode,
            by,
            wait_ms,
        }
    })
}

fn lock_all() -> impl Strategy<Value = Deed> {
    let keys = prop::sample::subsequence((0..KEYS).collect::<Vec<_>>(), 2..4);
    (keys, wait(), any::<bool>()).prop_map(|(keys, wait_ms, keep)| Deed::LockAll {
        keys,
        wait_ms,
        keep,
    })
}

/// What is done with a lock that is held, perhaps.
fn of_held() -> impl Strategy<Value = Deed> {
    let one = || (0..KEYS, owner());
    let mode = prop_oneof![
        2 => (0..2_u8).prop_map(Mode::Value),
        1 => Just(Mode::Exclusive),
    ];
    let most = prop_oneof![Just(1), Just(usize::MAX)];
    prop_oneof![
        6 => one().prop_map(|(key, owner)| Deed::Unlock { key, owner }),
        2 => one().prop_map(|(key, owner)| Deed::Token { key, owner }),
        4 => (one(), lease())
            .prop_map(|((key, owner), lease_ms)| Deed::Lease { key, owner, lease_ms }),
        4 => (one(), mode).prop_map(|((key, owner), mode)| Deed::SetMode { key, owner, mode }),
        3 => (0..KEYS, 0..4_usize, most.clone())
            .prop_map(|(key, first, most)| Deed::Break { key, first, most }),
        3 => (0..KEYS, most).prop_map(|(key, most)| Deed::Revoke { key, most }),
    ]
}

fn of_session() -> impl Strategy<Value = Deed> {
    let grace_ms = prop_oneof![Just(0), Just(10), Just(1000)];
    let nth_id = 0..8_usize;
    prop_oneof![
        1 => Just(Deed::UnlockAll),
        1 => (0..8_usize).prop_map(|nth| Deed::Kick { nth }),
        1 => grace_ms.prop_map(|grace_ms| Deed::SetGrace { grace_ms }),
        2 => Just(Deed::AskId),
        2 => Just(Deed::Disconnect),
        3 => nth_id.clone().prop_map(|nth_id| Deed::Resume { nth_id }),
        2 => nth_id.prop_map(|nth_id| Deed::TakeOver { nth_id }),
    ]
}

fn usual_or_any() -> impl Strategy<Value = Option<Mode>> {
    let any = prop_oneof![
        Just(Mode::Exclusive),
        (0..2_u8).prop_map(Mode::Value),
        (1..4_u32).prop_map(Mode::Slot),
    ];
    prop_oneof![3 => Just(None), 2 => any.prop_map(Some)]
}

fn owner() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![2 => Just(None), 1 => (0..OWNERS).prop_map(Some)]
}

/// In milliseconds.
fn wait() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        2 => Just(None),
        1 => prop_oneof![Just(5), Just(10), Just(1000)].prop_map(Some),
        3 => Just(Some(HOUR_MS)),
    ]
}

/// In milliseconds.
fn lease() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        1 => Just(None),
        2 => prop_oneof![Just(5), Just(10), Just(1000)].prop_map(Some),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        Just(Ending::Deadline),
        Just(Ending::Disconnect),
        Just(Ending::Shutdown),
        Just(Ending::Overrun),
    ]
}
