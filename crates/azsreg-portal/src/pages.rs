//! The pages of a stamp: a request in, a document out.

use askama::Template;
use azsreg_model::{Alert, day_of};

use crate::chart::{Meter, meters};
use crate::frame::{Answer, Ask, Frame, Time};
use crate::{Actions, Market, Region, Source};

/// How many days the usage page shows, unless it is asked for others.
const DAYS: u16 = 14;

/// The pages of a stamp. `secret` is in every form: a page of another site does not know it.
#[derive(Debug, Clone)]
pub struct Portal {
    secret: String,
}

#[derive(Template)]
#[template(path = "dashboard.html")]
struct Dashboard {
    frame: Frame,
    region: Region,
    open: usize,
    expires: Option<Time>,
}

#[derive(Template)]
#[template(path = "properties.html")]
struct Properties {
    frame: Frame,
    rows: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "alerts.html")]
struct Alerts {
    frame: Frame,
    secret: String,
    alerts: Vec<(Alert, Option<Time>)>,
}

#[derive(Template)]
#[template(path = "usage.html")]
struct Usage {
    frame: Frame,
    days: u16,
    meters: Vec<Meter>,
}

#[derive(Template)]
#[template(path = "marketplace.html")]
struct Marketplace {
    frame: Frame,
    market: Market,
}

impl Portal {
    /// The pages, with a secret that is drawn anew each time they are served.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self { secret }
    }

    /// Answers a request.
    pub fn answer(&self, ask: Ask<'_>, source: &impl Source, actions: &impl Actions) -> Answer {
        let region = source.region();
        let open = source.alerts().iter().filter(|alert| alert.active).count();
        let frame = |title| Frame {
            title,
            brand: "Azure Stack administration",
            pages: vec![
                ("/", "Dashboard", 0),
                ("/properties", "Properties", 0),
                ("/marketplace", "Marketplace", 0),
                ("/alerts", "Alerts", open),
                ("/usage", "Usage", 0),
            ],
            place: format!("{}, region {}", region.stamp, region.name),
            now: Time::of(region.now),
        };
        match (ask.method, ask.path) {
            ("GET" | "HEAD", "/") => {
                let (frame, expires) = (frame("Dashboard"), region.expires.map(Time::of));
                Answer::page(200, &Dashboard { frame, open, expires, region })
            }
            ("GET" | "HEAD", "/properties") => {
                let rows = properties(&region);
                Answer::page(200, &Properties { frame: frame("Properties"), rows })
            }
            ("GET" | "HEAD", "/alerts") => {
                let alerts = source.alerts().into_iter().map(|alert| {
                    let created = alert.created.map(Time::of);
                    (alert, created)
                });
                let page = Alerts { frame: frame("Alerts"), secret: self.secret.clone(), alerts: alerts.collect() };
                Answer::page(200, &page)
            }
            ("POST", "/alerts/close") => {
                // A browser says where a form was sent from, and a page of another site does not know the secret.
                let ours = ask.origin.is_none_or(|origin| origin.split("://").nth(1) == Some(ask.host));
                if !ours || ask.value("secret") != Some(&self.secret) {
                    return Answer::message(
                        403,
                        frame("Not done"),
                        "This form was not sent from a page of this portal. Nothing was changed.",
                    );
                }
                match actions.close_alert(ask.value("id").unwrap_or_default()) {
                    Ok(()) => Answer::to("/alerts"),
                    Err(why) => Answer::message(409, frame("Not done"), &why),
                }
            }
            ("GET" | "HEAD", "/usage") => {
                let days = ask.days(DAYS);
                let meters = meters(source.usage(days), day_of(region.now), days);
                Answer::page(200, &Usage { frame: frame("Usage"), days, meters })
            }
            ("GET" | "HEAD", "/marketplace") => {
                let page = Marketplace { frame: frame("Marketplace"), market: source.market() };
                Answer::page(200, &page)
            }
            ("GET" | "HEAD", "/style.css") => Answer::style(),
            (_, "/" | "/properties" | "/alerts" | "/usage" | "/marketplace" | "/style.css" | "/alerts/close") => {
                Answer::message(405, frame("Not done"), "This page is only to be looked at.")
            }
            _ => Answer::message(404, frame("Not found"), "There is no such page."),
        }
    }
}

/// The rows of Properties, in the order of the administrator portal.
fn properties(region: &Region) -> Vec<(&'static str, String)> {
    let dash = || "\u{2013}".to_owned();
    let id = region.registered_as.as_ref();
    let switch = |on: Option<bool>| match on {
        Some(true) => "On".to_owned(),
        Some(false) => "Off".to_owned(),
        None => dash(),
    };
    vec![
        ("Registration status", region.registration.title().to_owned()),
        ("Registration subscription ID", id.map_or_else(dash, |id| id.subscription.to_string())),
        ("Registration resource group", id.map_or_else(dash, |id| id.resource_group.clone())),
        ("Registration name", id.map_or_else(dash, |id| id.name.clone())),
        ("Billing model", region.billing_model.clone().unwrap_or_else(dash)),
        (
            "Expires",
            match (id, region.expires) {
                (None, _) => dash(),
                (Some(_), None) => "Never".into(),
                (Some(_), Some(at)) => Time::of(at).shown,
            },
        ),
        ("Usage reporting", switch(region.usage)),
        ("Marketplace syndication", switch(region.marketplace)),
        ("Stamp Cloud ID", region.cloud_id.clone()),
        ("Version", region.version.clone()),
        ("Nodes", region.nodes.to_string()),
        ("Privileged endpoints", region.privileged_endpoints.join(", ")),
    ]
}
