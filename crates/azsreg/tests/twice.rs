//! Verbs twice: what the second run in a row says, and that it leaves the world as it is.
//!
//! "Nothing to do" is said only where it was seen. A run that can't see it runs again, to the same end. What makes a new file
//! is refused the second time; a removal by a token, from a state directory that does not know of the first, finds nothing.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use azsreg_lab::StampOptions;
use common::{World, run};
use serde_json::{Value, json};

/// Where a verb is run.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Where both sides are reached.
    Both,
    /// At a stamp without a way to Azure.
    Stamp,
    /// With internet, without a stamp.
    Azure,
}
use Place::{Azure, Both, Stamp};

/// Who runs it the second time.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Who {
    /// With the state directory of the first run.
    Own,
    /// With an empty one.
    Empty,
    /// With the state directory of the first run, and neither run signed in to the stamp.
    Unsigned,
    /// With an empty one, and neither run signed in to the stamp.
    Stranger,
}
const WHO: [Who; 4] = [Who::Own, Who::Empty, Who::Unsigned, Who::Stranger];

/// What the second run does.
#[derive(Clone, Copy)]
struct Second {
    code: i32,
    says: &'static str,
    /// Whether it writes again what is there: the versions and times of that are new, and nothing else.
    writes: bool,
}

const fn ends(code: i32, says: &'static str) -> Second {
    Second { code, says, writes: false }
}

const fn writes(says: &'static str) -> Second {
    Second { code: 0, says, writes: true }
}

/// Nothing to do, and seen to be so.
const NOTHING: Second = ends(0, "Nothing to do");
/// A file that is there is not written over.
const THERE: Second = ends(2, "AZR5006");

struct Row {
    verb: &'static str,
    /// Of a disconnected stamp.
    away: bool,
    place: Place,
    before: fn(&Scene<'_>),
    line: fn(&Scene<'_>) -> Vec<String>,
    /// For each of [`WHO`].
    second: [Second; 4],
}

/// A world, and who works in it.
struct Scene<'w> {
    world: &'w World,
    who: Who,
}

impl Scene<'_> {
    fn command(&self, place: Place, state: &str, line: &[&str]) -> Command {
        let world = self.world;
        let state: PathBuf = world.dir.path().join(state);
        let mut command = match place {
            Both => world.both(0, &state, line),
            Stamp => world.at_stamp(line),
            Azure => world.at_azure(line),
        };
        if matches!(self.who, Who::Unsigned | Who::Stranger) {
            command.env_remove("AZSREG_STAMP_CLIENT_ID").env_remove("AZSREG_STAMP_CLIENT_SECRET");
        }
        command.env("AZSREG_STATE_DIR", state);
        command
    }

    /// What comes before, by whoever runs the verb the first time.
    #[track_caller]
    fn run(&self, place: Place, line: &[&str]) {
        run(&mut self.command(place, "first", line)).ends(0);
    }

    fn register(&self) {
        self.run(Both, &["register", "--billing-model", "pay-as-you-use"]);
    }

    fn capacity(&self) {
        self.run(Both, &["register", "--billing-model", "capacity", "--agreement-number", "A-1"]);
    }

    fn path(&self, name: &str) -> String {
        self.world.path(name)
    }

    fn cloud_id(&self) -> String {
        self.world.lab.descriptor().stamps[0].cloud_id.to_string()
    }

    fn fresh(&self) -> String {
        self.world.lab.descriptor().fresh_subscription_id.to_string()
    }

    /// Registers a disconnected stamp up to the nth of its visits.
    fn visits(&self, count: usize) {
        let (token, key, receipt) = (self.path("t.json"), self.path("k.json"), self.path("r.json"));
        let ask = ["offline", "token", "--billing-model", "capacity", "--agreement-number", "A", "--out", &token];
        let lines: [(Place, &[&str]); 4] = [
            (Stamp, &ask),
            (Azure, &["offline", "register", &token, "--out", &key]),
            (Stamp, &["offline", "activate", &key]),
            (Stamp, &["offline", "deactivate", "--out", &receipt, "--yes"]),
        ];
        lines.iter().take(count).for_each(|(place, line)| self.run(*place, line));
    }

    /// Renews the registration of a disconnected stamp up to the nth of its visits.
    fn renews(&self, count: usize) {
        self.visits(3);
        let (token, key) = (self.path("rt.json"), self.path("rk.json"));
        let ask = [
            "offline",
            "renew",
            "start",
            "--billing-model",
            "capacity",
            "--agreement-number",
            "B",
            "--out",
            &token,
            "--yes",
        ];
        let lines: [(Place, &[&str]); 2] =
            [(Stamp, &ask), (Azure, &["offline", "renew", "register", &token, "--out", &key, "--yes"])];
        lines.iter().take(count).for_each(|(place, line)| self.run(*place, line));
    }

    fn customer(&self) -> String {
        let path = self.world.dir.path().join("customer");
        if !path.exists() {
            let made = self.world.control("/subscriptions", &json!({}));
            std::fs::write(&path, made["subscription_id"].as_str().unwrap()).unwrap();
        }
        std::fs::read_to_string(path).unwrap()
    }
}

fn line(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn nothing(_: &Scene<'_>) {}

const TENANT: &str = "dbab3982-796f-4d03-9908-044c08aef8a2";
const TINY: &str = "azsreglab.tiny-linux-1.0.3";

const fn row(
    verb: &'static str,
    place: Place,
    before: fn(&Scene<'_>),
    line: fn(&Scene<'_>) -> Vec<String>,
    second: [Second; 4],
) -> Row {
    Row { verb, away: false, place, before, line, second }
}

const fn away(
    verb: &'static str,
    place: Place,
    before: fn(&Scene<'_>),
    line: fn(&Scene<'_>) -> Vec<String>,
    second: [Second; 4],
) -> Row {
    Row { verb, away: true, place, before, line, second }
}

const TABLE: &[Row] = &[
    // verb, place, before, the line twice: own state directory, an empty one, without a stamp sign-in, both
    row(
        "register, pay as you use",
        Both,
        nothing,
        |_| line(&["register", "--billing-model", "pay-as-you-use"]),
        [NOTHING, NOTHING, NOTHING, writes("done")],
    ),
    row(
        "register, development",
        Both,
        nothing,
        |_| line(&["register", "--billing-model", "development"]),
        [NOTHING, NOTHING, NOTHING, writes("done")],
    ),
    row(
        "register, ruggedized",
        Both,
        nothing,
        |_| line(&["register", "--billing-model", "ruggedized"]),
        [NOTHING, NOTHING, NOTHING, writes("done")],
    ),
    row(
        "register, capacity",
        Both,
        nothing,
        |_| line(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]),
        [NOTHING, writes("done"), NOTHING, writes("done")],
    ),
    row(
        "register, custom",
        Both,
        nothing,
        |_| line(&["register", "--billing-model", "custom", "--ms-asset-tag", "T-1"]),
        [NOTHING, writes("done"), NOTHING, writes("done")],
    ),
    row(
        "set, marketplace",
        Both,
        |scene| scene.register(),
        |_| line(&["set", "--marketplace", "off"]),
        [NOTHING, NOTHING, NOTHING, writes("done")],
    ),
    row(
        "set, agreement number",
        Both,
        |scene| scene.capacity(),
        |_| line(&["set", "--agreement-number", "A-2"]),
        [NOTHING, writes("done"), NOTHING, writes("done")],
    ),
    row(
        "renew",
        Both,
        |scene| scene.capacity(),
        |_| line(&["renew", "--agreement-number", "A-2"]),
        [writes("done"); 4],
    ),
    row(
        "change-subscription",
        Both,
        |scene| scene.register(),
        |scene| line(&["change-subscription", "--to-subscription", &scene.fresh(), "--yes"]),
        [NOTHING, NOTHING, writes("done"), writes("done")],
    ),
    row(
        "move",
        Both,
        |scene| scene.register(),
        |_| line(&["move", "--to-resource-group", "other"]),
        [NOTHING, NOTHING, NOTHING, writes("done")],
    ),
    row("repair", Both, |scene| scene.register(), |_| line(&["repair"]), [NOTHING, NOTHING, NOTHING, writes("done")]),
    row(
        "unregister",
        Both,
        |scene| scene.register(),
        |_| line(&["unregister", "--yes"]),
        [
            NOTHING,
            NOTHING,
            ends(0, "run again: the stamp was not activated"),
            ends(0, "run again: the stamp was not activated"),
        ],
    ),
    row(
        "unregister --orphan stamp",
        Both,
        orphan_stamp,
        |_| line(&["unregister", "--orphan", "stamp", "--yes"]),
        [
            NOTHING,
            NOTHING,
            ends(0, "run again: the stamp was not activated"),
            ends(0, "run again: the stamp was not activated"),
        ],
    ),
    row(
        "unregister --orphan azure",
        Azure,
        |scene| scene.register(),
        |scene| {
            let name = format!("AzureStack-{}", scene.cloud_id());
            line(&["unregister", "--orphan", "azure", "--name", &name, "--yes"])
        },
        [NOTHING, ends(3, "AZR6004"), NOTHING, ends(3, "AZR6004")],
    ),
    row("adopt", Both, |scene| scene.register(), |_| line(&["adopt"]), [ends(0, ""); 4]),
    away(
        "offline token",
        Stamp,
        nothing,
        |scene| {
            line(&[
                "offline",
                "token",
                "--billing-model",
                "capacity",
                "--agreement-number",
                "A",
                "--out",
                &scene.path("t.json"),
            ])
        },
        [THERE; 4],
    ),
    away(
        "offline register",
        Azure,
        |scene| scene.visits(1),
        |scene| line(&["offline", "register", &scene.path("t.json"), "--out", &scene.path("k.json")]),
        [writes("done"); 4],
    ),
    away(
        "offline key",
        Azure,
        |scene| scene.visits(2),
        |scene| line(&["offline", "key", "--cloud-id", &scene.cloud_id(), "--out", &scene.path("key2.json")]),
        [ends(0, ""); 4],
    ),
    away(
        "offline activate",
        Stamp,
        |scene| scene.visits(2),
        |scene| line(&["offline", "activate", &scene.path("k.json")]),
        [ends(0, "already"), writes("done"), ends(0, "already"), writes("done")],
    ),
    away(
        "offline deactivate",
        Stamp,
        |scene| scene.visits(3),
        |scene| line(&["offline", "deactivate", "--out", &scene.path("r.json"), "--yes"]),
        [THERE; 4],
    ),
    away(
        "offline unregister, by a receipt",
        Azure,
        |scene| scene.visits(4),
        |scene| line(&["offline", "unregister", &scene.path("r.json"), "--yes"]),
        [NOTHING, NOTHING, NOTHING, ends(3, "AZR6004")],
    ),
    away(
        "offline unregister, by a token",
        Azure,
        |scene| scene.visits(4),
        |scene| line(&["offline", "unregister", &scene.path("t.json"), "--yes"]),
        [NOTHING, ends(3, "AZR6004"), NOTHING, ends(3, "AZR6004")],
    ),
    away(
        "offline renew start",
        Stamp,
        |scene| scene.visits(3),
        |scene| {
            line(&[
                "offline",
                "renew",
                "start",
                "--billing-model",
                "capacity",
                "--agreement-number",
                "B",
                "--out",
                &scene.path("rt.json"),
                "--yes",
            ])
        },
        [THERE; 4],
    ),
    away(
        "offline renew register",
        Azure,
        |scene| scene.renews(1),
        |scene| {
            line(&["offline", "renew", "register", &scene.path("rt.json"), "--out", &scene.path("rk.json"), "--yes"])
        },
        [writes("done"); 4],
    ),
    away(
        "offline renew finish",
        Stamp,
        |scene| scene.renews(2),
        |scene| line(&["offline", "renew", "finish", &scene.path("rk.json")]),
        [ends(0, "already"), writes("done"), ends(0, "already"), writes("done")],
    ),
    row(
        "customer add",
        Azure,
        registered_with_customer,
        |scene| line(&["customer", "add", &scene.customer(), "--tenant", TENANT, "--cloud-id", &scene.cloud_id()]),
        [NOTHING; 4],
    ),
    row(
        "customer remove",
        Azure,
        mapped,
        |scene| line(&["customer", "remove", &scene.customer(), "--cloud-id", &scene.cloud_id(), "--yes"]),
        [NOTHING; 4],
    ),
    row("role create", Azure, nothing, |_| line(&["role", "create"]), [NOTHING; 4]),
    row(
        "role assign",
        Azure,
        |scene| scene.run(Azure, &["role", "create"]),
        |scene| {
            let made = scene.world.dir.path().join("person");
            if !made.exists() {
                let user = scene.world.control("/users", &json!({"name": "person"}));
                std::fs::write(&made, user["object_id"].as_str().unwrap()).unwrap();
            }
            line(&["role", "assign", "--to", &std::fs::read_to_string(made).unwrap()])
        },
        [ends(0, ""); 4],
    ),
    row(
        "marketplace add",
        Both,
        |scene| scene.register(),
        |_| line(&["marketplace", "add", TINY]),
        [NOTHING, NOTHING, ends(2, "AZR6021"), ends(2, "AZR6021")],
    ),
    row(
        "marketplace remove",
        Both,
        has_an_item,
        |_| line(&["marketplace", "remove", TINY, "--yes"]),
        [NOTHING, NOTHING, ends(2, "AZR6021"), ends(2, "AZR6021")],
    ),
    row(
        "alerts close",
        Both,
        nothing,
        |scene| line(&["alerts", "close", &an_alert(scene)]),
        [NOTHING, NOTHING, ends(2, "AZR6021"), ends(2, "AZR6021")],
    ),
    row("logout", Both, nothing, |_| line(&["logout"]), [ends(0, ""); 4]),
];

fn orphan_stamp(scene: &Scene<'_>) {
    scene.register();
    let name = format!("AzureStack-{}", scene.cloud_id());
    scene.run(Azure, &["unregister", "--orphan", "azure", "--name", &name, "--yes"]);
}

fn registered_with_customer(scene: &Scene<'_>) {
    scene.register();
    scene.customer();
}

fn mapped(scene: &Scene<'_>) {
    scene.register();
    let line = ["customer", "add", &scene.customer(), "--tenant", TENANT, "--cloud-id", &scene.cloud_id()];
    scene.run(Azure, &line);
}

fn has_an_item(scene: &Scene<'_>) {
    scene.register();
    run(&mut scene.world.both(0, &scene.world.state(), &["marketplace", "add", TINY])).ends(0);
}

fn an_alert(scene: &Scene<'_>) -> String {
    let path = scene.world.dir.path().join("alert");
    if !path.exists() {
        let listed = scene.world.run(&["alerts", "list", "-o", "json"]).ends(0).json();
        std::fs::write(&path, listed["value"][0]["name"].as_str().unwrap()).unwrap();
    }
    std::fs::read_to_string(path).unwrap()
}

/// The versions and times of what was written.
fn unwritten(world: &mut Value) {
    match world {
        Value::Object(members) => {
            for (name, member) in members {
                if ["etag", "written", "expires", "expiration"].contains(&name.as_str()) {
                    *member = Value::Null;
                } else {
                    unwritten(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unwritten),
        _ => {}
    }
}

/// Where two worlds differ.
fn differences(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            for name in one.keys().chain(other.keys().filter(|name| !one.contains_key(*name))) {
                differences(&format!("{path}.{name}"), &before[name], &after[name], found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).enumerate().for_each(|(n, (b, a))| differences(&format!("{path}.{n}"), b, a, found));
        }
        _ if before != after => found.push(format!("{path}: {before} became {after}")),
        _ => {}
    }
}

/// Runs a verb once, then again by each of these, and gives what is not as it should be.
fn twice(row: &Row, again: [Who; 2]) -> Vec<String> {
    let options = if row.away {
        StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }
    } else {
        StampOptions::default()
    };
    let world = World::of(vec![options]);
    let scene = Scene { world: &world, who: again[0] };
    (row.before)(&scene);
    let words = (row.line)(&scene);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let first = run(&mut scene.command(row.place, "first", &words));
    let mut found = Vec::new();
    for who in again {
        let expected = row.second[WHO.iter().position(|one| *one == who).unwrap()];
        let mut wrong = Vec::new();
        if first.code != Some(0) {
            // What can't be done without a sign-in can't be done twice either.
            let as_said = first.code == Some(expected.code) && first.stderr.contains(expected.says);
            if !as_said || expected.code == 0 {
                wrong.push(format!("the first run: {}{}", first.stdout, first.stderr));
            }
        } else {
            second(&scene, who, (row.place, &words), expected, &mut wrong);
        }
        if !wrong.is_empty() {
            found.push(format!("{}, {who:?}: {}", row.verb, wrong.join("\n")));
        }
    }
    found
}

/// Runs it again, and compares the world with what it was.
fn second(scene: &Scene<'_>, who: Who, (place, words): (Place, &[&str]), expected: Second, wrong: &mut Vec<String>) {
    let lab = &scene.world.lab;
    let mut before = lab.export();
    let state = if matches!(who, Who::Own | Who::Unsigned) { "first" } else { "second" };
    let second = run(&mut scene.command(place, state, words));
    let mut after = lab.export();
    if expected.writes {
        unwritten(&mut before);
        unwritten(&mut after);
    }
    differences("", &before, &after, wrong);
    if second.code != Some(expected.code) {
        wrong.push(format!("it ended with {:?}, not with {}", second.code, expected.code));
    }
    if !second.stdout.contains(expected.says) && !second.stderr.contains(expected.says) {
        wrong.push(format!("it did not say {:?}", expected.says));
    }
    if expected.says != NOTHING.says && second.stdout.contains(NOTHING.says) {
        wrong.push("it said that there is nothing to do".into());
    }
    if !wrong.is_empty() {
        wrong.push(format!("{}{}", second.stdout, second.stderr));
    }
}

/// Every verb of a part of the table, a world each.
fn all(again: [Who; 2], away: bool) {
    let next = AtomicUsize::new(0);
    let found = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(row) = TABLE.get(next.fetch_add(1, Ordering::SeqCst)) {
                    // Where no stamp is asked it is all the same whether somebody is signed in there.
                    let same = row.place == Azure && !row.away && again == UNSIGNED;
                    if row.away == away && !same {
                        let wrong = twice(row, again);
                        found.lock().unwrap().extend(wrong);
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

const SIGNED_IN: [Who; 2] = [Who::Own, Who::Empty];
const UNSIGNED: [Who; 2] = [Who::Unsigned, Who::Stranger];

#[test]
fn twice_at_a_connected_stamp() {
    all(SIGNED_IN, false);
}

#[test]
fn twice_at_a_connected_stamp_without_a_sign_in_to_it() {
    all(UNSIGNED, false);
}

#[test]
fn twice_at_a_disconnected_stamp() {
    all(SIGNED_IN, true);
}

#[test]
fn twice_at_a_disconnected_stamp_without_a_sign_in_to_it() {
    all(UNSIGNED, true);
}
