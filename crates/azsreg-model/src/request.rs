//! What an operator asks for, checked as far as the words alone allow.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::{BillingModel, RegistrationId, TokenVersion};

/// A registration that another one takes the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Which one: of another subscription, or an expired one of the same name.
    pub id: RegistrationId,
    /// Whether the stamp is deactivated first, as the article does when the subscription changes.
    pub deactivate: bool,
}

/// A registration of a connected stamp: new, changed in place, or in the place of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterRequest {
    /// The subscription that pays.
    pub subscription: Uuid,
    /// The registration's name; `AzureStack-<cloud id>` where none is given.
    pub name: Option<String>,
    /// The resource group.
    pub resource_group: String,
    /// The resource group's location; the cloud's default where none is given.
    pub location: Option<String>,
    /// How it is paid.
    pub billing_model: BillingModel,
    /// The agreement, for capacity.
    pub agreement_number: Option<String>,
    /// The asset tag, for custom.
    pub ms_asset_tag: Option<String>,
    /// Whether usage is reported.
    pub usage_reporting: bool,
    /// Whether marketplace items are offered.
    pub marketplace: bool,
    /// The directory of the subscription, where the operator named it.
    pub tenant: Option<String>,
    /// The token version to ask for, where the operator overrides the stamp's build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_version: Option<TokenVersion>,
    /// Write the registration again though it is as asked: a renewal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renew: bool,
    /// The registration to remove first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Replaced>,
}

/// What the words alone show to be wrong.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum RequestError {
    /// `facts-errors.md` row 58.
    #[error("the capacity billing model needs an agreement number")]
    AgreementNumber,
    /// `facts-billing-usage.md` section 1.
    #[error("the pay-as-you-use billing model needs usage reporting: it can't be off")]
    UsageReporting,
    /// `facts-errors.md` row 24.
    #[error("the custom billing model needs an asset tag")]
    MsAssetTag,
    /// Resource names that Resource Manager refuses.
    #[error("{what} {value:?} is not a name that Azure takes: {rule}")]
    Name {
        /// Registration or resource group.
        what: &'static str,
        /// As given.
        value: String,
        /// The rule.
        rule: &'static str,
    },
}

impl RegisterRequest {
    /// Checks the rules that need nobody's answer.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), RequestError> {
        let empty = |text: &Option<String>| text.as_deref().is_none_or(|text| text.trim().is_empty());
        match self.billing_model {
            BillingModel::Capacity if empty(&self.agreement_number) => return Err(RequestError::AgreementNumber),
            BillingModel::PayAsYouUse if !self.usage_reporting => return Err(RequestError::UsageReporting),
            BillingModel::Custom if empty(&self.ms_asset_tag) => return Err(RequestError::MsAssetTag),
            _ => {}
        }
        if let Some(name) = &self.name {
            fits("registration name", name)?;
        }
        fits("resource group", &self.resource_group)
    }

    /// The registration to be, for this stamp.
    #[must_use]
    pub fn id_for(&self, cloud_id: Uuid) -> RegistrationId {
        RegistrationId {
            subscription: self.subscription,
            resource_group: self.resource_group.clone(),
            name: self.name_for(cloud_id),
        }
    }

    /// The registration's name for this stamp.
    #[must_use]
    pub fn name_for(&self, cloud_id: Uuid) -> String {
        self.name.clone().unwrap_or_else(|| format!("AzureStack-{cloud_id}"))
    }
}

/// Whether Azure takes a name.
fn fits(what: &'static str, value: &str) -> Result<(), RequestError> {
    const RULE: &str = "up to 90 letters, digits, - _ . ( ), not ending in a dot";
    let fits = !value.is_empty()
        && value.len() <= 90
        && !value.ends_with('.')
        && value.chars().all(|c| c.is_alphanumeric() || "-_.()".contains(c));
    if fits { Ok(()) } else { Err(RequestError::Name { what, value: value.to_owned(), rule: RULE }) }
}

/// Checks names that nothing is registered under yet.
///
/// # Errors
/// One that Azure would refuse.
pub fn check_names(registration: Option<&str>, resource_group: Option<&str>) -> Result<(), RequestError> {
    registration.map_or(Ok(()), |name| fits("registration name", name))?;
    resource_group.map_or(Ok(()), |name| fits("resource group", name))
}

impl RegistrationId {
    /// Checks the names.
    ///
    /// # Errors
    /// One that Azure would refuse.
    pub fn check(&self) -> Result<(), RequestError> {
        fits("registration name", &self.name)?;
        fits("resource group", &self.resource_group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(billing_model: BillingModel) -> RegisterRequest {
        RegisterRequest {
            subscription: Uuid::nil(),
            name: None,
            resource_group: "azurestack".into(),
            location: None,
            billing_model,
            agreement_number: None,
            ms_asset_tag: None,
            usage_reporting: billing_model.reports_usage_by_default(),
            marketplace: true,
            tenant: None,
            token_version: None,
            renew: false,
            replaces: None,
        }
    }

    #[test]
    fn each_model_has_its_rule() {
        assert_eq!(request(BillingModel::PayAsYouUse).validate(), Ok(()));
        assert_eq!(request(BillingModel::Development).validate(), Ok(()));
        assert_eq!(request(BillingModel::Ruggedized).validate(), Ok(()));
        assert_eq!(request(BillingModel::Capacity).validate(), Err(RequestError::AgreementNumber));
        assert_eq!(request(BillingModel::Custom).validate(), Err(RequestError::MsAssetTag));
        let off = RegisterRequest { usage_reporting: false, ..request(BillingModel::PayAsYouUse) };
        assert_eq!(off.validate(), Err(RequestError::UsageReporting));
        let blank = RegisterRequest { agreement_number: Some(" ".into()), ..request(BillingModel::Capacity) };
        assert_eq!(blank.validate(), Err(RequestError::AgreementNumber));
        let slash = RegisterRequest { name: Some("a/b".into()), ..request(BillingModel::Development) };
        assert!(matches!(slash.validate(), Err(RequestError::Name { .. })));
    }
}
