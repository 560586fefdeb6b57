//! One odd answer is never believed to mean "absent". Every read that an operation makes of Azure, of the directory and of the
//! stamp's Resource Manager is answered once by something else: a proxy's page, another service's refusal, an empty or a broken
//! document, another resource. At the end the world is as a run without that answer leaves it, or the exit code says that it
//! is not, and the same command run again ends well.
//!
//! Every pair of a read and an answer with `AZSREG_EVERY_ANSWER` set, a spread of them otherwise.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use azsreg_lab::StampOptions;
use common::{Start, World, run};
use serde_json::{Value, json};

const TINY: &str = "azsreglab.tiny-linux-1.0.3";
const VMACCESS: &str = "microsoft.vmaccess-linux-1.5.11";
const TENANT: &str = "dbab3982-796f-4d03-9908-044c08aef8a2";
/// As many pairs of an operation are taken where not every one is.
const SPREAD: usize = 12;

/// What comes in place of an answer: its name, its status, and its body.
const ANSWERS: &[(&str, u16, &str)] = &[
    ("a proxy's 404", 404, "<!DOCTYPE html><html><body>Not found</body></html>"),
    ("an empty 404", 404, ""),
    ("SubscriptionNotFound", 404, r#"{"error":{"code":"SubscriptionNotFound","message":"m"}}"#),
    ("NotFound", 404, r#"{"error":{"code":"NotFound","message":"m"}}"#),
    ("InvalidResourceType", 404, r#"{"error":{"code":"InvalidResourceType","message":"m"}}"#),
    ("InvalidResourceNamespace", 404, r#"{"code":"InvalidResourceNamespace","message":"m"}"#),
    ("204", 204, ""),
    ("{}", 200, "{}"),
    ("[]", 200, "[]"),
    ("null", 200, "null"),
    ("half a document", 200, r#"{"value": [{"id": "/subscriptions/00000000"#),
    ("another resource", 200, OTHER),
    ("a list of something else", 200, OTHERS),
    ("a proxy's page", 200, "<!DOCTYPE html><html><body>Sign in to the network</body></html>"),
];
const OTHER: &str = r#"{"id":"/subscriptions/11111111-2222-4333-8444-555555555555/resourceGroups/o/providers/Microsoft.Storage/storageAccounts/o",
"name":"o","type":"Microsoft.Storage/storageAccounts","location":"elsewhere","properties":{"provisioningState":"Succeeded"}}"#;
const OTHERS: &str = r#"{"value":[{"id":"/subscriptions/11111111-2222-4333-8444-555555555555/resourceGroups/o/providers/Microsoft.Storage/storageAccounts/o",
"name":"o","type":"Microsoft.Storage/storageAccounts","location":"elsewhere","properties":{"provisioningState":"Succeeded"}}]}"#;

/// The reads that are answered so.
const READS: &[(&str, &str, &str)] = &[
    ("arm", "GET", "/"),
    ("stamp-arm", "GET", "/subscriptions"),
    ("graph", "GET", "/"),
    ("arm", "POST", "getactivationkey"),
];

/// An operation to be answered oddly.
struct Scenario<'s> {
    before: &'s (dyn Fn(&World) + Sync),
    stamp: StampOptions,
    command: &'s (dyn Fn(&World) -> Command + Sync),
    /// Whether what it prints is compared as well: it changes nothing.
    shows: bool,
}

/// A rule for the nth of these reads.
fn rule(read: usize, nth: u64, then: &Value) -> Value {
    let (plane, method, route) = READS[read];
    json!({"when": {"plane": plane, "method": method, "route": route, "nth": nth}, "then": then})
}

/// What operations change in a world, without times, tokens and what is drawn.
fn end(world: &World) -> Value {
    let now = world.lab.world();
    let each = |list: &Value, of: &dyn Fn(&Value) -> Value| {
        let mut all: Vec<String> =
            list.as_array().unwrap().iter().map(|one| of(one).to_string().to_lowercase()).collect();
        all.sort();
        all
    };
    let stamp = &now["stamps"][0];
    let record = &stamp["activation"]["properties"];
    let customers = &world.lab.export()["arm"]["customers"];
    json!({
        "registrations": each(&now["registrations"], &|one| {
            let hosts = one["token"]["hardwareInfo"].as_array().map(Vec::len);
            json!([one["id"], one["properties"]["billingModel"], one["token"]["agreementNumber"], hosts])
        }),
        "locks": each(&now["locks"], &|one| one["id"].clone()),
        "roles": each(&now["role_assignments"], &|one| one["properties"]["scope"].clone()),
        "activation": [
            record["azureRegistrationResourceIdentifier"], record["marketplaceSyndicationEnabled"],
            record["usageReportingEnabled"]
        ],
        "items": each(&stamp["downloaded"], &|one| one["name"].clone()),
        "customers": each(customers, &|one| json!([one["name"], one["tenant"]])),
        "running": stamp["running"],
    })
}

/// What a command shows, without times.
fn shown(stdout: &str) -> Value {
    fn untimed(value: &mut Value) {
        match value {
            Value::Object(members) => members.values_mut().for_each(untimed),
            Value::Array(items) => items.iter_mut().for_each(untimed),
            Value::String(text) if text.get(4..5) == Some("-") && text.contains('T') => *text = "a time".into(),
            _ => {}
        }
    }
    let mut shown = serde_json::from_str(stdout).unwrap_or_default();
    untimed(&mut shown);
    shown
}

fn sweep(scenario: &Scenario<'_>) {
    let start = Start::of(scenario.stamp.clone(), scenario.before);
    let world = start.world();
    for read in 0..READS.len() {
        world.lab.fault(rule(read, u64::MAX, &json!({}))).unwrap();
    }
    let ran = run(&mut (scenario.command)(&world)).ends(0);
    let faults = world.control_with("GET", "/faults", &Value::Null);
    let seen: Vec<u64> = faults.as_array().unwrap().iter().map(|rule| rule["seen"].as_u64().unwrap()).collect();
    let (wanted, said) = (end(&world), shown(&ran.stdout));
    let pairs: Vec<(usize, u64, usize)> = seen
        .iter()
        .enumerate()
        .flat_map(|(read, count)| (1..=*count).map(move |nth| (read, nth)))
        .flat_map(|(read, nth)| (0..ANSWERS.len()).map(move |answer| (read, nth, answer)))
        .collect();
    let every = std::env::var_os("AZSREG_EVERY_ANSWER").is_some();
    // A step that shares no factor with the number of answers comes to each of them.
    let step = match pairs.len() / SPREAD / ANSWERS.len() * ANSWERS.len() {
        _ if every => 1,
        0 => 5,
        many => many + 1,
    };
    let taken: Vec<_> = pairs.iter().step_by(step).copied().collect();
    assert!(!taken.is_empty(), "no read is made");
    let (next, struck) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..if every { 4 } else { 2 } {
            scope.spawn(|| {
                while let Some((read, nth, answer)) = taken.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let (name, status, text) = ANSWERS[*answer];
                    let (plane, method, _) = READS[*read];
                    let what = format!("{name}, to {method} {nth} of {plane}");
                    let world = start.world();
                    let then = json!({"status": status, "text": text});
                    world.lab.fault(rule(*read, *nth, &then)).unwrap();
                    let ran = run(&mut (scenario.command)(&world));
                    let faults = world.control_with("GET", "/faults", &Value::Null);
                    struck.fetch_add(usize::from(faults[0]["hits"] == 1), Ordering::SeqCst);
                    world.control_with("DELETE", "/faults", &Value::Null);
                    let mut words = format!("{}{}", ran.stdout, ran.stderr);
                    let mut last = (ran.code, shown(&ran.stdout));
                    if ran.code != Some(0) {
                        let again = run(&mut (scenario.command)(&world));
                        words = format!("{words}\nagain: {}{}", again.stdout, again.stderr);
                        last = (again.code, shown(&again.stdout));
                    }
                    let end = end(&world);
                    let same = last.0 == Some(0) && end == wanted && (!scenario.shows || last.1 == said);
                    if !same {
                        wrong.lock().unwrap().push(format!("{what}: {:?}\n{words}\n{end:#}\nnot\n{wanted:#}", last.0));
                    }
                }
            });
        }
    });
    let struck = struck.into_inner();
    println!("{struck} of {} pairs of {} reads", pairs.len(), pairs.len() / ANSWERS.len());
    // How often a waiting client looks is the clock's affair: the last reads may not come.
    assert!(struck * 10 >= taken.len() * 9, "only {struck} of {} answers were given", taken.len());
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} pairs:\n{}", wrong.len(), wrong.join("\n\n"));
}

fn stamp() -> StampOptions {
    StampOptions::default()
}

fn away() -> StampOptions {
    StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }
}

fn nothing(_: &World) {}

fn registered(world: &World) {
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
}

/// A command of the connected stamp, after it was registered.
fn after_registering(arguments: &(dyn Fn(&World) -> Vec<String> + Sync)) {
    let command = |world: &World| {
        let mut command = world.both(0, &world.state(), &[]);
        command.args(arguments(world));
        command
    };
    sweep(&Scenario { before: &registered, stamp: stamp(), command: &command, shows: false });
}

fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn register_believes_no_odd_answer() {
    sweep(&Scenario {
        before: &nothing,
        stamp: stamp(),
        command: &|world| world.register("pay-as-you-use"),
        shows: false,
    });
}

#[test]
fn set_believes_no_odd_answer() {
    after_registering(&|_| words(&["set", "--billing-model", "development", "--marketplace", "off"]));
}

#[test]
fn renew_believes_no_odd_answer() {
    sweep(&Scenario {
        before: &|world| {
            world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
            world.control("/stamps/stamp1", &json!({"nodes": 8}));
        },
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["renew", "--agreement-number", "A-2"]),
        shows: false,
    });
}

#[test]
fn change_subscription_believes_no_odd_answer() {
    after_registering(&|world| {
        let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
        words(&["change-subscription", "--to-subscription", &fresh, "--yes"])
    });
}

#[test]
fn move_believes_no_odd_answer() {
    after_registering(&|_| words(&["move", "--to-resource-group", "other"]));
}

#[test]
fn repair_believes_no_odd_answer() {
    sweep(&Scenario {
        before: &|world| {
            registered(world);
            world.control("/stamps/stamp1", &json!({"deactivated": true}));
            world.control_with("DELETE", "/locks", &Value::Null);
        },
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["repair"]),
        shows: false,
    });
}

#[test]
fn unregister_believes_no_odd_answer() {
    after_registering(&|_| words(&["unregister", "--yes"]));
}

#[test]
fn unregister_without_a_sign_in_to_the_stamp_believes_no_odd_answer() {
    sweep(&Scenario {
        before: &registered,
        stamp: stamp(),
        command: &|world| {
            let mut command = world.command(0, &world.state());
            world.signed_in(&mut command);
            command.args(["unregister", "--yes"]);
            command
        },
        shows: false,
    });
}

#[test]
fn unregister_of_an_orphan_believes_no_odd_answer() {
    sweep(&Scenario {
        before: &|world| {
            registered(world);
            let name = world.lab.world()["registrations"][0]["name"].as_str().unwrap().to_owned();
            world.control_with("DELETE", &format!("/registrations/{name}"), &Value::Null);
        },
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["unregister", "--orphan", "stamp", "--yes"]),
        shows: false,
    });
}

#[test]
fn adopt_believes_no_odd_answer() {
    sweep(&Scenario {
        before: &registered,
        stamp: stamp(),
        command: &|world| world.both(0, &world.dir.path().join("fresh"), &["adopt"]),
        shows: false,
    });
}

/// A customer's subscription, made once for all copies of the world.
fn customer(world: &World, change: &[&str]) -> Command {
    let mut command = world.at_azure(&["customer", change[0]]);
    let id = std::fs::read_to_string(world.path("customer")).unwrap();
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    command.arg(id).args(&change[1..]).args(["--cloud-id", &cloud_id]);
    command
}

fn with_a_customer(world: &World) {
    registered(world);
    let made = world.control("/subscriptions", &json!({}));
    world.file("customer", made["subscription_id"].as_str().unwrap());
}

#[test]
fn customer_add_believes_no_odd_answer() {
    sweep(&Scenario {
        before: &with_a_customer,
        stamp: stamp(),
        command: &|world| customer(world, &["add", "--tenant", TENANT]),
        shows: false,
    });
}

#[test]
fn customer_remove_believes_no_odd_answer() {
    sweep(&Scenario {
        before: &|world| {
            with_a_customer(world);
            run(&mut customer(world, &["add", "--tenant", TENANT])).ends(0);
        },
        stamp: stamp(),
        command: &|world| customer(world, &["remove", "--yes"]),
        shows: false,
    });
}

#[test]
fn marketplace_remove_believes_no_odd_answer() {
    sweep(&Scenario {
        before: &|world| {
            registered(world);
            world.run(&["marketplace", "add", TINY, VMACCESS]).ends(0);
        },
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["marketplace", "remove", TINY, "--yes"]),
        shows: false,
    });
}

/// The visits of a disconnected stamp's life, as far as the nth.
fn visits(world: &World, count: usize) {
    (0..count).for_each(|number| drop(run(&mut visit(world, number)).ends(0)));
}

fn visit(world: &World, number: usize) -> Command {
    let [token, key, receipt] = ["token.json", "key.json", "receipt.json"].map(|name| world.path(name));
    match number {
        0 => {
            let mut command = world.at_stamp(&["offline", "token", "--out", &token]);
            command.args(["--billing-model", "capacity", "--agreement-number", "A-1"]);
            command
        }
        1 => world.at_azure(&["offline", "register", &token, "--out", &key]),
        2 => world.at_stamp(&["offline", "activate", &key]),
        3 => world.at_stamp(&["offline", "deactivate", "--yes", "--out", &receipt]),
        _ => world.at_azure(&["offline", "unregister", &receipt, "--yes"]),
    }
}

fn visited(number: usize) {
    sweep(&Scenario {
        before: &|world| visits(world, number),
        stamp: away(),
        command: &|world| visit(world, number),
        shows: false,
    });
}

#[test]
fn offline_register_believes_no_odd_answer() {
    visited(1);
}

#[test]
fn offline_activate_believes_no_odd_answer() {
    visited(2);
}

#[test]
fn offline_deactivate_believes_no_odd_answer() {
    visited(3);
}

#[test]
fn offline_unregister_believes_no_odd_answer() {
    visited(4);
}

#[test]
fn list_believes_no_odd_answer() {
    sweep(&Scenario {
        before: &registered,
        stamp: stamp(),
        command: &|world| world.both(0, &world.state(), &["list", "-o", "json"]),
        shows: true,
    });
}
