//! Removes a registration: the article's `Remove-AzsRegistration`, with both sides compared first.
//!
//! The stamp first, Azure second: a stamp that is activated for a registration that is gone can neither report usage nor
//! say why. The lock is lifted before the role goes, because a lock forbids that too (`facts-azure-api.md` section 10).

mod prepare;

use azsreg_model::{
    Known, LOCK_NAME, Outcome, PlannedStep, Problem, Registration, RegistrationId, Report, StampInformation, StampSide,
    StatusReport, code,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::checks;
use crate::engine::history::{History, Past, is_as_seen, seen, started};
use crate::engine::journal::{Event, Journal, Mark, Marked, request_of, succeeded};
use crate::engine::retry::{self, Policy};
use crate::engine::session::{Agreed, Books, Desk, Question, changed_meanwhile};
use crate::engine::{Failure, Steps, Watch};
use crate::ports::{Azure, Clock, PortError, Records, Stamp, World};
use crate::register::{self, refused};
use crate::status::{self, azure_side, stamp_side};
use crate::steps::{self, Deactivate, Doomed, lock, newest_activation};

/// The operation's name.
pub const NAME: &str = "unregister";
/// The version of its steps.
pub const VERSION: u32 = 1;
/// How many steps it has.
pub const STEPS: usize = 4;

/// What is to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnregisterRequest {
    /// The subscription.
    pub subscription: Uuid,
    /// The registration, where the operator names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<RegistrationId>,
    /// Which sides: what was agreed to for one is not agreed to for both.
    #[serde(default)]
    pub sides: Sides,
}

/// The sides that a removal touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sides {
    /// The stamp's and Azure's.
    #[default]
    Both,
    /// The stamp's alone.
    Stamp,
    /// Azure's alone.
    Azure,
}

/// What a run knows before its first step.
struct Prepared {
    /// The stamp, unless only Azure's side is cleaned.
    stamp: Option<StampInformation>,
    /// The registration that is there, or was when the run that this one goes on from began.
    id: Option<RegistrationId>,
    /// The registration as it is.
    registration: Option<Registration>,
    /// The stamp's side, unless only Azure's side is cleaned.
    side: Option<StampSide>,
    /// The stamp's newest activation, where its record was not read.
    activation: Option<String>,
    /// Whether the stamp is deactivated.
    deactivate: bool,
    /// What is lost for good.
    lost: Vec<String>,
    /// What could not be checked, for the operator to know.
    unchecked: Vec<Problem>,
}

/// Removes a registration: what a person asked for, from the first look to the report.
///
/// # Errors
/// It was not agreed to, a check failed, or a step did; the same command goes on from there.
pub async fn run<A: Azure, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    request: &UnregisterRequest,
    information: StampInformation,
    desk: &mut Desk<'_, B>,
) -> Result<Report, Failure> {
    let session = desk.begin(world.clock, information.cloud_id, NAME)?;
    if !desk.plan {
        register::wait_for_running(world, desk.watch).await?;
    }
    let cloud_id = information.cloud_id;
    let look = async |past: &Past| match request.sides {
        Sides::Stamp => prepare::stamp(world, request, information.clone()).await,
        _ => prepare::both(world, request, information.clone(), past).await,
    };
    decide(world, request, cloud_id, session.history, NAME, desk, look).await
}

/// Which registration Azure's side alone is cleaned of.
#[derive(Debug, Clone)]
pub enum Target {
    /// This one, as the operator says.
    Named(RegistrationId),
    /// This one, as a carried file says.
    OfFile(RegistrationId),
    /// The only one of the stamp in the subscription.
    OfStamp(Uuid),
}

/// What is removed of Azure's side alone, and by which command.
#[derive(Debug, Clone)]
pub struct AzureOrder {
    /// The command's name.
    pub operation: &'static str,
    /// The subscription.
    pub subscription: Uuid,
    /// Which registration.
    pub target: Target,
    /// The stamp that it has to be of, where a carried file says so.
    pub cloud_id: Option<Uuid>,
    /// When the stamp was deactivated, as the file says.
    pub deactivated_at: Option<Timestamp>,
}

/// Removes Azure's side alone: of a stamp that does not exist any more, or that was deactivated before.
///
/// # Errors
/// As [`run`], or it is missing and this machine's journal does not know that it was removed.
pub async fn run_azure<A: Azure, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    order: &AzureOrder,
    desk: &mut Desk<'_, B>,
) -> Result<Report, Failure> {
    let World { azure, clock, .. } = world;
    let AzureOrder { operation, subscription, ref target, cloud_id, deactivated_at } = *order;
    // Whose it is has to be known before the lock is taken; all that counts is looked at under it.
    let owner = match (cloud_id.as_ref(), target) {
        (Some(cloud_id), _) | (None, Target::OfStamp(cloud_id)) => *cloud_id,
        (None, Target::Named(id) | Target::OfFile(id)) => match prepare::azure(azure, clock, id.clone()).await {
            Ok(prepared) => prepared.cloud_id(),
            // What is gone does not say whose it was; the journal of the run that removed it does.
            Err(failure) => owner_of_removed(desk.books, id).ok_or(failure)?,
        },
    };
    let session = desk.begin(clock, owner, operation)?;
    let removed = session.history.ended.last().is_some_and(|events| {
        matches!(events.first(), Some(Event::Opened { operation, .. }) if operation == NAME)
            && succeeded(events, "removal").is_some()
    });
    let id = match target {
        Target::Named(id) | Target::OfFile(id) => Some(id.clone()),
        Target::OfStamp(cloud_id) => one_of_stamp(azure, clock, subscription, *cloud_id, removed).await?,
    };
    // A receipt names what is to be removed: that it is not there is what was wanted. A name may be mistyped.
    let known = removed || deactivated_at.is_some();
    let gone = match &id {
        None => true,
        Some(id) => known && retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?.is_none(),
    };
    // It may have been moved since the receipt was made.
    let id = match id {
        Some(named) if gone && matches!(target, Target::OfFile(_)) => moved(azure, clock, &named, owner).await?,
        other => other.filter(|_| !gone),
    };
    let Some(id) = id else {
        return Ok(Report::new(operation, Outcome::NothingToDo, owner, None));
    };
    let request = UnregisterRequest { subscription: id.subscription, named: Some(id.clone()), sides: Sides::Azure };
    let look = async |past: &Past| {
        let resumed = !past.open.is_empty();
        let prepared = match prepare::azure(azure, clock, id.clone()).await {
            // Removed by the run that this one goes on from.
            Err(failure) if resumed && failure.problems[0].code == &code::REGISTRATION_MISSING => Prepared {
                stamp: None,
                id: Some(id.clone()),
                registration: None,
                side: None,
                activation: None,
                deactivate: false,
                lost: Vec::new(),
                unchecked: Vec::new(),
            },
            other => other?,
        };
        if prepared.registration.is_some() && prepared.cloud_id() != owner {
            let message = format!("{} is of the stamp {}, not of {owner}", id.name, prepared.cloud_id());
            return Err(refused(vec![Problem::new(&code::BUNDLE_OTHER_STAMP, message)]));
        }
        if let Some(at) = deactivated_at.filter(|_| prepared.registration.is_some()) {
            not_since(azure, clock, &id, at, matches!(target, Target::Named(_))).await?;
        }
        Ok(prepared)
    };
    let report = decide(world, &request, owner, session.history, operation, desk, look).await?;
    Ok(Report { operation, ..report })
}

/// The registration of a stamp in the place of one that is gone. One in another subscription is named, not removed.
async fn moved<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    gone: &RegistrationId,
    cloud_id: Uuid,
) -> Result<Option<RegistrationId>, Failure> {
    if let Some(found) = status::find(azure, clock, gone.subscription, cloud_id).await?.pop() {
        return Ok(Some(found.id));
    }
    let Some(other) = status::elsewhere(azure, clock, gone.subscription, cloud_id).await?.0 else { return Ok(None) };
    let message = format!("{gone} is gone; the stamp is registered as {}", other.id);
    let next = format!(
        "If that is to be removed, name it: add --subscription {} --resource-group {} --name {}",
        other.id.subscription, other.id.resource_group, other.id.name
    );
    Err(refused(vec![Problem::new(&code::BUNDLE_STALE, message).next(next)]))
}

/// Refuses a receipt that is older than the registration, or may be, where the operator does not name it.
async fn not_since<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
    at: Timestamp,
    named: bool,
) -> Result<(), Failure> {
    let again = "At the stamp: azsreg offline deactivate --out FILE; carry that file.";
    let (message, next) = match crate::offline::registered_since(azure, clock, id, at).await? {
        Some(true) => {
            (format!("{} was registered again after the stamp was deactivated at {at:.0}", id.name), again.to_owned())
        }
        None if !named => (
            format!(
                "the stamp was deactivated at {at:.0}; Azure does not say whether {} was registered again since",
                id.name
            ),
            format!(
                "If it was not, name it: add --name {} --resource-group {}. Otherwise: {again}",
                id.name, id.resource_group
            ),
        ),
        _ => return Ok(()),
    };
    Err(refused(vec![Problem::new(&code::BUNDLE_STALE, message).next(next)]))
}

/// The stamp whose newest run on this machine removed this registration.
fn owner_of_removed<B: Books>(books: &B, id: &RegistrationId) -> Option<Uuid> {
    let named = serde_json::to_value(id).ok()?;
    books.stamps().into_iter().find(|cloud_id| {
        books.history(*cloud_id).is_ok_and(|history| {
            let newest = history.ended.last().map(Vec::as_slice).unwrap_or_default();
            let events = if history.open.is_some() { history.begun() } else { newest };
            matches!(events.first(), Some(Event::Opened { operation, .. }) if operation == NAME)
                && request_of(events).is_some_and(|request| request["named"] == named)
                && started(events, "removal")
        })
    })
}

/// The one registration of a stamp in a subscription; none where this machine's journal knows that it was removed.
async fn one_of_stamp<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    subscription: Uuid,
    cloud_id: Uuid,
    removed: bool,
) -> Result<Option<RegistrationId>, Failure> {
    checks::subscription(azure, clock, subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let mut found = status::find(azure, clock, subscription, cloud_id).await?;
    match found.len() {
        1 => Ok(found.pop().map(|one| one.id)),
        0 if removed => Ok(None),
        0 => {
            let message = format!("the subscription has no registration of the stamp {cloud_id}");
            let next = format!("azsreg list --subscription {subscription}");
            Err(Failure::before(Problem::new(&code::REGISTRATION_MISSING, message).next(next)))
        }
        several => {
            let mut problem = Problem::new(&code::DETAILS_UNKNOWN, format!("{cloud_id} has {several} registrations"));
            problem.details = found.iter().map(|one| one.id.to_string()).collect();
            Err(refused(vec![problem.next("Say which with --name and --resource-group.")]))
        }
    }
}

/// The look, the plan or the question, the second look, and the steps.
async fn decide<A: Azure, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    request: &UnregisterRequest,
    cloud_id: Uuid,
    history: History<B::Journal>,
    operation: &'static str,
    desk: &mut Desk<'_, B>,
    look: impl AsyncFn(&Past) -> Result<Prepared, Failure>,
) -> Result<Report, Failure> {
    let begun = history.begun().to_vec();
    let ended = go_on(world, (request, cloud_id), history, operation, desk, look).await;
    if desk.plan { ended } else { lock::or_put_back(world.azure, world.clock, &begun, ended).await }
}

async fn go_on<A: Azure, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    (request, cloud_id): (&UnregisterRequest, Uuid),
    history: History<B::Journal>,
    operation: &'static str,
    desk: &mut Desk<'_, B>,
    look: impl AsyncFn(&Past) -> Result<Prepared, Failure>,
) -> Result<Report, Failure> {
    let value = serde_json::to_value(request).unwrap_or_default();
    let (mut past, mut open) = history.past(NAME, VERSION, &value).map_err(Failure::before)?;
    // What an interrupted run agreed to and did counts only while the world is the one that it saw.
    if !past.open.is_empty() && !is_as_seen(world.azure, world.clock, &past.open).await? {
        (past.open, open) = (Vec::new(), None);
    }
    if request.sides != Sides::Stamp {
        checks::leaving(world.azure, world.clock, request.subscription, desk.watch).await;
    }
    let mut agreed = Agreed::default();
    let prepared = loop {
        let prepared = look(&past).await?;
        if !agreed.asked() {
            prepared.unchecked.iter().for_each(|problem| desk.watch.warning(problem));
        }
        if desk.plan {
            return Ok(prepared.report(Outcome::Planned));
        }
        if prepared.nothing_to_do() && open.is_none() {
            return Ok(prepared.report(Outcome::NothingToDo));
        }
        let before = seen(&past.open).is_some_and(|mark| prepared.is_as_agreed(mark)) && !agreed.asked();
        if before || prepared.nothing_to_do() || agreed.covers(&prepared.question(operation), desk.consent)? {
            break prepared;
        }
    };
    let mut journal = desk.journal(open, world.clock, cloud_id, NAME)?;
    unregister(world, request, prepared, &mut journal, desk.watch).await
}

impl Prepared {
    /// Whether nothing is left to do.
    fn nothing_to_do(&self) -> bool {
        self.registration.is_none() && !self.deactivate
    }

    /// The stamp's cloud id.
    fn cloud_id(&self) -> Uuid {
        let registered = || self.registration.as_ref().and_then(|r| r.cloud_id);
        self.stamp.as_ref().map(|stamp| stamp.cloud_id).or_else(registered).unwrap_or_default()
    }

    /// The registration that the stamp's record names, where it was read.
    fn recorded(&self) -> Option<&RegistrationId> {
        self.side.as_ref()?.activation.as_ref().map(|record| &record.registration)
    }

    fn mark(&self) -> Mark {
        let registrations = self.id.iter().map(|id| Marked::of(id, self.registration.as_ref())).collect();
        let record = self.recorded().cloned();
        Mark { registrations, record, activation: self.activation.clone(), lost: self.lost.clone() }
    }

    /// Whether what an interrupted run was agreed to for is what is there, but for what it did itself.
    fn is_as_agreed(&self, mark: &Mark) -> bool {
        let unread = self.side.as_ref().is_some_and(|side| side.unread.is_some());
        // Where the record is not to be seen, the registration vouches for it while it is there.
        let same = match unread {
            true => self.registration.is_some(),
            false => self.recorded().is_none_or(|id| Some(id) == mark.record.as_ref()),
        };
        let now = self.mark();
        // Another registration of the stamp may have come in the place of the one that this run has deleted.
        let shown = self.registration.is_none() || now.registrations.iter().all(|one| mark.registrations.contains(one));
        same && shown && mark.covers(&now)
    }

    /// What a person is asked.
    fn question(&self, operation: &str) -> Question {
        let cloud_id = self.cloud_id();
        let there = self.id.as_ref().filter(|_| self.registration.is_some());
        let what = match (there, self.deactivate) {
            (Some(id), true) => format!("The stamp {cloud_id} will be deactivated and {id} deleted."),
            (Some(id), false) if operation == NAME => format!("{id} will be deleted."),
            (Some(id), false) => format!(
                "{id} will be deleted. Deactivate the stamp first, if that was not done: azsreg offline deactivate."
            ),
            (None, _) if self.side.as_ref().is_some_and(|side| side.unread.is_some()) => format!(
                "No registration of the stamp {cloud_id} is to be seen, and whether it is activated is not either. It will be deactivated."
            ),
            (None, _) => match self.recorded() {
                Some(id) => format!("The stamp {cloud_id}, which is activated for {id}, will be deactivated."),
                None => format!("The stamp {cloud_id} will be deactivated."),
            },
        };
        Question { what, mark: self.mark() }
    }

    /// The steps that would run.
    fn plan(&self) -> Vec<PlannedStep> {
        let step = |step: &'static str, changes: bool, detail: String| PlannedStep { step, changes, detail };
        let mut plan = Vec::new();
        if self.stamp.is_some() {
            let detail = if self.deactivate {
                "Remove-AzureStackActivation on the stamp".into()
            } else {
                "the stamp is not activated for it".into()
            };
            plan.push(step("deactivation", self.deactivate, detail));
        }
        if let (Some(id), there) = (&self.id, self.registration.is_some()) {
            plan.push(step("unlock", there, format!("lift {LOCK_NAME} from {}", id.name)));
            plan.push(step("role-removal", there, "remove the stamp's role from it".into()));
            plan.push(step("removal", there, format!("delete {id}")));
        }
        plan
    }

    /// A report of what was found, before any step.
    fn report(self, outcome: Outcome) -> Report {
        let plan = if outcome == Outcome::Planned { self.plan() } else { Vec::new() };
        let cloud_id = self.cloud_id();
        Report { plan, lost: self.lost, ..Report::new(NAME, outcome, cloud_id, self.id) }
    }
}

/// Runs the steps.
///
/// # Errors
/// The step that failed; the same command goes on from there.
async fn unregister<A: Azure, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    request: &UnregisterRequest,
    prepared: Prepared,
    journal: &mut J,
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    let cloud_id = prepared.cloud_id();
    let mark = prepared.mark();
    let recorded = prepared.recorded().cloned();
    let Prepared { stamp, id, registration, side, activation: before, deactivate, lost, .. } = prepared;
    let world = side.as_ref().map_or(world, |side| world.readable(side));
    let World { azure, clock, .. } = world;
    register::open(journal, clock, NAME, VERSION, request, cloud_id)?;
    register::saw(journal, clock, mark)?;
    let requests = || azure.take_request_ids();
    drop(requests());
    let mut steps = Steps::new(journal, clock, watch, &requests);
    match &stamp {
        Some(information) if deactivate => {
            steps::deactivation(&mut steps, world, information, Deactivate::For(recorded.as_ref())).await?;
        }
        Some(information) => {
            // It was not activated for it when it was looked at.
            let now = stamp_side(world, information.clone()).await;
            let now = now.map_err(|error| steps.failure("deactivation", *error.problem))?;
            if let Some(record) = now.activation.filter(|record| Some(&record.registration) == id.as_ref()) {
                let message = format!("the stamp is activated for {} now", record.registration);
                return Err(steps.failure("deactivation", changed_meanwhile(message)));
            }
            steps.not_needed("deactivation", "the stamp is not activated for it");
        }
        None => {}
    }
    if let Some(id) = &id {
        let etag = registration.as_ref().and_then(|registration| registration.etag.as_deref());
        steps::remove(&mut steps, azure, clock, Doomed { id, cloud_id: Some(cloud_id), etag }).await?;
    }
    let last = |error: PortError| steps.failure("removal", *error.problem);
    let azure_now = match &id {
        Some(id) => azure_side(azure, clock, id).await.map_err(last)?,
        None => azsreg_model::AzureSide::default(),
    };
    let status = match stamp {
        None => None,
        Some(information) => {
            let now = stamp_side(world, information).await.map_err(last)?;
            // Somebody else may have activated the stamp for what is gone now.
            let activated = match &now.activation {
                Some(record) if deactivate || Some(&record.registration) == id.as_ref() => {
                    Some(record.registration.to_string())
                }
                None if now.unread.is_some() => newest_activation(world.stamp, clock)
                    .await
                    .map_err(last)?
                    .filter(|run| before.as_ref() != Some(run)),
                _ => None,
            };
            if let Some(activated) = activated {
                let message = format!("the stamp was activated again while this ran: {activated}");
                return Err(steps.failure("deactivation", changed_meanwhile(message)));
            }
            Some(StatusReport::of(clock.now(), Ok(azure_now), Ok(now), &Known::default()))
        }
    };
    steps.finish("done")?;
    Ok(Report { steps: steps.into_reports(), lost, status, ..Report::new(NAME, Outcome::Done, cloud_id, id) })
}
