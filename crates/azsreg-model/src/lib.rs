//! The words of Azure Stack registration as types, and the rules about them.
//!
//! Pure: no I/O, no clock, no async. Every other crate speaks in these words; none of them appears twice with two
//! meanings. Facts and their sources are in `reference/` (facts-protocol.md, facts-azure-api.md, facts-stamp.md).

mod alert;
mod billing;
mod bundle;
mod carried;
mod cloud;
mod codes;
mod form;
mod item;
mod key;
mod meter;
mod module_log;
mod printable;
mod problem;
mod product;
pub mod redact;
pub mod refusals;
mod registration;
mod report;
mod request;
mod role;
mod shell;
mod signin;
mod stamp;
mod status;
mod text;
mod token;
mod usage;
mod version;

pub use alert::Alert;
pub use billing::BillingModel;
pub use bundle::{Bundle, BundleError, BundleKind, Receipt, encode_module_text};
pub use carried::{Carried, CarriedText};
pub use cloud::{Cloud, NamedCloud};
pub use codes::{Code, code};
pub use form::UnknownForm;
pub use item::{Agreed, ItemContents, ItemFile, ItemManifest, MANIFEST, ManifestError, hex, is_file_name, is_inside};
pub use key::{ActivationClaims, ActivationKey, KeyError};
pub use meter::{
    COMMERCE_METERS, Charged, CommerceMeter, METERS, Meter, MeterTable, commerce_meter, cores, stamp_meter,
};
pub use module_log::{LogEnd, LogFinding, LogRun, read_module_log};
pub use printable::{is_hidden, printable, printable_json};
pub use problem::{ExitCode, Problem, command_of};
pub use product::{
    Compatibility, ItemProgress, ItemState, Part, PartRole, Product, ProductDetails, ProductKind, StampItem,
};
pub use registration::{
    Customer, LOCK_NAME, Lock, LockLevel, PROVIDER, Permission, REGISTRATION_OWNER_ROLE, REGISTRATION_OWNER_ROLE_ID,
    Registration, RegistrationId, RegistrationIdError, RoleAssignment, lock_notes,
};
pub use report::{Outcome, PlannedStep, Report, StepReport, StepState};
pub use request::{RegisterRequest, Replaced, RequestError, check_names};
pub use role::{CustomRole, OPERATOR_ROLE_NAME, role_condition};
pub use shell::quoted;
pub use signin::{Signed, claims_problem};
pub use stamp::{ActionRun, ActionState, ActivationRecord, Expiration, IdentitySystem, StampInformation};
pub use status::{
    AzureSide, Known, Remembered, Running, SOON, Searched, StampSide, Status, StatusReport, Wanted, Written, days_of,
    finite, offline_renewal,
};
pub use text::{
    NotText, Odd, SecretFlaw, ValueKind, as_written, decode_log, decode_marked_text, decode_text, odd_in_json,
    read_password,
};
pub use token::{RegistrationToken, TokenContents, TokenError, TokenVersion};
pub use usage::{
    ComparedLine, Comparison, Granularity, Range, UsageLine, UsagePage, UsageRow, UsageStatus, Verdict, day_of,
    midnight, quantity, whole_hour,
};
pub use version::{StampVersion, VersionError};

/// The first sixteen hexadecimal digits of a secret's SHA-256: enough to tell two apart, useless to get one back.
#[must_use]
pub fn digest(secret: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(secret.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
