//! Who agreed to what: consent is for what was shown, and a journal carries it only as far as it says so.

use super::*;

/// A journal that was cut after its first line says what was asked for, not that somebody agreed.
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
