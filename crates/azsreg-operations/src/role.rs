//! The least-privilege role: what it holds, made in a subscription, given to somebody with a condition. Both are journalled, by
//! subscription.

use azsreg_model::{CustomRole, OPERATOR_ROLE_NAME, Problem, StepState, code, role_condition};
use serde_json::json;
use uuid::Uuid;

use crate::checks;
use crate::engine::retry::{self, Policy};
use crate::engine::session::FileBooks;
use crate::engine::{Failure, Steps, Watch};
use crate::marketplace::begin_in;
use crate::ports::{Azure, Clock, PortError};
use crate::register::refused;

/// The operation that makes the role.
const CREATE: &str = "role-create";
/// The operation that gives it to somebody.
const ASSIGN: &str = "role-assign";
const VERSION: u32 = 1;

/// Makes the role in a subscription, or brings it up to date: whether anything was (with `plan`: would be) changed, and its id,
/// where it has one.
///
/// # Errors
/// A role of this name with other actions exists and `update` is false, or Azure refused.
pub async fn create<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    books: &FileBooks,
    (subscription, update, plan): (Uuid, bool, bool),
    watch: &mut dyn Watch,
) -> Result<(bool, Option<Uuid>), Failure> {
    checks::writable(azure, clock, subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let wanted = CustomRole::for_operators(&[subscription]);
    let known = std::cell::Cell::new(None);
    let observe = async || {
        let Some(role) = azure.custom_role(subscription, OPERATOR_ROLE_NAME).await? else { return Ok(None) };
        let lacks = |ours: &[String], theirs: &[String]| {
            ours.iter().any(|one| !theirs.iter().any(|other| other.eq_ignore_ascii_case(one)))
        };
        let enough: Vec<String> = wanted
            .actions
            .iter()
            .filter(|action| update || !CustomRole::ONLY_TO_LOOK.contains(&action.as_str()))
            .cloned()
            .collect();
        let does = !lacks(&enough, &role.actions) && !lacks(&role.actions, &wanted.actions);
        if let (true, Some(id)) = (does, role.id) {
            return Ok(Some((id, format!("{OPERATOR_ROLE_NAME} is there"))));
        }
        known.set(role.id);
        if update {
            return Ok(None);
        }
        let message = format!("a role {OPERATOR_ROLE_NAME:?} with other actions exists");
        let mut problem = Problem::new(&code::ROLE_DIFFERS, message);
        let missing = wanted.actions.iter().filter(|action| lacks(&[(*action).clone()], &role.actions));
        problem.details = missing.map(|action| format!("it lacks {action}")).collect();
        Err(PortError::permanent(problem))
    };
    // What is so already, or is refused, leaves no journal behind.
    if let Some((id, _)) = retry::read(clock, Policy::AZURE, async || observe().await).await? {
        return Ok((false, Some(id)));
    }
    if plan {
        return Ok((true, known.get()));
    }
    let request = json!({ "subscription": subscription, "actions": wanted.actions });
    let (_lock, mut journal) = begin_in(&books.within("roles"), subscription, (CREATE, VERSION), &request, clock)?;
    let requests = || azure.take_request_ids();
    let mut steps = Steps::new(&mut journal, clock, watch, &requests);
    let act = async || {
        let id = azure.put_custom_role(subscription, known.get(), &wanted).await?;
        Ok(Some((id, format!("{OPERATOR_ROLE_NAME} is made"))))
    };
    let id = steps.step("role", "Make the role", Policy::AZURE, observe, act, |id| json!({ "id": id })).await?;
    steps.finish("done")?;
    Ok((steps.into_reports().iter().any(|step| step.state == StepState::Done), Some(id)))
}

/// Gives somebody the role on a subscription: with the condition, so that no other role can be given with it.
///
/// # Errors
/// The role is not there, or Azure refused.
pub async fn assign<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    books: &FileBooks,
    (subscription, principal, plan): (Uuid, Uuid, bool),
    watch: &mut dyn Watch,
) -> Result<(), Failure> {
    checks::writable(azure, clock, subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let found =
        retry::read(clock, Policy::AZURE, async || azure.custom_role(subscription, OPERATOR_ROLE_NAME).await).await?;
    let Some(id) = found.and_then(|role| role.id) else {
        let message = format!("the subscription {subscription} has no role {OPERATOR_ROLE_NAME:?}");
        let next = format!("azsreg role create --subscription {subscription}");
        return Err(Failure::before(
            Problem::new(&code::REGISTRATION_MISSING, message).cause("It was not made yet.").next(next),
        ));
    };
    if plan {
        return Ok(());
    }
    let request = json!({ "subscription": subscription, "role": id, "principal": principal });
    let (_lock, mut journal) = begin_in(&books.within("roles"), subscription, (ASSIGN, VERSION), &request, clock)?;
    let requests = || azure.take_request_ids();
    let mut steps = Steps::new(&mut journal, clock, watch, &requests);
    let condition = role_condition();
    // Whoever was made a moment ago is not known everywhere at once; a mistyped id never is.
    let patience = Policy { deadline: std::time::Duration::from_secs(20), ..Policy::AZURE };
    let act = async || {
        azure.assign_custom_role(subscription, id, principal, &condition).await?;
        Ok(Some(((), format!("{OPERATOR_ROLE_NAME} to {principal}"))))
    };
    let assigned = steps.step("assignment", "Assign the role", patience, async || Ok(None), act, |()| request.clone());
    assigned.await.map_err(|mut failure| {
        for problem in failure.problems.iter_mut().filter(|problem| problem.code == &code::PRINCIPAL_UNKNOWN) {
            let details = std::mem::take(&mut problem.details);
            *problem = Problem::new(&code::PRINCIPAL_UNKNOWN, format!("the directory does not know {principal}"));
            problem.details = details;
        }
        // One call: what Azure refuses has changed nothing.
        let exit = failure.problems.first().map_or(failure.exit, |problem| problem.code.exit);
        Failure { exit, step: None, ..failure }
    })?;
    steps.finish("done")
}
