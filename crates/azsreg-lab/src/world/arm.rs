//! Resource Manager: subscriptions, groups, registrations, locks, role assignments (`facts-azure-api.md`,
//! `wire-azure.md`). Every action is checked against the caller's roles before anything else is said.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Draw;
use super::directory::Directory;
use super::roles::{Assignment, Delegated, RoleDefinition, is_within};
use super::token;

/// The expiry of a key that has none.
pub const NEVER: &str = "9999-12-30T23:59:59.9999999Z";

/// A refusal in Resource Manager's envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmError {
    /// The HTTP status.
    pub status: u16,
    /// The code.
    pub code: String,
    /// The sentence.
    pub message: String,
    /// Details, where the envelope has them.
    pub details: Option<Value>,
}

impl ArmError {
    /// A refusal without details.
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), details: None }
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(details) = &self.details {
            error["details"] = details.clone();
        }
        json!({ "error": error })
    }
}

pub(super) type Answer<T> = Result<T, ArmError>;

/// The state of a subscription in use.
pub(crate) fn enabled() -> String {
    "Enabled".to_owned()
}

/// A subscription.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Subscription {
    /// Its id.
    pub id: Uuid,
    /// Its tenant.
    pub tenant: Uuid,
    /// Its name.
    pub name: String,
    /// Its kind, as `subscriptionPolicies.quotaId`.
    pub quota_id: String,
    /// `Enabled`, `Warned`, `PastDue`, `Disabled`, `Expired` or `Deleted`.
    #[serde(default = "enabled")]
    pub state: String,
    /// The partner that a cloud solution provider's subscription resolves to. Azure shows it to nobody.
    pub partner: Option<String>,
    /// Whether Microsoft has approved its registrations for multi-tenancy.
    #[serde(default)]
    pub multi_tenant: bool,
    /// Registered providers, lower case.
    pub providers: BTreeSet<String>,
}

/// A resource group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Group {
    /// Its name, as first written.
    pub name: String,
    /// Its location.
    pub location: String,
    /// Its tags.
    pub tags: Value,
}

/// A registration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registration {
    /// The subscription.
    pub subscription: Uuid,
    /// The group's name.
    pub group: String,
    /// The registration's name.
    pub name: String,
    /// The token's contents.
    pub token: token::Token,
    /// The version.
    pub etag: String,
    /// Its tags.
    pub tags: Value,
    /// When it was last written.
    pub written: Timestamp,
}

/// A lock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lock {
    /// The scope that it is on.
    pub scope: String,
    /// Its name.
    pub name: String,
    /// `CanNotDelete` or `ReadOnly`.
    pub level: String,
    /// Its notes.
    pub notes: Option<String>,
}

/// Locations that every subscription has: name and display name.
pub const LOCATIONS: &[(&str, &str)] = &[
    ("eastus", "East US"),
    ("westeurope", "West Europe"),
    ("westcentralus", "West Central US"),
    ("northeurope", "North Europe"),
    ("westus2", "West US 2"),
];

/// For whom tokens for uploading usage are.
pub const USAGE_RESOURCE: &str = "https://usage.azurestack.lab.invalid";

/// The state of Resource Manager.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Arm {
    /// Subscriptions.
    pub subscriptions: BTreeMap<Uuid, Subscription>,
    /// Groups by subscription and lower-case name.
    #[serde(with = "super::pairs")]
    pub groups: BTreeMap<(Uuid, String), Group>,
    /// Registrations.
    pub registrations: Vec<Registration>,
    /// Locks.
    pub locks: Vec<Lock>,
    /// Role definitions.
    pub roles: Vec<RoleDefinition>,
    /// Role assignments.
    pub assignments: Vec<Assignment>,
    /// Moves that have not ended.
    pub moves: Vec<super::moves::Move>,
    /// Customers of cloud solution providers.
    #[serde(default)]
    pub customers: Vec<super::customers::Customer>,
    /// What happened to registrations, oldest first.
    #[serde(default)]
    pub history: Vec<super::history::Event>,
}

/// The scope of a group.
#[must_use]
pub fn group_scope(subscription: Uuid, group: &str) -> String {
    format!("/subscriptions/{subscription}/resourceGroups/{group}")
}

/// The scope of a registration.
#[must_use]
pub fn registration_scope(subscription: Uuid, group: &str, name: &str) -> String {
    format!("{}/providers/Microsoft.AzureStack/registrations/{name}", group_scope(subscription, group))
}

impl Registration {
    /// The resource id.
    #[must_use]
    pub fn id(&self) -> String {
        registration_scope(self.subscription, &self.group, &self.name)
    }

    /// Who wrote something below the registration and when, as 2020-06-01-preview shows it.
    #[must_use]
    pub fn system_data(&self, written: Timestamp) -> Value {
        let by = self.token.object_id.unwrap_or_default();
        json!({
            "createdBy": by, "createdByType": "ManagedIdentity", "createdAt": written,
            "lastModifiedBy": by, "lastModifiedByType": "ManagedIdentity", "lastModifiedAt": written,
        })
    }

    /// The resource's body. The token is never echoed.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = json!({
            "id": self.id(),
            "name": self.name,
            "type": "Microsoft.AzureStack/registrations",
            "location": "global",
            "etag": self.etag,
            "properties": {"cloudId": self.token.cloud_id, "billingModel": self.token.billing_model},
        });
        if let Some(id) = self.token.object_id {
            body["properties"]["objectId"] = json!(id);
        }
        if !self.tags.is_null() {
            body["tags"] = self.tags.clone();
        }
        body
    }

    /// When it ends: a capacity registration a year after it was last written.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        let capacity = self.token.billing_model == "Capacity";
        capacity.then(|| self.written + SignedDuration::from_hours(365 * 24))
    }

    /// The claims of the activation key: who, for which stamp, until when, and where the stamp finds what.
    #[must_use]
    pub fn activation_claims(&self, arm_endpoint: &str, usage_endpoint: &str) -> Value {
        let expires = self.expires().map_or_else(|| NEVER.to_owned(), |end| end.to_string());
        let member = |name: &str| self.token.members.get(name).cloned().unwrap_or(Value::Null);
        json!({
            "subscriptionId": self.subscription,
            "resourceGroupName": self.group,
            "registrationName": self.name,
            "certPinningRootSubjects": ["CN=azsreg lab authority, O=azsreg lab"],
            "certPinningIntermediateThumbprints": [],
            "usageEndpoint": usage_endpoint,
            "marketplaceEndpoint": arm_endpoint,
            "usageResourceUri": USAGE_RESOURCE,
            "marketplaceResourceUri": "https://marketplace.azurestack.lab.invalid",
            "expires": expires,
            "cloudId": self.token.cloud_id,
            "objectId": self.token.object_id,
            "billingModel": self.token.billing_model,
            "hardwareInfo": member("hardwareInfo"),
            "usageReportingEnabled": member("usageReportingEnabled").as_bool().unwrap_or(false),
            "marketplaceSyndicationEnabled": member("marketplaceSyndicationEnabled").as_bool().unwrap_or(false),
            "issuer": "azsreg lab",
            "version": "1.0",
        })
    }
}

impl Lock {
    /// The resource id.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/providers/Microsoft.Authorization/locks/{}", self.scope, self.name)
    }

    /// The resource's body.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = json!({
            "id": self.id(), "name": self.name, "type": "Microsoft.Authorization/locks",
            "properties": {"level": self.level},
        });
        if let Some(notes) = &self.notes {
            body["properties"]["notes"] = json!(notes);
        }
        body
    }
}

impl Arm {
    /// Refuses what the caller's roles don't hold.
    ///
    /// # Errors
    /// 403 AuthorizationFailed, naming client, object id, action and scope.
    pub fn authorize(&self, directory: &Directory, caller: Uuid, action: &str, scope: &str) -> Answer<()> {
        self.authorize_for(directory, caller, action, scope, Delegated::default())
    }

    /// Likewise, for a role assignment that conditions may look at.
    ///
    /// # Errors
    /// 403 AuthorizationFailed.
    pub fn authorize_for(
        &self,
        directory: &Directory,
        caller: Uuid,
        action: &str,
        scope: &str,
        delegated: Delegated<'_>,
    ) -> Answer<()> {
        let allowed = self
            .assignments
            .iter()
            .filter(|a| a.principal == caller && a.covers(scope) && a.permits(action, delegated))
            .any(|a| self.roles.iter().any(|role| role.id == a.role && role.allows(action)));
        if allowed {
            return Ok(());
        }
        let client = directory.name_of(caller);
        Err(ArmError::new(
            403,
            "AuthorizationFailed",
            format!(
                "The client '{client}' with object id '{caller}' does not have authorization to perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials."
            ),
        ))
    }

    /// Whether the caller has any role on the subscription or below it.
    #[must_use]
    pub fn can_see(&self, caller: Uuid, subscription: Uuid) -> bool {
        let scope = format!("/subscriptions/{subscription}");
        self.assignments.iter().any(|a| a.principal == caller && (a.covers(&scope) || is_within(&a.scope, &scope)))
    }

    /// A subscription. Asked for `alone`, it is only there for who can see it; below it, each action is checked.
    ///
    /// # Errors
    /// 404 SubscriptionNotFound.
    pub fn subscription(&self, caller: Uuid, id: &str, alone: bool) -> Answer<&Subscription> {
        let found = id.parse().ok().and_then(|id| self.subscriptions.get(&id));
        found.filter(|subscription| !alone || self.can_see(caller, subscription.id)).ok_or_else(|| {
            ArmError::new(404, "SubscriptionNotFound", format!("The subscription '{id}' could not be found."))
        })
    }

    /// What the caller may do at a scope.
    #[must_use]
    pub fn permissions(&self, caller: Uuid, scope: &str) -> Value {
        let value: Vec<Value> = self
            .assignments
            .iter()
            .filter(|a| a.principal == caller && a.covers(scope))
            .filter_map(|a| self.roles.iter().find(|role| role.id == a.role))
            .map(|role| json!({"actions": role.actions, "notActions": role.not_actions, "dataActions": [], "notDataActions": []}))
            .collect();
        json!({ "value": value })
    }

    /// The group.
    ///
    /// # Errors
    /// 404 ResourceGroupNotFound.
    pub fn group(&self, subscription: Uuid, name: &str) -> Answer<&Group> {
        self.groups.get(&(subscription, name.to_ascii_lowercase())).ok_or_else(|| {
            ArmError::new(404, "ResourceGroupNotFound", format!("Resource group '{name}' could not be found."))
        })
    }

    /// Makes a group or updates its tags; true if it is new.
    ///
    /// # Errors
    /// 400 LocationRequired, LocationNotAvailableForResourceGroup, or 409 InvalidResourceGroupLocation, ScopeLocked.
    pub fn put_group(&mut self, subscription: Uuid, name: &str, body: &Value) -> Answer<(bool, &Group)> {
        let Some(location) = body.get("location").and_then(Value::as_str).filter(|l| !l.is_empty()) else {
            return Err(ArmError::new(
                400,
                "LocationRequired",
                "The location property is required for this definition.",
            ));
        };
        let plain: String = location.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
        if !LOCATIONS.iter().any(|(known, _)| *known == plain) {
            let list = LOCATIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
            return Err(ArmError::new(
                400,
                "LocationNotAvailableForResourceGroup",
                format!(
                    "The provided location '{location}' is not available for resource group. List of available regions is '{list}'."
                ),
            ));
        }
        if !name.chars().all(|c| c.is_alphanumeric() || "-_.()".contains(c)) || name.len() > 90 || name.ends_with('.') {
            return Err(ArmError::new(
                400,
                "InvalidResourceGroup",
                format!("The provided resource group name '{name}' has these invalid characters or is too long."),
            ));
        }
        self.writable(&group_scope(subscription, name))?;
        let key = (subscription, name.to_ascii_lowercase());
        let tags = body.get("tags").cloned().unwrap_or(Value::Null);
        if let Some(known) = self.groups.get(&key)
            && known.location != plain
        {
            return Err(ArmError::new(
                409,
                "InvalidResourceGroupLocation",
                format!(
                    "Invalid resource group location '{plain}'. The Resource group already exists in location '{}'.",
                    known.location
                ),
            ));
        }
        let new = !self.groups.contains_key(&key);
        let made = Group { name: name.to_owned(), location: plain, tags: Value::Null };
        let group = self.groups.entry(key).or_insert(made);
        group.tags = tags;
        Ok((new, group))
    }

    /// Deletes a group and all that is in it.
    ///
    /// # Errors
    /// 404, or 409 ScopeLocked for a lock on it, above it or on anything in it.
    pub fn delete_group(&mut self, subscription: Uuid, name: &str) -> Answer<()> {
        let group = self.group(subscription, name)?.name.clone();
        let scope = group_scope(subscription, &group);
        self.deletable_whole(&scope)?;
        self.registrations.retain(|r| !is_within(&r.id(), &scope));
        self.customers.retain(|customer| !is_within(&customer.registration, &scope));
        self.assignments.retain(|a| !is_within(&a.scope, &scope));
        self.groups.remove(&(subscription, name.to_ascii_lowercase()));
        Ok(())
    }

    /// The registration with a resource id.
    #[must_use]
    pub fn with_id(&self, id: &str) -> Option<&Registration> {
        // The name first: each upload of usage asks, and to write out every id takes longer than the rest of it.
        let name = id.rsplit('/').next()?;
        self.registrations.iter().find(|r| r.name.eq_ignore_ascii_case(name) && r.id().eq_ignore_ascii_case(id))
    }

    pub(super) fn at(&self, subscription: Uuid, group: &str, name: &str) -> Option<usize> {
        self.registrations.iter().position(|r| {
            r.subscription == subscription && r.group.eq_ignore_ascii_case(group) && r.name.eq_ignore_ascii_case(name)
        })
    }

    /// The registration.
    ///
    /// # Errors
    /// 404 ResourceGroupNotFound or ResourceNotFound.
    pub fn registration(&self, subscription: Uuid, group: &str, name: &str) -> Answer<&Registration> {
        self.group(subscription, group)?;
        self.at(subscription, group, name).map(|at| &self.registrations[at]).ok_or_else(|| {
            ArmError::new(404, "ResourceNotFound", format!("The Resource 'Microsoft.AzureStack/registrations/{name}' under resource group '{group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"))
        })
    }

    /// Makes or updates a registration from a token; true if it is new.
    ///
    /// # Errors
    /// 404, 409 MissingSubscriptionRegistration, ScopeLocked, 400 InvalidRegistrationToken, CloudIdUpdateNotAllowed, or a cloud
    /// id that is registered already.
    pub fn put_registration(
        &mut self,
        draw: &mut Draw,
        now: Timestamp,
        subscription: Uuid,
        group: &str,
        name: &str,
        body: &Value,
    ) -> Answer<(bool, &Registration)> {
        self.provider_ready(subscription)?;
        let group = self.group(subscription, group)?.name.clone();
        let scope = self.scope_of(subscription, &group, name);
        self.writable(&scope)?;
        let location = body.get("location").and_then(Value::as_str).unwrap_or_default();
        if location.is_empty() {
            return Err(ArmError::new(
                400,
                "LocationRequired",
                "The location property is required for this definition.",
            ));
        }
        if !location.eq_ignore_ascii_case("global") {
            return Err(ArmError::new(
                400,
                "LocationNotAvailableForResourceType",
                format!(
                    "The provided location '{location}' is not available for resource type 'Microsoft.AzureStack/registrations'. List of available regions for the resource type is 'global'."
                ),
            ));
        }
        let text = body.pointer("/properties/registrationToken").and_then(Value::as_str).unwrap_or_default();
        let token = token::decode(text)
            .ok_or_else(|| ArmError::new(400, "InvalidRegistrationToken", "The registration token is malformed."))?;
        let existing = self.at(subscription, &group, name);
        if let Some(at) = existing
            && self.registrations[at].token.cloud_id != token.cloud_id
        {
            return Err(ArmError::new(
                409,
                "CloudIdUpdateNotAllowed",
                format!(
                    "The registration '{name}' is already associated with another Cloud identifier. Changing cloud identifiers is not allowed."
                ),
            ));
        }
        let over = |registration: &Registration| registration.expires().is_some_and(|end| end <= now);
        if existing.is_some_and(|at| over(&self.registrations[at])) {
            return Err(ArmError::new(
                409,
                "RegistrationExpired",
                format!("The registration '{name}' has expired. Delete it, or register under another name."),
            ));
        }
        // An expired registration stands in the way of nobody but its own name.
        let elsewhere = self
            .registrations
            .iter()
            .enumerate()
            .any(|(at, other)| other.token.cloud_id == token.cloud_id && Some(at) != existing && !over(other));
        if elsewhere {
            return Err(ArmError::new(
                409,
                "CloudIdAlreadyRegistered",
                format!(
                    "Cloud identifier [{}] is already registered. Reusing cloud identifiers is not allowed.",
                    token.cloud_id
                ),
            ));
        }
        let etag = format!("{}-0000-0000-0000-{:08x}0000", draw.hex(8), now.as_second());
        let tags = body.get("tags").cloned().unwrap_or(Value::Null);
        match existing {
            Some(at) => {
                let registration = &mut self.registrations[at];
                registration.token = token;
                registration.etag = etag;
                registration.written = now;
                if !tags.is_null() {
                    registration.tags = tags;
                }
                Ok((false, registration))
            }
            None => {
                self.registrations.push(Registration {
                    subscription,
                    group,
                    name: name.to_owned(),
                    token,
                    etag,
                    tags,
                    written: now,
                });
                Ok((true, &self.registrations[self.registrations.len() - 1]))
            }
        }
    }

    /// The scope of a registration, as the world writes it where there is one.
    fn scope_of(&self, subscription: Uuid, group: &str, name: &str) -> String {
        let known = self.at(subscription, group, name).map(|at| self.registrations[at].id());
        known.unwrap_or_else(|| registration_scope(subscription, group, name))
    }

    /// The claims of the activation key that is handed out for a registration.
    ///
    /// # Errors
    /// 404, or 409 ScopeLocked: it is asked for by POST, which a ReadOnly lock refuses.
    pub fn hand_out_key(
        &self,
        (subscription, group, name): (Uuid, &str, &str),
        arm_endpoint: &str,
        usage_endpoint: &str,
    ) -> Answer<Value> {
        self.writable(&self.scope_of(subscription, group, name))?;
        Ok(self.registration(subscription, group, name)?.activation_claims(arm_endpoint, usage_endpoint))
    }

    /// Deletes a registration; false if there was none. A lock is looked at before that is.
    ///
    /// # Errors
    /// 404 for the group, 409 ScopeLocked for a lock on it, above it or on anything below it.
    pub fn delete_registration(&mut self, subscription: Uuid, group: &str, name: &str) -> Answer<bool> {
        let group = self.group(subscription, group)?.name.clone();
        let scope = self.scope_of(subscription, &group, name);
        self.deletable_whole(&scope)?;
        let Some(at) = self.at(subscription, &group, name) else { return Ok(false) };
        self.registrations.remove(at);
        self.assignments.retain(|a| !is_within(&a.scope, &scope));
        self.customers.retain(|customer| !customer.registration.eq_ignore_ascii_case(&scope));
        Ok(true)
    }

    /// Whether the subscription has registered the provider.
    ///
    /// # Errors
    /// 409 MissingSubscriptionRegistration.
    pub fn provider_ready(&self, subscription: Uuid) -> Answer<()> {
        let known = self.subscriptions.get(&subscription);
        if known.is_some_and(|s| s.providers.contains("microsoft.azurestack")) {
            return Ok(());
        }
        let message = "The subscription is not registered to use namespace 'Microsoft.AzureStack'. See https://aka.ms/rps-not-found for how to register subscriptions.";
        Err(ArmError {
            details: Some(
                json!([{"code": "MissingSubscriptionRegistration", "target": "Microsoft.AzureStack", "message": message}]),
            ),
            ..ArmError::new(409, "MissingSubscriptionRegistration", message)
        })
    }
}
