//! What was agreed to weeks ago is not done to what is there now.

use super::*;

/// The state that many of these begin with: A's removal was killed after the deactivation; B ended it and registered again.
fn left_weeks_ago() -> World {
    let world = World::new();
    run(&mut operator(&world, "a", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    let mut removal = operator(&world, "a", &["unregister", "--yes"]);
    killed_at(&world, &mut removal, &directory(&world, "a"), ("DELETE", "locks"), "unlock");
    assert_eq!(activation(&world), Value::Null);
    run(&mut operator(&world, "b", &["unregister", "--yes"])).ends(0).says("run again: the stamp was not activated");
    assert_gone(&world);
    run(&mut operator(&world, "b", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    world.days(21);
    assert_registered_once(&world.lab.world(), "B registered again");
    world
}

#[test]
fn a_removal_left_weeks_ago_is_agreed_to_anew_and_deactivates_indeed() {
    let world = left_weeks_ago();
    let before = world.lab.export();
    run(&mut operator(&world, "a", &["unregister", "--plan"])).ends(4).says("Remove-AzureStackActivation");
    run(&mut operator(&world, "a", &["unregister"])).ends(2).says("AZR1014").says("will be deactivated");
    assert_registered_once(&world.lab.world(), "not agreed to");
    for part in ["directory", "stamps"] {
        assert_eq!(world.lab.export()[part], before[part], "{part}");
    }
    let removed = run(&mut operator(&world, "a", &["unregister", "--yes"])).ends(0);
    assert!(!removed.stdout.contains("before") && !removed.stdout.contains("run again"), "{}", removed.stdout);
    assert_gone(&world);
}

/// The same where the stamp's record can be read.
#[test]
fn a_removal_left_weeks_ago_is_agreed_to_anew_with_the_record_too() {
    let world = left_weeks_ago();
    run(&mut reader(&world, "a", &["unregister"])).ends(2).says("AZR1014").says("will be deactivated");
    assert_registered_once(&world.lab.world(), "not agreed to");
    run(&mut reader(&world, "a", &["unregister", "--yes"])).ends(0);
    assert_gone(&world);
}

/// Journals of earlier versions have a time in their names. A clock that was ahead made one that sorts after all later ones.
#[test]
fn a_clock_that_was_set_back_does_not_make_an_old_journal_the_newest() {
    let world = World::new();
    let state = directory(&world, "a");
    run(&mut operator(&world, "a", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    let mut removal = operator(&world, "a", &["unregister", "--yes"]);
    killed_at(&world, &mut removal, &state, ("DELETE", "locks"), "unlock");
    let of_removal = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().ends_with("-unregister.jsonl");
    let open = journals(&state).into_iter().find(of_removal).unwrap();
    std::fs::rename(&open, open.with_file_name("20991231T235959000000Z-unregister.jsonl")).unwrap();
    run(&mut operator(&world, "b", &["unregister", "--yes"])).ends(0);
    run(&mut operator(&world, "a", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    assert_registered_once(&world.lab.world(), "registered again");
    run(&mut operator(&world, "a", &["unregister"])).ends(2).says("AZR1014").says("will be deactivated");
    assert_registered_once(&world.lab.world(), "not agreed to");
    run(&mut operator(&world, "a", &["unregister", "--yes"])).ends(0);
    assert_gone(&world);
}

#[test]
fn a_change_of_subscription_left_weeks_ago_is_not_replayed() {
    let world = World::new();
    let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
    run(&mut operator(&world, "a", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    let line = ["change-subscription", "--to-subscription", &fresh, "--billing-model", "pay-as-you-use"];
    let change = |extra: &[&str]| {
        let mut command = operator(&world, "a", &line);
        command.args(["--usage-reporting", "on", "--marketplace", "on"]).args(extra);
        command
    };
    killed_at(&world, &mut change(&["--yes"]), &directory(&world, "a"), ("DELETE", "locks"), "unlock");
    // B cleans up on both sides and registers where it was.
    for subscription in [world.lab.descriptor().subscription_id.to_string(), fresh.clone()] {
        let ran = run(&mut reader(&world, "b", &["unregister", "--yes", "--subscription", &subscription]));
        assert!(matches!(ran.code, Some(0 | 3 | 7)), "{}{}", ran.stdout, ran.stderr);
        let ran = run(&mut reader(&world, "b", &["unregister", "--yes", "--subscription", &subscription]));
        assert!(matches!(ran.code, Some(0 | 3 | 7)), "{}{}", ran.stdout, ran.stderr);
    }
    for one in world.lab.world()["registrations"].as_array().unwrap() {
        let id = one["id"].as_str().unwrap();
        let part = |n: usize| id.split('/').nth(n).unwrap().to_owned();
        let (subscription, group, name) = (part(2), part(4), part(8));
        let line = ["unregister", "--orphan", "azure", "--yes", "--subscription", &subscription];
        run(reader(&world, "b", &line).args(["--resource-group", &group, "--name", &name])).ends(0);
    }
    assert_eq!(world.lab.world()["registrations"], json!([]));
    run(&mut reader(&world, "b", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    world.days(21);
    let id = activation(&world);
    run(&mut change(&[])).ends(2).says("AZR1014");
    assert_eq!(activation(&world), id, "nobody has agreed to it");
    assert_registered_once(&world.lab.world(), "not agreed to");
    run(&mut change(&["--yes"])).ends(0);
    assert_registered_once(&world.lab.world(), "changed");
    assert!(world.lab.world()["registrations"][0]["id"].as_str().unwrap().contains(&fresh));
}

fn away() -> World {
    World::of(vec![StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }])
}

/// Registers a disconnected stamp: one operator does all the ways.
fn carried(world: &World, name: &str, round: &str) {
    let (token, key) = (world.path(&format!("t{round}.json")), world.path(&format!("k{round}.json")));
    let ask = ["offline", "token", "--billing-model", "capacity", "--agreement-number", "A", "--out", &token];
    at_stamp(world, name, &ask).ends(0);
    run(&mut world.at_azure(&["offline", "register", &token, "--out", &key])).ends(0);
    at_stamp(world, name, &["offline", "activate", &key]).ends(0);
    assert_ne!(activation(world), Value::Null);
}

#[test]
fn an_offline_deactivation_left_weeks_ago_writes_no_receipt_of_what_it_did_not_do() {
    let world = away();
    carried(&world, "a", "1");
    // It deactivates, and can't write its receipt: the journal stays open after the deactivation.
    std::fs::create_dir(directory(&world, "gone")).unwrap();
    let receipt = world.path("gone/r.json");
    let rule = json!({"when": {"plane": "pep", "route": "Remove-AzureStackActivation"}, "then": {"delay": 1_000}, "after": true, "limit": 1});
    world.lab.fault(rule).unwrap();
    let mut command = world.at_stamp(&["offline", "deactivate", "--out", &receipt, "--yes"]);
    command.env("AZSREG_STATE_DIR", directory(&world, "a"));
    for variable in ["AZSREG_STAMP_CLIENT_ID", "AZSREG_STAMP_CLIENT_SECRET"] {
        command.env_remove(variable);
    }
    let mut child = quietly(&mut command);
    wait_for(&mut child, "the deactivation", || activation(&world).is_null());
    std::fs::remove_dir_all(directory(&world, "gone")).unwrap();
    assert!(!child.wait().unwrap().success());
    // B ends it and registers again.
    let of_b = world.path("b.json");
    at_stamp(&world, "b", &["offline", "deactivate", "--out", &of_b, "--yes"]).ends(0).says("run again");
    let subscription = world.lab.descriptor().subscription_id.to_string();
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let undo = ["offline", "unregister", "--subscription", &subscription, "--cloud-id", &cloud_id, "--yes"];
    run(&mut world.at_azure(&undo)).ends(0);
    assert_gone(&world);
    carried(&world, "b", "2");
    world.days(21);
    // A goes on.
    let of_a = world.path("a.json");
    at_stamp(&world, "a", &["offline", "deactivate", "--out", &of_a]).ends(2).says("AZR1014");
    assert!(!Path::new(&of_a).exists(), "no receipt without a deactivation");
    assert_ne!(activation(&world), Value::Null);
    at_stamp(&world, "a", &["offline", "deactivate", "--out", &of_a, "--yes"]).ends(0);
    assert_eq!(activation(&world), Value::Null, "deactivated indeed");
    run(&mut world.at_azure(&["offline", "unregister", &of_a, "--yes"])).ends(0);
    assert_gone(&world);
}

/// A receipt of a deactivation does not delete the registration that was made after it.
#[test]
fn an_old_receipt_does_not_delete_a_live_registration() {
    let world = away();
    carried(&world, "a", "1");
    let receipt = world.path("r.json");
    at_stamp(&world, "a", &["offline", "deactivate", "--out", &receipt, "--yes"]).ends(0);
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    run(&mut world.at_azure(&["offline", "unregister", "--cloud-id", &cloud_id, "--yes"])).ends(0);
    world.days(1);
    carried(&world, "a", "2");
    let live = world.lab.world();
    let forget = directory(&world, "state-azure");
    std::fs::remove_dir_all(forget).unwrap();
    let ran = run(&mut world.at_azure(&["offline", "unregister", &receipt, "--cloud-id", &cloud_id, "--yes"]));
    assert_ne!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(world.lab.world()["registrations"], live["registrations"]);
    assert_sound(&world);
}
