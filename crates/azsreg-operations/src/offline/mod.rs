//! Registers a disconnected stamp, one visit after the other: the article's "Register disconnected with capacity billing" and
//! "Renew or change registration in disconnected environments". Two machines share nothing but the carried file.
//!
//! At the stamp: [`run_token`], [`run_activate`], [`run_deactivate`]. In Azure: [`run_register`], [`key`], and
//! [`unregister`](crate::unregister). What a renewal undoes it undoes in the article's order, stamp first: the file carries the
//! receipt.

mod activate;
mod deactivate;
mod register;
mod token;

use azsreg_model::{Bundle, PlannedStep, Problem, StampInformation, StampSide};

use crate::change::items;
use crate::engine::history::seen;
use crate::engine::journal::{Event, Journal, Mark};
use crate::engine::{Failure, Steps};
use crate::ports::{Clock, PortError, Records, Stamp, World};
use crate::status::stamp_side;
use crate::steps::unread_activation;

pub use activate::{CarriedKey, run_activate};
pub use deactivate::run_deactivate;
pub(crate) use register::registered_since;
pub use register::{Visit, decode, key, registration_of, run_register};
pub use token::run_token;

/// The version of these operations' steps.
pub const VERSION: u32 = 1;

/// How many steps they have at most.
pub const STEPS: usize = 8;

/// Hands the file over: written before the operation is recorded as ended.
pub type Deliver<'d> = &'d mut dyn FnMut(&Bundle) -> Result<(), Problem>;

fn quiet() -> Vec<String> {
    Vec::new()
}

/// A step of a plan.
fn planned(step: &'static str, changes: bool, detail: impl Into<String>) -> PlannedStep {
    PlannedStep { step, changes, detail: detail.into() }
}

/// Whether what was agreed to for a stamp is what is there, but for what an interrupted run did. Where the record is not to be
/// seen, nothing says so.
fn is_as_agreed(side: &StampSide, now: &Mark, begun: &[Event]) -> bool {
    let Some(mark) = seen(begun) else { return false };
    side.unread.is_none() && (now.record.is_none() || now.record == mark.record) && mark.covers(now)
}

/// What a deactivation takes away: what the stamp is activated for, and what it loses.
async fn look<A, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    information: &StampInformation,
) -> Result<(StampSide, Mark), PortError> {
    let side = stamp_side(world, information.clone()).await?;
    let record = side.activation.as_ref().map(|record| record.registration.clone());
    let active = record.is_some() || side.unread.is_some();
    let lost = if active { items(world.readable(&side), information).await? } else { Vec::new() };
    let activation = unread_activation(world, &side).await?;
    Ok((side, Mark { record, lost, activation, ..Mark::default() }))
}

fn hand_over<J: Journal, C: Clock>(
    steps: &Steps<'_, J, C>,
    step: &'static str,
    deliver: Deliver<'_>,
    bundle: &Bundle,
) -> Result<(), Failure> {
    deliver(bundle).map_err(|problem| steps.failure(step, problem))
}
