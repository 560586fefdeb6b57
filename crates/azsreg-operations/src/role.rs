//! The least-privilege role: what it holds, made in a subscription, given to somebody with a condition.

use azsreg_model::{CustomRole, OPERATOR_ROLE_NAME, Problem, code, role_condition};
use uuid::Uuid;

use crate::checks;
use crate::engine::Failure;
use crate::engine::retry::{self, Policy};
use crate::ports::{Azure, Class, Clock};
use crate::register::refused;

/// Makes the role in a subscription, or brings it up to date: whether anything was changed, and its id.
///
/// # Errors
/// A role of this name with other actions exists and `update` is false, or Azure refused.
pub async fn create<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    subscription: Uuid,
    update: bool,
) -> Result<(bool, Uuid), Failure> {
    checks::subscription(azure, clock, subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let wanted = CustomRole::for_operators(&[subscription]);
    let found =
        retry::read(clock, Policy::AZURE, async || azure.custom_role(subscription, OPERATOR_ROLE_NAME).await).await?;
    let id = match found {
        Some(role) => {
            let lacks = |ours: &[String], theirs: &[String]| {
                ours.iter().any(|one| !theirs.iter().any(|other| other.eq_ignore_ascii_case(one)))
            };
            let same = !lacks(&wanted.actions, &role.actions) && !lacks(&role.actions, &wanted.actions);
            if let (true, Some(id)) = (same, role.id) {
                return Ok((false, id));
            }
            if !update {
                let missing: Vec<_> =
                    wanted.actions.iter().filter(|action| lacks(&[(*action).clone()], &role.actions)).collect();
                let mut problem = Problem::new(
                    &code::ROLE_DIFFERS,
                    format!("a role {OPERATOR_ROLE_NAME:?} with other actions exists"),
                );
                problem.details = missing.iter().map(|action| format!("it lacks {action}")).collect();
                return Err(refused(vec![problem]));
            }
            role.id
        }
        None => None,
    };
    let made =
        retry::read(clock, Policy::AZURE, async || azure.put_custom_role(subscription, id, &wanted).await).await?;
    Ok((true, made))
}

/// Gives somebody the role on a subscription: with the condition, so that no other role can be given with it.
///
/// # Errors
/// The role is not there, or Azure refused.
pub async fn assign<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    subscription: Uuid,
    principal: Uuid,
) -> Result<(), Failure> {
    checks::subscription(azure, clock, subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let found =
        retry::read(clock, Policy::AZURE, async || azure.custom_role(subscription, OPERATOR_ROLE_NAME).await).await?;
    let Some(id) = found.and_then(|role| role.id) else {
        let message = format!("the subscription {subscription} has no role {OPERATOR_ROLE_NAME:?}");
        let next = format!("azsreg role create --subscription {subscription}");
        return Err(Failure::before(
            Problem::new(&code::REGISTRATION_MISSING, message).cause("It was not made yet.").next(next),
        ));
    };
    let condition = role_condition();
    // Whoever was made a moment ago is not known everywhere at once; a mistyped id never is.
    let patience = Policy { deadline: std::time::Duration::from_secs(20), ..Policy::AZURE };
    let assigned =
        retry::read(clock, patience, async || azure.assign_custom_role(subscription, id, principal, &condition).await);
    assigned.await.map_err(|error| {
        if error.class != Class::Busy {
            return Failure::from(error);
        }
        let mut problem = Problem::new(&code::PRINCIPAL_UNKNOWN, format!("the directory does not know {principal}"));
        problem.details = error.problem.details;
        Failure::before(problem)
    })
}
