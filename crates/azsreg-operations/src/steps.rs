//! The steps that several operations share, each observed before it is repeated.

pub(crate) mod lock;

use std::cell::{Cell, RefCell};

use azsreg_model::{
    ActionState, ActivationRecord, LOCK_NAME, LockLevel, Problem, REGISTRATION_OWNER_ROLE, REGISTRATION_OWNER_ROLE_ID,
    RegistrationId, StampInformation, StampSide, code,
};
use serde_json::Value;
use uuid::Uuid;

use crate::engine::journal::Journal;
use crate::engine::retry::{self, Policy};
use crate::engine::session::changed_meanwhile;
use crate::engine::{Failure, Steps};
use crate::forms;
use crate::ports::{Action, Azure, Class, Clock, PortError, Provider, Records, Stamp, World};

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
    if stamp.action_run(action).await?.state == azsreg_model::ActionState::Running {
        return Err(PortError::new(
            Class::Busy,
            Problem::new(&code::STAMP_BUSY, format!("the stamp is still running {}", action.cmdlet())),
        ));
    }
    Ok(())
}

/// The stamp's newest activation by the stamp's own account: the id of its run, if it ended well and no deactivation began
/// after it. `None` is not known, too.
pub(crate) async fn newest_activation<S: Stamp, C: Clock>(stamp: &S, clock: &C) -> Result<Option<String>, PortError> {
    let run = async |action| retry::read(clock, Policy::AZURE, async || stamp.action_run(action).await).await;
    let on = run(Action::NewAzureStackActivation).await?;
    if on.state != ActionState::Completed {
        return Ok(None);
    }
    let off = run(Action::RemoveAzureStackActivation).await?;
    let stands = match (on.started, off.started) {
        _ if off.state == ActionState::None => true,
        (Some(on), Some(off)) => off < on,
        _ => false,
    };
    Ok(on.id.filter(|_| stands))
}

/// What vouches for the stamp's activation where its record was not read.
pub(crate) async fn unread_activation<A, S: Stamp, R, C: Clock>(
    world: World<'_, A, S, R, C>,
    side: &StampSide,
) -> Result<Option<String>, PortError> {
    match &side.unread {
        Some(_) => newest_activation(world.stamp, world.clock).await,
        None => Ok(None),
    }
}

/// The registration key pair, on builds and stamps that have one.
pub(crate) async fn key_pair<S: Stamp, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    stamp: &S,
    information: &StampInformation,
    renewed: &Cell<bool>,
) -> Result<(), Failure> {
    if !information.has_key_pair() {
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
    match (information.version, information.nodes) {
        (_, Some(1)) => "a stamp of one node has no registration key pair".into(),
        (Some(version), Some(_)) => format!("build {version} has no registration key pair"),
        _ => "the stamp does not say whether it has a registration key pair".into(),
    }
}

/// What is said of a provider whose registration goes on.
pub(crate) const REGISTERING: &str = "Azure is registering it; that is not waited for";

/// The provider. Returns whether it is there or was asked for; where the sign-in may do neither, waiting for it is in vain.
pub(crate) async fn provider<A: Azure, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    azure: &A,
    subscription: Uuid,
) -> Result<bool, Failure> {
    let (unseen, comes) = (Cell::new(false), Cell::new(true));
    steps
        .step(
            "provider",
            title("provider"),
            Policy::AZURE,
            async || {
                Ok(match azure.provider(subscription).await? {
                    Provider::Registered => Some(((), "registered".to_owned())),
                    Provider::Registering => Some(((), REGISTERING.to_owned())),
                    Provider::NotRegistered => None,
                    Provider::NotKnown => {
                        unseen.set(true);
                        None
                    }
                })
            },
            // It takes hours at times, and creating works meanwhile: where it does not, the creation is tried again. Asked for
            // where it is registered already it changes nothing.
            async || {
                let said = match azure.register_provider(subscription).await {
                    Ok(()) if unseen.get() => "asked for; whether it was registered before is not to be seen",
                    Ok(()) => "asked for; Azure's registration of it is not waited for",
                    Err(error) if unseen.get() && error.problem.code == &code::FORBIDDEN => {
                        comes.set(false);
                        "not known: the sign-in may neither see it nor ask for it"
                    }
                    Err(error) => return Err(error),
                };
                Ok(Some(((), said.to_owned())))
            },
            nothing,
        )
        .await?;
    Ok(comes.get())
}

/// What writing a registration answered: a provider that is not registered is waited for where it `comes`.
pub(crate) fn written<T>(answer: Result<T, PortError>, comes: bool) -> Result<T, PortError> {
    answer.map_err(|error| match error.problem.code == &code::PROVIDER_NOT_REGISTERED && !comes {
        true => {
            let text = "the subscription's provider Microsoft.AzureStack is not registered, and the sign-in may not register it";
            let next = "Have an owner of the subscription run: az provider register --namespace Microsoft.AzureStack";
            let problem = Problem::new(&code::FORBIDDEN, text).next(next);
            PortError::permanent(Problem { details: error.problem.details, ..problem })
        }
        false => error,
    })
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
        steps.not_needed("role", "there is no principal to give it to: a disconnected stamp has none");
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
    /// The stamp's run of an activation that was of what is wanted: it still is if none came after it.
    pub(crate) before: Option<&'w str>,
    /// Whether the record, as far as it goes, is what is wanted.
    pub(crate) good: &'w dyn Fn(&ActivationRecord) -> bool,
}

/// The activation: a key, compared before it is sent, and the record read back where somebody may read it. Gives the stamp's
/// run of it, where the stamp names one.
pub(crate) async fn activation<A, S: Stamp, R: Records, C: Clock, J: Journal>(
    steps: &mut Steps<'_, J, C>,
    world: World<'_, A, S, R, C>,
    information: &StampInformation,
    wanted: Wanted<'_>,
    mut key: impl AsyncFnMut() -> Result<azsreg_model::ActivationKey, PortError>,
) -> Result<Option<String>, Failure> {
    let World { stamp, clock, .. } = world;
    let Wanted { id, trusted, before, good } = wanted;
    let recorded = steps.recorded("activation");
    let before = before.or_else(|| recorded.as_ref().and_then(|output| output["run"].as_str()));
    // A record that names us after our own activation is ours, whatever was there before.
    let tried = Cell::new(false);
    let (odd, strict) = (RefCell::new(None), steps.strict());
    let activated = steps
        .step(
            "activation",
            title("activation"),
            Policy::STAMP,
            async || {
                let Some(records) = world.records else {
                    // The stamp's own account vouches for what was done before; without it the step runs again.
                    let Some(before) = before else { return Ok(None) };
                    let newest = newest_activation(stamp, clock).await?;
                    let same = newest.as_deref() == Some(before);
                    return Ok(same.then(|| (newest, "by this operation before, and none after it".to_owned())));
                };
                let record = records.activation(information).await?;
                let fits = |r: &ActivationRecord| r.is_of(id) && good(r) && !r.is_expired(clock.now());
                let fresh = trusted || recorded.is_some() || tried.get();
                if !record.is_some_and(|r| fresh && fits(&r)) {
                    return Ok(None);
                }
                Ok(Some((newest_activation(stamp, clock).await?, "the record names this registration".to_owned())))
            },
            async || {
                idle(stamp, Action::NewAzureStackActivation).await?;
                let key = key().await?;
                let checked = forms::key(&key, (information.cloud_id, id), clock.now(), strict);
                odd.replace(checked.map_err(PortError::permanent)?.1);
                stamp.new_activation(&key).await?;
                tried.set(true);
                if world.records.is_some() {
                    return Ok(None);
                }
                Ok(Some((newest_activation(stamp, clock).await?, "activated".to_owned())))
            },
            |run| serde_json::json!({ "run": run }),
        )
        .await;
    steps.warn(odd.take());
    activated.map_err(explain_record)
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

/// What a deactivation was agreed to for.
pub(crate) enum Deactivate<'d> {
    /// The registration that the record named when it was shown; any, where the record was not read.
    For(Option<&'d RegistrationId>),
    /// Another registration takes its place, in the same run: an activation for it stays.
    InPlaceOf(&'d RegistrationId, &'d RegistrationId),
}

/// What a deactivation leaves where the stamp had none.
const RAN_AGAIN: &str = "run again: the stamp was not activated";

/// Deactivates the stamp. Where the record can be read it decides: the stamp may be activated for another registration by now,
/// and it was not agreed to. Where it can't, nothing vouches for what was done before: the step runs again, and that the
/// stamp is not activated is what was wanted.
pub(crate) async fn deactivation<A, S: Stamp, R: Records, C: Clock, J: Journal>(
    steps: &mut Steps<'_, J, C>,
    world: World<'_, A, S, R, C>,
    information: &StampInformation,
    what: Deactivate<'_>,
) -> Result<(), Failure> {
    let stamp = world.stamp;
    let tried = Cell::new(false);
    steps
        .step(
            "deactivation",
            title("deactivation"),
            Policy::STAMP,
            async || {
                let Some(records) = world.records else { return Ok(None) };
                // What was begun before decides what is left to do.
                idle(stamp, Action::RemoveAzureStackActivation).await?;
                let Some(record) = records.activation(information).await? else {
                    return Ok(Some(((), "the stamp is not activated".to_owned())));
                };
                let named = &record.registration;
                match &what {
                    Deactivate::InPlaceOf(_, new) if named == *new => {
                        Ok(Some(((), "the stamp is activated for the new registration already".to_owned())))
                    }
                    // Its own deactivation is not to be seen at once.
                    Deactivate::For(Some(agreed)) | Deactivate::InPlaceOf(agreed, _) if named != *agreed => {
                        let message = format!("the stamp is activated for {named} now, not for {agreed}");
                        Err(PortError::permanent(changed_meanwhile(message)))
                    }
                    Deactivate::For(None) if !tried.get() => {
                        let message =
                            format!("the stamp is activated for {named} now; it was not when it was looked at");
                        Err(PortError::permanent(changed_meanwhile(message)))
                    }
                    _ => Ok(None),
                }
            },
            async || {
                idle(stamp, Action::NewAzureStackActivation).await?;
                idle(stamp, Action::RemoveAzureStackActivation).await?;
                let said = match stamp.remove_activation().await {
                    Ok(()) => "deactivated",
                    Err(error) if error.problem.code == &code::STAMP_NOT_ACTIVATED => RAN_AGAIN,
                    Err(error) => return Err(error),
                };
                tried.set(true);
                Ok(world.records.is_none().then(|| ((), said.to_owned())))
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
    let lifted = Cell::new(false);
    steps
        .step(
            "unlock",
            title("unlock"),
            Policy::AZURE,
            async || {
                let locks = azure.locks(id).await?;
                let said = if lifted.get() { "lifted" } else { "is not on it" };
                let free = !locks.iter().any(azsreg_model::Lock::is_ours);
                Ok(free.then(|| ((), format!("{LOCK_NAME} {said}"))))
            },
            async || {
                azure.delete_lock(id, LOCK_NAME).await?;
                lifted.set(true);
                Ok(None)
            },
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
    let lifted = steps.has_begun("unlock");
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
                    lock::heeded(azure, id, lifted, azure.delete_role_assignment(id, &role.name).await).await?;
                }
                Ok(None)
            },
            nothing,
        )
        .await
}

/// A registration that was agreed to be removed: it has to be the same until it is gone.
#[derive(Debug, Clone)]
pub(crate) struct Doomed<'d> {
    /// Which.
    pub(crate) id: &'d RegistrationId,
    /// The stamp's.
    pub(crate) cloud_id: Option<Uuid>,
    /// Its etag when it was looked at.
    pub(crate) etag: Option<&'d str>,
}

impl Doomed<'_> {
    /// Whether it is gone, which another stamp's of the same name is, too.
    ///
    /// # Errors
    /// It was written to since.
    async fn is_gone<A: Azure>(&self, azure: &A) -> Result<bool, PortError> {
        let Some(now) = azure.registration(self.id).await? else {
            // Without its provider a subscription shows no registration, whether there is one or not.
            if matches!(azure.provider(self.id.subscription).await, Ok(Provider::NotRegistered)) {
                let message = format!("the provider is not registered: whether {} is gone is not to be seen", self.id);
                return Err(PortError::permanent(Problem::new(&code::PROVIDER_NOT_REGISTERED, message)));
            }
            return Ok(true);
        };
        if self.cloud_id.is_some() && now.cloud_id != self.cloud_id {
            return Ok(true);
        }
        if self.etag.is_some() && now.etag.as_deref() != self.etag {
            let message = format!("{} was written to since it was looked at", self.id);
            return Err(PortError::permanent(changed_meanwhile(message)));
        }
        Ok(false)
    }
}

/// Removes a registration of a stamp: the lock, the stamp's role on it, itself; and sees that it is gone.
pub(crate) async fn remove<A: Azure, J: Journal, C: Clock>(
    steps: &mut Steps<'_, J, C>,
    azure: &A,
    clock: &C,
    doomed: Doomed<'_>,
) -> Result<(), Failure> {
    let id = doomed.id;
    // Before the lock is lifted: what is left alone stays locked.
    let gone = retry::read(clock, Policy::AZURE, async || doomed.is_gone(azure).await).await;
    let gone = gone.map_err(|error| steps.failure("unlock", *error.problem))?;
    if gone {
        for step in ["unlock", "role-removal"] {
            steps.not_needed(step, "the registration is gone");
        }
    } else {
        let bare = async {
            unlock(steps, azure, id).await?;
            role_removal(steps, azure, id).await
        };
        if let Err(failure) = bare.await {
            return Err(lock::put_back(steps, azure, clock, &[id], failure).await);
        }
    }
    let lifted = steps.has_begun("unlock");
    let removed = steps
        .step(
            "removal",
            title("removal"),
            Policy::AZURE,
            async || Ok(doomed.is_gone(azure).await?.then(|| ((), format!("{} is gone", id.name)))),
            async || lock::heeded(azure, id, lifted, azure.delete_registration(id).await).await.map(|()| None),
            nothing,
        )
        .await;
    let Err(mut failure) = removed else { return Ok(()) };
    for problem in &mut failure.problems {
        if problem.code == &code::NOT_SEEN {
            *problem = Problem::new(&code::STILL_THERE, format!("{id} is still there after it was deleted"));
        }
    }
    Err(lock::put_back(steps, azure, clock, &[id], failure).await)
}
