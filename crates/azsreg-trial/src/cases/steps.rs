//! What a step does more than once, and what it leaves on the way out.

use super::*;

/// The look after an activation may fail for a moment: the activation is not made again for that.
#[test]
fn an_activation_is_made_once_though_the_look_after_it_fails() {
    let stage = Stage::new(true);
    let blind = Operator::new(false);
    stage.at("New-AzureStackActivation", |stage| stage.at("Get-ActionStatus", |stage| stage.chaos.tell([true])));
    stage.register(&blind, BillingModel::PayAsYouUse).ends();
    assert_eq!(stage.called("New-AzureStackActivation"), 1);
}
