//! The visits of a disconnected stamp's life, each killed at every point.

use std::process::Command;

use super::common::{World, run};
use super::{Scenario, at_every_point, away, carried, removed};

/// What an offline registration has come to when its nth visit is due.
fn visits(world: &World, count: usize) {
    let (token, key) = (world.path("token.json"), world.path("key.json"));
    let ask = ["offline", "token", "--billing-model", "capacity", "--agreement-number", "A-1", "--out", &token];
    let (again, new) = (world.path("again.json"), world.path("new.json"));
    let start = [
        "offline",
        "renew",
        "start",
        "--billing-model",
        "capacity",
        "--agreement-number",
        "A-2",
        "--yes",
        "--out",
        &again,
    ];
    let steps: [&dyn Fn() -> Command; 5] = [
        &|| world.at_stamp(&ask),
        &|| world.at_azure(&["offline", "register", &token, "--out", &key]),
        &|| world.at_stamp(&["offline", "activate", &key]),
        &|| world.at_stamp(&start),
        &|| world.at_azure(&["offline", "renew", "register", &again, "--out", &new, "--yes"]),
    ];
    for step in &steps[..count] {
        run(&mut step()).ends(0);
    }
}

/// The nth visit of a disconnected stamp's life.
fn visit(world: &World, number: usize) -> Command {
    let (token, key) = (world.path("token.json"), world.path("key.json"));
    let (again, new, receipt) = (world.path("again.json"), world.path("new.json"), world.path("receipt.json"));
    match number {
        0 => world.at_stamp(&[
            "offline",
            "token",
            "--billing-model",
            "capacity",
            "--agreement-number",
            "A-1",
            "--out",
            &token,
        ]),
        1 => world.at_azure(&["offline", "register", &token, "--out", &key]),
        2 => world.at_stamp(&["offline", "activate", &key]),
        3 => world.at_stamp(&[
            "offline",
            "renew",
            "start",
            "--billing-model",
            "capacity",
            "--agreement-number",
            "A-2",
            "--yes",
            "--out",
            &again,
        ]),
        4 => world.at_azure(&["offline", "renew", "register", &again, "--out", &new, "--yes"]),
        5 => world.at_stamp(&["offline", "renew", "finish", &new]),
        6 => world.at_stamp(&["offline", "deactivate", "--yes", "--out", &receipt]),
        _ => world.at_azure(&["offline", "unregister", &receipt, "--yes"]),
    }
}

fn visited(number: usize, before: usize, end: &(dyn Fn(&World, &str) + Sync), codes: &[i32]) {
    at_every_point(&Scenario {
        before: &|world| visits(world, before),
        stamp: away(),
        command: &|world| visit(world, number),
        end,
        codes,
    });
}

/// The file of a visit is there and whole.
fn whole(world: &World, file: &str, what: &str) {
    let ran = run(&mut world.at_azure(&["offline", "inspect", &world.path(file)]));
    assert_eq!(ran.code, Some(0), "{what}: {}", ran.stderr);
}

#[test]
fn offline_token_ends_the_same_wherever_it_is_killed() {
    // The file of a run that is over, or whose journal is lost, is not written over.
    visited(0, 0, &|world, what| whole(world, "token.json", what), &[0, 2]);
}

#[test]
fn offline_register_ends_the_same_wherever_it_is_killed() {
    visited(
        1,
        1,
        &|world, what| {
            carried(world, what, false);
            whole(world, "key.json", what);
        },
        // The file of a run that is over, or whose journal is lost, is not written over.
        &[0, 2],
    );
}

#[test]
fn offline_activate_ends_the_same_wherever_it_is_killed() {
    visited(2, 2, &|world, what| carried(world, what, true), &[0]);
}

#[test]
fn offline_renew_start_ends_the_same_wherever_it_is_killed() {
    visited(
        3,
        3,
        &|world, what| {
            carried(world, what, false);
            whole(world, "again.json", what);
        },
        // The file of a run that is over, or whose journal is lost, is not written over.
        &[0, 2],
    );
}

#[test]
fn offline_renew_register_ends_the_same_wherever_it_is_killed() {
    visited(
        4,
        4,
        &|world, what| {
            carried(world, what, false);
            assert_eq!(world.lab.world()["registrations"][0]["token"]["agreementNumber"], "A-2", "{what}");
            whole(world, "new.json", what);
        },
        &[0],
    );
}

#[test]
fn offline_renew_finish_ends_the_same_wherever_it_is_killed() {
    visited(5, 5, &|world, what| carried(world, what, true), &[0]);
}

#[test]
fn offline_deactivate_ends_the_same_wherever_it_is_killed() {
    visited(
        6,
        3,
        &|world, what| {
            carried(world, what, false);
            whole(world, "receipt.json", what);
        },
        // The file of a run that is over, or whose journal is lost, is not written over.
        &[0, 2],
    );
}

#[test]
fn offline_unregister_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &|world| {
            visits(world, 3);
            run(&mut visit(world, 6)).ends(0);
        },
        stamp: away(),
        command: &|world| visit(world, 7),
        end: &removed,
        // Removed by the run that was killed: from another machine it is missing, and said to be.
        codes: &[0, 3],
    });
}
