//! A hundred lives of `register`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use azsreg_lab::Keys;
use azsreg_trial::register_trial;

#[test]
fn a_hundred_seeds_end_as_they_must() {
    let keys = Keys::start();
    let mut trials = Vec::new();
    for seed in 1..=100 {
        match register_trial(seed, &keys) {
            Ok(trial) => trials.push(trial),
            Err(broken) => panic!("{broken}"),
        }
    }
    // A trial in which nothing goes wrong proves nothing.
    let crashes: u32 = trials.iter().map(|t| t.crashes).sum();
    let failures: u32 = trials.iter().map(|t| t.failures).sum();
    assert!(crashes > 100, "only {crashes} crashes in a hundred seeds");
    println!("{crashes} runs were killed, {failures} gave up and were run again");
}

#[test]
fn a_seed_replays_exactly() {
    let keys = Keys::start();
    assert_eq!(register_trial(7, &keys), register_trial(7, &keys));
}
