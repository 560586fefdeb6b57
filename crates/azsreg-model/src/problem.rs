//! A problem as the operator sees it.

use std::fmt;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::codes::Code;

/// Exit codes of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "u8")]
pub enum ExitCode {
    /// Done, or nothing to do.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Refused from the arguments alone.
    Usage = 2,
    /// Not registered, or not found.
    NotRegistered = 3,
    /// `--plan` found changes.
    ChangesPlanned = 4,
    /// Another operation holds the lock.
    Locked = 5,
    /// Interrupted after a step started: run the same command again.
    Resumable = 6,
    /// Refused after looking: a check failed.
    CheckFailed = 7,
    /// Expiring or expired.
    Expiring = 8,
    /// Interrupted before any step started.
    Interrupted = 130,
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code as Self
    }
}

/// What happened, why, and what to run next, under a stable code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The catalogue's entry.
    pub code: &'static Code,
    /// What happened, with the names of this case.
    pub message: String,
    /// Why, where this case knows better than the catalogue.
    pub cause: Option<String>,
    /// What to run next, where this case knows better than the catalogue.
    pub next: Option<String>,
    /// Words of the other side, ids of the request: for a support case.
    pub details: Vec<String>,
}

/// For programs: with what the catalogue says where this case does not know better.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut problem = serializer.serialize_struct("Problem", 6)?;
        problem.serialize_field("code", self.code.id)?;
        problem.serialize_field("title", self.code.title)?;
        problem.serialize_field("message", &self.message)?;
        problem.serialize_field("cause", self.why())?;
        problem.serialize_field("next", self.then())?;
        problem.serialize_field("details", &self.details)?;
        problem.end()
    }
}

impl Problem {
    /// A problem of this code.
    pub fn new(code: &'static Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), cause: None, next: None, details: Vec::new() }
    }

    /// With a cause of this case.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// With a next command of this case.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// With one more detail: words of the other side. What this process has sent as a secret is not in them.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(crate::redact::of_server(&detail.into()).into_owned());
        self
    }

    /// Why it happened: this case's cause, or the catalogue's.
    #[must_use]
    pub fn why(&self) -> &str {
        self.cause.as_deref().unwrap_or(self.code.cause)
    }

    /// What to run next: this case's, or the catalogue's.
    #[must_use]
    pub fn then(&self) -> &str {
        self.next.as_deref().unwrap_or(self.code.next)
    }
}

/// The command in what to run next, and what is said of it. A next step that begins with `azsreg ` is a command to type, up to
/// two spaces or its end; any other is a sentence. Words in capitals are for the operator to fill in.
#[must_use]
pub fn command_of(next: &str) -> Option<(&str, &str)> {
    next.starts_with("azsreg ").then(|| next.split_once("  ").unwrap_or((next, "")))
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.id, self.message)
    }
}

impl std::error::Error for Problem {}
