//! What can go wrong between here and a Resource Manager, and what it means (`facts-errors.md` sections 1 to 3).

use std::time::Duration;

use azsreg_model::redact::of_server;
use azsreg_model::{Problem, aadsts_number, aadsts_problem, code};
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
                let problem = match aadsts_number(&description) {
                    Some(number) => aadsts_problem(number, &description, false),
                    None => Problem::new(&code::SIGN_IN_REFUSED, {
                        format!("the directory refused the sign-in: {}", of_server(&error))
                    })
                    .detail(description),
                };
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

fn refused(status: u16, arm: &str, message: &str, request_id: Option<String>, after: Option<Duration>) -> PortError {
    let problem = |entry, text: String| {
        let mut problem = Problem::new(entry, text).detail(format!("{arm}: {message}"));
        if let Some(id) = &request_id {
            problem = problem.detail(format!("x-ms-request-id: {id}"));
        }
        problem
    };
    let permanent = |entry, text: String| PortError::permanent(problem(entry, text));
    if let Some(long) = too_long("Azure", after).filter(|_| status == 429 || status == 408 || status >= 500) {
        return PortError::permanent(long.detail(format!("{arm}: {message}")));
    }
    let said = |text: &str| message.contains(text);
    match (status, arm) {
        (429, _) => {
            PortError::new(Class::Throttled(after), problem(&code::THROTTLED, "Azure throttles the calls".into()))
        }
        // Resource Manager says what is not there; a page without its code is somebody else's.
        (404, _) if arm.starts_with("HTTP ") => PortError::new(
            Class::Transient,
            problem(&code::ANSWER_UNCLEAR, "a 404 came that is not Resource Manager's".into()),
        ),
        (401, _) => PortError::new(
            Class::Refused,
            problem(&code::SIGN_IN_REFUSED, "Azure does not take the sign-in's token".into()),
        ),
        (_, "InvalidRegistrationToken") => {
            permanent(&code::TOKEN_REFUSED, "Azure refused the registration token".into())
        }
        (_, "CloudIdUpdateNotAllowed") => {
            permanent(&code::NAME_TAKEN, "the registration's name belongs to another stamp".into())
        }
        _ if said("Reusing cloud identifiers is not allowed") => {
            permanent(&code::STAMP_REGISTERED_ELSEWHERE, "the stamp is registered already, under another name".into())
        }
        (_, "ParentResourceNotFound") => {
            permanent(&code::PARENT_MISSING, "the registration that the call is about is not there".into())
        }
        // A move that was begun before, by another client or by one that died.
        (409, _) if arm.contains("BeingMoved") || arm.contains("OperationInProgress") => PortError::new(
            Class::Busy,
            problem(&code::AZURE_FAULT, "an earlier operation on the resource group has not ended".into()),
        ),
        _ if arm.starts_with("ResourceMove") || arm.starts_with("MoveResources") => {
            permanent(&code::MOVE_REFUSED, "Azure refuses the move".into())
        }
        _ if said("has expired") && arm == "RegistrationExpired" => {
            permanent(&code::EXPIRED_NOT_UPDATED, "the registration has expired and can't be updated".into())
        }
        (_, "MetadataResolverBadGatewayError") => {
            PortError::new(Class::Transient, problem(&code::AZURE_FAULT, "a service behind Azure failed".into()))
        }
        (_, "RegistrationNotFound") => permanent(&code::REGISTRATION_MISSING, "there is no such registration".into()),
        (_, "BadCustomerSubscriptionId" | "InvalidCustomerSubscriptionId") => {
            permanent(&code::CUSTOMER_ID, "Azure does not take the customer's subscription".into())
        }
        (_, "InvalidCSPSubscription") => {
            permanent(&code::CUSTOMER_NOT_CSP, "the customer's subscription is no CSP subscription".into())
        }
        (_, "CustomerSubscriptionNotFound") => {
            permanent(&code::CUSTOMER_MISSING, "the registration does not have the customer's subscription".into())
        }
        (_, "CustomerSubscriptionsNotAllowed") => {
            permanent(&code::CUSTOMERS_NOT_ALLOWED, "a registration with capacity billing has no customers".into())
        }
        (_, "UnauthorizedCspRegistration") => {
            permanent(&code::CSP_NOT_APPROVED, "the registration may not have customers of its own".into())
        }
        (_, "ScopeLocked") => permanent(&code::SCOPE_LOCKED, "a lock forbids the change".into()),
        (_, "LocationNotAvailableForResourceGroup") => {
            permanent(&code::LOCATION_NOT_AVAILABLE, "the location is not offered to the subscription".into())
        }
        (_, "InvalidResourceGroupLocation") => {
            permanent(&code::GROUP_ELSEWHERE, "the resource group is in another location".into())
        }
        (_, "SubscriptionNotFound" | "InvalidAuthenticationTokenTenant") => {
            permanent(&code::SUBSCRIPTION_NOT_VISIBLE, "the sign-in does not see the subscription".into())
        }
        (403, _) => {
            let action = message.split("perform action '").nth(1).and_then(|rest| rest.split('\'').next());
            let text = action
                .map(of_server)
                .map_or("Azure forbids the call".to_owned(), |action| format!("Azure forbids {action}"));
            permanent(&code::FORBIDDEN, text)
        }
        // A principal made a moment ago is not known everywhere at once; a provider likewise.
        (_, "PrincipalNotFound") => PortError::new(
            Class::Busy,
            problem(&code::AZURE_FAULT, "the directory does not know the new principal yet".into()),
        ),
        (_, "MissingSubscriptionRegistration") => PortError::new(
            Class::Busy,
            problem(&code::PROVIDER_NOT_REGISTERED, "the provider's registration has not arrived yet".into()),
        ),
        (408 | 500.., _) => {
            let entry = problem(&code::AZURE_FAULT, format!("Azure failed with HTTP status {status}"));
            match after {
                Some(after) => PortError::new(Class::Throttled(Some(after)), entry),
                None => PortError::new(Class::Transient, entry),
            }
        }
        _ => permanent(&code::AZURE_REFUSED, "Azure refused the call".into()),
    }
}
