//! The stamps that an operator's own machine knows, each as its Region management tile: both sides, what is wrong, and the
//! command that mends it. It is only looked at; the way in is a link that is good once.

use std::sync::{Mutex, PoisonError};

use askama::Template;
use azsreg_model::{Problem, StatusReport};
use jiff::Timestamp;

use crate::frame::{Answer, Ask, Forms, Frame, Notice, Rows, Time};
use crate::pages::unknown_verb;
use crate::tile::{Tile, anchor};

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
    /// What this machine last did to it, when, and whether that came to its end.
    pub last: Option<(String, Timestamp, bool)>,
    /// Why it could not be seen again since.
    pub since: Option<Problem>,
}

/// What the pages show, and the one thing they ask for.
pub trait Fleet {
    /// The time.
    fn now(&self) -> Timestamp;
    /// Where this machine keeps what it knows.
    fn place(&self) -> String;
    /// The stamps; each problem of theirs says what to run at this very stamp.
    fn stamps(&self) -> Vec<Stamp>;
    /// Why some stamps may be missing.
    fn trouble(&self) -> Option<Problem>;
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

/// How many tiles a page has: with that, and with texts that are not longer than a tile is for, a page stays under 100 KB.
const TILES: usize = 24;

#[derive(Template)]
#[template(path = "fleet.html")]
struct Page {
    frame: Frame,
    secret: String,
    /// Where this machine keeps what it knows.
    place: String,
    rows: Rows<Tile>,
    /// Why some may be missing.
    trouble: Option<Notice>,
    asking: usize,
    /// All of them in a sentence.
    summary: String,
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
                let trouble = fleet.trouble();
                let trouble =
                    trouble.map(|problem| Notice { text: problem.to_string(), next: Some(problem.then().into()) });
                let mut tiles: Vec<Tile> =
                    fleet.stamps().into_iter().map(|stamp| Tile::of(stamp, fleet.now())).collect();
                tiles.sort_by_cached_key(|tile| (tile.order, tile.title.to_lowercase()));
                let asking = tiles.iter().filter(|tile| tile.stamp.asking).count();
                let summary = summary(&tiles);
                let rows = Rows::of(tiles, TILES, ask, None);
                let page = rows.before.map_or(1, |before| before + 1);
                let secret = self.forms.secret.clone();
                Answer::page(
                    200,
                    &Page {
                        frame: frame("Stamps"),
                        secret,
                        place: fleet.place(),
                        rows,
                        trouble,
                        asking,
                        summary,
                        page,
                    },
                )
            }
            (Some("ask"), false) if ask.method == "POST" => {
                if !self.forms.admit(ask) {
                    return crate::pages::foreign(frame("Not done"));
                }
                // Back to the button: who goes by the keyboard goes on from there.
                let asked = ask.value("id").and_then(|id| fleet.stamps().into_iter().find(|stamp| stamp.id == id));
                let button = asked.as_ref().map_or_else(|| "ask-all".to_owned(), anchor);
                fleet.ask(ask.value("id"));
                let page: usize = ask.value("page").and_then(|page| page.parse().ok()).unwrap_or(1);
                let query = if page > 1 { format!("?page={page}") } else { String::new() };
                Answer::to(&format!("{}{query}#{button}", self.base))
            }
            (Some("" | "ask"), _) => unknown_verb(frame),
            _ => Answer::message(404, frame("Not found"), "There is no such page."),
        }
    }
}

/// How many need attention, and in which states they are: the most urgent first, as the tiles are.
fn summary(tiles: &[Tile]) -> String {
    let wrong = || tiles.iter().filter(|tile| tile.tone != "good");
    let total = tiles.len();
    let mut words: Vec<(&str, usize)> = Vec::new();
    for tile in wrong() {
        match words.iter_mut().find(|(word, _)| *word == tile.word) {
            Some((_, count)) => *count += 1,
            None => words.push((tile.word, 1)),
        }
    }
    let words: Vec<String> = words.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
    match (wrong().count(), total) {
        (0, 1) => "1 stamp, and all is well.".into(),
        (0, _) => format!("{total} stamps, and all is well."),
        (1, _) => format!("1 of {total} needs attention: {}.", words.join(", ")),
        (wrong, _) => format!("{wrong} of {total} need attention: {}.", words.join(", ")),
    }
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

        fn trouble(&self) -> Option<Problem> {
            None
        }

        fn stamps(&self) -> Vec<Stamp> {
            let long = "a long text that somebody's server made up ".repeat(40);
            let problem =
                |code| Problem::new(code, long.clone()).next("azsreg renew --at Lisbon  before it is too late");
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
                last: Some(("change-subscription".into(), Timestamp::UNIX_EPOCH, false)),
                since: Some(problem(&code::PEP_UNREACHABLE)),
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
        assert!(
            page.body.contains("<span>--at</span> <span>Lisbon</span> </code>before it is too late"),
            "{}",
            page.body
        );
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
}
