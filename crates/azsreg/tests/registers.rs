//! `register` as an operator uses it: every model, every sign-in, what it says, what it keeps.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use azsreg_lab::StampOptions;
use common::{World, assert_registered_once, run};
use jiff::SignedDuration;
use serde_json::{Value, json};

const SENTENCE: &str = "Your environment is now registered and activated using the provided parameters.";

#[test]
fn every_connected_model_registers_and_is_then_done() {
    let models: [(&str, &[&str], bool); 5] = [
        ("pay-as-you-use", &[], true),
        ("capacity", &["--agreement-number", "A-1"], false),
        ("development", &[], true),
        ("custom", &["--ms-asset-tag", "TAG-1"], false),
        ("Ruggedized", &["--marketplace", "off"], true),
    ];
    for (model, extra, usage) in models {
        let world = World::new();
        let first = run(world.register(model).args(extra));
        assert_eq!(first.code, Some(0), "{model}: {}", first.stderr);
        assert!(first.stdout.contains(SENTENCE), "{model}: {}", first.stdout);
        let now = world.lab.world();
        assert_registered_once(&now, model);
        let token = &now["registrations"][0]["token"];
        assert_eq!(token["version"], "6.0", "{model}");
        assert_eq!(token["usageReportingEnabled"], usage, "{model}");
        assert_eq!(now["stamps"][0]["activation"]["properties"]["usageReportingEnabled"], usage, "{model}");
        assert_eq!(now["stamps"][0]["key_pair"], true, "{model}");
        let again = run(world.register(model).args(extra));
        assert_eq!(again.code, Some(0), "{model}");
        assert!(again.stdout.starts_with("Nothing to do"), "{model}: {}", again.stdout);
        assert_eq!(world.lab.world(), now, "{model}: the second run changed the world");
    }
}

#[test]
fn what_a_build_does_not_know_is_not_sent() {
    for (build, nodes, version, key_pair) in [
        ("1.1910.0.50", 4, "1.0", false),
        ("1.2005.0.4", 4, "1.0", false),
        ("1.2008.0.49", 4, "4.0", false),
        ("1.2209.0.24", 1, "4.0", false),
        ("1.2309.0.4", 4, "4.0", true),
        ("1.2309.0.5", 4, "6.0", true),
    ] {
        let world = World::of(vec![StampOptions { build: build.into(), nodes, ..StampOptions::default() }]);
        let ran = run(&mut world.register("pay-as-you-use"));
        assert_eq!(ran.code, Some(0), "{build}: {}", ran.stderr);
        let now = world.lab.world();
        assert_eq!(now["registrations"][0]["token"]["version"], version, "{build}");
        assert_eq!(now["stamps"][0]["key_pair"], key_pair, "{build}");
    }
}

#[test]
fn a_model_is_changed_in_place_and_the_lock_stays() {
    let world = World::new();
    assert_eq!(run(&mut world.register("pay-as-you-use")).code, Some(0));
    let ran = run(world.register("capacity").args(["--agreement-number", "A-2", "--usage-reporting", "on"]));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("warning[AZR1017]"), "usage is forced off, and said to be: {}", ran.stderr);
    let now = world.lab.world();
    assert_registered_once(&now, "changed");
    assert_eq!(now["registrations"][0]["properties"]["billingModel"], "Capacity");
    assert_eq!(now["registrations"][0]["token"]["agreementNumber"], "A-2");
    assert_ne!(now["stamps"][0]["activation"]["properties"]["expiration"], "9999-12-30T23:59:59.9999999Z");
}

#[test]
fn without_an_operator_sign_in_nothing_is_called_verified() {
    let world = World::new();
    let register = || {
        let mut command = world.command(0, &world.state());
        world.signed_in(&mut command);
        command.args(["register", "--billing-model", "pay-as-you-use"]);
        command
    };
    let ran = run(&mut register());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("activated; the record was not read: no operator sign-in"), "{}", ran.stdout);
    assert!(!ran.stdout.to_lowercase().contains("verified"));
    let json: Value = serde_json::from_str(&run(register().args(["-o", "json"])).stdout).unwrap();
    assert_eq!(json["outcome"], "nothing-to-do");
    assert_eq!(json["status"]["status"], "registered-in-azure");
}

#[test]
fn a_plan_changes_nothing_and_says_so_by_its_exit_code() {
    let world = World::new();
    let before = world.lab.world();
    let ran = run(world.register("pay-as-you-use").arg("--plan"));
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stdout.contains("Nothing was changed"), "{}", ran.stdout);
    assert_eq!(world.lab.world(), before);
    assert_eq!(run(&mut world.register("pay-as-you-use")).code, Some(0));
    assert_eq!(run(world.register("pay-as-you-use").arg("--plan")).code, Some(0), "nothing is left to plan");
}

#[test]
fn a_fresh_subscription_gets_its_provider() {
    let world = World::new();
    let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
    let ran = run(world.register("development").args(["--subscription", &fresh]));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("done      provider"), "{}", ran.stdout);
}

#[test]
fn a_device_code_signs_in_once_for_several_commands() {
    let world = World::new();
    let state = world.state();
    let command = |arguments: &[&str]| {
        let mut command = world.command(0, &state);
        command.env("AZSREG_NON_INTERACTIVE", "false");
        world.with_records(0, &mut command);
        command.args(arguments);
        run(&mut command)
    };
    assert_eq!(command(&["whoami"]).code, Some(3));
    let ran = command(&["login"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("devicelogin"), "{}", ran.stderr);
    assert!(command(&["whoami"]).stdout.starts_with("operator@"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        for entry in std::fs::read_dir(state.join("sign-in")).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
    let ran = command(&["register", "--billing-model", "pay-as-you-use", "--non-interactive"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stderr.contains("devicelogin"), "the kept sign-in is used: {}", ran.stderr);
    assert_eq!(command(&["status", "--non-interactive"]).code, Some(0));
    assert_eq!(command(&["logout"]).code, Some(0));
    assert_eq!(command(&["status", "--non-interactive"]).code, Some(7));
}

#[test]
fn a_kept_sign_in_that_was_revoked_is_asked_for_again() {
    let world = World::new();
    let command = |arguments: &[&str]| {
        let mut command = world.command(0, &world.state());
        command.env("AZSREG_NON_INTERACTIVE", "false").args(arguments);
        run(&mut command)
    };
    assert_eq!(command(&["login"]).code, Some(0));
    world.control("/refresh-tokens/revoke", &json!({"aadsts": 50_173}));
    let refused = command(&["register", "--billing-model", "development", "--non-interactive"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("AZR3014"), "{}", refused.stderr);
    let ran = command(&["register", "--billing-model", "development"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

/// Runs `azsreg login` until it shows its page and code, then hands both over; gives the exit code.
fn login_with(world: &World, decide: impl FnOnce(&str, &str)) -> (Option<i32>, String) {
    let mut command = world.command(0, &world.state());
    command.env("AZSREG_NON_INTERACTIVE", "false").arg("login");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let after = |word: &str| line.split(word).nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    decide(&after("open the page "), &after("enter the code "));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
    (child.wait().unwrap().code(), rest)
}

#[test]
fn a_person_approves_or_declines_on_the_labs_page() {
    let options = azsreg_lab::LabOptions { auto_approve: false, ..azsreg_lab::LabOptions::default() };
    let world = World::with(options);
    let ca = world.lab.descriptor().ca_file.clone();
    let press = |button: &str, url: &str, code: &str| {
        let form = format!("code={code}&do={button}");
        let page =
            std::process::Command::new("curl").args(["-sS", "--cacert"]).arg(&ca).args(["-d", &form, url]).output();
        String::from_utf8(page.unwrap().stdout).unwrap()
    };
    let (code, _) = login_with(&world, |url, code| {
        assert!(press("approve", url, "WRONGCODE").contains("is not valid"));
        assert!(press("approve", url, &code.to_lowercase()).contains("You have signed in"));
    });
    assert_eq!(code, Some(0));
    let (code, stderr) = login_with(&world, |url, code| {
        press("decline", url, code);
    });
    assert_eq!(code, Some(1));
    assert!(stderr.contains("AZR3005"), "{stderr}");
}

/// Azure goes through the proxy that the environment names, and not where it says not to; the stamp never does.
#[test]
fn proxies_are_for_azure_alone() {
    let world = World::new();
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let seen = std::thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let mut head = [0; 512];
        let read = std::io::Read::read(&mut stream, &mut head).unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let ran = run(world.register("development").env("HTTPS_PROXY", &url));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("AZR4055") && ran.stderr.contains(&url), "the proxy is named: {}", ran.stderr);
    assert!(seen.join().unwrap().starts_with("CONNECT 127.0.0.1"), "Azure was asked through the proxy");
    let ran = run(world.register("development").env("HTTPS_PROXY", &url).env("NO_PROXY", "127.0.0.1"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

/// A browser is whatever `BROWSER` names: here a script that follows the redirect, as a browser does.
#[cfg(unix)]
#[test]
fn the_browser_signs_in() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let script = world.file(
        "browser",
        &format!(
            "#!/bin/sh\nexec curl -sS -L --cacert '{}' -o /dev/null \"$1\"\n",
            world.lab.descriptor().ca_file.display()
        ),
    );
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = world.command(0, &world.state());
    command.env("AZSREG_NON_INTERACTIVE", "false").env("BROWSER", &script);
    command.args(["register", "--billing-model", "development", "--browser"]);
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_client_certificate_signs_in_beside_a_bridge_token() {
    let world = World::new();
    // RSA, as the directory demands; made by the library, as an operator's tool would.
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["operator".into()]).unwrap().self_signed(&key).unwrap();
    let pem = world.file("operator.pem", &format!("{}{}", certificate.pem(), key.serialize_pem()));
    let register = || {
        let mut command = world.register("development");
        command.env_remove("AZSREG_CLIENT_SECRET").env("AZSREG_CLIENT_CERTIFICATE", &pem);
        run(&mut command)
    };
    let unknown = register();
    assert_eq!(unknown.code, Some(1), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("AZR3002"), "{}", unknown.stderr);
    world.lab.trust_certificate(certificate.der().to_vec());
    let ran = register();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn passing_failures_are_tried_again_and_throttling_is_obeyed() {
    let world = World::new();
    for rule in [
        json!({"when": {"plane": "arm", "method": "PUT", "route": "registrations"}, "then": {"status": 503}, "limit": 1}),
        json!({"when": {"plane": "arm", "method": "PUT", "route": "resourcegroups"}, "then": {"status": 429, "error": "TooManyRequests", "retry_after": 1}, "limit": 1}),
        json!({"when": {"plane": "arm", "method": "PUT", "route": "locks"}, "then": {"drop": true}, "after": true, "limit": 1}),
        json!({"when": {"plane": "arm", "method": "PUT", "route": "roleassignments"}, "then": {"status": 500}, "after": true, "limit": 1}),
        json!({"when": {"plane": "pep", "route": "New-AzureStackActivation"}, "then": {"error": "Cannot invoke action plan because another action is in progress: 6f1c"}, "limit": 1}),
    ] {
        world.lab.fault(rule).unwrap();
    }
    let ran = run(&mut world.register("pay-as-you-use"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_registered_once(&world.lab.world(), "after faults");
}

#[test]
fn a_permanent_refusal_half_way_is_not_retried_and_resumes_when_mended() {
    let world = World::new();
    world
        .lab
        .fault(json!({"when": {"plane": "arm", "method": "PUT", "route": "locks"}, "then": {"status": 403, "error": "AuthorizationFailed", "message": "The client 'x' with object id 'y' does not have authorization to perform action 'Microsoft.Authorization/locks/write' over scope '/z'"}, "limit": 1}))
        .unwrap();
    let ran = run(&mut world.register("pay-as-you-use"));
    assert_eq!(ran.code, Some(6), "half-way is resumable: {}", ran.stderr);
    assert!(
        ran.stderr.contains("AZR4009") && ran.stderr.contains("Microsoft.Authorization/locks/write"),
        "{}",
        ran.stderr
    );
    let again = run(&mut world.register("pay-as-you-use"));
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_registered_once(&world.lab.world(), "mended");
}

#[test]
fn the_second_run_beside_the_first_is_told_who_has_the_stamp() {
    let world = World::of(vec![StampOptions { activation: SignedDuration::from_secs(3), ..StampOptions::default() }]);
    let mut first = world.register("pay-as-you-use").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The first has begun when its journal is there.
    let begun = std::time::Instant::now();
    while !world.state().join("journals").exists() {
        assert!(begun.elapsed().as_secs() < 30);
        std::thread::yield_now();
    }
    let second = run(&mut world.register("pay-as-you-use"));
    assert_eq!(second.code, Some(5), "{}", second.stderr);
    assert!(second.stderr.contains("AZR5001") && second.stderr.contains("register of"), "{}", second.stderr);
    assert!(first.wait().unwrap().success());
}

#[cfg(unix)]
#[test]
fn an_interrupt_half_way_is_resumable() {
    let world = World::of(vec![StampOptions { activation: SignedDuration::from_secs(30), ..StampOptions::default() }]);
    let first = world.register("pay-as-you-use").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = std::time::Instant::now();
    while world.lab.world()["stamps"][0]["running"] != "New-AzureStackActivation" {
        assert!(begun.elapsed().as_secs() < 30);
        std::thread::yield_now();
    }
    std::process::Command::new("kill").args(["-INT", &first.id().to_string()]).status().unwrap();
    let ran = common::Ran::of(first.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(6), "{}", ran.stderr);
    assert!(ran.stderr.contains("resumes"), "{}", ran.stderr);
    assert!(ran.stderr.contains("done      role") && ran.stderr.contains("stopped   activation"), "{}", ran.stderr);
    // What changes the stamp is left to end by itself, with its session, and that is said.
    assert!(ran.stderr.contains("New-AzureStackActivation goes on at the stamp"), "{}", ran.stderr);
    assert_eq!(world.lab.shells(0), (1, 1));
    // The plan knows what the interrupted run has done.
    let plan = run(world.register("pay-as-you-use").arg("--plan"));
    assert_eq!(plan.code, Some(4), "{}", plan.stderr);
    assert!(plan.stdout.contains("done by the interrupted run"), "{}", plan.stdout);
}

#[cfg(unix)]
#[test]
fn an_interrupt_while_the_stamp_is_read_leaves_nothing_there() {
    let world = World::new();
    world.lab.fault(serde_json::json!({"when": {"plane": "pep"}, "then": {"delay": 600_000}})).unwrap();
    let first = world.register("pay-as-you-use").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = std::time::Instant::now();
    while world.lab.shells(0) != (1, 1) {
        assert!(begun.elapsed().as_secs() < 30);
        std::thread::yield_now();
    }
    std::process::Command::new("kill").args(["-INT", &first.id().to_string()]).status().unwrap();
    let ran = common::Ran::of(first.wait_with_output().unwrap()).ends(130);
    assert!(ran.stderr.contains("interrupted before anything was changed"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("goes on at the stamp"), "{}", ran.stderr);
    assert_eq!(world.lab.shells(0), (0, 0));
}

/// An activation that an interrupted run began is waited for, and not begun again.
#[test]
fn an_activation_is_not_repeated_by_the_run_that_resumes() {
    let world = World::of(vec![StampOptions { activation: SignedDuration::from_secs(4), ..StampOptions::default() }]);
    let mut first = world.register("pay-as-you-use").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = std::time::Instant::now();
    while world.lab.world()["stamps"][0]["running"] != "New-AzureStackActivation" {
        assert!(begun.elapsed().as_secs() < 30);
        std::thread::yield_now();
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let log = world.dir.path().join("log");
    let ran = run(world.register("pay-as-you-use").arg("--log-file").arg(&log));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.contains("Get-ActionStatus") && !log.contains("New-AzureStackActivation\" arguments=[\"-ActivationKey"),
        "{log}"
    );
    assert_eq!(log.matches("cmdlet=\"New-AzureStackActivation\"").count(), 0, "{log}");
    assert_registered_once(&world.lab.world(), "resumed");
}

/// Canary secrets: nothing that a run writes or says holds any of them.
#[test]
fn no_secret_is_in_any_output_log_or_journal() {
    let world = World::new();
    let told = world.lab.descriptor();
    let log = world.dir.path().join("log");
    let mut all = String::new();
    for extra in [&["-v"][..], &["-v", "-o", "json"]] {
        let mut command = world.register("capacity");
        command.args(["--agreement-number", "A-1", "--log-file"]).arg(&log).args(extra);
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        all.push_str(&ran.stdout);
        all.push_str(&ran.stderr);
    }
    let mut paths = vec![world.state()];
    while let Some(path) = paths.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                paths.push(path);
            } else {
                all.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    all.push_str(&std::fs::read_to_string(log).unwrap());
    assert!(all.contains("New-AzureStackActivation") && all.contains("HTTPS"), "the log says something");
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let now = world.lab.world();
    let token = now["registrations"][0]["token"].to_string();
    let secrets = [
        read(&told.client_secret_file),
        read(&told.stamps[0].pep_password_file),
        read(&told.stamps[0].stamp_client_secret_file),
        read(&world.dir.path().join("bridge-token")),
    ];
    for secret in &secrets {
        assert!(!secret.is_empty() && !all.contains(secret.as_str()), "a secret is shown");
    }
    // A token or key would show by its first members in base64.
    for start in ["eyJ", &token[..20]] {
        assert!(!all.contains(start), "a token or key is shown: {start}");
    }
}

#[test]
fn lab_up_tells_what_a_client_needs_and_env_points_at_it() {
    let dir = tempfile::tempdir().unwrap();
    let azsreg = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_azsreg"));
        command.env("AZSREG_STATE_DIR", dir.path()).stdin(Stdio::null()).args(arguments);
        command
    };
    assert_eq!(run(&mut azsreg(&["lab", "env"])).code, Some(3));
    let mut up = azsreg(&["lab", "up", "--stamps", "2", "--stamp", "build=1.1910.0.50,nodes=1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(up.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    for member in [
        "arm_endpoint",
        "authority",
        "ca_file",
        "tenant_id",
        "subscription_id",
        "client_id",
        "client_secret_file",
        "control_endpoint",
    ] {
        assert!(told[member].is_string(), "{member}");
    }
    assert_eq!(told["stamps"].as_array().unwrap().len(), 2);
    assert_eq!(told["stamps"][0]["pep"].as_array().unwrap().len(), 3);
    let env = run(&mut azsreg(&["lab", "env", "--stamp", "stamp2"]));
    assert_eq!(env.code, Some(0), "{}", env.stderr);
    // Who has the address needs nothing else, and nobody else gets anything; the file that says it is its owner's alone.
    let (endpoint, token) = (told["control_endpoint"].as_str().unwrap(), told["control_token"].as_str().unwrap());
    assert!(endpoint.ends_with(&format!("/{token}")) && token.len() == 32, "{told}");
    assert!(env.stdout.contains(&format!("export AZSREG_LAB_CONTROL='{endpoint}'\n")), "{}", env.stdout);
    run(&mut azsreg(&["lab", "clock", "advance", "1s"])).ends(0);
    for (bearer, code) in [(token, 200), ("", 401)] {
        let health = format!("{}/health", endpoint.trim_end_matches(token).trim_end_matches('/'));
        let answer = common::runtime().block_on(async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            client.get(health).bearer_auth(bearer).send().await.unwrap().status().as_u16()
        });
        assert_eq!(answer, code);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("lab"), mode("lab/current.json")), (0o700, 0o600));
    }
    // As a shell would take it, in another process, with no option at all.
    let script = format!("{}\nexec '{}' register\n", env.stdout, env!("CARGO_BIN_EXE_azsreg"));
    let mut shell = std::process::Command::new("sh");
    shell.env("AZSREG_STATE_DIR", dir.path()).stdin(Stdio::null()).args(["-c", &script]);
    let ran = run(&mut shell);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains(SENTENCE));
    // What is done with a lab is not among what is known of real stamps.
    let journals = |of: &str| dir.path().join(of).exists();
    assert_eq!((journals("journals"), journals("lab/journals")), (false, true));
    // The shell that was set up finds the lab too.
    let mut shell = std::process::Command::new("sh");
    let script = format!("{}\nexec '{}' lab env\n", env.stdout, env!("CARGO_BIN_EXE_azsreg"));
    run(shell.stdin(Stdio::null()).args(["-c", &script])).ends(0).says(endpoint);
    // A second lab says that it comes before the first one, has other ids, and leaves the first one as it was.
    let mut other = azsreg(&["lab", "up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let second: Value = serde_json::from_str(&line).unwrap();
    assert_ne!((&second["seed"], &second["tenant_id"]), (&told["seed"], &told["tenant_id"]));
    let mut stderr = BufReader::new(other.stderr.take().unwrap());
    let mut warned = String::new();
    while !warned.contains("eval") && stderr.read_line(&mut warned).unwrap() > 0 {}
    assert!(warned.contains(&format!("Another lab runs here, seed {}", told["seed"])), "{warned}");
    run(&mut azsreg(&["lab", "env"])).ends(0).says(second["control_endpoint"].as_str().unwrap());
    std::process::Command::new("kill").arg(other.id().to_string()).status().unwrap();
    assert!(other.wait().unwrap().success());
    run(&mut azsreg(&["lab", "env"])).ends(0).says(endpoint);
    std::process::Command::new("kill").arg(up.id().to_string()).status().unwrap();
    assert!(up.wait().unwrap().success(), "SIGTERM is a good end");
    assert_eq!(run(&mut azsreg(&["lab", "env"])).code, Some(3), "the note goes with the lab");
}

#[test]
fn a_rehearsal_ends_with_both_sides() {
    for _ in 0..2 {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_azsreg"));
        command.args(["rehearse", "--stamp-delay", "0"]).stdin(Stdio::null());
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        for part in [SENTENCE, "Azure  registration", "Stamp  cloud id", "nothing to do."] {
            assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
        }
    }
}
