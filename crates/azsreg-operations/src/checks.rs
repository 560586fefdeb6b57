//! Everything that can be checked before anything is changed: one list, reported together.

use azsreg_model::{
    BillingModel, Permission, Problem, RegisterRequest, Registration, RegistrationId, StampInformation, StampVersion,
    code,
};

use crate::engine::retry::{self, Policy};
use crate::ports::{Azure, Class, Clock, PortError, Subscription};

/// What the checks found in Azure, for the steps to go on from.
#[derive(Debug, Clone)]
pub struct Found {
    /// The subscription.
    pub subscription: Subscription,
    /// Whether the provider is registered.
    pub provider: bool,
    /// The resource group's location, if it exists.
    pub group: Option<String>,
    /// Where the resource group is or will be.
    pub location: String,
    /// The registration of this name, if it exists.
    pub registration: Option<Registration>,
}

/// The outcome of a list of checks: all refusals, or what was found.
pub type Checked<T> = Result<T, Vec<Problem>>;

/// The checks that the stamp's own information decides.
#[must_use]
pub fn stamp(request: &RegisterRequest, stamp: &StampInformation) -> Vec<Problem> {
    let mut problems = Vec::new();
    if request.billing_model == BillingModel::Custom && !stamp.version.knows_custom_billing() {
        problems.push(Problem::new(
            &code::CUSTOM_UNSUPPORTED,
            format!(
                "the stamp is of build {}; custom billing needs {} or newer",
                stamp.version,
                StampVersion::CUSTOM_BILLING
            ),
        ));
    }
    problems
}

/// A check's answer: a refusal goes on the list, anything else that fails ends the checks.
fn refusal<T>(result: Result<T, PortError>, problems: &mut Vec<Problem>) -> Result<Option<T>, PortError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.class == Class::Permanent => {
            problems.push(*error.problem);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The checks in Azure.
///
/// # Errors
/// Azure could not be asked.
pub async fn azure<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    request: &RegisterRequest,
    id: &RegistrationId,
    stamp: &StampInformation,
) -> Result<Checked<Found>, PortError> {
    let mut problems = Vec::new();
    let visible = retry::read(clock, Policy::AZURE, async || azure.subscriptions().await).await?;
    let Some(subscription) = visible.iter().find(|s| s.id == request.subscription).cloned() else {
        let list: Vec<String> = visible.iter().map(|s| format!("{} ({})", s.id, s.name)).collect();
        let seen = if list.is_empty() { "it sees none".into() } else { format!("it sees {}", list.join(", ")) };
        return Ok(Err(vec![Problem::new(
            &code::SUBSCRIPTION_NOT_VISIBLE,
            format!("the sign-in does not see the subscription {}; {seen}", request.subscription),
        )]));
    };
    let provider = retry::read(clock, Policy::AZURE, async || azure.provider_registered(subscription.id).await).await?;
    let group =
        retry::read(clock, Policy::AZURE, async || azure.resource_group(subscription.id, &id.resource_group).await)
            .await;
    let group = refusal(group, &mut problems)?.flatten();

    let wanted = request.location.clone().unwrap_or_else(|| azure.default_location().to_owned());
    let plain = |name: &str| name.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    if let (Some(existing), Some(asked)) = (&group, &request.location)
        && plain(existing) != plain(asked)
    {
        problems.push(Problem::new(
            &code::GROUP_ELSEWHERE,
            format!("the resource group {} is in {existing}, not in {asked}", id.resource_group),
        ));
    }
    if group.is_none() {
        let locations = retry::read(clock, Policy::AZURE, async || azure.locations(subscription.id).await).await?;
        if !locations.iter().any(|known| plain(known) == plain(&wanted)) {
            problems.push(Problem::new(
                &code::LOCATION_NOT_AVAILABLE,
                format!("the subscription does not have the location {wanted}; it has {}", locations.join(", ")),
            ));
        }
    }

    let scope = match &group {
        Some(_) => format!("/subscriptions/{}/resourceGroups/{}", subscription.id, id.resource_group),
        None => format!("/subscriptions/{}", subscription.id),
    };
    let permissions = retry::read(clock, Policy::AZURE, async || azure.permissions(&scope).await).await?;
    let mut missing: Vec<&str> =
        actions_needed(group.is_some()).into_iter().filter(|action| !Permission::allow(&permissions, action)).collect();
    if !provider {
        // The provider is the subscription's, whatever the caller may do in the group.
        let whole = format!("/subscriptions/{}", subscription.id);
        let permissions = retry::read(clock, Policy::AZURE, async || azure.permissions(&whole).await).await?;
        if !Permission::allow(&permissions, REGISTER_PROVIDER) {
            missing.push(REGISTER_PROVIDER);
        }
    }
    if !missing.is_empty() {
        let mut problem = Problem::new(
            &code::ACTIONS_MISSING,
            format!("the caller lacks {} actions that registering needs on {scope}", missing.len()),
        );
        problem.details.extend(missing.iter().map(|action| format!("missing: {action}")));
        problems.push(problem);
    }

    let mut registration = None;
    if provider && Permission::allow(&permissions, "Microsoft.AzureStack/registrations/read") {
        let all = retry::read(clock, Policy::AZURE, async || azure.registrations(subscription.id).await).await;
        let all = refusal(all, &mut problems)?.unwrap_or_default();
        for other in all {
            if other.id == *id {
                // The list leaves the cloud id out in some api-versions: the resource itself has it.
                let read = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await;
                registration = refusal(read, &mut problems)?.flatten();
            } else if other.cloud_id == Some(stamp.cloud_id) {
                problems.push(
                    Problem::new(
                        &code::STAMP_REGISTERED_ELSEWHERE,
                        format!("the stamp {} is registered already, as {}", stamp.cloud_id, other.id),
                    )
                    .next(format!(
                        "Register with --name {} --resource-group {}, or remove that registration first.",
                        other.id.name, other.id.resource_group
                    )),
                );
            }
        }
    }
    if let Some(cloud_id) = registration.as_ref().and_then(|r: &Registration| r.cloud_id)
        && cloud_id != stamp.cloud_id
    {
        problems.push(Problem::new(
            &code::NAME_TAKEN,
            format!("the registration {} belongs to the stamp {cloud_id}; this stamp is {}", id.name, stamp.cloud_id),
        ));
    }

    // Without a user's refresh token the stamp can't make its principal: said before anything changes.
    if let Err(error) = azure.bridge_refresh_token().await {
        if matches!(error.class, Class::Permanent | Class::Refused) {
            problems.push(*error.problem);
        } else {
            return Err(error);
        }
    }
    let location = group.clone().unwrap_or(wanted);
    if problems.is_empty() {
        Ok(Ok(Found { subscription, provider, group, location, registration }))
    } else {
        Ok(Err(problems))
    }
}

/// The one action that is the subscription's.
const REGISTER_PROVIDER: &str = "Microsoft.AzureStack/register/action";

/// The actions that registering needs, less those whose work is done.
fn actions_needed(group: bool) -> Vec<&'static str> {
    let mut actions = vec![
        "Microsoft.Resources/subscriptions/resourceGroups/read",
        "Microsoft.AzureStack/registrations/read",
        "Microsoft.AzureStack/registrations/write",
        "Microsoft.AzureStack/registrations/getActivationKey/action",
        "Microsoft.Authorization/locks/read",
        "Microsoft.Authorization/locks/write",
        "Microsoft.Authorization/roleAssignments/read",
        "Microsoft.Authorization/roleAssignments/write",
    ];
    if !group {
        actions.push("Microsoft.Resources/subscriptions/resourceGroups/write");
    }
    actions
}
