//! What a reader does, from the first look to the last. The module's name is what a machine without a browser leaves out.

mod every_page;
mod fleet;

use azsreg_lab::{LabOptions, StampOptions};
use serde_json::json;

use crate::common::{World, run};
use crate::driver::{Browser, ENTER, Reader, browse};

fn portal(world: &World) -> String {
    world.lab.descriptor().stamps[0].portal_endpoint.clone()
}

fn azure(world: &World) -> String {
    world.lab.descriptor().portal_endpoint.clone()
}

/// The value of a row of Properties.
async fn property(page: &Browser, name: &str) -> String {
    let rows = page.text("dl.properties").await;
    let mut lines = rows.lines().skip_while(|line| *line != name);
    lines.nth(1).unwrap_or_else(|| panic!("{name} is not among {rows}")).to_owned()
}

#[test]
#[ignore = "needs a browser: cargo xtask test"]
fn not_registered_registered_item_usage_expired_renewed() {
    let world = World::new();
    let told = world.lab.descriptor();
    browse(Reader::default(), async |page: &Browser| {
        page.open(&portal(&world)).await;
        page.shows(&["Region management", "Not registered", "azsreg register"]).await;
        page.follow("Marketplace").await;
        page.shows(&["You must register and activate Azure Stack"]).await;
        assert_eq!(page.count("a.button").await, 0, "nothing can be added yet");
        page.follow("Alerts").await;
        page.shows(&["Activation Required"]).await;

        world
            .run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1", "--marketplace", "on"])
            .ends(0);
        page.open(&portal(&world)).await;
        assert_eq!(page.text("[aria-labelledby=region] .state").await, "Registered");
        page.follow("Properties").await;
        let cloud_id = told.stamps[0].cloud_id.to_string();
        let subscription = told.subscription_id.to_string();
        let endpoints = told.stamps[0].pep.join(", ");
        let name = format!("AzureStack-{cloud_id}");
        for (field, value) in [
            ("Registration status", "Registered"),
            ("Registration subscription ID", &subscription),
            ("Registration resource group", "azurestack"),
            ("Registration name", &name),
            ("Billing model", "Capacity"),
            ("Usage reporting", "Off"),
            ("Marketplace syndication", "On"),
            ("Stamp Cloud ID", &cloud_id),
            ("Version", "1.2501.0.21"),
            ("Privileged endpoints", &endpoints),
        ] {
            assert_eq!(property(page, field).await, value, "{field}");
        }
        // The time is the reader's, with UTC on hover.
        let shown = property(page, "Expires").await;
        assert!(shown.ends_with("GMT+5:30"), "{shown}");
        let hover = page.attribute("dl.properties time", "title").await.unwrap();
        let day: jiff::civil::Date = hover[..10].parse().unwrap();
        let end = day.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        let days = end.duration_since(jiff::Timestamp::now()).as_hours() / 24;
        assert!(hover.ends_with(" UTC") && (363..=366).contains(&days), "{hover}");

        // An item, slowly: 12 MiB in a minute and a half.
        world.control("/stamps/stamp1", &json!({"download_rate": 1 << 17}));
        page.follow("Marketplace").await;
        page.shows(&["There are no items yet"]).await;
        page.follow("Add from Azure").await;
        page.write("#find", &format!("tiny linux{ENTER}")).await;
        page.comes_to_show("main", "Multiple").await;
        page.follow("Tiny Linux").await;
        page.shows(&["1.1.0", "12 MB", "Legal terms", "https://azsreglab.lab.invalid/terms"]).await;
        // Without the box nothing is sent.
        page.click("button.main").await;
        assert!(page.address().await.contains("/marketplace/add/item"), "the terms were not accepted");
        page.click("input[name=accepted]").await;
        page.click("button.main").await;
        page.comes_to_show("main", "Marketplace management\nAdd from Azure").await;
        page.shows(&["Tiny Linux", "Downloading", "1 item is being downloaded."]).await;
        // From here on the page is not loaded anew: what changes, changes in it.
        page.run("window.stays = true").await;
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 3 {
            let percent = page.run("return document.querySelector('progress')?.value ?? null").await;
            seen.insert(percent.as_u64().expect("it is still going on"));
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        world.control("/stamps/stamp1", &json!({"download_rate": 0}));
        page.comes_to_show("#items", "Downloaded").await;
        page.comes_to_show("#going", "1 item.").await;
        assert_eq!(page.run("return window.stays").await, json!(true));
        assert_eq!(page.count("progress").await, 0);

        // What it has is usable elsewhere: the command sees the same.
        world.run(&["marketplace", "downloaded"]).ends(0).says("azsreglab.tiny-linux-1.1.0");

        page.follow("Usage").await;
        page.shows(&["BlockBlobCapacity", "GB*hours"]).await;
        let total = |text: String| text.replace('\u{202f}', "").parse::<f64>().unwrap();
        let all = total(page.text("tbody tr:first-child .number").await);
        // One tenant's is less, and the rows for a spreadsheet say the same as the page.
        page.run("document.querySelector('select').selectedIndex = 1").await;
        page.click("form.group button").await;
        page.arrives("subscription=").await;
        let one = total(page.text("tbody tr:first-child .number").await);
        assert!(one > 0.0 && one < all, "{one} of {all}");
        let meter = page.text("tbody tr:first-child th").await;
        let link = page.attribute("a[download]", "href").await.unwrap();
        let csv = page.run_async(&format!("fetch('{link}').then((r) => r.text()).then(arguments[0])")).await;
        let rows = csv.as_str().unwrap().lines().map(|line| line.split(',').collect::<Vec<_>>());
        let of_meter = rows.filter(|row| row[3] == meter);
        let sum: f64 = of_meter.map(|row| row[5].parse::<f64>().unwrap()).sum();
        assert!((sum - one).abs() < 0.001, "{sum} {one}");

        world.days(366);
        page.open(&portal(&world)).await;
        assert_eq!(page.text("[aria-labelledby=region] .state").await, "Expired");
        page.shows(&["azsreg renew"]).await;
        page.follow("Marketplace").await;
        page.shows(&["has expired", "azsreg renew"]).await;
        assert_eq!(page.count("a.button").await, 0, "nothing can be added any more");
        page.open(&format!("{}/marketplace/add", portal(&world))).await;
        page.shows(&["has expired", "azsreg renew"]).await;
        world.run(&["renew", "--agreement-number", "A-2", "--yes"]).ends(0);
        page.open(&portal(&world)).await;
        assert_eq!(page.text("[aria-labelledby=region] .state").await, "Registered");
        assert_eq!(page.count(".next").await, 0);
    });
}

#[test]
#[ignore = "needs a browser: cargo xtask test"]
fn a_disconnected_stamp_before_and_from_build_1904() {
    for (build, asks) in [("1.1903.0.30", true), ("1.1904.0.36", false)] {
        let options = StampOptions { build: build.into(), connected: false, ..StampOptions::default() };
        let world = World::of(vec![options]);
        browse(Reader::default(), async |page: &Browser| {
            page.open(&portal(&world)).await;
            page.shows(&["Not registered"]).await;
            let (token, key) = (world.path("token"), world.path("key"));
            let ask = ["offline", "token", "--billing-model", "capacity", "--agreement-number", "A", "--out", &token];
            run(&mut world.at_stamp(&ask)).ends(0);
            run(&mut world.at_azure(&["offline", "register", &token, "--name", "far", "--out", &key])).ends(0);
            // Azure has it already; the stamp does not know.
            page.again().await;
            page.shows(&["Not registered"]).await;
            run(&mut world.at_stamp(&["offline", "activate", &key])).ends(0);
            page.again().await;
            assert_eq!(page.text("[aria-labelledby=region] .state").await, "Registered", "{build}");
            page.follow("Properties").await;
            assert_eq!(property(page, "Registration name").await, "far");
            assert_eq!(property(page, "Marketplace syndication").await, "Off");
            page.follow("Marketplace").await;
            let text = page.text("main").await;
            assert_eq!(text.contains("You must register and activate Azure Stack"), asks, "{build}: {text}");
            assert_eq!(page.count("a.button").await, 0, "{build}: it has no way to Azure");
            if !asks {
                // An item that is carried to it.
                let folder = world.path("carried");
                let item = "azsreglab.tiny-linux-1.0.3";
                let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
                let fetch = ["marketplace", "download", item, "--to", &folder, "--cloud-id", &cloud_id];
                run(world.at_azure(&fetch).arg("--accept-legal-terms")).ends(0);
                run(&mut world.at_stamp(&["marketplace", "import", &folder])).ends(0);
                page.again().await;
                page.shows(&["Tiny Linux", "1.0.3", "Downloaded"]).await;
            }
            world.days(366);
            page.open(&portal(&world)).await;
            assert_eq!(page.text("[aria-labelledby=region] .state").await, "Expired", "{build}");
            page.shows(&["azsreg offline renew start"]).await;
            let (token, key) = (world.path("token-2"), world.path("key-2"));
            let start = ["offline", "renew", "start", "--billing-model", "capacity", "--agreement-number", "B"];
            run(world.at_stamp(&start).args(["--out", &token, "--yes"])).ends(0);
            page.again().await;
            page.shows(&["Not registered", "azsreg offline token"]).await;
            let register = ["offline", "renew", "register", &token, "--name", "far", "--out", &key, "--yes"];
            run(&mut world.at_azure(&register)).ends(0);
            run(&mut world.at_stamp(&["offline", "renew", "finish", &key])).ends(0);
            page.again().await;
            assert_eq!(page.text("[aria-labelledby=region] .state").await, "Registered", "{build}");
        });
    }
}

#[test]
#[ignore = "needs a browser: cargo xtask test"]
fn azures_side_before_and_after() {
    let world = World::new();
    browse(Reader::default(), async |page: &Browser| {
        page.open(&azure(&world)).await;
        page.shows(&["There are no resources."]).await;
        world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
        page.again().await;
        // The registration is of a hidden type (the article, "Verify Azure Stack registration").
        let name = format!("AzureStack-{}", world.lab.descriptor().stamps[0].cloud_id);
        assert!(!page.text("main").await.contains(&name));
        page.click("input[name=hidden]").await;
        page.comes_to_show("main", &name).await;
        page.follow(&name).await;
        page.shows(&["RegistrationResourceLock (CanNotDelete)", "PayAsYouUse", azsreg_model::REGISTRATION_OWNER_ROLE])
            .await;
        page.shows(&["Registration created", "Lock RegistrationResourceLock created", "Role assignment created"]).await;
        page.follow("Cost").await;
        page.shows(&["Nothing is billed in that time"]).await;
        world.days(3);
        page.in_time_shows("Block Blob Storage").await;
        page.follow("7").await;
        page.shows(&["in the last 7 days"]).await;
        world.run(&["unregister", "--yes"]).ends(0);
        page.open(&format!("{}/?hidden=yes", azure(&world))).await;
        assert!(!page.text("main").await.contains(&name));
        page.follow("Activity log").await;
        page.shows(&[&name, "Registration deleted"]).await;
    });
}

#[test]
#[ignore = "needs a browser: cargo xtask test"]
fn everything_is_read_and_done_without_scripts_too() {
    let world = World::new();
    let reader = Reader { scripts: false, ..Reader::default() };
    browse(reader, async |page: &Browser| {
        page.open(&portal(&world)).await;
        page.shows(&["Region management", "Not registered"]).await;
        page.follow("Alerts").await;
        page.shows(&["Activation Required", "open"]).await;
        // The server's own words stand where a script would put the reader's.
        assert!(page.text("time").await.ends_with(" UTC"));
        page.click("form button").await;
        page.comes_to_show("main", "closed").await;
        world.run(&["register", "--billing-model", "development"]).ends(0);
        world.control("/stamps/stamp1", &json!({"download_rate": 64 << 20}));
        page.open(&format!("{}/marketplace/add/item?name=azsreglab.tiny-linux-1.0.3", portal(&world))).await;
        page.click("input[name=accepted]").await;
        page.click("button.main").await;
        page.comes_to_show("main", "Add from Azure").await;
        page.shows(&["Tiny Linux", "1.0.3"]).await;
        page.in_time_shows("Downloaded").await;
        page.follow("Usage").await;
        page.shows(&["BlockBlobCapacity"]).await;
        page.follow("Marketplace").await;
        page.click("#items a").await;
        page.click("button.danger").await;
        page.comes_to_show("main", "There are no items yet").await;
        page.open(&azure(&world)).await;
        page.click("input[name=hidden]").await;
        page.click("form button").await;
        page.arrives("hidden=yes").await;
        page.shows(&["Microsoft.AzureStack/registrations"]).await;
    });
}

#[test]
#[ignore = "needs a browser: cargo xtask test"]
fn a_device_code_is_approved_in_the_browser() {
    use std::io::BufRead as _;
    let world = World::with(LabOptions { auto_approve: false, ..LabOptions::default() });
    let mut command = world.command(0, &world.state());
    command.args(["login"]).env("AZSREG_NON_INTERACTIVE", "false");
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut login = command.spawn().unwrap();
    let lines = std::io::BufReader::new(login.stderr.take().unwrap()).lines().map_while(Result::ok);
    // "To sign in, use a web browser to open the page URL and enter the code CODE to authenticate."
    let (url, code) = {
        let mut lines = lines;
        let line = lines.find(|line| line.contains("/devicelogin")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| {
            words[words.iter().position(|known| *known == word).unwrap() + 1].trim_end_matches('.').to_owned()
        };
        (after("page"), after("code"))
    };
    browse(Reader::default(), async |page: &Browser| {
        page.open(&url).await;
        page.write("#code", "WRONG").await;
        page.click("button[value=approve]").await;
        page.comes_to_show("main", "That code is not valid").await;
        // It is tied to where it is to be mended, for who does not see it.
        assert_eq!(page.attribute("#code", "aria-invalid").await.as_deref(), Some("true"));
        assert_eq!(page.attribute("#code", "aria-describedby").await.as_deref(), Some("wrong"));
        page.open(&url).await;
        page.write("#code", &format!("{code}{ENTER}")).await;
        page.comes_to_show("main", "You have signed in").await;
        assert_eq!((page.text("h1").await.as_str(), page.count("form").await), ("Signed in", 0));
        assert_eq!(page.complaints().await, [""; 0]);
    });
    assert!(login.wait().unwrap().success());
}
