//! A state directory that an earlier azsreg left opens in today's: what its journals know counts, what it left open is seen to
//! be open and is not believed over the world. The lab that belongs to it is opened beside it.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use azsreg_lab::LabOptions;
use azsreg_operations::engine::history::{History, OnDamage, seen};
use common::{Ran, World, copy, recorded, run};
use serde_json::{Value, json};
use uuid::Uuid;

/// The recorded lab and the state directory of its operator, copied.
fn opened() -> (World, tempfile::TempDir) {
    let data = tempfile::tempdir().unwrap();
    copy(&recorded("data-dir"), data.path());
    let world = World::with(LabOptions { data_dir: Some(data.path().to_owned()), ..LabOptions::default() });
    copy(&recorded("state"), &world.state());
    (world, data)
}

fn at(world: &World, stamp: usize, line: &[&str]) -> Ran {
    run(&mut world.both(stamp, &world.state(), line))
}

/// A stamp's number of its name, less one.
const STAMPS: [&str; 4] = [
    "3c55ebe6-0d1e-48f0-b3e0-ab7465a6ee61",
    "b19cbefb-1849-478a-8950-d6812112378c",
    "61a7b656-1244-465d-a788-1808f5deecbe",
    "7923c85b-e4ec-473c-bb5e-1ab595175469",
];

fn cloud_id(stamp: usize) -> Uuid {
    STAMPS[stamp].parse().unwrap()
}

#[test]
fn what_old_journals_know_is_known() {
    let read = |stamp: usize| History::read(&recorded("state"), cloud_id(stamp), OnDamage::Stop).unwrap();
    for stamp in 0..4 {
        let history = read(stamp);
        assert!(history.troubles.is_empty(), "{:?}", history.troubles);
        // Only the removal of the second was left open.
        assert_eq!(history.open.is_some(), stamp == 1);
        assert!(history.known().details.is_some());
    }
    assert_eq!(read(0).ended.len(), 2);
    let numbers = [None, Some("1234567"), None, None];
    for (stamp, number) in numbers.iter().enumerate() {
        let known = read(stamp).known().agreement_number.map(|number| number.text);
        assert_eq!(known.as_deref(), *number, "stamp{}", stamp + 1);
    }
    // It was asked for with the token of the fourth, and not written to Azure by this machine.
    assert_eq!(read(3).known().details.unwrap().agreement_number.as_deref(), Some("333"));
    // What an earlier azsreg saw before it began it did not write down: nothing vouches for what it did.
    assert!(seen(read(1).begun()).is_none() && !read(1).begun().is_empty());
}

#[test]
fn each_stamp_is_shown_as_it_is() {
    let (world, _data) = opened();
    for (stamp, code, says) in [(0, 0, "payasyouuse"), (1, 3, "azr6014"), (2, 0, "capacity")] {
        let shown = at(&world, stamp, &["status"]).ends(code);
        assert!(shown.stdout.to_lowercase().contains(says), "stamp{}: {}", stamp + 1, shown.stdout);
        let found = at(&world, stamp, &["status", "-o", "json"]).json();
        let codes: Vec<&str> =
            found["findings"].as_array().unwrap().iter().filter_map(|one| one["code"].as_str()).collect();
        assert!(codes.iter().all(|code| !code.starts_with("AZR5")), "stamp{}: {codes:?}", stamp + 1);
    }
}

#[test]
fn a_removal_that_an_earlier_azsreg_left_open_is_agreed_to_anew() {
    let (world, _data) = opened();
    let before = world.lab.world();
    at(&world, 1, &["unregister", "--plan"]).ends(4);
    at(&world, 1, &["unregister"]).ends(2).says("AZR1014");
    assert_eq!(world.lab.world()["registrations"], before["registrations"]);
    at(&world, 1, &["unregister", "--yes"]).ends(0);
    let now = world.lab.world();
    assert_eq!(now["stamps"][1]["activation"], Value::Null);
    let left = now["registrations"].as_array().unwrap();
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|one| !one["id"].as_str().unwrap().contains(STAMPS[1])));
    at(&world, 1, &["unregister", "--yes"]).ends(0).says("Nothing to do");
}

/// The number of the second is used again while the registration is as it was written then.
#[test]
fn a_number_of_an_old_journal_is_used_while_it_holds() {
    let (world, _data) = opened();
    at(&world, 1, &["set", "--marketplace", "off"]).ends(0);
    let number = |world: &World, cloud_id: &str| {
        let now = world.lab.world();
        let of = |one: &&Value| one["id"].as_str().unwrap().contains(cloud_id);
        now["registrations"].as_array().unwrap().iter().find(of).unwrap()["token"]["agreementNumber"].clone()
    };
    assert_eq!(number(&world, STAMPS[1]), "1234567");
    // The third was registered from another machine: this one never knew, and says so.
    at(&world, 2, &["set", "--marketplace", "off"]).ends(7).says("AZR6016");
    assert_eq!(number(&world, STAMPS[2]), json!("7654321"));
}

#[test]
fn a_kept_sign_in_is_shown_and_forgotten() {
    let state = tempfile::tempdir().unwrap();
    copy(&recorded("state"), state.path());
    let command = |line: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_azsreg"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AZSREG_")) {
            command.env_remove(name);
        }
        command.args(line).env("AZSREG_STATE_DIR", state.path()).env("AZSREG_NON_INTERACTIVE", "true");
        run(&mut command)
    };
    // Where it was made an earlier azsreg did not write down: for a custom cloud it is not used.
    command(&["whoami"]).ends(0).says("operator@lab.azsreg.invalid").says("not used");
    command(&["logout"]).ends(0);
    assert_eq!(std::fs::read_dir(state.path().join("sign-in")).unwrap().count(), 0);
    command(&["whoami"]).ends(3);
}
