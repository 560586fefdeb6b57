//! Usage over the real wires: metered by the stamp, uploaded through failures, billed once, shown and compared.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use azsreg_lab::{LabOptions, StampOptions};
use common::{World, run, runtime};
use serde_json::{Value, json};

fn tenants(tenants: usize) -> Vec<StampOptions> {
    vec![StampOptions { tenants, ..StampOptions::default() }]
}

/// The world at noon: what a day's last hours are late by is over, whenever the tests run.
fn at_noon(world: World) -> World {
    let now: jiff::Timestamp =
        world.control_with("GET", "/health", &Value::Null)["now"].as_str().unwrap().parse().unwrap();
    let noon = 12 * 3600 - now.as_second().rem_euclid(86_400);
    world.control("/clock", &json!({ "advance_seconds": noon.rem_euclid(86_400) }));
    world
}

fn at_bridge(world: &World) -> Value {
    world.control_with("GET", "/stamps/stamp1/usage", &Value::Null)
}

fn hours(world: &World, hours: i64) {
    world.control("/clock", &json!({ "advance_seconds": hours * 3600 }));
}

/// Waits for what the bridge tells.
#[track_caller]
fn until(world: &World, what: &str, told: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let now = at_bridge(world);
        if told(&now) {
            return now;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}: {now:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All that can be uploaded is, and the hour in which it was is over: by then it can be asked for.
#[track_caller]
fn uploaded(world: &World) -> Value {
    let done = |told: &Value| told["waiting_hours"].as_i64().unwrap() <= 2 && told["failing"].is_null();
    until(world, "uploaded", done);
    hours(world, 1);
    until(world, "uploaded", done)
}

fn compared(world: &World, arguments: &[&str], code: i32) -> Value {
    world.run(&[&["usage", "compare", "-o", "json"], arguments].concat()).ends(code).json()
}

fn verdicts(compared: &Value, verdict: &str) -> Vec<String> {
    let lines = compared["value"].as_array().unwrap().iter().filter(|line| line["verdict"] == verdict);
    lines.map(|line| line["day"].as_str().unwrap().to_owned()).collect()
}

/// A day of the lab's, so many days from now.
fn day(world: &World, days: i64) -> String {
    let now = world.control_with("GET", "/health", &Value::Null)["now"].as_str().unwrap().to_owned();
    let now: jiff::Timestamp = now.parse().unwrap();
    (now + jiff::SignedDuration::from_hours(24 * days)).strftime("%Y-%m-%d").to_string()
}

#[test]
fn thirty_days_of_fifty_tenants_reach_azure_once_through_every_failure() {
    let world = at_noon(World::of(tenants(50)));
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    let first = day(&world, 1);
    let usage = |then: Value, more: Value| {
        let mut rule = json!({"when": {"plane": "usage"}, "then": then});
        for (name, value) in more.as_object().unwrap() {
            if name == "probability" {
                rule["when"][name] = value.clone();
            } else {
                rule[name] = value.clone();
            }
        }
        world.lab.fault(rule).unwrap();
    };
    usage(json!({"duplicate": true}), json!({"probability": 0.2}));
    usage(json!({"status": 503}), json!({"probability": 0.08}));
    usage(json!({"drop": true}), json!({"probability": 0.05, "after": true}));
    usage(json!({"truncate": 5}), json!({"probability": 0.05}));
    usage(json!({"delay": 60}), json!({"probability": 0.05}));
    usage(json!({"status": 500}), json!({"probability": 0.08, "after": true}));
    let mut draw = fastrand::Rng::with_seed(7);
    let mut left = 31 * 24;
    while left > 0 {
        let step = draw.i64(1..40).min(left);
        left -= step;
        hours(&world, step);
        match draw.u8(0..8) {
            0 => drop(world.control("/stamps/stamp1", &json!({"usage_bridge": "kill"}))),
            1 | 2 => drop(world.control("/stamps/stamp1", &json!({"usage_bridge": "start"}))),
            // As far as it comes through the failures, or somewhere on the way.
            3..6 => {
                world.control("/stamps/stamp1", &json!({"usage_bridge": "start"}));
                until(&world, "through", |told| told["waiting_hours"].as_i64().unwrap() <= 2);
            }
            _ => {}
        }
    }
    let struck = world.control_with("GET", "/faults", &Value::Null);
    assert!(struck.as_array().unwrap().iter().all(|rule| rule["hits"].as_u64().unwrap() > 5), "{struck:#}");
    world.control_with("DELETE", "/faults", &Value::Null);
    world.control("/stamps/stamp1", &json!({"usage_bridge": "start"}));
    let told = uploaded(&world);
    assert!(told["uploaded"].as_u64().unwrap() > 300_000, "{}", told["uploaded"]);
    let found = compared(&world, &["--from", &first, "--to", &day(&world, 0)], 0);
    let lines = found["value"].as_array().unwrap();
    assert_eq!(lines.len(), 30 * 7, "seven commerce meters on thirty days");
    assert_eq!(verdicts(&found, "equal").len(), lines.len(), "{found:#}");
    assert!(lines.iter().all(|line| line["stamp"] == line["azure"] && line["stamp"].as_f64().unwrap() > 0.0));
    assert_eq!(found["unmapped"], json!([]));
    let status = world.run(&["usage", "status", "-o", "json"]).ends(0).json();
    assert_eq!((&status["reporting"], &status["billing_model"]), (&json!(true), &json!("PayAsYouUse")));
    assert!(status["waiting_hours"].as_u64().unwrap() <= 2, "{status:#}");
}

#[test]
fn what_is_late_is_told_from_what_is_missing() {
    let world = at_noon(World::new());
    world.run(&["register", "--billing-model", "development"]).ends(0);
    world.run(&["usage", "status"]).ends(0).says("on (Development)").says("nothing of the last week");
    world.days(3);
    uploaded(&world);
    // The endpoint goes: what is used from then on is late, and the stamp warns of it.
    world.lab.fault(json!({"when": {"plane": "usage"}, "then": {"status": 503}})).unwrap();
    world.days(3);
    until(&world, "failing", |told| told["failing"]["code"] == "NetworkError");
    let from = day(&world, -5);
    let found = compared(&world, &["--from", &from], 0);
    assert_eq!(verdicts(&found, "missing"), Vec::<String>::new(), "{found:#}");
    assert!(verdicts(&found, "late").contains(&day(&world, -1)));
    assert!(verdicts(&found, "equal").contains(&from));
    world.run(&["usage", "compare", "--from", &from, "--differences"]).ends(0).says("late").says("0 missing");
    world
        .run(&["usage", "status"])
        .ends(0)
        .says("Unable to connect to the remote service (NetworkError)")
        .says("a firewall or a proxy in the way")
        .says("Next: azsreg status")
        .says("hours,");
    world.run(&["alerts", "list"]).ends(0).says("(NetworkError)").says("azsreg usage status");
    world.control_with("DELETE", "/faults", &Value::Null);
    hours(&world, 1);
    uploaded(&world);
    world.run(&["alerts", "list"]).ends(0).says("no open alert");
    let found = compared(&world, &["--from", &from], 0);
    assert_eq!(verdicts(&found, "late"), Vec::<String>::new(), "{found:#}");
    // What was used before the registration was never reported.
    let found = compared(&world, &["--from", &day(&world, -10)], 0);
    assert!(verdicts(&found, "unreported").contains(&day(&world, -8)), "{found:#}");

    // Switched off for two days: those hours are never uploaded, and are missing once Azure has later ones.
    world.run(&["set", "--usage-reporting", "off"]).ends(0);
    let before = at_bridge(&world);
    world.days(3);
    let rows = |from: &str| {
        let shown = world.run(&["usage", "show", "--from", from, "--to", &day(&world, 0), "-o", "json"]).ends(0).json();
        shown["value"].as_array().unwrap().len()
    };
    assert!(rows(&day(&world, -2)) > 10, "gathering does not stop");
    assert_eq!(at_bridge(&world)["uploaded"], before["uploaded"], "uploading does");
    world.run(&["usage", "status"]).ends(0).says("off (Development)").says("Next: azsreg set --usage-reporting on");
    world.run(&["set", "--usage-reporting", "on"]).ends(0);
    world.days(3);
    uploaded(&world);
    let gap = day(&world, -5);
    let found = compared(&world, &["--from", &from], 7);
    assert!(verdicts(&found, "missing").contains(&gap), "{found:#}");
    assert!(verdicts(&found, "equal").contains(&day(&world, -2)), "{found:#}");
    world.run(&["usage", "compare", "--from", &from]).ends(7).says("AZR6025").says("missing");
    // Asked alone, they are no less missing: Azure has later usage.
    let found = compared(&world, &["--from", &gap, "--to", &day(&world, -4)], 7);
    assert_eq!(verdicts(&found, "missing").len(), found["value"].as_array().unwrap().len(), "{found:#}");
    // And days before the registration are no less unreported.
    let found = compared(&world, &["--from", &day(&world, -16), "--to", &day(&world, -15)], 0);
    assert_eq!(verdicts(&found, "unreported").len(), found["value"].as_array().unwrap().len(), "{found:#}");
    // A subscription that is named twice is counted once.
    let payer = world.lab.descriptor().subscription_id.to_string();
    let arguments = ["--from", &day(&world, -2), "--payer", &payer, "--payer", &payer];
    assert_eq!(verdicts(&compared(&world, &arguments, 0), "surplus"), Vec::<String>::new());
}

#[test]
fn capacity_and_no_registration_upload_nothing_and_gather_on() {
    let world = at_noon(World::new());
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.days(2);
    uploaded(&world);
    world.run(&["set", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    let before = at_bridge(&world)["uploaded"].clone();
    world.days(2);
    world.run(&["usage", "status"]).ends(0).says("off (Capacity)");
    assert_eq!(at_bridge(&world)["uploaded"], before);
    world.run(&["unregister", "--yes"]).ends(0);
    world.days(2);
    assert_eq!(at_bridge(&world)["uploaded"], before);
    world.run(&["usage", "status"]).ends(3).says("off: the stamp is not activated").says("azsreg register");
    world.run(&["usage", "show", "--from", &day(&world, -1)]).ends(0).says("BlockBlobCapacity");
    // Registered again: from then on.
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.days(2);
    uploaded(&world);
    let found = compared(&world, &["--from", &day(&world, -1)], 0);
    assert!(!verdicts(&found, "equal").is_empty() && verdicts(&found, "late").is_empty(), "{found:#}");
}

#[test]
fn each_hour_is_under_the_subscription_that_was_mapped_then() {
    let world = at_noon(World::new());
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    let told = at_bridge(&world);
    let tenant = told["tenants"][0]["directory"].as_str().unwrap();
    let customer = || world.control("/subscriptions", &json!({}))["subscription_id"].as_str().unwrap().to_owned();
    let (one, two) = (customer(), customer());
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let mapping = |arguments: &[&str]| {
        let mut command = world.at_azure(&["customer"]);
        run(command.args(arguments).args(["--cloud-id", &cloud_id])).ends(0);
    };
    world.days(2);
    // The bridge is away all the time: what counts is when it was used, not when it was uploaded.
    world.control("/stamps/stamp1", &json!({"usage_bridge": "kill"}));
    mapping(&["add", &one, "--tenant", tenant]);
    world.days(4);
    mapping(&["add", &two, "--tenant", tenant, "--yes"]);
    world.days(4);
    mapping(&["remove", &two, "--yes"]);
    world.days(3);
    world.control("/stamps/stamp1", &json!({"usage_bridge": "start"}));
    uploaded(&world);
    // Customers whose mapping is gone have to be named: who is left out has the days that are not whole.
    let left_out = |payers: &[&String]| {
        let named: Vec<&str> = payers.iter().flat_map(|payer| ["--payer", payer.as_str()]).collect();
        let (from, to) = (day(&world, -11), day(&world, 0));
        let mut command =
            world.both(0, &world.state(), &["usage", "compare", "-o", "json", "--from", &from, "--to", &to]);
        let found = run(command.args(named)).json();
        let mut days = verdicts(&found, "missing");
        days.extend(verdicts(&found, "late"));
        days.sort();
        days.dedup();
        days
    };
    let days = |range: std::ops::RangeInclusive<i64>| range.map(|n| day(&world, n)).collect::<Vec<_>>();
    assert_eq!(left_out(&[&one, &two]), Vec::<String>::new(), "every hour is somewhere, once");
    // Mapped at noon eleven days ago, at noon seven days ago, and at noon three days ago to nobody.
    assert_eq!(left_out(&[&two]), days(-11..=-7));
    assert_eq!(left_out(&[&one]), days(-7..=-3));
}

#[test]
fn the_codes_of_a_failing_upload_are_told_and_forgotten_when_it_is_mended() {
    let world = at_noon(World::new());
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    let cases = [
        (json!({"when": {"plane": "usage"}, "then": {"drop": true}}), "NetworkError"),
        (json!({"when": {"plane": "usage"}, "then": {"status": 403, "error": "AuthorizationFailed"}}), "Unauthorized"),
        (json!({"when": {"plane": "login", "route": "token"}, "then": {"status": 503}}), "LoginError"),
    ];
    for (rule, code) in cases {
        // Another day, so that the bridge signs in anew.
        world.lab.fault(rule).unwrap();
        world.days(1);
        until(&world, code, |told| told["failing"]["code"] == code);
        world.control_with("DELETE", "/faults", &Value::Null);
        // Mended meanwhile, it may be closed already.
        let shown = world.run(&["alerts", "list", "--all", "-o", "json"]).ends(0).json();
        let alerts = shown["value"].as_array().unwrap();
        let alert = alerts.iter().find(|alert| alert["fault_type"] == "UsageBridge.UsageNetworkError").unwrap();
        assert_eq!(alert["error_code"], code, "{shown:#}");
        hours(&world, 1);
        uploaded(&world);
        world.run(&["alerts", "list"]).ends(0).says("no open alert");
    }
    // The principal is gone: it can't sign in any more.
    let principal = world.lab.world()["service_principals"][0]["object_id"].as_str().unwrap().to_owned();
    world.control_with("DELETE", &format!("/service-principals/{principal}"), &Value::Null);
    world.days(1);
    until(&world, "LoginError", |told| told["failing"]["code"] == "LoginError");
    world.run(&["usage", "status"]).ends(0).says("LoginError");
}

#[test]
fn the_spool_and_azures_books_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = || LabOptions { data_dir: Some(dir.path().to_owned()), stamps: tenants(5), ..LabOptions::default() };
    let first = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = at_noon(World::on(&first, options()));
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.days(3);
    uploaded(&world);
    // More is used while nothing can be uploaded; an answer is lost besides.
    world.lab.fault(json!({"when": {"plane": "usage"}, "then": {"drop": true}, "after": true})).unwrap();
    world.days(3);
    until(&world, "failing", |told| !told["failing"].is_null());
    let waiting = at_bridge(&world)["waiting_hours"].as_i64().unwrap();
    assert!(waiting > 60, "{waiting}");
    drop(world);
    first.shutdown_timeout(Duration::from_secs(10));
    let world = World::with(options());
    uploaded(&world);
    let found = compared(&world, &["--from", &day(&world, -5)], 0);
    assert_eq!(verdicts(&found, "equal").len(), found["value"].as_array().unwrap().len(), "{found:#}");
    assert!(found["value"].as_array().unwrap().len() >= 30);
}

#[test]
fn what_the_services_refuse_is_said_and_what_passes_is_waited_for() {
    let world = at_noon(World::new());
    let yesterday = day(&world, -1);
    let show = |arguments: &[&str]| world.run(&[&["usage", "show"], arguments].concat());
    // From the arguments alone.
    show(&["--from", "2026-11-01T10:30Z"]).ends(2).says("the beginning of an hour");
    show(&["--from", "2026-11-01T10:00Z"]).ends(2).says("whole days").says("--granularity hourly");
    show(&["--granularity", "weekly"]).ends(2).says("daily, hourly");
    show(&["--from", "2026-11-05", "--to", "2026-11-05"]).ends(2).says("not after");
    show(&["--from", "2020-01-01", "--to", "2019-01-01", "-o", "prometheus"]).ends(2).says("-o json");
    world.run(&["usage", "status", "-o", "csv"]).ends(2).says("-o csv is for");
    // From the stamp.
    show(&["--to", &day(&world, 2)]).ends(7).says("AZR2026").says("in the future");
    let refused = show(&["--to", &day(&world, 2), "-o", "json"]).ends(7).json();
    assert_eq!(refused["problems"][0]["code"], "AZR2026", "a document of its own");
    show(&["--from", "2026-11-01T10:00", "--granularity", "hourly"]).ends(2).says("13:00Z");
    assert_eq!(show(&["--meter", "nothing", "-o", "json"]).ends(0).json()["value"], json!([]));
    show(&["--tenant-subscription", "11111111-2222-4333-8444-555555555555"])
        .ends(3)
        .says("AZR6024")
        .says("SubscriberIdIsNotDirectTenant");
    let stamp = |then: Value, limit: u64| {
        let when = json!({"plane": "stamp-arm", "route": "subscriberusageaggregates"});
        world.lab.fault(json!({"when": when, "then": then, "limit": limit})).unwrap();
    };
    let rows = |limit: u64, then: Value| {
        if limit > 0 {
            stamp(then, limit);
        }
        show(&["--from", &yesterday, "-o", "csv"]).ends(0).stdout
    };
    let good = rows(0, Value::Null);
    assert!(good.lines().count() > 5 && good.starts_with("start,subscription,meter,"), "{good}");
    // Busy, not ready, and too long: the same rows in the end.
    assert_eq!(rows(2, json!({"status": 503, "error": "ServiceUnavailable"})), good);
    assert_eq!(rows(2, json!({"status": 202, "body": {"error": {"code": "x", "message": "y"}}})), good);
    assert_eq!(rows(3, json!({"status": 504, "error": "GatewayTimeout"})), good);
    stamp(json!({"status": 504, "error": "GatewayTimeout"}), 50);
    show(&["--from", &yesterday]).ends(1).says("AZR2027").says("--tenant-subscription");
    world.control_with("DELETE", "/faults", &Value::Null);
    stamp(json!({"status": 400, "error": "InvalidProperty", "message": "reportedStartTime"}), 50);
    show(&["--from", &yesterday]).ends(7).says("AZR2025").says("InvalidProperty: reportedStartTime");
    world.control_with("DELETE", "/faults", &Value::Null);
    // Without an operator of the stamp nothing can be read, and a table that is none is refused before anybody is asked.
    let mut command = world.command(0, &world.state());
    run(command.args(["usage", "show"])).ends(2).says("AZR6021");
    let table = world.file("meters.json", "[{\"meter\": 1}]");
    world.run(&["usage", "compare", "--meters", table.to_str().unwrap()]).ends(2).says("AZR5004");
    world.run(&["usage", "compare"]).ends(3).says("AZR6001");
}

#[test]
fn a_table_of_ones_own_maps_the_meters() {
    let world = at_noon(World::new());
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.days(2);
    uploaded(&world);
    // Blobs by another meter than Azure's: what is Azure's is more there, and the other is late or missing.
    let text = r#"[{"meter": "09F8879E-87E9-4305-A572-4B7BE209F857", "commerceMeter": "mine", "factor": 0.5}]"#;
    let table = world.file("meters.json", text);
    let found = compared(&world, &["--from", &day(&world, -1), "--meters", table.to_str().unwrap()], 7);
    let mine: Vec<&Value> = found["value"].as_array().unwrap().iter().filter(|line| line["meter"] == "mine").collect();
    assert_eq!((mine.len(), mine[0]["azure"].as_f64()), (1, Some(0.0)), "{found:#}");
    assert_eq!(verdicts(&found, "surplus").len(), 1, "{found:#}");
}

/// The most that a process held, in bytes, shared pages by halves (PSS), while it ran.
fn peak(process: &mut std::process::Child) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", process.id());
    let mut peak = 0;
    while process.try_wait().unwrap().is_none() {
        let now = std::fs::read_to_string(&path).unwrap_or_default();
        let pss =
            now.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
        peak = peak.max(pss.unwrap_or(0) * 1024);
        std::thread::sleep(Duration::from_millis(20));
    }
    peak
}

#[test]
fn a_million_rows_are_listed_in_little_memory() {
    let world = at_noon(World::of(tenants(720)));
    let _guard = runtime().enter();
    let out = world.path("rows.csv");
    let mut command = world.both(0, &world.state(), &["usage", "show", "--by", "resource", "--granularity", "hourly"]);
    command.args([
        "-o",
        "csv",
        "--from",
        &format!("{}T00:00Z", day(&world, -7)),
        "--to",
        &format!("{}T00:00Z", day(&world, 0)),
    ]);
    command.stdout(std::fs::File::create(&out).unwrap());
    let mut process = command.spawn().unwrap();
    let peak = peak(&mut process);
    assert!(process.wait().unwrap().success());
    let text = std::fs::read_to_string(&out).unwrap();
    let rows = text.lines().count() - 1;
    assert!(rows > 1_000_000, "{rows} rows");
    // Each record once.
    let mut keys: Vec<&str> = text.lines().collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), rows + 1);
    println!("{rows} rows, {} KiB at the peak", peak / 1024);
    assert!(peak < 64 << 20, "{peak} bytes");
}
