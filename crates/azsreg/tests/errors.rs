//! The rows of `facts-errors.md` that azsreg can meet, each produced in the lab by a fault or a state: its code, and that the
//! operator is told what to run next. Rows that other tests produce: 1, 3, 4, 6, 8, 12, 37, 45, 49 (`article`, `refused`),
//! 2, 10, 65 (`article::acceptance`), 38 (`article::prerequisites`), 58 to 60 (`refused`), 70, 72, 75 to 79 and 82
//! (`marketplace`).
#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, World, run};
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
    let ran = world.run(&["check"]);
    assert_eq!(ran.code, Some(7), "{}", ran.stdout);
    assert!(ran.stdout.contains("AZR7002"), "{}", ran.stdout);
}
