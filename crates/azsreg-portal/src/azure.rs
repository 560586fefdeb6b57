//! Azure's side: all resources, with the hidden types, a registration with what is on it and what happened to it, what is
//! billed, and the page where a device code is approved.

use askama::Template;
use azsreg_model::{UsageLine, day_of};
use jiff::Timestamp;
use uuid::Uuid;

use crate::UsageAsked;
use crate::chart::{Chart, Shares, csv};
use crate::choice::Choice;
use crate::frame::{Answer, Ask, Frame, ROWS, Rows, Time};
use crate::pages::unknown_verb;

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
    /// Its subscription.
    pub subscription: Uuid,
    /// What it says of itself: names and values.
    pub properties: Vec<(&'static str, String)>,
    /// When it ends; none where it never does.
    pub expires: Option<Timestamp>,
    /// When it was last written.
    pub written: Timestamp,
    /// The locks on it: name and level.
    pub locks: Vec<(String, String)>,
    /// Who has a role on it: the role and who.
    pub roles: Vec<(String, String)>,
    /// Its customers: subscription, tenant, since when, and until when.
    pub customers: Vec<(String, String, Timestamp, Option<Timestamp>)>,
    /// What happened to it, newest first.
    pub history: Vec<Event>,
}

/// What happened to a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
    /// The registration's name.
    pub resource: String,
    /// Who did it.
    pub by: String,
    /// How often in a row; `at` is the last time.
    pub times: u32,
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
    /// What happened to registrations, newest first.
    fn activity(&self) -> Vec<Event>;
    /// The subscriptions that may be billed: id and name.
    fn payers(&self) -> Vec<(Uuid, String)>;
    /// What is billed by day and commerce meter.
    fn billed(&self, asked: UsageAsked) -> Vec<UsageLine>;
}

#[derive(Template)]
#[template(path = "resources.html")]
struct Resources {
    frame: Frame,
    all: bool,
    hidden: usize,
    rows: Rows<Resource>,
}

#[derive(Template)]
#[template(path = "registration.html")]
struct Page {
    frame: Frame,
    registration: Registered,
    expires: Option<Time>,
    expired: bool,
    written: Time,
    customers: Rows<(String, String, Time, Option<Time>)>,
    history: Vec<(Event, Time)>,
}

#[derive(Template)]
#[template(path = "activity.html")]
struct Activity {
    frame: Frame,
    rows: Rows<(Event, Time)>,
}

#[derive(Template)]
#[template(path = "cost.html")]
struct Cost {
    frame: Frame,
    choice: Choice,
    chart: Chart,
    /// The meters of the table of subscriptions, with their units.
    columns: Vec<(String, String)>,
    rows: Rows<(Uuid, String, Vec<String>)>,
}

#[derive(Template)]
#[template(path = "device.html")]
struct Device<'a> {
    frame: Frame,
    /// What was done; empty while a code is to be entered.
    done: &'static str,
    /// A code that there is not.
    wrong: Option<&'a str>,
}

/// What came of the code that was entered last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered<'a> {
    /// None was entered yet.
    Nothing,
    /// There is no such code.
    Wrong(&'a str),
    /// The application is signed in.
    Approved,
    /// The application is not signed in.
    Declined,
}

fn timed(events: Vec<Event>) -> Vec<(Event, Time)> {
    let timed = events.into_iter().map(|event| {
        let at = Time::of(event.at);
        (event, at)
    });
    timed.collect()
}

/// Answers a request for a page of Azure.
pub fn answer(ask: Ask<'_>, cloud: &impl Cloud) -> Answer {
    if let Some(asset) = Answer::asset(ask.path) {
        return asset;
    }
    let frame = |title| Frame {
        title,
        brand: "Azure",
        lab: true,
        home: "/".into(),
        subject: String::new(),
        pages: vec![("/", "All resources", 0), ("/cost", "Cost", 0), ("/activity", "Activity log", 0)],
        place: format!("The directory {}", cloud.directory()),
        now: Time::of(cloud.now()),
    };
    if !ask.looks() {
        return unknown_verb(frame);
    }
    match ask.path {
        "/" => {
            let all = ask.value("hidden") == Some("yes");
            let every = cloud.resources();
            let hidden = every.iter().filter(|resource| resource.hidden).count();
            let shown = every.into_iter().filter(|resource| all || !resource.hidden).collect();
            let rows = Rows::of(shown, ROWS, ask, all.then_some(("hidden", "yes")));
            Answer::page(200, &Resources { frame: frame("All resources"), all, hidden, rows })
        }
        "/registration" => match cloud.registration(ask.value("id").unwrap_or_default()) {
            None => Answer::message(404, frame("Not found"), "There is no such registration."),
            Some(mut registration) => {
                let written = Time::of(registration.written);
                let expired = registration.expires.is_some_and(|end| end <= cloud.now());
                let expires = registration.expires.map(Time::of);
                let customers = std::mem::take(&mut registration.customers).into_iter();
                let customers = customers.map(|(id, tenant, from, to)| (id, tenant, Time::of(from), to.map(Time::of)));
                let customers = Rows::of(customers.collect(), ROWS, ask, None);
                let history = timed(std::mem::take(&mut registration.history));
                let page =
                    Page { frame: frame("Registration"), registration, expires, expired, written, customers, history };
                Answer::page(200, &page)
            }
        },
        "/activity" => {
            let rows = Rows::of(timed(cloud.activity()), ROWS, ask, None);
            Answer::page(200, &Activity { frame: frame("Activity log"), rows })
        }
        "/cost" | "/cost.csv" => {
            let today = day_of(cloud.now());
            let choice = match Choice::of(ask, today, ("/cost", "Subscription"), cloud.payers(), frame) {
                Ok(choice) => choice,
                Err(unknown) => return unknown,
            };
            let lines = cloud.billed(UsageAsked { days: choice.days, subscription: choice.chosen, apart: true });
            if ask.path == "/cost.csv" {
                return Answer::csv(&format!("cost-{}.csv", choice.span.replace(' ', "-")), csv(&lines));
            }
            let chart = Chart::of(&lines, today, choice.days);
            let Shares { meters: columns, rows } = Shares::of(&lines, &choice.known);
            let rows = Rows::of(rows, ROWS, ask, Some(("days", &choice.days.to_string())));
            Answer::page(200, &Cost { frame: frame("Cost"), choice, chart, columns, rows })
        }
        _ => Answer::message(404, frame("Not found"), "There is no such page."),
    }
}

/// The page where a person enters the code that an application shows.
#[must_use]
pub fn device(now: Timestamp, directory: &str, entered: Entered<'_>) -> Answer {
    let (title, done, wrong) = match entered {
        Entered::Nothing => ("Enter code", "", None),
        Entered::Wrong(code) => ("Enter code", "", Some(code)),
        Entered::Approved => ("Signed in", "You have signed in. You may now close this window.", None),
        Entered::Declined => ("Declined", "The sign-in was declined. You may now close this window.", None),
    };
    let frame = Frame {
        title,
        brand: "Azure",
        lab: true,
        home: "/devicelogin".into(),
        subject: String::new(),
        pages: Vec::new(),
        place: format!("A simulated Azure: nothing here is Microsoft's. The directory {directory}"),
        now: Time::of(now),
    };
    Answer::page(200, &Device { frame, done, wrong })
}
