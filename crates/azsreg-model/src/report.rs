//! What an operation reports: the same for people and for machines.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Problem, RegistrationId, StatusReport};

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

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Registered and activated, and the record read back names this registration.
    Verified,
    /// Registered and activated; the record was not read because no account is signed in to the stamp.
    ActivatedUnread,
    /// Done, and seen to be.
    Done,
    /// Everything was as asked already.
    NothingToDo,
    /// Only planned.
    Planned,
    /// Azure's part is done; the stamp could not be reached for its own.
    StampLeft,
}

/// The report of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The operation, by its command.
    pub operation: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// The stamp.
    pub cloud_id: Uuid,
    /// The registration, as far as there is one.
    pub registration: Option<RegistrationId>,
    /// The steps as they went.
    pub steps: Vec<StepReport>,
    /// With `--plan`: what would be done.
    pub plan: Vec<PlannedStep>,
    /// What is, or would be, lost for good.
    pub lost: Vec<String>,
    /// What an operator should know though nothing failed.
    pub warnings: Vec<Problem>,
    /// Both sides at the end.
    pub status: Option<StatusReport>,
}

impl Report {
    /// A report of nothing yet.
    #[must_use]
    pub fn new(
        operation: &'static str,
        outcome: Outcome,
        cloud_id: Uuid,
        registration: Option<RegistrationId>,
    ) -> Self {
        Self {
            operation,
            outcome,
            cloud_id,
            registration,
            steps: Vec::new(),
            plan: Vec::new(),
            lost: Vec::new(),
            warnings: Vec::new(),
            status: None,
        }
    }
}
