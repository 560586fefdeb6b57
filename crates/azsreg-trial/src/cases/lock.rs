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

/// Azure heeds a lock for some time after it is gone.
#[test]
fn a_lock_that_lingers_after_it_was_lifted_is_waited_for() {
    for (run, call) in LIFTING {
        let (stage, operator) = registered();
        stage.world.borrow_mut().heeds_locks_for = Some(SignedDuration::from_secs(40));
        run(&stage, &operator).ends();
        assert!(stage.called("delete the role assignment") > 2, "{call}");
    }
    // One that does not go is no lock that lingers: the registration is not left without its own.
    let (stage, operator) = registered();
    stage.world.borrow_mut().heeds_locks_for = Some(SignedDuration::from_hours(1));
    let ran = stage.unregister(&operator, Sides::Both);
    assert!(ran.refused("AZR4010").problems[0].message.contains("still heeds it"));
    assert!(stage.is_locked());
}

/// Another lock came while the command ran: it is named, and nothing waits for it.
#[test]
fn a_lock_that_is_another_one_is_named_at_once() {
    for (run, call) in LIFTING {
        let (stage, operator) = registered();
        stage.at("delete the role assignment", |stage| {
            let id = stage.registrations().remove(0).to_string();
            let mut world = stage.world.borrow_mut();
            let body = serde_json::json!({"properties": {"level": "CanNotDelete"}});
            world.arm.put_lock(&id, "freeze", &body).unwrap();
        });
        let ran = run(&stage, &operator);
        let problem = &ran.refused("AZR4010").problems[0];
        assert!(problem.details.iter().any(|line| line.starts_with("freeze (CanNotDelete), on ")), "{problem:?}");
        assert_eq!(stage.called("delete the role assignment"), 1, "{call}");
    }
}
