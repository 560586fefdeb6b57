//! Marketplace items, their commands killed at every point; and bytes that are never fetched twice nor mixed.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::common::{World, run};
use super::{Scenario, at_every_point, away, register, stamp};

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
