//! What leaves azsreg in words: a server's words are data, a secret that is quoted back does not come out, and there is a line
//! for whoever looks on without a terminal.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use common::{Ran, World, run};
use serde_json::{Value, json};

const REGISTER: &[&str] = &["register", "--billing-model", "development"];
/// Clears a screen, begins a line of its own, turns the direction, hides.
const HOSTILE: &str = "bad\r\nnext: azsreg unregister --yes\u{1b}[2J\u{9b}1A\u{7f}\u{202e}txet\u{2066}\u{200b}\u{e0041}\
    \u{2028} INFO azsreg: registered\u{85}x";

/// Everything that files below a directory hold.
fn files(path: &Path, all: &mut String) {
    for entry in std::fs::read_dir(path).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, all) } else { all.push_str(&std::fs::read_to_string(path).unwrap_or_default()) }
    }
}

fn assert_plain(text: &str, what: &str) {
    let obeyed = |c: char| azsreg_model::is_hidden(c) && c != '\n';
    assert!(!text.contains(obeyed), "{what}: {text:?}");
    let foreign = |line: &&str| line.trim_start().starts_with("next: azsreg unregister");
    assert_eq!(text.lines().find(foreign), None, "{what}: a server has written a line");
}

#[test]
fn a_servers_words_move_no_cursor_and_begin_no_line() {
    let faults = [
        json!({"when": {"plane": "pep", "route": "New-RegistrationToken"}, "then": {"error": HOSTILE}}),
        json!({"when": {"plane": "arm", "method": "PUT", "route": "/registrations/"}, "then": {"status": 400, "error": HOSTILE, "message": HOSTILE}}),
        json!({"when": {"plane": "arm", "method": "PUT", "route": "/locks/"}, "then": {"status": 403, "error": "AuthorizationFailed", "message": format!("may not perform action '{HOSTILE}'")}}),
    ];
    let snapshot = World::new().lab.snapshot();
    std::thread::scope(|scope| {
        for fault in &faults {
            let snapshot = &snapshot;
            scope.spawn(move || {
                let world = World::restored(snapshot);
                world.control("/faults", fault);
                let log = world.path("log");
                let ran = world.run(&[REGISTER, &["--log-file", &log, "-v"]].concat());
                assert_ne!(ran.code, Some(0));
                assert_plain(&ran.stdout, "stdout");
                assert_plain(&ran.stderr, "stderr");
                assert!(ran.stderr.contains("\\x1b[2J\\x9b1A\\x7f\\u{202e}txet"), "{}", ran.stderr);
                let log = std::fs::read_to_string(log).unwrap();
                assert_plain(&log, "log");
                let begins = |line: &&str| line.starts_with("20") && line.contains("Z ");
                assert_eq!(log.lines().find(|line| !begins(line)), None, "a line of the log is an event");
                let ran = world.run(&[REGISTER, &["-o", "json"]].concat());
                assert_plain(&ran.stdout, "JSON");
                let text = ran.json().to_string();
                assert!(text.contains('\u{9b}') && text.contains('\u{202e}'), "JSON keeps every character: {text:?}");
            });
        }
    });
}

#[test]
fn names_of_files_and_tokens_move_no_cursor() {
    let world = World::new();
    for arguments in [
        &["offline", "inspect", "no\n next: such\u{1b}[2J\u{202e}file"][..],
        &["offline", "activate", "no\nnext: azsreg unregister\u{9b}2J"],
        &["list", "--subscription", "x\u{1b}[2J\nnext: azsreg unregister"],
    ] {
        for output in ["human", "json"] {
            let ran = world.run(&[arguments, &["-o", output]].concat());
            assert_ne!(ran.code, Some(0));
            assert_plain(&ran.stderr, output);
            assert_plain(&ran.stdout, output);
        }
    }
}

/// What a server may make of a text that it quotes.
fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let percent = |text: &str| -> String {
        let byte = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
        text.bytes().map(byte).collect()
    };
    let utf16: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let middle = secret.floor_char_boundary(secret.len() / 2);
    let mut forms = vec![
        ("as it is", secret.to_owned()),
        ("base64", BASE64_STANDARD.encode(secret)),
        ("base64 of UTF-16", BASE64_STANDARD.encode(utf16)),
        ("URL", percent(secret)),
        ("JSON", serde_json::to_string(secret).unwrap().trim_matches('"').to_owned()),
    ];
    if secret.len() >= 32 {
        let (start, end) = secret.split_at(middle);
        forms.push(("wrapped", format!("{start}\r\n     | {end}")));
        forms.push(("its first 16", secret[..16].to_owned()));
        forms.push(("its last 16", secret[secret.len() - 16..].to_owned()));
    }
    forms
}

/// A secret is nowhere, in no form, not 16 characters of it.
fn assert_gone(all: &str, secret: &str, what: &str) {
    let plain: String = all.chars().filter(|c| !c.is_whitespace()).collect();
    for (form, text) in forms(secret).iter().filter(|(form, _)| *form != "wrapped") {
        let start = &text[..text.floor_char_boundary(16)];
        let end = &text[text.ceil_char_boundary(text.len().saturating_sub(16))..];
        for part in [start, end] {
            let from = plain.find(part).map(|at| plain[..at].chars().rev().take(60).collect::<Vec<_>>());
            let from: Option<String> = from.map(|chars| chars.into_iter().rev().collect());
            assert_eq!(from, None, "{what}, {form}: it is seen after this");
        }
    }
}

/// Runs a command that fails with a server's words, in each way of output; gives everything that was said and kept.
fn said(world: &World, state: &str, command: &dyn Fn() -> Command) -> String {
    let log = world.path("quoted.log");
    let mut all = String::new();
    for extra in [&["-o", "human"][..], &["-o", "json", "-v"]] {
        let ran = run(command().args(extra).args(["--log-file", &log]));
        assert_ne!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        all.push_str(&ran.stdout);
        all.push_str(&ran.stderr);
    }
    all.push_str(&std::fs::read_to_string(&log).unwrap());
    files(&world.dir.path().join(state), &mut all);
    all
}

#[test]
fn what_a_stamp_or_azure_quotes_of_a_secret_does_not_come_out() {
    let world = World::new();
    world.signed_in(&mut world.command(0, &world.state()));
    let told = world.lab.descriptor();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap().trim().to_owned();
    let secrets = [
        ("the refresh token", read(&world.dir.path().join("bridge-token"))),
        ("the client secret", read(&told.client_secret_file)),
        ("the password", read(&told.stamps[0].pep_password_file)),
        ("the stamp's client secret", read(&told.stamps[0].stamp_client_secret_file)),
    ];
    let quoted: Vec<String> = secrets
        .iter()
        .flat_map(|(what, secret)| {
            forms(secret).into_iter().map(move |(form, text)| format!("{what} as {form} <{text}> end"))
        })
        .collect();
    let quoted = format!("the token is not good: {}", quoted.join("; "));
    let faults = [
        json!({"when": {"plane": "pep", "route": "New-AzureBridgeServicePrincipal"}, "then": {"error": quoted}}),
        json!({"when": {"plane": "pep", "route": "Get-AzureStackStampInformation"}, "then": {"error": quoted}}),
        json!({"when": {"plane": "arm", "method": "PUT", "route": "/resourcegroups/"}, "then": {"status": 400, "error": "Bad", "message": quoted}}),
        json!({"when": {"plane": "login"}, "then": {"status": 400, "error": "invalid_client", "message": quoted}}),
    ];
    for fault in &faults {
        world.control("/faults", fault);
        let all = said(&world, "state", &|| world.both(0, &world.state(), REGISTER));
        for (what, secret) in &secrets {
            assert_gone(&all, secret, what);
        }
        world.control_with("DELETE", "/faults", &Value::Null);
    }
}

#[test]
fn a_token_and_a_key_that_are_quoted_do_not_come_out() {
    let away = World::of(vec![azsreg_lab::StampOptions {
        identity: "adfs".into(),
        connected: false,
        ..azsreg_lab::StampOptions::default()
    }]);
    let (token, key) = (away.path("t"), away.path("k"));
    let ask = ["offline", "token", "--billing-model", "capacity", "--agreement-number", "A", "--out", &token];
    run(&mut away.at_stamp(&ask)).ends(0);
    let inside = |file: &str, member: &str| {
        let bundle: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        bundle["payload"][member].as_str().unwrap().to_owned()
    };
    let quoting =
        |secret: &str| forms(secret).iter().map(|(form, text)| format!("{form} <{text}> ")).collect::<String>();
    let secret = inside(&token, "registration_token");
    away.control(
        "/faults",
        &json!({"when": {"plane": "arm", "method": "PUT", "route": "/registrations/"}, "then": {"status": 400, "error": "BadRequest", "message": quoting(&secret)}}),
    );
    let failed = said(&away, "state-azure", &|| away.at_azure(&["offline", "register", &token, "--out", &key]));
    assert_gone(&failed, &secret, "the registration token");
    away.control_with("DELETE", "/faults", &Value::Null);
    run(&mut away.at_azure(&["offline", "register", &token, "--out", &key])).ends(0);
    let secret = inside(&key, "activation_key");
    away.control(
        "/faults",
        &json!({"when": {"plane": "pep", "route": "New-AzureStackActivation"}, "then": {"error": quoting(&secret)}}),
    );
    let failed = said(&away, "state-stamp", &|| away.at_stamp(&["offline", "activate", &key]));
    assert_gone(&failed, &secret, "the activation key");
}

#[test]
fn a_licence_that_is_quoted_does_not_come_out() {
    let world = World::new();
    let secret = "LICENCE CANARY 0123456789/+abc \"quoted\" & more";
    let license = format!("@{}", world.file("license", secret).display());
    let quoted = forms(secret).iter().map(|(form, text)| format!("{form} <{text}> ")).collect::<String>();
    let fault = json!({"when": {"plane": "pep", "route": "Save-HCILicense"}, "then": {"error": quoted}});
    world.control("/faults", &fault);
    let all = said(&world, "state", &|| world.both(0, &world.state(), &["stamp", "hci-license", &license]));
    assert!(all.contains("Save-HCILicense"));
    assert_gone(&all.replace("LICENCE CANARY is", ""), secret, "the licence");
}

#[test]
fn a_short_password_that_is_an_everyday_word_changes_nothing_of_ours() {
    let snapshot = World::new().lab.snapshot();
    let registered = |password: &str, output: &str| {
        let world = World::restored(&snapshot);
        let file = format!("@{}", world.file("password", password).display());
        let mut command = world.both(0, &world.state(), REGISTER);
        command.args(["--transcript-share", r"\\files\azurestack", "--transcript-user", r"CONTOSO\azurestack"]);
        let ran = run(command.args(["--transcript-password", &file, "-o", output])).ends(0);
        let text = format!("{}{}", ran.stdout, ran.stderr);
        // What is drawn anew in each world, and the time.
        let drawn = |word: &str| word.len() >= 12 && word.chars().filter(char::is_ascii_digit).count() > 3;
        let apart = |c: char| !(c.is_alphanumeric() || "-:.".contains(c));
        text.split_inclusive(apart).filter(|word| !drawn(word)).collect::<String>()
    };
    for output in ["human", "json"] {
        let (usual, word) = (registered("Tr4nscript!", output), registered("azurestack", output));
        for (word, usual) in word.lines().zip(usual.lines()) {
            assert_eq!(word, usual);
        }
        assert_eq!(word, usual);
        assert!(word.contains("azurestack"), "{word}");
    }
    // In a server's words it is taken out, as a word; an id is none.
    let world = World::restored(&snapshot);
    let file = format!("@{}", world.file("password", "azurestack").display());
    let fault = json!({"when": {"plane": "pep", "route": "New-RegistrationToken"}, "then": {"error": "the password 'azurestack' of x.azurestack.external is wrong"}});
    world.control("/faults", &fault);
    let mut command = world.both(0, &world.state(), REGISTER);
    command.args([
        "--transcript-share",
        r"\\files\t",
        "--transcript-user",
        r"CONTOSO\t",
        "--transcript-password",
        &file,
    ]);
    run(&mut command).says("the password '[redacted]' of x.azurestack.external is wrong");
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let world = World::new();
    let client = "abc8Q~defghijklmnopqrstuvwxyzABCDEFGHIJ";
    let jws = format!("eyJhbGciOiJSUzI1NiJ9.{}.{}", "eyJhIjoxfQ".repeat(4), "c2lnbmF0dXJl".repeat(4));
    let base64 = BASE64_STANDARD.encode("a secret of more than forty characters, as bytes");
    let log = world.path("log");
    let secrets = [client, &jws, &base64];
    let says = |ran: Ran, secret: &str| {
        let mut all = format!("{}{}", ran.stdout, ran.stderr);
        all.push_str(&std::fs::read_to_string(&log).unwrap_or_default());
        assert_ne!(ran.code, Some(0), "{all}");
        assert!(!all.contains(&secret[4..20]), "{all}");
        all
    };
    for secret in secrets {
        let shown = format!("{}... ({} characters)", &secret[..4], secret.len());
        for output in ["human", "json"] {
            let command = |arguments: &[&str]| {
                let mut command = world.both(0, &world.state(), arguments);
                command.args(["-o", output, "--log-file", &log]);
                command
            };
            let given = run(command(REGISTER).env("AZSREG_CLIENT_ID", secret));
            assert!(says(given, secret).contains(&shown), "{shown}");
            let given = run(command(REGISTER).args(["--pep-user", secret]));
            assert!(says(given, secret).contains(&shown), "{shown}");
            says(run(command(REGISTER).arg(secret)), secret);
            says(run(command(REGISTER).arg(format!("--client-sekret={secret}"))), secret);
            says(run(&mut command(&[secret])), secret);
            says(run(command(REGISTER).args(["--pep", secret])), secret);
            says(run(command(&["status"]).args(["--at", secret])), secret);
        }
    }
    let ran = run(world.both(0, &world.state(), REGISTER).args(["--pep-password", "hunter2", "in two words"]));
    assert!(!ran.stderr.contains("hunter2") && !ran.stderr.contains("two words"), "{}", ran.stderr);
}

/// On Linux there is a file that takes nothing.
#[cfg(target_os = "linux")]
#[test]
fn what_could_not_be_printed_is_said_and_what_was_done_stays_done() {
    let world = World::new();
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let into_full = |command: &mut Command| Ran::of(command.stdout(full()).output().unwrap());
    let ran = into_full(&mut world.both(0, &world.state(), REGISTER)).ends(0);
    assert!(ran.stderr.contains("could not be written in full"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Your environment is now registered and activated"), "{}", ran.stderr);
    let ran = into_full(&mut world.both(0, &world.state(), &[REGISTER, &["-o", "json"]].concat())).ends(0);
    assert!(ran.stderr.contains("\"outcome\""), "{}", ran.stderr);
    // Where the output is all that was asked for, it is missing.
    into_full(&mut world.both(0, &world.state(), &["status"])).ends(1);
    into_full(&mut world.both(0, &world.state(), &["stamp", "info"])).ends(1);
}

#[test]
fn without_a_terminal_each_step_is_told_as_it_begins_and_ends() {
    let snapshot = World::new().lab.snapshot();
    for extra in [&[][..], &["-o", "json"]] {
        let world = World::restored(&snapshot);
        let ran = world.run(&[REGISTER, extra].concat()).ends(0);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        let begins = lines.iter().position(|line| line.ends_with("] Activate the stamp")).expect(&ran.stderr);
        assert!(lines[begins].starts_with('['), "{}", ran.stderr);
        assert!(lines[begins + 1].starts_with("  done      activation "), "{}", ran.stderr);
        assert!(lines.iter().all(|line| !line.starts_with('[') || line.len() <= 80), "{}", ran.stderr);
        assert!(!ran.stderr.contains('\u{1b}'), "{}", ran.stderr);
        if !extra.is_empty() {
            assert_eq!(ran.json()["outcome"], "verified", "{}", ran.stdout);
        }
        let world = World::restored(&snapshot);
        let ran = world.run(&[REGISTER, extra, &["--no-progress"]].concat()).ends(0);
        assert_eq!(ran.stderr, "");
    }
    // A look has no steps, and is not told of.
    let world = World::restored(&snapshot);
    assert_eq!(world.run(&["status"]).stderr, "");
}

/// A test build says it sooner than every 30 seconds.
#[cfg(feature = "crash-points")]
#[test]
fn a_wait_is_told_with_what_for_since_when_and_until_when() {
    let hung = |plane: &str, method: &str, route: &str, what: &'static str, answer: bool| {
        let world = World::new();
        let when = json!({"plane": plane, "method": method, "route": route});
        world.control("/faults", &json!({"when": when, "then": {"hang": true}}));
        for extra in [&[][..], &["-o", "json"]] {
            let mut command = world.both(0, &world.state(), REGISTER);
            command.args(extra).env("AZSREG_WAITS_EVERY_MS", "150").stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
            let (mut told, mut named) = (0, false);
            // What is not said by then is not said.
            for line in lines.take(100) {
                if line.starts_with("waiting ") && line.contains(what) {
                    told += 1;
                    assert!(
                        line.contains(", since ") && line.contains(", tries until ") && line.ends_with(" UTC"),
                        "{line}"
                    );
                    assert!(line.len() <= 80, "{line}");
                }
                named |= line.starts_with("  no answer of 127.0.0.1:") && line.contains(", given up at ");
                if told >= 3 && (named || !answer) {
                    break;
                }
            }
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(told >= 3 && (named || !answer), "{what}: told {told} times, named: {named}");
        }
    };
    std::thread::scope(|scope| {
        // An application signs in when it first needs a token.
        scope.spawn(|| hung("login", "POST", "/token", "checking", true));
        scope.spawn(|| hung("arm", "PUT", "/resourcegroups/", "Create the resource group", true));
        scope.spawn(|| hung("pep", "", "New-AzureStackActivation", "Activate the stamp", false));
    });
    // Not where it was said not to.
    let world = World::new();
    let fault = json!({"when": {"plane": "pep", "route": "New-AzureStackActivation"}, "then": {"delay": 600}});
    world.control("/faults", &fault);
    let mut command = world.both(0, &world.state(), &[REGISTER, &["--no-progress"]].concat());
    let ran = run(command.env("AZSREG_WAITS_EVERY_MS", "50")).ends(0);
    assert_eq!(ran.stderr, "");
}

/// A command in a shell's line, with the arguments to come.
#[cfg(unix)]
fn shell_of(command: &Command, line: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).arg(command.get_program());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[cfg(unix)]
#[test]
fn a_log_that_can_not_be_written_decides_nothing() {
    let world = World::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let register = ["register", "--billing-model", "development", "-v"];
    let mut command = world.both(0, &world.state(), &register);
    assert_eq!(command.stderr(full()).output().unwrap().status.code(), Some(0));
    common::assert_registered_once(&world.lab.world(), "with a full stderr");
    // A reader that has gone.
    let mut child = world
        .both(0, &world.state(), &["unregister", "--yes", "-v"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(world.lab.world()["registrations"], json!([]));
    // Without a stderr at all.
    let mut shell = shell_of(&world.both(0, &world.state(), &[]), "exec \"$0\" \"$@\" 2>&-");
    shell.args(register);
    assert_eq!(shell.output().unwrap().status.code(), Some(0));
    common::assert_registered_once(&world.lab.world(), "without a stderr");
    // A log file that can't grow any more: one warning.
    let log = world.path("log");
    let mut shell = shell_of(&world.both(0, &world.state(), &[]), "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"");
    let ran = run(shell.args(["list", "--log-file", &log])).ends(0);
    assert_eq!(ran.stderr.matches("the log can't be written").count(), 1, "{}", ran.stderr);
}

#[cfg(unix)]
#[test]
fn who_runs_it_comes_from_the_system_where_no_variable_says() {
    let world = World::new();
    let mut command = world.both(0, &world.state(), REGISTER);
    for name in ["USER", "LOGNAME", "USERNAME", "HOSTNAME", "COMPUTERNAME"] {
        command.env_remove(name);
    }
    run(&mut command).ends(0);
    let mut journals = String::new();
    files(&world.state(), &mut journals);
    let id = Command::new("id").arg("-un").output().unwrap();
    let name = String::from_utf8(id.stdout).unwrap();
    assert!(journals.contains(&format!("{}@", name.trim())) && !journals.contains("unknown"), "{name}: {journals}");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let world = World::new();
    let mut command = world.both(0, &world.state(), REGISTER);
    for name in [
        "PLAN",
        "NAME",
        "LOCATION",
        "LOG_FILE",
        "OUTPUT",
        "NO_PROGRESS",
        "TENANT",
        "AT",
        "CLOUD",
        "RESOURCE_GROUP",
        "VERBOSE",
    ] {
        command.env(format!("AZSREG_{name}"), "");
    }
    run(&mut command).ends(0);
    common::assert_registered_once(&world.lab.world(), "with empty variables");
}

/// A command without a variable, a lab or a home.
fn bare_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_azsreg"));
    command.env_clear().env("AZSREG_NON_INTERACTIVE", "true").stdin(Stdio::null());
    command
}

/// Runs it with a state directory of its own.
fn bare(arguments: &[&str]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    run(bare_command().env("AZSREG_STATE_DIR", dir.path()).args(arguments))
}

#[test]
fn what_is_missing_is_named_all_at_once() {
    let ran = bare(&["register", "--billing-model", "capacity"]).ends(2);
    let next = ran.stderr.split("next:").nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    for option in ["--subscription", "--pep <", "--pep-user", "--agreement-number"] {
        assert!(ran.stderr.contains(option) && next.contains(option), "{option}: {}", ran.stderr);
    }
    let ran = bare(&["stamp", "info"]).ends(2);
    for option in ["--pep <", "--pep-user", "--pep-password"] {
        assert!(ran.stderr.contains(option), "{option}: {}", ran.stderr);
    }
}

#[test]
fn what_is_alike_is_not_run() {
    let ran = bare(&["status", "--watch"]).ends(2);
    assert!(!ran.stderr.contains("--at") && ran.stderr.contains("next: azsreg status --help"), "{}", ran.stderr);
    let ran = bare(&["-v", "status", "--watch"]).ends(2);
    assert!(ran.stderr.contains("next: azsreg status --help"), "{}", ran.stderr);
    let ran = bare(&["register", "--biling-model", "capacity"]).ends(2);
    assert!(
        ran.stderr.contains("'--billing-model'") && ran.stderr.contains("next: azsreg register --help"),
        "{}",
        ran.stderr
    );
    let ran = bare(&["unregister", "--force"]).ends(2);
    assert!(ran.stderr.contains("next: azsreg unregister --help"), "{}", ran.stderr);
}

#[test]
fn what_is_said_to_be_missing_is_missing() {
    let names = |arguments: &[&str], variables: &[(&str, &str)], wanted: &[&str], other: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = bare_command();
        command.env("AZSREG_STATE_DIR", dir.path()).envs(variables.iter().copied());
        let ran = run(command.args(arguments)).ends(2);
        let line = ran.stderr.lines().next().unwrap_or_default();
        for option in wanted {
            assert!(line.contains(option), "{arguments:?}: {option} is missing: {line}");
        }
        for option in other {
            assert!(!line.contains(option), "{arguments:?}: {option} is not missing: {line}");
        }
    };
    let stamp = ["--pep <", "--pep-user", "--pep-password"];
    // A name is no billing model.
    names(&["register", "--name", "prod-capacity"], &[], &stamp, &["--agreement-number"]);
    // What stands before the command, and what a variable says, counts.
    names(
        &["-v", "register", "--billing-model", "capacity"],
        &[],
        &[&stamp[..], &["--agreement-number"]].concat(),
        &[],
    );
    names(&["register"], &[("AZSREG_BILLING_MODEL", "capacity")], &["--agreement-number"], &["--billing-model"]);
    names(&["register", "--billing-model", "custom"], &[], &["--ms-asset-tag"], &["--agreement-number"]);
    // A change knows the agreement of the registration; a stamp that is gone is not asked.
    names(&["set", "--billing-model", "capacity"], &[], &stamp, &["--agreement-number"]);
    names(&["unregister", "--orphan", "azure", "--name", "x"], &[], &["--subscription"], &["--pep"]);
    names(&["list"], &[], &["--subscription"], &["--pep"]);
}

#[test]
fn what_is_alike_is_measured_by_the_word_that_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let stamps =
        json!({"stamps": [{"name": "Lisbon", "pep": ["127.0.0.1:9"], "pep_user": "A\\B", "pep_password": "@pw"}]});
    std::fs::write(dir.path().join("stamps.json"), stamps.to_string()).unwrap();
    let mut command = bare_command();
    let ran = run(command.env("AZSREG_STATE_DIR", dir.path()).args(["status", "--at", "Lisbon", "--watch"])).ends(2);
    assert!(ran.stderr.contains("'--watch'") && !ran.stderr.contains("'--at'"), "{}", ran.stderr);
}
