//! What every page has around it, and the form of every answer.

use askama::Template;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const STYLE: &str = include_str!("../assets/style.css");
const SCRIPT: &str = include_str!("../assets/script.js");
/// Nothing but our own style sheet, script and forms; nobody frames a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// How many rows a page of a list has: with them it stays well under 100 KB.
pub(crate) const ROWS: usize = 50;

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
    /// `Cookie`, as sent.
    pub cookie: Option<&'a str>,
}

impl Ask<'_> {
    /// The first value of a name that is not empty.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let known = self.values.iter().find(|(known, value)| known == name && !value.is_empty());
        known.map(|(_, value)| value.as_str())
    }

    /// Whether it only looks.
    pub(crate) fn looks(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }

    /// How many days are asked for, of those that are offered.
    pub(crate) fn days(&self, usual: u16) -> u16 {
        let asked = self.value("days").and_then(|days| days.parse().ok());
        asked.filter(|days| (1..=31).contains(days)).unwrap_or(usual)
    }
}

/// A form or a query as pairs, decoded.
#[must_use]
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let decoded = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    });
    pairs.collect()
}

/// Whether a host is this machine by a name that nobody else can make lead here: a page is for its own machine, and for who
/// has a tunnel to it.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(n, _)| n);
    ["127.0.0.1", "localhost", "[::1]"].contains(&name)
}

/// What tells our own forms from those of other sites: a secret in each, drawn anew whenever pages are served.
#[derive(Clone)]
pub struct Forms {
    pub(crate) secret: String,
}

impl std::fmt::Debug for Forms {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Forms")
    }
}

impl Forms {
    /// Forms with this secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self { secret }
    }

    /// Whether a form is ours: a browser says where it was sent from, and a page of another site does not know the secret.
    pub(crate) fn admit(&self, ask: Ask<'_>) -> bool {
        let ours = ask.origin.is_none_or(|origin| origin.split("://").nth(1) == Some(ask.host));
        ours && ask.value("secret") == Some(&self.secret)
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

    /// The style sheet or the script, which every page names.
    pub fn asset(path: &str) -> Option<Self> {
        match path {
            "/style.css" => Some(Self::of(200, "text/css; charset=utf-8", STYLE.to_owned())),
            "/script.js" => Some(Self::of(200, "text/javascript; charset=utf-8", SCRIPT.to_owned())),
            _ => None,
        }
    }

    /// Rows for a spreadsheet, as a file of this name.
    pub(crate) fn csv(name: &str, body: String) -> Self {
        let mut answer = Self::of(200, "text/csv; charset=utf-8", body);
        answer.headers.push(("content-disposition", format!("attachment; filename=\"{name}\"")));
        answer
    }

    /// On to a page, after a form.
    pub(crate) fn to(path: &str) -> Self {
        let mut answer = Self::of(303, "text/plain; charset=utf-8", String::new());
        answer.headers.push(("location", path.to_owned()));
        answer
    }

    /// A refusal in one line, for who is not let in at all.
    #[must_use]
    pub fn refused(status: u16, why: &str) -> Self {
        Self::of(status, "text/plain; charset=utf-8", why.to_owned())
    }

    /// A page that says one thing, and what to do next.
    pub(crate) fn message(status: u16, frame: Frame, notice: impl Into<Notice>) -> Self {
        Self::page(status, &Message { frame, notice: notice.into() })
    }
}

/// What is said where something is not there, or was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What is so, for a person.
    pub text: String,
    /// The command that mends it, where there is one.
    pub next: Option<String>,
}

impl Notice {
    /// What is to be done as a command to type, and what is said of it; a sentence is none.
    pub(crate) fn command(&self) -> Option<(&str, &str)> {
        self.next.as_deref().and_then(azsreg_model::command_of)
    }
}

impl From<&str> for Notice {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), next: None }
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    frame: Frame,
    notice: Notice,
}

/// A point in time: as the server writes it, and for a machine. The page's script shows it in the reader's zone.
#[derive(Debug, Clone)]
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
    /// Whether it is of a lab.
    pub(crate) lab: bool,
    /// Where its first page is.
    pub(crate) home: String,
    /// Whose pages they are, where one portal has several like it.
    pub(crate) subject: String,
    /// Its pages: address, name, and how many things wait there.
    pub(crate) pages: Vec<(&'static str, &'static str, usize)>,
    /// Where one is.
    pub(crate) place: String,
    /// The time there.
    pub(crate) now: Time,
}

/// The rows of a long list that one page shows, and the ways to the others.
pub(crate) struct Rows<T> {
    pub(crate) rows: Vec<T>,
    pub(crate) total: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) before: Option<usize>,
    pub(crate) after: Option<usize>,
    /// What else the addresses of the others say, ready to be written: `name=value&`.
    pub(crate) query: String,
}

impl<T> Rows<T> {
    /// The page that is asked for, or the nearest one, of so many rows each. `kept` is what else was asked: a name and its
    /// value.
    pub(crate) fn of(all: Vec<T>, each: usize, ask: Ask<'_>, kept: Option<(&str, &str)>) -> Self {
        let total = all.len();
        let pages = total.div_ceil(each).max(1);
        let page = ask.value("page").and_then(|page| page.parse().ok()).unwrap_or(1).clamp(1, pages);
        let skip = (page - 1) * each;
        let rows: Vec<T> = all.into_iter().skip(skip).take(each).collect();
        Self {
            total,
            first: skip + 1,
            last: skip + rows.len(),
            before: (page > 1).then(|| page - 1),
            after: (page < pages).then(|| page + 1),
            query: kept
                .map(|(name, value)| format!("{name}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC)))
                .unwrap_or_default(),
            rows,
        }
    }
}

/// A size for a person.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        1..1_048_576 => format!("{} KB", bytes.div_ceil(1_024)),
        1_048_576..1_073_741_824 => format!("{} MB", bytes / 1_048_576),
        _ => format!("{}.{} GB", bytes >> 30, ((bytes & ((1 << 30) - 1)) * 10) >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(values: &[(String, String)]) -> Ask<'_> {
        Ask { method: "GET", path: "/", values, host: "h", origin: None, cookie: None }
    }

    #[test]
    fn a_page_that_is_not_there_is_the_nearest_one() {
        for (asked, first, last, before, after) in [
            ("1", 1, 50, None, Some(2)),
            ("3", 101, 120, Some(2), None),
            ("99", 101, 120, Some(2), None),
            ("0", 1, 50, None, Some(2)),
            ("x", 1, 50, None, Some(2)),
        ] {
            let values = [("page".to_owned(), asked.to_owned())];
            let rows = Rows::of((0..120).collect::<Vec<_>>(), 50, ask(&values), None);
            assert_eq!((rows.first, rows.last, rows.before, rows.after), (first, last, before, after), "{asked}");
        }
        assert_eq!(Rows::of(Vec::<u8>::new(), 50, ask(&[]), Some(("find", "a&b"))).query, "find=a%26b&");
    }

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for own in ["127.0.0.1:80", "localhost:8080", "localhost", "[::1]:9"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "127.0.0.2"] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        for (bytes, shown) in [(0, ""), (1, "1 KB"), (900 << 10, "900 KB"), (24 << 20, "24 MB"), (3 << 29, "1.5 GB")] {
            assert_eq!(size(bytes), shown);
        }
    }
}
