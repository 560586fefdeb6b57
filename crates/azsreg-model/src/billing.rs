//! Billing models (`facts-billing-usage.md` section 1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the stamp's use is paid. Serialised in our own word, for journals: a document for programs has [`BillingModel::wire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BillingModel {
    /// By use, reported to Azure; connected stamps only.
    PayAsYouUse,
    /// By installed capacity, yearly, under an agreement.
    Capacity,
    /// Proof of concept; rated at zero.
    Development,
    /// Appliance-style contracts; wants an asset tag.
    Custom,
    /// The rugged appliance line.
    Ruggedized,
}

impl BillingModel {
    /// All models, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::PayAsYouUse, Self::Capacity, Self::Development, Self::Custom, Self::Ruggedized];

    /// The word on our command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PayAsYouUse => "pay-as-you-use",
            Self::Capacity => "capacity",
            Self::Development => "development",
            Self::Custom => "custom",
            Self::Ruggedized => "ruggedized",
        }
    }

    /// The word on the wire: cmdlet argument, token and resource property.
    #[must_use]
    pub fn wire(self) -> &'static str {
        match self {
            Self::PayAsYouUse => "PayAsYouUse",
            Self::Capacity => "Capacity",
            Self::Development => "Development",
            Self::Custom => "Custom",
            Self::Ruggedized => "Ruggedized",
        }
    }

    /// Whether usage is reported unless the operator says otherwise, for a connected registration.
    #[must_use]
    pub fn reports_usage_by_default(self) -> bool {
        match self {
            Self::PayAsYouUse | Self::Development | Self::Ruggedized => true,
            Self::Capacity | Self::Custom => false,
        }
    }
}

impl fmt::Display for BillingModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BillingModel {
    type Err = String;

    /// Takes our spelling and the PowerShell module's, without regard to case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain: String = text.chars().filter(|c| *c != '-' && *c != '_').collect();
        Self::ALL
            .into_iter()
            .find(|model| model.wire().eq_ignore_ascii_case(&plain))
            .ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_taken() {
        for model in BillingModel::ALL {
            assert_eq!(model.as_str().parse(), Ok(model));
            assert_eq!(model.wire().parse(), Ok(model));
            assert_eq!(model.wire().to_uppercase().parse(), Ok(model));
        }
        assert!("Ingestion".parse::<BillingModel>().is_err());
    }
}
