//! `Microsoft.Authorization` over HTTPS: locks, role definitions and assignments, permissions.

use hyper::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use super::arm::{Answer, Call, Guard, body_of, made, not_allowed, page};
use crate::http::{self, text, value};
use crate::world::arm::ArmError;
use crate::world::condition::Attributes;
use crate::world::roles::{Assignment, Delegated, is_within};

/// The subscription of a scope where custom roles are made.
fn subscription(scope: &str) -> Result<Uuid, ArmError> {
    let id = scope.split('/').nth(2).and_then(|id| id.parse().ok());
    id.ok_or_else(|| ArmError::new(400, "InvalidRoleDefinition", "Roles are made at the scope of a subscription."))
}

fn role_id(id: &str) -> Result<Uuid, ArmError> {
    id.parse().map_err(|_| {
        ArmError::new(400, "InvalidRoleDefinitionId", format!("The role definition ID '{id}' is not a GUID."))
    })
}

/// A call on a scope's locks, roles or permissions; `names` begins with the resource type.
pub(super) fn authorization(call: &Call<'_>, mut guard: Guard<'_>, scope: String, names: &[String]) -> Answer {
    let azure = &mut *guard;
    let kind = names.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    let filter = value(call.query, "$filter").unwrap_or_default().to_owned();
    let reach = |a: &str| is_within(a, &scope) || is_within(&scope, a);
    match (call.method, kind.as_str(), &names[1.min(names.len())..]) {
        ("GET", "permissions", []) => Ok(http::json(200, &azure.arm.permissions(call.me, &scope))),
        ("GET", "locks", []) => {
            call.may(azure, "Microsoft.Authorization/locks/read", &scope)?;
            let at_scope = filter.contains("atScope()");
            let items = azure
                .arm
                .locks
                .iter()
                .filter(|lock| if at_scope { is_within(&scope, &lock.scope) } else { reach(&lock.scope) })
                .map(|lock| lock.body())
                .collect();
            drop(guard);
            Ok(page(call.state, call.request, items))
        }
        ("GET", "locks", [name]) => {
            call.may(azure, "Microsoft.Authorization/locks/read", &scope)?;
            match azure.arm.lock_at(&scope, name) {
                Some(at) => Ok(http::json(200, &azure.arm.locks[at].body())),
                None => Err(ArmError::new(404, "LockNotFound", format!("The lock '{name}' could not be found."))),
            }
        }
        ("PUT", "locks", [name]) => {
            call.may(azure, "Microsoft.Authorization/locks/write", &scope)?;
            let body = body_of(call.request)?;
            let (new, lock) = azure.arm.put_lock(&scope, name, &body)?;
            made(new, &lock.body())
        }
        ("DELETE", "locks", [name]) => {
            call.may(azure, "Microsoft.Authorization/locks/delete", &scope)?;
            match azure.arm.lock_at(&scope, name) {
                Some(at) => {
                    azure.arm.locks.remove(at);
                    Ok(text(StatusCode::OK, ""))
                }
                None => Ok(text(StatusCode::NO_CONTENT, "")),
            }
        }
        ("GET", "roledefinitions", []) => {
            let quoted = |word: &str| {
                let at = filter.to_ascii_lowercase().find(word)?;
                filter[at..].split('\'').nth(1).map(str::to_owned)
            };
            let (wanted, kind) = (quoted("rolename eq"), quoted("type eq"));
            let items = azure
                .arm
                .roles
                .iter()
                .filter(|role| role.is_assignable(&scope))
                .filter(|role| wanted.as_deref().is_none_or(|name| role.name.eq_ignore_ascii_case(name)))
                .filter(|role| kind.as_deref().is_none_or(|kind| role.kind.eq_ignore_ascii_case(kind)))
                .map(|role| role.body(&scope))
                .collect();
            drop(guard);
            Ok(page(call.state, call.request, items))
        }
        ("GET", "roledefinitions", [id]) => {
            match azure.arm.roles.iter().find(|role| role.id.to_string().eq_ignore_ascii_case(id)) {
                Some(role) => Ok(http::json(200, &role.body(&scope))),
                None => Err(ArmError::new(
                    404,
                    "RoleDefinitionDoesNotExist",
                    format!("The specified role definition with ID '{id}' does not exist."),
                )),
            }
        }
        ("PUT", "roledefinitions", [id]) => {
            call.may(azure, "Microsoft.Authorization/roleDefinitions/write", &scope)?;
            let (subscription, id) = (subscription(&scope)?, role_id(id)?);
            let body = body_of(call.request)?;
            let (_, role) = azure.arm.put_role(subscription, id, &body)?;
            Ok(http::json(201, &role.body(&scope)))
        }
        ("DELETE", "roledefinitions", [id]) => {
            call.may(azure, "Microsoft.Authorization/roleDefinitions/delete", &scope)?;
            match azure.arm.delete_role(role_id(id)?)? {
                Some(gone) => Ok(http::json(200, &gone.body(&scope))),
                None => Ok(text(StatusCode::NO_CONTENT, "")),
            }
        }
        ("GET", "roleassignments", []) => {
            call.may(azure, "Microsoft.Authorization/roleAssignments/read", &scope)?;
            let at_scope = filter.contains("atScope()");
            let quoted = |word: &str| {
                let at = filter.find(word)?;
                filter[at..].split('\'').nth(1).map(str::to_owned)
            };
            let principal = quoted("principalId").or_else(|| quoted("assignedTo("));
            let items = azure
                .arm
                .assignments
                .iter()
                .filter(|a| if at_scope { is_within(&scope, &a.scope) } else { reach(&a.scope) })
                .filter(|a| principal.as_deref().is_none_or(|p| a.principal.to_string().eq_ignore_ascii_case(p)))
                .map(|a| a.body())
                .collect();
            drop(guard);
            Ok(page(call.state, call.request, items))
        }
        ("GET", "roleassignments", [name]) => {
            call.may(azure, "Microsoft.Authorization/roleAssignments/read", &scope)?;
            let found = azure
                .arm
                .assignments
                .iter()
                .find(|a| a.scope.eq_ignore_ascii_case(&scope) && a.name.eq_ignore_ascii_case(name));
            match found {
                Some(a) => Ok(http::json(200, &a.body())),
                None => Err(ArmError::new(
                    404,
                    "RoleAssignmentNotFound",
                    format!("The role assignment '{name}' is not found."),
                )),
            }
        }
        ("PUT", "roleassignments", [name]) => {
            let body = body_of(call.request)?;
            let named = |name: &str| body["properties"][name].as_str().unwrap_or_default().to_owned();
            let (role, principal, kind) = (named("roleDefinitionId"), named("principalId"), named("principalType"));
            let asked = Attributes { role_definition_id: &role, principal_id: &principal, principal_type: &kind };
            let delegated = Delegated { request: Some(asked), resource: None };
            call.may_for(azure, "Microsoft.Authorization/roleAssignments/write", &scope, delegated)?;
            let known = body.pointer("/properties/principalId").and_then(Value::as_str).and_then(|id| id.parse().ok());
            let exists = known.is_some_and(|id: Uuid| {
                azure.directory.applications.iter().any(|a| a.principal == Some(id))
                    || azure.directory.users.iter().any(|user| user.object_id == id)
            });
            if !exists {
                let id = known.map_or_else(String::new, |id| id.to_string());
                return Err(ArmError::new(
                    400,
                    "PrincipalNotFound",
                    format!(
                        "Principal {} does not exist in the directory. Check that you have the correct principal ID.",
                        id.replace('-', "")
                    ),
                ));
            }
            let (new, assignment) = azure.arm.put_assignment(&scope, name, &body)?;
            made(new, &assignment.body())
        }
        ("DELETE", "roleassignments", [name]) => {
            let here = |a: &&Assignment| a.scope.eq_ignore_ascii_case(&scope) && a.name.eq_ignore_ascii_case(name);
            let there = azure.arm.assignments.iter().find(here).cloned();
            let (role, principal) =
                there.as_ref().map(|a| (a.role.to_string(), a.principal.to_string())).unwrap_or_default();
            let resource = there.as_ref().map(|a| Attributes {
                role_definition_id: &role,
                principal_id: &principal,
                principal_type: &a.principal_type,
            });
            let delegated = Delegated { request: None, resource };
            call.may_for(azure, "Microsoft.Authorization/roleAssignments/delete", &scope, delegated)?;
            match azure.arm.delete_assignment(&scope, name)? {
                Some(gone) => Ok(http::json(200, &gone.body())),
                None => Ok(text(StatusCode::NO_CONTENT, "")),
            }
        }
        (_, "locks" | "roleassignments" | "roledefinitions" | "permissions", _) => not_allowed(),
        (_, other, _) => Err(ArmError::new(
            404,
            "InvalidResourceType",
            format!("The resource type '{other}' could not be found in the namespace 'Microsoft.Authorization'."),
        )),
    }
}
