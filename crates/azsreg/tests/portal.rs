//! The lab's administrator portal, as a browser without scripts sees it.
#![allow(clippy::unwrap_used)]

mod common;

use azsreg_lab::StampOptions;
use common::web::Web;
use common::{World, runtime};

/// A page of the stamp's portal: its status, its headers and its text.
fn fetch(world: &World, method: &str, path: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> (u16, String) {
    fetch_at(&world.lab.descriptor().stamps[0].portal_endpoint, method, path, headers, form)
}

fn fetch_at(
    endpoint: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    form: &[(&str, &str)],
) -> (u16, String) {
    let url = format!("{endpoint}{path}");
    runtime().block_on(async {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut request = client.request(method.parse().unwrap(), url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !form.is_empty() {
            request = request.form(form);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        (status, answer.text().await.unwrap())
    })
}

#[track_caller]
fn shows(world: &World, path: &str, texts: &[&str]) -> String {
    let (status, page) = fetch(world, "GET", path, &[], &[]);
    assert_eq!(status, 200, "{path}");
    for text in texts {
        assert!(page.contains(text), "{path} does not show {text:?}:\n{page}");
    }
    assert!(page.len() < 100_000, "{path} has {} bytes", page.len());
    page
}

#[test]
fn region_management_goes_from_not_registered_to_expired_and_back() {
    let world = World::new();
    shows(&world, "/", &["Region management", "Not registered", "azsreg register"]);
    shows(&world, "/alerts", &["Activation Required"]);
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    let subscription = world.lab.descriptor().subscription_id.to_string();
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let fields = [subscription.as_str(), &cloud_id, "azurestack", "Capacity", "1.2501.0.21", "Registered"];
    shows(&world, "/properties", &fields);
    let renew = format!("azsreg renew --subscription {subscription}");
    // The tile warns from the day on which the alert and azsreg status do; the word stays the portal's own.
    world.days(270);
    assert!(!shows(&world, "/", &["Registered"]).contains("Expires soon"));
    world.days(10);
    shows(&world, "/", &["Registered", "Expires soon", &renew]);
    shows(&world, "/alerts", &["Registration expires soon"]);
    shows(&world, "/properties", &["<dd>Registered</dd>", "Days left", "<dd>84</dd>"]);
    world.days(95);
    shows(&world, "/", &["Expired", &renew]);
    shows(&world, "/properties", &["<dd>Expired</dd>", "<dd>None</dd>"]);
    world.run(&["renew", "--agreement-number", "A-2", "--yes"]).ends(0);
    let page = shows(&world, "/", &["Registered"]);
    assert!(!page.contains("Next:"), "{page}");
}

#[test]
fn marketplace_management_says_what_is_there_and_what_to_do() {
    let world = World::new();
    shows(&world, "/marketplace", &["You must register and activate", "azsreg register"]);
    world.run(&["register", "--billing-model", "development"]).ends(0);
    shows(&world, "/marketplace", &["no items yet", "azsreg marketplace list"]);
    world.run(&["marketplace", "add", "microsoft.vmaccess-linux-1.5.11"]).ends(0);
    let page = shows(&world, "/marketplace", &["Downloaded", "Extension", "1.5.11"]);
    assert!(!page.contains("class=\"empty\""), "{page}");
    shows(&world, "/marketplace", &["<title>Marketplace management"]);
    shows(&world, "/marketplace/add", &["<title>Add from Azure", "<span class=\"folded\">"]);
    let item = "name=microsoft.vmaccess-linux-1.5.11";
    shows(&world, &format!("/marketplace/add/item?{item}"), &[" · Add from Azure"]);
    shows(&world, &format!("/marketplace/delete?{item}"), &["<title>Delete "]);
    // Switched off, nothing can be added, and that is said before somebody tries to.
    world.run(&["set", "--marketplace", "off"]).ends(0);
    let subscription = world.lab.descriptor().subscription_id;
    let command = format!("azsreg set --subscription {subscription} --marketplace on");
    let page = shows(&world, "/marketplace", &["syndication is off", &command]);
    assert!(!page.contains("/marketplace/add"), "{page}");
    let (status, page) = fetch(&world, "GET", "/marketplace/add", &[], &[]);
    assert!(status == 409 && page.contains(&command), "{page}");
    // Disconnected: the message stays before build 1904, and is gone from then on.
    for (build, asks) in [("1.1903.0.30", true), ("1.1904.0.36", false)] {
        let options = StampOptions { build: build.into(), connected: false, ..StampOptions::default() };
        let world = World::of(vec![options]);
        let token = serde_json::json!({"billing_model": "Development"});
        let token = world.control("/stamps/stamp1/registration-token", &token);
        let key = world.control("/activation-key", &token);
        let file = world.file("key", key["activation_key"].as_str().unwrap());
        let mut activate = world.at_stamp(&["offline", "activate", &format!("{}", file.display())]);
        common::run(&mut activate).ends(0);
        let page = shows(&world, "/marketplace", &[]);
        assert_eq!(page.contains("You must register and activate"), asks, "{build}: {page}");
        // It is registered: there is nothing to run, but that items are carried.
        assert_eq!(page.contains("Next:"), !asks, "{build}: {page}");
        assert_eq!(page.contains("azsreg marketplace download ITEM --to DIR --cloud-id "), !asks, "{build}: {page}");
    }
}

#[test]
fn usage_is_shown_by_meter_and_day() {
    let world = World::new();
    let page = shows(&world, "/usage?days=7", &["BlockBlobCapacity", "GB*hours", "by day from ", ", the highest "]);
    // Each meter has a chart, and a row of days in the table that says the same.
    assert_eq!(page.matches("<svg role=\"img\"").count() * 2, page.matches("<th scope=\"row\"").count());
    // What is no number of days is not taken.
    shows(&world, "/usage?days=%3Cscript%3E", &["last 14 days"]);
    for path in ["/usage", "/usage.csv"] {
        let (status, page) = fetch(&world, "GET", &format!("{path}?subscription=nobody"), &[], &[]);
        assert!(status == 404 && page.contains("There is no tenant with the id nobody."), "{page}");
    }
}

#[test]
fn azures_side_shows_the_registration_among_the_hidden_types_and_what_is_billed() {
    let world = World::new();
    let azure = |path: &str| fetch_at(&world.lab.descriptor().portal_endpoint, "GET", path, &[], &[]);
    assert!(azure("/").1.contains("There are no resources."));
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
    let page = azure("/").1;
    assert!(page.contains("azurestack") && !page.contains(&cloud_id), "{page}");
    assert!(page.contains("Show hidden types (1)"), "{page}");
    let page = azure("/?hidden=yes").1;
    assert!(page.contains(&cloud_id) && page.contains("Microsoft.AzureStack/registrations"), "{page}");
    let link = page.split("href=\"/registration?").nth(1).unwrap().split('"').next().unwrap();
    let (status, page) = azure(&format!("/registration?{}", link.replace("&amp;", "&")));
    assert_eq!(status, 200, "{link}");
    assert!(page.contains(&format!("<title>AzureStack-{cloud_id} · Registration")), "{page}");
    for text in
        ["RegistrationResourceLock", "CanNotDelete", "PayAsYouUse", azsreg_model::REGISTRATION_OWNER_ROLE, &cloud_id]
    {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert_eq!(azure("/registration?id=nothing").0, 404);
    assert!(azure("/cost").1.contains("Nothing is billed"));
    world.days(3);
    let begun = std::time::Instant::now();
    while !azure("/cost").1.contains("Block Blob Storage") {
        assert!(begun.elapsed().as_secs() < 60, "{}", azure("/cost").1);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    world.run(&["unregister", "--yes"]).ends(0);
    assert!(!azure("/?hidden=yes").1.contains(&cloud_id));
}

#[test]
fn an_alert_is_closed_by_a_form_of_this_portal_alone() {
    let world = World::new();
    let page = shows(&world, "/alerts", &["Activation Required"]);
    let field = |name: &str| {
        let at = page.find(&format!("name=\"{name}\" value=\"")).unwrap() + name.len() + 15;
        page[at..].split('"').next().unwrap().to_owned()
    };
    let (id, secret) = (field("id"), field("secret"));
    let endpoint = world.lab.descriptor().stamps[0].portal_endpoint.clone();
    let close = |headers: &[(&str, &str)], secret: &str| {
        fetch(&world, "POST", "/alerts/close", headers, &[("id", &id), ("secret", secret)]).0
    };
    assert_eq!(close(&[("origin", &endpoint)], "guess"), 403);
    assert_eq!(close(&[("origin", "https://elsewhere.invalid")], &secret), 403);
    assert_eq!(close(&[("origin", "null")], &secret), 403);
    shows(&world, "/alerts", &["<button>"]);
    assert_eq!(close(&[("origin", &endpoint)], &secret), 303);
    let page = shows(&world, "/alerts", &["closed"]);
    assert!(!page.contains("<button>"), "{page}");
    assert_eq!(fetch(&world, "POST", "/alerts/close", &[], &[("id", "x"), ("secret", &secret)]).0, 409);
    assert_eq!(fetch(&world, "DELETE", "/", &[], &[]).0, 405);
    assert_eq!(fetch(&world, "GET", "/", &[("host", "evil.example")], &[]).0, 421);
    let (status, page) = fetch(&world, "GET", "/%3Cscript%3Ealert(1)%3C/script%3E", &[], &[]);
    assert_eq!((status, page.contains("<script>")), (404, false));
}

#[test]
fn pages_of_two_hundred_stamps_stay_small() {
    const STAMPS: usize = 200;
    let named = |n: usize| StampOptions { name: format!("stamp{}", n + 1), tenants: 1, ..StampOptions::default() };
    let world = World::of((0..STAMPS).map(named).collect());
    let told = world.lab.descriptor();
    // The token for the bridge is drawn before anybody registers at the same time as somebody else.
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    let next = std::sync::atomic::AtomicUsize::new(1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if n >= STAMPS {
                        return;
                    }
                    let arguments = ["register", "--billing-model", "pay-as-you-use"];
                    common::run(&mut world.both(n, &world.state(), &arguments)).ends(0);
                }
            });
        }
    });
    let frame: usize =
        ["/style.css", "/script.js"].iter().map(|path| fetch(&world, "GET", path, &[], &[]).1.len()).sum();
    let small = |name: &str, page: &str| {
        assert!(page.len() + frame < 100_000, "{name} has {} bytes, and {frame} with it", page.len());
    };

    // The same stamps from the operator's machine: it has a journal of each.
    let mut command = world.command(0, &world.state());
    world.signed_in(&mut command);
    let web = Web::start(&mut command).open();
    let text = web.settled_with(|page| small("status --web", page));
    assert!(text.contains("of 200</span>") && text.contains("Registered in Azure"), "{text}");
    drop(web);

    // The bridges upload what these days bring, which takes most of the machine.
    world.days(32);
    let stamp = told.stamps[STAMPS - 1].portal_endpoint.clone();
    for path in ["/", "/properties", "/marketplace", "/marketplace/add", "/alerts", "/usage?days=31"] {
        small(path, &fetch_at(&stamp, "GET", path, &[], &[]).1);
    }
    let azure = |path: &str| fetch_at(&told.portal_endpoint, "GET", path, &[], &[]).1;
    let begun = std::time::Instant::now();
    while !azure("/cost?days=31").contains("Block Blob Storage") {
        assert!(begun.elapsed().as_secs() < 120, "nothing is billed");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut names = std::collections::BTreeSet::new();
    for page in 1..=5 {
        let text = azure(&format!("/?hidden=yes&page={page}"));
        small("all resources", &text);
        let of_page = text.split("/registration?id=").skip(1).filter_map(|rest| rest.split(['>', '<']).nth(1));
        names.extend(of_page.map(str::to_owned));
    }
    assert_eq!(names.len(), STAMPS, "every registration is on one of the pages");
    for path in ["/cost?days=31", "/activity", "/activity?page=9"] {
        small(path, &azure(path));
    }
}
