//! Killed at any moment, nothing is lost: every operation is killed at every point that it passes (each journal line, each
//! request to either side before it leaves and after its answer has come, each file written), and the same command is run
//! again. Each time the same end. Every point once more with an empty state directory, as from another machine.
//!
//! Every point with `AZSREG_EVERY_POINT` set (`cargo xtask test --all` sets it), a spread of them otherwise.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod marketplace;
mod offline;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use azsreg_lab::StampOptions;
use common::{Start, World, assert_registered_once, run};
use jiff::SignedDuration;
use serde_json::{Value, json};

/// An operation to be killed.
struct Scenario<'s> {
    /// What came before, on machines that keep their state directories.
    before: &'s (dyn Fn(&World) + Sync),
    stamp: StampOptions,
    /// The command.
    command: &'s (dyn Fn(&World) -> Command + Sync),
    /// The one end that it leads to.
    end: &'s (dyn Fn(&World, &str) + Sync),
    /// How it may end when it is run again and there was nothing left to do.
    codes: &'s [i32],
}

fn forget(world: &World) {
    for state in ["state", "state-stamp", "state-azure"] {
        let _ = std::fs::remove_dir_all(world.dir.path().join(state));
    }
}

fn at_every_point(scenario: &Scenario<'_>) {
    let start = Start::of(scenario.stamp.clone(), scenario.before);
    let world = start.world();
    let trace = world.dir.path().join("trace");
    let ran = run((scenario.command)(&world).env("AZSREG_CRASH_TRACE", &trace));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    (scenario.end)(&world, "not killed");
    let trace = std::fs::read_to_string(trace).unwrap();
    let names: Vec<&str> = trace.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let every = std::env::var_os("AZSREG_EVERY_POINT").is_some();
    // Writing a journal line or a file is where most can go wrong: those are never left out.
    let taken = |at: usize| every || at.is_multiple_of(9) || ["journal", "file >", "file <"].contains(&names[at - 1]);
    let jobs: Vec<(usize, bool)> =
        (1..=names.len()).filter(|at| taken(*at)).flat_map(|at| [(at, false), (at, true)]).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((point, forgets)) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    // How often a waiting client asks is the clock's affair: the last points may not come.
                    let last = point + 15 > names.len();
                    kill_at(scenario, &start, (*point, names[point - 1], last), *forgets);
                }
            });
        }
    });
    println!("{} of {} points, each with its journal and without", jobs.len() / 2, names.len());
}

/// Kills at one point and runs again, with the journal or without it.
fn kill_at(scenario: &Scenario<'_>, start: &Start, (point, name, last): (usize, &str, bool), forgets: bool) {
    let state = if forgets { "empty state directory" } else { "same state directory" };
    let what = format!("killed at point {point} ({name}), {state}");
    let world = start.world();
    let killed = run((scenario.command)(&world).env("AZSREG_CRASH_AT", point.to_string()));
    let ended = last && killed.code == Some(0);
    assert!(ended || killed.code.is_none(), "{what}: it should have been killed: {}{}", killed.stdout, killed.stderr);
    if forgets {
        forget(&world);
    }
    let again = run(&mut (scenario.command)(&world));
    assert!(scenario.codes.contains(&again.code.unwrap_or(-1)), "{what}: {}{}", again.stdout, again.stderr);
    (scenario.end)(&world, &what);
}

fn registered(world: &World, what: &str) {
    assert_registered_once(&world.lab.world(), what);
}

fn removed(world: &World, what: &str) {
    let now = world.lab.world();
    for list in ["registrations", "locks", "role_assignments"] {
        assert_eq!(now[list], json!([]), "{what}: {list}");
    }
    assert_eq!(now["stamps"][0]["activation"], Value::Null, "{what}");
    assert_eq!(now["stamps"][0]["running"], Value::Null, "{what}");
}

/// The end of a disconnected registration: no principal, no role.
fn carried(world: &World, what: &str, activated: bool) {
    let now = world.lab.world();
    for list in ["registrations", "locks"] {
        assert_eq!(now[list].as_array().unwrap().len(), 1, "{what}: {list}: {now:#}");
    }
    assert_eq!(now["role_assignments"], json!([]), "{what}");
    let record = &now["stamps"][0]["activation"];
    if activated {
        let id = &now["registrations"][0]["id"];
        assert_eq!(record["properties"]["azureRegistrationResourceIdentifier"], *id, "{what}");
    } else {
        assert_eq!(*record, Value::Null, "{what}");
    }
}

fn nothing(_: &World) {}

fn register(world: &World) {
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
}

fn register_capacity(world: &World) {
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
}

fn stamp() -> StampOptions {
    StampOptions::default()
}

fn away() -> StampOptions {
    StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }
}

#[test]
fn register_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &nothing,
        stamp: stamp(),
        command: &|world| world.register("pay-as-you-use"),
        end: &registered,
        codes: &[0],
    });
}

#[test]
fn register_with_capacity_ends_the_same_wherever_it_is_killed() {
    // The journal alone knows the agreement number: without it the registration is written again, to the same end.
    at_every_point(&Scenario {
        before: &nothing,
        stamp: stamp(),
        command: &|world| {
            let mut command = world.register("capacity");
            command.args(["--agreement-number", "A-1"]);
            command
        },
        end: &registered,
        codes: &[0],
    });
}

#[test]
fn register_without_the_records_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &nothing,
        stamp: stamp(),
        command: &|world| {
            let mut command = world.command(0, &world.state());
            world.signed_in(&mut command);
            command.args(["register", "--billing-model", "development"]);
            command
        },
        end: &registered,
        codes: &[0],
    });
}

#[test]
fn set_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &register,
        stamp: stamp(),
        command: &|world| {
            world.both(
                0,
                &world.state(),
                &["set", "--billing-model", "capacity", "--agreement-number", "A-9", "--marketplace", "off"],
            )
        },
        end: &|world, what| {
            registered(world, what);
            let now = world.lab.world();
            assert_eq!(now["registrations"][0]["token"]["agreementNumber"], "A-9", "{what}");
            assert_eq!(now["stamps"][0]["activation"]["properties"]["marketplaceSyndicationEnabled"], false, "{what}");
            assert_ne!(
                now["stamps"][0]["activation"]["properties"]["expiration"], "9999-12-30T23:59:59.9999999Z",
                "{what}"
            );
        },
        codes: &[0],
    });
}

#[test]
fn renew_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &|world| {
            register_capacity(world);
            world.control("/stamps/stamp1", &json!({"nodes": 8}));
        },
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["renew", "--agreement-number", "A-2"]),
        end: &|world, what| {
            registered(world, what);
            let token = &world.lab.world()["registrations"][0]["token"];
            assert_eq!(token["agreementNumber"], "A-2", "{what}");
            assert_eq!(token["hardwareInfo"].as_array().unwrap().len(), 8, "{what}");
        },
        codes: &[0],
    });
}

#[test]
fn renew_of_an_expired_one_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &|world| {
            register_capacity(world);
            world.days(400);
        },
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["renew", "--agreement-number", "A-2", "--yes"]),
        end: &|world, what| {
            registered(world, what);
            assert_eq!(world.lab.world()["registrations"][0]["token"]["agreementNumber"], "A-2", "{what}");
        },
        codes: &[0],
    });
}

#[test]
fn change_subscription_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &register,
        stamp: stamp(),
        command: &|world| {
            let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
            // The old registration is all that knows the model: what another machine can't know is given.
            let change = ["change-subscription", "--to-subscription", &fresh, "--billing-model", "pay-as-you-use"];
            let mut command = world.both(0, &world.state(), &change);
            command.args(["--usage-reporting", "on", "--marketplace", "on", "--yes"]);
            command
        },
        end: &|world, what| {
            registered(world, what);
            let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
            assert!(world.lab.world()["registrations"][0]["id"].as_str().unwrap().contains(&fresh), "{what}");
        },
        codes: &[0],
    });
}

#[test]
fn move_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &register,
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["move", "--to-resource-group", "other"]),
        end: &|world, what| {
            registered(world, what);
            let id = world.lab.world()["registrations"][0]["id"].clone();
            assert!(id.as_str().unwrap().contains("/resourceGroups/other/"), "{what}");
        },
        codes: &[0],
    });
}

#[test]
fn repair_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &|world| {
            register(world);
            world.control("/stamps/stamp1", &json!({"deactivated": true}));
            world.control_with("DELETE", "/locks", &Value::Null);
        },
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["repair"]),
        end: &registered,
        codes: &[0],
    });
}

#[test]
fn unregister_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &register,
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["unregister", "--yes"]),
        end: &removed,
        codes: &[0],
    });
}

/// Our own lock is lifted for it: killed anywhere, it is back at the end.
#[test]
fn customer_remove_ends_the_same_wherever_it_is_killed() {
    let customer = |world: &World, line: &[&str]| {
        let kept = world.dir.path().join("customer");
        if !kept.exists() {
            let made = world.control("/subscriptions", &json!({}));
            std::fs::write(&kept, made["subscription_id"].as_str().unwrap()).unwrap();
        }
        let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
        let mut command = world.at_azure(&["customer", line[0], &std::fs::read_to_string(kept).unwrap()]);
        command.args(&line[1..]).args(["--cloud-id", &cloud_id]);
        command
    };
    at_every_point(&Scenario {
        before: &|world| {
            register(world);
            run(&mut customer(world, &["add", "--tenant", "dbab3982-796f-4d03-9908-044c08aef8a2"])).ends(0);
        },
        stamp: stamp(),
        command: &|world| customer(world, &["remove", "--yes"]),
        end: &|world, what| {
            registered(world, what);
            // Azure keeps what was: the mapping has an end.
            let mappings = world.lab.export()["arm"]["customers"].clone();
            assert!(mappings.as_array().unwrap().iter().all(|one| !one["ended"].is_null()), "{what}: {mappings}");
        },
        codes: &[0],
    });
}

/// A fresh world for the stamp's own slow actions: the client vanishes, the stamp goes on, the next run waits for it.
#[test]
fn an_activation_that_outlives_its_client_is_waited_for() {
    let slow =
        || World::of(vec![StampOptions { activation: SignedDuration::from_millis(1_500), ..StampOptions::default() }]);
    let prepare = |world: &World| world.register("pay-as-you-use");
    let world = slow();
    let trace = world.dir.path().join("trace");
    run(prepare(&world).env("AZSREG_CRASH_TRACE", &trace)).ends(0);
    let trace = std::fs::read_to_string(trace).unwrap();
    // The last commands to the stamp: among them the one that starts the activation.
    let sent: Vec<usize> =
        trace.lines().enumerate().filter(|(_, line)| line.ends_with("pep <")).map(|(at, _)| at + 1).collect();
    for point in sent.iter().rev().take(6) {
        for forgets in [false, true] {
            let what = format!("point {point}, forget {forgets}");
            let world = slow();
            let killed = run(prepare(&world).env("AZSREG_CRASH_AT", point.to_string()));
            if killed.code.is_some() {
                // Fewer polls this time: the run ended before the point.
                continue;
            }
            if forgets {
                forget(&world);
            }
            let again = run(&mut prepare(&world));
            assert_eq!(again.code, Some(0), "{what}: {}", again.stderr);
            assert_registered_once(&world.lab.world(), &what);
        }
    }
}

#[test]
fn the_journal_of_a_killed_run_goes_on() {
    let world = World::new();
    let killed = run(world.register("pay-as-you-use").env("AZSREG_CRASH_AT", "90"));
    assert_eq!(killed.code, None);
    run(&mut world.register("pay-as-you-use")).ends(0);
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let journals = std::fs::read_dir(world.state().join("journals").join(cloud_id)).unwrap().count();
    assert_eq!(journals, 1, "the second run went on in the first one's journal");
}
