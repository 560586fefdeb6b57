//! Every page there is, in each of its guises: what axe says of it, what the browser complains of, how large it is, and,
//! for `cargo xtask screenshots`, a picture.

use std::path::PathBuf;

use azsreg_lab::{LabOptions, StampOptions};
use serde_json::{Value, json};

use super::fleet::three;
use super::{azure, portal};
use crate::common::World;
use crate::common::web::Web;
use crate::driver::{Browser, PHONE, Reader, WIDE, browse, named};

/// The largest that a page with its style sheet and script may be, in bytes.
const LARGEST: u64 = 100_000;

/// What axe finds that is serious or critical, as one line each.
async fn barriers(page: &Browser, axe: &str) -> Vec<String> {
    page.run(axe).await;
    let found = page
        .run_async("const done = arguments[arguments.length - 1]; axe.run(document).then(done, (e) => done(String(e)))")
        .await;
    let violations = found["violations"].as_array().unwrap_or_else(|| panic!("axe did not run: {found}"));
    assert!(found["passes"].as_array().unwrap().len() > 5, "axe looked at nothing");
    let grave = violations.iter().filter(|one| one["impact"] == "serious" || one["impact"] == "critical");
    grave.map(|one| format!("{}: {}: {}", one["id"], one["help"], one["nodes"][0]["html"])).collect()
}

/// Looks at a page as everybody sees it.
async fn look(page: &Browser, axe: &str, name: &str, status: u16, title: &str, url: &str, pictures: Option<&PathBuf>) {
    for (phone, dark) in [(false, false), (false, true), (true, false), (true, true)] {
        page.is(Reader { phone, dark, zone: "UTC", ..Reader::default() }).await;
        page.open(url).await;
        let guise = format!("{}-{}", if phone { "phone" } else { "wide" }, if dark { "dark" } else { "light" });
        assert_eq!(page.text("h1").await, title, "{name}");
        let answered = page.run("return performance.getEntriesByType('navigation')[0].responseStatus").await;
        assert_eq!(answered, status, "{name}");
        let width = page.run("return document.documentElement.scrollWidth").await;
        let screen = if phone { PHONE.0 } else { WIDE.0 };
        assert_eq!(width, screen, "{name} {guise} is not as wide as the screen");
        let sizes = page
            .run("return performance.getEntries().filter((e) => e.decodedBodySize).map((e) => e.decodedBodySize)")
            .await;
        let sizes: Vec<u64> = sizes.as_array().unwrap().iter().filter_map(Value::as_u64).collect();
        assert!(sizes.len() >= 3 && sizes.iter().sum::<u64>() < LARGEST, "{name}: {sizes:?}");
        if let Some(directory) = pictures {
            std::fs::write(directory.join(format!("{name}-{guise}.png")), page.picture().await).unwrap();
        }
        // What is folded is looked at too.
        page.run("for (const folded of document.querySelectorAll('details')) folded.open = true").await;
        let width = page.run("return document.documentElement.scrollWidth").await;
        assert_eq!(width, screen, "{name} {guise} is not as wide as the screen when it is unfolded");
        let barriers = barriers(page, axe).await;
        assert!(barriers.is_empty(), "{name} {guise}: {barriers:#?}");
        // The browser says so of a page that is none, and may say nothing else.
        let complaints = page.complaints().await;
        let said = format!("status of {status} ");
        assert!(complaints.iter().all(|line| status != 200 && line.contains(&said)), "{name}: {complaints:?}");
    }
}

#[test]
#[ignore = "needs a browser: cargo xtask test"]
fn every_page_is_for_everybody_and_small() {
    let axe = std::fs::read_to_string(named("AZSREG_AXE")).unwrap();
    let pictures = std::env::var_os("AZSREG_SCREENSHOTS").map(PathBuf::from);
    // Fifty tenants, and a stamp beside it that stays unregistered.
    let stamps = vec![
        StampOptions { tenants: 50, ..StampOptions::default() },
        StampOptions { name: "stamp2".into(), ..StampOptions::default() },
    ];
    let world = World::with(LabOptions { stamps, seed: 7, ..LabOptions::default() });
    let second = world.lab.descriptor().stamps[1].portal_endpoint.clone();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    for item in ["microsoft.vmaccess-linux-1.5.11", "azsreglab.tiny-linux-1.0.3", "azsreglab.hello-template-1.0.0"] {
        world.run(&["marketplace", "add", item]).ends(0);
    }
    world.days(16);
    world.control("/stamps/stamp1", &json!({"download_rate": 1 << 20}));
    world.run(&["marketplace", "add", "azsreglab.sql-provider-2.0.13", "--no-wait"]).ends(0);
    let (stamp, azure) = (portal(&world), azure(&world));
    let subscription = world.lab.descriptor().subscription_id;
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id;
    let id = format!(
        "%2Fsubscriptions%2F{subscription}%2FresourceGroups%2Fazurestack%2Fproviders%2FMicrosoft.AzureStack%2Fregistrations%2FAzureStack-{cloud_id}"
    );
    let registration = format!("AzureStack-{cloud_id}");
    let pages = [
        ("dashboard", 200, "Dashboard", format!("{stamp}/")),
        ("not-registered", 200, "Dashboard", second.clone()),
        ("properties", 200, "Properties", format!("{stamp}/properties")),
        ("marketplace", 200, "Marketplace management", format!("{stamp}/marketplace")),
        ("marketplace-not-registered", 200, "Marketplace management", format!("{second}/marketplace")),
        ("add-from-azure", 200, "Add from Azure", format!("{stamp}/marketplace/add")),
        (
            "item",
            200,
            "Ubuntu Server 24.04 LTS",
            format!("{stamp}/marketplace/add/item?name=canonical.ubuntu-server-noble24.04-24.04.202502210"),
        ),
        (
            "item-not-compatible",
            200,
            "Legacy agent",
            format!("{stamp}/marketplace/add/item?name=azsreglab.legacy-agent-0.9.0"),
        ),
        ("delete", 200, "Delete Tiny Linux?", format!("{stamp}/marketplace/delete?name=azsreglab.tiny-linux-1.0.3")),
        ("alerts", 200, "Alerts", format!("{second}/alerts")),
        ("no-alerts", 200, "Alerts", format!("{stamp}/alerts")),
        ("usage", 200, "Usage", format!("{stamp}/usage?days=31")),
        ("not-found", 404, "Not found", format!("{stamp}/nowhere")),
        ("no-such-tenant", 404, "Not found", format!("{stamp}/usage?subscription=nobody")),
        ("azure", 200, "All resources", format!("{azure}/?hidden=yes")),
        ("azure-registration", 200, &registration, format!("{azure}/registration?id={id}")),
        ("azure-cost", 200, "Cost", format!("{azure}/cost?days=31")),
        ("azure-activity", 200, "Activity log", format!("{azure}/activity")),
        ("azure-device-code", 200, "Enter code", format!("{}/devicelogin", world.lab.descriptor().authority)),
    ];
    let fleet = three();
    browse(Reader::default(), async |page: &Browser| {
        // What was used is billed some hours later.
        page.open(&format!("{azure}/cost")).await;
        page.in_time_shows("Block Blob Storage").await;
        let mut titles = std::collections::BTreeSet::new();
        for (name, status, title, url) in &pages {
            look(page, &axe, name, *status, title, url, pictures.as_ref()).await;
            // Each is told from the others in a row of tabs; a page that is not there is one.
            let title = page.run("return document.title").await.as_str().unwrap().to_owned();
            assert!(titles.insert(title) || *status == 404, "{name} is called as another page");
            // A column that a phone has no room for is under the name there.
            if ["marketplace", "add-from-azure"].contains(name) {
                page.shows(&["· Extension", "· Virtual machine"]).await;
            }
        }
        let web = Web::start(&mut fleet.nowhere());
        look(page, &axe, "fleet-not-let-in", 403, "Not let in", web.link.split('?').next().unwrap(), pictures.as_ref())
            .await;
        page.open(&web.link).await;
        page.comes_to_show("#said", "2 of 3 need attention: 1 Not registered, 1 Registered in Azure.").await;
        let home = page.address().await;
        look(page, &axe, "fleet", 200, "Stamps", &home, pictures.as_ref()).await;
    });
}
