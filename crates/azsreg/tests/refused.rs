//! Each bad input with what the operator sees: stdout, stderr and exit code together. Nothing is changed by any of them.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use azsreg_lab::StampOptions;
use common::{World, run};
use serde_json::json;

/// What differs from run to run is named in place of shown.
fn shown(world: Option<&World>, command: &mut Command) -> String {
    let ran = run(command);
    let mut text = format!("exit: {}\n--- stdout\n{}--- stderr\n{}", ran.code.unwrap_or(-1), ran.stdout, ran.stderr);
    if let Some(world) = world {
        let told = world.lab.descriptor();
        let temp = told.ca_file.parent().unwrap().display().to_string();
        text = text.replace(&temp, "[lab]").replace(&world.dir.path().display().to_string(), "[dir]");
    }
    text
}

macro_rules! snapshot {
    ($name:literal, $text:expr) => {
        insta::with_settings!({filters => vec![
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[guid]"),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
            (r"os error \d+", "os error [n]"),
        ], prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

/// The world after a refusal is the world before it.
fn unchanged(world: &World) {
    let now = world.lab.world();
    for list in ["groups", "registrations", "locks", "role_assignments", "service_principals"] {
        assert_eq!(now[list].as_array().unwrap().len(), 0, "{list}");
    }
    assert!(now["stamps"].as_array().unwrap().iter().all(|s| s["activation"].is_null() && s["bridge"].is_null()));
    assert!(!world.state().join("journals").exists(), "no journal is begun for what is refused");
}

/// A command that no socket answers: refused from the words alone.
fn words(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_azsreg"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AZSREG_") {
            command.env_remove(name);
        }
    }
    let dir = std::env::temp_dir().join("azsreg-test-no-state");
    command.env("AZSREG_STATE_DIR", dir).env("AZSREG_NON_INTERACTIVE", "true");
    command.env("AZSREG_PEP_PASSWORD", "from the environment");
    command.args(["register", "--pep", "192.0.2.1", "--subscription", "11111111-1111-4111-8111-111111111111"]);
    command.args(arguments);
    command
}

#[test]
fn from_the_words_alone() {
    const USER: [&str; 2] = ["--pep-user", "AZURESTACK\\CloudAdmin"];
    let payg = ["--billing-model", "pay-as-you-use"];
    let with = |rest: &[&'static str]| [&USER[..], &payg[..], rest].concat();
    let model = |rest: &[&'static str]| [&USER[..], rest].concat();
    let id = "22222222-2222-4222-8222-222222222222";
    let cases: Vec<(&str, Vec<&str>)> = vec![
        ("capacity_without_agreement_number", model(&["--billing-model", "capacity"])),
        ("powershell_spelling_is_taken", model(&["--billing-model", "Capacity"])),
        ("pay_as_you_use_without_usage_reporting", with(&["--usage-reporting", "off"])),
        ("custom_without_asset_tag", model(&["--billing-model", "custom"])),
        ("unknown_billing_model", model(&["--billing-model", "ingestion"])),
        ("two_sign_ins", with(&["--device-code", "--browser"])),
        ("german_cloud", with(&["--cloud", "AzureGermanCloud"])),
        ("two_clouds", with(&["--cloud", "AzureCloud", "--cloud-endpoint", "https://x.invalid"])),
        ("azure_stack_admin", ["--pep-user", "AZURESTACK\\AzureStackAdmin"].into_iter().chain(payg).collect()),
        ("user_without_domain", ["--pep-user", "CloudAdmin"].into_iter().chain(payg).collect()),
        ("secret_on_the_command_line", with(&["--device-code", "--pep-password", "hunter2"])),
        ("secret_file_missing", with(&["--device-code", "--pep-password", "@/no/such/file"])),
        ("bad_registration_name", with(&["--device-code", "--name", "a/b"])),
        ("bad_pep_address", ["--pep", "http://"].into_iter().chain(with(&[])).collect()),
        ("unknown_option", with(&["--agreement", "1"])),
        ("stamp_secret_without_id", with(&["--device-code", "--stamp-client-secret", "@x"])),
        ("client_id_alone", with(&["--client-id", id])),
    ];
    let mut text = String::new();
    for (name, arguments) in cases {
        let begun = Instant::now();
        let seen = shown(None, &mut words(&arguments));
        assert!(begun.elapsed() < Duration::from_secs(5), "{name} touched a socket");
        text.push_str(&format!("=== {name}\n{seen}\n"));
    }
    snapshot!("words_alone", text);
}

#[test]
fn a_client_secret_alone() {
    let world = World::new();
    let mut command = world.register("pay-as-you-use");
    command.env_remove("AZSREG_BRIDGE_REFRESH_TOKEN");
    snapshot!("client_secret_alone", shown(Some(&world), &mut command));
    let mut command = world.register("pay-as-you-use");
    command.env_remove("AZSREG_BRIDGE_REFRESH_TOKEN").args(["-o", "json"]);
    snapshot!("client_secret_alone_json", shown(Some(&world), &mut command));
    unchanged(&world);
}

#[test]
fn by_the_stamp() {
    let world = World::new();
    let mut text = String::new();
    let mut case = |name: &str, prepare: &dyn Fn(&mut Command)| {
        let mut command = world.register("pay-as-you-use");
        prepare(&mut command);
        text.push_str(&format!("=== {name}\n{}\n", shown(Some(&world), &mut command)));
    };
    let wrong = world.file("wrong", "not the password");
    let before = world.lab.world()["stamps"][0]["logons_failed"].as_u64().unwrap();
    case("wrong_password", &|c| {
        c.env("AZSREG_PEP_PASSWORD", format!("@{}", wrong.display()));
    });
    let after = world.lab.world()["stamps"][0]["logons_failed"].as_u64().unwrap();
    assert_eq!(after - before, 1, "three addresses and two mechanisms, and exactly one failed logon");
    case("wrong_user", &|c| {
        c.env("AZSREG_PEP_USER", "AZURESTACK\\Somebody");
    });
    case("wrong_configuration", &|c| {
        c.args(["--pep-configuration", "Microsoft.PowerShell"]);
    });
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    case("unreachable", &|c| {
        c.env("AZSREG_PEP", closed.to_string());
    });
    let https = world.lab.descriptor().stamps[0].pep_https.clone();
    case("untrusted_certificate", &|c| {
        c.env_remove("AZSREG_CA_FILE").env("AZSREG_PEP", format!("https://{https}"));
    });
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut stream in other.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    case("not_a_privileged_endpoint", &|c| {
        c.env("AZSREG_PEP", address.to_string());
    });
    snapshot!("by_the_stamp", text);
    unchanged(&world);
}

#[test]
fn an_address_that_never_answers() {
    let world = World::new();
    // A listener that takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = world.register("pay-as-you-use");
    command.env("AZSREG_PEP", format!("https://{}", silent.local_addr().unwrap())).args(["--connect-timeout", "0.4"]);
    let begun = Instant::now();
    snapshot!("never_answers", shown(Some(&world), &mut command));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn by_the_checks() {
    let world = World::new();
    let mut text = String::new();
    let mut case = |world: &World, name: &str, command: &mut Command| {
        text.push_str(&format!("=== {name}\n{}\n", shown(Some(world), command)));
    };
    case(&world, "unknown_location", world.register("pay-as-you-use").args(["--location", "atlantis"]));
    case(
        &world,
        "invisible_subscription",
        world.register("pay-as-you-use").args(["--subscription", "99999999-9999-4999-8999-999999999999"]),
    );
    let reader = world.control("/users", &json!({"roles": [{"role": "Reader", "scope": format!("/subscriptions/{}", world.lab.descriptor().subscription_id)}]}));
    let secret = world.file("reader-secret", reader["client_secret"].as_str().unwrap());
    let mut command = world.register("pay-as-you-use");
    command
        .env("AZSREG_CLIENT_ID", reader["client_id"].as_str().unwrap())
        .env("AZSREG_CLIENT_SECRET", format!("@{}", secret.display()));
    case(&world, "missing_actions_and_location_together", command.args(["--location", "atlantis"]));
    let mut command = world.register("pay-as-you-use");
    case(&world, "untrusted_azure", command.env_remove("AZSREG_CA_FILE"));
    let wrong = world.file("wrong-secret", "wrong");
    let mut command = world.register("pay-as-you-use");
    case(&world, "wrong_client_secret", command.env("AZSREG_CLIENT_SECRET", format!("@{}", wrong.display())));
    let mut command = world.register("pay-as-you-use");
    case(&world, "unknown_tenant", command.args(["--tenant", "nowhere.example"]));
    let mut command = world.command(0, &world.state());
    case(&world, "nobody_signed_in", command.args(["register", "--billing-model", "development"]));
    let wrong = world.file("wrong-stamp-secret", "wrong");
    let mut command = world.register("pay-as-you-use");
    case(&world, "wrong_stamp_sign_in", command.env("AZSREG_STAMP_CLIENT_SECRET", format!("@{}", wrong.display())));
    unchanged(&world);

    let old = World::of(vec![StampOptions { build: "1.1910.0.50".into(), ..StampOptions::default() }]);
    case(&old, "custom_on_an_old_stamp", old.register("custom").args(["--ms-asset-tag", "T"]));
    unchanged(&old);
    snapshot!("by_the_checks", text);
}

#[test]
fn by_another_registration() {
    let two =
        World::of(vec![StampOptions::default(), StampOptions { name: "stamp2".into(), ..StampOptions::default() }]);
    let first = run(two.register("pay-as-you-use").args(["--name", "first"]));
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let mut text = String::new();
    let mut second = two.command(1, &two.dir.path().join("state2"));
    two.signed_in(&mut second);
    second.args(["register", "--billing-model", "pay-as-you-use", "--name", "first"]);
    text.push_str(&format!("=== name_of_another_stamp\n{}\n", shown(Some(&two), &mut second)));
    let mut again = two.register("pay-as-you-use");
    again.args(["--name", "second"]);
    text.push_str(&format!("=== registered_under_another_name\n{}\n", shown(Some(&two), &mut again)));
    let mut group = two.register("pay-as-you-use");
    group.args(["--name", "first", "--location", "eastus"]);
    text.push_str(&format!("=== group_in_another_location\n{}\n", shown(Some(&two), &mut group)));
    let fresh = two.lab.descriptor().fresh_subscription_id.to_string();
    let mut elsewhere = two.register("pay-as-you-use");
    elsewhere.args(["--name", "first", "--subscription", &fresh]);
    text.push_str(&format!("=== registered_in_another_subscription\n{}\n", shown(Some(&two), &mut elsewhere)));
    snapshot!("by_another_registration", text);
    assert_eq!(two.lab.world()["registrations"].as_array().unwrap().len(), 1);
}

#[test]
fn malformed_token_and_key() {
    let mut text = String::new();
    let cases = [
        (
            "malformed_token",
            json!({"when": {"plane": "pep", "route": "New-RegistrationToken"}, "then": {"body": "bm90IGEgdG9rZW4="}}),
        ),
        (
            "truncated_token",
            json!({"when": {"plane": "pep", "route": "New-RegistrationToken"}, "then": {"body": "eyJiaWxsaW5nTW9kZWwiOiJ*"}}),
        ),
        (
            "malformed_key",
            json!({"when": {"plane": "arm", "route": "getactivationkey"}, "then": {"body": {"activationKey": "no.key"}}}),
        ),
        (
            "empty_key",
            json!({"when": {"plane": "arm", "route": "getactivationkey"}, "then": {"body": {"activationKey": ""}}}),
        ),
        (
            "unreadable_hardware",
            json!({"when": {"plane": "pep", "route": "New-RegistrationToken"}, "then": {"error": "The term 'Get-Hardware' failed."}}),
        ),
    ];
    for (name, rule) in cases {
        let world = World::new();
        world.lab.fault(rule).unwrap();
        text.push_str(&format!("=== {name}\n{}\n", shown(Some(&world), &mut world.register("pay-as-you-use"))));
    }
    snapshot!("malformed_token_and_key", text);
}

/// The directory's refusals, where the operator signs in and where the stamp redeems the token.
#[test]
fn by_the_directorys_policies() {
    let world = World::new();
    let tenant = world.lab.descriptor().tenant_id;
    let mut text = String::new();
    let login = |world: &World| {
        let mut command = world.command(0, &world.state());
        command.env("AZSREG_NON_INTERACTIVE", "false").arg("login");
        command
    };
    for number in [50_076, 50_079, 53_000, 53_003, 65_001] {
        world.control(&format!("/tenants/{tenant}/policy"), &json!({"aadsts": number, "on": "arm"}));
        let ran = run(&mut login(&world));
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        text.push_str(&format!("=== sign_in_{number}\n{}", ran.stderr.lines().skip(1).collect::<Vec<_>>().join("\n")));
        text.push('\n');
        world.control(&format!("/tenants/{tenant}/policy"), &json!({"aadsts": number, "on": "graph"}));
        text.push_str(&format!(
            "=== inside_the_stamp_{number}\n{}\n",
            shown(Some(&world), &mut world.register("pay-as-you-use"))
        ));
    }
    world.control(&format!("/tenants/{tenant}/policy"), &json!({}));
    for number in [700_082, 50_173] {
        world.control("/refresh-tokens/revoke", &json!({"aadsts": number}));
        text.push_str(&format!(
            "=== revoked_inside_the_stamp_{number}\n{}\n",
            shown(Some(&world), &mut world.register("pay-as-you-use"))
        ));
    }
    snapshot!("by_the_directorys_policies", text);
}

/// Every next step of every snapshot, and how often it is said.
fn next_steps() -> BTreeMap<String, usize> {
    let mut steps = BTreeMap::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "snap") {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines().map(str::trim) {
            let next = match line.strip_prefix("\"next\": ") {
                Some(json) => serde_json::from_str(json.trim_end_matches(',')).unwrap(),
                None => line.strip_prefix("next: ").or(line.strip_prefix("Next: ")).map(str::to_owned),
            };
            *steps.entry(next.unwrap_or_default()).or_default() += 1;
        }
    }
    steps.remove("");
    steps
}

/// What an operator is told to run next runs as it stands.
#[cfg(unix)]
#[test]
fn every_next_step_of_every_snapshot_runs() {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    let told = world.lab.descriptor();
    let (subscription, stamp) = (told.subscription_id.to_string(), told.stamps[0].cloud_id.to_string());
    let typed = |line: &str, option: &str| {
        let program = world.both(0, &world.state(), &[]);
        let mut shell = Command::new("sh");
        shell.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let line = line.replacen("azsreg", "\"$AZSREG\"", 1);
        run(shell.env("AZSREG", program.get_program()).args(["-c", &format!("{line} {option}")]))
    };
    let (mut commands, mut planned, mut sentences) = (0, 0, Vec::new());
    for (next, times) in next_steps() {
        let Some((line, _)) = azsreg_model::command_of(&next) else {
            // A command inside of a sentence is one of ours at least.
            for rest in next.split("azsreg ").skip(1) {
                let verb = rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap();
                typed(&format!("azsreg {verb}"), "--help").ends(0);
            }
            sentences.push((next, times));
            continue;
        };
        let line = line.replace("--subscription [guid]", &format!("--subscription {subscription}"));
        let line = line.replace("[guid]", &stamp).replace("MODEL", "development");
        commands += 1;
        let help = typed(&line, "--help").ends(0);
        if help.stdout.contains("--plan") {
            planned += 1;
            let ran = typed(&line, "--plan");
            assert!([Some(0), Some(4)].contains(&ran.code), "{line}: {:?}\n{}{}", ran.code, ran.stdout, ran.stderr);
        }
    }
    println!("{commands} commands run, {planned} of them with --plan; {} are sentences:", sentences.len());
    sentences.iter().for_each(|(next, times)| println!("{times:>4}  {next}"));
    assert!(planned >= 4 && commands > planned && !sentences.is_empty(), "the snapshots were not found");
}
