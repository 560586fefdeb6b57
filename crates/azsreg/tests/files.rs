//! The files of this machine: what a command reads, what it writes, and who else is at work in the state directory.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Ran, World, run};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn token(world: &World, out: &str, more: &[&str]) -> Ran {
    let mut arguments =
        vec!["offline", "token", "--billing-model", "capacity", "--agreement-number", "1", "--out", out];
    arguments.extend(more);
    run(&mut world.at_stamp(&arguments))
}

#[test]
fn a_plan_makes_no_file_and_touches_none() {
    let world = World::new();
    let out = world.dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("t.json.new"), "mine").unwrap();
    let before = std::fs::metadata(&out).unwrap().modified().unwrap();
    token(&world, &out.join("t.json").display().to_string(), &["--plan"]).ends(4);
    assert_eq!(names(&out), ["t.json.new"]);
    assert_eq!(std::fs::read(out.join("t.json.new")).unwrap(), b"mine");
    assert_eq!(std::fs::metadata(&out).unwrap().modified().unwrap(), before, "a file was made and removed");
}

#[test]
fn a_token_is_not_written_over_by_its_key() {
    let world = World::new();
    let file = world.path("t.json");
    token(&world, &file, &[]).ends(0);
    let carried = std::fs::read(&file).unwrap();
    assert_eq!(mode(Path::new(&file)), 0o600);
    std::fs::create_dir(world.dir.path().join("sub")).unwrap();
    let (link, spelt, copy) = (world.path("link.json"), world.path("sub/../t.json"), world.path("copy.json"));
    symlink(&file, &link).unwrap();
    std::fs::copy(&file, &copy).unwrap();
    for (from, out) in [(&file, &file), (&file, &link), (&link, &file), (&file, &spelt), (&file, &copy)] {
        let ran = run(&mut world.at_azure(&["offline", "register", from, "--out", out])).ends(2).says("AZR5006");
        assert!(!ran.stderr.contains("panicked"));
        assert_eq!(std::fs::read(&file).unwrap(), carried, "{from} {out}");
    }
    // What is beside the key counts too.
    let key = world.path("k.json");
    std::fs::write(format!("{key}.receipt.json"), "mine").unwrap();
    run(&mut world.at_azure(&["offline", "register", &file, "--out", &key])).ends(2).says("k.json.receipt.json");
    assert!(!Path::new(&key).exists());
    std::fs::remove_file(format!("{key}.receipt.json")).unwrap();
    assert_eq!(world.lab.world()["registrations"].as_array().unwrap().len(), 0);
    std::fs::write(format!("{key}.new"), "mine").unwrap();
    run(&mut world.at_azure(&["offline", "register", &file, "--out", &key])).ends(0);
    run(&mut world.at_azure(&["offline", "register", &file, "--out", &key])).ends(0);
    assert_eq!(std::fs::read(format!("{key}.new")).unwrap(), b"mine");
    // A key is not replaced by the next token.
    let kept = std::fs::read(&key).unwrap();
    token(&world, &key, &[]).ends(2).says("an activation key");
    assert_eq!(std::fs::read(&key).unwrap(), kept);
}

#[test]
fn a_transcript_is_not_written_over_something_else() {
    let world = World::new();
    let (mine, link) = (world.file("mine", "mine"), world.path("link"));
    symlink(&mine, &link).unwrap();
    for name in [mine.display().to_string(), link, world.dir.path().display().to_string()] {
        world.run(&["check", "--billing-model", "development", "--yes", "--transcript", &name]).ends(2).says("AZR5006");
    }
    assert_eq!(std::fs::read(&mine).unwrap(), b"mine");
    let file = world.path("transcript.json");
    for _ in 0..2 {
        let ran = world.run(&["check", "--billing-model", "development", "--yes", "--transcript", &file]);
        assert!(Path::new(&file).exists(), "{}", ran.stderr);
    }
    run(world.command(0, &world.state()).args(["lab", "compare", &file])).ends(0);
}

/// A command that needs nobody but its own words and files.
fn alone(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_azsreg"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AZSREG_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).env("AZSREG_STATE_DIR", dir.join("state")).current_dir(dir);
    command.env("AZSREG_NON_INTERACTIVE", "true");
    command
}

const INFO: &[&str] = &["stamp", "info", "--pep", "127.0.0.1:1", "--pep-user", "D\\CloudAdmin"];

#[test]
fn what_is_named_is_looked_at_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    // As long as no machine has memory, and without a block on the disk.
    std::fs::File::create(dir.path().join("huge")).unwrap().set_len(1 << 43).unwrap();
    std::fs::write(dir.path().join("secret"), "x").unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    std::fs::File::create(dir.path().join("state/stamps.json")).unwrap().set_len(1 << 43).unwrap();
    const ID: &str = "11111111-1111-4111-8111-111111111111";
    // Where the name stands, in the line of each option that takes a file.
    let lines = [
        format!("{} --pep-password @NAME", INFO.join(" ")),
        format!("{} --pep-password @secret --ca-file NAME", INFO.join(" ")),
        format!("list --subscription {ID} --client-id {ID} --client-certificate NAME"),
        format!("usage compare --subscription {ID} --meters NAME"),
        "offline inspect NAME".into(),
        "offline activate NAME".into(),
        "explain --from-log NAME".into(),
        "lab compare NAME".into(),
    ];
    for (name, code) in [("huge", "AZR5015"), ("/dev/zero", "AZR5016"), ("/dev/null", "AZR5016"), (".", "AZR5016")] {
        for line in &lines {
            let line = line.replace("NAME", name);
            let arguments: Vec<&str> = line.split(' ').collect();
            run(&mut alone(dir.path(), &arguments)).ends(2).says(code);
        }
    }
    run(&mut alone(dir.path(), &["stamp", "info", "--at", "s1"])).ends(2).says("AZR5015").says("stamps.json");
}

#[test]
fn a_secret_comes_through_a_pipe_by_any_of_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let azsreg = env!("CARGO_BIN_EXE_azsreg");
    // An address that nobody answers at: what is said then shows that the secret was taken.
    let words = "stamp info --pep 127.0.0.1:1 --pep-user 'D\\CloudAdmin' --connect-timeout 1 --pep-password";
    let lines = [
        format!("echo hidden | {azsreg} {words} -"),
        format!("echo hidden | {azsreg} {words} @/dev/stdin"),
        format!("echo hidden | {azsreg} {words} @/dev/fd/0"),
        format!("{azsreg} {words} @<(echo hidden)"),
        format!("{azsreg} {words} @/dev/fd/7 7< <(echo hidden)"),
        format!("mkfifo f; (echo hidden > f &); {azsreg} {words} @f"),
    ];
    for line in lines {
        let mut command = alone(dir.path(), &[]);
        let environment: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        command = Command::new("bash");
        for (name, value) in environment {
            value.map(|value| command.env(&name, value));
        }
        command.args(["-c", &line]).current_dir(dir.path()).stdin(Stdio::null());
        run(&mut command).ends(1).says("AZR2001");
    }
    // More than a secret is not taken from a pipe that never ends.
    let mut command = alone(dir.path(), &[INFO, &["--pep-password", "-"]].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    while stdin.write_all(&[b'x'; 65_536]).is_ok() {}
    Ran::of(child.wait_with_output().unwrap()).ends(2).says("AZR5015").says("1 MiB");
}

#[test]
fn a_log_is_never_something_else() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.json"), "{}").unwrap();
    symlink("elsewhere", dir.path().join("link")).unwrap();
    assert!(Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap().success());
    for name in ["t.json", "link", "pipe", "."] {
        run(&mut alone(dir.path(), &["explain", "--log-file", name])).ends(2).says("AZR5006");
    }
    assert_eq!(std::fs::read(dir.path().join("t.json")).unwrap(), b"{}");
    assert!(!dir.path().join("elsewhere").exists());
    assert!(std::fs::metadata(dir.path().join("pipe")).unwrap().file_type().is_fifo());
    for _ in 0..2 {
        run(&mut alone(dir.path(), &["explain", "--log-file", "log"])).ends(0);
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap().lines().count(), 2);
    assert_eq!(mode(&dir.path().join("log")), 0o600);
}

#[test]
fn few_descriptors_are_said_and_nothing_breaks() {
    let world = World::new();
    let mut said = 0;
    // As few as no command does with, and as many as each one does with.
    for limit in (3..=20).chain([31, 36, 40, 44, 64, 96, 104, 128]) {
        let state = world.dir.path().join(format!("state-{limit}"));
        for arguments in [&["register", "--billing-model", "development", "--plan"][..], &["rehearse"], &["explain"]] {
            let inner = world.both(0, &state, arguments);
            let mut command = Command::new("sh");
            command.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]).arg(inner.get_program());
            command.args(inner.get_args()).stdin(Stdio::null());
            for (name, value) in inner.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            let ran = run(&mut command);
            let text = format!("{}{}", ran.stdout, ran.stderr);
            assert!(!text.contains("panicked"), "ulimit -n {limit}, {arguments:?}: {text}");
            // Below that the system's loader can't even open the libraries.
            let loaded = !text.contains("error while loading shared libraries");
            if loaded && text.contains("error[AZR5018]") {
                said += 1;
                assert!(text.contains("ulimit -n") && ran.code == Some(1), "{:?} {text}", ran.code);
            } else if loaded {
                assert!(matches!(ran.code, Some(0 | 4)), "ulimit -n {limit}, {arguments:?}: {:?} {text}", ran.code);
            }
        }
    }
    assert!(said >= 30, "{said}");
}

/// The user and group that nobody signs in as.
const NOBODY: u32 = 65_534;

/// A command as another user, who may read what it needs and no more. None where this process may not become another user.
fn as_another(world: &World, state: &Path, arguments: &[&str]) -> Option<Command> {
    if !Command::new("true").uid(NOBODY).status().is_ok_and(|status| status.success()) {
        return None;
    }
    std::fs::set_permissions(world.dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let home = world.dir.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    // Out of the way of a target directory that the other user may not reach.
    let binary = world.dir.path().join("azsreg");
    if !binary.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_azsreg"), &binary).unwrap();
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let inner = world.both(0, state, arguments);
    let mut command = Command::new(binary);
    command.args(inner.get_args()).stdin(Stdio::null()).current_dir("/").env("HOME", home).env("USER", "second");
    for (name, value) in inner.get_envs() {
        let Some(value) = value.map(|value| value.to_str().unwrap()) else {
            command.env_remove(name);
            continue;
        };
        if name == "AZSREG_CA_FILE" {
            let copy = world.file("ca.pem", &std::fs::read_to_string(value).unwrap());
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o644)).unwrap();
            command.env(name, copy);
        } else if let Some(file) = value.strip_prefix('@') {
            command.env(name, std::fs::read_to_string(file).unwrap().trim_end());
        } else {
            command.env(name, value);
        }
    }
    command.uid(NOBODY).gid(NOBODY);
    Some(command)
}

fn cloud_id(world: &World) -> uuid::Uuid {
    let stamps = world.lab.world()["stamps"].clone();
    stamps[0]["cloud_id"].as_str().unwrap().parse().unwrap()
}

fn hold(world: &World, state: &Path) -> azsreg_operations::StampLock {
    let now = jiff::Timestamp::now();
    azsreg_operations::StampLock::take(state, cloud_id(world), "renew", now).unwrap()
}

const REGISTER: &[&str] = &["register", "--billing-model", "development"];
const PLAN: &[&str] = &["register", "--billing-model", "development", "--plan"];

#[test]
fn a_second_user_is_not_sent_to_another_state_directory() {
    let world = World::new();
    let state = world.dir.path().join("own");
    let held = hold(&world, &state);
    assert_eq!([mode(&state), mode(&state.join("locks"))], [0o700; 2]);
    let Some(mut second) = as_another(&world, &state, REGISTER) else { return };
    let ran = run(&mut second).ends(1).says("AZR5019").says("belongs to root").says("chmod 2770");
    assert!(!ran.stderr.to_lowercase().contains("choose another"), "{}", ran.stderr);
    drop(held);
    // Where the rights let it see who works, it is told that.
    for path in [&state, &state.join("locks")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let held = hold(&world, &state);
    for entry in std::fs::read_dir(state.join("locks")).unwrap() {
        std::fs::set_permissions(entry.unwrap().path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    run(&mut as_another(&world, &state, REGISTER).unwrap()).ends(5).says("AZR5001").says("renew of");
    run(&mut as_another(&world, &state, PLAN).unwrap()).ends(4).says("warning[AZR5001]").says("renew of");
    drop(held);
    run(&mut as_another(&world, &state, REGISTER).unwrap()).ends(1).says("AZR5019").says("belongs to root");
    let ran = run(&mut as_another(&world, &state, PLAN).unwrap()).ends(4);
    assert!(!ran.stderr.contains("AZR5001"), "{}", ran.stderr);
    assert_eq!(world.lab.world()["registrations"].as_array().unwrap().len(), 0);
}

#[test]
fn a_group_shares_one_state_directory() {
    let world = World::new();
    let state = world.dir.path().join("shared");
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, None, Some(NOBODY)).unwrap_or_default();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o2770)).unwrap();
    let held = hold(&world, &state);
    let Some(mut second) = as_another(&world, &state, REGISTER) else { return };
    run(&mut second).ends(5).says("AZR5001").says("renew of");
    drop(held);
    run(&mut as_another(&world, &state, REGISTER).unwrap()).ends(0);
    let id = cloud_id(&world);
    assert_eq!(mode(&state.join("locks")), 0o2770);
    for name in [format!("{id}.lock"), format!("{id}.holder")] {
        assert_eq!(mode(&state.join("locks").join(name)), 0o660);
    }
    // And the first goes on where the second was.
    let held = hold(&world, &state);
    drop(held);
    world.both(0, &state, REGISTER).output().map(Ran::of).unwrap().ends(0).says("othing to do");
}

#[test]
fn what_a_lab_says_of_itself_is_its_owners_alone() {
    use std::io::BufRead as _;
    let dir = tempfile::tempdir().unwrap();
    let (lab, mine) = (dir.path().join("state/lab"), dir.path().join("mine"));
    std::fs::write(&mine, "mine").unwrap();
    std::fs::create_dir_all(&lab).unwrap();
    for name in ["current.new", "current.json"] {
        symlink(&mine, lab.join(name)).unwrap();
    }
    let mut child = alone(dir.path(), &["lab", "up"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    // The line is written when the note is there.
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let note = lab.join("current.json");
    let (is_file, rights) = (note.symlink_metadata().unwrap().is_file(), mode(&note));
    let noted = std::fs::read_to_string(&note).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_file && rights == 0o600, "{rights:o}");
    let [noted, told] = [&noted, &line].map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
    let mut told = told.as_object().unwrap().clone();
    for member in ["format_version", "exit", "problems"] {
        told.remove(member).unwrap();
    }
    assert_eq!(noted, serde_json::Value::Object(told));
    assert_eq!(std::fs::read(&mine).unwrap(), b"mine");
}

/// A command as another user whose state directory can't be made, with a person to ask.
fn with_read_only_home(world: &World, arguments: &[&str]) -> Option<Command> {
    let home = world.dir.path().join("read-only");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = as_another(world, &home.join("azsreg"), arguments)?;
    command.env("AZSREG_NON_INTERACTIVE", "false");
    Some(command)
}

#[test]
fn no_question_comes_where_this_machine_refuses() {
    let world = World::new();
    for (arguments, exit, code) in [
        (&["login"][..], 1, "AZR5025"),
        (&["register", "--billing-model", "development", "--device-code"], 1, "AZR5003"),
        (&["renew", "--device-code"], 1, "AZR5003"),
        (&["move", "--to-resource-group", "other", "--device-code"], 1, "AZR5003"),
        (&["unregister", "--device-code"], 1, "AZR5003"),
        (&["repair", "--device-code"], 1, "AZR5003"),
        (&["role", "create", "--device-code"], 1, "AZR5003"),
    ] {
        let Some(mut command) = with_read_only_home(&world, arguments) else { return };
        let ran = run(&mut command).ends(exit).says(code).says("--state-dir").says("ermission denied");
        assert!(!ran.stderr.contains("enter the code"), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(requests(&world), 0);
    // What only looks is served, and says beforehand that the sign-in is not kept.
    let plan = &["register", "--billing-model", "development", "--device-code", "--plan"];
    let mut command = with_read_only_home(&world, plan).unwrap();
    let ran = run(command.env_remove("AZSREG_BRIDGE_REFRESH_TOKEN")).ends(4).says("enter the code");
    let (warned, asked) = (ran.stderr.find("warning[AZR5025]"), ran.stderr.find("enter the code"));
    assert!(warned.is_some() && warned < asked, "{}", ran.stderr);
}

/// How many requests the stamp's privileged endpoint has seen.
fn requests(world: &World) -> u64 {
    let asked = world.control_with("GET", "/stamps/stamp1/logons", &serde_json::Value::Null);
    asked["requests"].as_u64().unwrap()
}

#[test]
fn a_stamp_that_is_worked_on_is_said_before_a_code_is_shown() {
    let world = World::new();
    let state = world.state();
    let held = hold(&world, &state);
    let register = |more: &[&str]| {
        let words = [REGISTER, &["--device-code"], more].concat();
        let ran = run(world.both(0, &state, &words).env("AZSREG_NON_INTERACTIVE", "false")).ends(5).says("AZR5001");
        assert!(!ran.stderr.contains("enter the code"), "{}", ran.stderr);
    };
    register(&[]);
    // Where stamps.json says its cloud id, the stamp is not asked either.
    let before = requests(&world);
    let stamp = &world.lab.descriptor().stamps[0];
    let entry = serde_json::json!({"stamps": [{
        "name": "Lisbon", "pep": stamp.pep, "pep_user": stamp.pep_user, "cloud_id": format!("{{{}}}", cloud_id(&world)),
        "pep_password": format!("@{}", stamp.pep_password_file.display()),
    }]});
    std::fs::write(state.join("stamps.json"), format!("\u{feff}{entry}")).unwrap();
    register(&["--at", "Lisbon"]);
    assert_eq!(requests(&world), before);
    drop(held);
}

#[test]
fn what_is_to_be_written_is_looked_at_before_the_stamp_is_asked() {
    let world = World::new();
    let (mine, nowhere) = (world.file("mine", "mine").display().to_string(), world.path("no/such/file"));
    for (command, more) in [
        ("token", &["--billing-model", "capacity", "--agreement-number", "1"][..]),
        ("deactivate", &["--yes"]),
        ("renew start", &["--billing-model", "development", "--yes"]),
    ] {
        for (out, code) in [(&mine, "AZR5006"), (&nowhere, "AZR5003")] {
            let words: Vec<&str> = ["offline"].into_iter().chain(command.split(' ')).collect();
            run(&mut world.at_stamp(&[&words, more, &["--out", out]].concat())).says(code);
        }
    }
    assert_eq!(requests(&world), 0);
    assert_eq!(std::fs::read(&mine).unwrap(), b"mine");
    // So are the names that Azure would not take.
    for arguments in [
        &["renew", "--name", "a/b"][..],
        &["move", "--to-resource-group", "a/b"],
        &["change-subscription", "--to-subscription", "5e2f6b1c-7d3a-4f0e-9a51-1f2e3d4c5b6a", "--to-name", "a/b"],
        &["check", "--resource-group", "a/b"],
    ] {
        world.run(arguments).ends(2).says("AZR1001").says("a/b");
    }
    assert_eq!(requests(&world), 0);
    // Without a registration that is named there is nothing to sign in for.
    run(&mut world.at_azure(&["offline", "key", "--out", &world.path("k")])).ends(2).says("AZR1001");
}

#[test]
fn a_password_that_is_not_meant_is_never_sent() {
    let world = World::new();
    let password = std::fs::read_to_string(&world.lab.descriptor().stamps[0].pep_password_file).unwrap();
    let password = password.trim_end();
    let (before, after) = password.split_at(3);
    let info = |secret: &[u8], more: &[&str]| {
        let file = world.dir.path().join("password");
        std::fs::write(&file, secret).unwrap();
        let given = format!("@{}", file.display());
        run(&mut world.at_stamp(&[&["stamp", "info", "--pep-password", &given], more].concat()))
    };
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let count = || {
        let stamp = &world.lab.world()["stamps"][0];
        (stamp["logons_failed"].as_u64().unwrap(), requests(&world))
    };
    for (secret, code, named) in [
        (format!("{before}\u{200b}{after}"), "AZR1021", "a zero width space (U+200B) at character 4"),
        (format!("{password}\u{200b}\n"), "AZR1021", "U+200B"),
        (format!("\u{feff}\u{feff}{password}"), "AZR1021", "a byte order mark (U+FEFF) at character 1"),
        (format!("{before}\r{after}"), "AZR1021", "a carriage return (U+000D) at character 4"),
        (format!("{password}\nuser\n"), "AZR1021", "a line end at character"),
        (format!("{before}\u{201d}{after}"), "AZR1022", "a right double quotation mark (U+201D) at character 4"),
        (format!("{password}\u{a0}\r\n"), "AZR1022", "a no-break space (U+00A0)"),
    ] {
        for bytes in [secret.clone().into_bytes(), wide(&secret), [b"\xff\xfe".to_vec(), wide(&secret)].concat()] {
            let ran = info(&bytes, &[]).ends(2).says(code).says(named);
            assert!(!ran.stderr.contains(after), "{}", ran.stderr);
            assert_eq!(ran.stderr.contains("--password-as-is"), code == "AZR1022", "{}", ran.stderr);
        }
        let mut variable = world.at_stamp(&["stamp", "info"]);
        run(variable.env("AZSREG_PEP_PASSWORD", &secret)).ends(2).says(code).says(named);
    }
    assert_eq!(count(), (0, 0), "one was sent");
    for end in ["", "\n", "\r\n", "\r"] {
        let text = format!("{password}{end}");
        for bytes in [text.clone().into_bytes(), format!("\u{feff}{text}").into_bytes(), wide(&text)] {
            info(&bytes, &[]).ends(0);
        }
        run(world.at_stamp(&["stamp", "info"]).env("AZSREG_PEP_PASSWORD", &text)).ends(0);
    }
    assert_eq!(count().0, 0);
    // What the person says is meant is sent, once.
    info(format!("{before}\u{201d}{after}\n").as_bytes(), &["--password-as-is"]).ends(1).says("AZR2002");
    assert_eq!(count().0, 1);
}

#[test]
fn what_surrounds_a_value_is_stripped_and_what_stands_in_it_is_named() {
    let world = World::new();
    // A file of variables that was written on Windows: each value ends with a carriage return.
    let mut command = world.both(0, &world.state(), PLAN);
    let variables: Vec<(String, String)> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned())))
        .filter(|(name, _)| name.starts_with("AZSREG_"))
        .collect();
    for (name, value) in &variables {
        command.env(name, format!("{value}\r"));
    }
    assert!(variables.len() > 8, "{variables:?}");
    command.env("AZSREG_NO_PROGRESS", "true\r").env("AZSREG_MARKETPLACE", "\u{feff}on\r");
    run(&mut command).ends(4);
    let id = world.lab.descriptor().subscription_id;
    for given in [format!("{{{id}}}"), format!("\u{200b}{id}\u{a0}"), format!("\u{201c}{id}\u{201d}")] {
        world.run(&["list", "--subscription", &given]).ends(0);
    }
    for (option, value, named) in [
        (
            "--subscription",
            "5e2f6b1c-7d3a\u{200b}-4f0e-9a51-1f2e3d4c5b6a",
            "a zero width space (U+200B) at character 14",
        ),
        ("--name", "Con\u{a0}toso", "a no-break space (U+00A0) at character 4"),
        ("--resource-group", "azure\u{2013}stack", "an en dash (U+2013) at character 6"),
        ("--location", "west\u{ad}europe", "a soft hyphen (U+00AD) at character 5"),
        ("--pep", "10.0.0.1\u{feff}:5985", "a byte order mark (U+FEFF) at character 9"),
        ("--cloud-endpoint", "https://man\u{200d}agement.example", "a zero width joiner (U+200D) at character 12"),
        ("--ca-file", "/tmp/no\u{202e}ne.pem", "a mark that turns the direction of text (U+202E) at character 8"),
    ] {
        world.run(&[PLAN, &[option, value]].concat()).ends(2).says("AZR1020").says(named);
    }
    let mut command = world.both(0, &world.state(), PLAN);
    command.env("AZSREG_LOCATION", "west\u{200b}europe");
    run(&mut command).ends(2).says("AZR1020").says("(from AZSREG_LOCATION)");
    world
        .run(&[PLAN, &["--pep-user", "AZURESTACK\\\\CloudAdmin"]].concat())
        .ends(2)
        .says("AZR1023")
        .says("--pep-user 'AZURESTACK\\CloudAdmin'");
    assert_eq!(world.lab.world()["stamps"][0]["logons_failed"], 0);
}

#[test]
fn a_token_is_taken_as_people_carry_it() {
    let world = World::new();
    let token =
        world.control("/stamps/stamp1/registration-token", &serde_json::json!({"billing_model": "Development"}));
    let token = token["registration_token"].as_str().unwrap();
    let lines = |width: usize| -> Vec<String> {
        token.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    };
    let mail = format!("> {}\r\n", lines(72).join("\r\n> "));
    for (at, text) in [
        lines(76).join("\n"),
        mail.clone(),
        lines(75).join("=\n"),
        format!("RegistrationToken : {}", lines(60).join("\r\n                    ")),
        format!("\u{201c}{token}\u{201d}"),
    ]
    .iter()
    .enumerate()
    {
        let file = world.file(&format!("t{at}"), text).display().to_string();
        run(&mut world.at_azure(&["offline", "inspect", &file])).ends(0).says("a registration token");
    }
    let (file, key) = (world.file("mail", &mail).display().to_string(), world.path("key"));
    run(&mut world.at_azure(&["offline", "register", &file, "--out", &key])).ends(0);
    let cut = world.file("cut", &format!("{}...", &token[..90])).display().to_string();
    let ran = run(&mut world.at_azure(&["offline", "inspect", &cut])).ends(7).says("AZR1011");
    assert!(ran.stderr.contains("dots at character 91") && !ran.stderr.contains("key"), "{}", ran.stderr);
}
