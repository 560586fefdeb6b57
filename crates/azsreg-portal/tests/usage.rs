//! Usage and cost of the largest world there can be: every meter on every day, of many subscriptions.
#![allow(clippy::unwrap_used)]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use azsreg_model::{Alert, COMMERCE_METERS, METERS, UsageLine};
use azsreg_portal::azure::{Cloud, Event, Registered, Resource};
use azsreg_portal::{Actions, Answer, Ask, Forms, Market, Notice, Offer, Portal, Region, Source, UsageAsked, pairs};
use jiff::Timestamp;
use rust_decimal::Decimal;
use uuid::Uuid;

const DAY: i64 = 86_400;
/// Noon of a day.
const NOON: i64 = 1_790_000_000 / DAY * DAY + DAY / 2;
/// The largest that a page with its style sheet and script may be, in bytes.
const LARGEST: usize = 100_000;

struct Everything {
    subscriptions: u128,
}

impl Everything {
    fn whose(&self) -> Vec<Uuid> {
        (1..=self.subscriptions).map(Uuid::from_u128).collect()
    }

    /// Every meter on every day, of each subscription or of all in one.
    fn lines(&self, meters: &[(&str, &str, &str)], asked: UsageAsked) -> Vec<UsageLine> {
        let whose = if asked.apart { self.whose().into_iter().map(Some).collect() } else { vec![None] };
        let mut lines = Vec::new();
        for day in 1..=i64::from(asked.days) {
            for (meter, name, unit) in meters {
                for one in whose.iter().filter(|one| asked.subscription.is_none() || **one == asked.subscription) {
                    lines.push(UsageLine {
                        start: Timestamp::from_second(NOON - DAY / 2 - day * DAY).unwrap(),
                        meter: (*meter).into(),
                        name: (*name).into(),
                        unit: (*unit).into(),
                        subscription: one.map(|id| id.to_string()),
                        resource: None,
                        quantity: Decimal::new(1_234_567_890 + day, 3),
                    });
                }
            }
        }
        lines
    }
}

impl Source for Everything {
    fn region(&self) -> Region {
        Region {
            name: "local".into(),
            stamp: "stamp1".into(),
            connected: true,
            registration: azsreg_portal::Registration::NotRegistered,
            registered_as: None,
            billing_model: None,
            expires: None,
            marketplace: None,
            usage: None,
            cloud_id: Uuid::nil().to_string(),
            version: "1.2501.0.21".into(),
            nodes: 4,
            privileged_endpoints: Vec::new(),
            now: Timestamp::from_second(NOON).unwrap(),
        }
    }

    fn alerts(&self) -> Vec<Alert> {
        Vec::new()
    }

    fn market(&self) -> Market {
        Market::default()
    }

    async fn offers(&self) -> Result<Vec<Offer>, Notice> {
        Ok(Vec::new())
    }

    fn tenants(&self) -> Vec<Uuid> {
        self.whose()
    }

    fn usage(&self, asked: UsageAsked) -> Vec<UsageLine> {
        let meters: Vec<_> = METERS.iter().map(|meter| (meter.id, meter.name, meter.unit)).collect();
        self.lines(&meters, asked)
    }
}

impl Actions for Everything {
    fn close_alert(&self, _: &str) -> Result<(), Notice> {
        Err("".into())
    }

    async fn add_item(&self, _: &str) -> Result<(), Notice> {
        Err("".into())
    }

    fn delete_item(&self, _: &str) -> Result<(), Notice> {
        Err("".into())
    }
}

impl Cloud for Everything {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(NOON).unwrap()
    }

    fn directory(&self) -> String {
        "azsreglab.invalid".into()
    }

    fn resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn registration(&self, _: &str) -> Option<Registered> {
        None
    }

    fn activity(&self) -> Vec<Event> {
        Vec::new()
    }

    fn payers(&self) -> Vec<(Uuid, String)> {
        self.whose().into_iter().map(|id| (id, format!("Subscription of customer {}", id.as_u128()))).collect()
    }

    fn billed(&self, asked: UsageAsked) -> Vec<UsageLine> {
        let meters: Vec<_> = COMMERCE_METERS.iter().map(|meter| (meter.id, meter.name, meter.unit)).collect();
        self.lines(&meters, asked)
    }
}

/// What a stamp's portal answers, or below `/cost` Azure's.
fn asked(of: &Everything, path: &str, query: &str) -> Answer {
    let values = pairs(query);
    let ask = Ask { method: "GET", path, values: &values, host: "h", origin: None, cookie: None };
    if path.starts_with("/cost") {
        return azsreg_portal::azure::answer(ask, of);
    }
    let portal = Portal::new(Forms::new("secret".into()));
    match pin!(portal.answer(ask, of, of)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}

#[test]
fn every_meter_on_every_day_stays_small() {
    let frame: usize = ["/style.css", "/script.js"].iter().map(|path| Answer::asset(path).unwrap().body.len()).sum();
    for subscriptions in [1, 50, 500] {
        for path in ["/usage", "/cost"] {
            let page = asked(&Everything { subscriptions }, path, "days=31");
            assert_eq!(page.status, 200);
            let size = page.body.len();
            assert!(size + frame < LARGEST, "{path} of {subscriptions} has {size} bytes, and {frame} with it");
        }
    }
}

#[test]
fn a_subscription_is_found_however_it_is_written() {
    let world = Everything { subscriptions: 500 };
    let id = "00000000-0000-0000-0000-00000000000a";
    for path in ["/usage", "/cost"] {
        for written in [id.to_owned(), id.to_uppercase(), format!("%7B{id}%7D"), id.replace('-', "")] {
            let page = asked(&world, path, &format!("subscription={written}"));
            assert_eq!(page.status, 200, "{path} {written}");
            assert!(page.body.contains(&format!("value=\"{id}\"")), "{path} {written}: the page says which is chosen");
            let rows = format!("{path}.csv?days=14&#38;subscription={id}");
            assert!(page.body.contains(&rows), "{path} {written}: {}", page.body);
        }
        for unknown in ["00000000-0000-0000-0000-0000000fffff", "nobody", "%3Cscript%3E"] {
            for path in [path.to_owned(), format!("{path}.csv")] {
                let page = asked(&world, &path, &format!("subscription={unknown}"));
                assert_eq!(page.status, 404, "{path} {unknown}");
                assert!(page.body.contains(">All ") && !page.body.contains("<script>"), "{}", page.body);
            }
        }
    }
}

#[test]
fn subscriptions_are_compared_until_one_is_chosen() {
    let world = Everything { subscriptions: 60 };
    let page = asked(&world, "/cost", "days=7").body;
    assert!(page.contains("By subscription") && page.contains("of 60</span>"), "{page}");
    assert!(page.contains("?days=7&page=2") || page.contains("?days=7&#38;page=2"), "{page}");
    let page = asked(&world, "/cost", &format!("subscription={}", Uuid::from_u128(7))).body;
    assert!(!page.contains("By subscription"), "{page}");
}
