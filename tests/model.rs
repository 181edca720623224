//! Random histories of random sessions, run against the table and against a model that knows
//! nothing of how the table works: plain maps, and a queue that is a list. Now and then the table is
//! dropped, and another one made of what its store has kept.
//!
//! After each step every answer and the whole visible state must agree. A failing history is
//! shrunk and printed by proptest, and replays. `PROPTEST_CASES=10000` runs more of them.

#[path = "model/both.rs"]
mod both;
#[path = "model/rules.rs"]
mod rules;
#[path = "model/steps.rs"]
mod steps;
#[path = "model/stuck.rs"]
mod stuck;

use std::time::Duration;

use both::Both;
use elock::model::Limits;
use proptest::prelude::*;
use steps::{Step, sharing_step, step};

const LIMITS: Limits = Limits {
    locks: 9,
    locks_per_session: 3,
    waiters_per_key: 3,
    sessions_in_grace: 3,
    max_hold: None,
    equal_values_pass: false,
};

/// As a client of the nodejs server expects it.
const COMPATIBLE: Limits = Limits {
    equal_values_pass: true,
    ..LIMITS
};

/// Every lock has a lease.
const WITH_LEASES: Limits = Limits {
    max_hold: Some(Duration::from_millis(100)),
    ..LIMITS
};

fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..200)
}

fn history_of_those_who_share() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(sharing_step(), 1..100)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_table_does_what_the_model_does(history in history()) {
        run(Both::new(LIMITS), &history);
    }

    #[test]
    fn so_it_does_where_most_share_a_key(history in history_of_those_who_share()) {
        run(Both::new(LIMITS), &history);
    }

    #[cfg(feature = "store")]
    #[test]
    fn so_it_does_when_it_is_restarted(history in history()) {
        run(Both::stored(LIMITS), &history);
    }
}

proptest! {
    #![proptest_config(small())]

    #[test]
    fn so_it_does_where_equal_values_pass(history in history()) {
        run(Both::new(COMPATIBLE), &history);
    }

    #[test]
    fn so_it_does_where_every_lock_has_a_lease(history in history()) {
        run(Both::new(WITH_LEASES), &history);
    }

    #[cfg(feature = "store")]
    #[test]
    fn so_it_does_with_leases_when_it_is_restarted(history in history()) {
        run(Both::stored(WITH_LEASES), &history);
    }
}

/// A quarter of the cases.
fn small() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases.div_ceil(4),
        failure_persistence: None,
        ..usual
    }
}

fn run(mut both: Both, history: &[Step]) {
    for step in history {
        both.run(step);
        both.assert_tokens_grow();
        both.assert_same_state();
    }
    both.assert_same_audit();
}
