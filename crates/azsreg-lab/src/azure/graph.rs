//! A small Graph: applications and service principals, as far as the stamp's bridge and operators' tools need them.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Refused, caller};
use crate::http::{self, Read, Reply, pairs, value};
use crate::lab::State;
use crate::world::directory::Application;
use crate::world::graph::GraphError;

pub(crate) fn handle(state: &State, request: &Read) -> Reply {
    let urls = state.urls();
    let who = match caller(state, request, &[&urls.graph]) {
        Ok(who) => who,
        Err(why) => {
            let message = match why {
                Refused::Missing => "Access token is empty.",
                Refused::Expired => "Lifetime validation failed, the token is expired.",
                Refused::Invalid(message) => message,
            };
            return http::json(401, &json!({"error": {"code": "InvalidAuthenticationToken", "message": message}}));
        }
    };
    let segments = http::segments(request.uri().path());
    let parts: Vec<String> = segments.iter().map(|s| s.to_ascii_lowercase()).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let query = pairs(request.uri().query().unwrap_or_default());
    let filter = value(&query, "$filter").unwrap_or_default();
    let body: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
    let azure = &mut *state.azure();
    let tenant = who.tenant;
    match (request.method().as_str(), &parts[..]) {
        ("GET", ["v1.0", "applications"]) => {
            let found = azure.directory.applications.iter().filter(|a| a.tenant == tenant && selects(filter, a));
            let mut found: Vec<Value> = found.map(application).collect();
            // Only who selects it is shown it.
            if value(&query, "$select").is_some_and(|names| names.contains("authenticationBehaviors")) {
                for one in &mut found {
                    one["authenticationBehaviors"] = json!({"blockAzureADGraphAccess": false});
                }
            }
            http::json(200, &json!({"value": found}))
        }
        ("POST", ["v1.0", "applications"]) => {
            let name = body["displayName"].as_str().unwrap_or("application").to_owned();
            let uris = body["identifierUris"]
                .as_array()
                .map(|uris| uris.iter().filter_map(|uri| uri.as_str().map(str::to_owned)).collect());
            let made = azure.directory.create_application(
                &mut azure.draw,
                tenant,
                who.object_id,
                &name,
                uris.unwrap_or_default(),
            );
            made.map_or_else(|error| refusal(&error), |made| http::json(201, &application(made)))
        }
        ("POST", ["v1.0", "applications", id, "addpassword"]) => {
            let id: Uuid = id.parse().unwrap_or_default();
            match azure.directory.add_password(&mut azure.draw, who.object_id, id) {
                Ok(secret) => http::json(
                    200,
                    &json!({"secretText": secret, "keyId": azure.draw.guid(), "displayName": body["passwordCredential"]["displayName"]}),
                ),
                Err(error) => refusal(&error),
            }
        }
        ("GET", ["v1.0", "serviceprincipals"]) => {
            let found = azure
                .directory
                .applications
                .iter()
                .filter(|a| a.tenant == tenant && a.principal.is_some() && selects(filter, a));
            http::json(200, &json!({"value": found.map(principal).collect::<Vec<_>>()}))
        }
        ("GET", ["v1.0", "serviceprincipals", id]) => {
            let found = azure
                .directory
                .applications
                .iter()
                .find(|a| a.tenant == tenant && a.principal.is_some_and(|known| known.to_string() == *id));
            found.map_or_else(|| missing(id), |a| http::json(200, &principal(a)))
        }
        ("GET", ["v1.0", "applications", id, "owners"]) => {
            let found =
                azure.directory.applications.iter().find(|a| a.tenant == tenant && a.object_id.to_string() == *id);
            let Some(found) = found else { return missing(id) };
            let owners = found.owners.iter().map(|owner| {
                let user = azure.directory.users.iter().find(|user| user.object_id == *owner);
                json!({"id": owner, "userPrincipalName": user.map(|user| user.upn.clone()), "displayName": azure.directory.name_of(*owner)})
            });
            http::json(200, &json!({"value": owners.collect::<Vec<_>>()}))
        }
        ("GET", ["v1.0", "policies", "authorizationpolicy"]) => {
            let allowed = azure.directory.tenants.get(&tenant).is_some_and(|t| t.users_may_register_applications);
            http::json(
                200,
                &json!({"id": "authorizationPolicy", "defaultUserRolePermissions": {"allowedToCreateApps": allowed}}),
            )
        }
        ("GET", ["v1.0", "me", "memberof"]) => http::json(200, &json!({"value": []})),
        ("POST", ["v1.0", "serviceprincipals"]) => {
            let app_id: Uuid = body["appId"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
            match azure.directory.create_principal(&mut azure.draw, tenant, app_id) {
                Ok(_) => {
                    let made = azure.directory.application(app_id).map(principal).unwrap_or_default();
                    http::json(201, &made)
                }
                Err(error) => refusal(&error),
            }
        }
        ("POST", ["v1.0", "directoryobjects", "getbyids"]) => {
            let ids: Vec<&str> =
                body["ids"].as_array().map(|ids| ids.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
            let principals = azure
                .directory
                .applications
                .iter()
                .filter(|a| a.principal.is_some_and(|id| ids.contains(&id.to_string().as_str())));
            let users = azure.directory.users.iter().filter(|u| ids.contains(&u.object_id.to_string().as_str()));
            let mut found: Vec<Value> = principals.map(principal).collect();
            found.extend(users.map(|u| json!({"@odata.type": "#microsoft.graph.user", "id": u.object_id, "userPrincipalName": u.upn, "displayName": u.upn})));
            http::json(200, &json!({ "value": found }))
        }
        ("GET", ["v1.0", "me"]) => match azure.directory.users.iter().find(|u| u.object_id == who.object_id) {
            Some(user) => http::json(200, &json!({"id": user.object_id, "userPrincipalName": user.upn})),
            None => http::json(
                400,
                &json!({"error": {"code": "BadRequest", "message": "/me request is only valid with delegated authentication flow."}}),
            ),
        },
        _ => http::json(
            400,
            &json!({"error": {"code": "BadRequest", "message": "Resource not found for the segment or the method is not supported by the lab."}}),
        ),
    }
}

fn missing(id: &str) -> Reply {
    let message =
        format!("Resource '{id}' does not exist or one of its queried reference-property objects are not present.");
    http::json(404, &json!({"error": {"code": "Request_ResourceNotFound", "message": message}}))
}

fn refusal(error: &GraphError) -> Reply {
    http::json(error.status, &error.body())
}

/// The filters that the stamp and the official tools use: one `eq`, or `any(x:x eq '...')` over a collection.
fn selects(filter: &str, application: &Application) -> bool {
    if filter.is_empty() {
        return true;
    }
    let Some(wanted) = filter.split('\'').nth(1) else { return false };
    let field = filter.to_ascii_lowercase();
    if field.starts_with("appid") {
        application.app_id.to_string().eq_ignore_ascii_case(wanted)
    } else if field.starts_with("identifieruris") {
        application.uris.iter().any(|uri| uri.eq_ignore_ascii_case(wanted))
    } else if field.starts_with("serviceprincipalnames") {
        application.app_id.to_string().eq_ignore_ascii_case(wanted)
            || application.uris.iter().any(|uri| uri.eq_ignore_ascii_case(wanted))
    } else if field.starts_with("displayname") {
        application.name == wanted
    } else {
        false
    }
}

fn application(a: &Application) -> Value {
    json!({"id": a.object_id, "appId": a.app_id, "displayName": a.name, "identifierUris": a.uris, "signInAudience": "AzureADMyOrg"})
}

fn principal(a: &Application) -> Value {
    let mut names = vec![a.app_id.to_string()];
    names.extend(a.uris.clone());
    json!({"@odata.type": "#microsoft.graph.servicePrincipal", "id": a.principal, "appId": a.app_id, "displayName": a.name, "servicePrincipalNames": names, "servicePrincipalType": "Application"})
}
