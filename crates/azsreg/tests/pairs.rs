//! Reversible pairs: what is done and undone leaves the world as it was, compared whole but for its log.
//!
//! What registering makes for a stamp once, and no article takes away again (the stamp's application and key pair, the
//! resource group, the provider), is there before each pair begins.
#![allow(clippy::unwrap_used)]

mod common;

use azsreg_lab::StampOptions;
use common::{World, run};
use serde_json::Value;

/// The world but for its dice: how often it drew is its log.
fn whole(world: &World) -> Value {
    world.lab.export()
}

#[track_caller]
fn same(before: &Value, after: &Value) {
    for part in ["arm", "directory", "stamps"] {
        assert_eq!(before[part], after[part], "{part}");
    }
    assert_eq!(before, after);
}

#[test]
fn register_then_unregister() {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.run(&["unregister", "--yes"]).ends(0);
    let before = whole(&world);
    for model in ["pay-as-you-use", "development", "ruggedized"] {
        world.run(&["register", "--billing-model", model]).ends(0);
        assert_ne!(whole(&world), before, "{model}");
        world.run(&["unregister", "--yes"]).ends(0);
        same(&before, &whole(&world));
    }
}

#[test]
fn disconnected_register_then_unregister() {
    let world = World::of(vec![StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }]);
    let round = || {
        let (token, key, receipt) = (world.path("t.json"), world.path("k.json"), world.path("r.json"));
        let ask = ["offline", "token", "--billing-model", "capacity", "--agreement-number", "A", "--out", &token];
        run(&mut world.at_stamp(&ask)).ends(0);
        run(&mut world.at_azure(&["offline", "register", &token, "--out", &key])).ends(0);
        run(&mut world.at_stamp(&["offline", "activate", &key])).ends(0);
        assert_ne!(world.lab.world()["stamps"][0]["activation"], Value::Null);
        run(&mut world.at_stamp(&["offline", "deactivate", "--out", &receipt, "--yes"])).ends(0);
        run(&mut world.at_azure(&["offline", "unregister", &receipt, "--yes"])).ends(0);
        [token, key, receipt].iter().for_each(|file| std::fs::remove_file(file).unwrap());
    };
    round();
    let before = whole(&world);
    round();
    same(&before, &whole(&world));
}

#[test]
fn move_there_and_back() {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.run(&["move", "--to-resource-group", "there"]).ends(0);
    world.run(&["move", "--to-resource-group", "azurestack"]).ends(0);
    let mut before = whole(&world);
    world.run(&["move", "--to-resource-group", "there"]).ends(0);
    world.run(&["move", "--to-resource-group", "azurestack"]).ends(0);
    let mut after = whole(&world);
    // The record says when it was written: that is its log.
    for world in [&mut before, &mut after] {
        world["stamps"][0]["activation"]["written"] = Value::Null;
    }
    same(&before, &after);
}

#[test]
fn set_there_and_back() {
    let world = World::new();
    world.run(&["register", "--billing-model", "development"]).ends(0);
    let mut before = whole(&world);
    world.run(&["set", "--marketplace", "off"]).ends(0);
    world.run(&["set", "--marketplace", "on"]).ends(0);
    let mut after = whole(&world);
    for world in [&mut before, &mut after] {
        world["stamps"][0]["activation"]["written"] = Value::Null;
        // The version of the resource counts its writings.
        world["arm"]["registrations"][0]["etag"] = Value::Null;
        world["arm"]["registrations"][0]["written"] = Value::Null;
    }
    same(&before, &after);
}
