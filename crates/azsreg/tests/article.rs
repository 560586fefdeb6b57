//! The article's procedures, one test for each heading, in the article's order; then the acceptance checks of
//! `facts-users.md` section 6, one test for each.
#![allow(clippy::unwrap_used)]

mod common;

use azsreg_lab::StampOptions;
use common::{World, assert_registered_once, run};
use serde_json::{Value, json};

const REGISTERED: &str = "Your environment is now registered and activated using the provided parameters.";
const REMOVED: &str = "Your environment is now unable to syndicate items and is no longer reporting usage data";

/// A world whose stamp has no way to Azure, with AD FS.
fn disconnected() -> World {
    World::of(vec![StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() }])
}

/// Registers a disconnected stamp by its three visits.
fn carry(world: &World, more: &[&str]) {
    let (token, key) = (world.path("token.json"), world.path("key.json"));
    let _ = std::fs::remove_file(&token);
    let mut ask = vec!["offline", "token", "--billing-model", "capacity", "--agreement-number", "A-1", "--out", &token];
    ask.extend(more);
    run(&mut world.at_stamp(&ask)).ends(0).says("offline register");
    run(&mut world.at_azure(&["offline", "register", &token, "--out", &key]))
        .ends(0)
        .says("Your Azure Stack environment is now registered with Azure.")
        .says("offline activate");
    run(&mut world.at_stamp(&["offline", "activate", &key]))
        .ends(0)
        .says("Your environment has finished the registration and activation process.");
}

fn activation(world: &World) -> Value {
    world.lab.world()["stamps"][0]["activation"].clone()
}

#[test]
fn prerequisites() {
    let world = World::new();
    let before = world.lab.export();
    world.run(&["check", "--billing-model", "pay-as-you-use"]).ends(0).says("Nothing was changed");
    assert_eq!(world.lab.export(), before);
}

#[test]
fn verify_your_credentials() {
    let world = World::new();
    let control = |roles: &Value| world.control("/users", &json!({"roles": roles}));
    let told = world.lab.descriptor();
    // A reader of the subscription: each missing action is named.
    let reader = control(&json!([{"role": "Reader", "scope": format!("/subscriptions/{}", told.subscription_id)}]));
    let secret = world.file("secret", reader["client_secret"].as_str().unwrap());
    let mut command = world.both(0, &world.state(), &["check", "--billing-model", "development"]);
    command.env("AZSREG_CLIENT_ID", reader["client_id"].as_str().unwrap());
    command.env("AZSREG_CLIENT_SECRET", format!("@{}", secret.display()));
    let ran = run(&mut command).ends(7);
    for action in ["registrations/write", "locks/write", "roleAssignments/write", "getActivationKey/action"] {
        assert!(ran.stdout.contains(action), "{action}: {}", ran.stdout);
    }
    // The wrong account at the endpoint, and a password that is wrong.
    let mut command = world.both(0, &world.state(), &["check"]);
    run(command.env("AZSREG_PEP_USER", "AZURESTACK\\AzureStackAdmin")).ends(2).says("AZR1009");
    let wrong = world.file("wrong", "wrong");
    let mut command = world.both(0, &world.state(), &["check"]);
    run(command.env("AZSREG_PEP_PASSWORD", format!("@{}", wrong.display()))).ends(7).says("AZR2002");
}

#[test]
fn determine_your_registration_scenario() {
    let world = disconnected();
    world.run(&["check", "--billing-model", "pay-as-you-use"]).ends(0).says("AZR7003");
    world.run(&["check", "--billing-model", "capacity"]).ends(0).says("azsreg offline if not");
}

#[test]
fn determine_a_unique_registration_name_to_use() {
    let world = World::new();
    let told = world.run(&["stamp", "info", "-o", "json"]).ends(0).json();
    world.run(&["register", "--billing-model", "development"]).ends(0);
    let name = format!("AzureStack-{}", told["cloud_id"].as_str().unwrap());
    assert_eq!(world.lab.world()["registrations"][0]["name"], json!(name));
}

#[test]
fn register_connected_with_pay_as_you_go_billing() {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0).says(REGISTERED);
    assert_registered_once(&world.lab.world(), "pay as you go");
}

#[test]
fn register_connected_with_capacity_billing() {
    let world = World::new();
    world
        .run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1", "--usage-reporting", "off"])
        .ends(0)
        .says(REGISTERED);
    let now = world.lab.world();
    assert_registered_once(&now, "capacity");
    assert_eq!(now["registrations"][0]["token"]["agreementNumber"], "A-1");
}

#[test]
fn register_disconnected_with_capacity_billing() {
    let world = disconnected();
    carry(&world, &[]);
    let now = world.lab.world();
    assert_eq!(now["registrations"].as_array().unwrap().len(), 1);
    assert_eq!(now["locks"].as_array().unwrap().len(), 1);
    assert_eq!(now["role_assignments"], json!([]), "a disconnected stamp has no principal");
    let record = activation(&world);
    assert_eq!(record["properties"]["azureRegistrationResourceIdentifier"], now["registrations"][0]["id"]);
    assert_eq!(record["properties"]["usageReportingEnabled"], false);
    assert_eq!(record["properties"]["marketplaceSyndicationEnabled"], false);
}

#[test]
fn get_a_registration_token_from_the_azure_stack_environment() {
    let world = disconnected();
    let raw = world.path("RegistrationToken.txt");
    let ask = ["offline", "token", "--billing-model", "capacity", "--agreement-number", "A-1", "--raw", "--out", &raw];
    run(&mut world.at_stamp(&ask)).ends(0);
    let bytes = std::fs::read(&raw).unwrap();
    assert_eq!(&bytes[..2], b"\xff\xfe", "the module's files are UTF-16LE");
    assert_eq!(&bytes[bytes.len() - 4..], b"\r\0\n\0");
    run(&mut world.at_azure(&["offline", "inspect", &raw])).ends(0).says("Capacity").says("sha256:");
}

#[test]
fn connect_to_azure_and_register() {
    let world = disconnected();
    // A file as the module wrote it: UTF-8 with a byte order mark this time.
    let token = world
        .control("/stamps/stamp1/registration-token", &json!({"billing_model": "Capacity", "agreement_number": "A-1"}));
    let file = world.path("token.txt");
    std::fs::write(&file, format!("\u{feff}{}\r\n", token["registration_token"].as_str().unwrap())).unwrap();
    let key = world.path("key.json");
    run(&mut world.at_azure(&["offline", "register", &file, "--name", "r1", "--out", &key])).ends(0);
    let receipt: Value = serde_json::from_slice(&std::fs::read(format!("{key}.receipt.json")).unwrap()).unwrap();
    assert!(receipt["registration"].as_str().unwrap().ends_with("/r1"));
    let text = receipt.to_string();
    assert!(!text.contains(token["registration_token"].as_str().unwrap()), "a receipt has no secret");
    // A token that was cut is named before anything changes.
    let cut = world.path("cut.txt");
    std::fs::write(&cut, &token["registration_token"].as_str().unwrap()[..101]).unwrap();
    run(&mut world.at_azure(&["offline", "register", &cut, "--out", &world.path("k2")])).ends(7).says("AZR1011");
}

#[test]
fn retrieve_an_activation_key_from_azure_registration_resource() {
    let world = disconnected();
    carry(&world, &[]);
    let again = world.path("again.json");
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    run(&mut world.at_azure(&["offline", "key", "--cloud-id", &cloud_id, "--out", &again]))
        .ends(0)
        .says("Your activation key has been collected.");
    run(&mut world.at_stamp(&["offline", "activate", &again])).ends(0);
    run(&mut world.at_azure(&["offline", "key", "--name", "nobody", "--out", &world.path("none")]))
        .ends(3)
        .says("AZR6004");
}

#[test]
fn create_an_activation_resource_in_azure_stack() {
    let world = World::of(vec![
        StampOptions { identity: "adfs".into(), connected: false, ..StampOptions::default() },
        StampOptions { name: "stamp2".into(), identity: "adfs".into(), connected: false, ..StampOptions::default() },
    ]);
    let (token, key) = (world.path("token.json"), world.path("key.json"));
    run(&mut world.at_stamp(&["offline", "token", "--billing-model", "development", "--out", &token])).ends(0);
    run(&mut world.at_azure(&["offline", "register", &token, "--out", &key])).ends(0);
    // The wrong stamp, the wrong file, a changed file: each is named, and nothing is activated.
    let mut other = world.command(1, &world.dir.path().join("other"));
    world.with_records(1, &mut other);
    run(other.args(["offline", "activate", &key])).ends(7).says("AZR5009");
    run(&mut world.at_stamp(&["offline", "activate", &token])).ends(7).says("AZR5008").says("offline register");
    let text = std::fs::read_to_string(&key).unwrap();
    let changed = world.path("changed.json");
    std::fs::write(&changed, text.replacen("\"made_at\":\"2", "\"made_at\":\"3", 1)).unwrap();
    run(&mut world.at_stamp(&["offline", "activate", &changed])).ends(7).says("AZR5007");
    assert_eq!(activation(&world), Value::Null);
    run(&mut world.at_stamp(&["offline", "activate", &key])).ends(0);
    // A newer token makes the key of the older one stale.
    let token = world.path("newer.json");
    run(&mut world.at_stamp(&[
        "offline",
        "token",
        "--billing-model",
        "development",
        "--marketplace",
        "on",
        "--out",
        &token,
    ]))
    .ends(0);
    run(&mut world.at_stamp(&["offline", "activate", &key])).ends(7).says("AZR5010");
}

#[test]
fn verify_azure_stack_registration() {
    let world = World::new();
    world.run(&["status"]).ends(3).says("Not registered");
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    world.run(&["status", "--check"]).ends(0).says("Registered");
    world.run(&["list"]).ends(0).says("azurestack");
    world.days(400);
    world.run(&["status"]).ends(8).says("Expired").says("azsreg renew");
    world.run(&["renew", "--yes"]).ends(0).says(REGISTERED);
    world.run(&["status", "--check"]).ends(0).says("Registered");
}

#[test]
fn renew_or_change_registration_in_connected_environments() {
    let world = World::new();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    world.control("/stamps/stamp1", &json!({"nodes": 8}));
    world.run(&["status"]).ends(0).says("scale changed").says("azsreg renew");
    world.run(&["renew"]).ends(0).says(REGISTERED);
    let now = world.lab.world();
    assert_eq!(now["registrations"][0]["token"]["hardwareInfo"].as_array().unwrap().len(), 8);
    assert_eq!(now["registrations"][0]["token"]["agreementNumber"], "A-1", "the journal knows the number");
    assert!(!world.run(&["status"]).ends(0).stdout.contains("scale changed"));
    // Without the journal nobody knows the number: asked for before anything is touched.
    let before = world.lab.export();
    let elsewhere = world.dir.path().join("elsewhere");
    run(&mut world.both(0, &elsewhere, &["renew"])).ends(7).says("AZR6016").says("--agreement-number");
    assert_eq!(world.lab.export(), before);
    run(&mut world.both(0, &elsewhere, &["renew", "--agreement-number", "A-2"])).ends(0);
    assert_eq!(world.lab.world()["registrations"][0]["token"]["agreementNumber"], "A-2");
}

#[test]
fn change_the_subscription_you_use() {
    let world = World::new();
    let other = world.control("/subscriptions", &json!({}))["subscription_id"].as_str().unwrap().to_owned();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.control("/stamps/stamp1", &json!({"downloaded": ["Ubuntu 24.04"]}));
    world.run(&["change-subscription", "--to-subscription", &other]).ends(2).says("AZR1014").says("Ubuntu 24.04");
    world.run(&["change-subscription", "--to-subscription", &other, "--plan"]).ends(4).says("Nothing was changed");
    world.run(&["change-subscription", "--to-subscription", &other, "--yes"]).ends(0).says(REGISTERED);
    let now = world.lab.world();
    assert_registered_once(&now, "changed subscription");
    assert!(now["registrations"][0]["id"].as_str().unwrap().contains(&other));
    assert_eq!(now["stamps"][0]["downloaded"], json!([]));
    // What can't be had on the new subscription is said before anything on the old one is removed.
    let before = world.lab.export();
    let nobody = "00000000-0000-4000-8000-000000000000";
    let mut command = world.both(0, &world.state(), &["change-subscription", "--to-subscription", nobody, "--yes"]);
    run(command.env("AZSREG_SUBSCRIPTION", &other)).ends(7).says("AZR4003");
    assert_eq!(world.lab.export(), before);
}

#[test]
fn change_the_billing_model_or_how_to_offer_features() {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.run(&["set"]).ends(2).says("AZR1015");
    world.run(&["set", "--marketplace", "off"]).ends(0);
    assert_eq!(activation(&world)["properties"]["marketplaceSyndicationEnabled"], false);
    assert_eq!(activation(&world)["properties"]["usageReportingEnabled"], true, "what is not named stays");
    world.run(&["set", "--billing-model", "capacity"]).ends(7).says("AZR6016");
    world.run(&["set", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    let now = world.lab.world();
    assert_registered_once(&now, "set");
    assert_eq!(now["registrations"][0]["properties"]["billingModel"], "Capacity");
    assert_eq!(now["stamps"][0]["activation"]["properties"]["marketplaceSyndicationEnabled"], false);
    world.run(&["set", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0).says("Nothing to do");
}

#[test]
fn remove_the_activation_resource_from_azure_stack() {
    let world = disconnected();
    carry(&world, &[]);
    let receipt = world.path("receipt.json");
    run(&mut world.at_stamp(&["offline", "deactivate", "--out", &receipt])).ends(2).says("AZR1014");
    run(&mut world.at_stamp(&["offline", "deactivate", "--out", &receipt, "--yes"]))
        .ends(0)
        .says("Successfully de-activated Azure Stack");
    assert_eq!(activation(&world), Value::Null);
    run(&mut world.at_azure(&["offline", "unregister", &receipt, "--yes"]))
        .ends(0)
        .says("Your Azure Stack environment is now unregistered from Azure.");
    let now = world.lab.world();
    for list in ["registrations", "locks", "role_assignments"] {
        assert_eq!(now[list], json!([]), "{list}");
    }
    // By the token, by the cloud id, by the name: the matching registration or none.
    carry(&world, &[]);
    run(&mut world.at_azure(&["offline", "unregister", &world.path("token.json"), "--yes"])).ends(0);
    run(&mut world.at_azure(&["offline", "unregister", "--name", "nobody", "--yes"])).ends(3).says("AZR6004");
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    // This machine's journal knows that it removed it.
    run(&mut world.at_azure(&["offline", "unregister", "--cloud-id", &cloud_id, "--yes"]))
        .ends(0)
        .says("Nothing to do");
    std::fs::remove_dir_all(world.dir.path().join("state-azure")).unwrap();
    run(&mut world.at_azure(&["offline", "unregister", "--cloud-id", &cloud_id, "--yes"])).ends(3).says("AZR6004");
}

#[test]
fn re_register_using_disconnected_steps() {
    let world = disconnected();
    carry(&world, &[]);
    world.days(400);
    let (token, key) = (world.path("renewal.json"), world.path("renewal-key.json"));
    let start =
        ["offline", "renew", "start", "--billing-model", "capacity", "--agreement-number", "A-2", "--out", &token];
    run(&mut world.at_stamp(&start)).ends(2).says("AZR1014");
    run(world.at_stamp(&start).arg("--yes")).ends(0).says("offline renew register");
    assert_eq!(activation(&world), Value::Null);
    run(&mut world.at_azure(&["offline", "register", &token, "--out", &key])).ends(7).says("AZR5008");
    run(&mut world.at_azure(&["offline", "renew", "register", &token, "--out", &key, "--yes"])).ends(0);
    assert_eq!(world.lab.world()["registrations"][0]["token"]["agreementNumber"], "A-2");
    run(&mut world.at_stamp(&["offline", "renew", "finish", &key])).ends(0);
    assert_ne!(activation(&world), Value::Null);
    // The same file once more removes nothing, with the journal or without: nothing is asked.
    let again = ["offline", "renew", "register", &token, "--out", &key];
    run(&mut world.at_azure(&again)).ends(0);
    let elsewhere = world.path("elsewhere");
    run(world.at_azure(&again).env("AZSREG_STATE_DIR", &elsewhere)).ends(0);
    assert_ne!(activation(&world), Value::Null);
}

#[test]
fn disable_or_enable_usage_reporting_with_a_connected_azure_stack() {
    let world = World::new();
    world.run(&["register", "--billing-model", "development"]).ends(0);
    world.run(&["set", "--usage-reporting", "off"]).ends(0);
    assert_eq!(activation(&world)["properties"]["usageReportingEnabled"], false);
    world.run(&["set", "--usage-reporting", "on"]).ends(0);
    assert_eq!(activation(&world)["properties"]["usageReportingEnabled"], true);
}

#[test]
fn disable_or_enable_usage_reporting_with_a_disconnected_azure_stack() {
    let world = disconnected();
    let (token, key) = (world.path("token.json"), world.path("key.json"));
    let ask = ["offline", "token", "--billing-model", "development", "--usage-reporting", "on", "--out", &token];
    run(&mut world.at_stamp(&ask)).ends(0);
    run(&mut world.at_azure(&["offline", "register", &token, "--out", &key])).ends(0);
    run(&mut world.at_stamp(&["offline", "activate", &key])).ends(0);
    let (token, key) = (world.path("token-2.json"), world.path("key-2.json"));
    // A plain update: nothing is deactivated or removed, and the tool says so.
    let start = ["offline", "renew", "start", "--billing-model", "development", "--out", &token];
    run(&mut world.at_stamp(&start)).ends(0).says("A plain update");
    assert_ne!(activation(&world), Value::Null);
    run(&mut world.at_azure(&["offline", "renew", "register", &token, "--out", &key])).ends(0).says("updated in place");
    run(&mut world.at_stamp(&["offline", "renew", "finish", &key])).ends(0);
    assert_eq!(activation(&world)["properties"]["usageReportingEnabled"], false);
}

#[test]
fn move_a_registration_resource() {
    let world = World::new();
    let told = world.lab.descriptor();
    let other = world.control("/subscriptions", &json!({"partner": "partner-2"}))["subscription_id"]
        .as_str()
        .unwrap()
        .to_owned();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.run(&["move", "--to-resource-group", "billing"]).ends(0).says("moved");
    let now = world.lab.world();
    assert_registered_once(&now, "moved");
    assert!(now["registrations"][0]["id"].as_str().unwrap().contains("/resourceGroups/billing/"));
    world.run(&["move", "--to-resource-group", "billing"]).ends(0).says("Nothing to do");
    // Another partner: refused by Azure, and everything stays locked.
    let before = world.lab.world();
    world.run(&["move", "--to-resource-group", "billing", "--to-subscription", &other]).ends(7).says("AZR4018");
    let after = world.lab.world();
    for what in ["registrations", "locks"] {
        assert_eq!(after[what], before[what], "{what}");
    }
    assert_registered_once(&after, "a refused move");
    // The same partner.
    world.control(&format!("/subscriptions/{other}"), &json!({"partner": "partner-1"}));
    world.run(&["move", "--to-resource-group", "billing", "--to-subscription", &other]).ends(0);
    assert_registered_once(&world.lab.world(), "another subscription");
    // Not a provider's subscription at all: refused beforehand, with the reason.
    world.control(
        &format!("/subscriptions/{}", told.subscription_id),
        &json!({"quota_id": "EnterpriseAgreement_2014-09-01"}),
    );
    let back = told.subscription_id.to_string();
    let mut command =
        world.both(0, &world.state(), &["move", "--to-resource-group", "azurestack", "--to-subscription", &back]);
    run(command.env("AZSREG_SUBSCRIPTION", &other)).ends(7).says("AZR4018").says("EnterpriseAgreement");
}

#[test]
fn registration_failures() {
    let world = World::new();
    // "Could not retrieve mandatory hardware info": the host is named, and the same command goes on when it is back.
    world.control("/stamps/stamp1", &json!({"broken_host": "AZS-HC03"}));
    let mut command = world.both(0, &world.state(), &["register", "--billing-model", "development"]);
    run(command.env("AZSREG_NO_PROGRESS", "true")).ends(6).says("AZR2013").says("AZS-HC03");
    world.control("/stamps/stamp1", &json!({"broken_host": null}));
    world.run(&["register", "--billing-model", "development"]).ends(0);
    // "When an Azure subscription's directory tenant changes, it resets the registration."
    let subscription = world.lab.descriptor().subscription_id;
    world.control(&format!("/subscriptions/{subscription}"), &json!({"new_tenant": true}));
    world.run(&["status"]).ends(3).says("AZR6011").says("azsreg renew");
    world.run(&["renew"]).ends(0);
    let now = world.run(&["status", "-o", "json"]).ends(0).json();
    assert_eq!(now["findings"], json!([]), "{now:#}");
}

/// The acceptance checks of `facts-users.md` section 6.
mod acceptance {
    use super::*;

    #[test]
    fn same_name_second_stamp_is_refused() {
        let two = |n: usize| StampOptions { name: format!("stamp{n}"), ..StampOptions::default() };
        let world = World::of(vec![two(1), two(2)]);
        world.run(&["register", "--billing-model", "development", "--name", "r"]).ends(0);
        let other = world.dir.path().join("other");
        run(&mut world.both(1, &other, &["register", "--billing-model", "development", "--name", "r"]))
            .ends(7)
            .says("AZR4006");
    }

    #[test]
    fn same_stamp_second_name_group_or_subscription_is_refused() {
        let world = World::new();
        world.run(&["register", "--billing-model", "development"]).ends(0);
        world.run(&["register", "--billing-model", "development", "--name", "other"]).ends(7).says("AZR4007");
        world.run(&["register", "--billing-model", "development", "--resource-group", "other"]).ends(7).says("AZR4007");
        let fresh = world.lab.descriptor().fresh_subscription_id.to_string();
        world.run(&["register", "--billing-model", "development", "--subscription", &fresh]).ends(7).says("AZR4007");
    }

    #[test]
    fn same_stamp_same_name_is_an_update() {
        let world = World::new();
        world.run(&["register", "--billing-model", "development"]).ends(0);
        let before = world.lab.world()["registrations"][0].clone();
        world.run(&["register", "--billing-model", "ruggedized"]).ends(0);
        let after = world.lab.world()["registrations"][0].clone();
        assert_eq!(after["properties"]["billingModel"], "Ruggedized");
        assert_eq!((&after["id"], &after["properties"]["cloudId"]), (&before["id"], &before["properties"]["cloudId"]));
    }

    #[test]
    fn capacity_without_agreement_number_is_refused_before_any_call() {
        let world = World::new();
        world.run(&["register", "--billing-model", "capacity"]).ends(2).says("AZR1002");
        let out = world.path("t");
        run(&mut world.at_stamp(&["offline", "token", "--billing-model", "capacity", "--out", &out]))
            .ends(2)
            .says("AZR1002");
        let asked = world.control_with("GET", "/stamps/stamp1/logons", &Value::Null);
        assert_eq!(asked["requests"], 0);
    }

    #[test]
    fn capacity_with_usage_on_is_forced_off() {
        let world = disconnected();
        carry(&world, &["--usage-reporting", "on"]);
        assert_eq!(activation(&world)["properties"]["usageReportingEnabled"], false);
    }

    #[test]
    fn disconnected_token_on_pay_as_you_use_is_refused() {
        let world = disconnected();
        for model in ["pay-as-you-use", "ruggedized"] {
            let out = world.path("t");
            run(&mut world.at_stamp(&["offline", "token", "--billing-model", model, "--out", &out]))
                .ends(2)
                .says("AZR1013");
        }
    }

    #[test]
    fn an_old_stamp_with_custom_is_refused() {
        let world = World::of(vec![StampOptions { build: "1.1910.0.50".into(), ..StampOptions::default() }]);
        world.run(&["register", "--billing-model", "custom", "--ms-asset-tag", "T"]).ends(7).says("AZR2012");
        let out = world.path("t");
        let ask = ["offline", "token", "--billing-model", "custom", "--ms-asset-tag", "T", "--out", &out];
        run(&mut world.at_stamp(&ask)).ends(7).says("AZR2012");
    }

    #[test]
    fn the_token_version_is_chosen_by_build_and_can_be_overridden() {
        for (build, version) in
            [("1.2008.0.48", "1.0"), ("1.2008.0.49", "4.0"), ("1.2309.0.4", "4.0"), ("1.2309.0.5", "6.0")]
        {
            let world = World::of(vec![StampOptions { build: build.into(), ..StampOptions::default() }]);
            world.run(&["register", "--billing-model", "development"]).ends(0);
            assert_eq!(world.lab.world()["registrations"][0]["token"]["version"], version, "{build}");
        }
        let world = World::of(vec![StampOptions { build: "1.2008.0.59".into(), ..StampOptions::default() }]);
        world.run(&["register", "--billing-model", "development", "--token-version", "3.0"]).ends(0);
        assert_eq!(world.lab.world()["registrations"][0]["token"]["version"], "3.0");
        let world = World::of(vec![StampOptions { build: "1.1910.0.50".into(), ..StampOptions::default() }]);
        world
            .run(&["register", "--billing-model", "development", "--token-version", "3.0"])
            .ends(7)
            .says("--token-version");
    }

    #[test]
    fn a_stamp_of_one_node_skips_the_key_pair() {
        let world = World::of(vec![StampOptions { nodes: 1, ..StampOptions::default() }]);
        world.run(&["register", "--billing-model", "development"]).ends(0).says("one node");
        assert_eq!(world.lab.world()["stamps"][0]["key_pair"], false);
        let license = world.file("license", "L");
        run(&mut world.both(0, &world.state(), &["stamp", "hci-license", &format!("@{}", license.display())]))
            .ends(7)
            .says("AZR2020");
    }

    #[test]
    fn the_lock_is_there_after_success_gone_after_unregister_and_kept_when_the_update_fails() {
        let world = World::new();
        world.run(&["register", "--billing-model", "development"]).ends(0);
        assert_eq!(world.lab.world()["locks"].as_array().unwrap().len(), 1);
        let rule = json!({"when": {"plane": "arm", "method": "PUT", "route": "registrations/"}, "then": {"status": 400, "error": "InvalidRegistrationToken"}});
        world.control("/faults", &rule);
        world.run(&["set", "--marketplace", "off"]).ends(6).says("AZR4008").says("--token-version");
        assert_eq!(world.lab.world()["locks"].as_array().unwrap().len(), 1);
        world.control_with("DELETE", "/faults", &Value::Null);
        world.run(&["set", "--marketplace", "off"]).ends(0);
        world.run(&["unregister", "--yes"]).ends(0).says(REMOVED);
        assert_eq!(world.lab.world()["locks"], json!([]));
    }

    #[test]
    fn remove_with_another_stamps_name_is_refused_and_nothing_deactivated() {
        let two = |n: usize| StampOptions { name: format!("stamp{n}"), ..StampOptions::default() };
        let world = World::of(vec![two(1), two(2)]);
        let other = world.dir.path().join("other");
        world.run(&["register", "--billing-model", "development", "--name", "one"]).ends(0);
        run(&mut world.both(1, &other, &["register", "--billing-model", "development", "--name", "two"])).ends(0);
        let before = world.lab.export();
        world.run(&["unregister", "--name", "two", "--yes"]).ends(7).says("AZR6013");
        assert_eq!(world.lab.export(), before);
        world.run(&["unregister", "--name", "nobody", "--yes"]).ends(3).says("AZR6004");
        assert_eq!(world.lab.export(), before);
    }

    #[test]
    fn status_goes_from_not_registered_to_registered_to_expired_and_back() {
        let world = World::new();
        let status = || world.run(&["status", "-o", "json"]).json()["status"].as_str().unwrap().to_owned();
        assert_eq!(status(), "not-registered");
        world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A"]).ends(0);
        assert_eq!(status(), "registered");
        world.days(366);
        assert_eq!(status(), "expired");
        // Under the same name Azure refuses until the expired one is deleted: said beforehand.
        world.run(&["register", "--billing-model", "capacity", "--agreement-number", "B"]).ends(7).says("AZR4020");
        world.run(&["renew", "--yes"]).ends(0);
        assert_eq!(status(), "registered");
        // A live one under a new name is refused; an expired one stays behind as an orphan.
        world.run(&["renew", "--name", "next"]).ends(7).says("AZR4007");
        world.days(366);
        world.run(&["renew", "--name", "next"]).ends(0);
        assert_eq!(status(), "registered");
        world.run(&["list"]).ends(0).says("orphan: the stamp has a newer registration");
    }
}
