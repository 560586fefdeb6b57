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
    /// The address of its privileged endpoint, for the commands.
    pub pep: Option<String>,
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
#[derive(Debug)]
pub struct FleetPages {
    forms: Forms,
    session: String,
    /// The link's secret, until somebody has come by it.
    once: Mutex<Option<String>>,
}

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
    expires: Option<Time>,
    left: Option<String>,
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
    rows: Rows<Tile>,
    asking: usize,
    wrong: usize,
    page: usize,
}

const COOKIE: &str = "azsreg";

impl FleetPages {
    /// Pages behind a link that is good once. Each secret is drawn anew.
    #[must_use]
    pub fn new(forms: Forms, session: String, once: String) -> Self {
        Self { forms, session, once: Mutex::new(Some(once)) }
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
            pages: Vec::new(),
            place: format!("The stamps of {}", fleet.place()),
            now: Time::of(fleet.now()),
        };
        if ask.looks() && ask.path == "/" && ask.value("once").is_some() {
            let mut once = self.once.lock().unwrap_or_else(PoisonError::into_inner);
            if once.as_deref() == ask.value("once") {
                *once = None;
                let mut answer = Answer::to("/");
                let cookie = format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/", self.session);
                answer.headers.push(("set-cookie", cookie));
                return answer;
            }
        }
        if !self.admitted(ask) {
            // Whoever is not let in does not learn where anything is.
            let frame = Frame { place: "A page of this machine's operator".into(), ..frame("Not let in") };
            let notice = Notice {
                text:
                    "This page opens by the link that the command printed, which is good once. For another link, end \
                       the command and start it again."
                        .into(),
                next: Some("azsreg status --web".into()),
            };
            return Answer::message(403, frame, notice);
        }
        match (ask.path, ask.looks()) {
            ("/", true) => {
                let mut tiles: Vec<Tile> =
                    fleet.stamps().into_iter().map(|stamp| Tile::of(stamp, fleet.now())).collect();
                tiles.sort_by(|a, b| (a.order, &a.title).cmp(&(b.order, &b.title)));
                let asking = tiles.iter().filter(|tile| tile.stamp.asking).count();
                let wrong = tiles.iter().filter(|tile| tile.tone == "bad").count();
                let rows = Rows::of(tiles, ask, None);
                let page = rows.before.map_or(1, |before| before + 1);
                let secret = self.forms.secret.clone();
                Answer::page(200, &Page { frame: frame("Stamps"), secret, rows, asking, wrong, page })
            }
            ("/ask", false) if ask.method == "POST" => {
                if !self.forms.admit(ask) {
                    return crate::pages::foreign(frame("Not done"));
                }
                fleet.ask(ask.value("id"));
                let page: usize = ask.value("page").and_then(|page| page.parse().ok()).unwrap_or(1);
                Answer::to(&if page > 1 { format!("/?page={page}") } else { "/".to_owned() })
            }
            ("/" | "/ask", _) => unknown_verb(frame),
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
        let with_pep = |problem: &Problem| {
            let then = problem.then().to_owned();
            let next = match &stamp.pep {
                Some(pep) if then.starts_with("azsreg ") && !then.contains("--pep") && !then.contains('\n') => {
                    format!("{} --pep {pep}", then.trim_end_matches('.'))
                }
                _ => then,
            };
            Notice {
                text: format!("{} ({})", problem.message, problem.code.id),
                next: Some(next).filter(|next| !next.is_empty()),
            }
        };
        let report = match &stamp.seen {
            Some(Ok(report)) => report,
            Some(Err(problem)) => {
                let findings = vec![with_pep(problem)];
                return Self {
                    word: "Not seen",
                    tone: "bad",
                    expires: None,
                    left: None,
                    azure: blank("", "Not asked"),
                    own: blank("", "Not asked"),
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
                    azure: blank("", "Not asked yet"),
                    own: blank("", "Not asked yet"),
                    findings: Vec::new(),
                    order: (4, 0),
                    title,
                    at,
                    last,
                    stamp,
                };
            }
        };
        let end = ends(report).filter(|_| report.days_left.is_some());
        let tone = match report.status {
            Status::Registered if report.findings.is_empty() => "good",
            Status::Registered | Status::Expiring | Status::RegisteredInAzure | Status::ActivatedOnStamp => "warn",
            _ => "bad",
        };
        // What ends first comes first; then what is wrong otherwise; then what is well.
        let order = match (report.days_left, tone) {
            (Some(days), _) => (0, days),
            (None, "bad") => (1, 0),
            (None, "warn") => (2, 0),
            (None, _) => (3, 0),
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
            azure: azure(&report.azure),
            own: own(&report.stamp, report.azure.as_ref().ok().and_then(|azure| azure.registration.as_ref())),
            findings: report.findings.iter().map(with_pep).collect(),
            order,
            title,
            at,
            last,
            stamp,
        }
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
        Err(problem) => return Side { tone: "warn", lines: vec![format!("Not read: {}", problem.message)] },
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
        Err(problem) => return Side { tone: "warn", lines: vec![format!("Not read: {}", problem.message)] },
    };
    let information = &side.information;
    let nodes = if information.nodes == 1 { "node" } else { "nodes" };
    let about = format!("Build {}, {} {nodes}", information.version, information.nodes);
    let (tone, activated) = match (&side.activation, &side.unread) {
        (Some(record), _) if registration.is_some_and(|known| known.id == record.registration) => {
            ("", "Activated for this registration".to_owned())
        }
        (Some(record), _) => ("bad", format!("Activated for {}", record.registration)),
        (None, Some(why)) => ("warn", format!("Record not read: {why}")),
        (None, None) => ("bad", "Not activated".to_owned()),
    };
    Side { tone, lines: vec![activated, about] }
}
