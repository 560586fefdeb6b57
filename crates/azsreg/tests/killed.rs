//! `register`, killed and run again at every point: after each journal line, and at every wire call both before it is
//! sent and after its answer has come. Each time the same end. Every point once more with an empty state directory, as
//! from another machine.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use azsreg_lab::StampOptions;
use common::{World, assert_registered_once, run};
use jiff::SignedDuration;

/// The points that a run passes, by name.
fn points(world: &World, prepare: impl Fn(&World) -> std::process::Command) -> Vec<String> {
    let trace = world.dir.path().join("trace");
    let ran = run(prepare(world).env("AZSREG_CRASH_TRACE", &trace));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    std::fs::read_to_string(trace).unwrap().lines().map(|l| l.split_once(' ').unwrap().1.to_owned()).collect()
}

/// Kills at one point and runs again, with the journal or without it.
fn kill_at(point: usize, name: &str, forget: bool, prepare: &(impl Fn(&World) -> std::process::Command + Sync)) {
    let what = format!(
        "killed at point {point} ({name}), {}",
        if forget { "empty state directory" } else { "same state directory" }
    );
    let world = World::new();
    let killed = run(prepare(&world).env("AZSREG_CRASH_AT", point.to_string()));
    assert_eq!(killed.code, None, "{what}: the process should have been killed: {}", killed.stderr);
    if forget {
        let _ = std::fs::remove_dir_all(world.state());
    }
    let again = run(&mut prepare(&world));
    assert_eq!(again.code, Some(0), "{what}: {}{}", again.stdout, again.stderr);
    assert_registered_once(&world.lab.world(), &what);
    let third = run(&mut prepare(&world));
    assert_eq!(third.code, Some(0), "{what}: {}", third.stderr);
    assert!(third.stdout.contains("Nothing to do"), "{what}: {}", third.stdout);
}

fn at_every_point(prepare: impl Fn(&World) -> std::process::Command + Sync) {
    let names = points(&World::new(), &prepare);
    assert!(names.len() > 90, "too few points: {names:?}");
    let jobs: Vec<(usize, bool)> = (1..=names.len()).flat_map(|point| [(point, false), (point, true)]).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((point, forget)) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    kill_at(*point, &names[point - 1], *forget, &prepare);
                }
            });
        }
    });
    println!("{} points, each with its journal and without", names.len());
}

#[test]
fn pay_as_you_use_ends_the_same_wherever_it_is_killed() {
    at_every_point(|world| world.register("pay-as-you-use"));
}

#[test]
fn capacity_ends_the_same_wherever_it_is_killed() {
    // The journal alone knows the agreement number: without it the registration is written again, to the same end.
    let prepare = |world: &World| {
        let mut command = world.register("capacity");
        command.args(["--agreement-number", "A-1"]);
        command
    };
    at_every_point(prepare);
}

/// A fresh world for the stamp's own slow actions: the client vanishes, the stamp goes on, the next run waits for it.
#[test]
fn an_activation_that_outlives_its_client_is_waited_for() {
    let slow =
        || World::of(vec![StampOptions { activation: SignedDuration::from_millis(1_500), ..StampOptions::default() }]);
    let prepare = |world: &World| world.register("pay-as-you-use");
    let names = points(&slow(), prepare);
    // The last commands to the stamp: among them the one that starts the activation.
    let sent: Vec<usize> = names.iter().enumerate().filter(|(_, n)| *n == "pep <").map(|(at, _)| at + 1).collect();
    for point in sent.iter().rev().take(6) {
        for forget in [false, true] {
            let what = format!("point {point}, forget {forget}");
            let world = slow();
            let killed = run(prepare(&world).env("AZSREG_CRASH_AT", point.to_string()));
            if killed.code.is_some() {
                // Fewer polls this time: the run ended before the point.
                continue;
            }
            if forget {
                let _ = std::fs::remove_dir_all(world.state());
            }
            let again = run(&mut prepare(&world));
            assert_eq!(again.code, Some(0), "{what}: {}", again.stderr);
            assert_registered_once(&world.lab.world(), &what);
        }
    }
}

#[test]
fn without_the_stamps_records_the_journal_tells_what_is_done() {
    let prepare = |world: &World| {
        let mut command = world.command(0, &world.state());
        world.signed_in(&mut command);
        command.args(["register", "--billing-model", "development"]);
        command
    };
    let names = points(&World::new(), prepare);
    for (at, name) in names.iter().enumerate().filter(|(_, name)| *name == "journal") {
        for forget in [false, true] {
            kill_at(at + 1, name, forget, &prepare);
        }
    }
}

#[test]
fn the_journal_of_a_killed_run_goes_on() {
    let world = World::new();
    let killed = run(world.register("pay-as-you-use").env("AZSREG_CRASH_AT", "90"));
    assert_eq!(killed.code, None);
    let again = run(&mut world.register("pay-as-you-use"));
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let mut journals = Vec::new();
    files(&world.state().join("journals"), &mut journals);
    assert_eq!(journals.len(), 1, "the second run went on in the first one's journal");
}

fn files(path: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}
