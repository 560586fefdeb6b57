//! The operations' ports out of the lab's world, without a wire. Every call may fail, lose its answer, or be the last
//! thing that a process does.

use std::cell::RefCell;
use std::time::Duration;

use azsreg_lab::Keys;
use azsreg_lab::world::arm::{ArmError, LOCATIONS, group_scope};
use azsreg_lab::world::directory::AZURE_POWERSHELL;
use azsreg_lab::world::stamp::{Bridge, CmdletError, Effect};
use azsreg_model::{
    ActionRun, ActionState, ActivationKey, ActivationRecord, CustomRole, Expiration, IdentitySystem, LOCK_NAME, Lock,
    LockLevel, Permission, Problem, REGISTRATION_OWNER_ROLE_ID, Registration, RegistrationId, RegistrationToken,
    RoleAssignment, StampInformation, code, lock_notes,
};
use azsreg_operations::ports::{
    Action, Azure, Class, Clock, DirectoryRights, PortError, Provider, Records, Stamp, Subscription, TokenRequest,
};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::World;
use crate::chaos::{Chaos, VirtualClock};

/// The ports of a [`World`].
pub(crate) struct InProcess<'a> {
    pub(crate) world: &'a RefCell<World>,
    pub(crate) keys: &'a Keys,
    pub(crate) clock: &'a VirtualClock,
    pub(crate) chaos: &'a Chaos,
    /// What may happen before a call of this name.
    pub(crate) between: Option<&'a dyn Fn(&str)>,
}

fn passing(entry: &'static azsreg_model::Code, what: &str) -> PortError {
    PortError::new(Class::Transient, Problem::new(entry, format!("{what}: the connection broke")))
}

fn arm(error: ArmError) -> PortError {
    if error.code == "ResourcesBeingMoved" {
        return PortError::new(Class::Busy, Problem::new(&code::AZURE_FAULT, error.message));
    }
    if error.code == "ScopeLocked" {
        let problem = Problem::new(&code::SCOPE_LOCKED, "a lock forbids the change");
        return PortError::permanent(problem.detail(format!("{}: {}", error.code, error.message)));
    }
    PortError::permanent(Problem::new(&code::AZURE_REFUSED, format!("{}: {}", error.code, error.message)))
}

/// What the stamp says where it has no activation to remove.
const NOT_ACTIVATED: &str = "NotActivated: the stamp has no activation.";

fn cmdlet(error: CmdletError) -> PortError {
    if error.message == NOT_ACTIVATED {
        return PortError::permanent(Problem::new(&code::STAMP_NOT_ACTIVATED, error.message));
    }
    if error.message.contains("another action is in progress") {
        return PortError::new(Class::Busy, Problem::new(&code::STAMP_BUSY, error.message));
    }
    PortError::permanent(Problem::new(&code::STAMP_ACTION_FAILED, error.message))
}

impl InProcess<'_> {
    /// One call to Azure: it may fail before its effect, lose its answer after it, or be the last.
    async fn azure<T>(&self, what: &str, call: impl FnOnce(&mut World) -> Result<T, ArmError>) -> Result<T, PortError> {
        self.meanwhile(what);
        self.chaos.point().await;
        if self.chaos.fails() {
            return Err(passing(&code::AZURE_FAULT, what));
        }
        self.spend(40);
        if let Some(odd) = self.chaos.odd_answer(what) {
            return Err(odd);
        }
        // A move that a dead client began goes on, whoever asks.
        let now = self.clock.now();
        self.world.borrow_mut().arm.settle_moves(now);
        let result = call(&mut self.world.borrow_mut());
        self.chaos.point().await;
        if self.chaos.fails() {
            return Err(passing(&code::AZURE_UNREACHABLE, what));
        }
        result.map_err(arm)
    }

    /// One command to the stamp, likewise.
    async fn pep<T>(
        &self,
        what: &str,
        call: impl FnOnce(&mut World, Timestamp) -> Result<T, CmdletError>,
    ) -> Result<T, PortError> {
        self.meanwhile(what);
        self.chaos.point().await;
        if self.chaos.fails() {
            return Err(passing(&code::PEP_DROPPED, what));
        }
        self.spend(200);
        let now = self.clock.now();
        let result = {
            let mut world = self.world.borrow_mut();
            world.stamp.settle(now);
            call(&mut world, now)
        };
        self.chaos.point().await;
        if self.chaos.fails() {
            return Err(passing(&code::PEP_DROPPED, what));
        }
        result.map_err(cmdlet)
    }

    /// The client waits, and may die while it does; the stamp goes on.
    async fn until(&self, ends: Timestamp, name: &str) -> Result<(), PortError> {
        while self.clock.now() < ends {
            self.chaos.point().await;
            if self.chaos.fails() {
                return Err(passing(&code::PEP_DROPPED, name));
            }
            self.clock.sleep(Duration::from_secs(20)).await;
        }
        let now = self.clock.now();
        self.world.borrow_mut().stamp.settle(now);
        self.chaos.point().await;
        Ok(())
    }

    fn meanwhile(&self, what: &str) {
        if let Some(between) = self.between {
            between(what);
        }
    }

    fn spend(&self, milliseconds: i64) {
        self.clock.now.set(self.clock.now.get() + SignedDuration::from_millis(milliseconds));
    }

    fn me(world: &World) -> Uuid {
        world.operator
    }
}

fn registration(body: &Value) -> Option<Registration> {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    Some(Registration {
        id: text("/id")?.parse().ok()?,
        cloud_id: text("/properties/cloudId").and_then(|id| id.parse().ok()),
        object_id: text("/properties/objectId").and_then(|id| id.parse().ok()),
        billing_model: text("/properties/billingModel")?.to_owned(),
        etag: text("/etag").map(str::to_owned),
    })
}

/// A resource that is not there is no failure.
fn found<T>(result: Result<T, ArmError>) -> Result<Option<T>, ArmError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.status == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

impl Azure for InProcess<'_> {
    fn environment(&self) -> &str {
        "CustomCloud"
    }

    fn default_location(&self) -> &str {
        "westcentralus"
    }

    async fn subscriptions(&self) -> Result<Vec<Subscription>, PortError> {
        self.azure("subscriptions", |world| {
            let me = Self::me(world);
            let visible = world.arm.subscriptions.values().filter(|s| world.arm.can_see(me, s.id));
            let shown = |s: &azsreg_lab::world::arm::Subscription| Subscription {
                id: s.id,
                name: s.name.clone(),
                tenant: s.tenant.to_string(),
                quota_id: s.quota_id.clone(),
                state: s.state.clone(),
            };
            Ok(visible.map(shown).collect())
        })
        .await
    }

    async fn locations(&self, _subscription: Uuid) -> Result<Vec<String>, PortError> {
        self.azure("locations", |_| Ok(LOCATIONS.iter().map(|(name, _)| (*name).to_owned()).collect())).await
    }

    async fn permissions(&self, scope: &str) -> Result<Vec<Permission>, PortError> {
        self.azure("permissions", |world| {
            let body = world.arm.permissions(Self::me(world), scope);
            let strings = |value: &Value| {
                value.as_array().into_iter().flatten().filter_map(|s| s.as_str().map(str::to_owned)).collect()
            };
            let list = body["value"].as_array().cloned().unwrap_or_default();
            Ok(list
                .iter()
                .map(|p| Permission { actions: strings(&p["actions"]), not_actions: strings(&p["notActions"]) })
                .collect())
        })
        .await
    }

    async fn provider(&self, subscription: Uuid) -> Result<Provider, PortError> {
        let ready = self.azure("provider", |world| Ok(world.arm.provider_ready(subscription).is_ok())).await?;
        Ok(if ready { Provider::Registered } else { Provider::NotRegistered })
    }

    async fn register_provider(&self, subscription: Uuid) -> Result<(), PortError> {
        self.azure("register the provider", |world| {
            if let Some(known) = world.arm.subscriptions.get_mut(&subscription) {
                known.providers.insert("microsoft.azurestack".into());
            }
            Ok(())
        })
        .await
    }

    async fn resource_group(&self, subscription: Uuid, name: &str) -> Result<Option<String>, PortError> {
        self.azure("resource group", |world| {
            found(world.arm.group(subscription, name).map(|group| group.location.clone()))
        })
        .await
    }

    async fn create_resource_group(&self, subscription: Uuid, name: &str, location: &str) -> Result<(), PortError> {
        self.azure("create the resource group", |world| {
            let me = Self::me(world);
            let scope = group_scope(subscription, name);
            world.arm.authorize(
                &world.directory,
                me,
                "Microsoft.Resources/subscriptions/resourceGroups/write",
                &scope,
            )?;
            world.arm.put_group(subscription, name, &json!({ "location": location })).map(drop)
        })
        .await
    }

    async fn registration(&self, id: &RegistrationId) -> Result<Option<Registration>, PortError> {
        self.azure("registration", |world| {
            let body = found(world.arm.registration(id.subscription, &id.resource_group, &id.name).map(|r| r.body()))?;
            Ok(body.as_ref().and_then(registration))
        })
        .await
    }

    async fn registrations(&self, subscription: Uuid) -> Result<Vec<Registration>, PortError> {
        self.azure("registrations", |world| {
            let all = world.arm.registrations.iter().filter(|r| r.subscription == subscription);
            Ok(all.filter_map(|r| registration(&r.body())).collect())
        })
        .await
    }

    async fn put_registration(
        &self,
        id: &RegistrationId,
        token: &RegistrationToken,
    ) -> Result<Registration, PortError> {
        let now = self.clock.now();
        self.azure("put the registration", |world| {
            let body = json!({"location": "global", "properties": {"registrationToken": token.expose()}});
            let World { arm, draw, .. } = world;
            let made = arm.put_registration(draw, now, id.subscription, &id.resource_group, &id.name, &body)?;
            registration(&made.1.body()).ok_or_else(|| ArmError::new(500, "Trial", "an unreadable registration"))
        })
        .await
    }

    async fn delete_registration(&self, id: &RegistrationId) -> Result<(), PortError> {
        let now = self.clock.now();
        self.azure("delete the registration", |world| {
            world.forgotten(id, now)?;
            found(world.arm.delete_registration(id.subscription, &id.resource_group, &id.name)).map(drop)
        })
        .await
    }

    async fn check_move(&self, id: &RegistrationId, to: &RegistrationId) -> Result<(), PortError> {
        let now = self.clock.now();
        self.azure("validate the move", |world| {
            world.arm.settle_moves(now);
            let from = (id.subscription, id.resource_group.as_str());
            world.arm.validate_move(&[id.to_string()], from, (to.subscription, &to.resource_group))
        })
        .await
    }

    async fn move_registration(&self, id: &RegistrationId, to: &RegistrationId) -> Result<(), PortError> {
        let now = self.clock.now();
        let takes = SignedDuration::from_secs(90);
        let operation = self
            .azure("move the registration", |world| {
                world.arm.settle_moves(now);
                world.forgotten(id, now)?;
                let operation = world.draw.guid();
                let from = (id.subscription, id.resource_group.as_str());
                let into = (to.subscription, to.resource_group.as_str());
                world.arm.begin_move(operation, now, takes, vec![id.to_string()], from, into).map(|()| operation)
            })
            .await?;
        // The client polls, and may die while it does; the move goes on.
        loop {
            self.clock.sleep(Duration::from_secs(20)).await;
            let now = self.clock.now();
            let going = self
                .azure("poll the move", |world| {
                    world.arm.settle_moves(now);
                    Ok(world.arm.is_moving(operation))
                })
                .await?;
            if !going {
                return Ok(());
            }
        }
    }

    async fn locks(&self, id: &RegistrationId) -> Result<Vec<Lock>, PortError> {
        self.azure("locks", |world| {
            let scope = id.to_string();
            let here = world.arm.locks.iter().filter(|lock| lock.scope.eq_ignore_ascii_case(&scope));
            let lock = |name: &str| Lock {
                name: name.to_owned(),
                level: LockLevel::CanNotDelete,
                scope: id.to_string(),
                inherited: false,
            };
            Ok(here.map(|found| lock(&found.name)).collect())
        })
        .await
    }

    async fn delete_lock(&self, id: &RegistrationId, name: &str) -> Result<(), PortError> {
        let now = self.clock.now();
        self.azure("delete the lock", |world| {
            if let Some(at) = world.arm.lock_at(&id.to_string(), name) {
                world.arm.locks.remove(at);
                world.heeded_until = world.heeds_locks_for.map(|so_long| now + so_long);
            }
            Ok(())
        })
        .await
    }

    async fn delete_role_assignment(&self, id: &RegistrationId, name: &str) -> Result<(), PortError> {
        let now = self.clock.now();
        self.azure("delete the role assignment", |world| {
            world.forgotten(id, now)?;
            world.arm.delete_assignment(&id.to_string(), name).map(drop)
        })
        .await
    }

    async fn principal_exists(&self, principal: Uuid) -> Result<Option<bool>, PortError> {
        self.azure("principal", |world| {
            Ok(Some(world.directory.applications.iter().any(|a| a.principal == Some(principal))))
        })
        .await
    }

    async fn directory_rights(&self, _: Option<Uuid>) -> Result<DirectoryRights, PortError> {
        Ok(DirectoryRights::default())
    }

    async fn custom_role(&self, _: Uuid, _: &str) -> Result<Option<CustomRole>, PortError> {
        Ok(None)
    }

    async fn put_custom_role(&self, _: Uuid, _: Option<Uuid>, _: &CustomRole) -> Result<Uuid, PortError> {
        Err(arm(ArmError::new(404, "Trial", "roles are no part of a trial")))
    }

    async fn assign_custom_role(&self, _: Uuid, _: Uuid, _: Uuid, _: &str) -> Result<(), PortError> {
        Err(arm(ArmError::new(404, "Trial", "roles are no part of a trial")))
    }

    async fn put_lock(&self, id: &RegistrationId) -> Result<(), PortError> {
        self.azure("put the lock", |world| {
            let body = json!({"properties": {"level": "CanNotDelete", "notes": lock_notes(&id.name)}});
            // A resource that is gone has no locks.
            world.arm.registration(id.subscription, &id.resource_group, &id.name)?;
            world.arm.put_lock(&id.to_string(), LOCK_NAME, &body).map(drop)
        })
        .await
    }

    async fn role_assignments(&self, id: &RegistrationId) -> Result<Vec<RoleAssignment>, PortError> {
        self.azure("role assignments", |world| {
            let scope = id.to_string();
            let here = world.arm.assignments.iter().filter(|a| a.scope.eq_ignore_ascii_case(&scope));
            Ok(here
                .map(|a| RoleAssignment { name: a.name.clone(), principal_id: a.principal, role_id: a.role })
                .collect())
        })
        .await
    }

    async fn assign_role(&self, id: &RegistrationId, principal: Uuid) -> Result<(), PortError> {
        let name = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{id}{principal}").as_bytes()).to_string();
        self.azure("assign the role", |world| {
            let role = format!("/providers/Microsoft.Authorization/roleDefinitions/{REGISTRATION_OWNER_ROLE_ID}");
            let body = json!({"properties": {"roleDefinitionId": role, "principalId": principal}});
            match world.arm.put_assignment(&id.to_string(), &name, &body) {
                Err(error) if error.code == "RoleAssignmentExists" => Ok(()),
                other => other.map(drop),
            }
        })
        .await
    }

    async fn activation_key(&self, id: &RegistrationId) -> Result<ActivationKey, PortError> {
        self.azure("activation key", |world| {
            let registration = world.arm.registration(id.subscription, &id.resource_group, &id.name)?;
            let claims = registration.activation_claims("https://arm.lab.invalid", "https://usage.lab.invalid");
            Ok(ActivationKey::new(&self.keys.activation().sign(&claims, false)))
        })
        .await
    }

    async fn bridge_refresh_token(&self) -> Result<SecretString, PortError> {
        self.azure("sign-in", |world| {
            let World { directory, draw, operator, .. } = world;
            let token = directory.issue_refresh_token(draw, *operator);
            token.map(Into::into).ok_or_else(|| ArmError::new(400, "Trial", "no such user"))
        })
        .await
    }
}

impl Stamp for InProcess<'_> {
    async fn information(&self) -> Result<StampInformation, PortError> {
        self.pep("Get-AzureStackStampInformation", |world, _| {
            let stamp = &world.stamp;
            let (a, b, c, d) = stamp.build;
            Ok(StampInformation {
                cloud_id: stamp.cloud_id,
                deployment_id: Some(stamp.deployment_id),
                version: Some(azsreg_model::StampVersion(a, b, c, d)),
                nodes: Some(stamp.options.nodes),
                identity_system: IdentitySystem::Aad,
                tenant_id: Some(stamp.tenant.to_string()),
                tenant_name: Some(stamp.tenant_name.clone()),
                domain: Some(stamp.domain.clone()),
                region: Some(stamp.region.clone()),
                admin_arm_endpoint: None,
                tenant_arm_endpoint: None,
                other: std::collections::BTreeMap::default(),
            })
        })
        .await
    }

    async fn action_run(&self, action: Action) -> Result<ActionRun, PortError> {
        self.pep("Get-ActionStatus", |world, _| {
            let Some(run) = world.stamp.runs.get(action.cmdlet()) else { return Ok(ActionRun::NONE) };
            let state = match &run.result {
                None => ActionState::Running,
                Some(Ok(())) => ActionState::Completed,
                Some(Err(why)) => ActionState::Failed(why.clone()),
            };
            Ok(ActionRun { state, id: Some(run.id.to_string()), started: Some(run.started) })
        })
        .await
    }

    async fn cmdlets(&self) -> Result<Vec<String>, PortError> {
        const OFFERED: &[&str] = &[
            "Get-ActionStatus",
            "New-AzureBridgeServicePrincipal",
            "New-AzureStackActivation",
            "New-RegistrationToken",
            "Remove-AzureStackActivation",
            "Set-RegistrationKeyPair",
        ];
        self.pep("Get-Command", |_, _| Ok(OFFERED.iter().map(|name| (*name).to_owned()).collect())).await
    }

    async fn set_registration_key_pair(&self) -> Result<(), PortError> {
        self.pep("Set-RegistrationKeyPair", |world, now| {
            let World { stamp, draw, .. } = world;
            stamp.begin(draw, now, "Set-RegistrationKeyPair", None, Effect::None)?;
            stamp.key_pair = true;
            stamp.end("Set-RegistrationKeyPair", Ok(()));
            Ok(())
        })
        .await
    }

    async fn new_bridge_service_principal(
        &self,
        _environment: &str,
        tenant: &str,
        refresh_token: &SecretString,
    ) -> Result<Uuid, PortError> {
        const NAME: &str = "New-AzureBridgeServicePrincipal";
        self.pep(NAME, |world, now| {
            let World { stamp, draw, directory, operator, .. } = world;
            stamp.begin(draw, now, NAME, None, Effect::None)?;
            let uri = format!("https://azurebridge.azurestack.lab.invalid/{}", stamp.cloud_id);
            let scope = format!("{}/.default", directory.graph_audience);
            let home = stamp.tenant;
            let made = directory
                .by_refresh_token(draw, tenant, AZURE_POWERSHELL, refresh_token.expose_secret(), &scope)
                .map_err(|error| error.message)
                .and_then(|_| {
                    let known = directory.applications.iter().find(|a| a.uris.contains(&uri)).map(|a| a.app_id);
                    let app_id = match known {
                        Some(app_id) => app_id,
                        None => {
                            directory
                                .create_application(draw, home, *operator, "bridge", vec![uri])
                                .map_err(|e| e.message)?
                                .app_id
                        }
                    };
                    match directory.application(app_id).and_then(|a| a.principal) {
                        Some(principal) => Ok((app_id, principal)),
                        None => Ok((app_id, directory.create_principal(draw, home, app_id).map_err(|e| e.message)?)),
                    }
                });
            match made {
                Ok((app_id, object_id)) => {
                    stamp.bridge = Some(Bridge { object_id, app_id, tenant: tenant.to_owned(), secret: String::new() });
                    stamp.end(NAME, Ok(()));
                    Ok(object_id)
                }
                Err(why) => {
                    stamp.end(NAME, Err(why.clone()));
                    Err(CmdletError::failed(why))
                }
            }
        })
        .await
    }

    async fn new_registration_token(&self, request: &TokenRequest) -> Result<RegistrationToken, PortError> {
        self.pep("New-RegistrationToken", |world, _| {
            let asked = azsreg_lab::world::stamp::TokenRequest {
                billing_model: request.billing_model.wire().into(),
                agreement_number: request.agreement_number.clone(),
                ms_asset_tag: request.ms_asset_tag.clone(),
                marketplace: request.marketplace,
                usage: request.usage_reporting,
                version: request.version.map(|version| version.to_string()),
            };
            Ok(RegistrationToken::new(&world.stamp.registration_token(&asked)?))
        })
        .await
    }

    async fn remove_activation(&self) -> Result<(), PortError> {
        const NAME: &str = "Remove-AzureStackActivation";
        let ends = self
            .pep(NAME, |world, now| {
                let World { stamp, draw, .. } = world;
                let takes = stamp.options.activation;
                if stamp.activation.is_none() && stamp.running().is_none() {
                    return Err(CmdletError::failed(NOT_ACTIVATED));
                }
                stamp.begin(draw, now, NAME, Some(takes), Effect::Deactivate)?;
                Ok(now + takes)
            })
            .await?;
        self.until(ends, NAME).await
    }

    async fn save_hci_license(&self, _: &SecretString) -> Result<(), PortError> {
        Err(cmdlet(CmdletError::failed("licences are no part of a trial")))
    }

    async fn new_activation(&self, key: &ActivationKey) -> Result<(), PortError> {
        const NAME: &str = "New-AzureStackActivation";
        let ends = self
            .pep(NAME, |world, now| {
                let claims = self
                    .keys
                    .verify_activation(key.expose())
                    .ok_or_else(|| CmdletError::failed("The activation key's signature could not be verified."))?;
                let World { stamp, draw, .. } = world;
                let activation = stamp.activation_of(&claims, now)?;
                let takes = stamp.options.activation;
                stamp.begin(draw, now, NAME, Some(takes), Effect::Activate(Box::new(activation)))?;
                Ok(now + takes)
            })
            .await?;
        self.until(ends, NAME).await
    }
}

impl Records for InProcess<'_> {
    async fn activation(&self, _stamp: &StampInformation) -> Result<Option<ActivationRecord>, PortError> {
        let now = self.clock.now();
        self.azure("activation record", |world| {
            world.stamp.settle(now);
            let Some(activation) = &world.stamp.activation else { return Ok(None) };
            let registration =
                activation.registration.parse().map_err(|_| ArmError::new(500, "Trial", "an unreadable record"))?;
            Ok(Some(ActivationRecord {
                registration,
                provisioning_state: "Succeeded".into(),
                expiration: Expiration::parse(&activation.expiration),
                marketplace: Some(activation.marketplace),
                usage_reporting: Some(activation.usage),
            }))
        })
        .await
    }

    async fn downloaded(&self, _stamp: &StampInformation) -> Result<Vec<String>, PortError> {
        self.azure("downloaded products", |world| {
            Ok(world.stamp.downloaded.iter().map(|item| item.name.clone()).collect())
        })
        .await
    }
}
