//! Who agreed to what: consent is for what was shown, and a journal carries it only as far as it says so.

use super::*;

/// A journal that was cut after its first line says what was asked for, not that it was agreed to.
#[test]
fn a_journal_without_what_was_seen_carries_no_consent() {
    let stage = Stage::new(true);
    let operator = Operator::new(true);
    stage.register(&operator, BillingModel::Capacity).ends();
    stage.pass_days(400);
    stage.kill_at("delete the lock");
    stage.renew(&operator).is_killed();
    operator.machine.cut(1);
    operator.agrees.set(false);
    let again = stage.renew(&operator);
    again.refused("AZR1014");
    assert_eq!(stage.registrations().len(), 1, "it was not agreed to");
    operator.agrees.set(true);
    stage.renew(&operator).ends();
}

#[test]
fn a_journal_of_a_carried_renewal_without_what_was_seen_carries_no_consent() {
    let stage = Stage::new(false);
    let (at_stamp, at_azure) = (Operator::new(true), Operator::new(true));
    stage.register_offline(&at_stamp, &at_azure, BillingModel::Capacity);
    stage.pass_days(400);
    stage.token(&at_stamp, BillingModel::Capacity, true).ends();
    stage.kill_at("delete the lock");
    stage.register_file(&at_azure).is_killed();
    at_azure.machine.cut(1);
    at_azure.agrees.set(false);
    stage.register_file(&at_azure).refused("AZR1014");
    at_azure.agrees.set(true);
    stage.register_file(&at_azure).ends();
}

type Run = fn(&Stage, &Operator) -> Ran;

/// The removals that a person agrees to, each with whether its stamp is connected.
const DEACTIVATIONS: [(bool, Run); 4] = [
    (true, |stage, operator| stage.unregister(operator, Sides::Both)),
    (true, Stage::change_subscription),
    (false, Stage::deactivate),
    (false, |stage, operator| stage.token(operator, BillingModel::Capacity, true)),
];

/// What was downloaded since the question is lost with the rest: it was not agreed to.
#[test]
fn what_is_lost_by_now_is_asked_about() {
    for (n, (connected, run)) in DEACTIVATIONS.into_iter().enumerate() {
        let stage = Stage::new(connected);
        let (operator, at_azure) = (Operator::new(true), Operator::new(true));
        if connected {
            stage.register(&operator, BillingModel::PayAsYouUse).ends();
        } else {
            stage.register_offline(&operator, &at_azure, BillingModel::Capacity);
        }
        stage.download("first");
        stage.kill_at("Remove-AzureStackActivation");
        run(&stage, &operator).is_killed();
        // What was agreed to is not asked about again.
        stage.kill_at("Remove-AzureStackActivation");
        let again = run(&stage, &operator);
        again.is_killed();
        assert!(again.asked.is_empty(), "{n}: {:?}", again.asked);
        stage.download("second");
        operator.agrees.set(false);
        run(&stage, &operator).refused("AZR1014");
        assert!(stage.activated().is_some(), "{n}: it was not agreed to");
        operator.agrees.set(true);
        let ran = run(&stage, &operator);
        assert!(format!("{:?}", ran.asked).contains("second"), "{n}: {:?}", ran.asked);
        ran.ends();
    }
}

/// Where the record is not read, the stamp's own account tells one activation from the next.
#[test]
fn an_activation_that_came_after_the_question_is_asked_about() {
    for run in [DEACTIVATIONS[0].1, DEACTIVATIONS[1].1] {
        let stage = Stage::new(true);
        let (blind, reader) = (Operator::new(false), Operator::new(true));
        stage.register(&blind, BillingModel::PayAsYouUse).ends();
        stage.kill_at("delete the lock");
        run(&stage, &blind).is_killed();
        stage.relocate(&reader, None).ends();
        assert!(stage.activated().is_some(), "repaired");
        blind.agrees.set(false);
        run(&stage, &blind).refused("AZR1014");
        assert!(stage.activated().is_some(), "it was not agreed to");
        blind.agrees.set(true);
        run(&stage, &blind).ends();
    }
}

/// Between the second look and the first step there are many calls.
#[test]
fn what_was_changed_after_it_was_agreed_to_is_not_removed() {
    let stage = Stage::new(true);
    let operator = Operator::new(true);
    stage.register(&operator, BillingModel::PayAsYouUse).ends();
    stage.at("permissions", |stage| {
        let off = Wishes { marketplace: Some(false), ..Wishes::default() };
        stage.change(&Operator::new(true), Change::Set, off).ends();
    });
    let before = stage.registrations();
    stage.change_subscription(&operator).refused("AZR6027");
    assert_eq!((stage.activated().as_ref(), stage.registrations()), (before.first(), before.clone()));
    // What is there now is shown, and agreed to.
    let ran = stage.change_subscription(&operator);
    assert_eq!(ran.asked.len(), 1);
    ran.ends();
    assert_ne!(stage.registrations(), before);
}
