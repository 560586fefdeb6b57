//! Both sides of a registration, as they are now.

use azsreg_model::{
    AzureSide, LOCK_NAME, LockLevel, Problem, REGISTRATION_OWNER_ROLE_ID, RegistrationId, StampInformation, StampSide,
    StatusReport, code,
};
use uuid::Uuid;

use crate::engine::retry::{self, Policy};
use crate::ports::{Azure, Clock, PortError, Records, Stamp, World};

/// Why a record was not read, where nobody is signed in to the stamp.
pub const NO_OPERATOR_SIGN_IN: &str = "no operator sign-in";

/// Looks at Azure's side of a registration.
///
/// # Errors
/// Azure could not be asked.
pub async fn azure_side<A: Azure, C: Clock>(azure: &A, clock: &C, id: &RegistrationId) -> Result<AzureSide, PortError> {
    let read = |policy| policy;
    let registration = retry::read(clock, read(Policy::AZURE), async || azure.registration(id).await).await?;
    let Some(registration) = registration else {
        return Ok(AzureSide { registration: None, lock: None, role: None });
    };
    let locks = retry::read(clock, Policy::AZURE, async || azure.locks(id).await).await?;
    let roles = retry::read(clock, Policy::AZURE, async || azure.role_assignments(id).await).await?;
    // Our lock first, then any other that protects the registration.
    let lock = locks
        .iter()
        .find(|lock| lock.name.eq_ignore_ascii_case(LOCK_NAME))
        .or_else(|| locks.iter().find(|lock| lock.level != LockLevel::Other));
    let role = roles
        .iter()
        .find(|role| role.role_id == REGISTRATION_OWNER_ROLE_ID && Some(role.principal_id) == registration.object_id);
    Ok(AzureSide { lock: lock.cloned(), role: role.cloned(), registration: Some(registration) })
}

/// Looks at the stamp's side.
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
            let activation = read?;
            Ok(StampSide { information, activation, unread: None })
        }
    }
}

/// Both sides, each as far as it can be read. The registration is the one named, or the one of the stamp's cloud id.
pub async fn status<A: Azure, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    subscription: Uuid,
    named: Option<RegistrationId>,
) -> StatusReport {
    let stamp = async {
        let information = retry::read(world.clock, Policy::AZURE, async || world.stamp.information().await).await?;
        stamp_side(world, information).await
    }
    .await;
    let cloud_id = stamp.as_ref().ok().map(|side| side.information.cloud_id);
    let azure = async {
        let id = match named {
            Some(id) => Some(id),
            None => match cloud_id {
                None => {
                    return Err(PortError::permanent(Problem::new(
                        &code::NOT_REGISTERED,
                        "without the stamp's cloud id no registration can be looked for; give --name",
                    )));
                }
                Some(cloud_id) => {
                    let all =
                        retry::read(world.clock, Policy::AZURE, async || world.azure.registrations(subscription).await);
                    let mut found = None;
                    for listed in all.await? {
                        // Some api-versions leave the cloud id out of lists: the resource itself has it.
                        let owner = match listed.cloud_id {
                            Some(owner) => Some(owner),
                            None => world.azure.registration(&listed.id).await?.and_then(|r| r.cloud_id),
                        };
                        if owner == Some(cloud_id) {
                            found = Some(listed.id);
                            break;
                        }
                    }
                    found
                }
            },
        };
        match id {
            None => Ok(AzureSide { registration: None, lock: None, role: None }),
            Some(id) => azure_side(world.azure, world.clock, &id).await,
        }
    }
    .await;
    let problem = |error: PortError| *error.problem;
    StatusReport::of(world.clock.now(), azure.map_err(problem), stamp.map_err(problem))
}
