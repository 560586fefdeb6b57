//! Everything that can be checked before anything is changed: one list, reported together.

use azsreg_model::{
    BillingModel, LockLevel, Permission, Problem, RegisterRequest, Registration, RegistrationId, StampInformation,
    StampVersion, code,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::engine::Watch;
use crate::engine::retry::{self, Policy};
use crate::ports::{Azure, Class, Clock, PortError, Provider, Subscription};

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

/// The actions that the caller lacks at a scope, as one refusal.
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
    let permissions = retry::read(clock, Policy::AZURE, async || azure.permissions(scope).await).await?;
    Ok(lacking(&permissions, scope, needed, what))
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
    let (group, location) = place(azure, clock, target, &mut problems).await?;

    let scope = match &group {
        Some(_) => format!("/subscriptions/{}/resourceGroups/{}", subscription.id, id.resource_group),
        None => format!("/subscriptions/{}", subscription.id),
    };
    let permissions = retry::read(clock, Policy::AZURE, async || azure.permissions(&scope).await).await?;
    let needed = Needed::by(group.is_some(), provider, target.connected);
    problems.extend(lacking(&permissions, &scope, &needed.in_group, "registering"));
    if !needed.in_subscription.is_empty() {
        let whole = format!("/subscriptions/{}", subscription.id);
        problems.extend(missing_actions(azure, clock, &whole, &needed.in_subscription, "registering").await?);
    }
    if Permission::allow(&permissions, "Microsoft.Authorization/locks/read") {
        stops.extend(foreign_locks(azure, clock, id, true).await?);
    }

    let mut registration = None;
    if provider != Provider::NotRegistered && Permission::allow(&permissions, "Microsoft.AzureStack/registrations/read")
    {
        let all = retry::read(clock, Policy::AZURE, async || azure.registrations(subscription.id).await).await;
        for listed in refusal(all, &mut problems)?.unwrap_or_default() {
            // The list leaves the cloud id out in some api-versions: the resource itself has it.
            let other = if listed.id == *id || listed.cloud_id.is_none() {
                let read = retry::read(clock, Policy::AZURE, async || azure.registration(&listed.id).await).await;
                match refusal(read, &mut problems)?.flatten() {
                    Some(read) => read,
                    None => continue,
                }
            } else {
                listed
            };
            if other.id == *id {
                registration = Some(other);
            } else if other.cloud_id == Some(cloud_id) && target.replaced != Some(&other.id) {
                problems.extend(registered_elsewhere(azure, clock, &other, cloud_id).await?);
            }
        }
    }
    if let Some(owner) = registration.as_ref().and_then(|r: &Registration| r.cloud_id)
        && owner != cloud_id
    {
        problems.push(Problem::new(
            &code::NAME_TAKEN,
            format!("the registration {} belongs to the stamp {owner}; this stamp is {cloud_id}", id.name),
        ));
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
    if problems.is_empty() {
        Ok(Ok(Found { subscription, provider, group, location, registration, stops }))
    } else {
        Ok(Err(stops.into_iter().chain(problems).collect()))
    }
}

/// Refuses if another registration of the stamp is alive: an expired one does not stand in the way of a new name.
async fn registered_elsewhere<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    other: &Registration,
    cloud_id: Uuid,
) -> Result<Option<Problem>, PortError> {
    if expiry(azure, clock, other).await?.is_some_and(|end| end <= clock.now()) {
        return Ok(None);
    }
    let message = format!("the stamp {cloud_id} is registered already, as {}", other.id);
    Ok(Some(Problem::new(&code::STAMP_REGISTERED_ELSEWHERE, message).next(format!(
        "Register with --name {} --resource-group {}, or remove that registration first: azsreg unregister.",
        other.id.name, other.id.resource_group
    ))))
}

/// The resource group, and where it is or will be.
async fn place<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    target: Target<'_>,
    problems: &mut Vec<Problem>,
) -> Result<(Option<String>, String), PortError> {
    let (subscription, name) = (target.id.subscription, target.id.resource_group.as_str());
    let group = retry::read(clock, Policy::AZURE, async || azure.resource_group(subscription, name).await).await;
    let group = refusal(group, problems)?.flatten();
    let wanted = target.location.map_or_else(|| azure.default_location().to_owned(), str::to_owned);
    let plain = |name: &str| name.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    if let (Some(existing), Some(asked)) = (&group, target.location)
        && plain(existing) != plain(asked)
    {
        problems.push(Problem::new(
            &code::GROUP_ELSEWHERE,
            format!("the resource group {name} is in {existing}, not in {asked}"),
        ));
    }
    if group.is_none() {
        let locations = retry::read(clock, Policy::AZURE, async || azure.locations(subscription).await).await?;
        if !locations.iter().any(|known| plain(known) == plain(&wanted)) {
            problems.push(Problem::new(
                &code::LOCATION_NOT_AVAILABLE,
                format!("the subscription does not have the location {wanted}; it has {}", locations.join(", ")),
            ));
        }
    }
    let location = group.clone().unwrap_or(wanted);
    Ok((group, location))
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
    let others: Vec<String> =
        foreign.map(|lock| format!("{} ({:?}), on {}", lock.name, lock.level, lock.scope)).collect();
    if others.is_empty() {
        return Ok(None);
    }
    let message = format!("a lock that is not azsreg's forbids changes of {}", id.name);
    let mut problem =
        Problem::new(&code::SCOPE_LOCKED, message).next("Have that lock removed, then run the same command again.");
    problem.details = others;
    Ok(Some(problem))
}
