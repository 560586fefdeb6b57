//! Both sides of a registration, as they are now.

use azsreg_model::{
    AzureSide, Known, LockLevel, Problem, REGISTRATION_OWNER_ROLE_ID, RegistrationId, Searched, StampInformation,
    StampSide, StatusReport, code,
};
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream;
use uuid::Uuid;

use crate::checks;
use crate::engine::retry::{self, Policy};
use crate::ports::{Azure, Class, Clock, PortError, Records, Stamp, World};

/// Why a record was not read, where no account is signed in to the stamp.
pub const NO_OPERATOR_SIGN_IN: &str = "no operator sign-in";

/// Looks at Azure's side of a registration: itself, its lock, its role.
///
/// # Errors
/// Azure could not be asked.
pub async fn azure_side<A: Azure, C: Clock>(azure: &A, clock: &C, id: &RegistrationId) -> Result<AzureSide, PortError> {
    let registration = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?;
    let Some(registration) = registration else { return Ok(AzureSide::default()) };
    let locks = retry::read(clock, Policy::AZURE, async || azure.locks(id).await).await?;
    let roles = retry::read(clock, Policy::AZURE, async || azure.role_assignments(id).await).await?;
    // Our lock first, then any other on the registration that protects it.
    let own = || locks.iter().filter(|lock| !lock.inherited && lock.level != LockLevel::Other);
    let lock = own().find(|lock| lock.is_ours()).or_else(|| own().next());
    let role = roles
        .iter()
        .find(|role| role.role_id == REGISTRATION_OWNER_ROLE_ID && Some(role.principal_id) == registration.object_id);
    Ok(AzureSide { lock: lock.cloned(), role: role.cloned(), registration: Some(registration), ..AzureSide::default() })
}

/// Looks closer: the principal in the directory, the key's expiry and hosts, the subscription's directory. What the
/// caller may not see stays unknown.
async fn closer<A: Azure, C: Clock>(azure: &A, clock: &C, side: AzureSide) -> Result<AzureSide, PortError> {
    let Some(registration) = &side.registration else { return Ok(side) };
    let key = retry::read(clock, Policy::AZURE, async || azure.activation_key(&registration.id).await).await;
    let claims = match key {
        Ok(key) => key.decode().ok(),
        Err(error) if error.class == Class::Permanent => None,
        Err(error) => return Err(error),
    };
    let principal = match registration.object_id {
        None => None,
        Some(id) => {
            let read = retry::read(clock, Policy::AZURE, async || azure.principal_exists(id).await).await;
            // A sign-in that Graph does not take, or a Graph out of reach, is no reason to show nothing.
            read.unwrap_or(None)
        }
    };
    let subscriptions = retry::read(clock, Policy::AZURE, async || azure.subscriptions().await).await?;
    let tenant = subscriptions.into_iter().find(|s| s.id == registration.id.subscription).map(|s| s.tenant);
    Ok(AzureSide {
        principal,
        key_unread: claims.as_ref().is_none_or(|claims| claims.expires.is_none()),
        expires: claims.as_ref().and_then(|claims| claims.expires),
        hosts: claims.and_then(|claims| claims.hosts),
        tenant,
        ..side
    })
}

/// How many subscriptions are looked at in a search, and for how long.
const SEARCHED: usize = 50;
/// How many of them at once: a list may take as much memory as an answer may.
const AT_ONCE: usize = 3;
/// When so many registrations were found, no further subscription is looked at.
const FOUND: usize = 1_000;
const SEARCHED_FOR: std::time::Duration = std::time::Duration::from_secs(20);

/// Looks for a registration of a stamp in every other subscription that the sign-in sees.
///
/// # Errors
/// The subscriptions can't be listed.
pub async fn elsewhere<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    known: Uuid,
    cloud_id: Uuid,
) -> Result<(Option<azsreg_model::Registration>, Searched), PortError> {
    let (mut found, searched) = all_elsewhere(azure, clock, known).await?;
    let at = found.iter().position(|one| one.cloud_id == Some(cloud_id));
    Ok((at.map(|at| found.swap_remove(at)), searched))
}

/// The registrations of all other subscriptions that the sign-in sees, a few asked side by side.
///
/// # Errors
/// The subscriptions can't be listed.
pub async fn all_elsewhere<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    known: Uuid,
) -> Result<(Vec<azsreg_model::Registration>, Searched), PortError> {
    let visible = retry::read(clock, Policy::AZURE, async || azure.subscriptions().await).await?;
    let all: Vec<Uuid> = visible.into_iter().map(|subscription| subscription.id).filter(|id| *id != known).collect();
    // The one that was named has been looked at.
    let mut searched = Searched { subscriptions: 1, not_looked_at: all.len() };
    let looks = all.iter().take(SEARCHED).map(|id| registrations(azure, clock, *id));
    let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
    let mut over = std::pin::pin!(clock.sleep(SEARCHED_FOR));
    let mut found = Vec::new();
    while let Either::Left((Some(looked), _)) = select(looks.next(), over.as_mut()).await {
        let Ok(whole) = looked else { continue };
        searched.subscriptions += 1;
        searched.not_looked_at -= 1;
        found.extend(whole);
        if found.len() >= FOUND {
            break;
        }
    }
    Ok((found, searched))
}

/// Looks at the stamp's side. A record that can't be told to be there or not is not read.
///
/// # Errors
/// Its records could not be asked.
pub async fn stamp_side<A, S, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    information: StampInformation,
) -> Result<StampSide, PortError> {
    match world.records {
        None => Ok(StampSide { information, activation: None, unread: Some(NO_OPERATOR_SIGN_IN.into()) }),
        Some(records) => {
            let read = retry::read(world.clock, Policy::AZURE, async || records.activation(&information).await).await;
            match read {
                Ok(activation) => Ok(StampSide { information, activation, unread: None }),
                Err(error) if error.problem.code == &code::ANSWER_UNCLEAR => {
                    Ok(StampSide { information, activation: None, unread: Some(error.problem.message.clone()) })
                }
                Err(error) => Err(error),
            }
        }
    }
}

/// The registration of a cloud id in a subscription. Some api-versions leave the cloud id out of lists: the resource
/// itself has it.
///
/// # Errors
/// Azure could not be asked.
pub async fn find<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    subscription: Uuid,
    cloud_id: Uuid,
) -> Result<Vec<azsreg_model::Registration>, PortError> {
    let mut found = Vec::new();
    for registration in registrations(azure, clock, subscription).await? {
        if registration.cloud_id == Some(cloud_id) {
            found.push(registration);
        }
    }
    Ok(found)
}

/// The registration of a stamp among those with its cloud id: the one that its record names, else a live one. An expired
/// one may have been left beside the new one.
///
/// # Errors
/// Azure could not be asked.
pub async fn current<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    mut found: Vec<azsreg_model::Registration>,
    recorded: Option<&RegistrationId>,
) -> Result<Option<azsreg_model::Registration>, PortError> {
    let mut at = found.iter().position(|registration| Some(&registration.id) == recorded);
    if at.is_none() && found.len() > 1 {
        for (n, registration) in found.iter().enumerate() {
            if checks::expiry(azure, clock, registration).await?.is_none_or(|end| end > clock.now()) {
                at = Some(n);
                break;
            }
        }
    }
    Ok((!found.is_empty()).then(|| found.swap_remove(at.unwrap_or(0))))
}

/// All registrations of a subscription, with their cloud ids.
///
/// # Errors
/// Azure could not be asked.
pub async fn registrations<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    subscription: Uuid,
) -> Result<Vec<azsreg_model::Registration>, PortError> {
    let listed = retry::read(clock, Policy::AZURE, async || azure.registrations(subscription).await).await?;
    let mut whole = Vec::new();
    for registration in listed {
        if registration.cloud_id.is_some() {
            whole.push(registration);
        } else {
            let read = retry::read(clock, Policy::AZURE, async || azure.registration(&registration.id).await).await?;
            whole.extend(read);
        }
    }
    Ok(whole)
}

/// Azure's side of the registration that is named, or that the stamp's record names, or that has the stamp's cloud id.
///
/// # Errors
/// Azure could not be asked, or nothing says which registration.
pub async fn azure_of_stamp<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    subscription: Uuid,
    named: Option<&RegistrationId>,
    stamp: Option<&StampSide>,
) -> Result<AzureSide, PortError> {
    if let Err(problem) = crate::checks::subscription(azure, clock, subscription).await? {
        return Err(PortError::permanent(problem));
    }
    let id = match (named, stamp) {
        (Some(id), _) => Some(id.clone()),
        (None, None) => {
            let text = "without the stamp nothing says which registration is meant";
            return Err(PortError::permanent(Problem::new(&code::DETAILS_UNKNOWN, text).next("Add --name.")));
        }
        (None, Some(stamp)) => {
            let cloud_id = stamp.information.cloud_id;
            let found = find(azure, clock, subscription, cloud_id).await?;
            let recorded = stamp.activation.as_ref().map(|record| &record.registration);
            if found.is_empty() && recorded.is_none() {
                let (registration, searched) = elsewhere(azure, clock, subscription, cloud_id).await?;
                let side = match registration {
                    None => AzureSide::default(),
                    Some(registration) => {
                        closer(azure, clock, azure_side(azure, clock, &registration.id).await?).await?
                    }
                };
                return Ok(AzureSide { searched: Some(searched), ..side });
            }
            match (current(azure, clock, found, recorded).await?, recorded) {
                (Some(registration), _) => Some(registration.id),
                // The record names another subscription: what is there is the stamp's registration.
                (None, Some(id)) if id.subscription != subscription => {
                    let read = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?;
                    let ours = |there: &azsreg_model::Registration| there.cloud_id == Some(stamp.information.cloud_id);
                    read.filter(ours).map(|there| there.id)
                }
                _ => None,
            }
        }
    };
    match id {
        None => Ok(AzureSide::default()),
        Some(id) => {
            let side = azure_side(azure, clock, &id).await?;
            if side.registration.is_none() && named.is_some() {
                let message =
                    format!("there is no registration {} in the resource group {}", id.name, id.resource_group);
                let next = format!("azsreg list --subscription {subscription}");
                return Err(PortError::permanent(Problem::new(&code::REGISTRATION_MISSING, message).next(next)));
            }
            closer(azure, clock, side).await
        }
    }
}

/// Both sides, each as far as it can be read, and what is wrong with this machine's journals.
pub async fn status<A: Azure, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    subscription: Uuid,
    named: Option<RegistrationId>,
    known: impl Fn(Uuid) -> (Known, Vec<Problem>),
) -> StatusReport {
    let problem = |error: PortError| *error.problem;
    let stamp = async {
        let information = retry::read(world.clock, Policy::AZURE, async || world.stamp.information().await).await?;
        Ok(match stamp_side(world, information.clone()).await {
            Ok(side) => side,
            // What the privileged endpoint said is worth showing though the record can't be read.
            Err(error) => StampSide { information, activation: None, unread: Some(error.problem.to_string()) },
        })
    }
    .await
    .map_err(problem);
    let seen = stamp.as_ref().ok();
    let azure = azure_of_stamp(world.azure, world.clock, subscription, named.as_ref(), seen).await;
    let (known, troubles) = seen.map(|side| known(side.information.cloud_id)).unwrap_or_default();
    let mut report = StatusReport::of(world.clock.now(), azure.map_err(problem), stamp, &known);
    report.findings.extend(troubles);
    report
}
