//! Role-based access control: definitions, assignments, and the check of every action.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::condition::{Attributes, Condition};

/// A role definition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RoleDefinition {
    /// Its GUID.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Allowed actions, with `*`.
    pub actions: Vec<String>,
    /// Actions taken away from those.
    pub not_actions: Vec<String>,
    /// `BuiltInRole` or `CustomRole`.
    pub kind: String,
    /// Where it may be assigned.
    pub assignable_scopes: Vec<String>,
}

/// Somebody has a role on a scope.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// Its GUID name, as written.
    pub name: String,
    /// The scope, as written.
    pub scope: String,
    /// The role.
    pub role: Uuid,
    /// The object id of who has it.
    pub principal: Uuid,
    /// `User` or `ServicePrincipal`.
    pub principal_type: String,
    /// The condition under which it gives anything, as written.
    pub condition: Option<String>,
}

/// A role assignment that a caller makes or deletes, as conditions see it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delegated<'a> {
    /// The one to be.
    pub request: Option<Attributes<'a>>,
    /// The one that is.
    pub resource: Option<Attributes<'a>>,
}

impl RoleDefinition {
    /// Whether the role holds an action.
    #[must_use]
    pub fn allows(&self, action: &str) -> bool {
        self.actions.iter().any(|pattern| matches(pattern, action))
            && !self.not_actions.iter().any(|pattern| matches(pattern, action))
    }

    /// Whether it is there for a scope: a built-in one everywhere, a custom one where it may be assigned.
    #[must_use]
    pub fn is_assignable(&self, scope: &str) -> bool {
        self.kind != "CustomRole" || self.assignable_scopes.iter().any(|known| is_within(scope, known))
    }

    /// The resource's body.
    #[must_use]
    pub fn body(&self, scope: &str) -> Value {
        json!({
            "id": format!("{}/providers/Microsoft.Authorization/roleDefinitions/{}", subscription_of(scope), self.id),
            "name": self.id,
            "type": "Microsoft.Authorization/roleDefinitions",
            "properties": {
                "roleName": self.name,
                "type": self.kind,
                "description": self.description,
                "assignableScopes": self.assignable_scopes,
                "permissions": [{"actions": self.actions, "notActions": self.not_actions, "dataActions": [], "notDataActions": []}],
            },
        })
    }
}

/// `/subscriptions/{id}` of a scope, as role definitions' ids have it; empty for the tenant's root.
#[must_use]
pub fn subscription_of(scope: &str) -> String {
    let parts: Vec<&str> = scope.split('/').filter(|part| !part.is_empty()).take(2).collect();
    match parts[..] {
        ["subscriptions", id] => format!("/subscriptions/{id}"),
        _ => String::new(),
    }
}

impl Assignment {
    /// Whether the assignment reaches a scope: the same or a scope above, whatever the case.
    #[must_use]
    pub fn covers(&self, scope: &str) -> bool {
        is_within(scope, &self.scope)
    }

    /// Whether its condition, if it has one, holds for an action. One that can't be read gives nothing.
    #[must_use]
    pub fn permits(&self, action: &str, delegated: Delegated<'_>) -> bool {
        self.condition.as_deref().is_none_or(|text| {
            Condition::parse(text)
                .is_ok_and(|condition| condition.holds(action, delegated.request.as_ref(), delegated.resource.as_ref()))
        })
    }

    /// The resource's body.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = json!({
            "id": format!("{}/providers/Microsoft.Authorization/roleAssignments/{}", self.scope, self.name),
            "name": self.name,
            "type": "Microsoft.Authorization/roleAssignments",
            "properties": {
                "roleDefinitionId": format!("{}/providers/Microsoft.Authorization/roleDefinitions/{}", subscription_of(&self.scope), self.role),
                "principalId": self.principal,
                "principalType": self.principal_type,
                "scope": self.scope,
            },
        });
        if let Some(condition) = &self.condition {
            body["properties"]["condition"] = json!(condition);
            body["properties"]["conditionVersion"] = json!("2.0");
        }
        body
    }
}

/// Whether `scope` is `parent` or lies below it.
#[must_use]
pub fn is_within(scope: &str, parent: &str) -> bool {
    let (scope, parent) = (scope.to_ascii_lowercase(), parent.trim_end_matches('/').to_ascii_lowercase());
    scope == parent || scope.strip_prefix(&parent).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a pattern with `*` holds an action, without regard to case.
#[must_use]
pub fn matches(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(rest) = action.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut rest = rest;
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The built-in roles that the lab has.
#[must_use]
pub fn built_in() -> Vec<RoleDefinition> {
    let role = |id: u128, name: &str, description: &str, actions: &[&str], not_actions: &[&str]| RoleDefinition {
        id: Uuid::from_u128(id),
        name: name.into(),
        description: description.into(),
        actions: actions.iter().map(ToString::to_string).collect(),
        not_actions: not_actions.iter().map(ToString::to_string).collect(),
        kind: "BuiltInRole".into(),
        assignable_scopes: vec!["/".into()],
    };
    vec![
        role(
            0x8e3a_f657_a8ff_443c_a75c_2fe8_c4bc_b635,
            "Owner",
            "Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.",
            &["*"],
            &[],
        ),
        role(
            0xb249_88ac_6180_42a0_ab88_20f7_382d_d24c,
            "Contributor",
            "Grants full access to manage all resources, but does not allow you to assign roles in Azure RBAC.",
            &["*"],
            &[
                "Microsoft.Authorization/*/Delete",
                "Microsoft.Authorization/*/Write",
                "Microsoft.Authorization/elevateAccess/Action",
            ],
        ),
        role(
            0xacdd_72a7_3385_48ef_bd42_f606_fba8_1ae7,
            "Reader",
            "View all resources, but does not allow you to make any changes.",
            &["*/read"],
            &[],
        ),
        role(
            0x18d7_d88d_d35e_4fb5_a5c3_7773_c20a_72d9,
            "User Access Administrator",
            "Lets you manage user access to Azure resources.",
            &["*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"],
            &[],
        ),
        role(
            0x6f12_a6df_dd06_4f3e_bcb1_ce8b_e600_526a,
            "Azure Stack Registration Owner",
            "Lets you manage Azure Stack registrations.",
            &[
                "Microsoft.AzureStack/registrations/products/*/action",
                "Microsoft.AzureStack/registrations/products/read",
                "Microsoft.AzureStack/registrations/read",
            ],
            &[],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_hold_what_they_say() {
        assert!(matches("*", "Microsoft.AzureStack/registrations/write"));
        assert!(matches("*/read", "Microsoft.AzureStack/registrations/read"));
        assert!(!matches("*/read", "Microsoft.AzureStack/registrations/write"));
        assert!(matches(
            "Microsoft.AzureStack/registrations/*",
            "microsoft.azurestack/registrations/getActivationKey/action"
        ));
        assert!(matches("Microsoft.Authorization/*/Write", "Microsoft.Authorization/locks/write"));
        assert!(!matches("Microsoft.Authorization/*/Write", "Microsoft.Authorization/locks/read"));
        assert!(matches("a/b", "A/B") && !matches("a/b", "a/b/c"));
    }

    #[test]
    fn scopes_nest_by_segment() {
        assert!(is_within("/subscriptions/a/resourceGroups/G", "/subscriptions/A"));
        assert!(!is_within("/subscriptions/ab", "/subscriptions/a"));
        assert!(is_within("/subscriptions/a", ""));
    }
}
