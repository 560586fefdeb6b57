//! The lock is back on every way out that leaves the registration.

use super::*;

type Run = fn(&Stage, &Operator) -> Ran;

/// What lifts the lock, and the call that comes after it was lifted.
const LIFTING: [(Run, &str); 3] = [
    (|stage, operator| stage.unregister(operator, Sides::Both), "delete the registration"),
    (|stage, operator| stage.relocate(operator, Some("other")), "move the registration"),
    (Stage::change_subscription, "delete the registration"),
];

fn registered() -> (Stage, Operator) {
    let (stage, operator) = (Stage::new(true), Operator::new(true));
    stage.register(&operator, BillingModel::PayAsYouUse).ends();
    (stage, operator)
}

/// The lock goes, the answer is lost, and no look after it says so.
#[test]
fn a_lock_that_was_lifted_without_an_answer_is_put_back() {
    for (run, _) in LIFTING {
        let (stage, operator) = registered();
        stage.at("delete the lock", |stage| stage.chaos.tell([false, true].into_iter().chain([true; 6])));
        run(&stage, &operator).refused("AZR4012");
        assert!(stage.is_locked());
        run(&stage, &operator).ends();
    }
}

/// A run that was killed has lifted the lock; the one that goes on from it is refused before its first step.
#[test]
fn a_run_that_is_refused_puts_back_what_the_one_before_it_has_lifted() {
    for (run, call) in LIFTING {
        let (stage, operator) = registered();
        stage.kill_at(call);
        run(&stage, &operator).is_killed();
        assert!(!stage.is_locked());
        // Every look at what the caller may do is refused.
        stage.at("permissions", |stage| stage.chaos.tell([true; 7]));
        run(&stage, &operator).refused("AZR4012");
        assert!(stage.is_locked(), "{call}");
        run(&stage, &operator).ends();
    }
}

#[test]
fn a_carried_renewal_that_is_not_agreed_to_puts_the_lock_back() {
    let stage = Stage::new(false);
    let (at_stamp, at_azure) = (Operator::new(true), Operator::new(true));
    stage.register_offline(&at_stamp, &at_azure, BillingModel::Capacity);
    stage.pass_days(400);
    stage.token(&at_stamp, BillingModel::Capacity, true).ends();
    stage.kill_at("delete the registration");
    stage.register_file(&at_azure).is_killed();
    stage.at("permissions", |stage| stage.chaos.tell([true; 7]));
    stage.register_file(&at_azure).refused("AZR4012");
    assert!(stage.is_locked());
    stage.register_file(&at_azure).ends();
}

/// In neither place, it is not known whether it is locked: that is said.
#[test]
fn a_registration_that_is_in_neither_place_is_said_to_be() {
    let (stage, operator) = registered();
    stage.at("move the registration", |stage| stage.world.borrow_mut().arm.registrations.clear());
    let ran = stage.relocate(&operator, Some("other"));
    assert_eq!(ran.refused("AZR6028").problems[0].code.id, "AZR6028");
}
