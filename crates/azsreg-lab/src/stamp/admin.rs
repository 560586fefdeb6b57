//! The stamp's admin Resource Manager: metadata, the default provider subscription, the activation record.

use serde_json::{Value, json};

use crate::azure::{self, Refused};
use crate::http::{self, Read, Reply, header, pairs, value};
use crate::lab::{StampState, State};
use crate::world::arm::ArmError;

pub(crate) fn handle(state: &State, stamp: &StampState, request: &Read) -> Reply {
    let segments = http::segments(request.uri().path());
    if segments.first().is_some_and(|first| first.eq_ignore_ascii_case("adfs")) {
        return super::adfs::handle(state, stamp, request, &segments[1..]);
    }
    let mut reply = match route(state, stamp, request) {
        Ok(body) => http::json(200, &body),
        Err(error) => http::json(error.status, &error.body()),
    };
    let id = uuid::Uuid::new_v4().to_string();
    header(&mut reply, "x-ms-request-id", &id);
    header(&mut reply, "x-ms-correlation-request-id", &id);
    header(&mut reply, "x-ms-ratelimit-remaining-subscription-reads", "14799");
    reply
}

fn route(state: &State, stamp: &StampState, request: &Read) -> Result<Value, ArmError> {
    let segments = http::segments(request.uri().path());
    let parts: Vec<String> = segments.iter().map(|s| s.to_ascii_lowercase()).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let query = pairs(request.uri().query().unwrap_or_default());
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
        return Ok(json!({
            "galleryEndpoint": stamp.urls().admin_arm, "graphEndpoint": state.urls().graph, "portalEndpoint": stamp.urls().admin_arm,
            "authentication": {"loginEndpoint": login, "audiences": [audience]},
        }));
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
    if request.method() != "GET" {
        return Err(ArmError::new(405, "MethodNotAllowed", "The lab's stamp only answers GET here."));
    }
    let mut world = stamp.world();
    world.settle(state.now());
    let provider = world.provider_subscription;
    let operator = crate::lab::lock(&stamp.operators).contains(&caller.object_id);
    match parts[..] {
        ["subscriptions"] => {
            let mine = operator.then(|| {
                json!({"id": format!("/subscriptions/{provider}"), "subscriptionId": provider, "displayName": "Default Provider Subscription", "state": "Enabled", "tenantId": world.tenant})
            });
            Ok(json!({"value": mine.into_iter().collect::<Vec<_>>()}))
        }
        [
            "subscriptions",
            id,
            "resourcegroups",
            "azurestack-activation",
            "providers",
            "microsoft.azurebridge.admin",
            "activations",
            ref rest @ ..,
        ] => {
            if !operator || id != provider.to_string() {
                return Err(ArmError::new(
                    404,
                    "SubscriptionNotFound",
                    format!("The subscription '{id}' could not be found."),
                ));
            }
            match (rest, world.activation_body()) {
                ([], body) => Ok(json!({"value": body.into_iter().collect::<Vec<_>>()})),
                (["default", "downloadedproducts"], Some(_)) => {
                    let items = world.downloaded.iter().map(|name| {
                        json!({"id": format!("{}/downloadedProducts/{name}", world.activation_id()), "name": format!("default/{name}"),
                            "type": "Microsoft.AzureBridge.Admin/activations/downloadedProducts",
                            "properties": {"displayName": name, "provisioningState": "Succeeded"}})
                    });
                    Ok(json!({"value": items.collect::<Vec<_>>()}))
                }
                (["default"], Some(body)) => Ok(body),
                (["default", ..], None) => Err(ArmError::new(
                    404,
                    "ResourceNotFound",
                    "The Resource 'Microsoft.AzureBridge.Admin/activations/default' under resource group 'azurestack-activation' was not found.",
                )),
                _ => Err(ArmError::new(
                    404,
                    "InvalidResourceType",
                    "The lab's stamp does not have this resource type yet.",
                )),
            }
        }
        _ => Err(ArmError::new(404, "NotFound", "The lab's stamp does not know this route.")),
    }
}
