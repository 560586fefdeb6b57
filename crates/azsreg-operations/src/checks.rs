//! Everything that can be checked before anything is changed: one list, reported together.

use azsreg_model::{
    BillingModel, Lock, LockLevel, Permission, Problem, RegisterRequest, Registration, RegistrationId,
    StampInformation, StampVersion, code, quoted,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::engine::Watch;
use crate::engine::retry::{self, Policy};
use crate::ports::{Azure, Class, Clock, PortError, Provider, Subscription};
use crate::status;

/// What the checks found in Azure, for the steps to go on from.
#[derive(Debug, Clone)]
pub struct Found {
    /// The subscription.
    pub subscription: Subscription,
    /// How far the provider's registration has come.
    pub provider: Provider,
    /// The resource group's location, if it exists.
    pub group: Option<String>,
    /// Where the resource group is or will be.
    pub location: String,
    /// The registration of this name, if it exists.
    pub registration: Option<Registration>,
    /// What forbids a change, where there is one to make: a lock, or the subscription's state.
    pub stops: Vec<Problem>,
    /// What could not be checked, for the operator to know.
    pub unchecked: Vec<Problem>,
}

/// The outcome of a list of checks: all refusals, or what was found.
pub type Checked<T> = Result<T, Vec<Problem>>;

/// The checks that the stamp's own information decides.
#[must_use]
pub fn stamp(request: &RegisterRequest, stamp: &StampInformation) -> Vec<Problem> {
    let mut problems = Vec::new();
    // What is not said is no reason to refuse: the stamp knows what it is.
    let Some(build) = stamp.version else { return problems };
    if request.billing_model == BillingModel::Custom && !build.knows_custom_billing() {
        problems.push(Problem::new(
            &code::CUSTOM_UNSUPPORTED,
            format!("the stamp is of build {build}; custom billing needs {} or newer", StampVersion::CUSTOM_BILLING),
        ));
    }
    if let Some(version) = request.token_version
        && build.token_version().is_none()
    {
        let message = format!("--token-version {version}: build {build} has no such parameter");
        problems.push(Problem::new(&code::BAD_ARGUMENT, message).next("Leave --token-version out."));
    }
    problems
}

/// What a registration would be told by the stamp's information, where that does not say it.
#[must_use]
pub fn unsaid(stamp: &StampInformation) -> Option<Problem> {
    let members = [("StampVersion", stamp.version.is_none()), ("NumberOfNodes", stamp.nodes.is_none())];
    let missing: Vec<&str> = members.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect();
    if missing.is_empty() {
        return None;
    }
    let message = format!(
        "Get-AzureStackStampInformation does not say {}, or in another way: the registration key pair is not set, and {}",
        missing.join(" and "),
        if stamp.version.is_none() { "the token is of the version that the stamp chooses" } else { "all else goes on" }
    );
    let cause = "The stamp is of another build than those that azsreg knows.";
    let next =
        "Run Test-AzureStack on the privileged endpoint. Where the token has to be of a version: add --token-version.";
    Some(Problem::new(&code::STAMP_INFORMATION, message).cause(cause).next(next))
}

/// A check's answer: a refusal goes on the list, anything else that fails ends the checks.
pub(crate) fn refusal<T>(result: Result<T, PortError>, problems: &mut Vec<Problem>) -> Result<Option<T>, PortError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.class == Class::Permanent => {
            problems.push(*error.problem);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Refuses with all that refuses; else gives what could not be checked, which is for the operator to know and no more.
pub(crate) fn judged(problems: Vec<Problem>) -> Checked<Vec<Problem>> {
    let (unchecked, refusing): (Vec<_>, Vec<_>) =
        problems.into_iter().partition(|problem| problem.code == &code::NOT_CHECKED);
    if refusing.is_empty() { Ok(unchecked) } else { Err(refusing) }
}

/// A check's answer, or that it could not be made, as a warning.
pub(crate) fn checkable<T>(result: Result<T, PortError>) -> Result<Result<T, Problem>, PortError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.problem.code == &code::NOT_CHECKED => Ok(Err(*error.problem)),
        Err(error) => Err(error),
    }
}

/// What the caller may do at a scope, or that it could not be checked.
pub(crate) async fn allowed<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    scope: &str,
) -> Result<Result<Vec<Permission>, Problem>, PortError> {
    checkable(retry::read(clock, Policy::AZURE, async || azure.permissions(scope).await).await)
}

/// What is to be registered where, for the checks in Azure.
#[derive(Debug, Clone, Copy)]
pub struct Target<'t> {
    /// The registration to be.
    pub id: &'t RegistrationId,
    /// The stamp.
    pub cloud_id: Uuid,
    /// The resource group's location, where the operator names one.
    pub location: Option<&'t str>,
    /// Whether the stamp reaches Azure: it then gets a principal, and the principal a role.
    pub connected: bool,
    /// A registration that will be removed first.
    pub replaced: Option<&'t RegistrationId>,
}

/// When a capacity registration ends, as its key says. None for other models, or where the key may not be read.
///
/// # Errors
/// Azure could not be asked.
pub async fn expiry<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    registration: &Registration,
) -> Result<Option<Timestamp>, PortError> {
    if !registration.billing_model.eq_ignore_ascii_case(BillingModel::Capacity.wire()) {
        return Ok(None);
    }
    match retry::read(clock, Policy::AZURE, async || azure.activation_key(&registration.id).await).await {
        Ok(key) => Ok(key.decode().ok().and_then(|claims| claims.expires)),
        Err(error) if error.class == Class::Permanent => Ok(None),
        Err(error) => Err(error),
    }
}

/// The subscription, if the sign-in sees it.
///
/// # Errors
/// Azure could not be asked.
pub async fn subscription<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: Uuid,
) -> Result<Result<Subscription, Problem>, PortError> {
    let visible = retry::read(clock, Policy::AZURE, async || azure.subscriptions().await).await?;
    if let Some(subscription) = visible.iter().find(|s| s.id == id) {
        return Ok(Ok(subscription.clone()));
    }
    let list: Vec<String> = visible.iter().map(|s| format!("{} ({})", s.id, s.name)).collect();
    let seen = if list.is_empty() { "it sees none".into() } else { format!("it sees {}", list.join(", ")) };
    Ok(Err(Problem::new(
        &code::SUBSCRIPTION_NOT_VISIBLE,
        format!("the sign-in does not see the subscription {id}; {seen}"),
    )))
}

/// The actions that the caller lacks at a scope, as one refusal; or that it could not be checked.
///
/// # Errors
/// Azure could not be asked.
pub async fn missing_actions<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    scope: &str,
    needed: &[&'static str],
    what: &str,
) -> Result<Option<Problem>, PortError> {
    Ok(match allowed(azure, clock, scope).await? {
        Ok(permissions) => lacking(&permissions, scope, needed, what),
        Err(unchecked) => Some(unchecked),
    })
}

fn lacking(permissions: &[Permission], scope: &str, needed: &[&'static str], what: &str) -> Option<Problem> {
    let missing: Vec<_> = needed.iter().filter(|action| !Permission::allow(permissions, action)).collect();
    if missing.is_empty() {
        return None;
    }
    let message = format!("the caller lacks {} actions that {what} needs on {scope}", missing.len());
    let mut problem = Problem::new(&code::ACTIONS_MISSING, message);
    problem.details.extend(missing.iter().map(|action| format!("missing: {action}")));
    Some(problem)
}

/// The checks in Azure.
///
/// # Errors
/// Azure could not be asked.
pub async fn azure<A: Azure, C: Clock>(azure: &A, clock: &C, target: Target<'_>) -> Result<Checked<Found>, PortError> {
    let mut problems = Vec::new();
    let Target { id, cloud_id, .. } = target;
    let subscription = match subscription(azure, clock, id.subscription).await? {
        Ok(subscription) => subscription,
        Err(problem) => return Ok(Err(vec![problem])),
    };
    let mut stops: Vec<Problem> = disabled(&subscription).into_iter().collect();
    let provider = retry::read(clock, Policy::AZURE, async || azure.provider(subscription.id).await).await?;
    let (group, location) = place(azure, clock, id, target.location, &mut problems).await?;

    let scope = match &group {
        Some(_) => format!("/subscriptions/{}/resourceGroups/{}", subscription.id, id.resource_group),
        None => format!("/subscriptions/{}", subscription.id),
    };
    let permissions = allowed(azure, clock, &scope).await?;
    let needed = Needed::by(group.is_some(), provider, target.connected);
    match &permissions {
        Ok(permissions) => problems.extend(lacking(permissions, &scope, &needed.in_group, "registering")),
        Err(unchecked) => problems.push(unchecked.clone()),
    }
    if !needed.in_subscription.is_empty() {
        let whole = format!("/subscriptions/{}", subscription.id);
        problems.extend(missing_actions(azure, clock, &whole, &needed.in_subscription, "registering").await?);
    }
    // What is not known to be forbidden is tried.
    let may = |action: &str| permissions.as_ref().map_or(true, |permissions| Permission::allow(permissions, action));
    if may("Microsoft.Authorization/locks/read") {
        let locks = foreign_locks(azure, clock, id, true).await;
        match locks {
            Err(error) if permissions.is_err() && error.class == Class::Permanent => {
                let message = format!("the locks above {} could not be checked", id.name);
                problems.push(Problem::new(&code::NOT_CHECKED, message).detail(error.problem.to_string()));
            }
            locks => stops.extend(locks?),
        }
    }

    let mut registration = None;
    if provider != Provider::NotRegistered && may("Microsoft.AzureStack/registrations/read") {
        let all = status::registrations(azure, clock, subscription.id).await;
        if let Some(all) = refusal(all, &mut problems)? {
            registration = free(azure, clock, (id, cloud_id), target.replaced, &all, &mut problems).await?;
        }
    }

    // Without a user's refresh token the stamp can't make its principal: said before anything changes.
    if target.connected
        && let Err(error) = azure.bridge_refresh_token().await
    {
        if matches!(error.class, Class::Permanent | Class::Refused) {
            problems.push(*error.problem);
        } else {
            return Err(error);
        }
    }
    Ok(match judged(problems) {
        Ok(unchecked) => Ok(Found { subscription, provider, group, location, registration, stops, unchecked }),
        Err(problems) => Err(stops.into_iter().chain(problems).collect()),
    })
}

/// Whether a stamp can be registered under a name, by the registrations of the subscription: the name is free or the stamp's
/// own, and no other live registration has the stamp's cloud id. `register` and `check` ask here. Gives the registration of
/// the name.
pub(crate) async fn free<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    (id, cloud_id): (&RegistrationId, Uuid),
    replaced: Option<&RegistrationId>,
    all: &[Registration],
    problems: &mut Vec<Problem>,
) -> Result<Option<Registration>, PortError> {
    let mut own = None;
    for other in all {
        if other.id == *id {
            // The resource itself has more than the list.
            let read = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await;
            own = refusal(read, problems)?.flatten();
        } else if other.cloud_id == Some(cloud_id) && replaced != Some(&other.id) {
            let end = expiry(azure, clock, other).await?;
            // An expired one does not stand in the way of a new name.
            if end.is_none_or(|end| end > clock.now()) {
                let message = format!("the stamp {cloud_id} is registered already, as {}", other.id);
                problems.push(registered_elsewhere(message, &other.id));
            }
        }
    }
    if let Some(owner) = own.as_ref().and_then(|own| own.cloud_id)
        && owner != cloud_id
    {
        let message = format!("the registration {} belongs to the stamp {owner}; this stamp is {cloud_id}", id.name);
        problems.push(Problem::new(&code::NAME_TAKEN, message));
    }
    Ok(own)
}

/// Whether the registration that the stamp's record names is still alive: Azure allows one for each cloud id.
pub(crate) async fn activated_elsewhere<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    other: &RegistrationId,
    cloud_id: Uuid,
) -> Result<Option<Problem>, PortError> {
    let seen = match retry::read(clock, Policy::AZURE, async || azure.registration(other).await).await {
        // Gone: what is left is an activation without a registration, and registering mends it.
        Ok(None) => return Ok(None),
        Ok(Some(registration)) if registration.cloud_id.is_some_and(|id| id != cloud_id) => return Ok(None),
        Ok(Some(registration)) => match expiry(azure, clock, &registration).await? {
            Some(end) if end <= clock.now() => return Ok(None),
            _ => "is there",
        },
        Err(error) if error.class == Class::Permanent => "can't be seen with this sign-in",
        Err(error) => return Err(error),
    };
    Ok(Some(registered_elsewhere(format!("the stamp is activated for {other}, which {seen}"), other)))
}

/// That a stamp has a registration, and what can be done with it.
fn registered_elsewhere(message: String, other: &RegistrationId) -> Problem {
    let RegistrationId { subscription, resource_group, name } = other;
    let (resource_group, name) = (quoted(resource_group), quoted(name));
    Problem::new(&code::STAMP_REGISTERED_ELSEWHERE, message).next(format!(
        "azsreg status --subscription {subscription}  shows both sides; azsreg adopt --subscription {subscription}  takes over what something else registered; azsreg renew --subscription {subscription}  renews it. To write to it again: azsreg register --subscription {subscription} --resource-group {resource_group} --name {name}"
    ))
}

/// The resource group, and where it is or will be.
pub(crate) async fn place<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
    asked: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Result<(Option<String>, String), PortError> {
    let (subscription, name) = (id.subscription, id.resource_group.as_str());
    let group = retry::read(clock, Policy::AZURE, async || azure.resource_group(subscription, name).await).await;
    let group = refusal(group, problems)?.flatten();
    if let (Some(existing), Some(asked)) = (&group, asked)
        && plain(existing) != plain(asked)
    {
        problems.push(Problem::new(
            &code::GROUP_ELSEWHERE,
            format!("the resource group {name} is in {existing}, not in {asked}"),
        ));
    }
    let location = match &group {
        Some(existing) => existing.clone(),
        None => location(azure, clock, subscription, asked, problems).await?,
    };
    Ok((group, location))
}

/// A location's name without what makes no difference to Azure.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase()
}

/// Where a resource group is made: where the operator says, else at the cloud's usual location; at the first that the
/// subscription has where it does not have that one, as locations close.
pub(crate) async fn location<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    subscription: Uuid,
    asked: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Result<String, PortError> {
    let wanted = asked.unwrap_or_else(|| azure.default_location());
    let known = retry::read(clock, Policy::AZURE, async || azure.locations(subscription).await).await;
    let known = match checkable(known)? {
        Ok(known) => known,
        Err(unchecked) => {
            problems.push(unchecked);
            return Ok(wanted.to_owned());
        }
    };
    if known.iter().any(|known| plain(known) == plain(wanted)) {
        return Ok(wanted.to_owned());
    }
    if let (None, Some(first)) = (asked, known.first()) {
        return Ok(first.clone());
    }
    problems.push(Problem::new(
        &code::LOCATION_NOT_AVAILABLE,
        format!("the subscription does not have the location {wanted}; it has {}", known.join(", ")),
    ));
    Ok(wanted.to_owned())
}

/// Azure does not update an expired registration.
pub(crate) async fn expired<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    registration: &Registration,
) -> Result<Option<Problem>, PortError> {
    let end = expiry(azure, clock, registration).await?.filter(|end| *end <= clock.now());
    Ok(end.map(|end| {
        let message = format!("the registration {} expired at {end:.0}", registration.id.name);
        let next = format!("azsreg renew --subscription {}", registration.id.subscription);
        Problem::new(&code::EXPIRED_NOT_UPDATED, message).next(next)
    }))
}

/// The actions that removing a registration needs.
pub(crate) const REMOVAL: &[&str] = &[
    "Microsoft.AzureStack/registrations/read",
    "Microsoft.AzureStack/registrations/delete",
    "Microsoft.Authorization/locks/read",
    "Microsoft.Authorization/locks/delete",
    "Microsoft.Authorization/roleAssignments/read",
    "Microsoft.Authorization/roleAssignments/delete",
];

/// The actions that registering needs, less those whose work is done, where each is judged. `register` and `check` ask here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Needed {
    /// In the resource group, or in the subscription while the group is not there.
    pub(crate) in_group: Vec<&'static str>,
    /// In the subscription, whatever the caller may do in the group.
    pub(crate) in_subscription: Vec<&'static str>,
}

impl Needed {
    pub(crate) fn by(group: bool, provider: Provider, connected: bool) -> Self {
        let mut in_group = vec![
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.AzureStack/registrations/read",
            "Microsoft.AzureStack/registrations/write",
            "Microsoft.AzureStack/registrations/getActivationKey/action",
            "Microsoft.Authorization/locks/read",
            "Microsoft.Authorization/locks/write",
        ];
        if connected {
            in_group.extend([
                "Microsoft.Authorization/roleAssignments/read",
                "Microsoft.Authorization/roleAssignments/write",
            ]);
        }
        if !group {
            in_group.push("Microsoft.Resources/subscriptions/resourceGroups/write");
        }
        let registers = provider == Provider::NotRegistered;
        Self { in_group, in_subscription: registers.then_some(REGISTER_PROVIDER).into_iter().collect() }
    }
}

/// The action that registers the provider.
pub(crate) const REGISTER_PROVIDER: &str = "Microsoft.AzureStack/register/action";

/// Refuses what would make or change something in a disabled subscription.
pub(crate) fn disabled(subscription: &Subscription) -> Option<Problem> {
    subscription.is_disabled().then(|| {
        let Subscription { id, name, state, .. } = subscription;
        Problem::new(&code::SUBSCRIPTION_DISABLED, format!("the subscription {id} ({name}) is {state}"))
    })
}

/// Says that a subscription is about to be disabled.
pub(crate) fn warned(subscription: &Subscription) -> Option<Problem> {
    subscription.is_warned().then(|| {
        let Subscription { id, name, state, .. } = subscription;
        Problem::new(&code::SUBSCRIPTION_WARNED, format!("the subscription {id} ({name}) is {state}"))
    })
}

/// Says in which state a subscription is that something is removed from. Nothing is refused here: whoever leaves a disabled
/// subscription is not held in it, and Azure judges.
pub(crate) async fn leaving<A: Azure, C: Clock>(azure: &A, clock: &C, id: Uuid, watch: &mut dyn Watch) {
    let Ok(Ok(found)) = subscription(azure, clock, id).await else { return };
    let next = "If Azure refuses the removal: have the subscription enabled again, then run the same command again.";
    let stopped = disabled(&found).map(|problem| problem.next(next));
    if let Some(problem) = stopped.or_else(|| warned(&found)) {
        watch.warning(&problem);
    }
}

/// The subscription, if the sign-in sees it and it may be written in.
///
/// # Errors
/// Azure could not be asked.
pub(crate) async fn writable<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: Uuid,
) -> Result<Result<Subscription, Problem>, PortError> {
    Ok(subscription(azure, clock, id).await?.and_then(|found| disabled(&found).map_or(Ok(found), Err)))
}

/// Refuses where a lock that is not azsreg's own would stop the change half-way: one on the registration, on its group or on
/// its subscription, whether the registration is there or not.
pub(crate) async fn foreign_locks<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
    only_read_only: bool,
) -> Result<Option<Problem>, PortError> {
    let locks = retry::read(clock, Policy::AZURE, async || azure.locks(id).await).await?;
    let foreign = locks.iter().filter(|lock| !lock.is_ours() && (!only_read_only || lock.level == LockLevel::ReadOnly));
    let others = lines(foreign);
    if others.is_empty() {
        return Ok(None);
    }
    let message = format!("a lock that is not azsreg's forbids changes of {}", id.name);
    let mut problem =
        Problem::new(&code::SCOPE_LOCKED, message).next("Have that lock removed, then run the same command again.");
    problem.details = others;
    Ok(Some(problem))
}

/// Locks as they are named: what they are called, what they forbid and where they are.
pub(crate) fn lines<'l>(locks: impl Iterator<Item = &'l Lock>) -> Vec<String> {
    locks.map(|lock| format!("{} ({:?}), on {}", lock.name, lock.level, lock.scope)).collect()
}
