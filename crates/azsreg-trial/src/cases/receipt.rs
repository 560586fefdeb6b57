//! What a receipt proves: which registration, and that nothing was registered since.

use super::*;

/// Of the models that a disconnected stamp may have, capacity alone says when it was written. What can't be told is not taken
/// for "not since": a registration that the stamp uses by now would go.
#[test]
fn a_receipt_that_may_be_older_than_the_registration_removes_nothing() {
    for model in [BillingModel::Capacity, BillingModel::Development, BillingModel::PayAsYouUse] {
        let stage = Stage::new(false);
        let (at_stamp, at_azure) = (Operator::new(true), Operator::new(true));
        stage.register_offline(&at_stamp, &at_azure, model);
        stage.deactivate(&at_stamp).ends();
        let receipt = stage.file();
        let id = receipt.registration.clone().unwrap();
        stage.pass_days(1);
        stage.register_offline(&at_stamp, &at_azure, model);
        let ran = stage.unregister_file(&at_azure, &receipt, Target::OfFile(id.clone()));
        let next = ran.refused("AZR5010").problems[0].next.clone().unwrap();
        assert!(next.contains("offline deactivate"), "{next}");
        assert_eq!(stage.registrations(), std::slice::from_ref(&id), "{model}: the stamp is activated for it");
        // Who names it says that it is the one.
        let named = stage.unregister_file(&at_azure, &receipt, Target::Named(id));
        if model == BillingModel::Capacity {
            named.refused("AZR5010");
        } else {
            assert!(next.contains("--name"), "{next}");
            named.ends();
        }
    }
}

/// Another machine has made the renewal. That this one made something else, a year ago, does not make the new one old.
#[test]
fn a_renewal_that_another_machine_made_is_not_undone() {
    let stage = Stage::new(false);
    let (at_stamp, here, there) = (Operator::new(true), Operator::new(true), Operator::new(true));
    stage.register_offline(&at_stamp, &here, BillingModel::Capacity);
    stage.pass_days(400);
    stage.token(&at_stamp, BillingModel::Capacity, true).ends();
    let file = stage.file();
    stage.register_file(&there).ends();
    stage.files.borrow_mut().push(file);
    let again = stage.register_file(&here);
    assert!(again.asked.is_empty(), "{:?}", again.asked);
    again.ends();
    assert_eq!(stage.called("delete the registration"), 1);
}

/// Whoever can't read the record does not know what was deactivated: what an earlier run deactivated is not it.
#[test]
fn a_receipt_names_no_registration_that_was_not_seen() {
    let stage = Stage::new(true);
    let (reader, other) = (Operator::new(true), Operator::new(true));
    stage.register(&reader, BillingModel::Capacity).ends();
    let ran = stage.deactivate(&reader);
    let old = stage.file().registration.unwrap();
    assert!(ran.asked[0].what.contains(&old.to_string()), "{:?}", ran.asked);
    ran.ends();
    stage.relocate(&other, Some("other")).ends();
    let blind = Operator { machine: reader.machine.clone(), ..Operator::new(false) };
    stage.deactivate(&blind).ends();
    assert_eq!(stage.file().registration, None);
    assert_eq!(stage.file().receipt.unwrap().registration, None);
    // It is found by its cloud id.
    let cloud_id = stage.world.borrow().stamp.cloud_id;
    stage.unregister_file(&other, &stage.file(), Target::OfStamp(cloud_id)).ends();
    assert_eq!(stage.registrations(), []);
}

/// What the receipt names is gone because it was moved: it is looked for before there is said to be nothing to do.
#[test]
fn a_registration_that_was_moved_after_the_receipt_is_found() {
    let stage = Stage::new(true);
    let operator = Operator::new(true);
    stage.register(&operator, BillingModel::Capacity).ends();
    stage.deactivate(&operator).ends();
    let receipt = stage.file();
    stage.moved_in_the_portal();
    let target = Target::OfFile(receipt.registration.clone().unwrap());
    let ran = stage.unregister_file(&operator, &receipt, target.clone());
    assert!(ran.asked.first().is_some_and(|asked| asked.what.contains("/portal/")), "{:?}", ran.asked);
    ran.ends();
    assert_eq!(stage.registrations(), []);
    let again = stage.unregister_file(&operator, &receipt, target).ends();
    assert_eq!(again.outcome, azsreg_model::Outcome::NothingToDo);
}
