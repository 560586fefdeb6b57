//! The registration resource in Azure, its lock and its role (`facts-azure-api.md` sections 2 and 8).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// The resource provider.
pub const PROVIDER: &str = "Microsoft.AzureStack";
/// The lock's name.
pub const LOCK_NAME: &str = "RegistrationResourceLock";
/// The role that the stamp's bridge service principal gets on the registration.
pub const REGISTRATION_OWNER_ROLE: &str = "Azure Stack Registration Owner";
/// That role's id, the same in every tenant.
pub const REGISTRATION_OWNER_ROLE_ID: Uuid = Uuid::from_u128(0x6f12_a6df_dd06_4f3e_bcb1_ce8b_e600_526a);

/// What the lock says to whoever finds it.
#[must_use]
pub fn lock_notes(name: &str) -> String {
    format!(
        "Registration resource {name} is needed for syndication. Placing resource lock to prevent accidental deletion."
    )
}

/// What a role gives at a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Permission {
    /// Allowed actions, with `*`.
    pub actions: Vec<String>,
    /// Actions taken away from those.
    pub not_actions: Vec<String>,
}

impl Permission {
    /// Whether any of these permissions holds an action. What one role takes away, another may still give.
    #[must_use]
    pub fn allow(permissions: &[Self], action: &str) -> bool {
        let any = |list: &[String]| list.iter().any(|pattern| holds(pattern, action));
        permissions.iter().any(|permission| any(&permission.actions) && !any(&permission.not_actions))
    }
}

/// Whether a pattern such as `Microsoft.Authorization/*/Write` holds an action, without regard to case.
fn holds(pattern: &str, action: &str) -> bool {
    fn fits(pattern: &[u8], action: &[u8]) -> bool {
        match (pattern.split_first(), action.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                fits(rest, action) || action.split_first().is_some_and(|(_, tail)| fits(pattern, tail))
            }
            (Some((p, pattern)), Some((a, action))) => p.eq_ignore_ascii_case(a) && fits(pattern, action),
            _ => false,
        }
    }
    fits(pattern.as_bytes(), action.as_bytes())
}

/// The resource id of a registration. Compares without regard to case, as Resource Manager does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistrationId {
    /// The subscription.
    pub subscription: Uuid,
    /// The resource group.
    pub resource_group: String,
    /// The registration's name.
    pub name: String,
}

/// Not the id of a registration.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{0:?} is not the resource id of a registration")]
pub struct RegistrationIdError(String);

impl PartialEq for RegistrationId {
    fn eq(&self, other: &Self) -> bool {
        self.subscription == other.subscription
            && self.resource_group.eq_ignore_ascii_case(&other.resource_group)
            && self.name.eq_ignore_ascii_case(&other.name)
    }
}

impl Eq for RegistrationId {}

impl fmt::Display for RegistrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "/subscriptions/{}/resourceGroups/{}/providers/{PROVIDER}/registrations/{}",
            self.subscription, self.resource_group, self.name
        )
    }
}

impl FromStr for RegistrationId {
    type Err = RegistrationIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || RegistrationIdError(text.to_owned());
        // Some services write it as an address: with a host in front, a query behind, a space at the end.
        let path = text.trim().split(['?', '#']).next().unwrap_or_default();
        let path = match path.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => path,
        };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let [a, subscription, b, group, c, provider, d, name] = parts[..] else { return Err(bad()) };
        let words =
            [(a, "subscriptions"), (b, "resourceGroups"), (c, "providers"), (provider, PROVIDER), (d, "registrations")];
        if words.iter().any(|(found, expected)| !found.eq_ignore_ascii_case(expected)) {
            return Err(bad());
        }
        Ok(Self {
            subscription: subscription.parse().map_err(|_| bad())?,
            resource_group: group.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl TryFrom<String> for RegistrationId {
    type Error = RegistrationIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RegistrationId> for String {
    fn from(id: RegistrationId) -> Self {
        id.to_string()
    }
}

/// A registration as Azure shows it. Token, agreement number and flags are never returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// Its resource id.
    pub id: RegistrationId,
    /// The stamp that it belongs to.
    pub cloud_id: Option<Uuid>,
    /// The bridge service principal's object id.
    pub object_id: Option<Uuid>,
    /// The billing model, as written.
    pub billing_model: String,
    /// The version of the resource.
    pub etag: Option<String>,
}

/// A management lock's level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub enum LockLevel {
    CanNotDelete,
    ReadOnly,
    Other,
}

/// A management lock that protects a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lock {
    /// Its name.
    pub name: String,
    /// What it forbids.
    pub level: LockLevel,
    /// The scope that it is on: the registration, its group, its subscription, or something in the registration.
    #[serde(skip)]
    pub scope: String,
    /// Whether that is another than the registration itself: above it, or something in it.
    pub inherited: bool,
}

impl Lock {
    /// Whether it is the one that azsreg places.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        !self.inherited && self.name.eq_ignore_ascii_case(LOCK_NAME)
    }
}

/// A role assignment at the registration's scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleAssignment {
    /// Its name, a GUID.
    pub name: String,
    /// Who has the role: an object id.
    pub principal_id: Uuid,
    /// The role definition's GUID.
    pub role_id: Uuid,
}

/// A customer of a cloud solution provider: the tenant whose usage of a stamp the customer's subscription pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Customer {
    /// The customer's Azure subscription.
    pub subscription: Uuid,
    /// The tenant.
    pub tenant: Uuid,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_hold_what_azure_says_they_hold() {
        let contributor = Permission {
            actions: vec!["*".into()],
            not_actions: vec!["Microsoft.Authorization/*/Delete".into(), "Microsoft.Authorization/*/Write".into()],
        };
        let locks = Permission { actions: vec!["microsoft.authorization/locks/*".into()], not_actions: vec![] };
        let one = [contributor.clone()];
        assert!(Permission::allow(&one, "Microsoft.AzureStack/registrations/write"));
        assert!(!Permission::allow(&one, "Microsoft.Authorization/locks/write"));
        assert!(Permission::allow(&[contributor, locks], "Microsoft.Authorization/locks/write"));
        assert!(!Permission::allow(&[], "a/read"));
    }

    #[test]
    fn ids_are_read_whatever_their_case() {
        let text = "/subscriptions/11111111-1111-4111-8111-111111111111/resourcegroups/g/providers/Microsoft.Azurestack/registrations/n";
        let id: RegistrationId = text.parse().unwrap();
        assert_eq!(id.to_string().parse::<RegistrationId>().unwrap(), id);
        assert!("/subscriptions/x".parse::<RegistrationId>().is_err());
    }
}
