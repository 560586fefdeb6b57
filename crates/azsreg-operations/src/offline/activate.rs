//! At the stamp: the activation with a carried key.

use azsreg_model::{
    ActivationKey, ActivationRecord, AzureSide, Known, Outcome, Problem, RegistrationId, Report, StampInformation,
    StampSide, StatusReport, code,
};
use serde::{Deserialize, Serialize};

use super::{VERSION, planned, quiet};
use crate::engine::history::Past;
use crate::engine::journal::{Event, Journal, succeeded};
use crate::engine::session::{Books, Desk, changed_meanwhile};
use crate::engine::{Failure, Steps, Watch};
use crate::forms;
use crate::ports::{Clock, PortError, Records, Stamp, World};
use crate::register::{self as connected, refused};
use crate::status::stamp_side;
use crate::steps;

/// At the stamp: the activation with a carried key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ActivateRequest {
    /// The registration that the key is of.
    id: RegistrationId,
    /// The key's digest.
    key: String,
    /// Of a renewal.
    renewal: bool,
}

impl ActivateRequest {
    /// The operation's name.
    fn name(&self) -> &'static str {
        if self.renewal { "offline-renew-finish" } else { "offline-activate" }
    }
}

/// A carried key, and what was carried with it.
#[derive(Debug)]
pub struct CarriedKey<'k> {
    /// The key.
    pub key: &'k ActivationKey,
    /// The registration that it is of, where the file or the operator says it.
    pub registration: Option<RegistrationId>,
    /// The digest of the token that it comes of.
    pub token_digest: Option<&'k str>,
}

impl<'k> CarriedKey<'k> {
    /// A key without anything besides.
    #[must_use]
    pub fn bare(key: &'k ActivationKey) -> Self {
        Self { key, registration: None, token_digest: None }
    }
}

/// Compares a carried key with the stamp, as far as it can be read: cloud id, expiry.
///
/// # Errors
/// What does not fit, or nothing says which registration it is of.
fn compare<C: Clock>(
    clock: &C,
    carried: &CarriedKey<'_>,
    information: &StampInformation,
) -> Result<RegistrationId, Problem> {
    let again = "On the machine with internet: azsreg offline key; carry that file.";
    let claims =
        carried.key.decode().map_err(|error| Problem::new(&code::MALFORMED_KEY, error.to_string()).next(again))?;
    if let Some(other) = claims.cloud_id.filter(|other| *other != information.cloud_id) {
        let message = format!("the key is for the stamp {other}; this stamp is {}", information.cloud_id);
        return Err(Problem::new(&code::BUNDLE_OTHER_STAMP, message));
    }
    if let Some(over) = claims.expires.filter(|end| *end <= clock.now()) {
        let message = format!("the key expired at {over:.0}");
        return Err(Problem::new(&code::MALFORMED_KEY, message)
            .cause("The registration's year is over, or this machine's or the stamp's clock is wrong.")
            .next("At the stamp: azsreg offline renew start."));
    }
    carried.registration.clone().or_else(|| claims.registration()).ok_or_else(|| {
        let message = "the key does not say of which registration it is";
        let next = "Add --subscription and --name (and --resource-group, where it is not azurestack); or carry the key as a bundle, which names it.";
        Problem::new(&code::BAD_ARGUMENT, message).next(next)
    })
}

/// At the stamp: activates with a carried key, from the first look to the report.
///
/// # Errors
/// The key does not fit, or a step failed; the same command goes on from there.
pub async fn run_activate<A, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    carried: &CarriedKey<'_>,
    renewal: bool,
    information: &StampInformation,
    desk: &mut Desk<'_, B>,
) -> Result<Report, Failure> {
    let CarriedKey { key, token_digest, .. } = *carried;
    let id = compare(world.clock, carried, information).map_err(Failure::before)?;
    // What is refused is refused before anything is begun; what is said is said by the step.
    let known = (information.cloud_id, &id);
    forms::key(key, known, world.clock.now(), desk.watch.strict()).map_err(Failure::before)?;
    let request = ActivateRequest { id, key: key.digest(), renewal };
    let session = desk.begin(world.clock, information.cloud_id, request.name())?;
    if !desk.plan {
        connected::wait_for_running(world, desk.watch).await?;
    }
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
    if desk.plan {
        let side = stamp_side(world, information.clone()).await?;
        let of_this = side.activation.as_ref().is_some_and(|record| record.is_of(&request.id));
        let done = of_this && !past.finished.is_empty();
        let detail = match done {
            true => format!("the stamp is activated for {}", request.id),
            false => format!("New-AzureStackActivation on the stamp, for {}", request.id),
        };
        let report = Report::new(request.name(), Outcome::Planned, information.cloud_id, Some(request.id.clone()));
        return Ok(Report { plan: vec![planned("activation", !done, detail)], ..report });
    }
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
    let world = world.readable(&side);
    let trusted = !past.finished.is_empty();
    let wanted = steps::Wanted { id: &request.id, trusted, before: past.activation(), good: &good };
    steps::activation(&mut steps, world, information, wanted, async || Ok(key.clone())).await?;
    let last = |error: PortError| steps.failure("activation", *error.problem);
    let now = stamp_side(world, information.clone()).await.map_err(last)?;
    let read = now.unread.is_none();
    if read && now.activation.as_ref().is_none_or(|record| record.registration != request.id) {
        let what = "the stamp was activated or deactivated while this ran";
        return Err(steps.failure("activation", changed_meanwhile(what)));
    }
    steps.finish(if read { "verified" } else { "not read" })?;
    let outcome = if read { Outcome::Verified } else { Outcome::ActivatedUnread };
    let report = Report::new(request.name(), outcome, information.cloud_id, Some(request.id.clone()));
    let warnings = steps.take_warnings();
    Ok(Report { warnings, steps: steps.into_reports(), status: Some(stamp_only(clock, now)), ..report })
}

fn stamp_only<C: Clock>(clock: &C, side: StampSide) -> StatusReport {
    let unseen = Problem::new(&code::AZURE_UNREACHABLE, "not asked: this machine is at the stamp");
    let report = StatusReport::of(clock.now(), Err(unseen), Ok(side), &Known::default());
    StatusReport { azure: Ok(AzureSide { not_asked: true, ..AzureSide::default() }), ..report }
}

/// The digest of the newest token that this machine asked the stamp for, out of its journals.
#[must_use]
fn newest_token(journals: &[Vec<Event>]) -> Option<String> {
    let digest = |events: &Vec<_>| succeeded(events, "token")?["digest"].as_str().map(str::to_owned);
    journals.iter().rev().find_map(digest)
}
