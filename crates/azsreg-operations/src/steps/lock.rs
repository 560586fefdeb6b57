//! The lock is put back on every way out on which the registration stays; and what a lock refuses after ours was lifted.

use azsreg_model::{LOCK_NAME, Lock, Problem, RegistrationId, Report, code};

use crate::checks;
use crate::engine::history::{seen, started};
use crate::engine::journal::{Event, Journal, request_of};
use crate::engine::retry::{self, Policy};
use crate::engine::{Failure, Steps};
use crate::ports::{Azure, Class, Clock, PortError};

/// What a call is refused for a lock, after this operation has lifted its own: Azure heeds a lock for up to a minute after it
/// is gone, and that is waited for. Another lock is named.
pub(crate) async fn heeded<A: Azure, T>(
    azure: &A,
    id: &RegistrationId,
    lifted: bool,
    result: Result<T, PortError>,
) -> Result<T, PortError> {
    let error = match result {
        Err(error) if error.problem.code == &code::SCOPE_LOCKED => error,
        other => return other,
    };
    // Azure's words name the scopes that are locked, also those that the caller may not look at.
    let words = error.problem.details.join("\n");
    let elsewhere: Vec<&str> =
        locked_scopes(&words).filter(|scope| !scope.eq_ignore_ascii_case(&id.to_string())).collect();
    let seen = azure.locks(id).await?;
    let others = checks::lines(seen.iter().filter(|lock| !lock.is_ours()));
    if lifted && elsewhere.is_empty() && others.is_empty() {
        let message = format!("{LOCK_NAME} was lifted from {}, but Azure still heeds it", id.name);
        let next = "Run the same command again in some minutes: it resumes.";
        let mut problem = Problem::new(&code::SCOPE_LOCKED, message).next(next);
        problem.cause = Some("Azure takes some seconds, a minute at times, to forget a lock.".into());
        problem.details.clone_from(&error.problem.details);
        return Err(PortError::new(Class::Busy, problem));
    }
    let mut problem = *error.problem;
    if let Some(scope) = elsewhere.first() {
        problem.message = format!("a lock on {scope} forbids the change");
    }
    problem.details.splice(0..0, others);
    Err(PortError::permanent(problem))
}

/// The scopes that a refusal says are locked.
fn locked_scopes(words: &str) -> impl Iterator<Item = &str> {
    let scopes = words.split_once("are locked: ").map_or("", |(_, rest)| rest);
    scopes.split('\'').skip(1).step_by(2).flat_map(|scopes| scopes.split(',')).map(str::trim)
}

/// Puts the lock back where this operation has lifted it and did not come to its end: the registration is in one of these
/// places. That it could not be is said first.
pub(crate) async fn put_back<A: Azure, J: Journal, C: Clock>(
    steps: &Steps<'_, J, C>,
    azure: &A,
    clock: &C,
    places: &[&RegistrationId],
    failure: Failure,
) -> Failure {
    if steps.has_begun("unlock") { relocked(azure, clock, places, failure).await } else { failure }
}

/// What comes before the first step of a run, ended: where it is refused, the lock that the newest run had lifted and left is
/// put back.
pub(crate) async fn or_put_back<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    begun: &[Event],
    ended: Result<Report, Failure>,
) -> Result<Report, Failure> {
    let failure = match ended {
        Err(failure) if failure.step.is_none() && started(begun, "unlock") => failure,
        other => return other,
    };
    let Some(Event::Opened { cloud_id, .. }) = begun.first() else { return Err(failure) };
    let moved = request_of(begun).and_then(|request| serde_json::from_value(request["to"].clone()).ok());
    let places = seen(begun).into_iter().flat_map(|mark| mark.registrations.iter().map(|one| one.id.clone()));
    for id in places.chain(moved) {
        let there = retry::read(clock, Policy::AZURE, async || azure.registration(&id).await).await;
        if there.is_ok_and(|there| there.and_then(|there| there.cloud_id) == Some(*cloud_id)) {
            return Err(relocked(azure, clock, &[&id], failure).await);
        }
    }
    Err(failure)
}

/// Puts the lock back on the registration that is in one of these places.
async fn relocked<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    places: &[&RegistrationId],
    mut failure: Failure,
) -> Failure {
    let mut refused = None;
    for id in places {
        match relock(azure, clock, id).await {
            Ok(true) => return failure,
            Ok(false) => {}
            Err(error) => refused = Some((*id, error)),
        }
    }
    let problem = match (refused, places) {
        (Some((id, error)), _) => {
            let message = format!("{id} has no lock now: {LOCK_NAME} was lifted and could not be put back");
            let problem = Problem::new(&code::LEFT_UNLOCKED, message).detail(error.problem.to_string());
            problem.next(format!("azsreg repair --subscription {}", id.subscription))
        }
        // Removed, it needs no lock.
        (None, [_] | []) => return failure,
        (None, [from, .., to]) => {
            let message = format!(
                "{} is not to be seen, neither in {} nor in {}: its {LOCK_NAME} was lifted",
                from.name, from.resource_group, to.resource_group
            );
            let problem = Problem::new(&code::LEFT_UNLOCKED, message);
            problem.next(format!("azsreg list --subscription {}; where it is there: azsreg repair", to.subscription))
        }
    };
    failure.problems.insert(0, problem);
    failure
}

/// Sees that our lock is on a registration; false where there is no registration.
async fn relock<A: Azure, C: Clock>(azure: &A, clock: &C, id: &RegistrationId) -> Result<bool, PortError> {
    let there = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await;
    if matches!(there, Ok(None)) {
        return Ok(false);
    }
    let locks = retry::read(clock, Policy::AZURE, async || azure.locks(id).await).await;
    if !locks.is_ok_and(|locks| locks.iter().any(|lock: &Lock| lock.is_ours() && !lock.inherited)) {
        retry::read(clock, Policy::AZURE, async || azure.put_lock(id).await).await?;
    }
    Ok(true)
}
