//! Moves a registration to another resource group, and repairs what a move, or somebody, left behind: the lock, the role of
//! the stamp's principal (role assignments do not move, `facts-azure-api.md` section 10) and the activation, which names the
//! registration by its id.

use azsreg_model::{
    ActivationRecord, AzureSide, Known, LOCK_NAME, Outcome, PlannedStep, Problem, REGISTRATION_OWNER_ROLE,
    Registration, RegistrationId, Report, StampInformation, StampSide, StatusReport, code,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::checks;
use crate::engine::history::{History, Past};
use crate::engine::journal::{Journal, Mark, Marked};
use crate::engine::retry::{self, Policy};
use crate::engine::session::{Books, Desk, changed_meanwhile};
use crate::engine::{Failure, Steps, Watch};
use crate::ports::{Azure, Class, Clock, PortError, Provider, Records, Stamp, World};
use crate::register::{self, refused};
use crate::status::{self, NO_OPERATOR_SIGN_IN, azure_side, stamp_side};
use crate::steps::{self, lock, newest_activation};

/// The operation's name.
pub const MOVE: &str = "move";
/// The operation's name.
pub const REPAIR: &str = "repair";
/// The version of their steps.
pub const VERSION: u32 = 1;
/// How many steps a move has.
pub const STEPS: usize = 8;

/// A move, or (where both ids are the same) a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRequest {
    /// The registration to be.
    pub to: RegistrationId,
    /// The location of its resource group, where the operator names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// What a run knows before its first step.
pub struct Prepared {
    /// The stamp; none if it can't be reached.
    pub stamp: Option<StampInformation>,
    /// The registration as it is.
    pub registration: Registration,
    /// The registration to be.
    pub to: RegistrationId,
    /// Where the resource group is or will be.
    pub location: String,
    /// Whether the resource group is there.
    pub group: bool,
    /// Azure's side as it is.
    pub azure: AzureSide,
    /// The stamp's side, if it can be reached.
    pub side: Option<StampSide>,
    /// Whether the stamp is activated for the registration to be, and by which of its runs, where that is known.
    pub activated: Option<Option<String>>,
    /// What could not be checked, for the operator to know.
    pub unchecked: Vec<Problem>,
    /// The principal that the role is for.
    pub principal: Option<Uuid>,
}

/// Where a registration is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The subscription.
    pub subscription: Uuid,
    /// The resource group.
    pub resource_group: String,
    /// Its location, where it has to be made.
    pub location: Option<String>,
}

/// Moves a registration, or repairs it where no destination is given: from the first look to the report.
///
/// # Errors
/// A check failed, or a step did; the same command goes on from there.
pub async fn run<A: Azure, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    subscription: Uuid,
    named: Option<&RegistrationId>,
    to: Option<&Destination>,
    desk: &mut Desk<'_, B>,
) -> Result<Report, Failure> {
    let World { azure, clock, .. } = world;
    let operation = if to.is_some() { MOVE } else { REPAIR };
    let mut subscriptions = vec![subscription];
    subscriptions.extend(to.map(|to| to.subscription).filter(|id| *id != subscription));
    // Whose it is has to be known before the lock is taken; all that counts is looked at under it.
    let information = reachable(world).await?;
    let owner = match &information {
        Some(information) => information.cloud_id,
        None => {
            let asked = whereabouts(azure, clock, named, to).await?;
            find(azure, clock, &subscriptions, asked.as_ref(), None).await?.cloud_id.unwrap_or_default()
        }
    };
    let session = desk.begin(clock, owner, operation)?;
    let begun = session.history.begun().to_vec();
    let ended = go_on(world, (operation, owner, information), &subscriptions, (named, to), session.history, desk).await;
    if desk.plan { ended } else { lock::or_put_back(azure, clock, &begun, ended).await }
}

/// The looks, the plan or the steps, under the lock on the stamp.
async fn go_on<A: Azure, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    (operation, owner, information): (&'static str, Uuid, Option<StampInformation>),
    subscriptions: &[Uuid],
    (named, to): (Option<&RegistrationId>, Option<&Destination>),
    history: History<B::Journal>,
    desk: &mut Desk<'_, B>,
) -> Result<Report, Failure> {
    let World { azure, clock, .. } = world;
    if information.is_some() && !desk.plan {
        register::wait_for_running(world, desk.watch).await?;
    }
    let side = match information {
        Some(information) => Some(stamp_side(world, information).await?),
        None => None,
    };
    let asked = whereabouts(azure, clock, named, to).await?;
    let found = find(azure, clock, subscriptions, asked.as_ref(), side.as_ref()).await?;
    if found.cloud_id.unwrap_or_default() != owner {
        let message = format!("{} is another stamp's by now", found.id);
        return Err(refused(vec![changed_meanwhile(message)]));
    }
    let request = MoveRequest {
        to: match to {
            Some(to) => RegistrationId {
                subscription: to.subscription,
                resource_group: to.resource_group.clone(),
                name: found.id.name.clone(),
            },
            None => found.id.clone(),
        },
        location: to.and_then(|to| to.location.clone()),
    };
    let value = serde_json::to_value(&request).unwrap_or_default();
    let (past, open) = history.past(operation, VERSION, &value).map_err(Failure::before)?;
    let prepared = prepare(world, &request, found, side, &past).await?;
    prepared.unchecked.iter().for_each(|problem| desk.watch.warning(problem));
    if desk.plan {
        return Ok(prepared.report(operation, Outcome::Planned));
    }
    if prepared.nothing_to_do() && open.is_none() {
        return Ok(prepared.report(operation, Outcome::NothingToDo));
    }
    let mut journal = desk.journal(open, clock, owner, operation)?;
    relocate(world, operation, &request, prepared, &mut journal, desk.watch).await
}

/// Where a registration is that was named: a run that was interrupted after the move finds it where it was to go.
async fn whereabouts<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    named: Option<&RegistrationId>,
    to: Option<&Destination>,
) -> Result<Option<RegistrationId>, PortError> {
    let (Some(id), Some(to)) = (named, to) else { return Ok(named.cloned()) };
    let there = RegistrationId {
        subscription: to.subscription,
        resource_group: to.resource_group.clone(),
        name: id.name.clone(),
    };
    let moved = absent(azure, clock, id).await? && !absent(azure, clock, &there).await?;
    Ok(Some(if moved { there } else { id.clone() }))
}

/// Finds the registration that is to be moved or repaired: the named one, or the stamp's.
///
/// # Errors
/// It is not there.
async fn find<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    subscriptions: &[Uuid],
    named: Option<&RegistrationId>,
    side: Option<&StampSide>,
) -> Result<Registration, Failure> {
    for id in subscriptions {
        checks::writable(azure, clock, *id).await?.map_err(|problem| refused(vec![problem]))?;
    }
    let cloud_id = side.map(|side| side.information.cloud_id);
    if let Some(id) = named {
        let read = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?;
        if let Some(registration) = read {
            if let (Some(owner), Some(own)) = (registration.cloud_id, cloud_id)
                && owner != own
            {
                let message = format!("the registration {} is of the stamp {owner}; this stamp is {own}", id.name);
                return Err(refused(vec![Problem::new(&code::OTHER_CLOUD_ID, message)]));
            }
            return Ok(registration);
        }
    }
    let recorded = side.and_then(|side| side.activation.as_ref()).map(|record| &record.registration);
    for subscription in subscriptions {
        let Some(cloud_id) = cloud_id else { break };
        let found = status::find(azure, clock, *subscription, cloud_id).await?;
        if let Some(registration) = status::current(azure, clock, found, recorded).await? {
            return Ok(registration);
        }
    }
    let message = match (named, cloud_id) {
        (Some(id), _) => format!("there is no registration {} in the resource group {}", id.name, id.resource_group),
        (None, Some(cloud_id)) => format!("there is no registration of the stamp {cloud_id}"),
        (None, None) => "without the stamp no registration can be looked for; give --name".to_owned(),
    };
    let problem = Problem::new(&code::REGISTRATION_MISSING, message);
    let next = subscriptions.first().map_or("azsreg list".into(), |id| format!("azsreg list --subscription {id}"));
    Err(Failure::before(problem.next(next)))
}

/// Whether there is no registration of this id.
///
/// # Errors
/// Azure could not be asked.
async fn absent<A: Azure, C: Clock>(azure: &A, clock: &C, id: &RegistrationId) -> Result<bool, PortError> {
    Ok(retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?.is_none())
}

/// The stamp's information, if the stamp can be reached.
async fn reachable<A, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
) -> Result<Option<StampInformation>, Failure> {
    match retry::read(world.clock, Policy::AZURE, async || world.stamp.information().await).await {
        Ok(information) => Ok(Some(information)),
        Err(error) if error.problem.code == &code::PEP_UNREACHABLE => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes every check. Changes nothing.
///
/// # Errors
/// All refused checks together, or what could not be asked.
async fn prepare<A: Azure, S: Stamp, R, C: Clock>(
    world: World<'_, A, S, R, C>,
    request: &MoveRequest,
    mut registration: Registration,
    side: Option<StampSide>,
    past: &Past,
) -> Result<Prepared, Failure> {
    let World { azure, clock, .. } = world;
    let mut from = registration.id.clone();
    let to = RegistrationId { name: from.name.clone(), ..request.to.clone() };
    let moves = from != to;
    let mut problems = Vec::new();
    let group =
        retry::read(clock, Policy::AZURE, async || azure.resource_group(to.subscription, &to.resource_group).await);
    let group = checks::refusal(group.await, &mut problems)?.flatten();
    let location = match &group {
        Some(existing) => existing.clone(),
        // A repair makes no group.
        None if !moves => String::new(),
        None => checks::location(azure, clock, to.subscription, request.location.as_deref(), &mut problems).await?,
    };
    let scope = format!("/subscriptions/{}/resourceGroups/{}", from.subscription, from.resource_group);
    let target = match &group {
        Some(_) => format!("/subscriptions/{}/resourceGroups/{}", to.subscription, to.resource_group),
        None => format!("/subscriptions/{}", to.subscription),
    };
    let tail = [
        "Microsoft.Authorization/locks/read",
        "Microsoft.Authorization/locks/write",
        "Microsoft.Authorization/roleAssignments/read",
        "Microsoft.Authorization/roleAssignments/write",
        "Microsoft.AzureStack/registrations/getActivationKey/action",
    ];
    problems.extend(checks::missing_actions(azure, clock, &target, &tail, "the moved registration").await?);
    if moves {
        between(azure, clock, &from, &to, &mut problems).await?;
        let source = [
            "Microsoft.Resources/subscriptions/resourceGroups/moveResources/action",
            "Microsoft.Resources/subscriptions/resourceGroups/validateMoveResources/action",
            "Microsoft.Authorization/locks/delete",
            "Microsoft.Authorization/roleAssignments/delete",
        ];
        problems.extend(checks::missing_actions(azure, clock, &scope, &source, "moving").await?);
        let write: &[&str] =
            &["Microsoft.Resources/subscriptions/resourceGroups/write", "Microsoft.AzureStack/registrations/write"];
        problems.extend(checks::missing_actions(azure, clock, &target, write, "moving").await?);
        problems.extend(checks::foreign_locks(azure, clock, &from, true).await?);
        problems.extend(checks::foreign_locks(azure, clock, &to, true).await?);
        let refuses = problems.iter().any(|problem| problem.code != &code::NOT_CHECKED);
        if group.is_some() && !refuses && ready(azure, clock, &from, &to).await? {
            let asked = retry::read(clock, Policy::AZURE, async || azure.check_move(&from, &to).await).await;
            if checks::refusal(asked, &mut problems)?.is_none()
                && let Some(there) = retry::read(clock, Policy::AZURE, async || azure.registration(&to).await)
                    .await?
                    .filter(|there| there.cloud_id == registration.cloud_id)
            {
                // What a dead client had begun has ended meanwhile.
                problems.retain(|problem| problem.code == &code::NOT_CHECKED);
                from = to.clone();
                registration = there;
            }
        }
    }
    let mut unchecked = checks::judged(problems).map_err(refused)?;
    let azure_now = azure_side(azure, clock, &from).await?;
    let principal = principal(azure, clock, &registration).await;
    if let (Some(named), None) = (registration.object_id, principal) {
        let message = format!("the directory of the subscription does not have the stamp's principal {named}");
        let next = format!(
            "azsreg renew --subscription {}  (a disconnected stamp has no principal: nothing to do)",
            from.subscription
        );
        unchecked.push(Problem::new(&code::PRINCIPAL_MISSING, message).next(next));
    }
    let activated = match &side {
        None => None,
        Some(StampSide { unread: None, activation, .. }) => {
            activation.as_ref().is_some_and(|record| record.is_of(&to)).then_some(None)
        }
        // The record is not to be seen: the stamp's account of its actions vouches for what the journal knows.
        Some(_) => match past.activation() {
            None => None,
            Some(before) => {
                let newest = newest_activation(world.stamp, clock).await?;
                newest.filter(|newest| newest == before).map(Some)
            }
        },
    };
    let prepared = Prepared {
        stamp: side.as_ref().map(|side| side.information.clone()),
        registration,
        to,
        location,
        group: group.is_some(),
        azure: azure_now,
        side,
        activated,
        unchecked,
        principal,
    };
    // A repair writes in place: a lock that it would meet is named before it begins.
    if !moves
        && !prepared.nothing_to_do()
        && let Some(problem) = checks::foreign_locks(azure, clock, &prepared.to, true).await?
    {
        return Err(refused(vec![problem]));
    }
    Ok(prepared)
}

/// The principal that the registration names. A disconnected stamp has none, whatever Azure fills in: nothing is assigned to one
/// that the directory does not have.
async fn principal<A: Azure, C: Clock>(azure: &A, clock: &C, registration: &Registration) -> Option<Uuid> {
    let named = registration.object_id?;
    let there = retry::read(clock, Policy::AZURE, async || azure.principal_exists(named).await).await;
    // A Graph that can't be asked says nothing.
    Some(named).filter(|_| !matches!(there, Ok(Some(false))))
}

/// Whether Azure can be asked about the move: the provider of another subscription may have to be registered first.
async fn ready<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    from: &RegistrationId,
    to: &RegistrationId,
) -> Result<bool, PortError> {
    if from.subscription == to.subscription {
        return Ok(true);
    }
    let provider = retry::read(clock, Policy::AZURE, async || azure.provider(to.subscription).await).await?;
    Ok(provider != Provider::NotRegistered)
}

/// Between subscriptions a registration moves only where both are of cloud solution providers: the partner is Azure's to
/// compare, it shows it to nobody.
async fn between<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    from: &RegistrationId,
    to: &RegistrationId,
    problems: &mut Vec<Problem>,
) -> Result<(), Failure> {
    if from.subscription == to.subscription {
        return Ok(());
    }
    for id in [from.subscription, to.subscription] {
        match checks::subscription(azure, clock, id).await? {
            Err(problem) => problems.push(problem),
            Ok(subscription) if !subscription.is_csp() => {
                let message = format!(
                    "the subscription {id} is {}, not a cloud solution provider's",
                    kind(&subscription.quota_id)
                );
                problems.push(Problem::new(&code::MOVE_REFUSED, message));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

fn kind(quota: &str) -> &str {
    if quota.is_empty() { "of an unknown kind" } else { quota }
}

impl Prepared {
    fn moves(&self) -> bool {
        self.registration.id != self.to
    }

    fn activated(&self) -> bool {
        self.activated.is_some()
    }

    fn locked(&self) -> bool {
        self.azure.lock.as_ref().is_some_and(azsreg_model::Lock::is_ours)
    }

    fn has_role(&self) -> bool {
        self.azure.role.is_some() || self.principal.is_none()
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn nothing_to_do(&self) -> bool {
        !self.moves() && self.locked() && self.has_role() && self.activated()
    }

    /// The steps that would run.
    #[must_use]
    fn plan(&self) -> Vec<PlannedStep> {
        let step = |step: &'static str, changes: bool, detail: String| PlannedStep { step, changes, detail };
        let mut plan = Vec::new();
        let group = self.to.resource_group.as_str();
        if self.moves() {
            let detail =
                if self.group { format!("{group} exists") } else { format!("create {group} in {}", self.location) };
            plan.push(step("resource-group", !self.group, detail));
            plan.push(step("validation", true, "ask Azure whether it can be moved".into()));
            plan.push(step("unlock", self.locked(), format!("lift {LOCK_NAME} for the time of the move")));
            plan.push(step(
                "role-removal",
                self.azure.role.is_some(),
                "take the role along: it would stay behind".into(),
            ));
            plan.push(step("move", true, format!("move {} to {}", self.registration.id, group)));
        }
        let moves = self.moves();
        plan.push(step("lock", moves || !self.locked(), format!("{LOCK_NAME}, CanNotDelete")));
        plan.push(step(
            "role",
            self.registration.object_id.is_some() && (moves || !self.has_role()),
            match self.registration.object_id {
                Some(_) => format!("{REGISTRATION_OWNER_ROLE} to the stamp's principal"),
                None => "a disconnected stamp has no principal".to_owned(),
            },
        ));
        let detail = match (&self.stamp, self.activated()) {
            (None, _) => "the stamp can't be reached: this step is left to azsreg repair".to_owned(),
            (Some(_), true) => "the stamp is activated for this registration".to_owned(),
            (Some(_), false) => "a new key, and New-AzureStackActivation on the stamp".to_owned(),
        };
        plan.push(step("activation", self.stamp.is_some() && !self.activated(), detail));
        plan
    }

    /// A report of what was found, before any step.
    #[must_use]
    pub fn report(self, operation: &'static str, outcome: Outcome) -> Report {
        let plan = if outcome == Outcome::Planned { self.plan() } else { Vec::new() };
        let cloud_id = self.registration.cloud_id.unwrap_or_default();
        Report { plan, ..Report::new(operation, outcome, cloud_id, Some(self.to)) }
    }
}

/// Whether a failure leaves open what Azure does: its answer was lost, or it asked to wait.
fn may_go_on(failure: &Failure) -> bool {
    failure.problems.iter().any(|problem| problem.code.leaves_open())
}

/// Whether the registration is where it was to go.
async fn is_there<A: Azure>(azure: &A, to: &RegistrationId, cloud_id: Uuid) -> Result<bool, PortError> {
    Ok(azure.registration(to).await?.is_some_and(|now| now.cloud_id == Some(cloud_id)))
}

/// Runs the steps of a move, or of a repair where nothing moves.
///
/// # Errors
/// The step that failed; the same command goes on from there. A move that fails leaves the registration locked, or says first
/// that it could not.
async fn relocate<A: Azure, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    operation: &'static str,
    request: &MoveRequest,
    prepared: Prepared,
    journal: &mut J,
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    let moves = prepared.moves();
    let Prepared { stamp, registration, to, location, side, activated, principal, .. } = prepared;
    let world = side.as_ref().map_or(world, |side| world.readable(side));
    let World { azure, clock, .. } = world;
    let cloud_id = registration.cloud_id.unwrap_or_default();
    register::open(journal, clock, operation, VERSION, request, cloud_id)?;
    let record = side.and_then(|side| side.activation).map(|record| record.registration);
    let mark =
        Mark { registrations: vec![Marked::of(&registration.id, Some(&registration))], record, ..Mark::default() };
    register::saw(journal, clock, mark)?;
    let requests = || azure.take_request_ids();
    drop(requests());
    let mut steps = Steps::new(journal, clock, watch, &requests);

    // An activation of before the move was of the registration under its old id: only a record with the new id counts, and
    // such a record can only be of a key fetched there.
    if moves {
        moved(&mut steps, azure, clock, (&registration, principal), &to, &location).await?;
    }
    let tail = async |steps: &mut Steps<'_, J, C>| {
        steps::lock(steps, azure, &to).await?;
        steps::role(steps, azure, &to, principal).await
    };
    if let Err(failure) = tail(&mut steps).await {
        return Err(lock::put_back(&steps, azure, clock, &[&to], failure).await);
    }
    let Some(information) = &stamp else {
        steps.finish("the stamp's part is left")?;
        let mut left =
            Problem::new(&code::STAMP_STEP_LEFT, "the stamp can't be reached from here: its activation is left");
        left = left.next(match principal {
            Some(_) => format!("from a machine that reaches the stamp: azsreg repair --subscription {}", to.subscription),
            None => format!(
                "azsreg offline key --subscription {} --name {} --resource-group {} --out KEY  makes the key; carry it, and run at the stamp: azsreg offline activate KEY",
                to.subscription, to.name, to.resource_group
            ),
        });
        let report = Report::new(operation, Outcome::StampLeft, cloud_id, Some(to));
        return Ok(Report { steps: steps.into_reports(), warnings: vec![left], ..report });
    };
    let good = |_: &ActivationRecord| true;
    let before = activated.as_ref().and_then(|run| run.as_deref());
    let wanted = steps::Wanted { id: &to, trusted: true, before, good: &good };
    let key = async || retry::read(clock, Policy::AZURE, async || azure.activation_key(&to).await).await;
    let run = steps::activation(&mut steps, world, information, wanted, key).await?;

    let last = |error: PortError| steps.failure("activation", *error.problem);
    let azure_now = azure_side(azure, clock, &to).await.map_err(last)?;
    let stamp_now = stamp_side(world, information.clone()).await.map_err(last)?;
    let there = azure_now.registration.as_ref().is_some_and(|now| now.cloud_id == registration.cloud_id);
    let activated = match (&stamp_now.unread, &run) {
        (None, _) => stamp_now.activation.as_ref().is_some_and(|record| record.is_of(&to)),
        (Some(_), None) => true,
        (Some(_), run) => newest_activation(world.stamp, clock).await.map_err(last)? == *run,
    };
    if !there || !activated {
        let what =
            if there { "the stamp was activated or deactivated" } else { "the registration was changed or removed" };
        return Err(steps.failure("activation", changed_meanwhile(format!("{what} while this ran"))));
    }
    let read = stamp_now.unread.is_none();
    steps.finish(if read { "verified" } else { NO_OPERATOR_SIGN_IN })?;
    let outcome = if read { Outcome::Done } else { Outcome::ActivatedUnread };
    Ok(Report {
        steps: steps.into_reports(),
        status: Some(StatusReport::of(clock.now(), Ok(azure_now), Ok(stamp_now), &Known::default())),
        ..Report::new(operation, outcome, cloud_id, Some(to))
    })
}

/// The steps of the move itself. From the lock's lifting on, each way out but the end puts it back.
async fn moved<A: Azure, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    azure: &A,
    clock: &C,
    (registration, principal): (&Registration, Option<Uuid>),
    to: &RegistrationId,
    location: &str,
) -> Result<(), Failure> {
    let from = &registration.id;
    let cloud_id = registration.cloud_id.unwrap_or_default();
    if to.subscription != from.subscription {
        steps::provider(steps, azure, to.subscription).await?;
    }
    steps::resource_group(steps, azure, to, location).await?;
    let asked = steps
        .step(
            "validation",
            steps::title("validation"),
            Policy::AZURE,
            async || {
                let moved = || Ok(Some(((), "moved already".to_owned())));
                if is_there(azure, to, cloud_id).await? {
                    return moved();
                }
                match azure.check_move(from, to).await {
                    Err(error) if error.class == Class::Permanent && is_there(azure, to, cloud_id).await? => moved(),
                    other => other.map(|()| Some(((), "Azure would move it".to_owned()))),
                }
            },
            async || Ok(None),
            steps::nothing,
        )
        .await;
    // Nothing has moved, and the same command would be refused again: it is no half-way.
    asked.map_err(|failure| match failure.problems.first() {
        Some(problem) if problem.code == &code::MOVE_REFUSED => Failure { exit: problem.code.exit, ..failure },
        _ => failure,
    })?;
    let bare = async {
        steps::unlock(steps, azure, from).await?;
        unlocked(steps, azure, clock, registration, to).await
    };
    let Err(failure) = bare.await else { return Ok(()) };
    // A move that may still go on would leave the role behind: the run that resumes assigns it.
    if let Some(principal) = principal.filter(|_| !may_go_on(&failure)) {
        for id in [from, to] {
            if let Ok(true) = is_there(azure, id, cloud_id).await {
                let _ = retry::read(clock, Policy::AZURE, async || azure.assign_role(id, principal).await).await;
            }
        }
    }
    Err(lock::put_back(steps, azure, clock, &[from, to], failure).await)
}

/// The move, while the registration has no lock.
async fn unlocked<A: Azure, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    azure: &A,
    clock: &C,
    registration: &Registration,
    to: &RegistrationId,
) -> Result<(), Failure> {
    let from = &registration.id;
    let cloud_id = registration.cloud_id.unwrap_or_default();
    // A role assignment stays behind and would be an orphan of the old scope.
    let held = retry::read(clock, Policy::AZURE, async || azure.locks(from).await).await;
    let held = held.map_err(|error| steps.failure("role-removal", *error.problem))?;
    if held.iter().any(|lock| lock.inherited) {
        let why = "a lock on the group keeps it: the old assignment stays behind as an orphan";
        steps.not_needed("role-removal", why);
    } else {
        steps::role_removal(steps, azure, from).await?;
    }
    let etag = std::cell::RefCell::new(None);
    let lifted = steps.has_begun("unlock");
    steps
        .step(
            "move",
            steps::title("move"),
            Policy::AZURE,
            async || {
                let there = azure.registration(to).await?.filter(|now| now.cloud_id == Some(cloud_id));
                Ok(there.map(|there| {
                    etag.replace(there.etag);
                    ((), format!("{} is in {}", to.name, to.resource_group))
                }))
            },
            async || match azure.move_registration(from, to).await {
                // What an earlier call had begun may have ended between our look and our call.
                Err(error) if error.class == Class::Permanent && is_there(azure, to, cloud_id).await? => Ok(None),
                other => lock::heeded(azure, from, lifted, other).await.map(|()| None),
            },
            |()| json!({ "id": to, "from_etag": registration.etag, "etag": *etag.borrow() }),
        )
        .await
}
