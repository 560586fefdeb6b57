//! What else an operator does: adopt, roles, orphans, licences, transcripts, explanations; and the lab's own growth. `judged.rs` has
//! what is judged before anything is changed, by `check` and by the commands.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod judged;

use azsreg_lab::{LabOptions, StampOptions};
use common::{World, assert_registered_once, run};
use serde_json::{Value, json};
use std::process::Stdio;

#[test]
fn a_stamp_that_powershell_registered_is_adopted() {
    let world = World::new();
    world
        .run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1", "--name", "ByPowerShell"])
        .ends(0);
    let before = world.lab.export();
    let fresh = world.dir.path().join("fresh");
    let adopt = |more: &[&str]| run(world.both(0, &fresh, &["adopt"]).args(more));
    adopt(&["--agreement-number", "A-1"]).ends(0).says("Nothing was changed").says("ByPowerShell");
    assert_eq!(world.lab.export(), before);
    // What was adopted is known from now on.
    world.control("/stamps/stamp1", &json!({"nodes": 6}));
    run(&mut world.both(0, &fresh, &["renew"])).ends(0);
    let token = &world.lab.world()["registrations"][0]["token"];
    assert_eq!(token["agreementNumber"], "A-1");
    let none = World::new();
    none.run(&["adopt"]).ends(3).says("AZR6001");
}

/// One function judges the name for both.
#[test]
fn check_and_register_agree_on_the_name_of_a_stamp_that_powershell_registered() {
    let world = World::new();
    world.run(&["register", "--billing-model", "development", "--name", "ByPowerShell"]).ends(0);
    let free = |ran: &common::Ran| ran.stdout.contains("is free");
    let cases: [&[&str]; 3] = [&[], &["--name", "another"], &["--resource-group", "elsewhere"]];
    for more in cases {
        let check = run(world.both(0, &world.state(), &["check"]).args(more)).ends(7).says("AZR4007");
        assert!(!free(&check), "{}", check.stdout);
        let mut register = world.both(0, &world.state(), &["register", "--billing-model", "development"]);
        let refused = run(register.args(more)).ends(7).says("AZR4007");
        for way_out in ["azsreg adopt", "azsreg renew", "azsreg status"] {
            assert!(refused.stderr.contains(way_out) && check.stdout.contains(way_out), "{}", refused.stderr);
        }
    }
    let check = world.run(&["check", "--name", "ByPowerShell"]).ends(0).says("this stamp's already");
    assert!(!free(&check), "{}", check.stdout);
    world.run(&["register", "--billing-model", "development", "--name", "ByPowerShell"]).ends(0).says("Nothing to do");
    // In another subscription: only the stamp's record tells.
    let other = world.lab.descriptor().fresh_subscription_id.to_string();
    world.run(&["check", "--subscription", &other]).ends(7).says("AZR4007").says("is activated for");
    world.run(&["register", "--billing-model", "development", "--subscription", &other]).ends(7).says("AZR4007");
}

/// What the directory says of the bridge application is a warning: to be known, and no more.
#[test]
fn an_application_that_is_blocked_from_azure_ad_graph_is_said_to_be() {
    let world = World::new();
    let blocked = |blocked: Value, nth: u64| {
        let one = json!({"id": "a", "appId": "b", "authenticationBehaviors": {"blockAzureADGraphAccess": blocked}});
        let when = json!({"plane": "graph", "method": "GET", "route": "/v1.0/applications", "nth": nth});
        world.lab.fault(json!({"when": when, "then": {"body": {"value": [one]}}, "limit": 1})).unwrap();
    };
    // The stamp asks first, when it makes the application.
    blocked(json!(true), 2);
    world
        .run(&["register", "--billing-model", "development"])
        .ends(0)
        .says("warning[AZR4025]")
        .says("Update the stamp first");
    let row = |ran: common::Ran| {
        let checks = ran.json()["value"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["name"] == "bridge application's Azure AD Graph").unwrap()
    };
    for (said, verdict) in [(json!(true), "warning"), (json!(null), "warning"), (json!(false), "ok")] {
        blocked(said.clone(), 1);
        let row = row(world.run(&["check", "-o", "json"]));
        assert_eq!(row["verdict"], verdict, "{said}: {row}");
        assert_eq!(row["problem"]["code"] == "AZR4025", verdict == "warning", "{row}");
    }
    // The stamp's own words, where the directory refuses it.
    let words = "Access blocked to AAD Graph API for this application. https://aka.ms/AzureADGraphMigration.";
    let when = json!({"plane": "pep", "route": "New-AzureBridgeServicePrincipal"});
    world.lab.fault(json!({"when": when, "then": {"error": words}})).unwrap();
    let refused = world.run(&["renew"]).says("error[AZR4025]").says("Update the stamp first");
    assert_ne!(refused.code, Some(0));
}

/// Azure may fill in an object id where the token has none: a disconnected stamp has no principal all the same.
#[test]
fn a_disconnected_registration_with_an_object_id_is_not_broken() {
    let before = World::new();
    let (token, key) = (before.path("token"), before.path("key"));
    before.run(&["offline", "token", "--billing-model", "development", "--out", &token]).ends(0);
    before.run(&["offline", "register", &token, "--out", &key]).ends(0);
    before.run(&["offline", "activate", &key]).ends(0);
    let mut snapshot: Value = serde_json::from_str(&before.lab.snapshot()).unwrap();
    for object in ["00000000-0000-0000-0000-000000000000", "7d5a1c9e-1111-4222-8333-444444444444"] {
        snapshot["azure"]["arm"]["registrations"][0]["token"]["object_id"] = json!(object);
        let world = World::restored(&snapshot.to_string());
        common::copy(&before.state(), &world.state());
        let report = world.run(&["status", "-o", "json"]).ends(0).json();
        assert_eq!(report["status"], "registered", "{report:#}");
        assert_eq!(report["findings"], json!([]), "{report:#}");
        // What a connected renewal would leave half-way is refused with the way that there is.
        world.run(&["renew"]).ends(7).says("azsreg offline renew start");
        world.run(&["repair"]).ends(0);
        assert_eq!(world.lab.world()["role_assignments"], json!([]));
    }
}

/// A caller with exactly these actions, as application and as the person whose refresh token the stamp gets.
fn caller(world: &World, scopes: &[String], actions: &[String]) -> (String, String) {
    let condition = world.run(&["role", "show"]).json()["AssignmentCondition"].clone();
    let roles: Vec<Value> = scopes
        .iter()
        .map(|scope| json!({"role": "limited", "scope": scope, "actions": actions, "condition": condition}))
        .collect();
    let made = world.control("/users", &json!({"name": "limited", "custom_roles": roles, "operator": true}));
    let secret = world.file("limited-secret", made["client_secret"].as_str().unwrap());
    let _ = std::fs::remove_file(world.dir.path().join("bridge-token"));
    (made["client_id"].as_str().unwrap().to_owned(), format!("@{}", secret.display()))
}

fn limited(world: &World, caller: &(String, String), arguments: &[&str]) -> std::process::Command {
    let mut command = world.both(0, &world.state(), arguments);
    command.env("AZSREG_CLIENT_ID", &caller.0).env("AZSREG_CLIENT_SECRET", &caller.1);
    command
}

fn actions(world: &World) -> Vec<String> {
    let role = world.run(&["role", "show"]).ends(0).json();
    role["Actions"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect()
}

#[test]
fn with_only_the_least_privilege_role_every_command_works() {
    let world = World::new();
    let other = world.control("/subscriptions", &json!({}))["subscription_id"].as_str().unwrap().to_owned();
    let scopes =
        [format!("/subscriptions/{}", world.lab.descriptor().subscription_id), format!("/subscriptions/{other}")];
    let who = caller(&world, &scopes, &actions(&world));
    let go = |arguments: &[&str]| run(&mut limited(&world, &who, arguments)).ends(0);
    go(&["check", "--billing-model", "capacity"]);
    go(&["register", "--billing-model", "capacity", "--agreement-number", "A"]);
    go(&["status"]);
    go(&["list"]);
    go(&["set", "--billing-model", "pay-as-you-use"]);
    go(&["renew"]);
    go(&["move", "--to-resource-group", "there"]);
    go(&["repair"]);
    go(&["adopt"]);
    go(&["move", "--to-resource-group", "there", "--to-subscription", &other]).says("moved");
    let back = world.lab.descriptor().subscription_id.to_string();
    let mut command = limited(&world, &who, &["change-subscription", "--to-subscription", &back, "--yes"]);
    run(command.env("AZSREG_SUBSCRIPTION", &other)).ends(0);
    go(&["unregister", "--yes"]);
    let token = world.control("/stamps/stamp1/registration-token", &json!({"billing_model": "Development"}));
    let file = world.file("token.txt", token["registration_token"].as_str().unwrap());
    let key = world.path("key.json");
    go(&["offline", "register", &file.display().to_string(), "--out", &key]);
    go(&[
        "offline",
        "key",
        "--cloud-id",
        &world.lab.descriptor().stamps[0].cloud_id.to_string(),
        "--out",
        &world.path("k2"),
    ]);
    go(&["offline", "unregister", &file.display().to_string(), "--yes"]);
    assert_eq!(world.lab.world()["registrations"], json!([]));
}

/// The actions of the role that an earlier azsreg made.
fn narrow(world: &World) -> Vec<String> {
    let only_to_look = ["subscriptions/providers/read", "subscriptions/locations/read"];
    let fewer: Vec<String> =
        actions(world).into_iter().filter(|action| !only_to_look.iter().any(|end| action.ends_with(end))).collect();
    assert_eq!(fewer.len(), 16);
    fewer
}

#[test]
fn what_a_narrow_role_may_not_look_at_is_not_known_and_goes_on() {
    let world = World::new();
    let scope = format!("/subscriptions/{}", world.lab.descriptor().subscription_id);
    let who = caller(&world, std::slice::from_ref(&scope), &narrow(&world));
    let go = |arguments: &[&str]| run(&mut limited(&world, &who, arguments)).ends(0);
    let check = go(&["check"]).says("whether Microsoft.AzureStack is registered could not be checked");
    assert!(check.stdout.contains("which locations the subscription has could not be checked"), "{}", check.stdout);
    run(&mut limited(&world, &who, &["register", "--billing-model", "development", "--plan"])).ends(4).says("AZR4060");
    go(&["register", "--billing-model", "development"]).says("warning[AZR4060]");
    assert_registered_once(&world.lab.world(), "without a look at the provider");
    go(&["unregister", "--yes"]);
    // Such a role does; it is brought up to date where that is asked for.
    let id = "49cad164-feb3-533a-947a-9cbde32c1910";
    let properties =
        json!({"roleName": "Azure Stack Hub registration role", "permissions": [{"actions": narrow(&world)}]});
    let id_of_role = format!("{scope}/providers/Microsoft.Authorization/roleDefinitions/{id}");
    let list = json!({"value": [{"id": id_of_role, "name": id, "properties": properties}]});
    let when = json!({"plane": "arm", "method": "GET", "route": "roledefinitions"});
    world.lab.fault(json!({"when": when, "then": {"body": list}, "limit": 3})).unwrap();
    world.run(&["role", "create"]).ends(0).says("Nothing to do").says(id);
    world.run(&["role", "create", "--update"]).ends(0).says("Make the role");
    world.run(&["role", "create", "--update"]).ends(0).says("Nothing to do");
}

#[test]
fn a_provider_that_may_be_neither_seen_nor_registered_is_not_waited_for() {
    let world = World::new();
    let scope = format!("/subscriptions/{}", world.lab.descriptor().subscription_id);
    let actions: Vec<String> =
        narrow(&world).into_iter().filter(|a| a != "Microsoft.AzureStack/register/action").collect();
    let who = caller(&world, &[scope], &actions);
    let when = json!({"plane": "arm", "method": "PUT", "route": "microsoft.azurestack/registrations"});
    world
        .lab
        .fault(json!({"when": when, "then": {"status": 409, "error": "MissingSubscriptionRegistration"}}))
        .unwrap();
    let refused = run(&mut limited(&world, &who, &["register", "--billing-model", "development"]));
    let refused = refused.ends(6).says("error[AZR4009]").says("az provider register --namespace Microsoft.AzureStack");
    assert!(!refused.stderr.contains("waiting"), "{}", refused.stderr);
}

#[test]
fn permissions_that_cant_be_read_are_no_permissions_that_are_missing() {
    let snapshot = World::new().lab.snapshot();
    for (status, error) in [(403, "AuthorizationFailed"), (404, "ResourceNotFound"), (405, "MethodNotAllowed")] {
        let world = World::restored(&snapshot);
        let when = json!({"plane": "arm", "route": "microsoft.authorization/permissions"});
        world.lab.fault(json!({"when": when, "then": {"status": status, "error": error}})).unwrap();
        let go = |arguments: &[&str], code| {
            let ran = world.run(arguments).ends(code).says("could not be checked").says("AZR4060");
            assert!(!ran.stdout.contains("lacks") && !ran.stderr.contains("lacks"), "{}{}", ran.stdout, ran.stderr);
        };
        go(&["check"], 0);
        go(&["register", "--billing-model", "development", "--plan"], 4);
        go(&["register", "--billing-model", "development"], 0);
        go(&["move", "--to-resource-group", "there"], 0);
        go(&["unregister", "--yes"], 0);
        assert_eq!(world.lab.world()["registrations"], json!([]));
    }
}

#[test]
fn with_any_one_action_missing_check_names_it() {
    let snapshot = World::new().lab.snapshot();
    let all = actions(&World::new());
    assert!(all.len() > 12);
    for missing in &all {
        let world = World::restored(&snapshot);
        let fewer: Vec<String> = all.iter().filter(|action| *action != missing).cloned().collect();
        let scope = [format!("/subscriptions/{}", world.lab.descriptor().subscription_id)];
        let who = caller(&world, &scope, &fewer);
        let ran = run(&mut limited(&world, &who, &["check", "-o", "json"]));
        let value = ran.json();
        let named = |check: &&Value| {
            check["name"] == json!(missing) || check["detail"].as_str().unwrap_or_default().contains(missing.as_str())
        };
        let found =
            value["value"].as_array().unwrap().iter().find(named).unwrap_or_else(|| panic!("{missing}: {value:#}"));
        assert_ne!(found["verdict"], "ok", "{missing}: {found}");
    }
}

#[test]
fn the_role_is_made_assigned_and_gives_no_other_role_away() {
    let world = World::new();
    world.run(&["role", "create"]).ends(0).says("is there").says("Make the role");
    world.run(&["role", "create"]).ends(0).says("Nothing to do");
    let journals =
        world.dir.path().join("state/roles/journals").join(world.lab.descriptor().subscription_id.to_string());
    assert_eq!(std::fs::read_dir(journals).unwrap().count(), 1, "what was so already leaves no journal");
    let made = world.control("/users", &json!({"name": "registrar", "operator": true}));
    let (object, operator) = (made["object_id"].as_str().unwrap(), made["operator"].as_str().unwrap());
    // Who has no role at all can't give one.
    world.run(&["role", "assign", "--to", object]).ends(0);
    world.run(&["role", "assign", "--to", operator]).ends(0);
    let _ = std::fs::remove_file(world.dir.path().join("bridge-token"));
    let secret = world.file("registrar", made["client_secret"].as_str().unwrap());
    let who = (made["client_id"].as_str().unwrap().to_owned(), format!("@{}", secret.display()));
    run(&mut limited(&world, &who, &["register", "--billing-model", "development"])).ends(0);
    assert_registered_once(&world.lab.world(), "with the role");
    // With the role nobody can be made anything else: the condition forbids it.
    let stranger = world.control("/users", &json!({"name": "stranger"}));
    run(&mut limited(&world, &who, &["role", "assign", "--to", stranger["object_id"].as_str().unwrap()]))
        .ends(1)
        .says("AZR4009")
        .says("roleAssignments/write");
}

#[test]
fn who_does_not_own_the_bridge_application_is_told_beforehand() {
    let world = World::new();
    world.run(&["register", "--billing-model", "development"]).ends(0);
    let scope = format!("/subscriptions/{}", world.lab.descriptor().subscription_id);
    world.control("/users", &json!({"operator": true, "roles": [{"role": "Owner", "scope": scope}]}));
    let state = world.dir.path().join("second");
    let second = |arguments: &[&str]| {
        let mut command = world.command(0, &state);
        world.with_records(0, &mut command);
        command.env("AZSREG_NON_INTERACTIVE", "false");
        run(command.args(arguments))
    };
    second(&["login"]).ends(0);
    second(&["check"]).ends(7).says("AZR4021").says("operator@");
    second(&["renew"]).ends(6).says("AZR4009");
}

#[test]
fn orphans_are_cleaned_on_either_side() {
    let world = World::new();
    world.run(&["register", "--billing-model", "development", "--name", "r"]).ends(0);
    world.control_with("DELETE", "/registrations/r", &Value::Null);
    world.run(&["unregister", "--yes"]).ends(3).says("AZR6004").says("--orphan stamp");
    world.run(&["unregister", "--orphan", "stamp", "--yes"]).ends(0);
    assert_eq!(world.lab.world()["stamps"][0]["activation"], Value::Null);
    world.run(&["register", "--billing-model", "development", "--name", "r"]).ends(0);
    world.run(&["unregister", "--orphan", "stamp", "--yes"]).ends(7).says("no orphan");
    let gone = world.at_azure(&["unregister", "--orphan", "azure", "--yes"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(2), "the registration has to be named");
    run(&mut world.at_azure(&["unregister", "--orphan", "azure", "--name", "r", "--yes"])).ends(0);
    assert_eq!(world.lab.world()["registrations"], json!([]));
}

#[test]
fn a_foreign_lock_is_named_before_anything_changes() {
    let world = World::new();
    world.run(&["register", "--billing-model", "development"]).ends(0);
    let subscription = world.lab.descriptor().subscription_id;
    world.control("/locks", &json!({"scope": format!("/subscriptions/{subscription}/resourceGroups/azurestack"), "name": "theirs", "level": "CanNotDelete"}));
    let before = world.lab.export();
    world.run(&["unregister", "--yes"]).ends(7).says("AZR4010").says("theirs");
    assert_eq!(world.lab.export(), before);
    world.run(&["move", "--to-resource-group", "other"]).ends(0);
}

#[test]
fn a_move_without_the_stamp_leaves_one_command() {
    let world = World::new();
    world.run(&["register", "--billing-model", "development", "--name", "r"]).ends(0);
    let mut command = world.both(0, &world.state(), &["move", "--name", "r", "--to-resource-group", "other"]);
    run(command.env("AZSREG_PEP", "127.0.0.1:1")).ends(6).says("azsreg repair --subscription");
    world.run(&["status"]).ends(3).says("azsreg repair");
    world.run(&["repair"]).ends(0);
    assert_registered_once(&world.lab.world(), "repaired");
}

#[test]
fn a_move_that_takes_its_time_is_followed() {
    let options = LabOptions { move_takes: jiff::SignedDuration::from_millis(1_500), ..LabOptions::default() };
    let world = World::with(options);
    world.run(&["register", "--billing-model", "development"]).ends(0);
    world.run(&["move", "--to-resource-group", "other"]).ends(0);
    assert_registered_once(&world.lab.world(), "moved slowly");
}

#[test]
fn transcripts_are_delivered_and_licences_saved() {
    let world = World::new();
    let password = world.file("share", "SharePa55");
    let license = world.file("license", "LICENCE-TEXT-CANARY");
    let mut command = world.both(0, &world.state(), &["stamp", "hci-license", &format!("@{}", license.display())]);
    command.args(["--transcript-share", r"\\files\transcripts", "--transcript-user", r"CONTOSO\writer"]);
    command.args(["--transcript-password", &format!("@{}", password.display())]);
    run(&mut command).ends(0).says("licence is saved");
    let stamp = &world.lab.world()["stamps"][0];
    assert_ne!(stamp["hci_license"], Value::Null);
    assert_eq!(stamp["transcripts"], json!([r"\\files\transcripts as CONTOSO\writer"]));
    let mut command = world.both(0, &world.state(), &["stamp", "info", "--transcript-share", "nowhere"]);
    run(&mut command).ends(2).says("--transcript-share");
}

#[test]
fn a_transcript_of_the_lab_is_as_the_lab() {
    let world = World::of(vec![StampOptions { build: "1.2301.2.58".into(), nodes: 8, ..StampOptions::default() }]);
    let file = world.path("transcript.json");
    // It is shown before it is written, and there is no person to show it to.
    world.run(&["check", "--transcript", &file]).ends(2).says("AZR1014").says("--yes");
    assert!(!std::path::Path::new(&file).exists());
    world.run(&["check", "--transcript", &file, "--yes"]).ends(0).says("Read it before you send it");
    let text = std::fs::read_to_string(&file).unwrap();
    let told = world.lab.descriptor();
    for secret in
        [told.stamps[0].cloud_id.to_string(), told.tenant_id.to_string(), told.stamps[0].admin_arm_endpoint.clone()]
    {
        assert!(!text.contains(&secret), "{secret} is in the transcript");
    }
    world.run(&["lab", "compare", &file]).ends(0).says("1.2301.2.58");
    let other =
        world.file("other.json", &text.replace("NumberOfNodes\": \"Integer", "NumberOfNodes\": \"String (text)"));
    world.run(&["lab", "compare", &other.display().to_string()]).ends(7).says("NumberOfNodes");
    // The form before had the calls alone. It is read, and settles less; one that is newer is not guessed at.
    let mut before: Value = serde_json::from_str(&text).unwrap();
    let mut calls = before["calls"].as_array().unwrap().clone();
    calls.iter_mut().for_each(|call| drop(call.as_object_mut().unwrap().remove("values")));
    before = json!({"azsreg_transcript": 1, "build": before["build"], "nodes": before["nodes"], "calls": calls});
    let older = world.file("before.json", &before.to_string()).display().to_string();
    world.run(&["lab", "compare", &older]).ends(0).says("confirmed  Get-AzureStackStampInformation").says("open ");
    before["azsreg_transcript"] = json!(3);
    let newer = world.file("newer.json", &before.to_string()).display().to_string();
    world.run(&["lab", "compare", &newer]).ends(2).says("format 3");
}

/// Takes a transcript and gives the rows that it confirms; it refutes none, and has nothing in it that is the lab's own.
fn confirmed(world: &World, name: &str, arguments: &[&str]) -> Vec<String> {
    let file = world.path(name);
    let taken = ["check", "--transcript", &file, "--yes", "--silent-for", "0"];
    world.run(&[&taken[..], arguments].concat());
    let text = std::fs::read_to_string(&file).unwrap().to_lowercase();
    let told = world.lab.descriptor();
    let stamp = &told.stamps[0];
    let mut own = vec!["127.0.0.1".to_owned(), "azsreg-lab".into(), "azsreg lab".into(), stamp.pep_user.to_lowercase()];
    own.extend([told.subscription_id, told.tenant_id, stamp.cloud_id, told.client_id].map(|id| id.to_string()));
    for secret in [&stamp.pep_password_file, &told.client_secret_file, &stamp.stamp_client_secret_file] {
        own.push(std::fs::read_to_string(secret).unwrap().trim().to_lowercase());
    }
    for own in own {
        assert!(!text.contains(&own), "{own} is in {text}");
    }
    let compared = world.run(&["lab", "compare", &file, "-o", "json"]).json();
    let rows = compared["value"].as_array().unwrap();
    let of = |verdict: &str| rows.iter().filter(|row| row["verdict"] == verdict).cloned().collect::<Vec<_>>();
    assert_eq!(of("refuted"), [] as [Value; 0], "{text}");
    of("confirmed").iter().map(|row| row["row"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn transcripts_of_the_lab_confirm_every_row_that_the_lab_can() {
    let activation = jiff::SignedDuration::from_hours(1);
    let world = World::of(vec![StampOptions { activation, ..StampOptions::default() }]);
    let mut all = confirmed(&world, "before.json", &[]);
    let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
    all.extend(confirmed(&world, "fresh.json", &["--subscription", &fresh]));
    // While an activation runs, which another client has begun.
    let mut register = world.register("pay-as-you-use");
    let mut register = register.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while world.lab.world()["stamps"][0]["running"] != "New-AzureStackActivation" {
        assert_eq!(register.try_wait().unwrap(), None, "{:#}", world.lab.world());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    all.extend(confirmed(&world, "while.json", &[]));
    register.kill().unwrap();
    register.wait().unwrap();
    all.sort();
    all.dedup();
    let compared = world.run(&["lab", "compare", &world.path("while.json"), "-o", "json"]).json();
    let rows: Vec<&str> =
        compared["value"].as_array().unwrap().iter().map(|row| row["row"].as_str().unwrap()).collect();
    let left: Vec<&&str> = rows.iter().filter(|row| !all.iter().any(|one| one == **row)).collect();
    // The lab is no public cloud, and three minutes are not waited for: that row is judged beside its rule.
    assert_eq!(left, [&"public Azure at `--cloud-endpoint`", &"a silent connection"]);
}

#[test]
fn without_a_sign_in_the_stamp_gives_a_transcript_all_the_same() {
    let world = World::new();
    let file = world.path("alone.json");
    let mut command = world.at_stamp(&["check", "--transcript", &file, "--yes"]);
    command.env_remove("AZSREG_STAMP_CLIENT_ID").env_remove("AZSREG_STAMP_CLIENT_SECRET");
    command.env("AZSREG_SUBSCRIPTION", world.lab.descriptor().subscription_id.to_string());
    run(&mut command).ends(7);
    let taken: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(taken["asked"], json!([]));
    assert!(taken["left_out"].to_string().contains("Azure: no account is signed in"), "{taken}");
    world.run(&["lab", "compare", &file]).ends(0).says("confirmed  cmdlets of a build");
}

/// What the stamp's record or a journal of this machine names is not asked for.
#[test]
fn the_subscription_that_is_known_is_not_asked_for() {
    let world = World::new();
    let told = world.lab.descriptor();
    let away = world.dir.path().join("away");
    let without = |state: &std::path::Path, arguments: &[&str]| {
        let mut command = world.both(0, state, arguments);
        command.env_remove("AZSREG_SUBSCRIPTION");
        command
    };
    let run_without = |arguments: &[&str]| run(&mut without(&world.state(), arguments));
    // At first nothing names it: a command says so, and the stamp's side is shown all the same.
    run_without(&["renew"]).ends(2).says("AZR1031").says("the stamp has no activation record");
    run_without(&["status"]).ends(1).says("AZR1031").says("activation         none");
    world.run(&["register", "--billing-model", "development"]).ends(0);
    for arguments in [&["status"][..], &["set", "--marketplace", "off"], &["renew"], &["adopt"], &["repair"]] {
        run_without(arguments).ends(0);
    }
    // The record alone, at a machine without journals; the journal alone, without a sign-in to the stamp.
    run(&mut without(&away, &["status"])).ends(0).says("Registered");
    let mut blind = without(&world.state(), &["status"]);
    blind.env_remove("AZSREG_STAMP_CLIENT_ID").env_remove("AZSREG_STAMP_CLIENT_SECRET");
    run(&mut blind).ends(0).says("Registered in Azure");
    // Who is not signed in to Azure sees the stamp's side.
    let mut stamp = without(&away, &["status"]);
    for sign_in in ["AZSREG_CLIENT_ID", "AZSREG_CLIENT_SECRET", "AZSREG_BRIDGE_REFRESH_TOKEN"] {
        stamp.env_remove(sign_in);
    }
    run(&mut stamp).ends(0).says("Activated on the stamp").says("AZR3001");
    // Two that differ: the world outranks the journal.
    let to = told.fresh_subscription_id.to_string();
    run(&mut without(&away, &["change-subscription", "--to-subscription", &to, "--yes"])).ends(0);
    run_without(&["status"]).ends(0).says(&to);
    run_without(&["renew"]).ends(0).says(&to);
    // The registration is gone: Azure is looked at where the record says.
    run(&mut world.both(0, &away, &["unregister", "--orphan", "stamp", "--yes", "--subscription", &to])).ends(7);
    let name = format!("AzureStack-{}", told.stamps[0].cloud_id);
    let orphan = ["unregister", "--orphan", "azure", "--name", &name, "--yes", "--subscription", &to];
    run(&mut world.both(0, &world.state(), &orphan)).ends(0);
    run(&mut without(&away, &["unregister", "--orphan", "stamp", "--yes"])).ends(0);
    // Again, where the record names none any more: the journal does.
    run(&mut without(&away, &["unregister", "--orphan", "stamp", "--yes"])).ends(0).says("Nothing to do");
    run_without(&["unregister", "--orphan", "azure", "--name", "n"]).ends(2).says("AZR1031");
}

#[test]
fn a_code_and_a_log_are_explained() {
    let world = World::new();
    world.run(&["explain", "AZR4007"]).ends(0).says("next:");
    world.run(&["explain", "4007"]).ends(0);
    world.run(&["explain", "AZR0000"]).ends(2).says("AZR1016");
    world.run(&["explain"]).ends(0).says("AZR6004");
    let log = "2020-01-01 10:00:00 Begin log: Set-AzsRegistration\r\n2020-01-01 10:00:05 InvalidRegistrationToken : The registration token is malformed.\r\n";
    let bytes: Vec<u8> = [0xff, 0xfe].into_iter().chain(log.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let file = world.path("log");
    std::fs::write(&file, bytes).unwrap();
    world.run(&["explain", "--from-log", &file]).ends(0).says("AZR4008");
}

#[test]
fn a_log_says_how_it_ended_in_any_language() {
    let world = World::new();
    let time = "2026-03-01.10-15-00";
    let told = |name: &str, text: String| {
        let bytes: Vec<u8> = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let file = world.path(name);
        std::fs::write(&file, bytes).unwrap();
        world.run(&["explain", "--from-log", &file]).ends(0).stdout
    };
    let begin = format!("{time}: *** Begin log: Set-AzsRegistration ***\r\n{time}: Verbindung wird aufgebaut.\r\n");
    let refused = "+ FullyQualifiedErrorId : LogonFailure,PSSessionOpenFailed";
    let warned = format!(
        "{time}: *** WARNING ***\r\n{time}: [192.0.2.7] Der Benutzername oder das Kennwort ist falsch.\r\n    {refused}\r\n{time}: *** End WARNING ***\r\n{time}: Waiting 10 seconds and trying again...\r\n"
    );
    let end = format!("{time}: *** End log: Set-AzsRegistration ***\r\n");
    let well = told("well", format!("{begin}{warned}{end}"));
    assert!(well.contains("it ended well") && well.contains("AZR2002") && !well.contains("next:"), "{well}");
    let japanese = format!(
        "{time}: リモート サーバーに接続できません。\r\n    + FullyQualifiedErrorId : CannotConnect,PSSessionOpenFailed\r\n"
    );
    let failed = told("failed", format!("{begin}{time}: *** Error ***\r\n{japanese}"));
    assert!(failed.contains("it failed.") && failed.contains("AZR2001") && failed.contains("next:"), "{failed}");
    let stopped = told("stopped", format!("{begin}{time}: Activating Azure Stack.\r\n"));
    assert!(stopped.contains("the log stops at line 3, after: Activating Azure Stack."), "{stopped}");
    let unknown = told("unknown", format!("{begin}{time}: *** Error ***\r\n{time}: Etwas Unbekanntes.\r\n"));
    assert!(unknown.contains("AZR9009") && unknown.contains("Etwas Unbekanntes."), "{unknown}");
}

#[test]
fn ad_fs_signs_in_to_the_stamp() {
    let world = World::of(vec![StampOptions { identity: "adfs".into(), ..StampOptions::default() }]);
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0).says("the record names this registration");
    world.run(&["status", "--check"]).ends(0);
    // A person with a code, and a secret that is wrong.
    let mut command = world.both(0, &world.state(), &["status"]);
    command.env_remove("AZSREG_STAMP_CLIENT_ID").env_remove("AZSREG_STAMP_CLIENT_SECRET");
    run(command.arg("--stamp-device-code")).ends(0).says("Registered");
    let wrong = world.file("wrong", "wrong");
    let mut command = world.both(0, &world.state(), &["status"]);
    command.env("AZSREG_STAMP_CLIENT_SECRET", format!("@{}", wrong.display()));
    run(&mut command).ends(0).says("AZR2017");
}

#[test]
fn a_lab_with_a_data_directory_goes_on_where_it_was() {
    let world = World::new();
    let data = world.dir.path().join("data");
    let lab = |state: &str| {
        let mut command = world.command(0, &world.dir.path().join(state));
        command.args(["lab", "up", "--data-dir"]).arg(&data);
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        (child, line)
    };
    let (mut first, told) = lab("lab");
    let told: Value = serde_json::from_str(&told).unwrap();
    let register = |arguments: &[&str]| {
        let mut command = world.command(0, &world.dir.path().join("operator"));
        let stamp = &told["stamps"][0];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        command.env("AZSREG_CLOUD_ENDPOINT", text(&told["arm_endpoint"])).env("AZSREG_CA_FILE", text(&told["ca_file"]));
        command.env("AZSREG_SUBSCRIPTION", text(&told["subscription_id"])).env("AZSREG_PEP", text(&stamp["pep"][0]));
        command.env("AZSREG_PEP_PASSWORD", format!("@{}", text(&stamp["pep_password_file"])));
        command.env("AZSREG_STAMP_CLIENT_ID", text(&stamp["stamp_client_id"]));
        command.env("AZSREG_STAMP_CLIENT_SECRET", format!("@{}", text(&stamp["stamp_client_secret_file"])));
        command.env("AZSREG_NON_INTERACTIVE", "false");
        run(command.args(arguments))
    };
    register(&["login"]).ends(0);
    register(&["register", "--billing-model", "development"]).ends(0);
    // A second lab on the same data is refused.
    let mut second = world.command(0, &world.dir.path().join("second"));
    run(second.args(["lab", "up", "--data-dir"]).arg(&data)).ends(1).says("AZR8003");
    // Killed, not stopped: what was answered is kept.
    first.kill().unwrap();
    first.wait().unwrap();
    let (mut again, told_again) = lab("lab");
    let told_again: Value = serde_json::from_str(&told_again).unwrap();
    for name in ["arm_endpoint", "tenant_id", "subscription_id", "client_id", "stamps"] {
        assert_eq!(told_again[name], told[name], "{name}");
    }
    // The kept sign-in, signed by kept keys, is still good.
    let ran = register(&["status", "--check", "--non-interactive"]);
    again.kill().unwrap();
    again.wait().unwrap();
    ran.ends(0).says("Registered");
}

#[test]
fn check_tells_what_the_article_asks_for_and_what_it_does_not() {
    let two = |n: usize| StampOptions { name: format!("stamp{n}"), ..StampOptions::default() };
    let world = World::of(vec![two(1), two(2)]);
    let told = world.lab.descriptor();
    let subscription = format!("/subscriptions/{}", told.subscription_id);
    // A kind that registration is not documented for, another stamp in the same subscription: warnings.
    world.control(&subscription, &json!({"quota_id": "PayAsYouGo_2014-09-01"}));
    let other = world.dir.path().join("other");
    run(&mut world.both(1, &other, &["register", "--billing-model", "development"])).ends(0);
    world.run(&["check"]).ends(0).says("AZR4023").says("PayAsYouGo").says("AZR4024");
    world.control(&subscription, &json!({"quota_id": "EnterpriseAgreement_2014-09-01"}));
    let ran = world.run(&["check"]).ends(0);
    assert!(!ran.stdout.contains("AZR4023"), "{}", ran.stdout);
    // Nobody may register applications: said before the stamp finds out.
    world.control(&format!("/tenants/{}/policy", told.tenant_id), &json!({"users_may_register_applications": false}));
    world.run(&["check"]).ends(7).says("AZR4022");
    // All at once: a wrong location beside it.
    world.run(&["check", "--location", "atlantis"]).ends(7).says("AZR4022").says("AZR4015");
    world.run(&["check", "--resource-group", "new", "--location", "atlantis"]).ends(7).says("AZR4022").says("AZR4004");
    // Who is not signed in learns what the stamp alone can tell.
    let mut command = world.command(0, &world.dir.path().join("nobody"));
    run(command.arg("check")).ends(7).says("AZR3001").says("stamp version").says("offers all that registering runs");
    // A cmdlet that the stamp's build promises is not there.
    let lacks = json!({"when": {"plane": "pep", "route": "Get-Command"}, "then": {"body": "New-RegistrationToken"}});
    world.lab.fault(lacks).unwrap();
    world
        .run(&["check"])
        .ends(7)
        .says("AZR2008")
        .says("does not offer New-AzureStackActivation")
        .says("Get-ActionStatus");
}

/// Every file below a directory, but those that are carried and secret by nature.
fn files(directory: &std::path::Path, text: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, text);
        } else {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
}

#[test]
fn no_operation_lets_a_secret_into_output_log_journal_or_receipt() {
    let mut seen = String::new();
    let mut secrets: Vec<String> = Vec::new();
    let mut go = |world: &World, mut command: std::process::Command| {
        command.args(["-v", "--log-file", &world.path("log")]);
        let ran = run(&mut command).ends(0);
        seen.push_str(&ran.stdout);
        seen.push_str(&ran.stderr);
    };
    let world = World::new();
    let both = |arguments: &[&str]| world.both(0, &world.state(), arguments);
    go(&world, both(&["register", "--billing-model", "capacity", "--agreement-number", "A"]));
    go(&world, both(&["set", "--marketplace", "off"]));
    go(&world, both(&["renew"]));
    go(&world, both(&["move", "--to-resource-group", "other"]));
    go(&world, both(&["status"]));
    go(&world, both(&["list"]));
    go(
        &world,
        both(&["check", "--resource-group", "other", "--transcript", &world.path("state/transcript.json"), "--yes"]),
    );
    go(&world, both(&["adopt"]));
    let license = world.file("license", "LICENCE-CANARY-0123456789");
    go(&world, both(&["stamp", "hci-license", &format!("@{}", license.display())]));
    go(&world, both(&["unregister", "--yes"]));
    let away = World::of(vec![StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }]);
    let (token, key, receipt) = (away.path("t"), away.path("k"), away.path("state-stamp/r"));
    let ask = ["offline", "token", "--billing-model", "capacity", "--agreement-number", "A", "--out", &token];
    go(&away, away.at_stamp(&ask));
    go(&away, away.at_azure(&["offline", "register", &token, "--out", &key]));
    go(&away, away.at_azure(&["offline", "inspect", &key]));
    go(&away, away.at_stamp(&["offline", "activate", &key]));
    go(&away, away.at_stamp(&["offline", "deactivate", "--out", &receipt, "--yes"]));
    go(&away, away.at_azure(&["offline", "unregister", &receipt, "--yes"]));
    for (world, states) in [(&world, &["state"][..]), (&away, &["state-stamp", "state-azure"][..])] {
        seen.push_str(&std::fs::read_to_string(world.path("log")).unwrap());
        for state in states {
            files(&world.dir.path().join(state), &mut seen);
        }
        let told = world.lab.descriptor();
        for path in
            [&told.client_secret_file, &told.stamps[0].pep_password_file, &told.stamps[0].stamp_client_secret_file]
        {
            secrets.push(std::fs::read_to_string(path).unwrap());
        }
        secrets
            .push(std::fs::read_to_string(world.dir.path().join("bridge-token")).unwrap_or_else(|_| "-none-".into()));
    }
    seen.push_str(&std::fs::read_to_string(format!("{key}.receipt.json")).unwrap());
    for (file, member) in [(&token, "registration_token"), (&key, "activation_key")] {
        let bundle: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        secrets.push(bundle["payload"][member].as_str().unwrap().to_owned());
    }
    secrets.push("LICENCE-CANARY-0123456789".into());
    assert!(seen.len() > 50_000, "too little was seen: {}", seen.len());
    for secret in secrets {
        let middle = &secret[secret.len() / 4..(secret.len() * 3 / 4).min(secret.len() / 4 + 60)];
        assert!(
            secret.len() > 5 && !seen.contains(&secret) && !seen.contains(middle),
            "a secret was seen: {}...",
            &secret[..4]
        );
    }
}

#[cfg(feature = "crash-points")]
#[test]
fn what_was_agreed_to_for_one_side_is_not_agreed_to_for_both() {
    let orphan = ["unregister", "--orphan", "azure", "--name", "r", "--yes"];
    let prepared = || {
        let world = World::new();
        world.run(&["register", "--billing-model", "development", "--name", "r"]).ends(0);
        world
    };
    let world = prepared();
    let trace = world.dir.path().join("trace");
    run(world.both(0, &world.state(), &orphan).env("AZSREG_CRASH_TRACE", &trace)).ends(0);
    let trace = std::fs::read_to_string(trace).unwrap();
    let opened = trace.lines().position(|point| point.ends_with(" journal")).unwrap() + 1;
    let world = prepared();
    let killed = run(world.both(0, &world.state(), &orphan).env("AZSREG_CRASH_AT", opened.to_string()));
    assert_ne!(killed.code, Some(0), "killed when it was agreed to");
    let before = world.lab.export();
    world.run(&["unregister", "--name", "r"]).ends(2).says("AZR1014");
    assert_eq!(world.lab.export(), before);
}

#[test]
fn what_can_not_be_seen_is_no_orphan() {
    let world = World::new();
    world.run(&["register", "--billing-model", "development", "--name", "r"]).ends(0);
    let nobody = caller(&world, &[], &[]);
    let orphan = ["unregister", "--orphan", "stamp", "--yes"];
    run(&mut limited(&world, &nobody, &orphan)).ends(7).says("can't be seen").says("--name r --orphan stamp");
    assert_ne!(world.lab.world()["stamps"][0]["activation"], Value::Null);
    // Who knows better names it.
    let named = ["unregister", "--orphan", "stamp", "--name", "r", "--yes"];
    run(&mut limited(&world, &nobody, &named)).ends(0);
    assert_eq!(world.lab.world()["stamps"][0]["activation"], Value::Null);
}

#[test]
fn what_was_unregistered_is_not_renewed() {
    let world = World::new();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    world.run(&["unregister", "--yes"]).ends(0);
    world.run(&["renew", "--yes"]).ends(3).says("AZR6001");
    assert_eq!(world.lab.world()["registrations"], json!([]));
}

#[cfg(feature = "crash-points")]
#[test]
fn a_stamp_registered_anew_is_deactivated_by_a_run_that_was_left() {
    let unregister = ["unregister", "--yes"];
    let prepared = || {
        let world = World::new();
        world.run(&["register", "--billing-model", "development"]).ends(0);
        world
    };
    let world = prepared();
    let trace = world.dir.path().join("trace");
    run(world.both(0, &world.state(), &unregister).env("AZSREG_CRASH_TRACE", &trace)).ends(0);
    let trace = std::fs::read_to_string(trace).unwrap();
    let journals: Vec<usize> =
        trace.lines().enumerate().filter(|(_, p)| p.ends_with(" journal")).map(|(n, _)| n + 1).collect();
    let world = prepared();
    // Opened, what was seen, deactivation begun, deactivation done: the fourth line is the last of the stamp's part.
    let killed = run(world.both(0, &world.state(), &unregister).env("AZSREG_CRASH_AT", journals[3].to_string()));
    assert_ne!(killed.code, Some(0));
    assert_eq!(world.lab.world()["stamps"][0]["activation"], Value::Null);
    let second = world.dir.path().join("second");
    run(&mut world.both(0, &second, &["register", "--billing-model", "development"])).ends(0);
    world.run(&["unregister"]).ends(2).says("AZR1014");
    world.run(&unregister).ends(0);
    assert_eq!(world.lab.world()["stamps"][0]["activation"], Value::Null);
    assert_eq!(world.lab.world()["registrations"], json!([]));
}

#[test]
fn after_a_move_without_the_stamp_repair_needs_its_record() {
    let world = World::new();
    world.run(&["register", "--billing-model", "development", "--name", "r"]).ends(0);
    let mut command = world.both(0, &world.state(), &["move", "--name", "r", "--to-resource-group", "other"]);
    run(command.env("AZSREG_PEP", "127.0.0.1:1")).ends(6);
    // The stamp can be reached, its records can't: what is left is done, not called done.
    let mut blind = world.command(0, &world.state());
    run(world.signed_in(&mut blind).args(["repair"])).ends(0);
    assert_registered_once(&world.lab.world(), "repaired without the record");
}

#[test]
fn an_expired_leftover_goes_without_touching_the_stamp_even_unseen() {
    let world = World::new();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1", "--name", "old"]).ends(0);
    world.days(400);
    world.run(&["renew", "--name", "new"]).ends(0);
    // No account is signed in to the stamp: its record can't say which one it uses.
    let blind = |arguments: &[&str]| {
        let mut command = world.command(0, &world.dir.path().join("blind"));
        run(world.signed_in(&mut command).args(arguments))
    };
    blind(&["unregister", "--yes"]).ends(7).says("AZR6016").says("--stamp-client-id");
    blind(&["unregister", "--name", "new", "--yes"]).ends(7).says("2 registrations");
    blind(&["unregister", "--name", "old", "--yes"]).ends(0);
    assert_ne!(world.lab.world()["stamps"][0]["activation"], Value::Null);
    assert_registered_once(&world.lab.world(), "the leftover is gone");
}
