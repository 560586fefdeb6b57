//! Subscriptions as the control port makes and changes them: kinds, partners, and the move to another directory.

use serde_json::{Value, json};
use uuid::Uuid;

use super::refused;
use crate::http::{self, Reply};
use crate::lab::{State, lock};
use crate::world::arm::{Subscription, enabled};
use crate::world::directory::{Tenant, User};

/// One more subscription, owned by the operator and by the operators' application.
pub(super) fn add(state: &State, body: &Value) -> Uuid {
    let azure = &mut *state.azure();
    let id = azure.draw.guid();
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let subscription = Subscription {
        id,
        tenant: azure.home,
        name: text("name").unwrap_or_else(|| "azsreg lab more".into()),
        quota_id: text("quota_id").unwrap_or_else(|| "CSP_2015-05-01".into()),
        state: text("state").unwrap_or_else(enabled),
        partner: Some(text("partner").unwrap_or_else(|| "partner-1".into())),
        multi_tenant: body["multi_tenant"].as_bool().unwrap_or(true),
        providers: ["microsoft.azurestack".to_owned()].into(),
    };
    azure.arm.subscriptions.insert(id, subscription);
    own(azure, id);
    id
}

/// The operator, and the lab's own application, own a subscription in its directory.
fn own(azure: &mut crate::lab::AzureWorld, id: Uuid) {
    let scope = format!("/subscriptions/{id}");
    let tenant = azure.arm.subscriptions.get(&id).map(|subscription| subscription.tenant).unwrap_or_default();
    let upn = azure.directory.users.iter().find(|user| user.object_id == azure.operator).map(|user| user.upn.clone());
    let user = azure.directory.users.iter().find(|user| Some(&user.upn) == upn.as_ref() && user.tenant == tenant);
    if let Some(user) = user.map(|user| user.object_id) {
        azure.arm.assign(&mut azure.draw, user, "User", "Owner", &scope);
    }
    let application =
        azure.directory.applications.iter().find(|a| a.name == "azsreg lab operator" && a.tenant == tenant);
    if let Some(principal) = application.and_then(|a| a.principal) {
        azure.arm.assign(&mut azure.draw, principal, "ServicePrincipal", "Owner", &scope);
    }
}

/// Another kind, another state, another partner, or another directory (`{"new_tenant": true}`), where the operator is a guest and owns the
/// subscription again.
pub(super) fn change(state: &State, id: Uuid, body: &Value) -> Reply {
    let mut guard = state.azure();
    let azure = &mut *guard;
    let Some(subscription) = azure.arm.subscriptions.get_mut(&id) else { return refused("no such subscription") };
    if let Some(quota) = body["quota_id"].as_str() {
        subscription.quota_id = quota.to_owned();
    }
    if let Some(state) = body["state"].as_str() {
        subscription.state = state.to_owned();
    }
    if let Some(partner) = body["partner"].as_str() {
        subscription.partner = Some(partner.to_owned());
    }
    if body["new_tenant"].as_bool() != Some(true) {
        return http::json(200, &json!({ "tenant": subscription.tenant }));
    }
    let tenant = azure.draw.guid();
    let domain = format!("other-{}.azsreg.invalid", azure.draw.hex(4));
    azure
        .directory
        .tenants
        .insert(tenant, Tenant { id: tenant, domain, users_may_register_applications: true, policy: None });
    let upn = azure.directory.users.iter().find(|user| user.object_id == azure.operator).map(|user| user.upn.clone());
    let guest = azure.draw.guid();
    azure.directory.users.push(User { object_id: guest, upn: upn.unwrap_or_default(), tenant });
    let known = azure.directory.applications.iter().find(|a| a.name == "azsreg lab operator").cloned();
    if let Some(mut application) = known {
        application.tenant = tenant;
        application.object_id = azure.draw.guid();
        application.principal = Some(azure.draw.guid());
        azure.directory.applications.push(application);
    }
    azure.arm.change_tenant(id, tenant);
    own(azure, id);
    drop(guard);
    for stamp in &state.stamps {
        lock(&stamp.operators).push(guest);
    }
    http::json(200, &json!({ "tenant": tenant }))
}
