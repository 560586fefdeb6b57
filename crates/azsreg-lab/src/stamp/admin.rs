//! The stamp's admin Resource Manager: metadata, the default provider subscription, the activation record; what lies below
//! is `market`'s and `resources`'.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;

use crate::azure::{self, Refused};
use crate::http::{self, Read, Reply, header, pairs, value};
use crate::lab::{StampState, State};
use crate::world::arm::ArmError;

pub(crate) async fn handle(state: &Arc<State>, stamp: &Arc<StampState>, request: &Read) -> Reply {
    let segments = http::segments(request.uri().path());
    if segments.first().is_some_and(|first| first.eq_ignore_ascii_case("adfs")) {
        return super::adfs::handle(state, stamp, request, &segments[1..]);
    }
    let mut reply = match route(state, stamp, request).await {
        Ok(reply) => reply,
        Err(error) => http::json(error.status, &error.body()),
    };
    let id = uuid::Uuid::new_v4().to_string();
    header(&mut reply, "x-ms-request-id", &id);
    header(&mut reply, "x-ms-correlation-request-id", &id);
    header(&mut reply, "x-ms-ratelimit-remaining-subscription-reads", "14799");
    reply
}

/// The bridge's provider as the stamp's Resource Manager describes it.
fn bridge_provider(subscription: uuid::Uuid) -> serde_json::Value {
    let kind = |name: &str| json!({"resourceType": name, "locations": ["local"], "apiVersions": ["2016-01-01"]});
    let kinds = ["activations", "activations/products", "activations/downloadedProducts"].map(kind);
    json!({
        "id": format!("/subscriptions/{subscription}/providers/Microsoft.AzureBridge.Admin"),
        "namespace": "Microsoft.AzureBridge.Admin", "registrationState": "Registered",
        "resourceTypes": kinds,
    })
}

async fn route(state: &Arc<State>, stamp: &Arc<StampState>, request: &Read) -> Result<Reply, ArmError> {
    let segments = http::segments(request.uri().path());
    let parts: Vec<String> = segments.iter().map(|s| s.to_ascii_lowercase()).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let query = pairs(request.uri().query().unwrap_or_default());
    let commerce = parts.contains(&"microsoft.commerce.admin");
    if value(&query, "api-version").is_none_or(str::is_empty) && commerce {
        return Err(super::commerce::no_version());
    }
    if value(&query, "api-version").is_none_or(str::is_empty) {
        return Err(ArmError::new(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        ));
    }
    let audience = stamp.audience();
    if parts == ["metadata", "endpoints"] {
        let (tenant, adfs) = {
            let world = stamp.world();
            (world.tenant, world.options.identity == "adfs")
        };
        let login = if adfs {
            format!("{}/adfs", stamp.urls().admin_arm)
        } else {
            format!("{}/{tenant}/", state.urls().authority)
        };
        let body = json!({
            "galleryEndpoint": stamp.urls().admin_arm, "graphEndpoint": state.urls().graph, "portalEndpoint": stamp.urls().admin_arm,
            "authentication": {"loginEndpoint": login, "audiences": [audience]},
        });
        return Ok(http::json(200, &body));
    }
    let caller = azure::caller(state, request, &[&audience]).map_err(|why| match why {
        Refused::Missing => {
            ArmError::new(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        }
        Refused::Expired => ArmError::new(
            401,
            "ExpiredAuthenticationToken",
            "The access token expiry UTC time is earlier than current UTC time.",
        ),
        Refused::Invalid(message) => ArmError::new(401, "InvalidAuthenticationToken", message),
    })?;
    let operator = crate::lab::lock(&stamp.operators).contains(&caller.object_id);
    let (provider, tenant, record) = {
        let mut world = stamp.world();
        world.settle(state.now());
        (world.provider_subscription, world.tenant, world.activation_body())
    };
    let reads = request.method() == "GET";
    let ["subscriptions", ref rest @ ..] = parts[..] else {
        return Err(ArmError::new(404, "NotFound", "The lab's stamp does not know this route."));
    };
    if rest.is_empty() {
        let mine = operator.then(|| {
            json!({"id": format!("/subscriptions/{provider}"), "subscriptionId": provider, "displayName": "Default Provider Subscription", "state": "Enabled", "tenantId": tenant})
        });
        return Ok(http::json(200, &json!({"value": mine.into_iter().collect::<Vec<_>>()})));
    }
    if commerce && rest[0] == "providers" {
        return Err(super::commerce::no_subscription());
    }
    if !operator || rest[0] != provider.to_string() {
        let message = format!("The subscription '{}' could not be found.", rest[0]);
        return Err(ArmError::new(404, "SubscriptionNotFound", message));
    }
    match rest[1..] {
        ["providers", "microsoft.azurebridge.admin"] if reads => Ok(http::json(200, &bridge_provider(provider))),
        ["providers", "microsoft.azurebridge.admin", "locations", _, "operationresults", id] if reads => {
            super::market::operation(stamp, request, id)
        }
        [
            "resourcegroups",
            "azurestack-activation",
            "providers",
            "microsoft.azurebridge.admin",
            "activations",
            ref below @ ..,
        ] => {
            let missing = || {
                ArmError::new(
                    404,
                    "ResourceNotFound",
                    "The Resource 'Microsoft.AzureBridge.Admin/activations/default' under resource group 'azurestack-activation' was not found.",
                )
            };
            match (below, record) {
                // The record is the privileged endpoint's to write: a PUT changes nothing of one that is there.
                (["default"], Some(record)) if request.method() == "PUT" => Ok(http::json(200, &record)),
                (["default"], None) if request.method() == "PUT" => {
                    let message = "The activation is written by New-AzureStackActivation on the privileged endpoint.";
                    Err(ArmError::new(409, "ActivationKeyRequired", message))
                }
                (["default"], record) if request.method() == "DELETE" => {
                    let mut world = stamp.world();
                    if let Some(run) = world.running() {
                        let message =
                            format!("Cannot invoke action plan because another action is in progress: {}", run.id);
                        return Err(ArmError::new(409, "Conflict", message));
                    }
                    world.activation = None;
                    world.downloaded.clear();
                    Ok(match record {
                        Some(record) => http::json(200, &json!({"id": record["id"], "name": record["name"]})),
                        None => http::text(StatusCode::NO_CONTENT, ""),
                    })
                }
                ([] | ["default"], _) if !reads => Ok(http::text(StatusCode::METHOD_NOT_ALLOWED, "")),
                ([], record) => Ok(http::json(200, &json!({"value": record.into_iter().collect::<Vec<_>>()}))),
                (["default"], Some(record)) => Ok(http::json(200, &record)),
                (["default", ..], None) => Err(missing()),
                (["default", ..], Some(_)) => super::market::handle(state, stamp, request, &segments[8..]).await,
                _ => Err(missing()),
            }
        }
        [
            "resourcegroups",
            group,
            "providers",
            "microsoft.infrastructureinsights.admin",
            "regionhealths",
            region,
            "alerts",
            ref below @ ..,
        ] if group.strip_prefix("system.") == Some(region) => super::insights::handle(state, stamp, request, below),
        ["providers", "microsoft.commerce.admin", ref below @ ..] => {
            super::commerce::handle(state, stamp, request, below)
        }
        ["resourcegroups", ..] => super::resources::handle(state, stamp, request, &segments[3..], &parts[3..]),
        _ => Err(ArmError::new(404, "NotFound", "The lab's stamp does not know this route.")),
    }
}
