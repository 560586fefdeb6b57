//! The stamps that this machine knows, and what was seen of them: what the page shows, and what asks.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use azsreg_model::{AzureSide, Known, Problem, StatusReport, code};
use azsreg_operations::FileJournal;
use azsreg_operations::engine::history::History;
use azsreg_operations::ports::Clock as _;
use azsreg_operations::status;
use azsreg_portal::fleet::{Fleet, Stamp};
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use crate::Ended;
use crate::advice::Advice;
use crate::cli::{Global, SidesOptions, StatusOptions};
use crate::commands::connect::{self, Azure, CLOCK};
use crate::commands::status::look;
use crate::secrets::Sources;
use crate::stamps::Way;
use crate::watch::Screen;

/// What was seen of a stamp, and when; and why it was not seen again since.
#[derive(Clone)]
struct Seen {
    report: Result<StatusReport, Problem>,
    at: Timestamp,
    since: Option<Problem>,
    /// Where its registration was looked for.
    subscription: Option<Uuid>,
    /// What the journals knew of it, and why they could not be read.
    known: Known,
    unread: Option<Problem>,
}

impl Seen {
    /// What is shown from now on: a stamp that is away is shown as it was before, with what Azure says now.
    fn after(self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        let Ok(StatusReport { stamp: Ok(stamp), .. }) = &before.report else { return self };
        let (azure, away) = match &self.report {
            Err(problem) => (None, problem),
            Ok(StatusReport { azure, stamp: Err(problem), .. }) => (azure.as_ref().ok(), problem),
            Ok(_) => return self,
        };
        let since = Some(away.clone());
        match azure {
            None => Self { since, ..before.clone() },
            Some(azure) => {
                let report = StatusReport::of(self.at, Ok(azure.clone()), Ok(stamp.clone()), &self.known);
                Self { report: Ok(report), since, at: before.at, ..self }
            }
        }
    }
}

/// What this machine knows, and what it has seen since the command began.
pub(super) struct Machine {
    state_dir: PathBuf,
    /// The stamps that can be asked, in the order in which they are named.
    ways: Vec<Way>,
    /// What was seen of each: of a way by its own name, of others by cloud id.
    seen: RefCell<BTreeMap<String, Seen>>,
    /// Which are being asked.
    asking: RefCell<Vec<String>>,
    /// The cloud ids of ways that did not say one, once their stamps have said it.
    learned: RefCell<BTreeMap<String, Uuid>>,
    /// How many are asked at this moment, and whether nobody is asked any more.
    running: Cell<usize>,
    ending: Cell<bool>,
    advice: Advice,
    wanted: UnboundedSender<String>,
}

impl Machine {
    /// A machine that has seen nothing yet. `wanted` takes whom to ask.
    pub(super) fn new(state_dir: PathBuf, ways: Vec<Way>, advice: Advice, wanted: UnboundedSender<String>) -> Self {
        Self {
            state_dir,
            ways,
            seen: RefCell::default(),
            asking: RefCell::default(),
            learned: RefCell::default(),
            running: Cell::new(0),
            ending: Cell::new(false),
            advice,
            wanted,
        }
    }

    /// From now on nobody is asked any more.
    pub(super) fn end(&self) {
        self.ending.set(true);
    }

    /// Whether somebody is being asked at this moment.
    pub(super) fn is_asking(&self) -> bool {
        self.running.get() > 0
    }

    fn cloud_id(&self, way: &Way) -> Option<Uuid> {
        // What the stamp says outweighs what somebody wrote.
        self.learned.borrow().get(&way.id()).copied().or(way.cloud_id)
    }

    /// Each way with what it goes by: its stamp's cloud id, unless a way before it goes by that, which is its twin.
    fn named(&self) -> Vec<(String, &Way, Option<&Way>)> {
        let mut first: HashMap<Uuid, &Way> = HashMap::new();
        let named = self.ways.iter().map(|way| match self.cloud_id(way) {
            None => (way.id(), way, None),
            Some(id) => match first.insert(id, way) {
                None => (id.to_string(), way, None),
                Some(twin) => {
                    first.insert(id, twin);
                    (way.id(), way, Some(twin))
                }
            },
        });
        named.collect()
    }

    /// What was seen of a stamp, as it is to be judged now; and of everything that is wrong, what to run at this very stamp.
    fn judged(&self, mut seen: Seen, way: Option<&Way>, twin: Option<&Way>) -> Seen {
        if let Ok(report) = &mut seen.report {
            // The page may have been open for weeks.
            *report = StatusReport::of(CLOCK.now(), report.azure.clone(), report.stamp.clone(), &seen.known);
            report.findings.splice(0..0, way.and_then(|way| self.misnamed(way, twin)));
            report.findings.splice(0..0, seen.unread.clone());
        }
        let registered =
            |report: &StatusReport| Some(report.azure.as_ref().ok()?.registration.as_ref()?.id.subscription);
        let subscription = seen.report.as_ref().ok().and_then(registered).or(seen.subscription);
        seen.since.iter_mut().for_each(|problem| self.advice.about(problem, way, subscription));
        match &mut seen.report {
            Err(problem) => self.advice.about(problem, way, subscription),
            Ok(report) => self.advice.report(report, way, subscription),
        }
        seen
    }

    /// What is wrong with an entry of the file, as its stamp shows.
    fn misnamed(&self, way: &Way, twin: Option<&Way>) -> Option<Problem> {
        let said = self.learned.borrow().get(&way.id()).copied()?;
        let why = match (way.cloud_id.filter(|written| *written != said), twin) {
            (Some(written), _) => format!("stamps.json says {written}, the stamp says {said}"),
            (None, Some(twin)) => format!("{} and this entry lead to the same stamp, {said}", twin.id()),
            (None, None) => return None,
        };
        Some(Problem::new(&code::OTHER_CLOUD_ID, why).next("Put it right in stamps.json."))
    }

    fn way(&self, id: &str) -> Option<&Way> {
        self.named().into_iter().find(|(known, _, _)| known == id).map(|(_, way, _)| way)
    }

    /// Asks a stamp, unless it was asked for by another name meanwhile.
    pub(super) async fn ask_one(&self, global: &Global, options: &StatusOptions, sources: &Sources, id: String) {
        if self.ending.get() || !self.asking.borrow().contains(&id) {
            return;
        }
        self.running.set(self.running.get() + 1);
        self.look(global, options, sources, id).await;
        self.running.set(self.running.get() - 1);
    }

    /// Looks at a stamp, and keeps what it says.
    async fn look(&self, global: &Global, options: &StatusOptions, sources: &Sources, id: String) {
        let way = self.way(&id).cloned();
        let mut cloud_id: Option<Uuid> = id.parse().ok();
        let (mut known, mut unread) = self.known(cloud_id);
        let journalled = |known: &Known| known.registration.as_ref().map(|id| id.subscription);
        let of_way = way.as_ref().and_then(|way| way.subscription);
        // By what never changes: who goes by a cloud id may go by another name once somebody else has learned the same one.
        let key = way.as_ref().map_or_else(|| id.clone(), Way::id);
        let before = self.seen.borrow().get(&key).and_then(|seen| seen.subscription);
        let mut subscription = of_way.or(journalled(&known)).or(options.subscription).or(before);
        let mut report = self.seen_by(global, options, sources, way.as_ref(), cloud_id, &known, subscription).await;
        let stamp = report.as_ref().ok().and_then(|report| report.stamp.as_ref().ok());
        if let (Some(way), Some(stamp)) = (&way, stamp) {
            let said = stamp.information.cloud_id;
            self.learned.borrow_mut().insert(way.id(), said);
            // Now that it is known who it is, a journal or its own record may know where it is registered.
            if cloud_id != Some(said) {
                cloud_id = Some(said);
                (known, unread) = self.known(cloud_id);
            }
            let recorded = || stamp.activation.as_ref().map(|record| record.registration.subscription);
            let better = of_way.or(journalled(&known)).or(options.subscription).or_else(recorded).or(before);
            // A sign-in that Azure has refused is not tried again.
            let refused = report
                .as_ref()
                .is_ok_and(|report| report.azure.as_ref().is_err_and(|problem| problem.code.is_of_sign_in()));
            if better != subscription && !refused {
                let way = Some(way);
                let again = self.seen_by(global, options, sources, way, cloud_id, &known, better).await;
                if again.as_ref().is_ok_and(|again| again.stamp.is_ok()) {
                    (subscription, report) = (better, again);
                }
            }
        }
        // Whoever waits to be asked by the other name is the same stamp.
        let shown =
            self.named().into_iter().find(|(_, known, _)| way.as_ref().is_some_and(|way| way.id() == known.id()));
        let shown = shown.map_or_else(|| id.clone(), |(shown, _, _)| shown);
        self.asking.borrow_mut().retain(|asked| *asked != id && *asked != shown);
        // Somebody else has learned meanwhile how to reach it, and seen more.
        if way.is_none() && self.way(&id).is_some() {
            return;
        }
        let mut all = self.seen.borrow_mut();
        let seen = Seen { report, at: CLOCK.now(), since: None, subscription, known, unread };
        let seen = seen.after(all.get(&key));
        all.insert(key, seen);
    }

    /// What the journals of this machine know of a stamp; nothing, and why, where they can't be read.
    fn known(&self, cloud_id: Option<Uuid>) -> (Known, Option<Problem>) {
        let Some(id) = cloud_id else { return (Known::default(), None) };
        let (known, troubles) = History::look(&self.state_dir, id);
        (known, troubles.into_iter().next())
    }

    /// Both sides of a stamp; Azure's alone where it can't be reached.
    #[expect(clippy::too_many_arguments, reason = "whom to ask, how, and what is known of it before")]
    async fn seen_by(
        &self,
        global: &Global,
        options: &StatusOptions,
        sources: &Sources,
        way: Option<&Way>,
        cloud_id: Option<Uuid>,
        known: &Known,
        subscription: Option<Uuid>,
    ) -> Result<StatusReport, Problem> {
        let options = &mut StatusOptions { subscription, ..options.clone() };
        let screen = Screen::new(global, 0).quiet();
        let first = |ended: Ended| {
            let none = || Problem::new(&code::INTERRUPTED, "the stamp was not asked to the end");
            ended.problems.into_iter().next().unwrap_or_else(none)
        };
        let away = match way {
            None => Problem::new(&code::PEP_UNREACHABLE, "how to reach this stamp is not known")
                .cause("Neither --pep nor stamps.json in the state directory names it.")
                .next("Name it in stamps.json: see the guide, \"The portals\"."),
            Some(way) => {
                way.point(&mut options.sides)?;
                let report = look(global, options, sources, &screen).await.map_err(first)?;
                match &report.stamp {
                    // What this machine remembers says which registration is meant, though the stamp does not.
                    Err(problem) if cloud_id.is_some() => problem.clone(),
                    _ => return Ok(report),
                }
            }
        };
        let Some(subscription) = subscription else { return Err(away) };
        let side = azures_side(global, options, sources, &screen, cloud_id, known, subscription).await.map_err(first);
        // Whatever Azure says of it: that the stamp is away, or refused the sign-in, is not forgotten over it.
        Ok(StatusReport::of(CLOCK.now(), side, Err(away), known))
    }
}

impl Fleet for Machine {
    fn now(&self) -> Timestamp {
        CLOCK.now()
    }

    fn place(&self) -> String {
        self.state_dir.display().to_string()
    }

    fn trouble(&self) -> Option<Problem> {
        FileJournal::stamps(&self.state_dir).err().map(|error| error.problem())
    }

    fn stamps(&self) -> Vec<Stamp> {
        let named = self.named();
        let mut ids: Vec<String> = named.iter().map(|(id, _, _)| id.clone()).collect();
        let ways: HashMap<String, (&Way, Option<&Way>)> =
            named.into_iter().map(|(id, way, twin)| (id, (way, twin))).collect();
        let journalled = FileJournal::stamps(&self.state_dir).unwrap_or_default();
        ids.extend(journalled.into_iter().map(|id| id.to_string()).filter(|id| !ways.contains_key(id)));
        let asking = self.asking.borrow();
        let seen = self.seen.borrow();
        let stamp = |id: String| {
            let way = ways.get(&id).map(|(way, _)| *way);
            let twin = ways.get(&id).and_then(|(_, twin)| *twin);
            let seen = seen.get(&way.map_or_else(|| id.clone(), Way::id)).cloned();
            let seen = seen.map(|seen| self.judged(seen, way, twin));
            Stamp {
                name: way.and_then(|way| way.name.clone()),
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
        if let Some(way) = id.and_then(|id| self.way(id)) {
            // Its own button: somebody wants it, and knows that accounts lock out.
            azsreg_pep::try_again(&way.pep);
        }
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

/// Whether the stamp has refused its sign-in when it was last asked.
fn refused_sign_in(stamp: &Stamp) -> bool {
    let side = match &stamp.seen {
        Some(Ok(report)) => report.stamp.as_ref().err(),
        Some(Err(problem)) => Some(problem),
        None => None,
    };
    // What became of a sign-in that was broken off is not known: it may have counted too.
    let counted = [&code::PEP_REFUSED, &code::PEP_UNPROVEN, &code::PEP_NOT_ALLOWED];
    stamp.since.iter().chain(side).any(|problem| counted.contains(&problem.code))
}

/// Azure's side of a stamp that is away.
async fn azures_side(
    global: &Global,
    options: &StatusOptions,
    sources: &Sources,
    screen: &Screen,
    cloud_id: Option<Uuid>,
    known: &Known,
    subscription: Uuid,
) -> Result<AzureSide, Ended> {
    let SidesOptions { cloud, sign_in, network, .. } = options.sides.clone();
    let azure = crate::cli::AzureOptions { cloud, sign_in, network };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_that_may_have_counted_is_not_repeated_without_its_button() {
        let of = |code| {
            let since = Some(Problem::new(code, "it was so"));
            Stamp { id: "a".into(), name: None, seen: None, at: None, asking: false, last: None, since }
        };
        assert!(refused_sign_in(&of(&code::PEP_REFUSED)) && refused_sign_in(&of(&code::PEP_UNPROVEN)));
        assert!(!refused_sign_in(&of(&code::PEP_UNREACHABLE)));
    }
}
