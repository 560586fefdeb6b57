//! The activation key: what Azure hands out for a registration (`facts-protocol.md` section 6).
//!
//! A compact JWS. We decode it and compare; the signature is the stamp's to verify.

use std::fmt;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::RegistrationId;
use crate::form::{UnknownForm, member, was_json};

/// An activation key, whole and secret.
#[derive(Clone)]
pub struct ActivationKey(SecretString);

/// What a key says, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActivationClaims {
    /// The stamp that it is for.
    pub cloud_id: Option<Uuid>,
    /// The subscription of the registration that it comes from.
    pub subscription: Option<Uuid>,
    /// The registration's resource group.
    pub resource_group: Option<String>,
    /// The registration's name.
    pub name: Option<String>,
    /// Until when it is good; 9999-12-30 stands for always.
    pub expires: Option<Timestamp>,
    /// The billing model, as written, where the key says.
    pub billing_model: Option<String>,
    /// Whether usage reporting is on, where the key says.
    pub usage_reporting: Option<bool>,
    /// Whether marketplace syndication is on, where the key says.
    pub marketplace: Option<bool>,
    /// How many hosts were registered, where the key lists them.
    pub hosts: Option<usize>,
    /// In what it differs from the forms that azsreg knows.
    pub unknown: Option<UnknownForm>,
}

impl ActivationClaims {
    /// The registration that it comes from, where the key says all of it.
    #[must_use]
    pub fn registration(&self) -> Option<RegistrationId> {
        Some(RegistrationId {
            subscription: self.subscription?,
            resource_group: self.resource_group.clone()?,
            name: self.name.clone()?,
        })
    }
}

/// What has happened to a key on its way, or what it contradicts.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Nothing there.
    #[error("the activation key is empty")]
    Empty,
    /// Cut or otherwise mangled.
    #[error("the activation key is not of the form header.payload.signature, each part base64url")]
    Form,
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

/// The parts of a compact JWS, decoded; none where it is not one.
pub(crate) fn parts(text: &str) -> Option<[Vec<u8>; 3]> {
    let parts = text.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok()).collect::<Option<Vec<_>>>()?;
    let parts: [Vec<u8>; 3] = parts.try_into().ok()?;
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
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

    /// Reads the key, as far as azsreg knows its form; its signature is not verified.
    ///
    /// # Errors
    /// It was damaged on its way.
    pub fn decode(&self) -> Result<ActivationClaims, KeyError> {
        if self.expose().is_empty() {
            return Err(KeyError::Empty);
        }
        let [header, payload, _] = parts(self.expose()).ok_or(KeyError::Form)?;
        let object = |bytes: &[u8]| match serde_json::from_slice(bytes) {
            Ok(Value::Object(object)) => Ok(Some(object)),
            Err(_) if was_json(bytes) => Err(KeyError::Form),
            _ => Ok(None),
        };
        // A header that can't be read is no reason not to compare what the key says.
        let header = object(&header)?;
        let Some(payload) = object(&payload)? else {
            return Ok(ActivationClaims { unknown: Some(UnknownForm::NotJson), ..ActivationClaims::default() });
        };
        let text = |name: &str| member(&payload, name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let flag = |name: &str| member(&payload, name).and_then(Value::as_bool);
        let mut claims = ActivationClaims {
            cloud_id: text("cloudId").and_then(|id| id.parse().ok()),
            subscription: text("subscriptionId").and_then(|id| id.parse().ok()),
            resource_group: text("resourceGroupName").map(str::to_owned),
            name: text("registrationName").map(str::to_owned),
            expires: text("expires").and_then(parse_expiry),
            billing_model: text("billingModel").map(str::to_owned),
            usage_reporting: flag("usageReportingEnabled"),
            marketplace: flag("marketplaceSyndicationEnabled"),
            hosts: member(&payload, "hardwareInfo").and_then(Value::as_array).map(Vec::len),
            unknown: None,
        };
        let algorithm = header.as_ref().map(|header| member(header, "alg").and_then(Value::as_str));
        claims.unknown = match algorithm {
            None => Some(UnknownForm::NotJson),
            Some(None) => Some(UnknownForm::Member("alg")),
            Some(Some("RS256")) => None,
            Some(Some(other)) => Some(UnknownForm::Algorithm(other.to_owned())),
        }
        .or_else(|| {
            let known = [
                ("cloudId", claims.cloud_id.is_some()),
                ("subscriptionId", claims.subscription.is_some()),
                ("resourceGroupName", claims.resource_group.is_some()),
                ("registrationName", claims.name.is_some()),
                ("expires", claims.expires.is_some()),
            ];
            known.into_iter().find(|(_, known)| !known).map(|(name, _)| UnknownForm::Member(name))
        });
        Ok(claims)
    }

    /// Reads the key and compares what can be read with the stamp, the registration and the time.
    ///
    /// # Errors
    /// It was damaged on its way, or does not match.
    pub fn check(
        &self,
        cloud_id: Uuid,
        registration: &RegistrationId,
        now: Timestamp,
    ) -> Result<ActivationClaims, KeyError> {
        let claims = self.decode()?;
        if let Some(found) = claims.cloud_id.filter(|found| *found != cloud_id) {
            return Err(KeyError::CloudId { found, expected: cloud_id });
        }
        let read = RegistrationId {
            subscription: claims.subscription.unwrap_or(registration.subscription),
            resource_group: claims.resource_group.clone().unwrap_or_else(|| registration.resource_group.clone()),
            name: claims.name.clone().unwrap_or_else(|| registration.name.clone()),
        };
        if read != *registration {
            return Err(KeyError::Registration { found: read.to_string(), expected: registration.to_string() });
        }
        if let Some(over) = claims.expires.filter(|end| *end <= now) {
            return Err(KeyError::Expired(over));
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
    fn damage_is_told_from_a_form_that_is_not_known() {
        const RS256: &str = r#"{"alg":"RS256"}"#;
        assert_eq!(ActivationKey::new("").decode(), Err(KeyError::Empty));
        for damaged in [ActivationKey::new("a.b"), ActivationKey::new("YQ.YQ."), key(RS256, r#"{"cloudId":"222"#)] {
            assert_eq!(damaged.decode(), Err(KeyError::Form));
        }
        let unknown = |header: &str, payload: &str| key(header, payload).decode().unwrap().unknown;
        assert_eq!(unknown(r#"{"alg":"PS256"}"#, PAYLOAD), Some(UnknownForm::Algorithm("PS256".into())));
        assert_eq!(unknown("{}", PAYLOAD), Some(UnknownForm::Member("alg")));
        assert_eq!(unknown(RS256, "{}"), Some(UnknownForm::Member("cloudId")));
        assert_eq!(unknown(RS256, "encrypted"), Some(UnknownForm::NotJson));
        assert_eq!(unknown("encrypted", PAYLOAD), Some(UnknownForm::NotJson));
        assert_eq!(unknown(RS256, PAYLOAD), None);
    }

    #[test]
    fn what_can_be_read_of_an_unknown_form_is_compared() {
        let id = RegistrationId { subscription: Uuid::nil(), resource_group: "g".into(), name: "r1".into() };
        let check = |payload: &str| key(r#"{"alg":"ES384"}"#, payload).check(Uuid::nil(), &id, Timestamp::UNIX_EPOCH);
        assert!(check(r#"{"registrationName":"R1","expires":{"never":true}}"#).is_ok());
        assert!(matches!(check(r#"{"registrationName":"r2"}"#), Err(KeyError::Registration { .. })));
        assert!(matches!(
            check(r#"{"cloudId":"22222222-2222-4222-8222-222222222222"}"#),
            Err(KeyError::CloudId { .. })
        ));
        assert!(matches!(check(r#"{"expires":"1969-12-30T23:59:59Z"}"#), Err(KeyError::Expired(_))));
        // Also where the header is not to be read; cut at its front it is damaged.
        let without = key("encrypted", r#"{"registrationName":"r2"}"#);
        assert!(matches!(without.check(Uuid::nil(), &id, Timestamp::UNIX_EPOCH), Err(KeyError::Registration { .. })));
        assert_eq!(key(r#"lg":"RS256"}"#, PAYLOAD).decode(), Err(KeyError::Form));
    }
}
