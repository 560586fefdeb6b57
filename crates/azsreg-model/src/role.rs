//! The least-privilege role for people who register stamps (`facts-azure-api.md` section 8).

use serde::Serialize;
use uuid::Uuid;

use crate::REGISTRATION_OWNER_ROLE_ID;

/// The role's name, as the documentation has it.
pub const OPERATOR_ROLE_NAME: &str = "Azure Stack Hub registration role";

/// A custom role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CustomRole {
    /// Its GUID, once it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Allowed actions.
    pub actions: Vec<String>,
    /// Scopes where it may be assigned.
    pub assignable_scopes: Vec<String>,
}

impl CustomRole {
    /// Every action that some command of azsreg needs, with what needs it.
    pub const ACTIONS: &[(&str, &str)] = &[
        ("Microsoft.Resources/subscriptions/resourceGroups/read", "every command"),
        ("Microsoft.Resources/subscriptions/resourceGroups/write", "register, move: makes the resource group"),
        ("Microsoft.Resources/subscriptions/resourceGroups/moveResources/action", "move"),
        ("Microsoft.Resources/subscriptions/resourceGroups/validateMoveResources/action", "move"),
        ("Microsoft.AzureStack/register/action", "register: registers the provider"),
        ("Microsoft.AzureStack/registrations/read", "every command"),
        ("Microsoft.AzureStack/registrations/write", "register, set, renew, move"),
        ("Microsoft.AzureStack/registrations/delete", "unregister, change-subscription, renew of an expired one"),
        ("Microsoft.AzureStack/registrations/getActivationKey/action", "register, set, renew, move, status"),
        ("Microsoft.Authorization/locks/read", "every command"),
        ("Microsoft.Authorization/locks/write", "register, set, renew, move"),
        ("Microsoft.Authorization/locks/delete", "unregister, change-subscription, move"),
        ("Microsoft.Authorization/roleAssignments/read", "every command"),
        ("Microsoft.Authorization/roleAssignments/write", "register, move: the stamp's role on its registration"),
        ("Microsoft.Authorization/roleAssignments/delete", "unregister, change-subscription"),
        ("Microsoft.Authorization/permissions/read", "every command: says which action is missing"),
        (
            "Microsoft.Resources/subscriptions/providers/read",
            "register, check: says whether the provider is registered",
        ),
        ("Microsoft.Resources/subscriptions/locations/read", "register, check: says where the resource group can be"),
    ];

    /// Those that only let azsreg see beforehand what Azure says later. A role that lacks them does.
    pub const ONLY_TO_LOOK: &[&str] =
        &["Microsoft.Resources/subscriptions/providers/read", "Microsoft.Resources/subscriptions/locations/read"];

    /// The role for these subscriptions.
    #[must_use]
    pub fn for_operators(subscriptions: &[Uuid]) -> Self {
        Self {
            id: None,
            name: OPERATOR_ROLE_NAME.into(),
            description: "Registers Azure Stack systems, changes and removes their registrations.".into(),
            actions: Self::ACTIONS.iter().map(|(action, _)| (*action).to_owned()).collect(),
            assignable_scopes: subscriptions.iter().map(|id| format!("/subscriptions/{id}")).collect(),
        }
    }
}

/// The condition of the role's assignment: of all roles, only the stamp's own may be given or taken away.
#[must_use]
pub fn role_condition() -> String {
    let id = REGISTRATION_OWNER_ROLE_ID;
    let half = |action: &str, source: &str| {
        format!(
            "((!(ActionMatches{{'Microsoft.Authorization/roleAssignments/{action}'}})) OR (@{source}[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {{{id}}}))"
        )
    };
    format!("{} AND {}", half("write", "Request"), half("delete", "Resource"))
}
