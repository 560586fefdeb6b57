//! The port of Azure: the providers that registration uses, by resource (`wire-azure.md`, `facts-azure-api.md`).

use std::cell::RefCell;
use std::collections::HashSet;

use azsreg_model::{
    ActivationKey, Cloud, CustomRole, Customer, LOCK_NAME, Lock, LockLevel, Permission, Problem,
    REGISTRATION_OWNER_ROLE_ID, Registration, RegistrationId, RegistrationToken, RoleAssignment, code, lock_notes,
    redact,
};
use azsreg_operations::engine::retry::Policy;
use azsreg_operations::ports::{Azure, Customers, DirectoryRights, PortError, Provider, Subscription};
use jiff::SignedDuration;
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::absent::{self, is_resource};
use crate::address::same_origin;
use crate::error::ArmError;
use crate::graph;
use crate::http::clock_skew;
use crate::manager::{Manager, Seen};

const SUBSCRIPTIONS: &str = "2022-12-01";
const RESOURCES: &str = "2021-04-01";
const REGISTRATIONS: &str = "2017-06-01";
const LOCKS: &str = "2016-09-01";
const AUTHORIZATION: &str = "2022-04-01";

/// Azure through its Resource Manager.
pub struct AzurePort<'a> {
    manager: Manager<'a>,
    /// The directory's Graph, where its address is known.
    graph: Option<Manager<'a>>,
    cloud: &'a Cloud,
    bridge: Option<SecretString>,
    /// The subscriptions that were seen.
    visible: RefCell<HashSet<Uuid>>,
    /// The pages of usage that were read.
    pub(crate) seen: Seen,
}

impl<'a> AzurePort<'a> {
    /// Azure as this manager's identity sees it. `bridge` is a refresh token to give to the stamp in place of the identity's.
    #[must_use]
    pub fn new(manager: Manager<'a>, cloud: &'a Cloud, bridge: Option<SecretString>) -> Self {
        let graph = manager.graph();
        Self { manager, graph, cloud, bridge, visible: RefCell::default(), seen: Seen::default() }
    }

    pub(crate) fn manager(&self) -> &Manager<'a> {
        &self.manager
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn guid(value: &Value, pointer: &str) -> Option<Uuid> {
    text(value, pointer).parse().ok()
}

fn unreadable(what: &str) -> ArmError {
    ArmError::Unreadable { host: "Azure".into(), reason: format!("{what} is missing or malformed") }
}

/// A read that a narrow role, or another Azure, refuses: what it would have said is not known.
fn unchecked(what: &str, statuses: &[u16], error: ArmError) -> PortError {
    match &error {
        ArmError::Refused { status, .. } if statuses.contains(status) => {
            let problem = Problem::new(&code::NOT_CHECKED, format!("{what} could not be checked"));
            PortError::permanent(problem.detail(redact::of_server(&error.to_string())))
        }
        _ => error.into(),
    }
}

fn registration(value: &Value) -> Result<Registration, ArmError> {
    Ok(Registration {
        id: text(value, "/id").parse().map_err(|_| unreadable("the registration's id"))?,
        cloud_id: guid(value, "/properties/cloudId"),
        // A GUID of zeros names nothing.
        object_id: guid(value, "/properties/objectId").filter(|id| !id.is_nil()),
        billing_model: text(value, "/properties/billingModel").to_owned(),
        etag: value.get("etag").and_then(Value::as_str).map(str::to_owned),
    })
}

impl AzurePort<'_> {
    /// An answer that is not the resource that was asked for.
    fn unclear(&self, what: &str) -> ArmError {
        self.manager.unclear(what, "the answer is not that resource")
    }

    /// The locks that a scope lists.
    async fn locks_from(&self, scope: &str) -> Result<Vec<Value>, ArmError> {
        let path = format!("{scope}/providers/Microsoft.Authorization/locks");
        self.manager.resources(&path, LOCKS, absent::RESOURCE, "locks").await
    }

    /// Whether the caller sees a subscription. What was seen once in this run is not asked for again.
    async fn sees(&self, subscription: Uuid) -> Result<bool, PortError> {
        if !self.visible.borrow().contains(&subscription) {
            self.subscriptions().await?;
        }
        Ok(self.visible.borrow().contains(&subscription))
    }

    /// A move, or the question whether it would be allowed. Azure answers 202 and is polled.
    async fn move_call(&self, verb: &str, id: &RegistrationId, to: &RegistrationId) -> Result<(), PortError> {
        let path = format!("/subscriptions/{}/resourceGroups/{}/{verb}", id.subscription, id.resource_group);
        let group = format!("/subscriptions/{}/resourceGroups/{}", to.subscription, to.resource_group);
        let body = json!({"resources": [id.to_string()], "targetResourceGroup": group});
        // Azure takes longer for a move than for anything else.
        let limit = Policy::STAMP.deadline;
        self.manager.call_within(limit, Method::POST, &path, RESOURCES, Some(&body)).await?;
        Ok(())
    }
}

/// The name of the bridge's role assignment: always the same for the same registration and principal, so that two runs
/// make one.
fn assignment_name(id: &RegistrationId, principal: Uuid) -> Uuid {
    let text = format!("{}|{principal}|{REGISTRATION_OWNER_ROLE_ID}", id.to_string().to_lowercase());
    Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes())
}

impl Customers for AzurePort<'_> {
    async fn customers(&self, id: &RegistrationId) -> Result<Vec<Customer>, PortError> {
        let path = format!("{id}/customerSubscriptions");
        let list = self.manager.list(&path, REGISTRATIONS, absent::NEVER).await?;
        // One that can't be read is there all the same.
        let all: Option<Vec<Customer>> = list.iter().map(customer).collect();
        Ok(all.ok_or_else(|| self.manager.unclear(&path, "the list holds something else"))?)
    }

    async fn put_customer(&self, id: &RegistrationId, customer: &Customer) -> Result<(), PortError> {
        // The id in lower case: its letter case counts.
        let path = format!("{id}/customerSubscriptions/{}", customer.subscription);
        let body = json!({"properties": {"tenantId": customer.tenant}});
        // The answer names nothing in the official example: what was done is looked at, not read here.
        self.manager.call(Method::PUT, &path, REGISTRATIONS, Some(&body)).await?;
        Ok(())
    }

    async fn delete_customer(&self, id: &RegistrationId, subscription: Uuid) -> Result<(), PortError> {
        let path = format!("{id}/customerSubscriptions/{subscription}");
        Ok(self.manager.delete(&path, REGISTRATIONS, absent::CUSTOMER).await?)
    }
}

/// A customer out of its resource; `None` where it names no subscription or no tenant.
#[must_use]
pub fn customer(resource: &Value) -> Option<Customer> {
    let name = text(resource, "/name");
    let subscription = name.rsplit('/').next().unwrap_or(name).parse().ok()?;
    Some(Customer { subscription, tenant: guid(resource, "/properties/tenantId")? })
}

impl Azure for AzurePort<'_> {
    fn environment(&self) -> &str {
        &self.cloud.name
    }

    fn default_location(&self) -> &str {
        &self.cloud.default_location
    }

    async fn subscriptions(&self) -> Result<Vec<Subscription>, PortError> {
        let list = self.manager.list("/subscriptions", SUBSCRIPTIONS, absent::NEVER).await?;
        if list.iter().any(|one| guid(one, "/subscriptionId").is_none()) {
            return Err(self.manager.unclear("/subscriptions", "the list holds something else").into());
        }
        let all: Vec<Subscription> = list
            .iter()
            .filter_map(|s| {
                Some(Subscription {
                    id: guid(s, "/subscriptionId")?,
                    name: text(s, "/displayName").to_owned(),
                    tenant: Some(text(s, "/tenantId"))
                        .filter(|tenant| !tenant.is_empty())
                        .unwrap_or(self.manager.identity().tenant())
                        .to_owned(),
                    quota_id: text(s, "/subscriptionPolicies/quotaId").to_owned(),
                    state: text(s, "/state").to_owned(),
                })
            })
            .collect();
        self.visible.borrow_mut().extend(all.iter().map(|one| one.id));
        Ok(all)
    }

    async fn locations(&self, subscription: Uuid) -> Result<Vec<String>, PortError> {
        let path = format!("/subscriptions/{subscription}/locations");
        let list = self.manager.list(&path, SUBSCRIPTIONS, absent::NEVER).await;
        let list = list.map_err(|error| unchecked("which locations the subscription has", &[403], error))?;
        let other_kind = |one: &Value| one["id"].is_string() && !absent::is_of_kind(one, "locations");
        if list.iter().any(|one| text(one, "/name").is_empty() || other_kind(one)) {
            return Err(self.manager.unclear(&path, "the list holds something else").into());
        }
        // What is more than one region is none that a group can be in; an older Azure does not say which is which.
        let is = |one: &Value, member: &str, word: &str| text(one, member).eq_ignore_ascii_case(word);
        let mut regions: Vec<&Value> = list.iter().filter(|one| !is(one, "/metadata/regionType", "Logical")).collect();
        regions.sort_by_key(|one| is(one, "/metadata/regionCategory", "Other"));
        Ok(regions.into_iter().map(|location| text(location, "/name").to_owned()).collect())
    }

    async fn permissions(&self, scope: &str) -> Result<Vec<Permission>, PortError> {
        let path = format!("{scope}/providers/Microsoft.Authorization/permissions");
        let list = self.manager.list(&path, AUTHORIZATION, absent::NEVER).await;
        let what = format!("what the caller may do on {scope}");
        let list = list.map_err(|error| unchecked(&what, &[403, 404, 405], error))?;
        if list.iter().any(|one| !one["actions"].is_array()) {
            return Err(self.manager.unclear(&path, "the list holds something else").into());
        }
        let strings = |value: &Value, name: &str| {
            let list = value.get(name).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(|s| s.as_str().map(str::to_owned)).collect()
        };
        Ok(list
            .iter()
            .map(|p| Permission { actions: strings(p, "actions"), not_actions: strings(p, "notActions") })
            .collect())
    }

    async fn provider(&self, subscription: Uuid) -> Result<Provider, PortError> {
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.AzureStack");
        let provider = match self.manager.call(Method::GET, &path, RESOURCES, None).await {
            Err(ArmError::Refused { status: 403, .. }) => return Ok(Provider::NotKnown),
            provider => provider?,
        };
        match text(&provider, "/registrationState") {
            "" => Err(self.unclear(&path).into()),
            state if state.eq_ignore_ascii_case("Registered") => Ok(Provider::Registered),
            state if state.eq_ignore_ascii_case("Registering") => Ok(Provider::Registering),
            _ => Ok(Provider::NotRegistered),
        }
    }

    async fn register_provider(&self, subscription: Uuid) -> Result<(), PortError> {
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.AzureStack/register");
        self.manager.call(Method::POST, &path, RESOURCES, None).await?;
        Ok(())
    }

    async fn resource_group(&self, subscription: Uuid, name: &str) -> Result<Option<String>, PortError> {
        let path = format!("/subscriptions/{subscription}/resourcegroups/{name}");
        let Some(group) = self.manager.find(&path, RESOURCES, absent::GROUP).await? else { return Ok(None) };
        let location = text(&group, "/location").to_owned();
        if location.is_empty() || !is_resource(&group, &path) {
            return Err(self.unclear(&path).into());
        }
        Ok(Some(location))
    }

    async fn create_resource_group(&self, subscription: Uuid, name: &str, location: &str) -> Result<(), PortError> {
        let path = format!("/subscriptions/{subscription}/resourcegroups/{name}");
        self.manager.call(Method::PUT, &path, RESOURCES, Some(&json!({ "location": location }))).await?;
        Ok(())
    }

    async fn registration(&self, id: &RegistrationId) -> Result<Option<Registration>, PortError> {
        let path = id.to_string();
        match self.manager.find(&path, REGISTRATIONS, absent::REGISTRATION).await? {
            Some(found) if is_resource(&found, &path) => Ok(Some(registration(&found)?)),
            Some(_) => Err(self.unclear(&path).into()),
            // In a subscription that is not to be seen nothing is.
            None if self.sees(id.subscription).await? => Ok(None),
            None => Err(self.unclear(&format!("/subscriptions/{}", id.subscription)).into()),
        }
    }

    async fn registrations(&self, subscription: Uuid) -> Result<Vec<Registration>, PortError> {
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.AzureStack/registrations");
        let list = self.manager.resources(&path, REGISTRATIONS, absent::REGISTRATIONS, "registrations").await?;
        Ok(list.iter().map(registration).collect::<Result<_, _>>()?)
    }

    async fn put_registration(
        &self,
        id: &RegistrationId,
        token: &RegistrationToken,
    ) -> Result<Registration, PortError> {
        redact::remember(token.expose());
        let body = json!({"location": "global", "properties": {"registrationToken": token.expose()}});
        let made = self.manager.call(Method::PUT, &id.to_string(), REGISTRATIONS, Some(&body)).await?;
        match is_resource(&made, &id.to_string()) {
            true => Ok(registration(&made)?),
            false => Err(self.unclear(&id.to_string()).into()),
        }
    }

    async fn locks(&self, id: &RegistrationId) -> Result<Vec<Lock>, PortError> {
        let own = id.to_string();
        let subscription = format!("/subscriptions/{}", id.subscription);
        let group = format!("{subscription}/resourceGroups/{}", id.resource_group);
        // A resource's list need not have those of the group and the subscription, which protect it as well.
        let scopes = [own.as_str(), group.as_str(), subscription.as_str()];
        let (here, above, top) =
            tokio::join!(self.locks_from(scopes[0]), self.locks_from(scopes[1]), self.locks_from(scopes[2]));
        let mut locks: Vec<Lock> = Vec::new();
        for (list, from) in [here, above, top].into_iter().zip(scopes) {
            let list = match list {
                // Who may work in the group alone need not see what is above it.
                Err(ArmError::Refused { status: 403, .. }) if from != own => continue,
                list => list?,
            };
            for lock in &list {
                // A list of the group or the subscription has those of everything in it, too.
                let at = text(lock, "/id").to_lowercase();
                let at = at.rsplit_once("/providers/microsoft.authorization/locks/").map_or("", |(at, _)| at);
                let inside = at.starts_with(&format!("{}/", own.to_lowercase())).then_some(at);
                let named = scopes.into_iter().find(|scope| scope.to_lowercase() == at);
                let Some(scope) = named.or(inside) else { continue };
                let name = text(lock, "/name").to_owned();
                if !locks.iter().any(|known| known.scope == scope && known.name.eq_ignore_ascii_case(&name)) {
                    let level = match text(lock, "/properties/level") {
                        level if level.eq_ignore_ascii_case("CanNotDelete") => LockLevel::CanNotDelete,
                        level if level.eq_ignore_ascii_case("ReadOnly") => LockLevel::ReadOnly,
                        _ => LockLevel::Other,
                    };
                    locks.push(Lock { name, level, scope: scope.to_owned(), inherited: scope != own });
                }
            }
        }
        Ok(locks)
    }
    async fn put_lock(&self, id: &RegistrationId) -> Result<(), PortError> {
        let path = format!("{id}/providers/Microsoft.Authorization/locks/{LOCK_NAME}");
        let body = json!({"properties": {"level": "CanNotDelete", "notes": lock_notes(&id.name)}});
        self.manager.call(Method::PUT, &path, LOCKS, Some(&body)).await?;
        Ok(())
    }

    async fn delete_registration(&self, id: &RegistrationId) -> Result<(), PortError> {
        Ok(self.manager.delete(&id.to_string(), REGISTRATIONS, absent::RESOURCE).await?)
    }

    async fn check_move(&self, id: &RegistrationId, to: &RegistrationId) -> Result<(), PortError> {
        self.move_call("validateMoveResources", id, to).await
    }

    async fn move_registration(&self, id: &RegistrationId, to: &RegistrationId) -> Result<(), PortError> {
        self.move_call("moveResources", id, to).await
    }

    async fn delete_lock(&self, id: &RegistrationId, name: &str) -> Result<(), PortError> {
        let path = format!("{id}/providers/Microsoft.Authorization/locks/{name}");
        Ok(self.manager.delete(&path, LOCKS, absent::LOCK).await?)
    }

    async fn delete_role_assignment(&self, id: &RegistrationId, name: &str) -> Result<(), PortError> {
        let path = format!("{id}/providers/Microsoft.Authorization/roleAssignments/{name}");
        Ok(self.manager.delete(&path, AUTHORIZATION, absent::ROLE).await?)
    }

    async fn principal_exists(&self, principal: Uuid) -> Result<Option<bool>, PortError> {
        match &self.graph {
            Some(graph) => Ok(graph::principal_exists(graph, principal).await?),
            None => Ok(None),
        }
    }

    async fn directory_rights(&self, principal: Option<Uuid>) -> Result<DirectoryRights, PortError> {
        match &self.graph {
            Some(graph) => Ok(graph::rights(graph, principal).await?),
            None => Ok(DirectoryRights::default()),
        }
    }

    async fn custom_role(&self, subscription: Uuid, name: &str) -> Result<Option<CustomRole>, PortError> {
        let path = format!(
            "/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions?$filter=roleName eq '{name}'"
        );
        let list = self.manager.resources(&path, AUTHORIZATION, absent::NEVER, "roleDefinitions").await?;
        let strings = |value: Option<&Value>| -> Vec<String> {
            let list = value.and_then(Value::as_array);
            list.into_iter().flatten().filter_map(|s| s.as_str().map(str::to_owned)).collect()
        };
        Ok(list.iter().find(|role| text(role, "/properties/roleName").eq_ignore_ascii_case(name)).map(|role| {
            CustomRole {
                id: guid(role, "/name"),
                name: text(role, "/properties/roleName").to_owned(),
                description: text(role, "/properties/description").to_owned(),
                actions: strings(role.pointer("/properties/permissions/0/actions")),
                assignable_scopes: strings(role.pointer("/properties/assignableScopes")),
            }
        }))
    }

    async fn put_custom_role(
        &self,
        subscription: Uuid,
        id: Option<Uuid>,
        role: &CustomRole,
    ) -> Result<Uuid, PortError> {
        // Always the same for the same subscription and name, so that two runs make one.
        let made = || Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{subscription}|{}", role.name).as_bytes());
        let id = id.unwrap_or_else(made);
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{id}");
        let body = json!({"name": id, "properties": {
            "roleName": role.name, "description": role.description, "type": "CustomRole",
            "permissions": [{"actions": role.actions, "notActions": []}], "assignableScopes": role.assignable_scopes,
        }});
        self.manager.call(Method::PUT, &path, AUTHORIZATION, Some(&body)).await?;
        Ok(id)
    }

    async fn assign_custom_role(
        &self,
        subscription: Uuid,
        role: Uuid,
        principal: Uuid,
        condition: &str,
    ) -> Result<(), PortError> {
        let name = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{subscription}|{role}|{principal}").as_bytes());
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleAssignments/{name}");
        let role = format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}");
        let body = json!({"properties": {
            "roleDefinitionId": role, "principalId": principal, "condition": condition, "conditionVersion": "2.0",
        }});
        match self.manager.call(Method::PUT, &path, AUTHORIZATION, Some(&body)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_code("RoleAssignmentExists") => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn has_second_factor(&self) -> Option<bool> {
        self.manager.identity().has_second_factor()
    }

    fn clock_skew(&self) -> Option<SignedDuration> {
        clock_skew()
    }

    async fn role_assignments(&self, id: &RegistrationId) -> Result<Vec<RoleAssignment>, PortError> {
        let scope = id.to_string();
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments?$filter=atScope()");
        let list = self.manager.resources(&path, AUTHORIZATION, absent::RESOURCE, "roleAssignments").await?;
        Ok(list
            .iter()
            .filter(|a| text(a, "/properties/scope").eq_ignore_ascii_case(&scope))
            .filter_map(|a| {
                Some(RoleAssignment {
                    name: text(a, "/name").to_owned(),
                    principal_id: guid(a, "/properties/principalId")?,
                    role_id: text(a, "/properties/roleDefinitionId").rsplit('/').next()?.parse().ok()?,
                })
            })
            .collect())
    }

    async fn assign_role(&self, id: &RegistrationId, principal: Uuid) -> Result<(), PortError> {
        let name = assignment_name(id, principal);
        let path = format!("{id}/providers/Microsoft.Authorization/roleAssignments/{name}");
        let role = format!(
            "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{REGISTRATION_OWNER_ROLE_ID}",
            id.subscription
        );
        let body = json!({"properties": {
            "roleDefinitionId": role, "principalId": principal, "principalType": "ServicePrincipal",
        }});
        match self.manager.call(Method::PUT, &path, AUTHORIZATION, Some(&body)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_code("RoleAssignmentExists") => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn activation_key(&self, id: &RegistrationId) -> Result<ActivationKey, PortError> {
        let path = format!("{id}/getactivationkey");
        let answer = self.manager.call(Method::POST, &path, REGISTRATIONS, None).await?;
        let key = text(&answer, "/activationKey");
        // A key that is said to be empty is Azure's word, and malformed.
        if !answer["activationKey"].is_string() {
            return Err(self.manager.unclear(&path, "the answer holds no key").into());
        }
        redact::remember(key);
        Ok(ActivationKey::new(key))
    }

    fn take_request_ids(&self) -> Vec<String> {
        self.manager.take_request_ids()
    }

    async fn bridge_refresh_token(&self) -> Result<SecretString, PortError> {
        if let Some(token) = &self.bridge {
            return Ok(token.clone());
        }
        // What the stamp's bridge redeems is of the cloud that the stamp is registered in, and of no other.
        let identity = self.manager.identity();
        if !same_origin(&identity.place().endpoint, &self.cloud.arm_endpoint) {
            let message = format!("the sign-in for {} is not for {}", identity.place().endpoint, self.cloud);
            return Err(PortError::permanent(Problem::new(&code::SIGN_IN_ELSEWHERE, message)));
        }
        Ok(identity.account().await?.refresh_token)
    }
}
