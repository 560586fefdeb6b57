//! The lab's control port: for tests and rehearsals, on plain HTTP, apart from what is simulated.
//!
//! It hands out refresh tokens, so it is for who was told its address: a random token is the first segment of every path, or
//! the bearer of the request. Pages that a browser brings from elsewhere are refused besides, as the portals refuse them.

mod subscriptions;

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use azsreg_portal::is_loopback;
use hyper::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::faults::Rule;
use crate::http::{self, Read, Reply, text};
use crate::lab::State;
use crate::world::directory::Application;
use crate::world::market::Downloaded;
use crate::world::stamp::TokenRequest;

/// A token that nobody can guess.
///
/// # Errors
/// The system has no randomness.
pub(crate) fn draw_token() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| std::io::Error::other("the system has no randomness"))?;
    Ok(bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}

pub(crate) fn handle(state: &Arc<State>, request: &Read) -> Reply {
    let mut reply = match admitted(&state.control_token, request) {
        Ok(segments) => route(state, request, &segments),
        Err((status, why)) => http::json(status, &json!({ "error": why })),
    };
    if reply.status() == StatusCode::UNAUTHORIZED {
        http::header(&mut reply, "www-authenticate", "Bearer");
    }
    http::header(&mut reply, "cache-control", "no-store");
    http::header(&mut reply, "x-content-type-options", "nosniff");
    http::header(&mut reply, "referrer-policy", "no-referrer");
    reply
}

/// The path behind the token, of a request that may be made.
fn admitted(token: &str, request: &Read) -> Result<Vec<String>, (u16, &'static str)> {
    let named = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = named("host").unwrap_or_default();
    if !is_loopback(host) {
        return Err((421, "this is not the address of the lab's control port"));
    }
    // Browsers name the page that a request comes from; what is no browser names none.
    if request.headers().contains_key("origin")
        && named("origin").and_then(|origin| origin.strip_prefix("http://")) != Some(host)
    {
        return Err((403, "the lab's control port takes nothing from a page of another site"));
    }
    let is_token = |given: &str| verify_slices_are_equal(given.as_bytes(), token.as_bytes()).is_ok();
    let mut segments = http::segments(request.uri().path());
    if segments.first().is_some_and(|first| is_token(first)) {
        segments.remove(0);
        return Ok(segments);
    }
    let bearer = named("authorization")
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    if bearer.is_some_and(is_token) {
        return Ok(segments);
    }
    Err((
        401,
        "the address of the lab's control port has its token in it: control_endpoint of the line that lab up prints, \
         or AZSREG_LAB_CONTROL of azsreg lab env",
    ))
}

fn route(state: &Arc<State>, request: &Read, segments: &[String]) -> Reply {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let body: Value = if request.body().is_empty() {
        Value::Null
    } else {
        match serde_json::from_slice(request.body()) {
            Ok(body) => body,
            Err(error) => return refused(&format!("the body is not JSON: {error}")),
        }
    };
    let method = request.method().as_str();
    let stamp = |name: &str| state.stamps.iter().find(|stamp| stamp.name == name);
    match (method, &parts[..]) {
        ("GET", ["health"]) => http::json(200, &json!({"seed": state.options.seed, "now": state.now().to_string()})),
        ("GET", ["world"]) => http::json(200, &state.world()),
        ("GET", ["export"]) => http::json(200, &state.export()),
        ("GET", ["faults"]) => http::json(200, &state.faults().list()),
        ("DELETE", ["faults"]) => {
            state.faults().clear();
            http::json(200, &json!([]))
        }
        ("POST", ["faults"]) => match serde_json::from_value::<Rule>(body) {
            Ok(rule) => {
                state.faults().add(rule);
                http::json(200, &state.faults().list())
            }
            Err(error) => refused(&error.to_string()),
        },
        ("POST", ["clock"]) => match body["advance_seconds"].as_i64() {
            // A century either way; beyond that the calendar ends.
            Some(seconds) if seconds.abs() > 3_200_000_000 => refused("advance_seconds is more than a century"),
            Some(seconds) => {
                state.advance(SignedDuration::from_secs(seconds));
                http::json(200, &json!({"now": state.now().to_string()}))
            }
            None => refused("advance_seconds is missing"),
        },
        ("GET", ["blobs", item]) => match state.blobs.payload(state, item) {
            Some(address) => http::json(200, &json!({ "address": address })),
            None => refused("no such item"),
        },
        ("GET", ["blobs"]) => http::json(200, &state.blobs.served()),
        ("DELETE", ["blobs"]) => {
            state.blobs.forget();
            http::json(200, &json!({}))
        }
        ("POST", ["blobs"]) => match body["signed_for_seconds"].as_i64() {
            Some(seconds) => {
                state.signed_for.store(seconds, std::sync::atomic::Ordering::Relaxed);
                http::json(200, &json!({}))
            }
            None => refused("signed_for_seconds is missing"),
        },
        ("GET", ["product-logs"]) => http::json(200, &json!(state.azure().product_logs)),
        ("POST", ["refresh-token"]) => {
            let azure = &mut *state.azure();
            let token = azure.directory.issue_refresh_token(&mut azure.draw, azure.operator);
            http::json(200, &json!({ "refresh_token": token }))
        }
        ("POST", ["refresh-tokens", "revoke"]) => {
            let number = body["aadsts"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(50_173);
            state.azure().directory.revoke_refresh_tokens(number);
            http::json(200, &json!({}))
        }
        ("POST", ["tenants", id, "policy"]) => {
            let azure = &mut *state.azure();
            let Some(tenant) = id.parse().ok().and_then(|id: Uuid| azure.directory.tenants.get_mut(&id)) else {
                return refused("no such tenant");
            };
            let number = body["aadsts"].as_u64().and_then(|n| u32::try_from(n).ok());
            tenant.policy = number.map(|number| (number, body["on"].as_str().unwrap_or("all").to_owned()));
            if let Some(may) = body["users_may_register_applications"].as_bool() {
                tenant.users_may_register_applications = may;
            }
            http::json(200, &json!({}))
        }
        // What Resource Manager asks of a person's token: {"acrs": "p1", "reads": false}; nothing asks for nothing.
        ("POST", ["challenge"]) => match serde_json::from_value(body) {
            Ok(challenge) => {
                state.azure().directory.challenge = challenge;
                http::json(200, &json!({}))
            }
            Err(error) => refused(&error.to_string()),
        },
        // Tokens and keys in a form that only this lab reads: {"sealed": true}.
        ("POST", ["forms"]) => {
            state.sealed.store(body["sealed"].as_bool() == Some(true), std::sync::atomic::Ordering::Relaxed);
            http::json(200, &json!({}))
        }
        ("POST", ["users"]) => users(state, &body),
        ("POST", ["subscriptions"]) => http::json(200, &json!({"subscription_id": subscriptions::add(state, &body)})),
        ("POST", ["subscriptions", id]) => match id.parse().ok() {
            Some(id) => subscriptions::change(state, id, &body),
            None => refused("no such subscription"),
        },
        ("DELETE", ["service-principals", id]) => {
            let azure = &mut *state.azure();
            let before = azure.directory.applications.len();
            azure.directory.applications.retain(|a| a.principal.is_none_or(|known| known.to_string() != *id));
            if azure.directory.applications.len() == before {
                refused("no such principal")
            } else {
                http::json(200, &json!({}))
            }
        }
        ("POST", ["locks"]) => {
            let (scope, name) = (body["scope"].as_str().unwrap_or_default(), body["name"].as_str().unwrap_or_default());
            match state.azure().arm.put_lock(scope, name, &json!({"properties": {"level": body["level"]}})) {
                Ok((_, lock)) => http::json(200, &lock.body()),
                Err(error) => http::json(error.status, &error.body()),
            }
        }
        ("DELETE", ["locks"]) => {
            state.azure().arm.locks.clear();
            http::json(200, &json!({}))
        }
        ("DELETE", ["role-assignments"]) => {
            state.azure().arm.assignments.retain(|a| !a.scope.contains("/registrations/"));
            http::json(200, &json!({}))
        }
        ("DELETE", ["registrations", id]) => {
            // As somebody would in the portal, locks or not.
            let azure = &mut *state.azure();
            let ours = |name: &str| name.eq_ignore_ascii_case(id);
            let gone: Vec<String> = azure.arm.registrations.iter().filter(|r| ours(&r.name)).map(|r| r.id()).collect();
            azure.arm.registrations.retain(|r| !ours(&r.name));
            for scope in gone {
                azure.arm.locks.retain(|lock| !crate::world::roles::is_within(&lock.scope, &scope));
                azure.arm.assignments.retain(|a| !crate::world::roles::is_within(&a.scope, &scope));
            }
            http::json(200, &json!({}))
        }
        ("POST", ["activation-key"]) => activation_key(state, &body),
        ("GET", ["stamps", name, "logons"]) => match stamp(name) {
            Some(stamp) => {
                let (shells, commands) = stamp.endpoint.shells();
                let requests = stamp.requests.load(std::sync::atomic::Ordering::Relaxed);
                let world = stamp.world();
                http::json(
                    200,
                    &json!({"failed": world.logons_failed, "succeeded": world.logons_succeeded, "requests": requests, "shells": shells, "commands": commands}),
                )
            }
            None => refused("no such stamp"),
        },
        ("GET", ["stamps", name, "usage"]) => match stamp(name) {
            Some(stamp) => {
                let mut world = stamp.world();
                world.settle(state.now());
                let (waiting, usage) = (world.waiting(), &world.usage);
                let tenants: Vec<Value> = usage.tenants.iter().map(|tenant| json!({"subscription": tenant.subscription, "directory": tenant.directory, "deleted": tenant.until.is_some()})).collect();
                http::json(
                    200,
                    &json!({"tenants": tenants, "waiting_hours": waiting, "spool": usage.spool, "uploaded": usage.uploaded, "last_upload": usage.last_upload, "failing": usage.failing}),
                )
            }
            None => refused("no such stamp"),
        },
        ("GET", ["stamps", name, "blobs"]) => match stamp(name) {
            Some(stamp) => http::json(200, &crate::stamp::storage::contents(state, stamp)),
            None => refused("no such stamp"),
        },
        ("POST", ["stamps", name]) => {
            let Some(stamp) = stamp(name) else { return refused("no such stamp") };
            let mut world = stamp.world();
            if let Some(seconds) = body["activation_seconds"].as_f64().filter(|s| (0.0..=86_400.0).contains(s)) {
                world.options.activation = SignedDuration::try_from_secs_f64(seconds).unwrap_or_default();
            }
            if let Some(host) = body.get("broken_host") {
                world.broken_host = host.as_str().map(str::to_owned);
            }
            if let Some(nodes) = body["nodes"].as_u64() {
                let Some(nodes) = u32::try_from(nodes).ok().filter(|nodes| (1..=16).contains(nodes)) else {
                    return refused("nodes is 1 to 16");
                };
                world.scale(&mut state.azure().draw, nodes);
            }
            if let Some(items) = body["downloaded"].as_array() {
                world.downloaded = items.iter().filter_map(|item| item.as_str().map(Downloaded::named)).collect();
            }
            if let Some(group) = body["group"].as_str() {
                // One that somebody made by hand.
                let _ = world.accounts.put_group(group, &json!({"location": "local"}));
            }
            if let Some(rate) = body["download_rate"].as_u64() {
                stamp.download_rate.store(rate, std::sync::atomic::Ordering::Relaxed);
            }
            if body["deactivated"].as_bool() == Some(true) {
                world.settle(state.now());
                world.activation = None;
            }
            if let Some(tenants) = body["tenants"].as_u64().and_then(|n| usize::try_from(n).ok()) {
                world.set_tenants(tenants, state.now(), state.now());
            }
            drop(world);
            match body["usage_bridge"].as_str() {
                None => {}
                Some("kill") => stamp.stop_bridge(),
                Some("start") => state.start_bridge(stamp),
                Some(_) => return refused("usage_bridge is kill or start"),
            }
            http::json(200, &json!({}))
        }
        ("POST", ["stamps", name, "registration-token"]) => {
            let Some(stamp) = stamp(name) else { return refused("no such stamp") };
            let field = |name: &str| body[name].as_str().map(str::to_owned);
            let model = field("billing_model").unwrap_or_else(|| "PayAsYouUse".into());
            let request = TokenRequest {
                usage: body["usage_reporting"].as_bool().unwrap_or(model == "PayAsYouUse"),
                marketplace: body["marketplace"].as_bool().unwrap_or(true),
                billing_model: model,
                agreement_number: field("agreement_number"),
                ms_asset_tag: field("ms_asset_tag"),
                version: field("version"),
            };
            match stamp.world().registration_token(&request) {
                Ok(token) => http::json(200, &json!({ "registration_token": state.token(token) })),
                Err(error) => refused(&error.message),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "the control port does not know this route\n"),
    }
}

pub(super) fn refused(why: &str) -> Reply {
    http::json(400, &json!({ "error": why }))
}

/// A service principal with these built-in roles.
fn users(state: &State, body: &Value) -> Reply {
    let azure = &mut *state.azure();
    let (app_id, object_id, principal) = (azure.draw.guid(), azure.draw.guid(), azure.draw.guid());
    let secret = azure.draw.opaque();
    let mut operator = None;
    azure.directory.applications.push(Application {
        app_id,
        object_id,
        principal: Some(principal),
        tenant: azure.home,
        name: body["name"].as_str().unwrap_or("test principal").to_owned(),
        uris: Vec::new(),
        secrets: vec![secret.clone()],
        certificates: Vec::new(),
        owners: Vec::new(),
    });
    for role in body["roles"].as_array().into_iter().flatten() {
        let (name, scope) = (role["role"].as_str().unwrap_or_default(), role["scope"].as_str().unwrap_or_default());
        if !azure.arm.assign(&mut azure.draw, principal, "ServicePrincipal", name, scope) {
            return refused(&format!("no role {name}"));
        }
    }
    for role in body["custom_roles"].as_array().into_iter().flatten() {
        if !custom(azure, principal, "ServicePrincipal", role) {
            return refused(&format!("no role {}", role["role"]));
        }
    }
    // Who signs in as a user from now on, for tests of a caller with fewer rights.
    if body["operator"].as_bool() == Some(true) {
        let (user, upn) = (azure.draw.guid(), format!("{}@{}", azure.draw.user_code().to_lowercase(), azure.domain));
        let tenant = azure.home;
        azure.directory.users.push(crate::world::directory::User { object_id: user, upn, tenant });
        for role in body["roles"].as_array().into_iter().flatten() {
            let (name, scope) = (role["role"].as_str().unwrap_or_default(), role["scope"].as_str().unwrap_or_default());
            azure.arm.assign(&mut azure.draw, user, "User", name, scope);
        }
        for role in body["custom_roles"].as_array().into_iter().flatten() {
            custom(azure, user, "User", role);
        }
        azure.operator = user;
        operator = Some(user);
        if azure.directory.auto_approve.is_some() {
            azure.directory.auto_approve = Some(user);
        }
    }
    http::json(
        200,
        &json!({"client_id": app_id, "client_secret": secret, "object_id": principal, "operator": operator}),
    )
}

/// A role of these very actions, for somebody: `{"role", "scope", "actions", "condition"}`.
fn custom(azure: &mut crate::lab::AzureWorld, principal: Uuid, kind: &str, role: &Value) -> bool {
    use crate::world::roles::{Assignment, RoleDefinition};
    let text = |name: &str| role[name].as_str().unwrap_or_default().to_owned();
    let actions: Vec<String> =
        role["actions"].as_array().into_iter().flatten().filter_map(|a| a.as_str().map(str::to_owned)).collect();
    if actions.is_empty() {
        return false;
    }
    let id = azure.draw.guid();
    azure.arm.roles.push(RoleDefinition {
        id,
        name: format!("{} {id}", text("role")),
        description: String::new(),
        actions,
        not_actions: Vec::new(),
        kind: "CustomRole".into(),
        assignable_scopes: vec![text("scope")],
    });
    azure.arm.assignments.push(Assignment {
        name: azure.draw.guid().to_string(),
        scope: text("scope"),
        role: id,
        principal,
        principal_type: kind.into(),
        condition: role["condition"].as_str().map(str::to_owned),
    });
    true
}

/// Registers a token under the default subscription and hands out the key, for tests of the stamp alone.
fn activation_key(state: &State, body: &Value) -> Reply {
    let now = state.now();
    let azure = &mut *state.azure();
    let token = body["registration_token"].as_str().unwrap_or_default();
    let subscription = azure.default_subscription;
    if let Some(known) = azure.arm.subscriptions.get_mut(&subscription) {
        known.providers.insert("microsoft.azurestack".into());
    }
    let group = json!({"location": "westcentralus"});
    let resource = json!({"location": "global", "properties": {"registrationToken": token}});
    let name = crate::world::token::decode(token).map_or_else(String::new, |t| format!("control-{}", t.cloud_id));
    let registered = azure
        .arm
        .put_group(subscription, "control", &group)
        .map(drop)
        .and_then(|()| azure.arm.put_registration(&mut azure.draw, now, subscription, "control", &name, &resource))
        .map(|(_, registration)| registration.activation_claims(&state.urls().arm, &state.urls().usage));
    match registered {
        Ok(claims) => http::json(200, &json!({"activation_key": state.keys.activation().sign(&claims, false)})),
        Err(error) => http::json(error.status, &error.body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, headers: &[(&str, &str)]) -> Result<Vec<String>, u16> {
        let mut request = hyper::Request::builder().method("POST").uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        admitted("0123abcd", &request.body(bytes::Bytes::new()).unwrap()).map_err(|(status, _)| status)
    }

    #[test]
    fn the_control_port_is_for_who_has_its_token_and_for_no_page_of_another_site() {
        let host = ("host", "127.0.0.1:80");
        let path = Ok(vec!["refresh-token".to_owned()]);
        assert_eq!(asked("/0123abcd/refresh-token", &[host]), path);
        assert_eq!(asked("/refresh-token", &[host, ("authorization", "Bearer 0123abcd")]), path);
        assert_eq!(asked("/refresh-token", &[("host", "localhost:80"), ("authorization", "bearer 0123abcd")]), path);
        assert_eq!(asked("/0123abcd/refresh-token", &[host, ("origin", "http://127.0.0.1:80")]), path);
        for (status, path, headers) in [
            (401, "/refresh-token", &[host][..]),
            (401, "/", &[host]),
            (401, "/0123abc/refresh-token", &[host]),
            (401, "/0123abcde/refresh-token", &[host]),
            (401, "/refresh-token/0123abcd", &[host]),
            (401, "/refresh-token", &[host, ("authorization", "Bearer 0123abcx")]),
            (401, "/refresh-token", &[host, ("authorization", "Basic 0123abcd")]),
            // Whoever has a name lead here, or has a browser send it, is refused whatever else it knows.
            (421, "/0123abcd/refresh-token", &[("host", "evil.example:80")]),
            (421, "/0123abcd/refresh-token", &[]),
            (403, "/0123abcd/refresh-token", &[host, ("origin", "http://evil.example")]),
            (403, "/0123abcd/refresh-token", &[host, ("origin", "null")]),
            (403, "/0123abcd/refresh-token", &[host, ("origin", "https://127.0.0.1:80")]),
            (403, "/0123abcd/refresh-token", &[host, ("origin", "http://127.0.0.1:81")]),
        ] {
            assert_eq!(asked(path, headers), Err(status), "{path} {headers:?}");
        }
    }

    #[test]
    fn no_two_tokens_are_the_same() {
        let (a, b) = (draw_token().unwrap(), draw_token().unwrap());
        assert_ne!(a, b);
        assert!(a.len() == 32 && a.bytes().all(|byte| byte.is_ascii_hexdigit()), "{a}");
    }
}
