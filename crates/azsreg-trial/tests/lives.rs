//! Lives of a registration, connected and disconnected, and of two operators at one stamp.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use azsreg_lab::Keys;
use azsreg_trial::{Broken, Trial, life_trial, offline_trial, pair_trial, sweep_trial, usage_trial};

fn lives(what: &str, live: impl Fn(u64, &Keys) -> Result<Trial, Broken>) {
    let keys = Keys::start();
    let mut trials = Vec::new();
    for seed in 1..=300 {
        match live(seed, &keys) {
            Ok(trial) => trials.push(trial),
            Err(broken) => panic!("{broken}"),
        }
    }
    // A trial in which nothing goes wrong proves nothing.
    let crashes: u32 = trials.iter().map(|t| t.crashes).sum();
    let failures: u32 = trials.iter().map(|t| t.failures).sum();
    assert!(crashes > 300, "{what}: only {crashes} crashes in three hundred seeds");
    println!("{what}: {crashes} runs were killed, {failures} gave up and were run again");
}

#[test]
fn three_hundred_connected_lives_end_as_they_must() {
    lives("connected", life_trial);
}

#[test]
fn three_hundred_disconnected_lives_end_as_they_must() {
    lives("disconnected", offline_trial);
}

#[test]
fn two_hundred_pairs_of_operators_leave_no_stamp_activated_for_what_is_gone() {
    let keys = Keys::start();
    let trials: Vec<Trial> =
        (1..=200).map(|seed| pair_trial(seed, &keys).unwrap_or_else(|broken| panic!("{broken}"))).collect();
    let (runs, crashes): (u32, u32) = (trials.iter().map(|t| t.runs).sum(), trials.iter().map(|t| t.crashes).sum());
    let well = runs - crashes - trials.iter().map(|t| t.failures).sum::<u32>();
    println!("two operators: {runs} runs, {crashes} killed, {well} ended well");
    assert!(crashes > 200 && well > 1_000, "{crashes} killed, {well} ended well");
}

#[test]
fn an_odd_answer_to_any_read_of_the_deeds_is_never_believed_to_mean_absent() {
    let sweep = sweep_trial(1, &Keys::start()).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{sweep:?}");
    assert!(sweep.reads > 500 && sweep.runs == 3 * sweep.reads, "{sweep:?}");
    assert!(sweep.refused > 500 && sweep.well > 300, "{sweep:?}");
}

#[test]
fn three_hundred_months_of_usage_are_billed_once() {
    lives("usage", |seed, _| usage_trial(seed));
}

#[test]
fn a_seed_replays_exactly() {
    let keys = Keys::start();
    assert_eq!(life_trial(7, &keys), life_trial(7, &keys));
    assert_eq!(offline_trial(7, &keys), offline_trial(7, &keys));
    assert_eq!(usage_trial(7), usage_trial(7));
    assert_eq!(pair_trial(7, &keys), pair_trial(7, &keys));
}
