//! The stamps that an operator's own machine knows, each as its Region management tile: both sides, what is wrong, and the
//! command that mends it. It is only looked at; the way in is a link that is good once.

use std::sync::{Mutex, PoisonError};

use askama::Template;
use azsreg_model::{AzureSide, Problem, Registration, StampSide, Status, StatusReport};
use jiff::Timestamp;

use crate::frame::{Answer, Ask, Forms, Frame, Notice, Rows, Time};
use crate::pages::unknown_verb;

/// A stamp that this machine knows.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// What it goes by in forms: its cloud id, or its name while that is not known.
    pub id: String,
    /// What people call it, where somebody has said so.
    pub name: Option<String>,
    /// Both sides as they were last seen, or why nothing could be seen.
    pub seen: Option<Result<StatusReport, Problem>>,
    /// When that was.
    pub at: Option<Timestamp>,
    /// Whether it is being asked now.
    pub asking: bool,
    /// What this machine last did to it, and when.
    pub last: Option<(String, Timestamp)>,
    /// Why it could not be seen again since.
    pub since: Option<Problem>,
    /// The option that chooses it, for the commands: `--at NAME`, or `--pep ADDRESS`.
    pub chosen: Option<String>,
}

/// What the pages show, and the one thing they ask for.
pub trait Fleet {
    /// The time.
    fn now(&self) -> Timestamp;
    /// Where this machine keeps what it knows.
    fn place(&self) -> String;
    /// The stamps.
    fn stamps(&self) -> Vec<Stamp>;
    /// Asks a stamp anew, or all. It returns at once.
    fn ask(&self, id: Option<&str>);
}

/// The pages, and who may see them.
pub struct FleetPages {
    forms: Forms,
    /// Where the pages are. Cookies are for all ports of a host: below a path of its own, no other server there is sent ours.
    base: String,
    session: String,
    /// The link's secret, until somebody has come by it.
    once: Mutex<Option<String>>,
}

impl std::fmt::Debug for FleetPages {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("FleetPages")
    }
}

/// How many tiles a page has, and how long a text in them may be: with that a page stays under 100 KB.
const TILES: usize = 24;
const LONG: usize = 240;

/// A side in a line or two.
struct Side {
    tone: &'static str,
    lines: Vec<String>,
}

struct Tile {
    stamp: Stamp,
    title: String,
    word: &'static str,
    tone: &'static str,
    /// When it ends; else what is said in its place.
    expires: Option<Time>,
    left: Option<String>,
    endless: Option<&'static str>,
    azure: Side,
    own: Side,
    /// What is wrong and what to run.
    findings: Vec<Notice>,
    at: Option<Time>,
    last: Option<(String, Time)>,
    order: (u8, i64),
}

#[derive(Template)]
#[template(path = "fleet.html")]
struct Page {
    frame: Frame,
    secret: String,
    /// Where this machine keeps what it knows.
    place: String,
    rows: Rows<Tile>,
    asking: usize,
    wrong: usize,
    page: usize,
}

impl Page {
    fn home(&self) -> &str {
        &self.frame.home
    }
}

const COOKIE: &str = "azsreg";

impl FleetPages {
    /// Pages behind a link that is good once, `/?once=ONCE`. Each secret is drawn anew.
    #[must_use]
    pub fn new(forms: Forms, base: &str, session: String, once: String) -> Self {
        Self { forms, base: format!("/{base}/"), session, once: Mutex::new(Some(once)) }
    }

    fn admitted(&self, ask: Ask<'_>) -> bool {
        let cookies = ask.cookie.unwrap_or_default().split(';').map(str::trim);
        cookies.filter_map(|cookie| cookie.split_once('=')).any(|(name, value)| name == COOKIE && value == self.session)
    }

    /// Answers a request.
    pub fn answer(&self, ask: Ask<'_>, fleet: &impl Fleet) -> Answer {
        if let Some(asset) = Answer::asset(ask.path) {
            return asset;
        }
        let frame = |title| Frame {
            title,
            brand: "azsreg",
            lab: false,
            home: self.base.clone(),
            subject: String::new(),
            pages: Vec::new(),
            place: "The stamps that this machine knows".into(),
            now: Time::of(fleet.now()),
        };
        if ask.method == "GET" && ask.path == "/" && ask.value("once").is_some() {
            let mut once = self.once.lock().unwrap_or_else(PoisonError::into_inner);
            if once.as_deref() == ask.value("once") {
                *once = None;
                let mut answer = Answer::to(&self.base);
                // Lax: the link is opened from elsewhere, and leads on from there.
                let cookie = format!("{COOKIE}={}; HttpOnly; SameSite=Lax; Path={}", self.session, self.base);
                answer.headers.push(("set-cookie", cookie));
                return answer;
            }
        }
        if !self.admitted(ask) {
            // Whoever is not let in does not learn where anything is.
            let place = "A page of this machine's operator".into();
            let frame = Frame { place, home: "/".into(), ..frame("Not let in") };
            let notice = Notice {
                text:
                    "This page opens by the link that the command printed, which is good once. For another link, end \
                       the command and start it again."
                        .into(),
                next: Some("azsreg status --web".into()),
            };
            return Answer::message(403, frame, notice);
        }
        match (ask.path.strip_prefix(&self.base), ask.looks()) {
            (Some(""), true) => {
                let mut tiles: Vec<Tile> =
                    fleet.stamps().into_iter().map(|stamp| Tile::of(stamp, fleet.now())).collect();
                tiles.sort_by(|a, b| (a.order, &a.title).cmp(&(b.order, &b.title)));
                let asking = tiles.iter().filter(|tile| tile.stamp.asking).count();
                let wrong = tiles.iter().filter(|tile| tile.tone == "bad" || !tile.findings.is_empty()).count();
                let rows = Rows::of(tiles, TILES, ask, None);
                let page = rows.before.map_or(1, |before| before + 1);
                let secret = self.forms.secret.clone();
                Answer::page(
                    200,
                    &Page { frame: frame("Stamps"), secret, place: fleet.place(), rows, asking, wrong, page },
                )
            }
            (Some("ask"), false) if ask.method == "POST" => {
                if !self.forms.admit(ask) {
                    return crate::pages::foreign(frame("Not done"));
                }
                fleet.ask(ask.value("id"));
                let page: usize = ask.value("page").and_then(|page| page.parse().ok()).unwrap_or(1);
                let query = if page > 1 { format!("?page={page}") } else { String::new() };
                Answer::to(&format!("{}{query}", self.base))
            }
            (Some("" | "ask"), _) => unknown_verb(frame),
            _ => Answer::message(404, frame("Not found"), "There is no such page."),
        }
    }
}

impl Tile {
    fn of(stamp: Stamp, now: Timestamp) -> Self {
        let title = stamp.name.clone().unwrap_or_else(|| stamp.id.clone());
        let at = stamp.at.map(Time::of);
        let last = stamp.last.clone().map(|(what, at)| (what, Time::of(at)));
        let blank = |tone, line: &str| Side { tone, lines: vec![line.to_owned()] };
        let noticed = |problem: &Problem| {
            let next = at_stamp(problem.then(), stamp.chosen.as_deref());
            let text = format!("{} ({})", cut(&problem.message), problem.code.id);
            Notice { text, next: Some(next).filter(|next| !next.is_empty()) }
        };
        let report = match &stamp.seen {
            Some(Ok(report)) => report,
            Some(Err(problem)) => {
                let findings = vec![noticed(problem)];
                return Self {
                    word: "Not seen",
                    tone: "bad",
                    expires: None,
                    left: None,
                    endless: None,
                    azure: blank("", "Not seen"),
                    own: blank("", "Not seen"),
                    findings,
                    order: (1, 0),
                    title,
                    at,
                    last,
                    stamp,
                };
            }
            None => {
                return Self {
                    word: if stamp.asking { "Being asked" } else { "Not asked yet" },
                    tone: "",
                    expires: None,
                    left: None,
                    endless: None,
                    azure: blank("", "Not asked yet"),
                    own: blank("", "Not asked yet"),
                    findings: Vec::new(),
                    order: (6, 0),
                    title,
                    at,
                    last,
                    stamp,
                };
            }
        };
        // What could not be seen again comes first: the rest is of an earlier time.
        let mut findings: Vec<Notice> = stamp.since.iter().map(noticed).collect();
        findings.extend(report.findings.iter().map(noticed));
        findings.extend(report.azure.as_ref().err().map(noticed));
        findings.extend(report.stamp.as_ref().err().map(noticed));
        let end = ends(report).filter(|_| report.days_left.is_some());
        let registered = report.azure.as_ref().is_ok_and(|azure| azure.registration.is_some())
            || report.stamp.as_ref().is_ok_and(|stamp| stamp.activation.is_some());
        // The year 9999 stands for never.
        let endless = match (end, ends(report)) {
            (None, Some(_)) => Some("Never"),
            (None, None) if registered => Some("Not known"),
            _ => None,
        };
        let tone = match report.status {
            Status::Registered if findings.is_empty() => "good",
            Status::Registered | Status::Expiring | Status::RegisteredInAzure | Status::ActivatedOnStamp => "warn",
            _ => "bad",
        };
        // What has ended or ends soon comes first; then what is wrong otherwise; then the rest, as it ends.
        let order = match (report.days_left, tone, endless) {
            (Some(days), _, _) if days < 90 => (0, days),
            (_, "bad", _) => (1, 0),
            (_, "warn", _) => (2, 0),
            (Some(days), _, _) => (3, days),
            (None, _, Some("Not known")) => (4, 0),
            (None, _, _) => (5, 0),
        };
        let left = end.map(|end| {
            let days = end.duration_since(now).as_hours().div_euclid(24);
            match days {
                0 => "today".to_owned(),
                1 => "in 1 day".to_owned(),
                2.. => format!("in {days} days"),
                -1 => "1 day ago".to_owned(),
                _ => format!("{} days ago", -days),
            }
        });
        Self {
            word: report.status.title(),
            tone,
            expires: end.map(Time::of),
            left,
            endless,
            azure: azure(&report.azure),
            own: own(&report.stamp, report.azure.as_ref().ok().and_then(|azure| azure.registration.as_ref())),
            findings,
            order,
            title,
            at,
            last,
            stamp,
        }
    }
}

/// A text that is not longer than a tile is for.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        Some((at, _)) => format!("{} ...", &text[..at]),
        None => text.to_owned(),
    }
}

/// The operations on one stamp, whose commands have to say on which.
const ON_A_STAMP: &[&str] =
    &["register", "renew", "set", "repair", "move", "change-subscription", "unregister", "adopt", "status", "check"];

/// What to run, at this stamp: a command gets the option that chooses it, a sentence stays a sentence.
fn at_stamp(then: &str, chosen: Option<&str>) -> String {
    let mut words = then.split(' ');
    let command = words.next() == Some("azsreg") && words.next().is_some_and(|verb| ON_A_STAMP.contains(&verb));
    let bare = command && !then.contains("  ") && !then.contains('\n') && !then.contains("--pep");
    match chosen {
        Some(chosen) if bare => format!("{} {chosen}", then.trim_end_matches('.')),
        _ => cut(then),
    }
}

/// When it ends, as the stamp's record says, or Azure's key.
fn ends(report: &StatusReport) -> Option<Timestamp> {
    let record = report.stamp.as_ref().ok().and_then(|stamp| stamp.activation.as_ref());
    let record = record.and_then(|record| record.expiration.as_ref()).map(|end| end.at);
    record.or_else(|| report.azure.as_ref().ok().and_then(|azure| azure.expires))
}

fn azure(side: &Result<AzureSide, Problem>) -> Side {
    let side = match side {
        Ok(side) => side,
        Err(problem) => return Side { tone: "warn", lines: vec![format!("Not read ({})", problem.code.id)] },
    };
    let Some(registration) = &side.registration else {
        return Side { tone: "bad", lines: vec!["No registration".into()] };
    };
    let id = &registration.id;
    let mut on = vec![registration.billing_model.clone()];
    on.push(if side.lock.is_some() { "locked".into() } else { "not locked".into() });
    if registration.object_id.is_some() {
        on.push(if side.role.is_some() { "role assigned".into() } else { "no role".into() });
    }
    if side.principal == Some(false) {
        on.push("principal gone".into());
    }
    let lines = vec![id.name.clone(), format!("{}, {}", id.resource_group, id.subscription), on.join(", ")];
    Side { tone: "", lines }
}

fn own(side: &Result<StampSide, Problem>, registration: Option<&Registration>) -> Side {
    let side = match side {
        Ok(side) => side,
        Err(problem) => return Side { tone: "warn", lines: vec![format!("Not read ({})", problem.code.id)] },
    };
    let information = &side.information;
    let nodes = if information.nodes == 1 { "node" } else { "nodes" };
    let about = format!("Build {}, {} {nodes}", information.version, information.nodes);
    let (tone, activated) = match (&side.activation, &side.unread) {
        (Some(record), _) if registration.is_some_and(|known| known.id == record.registration) => {
            ("", "Activated for this registration".to_owned())
        }
        (Some(record), _) => ("bad", format!("Activated for {}", record.registration)),
        (None, Some(why)) => ("warn", format!("Record not read: {}", cut(why))),
        (None, None) => ("bad", "Not activated".to_owned()),
    };
    Side { tone, lines: vec![activated, about] }
}

#[cfg(test)]
mod tests {
    use azsreg_model::{Known, code};
    use std::cell::RefCell;
    use uuid::Uuid;

    use super::*;

    /// Stamps with long names of which everything is wrong.
    struct Wrong(usize, RefCell<Vec<Option<String>>>);

    impl Fleet for Wrong {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn place(&self) -> String {
            "/state".into()
        }

        fn stamps(&self) -> Vec<Stamp> {
            let long = "a long text that somebody's server made up ".repeat(40);
            let problem = |code| Problem::new(code, long.clone()).next("azsreg renew --subscription 0");
            let mut report = StatusReport::of(
                Timestamp::UNIX_EPOCH,
                Err(problem(&code::FORBIDDEN)),
                Err(problem(&code::PEP_UNREACHABLE)),
                &Known::default(),
            );
            report.findings = vec![problem(&code::LOCK_MISSING), problem(&code::ROLE_MISSING)];
            let stamp = |n: usize| Stamp {
                id: Uuid::from_u128(n as u128).to_string(),
                name: Some(format!("A stamp with a long name in a town far away {n}")),
                seen: Some(Ok(report.clone())),
                at: Some(Timestamp::UNIX_EPOCH),
                asking: false,
                last: Some(("change-subscription".into(), Timestamp::UNIX_EPOCH)),
                since: Some(problem(&code::PEP_UNREACHABLE)),
                chosen: Some("--at Lisbon".into()),
            };
            (0..self.0).map(stamp).collect()
        }

        fn ask(&self, id: Option<&str>) {
            self.1.borrow_mut().push(id.map(str::to_owned));
        }
    }

    fn pages() -> FleetPages {
        FleetPages::new(Forms::new("form".into()), "base", "session".into(), "link".into())
    }

    fn asked<'a>(method: &'a str, path: &'a str, values: &'a [(String, String)], cookie: Option<&'a str>) -> Ask<'a> {
        Ask { method, path, values, host: "127.0.0.1:1", origin: None, cookie }
    }

    #[test]
    fn a_page_of_stamps_of_which_everything_is_wrong_stays_small() {
        let page = pages().answer(asked("GET", "/base/", &[], Some("azsreg=session")), &Wrong(200, RefCell::default()));
        assert_eq!((page.status, page.body.matches("<section").count()), (200, TILES));
        let frame = ["/style.css", "/script.js"].map(|path| Answer::asset(path).map_or(0, |asset| asset.body.len()));
        let whole = page.body.len() + frame.iter().sum::<usize>();
        assert!(whole < 100_000, "{whole}");
        assert!(page.body.contains("azsreg renew --subscription 0 --at Lisbon"), "{}", page.body);
    }

    #[test]
    fn the_link_is_good_once_and_only_when_it_is_opened() {
        let (pages, fleet) = (pages(), Wrong(1, RefCell::default()));
        let values = [("once".to_owned(), "link".to_owned())];
        assert_eq!(pages.answer(asked("HEAD", "/", &values, None), &fleet).status, 403);
        let first = pages.answer(asked("GET", "/", &values, None), &fleet);
        assert_eq!(first.status, 303);
        let cookie = first.headers.iter().find(|(name, _)| *name == "set-cookie").map(|(_, value)| value.as_str());
        assert_eq!(cookie, Some("azsreg=session; HttpOnly; SameSite=Lax; Path=/base/"));
        assert_eq!(pages.answer(asked("GET", "/", &values, None), &fleet).status, 403);
        assert_eq!(pages.answer(asked("GET", "/base/", &[], None), &fleet).status, 403);
        assert_eq!(pages.answer(asked("GET", "/base/", &[], Some("a=b; azsreg=session")), &fleet).status, 200);
    }

    #[test]
    fn nobody_elses_form_asks_a_stamp() {
        let (pages, fleet) = (pages(), Wrong(1, RefCell::default()));
        let form = |secret: &str| [("secret".to_owned(), secret.to_owned()), ("id".to_owned(), "x".to_owned())];
        let (ours, guessed) = (form("form"), form("guess"));
        let session = Some("azsreg=session");
        for (ask, status) in [
            (asked("POST", "/base/ask", &ours, None), 403),
            (asked("POST", "/base/ask", &guessed, session), 403),
            (Ask { origin: Some("https://elsewhere.invalid"), ..asked("POST", "/base/ask", &ours, session) }, 403),
            (asked("GET", "/base/ask", &ours, session), 405),
            (asked("POST", "/ask", &ours, session), 404),
        ] {
            assert_eq!(pages.answer(ask, &fleet).status, status, "{ask:?}");
        }
        assert!(fleet.1.borrow().is_empty());
        assert_eq!(pages.answer(asked("POST", "/base/ask", &ours, session), &fleet).status, 303);
        assert_eq!(*fleet.1.borrow(), [Some("x".to_owned())]);
    }

    #[test]
    fn a_command_says_at_which_stamp_and_a_sentence_does_not() {
        let at = |then| at_stamp(then, Some("--at Lisbon"));
        assert_eq!(at("azsreg renew --subscription S"), "azsreg renew --subscription S --at Lisbon");
        assert_eq!(at("azsreg login"), "azsreg login");
        assert_eq!(at("azsreg list --subscription S"), "azsreg list --subscription S");
        assert_eq!(at("azsreg status  shows both sides"), "azsreg status  shows both sides");
        assert_eq!(at_stamp("azsreg renew", None), "azsreg renew");
    }
}
