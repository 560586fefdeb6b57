//! What can go wrong between here and a Resource Manager, and what it means (`facts-errors.md` sections 1 to 3).

use std::time::Duration;

use azsreg_model::redact::of_server;
use azsreg_model::{Problem, code, refusals};
use azsreg_operations::engine::retry::Policy;
use azsreg_operations::ports::{Class, PortError};
use thiserror::Error;

use crate::address::wait_within;

/// A failure of a call.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArmError {
    /// No connection.
    #[error("{host} can't be reached: {reason}")]
    Unreachable {
        /// Whom.
        host: String,
        /// Why.
        reason: String,
        /// Whether it had answered before in this run.
        reached: bool,
    },
    /// The connection broke, or the answer did not come in time.
    #[error("the call to {host} broke: {reason}")]
    Broken {
        /// Whom.
        host: String,
        /// How.
        reason: String,
    },
    /// The answer did not come, or did not end, in time.
    #[error("{host} did not answer in time: {what} was waited for, {} s long", waited.as_secs_f32())]
    TooLate {
        /// Who.
        host: String,
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// Whether the call before was too late as well.
        again: bool,
    },
    /// Resource Manager refused, in its envelope.
    #[error("{code}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The envelope's code.
        code: String,
        /// The envelope's message.
        message: String,
        /// `x-ms-request-id`.
        request_id: Option<String>,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The directory refused a sign-in.
    #[error("{description}")]
    SignIn {
        /// The OAuth error.
        error: String,
        /// The directory's words.
        description: String,
        /// The HTTP status.
        status: u16,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// An answer that can't be read.
    #[error("the answer of {host} can't be read: {reason}")]
    Unreadable {
        /// Whose.
        host: String,
        /// Why.
        reason: String,
    },
    /// An answer that does not say whether what was asked for is there.
    #[error("{host} does not say whether {what} is there: {reason}")]
    Unclear {
        /// Whose.
        host: String,
        /// What was asked for.
        what: String,
        /// What it said.
        reason: String,
    },
    /// Something is asked of the sign-in that it does not have.
    #[error("{0}")]
    ClaimsNeeded(Box<Problem>),
    /// Something that this sign-in can't give.
    #[error("{0}")]
    Unavailable(Box<Problem>),
}

impl From<Problem> for ArmError {
    fn from(problem: Problem) -> Self {
        Self::Unavailable(Box::new(problem))
    }
}

impl ArmError {
    /// Whether the envelope has this code.
    #[must_use]
    pub fn is_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code.eq_ignore_ascii_case(wanted))
    }
}

impl From<ArmError> for PortError {
    fn from(error: ArmError) -> Self {
        let message = match &error {
            // The other side's own words.
            ArmError::SignIn { .. } | ArmError::Refused { .. } => of_server(&error.to_string()).into_owned(),
            _ => error.to_string(),
        };
        match error {
            ArmError::Unreachable { reached, .. } => {
                let class = if reached { Class::Transient } else { Class::Permanent };
                Self::new(class, Problem::new(&code::AZURE_UNREACHABLE, message))
            }
            ArmError::Broken { .. } => Self::new(Class::Transient, Problem::new(&code::AZURE_UNREACHABLE, message)),
            ArmError::TooLate { again, .. } => {
                let class = if again { Class::Permanent } else { Class::Transient };
                Self::new(class, Problem::new(&code::NO_ANSWER_IN_TIME, message))
            }
            ArmError::Unreadable { .. } => Self::permanent(Problem::new(&code::AZURE_PROTOCOL, message)),
            ArmError::Unclear { .. } => Self::new(Class::Transient, Problem::new(&code::ANSWER_UNCLEAR, message)),
            ArmError::ClaimsNeeded(problem) => Self::new(Class::Refused, *problem),
            ArmError::Unavailable(problem) => Self::new(Class::Permanent, *problem),
            ArmError::SignIn { error, description, status, retry_after } => {
                if status == 429 || (retry_after.is_some() && status >= 500) {
                    if let Some(problem) = too_long("the directory", retry_after) {
                        return Self::permanent(problem);
                    }
                    return Self::new(Class::Throttled(retry_after), Problem::new(&code::THROTTLED, message));
                }
                if status >= 500 || status == 408 || error == "temporarily_unavailable" {
                    return Self::new(Class::Transient, Problem::new(&code::AZURE_FAULT, message));
                }
                if let Some(refusal) =
                    refusals::of_directory(&description).filter(|row| row.class == refusals::Class::Again)
                {
                    return Self::new(
                        Class::Transient,
                        refusal.problem(refusal.what().unwrap_or("the directory failed"), description),
                    );
                }
                let problem = refusals::directory_problem(&description, false).unwrap_or_else(|| {
                    let message = format!("the directory refused the sign-in: {}", of_server(&error));
                    Problem::new(&code::SIGN_IN_REFUSED, message).detail(description)
                });
                Self::new(Class::Refused, problem)
            }
            ArmError::Refused { status, code, message, request_id, retry_after } => {
                refused(status, &code, &message, request_id, retry_after)
            }
        }
    }
}

/// A wait that no step has the time for: it is not begun.
pub(crate) fn too_long(who: &str, asked: Option<Duration>) -> Option<Problem> {
    wait_within(who, asked?, Policy::AZURE.deadline).err().map(|problem| *problem)
}

/// What a refusal of Resource Manager means: the table says, and the status where it does not.
fn refused(status: u16, arm: &str, message: &str, request_id: Option<String>, after: Option<Duration>) -> PortError {
    let problem = |problem: Problem| match &request_id {
        Some(id) => problem.detail(format!("x-ms-request-id: {id}")),
        None => problem,
    };
    let said = format!("{arm}: {message}");
    let new = |entry, text: String| problem(Problem::new(entry, text).detail(said.clone()));
    if let Some(long) = too_long("Azure", after).filter(|_| status == 429 || status == 408 || status >= 500) {
        return PortError::permanent(long.detail(said));
    }
    if status == 429 {
        return PortError::new(Class::Throttled(after), new(&code::THROTTLED, "Azure throttles the calls".into()));
    }
    // Resource Manager says what is not there; a page without its code is another service's.
    if status == 404 && arm.starts_with("HTTP ") {
        let text = "a 404 came that is not Resource Manager's".into();
        return PortError::new(Class::Transient, new(&code::ANSWER_UNCLEAR, text));
    }
    if let Some(refusal) = refusals::of_azure(arm, message) {
        let text = what_of(refusal, message);
        let known = problem(with_case(refusal.problem(text, said), refusal.code, message));
        let class = match refusal.class {
            refusals::Class::Wait => Class::Busy,
            refusals::Class::Again => after.map_or(Class::Transient, |after| Class::Throttled(Some(after))),
            refusals::Class::Ask => Class::Refused,
            refusals::Class::Refuse => Class::Permanent,
        };
        return PortError::new(class, known);
    }
    match status {
        401 => PortError::new(
            Class::Refused,
            new(&code::SIGN_IN_REFUSED, "Azure does not take the sign-in's token".into()),
        ),
        408 | 500.. => {
            let entry = new(&code::AZURE_FAULT, format!("Azure failed with HTTP status {status}"));
            PortError::new(after.map_or(Class::Transient, |after| Class::Throttled(Some(after))), entry)
        }
        403 => PortError::permanent(new(&code::AZURE_REFUSED, format!("Azure forbids the call: {}", of_server(arm)))),
        _ => PortError::permanent(new(&code::AZURE_REFUSED, format!("Azure refused the call: {}", of_server(arm)))),
    }
}

/// What happened, with the names that Azure's message gives.
fn what_of(refusal: &refusals::Refusal, message: &str) -> String {
    let what = refusal.what().unwrap_or(refusal.code.title);
    let named = match refusal.code.id {
        id if id == code::FORBIDDEN.id || id == code::ACTIONS_MISSING.id => {
            return match quoted_after(message, "perform action ") {
                Some(action) => format!("Azure forbids {}", of_server(action)),
                None => what.to_owned(),
            };
        }
        id if id == code::POLICY.id || id == code::CLAIMS_NEEDED.id => policy(message),
        id if id == code::RESERVED_NAME.id => {
            quoted_after(message, "The resource name ").or(quoted_after(message, "name "))
        }
        _ => None,
    };
    named.map_or_else(|| what.to_owned(), |name| format!("{what}: {}", of_server(name)))
}

/// What to run in this case, where Azure's message says it.
fn with_case(problem: Problem, entry: &azsreg_model::Code, message: &str) -> Problem {
    let tenant =
        |text: &str| text.trim_end_matches('/').rsplit('/').next().and_then(|id| id.parse::<uuid::Uuid>().ok());
    match quoted_after(message, "must match the tenant ").or(quoted_after(message, "must match one of the tenants ")) {
        Some(issuer) if entry.id == code::OTHER_TENANT.id => match tenant(issuer.split(',').next().unwrap_or(issuer)) {
            Some(tenant) => problem.next(format!("azsreg login --tenant {tenant}")),
            None => problem,
        },
        _ => problem,
    }
}

/// The policy that a message names: the assignment's own name, mostly in the JSON of the identifiers, or the reasons.
fn policy(message: &str) -> Option<&str> {
    let json = |key: &str| {
        let rest = message.split_once(key)?.1.split_once("\"name\"")?.1;
        rest.split('"').nth(1)
    };
    json("policyAssignment").or_else(|| quoted_after(message, "Reasons: "))
}

/// The text between quotes after some words.
fn quoted_after<'m>(message: &'m str, words: &str) -> Option<&'m str> {
    let rest = message.split_once(words)?.1.strip_prefix(['\'', '"'])?;
    rest.split(['\'', '"']).next().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, code: &str, message: &str) -> PortError {
        refused(status, code, message, None, None)
    }

    #[test]
    fn a_policy_is_named_and_the_way_out_is_said() {
        let message = r#"Resource 'azurestack' was disallowed by policy. Policy identifiers: '[{"policyAssignment":{"name":"Cost centre on groups","id":"/subscriptions/s/providers/Microsoft.Authorization/policyAssignments/a"},"policyDefinition":{"name":"d","id":"x"}}]'."#;
        let error = of(403, "RequestDisallowedByPolicy", message);
        assert_eq!(error.class, Class::Permanent);
        assert_eq!(error.problem.code.id, "AZR4048");
        assert!(error.problem.message.contains("Cost centre on groups"), "{}", error.problem.message);
        assert!(error.problem.then().contains("make it yourself"));
        let error = of(403, "RequestDisallowedByPolicy", "was disallowed by policy. Reasons: 'Every group has a tag.'");
        assert!(error.problem.message.ends_with("Every group has a tag."), "{}", error.problem.message);
    }

    #[test]
    fn a_403_is_not_always_a_missing_role() {
        assert_eq!(of(403, "AuthorizationFailed", "no").problem.code.id, "AZR4009");
        assert_eq!(of(403, "RequestDisallowedByAzure", "this region").problem.code.id, "AZR4049");
        assert_eq!(of(403, "SomethingElse", "no").problem.code.id, "AZR4013");
        let action = "The client 'x' does not have authorization to perform action 'Microsoft.AzureStack/registrations/write' over scope 'y'";
        let error = of(403, "AuthorizationFailed", action);
        assert_eq!(error.problem.message, "Azure forbids Microsoft.AzureStack/registrations/write");
    }

    #[test]
    fn what_ends_by_itself_is_waited_for_under_its_own_name() {
        for (status, code, entry) in [
            (409, "ResourceGroupBeingDeleted", "AZR4051"),
            (400, "PrincipalNotFound", "AZR4028"),
            (409, "MissingSubscriptionRegistration", "AZR4016"),
        ] {
            let error = of(status, code, "words");
            assert_eq!((error.class, error.problem.code.id), (Class::Busy, entry), "{code}");
        }
    }

    #[test]
    fn the_tenant_that_azure_names_is_in_what_to_run() {
        let error = of(
            401,
            "InvalidAuthenticationTokenTenant",
            "The access token is from the wrong issuer 'https://sts.windows.net/0000000a-0000-4000-8000-000000000001/'. It must match the tenant 'https://sts.windows.net/0000000b-0000-4000-8000-000000000002/' associated with this subscription.",
        );
        assert_eq!(error.problem.code.id, "AZR3029");
        assert_eq!(error.problem.then(), "azsreg login --tenant 0000000b-0000-4000-8000-000000000002");
        // What is no tenant is not typed after.
        let error = of(401, "InvalidAuthenticationTokenTenant", "It must match the tenant 'https://x/$(reboot)/' here");
        assert!(!error.problem.then().contains("reboot"));
    }
}
