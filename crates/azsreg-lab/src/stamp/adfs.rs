//! The stamp's own Active Directory Federation Services, as far as its Resource Manager's clients use it: tokens for the
//! operators' application and for a person with a code.

use hyper::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::azure::login::code_shown;
use crate::http::{self, Read, Reply, pairs, text, value};
use crate::lab::{StampState, State};

/// How long an access token lives, in seconds.
const LIFE: i64 = 3_600;

pub(crate) fn handle(state: &State, stamp: &StampState, request: &Read, path: &[String]) -> Reply {
    if stamp.world().options.identity != "adfs" {
        return text(StatusCode::NOT_FOUND, "");
    }
    let path: Vec<String> = path.iter().map(|part| part.to_ascii_lowercase()).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let base = format!("{}/adfs", stamp.urls().admin_arm);
    let form = pairs(&String::from_utf8_lossy(request.body()));
    match (request.method().as_str(), &path[..]) {
        ("GET", [".well-known", "openid-configuration"]) => http::json(
            200,
            &json!({
                "issuer": base, "token_endpoint": format!("{base}/oauth2/token"),
                "authorization_endpoint": format!("{base}/oauth2/authorize"),
                "device_authorization_endpoint": format!("{base}/oauth2/devicecode"),
                "jwks_uri": format!("{base}/discovery/keys"),
                "id_token_signing_alg_values_supported": ["RS256"], "subject_types_supported": ["pairwise"],
            }),
        ),
        ("GET", ["discovery", "keys"]) => http::json(200, &json!({"keys": [state.keys.tokens().jwk()]})),
        ("POST", ["oauth2", "devicecode"]) => device_code(state, &form),
        ("POST", ["oauth2", "token"]) => token(state, stamp, &base, &form),
        _ => text(StatusCode::NOT_FOUND, ""),
    }
}

fn refused(status: u16, error: &str, description: &str) -> Reply {
    http::json(status, &json!({"error": error, "error_description": description}))
}

/// A person's code, entered on the lab's own page.
fn device_code(state: &State, form: &[(String, String)]) -> Reply {
    let client: Uuid = value(form, "client_id").unwrap_or_default().parse().unwrap_or_default();
    let now = state.now();
    let azure = &mut *state.azure();
    let home = azure.home.to_string();
    // The resource is kept as a scope: the lab's directory deals with codes in that form.
    let asked = value(form, "scope").unwrap_or_default();
    let named = asked.split_whitespace().find(|scope| scope.ends_with("/.default")).map(str::to_owned);
    let resource = value(form, "resource").filter(|resource| !resource.is_empty());
    let scope = resource.map(|resource| format!("{resource}/.default")).or(named).unwrap_or_default();
    match azure.directory.device_start(&mut azure.draw, now, &home, client, &scope) {
        Err(error) => refused(error.status, error.error, &error.message),
        Ok((device, user)) => code_shown(state, &device, &user),
    }
}

fn token(state: &State, stamp: &StampState, base: &str, form: &[(String, String)]) -> Reply {
    let field = |name: &str| value(form, name).unwrap_or_default();
    let now = state.now();
    let client: Option<Uuid> = field("client_id").parse().ok();
    // `resource`, or a scope of the newer protocol that names it.
    let scope = field("scope").split_whitespace().find_map(|scope| scope.strip_suffix("/.default"));
    let asked = Some(field("resource")).filter(|resource| !resource.is_empty()).or(scope).unwrap_or_default();
    let (object_id, upn, resource) = match field("grant_type") {
        "client_credentials" => {
            let (known, secret, principal) = &stamp.operator;
            if client != Some(*known) {
                return refused(
                    400,
                    "invalid_client",
                    "MSIS9622: Client authentication failed: the client is not known.",
                );
            }
            if field("client_secret") != secret {
                return refused(
                    401,
                    "invalid_client",
                    "MSIS9622: Client authentication failed. Please verify the credential provided for client authentication is valid.",
                );
            }
            (*principal, None, asked.to_owned())
        }
        "device_code" | "urn:ietf:params:oauth:grant-type:device_code" => {
            let azure = &mut *state.azure();
            let code = value(form, "device_code").or_else(|| value(form, "code")).unwrap_or_default();
            match azure.directory.device_poll(&mut azure.draw, now, client.unwrap_or_default(), code) {
                Ok(grant) => (grant.object_id, grant.upn, grant.audience),
                Err(error) => return refused(error.status, error.error, &error.message),
            }
        }
        other => {
            return refused(
                400,
                "unsupported_grant_type",
                &format!("MSIS9611: The grant type '{other}' is not supported."),
            );
        }
    };
    if resource.trim_end_matches('/') != stamp.audience().trim_end_matches('/') {
        return refused(
            400,
            "invalid_resource",
            "MSIS9602: The received 'resource' parameter is invalid. The authorization server can not find a registered resource with the specified identifier.",
        );
    }
    let tenant = stamp.world().tenant;
    let seconds = now.as_second();
    let mut claims = json!({
        "aud": resource, "iss": base, "iat": seconds, "nbf": seconds, "exp": seconds + LIFE, "oid": object_id, "sub": object_id,
        "tid": tenant, "appid": client, "authmethod": "urn:oasis:names:tc:SAML:2.0:ac:classes:Password", "ver": "1.0",
    });
    if let Some(upn) = &upn {
        claims["upn"] = json!(upn);
    }
    let mut body = json!({
        "token_type": "bearer", "expires_in": LIFE, "resource": resource, "access_token": state.keys.tokens().sign(&claims, true),
    });
    if let Some(upn) = upn {
        let id = json!({
            "aud": client, "iss": base, "iat": seconds, "nbf": seconds, "exp": seconds + LIFE, "sub": object_id, "upn": upn,
            "unique_name": upn,
        });
        body["id_token"] = json!(state.keys.tokens().sign(&id, true));
    }
    http::json(200, &body)
}
