//! Signing in: discovery, tokens, device codes with their approval page, authorisation codes.

use azsreg_portal::azure::{Entered, device};
use azsreg_portal::{Answer, is_loopback};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use hyper::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::http::{self, Read, Reply, header, pairs, text, value};
use crate::keys;
use crate::lab::State;
use crate::world::directory::{AuthorizeRequest, Directory, Grant, GrantError, contexts};

/// How long an access token lives, in seconds.
const LIFE: i64 = 3_599;

pub(crate) fn handle(state: &State, request: &Read) -> Reply {
    let segments = http::segments(request.uri().path());
    let parts: Vec<String> = segments.iter().map(|s| s.to_ascii_lowercase()).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let tenant = segments.first().map(String::as_str).unwrap_or_default();
    let method = request.method().as_str();
    match (method, &parts[..]) {
        ("GET", ["common", "discovery", "instance"]) => http::json(
            200,
            &json!({"tenant_discovery_endpoint": format!("{}/organizations/v2.0/.well-known/openid-configuration", state.urls().authority), "metadata": []}),
        ),
        ("GET", [_, "v2.0", ".well-known", "openid-configuration"])
        | ("GET", [_, ".well-known", "openid-configuration"]) => discovery(state, tenant),
        ("GET", [_, "discovery", "v2.0", "keys"]) => http::json(200, &json!({"keys": [state.keys.tokens().jwk()]})),
        ("POST", [_, "oauth2", "v2.0", "devicecode"]) => device_code(state, tenant, request),
        ("POST", [_, "oauth2", "v2.0", "token"]) => token(state, tenant, request),
        ("GET", [_, "oauth2", "v2.0", "authorize"]) => authorize(state, tenant, request),
        ("GET", ["activation-keys"]) => http::json(200, &json!({"keys": [state.keys.activation().jwk()]})),
        // A person's page, under this machine's own names alone, as the portals.
        (_, ["devicelogin"]) if !is_ours(request) => {
            http::paged(request, Answer::refused(421, "This is not the address of this page."))
        }
        ("GET", ["devicelogin"]) => page(state, request, Entered::Nothing),
        ("POST", ["devicelogin"]) => approve(state, request),
        ("GET", [asset @ ("style.css" | "script.js")]) => match Answer::asset(&format!("/{asset}")) {
            Some(asset) => http::paged(request, asset),
            None => text(StatusCode::NOT_FOUND, ""),
        },
        (_, [_, "oauth2", "v2.0", _]) => text(StatusCode::METHOD_NOT_ALLOWED, ""),
        _ => text(StatusCode::NOT_FOUND, ""),
    }
}

fn discovery(state: &State, segment: &str) -> Reply {
    let azure = state.azure();
    let authority = &state.urls().authority;
    let tenant = match azure.directory.tenant(segment) {
        Ok(Some(tenant)) => tenant.id.to_string(),
        Ok(None) => "{tenantid}".into(),
        Err(error) => return refusal(state, &error),
    };
    http::json(
        200,
        &json!({
            "issuer": format!("{authority}/{tenant}/v2.0"),
            "authorization_endpoint": format!("{authority}/{segment}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{authority}/{segment}/oauth2/v2.0/token"),
            "device_authorization_endpoint": format!("{authority}/{segment}/oauth2/v2.0/devicecode"),
            "jwks_uri": format!("{authority}/{segment}/discovery/v2.0/keys"),
            "response_types_supported": ["code", "id_token", "code id_token"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "tenant_region_scope": null,
            "cloud_instance_name": "azsreg-lab.invalid",
        }),
    )
}

fn refusal(state: &State, error: &GrantError) -> Reply {
    let (trace, correlation) = (Uuid::new_v4(), Uuid::new_v4());
    let stamp = state.now().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let mut body = json!({
        "error": error.error,
        "error_description": format!("AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}", error.number, error.message),
        "error_codes": [error.number],
        "timestamp": stamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("{}/error?code={}", state.urls().authority, error.number),
    });
    if let Some(suberror) = error.suberror {
        body["suberror"] = json!(suberror);
    }
    if let Some(claims) = &error.claims {
        body["claims"] = json!(claims);
    }
    http::json(error.status, &body)
}

fn form(request: &Read) -> Vec<(String, String)> {
    pairs(&String::from_utf8_lossy(request.body()))
}

fn client_of(form: &[(String, String)]) -> Result<Uuid, GrantError> {
    let id = value(form, "client_id").unwrap_or_default();
    id.parse().map_err(|_| GrantError {
        status: 400,
        error: "unauthorized_client",
        number: if id.is_empty() { 900_144 } else { 700_016 },
        message: format!("Application with identifier '{id}' was not found in the directory."),
        suberror: None,
        claims: None,
    })
}

fn device_code(state: &State, tenant: &str, request: &Read) -> Reply {
    let form = form(request);
    let scope = value(&form, "scope").unwrap_or_default().to_owned();
    let now = state.now();
    let azure = &mut *state.azure();
    let started =
        client_of(&form).and_then(|client| azure.directory.device_start(&mut azure.draw, now, tenant, client, &scope));
    match started {
        Err(error) => refusal(state, &error),
        Ok((device, user)) => {
            azure.directory.device_asks(&device, contexts(value(&form, "claims").unwrap_or_default()));
            code_shown(state, &device, &user)
        }
    }
}

fn token(state: &State, tenant: &str, request: &Read) -> Reply {
    let form = form(request);
    match granted(state, tenant, &form) {
        Ok(grant) => http::json(200, &answer(state, &grant)),
        Err(error) => refusal(state, &error),
    }
}

fn granted(state: &State, tenant: &str, form: &[(String, String)]) -> Result<Grant, GrantError> {
    let field = |name: &str| value(form, name).unwrap_or_default();
    let scope = field("scope");
    let now = state.now();
    let azure = &mut *state.azure();
    azure.directory.tenant(tenant)?;
    let client = client_of(form)?;
    match field("grant_type") {
        "client_credentials" => {
            let assertion = field("client_assertion");
            if assertion.is_empty() {
                return azure.directory.by_secret(tenant, client, field("client_secret"), scope);
            }
            let certificates = azure.directory.certificates(tenant, client)?;
            let claims = certificates
                .iter()
                .find_map(|certificate| keys::verify_with_certificate(assertion, certificate))
                .ok_or_else(|| Directory::bad_assertion("Alternatively, the signature is not valid."))?;
            let named = |name: &str| claims[name].as_str().unwrap_or_default();
            let audience = format!("{}/{tenant}/", state.urls().authority);
            if named("iss") != client.to_string() || !named("aud").starts_with(&audience) {
                return Err(Directory::bad_assertion("The assertion's issuer or audience is not right."));
            }
            if claims["exp"].as_i64().unwrap_or(0) <= now.as_second() {
                return Err(Directory::bad_assertion("The assertion has expired."));
            }
            azure.directory.by_certificate(tenant, client, scope)
        }
        "refresh_token" => {
            let (given, acrs) = (field("refresh_token"), contexts(field("claims")));
            azure.directory.check_contexts(given, &acrs)?;
            let factor = azure.directory.has_factor(given);
            let grant = azure.directory.by_refresh_token(&mut azure.draw, tenant, client, given, scope)?;
            Ok(azure.directory.with_contexts(grant, acrs, factor))
        }
        "device_code" | "urn:ietf:params:oauth:grant-type:device_code" => {
            let code = value(form, "device_code").or_else(|| value(form, "code")).unwrap_or_default();
            azure.directory.device_poll(&mut azure.draw, now, client, code)
        }
        "authorization_code" => {
            let challenge = value(form, "code_verifier")
                .map(|verifier| BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())));
            azure.directory.by_code(
                &mut azure.draw,
                now,
                client,
                field("code"),
                field("redirect_uri"),
                challenge.as_deref(),
            )
        }
        other => Err(GrantError {
            status: 400,
            error: "unsupported_grant_type",
            number: 70_003,
            message: format!("The app requested an unsupported grant type '{other}'."),
            suberror: None,
            claims: None,
        }),
    }
}

fn answer(state: &State, grant: &Grant) -> Value {
    let now = state.now().as_second();
    let authority = &state.urls().authority;
    let mut claims = json!({
        "aud": grant.audience, "iss": format!("{authority}/{}/v2.0", grant.tenant), "iat": now, "nbf": now, "exp": now + LIFE,
        "tid": grant.tenant, "oid": grant.object_id, "sub": grant.object_id, "appid": grant.client, "ver": "1.0",
        "idtyp": if grant.upn.is_some() { "user" } else { "app" }, "uti": Uuid::new_v4(),
    });
    if let Some(upn) = &grant.upn {
        claims["upn"] = json!(upn);
        claims["scp"] = json!("user_impersonation");
        claims["amr"] = if grant.factor { json!(["pwd", "mfa"]) } else { json!(["pwd"]) };
        if !grant.acrs.is_empty() {
            claims["acrs"] = json!(grant.acrs);
        }
    }
    let key = state.keys.tokens();
    let mut body = json!({
        "token_type": "Bearer", "expires_in": LIFE, "ext_expires_in": LIFE, "access_token": key.sign(&claims, true),
    });
    if let Some(upn) = &grant.upn {
        body["scope"] = json!(grant.scope);
        body["client_info"] =
            json!(BASE64_URL_SAFE_NO_PAD.encode(json!({"uid": grant.object_id, "utid": grant.home}).to_string()));
        if let Some(nonce) = &grant.id_token {
            let mut id = json!({
                "aud": grant.client, "iss": format!("{authority}/{}/v2.0", grant.tenant), "iat": now, "nbf": now, "exp": now + LIFE,
                "name": "Lab Operator", "preferred_username": upn, "oid": grant.object_id, "sub": grant.object_id, "tid": grant.tenant, "ver": "2.0",
            });
            if let Some(nonce) = nonce {
                id["nonce"] = json!(nonce);
            }
            body["id_token"] = json!(key.sign(&id, true));
        }
    }
    if let Some(refresh) = &grant.refresh_token {
        body["refresh_token"] = json!(refresh);
    }
    body
}

fn authorize(state: &State, tenant: &str, request: &Read) -> Reply {
    let query = pairs(request.uri().query().unwrap_or_default());
    let field = |name: &str| value(&query, name).map(str::to_owned);
    let asked = AuthorizeRequest {
        client: field("client_id").and_then(|id| id.parse().ok()),
        redirect: field("redirect_uri").unwrap_or_default(),
        scope: field("scope").unwrap_or_default(),
        challenge: field("code_challenge"),
        challenge_method: field("code_challenge_method"),
        nonce: field("nonce"),
        acrs: contexts(&field("claims").unwrap_or_default()),
    };
    let redirect = asked.redirect.clone();
    let now = state.now();
    let azure = &mut *state.azure();
    let user = azure.operator;
    match azure.directory.authorize(&mut azure.draw, now, tenant, user, asked) {
        Err(error) => refusal(state, &error),
        Ok(code) => {
            let encode = |text: &str| {
                percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
            };
            let mut target =
                format!("{redirect}{}code={}", if redirect.contains('?') { '&' } else { '?' }, encode(&code));
            if let Some(state) = field("state") {
                target.push_str(&format!("&state={}", encode(&state)));
            }
            let mut reply = text(StatusCode::FOUND, "");
            header(&mut reply, "location", &target);
            reply
        }
    }
}

fn page(state: &State, request: &Read, entered: Entered<'_>) -> Reply {
    let directory = state.azure().domain.clone();
    http::paged(request, device(state.now(), &directory, entered))
}

fn is_ours(request: &Read) -> bool {
    request.headers().get("host").and_then(|host| host.to_str().ok()).is_some_and(is_loopback)
}

fn approve(state: &State, request: &Read) -> Reply {
    // A page of another site must not approve for the operator.
    let origin = request.headers().get("origin").and_then(|o| o.to_str().ok());
    if origin.is_some_and(|origin| origin != state.urls().authority) {
        return text(StatusCode::FORBIDDEN, "");
    }
    let form = form(request);
    let code = value(&form, "code").unwrap_or_default();
    let yes = value(&form, "do") != Some("decline");
    let now = state.now();
    let known = {
        let azure = &mut *state.azure();
        let user = azure.operator;
        azure.directory.device_decide(now, code, user, yes)
    };
    let entered = match (known, yes) {
        (false, _) => Entered::Wrong(code),
        (true, true) => Entered::Approved,
        (true, false) => Entered::Declined,
    };
    page(state, request, entered)
}

/// What a client that signs in with a code shows its person; the page is the lab's own for either directory.
pub(crate) fn code_shown(state: &State, device: &str, user: &str) -> Reply {
    let url = format!("{}/devicelogin", state.urls().authority);
    http::json(
        200,
        &json!({
            "user_code": user, "device_code": device, "verification_uri": url, "expires_in": 900,
            "interval": state.options.device_code_interval,
            "message": format!("To sign in, use a web browser to open the page {url} and enter the code {user} to authenticate."),
        }),
    )
}
