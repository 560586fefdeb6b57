//! Resource Manager over HTTPS: paths, api-versions, envelopes, headers (`wire-azure.md`).

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::authorization::authorization;
use super::provider::{known_namespace, manifests, metadata, operations, provider_body};
use super::{Refused, caller};
use crate::http::{self, Read, Reply, header, pairs, text, value};
use crate::lab::{AzureWorld, State};
use crate::world::arm::{ArmError, LOCATIONS, Subscription, group_scope, registration_scope};
use crate::world::roles::{Delegated, is_within};

/// The api-versions of Microsoft.AzureStack.
const PROVIDER_VERSIONS: &[&str] = &["2016-01-01", "2017-06-01", "2020-06-01-preview", "2022-06-01"];
/// The audience that some clients have hard-wired (`wire-azure.md`, "Sign-in" row 9).
const HARD_WIRED: &str = "https://management.azure.com";
/// What a person's token is refused with that does not prove what is asked of it.
const DISALLOWED: &str = "RequestDisallowedByPolicy";

pub(crate) fn handle(state: &State, request: &Read) -> Reply {
    let mut reply = match route(state, request) {
        Ok(reply) => reply,
        Err(error) => {
            let mut reply = http::json(error.status, &error.body());
            header(&mut reply, "x-ms-failure-cause", "gateway");
            if error.status == 401 {
                header(&mut reply, "www-authenticate", &challenge(state, request, &error));
            }
            reply
        }
    };
    let id = Uuid::new_v4().to_string();
    header(&mut reply, "x-ms-request-id", &id);
    let correlation = request.headers().get("x-ms-correlation-request-id").and_then(|v| v.to_str().ok());
    header(&mut reply, "x-ms-correlation-request-id", correlation.unwrap_or(&id));
    header(&mut reply, "x-ms-routing-request-id", &format!("LAB:{}:{id}", state.now().strftime("%Y%m%dT%H%M%SZ")));
    let kind = match request.method().as_str() {
        "GET" | "HEAD" => "x-ms-ratelimit-remaining-subscription-reads",
        "DELETE" => "x-ms-ratelimit-remaining-subscription-deletes",
        _ => "x-ms-ratelimit-remaining-subscription-writes",
    };
    header(&mut reply, kind, "11999");
    header(&mut reply, "cache-control", "no-cache");
    reply
}

/// Who asks without a token learns which tenant the subscription is of.
fn challenge(state: &State, request: &Read, error: &ArmError) -> String {
    let azure = state.azure();
    if let Some(asked) = azure.directory.challenge.as_ref().filter(|_| error.code == DISALLOWED) {
        let authority = &state.urls().authority;
        let claims = BASE64_STANDARD.encode(asked.claims().to_string());
        return format!(
            "Bearer realm=\"\", authorization_uri=\"{authority}/common/oauth2/authorize\", error=\"insufficient_claims\", claims=\"{claims}\""
        );
    }
    let description = &error.message;
    let segments = http::segments(request.uri().path());
    let named = segments.get(1).and_then(|id| id.parse().ok()).and_then(|id| azure.arm.subscriptions.get(&id));
    let tenant = named.map_or(azure.home, |subscription| subscription.tenant);
    format!(
        "Bearer authorization_uri=\"{}/{tenant}\", error=\"invalid_token\", error_description=\"{description}\"",
        state.urls().authority
    )
}

pub(super) fn not_allowed() -> Answer {
    Ok(text(StatusCode::METHOD_NOT_ALLOWED, ""))
}

fn check_version(namespace: &str, version: Option<&str>) -> Result<(), ArmError> {
    let Some(version) = version.filter(|v| !v.is_empty()) else {
        return Err(ArmError::new(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        ));
    };
    if namespace.eq_ignore_ascii_case("microsoft.azurestack") {
        if PROVIDER_VERSIONS.contains(&version) {
            return Ok(());
        }
        return Err(ArmError::new(
            400,
            "NoRegisteredProviderFound",
            format!(
                "No registered resource provider found for location 'global' and API version '{version}' for type 'registrations'. The supported api-versions are '{}'. The supported locations are 'global'.",
                PROVIDER_VERSIONS.join(", ")
            ),
        ));
    }
    let date = version.strip_suffix("-preview").unwrap_or(version);
    let known = date.len() == 10
        && date.chars().enumerate().all(|(at, c)| if at == 4 || at == 7 { c == '-' } else { c.is_ascii_digit() })
        && ("2014-04-01"..="2026-12-31").contains(&date);
    if known {
        return Ok(());
    }
    Err(ArmError::new(
        400,
        "InvalidApiVersionParameter",
        format!(
            "The api-version '{version}' is invalid. The supported versions are '2024-11-01,2022-12-01,2022-09-01,2021-04-01,2020-05-01,2016-09-01,2016-02-01,2015-01-01'."
        ),
    ))
}

pub(super) fn body_of(request: &Read) -> Result<Value, ArmError> {
    match serde_json::from_slice(request.body()) {
        Ok(Value::Object(body)) => Ok(Value::Object(body)),
        _ => Err(ArmError::new(
            400,
            "InvalidRequestContent",
            "The request content was invalid and could not be deserialized: 'Unexpected character encountered while parsing value.'.",
        )),
    }
}

pub(super) fn made(new: bool, body: &Value) -> Answer {
    Ok(http::json(if new { 201 } else { 200 }, body))
}

/// A page of a list.
pub(super) fn page(state: &State, request: &Read, items: Vec<Value>) -> Reply {
    http::page(request, &state.urls().arm, state.options.page_size, items)
}

fn route(state: &State, request: &Read) -> Answer {
    let segments = http::segments(request.uri().path());
    let lower: Vec<String> = segments.iter().map(|s| s.to_ascii_lowercase()).collect();
    let parts: Vec<&str> = lower.iter().map(String::as_str).collect();
    let query = pairs(request.uri().query().unwrap_or_default());
    let version = value(&query, "api-version");
    let method = request.method().as_str();
    if !["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"].contains(&method) {
        return not_allowed();
    }
    if parts == ["metadata", "endpoints"] {
        check_version("microsoft.resources", version)?;
        return metadata(state, version.unwrap_or_default());
    }
    let at = parts.iter().rposition(|part| *part == "providers");
    let namespace = at.and_then(|at| parts.get(at + 1)).copied().unwrap_or("microsoft.resources");
    let target = if method == "POST" && matches!(parts.last(), Some(&"register" | &"unregister")) {
        "microsoft.resources"
    } else {
        namespace
    };
    let is_provider_itself = parts.len() == 4 && parts.get(2) == Some(&"providers");
    check_version(if is_provider_itself { "microsoft.resources" } else { target }, version)?;

    let who = match caller(state, request, &[&state.urls().arm, HARD_WIRED]) {
        Ok(who) => who,
        Err(Refused::Missing) => {
            return Err(ArmError::new(
                401,
                "AuthenticationFailed",
                "Authentication failed. The 'Authorization' header is missing.",
            ));
        }
        Err(Refused::Expired) => {
            return Err(ArmError::new(
                401,
                "ExpiredAuthenticationToken",
                "The access token expiry UTC time is earlier than current UTC time.",
            ));
        }
        Err(Refused::Invalid(why)) => return Err(ArmError::new(401, "InvalidAuthenticationToken", why)),
    };
    let me = who.object_id;
    let mut guard = state.azure();
    let azure = &mut *guard;
    let reads = matches!(method, "GET" | "HEAD");
    if let Some(asked) = azure.directory.challenge.as_ref().filter(|asked| who.person && (asked.reads || !reads))
        && !who.acrs.contains(&asked.acrs)
    {
        return Err(ArmError::new(
            401,
            DISALLOWED,
            "Resource was disallowed by policy. Reasons: MFA is required. See error details for policy resource IDs.",
        ));
    }
    azure.arm.settle_moves(state.now());
    match parts[..] {
        ["tenants"] => {
            let tenant = azure.directory.tenants.get(&who.tenant);
            let items = tenant.map(|t| json!({"id": format!("/tenants/{}", t.id), "tenantId": t.id, "tenantCategory": "Home", "displayName": "azsreg lab", "defaultDomain": t.domain, "domains": [t.domain], "tenantType": "AAD"}));
            Ok(http::json(200, &json!({"value": items.into_iter().collect::<Vec<_>>()})))
        }
        ["subscriptions"] if method == "GET" => {
            let visible =
                azure.arm.subscriptions.values().filter(|s| s.tenant == who.tenant && azure.arm.can_see(me, s.id));
            let items = visible.map(subscription_body).collect();
            drop(guard);
            Ok(page(state, request, items))
        }
        ["providers", "microsoft.azurestack", "operations"] if method == "GET" => Ok(http::json(200, &operations())),
        ["providers", "microsoft.azurestack", "cloudmanifestfiles", ..] if method == "GET" => {
            manifests(state, version.unwrap_or_default(), segments.get(3).map(String::as_str))
        }
        ["subscriptions", _, ..] => {
            let alone = parts.len() == 2;
            let subscription = azure.arm.subscription(me, &segments[1], alone)?;
            if subscription.tenant != who.tenant {
                return Err(ArmError::new(
                    401,
                    "InvalidAuthenticationTokenTenant",
                    format!(
                        "The access token is from the wrong issuer '{}/{}/'. It must match the tenant '{}/{}/' associated with this subscription.",
                        state.urls().authority,
                        who.tenant,
                        state.urls().authority,
                        subscription.tenant
                    ),
                ));
            }
            // Reading and deleting go on in a disabled subscription.
            let stopped = ["Disabled", "Expired", "Deleted"].iter().any(|state| subscription.state == *state);
            if stopped && !matches!(method, "GET" | "HEAD" | "DELETE") {
                let message = format!(
                    "The subscription '{}' is disabled and therefore marked as read only. You cannot perform any write actions on this subscription until it is re-enabled.",
                    subscription.id
                );
                return Err(ArmError::new(409, "ReadOnlyDisabledSubscription", message));
            }
            let id = subscription.id;
            let call = Call { state, request, me, subscription: id, method, query: &query };
            let reply = in_subscription(&call, guard, &segments[2..], &parts[2..])?;
            if !matches!(method, "GET" | "HEAD") && reply.status().is_success() {
                let created = reply.status() == StatusCode::CREATED;
                state.azure().arm.record(state.now(), me, method, &segments, created);
            }
            Ok(reply)
        }
        _ => match namespace {
            "microsoft.authorization" => {
                let call = Call { state, request, me, subscription: Uuid::nil(), method, query: &query };
                let at = at.unwrap_or(0);
                authorization(&call, guard, String::new(), &segments[at + 2..])
            }
            other => Err(ArmError::new(
                404,
                "InvalidResourceNamespace",
                format!("The resource namespace '{other}' is invalid."),
            )),
        },
    }
}

/// One call, signed in.
pub(super) struct Call<'a> {
    pub(super) state: &'a State,
    pub(super) request: &'a Read,
    pub(super) me: Uuid,
    pub(super) subscription: Uuid,
    pub(super) method: &'a str,
    pub(super) query: &'a [(String, String)],
}

pub(super) type Answer = Result<Reply, ArmError>;
pub(super) type Guard<'a> = std::sync::MutexGuard<'a, AzureWorld>;

impl Call<'_> {
    pub(super) fn may(&self, azure: &AzureWorld, action: &str, scope: &str) -> Result<(), ArmError> {
        azure.arm.authorize(&azure.directory, self.me, action, scope)
    }

    /// Likewise, for a role assignment that conditions may look at.
    pub(super) fn may_for(
        &self,
        azure: &AzureWorld,
        action: &str,
        scope: &str,
        delegated: Delegated<'_>,
    ) -> Result<(), ArmError> {
        azure.arm.authorize_for(&azure.directory, self.me, action, scope, delegated)
    }
}

fn in_subscription(call: &Call<'_>, mut guard: Guard<'_>, names: &[String], parts: &[&str]) -> Answer {
    let scope = format!("/subscriptions/{}", call.subscription);
    let at = parts.iter().rposition(|part| *part == "providers");
    if let Some(at) = at.filter(|at| parts.get(at + 1) == Some(&"microsoft.authorization")) {
        // Who may not read there does not learn what is there.
        let written = names[..at].iter().fold(scope, |scope, name| format!("{scope}/{name}"));
        let scope = match canonical(&guard, call.subscription, &names[..at], &parts[..at]) {
            Ok(scope) => scope,
            Err(error) => {
                call.may(&guard, "Microsoft.Authorization/locks/read", &written)?;
                return Err(error);
            }
        };
        return authorization(call, guard, scope, &names[at + 2..]);
    }
    let azure = &mut *guard;
    match (call.method, parts) {
        ("GET", []) => {
            let body = azure.arm.subscriptions.get(&call.subscription).map(subscription_body);
            Ok(http::json(200, &body.unwrap_or_default()))
        }
        ("GET", ["locations"]) => {
            call.may(azure, "Microsoft.Resources/subscriptions/locations/read", &scope)?;
            let items = LOCATIONS.iter().map(|(name, shown)| {
                json!({"id": format!("{scope}/locations/{name}"), "name": name, "type": "Region", "displayName": shown, "regionalDisplayName": shown, "metadata": {"regionType": "Physical", "regionCategory": "Recommended", "geographyGroup": "Lab"}})
            });
            Ok(http::json(200, &json!({"value": items.collect::<Vec<_>>()})))
        }
        ("GET", ["operationresults", id]) => {
            // A deletion has ended at once; a move may take its time.
            let going = id.parse().is_ok_and(|id| azure.arm.is_moving(id));
            if going { Ok(accepted(call, id)) } else { Ok(text(StatusCode::NO_CONTENT, "")) }
        }
        ("GET", ["providers"]) => {
            call.may(azure, "Microsoft.Resources/subscriptions/providers/read", &scope)?;
            let items = ["Microsoft.AzureStack", "Microsoft.Authorization", "Microsoft.Resources"];
            let items = items.iter().map(|ns| provider_body(azure, call.subscription, ns)).collect();
            drop(guard);
            Ok(page(call.state, call.request, items))
        }
        ("GET", ["providers", ns]) => {
            call.may(azure, "Microsoft.Resources/subscriptions/providers/read", &scope)?;
            let ns = known_namespace(ns)?;
            Ok(http::json(200, &provider_body(azure, call.subscription, ns)))
        }
        ("POST", ["providers", ns, verb @ ("register" | "unregister")]) => {
            let ns = known_namespace(ns)?;
            call.may(azure, &format!("{ns}/{verb}/action"), &scope)?;
            azure.arm.writable(&scope)?;
            if let Some(subscription) = azure.arm.subscriptions.get_mut(&call.subscription) {
                let key = ns.to_ascii_lowercase();
                if *verb == "register" {
                    subscription.providers.insert(key);
                } else {
                    subscription.providers.remove(&key);
                }
            }
            Ok(http::json(200, &provider_body(azure, call.subscription, ns)))
        }
        ("GET", ["resources"]) => {
            let filter = value(call.query, "$filter").unwrap_or_default().to_owned();
            let items = resources(call, azure, &scope, &filter);
            drop(guard);
            Ok(page(call.state, call.request, items))
        }
        (_, ["providers", "microsoft.commerce", "usageaggregates"]) => super::commerce::aggregates(call, guard),
        ("GET", ["resourcegroups"]) => {
            call.may(azure, "Microsoft.Resources/subscriptions/resourceGroups/read", &scope)?;
            let groups = azure.arm.groups.iter().filter(|((s, _), _)| *s == call.subscription);
            let items = groups.map(|(_, g)| group_body(call.subscription, &g.name, &g.location, &g.tags)).collect();
            drop(guard);
            Ok(page(call.state, call.request, items))
        }
        ("GET", ["providers", "microsoft.azurestack", "registrations"]) => {
            call.may(azure, "Microsoft.AzureStack/registrations/read", &scope)?;
            azure.arm.provider_ready(call.subscription)?;
            let items = azure
                .arm
                .registrations
                .iter()
                .filter(|r| r.subscription == call.subscription)
                .map(|r| r.body())
                .collect();
            drop(guard);
            Ok(page(call.state, call.request, items))
        }
        (_, ["resourcegroups", _, ..]) => in_group(call, guard, &names[1..], &parts[1..]),
        (_, ["providers", ns, ..]) => {
            known_namespace(ns)?;
            Err(ArmError::new(
                404,
                "InvalidResourceType",
                format!(
                    "The resource type could not be found in the namespace '{ns}' for api version '{}'.",
                    value(call.query, "api-version").unwrap_or_default()
                ),
            ))
        }
        _ => Err(ArmError::new(404, "NotFound", "The lab does not know this route.")),
    }
}

fn in_group(call: &Call<'_>, mut guard: Guard<'_>, names: &[String], parts: &[&str]) -> Answer {
    let azure = &mut *guard;
    let group = names[0].as_str();
    let scope = azure
        .arm
        .group(call.subscription, group)
        .map_or_else(|_| group_scope(call.subscription, group), |known| group_scope(call.subscription, &known.name));
    let read = "Microsoft.Resources/subscriptions/resourceGroups/read";
    match (call.method, &parts[1..]) {
        ("HEAD", []) => {
            call.may(azure, read, &scope)?;
            let found = azure.arm.group(call.subscription, group).is_ok();
            Ok(text(if found { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }, ""))
        }
        ("GET", []) => {
            call.may(azure, read, &scope)?;
            let group = azure.arm.group(call.subscription, group)?;
            Ok(http::json(200, &group_body(call.subscription, &group.name, &group.location, &group.tags)))
        }
        ("PUT", []) => {
            call.may(azure, "Microsoft.Resources/subscriptions/resourceGroups/write", &scope)?;
            let body = body_of(call.request)?;
            let (new, group) = azure.arm.put_group(call.subscription, group, &body)?;
            made(new, &group_body(call.subscription, &group.name, &group.location, &group.tags))
        }
        ("DELETE", []) => {
            call.may(azure, "Microsoft.Resources/subscriptions/resourceGroups/delete", &scope)?;
            azure.arm.delete_group(call.subscription, group)?;
            Ok(accepted(call, &Uuid::new_v4().to_string()))
        }
        ("POST", [verb @ ("moveresources" | "validatemoveresources")]) => {
            let moves = *verb == "moveresources";
            let action = if moves { "moveResources" } else { "validateMoveResources" };
            call.may(azure, &format!("Microsoft.Resources/subscriptions/resourceGroups/{action}/action"), &scope)?;
            let body = body_of(call.request)?;
            let target = http::segments(body["targetResourceGroup"].as_str().unwrap_or_default());
            let [_, subscription, _, into] = &target[..] else {
                return Err(ArmError::new(
                    400,
                    "InvalidRequestContent",
                    "The property 'targetResourceGroup' is not the id of a resource group.",
                ));
            };
            let to: Uuid = subscription.parse().unwrap_or_default();
            let write = "Microsoft.Resources/subscriptions/resourceGroups/write";
            call.may(azure, write, &group_scope(to, into))?;
            let ids =
                body["resources"].as_array().into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned));
            let ids: Vec<String> = ids.collect();
            let id = Uuid::new_v4();
            if moves {
                let takes = call.state.scaled(call.state.options.move_takes);
                azure.arm.begin_move(id, call.state.now(), takes, ids, (call.subscription, group), (to, into))?;
            } else {
                azure.arm.validate_move(&ids, (call.subscription, group), (to, into))?;
            }
            Ok(accepted(call, &id.to_string()))
        }
        ("GET", ["resources"]) => {
            call.may(azure, read, &scope)?;
            azure.arm.group(call.subscription, group)?;
            let items = resources(call, azure, &scope, "");
            drop(guard);
            Ok(page(call.state, call.request, items))
        }
        (_, ["providers", "microsoft.azurestack", "registrations", _, "products", ..]) => {
            super::products::products(call, guard, &names[0], &names[4], &names[6..])
        }
        (_, ["providers", "microsoft.azurestack", "registrations", _, "customersubscriptions", ..]) => {
            super::customers::customers(call, guard, &names[0], &names[4], &names[6..])
        }
        (method, ["providers", "microsoft.azurestack", "registrations", rest @ ..]) => {
            let named = names
                .get(4)
                .map_or_else(|| scope.clone(), |name| registration_scope(call.subscription, &names[0], name));
            let verb = match (method, rest.get(1)) {
                ("GET", _) => "read".to_owned(),
                ("DELETE", None) => "delete".to_owned(),
                ("POST", Some(child)) => format!("{child}/action"),
                _ => "write".to_owned(),
            };
            call.may(azure, &format!("Microsoft.AzureStack/registrations/{verb}"), &named)?;
            azure.arm.provider_ready(call.subscription)?;
            registrations(call, azure, method, &names[0], &names[4..], rest)
        }
        (_, ["providers", ns, ..]) => {
            known_namespace(ns)?;
            Err(ArmError::new(
                404,
                "InvalidResourceType",
                format!("The resource type could not be found in the namespace '{ns}'."),
            ))
        }
        _ => Err(ArmError::new(404, "NotFound", "The lab does not know this route.")),
    }
}

fn registrations(
    call: &Call<'_>,
    azure: &mut AzureWorld,
    method: &str,
    group: &str,
    names: &[String],
    rest: &[&str],
) -> Answer {
    let subscription = call.subscription;
    let Some(name) = names.first() else {
        if method != "GET" {
            return not_allowed();
        }
        let known = azure.arm.group(subscription, group)?.name.clone();
        call.may(azure, "Microsoft.AzureStack/registrations/read", &group_scope(subscription, &known))?;
        let items: Vec<Value> = azure
            .arm
            .registrations
            .iter()
            .filter(|r| r.subscription == subscription && r.group.eq_ignore_ascii_case(group))
            .map(|r| r.body())
            .collect();
        return Ok(page(call.state, call.request, items));
    };
    let scope = azure
        .arm
        .registration(subscription, group, name)
        .map_or_else(|_| registration_scope(subscription, group, name), |known| known.id());
    let action = |what: &str| format!("Microsoft.AzureStack/registrations/{what}");
    let now = call.state.now();
    match (method, &rest[1..]) {
        ("GET", []) => {
            call.may(azure, &action("read"), &scope)?;
            Ok(http::json(200, &azure.arm.registration(subscription, group, name)?.body()))
        }
        ("PUT", []) => {
            call.may(azure, &action("write"), &scope)?;
            let body = body_of(call.request)?;
            let (new, registration) =
                azure.arm.put_registration(&mut azure.draw, now, subscription, group, name, &body)?;
            made(new, &registration.body())
        }
        ("PATCH", []) => {
            call.may(azure, &action("write"), &scope)?;
            let mut body = body_of(call.request)?;
            azure.arm.registration(subscription, group, name)?;
            if body.get("location").is_none() {
                body["location"] = json!("global");
            }
            let (_, registration) =
                azure.arm.put_registration(&mut azure.draw, now, subscription, group, name, &body)?;
            Ok(http::json(200, &registration.body()))
        }
        ("DELETE", []) => {
            call.may(azure, &action("delete"), &scope)?;
            let existed = azure.arm.delete_registration(subscription, group, name)?;
            Ok(text(if existed { StatusCode::OK } else { StatusCode::NO_CONTENT }, ""))
        }
        ("POST", ["getactivationkey"]) => {
            call.may(azure, &action("getActivationKey/action"), &scope)?;
            let urls = call.state.urls();
            let claims = azure.arm.hand_out_key((subscription, group, name), &urls.arm, &urls.usage)?;
            let key = call.state.keys.activation().sign(&call.state.claims(claims), false);
            Ok(http::json(200, &json!({ "activationKey": key })))
        }
        ("POST", ["enableremotemanagement"]) => {
            call.may(azure, &action("enableRemoteManagement/action"), &scope)?;
            azure.arm.writable(&scope)?;
            azure.arm.registration(subscription, group, name)?;
            Ok(text(StatusCode::OK, ""))
        }
        (_, []) => not_allowed(),
        (_, [child, ..]) => {
            if azure.arm.registration(subscription, group, name).is_err() {
                return Err(ArmError::new(
                    404,
                    "ParentResourceNotFound",
                    format!(
                        "Can not perform requested operation on nested resource. Parent resource '{name}' not found."
                    ),
                ));
            }
            Err(ArmError::new(
                404,
                "InvalidResourceType",
                format!("The resource type 'registrations/{child}' is not one that the lab has yet."),
            ))
        }
    }
}

/// The scope as the world writes it: groups and registrations in the case they were made with.
fn canonical(azure: &AzureWorld, subscription: Uuid, names: &[String], parts: &[&str]) -> Result<String, ArmError> {
    match parts {
        [] => Ok(format!("/subscriptions/{subscription}")),
        ["resourcegroups", _] => Ok(group_scope(subscription, &azure.arm.group(subscription, &names[1])?.name)),
        ["resourcegroups", _, "providers", "microsoft.azurestack", "registrations", _] => {
            Ok(azure.arm.registration(subscription, &names[1], &names[5])?.id())
        }
        _ => Err(ArmError::new(404, "ResourceNotFound", format!("The Resource '{}' was not found.", names.join("/")))),
    }
}

fn accepted(call: &Call<'_>, id: &str) -> Reply {
    let mut reply = text(StatusCode::ACCEPTED, "");
    let version = value(call.query, "api-version").unwrap_or("2024-11-01");
    let url = format!(
        "{}/subscriptions/{}/operationresults/{}?api-version={version}",
        call.state.urls().arm,
        call.subscription,
        id,
    );
    header(&mut reply, "location", &url);
    header(&mut reply, "retry-after", if call.state.options.move_takes.is_zero() { "0" } else { "1" });
    reply
}

fn resources(call: &Call<'_>, azure: &AzureWorld, scope: &str, filter: &str) -> Vec<Value> {
    let condition = |field: &str| {
        let at = filter.to_ascii_lowercase().find(&format!("{} eq", field.to_ascii_lowercase()))?;
        filter[at..].split('\'').nth(1).map(str::to_owned)
    };
    let (kind, group, name) = (condition("resourceType"), condition("resourceGroup"), condition("name"));
    azure
        .arm
        .registrations
        .iter()
        .filter(|r| is_within(&r.id(), scope))
        .filter(|_| kind.as_deref().is_none_or(|k| k.eq_ignore_ascii_case("Microsoft.AzureStack/registrations")))
        .filter(|r| group.as_deref().is_none_or(|g| g.eq_ignore_ascii_case(&r.group)))
        .filter(|r| name.as_deref().is_none_or(|n| n.eq_ignore_ascii_case(&r.name)))
        .filter(|r| azure.arm.authorize(&azure.directory, call.me, "Microsoft.AzureStack/registrations/read", &r.id()).is_ok())
        .map(|r| json!({"id": r.id(), "name": r.name, "type": "Microsoft.AzureStack/registrations", "location": "global"}))
        .collect()
}

fn subscription_body(s: &Subscription) -> Value {
    json!({
        "id": format!("/subscriptions/{}", s.id), "subscriptionId": s.id, "tenantId": s.tenant, "displayName": s.name, "state": s.state,
        "authorizationSource": "RoleBased", "managedByTenants": [],
        "subscriptionPolicies": {"locationPlacementId": "Public_2014-09-01", "quotaId": s.quota_id, "spendingLimit": "Off"},
    })
}

fn group_body(subscription: Uuid, name: &str, location: &str, tags: &Value) -> Value {
    let mut body = json!({
        "id": group_scope(subscription, name), "name": name, "type": "Microsoft.Resources/resourceGroups",
        "location": location, "properties": {"provisioningState": "Succeeded"},
    });
    if !tags.is_null() {
        body["tags"] = tags.clone();
    }
    body
}
