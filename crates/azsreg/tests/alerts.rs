//! The stamp's alerts that have to do with its registration, over the real wires.
#![allow(clippy::unwrap_used)]

mod common;

use common::World;
use serde_json::{Value, json};

fn open(world: &World) -> Vec<(String, String)> {
    let listed = world.run(&["alerts", "list", "-o", "json"]).ends(0).json();
    let text = |alert: &Value, name: &str| alert[name].as_str().unwrap().to_owned();
    listed["value"].as_array().unwrap().iter().map(|alert| (text(alert, "title"), text(alert, "name"))).collect()
}

#[test]
fn activation_and_expiry_are_warned_of_until_they_are_mended() {
    let world = World::new();
    world
        .run(&["alerts", "list"])
        .ends(0)
        .says("Warning: Activation Required")
        .says("Azure Stack is not activated.")
        .says("azsreg register");
    let first = open(&world);
    assert_eq!(first.len(), 1);
    // The warning disappears after registration (facts-stamp.md section 5).
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    world.run(&["alerts", "list"]).ends(0).says("no open alert");
    world.run(&["alerts", "list", "--all"]).ends(0).says("closed since");
    world.days(340);
    assert_eq!(open(&world)[0].0, "Registration expires soon");
    world.days(60);
    let expired = open(&world);
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].0, "Registration expired");
    // Closed by somebody: gone from the list, and not raised again while nothing changes.
    world.run(&["alerts", "close", &expired[0].1]).ends(0).says("The alerts are closed.");
    world.run(&["alerts", "close", &expired[0].1]).ends(0).says("Nothing to do");
    assert!(open(&world).is_empty());
    world.run(&["alerts", "close", "nothing"]).ends(3).says("AZR6023");
    world.run(&["renew", "--agreement-number", "A-2", "--yes"]).ends(0);
    assert!(open(&world).is_empty());
    world.control("/stamps/stamp1", &json!({"deactivated": true}));
    let again = open(&world);
    assert_eq!(again[0].0, "Activation Required");
    assert_ne!(again[0].1, first[0].1, "another alert of the same kind");
    // Without an operator of the stamp nothing can be read.
    let mut command = world.command(0, &world.state());
    common::run(command.args(["alerts", "list"])).ends(2).says("AZR6021");
}
