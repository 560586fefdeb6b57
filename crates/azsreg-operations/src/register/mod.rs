//! Registers a connected stamp: the article's "Register connected ..." procedures, in the order of
//! `facts-protocol.md` section 8, but checked before, resumable in between, and verified after.
//!
//! 0. Where another registration is replaced (another subscription, an expired year): the stamp is deactivated if the
//!    subscription changes, and that registration removed.
//! 1. The stamp's information, and every check, together.
//! 2. The registration key pair (builds above 1.2209.0.23, several nodes).
//! 3. The bridge service principal, with a user's refresh token.
//! 4. The provider, the resource group.
//! 5. A registration token, and the registration from it.
//! 6. The lock (never lifted: it does not block an update), the role for the stamp's principal.
//! 7. The activation key, compared before it is sent; the activation; the record, read back.
//!
//! `register`, `set`, `renew` and `change-subscription` are this one operation; they differ in where the request comes from
//! ([`crate::change`]).

mod prepare;

use std::cell::{Cell, RefCell};

use azsreg_model::{
    ActivationRecord, Known, Outcome, Problem, RegisterRequest, Registration, RegistrationToken, Report,
    StampInformation, StampVersion, StatusReport, code,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::checks;
use crate::engine::history::{History, is_as_seen, seen};
use crate::engine::journal::{Event, Journal, Mark, who};
use crate::engine::retry::{self, Policy};
use crate::engine::session::{Books, Desk, changed_meanwhile};
use crate::engine::{Failure, Steps, Watch};
use crate::forms;
use crate::ports::{Action, Azure, Class, Clock, PortError, Records, Stamp, TokenRequest, World};
use crate::status::{NO_OPERATOR_SIGN_IN, azure_side, stamp_side as read_stamp_side};
use crate::steps::{self, Deactivate, Doomed, idle, newest_activation, title};

pub(crate) use prepare::refused;
pub use prepare::{Prepared, prepare};

/// The operation's name.
pub const NAME: &str = "register";
/// The version of its steps: a journal of another version is not resumed.
pub const VERSION: u32 = 2;
/// How many steps it has at most.
pub const STEPS: usize = 12;

/// Waits for an activation or deactivation that an earlier client has begun: what it leads to decides what is left to do.
/// Returns whether there was one.
///
/// # Errors
/// It does not end, or the stamp can't be asked.
pub async fn wait_for_running<A, S: Stamp, R, C: Clock>(
    world: World<'_, A, S, R, C>,
    watch: &mut dyn Watch,
) -> Result<bool, PortError> {
    let watch = std::cell::RefCell::new(watch);
    let waited = std::cell::Cell::new(false);
    for action in [Action::NewAzureStackActivation, Action::RemoveAzureStackActivation] {
        retry::read(world.clock, Policy::STAMP, async || {
            let idle = idle(world.stamp, action).await;
            if let Err(error) = &idle
                && error.class == crate::ports::Class::Busy
            {
                waited.set(true);
                watch.borrow_mut().waiting(&error.problem.message);
            }
            idle
        })
        .await?;
    }
    Ok(waited.get())
}

/// The first line of a journal.
#[must_use]
pub fn opening(operation: &str, version: u32, request: &impl serde::Serialize, cloud_id: Uuid) -> Event {
    Event::Opened {
        operation: operation.into(),
        version,
        azsreg: env!("CARGO_PKG_VERSION").into(),
        cloud_id,
        who: who(),
        request: serde_json::to_value(request).unwrap_or_default(),
    }
}

/// Writes the first line, if the journal is new.
pub(crate) fn open<J: Journal, C: Clock>(
    journal: &mut J,
    clock: &C,
    operation: &str,
    version: u32,
    request: &impl serde::Serialize,
    cloud_id: Uuid,
) -> Result<(), Failure> {
    if journal.events().is_empty() {
        let opened = journal.append(clock.now(), opening(operation, version, request, cloud_id));
        opened.map_err(|error| Failure::before(error.problem()))?;
    }
    Ok(())
}

/// Records what was seen, unless the newest record says the same.
pub(crate) fn saw<J: Journal, C: Clock>(journal: &mut J, clock: &C, mark: Mark) -> Result<(), Failure> {
    if seen(journal.events()) == Some(&mark) {
        return Ok(());
    }
    journal.append(clock.now(), Event::Seen(mark)).map_err(|error| Failure::before(error.problem()))
}

/// A request as journals keep it: what was registered, whichever command and with whatever words asked for it.
#[must_use]
pub fn canonical(request: &RegisterRequest, cloud_id: Uuid) -> RegisterRequest {
    RegisterRequest { name: Some(request.name_for(cloud_id)), location: None, tenant: None, ..request.clone() }
}

/// With `--plan`: what would be done.
#[must_use]
pub fn planned<C: Clock>(prepared: Prepared, request: &RegisterRequest, clock: &C) -> Report {
    let plan = prepared.plan(request);
    let report = prepared.report(Outcome::Planned, clock.now());
    Report { plan, ..report }
}

/// Everything is as asked already.
#[must_use]
pub fn nothing_to_do<C: Clock>(prepared: Prepared, clock: &C) -> Report {
    prepared.report(Outcome::NothingToDo, clock.now())
}

/// Registers: what a person asked for, from the first look to the report.
///
/// # Errors
/// A check failed, or a step did; the same command goes on from there.
pub async fn run<A: Azure, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    request: &RegisterRequest,
    information: StampInformation,
    desk: &mut Desk<'_, B>,
) -> Result<Report, Failure> {
    let session = desk.begin(world.clock, information.cloud_id, NAME)?;
    if !desk.plan {
        wait_for_running(world, desk.watch).await?;
    }
    settle(world, (NAME, request, None), information, session.history, desk).await
}

/// The checks, then the plan or the steps. The lock is held by the caller, who says what was agreed to in this run.
pub(crate) async fn settle<A: Azure, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    (operation, request, agreed): (&'static str, &RegisterRequest, Option<Mark>),
    information: StampInformation,
    history: History<B::Journal>,
    desk: &mut Desk<'_, B>,
) -> Result<Report, Failure> {
    let cloud_id = information.cloud_id;
    let value = serde_json::to_value(canonical(request, cloud_id)).unwrap_or_default();
    let (mut past, mut open) = history.past(operation, VERSION, &value).map_err(Failure::before)?;
    if !past.open.is_empty() && !is_as_seen(world.azure, world.clock, &past.open).await? {
        if request.replaces.is_some() && agreed.is_none() {
            let what = "the registration was written to since the interrupted run was agreed to";
            return Err(Failure::before(changed_meanwhile(what)));
        }
        // Somebody has written since: what the interrupted run did is not what is there.
        (past.open, past.suspect, open) = (Vec::new(), true, None);
    }
    let mut prepared = prepare(world, request, information, past).await?;
    if let Some(agreed) = agreed {
        prepared.compare(agreed)?;
    }
    let unsaid = checks::unsaid(&prepared.stamp);
    let warnings = checks::warned(&prepared.found.subscription);
    for warning in warnings.iter().chain(&unsaid).chain(&prepared.found.unchecked) {
        desk.watch.warning(warning);
    }
    if let Some(old) = prepared.remove.as_ref().filter(|old| old.id.subscription != request.subscription) {
        checks::leaving(world.azure, world.clock, old.id.subscription, desk.watch).await;
    }
    if desk.plan {
        return Ok(Report { operation, ..planned(prepared, request, world.clock) });
    }
    if prepared.nothing_to_do() && open.is_none() {
        return Ok(Report { operation, ..nothing_to_do(prepared, world.clock) });
    }
    let turns = prepared.turns(request);
    if operation == NAME && !turns.is_empty() && !prepared.as_asked {
        desk.watch.note(&format!("{} is there, and is turned: {turns}.", prepared.id.name));
    }
    let mut journal = desk.journal(open, world.clock, cloud_id, operation)?;
    register(world, operation, request, prepared, &mut journal, desk.watch).await
}

/// Runs the steps. `journal` is new, or an open one of the same request; `operation` is the command's name in it.
///
/// # Errors
/// The step that failed; the same command goes on from there.
pub async fn register<A: Azure, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    operation: &'static str,
    request: &RegisterRequest,
    prepared: Prepared,
    journal: &mut J,
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    let created = prepared.was_created();
    let mark = prepared.mark();
    let world = world.readable(&prepared.stamp_side);
    let Prepared { stamp: information, id, found, azure: before, as_asked, activated, remove, doomed, .. } = prepared;
    let World { azure, stamp, clock, .. } = world;
    open(journal, clock, operation, VERSION, &canonical(request, information.cloud_id), information.cloud_id)?;
    saw(journal, clock, mark)?;
    let requests = || azure.take_request_ids();
    // Those of the checks are nobody's.
    drop(requests());
    let mut steps = Steps::new(journal, clock, watch, &requests);

    // Azure before the stamp: what Azure alone can refuse comes first.
    let provider = steps::provider(&mut steps, azure, found.subscription.id).await?;
    steps::resource_group(&mut steps, azure, &id, &found.location).await?;

    if let Some(remove) = &remove {
        if remove.deactivate {
            steps::deactivation(&mut steps, world, &information, Deactivate::InPlaceOf(&remove.id, &id)).await?;
        }
        let etag = doomed.as_ref().and_then(|doomed| doomed.etag.as_deref());
        let doomed = Doomed { id: &remove.id, cloud_id: Some(information.cloud_id), etag };
        steps::remove(&mut steps, azure, clock, doomed).await?;
    }

    // What is left may be the lock or the role alone: then the stamp is left in peace.
    let settled = before.registration.and_then(|r| r.object_id).filter(|_| as_asked && activated.is_some());
    let renewed = Cell::new(false);
    if settled.is_some() {
        steps.not_needed("key-pair", "the stamp is activated as asked");
    } else {
        steps::key_pair(&mut steps, stamp, &information, &renewed).await?;
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

    // A new key pair wants a new token.
    let known = as_asked && !renewed.get();
    let vouched = activated.filter(|_| !renewed.get());
    let as_wanted = |now: &Registration| {
        now.cloud_id == Some(information.cloud_id)
            && now.object_id == Some(principal)
            && now.billing_model.eq_ignore_ascii_case(request.billing_model.wire())
    };
    let line = |now: &Registration| format!("{}, {}", now.id.name, now.billing_model);
    let recorded = steps.recorded("registration").unwrap_or(Value::Null);
    let hosts = Cell::new(recorded["hosts"].as_u64());
    // Made by this operation where nothing was before: a record that names it can only be of its own key.
    let created = created || recorded["created"] == Value::Bool(true);
    let owner = Cell::new(principal);
    let etag = RefCell::new(None);
    // A provider that is not known everywhere yet is no reason to ask the stamp for another token.
    let waiting: RefCell<Option<RegistrationToken>> = RefCell::new(None);
    let (odd, strict) = (RefCell::new(None), steps.strict());
    let registered = steps
        .step(
            "registration",
            title("registration"),
            Policy::STAMP,
            async || {
                if !known {
                    return Ok(None);
                }
                let now = azure.registration(&id).await?;
                Ok(now.filter(&as_wanted).map(|now| {
                    let line = line(&now);
                    etag.replace(now.etag);
                    ((), line)
                }))
            },
            async || {
                let kept = waiting.take();
                let token = match kept {
                    Some(token) => token,
                    None => {
                        let (token, said) = new_token(stamp, request.into(), &information, strict).await?;
                        odd.replace(said);
                        token
                    }
                };
                hosts.set(Some(hosts_of(&token)));
                let answer = steps::written(azure.put_registration(&id, &token).await, provider);
                let now = answer.inspect_err(|error| {
                    if error.class == Class::Busy {
                        waiting.replace(Some(token.clone()));
                    }
                })?;
                // The token knows the stamp's principal best: it may have been made anew since it was recorded.
                owner.set(now.object_id.unwrap_or(principal));
                let line = line(&now);
                etag.replace(now.etag);
                Ok(Some(((), line)))
            },
            |()| json!({ "created": created, "hosts": hosts.get(), "tenant": tenant, "id": id, "etag": *etag.borrow() }),
        )
        .await;
    steps.warn(odd.take());
    registered?;

    steps::lock(&mut steps, azure, &id).await?;
    steps::role(&mut steps, azure, &id, Some(owner.get())).await?;

    let good = |r: &ActivationRecord| r.has_flags(request.usage_reporting, request.marketplace);
    let before = vouched.as_ref().and_then(|run| run.as_deref());
    let wanted = steps::Wanted { id: &id, trusted: vouched.is_some() || created, before, good: &good };
    let key = async || retry::read(clock, Policy::AZURE, async || azure.activation_key(&id).await).await;
    let run = steps::activation(&mut steps, world, &information, wanted, key).await?;

    let last = |error: PortError| steps.failure("activation", *error.problem);
    let azure_now = azure_side(azure, clock, &id).await.map_err(last)?;
    let stamp_now = read_stamp_side(world, information.clone()).await.map_err(last)?;
    // Somebody else may have worked on either side while this ran.
    let ours = azure_now.registration.as_ref().filter(|now| now.cloud_id == Some(information.cloud_id));
    let ours = ours.is_some_and(|now| etag.borrow().is_none() || now.etag == *etag.borrow());
    let newest = if stamp_now.unread.is_some() && run.is_some() {
        newest_activation(stamp, clock).await.map_err(last)?
    } else {
        run.clone()
    };
    let what = match (ours, newest == run) {
        (true, true) => None,
        (false, _) => Some(format!("{id} was changed or removed while this ran")),
        (true, false) => Some("the stamp was activated or deactivated while this ran".to_owned()),
    };
    if let Some(what) = what {
        return Err(steps.failure("activation", changed_meanwhile(what)));
    }
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
    // A directory that can't be asked is no reason to say nothing of the rest.
    let rights = if created { azure.directory_rights(Some(owner.get())).await.ok() } else { None };
    let blocked = rights.and_then(|rights| rights.ad_graph?.warning());
    steps.warn(blocked);
    Ok(Report {
        warnings: steps.take_warnings(),
        steps: steps.into_reports(),
        status: Some(StatusReport::of(clock.now(), Ok(azure_now), Ok(stamp_now), &Known::default())),
        ..Report::new(operation, outcome, information.cloud_id, Some(id))
    })
}

impl From<&RegisterRequest> for TokenRequest {
    fn from(request: &RegisterRequest) -> Self {
        Self {
            billing_model: request.billing_model,
            agreement_number: request.agreement_number.clone(),
            ms_asset_tag: request.ms_asset_tag.clone(),
            usage_reporting: request.usage_reporting,
            marketplace: request.marketplace,
            version: request.token_version,
        }
    }
}

/// How many hosts a token describes; 0 where it can't be read, so that no earlier number is taken for this one.
pub(crate) fn hosts_of(token: &RegistrationToken) -> u64 {
    let hosts = token.decode().ok().and_then(|contents| contents.hosts);
    hosts.and_then(|hosts| u64::try_from(hosts).ok()).unwrap_or_default()
}

/// A token from the stamp, compared before it goes anywhere as far as it can be read, and what is to be said of it. What the
/// build does not know is not sent; of a build that is not said only what the operator asks for is.
pub(crate) async fn new_token<S: Stamp>(
    stamp: &S,
    asked: TokenRequest,
    information: &StampInformation,
    strict: bool,
) -> Result<forms::Found<RegistrationToken>, PortError> {
    let build = information.version;
    let model = asked.billing_model;
    let asked = TokenRequest {
        ms_asset_tag: asked.ms_asset_tag.filter(|_| build.is_none_or(StampVersion::knows_custom_billing)),
        version: match build {
            Some(build) => build.token_version().map(|default| asked.version.unwrap_or(default)),
            None => asked.version,
        },
        ..asked
    };
    let token = stamp.new_registration_token(&asked).await?;
    let malformed = |message: String| PortError::permanent(Problem::new(&code::MALFORMED_TOKEN, message));
    let (contents, said) = forms::token(&token, strict).map_err(PortError::permanent)?;
    if let Some(other) = contents.cloud_id.filter(|id| *id != information.cloud_id) {
        return Err(malformed(format!(
            "the token is of the stamp {other}, but the stamp says that it is {}",
            information.cloud_id
        )));
    }
    if let Some(other) = contents.billing_model.filter(|other| *other != model) {
        return Err(malformed(format!("the token says {other} billing, not {model}")));
    }
    Ok((token, said))
}
