//! Takes over a stamp that something else registered, mostly the PowerShell module: reads both sides and keeps what a later
//! `renew` or `set` wants to know. Changes nothing.

use azsreg_model::{Known, Outcome, Problem, RegisterRequest, Report, StepReport, StepState, code};
use serde_json::json;
use uuid::Uuid;

use crate::change::{Change, Wishes, derive};
use crate::engine::Failure;
use crate::engine::journal::{Event, Journal};
use crate::ports::{Azure, Clock, Records, Stamp, World};
use crate::register;
use crate::status;

/// The operation's name.
pub const NAME: &str = "adopt";
/// The version of its record.
pub const VERSION: u32 = 1;

/// Reads both sides and journals what they say.
///
/// # Errors
/// The stamp is not registered, or a side can't be read.
pub async fn adopt<A: Azure, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    subscription: Uuid,
    wishes: &Wishes,
    journal: &mut J,
) -> Result<(RegisterRequest, Report), Failure> {
    let World { stamp, clock, .. } = world;
    let information = stamp.information().await?;
    let cloud_id = information.cloud_id;
    let none = &mut |_: &str, _: Option<&azsreg_model::Remembered>| None;
    let derived = derive(world, Change::Adopt, subscription, wishes, &information, &Known::default(), none).await?;
    let report = status::status(world, subscription, None, |_| Default::default()).await;
    let (azure_side, stamp_side) = match (&report.azure, &report.stamp) {
        (Ok(azure), Ok(stamp)) => (azure, stamp),
        (Err(problem), _) | (_, Err(problem)) => return Err(Failure::before(problem.clone())),
    };
    let Some(registration) = &azure_side.registration else {
        return Err(Failure::before(Problem::new(&code::NOT_REGISTERED, "Azure has no registration of this stamp")));
    };
    let tenant = azure_side.tenant.as_deref();
    register::open(journal, clock, NAME, VERSION, &derived.request, cloud_id)?;
    let detail = format!("{}, {}", registration.id.name, registration.billing_model);
    let output = json!({
        "created": false, "hosts": azure_side.hosts, "tenant": tenant, "id": registration.id, "etag": registration.etag,
        "lock": azure_side.lock.as_ref().map(|lock| &lock.name),
        "role": azure_side.role.as_ref().map(|role| &role.name),
        "expires": azure_side.expires, "activated_for": stamp_side.activation.as_ref().map(|record| &record.registration),
    });
    let failed = |error: crate::engine::journal::JournalError| Failure::before(error.problem());
    let step = StepReport { step: "registration", state: StepState::AlreadyDone, detail: detail.clone() };
    let event = Event::Succeeded {
        step: "registration".into(),
        state: StepState::AlreadyDone,
        detail,
        output,
        requests: Vec::new(),
    };
    journal.append(clock.now(), event).map_err(failed)?;
    journal.append(clock.now(), Event::Finished { outcome: "adopted".into() }).map_err(failed)?;
    let report = Report {
        steps: vec![step],
        status: Some(report.clone()),
        ..Report::new(NAME, Outcome::Done, cloud_id, Some(registration.id.clone()))
    };
    Ok((derived.request, report))
}
