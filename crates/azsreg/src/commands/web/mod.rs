//! `azsreg status --web`: the stamps that this machine knows, as a page in the operator's browser. It only looks, and keeps
//! no credential: each time a stamp is asked, they are read again from where they are.

mod serve;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use azsreg_model::{AzureSide, ExitCode, Known, Problem, StatusReport, code};
use azsreg_operations::FileJournal;
use azsreg_operations::engine::journal::History;
use azsreg_operations::ports::Clock as _;
use azsreg_operations::status;
use azsreg_portal::Forms;
use azsreg_portal::fleet::{Fleet, FleetPages, Stamp};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use uuid::Uuid;

use super::connect::{self, Azure, CLOCK};
use super::status::look;
use crate::Ended;
use crate::cli::{Global, Output, SecretArgument, SidesOptions, StatusOptions};
use crate::interrupt;
use crate::secrets::Sources;
use crate::stamps::{Way, ways};
use crate::state;
use crate::view::View;
use crate::watch::Screen;

/// So many stamps are asked at a time.
const AT_ONCE: usize = 8;
/// So long sessions have to close at the end.
const CLOSING: Duration = Duration::from_secs(5);

/// What was seen of a stamp, and when; and why it was not seen again since.
#[derive(Clone)]
struct Seen {
    report: Result<StatusReport, Problem>,
    at: Timestamp,
    since: Option<Problem>,
}

impl Seen {
    /// What is shown from now on: who is away is shown as it was before.
    fn after(before: Option<&Self>, report: Result<StatusReport, Problem>, at: Timestamp) -> Self {
        let away = match &report {
            Err(problem) => Some(problem),
            Ok(report) => report.stamp.as_ref().err(),
        };
        let was_there = |seen: &&Self| seen.report.as_ref().is_ok_and(|report| report.stamp.is_ok());
        match (before.filter(was_there), away) {
            (Some(before), Some(problem)) => Self { since: Some(problem.clone()), ..before.clone() },
            _ => Self { report, at, since: None },
        }
    }
}

/// What this machine knows, and what it has seen since the command began.
struct Machine {
    state_dir: PathBuf,
    /// The stamps that can be asked, in the order in which they are named.
    ways: Vec<Way>,
    /// What was seen of each, by id.
    seen: RefCell<BTreeMap<String, Seen>>,
    /// Which are being asked.
    asking: RefCell<Vec<String>>,
    /// The cloud ids of ways that did not say one, once their stamps have said it.
    learned: RefCell<BTreeMap<String, Uuid>>,
    /// How many are asked at this moment, and whether nobody is asked any more.
    running: Cell<usize>,
    ending: Cell<bool>,
    /// What a command has to say besides, to see the same.
    options: String,
    wanted: UnboundedSender<String>,
}

pub(crate) async fn run(
    global: &Global,
    options: &StatusOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    if global.output == Output::Prometheus {
        let problem = Problem::new(&code::BAD_ARGUMENT, "-o prometheus is not for --web");
        return Err(problem.next("Leave one of them out.").into());
    }
    if let Some(name) = &global.at {
        let message = format!("--at {name} is one stamp, --web shows all");
        return Err(Problem::new(&code::BAD_ARGUMENT, message).next("Leave one of them out.").into());
    }
    let sides = &options.sides;
    let from_stdin = |secret: &Option<SecretArgument>| secret.as_ref().is_some_and(|secret| secret.0 == "-");
    let secrets = [
        &sides.pep.pep_password,
        &sides.pep.transcript_password,
        &sides.stamp_sign_in.stamp_client_secret,
        &sides.sign_in.client_secret,
    ];
    if secrets.into_iter().any(from_stdin) {
        let message = "--web reads secrets each time it asks, and standard input can be read once only";
        return Err(Problem::new(&code::BAD_ARGUMENT, message).next("Give @FILE in place of -.").into());
    }
    // A page's button must not make a question appear, in the terminal or in another window.
    if ["device_code", "browser", "stamp_device_code"].iter().any(|id| sources.on_command_line(id)) {
        let message = "--web asks nobody to sign in";
        return Err(Problem::new(&code::BAD_ARGUMENT, message).next("Sign in before, with azsreg login.").into());
    }
    let mut options = options.clone();
    (options.sides.sign_in.device_code, options.sides.sign_in.browser) = (false, false);
    options.sides.stamp_sign_in.stamp_device_code = false;
    let quiet = Global { non_interactive: true, no_progress: true, ..global.clone() };
    let state_dir = state::directory(global)?;
    let ways = ways(&state_dir, &options.sides)?;
    let more = match sources.on_command_line("state_dir") {
        true => format!(" --state-dir {}", quoted(&state_dir.display().to_string())),
        false => String::new(),
    };
    let (wanted, mut asked) = unbounded_channel();
    let machine = Machine {
        state_dir,
        ways,
        seen: RefCell::default(),
        asking: RefCell::default(),
        learned: RefCell::default(),
        running: Cell::new(0),
        ending: Cell::new(false),
        options: more,
        wanted,
    };
    let io = |error| Problem::new(&code::STATE_UNWRITABLE, format!("no port on loopback: {error}"));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(io)?;
    let host = listener.local_addr().map_err(io)?.to_string();
    let secret = || format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let once = secret();
    let link = format!("http://{host}/?once={once}");
    let pages = FleetPages::new(Forms::new(secret()), &secret(), secret(), once);
    if view.is_json() {
        view.json(&json!({ "link": link }));
    } else {
        view.line(&format!("Open this link; it is good once: {link}"));
        View::note("The page only looks. ^C ends it.");
    }
    let opened = if global.non_interactive { None } else { open(&machine.state_dir, &link) };
    if !global.non_interactive && opened.is_none() {
        View::note("No browser could be opened here.");
    }
    machine.ask(None);
    let queue = futures_util::stream::poll_fn(|context| asked.poll_recv(context));
    let asker = queue.for_each_concurrent(AT_ONCE, |id| machine.ask_one(&quiet, &options, sources, id));
    let mut asker = std::pin::pin!(asker);
    // The signal is heard first: nobody is asked any more after it.
    tokio::select! {
        biased;
        () = interrupt::signal() => {}
        () = &mut asker => {}
        () = serve::serve(listener, &pages, &machine) => {}
    }
    // Whoever is asked at this moment ends on the same signal, and closes the session first.
    machine.ending.set(true);
    let closed = async {
        while machine.running.get() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = asker => {}
        () = closed => {}
        () = tokio::time::sleep(CLOSING) => {}
    }
    Ok(ExitCode::Done)
}

/// Opens a file that leads to the link: a browser's argument list is for everybody on the machine to read, the file is not.
fn open(state_dir: &Path, link: &str) -> Option<tempfile::NamedTempFile> {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"0;url={link}\">\
         <title>azsreg</title><a href=\"{link}\">azsreg status --web</a></html>"
    );
    std::fs::create_dir_all(state_dir).ok()?;
    let mut file = tempfile::Builder::new().prefix("web-").suffix(".html").tempfile_in(state_dir).ok()?;
    file.write_all(page.as_bytes()).ok()?;
    azsreg_arm::open_in_browser(&file.path().display().to_string()).ok()?;
    Some(file)
}

impl Machine {
    fn cloud_id(&self, way: &Way) -> Option<Uuid> {
        // What the stamp says outweighs what somebody wrote.
        self.learned.borrow().get(&way.id()).copied().or(way.cloud_id)
    }

    /// What a way goes by: its stamp's cloud id, unless a way before it goes by that.
    fn id(&self, way: &Way) -> String {
        match (self.cloud_id(way), self.twin(way)) {
            (Some(id), None) => id.to_string(),
            _ => way.id(),
        }
    }

    /// A way before this one that leads to the same stamp.
    fn twin(&self, way: &Way) -> Option<&Way> {
        let id = self.cloud_id(way)?;
        self.ways.iter().take_while(|other| other.id() != way.id()).find(|other| self.cloud_id(other) == Some(id))
    }

    fn way(&self, id: &str) -> Option<&Way> {
        self.ways.iter().find(|way| self.id(way) == id)
    }

    /// Asks a stamp, unless it was asked for by another name meanwhile.
    async fn ask_one(&self, global: &Global, options: &StatusOptions, sources: &Sources, id: String) {
        if self.ending.get() || !self.asking.borrow().contains(&id) {
            return;
        }
        self.running.set(self.running.get() + 1);
        self.look(global, options, sources, id).await;
        self.running.set(self.running.get() - 1);
    }

    /// Looks at a stamp, and keeps what it says.
    async fn look(&self, global: &Global, options: &StatusOptions, sources: &Sources, id: String) {
        let (now, way) = (CLOCK.now(), self.way(&id).cloned());
        let cloud_id: Option<Uuid> = id.parse().ok();
        let mut seen = self.seen_by(global, options, sources, way.as_ref(), cloud_id).await;
        let said = |seen: &Result<StatusReport, Problem>| {
            let stamp = seen.as_ref().ok().and_then(|report| report.stamp.as_ref().ok());
            stamp.map(|stamp| stamp.information.cloud_id)
        };
        let said_id = said(&seen);
        if let (Some(way), Some(said)) = (&way, said_id) {
            let first = self.learned.borrow_mut().insert(way.id(), said).is_none();
            // Now that it is known who it is, a journal may know where it is registered.
            if first && cloud_id != Some(said) && way.subscription.is_none() && self.known(said).registration.is_some()
            {
                seen = self.seen_by(global, options, sources, Some(way), Some(said)).await;
            }
            if let Ok(report) = &mut seen {
                let wrong = match (way.cloud_id.filter(|written| *written != said), self.twin(way)) {
                    (Some(written), _) => Some(format!("stamps.json says {written}, the stamp says {said}")),
                    (None, Some(twin)) => Some(format!("{} and this entry lead to the same stamp, {said}", twin.id())),
                    (None, None) => None,
                };
                let problem =
                    wrong.map(|why| Problem::new(&code::OTHER_CLOUD_ID, why).next("Put it right in stamps.json."));
                report.findings.splice(0..0, problem);
            }
        }
        // Whoever waits to be asked by the other name is the same stamp.
        let shown = way.as_ref().map_or_else(|| id.clone(), |way| self.id(way));
        self.asking.borrow_mut().retain(|asked| *asked != id && *asked != shown);
        // Somebody else has learned meanwhile how to reach it, and seen more.
        if way.is_none() && self.way(&id).is_some() {
            return;
        }
        let mut all = self.seen.borrow_mut();
        let seen = Seen::after(all.get(&shown), seen, now);
        all.insert(shown, seen);
    }

    /// What the journals of this machine know of a stamp.
    fn known(&self, cloud_id: Uuid) -> Known {
        History::read(&self.state_dir, cloud_id).map(|history| history.known()).unwrap_or_default()
    }

    /// Both sides of a stamp; Azure's alone where it can't be reached.
    async fn seen_by(
        &self,
        global: &Global,
        options: &StatusOptions,
        sources: &Sources,
        way: Option<&Way>,
        cloud_id: Option<Uuid>,
    ) -> Result<StatusReport, Problem> {
        let known = cloud_id.map(|id| self.known(id)).unwrap_or_default();
        let mut options = options.clone();
        let subscription = way.and_then(|way| way.subscription);
        let subscription = subscription.or(known.registration.as_ref().map(|id| id.subscription));
        options.named.subscription = subscription.unwrap_or(options.named.subscription);
        let screen = Screen::new(global, 0);
        let first = |ended: Ended| {
            let none = || Problem::new(&code::INTERRUPTED, "the stamp was not asked to the end");
            ended.problems.into_iter().next().unwrap_or_else(none)
        };
        let away = match way {
            None => Problem::new(&code::PEP_UNREACHABLE, "nobody has said how to reach this stamp")
                .cause("Neither --pep nor stamps.json in the state directory names it.")
                .next("Name it in stamps.json: see the guide, \"The portals\"."),
            Some(way) => {
                way.point(&mut options.sides)?;
                let report = look(global, &options, sources, &screen).await.map_err(first)?;
                match &report.stamp {
                    // What this machine remembers says which registration is meant, though the stamp does not.
                    Err(problem) if cloud_id.is_some() => problem.clone(),
                    _ => return Ok(report),
                }
            }
        };
        let side = azures_side(global, &options, sources, &screen, cloud_id, known.clone()).await.map_err(first);
        // Whatever Azure says of it: that the stamp is away, or refused the sign-in, is not forgotten over it.
        Ok(StatusReport::of(CLOCK.now(), side, Err(away), &known))
    }
}

impl Fleet for Machine {
    fn now(&self) -> Timestamp {
        CLOCK.now()
    }

    fn place(&self) -> String {
        self.state_dir.display().to_string()
    }

    fn stamps(&self) -> Vec<Stamp> {
        let mut ids: Vec<String> = self.ways.iter().map(|way| self.id(way)).collect();
        ids.extend(FileJournal::stamps(&self.state_dir).iter().map(Uuid::to_string));
        let mut seen_before = std::collections::HashSet::new();
        ids.retain(|id| seen_before.insert(id.clone()));
        let asking = self.asking.borrow();
        let seen = self.seen.borrow();
        let stamp = |id: String| {
            let (way, seen) = (self.way(&id), seen.get(&id).cloned());
            let named = way.and_then(|way| way.name.as_ref());
            let named = named.map(|name| format!("--at {}{}", quoted(name), self.options));
            let pep = || way.and_then(|way| way.pep.first()).map(|address| format!("--pep {address}"));
            Stamp {
                name: way.and_then(|way| way.name.clone()),
                chosen: named.or_else(pep),
                last: id.parse().ok().and_then(|id| FileJournal::newest(&self.state_dir, id)),
                asking: asking.contains(&id) || way.is_some_and(|way| asking.contains(&way.id())),
                at: seen.as_ref().map(|seen| seen.at),
                since: seen.as_ref().and_then(|seen| seen.since.clone()),
                seen: seen.map(|seen| seen.report),
                id,
            }
        };
        ids.into_iter().map(stamp).collect()
    }

    fn ask(&self, id: Option<&str>) {
        for stamp in self.stamps() {
            // Accounts lock out: who refused the sign-in is asked again by its own button alone.
            let refused = id.is_none() && refused_sign_in(&stamp);
            if !stamp.asking && !refused && id.is_none_or(|wanted| wanted == stamp.id) {
                self.asking.borrow_mut().push(stamp.id.clone());
                let _ = self.wanted.send(stamp.id);
            }
        }
    }
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "._-/".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Whether the stamp has refused its sign-in when it was last asked.
fn refused_sign_in(stamp: &Stamp) -> bool {
    let side = match &stamp.seen {
        Some(Ok(report)) => report.stamp.as_ref().err(),
        Some(Err(problem)) => Some(problem),
        None => None,
    };
    stamp.since.iter().chain(side).any(|problem| problem.code == &code::PEP_REFUSED)
}

/// Azure's side of a stamp that is away.
async fn azures_side(
    global: &Global,
    options: &StatusOptions,
    sources: &Sources,
    screen: &Screen,
    cloud_id: Option<Uuid>,
    known: Known,
) -> Result<AzureSide, Ended> {
    let SidesOptions { cloud, sign_in, network, .. } = options.sides.clone();
    let azure = crate::cli::AzureOptions { cloud, sign_in, network };
    let subscription = options.named.subscription;
    let work = async |azure: Azure<'_, '_>| {
        let azure = azure.world.azure;
        // A journal may be older than what somebody did from another machine.
        let found = match cloud_id {
            Some(cloud_id) => status::find(azure, &CLOCK, subscription, cloud_id).await?,
            None => Vec::new(),
        };
        let registration = status::current(azure, &CLOCK, found, known.registration.as_ref()).await?;
        match registration {
            Some(registration) => {
                let id = Some(&registration.id);
                Ok(status::azure_of_stamp(azure, &CLOCK, subscription, id, None).await?)
            }
            None => Ok(AzureSide::default()),
        }
    };
    connect::azure(global, &azure, sources, screen, Some(subscription), work).await
}
