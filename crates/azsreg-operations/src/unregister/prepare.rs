//! The looks before a removal, and their checks. They change nothing.

use azsreg_model::{Problem, Registration, RegistrationId, StampInformation, code};
use uuid::Uuid;

use super::{Prepared, UnregisterRequest};
use crate::change::items;
use crate::checks;
use crate::engine::Failure;
use crate::engine::history::Past;
use crate::engine::retry::{self, Policy};
use crate::ports::{Azure, Class, Clock, PortError, Records, Stamp, World};
use crate::register::refused;
use crate::status::{self, stamp_side};
use crate::steps::unread_activation;

/// Looks at both sides and makes every check. Changes nothing.
///
/// # Errors
/// The registration is another stamp's, is missing, or can't be removed.
pub(super) async fn both<A: Azure, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    request: &UnregisterRequest,
    stamp: StampInformation,
    past: &Past,
) -> Result<Prepared, Failure> {
    let World { azure, clock, .. } = world;
    let side = stamp_side(world, stamp.clone()).await?;
    let recorded = side.activation.as_ref().map(|record| &record.registration);
    let unread = side.unread.is_some();
    if let Some(other) = recorded.filter(|id| id.subscription != request.subscription && request.named.is_none()) {
        let message = format!("the stamp is activated for {other}, in another subscription");
        let next = format!("Run the same command with --subscription {}.", other.subscription);
        return Err(refused(vec![
            Problem::new(&code::OTHER_CLOUD_ID, message)
                .cause("Its registration is in that subscription, not in the one that was named.")
                .next(next),
        ]));
    }
    checks::subscription(azure, clock, request.subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let there = match &request.named {
        Some(id) => retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?,
        None => None,
    };
    let id = match &request.named {
        Some(id) if there.is_some() || recorded == Some(id) || !past.open.is_empty() => Some(id.clone()),
        named => {
            let found = status::find(azure, clock, request.subscription, stamp.cloud_id).await?;
            // A name that is not there may be mistyped, unless this machine has removed it itself.
            let mistyped = !found.is_empty() || recorded.is_some() || past.finished.is_empty();
            if let Some(id) = named.as_ref().filter(|_| mistyped) {
                let message =
                    format!("there is no registration {} in the resource group {}", id.name, id.resource_group);
                let next = format!("azsreg list --subscription {}", id.subscription);
                return Err(Failure::before(Problem::new(&code::REGISTRATION_MISSING, message).next(next)));
            }
            if found.is_empty() && recorded.is_none() {
                let blind = unread && past.open.is_empty();
                not_elsewhere(azure, clock, request.subscription, stamp.cloud_id, blind).await?;
            }
            match &found[..] {
                [] => recorded.cloned(),
                [one] => Some(one.id.clone()),
                several => match several.iter().find(|one| Some(&one.id) == recorded) {
                    Some(one) => Some(one.id.clone()),
                    None if unread => return Err(blind(several, stamp.cloud_id)),
                    None => return Err(ambiguous(several, stamp.cloud_id)),
                },
            }
        }
    };
    let registration = match &id {
        Some(id) => retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?,
        None => None,
    };
    if let Some(owner) = registration.as_ref().and_then(|r| r.cloud_id)
        && owner != stamp.cloud_id
    {
        let name = id.as_ref().map(|id| id.name.as_str()).unwrap_or_default();
        let message = format!("the registration {name} is of the stamp {owner}; this stamp is {}", stamp.cloud_id);
        return Err(refused(vec![Problem::new(&code::OTHER_CLOUD_ID, message)]));
    }
    let mine = id.as_ref().is_some_and(|id| recorded == Some(id));
    if let Some(id) = id.as_ref().filter(|_| registration.is_none() && mine && past.open.is_empty()) {
        return Err(activated_for_nothing(request, id));
    }
    let unchecked = match &registration {
        Some(there) => removable(azure, clock, &there.id).await?,
        None => Vec::new(),
    };
    // A registration that the stamp is not activated for (an expired one, left behind) goes without touching the stamp.
    let deactivate = match (&registration, unread) {
        (Some(registration), true) => !left_behind(world, request.subscription, registration, &stamp).await?,
        // Whether it is activated is not to be seen: the stamp says so when it is asked to deactivate.
        (None, true) => true,
        (_, false) if mine => true,
        // The record may name what is gone: then what has the stamp's cloud id was moved, and is what the stamp is activated for.
        (Some(_), false) => match recorded {
            Some(named) => is_gone(azure, clock, named, stamp.cloud_id).await?,
            None => false,
        },
        (None, false) => false,
    };
    let lost = if deactivate { items(world.readable(&side), &stamp).await? } else { Vec::new() };
    let activation = unread_activation(world, &side).await?;
    Ok(Prepared { stamp: Some(stamp), id, registration, side: Some(side), activation, deactivate, lost, unchecked })
}

/// Refuses if the stamp is registered in another subscription that the sign-in sees; or may be, where `blind` says that nothing
/// else tells.
async fn not_elsewhere<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    subscription: Uuid,
    cloud_id: Uuid,
    blind: bool,
) -> Result<(), Failure> {
    let other = match status::elsewhere(azure, clock, subscription, cloud_id).await? {
        (Some(other), _) => other,
        (None, searched) if blind && searched.not_looked_at > 0 => {
            return Err(not_looked_at(searched.not_looked_at, None));
        }
        (None, _) => return Ok(()),
    };
    let message = format!("the stamp is registered as {}, in another subscription", other.id);
    let next = format!("Run the same command with --subscription {}.", other.id.subscription);
    Err(refused(vec![
        Problem::new(&code::OTHER_CLOUD_ID, message)
            .cause("Its registration is in that subscription, not in the one that was named.")
            .next(next),
    ]))
}

/// A registration that is missing though the stamp is activated for it is said to be missing.
fn activated_for_nothing(request: &UnregisterRequest, id: &RegistrationId) -> Failure {
    let message = format!("{id} is not there, but the stamp is still activated for it");
    Failure::before(Problem::new(&code::REGISTRATION_MISSING, message).next(format!(
        "To deactivate the stamp: azsreg unregister --subscription {} --orphan stamp. To register again: azsreg register.",
        request.subscription
    )))
}

/// Whether a registration of a stamp is gone. What can't be seen is not.
async fn is_gone<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
    cloud_id: Uuid,
) -> Result<bool, PortError> {
    match retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await {
        Ok(there) => Ok(there.is_none_or(|there| there.cloud_id != Some(cloud_id))),
        Err(error) if error.class == Class::Permanent => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an expired registration was left beside a newer one, which the stamp is activated for.
async fn left_behind<A: Azure, S, R, C: Clock>(
    world: World<'_, A, S, R, C>,
    subscription: Uuid,
    registration: &Registration,
    stamp: &StampInformation,
) -> Result<bool, Failure> {
    let World { azure, clock, .. } = world;
    let all = status::find(azure, clock, subscription, stamp.cloud_id).await?;
    if all.iter().all(|one| one.id == registration.id) {
        return Ok(false);
    }
    if checks::expiry(azure, clock, registration).await?.is_some_and(|end| end <= clock.now()) {
        return Ok(true);
    }
    Err(blind(&all, stamp.cloud_id))
}

/// Without the record nobody can tell which of several registrations the stamp is activated for.
fn blind(several: &[Registration], cloud_id: Uuid) -> Failure {
    let message = format!("the stamp {cloud_id} has {} registrations, and its record can't be read", several.len());
    let mut problem = Problem::new(&code::DETAILS_UNKNOWN, message)
        .next("Add the stamp's operator (--stamp-client-id and --stamp-client-secret), so that its record says which one it uses. An expired one can be removed with --name.");
    problem.details = several.iter().map(|one| one.id.to_string()).collect();
    refused(vec![problem])
}

fn ambiguous(several: &[Registration], cloud_id: Uuid) -> Failure {
    let message =
        format!("the stamp {cloud_id} has {} registrations, and is activated for none of them", several.len());
    let mut problem = Problem::new(&code::DETAILS_UNKNOWN, message)
        .next("Say which with --name and --resource-group; the others stay.");
    problem.details = several.iter().map(|one| one.id.to_string()).collect();
    refused(vec![problem])
}

/// What would stop the removal half-way, before it begins. Gives what could not be checked.
async fn removable<A: Azure, C: Clock>(azure: &A, clock: &C, id: &RegistrationId) -> Result<Vec<Problem>, Failure> {
    let mut problems = Vec::new();
    problems.extend(checks::missing_actions(azure, clock, &id.to_string(), checks::REMOVAL, "removing").await?);
    problems.extend(checks::foreign_locks(azure, clock, id, false).await?);
    checks::judged(problems).map_err(refused)
}

/// Azure's side alone, for a stamp that does not exist any more. The registration has to be named.
///
/// # Errors
/// It is missing, or can't be removed.
pub(super) async fn azure<A: Azure, C: Clock>(azure: &A, clock: &C, id: RegistrationId) -> Result<Prepared, Failure> {
    checks::subscription(azure, clock, id.subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let registration = retry::read(clock, Policy::AZURE, async || azure.registration(&id).await).await?;
    if registration.is_none() {
        let message = format!("there is no registration {} in the resource group {}", id.name, id.resource_group);
        let next = format!("azsreg list --subscription {}", id.subscription);
        return Err(Failure::before(Problem::new(&code::REGISTRATION_MISSING, message).next(next)));
    }
    let unchecked = removable(azure, clock, &id).await?;
    Ok(Prepared {
        stamp: None,
        id: Some(id),
        registration,
        side: None,
        activation: None,
        deactivate: false,
        lost: Vec::new(),
        unchecked,
    })
}

/// The stamp's side alone, where Azure's is gone.
///
/// # Errors
/// The stamp can't be asked, or its registration is still there, or may be: what can't be seen is not gone, unless the
/// operator names it as gone.
pub(super) async fn stamp<A: Azure, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    request: &UnregisterRequest,
    stamp: StampInformation,
) -> Result<Prepared, Failure> {
    let World { azure, clock, .. } = world;
    let side = stamp_side(world, stamp.clone()).await?;
    let recorded = side.activation.as_ref().map(|record| record.registration.clone());
    let cloud_id = stamp.cloud_id;
    let there = match &recorded {
        None if side.unread.is_none() => None,
        None => {
            checks::subscription(azure, clock, request.subscription)
                .await?
                .map_err(|problem| refused(vec![problem]))?;
            anywhere(azure, clock, request, request.subscription, (cloud_id, None)).await?
        }
        Some(id) => {
            let visible = match checks::subscription(azure, clock, id.subscription).await? {
                Ok(_) => retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await,
                Err(problem) => Err(PortError::permanent(problem)),
            };
            match visible {
                Ok(Some(there)) if there.cloud_id == Some(cloud_id) => Some(there.id),
                // What the record names is gone; it may have been moved.
                Ok(_) => anywhere(azure, clock, request, id.subscription, (cloud_id, Some(id))).await?,
                Err(_) if request.named.as_ref() == Some(id) => None,
                Err(error) if error.class == Class::Permanent => return Err(unseen(id, *error.problem)),
                Err(error) => return Err(error.into()),
            }
        }
    };
    if let Some(there) = there {
        let message = format!("{there} is there: the stamp is no orphan");
        let problem = Problem::new(&code::OTHER_CLOUD_ID, message);
        return Err(refused(vec![match recorded.filter(|id| *id != there) {
            None => problem
                .cause("Both sides are there.")
                .next(format!("azsreg unregister --subscription {}", there.subscription)),
            Some(named) => problem
                .cause(format!("It was moved: the stamp is activated for {named}, where it was before."))
                .next(format!(
                    "azsreg repair --subscription {0}  activates the stamp for it; azsreg unregister --subscription {0} --resource-group {1} --name {2}  removes both sides.",
                    there.subscription, there.resource_group, there.name
                )),
        }]));
    }
    let deactivate = side.activation.is_some() || side.unread.is_some();
    let lost = if deactivate { items(world.readable(&side), &stamp).await? } else { Vec::new() };
    let activation = unread_activation(world, &side).await?;
    let unchecked = Vec::new();
    Ok(Prepared {
        stamp: Some(stamp),
        id: None,
        registration: None,
        side: Some(side),
        activation,
        deactivate,
        lost,
        unchecked,
    })
}

/// The registration of a stamp, wherever the sign-in sees one. What could not be looked at may have it, unless the operator
/// names it as gone.
async fn anywhere<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    request: &UnregisterRequest,
    first: Uuid,
    stamp: (Uuid, Option<&RegistrationId>),
) -> Result<Option<RegistrationId>, Failure> {
    let (cloud_id, recorded) = stamp;
    if let Some(found) = status::find(azure, clock, first, cloud_id).await?.pop() {
        return Ok(Some(found.id));
    }
    let (found, searched) = status::elsewhere(azure, clock, first, cloud_id).await?;
    if found.is_none() && searched.not_looked_at > 0 && request.named.is_none() {
        return Err(not_looked_at(searched.not_looked_at, recorded));
    }
    Ok(found.map(|found| found.id))
}

/// A subscription that could not be looked at may have the registration. `named` is gone, where the stamp's record names it.
fn not_looked_at(subscriptions: usize, named: Option<&RegistrationId>) -> Failure {
    let message =
        format!("{subscriptions} subscriptions could not be looked at: one of them may have the registration");
    let next = match named {
        None => "Run the same command again, or add the stamp's operator (--stamp-client-id and --stamp-client-secret): the stamp's record names its registration.".to_owned(),
        Some(id) => format!("Run the same command again. {}", name_as_gone(id)),
    };
    refused(vec![Problem::new(&code::DETAILS_UNKNOWN, message).next(next)])
}

/// What can't be seen may be there.
fn unseen(id: &RegistrationId, mut problem: Problem) -> Failure {
    problem.details.push(format!("{id}, which the stamp is activated for, can't be seen with this sign-in"));
    refused(vec![problem.next(format!("Sign in with an account that sees it. {}", name_as_gone(id)))])
}

fn name_as_gone(id: &RegistrationId) -> String {
    format!(
        "If it is gone for good, name it: azsreg unregister --subscription {} --resource-group {} --name {} --orphan stamp",
        id.subscription, id.resource_group, id.name
    )
}
