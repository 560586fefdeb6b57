//! The registration token: what the stamp hands out about itself (`facts-protocol.md` section 5).

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::BillingModel;
use crate::form::{UnknownForm, member, was_json};
use crate::key::parts;

/// A version of the token that has been seen: 2.0 and 5.0 never were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum TokenVersion {
    #[serde(rename = "1.0")]
    V1,
    #[serde(rename = "3.0")]
    V3,
    #[serde(rename = "4.0")]
    V4,
    #[serde(rename = "6.0")]
    V6,
}

impl TokenVersion {
    /// As argument and member.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "1.0",
            Self::V3 => "3.0",
            Self::V4 => "4.0",
            Self::V6 => "6.0",
        }
    }
}

impl fmt::Display for TokenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TokenVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::V1, Self::V3, Self::V4, Self::V6]
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| "expected one of 1.0, 3.0, 4.0, 6.0".into())
    }
}

/// A registration token, whole and secret.
#[derive(Clone)]
pub struct RegistrationToken(SecretString);

/// What a token says, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenContents {
    /// The stamp.
    pub cloud_id: Option<Uuid>,
    /// The bridge service principal's object id; absent in a disconnected token.
    pub object_id: Option<Uuid>,
    /// The billing model.
    pub billing_model: Option<BillingModel>,
    /// Whether marketplace syndication is asked for, where the token says.
    pub marketplace: Option<bool>,
    /// Whether usage reporting is asked for; absent in tokens of version 1.0.
    pub usage_reporting: Option<bool>,
    /// The agreement, where the token names one.
    pub agreement_number: Option<String>,
    /// The token's own version, as written.
    pub version: Option<String>,
    /// How many hosts it describes.
    pub hosts: Option<usize>,
    /// In what it differs from the forms that azsreg knows.
    pub unknown: Option<UnknownForm>,
}

/// What has happened to a token on its way.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum TokenError {
    /// Nothing there.
    #[error("the registration token is empty")]
    Empty,
    /// Cut, wrapped or otherwise mangled.
    #[error("the registration token is not base64 (character {0} is not of the alphabet, or its end is cut off)")]
    NotBase64(usize),
    /// Its JSON does not end, or something in the middle was lost.
    #[error("the registration token is cut or changed: what it holds begins as JSON and does not end so")]
    Broken,
}

impl RegistrationToken {
    /// Takes a token as the stamp gave it; white space around it is dropped.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(SecretString::from(text.trim().to_owned()))
    }

    /// The token's text, for the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// A digest for journals and logs.
    #[must_use]
    pub fn digest(&self) -> String {
        crate::digest(self.expose())
    }

    /// Reads the token, as far as azsreg knows its form: base64 of JSON, or the second part of a signed one.
    ///
    /// # Errors
    /// It was damaged on its way.
    pub fn decode(&self) -> Result<TokenContents, TokenError> {
        let text = self.expose();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        let bytes = match parts(text) {
            Some([_, payload, _]) => payload,
            None => BASE64_STANDARD.decode(text).map_err(|error| {
                TokenError::NotBase64(match error {
                    base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at + 1,
                    _ => text.len(),
                })
            })?,
        };
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let object = match serde_json::from_slice(bytes) {
            Ok(serde_json::Value::Object(object)) => object,
            Err(_) if was_json(bytes) => return Err(TokenError::Broken),
            _ => return Ok(TokenContents { unknown: Some(UnknownForm::NotJson), ..TokenContents::default() }),
        };
        let text = |name: &str| member(&object, name).and_then(|value| value.as_str());
        let flag = |name: &str| member(&object, name).and_then(serde_json::Value::as_bool);
        let version = text("version");
        let object_id = text("objectId").filter(|id| !id.is_empty());
        let mut contents = TokenContents {
            cloud_id: text("cloudId").and_then(|id| id.parse().ok()),
            object_id: object_id.and_then(|id| id.parse().ok()),
            billing_model: text("billingModel").and_then(|model| model.parse().ok()),
            marketplace: flag("marketplaceSyndicationEnabled"),
            usage_reporting: flag("usageReportingEnabled"),
            agreement_number: text("agreementNumber").map(str::to_owned),
            version: version.map(str::to_owned),
            hosts: member(&object, "hardwareInfo").and_then(|hosts| hosts.as_array()).map(Vec::len),
            unknown: None,
        };
        contents.unknown = match version {
            None => Some(UnknownForm::Member("version")),
            Some(other) if other.parse::<TokenVersion>().is_err() => Some(UnknownForm::Version(other.to_owned())),
            _ if contents.cloud_id.is_none() => Some(UnknownForm::Member("cloudId")),
            _ if contents.billing_model.is_none() => Some(UnknownForm::Member("billingModel")),
            _ if contents.object_id.is_none() && object_id.is_some() => Some(UnknownForm::Member("objectId")),
            _ => None,
        };
        Ok(contents)
    }
}

impl fmt::Debug for RegistrationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistrationToken(sha256:{})", self.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(json: &str) -> RegistrationToken {
        RegistrationToken::new(&BASE64_STANDARD.encode(json))
    }

    #[test]
    fn the_form_that_the_specification_shows_is_read() {
        let token = encode(
            r#"{"billingModel":"Development","objectId":"a0a5b4c3-1111-4222-8333-444455556666","cloudId":"b6f2c3d4-aaaa-4bbb-8ccc-ddddeeeeffff","marketplaceSyndicationEnabled":true,"hardwareInfo":[{"numCores":24,"bios":["0123456789abcdef0123456789abcdef"],"nic":[],"cpu":[],"disk":[],"memory":[],"name":"HC1u15a0212","uuid":"00000000-0000-0000-0000-ac1f6b000000"}],"issuer":"x","version":"1.0"}"#,
        );
        let contents = token.decode().unwrap();
        assert_eq!(contents.billing_model, Some(BillingModel::Development));
        assert_eq!(
            (contents.hosts, contents.usage_reporting, contents.version.as_deref()),
            (Some(1), None, Some("1.0"))
        );
        assert_eq!(contents.unknown, None);
    }

    #[test]
    fn damage_is_told_from_a_form_that_is_not_known() {
        let damage = |token: RegistrationToken| token.decode().unwrap_err();
        assert_eq!(damage(RegistrationToken::new(" ")), TokenError::Empty);
        assert_eq!(damage(RegistrationToken::new("ab*d")), TokenError::NotBase64(3));
        assert_eq!(damage(encode(r#"{"version":"6.0","clo"#)), TokenError::Broken);
        assert_eq!(damage(encode(r#"{"version":"6.0"}{"version":"6.0"}"#)), TokenError::Broken);
        // The first line is lost.
        assert_eq!(damage(encode(r#"ion":"6.0","cloudId":"x"}"#)), TokenError::Broken);
        let unknown = |json: &str| encode(json).decode().unwrap().unknown;
        for other in ["\u{1f}\u{8b}compressed", "[1]", "<token/>", "{binary"] {
            assert_eq!(unknown(other), Some(UnknownForm::NotJson), "{other}");
        }
        assert_eq!(unknown("{}"), Some(UnknownForm::Member("version")));
        assert_eq!(unknown(r#"{"version":"5.0"}"#), Some(UnknownForm::Version("5.0".into())));
        assert_eq!(unknown(r#"{"version":"4.0","cloudId":"x"}"#), Some(UnknownForm::Member("cloudId")));
    }

    #[test]
    fn what_can_be_read_of_an_unknown_form_is_read() {
        let json = r#"{"version":"7.0","cloudId":"b6f2c3d4-aaaa-4bbb-8ccc-ddddeeeeffff","billingModel":{"name":"Capacity"},"attestation":"x"}"#;
        let signed = |payload: &str| {
            let part = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
            RegistrationToken::new(&format!("{}.{}.{}", part(r#"{"alg":"RS256"}"#), part(payload), part("signature")))
        };
        for token in [encode(json), signed(json)] {
            let contents = token.decode().unwrap();
            assert_eq!(contents.cloud_id, Some("b6f2c3d4-aaaa-4bbb-8ccc-ddddeeeeffff".parse().unwrap()));
            assert_eq!((contents.billing_model, contents.hosts), (None, None));
            assert_eq!(contents.unknown, Some(UnknownForm::Version("7.0".into())));
        }
    }

    #[test]
    fn a_token_never_shows_itself() {
        assert_eq!(format!("{:?}", RegistrationToken::new("abc")).matches("abc").count(), 0);
    }
}
