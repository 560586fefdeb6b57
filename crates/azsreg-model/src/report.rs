//! What an operation reports: the same for people and for machines.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::{ActivationRecord, Lock, Problem, Registration, RegistrationId, RoleAssignment, StampInformation};

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// It was true already.
    AlreadyDone,
    /// It was done now.
    Done,
    /// It does not apply to this stamp.
    NotNeeded,
}

/// One step of an operation, as it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// The step's name, such as `resource-group`.
    pub step: &'static str,
    /// How it ended.
    pub state: StepState,
    /// What it did or found, in a line.
    pub detail: String,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    /// The step's name.
    pub step: &'static str,
    /// Whether it would change something.
    pub changes: bool,
    /// What was observed and what would be done, in a line.
    pub detail: String,
}

/// How a registration ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Registered and activated, and the record read back names this registration.
    Verified,
    /// Registered and activated; the record was not read because nobody is signed in to the stamp.
    ActivatedUnread,
    /// Everything was as asked already.
    NothingToDo,
    /// Only planned.
    Planned,
}

/// The report of `register`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegisterReport {
    /// How it ended.
    pub outcome: Outcome,
    /// The stamp.
    pub cloud_id: Uuid,
    /// The registration.
    pub registration: RegistrationId,
    /// The steps as they went.
    pub steps: Vec<StepReport>,
    /// With `--plan`: what would be done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlannedStep>,
    /// What an operator should know though nothing failed.
    pub warnings: Vec<Problem>,
    /// Both sides at the end.
    pub status: StatusReport,
}

/// The one word for a stamp's registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Azure and the stamp agree.
    Registered,
    /// Azure has it; the stamp's record was not read.
    RegisteredInAzure,
    /// Azure has it, the stamp does not (or names another).
    HalfRegistered,
    /// Its time is over.
    Expired,
    /// Neither side has it.
    NotRegistered,
    /// Neither side could be read far enough.
    Unknown,
}

/// What Azure shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AzureSide {
    /// The registration, if there is one.
    pub registration: Option<Registration>,
    /// The lock, if there is one.
    pub lock: Option<Lock>,
    /// The bridge's role, if it is assigned.
    pub role: Option<RoleAssignment>,
}

/// What the stamp shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StampSide {
    /// Its information.
    pub information: StampInformation,
    /// Its activation record: absent, or `unread` says why it is not known.
    pub activation: Option<ActivationRecord>,
    /// Why the record was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// Both sides of a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// In one word.
    pub status: Status,
    /// When it was looked at.
    pub at: Timestamp,
    /// Azure's side, or why not.
    #[serde(serialize_with = "side")]
    pub azure: Result<AzureSide, Problem>,
    /// The stamp's side, or why not.
    #[serde(serialize_with = "side")]
    pub stamp: Result<StampSide, Problem>,
}

/// A side is itself, or `{"problem": ...}`.
fn side<T: Serialize, S: Serializer>(side: &Result<T, Problem>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Unreadable<'a> {
        problem: &'a Problem,
    }
    match side {
        Ok(side) => side.serialize(serializer),
        Err(problem) => Unreadable { problem }.serialize(serializer),
    }
}

impl StatusReport {
    /// Puts the two sides together.
    #[must_use]
    pub fn of(at: Timestamp, azure: Result<AzureSide, Problem>, stamp: Result<StampSide, Problem>) -> Self {
        let registration = azure.as_ref().ok().map(|azure| azure.registration.as_ref());
        let record = match &stamp {
            Ok(StampSide { unread: None, activation, .. }) => Some(activation.as_ref()),
            _ => None,
        };
        let status = match (registration, record) {
            (_, Some(Some(record))) if record.is_expired(at) => Status::Expired,
            (Some(Some(registration)), Some(Some(record))) if record.is_of(&registration.id) => Status::Registered,
            (Some(Some(_)), Some(_)) | (Some(None), Some(Some(_))) => Status::HalfRegistered,
            (Some(None), Some(None)) | (Some(None), None) => Status::NotRegistered,
            (Some(Some(_)), None) => Status::RegisteredInAzure,
            (None, _) => Status::Unknown,
        };
        Self { status, at, azure, stamp }
    }
}
