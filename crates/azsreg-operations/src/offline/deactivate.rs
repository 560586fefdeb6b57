//! At the stamp: the deactivation, and the receipt that the removal in Azure asks for.

use azsreg_model::{Bundle, BundleKind, Outcome, PlannedStep, Receipt, RegistrationId, Report, StampInformation};
use serde::{Deserialize, Serialize};

use super::{Deliver, VERSION, hand_over, is_as_agreed, look, planned, quiet};
use crate::engine::journal::{Event, Journal, Mark, request_of};
use crate::engine::session::{Agreed, Books, Desk, Question};
use crate::engine::{Failure, Steps, Watch};
use crate::ports::{Clock, Records, Stamp, World};
use crate::register as connected;
use crate::steps::{self, Deactivate};

/// The operation's name.
const DEACTIVATE: &str = "offline-deactivate";

/// A deactivation as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DeactivateRequest {
    /// The registration that the stamp was activated for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registration: Option<RegistrationId>,
}

/// What a deactivation would do.
#[must_use]
fn plan_deactivation(active: bool) -> Vec<PlannedStep> {
    vec![planned("deactivation", active, "Remove-AzureStackActivation on the stamp, and a receipt")]
}

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
    let (registration, side, mark) = loop {
        let (side, mark) = look(world, information).await?;
        let active = mark.record.is_some() || side.unread.is_some();
        if desk.plan {
            let report = Report::new(DEACTIVATE, Outcome::Planned, cloud_id, mark.record);
            return Ok(Report { plan: plan_deactivation(active), lost: mark.lost, ..report });
        }
        // What is not to be seen may be another registration than the one that was deactivated before.
        let earlier = begun.as_ref().or(before.as_ref()).filter(|_| side.unread.is_none());
        let registration = mark.record.clone().or_else(|| earlier?.registration.clone());
        if !active || begun.is_some() && is_as_agreed(&side, &mark, session.history.begun()) {
            break (registration, side, mark);
        }
        let what = match &mark.record {
            Some(id) => format!("The stamp {cloud_id}, which is activated for {id}, will be deactivated."),
            None => format!("The stamp {cloud_id} will be deactivated."),
        };
        if agreed.covers(&Question { what, mark: mark.clone() }, desk.consent)? {
            break (registration, side, mark);
        }
    };
    let request = DeactivateRequest { registration };
    let value = serde_json::to_value(&request).unwrap_or_default();
    let (_, open) = session.history.past(DEACTIVATE, VERSION, &value).map_err(Failure::before)?;
    let mut journal = desk.journal(open, world.clock, cloud_id, DEACTIVATE)?;
    deactivate(world.readable(&side), request, mark, information, &mut journal, desk.watch, deliver).await
}

async fn deactivate<A, S: Stamp, R: Records, C: Clock, J: Journal>(
    world: World<'_, A, S, R, C>,
    request: DeactivateRequest,
    mark: Mark,
    information: &StampInformation,
    journal: &mut J,
    watch: &mut dyn Watch,
    deliver: Deliver<'_>,
) -> Result<Report, Failure> {
    let clock = world.clock;
    let cloud_id = information.cloud_id;
    connected::open(journal, clock, DEACTIVATE, VERSION, &request, cloud_id)?;
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
