//! At the stamp: a registration token, and for a renewal the deactivation before it.

use std::cell::{Cell, RefCell};

use azsreg_model::{
    Bundle, BundleKind, Outcome, PlannedStep, Receipt, RegisterRequest, RegistrationId, Report, StampInformation,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Deliver, VERSION, hand_over, is_as_agreed, look, planned, quiet};
use crate::checks;
use crate::engine::history::seen;
use crate::engine::journal::{Event, Journal, Mark, request_of};
use crate::engine::retry::Policy;
use crate::engine::session::{Agreed, Books, Desk, Question};
use crate::engine::{Failure, Steps, Watch};
use crate::ports::{Clock, Records, Stamp, TokenRequest, World};
use crate::register::{self as connected, refused};
use crate::steps::{self, Deactivate, title};

/// A token, and before it the deactivation where a renewal needs one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TokenOrder {
    /// What the token says. Subscription and name are Azure's side and are not known here.
    details: RegisterRequest,
    /// A renewal: with a receipt.
    renewal: bool,
    /// Whether the stamp is deactivated first.
    deactivate: bool,
    /// The registration that the stamp was activated for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registration: Option<RegistrationId>,
}

impl TokenOrder {
    /// The steps that would run.
    fn plan(&self, information: &StampInformation) -> Vec<PlannedStep> {
        let key_pair = information.has_key_pair();
        let mut plan = Vec::new();
        if self.deactivate {
            plan.push(planned("deactivation", true, "Remove-AzureStackActivation on the stamp"));
        }
        plan.push(planned("key-pair", key_pair, "Set-RegistrationKeyPair on the stamp"));
        plan.push(planned("token", true, "New-RegistrationToken on the stamp, and write the file"));
        plan
    }

    /// The operation's name.
    fn name(&self) -> &'static str {
        if self.renewal { "offline-renew-start" } else { "offline-token" }
    }
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
    if let Some(warning) = checks::unsaid(information) {
        desk.watch.warning(&warning);
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
    let (order, mark, world) = loop {
        if !renewal {
            break (plain, Mark::default(), world);
        }
        let (side, mark) = look(world, information).await?;
        let readable = world.readable(&side);
        let record = side.activation.as_ref();
        if let Some(begun) = begun.as_ref().filter(|_| is_as_agreed(&side, &mark, session.history.begun())) {
            let mark = seen(session.history.begun()).cloned().unwrap_or_default();
            break (begun.clone(), mark, readable);
        }
        let in_place =
            !raw && known.details.as_ref().is_some_and(|before| {
                // Turning usage reporting off is a plain update under the same name: nothing is undone. A raw file holds no
                // receipt, so that the visit at Azure could not tell: there all is undone.
                let details = &plain.details;
                let same = RegisterRequest { usage_reporting: details.usage_reporting, ..before.clone() } == *details;
                same && before.usage_reporting && !details.usage_reporting
            }) && record.is_some_and(|record| !record.is_expired(world.clock.now()))
                && (known.hosts.is_none_or(|hosts| information.nodes.is_none_or(|nodes| hosts == nodes as usize)));
        let registration = record.map(|record| record.registration.clone());
        // What an interrupted run found is not to be seen any more where it has deactivated the stamp.
        // Where the record is not read it may be another by now.
        let earlier = begun.as_ref().or(before.as_ref()).filter(|_| side.unread.is_none());
        let registration = registration.or_else(|| earlier?.registration.clone());
        let order = TokenOrder { deactivate: !in_place, registration, ..plain.clone() };
        if in_place || desk.plan {
            break (order, mark, readable);
        }
        let until = "will be deactivated until the new key is carried back to it";
        let what = match &mark.record {
            Some(id) => format!("The stamp {cloud_id}, which is activated for {id}, {until}."),
            None => format!("The stamp {cloud_id} {until}."),
        };
        if agreed.covers(&Question { what, mark: mark.clone() }, desk.consent)? {
            break (order, mark, readable);
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
    let (odd, strict) = (RefCell::new(None), steps.strict());
    let token = steps
        .step(
            "token",
            title("token"),
            Policy::STAMP,
            async || Ok(None),
            async || {
                let asked = TokenRequest::from(&order.details);
                let (token, said) = connected::new_token(stamp, asked, information, strict).await?;
                odd.replace(said);
                let digest = token.digest();
                Ok(Some((token, format!("sha256:{digest}"))))
            },
            |token| json!({ "digest": token.digest(), "hosts": connected::hosts_of(token) }),
        )
        .await;
    steps.warn(odd.take());
    let token = token?;
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
    Ok(Report { warnings: steps.take_warnings(), steps: steps.into_reports(), ..report })
}
