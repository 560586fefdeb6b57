//! Registers a disconnected stamp, one visit after the other: the article's "Register disconnected with capacity billing" and
//! "Renew or change registration in disconnected environments". Two machines share nothing but the carried file.
//!
//! At the stamp: [`token`], [`activate`], [`deactivate`]. In Azure: [`register`], [`key`], and
//! [`unregister`](crate::unregister). What a renewal undoes it undoes in the article's order, stamp first: the file carries the
//! receipt.

use std::cell::Cell;

use azsreg_model::{
    ActivationKey, ActivationRecord, Bundle, BundleKind, Outcome, PlannedStep, Problem, Receipt, RegisterRequest,
    Registration, RegistrationId, RegistrationToken, Report, StampInformation, TokenContents, code,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::checks::{self, Target};
use crate::engine::journal::{Event, Journal, Past, request_of, succeeded};
use crate::engine::retry::{self, Policy};
use crate::engine::{Failure, Steps, Watch};
use crate::ports::{Azure, Clock, PortError, Records, Stamp, TokenRequest, World};
use crate::register::{self as connected, refused};
use crate::status::find;
use crate::steps::{self, foreign_locks, title};

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

/// At the stamp: the key pair, the token, and for a renewal the deactivation before them.
///
/// # Errors
/// The step that failed; the same command goes on from there.
pub async fn token<A, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    order: &TokenOrder,
    information: &StampInformation,
    journal: &mut J,
    watch: &mut dyn Watch,
    deliver: Deliver<'_>,
) -> Result<Report, Failure> {
    let World { stamp, clock, .. } = world;
    let cloud_id = information.cloud_id;
    connected::open(journal, clock, order.name(), VERSION, order, cloud_id)?;
    let mut steps = Steps::new(journal, clock, watch, &quiet);
    if order.deactivate {
        steps::deactivation(&mut steps, world, information, None).await?;
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
    remove: Option<RegistrationId>,
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
        self.remove.as_ref()
    }
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
pub async fn prepare<A: Azure, C: Clock>(
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
    if let Some(id) =
        request.remove.as_ref().filter(|_| !(past.has("removal") || past.finished && request.deactivated_at.is_some()))
    {
        let there = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?;
        if there.is_some_and(|there| there.cloud_id == Some(request.cloud_id)) {
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
            remove = Some(id.clone());
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
pub async fn register<A: Azure, C: Clock, J: Journal>(
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
    let requests = || azure.take_request_ids();
    drop(requests());
    let mut steps = Steps::new(journal, clock, watch, &requests);
    if let Some(old) = &prepared.remove {
        steps::remove(&mut steps, azure, old, Some(*cloud_id)).await?;
    }
    steps::provider(&mut steps, azure, id.subscription).await?;
    steps::resource_group(&mut steps, azure, id, &prepared.location).await?;
    let written = steps.recorded("registration").is_some();
    let line = |now: &Registration| format!("{}, {}", now.id.name, now.billing_model);
    steps
        .step(
            "registration",
            title("registration"),
            Policy::AZURE,
            async || {
                let now = if written { azure.registration(id).await? } else { None };
                let ours = now.filter(|now| now.cloud_id == Some(*cloud_id));
                Ok(ours.map(|now| ((), line(&now))))
            },
            async || {
                let now = azure.put_registration(id, token).await?;
                Ok(Some(((), line(&now))))
            },
            |()| json!({ "hosts": contents.hosts, "id": id }),
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

/// At the stamp: activates and reads the record back.
///
/// # Errors
/// The step that failed; the same command goes on from there.
pub async fn activate<A, S: Stamp, R: Records, C: Clock, J: Journal>(
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
    let wanted = steps::Wanted { id: &request.id, trusted: past.finished, good: &good };
    steps::activation(&mut steps, world, information, wanted, async || Ok(key.clone())).await?;
    let last = |error: PortError| steps.failure("activation", *error.problem);
    let now = crate::status::stamp_side(world, information.clone()).await.map_err(last)?;
    let read = now.unread.is_none();
    steps.finish(if read { "verified" } else { "not read" })?;
    let outcome = if read { Outcome::Verified } else { Outcome::ActivatedUnread };
    let report = Report::new(request.name(), outcome, information.cloud_id, Some(request.id.clone()));
    Ok(Report { steps: steps.into_reports(), status: Some(stamp_only(clock, now)), ..report })
}

fn stamp_only<C: Clock>(clock: &C, side: azsreg_model::StampSide) -> azsreg_model::StatusReport {
    let unseen = Problem::new(&code::AZURE_UNREACHABLE, "not asked: this machine is at the stamp");
    azsreg_model::StatusReport::of(clock.now(), Err(unseen), Ok(side), &azsreg_model::Known::default())
}

/// At the stamp: deactivates, and leaves the receipt that the undo in Azure wants.
///
/// # Errors
/// The step that failed; the same command goes on from there.
pub async fn deactivate<A, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    registration: Option<RegistrationId>,
    information: &StampInformation,
    journal: &mut J,
    watch: &mut dyn Watch,
    deliver: Deliver<'_>,
) -> Result<Report, Failure> {
    const NAME: &str = "offline-deactivate";
    let clock = world.clock;
    let cloud_id = information.cloud_id;
    connected::open(
        journal,
        clock,
        NAME,
        VERSION,
        &DeactivateRequest { registration: registration.clone() },
        cloud_id,
    )?;
    let mut steps = Steps::new(journal, clock, watch, &quiet);
    steps::deactivation(&mut steps, world, information, None).await?;
    let receipt = Receipt { deactivated_at: Some(clock.now()), registration: registration.clone() };
    let bundle = Bundle {
        registration: registration.clone(),
        receipt: Some(receipt),
        ..Bundle::new(BundleKind::Deactivation, cloud_id, clock.now())
    };
    hand_over(&steps, "deactivation", deliver, &bundle)?;
    steps.finish("receipt handed over")?;
    Ok(Report { steps: steps.into_reports(), ..Report::new(NAME, Outcome::Done, cloud_id, registration) })
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
