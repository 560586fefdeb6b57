//! In Azure: a registration out of a carried token, and its activation key.

use azsreg_model::{
    ActivationKey, Bundle, BundleKind, Outcome, PlannedStep, Problem, Receipt, Registration, RegistrationId,
    RegistrationToken, Report, TokenContents, code,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{Deliver, VERSION, hand_over, planned};
use crate::checks::{self, Target};
use crate::engine::history::{History, Past, is_as_seen, seen};
use crate::engine::journal::{Event, Journal, Mark, Marked, request_of, succeeded};
use crate::engine::retry::{self, Policy};
use crate::engine::session::{Agreed, Books, Desk, Question};
use crate::engine::{Failure, Steps, Watch};
use crate::forms;
use crate::ports::{Azure, Clock, PortError, Provider};
use crate::register::{self as connected, refused};
use crate::status::find;
use crate::steps::{self, Doomed, lock, title};

/// In Azure: a registration out of a carried token, and for a renewal the removal of the old one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OfflineRequest {
    /// The registration to be.
    id: RegistrationId,
    /// The resource group's location, where the operator names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    /// The stamp.
    cloud_id: Uuid,
    /// The token's digest.
    token: String,
    /// The registration to remove first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remove: Option<RegistrationId>,
    /// When the stamp was deactivated, as the file's receipt says: it tells one renewal from the next, where a stamp
    /// without a key pair gives the same token twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deactivated_at: Option<Timestamp>,
    /// A renewal: the key goes into a file of that kind.
    renewal: bool,
}

impl OfflineRequest {
    /// The operation's name.
    fn name(&self) -> &'static str {
        if self.renewal { "offline-renew-register" } else { "offline-register" }
    }
}

/// What the checks found in Azure.
struct Prepared {
    provider: bool,
    group: bool,
    location: String,
    registration: Option<Registration>,
    remove: Option<Registration>,
    /// What could not be checked, for the operator to know.
    unchecked: Vec<Problem>,
}

impl Prepared {
    /// Whether a registration that is there will be updated in place.
    fn updates(&self) -> bool {
        self.registration.is_some() && self.remove.is_none()
    }

    /// The steps that would run.
    fn plan(&self, request: &OfflineRequest) -> Vec<PlannedStep> {
        let id = &request.id;
        let mut plan = Vec::new();
        plan.push(planned("provider", !self.provider, "register Microsoft.AzureStack in the subscription"));
        plan.push(planned("resource-group", !self.group, format!("{} in {}", id.resource_group, self.location)));
        if let Some(old) = &self.remove {
            let old = &old.id;
            plan.push(planned("unlock", true, format!("lift the lock from {}", old.name)));
            plan.push(planned("role-removal", true, "remove the stamp's role from it, if it has one"));
            plan.push(planned("removal", true, format!("delete {old}")));
        }
        let verb = if self.updates() { "update" } else { "create" };
        plan.push(planned("registration", true, format!("{verb} {} with the carried token", id.name)));
        plan.push(planned("lock", !self.updates(), "RegistrationResourceLock (CanNotDelete)"));
        plan.push(planned("key", true, "fetch the activation key and write the file"));
        plan
    }

    /// The registration that will be removed first.
    fn removes(&self) -> Option<&RegistrationId> {
        self.remove.as_ref().map(|old| &old.id)
    }

    fn mark(&self, request: &OfflineRequest) -> Mark {
        let mut registrations = vec![Marked::of(&request.id, self.registration.as_ref())];
        if let Some(old) = self.remove.as_ref().filter(|old| old.id != request.id) {
            registrations.push(Marked::of(&old.id, Some(old)));
        }
        Mark { registrations, ..Mark::default() }
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
    let name = if visit.renewal { "offline-renew-register" } else { "offline-register" };
    // What is refused is refused before anybody is asked.
    forms::token(visit.token, desk.watch.strict()).map_err(Failure::before)?;
    let session = desk.begin(clock, visit.cloud_id, name)?;
    let begun = session.history.begun().to_vec();
    let ended = go_on(azure, clock, (name, visit), session.history, desk, deliver).await;
    if desk.plan { ended } else { lock::or_put_back(azure, clock, &begun, ended).await }
}

/// The looks, the plan or the question, and the steps, under the lock on the stamp.
async fn go_on<A: Azure, C: Clock, B: Books>(
    azure: &A,
    clock: &C,
    (name, visit): (&'static str, &Visit<'_>),
    history: History<B::Journal>,
    desk: &mut Desk<'_, B>,
    deliver: Deliver<'_>,
) -> Result<Report, Failure> {
    let Visit { cloud_id, renewal, .. } = *visit;
    let mut request = request_for(azure, clock, visit).await?;
    let since = match (&request.remove, request.deactivated_at) {
        (Some(old), Some(at)) if history.open.is_none() => registered_since(azure, clock, old, at).await?,
        _ => Some(false),
    };
    let already = request.deactivated_at.is_some_and(|at| renewed_before(&history.ended, &request.token, at));
    if since == Some(true) && !already {
        // Another machine, or this one before its journal was lost, came as far: there is nothing old to remove.
        request.remove = None;
    }
    let deactivated = request.deactivated_at.is_some();
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
        if !agreed.asked() {
            prepared.unchecked.iter().for_each(|problem| desk.watch.warning(problem));
        }
        if desk.plan {
            let report = Report::new(name, Outcome::Planned, cloud_id, Some(request.id.clone()));
            return Ok(Report { plan: prepared.plan(&request), ..report });
        }
        let Some(old) = prepared.removes().filter(|_| seen(&past.open).is_none()) else { break prepared };
        let known = match since {
            _ if !deactivated => "The file does not say that the stamp was deactivated: make sure that it was.",
            None => {
                "The stamp was deactivated before. Azure does not say whether it was registered again since: make sure that it was not."
            }
            Some(_) => "The stamp was deactivated before.",
        };
        let what = format!("{old} will be deleted, and made anew. {known}");
        let question = Question { what, mark: prepared.mark(&request) };
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

/// Reads a carried token, as far as azsreg knows its form.
///
/// # Errors
/// It was damaged on its way.
pub fn decode(token: &RegistrationToken) -> Result<TokenContents, Problem> {
    token.decode().map_err(|error| {
        Problem::new(&code::MALFORMED_TOKEN, error.to_string())
            .next("Carry the file again from the stamp, as a file: a copy from a screen is wrapped.")
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
fn renewed_before(ended: &[Vec<Event>], token: &str, deactivated_at: Timestamp) -> bool {
    ended.iter().any(|events| {
        request_of(events)
            .is_some_and(|request| request["token"] == token && request["deactivated_at"] == json!(deactivated_at))
            && succeeded(events, "registration").is_some()
    })
}

/// Whether a registration was made after a time, as its key's year tells: what was to be removed then is gone. Only capacity
/// registrations have a year; of any other it is not known.
///
/// # Errors
/// Azure could not be asked.
pub(crate) async fn registered_since<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
    at: Timestamp,
) -> Result<Option<bool>, PortError> {
    let Some(there) = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await? else {
        return Ok(Some(false));
    };
    let year = SignedDuration::from_hours(365 * 24);
    Ok(checks::expiry(azure, clock, &there).await?.map(|end| end > clock.now() && end - year > at))
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
    let mut found = match checks::azure(azure, clock, target).await? {
        Ok(found) => found,
        Err(problems) => return Err(refused(problems)),
    };
    problems.append(&mut found.stops);
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
            problems.extend(checks::foreign_locks(azure, clock, id, false).await?);
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
    let unchecked = checks::judged(problems).map_err(refused)?;
    found.unchecked.extend(unchecked);
    Ok(Prepared {
        provider: found.provider != Provider::NotRegistered,
        group: found.group.is_some(),
        location: found.location,
        registration: found.registration,
        remove,
        unchecked: found.unchecked,
    })
}

/// In Azure: the provider, the group, [the old registration goes,] the registration, the lock, the key.
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
    let (contents, odd) = forms::token(token, watch.strict()).map_err(Failure::before)?;
    connected::open(journal, clock, request.name(), VERSION, request, *cloud_id)?;
    connected::saw(journal, clock, prepared.mark(request))?;
    let requests = || azure.take_request_ids();
    drop(requests());
    let mut steps = Steps::new(journal, clock, watch, &requests);
    steps.warn(odd);
    // What Azure can refuse comes before the old registration goes.
    let provider = steps::provider(&mut steps, azure, id.subscription).await?;
    steps::resource_group(&mut steps, azure, id, &prepared.location).await?;
    if let Some(old) = &prepared.remove {
        let doomed = Doomed { id: &old.id, cloud_id: Some(*cloud_id), etag: old.etag.as_deref() };
        steps::remove(&mut steps, azure, clock, doomed).await?;
    }
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
            async || Ok(Some(line(steps::written(azure.put_registration(id, token).await, provider)?))),
            |()| json!({ "hosts": connected::hosts_of(token), "id": id, "etag": *etag.borrow() }),
        )
        .await?;
    steps::lock(&mut steps, azure, id).await?;
    steps::role(&mut steps, azure, id, contents.object_id).await?;
    let (odd, strict) = (std::cell::RefCell::new(None), steps.strict());
    let key = steps
        .step(
            "key",
            title("key"),
            Policy::AZURE,
            async || Ok(None),
            async || {
                let (key, said) = fetch(azure, clock, id, *cloud_id, strict).await?;
                odd.replace(said);
                let digest = key.digest();
                Ok(Some((key, format!("sha256:{digest}"))))
            },
            |key| json!({ "digest": key.digest() }),
        )
        .await;
    steps.warn(odd.take());
    let key = key?;
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
    Ok(Report { warnings: steps.take_warnings(), steps: steps.into_reports(), ..report })
}

async fn fetch<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
    cloud_id: Uuid,
    strict: bool,
) -> Result<forms::Found<ActivationKey>, PortError> {
    let key = azure.activation_key(id).await?;
    let (_, said) = forms::key(&key, (cloud_id, id), clock.now(), strict).map_err(PortError::permanent)?;
    Ok((key, said))
}

/// In Azure: the key of a registration, once more.
///
/// # Errors
/// The registration is missing, or its key can't be had.
pub async fn key<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
    watch: &mut dyn Watch,
) -> Result<Bundle, Failure> {
    checks::subscription(azure, clock, id.subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let there = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?;
    let Some(cloud_id) = there.and_then(|there| there.cloud_id) else {
        let message = format!("there is no registration {} in the resource group {}", id.name, id.resource_group);
        let next = format!("azsreg list --subscription {}", id.subscription);
        return Err(Failure::before(Problem::new(&code::REGISTRATION_MISSING, message).next(next)));
    };
    let strict = watch.strict();
    let fetched = retry::read(clock, Policy::AZURE, async || fetch(azure, clock, id, cloud_id, strict).await).await;
    let (key, said) = fetched?;
    if let Some(said) = said {
        watch.warning(&said);
    }
    Ok(Bundle {
        registration: Some(id.clone()),
        key: Some(key),
        ..Bundle::new(BundleKind::ActivationKey, cloud_id, clock.now())
    })
}
