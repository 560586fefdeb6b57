//! Azure's side: all resources, with the hidden types, a registration with what is on it, and what is billed.

use askama::Template;
use azsreg_model::{UsageLine, day_of};
use jiff::Timestamp;

use crate::chart::{Meter, meters};
use crate::frame::{Answer, Ask, Frame, Time};

/// How many days of cost are shown, unless others are asked for.
const DAYS: u16 = 14;

/// A resource of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: &'static str,
    /// Whether lists leave it out unless hidden types are asked for.
    pub hidden: bool,
    /// Its resource group.
    pub group: String,
    /// Its location.
    pub location: String,
    /// Its subscription's name.
    pub subscription: String,
    /// Its id, where it has a page of its own.
    pub id: Option<String>,
}

/// A registration, with what is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its name.
    pub name: String,
    /// What it says of itself: names and values.
    pub properties: Vec<(&'static str, String)>,
    /// When it was last written.
    pub written: Timestamp,
    /// The locks on it: name and level.
    pub locks: Vec<(String, String)>,
    /// Who has a role on it: the role and who.
    pub roles: Vec<(String, String)>,
    /// Its customers: subscription, tenant, since when, and until when.
    pub customers: Vec<(String, String, Timestamp, Option<Timestamp>)>,
}

/// What pages of Azure show.
pub trait Cloud {
    /// The time there.
    fn now(&self) -> Timestamp;
    /// The directory's name.
    fn directory(&self) -> String;
    /// All resources.
    fn resources(&self) -> Vec<Resource>;
    /// A registration, by its id.
    fn registration(&self, id: &str) -> Option<Registered>;
    /// What is billed, by subscription (its name), day and commerce meter, of the last so many days that have ended.
    fn billed(&self, days: u16) -> Vec<UsageLine>;
}

#[derive(Template)]
#[template(path = "resources.html")]
struct Resources {
    frame: Frame,
    all: bool,
    hidden: usize,
    resources: Vec<Resource>,
}

#[derive(Template)]
#[template(path = "registration.html")]
struct Page {
    frame: Frame,
    registration: Registered,
    written: Time,
    customers: Vec<(String, String, Time, Option<Time>)>,
}

#[derive(Template)]
#[template(path = "cost.html")]
struct Cost {
    frame: Frame,
    days: u16,
    subscriptions: Vec<(String, Vec<Meter>)>,
}

/// Answers a request for a page of Azure.
pub fn answer(ask: Ask<'_>, cloud: &impl Cloud) -> Answer {
    let frame = |title| Frame {
        title,
        brand: "Azure",
        pages: vec![("/", "All resources", 0), ("/cost", "Cost", 0)],
        place: format!("The directory {}", cloud.directory()),
        now: Time::of(cloud.now()),
    };
    if !matches!(ask.method, "GET" | "HEAD") {
        return Answer::message(405, frame("Not done"), "This page is only to be looked at.");
    }
    match ask.path {
        "/" => {
            let all = ask.value("hidden") == Some("yes");
            let every = cloud.resources();
            let hidden = every.iter().filter(|resource| resource.hidden).count();
            let resources = every.into_iter().filter(|resource| all || !resource.hidden).collect();
            Answer::page(200, &Resources { frame: frame("All resources"), all, hidden, resources })
        }
        "/registration" => match cloud.registration(ask.value("id").unwrap_or_default()) {
            None => Answer::message(404, frame("Not found"), "There is no such registration any more."),
            Some(mut registration) => {
                let written = Time::of(registration.written);
                let customers = std::mem::take(&mut registration.customers).into_iter();
                let customers = customers.map(|(id, tenant, from, to)| (id, tenant, Time::of(from), to.map(Time::of)));
                let customers = customers.collect();
                Answer::page(200, &Page { frame: frame("Registration"), registration, written, customers })
            }
        },
        "/cost" => {
            let days = ask.days(DAYS);
            let mut lines = cloud.billed(days);
            lines.sort_by(|a, b| a.subscription.cmp(&b.subscription));
            let today = day_of(cloud.now());
            let of_one = lines.chunk_by(|a, b| a.subscription == b.subscription);
            let subscriptions = of_one.map(|lines| {
                let name = lines.first().and_then(|line| line.subscription.clone()).unwrap_or_default();
                (name, meters(lines.to_vec(), today, days))
            });
            let subscriptions = subscriptions.collect();
            Answer::page(200, &Cost { frame: frame("Cost"), days, subscriptions })
        }
        "/style.css" => Answer::style(),
        _ => Answer::message(404, frame("Not found"), "There is no such page."),
    }
}
