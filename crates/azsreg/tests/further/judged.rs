//! What is judged before anything is changed: rights, locks, the provider, the state of the subscription. `check` and the
//! commands judge alike.

use serde_json::{Value, json};

use super::common::{World, assert_registered_once, run};
use super::{actions, caller, limited};

/// The world in which nothing of Azure or the stamp was changed.
fn nothing_was_made(world: &World) {
    let now = world.lab.world();
    for list in ["groups", "registrations", "role_assignments", "service_principals"] {
        assert_eq!(now[list].as_array().unwrap().len(), 0, "{list}");
    }
    assert!(now["stamps"].as_array().unwrap().iter().all(|s| s["activation"].is_null() && s["bridge"].is_null()));
}

const PROVIDER: &str = "providers/Microsoft.AzureStack";

fn provider_says(world: &World, state: &str) {
    let body = json!({"namespace": "Microsoft.AzureStack", "registrationState": state, "resourceTypes": []});
    let when = json!({"plane": "arm", "method": "GET", "route": PROVIDER});
    // The longer route is that of the registrations.
    world.control(
        "/faults",
        &json!({"when": {"plane": "arm", "method": "GET", "route": format!("{PROVIDER}/registrations")}, "then": {}}),
    );
    world.control("/faults", &json!({"when": when, "then": {"status": 200, "body": body}}));
}

#[test]
fn check_and_register_judge_alike() {
    let fresh = World::new();
    let (snapshot, all) = (fresh.lab.snapshot(), actions(&fresh));
    let judged = |what: &str, missing: Option<&str>, provider: Option<&str>, before: &dyn Fn(&World, &str)| {
        let world = World::restored(&snapshot);
        let scope = format!("/subscriptions/{}", world.lab.descriptor().subscription_id);
        let held: Vec<String> = all.iter().filter(|action| Some(action.as_str()) != missing).cloned().collect();
        let who = caller(&world, std::slice::from_ref(&scope), &held);
        before(&world, &scope);
        if let Some(state) = provider {
            provider_says(&world, state);
        }
        let check = run(&mut limited(&world, &who, &["check"]));
        let plan = run(&mut limited(&world, &who, &["register", "--billing-model", "development", "--plan"]));
        let refuses = |code: Option<i32>| code == Some(7);
        assert!(
            refuses(check.code) == refuses(plan.code),
            "{what}: check ends with {:?}, register --plan with {:?}:\n{}\n{}",
            check.code,
            plan.code,
            check.stdout,
            plan.stderr
        );
        refuses(check.code)
    };
    let nothing = |_: &World, _: &str| {};
    assert!(!judged("everything is there", None, None, &nothing));
    for action in &all {
        judged(action, Some(action), None, &nothing);
    }
    let register = Some("Microsoft.AzureStack/register/action");
    assert!(!judged("registered, and the action is missing", register, Some("Registered"), &nothing));
    assert!(!judged("registering, and the action is missing", register, Some("Registering"), &nothing));
    assert!(judged("not registered, and the action is missing", register, Some("NotRegistered"), &nothing));
    let locked = |level: &'static str| {
        move |world: &World, scope: &str| {
            world.control("/locks", &json!({"scope": scope, "name": "freeze", "level": level}));
        }
    };
    assert!(judged("a ReadOnly lock", None, None, &locked("ReadOnly")));
    assert!(!judged("a CanNotDelete lock", None, None, &locked("CanNotDelete")));
    for (state, refuses) in
        [("Disabled", true), ("Expired", true), ("Deleted", true), ("Warned", false), ("PastDue", false)]
    {
        let set = |world: &World, scope: &str| {
            world.control(scope, &json!({"state": state}));
        };
        assert_eq!(judged(state, None, None, &set), refuses, "{state}");
    }
}

#[test]
fn a_lock_above_is_named_before_the_stamp_is_touched() {
    let world = World::new();
    let scope = format!("/subscriptions/{}", world.lab.descriptor().subscription_id);
    world.control("/locks", &json!({"scope": scope, "name": "freeze", "level": "ReadOnly"}));
    for command in [
        &["check"][..],
        &["register", "--billing-model", "development", "--plan"],
        &["register", "--billing-model", "development"],
    ] {
        let ran = world.run(command);
        assert_eq!(ran.code, Some(7), "{command:?}: {}{}", ran.stdout, ran.stderr);
        let text = format!("{}{}", ran.stdout, ran.stderr);
        assert!(text.contains("freeze (ReadOnly)") && text.contains(&scope), "{command:?}: {text}");
    }
    nothing_was_made(&world);
    // A registration whose own list does not hold what is above it, and a move into a locked group.
    world.control_with("DELETE", "/locks", &Value::Null);
    world.run(&["register", "--billing-model", "development"]).ends(0);
    let group = format!("{scope}/resourceGroups/azurestack");
    world.control("/locks", &json!({"scope": group, "name": "freeze", "level": "ReadOnly"}));
    // Where nothing is to be written nothing stands in the way.
    world.run(&["register", "--billing-model", "development"]).ends(0).says("Nothing to do");
    world.control("/faults", &json!({"when": {"plane": "arm", "method": "GET", "route": "/registrations/azurestack-dff7c175-b78b-493c-961b-14922585d5eb/providers/Microsoft.Authorization/locks"}, "then": {"status": 200, "body": {"value": []}}}));
    let before = world.lab.export();
    for command in [
        &["renew"][..],
        &["set", "--marketplace", "off"],
        &["unregister", "--yes"],
        &["move", "--to-resource-group", "there", "--plan"],
    ] {
        let ran = world.run(command);
        assert_eq!(ran.code, Some(7), "{command:?}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains("freeze (ReadOnly)"), "{command:?}: {}", ran.stderr);
    }
    assert_eq!(world.lab.export(), before);
}

#[test]
fn a_provider_that_stays_registering_is_not_waited_for() {
    let world = World::new();
    provider_says(&world, "Registering");
    let ran = world.run(&["register", "--billing-model", "development"]).ends(0);
    assert!(ran.stderr.contains("not waited for"), "{}", ran.stderr);
    assert_registered_once(&world.lab.world(), "while Azure registers the provider");
}

#[test]
fn in_a_disabled_subscription_nothing_is_made_and_what_is_there_can_be_removed() {
    let world = World::new();
    let subscription = format!("/subscriptions/{}", world.lab.descriptor().subscription_id);
    world.control(&subscription, &json!({"state": "Disabled"}));
    world.run(&["check"]).ends(7).says("AZR4050");
    world.run(&["register", "--billing-model", "development"]).ends(7).says("AZR4050").says("Disabled");
    nothing_was_made(&world);
    world.control(&subscription, &json!({"state": "Warned"}));
    world.run(&["check"]).ends(0).says("AZR4056");
    world.run(&["register", "--billing-model", "development"]).ends(0);
    world.control(&subscription, &json!({"state": "Disabled"}));
    let before = world.lab.export();
    for command in [&["renew"][..], &["set", "--marketplace", "off"], &["move", "--to-resource-group", "there"]] {
        world.run(command).ends(7).says("AZR4050");
    }
    assert_eq!(world.lab.export(), before);
    world.run(&["unregister", "--yes"]).ends(0);
    assert_eq!(world.lab.world()["registrations"], json!([]));
}

#[test]
fn what_azure_alone_refuses_comes_before_the_stamp() {
    for (status, error, code) in [
        (403, "RequestDisallowedByPolicy", "AZR4048"),
        (403, "RequestDisallowedByAzure", "AZR4049"),
        (409, "ReadOnlyDisabledSubscription", "AZR4050"),
        (400, "ReservedResourceName", "AZR4052"),
    ] {
        let world = World::new();
        world.control("/faults", &json!({"when": {"plane": "arm", "method": "PUT", "route": "/resourcegroups/"}, "then": {"status": status, "error": error, "message": "words of Azure"}}));
        let ran = world.run(&["register", "--billing-model", "development"]);
        assert!(ran.stderr.contains(code), "{error}: {}", ran.stderr);
        nothing_was_made(&world);
        world.control_with("DELETE", "/faults", &Value::Null);
        world.run(&["register", "--billing-model", "development"]).ends(0);
    }
}

#[test]
fn every_command_says_in_which_state_the_subscription_is() {
    let world = World::new();
    let subscription = format!("/subscriptions/{}", world.lab.descriptor().subscription_id);
    world.control(&subscription, &json!({"state": "PastDue"}));
    let ran = world.run(&["register", "--billing-model", "development"]).ends(0);
    assert!(ran.stderr.contains("AZR4056") && ran.stderr.contains("PastDue"), "{}", ran.stderr);
    let ran = world.run(&["unregister", "--plan"]).ends(4);
    assert!(ran.stderr.contains("AZR4056"), "{}", ran.stderr);
    world.control(&subscription, &json!({"state": "Expired"}));
    let before = world.lab.export();
    let other = "11111111-2222-4333-8444-555555555555";
    for command in [&["repair"][..], &["role", "create"], &["role", "assign", "--to", other]] {
        let ran = world.run(command);
        assert!(ran.code == Some(7) && ran.stderr.contains("AZR4050"), "{command:?}: {:?} {}", ran.code, ran.stderr);
    }
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let mut customer = world.at_azure(&["customer", "add", other, "--tenant", other, "--cloud-id", &cloud_id]);
    run(&mut customer).ends(7).says("AZR4050");
    assert_eq!(world.lab.export(), before);
    // Whoever leaves is told, and not held.
    let ran = world.run(&["unregister", "--yes"]).ends(0);
    assert!(ran.stderr.contains("AZR4050") && ran.stderr.contains("Expired"), "{}", ran.stderr);
}

#[test]
fn a_disabled_subscription_is_left_for_another_with_a_warning() {
    let world = World::new();
    let subscription = format!("/subscriptions/{}", world.lab.descriptor().subscription_id);
    let other = world.control("/subscriptions", &json!({}))["subscription_id"].as_str().unwrap().to_owned();
    world.run(&["register", "--billing-model", "development"]).ends(0);
    world.control(&subscription, &json!({"state": "Disabled"}));
    let ran = world.run(&["change-subscription", "--to-subscription", &other, "--yes"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("AZR4050"), "{}", ran.stderr);
    assert_registered_once(&world.lab.world(), "in the other subscription");
}

#[test]
fn a_repair_names_the_lock_that_it_would_meet() {
    let world = World::new();
    let scope = format!("/subscriptions/{}", world.lab.descriptor().subscription_id);
    world.run(&["register", "--billing-model", "development"]).ends(0);
    let role = world.lab.world()["role_assignments"].as_array().unwrap().len();
    assert_eq!(role, 1);
    let lock = world.lab.world()["locks"][0].clone();
    world.control_with("DELETE", "/locks", &Value::Null);
    assert_ne!(lock, Value::Null);
    world.control("/locks", &json!({"scope": scope, "name": "freeze", "level": "ReadOnly"}));
    let before = world.lab.export();
    for command in [&["repair", "--plan"][..], &["repair"]] {
        let ran = world.run(command);
        assert!(
            ran.code == Some(7) && ran.stderr.contains("freeze (ReadOnly)"),
            "{command:?}: {:?} {}",
            ran.code,
            ran.stderr
        );
    }
    assert_eq!(world.lab.export(), before);
}
