//! Another operator acts while a question is on the screen, or while a run looks.

use super::*;
#[cfg(unix)]
use crate::terminal::Terminal;

/// What both operators of a question begin with, with the record or without it.
#[cfg(unix)]
const WAYS: [Way; 2] = [operator, reader];

#[cfg(unix)]
#[test]
fn a_move_while_the_question_is_on_the_screen_is_shown_and_asked_about() {
    for way in WAYS {
        let world = World::new();
        run(&mut way(&world, "b", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
        let mut terminal = Terminal::open();
        let mut asked = terminal.run(&mut way(&world, "a", &["unregister"]));
        asked.is_asked(1);
        run(&mut way(&world, "b", &["move", "--to-resource-group", "other"])).ends(0);
        terminal.answer("yes");
        asked.is_asked(2);
        assert!(asked.said.contains("changed while you were asked"), "{}", asked.said);
        assert!(asked.said.contains("/resourceGroups/other/"), "{}", asked.said);
        assert_registered_once(&world.lab.world(), "asked again");
        terminal.answer("no");
        asked.ends(2).says("AZR1014");
        assert_registered_once(&world.lab.world(), "not agreed to");
        // Who agrees to what is there gets it.
        let mut asked = terminal.run(&mut way(&world, "a", &["unregister"]));
        asked.is_asked(1);
        terminal.answer("yes");
        asked.ends(0);
        assert_gone(&world);
    }
}

#[cfg(unix)]
#[test]
fn a_change_of_subscription_while_the_question_is_on_the_screen_stops_the_removal() {
    for way in WAYS {
        let world = World::new();
        let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
        run(&mut way(&world, "b", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
        let mut terminal = Terminal::open();
        let mut asked = terminal.run(&mut way(&world, "a", &["unregister"]));
        asked.is_asked(1);
        run(&mut way(&world, "b", &["change-subscription", "--to-subscription", &fresh, "--yes"])).ends(0);
        terminal.answer("yes");
        asked.ends(7).says(&fresh);
        assert_registered_once(&world.lab.world(), "it is in the other subscription, and activated");
    }
}

/// While an operation holds the lock no other begins to look: what it would look at is about to change.
#[test]
fn looking_and_acting_are_under_one_lock() {
    let world = World::new();
    run(&mut reader(&world, "a", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    let state = directory(&world, "a");
    let rule = json!({"when": {"plane": "arm", "method": "PUT", "route": "locks"}, "then": {"hang": true}});
    world.control_with("DELETE", "/locks", &Value::Null);
    world.lab.fault(rule).unwrap();
    let mut first = quietly(&mut reader(&world, "a", &["repair"]));
    // The registration's own run has come to this step before.
    wait_for(&mut first, "the lock's step", || runs_that_began(&state, "lock") == 2);
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let lines: [&[&str]; 8] = [
        &["unregister", "--yes"],
        &["unregister", "--orphan", "stamp", "--yes"],
        &["offline", "unregister", "--cloud-id", &cloud_id, "--yes"],
        &["move", "--to-resource-group", "other"],
        &["repair"],
        &["set", "--marketplace", "off"],
        &["register", "--billing-model", "development"],
        &["customer", "remove", &cloud_id, "--cloud-id", &cloud_id, "--yes"],
    ];
    for line in lines {
        run(&mut reader(&world, "a", line)).ends(5).says("AZR5001").says("repair of").says("at the step lock since");
    }
    // A plan needs no lock, and says that it may be another soon.
    for line in [&["unregister", "--plan"][..], &["move", "--to-resource-group", "other", "--plan"]] {
        run(&mut reader(&world, "a", line)).ends(4).says("repair of");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    world.control_with("DELETE", "/faults", &Value::Null);
    run(&mut reader(&world, "a", &["repair"])).ends(0);
    assert_registered_once(&world.lab.world(), "repaired");
}

/// What a command leaves half done is not half done while it runs.
#[test]
fn status_beside_a_running_command_says_what_runs() {
    let ways: [(Way, &str); 2] = [(operator, "Registered in Azure"), (reader, "In progress")];
    for (way, word) in ways {
        let world = World::new();
        let state = directory(&world, "a");
        let rule = json!({"when": {"plane": "arm", "method": "PUT", "route": "locks"}, "then": {"hang": true}});
        world.lab.fault(rule).unwrap();
        let mut first = quietly(&mut way(&world, "a", &["register", "--billing-model", "pay-as-you-use"]));
        wait_for(&mut first, "the lock's step", || runs_that_began(&state, "lock") == 1);
        let told = run(&mut way(&world, "a", &["repair"])).ends(5);
        told.says("register of").says("since").says("at the step lock since");
        let seen = run(&mut way(&world, "a", &["status"]));
        if seen.stdout.contains("Half") || seen.stdout.contains("repair") || seen.code == Some(3) {
            panic!("{}", seen.stdout);
        }
        seen.says(word).says("AZR5001: the stamp is being worked on by register of").says("at the step lock since");
        let seen = run(&mut way(&world, "a", &["status", "-o", "json"])).json();
        assert_eq!(seen["running"]["step"], "lock", "{seen:#}");
        first.kill().unwrap();
        first.wait().unwrap();
        world.control_with("DELETE", "/faults", &Value::Null);
        // Nothing runs any more: it is half registered indeed.
        run(&mut way(&world, "a", &["repair"])).ends(0);
        assert_registered_once(&world.lab.world(), "repaired");
    }
}
