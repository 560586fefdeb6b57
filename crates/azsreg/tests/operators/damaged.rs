//! Journals that are damaged, newer, out of order or of another stamp.

use super::*;

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

/// Changes one letter in the first line of the newest journal of a state directory.
fn damage(state: &Path) -> PathBuf {
    let path = journals(state).pop().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let damaged = text.replacen("\"who\":\"", "\"who\":\"x", 1);
    assert_ne!(text, damaged);
    std::fs::write(&path, damaged).unwrap();
    path
}

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
