//! What allows or forbids in Resource Manager: locks, custom roles and role assignments (`facts-azure-api.md` section 10).
//!
//! A lock holds for its scope and for all below it. Any lock refuses a deletion; a `ReadOnly` one refuses whatever else is not
//! a read as well: PUT, PATCH, and POST, which hands out activation keys. Locks themselves can be made, changed and deleted under
//! any lock.

use serde_json::Value;
use uuid::Uuid;

use super::Draw;
use super::arm::{Answer, Arm, ArmError, Lock};
use super::roles::{self, Assignment, RoleDefinition, is_within};

impl Arm {
    fn locks_above(&self, scope: &str) -> impl Iterator<Item = &Lock> {
        self.locks.iter().filter(move |lock| is_within(scope, &lock.scope))
    }

    /// Refuses a deletion under any lock on the scope or above it.
    ///
    /// # Errors
    /// 409 ScopeLocked.
    pub fn deletable(&self, scope: &str) -> Answer<()> {
        let held: Vec<String> = self.locks_above(scope).map(|lock| lock.scope.clone()).collect();
        if held.is_empty() { Ok(()) } else { Err(locked("delete", scope, &held)) }
    }

    /// Refuses the deletion of something with all that is below it, under any lock on it, above it or below it.
    ///
    /// # Errors
    /// 409 ScopeLocked.
    pub(super) fn deletable_whole(&self, scope: &str) -> Answer<()> {
        self.deletable(scope)?;
        let below: Vec<String> =
            self.locks.iter().filter(|lock| is_within(&lock.scope, scope)).map(|lock| lock.scope.clone()).collect();
        if below.is_empty() { Ok(()) } else { Err(locked("delete", scope, &below)) }
    }

    /// Refuses a write, or an action by POST, under a ReadOnly lock on the scope or above it.
    ///
    /// # Errors
    /// 409 ScopeLocked.
    pub fn writable(&self, scope: &str) -> Answer<()> {
        let held: Vec<String> =
            self.locks_above(scope).filter(|lock| lock.level == "ReadOnly").map(|lock| lock.scope.clone()).collect();
        if held.is_empty() { Ok(()) } else { Err(locked("write", scope, &held)) }
    }

    /// Makes or changes a lock; true if it is new.
    ///
    /// # Errors
    /// 400 for a level that is none, 404 for a scope that is not there.
    pub fn put_lock(&mut self, scope: &str, name: &str, body: &Value) -> Answer<(bool, &Lock)> {
        let level = body.pointer("/properties/level").and_then(Value::as_str).unwrap_or_default();
        let level = ["CanNotDelete", "ReadOnly"]
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(level))
            .ok_or_else(|| {
                ArmError::new(
                    400,
                    "InvalidRequestContent",
                    format!("The lock level '{level}' is not one of CanNotDelete, ReadOnly."),
                )
            })?;
        let notes = body.pointer("/properties/notes").and_then(Value::as_str).map(str::to_owned);
        let at = self.lock_at(scope, name);
        let lock = Lock { scope: scope.to_owned(), name: name.to_owned(), level: level.to_owned(), notes };
        match at {
            Some(at) => {
                self.locks[at] = lock;
                Ok((false, &self.locks[at]))
            }
            None => {
                self.locks.push(lock);
                Ok((true, &self.locks[self.locks.len() - 1]))
            }
        }
    }

    /// Where a lock is.
    #[must_use]
    pub fn lock_at(&self, scope: &str, name: &str) -> Option<usize> {
        self.locks
            .iter()
            .position(|lock| lock.scope.eq_ignore_ascii_case(scope) && lock.name.eq_ignore_ascii_case(name))
    }

    /// Makes a role assignment; the same one again is no error under the same name.
    ///
    /// # Errors
    /// 400 for a malformed name, role or principal, 409 ScopeLocked, RoleAssignmentExists or RoleAssignmentUpdateNotPermitted.
    pub fn put_assignment(&mut self, scope: &str, name: &str, body: &Value) -> Answer<(bool, &Assignment)> {
        self.writable(scope)?;
        let bad = |message: String| ArmError::new(400, "InvalidRequestContent", message);
        if name.parse::<Uuid>().is_err() {
            return Err(ArmError::new(
                400,
                "InvalidRoleAssignmentId",
                format!("The role assignment ID '{name}' is not valid. The role assignment ID must be a GUID."),
            ));
        }
        let property = |name: &str| body.get("properties").and_then(|p| p.get(name)).and_then(Value::as_str);
        let principal = property("principalId")
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| bad("The property 'principalId' is not a GUID.".into()))?;
        let role = property("roleDefinitionId")
            .and_then(|id| id.rsplit('/').next())
            .and_then(|id| id.parse::<Uuid>().ok())
            .ok_or_else(|| bad("The property 'roleDefinitionId' is not the id of a role definition.".into()))?;
        if !self.roles.iter().any(|known| known.id == role && known.is_assignable(scope)) {
            return Err(ArmError::new(
                404,
                "RoleDefinitionDoesNotExist",
                format!("The specified role definition with ID '{role}' does not exist."),
            ));
        }
        let assignment = Assignment {
            name: name.to_owned(),
            scope: scope.to_owned(),
            role,
            principal,
            principal_type: property("principalType").unwrap_or("ServicePrincipal").to_owned(),
            condition: property("condition").map(str::to_owned),
        };
        if let Some(Err(error)) = assignment.condition.as_deref().map(super::condition::Condition::parse) {
            return Err(bad(format!("The role assignment's condition is not valid. {error}")));
        }
        if assignment.condition.is_some() && property("conditionVersion") != Some("2.0") {
            return Err(bad("The property 'conditionVersion' is not '2.0'.".into()));
        }
        let here = |a: &Assignment| a.scope.eq_ignore_ascii_case(scope);
        if let Some(at) = self.assignments.iter().position(|a| here(a) && a.name.eq_ignore_ascii_case(name)) {
            let same = self.assignments[at].role == role && self.assignments[at].principal == principal;
            if !same {
                return Err(ArmError::new(
                    409,
                    "RoleAssignmentUpdateNotPermitted",
                    "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
                ));
            }
            // The condition is the one thing that can be changed.
            self.assignments[at].condition = assignment.condition;
            return Ok((false, &self.assignments[at]));
        }
        if self.assignments.iter().any(|a| here(a) && a.role == role && a.principal == principal) {
            return Err(ArmError::new(409, "RoleAssignmentExists", "The role assignment already exists."));
        }
        self.assignments.push(assignment);
        Ok((true, &self.assignments[self.assignments.len() - 1]))
    }

    /// Makes or changes a custom role; true if it is new.
    ///
    /// # Errors
    /// 400 for a malformed or built-in one, 409 RoleDefinitionWithSameNameExists.
    pub fn put_role(&mut self, subscription: Uuid, id: Uuid, body: &Value) -> Answer<(bool, &RoleDefinition)> {
        let bad = |message: &str| ArmError::new(400, "InvalidRoleDefinition", message);
        let properties = &body["properties"];
        let text = |name: &str| properties[name].as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(|s| s.as_str().map(str::to_owned)).collect()
        };
        let permissions = &properties["permissions"][0];
        let role = RoleDefinition {
            id,
            name: text("roleName"),
            description: text("description"),
            actions: list(&permissions["actions"]),
            not_actions: list(&permissions["notActions"]),
            kind: "CustomRole".into(),
            assignable_scopes: list(&properties["assignableScopes"]),
        };
        if role.name.is_empty() || role.assignable_scopes.is_empty() || role.actions.iter().all(String::is_empty) {
            return Err(bad("A custom role needs a roleName, assignableScopes and actions."));
        }
        let scope = format!("/subscriptions/{subscription}");
        if !role.assignable_scopes.iter().any(|s| is_within(s, &scope)) {
            return Err(bad("The scope of the request is not one of the role's assignable scopes."));
        }
        if self.roles.iter().any(|known| known.id != id && known.name.eq_ignore_ascii_case(&role.name)) {
            let message = format!("A custom role with the same name already exists in this directory: {}.", role.name);
            return Err(ArmError::new(409, "RoleDefinitionWithSameNameExists", message));
        }
        match self.roles.iter().position(|known| known.id == id) {
            Some(at) if self.roles[at].kind != "CustomRole" => Err(bad("A built-in role can't be changed.")),
            Some(at) => {
                self.roles[at] = role;
                Ok((false, &self.roles[at]))
            }
            None => {
                self.roles.push(role);
                Ok((true, &self.roles[self.roles.len() - 1]))
            }
        }
    }

    /// Deletes a custom role and gives it back; none if there was none.
    ///
    /// # Errors
    /// 400 RoleDefinitionHasAssignments, or a built-in one.
    pub fn delete_role(&mut self, id: Uuid) -> Answer<Option<RoleDefinition>> {
        let Some(at) = self.roles.iter().position(|role| role.id == id) else { return Ok(None) };
        if self.roles[at].kind != "CustomRole" {
            return Err(ArmError::new(400, "InvalidRoleDefinition", "A built-in role can't be deleted."));
        }
        if self.assignments.iter().any(|a| a.role == id) {
            let message = "There are existing role assignments referencing role.";
            return Err(ArmError::new(400, "RoleDefinitionHasAssignments", message));
        }
        Ok(Some(self.roles.remove(at)))
    }

    /// The subscription goes to another directory: every role assignment in it is gone, and what was made in the old
    /// directory stays there (`facts-errors.md` row 72).
    pub fn change_tenant(&mut self, subscription: Uuid, tenant: Uuid) {
        let scope = format!("/subscriptions/{subscription}");
        self.assignments.retain(|a| !is_within(&a.scope, &scope));
        if let Some(known) = self.subscriptions.get_mut(&subscription) {
            known.tenant = tenant;
        }
    }

    /// Deletes a role assignment and gives it back; none if there was none. A lock on the scope or above forbids it.
    ///
    /// # Errors
    /// 409 ScopeLocked.
    pub fn delete_assignment(&mut self, scope: &str, name: &str) -> Answer<Option<Assignment>> {
        let at = self
            .assignments
            .iter()
            .position(|a| a.scope.eq_ignore_ascii_case(scope) && a.name.eq_ignore_ascii_case(name));
        let Some(at) = at else { return Ok(None) };
        self.deletable(scope)?;
        Ok(Some(self.assignments.remove(at)))
    }

    /// Gives a principal a built-in role by name. For the lab's own set-up.
    pub fn assign(&mut self, draw: &mut Draw, principal: Uuid, kind: &str, role: &str, scope: &str) -> bool {
        if self.roles.is_empty() {
            self.roles = roles::built_in();
        }
        let Some(role) = self.roles.iter().find(|known| known.name.eq_ignore_ascii_case(role)).map(|r| r.id) else {
            return false;
        };
        self.assignments.push(Assignment {
            name: draw.guid().to_string(),
            scope: scope.to_owned(),
            role,
            principal,
            principal_type: kind.to_owned(),
            condition: None,
        });
        true
    }
}

pub(super) fn locked(verb: &str, scope: &str, held: &[String]) -> ArmError {
    ArmError::new(
        409,
        "ScopeLocked",
        format!(
            "The scope '{scope}' cannot perform {verb} operation because following scope(s) are locked: '{}'. Please remove the lock and try again.",
            held.join("', '")
        ),
    )
}
