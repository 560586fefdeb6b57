//! The activation key: what Azure hands out for a registration (`facts-protocol.md` section 6).
//!
//! A compact JWS. We decode it and compare; the signature is the stamp's to verify.

use std::fmt;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use thiserror::Error;
use uuid::Uuid;

use crate::RegistrationId;

/// An activation key, whole and secret.
#[derive(Clone)]
pub struct ActivationKey(SecretString);

/// What a key says, as far as azsreg compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationClaims {
    /// The stamp that it is for.
    pub cloud_id: Uuid,
    /// The registration that it comes from.
    pub registration: RegistrationId,
    /// Until when it is good; 9999-12-30 stands for always.
    pub expires: Timestamp,
    /// The billing model, as written, where the key says.
    pub billing_model: Option<String>,
    /// Whether usage reporting is on, where the key says.
    pub usage_reporting: Option<bool>,
    /// Whether marketplace syndication is on, where the key says.
    pub marketplace: Option<bool>,
    /// How many hosts were registered, where the key lists them.
    pub hosts: Option<usize>,
}

/// Which part of a key is wrong.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Nothing there.
    #[error("the activation key is empty")]
    Empty,
    /// Cut or otherwise mangled.
    #[error("the activation key is not of the form header.payload.signature, each part base64url")]
    Form,
    /// Not the algorithm that the stamp verifies.
    #[error("the activation key is signed with {0:?} instead of RS256")]
    Algorithm(String),
    /// A member is absent or of the wrong form.
    #[error("the activation key's member {0:?} is missing or malformed")]
    Member(&'static str),
    /// It is for another stamp.
    #[error("the activation key is for the stamp with cloud id {found}, not {expected}")]
    CloudId {
        /// The key's.
        found: Uuid,
        /// The stamp's.
        expected: Uuid,
    },
    /// It comes from another registration.
    #[error("the activation key comes from {found}, not from {expected}")]
    Registration {
        /// The key's.
        found: String,
        /// The one asked for.
        expected: String,
    },
    /// Its time is over.
    #[error("the activation key expired at {0}")]
    Expired(Timestamp),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    subscription_id: Option<String>,
    resource_group_name: Option<String>,
    registration_name: Option<String>,
    cloud_id: Option<String>,
    expires: Option<String>,
    billing_model: Option<String>,
    usage_reporting_enabled: Option<bool>,
    marketplace_syndication_enabled: Option<bool>,
    hardware_info: Option<Vec<serde::de::IgnoredAny>>,
}

impl ActivationKey {
    /// Takes a key as Azure gave it; white space around it is dropped.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(SecretString::from(text.trim().to_owned()))
    }

    /// The key's text, for the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// A digest for journals and logs.
    #[must_use]
    pub fn digest(&self) -> String {
        crate::digest(self.expose())
    }

    /// Decodes the key without verifying its signature.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn decode(&self) -> Result<ActivationClaims, KeyError> {
        if self.expose().is_empty() {
            return Err(KeyError::Empty);
        }
        let parts = self
            .expose()
            .split('.')
            .map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| KeyError::Form))
            .collect::<Result<Vec<_>, _>>()?;
        let [header, payload, signature] = &parts[..] else { return Err(KeyError::Form) };
        let header: Header = serde_json::from_slice(header).map_err(|_| KeyError::Form)?;
        if header.alg != "RS256" {
            return Err(KeyError::Algorithm(header.alg));
        }
        if signature.is_empty() {
            return Err(KeyError::Form);
        }
        let payload: Payload = serde_json::from_slice(payload).map_err(|_| KeyError::Form)?;
        let guid = |name: &'static str, text: Option<String>| {
            text.and_then(|text| text.parse::<Uuid>().ok()).ok_or(KeyError::Member(name))
        };
        let filled = |name, text: Option<String>| text.filter(|text| !text.is_empty()).ok_or(KeyError::Member(name));
        Ok(ActivationClaims {
            cloud_id: guid("cloudId", payload.cloud_id)?,
            registration: RegistrationId {
                subscription: guid("subscriptionId", payload.subscription_id)?,
                resource_group: filled("resourceGroupName", payload.resource_group_name)?,
                name: filled("registrationName", payload.registration_name)?,
            },
            expires: payload.expires.and_then(|text| parse_expiry(&text)).ok_or(KeyError::Member("expires"))?,
            billing_model: payload.billing_model,
            usage_reporting: payload.usage_reporting_enabled,
            marketplace: payload.marketplace_syndication_enabled,
            hosts: payload.hardware_info.map(|hosts| hosts.len()),
        })
    }

    /// Decodes the key and compares it with the stamp, the registration and the time.
    ///
    /// # Errors
    /// Which part is wrong or does not match.
    pub fn check(
        &self,
        cloud_id: Uuid,
        registration: &RegistrationId,
        now: Timestamp,
    ) -> Result<ActivationClaims, KeyError> {
        let claims = self.decode()?;
        if claims.cloud_id != cloud_id {
            return Err(KeyError::CloudId { found: claims.cloud_id, expected: cloud_id });
        }
        if claims.registration != *registration {
            return Err(KeyError::Registration {
                found: claims.registration.to_string(),
                expected: registration.to_string(),
            });
        }
        if claims.expires <= now {
            return Err(KeyError::Expired(claims.expires));
        }
        Ok(claims)
    }
}

/// An expiry as keys and records write it: with or without `Z`, and up to the year 9999, where a time zone's offset
/// may pass the end of the calendar.
pub(crate) fn parse_expiry(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let civil: jiff::civil::DateTime = text.trim_end_matches('Z').parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).map_or(Timestamp::MAX, |zoned| zoned.timestamp()))
}

impl fmt::Debug for ActivationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActivationKey(sha256:{})", self.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(header: &str, payload: &str) -> ActivationKey {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        ActivationKey::new(&format!("{}.{}.{}\r\n", part(header), part(payload), part("signature")))
    }

    const PAYLOAD: &str = r#"{"subscriptionId":"11111111-1111-4111-8111-111111111111","resourceGroupName":"azurestack","registrationName":"r1","cloudId":"22222222-2222-4222-8222-222222222222","expires":"9999-12-30T23:59:59.9999999Z"}"#;

    #[test]
    fn a_key_is_compared_part_by_part() {
        let key = key(r#"{"kid":"0","alg":"RS256"}"#, PAYLOAD);
        let cloud = "22222222-2222-4222-8222-222222222222".parse().unwrap();
        let id: RegistrationId =
            "/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/AzureStack/providers/microsoft.azurestack/registrations/R1"
                .parse()
                .unwrap();
        let now = "2026-11-22T00:00:00Z".parse().unwrap();
        assert!(key.check(cloud, &id, now).is_ok(), "ids compare without case");
        assert!(matches!(key.check(Uuid::nil(), &id, now), Err(KeyError::CloudId { .. })));
        let other = RegistrationId { name: "r2".into(), ..id.clone() };
        assert!(matches!(key.check(cloud, &other, now), Err(KeyError::Registration { .. })));
        assert!(matches!(key.check(cloud, &id, Timestamp::MAX), Err(KeyError::Expired(_))));
    }

    #[test]
    fn each_defect_has_its_name() {
        assert_eq!(ActivationKey::new("").decode(), Err(KeyError::Empty));
        assert_eq!(ActivationKey::new("a.b").decode(), Err(KeyError::Form));
        assert_eq!(key(r#"{"alg":"none"}"#, PAYLOAD).decode(), Err(KeyError::Algorithm("none".into())));
        assert_eq!(key(r#"{"alg":"RS256"}"#, "{}").decode(), Err(KeyError::Member("cloudId")));
    }
}
