//! `azsreg status --web`: the stamps that this machine knows, as a page in the operator's browser. It only looks, and keeps
//! no credential: each time a stamp is asked, they are read again from where they are.

mod serve;
mod stamps;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use azsreg_model::{AzureSide, ExitCode, Known, Problem, StatusReport, code};
use azsreg_operations::FileJournal;
use azsreg_operations::engine::journal::History;
use azsreg_operations::ports::{Clock as _, Nobody, World};
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
use crate::cli::{Global, SecretArgument, SidesOptions, StatusOptions};
use crate::interrupt;
use crate::secrets::Sources;
use crate::state;
use crate::view::View;
use crate::watch::Screen;
use stamps::{Way, ways};

/// So many stamps are asked at a time.
const AT_ONCE: usize = 8;

/// A stamp's tile, by what it goes by.
type Seen = (Result<StatusReport, Problem>, Timestamp);

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
    wanted: UnboundedSender<String>,
}

pub(crate) async fn run(
    global: &Global,
    options: &StatusOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let from_stdin = |secret: &Option<SecretArgument>| secret.as_ref().is_some_and(|secret| secret.0 == "-");
    let (pep, stamp) = (&options.sides.pep.pep_password, &options.sides.stamp_sign_in.stamp_client_secret);
    if from_stdin(pep) || from_stdin(stamp) || from_stdin(&options.sides.sign_in.client_secret) {
        let message = "--web reads secrets each time it asks, and standard input can be read once only";
        return Err(Problem::new(&code::BAD_ARGUMENT, message).next("Give @FILE in place of -.").into());
    }
    // A page's button must not make a question appear in the terminal.
    let quiet = Global { non_interactive: true, no_progress: true, ..global.clone() };
    let state_dir = state::directory(global)?;
    let ways = ways(&state_dir, &options.sides)?;
    let (wanted, mut asked) = unbounded_channel();
    let machine = Machine {
        state_dir,
        ways,
        seen: RefCell::default(),
        asking: RefCell::default(),
        learned: RefCell::default(),
        wanted,
    };
    let io = |error| Problem::new(&code::STATE_UNWRITABLE, format!("no port on loopback: {error}"));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(io)?;
    let host = listener.local_addr().map_err(io)?.to_string();
    let secret = || format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let once = secret();
    let link = format!("http://{host}/?once={once}");
    let pages = FleetPages::new(Forms::new(secret()), secret(), once);
    if view.is_json() {
        view.json(&json!({ "link": link }));
    } else {
        view.line(&format!("Open this link; it is good once: {link}"));
        View::note("The page only looks. ^C ends it.");
    }
    if !global.non_interactive && azsreg_arm::open_in_browser(&link).is_err() {
        View::note("No browser could be opened here.");
    }
    machine.ask(None);
    let queue = futures_util::stream::poll_fn(|context| asked.poll_recv(context));
    let asker = queue.for_each_concurrent(AT_ONCE, |id| machine.look(&quiet, options, sources, id));
    tokio::select! {
        () = asker => {}
        () = serve::serve(listener, &host, &pages, &machine) => {}
        () = interrupt::signal() => {}
    }
    Ok(ExitCode::Done)
}

impl Machine {
    /// The cloud ids of the stamps that this machine has a journal of.
    fn journalled(&self) -> Vec<Uuid> {
        let entries = std::fs::read_dir(self.state_dir.join("journals")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    fn cloud_id(&self, way: &Way) -> Option<Uuid> {
        way.cloud_id.or_else(|| self.learned.borrow().get(&way.id()).copied())
    }

    /// What a way goes by.
    fn id(&self, way: &Way) -> String {
        self.cloud_id(way).map_or_else(|| way.id(), |id| id.to_string())
    }

    fn way(&self, id: &str) -> Option<&Way> {
        self.ways.iter().find(|way| self.id(way) == id)
    }

    /// What was last done to a stamp from here: a journal's name says so.
    fn last(&self, cloud_id: Uuid) -> Option<(String, Timestamp)> {
        let journals = FileJournal::list(&self.state_dir, cloud_id).ok()?;
        let name = journals.last()?.file_stem()?.to_str()?;
        let (at, operation) = name.split_once('-')?;
        let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", at.get(..15)?).ok()?;
        Some((operation.to_owned(), at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp()))
    }

    /// Asks a stamp, and keeps what it says.
    async fn look(&self, global: &Global, options: &StatusOptions, sources: &Sources, id: String) {
        let (now, way) = (CLOCK.now(), self.way(&id).cloned());
        let cloud_id: Option<Uuid> = id.parse().ok();
        let known = |cloud_id| History::read(&self.state_dir, cloud_id).map(|h| h.known()).unwrap_or_default();
        let kept = cloud_id.map(known).unwrap_or_default();
        let subscription = way.as_ref().and_then(|way| way.subscription);
        let subscription = subscription.or(kept.registration.as_ref().map(|id| id.subscription));
        let mut options = options.clone();
        options.named.subscription = subscription.unwrap_or(options.named.subscription);
        let screen = Screen::new(global, 0);
        let seen = match &way {
            Some(way) => {
                way.point(&mut options.sides);
                look(global, &options, sources, &screen).await
            }
            None => azures_side(global, &options, sources, &screen, cloud_id, kept).await,
        };
        let seen = seen.map_err(|ended| {
            let none = || Problem::new(&code::INTERRUPTED, "the stamp was not asked to the end");
            ended.problems.into_iter().next().unwrap_or_else(none)
        });
        let said = seen.as_ref().ok().and_then(|report| report.stamp.as_ref().ok()).map(|s| s.information.cloud_id);
        if let (Some(way), Some(said)) = (&way, said) {
            self.learned.borrow_mut().insert(way.id(), said);
        }
        self.asking.borrow_mut().retain(|asked| *asked != id);
        // Somebody else has learned meanwhile how to reach it, and seen more.
        if way.is_none() && self.way(&id).is_some() {
            return;
        }
        let id = said.map_or(id, |said| said.to_string());
        self.seen.borrow_mut().insert(id, (seen, now));
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
        ids.extend(self.journalled().iter().map(Uuid::to_string));
        let mut seen_before = std::collections::HashSet::new();
        ids.retain(|id| seen_before.insert(id.clone()));
        let asking = self.asking.borrow();
        let seen = self.seen.borrow();
        let stamp = |id: String| {
            let (way, (seen, at)) =
                (self.way(&id), seen.get(&id).cloned().map_or((None, None), |(seen, at)| (Some(seen), Some(at))));
            Stamp {
                name: way.and_then(|way| way.name.clone()),
                pep: way.and_then(|way| way.pep.first()).map(ToString::to_string),
                last: id.parse().ok().and_then(|id| self.last(id)),
                asking: asking.contains(&id) || way.is_some_and(|way| asking.contains(&way.id())),
                seen,
                at,
                id,
            }
        };
        ids.into_iter().map(stamp).collect()
    }

    fn ask(&self, id: Option<&str>) {
        for stamp in self.stamps() {
            if !stamp.asking && id.is_none_or(|wanted| wanted == stamp.id) {
                self.asking.borrow_mut().push(stamp.id.clone());
                let _ = self.wanted.send(stamp.id);
            }
        }
    }
}

/// A stamp that nobody has said how to reach: Azure's side alone.
async fn azures_side(
    global: &Global,
    options: &StatusOptions,
    sources: &Sources,
    screen: &Screen,
    cloud_id: Option<Uuid>,
    known: Known,
) -> Result<StatusReport, Ended> {
    let SidesOptions { cloud, sign_in, network, .. } = options.sides.clone();
    let azure = crate::cli::AzureOptions { cloud, sign_in, network };
    let subscription = options.named.subscription;
    let unknown = Problem::new(&code::PEP_UNREACHABLE, "nobody has said how to reach this stamp")
        .cause("Neither --pep nor stamps.json in the state directory names it.")
        .next("Name it in stamps.json: see the guide, \"The portals\".");
    let work = async |azure: Azure<'_, '_>| {
        let azure = azure.world.azure;
        let named = match (&known.registration, cloud_id) {
            (Some(id), _) => Some(id.clone()),
            (None, Some(cloud_id)) => {
                let found = status::find(azure, &CLOCK, subscription, cloud_id).await?;
                found.into_iter().next().map(|registration| registration.id)
            }
            (None, None) => None,
        };
        let Some(named) = named else {
            return Ok(StatusReport::of(CLOCK.now(), Ok(AzureSide::default()), Err(unknown), &known));
        };
        let world = World { azure, stamp: &Nobody, records: None::<&Nobody>, clock: &CLOCK };
        let report = status::status(world, subscription, Some(named), |_| known.clone()).await;
        Ok(StatusReport { stamp: Err(unknown), ..report })
    };
    connect::azure(global, &azure, sources, screen, Some(subscription), work).await
}
