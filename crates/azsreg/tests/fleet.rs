//! The stamps of `stamps.json`: `--at NAME`, and the page of `status --web` as a program sees it.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use azsreg_lab::StampOptions;
use common::{World, run, runtime};
use serde_json::{Value, json};

/// The running command, and the page by the link that it printed.
struct Web {
    child: Child,
    client: reqwest::Client,
    home: String,
    cookie: String,
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Web {
    fn start(command: &mut Command) -> Self {
        let mut child = command.args(["status", "--web"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let link = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        let none = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().no_proxy().redirect(none).build().unwrap();
        let first = runtime().block_on(async { client.get(&link).send().await.unwrap() });
        let header = |name: &str| first.headers()[name].to_str().unwrap().to_owned();
        let home = format!("{}{}", link.split("/?").next().unwrap(), header("location"));
        let cookie = header("set-cookie").split(';').next().unwrap().to_owned();
        Self { child, client, home, cookie }
    }

    fn read(&self) -> String {
        runtime().block_on(async {
            let answer = self.client.get(&self.home).header("cookie", &self.cookie).send().await.unwrap();
            answer.text().await.unwrap()
        })
    }

    /// The page, once nobody is being asked any more.
    fn settled(&self) -> String {
        let begun = Instant::now();
        loop {
            let page = self.read();
            if !page.contains("data-live") {
                return page;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{page}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks a stamp, or all, and waits for what they say.
    fn ask(&self, id: &str) -> String {
        let page = self.read();
        let secret = page.split("name=\"secret\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let form = [("secret", secret.as_str()), ("id", id)];
        let status = runtime().block_on(async {
            let asked = self.client.post(format!("{}ask", self.home)).header("cookie", &self.cookie).form(&form);
            asked.send().await.unwrap().status()
        });
        assert_eq!(status, 303);
        self.settled()
    }
}

/// Writes `stamps.json`: the lab's stamps under these names, changed by the function.
fn stamps(world: &World, names: &[&str], change: impl Fn(&str, &mut Value)) {
    let told = world.lab.descriptor();
    let entries = names.iter().zip(&told.stamps).map(|(name, stamp)| {
        let mut entry = json!({
            "name": name, "pep": stamp.pep, "pep_user": stamp.pep_user,
            "pep_password": format!("@{}", stamp.pep_password_file.display()), "stamp_client_id": stamp.stamp_client_id,
            "stamp_client_secret": format!("@{}", stamp.stamp_client_secret_file.display()),
        });
        change(name, &mut entry);
        entry
    });
    std::fs::create_dir_all(world.state()).unwrap();
    let file = json!({"stamps": entries.collect::<Vec<_>>()}).to_string();
    // As an editor of Windows writes it.
    std::fs::write(world.state().join("stamps.json"), format!("\u{feff}{file}")).unwrap();
}

/// A command that knows no stamp but those of `stamps.json`.
fn nowhere(world: &World) -> Command {
    let mut command = world.command(0, &world.state());
    world.signed_in(&mut command);
    for name in ["AZSREG_PEP", "AZSREG_PEP_USER", "AZSREG_PEP_PASSWORD"] {
        command.env_remove(name);
    }
    command
}

#[test]
fn a_refused_password_is_not_tried_again_by_asking_all() {
    let world = World::new();
    let wrong = world.file("wrong.txt", "not the password");
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id;
    stamps(&world, &["Lisbon"], |_, entry| {
        entry["pep_password"] = json!(format!("@{}", wrong.display()));
        entry["cloud_id"] = json!(cloud_id);
    });
    // That Azure does not answer either is not what is remembered.
    world.control("/faults", &json!({"when": {"plane": "arm"}, "then": {"status": 403}}));
    let web = Web::start(&mut nowhere(&world));
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
    stamps(&world, &["Lisbon"], |_, _| ());
    let web = Web::start(&mut nowhere(&world));
    let page = web.settled();
    assert!(page.contains("Activated for this registration") && page.contains("in 364 days"), "{page}");
    world.control("/faults", &json!({"when": {"plane": "pep"}, "then": {"drop": true}}));
    world.control("/faults", &json!({"when": {"plane": "arm"}, "then": {"status": 403}}));
    let page = web.ask("");
    assert!(page.contains("Activated for this registration") && page.contains("in 364 days"), "{page}");
    assert!(page.contains("1 of 1 need") && page.contains("AZR"), "{page}");
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
    stamps(&world, &["Lisbon"], |_, entry| {
        entry["pep"] = json!(["127.0.0.1:9"]);
        entry["cloud_id"] = json!(cloud_id);
    });
    let web = Web::start(&mut nowhere(&world));
    let page = web.settled();
    assert_eq!(page.matches("<section").count(), 1, "{page}");
    for text in ["Lisbon", "Registered in Azure", "in 364 days", "Not read (AZR2001)", "Capacity, locked"] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[test]
fn a_wrong_cloud_id_in_the_file_is_said() {
    let world = World::of(vec![StampOptions::default(), StampOptions { name: "stamp2".into(), ..Default::default() }]);
    let told = world.lab.descriptor();
    stamps(&world, &["Lisbon", "Porto"], |name, entry| {
        if name == "Porto" {
            entry["cloud_id"] = json!("00000000-0000-4000-8000-000000000000");
        }
    });
    let page = Web::start(&mut nowhere(&world)).settled();
    let said = format!(
        "tamps.json says 00000000-0000-4000-8000-000000000000, the stamp says {} (AZR6013)",
        told.stamps[1].cloud_id
    );
    assert!(page.contains(&said) && page.matches("<section").count() == 2, "{page}");
}

#[test]
fn a_name_stands_for_a_stamp_and_its_sign_ins() {
    let world = World::of(vec![StampOptions::default(), StampOptions { name: "stamp2".into(), ..Default::default() }]);
    let told = world.lab.descriptor();
    stamps(&world, &["Lisbon", "Porto"], |name, entry| {
        if name == "Lisbon" {
            let entry = entry.as_object_mut().unwrap();
            entry.remove("stamp_client_id");
            entry.remove("stamp_client_secret");
        }
    });
    let at = |arguments: &[&str]| run(nowhere(&world).args(arguments));
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
    let mut named = nowhere(&world);
    named.env("AZSREG_NAME", "another").args(["unregister", "--at", "Porto", "--yes"]);
    run(&mut named).ends(2).says("AZSREG_NAME is set beside --at Porto");
    // Nothing that stands further on takes the stamp's options for its own.
    at(&["alerts", "close", "--at", "Porto", "--", "x"]).ends(3);
    at(&["status", "--at", "Porto", "--transcript-password"]).ends(2);
    // An entry that leads to another stamp than it says.
    stamps(&world, &["Porto"], |_, entry| entry["cloud_id"] = json!(told.stamps[1].cloud_id));
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
    let web = |arguments: &[&str]| run(nowhere(&world).args(["status", "--web"]).args(arguments));
    web(&["--pep-password", "-"]).ends(2).says("standard input can be read once only");
    web(&["--device-code"]).ends(2).says("--web asks nobody to sign in");
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
    let mut web = Web::start(nowhere(&world).env("AZSREG_NON_INTERACTIVE", "false").env("BROWSER", &script));
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
    Command::new("kill").args(["-INT", &web.child.id().to_string()]).status().unwrap();
    assert!(web.child.wait().unwrap().success());
    assert!(!file.exists());
}

#[test]
fn two_entries_that_lead_to_one_stamp_are_both_shown() {
    let world = World::of(vec![StampOptions::default(), StampOptions { name: "stamp2".into(), ..Default::default() }]);
    let told = world.lab.descriptor();
    // Another address of the same stamp, under another name.
    stamps(&world, &["Lisbon", "Porto"], |name, entry| {
        entry["pep"] = json!([told.stamps[0].pep[usize::from(name == "Porto")]]);
        entry["pep_user"] = json!(told.stamps[0].pep_user);
        entry["pep_password"] = json!(format!("@{}", told.stamps[0].pep_password_file.display()));
    });
    let page = Web::start(&mut nowhere(&world)).settled();
    assert_eq!(page.matches("<section").count(), 2, "{page}");
    assert!(page.contains("lead to the same stamp"), "{page}");
}
