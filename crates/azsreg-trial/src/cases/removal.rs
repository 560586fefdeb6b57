//! What is removed, and what can't be told to be gone.

use super::*;

/// The one other subscription that the sign-in sees can't be listed: the registration may be there.
#[test]
fn what_could_not_be_looked_at_may_have_the_registration() {
    let stage = Stage::new(true);
    let (one, other) = (Operator::new(true), Operator::new(false));
    let elsewhere = stage.world.borrow().subscriptions[1];
    stage.register_in(elsewhere, &one, BillingModel::PayAsYouUse).ends();
    stage.at("registrations", |_| {});
    stage.at("registrations", |stage| stage.chaos.tell([true; 7]));
    let ran = stage.unregister(&other, Sides::Both);
    ran.refused("AZR6016");
    assert!(ran.asked.is_empty() && stage.activated().is_some(), "{:?}", ran.asked);
    // Looked at, it is found and named.
    let found = stage.unregister(&other, Sides::Both);
    assert!(found.refused("AZR6013").problems[0].next.as_ref().unwrap().contains(&elsewhere.to_string()));
}

/// Moved in the portal, what the record names is gone, and the stamp is activated all the same.
#[test]
fn a_stamp_whose_registration_was_moved_in_the_portal_is_deactivated_with_it() {
    let stage = Stage::new(true);
    let operator = Operator::new(true);
    stage.register(&operator, BillingModel::PayAsYouUse).ends();
    stage.moved_in_the_portal();
    let ran = stage.unregister(&operator, Sides::Both);
    assert!(ran.asked[0].what.contains("will be deactivated"), "{:?}", ran.asked);
    ran.ends();
    assert_eq!((stage.registrations(), stage.activated()), (vec![], None));
}

#[test]
fn a_stamp_whose_registration_was_moved_in_the_portal_is_no_orphan() {
    let stage = Stage::new(true);
    let operator = Operator::new(true);
    stage.register(&operator, BillingModel::PayAsYouUse).ends();
    stage.moved_in_the_portal();
    let ran = stage.unregister(&operator, Sides::Stamp);
    assert!(ran.refused("AZR6013").problems[0].next.as_ref().unwrap().contains("azsreg repair"));
    assert!(stage.activated().is_some());
    // Repaired, both sides are one again.
    stage.relocate(&operator, None).ends();
    assert_eq!(stage.activated().as_ref(), stage.registrations().first());
}

/// An expired registration that was left beside the one that the stamp uses goes without touching the stamp.
#[test]
fn what_was_left_behind_goes_alone() {
    let stage = Stage::new(true);
    let operator = Operator::new(true);
    stage.register(&operator, BillingModel::Capacity).ends();
    let old = stage.registrations().remove(0);
    stage.pass_days(400);
    stage.renew_as(&operator, "second").ends();
    let ran = stage.unregister_named(&operator, &old);
    assert!(!ran.asked[0].what.contains("deactivated"), "{:?}", ran.asked);
    ran.ends();
    assert_eq!(stage.activated().as_ref(), stage.registrations().first());
    assert!(stage.activated().is_some());
}

/// A look that failed is not a look that found nothing.
#[test]
fn what_the_record_names_and_can_not_be_read_is_not_said_to_be_gone() {
    let stage = Stage::new(true);
    let operator = Operator::new(true);
    let elsewhere = stage.world.borrow().subscriptions[1];
    stage.register_in(elsewhere, &operator, BillingModel::PayAsYouUse).ends();
    let here = stage.subscription();
    let seen = RefCell::new(None);
    stage.at("registration", |stage| stage.chaos.tell([true; 7]));
    let _ = stage.run(&operator, async |world, _, _| {
        let report = azsreg_operations::status::status(world, here, None, |_| Default::default()).await;
        seen.replace(Some(report));
        Err(Failure::before(Problem::new(&code::NOT_SEEN, "a status is no operation")))
    });
    let azure = seen.take().unwrap().azure;
    assert_eq!(azure.unwrap_err().code.id, "AZR4012");
}

/// What a search takes of this machine has an end, and what was left out is counted.
#[test]
fn a_search_ends_when_it_has_found_too_much() {
    let stage = Stage::new(true);
    let operator = Operator::new(true);
    stage.register(&operator, BillingModel::PayAsYouUse).ends();
    {
        let mut world = stage.world.borrow_mut();
        let World { arm, draw, operator, .. } = &mut *world;
        let (one, subscription) = (arm.registrations[0].clone(), arm.subscriptions.values().next().unwrap().clone());
        for _ in 0..20 {
            let id = draw.guid();
            arm.subscriptions.insert(id, azsreg_lab::world::arm::Subscription { id, ..subscription.clone() });
            arm.assign(draw, *operator, "User", "Owner", &format!("/subscriptions/{id}"));
            arm.registrations.extend((0..300).map(|n| {
                let name = format!("r{n}");
                azsreg_lab::world::arm::Registration { subscription: id, name, ..one.clone() }
            }));
        }
    }
    let here = stage.subscription();
    let counted = Cell::new((0, 0));
    let _ = stage.run(&operator, async |world, _, _| {
        let (found, searched) = azsreg_operations::status::all_elsewhere(world.azure, world.clock, here).await?;
        counted.set((found.len(), searched.not_looked_at));
        Err(Failure::before(Problem::new(&code::NOT_SEEN, "a search is no operation")))
    });
    let (found, left) = counted.get();
    assert!((1_000..2_000).contains(&found) && left > 10, "{found} found, {left} left");
}
