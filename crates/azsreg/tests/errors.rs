//! The rows of `facts-errors.md` that azsreg can meet, each produced in the lab by a fault or a state: its code, and that the
//! operator is told what to run next. Rows that other tests produce: 1, 3, 4, 6, 8, 12, 37, 45, 49 (`article`, `refused`),
//! 2, 10, 65 (`article::acceptance`), 38 (`article::prerequisites`), 58 to 60 (`refused`), 70, 72, 75 to 79 and 82
//! (`marketplace`).
#![allow(clippy::unwrap_used)]

mod common;

use azsreg_lab::StampOptions;
use azsreg_model::refusals::{Class, Plane, REFUSALS, Refusal};
use common::{Ran, World, assert_registered_once, run};
use serde_json::{Value, json};

/// What happens, during which command, and the code that says so.
struct Row {
    row: &'static str,
    fault: Value,
    before: &'static [&'static [&'static str]],
    command: &'static [&'static str],
    code: &'static str,
    says: &'static str,
}

const REGISTER: &[&str] = &["register", "--billing-model", "development"];

fn told(row: &str, ran: &Ran, code: &str, says: &str) {
    assert_ne!(ran.code, Some(0), "{row}: {}", ran.stdout);
    for text in [code, says, "next:"] {
        assert!(ran.stderr.contains(text), "{row}: {text:?} is not said: {}", ran.stderr);
    }
}

#[test]
fn every_row_has_its_code() {
    let cmdlet = |name: &str, error: &str| json!({"when": {"plane": "pep", "route": name}, "then": {"error": error}});
    let arm = |method: &str, route: &str, status: u16, error: &str, message: &str| json!({"when": {"plane": "arm", "method": method, "route": route}, "then": {"status": status, "error": error, "message": message}});
    let registered: &[&[&str]] = &[REGISTER];
    let rows = [
        Row {
            row: "3: already registered",
            fault: arm(
                "PUT",
                "/registrations/",
                400,
                "BadRequest",
                "Cloud identifier [x] is already registered. Reusing cloud identifiers is not allowed.",
            ),
            before: &[],
            command: REGISTER,
            code: "AZR4007",
            says: "registered already",
        },
        Row {
            row: "5: locks/write",
            fault: arm(
                "PUT",
                "/locks/",
                403,
                "AuthorizationFailed",
                "The client 'x' does not have authorization to perform action 'Microsoft.Authorization/locks/write' over scope 'y'.",
            ),
            before: &[],
            command: REGISTER,
            code: "AZR4009",
            says: "locks/write",
        },
        Row {
            row: "7: parent",
            fault: arm(
                "POST",
                "getactivationkey",
                404,
                "ParentResourceNotFound",
                "Can not perform requested operation on nested resource. Parent resource 'x' not found.",
            ),
            before: &[],
            command: REGISTER,
            code: "AZR4027",
            says: "not there",
        },
        Row {
            row: "10: locked",
            fault: arm(
                "DELETE",
                "/registrations/",
                409,
                "ScopeLocked",
                "The scope cannot perform delete operation because following scope(s) are locked.",
            ),
            before: registered,
            command: &["unregister", "--yes"],
            code: "AZR4010",
            says: "lock",
        },
        Row {
            row: "48: principal",
            fault: cmdlet("New-AzureBridgeServicePrincipal", "Action plan execution failed. Error: Execution timeout"),
            before: &[],
            command: REGISTER,
            code: "AZR2014",
            says: "took too long",
        },
        Row {
            row: "51: hardware",
            fault: cmdlet(
                "New-RegistrationToken",
                "Could not retrieve mandatory hardware info for HOST1. Check physical host and connectivity then try to rerun registration.",
            ),
            before: &[],
            command: REGISTER,
            code: "AZR2013",
            says: "HOST1",
        },
        Row {
            row: "52: hardware",
            fault: cmdlet(
                "New-RegistrationToken",
                "Cannot connect to HOST2 to get hardware info - please check physical host and connectivity then try to rerun registration.",
            ),
            before: &[],
            command: REGISTER,
            code: "AZR2013",
            says: "HOST2",
        },
        Row {
            row: "53: bridge",
            fault: cmdlet(
                "New-AzureStackActivation",
                "Type 'ActivateAzureBridge' of role 'Cloud\\Fabric\\AzureBridge' failed: no route",
            ),
            before: &[],
            command: REGISTER,
            code: "AZR2011",
            says: "no route",
        },
        Row {
            row: "54: stamp information",
            fault: cmdlet("Get-AzureStackStampInformation", "An error occurred checking stamp information: x"),
            before: &[],
            command: REGISTER,
            code: "AZR2015",
            says: "stamp information",
        },
        Row {
            row: "55: deactivation",
            fault: cmdlet(
                "Remove-AzureStackActivation",
                "An error occurred during removal of the activation resource in Azure Stack: x",
            ),
            before: registered,
            command: &["unregister", "--yes"],
            code: "AZR2018",
            says: "deactivated",
        },
        Row {
            row: "34: account",
            fault: json!({"when": {"plane": "pep", "route": "New-AzureBridgeServicePrincipal"}, "then": {"error": "ConfigureBridgeIdentity: invalid_grant AADSTS50034: The user account does not exist in the directory."}}),
            before: &[],
            command: REGISTER,
            code: "AZR3018",
            says: "50034",
        },
        Row {
            row: "12: move",
            fault: arm("POST", "moveResources", 409, "ResourceMoveNotSupported", "Moving is not supported."),
            before: registered,
            command: &["move", "--to-resource-group", "other"],
            code: "AZR4018",
            says: "refuses the move",
        },
    ];
    let snapshot = World::new().lab.snapshot();
    std::thread::scope(|scope| {
        for row in &rows {
            let snapshot = &snapshot;
            scope.spawn(move || {
                let world = World::restored(snapshot);
                for before in row.before {
                    world.run(before).ends(0);
                }
                world.control("/faults", &row.fault);
                let ran = world.run(row.command);
                told(row.row, &ran, row.code, row.says);
                // What was broken is mended: the same command goes on and ends well.
                world.control_with("DELETE", "/faults", &Value::Null);
                world.run(row.command).ends(0);
            });
        }
    });
}

#[test]
fn row_11_a_deletion_that_leaves_the_registration_there_is_said_so() {
    // Azure says that it is deleted, and it is not: a fault answers in place of the effect.
    let world = World::new();
    world.run(REGISTER).ends(0);
    world.control(
        "/faults",
        &json!({"when": {"plane": "arm", "method": "DELETE", "route": "/registrations/azurestack-"}, "then": {"status": 200, "body": {}}}),
    );
    let mut command = world.both(0, &world.state(), &["unregister", "--yes"]);
    // The command looks for five minutes before it says so: it is interrupted, and says that it waits.
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    while world.lab.world()["stamps"][0]["activation"] != Value::Null {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    world.control_with("DELETE", "/faults", &Value::Null);
    world.run(&["unregister", "--yes"]).ends(0);
    assert_eq!(world.lab.world()["registrations"], json!([]));
}

#[test]
fn row_46_an_action_in_progress_is_waited_for() {
    let world = World::new();
    world.control(
        "/faults",
        &json!({"when": {"plane": "pep", "route": "New-AzureStackActivation"}, "then": {"error": "Cannot invoke action plan because another action is in progress: 1"}, "limit": 2}),
    );
    // Row 9: a provider that was registered a moment ago is not known everywhere at once.
    world.control(
        "/faults",
        &json!({"when": {"plane": "arm", "method": "PUT", "route": "/registrations/"}, "then": {"status": 409, "error": "MissingSubscriptionRegistration", "message": "The subscription is not registered to use namespace 'Microsoft.AzureStack'."}, "limit": 2}),
    );
    world.run(REGISTER).ends(0);
}

#[test]
fn rows_61_to_64_files_and_names() {
    let world = World::new();
    let file = world.file("there", "something else");
    let out = file.display().to_string();
    run(&mut world.at_stamp(&["offline", "token", "--billing-model", "development", "--out", &out]))
        .ends(2)
        .says("AZR5006");
    let nowhere = world.path("no/such/directory/token.json");
    run(&mut world.at_stamp(&["offline", "token", "--billing-model", "development", "--out", &nowhere]))
        .says("AZR5003");
    run(&mut world.at_azure(&["offline", "unregister", &out, "--yes"])).ends(7).says("AZR5007");
    run(&mut world.at_azure(&["offline", "unregister", "--yes"])).ends(2).says("AZR1001");
    run(&mut world.at_azure(&["offline", "inspect", &world.path("nothing")])).ends(2).says("AZR5004");
}

#[test]
fn a_clock_that_is_off_is_named() {
    let world = World::new();
    world.days(2);
    world.run(&["check"]).ends(0).says("AZR7002").says("azsreg goes by Azure's");
    // As it says: what registering judges by is the same clock.
    world.run(&["register", "--billing-model", "development"]).ends(0);
}

/// Each alternative of the rows of a plane, with what is between its parts.
fn alternatives(plane: Plane) -> Vec<(&'static Refusal, String)> {
    let rows = REFUSALS.iter().filter(|row| row.plane == plane);
    rows.flat_map(|row| row.said.split('|').map(move |said| (row, said.trim_start_matches('=').replace('…', "Kind "))))
        .collect()
}

/// What the screen says of a row: its code, the other side's words, what to run next. What is waited for is told with `-v`.
fn seen(world: &World, command: &[&str], fault: &Value, row: &Refusal, said: &str) {
    let waited = matches!(row.class, Class::Wait | Class::Again) && row.plane != Plane::Stamp;
    let mut fault = fault.clone();
    if waited {
        fault["limit"] = json!(1);
    }
    world.control("/faults", &fault);
    let ran = world.run(&[command, &["-v"]].concat());
    world.control_with("DELETE", "/faults", &Value::Null);
    assert!(ran.stderr.contains(row.code.id), "{said}: {} is not said: {}", row.code.id, ran.stderr);
    if waited {
        assert_eq!(ran.code, Some(0), "{said}: {}", ran.stderr);
        return;
    }
    assert_ne!(ran.code, Some(0), "{said}: {}", ran.stdout);
    // As the words stand on the screen: wrapped and redacted, but with the same beginning.
    let next: Vec<&str> = row.next().split_whitespace().take(3).collect();
    let screen: Vec<&str> = ran.stderr.split_whitespace().collect();
    let tenant = row.code.id == "AZR3029" || said == "AADSTS" || said.contains("invalid_grant");
    assert!(tenant || screen.windows(next.len()).any(|words| words == next), "{said}: {next:?}: {}", ran.stderr);
}

#[test]
fn every_refusal_of_the_directory_is_said_with_its_way_out() {
    let world = World::new();
    for (row, said) in alternatives(Plane::Directory).into_iter().filter(|(_, said)| said.starts_with("AADSTS")) {
        let text = format!("{said}: words of the directory. Trace ID: 1");
        let fault = json!({"when": {"plane": "login", "route": "token"}, "then": {"status": 400, "body": {"error": "invalid_grant", "error_description": text}}});
        seen(&world, &["list"], &fault, row, &said);
    }
}

#[test]
fn every_refusal_of_azure_is_said_with_its_way_out() {
    let world = World::new();
    // What a list takes for "there is none" is met by a creation: row 46.
    let rows = alternatives(Plane::Azure).into_iter().filter(|(row, _)| row.code.id != "AZR4016");
    for (row, said) in rows {
        let (code, message) = match said.split_once(' ') {
            // A sentence: under a code that says nothing.
            _ if !said.split("Kind").next().unwrap().contains(' ') => {
                (said.split("Kind").next().unwrap(), said.as_str())
            }
            _ => ("BadRequest", said.as_str()),
        };
        let fault = json!({"when": {"plane": "arm", "method": "GET", "route": "Microsoft.AzureStack/registrations"}, "then": {"status": 409, "error": code, "message": message}});
        seen(&world, &["list"], &fault, row, &said);
    }
}

#[test]
fn every_refusal_of_the_stamp_is_said_with_its_way_out() {
    let (again, others): (Vec<_>, Vec<_>) = alternatives(Plane::Stamp)
        .into_iter()
        // What a cmdlet other than that of `stamp info` says is in `every_row_has_its_code`; what waits for an hour is in row 46.
        .filter(|(_, said)| !said.contains("-Azure") || said.starts_with("Get-AzureStack"))
        .filter(|(row, _)| row.class != Class::Wait && row.code.id != "AZR2011")
        .partition(|(row, _)| row.class == Class::Again);
    let run = |rows: &[(&'static Refusal, String)]| {
        let world = World::new();
        for (row, said) in rows {
            let fault =
                json!({"when": {"plane": "pep", "route": "Get-AzureStackStampInformation"}, "then": {"error": said}});
            seen(&world, &["stamp", "info"], &fault, row, said);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run(&others));
        // Each of these takes the twenty seconds of three tries.
        for one in again.chunks(1) {
            scope.spawn(move || run(one));
        }
    });
}

#[test]
fn a_cmdlet_that_fails_for_no_final_reason_is_tried_again_and_each_try_is_said() {
    let cmdlets = [
        "Get-AzureStackStampInformation",
        "New-AzureBridgeServicePrincipal",
        "New-RegistrationToken",
        "New-AzureStackActivation",
        "Set-RegistrationKeyPair",
    ];
    std::thread::scope(|scope| {
        for cmdlet in cmdlets {
            scope.spawn(move || {
                let world = World::new();
                let fault = json!({"when": {"plane": "pep", "route": cmdlet}, "then": {"error": "Something went wrong on the stamp."}, "limit": 2});
                world.control("/faults", &fault);
                let ran = world.run(&[REGISTER, &["-v"]].concat()).ends(0);
                let tries = ran.stderr.matches("trying again").count();
                assert!(tries >= 2, "{cmdlet}: {tries} tries are told: {}", ran.stderr);
                let left = world.control_with("GET", "/faults", &Value::Null);
                assert_eq!(left[0]["hits"], 2, "{cmdlet}: {left}");
            });
        }
    });
}

/// A person's command: with a code, where `asked`; otherwise with the kept sign-in alone.
fn person(world: &World, asked: bool, arguments: &[&str]) -> Ran {
    let mut command = world.command(0, &world.state());
    world.with_records(0, &mut command);
    if asked {
        command.env("AZSREG_NON_INTERACTIVE", "false");
    }
    let way: &[&str] = if asked && arguments != ["login"] { &["--device-code"] } else { &[] };
    run(command.args(arguments).args(way))
}

/// Azure asks every write of a person for a second factor: in the middle of an operation, which goes on from there.
#[test]
fn a_challenge_in_the_middle_is_answered_and_the_operation_goes_on() {
    let world = World::new();
    world.control("/challenge", &json!({"acrs": "p1"}));
    let again = "asks for multi-factor authentication (acrs p1): sign in again as operator@";
    let ran = person(&world, true, REGISTER).ends(0).says(again);
    assert_eq!(ran.stderr.matches("sign in again").count(), 1, "one challenge, one sign-in: {}", ran.stderr);
    assert_registered_once(&world.lab.world(), "through a challenge");
    // The kept sign-in has the factor: its refresh token gives it on, and no person has to be there.
    let ran = person(&world, false, &["unregister", "--yes"]).ends(0);
    assert!(!ran.stderr.contains("sign in again"), "{}", ran.stderr);
    assert_eq!(world.lab.world()["registrations"], json!([]));
}

#[test]
fn a_challenge_without_a_person_has_a_code_and_the_next_login_asks_for_it() {
    let world = World::new();
    person(&world, true, &["login"]).ends(0);
    person(&world, false, &["check"]).ends(0).says("without multi-factor authentication");
    world.control("/challenge", &json!({"acrs": "p1"}));
    let ran = person(&world, false, REGISTER).says("AZR3024").says("AADSTS50076").says("next: azsreg login");
    assert_ne!(ran.code, Some(0));
    let says = "Azure has asked for multi-factor authentication (acrs p1): this sign-in asks for it.";
    person(&world, true, &["login"]).ends(0).says(says);
    person(&world, false, &["check"]).ends(0).says(", with multi-factor authentication");
    person(&world, false, REGISTER).ends(0);
    assert_registered_once(&world.lab.world(), "after the sign-in");
    // Azure does not ask an application.
    world.run(&["unregister", "--yes"]).ends(0);
    // Of reads as of writes: that ends before anything is begun.
    person(&world, false, &["logout"]).ends(0);
    world.control("/challenge", &Value::Null);
    person(&world, true, &["login"]).ends(0);
    world.control("/challenge", &json!({"acrs": "c7", "reads": true}));
    person(&world, false, REGISTER).ends(1).says("AZR3024").says("the authentication context c7 of the tenant");
}

#[test]
fn a_token_that_expires_in_the_middle_is_drawn_anew_once() {
    let expired = |limit: Option<u64>| {
        let mut rule = json!({"when": {"plane": "arm", "method": "PUT", "route": "/registrations/"},
            "then": {"status": 401, "error": "ExpiredAuthenticationToken", "message": "The access token expiry UTC time is earlier than current UTC time."}});
        rule["limit"] = json!(limit);
        let world = World::new();
        world.control("/faults", &rule);
        let ran = world.run(REGISTER);
        (world, ran)
    };
    let (world, ran) = expired(Some(1));
    ran.ends(0);
    assert_registered_once(&world.lab.world(), "with a token that expired");
    let (world, ran) = expired(None);
    let ran = ran.ends(6).says("AZR3031").says("has expired that is new").says("it resumes");
    assert!(!ran.stderr.contains("AADSTS"), "no wrong option is blamed: {}", ran.stderr);
    world.control_with("DELETE", "/faults", &Value::Null);
    world.run(REGISTER).ends(0);
}

/// What azsreg can't read is for Azure and the stamp to judge: it is passed on and said, and `--strict` refuses it.
#[test]
fn a_token_and_a_key_of_an_unknown_form_are_passed_on() {
    let world = World::new();
    world.control("/forms", &json!({"sealed": true}));
    world.run(&[REGISTER, &["--strict"]].concat()).ends(6).says("AZR1030").says("Leave --strict out");
    assert_eq!(world.lab.world()["registrations"], json!([]), "a token is refused before it is used");
    let told = world.run(&[REGISTER, &["-o", "json"]].concat()).ends(0).json();
    let warnings: Vec<&str> = told["warnings"].as_array().unwrap().iter().filter_map(|w| w["code"].as_str()).collect();
    assert_eq!(warnings, ["AZR1030", "AZR1030"], "the token and the key: {told:#}");
    assert_registered_once(&world.lab.world(), "with what can't be read");
    world.run(REGISTER).ends(0).says("Nothing to do");
    // What depends on reading is not known, and nothing is said to be wrong.
    let ran = world.run(&["status"]).ends(0);
    assert!(ran.stdout.lines().any(|line| line.contains("expires") && line.contains("not known")), "{}", ran.stdout);
    let ran = world.run(&["set", "--marketplace", "off"]).ends(0);
    assert!(ran.stderr.contains("warning[AZR1030]: the registration token is of a form"), "{}", ran.stderr);
    assert!(ran.stderr.contains("warning[AZR1030]: the activation key is of a form"), "{}", ran.stderr);
    world.run(&["unregister", "--yes"]).ends(0);
}

#[test]
fn a_token_and_a_key_of_an_unknown_form_are_carried() {
    let world = World::of(vec![StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }]);
    world.control("/forms", &json!({"sealed": true}));
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let subscription = world.lab.descriptor().subscription_id.to_string();
    let at_stamp = |arguments: &[&str]| run(&mut world.at_stamp(arguments));
    let at_azure = |arguments: &[&str]| run(&mut world.at_azure(arguments));
    let registered = || world.lab.world()["registrations"].as_array().unwrap().len();
    let activated = || world.lab.world()["stamps"][0]["activation"] != Value::Null;
    // In a bundle: it says which stamp and which registration.
    let (token, key) = (world.path("token.json"), world.path("key.json"));
    let ask = ["offline", "token", "--billing-model", "development", "--out"];
    let strict = world.path("strict.json");
    at_stamp(&[&ask[..], &[&strict, "--strict"]].concat()).ends(6).says("AZR1030");
    assert!(!std::path::Path::new(&strict).exists());
    at_stamp(&[&ask[..], &[&token]].concat()).ends(0).says("AZR1030");
    at_azure(&["offline", "inspect", &token]).ends(0).says("not known").says("passed on as it is");
    let register = ["offline", "register", &token, "--out", &key];
    at_azure(&[&register[..], &["--strict"]].concat()).ends(7).says("AZR1030");
    let other = "00000000-0000-4000-8000-000000000000";
    at_azure(&[&register[..], &["--cloud-id", other]].concat()).ends(7).says("AZR5009");
    assert_eq!(registered(), 0, "what is refused is refused before anything is made");
    at_azure(&register).ends(0).says("AZR1030");
    at_stamp(&["offline", "activate", &key, "--strict"]).ends(7).says("AZR1030");
    assert!(!activated());
    at_stamp(&["offline", "activate", &key, "--name", "other"]).ends(7).says("AZR1012");
    at_stamp(&["offline", "activate", &key]).ends(0).says("AZR1030");
    assert!(activated());
    // Bare, as PowerShell writes them: the operator says what can't be read.
    let (bare, bare_key) = (world.path("token.txt"), world.path("key.txt"));
    at_stamp(&[&ask[..], &[&bare, "--raw"]].concat()).ends(0);
    let register = ["offline", "register", &bare, "--out", &bare_key, "--raw"];
    at_azure(&register).ends(2).says("AZR1001").says("--cloud-id");
    at_azure(&[&register[..], &["--cloud-id", &cloud_id]].concat()).ends(0);
    let activate = ["offline", "activate", &bare_key];
    at_stamp(&activate).ends(2).says("AZR1001").says("--name");
    let name = format!("AzureStack-{cloud_id}");
    at_stamp(&[&activate[..], &["--subscription", &subscription, "--name", &name]].concat()).ends(0);
    at_azure(&["offline", "unregister", &bare, "--yes"]).ends(2).says("AZR1001");
    at_azure(&["offline", "unregister", &bare, "--cloud-id", &cloud_id, "--yes"]).ends(0);
    assert_eq!(registered(), 0);
}

/// What was said to run next and led nowhere, or was not so.
#[test]
fn advice_that_was_wrong_is_right() {
    let world = World::of(vec![StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }]);
    let at_stamp = |arguments: &[&str]| run(&mut world.at_stamp(arguments));
    let at_azure = |arguments: &[&str]| run(&mut world.at_azure(arguments));
    let (token, key) = (world.path("token.json"), world.path("key.json"));
    at_stamp(&["offline", "token", "--billing-model", "development", "--out", &token]).ends(0);
    at_azure(&["offline", "register", &token, "--out", &key]).ends(0);
    // The receipt beside the key is ours, and whole.
    let receipt = format!("{key}.receipt.json");
    let ran = at_azure(&["offline", "inspect", &receipt]).ends(0).says("the receipt of a registration");
    assert!(!ran.stdout.contains("cut") && ran.stdout.contains("azurestack"), "{}", ran.stdout);
    let ran = at_stamp(&["offline", "activate", &receipt]).ends(7).says("AZR5008");
    assert!(ran.stderr.contains(&format!("azsreg offline activate {key}")), "{}", ran.stderr);
    let damaged = world.file("damaged", "{\"azsreg_bundle\":1").display().to_string();
    let ran = at_azure(&["offline", "inspect", &damaged]).ends(7).says("AZR5007");
    assert!(!ran.stderr.contains("offline inspect"), "it does not send to itself: {}", ran.stderr);
    // An activation has a plan, and shows no error code in its success.
    let before = world.lab.export();
    at_stamp(&["offline", "activate", &key, "--plan"]).ends(4).says("Nothing was changed");
    assert_eq!(world.lab.export(), before);
    let ran = at_stamp(&["offline", "activate", &key]).ends(0).says("not asked");
    assert!(!ran.stdout.contains("AZR") && !ran.stderr.contains("AZR"), "{}{}", ran.stdout, ran.stderr);
    let ran = at_stamp(&["offline", "activate", &key, "-o", "json"]).ends(0);
    assert!(!ran.stdout.contains("AZR"), "{}", ran.stdout);
    // A disconnected stamp needs no role: none is said to be assigned, nor missed.
    world.control_with("DELETE", "/locks", &Value::Null);
    let ran = world.run(&["repair"]).ends(0);
    assert!(!ran.stdout.contains("role assigned") && !ran.stdout.contains("not assigned"), "{}", ran.stdout);
    // What set asks for is what the renewal is to ask for.
    let ran = world.run(&["set", "--billing-model", "capacity", "--agreement-number", "A-7"]).ends(7).says("AZR6026");
    assert!(ran.stderr.contains("--billing-model capacity --agreement-number A-7"), "{}", ran.stderr);
    let ran = world.run(&["set", "--billing-model", "pay-as-you-use"]).ends(7).says("AZR6026");
    assert!(ran.stderr.contains("can't be registered disconnected"), "{}", ran.stderr);
    // A wrong password is said with what to do, where the other side is shown.
    let wrong = world.file("wrong", "wrong");
    let mut command = world.both(0, &world.state(), &["status"]);
    command.env("AZSREG_PEP_PASSWORD", format!("@{}", wrong.display()));
    let name = world.lab.world()["registrations"][0]["name"].as_str().unwrap().to_owned();
    let ran = run(command.args(["--name", &name])).says("AZR2002");
    assert!(ran.stdout.contains("Check --pep-user and the password"), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn what_a_second_registration_turns_is_said_before() {
    let world = World::new();
    world.run(&[REGISTER, &["--marketplace", "off"]].concat()).ends(0);
    world.run(&[REGISTER, &["--plan"]].concat()).ends(4).says("marketplace off -> on");
    let ran = world.run(REGISTER).ends(0);
    assert!(ran.stderr.contains("is turned: marketplace off -> on"), "{}", ran.stderr);
    // Pay-as-you-use reports usage, whoever asks otherwise.
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.run(&["set", "--usage-reporting", "off"]).ends(2).says("AZR1003");
    // What never ends is said so everywhere.
    let ran = world.run(&["status"]).ends(0);
    assert!(ran.stdout.contains("never") && !ran.stdout.contains("9999"), "{}", ran.stdout);
    let name = world.lab.world()["registrations"][0]["name"].as_str().unwrap().to_owned();
    let key = world.path("key.json");
    run(&mut world.at_azure(&["offline", "key", "--name", &name, "--out", &key])).ends(0);
    let ran = run(&mut world.at_azure(&["offline", "inspect", &key])).ends(0).says("never");
    assert!(!ran.stdout.contains("9999"), "{}", ran.stdout);
    // A lock that was lifted was there.
    let ran = world.run(&["unregister", "--yes"]).ends(0);
    let unlock = ran.stdout.lines().chain(ran.stderr.lines()).find(|line| line.contains("unlock ")).unwrap().to_owned();
    assert!(unlock.contains("lifted"), "{unlock}");
}

#[test]
fn all_that_changes_something_has_a_plan() {
    let world = World::new();
    let subscription = world.lab.descriptor().subscription_id.to_string();
    let before = world.lab.export();
    let license = world.file("license", "L").display().to_string();
    world.run(&["stamp", "hci-license", &format!("@{license}"), "--plan"]).ends(4).says("Nothing was changed");
    let role = ["role", "create", "--subscription", &subscription];
    world.run(&[&role[..], &["--plan"]].concat()).ends(4).says("Nothing was changed");
    assert_eq!(world.lab.export(), before);
    world.run(&role).ends(0);
    world.run(&[&role[..], &["--plan"]].concat()).ends(0).says("Nothing to do");
    let before = world.lab.export();
    world.run(&["role", "assign", "--to", &subscription, "--plan"]).ends(4).says("Nothing was changed");
    assert_eq!(world.lab.export(), before);
}
