//! Histories that the fuzzer makes up, run against the table and the model of its tests side by side.

#![no_main]

#[path = "../../tests/model/both.rs"]
mod both;
#[path = "../../tests/model/rules.rs"]
mod rules;
#[path = "../../tests/model/steps.rs"]
mod steps;
#[path = "../../tests/model/stuck.rs"]
mod stuck;

use std::time::Duration;

use both::Both;
use elock::model::Limits;
use libfuzzer_sys::fuzz_target;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use steps::{Step, sharing_step, step};

/// The model looks at everything after each step.
const MOST_STEPS: usize = 200;

const LIMITS: Limits = Limits {
    locks: 9,
    locks_per_session: 3,
    waiters_per_key: 3,
    sessions_in_grace: 3,
    max_hold: None,
    equal_values_pass: false,
};

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    let limits = Limits {
        max_hold: (kind & 1 > 0).then_some(Duration::from_millis(100)),
        equal_values_pass: kind & 2 > 0,
        ..LIMITS
    };
    let history = match kind & 4 > 0 {
        true => history(&sharing_step(), bytes),
        false => history(&step(), bytes),
    };
    // A store makes each history much slower.
    let mut both = match kind & 0xf8 == 0 {
        true => Both::stored(limits),
        false => Both::new(limits),
    };
    for step in &history {
        both.run(step);
        both.assert_tokens_grow();
        both.assert_same_state();
    }
});

/// One step for each four bytes, which stand for its chance: so that the fuzzer changes, repeats and
/// leaves out single steps.
fn history(step: &impl Strategy<Value = Step>, bytes: &[u8]) -> Vec<Step> {
    let seeds = bytes.chunks_exact(4).take(MOST_STEPS);
    let steps = seeds.map(|seed| {
        let chance = TestRng::from_seed(RngAlgorithm::XorShift, &seed.repeat(4));
        let mut runner = TestRunner::new_with_rng(Config::default(), chance);
        Some(step.new_tree(&mut runner).ok()?.current())
    });
    steps.flatten().collect()
}
