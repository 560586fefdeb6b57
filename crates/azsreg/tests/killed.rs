//! Killed at any moment, nothing is lost: every operation is killed at every point that it passes (each journal line, each
//! request to either side before it leaves and after its answer has come, each file written), and the same command is run
//! again. Each time the same end. Every point once more with an empty state directory, as from another machine.
//!
//! Every point with `AZSREG_EVERY_POINT` set (`cargo xtask test --all` sets it), a spread of them otherwise.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use azsreg_lab::StampOptions;
use common::{World, assert_registered_once, run};
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

/// What came before, once: every point begins from a copy of it.
struct Start {
    world: String,
    files: tempfile::TempDir,
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Start {
    fn of(scenario: &Scenario<'_>) -> Self {
        let world = World::of(vec![scenario.stamp.clone()]);
        (scenario.before)(&world);
        let files = tempfile::tempdir().unwrap();
        copy(world.dir.path(), files.path());
        Self { world: world.lab.snapshot(), files }
    }

    fn world(&self) -> World {
        let world = World::restored(&self.world);
        copy(self.files.path(), world.dir.path());
        let _ = std::fs::remove_file(world.dir.path().join("bridge-token"));
        world
    }
}

fn forget(world: &World) {
    for state in ["state", "state-stamp", "state-azure"] {
        let _ = std::fs::remove_dir_all(world.dir.path().join(state));
    }
}

fn at_every_point(scenario: &Scenario<'_>) {
    let start = Start::of(scenario);
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
    visited(0, 0, &|world, what| whole(world, "token.json", what), &[0]);
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
        &[0],
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
        &[0],
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
        &[0],
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

const TINY: &str = "azsreglab.tiny-linux-1.0.3";
const VMACCESS: &str = "microsoft.vmaccess-linux-1.5.11";

fn cloud_id(world: &World) -> String {
    world.lab.descriptor().stamps[0].cloud_id.to_string()
}

/// The marketplace's items on the first stamp, by name.
fn stamp_items(world: &World) -> Vec<(String, String)> {
    let now = world.lab.world();
    let text = |item: &Value, at: &str| item.pointer(at).unwrap().as_str().unwrap().to_owned();
    let items = now["stamps"][0]["downloaded"].as_array().unwrap().iter();
    items.map(|item| (text(item, "/name"), text(item, "/properties/provisioningState"))).collect()
}

/// A stamp registered without a way to Azure.
fn registered_away(world: &World) {
    let (token, key) = (world.path("token"), world.path("key"));
    let model = ["--billing-model", "capacity", "--agreement-number", "A-1"];
    run(world.at_stamp(&["offline", "token", "--out", &token]).args(model)).ends(0);
    run(&mut world.at_azure(&["offline", "register", &token, "--out", &key])).ends(0);
    run(&mut world.at_stamp(&["offline", "activate", &key])).ends(0);
}

fn marketplace_download(world: &World, items: &[&str]) -> Command {
    let mut command = world.at_azure(&["marketplace", "download"]);
    command.args(items).args(["--to", &world.path("carried"), "--cloud-id", &cloud_id(world), "--accept-legal-terms"]);
    command
}

#[test]
fn marketplace_add_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &register,
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["marketplace", "add", TINY, VMACCESS]),
        end: &|world, what| {
            let mut items = stamp_items(world);
            items.sort();
            let wanted = [TINY, VMACCESS].map(|name| (format!("default/{name}"), "Succeeded".to_owned()));
            assert_eq!(items, wanted, "{what}");
        },
        codes: &[0],
    });
}

#[test]
fn marketplace_remove_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &|world| {
            register(world);
            world.run(&["marketplace", "add", TINY, VMACCESS]).ends(0);
        },
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["marketplace", "remove", TINY, "--yes"]),
        end: &|world, what| assert_eq!(stamp_items(world).len(), 1, "{what}"),
        codes: &[0],
    });
}

#[test]
fn marketplace_download_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &registered_away,
        stamp: away(),
        command: &|world| marketplace_download(world, &[TINY, VMACCESS]),
        end: &|world, what| {
            let folder = world.path("carried");
            let ran = run(&mut world.at_stamp(&["marketplace", "verify", &folder]));
            assert_eq!(ran.code, Some(0), "{what}: {}{}", ran.stdout, ran.stderr);
            for item in [TINY, VMACCESS] {
                let inside = std::fs::read_dir(Path::new(&folder).join(item)).unwrap().flatten();
                let names: Vec<String> = inside.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
                assert!(
                    names.iter().all(|name| !name.ends_with(".part") && !name.ends_with(".jsonl")),
                    "{what}: {names:?}"
                );
            }
        },
        codes: &[0],
    });
}

#[test]
fn marketplace_import_ends_the_same_wherever_it_is_killed() {
    at_every_point(&Scenario {
        before: &|world| {
            registered_away(world);
            run(&mut marketplace_download(world, &[TINY, VMACCESS])).ends(0);
        },
        stamp: away(),
        command: &|world| world.at_stamp(&["marketplace", "import", &world.path("carried")]),
        end: &|world, what| {
            let mut items = stamp_items(world);
            items.sort();
            let wanted = [TINY, VMACCESS].map(|name| (format!("default/{name}"), "Succeeded".to_owned()));
            assert_eq!(items, wanted, "{what}");
            let accounts = world.lab.export()["stamps"][0]["accounts"].clone();
            assert_eq!(accounts, json!({"groups": {}, "accounts": {}}), "{what}");
        },
        codes: &[0],
    });
}

/// Writes a manifest anew for a file of an item that was changed.
fn changed(world: &World, item: &str, ending: &str) -> String {
    use azsreg_model::{ItemContents, ItemManifest, hex};
    use sha2::Digest as _;
    let folder = Path::new(&world.path("carried")).join(item);
    let path = folder.join("azsreg-manifest.json");
    let old = ItemManifest::decode(&std::fs::read(&path).unwrap()).unwrap();
    let mut files = old.files.clone();
    let file = files.iter_mut().find(|file| file.path.ends_with(ending)).unwrap();
    let mut bytes = std::fs::read(folder.join(&file.path)).unwrap();
    bytes[100_000] ^= 0xff;
    std::fs::write(folder.join(&file.path), &bytes).unwrap();
    file.sha256 = hex(&sha2::Sha256::digest(&bytes));
    let sum = file.sha256.clone();
    let new = ItemManifest::new(ItemContents {
        product: old.product,
        title: old.title,
        kind: old.kind,
        version: old.version,
        cloud_id: old.cloud_id,
        registration: old.registration,
        azsreg: old.azsreg,
        at: old.at,
        agreed: old.agreed,
        files,
    });
    std::fs::write(path, new.encode()).unwrap();
    sum
}

/// What an import that was broken off has left is gone on with only where it is what is carried now: never a mixture.
#[test]
fn an_import_never_goes_on_with_another_files_bytes() {
    let world = World::of(vec![away()]);
    registered_away(&world);
    let (provider, disk) = ("azsreglab.mysql-provider-2.0.13", "azsreglab.offline-mirror-1.4.0");
    for (item, ending) in [(provider, ".zip"), (disk, ".vhd")] {
        let _ = std::fs::remove_dir_all(world.path("carried"));
        run(&mut marketplace_download(&world, &[item])).ends(0);
        let import = || world.at_stamp(&["marketplace", "import", &world.path("carried")]);
        let uploaded = || {
            let all = world.control_with("GET", "/stamps/stamp1/blobs", &Value::Null);
            all.as_array().unwrap().iter().find(|blob| blob["name"].as_str().unwrap().ends_with(ending)).cloned()
        };
        // Killed when most of the large file is there.
        let trace = world.path("trace");
        world.lab.fault(json!({"when": {"plane": "stamp-arm", "method": "PUT", "route": "downloadedProducts"}, "then": {"status": 400}})).unwrap();
        run(import().env("AZSREG_CRASH_TRACE", &trace)).ends(6);
        assert_eq!(uploaded().unwrap()["metadata"]["azsreg_sha256"].as_str().unwrap(), uploaded().unwrap()["sha256"]);
        let points = std::fs::read_to_string(&trace).unwrap().lines().count();
        let _ = std::fs::remove_file(&trace);
        let (first, last) = (points * 5 / 10, points * 9 / 10);
        for (at, point) in [first, last].into_iter().enumerate() {
            let sum = changed(&world, item, ending);
            let ran = run(import().env("AZSREG_CRASH_AT", point.to_string()));
            assert!(ran.code.is_none() || ran.code == Some(6), "{}{}", ran.stdout, ran.stderr);
            if let Some(blob) = uploaded() {
                // Whatever is there by now, only what is whole says so.
                let said = blob["metadata"]["azsreg_sha256"].as_str().map(str::to_owned);
                assert!(said.is_none_or(|said| said == blob["sha256"]), "{at}: {blob}");
            }
            let again = changed(&world, item, ending);
            assert_ne!(again, sum);
            run(&mut import()).ends(6);
            assert_eq!(uploaded().unwrap()["sha256"], again, "{item}, killed at {point} of {points}");
        }
        world.control_with("DELETE", "/faults", &Value::Null);
        run(&mut import()).ends(0);
    }
}

/// Killed at twenty places of a large file, by a seed: it goes on each time from where it was, and is whole in the end.
/// Two gibibytes with `AZSREG_EVERY_POINT`, 64 mebibytes otherwise.
#[test]
fn a_large_item_is_fetched_once_however_often_it_is_killed() {
    const BLOCK: u64 = 4 << 20;
    let every = std::env::var_os("AZSREG_EVERY_POINT").is_some();
    let (item, size) = match every {
        true => ("canonical.ubuntu-server-jammy22.04-22.04.202410150", (2u64 << 30) + 512),
        false => ("azsreglab.offline-mirror-1.4.0", (64 << 20) + 512),
    };
    let world = World::of(vec![away()]);
    registered_away(&world);
    // Twenty places by a seed, in order; what is between two of them is what one run may fetch.
    let mut seed = 20_261_125u64;
    let mut places: Vec<u64> = (0..20)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 16) % size
        })
        .collect();
    places.sort_unstable();
    let served = || {
        let all = world.control_with("GET", "/blobs", &Value::Null);
        let disk = |s: &&Value| s["path"].as_str().unwrap().ends_with(".vhd");
        all.as_array().unwrap().iter().filter(disk).map(|s| s["from"].as_u64().unwrap()).collect::<Vec<u64>>()
    };
    let (mut at, mut twice, mut killed) = (0u64, 0u64, 0);
    for place in places {
        let Some(bytes) = place.checked_sub(at).filter(|bytes| *bytes > 0) else { continue };
        let ran = run(marketplace_download(&world, &[item]).env("AZSREG_CRASH_AT_BYTE", bytes.to_string()));
        assert_eq!(ran.code, None, "it should have been killed after {bytes} bytes: {}{}", ran.stdout, ran.stderr);
        killed += 1;
        // The run began where it asked from, and took so many bytes, small files among them.
        let from = *served().last().unwrap();
        let again = at.saturating_sub(from);
        assert!(again <= BLOCK, "{again} bytes before {at} were fetched again");
        twice += again;
        at = from + bytes.saturating_sub(if from == 0 { 1 << 20 } else { 0 });
    }
    let ran = run(&mut marketplace_download(&world, &[item]));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let again = at.saturating_sub(*served().last().unwrap());
    assert!(again <= BLOCK, "{again} bytes were fetched again");
    let folder = world.path("carried");
    run(&mut world.at_stamp(&["marketplace", "verify", &folder])).ends(0);
    // A copy that was never killed has the same sum.
    let whole = world.path("whole");
    let mut command = world.at_azure(&["marketplace", "download", item, "--to", &whole, "--accept-legal-terms"]);
    run(command.args(["--cloud-id", &cloud_id(&world)])).ends(0);
    let sums = |folder: &str| {
        let text = std::fs::read(Path::new(folder).join(item).join("azsreg-manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&text).unwrap();
        let disk = manifest["files"].as_array().unwrap().iter().find(|file| file["role"] == "os-disk").unwrap().clone();
        (disk["bytes"].clone(), disk["sha256"].clone())
    };
    assert_eq!(sums(&folder), sums(&whole));
    assert_eq!(sums(&folder).0, size);
    println!("killed {killed} times; {twice} of {size} bytes were fetched twice");
}
