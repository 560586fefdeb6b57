//! The words of Azure Stack registration as types, and the rules about them.
//!
//! Pure: no I/O, no clock, no async. Every other crate speaks in these words; none of them appears twice with two
//! meanings. Facts and their sources are in `reference/` (facts-protocol.md, facts-azure-api.md, facts-stamp.md).

mod billing;
mod cloud;
mod codes;
mod key;
mod problem;
mod registration;
mod report;
mod request;
mod signin;
mod stamp;
mod token;
mod version;

pub use billing::BillingModel;
pub use cloud::{Cloud, NamedCloud};
pub use codes::{Code, code};
pub use key::{ActivationClaims, ActivationKey, KeyError};
pub use problem::{ExitCode, Problem};
pub use registration::{
    LOCK_NAME, Lock, LockLevel, PROVIDER, Permission, REGISTRATION_OWNER_ROLE, REGISTRATION_OWNER_ROLE_ID,
    Registration, RegistrationId, RegistrationIdError, RoleAssignment, lock_notes,
};
pub use report::{
    AzureSide, Outcome, PlannedStep, RegisterReport, StampSide, Status, StatusReport, StepReport, StepState,
};
pub use request::{RegisterRequest, RequestError};
pub use signin::{aadsts_number, aadsts_problem};
pub use stamp::{ActionState, ActivationRecord, Expiration, IdentitySystem, StampInformation};
pub use token::{RegistrationToken, TokenContents, TokenError, TokenVersion};
pub use version::{StampVersion, VersionError};

/// The first sixteen hexadecimal digits of a secret's SHA-256: enough to tell two apart, useless to get one back.
#[must_use]
pub fn digest(secret: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(secret.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
