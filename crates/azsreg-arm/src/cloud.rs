//! Clouds that describe themselves, and which tenant a subscription is of.

use azsreg_model::Cloud;
use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::error::ArmError;
use crate::http::{Body, Http, host_of};

/// A custom cloud from its metadata (`wire-azure.md`, "Requests seen"): the newer form first, then that of 2015.
///
/// # Errors
/// The endpoint can't be reached or gives no metadata.
pub async fn custom_cloud(http: &Http, endpoint: &str) -> Result<Cloud, ArmError> {
    let base = endpoint.trim_end_matches('/');
    let mut last = None;
    for version in ["2022-09-01", "2015-01-01"] {
        let url = format!("{base}/metadata/endpoints?api-version={version}");
        let answer = http.call(Method::GET, &url, None, Body::None).await?;
        // Azure gives a list of clouds, a custom one itself.
        let body = match answer.body {
            Value::Array(mut clouds) if !clouds.is_empty() => clouds.swap_remove(0),
            other => other,
        };
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let login = text("/authentication/loginEndpoint");
        let audience = text("/authentication/audiences/0");
        if let (true, Some(login), Some(audience)) = (answer.status.is_success(), login, audience) {
            return Ok(Cloud {
                name: "CustomCloud".into(),
                arm_endpoint: base.to_owned(),
                authority: login.trim_end_matches('/').to_owned(),
                audience: audience.to_owned(),
                graph: text("/microsoftGraphResourceId").unwrap_or_default().trim_end_matches('/').to_owned(),
                default_location: "westcentralus".into(),
            });
        }
        last = Some(answer.status);
    }
    Err(ArmError::Unreadable {
        host: host_of(endpoint),
        reason: format!("it is not the metadata of a cloud (HTTP status {})", last.map_or(0, |status| status.as_u16())),
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
    Ok(tenant.filter(|tenant| !tenant.is_empty()).map(str::to_owned))
}
