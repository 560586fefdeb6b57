//! The registration token: what the stamp hands out about itself (`facts-protocol.md` section 5).

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::BillingModel;

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

/// What a token says, as far as azsreg has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenContents {
    /// The stamp.
    pub cloud_id: Uuid,
    /// The bridge service principal's object id; absent in a disconnected token.
    pub object_id: Option<Uuid>,
    /// The billing model.
    pub billing_model: BillingModel,
    /// Whether marketplace syndication is asked for, where the token says.
    pub marketplace: Option<bool>,
    /// Whether usage reporting is asked for; absent in tokens of version 1.0.
    pub usage_reporting: Option<bool>,
    /// The agreement, where the token names one.
    pub agreement_number: Option<String>,
    /// The token's own version, as written.
    pub version: String,
    /// How many hosts it describes; 0 where it describes none.
    pub hosts: usize,
}

/// Which part of a token is wrong.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum TokenError {
    /// Nothing there.
    #[error("the registration token is empty")]
    Empty,
    /// Cut, wrapped or otherwise mangled.
    #[error("the registration token is not base64 (character {0} is not of the alphabet, or its end is cut off)")]
    NotBase64(usize),
    /// Base64 of something else.
    #[error("the registration token is not base64 of JSON")]
    NotJson,
    /// A member is absent or of the wrong form.
    #[error("the registration token's member {0:?} is missing or malformed")]
    Member(&'static str),
    /// A version that azsreg does not know.
    #[error("the registration token is of version {0}; azsreg knows 1.0, 3.0, 4.0 and 6.0")]
    Version(String),
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

    /// Decodes the token.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn decode(&self) -> Result<TokenContents, TokenError> {
        let text = self.expose();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        let bytes = BASE64_STANDARD.decode(text).map_err(|error| {
            TokenError::NotBase64(match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at + 1,
                _ => text.len(),
            })
        })?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| TokenError::NotJson)?;
        let object = value.as_object().ok_or(TokenError::NotJson)?;
        let member = |name: &str| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let text = |name: &'static str| member(name).and_then(|v| v.as_str()).ok_or(TokenError::Member(name));
        let version = text("version")?;
        version.parse::<TokenVersion>().map_err(|_| TokenError::Version(version.to_owned()))?;
        let object_id = match member("objectId").and_then(|v| v.as_str()) {
            None | Some("") => None,
            Some(id) => Some(id.parse().map_err(|_| TokenError::Member("objectId"))?),
        };
        Ok(TokenContents {
            cloud_id: text("cloudId")?.parse().map_err(|_| TokenError::Member("cloudId"))?,
            object_id,
            billing_model: text("billingModel")?.parse().map_err(|_| TokenError::Member("billingModel"))?,
            marketplace: member("marketplaceSyndicationEnabled").and_then(serde_json::Value::as_bool),
            usage_reporting: member("usageReportingEnabled").and_then(serde_json::Value::as_bool),
            agreement_number: member("agreementNumber").and_then(|v| v.as_str()).map(str::to_owned),
            version: version.to_owned(),
            hosts: member("hardwareInfo").and_then(|v| v.as_array()).map_or(0, Vec::len),
        })
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
        assert_eq!(contents.billing_model, BillingModel::Development);
        assert_eq!((contents.hosts, contents.usage_reporting, contents.version.as_str()), (1, None, "1.0"));
    }

    #[test]
    fn each_defect_has_its_name() {
        let decode = |token: RegistrationToken| token.decode().unwrap_err();
        assert_eq!(decode(RegistrationToken::new(" ")), TokenError::Empty);
        assert_eq!(decode(RegistrationToken::new("ab*d")), TokenError::NotBase64(3));
        assert_eq!(decode(encode("nonsense")), TokenError::NotJson);
        assert_eq!(decode(encode("[1]")), TokenError::NotJson);
        assert_eq!(decode(encode("{}")), TokenError::Member("version"));
        assert_eq!(decode(encode(r#"{"version":"5.0"}"#)), TokenError::Version("5.0".into()));
        assert_eq!(decode(encode(r#"{"version":"4.0","cloudId":"x"}"#)), TokenError::Member("cloudId"));
    }

    #[test]
    fn a_token_never_shows_itself() {
        assert_eq!(format!("{:?}", RegistrationToken::new("abc")).matches("abc").count(), 0);
    }
}
