//! `azsreg status --web`: the stamps of a state directory, looked at from the operator's own machine.

use azsreg_lab::{LabOptions, StampOptions};
use serde_json::json;

use crate::common::web::Web;
use crate::common::{World, run, runtime};
use crate::driver::{Browser, Reader, browse};

/// Three stamps: one registered for a year, one not at all, and one that this machine has registered but can't reach.
pub(super) fn three() -> World {
    let named = |name: &str| StampOptions { name: name.into(), ..StampOptions::default() };
    let stamps = vec![StampOptions::default(), named("stamp2"), named("stamp3")];
    let world = World::with(LabOptions { stamps, seed: 11, ..LabOptions::default() });
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    run(&mut world.both(2, &world.state(), &["register", "--billing-model", "pay-as-you-use"])).ends(0);
    world.stamps(&["Lisbon", "Porto"], |_, _| ());
    world
}

#[test]
#[ignore = "needs a browser: cargo xtask test"]
fn stamps_of_this_machine_are_seen_from_both_sides_and_asked_anew() {
    let world = three();
    let told = world.lab.descriptor();
    let web = Web::start(&mut world.nowhere());
    let secrets: Vec<String> = told
        .stamps
        .iter()
        .flat_map(|stamp| [&stamp.pep_password_file, &stamp.stamp_client_secret_file])
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let status = |url: &str, host: Option<&str>| {
        runtime().block_on(async {
            let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
            let mut request = client.unwrap().get(url);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            request.send().await.unwrap().status().as_u16()
        })
    };
    // Nobody without the link, and nobody by another name.
    let door = web.link.split('?').next().unwrap();
    assert_eq!(status(door, None), 403);
    assert_eq!(status(&format!("{door}?once=guess"), None), 403);
    assert_eq!(status(&web.link, Some("evil.example")), 421);
    browse(Reader::default(), async |page: &Browser| {
        page.open(&web.link).await;
        let home = page.address().await;
        assert!(!home.contains("once"), "the link's secret does not stay in the address");
        page.comes_to_show("#said", "2 of 3 need attention: 1 Not registered, 1 Registered in Azure.").await;
        // What ends soon would come first; then what is to be mended; then the rest.
        let titles = page.run("return [...document.querySelectorAll('h2')].map((e) => e.textContent)").await;
        let third = told.stamps[2].cloud_id.to_string();
        assert_eq!(titles, json!(["Porto", third, "Lisbon"]));
        let tile = |name: &str| format!("section[aria-label='{name}']");
        let lisbon = page.text(&tile("Lisbon")).await;
        for text in
            ["Registered", "in 364 days", "GMT+5:30", "Capacity, locked", "Activated for this", "Build 1.2501.0.21"]
        {
            assert!(lisbon.contains(text), "{text}: {lisbon}");
        }
        let porto = page.text(&tile("Porto")).await;
        for text in [
            "Not registered",
            "No registration",
            "Not activated",
            "AZR6001",
            "azsreg register --billing-model MODEL --at Porto",
        ] {
            assert!(porto.contains(text), "{text}: {porto}");
        }
        let third = page.text(&tile(&third)).await;
        for text in [
            "Registered in Azure",
            "PayAsYouUse",
            "How to reach this stamp is not known (AZR2001)",
            "Name it in stamps.json",
            "register",
        ] {
            assert!(third.contains(text), "{text}: {third}");
        }
        let source = page.run("return document.documentElement.outerHTML").await.to_string();
        assert!(secrets.iter().all(|secret| !source.contains(secret.trim())), "a secret is in the page");
        // Something has changed; the page says so when it is asked to look again, and not before.
        let mut register = world.nowhere();
        register.args(["register", "--at", "Porto", "--billing-model", "development"]);
        run(&mut register).ends(0).says("the record names this registration");
        page.again().await;
        assert!(page.text(&tile("Porto")).await.contains("Not registered"));
        page.click(&format!("{} button", tile("Porto"))).await;
        page.comes_to_show(&tile("Porto"), "Activated for").await;
        page.comes_to_show("#said", "1 of 3 needs attention: 1 Registered in Azure.").await;
        // Without scripts the same is read and asked.
        page.is(Reader { scripts: false, ..Reader::default() }).await;
        page.open(&home).await;
        world.days(366);
        page.click("#ask-all").await;
        page.in_time_shows("2 of 3 need attention: 1 Expired, 1 Registered in Azure.").await;
        page.shows(&["Activated for this registration", " UTC"]).await;
        assert_eq!(page.complaints().await, [""; 0]);
    });
    // The way in was good once.
    assert_eq!(status(&web.link, None), 403);
}
