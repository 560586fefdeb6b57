//! Several operators at one stamp: each a process of its own, with a state directory of its own, who does not know what the
//! others do. What one agreed to weeks ago, or while another acted, is not what is done now.
//!
//! At the end of every run that ends well the stamp is activated exactly when its record names a registration that is there.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod damaged;
mod meanwhile;
mod moved;
mod number;
mod replayed;
#[cfg(unix)]
mod terminal;
#[cfg(unix)]
mod typed;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use azsreg_lab::StampOptions;
use common::{Ran, World, assert_registered_once, run};
use serde_json::{Value, json};

const CAPACITY: [&str; 5] = ["register", "--billing-model", "capacity", "--agreement-number", "333"];

/// A state directory by name.
fn directory(world: &World, name: &str) -> PathBuf {
    world.dir.path().join(name)
}

/// An operator's command: signed in to Azure, not to the stamp, with a state directory of this name.
fn operator(world: &World, name: &str, arguments: &[&str]) -> Command {
    let mut command = world.command(0, &directory(world, name));
    world.signed_in(&mut command);
    command.args(arguments);
    command
}

/// How an operator works: [`operator`] or [`reader`].
type Way = fn(&World, &str, &[&str]) -> Command;

/// The same, signed in to the stamp too.
fn reader(world: &World, name: &str, arguments: &[&str]) -> Command {
    world.both(0, &directory(world, name), arguments)
}

/// At a stamp without a way to Azure.
fn at_stamp(world: &World, name: &str, arguments: &[&str]) -> Ran {
    let mut command = world.at_stamp(arguments);
    for variable in ["AZSREG_STAMP_CLIENT_ID", "AZSREG_STAMP_CLIENT_SECRET"] {
        command.env_remove(variable);
    }
    run(command.env("AZSREG_STATE_DIR", directory(world, name)))
}

/// Waits until a running command has come as far; it fails when the command ends without.
#[track_caller]
fn wait_for(child: &mut Child, what: &str, mut reached: impl FnMut() -> bool) {
    while !reached() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() || reached(), "it ended before {what}: {ended:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// All journals of a state directory.
fn journals(state: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for stamp in std::fs::read_dir(state.join("journals")).into_iter().flatten() {
        for journal in std::fs::read_dir(stamp.unwrap().path()).unwrap() {
            found.push(journal.unwrap().path());
        }
    }
    found.sort();
    found
}

/// Whether a journal says that a step began.
fn began(state: &Path, step: &str) -> bool {
    runs_that_began(state, step) > 0
}

/// So many runs have come to a step.
fn runs_that_began(state: &Path, step: &str) -> usize {
    let line = format!("\"event\":\"started\",\"step\":\"{step}\"");
    journals(state).iter().filter(|path| std::fs::read_to_string(path).unwrap().contains(&line)).count()
}

fn quietly(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs a command that Azure does not answer at one request, until its journal says that the step has begun; then kills it.
fn killed_at(world: &World, command: &mut Command, state: &Path, (method, route): (&str, &str), step: &str) {
    let rule = json!({"when": {"plane": "arm", "method": method, "route": route}, "then": {"hang": true}});
    world.lab.fault(rule).unwrap();
    let mut child = quietly(command);
    wait_for(&mut child, step, || began(state, step));
    child.kill().unwrap();
    child.wait().unwrap();
    world.control_with("DELETE", "/faults", &Value::Null);
}

fn activation(world: &World) -> Value {
    world.lab.world()["stamps"][0]["activation"].clone()
}

/// Activated exactly when the record names a registration that is there.
#[track_caller]
fn assert_sound(world: &World) {
    let now = world.lab.world();
    let named = &now["stamps"][0]["activation"]["properties"]["azureRegistrationResourceIdentifier"];
    let there = now["registrations"].as_array().unwrap();
    assert!(if named.is_null() { there.is_empty() } else { there.iter().any(|one| one["id"] == *named) }, "{now:#}");
}

#[track_caller]
fn assert_gone(world: &World) {
    assert_eq!(activation(world), Value::Null);
    assert_eq!(world.lab.world()["registrations"], json!([]));
}

#[test]
fn status_finds_a_registration_wherever_the_sign_in_sees_it() {
    for way in [operator as Way, reader] {
        let world = World::new();
        let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
        let nothing = run(&mut way(&world, "a", &["status"])).ends(3);
        assert!(
            nothing.stdout.contains("was found in 2 subscriptions"),
            "what was looked at is said: {}",
            nothing.stdout
        );
        run(&mut way(&world, "b", &["register", "--billing-model", "development", "--subscription", &fresh])).ends(0);
        let found = run(&mut way(&world, "a", &["status"]));
        assert!(found.stdout.contains(&fresh), "{}{}", found.stdout, found.stderr);
        assert!(!found.stdout.contains("azsreg register"), "it is registered: {}", found.stdout);
        run(&mut way(&world, "a", &["list"])).ends(0).says("these have some").says(&fresh);
        // Nor is it removed as if it were in the subscription that is named.
        run(&mut way(&world, "a", &["unregister", "--yes"])).ends(7).says(&fresh);
        assert_registered_once(&world.lab.world(), "in the other subscription");
    }
}

/// Azure's locks are inherited: a customer's mapping can't be deleted while our own lock is on the registration.
#[test]
fn a_customer_is_removed_under_our_own_lock_which_is_back_then() {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    let one = world.control("/subscriptions", &json!({}))["subscription_id"].as_str().unwrap().to_owned();
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let tenant = "dbab3982-796f-4d03-9908-044c08aef8a2";
    let customer = |line: &[&str]| run(world.at_azure(&["customer"]).args(line).args(["--cloud-id", &cloud_id]));
    let before = world.lab.world()["locks"].clone();
    customer(&["add", &one, "--tenant", tenant]).ends(0);
    customer(&["remove", &one, "--yes"]).ends(0);
    assert_registered_once(&world.lab.world(), "locked again");
    assert_eq!(world.lab.world()["locks"][0]["id"], before[0]["id"]);
    customer(&["list"]).ends(0).says("has no customers");
    // Refused half-way, the lock is back too.
    customer(&["add", &one, "--tenant", tenant]).ends(0);
    let rule = json!({"when": {"plane": "arm", "method": "DELETE", "route": "customersubscriptions"}, "then": {"status": 403, "error": "AuthorizationFailed", "message": "no"}});
    world.lab.fault(rule).unwrap();
    let stopped = customer(&["remove", &one, "--yes"]);
    assert_ne!(stopped.code, Some(0));
    assert_registered_once(&world.lab.world(), "locked again after a refusal");
}
