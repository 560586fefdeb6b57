//! The pages: a request in, a document out.

use std::collections::BTreeMap;

use askama::Template;
use azsreg_model::{Alert, day_of};
use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;

use crate::chart::{Bar, HEIGHT, STEP, bars};
use crate::{Actions, Market, Region, Source};

const STYLE: &str = include_str!("../assets/style.css");
/// Nothing but our own style sheet and forms; nobody frames a page.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// How many days the usage page shows, unless it is asked for others.
const DAYS: u16 = 14;

/// A request, as far as pages look at it.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// The path, decoded.
    pub path: &'a str,
    /// The query and the form, decoded.
    pub values: &'a [(String, String)],
    /// The host that was asked, and the page that a form was sent from, where the browser says so.
    pub host: &'a str,
    /// `Origin`.
    pub origin: Option<&'a str>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub kind: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    fn of(status: u16, kind: &'static str, body: String) -> Self {
        let headers = vec![
            ("content-security-policy", POLICY.to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
            ("referrer-policy", "same-origin".to_owned()),
            ("cache-control", "no-store".to_owned()),
        ];
        Self { status, kind, headers, body }
    }

    fn page(status: u16, page: &impl Template) -> Self {
        match page.render() {
            Ok(body) => Self::of(status, "text/html; charset=utf-8", body),
            Err(error) => Self::of(500, "text/plain; charset=utf-8", error.to_string()),
        }
    }
}

/// The pages of a stamp. `secret` is in every form: a page of another site does not know it.
#[derive(Debug, Clone)]
pub struct Portal {
    secret: String,
}

/// A point in time: as the server writes it, and for a machine.
struct Time {
    shown: String,
    exact: String,
}

impl Time {
    fn of(at: Timestamp) -> Self {
        Self {
            shown: at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            exact: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }
}

/// What every page has.
struct Frame {
    title: &'static str,
    region: Region,
    open: usize,
}

#[derive(Template)]
#[template(path = "dashboard.html")]
struct Dashboard {
    frame: Frame,
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

/// A meter's days.
struct Meter {
    name: String,
    unit: String,
    total: String,
    bars: Vec<Bar>,
    width: u32,
    height: u32,
}

#[derive(Template)]
#[template(path = "marketplace.html")]
struct Marketplace {
    frame: Frame,
    market: Market,
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    frame: Frame,
    text: String,
}

impl Portal {
    /// The pages, with a secret that is drawn anew each time they are served.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self { secret }
    }

    /// Answers a request.
    pub fn answer(&self, ask: Ask<'_>, source: &impl Source, actions: &impl Actions) -> Answer {
        let frame = |title| Frame { title, region: source.region(), open: open(&source.alerts()) };
        let value = |name: &str| ask.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let message =
            |status, title, text: &str| Answer::page(status, &Message { frame: frame(title), text: text.to_owned() });
        match (ask.method, ask.path) {
            ("GET" | "HEAD", "/") => {
                let frame = frame("Dashboard");
                let expires = frame.region.expires.map(Time::of);
                Answer::page(200, &Dashboard { frame, expires })
            }
            ("GET" | "HEAD", "/properties") => {
                let frame = frame("Properties");
                let rows = properties(&frame.region);
                Answer::page(200, &Properties { frame, rows })
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
                if !ours || value("secret") != Some(&self.secret) {
                    return message(
                        403,
                        "Not done",
                        "This form was not sent from a page of this portal. Nothing was changed.",
                    );
                }
                match actions.close_alert(value("id").unwrap_or_default()) {
                    Ok(()) => {
                        let mut answer = Answer::of(303, "text/plain; charset=utf-8", String::new());
                        answer.headers.push(("location", "/alerts".into()));
                        answer
                    }
                    Err(why) => message(409, "Not done", &why),
                }
            }
            ("GET" | "HEAD", "/usage") => {
                let days = value("days").and_then(|days| days.parse().ok()).filter(|days| (1..=31).contains(days));
                let days = days.unwrap_or(DAYS);
                let frame = frame("Usage");
                let meters = meters(source, day_of(frame.region.now), days);
                Answer::page(200, &Usage { frame, days, meters })
            }
            ("GET" | "HEAD", "/marketplace") => {
                let page = Marketplace { frame: frame("Marketplace"), market: source.market() };
                Answer::page(200, &page)
            }
            ("GET" | "HEAD", "/style.css") => Answer::of(200, "text/css; charset=utf-8", STYLE.to_owned()),
            (_, "/" | "/properties" | "/alerts" | "/usage" | "/marketplace" | "/style.css" | "/alerts/close") => {
                message(405, "Not done", "This page is only to be looked at.")
            }
            _ => message(404, "Not found", "There is no such page."),
        }
    }
}

fn open(alerts: &[Alert]) -> usize {
    alerts.iter().filter(|alert| alert.active).count()
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

/// Each meter's days, the meters in the order of their names.
fn meters(source: &impl Source, today: Date, days: u16) -> Vec<Meter> {
    let mut found: BTreeMap<(String, String), BTreeMap<Date, Decimal>> = BTreeMap::new();
    for line in source.usage(days) {
        let name = if line.name.is_empty() { line.meter } else { line.name };
        *found.entry((name, line.unit)).or_default().entry(day_of(line.start)).or_default() += line.quantity;
    }
    let first = today.saturating_sub(jiff::Span::new().days(i64::from(days)));
    let every: Vec<Date> = first.series(jiff::Span::new().days(1)).take(usize::from(days)).collect();
    let meters = found.into_iter().map(|((name, unit), amounts)| {
        let total: Decimal = amounts.values().sum();
        let row: Vec<(Date, Decimal)> =
            every.iter().map(|day| (*day, amounts.get(day).copied().unwrap_or_default())).collect();
        let total = grouped(total);
        Meter { bars: bars(&row, &unit), width: STEP * u32::from(days), height: HEIGHT, name, unit, total }
    });
    meters.collect()
}

/// A number that is read at a glance: three decimals, thousands apart.
fn grouped(amount: Decimal) -> String {
    let text = format!("{:.3}", amount.round_dp(3));
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let digits: Vec<char> = whole.chars().collect();
    let mut out = String::new();
    for (at, digit) in digits.iter().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(*digit);
    }
    format!("{out}.{decimals}")
}
