//! Registers a disconnected stamp, one visit after the other: the article's "Register disconnected with capacity billing" and
//! "Renew or change registration in disconnected environments". Two machines share nothing but the carried file.
//!
//! At the stamp: [`token`], [`activate`], [`deactivate`]. In Azure: [`register`], [`key`], and
//! [`unregister`](crate::unregister). What a renewal undoes it undoes in the article's order, stamp first: the file carries the
//! receipt.

use std::cell::Cell;

use azsreg_model::{
    ActivationKey, ActivationRecord, Bundle, BundleKind, Outcome, PlannedStep, Problem, Receipt, RegisterRequest,
    Registration, RegistrationId, RegistrationToken, Report, StampInformation, StampSide, TokenContents, code,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::change::items;
use crate::checks::{self, Target};
use crate::engine::history::{Past, is_as_seen, seen};
use crate::engine::journal::{Event, Journal, Mark, Marked, request_of, succeeded};
use crate::engine::retry::{self, Policy};
use crate::engine::session::{Agreed, Books, Desk, Question};
use crate::engine::{Failure, Steps, Watch};
use crate::ports::{Azure, Clock, PortError, Records, Stamp, TokenRequest, World};
use crate::register::{self as connected, refused};
use crate::status::{find, stamp_side};
use crate::steps::{self, Deactivate, Doomed, foreign_locks, title};

/// The version of these operations' steps.
pub const VERSION: u32 = 1;
/// How many steps they have at most.
pub const STEPS: usize = 8;

/// Hands the file over: written before the operation is recorded as ended.
pub type Deliver<'d> = &'d mut dyn FnMut(&Bundle) -> Result<(), Problem>;

fn quiet() -> Vec<String> {
    Vec::new()
}

/// A token, and before it the deactivation where a renewal needs one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenOrder {
    /// What the token says. Subscription and name are Azure's side and are not known here.
    pub details: RegisterRequest,
    /// A renewal: with a receipt.
    pub renewal: bool,
    /// Whether the stamp is deactivated first.
    pub deactivate: bool,
    /// The registration that the stamp was activated for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationId>,
}

/// A step of a plan.
fn planned(step: &'static str, changes: bool, detail: impl Into<String>) -> PlannedStep {
    PlannedStep { step, changes, detail: detail.into() }
}

/// What a deactivation would do.
#[must_use]
pub fn plan_deactivation(active: bool) -> Vec<PlannedStep> {
    vec![planned("deactivation", active, "Remove-AzureStackActivation on the stamp, and a receipt")]
}

impl TokenOrder {
    /// The steps that would run.
    #[must_use]
    pub fn plan(&self, information: &StampInformation) -> Vec<PlannedStep> {
        let key_pair = information.version.has_key_pair(information.nodes);
        let mut plan = Vec::new();
        if self.deactivate {
            plan.push(planned("deactivation", true, "Remove-AzureStackActivation on the stamp"));
        }
        plan.push(planned("key-pair", key_pair, "Set-RegistrationKeyPair on the stamp"));
        plan.push(planned("token", true, "New-RegistrationToken on the stamp, and write the file"));
        plan
    }

    /// The operation's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.renewal { "offline-renew-start" } else { "offline-token" }
    }
}

/// Whether what was agreed to for a stamp is what is there, but for what an interrupted run did. Where the record is not to be
/// seen, nothing says so.
fn is_as_agreed(side: &StampSide, begun: &[Event]) -> bool {
    let Some(mark) = seen(begun) else { return false };
    let recorded = side.activation.as_ref().map(|record| &record.registration);
    side.unread.is_none() && recorded.is_none_or(|id| Some(id) == mark.record.as_ref())
}

fn mark_of(side: &StampSide) -> Mark {
    let record = side.activation.as_ref().map(|record| record.registration.clone());
    Mark { registrations: Vec::new(), record }
}

/// The world with its records where they could be read.
fn readable<'w, A, S, R, C>(world: World<'w, A, S, R, C>, side: &StampSide) -> World<'w, A, S, R, C> {
    World { records: world.records.filter(|_| side.unread.is_none()), ..world }
}

/// At the stamp: a token, and for a renewal the deactivation, from the first look to the file. `raw` files bear no receipt.
///
/// # Errors
/// It was not agreed to, a check failed, or a step did; the same command goes on from there.
pub async fn run_token<A, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    (details, renewal, raw): (RegisterRequest, bool, bool),
    information: &StampInformation,
    desk: &mut Desk<'_, B>,
    deliver: Deliver<'_>,
) -> Result<Report, Failure> {
    let cloud_id = information.cloud_id;
    let plain = TokenOrder { details, renewal, deactivate: false, registration: None };
    let name = plain.name();
    let session = desk.begin(world.clock, cloud_id, name)?;
    let problems = checks::stamp(&plain.details, information);
    if !problems.is_empty() {
        return Err(refused(problems));
    }
    // What runs on the stamp decides what a renewal finds; a token alone does not look.
    if renewal && !desk.plan {
        connected::wait_for_running(world, desk.watch).await?;
    }
    let known = session.history.known();
    let begun = order_of(session.history.begun(), &plain);
    // A renewal that this machine has begun before knows what the stamp was activated for.
    let before = session.history.ended.last().and_then(|events| order_of(events, &plain));
    let mut agreed = Agreed::default();
    let (order, mark) = loop {
        if !renewal {
            break (plain, Mark::default());
        }
        let side = stamp_side(world, information.clone()).await?;
        let record = side.activation.as_ref();
        if let Some(begun) = begun.as_ref().filter(|_| is_as_agreed(&side, session.history.begun())) {
            let mark = seen(session.history.begun()).cloned().unwrap_or_default();
            break (begun.clone(), mark);
        }
        let in_place =
            !raw && known.details.as_ref().is_some_and(|before| {
                // Turning usage reporting off is a plain update under the same name: nothing is undone. A raw file holds no
                // receipt, so that the visit at Azure could not tell: there all is undone.
                let details = &plain.details;
                let same = RegisterRequest { usage_reporting: details.usage_reporting, ..before.clone() } == *details;
                same && before.usage_reporting && !details.usage_reporting
            }) && record.is_some_and(|record| !record.is_expired(world.clock.now()))
                && known.hosts.is_none_or(|hosts| hosts == information.nodes as usize);
        let registration = record.map(|record| record.registration.clone());
        // What an interrupted run found is not to be seen any more where it has deactivated the stamp.
        let registration = registration.or_else(|| begun.as_ref().or(before.as_ref())?.registration.clone());
        let order = TokenOrder { deactivate: !in_place, registration, ..plain.clone() };
        if in_place || desk.plan {
            break (order, mark_of(&side));
        }
        let active = record.is_some() || side.unread.is_some();
        let lost = if active { items(readable(world, &side), information).await? } else { Vec::new() };
        let what = format!("The stamp {cloud_id} will be deactivated until the new key is carried back to it.");
        if agreed.covers(&Question { what, lost, mark: mark_of(&side) }, desk.consent)? {
            break (order, mark_of(&side));
        }
    };
    if desk.plan {
        let report = Report::new(name, Outcome::Planned, cloud_id, order.registration.clone());
        return Ok(Report { plan: order.plan(information), ..report });
    }
    if renewal && !order.deactivate {
        desk.watch
            .note("A plain update: usage reporting goes off under the same name. Nothing is deactivated or removed.");
    }
    let value = serde_json::to_value(&order).unwrap_or_default();
    let (_, open) = session.history.past(name, VERSION, &value).map_err(Failure::before)?;
    let mut journal = desk.journal(open, world.clock, cloud_id, name)?;
    token(world, &order, mark, information, &mut journal, desk.watch, deliver).await
}

/// The order of an interrupted run that asked for the same.
fn order_of(events: &[Event], asked: &TokenOrder) -> Option<TokenOrder> {
    let order: TokenOrder = serde_json::from_value(request_of(events)?.clone()).ok()?;
    (order.details == asked.details && order.renewal == asked.renewal).then_some(order)
}

/// At the stamp: the key pair, the token, and for a renewal the deactivation before them.
///
/// # Errors
/// The step that failed; the same command goes on from there.
async fn token<A, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    order: &TokenOrder,
    mark: Mark,
    information: &StampInformation,
    journal: &mut J,
    watch: &mut dyn Watch,
    deliver: Deliver<'_>,
) -> Result<Report, Failure> {
    let World { stamp, clock, .. } = world;
    let cloud_id = information.cloud_id;
    connected::open(journal, clock, order.name(), VERSION, order, cloud_id)?;
    let recorded = mark.record.clone();
    connected::saw(journal, clock, mark)?;
    let mut steps = Steps::new(journal, clock, watch, &quiet);
    if order.deactivate {
        steps::deactivation(&mut steps, world, information, Deactivate::For(recorded.as_ref())).await?;
    }
    let deactivated_at = order.deactivate.then(|| clock.now());
    steps::key_pair(&mut steps, stamp, information, &Cell::new(false)).await?;
    let token = steps
        .step(
            "token",
            title("token"),
            Policy::STAMP,
            async || Ok(None),
            async || {
                let token = connected::new_token(stamp, TokenRequest::from(&order.details), information).await?;
                let digest = token.digest();
                Ok(Some((token, format!("sha256:{digest}"))))
            },
            |token| {
                let hosts = token.decode().ok().map(|contents| contents.hosts);
                json!({ "digest": token.digest(), "hosts": hosts })
            },
        )
        .await?;
    let kind = if order.renewal { BundleKind::RenewalToken } else { BundleKind::RegistrationToken };
    let receipt = order.renewal.then(|| Receipt { deactivated_at, registration: order.registration.clone() });
    let bundle = Bundle {
        registration: order.registration.clone(),
        token: Some(token),
        receipt,
        ..Bundle::new(kind, cloud_id, clock.now())
    };
    hand_over(&steps, "token", deliver, &bundle)?;
    steps.finish("token handed over")?;
    let report = Report::new(order.name(), Outcome::Done, cloud_id, order.registration.clone());
    Ok(Report { steps: steps.into_reports(), ..report })
}

fn hand_over<J: Journal, C: Clock>(
    steps: &Steps<'_, J, C>,
    step: &'static str,
    deliver: Deliver<'_>,
    bundle: &Bundle,
) -> Result<(), Failure> {
    deliver(bundle).map_err(|problem| steps.failure(step, problem))
}

/// In Azure: a registration out of a carried token, and for a renewal the removal of the old one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflineRequest {
    /// The registration to be.
    pub id: RegistrationId,
    /// The resource group's location, where the operator names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The stamp.
    pub cloud_id: Uuid,
    /// The token's digest.
    pub token: String,
    /// The registration to remove first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<RegistrationId>,
    /// When the stamp was deactivated, as the file's receipt says: it tells one renewal from the next, where a stamp
    /// without a key pair gives the same token twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deactivated_at: Option<Timestamp>,
    /// A renewal: the key goes into a file of that kind.
    pub renewal: bool,
}

impl OfflineRequest {
    /// The operation's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.renewal { "offline-renew-register" } else { "offline-register" }
    }
}

/// What the checks found in Azure.
pub struct Prepared {
    provider: bool,
    group: bool,
    location: String,
    registration: Option<Registration>,
    remove: Option<Registration>,
}

impl Prepared {
    /// Whether a registration that is there will be updated in place.
    #[must_use]
    pub fn updates(&self) -> bool {
        self.registration.is_some() && self.remove.is_none()
    }

    /// The steps that would run.
    #[must_use]
    pub fn plan(&self, request: &OfflineRequest) -> Vec<PlannedStep> {
        let id = &request.id;
        let mut plan = Vec::new();
        if let Some(old) = &self.remove {
            let old = &old.id;
            plan.push(planned("unlock", true, format!("lift the lock from {}", old.name)));
            plan.push(planned("role-removal", true, "remove the stamp's role from it, if it has one"));
            plan.push(planned("removal", true, format!("delete {old}")));
        }
        plan.push(planned("provider", !self.provider, "register Microsoft.AzureStack in the subscription"));
        plan.push(planned("resource-group", !self.group, format!("{} in {}", id.resource_group, self.location)));
        let verb = if self.updates() { "update" } else { "create" };
        plan.push(planned("registration", true, format!("{verb} {} with the carried token", id.name)));
        plan.push(planned("lock", !self.updates(), "RegistrationResourceLock (CanNotDelete)"));
        plan.push(planned("key", true, "fetch the activation key and write the file"));
        plan
    }

    /// The registration that will be removed first.
    #[must_use]
    pub fn removes(&self) -> Option<&RegistrationId> {
        self.remove.as_ref().map(|old| &old.id)
    }

    fn mark(&self, request: &OfflineRequest) -> Mark {
        let mut registrations = vec![Marked::of(&request.id, self.registration.as_ref())];
        if let Some(old) = self.remove.as_ref().filter(|old| old.id != request.id) {
            registrations.push(Marked::of(&old.id, Some(old)));
        }
        Mark { registrations, record: None }
    }
}

/// A visit at Azure with a carried token.
#[derive(Debug)]
pub struct Visit<'v> {
    /// The subscription.
    pub subscription: Uuid,
    /// The resource group, unless the registration that is renewed says it.
    pub resource_group: String,
    /// The registration's name, where the operator gives one.
    pub name: Option<String>,
    /// The resource group's location, where the operator names one.
    pub location: Option<String>,
    /// The token.
    pub token: &'v RegistrationToken,
    /// The stamp that it is of.
    pub cloud_id: Uuid,
    /// What was done at the stamp before.
    pub receipt: Option<Receipt>,
    /// A renewal.
    pub renewal: bool,
    /// The carried file, as it is to be named.
    pub file: String,
}

/// In Azure: registers or renews with a carried token, from the first look to the file.
///
/// # Errors
/// It was not agreed to, a check failed, or a step did; the same command goes on from there.
pub async fn run_register<A: Azure, C: Clock, B: Books>(
    azure: &A,
    clock: &C,
    visit: &Visit<'_>,
    desk: &mut Desk<'_, B>,
    deliver: Deliver<'_>,
) -> Result<Report, Failure> {
    let Visit { cloud_id, renewal, .. } = *visit;
    let name = if renewal { "offline-renew-register" } else { "offline-register" };
    let session = desk.begin(clock, cloud_id, name)?;
    let history = session.history;
    let mut request = request_for(azure, clock, visit).await?;
    if let (Some(old), Some(at), None) = (&request.remove, request.deactivated_at, &history.open)
        && registered_since(azure, clock, old, at).await?
        && history.ended.is_empty()
    {
        // Another machine, or this one before its journal was lost, came as far: there is nothing old to remove.
        request.remove = None;
    }
    let deactivated = request.deactivated_at.is_some();
    let already = request.deactivated_at.is_some_and(|at| renewed_before(&history.ended, &request.token, at));
    let value = serde_json::to_value(&request).unwrap_or_default();
    let (mut past, mut open) = history.past(name, VERSION, &value).map_err(Failure::before)?;
    if !past.open.is_empty() && !is_as_seen(azure, clock, &past.open).await? {
        (past.open, past.suspect, open) = (Vec::new(), true, None);
    }
    if renewal && past.finished.is_empty() && past.open.is_empty() && already {
        let message = format!("{}: the renewal that this file asks for was made before", visit.file);
        let next = format!(
            "To fetch its key again: azsreg offline key --subscription {} --cloud-id {cloud_id} --out KEY. To renew once more, at the stamp: azsreg offline renew start.",
            visit.subscription
        );
        return Err(refused(vec![Problem::new(&code::BUNDLE_STALE, message).next(next)]));
    }
    let mut agreed = Agreed::default();
    let prepared = loop {
        let prepared = prepare(azure, clock, &request, &past).await?;
        if desk.plan {
            let report = Report::new(name, Outcome::Planned, cloud_id, Some(request.id.clone()));
            return Ok(Report { plan: prepared.plan(&request), ..report });
        }
        let Some(old) = prepared.removes().filter(|_| past.open.is_empty()) else { break prepared };
        let what = if deactivated {
            format!("{old} will be deleted, and made anew. The stamp was deactivated before.")
        } else {
            format!(
                "{old} will be deleted, and made anew. The file does not say that the stamp was deactivated: make sure that it was."
            )
        };
        let question = Question { what, lost: Vec::new(), mark: prepared.mark(&request) };
        if agreed.covers(&question, desk.consent)? {
            break prepared;
        }
    };
    if prepared.updates() && past.open.is_empty() {
        let note = format!("{} exists and is this stamp's: it is updated in place.", request.id.name);
        desk.watch.note(&note);
    }
    let mut journal = desk.journal(open, clock, cloud_id, name)?;
    register(azure, clock, &request, visit.token, prepared, &mut journal, desk.watch, deliver).await
}

/// The registration to be, and for a renewal the one to remove: what the receipt names, or what has the cloud id.
async fn request_for<A: Azure, C: Clock>(azure: &A, clock: &C, visit: &Visit<'_>) -> Result<OfflineRequest, Failure> {
    let Visit { subscription, cloud_id, renewal, .. } = *visit;
    let receipt = visit.receipt.as_ref();
    let mut request = OfflineRequest {
        id: RegistrationId {
            subscription,
            resource_group: visit.resource_group.clone(),
            name: visit.name.clone().unwrap_or_else(|| format!("AzureStack-{cloud_id}")),
        },
        location: visit.location.clone(),
        cloud_id,
        token: visit.token.digest(),
        remove: None,
        deactivated_at: receipt.and_then(|receipt| receipt.deactivated_at),
        renewal,
    };
    if renewal {
        let named = receipt.and_then(|receipt| receipt.registration.clone());
        let before = match named {
            Some(id) => Some(id),
            None => {
                let mut found = registration_of(azure, clock, subscription, cloud_id).await?;
                if found.len() > 1 {
                    let message = format!("{cloud_id} has {} registrations", found.len());
                    let mut problem = Problem::new(&code::DETAILS_UNKNOWN, message);
                    problem.details = found.iter().map(ToString::to_string).collect();
                    let next = "Say which is to be renewed with --name and --resource-group.";
                    return Err(refused(vec![problem.next(next)]));
                }
                found.pop()
            }
        };
        if let (Some(before), None) = (&before, &visit.name) {
            request.id = before.clone();
        }
        // A raw token bears no receipt: whoever carries one has deactivated the stamp by hand.
        let plain = receipt.is_some_and(|receipt| receipt.deactivated_at.is_none());
        request.remove = before.filter(|_| !plain);
    }
    request.id.check().map_err(|why| refused(vec![Problem::new(&code::BAD_ARGUMENT, why.to_string())]))?;
    Ok(request)
}

/// Decodes a carried token: which member is wrong, which version.
///
/// # Errors
/// It is malformed.
pub fn decode(token: &RegistrationToken) -> Result<TokenContents, Problem> {
    token.decode().map_err(|error| {
        Problem::new(&code::MALFORMED_TOKEN, error.to_string())
            .next("Carry the file once more from the stamp, as a file: a copy from a screen is wrapped.")
    })
}

/// The registration of a cloud id, for a renewal that does not know its name.
///
/// # Errors
/// Azure could not be asked.
pub async fn registration_of<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    subscription: Uuid,
    cloud_id: Uuid,
) -> Result<Vec<RegistrationId>, Failure> {
    checks::subscription(azure, clock, subscription).await?.map_err(|problem| refused(vec![problem]))?;
    Ok(find(azure, clock, subscription, cloud_id).await?.into_iter().map(|registration| registration.id).collect())
}

/// Whether a run that ended has made the renewal that a receipt stands for.
#[must_use]
pub fn renewed_before(ended: &[Vec<Event>], token: &str, deactivated_at: Timestamp) -> bool {
    ended.iter().any(|events| {
        request_of(events)
            .is_some_and(|request| request["token"] == token && request["deactivated_at"] == json!(deactivated_at))
            && succeeded(events, "registration").is_some()
    })
}

/// Whether a registration was made after a time, as its key's year tells: what was to be removed then is gone.
///
/// # Errors
/// Azure could not be asked.
pub async fn registered_since<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
    at: Timestamp,
) -> Result<bool, PortError> {
    let Some(there) = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await? else {
        return Ok(false);
    };
    let year = SignedDuration::from_hours(365 * 24);
    Ok(checks::expiry(azure, clock, &there).await?.is_some_and(|end| end > clock.now() && end - year > at))
}

/// Makes every check in Azure. Changes nothing.
///
/// # Errors
/// All refused checks together, or what could not be asked.
async fn prepare<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    request: &OfflineRequest,
    past: &Past,
) -> Result<Prepared, Failure> {
    let target = Target {
        id: &request.id,
        cloud_id: request.cloud_id,
        location: request.location.as_deref(),
        connected: false,
        replaced: request.remove.as_ref(),
    };
    let mut problems = Vec::new();
    let found = match checks::azure(azure, clock, target).await? {
        Ok(found) => found,
        Err(problems) => return Err(refused(problems)),
    };
    let mut remove = None;
    if let Some(id) = request.remove.as_ref().filter(|_| past.finished.is_empty() || request.deactivated_at.is_none()) {
        let there = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?;
        // What the run that this one goes on from has made in its place is not removed again.
        let own = past.has("removal");
        if let Some(there) = there.filter(|there| !own && there.cloud_id == Some(request.cloud_id)) {
            problems.extend(
                checks::missing_actions(
                    azure,
                    clock,
                    &id.to_string(),
                    checks::REMOVAL,
                    "removing the old registration",
                )
                .await?,
            );
            problems.extend(foreign_locks(azure, clock, id, false).await?);
            remove = Some(there);
        }
    }
    if remove.is_none()
        && let Some(registration) = &found.registration
        && checks::expiry(azure, clock, registration).await?.is_some_and(|end| end <= clock.now())
    {
        let message = format!("the registration {} has expired", registration.id.name);
        problems.push(
            Problem::new(&code::EXPIRED_NOT_UPDATED, message)
                .next("At the stamp: azsreg offline renew start; then here: azsreg offline renew register FILE."),
        );
    }
    if !problems.is_empty() {
        return Err(refused(problems));
    }
    Ok(Prepared {
        provider: found.provider,
        group: found.group.is_some(),
        location: found.location,
        registration: found.registration,
        remove,
    })
}

/// In Azure: [the old registration goes,] the provider, the group, the registration, the lock, the key.
///
/// # Errors
/// The step that failed; the same command goes on from there.
#[allow(clippy::too_many_arguments)]
async fn register<A: Azure, C: Clock, J: Journal>(
    azure: &A,
    clock: &C,
    request: &OfflineRequest,
    token: &RegistrationToken,
    prepared: Prepared,
    journal: &mut J,
    watch: &mut dyn Watch,
    deliver: Deliver<'_>,
) -> Result<Report, Failure> {
    let OfflineRequest { id, cloud_id, .. } = request;
    let contents = decode(token).map_err(Failure::before)?;
    connected::open(journal, clock, request.name(), VERSION, request, *cloud_id)?;
    connected::saw(journal, clock, prepared.mark(request))?;
    let requests = || azure.take_request_ids();
    drop(requests());
    let mut steps = Steps::new(journal, clock, watch, &requests);
    if let Some(old) = &prepared.remove {
        let doomed = Doomed { id: &old.id, cloud_id: Some(*cloud_id), etag: old.etag.as_deref() };
        steps::remove(&mut steps, azure, clock, doomed).await?;
    }
    steps::provider(&mut steps, azure, id.subscription).await?;
    steps::resource_group(&mut steps, azure, id, &prepared.location).await?;
    let written = steps.recorded("registration").is_some();
    let line = |now: &Registration| format!("{}, {}", now.id.name, now.billing_model);
    let etag = std::cell::RefCell::new(None);
    let line = |now: Registration| {
        let line = line(&now);
        etag.replace(now.etag);
        ((), line)
    };
    steps
        .step(
            "registration",
            title("registration"),
            Policy::AZURE,
            async || {
                let now = if written { azure.registration(id).await? } else { None };
                let ours = now.filter(|now| now.cloud_id == Some(*cloud_id));
                Ok(ours.map(line))
            },
            async || Ok(Some(line(azure.put_registration(id, token).await?))),
            |()| json!({ "hosts": contents.hosts, "id": id, "etag": *etag.borrow() }),
        )
        .await?;
    steps::lock(&mut steps, azure, id).await?;
    steps::role(&mut steps, azure, id, contents.object_id).await?;
    let key = steps
        .step(
            "key",
            title("key"),
            Policy::AZURE,
            async || Ok(None),
            async || {
                let key = fetch(azure, clock, id, *cloud_id).await?;
                let digest = key.digest();
                Ok(Some((key, format!("sha256:{digest}"))))
            },
            |key| json!({ "digest": key.digest() }),
        )
        .await?;
    let kind = if request.renewal { BundleKind::RenewalKey } else { BundleKind::ActivationKey };
    let bundle = Bundle {
        registration: Some(id.clone()),
        key: Some(key),
        token_digest: Some(request.token.clone()),
        ..Bundle::new(kind, *cloud_id, clock.now())
    };
    hand_over(&steps, "key", deliver, &bundle)?;
    steps.finish("key handed over")?;
    let report = Report::new(request.name(), Outcome::Done, *cloud_id, Some(id.clone()));
    Ok(Report { steps: steps.into_reports(), ..report })
}

async fn fetch<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
    cloud_id: Uuid,
) -> Result<ActivationKey, PortError> {
    let key = azure.activation_key(id).await?;
    key.check(cloud_id, id, clock.now())
        .map_err(|error| PortError::permanent(Problem::new(&code::MALFORMED_KEY, error.to_string())))?;
    Ok(key)
}

/// In Azure: the key of a registration, once more.
///
/// # Errors
/// The registration is missing, or its key can't be had.
pub async fn key<A: Azure, C: Clock>(azure: &A, clock: &C, id: &RegistrationId) -> Result<Bundle, Failure> {
    checks::subscription(azure, clock, id.subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let there = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?;
    let Some(cloud_id) = there.and_then(|there| there.cloud_id) else {
        let message = format!("there is no registration {} in the resource group {}", id.name, id.resource_group);
        let next = format!("azsreg list --subscription {}", id.subscription);
        return Err(Failure::before(Problem::new(&code::REGISTRATION_MISSING, message).next(next)));
    };
    let key = retry::read(clock, Policy::AZURE, async || fetch(azure, clock, id, cloud_id).await).await?;
    Ok(Bundle {
        registration: Some(id.clone()),
        key: Some(key),
        ..Bundle::new(BundleKind::ActivationKey, cloud_id, clock.now())
    })
}

/// At the stamp: the activation with a carried key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivateRequest {
    /// The registration that the key is of.
    pub id: RegistrationId,
    /// The key's digest.
    pub key: String,
    /// Of a renewal.
    pub renewal: bool,
}

impl ActivateRequest {
    /// The operation's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.renewal { "offline-renew-finish" } else { "offline-activate" }
    }
}

/// Compares a carried key with the stamp: form, cloud id, expiry.
///
/// # Errors
/// What does not fit.
pub fn compare<C: Clock>(
    clock: &C,
    key: &ActivationKey,
    information: &StampInformation,
) -> Result<RegistrationId, Problem> {
    let again = "On the machine with internet: azsreg offline key; carry that file.";
    let claims = key.decode().map_err(|error| Problem::new(&code::MALFORMED_KEY, error.to_string()).next(again))?;
    if claims.cloud_id != information.cloud_id {
        let message = format!("the key is for the stamp {}; this stamp is {}", claims.cloud_id, information.cloud_id);
        return Err(Problem::new(&code::BUNDLE_OTHER_STAMP, message));
    }
    if claims.expires <= clock.now() {
        let message = format!("the key expired at {:.0}", claims.expires);
        return Err(Problem::new(&code::MALFORMED_KEY, message)
            .cause("The registration's year is over, or this machine's or the stamp's clock is wrong.")
            .next("At the stamp: azsreg offline renew start."));
    }
    Ok(claims.registration)
}

/// At the stamp: activates with a carried key, from the first look to the report.
///
/// # Errors
/// The key does not fit, or a step failed; the same command goes on from there.
pub async fn run_activate<A, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    key: &ActivationKey,
    token_digest: Option<&str>,
    renewal: bool,
    information: &StampInformation,
    desk: &mut Desk<'_, B>,
) -> Result<Report, Failure> {
    let id = compare(world.clock, key, information).map_err(Failure::before)?;
    let request = ActivateRequest { id, key: key.digest(), renewal };
    let session = desk.begin(world.clock, information.cloud_id, request.name())?;
    connected::wait_for_running(world, desk.watch).await?;
    if let (Some(newest), Some(of)) = (newest_token(&session.history.ended), token_digest)
        && newest != *of
    {
        let message =
            format!("the key comes of the token sha256:{of}; the newest token of this stamp is sha256:{newest}");
        let next = "Carry the newest token to Azure, and the key that comes of it back.";
        return Err(refused(vec![Problem::new(&code::BUNDLE_STALE, message).next(next)]));
    }
    let value = serde_json::to_value(&request).unwrap_or_default();
    let (past, open) = session.history.past(request.name(), VERSION, &value).map_err(Failure::before)?;
    let mut journal = desk.journal(open, world.clock, information.cloud_id, request.name())?;
    activate(world, &request, key, information, &past, &mut journal, desk.watch).await
}

/// At the stamp: activates and reads the record back.
///
/// # Errors
/// The step that failed; the same command goes on from there.
async fn activate<A, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    request: &ActivateRequest,
    key: &ActivationKey,
    information: &StampInformation,
    past: &Past,
    journal: &mut J,
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    let clock = world.clock;
    let claims =
        key.decode().map_err(|error| Failure::before(Problem::new(&code::MALFORMED_KEY, error.to_string())))?;
    connected::open(journal, clock, request.name(), VERSION, request, information.cloud_id)?;
    let mut steps = Steps::new(journal, clock, watch, &quiet);
    let good = |record: &ActivationRecord| {
        let same = |flag: Option<bool>, claim: Option<bool>| flag.is_none() || claim.is_none() || flag == claim;
        same(record.usage_reporting, claims.usage_reporting) && same(record.marketplace, claims.marketplace)
    };
    let side =
        stamp_side(world, information.clone()).await.map_err(|error| steps.failure("activation", *error.problem))?;
    let world = readable(world, &side);
    let trusted = !past.finished.is_empty();
    let wanted = steps::Wanted { id: &request.id, trusted, before: past.activation(), good: &good };
    steps::activation(&mut steps, world, information, wanted, async || Ok(key.clone())).await?;
    let last = |error: PortError| steps.failure("activation", *error.problem);
    let now = stamp_side(world, information.clone()).await.map_err(last)?;
    let read = now.unread.is_none();
    if read && now.activation.as_ref().is_none_or(|record| record.registration != request.id) {
        let what = "the stamp was activated or deactivated while this ran";
        return Err(steps.failure("activation", crate::engine::session::changed_meanwhile(what)));
    }
    steps.finish(if read { "verified" } else { "not read" })?;
    let outcome = if read { Outcome::Verified } else { Outcome::ActivatedUnread };
    let report = Report::new(request.name(), outcome, information.cloud_id, Some(request.id.clone()));
    Ok(Report { steps: steps.into_reports(), status: Some(stamp_only(clock, now)), ..report })
}

fn stamp_only<C: Clock>(clock: &C, side: azsreg_model::StampSide) -> azsreg_model::StatusReport {
    let unseen = Problem::new(&code::AZURE_UNREACHABLE, "not asked: this machine is at the stamp");
    azsreg_model::StatusReport::of(clock.now(), Err(unseen), Ok(side), &azsreg_model::Known::default())
}

/// The operation's name.
const DEACTIVATE: &str = "offline-deactivate";

/// At the stamp: deactivates, and leaves the receipt that the undo in Azure wants; from the first look to the file.
///
/// # Errors
/// It was not agreed to, or the step failed; the same command goes on from there.
pub async fn run_deactivate<A, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    information: &StampInformation,
    desk: &mut Desk<'_, B>,
    deliver: Deliver<'_>,
) -> Result<Report, Failure> {
    let cloud_id = information.cloud_id;
    let session = desk.begin(world.clock, cloud_id, DEACTIVATE)?;
    if !desk.plan {
        connected::wait_for_running(world, desk.watch).await?;
    }
    let of = |events: &[Event]| {
        let ours = matches!(events.first(), Some(Event::Opened { operation, .. }) if operation == DEACTIVATE);
        let request: Option<DeactivateRequest> = serde_json::from_value(request_of(events)?.clone()).ok();
        request.filter(|_| ours)
    };
    let begun = of(session.history.begun());
    // The newest run may have deactivated the stamp: what it was activated for is in no other place.
    let before = session.history.ended.last().and_then(|events| of(events));
    let mut agreed = Agreed::default();
    let (registration, side) = loop {
        let side = stamp_side(world, information.clone()).await?;
        let recorded = side.activation.as_ref().map(|record| record.registration.clone());
        let active = recorded.is_some() || side.unread.is_some();
        let lost = if active { items(readable(world, &side), information).await? } else { Vec::new() };
        if desk.plan {
            let report = Report::new(DEACTIVATE, Outcome::Planned, cloud_id, recorded);
            return Ok(Report { plan: plan_deactivation(active), lost, ..report });
        }
        let earlier = begun.as_ref().or(before.as_ref()).and_then(|request| request.registration.clone());
        let registration = recorded.or(earlier);
        if !active || is_as_agreed(&side, session.history.begun()) {
            break (registration, side);
        }
        let what = format!("The stamp {cloud_id} will be deactivated.");
        if agreed.covers(&Question { what, lost, mark: mark_of(&side) }, desk.consent)? {
            break (registration, side);
        }
    };
    let request = DeactivateRequest { registration };
    let value = serde_json::to_value(&request).unwrap_or_default();
    let (_, open) = session.history.past(DEACTIVATE, VERSION, &value).map_err(Failure::before)?;
    let mut journal = desk.journal(open, world.clock, cloud_id, DEACTIVATE)?;
    deactivate(world, request, &side, information, &mut journal, desk.watch, deliver).await
}

async fn deactivate<A, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    request: DeactivateRequest,
    side: &StampSide,
    information: &StampInformation,
    journal: &mut J,
    watch: &mut dyn Watch,
    deliver: Deliver<'_>,
) -> Result<Report, Failure> {
    let clock = world.clock;
    let cloud_id = information.cloud_id;
    let world = readable(world, side);
    connected::open(journal, clock, DEACTIVATE, VERSION, &request, cloud_id)?;
    let mark = mark_of(side);
    let recorded = mark.record.clone();
    connected::saw(journal, clock, mark)?;
    let mut steps = Steps::new(journal, clock, watch, &quiet);
    steps::deactivation(&mut steps, world, information, Deactivate::For(recorded.as_ref())).await?;
    let registration = request.registration;
    let receipt = Receipt { deactivated_at: Some(clock.now()), registration: registration.clone() };
    let bundle = Bundle {
        registration: registration.clone(),
        receipt: Some(receipt),
        ..Bundle::new(BundleKind::Deactivation, cloud_id, clock.now())
    };
    hand_over(&steps, "deactivation", deliver, &bundle)?;
    steps.finish("receipt handed over")?;
    Ok(Report { steps: steps.into_reports(), ..Report::new(DEACTIVATE, Outcome::Done, cloud_id, registration) })
}

/// A deactivation as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeactivateRequest {
    /// The registration that the stamp was activated for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationId>,
}

/// The digest of the newest token that this machine asked the stamp for, out of its journals.
#[must_use]
pub fn newest_token(journals: &[Vec<crate::engine::journal::Event>]) -> Option<String> {
    let digest =
        |events: &Vec<_>| crate::engine::journal::succeeded(events, "token")?["digest"].as_str().map(str::to_owned);
    journals.iter().rev().find_map(digest)
}
