//! Registers a connected stamp: the article's "Register connected ..." procedures, in the order of
//! `facts-protocol.md` section 8, but checked before, resumable in between, and verified after.
//!
//! 1. The stamp's information, and every check, together.
//! 2. The registration key pair (builds above 1.2209.0.23, several nodes).
//! 3. The bridge service principal, with a user's refresh token.
//! 4. The provider, the resource group.
//! 5. A registration token, and the registration from it.
//! 6. The lock (never lifted: it does not block an update), the role for the stamp's principal.
//! 7. The activation key, compared before it is sent; the activation; the record, read back.

use std::cell::Cell;

use azsreg_model::{
    ActivationRecord, AzureSide, BillingModel, ExitCode, LOCK_NAME, LockLevel, Outcome, PlannedStep, Problem,
    REGISTRATION_OWNER_ROLE, REGISTRATION_OWNER_ROLE_ID, RegisterReport, RegisterRequest, Registration, RegistrationId,
    RegistrationToken, StampInformation, StampSide, StatusReport, StepState, code,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::checks::{self, Found};
use crate::engine::journal::{Event, Journal, who};
use crate::engine::retry::{self, Policy};
use crate::engine::{Failure, Steps, Watch};
use crate::ports::{Action, Azure, Class, Clock, PortError, Records, Stamp, TokenRequest, World};
use crate::status::{NO_OPERATOR_SIGN_IN, azure_side, stamp_side as read_stamp_side};

/// The operation's name in journals.
pub const NAME: &str = "register";
/// The version of its steps: a journal of another version is not resumed.
pub const VERSION: u32 = 1;

/// The steps, in order: name and title.
pub const STEPS: &[(&str, &str)] = &[
    ("key-pair", "Set the registration key pair"),
    ("service-principal", "Create the bridge service principal"),
    ("provider", "Register the provider Microsoft.AzureStack"),
    ("resource-group", "Create the resource group"),
    ("registration", "Create the registration"),
    ("lock", "Lock the registration"),
    ("role", "Assign the registration owner's role"),
    ("activation", "Activate the stamp"),
];

fn title(step: &str) -> &'static str {
    STEPS.iter().find(|(name, _)| *name == step).map_or("", |(_, title)| title)
}

/// What a run knows before its first step.
pub struct Prepared {
    /// The stamp.
    pub stamp: StampInformation,
    /// The registration to be.
    pub id: RegistrationId,
    /// What the checks found.
    pub found: Found,
    /// Azure's side before.
    pub azure: AzureSide,
    /// The stamp's side before.
    pub stamp_side: StampSide,
    /// Whether the token's flags and numbers are known to be as asked.
    pub as_asked: bool,
    /// Whether the activation is known to be of the registration as it is.
    pub activated: bool,
    /// The steps that an interrupted run of the same request has done.
    pub resumed: Vec<String>,
}

/// Reads the stamp and Azure and makes every check. Changes nothing.
///
/// # Errors
/// All refused checks together, or what could not be asked.
pub async fn prepare<A: Azure, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    request: &RegisterRequest,
    stamp: StampInformation,
    finished: Option<&[Event]>,
    open: &[Event],
) -> Result<Prepared, Failure> {
    let id = RegistrationId {
        subscription: request.subscription,
        resource_group: request.resource_group.clone(),
        name: request.name_for(stamp.cloud_id),
    };
    let mut problems = checks::stamp(request, &stamp);
    let checked = checks::azure(world.azure, world.clock, request, &id, &stamp).await?;
    let found = match checked {
        Ok(found) if problems.is_empty() => found,
        Ok(_) => return Err(refused(problems)),
        Err(more) => {
            problems.extend(more);
            return Err(refused(problems));
        }
    };
    let azure = match &found.registration {
        None => AzureSide { registration: None, lock: None, role: None },
        Some(_) => azure_side(world.azure, world.clock, &id).await?,
    };
    let stamp_side = read_stamp_side(world, stamp.clone()).await?;

    if let Some(other) = stamp_side.activation.as_ref().map(|record| &record.registration).filter(|other| **other != id)
    {
        registered_elsewhere(world, other, &stamp).await?;
    }

    // The world shows the cloud id, the model and the record's flags; the journal knows the rest.
    let asked = serde_json::to_value(request).unwrap_or_default();
    let same = |events: &[Event]| crate::engine::journal::request_of(events) == Some(&asked);
    let succeeded = |events: &[Event], step: &str| {
        events.iter().any(|event| matches!(event, Event::Succeeded { step: name, .. } if name == step))
    };
    let by_journal = finished.is_some_and(&same) || (same(open) && succeeded(open, "registration"));
    let record = stamp_side.activation.as_ref().filter(|record| record.is_of(&id));
    let needs_numbers = matches!(request.billing_model, BillingModel::Capacity | BillingModel::Custom);
    let flags = |record: &ActivationRecord| record.has_flags(request.usage_reporting, request.marketplace);
    let by_record = record.is_some_and(flags);
    // Another machine may have registered otherwise since: a record that contradicts the journal is right.
    let by_journal = by_journal && record.is_none_or(flags);
    let as_asked = found.registration.as_ref().is_some_and(|registration| {
        registration.billing_model.eq_ignore_ascii_case(request.billing_model.wire())
            && registration.object_id.is_some()
            && (by_journal || (by_record && !needs_numbers && open.is_empty()))
    });
    let expired = record.is_some_and(|r| r.is_expired(world.clock.now()));
    let activated = as_asked
        && !expired
        && match &stamp_side.unread {
            // Nobody can look: the journal of a run that ended well is all there is.
            Some(_) => finished.is_some_and(&same) && open.is_empty(),
            // A record that names a registration which this run updated may be of the key before.
            None => by_record && (open.is_empty() || !updated(open) || succeeded(open, "activation")),
        };
    let resumed = open.iter().filter_map(|event| match event {
        Event::Succeeded { step, .. } => Some(step.clone()),
        _ => None,
    });
    let resumed = resumed.collect();
    Ok(Prepared { stamp, id, found, azure, stamp_side, as_asked, activated, resumed })
}

/// Refuses if the registration that the stamp is activated for is still there: Azure allows one for each cloud id.
async fn registered_elsewhere<A: Azure, S, R, C: Clock>(
    world: World<'_, A, S, R, C>,
    other: &RegistrationId,
    stamp: &StampInformation,
) -> Result<(), Failure> {
    let seen = match retry::read(world.clock, Policy::AZURE, async || world.azure.registration(other).await).await {
        // Gone: what is left is an activation without a registration, and registering mends it.
        Ok(None) => return Ok(()),
        Ok(Some(registration)) if registration.cloud_id.is_some_and(|id| id != stamp.cloud_id) => return Ok(()),
        Ok(Some(_)) => "is there",
        Err(error) if error.class == Class::Permanent => "can't be seen with this sign-in",
        Err(error) => return Err(error.into()),
    };
    let message = format!("the stamp is activated for {other}, which {seen}");
    Err(refused(vec![Problem::new(&code::STAMP_REGISTERED_ELSEWHERE, message).next(format!(
        "Register with --subscription {} --resource-group {} --name {}, or remove that registration first.",
        other.subscription, other.resource_group, other.name
    ))]))
}

/// Waits for an activation that an earlier client has begun: what it leads to decides what is left to do.
///
/// # Errors
/// It does not end, or the stamp can't be asked.
pub async fn wait_for_running<A, S: Stamp, R, C: Clock>(
    world: World<'_, A, S, R, C>,
    watch: &mut dyn Watch,
) -> Result<(), PortError> {
    let watch = std::cell::RefCell::new(watch);
    retry::read(world.clock, Policy::STAMP, async || {
        let idle = idle(world.stamp, Action::NewAzureStackActivation).await;
        if let Err(error) = &idle
            && error.class == Class::Busy
        {
            watch.borrow_mut().waiting(&error.problem.message);
        }
        idle
    })
    .await
}

/// Whether a run has written a registration that was there before.
fn updated(events: &[Event]) -> bool {
    events.iter().any(|event| match event {
        Event::Succeeded { step, state: StepState::Done, output, .. } => {
            step == "registration" && output["created"] != Value::Bool(true)
        }
        _ => false,
    })
}

fn refused(problems: Vec<Problem>) -> Failure {
    Failure { problems, exit: ExitCode::CheckFailed, step: None, steps: Vec::new() }
}

impl Prepared {
    fn locked(&self) -> bool {
        self.azure.lock.as_ref().is_some_and(|lock| lock.name.eq_ignore_ascii_case(LOCK_NAME))
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn nothing_to_do(&self) -> bool {
        self.found.provider && self.as_asked && self.activated && self.locked() && self.azure.role.is_some()
    }

    /// The steps that would run, with what was observed.
    #[must_use]
    pub fn plan(&self, request: &RegisterRequest) -> Vec<PlannedStep> {
        let step = |step: &'static str, changes: bool, detail: String| PlannedStep { step, changes, detail };
        // With the registration and the activation as asked, the stamp is left in peace.
        let settled = self.as_asked && self.activated;
        let resumed = |step: &str| self.resumed.iter().any(|name| name == step);
        const BEFORE: &str = "done by the interrupted run";
        let key_pair = self.stamp.version.has_key_pair(self.stamp.nodes);
        let group = self.id.resource_group.as_str();
        let model = request.billing_model;
        vec![
            step(
                "key-pair",
                key_pair && !settled && !resumed("key-pair"),
                match key_pair {
                    _ if settled => "the stamp is activated as asked".into(),
                    true if resumed("key-pair") => BEFORE.into(),
                    true => "Set-RegistrationKeyPair on the stamp".into(),
                    false => self.no_key_pair(),
                },
            ),
            step(
                "service-principal",
                !settled && !resumed("service-principal"),
                match settled {
                    true => "as registered".into(),
                    false if resumed("service-principal") => BEFORE.into(),
                    false => {
                        "New-AzureBridgeServicePrincipal on the stamp: makes its principal, or finds it again".into()
                    }
                },
            ),
            step(
                "provider",
                !self.found.provider,
                if self.found.provider {
                    "registered already".into()
                } else {
                    "register Microsoft.AzureStack in the subscription".into()
                },
            ),
            step(
                "resource-group",
                self.found.group.is_none(),
                match &self.found.group {
                    Some(location) => format!("{group} exists in {location}"),
                    None => format!("create {group} in {}", self.found.location),
                },
            ),
            step(
                "registration",
                !self.as_asked,
                match (&self.found.registration, self.as_asked) {
                    (_, true) => format!("{} exists, {model}", self.id.name),
                    (Some(now), false) if now.billing_model.eq_ignore_ascii_case(model.wire()) => {
                        format!("update {} with a new token (billing stays {model})", self.id.name)
                    }
                    (Some(now), false) => {
                        format!("update {} with a new token ({} -> {})", self.id.name, now.billing_model, model.wire())
                    }
                    (None, _) => format!("create {} with {model} billing", self.id.name),
                },
            ),
            step(
                "lock",
                !self.locked(),
                if self.locked() {
                    format!("{LOCK_NAME} is there")
                } else {
                    format!("place {LOCK_NAME} (CanNotDelete)")
                },
            ),
            step(
                "role",
                self.azure.role.is_none(),
                match &self.azure.role {
                    Some(role) => format!("{REGISTRATION_OWNER_ROLE} is assigned to {}", role.principal_id),
                    None => format!("assign {REGISTRATION_OWNER_ROLE} to the stamp's principal"),
                },
            ),
            step(
                "activation",
                !self.activated,
                if self.activated {
                    "the stamp is activated for this registration".into()
                } else {
                    "New-AzureStackActivation on the stamp: takes up to ten minutes".into()
                },
            ),
        ]
    }

    fn no_key_pair(&self) -> String {
        if self.stamp.nodes == 1 {
            "a stamp of one node has no registration key pair".into()
        } else {
            format!("build {} has no registration key pair", self.stamp.version)
        }
    }

    fn report(self, outcome: Outcome, now: jiff::Timestamp) -> RegisterReport {
        RegisterReport {
            outcome,
            cloud_id: self.stamp.cloud_id,
            registration: self.id,
            steps: Vec::new(),
            plan: Vec::new(),
            warnings: Vec::new(),
            status: StatusReport::of(now, Ok(self.azure), Ok(self.stamp_side)),
        }
    }
}

/// The first line of a journal of this operation.
#[must_use]
pub fn opening(request: &RegisterRequest, cloud_id: Uuid) -> Event {
    Event::Opened {
        operation: NAME.into(),
        version: VERSION,
        azsreg: env!("CARGO_PKG_VERSION").into(),
        cloud_id,
        who: who(),
        request: serde_json::to_value(request).unwrap_or_default(),
    }
}

/// Whether a journal that did not end is of this request and can be resumed.
#[must_use]
pub fn resumes(events: &[Event], request: &RegisterRequest) -> bool {
    let asked = serde_json::to_value(request).unwrap_or_default();
    matches!(events.first(), Some(Event::Opened { version, .. }) if *version == VERSION)
        && crate::engine::journal::request_of(events) == Some(&asked)
}

/// With `--plan`: what would be done.
#[must_use]
pub fn planned<C: Clock>(prepared: Prepared, request: &RegisterRequest, clock: &C) -> RegisterReport {
    let plan = prepared.plan(request);
    let report = prepared.report(Outcome::Planned, clock.now());
    RegisterReport { plan, ..report }
}

/// Everything is as asked already.
#[must_use]
pub fn nothing_to_do<C: Clock>(prepared: Prepared, clock: &C) -> RegisterReport {
    prepared.report(Outcome::NothingToDo, clock.now())
}

/// Runs the steps. `journal` is new, or an open one of the same request.
///
/// # Errors
/// The step that failed; the same command goes on from there.
pub async fn register<A: Azure, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    request: &RegisterRequest,
    prepared: Prepared,
    journal: &mut J,
    watch: &mut dyn Watch,
) -> Result<RegisterReport, Failure> {
    let World { azure, stamp, clock, .. } = world;
    let Prepared { stamp: information, id, found, azure: before, stamp_side, as_asked, activated, .. } = prepared;
    if journal.events().is_empty() {
        let opened = journal.append(clock.now(), opening(request, information.cloud_id));
        opened.map_err(|error| Failure::before(error.problem()))?;
    }
    let requests = || azure.take_request_ids();
    // Those of the checks are nobody's.
    drop(requests());
    let mut steps = Steps::new(journal, clock, watch, &requests);
    let nothing = |(): &()| Value::Null;

    // What is left may be the lock or the role alone: then the stamp is left in peace.
    let settled = before.registration.and_then(|r| r.object_id).filter(|_| as_asked && activated);
    let renewed = Cell::new(false);
    if settled.is_some() {
        steps.not_needed("key-pair", "the stamp is activated as asked");
    } else if information.version.has_key_pair(information.nodes) {
        let recorded = steps.recorded("key-pair").is_some();
        let step = steps.step(
            "key-pair",
            title("key-pair"),
            Policy::STAMP,
            async || Ok(recorded.then(|| ((), "set by this operation before".to_owned()))),
            async || {
                idle(stamp, Action::SetRegistrationKeyPair).await?;
                renewed.set(true);
                stamp.set_registration_key_pair().await?;
                Ok(Some(((), "set".to_owned())))
            },
            nothing,
        );
        step.await?;
    } else {
        let why = if information.nodes == 1 {
            "a stamp of one node has none".to_owned()
        } else {
            format!("build {} has none", information.version)
        };
        steps.not_needed("key-pair", &why);
    }

    let tenant = found.subscription.tenant.as_str();
    let recorded = steps.recorded("service-principal").and_then(|id| id.as_str()?.parse::<Uuid>().ok());
    let recorded = settled
        .map(|id| (id, format!("{id}, as registered")))
        .or_else(|| recorded.map(|id| (id, format!("{id}, made by this operation before"))));
    let principal = steps
        .step(
            "service-principal",
            title("service-principal"),
            Policy::STAMP,
            async || Ok(recorded.clone()),
            async || {
                idle(stamp, Action::NewAzureBridgeServicePrincipal).await?;
                let token = azure.bridge_refresh_token().await?;
                let id = stamp.new_bridge_service_principal(azure.environment(), tenant, &token).await?;
                Ok(Some((id, id.to_string())))
            },
            |id| json!(id),
        )
        .await?;

    let subscription = found.subscription.id;
    steps
        .step(
            "provider",
            title("provider"),
            Policy::AZURE,
            async || {
                let registered = azure.provider_registered(subscription).await?;
                Ok(registered.then(|| ((), "registered".to_owned())))
            },
            async || azure.register_provider(subscription).await.map(|()| None),
            nothing,
        )
        .await?;

    steps
        .step(
            "resource-group",
            title("resource-group"),
            Policy::AZURE,
            async || {
                let group = azure.resource_group(subscription, &id.resource_group).await?;
                Ok(group.map(|location| ((), format!("{} in {location}", id.resource_group))))
            },
            async || {
                azure.create_resource_group(subscription, &id.resource_group, &found.location).await.map(|()| None)
            },
            nothing,
        )
        .await?;

    // A new key pair wants a new token.
    let known = as_asked && !renewed.get();
    let activated = activated && !renewed.get();
    let as_wanted = |now: &Registration| {
        now.cloud_id == Some(information.cloud_id)
            && now.object_id == Some(principal)
            && now.billing_model.eq_ignore_ascii_case(request.billing_model.wire())
    };
    let line = |now: &Registration| format!("{}, {}", now.id.name, now.billing_model);
    let created = found.registration.is_none() && stamp_side.activation.is_none();
    let owner = Cell::new(principal);
    steps
        .step(
            "registration",
            title("registration"),
            Policy::STAMP,
            async || {
                if !known {
                    return Ok(None);
                }
                let now = azure.registration(&id).await?;
                Ok(now.filter(&as_wanted).map(|now| ((), line(&now))))
            },
            async || {
                let token = new_token(stamp, request, &information).await?;
                let now = azure.put_registration(&id, &token).await?;
                // The token knows the stamp's principal best: it may have been made anew since it was recorded.
                owner.set(now.object_id.unwrap_or(principal));
                Ok(Some(((), line(&now))))
            },
            |()| json!({ "created": created }),
        )
        .await?;

    let principal = owner.get();
    steps
        .step(
            "lock",
            title("lock"),
            Policy::AZURE,
            async || {
                let locks = azure.locks(&id).await?;
                let ours = locks
                    .iter()
                    .any(|lock| lock.name.eq_ignore_ascii_case(LOCK_NAME) && lock.level != LockLevel::Other);
                Ok(ours.then(|| ((), format!("{LOCK_NAME}, CanNotDelete"))))
            },
            async || azure.put_lock(&id).await.map(|()| None),
            nothing,
        )
        .await?;

    steps
        .step(
            "role",
            title("role"),
            Policy::AZURE,
            async || {
                let roles = azure.role_assignments(&id).await?;
                let ours = roles.iter().any(|r| r.role_id == REGISTRATION_OWNER_ROLE_ID && r.principal_id == principal);
                Ok(ours.then(|| ((), format!("{REGISTRATION_OWNER_ROLE} to {principal}"))))
            },
            async || azure.assign_role(&id, principal).await.map(|()| None),
            nothing,
        )
        .await?;

    // Made by this operation where nothing was before: a record that names it can only be of its own key.
    let anew = steps.recorded("registration").is_some_and(|output| output["created"] == Value::Bool(true));
    let before = activated || steps.recorded("activation").is_some();
    let unread = world.records.is_none();
    // A record that names us after our own activation is ours, whatever was there before.
    let tried = Cell::new(false);
    steps
        .step(
            "activation",
            title("activation"),
            Policy::STAMP,
            async || {
                let record = match world.records {
                    None => return Ok(before.then(|| ((), "by this operation before".to_owned()))),
                    Some(records) => records.activation(&information).await?,
                };
                let good = |r: &ActivationRecord| {
                    r.is_of(&id)
                        && r.has_flags(request.usage_reporting, request.marketplace)
                        && !r.is_expired(clock.now())
                };
                let fresh = before || tried.get() || anew;
                Ok(record.filter(|r| fresh && good(r)).map(|_| ((), "the record names this registration".to_owned())))
            },
            async || {
                idle(stamp, Action::NewAzureStackActivation).await?;
                let key = retry::read(clock, Policy::AZURE, async || azure.activation_key(&id).await).await?;
                key.check(information.cloud_id, &id, clock.now())
                    .map_err(|error| PortError::permanent(Problem::new(&code::MALFORMED_KEY, error.to_string())))?;
                stamp.new_activation(&key).await?;
                tried.set(true);
                Ok(unread.then(|| ((), "activated".to_owned())))
            },
            nothing,
        )
        .await
        .map_err(explain_record)?;

    let last = |error: PortError| steps.failure("activation", *error.problem);
    let azure_now = azure_side(azure, clock, &id).await.map_err(last)?;
    let stamp_now = read_stamp_side(world, information.clone()).await.map_err(last)?;
    let outcome = match (&stamp_now.unread, &stamp_now.activation) {
        (Some(_), _) => Outcome::ActivatedUnread,
        (None, Some(record)) if record.registration == id => Outcome::Verified,
        (None, Some(record)) => {
            let message = format!("the activation record names {}, not {id}", record.registration);
            return Err(steps.failure("activation", Problem::new(&code::RECORD_MISMATCH, message)));
        }
        (None, None) => {
            let problem = Problem::new(&code::NOT_ACTIVATED, "the stamp has no activation record");
            return Err(steps.failure("activation", problem));
        }
    };
    steps.finish(match outcome {
        Outcome::Verified => "verified",
        _ => NO_OPERATOR_SIGN_IN,
    })?;
    let reports = steps.into_reports();
    Ok(RegisterReport {
        outcome,
        cloud_id: information.cloud_id,
        registration: id,
        steps: reports,
        plan: Vec::new(),
        warnings: Vec::new(),
        status: StatusReport::of(clock.now(), Ok(azure_now), Ok(stamp_now)),
    })
}

/// An activation that ended well but is not to be seen is a state of the stamp, not a fault of Azure.
fn explain_record(mut failure: Failure) -> Failure {
    for problem in &mut failure.problems {
        if problem.code == &code::NOT_SEEN {
            *problem = Problem::new(
                &code::NOT_ACTIVATED,
                "the activation ended well, but the stamp's record does not show it",
            );
        }
    }
    failure
}

/// Refuses with "busy" while an earlier run of an action goes on: the engine waits for it.
async fn idle<S: Stamp>(stamp: &S, action: Action) -> Result<(), PortError> {
    if stamp.action_state(action).await? == azsreg_model::ActionState::Running {
        return Err(PortError::new(
            Class::Busy,
            Problem::new(&code::STAMP_BUSY, format!("the stamp is still running {}", action.cmdlet())),
        ));
    }
    Ok(())
}

/// A token from the stamp, decoded and compared before it goes anywhere.
async fn new_token<S: Stamp>(
    stamp: &S,
    request: &RegisterRequest,
    information: &StampInformation,
) -> Result<RegistrationToken, PortError> {
    let tag = request.ms_asset_tag.clone().filter(|_| information.version.knows_custom_billing());
    let asked = TokenRequest {
        billing_model: request.billing_model,
        agreement_number: request.agreement_number.clone(),
        ms_asset_tag: tag,
        usage_reporting: request.usage_reporting,
        marketplace: request.marketplace,
        version: information.version.token_version(),
    };
    let token = stamp.new_registration_token(&asked).await?;
    let malformed = |message: String| PortError::permanent(Problem::new(&code::MALFORMED_TOKEN, message));
    let contents = token.decode().map_err(|error| malformed(error.to_string()))?;
    if contents.cloud_id != information.cloud_id {
        return Err(malformed(format!(
            "the token is of the stamp {}, but the stamp says that it is {}",
            contents.cloud_id, information.cloud_id
        )));
    }
    if contents.billing_model != request.billing_model {
        return Err(malformed(format!(
            "the token says {} billing, not {}",
            contents.billing_model, request.billing_model
        )));
    }
    Ok(token)
}
