//! Clouds that describe themselves, and which tenant a subscription is of.

use azsreg_model::{Cloud, Problem, code};
use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::address::{self, checked, same_origin};
use crate::error::ArmError;
use crate::http::{Body, Http, host_of};
use crate::login::is_tenant;
use crate::place::{Known, Place};

/// A custom cloud from its metadata (`wire-azure.md`, "Requests seen"): the newer form first, then that of 2015.
///
/// # Errors
/// The endpoint can't be reached or gives no metadata; it names an address that is not https, or what is known to be
/// another endpoint's.
pub async fn custom_cloud(http: &Http, endpoint: &str, known: &Known) -> Result<Cloud, ArmError> {
    let base = endpoint.trim_end_matches('/');
    let host = address::host(&checked(base, "the cloud's endpoint", http.allow_http())?);
    let mut last = None;
    for version in ["2022-09-01", "2015-01-01"] {
        let url = format!("{base}/metadata/endpoints?api-version={version}");
        let answer = http.call(Method::GET, &url, None, Body::None).await?;
        // Azure gives a list of clouds, a custom one itself. Of a list only the one of this endpoint counts.
        let own = |cloud: &Value| cloud["resourceManager"].as_str().is_some_and(|named| same_origin(named, base));
        let body = match answer.body {
            Value::Array(clouds) => clouds.into_iter().find(own).unwrap_or_default(),
            other => other,
        };
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let login = text("/authentication/loginEndpoint");
        let audience = text("/authentication/audiences/0");
        if let (true, Some(login), Some(audience)) = (answer.status.is_success(), login, audience) {
            // Which tenant to sign in to is asked for by the subscription, not by the cloud.
            let (authority, _) = authority(login, &host, http.allow_http())?;
            let graph = text("/microsoftGraphResourceId").unwrap_or_default().trim_end_matches('/').to_owned();
            if !graph.is_empty() {
                checked(&graph, &format!("the Graph that {host} names"), http.allow_http())?;
            }
            let cloud = Cloud {
                name: "CustomCloud".into(),
                arm_endpoint: base.to_owned(),
                authority,
                audience: audience.to_owned(),
                graph,
                default_location: "westcentralus".into(),
            };
            known.check(&Place::from(&cloud))?;
            return Ok(cloud);
        }
        last = Some(answer.status);
    }
    Err(ArmError::Unreadable {
        host: host_of(endpoint),
        reason: format!("it is not the metadata of a cloud (HTTP status {})", last.map_or(0, |status| status.as_u16())),
    })
}

/// An authority as metadata of `host` names it, without a slash at the end, and the tenant that stands in its path, where one
/// does. What is more than an address is refused.
pub(crate) fn authority(login: &str, host: &str, allow_http: bool) -> Result<(String, Option<String>), ArmError> {
    let what = format!("the login endpoint that {host} names");
    let url = checked(login, &what, allow_http)?;
    let segments: Vec<&str> = url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty()).collect();
    if url.query().is_some() || url.fragment().is_some() || !segments.iter().all(|segment| is_tenant(segment)) {
        let message = format!("{what} is more than an address");
        return Err(Problem::new(&code::ADDRESS_REFUSED, message).into());
    }
    let whole = || url.as_str().trim_end_matches('/').to_owned();
    Ok(match segments[..] {
        // AD FS has no tenants: what its address ends with is part of it.
        [.., last] if last.eq_ignore_ascii_case("adfs") => (whole(), None),
        [tenant] => (url.origin().ascii_serialization(), Some(tenant.to_owned())),
        _ => (whole(), None),
    })
}

/// The tenant of a subscription: who asks without a token is told where to sign in.
///
/// # Errors
/// Azure can't be reached.
pub async fn tenant_of_subscription(
    http: &Http,
    cloud: &Cloud,
    subscription: Uuid,
) -> Result<Option<String>, ArmError> {
    let url = format!("{}/subscriptions/{subscription}?api-version=2022-12-01", cloud.arm_endpoint);
    let answer = http.call(Method::GET, &url, None, Body::None).await?;
    let status = answer.status.as_u16();
    if status == 429 || status >= 500 {
        return Err(ArmError::Refused {
            status,
            code: format!("HTTP {status}"),
            message: String::new(),
            request_id: answer.header("x-ms-request-id").map(str::to_owned),
            retry_after: answer.retry_after(),
        });
    }
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    let uri = challenge.split("authorization_uri=\"").nth(1).and_then(|rest| rest.split('"').next());
    // `https://login.example/{tenant}`, perhaps with more behind it.
    let tenant = uri.and_then(|uri| uri.split("://").nth(1)?.split('/').nth(1));
    Ok(tenant.filter(|tenant| is_tenant(tenant)).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_in_the_path_is_no_part_of_the_authority() {
        for (login, place, tenant) in [
            ("https://login.example", "https://login.example", None),
            ("https://login.example/", "https://login.example", None),
            ("https://login.example/common", "https://login.example", Some("common")),
            ("https://login.example:8443/contoso.example/", "https://login.example:8443", Some("contoso.example")),
            ("https://adfs.local.example/adfs/", "https://adfs.local.example/adfs", None),
        ] {
            let split = authority(login, "host", false).unwrap();
            assert_eq!(split, (place.to_owned(), tenant.map(str::to_owned)), "{login}");
        }
        assert!(authority("https://login.example/?to=x", "host", false).is_err());
    }
}
