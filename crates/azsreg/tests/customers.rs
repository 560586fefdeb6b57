//! Customers of a cloud solution provider over the real wires: each of the documented error codes with its cause in the lab
//! and its advice, and what happens to mappings that are there.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, World, run};
use serde_json::{Value, json};

const TENANT: &str = "dbab3982-796f-4d03-9908-044c08aef8a2";
const OTHER: &str = "11111111-2222-4333-8444-555555555555";

fn registered() -> World {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world
}

/// `azsreg customer` on a machine with internet.
fn customer(world: &World, arguments: &[&str]) -> Ran {
    let mut command = world.at_azure(&["customer"]);
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    run(command.args(arguments).args(["--cloud-id", &cloud_id]))
}

/// One more subscription in the lab.
fn subscription(world: &World, body: &Value) -> String {
    world.control("/subscriptions", body)["subscription_id"].as_str().unwrap().to_owned()
}

fn mapped(world: &World) -> Value {
    customer(world, &["list", "-o", "json"]).ends(0).json()["value"].clone()
}

#[test]
fn a_tenant_is_mapped_replaced_and_removed() {
    let world = registered();
    let (one, two) = (subscription(&world, &json!({})), subscription(&world, &json!({})));
    customer(&world, &["list"]).ends(0).says("has no customers");
    customer(&world, &["add", &one, "--tenant", TENANT, "--plan"]).ends(4);
    assert_eq!(mapped(&world), json!([]));
    // In capital letters too: Azure wants the id in lower case, and gets it so.
    customer(&world, &["add", &one.to_uppercase(), "--tenant", TENANT])
        .ends(0)
        .says("under the customer's subscription");
    customer(&world, &["add", &one, "--tenant", TENANT]).ends(0).says("Nothing to do");
    assert_eq!(mapped(&world), json!([{"subscription": one, "tenant": TENANT}]));
    // A tenant has one subscription: the second replaces the first, and that is agreed to.
    customer(&world, &["add", &two, "--tenant", TENANT]).ends(2).says("AZR1014").says(&one);
    customer(&world, &["add", &two, "--tenant", TENANT, "--yes"]).ends(0);
    customer(&world, &["add", &one, "--tenant", OTHER]).ends(0);
    assert_eq!(mapped(&world).as_array().unwrap().len(), 2);
    customer(&world, &["remove", &two]).ends(2).says("AZR1014");
    customer(&world, &["remove", &two, "--yes"]).ends(0).says("registration's own subscription");
    customer(&world, &["remove", &two, "--yes"]).ends(0).says("Nothing to do");
    assert_eq!(mapped(&world), json!([{"subscription": one, "tenant": OTHER}]));
    // Which registration it is has to be said.
    run(&mut world.at_azure(&["customer", "list"])).ends(2).says("AZR1019");
}

#[test]
fn each_documented_code_has_its_cause_and_its_advice() {
    let world = registered();
    let good = subscription(&world, &json!({}));
    let add = |world: &World, id: &str| customer(world, &["add", id, "--tenant", TENANT]);
    add(&world, OTHER).ends(7).says("AZR4034").says("InvalidCustomerSubscriptionId").says("Partner Center");
    let foreign = subscription(&world, &json!({"partner": "partner-2"}));
    add(&world, &foreign).ends(7).says("AZR4034").says("BadCustomerSubscriptionId").says("letter case");
    let enterprise = subscription(&world, &json!({"quota_id": "EnterpriseAgreement_2014-09-01"}));
    add(&world, &enterprise).ends(7).says("AZR4035").says("InvalidCSPSubscription");
    // A service behind Azure has a bad moment: tried again.
    world.lab.fault(json!({"when": {"plane": "arm", "method": "PUT", "route": "customersubscriptions"}, "then": {"status": 502, "error": "MetadataResolverBadGatewayError"}, "limit": 2})).unwrap();
    add(&world, &good).ends(0);
    // Removed by somebody else between the look and the act, or never there.
    world.lab.fault(json!({"when": {"plane": "arm", "method": "GET", "route": "customersubscriptions"}, "then": {"status": 404, "error": "RegistrationNotFound", "message": "not found"}, "limit": 1})).unwrap();
    customer(&world, &["remove", &good, "--yes"]).ends(3).says("AZR6004");
    customer(&world, &["remove", &good, "--yes"]).ends(0);

    world.run(&["set", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    add(&world, &good).ends(7).says("AZR4036").says("CustomerSubscriptionsNotAllowed").says("pay-as-you-use");

    // A registration that is not approved.
    let world = World::new();
    let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
    run(world.register("pay-as-you-use").args(["--subscription", &fresh])).ends(0);
    let good = subscription(&world, &json!({}));
    customer(&world, &["add", &good, "--tenant", TENANT, "--subscription", &fresh])
        .ends(7)
        .says("AZR4033")
        .says("azstCSP@microsoft.com");
    customer(&world, &["list"]).ends(3).says("AZR6001");
}
