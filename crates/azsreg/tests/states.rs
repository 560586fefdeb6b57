//! `status` in each of its states, for people and for programs; what programs get is what the schema says.
#![allow(clippy::unwrap_used)]

mod common;

use azsreg_lab::StampOptions;
use common::{Ran, World, run};
use serde_json::{Value, json};

fn schema() -> jsonschema::Validator {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/status.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

/// What is drawn at random or told by the clock, by its form.
fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.add_filter(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[guid]");
    settings.add_filter(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "[time]");
    settings.add_filter(r"(expires +|expire[sd] on )\d{4}-\d\d-\d\d", "$1[day]");
    settings.add_filter(r"[0-9a-f]{8}-0000-0000-0000-[0-9a-f]{12}", "[etag]");
    settings.add_filter(r"(azsreg_looked_at_seconds\S+) \d+", "$1 [time]");
    settings.add_filter(r"127\.0\.0\.1:\d+", "[address]");
    settings
}

/// One state: its word, its exit code with and without `--check`, both forms.
fn state(name: &str, world: &World, prepare: impl Fn(&mut std::process::Command)) -> Value {
    let status = |arguments: &[&str]| -> Ran {
        let mut command = world.both(0, &world.state(), &["status"]);
        prepare(&mut command);
        run(command.args(arguments))
    };
    let human = status(&[]);
    let program = status(&["-o", "json"]);
    let check = status(&["--check"]);
    let value = program.json();
    let errors: Vec<String> = schema().iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{value:#}");
    settings().bind(|| {
        insta::assert_snapshot!(
            format!("status_{name}"),
            format!(
                "exit: {}, with --check: {}\n--- stdout\n{}--- stderr\n{}--- json\n{value:#}\n",
                human.code.unwrap(),
                check.code.unwrap(),
                human.stdout,
                human.stderr
            )
        );
    });
    value
}

fn as_is(_: &mut std::process::Command) {}

fn registered() -> World {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world
}

fn capacity() -> World {
    let world = World::new();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    world
}

#[test]
fn not_registered() {
    assert_eq!(state("not_registered", &World::new(), as_is)["status"], "not-registered");
}

#[test]
fn registered_on_both_sides() {
    assert_eq!(state("registered", &registered(), as_is)["status"], "registered");
}

#[test]
fn registered_and_the_record_not_read() {
    let unread = |command: &mut std::process::Command| {
        command.env_remove("AZSREG_STAMP_CLIENT_ID").env_remove("AZSREG_STAMP_CLIENT_SECRET");
    };
    assert_eq!(state("record_not_read", &registered(), unread)["status"], "registered-in-azure");
}

#[test]
fn expiring_and_expired() {
    let world = capacity();
    for (days, within) in [(280, 90), (60, 30), (20, 7)] {
        world.days(days);
        let value = state(&format!("expiring_within_{within}"), &world, as_is);
        assert_eq!(value["status"], "expiring");
        assert_eq!(value["expires_within"], within);
    }
    world.days(40);
    assert_eq!(state("expired", &world, as_is)["status"], "expired");
}

#[test]
fn half_registered_either_way() {
    let world = registered();
    world.control("/stamps/stamp1", &json!({"deactivated": true}));
    assert_eq!(state("half_registered_stamp_not_activated", &world, as_is)["status"], "half-registered");
    let world = registered();
    let name = world.lab.world()["registrations"][0]["name"].as_str().unwrap().to_owned();
    world.control_with("DELETE", &format!("/registrations/{name}"), &Value::Null);
    assert_eq!(state("half_registered_registration_deleted", &world, as_is)["status"], "half-registered");
    // What it says to run mends it.
    world.run(&["register", "--billing-model", "pay-as-you-use", "--name", &name]).ends(0);
    world.run(&["status", "--check"]).ends(0);
}

#[test]
fn mismatch_either_way() {
    // Somebody moved the registration in the portal: the record names it by its old id.
    let world = registered();
    world.run(&["move", "--to-resource-group", "other"]).ends(0);
    let before = world.lab.snapshot();
    let world = World::restored(&before.replace(
        "resourceGroups/other/providers/Microsoft.AzureStack/registrations/AzureStack-",
        "resourceGroups/azurestack/providers/Microsoft.AzureStack/registrations/AzureStack-",
    ));
    assert_eq!(state("mismatch_activated_elsewhere", &world, as_is)["status"], "mismatch");
    world.run(&["repair"]).ends(0);
    assert_eq!(world.run(&["status", "-o", "json"]).json()["status"], "registered");
    // The registration that is named is another stamp's.
    let two = |n: usize| StampOptions { name: format!("stamp{n}"), ..StampOptions::default() };
    let world = World::of(vec![two(1), two(2)]);
    let other = world.dir.path().join("other");
    run(&mut world.both(1, &other, &["register", "--billing-model", "development", "--name", "two"])).ends(0);
    let named = |command: &mut std::process::Command| {
        command.env("AZSREG_NAME", "two");
    };
    assert_eq!(state("mismatch_other_stamp", &world, named)["status"], "mismatch");
}

#[test]
fn lock_role_and_principal_missing() {
    let world = registered();
    world.control_with("DELETE", "/locks", &Value::Null);
    world.control_with("DELETE", "/role-assignments", &Value::Null);
    state("lock_and_role_missing", &world, as_is);
    world.run(&["repair"]).ends(0);
    assert_eq!(world.run(&["status", "-o", "json"]).json()["findings"], json!([]));
    let principal = world.lab.world()["service_principals"][0]["object_id"].as_str().unwrap().to_owned();
    world.control_with("DELETE", &format!("/service-principals/{principal}"), &Value::Null);
    state("principal_missing", &world, as_is);
    world.run(&["renew"]).ends(0);
    assert_eq!(world.run(&["status", "-o", "json"]).json()["findings"], json!([]));
}

#[test]
fn tenant_changed_and_scale_changed() {
    let world = registered();
    let subscription = world.lab.descriptor().subscription_id;
    world.control(&format!("/subscriptions/{subscription}"), &json!({"new_tenant": true}));
    world.control("/stamps/stamp1", &json!({"nodes": 6}));
    state("tenant_and_scale_changed", &world, as_is);
}

#[test]
fn one_side_unreachable() {
    let no_azure = |command: &mut std::process::Command| {
        command.env("AZSREG_CLOUD_ENDPOINT", "https://127.0.0.1:1");
    };
    assert_eq!(state("azure_unreachable", &registered(), no_azure)["status"], "activated-on-stamp");
    let world = registered();
    let name = world.lab.world()["registrations"][0]["name"].as_str().unwrap().to_owned();
    let no_stamp = |command: &mut std::process::Command| {
        command.env("AZSREG_PEP", "127.0.0.1:1").env("AZSREG_NAME", &name);
    };
    assert_eq!(state("stamp_unreachable", &world, no_stamp)["status"], "registered-in-azure");
}

/// Whether a document has the form that all have.
fn assert_form(line: &[&str], ran: &Ran) {
    let document = ran.json();
    assert_eq!(document["format_version"], 1, "{line:?}: {document:#}");
    assert_eq!(document["exit"], json!(ran.code), "{line:?}: {document:#}");
    for problem in document["problems"].as_array().unwrap_or_else(|| panic!("{line:?}: {document:#}")) {
        let members: Vec<&String> = problem.as_object().unwrap().keys().collect();
        assert_eq!(members, ["cause", "code", "details", "message", "next", "title"], "{line:?}");
    }
    let well = [Some(0), Some(4)].contains(&ran.code);
    assert_eq!(document["problems"] == json!([]), well, "{line:?} ends with {:?}: {document:#}", ran.code);
    let odd = |text: &str| {
        text.is_empty() || text.starts_with("9999-") || ["pay-as-you-use", "capacity", "development"].contains(&text)
    };
    assert_eq!(texts(&document).into_iter().find(|text| odd(text)), None, "{line:?}: {document:#}");
}

/// Every text of a document.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn what_programs_get_has_one_form() {
    let world = World::new();
    let (token, key) = (world.path("token.json"), world.path("key.json"));
    let form = |line: &[&str], code: i32| {
        let ran = world.run(&[line, &["-o", "json"]].concat()).ends(code);
        assert_form(line, &ran);
        ran.json()
    };
    form(&["status"], 3);
    form(&["usage", "status"], 3);
    assert_eq!(form(&["list"], 0)["elsewhere"], json!([]));
    form(&["check"], 0);
    form(&["register", "--billing-model", "development", "--plan"], 4);
    form(&["register", "--billing-model", "pay-as-you-use", "--usage-reporting", "off"], 2);
    form(&["register", "--billing-model", "development"], 0);
    let again = form(&["register", "--billing-model", "development"], 0);
    assert_eq!((&again["outcome"], &again["plan"]), (&json!("nothing-to-do"), &json!([])));
    let status = form(&["status"], 0);
    assert_eq!(status["stamp"]["activation"]["expiration"], Value::Null, "it never ends");
    for line in [
        &["list"][..],
        &["alerts", "list", "--all"],
        &["marketplace", "list"],
        &["marketplace", "downloaded"],
        &["usage", "show"],
        &["usage", "compare"],
        &["explain"],
    ] {
        let listed = form(line, 0);
        assert!(listed["value"].is_array(), "{line:?}: {listed:#}");
    }
    assert_eq!(form(&["list"], 0)["value"][0]["billing_model"], "Development");
    form(&["stamp", "info"], 0);
    form(&["usage", "status"], 0);
    form(&["marketplace", "show", "nothing"], 3);
    assert_eq!(form(&["explain", "AZR4007"], 0)["exit_code"], 7);
    form(&["login"], 7);
    form(&["logout"], 0);
    form(&["whoami"], 3);
    form(&["unregister", "--plan"], 4);
    form(&["unregister", "--yes"], 0);
    form(&["offline", "token", "--billing-model", "capacity", "--agreement-number", "A-1", "--out", &token], 0);
    assert_eq!(form(&["offline", "inspect", &token], 0)["billing_model"], "Capacity");
    form(&["offline", "register", &token, "--out", &key], 0);
    form(&["offline", "inspect", &key], 0);
    let receipt: Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{key}.receipt.json")).unwrap()).unwrap();
    assert_eq!((&receipt["format_version"], &receipt["billing_model"]), (&json!(1), &json!("Capacity")));
}

#[test]
fn metrics_for_a_textfile_collector() {
    let world = capacity();
    world.days(350);
    let ran = world.run(&["status", "-o", "prometheus"]);
    assert_eq!(ran.code, Some(0));
    settings().bind(|| insta::assert_snapshot!("status_prometheus", &ran.stdout));
    for line in ran.stdout.lines().filter(|line| !line.starts_with('#')) {
        let (metric, value) = line.rsplit_once(' ').unwrap();
        assert!(metric.starts_with("azsreg_") && value.parse::<f64>().is_ok(), "{line}");
    }
}
