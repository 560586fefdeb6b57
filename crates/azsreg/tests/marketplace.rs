//! Marketplace items over the real wires: brought to a connected stamp, carried to a disconnected one, and everything that
//! the article and the facts say can go wrong on the way.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use azsreg_lab::StampOptions;
use common::{Ran, World, run};
use serde_json::{Value, json};

const TINY: &str = "azsreglab.tiny-linux-1.0.3";
const VMACCESS: &str = "microsoft.vmaccess-linux-1.5.11";
const TEMPLATE: &str = "azsreglab.hello-template-1.0.0";
const PROVIDER: &str = "azsreglab.mysql-provider-2.0.13";
const UBUNTU: &str = "canonical.ubuntu-server-jammy22.04-22.04.202410150";

fn registered() -> World {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world
}

fn items(world: &World) -> Vec<(String, String)> {
    let listed = world.run(&["marketplace", "downloaded", "-o", "json"]).ends(0).json();
    let items = listed["value"].as_array().unwrap().iter();
    items.map(|item| (item["name"].as_str().unwrap().to_owned(), item["state"].as_str().unwrap().to_owned())).collect()
}

fn there(name: &str) -> (String, String) {
    (name.to_owned(), "succeeded".to_owned())
}

/// A registered stamp without a way to Azure, and the two machines beside it.
fn away() -> World {
    let world = World::of(vec![StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }]);
    let (token, key) = (world.path("token"), world.path("key"));
    let model = ["--billing-model", "capacity", "--agreement-number", "A-1"];
    run(world.at_stamp(&["offline", "token", "--out", &token]).args(model)).ends(0);
    run(&mut world.at_azure(&["offline", "register", &token, "--out", &key])).ends(0);
    run(&mut world.at_stamp(&["offline", "activate", &key])).ends(0);
    world
}

fn cloud_id(world: &World) -> String {
    world.lab.descriptor().stamps[0].cloud_id.to_string()
}

/// `marketplace download` on the machine with internet.
fn download(world: &World, items: &[&str], to: &str) -> Command {
    let mut command = world.at_azure(&["marketplace", "download"]);
    command.args(items).args(["--to", to, "--cloud-id", &cloud_id(world), "--accept-legal-terms"]);
    command
}

fn file(folder: &str, item: &str, ending: &str) -> PathBuf {
    let inside = std::fs::read_dir(Path::new(folder).join(item)).unwrap().flatten().map(|entry| entry.path());
    inside.into_iter().find(|path| path.to_string_lossy().ends_with(ending)).unwrap()
}

#[test]
fn a_connected_stamp_brings_items_of_every_kind() {
    let world = registered();
    let listed = world.run(&["marketplace", "list", "-o", "json"]).ends(0).json();
    assert!(listed["value"].as_array().unwrap().len() >= 38, "{listed}");
    let fitting =
        world.run(&["marketplace", "list", "--compatible", "--filter", "server", "-o", "json"]).ends(0).json();
    for item in fitting["value"].as_array().unwrap() {
        assert_eq!(item["compatibility"]["is_compatible"], true, "{item}");
    }
    world.run(&["marketplace", "list", "--filter", "no such thing"]).ends(0).says("None of the");
    world.run(&["marketplace", "show", TINY]).ends(0).says("legal terms").says("12.0 MiB").says("not the real product");
    world.run(&["marketplace", "downloaded"]).ends(0).says("The stamp has no marketplace items");
    world.run(&["marketplace", "add", TINY, VMACCESS, "--plan"]).ends(4).says("would be downloaded");
    assert_eq!(items(&world), []);
    world.run(&["marketplace", "add", TINY, VMACCESS, TEMPLATE, PROVIDER]).ends(0).says("The items are on the stamp.");
    assert_eq!(items(&world), [TEMPLATE, PROVIDER, TINY, VMACCESS].map(there));
    // A second time there is nothing to do, whatever the case.
    world.run(&["marketplace", "add", &TINY.to_uppercase()]).ends(0).says("Nothing to do");
    // Azure has been told how it went.
    let logs = world.control_with("GET", "/product-logs", &Value::Null);
    assert!(
        logs.as_array().unwrap().iter().any(|log| log["productId"] == TINY && log["status"] == "Succeeded"),
        "{logs}"
    );
    world.run(&["marketplace", "remove", TINY]).ends(2).says("AZR1014").says(TINY);
    world.run(&["marketplace", "remove", TINY, "--yes", "--plan"]).ends(4);
    world.run(&["marketplace", "remove", TINY, "--yes"]).ends(0);
    world.run(&["marketplace", "remove", TINY, "--yes"]).ends(0).says("Nothing to do");
    assert_eq!(items(&world), [TEMPLATE, PROVIDER, VMACCESS].map(there));
    // Without an operator of the stamp nothing of it can be read.
    let mut command = world.command(0, &world.state());
    run(command.args(["marketplace", "downloaded"])).ends(2).says("AZR6021");
    // A deactivation removes what was downloaded, and says so.
    world.run(&["unregister", "--yes"]).ends(0).says("VM Access");
    assert_eq!(world.lab.world()["stamps"][0]["downloaded"], json!([]));
}

#[test]
fn beside_an_expired_registration_of_the_stamp_the_renewed_one_is_asked() {
    let world = World::new();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    world.days(366);
    // By name the new one comes first, so that the order in which Azure lists them doesn't help.
    world.run(&["renew", "--name", "A-new-one"]).ends(0);
    world.run(&["list"]).ends(0).says("orphan: the stamp has a newer registration");
    let folder = world.path("carried");
    run(&mut download(&world, &[TINY], &folder)).ends(0);
    let manifest = std::fs::read_to_string(file(&folder, TINY, "azsreg-manifest.json")).unwrap();
    assert!(manifest.contains("A-new-one"), "{manifest}");
}

#[test]
fn what_is_under_way_is_not_waited_for_or_waited_for_later_and_not_removed() {
    let world = registered();
    world.control("/stamps/stamp1", &json!({"download_rate": 40_000_000}));
    world.run(&["marketplace", "add", UBUNTU, "--no-wait"]).ends(0).says("azsreg marketplace downloaded");
    assert_eq!(items(&world), [(UBUNTU.to_owned(), "downloading".to_owned())]);
    world.run(&["marketplace", "remove", UBUNTU, "--yes"]).ends(1).says("AZR2023");
    world.control("/stamps/stamp1", &json!({"download_rate": 0}));
    // The same command waits for what goes on, and begins nothing.
    world.run(&["marketplace", "add", UBUNTU]).ends(0).says("already").says("The items are on the stamp.");
    assert_eq!(items(&world), [there(UBUNTU)]);
}

#[test]
fn a_lab_that_was_stopped_goes_on_with_what_its_stamps_were_downloading() {
    let world = registered();
    world.control("/stamps/stamp1", &json!({"download_rate": 1_000_000}));
    world.run(&["marketplace", "add", TINY, "--no-wait"]).ends(0);
    let snapshot = world.lab.snapshot();
    assert!(snapshot.contains("\"state\":\"Downloading\""));
    drop(world);
    let world = World::restored(&snapshot);
    world.run(&["marketplace", "add", TINY]).ends(0);
    assert_eq!(items(&world), [there(TINY)]);
}

#[test]
fn nothing_is_begun_where_one_item_is_wrong() {
    let world = registered();
    let ran = world.run(&["marketplace", "add", TINY, "azsreglab.legacy-agent-0.9.0", "tiny-linux"]).ends(7);
    let ran =
        ran.says("AZR6020").says("not for Azure Stack build").says("AZR6019").says("is it azsreglab.tiny-linux-1.0.3?");
    assert!(ran.stderr.contains("2 checks failed"), "{}", ran.stderr);
    assert_eq!(items(&world), []);
    world.run(&["marketplace", "show", "nothing"]).ends(3).says("AZR6019");
    let ran = world
        .run(&["marketplace", "show", "azsreglab.tiny-linux-1.0.4"])
        .ends(3)
        .says("is it azsreglab.tiny-linux-1.0.3?");
    assert!(!ran.stderr.contains("bastion"), "{}", ran.stderr);
    // What an item can't do without comes along.
    world.run(&["marketplace", "add", "fabrikam.firewall-cluster-4.5.0"]).ends(0);
    world.run(&["marketplace", "add", "fabrikam.load-balancer-4.5.0"]).ends(0);
    assert_eq!(items(&world).len(), 2);
    world
        .run(&["marketplace", "remove", "nothing", "fabrikam.load-balancer-4.5.0", "--yes"])
        .ends(0)
        .says("nothing: not on the stamp");
    world.run(&["marketplace", "remove", "fabrikam.firewall-cluster-4.5.0", "--yes"]).ends(0);
    // The stamp itself refuses too.
    world.run(&["marketplace", "add", "no.such-item"]).ends(3).says("AZR6019");
}

/// Breaks something behind the stamp's back: what the operator is told, by `list` and by `add`.
fn broken(what: &str, world: &World, code: &str, says: &str) {
    for command in [&["marketplace", "list"][..], &["marketplace", "add", TINY]] {
        let ran = world.run(command);
        assert_ne!(ran.code, Some(0), "{what}: {}", ran.stdout);
        let _: Ran = ran.says(code).says(says).says("next:");
    }
    assert!(world.lab.world()["stamps"][0]["downloaded"].as_array().unwrap().is_empty(), "{what}");
}

#[test]
fn each_breakage_has_its_message_and_code() {
    let world = World::new();
    broken("not registered", &world, "AZR6001", "not activated");

    let world = registered();
    let principal = world.lab.world()["service_principals"][0]["object_id"].as_str().unwrap().to_owned();
    world.control_with("DELETE", &format!("/service-principals/{principal}"), &Value::Null);
    broken("principal deleted", &world, "AZR6010", "AADSTS700016");

    let world = registered();
    world.control_with("DELETE", "/role-assignments", &Value::Null);
    broken("role removed", &world, "AZR6009", "AuthorizationFailed");
    world.run(&["repair"]).ends(0);
    world.run(&["marketplace", "add", TINY]).ends(0);

    let world = registered();
    let subscription = world.lab.descriptor().subscription_id;
    world.control(&format!("/subscriptions/{subscription}"), &json!({"new_tenant": true}));
    broken("tenant changed", &world, "AZR6011", "unable to access the registration resource");

    let world = registered();
    let name = format!("AzureStack-{}", cloud_id(&world));
    world.control_with("DELETE", &format!("/registrations/{name}"), &Value::Null);
    // Its role went with it: the stamp does not learn more than that it may not read there.
    broken("registration deleted", &world, "AZR6009", "or the registration itself, is gone");

    let world = registered();
    world.run(&["marketplace", "add", TINY]).ends(0);
    world.control("/stamps/stamp1", &json!({"deactivated": true}));
    world.run(&["marketplace", "list"]).ends(3).says("AZR6001").says("azsreg register");

    let world = registered();
    world.run(&["set", "--marketplace", "off"]).ends(0);
    broken("syndication off", &world, "AZR6018", "--marketplace on");

    let world = World::new();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    world.days(400);
    broken("expired", &world, "AZR6005", "azsreg renew");

    let world = away();
    for command in [&["marketplace", "list"][..], &["marketplace", "add", TINY]] {
        run(&mut world.at_stamp(command)).ends(7).says("AZR6018").says("azsreg marketplace download");
    }

    // A firewall between a stamp and Azure; its own sign-in is its AD FS's.
    let world = World::of(vec![StampOptions { identity: "adfs".into(), ..StampOptions::default() }]);
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.lab.fault(json!({"when": {"plane": "login"}, "then": {"drop": true}})).unwrap();
    broken("no way to Azure", &world, "AZR2021", "azsreg marketplace download");
}

#[test]
fn a_download_that_fails_at_the_stamp_says_why_and_can_be_begun_again() {
    let world = registered();
    world
        .lab
        .fault(json!({"when": {"plane": "blobs", "route": ".vhd"}, "then": {"truncate": 100_000}, "limit": 1}))
        .unwrap();
    world.run(&["marketplace", "add", TINY]).ends(6).says("AZR2022").says("Unable to connect");
    assert_eq!(items(&world), [(TINY.to_owned(), "failed".to_owned())]);
    // A failed item has to be deleted before it is tried again: the same command does it.
    world.run(&["marketplace", "add", TINY]).ends(0);
    assert_eq!(items(&world), [there(TINY)]);
    // The role goes while the stamp downloads: what it has it keeps, what it asks for next it is refused.
    world.control_with("DELETE", "/role-assignments", &Value::Null);
    world.run(&["marketplace", "add", VMACCESS]).ends(1).says("AZR6009");
    assert_eq!(items(&world), [there(TINY)]);
}

#[test]
fn items_are_downloaded_carried_verified_and_imported() {
    let world = away();
    let folder = world.path("carried");
    let list = world
        .at_azure(&["marketplace", "list", "--compatible", "--stamp-build", "1.2501.0.21", "-o", "json"])
        .args(["--cloud-id", &cloud_id(&world)])
        .output()
        .unwrap();
    let list = Ran::of(list).ends(0).json();
    let names: Vec<&str> =
        list["value"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"azsreglab.offline-mirror-1.4.0") && !names.contains(&"fabrikam.firewall-vm-4.5.0"),
        "{names:?}"
    );
    // The registration is that of the stamp, and never the first one.
    let mut command = world.at_azure(&["marketplace", "download", TINY, "--to", &folder]);
    run(&mut command).ends(2).says("AZR1019").says(&cloud_id(&world));
    let mut command = world.at_azure(&["marketplace", "download", TINY, "--to", &folder]);
    run(command.args(["--cloud-id", "11111111-1111-4111-8111-111111111111"])).ends(3).says("AZR6001");
    let mut command = world.at_azure(&["marketplace", "download", TINY, "--to", &folder]);
    run(command.args(["--cloud-id", &cloud_id(&world)])).ends(2).says("AZR1018").says("/terms");
    assert!(!Path::new(&folder).exists());
    let wanted = [TINY, VMACCESS, PROVIDER, "fabrikam.firewall-cluster-4.5.0"];
    run(download(&world, &wanted, &folder).arg("--plan")).ends(4).says("would be downloaded");
    run(&mut download(&world, &wanted, &folder))
        .ends(0)
        .says("The items are downloaded.")
        .says("fabrikam.load-balancer-4.5.0");
    run(&mut download(&world, &wanted, &folder)).ends(0).says("Nothing to do");
    // No signature is carried.
    for path in ["json", "txt"].map(|ending| file(&folder, TINY, &format!(".{ending}"))) {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!text.contains("sig=") && text.is_ascii(), "{text}");
    }
    world.run(&["marketplace", "verify", &folder]).ends(0).says("Every file is as it was downloaded.");
    run(&mut world.at_stamp(&["marketplace", "import", &folder, "--plan"])).ends(4);
    run(&mut world.at_stamp(&["marketplace", "import", &folder])).ends(0).says("Import marketplace product finished");
    let listed = run(&mut world.at_stamp(&["marketplace", "downloaded", "-o", "json"])).ends(0).json();
    assert_eq!(listed["value"].as_array().unwrap().len(), 5, "{listed}");
    run(&mut world.at_stamp(&["marketplace", "import", &folder])).ends(0).says("the stamp has the items");
    let nowhere = world.path("no/such/folder");
    run(&mut world.at_stamp(&["marketplace", "import", &nowhere])).ends(2).says("there is no such folder");
    assert!(!Path::new(&nowhere).exists());
    // The storage account is gone again.
    let export = world.lab.export();
    assert_eq!(export["stamps"][0]["accounts"], json!({"groups": {}, "accounts": {}}));
}

#[test]
fn what_is_damaged_is_named_and_refused() {
    let world = away();
    let folder = world.path("carried");
    run(&mut download(&world, &[TINY, "azsreglab.tiny-linux-1.1.0", VMACCESS], &folder)).ends(0);
    let refused = |what: &str, says: &[&str]| {
        for command in [&["marketplace", "verify", &folder][..], &["marketplace", "import", &folder]] {
            let ran = run(&mut world.at_stamp(command));
            assert_eq!(ran.code, Some(7), "{what}: {}{}", ran.stdout, ran.stderr);
            for text in says {
                assert!(ran.stderr.contains(text), "{what}: {text:?} is not said: {}", ran.stderr);
            }
        }
        let now = world.lab.export();
        assert_eq!(now["stamps"][0]["accounts"]["accounts"], json!({}), "{what}: nothing was uploaded");
    };
    let vhd = file(&folder, TINY, ".vhd");
    let whole = std::fs::read(&vhd).unwrap();

    let mut bytes = whole.clone();
    bytes[7_654_321] ^= 1;
    std::fs::write(&vhd, &bytes).unwrap();
    refused("corrupted", &["AZR5012", ".vhd was changed", TINY]);

    std::fs::write(&vhd, &whole[..whole.len() - 1]).unwrap();
    refused("truncated", &["AZR5012", ".vhd is cut: 12583423 of 12583424 bytes"]);

    std::fs::write(&vhd, [&whole[..], b"x"].concat()).unwrap();
    refused("longer", &["AZR5012", "too long"]);

    let other = file(&folder, "azsreglab.tiny-linux-1.1.0", ".vhd");
    let others = std::fs::read(&other).unwrap();
    std::fs::write(&vhd, &others).unwrap();
    std::fs::write(&other, &whole).unwrap();
    refused("swapped", &["they were swapped", "azsreglab.tiny-linux-1.1.0.vhd of azsreglab.tiny-linux-1.1.0"]);
    std::fs::write(&vhd, &whole).unwrap();
    std::fs::write(&other, &others).unwrap();

    let foreign = Path::new(&folder).join(TINY).join("Icons/evil.png");
    std::fs::write(&foreign, "x").unwrap();
    refused("foreign", &["Icons/evil.png is foreign", "Delete what is foreign"]);
    std::fs::remove_file(&foreign).unwrap();

    std::fs::rename(&vhd, world.path("aside")).unwrap();
    refused("missing", &[".vhd is missing"]);
    std::fs::rename(world.path("aside"), &vhd).unwrap();

    // Copied in part, or not at all: the list of the folder misses it.
    let whole_item = Path::new(&folder).join(VMACCESS);
    let aside = PathBuf::from(world.path("aside"));
    std::fs::rename(&whole_item, &aside).unwrap();
    refused("not copied", &["AZR5013", VMACCESS, "is not here", "azsreg-items.json"]);
    std::fs::create_dir(&whole_item).unwrap();
    refused("nothing in it", &["AZR5013", "not copied whole"]);
    std::fs::create_dir(whole_item.join("Icons")).unwrap();
    refused("icons alone", &["AZR5013", "not copied whole"]);
    std::fs::remove_dir_all(&whole_item).unwrap();
    std::fs::rename(&aside, &whole_item).unwrap();

    let manifest = Path::new(&folder).join(TINY).join("azsreg-manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"bytes\": 12583424", "\"bytes\": 12583423")).unwrap();
    refused("edited", &["azsreg-manifest.json", "checksum"]);
    std::fs::remove_file(&manifest).unwrap();
    refused("unfinished", &["AZR5013", "azsreg did not make it"]);
    std::fs::write(&manifest, &text).unwrap();

    world.run(&["marketplace", "verify", &folder]).ends(0);
    // Of another stamp: whole, and refused all the same.
    let second = World::with(azsreg_lab::LabOptions {
        seed: 2,
        stamps: vec![StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }],
        ..azsreg_lab::LabOptions::default()
    });
    run(&mut second.at_stamp(&["marketplace", "import", &folder])).ends(7).says("AZR5009").says(&cloud_id(&world));
}

#[test]
fn a_download_goes_on_through_breaks_expiry_and_damage() {
    let world = away();
    let folder = world.path("carried");
    // The connection breaks, twice; then the service has a bad moment.
    world
        .lab
        .fault(json!({"when": {"plane": "blobs", "route": ".vhd"}, "then": {"truncate": 3_000_000}, "limit": 2}))
        .unwrap();
    world
        .lab
        .fault(json!({"when": {"plane": "blobs", "route": ".vhd", "nth": 3}, "then": {"status": 503}, "limit": 1}))
        .unwrap();
    run(&mut download(&world, &[TINY], &folder)).ends(0);
    let served = world.control_with("GET", "/blobs", &Value::Null);
    let from: Vec<u64> = served
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["path"].as_str().unwrap().ends_with(".vhd"))
        .map(|s| s["from"].as_u64().unwrap())
        .collect();
    assert_eq!(from.len(), 3, "{served}");
    // What came before a break was kept, but for what was still on its way: each goes on from there.
    assert!(from[1] > 3_000_000 - (1 << 20) && from[2] > from[1] + 3_000_000 - (1 << 20), "{from:?}");

    // The address expires half-way: another is asked for, and it goes on from where it was.
    let folder = world.path("expiring");
    world.control_with("DELETE", "/blobs", &Value::Null);
    world.control_with("DELETE", "/faults", &Value::Null);
    world.control("/blobs", &json!({"signed_for_seconds": 2}));
    let disk = json!({"plane": "blobs", "route": ".vhd"});
    world.lab.fault(json!({"when": disk, "then": {"truncate": 5_000_000}, "limit": 1})).unwrap();
    world.lab.fault(json!({"when": {"plane": "blobs", "route": ".vhd", "nth": 2}, "then": {"delay": 2_500}})).unwrap();
    run(&mut download(&world, &[TINY], &folder)).ends(0);
    world.run(&["marketplace", "verify", &folder]).ends(0);
    let served = world.control_with("GET", "/blobs", &Value::Null);
    let disks = served.as_array().unwrap().iter().filter(|s| s["path"].as_str().unwrap().ends_with(".vhd"));
    let from: Vec<u64> = disks.map(|s| s["from"].as_u64().unwrap()).collect();
    assert!(from.len() == 2 && from[1] > 5_000_000 - (1 << 20), "refused once, then gone on with: {from:?}");
    world.control_with("DELETE", "/faults", &Value::Null);

    // Really expired, from the first moment on: asked for again and again, then given up with a reason.
    world.control("/blobs", &json!({"signed_for_seconds": -5}));
    let folder = world.path("expired");
    run(&mut download(&world, &[TINY], &folder)).ends(6).says("AZR4029").says("goes on");
    world.control("/blobs", &json!({"signed_for_seconds": 3600}));
    run(&mut download(&world, &[TINY], &folder)).ends(0);

    // A byte is changed on the way: fetched anew, and if that is no better, refused.
    let folder = world.path("damaged");
    world
        .lab
        .fault(json!({"when": {"plane": "blobs", "route": ".vhd"}, "then": {"corrupt": 4_000_000}, "limit": 1}))
        .unwrap();
    run(&mut download(&world, &[TINY], &folder)).ends(0);
    world.run(&["marketplace", "verify", &folder]).ends(0);
    let folder = world.path("damaged twice");
    world.lab.fault(json!({"when": {"plane": "blobs", "route": ".zip"}, "then": {"corrupt": 1_000}})).unwrap();
    run(&mut download(&world, &[VMACCESS], &folder)).ends(6).says("AZR4031").says("MD5");
    run(&mut world.at_stamp(&["marketplace", "verify", &folder])).ends(7).says("AZR5013").says("not finished");
    world.control_with("DELETE", "/faults", &Value::Null);
    run(&mut download(&world, &[VMACCESS], &folder)).ends(0);
    world.run(&["marketplace", "verify", &folder]).ends(0);
}

#[test]
fn two_downloads_into_one_folder_take_turns() {
    let world = away();
    let folder = world.path("carried");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(Path::new(&folder).join(".azsreg-lock")).unwrap();
    lock.try_lock().unwrap();
    run(&mut download(&world, &[VMACCESS], &folder)).ends(5).says("AZR5014");
    drop(lock);
    run(&mut download(&world, &[VMACCESS], &folder)).ends(0);
}

#[test]
fn what_is_somebody_elses_is_left_alone() {
    // A name that leads elsewhere as a path is no item: nothing is asked for it, and nothing removed.
    let world = registered();
    world.run(&["marketplace", "add", TINY]).ends(0);
    for name in ["..", ".", "../default", "a/b"] {
        world.run(&["marketplace", "remove", name, "--yes"]).ends(0).says("Nothing to do");
        world.run(&["marketplace", "add", name]).ends(3).says("AZR6019");
        world.run(&["marketplace", "show", name]).ends(3).says("AZR6019");
    }
    assert_eq!(items(&world), [there(TINY)]);
    world.run(&["status"]).ends(0).says("Registered");

    // A group that azsreg did not make stays, and what is in it.
    let world = away();
    let folder = world.path("carried");
    run(&mut download(&world, &[VMACCESS], &folder)).ends(0);
    world.control("/stamps/stamp1", &json!({"group": "System.syndication"}));
    run(&mut world.at_stamp(&["marketplace", "import", &folder])).ends(0).says("System.syndication stays at the stamp");
    let accounts = world.lab.export()["stamps"][0]["accounts"].clone();
    assert!(accounts["groups"].get("system.syndication").is_some(), "{accounts}");
    let blobs = world.control_with("GET", "/stamps/stamp1/blobs", &Value::Null);
    assert_eq!(blobs, json!([]), "our own files are gone");
}

#[test]
fn what_rotted_or_was_replaced_is_fetched_anew_and_nothing_else() {
    let world = away();
    let folder = world.path("carried");
    run(&mut download(&world, &[TINY, VMACCESS], &folder)).ends(0);
    let vhd = file(&folder, TINY, ".vhd");
    let mut bytes = std::fs::read(&vhd).unwrap();
    bytes[9_000_000] ^= 4;
    std::fs::write(&vhd, &bytes).unwrap();
    world.control_with("DELETE", "/blobs", &Value::Null);
    run(&mut download(&world, &[TINY, VMACCESS], &folder)).ends(0).says("The items are downloaded.");
    world.run(&["marketplace", "verify", &folder]).ends(0);
    let served = world.control_with("GET", "/blobs", &Value::Null);
    let paths: Vec<&str> = served.as_array().unwrap().iter().map(|s| s["path"].as_str().unwrap()).collect();
    assert!(paths.len() == 1 && paths[0].ends_with(".vhd"), "{paths:?}");
    // A folder of another stamp is left as it is.
    let manifest = Path::new(&folder).join(TINY).join("azsreg-manifest.json");
    let before = std::fs::read(&manifest).unwrap();
    let other = World::with(azsreg_lab::LabOptions { seed: 2, ..azsreg_lab::LabOptions::default() });
    other.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    run(&mut download(&other, &[TINY], &folder)).ends(7).says("AZR5009").says("--to");
    assert_eq!(std::fs::read(&manifest).unwrap(), before);
    // What an item can't do without is missed before anything changes.
    let needy = world.path("needy");
    run(&mut download(&world, &["fabrikam.firewall-cluster-4.5.0"], &needy)).ends(0);
    std::fs::remove_dir_all(Path::new(&needy).join("fabrikam.load-balancer-4.5.0")).unwrap();
    std::fs::create_dir_all(Path::new(&needy).join("System Volume Information")).unwrap();
    run(&mut world.at_stamp(&["marketplace", "import", &needy])).ends(7).says("AZR5013").says("is not here");
    std::fs::remove_file(Path::new(&needy).join("azsreg-items.json")).unwrap();
    run(&mut world.at_stamp(&["marketplace", "import", &needy]))
        .ends(7)
        .says("can't do without fabrikam.load-balancer");
    run(&mut download(&world, &["fabrikam.firewall-cluster-4.5.0"], &needy)).ends(0);
    run(&mut world.at_stamp(&["marketplace", "import", &needy])).ends(0);
}

/// A file system that is just too small, where this machine lets us have one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_what_was_fetched_usable() {
    let world = away();
    let small = world.path("small");
    std::fs::create_dir_all(&small).unwrap();
    let inside = |size: &str, script: &str| {
        let command = download(&world, &[TINY], "DIR");
        let mut sh = Command::new("unshare");
        sh.args(["-Urm", "sh", "-c"]);
        sh.arg(format!("mount -t tmpfs -o size={size} none '{small}' && {script}"));
        sh.arg(command.get_program());
        let arguments: Vec<_> =
            command.get_args().map(|a| if a == "DIR" { small.as_str().into() } else { a.to_owned() }).collect();
        sh.args(arguments).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        sh.envs(command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
        Ran::of(sh.output().unwrap())
    };
    if Ran::of(Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "none", &small]).output().unwrap()).code
        != Some(0)
    {
        println!("no name space of its own on this machine: left out");
        return;
    }
    // Too small by the look of it: nothing is begun.
    let ran = inside("4m", "exec \"$0\" \"$@\"");
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("AZR5011") && ran.stderr.contains("are needed"), "{}", ran.stderr);
    // Just large enough for the payload, and not for the rest: it fills up half-way; with more room it goes on.
    let again = "\"$0\" \"$@\"; first=$?; ls -l \"$9\" >&2; mount -o remount,size=64m none '$SMALL' && \"$0\" \"$@\" && \"$0\" marketplace verify '$SMALL'; echo first=$first";
    let ran = inside("12300k", &again.replace("$SMALL", &small).replace("ls -l \"$9\" >&2; ", ""));
    assert!(ran.stdout.contains("first=6"), "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stderr.contains("AZR5011") && ran.stdout.contains("Every file is as it was downloaded."),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    let served = world.control_with("GET", "/blobs", &Value::Null);
    let disks: Vec<&Value> =
        served.as_array().unwrap().iter().filter(|s| s["path"].as_str().unwrap().ends_with(".vhd")).collect();
    assert!(disks[1..].iter().all(|s| s["from"].as_u64().unwrap() > 8_000_000), "what was fetched was used: {served}");
}

#[test]
fn no_signature_reaches_a_log_a_journal_or_the_folder() {
    let world = away();
    let folder = world.path("carried");
    let log = world.path("log");
    run(download(&world, &[TINY, VMACCESS], &folder).args(["--log-file", &log, "-v"])).ends(0);
    let ran = run(world.at_stamp(&["marketplace", "import", &folder]).args(["--log-file", &log, "-v"])).ends(0);
    let mut all = vec![std::fs::read_to_string(&log).unwrap(), ran.stdout, ran.stderr];
    let mut open = vec![world.dir.path().to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
                all.push(text);
            }
        }
    }
    for text in all {
        assert!(!text.contains("sig="), "{text}");
        assert!(!text.contains("SharedKey"), "{text}");
    }
}
