//! The stamps of `stamps.json`: `--at NAME`, and the page of `status --web` as a program sees it.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use azsreg_lab::{LabOptions, StampOptions};
use common::web::{Page, Web};
use common::{World, run};
use serde_json::{Value, json};

/// The page of a command that knows no stamp but those of `stamps.json`.
fn page(world: &World) -> Page {
    Web::start(&mut world.nowhere()).open()
}

fn two() -> World {
    World::of(vec![StampOptions::default(), StampOptions { name: "stamp2".into(), ..Default::default() }])
}

#[test]
fn a_refused_password_is_not_tried_again_by_asking_all() {
    let world = World::new();
    let wrong = world.file("wrong.txt", "not the password");
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id;
    world.stamps(&["Lisbon"], |_, entry| {
        entry["pep_password"] = json!(format!("@{}", wrong.display()));
        entry["cloud_id"] = json!(cloud_id);
    });
    // That Azure does not answer either is not what is remembered.
    world.control("/faults", &json!({"when": {"plane": "arm"}, "then": {"status": 403}}));
    let web = page(&world);
    let page = web.settled();
    assert!(page.contains("AZR2002") && page.contains("Lisbon"), "{page}");
    let failed = || world.lab.world()["stamps"][0]["logons_failed"].as_u64().unwrap();
    let once = failed();
    assert!(once > 0);
    for _ in 0..3 {
        web.ask("");
    }
    assert_eq!(failed(), once, "nobody but its own button tries it again");
    web.ask(&cloud_id.to_string());
    assert_eq!(failed(), 2 * once);
}

#[test]
fn a_stamp_that_is_away_stays_as_it_was_seen() {
    let world = World::new();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    world.stamps(&["Lisbon"], |_, _| ());
    let web = page(&world);
    let page = web.settled();
    assert!(page.contains("Activated for this registration") && page.contains("in 364 days"), "{page}");
    world.control("/faults", &json!({"when": {"plane": "pep"}, "then": {"drop": true}}));
    world.control("/faults", &json!({"when": {"plane": "arm"}, "then": {"status": 403}}));
    let page = web.ask("");
    assert!(page.contains("Activated for this registration") && page.contains("in 364 days"), "{page}");
    assert!(page.contains("1 of 1 needs attention: 1 Registered.") && page.contains("AZR"), "{page}");
    world.control_with("DELETE", "/faults", &Value::Null);
    let page = web.ask("");
    assert!(page.contains("all is well"), "{page}");
}

#[test]
fn azure_is_shown_of_a_stamp_that_can_not_be_reached() {
    let world = World::new();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id;
    // Nobody listens there; who it is, its entry says.
    world.stamps(&["Lisbon"], |_, entry| {
        entry["pep"] = json!(["127.0.0.1:9"]);
        entry["cloud_id"] = json!(cloud_id);
    });
    let web = page(&world);
    let page = web.settled();
    assert_eq!(page.matches("<section").count(), 1, "{page}");
    for text in ["Lisbon", "Registered in Azure", "in 364 days", "Not read (AZR2001)", "Capacity, locked"] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[test]
fn a_wrong_cloud_id_in_the_file_is_said() {
    let world = two();
    let told = world.lab.descriptor();
    world.stamps(&["Lisbon", "Porto"], |name, entry| {
        if name == "Porto" {
            entry["cloud_id"] = json!("00000000-0000-4000-8000-000000000000");
        }
    });
    let page = page(&world).settled();
    let said = format!(
        "tamps.json says 00000000-0000-4000-8000-000000000000, the stamp says {} (AZR6013)",
        told.stamps[1].cloud_id
    );
    assert!(page.contains(&said) && page.matches("<section").count() == 2, "{page}");
}

#[test]
fn a_name_stands_for_a_stamp_and_its_sign_ins() {
    let world = two();
    let told = world.lab.descriptor();
    world.stamps(&["Lisbon", "Porto"], |name, entry| {
        if name == "Lisbon" {
            let entry = entry.as_object_mut().unwrap();
            entry.remove("stamp_client_id");
            entry.remove("stamp_client_secret");
        }
    });
    let at = |arguments: &[&str]| run(world.nowhere().args(arguments));
    at(&["register", "--at", "Porto", "--billing-model", "development"]).ends(0).says("the record names this");
    let seen = at(&["status", "--at=Porto", "-o", "json"]).ends(0).json();
    assert_eq!(seen["stamp"]["information"]["cloud_id"], json!(told.stamps[1].cloud_id));
    at(&["stamp", "info", "--at", "Porto"]).ends(0).says(&told.stamps[1].cloud_id.to_string());
    // What was set for another stamp is not sent to this one.
    let mut command = world.both(1, &world.state(), &["status", "--at", "Lisbon", "-o", "json"]);
    let seen = run(&mut command).ends(3).json();
    assert_eq!(seen["stamp"]["information"]["cloud_id"], json!(told.stamps[0].cloud_id));
    assert_eq!(seen["stamp"]["unread"], "no operator sign-in");
    // Refused from the words alone.
    at(&["status", "--at", "Faro"]).ends(2).says("does not name Faro").says("It names Lisbon, Porto.");
    at(&["status", "--at", "Porto", "--pep", "10.0.0.1"]).ends(2).says("--at Porto and --pep are given both");
    at(&["status", "--web", "--at", "Porto"]).ends(2).says("--at Porto is one stamp");
    at(&["unregister", "--at", "Porto", "--orphan", "azure", "--yes"]).ends(2).says("--orphan are given both");
    let mut named = world.nowhere();
    named.env("AZSREG_NAME", "another").args(["unregister", "--at", "Porto", "--yes"]);
    run(&mut named).ends(2).says("AZSREG_NAME is set beside --at Porto");
    // Nothing that stands further on takes the stamp's options for its own.
    at(&["alerts", "close", "--at", "Porto", "--", "x"]).ends(3);
    at(&["status", "--at", "Porto", "--transcript-password"]).ends(2);
    // An entry that leads to another stamp than it says.
    world.stamps(&["Porto"], |_, entry| entry["cloud_id"] = json!(told.stamps[1].cloud_id));
    at(&["unregister", "--at", "Porto", "--yes"]).ends(7).says("AZR6013").says("Nothing was changed");
    at(&["list", "--at", "Porto"]).ends(2).says("--at is for commands at a stamp");
    std::fs::write(world.state().join("stamps.json"), "{\"stamps\": [{\"name\": \"Lisbon\"}]}").unwrap();
    at(&["status", "--at", "Lisbon"]).ends(2).says("the stamp \"Lisbon\": missing field `pep`");
    at(&["status", "--web"]).ends(2).says("portals.md");
    std::fs::write(world.state().join("stamps.json"), "[]").unwrap();
    at(&["status", "--at", "Lisbon"]).ends(2).says("expected an object with a list \"stamps\"");
    std::fs::remove_file(world.state().join("stamps.json")).unwrap();
    at(&["status", "--at", "Lisbon"]).ends(2).says("no stamp is named yet");
}

#[test]
fn secrets_are_not_read_twice_and_nobody_is_asked() {
    let world = World::new();
    let web = |arguments: &[&str]| run(world.nowhere().args(["status", "--web"]).args(arguments));
    web(&["--pep-password", "-"]).ends(2).says("standard input can be read once only");
    web(&["--device-code"]).ends(2).says("--web does not ask you to sign in");
    web(&["-o", "prometheus"]).ends(2);
    web(&["--check"]).ends(2);
}

#[cfg(unix)]
#[test]
fn the_link_is_in_no_argument_list_and_its_file_goes_with_the_command() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let noted = world.dir.path().join("noted");
    let text = format!("#!/bin/sh\necho \"$1\" > '{0}.new'; mv '{0}.new' '{0}'\n", noted.display());
    let script = world.file("browser", &text);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut web = Web::start(world.nowhere().env("AZSREG_NON_INTERACTIVE", "false").env("BROWSER", &script)).open();
    let begun = Instant::now();
    while !noted.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no browser was opened");
        std::thread::sleep(Duration::from_millis(20));
    }
    let opened = std::fs::read_to_string(&noted).unwrap();
    let file = std::path::Path::new(opened.trim());
    assert!(file.starts_with(world.state()), "{opened}");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(file).unwrap().contains("/?once="));
    web.settled();
    Command::new("kill").args(["-INT", &web.web.child.id().to_string()]).status().unwrap();
    assert!(web.web.child.wait().unwrap().success());
    assert!(!file.exists());
}

#[test]
fn two_entries_that_lead_to_one_stamp_are_both_shown() {
    let world = two();
    let told = world.lab.descriptor();
    // Another address of the same stamp, under another name.
    world.stamps(&["Lisbon", "Porto"], |name, entry| {
        entry["pep"] = json!([told.stamps[0].pep[usize::from(name == "Porto")]]);
        entry["pep_user"] = json!(told.stamps[0].pep_user);
        entry["pep_password"] = json!(format!("@{}", told.stamps[0].pep_password_file.display()));
    });
    let page = page(&world).settled();
    assert_eq!(page.matches("<section").count(), 2, "{page}");
    assert!(page.contains("lead to the same stamp"), "{page}");
}

/// The commands that a page shows.
fn commands(page: &str) -> Vec<String> {
    let codes = page.split("<code>").skip(1).map(|rest| rest.split("</code>").next().unwrap());
    let codes = codes.map(|code| code.replace("<span>", "").replace("</span>", "").trim().to_owned());
    let plain = |text: String| text.replace("&#39;", "'").replace("&#38;", "&").replace("&#34;", "\"");
    codes.filter(|code| code.starts_with("azsreg ")).map(plain).collect()
}

#[test]
fn every_command_of_the_page_runs_as_it_stands() {
    let stamp = |name: &str| StampOptions { name: name.into(), ..Default::default() };
    let world = World::of(vec![stamp("stamp1"), stamp("stamp2"), stamp("stamp3"), stamp("stamp4")]);
    let told = world.lab.descriptor();
    world.stamps(&["New York", "Porto", "Faro"], |_, _| ());
    let at = |name: &str, arguments: &[&str]| run(world.nowhere().args(arguments).args(["--at", name]));
    let capacity = ["register", "--billing-model", "capacity", "--agreement-number", "A-1"];
    at("New York", &capacity).ends(0);
    at("Porto", &["register", "--billing-model", "pay-as-you-use"]).ends(0);
    // Known by its journal alone; and the variable leads to another stamp.
    run(&mut world.both(3, &world.state(), &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    world.days(300);
    let name = format!("AzureStack-{}", told.stamps[1].cloud_id);
    world.control_with("DELETE", &format!("/registrations/{name}"), &Value::Null);
    let page = Web::start(world.nowhere().env("AZSREG_PEP", &told.stamps[0].pep[0])).open().settled();
    let commands = commands(&page);
    let verbs: Vec<&str> = commands.iter().map(|command| command.split(' ').nth(1).unwrap()).collect();
    for verb in ["renew", "register"] {
        assert!(verbs.contains(&verb), "{commands:#?}");
    }
    for command in &commands {
        assert!(command.contains(" --at "), "{command}");
        let line = command.replacen("azsreg", "\"$AZSREG\"", 1).replace("MODEL", "development");
        let mut shell = Command::new("sh");
        shell.envs(world.nowhere().get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.env("AZSREG", world.nowhere().get_program()).args(["-c", &format!("{line} --plan")]);
        let ran = run(&mut shell);
        assert!([Some(0), Some(4)].contains(&ran.code), "{line}: {:?}\n{}{}", ran.code, ran.stdout, ran.stderr);
    }
    // Whoever can only be named is not reached by chance.
    let of_fourth = page.split("<section").find(|tile| tile.contains(&told.stamps[3].cloud_id.to_string())).unwrap();
    assert!(of_fourth.contains("Name it in stamps.json") && self::commands(of_fourth).is_empty(), "{of_fourth}");
    // The command line says at which stamp, too, and in which directory; once.
    let state = world.state().display().to_string();
    let mut status = world.nowhere();
    status.env_remove("AZSREG_STATE_DIR").args(["status", "--at", "new york", "--state-dir", &state]);
    let said = run(&mut status).ends(0).stdout;
    let next = said.lines().find(|line| line.contains("next: azsreg renew")).unwrap();
    assert_eq!((next.matches("--at 'New York'").count(), next.matches("--state-dir").count()), (1, 1), "{next}");
}

#[test]
fn without_an_azure_sign_in_the_stamps_are_shown() {
    let world = two();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    world.stamps(&["Lisbon"], |_, _| ());
    let mut command = world.nowhere();
    command.env_remove("AZSREG_CLIENT_SECRET").env_remove("AZSREG_CLIENT_ID");
    let _ = std::fs::remove_dir_all(world.state().join("sign-in"));
    let page = Web::start(&mut command).open().settled();
    assert_eq!(page.matches("<section").count(), 1, "{page}");
    for text in ["Activated on the stamp", "in 364 days", "Build 1.2501.0.21", "(AZR3001)"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(commands(&page).iter().any(|command| command.starts_with("azsreg login")), "{page}");
}

#[test]
fn no_subscription_has_to_be_said_of_a_stamp_that_says_it() {
    let world = two();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    world.stamps(&["Lisbon", "Porto"], |_, _| ());
    std::fs::remove_dir_all(world.state().join("journals")).unwrap();
    let web = Web::start(world.nowhere().env_remove("AZSREG_SUBSCRIPTION")).open();
    let page = web.settled();
    let tile = |name: &str| page.split("<section").find(|tile| tile.contains(&format!("<h2>{name}"))).unwrap();
    assert!(tile("Lisbon").contains("Activated for this registration"), "{page}");
    assert!(tile("Porto").contains("The subscription that it is registered in is not known (AZR1031)"), "{page}");
    // What the record said is not forgotten when the record is gone.
    let out = world.path("deactivation.json");
    run(world.nowhere().args(["offline", "deactivate", "--at", "Lisbon", "--out", &out, "--yes"])).ends(0);
    let page = web.ask("");
    assert!(page.contains("Half registered") && page.contains("AZR6014"), "{page}");
}

#[test]
fn what_azure_says_of_a_stamp_that_is_away_is_not_kept_back() {
    let world = World::new();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id;
    world.stamps(&["Lisbon"], |_, entry| entry["cloud_id"] = json!(cloud_id));
    let web = page(&world);
    assert!(web.settled().contains("all is well"));
    world.control("/faults", &json!({"when": {"plane": "pep"}, "then": {"drop": true}}));
    world.control_with("DELETE", &format!("/registrations/AzureStack-{cloud_id}"), &Value::Null);
    let page = web.ask("");
    for text in ["Half registered", "when last seen", "No registration", "which is gone (AZR6012)"] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[test]
fn a_disconnected_stamp_is_renewed_by_files() {
    let world = World::with(LabOptions {
        stamps: vec![StampOptions { connected: false, ..StampOptions::default() }],
        ..LabOptions::default()
    });
    let (token, key) = (world.path("token.json"), world.path("key.json"));
    let capacity = ["--billing-model", "capacity", "--agreement-number", "A-1"];
    run(world.at_stamp(&["offline", "token"]).args(capacity).args(["--out", &token])).ends(0);
    run(&mut world.at_azure(&["offline", "register", &token, "--out", &key])).ends(0);
    run(&mut world.at_stamp(&["offline", "activate", &key])).ends(0);
    world.days(300);
    world.stamps(&["Faro"], |_, _| ());
    let page = page(&world).settled();
    let next = "azsreg offline renew start --billing-model capacity --agreement-number NUMBER --out FILE --at Faro";
    assert!(commands(&page).iter().any(|command| command == next), "{page}");
    // The connected renewal is refused before anything is changed.
    let before = world.lab.world();
    for verb in ["renew", "set"] {
        let mut command = world.nowhere();
        command.args([verb, "--at", "Faro", "--agreement-number", "A-1", "--yes"]);
        if verb == "set" {
            command.args(["--marketplace", "on"]);
        }
        let ran = run(&mut command).ends(7).says("AZR6026").says("offline renew start").says("Nothing was changed");
        // What was agreed to was another loss.
        assert!(!ran.stderr.contains("--yes"), "{}", ran.stderr);
    }
    assert_eq!(world.lab.world()["stamps"], before["stamps"]);
}

#[test]
fn a_stamp_that_nobody_has_read_is_not_called_unregistered() {
    let world = World::new();
    world.stamps(&["Lisbon"], |_, entry| {
        entry["pep"] = json!(["127.0.0.1:9"]);
        entry["cloud_id"] = json!("00000000-0000-4000-8000-000000000000");
    });
    let page = page(&world).settled();
    assert!(page.contains(">Unknown<") && page.contains("AZR2001") && !page.contains("azsreg register"), "{page}");
}

#[test]
fn journals_that_can_not_be_read_are_no_empty_fleet() {
    let world = World::new();
    std::fs::create_dir_all(world.state()).unwrap();
    std::fs::write(world.state().join("journals"), "a file").unwrap();
    let empty = page(&world).read();
    assert!(empty.contains("AZR5003") && !empty.contains("knows no stamp yet"), "{empty}");
    // Those of the file are shown all the same.
    world.stamps(&["Lisbon"], |_, _| ());
    let named = page(&world).settled();
    assert!(named.contains("AZR5003") && named.contains("Build 1.2501.0.21"), "{named}");
}

#[test]
fn a_stamp_that_is_forgotten_is_not_shown_and_its_journals_are_kept() {
    let world = two();
    let told = world.lab.descriptor();
    let (first, second) = (told.stamps[0].cloud_id.to_string(), told.stamps[1].cloud_id.to_string());
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    world.stamps(&["Lisbon", "Porto"], |_, _| ());
    let (journals, file) = (world.state().join("journals").join(&first), world.state().join("stamps.json"));
    let forget = |line: &[&str]| run(world.nowhere().arg("forget").args(line));
    forget(&["Faro", "--yes"]).ends(2).says("knows no stamp \"Faro\"");
    // Nothing goes before it was agreed to, and what goes is shown.
    forget(&[&first]).ends(2).says("AZR1014").says("agreement number A-1");
    forget(&[&first, "--plan"]).ends(4).says("the newest is of register");
    assert!(journals.exists());
    let done = forget(&[&first, "--yes", "-o", "json"]).ends(0).json();
    let archive = std::path::Path::new(done["archive"].as_str().unwrap());
    assert!(archive.read_dir().unwrap().next().is_some() && !journals.exists(), "{done:#}");
    assert!(archive.starts_with(world.state().join("forgotten")), "{done:#}");
    forget(&["lisbon", "--yes"]).ends(0).says("is forgotten here");
    let page = page(&world).settled();
    assert!(page.contains("Porto") && page.contains(&second), "{page}");
    assert!(!page.contains("Lisbon") && !page.contains(&first), "{page}");
    assert!(!std::fs::read_to_string(file).unwrap().contains("Lisbon"));
    // It is forgotten here alone.
    world.run(&["status"]).ends(0).says("Registered");
    forget(&[&first, "--yes"]).ends(2);
}
