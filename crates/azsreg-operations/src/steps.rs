//! The steps that several operations share, each observed before it is repeated.

use std::cell::Cell;

use azsreg_model::{
    ActivationRecord, LOCK_NAME, LockLevel, Problem, REGISTRATION_OWNER_ROLE, REGISTRATION_OWNER_ROLE_ID,
    RegistrationId, StampInformation, code,
};
use serde_json::Value;
use uuid::Uuid;

use crate::engine::journal::Journal;
use crate::engine::retry::{self, Policy};
use crate::engine::{Failure, Steps};
use crate::ports::{Action, Azure, Class, Clock, PortError, Records, Stamp, World};

/// The title of a step, for people.
#[must_use]
pub fn title(step: &str) -> &'static str {
    const TITLES: &[(&str, &str)] = &[
        ("deactivation", "Deactivate the stamp"),
        ("unlock", "Lift the lock"),
        ("role-removal", "Remove the role assignment"),
        ("removal", "Remove the registration"),
        ("key-pair", "Set the registration key pair"),
        ("service-principal", "Create the bridge service principal"),
        ("provider", "Register the provider Microsoft.AzureStack"),
        ("resource-group", "Create the resource group"),
        ("registration", "Create the registration"),
        ("validation", "Ask Azure whether it can be moved"),
        ("move", "Move the registration"),
        ("lock", "Lock the registration"),
        ("role", "Assign the registration owner's role"),
        ("activation", "Activate the stamp"),
        ("token", "Ask the stamp for a registration token"),
        ("key", "Fetch the activation key"),
    ];
    TITLES.iter().find(|(name, _)| *name == step).map_or("", |(_, title)| title)
}

/// Nothing to record.
pub(crate) fn nothing<T>(_: &T) -> Value {
    Value::Null
}

/// Refuses with "busy" while an earlier run of an action goes on: the engine waits for it.
pub(crate) async fn idle<S: Stamp>(stamp: &S, action: Action) -> Result<(), PortError> {
    if stamp.action_state(action).await? == azsreg_model::ActionState::Running {
        return Err(PortError::new(
            Class::Busy,
            Problem::new(&code::STAMP_BUSY, format!("the stamp is still running {}", action.cmdlet())),
        ));
    }
    Ok(())
}

/// The registration key pair, on builds and stamps that have one.
pub(crate) async fn key_pair<S: Stamp, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    stamp: &S,
    information: &StampInformation,
    renewed: &Cell<bool>,
) -> Result<(), Failure> {
    if !information.version.has_key_pair(information.nodes) {
        steps.not_needed("key-pair", &no_key_pair(information));
        return Ok(());
    }
    let recorded = steps.recorded("key-pair").is_some();
    steps
        .step(
            "key-pair",
            title("key-pair"),
            Policy::STAMP,
            async || Ok(recorded.then(|| ((), "set by this operation before".to_owned()))),
            async || {
                idle(stamp, Action::SetRegistrationKeyPair).await?;
                renewed.set(true);
                stamp.set_registration_key_pair().await?;
                Ok(Some(((), "set".to_owned())))
            },
            nothing,
        )
        .await
}

/// Why a stamp has no registration key pair.
pub(crate) fn no_key_pair(information: &StampInformation) -> String {
    if information.nodes == 1 {
        "a stamp of one node has no registration key pair".into()
    } else {
        format!("build {} has no registration key pair", information.version)
    }
}

/// The provider.
pub(crate) async fn provider<A: Azure, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    azure: &A,
    subscription: Uuid,
) -> Result<(), Failure> {
    steps
        .step(
            "provider",
            title("provider"),
            Policy::AZURE,
            async || {
                let registered = azure.provider_registered(subscription).await?;
                Ok(registered.then(|| ((), "registered".to_owned())))
            },
            async || azure.register_provider(subscription).await.map(|()| None),
            nothing,
        )
        .await
}

/// The resource group.
pub(crate) async fn resource_group<A: Azure, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    azure: &A,
    id: &RegistrationId,
    location: &str,
) -> Result<(), Failure> {
    let (subscription, name) = (id.subscription, id.resource_group.as_str());
    steps
        .step(
            "resource-group",
            title("resource-group"),
            Policy::AZURE,
            async || {
                let group = azure.resource_group(subscription, name).await?;
                Ok(group.map(|location| ((), format!("{name} in {location}"))))
            },
            async || azure.create_resource_group(subscription, name, location).await.map(|()| None),
            nothing,
        )
        .await
}

/// The lock.
pub(crate) async fn lock<A: Azure, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    azure: &A,
    id: &RegistrationId,
) -> Result<(), Failure> {
    steps
        .step(
            "lock",
            title("lock"),
            Policy::AZURE,
            async || {
                let locks = azure.locks(id).await?;
                let ours = locks.iter().any(|lock| lock.is_ours() && lock.level != LockLevel::Other);
                Ok(ours.then(|| ((), format!("{LOCK_NAME}, CanNotDelete"))))
            },
            async || azure.put_lock(id).await.map(|()| None),
            nothing,
        )
        .await
}

/// The role of the stamp's principal on its registration. A disconnected stamp has no principal.
pub(crate) async fn role<A: Azure, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    azure: &A,
    id: &RegistrationId,
    principal: Option<Uuid>,
) -> Result<(), Failure> {
    let Some(principal) = principal else {
        steps.not_needed("role", "the registration names no principal: a disconnected stamp has none");
        return Ok(());
    };
    steps
        .step(
            "role",
            title("role"),
            Policy::AZURE,
            async || {
                let roles = azure.role_assignments(id).await?;
                let ours = roles.iter().any(|r| r.role_id == REGISTRATION_OWNER_ROLE_ID && r.principal_id == principal);
                Ok(ours.then(|| ((), format!("{REGISTRATION_OWNER_ROLE} to {principal}"))))
            },
            async || azure.assign_role(id, principal).await.map(|()| None),
            nothing,
        )
        .await
}

/// What a run wants of the activation.
pub(crate) struct Wanted<'w> {
    /// The registration that the record has to name.
    pub(crate) id: &'w RegistrationId,
    /// Whether a record that is good now can only be of what is wanted.
    pub(crate) trusted: bool,
    /// Whether the record, as far as it goes, is what is wanted.
    pub(crate) good: &'w dyn Fn(&ActivationRecord) -> bool,
}

/// The activation: a key, compared before it is sent, and the record read back where somebody may read it.
pub(crate) async fn activation<A, S: Stamp, R: Records, C: Clock, J: Journal>(
    steps: &mut Steps<'_, J, C>,
    world: World<'_, A, S, R, C>,
    information: &StampInformation,
    wanted: Wanted<'_>,
    mut key: impl AsyncFnMut() -> Result<azsreg_model::ActivationKey, PortError>,
) -> Result<(), Failure> {
    let World { stamp, clock, .. } = world;
    let Wanted { id, trusted, good } = wanted;
    let before = steps.recorded("activation").is_some();
    // A record that names us after our own activation is ours, whatever was there before.
    let tried = Cell::new(false);
    steps
        .step(
            "activation",
            title("activation"),
            Policy::STAMP,
            async || {
                let Some(records) = world.records else {
                    return Ok(before.then(|| ((), "by this operation before".to_owned())));
                };
                let record = records.activation(information).await?;
                let fits = |r: &ActivationRecord| r.is_of(id) && good(r) && !r.is_expired(clock.now());
                let fresh = trusted || before || tried.get();
                Ok(record.filter(|r| fresh && fits(r)).map(|_| ((), "the record names this registration".to_owned())))
            },
            async || {
                idle(stamp, Action::NewAzureStackActivation).await?;
                let key = key().await?;
                key.check(information.cloud_id, id, clock.now())
                    .map_err(|error| PortError::permanent(Problem::new(&code::MALFORMED_KEY, error.to_string())))?;
                stamp.new_activation(&key).await?;
                tried.set(true);
                Ok(world.records.is_none().then(|| ((), "activated".to_owned())))
            },
            nothing,
        )
        .await
        .map_err(explain_record)
}

/// An activation that ended well but is not to be seen is a state of the stamp, not a fault of Azure.
fn explain_record(mut failure: Failure) -> Failure {
    for problem in &mut failure.problems {
        if problem.code == &code::NOT_SEEN {
            *problem = Problem::new(
                &code::NOT_ACTIVATED,
                "the activation ended well, but the stamp's record does not show it",
            );
        }
    }
    failure
}

/// Deactivates the stamp, unless it is not activated or is activated for `keep`.
pub(crate) async fn deactivation<A, S: Stamp, R: Records, C: Clock, J: Journal>(
    steps: &mut Steps<'_, J, C>,
    world: World<'_, A, S, R, C>,
    information: &StampInformation,
    keep: Option<&RegistrationId>,
) -> Result<(), Failure> {
    let stamp = world.stamp;
    // Where somebody can look, what is there counts: the stamp may have been registered again since. A registration that
    // takes the place of another is activated later in the same run, and says so in `keep`.
    let trusted = world.records.is_none() || keep.is_some();
    let recorded = trusted && steps.recorded("deactivation").is_some();
    steps
        .step(
            "deactivation",
            title("deactivation"),
            Policy::STAMP,
            async || {
                if recorded {
                    return Ok(Some(((), "deactivated by this operation before".to_owned())));
                }
                let Some(records) = world.records else { return Ok(None) };
                // What was begun before decides what is left to do.
                idle(stamp, Action::RemoveAzureStackActivation).await?;
                Ok(match records.activation(information).await? {
                    None => Some(((), "the stamp is not activated".to_owned())),
                    Some(record) if keep.is_some_and(|keep| record.is_of(keep)) => {
                        Some(((), "the stamp is activated for the new registration already".to_owned()))
                    }
                    Some(_) => None,
                })
            },
            async || {
                idle(stamp, Action::NewAzureStackActivation).await?;
                idle(stamp, Action::RemoveAzureStackActivation).await?;
                stamp.remove_activation().await?;
                Ok(world.records.is_none().then(|| ((), "deactivated".to_owned())))
            },
            nothing,
        )
        .await
}

/// Lifts the lock from a registration.
pub(crate) async fn unlock<A: Azure, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    azure: &A,
    id: &RegistrationId,
) -> Result<(), Failure> {
    steps
        .step(
            "unlock",
            title("unlock"),
            Policy::AZURE,
            async || {
                let locks = azure.locks(id).await?;
                Ok((!locks.iter().any(azsreg_model::Lock::is_ours))
                    .then(|| ((), "no lock of azsreg is on it".to_owned())))
            },
            async || azure.delete_lock(id, LOCK_NAME).await.map(|()| None),
            nothing,
        )
        .await
}

/// Takes the stamp's role on a registration away.
pub(crate) async fn role_removal<A: Azure, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    azure: &A,
    id: &RegistrationId,
) -> Result<(), Failure> {
    let ours = |roles: Vec<azsreg_model::RoleAssignment>| {
        roles.into_iter().filter(|role| role.role_id == REGISTRATION_OWNER_ROLE_ID).collect::<Vec<_>>()
    };
    steps
        .step(
            "role-removal",
            title("role-removal"),
            Policy::AZURE,
            async || {
                let roles = ours(azure.role_assignments(id).await?);
                Ok(roles.is_empty().then(|| ((), "no role of the stamp is on it".to_owned())))
            },
            async || {
                for role in ours(azure.role_assignments(id).await?) {
                    azure.delete_role_assignment(id, &role.name).await?;
                }
                Ok(None)
            },
            nothing,
        )
        .await
}

/// Removes a registration of a stamp: the lock, the stamp's role on it, itself; and sees that it is gone. A registration
/// that is another stamp's by now is left alone.
pub(crate) async fn remove<A: Azure, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    azure: &A,
    id: &RegistrationId,
    cloud_id: Option<Uuid>,
) -> Result<(), Failure> {
    unlock(steps, azure, id).await?;
    role_removal(steps, azure, id).await?;
    let removed = steps
        .step(
            "removal",
            title("removal"),
            Policy::AZURE,
            async || {
                let now = azure.registration(id).await?;
                let gone = now.is_none_or(|now| cloud_id.is_some() && now.cloud_id != cloud_id);
                Ok(gone.then(|| ((), format!("{} is gone", id.name))))
            },
            async || azure.delete_registration(id).await.map(|()| None),
            nothing,
        )
        .await;
    removed.map_err(|mut failure| {
        for problem in &mut failure.problems {
            if problem.code == &code::NOT_SEEN {
                *problem = Problem::new(&code::STILL_THERE, format!("{id} is still there after it was deleted"));
            }
        }
        failure
    })
}

/// Refuses where a lock that is not azsreg's own would stop the change half-way.
pub(crate) async fn foreign_locks<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
    only_read_only: bool,
) -> Result<Option<Problem>, PortError> {
    let locks = retry::read(clock, Policy::AZURE, async || azure.locks(id).await).await?;
    let others: Vec<String> = locks
        .iter()
        .filter(|lock| !lock.is_ours() && (!only_read_only || lock.level == LockLevel::ReadOnly))
        .map(|lock| {
            let place = if lock.inherited { "above the registration" } else { "on the registration" };
            format!("{} ({:?}), {place}", lock.name, lock.level)
        })
        .collect();
    if others.is_empty() {
        return Ok(None);
    }
    let mut problem = Problem::new(&code::SCOPE_LOCKED, format!("somebody else's lock protects {}", id.name))
        .next("Remove that lock, then run the same command again.");
    problem.details = others;
    Ok(Some(problem))
}
