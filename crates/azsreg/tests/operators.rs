//! Several operators at one stamp: each a process of its own, with a state directory of its own, who does not know what the
//! others do. What one agreed to weeks ago, or while another acted, is not what is done now.
//!
//! At the end of every run that ends well the stamp is activated exactly when its record names a registration that is there.
#![allow(clippy::unwrap_used)]

mod common;

#[cfg(unix)]
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use azsreg_lab::StampOptions;
use common::{Ran, World, assert_registered_once, run};
use serde_json::{Value, json};

/// A state directory by name.
fn directory(world: &World, name: &str) -> PathBuf {
    world.dir.path().join(name)
}

/// An operator's command: signed in to Azure, not to the stamp, with a state directory of this name.
fn operator(world: &World, name: &str, arguments: &[&str]) -> Command {
    let mut command = world.command(0, &directory(world, name));
    world.signed_in(&mut command);
    command.args(arguments);
    command
}

/// How an operator works: [`operator`] or [`reader`].
type Way = fn(&World, &str, &[&str]) -> Command;

/// The same, signed in to the stamp too.
fn reader(world: &World, name: &str, arguments: &[&str]) -> Command {
    world.both(0, &directory(world, name), arguments)
}

/// At a stamp without a way to Azure.
fn at_stamp(world: &World, name: &str, arguments: &[&str]) -> Ran {
    let mut command = world.at_stamp(arguments);
    for variable in ["AZSREG_STAMP_CLIENT_ID", "AZSREG_STAMP_CLIENT_SECRET"] {
        command.env_remove(variable);
    }
    run(command.env("AZSREG_STATE_DIR", directory(world, name)))
}

#[track_caller]
fn wait_for(what: &str, mut reached: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not reached: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// All journals of a state directory.
fn journals(state: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for stamp in std::fs::read_dir(state.join("journals")).into_iter().flatten() {
        for journal in std::fs::read_dir(stamp.unwrap().path()).unwrap() {
            found.push(journal.unwrap().path());
        }
    }
    found.sort();
    found
}

/// Whether a journal says that a step began.
fn began(state: &Path, step: &str) -> bool {
    let line = format!("\"event\":\"started\",\"step\":\"{step}\"");
    journals(state).iter().any(|path| std::fs::read_to_string(path).unwrap().contains(&line))
}

fn quietly(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs a command that Azure does not answer at one request, until its journal says that the step has begun; then kills it.
fn killed_at(world: &World, command: &mut Command, state: &Path, (method, route): (&str, &str), step: &str) {
    let rule = json!({"when": {"plane": "arm", "method": method, "route": route}, "then": {"hang": true}});
    world.lab.fault(rule).unwrap();
    let mut child = quietly(command);
    wait_for(step, || began(state, step));
    child.kill().unwrap();
    child.wait().unwrap();
    world.control_with("DELETE", "/faults", &Value::Null);
}

fn activation(world: &World) -> Value {
    world.lab.world()["stamps"][0]["activation"].clone()
}

/// Activated exactly when the record names a registration that is there.
#[track_caller]
fn assert_sound(world: &World) {
    let now = world.lab.world();
    let named = &now["stamps"][0]["activation"]["properties"]["azureRegistrationResourceIdentifier"];
    let there = now["registrations"].as_array().unwrap();
    assert!(if named.is_null() { there.is_empty() } else { there.iter().any(|one| one["id"] == *named) }, "{now:#}");
}

#[track_caller]
fn assert_gone(world: &World) {
    assert_eq!(activation(world), Value::Null);
    assert_eq!(world.lab.world()["registrations"], json!([]));
}

/// The state that many of these begin with: A's removal was killed after the deactivation; B ended it and registered again.
fn left_weeks_ago() -> World {
    let world = World::new();
    run(&mut operator(&world, "a", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    let mut removal = operator(&world, "a", &["unregister", "--yes"]);
    killed_at(&world, &mut removal, &directory(&world, "a"), ("DELETE", "locks"), "unlock");
    assert_eq!(activation(&world), Value::Null);
    run(&mut operator(&world, "b", &["unregister", "--yes"])).ends(0).says("run again: the stamp was not activated");
    assert_gone(&world);
    run(&mut operator(&world, "b", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    world.days(21);
    assert_registered_once(&world.lab.world(), "B registered again");
    world
}

#[test]
fn a_removal_left_weeks_ago_is_agreed_to_anew_and_deactivates_indeed() {
    let world = left_weeks_ago();
    let before = world.lab.export();
    run(&mut operator(&world, "a", &["unregister", "--plan"])).ends(4).says("Remove-AzureStackActivation");
    run(&mut operator(&world, "a", &["unregister"])).ends(2).says("AZR1014").says("will be deactivated");
    assert_registered_once(&world.lab.world(), "not agreed to");
    for part in ["directory", "stamps"] {
        assert_eq!(world.lab.export()[part], before[part], "{part}");
    }
    let removed = run(&mut operator(&world, "a", &["unregister", "--yes"])).ends(0);
    assert!(!removed.stdout.contains("before") && !removed.stdout.contains("run again"), "{}", removed.stdout);
    assert_gone(&world);
}

/// The same where the stamp's record can be read.
#[test]
fn a_removal_left_weeks_ago_is_agreed_to_anew_with_the_record_too() {
    let world = left_weeks_ago();
    run(&mut reader(&world, "a", &["unregister"])).ends(2).says("AZR1014").says("will be deactivated");
    assert_registered_once(&world.lab.world(), "not agreed to");
    run(&mut reader(&world, "a", &["unregister", "--yes"])).ends(0);
    assert_gone(&world);
}

/// Journals of earlier versions have a time in their names. A clock that was ahead made one that sorts after all later ones.
#[test]
fn a_clock_that_was_set_back_does_not_make_an_old_journal_the_newest() {
    let world = World::new();
    let state = directory(&world, "a");
    run(&mut operator(&world, "a", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    let mut removal = operator(&world, "a", &["unregister", "--yes"]);
    killed_at(&world, &mut removal, &state, ("DELETE", "locks"), "unlock");
    let of_removal = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().ends_with("-unregister.jsonl");
    let open = journals(&state).into_iter().find(of_removal).unwrap();
    std::fs::rename(&open, open.with_file_name("20991231T235959000000Z-unregister.jsonl")).unwrap();
    run(&mut operator(&world, "b", &["unregister", "--yes"])).ends(0);
    run(&mut operator(&world, "a", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    assert_registered_once(&world.lab.world(), "registered again");
    run(&mut operator(&world, "a", &["unregister"])).ends(2).says("AZR1014").says("will be deactivated");
    assert_registered_once(&world.lab.world(), "not agreed to");
    run(&mut operator(&world, "a", &["unregister", "--yes"])).ends(0);
    assert_gone(&world);
}

/// The counter orders the journals of today, whatever their times say.
#[test]
fn journals_are_ordered_by_their_counter() {
    let world = World::new();
    let state = directory(&world, "a");
    for model in ["pay-as-you-use", "development"] {
        run(&mut operator(&world, "a", &["register", "--billing-model", model])).ends(0);
    }
    let counters: Vec<String> = journals(&state)
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().split('-').next().unwrap().to_owned())
        .collect();
    assert_eq!(counters, ["j00000001", "j00000002"]);
}

#[test]
fn a_change_of_subscription_left_weeks_ago_is_not_replayed() {
    let world = World::new();
    let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
    run(&mut operator(&world, "a", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    let line = ["change-subscription", "--to-subscription", &fresh, "--billing-model", "pay-as-you-use"];
    let change = |extra: &[&str]| {
        let mut command = operator(&world, "a", &line);
        command.args(["--usage-reporting", "on", "--marketplace", "on"]).args(extra);
        command
    };
    killed_at(&world, &mut change(&["--yes"]), &directory(&world, "a"), ("DELETE", "locks"), "unlock");
    // B cleans up on both sides and registers where it was.
    for subscription in [world.lab.descriptor().subscription_id.to_string(), fresh.clone()] {
        let ran = run(&mut reader(&world, "b", &["unregister", "--yes", "--subscription", &subscription]));
        assert!(matches!(ran.code, Some(0 | 3 | 7)), "{}{}", ran.stdout, ran.stderr);
        let ran = run(&mut reader(&world, "b", &["unregister", "--yes", "--subscription", &subscription]));
        assert!(matches!(ran.code, Some(0 | 3 | 7)), "{}{}", ran.stdout, ran.stderr);
    }
    for one in world.lab.world()["registrations"].as_array().unwrap() {
        let id = one["id"].as_str().unwrap();
        let part = |n: usize| id.split('/').nth(n).unwrap().to_owned();
        let (subscription, group, name) = (part(2), part(4), part(8));
        let line = ["unregister", "--orphan", "azure", "--yes", "--subscription", &subscription];
        run(reader(&world, "b", &line).args(["--resource-group", &group, "--name", &name])).ends(0);
    }
    assert_eq!(world.lab.world()["registrations"], json!([]));
    run(&mut reader(&world, "b", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    world.days(21);
    let id = activation(&world);
    run(&mut change(&[])).ends(2).says("AZR1014");
    assert_eq!(activation(&world), id, "nobody has agreed to it");
    assert_registered_once(&world.lab.world(), "not agreed to");
    run(&mut change(&["--yes"])).ends(0);
    assert_registered_once(&world.lab.world(), "changed");
    assert!(world.lab.world()["registrations"][0]["id"].as_str().unwrap().contains(&fresh));
}

fn away() -> World {
    World::of(vec![StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }])
}

/// Registers a disconnected stamp: one operator does all the ways.
fn carried(world: &World, name: &str, round: &str) {
    let (token, key) = (world.path(&format!("t{round}.json")), world.path(&format!("k{round}.json")));
    let ask = ["offline", "token", "--billing-model", "capacity", "--agreement-number", "A", "--out", &token];
    at_stamp(world, name, &ask).ends(0);
    run(&mut world.at_azure(&["offline", "register", &token, "--out", &key])).ends(0);
    at_stamp(world, name, &["offline", "activate", &key]).ends(0);
    assert_ne!(activation(world), Value::Null);
}

#[test]
fn an_offline_deactivation_left_weeks_ago_writes_no_receipt_of_what_it_did_not_do() {
    let world = away();
    carried(&world, "a", "1");
    // It deactivates, and can't write its receipt: the journal stays open after the deactivation.
    std::fs::create_dir(directory(&world, "gone")).unwrap();
    let receipt = world.path("gone/r.json");
    let rule = json!({"when": {"plane": "pep", "route": "Remove-AzureStackActivation"}, "then": {"delay": 1_000}, "after": true, "limit": 1});
    world.lab.fault(rule).unwrap();
    let mut command = world.at_stamp(&["offline", "deactivate", "--out", &receipt, "--yes"]);
    command.env("AZSREG_STATE_DIR", directory(&world, "a"));
    for variable in ["AZSREG_STAMP_CLIENT_ID", "AZSREG_STAMP_CLIENT_SECRET"] {
        command.env_remove(variable);
    }
    let mut child = quietly(&mut command);
    wait_for("the deactivation", || activation(&world).is_null());
    std::fs::remove_dir_all(directory(&world, "gone")).unwrap();
    assert!(!child.wait().unwrap().success());
    // B ends it and registers again.
    let of_b = world.path("b.json");
    at_stamp(&world, "b", &["offline", "deactivate", "--out", &of_b, "--yes"]).ends(0).says("run again");
    let subscription = world.lab.descriptor().subscription_id.to_string();
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let undo = ["offline", "unregister", "--subscription", &subscription, "--cloud-id", &cloud_id, "--yes"];
    run(&mut world.at_azure(&undo)).ends(0);
    assert_gone(&world);
    carried(&world, "b", "2");
    world.days(21);
    // A goes on.
    let of_a = world.path("a.json");
    at_stamp(&world, "a", &["offline", "deactivate", "--out", &of_a]).ends(2).says("AZR1014");
    assert!(!Path::new(&of_a).exists(), "no receipt without a deactivation");
    assert_ne!(activation(&world), Value::Null);
    at_stamp(&world, "a", &["offline", "deactivate", "--out", &of_a, "--yes"]).ends(0);
    assert_eq!(activation(&world), Value::Null, "deactivated indeed");
    run(&mut world.at_azure(&["offline", "unregister", &of_a, "--yes"])).ends(0);
    assert_gone(&world);
}

/// A receipt of a deactivation does not delete the registration that was made after it.
#[test]
fn an_old_receipt_does_not_delete_a_live_registration() {
    let world = away();
    carried(&world, "a", "1");
    let receipt = world.path("r.json");
    at_stamp(&world, "a", &["offline", "deactivate", "--out", &receipt, "--yes"]).ends(0);
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    run(&mut world.at_azure(&["offline", "unregister", "--cloud-id", &cloud_id, "--yes"])).ends(0);
    world.days(1);
    carried(&world, "a", "2");
    let live = world.lab.world();
    let forget = directory(&world, "state-azure");
    std::fs::remove_dir_all(forget).unwrap();
    let ran = run(&mut world.at_azure(&["offline", "unregister", &receipt, "--cloud-id", &cloud_id, "--yes"]));
    assert_ne!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(world.lab.world()["registrations"], live["registrations"]);
    assert_sound(&world);
}

/// A terminal for a command's questions: `python3` holds the other end of it.
#[cfg(unix)]
struct Terminal {
    holder: Child,
    slave: PathBuf,
}

#[cfg(unix)]
impl Terminal {
    fn open() -> Self {
        let script = "import os, pty, sys\nmaster, slave = pty.openpty()\nprint(os.ttyname(slave), flush=True)\nfor line in sys.stdin.buffer: os.write(master, line)\n";
        let mut holder =
            Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut name = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut name).unwrap();
        Self { holder, slave: name.trim().into() }
    }

    /// Runs a command that asks its questions here.
    fn run(&self, command: &mut Command) -> Asked {
        use std::os::unix::fs::OpenOptionsExt as _;
        let slave = std::fs::File::options().read(true).custom_flags(libc::O_NOCTTY).open(&self.slave).unwrap();
        command.env("AZSREG_NON_INTERACTIVE", "false").stdin(slave).stdout(Stdio::piped()).stderr(Stdio::piped());
        Asked { child: command.spawn().unwrap(), said: String::new() }
    }

    fn answer(&mut self, text: &str) {
        writeln!(self.holder.stdin.as_mut().unwrap(), "{text}").unwrap();
    }
}

#[cfg(unix)]
impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A command with a question on the screen.
#[cfg(unix)]
struct Asked {
    child: Child,
    said: String,
}

#[cfg(unix)]
impl Asked {
    /// Reads until the question was asked this often.
    #[track_caller]
    fn is_asked(&mut self, times: usize) {
        let stderr = self.child.stderr.as_mut().unwrap();
        let mut bytes = [0; 1024];
        while self.said.matches("Type yes").count() < times {
            let read = stderr.read(&mut bytes).unwrap();
            assert!(read > 0, "it ended without asking: {}", self.said);
            self.said.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    fn ends(mut self, code: i32) -> Ran {
        let (mut stdout, mut stderr) = (String::new(), self.said);
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        Ran { stdout, stderr, code: self.child.wait().unwrap().code() }.ends(code)
    }
}

/// What both operators of a question begin with, with the record or without it.
#[cfg(unix)]
const WAYS: [Way; 2] = [operator, reader];

#[cfg(unix)]
#[test]
fn a_move_while_the_question_is_on_the_screen_is_shown_and_asked_about() {
    for way in WAYS {
        let world = World::new();
        run(&mut way(&world, "b", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
        let mut terminal = Terminal::open();
        let mut asked = terminal.run(&mut way(&world, "a", &["unregister"]));
        asked.is_asked(1);
        run(&mut way(&world, "b", &["move", "--to-resource-group", "other"])).ends(0);
        terminal.answer("yes");
        asked.is_asked(2);
        assert!(asked.said.contains("changed while you were asked"), "{}", asked.said);
        assert!(asked.said.contains("/resourceGroups/other/"), "{}", asked.said);
        assert_registered_once(&world.lab.world(), "asked again");
        terminal.answer("no");
        asked.ends(2).says("AZR1014");
        assert_registered_once(&world.lab.world(), "not agreed to");
        // Who agrees to what is there gets it.
        let mut asked = terminal.run(&mut way(&world, "a", &["unregister"]));
        asked.is_asked(1);
        terminal.answer("yes");
        asked.ends(0);
        assert_gone(&world);
    }
}

#[cfg(unix)]
#[test]
fn a_change_of_subscription_while_the_question_is_on_the_screen_stops_the_removal() {
    for way in WAYS {
        let world = World::new();
        let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
        run(&mut way(&world, "b", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
        let mut terminal = Terminal::open();
        let mut asked = terminal.run(&mut way(&world, "a", &["unregister"]));
        asked.is_asked(1);
        run(&mut way(&world, "b", &["change-subscription", "--to-subscription", &fresh, "--yes"])).ends(0);
        terminal.answer("yes");
        asked.ends(7).says(&fresh);
        assert_registered_once(&world.lab.world(), "it is in the other subscription, and activated");
    }
}

#[test]
fn status_finds_a_registration_wherever_the_sign_in_sees_it() {
    for way in [operator as Way, reader] {
        let world = World::new();
        let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
        let nothing = run(&mut way(&world, "a", &["status"])).ends(3);
        assert!(
            nothing.stdout.contains("was found in 2 subscriptions"),
            "what was looked at is said: {}",
            nothing.stdout
        );
        run(&mut way(&world, "b", &["register", "--billing-model", "development", "--subscription", &fresh])).ends(0);
        let found = run(&mut way(&world, "a", &["status"]));
        assert!(found.stdout.contains(&fresh), "{}{}", found.stdout, found.stderr);
        assert!(!found.stdout.contains("azsreg register"), "it is registered: {}", found.stdout);
        run(&mut way(&world, "a", &["list"])).ends(0).says("these have some").says(&fresh);
        // Nor is it removed as if it were in the subscription that is named.
        run(&mut way(&world, "a", &["unregister", "--yes"])).ends(7).says(&fresh);
        assert_registered_once(&world.lab.world(), "in the other subscription");
    }
}

/// Changes one letter in the first line of the newest journal of a state directory.
fn damage(state: &Path) -> PathBuf {
    let path = journals(state).pop().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let damaged = text.replacen("\"who\":\"", "\"who\":\"x", 1);
    assert_ne!(text, damaged);
    std::fs::write(&path, damaged).unwrap();
    path
}

const CAPACITY: [&str; 5] = ["register", "--billing-model", "capacity", "--agreement-number", "333"];

#[test]
fn a_damaged_journal_of_an_ended_run_is_a_warning_and_still_knows_the_number() {
    let world = World::new();
    world.run(&CAPACITY).ends(0);
    damage(&world.state());
    world.run(&["status"]).ends(0).says("AZR5002");
    world.run(&["set", "--marketplace", "off"]).ends(0).says("AZR5002");
    assert_eq!(world.lab.world()["registrations"][0]["token"]["agreementNumber"], "333");
    world.run(&CAPACITY).ends(0).says("AZR5002");
}

#[test]
fn a_damaged_journal_of_an_open_run_stops_and_is_kept_beside() {
    let world = World::new();
    let state = world.state();
    let mut register = world.both(0, &state, &CAPACITY);
    killed_at(&world, &mut register, &state, ("PUT", "locks"), "lock");
    let path = damage(&state);
    let before = std::fs::read(&path).unwrap();
    let stopped = world.run(&CAPACITY).ends(1).says("AZR5002");
    assert!(stopped.stderr.contains("--without-journal"), "{}", stopped.stderr);
    assert_eq!(std::fs::read(&path).unwrap(), before, "never changed");
    assert_eq!(std::fs::read(path.with_extension("jsonl.damaged")).unwrap(), before, "kept beside");
    world.run(&["status"]).says("AZR5002");
    let goes_on: Vec<&str> = CAPACITY.iter().copied().chain(["--without-journal"]).collect();
    world.run(&goes_on).ends(0);
    assert_registered_once(&world.lab.world(), "without its journal");
    assert!(path.exists(), "never deleted");
    world.run(&CAPACITY).ends(0);
}

#[test]
fn a_journal_of_a_newer_azsreg_is_named_so() {
    let world = World::new();
    let state = world.state();
    let mut register = world.both(0, &state, &CAPACITY);
    killed_at(&world, &mut register, &state, ("PUT", "locks"), "lock");
    let path = journals(&state).pop().unwrap();
    // As a newer one would go on: a line that follows from the one before, with an event of its own.
    let text = std::fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap();
    let digest: String =
        <sha2::Sha256 as sha2::Digest>::digest(last.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let n = text.lines().count();
    let count: Value = serde_json::from_str(last).unwrap();
    let line = json!({"n": count["n"].as_u64().unwrap() + 1, "at": count["at"], "prev": digest, "event": "pondered"});
    std::fs::write(&path, format!("{text}{line}\n")).unwrap();
    let stopped = world.run(&CAPACITY).ends(1).says("AZR5020").says("newer azsreg");
    assert!(stopped.stderr.contains(&format!("line {}", n + 1)), "{}", stopped.stderr);
    assert!(!stopped.stderr.contains("disk"), "{}", stopped.stderr);
    world.run(&["status"]).says("AZR5020");
    let goes_on: Vec<&str> = CAPACITY.iter().copied().chain(["--without-journal"]).collect();
    world.run(&goes_on).ends(0);
    assert_registered_once(&world.lab.world(), "without its journal");
}

#[test]
fn a_journal_of_another_stamp_is_refused_by_name() {
    let world =
        World::of(vec![StampOptions::default(), StampOptions { name: "other".into(), ..StampOptions::default() }]);
    run(&mut world.both(1, &directory(&world, "b"), &CAPACITY)).ends(0);
    let foreign = journals(&directory(&world, "b")).pop().unwrap();
    let told = world.lab.descriptor();
    let (own, other) = (told.stamps[0].cloud_id.to_string(), told.stamps[1].cloud_id.to_string());
    let place = world.state().join("journals").join(&own);
    std::fs::create_dir_all(&place).unwrap();
    std::fs::copy(&foreign, place.join(foreign.file_name().unwrap())).unwrap();
    world.run(&CAPACITY).ends(1).says("AZR5021").says(&other);
    world.run(&["set", "--marketplace", "off"]).ends(1).says("AZR5021");
    world.run(&["status"]).says("AZR5021");
    assert_eq!(world.lab.world()["stamps"][0]["activation"], Value::Null);
}

/// While an operation holds the lock no other begins to look: what it would look at is about to change.
#[test]
fn looking_and_acting_are_under_one_lock() {
    let world = World::new();
    run(&mut reader(&world, "a", &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    let state = directory(&world, "a");
    let rule = json!({"when": {"plane": "arm", "method": "PUT", "route": "locks"}, "then": {"hang": true}});
    world.control_with("DELETE", "/locks", &Value::Null);
    world.lab.fault(rule).unwrap();
    let mut first = quietly(&mut reader(&world, "a", &["repair"]));
    wait_for("the lock's step", || began(&state, "lock"));
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let lines: [&[&str]; 8] = [
        &["unregister", "--yes"],
        &["unregister", "--orphan", "stamp", "--yes"],
        &["offline", "unregister", "--cloud-id", &cloud_id, "--yes"],
        &["move", "--to-resource-group", "other"],
        &["repair"],
        &["set", "--marketplace", "off"],
        &["register", "--billing-model", "development"],
        &["customer", "remove", &cloud_id, "--cloud-id", &cloud_id, "--yes"],
    ];
    for line in lines {
        run(&mut reader(&world, "a", line)).ends(5).says("AZR5001").says("repair of");
    }
    // A plan needs no lock, and says that it may be another soon.
    for line in [&["unregister", "--plan"][..], &["move", "--to-resource-group", "other", "--plan"]] {
        run(&mut reader(&world, "a", line)).ends(4).says("repair of");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    world.control_with("DELETE", "/faults", &Value::Null);
    run(&mut reader(&world, "a", &["repair"])).ends(0);
    assert_registered_once(&world.lab.world(), "repaired");
}

fn refused_role() -> Value {
    json!({"when": {"plane": "arm", "method": "DELETE", "route": "roleassignments"},
        "then": {"status": 403, "error": "AuthorizationFailed", "message": "The client 'x' with object id 'y' does not have authorization to perform action 'Microsoft.Authorization/roleAssignments/delete' over scope '/z'"}})
}

#[test]
fn a_move_whose_role_deletion_is_refused_ends_locked() {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.lab.fault(refused_role()).unwrap();
    let stopped = world.run(&["move", "--to-resource-group", "other"]).ends(6).says("AZR4009");
    assert!(!stopped.stderr.contains("AZR6028"), "{}", stopped.stderr);
    assert_registered_once(&world.lab.world(), "where it was, locked");
    world.control_with("DELETE", "/faults", &Value::Null);
    world.run(&["move", "--to-resource-group", "other"]).ends(0);
    assert_registered_once(&world.lab.world(), "moved");
}

#[test]
fn a_move_that_can_not_put_the_lock_back_says_so_first() {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.lab.fault(refused_role()).unwrap();
    let rule = json!({"when": {"plane": "arm", "method": "PUT", "route": "locks"}, "then": {"status": 403, "error": "AuthorizationFailed", "message": "no"}});
    world.lab.fault(rule).unwrap();
    let stopped = world.run(&["move", "--to-resource-group", "other", "-o", "json"]);
    assert_ne!(stopped.code, Some(0));
    let first = stopped.stderr.find("AZR").map(|at| &stopped.stderr[at..at + 7]);
    let text = format!("{}{}", stopped.stdout, stopped.stderr);
    assert!(text.contains("AZR6028"), "{text}");
    assert!(
        first.is_none_or(|code| code == "AZR6028") || stopped.stdout.find("AZR6028") < stopped.stdout.find("AZR4009"),
        "{text}"
    );
    world.control_with("DELETE", "/faults", &Value::Null);
    world.run(&["repair"]).ends(0);
    assert_registered_once(&world.lab.world(), "repaired");
}

/// One odd 404 at each look of a move: it ends locked, where it says it is.
#[test]
fn a_move_with_one_missing_answer_ends_locked() {
    for nth in 1..=4 {
        let world = World::new();
        world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
        let rule = json!({"when": {"plane": "arm", "method": "GET", "route": "microsoft.azurestack/registrations/", "nth": nth},
            "then": {"status": 404, "error": "ResourceNotFound", "message": "gone for a moment"}, "limit": 1});
        world.lab.fault(rule).unwrap();
        let ran = world.run(&["move", "--to-resource-group", "other"]);
        let now = world.lab.world();
        for list in ["registrations", "locks"] {
            assert_eq!(now[list].as_array().unwrap().len(), 1, "look {nth}: {list}: {}{}", ran.stdout, ran.stderr);
        }
        let id = now["registrations"][0]["id"].as_str().unwrap();
        assert!(now["locks"][0]["id"].as_str().unwrap().starts_with(id), "look {nth}");
        if ran.code == Some(0) {
            assert_registered_once(&now, &format!("look {nth}"));
            assert!(id.contains("/resourceGroups/other/"), "look {nth}");
        }
        world.run(&["move", "--to-resource-group", "other"]).ends(0);
        assert_registered_once(&world.lab.world(), &format!("look {nth}, run again"));
    }
}

#[test]
fn adopting_does_not_hide_the_agreement_number() {
    let world = World::new();
    world.run(&CAPACITY).ends(0);
    world.run(&["renew", "--plan"]).ends(4);
    world.run(&["adopt"]).ends(0);
    world.run(&["renew", "--plan"]).ends(4);
    world.run(&["set", "--marketplace", "off"]).ends(0);
    assert_eq!(world.lab.world()["registrations"][0]["token"]["agreementNumber"], "333");
}

/// The number is what this machine wrote, and holds while nothing else has written to the registration.
#[test]
fn an_old_number_is_not_written_back() {
    let world = World::new();
    world.run(&CAPACITY).ends(0);
    let module = ["set", "--agreement-number", "444"];
    run(&mut reader(&world, "module", &module)).ends(0);
    let number = || world.lab.world()["registrations"][0]["token"]["agreementNumber"].clone();
    assert_eq!(number(), "444");
    for line in [&["set", "--marketplace", "off"][..], &["renew"]] {
        world.run(line).ends(7).says("AZR6016").says("333").says("--agreement-number");
        assert_eq!(number(), "444", "{line:?}");
    }
    world.run(&["adopt"]).ends(0);
    world.run(&["set", "--marketplace", "off"]).ends(7).says("AZR6016").says("333");
    assert_eq!(number(), "444");
    let again = world.run(&CAPACITY).ends(0);
    assert!(!again.stdout.contains("Nothing to do"), "{}", again.stdout);
    assert_eq!(number(), "333", "as asked");
    world.run(&["set", "--marketplace", "off"]).ends(0);
    assert_eq!(number(), "333");
}

/// A terminal is asked for the number.
#[cfg(unix)]
#[test]
fn a_number_that_is_not_known_is_asked_for() {
    let world = World::new();
    world.run(&CAPACITY).ends(0);
    run(&mut reader(&world, "module", &["set", "--agreement-number", "444"])).ends(0);
    let mut terminal = Terminal::open();
    let mut command = world.both(0, &world.state(), &["set", "--marketplace", "off"]);
    let asked = terminal.run(&mut command);
    terminal.answer("444");
    asked.ends(0).says("333");
    let now = world.lab.world();
    assert_eq!(now["registrations"][0]["token"]["agreementNumber"], "444");
    assert_eq!(now["stamps"][0]["activation"]["properties"]["marketplaceSyndicationEnabled"], false);
}

/// Azure's locks are inherited: a customer's mapping can't be deleted while our own lock is on the registration.
#[test]
fn a_customer_is_removed_under_our_own_lock_which_is_back_then() {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    let one = world.control("/subscriptions", &json!({}))["subscription_id"].as_str().unwrap().to_owned();
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let tenant = "dbab3982-796f-4d03-9908-044c08aef8a2";
    let customer = |line: &[&str]| run(world.at_azure(&["customer"]).args(line).args(["--cloud-id", &cloud_id]));
    let before = world.lab.world()["locks"].clone();
    customer(&["add", &one, "--tenant", tenant]).ends(0);
    customer(&["remove", &one, "--yes"]).ends(0);
    assert_registered_once(&world.lab.world(), "locked again");
    assert_eq!(world.lab.world()["locks"][0]["id"], before[0]["id"]);
    customer(&["list"]).ends(0).says("has no customers");
    // Refused half-way, the lock is back too.
    customer(&["add", &one, "--tenant", tenant]).ends(0);
    let rule = json!({"when": {"plane": "arm", "method": "DELETE", "route": "customersubscriptions"}, "then": {"status": 403, "error": "AuthorizationFailed", "message": "no"}});
    world.lab.fault(rule).unwrap();
    let stopped = customer(&["remove", &one, "--yes"]);
    assert_ne!(stopped.code, Some(0));
    assert_registered_once(&world.lab.world(), "locked again after a refusal");
}
