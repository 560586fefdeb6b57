//! What a stamp says of itself (`facts-protocol.md` section 3, `facts-stamp.md` section 1).

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::{RegistrationId, StampVersion};

/// Where the stamp's accounts live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentitySystem {
    /// Microsoft Entra (written `AzureAD` by the stamp).
    #[serde(rename = "aad")]
    Aad,
    /// Active Directory Federation Services.
    #[serde(rename = "adfs")]
    Adfs,
}

impl fmt::Display for IdentitySystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aad => "Microsoft Entra",
            Self::Adfs => "AD FS",
        })
    }
}

/// The answer of `Get-AzureStackStampInformation`, as far as azsreg uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StampInformation {
    /// The stamp's cloud id.
    pub cloud_id: Uuid,
    /// The deployment's id (not the cloud id).
    pub deployment_id: Option<Uuid>,
    /// The build, where the stamp says it.
    pub version: Option<StampVersion>,
    /// How many hosts it has, where the stamp says it.
    pub nodes: Option<u32>,
    /// Where its accounts live.
    pub identity_system: IdentitySystem,
    /// The stamp's own directory.
    pub tenant_id: Option<String>,
    /// That directory's name.
    pub tenant_name: Option<String>,
    /// The DNS suffix.
    pub domain: Option<String>,
    /// The region's name.
    pub region: Option<String>,
    /// The admin Resource Manager.
    pub admin_arm_endpoint: Option<String>,
    /// The tenants' Resource Manager.
    pub tenant_arm_endpoint: Option<String>,
    /// What the stamp says besides, by its own names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, String>,
}

impl StampInformation {
    /// The build, for a person.
    #[must_use]
    pub fn build(&self) -> String {
        self.version.map_or("not known".into(), |version| version.to_string())
    }

    /// How many hosts it has, for a person.
    #[must_use]
    pub fn size(&self) -> String {
        match self.nodes {
            None => "an unknown number of nodes".into(),
            Some(1) => "1 node".into(),
            Some(nodes) => format!("{nodes} nodes"),
        }
    }

    /// Whether `Set-RegistrationKeyPair` exists and applies. Where the stamp does not say, it is not called.
    #[must_use]
    pub fn has_key_pair(&self) -> bool {
        self.version.is_some_and(|version| version.has_key_pair(self.nodes.unwrap_or(0)))
    }
}

/// The activation record, `Microsoft.AzureBridge.Admin/activations/default`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActivationRecord {
    /// The registration that it names.
    pub registration: RegistrationId,
    /// `Succeeded` when all is well.
    pub provisioning_state: String,
    /// Until when the activation is good; year 9999 stands for always, which programs get as null.
    #[serde(serialize_with = "expiration")]
    pub expiration: Option<Expiration>,
    /// Whether marketplace syndication is on, where the record says.
    pub marketplace: Option<bool>,
    /// Whether usage reporting is on, where the record says.
    pub usage_reporting: Option<bool>,
}

impl ActivationRecord {
    /// Whether the record stands for an activation of this registration, ended well.
    #[must_use]
    pub fn is_of(&self, id: &RegistrationId) -> bool {
        let state = self.provisioning_state.as_str();
        self.registration == *id && (state.is_empty() || state.eq_ignore_ascii_case("Succeeded"))
    }

    /// Whether the record's flags, as far as it has any, are these.
    #[must_use]
    pub fn has_flags(&self, usage_reporting: bool, marketplace: bool) -> bool {
        self.usage_reporting.is_none_or(|on| on == usage_reporting)
            && self.marketplace.is_none_or(|on| on == marketplace)
    }

    /// Whether the record may be of an activation with a key that says this. Records write the same expiry in several ways,
    /// with a zone and without (`facts-stamp.md` section 1): a difference of whole quarters of an hour is none.
    #[must_use]
    pub fn may_be_of(&self, claims: &crate::ActivationClaims) -> bool {
        let same = |ours: Option<bool>, theirs: Option<bool>| ours.is_none() || theirs.is_none() || ours == theirs;
        let expiry = self.expiration.as_ref().is_none_or(|end| {
            let Some(of_key) = claims.expires else { return true };
            let apart = end.at.duration_since(of_key).as_secs().abs();
            let shifted = apart <= 14 * 3_600 && [0, 1, 899].contains(&(apart % 900));
            [end.at, of_key].map(crate::finite) == [None, None] || shifted
        });
        expiry && same(self.usage_reporting, claims.usage_reporting) && same(self.marketplace, claims.marketplace)
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expiration.as_ref().is_some_and(|end| end.at <= now)
    }
}

/// An expiration; what never ends has none.
fn expiration<S: Serializer>(end: &Option<Expiration>, serializer: S) -> Result<S::Ok, S::Error> {
    end.as_ref().filter(|end| crate::status::finite(end.at).is_some()).serialize(serializer)
}

/// An expiration: as the record writes it, and as a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Expiration {
    /// As written, with or without a zone.
    pub text: String,
    /// The time; the last day of the calendar stands for its very end.
    pub at: Timestamp,
}

impl Expiration {
    /// Reads an expiration; `None` if it is no time.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self { text: text.to_owned(), at: crate::key::parse_expiry(text)? })
    }
}

impl From<Expiration> for String {
    fn from(expiration: Expiration) -> Self {
        expiration.text
    }
}

/// The newest run of an action on the stamp, as `Get-ActionStatus` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionRun {
    /// How it stands.
    pub state: ActionState,
    /// Its id, where the stamp gives one.
    pub id: Option<String>,
    /// When it began, by the stamp's clock.
    pub started: Option<Timestamp>,
}

impl ActionRun {
    /// No run.
    pub const NONE: Self = Self { state: ActionState::None, id: None, started: None };
}

/// The state of the newest run of an action on the stamp, as `Get-ActionStatus` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionState {
    /// It never ran.
    None,
    /// It runs now.
    Running,
    /// It ended well.
    Completed,
    /// It failed, with the stamp's words.
    Failed(String),
}
