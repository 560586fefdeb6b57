//! The registration token as the lab's stamp writes it and the lab's Azure reads it.
//!
//! Apart from the client's own reading (`azsreg-model`) on purpose: what both ends share, both get wrong together.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// What Azure keeps of a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// All members, as sent.
    pub members: Map<String, Value>,
    /// The stamp.
    pub cloud_id: Uuid,
    /// The bridge's service principal; none in a disconnected token.
    pub object_id: Option<Uuid>,
    /// The model's name on the wire.
    pub billing_model: String,
}

/// Encodes members as a token.
#[must_use]
pub fn encode(members: &Value) -> String {
    BASE64_STANDARD.encode(members.to_string())
}

/// A token or a key's claims in a form that only this lab reads: what a newer service may hand out.
#[must_use]
pub fn seal(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes.iter().map(|byte| byte ^ 0xa5).collect::<Vec<_>>())
}

/// What was sealed; `None` where it is not base64.
#[must_use]
pub fn unseal(text: &str) -> Option<Vec<u8>> {
    Some(BASE64_STANDARD.decode(text).ok()?.into_iter().map(|byte| byte ^ 0xa5).collect())
}

/// Reads a token as strictly as the service does; `None` is `InvalidRegistrationToken`.
#[must_use]
pub fn decode(text: &str) -> Option<Token> {
    let plain = BASE64_STANDARD.decode(text).ok()?;
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).ok();
    let Value::Object(members) = read(&plain).or_else(|| read(&unseal(text)?))? else { return None };
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    if !["1.0", "3.0", "4.0", "6.0"].contains(&text("version")?) {
        return None;
    }
    let cloud_id = text("cloudId")?.parse().ok()?;
    let object_id = match text("objectId") {
        None | Some("") => None,
        Some(id) => Some(id.parse().ok()?),
    };
    let billing_model = text("billingModel")?.to_owned();
    if !["PayAsYouUse", "Capacity", "Development", "Custom", "Ruggedized"].contains(&billing_model.as_str()) {
        return None;
    }
    if !members.get("hardwareInfo")?.is_array() || members.get("marketplaceSyndicationEnabled")?.as_bool().is_none() {
        return None;
    }
    if billing_model == "Capacity" && text("agreementNumber").unwrap_or_default().is_empty() {
        return None;
    }
    Some(Token { cloud_id, object_id, billing_model, members })
}
