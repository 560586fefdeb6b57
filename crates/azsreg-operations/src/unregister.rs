//! Removes a registration: the article's `Remove-AzsRegistration`, with both sides compared first.
//!
//! The stamp first, Azure second: a stamp that is activated for a registration that is gone can neither report usage nor
//! say why. The lock is lifted before the role goes, because a lock forbids that too (`facts-azure-api.md` section 10).

use azsreg_model::{
    ActivationRecord, Known, LOCK_NAME, Outcome, PlannedStep, Problem, Registration, RegistrationId, Report,
    StampInformation, StatusReport, code,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::change::items;
use crate::checks;
use crate::engine::journal::{Journal, Past};
use crate::engine::retry::{self, Policy};
use crate::engine::{Failure, Steps, Watch};
use crate::ports::{Azure, Class, Clock, PortError, Records, Stamp, World};
use crate::register::{self, refused};
use crate::status::{self, azure_side, stamp_side};
use crate::steps::{self, foreign_locks};

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
pub struct Prepared {
    /// The stamp, unless only Azure's side is cleaned.
    pub stamp: Option<StampInformation>,
    /// The registration that is there, or was when the run that this one goes on from began.
    pub id: Option<RegistrationId>,
    /// The registration as it is.
    pub registration: Option<Registration>,
    /// The activation record, where it was read.
    pub record: Option<ActivationRecord>,
    /// Whether the stamp is deactivated.
    pub deactivate: bool,
    /// What is lost for good.
    pub lost: Vec<String>,
}

/// Looks at both sides and makes every check. Changes nothing.
///
/// # Errors
/// The registration is another stamp's, is missing, or can't be removed.
pub async fn prepare<A: Azure, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    request: &UnregisterRequest,
    stamp: StampInformation,
    past: &Past,
) -> Result<Prepared, Failure> {
    let World { azure, clock, .. } = world;
    let side = stamp_side(world, stamp.clone()).await?;
    let record = side.activation;
    let recorded = record.as_ref().map(|record| &record.registration);
    if let Some(other) = recorded.filter(|id| id.subscription != request.subscription && request.named.is_none()) {
        let message = format!("the stamp is activated for {other}, in another subscription");
        let next = format!("Run the same command with --subscription {}.", other.subscription);
        return Err(refused(vec![
            Problem::new(&code::OTHER_CLOUD_ID, message)
                .cause("Its registration is in that subscription, not in the one that was named.")
                .next(next),
        ]));
    }
    checks::subscription(azure, clock, request.subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let id = match &request.named {
        Some(id) => Some(id.clone()),
        None => {
            let found = status::find(azure, clock, request.subscription, stamp.cloud_id).await?;
            match &found[..] {
                [] => recorded.cloned(),
                [one] => Some(one.id.clone()),
                several => match several.iter().find(|one| Some(&one.id) == recorded) {
                    Some(one) => Some(one.id.clone()),
                    None if world.records.is_none() => return Err(blind(several, stamp.cloud_id)),
                    None => return Err(ambiguous(several, stamp.cloud_id)),
                },
            }
        }
    };
    let registration = match &id {
        Some(id) => retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?,
        None => None,
    };
    if let Some(owner) = registration.as_ref().and_then(|r| r.cloud_id)
        && owner != stamp.cloud_id
    {
        let name = id.as_ref().map(|id| id.name.as_str()).unwrap_or_default();
        let message = format!("the registration {name} is of the stamp {owner}; this stamp is {}", stamp.cloud_id);
        return Err(refused(vec![Problem::new(&code::OTHER_CLOUD_ID, message)]));
    }
    let mine = id.as_ref().is_some_and(|id| recorded == Some(id));
    if registration.is_none() && past.open.is_empty() {
        missing(request, id.as_ref(), mine)?;
    }
    if registration.is_some() {
        removable(azure, clock, id.as_ref()).await?;
    }
    // A registration that the stamp is not activated for (an expired one, left behind) goes without touching the stamp.
    let deactivate = match (&registration, world.records) {
        (Some(registration), None) => !left_behind(world, request.subscription, registration, &stamp).await?,
        _ => mine,
    };
    let lost = if deactivate { items(world, &stamp).await? } else { Vec::new() };
    Ok(Prepared { stamp: Some(stamp), id, registration, record, deactivate, lost })
}

/// A missing registration is said to be missing, and what is left of it is named.
fn missing(request: &UnregisterRequest, id: Option<&RegistrationId>, activated: bool) -> Result<(), Failure> {
    let Some(id) = id else { return Ok(()) };
    if activated {
        let message = format!("{id} is not there, but the stamp is still activated for it");
        return Err(Failure::before(Problem::new(&code::REGISTRATION_MISSING, message).next(format!(
            "To deactivate the stamp: azsreg unregister --subscription {} --orphan stamp. To register again: azsreg register.",
            request.subscription
        ))));
    }
    if request.named.is_some() {
        let message = format!("there is no registration {} in the resource group {}", id.name, id.resource_group);
        let next = format!("azsreg list --subscription {}", request.subscription);
        return Err(Failure::before(Problem::new(&code::REGISTRATION_MISSING, message).next(next)));
    }
    Ok(())
}

/// Whether an expired registration was left beside a newer one, which the stamp is activated for.
async fn left_behind<A: Azure, S, R, C: Clock>(
    world: World<'_, A, S, R, C>,
    subscription: Uuid,
    registration: &Registration,
    stamp: &StampInformation,
) -> Result<bool, Failure> {
    let World { azure, clock, .. } = world;
    let all = status::find(azure, clock, subscription, stamp.cloud_id).await?;
    if all.iter().all(|one| one.id == registration.id) {
        return Ok(false);
    }
    if checks::expiry(azure, clock, registration).await?.is_some_and(|end| end <= clock.now()) {
        return Ok(true);
    }
    Err(blind(&all, stamp.cloud_id))
}

/// Without the record nobody can tell which of several registrations the stamp is activated for.
fn blind(several: &[Registration], cloud_id: Uuid) -> Failure {
    let message = format!("the stamp {cloud_id} has {} registrations, and its record can't be read", several.len());
    let mut problem = Problem::new(&code::DETAILS_UNKNOWN, message)
        .next("Add the stamp's operator (--stamp-client-id and --stamp-client-secret), so that its record says which one it uses. An expired one can be removed with --name.");
    problem.details = several.iter().map(|one| one.id.to_string()).collect();
    refused(vec![problem])
}

fn ambiguous(several: &[Registration], cloud_id: Uuid) -> Failure {
    let message =
        format!("the stamp {cloud_id} has {} registrations, and is activated for none of them", several.len());
    let mut problem = Problem::new(&code::DETAILS_UNKNOWN, message)
        .next("Say which with --name and --resource-group; the others stay.");
    problem.details = several.iter().map(|one| one.id.to_string()).collect();
    refused(vec![problem])
}

/// What would stop the removal half-way, before it begins.
async fn removable<A: Azure, C: Clock>(azure: &A, clock: &C, id: Option<&RegistrationId>) -> Result<(), Failure> {
    let Some(id) = id else { return Ok(()) };
    let mut problems = Vec::new();
    problems.extend(checks::missing_actions(azure, clock, &id.to_string(), checks::REMOVAL, "removing").await?);
    problems.extend(foreign_locks(azure, clock, id, false).await?);
    if problems.is_empty() { Ok(()) } else { Err(refused(problems)) }
}

/// Azure's side alone, for a stamp that does not exist any more. The registration has to be named.
///
/// # Errors
/// It is missing, or can't be removed.
pub async fn prepare_azure<A: Azure, C: Clock>(azure: &A, clock: &C, id: RegistrationId) -> Result<Prepared, Failure> {
    checks::subscription(azure, clock, id.subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let registration = retry::read(clock, Policy::AZURE, async || azure.registration(&id).await).await?;
    if registration.is_none() {
        let message = format!("there is no registration {} in the resource group {}", id.name, id.resource_group);
        let next = format!("azsreg list --subscription {}", id.subscription);
        return Err(Failure::before(Problem::new(&code::REGISTRATION_MISSING, message).next(next)));
    }
    removable(azure, clock, Some(&id)).await?;
    Ok(Prepared { stamp: None, id: Some(id), registration, record: None, deactivate: false, lost: Vec::new() })
}

/// The stamp's side alone, where Azure's is gone.
///
/// # Errors
/// The stamp can't be asked, or its registration is still there, or may be: what can't be seen is not gone, unless the
/// operator names it as gone.
pub async fn prepare_stamp<A: Azure, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    request: &UnregisterRequest,
    stamp: StampInformation,
) -> Result<Prepared, Failure> {
    let World { azure, clock, .. } = world;
    let side = stamp_side(world, stamp.clone()).await?;
    let recorded = side.activation.as_ref().map(|record| record.registration.clone());
    let there = match &recorded {
        None if world.records.is_none() => {
            checks::subscription(azure, clock, request.subscription)
                .await?
                .map_err(|problem| refused(vec![problem]))?;
            status::find(azure, clock, request.subscription, stamp.cloud_id).await?.into_iter().map(|one| one.id).next()
        }
        None => None,
        Some(id) => {
            let visible = match checks::subscription(azure, clock, id.subscription).await? {
                Ok(_) => retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await,
                Err(problem) => Err(PortError::permanent(problem)),
            };
            match visible {
                Ok(there) => there.filter(|there| there.cloud_id == Some(stamp.cloud_id)).map(|there| there.id),
                Err(_) if request.named.as_ref() == Some(id) => None,
                Err(error) if error.class == Class::Permanent => return Err(unseen(id, *error.problem)),
                Err(error) => return Err(error.into()),
            }
        }
    };
    if let Some(id) = there {
        let message = format!("{id} is there: the stamp is no orphan");
        let next = format!("azsreg unregister --subscription {}", id.subscription);
        return Err(refused(vec![
            Problem::new(&code::OTHER_CLOUD_ID, message).cause("Both sides are there.").next(next),
        ]));
    }
    let deactivate = side.activation.is_some() || world.records.is_none();
    let lost = if deactivate { items(world, &stamp).await? } else { Vec::new() };
    Ok(Prepared { stamp: Some(stamp), id: None, registration: None, record: side.activation, deactivate, lost })
}

/// What can't be seen may be there.
fn unseen(id: &RegistrationId, mut problem: Problem) -> Failure {
    problem.details.push(format!("{id}, which the stamp is activated for, can't be seen with this sign-in"));
    refused(vec![problem.next(format!(
        "Sign in with an account that sees it. If it is gone for good, name it: azsreg unregister --subscription {} --resource-group {} --name {} --orphan stamp",
        id.subscription, id.resource_group, id.name
    ))])
}

impl Prepared {
    /// Whether nothing is left to do.
    #[must_use]
    pub fn nothing_to_do(&self) -> bool {
        self.registration.is_none() && !self.deactivate
    }

    /// The stamp's cloud id.
    #[must_use]
    pub fn cloud_id(&self) -> Uuid {
        let registered = || self.registration.as_ref().and_then(|r| r.cloud_id);
        self.stamp.as_ref().map(|stamp| stamp.cloud_id).or_else(registered).unwrap_or_default()
    }

    /// The steps that would run.
    #[must_use]
    pub fn plan(&self) -> Vec<PlannedStep> {
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
    #[must_use]
    pub fn report(self, outcome: Outcome) -> Report {
        let plan = if outcome == Outcome::Planned { self.plan() } else { Vec::new() };
        let cloud_id = self.cloud_id();
        Report { plan, lost: self.lost, ..Report::new(NAME, outcome, cloud_id, self.id) }
    }
}

/// Runs the steps.
///
/// # Errors
/// The step that failed; the same command goes on from there.
pub async fn unregister<A: Azure, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    request: &UnregisterRequest,
    prepared: Prepared,
    journal: &mut J,
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    let World { azure, clock, .. } = world;
    let cloud_id = prepared.cloud_id();
    let Prepared { stamp, id, deactivate, lost, .. } = prepared;
    register::open(journal, clock, NAME, VERSION, request, cloud_id)?;
    let requests = || azure.take_request_ids();
    drop(requests());
    let mut steps = Steps::new(journal, clock, watch, &requests);
    match &stamp {
        Some(information) if deactivate => steps::deactivation(&mut steps, world, information, None).await?,
        Some(_) => steps.not_needed("deactivation", "the stamp is not activated for it"),
        None => {}
    }
    if let Some(id) = &id {
        steps::remove(&mut steps, azure, id, Some(cloud_id)).await?;
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
            Some(StatusReport::of(clock.now(), Ok(azure_now), Ok(now), &Known::default()))
        }
    };
    steps.finish("done")?;
    Ok(Report { steps: steps.into_reports(), lost, status, ..Report::new(NAME, Outcome::Done, cloud_id, id) })
}
