//! The pages of a stamp's administrator portal: a request in, a document out.

use askama::Template;
use azsreg_model::{Alert, day_of};
use jiff::SignedDuration;

use crate::chart::{Chart, csv};
use crate::choice::Choice;
use crate::frame::{Answer, Ask, Forms, Frame, Notice, Time};
use crate::market;
use crate::{Actions, ItemState, Region, Registration, Source, UsageAsked};

/// How many alerts the dashboard names.
const NAMED: usize = 3;

/// The pages of a stamp.
#[derive(Debug, Clone)]
pub struct Portal {
    forms: Forms,
}

#[derive(Template)]
#[template(path = "dashboard.html")]
struct Dashboard {
    frame: Frame,
    region: Region,
    expires: Option<Time>,
    open: Vec<Alert>,
    items: usize,
    downloading: usize,
    failed: usize,
}

impl Dashboard {
    fn well(&self) -> bool {
        self.region.registration == Registration::Registered
    }

    /// The alerts that the tile names.
    fn named(&self) -> &[Alert] {
        &self.open[..self.open.len().min(NAMED)]
    }
}

/// A row of Properties.
struct Property {
    name: &'static str,
    value: String,
    time: Option<Time>,
}

#[derive(Template)]
#[template(path = "properties.html")]
struct Properties {
    frame: Frame,
    rows: Vec<Property>,
}

#[derive(Template)]
#[template(path = "alerts.html")]
struct Alerts {
    frame: Frame,
    secret: String,
    /// Each with when it was raised and when it was closed.
    alerts: Vec<(Alert, Option<Time>, Option<Time>)>,
}

#[derive(Template)]
#[template(path = "usage.html")]
struct Usage {
    frame: Frame,
    choice: Choice,
    chart: Chart,
}

impl Portal {
    /// The pages, with forms of their own.
    #[must_use]
    pub fn new(forms: Forms) -> Self {
        Self { forms }
    }

    /// Answers a request.
    pub async fn answer(&self, ask: Ask<'_>, source: &(impl Source + Sync), actions: &(impl Actions + Sync)) -> Answer {
        if let Some(asset) = Answer::asset(ask.path) {
            return asset;
        }
        let region = source.region();
        let mut open = source.alerts();
        open.retain(|alert| alert.active);
        let waiting = open.len();
        let frame = |title| Frame {
            title,
            brand: "Azure Stack administration",
            lab: true,
            home: "/".into(),
            subject: region.stamp.clone(),
            pages: vec![
                ("/", "Dashboard", 0),
                ("/properties", "Properties", 0),
                ("/marketplace", "Marketplace", 0),
                ("/alerts", "Alerts", waiting),
                ("/usage", "Usage", 0),
            ],
            place: format!("{}, region {}", region.stamp, region.name),
            now: Time::of(region.now),
        };
        if ask.path == "/marketplace" || ask.path.starts_with("/marketplace/") {
            return market::answer(&self.forms, ask, frame, source, actions).await;
        }
        match (ask.path, ask.looks()) {
            ("/", true) => {
                let items = source.market().items;
                let count = |of: fn(&ItemState) -> bool| items.iter().filter(|item| of(&item.state)).count();
                let page = Dashboard {
                    frame: frame("Dashboard"),
                    expires: region.expires.map(Time::of),
                    open,
                    downloading: count(|state| matches!(state, ItemState::Downloading(_))),
                    failed: count(|state| matches!(state, ItemState::Failed(_))),
                    items: items.len(),
                    region,
                };
                Answer::page(200, &page)
            }
            ("/properties", true) => {
                let rows = properties(&region);
                Answer::page(200, &Properties { frame: frame("Properties"), rows })
            }
            ("/alerts", true) => {
                let alerts = source.alerts().into_iter().map(|alert| {
                    let (created, closed) = (alert.created.map(Time::of), alert.closed.map(Time::of));
                    (alert, created, closed)
                });
                let secret = self.forms.secret.clone();
                Answer::page(200, &Alerts { frame: frame("Alerts"), secret, alerts: alerts.collect() })
            }
            ("/alerts/close", false) if ask.method == "POST" => {
                let close = async { actions.close_alert(ask.value("id").unwrap_or_default()) };
                done(&self.forms, ask, frame("Not done"), "/alerts", close).await
            }
            ("/usage" | "/usage.csv", true) => {
                let today = day_of(region.now);
                let tenants = source.tenants().into_iter().map(|id| (id, id.to_string())).collect();
                let choice = match Choice::of(ask, today, ("/usage", "Tenant"), tenants, frame) {
                    Ok(choice) => choice,
                    Err(unknown) => return unknown,
                };
                let apart = ask.path == "/usage.csv";
                let lines = source.usage(UsageAsked { days: choice.days, subscription: choice.chosen, apart });
                if apart {
                    return Answer::csv(
                        &format!("usage-{}-{}.csv", region.stamp, choice.span.replace(' ', "-")),
                        csv(&lines),
                    );
                }
                let chart = Chart::of(&lines, today, choice.days);
                Answer::page(200, &Usage { frame: frame("Usage"), choice, chart })
            }
            ("/" | "/properties" | "/alerts" | "/alerts/close" | "/usage" | "/usage.csv", _) => unknown_verb(frame),
            _ => Answer::message(404, frame("Not found"), "There is no such page."),
        }
    }
}

pub(crate) fn unknown_verb(frame: impl FnOnce(&'static str) -> Frame) -> Answer {
    Answer::message(405, frame("Not done"), "This page does not take such a request. Nothing was changed.")
}

pub(crate) fn foreign(frame: Frame) -> Answer {
    let text = "This form was not sent from a page of this portal, or the page is older than the portal that runs now. \
                Nothing was changed: open the page anew and try again.";
    Answer::message(403, frame, text)
}

/// Does what a form asks for, if the form is ours, and goes on to a page; else says why not.
pub(crate) async fn done(
    forms: &Forms,
    ask: Ask<'_>,
    frame: Frame,
    then: &str,
    act: impl Future<Output = Result<(), Notice>>,
) -> Answer {
    if !forms.admit(ask) {
        return foreign(frame);
    }
    match act.await {
        Ok(()) => Answer::to(then),
        Err(why) => Answer::message(409, frame, why),
    }
}

/// How many days are left, in whole ones.
fn days_left(left: SignedDuration) -> String {
    match left.as_hours() / 24 {
        _ if !left.is_positive() => "None".into(),
        0 => "Less than one".into(),
        days => days.to_string(),
    }
}

/// The rows of Properties, in the order of the administrator portal.
fn properties(region: &Region) -> Vec<Property> {
    let dash = || "\u{2013}".to_owned();
    let id = region.registered_as.as_ref();
    let switch = |on: Option<bool>| match on {
        Some(true) => "On".to_owned(),
        Some(false) => "Off".to_owned(),
        None => dash(),
    };
    let row = |name, value| Property { name, value, time: None };
    let (expires, left) = match (id, region.expires) {
        (None, _) => (row("Expires", dash()), dash()),
        (Some(_), None) => (row("Expires", "Never".into()), dash()),
        (Some(_), Some(at)) => {
            let time = Property { name: "Expires", value: String::new(), time: Some(Time::of(at)) };
            (time, days_left(at.duration_since(region.now)))
        }
    };
    vec![
        row("Registration status", region.registration.title().to_owned()),
        row("Registration subscription ID", id.map_or_else(dash, |id| id.subscription.to_string())),
        row("Registration resource group", id.map_or_else(dash, |id| id.resource_group.clone())),
        row("Registration name", id.map_or_else(dash, |id| id.name.clone())),
        row("Billing model", region.billing_model.clone().unwrap_or_else(dash)),
        expires,
        row("Days left", left),
        row("Usage reporting", switch(region.usage)),
        row("Marketplace syndication", switch(region.marketplace)),
        row("Stamp Cloud ID", region.cloud_id.clone()),
        row("Version", region.version.clone()),
        row("Nodes", region.nodes.to_string()),
        row("Privileged endpoints", region.privileged_endpoints.join(", ")),
    ]
}
