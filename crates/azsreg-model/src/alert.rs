//! Alerts of a stamp (`facts-stamp.md` sections 4 and 5).

use jiff::Timestamp;
use serde::Serialize;

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its id.
    pub name: String,
    /// What people see.
    pub title: String,
    /// `Warning` or `Critical`.
    pub severity: String,
    /// Whether it is open.
    pub active: bool,
    /// The kind of its fault, such as `AzureBridge.NotActivated`.
    pub fault_type: String,
    /// When it was raised.
    pub created: Option<Timestamp>,
    /// When it was closed.
    pub closed: Option<Timestamp>,
    /// What is wrong, as plain text.
    pub description: String,
    /// What to do, as plain text.
    pub remediation: String,
    /// What it is about.
    pub impacted: String,
    /// The code of the usage bridge's error, where it has one.
    pub error_code: Option<String>,
}

impl Alert {
    /// Whether it has to do with the registration: activation, expiry, the reporting of usage.
    #[must_use]
    pub fn is_of_registration(&self) -> bool {
        ["AzureBridge.", "AzureStackNotActivated", "UsageBridge."]
            .iter()
            .any(|begins| self.fault_type.starts_with(begins))
    }
}
