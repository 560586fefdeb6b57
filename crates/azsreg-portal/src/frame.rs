//! What every page has around it, and the form of every answer.

use askama::Template;
use jiff::Timestamp;

const STYLE: &str = include_str!("../assets/style.css");
/// Nothing but our own style sheet and forms; nobody frames a page.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A request, as far as pages look at it.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// The path, decoded.
    pub path: &'a str,
    /// The query and the form, decoded.
    pub values: &'a [(String, String)],
    /// The host that was asked.
    pub host: &'a str,
    /// `Origin`: the page that a form was sent from, where the browser says so.
    pub origin: Option<&'a str>,
}

impl Ask<'_> {
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// How many days are asked for, of those that are offered.
    pub(crate) fn days(&self, usual: u16) -> u16 {
        let asked = self.value("days").and_then(|days| days.parse().ok());
        asked.filter(|days| (1..=31).contains(days)).unwrap_or(usual)
    }
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

    pub(crate) fn page(status: u16, page: &impl Template) -> Self {
        match page.render() {
            Ok(body) => Self::of(status, "text/html; charset=utf-8", body),
            Err(error) => Self::of(500, "text/plain; charset=utf-8", error.to_string()),
        }
    }

    pub(crate) fn style() -> Self {
        Self::of(200, "text/css; charset=utf-8", STYLE.to_owned())
    }

    /// On to a page, after a form.
    pub(crate) fn to(path: &str) -> Self {
        let mut answer = Self::of(303, "text/plain; charset=utf-8", String::new());
        answer.headers.push(("location", path.to_owned()));
        answer
    }

    /// A page that says one thing.
    pub(crate) fn message(status: u16, frame: Frame, text: &str) -> Self {
        Self::page(status, &Message { frame, text: text.to_owned() })
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    frame: Frame,
    text: String,
}

/// A point in time: as the server writes it, and for a machine.
pub(crate) struct Time {
    pub(crate) shown: String,
    pub(crate) exact: String,
}

impl Time {
    pub(crate) fn of(at: Timestamp) -> Self {
        Self {
            shown: at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            exact: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }
}

/// What every page of a portal has.
pub(crate) struct Frame {
    /// The page.
    pub(crate) title: &'static str,
    /// The portal.
    pub(crate) brand: &'static str,
    /// Its pages: address, name, and how many things wait there.
    pub(crate) pages: Vec<(&'static str, &'static str, usize)>,
    /// Where one is.
    pub(crate) place: String,
    /// The time there.
    pub(crate) now: Time,
}
