//! What the lab's Azure speaks: HTTPS for signing in, Resource Manager and a small Graph.

pub(crate) mod arm;
mod authorization;
pub(crate) mod blobs;
pub(crate) mod commerce;
mod customers;
pub(crate) mod graph;
pub(crate) mod login;
pub(crate) mod portal;
pub(crate) mod products;
mod provider;
pub(crate) mod usage;

use serde_json::Value;
use uuid::Uuid;

use crate::http::Read;
use crate::keys;
use crate::lab::State;

/// Who calls, from a bearer token.
pub(crate) struct Caller {
    pub(crate) object_id: Uuid,
    pub(crate) tenant: Uuid,
    /// Whether it is a person.
    pub(crate) person: bool,
    /// The authentication contexts that the token proves.
    pub(crate) acrs: Vec<String>,
}

/// Why a bearer token was refused.
pub(crate) enum Refused {
    Missing,
    Invalid(&'static str),
    Expired,
}

/// Verifies the bearer token of a request: signature, issuer's time and audience.
pub(crate) fn caller(state: &State, request: &Read, audiences: &[&str]) -> Result<Caller, Refused> {
    let header = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header.is_empty() {
        return Err(Refused::Missing);
    }
    let token =
        header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, t)| t.trim());
    let Some(token) = token else { return Err(Refused::Invalid("The authentication scheme is not Bearer.")) };
    let jwks = serde_json::json!({"keys": [state.keys.tokens().jwk()]});
    let Some(claims) = keys::verify(token, &jwks) else {
        return Err(Refused::Invalid("The access token is invalid."));
    };
    let number = |name: &str| claims[name].as_i64().unwrap_or(0);
    let now = state.now().as_second();
    if number("exp") <= now {
        return Err(Refused::Expired);
    }
    if number("nbf") > now + 300 {
        return Err(Refused::Invalid("The access token is not valid yet."));
    }
    let audience = claims["aud"].as_str().unwrap_or_default().trim_end_matches('/');
    if !audiences.iter().any(|known| known.trim_end_matches('/') == audience) {
        return Err(Refused::Invalid("The access token has been obtained for wrong audience or resource."));
    }
    let id = |claims: &Value, name: &str| claims[name].as_str().and_then(|id| id.parse().ok());
    match (id(&claims, "oid"), id(&claims, "tid")) {
        (Some(object_id), Some(tenant)) => {
            let acrs = claims["acrs"].as_array().into_iter().flatten();
            let acrs = acrs.filter_map(|value| value.as_str().map(str::to_owned)).collect();
            Ok(Caller { object_id, tenant, person: claims["idtyp"] == "user", acrs })
        }
        _ => Err(Refused::Invalid("The access token has no subject.")),
    }
}
